//! Guests by hand: a module with the canonical ABI's names, written for one behaviour, and made a component by the
//! contract's own text. No toolchain is needed, and a guest can do what none would let it.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a guest that cannot be made is a mistake in its text"
)]

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A component that exports `interfaces` of the contract, made from a module with `fields`.
///
/// The module has a memory, an allocator, the host functions `$log`, `$settings` and `$json`, and `$drop_pod`, which
/// every function that is given a pod must call.
pub fn component(interfaces: &[&str], fields: &str) -> Vec<u8> {
    let exports: Vec<_> = interfaces.iter().map(|name| format!("export cache-registry:policy/{name}@0.1.0;")).collect();
    let exports = exports.concat();
    let world = format!(
        "package test:guest; world guest {{ import cache-registry:policy/host@0.1.0; \
         import cache-registry:policy/types@0.1.0; {exports} }}"
    );
    encode(&world, &module(fields))
}

/// A module that becomes a component of `world`, a text that may refer to the contract.
pub fn encode(world: &str, module: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    resolve.push_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit")).unwrap();
    encode_in(resolve, world, module)
}

/// The same, where the contract is a text.
pub fn encode_by(contract: &str, world: &str, module: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    resolve.push_str("contract.wit", contract).unwrap();
    encode_in(resolve, world, module)
}

fn encode_in(mut resolve: Resolve, world: &str, module: &str) -> Vec<u8> {
    let package = resolve.push_str("guest.wit", world).unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    let mut module = wat::parse_str(module).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

/// A filter that does `body` before it answers `pass`.
pub fn filter(body: &str) -> Vec<u8> {
    component(&["filter"], &filter_fields(body))
}

/// A filter that gives one answer.
pub fn filter_answering(answer: &Answer<'_>) -> Vec<u8> {
    component(&["filter"], &format!("{} {}", answer.data(), filter_fields("")))
}

/// A rewriter that gives one answer.
pub fn rewriter_answering(answer: &Answer<'_>) -> Vec<u8> {
    component(&["rewrite"], &format!("{} {}", answer.data(), rewrite_fields("")))
}

/// A component that does both.
pub fn filter_and_rewriter(data: &str, filter: &str, rewrite: &str) -> Vec<u8> {
    component(&["filter", "rewrite"], &format!("{data} {} {}", filter_fields(filter), rewrite_fields(rewrite)))
}

/// The function of the interface `filter`: the handle of a pod, a container in four parts and an image in ten go in;
/// where the answer is, in memory, comes out. Zeros there are `pass`.
fn filter_fields(body: &str) -> String {
    function("cache-registry:policy/filter@0.1.0#filter", body)
}

fn rewrite_fields(body: &str) -> String {
    function("cache-registry:policy/rewrite@0.1.0#rewrite", body)
}

fn function(name: &str, body: &str) -> String {
    let params = " i32".repeat(14);
    format!(
        "(func (export \"{name}\") (param $pod i32) (param{params}) (result i32)
           {body}
           (call $drop_pod (local.get $pod))
           (i32.const 64))"
    )
}

fn module(fields: &str) -> String {
    format!(
        r#"(module
             (import "cache-registry:policy/types@0.1.0" "[resource-drop]pod" (func $drop_pod (param i32)))
             (import "cache-registry:policy/types@0.1.0" "[method]pod.json" (func $json (param i32 i32)))
             (import "cache-registry:policy/host@0.1.0" "log" (func $log (param i32 i32 i32)))
             (import "cache-registry:policy/host@0.1.0" "settings" (func $settings (param i32)))
             (memory (export "memory") 1)
             (global $heap (mut i32) (i32.const 4096))
             (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
               (global.get $heap)
               (global.set $heap (i32.and (i32.add (global.get $heap) (i32.add (local.get $size) (i32.const 7))) (i32.const -8)))
               (loop $more
                 (if (i32.gt_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536)))
                   (then
                     (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
                     (br $more)))))
             {fields})"#
    )
}

/// An answer as it lies in a guest's memory, at 64 and with its texts from 1024.
#[derive(Debug, Clone, Copy)]
pub enum Answer<'a> {
    /// A filter's `pass`.
    Pass,
    /// A filter's `cache`.
    Cache,
    /// A filter's `ignore`.
    Ignore(&'a str),
    /// A rewriter that has nothing to say.
    NoOpinion,
    /// A rewriter's references.
    Rewritten {
        /// What the node pulls.
        image: &'a str,
        /// Where the cache fetches it from.
        source: &'a str,
    },
    /// The error of a rewriter, or of `check`.
    Error(&'a str),
}

impl Answer<'_> {
    /// It as data segments of the guest's module.
    pub fn data(&self) -> String {
        match self {
            Self::Pass => record(&[0], &[]),
            Self::Cache => record(&[1], &[]),
            Self::Ignore(reason) => record(&[2], &[reason]),
            Self::NoOpinion => record(&[0, 0], &[]),
            Self::Rewritten { image, source } => record(&[0, 1], &[image, source]),
            Self::Error(text) => record(&[1], &[text]),
        }
    }
}

/// Words, then a pointer and a length for each text.
fn record(words: &[u32], texts: &[&str]) -> String {
    let (mut words, mut bytes) = (words.to_vec(), String::new());
    for text in texts {
        words.extend([1024 + u32::try_from(bytes.len()).unwrap(), u32::try_from(text.len()).unwrap()]);
        bytes.push_str(text);
    }
    let escaped =
        |bytes: &[u8]| bytes.iter().flat_map(|byte| ["\\".to_owned(), format!("{byte:02x}")]).collect::<String>();
    let words: Vec<_> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    format!("(data (i32.const 64) \"{}\") (data (i32.const 1024) \"{}\")", escaped(&words), escaped(bytes.as_bytes()))
}
