use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use axum_server::Handle;

use crate::Shutdown;

/// How a server ends. Both times together belong below the pod's `terminationGracePeriodSeconds` (30 s by default).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// New connections are still taken for this long: clients learn from the endpoints that this replica is going,
    /// and the endpoints learn it from `/ready`. A connection whose handshake goes on when this ends is cut, and what its
    /// client wanted to ask has failed; so it is more than a busy cluster takes to tell all nodes of the endpoints. Zero for
    /// a server that no Service stands in front of.
    pub linger: Duration,
    /// Requests that are being answered have this long to end; then their connections are cut.
    pub grace: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { linger: Duration::from_secs(6), grace: Duration::from_secs(20) }
    }
}

/// Work that had not ended within its grace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("still busy {} s after shutdown began; giving up", .0.as_secs_f32())]
pub struct Overdue(pub Duration);

impl Drain {
    /// Waits until shutdown begins, then ends the server behind `handle`: the listener is closed after
    /// [`linger`](Self::linger), idle connections with it, busy ones at the end of their request, and all of them
    /// after [`grace`](Self::grace). The server's own future returns then.
    pub async fn server(self, shutdown: Shutdown, handle: Handle<SocketAddr>) {
        shutdown.wait().await;
        tokio::time::sleep(self.linger).await;
        tracing::info!(connections = handle.connection_count(), "draining");
        handle.graceful_shutdown(Some(self.grace));
    }
}

impl Shutdown {
    /// Runs `work`, which ends by itself soon after shutdown begins, and gives it at most `grace` from then on.
    pub async fn bound<F: Future>(&self, grace: Duration, work: F) -> Result<F::Output, Overdue> {
        let deadline = async {
            self.wait().await;
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            biased;
            output = work => Ok(output),
            () = deadline => Err(Overdue(grace)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    const GRACE: Duration = Duration::from_secs(20);

    #[tokio::test(start_paused = true)]
    async fn work_that_ends_in_time_gives_its_output() {
        let shutdown = Shutdown::new();
        let work = async {
            shutdown.wait().await;
            tokio::time::sleep(GRACE / 2).await;
            7
        };
        let begin = async { shutdown.begin() };
        let (output, ()) = tokio::join!(shutdown.bound(GRACE, work), begin);
        assert_eq!(output, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_never_ends_is_given_up_after_its_grace() {
        let shutdown = Shutdown::new();
        let bound = shutdown.bound(GRACE, pending::<()>());
        tokio::pin!(bound);
        // A day without shutdown is no reason to give up.
        assert!(tokio::time::timeout(Duration::from_hours(24), &mut bound).await.is_err());
        shutdown.begin();
        let began = tokio::time::Instant::now();
        assert_eq!(bound.await, Err(Overdue(GRACE)));
        assert_eq!(began.elapsed(), GRACE);
    }
}
