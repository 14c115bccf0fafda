use std::fmt;

/// Why what a `ConfigMap` declares is not in force, for the person who wrote it: what is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct Refusal {
    reason: &'static str,
    words: String,
}

impl Refusal {
    pub(crate) fn new(reason: &'static str, words: impl fmt::Display) -> Self {
        Self { reason, words: one_line(&words.to_string()) }
    }

    /// Its kind, in a closed set so that it can be a metric's label.
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// True for what may be right a moment later, with nothing changed.
    pub(crate) fn is_passing(&self) -> bool {
        self.reason == BUSY
    }

    /// True for what is wrong with this version of a `ConfigMap`, so that the one before may stay.
    pub(crate) fn is_of_version(&self) -> bool {
        self.reason != TOO_MANY
    }
}

/// The compiler has no time for it ([`cache_registry_policy::LoadError::Busy`]).
const BUSY: &str = "busy";

/// There is no place in the set.
pub(crate) const TOO_MANY: &str = "too-many";

impl From<cache_registry_policy::LoadError> for Refusal {
    fn from(error: cache_registry_policy::LoadError) -> Self {
        Self::new(error.reason(), error)
    }
}

/// The longest text of a refusal, in bytes: an Event's note has 1024, and says more than the refusal.
const LONGEST: usize = 700;

/// Text that may quote anything, fit for an Event, a log and a line of JSON.
fn one_line(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() > LONGEST {
        line.truncate(line.floor_char_boundary(LONGEST));
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_busy_compiler_is_a_reason_to_try_again() {
        use cache_registry_policy::LoadError;
        let is_passing = |error| Refusal::from(error).is_passing();
        assert!(is_passing(LoadError::Busy));
        assert!(!is_passing(LoadError::Empty) && !is_passing(LoadError::TooLong(std::time::Duration::ZERO)));
    }

    #[test]
    fn what_is_said_is_one_bounded_line() {
        assert_eq!(Refusal::new("source", "a\nb\r\u{7}c").to_string(), "a b  c");
        let long = Refusal::new("source", "é".repeat(1000)).to_string();
        assert!(long.len() <= LONGEST + '…'.len_utf8() && long.ends_with("é…"), "{long}");
    }
}
