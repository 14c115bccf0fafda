//! Who decides: the first that does not pass, the first that answers with a reference.

use std::sync::Arc;

use cache_registry_core::{Decision, Verdict};
use cache_registry_policy::{MOST_POLICIES, Member, Policy, PolicySet};

use crate::guest::{Answer, filter, filter_and_rewriter, filter_answering, rewriter_answering};
use crate::{cached, decide, engine, ignored, nobody, policy, set_of};

#[tokio::test]
async fn the_first_filter_that_does_not_pass_decides() {
    let engine = engine();
    let pass = policy(&engine, "pass", &filter_answering(&Answer::Pass));
    let cache = policy(&engine, "cache", &filter_answering(&Answer::Cache));
    let ignore = policy(&engine, "ignore", &filter_answering(&Answer::Ignore("not this one")));
    let order = |policies: &[&Arc<_>]| set_of(&engine, policies.iter().map(|policy| Arc::clone(policy)).collect());
    let no = ignored("ignore", "not this one");
    assert_eq!(decide(&order(&[&pass, &ignore, &cache]), &["a:1"]).await, [no]);
    let by_cache = Verdict { cached_by: Some("cache".to_owned()), ..cached("a:1") };
    assert_eq!(decide(&order(&[&pass, &cache, &ignore]), &["a:1"]).await, [by_cache]);
}

#[tokio::test]
async fn the_first_rewriter_with_an_answer_decides() {
    let engine = engine();
    let none = policy(&engine, "none", &rewriter_answering(&Answer::NoOpinion));
    let mirror = Answer::Rewritten { image: "localhost:7439/mirror.example/a:2", source: "mirror.example/a:2" };
    let first = policy(&engine, "first", &rewriter_answering(&mirror));
    let second = policy(&engine, "second", &rewriter_answering(&Answer::Error("never asked")));
    let set = set_of(&engine, vec![none, first, second]);
    let decision = Decision::Rewritten {
        image: "localhost:7439/mirror.example/a:2".parse().unwrap(),
        source: "mirror.example/a:2".parse().unwrap(),
    };
    let cached_by = Some("default-filter".to_owned());
    let expected = Verdict { decision, policy: Some("first".to_owned()), cached_by, warnings: Vec::new() };
    assert_eq!(decide(&set, &["a:1"]).await, [expected]);
}

#[tokio::test]
async fn where_nobody_decides_the_image_is_left_alone() {
    let engine = engine();
    let set = |policy: Arc<Policy>| PolicySet::new(engine.clone(), vec![policy.into()], nobody()).unwrap();
    let reason_of = |verdicts: Vec<Verdict>| match &verdicts.first().unwrap().decision {
        Decision::LeftAlone { reason } => reason.clone(),
        other @ Decision::Rewritten { .. } => panic!("{other:?}"),
    };
    let pass = policy(&engine, "pass", &filter_answering(&Answer::Pass));
    let cache = policy(&engine, "cache", &filter_answering(&Answer::Cache));
    assert_eq!(reason_of(decide(&set(pass), &["a:1"]).await), "no policy asks for it to be cached");
    let reason = reason_of(decide(&set(cache), &["a:1"]).await);
    assert_eq!(reason, "it is to be cached, but no policy says under which reference");
}

/// The filter leaves a mark in its memory, and the rewriter traps without it.
#[tokio::test]
async fn one_instance_serves_both_questions_and_all_containers() {
    let engine = engine();
    let both = filter_and_rewriter(
        "(global $filtered (mut i32) (i32.const 0))",
        "(global.set $filtered (i32.const 1))",
        "(if (i32.eqz (global.get $filtered)) (then unreachable))",
    );
    let set = set_of(&engine, vec![policy(&engine, "both", &both)]);
    assert_eq!(decide(&set, &["a:1", "b:1"]).await, [cached("a:1"), cached("b:1")]);
}

/// Only the first call of an instance passes.
#[tokio::test]
async fn instances_are_fresh_for_each_request() {
    let engine = engine();
    let once = filter("(if (i32.load (i32.const 512)) (then unreachable)) (i32.store (i32.const 512) (i32.const 1))");
    let set = set_of(&engine, vec![policy(&engine, "once", &once)]);
    for _ in 0..20 {
        assert_eq!(decide(&set, &["a:1"]).await, [cached("a:1")]);
    }
}

#[tokio::test]
async fn a_reason_is_one_bounded_line_and_never_empty() {
    let engine = engine();
    let reason = |text: &str| set_of(&engine, vec![policy(&engine, "guest", &filter_answering(&Answer::Ignore(text)))]);
    assert_eq!(decide(&reason(" a\nb "), &["a:1"]).await, [ignored("guest", "a b")]);
    assert_eq!(decide(&reason(""), &["a:1"]).await, [ignored("guest", "policy guest ignores it")]);
    let long = decide(&reason(&"x".repeat(2000)), &["a:1"]).await;
    assert_eq!(long, [ignored("guest", &format!("{}…", "x".repeat(200)))]);
}

#[tokio::test]
async fn a_full_set_of_policies_that_do_both_fits_the_pool() {
    let engine = engine();
    // Without an answer's bytes, a filter passes and a rewriter has no opinion; the mark keeps them apart.
    let both = policy(&engine, "both", &filter_and_rewriter("", "", ""));
    assert!(PolicySet::new(engine.clone(), vec![both.clone().into(); MOST_POLICIES + 1], nobody()).is_err());
    let mut policies = vec![both; MOST_POLICIES - 2];
    policies.extend(cache_registry_policy::built_in::load(&engine).unwrap());
    let members = policies.into_iter().map(Member::from).collect();
    let set = PolicySet::new(engine, members, nobody()).unwrap();
    let requests: Vec<_> = (0..64)
        .map(|_| {
            tokio::spawn({
                let set = set.clone();
                async move { decide(&set, &["a:1"]).await }
            })
        })
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap(), [cached("a:1")]);
    }
}
