use std::time::Duration;

use cache_registry_api::labels::{EXPIRY_DELAY_ANNOTATION, UPDATE_INTERVAL_ANNOTATION};
use cache_registry_api::{CachedImage, CachedImageStatus};
use cache_registry_core::{Reason, Reference};
use cache_registry_registry::Copied;
use jiff::Timestamp;
use kube::ResourceExt as _;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::time::delay_queue;

use crate::backoff::{pause, write_pause};
use crate::copier::Found;
use crate::freshness::Freshness;
use crate::metrics::{Check, Metrics};
use crate::plan::{CHECK_EVERY, Failure, Kept, Standing, Task, own_expiry_delay, own_update_interval};
use crate::pull_secrets::PullSecret;

/// A `CachedImage`, as the API server had it last, and what is known beyond.
pub(crate) struct Tracked {
    pub(crate) image: CachedImage,
    /// `None` where `sourceImage` is no reference.
    pub(crate) source: Option<Reference>,
    /// What its status says that pods ask for to get it.
    pub(crate) originals: Vec<Reference>,
    pub(crate) standing: Standing,
    pub(crate) freshness: Freshness,
    /// Questions to upstream, and copies of what it has now, that failed in a row.
    pub(crate) stale_failures: u32,
    /// Tasks that failed in a row.
    pub(crate) failures: u32,
    /// With which Secrets it was last tried to copy it.
    pub(crate) tried_with: Vec<PullSecret>,
    /// The task that runs for it.
    pub(crate) running: Option<AbortHandle>,
    pub(crate) timer: Option<(delay_queue::Key, Instant)>,
    /// True while a status is on its way to the API server.
    pub(crate) writing: bool,
    /// Writes that failed in a row, and when to try the next.
    pub(crate) write_failures: u32,
    pub(crate) write_after: Option<Instant>,
    /// True while its end is being seen to.
    pub(crate) expiring: bool,
    /// How often in a row that did not come to pass, and when to try again.
    pub(crate) expiry_failures: u32,
    pub(crate) expire_after: Option<Instant>,
    /// True when it goes before its time, because the registry holds too much.
    pub(crate) makes_room: bool,
    /// As what it is counted in the metrics.
    pub(crate) counted: Option<Reason>,
}

impl Tracked {
    /// One that has just appeared.
    pub(crate) fn new(image: CachedImage, source: Option<Reference>) -> Self {
        for (annotation, time) in [
            (EXPIRY_DELAY_ANNOTATION, own_expiry_delay(&image)),
            (UPDATE_INTERVAL_ANNOTATION, own_update_interval(&image)),
        ] {
            if let Some(Err(problem)) = time {
                let image = image.name_any();
                tracing::warn!(image, annotation, problem, "this is no length of time, and counts for nothing");
            }
        }
        let can_move = source.as_ref().is_some_and(Reference::can_move);
        let originals = originals(&image);
        Self {
            image,
            source,
            originals,
            standing: Standing::Unknown,
            freshness: Freshness::new(can_move, Instant::now(), fastrand::f64()),
            stale_failures: 0,
            failures: 0,
            tried_with: Vec::new(),
            running: None,
            timer: None,
            writing: false,
            write_failures: 0,
            write_after: None,
            expiring: false,
            expiry_failures: 0,
            expire_after: None,
            makes_room: false,
            counted: None,
        }
    }

    /// Notes how the API server has it now.
    pub(crate) fn is_now(&mut self, image: CachedImage) {
        self.originals = originals(&image);
        self.image = image;
    }

    /// All references under which it may be in use.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Reference> {
        self.source.iter().chain(&self.originals)
    }

    /// True where it could not be copied, and it may be that nobody was let in.
    pub(crate) fn lacks_access(&self) -> bool {
        let Standing::Failed { task: Task::Copy, failure, .. } = &self.standing else { return false };
        matches!(failure.reason, Reason::Unauthorized | Reason::NotFound)
    }

    /// Of one that lacks access, notes with which Secrets it can be tried now: whoever came with another one must not wait
    /// for as long as those who were refused.
    pub(crate) fn may_be_pulled_with(&mut self, secrets: &[PullSecret]) {
        if secrets.iter().any(|secret| !self.tried_with.contains(secret)) {
            self.standing = Standing::Missing;
        }
    }

    /// Notes what upstream means by the tag.
    pub(crate) fn asked(&mut self, outcome: Result<String, Failure>) {
        self.running = None;
        let told = self.image.status.as_ref().and_then(|status| status.digest.as_deref());
        match outcome {
            Ok(digest) if told == Some(&digest) => self.is_current(),
            Ok(digest) => {
                tracing::info!(image = self.image.spec.source_image, was = told, is = digest, "upstream moved the tag");
                self.freshness = Freshness::Moved;
            }
            Err(failure) => self.may_be_stale(Task::Ask, failure),
        }
    }

    fn is_current(&mut self) {
        self.stale_failures = 0;
        let can_move = self.source.as_ref().is_some_and(Reference::can_move);
        self.freshness = Freshness::current(can_move, Instant::now(), fastrand::f64());
    }

    fn may_be_stale(&mut self, task: Task, failure: Failure) {
        self.stale_failures = self.stale_failures.saturating_add(1);
        let pause = pause(failure.reason, self.stale_failures, failure.retry_after, fastrand::f64());
        let (image, reason) = (&self.image.spec.source_image, failure.reason.as_str());
        tracing::debug!(image, reason, error = failure.message, again_in = ?pause, "it may be out of date");
        self.freshness = Freshness::Failed { task, failure, retry_at: Instant::now() + pause };
    }

    /// Notes the outcome of a copy: the first one, or of what upstream has now.
    pub(crate) fn copied(&mut self, task: Task, time: Duration, outcome: Result<Copied, Failure>, metrics: &Metrics) {
        self.running = None;
        let now = Timestamp::now();
        let image = &self.image.spec.source_image;
        match outcome {
            Ok(copied) => {
                metrics.copied(time, copied.bytes_uploaded);
                tracing::info!(
                    image, digest = %copied.digest, size = copied.size, uploaded = copied.bytes_uploaded, ?time, "cached"
                );
                self.failures = 0;
                self.is_current();
                let kept = Kept {
                    digest: copied.digest.to_string(),
                    size: i64::try_from(copied.size).unwrap_or(i64::MAX),
                    platforms: copied.platforms,
                    notes: notes(copied.notes),
                    at: now,
                };
                self.standing = Standing::Cached { copied: Some(kept), checked: now, check_at: next_check() };
            }
            Err(failure) => {
                metrics.copy_failed(failure.reason);
                if task == Task::Update {
                    self.may_be_stale(task, failure);
                } else {
                    self.failed(task, failure);
                }
            }
        }
    }

    /// Notes what the registry said.
    pub(crate) fn checked(&mut self, outcome: Result<Found, Failure>, metrics: &Metrics) {
        self.running = None;
        let now = Timestamp::now();
        let told = self.image.status.as_ref().and_then(|status| status.digest.as_deref());
        match outcome {
            Ok(found) if found.is(told) => {
                metrics.checked(Check::Found);
                self.failures = 0;
                self.standing = Standing::Cached { copied: None, checked: now, check_at: next_check() };
            }
            // Nodes of another kind have come, say. What is there is there, whatever becomes of the rest.
            Ok(Found::Part(digest)) if told == Some(&digest) => {
                metrics.checked(Check::Partial);
                tracing::info!(
                    image = self.image.spec.source_image,
                    "the registry lacks a part of it, which is copied"
                );
                self.failures = 0;
                self.freshness = Freshness::Moved;
                self.standing = Standing::Cached { copied: None, checked: now, check_at: next_check() };
            }
            Ok(found) => {
                metrics.checked(Check::Lost);
                tracing::warn!(
                    image = self.image.spec.source_image,
                    expected = told,
                    ?found,
                    "the registry lost it; copying again"
                );
                self.failures = 0;
                self.standing = Standing::Missing;
            }
            Err(failure) => {
                metrics.checked(Check::Failed);
                self.failed(Task::Check, failure);
            }
        }
    }

    fn failed(&mut self, task: Task, failure: Failure) {
        self.failures = self.failures.saturating_add(1);
        let pause = pause(failure.reason, self.failures, failure.retry_after, fastrand::f64());
        let (image, reason) = (&self.image.spec.source_image, failure.reason.as_str());
        if self.failures == 1 {
            tracing::warn!(image, ?task, reason, error = failure.message, again_in = ?pause, "failed");
        } else {
            tracing::debug!(image, ?task, reason, error = failure.message, again_in = ?pause, "failed again");
        }
        self.standing = Standing::Failed { task, failure, retry_at: Instant::now() + pause };
    }

    /// Notes the outcome of writing `status`.
    pub(crate) fn written(
        &mut self,
        status: &CachedImageStatus,
        outcome: Result<Box<CachedImage>, kube::Error>,
        metrics: &Metrics,
    ) {
        self.writing = false;
        let name = self.image.name_any();
        match outcome {
            Ok(mut image) => {
                let kept = image.status.as_ref() == Some(status);
                if image.metadata.uid == self.image.metadata.uid && !is_older(&image, &self.image) {
                    image.metadata.managed_fields = None;
                    self.is_now(*image);
                }
                if kept {
                    self.write_failures = 0;
                    self.write_after = None;
                    return;
                }
                tracing::warn!(
                    image = name,
                    "the API server keeps another status than was written: is the CRD of this version applied?"
                );
            }
            // Deleted, or deleted and created anew: the watch tells.
            Err(kube::Error::Api(refusal)) if matches!(refusal.code, 404 | 409) => {
                tracing::debug!(image = name, %refusal, "the status was not written");
            }
            Err(error) => {
                tracing::warn!(image = name, %error, "the status can't be written; trying on. May this ServiceAccount patch cachedimages/status?");
            }
        }
        metrics.error("status");
        self.write_failures = self.write_failures.saturating_add(1);
        let pause = write_pause(self.write_failures, fastrand::f64());
        self.write_after = Some(Instant::now() + pause);
    }
}

fn originals(image: &CachedImage) -> Vec<Reference> {
    let told = image.status.iter().flat_map(|status| &status.originals);
    told.filter_map(|original| original.parse().ok()).collect()
}

/// True when `image` is a state from before `known`: what a write returns overtakes what the watch brings.
/// Versions of one resource are ordered numbers
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>).
pub(crate) fn is_older(image: &CachedImage, known: &CachedImage) -> bool {
    let version =
        |image: &CachedImage| image.metadata.resource_version.as_deref().and_then(|text| text.parse::<u64>().ok());
    matches!((version(image), version(known)), (Some(image), Some(known)) if image < known)
}

/// What a status holds of them.
const MOST_NOTES: usize = 10;
const LONGEST_NOTE: usize = 500;

fn notes(all: Vec<String>) -> Vec<String> {
    all.into_iter().take(MOST_NOTES).map(|note| note.chars().take(LONGEST_NOTE).collect()).collect()
}

fn next_check() -> Instant {
    Instant::now() + CHECK_EVERY.mul_f64(0.9 + fastrand::f64() / 5.0)
}
