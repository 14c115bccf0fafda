use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::engine::Limits;

/// Where a decision is made, and for how long.
#[derive(Debug)]
pub(crate) struct Pace {
    in_place: AtomicBool,
    /// The thread that it is made on in place, and what that had had on a core.
    began: (ThreadId, Duration),
    asked: Instant,
    longest: Duration,
}

/// A decision was not made in time, as the threads that it is made on did not get to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too little of the processor for {0:?}")]
pub(crate) struct Late(pub(crate) Duration);

/// How long the thread that serves a request is on it, and until the next tick.
const PATIENCE: Duration = Duration::from_micros(150);

/// The same where no tick was, as many questions were short.
const BETWEEN_QUESTIONS: Duration = Duration::from_micros(450);

/// The API server waits for five seconds, where the chart is not told otherwise.
const LONGEST: Duration = Duration::from_secs(3);

impl Pace {
    /// In place, as long as it does not take long.
    pub(crate) fn in_place(limits: &Limits) -> Arc<Self> {
        Arc::new(Self::new(limits, true))
    }

    /// Where it is, however long it takes.
    pub(crate) fn unhurried(limits: &Limits) -> Arc<Self> {
        Arc::new(Self::new(limits, false))
    }

    /// It goes on where it may be slow.
    pub(crate) fn slow_down(&self) {
        self.in_place.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_in_place(&self) -> bool {
        self.in_place.load(Ordering::Relaxed)
    }

    /// The thread that it is made on in place, and what that had had on a core by then.
    pub(crate) fn began(&self) -> (ThreadId, Duration) {
        self.began
    }

    /// Whether the thread that it is made on in place, and which has had so much on a core, may go on with it.
    pub(crate) fn is_in_place_still(&self, on_a_core: Duration) -> bool {
        self.is_in_place() && on_a_core.saturating_sub(self.began.1) <= PATIENCE
    }

    /// Where the thread that it is made on in place should have something else to do `now`, waits as below, and says so.
    /// What comes next may take a moment without a tick.
    pub(crate) async fn step_aside_if_slow(&self, now: Instant) -> bool {
        // Nobody has more on a core than has passed. To know that is no system call.
        let is_slow = self.is_in_place()
            && now.saturating_duration_since(self.asked) > BETWEEN_QUESTIONS
            && on_a_core().saturating_sub(self.began.1) > BETWEEN_QUESTIONS;
        if is_slow {
            self.step_aside().await;
        }
        is_slow
    }

    /// Waits until it is not made in place.
    pub(crate) async fn step_aside(&self) {
        poll_fn(|_| if self.is_in_place() { Poll::Pending } else { Poll::Ready(()) }).await;
    }

    /// Whether anybody waits for it still, `now`.
    pub(crate) fn is_in_time(&self, now: Instant) -> Result<(), Late> {
        if now.saturating_duration_since(self.asked) < self.longest { Ok(()) } else { Err(Late(self.longest)) }
    }

    /// How long it may take.
    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }

    fn new(limits: &Limits, in_place: bool) -> Self {
        let longest = LONGEST.max(limits.time.saturating_mul(4));
        let began = (thread::current().id(), on_a_core());
        Self { in_place: AtomicBool::new(in_place), began, asked: Instant::now(), longest }
    }
}

/// The time that this thread has had on a core.
pub(crate) fn on_a_core() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

#[cfg(test)]
impl Pace {
    /// As it is when nobody waits any more.
    pub(crate) fn over() -> Arc<Self> {
        Arc::new(Self { longest: Duration::ZERO, ..Self::new(&Limits::default(), false) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_a_core_for_long_is_in_place_no_more() {
        let limits = Limits::default();
        let (in_place, unhurried) = (Pace::in_place(&limits), Pace::unhurried(&limits));
        let (short, long) = (in_place.began.1 + PATIENCE, in_place.began.1 + 2 * PATIENCE);
        assert!(in_place.is_in_place_still(short) && !in_place.is_in_place_still(long));
        assert!(!unhurried.is_in_place_still(unhurried.began.1));
        in_place.slow_down();
        assert!(!in_place.is_in_place_still(short));
    }

    #[test]
    fn a_decision_has_the_time_that_the_api_server_waits_and_more_where_policies_have() {
        let of = |time| Pace::in_place(&Limits { time, ..Limits::default() }).longest();
        assert_eq!(of(Duration::from_millis(50)), LONGEST);
        assert_eq!(of(Duration::from_secs(2)), Duration::from_secs(8));
        assert_eq!(Pace::in_place(&Limits::default()).is_in_time(Instant::now()), Ok(()));
        assert_eq!(Pace::over().is_in_time(Instant::now()), Err(Late(Duration::ZERO)));
    }
}
