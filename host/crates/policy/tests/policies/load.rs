//! What is no policy is refused, in words that tell a person what to do.

use rstest::rstest;

use crate::guest::{self, Answer};
use crate::{decide, engine, failed, load, set_with};

fn refusal(wasm: &[u8]) -> String {
    match load(&engine(), "guest", wasm, "the settings") {
        Ok(_) => panic!("it was accepted"),
        Err(error) => error.to_string(),
    }
}

#[rstest]
#[case::empty(b"", "the file is empty")]
#[case::text(b"(component)", "this is not WebAssembly")]
#[case::gzip(b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "compressed or text files")]
#[case::module(b"\0asm\x01\0\0\0", "a core WebAssembly module, not a component")]
#[case::empty_component(
    b"\0asm\x0d\0\x01\0",
    "exports neither cache-registry:policy/filter@0.1.0 nor cache-registry:policy/rewrite@0.1.0; it exports nothing"
)]
fn bytes_that_are_no_policy(#[case] wasm: &[u8], #[case] words: &str) {
    let refusal = refusal(wasm);
    assert!(refusal.contains(words), "{refusal}");
}

#[test]
fn a_truncated_component() {
    let whole = guest::filter("");
    let refusal = refusal(&whole[..whole.len() / 2]);
    assert!(refusal.starts_with("the component does not compile: "), "{refusal}");
    assert!(refusal.contains("out of bounds") || refusal.contains("unexpected end"), "{refusal}");
}

#[test]
fn an_import_that_is_not_offered() {
    let world = "package wasi:io@0.2.6; interface poll { poll: func(); } world guest { import poll; \
                 export cache-registry:policy/check@0.1.0; }";
    let module = r#"(module (import "wasi:io/poll@0.2.6" "poll" (func))
        (memory (export "memory") 1) (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
        (func (export "cache-registry:policy/check@0.1.0#check") (result i32) (i32.const 0)))"#;
    let refusal = refusal(&guest::encode(world, module));
    assert!(
        refusal.contains("imports wasi:io/poll@0.2.6; policies are offered cache-registry:policy/host"),
        "{refusal}"
    );
}

#[test]
fn a_host_function_that_this_contract_has_not() {
    let newer = r#"(component
        (import "cache-registry:policy/host@0.1.9" (instance (export "weather" (func)))))"#;
    let refusal = refusal(&wat::parse_str(newer).unwrap());
    assert!(refusal.contains("built for another contract than cache-registry:policy@0.1.0"), "{refusal}");
    assert!(refusal.contains("weather"), "{refusal}");
}

#[test]
fn a_component_that_only_checks() {
    let check = r#"(func (export "cache-registry:policy/check@0.1.0#check") (result i32) (i32.const 64))"#;
    let refusal = refusal(&guest::component(&["check"], check));
    assert!(refusal.ends_with("it exports cache-registry:policy/check@0.1.0"), "{refusal}");
}

#[rstest]
#[case("0.1.0")]
#[case::compatible_version("0.1.7")]
fn a_function_of_another_shape(#[case] version: &str) {
    let other = format!(
        r#"(component
             (core module $m (func (export "filter") (result i32) (i32.const 0)))
             (core instance $i (instantiate $m))
             (func $filter (result bool) (canon lift (core func $i "filter")))
             (instance $filters (export "filter" (func $filter)))
             (export "cache-registry:policy/filter@{version}" (instance $filters)))"#
    );
    let refusal = refusal(&wat::parse_str(other).unwrap());
    assert!(refusal.contains("built for another contract than cache-registry:policy@0.1.0"), "{refusal}");
}

#[test]
fn a_filter_of_another_version() {
    let other = r#"(component (instance $none) (export "cache-registry:policy/filter@0.2.0" (instance $none)))"#;
    let refusal = refusal(&wat::parse_str(other).unwrap());
    assert!(refusal.ends_with("it exports cache-registry:policy/filter@0.2.0"), "{refusal}");
}

fn checking(data: &str, body: &str) -> Vec<u8> {
    let check = format!(
        r#"{data} (func (export "cache-registry:policy/check@0.1.0#check") (result i32) {body} (i32.const 64))"#
    );
    let filter = format!(
        "(func (export \"cache-registry:policy/filter@0.1.0#filter\") (param{}) (result i32) unreachable)",
        " i32".repeat(15)
    );
    guest::component(&["check", "filter"], &format!("{check} {filter}"))
}

#[test]
fn settings_that_the_policy_refuses() {
    let refusal = refusal(&checking(&Answer::Error("line 1: no such\nregistry").data(), ""));
    assert_eq!(refusal, "the policy refuses its settings: line 1: no such registry");
}

#[test]
fn settings_that_the_policy_accepts() {
    assert!(load(&engine(), "guest", &checking(&Answer::Pass.data(), ""), "").is_ok());
}

#[rstest]
#[case::trap("unreachable", "the policy was tried, and it panicked")]
#[case::endless("(loop $forever (br $forever))", "the policy was tried, and it took longer than 200ms")]
fn a_check_that_does_not_return(#[case] body: &str, #[case] words: &str) {
    assert_eq!(refusal(&checking("", body)), words);
}

#[rstest]
#[case::memory("(component (core module (memory 1000)))", "memory")]
#[case::memories(
    "(component (core module $m (memory 1)) (core instance (instantiate $m)) (core instance (instantiate $m)))",
    "linear memories"
)]
#[case::modules(
    "(component (core module $m) (core instance (instantiate $m)) (core instance (instantiate $m)) \
     (core instance (instantiate $m)) (core instance (instantiate $m)) (core instance (instantiate $m)))",
    "core module instances"
)]
fn what_no_instance_gets(#[case] component: &str, #[case] words: &str) {
    let refusal = refusal(&wat::parse_str(component).unwrap());
    assert!(refusal.starts_with("the component does not compile: ") && refusal.contains(words), "{refusal}");
}

#[tokio::test]
async fn settings_are_handed_over_as_they_are() {
    // The policy passes them on as its reason: a pointer and a length at 68.
    let settings = guest::component(
        &["filter"],
        &format!(
            "(data (i32.const 64) \"\\02\") (func (export \"cache-registry:policy/filter@0.1.0#filter\") (param $pod i32) \
         (param{}) (result i32) (call $settings (i32.const 68)) (call $drop_pod (local.get $pod)) (i32.const 64))",
            " i32".repeat(14)
        ),
    );
    let engine = engine();
    let policy = load(&engine, "guest", &settings, "a: [1,\t2]").unwrap();
    let set = crate::set_of(&engine, vec![policy.into()]);
    assert_eq!(decide(&set, &["a:1"]).await, [crate::ignored("guest", "a: [1, 2]")]);
}

#[tokio::test]
async fn a_pod_that_is_kept_breaks_the_contract() {
    let keeps = format!(
        "(func (export \"cache-registry:policy/filter@0.1.0#filter\") (param{}) (result i32) (i32.const 64))",
        " i32".repeat(15)
    );
    let [verdict] = decide(&set_with(&guest::component(&["filter"], &keeps)), &["a:1"]).await.try_into().unwrap();
    let [warning] = verdict.warnings.as_slice() else { panic!("{verdict:?}") };
    assert!(warning.starts_with("policy guest broke the contract: borrow handles still remain"), "{warning}");
    assert_eq!(verdict, failed(warning));
}
