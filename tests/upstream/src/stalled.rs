use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A listener that accepts every connection, reads nothing and never answers: what a process looks like that hangs.
/// It ends, and its connections with it, when it is dropped.
#[derive(Debug)]
pub struct Stalled {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// Listens on `address` (port 0: any that is free) and never answers.
pub async fn stalled_listener(address: SocketAddr) -> Result<Stalled> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let address = listener.local_addr()?;
    let task = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    Ok(Stalled { address, task })
}

impl Stalled {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        self.task.abort();
    }
}
