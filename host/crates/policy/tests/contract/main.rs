//! The contract is kept: components built from its text as it was released are loaded, asked and understood today.
//! See `docs/policy-contract.md`. The texts beside this file are never edited.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by them, in its helpers too")]

mod next;

use std::sync::Arc;

use cache_registry_core::{ContainerFacts, ContainerKind, Decision, PodFacts, PullPolicy, Verdict};
use cache_registry_guests::encode_by;
use cache_registry_policy::{Engine, HostFacts, Limits, Member, Metrics, PolicySet, built_in};
use prometheus_client::registry::Registry;
use rstest::rstest;
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{ManglingAndAbi, Resolve};

/// The contract as it was released as 0.1.0, under another version.
fn released_as(version: &str) -> String {
    let (types, policy) = (include_str!("0.1.0/types.wit"), include_str!("0.1.0/policy.wit"));
    // One package in two files, of which one says so.
    let policy = policy.replace("package cache-registry:policy@0.1.0;", "");
    format!("{types}\n{policy}")
        .replace("package cache-registry:policy@0.1.0;", &format!("package cache-registry:policy@{version};"))
}

/// A component that imports everything there is to import, and exports what a world says.
fn everything(version: &str, exports: &[&str]) -> Vec<u8> {
    let exports: Vec<_> =
        exports.iter().map(|name| format!("export cache-registry:policy/{name}@{version};")).collect();
    let world = format!(
        "package test:guest; world guest {{ import cache-registry:policy/host@{version}; \
         import cache-registry:policy/types@{version}; {} }}",
        exports.concat()
    );
    let mut resolve = Resolve::default();
    resolve.push_str("contract.wit", &released_as(version)).unwrap();
    let package = resolve.push_str("guest.wit", &world).unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Standard32);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

/// A filter and rewriter that answers everything with a text from its settings and from the pod, so that values go
/// both ways.
fn answering(version: &str) -> Vec<u8> {
    let world = format!(
        "package test:guest; world guest {{
             import cache-registry:policy/host@{version}; import cache-registry:policy/types@{version};
             export cache-registry:policy/check@{version}; export cache-registry:policy/filter@{version};
             export cache-registry:policy/rewrite@{version};
         }}"
    );
    let params = " i32".repeat(14);
    let module = format!(
        r#"(module
             (import "cache-registry:policy/types@{version}" "[resource-drop]pod" (func $drop_pod (param i32)))
             (import "cache-registry:policy/types@{version}" "[method]pod.namespace" (func $namespace (param i32 i32)))
             (import "cache-registry:policy/host@{version}" "settings" (func $settings (param i32)))
             (import "cache-registry:policy/host@{version}" "node-address" (func $node_address (param i32 i32 i32)))
             (memory (export "memory") 1)
             (global $heap (mut i32) (i32.const 4096))
             (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
               (global.get $heap)
               (global.set $heap (i32.and (i32.add (global.get $heap) (i32.add (local.get $size) (i32.const 7))) (i32.const -8))))
             (data (i32.const 1024) "mirror.example/a:1")
             (func (export "cache-registry:policy/check@{version}#check") (result i32)
               ;; Settings of four bytes are right.
               (call $settings (i32.const 256))
               (i32.store8 (i32.const 64) (i32.ne (i32.load offset=4 (i32.const 256)) (i32.const 4)))
               (i32.const 64))
             (func (export "cache-registry:policy/filter@{version}#filter") (param $pod i32) (param{params}) (result i32)
               (call $namespace (local.get $pod) (i32.const 256))
               ;; In the namespace of eight letters: ignored, for a reason that is the namespace. Else: cached.
               (if (i32.eq (i32.load offset=4 (i32.const 256)) (i32.const 8))
                 (then (i32.store8 (i32.const 64) (i32.const 2))
                       (i64.store (i32.const 68) (i64.load (i32.const 256))))
                 (else (i32.store8 (i32.const 64) (i32.const 1))))
               (call $drop_pod (local.get $pod)) (i32.const 64))
             (func (export "cache-registry:policy/rewrite@{version}#rewrite") (param $pod i32) (param{params}) (result i32)
               (call $node_address (i32.const 1024) (i32.const 18) (i32.const 256))
               ;; Some, of what the host made of it and where it is from.
               (i32.store8 (i32.const 64) (i32.const 0)) (i32.store8 (i32.const 68) (i32.const 1))
               (i64.store (i32.const 72) (i64.load offset=4 (i32.const 256)))
               (i32.store (i32.const 80) (i32.const 1024)) (i32.store (i32.const 84) (i32.const 18))
               (call $drop_pod (local.get $pod)) (i32.const 64)))"#
    );
    encode_by(&released_as(version), &world, &module)
}

fn engine() -> Engine {
    Engine::new(&Limits::default(), HostFacts::default()).unwrap()
}

/// Whatever of it is used, from the first version of the track on.
#[rstest]
#[case::released("0.1.0")]
#[case::a_later_one_without_what_it_added("0.1.7")]
fn a_component_that_uses_all_of_it_is_loaded(#[case] version: &str) {
    let engine = engine();
    for exports in [&["filter"][..], &["rewrite"], &["filter", "rewrite"]] {
        let component = engine.compile(&everything(version, exports)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            (component.filters(), component.rewrites()),
            (exports.contains(&"filter"), exports.contains(&"rewrite"))
        );
        engine.load("guest", &component, "").unwrap_or_else(|error| panic!("{error}"));
    }
}

#[rstest]
#[case("0.1.0")]
#[case("0.1.7")]
#[tokio::test]
async fn it_is_asked_and_understood(#[case] version: &str) {
    let engine = engine();
    let component = engine.compile(&answering(version)).unwrap();
    assert!(component.checks());
    assert!(engine.load("guest", &component, "\"long\"").is_err());
    let policy = Arc::new(engine.load("guest", &component, "true").unwrap());
    let members = [policy].into_iter().chain(built_in::load(&engine).unwrap()).map(Member::from).collect();
    let set = PolicySet::new(engine, members, Metrics::register(&mut Registry::default()).into()).unwrap();
    let decide = async |namespace: &str| {
        let container = ContainerFacts {
            name: "web".to_owned(),
            kind: ContainerKind::Regular,
            pull_policy: PullPolicy::Always,
            image: "a:1".parse().unwrap(),
        };
        let pod = Arc::new(PodFacts { namespace: namespace.to_owned(), ..PodFacts::default() });
        set.decide(pod, vec![container]).await
    };
    let guest = || Some("guest".to_owned());
    let decision = Decision::LeftAlone { reason: "payments".to_owned() };
    let ignored = Verdict { decision, policy: guest(), cached_by: None, warnings: Vec::new() };
    assert_eq!(decide("payments").await, [ignored]);
    let decision = Decision::Rewritten {
        image: "localhost:7439/mirror.example/a:1".parse().unwrap(),
        source: "mirror.example/a:1".parse().unwrap(),
    };
    let rewritten = Verdict { decision, policy: guest(), cached_by: guest(), warnings: Vec::new() };
    assert_eq!(decide("shop").await, [rewritten]);
}

#[rstest]
#[case("0.2.0")]
#[case("0.0.9")]
#[case("1.0.0")]
#[case("1.1.0")]
fn one_built_for_another_contract_is_refused_in_plain_words(#[case] version: &str) {
    let error = engine().compile(&everything(version, &["filter"])).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the component was built for cache-registry:policy@{version}, and this host offers 0.1.0; build it with the \
             SDK or the WIT of this release of cache-registry, or run the release that it was built for"
        )
    );
    assert_eq!(error.reason(), "version");
}

/// What is added to the text needs another number. Its prose may get better under the same.
#[test]
fn under_the_number_of_a_release_is_what_was_released() {
    let items = |text: &str| {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
        lines.map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    let today = [include_str!("../../../../../wit/types.wit"), include_str!("../../../../../wit/policy.wit")];
    let released = [include_str!("0.1.0/types.wit"), include_str!("0.1.0/policy.wit")];
    if today[0].contains("package cache-registry:policy@0.1.0;") {
        assert_eq!(today.map(items), released.map(items));
    }
}
