use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bindings::host::Level;
use crate::failure::{one_line, one_line_from_the_end};
use crate::load::Identity;

/// What a policy says in one request, shared by the instances that it takes: one that traps for every container has no
/// more than one that answers.
pub(crate) struct Log {
    policy: Arc<Identity>,
    state: Mutex<State>,
}

struct State {
    /// Bytes of log that are left.
    left: usize,
    /// Lines of standard output and standard error that have no end yet.
    begun: [Vec<u8>; 2],
    /// What the guest complains of in the call that goes on.
    complaint: Complaint,
}

/// The reason that a guest may give before it traps.
#[derive(Default)]
enum Complaint {
    #[default]
    None,
    /// The last line of the level `error`.
    Line(String),
    /// What is on standard error: its end, where languages that print a trace come to the point.
    Printed(String),
}

/// Bytes of log that a policy has for one request.
const LOG: usize = 8 << 10;

/// Bytes that are kept of a complaint, and characters that are shown.
const COMPLAINT: usize = 1 << 10;
const SHOWN: usize = 200;

impl Log {
    pub(crate) fn of(policy: Arc<Identity>) -> Self {
        let state = State { left: LOG, begun: [Vec::new(), Vec::new()], complaint: Complaint::None };
        Self { policy, state: Mutex::new(state) }
    }

    /// A call begins: what was said before has nothing to do with how it ends.
    pub(crate) fn call(&self) {
        self.state().complaint = Complaint::None;
    }

    /// The reason that the guest gave for the trap in which its call ended, on one line; empty where it gave none.
    pub(crate) fn complaint(&self) -> String {
        match &self.state().complaint {
            Complaint::None => String::new(),
            Complaint::Line(line) => one_line(line.trim(), SHOWN),
            Complaint::Printed(text) => {
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                // Said by Rust's standard library after each panic, of an environment that a policy has not.
                let lines: Vec<_> = lines.filter(|line| !line.starts_with("note: run with `RUST_BACKTRACE")).collect();
                one_line_from_the_end(&lines.join(" "), SHOWN)
            }
        }
    }

    /// Takes a line of the guest's.
    pub(crate) fn say(&self, level: Level, message: &str) {
        let mut state = self.state();
        if level == Level::Error {
            state.complaint = Complaint::Line(message[..message.floor_char_boundary(COMPLAINT)].to_owned());
        }
        state.line(&self.policy.name, level, message);
    }

    /// Takes a piece of what the guest prints.
    pub(crate) fn print(&self, on_stderr: bool, bytes: &[u8]) {
        let mut state = self.state();
        if on_stderr {
            state.complaint.print(bytes);
        }
        let (begun, level) = (usize::from(on_stderr), if on_stderr { Level::Warn } else { Level::Info });
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if state.left == 0 {
                return;
            }
            state.begun[begun].extend_from_slice(piece);
            if piece.ends_with(b"\n") || state.begun[begun].len() > LOG {
                state.end(&self.policy.name, begun, level);
            }
        }
    }

    /// Nothing is printed any more: says the lines that were begun.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.end(&self.policy.name, 0, Level::Info);
        state.end(&self.policy.name, 1, Level::Warn);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Complaint {
    fn print(&mut self, bytes: &[u8]) {
        let mut text = match std::mem::take(self) {
            Self::Printed(text) => text,
            Self::None | Self::Line(_) => String::new(),
        };
        text.push_str(&String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(COMPLAINT)..]));
        text.drain(..text.ceil_char_boundary(text.len().saturating_sub(COMPLAINT)));
        *self = Self::Printed(text);
    }
}

impl State {
    /// Says the line that was begun.
    fn end(&mut self, policy: &str, begun: usize, level: Level) {
        let line = std::mem::take(&mut self.begun[begun]);
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        if !line.is_empty() {
            self.line(policy, level, line);
        }
    }

    fn line(&mut self, policy: &str, level: Level, message: &str) {
        if self.left == 0 {
            return;
        }
        let end = message.floor_char_boundary(self.left);
        // As a field and not as the event's message: what a guest says is quoted, so that no line break of its
        // makes it look like a line of ours.
        let said = &message[..end];
        match level {
            Level::Debug => tracing::debug!(policy, said, "policy says"),
            Level::Info => tracing::info!(policy, said, "policy says"),
            Level::Warn => tracing::warn!(policy, said, "policy says"),
            Level::Error => tracing::error!(policy, said, "policy says"),
        }
        // Empty lines are not free.
        self.left = if end < message.len() { 0 } else { self.left.saturating_sub(end.max(64)) };
        if self.left == 0 {
            tracing::warn!(
                policy,
                "policy said more than the {LOG} bytes that it may for one pod; the rest is dropped"
            );
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.end();
    }
}
