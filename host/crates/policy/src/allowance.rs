use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use wasmtime::UpdateDeadline;

use crate::clock::TICK;
use crate::engine::Limits;
use crate::pace::{Late, Pace, on_a_core};

/// What one policy has of time for one request, over all of its instances. A handle.
///
/// It is time on a core: what others have of the machine meanwhile is not held against a policy. To ask for that is a
/// system call, and to ask the clock on the wall is none: so in place, what passes between two ticks is believed to be the
/// policy's.
#[derive(Clone)]
pub(crate) struct Allowance {
    pace: Arc<Pace>,
    account: Arc<Mutex<Account>>,
}

struct Account {
    left: Duration,
    /// When it was asked.
    asked: Instant,
    /// Up to where it is charged.
    since: Instant,
    /// The thread that was last looked at, then or before, and the time that it had had on a core by then.
    seen: (ThreadId, Duration),
}

impl Allowance {
    /// For a decision at `pace`.
    pub(crate) fn of(limits: &Limits, pace: Arc<Pace>) -> Self {
        let now = Instant::now();
        let account = Account { left: limits.time, asked: now, since: now, seen: pace.began() };
        Self { pace, account: Arc::new(Mutex::new(account)) }
    }

    /// For a decision that has its thread to itself.
    pub(crate) fn unhurried(limits: &Limits) -> Self {
        Self::of(limits, Pace::unhurried(limits))
    }

    /// The pace of the decision that it is for.
    pub(crate) fn pace(&self) -> Arc<Pace> {
        self.pace.clone()
    }

    /// The policy is to be asked something, as long as anybody waits for the decision: whether it has time left. What was
    /// done since it was asked before was done by others.
    pub(crate) async fn begin(&self) -> Result<bool, Late> {
        let began = Instant::now();
        self.pace.is_in_time(began)?;
        let asked = if self.pace.step_aside_if_slow(began).await { Instant::now() } else { began };
        let mut account = self.account();
        (account.asked, account.since) = (asked, asked);
        if !self.pace.is_in_place() {
            account.seen = (thread::current().id(), on_a_core());
        }
        Ok(account.is_left())
    }

    /// The policy has answered, or trapped: returns how long that took on the wall.
    ///
    /// There may have been no tick for long: none is within an instruction, however long that takes.
    pub(crate) fn end(&self) -> Duration {
        let mut account = self.account();
        let now = Instant::now();
        let rest = now.saturating_duration_since(account.since);
        if rest > TICK || !self.pace.is_in_place() {
            account.charge(thread::current().id(), on_a_core(), now);
        } else {
            account.left = account.left.saturating_sub(rest);
        }
        now.saturating_duration_since(account.asked)
    }

    /// It runs while the clock ticks: it may go on, go on elsewhere, or has had enough.
    pub(crate) fn tick(&self) -> Result<UpdateDeadline, Late> {
        let mut account = self.account();
        let (on_a_core, now) = (on_a_core(), Instant::now());
        account.charge(thread::current().id(), on_a_core, now);
        self.pace.is_in_time(now)?;
        Ok(match account.is_left() {
            false => UpdateDeadline::Interrupt,
            true if self.pace.is_in_place_still(on_a_core) => UpdateDeadline::Continue(1),
            // It stops, for who does it to say where and when it goes on.
            true => UpdateDeadline::Yield(1),
        })
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    fn is_left(&self) -> bool {
        !self.left.is_zero()
    }

    /// What it had since it was last looked at: no more than the thread had on a core, and than has passed.
    fn charge(&mut self, thread: ThreadId, on_a_core: Duration, now: Instant) {
        let (before, had) = self.seen;
        let had = if before == thread { on_a_core.saturating_sub(had) } else { TICK };
        let spent = had.min(now.saturating_duration_since(self.since));
        self.left = self.left.saturating_sub(spent);
        (self.since, self.seen) = (now, (thread, on_a_core));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::to_its_end;

    const MS: Duration = Duration::from_millis(1);

    /// Asked now, by a thread that had had 100 ms on a core.
    fn account() -> (Account, ThreadId, Instant) {
        let (here, now) = (thread::current().id(), Instant::now());
        (Account { left: 10 * MS, asked: now, since: now, seen: (here, 100 * MS) }, here, now)
    }

    #[test]
    fn a_thread_that_does_not_get_to_run_is_not_charged() {
        let (mut account, here, now) = account();
        for later in 1..30 {
            account.charge(here, 100 * MS, now + later * MS);
        }
        assert_eq!(account.left, 10 * MS);
        account.charge(here, 109 * MS, now + 40 * MS);
        assert!(account.is_left());
        account.charge(here, 110 * MS, now + 50 * MS);
        assert!(!account.is_left());
    }

    #[test]
    fn another_threads_time_is_not_its() {
        let (mut account, _, now) = account();
        let other = thread::spawn(|| thread::current().id()).join().unwrap();
        account.charge(other, 1000 * MS, now + 5 * MS);
        assert_eq!(account.left + TICK, 10 * MS);
    }

    #[test]
    fn what_the_thread_did_before_it_was_asked_is_not_its() {
        let (mut account, here, now) = account();
        account.charge(here, 200 * MS, now + 3 * MS);
        assert_eq!(account.left, 7 * MS);
    }

    #[test]
    fn time_between_two_questions_is_not_its_and_that_of_both_is() {
        let allowance = Allowance::unhurried(&Limits { time: Duration::from_secs(10), ..Limits::default() });
        let wait = |time| {
            let began = Instant::now();
            while began.elapsed() < time {}
        };
        let mut both = Duration::ZERO;
        for long in [MS / 10, 3 * MS] {
            wait(5 * MS);
            to_its_end(allowance.begin()).unwrap();
            wait(long);
            both += allowance.end();
        }
        let spent = Duration::from_secs(10).saturating_sub(allowance.account().left);
        assert!(spent <= both && spent >= MS, "{spent:?} {both:?}");
    }

    #[test]
    fn in_the_lane_nothing_is_its_that_the_thread_did_before_it_was_asked() {
        let allowance = Allowance::unhurried(&Limits::default());
        let had = on_a_core();
        while on_a_core() < had + 5 * MS {}
        to_its_end(allowance.begin()).unwrap();
        let mut account = allowance.account();
        let (here, on_a_core) = account.seen;
        let later = account.since + 20 * MS;
        account.charge(here, on_a_core, later);
        assert_eq!(account.left, Limits::default().time);
    }

    #[test]
    fn nobody_waits_for_ever_for_a_core() {
        let allowance = Allowance::of(&Limits::default(), Pace::over());
        assert!(allowance.tick().is_err());
        to_its_end(allowance.begin()).unwrap_err();
    }
}
