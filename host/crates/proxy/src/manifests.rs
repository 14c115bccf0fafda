use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cache_registry_core::Digest;
use http::HeaderValue;
use moka::future::Cache;

use crate::legs::Leg;
use crate::route::{ManifestReference, Name};

/// A manifest or an index whose digest was checked.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// `Content-Type`, as its registry gave it.
    pub(crate) media_type: HeaderValue,
    /// The digest of `bytes`.
    pub(crate) digest: Digest,
    /// Verbatim.
    pub(crate) bytes: Bytes,
    /// Who served it.
    pub(crate) leg: Leg,
}

/// The manifests that were asked for last, so that a node with many pods of one image does not ask the cache for each.
///
/// By digest a manifest never changes, and is kept while there is room. What a tag names is kept for a few seconds,
/// and only as the *cache* told it: the cache itself follows the upstream no faster.
#[derive(Debug)]
pub(crate) struct Manifests {
    by_digest: Cache<String, Arc<Manifest>>,
    digest_of_tag: Cache<String, Digest>,
}

/// What one entry costs besides its bytes: keys, headers and the bookkeeping of the cache.
const OVERHEAD: usize = 512;
const MOST_TAGS: u64 = 10_000;

impl Manifests {
    /// Keeps `capacity` bytes, and tags for `tag_memory`; zero keeps none.
    pub(crate) fn new(capacity: u64, tag_memory: Duration) -> Self {
        let weight = |key: &String, manifest: &Arc<Manifest>| {
            u32::try_from(manifest.bytes.len() + key.len() + OVERHEAD).unwrap_or(u32::MAX)
        };
        let tags = if tag_memory.is_zero() { 0 } else { MOST_TAGS };
        Self {
            by_digest: Cache::builder().max_capacity(capacity).weigher(weight).build(),
            digest_of_tag: Cache::builder().max_capacity(tags).time_to_live(tag_memory).build(),
        }
    }

    /// What is kept for a reference.
    pub(crate) async fn get(&self, name: &Name, reference: &ManifestReference) -> Option<Arc<Manifest>> {
        match reference {
            ManifestReference::Digest(digest) => self.by_digest.get(&by_digest(name, digest)).await,
            ManifestReference::Tag(tag) => {
                let digest = self.digest_of_tag.get(&by_tag(name, tag)).await?;
                self.by_digest.get(&by_digest(name, &digest)).await
            }
        }
    }

    /// Keeps what came for a reference.
    pub(crate) async fn keep(&self, name: &Name, reference: &ManifestReference, manifest: &Arc<Manifest>) {
        self.by_digest.insert(by_digest(name, &manifest.digest), Arc::clone(manifest)).await;
        if let (ManifestReference::Tag(tag), Leg::Cache) = (reference, manifest.leg) {
            self.digest_of_tag.insert(by_tag(name, tag), manifest.digest.clone()).await;
        }
    }
}

fn by_digest(name: &Name, digest: &Digest) -> String {
    format!("{name}@{digest}")
}

fn by_tag(name: &Name, tag: &str) -> String {
    format!("{name}:{tag}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache_registry_core::Hasher;

    fn name() -> Name {
        Name { registry: "docker.io".to_owned(), repository: "library/x".to_owned() }
    }

    fn tag() -> ManifestReference {
        ManifestReference::Tag("1".to_owned())
    }

    fn manifest(bytes: &'static [u8], leg: Leg) -> Arc<Manifest> {
        let media_type = HeaderValue::from_static("application/vnd.oci.image.index.v1+json");
        Arc::new(Manifest { media_type, digest: Hasher::sha256(bytes), bytes: Bytes::from_static(bytes), leg })
    }

    #[tokio::test]
    async fn a_digest_is_kept_and_a_tag_only_as_the_cache_told_it() {
        let manifests = Manifests::new(1 << 20, Duration::from_mins(1));
        let upstream = manifest(b"{1}", Leg::Upstream);
        manifests.keep(&name(), &tag(), &upstream).await;
        assert!(manifests.get(&name(), &tag()).await.is_none());
        let digest = ManifestReference::Digest(upstream.digest.clone());
        assert_eq!(manifests.get(&name(), &digest).await.unwrap().bytes, upstream.bytes);

        let cached = manifest(b"{2}", Leg::Cache);
        manifests.keep(&name(), &tag(), &cached).await;
        assert_eq!(manifests.get(&name(), &tag()).await.unwrap().bytes, cached.bytes);
        let elsewhere = Name { repository: "library/y".to_owned(), ..name() };
        assert!(manifests.get(&elsewhere, &digest).await.is_none(), "another repository may be private");
    }

    #[tokio::test]
    async fn a_tag_is_not_kept_when_its_time_is_zero() {
        let manifests = Manifests::new(1 << 20, Duration::ZERO);
        manifests.keep(&name(), &tag(), &manifest(b"{2}", Leg::Cache)).await;
        assert!(manifests.get(&name(), &tag()).await.is_none());
    }

    #[tokio::test]
    async fn bytes_are_bounded() {
        let manifests = Manifests::new(100 << 10, Duration::ZERO);
        for n in 0..100_u32 {
            let bytes = Bytes::from(vec![b' '; 10 << 10].into_iter().chain(n.to_be_bytes()).collect::<Vec<_>>());
            let digest = Hasher::sha256(&bytes);
            let media_type = HeaderValue::from_static("application/json");
            let kept = Arc::new(Manifest { media_type, digest, bytes, leg: Leg::Cache });
            manifests.keep(&name(), &tag(), &kept).await;
        }
        manifests.by_digest.run_pending_tasks().await;
        assert!(manifests.by_digest.weighted_size() <= 100 << 10, "{}", manifests.by_digest.weighted_size());
        assert!(manifests.by_digest.entry_count() > 0);
    }
}
