//! The PodMonitor, the alerts and the dashboard. What Prometheus makes of them is tested by `tests/e2e`.

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

fn ports<'a>(pod: &Pod<'a>) -> Vec<&'a str> {
    let ports = pod.container()["ports"].as_array().unwrap();
    ports.iter().map(|port| port["name"].as_str().unwrap()).collect()
}

fn monitored(release: &Release) -> Vec<&str> {
    let monitor = release.object("PodMonitor", "cache-registry");
    let endpoints = at(monitor, "spec.podMetricsEndpoints").as_array().unwrap();
    endpoints.iter().map(|endpoint| endpoint["port"].as_str().unwrap()).collect()
}

#[test]
fn there_is_none_of_it_unless_it_is_asked_for() {
    let release = render("").unwrap();
    for kind in ["PodMonitor", "PrometheusRule"] {
        assert_eq!(release.of_kind(kind).count(), 0, "{kind}");
    }
    let dashboards = release.of_kind("ConfigMap").filter(|map| map["data"].get("cache-registry.json").is_some());
    assert_eq!(dashboards.count(), 0);
    assert_eq!(ports(&release.pod("registry")), ["http"]);
}

#[rstest]
#[case::without_the_registrys("monitoring: { podMonitor: { enabled: true } }", &["admin"], &["webhook", "controllers", "proxy"])]
#[case::with_the_registrys(ALL, &["admin", "debug"], &["webhook", "controllers", "proxy", "registry"])]
fn every_role_is_monitored_by_a_port_that_it_has(
    #[case] values: &str,
    #[case] expected: &[&str],
    #[case] roles: &[&str],
) {
    let release = render(values).unwrap();
    assert_eq!(monitored(&release), expected);
    let selector = at(release.object("PodMonitor", "cache-registry"), "spec.selector.matchLabels").as_object().unwrap();
    for role in roles {
        let pod = release.pod(role);
        assert!(selector.iter().all(|(key, value)| pod.metadata["labels"][key] == *value), "{role} is not selected");
        assert_eq!(ports(&pod).iter().filter(|port| expected.contains(port)).count(), 1, "{role}");
    }
}

/// Those that the rules, the dashboard and the tests of both go by.
#[test]
fn series_get_the_labels_that_alerts_go_by() {
    let release = render(ALL).unwrap();
    let monitor = release.object("PodMonitor", "cache-registry");
    for endpoint in at(monitor, "spec.podMetricsEndpoints").as_array().unwrap() {
        let labels = [
            json!({ "targetLabel": "job", "replacement": "cache-registry" }),
            json!({ "sourceLabels": ["__meta_kubernetes_pod_label_app_kubernetes_io_component"], "targetLabel": "role" }),
            json!({ "sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node" }),
        ];
        assert_eq!(endpoint["relabelings"], json!(labels));
        assert_eq!(endpoint["interval"], "30s");
    }
}

#[test]
fn who_may_read_metrics_may_read_the_registrys() {
    let values = format!("{ALL}networkPolicy: {{ metricsFrom: [{{ podSelector: {{ matchLabels: {{ a: b }} }} }}] }}");
    let release = render(&values).unwrap();
    let policy = release.object("NetworkPolicy", "cache-registry-registry");
    let rules = at(policy, "spec.ingress").as_array().unwrap();
    let debug = json!({ "ports": [{ "port": "debug" }], "from": [{ "podSelector": { "matchLabels": { "a": "b" } } }] });
    assert!(rules.contains(&debug), "{rules:?}");
    let text = release.object("ConfigMap", "cache-registry-registry")["data"]["config.yml"].as_str().unwrap();
    let configuration: Value = serde_saphyr::from_str(text).unwrap();
    assert_eq!(at(&configuration, "http.debug"), &json!({ "addr": ":5001", "prometheus": { "enabled": true } }));
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
