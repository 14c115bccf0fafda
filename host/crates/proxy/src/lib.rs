//! The node's `/v2/`: what a node's container runtime pulls through, from the cache where it has the image and from
//! the image's own registry where it has not. Knows no Kubernetes, so a node's pulls go on when the API server is down.
//!
//! ```text
//! containerd ─▶ route ─▶ pull_manifest ─▶ manifests (memory)
//!                 │            │
//!                 │            ▼            ┌─▶ cache ─── breaker
//!                 │       legs::next ─▶ ask ┤
//!                 │            ▲            └─▶ upstream ─ limits, pull_tokens
//!                 └─────▶ pull_blob ─▶ transfer: hashed as it passes, continued by the next leg when its own is cut
//!                                         │
//!                                      suspects: blobs whose bytes were wrong a moment ago
//! ```
//!
//! - `legs::next` decides who is asked next and is pure; the rest acts on it. The cache is asked first, with
//!   little time; then the upstream; and if that fails, whatever the cache has, with more time.
//! - Nothing is ever delivered as complete whose digest was not checked here or, where only a part was asked for, can
//!   be checked by the client.
//! - An upstream that does not let everybody in, or not so often, is asked with a token that the controllers give. Nobody
//!   asks them before it has refused, so that no pull of what everybody may read depends on them.
//! - Every wait is bounded: see [`Config`]. Memory is, too: a body holds a few frames, and no body is kept.
//!
//! What clients really send, and what they do with an answer, shaped the details: the digest header on HEAD, no
//! compression, a 400 for a TLS greeting, `Range` after a cut, no challenge with a 401.

mod ask;
mod breaker;
mod cache_credentials;
mod fault;
mod legs;
mod limits;
mod listen;
mod manifests;
mod metrics;
mod pull_blob;
mod pull_manifest;
mod pull_tokens;
mod range;
mod record;
mod refusal;
mod route;
mod server;
mod suspects;
mod transfer;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use cache_registry_core::NodeAddress;
use cache_registry_registry::{Connections, Timeouts};
use cache_registry_runtime::traces::join;
use http::header::{HeaderName, HeaderValue};
use http::{Method, StatusCode};
use tokio::sync::Semaphore;
use tracing::Instrument as _;
use url::Url;

use crate::breaker::Breaker;
use crate::limits::Limits;
use crate::manifests::Manifests;
use crate::pull_tokens::PullTokens;
use crate::range::Range;
use crate::record::Record;
use crate::refusal::{Kind, Refusal};
use crate::route::{Route, route};
use crate::suspects::Suspects;

pub use cache_credentials::CacheCredentials;
pub use listen::listen;
pub use metrics::Metrics;
pub use server::{GRACE, serve};

/// The digest of what is served, on HEAD as well
/// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests>).
const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// Tells a client that this is a registry.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
/// Which leg the bytes came from, `cache` or `upstream`: for people, nothing depends on it.
const SERVED_BY: HeaderName = HeaderName::from_static("x-cache-registry-served-by");

/// How a proxy works.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// The registry inside the cluster.
    pub cache: Url,
    /// The controllers, who give tokens for upstreams that do not let everybody in; `None` where nobody does.
    pub pull_tokens: Option<Url>,
    /// What nodes call this proxy.
    pub node_address: NodeAddress,
    /// From asking the cache to its headers, the connection included. Then the upstream is asked. 2 s.
    pub cache_wait: Duration,
    /// The same when the upstream has failed and only the cache is left. 10 s.
    pub cache_last_wait: Duration,
    /// From asking the upstream to its headers, mirrors, tokens and redirects included. 45 s.
    pub upstream_wait: Duration,
    /// From the headers of a manifest, or of a small blob that is checked before it is sent, to its end. 10 s.
    pub manifest_wait: Duration,
    /// For how long what a tag names is remembered as the cache told it. A tag that has moved in the cache is served
    /// as it was for so long; zero asks the cache every time. 3 s.
    pub tag_memory: Duration,
    /// Bytes of manifests that are kept in memory. 8 MiB.
    pub manifest_memory: u64,
    /// Bytes of small blobs that are kept in memory while they are checked and sent. 4 MiB.
    pub blob_memory: u32,
}

impl Config {
    /// The defaults, for a registry and an address.
    pub fn new(cache: Url, node_address: NodeAddress) -> Self {
        Self {
            cache,
            pull_tokens: None,
            node_address,
            cache_wait: Duration::from_secs(2),
            cache_last_wait: Duration::from_secs(10),
            upstream_wait: Duration::from_secs(45),
            manifest_wait: Duration::from_secs(10),
            tag_memory: Duration::from_secs(3),
            manifest_memory: 8 << 20,
            blob_memory: 4 << 20,
        }
    }

    /// The times for the connections of a proxy. The cache's time to the first byte is that of the last attempt; the
    /// proxy itself ends the first one sooner. A body that stalls is continued by the other leg after the idle time,
    /// 5 s.
    pub fn timeouts(&self) -> Timeouts {
        let mut timeouts = Timeouts::default();
        timeouts.cache.first_byte = self.cache_last_wait;
        timeouts.cache.idle = Duration::from_secs(5);
        timeouts
    }
}

/// The proxy of a node.
#[derive(Debug)]
pub struct Proxy {
    config: Config,
    connections: Connections,
    metrics: Metrics,
    breaker: Breaker,
    limits: Limits,
    pull_tokens: PullTokens,
    manifests: Manifests,
    suspects: Suspects,
    /// Room for blobs that are checked before their first byte is sent, in bytes.
    room: Arc<Semaphore>,
}

impl Proxy {
    /// A proxy over `connections`, best made with [`Config::timeouts`].
    pub fn new(config: Config, connections: Connections, metrics: Metrics) -> Self {
        Self {
            breaker: Breaker::new(),
            limits: Limits::new(),
            pull_tokens: PullTokens::new(config.pull_tokens.as_ref(), connections.clone()),
            manifests: Manifests::new(config.manifest_memory, config.tag_memory),
            suspects: Suspects::new(),
            room: Arc::new(Semaphore::new(usize::try_from(config.blob_memory).unwrap_or(Semaphore::MAX_PERMITS))),
            config,
            connections,
            metrics,
        }
    }
}

/// The routes of a proxy. One handler reads the path: the names in it have slashes.
pub fn router(proxy: Arc<Proxy>) -> Router {
    Router::new().fallback(answer).with_state(proxy)
}

async fn answer(State(proxy): State<Arc<Proxy>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    // All lines about a request have its id.
    let span = tracing::info_span!("pull", id = format_args!("{:08x}", fastrand::u32(..)));
    join(&span, &parts.headers);
    let mut response = answer_route(&proxy, &parts).instrument(span).await;
    response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    // To a HEAD axum sends the length of the body, where it is known, and no body.
    response
}

async fn answer_route(proxy: &Arc<Proxy>, parts: &http::request::Parts) -> Response {
    let http::request::Parts { method, uri, headers, .. } = parts;
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Refusal::of_method(method).into_response();
    }
    let routed = match route(uri.path(), uri.query(), &proxy.config.node_address) {
        Ok(routed) => routed,
        Err(error) => {
            tracing::debug!(%method, path = uri.path(), %error, "refused");
            return Refusal::of_route(&error).into_response();
        }
    };
    let record = |kind, name: &dyn ToString, reference: &dyn ToString| {
        Record::new(proxy.metrics.clone(), kind, method.clone(), name.to_string(), reference.to_string())
    };
    match routed {
        Route::Base => base(),
        Route::Manifest(name, reference) => {
            let mut record = record(Kind::Manifest, &name, &reference);
            let response = proxy.pull_manifest(method, headers, &name, &reference, &mut record).await;
            record.complete();
            response
        }
        Route::Blob(name, digest) if *method == Method::HEAD => {
            let mut record = record(Kind::Blob, &name, &digest);
            let response = proxy.head_blob(&name, &digest, &mut record).await;
            record.complete();
            response
        }
        Route::Blob(name, digest) => {
            let record = record(Kind::Blob, &name, &digest);
            proxy.get_blob(&name, &digest, Range::asked(headers, &digest), record).await
        }
    }
}

fn base() -> Response {
    let mut response = Response::new(Body::from("{}"));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
