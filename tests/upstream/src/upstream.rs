use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::access::{Access, Gate};
use crate::answer::Registry;
use crate::fault::{Rule, Rules};
use crate::image::Image;
use crate::store::Store;
use crate::traffic::{Recorder, Traffic};

/// A registry that listens. It ends when it is dropped.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    registry: Arc<Registry>,
    tls: Option<Tls>,
    listening: Mutex<Option<Listening>>,
}

/// A certificate chain and its key.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

impl Tls {
    /// Reads a certificate chain and a private key, both PEM.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<_, _>>()
            .context("the certificate is not PEM")?;
        let key = PrivateKeyDer::from_pem_slice(key).context("the private key is not PEM")?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .context("TLS 1.2 and 1.3")?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .context("the certificate and the key do not go together")?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(redacted)")
    }
}

impl Upstream {
    /// Listens on `address` (port 0: any that is free) over plain HTTP/1.1 and 2, with an empty store.
    pub async fn start(address: SocketAddr) -> Result<Self> {
        Self::start_with(address, None).await
    }

    /// The same over HTTPS.
    pub async fn start_tls(address: SocketAddr, tls: Tls) -> Result<Self> {
        Self::start_with(address, Some(tls)).await
    }

    async fn start_with(address: SocketAddr, tls: Option<Tls>) -> Result<Self> {
        let registry = Arc::new(Registry {
            store: Store::default(),
            rules: Rules::default(),
            gate: Gate::default(),
            recorder: Recorder::new(),
            scheme: if tls.is_some() { "https" } else { "http" },
        });
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        let address = listener.local_addr()?;
        let listening = Listening::start(listener, Arc::clone(&registry), tls.clone());
        Ok(Self { address, registry, tls, listening: Mutex::new(Some(listening)) })
    }

    /// Where it listens; the same after [`off`](Self::off) and [`on`](Self::on).
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has; can be changed at any time.
    pub fn store(&self) -> &Store {
        &self.registry.store
    }

    /// Puts an image into a repository, under a tag.
    pub fn add(&self, repository: &str, tag: &str, image: &Image) {
        self.registry.store.add(repository, tag, image);
    }

    /// Says who may read from now on. Tokens that were given out serve no more.
    pub fn set_access(&self, access: Access) {
        self.registry.gate.set(access);
    }

    /// Adds a rule behind those in force.
    pub fn misbehave(&self, rule: impl Into<Rule>) {
        self.registry.rules.add(rule.into());
    }

    /// Takes all rules away. Requests that are stalled stay stalled.
    pub fn behave(&self) {
        self.registry.rules.clear();
    }

    /// The rules in force, with the times that are left.
    pub fn rules(&self) -> Vec<Rule> {
        self.registry.rules.list()
    }

    /// Closes the listener and every connection: from when this returns, connections are refused.
    pub async fn off(&self) {
        if let Some(listening) = self.listening.lock().await.take() {
            listening.stop().await;
        }
    }

    /// Listens again, at the same address. Nothing happens where it listens already.
    pub async fn on(&self) -> Result<()> {
        let mut listening = self.listening.lock().await;
        if listening.is_none() {
            let listener = TcpListener::bind(self.address)
                .await
                .with_context(|| format!("cannot listen on {} again", self.address))?;
            *listening = Some(Listening::start(listener, Arc::clone(&self.registry), self.tls.clone()));
        }
        Ok(())
    }

    /// Whether it is on.
    pub async fn is_on(&self) -> bool {
        self.listening.lock().await.is_some()
    }

    /// What was asked so far.
    pub fn traffic(&self) -> Traffic {
        self.registry.recorder.snapshot()
    }

    /// What was asked so far, and begins to count anew.
    pub fn reset_traffic(&self) -> Traffic {
        self.registry.recorder.reset()
    }
}

/// The open listener and its connections; they end when it is dropped.
#[derive(Debug)]
struct Listening {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Listening {
    fn start(listener: TcpListener, registry: Arc<Registry>, tls: Option<Tls>) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(accept(listener, registry, tls, stop.clone()));
        Self { stop, task }
    }

    async fn stop(mut self) {
        self.stop.cancel();
        if let Err(error) = (&mut self.task).await {
            tracing::warn!(%error, "the listener ended badly");
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, registry: Arc<Registry>, tls: Option<Tls>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                registry.recorder.connection();
                connections.spawn(connection(stream, Arc::clone(&registry), tls.clone()));
            }
            // Out of file descriptors, or the peer is gone already: neither is a reason to end.
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::task::yield_now().await;
            }
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn connection(stream: TcpStream, registry: Arc<Registry>, tls: Option<Tls>) {
    // Heads and bodies are written apart; without this the second waits for the first to be acknowledged.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let served = match tls {
        None => serve(stream, registry).await,
        Some(Tls(acceptor)) => match acceptor.accept(stream).await {
            Ok(stream) => serve(stream, registry).await,
            Err(error) => Err(error.into()),
        },
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn serve<S>(stream: S, registry: Arc<Registry>) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let registry = Arc::clone(&registry);
        async move { Ok::<_, io::Error>(registry.answer(request).await) }
    });
    auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await
}
