//! What is known of a policy that fails: who hears of it, and when it counts as failing.

use std::sync::Arc;

use cache_registry_core::{PodFacts, Verdict};
use cache_registry_policy::built_in::{self, ReleaseSettings};
use cache_registry_policy::{Engine, Member, Metrics, Observer, OnError, Policies, Policy, PolicySet};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

use crate::guest::{self, Answer};
use crate::{cached, container, decide, engine, failed, nobody, policy};

/// Traps for one repository, which it knows by the length of its name.
fn picky() -> Vec<u8> {
    let length = "library/trap".len();
    guest::filter(&format!("(if (i32.eq (local.get 8) (i32.const {length})) (then unreachable))"))
}

fn set(engine: &Engine, policy: &Arc<Policy>, on_error: OnError, observer: Observer) -> PolicySet {
    let member = Member { policy: policy.clone(), on_error };
    let members = [member].into_iter().chain(built_in::load(engine).unwrap().map(Member::from)).collect();
    PolicySet::new(engine.clone(), members, observer).unwrap()
}

fn shown(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    text
}

#[tokio::test]
async fn the_next_policy_is_asked_where_failures_are_passed_over() {
    let engine = engine();
    let filter = policy(&engine, "guest", &guest::filter("unreachable"));
    let set_of_filter = set(&engine, &filter, OnError::Pass, nobody());
    let words = "policy guest panicked".to_owned();
    let expected = Verdict { warnings: vec![words], ..cached("a:1") };
    assert_eq!(decide(&set_of_filter, &["a:1"]).await, [expected]);

    let rewriter = policy(&engine, "guest", &guest::rewriter_answering(&Answer::Error("no mirror")));
    let set_of_rewriter = set(&engine, &rewriter, OnError::Pass, nobody());
    let words = "policy guest failed: no mirror".to_owned();
    let expected = Verdict { warnings: vec![words], ..cached("a:1") };
    assert_eq!(decide(&set_of_rewriter, &["a:1"]).await, [expected]);
}

#[tokio::test]
async fn a_failure_is_told_once_for_a_request_and_a_cause() {
    let engine = engine();
    let guest = policy(&engine, "guest", &picky());
    let (sender, mut failures) = mpsc::channel(10);
    let set = set(&engine, &guest, OnError::Leave, Observer { failures: Some(sender), ..nobody() });
    let pod = Arc::new(PodFacts { namespace: "shop".to_owned(), ..PodFacts::default() });
    let containers = ["trap:1", "a:1", "trap:2"].map(container);
    set.decide(pod, containers.into()).await;

    let failure = failures.try_recv().unwrap();
    assert_eq!((failure.policy.as_str(), failure.cause, failure.namespace.as_str()), ("guest", "trap", "shop"));
    assert_eq!(failure.words, "policy guest panicked");
    assert!(failures.try_recv().is_err());
    assert_eq!(guest.health().last_failure, Some(failure));
}

#[tokio::test]
async fn a_channel_that_nobody_empties_holds_nothing_up() {
    let engine = engine();
    let guest = policy(&engine, "guest", &picky());
    let (sender, mut failures) = mpsc::channel(1);
    let set = set(&engine, &guest, OnError::Leave, Observer { failures: Some(sender), ..nobody() });
    for _ in 0..3 {
        assert_eq!(decide(&set, &["trap:1"]).await, [failed("policy guest panicked")]);
    }
    assert!(failures.try_recv().is_ok() && failures.try_recv().is_err());
    drop(failures);
    assert_eq!(decide(&set, &["trap:1"]).await, [failed("policy guest panicked")]);
}

#[tokio::test]
async fn ten_requests_in_a_row_are_failing_and_one_that_succeeds_is_not() {
    let engine = engine();
    let guest = policy(&engine, "guest", &picky());
    let mut registry = Registry::default();
    let set = set(&engine, &guest, OnError::Leave, Metrics::register(&mut registry).into());
    let failing = "cache_registry_policy_failing{policy=\"guest\"} ";
    for request in 1..=10 {
        assert!(!guest.health().failing() && shown(&registry).contains(&format!("{failing}0")), "{request}");
        // Two containers are one request, and one failure among successes is a failure.
        decide(&set, &["trap:1", "a:1"]).await;
        assert_eq!(guest.health().failures_in_a_row, request);
    }
    assert!(guest.health().failing() && shown(&registry).contains(&format!("{failing}1")), "{}", shown(&registry));

    decide(&set, &["a:1"]).await;
    assert_eq!(guest.health().failures_in_a_row, 0);
    assert!(guest.health().last_failure.is_some());
    assert!(shown(&registry).contains(&format!("{failing}0")), "{}", shown(&registry));
}

/// It decides nothing, so it was not asked, and has not recovered.
#[tokio::test]
async fn a_request_that_it_is_not_asked_about_says_nothing_of_it() {
    let engine = engine();
    let first = policy(&engine, "first", &guest::filter_answering(&Answer::Ignore("no")));
    let guest = policy(&engine, "guest", &picky());
    decide(&set(&engine, &guest, OnError::Leave, nobody()), &["trap:1"]).await;
    let members = vec![first.into(), guest.clone().into()];
    decide(&PolicySet::new(engine, members, nobody()).unwrap(), &["a:1"]).await;
    assert_eq!(guest.health().failures_in_a_row, 1);
}

#[tokio::test]
async fn nothing_is_shown_of_a_policy_that_is_gone() {
    let engine = engine();
    let (old, new) = (policy(&engine, "old", &picky()), policy(&engine, "new", &picky()));
    let mut registry = Registry::default();
    let observer = Observer::from(Metrics::register(&mut registry));
    let policies = Policies::new(set(&engine, &old, OnError::Leave, observer.clone()));
    let before = policies.current();
    decide(&before, &["trap:1"]).await;
    assert!(shown(&registry).contains("cache_registry_policy_failures_total{policy=\"old\",cause=\"trap\"} 1"));

    policies.replace(set(&engine, &new, OnError::Leave, observer));
    // A request that began before.
    decide(&before, &["trap:1"]).await;
    let text = shown(&registry);
    assert!(!text.contains("\"old\"") && text.contains("\"new\"") && text.contains("\"default-filter\""), "{text}");
}

#[tokio::test]
async fn the_set_that_is_put_in_force_decides() {
    let engine = engine();
    let ignoring = policy(&engine, "guest", &guest::filter_answering(&Answer::Ignore("no")));
    let policies = Policies::new(PolicySet::built_in(engine.clone(), &ReleaseSettings::default(), nobody()).unwrap());
    let handle = policies.clone();
    let ask = || policies.decide(Arc::default(), vec![container("a:1")]);
    assert_eq!(ask().await, [cached("a:1")]);
    handle.replace(set(&engine, &ignoring, OnError::Leave, nobody()));
    assert_eq!(ask().await, [crate::ignored("guest", "no")]);
    let names: Vec<_> = policies.current().members().map(|member| member.policy.name().to_owned()).collect();
    assert_eq!(names, ["guest", "default-filter", "default-rewrite"]);
}
