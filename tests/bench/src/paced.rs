use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use tokio::time::sleep_until;

use crate::load::{Load, on_a_thread};

/// Requests at a fixed rate, whether answers come or not: what a server keeps waiting is in the latencies of those that
/// should have been sent meanwhile, as it is for an API server's users.
#[derive(Clone)]
pub(crate) struct Paced {
    pub(crate) load: Load,
    pub(crate) per_second: u32,
    pub(crate) stop: Stop,
}

/// When it ends.
#[derive(Clone)]
pub(crate) enum Stop {
    After(Duration),
    When(Arc<AtomicBool>),
}

/// What became of one request.
#[derive(Debug)]
pub(crate) struct Answered<T> {
    /// From when it was due, or sent where this program was late, to the end of its answer.
    pub(crate) latency: Duration,
    /// What was read of the answer; `None` where there was none, or not the right one.
    pub(crate) read: Option<T>,
}

impl Paced {
    /// Runs it on a thread of its own. `read` says what an answer is; `None` for one that is wrong.
    pub(crate) async fn run<T, F>(&self, read: F) -> Result<Vec<Answered<T>>>
    where
        T: Send + 'static,
        F: Fn(&Bytes) -> Option<T> + Send + Sync + 'static,
    {
        let (paced, read) = (self.clone(), Arc::new(read));
        on_a_thread(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(paced.go(read))
        })
        .await
    }

    /// The connections take turns, so that each has the time of all of them for one answer.
    async fn go<T, F>(self, read: Arc<F>) -> Result<Vec<Answered<T>>>
    where
        T: Send + 'static,
        F: Fn(&Bytes) -> Option<T> + Send + Sync + 'static,
    {
        let connections = u32::try_from(self.load.connections)?;
        let between = Duration::from_secs(1) * connections / self.per_second;
        let mut senders = Vec::new();
        for _ in 0..connections {
            senders.push(self.load.connect().await?);
        }
        let begun = Instant::now();
        let mut tasks = Vec::new();
        for (number, sender) in (0..).zip(senders) {
            let (paced, read) = (self.clone(), Arc::clone(&read));
            let first = begun + between * number / connections;
            tasks.push(tokio::spawn(async move { paced.one(sender, begun, first, between, &*read).await }));
        }
        let mut answered = Vec::new();
        for task in tasks {
            answered.extend(task.await??);
        }
        Ok(answered)
    }

    async fn one<T>(
        &self,
        mut sender: SendRequest<Full<Bytes>>,
        begun: Instant,
        first: Instant,
        between: Duration,
        read: &(impl Fn(&Bytes) -> Option<T> + Sync),
    ) -> Result<Vec<Answered<T>>> {
        let mut answered = Vec::new();
        let mut due = first;
        while !self.stop.reached(begun, due) {
            let waits = Instant::now() < due;
            sleep_until(due.into()).await;
            // A timer of this program that is late is no fault of the server's; an answer before this one that was, is.
            let from = if waits { Instant::now() } else { due };
            let body = self.load.ask(&mut sender).await;
            let at = Instant::now();
            let read = body.ok().and_then(|body| read(&body));
            if read.is_none() {
                sender = self.load.connect().await?;
            }
            answered.push(Answered { latency: at.saturating_duration_since(from), read });
            due += between;
        }
        Ok(answered)
    }
}

impl Stop {
    fn reached(&self, begun: Instant, due: Instant) -> bool {
        match self {
            Self::After(time) => due.saturating_duration_since(begun) >= *time,
            Self::When(told) => told.load(Ordering::Relaxed),
        }
    }
}

/// A quantile of latencies in milliseconds: 0.5 is the median.
pub(crate) fn quantile<T>(answered: &[Answered<T>], quantile: f64) -> f64 {
    let mut latencies: Vec<_> = answered.iter().map(|answered| answered.latency).collect();
    latencies.sort_unstable();
    crate::load::quantile(&latencies, quantile).as_secs_f64() * 1e3
}
