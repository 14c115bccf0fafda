use cache_registry_guests::{Answer, filter_answering};
use rstest::rstest;
use serde_json::{Value, json};

use crate::Desk;
use crate::check::custom_section;

#[tokio::test]
async fn a_policy_becomes_yaml_for_kubectl() {
    let desk = Desk::with_settable_policy();
    desk.write("settings.yaml", "# ours\na:\n  - b\n");
    let line = "configmap @mine.wasm --name ours -n cache --priority -5 --on-error pass --settings @settings.yaml";
    let yaml = desk.policy(line).await.well();
    let component = yaml.lines().find(|line| line.contains("policy.wasm: ")).unwrap();
    insta::assert_snapshot!(yaml.replace(component, "  policy.wasm: …"), @r##"
    apiVersion: v1
    kind: ConfigMap
    metadata:
      name: "ours"
      namespace: "cache"
      labels:
        cache-registry.enix.io/policy: "true"
    data:
      priority: "-5"
      onError: pass
      settings: |
        # ours
        a:
          - b
    binaryData:
      policy.wasm: …
    "##);
}

#[tokio::test]
async fn only_the_name_is_needed() {
    let yaml = Desk::with_settable_policy().policy("configmap @mine.wasm --name ours").await.well();
    let configmap: Value = serde_saphyr::from_str(&yaml).unwrap();
    let labels = json!({"cache-registry.enix.io/policy": "true"});
    assert_eq!(configmap["metadata"], json!({"name": "ours", "labels": labels}));
    assert_eq!(configmap.get("data"), None);
}

#[rstest]
#[case::no_component("configmap @settings.yaml --name x", 1, "is not WebAssembly")]
#[case::refused_settings("configmap @mine.wasm --name x --settings @wrong.yaml", 1, "refuses its settings")]
#[case::bad_name("configmap @mine.wasm --name X", 2, "cannot name a ConfigMap")]
#[case::built_in("configmap @mine.wasm --name default-filter", 2, "built in")]
#[case::no_name("configmap @mine.wasm", 2, "--name")]
#[case::priority("configmap @mine.wasm --name x --priority 2000000", 2, "2000000 is no priority")]
#[case::no_file("configmap @nowhere.wasm --name x", 2, "cannot read nowhere.wasm")]
#[case::too_large("configmap @large.wasm --name x", 1, "cache-registry policy push")]
#[tokio::test]
async fn what_the_host_would_refuse_is_not_written(#[case] line: &str, #[case] status: u8, #[case] expected: &str) {
    let desk = Desk::with_settable_policy();
    desk.write("settings.yaml", "a: b\n");
    desk.write("wrong.yaml", "[not a map]\n");
    desk.write("large.wasm", [filter_answering(&Answer::Pass), custom_section(1_500_000)].concat());
    let said = desk.policy(line).await.with(status);
    assert!(said.contains(expected), "{expected:?} is not in {said:?}");
}
