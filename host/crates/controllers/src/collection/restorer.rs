use std::convert::Infallible;
use std::pin::pin;

use cache_registry_api::labels::{COLLECTION_ANNOTATION, LAST_COLLECTION_ANNOTATION};
use cache_registry_api::{CollectionRecord, CollectionReport};
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt as _};
use kube_runtime::WatchStreamExt as _;
use kube_runtime::events::EventType;
use kube_runtime::watcher::watch_object;
use tokio::sync::watch;

use super::api::{Means, Objects};
use super::drive::drive;
use super::gate::{Gate, Standing};
use super::metrics::CollectionMetrics;
use super::name_of;
use super::step::Goal;
use crate::lease::{Leadership, Times};

/// Puts the registry back after a run that did not, and tells writers to hold still during one.
pub(crate) struct Restorer {
    client: Client,
    namespace: String,
    identity: String,
    /// The registry's; `None` for a registry that nobody here stops.
    stateful_set: Option<String>,
    standing: watch::Sender<Standing>,
    metrics: CollectionMetrics,
}

impl Restorer {
    /// `identity` is named in the Lease and in Events.
    pub(crate) fn new(
        client: Client,
        namespace: &str,
        identity: &str,
        stateful_set: Option<String>,
        metrics: CollectionMetrics,
    ) -> Self {
        let standing = if stateful_set.is_some() { Standing::Unknown } else { Standing::Open };
        Self {
            client,
            namespace: namespace.to_owned(),
            identity: identity.to_owned(),
            stateful_set,
            standing: watch::Sender::new(standing),
            metrics,
        }
    }

    /// For who writes to the registry.
    pub(crate) fn gate(&self) -> Gate {
        Gate::new(self.standing.subscribe())
    }

    /// Does both for as long as it is polled.
    pub(crate) async fn keep(&self) -> Infallible {
        let Some(name) = &self.stateful_set else { return std::future::pending().await };
        tokio::select! {
            never = self.follow(name) => never,
            never = self.restore(name) => never,
        }
    }

    /// Notes every change of the `StatefulSet`.
    async fn follow(&self, name: &str) -> Infallible {
        let stateful_sets: Api<PartialObjectMeta<StatefulSet>> = Api::namespaced(self.client.clone(), &self.namespace);
        loop {
            let mut changes = pin!(watch_object(stateful_sets.clone(), name).default_backoff());
            while let Some(change) = changes.next().await {
                match change {
                    Ok(found) => self.note(found.as_ref()),
                    Err(error) => {
                        tracing::warn!(stateful_set = name, %error, "the registry's StatefulSet can't be watched; trying on. May this ServiceAccount get, list and watch it?");
                    }
                }
            }
        }
    }

    /// A `StatefulSet` that is not there is not being collected either.
    fn note(&self, found: Option<&PartialObjectMeta<StatefulSet>>) {
        let annotation = |key: &str| found?.annotations().get(key).map(String::as_str);
        let record = annotation(COLLECTION_ANNOTATION).map(CollectionRecord::read);
        self.metrics.under_way(record.is_some());
        if let Some(report) = annotation(LAST_COLLECTION_ANNOTATION).and_then(CollectionReport::read) {
            self.metrics.last(&report);
        }
        let standing = record.map_or(Standing::Open, Standing::Collecting);
        self.standing.send_if_modified(|before| {
            let is_news = *before != standing;
            *before = standing;
            is_news
        });
    }

    /// Waits for a record that nobody looks after, and puts the registry back.
    async fn restore(&self, name: &str) -> Infallible {
        let is_away = |standing: &Standing| matches!(standing, Standing::Collecting(_));
        let mut standing = self.standing.subscribe();
        let objects = Objects::new(self.client.clone(), &self.namespace, name, &self.identity);
        loop {
            // The sender is this very object's.
            let _ = standing.wait_for(is_away).await;
            let me = format!("{}_{:08x}", self.identity, fastrand::u32(..));
            let mut leadership =
                Leadership::new(self.client.clone(), &self.namespace, &name_of(name), me, Times::default());
            tokio::select! {
                // The run holds it as long as it lives.
                () = leadership.acquire(|| {}) => {}
                _ = standing.wait_for(|standing| !is_away(standing)) => continue,
            }
            let means = Means::default();
            let restored = tokio::select! {
                restored = drive(&objects, &Goal::Restore, &means) => restored,
                () = leadership.keep() => continue,
            };
            leadership.release().await;
            match restored {
                Ok(reached) if reached.acted => {
                    let note = "A garbage collection did not end by itself; the registry was put back.";
                    tracing::warn!(stateful_set = name, "{note}");
                    self.metrics.restored();
                    objects.tell(&reached.sight, EventType::Warning, "RegistryPutBack", note).await;
                }
                Ok(_) => {}
                Err(why) => {
                    tracing::error!(stateful_set = name, why, "the registry was put back after a garbage collection");
                }
            }
            // The watch may be a little behind.
            let _ = standing.wait_for(|standing| !is_away(standing)).await;
        }
    }
}
