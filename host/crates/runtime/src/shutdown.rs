use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The end of a role: everything that runs has a clone, and winds up when it has begun.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// One that only [`begin`](Self::begin) begins.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins at SIGTERM (how a kubelet ends a container) or SIGINT (Ctrl-C). A second signal ends the process at
    /// once, with the status a shell gives for it (128 and the signal's number): for a person who will not wait.
    ///
    /// Called first in a role, within a tokio runtime: a signal before this kills the process. Fails when the
    /// process may not listen to signals.
    pub fn on_signals() -> io::Result<Self> {
        let mut signals = Signals::listen()?;
        let shutdown = Self::new();
        let begun = shutdown.clone();
        tokio::spawn(async move {
            let name = signals.next().await.name;
            tracing::info!(signal = name, "shutdown begins; a second signal ends the process at once");
            begun.begin();
            let second = signals.next().await;
            tracing::warn!(signal = second.name, "second signal: ending now, without draining");
            std::process::exit(second.status);
        });
        Ok(shutdown)
    }

    /// Begins it; again is nothing.
    pub fn begin(&self) {
        self.0.cancel();
    }

    /// True from the moment it begins.
    pub fn begun(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Returns when it has begun.
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

struct Received {
    name: &'static str,
    status: i32,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> Received {
        // The streams end only with the runtime, and this future with it.
        tokio::select! {
            _ = self.terminate.recv() => Received { name: "SIGTERM", status: 143 },
            _ = self.interrupt.recv() => Received { name: "SIGINT", status: 130 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_sees_it_begin() {
        let shutdown = Shutdown::new();
        let clone = shutdown.clone();
        let waiting = tokio::spawn(async move { clone.wait().await });
        assert!(!shutdown.begun());
        shutdown.begin();
        waiting.await.unwrap();
        assert!(shutdown.clone().begun());
        shutdown.wait().await;
    }
}
