use std::sync::Arc;

use cache_registry_core::Reference;

use super::{Done, Due, Reconciler};
use crate::backoff::write_pause;
use crate::copier::Copier;

/// `CachedImage`s for what pods use, and for what the registry has.
impl<C: Copier> Reconciler<C> {
    /// Creates the `CachedImage` of a source that pods use, unless there is one or it is on its way.
    pub(super) fn ensure(&mut self, source: &Arc<Reference>) {
        let known = self.listed && self.usage.knows_all_pods();
        let there = self.named.contains_key(source) || self.creating.contains_key(source);
        if known && self.usage.has_pods(source) && !there {
            self.creating.insert(source.clone(), 0);
            self.create(source.clone());
        }
    }

    pub(super) fn create(&mut self, source: Arc<Reference>) {
        let wanted = self.usage.has_pods(&source) || self.adopting.contains(&source);
        if !wanted || self.named.contains_key(&source) {
            self.creating.remove(&source);
            self.adopting.remove(&source);
            return;
        }
        let cluster = self.cluster.clone();
        self.tasks.spawn(async move {
            let outcome = cluster.create(&source).await;
            Done::Created { source, outcome }
        });
    }

    pub(super) fn created(&mut self, source: Arc<Reference>, outcome: Result<(), kube::Error>) {
        match outcome {
            Ok(()) => {
                self.creating.remove(&source);
                self.adopting.remove(&source);
            }
            Err(error) => {
                let failures = self.creating.entry(source.clone()).or_default();
                *failures += 1;
                self.metrics.error("create");
                tracing::warn!(image = %source, %error, "the CachedImage can't be created; trying on. May this ServiceAccount create CachedImages?");
                let pause = write_pause(*failures, fastrand::f64());
                self.timers.insert(Due::Source(source), pause);
            }
        }
    }
}
