use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whether a role can do its work: true when every [`Handle`] has been dropped.
///
/// Whoever starts something that takes time (a watch, a policy set, a certificate) holds a handle until it is there.
/// All handles are taken before the admin port answers, so that it never says "ready" too early.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<Held>>);

/// Something that is not there yet. Dropped when it is.
#[derive(Debug)]
#[must_use = "dropped at once, it says that the thing is there already"]
pub struct Handle {
    readiness: Readiness,
    number: u64,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    names: BTreeMap<u64, Cow<'static, str>>,
}

impl Readiness {
    /// Nothing held, so ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Not ready until the handle is dropped. `what` is shown by `/ready`: "the certificate", "the pod watch".
    pub fn hold(&self, what: impl Into<Cow<'static, str>>) -> Handle {
        let mut held = self.lock();
        let number = held.next;
        held.next += 1;
        held.names.insert(number, what.into());
        Handle { readiness: self.clone(), number }
    }

    /// What is being waited for, in the order in which it was held; empty when ready.
    pub fn waiting_for(&self) -> Vec<Cow<'static, str>> {
        self.lock().names.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Nothing panics while it is locked, and a map of names is whole after every step of it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let what = self.readiness.lock().names.remove(&self.number);
        tracing::debug!(what = what.as_deref(), "ready");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_ready_when_the_last_handle_is_dropped() {
        let readiness = Readiness::new();
        assert!(readiness.waiting_for().is_empty());
        let (watch, certificate) = (readiness.hold("the watch"), readiness.clone().hold("the certificate"));
        assert_eq!(readiness.waiting_for(), ["the watch", "the certificate"]);
        drop(watch);
        assert_eq!(readiness.waiting_for(), ["the certificate"]);
        drop(certificate);
        assert!(readiness.waiting_for().is_empty());
    }

    #[test]
    fn two_things_of_one_name_are_two() {
        let readiness = Readiness::new();
        let (first, _second) = (readiness.hold("a listener"), readiness.hold("a listener"));
        drop(first);
        assert_eq!(readiness.waiting_for(), ["a listener"]);
    }
}
