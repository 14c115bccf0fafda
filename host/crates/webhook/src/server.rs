use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::RustlsAcceptor;
use cache_registry_runtime::{Drain, Shutdown};
use tokio::net::TcpListener;

use crate::certificate::{Certificate, CertificateError, Files};
use crate::lingering::LingeringAcceptor;
use crate::metrics::Metrics;

/// Where the webhook listens, and with what certificate.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address and port for HTTPS.
    pub listen: SocketAddr,
    /// The certificate and its chain, in PEM.
    pub certificate: PathBuf,
    /// The certificate's private key, in PEM.
    pub key: PathBuf,
    /// How often the two files are looked at for a new pair; below 10 s, for one to be served within 30 s.
    pub poll: Duration,
    /// How it ends.
    pub drain: Drain,
}

/// Why the webhook cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The certificate cannot be served.
    #[error("cannot serve TLS: {0}")]
    Certificate(#[from] CertificateError),
}

/// HTTPS for the webhook: HTTP/2 or HTTP/1.1, as the client asks by ALPN.
pub struct Server {
    listener: TcpListener,
    certificate: Certificate,
    poll: Duration,
    drain: Drain,
}

/// Between a connection and the end of its TLS handshake, and from there to its first request.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// For the head of a later request over HTTP/1.1. It runs while the connection is idle as well, so it is longer than
/// the 90 s after which an API server closes an idle connection: we are never the one who closes while it sends.
const NEXT_HEAD_TIMEOUT: Duration = Duration::from_mins(2);

/// An HTTP/2 peer that does not answer a ping any more is gone.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Reviews at once on one connection; an API server opens another beyond it.
const STREAMS: u32 = 250;

impl Config {
    /// With the default times: the files are looked at every 5 s.
    pub fn new(listen: SocketAddr, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        let (certificate, key) = (certificate.into(), key.into());
        Self { listen, certificate, key, poll: Duration::from_secs(5), drain: Drain::default() }
    }
}

impl Server {
    /// Reads the certificate and takes the port. From here on connections are accepted by the system, and answered
    /// once it is [served](Self::serve).
    pub async fn bind(config: Config, metrics: Metrics) -> Result<Self, SetupError> {
        let Config { listen, certificate, key, poll, drain } = config;
        let certificate = Certificate::open(Files { certificate, key }, metrics).await?;
        let listener = TcpListener::bind(listen).await;
        let listener = listener.map_err(|error| SetupError::Listen { address: listen, error })?;
        Ok(Self { listener, certificate, poll, drain })
    }

    /// Where it listens: the port that was given out when 0 was asked for.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until shutdown has begun and what was being answered then has ended, or its grace has.
    pub async fn serve(self, router: Router, shutdown: Shutdown) -> io::Result<()> {
        let handle = Handle::new();
        let acceptor = RustlsAcceptor::new(self.certificate.config())
            .handshake_timeout(HANDSHAKE_TIMEOUT)
            .acceptor(NoDelayAcceptor::new());
        let mut server = axum_server::Server::<SocketAddr>::from_listener(self.listener)
            .acceptor(LingeringAcceptor(acceptor))
            .handle(handle.clone())
            .first_request_timeout(FIRST_REQUEST_TIMEOUT)
            .accept_error_handler(|peer, error| tracing::debug!(?peer, %error, "connection refused"));
        server.http_builder().http1().header_read_timeout(NEXT_HEAD_TIMEOUT);
        server
            .http_builder()
            .http2()
            .max_concurrent_streams(STREAMS)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        let beside = async {
            tokio::join!(self.drain.server(shutdown, handle), self.certificate.follow(self.poll));
        };
        tokio::select! {
            ended = server.serve(router.into_make_service()) => ended,
            // It follows the files for ever.
            () = beside => Ok(()),
        }
    }
}
