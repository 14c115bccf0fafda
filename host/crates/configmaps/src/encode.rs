use std::fmt::Write as _;
use std::io::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cache_registry_api::labels::{POLICY_LABEL, POLICY_VALUE};
use cache_registry_api::policy_keys::{COMPONENT, IMAGE, LEAVE, ON_ERROR, PASS, PRIORITY, SETTINGS};
use cache_registry_policy::{OnError, built_in};
use flate2::{Compression, GzBuilder};
use serde_json::json;

use crate::declaration::{BUILT_IN_PRIORITY, is_object_name};
use crate::settings_json;

/// A policy for which a `ConfigMap` is to be written.
#[derive(Debug, Clone, Copy)]
pub struct NewConfigMap<'a> {
    /// Its name, and the policy's.
    pub name: &'a str,
    /// The release's namespace; without it, kubectl decides.
    pub namespace: Option<&'a str>,
    /// The component, which may be compressed.
    pub component: &'a [u8],
    /// YAML or JSON.
    pub settings: Option<&'a str>,
    /// The policy's place in the set.
    pub priority: Option<i32>,
    /// What becomes of an image when the policy fails.
    pub on_error: Option<OnError>,
}

/// Why no `ConfigMap` can be written, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// Kubernetes would not take the name.
    #[error("{0:?} cannot name a ConfigMap: use at most 253 of a to z, 0 to 9, - and .")]
    Name(String),
    /// The name is taken.
    #[error("a policy of one's own cannot be called {0}, which is built in: choose another name")]
    BuiltIn(String),
    /// Kubernetes would not take the namespace.
    #[error("{0:?} is no namespace")]
    Namespace(String),
    /// The policy would be refused.
    #[error("{0} is no priority: it is from -{BUILT_IN_PRIORITY} to {BUILT_IN_PRIORITY}")]
    Priority(i32),
    /// The policy would be refused.
    #[error(transparent)]
    Settings(crate::Refusal),
    /// It does not fit.
    #[error(
        "the policy has {size} bytes, even compressed, and a ConfigMap holds {LARGEST}: push it to a registry \
         (`cache-registry policy push FILE REFERENCE`) and name it in a ConfigMap, `data.{IMAGE}: REFERENCE`"
    )]
    TooLarge {
        /// What the values of the `ConfigMap` would have together.
        size: usize,
    },
    /// Memory does not run out of space, and does not hang up.
    #[error(transparent)]
    Compress(#[from] io::Error),
}

/// What the values of a `ConfigMap` may have together
/// (<https://kubernetes.io/docs/concepts/configuration/configmap/#motivation>).
const LARGEST: usize = 1 << 20;

/// The longest annotations, one of which `kubectl apply` makes of the whole object
/// (<https://kubernetes.io/docs/reference/using-api/server-side-apply/#migration-between-client-side-and-server-side-apply>).
const LONGEST_ANNOTATIONS: usize = 256 << 10;

/// What else is in that annotation, and in others.
const OTHER_ANNOTATIONS: usize = 4 << 10;

/// The YAML of a policy's `ConfigMap`, the same for the same policy. The component is compressed where that makes it
/// fit.
pub fn encode(new: &NewConfigMap<'_>) -> Result<String, EncodeError> {
    if !is_object_name(new.name) {
        return Err(EncodeError::Name(new.name.to_owned()));
    }
    if built_in::NAMES.contains(&new.name) {
        return Err(EncodeError::BuiltIn(new.name.to_owned()));
    }
    if let Some(namespace) = new.namespace.filter(|namespace| !is_object_name(namespace)) {
        return Err(EncodeError::Namespace(namespace.to_owned()));
    }
    if let Some(priority) = new.priority.filter(|priority| priority.abs() > BUILT_IN_PRIORITY) {
        return Err(EncodeError::Priority(priority));
    }
    settings_json(new.settings.unwrap_or_default()).map_err(EncodeError::Settings)?;

    if fits_annotation(new) {
        return Ok(yaml(new, new.component));
    }
    let compressed = gzip(new.component)?;
    let smaller = NewConfigMap { component: smaller(new.component, &compressed), ..*new };
    if fits_annotation(&smaller) {
        return Ok(yaml(new, smaller.component));
    }
    let size = smaller.component.len() + new.settings.map_or(0, str::len);
    if size > LARGEST {
        return Err(EncodeError::TooLarge { size });
    }
    let yaml = yaml(new, smaller.component);
    Ok(format!(
        "# It is too large for what `kubectl apply` notes beside it: use `kubectl apply --server-side -f FILE`.\n{yaml}"
    ))
}

/// One that is compressed already does not become smaller.
fn smaller<'a>(one: &'a [u8], other: &'a [u8]) -> &'a [u8] {
    if other.len() < one.len() { other } else { one }
}

fn fits_annotation(new: &NewConfigMap<'_>) -> bool {
    let base64 = new.component.len().div_ceil(3) * 4;
    let settings = json!(new.settings.unwrap_or_default()).to_string().len();
    base64 + settings + OTHER_ANNOTATIONS <= LONGEST_ANNOTATIONS
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    // No name and no time: the same component gives the same bytes.
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Written by hand, so that settings stay readable.
fn yaml(new: &NewConfigMap<'_>, component: &[u8]) -> String {
    let mut yaml = format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {}\n", json!(new.name));
    let mut line = |line: std::fmt::Arguments<'_>| {
        // A string has room for everything.
        let _ = writeln!(yaml, "{line}");
    };
    if let Some(namespace) = new.namespace {
        line(format_args!("  namespace: {}", json!(namespace)));
    }
    line(format_args!("  labels:\n    {POLICY_LABEL}: {}", json!(POLICY_VALUE)));
    if new.priority.is_some() || new.on_error.is_some() || new.settings.is_some() {
        line(format_args!("data:"));
    }
    if let Some(priority) = new.priority {
        line(format_args!("  {PRIORITY}: \"{priority}\""));
    }
    if let Some(on_error) = new.on_error {
        let value = match on_error {
            OnError::Leave => LEAVE,
            OnError::Pass => PASS,
        };
        line(format_args!("  {ON_ERROR}: {value}"));
    }
    if let Some(settings) = new.settings {
        line(format_args!("  {SETTINGS}: {}", block(settings).unwrap_or_else(|| json!(settings).to_string())));
    }
    line(format_args!("binaryData:\n  {COMPONENT}: {}", BASE64.encode(component)));
    yaml
}

/// A text as a literal block of YAML, four columns in; `None` for one that it would change.
fn block(text: &str) -> Option<String> {
    let (text, style) = match text.strip_suffix('\n') {
        Some(text) => (text, "|"),
        None => (text, "|-"),
    };
    let is_plain = |c: char| matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}');
    let starts_well = text.chars().next().is_some_and(|c| !c.is_whitespace());
    let is_blank = |line: &str| !line.is_empty() && line.trim().is_empty();
    if !starts_well || text.ends_with('\n') || !text.chars().all(is_plain) || text.lines().any(is_blank) {
        return None;
    }
    let indented = text.split('\n').map(|line| if line.is_empty() { "\n".to_owned() } else { format!("\n    {line}") });
    Some(format!("{style}{}", indented.collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Source, decode, decompress};
    use rstest::rstest;

    const SMALL: NewConfigMap<'_> = NewConfigMap {
        name: "skip-dev",
        namespace: None,
        component: b"\0asm",
        settings: None,
        priority: None,
        on_error: None,
    };

    /// Bytes that do not compress.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 7_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    fn component_of(yaml: &str) -> Vec<u8> {
        let Source::Inline(component) = decode(serde_saphyr::from_str(yaml).unwrap()).unwrap().source else {
            panic!("no component")
        };
        decompress(component).unwrap().to_vec()
    }

    #[test]
    fn a_small_policy_reads_well() {
        let new = NewConfigMap {
            namespace: Some("cache-registry-system"),
            settings: Some("# ours\nnamespaces:\n  - dev\n\n  - test\n"),
            priority: Some(-5),
            on_error: Some(OnError::Pass),
            ..SMALL
        };
        insta::assert_snapshot!(encode(&new).unwrap(), @r#"
        apiVersion: v1
        kind: ConfigMap
        metadata:
          name: "skip-dev"
          namespace: "cache-registry-system"
          labels:
            cache-registry.enix.io/policy: "true"
        data:
          priority: "-5"
          onError: pass
          settings: |
            # ours
            namespaces:
              - dev

              - test
        binaryData:
          policy.wasm: AGFzbQ==
        "#);
        insta::assert_snapshot!(encode(&SMALL).unwrap(), @r#"
        apiVersion: v1
        kind: ConfigMap
        metadata:
          name: "skip-dev"
          labels:
            cache-registry.enix.io/policy: "true"
        binaryData:
          policy.wasm: AGFzbQ==
        "#);
    }

    #[test]
    fn a_policy_is_compressed_where_that_makes_it_fit() {
        let compressible = [noise(100 << 10), vec![0; 800 << 10]].concat();
        let yaml = encode(&NewConfigMap { component: &compressible, ..SMALL }).unwrap();
        assert!(yaml.len() < LONGEST_ANNOTATIONS && yaml.starts_with("apiVersion"), "{} bytes", yaml.len());
        assert!(component_of(&yaml) == compressible);
        assert_eq!(encode(&NewConfigMap { component: &compressible, ..SMALL }).unwrap(), yaml);

        let small = encode(&NewConfigMap { component: &vec![0; 100_000], ..SMALL }).unwrap();
        assert!(small.len() > 100_000, "compressed without need");
    }

    #[test]
    fn one_that_kubectl_apply_cannot_note_says_how_it_is_applied() {
        let large = noise(900 << 10);
        let yaml = encode(&NewConfigMap { component: &large, ..SMALL }).unwrap();
        assert!(yaml.lines().next().unwrap().contains("kubectl apply --server-side"));
        assert!(component_of(&yaml) == large);
    }

    #[test]
    fn one_that_cannot_fit_is_sent_to_a_registry() {
        let refused = encode(&NewConfigMap { component: &noise(LARGEST + 1), ..SMALL }).unwrap_err().to_string();
        assert!(refused.contains("policy push") && refused.contains("data.image"), "{refused}");
        let settings = format!("{:?}", "x".repeat(200 << 10));
        let both = NewConfigMap { component: &noise(900 << 10), settings: Some(&settings), ..SMALL };
        assert!(matches!(encode(&both), Err(EncodeError::TooLarge { .. })));
    }

    #[rstest]
    #[case(NewConfigMap { name: "Upper", ..SMALL }, "cannot name")]
    #[case(NewConfigMap { name: "", ..SMALL }, "cannot name")]
    #[case(NewConfigMap { name: "a/b", ..SMALL }, "cannot name")]
    #[case(NewConfigMap { name: "default-filter", ..SMALL }, "built in")]
    #[case(NewConfigMap { namespace: Some("a b"), ..SMALL }, "namespace")]
    #[case(NewConfigMap { priority: Some(1_000_001), ..SMALL }, "priority")]
    #[case(NewConfigMap { priority: Some(i32::MIN + 1), ..SMALL }, "priority")]
    #[case(NewConfigMap { settings: Some("a: b: c"), ..SMALL }, "line 1")]
    fn what_would_be_refused_is_not_written(#[case] new: NewConfigMap<'_>, #[case] words: &str) {
        let error = encode(&new).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_again(
            name in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?",
            component: Vec<u8>,
            priority in proptest::option::of(-BUILT_IN_PRIORITY..=BUILT_IN_PRIORITY),
            lines in proptest::collection::vec("[ -~\\t]{0,12}|\\PC{0,6}", 0..6),
            end in 0..3_usize,
        ) {
            // As a text of JSON every text is settings.
            let text = lines.join("\n") + &"\n".repeat(end);
            let settings = serde_json::to_string(&text).unwrap();
            let new = NewConfigMap { name: &name, namespace: None, component: &component, settings: Some(&settings), priority, on_error: None };
            let configmap = serde_saphyr::from_str(&encode(&new).unwrap()).unwrap();
            let declared = decode(configmap).unwrap();
            proptest::prop_assert_eq!(declared.settings, settings);
            proptest::prop_assert_eq!(declared.priority, priority.unwrap_or_default());
            proptest::prop_assert_eq!(declared.source, Source::Inline(component.into()));
        }

        #[test]
        fn a_block_keeps_every_text(lines in proptest::collection::vec("[ -~]{0,12}|\\PC{0,6}", 0..6), end in 0..3_usize) {
            let text = lines.join("\n") + &"\n".repeat(end);
            if let Some(block) = block(&text) {
                let read: std::collections::BTreeMap<String, String> =
                    serde_saphyr::from_str(&format!("{SETTINGS}: {block}\nmore: x\n")).unwrap();
                proptest::prop_assert_eq!(&read[SETTINGS], &text);
            }
        }
    }
}
