use std::time::Duration;

use cache_registry_core::Reason;
use tokio::time::Instant;

use crate::plan::{Failure, Task};

/// What this process knows about whether upstream still means the same by an image's tag as the registry does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Freshness {
    /// It has a digest, which means one thing for ever.
    Fixed,
    /// Upstream meant the same when it was last asked.
    Known {
        /// When that was; for one of which it was never asked, when it appeared.
        since: Instant,
        /// After which part of the interval to ask: not all at once, above all not after a start.
        share: f64,
        /// False for one of which it was never asked.
        is_current: bool,
    },
    /// Upstream is being asked.
    Asking,
    /// What upstream means is to be copied: it is something else, or the registry does not have all of it.
    Moved,
    /// That is to be copied, and others are first.
    Waiting,
    /// That is being copied.
    Copying,
    /// The last attempt to ask or to copy failed.
    Failed {
        /// Which of the two.
        task: Task,
        /// Why.
        failure: Failure,
        /// When to try again.
        retry_at: Instant,
    },
}

/// What to do about it while the registry has the image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Next {
    /// Wait: for something under way, or for ever.
    Wait,
    /// Look again then.
    At(Instant),
    /// Ask upstream.
    Ask,
    /// Copy what upstream has now.
    Update,
}

/// How it stands, for the condition `UpToDate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) status: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// The reason of the condition `UpToDate` when it is True.
const CURRENT: &str = "Current";

impl Freshness {
    /// Of an image that has just appeared. `random` is within 0..1.
    pub(crate) fn new(can_move: bool, now: Instant, random: f64) -> Self {
        if can_move { Self::Known { since: now, share: random, is_current: false } } else { Self::Fixed }
    }

    /// Of an image that is what upstream has.
    pub(crate) fn current(can_move: bool, now: Instant, random: f64) -> Self {
        let share = 0.9 + random / 5.0;
        if can_move { Self::Known { since: now, share, is_current: true } } else { Self::Fixed }
    }

    /// True while upstream is asked, or what it has is copied.
    pub(crate) fn is_under_way(&self) -> bool {
        matches!(self, Self::Asking | Self::Waiting | Self::Copying)
    }

    /// Decides what to do. An `interval` of nothing means that upstream is never asked.
    pub(crate) fn next(&self, interval: Duration, now: Instant) -> Next {
        let due = match self {
            Self::Fixed | Self::Asking | Self::Waiting | Self::Copying => return Next::Wait,
            Self::Moved => return Next::Update,
            Self::Failed { task: Task::Update, retry_at, .. } if *retry_at <= now => return Next::Update,
            Self::Failed { task: Task::Update, retry_at, .. } => return Next::At(*retry_at),
            _ if interval.is_zero() => return Next::Wait,
            Self::Known { since, share, .. } => *since + interval.mul_f64(*share),
            Self::Failed { retry_at, .. } => *retry_at,
        };
        if due <= now { Next::Ask } else { Next::At(due) }
    }

    /// What there is to be told; `None` where nothing new is known.
    pub(crate) fn told(&self, registry: &str) -> Option<Told> {
        match self {
            Self::Known { is_current: true, .. } => Some(Told {
                status: "True",
                reason: CURRENT,
                message: format!("It is what {registry} has under this tag."),
            }),
            Self::Failed { failure, .. } => Some(Told {
                // Only of what upstream says that it has it no more is known that it is not up to date.
                status: if failure.reason == Reason::NotFound { "False" } else { "Unknown" },
                reason: failure.reason.as_str(),
                message: format!("What the registry has stays. {}", failure.message),
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const HOUR: Duration = Duration::from_hours(1);

    fn failed(reason: Reason, retry_at: Instant) -> Freshness {
        failed_at(Task::Ask, reason, retry_at)
    }

    fn failed_at(task: Task, reason: Reason, retry_at: Instant) -> Freshness {
        let failure = Failure { reason, message: "It broke.".to_owned(), retry_after: None };
        Freshness::Failed { task, failure, retry_at }
    }

    #[test]
    fn upstream_is_asked_once_in_an_interval_and_not_of_all_images_at_once() {
        let now = Instant::now();
        for (random, first, then) in [(0.0, 0, 54), (0.5, 30, 60), (1.0, 60, 66)] {
            let minutes = |minutes| now + Duration::from_mins(minutes);
            assert_eq!(Freshness::new(true, now, random).next(HOUR, minutes(first)), Next::Ask);
            let current = Freshness::current(true, now, random);
            assert_eq!(current.next(HOUR, minutes(then) - Duration::from_secs(1)), Next::At(minutes(then)));
            assert_eq!(current.next(HOUR, minutes(then)), Next::Ask);
        }
    }

    #[rstest]
    #[case(Freshness::new(false, Instant::now(), 0.0))]
    #[case(Freshness::current(false, Instant::now(), 0.0))]
    #[case(Freshness::Asking)]
    #[case(Freshness::Waiting)]
    #[case(Freshness::Copying)]
    fn of_a_digest_and_while_something_is_under_way_nothing_is_asked(#[case] freshness: Freshness) {
        assert_eq!(freshness.next(HOUR, Instant::now() + 100 * HOUR), Next::Wait);
    }

    #[test]
    fn an_interval_of_nothing_asks_never() {
        let now = Instant::now();
        for freshness in [Freshness::new(true, now, 0.0), failed(Reason::NotFound, now)] {
            assert_eq!(freshness.next(Duration::ZERO, now + HOUR), Next::Wait);
        }
    }

    #[test]
    fn what_failed_is_tried_again_and_what_moved_is_copied() {
        let now = Instant::now();
        assert_eq!(failed(Reason::RateLimited, now + HOUR).next(HOUR, now), Next::At(now + HOUR));
        assert_eq!(failed(Reason::RateLimited, now).next(HOUR, now), Next::Ask);
        assert_eq!(Freshness::Moved.next(HOUR, now), Next::Update);
    }

    #[test]
    fn a_copy_that_failed_is_tried_again_however_seldom_upstream_is_asked() {
        let now = Instant::now();
        for interval in [HOUR, Duration::ZERO] {
            let failed = failed_at(Task::Update, Reason::UpstreamUnreachable, now + HOUR);
            assert_eq!(failed.next(interval, now), Next::At(now + HOUR));
            assert_eq!(failed.next(interval, now + HOUR), Next::Update);
        }
    }

    #[rstest]
    #[case(Reason::NotFound, "False")]
    #[case(Reason::UpstreamUnreachable, "Unknown")]
    #[case(Reason::Unauthorized, "Unknown")]
    #[case(Reason::RateLimited, "Unknown")]
    fn what_upstream_does_not_say_is_not_known(#[case] reason: Reason, #[case] status: &str) {
        let told = failed(reason, Instant::now()).told("docker.io").unwrap();
        assert_eq!((told.status, told.reason), (status, reason.as_str()));
        assert_eq!(told.message, "What the registry has stays. It broke.");
    }

    #[test]
    fn what_was_never_asked_is_not_told() {
        let now = Instant::now();
        assert_eq!(Freshness::new(true, now, 0.0).told("docker.io"), None);
        assert_eq!(Freshness::Fixed.told("docker.io"), None);
        assert_eq!(Freshness::current(true, now, 0.0).told("docker.io").unwrap().status, "True");
    }
}
