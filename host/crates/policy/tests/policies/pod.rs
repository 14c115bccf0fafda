//! What a policy can learn of the pod, its container and its image, by a guest that recites it.

use std::fmt::Write as _;
use std::sync::Arc;

use cache_registry_core::{ContainerFacts, ContainerKind, Owner, PodFacts, PullPolicy};
use rstest::rstest;

use crate::guest;
use crate::{container, engine, ignored, policy, set_of};

/// A filter that ignores every image and gives as its reason what a function of the pod returns. `call` leaves a
/// pointer and a length at 68.
fn reciting(import: &str, params: &str, call: &str) -> Vec<u8> {
    let mut module = String::new();
    let _ = write!(
        module,
        r#"(module
             (import "cache-registry:policy/types@0.1.0" "[resource-drop]pod" (func $drop_pod (param i32)))
             (import "cache-registry:policy/types@0.1.0" "[method]pod.{import}" (func $ask (param i32{params} i32)))
             (memory (export "memory") 4)
             (global $heap (mut i32) (i32.const 4096))
             (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
               (global.get $heap) (global.set $heap (i32.and (i32.add (global.get $heap) (i32.add (local.get $size) (i32.const 7))) (i32.const -8))))
             (data (i32.const 64) "\02") (data (i32.const 1024) "team")
             (func (export "cache-registry:policy/filter@0.1.0#filter") (param $pod i32) (param{}) (result i32)
               {call} (call $drop_pod (local.get $pod)) (i32.const 64)))"#,
        " i32".repeat(14)
    );
    let world = "package test:guest; world guest { import cache-registry:policy/types@0.1.0; \
                 export cache-registry:policy/filter@0.1.0; }";
    guest::encode(world, &module)
}

fn pod() -> PodFacts {
    PodFacts {
        namespace: "shop".to_owned(),
        name: Some("web-1".to_owned()),
        labels: [("app", "web"), ("team", "blue")].map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        annotations: [("team".to_owned(), "green".to_owned())].into(),
        service_account: "runner".to_owned(),
        owner: Some(Owner { api_version: "apps/v1".to_owned(), kind: "ReplicaSet".to_owned(), name: "web".to_owned() }),
        json: Arc::from(r#"{"kind":"Pod"}"#),
    }
}

const PLAIN: &str = "(call $ask (local.get $pod) (i32.const 68))";
/// An option: whether there is one at 128, the pointer and the length behind it.
const OPTION: &str =
    "(call $ask (local.get $pod) (i32.const 128)) (i64.store (i32.const 68) (i64.load (i32.const 132)))";
const KEYED: &str = "(call $ask (local.get $pod) (i32.const 1024) (i32.const 4) (i32.const 128)) \
                     (i64.store (i32.const 68) (i64.load (i32.const 132)))";
/// The third string of the owner: behind the option's word and two strings.
const OWNER: &str =
    "(call $ask (local.get $pod) (i32.const 128)) (i64.store (i32.const 68) (i64.load (i32.const 148)))";
/// The value of the second pair of a list: the list's pointer at 128, pairs of sixteen bytes.
const SECOND: &str = "(call $ask (local.get $pod) (i32.const 128)) \
                      (i64.store (i32.const 68) (i64.load offset=24 (i32.load (i32.const 128))))";

#[rstest]
#[case("namespace", "", PLAIN, "shop")]
#[case("service-account", "", PLAIN, "runner")]
#[case("json", "", PLAIN, r#"{"kind":"Pod"}"#)]
#[case("name", "", OPTION, "web-1")]
#[case("label", " i32 i32", KEYED, "blue")]
#[case("annotation", " i32 i32", KEYED, "green")]
#[case("owner", "", OWNER, "web")]
#[case("labels", "", SECOND, "blue")]
#[tokio::test]
async fn the_pod_is_told_as_it_is(
    #[case] function: &str,
    #[case] params: &str,
    #[case] call: &str,
    #[case] told: &str,
) {
    let engine = engine();
    let set = set_of(&engine, vec![policy(&engine, "guest", &reciting(function, params, call))]);
    assert_eq!(set.decide(Arc::new(pod()), vec![container("a:1")]).await, [ignored("guest", told)]);
}

/// Echoes the string whose parameters are the given ones.
fn echo(pointer: usize, length: usize) -> Vec<u8> {
    guest::component(
        &["filter"],
        &format!(
            "(data (i32.const 64) \"\\02\") (func (export \"cache-registry:policy/filter@0.1.0#filter\") (param{}) (result i32) \
             (i32.store (i32.const 68) (local.get {pointer})) (i32.store (i32.const 72) (local.get {length})) \
             (call $drop_pod (local.get 0)) (i32.const 64))",
            " i32".repeat(15)
        ),
    )
}

#[rstest]
#[case::name(echo(1, 2), "web")]
#[case::registry(echo(5, 6), "docker.io")]
#[case::repository(echo(7, 8), "library/nginx")]
#[case::tag(echo(10, 11), "1.27")]
#[case::digest(echo(13, 14), "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")]
#[tokio::test]
async fn the_container_and_its_image_are_told_in_parts(#[case] wasm: Vec<u8>, #[case] told: &str) {
    let engine = engine();
    let set = set_of(&engine, vec![policy(&engine, "guest", &wasm)]);
    let image = "nginx:1.27@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    assert_eq!(set.decide(Arc::new(pod()), vec![container(image)]).await, [ignored("guest", told)]);
}

/// Answers with the container's kind and pull policy, which are numbers, in two letters.
#[rstest]
#[case(ContainerKind::Init, PullPolicy::Always, "aa")]
#[case(ContainerKind::Regular, PullPolicy::IfNotPresent, "bb")]
#[case(ContainerKind::Ephemeral, PullPolicy::Never, "cc")]
#[tokio::test]
async fn kind_and_pull_policy_keep_their_order(
    #[case] kind: ContainerKind,
    #[case] pull_policy: PullPolicy,
    #[case] letters: &str,
) {
    let wasm = guest::filter(
        "(i32.store8 (i32.const 64) (i32.const 2)) (i32.store (i32.const 68) (i32.const 1024)) \
         (i32.store (i32.const 72) (i32.const 2)) \
         (i32.store8 (i32.const 1024) (i32.add (i32.const 97) (local.get 3))) \
         (i32.store8 (i32.const 1025) (i32.add (i32.const 97) (local.get 4)))",
    );
    let engine = engine();
    let set = set_of(&engine, vec![policy(&engine, "guest", &wasm)]);
    let container = ContainerFacts { kind, pull_policy, ..container("a:1") };
    assert_eq!(set.decide(Arc::new(pod()), vec![container]).await, [ignored("guest", letters)]);
}
