use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use cache_registry_bed::Bed;
use futures::SinkExt;
use futures::channel::mpsc::{Receiver, Sender, channel};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

type Chunks = StreamBody<Receiver<Result<Frame<Bytes>, std::io::Error>>>;

/// A connection to the webhook as the API server makes one: TLS, trusting only the bed's authority.
pub struct WebhookConnection {
    sender: SendRequest<Chunks>,
    certificate: Vec<u8>,
}

impl WebhookConnection {
    /// Connects.
    pub async fn open(bed: &Bed) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(bed.authority.pem().as_bytes())?)?;
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let address = bed.webhook_address();
        let stream = TcpStream::connect(address).await?;
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(ServerName::from(address.ip()), stream).await?;
        let certificates = stream.get_ref().1.peer_certificates().context("the webhook has no certificate")?;
        let certificate = certificates.first().context("the webhook has no certificate")?.to_vec();
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, certificate })
    }

    /// The certificate that it was served, DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Sends a review, whole.
    pub async fn review(&mut self, review: &Value) -> Result<(StatusCode, Value)> {
        self.begin(review).await?.finish().await
    }

    /// Sends the head of a request and half of its review.
    pub async fn begin(&mut self, review: &Value) -> Result<HalfSent> {
        let review = review.to_string();
        let (first, rest) = review.split_at(review.len() / 2);
        let (mut chunks, body) = channel(1);
        let request = Request::post("/mutate/pods")
            .header(http::header::HOST, "webhook")
            .header(http::header::CONTENT_TYPE, "application/json")
            .header(http::header::CONTENT_LENGTH, review.len())
            .body(StreamBody::new(body))?;
        chunks.send(Ok(Frame::data(Bytes::copy_from_slice(first.as_bytes())))).await?;
        let response = tokio::spawn(self.sender.send_request(request));
        let answer = tokio::spawn(async move {
            let response = response.await?.context("no answer")?;
            let status = response.status();
            Ok((status, response.into_body().collect().await?.to_bytes()))
        });
        Ok(HalfSent { chunks, rest: Bytes::copy_from_slice(rest.as_bytes()), answer })
    }
}

/// A request whose body is not complete.
pub struct HalfSent {
    chunks: Sender<Result<Frame<Bytes>, std::io::Error>>,
    rest: Bytes,
    answer: JoinHandle<Result<(StatusCode, Bytes)>>,
}

impl HalfSent {
    /// Sends the rest and returns the answer.
    pub async fn finish(mut self) -> Result<(StatusCode, Value)> {
        self.chunks.send(Ok(Frame::data(self.rest))).await?;
        self.chunks.close_channel();
        let (status, body) = self.answer.await??;
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }
}

/// The review of a pod that is about to be created.
pub fn review_of(pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "namespace": "default",
            "operation": "CREATE",
            "object": pod,
        },
    })
}
