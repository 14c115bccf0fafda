//! Who sends traces, and where. That a collector gets them is tested by `tests/e2e`.

use cache_registry_chart::{Pod, render};
use rstest::rstest;

use crate::matrix::{COLLECTING, TRACES};

const SENDERS: [&str; 4] = ["webhook", "controllers", "proxy", "gc"];

/// The value of a variable of the one container of a pod.
fn variable<'a>(pod: &Pod<'a>, name: &str) -> Option<&'a str> {
    let mut variables = pod.container()["env"].as_array().into_iter().flatten();
    variables.find(|variable| variable["name"] == name).and_then(|variable| variable["value"].as_str())
}

#[test]
fn nobody_sends_any_unless_a_collector_is_named() {
    let release = render(COLLECTING).unwrap();
    for role in SENDERS {
        let text = release.pod(role).container().to_string();
        assert!(!text.contains("OTEL_") && !text.contains("otlp"), "{role}: {text}");
    }
}

/// As an upgrade with `--reuse-values` has them, from a chart that knew nothing of traces.
#[test]
fn values_from_before_send_none() {
    let release = render(&format!("{COLLECTING}\ntelemetry: null")).unwrap();
    assert_eq!(variable(&release.pod("webhook"), "OTEL_EXPORTER_OTLP_ENDPOINT"), None);
}

#[test]
fn every_role_sends_them_there_and_says_which_pod_it_is() {
    let release = render(TRACES).unwrap();
    for role in SENDERS {
        let pod = release.pod(role);
        assert_eq!(variable(&pod, "OTEL_EXPORTER_OTLP_ENDPOINT"), Some("http://$(HOST_IP):4318"), "{role}");
        let ratio = ["webhook", "proxy"].contains(&role).then_some("0.5");
        assert_eq!(variable(&pod, "OTEL_TRACES_SAMPLER_ARG"), ratio, "{role}: of what is rare, all is sent");
        let resource = variable(&pod, "OTEL_RESOURCE_ATTRIBUTES").unwrap();
        // A variable stands for something in those that come after it.
        let names: Vec<_> = pod.container()["env"].as_array().unwrap().iter().map(|v| v["name"].as_str()).collect();
        let at = |name: &str| names.iter().position(|known| *known == Some(name));
        for used in resource.split("$(").skip(1).filter_map(|rest| rest.split_once(')')).map(|(name, _)| name) {
            assert!(at(used).unwrap() < at("OTEL_RESOURCE_ATTRIBUTES").unwrap(), "{role}: {used}");
        }
        assert!(at("HOST_IP").unwrap() < at("OTEL_EXPORTER_OTLP_ENDPOINT").unwrap(), "{role}");
    }
}

#[test]
fn no_policy_keeps_them_from_their_collector() {
    let release = render(TRACES).unwrap();
    for role in ["webhook", "controllers", "gc"] {
        let policy = release.object("NetworkPolicy", &format!("cache-registry-{role}"));
        assert!(!policy["spec"]["policyTypes"].as_array().unwrap().contains(&"Egress".into()), "{role}");
    }
}

#[rstest]
#[case("endpoint: collector:4318", "telemetry.otlp.endpoint")]
#[case("endpoint: 'http://me:secret@collector:4318'", "without credentials")]
#[case("endpoint: 'grpc://collector:4317'", "a URL with http or https")]
#[case("samplingRatio: 2", "samplingRatio")]
#[case("ratio: 1", "ratio")]
fn what_the_roles_would_refuse_is_refused(#[case] otlp: &str, #[case] words: &str) {
    let refusal = render(&format!("telemetry: {{ otlp: {{ {otlp} }} }}")).unwrap_err();
    assert!(refusal.contains(words), "{refusal}");
}
