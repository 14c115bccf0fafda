use std::fmt;
use std::time::Duration;

use wasmtime::{PoolConcurrencyLimitError, Trap};

use crate::log::Log;
use crate::memory::MemoryExceeded;
use crate::pace::Late;
use crate::wasi::Denied;

/// Why a policy gave no usable answer. Displayed, it continues the sentence that the policy's name begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    cause: Cause,
    words: String,
}

/// The kind of a [`Failure`], in a closed set so that it can be a metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Cause {
    /// Its time was used up.
    Time,
    /// It wanted more memory than it has.
    Memory,
    /// It trapped: a panic, a fault, a stack overflow.
    Trap,
    /// It passed more to the host than is let through.
    Data,
    /// It said that it failed.
    Error,
    /// It gave a reference that cannot be used.
    Reference,
    /// It could not be started.
    Start,
}

impl Cause {
    /// Each, in the order of their numbers.
    pub(crate) const ALL: [Self; 7] =
        [Self::Time, Self::Memory, Self::Trap, Self::Data, Self::Error, Self::Reference, Self::Start];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Memory => "memory",
            Self::Trap => "trap",
            Self::Data => "data",
            Self::Error => "error",
            Self::Reference => "reference",
            Self::Start => "start",
        }
    }
}

impl Failure {
    /// Nothing is left of the time that a policy has for a request.
    pub(crate) fn time(limit: Duration) -> Self {
        Self::new(Cause::Time, format!("took longer than {limit:?}"))
    }

    /// Nobody waits for the decision any more.
    pub(crate) fn late(late: Late) -> Self {
        Self::new(Cause::Time, format!("had {late}"))
    }

    /// The policy's own error.
    pub(crate) fn error(text: &str) -> Self {
        Self::new(Cause::Error, format!("failed: {}", one_line(text, 100)))
    }

    /// A reference that is none, or leads nowhere.
    pub(crate) fn reference(problem: &impl fmt::Display) -> Self {
        Self::new(Cause::Reference, format!("gave an unusable reference: {}", one_line(&problem.to_string(), 200)))
    }

    /// What wasmtime says of a call that did not return, or of an instance that did not come to be; and what the guest
    /// said of it, in its log.
    pub(crate) fn of(error: &wasmtime::Error, time: Duration, log: &Log) -> Self {
        let failure = Self::in_words_of_wasmtime(error, time);
        match log.complaint() {
            complaint if failure.cause == Cause::Trap && !complaint.is_empty() => {
                Self { words: format!("{}: {complaint}", failure.words), ..failure }
            }
            _ => failure,
        }
    }

    fn in_words_of_wasmtime(error: &wasmtime::Error, time: Duration) -> Self {
        if let Some(trap) = error.downcast_ref::<Trap>() {
            return match trap {
                Trap::Interrupt => Self::time(time),
                Trap::UnreachableCodeReached => Self::new(Cause::Trap, "panicked".to_owned()),
                // A guest's own stack is in its memory, so running out of it looks like any other stray access.
                Trap::MemoryOutOfBounds => Self::new(Cause::Trap, "had a memory fault or a stack overflow".to_owned()),
                Trap::StackOverflow => Self::new(Cause::Trap, "had a stack overflow".to_owned()),
                other => Self::new(Cause::Trap, format!("trapped: {other}")),
            };
        }
        if let Some(exceeded) = error.downcast_ref::<MemoryExceeded>() {
            return Self::new(Cause::Memory, format!("wanted {exceeded}"));
        }
        if let Some(late) = error.downcast_ref::<Late>() {
            return Self::late(*late);
        }
        if let Some(denied) = error.downcast_ref::<Denied>() {
            return Self::new(Cause::Trap, denied.to_string());
        }
        if error.is::<PoolConcurrencyLimitError>() {
            return Self::new(Cause::Start, "found no free slot to run in".to_owned());
        }
        let detail = error.root_cause().to_string();
        // The error's type is private to wasmtime; a test holds its text.
        if detail.contains("fuel allocated for hostcalls has been exhausted") {
            return Self::new(Cause::Data, "passed too much text to the host at once".to_owned());
        }
        Self::new(Cause::Trap, format!("broke the contract: {}", one_line(&detail, 100)))
    }

    pub(crate) fn cause(&self) -> Cause {
        self.cause
    }

    fn new(cause: Cause, words: String) -> Self {
        Self { cause, words }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// Text from a guest, fit for a warning header, an annotation and a log: bounded, and without control characters.
pub(crate) fn one_line(text: &str, most_chars: usize) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut line: String = chars.by_ref().take(most_chars).collect();
    if chars.next().is_some() {
        line.push('…');
    }
    line
}

/// The same, of a text whose end says more than its beginning.
pub(crate) fn one_line_from_the_end(text: &str, most_chars: usize) -> String {
    match text.chars().count().checked_sub(most_chars) {
        None | Some(0) => one_line(text, most_chars),
        Some(skipped) => {
            let end: String = text.chars().skip(skipped).collect();
            format!("…{}", one_line(&end, most_chars))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_text_is_one_bounded_line() {
        assert_eq!(one_line("a\r\nb\u{7f}c", 10), "a  b c");
        assert_eq!(one_line("ééééé", 5), "ééééé");
        assert_eq!(one_line("éééééé", 5), "ééééé…");
        assert_eq!(one_line_from_the_end("ééééé", 5), "ééééé");
        assert_eq!(one_line_from_the_end("xééééé", 5), "…ééééé");
    }
}
