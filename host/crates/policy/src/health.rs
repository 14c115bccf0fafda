use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::observer::PolicyFailure;

/// How a policy has fared since it was loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Requests in a row, up to the last, in which it failed.
    pub failures_in_a_row: u64,
    /// The last failure, which may be from before a success.
    pub last_failure: Option<PolicyFailure>,
}

/// So many requests in a row are no accident.
const FAILING: u64 = 10;

impl Health {
    /// True for a policy that failed in ten requests or more, and has not answered one since.
    pub fn failing(&self) -> bool {
        self.failures_in_a_row >= FAILING
    }
}

/// What [`Health`] is read from. Requests that end at once may be taken in any order.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    failures_in_a_row: AtomicU64,
    last_failure: Mutex<Option<PolicyFailure>>,
}

impl Pulse {
    pub(crate) fn failed(&self, failure: PolicyFailure) {
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }

    /// A request has ended, `well` when the policy did not fail in it. Returns whether the policy is failing where
    /// that may have changed.
    pub(crate) fn ended(&self, well: bool) -> Option<bool> {
        if !well {
            return Some(self.failures_in_a_row.fetch_add(1, Ordering::Relaxed) + 1 >= FAILING);
        }
        // Read first: a value that all threads only read is in all of their caches.
        let failed = self.failures_in_a_row.load(Ordering::Relaxed) > 0;
        failed.then(|| {
            self.failures_in_a_row.store(0, Ordering::Relaxed);
            false
        })
    }

    pub(crate) fn health(&self) -> Health {
        Health {
            failures_in_a_row: self.failures_in_a_row.load(Ordering::Relaxed),
            last_failure: self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
