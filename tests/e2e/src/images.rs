use anyhow::Result;
use cache_registry_bed::Bed;
use cache_registry_core::NodeAddress;
use cache_registry_upstream::Image;

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
