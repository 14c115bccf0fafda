//! A server of which each test says what it answers.

use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use http::{Method, StatusCode};
use tokio::net::TcpListener;
use url::Url;

/// What was asked: method, path with query, `Authorization`, `Range`, and what was sent, where it is text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) range: Option<String>,
    pub(crate) body: String,
}

/// Answers on loopback until it is dropped.
pub(crate) struct Server {
    pub(crate) url: Url,
    seen: Arc<Mutex<Vec<Seen>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(answer: impl Fn(&Parts) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&seen), Arc::new(answer));
        let router = axum::Router::new().fallback(move |request: axum::extract::Request| {
            let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
            async move {
                let (parts, body) = request.into_parts();
                let header = |name| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
                let seen = Seen {
                    method: parts.method.clone(),
                    path: parts.uri.to_string(),
                    authorization: header(http::header::AUTHORIZATION),
                    range: header(http::header::RANGE),
                    body: String::new(),
                };
                let at = {
                    let mut log = log.lock().unwrap();
                    log.push(seen);
                    log.len() - 1
                };
                // A body is taken in as far as it comes.
                if let Ok(body) = axum::body::to_bytes(body, usize::MAX).await {
                    log.lock().unwrap()[at].body = String::from_utf8(body.into()).unwrap_or_default();
                }
                answer(&parts)
            }
        });
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, seen, serving }
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests of a method had a path with this in it.
    pub(crate) fn count(&self, method: &Method, part: &str) -> usize {
        self.seen().iter().filter(|seen| seen.method == *method && seen.path.contains(part)).count()
    }

    /// `127.0.0.1:<port>`
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.url.port().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// An answer without headers.
pub(crate) fn answer(status: u16, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// An answer with headers.
pub(crate) fn answer_with(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut response = answer(status, body);
    for (name, value) in headers {
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        response.headers_mut().append(name, value.parse().unwrap());
    }
    response
}

/// A body that sends this and then nothing more, without ending.
pub(crate) fn stalling(bytes: &'static [u8]) -> Body {
    use futures::StreamExt as _;
    let first = futures::stream::iter([Ok::<_, std::io::Error>(bytes)]);
    Body::from_stream(first.chain(futures::stream::pending()))
}

/// A body that sends this and then breaks off.
pub(crate) fn breaking(bytes: Vec<u8>) -> Body {
    use futures::StreamExt as _;
    let broken = async {
        // A server that waits for more sends what it has.
        tokio::task::yield_now().await;
        Err(std::io::Error::other("broken on purpose"))
    };
    Body::from_stream(futures::stream::iter([Ok(bytes)]).chain(futures::stream::once(broken)))
}
