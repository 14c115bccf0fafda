use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use wasmtime::UpdateDeadline;

use crate::clock::TICK;
use crate::engine::Limits;
use crate::pace::{Late, Pace, on_a_core};

/// What one policy has of time for one request, over all of its instances. A handle.
///
/// It is time on a core: what others have of the machine meanwhile is not held against a policy. It is charged at ticks,
/// and at the end of what took longer than from one to the next.
#[derive(Clone)]
pub(crate) struct Allowance {
    pace: Arc<Pace>,
    account: Arc<Mutex<Account>>,
}

struct Account {
    left: Duration,
    /// The thread of the last charge, and the time that it had had on a core.
    charged: Option<(ThreadId, Duration)>,
}

impl Allowance {
    /// For a decision at `pace`.
    pub(crate) fn of(limits: &Limits, pace: Arc<Pace>) -> Self {
        Self { pace, account: Arc::new(Mutex::new(Account { left: limits.time, charged: None })) }
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
        self.pace.is_in_time()?;
        let on_a_core = self.pace.step_aside_if_slow().await;
        let mut account = self.account();
        account.charged = Some((thread::current().id(), on_a_core));
        Ok(account.is_left())
    }

    /// The policy has answered, or trapped, after so long on the wall. There may have been no tick: none is within an
    /// instruction, however long that takes.
    pub(crate) fn end(&self, took: Duration) {
        if took > TICK {
            self.account().charge(thread::current().id(), on_a_core());
        }
    }

    /// It runs while the clock ticks: it may go on, go on elsewhere, or has had enough.
    pub(crate) fn tick(&self) -> Result<UpdateDeadline, Late> {
        let mut account = self.account();
        let on_a_core = on_a_core();
        account.charge(thread::current().id(), on_a_core);
        self.pace.is_in_time()?;
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

    fn charge(&mut self, thread: ThreadId, on_a_core: Duration) {
        let spent = match self.charged {
            Some((before, had)) if before == thread => on_a_core.saturating_sub(had),
            _ => TICK,
        };
        self.left = self.left.saturating_sub(spent);
        self.charged = Some((thread, on_a_core));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::to_its_end;

    const MS: Duration = Duration::from_millis(1);

    fn account() -> Account {
        Account { left: 10 * MS, charged: None }
    }

    #[test]
    fn a_thread_that_does_not_get_to_run_is_not_charged() {
        let (mut account, here) = (account(), thread::current().id());
        for _ in 0..30 {
            account.charge(here, 100 * MS);
        }
        assert_eq!(account.left + TICK, 10 * MS);
        account.charge(here, 109 * MS);
        assert!(account.is_left());
        account.charge(here, 110 * MS);
        assert!(!account.is_left());
    }

    #[test]
    fn another_threads_time_is_not_its() {
        let mut account = account();
        let other = thread::spawn(|| thread::current().id()).join().unwrap();
        account.charge(thread::current().id(), 100 * MS);
        account.charge(other, 1000 * MS);
        assert_eq!(account.left + 2 * TICK, 10 * MS);
    }

    #[test]
    fn time_between_two_questions_is_not_its_and_that_of_a_long_one_is() {
        let allowance = Allowance::unhurried(&Limits { time: Duration::from_secs(10), ..Limits::default() });
        let begin = || to_its_end(allowance.begin()).unwrap();
        begin();
        while on_a_core() < allowance.account().charged.unwrap().1 + 2 * TICK {}
        // A question of which the answer came at once, whatever there is behind it.
        allowance.end(TICK);
        assert_eq!(allowance.account().left, Duration::from_secs(10));
        begin();
        while on_a_core() < allowance.account().charged.unwrap().1 + 2 * TICK {}
        allowance.end(2 * TICK);
        let spent = Duration::from_secs(10).saturating_sub(allowance.account().left);
        assert!(spent >= 2 * TICK && spent < MS * 100, "{spent:?}");
    }

    #[test]
    fn nobody_waits_for_ever_for_a_core() {
        let allowance = Allowance::of(&Limits::default(), Pace::over());
        assert!(allowance.tick().is_err());
        to_its_end(allowance.begin()).unwrap_err();
    }
}
