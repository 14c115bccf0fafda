use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cache_registry_core::{Digest, Location, Platforms, Reason, Reference};
use futures::stream::{StreamExt as _, TryStreamExt as _, iter};
use http_body::Frame;
use http_body_util::StreamBody;
use url::Url;

use crate::download::download;
use crate::manifest::{Blob, config_platform};
use crate::plan::{Plan, plan};
use crate::retry::retried;
use crate::upload::Begun;
use crate::{Connections, Credentials, Error, GetOptions, Manifest, Object, Repository};

/// How an image is copied.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// Which platforms of an index.
    pub platforms: Platforms,
    /// Whether what is about the image comes along: signatures, attestations, SBOMs.
    pub referrers: bool,
    /// How many blobs at once; each takes a connection on both sides and at most some hundred KiB.
    pub parallel_blobs: usize,
    /// How long the whole copy may take.
    pub time: Duration,
    /// In whose name upstream is asked; nobody's where absent.
    pub credentials: Option<Credentials>,
    /// Whether what the tag named before is kept by a tag of its own, for [`Repository::remove_let_go`].
    pub lets_go: bool,
}

/// What the cache has after a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The digest of the manifest or index that the source names.
    pub digest: Digest,
    /// Bytes of all manifests, configurations and layers, each counted once.
    pub size: u64,
    /// Those that the cache has: `linux/amd64`, `linux/arm64/v8`; empty for what is no image.
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
        Self {
            platforms: Platforms::All,
            referrers: false,
            parallel_blobs: 3,
            time: Duration::from_hours(1),
            credentials: None,
            lets_go: false,
        }
    }
}

/// Copies an image from upstream to its [`Location`] in the cache.
///
/// Manifests and indexes are copied byte for byte. Each is pushed by its digest after all of it that is wanted, and the
/// tag is set last: what a tag names is always complete. An image that is there already costs upstream one HEAD.
///
/// Of an index, the images are copied that are for the wanted platforms; all of them where the cache refuses an index of
/// which some are missing. What is about the image comes last, and that it cannot be had is a note.
pub async fn copy(
    source: &Reference,
    connections: &Connections,
    cache: &Url,
    options: &CopyOptions,
    progress: &dyn Progress,
) -> Result<Copied, CopyError> {
    let location = Location::of(source);
    let copy = Copy {
        upstream: connections.upstream_as(source.registry(), source.repository(), options.credentials.clone()),
        target: connections.cache(cache, location.repository()),
        cache,
        parallel_blobs: options.parallel_blobs.max(1),
        lets_go: options.lets_go,
        done: Arc::new(AtomicU64::new(0)),
        uploaded: Arc::new(AtomicU64::new(0)),
    };
    let reference = source.manifest_reference();
    let copying = copy.run(&reference, location.tag(), &options.platforms, progress);
    let copied = tokio::time::timeout(options.time, copying).await;
    let (mut copied, whole) = copied.unwrap_or_else(|_| {
        let problem = format_args!("not copied within {:?}; the next try goes on from here", options.time);
        Err(copy.upstream.unusable(problem))
    })?;
    if options.referrers {
        copied.notes.extend(copy.bring_referrers(&whole).await);
    }
    Ok(copied)
}

pub(crate) struct Copy<'a> {
    pub(crate) upstream: Repository,
    pub(crate) target: Repository,
    cache: &'a Url,
    parallel_blobs: usize,
    pub(crate) lets_go: bool,
    /// Bytes of blobs that the target has.
    done: Arc<AtomicU64>,
    uploaded: Arc<AtomicU64>,
}

pub(crate) const TRIES: usize = 4;
/// A blob's download is taken up again by itself, so that this is for the upload.
const BLOB_TRIES: usize = 3;
const REPORT_EVERY: Duration = Duration::from_millis(500);
/// Of a configuration, for its platform.
const LARGEST_CONFIG: usize = 4 * 1024 * 1024;

impl Copy<'_> {
    /// Copies the image. Also returns the manifests that it was made of.
    async fn run(
        &self,
        reference: &str,
        tag: &str,
        wanted: &Platforms,
        progress: &dyn Progress,
    ) -> Result<(Copied, Plan), Error> {
        let root = self.upstream.resolve(reference).await?;
        let before = retried(TRIES, || self.target.head_manifest(tag)).await?.and_then(|existing| existing.digest);
        let tag = Some(tag).filter(|_| before.as_ref() != Some(&root));
        let (plan, notes) = match self.bring(&root, tag, wanted, progress).await? {
            Brought::All(plan, notes) => (plan, notes),
            Brought::Refused(error) => {
                tracing::debug!(%error, "the registry takes no index of which images are missing: all are copied");
                match self.bring(&root, tag, &Platforms::All, progress).await? {
                    Brought::All(plan, notes) => (plan, notes),
                    Brought::Refused(error) => return Err(error),
                }
            }
        };
        if let Some(before) = before.filter(|before| *before != root) {
            self.forget_referrers(&before).await;
        }
        let manifests = plan.manifests.iter().map(|part| part.manifest.bytes.len() as u64);
        let size = manifests.chain(plan.blobs.iter().map(|blob| blob.size)).fold(0, u64::saturating_add);
        let bytes_uploaded = self.uploaded.load(Ordering::Relaxed);
        let platforms = self.platforms(&plan).await?;
        Ok((Copied { digest: root, size, platforms, bytes_uploaded, notes }, plan))
    }

    /// Brings what is wanted of `root` into the target, and sets the tag at last.
    pub(crate) async fn bring(
        &self,
        root: &Digest,
        tag: Option<&str>,
        wanted: &Platforms,
        progress: &dyn Progress,
    ) -> Result<Brought, Error> {
        let plan = plan(root, &self.upstream, &self.target, wanted).await?;
        let missing = self.missing(&plan).await?;
        let total = plan.blobs.iter().map(|blob| blob.size).fold(0, u64::saturating_add);
        let absent = missing.iter().map(|blob| blob.size).fold(0, u64::saturating_add);
        self.done.store(total.saturating_sub(absent), Ordering::Relaxed);
        let notes = self.upload_all(missing, total, progress).await?;
        if let Some(tag) = tag {
            self.let_go(tag).await?;
        }
        match self.push_manifests(&plan, tag).await {
            Ok(()) => Ok(Brought::All(plan, notes)),
            Err(error) if !plan.left_out.is_empty() && refuses_gaps(&error) => Ok(Brought::Refused(error)),
            Err(error) => Err(error),
        }
    }

    /// Keeps what a tag has named until now, where that is wanted.
    pub(crate) async fn let_go(&self, tag: &str) -> Result<(), Error> {
        if self.lets_go { self.target.let_go(tag).await } else { Ok(()) }
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

    pub(crate) async fn push_manifest(&self, reference: &str, manifest: &Manifest) -> Result<(), Error> {
        retried(TRIES, || self.target.push_manifest(reference, manifest)).await?;
        self.uploaded.fetch_add(manifest.bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// What the target has of what the image offers: what was wanted, and what is there from before.
    async fn platforms(&self, plan: &Plan) -> Result<Vec<String>, Error> {
        if let Some(config) = &plan.only_config {
            return Ok(self.platform(config).await.into_iter().collect());
        }
        let looking = iter(plan.offered.clone()).map(|(digest, platform)| async move {
            let is_there = !plan.left_out.contains(&digest)
                || retried(TRIES, || self.target.head_manifest(digest.as_ref())).await?.is_some();
            Ok(is_there.then(|| platform.to_string()))
        });
        let found = looking.buffered(self.parallel_blobs).try_filter_map(|found| async { Ok(found) });
        let mut platforms: Vec<String> = found.try_collect().await?;
        let mut known = HashSet::new();
        platforms.retain(|platform| known.insert(platform.clone()));
        Ok(platforms)
    }

    /// Told for information only: an image is no worse for a configuration that does not name its platform.
    async fn platform(&self, config: &Blob) -> Option<String> {
        let response = self.target.get(&Object::Blob(config.digest.clone()), &GetOptions::default()).await.ok()?;
        Some(config_platform(&response.into_body().whole(LARGEST_CONFIG).await.ok()?)?.to_string())
    }
}

/// How an attempt to bring something into the target ended.
pub(crate) enum Brought {
    /// It is there, and these are notes on what was left out.
    All(Plan, Vec<String>),
    /// The target wants all that its indexes name.
    Refused(Error),
}

/// The target may not take an index of which images are missing: distribution 2.8 says `MANIFEST_BLOB_UNKNOWN` with a
/// 400, others have other words and numbers.
fn refuses_gaps(error: &Error) -> bool {
    error.status().is_some_and(|status| matches!(status.as_u16(), 400 | 404 | 409 | 422))
}
