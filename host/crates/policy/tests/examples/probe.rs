//! What the SDK gives a policy.

use std::sync::Arc;

use cache_registry_core::{Owner, PodFacts};
use rstest::rstest;

use crate::{cached_from, decide, engine, ignored, load, pod};

#[rstest]
#[case(
    "pod",
    r#"("shop", Some("web-1"), "runner", "{}", (Some("web"), Some("note"), [("app", "web"), ("team", "blue")]), Some(["apps/v1", "Job", "db"]))"#
)]
#[case("container", r#"("web", ContainerKind::Regular, PullPolicy::IfNotPresent, "docker.io/library/a:1")"#)]
#[case("host", r#"(["cache.example"], "localhost:7439", Ok("localhost:7439/docker.io/a/b:latest"))"#)]
#[tokio::test]
async fn a_policy_is_told_all_that_there_is(#[case] topic: &str, #[case] told: &str) {
    let pod = PodFacts {
        namespace: "shop".to_owned(),
        name: Some("web-1".to_owned()),
        labels: [("app", "web"), ("team", "blue")].map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        annotations: [("app".to_owned(), "note".to_owned())].into(),
        service_account: "runner".to_owned(),
        owner: Some(Owner { api_version: "apps/v1".to_owned(), kind: "Job".to_owned(), name: "db".to_owned() }),
        json: Arc::from("{}"),
    };
    let verdict = decide("probe", &format!(r#"{{"recite":"{topic}"}}"#), pod, "a:1").await;
    assert_eq!(verdict, ignored("probe", told));
}

#[tokio::test]
async fn one_that_filters_and_rewrites_does_both() {
    let verdict = decide("probe", "", pod("shop"), "a:1").await;
    assert_eq!(verdict, cached_from("docker.io/library/a:1", ["probe", "probe"]));
}

#[tokio::test]
async fn the_message_of_a_panic_reaches_the_pods_author() {
    let verdict = decide("probe", r#"{"panic":"this cannot be"}"#, pod("shop"), "a:1").await;
    let [warning] = &verdict.warnings[..] else { panic!("{verdict:?}") };
    assert!(warning.starts_with("policy probe panicked: this cannot be (policies/sdk/examples/probe.rs:"), "{warning}");
}

#[rstest]
#[case::of_the_filter(r#"{"say":""}"#, "there is nothing to say")]
#[case::of_the_rewriter(r#"{"panic":""}"#, "a panic has a message")]
#[case::of_both(r#"{"sing":true}"#, "unknown field `sing`, expected one of `say`, `panic`, `recite`")]
fn both_parts_have_an_opinion_of_the_settings(#[case] settings: &str, #[case] words: &str) {
    let error = load(&engine(), "probe", settings).unwrap_err().to_string();
    assert_eq!(error, format!("the policy refuses its settings: {words}"));
}

#[test]
fn settings_that_are_right_and_none_are_accepted() {
    for settings in ["", "{}", r#"{"say":"hello"}"#] {
        load(&engine(), "probe", settings).unwrap();
    }
}
