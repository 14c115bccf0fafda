//! The `PodMonitor`, the alerts and the dashboard. What Prometheus makes of them is tested by `tests/e2e`.

use std::fs;

use cache_registry_chart::{Pod, Release, at, folder, render, workspace};
use rstest::rstest;
use serde_json::{Value, json};

const ALL: &str = "
monitoring:
  podMonitor: { enabled: true, interval: 30s, labels: { release: prometheus } }
  rules: { enabled: true, labels: { release: prometheus } }
  dashboard: { enabled: true, labels: { folder: caches } }
registry: { metrics: { enabled: true } }
";

/// A file of the chart, YAML or JSON.
fn file(name: &str) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(folder().join("files").join(name)).unwrap()).unwrap()
}

/// The ports that a pod's containers name.
fn ports<'a>(pod: &Pod<'a>) -> Vec<&'a str> {
    let ports = pod.containers().iter().flat_map(|container| container["ports"].as_array().into_iter().flatten());
    ports.map(|port| port["name"].as_str().unwrap()).collect()
}

fn endpoints(release: &Release) -> &[Value] {
    at(release.object("PodMonitor", "cache-registry"), "spec.podMetricsEndpoints").as_array().unwrap()
}

#[test]
fn there_is_none_of_it_unless_it_is_asked_for() {
    let release = render("").unwrap();
    for kind in ["PodMonitor", "PrometheusRule"] {
        assert_eq!(release.of_kind(kind).count(), 0, "{kind}");
    }
    let dashboards = release.of_kind("ConfigMap").filter(|map| map["data"].get("cache-registry.json").is_some());
    assert_eq!(dashboards.count(), 0);
    assert_eq!(ports(&release.pod("registry")), ["http", "read"]);
    let configurations = &release.object("ConfigMap", "cache-registry-registry")["data"];
    assert!(!configurations.to_string().contains("debug"), "{configurations}");
}

#[rstest]
#[case::without_the_registrys("monitoring: { podMonitor: { enabled: true } }", &["webhook", "controllers", "proxy"])]
#[case::with_the_registrys(ALL, &["webhook", "controllers", "proxy", "registry"])]
#[case::with_a_network_of_the_proxies(HOST_PORT, &["webhook", "controllers", "proxy"])]
fn every_role_is_monitored_once(#[case] values: &str, #[case] roles: &[&str]) {
    let release = render(values).unwrap();
    let selector = at(release.object("PodMonitor", "cache-registry"), "spec.selector.matchLabels").as_object().unwrap();
    let monitored: Vec<_> = endpoints(&release).iter().map(|endpoint| endpoint["port"].as_str()).collect();
    for pod in release.pods() {
        let selected = selector.iter().all(|(key, value)| pod.metadata["labels"][key] == *value);
        let named = ports(&pod).iter().filter(|port| monitored.contains(&Some(port))).count();
        // The one endpoint without a port is for the proxies in the host network, which name none.
        let unnamed = usize::from(pod.role == "proxy" && ports(&pod).is_empty() && monitored.contains(&None));
        assert_eq!(named + unnamed, usize::from(roles.contains(&pod.role)), "{}: {monitored:?}", pod.role);
        assert!(selected || !roles.contains(&pod.role), "{} is not selected", pod.role);
    }
}

const HOST_PORT: &str = "
proxy: { hostNetwork: false }
monitoring: { podMonitor: { enabled: true } }
";

/// What Prometheus makes of it is seen in `tests/e2e`; of IPv6, nothing is.
#[test]
fn proxies_without_a_port_are_found_by_their_role_at_their_admin_port() {
    let release = render("monitoring: { podMonitor: { enabled: true } }\nproxy: { adminPort: 7500 }").unwrap();
    let [.., endpoint] = endpoints(&release) else { unreachable!("no endpoint") };
    assert!(endpoint.get("port").is_none());
    let address = |regex, replacement| {
        json!({
            "sourceLabels": ["__meta_kubernetes_pod_ip"],
            "regex": regex,
            "targetLabel": "__address__",
            "replacement": replacement,
        })
    };
    let container = ["__meta_kubernetes_pod_label_app_kubernetes_io_component", "__meta_kubernetes_pod_container_name"];
    let expected = [
        json!({ "action": "keep", "sourceLabels": container, "regex": "proxy;proxy" }),
        address("([^:]+)", "$1:7500"),
        address("(.+:.+)", "[$1]:7500"),
    ];
    assert!(endpoint["relabelings"].as_array().unwrap().ends_with(&expected), "{endpoint}");
    assert_eq!(release.pod("proxy").container()["name"], "proxy");
}

/// Those that the rules, the dashboard and the tests of both go by.
#[test]
fn series_get_the_labels_that_alerts_go_by() {
    let release = render(ALL).unwrap();
    for endpoint in endpoints(&release) {
        let labels = [
            json!({ "targetLabel": "job", "replacement": "cache-registry" }),
            json!({ "sourceLabels": ["__meta_kubernetes_pod_label_app_kubernetes_io_component"], "targetLabel": "role" }),
            json!({ "sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node" }),
        ];
        assert!(endpoint["relabelings"].as_array().unwrap().starts_with(&labels), "{endpoint}");
        assert_eq!(endpoint["interval"], "30s");
    }
}

/// Pulls go through it.
#[test]
fn the_registrys_metrics_are_of_the_container_that_is_read() {
    let release = render(ALL).unwrap();
    let [writer, reader] = release.pod("registry").containers() else { unreachable!("two containers") };
    let debug = json!({ "name": "debug", "containerPort": 5003 });
    assert!(
        reader["ports"].as_array().unwrap().contains(&debug) && !writer["ports"].as_array().unwrap().contains(&debug)
    );
    let configuration = |file: &str| -> Value {
        let text = release.object("ConfigMap", "cache-registry-registry")["data"][file].as_str().unwrap();
        serde_saphyr::from_str(text).unwrap()
    };
    let shown = json!({ "addr": ":5003", "prometheus": { "enabled": true } });
    assert_eq!(at(&configuration("reader.yml"), "http.debug"), &shown);
    assert_eq!(at(&configuration("config.yml"), "http.debug"), &Value::Null);
}

#[test]
fn the_alerts_and_the_dashboard_are_the_files_with_all_their_braces() {
    let release = render(ALL).unwrap();
    let rules = release.object("PrometheusRule", "cache-registry");
    assert_eq!(rules["spec"], file("rules.yaml"));
    assert!(rules.to_string().contains("{{ $labels.reason }}"));
    assert_eq!(rules["metadata"]["labels"]["release"], "prometheus");
    let map = release.object("ConfigMap", "cache-registry-dashboard");
    let dashboard: Value = serde_json::from_str(map["data"]["cache-registry.json"].as_str().unwrap()).unwrap();
    assert_eq!(dashboard, file("dashboard.json"));
    let labels = &map["metadata"]["labels"];
    assert_eq!((&labels["grafana_dashboard"], &labels["folder"]), (&json!("1"), &json!("caches")));
}

#[test]
fn every_alert_says_what_to_do() {
    let document = fs::read_to_string(workspace().join("docs/operating.md")).unwrap();
    let (_, section) = document.split_once("\n## Alerts\n").expect("no section about alerts");
    let section = section.split("\n## ").next().unwrap();
    let rules = file("rules.yaml");
    let alerts = rules["groups"][0]["rules"].as_array().unwrap();
    let mut names: Vec<&str> = Vec::new();
    for alert in alerts {
        let name = alert["alert"].as_str().unwrap();
        let runbook = format!("/docs/operating.md#{}", name.to_lowercase());
        let annotations = &alert["annotations"];
        assert!(annotations["runbook_url"].as_str().unwrap().ends_with(&runbook), "{name}");
        assert!(annotations["summary"].is_string() && annotations["description"].is_string(), "{name}");
        assert!(["warning", "critical"].contains(&alert["labels"]["severity"].as_str().unwrap()), "{name}");
        assert!(alert["for"].is_string(), "{name} fires at once");
        names.push(name);
    }
    let told: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert_eq!(told, names, "the headings of docs/operating.md and the alerts of rules.yaml");
}

#[test]
fn the_panels_of_the_dashboard_are_beside_each_other() {
    let dashboard = file("dashboard.json");
    let panels = dashboard["panels"].as_array().unwrap();
    let number = |panel: &Value, key: &str| panel["gridPos"][key].as_u64().unwrap();
    for (place, panel) in panels.iter().enumerate() {
        assert!(panel["title"].as_str().is_some_and(|title| !title.is_empty()), "{panel}");
        assert!(number(panel, "x") + number(panel, "w") <= 24, "{}", panel["title"]);
        for other in &panels[..place] {
            assert_ne!(panel["id"], other["id"]);
            let apart = |at: &str, size: &str| {
                number(panel, at) >= number(other, at) + number(other, size)
                    || number(other, at) >= number(panel, at) + number(panel, size)
            };
            assert!(apart("x", "w") || apart("y", "h"), "{} is over {}", panel["title"], other["title"]);
        }
    }
}
