use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What came back for one request, and when.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers as they came.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// From the request to the first byte of the body, or to the headers where there is no body.
    pub first_byte: Duration,
    /// From the request to the last byte.
    pub total: Duration,
}

impl Answer {
    /// A header's value; empty when it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// `GET` of a path at an address, the body read to its end.
pub async fn page(address: SocketAddr, path: &str) -> Result<Answer> {
    get(TcpStream::connect(address).await?, path, &[]).await
}

/// `GET` of a path on an open connection, the body read to its end.
pub(crate) async fn get(stream: TcpStream, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    request(stream, Method::GET, path, headers).await
}

/// A request without a body on an open connection, the answer's body read to its end. A body that is cut short is an
/// error.
pub(crate) async fn request(stream: TcpStream, method: Method, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    let host = stream.peer_addr()?.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let started = Instant::now();
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await.context("no answer")?;
    let mut first_byte = started.elapsed();
    let (parts, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.context("the body ended early")?.into_data() {
            if bytes.is_empty() {
                first_byte = started.elapsed();
            }
            bytes.extend_from_slice(&data);
        }
    }
    let total = started.elapsed();
    drop(sender);
    connection.abort();
    Ok(Answer { status: parts.status, headers: parts.headers, body: bytes.into(), first_byte, total })
}
