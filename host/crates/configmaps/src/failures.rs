use std::collections::HashMap;

use cache_registry_policy::PolicyFailure;

/// Policies' failures, so few of them that they can be told: of a policy and a cause one a minute, which says how many
/// there were.
#[derive(Debug, Default)]
pub(crate) struct Failures(HashMap<(String, &'static str), Heard>);

/// What was heard of a policy and a cause.
#[derive(Debug)]
struct Heard {
    /// When it was told last, in minutes of the clock: replicas that have the same minute tell the same.
    told: i64,
    /// How many have come since.
    since: u64,
    last: PolicyFailure,
}

/// Failures to be told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// The last of them.
    pub(crate) failure: PolicyFailure,
    /// How many there were, since the last time that some were told.
    pub(crate) count: u64,
    pub(crate) minute: i64,
}

impl Failures {
    /// Notes a failure. The first is told at once.
    pub(crate) fn heard(&mut self, failure: PolicyFailure, minute: i64) -> Option<Told> {
        let key = (failure.policy.clone(), failure.cause);
        let heard = self.0.entry(key).or_insert_with(|| Heard { told: i64::MIN, since: 0, last: failure.clone() });
        heard.since += 1;
        heard.last = failure;
        heard.due(minute)
    }

    /// What has come since it was told last, a minute later. To be called every now and then.
    pub(crate) fn due(&mut self, minute: i64) -> Vec<Told> {
        let due = self.0.values_mut().filter_map(|heard| heard.due(minute)).collect();
        // What has been quiet for longer is as good as new.
        self.0.retain(|_, heard| heard.told >= minute - 1);
        due
    }
}

impl Heard {
    fn due(&mut self, minute: i64) -> Option<Told> {
        if self.since == 0 || self.told >= minute {
            return None;
        }
        self.told = minute;
        Some(Told { failure: self.last.clone(), count: std::mem::take(&mut self.since), minute })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn failure(policy: &str, cause: &'static str, words: &str) -> PolicyFailure {
        let (policy, words, namespace) = (policy.to_owned(), words.to_owned(), "default".to_owned());
        PolicyFailure { policy, cause, words, namespace, at: SystemTime::UNIX_EPOCH }
    }

    fn told(failure: PolicyFailure, count: u64, minute: i64) -> Told {
        Told { failure, count, minute }
    }

    #[test]
    fn the_first_is_told_at_once_and_the_rest_of_a_minute_together() {
        let mut failures = Failures::default();
        let [first, second, third] = ["1", "2", "3"].map(|words| failure("a", "trap", words));
        assert_eq!(failures.heard(first.clone(), 7), Some(told(first, 1, 7)));
        assert_eq!(failures.heard(second, 7), None);
        assert_eq!(failures.heard(third.clone(), 7), None);
        assert_eq!(failures.due(7), []);
        assert_eq!(failures.due(8), [told(third.clone(), 2, 8)]);
        assert_eq!(failures.due(9), []);
        assert_eq!(failures.heard(third.clone(), 9), Some(told(third, 1, 9)));
    }

    #[test]
    fn each_policy_and_cause_is_told() {
        let mut failures = Failures::default();
        for (policy, cause) in [("a", "trap"), ("a", "time"), ("b", "trap")] {
            assert!(failures.heard(failure(policy, cause, ""), 7).is_some());
        }
    }

    #[test]
    fn nothing_is_kept_of_what_is_quiet() {
        let mut failures = Failures::default();
        failures.heard(failure("a", "trap", ""), 7);
        failures.due(8);
        assert_eq!(failures.0.len(), 1);
        failures.due(9);
        assert_eq!(failures.0.len(), 0);
    }
}
