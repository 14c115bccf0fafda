use std::collections::BTreeMap;

use bytes::Bytes;
use cache_registry_core::{Digest, Hasher, parse_digest};
use serde::{Deserialize, Serialize};

use crate::Manifest;
use crate::artifact::Interfaces;
use crate::manifest::{Blob, DOCKER_IMAGE, OCI_IMAGE};

const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const WASM: &str = "application/wasm";
/// Before the CNCF's layout (<https://github.com/engineerd/wasm-to-oci>).
const OLDER_WASM: &str = "application/vnd.wasm.content.layer.v1+wasm";
/// Under which file name `oras pull` puts a layer; it leaves out what has none.
const TITLE: &str = "org.opencontainers.image.title";
/// Of a list in an error.
const SHOWN: usize = 5;

/// The one component of an artifact. An error says in words why there is none that can be used.
pub(crate) fn component(manifest: &Manifest, largest: u64) -> Result<Blob, String> {
    let told = |problem: &str| {
        format!(
            "{} {problem}. Expected is an artifact with one layer of the type {WASM}, as `cache-registry policy push` \
             makes it, or `oras push REFERENCE policy.wasm:{WASM}`",
            manifest.digest
        )
    };
    if !matches!(manifest.media_type.as_str(), OCI_IMAGE | DOCKER_IMAGE) {
        return Err(told(&format!("is of the type {}, of which nothing is chosen", manifest.media_type)));
    }
    let listed: Listed = serde_json::from_slice(&manifest.bytes)
        .map_err(|error| told(&format!("does not have the form of a manifest: {error}")))?;
    let layers = listed.layers.unwrap_or_default();
    let wasm: Vec<_> = layers.iter().filter(|layer| matches!(layer.kind(), WASM | OLDER_WASM)).collect();
    let layer = match wasm.as_slice() {
        [layer] => layer,
        [] => return Err(told(&listed.config.without_wasm(&layers))),
        several => return Err(told(&format!("has {} components, of which none is chosen", several.len()))),
    };
    if layer.size > largest {
        return Err(format!(
            "the component of {} has {} bytes, and at most {largest} are taken. Build it smaller: optimised for size, \
             without debug information",
            manifest.digest, layer.size
        ));
    }
    let digest =
        parse_digest(&layer.digest).map_err(|error| told(&format!("has a layer without a digest: {error}")))?;
    Ok(Blob { digest, size: layer.size, is_foreign: false })
}

/// The parts of a manifest that are looked at.
#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    config: ListedPart,
    layers: Option<Vec<ListedPart>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ListedPart {
    media_type: Option<String>,
    digest: String,
    size: u64,
}

impl ListedPart {
    fn kind(&self) -> &str {
        self.media_type.as_deref().unwrap_or_default()
    }

    /// Of an artifact's configuration: what it is, when there is no Wasm in it.
    fn without_wasm(&self, layers: &[Self]) -> String {
        let is_image = matches!(
            self.kind(),
            "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"
        );
        let kinds: Vec<_> = layers.iter().take(SHOWN).map(Self::kind).collect();
        let kinds = if kinds.is_empty() { "none at all".to_owned() } else { kinds.join(", ") };
        let what = if is_image { "is a container image" } else { "has no component" };
        format!("{what}: its layers are {kinds}")
    }
}

/// A component as it is put into a registry.
pub(crate) struct Layout {
    pub(crate) config: Bytes,
    pub(crate) manifest: Manifest,
}

/// The layout for a component in a repository.
pub(crate) fn layout(repository: &str, wasm: &[u8], interfaces: &Interfaces) -> Layout {
    let layer = Hasher::sha256(wasm);
    let config = json(&Config {
        created: "1970-01-01T00:00:00Z",
        architecture: "wasm",
        os: "wasip2",
        layer_digests: [&layer],
        component: Component { exports: &interfaces.exports, imports: &interfaces.imports },
    });
    let file = format!("{}.wasm", repository.rsplit('/').next().unwrap_or_default());
    let bytes = json(&Written {
        schema_version: 2,
        media_type: OCI_IMAGE,
        config: Part::new(CONFIG, &Hasher::sha256(&config), &config, BTreeMap::new()),
        layers: [Part::new(WASM, &layer, wasm, BTreeMap::from([(TITLE, file)]))],
    });
    let manifest = Manifest { media_type: OCI_IMAGE.to_owned(), digest: Hasher::sha256(&bytes), bytes };
    Layout { config, manifest }
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_else(|error| unreachable!("strings and numbers are JSON: {error}")).into()
}

/// The order of the fields is part of the digest.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    schema_version: u8,
    media_type: &'static str,
    config: Part,
    layers: [Part; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    media_type: &'static str,
    digest: Digest,
    size: usize,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
}

impl Part {
    fn new(
        media_type: &'static str,
        digest: &Digest,
        bytes: &[u8],
        annotations: BTreeMap<&'static str, String>,
    ) -> Self {
        Self { media_type, digest: digest.clone(), size: bytes.len(), annotations }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    /// The layout asks for it. It is no time: the same component is to have the same digest, whenever it is pushed.
    created: &'static str,
    architecture: &'static str,
    /// What the layout calls every component.
    os: &'static str,
    layer_digests: [&'a Digest; 1],
    component: Component<'a>,
}

#[derive(Serialize)]
struct Component<'a> {
    exports: &'a [String],
    imports: &'a [String],
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn manifest(media_type: &str, text: &str) -> Manifest {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        Manifest { media_type: media_type.to_owned(), digest: Hasher::sha256(&bytes), bytes }
    }

    fn of_layers(config: &str, layers: &[&str]) -> Manifest {
        let part = |kind: &&str| format!(r#"{{"mediaType":"{kind}","digest":"{DIGEST}","size":10}}"#);
        let layers = layers.iter().map(part).collect::<Vec<_>>().join(",");
        manifest(OCI_IMAGE, &format!(r#"{{"config":{},"layers":[{layers}]}}"#, part(&config)))
    }

    #[rstest]
    #[case(CONFIG, &[WASM])]
    #[case("application/vnd.oci.empty.v1+json", &[WASM])]
    #[case("application/vnd.oci.image.config.v1+json", &[WASM])]
    #[case("application/vnd.wasm.config.v1+json", &[OLDER_WASM])]
    #[case("application/vnd.oci.empty.v1+json", &["text/markdown", WASM])]
    fn the_one_layer_that_is_wasm_is_the_component(#[case] config: &str, #[case] layers: &[&str]) {
        let blob = component(&of_layers(config, layers), 10).unwrap();
        assert_eq!((blob.digest.as_ref(), blob.size), (DIGEST, 10));
    }

    #[rstest]
    #[case(CONFIG, &[WASM, WASM], "has 2 components")]
    #[case(CONFIG, &[WASM, OLDER_WASM], "has 2 components")]
    #[case("application/vnd.oci.image.config.v1+json", &["x/tar"], "is a container image: its layers are x/tar. Expected")]
    #[case("application/vnd.docker.container.image.v1+json", &[], "is a container image: its layers are none at all")]
    #[case("application/vnd.oci.empty.v1+json", &["a", "b"], "has no component: its layers are a, b")]
    fn what_holds_no_component_is_told(#[case] config: &str, #[case] layers: &[&str], #[case] part: &str) {
        let error = component(&of_layers(config, layers), 10).unwrap_err();
        assert!(error.contains(part) && error.contains("oras push"), "{error}");
    }

    #[rstest]
    #[case("application/vnd.oci.image.index.v1+json", "{}", "image.index.v1+json, of which nothing is chosen")]
    #[case(OCI_IMAGE, "[", "does not have the form of a manifest")]
    #[case(OCI_IMAGE, r#"{"layers":[{"mediaType":"application/wasm","digest":"../x","size":1}]}"#, "without a digest")]
    #[case(OCI_IMAGE, "{}", "has no component: its layers are none at all")]
    fn what_is_no_artifact_is_told(#[case] kind: &str, #[case] text: &str, #[case] part: &str) {
        let error = component(&manifest(kind, text), 10).unwrap_err();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn a_component_that_is_too_large_is_told_before_it_is_fetched() {
        let error = component(&of_layers(CONFIG, &[WASM]), 9).unwrap_err();
        assert!(error.contains("has 10 bytes, and at most 9 are taken"), "{error}");
    }

    #[test]
    fn a_component_has_the_layout_of_the_cncf_and_its_digest() {
        let interfaces = Interfaces {
            imports: vec!["cache-registry:policy/host@0.1.0".to_owned()],
            exports: vec!["cache-registry:policy/filter@0.1.0".to_owned()],
        };
        let layout = layout("team/skip-dev", b"", &interfaces);
        assert_eq!(
            layout.config,
            format!(
                r#"{{"created":"1970-01-01T00:00:00Z","architecture":"wasm","os":"wasip2","layerDigests":["{DIGEST}"],"component":{{"exports":["cache-registry:policy/filter@0.1.0"],"imports":["cache-registry:policy/host@0.1.0"]}}}}"#
            )
        );
        assert_eq!(
            layout.manifest.bytes,
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{OCI_IMAGE}","config":{{"mediaType":"application/vnd.wasm.config.v0+json","digest":"{}","size":{}}},"layers":[{{"mediaType":"application/wasm","digest":"{DIGEST}","size":0,"annotations":{{"org.opencontainers.image.title":"skip-dev.wasm"}}}}]}}"#,
                Hasher::sha256(&layout.config),
                layout.config.len()
            )
        );
        assert_eq!(component(&layout.manifest, 0).unwrap().digest.as_ref(), DIGEST);
    }
}
