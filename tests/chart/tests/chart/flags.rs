//! The chart's arguments are those of the binary: no flag is spelled wrong, and no value is one that it refuses.

use std::collections::BTreeSet;
use std::env;
use std::path::PathBuf;
use std::process::Command;

use cache_registry_chart::{Pod, RELEASE, Release, render};
use serde_json::Value;

use crate::matrix::{COLLECTING, KEEPING_UNTAGGED, MATRIX};

/// `CACHE_REGISTRY_BIN`, or what was built beside this program.
fn binary() -> PathBuf {
    let built = || env::current_exe().unwrap().ancestors().nth(2).unwrap().join("cache-registry");
    let binary = env::var_os("CACHE_REGISTRY_BIN").map_or_else(built, PathBuf::from);
    assert!(binary.is_file(), "{} is not there: run `cargo build -p cache-registry` first", binary.display());
    binary
}

/// What the binary says to arguments when it is asked for help after them: its help, where it understands them.
fn help_after(arguments: &[String]) -> Result<String, String> {
    let output = Command::new(binary()).args(arguments).arg("--help").env_clear().output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// The pods that run our binary as a role.
fn roles(release: &Release) -> Vec<Pod<'_>> {
    let ours = |pod: &Pod<'_>| ["webhook", "controllers", "proxy", "gc"].contains(&pod.role);
    let pods: Vec<_> = release.pods().into_iter().filter(ours).collect();
    assert_eq!(pods.len(), 3 + release.of_kind("CronJob").count());
    pods
}

/// The variables that the kubelet puts into `$(…)`: those of the container, and of the namespace's Services.
fn variables(release: &Release, pod: &Pod<'_>) -> BTreeSet<String> {
    let own = pod.container()["env"].as_array().unwrap().iter().map(|variable| variable["name"].as_str().unwrap());
    let mut variables: BTreeSet<String> = own.map(ToOwned::to_owned).collect();
    if pod.spec["enableServiceLinks"] == true {
        let services = release.of_kind("Service").map(|service| service["metadata"]["name"].as_str().unwrap());
        variables.extend(services.map(|name| format!("{}_SERVICE_HOST", name.to_uppercase().replace('-', "_"))));
    }
    variables
}

/// The arguments as the kubelet passes them, which is also how the binary sees them.
fn arguments(release: &Release, pod: &Pod<'_>) -> Vec<String> {
    let variables = variables(release, pod);
    let expand = |argument: &str| {
        let mut text = argument.to_owned();
        for name in &variables {
            text = text.replace(&format!("$({name})"), if name.ends_with("_HOST") { "10.96.0.10" } else { "a-name" });
        }
        assert!(!text.contains("$("), "{}: nothing replaces the variable of {argument}", pod.role);
        text
    };
    pod.arguments().into_iter().map(expand).collect()
}

#[test]
fn the_binary_understands_every_argument() {
    for (name, values) in MATRIX {
        let release = render(values).unwrap();
        for pod in roles(&release) {
            let arguments = arguments(&release, &pod);
            assert_eq!(arguments[0], pod.role, "{name}");
            help_after(&arguments).unwrap_or_else(|words| panic!("{name}: {}: {words}", pod.role));
        }
    }
}

#[test]
fn the_binary_understands_what_the_job_of_a_garbage_collection_asks_of_it() {
    for values in [COLLECTING, KEEPING_UNTAGGED] {
        understands_the_job(&render(values).unwrap());
    }
}

fn understands_the_job(release: &Release) {
    let pod = release.pod("collection");
    let ours = release.pod("gc").container()["image"].clone();
    let mut asked = 0;
    for container in pod.init_containers().iter().chain(pod.containers()).filter(|any| any["image"] == ours) {
        let arguments = container["args"].as_array().unwrap().iter();
        let arguments: Vec<_> = arguments.map(|argument| argument.as_str().unwrap().to_owned()).collect();
        help_after(&arguments).unwrap_or_else(|words| panic!("{}: {words}", container["name"]));
        asked += 1;
    }
    assert_eq!(asked, 3);
}

#[test]
fn an_unknown_flag_and_a_bad_value_would_show() {
    for argument in ["--node-adress=localhost:1", "--admin-listen=nowhere"] {
        let arguments = ["proxy".to_owned(), argument.to_owned()];
        assert!(help_after(&arguments).is_err(), "{argument}");
    }
}

#[test]
fn variables_of_ours_are_those_of_flags() {
    for (name, values) in MATRIX {
        let release = render(values).unwrap();
        for pod in roles(&release) {
            let help = help_after(&[pod.role.to_owned()]).unwrap();
            for variable in pod.container()["env"].as_array().unwrap() {
                let variable = variable["name"].as_str().unwrap();
                let known = !variable.starts_with("CACHE_REGISTRY_") || help.contains(&format!("[env: {variable}="));
                assert!(known, "{name}: {}: no flag has the variable {variable}", pod.role);
            }
        }
    }
}

/// A Service's variables would be taken for a flag's: `CACHE_REGISTRY_REGISTRY_HOST` is one.
#[test]
fn no_variable_of_a_service_is_that_of_a_flag() {
    let release = render("").unwrap();
    for pod in roles(&release).into_iter().filter(|pod| pod.spec["enableServiceLinks"] == true) {
        let help = help_after(&[pod.role.to_owned()]).unwrap();
        for service in release.of_kind("Service") {
            let prefix = service["metadata"]["name"].as_str().unwrap().to_uppercase().replace('-', "_");
            for end in ["SERVICE_HOST", "SERVICE_PORT", "PORT"] {
                assert!(!help.contains(&format!("[env: {prefix}_{end}")), "{}: {prefix}_{end}", pod.role);
            }
        }
    }
}

/// What the chart shows as its default is what the binary has where nothing is said, as to `cache-registry policy run`.
#[test]
fn registries_of_nodes_are_the_same_by_default() {
    let argument = |values| render(values).unwrap().pod("webhook").argument("--node-registries").map(ToOwned::to_owned);
    let default = argument("").unwrap();
    assert!(default.starts_with("*.dkr.ecr.*.amazonaws.com,"), "{default}");
    let help = help_after(&["webhook".to_owned()]).unwrap();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains(&format!("[default: {}]", default.replace(',', " "))), "{default}: {help}");

    assert_eq!(argument("controllers: { webhook: { nodeRegistries: [] } }").as_deref(), Some(""));
    assert_eq!(argument("controllers: { webhook: { nodeRegistries: [gcr.io/a, '*.b'] } }").unwrap(), "gcr.io/a,*.b");
    // Values of a release from before it was one.
    assert_eq!(argument("controllers: { webhook: { nodeRegistries: } }"), None);
}

#[test]
fn roles_agree_on_the_node_address_and_the_registry() {
    let release = render("proxy: { hostPort: 5001 }").unwrap();
    for pod in roles(&release) {
        assert_eq!(pod.argument("--node-address"), Some("localhost:5001"), "{}", pod.role);
    }
    let registry = format!("{RELEASE}-registry.cache-registry-system.svc:5000");
    assert_eq!(release.pod("controllers").argument("--registry"), Some(format!("http://{registry}").as_str()));
    let own = release.pod("webhook").argument("--registry-host").unwrap();
    assert!(own.split(',').any(|host| host == registry), "{own}");
    assert!(own.split(',').any(|host| host == "cache-registry-registry.cache-registry-system:5001"), "{own}");
    assert_eq!(release.pod("proxy").argument("--listen"), Some("127.0.0.1:5001,[::1]:5001"));
}

#[test]
fn a_registries_file_is_mounted_where_its_readers_look() {
    for (secret, values) in [
        ("cache-registry-registries", "registries: { docker.io: {} }"),
        ("mine", "registriesSecret: { name: mine, key: file.yaml }"),
    ] {
        let release = render(values).unwrap();
        for role in ["webhook", "controllers", "proxy"] {
            let pod = release.pod(role);
            let path = pod.argument("--registries").unwrap();
            let named =
                |list: &Value| list.as_array().unwrap().iter().find(|item| item["name"] == "registries").cloned();
            let mount = named(&pod.container()["volumeMounts"]).unwrap();
            assert!(path.starts_with(mount["mountPath"].as_str().unwrap()), "{path}");
            assert_eq!(named(&pod.spec["volumes"]).unwrap()["secret"]["secretName"], secret, "{role}");
        }
    }
    let release = render("registries: { reg.example: { plainHttp: true } }").unwrap();
    let file = &release.object("Secret", "cache-registry-registries")["stringData"]["registries.yaml"];
    let file: Value = serde_saphyr::from_str(file.as_str().unwrap()).unwrap();
    assert_eq!(file["registries"]["reg.example"]["plainHttp"], true);
}

#[test]
fn a_changed_registries_file_starts_its_readers_anew() {
    let annotation =
        |values, role| render(values).unwrap().pod(role).metadata["annotations"]["checksum/registries"].clone();
    for role in ["webhook", "controllers", "proxy"] {
        let [one, other] =
            ["registries: { a.example: {} }", "registries: { b.example: {} }"].map(|v| annotation(v, role));
        assert!(one.is_string() && one != other, "{role}: {one} {other}");
    }
}
