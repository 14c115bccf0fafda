use std::collections::VecDeque;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::target::{Matching, Target};

/// The requests that were made since the start or the last reset, oldest first, at most the last 100,000.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Connections that were accepted.
    pub connections: u64,
    /// The requests, those that are still being answered included.
    pub requests: Vec<Request>,
}

/// One request and its answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Milliseconds from the start of the server to the request.
    pub at: u64,
    /// `GET`
    pub method: String,
    /// What it was for.
    pub target: Target,
    /// What stood behind the `?`.
    pub query: Option<String>,
    /// The `Range` header.
    pub range: Option<String>,
    /// Every `Accept` header, joined with commas.
    pub accept: String,
    /// The first word of the `Authorization` header: `Bearer`, `Basic`.
    pub authorization: Option<String>,
    /// How it was made to misbehave.
    pub fault: Option<Fault>,
    /// The status; 0 while there is none, as in a stall before the answer.
    pub status: u16,
    /// Bytes of the body that were handed to the connection.
    pub bytes: u64,
}

impl Traffic {
    /// How many requests there were of this kind.
    pub fn count(&self, matching: &Matching) -> usize {
        self.of(matching).count()
    }

    /// Body bytes sent in answer to requests of this kind.
    pub fn bytes(&self, matching: &Matching) -> u64 {
        self.of(matching).map(|request| request.bytes).sum()
    }

    /// The requests of this kind.
    pub fn of(&self, matching: &Matching) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(|request| matching.matches(&request.method, &request.target))
    }
}

/// Requests that are kept; older ones are forgotten, so that a server that is left running does not grow.
const KEPT: usize = 100_000;

/// Writes the [`Traffic`] down.
#[derive(Debug)]
pub(crate) struct Recorder {
    started: Instant,
    connections: AtomicU64,
    entries: Mutex<VecDeque<Arc<Entry>>>,
}

/// A request whose answer is still to come.
#[derive(Debug)]
pub(crate) struct Entry {
    request: Request,
    status: AtomicU16,
    bytes: AtomicU64,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), connections: AtomicU64::new(0), entries: Mutex::default() }
    }

    pub(crate) fn connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// `request` with `at`, `status` and `bytes` still open.
    pub(crate) fn request(&self, mut request: Request) -> Arc<Entry> {
        request.at = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let entry = Arc::new(Entry { request, status: AtomicU16::new(0), bytes: AtomicU64::new(0) });
        let mut entries = self.lock();
        if entries.len() == KEPT {
            entries.pop_front();
        }
        entries.push_back(Arc::clone(&entry));
        entry
    }

    pub(crate) fn snapshot(&self) -> Traffic {
        let requests = self.lock().iter().map(|entry| entry.now()).collect();
        Traffic { connections: self.connections.load(Ordering::Relaxed), requests }
    }

    /// The traffic so far; counting starts again at nothing.
    pub(crate) fn reset(&self) -> Traffic {
        let requests = std::mem::take(&mut *self.lock()).iter().map(|entry| entry.now()).collect();
        Traffic { connections: self.connections.swap(0, Ordering::Relaxed), requests }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    pub(crate) fn answered(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> Request {
        Request {
            status: self.status.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            ..self.request.clone()
        }
    }
}
