use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cache_registry_bed::{Bed, until};
use cache_registry_core::{Location, NodeAddress, Reference};
use cache_registry_upstream::Image;

use crate::registry_data::content_digest;

/// An image that upstream has.
pub struct Published {
    /// Its content.
    pub image: Image,
    /// Its repository at the registry, `library/hello`.
    pub repository: String,
    /// The whole reference, `docker.io/library/hello:1.0`.
    pub source: String,
}

impl Published {
    /// What nodes pull.
    pub fn on_nodes(&self) -> Result<String> {
        Ok(NodeAddress::default().of(&self.source.parse()?).to_string())
    }

    /// The same image by its digest.
    pub fn by_digest(&self) -> String {
        let name = self.source.rsplit_once(':').map_or(self.source.as_str(), |(name, _)| name);
        format!("{name}@{}", self.image.digest())
    }

    /// The path of its blob in the API of a proxy or of the cache.
    pub fn blob_path(&self, registry: &str, digest: impl std::fmt::Display) -> String {
        format!("/v2/{registry}/{}/blobs/{digest}", self.repository)
    }
}

/// Puts an index of two platforms with attestations at `docker.io/library/<name>:1.0`, its content unique to the name.
pub async fn publish(bed: &Bed, name: &str) -> Result<Published> {
    at(bed, name, Image::hello(name.as_bytes())?).await
}

/// Puts a single image with one layer of about `size` bytes there.
pub async fn publish_large(bed: &Bed, name: &str, size: usize) -> Result<Published> {
    let seed = name.bytes().fold(0, |seed, byte| seed * 31 + u64::from(byte));
    at(bed, name, Image::large(size, seed)?).await
}

async fn at(bed: &Bed, name: &str, image: Image) -> Result<Published> {
    let repository = format!("library/{name}");
    bed.upstream.add(&repository, "1.0", &image).await?;
    Ok(Published { image, source: format!("docker.io/{repository}:1.0"), repository })
}

/// Waits until the `CachedImage` of a source is gone, and its tag in the cache.
pub async fn expects_gone(bed: &Bed, source: &str) -> Result<()> {
    let location = Location::of(&source.parse::<Reference>()?);
    let path = format!("/v2/{}/manifests/{}", location.repository(), location.tag());
    until(format!("{source} to leave the cache"), Duration::from_secs(30), async || {
        if let Some(image) = bed.objects().cached_image(source).await? {
            bail!("there is a CachedImage of it: {:?}", image.status);
        }
        let answer = bed.cache.get(&path).await?;
        ensure!(answer.status.as_u16() == 404, "the registry answers {}", answer.status);
        Ok(Some(()))
    })
    .await
}

/// An image comes out of the cache by a tag of its repository: to both nodes' containerd, and byte for byte with all
/// that it consists of.
pub async fn pulls_whole(bed: &Bed, published: &Published, tag: &str) -> Result<()> {
    let (name, _) = published.source.rsplit_once(':').context("no tag")?;
    let image = NodeAddress::default().of(&format!("{name}:{tag}").parse()?).to_string();
    for node in [&bed.a, &bed.b] {
        node.pull(&image, 1).await.with_context(|| format!("pulling {image}"))?;
    }
    let repository = format!("/v2/docker.io/{}", published.repository);
    let index = bed.cache.get(&format!("{repository}/manifests/{tag}")).await?;
    ensure!(index.body == published.image.root.bytes, "{tag} is something else: {}", index.status);
    for manifest in published.image.all_manifests() {
        let answer = bed.cache.get(&format!("{repository}/manifests/{}", manifest.digest)).await?;
        ensure!(answer.body == manifest.bytes, "{}: {}", manifest.digest, answer.status);
    }
    for blob in &published.image.blobs {
        let answer = bed.cache.get(&format!("{repository}/blobs/{}", blob.digest)).await?;
        ensure!(content_digest(&answer.body) == blob.digest.to_string(), "{}: {}", blob.digest, answer.status);
    }
    Ok(())
}
