//! A client that hides nothing: no retries, no redirects, no authorization of its own.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client as HyperClient, Error};
use hyper_util::rt::TokioExecutor;

/// Longer than anything here takes on a busy machine: what runs into it hangs.
pub(crate) const LONG: Duration = Duration::from_secs(20);
/// Long enough to say that nothing comes.
pub(crate) const A_WHILE: Duration = Duration::from_millis(500);

pub(crate) struct Client {
    address: SocketAddr,
    client: HyperClient<HttpConnector, Empty<Bytes>>,
}

impl Client {
    pub(crate) fn of(address: SocketAddr) -> Self {
        Self { address, client: HyperClient::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http() }
    }

    /// The head of the answer, and its body to be read.
    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response<Incoming>, Error> {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.client.request(request.body(Empty::new()).unwrap());
        tokio::time::timeout(LONG, answer).await.expect("an answer")
    }

    /// The head of the answer and the whole of its body.
    pub(crate) async fn exchange(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> (Parts, Bytes) {
        let (head, body) = self.open(method, path, headers).await.unwrap().into_parts();
        let body = tokio::time::timeout(LONG, body.collect()).await.expect("a whole body").unwrap();
        (head, body.to_bytes())
    }

    pub(crate) async fn get(&self, path: &str) -> (Parts, Bytes) {
        self.exchange(Method::GET, path, &[]).await
    }
}

/// How a body ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Whole,
    Cut,
    Stalled,
}

/// Reads until the end of the body, an error, or until nothing comes for [`A_WHILE`].
pub(crate) async fn read(mut body: Incoming) -> (Bytes, End) {
    let mut bytes = BytesMut::new();
    let end = loop {
        match tokio::time::timeout(A_WHILE, body.frame()).await {
            Err(_) => break End::Stalled,
            Ok(None) => break End::Whole,
            Ok(Some(Err(_))) => break End::Cut,
            Ok(Some(Ok(frame))) => bytes.extend_from_slice(frame.data_ref().unwrap()),
        }
    };
    (bytes.freeze(), end)
}

pub(crate) fn header<'a>(head: &'a Parts, name: &str) -> Option<&'a str> {
    head.headers.get(name).map(|value| value.to_str().unwrap())
}

pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}
