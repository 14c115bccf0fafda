use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::part::pin_this_thread;

/// The same request over and over, on connections that are kept: each sends the next when the last is answered.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    /// TLS to a server of this name.
    pub(crate) tls: Option<(TlsConnector, ServerName<'static>)>,
    pub(crate) request: Request<Bytes>,
    pub(crate) connections: usize,
    pub(crate) time: Duration,
    /// Says whether an answer is the right one; asked for the first of each connection. The status is looked at
    /// for every one.
    pub(crate) is_right: fn(&Bytes) -> bool,
}

/// What a [`Load`] came to.
#[derive(Debug)]
pub(crate) struct Measured {
    /// From request to the end of the answer, shortest first.
    latencies: Vec<Duration>,
    time: Duration,
}

impl Measured {
    pub(crate) fn per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let requests = self.latencies.len() as f64;
        requests / self.time.as_secs_f64()
    }

    /// A quantile of the latencies in microseconds: 0.5 is the median.
    pub(crate) fn quantile(&self, wanted: f64) -> f64 {
        quantile(&self.latencies, wanted).as_secs_f64() * 1e6
    }
}

/// A quantile of what is sorted; zero of nothing.
pub(crate) fn quantile(sorted: &[Duration], quantile: f64) -> Duration {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a list"
    )]
    let place = (sorted.len() as f64 * quantile) as usize;
    sorted.get(place).or(sorted.last()).copied().unwrap_or_default()
}

impl Load {
    /// Runs it on a thread of its own, on these CPUs.
    pub(crate) async fn run(&self, cpus: &[usize]) -> Result<Measured> {
        let (load, cpus) = (self.clone(), cpus.to_vec());
        on_a_thread(move || {
            pin_this_thread(&cpus)?;
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(load.go())
        })
        .await
    }

    async fn go(self) -> Result<Measured> {
        let load = Arc::new(self);
        let mut senders = Vec::new();
        for _ in 0..load.connections {
            senders.push(load.connect().await.with_context(|| format!("no connection to {}", load.address))?);
        }
        let begun = Instant::now();
        let until = begun + load.time;
        let tasks: Vec<_> =
            senders.into_iter().map(|sender| tokio::spawn(Arc::clone(&load).repeat(sender, until))).collect();
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await??);
        }
        let time = begun.elapsed();
        latencies.sort_unstable();
        Ok(Measured { latencies, time })
    }

    async fn repeat(self: Arc<Self>, mut sender: SendRequest<Full<Bytes>>, until: Instant) -> Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        while Instant::now() < until {
            let begun = Instant::now();
            let body = self.ask(&mut sender).await?;
            let took = begun.elapsed();
            if latencies.is_empty() && !(self.is_right)(&body) {
                bail!("{} answered: {}", self.address, String::from_utf8_lossy(&body));
            }
            latencies.push(took);
        }
        Ok(latencies)
    }

    /// Sends the request and reads its answer.
    pub(crate) async fn ask(&self, sender: &mut SendRequest<Full<Bytes>>) -> Result<Bytes> {
        sender.ready().await?;
        let response = sender.send_request(self.request.clone().map(Full::new)).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if status != http::StatusCode::OK {
            bail!("{} answered {status}: {}", self.address, String::from_utf8_lossy(&body));
        }
        Ok(body)
    }

    pub(crate) async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => handshake(stream).await,
            Some((connector, name)) => handshake(connector.connect(name.clone(), stream).await?).await,
        }
    }
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Full<Bytes>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // What ends a connection too early is seen by its sender.
    tokio::spawn(async move { connection.await.ok() });
    Ok(sender)
}

/// Runs what blocks on a thread of its own. A caller that is dropped leaves it behind: it ends with the program.
pub(crate) async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("load".to_owned()).spawn(move || sender.send(work()).is_ok())?;
    receiver.await.context("the thread panicked")?
}
