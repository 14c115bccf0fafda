//! What is no policy is refused, in words that tell a person what to do.

use cache_registry_policy::LoadError;
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
#[case::empty(b"", "empty", "the file is empty; bring the component")]
#[case::text(b"(component)", "not-wasm", "this is not WebAssembly; bring the binary component")]
#[case::gzip(b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "not-wasm", "or an archive")]
#[case::module(b"\0asm\x01\0\0\0", "core-module", "`wasm-tools component new` makes one of it")]
#[case::empty_component(
    b"\0asm\x0d\0\x01\0",
    "export",
    "neither cache-registry:policy/filter@0.1.0 nor cache-registry:policy/rewrite@0.1.0, but nothing; build it for a world"
)]
fn bytes_that_are_no_policy(#[case] wasm: &[u8], #[case] reason: &str, #[case] words: &str) {
    let error = engine().compile(wasm).unwrap_err();
    assert!(error.to_string().contains(words), "{error}");
    assert_eq!(error.reason(), reason);
}

/// Wherever it is cut.
#[test]
fn a_truncated_component() {
    let (engine, whole) = (engine(), guest::filter(""));
    for length in (8..whole.len()).step_by(7) {
        let error = engine.compile(&whole[..length]).unwrap_err();
        // A cut between two sections leaves a component, with nothing in it.
        assert!(matches!(error, LoadError::Damaged(_) | LoadError::NothingToAsk(_)), "{length}: {error}");
    }
    let refusal = refusal(&whole[..whole.len() / 2]);
    assert!(refusal.starts_with("the component is cut off or damaged: "), "{refusal}");
    assert!(refusal.ends_with("; build it again, or copy it again"), "{refusal}");
}

#[test]
fn an_import_that_is_not_offered() {
    let component = r#"(component (import "wasi:http/outgoing-handler@0.2.0" (instance)))"#;
    let refusal = refusal(&wat::parse_str(component).unwrap());
    assert!(refusal.contains("imports wasi:http/outgoing-handler@0.2.0; policies are offered "), "{refusal}");
    assert!(refusal.contains("WASI 0.2 without HTTP"), "{refusal}");
}

#[test]
fn a_host_function_that_this_contract_has_not() {
    let newer = r#"(component
        (import "cache-registry:policy/host@0.1.9" (instance (export "weather" (func))))
        (instance $none) (export "cache-registry:policy/filter@0.1.9" (instance $none)))"#;
    let refusal = refusal(&wat::parse_str(newer).unwrap());
    assert!(refusal.contains("does not keep to cache-registry:policy@0.1.0"), "{refusal}");
    assert!(refusal.contains("weather"), "{refusal}");
}

#[test]
fn a_component_that_only_checks() {
    let check = r#"(func (export "cache-registry:policy/check@0.1.0#check") (result i32) (i32.const 64))"#;
    let refusal = refusal(&guest::component(&["check"], check));
    assert!(refusal.contains(", but cache-registry:policy/check@0.1.0; build it for a world"), "{refusal}");
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
    assert!(refusal.contains("does not keep to cache-registry:policy@0.1.0"), "{refusal}");
    assert!(refusal.ends_with("build it with the SDK or the WIT of this release of cache-registry"), "{refusal}");
}

#[test]
fn an_interface_without_its_function() {
    let hollow = r#"(component (instance $none) (export "cache-registry:policy/filter@0.1.0" (instance $none)))"#;
    let refusal = refusal(&wat::parse_str(hollow).unwrap());
    assert!(
        refusal.contains("does not keep to cache-registry:policy@0.1.0") && refusal.contains("filter"),
        "{refusal}"
    );
}

#[rstest]
#[case::minor_export(
    r#"(component (instance $none) (export "cache-registry:policy/filter@0.2.0" (instance $none)))"#,
    "0.2.0"
)]
#[case::major_export(
    r#"(component (instance $none) (export "cache-registry:policy/filter@1.0.0" (instance $none)))"#,
    "1.0.0"
)]
#[case::import(r#"(component (import "cache-registry:policy/host@0.2.3" (instance)))"#, "0.2.3")]
fn another_version_of_the_contract(#[case] component: &str, #[case] version: &str) {
    let refusal = refusal(&wat::parse_str(component).unwrap());
    let words = format!("the component was built for cache-registry:policy@{version}, and this host offers 0.1.0; ");
    assert!(refusal.starts_with(&words), "{refusal}");
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
#[case::trap("unreachable", "the policy was tried, and it panicked; its log may say more")]
#[case::endless(
    "(loop $forever (br $forever))",
    "the policy was tried, and it took longer than 200ms; make it do less before it answers, or raise --policy-time"
)]
fn a_check_that_does_not_return(#[case] body: &str, #[case] words: &str) {
    assert_eq!(refusal(&checking("", body)), words);
}

/// An endless loop in the module's start function, and one that wants all the memory that there is.
#[rstest]
#[case::endless("(func $start (loop $forever (br $forever))) (start $start)", "took longer than 200ms; ")]
#[case::greedy(
    "(func $start (loop $more (drop (memory.grow (i32.const 16))) (br $more))) (start $start)",
    "wanted more than 8 MiB of memory; make it use less, or raise --policy-memory"
)]
fn a_start_that_does_not_end(#[case] start: &str, #[case] words: &str) {
    let filter = format!(
        "(func (export \"cache-registry:policy/filter@0.1.0#filter\") (param{}) (result i32) unreachable)",
        " i32".repeat(15)
    );
    let refusal = refusal(&guest::component(&["filter"], &format!("{start} {filter}")));
    assert!(refusal.starts_with("the policy was tried, and it ") && refusal.contains(words), "{refusal}");
}

const EXPORTS: &str = r#"(instance $none) (export "cache-registry:policy/filter@0.1.0" (instance $none))"#;

#[rstest]
#[case::memory(
    "(core module (memory 1000))",
    "begins with 63 MiB of memory, and a policy has 8 MiB; raise --policy-memory"
)]
#[case::memories(
    "(core module $m (memory 1)) (core instance (instantiate $m)) (core instance (instantiate $m))",
    "linear memories"
)]
#[case::tables(
    "(core module (table 1 funcref) (table 1 funcref) (table 1 funcref) (table 1 funcref) (table 1 funcref) \
    (table 1 funcref) (table 1 funcref))",
    "tables"
)]
#[case::imports(&(0..300).map(|i| ["(import \"a:b/c", &i.to_string(), "\" (func))"].concat()).collect::<String>(), "imports more than 200 things")]
fn what_no_instance_gets(#[case] fields: &str, #[case] words: &str) {
    let refusal = refusal(&wat::parse_str(format!("(component {fields} {EXPORTS})")).unwrap());
    assert!(refusal.contains(words), "{refusal}");
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
