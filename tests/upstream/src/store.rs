use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use cache_registry_core::Digest;

use crate::image::{Content, Image};

/// What the registry has: blobs, manifests and tags per repository. A clone is another handle on the same store.
#[derive(Debug, Clone, Default)]
pub struct Store(Arc<RwLock<BTreeMap<String, Repository>>>);

#[derive(Debug, Default)]
struct Repository {
    blobs: HashMap<String, Content>,
    manifests: HashMap<String, Content>,
    tags: BTreeMap<String, String>,
}

impl Store {
    /// Puts an image into a repository, under a tag.
    pub fn add(&self, repository: &str, tag: &str, image: &Image) {
        for blob in &image.blobs {
            self.put_blob(repository, blob.bytes.clone());
        }
        for manifest in image.all_manifests() {
            self.put_manifest(repository, &manifest.media_type, manifest.bytes.clone());
        }
        self.put_tag(repository, tag, image.digest());
    }

    /// Puts a blob and returns its digest.
    pub fn put_blob(&self, repository: &str, bytes: Bytes) -> Digest {
        let blob = Content::new("application/octet-stream", bytes);
        let digest = blob.digest.clone();
        self.write().entry(repository.to_owned()).or_default().blobs.insert(digest.to_string(), blob);
        digest
    }

    /// Puts a manifest or an index and returns its digest. What it names is not looked for: a registry with holes is
    /// one of the things to test against.
    pub fn put_manifest(&self, repository: &str, media_type: &str, bytes: Bytes) -> Digest {
        let manifest = Content::new(media_type, bytes);
        let digest = manifest.digest.clone();
        self.write().entry(repository.to_owned()).or_default().manifests.insert(digest.to_string(), manifest);
        digest
    }

    /// Points a tag at a digest; a tag that was there moves.
    pub fn put_tag(&self, repository: &str, tag: &str, digest: &Digest) {
        self.write().entry(repository.to_owned()).or_default().tags.insert(tag.to_owned(), digest.to_string());
    }

    /// Takes a tag away; what it pointed at stays. False where there was none.
    pub fn remove_tag(&self, repository: &str, tag: &str) -> bool {
        self.write().get_mut(repository).is_some_and(|repository| repository.tags.remove(tag).is_some())
    }

    /// Takes a blob or a manifest away; tags that point at it then lead nowhere. False where there was none.
    pub fn remove(&self, repository: &str, digest: &str) -> bool {
        self.write().get_mut(repository).is_some_and(|repository| {
            let (manifest, blob) = (repository.manifests.remove(digest), repository.blobs.remove(digest));
            manifest.or(blob).is_some()
        })
    }

    /// The manifest of a tag or digest.
    pub fn manifest(&self, repository: &str, reference: &str) -> Option<Content> {
        let repositories = self.read();
        let repository = repositories.get(repository)?;
        let digest = repository.tags.get(reference).map_or(reference, String::as_str);
        repository.manifests.get(digest).cloned()
    }

    /// The manifests that say of themselves that they are about this digest, in the order of their digests; `None` where
    /// there is no such repository.
    pub fn referrers(&self, repository: &str, digest: &str) -> Option<Vec<Content>> {
        let repositories = self.read();
        let manifests = repositories.get(repository)?.manifests.values();
        let mut about: Vec<_> =
            manifests.filter(|manifest| subject(manifest).as_deref() == Some(digest)).cloned().collect();
        about.sort_by_key(|manifest| manifest.digest.to_string());
        Some(about)
    }

    /// The blob of a digest.
    pub fn blob(&self, repository: &str, digest: &str) -> Option<Content> {
        self.read().get(repository)?.blobs.get(digest).cloned()
    }

    /// The tags of a repository, sorted; `None` where there is no such repository.
    pub fn tags(&self, repository: &str) -> Option<Vec<String>> {
        Some(self.read().get(repository)?.tags.keys().cloned().collect())
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Repository>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Repository>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a manifest says that it is about.
fn subject(manifest: &Content) -> Option<String> {
    let document: serde_json::Value = serde_json::from_slice(&manifest.bytes).ok()?;
    Some(document["subject"]["digest"].as_str()?.to_owned())
}
