use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use cache_registry_core::{Location, Reference};
use tokio::time::Instant;

use super::{Done, Due, Name, Reconciler, concerned};
use crate::backoff::{pause, write_pause};
use crate::copier::Copier;
use crate::plan::{Action, Failure};
use crate::survey::SurveyError;
use crate::tracked::Tracked;

/// The end of an image: what is over is looked at afresh, what nothing uses is deleted, and the tag of what is deleted
/// is taken away, whoever deleted it.
impl<C: Copier> Reconciler<C> {
    /// The time of an image is over.
    pub(super) fn expire(&mut self, name: &Name) {
        let Some(tracked) = self.images.get_mut(name) else { return };
        tracked.expiring = true;
        self.due.insert(name.clone());
        self.settle(name);
        self.look_afresh();
    }

    /// One look serves all that are due when it begins.
    fn look_afresh(&mut self) {
        if self.looking || self.due.is_empty() {
            return;
        }
        self.looking = true;
        let (due, survey) = (std::mem::take(&mut self.due), self.survey.clone());
        self.tasks.spawn(async move {
            let outcome = survey.images().await;
            Done::Looked { due, outcome }
        });
    }

    pub(super) fn looked(&mut self, due: BTreeSet<Name>, outcome: &Result<HashSet<Reference>, SurveyError>) {
        self.looking = false;
        if let Err(error) = outcome {
            self.metrics.error("survey");
            tracing::warn!(%error, "what is in use can't be seen, so nothing is removed; trying on. May this ServiceAccount list pods and workloads?");
        }
        for name in due {
            match outcome {
                Ok(in_use) if self.is_among(&name, in_use) => {
                    tracing::info!(image = %name, "it is in use, which the watches have not told yet; it stays");
                    self.postpone(&name);
                }
                Ok(_) => self.delete(&name),
                Err(_) => self.postpone(&name),
            }
        }
        self.look_afresh();
    }

    fn is_among(&self, name: &Name, in_use: &HashSet<Reference>) -> bool {
        let Some(tracked) = self.images.get(name) else { return false };
        tracked.names().any(|image| in_use.contains(image))
    }

    /// Deletes an image that nothing uses, unless something has changed since it was due.
    fn delete(&mut self, name: &Name) {
        let Some(tracked) = self.images.get_mut(name) else { return };
        tracked.expiring = false;
        if self.decide(name) != Some(Action::Expire) {
            self.touch(name);
            return;
        }
        let Some(tracked) = self.images.get_mut(name) else { return };
        tracked.expiring = true;
        let (cluster, image, name) = (self.cluster.clone(), tracked.image.clone(), name.clone());
        self.tasks.spawn(async move {
            let outcome = cluster.expire(&image).await;
            Done::Expired { name, uid: image.metadata.uid, outcome }
        });
    }

    /// The watch tells of what was deleted.
    pub(super) fn expired(&mut self, name: &Name, uid: Option<&str>, outcome: Result<(), kube::Error>) {
        let Err(error) = outcome else { return };
        self.metrics.error("expire");
        tracing::warn!(image = %name, %error, "it has expired and can't be deleted; trying on. May this ServiceAccount delete CachedImages?");
        if concerned(&mut self.images, name, uid).is_some() {
            self.postpone(name);
        }
    }

    /// Tries again after a pause.
    fn postpone(&mut self, name: &Name) {
        let Some(tracked) = self.images.get_mut(name) else { return };
        tracked.expiring = false;
        tracked.expiry_failures = tracked.expiry_failures.saturating_add(1);
        tracked.expire_after = Some(Instant::now() + write_pause(tracked.expiry_failures, fastrand::f64()));
        self.touch(name);
    }

    /// Takes the tag of an image away whose `CachedImage` is gone, unless another one is kept there.
    pub(super) fn remove_tag(&mut self, source: &Arc<Reference>) {
        let location = Location::of(source);
        if self.is_wanted_at(&location) {
            self.removing.remove(&location);
            return;
        }
        self.removed_meanwhile.insert(location.clone());
        self.removing.entry(location).or_default();
        let (copier, source) = (self.copier.clone(), source.clone());
        self.tasks.spawn(async move {
            let outcome = copier.remove(&source).await;
            Done::TagRemoved { source, outcome }
        });
    }

    /// Two references with one digest are kept at one place.
    fn is_wanted_at(&self, location: &Location) -> bool {
        let images = self.images.values().filter_map(|tracked| tracked.source.as_ref());
        let coming = self.creating.keys().map(Arc::as_ref);
        images.chain(coming).any(|source| Location::of(source) == *location)
    }

    pub(super) fn tag_removed(&mut self, source: &Arc<Reference>, outcome: Result<(), Failure>) {
        let location = Location::of(source);
        if let Err(failure) = outcome {
            let failures = self.removing.entry(location).or_default();
            *failures = failures.saturating_add(1);
            let again_in = pause(failure.reason, *failures, failure.retry_after, fastrand::f64());
            tracing::warn!(image = %source, error = failure.message, ?again_in, "its tag can't be taken away");
            self.metrics.removal_failed();
            self.timers.insert(Due::Removal(source.clone()), again_in);
            return;
        }
        self.removing.remove(&location);
        self.metrics.removed();
        self.expect_untagged();
        tracing::info!(image = %source, "removed from the registry");
        // What has come meanwhile has waited for this.
        let at_its_place = |tracked: &Tracked| tracked.source.as_ref().map(Location::of).as_ref() == Some(&location);
        let come = self.images.iter().filter(|(_, tracked)| at_its_place(tracked));
        for name in come.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.touch(&name);
        }
        let used: Vec<_> =
            self.usage.images_of_pods().filter(|image| Location::of(image) == location).cloned().collect();
        for source in used {
            self.ensure(&source);
        }
    }
}
