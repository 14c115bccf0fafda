use cache_registry_chart::{Release, render};
use serde_json::{Value, json};

use crate::matrix::{COLLECTING, NO_PULL_SECRETS, S3};

fn policies(release: &Release) -> Vec<&str> {
    release.of_kind("NetworkPolicy").map(|policy| policy["metadata"]["name"].as_str().unwrap()).collect()
}

fn ingress<'a>(release: &'a Release, role: &str) -> &'a Value {
    &release.object("NetworkPolicy", &format!("cache-registry-{role}"))["spec"]["ingress"]
}

fn role(name: &str) -> Value {
    json!({ "podSelector": { "matchLabels": {
        "app.kubernetes.io/component": name,
        "app.kubernetes.io/instance": "cache-registry",
        "app.kubernetes.io/name": "cache-registry",
    }}})
}

#[test]
fn each_role_has_a_policy_unless_it_is_in_the_hosts_network() {
    let release = render("").unwrap();
    assert_eq!(policies(&release), ["cache-registry-webhook", "cache-registry-controllers", "cache-registry-registry"]);
    let release = render("proxy: { hostNetwork: false }").unwrap();
    assert!(policies(&release).contains(&"cache-registry-proxy"));
    assert_eq!(policies(&render("networkPolicy: { enabled: false }").unwrap()), Vec::<&str>::new());
}

#[test]
fn nobody_connects_to_a_garbage_collection_and_what_removes_connects_nowhere() {
    let release = render(COLLECTING).unwrap();
    for (role, types) in [("gc", json!(["Ingress"])), ("collection", json!(["Ingress", "Egress"]))] {
        let spec = &release.object("NetworkPolicy", &format!("cache-registry-{role}"))["spec"];
        assert_eq!((&spec["policyTypes"], &spec["ingress"], &spec["egress"]), (&types, &Value::Null, &Value::Null));
    }
}

#[test]
fn the_registry_connects_nowhere() {
    let release = render("").unwrap();
    let spec = &release.object("NetworkPolicy", "cache-registry-registry")["spec"];
    assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
    assert!(spec.get("egress").is_none());
}

#[test]
fn with_a_bucket_it_connects_anywhere_or_where_it_is_told_to() {
    let egress = |values: &str| {
        let release = render(values).unwrap();
        ["registry", "collection"].map(|role| {
            let spec = &release.object("NetworkPolicy", &format!("cache-registry-{role}"))["spec"];
            (spec["policyTypes"].clone(), spec["egress"].clone())
        })
    };
    assert_eq!(egress(S3), [(); 2].map(|()| (json!(["Ingress"]), Value::Null)));
    let told = format!("{S3}\nnetworkPolicy: {{ bucketEgress: [{{ to: [{{ ipBlock: {{ cidr: 10.1.0.0/16 }} }}] }}] }}");
    let names = json!({ "ports": [{ "port": 53, "protocol": "UDP" }, { "port": 53, "protocol": "TCP" }] });
    let rules = json!([names, { "to": [{ "ipBlock": { "cidr": "10.1.0.0/16" } }] }]);
    assert_eq!(egress(&told), [(); 2].map(|()| (json!(["Ingress", "Egress"]), rules.clone())));
}

#[test]
fn the_registry_is_written_by_controllers_and_read_by_proxies() {
    let release = render("proxy: { hostNetwork: false }").unwrap();
    let expected = json!([
        { "ports": [{ "port": "http" }], "from": [role("controllers")] },
        { "ports": [{ "port": "read" }], "from": [role("proxy")] },
    ]);
    assert_eq!(ingress(&release, "registry"), &expected);
}

#[test]
fn in_the_hosts_network_proxies_are_the_nodes() {
    let release = render("networkPolicy: { nodes: [10.0.0.0/16, 'fd00::/64'] }").unwrap();
    let from = json!([{ "ipBlock": { "cidr": "10.0.0.0/16" } }, { "ipBlock": { "cidr": "fd00::/64" } }]);
    assert_eq!(ingress(&release, "registry")[1]["from"], from);
    // No policy can select them, and nobody has said which addresses they have.
    let release = render("").unwrap();
    assert!(ingress(&release, "registry")[1].get("from").is_none());
    assert_eq!(ingress(&release, "registry")[0]["from"], json!([role("controllers")]));
}

#[test]
fn the_controllers_are_asked_for_tokens_by_proxies() {
    let tokens = json!([{ "port": "pull-tokens" }]);
    let rule = |values: &str| {
        let release = render(values).unwrap();
        let rules = ingress(&release, "controllers").as_array().unwrap().clone();
        rules.into_iter().find(|rule| rule["ports"] == tokens)
    };
    assert_eq!(rule("proxy: { hostNetwork: false }").unwrap()["from"], json!([role("proxy")]));
    let nodes = rule("networkPolicy: { nodes: [10.0.0.0/16] }").unwrap();
    assert_eq!(nodes["from"], json!([{ "ipBlock": { "cidr": "10.0.0.0/16" } }]));
    assert!(rule("").unwrap().get("from").is_none());
    assert_eq!(rule(NO_PULL_SECRETS), None);
}

#[test]
fn metrics_may_be_kept_for_some() {
    let values = "
networkPolicy: { metricsFrom: [{ podSelector: { matchLabels: { app: prometheus } } }] }
proxy: { hostNetwork: false }
registry: { metrics: { enabled: true } }
";
    let from = json!([{ "podSelector": { "matchLabels": { "app": "prometheus" } } }]);
    let release = render(values).unwrap();
    for (role, port) in METRICS {
        let rules = ingress(&release, role).as_array().unwrap();
        let metrics: Vec<_> = rules.iter().filter(|rule| rule["ports"] == json!([{ "port": port }])).collect();
        assert_eq!(metrics, [&json!({ "ports": [{ "port": port }], "from": from })], "{role}");
    }
}

#[test]
fn metrics_are_for_the_whole_cluster_unless_it_is_said_for_whom_and_for_nobody_where_there_are_none() {
    let release = render("proxy: { hostNetwork: false }\nregistry: { metrics: { enabled: true } }").unwrap();
    for (role, port) in METRICS {
        let anybody = json!({ "ports": [{ "port": port }], "from": [{ "namespaceSelector": {} }] });
        assert!(ingress(&release, role).as_array().unwrap().contains(&anybody), "{role}");
    }
    let release = render("").unwrap();
    assert!(!ingress(&release, "registry").to_string().contains("debug"));
}

/// The ports of metrics by role.
const METRICS: [(&str, &str); 4] =
    [("webhook", "admin"), ("controllers", "admin"), ("proxy", "admin"), ("registry", "debug")];
