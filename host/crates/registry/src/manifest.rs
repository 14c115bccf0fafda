use bytes::Bytes;
use cache_registry_core::{Digest, Platform, parse_digest};
use http::HeaderValue;
use serde::Deserialize;

/// A manifest or an index, byte for byte as the registry served it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What it was served as, without parameters: `application/vnd.oci.image.index.v1+json`.
    pub media_type: String,
    /// What its bytes were checked against.
    pub digest: Digest,
    /// Its bytes.
    pub bytes: Bytes,
}

/// What runtimes can use, as the value of `Accept`.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// What a manifest refers to
/// (<https://github.com/opencontainers/image-spec/blob/main/manifest.md>, `image-index.md` beside it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Contents {
    /// One manifest or index for each platform, and for what is attached to them.
    Index(Vec<Child>),
    /// The configuration and the layers.
    Image { config: Blob, layers: Vec<Blob> },
}

/// An index's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Child {
    pub(crate) digest: Digest,
    /// `linux/arm64/v8`; `None` where it is for no platform, such as an attestation.
    pub(crate) platform: Option<Platform>,
    /// The one that it is about: of an attestation, what it attests.
    pub(crate) about: Option<Digest>,
    /// It is an index itself.
    pub(crate) is_index: bool,
}

/// How `BuildKit` says which image an attestation is about
/// (<https://github.com/moby/buildkit/blob/master/docs/attestations/attestation-storage.md>).
const ABOUT: &str = "vnd.docker.reference.digest";

/// A configuration or a layer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// True for a layer that registries need not have, because its licence forbids it to be passed on.
    pub(crate) is_foreign: bool,
}

impl Manifest {
    /// Reads what it refers to. An error says in words why it cannot be copied.
    pub(crate) fn contents(&self) -> Result<Contents, String> {
        let raw: Raw = serde_json::from_slice(&self.bytes)
            .map_err(|error| format!("the manifest {} is not JSON: {error}", self.digest))?;
        match self.media_type.as_str() {
            OCI_INDEX | DOCKER_INDEX => {
                let entries = raw.manifests.ok_or_else(|| format!("the index {} has no manifests", self.digest))?;
                Ok(Contents::Index(entries.iter().map(RawDescriptor::child).collect::<Result<_, _>>()?))
            }
            OCI_IMAGE | DOCKER_IMAGE => {
                let config = raw.config.ok_or_else(|| format!("the manifest {} has no config", self.digest))?.blob()?;
                let layers = raw.layers.unwrap_or_default();
                Ok(Contents::Image {
                    config,
                    layers: layers.iter().map(RawDescriptor::blob).collect::<Result<_, _>>()?,
                })
            }
            other => Err(format!("the manifest {} is of the type {other}, which no runtime pulls", self.digest)),
        }
    }
}

/// The media type of a manifest: what it was served as and what it says of itself, which must agree
/// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests>).
pub(crate) fn media_type(content_type: Option<&HeaderValue>, bytes: &[u8]) -> Result<String, String> {
    let raw: Raw = serde_json::from_slice(bytes).map_err(|error| format!("the manifest is not JSON: {error}"))?;
    let served = content_type.and_then(|value| value.to_str().ok()).and_then(|value| value.split(';').next());
    let served = served.map(|value| value.trim().to_ascii_lowercase());
    // A server that knows nothing of manifests says one of these.
    let served = served
        .filter(|kind| !matches!(kind.as_str(), "" | "application/json" | "application/octet-stream" | "text/plain"));
    let is_first_schema = raw.schema_version == Some(1)
        || served.as_deref().is_some_and(|kind| kind.starts_with("application/vnd.docker.distribution.manifest.v1"));
    if is_first_schema {
        return Err(
            "it is a Docker manifest of schema 1, which no runtime pulls any more: push the image again with a \
                    tool of today"
                .to_owned(),
        );
    }
    match (served, raw.media_type) {
        (Some(served), Some(own)) if served != own => {
            Err(format!("the manifest is served as {served} and says that it is {own}"))
        }
        (Some(served), _) => Ok(served),
        (None, Some(own)) => Ok(own),
        (None, None) if raw.manifests.is_some() => Ok(OCI_INDEX.to_owned()),
        (None, None) if raw.config.is_some() => Ok(OCI_IMAGE.to_owned()),
        (None, None) => Err("neither the answer nor the manifest says of which type it is".to_owned()),
    }
}

/// The platform that an image's configuration names.
pub(crate) fn config_platform(config: &[u8]) -> Option<Platform> {
    serde_json::from_slice::<RawPlatform>(config).ok()?.platform()
}

/// The parts of manifests and indexes that are looked at; all else is passed on unread.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<RawPlatform>,
    #[serde(default)]
    annotations: serde_json::Value,
}

#[derive(Deserialize)]
struct RawPlatform {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
}

impl RawDescriptor {
    fn digest(&self) -> Result<Digest, String> {
        parse_digest(&self.digest).map_err(|error| error.to_string())
    }

    fn child(&self) -> Result<Child, String> {
        let about = self.annotations.get(ABOUT).and_then(|about| parse_digest(about.as_str()?).ok());
        let platform = self.platform.as_ref().and_then(RawPlatform::platform);
        let is_index = matches!(self.media_type.as_str(), OCI_INDEX | DOCKER_INDEX);
        Ok(Child { digest: self.digest()?, platform, about, is_index })
    }

    fn blob(&self) -> Result<Blob, String> {
        let kind = &self.media_type;
        let is_foreign = kind.starts_with("application/vnd.docker.image.rootfs.foreign.")
            || kind.starts_with("application/vnd.oci.image.layer.nondistributable.");
        Ok(Blob { digest: self.digest()?, size: self.size, is_foreign })
    }
}

impl RawPlatform {
    fn platform(&self) -> Option<Platform> {
        Platform::new(self.os.as_deref()?, self.architecture.as_deref()?, self.variant.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache_registry_core::Hasher;
    use rstest::rstest;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn manifest(media_type: &str, text: &str) -> Manifest {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        Manifest { media_type: media_type.to_owned(), digest: Hasher::sha256(&bytes), bytes }
    }

    #[rstest]
    #[case(Some(OCI_INDEX), r#"{"schemaVersion":2}"#, Ok(OCI_INDEX))]
    #[case(Some("Application/vnd.oci.image.index.v1+json; charset=utf-8"), "{}", Ok(OCI_INDEX))]
    #[case(Some(OCI_INDEX), &format!(r#"{{"mediaType":"{OCI_INDEX}"}}"#), Ok(OCI_INDEX))]
    #[case(Some(OCI_INDEX), &format!(r#"{{"mediaType":"{DOCKER_INDEX}"}}"#), Err("says that it is"))]
    #[case(Some("application/json"), &format!(r#"{{"mediaType":"{DOCKER_IMAGE}"}}"#), Ok(DOCKER_IMAGE))]
    #[case(None, r#"{"manifests":[]}"#, Ok(OCI_INDEX))]
    #[case(None, &format!(r#"{{"config":{{"digest":"{DIGEST}","size":0}}}}"#), Ok(OCI_IMAGE))]
    #[case(None, "{}", Err("neither"))]
    #[case(Some("application/vnd.docker.distribution.manifest.v1+prettyjws"), "{}", Err("schema 1"))]
    #[case(Some("text/plain"), r#"{"schemaVersion":1}"#, Err("schema 1"))]
    #[case(Some("text/html"), "<html>", Err("not JSON"))]
    fn a_media_type_is_what_both_say(
        #[case] served: Option<&str>,
        #[case] text: &str,
        #[case] expected: Result<&str, &str>,
    ) {
        let served = served.map(|value| HeaderValue::from_str(value).unwrap());
        match (media_type(served.as_ref(), text.as_bytes()), expected) {
            (Ok(kind), Ok(expected)) => assert_eq!(kind, expected),
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            (got, expected) => panic!("{got:?} is not {expected:?}"),
        }
    }

    #[test]
    fn an_index_has_children_and_an_attestation_no_platform() {
        let text = format!(
            r#"{{"manifests":[
                {{"digest":"{DIGEST}","size":1,"platform":{{"os":"linux","architecture":"arm64","variant":"v8"}}}},
                {{"digest":"{DIGEST}","size":1,"platform":{{"os":"unknown","architecture":"unknown"}},
                  "annotations":{{"{ABOUT}":"{DIGEST}","n":1}}}},
                {{"digest":"{DIGEST}","size":1,"mediaType":"{DOCKER_INDEX}","annotations":{{"{ABOUT}":"x"}}}}]}}"#
        );
        let Contents::Index(children) = manifest(OCI_INDEX, &text).contents().unwrap() else { panic!("no index") };
        let platforms = children.iter().map(|child| child.platform.as_ref().map(ToString::to_string));
        assert_eq!(platforms.collect::<Vec<_>>(), [Some("linux/arm64/v8".to_owned()), None, None]);
        let rest: Vec<_> = children.iter().map(|child| (child.about.is_some(), child.is_index)).collect();
        assert_eq!(rest, [(false, false), (true, false), (false, true)]);
    }

    #[test]
    fn an_image_has_a_config_and_layers_and_foreign_ones_are_known() {
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        let text = format!(
            r#"{{"config":{{"digest":"{DIGEST}","size":2}},"layers":[{{"digest":"{DIGEST}","size":3}},
                {{"mediaType":"{foreign}","digest":"{DIGEST}","size":4}}]}}"#
        );
        let Contents::Image { config, layers } = manifest(DOCKER_IMAGE, &text).contents().unwrap() else {
            panic!("no image")
        };
        let sizes: Vec<_> = layers.iter().map(|layer| (layer.size, layer.is_foreign)).collect();
        assert_eq!((config.size, sizes), (2, vec![(3, false), (4, true)]));
    }

    #[rstest]
    #[case(OCI_INDEX, "{}", "has no manifests")]
    #[case(OCI_IMAGE, "{}", "has no config")]
    #[case(OCI_INDEX, r#"{"manifests":[{"digest":"sha256:../..","size":1}]}"#, "is not a sha256")]
    #[case(OCI_INDEX, r#"{"manifests":[{"digest":"sha256:x","size":-1}]}"#, "not JSON")]
    #[case("application/x", "{}", "application/x")]
    fn what_cannot_be_copied_is_told(#[case] kind: &str, #[case] text: &str, #[case] part: &str) {
        let error = manifest(kind, text).contents().unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}
