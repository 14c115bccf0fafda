//! What a policy takes for a request, for who wants to know before it is in force.

use std::sync::Arc;

use cache_registry_core::PodFacts;
use cache_registry_policy::{Usage, built_in as components};

use crate::guest::filter;
use crate::{container, engine, policy};

fn usage(wasm: &[u8]) -> Result<Usage, String> {
    let engine = engine();
    let containers = [container("a:1"), container("b:1")];
    engine.usage(&policy(&engine, "guest", wasm), &Arc::new(PodFacts::default()), &containers)
}

#[test]
fn memory_is_all_that_the_instance_had() {
    // One page from the start, and three more for each of two containers.
    assert_eq!(usage(&filter("(drop (memory.grow (i32.const 3)))")).unwrap().memory, 7 << 16);
}

#[test]
fn a_start_is_a_part_of_a_request() {
    for wasm in [components::DEFAULT_FILTER, components::DEFAULT_REWRITE] {
        let usage = usage(wasm).unwrap();
        assert!(usage.start < usage.request && usage.memory > 0, "{usage:?}");
    }
}

#[test]
fn a_failure_is_told_in_words() {
    assert_eq!(usage(&filter("unreachable")).unwrap_err(), "panicked");
}
