use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::target::{Matching, Target};

/// A way to misbehave. Being off altogether is not among them: see [`Upstream::off`](crate::Upstream::off).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "fault", deny_unknown_fields)]
pub enum Fault {
    /// The answer is right and comes late.
    Delay {
        /// How long before the status line.
        millis: u64,
    },
    /// The body comes slowly.
    Rate {
        /// At most this much in a second, and at least 20.
        bytes_per_second: u64,
    },
    /// The request is taken and never answered.
    StallBefore,
    /// The body stops and the connection stays open.
    StallWithin {
        /// Bytes of the body that are sent before.
        after: u64,
    },
    /// The body stops and the connection is closed.
    Cut {
        /// Bytes of the body that are sent before.
        after: u64,
    },
    /// The answer is right, and tells how many pulls are left, as Docker Hub's do.
    Quota {
        /// How many pulls there are.
        limit: u64,
        /// How many are left.
        remaining: u64,
        /// Within so many seconds.
        window: u64,
    },
    /// Status, length and digest header are right, and every byte of the body is wrong.
    WrongBytes,
    /// 401, whatever credentials the request has.
    Unauthorized,
    /// 429.
    TooManyRequests {
        /// `Retry-After` in seconds; absent where the registry does not say.
        retry_after: Option<u64>,
    },
    /// An error with this status.
    Status {
        /// The HTTP status.
        code: u16,
    },
    /// 307 to the same path at another server, as registries do that keep blobs in object storage.
    Redirect {
        /// `http://host:port`, without a path.
        to: String,
    },
}

/// A [`Fault`], and when it strikes. The first rule that matches a request decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// What happens.
    pub fault: Fault,
    /// To which requests.
    #[serde(default)]
    pub matching: Matching,
    /// To how many of them, from now on; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
}

impl Rule {
    /// Every request misbehaves, until the rules are cleared.
    pub fn all(fault: Fault) -> Self {
        Self { fault, matching: Matching::any(), times: None }
    }

    /// These requests misbehave.
    pub fn on(matching: Matching, fault: Fault) -> Self {
        Self { fault, matching, times: None }
    }

    /// Only the next `times` requests.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }
}

impl From<Fault> for Rule {
    fn from(fault: Fault) -> Self {
        Self::all(fault)
    }
}

/// The rules in force, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Rules(Mutex<Vec<Rule>>);

impl Rules {
    pub(crate) fn add(&self, rule: Rule) {
        self.lock().push(rule);
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    pub(crate) fn list(&self) -> Vec<Rule> {
        self.lock().clone()
    }

    /// The fault that strikes this request, counted off the rule it came from.
    pub(crate) fn strike(&self, method: &str, target: &Target) -> Option<Fault> {
        strike(&mut self.lock(), method, target)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn strike(rules: &mut [Rule], method: &str, target: &Target) -> Option<Fault> {
    let rule = rules.iter_mut().find(|rule| rule.times != Some(0) && rule.matching.matches(method, target))?;
    rule.times = rule.times.map(|times| times - 1);
    Some(rule.fault.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_decides_until_it_is_used_up() {
        let blob = Target::of("/v2/a/blobs/sha256:00");
        let mut rules =
            [Rule::on(Matching::blobs(), Fault::WrongBytes).times(2), Rule::all(Fault::Status { code: 503 })];
        let struck: Vec<_> = (0..3).map(|_| strike(&mut rules, "GET", &blob).unwrap()).collect();
        assert_eq!(struck, [Fault::WrongBytes, Fault::WrongBytes, Fault::Status { code: 503 }]);
        assert_eq!(strike(&mut rules[..1], "GET", &blob), None);
    }

    #[test]
    fn a_rule_reads_as_it_is_written() {
        let rule = Rule::on(Matching::manifests(), Fault::TooManyRequests { retry_after: Some(3) }).times(1);
        let json = serde_json::to_string(&rule).unwrap();
        assert_eq!(
            json,
            r#"{"fault":{"fault":"tooManyRequests","retryAfter":3},"matching":{"kind":"manifest"},"times":1}"#
        );
        assert_eq!(serde_json::from_str::<Rule>(&json).unwrap(), rule);
    }
}
