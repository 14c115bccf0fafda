use std::io::{self, Write as _};

use bytes::Bytes;
use cache_registry_core::{Digest, Hasher};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};

/// `application/vnd.oci.image.index.v1+json`
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// `application/vnd.oci.image.manifest.v1+json`
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// `application/vnd.oci.image.config.v1+json`
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// `application/vnd.oci.image.layer.v1.tar`
pub const LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// `application/vnd.oci.image.layer.v1.tar+gzip`
pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// What `BuildKit` gives the layers of an attestation.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// Bytes with their media type and digest: a blob, a manifest or an index
/// (<https://github.com/opencontainers/image-spec/blob/main/descriptor.md>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// What its descriptor and its `Content-Type` say.
    pub media_type: String,
    /// The sha256 of the bytes.
    pub digest: Digest,
    /// The bytes themselves.
    pub bytes: Bytes,
}

impl Content {
    /// Bytes under their sha256.
    pub fn new(media_type: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { media_type: media_type.into(), digest: Hasher::sha256(&bytes), bytes }
    }

    fn of_json(media_type: &str, document: &Value) -> Self {
        Self::new(media_type, document.to_string())
    }

    fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest.to_string(), "size": self.bytes.len() })
    }
}

/// An image as a registry holds it: an index or a single manifest, and everything that it names.
#[derive(Debug, Clone)]
pub struct Image {
    /// What a tag points at.
    pub root: Content,
    /// The manifests that the root names, when it is an index.
    pub manifests: Vec<Content>,
    /// The configs and layers of all of them, without repetition.
    pub blobs: Vec<Content>,
}

impl Image {
    /// One platform, without an index.
    pub fn single(platform: &Platform, layers: &[Layer], entrypoint: &[&str]) -> Self {
        let (root, blobs) = platform_manifest(platform, layers, entrypoint);
        Self { root, manifests: Vec::new(), blobs: without_repetition(blobs) }
    }

    /// An index of several platforms with the same layers, each followed by an attestation as `BuildKit` writes them
    /// (<https://github.com/moby/buildkit/blob/master/docs/attestations/attestation-storage.md>).
    pub fn index(variants: &[(Platform, Vec<Layer>)], entrypoint: &[&str]) -> Self {
        let (mut images, mut attestations) = (Vec::new(), Vec::new());
        let (mut manifests, mut blobs) = (Vec::new(), Vec::new());
        for (platform, layers) in variants {
            let (manifest, its_blobs) = platform_manifest(platform, layers, entrypoint);
            let mut descriptor = manifest.descriptor();
            descriptor["platform"] = platform.json();
            images.push(descriptor);

            let (attestation, proofs) = attestation_of(&manifest);
            let mut descriptor = attestation.descriptor();
            descriptor["platform"] = json!({ "architecture": "unknown", "os": "unknown" });
            descriptor["annotations"] = json!({
                "vnd.docker.reference.digest": manifest.digest.to_string(),
                "vnd.docker.reference.type": "attestation-manifest",
            });
            attestations.push(descriptor);

            manifests.extend([manifest, attestation]);
            blobs.extend(its_blobs.into_iter().chain(proofs));
        }
        images.append(&mut attestations);
        let root = Content::of_json(INDEX, &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": images }));
        Self { root, manifests, blobs: without_repetition(blobs) }
    }

    /// The image of the demo and of most tests: an index of linux/amd64 and linux/arm64 with attestations, each with
    /// one layer that holds `payload`, a static program, as `/hello`, which is also the entrypoint.
    ///
    /// The arm64 variant has the same program and a file that tells it apart: nothing runs it.
    pub fn hello(payload: &[u8]) -> io::Result<Self> {
        let program = File::program("hello", payload);
        let mark = File::data("platform", *b"linux/arm64\n");
        let variants = [
            (Platform::AMD64, vec![Layer::gzip(std::slice::from_ref(&program))?]),
            (Platform::ARM64, vec![Layer::gzip(&[program, mark])?]),
        ];
        Ok(Self::index(&variants, &["/hello"]))
    }

    /// A single amd64 image with one layer of about `size` bytes, pseudo-random from `seed`.
    ///
    /// Its layer is an uncompressed tar, so that the size on the wire is the size asked for.
    pub fn large(size: usize, seed: u64) -> io::Result<Self> {
        let layer = Layer::tar(&[File::data("data", pseudo_random(size, seed))])?;
        Ok(Self::single(&Platform::AMD64, &[layer], &["/data"]))
    }

    /// A signature, say: an artifact about a manifest, as `oras attach` makes one
    /// (<https://github.com/opencontainers/image-spec/blob/main/manifest.md#guidelines-for-artifact-usage>).
    pub fn about(subject: &Content, artifact_type: &str, text: &str) -> Self {
        let config = Content::new("application/vnd.oci.empty.v1+json", "{}");
        let layer = Content::new("text/plain", text.to_owned());
        let document = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": artifact_type,
            "config": config.descriptor(), "layers": [layer.descriptor()], "subject": subject.descriptor(),
        });
        Self { root: Content::of_json(MANIFEST, &document), manifests: Vec::new(), blobs: vec![config, layer] }
    }

    /// Every manifest: children first, the root last, the order in which a registry takes them.
    pub fn all_manifests(&self) -> impl Iterator<Item = &Content> {
        self.manifests.iter().chain([&self.root])
    }

    /// The digest that a tag of this image has.
    pub fn digest(&self) -> &Digest {
        &self.root.digest
    }

    /// The bytes of all manifests and blobs, each counted once.
    pub fn size(&self) -> u64 {
        self.all_manifests().chain(&self.blobs).map(|content| content.bytes.len() as u64).sum()
    }
}

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// `linux`
    pub os: &'static str,
    /// `amd64`
    pub architecture: &'static str,
    /// `v8`, where there is one.
    pub variant: Option<&'static str>,
}

impl Platform {
    /// linux/amd64
    pub const AMD64: Self = Self { os: "linux", architecture: "amd64", variant: None };
    /// linux/arm64/v8
    pub const ARM64: Self = Self { os: "linux", architecture: "arm64", variant: Some("v8") };

    fn json(&self) -> Value {
        let mut json = json!({ "architecture": self.architecture, "os": self.os });
        if let Some(variant) = self.variant {
            json["variant"] = variant.into();
        }
        json
    }
}

/// A file of a layer.
#[derive(Debug, Clone)]
pub struct File {
    path: String,
    mode: u32,
    bytes: Bytes,
}

impl File {
    /// A file that anyone may run. The path is relative to the root of the image.
    pub fn program(path: &str, bytes: &[u8]) -> Self {
        Self { path: path.to_owned(), mode: 0o755, bytes: Bytes::copy_from_slice(bytes) }
    }

    /// A file that anyone may read.
    pub fn data(path: &str, bytes: impl AsRef<[u8]>) -> Self {
        Self { path: path.to_owned(), mode: 0o644, bytes: Bytes::copy_from_slice(bytes.as_ref()) }
    }
}

/// A layer, and the digest of its tar, which the config names
/// (<https://github.com/opencontainers/image-spec/blob/main/layer.md>).
#[derive(Debug, Clone)]
pub struct Layer {
    content: Content,
    diff_id: Digest,
}

impl Layer {
    /// A plain tar. Fails for a path that no tar can hold.
    pub fn tar(files: &[File]) -> io::Result<Self> {
        let content = Content::new(LAYER_TAR, tar_of(files)?);
        let diff_id = content.digest.clone();
        Ok(Self { content, diff_id })
    }

    /// A tar compressed with gzip, the same bytes each time. Fails for a path that no tar can hold.
    pub fn gzip(files: &[File]) -> io::Result<Self> {
        let tar = tar_of(files)?;
        let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::fast());
        gzip.write_all(&tar)?;
        Ok(Self { content: Content::new(LAYER_GZIP, gzip.finish()?), diff_id: Hasher::sha256(&tar) })
    }

    /// The blob.
    pub fn content(&self) -> &Content {
        &self.content
    }
}

/// `length` bytes that no compression makes smaller, the same for the same seed (`SplitMix64`).
pub fn pseudo_random(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn tar_of(files: &[File]) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(file.mode);
        header.set_size(file.bytes.len() as u64);
        tar.append_data(&mut header, &file.path, &*file.bytes)?;
    }
    tar.into_inner()
}

fn platform_manifest(platform: &Platform, layers: &[Layer], entrypoint: &[&str]) -> (Content, Vec<Content>) {
    let mut config = platform.json();
    config["created"] = "1970-01-01T00:00:00Z".into();
    config["config"] = json!({ "Entrypoint": entrypoint, "Env": ["PATH=/"], "WorkingDir": "/" });
    config["rootfs"] = rootfs(layers.iter().map(|layer| &layer.diff_id));
    let config = Content::of_json(CONFIG, &config);
    let layers: Vec<_> = layers.iter().map(|layer| layer.content.clone()).collect();
    manifest_of(config, layers, &Value::Null)
}

/// The manifest with which `BuildKit` attests how another one came to be.
fn attestation_of(subject: &Content) -> (Content, Vec<Content>) {
    const PREDICATE: &str = "https://slsa.dev/provenance/v1";
    let statement = Content::of_json(
        IN_TOTO,
        &json!({
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": PREDICATE,
            "subject": [{ "name": "_", "digest": { "sha256": subject.digest.digest() } }],
            "predicate": { "buildDefinition": { "buildType": "https://mobyproject.org/buildkit@v1" } },
        }),
    );
    let config = Content::of_json(
        CONFIG,
        &json!({ "architecture": "unknown", "os": "unknown", "config": {}, "rootfs": rootfs([&statement.digest]) }),
    );
    manifest_of(config, vec![statement], &json!({ "in-toto.io/predicate-type": PREDICATE }))
}

fn rootfs<'a>(diff_ids: impl IntoIterator<Item = &'a Digest>) -> Value {
    let diff_ids: Vec<_> = diff_ids.into_iter().map(ToString::to_string).collect();
    json!({ "type": "layers", "diff_ids": diff_ids })
}

fn manifest_of(config: Content, layers: Vec<Content>, layer_annotations: &Value) -> (Content, Vec<Content>) {
    let descriptors: Vec<_> = layers
        .iter()
        .map(|layer| {
            let mut descriptor = layer.descriptor();
            if !layer_annotations.is_null() {
                descriptor["annotations"] = layer_annotations.clone();
            }
            descriptor
        })
        .collect();
    let manifest = Content::of_json(
        MANIFEST,
        &json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config.descriptor(), "layers": descriptors }),
    );
    (manifest, [config].into_iter().chain(layers).collect())
}

fn without_repetition(blobs: Vec<Content>) -> Vec<Content> {
    let mut unique: Vec<Content> = Vec::new();
    for blob in blobs {
        if !unique.iter().any(|known| known.digest == blob.digest) {
            unique.push(blob);
        }
    }
    unique
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(content: &Content) -> Value {
        serde_json::from_slice(&content.bytes).unwrap()
    }

    #[test]
    fn everything_that_an_index_names_is_there() {
        let image = Image::hello(b"program").unwrap();
        let index = parsed(&image.root);
        let children = index["manifests"].as_array().unwrap();
        assert_eq!(children.len(), 4);
        for child in children {
            let manifest = image.manifests.iter().find(|m| child["digest"] == m.digest.to_string()).unwrap();
            let manifest = parsed(manifest);
            for named in manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]) {
                let blob = image.blobs.iter().find(|blob| named["digest"] == blob.digest.to_string()).unwrap();
                assert_eq!(named["size"], blob.bytes.len());
            }
        }
    }

    #[test]
    fn an_attestation_names_the_manifest_that_it_attests() {
        let index = parsed(&Image::hello(b"program").unwrap().root);
        let attestation = &index["manifests"][2];
        assert_eq!(attestation["platform"], json!({ "architecture": "unknown", "os": "unknown" }));
        assert_eq!(attestation["annotations"]["vnd.docker.reference.type"], "attestation-manifest");
        assert_eq!(attestation["annotations"]["vnd.docker.reference.digest"], index["manifests"][0]["digest"]);
    }

    #[test]
    fn the_same_image_is_the_same_bytes_and_another_payload_is_not() {
        assert_eq!(Image::hello(b"a").unwrap().digest(), Image::hello(b"a").unwrap().digest());
        assert_ne!(Image::hello(b"a").unwrap().digest(), Image::hello(b"b").unwrap().digest());
    }

    #[test]
    fn a_gzip_layer_is_its_tar() {
        let files = [File::program("bin/x", b"x"), File::data("y", b"y")];
        let (gzip, tar) = (Layer::gzip(&files).unwrap(), Layer::tar(&files).unwrap());
        assert_eq!(gzip.diff_id, tar.content.digest);
        let mut tar = Vec::new();
        io::copy(&mut flate2::read::GzDecoder::new(&*gzip.content.bytes), &mut tar).unwrap();
        assert_eq!(Hasher::sha256(&tar), gzip.diff_id);
    }

    #[test]
    fn pseudo_random_bytes_have_the_length_and_depend_on_the_seed() {
        for length in [0, 1, 7, 8, 9, 1000] {
            assert_eq!(pseudo_random(length, 1).len(), length);
        }
        assert_eq!(pseudo_random(100, 1), pseudo_random(100, 1));
        assert_ne!(pseudo_random(100, 1), pseudo_random(100, 2));
    }
}
