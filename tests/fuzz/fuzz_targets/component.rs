//! Bytes are a policy or are refused, within the limits; a policy that came to be answers, whatever it answers.
//!
//! An input is a component as it is, or as text where it begins with `(`. One that begins with `M` is a mutation of
//! the built-in filter: pieces of four bytes, each a place in the component (three bytes) and what to put there. Nearly
//! nothing else would get past the first section.
#![no_main]

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use cache_registry_core::{ContainerFacts, ContainerKind, NodeAddress, PodFacts, PullPolicy};
use cache_registry_policy::{Engine, HostFacts, Limits, Member, Metrics, Observer, PolicySet, built_in};
use libfuzzer_sys::{Corpus, fuzz_target};
use prometheus_client::registry::Registry;
use tokio::runtime::{Builder, Runtime};

struct Bench {
    engine: Engine,
    runtime: Runtime,
    metrics: Metrics,
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    let limits =
        Limits { time: Duration::from_millis(50), memory: 4 << 20, concurrency: 1, wait: Duration::from_secs(5) };
    let facts = HostFacts { node_address: NodeAddress::default(), own_registries: Vec::new() };
    Bench {
        engine: Engine::new(&limits, facts).expect("an engine"),
        runtime: Builder::new_current_thread().enable_all().build().expect("a runtime"),
        metrics: Metrics::register(&mut Registry::default()),
    }
});

fn component(input: &[u8]) -> Option<Cow<'_, [u8]>> {
    match input {
        [b'(', ..] => Some(Cow::Owned(wat::parse_bytes(input).ok()?.into_owned())),
        [b'M', edits @ ..] => {
            let mut component = built_in::DEFAULT_FILTER.to_vec();
            for edit in edits.chunks_exact(4) {
                let place = u32::from_be_bytes([0, edit[0], edit[1], edit[2]]) as usize % component.len();
                component[place] = edit[3];
            }
            Some(Cow::Owned(component))
        }
        bytes => Some(Cow::Borrowed(bytes)),
    }
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some(bytes) = component(input) else { return Corpus::Reject };
    let Bench { engine, runtime, metrics } = &*BENCH;
    let loaded = engine.compile(&bytes).and_then(|component| engine.load("fuzz", &component, "{}"));
    let Ok(policy) = loaded else { return Corpus::Keep };
    let set = PolicySet::new(engine.clone(), vec![Member::from(Arc::new(policy))], Observer::from(metrics.clone()));
    let set = set.expect("one policy is not too many");
    let container = ContainerFacts {
        name: "web".to_owned(),
        kind: ContainerKind::Regular,
        pull_policy: PullPolicy::Always,
        image: "nginx:1.27".parse().expect("a reference"),
    };
    let verdicts = runtime.block_on(set.decide(Arc::new(PodFacts::default()), vec![container]));
    assert_eq!(verdicts.len(), 1);
    Corpus::Keep
});
