use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use cache_registry_core::{Digest, Hasher};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::MissedTickBehavior;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::metrics::Metrics;

/// Why a certificate and its key cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file is absent or may not be read.
    #[error("{path}: {error}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The certificate's file has no certificate, or a broken one.
    #[error("no certificate chain in PEM: {0}")]
    Chain(pem::Error),
    /// The first certificate is none.
    #[error("the first certificate is not X.509: {0}")]
    Leaf(String),
    /// The key's file has no key, or a broken one.
    #[error("no private key in PEM (PKCS#8, PKCS#1 or SEC1, not encrypted): {0}")]
    Key(pem::Error),
    /// The two don't belong together, or are of a kind that TLS has no use for.
    #[error("the certificate and the key are not usable together: {0}")]
    Pair(#[from] rustls::Error),
}

/// A certificate that is served, and the files that it is from.
///
/// The files' content is compared, not their times, and no notification is waited for: a mounted Secret is changed by
/// exchanging a symbolic link, which a watch on the file itself never sees. What is swapped is the whole TLS
/// configuration, which a connection takes at its handshake and keeps; so the ones that are open go on, and a session
/// that began under the old certificate is not resumed under the new one.
pub(crate) struct Certificate {
    files: Files,
    seen: Result<[Digest; 2], String>,
    config: RustlsConfig,
    metrics: Metrics,
}

#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

struct Loaded {
    config: Arc<ServerConfig>,
    /// Seconds since 1970, as is the end.
    not_before: i64,
    not_after: i64,
}

impl Certificate {
    /// Reads the files for the first time: there is nothing to fall back on, so a bad pair is an error.
    pub(crate) async fn open(files: Files, metrics: Metrics) -> Result<Self, CertificateError> {
        let pair = files.read().await?;
        let Loaded { config, not_before, not_after } = load(&pair)?;
        metrics.certificate_valid(not_before, not_after);
        let seen = Ok(pair.digests());
        Ok(Self { files, seen, config: RustlsConfig::from_config(config), metrics })
    }

    /// What new connections are accepted with; it follows the files.
    pub(crate) fn config(&self) -> RustlsConfig {
        self.config.clone()
    }

    /// Looks at the files again and again, and serves a good pair that is new. A bad one (half written, say) is
    /// logged and counted once, and the one before it stays.
    pub(crate) async fn follow(mut self, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look().await;
        }
    }

    async fn look(&mut self) {
        let read = self.files.read().await;
        let seen = read.as_ref().map(Pair::digests).map_err(ToString::to_string);
        if seen == self.seen {
            return;
        }
        self.seen = seen;
        let loaded = read.and_then(|pair| load(&pair));
        self.metrics.count_certificate(loaded.is_ok());
        match loaded {
            Ok(Loaded { config, not_before, not_after }) => {
                self.config.reload_from_config(config);
                self.metrics.certificate_valid(not_before, not_after);
                tracing::info!(not_after, "new certificate served");
            }
            Err(error) => tracing::error!(%error, "new certificate refused; the one before it is still served"),
        }
    }
}

impl Files {
    async fn read(&self) -> Result<Pair, CertificateError> {
        Ok(Pair { certificate: read(&self.certificate).await?, key: read(&self.key).await? })
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    tokio::fs::read(path).await.map_err(|error| CertificateError::Unreadable { path: path.to_owned(), error })
}

impl Pair {
    fn digests(&self) -> [Digest; 2] {
        [Hasher::sha256(&self.certificate), Hasher::sha256(&self.key)]
    }
}

fn load(pair: &Pair) -> Result<Loaded, CertificateError> {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(&pair.certificate).collect::<Result<_, _>>().map_err(CertificateError::Chain)?;
    let leaf = chain.first().ok_or(CertificateError::Chain(pem::Error::NoItemsFound))?;
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|error| CertificateError::Leaf(error.to_string()))?;
    let [not_before, not_after] = [leaf.validity().not_before, leaf.validity().not_after].map(|time| time.timestamp());
    let key = PrivateKeyDer::from_pem_slice(&pair.key).map_err(CertificateError::Key)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain.clone(), key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Loaded { config: Arc::new(config), not_before, not_after })
}
