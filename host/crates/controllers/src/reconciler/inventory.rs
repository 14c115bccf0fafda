use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use cache_registry_core::{Location, Reference};
use tokio::time::Instant;

use super::{Done, Due, Name, Reconciler, concerned};
use crate::backoff::pause;
use crate::copier::Copier;
use crate::plan::{Failure, Standing};
use crate::tracked::Tracked;

/// How often all that the registry has is compared with what is known of.
const INVENTORY_EVERY: Duration = Duration::from_hours(6);

/// How soon a registry is found out that has lost what it had: a volume that was wiped, a backup that was restored, a
/// pod without persistence that was replaced.
const SAMPLE_EVERY: Duration = Duration::from_secs(30);

/// How long it is before all images are asked about again because one is missing.
const DOUBT_AGAIN: Duration = Duration::from_mins(1);

/// What the registry has, compared with what is said about it.
impl<C: Copier> Reconciler<C> {
    /// Lists all that the registry has.
    pub(super) fn take_inventory(&mut self) {
        self.removed_meanwhile.clear();
        let copier = self.copier.clone();
        self.tasks.spawn(async move { Done::Inventory(copier.inventory().await) });
    }

    /// Makes a `CachedImage` for each image that none reports on: one of which the removal was cut short, or that was
    /// deleted while nobody led. From then on it expires like any other.
    pub(super) fn inventory_taken(&mut self, outcome: Result<Vec<Reference>, Failure>) {
        let found = match outcome {
            Ok(found) => found,
            Err(failure) => {
                let again_in = pause(failure.reason, u32::MAX, failure.retry_after, fastrand::f64());
                tracing::debug!(error = failure.message, ?again_in, "what the registry has can't be listed");
                self.timers.insert(Due::Inventory, again_in);
                return;
            }
        };
        let images = self.images.values().filter_map(|tracked| tracked.source.as_ref());
        let known = images.chain(self.creating.keys().map(Arc::as_ref)).map(Location::of);
        let going = self.removing.keys().chain(&self.removed_meanwhile).cloned();
        let mut known: HashSet<Location> = known.chain(going).collect();
        for source in found {
            if known.insert(Location::of(&source)) {
                tracing::info!(image = %source, "the registry has it, and no CachedImage says so: there will be one");
                let source = Arc::new(source);
                self.adopting.insert(source.clone());
                self.creating.insert(source.clone(), 0);
                self.create(source);
            }
        }
        // Those that were let go under another leader.
        self.remove_untagged();
        self.timers.insert(Due::Inventory, INVENTORY_EVERY.mul_f64(0.9 + fastrand::f64() / 5.0));
    }

    /// Asks about the image that was copied last: a backup that was restored lacks it if it lacks any, or has what its tag
    /// meant before.
    pub(super) fn sample(&mut self) {
        self.timers.insert(Due::Sample, SAMPLE_EVERY);
        let cached = self.images.iter().filter(|(_, tracked)| matches!(tracked.standing, Standing::Cached { .. }));
        let copied_at = |tracked: &Tracked| Some(tracked.image.status.as_ref()?.last_copied.as_ref()?.0);
        let Some((name, tracked)) = cached.max_by_key(|(_, tracked)| copied_at(tracked)) else { return };
        let (Some(source), name, uid) = (tracked.source.clone(), name.clone(), tracked.image.metadata.uid.clone())
        else {
            return;
        };
        let told = tracked.image.status.as_ref().and_then(|status| status.digest.clone());
        let copier = self.copier.clone();
        self.tasks.spawn(async move {
            let outcome = copier.has(&source, told.as_deref()).await;
            Done::Sampled { name, uid, outcome }
        });
    }

    /// A registry that does not answer has lost nothing.
    pub(super) fn sampled(&mut self, name: &Name, uid: Option<&str>, outcome: &Result<bool, Failure>) {
        let tracked = concerned(&mut self.images, name, uid);
        let is_cached = tracked.is_some_and(|tracked| matches!(tracked.standing, Standing::Cached { .. }));
        if is_cached && matches!(outcome, Ok(false)) {
            self.doubt();
        }
    }

    /// The registry has lost an image that it had: it is asked about all others as well.
    pub(super) fn doubt(&mut self) {
        let now = Instant::now();
        if self.doubted.is_some_and(|at| now < at + DOUBT_AGAIN) {
            return;
        }
        self.doubted = Some(now);
        tracing::warn!("the registry has lost an image that it had: it is asked about all of them");
        self.check_all();
    }

    /// Asks the registry about all images that it should have.
    pub(super) fn check_all(&mut self) {
        let now = Instant::now();
        for name in self.images.keys().cloned().collect::<Vec<_>>() {
            if let Some(Standing::Cached { check_at, .. }) =
                self.images.get_mut(&name).map(|tracked| &mut tracked.standing)
            {
                *check_at = now;
                self.touch(&name);
            }
        }
    }
}
