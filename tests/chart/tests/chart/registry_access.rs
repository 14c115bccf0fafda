//! Who may do what to the registry: as the chart says it, and as the registry takes what the chart says.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cache_registry_chart::{Release, render, tool};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::matrix::NO_PULL_SECRETS;

const SECRET: &str = "cache-registry-registry-credentials";
const OPEN: &str = "registry: { authentication: { enabled: false } }";

fn volume<'a>(release: &'a Release, role: &str, name: &str) -> &'a Value {
    let volumes = release.pod(role).spec["volumes"].as_array().unwrap();
    volumes.iter().find(|volume| volume["name"] == name).unwrap_or_else(|| panic!("{role} has no volume {name}"))
}

fn path_of_mount<'a>(container: &'a Value, volume: &Value) -> &'a str {
    let mounts = container["volumeMounts"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["name"] == volume["name"]).unwrap();
    assert_eq!(mount["readOnly"], true);
    mount["mountPath"].as_str().unwrap()
}

fn configuration<'a>(release: &'a Release, file: &str) -> &'a str {
    release.object("ConfigMap", "cache-registry-registry")["data"][file].as_str().unwrap()
}

#[test]
fn the_controllers_fill_in_a_secret_that_goes_with_the_release() {
    let release = render("").unwrap();
    assert_eq!(release.pod("controllers").argument("--registry-credentials-secret"), Some(SECRET));
    // What is not in the chart is left as it is by an upgrade, and is no drift for who compares.
    let secret = release.object("Secret", SECRET);
    assert!(secret.get("data").is_none() && secret.get("stringData").is_none());
}

#[test]
fn each_listener_knows_one_role_and_does_not_start_without() {
    let release = render("").unwrap();
    let containers = release.pod("registry").containers();
    for (container, key) in containers.iter().zip(["htpasswd.controllers", "htpasswd.proxy"]) {
        let name = format!("{}-credentials", container["name"].as_str().unwrap());
        let volume = volume(&release, "registry", &name);
        let secret = &volume["secret"];
        assert_eq!((&secret["secretName"], &secret["optional"]), (&json!(SECRET), &Value::Null));
        assert_eq!(secret["items"], json!([{ "key": key, "path": "htpasswd" }]));
        let file = container["args"][1].as_str().unwrap().rsplit('/').next().unwrap();
        let path = format!("{}/htpasswd", path_of_mount(container, volume));
        assert!(configuration(&release, file).contains(&format!("path: {path}\n")), "{file}: {path}");
    }
}

#[test]
fn a_proxy_has_its_own_line_and_starts_without() {
    let release = render("").unwrap();
    let (proxy, volume) = (release.pod("proxy"), volume(&release, "proxy", "credentials"));
    let secret = &volume["secret"];
    assert_eq!((&secret["secretName"], &secret["optional"]), (&json!(SECRET), &json!(true)));
    assert_eq!(secret["items"], json!([{ "key": "proxy", "path": "proxy" }]));
    let path = format!("{}/proxy", path_of_mount(proxy.container(), volume));
    assert_eq!(proxy.argument("--cache-credentials"), Some(path.as_str()));
    assert!(proxy.argument("--cache").unwrap().ends_with(":5001"));
    assert!(release.pod("controllers").argument("--registry").unwrap().ends_with(":5000"));
}

/// Where they show the password that they have for the registry.
#[test]
fn proxies_ask_the_controllers_for_tokens_where_both_can() {
    let release = render("").unwrap();
    let at = release.pod("controllers").argument("--pull-tokens-listen").unwrap().to_owned();
    let asked = release.pod("proxy").argument("--pull-tokens").unwrap().to_owned();
    let (_, port) = at.rsplit_once(':').unwrap();
    assert_eq!(asked, format!("http://$(CACHE_REGISTRY_CONTROLLERS_SERVICE_HOST):{port}"));
    let service = &release.object("Service", "cache-registry-controllers")["spec"];
    assert_eq!(service["ports"], json!([{ "name": "pull-tokens", "port": 8082, "targetPort": "pull-tokens" }]));
    let ports = &release.pod("controllers").container()["ports"];
    assert!(ports.as_array().unwrap().contains(&json!({ "name": "pull-tokens", "containerPort": 8082 })));
    assert_eq!(port, "8082");
    for values in [OPEN, NO_PULL_SECRETS] {
        let release = render(values).unwrap();
        assert_eq!(release.pod("controllers").argument("--pull-tokens-listen"), None);
        assert_eq!(release.pod("proxy").argument("--pull-tokens"), None);
        assert!(release.of_kind("Service").all(|service| service["metadata"]["name"] != "cache-registry-controllers"));
    }
}

#[test]
fn without_authentication_there_are_no_credentials_and_two_listeners_all_the_same() {
    let release = render(OPEN).unwrap();
    let words = release.objects().iter().map(Value::to_string).collect::<String>();
    for word in [SECRET, "htpasswd", "credentials-secret", "cache-credentials"] {
        assert!(!words.contains(word), "{word}");
    }
    assert_eq!(release.pod("registry").containers().len(), 2);
    assert!(release.pod("proxy").argument("--cache").unwrap().ends_with(":5001"));
}

/// `robot` and `policies`, as `htpasswd -B` writes them, and what they bring along.
const CONTROLLERS: (&str, &str) =
    ("robot:$2a$04$HpTVs7jagDAWG2wbAUiSoe83wp8NMsxdmyO2PPe8J2RRwZ.u3Oo0G\n", "Basic cm9ib3Q6aW4gdGhlIHJlZ2lzdHJ5");
const PROXY: (&str, &str) =
    ("policies:$2b$05$abcdefghijklmnopqrstuulzd.YqjLDl8lvpSmVj3De/fioSBHnUa\n", "Basic cG9saWNpZXM6aHVzaA==");

/// One of the registry's containers, as a process.
struct Listener {
    process: Child,
    address: SocketAddr,
}

impl Listener {
    /// With the chart's configuration, but for its paths and its port.
    fn start(folder: &Path, configuration: &str, htpasswd: &str) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let port = configuration.split_once("addr: :").unwrap().1.lines().next().unwrap();
        let known = folder.join(format!("htpasswd-{port}"));
        std::fs::write(&known, htpasswd).unwrap();
        let configuration = configuration
            .replace("/var/lib/registry", &folder.join("images").display().to_string())
            .replace("/etc/cache-registry-credentials/htpasswd", &known.display().to_string())
            .replace(&format!("addr: :{port}"), &format!("addr: {address}"));
        let file = folder.join(format!("{port}.yml"));
        std::fs::write(&file, configuration).unwrap();
        let process = Command::new(tool("registry"))
            .arg("serve")
            .arg(file)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(began.elapsed() < Duration::from_secs(30), "the registry does not listen on {address}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { process, address }
    }

    /// The status of an answer, and its `Location` without the host.
    fn asked(&self, method: &str, target: &str, authorization: Option<&str>, body: &str) -> (u16, String) {
        let mut connection = TcpStream::connect(self.address).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let authorization = authorization.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n{authorization}\
             Content-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let location = answer.lines().find_map(|line| line.strip_prefix("Location: http://registry"));
        (status, location.unwrap_or_default().to_owned())
    }

    fn status(&self, method: &str, target: &str, authorization: Option<&str>) -> u16 {
        self.asked(method, target, authorization, "").0
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The registry's two listeners as the chart has them: the one that is written to, and the one that is read.
fn registry(values: &str) -> (Listener, Listener, TempDir) {
    let (folder, release) = (tempfile::tempdir().unwrap(), render(values).unwrap());
    let start = |file, htpasswd| Listener::start(folder.path(), configuration(&release, file), htpasswd);
    (start("config.yml", CONTROLLERS.0), start("reader.yml", PROXY.0), folder)
}

/// `printf layer | sha256sum`
const LAYER: &str = "sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85";
const BLOB: &str =
    "/v2/docker.io/library/app/blobs/sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85";
const UPLOADS: &str = "/v2/docker.io/library/app/blobs/uploads/";

fn push_layer(writer: &Listener, authorization: Option<&str>) {
    let (status, location) = writer.asked("POST", UPLOADS, authorization, "");
    assert_eq!(status, 202);
    let (status, _) = writer.asked("PUT", &format!("{location}&digest={LAYER}"), authorization, "layer");
    assert_eq!(status, 201);
}

#[test]
fn the_registry_is_written_by_the_controllers_read_by_the_proxies_and_closed_to_everybody_else() {
    let (writer, reader, _folder) = registry("");
    let (controllers, proxy) = (Some(CONTROLLERS.1), Some(PROXY.1));

    // Probes bring nothing along.
    assert_eq!((writer.status("GET", "/", None), reader.status("GET", "/", None)), (200, 200));

    push_layer(&writer, controllers);
    assert_eq!(writer.status("GET", BLOB, controllers), 200);
    assert_eq!(reader.status("GET", BLOB, proxy), 200);

    // Nobody, and the other role, at either.
    for (listener, wrong) in [(&writer, proxy), (&reader, controllers)] {
        for who in [None, wrong, Some("Basic bm86b25l")] {
            for (method, target) in [
                ("GET", "/v2/"),
                ("GET", BLOB),
                ("HEAD", BLOB),
                ("POST", UPLOADS),
                ("DELETE", BLOB),
                ("GET", "/v2/_catalog"),
            ] {
                assert_eq!(listener.status(method, target, who), 401, "{method} {target} {who:?}");
            }
        }
    }

    // Whoever may read may do no more.
    let manifest = "/v2/docker.io/library/app/manifests/1";
    for (method, target) in [("POST", UPLOADS), ("DELETE", BLOB), ("PUT", manifest), ("DELETE", manifest)] {
        assert_eq!(reader.status(method, target, proxy), 405, "{method} {target}");
    }
    assert_eq!(reader.status("GET", BLOB, proxy), 200);
    assert_eq!(writer.status("DELETE", BLOB, controllers), 202);
    assert_eq!(reader.status("GET", BLOB, proxy), 404);
}

#[test]
fn without_authentication_the_reader_takes_no_writes_either() {
    let (writer, reader, _folder) = registry(OPEN);
    push_layer(&writer, None);
    assert_eq!((reader.status("GET", BLOB, None), reader.status("POST", UPLOADS, None)), (200, 405));
}
