//! A policy that fails leaves the image alone, says why, and takes nothing else with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cache_registry_core::PodFacts;
use cache_registry_policy::{Engine, HostFacts, Limits, Member, Metrics, PolicySet, built_in};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use rstest::rstest;

use crate::guest::{self, Answer};
use crate::{LIMITS, cached, container, decide, engine, failed, failed_after, policy, set_of, set_with};

const LOOP: &str = "(loop $forever (br $forever))";

#[rstest]
#[case::trap("unreachable", "policy guest panicked")]
#[case::endless(LOOP, "policy guest took longer than 200ms")]
#[case::stray("(drop (i32.load (i32.const 0x7fffffff)))", "policy guest had a memory fault or a stack overflow")]
#[case::division(
    "(drop (i32.div_u (i32.const 1) (i32.const 0)))",
    "policy guest trapped: wasm trap: integer divide by zero"
)]
#[case::memory(
    "(loop $more (drop (memory.grow (i32.const 16))) (br $more))",
    "policy guest wanted more than 8 MiB of memory"
)]
#[case::one_big_growth("(drop (memory.grow (i32.const 60000)))", "policy guest wanted more than 8 MiB of memory")]
#[tokio::test]
async fn each_way_to_fail_has_its_words(#[case] body: &str, #[case] warning: &str) {
    assert_eq!(decide(&set_with(&guest::filter(body)), &["a:1"]).await, [failed(warning)]);
}

#[tokio::test]
async fn deep_recursion_is_stopped() {
    let set = set_with(&guest::component(
        &["filter"],
        &format!(
            "(func $deeper (call $deeper) (call $deeper)) \
             (func (export \"cache-registry:policy/filter@0.1.0#filter\") (param{}) (result i32) (call $deeper) (i32.const 0))",
            " i32".repeat(15)
        ),
    ));
    assert_eq!(decide(&set, &["a:1"]).await, [failed("policy guest had a stack overflow")]);
}

/// `ignore` with 1 MiB of text, which lies in the guest's memory as zeros.
#[tokio::test]
async fn a_huge_text_is_not_let_through() {
    let set = set_with(&guest::filter(
        "(drop (memory.grow (i32.const 32))) (i32.store8 (i32.const 64) (i32.const 2)) \
         (i32.store (i32.const 68) (i32.const 65536)) (i32.store (i32.const 72) (i32.const 1048576))",
    ));
    assert_eq!(decide(&set, &["a:1"]).await, [failed("policy guest passed too much text to the host at once")]);
}

#[tokio::test]
async fn a_text_that_is_none_breaks_the_contract() {
    let set = set_with(&guest::filter(
        "(i32.store8 (i32.const 64) (i32.const 2)) (i32.store8 (i32.const 1024) (i32.const 255)) \
         (i32.store (i32.const 68) (i32.const 1024)) (i32.store (i32.const 72) (i32.const 1))",
    ));
    let [verdict] = decide(&set, &["a:1"]).await.try_into().unwrap();
    let [warning] = verdict.warnings.as_slice() else { panic!("{verdict:?}") };
    assert!(warning.starts_with("policy guest broke the contract: ") && warning.contains("utf-8"), "{warning}");
}

#[rstest]
#[case::garbage(
    "no reference",
    "nginx",
    "policy guest gave an unusable reference: \"no reference\" is not an image reference: expected \
     [host[:port]/]path[:tag][@digest], the path in lower case"
)]
#[case::garbage_source(
    "nginx",
    "",
    "policy guest gave an unusable reference: \"\" is not an image reference: expected \
     [host[:port]/]path[:tag][@digest], the path in lower case"
)]
#[case::not_where_the_cache_keeps_it(
    "localhost:7439/docker.io/library/other:1",
    "nginx:1",
    "policy guest gave an unusable reference: localhost:7439/docker.io/library/other:1 is not where nodes pull \
     docker.io/library/nginx:1"
)]
#[case::source_at_the_nodes(
    "localhost:7439/docker.io/library/nginx:1",
    "localhost:7439/docker.io/library/nginx:1",
    "policy guest gave an unusable reference: the source localhost:7439/docker.io/library/nginx:1 is at the address of \
     the nodes' cache"
)]
#[tokio::test]
async fn a_reference_that_leads_nowhere_is_not_used(#[case] image: &str, #[case] source: &str, #[case] warning: &str) {
    let set = set_with(&guest::rewriter_answering(&Answer::Rewritten { image, source }));
    assert_eq!(decide(&set, &["a:1"]).await, [failed_after("default-filter", warning)]);
}

#[tokio::test]
async fn an_error_of_a_policy_is_quoted_in_one_bounded_line() {
    let set = set_with(&guest::rewriter_answering(&Answer::Error("no\r\nmirror")));
    assert_eq!(decide(&set, &["a:1"]).await, [failed_after("default-filter", "policy guest failed: no  mirror")]);
    let set = set_with(&guest::rewriter_answering(&Answer::Error(&"é".repeat(1000))));
    let bounded = format!("policy guest failed: {}…", "é".repeat(100));
    assert_eq!(decide(&set, &["a:1"]).await, [failed_after("default-filter", &bounded)]);
}

/// The guest traps for one repository, which it knows by the length of its name.
#[tokio::test]
async fn after_a_trap_a_fresh_instance_answers_for_the_next_container() {
    let set = set_with(&guest::component(
        &["filter"],
        &format!(
            "(func (export \"cache-registry:policy/filter@0.1.0#filter\") (param $pod i32) (param i32 i32 i32 i32 i32 i32) \
             (param $repository i32) (param $length i32) (param i32 i32 i32 i32 i32 i32) (result i32) \
             (if (i32.eq (local.get $length) (i32.const {})) (then unreachable)) \
             (call $drop_pod (local.get $pod)) (i32.const 64))",
            "library/trap".len()
        ),
    ));
    let verdicts = decide(&set, &["a:1", "trap:1", "b:1", "trap:2"]).await;
    let trapped = failed("policy guest panicked");
    assert_eq!(verdicts, [cached("a:1"), trapped.clone(), cached("b:1"), trapped]);
}

#[tokio::test]
async fn time_is_for_all_containers_together() {
    let set = set_with(&guest::filter(LOOP));
    let began = Instant::now();
    let verdicts = decide(&set, &["a:1"; 50]).await;
    assert_eq!(verdicts, vec![failed("policy guest took longer than 200ms"); 50]);
    // Fifty times 200 ms would be ten seconds.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// The filter decides on one container and loops at the other, so that nothing is left for the rewriter.
#[tokio::test]
async fn filter_and_rewrite_share_the_time() {
    let loops = format!("(if (i32.eq (local.get 8) (i32.const {})) (then {LOOP}))", "library/endless".len());
    let set = set_with(&guest::filter_and_rewriter(&Answer::Cache.data(), &loops, "unreachable"));
    let verdicts = decide(&set, &["a:1", "endless:1"]).await;
    let words = "policy guest took longer than 200ms";
    assert_eq!(verdicts, [failed_after("guest", words), failed(words)]);
}

#[tokio::test]
async fn one_failure_leaves_the_other_policies_of_the_set_alone() {
    let engine = engine();
    let guest = policy(&engine, "guest", &guest::filter("unreachable"));
    let good = set_of(&engine, Vec::new());
    let bad = set_of(&engine, vec![guest]);
    assert_eq!(decide(&bad, &["a:1"]).await, [failed("policy guest panicked")]);
    assert_eq!(decide(&good, &["a:1"]).await, [cached("a:1")]);
}

#[test]
fn limits_that_cannot_be_kept_are_refused() {
    for limits in [Limits { concurrency: 0, ..LIMITS }, Limits { time: Duration::ZERO, ..LIMITS }] {
        assert!(Engine::new(&limits, HostFacts::default()).is_err(), "{limits:?}");
    }
    assert!(Engine::new(&Limits::default(), HostFacts::default()).is_ok());
}

#[tokio::test]
async fn failures_and_durations_are_counted() {
    let engine = engine();
    let mut registry = Registry::default();
    let mut policies = vec![policy(&engine, "guest", &guest::filter("unreachable"))];
    policies.extend(built_in::load(&engine).unwrap());
    let members = policies.into_iter().map(Member::from).collect();
    let set = PolicySet::new(engine, members, Metrics::register(&mut registry).into()).unwrap();
    let containers = vec![container("a:1"), container("b:1")];
    set.decide(Arc::new(PodFacts::default()), containers).await;
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    let expected = "cache_registry_policy_failures_total{policy=\"guest\",cause=\"trap\"} 2";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("cache_registry_policy_duration_seconds_count{policy=\"guest\"} 1"), "{text}");
    // Nothing was left for the others to decide, so they were not even started.
    assert!(text.contains("cache_registry_policy_duration_seconds_count{policy=\"default-filter\"} 0"), "{text}");
}
