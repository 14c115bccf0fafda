use anyhow::{Context, Result, ensure};
use cache_registry_bed::cluster::Node;
use cache_registry_core::Hasher;
use cache_registry_upstream::Image;

/// The media types of all manifests.
const ANY_MANIFEST: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json";

/// An image that a cache is to have: what it is, and where.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Its content.
    pub image: Image,
    /// Its repository upstream, `library/hello`.
    pub repository: &'static str,
    /// Its tags.
    pub tags: &'static [&'static str],
}

impl Kept {
    /// The sources of all tags, `docker.io/library/hello:1.0`.
    pub fn sources(&self) -> impl Iterator<Item = String> {
        self.tags.iter().map(|tag| format!("docker.io/{}:{tag}", self.repository))
    }
}

/// Pulls an image through a node's proxy, by each tag and with every platform; each digest is checked.
pub async fn whole(node: &Node, kept: &Kept) -> Result<()> {
    let digests = kept.image.all_manifests().map(|manifest| manifest.digest.to_string());
    let root = &kept.image.root;
    let tags = kept.tags.iter().map(|tag| (format!("manifests/{tag}"), root));
    let manifests = digests.zip(kept.image.all_manifests());
    let manifests = manifests.map(|(digest, manifest)| (format!("manifests/{digest}"), manifest));
    let blobs = kept.image.blobs.iter().map(|blob| (format!("blobs/{}", blob.digest), blob));
    for (path, content) in tags.chain(manifests).chain(blobs) {
        let path = format!("/v2/docker.io/{}/{path}", kept.repository);
        let answer = node.get_accepting(7439, &path, ANY_MANIFEST).await;
        let answer = answer.with_context(|| format!("{path} on node {}", node.name()))?;
        ensure!(answer.status == 200, "{path} on node {}: {}", node.name(), answer.status);
        Hasher::check(&content.digest, &answer.body).with_context(|| path.clone())?;
    }
    Ok(())
}
