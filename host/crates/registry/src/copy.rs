use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cache_registry_core::{Digest, Location, Reason, Reference};
use futures::stream::{StreamExt as _, TryStreamExt as _, iter};
use http_body::Frame;
use http_body_util::StreamBody;
use url::Url;

use crate::download::download;
use crate::manifest::{Blob, config_platform};
use crate::plan::{Plan, plan};
use crate::retry::retried;
use crate::upload::Begun;
use crate::{Connections, Error, GetOptions, Manifest, Object, Repository};

/// How an image is copied.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// Which platforms of an index.
    pub platforms: Platforms,
    /// How many blobs at once; each takes a connection on both sides and at most some hundred KiB.
    pub parallel_blobs: usize,
    /// How long the whole copy may take.
    pub time: Duration,
}

/// Which platforms of an index are copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Platforms {
    /// All that it names.
    #[default]
    All,
}

/// What the cache has after a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The digest of the manifest or index that the source names.
    pub digest: Digest,
    /// Bytes of all manifests, configurations and layers, each counted once.
    pub size: u64,
    /// `linux/amd64`, `linux/arm64/v8`; empty for what is no image.
    pub platforms: Vec<String>,
    /// Bytes of blobs and manifests that were sent to the cache; 0 where it had everything.
    pub bytes_uploaded: u64,
    /// What was left out, in words.
    pub notes: Vec<String>,
}

/// Hears how far a copy is.
pub trait Progress: Send + Sync {
    /// `done` of `total` bytes of blobs are in the cache. Called about twice a second while they are copied.
    fn report(&self, done: u64, total: u64);
}

impl<F: Fn(u64, u64) + Send + Sync> Progress for F {
    fn report(&self, done: u64, total: u64) {
        self(done, total);
    }
}

/// Why an image is not in the cache. What was copied until then stays, without a tag, and the next copy goes on there.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct CopyError(#[from] Error);

impl CopyError {
    /// In one word.
    pub fn reason(&self) -> Reason {
        self.0.reason()
    }

    /// How long a registry asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after()
    }
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self { platforms: Platforms::All, parallel_blobs: 3, time: Duration::from_hours(1) }
    }
}

/// Copies an image from upstream to its [`Location`] in the cache.
///
/// Manifests and indexes are copied byte for byte. Each is pushed by its digest after all that it refers to, and the
/// tag is set last: what a tag names is always complete. An image that is there already costs upstream one HEAD.
pub async fn copy(
    source: &Reference,
    connections: &Connections,
    cache: &Url,
    options: &CopyOptions,
    progress: &dyn Progress,
) -> Result<Copied, CopyError> {
    let location = Location::of(source);
    let copy = Copy {
        upstream: connections.upstream(source.registry(), source.repository()),
        target: connections.cache(cache, location.repository()),
        cache,
        parallel_blobs: options.parallel_blobs.max(1),
        done: Arc::new(AtomicU64::new(0)),
        uploaded: Arc::new(AtomicU64::new(0)),
    };
    let Platforms::All = options.platforms;
    let wanted = source.manifest_reference();
    let copying = copy.run(&wanted, location.tag(), progress);
    let copied = tokio::time::timeout(options.time, copying).await;
    copied
        .unwrap_or_else(|_| {
            Err(copy
                .upstream
                .unusable(format_args!("not copied within {:?}; the next try goes on from here", options.time)))
        })
        .map_err(CopyError)
}

struct Copy<'a> {
    upstream: Repository,
    target: Repository,
    cache: &'a Url,
    parallel_blobs: usize,
    /// Bytes of blobs that the target has.
    done: Arc<AtomicU64>,
    uploaded: Arc<AtomicU64>,
}

const TRIES: usize = 4;
/// A blob's download is taken up again by itself, so that this is for the upload.
const BLOB_TRIES: usize = 3;
const REPORT_EVERY: Duration = Duration::from_millis(500);
/// Of a configuration, for its platform.
const LARGEST_CONFIG: usize = 4 * 1024 * 1024;

impl Copy<'_> {
    async fn run(&self, wanted: &str, tag: &str, progress: &dyn Progress) -> Result<Copied, Error> {
        let root = self.upstream.resolve(wanted).await?;
        let is_tagged = self.is_tagged(tag, &root).await?;
        let plan = plan(&root, &self.upstream, &self.target).await?;
        let missing = self.missing(&plan).await?;
        let total = plan.blobs.iter().map(|blob| blob.size).fold(0, u64::saturating_add);
        let absent = missing.iter().map(|blob| blob.size).fold(0, u64::saturating_add);
        self.done.store(total.saturating_sub(absent), Ordering::Relaxed);

        let notes = self.upload_all(missing, total, progress).await?;
        self.push_manifests(&plan, (!is_tagged).then_some(tag)).await?;

        let manifests = plan.manifests.iter().map(|part| part.manifest.bytes.len() as u64);
        let size = manifests.fold(total, u64::saturating_add);
        let bytes_uploaded = self.uploaded.load(Ordering::Relaxed);
        let platforms = match &plan.only_config {
            Some(config) => self.platform(config).await.into_iter().collect(),
            None => plan.platforms,
        };
        Ok(Copied { digest: root, size, platforms, bytes_uploaded, notes })
    }

    async fn is_tagged(&self, tag: &str, root: &Digest) -> Result<bool, Error> {
        let existing = retried(TRIES, || self.target.head_manifest(tag)).await?;
        Ok(existing.and_then(|existing| existing.digest).is_some_and(|digest| digest == *root))
    }

    /// The blobs that the target does not have.
    async fn missing(&self, plan: &Plan) -> Result<Vec<Blob>, Error> {
        let looking = iter(plan.blobs.clone()).map(|blob| async move {
            let is_there = retried(TRIES, || self.target.blob_exists(&blob.digest, blob.size)).await?;
            if is_there {
                self.remember(&blob).await;
            }
            Ok((!is_there).then_some(blob))
        });
        looking.buffered(self.parallel_blobs).try_filter_map(|blob| async { Ok(blob) }).try_collect().await
    }

    /// Uploads, and reports how far it is. Returns what was left out.
    async fn upload_all(&self, blobs: Vec<Blob>, total: u64, progress: &dyn Progress) -> Result<Vec<String>, Error> {
        let report = || progress.report(self.done.load(Ordering::Relaxed), total);
        let uploading = iter(blobs).map(|blob| self.upload(blob)).buffer_unordered(self.parallel_blobs);
        let uploading = uploading.try_filter_map(|note| async { Ok(note) }).try_collect();
        let mut uploading = std::pin::pin!(uploading);
        let mut every = tokio::time::interval(REPORT_EVERY);
        loop {
            tokio::select! {
                notes = &mut uploading => {
                    report();
                    return notes;
                }
                _ = every.tick() => report(),
            }
        }
    }

    async fn upload(&self, blob: Blob) -> Result<Option<String>, Error> {
        if blob.is_foreign && !retried(TRIES, || self.upstream.blob_exists(&blob.digest, blob.size)).await? {
            return Ok(Some(format!("the layer {} may not be passed on, and upstream does not have it", blob.digest)));
        }
        retried(BLOB_TRIES, || self.send(&blob)).await?;
        self.remember(&blob).await;
        Ok(None)
    }

    async fn send(&self, blob: &Blob) -> Result<(), Error> {
        let home = self.target.connections.homes().get(&self.home_of(blob)).await;
        let mount = home.as_deref().filter(|home| *home != &*self.target.name).map(|home| (&blob.digest, home));
        let session = match self.target.begin_upload(mount).await? {
            Begun::Mounted => {
                self.done.fetch_add(blob.size, Ordering::Relaxed);
                return Ok(());
            }
            Begun::Session(session) => session,
        };
        let counted = Arc::new(AtomicU64::new(0));
        let counters = [Arc::clone(&counted), Arc::clone(&self.done), Arc::clone(&self.uploaded)];
        let bytes = download(self.upstream.clone(), blob.clone()).map_ok(move |bytes| {
            for counter in &counters {
                counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            Frame::data(bytes)
        });
        let sent = self.target.finish_upload(session, &blob.digest, blob.size, StreamBody::new(bytes)).await;
        if sent.is_err() {
            self.done.fetch_sub(counted.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        sent
    }

    /// Other repositories can mount the blob from here.
    async fn remember(&self, blob: &Blob) {
        let name = Arc::clone(&self.target.name);
        self.target.connections.homes().insert(self.home_of(blob), name).await;
    }

    fn home_of(&self, blob: &Blob) -> (Url, String) {
        (self.cache.clone(), blob.digest.to_string())
    }

    /// Pushes what the target does not have by its digest, children first, and the root under its tag at last.
    async fn push_manifests(&self, plan: &Plan, tag: Option<&str>) -> Result<(), Error> {
        for part in plan.manifests.iter().filter(|part| !part.is_there) {
            self.push_manifest(part.manifest.digest.as_ref(), &part.manifest).await?;
        }
        match (tag, plan.manifests.last()) {
            (Some(tag), Some(root)) => self.push_manifest(tag, &root.manifest).await,
            _ => Ok(()),
        }
    }

    async fn push_manifest(&self, reference: &str, manifest: &Manifest) -> Result<(), Error> {
        retried(TRIES, || self.target.push_manifest(reference, manifest)).await?;
        self.uploaded.fetch_add(manifest.bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Told for information only: an image is no worse for a configuration that does not name its platform.
    async fn platform(&self, config: &Blob) -> Option<String> {
        let response = self.target.get(&Object::Blob(config.digest.clone()), &GetOptions::default()).await.ok()?;
        config_platform(&response.into_body().whole(LARGEST_CONFIG).await.ok()?)
    }
}
