use std::time::Duration;

use cache_registry_core::{Location, Reason, Reference};
use cache_registry_registry::{Connections, Copied, CopyError, CopyOptions, Error, Presence, copy};
use cache_registry_runtime::traces::{TRACES, note};
use tokio::time::timeout;
use tracing::Instrument as _;
use url::Url;

use crate::collection::Gate;
use crate::plan::Failure;
use crate::platforms::Wanted;
use crate::pull_secrets::{PullSecret, PullSecrets};
use crate::registry_access::Access;
use crate::turns::Turns;

/// What is asked of registries, so that the reconciler's tests need none.
pub(crate) trait Copier: Send + Sync + 'static {
    /// Copies an image into the registry, in the name of whom the Secrets say. When it returns `Ok`, the registry has it
    /// whole, under its tag.
    fn copy(&self, source: &Reference, secrets: &[PullSecret]) -> impl Future<Output = Result<Copied, Failure>> + Send;

    /// Whether the registry has the image under its tag, with all that is wanted of it.
    fn find(&self, source: &Reference) -> impl Future<Output = Result<Found, Failure>> + Send;

    /// The digest of what upstream means by the image's tag now.
    fn ask(&self, source: &Reference, secrets: &[PullSecret]) -> impl Future<Output = Result<String, Failure>> + Send;

    /// Whether the registry has this digest under the image's tag.
    fn has(&self, source: &Reference, digest: Option<&str>) -> impl Future<Output = Result<bool, Failure>> + Send;

    /// Takes the image's tag away from the registry, with the tags of what is about it, and nothing else.
    fn remove(&self, source: &Reference) -> impl Future<Output = Result<(), Failure>> + Send;

    /// The sources of all images that the registry has.
    fn inventory(&self) -> impl Future<Output = Result<Vec<Reference>, Failure>> + Send;

    /// Removes the manifests that were let go for long enough, and says in how long the next ones are due.
    fn remove_untagged(&self) -> impl Future<Output = Result<Option<Duration>, Failure>> + Send;
}

/// What the registry says of an image's tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// No such tag.
    Nothing,
    /// This digest; `None` from a registry that does not tell.
    Manifest(Option<String>),
    /// This digest, without all that is wanted of it.
    Part(String),
}

impl Found {
    /// True of this digest, as far as the registry tells.
    pub(crate) fn is(&self, digest: Option<&str>) -> bool {
        matches!(self, Self::Manifest(found) if found.is_none() || found.as_deref() == digest)
    }
}

/// The real thing.
pub(crate) struct RegistryCopier {
    pub(crate) connections: Connections,
    pub(crate) registry: Url,
    pub(crate) access: Access,
    pub(crate) gate: Gate,
    pub(crate) platforms: Wanted,
    pub(crate) referrers: bool,
    pub(crate) pull_secrets: PullSecrets,
    /// How long a manifest stays that has lost its tag; `None` where somebody else removes them.
    pub(crate) remove_untagged_after: Option<Duration>,
    pub(crate) turns: Turns,
}

impl Copier for RegistryCopier {
    async fn copy(&self, source: &Reference, secrets: &[PullSecret]) -> Result<Copied, Failure> {
        let span = tracing::info_span!(target: TRACES, parent: None, "copy", image = %source);
        let copying = async {
            let copied = self.copied(source, secrets).await;
            match &copied {
                Ok(copied) => note("cache_registry.bytes_uploaded", &copied.bytes_uploaded),
                Err(failure) => note("cache_registry.failure", failure.reason.as_str()),
            }
            copied
        };
        copying.instrument(span).await
    }

    async fn find(&self, source: &Reference) -> Result<Found, Failure> {
        self.open().await?;
        let location = Location::of(source);
        let repository = self.connections.cache(&self.registry, location.repository());
        let wanted = self.platforms.now().await;
        Ok(match self.within(SHORT, repository.presence(location.tag(), &wanted)).await? {
            Presence::Absent => Found::Nothing,
            Presence::Whole(digest) => Found::Manifest(Some(digest.to_string())),
            Presence::Partial(digest) => Found::Part(digest.to_string()),
        })
    }

    async fn ask(&self, source: &Reference, secrets: &[PullSecret]) -> Result<String, Failure> {
        let tag = source.manifest_reference();
        let asking = self.pull_secrets.each(source, secrets, |credentials| async {
            let repository = self.connections.upstream_as(source.registry(), source.repository(), credentials);
            Ok(repository.resolve(&tag).await?.to_string())
        });
        let late = |_| Failure {
            reason: Reason::UpstreamUnreachable,
            message: format!("{} did not say within {} s what it has.", source.registry(), PATIENCE.as_secs()),
            retry_after: None,
        };
        timeout(PATIENCE, asking).await.map_err(late)?
    }

    async fn has(&self, source: &Reference, digest: Option<&str>) -> Result<bool, Failure> {
        self.open().await?;
        let location = Location::of(source);
        let repository = self.connections.cache(&self.registry, location.repository());
        let manifest = self.within(SHORT, repository.head_manifest(location.tag())).await?;
        let found = manifest.map(|manifest| Found::Manifest(manifest.digest.map(|digest| digest.to_string())));
        Ok(found.is_some_and(|found| found.is(digest)))
    }

    async fn remove(&self, source: &Reference) -> Result<(), Failure> {
        self.open().await?;
        let location = Location::of(source);
        let repository = self.connections.cache(&self.registry, location.repository());
        let _writing = self.turns.write(location.repository()).await;
        self.within(SHORT, repository.delete_image(location.tag(), self.remove_untagged_after.is_some())).await
    }

    async fn inventory(&self) -> Result<Vec<Reference>, Failure> {
        self.open().await?;
        self.within(LONG, async {
            let mut found = Vec::new();
            for name in self.connections.repositories(&self.registry).await? {
                let tags = self.connections.cache(&self.registry, &name).tags().await?;
                found.extend(tags.iter().filter_map(|tag| Location::source(&name, tag)));
            }
            Ok(found)
        })
        .await
    }

    async fn remove_untagged(&self) -> Result<Option<Duration>, Failure> {
        let Some(after) = self.remove_untagged_after else { return Ok(None) };
        self.open().await?;
        tokio::select! {
            swept = self.within(LONG, self.sweep(after)) => swept,
            failure = self.gate.closed() => Err(failure),
        }
    }
}

/// Every wait of the connections is bounded; this bounds their sum for what is a few calls.
const SHORT: Duration = Duration::from_secs(30);

/// The same for a question to upstream, with its retries and mirrors.
const PATIENCE: Duration = Duration::from_mins(2);

/// When to come back to a repository that is being written to.
const BUSY: Duration = Duration::from_mins(1);

/// The same for a call for each repository.
const LONG: Duration = Duration::from_mins(10);

impl RegistryCopier {
    /// Fails while the registry is not to be used: for a garbage collection, or before there are credentials for it.
    async fn open(&self) -> Result<(), Failure> {
        self.gate.granted().await?;
        self.access.granted().await
    }

    async fn copied(&self, source: &Reference, secrets: &[PullSecret]) -> Result<Copied, Failure> {
        self.open().await?;
        let progress = |done, total| tracing::trace!(image = %source, done, total, "copying");
        let (platforms, referrers) = (self.platforms.now().await, self.referrers);
        let lets_go = self.remove_untagged_after.is_some();
        let copying = self.pull_secrets.each(source, secrets, |credentials| {
            let platforms = platforms.clone();
            let options = CopyOptions { platforms, referrers, lets_go, credentials, ..CopyOptions::default() };
            async move { Ok(copy(source, &self.connections, &self.registry, &options, &progress).await?) }
        });
        let _writing = self.turns.write(Location::of(source).repository()).await;
        tokio::select! {
            copied = copying => copied,
            // Begun anew when the gate is open again: what was pushed so far may be removed in the meantime.
            failure = self.gate.closed() => Err(failure),
        }
    }

    /// All repositories one after the other. One of which something can't be understood holds up no other.
    async fn sweep(&self, after: Duration) -> Result<Option<Duration>, Error> {
        let mut next: Option<Duration> = None;
        for name in self.connections.repositories(&self.registry).await? {
            let due = match self.turns.alone(&name) {
                None => Some(BUSY),
                Some(_alone) => match self.connections.cache(&self.registry, &name).remove_let_go(after).await {
                    Ok(swept) => swept.next,
                    Err(error) if error.is_transient() => return Err(error),
                    // Looked at again with the next inventory.
                    Err(error) => {
                        tracing::warn!(repository = name, %error, "what no tag reaches stays for now");
                        None
                    }
                },
            };
            next = next.into_iter().chain(due).min();
        }
        Ok(next)
    }

    async fn within<T>(&self, time: Duration, calls: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
        let late = |_| Failure {
            reason: Reason::RegistryUnreachable,
            message: format!("{} did not answer within {} s: is it running?", self.registry, time.as_secs()),
            retry_after: None,
        };
        Ok(timeout(time, calls).await.map_err(late)??)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { reason: error.reason(), message: error.to_string(), retry_after: error.retry_after() }
    }
}

impl From<CopyError> for Failure {
    fn from(error: CopyError) -> Self {
        Self { reason: error.reason(), message: error.to_string(), retry_after: error.retry_after() }
    }
}
