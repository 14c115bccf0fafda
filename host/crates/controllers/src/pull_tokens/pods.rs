use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use cache_registry_core::{NodeAddress, Reference};
use futures::StreamExt as _;
use kube::core::DeserializeGuard;
use kube::{Api, Client};
use kube_runtime::WatchStreamExt as _;
use kube_runtime::watcher::{self, Event, watcher};
use tokio::sync::watch;
use tokio::time::timeout;

use super::Refusal;
use crate::PAGE;
use crate::index::{Index, Uses};
use crate::pod_sources::{Pod, wanted};
use crate::pull_secrets::PullSecret;

/// Which images pods use, and with which Secrets: from whatever watch of pods there is, the reconciler's while this replica
/// leads and its own before.
pub(crate) struct Pods {
    node: NodeAddress,
    index: Mutex<Index>,
    changed: watch::Sender<()>,
}

/// What pods use of a repository.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Used {
    /// One of the images.
    pub(super) source: Reference,
    pub(super) secrets: Vec<PullSecret>,
}

/// A pod that was just admitted may be on its node before the watch brings it here.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

impl Pods {
    pub(super) fn new(node: NodeAddress) -> Self {
        Self { node, index: Mutex::default(), changed: watch::Sender::new(()) }
    }

    /// Takes in what a watch says. What was known stays until a new listing is complete.
    pub(crate) fn see(&self, event: &Event<DeserializeGuard<Pod>>) {
        let read = |pod: &DeserializeGuard<Pod>| pod.0.as_ref().map(|pod| self.uses(pod)).unwrap_or_default();
        self.index.lock().unwrap_or_else(PoisonError::into_inner).apply(event, read);
        self.changed.send_replace(());
    }

    /// Watches pods itself, until it is dropped.
    pub(crate) async fn watch(&self, client: Client) -> Infallible {
        let paged = watcher::Config::default().page_size(PAGE);
        let mut events = pin!(watcher(Api::all(client), paged).default_backoff());
        loop {
            match events.next().await {
                Some(Ok(event)) => self.see(&event),
                Some(Err(error)) => tracing::debug!(%error, "watching pods goes on when the API server answers again"),
                None => return std::future::pending().await,
            }
        }
    }

    /// What pods use of a repository; waits a little for the first of them.
    pub(super) async fn using(&self, registry: &str, repository: &str) -> Result<Used, Refusal> {
        let mut changes = self.changed.subscribe();
        let looking = async {
            loop {
                if let Some(used) = self.used(registry, repository) {
                    return used;
                }
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        timeout(LONGEST_WAIT, looking).await.map_err(|_| {
            if self.index.lock().unwrap_or_else(PoisonError::into_inner).is_complete() {
                Refusal::new(StatusCode::NOT_FOUND, "no pod uses it")
            } else {
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the controllers do not know yet which pods there are")
            }
        })
    }

    fn used(&self, registry: &str, repository: &str) -> Option<Used> {
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let is_of_it = |image: &&Reference| image.registry() == registry && image.repository() == repository;
        let images = || index.images().map(AsRef::as_ref).filter(is_of_it);
        let source = images().next()?.clone();
        let secrets: BTreeSet<_> = images().flat_map(|image| index.pull_secrets(image)).collect();
        Some(Used { source, secrets: secrets.into_iter().collect() })
    }

    fn uses(&self, pod: &Pod) -> Uses {
        let images = wanted(pod, &self.node).into_iter().map(|wanted| wanted.source).collect();
        Uses { images, pull_secrets: pod.spec.pull_secrets() }
    }
}
