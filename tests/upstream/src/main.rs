//! The upstream registry of the tests, in a process of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use cache_registry_upstream::{Tls, Upstream, serve_control};
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// A registry that misbehaves on demand. It is empty at first: images and faults come over the control API.
#[derive(Debug, Parser)]
struct Args {
    /// Where the registry listens.
    #[arg(long, value_name = "IP:PORT")]
    listen: SocketAddr,
    /// Where the control API listens, plain HTTP.
    #[arg(long, value_name = "IP:PORT")]
    control: SocketAddr,
    /// Serve HTTPS with this certificate chain (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// End when standard input is closed, which it is when the parent process dies, however it dies.
    #[arg(long)]
    until_stdin_closes: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let args = Args::parse();
    let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);

    let control = TcpListener::bind(args.control)
        .await
        .with_context(|| format!("--control: cannot listen on {}", args.control))?;
    let upstream = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => {
            let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
            Upstream::start_tls(args.listen, Tls::from_pem(&read(certificate)?, &read(key)?)?).await
        }
        _ => Upstream::start(args.listen).await,
    }
    .context("--listen")?;
    tracing::info!(listen = %upstream.address(), control = %control.local_addr()?, "up");

    tokio::select! {
        served = serve_control(control, Arc::new(upstream)) => served,
        _ = terminated.recv() => Ok(()),
        _ = interrupted.recv() => Ok(()),
        () = stdin_closed(), if args.until_stdin_closes => Ok(()),
    }
}

/// A thread of its own reads: a read that waits on the runtime would keep the runtime from ending.
async fn stdin_closed() {
    let (closed, on_closed) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let ended = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        tracing::info!(?ended, "standard input is closed");
        drop(closed);
    });
    // The sender is only ever dropped.
    let _ = on_closed.await;
}
