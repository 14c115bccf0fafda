//! Images in a repository of a registry, each put and pulled piece by piece.

use bytes::Bytes;
use cache_registry_core::{Digest, Hasher, parse_digest};
use cache_registry_registry::{Error, GetOptions, Manifest, Object, Repository};
use cache_registry_upstream::{Content, File, INDEX, Image, Layer, MANIFEST, Platform};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use crate::connections_by;
use crate::distribution::Distribution;

/// An image of one platform that no other is like.
pub(crate) fn image(name: &str) -> Image {
    let layer = Layer::tar(&[File::data("name", name)]).unwrap();
    Image::single(&Platform::AMD64, &[layer], &["/name"])
}

pub(crate) fn index(children: &[&Content]) -> Content {
    let descriptor = |child: &&Content| json!({ "mediaType": child.media_type, "digest": child.digest.to_string(), "size": child.bytes.len() });
    let manifests: Vec<Value> = children.iter().map(descriptor).collect();
    let document = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    Content::new(INDEX, document.to_string())
}

/// A signature, say: a manifest about another.
pub(crate) fn about(subject: &Content) -> Image {
    let mut image = image(&format!("about {}", subject.digest));
    let mut document: Value = serde_json::from_slice(&image.root.bytes).unwrap();
    document["subject"] = json!({
        "mediaType": subject.media_type, "digest": subject.digest.to_string(), "size": subject.bytes.len(),
    });
    image.root = Content::new(MANIFEST, document.to_string());
    image
}

/// A repository of a registry that is tested.
pub(crate) struct Shelf(pub(crate) Repository);

impl Shelf {
    pub(crate) fn of(registry: &Distribution, name: &str) -> Self {
        Self(connections_by("").cache(&registry.url, name))
    }

    pub(crate) async fn put(&self, manifest: &Content, reference: &str) {
        let Content { media_type, digest, bytes } = manifest.clone();
        self.0.push_manifest(reference, &Manifest { media_type, digest, bytes }).await.unwrap();
    }

    /// Pushes an image, under its digest alone.
    pub(crate) async fn put_image(&self, image: &Image) {
        for blob in &image.blobs {
            let size = blob.bytes.len() as u64;
            self.0.push_blob(&blob.digest, size, Full::new(blob.bytes.clone())).await.unwrap();
        }
        self.put(&image.root, image.root.digest.as_ref()).await;
    }

    /// Pulls all that a reference leads to. Every digest is checked; the names of what is missing are returned.
    pub(crate) async fn missing(&self, reference: &str) -> Vec<String> {
        let mut missing = Vec::new();
        let mut next = vec![reference.to_owned()];
        while let Some(reference) = next.pop() {
            let Ok(manifest) = self.0.get_manifest(&reference).await else {
                missing.push(reference);
                continue;
            };
            let document: Value = serde_json::from_slice(&manifest.bytes).unwrap();
            let digests = |key: &str| -> Vec<String> {
                let list = document[key].as_array().into_iter().flatten();
                list.map(|descriptor| descriptor["digest"].as_str().unwrap().to_owned()).collect()
            };
            next.extend(digests("manifests"));
            let config = document["config"]["digest"].as_str().map(str::to_owned);
            for digest in digests("layers").into_iter().chain(config) {
                let wanted = parse_digest(&digest).unwrap();
                match self.blob(&wanted).await {
                    Ok(bytes) => Hasher::check(&wanted, &bytes).unwrap(),
                    Err(_) => missing.push(digest),
                }
            }
        }
        missing
    }

    async fn blob(&self, digest: &Digest) -> Result<Bytes, Error> {
        let response = self.0.get(&Object::Blob(digest.clone()), &GetOptions::default()).await?;
        Ok(response.into_body().collect().await?.to_bytes())
    }
}
