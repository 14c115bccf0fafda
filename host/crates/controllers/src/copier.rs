use std::time::Duration;

use cache_registry_core::{Location, Reference};
use cache_registry_registry::{Connections, Copied, CopyError, CopyOptions, Error, copy};
use tokio::time::timeout;
use url::Url;

use crate::collection::Gate;
use crate::plan::Failure;
use crate::registry_access::Access;

/// What is asked of registries, so that the reconciler's tests need none.
pub(crate) trait Copier: Send + Sync + 'static {
    /// Copies an image into the registry. When it returns `Ok`, the registry has it whole, under its tag.
    fn copy(&self, source: &Reference) -> impl Future<Output = Result<Copied, Failure>> + Send;

    /// Whether the registry has the image under its tag.
    fn find(&self, source: &Reference) -> impl Future<Output = Result<Found, Failure>> + Send;
}

/// What the registry says of an image's tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// No such tag.
    Nothing,
    /// This digest; `None` from a registry that does not tell.
    Manifest(Option<String>),
}

/// The real thing.
pub(crate) struct RegistryCopier {
    pub(crate) connections: Connections,
    pub(crate) registry: Url,
    pub(crate) access: Access,
    pub(crate) gate: Gate,
}

impl Copier for RegistryCopier {
    async fn copy(&self, source: &Reference) -> Result<Copied, Failure> {
        self.gate.granted().await?;
        self.access.granted().await?;
        let progress = |done, total| tracing::trace!(image = %source, done, total, "copying");
        let options = CopyOptions::default();
        tokio::select! {
            copied = copy(source, &self.connections, &self.registry, &options, &progress) => Ok(copied?),
            // Begun anew when the gate is open again: what was pushed so far may be removed in the meantime.
            failure = self.gate.closed() => Err(failure),
        }
    }

    async fn find(&self, source: &Reference) -> Result<Found, Failure> {
        // Every wait of the connections is bounded; this bounds their sum.
        const LONGEST: Duration = Duration::from_secs(30);
        self.gate.granted().await?;
        self.access.granted().await?;
        let location = Location::of(source);
        let repository = self.connections.cache(&self.registry, location.repository());
        let late = |_| Failure {
            reason: cache_registry_core::Reason::RegistryUnreachable,
            message: format!("{} did not answer within {} s: is it running?", self.registry, LONGEST.as_secs()),
            retry_after: None,
        };
        let found = timeout(LONGEST, repository.head_manifest(location.tag())).await.map_err(late)??;
        Ok(found.map_or(Found::Nothing, |existing| Found::Manifest(existing.digest.map(|digest| digest.to_string()))))
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
