use std::collections::BTreeMap;

use bytes::Bytes;
use cache_registry_api::policy_keys::{
    ALL, BUILT_IN, COMPONENT, ENABLED, IMAGE, LEAVE, ON_ERROR, PASS, PRIORITY, PULL_SECRET, SETTINGS,
};
use cache_registry_core::Reference;
use cache_registry_policy::{OnError, built_in};
use k8s_openapi::api::core::v1::ConfigMap;

use crate::{Refusal, settings_json};

/// What a `ConfigMap` says of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// The policy's name: the `ConfigMap`'s, or the built-in policy's.
    pub name: String,
    /// Where the policy's code comes from.
    pub source: Source,
    /// JSON, or empty.
    pub settings: String,
    /// Policies are asked in the order of their priority, then of their name.
    pub priority: i32,
    /// What becomes of an image when the policy fails.
    pub on_error: OnError,
    /// False where the policy is to be left out of the set.
    pub enabled: bool,
}

/// Where the code of a policy comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The `ConfigMap` holds a component, which may be compressed.
    Inline(Bytes),
    /// A registry holds it.
    Image(Image),
    /// It is the built-in policy of this name.
    BuiltIn(&'static str),
}

/// A component in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its reference.
    pub reference: Reference,
    /// The Secret with credentials for it, in the `ConfigMap`'s namespace.
    pub pull_secret: Option<String>,
}

/// The priority of the built-in policies, and the highest: they are asked last.
pub const BUILT_IN_PRIORITY: i32 = 1_000_000;

/// Reads a `ConfigMap`, whatever is in it. The component is neither decompressed nor looked at.
pub fn decode(configmap: ConfigMap) -> Result<Declaration, Refusal> {
    let name = configmap.metadata.name.unwrap_or_default();
    let mut keys = Keys::new(configmap.data.unwrap_or_default(), configmap.binary_data.unwrap_or_default())?;
    let source = keys.source()?;
    let is_built_in = matches!(source, Source::BuiltIn(_));
    if !is_built_in && built_in::NAMES.contains(&name.as_str()) {
        let words = format_args!(
            "a policy of one's own cannot be called {name}, which is built in: give the ConfigMap another name, or \
             replace its source by `{BUILT_IN}: {name}`"
        );
        return Err(Refusal::new("name", words));
    }
    Ok(Declaration {
        name: if let Source::BuiltIn(built_in) = source { built_in.to_owned() } else { name },
        settings: keys.take(SETTINGS).map_or(Ok(String::new()), |text| settings_json(&text))?,
        priority: keys.priority(if is_built_in { BUILT_IN_PRIORITY } else { 0 })?,
        on_error: keys.one_of(ON_ERROR, "on-error", [(LEAVE, OnError::Leave), (PASS, OnError::Pass)])?,
        enabled: keys.one_of(ENABLED, "enabled", [("true", true), ("false", false)])?,
        source,
    })
}

/// What is in a `ConfigMap`, known keys only.
struct Keys {
    texts: BTreeMap<String, String>,
    component: Option<Bytes>,
}

impl Keys {
    fn new(
        mut texts: BTreeMap<String, String>,
        mut binaries: BTreeMap<String, k8s_openapi::ByteString>,
    ) -> Result<Self, Refusal> {
        // kubectl puts a file that is valid UTF-8 into `data`, which a component can be by accident.
        let component = binaries.remove(COMPONENT).map(|bytes| bytes.0);
        let component = component.or_else(|| texts.remove(COMPONENT).map(String::into_bytes));
        if let Some(key) = binaries.keys().find(|key| ALL.contains(&key.as_str())) {
            let words = format_args!("{key} is in binaryData: it has to be a text, in data");
            return Err(Refusal::new("keys", words));
        }
        let mut unknown = texts.keys().chain(binaries.keys()).filter(|key| !ALL.contains(&key.as_str()));
        if let Some(key) = unknown.next() {
            let words = format_args!("{key} is no key of a policy: it has to be one of {}", ALL.join(", "));
            return Err(Refusal::new("keys", words));
        }
        Ok(Self { texts, component: component.map(Bytes::from) })
    }

    /// Takes a key out.
    fn take(&mut self, key: &str) -> Option<String> {
        self.texts.remove(key)
    }

    fn source(&mut self) -> Result<Source, Refusal> {
        let (image, built_in, pull_secret) = (self.take(IMAGE), self.take(BUILT_IN), self.take(PULL_SECRET));
        if pull_secret.is_some() && image.is_none() {
            let words = format_args!("{PULL_SECRET} goes with {IMAGE}, which is not there: remove it");
            return Err(Refusal::new("pull-secret", words));
        }
        match (self.component.take(), image, built_in) {
            (Some(component), None, None) => Ok(Source::Inline(component)),
            (None, Some(image), None) => Ok(Source::Image(image_of(&image, pull_secret.as_deref())?)),
            (None, None, Some(name)) => Ok(Source::BuiltIn(built_in_of(name.trim())?)),
            (None, None, None) => Err(Refusal::new(
                "source",
                format_args!(
                    "it holds no policy: put a component into binaryData under {COMPONENT} (kubectl create configmap \
                     NAME --from-file={COMPONENT}=FILE), or name one by {IMAGE} or {BUILT_IN}"
                ),
            )),
            _ => Err(Refusal::new(
                "source",
                format_args!("it has more than one of {COMPONENT}, {IMAGE} and {BUILT_IN}: keep the one that is meant"),
            )),
        }
    }

    fn priority(&mut self, default: i32) -> Result<i32, Refusal> {
        let Some(text) = self.take(PRIORITY) else { return Ok(default) };
        let range = -BUILT_IN_PRIORITY..=BUILT_IN_PRIORITY;
        text.trim().parse().ok().filter(|priority| range.contains(priority)).ok_or_else(|| {
            let words = format_args!(
                "{PRIORITY} is {}: it has to be a whole number from {} to {}, in quotes",
                quoted(&text),
                range.start(),
                range.end()
            );
            Refusal::new("priority", words)
        })
    }

    /// The meaning of a key that has two values, of which the first is what a missing key means.
    fn one_of<T: Copy>(
        &mut self,
        key: &str,
        reason: &'static str,
        [first, second]: [(&str, T); 2],
    ) -> Result<T, Refusal> {
        match self.take(key) {
            None => Ok(first.1),
            Some(text) if text.trim() == first.0 => Ok(first.1),
            Some(text) if text.trim() == second.0 => Ok(second.1),
            Some(text) => {
                let words = format_args!("{key} is {}: it has to be {:?} or {:?}", quoted(&text), first.0, second.0);
                Err(Refusal::new(reason, words))
            }
        }
    }
}

fn image_of(image: &str, pull_secret: Option<&str>) -> Result<Image, Refusal> {
    let reference = image.trim().parse().map_err(|error| {
        Refusal::new("image-reference", format_args!("{IMAGE}: {error}; for example reg.example/policies/mine:1.0"))
    })?;
    let pull_secret = pull_secret.map(|name| {
        let name = name.trim();
        let is_name = is_object_name(name).then(|| name.to_owned());
        let words = format_args!("{PULL_SECRET} is {}: it has to be the name of a Secret", quoted(name));
        is_name.ok_or_else(|| Refusal::new("pull-secret", words))
    });
    Ok(Image { reference, pull_secret: pull_secret.transpose()? })
}

fn built_in_of(name: &str) -> Result<&'static str, Refusal> {
    built_in::NAMES.into_iter().find(|known| *known == name).ok_or_else(|| {
        let known = built_in::NAMES.join(" or ");
        Refusal::new("built-in", format_args!("{BUILT_IN} is {}: it has to be {known}", quoted(name)))
    })
}

/// True for what names most objects of Kubernetes: a DNS subdomain
/// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names>).
pub(crate) fn is_object_name(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-'))
    };
    name.len() <= 253 && name.split('.').all(is_part)
}

/// A text that may be anything, short enough to be shown.
fn quoted(text: &str) -> String {
    let mut chars = text.trim().chars();
    let start: String = chars.by_ref().take(40).collect();
    format!("{start:?}{}", if chars.next().is_some() { "…" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;
    use rstest::rstest;
    use serde_json::json;

    fn configmap(content: &serde_json::Value) -> ConfigMap {
        let mut configmap: ConfigMap = serde_json::from_value(content.clone()).unwrap();
        configmap.metadata.name = Some("mine".to_owned());
        configmap
    }

    #[test]
    fn a_component_needs_nothing_else() {
        let declared = decode(configmap(&json!({ "binaryData": { "policy.wasm": "AGFzbQ==" } }))).unwrap();
        assert_eq!(
            declared,
            Declaration {
                name: "mine".to_owned(),
                source: Source::Inline(Bytes::from_static(b"\0asm")),
                settings: String::new(),
                priority: 0,
                on_error: OnError::Leave,
                enabled: true,
            }
        );
    }

    #[test]
    fn every_key_is_read() {
        let content = json!({ "data": {
            "image": "reg.example/policies/skip@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n",
            "pullSecret": "regcred",
            "settings": "namespaces: [dev]\n",
            "priority": "-7\n",
            "onError": "pass",
            "enabled": "false",
        }});
        let declared = decode(configmap(&content)).unwrap();
        let Source::Image(image) = declared.source else { panic!("no image") };
        assert_eq!(image.reference.repository(), "policies/skip");
        assert!(image.reference.digest().is_some());
        assert_eq!(image.pull_secret.as_deref(), Some("regcred"));
        assert_eq!(declared.settings, r#"{"namespaces":["dev"]}"#);
        assert_eq!((declared.priority, declared.on_error, declared.enabled), (-7, OnError::Pass, false));
    }

    #[test]
    fn a_built_in_policy_keeps_its_name_and_its_place() {
        let declared = decode(configmap(&json!({ "data": { "builtIn": "default-filter" } }))).unwrap();
        assert_eq!((declared.name.as_str(), declared.priority), ("default-filter", BUILT_IN_PRIORITY));
        assert_eq!(declared.source, Source::BuiltIn("default-filter"));
        let early = json!({ "data": { "builtIn": "default-filter", "priority": "3" } });
        assert_eq!(decode(configmap(&early)).unwrap().priority, 3);
    }

    #[test]
    fn a_component_that_kubectl_took_for_a_text_is_one() {
        let declared = decode(configmap(&json!({ "data": { "policy.wasm": "\u{0}asm" } }))).unwrap();
        assert_eq!(declared.source, Source::Inline(Bytes::from_static(b"\0asm")));
    }

    #[rstest]
    #[case::nothing(json!({}), "source", "policy.wasm")]
    #[case::settings_alone(json!({ "data": { "settings": "a: 1" } }), "source", "policy.wasm")]
    #[case::two(json!({ "data": { "image": "a", "builtIn": "default-filter" } }), "source", "more than one")]
    #[case::two(json!({ "data": { "image": "a" }, "binaryData": { "policy.wasm": "" } }), "source", "more than one")]
    #[case::unknown(json!({ "data": { "builtIn": "default-filter", "prioriti": "1" } }), "keys", "prioriti is no key")]
    #[case::unknown(json!({ "binaryData": { "mine.wasm": "AA==" } }), "keys", "policy.wasm, image, builtIn")]
    #[case::binary(json!({ "binaryData": { "settings": "AA==" } }), "keys", "has to be a text")]
    #[case::built_in(json!({ "data": { "builtIn": "filter" } }), "built-in", "default-filter or default-rewrite")]
    #[case::image(json!({ "data": { "image": "No Reference" } }), "image-reference", "for example")]
    #[case::secret(json!({ "data": { "builtIn": "default-filter", "pullSecret": "a" } }), "pull-secret", "remove it")]
    #[case::secret(json!({ "data": { "image": "a", "pullSecret": "../pods/a" } }), "pull-secret", "name of a Secret")]
    #[case::priority(json!({ "data": { "image": "a", "priority": "first" } }), "priority", "whole number")]
    #[case::priority(json!({ "data": { "image": "a", "priority": "1000001" } }), "priority", "-1000000 to 1000000")]
    #[case::priority(json!({ "data": { "image": "a", "priority": "" } }), "priority", "whole number")]
    #[case::on_error(json!({ "data": { "image": "a", "onError": "ignore" } }), "on-error", r#""leave" or "pass""#)]
    #[case::enabled(json!({ "data": { "image": "a", "enabled": "no" } }), "enabled", r#""true" or "false""#)]
    #[case::settings(json!({ "data": { "image": "a", "settings": "a:\n  - b\n c: d" } }), "settings", "line 3")]
    fn what_is_wrong_is_told(#[case] content: serde_json::Value, #[case] reason: &str, #[case] words: &str) {
        let refusal = decode(configmap(&content)).unwrap_err();
        assert_eq!(refusal.reason(), reason, "{refusal}");
        assert!(refusal.to_string().contains(words), "{words:?} is not in {refusal}");
    }

    #[test]
    fn the_name_of_a_built_in_policy_is_taken() {
        let mut configmap = configmap(&json!({ "binaryData": { "policy.wasm": "AGFzbQ==" } }));
        configmap.metadata.name = Some("default-rewrite".to_owned());
        let refusal = decode(configmap).unwrap_err();
        assert_eq!(refusal.reason(), "name");
        assert!(refusal.to_string().contains("`builtIn: default-rewrite`"), "{refusal}");
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(
            name in proptest::option::of("\\PC{0,10}"),
            data in proptest::option::of(proptest::collection::btree_map(any_key(), "\\PC{0,30}", 0..5)),
            binary in proptest::option::of(proptest::collection::btree_map(any_key(), proptest::prelude::any::<Vec<u8>>(), 0..3)),
        ) {
            let binary_data = binary.map(|binary| binary.into_iter().map(|(key, bytes)| (key, ByteString(bytes))).collect());
            let mut configmap = ConfigMap { data, binary_data, ..ConfigMap::default() };
            configmap.metadata.name = name;
            if let Err(refusal) = decode(configmap) {
                proptest::prop_assert!(!refusal.to_string().is_empty());
            }
        }
    }

    fn any_key() -> impl proptest::strategy::Strategy<Value = String> {
        use proptest::prelude::*;
        prop_oneof![4 => proptest::sample::select(ALL.as_slice()).prop_map(ToOwned::to_owned), 1 => "\\PC{0,10}"]
    }
}
