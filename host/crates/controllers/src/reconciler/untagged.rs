use std::time::Duration;

use tokio::time::Instant;
use tokio_util::time::delay_queue;

use super::{Done, Due, Reconciler};
use crate::backoff::pause;
use crate::copier::Copier;
use crate::plan::Failure;

/// When manifests are removed that lost their tags. The registry remembers them ([`cache_registry_core::LetGo`]), so that
/// what is known here is no more than when to look.
#[derive(Debug)]
pub(super) struct Untagged {
    /// How long they stay; `None` where somebody else removes them.
    after: Option<Duration>,
    timer: Option<(delay_queue::Key, Instant)>,
    /// True while they are being removed.
    under_way: bool,
    failures: u32,
}

/// For more than one to be removed at once; and what is let go at a second is due after its end.
const SETTLE: Duration = Duration::from_secs(1);

impl Untagged {
    pub(super) fn after(after: Option<Duration>) -> Self {
        Self { after, timer: None, under_way: false, failures: 0 }
    }
}

impl<C: Copier> Reconciler<C> {
    /// A tag was taken away, or moved.
    pub(super) fn expect_untagged(&mut self) {
        if let Some(after) = self.untagged.after {
            self.look_for_untagged_in(after);
        }
    }

    /// Looks then, or sooner where that is planned already.
    fn look_for_untagged_in(&mut self, time: Duration) {
        let at = Instant::now() + time + SETTLE;
        if self.untagged.timer.as_ref().is_some_and(|(_, planned)| *planned <= at) {
            return;
        }
        if let Some((key, _)) = self.untagged.timer.take() {
            self.timers.try_remove(&key);
        }
        self.untagged.timer = Some((self.timers.insert_at(Due::Untagged, at), at));
    }

    /// The timer has gone off.
    pub(super) fn untagged_due(&mut self) {
        self.untagged.timer = None;
        self.remove_untagged();
    }

    pub(super) fn remove_untagged(&mut self) {
        if self.untagged.after.is_none() {
            return;
        }
        if self.untagged.under_way {
            // It may be past where something was let go since.
            self.look_for_untagged_in(Duration::ZERO);
            return;
        }
        self.untagged.under_way = true;
        let copier = self.copier.clone();
        self.tasks.spawn(async move { Done::UntaggedRemoved(copier.remove_untagged().await) });
    }

    pub(super) fn untagged_removed(&mut self, outcome: Result<Option<Duration>, Failure>) {
        self.untagged.under_way = false;
        match outcome {
            Ok(next) => {
                self.untagged.failures = 0;
                if let Some(next) = next {
                    self.look_for_untagged_in(next);
                }
            }
            Err(failure) => {
                self.untagged.failures = self.untagged.failures.saturating_add(1);
                let again_in = pause(failure.reason, self.untagged.failures, failure.retry_after, fastrand::f64());
                tracing::debug!(error = failure.message, ?again_in, "manifests that no tag reaches can't be removed");
                self.look_for_untagged_in(again_in);
            }
        }
    }
}
