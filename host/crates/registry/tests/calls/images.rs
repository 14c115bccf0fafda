//! Images of a few bytes, and an upstream registry that has them.

use std::collections::HashMap;
use std::fmt::Write as _;

use axum::response::Response;
use cache_registry_core::{Digest, Hasher};
use http::Method;
use http::request::Parts;

use crate::server::{answer, answer_with};

pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";

/// What an upstream registry has, whatever the repository.
#[derive(Clone, Default)]
pub(crate) struct Images {
    pub(crate) manifests: HashMap<String, (&'static str, Vec<u8>)>,
    pub(crate) blobs: HashMap<String, Vec<u8>>,
}

impl Images {
    /// `tag`: an index of amd64, arm64 and an attestation; the platforms share a layer.
    pub(crate) fn two_platforms(tag: &str) -> (Self, Digest) {
        let mut images = Self::default();
        let shared = images.blob(&pseudo_random(1, 300_000));
        let mut entries = Vec::new();
        for (seed, platform) in [(2, ("linux", "amd64")), (3, ("linux", "arm64")), (4, ("unknown", "unknown"))] {
            let own = images.blob(&pseudo_random(seed, 100_000));
            let config = format!(r#"{{"os":"{}","architecture":"{}"}}"#, platform.0, platform.1);
            let digest = images.image(&config, &[(LAYER, &shared, 300_000), (LAYER, &own, 100_000)]);
            let size = images.manifests[&digest.to_string()].1.len();
            entries.push(format!(
                r#"{{"mediaType":"{IMAGE}","digest":"{digest}","size":{size},"platform":{{"os":"{}","architecture":"{}"}}}}"#,
                platform.0, platform.1
            ));
        }
        // Spaces, so that bytes that were written anew would have another digest.
        let index = format!(r#"{{ "schemaVersion": 2,  "manifests":[{}] }}"#, entries.join(" , "));
        let digest = images.manifest(INDEX, index);
        images.tag(tag, &digest);
        (images, digest)
    }

    /// An image of one platform and a layer each of these bytes.
    pub(crate) fn of_layers(tag: &str, layers: &[&[u8]]) -> (Self, Digest) {
        let mut images = Self::default();
        let blobs: Vec<_> = layers.iter().map(|layer| (images.blob(layer), layer.len())).collect();
        let layers: Vec<_> = blobs.iter().map(|(digest, size)| (LAYER, digest, *size)).collect();
        let digest = images.image(r#"{"os":"linux","architecture":"amd64"}"#, &layers);
        images.tag(tag, &digest);
        (images, digest)
    }

    pub(crate) fn image(&mut self, config: &str, layers: &[(&str, &Digest, usize)]) -> Digest {
        let digest = self.blob(config.as_bytes());
        let mut list = String::new();
        for (kind, digest, size) in layers {
            let comma = if list.is_empty() { "" } else { "," };
            let urls = if *kind == FOREIGN { r#","urls":["https://layers.example/x"]"# } else { "" };
            write!(list, r#"{comma}{{"mediaType":"{kind}","digest":"{digest}","size":{size}{urls}}}"#).unwrap();
        }
        self.manifest(
            IMAGE,
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":{}}},"layers":[{list}]}}"#,
                config.len()
            ),
        )
    }

    pub(crate) fn manifest(&mut self, kind: &'static str, text: String) -> Digest {
        let digest = Hasher::sha256(text.as_bytes());
        self.manifests.insert(digest.to_string(), (kind, text.into_bytes()));
        digest
    }

    pub(crate) fn blob(&mut self, bytes: &[u8]) -> Digest {
        let digest = Hasher::sha256(bytes);
        self.blobs.insert(digest.to_string(), bytes.to_vec());
        digest
    }

    pub(crate) fn tag(&mut self, tag: &str, digest: &Digest) {
        let manifest = self.manifests[&digest.to_string()].clone();
        self.manifests.insert(tag.to_owned(), manifest);
    }

    /// What a registry answers.
    pub(crate) fn answer(&self, parts: &Parts) -> Response {
        let path = parts.uri.path();
        let (kind, reference) = path.rsplit_once('/').unwrap();
        let is_head = parts.method == Method::HEAD;
        if kind.ends_with("/manifests") {
            let Some((media_type, bytes)) = self.manifests.get(reference) else {
                return answer(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#);
            };
            let digest = Hasher::sha256(bytes).to_string();
            let headers = [
                ("content-type", *media_type),
                ("docker-content-digest", digest.as_str()),
                ("content-length", &bytes.len().to_string()),
            ];
            return answer_with(200, &headers, if is_head { Vec::new() } else { bytes.clone() });
        }
        let Some(bytes) = self.blobs.get(reference) else {
            return answer(404, r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]}"#);
        };
        let range = parts.headers.get("range").map(|value| value.to_str().unwrap());
        let start = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        let length = (bytes.len() - start.unwrap_or(0)).to_string();
        let Some(start) = start else {
            let body = if is_head { Vec::new() } else { bytes.clone() };
            return answer_with(200, &[("content-length", &length)], body);
        };
        let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
        answer_with(206, &[("content-range", &range), ("content-length", &length)], bytes[start..].to_vec())
    }
}

/// Bytes that no compression makes smaller, the same for the same seed.
pub(crate) fn pseudo_random(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}
