//! A registry on loopback that answers as it is told to.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use cache_registry_core::Hasher;
use futures::stream::{self, StreamExt as _};
use http::{HeaderMap, Method, StatusCode};
use tokio::net::TcpListener;

/// How it answers. The faults in a body begin after so many bytes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// The same, and ranges are ignored.
    WithoutRanges,
    /// The same, and no length is told.
    Chunked,
    /// This status.
    Status(u16),
    /// 401, but for who brings this `Authorization`.
    Guarded(&'static str),
    /// 429, but for who brings this `Authorization`.
    Limited(&'static str),
    /// 416 in words of which no length is told.
    RangeRefused,
    /// Headers come after so long.
    Late(Duration),
    /// Headers never come.
    Silent,
    /// The connection is cut within the body.
    Cut(usize),
    /// Nothing comes any more within the body.
    Stalled(usize),
    /// The last byte is another one.
    WrongBytes,
    /// As above, and no length is told.
    WrongBytesChunked,
    /// No `Docker-Content-Digest`.
    WithoutDigest,
    /// Another `Docker-Content-Digest` in a HEAD.
    WrongDigestInHead,
    /// A few bytes of the body at a time, without end.
    Dripping,
}

/// A request that it got.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> String {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join(", ")
    }
}

#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    contents: Mutex<HashMap<String, (&'static str, Bytes)>>,
    mood: Mutex<Mood>,
    seen: Mutex<Vec<Seen>>,
}

pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

impl Origin {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared =
            Arc::new(Shared { contents: Mutex::default(), mood: Mutex::new(Mood::Well), seen: Mutex::default() });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, shared }
    }

    /// Holds an index under a tag and its digest; returns the digest.
    pub(crate) fn manifest(&self, repository: &str, tag: &str, bytes: &Bytes) -> String {
        let digest = Hasher::sha256(bytes).to_string();
        for reference in [tag, &digest] {
            self.put(format!("/v2/{repository}/manifests/{reference}"), INDEX, bytes.clone());
        }
        digest
    }

    /// Holds a blob; returns its digest.
    pub(crate) fn blob(&self, repository: &str, bytes: &Bytes) -> String {
        let digest = Hasher::sha256(bytes).to_string();
        self.put(format!("/v2/{repository}/blobs/{digest}"), "application/octet-stream", bytes.clone());
        digest
    }

    fn put(&self, path: String, media_type: &'static str, bytes: Bytes) {
        self.shared.contents.lock().unwrap().insert(path, (media_type, bytes));
    }

    pub(crate) fn mood(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The methods and `Range`s that it was asked with.
    pub(crate) fn asked(&self) -> Vec<(String, String)> {
        self.seen().iter().map(|seen| (seen.method.to_string(), seen.header("range"))).collect()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let seen = Seen { method: parts.method.clone(), path: path.clone(), headers: parts.headers.clone() };
    shared.seen.lock().unwrap().push(seen);
    let mood = *shared.mood.lock().unwrap();
    match mood {
        Mood::Status(status) => return failure(status),
        Mood::RangeRefused => {
            let (parts, body) = failure(416).into_parts();
            return Response::from_parts(parts, Body::from_stream(body.into_data_stream()));
        }
        Mood::Guarded(authorization) if parts.headers.get("authorization").is_none_or(|it| it != authorization) => {
            let mut response = failure(401);
            response.headers_mut().insert("www-authenticate", r#"Basic realm="x""#.parse().unwrap());
            return response;
        }
        Mood::Limited(authorization) if parts.headers.get("authorization").is_none_or(|it| it != authorization) => {
            return failure(429);
        }
        Mood::Late(time) => tokio::time::sleep(time).await,
        Mood::Silent => std::future::pending().await,
        _ => {}
    }
    let content = shared.contents.lock().unwrap().get(&path).cloned();
    let Some((media_type, whole)) = content else { return failure(404) };
    let mut bytes = whole.clone();
    if matches!(mood, Mood::WrongBytes | Mood::WrongBytesChunked) {
        let mut wrong = whole.to_vec();
        *wrong.last_mut().unwrap() ^= 1;
        bytes = wrong.into();
    }
    let mut response = Response::builder().header("content-type", media_type);
    if !matches!(mood, Mood::WithoutDigest) {
        let is_wrong = mood == Mood::WrongDigestInHead && parts.method == Method::HEAD;
        let told = if is_wrong { Hasher::sha256(b"another") } else { Hasher::sha256(&whole) };
        response = response.header("docker-content-digest", told.to_string());
    }
    let range = parts.headers.get("range").filter(|_| mood != Mood::WithoutRanges);
    if let Some(range) = range {
        let total = bytes.len();
        let (first, last) = range.to_str().unwrap().strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let (first, end) = match (first, last) {
            ("", last) => (total - last.parse::<usize>().unwrap(), total),
            (first, "") => (first.parse().unwrap(), total),
            (first, last) => (first.parse().unwrap(), total.min(last.parse::<usize>().unwrap() + 1)),
        };
        if first >= total {
            return response
                .status(416)
                .header("content-range", format!("bytes */{total}"))
                .body(Body::empty())
                .unwrap();
        }
        bytes = bytes.slice(first..end);
        response = response.status(206).header("content-range", format!("bytes {first}-{}/{total}", end - 1));
    }
    if !matches!(mood, Mood::Chunked | Mood::WrongBytesChunked) {
        response = response.header("content-length", bytes.len());
    }
    if parts.method == Method::HEAD {
        // Of unknown length, so that no length is told that was not said above.
        return response.body(Body::from_stream(stream::empty::<Result<Bytes, Infallible>>())).unwrap();
    }
    response.body(body(mood, bytes)).unwrap()
}

fn body(mood: Mood, bytes: Bytes) -> Body {
    let pieces = |bytes: Bytes| {
        let pieces: Vec<_> = bytes.chunks(10_000).map(Bytes::copy_from_slice).collect();
        stream::iter(pieces).map(Ok::<_, String>)
    };
    match mood {
        // The pause lets hyper send what it has before it sees the end.
        Mood::Cut(after) => Body::from_stream(pieces(bytes.slice(..after)).chain(stream::once(async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Err("cut".to_owned())
        }))),
        Mood::Stalled(after) => Body::from_stream(
            pieces(bytes.slice(..after))
                .chain(stream::once(async { std::future::pending::<Result<Bytes, String>>().await })),
        ),
        Mood::Dripping => Body::from_stream(stream::iter(bytes.to_vec()).then(|byte| async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok::<_, Infallible>(Bytes::from(vec![byte]))
        })),
        Mood::Chunked | Mood::WrongBytesChunked => Body::from_stream(pieces(bytes)),
        _ => Body::from_stream(stream::once(async { Ok::<_, Infallible>(bytes) })),
    }
}

fn failure(status: u16) -> Response {
    let mut response = Response::new(Body::from(r#"{"errors":[{"code":"TOLD","message":"the origin says so"}]}"#));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    if status == 429 {
        response.headers_mut().insert("retry-after", "7".parse().unwrap());
    }
    response
}
