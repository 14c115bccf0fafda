//! Policies through the real engine: the built-in components, and guests that are written to fail in one way each.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by them, in its helpers too")]

mod built_in;
mod busy;
mod failing;
mod guest;
mod limits;
mod load;
mod log;
mod order;
mod pod;
mod traced;
mod usage;
mod wasi;

use std::sync::Arc;
use std::time::Duration;

use cache_registry_core::{ContainerFacts, ContainerKind, Decision, NodeAddress, PodFacts, PullPolicy, Verdict};
use cache_registry_policy::{
    Engine, HostFacts, Limits, LoadError, Member, Metrics, Observer, Policy, PolicySet, built_in as components,
};
use prometheus_client::registry::Registry;

const LIMITS: Limits =
    Limits { time: Duration::from_millis(200), memory: 8 << 20, concurrency: 4, wait: Duration::from_secs(20) };

fn engine() -> Engine {
    engine_with(&LIMITS)
}

fn engine_with(limits: &Limits) -> Engine {
    Engine::new(limits, HostFacts::default()).unwrap()
}

/// An observer whose counters nobody reads.
fn nobody() -> Observer {
    Metrics::register(&mut Registry::default()).into()
}

fn load(engine: &Engine, name: &str, wasm: &[u8], settings: &str) -> Result<Policy, LoadError> {
    engine.load(name, &engine.compile(wasm)?, settings)
}

fn policy(engine: &Engine, name: &str, wasm: &[u8]) -> Arc<Policy> {
    Arc::new(load(engine, name, wasm, "").unwrap_or_else(|error| panic!("{name}: {error}")))
}

/// The policies, and after them those that are built in.
fn set_of(engine: &Engine, policies: Vec<Arc<Policy>>) -> PolicySet {
    let members = policies.into_iter().chain(components::load(engine).unwrap()).map(Member::from).collect();
    PolicySet::new(engine.clone(), members, nobody()).unwrap()
}

/// A set of one guest, under the name `guest`, and the policies that are built in.
fn set_with(wasm: &[u8]) -> PolicySet {
    let engine = engine();
    let guest = policy(&engine, "guest", wasm);
    set_of(&engine, vec![guest])
}

fn container(image: &str) -> ContainerFacts {
    ContainerFacts {
        name: "web".to_owned(),
        kind: ContainerKind::Regular,
        pull_policy: PullPolicy::IfNotPresent,
        image: image.parse().unwrap(),
    }
}

async fn decide(set: &PolicySet, images: &[&str]) -> Vec<Verdict> {
    set.decide(Arc::new(PodFacts::default()), images.iter().map(|image| container(image)).collect()).await
}

/// What the built-in policies make of an image.
fn cached(image: &str) -> Verdict {
    let source = image.parse().unwrap();
    let decision = Decision::Rewritten { image: NodeAddress::default().of(&source), source };
    let [filter, rewrite] = components::NAMES.map(|name| Some(name.to_owned()));
    Verdict { decision, policy: rewrite, cached_by: filter, warnings: Vec::new() }
}

fn ignored(policy: &str, reason: &str) -> Verdict {
    let decision = Decision::LeftAlone { reason: reason.to_owned() };
    Verdict { decision, policy: Some(policy.to_owned()), cached_by: None, warnings: Vec::new() }
}

/// What becomes of an image when the guest failed.
fn failed(warning: &str) -> Verdict {
    Verdict { warnings: vec![warning.to_owned()], ..ignored("guest", warning) }
}

/// The same, after a filter said that the image is cached.
fn failed_after(cached_by: &str, warning: &str) -> Verdict {
    Verdict { cached_by: Some(cached_by.to_owned()), ..failed(warning) }
}
