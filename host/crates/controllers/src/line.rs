use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use tokio::task::Id;

/// Images that wait for the same kind of task, of which so many run at once. First come, first served, but those that
/// are needed now before the others.
#[derive(Debug)]
pub(crate) struct Line {
    at_once: usize,
    running: HashSet<Id>,
    needed: VecDeque<Arc<str>>,
    waiting: VecDeque<Arc<str>>,
}

impl Line {
    pub(crate) fn new(at_once: usize) -> Self {
        Self { at_once, running: HashSet::new(), needed: VecDeque::new(), waiting: VecDeque::new() }
    }

    /// Puts an image at the end of its kind.
    pub(crate) fn join(&mut self, name: Arc<str>, is_needed: bool) {
        let line = if is_needed { &mut self.needed } else { &mut self.waiting };
        line.push_back(name);
    }

    /// The next image whose turn it is; `None` while as many run as may.
    pub(crate) fn next(&mut self) -> Option<Arc<str>> {
        if self.running.len() >= self.at_once {
            return None;
        }
        self.needed.pop_front().or_else(|| self.waiting.pop_front())
    }

    /// How many wait. One that was deleted meanwhile is counted until its turn.
    pub(crate) fn waiting(&self) -> usize {
        self.needed.len() + self.waiting.len()
    }

    /// How many run.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// Notes that a task runs.
    pub(crate) fn started(&mut self, task: Id) {
        self.running.insert(task);
    }

    /// Notes that a task ended, however it did. One of another line is no matter.
    pub(crate) fn ended(&mut self, task: Id) {
        self.running.remove(&task);
    }
}
