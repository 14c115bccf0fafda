use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use http::Request;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use tokio_rustls::TlsConnector;

use crate::load::Load;
use crate::part::{Part, free_address};
use crate::review::is_patched;

/// Starts webhooks that are measured, and makes load for them.
pub(crate) struct Webhooks {
    folder: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    connector: TlsConnector,
}

const NAME: &str = "webhook.test";

/// How many connections an API server has, more or less.
const CONNECTIONS: usize = 4;

impl Webhooks {
    /// Makes the certificate that they serve.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])?;
        let (certificate, key) = (folder.join("webhook.crt"), folder.join("webhook.key"));
        fs::write(&certificate, made.cert.pem())?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        let connector = trusting(made.cert.der().clone())?;
        Ok(Self { folder: folder.to_owned(), certificate, key, connector })
    }

    /// A webhook, which this program has in itself.
    pub(crate) async fn start(&self, name: &'static str, arguments: &[&str]) -> Result<Part> {
        let (certificate, key) = (self.certificate.to_string_lossy(), self.key.to_string_lossy());
        let identity = ["--certificate", &certificate, "--key", &key];
        self.start_part(name, &[&["serve"][..], arguments, &identity].concat()).await
    }

    /// What else this program has in itself that listens.
    pub(crate) async fn start_part(&self, name: &'static str, arguments: &[&str]) -> Result<Part> {
        let address = free_address()?;
        let listen = address.to_string();
        let arguments = [arguments, &["--listen", &listen]].concat();
        Part::start(name, &std::env::current_exe()?, &arguments, address, &self.folder).await
    }

    /// A review over and over.
    pub(crate) fn load(&self, part: &Part, review: Bytes) -> Result<Load> {
        Ok(Load {
            address: part.address(),
            tls: Some((self.connector.clone(), NAME.try_into()?)),
            request: request(NAME, review)?,
            connections: CONNECTIONS,
            time: std::time::Duration::ZERO,
            is_right: is_patched,
        })
    }
}

/// The request that brings a review to the webhook at `host`.
pub(crate) fn request(host: &str, review: Bytes) -> Result<Request<Bytes>> {
    Ok(Request::post("/mutate/pods")
        .header(http::header::HOST, host)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(review)?)
}

/// TLS to a server with this certificate, or one of this authority.
pub(crate) fn trusting(certificate: CertificateDer<'static>) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
