//! Policies written with the SDK, as components through the real engine: each of `policies/examples`, and one that
//! shows what the SDK gives.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by them, in its helpers too")]

mod components;
mod decisions;
mod probe;

use std::sync::Arc;
use std::time::Duration;

use cache_registry_core::{ContainerFacts, ContainerKind, Decision, NodeAddress, PodFacts, PullPolicy, Verdict};
use cache_registry_policy::{
    Engine, HostFacts, Limits, LoadError, Member, Metrics, Observer, Policy, PolicySet, built_in,
};
use prometheus_client::registry::Registry;

/// The memory is what policies have by default. The time is not, as a machine that runs tests may be busy.
const LIMITS: Limits =
    Limits { time: Duration::from_secs(5), memory: 32 << 20, concurrency: 4, wait: Duration::from_secs(20) };

fn engine() -> Engine {
    let own_registries = vec!["cache.example".to_owned()];
    Engine::new(&LIMITS, HostFacts { own_registries, ..HostFacts::default() }).unwrap()
}

fn nobody() -> Observer {
    Metrics::register(&mut Registry::default()).into()
}

/// One of the components under its own name.
fn load(engine: &Engine, name: &str, settings: &str) -> Result<Policy, LoadError> {
    let component = engine.compile(&components::wasm(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    engine.load(name, &component, settings)
}

/// What a set of this policy, and of those that are built in, makes of a container of the pod.
async fn decide(name: &str, settings: &str, pod: PodFacts, image: &str) -> Verdict {
    let engine = engine();
    let policy = Arc::new(load(&engine, name, settings).unwrap_or_else(|error| panic!("{name}: {error}")));
    let members = [policy].into_iter().chain(built_in::load(&engine).unwrap()).map(Member::from).collect();
    let set = PolicySet::new(engine, members, nobody()).unwrap();
    let container = ContainerFacts {
        name: "web".to_owned(),
        kind: ContainerKind::Regular,
        pull_policy: PullPolicy::IfNotPresent,
        image: image.parse().unwrap(),
    };
    set.decide(Arc::new(pod), vec![container]).await.remove(0)
}

fn pod(namespace: &str) -> PodFacts {
    PodFacts { namespace: namespace.to_owned(), ..PodFacts::default() }
}

/// The image is cached from `source`: `filter` and `rewrite` said so.
fn cached_from(source: &str, [filter, rewrite]: [&str; 2]) -> Verdict {
    let source = source.parse().unwrap();
    let decision = Decision::Rewritten { image: NodeAddress::default().of(&source), source };
    let (policy, cached_by) = (Some(rewrite.to_owned()), Some(filter.to_owned()));
    Verdict { decision, policy, cached_by, warnings: Vec::new() }
}

fn ignored(policy: &str, reason: &str) -> Verdict {
    let decision = Decision::LeftAlone { reason: reason.to_owned() };
    Verdict { decision, policy: Some(policy.to_owned()), cached_by: None, warnings: Vec::new() }
}
