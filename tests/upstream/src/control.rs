use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use bytes::Bytes;
use cache_registry_core::parse_digest;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::access::Access;
use crate::fault::Rule;
use crate::image::Image;
use crate::traffic::Traffic;
use crate::upstream::Upstream;

/// Bounds each call, the upload of a large blob included.
const TIMEOUT: Duration = Duration::from_mins(1);

/// What `/state` says and takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listening {
    /// Where the registry listens, also while it is off.
    pub address: SocketAddr,
    /// Whether it is on.
    pub on: bool,
}

/// Serves the control API of an [`Upstream`] until the task ends:
///
/// | | |
/// |---|---|
/// | `GET /state` | [`Listening`] |
/// | `PUT /on`, `PUT /off` | listens again, stops listening |
/// | `GET`, `POST`, `DELETE /rules` | the rules in force, one more [`Rule`], none |
/// | `PUT /access` | [`Access`] |
/// | `GET`, `DELETE /traffic` | [`Traffic`]; deleting answers with what it was |
/// | `PUT`, `DELETE /blobs?repository=` (`&digest=`) | a blob, its bytes as the body |
/// | `PUT /manifests?repository=&mediaType=` | a manifest, its bytes as the body |
/// | `PUT`, `DELETE /tags?repository=&tag=` (`&digest=`) | a tag |
pub async fn serve_control(listener: TcpListener, upstream: Arc<Upstream>) -> Result<()> {
    let router = Router::new()
        .route("/state", get(state))
        .route("/on", put(on))
        .route("/off", put(off))
        .route("/rules", get(rules).post(add_rule).delete(clear_rules))
        .route("/access", put(set_access))
        .route("/traffic", get(traffic).delete(reset_traffic))
        .route("/blobs", put(put_blob).delete(remove_content))
        .route("/manifests", put(put_manifest))
        .route("/tags", put(put_tag).delete(remove_tag))
        .layer(DefaultBodyLimit::disable())
        .with_state(upstream);
    axum::serve(listener, router).await.context("the control API ended")
}

/// A client of the control API: an [`Upstream`] in another process, with the same methods.
#[derive(Debug, Clone)]
pub struct Control {
    address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Control {
    /// The process whose control API is at `address`. Nothing is connected yet.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// Where the registry listens and whether it is on; an error as long as the process is not up.
    pub async fn state(&self) -> Result<Listening> {
        self.json(Method::GET, "/state", Bytes::new()).await
    }

    /// Puts an image into a repository, under a tag.
    pub async fn add(&self, repository: &str, tag: &str, image: &Image) -> Result<()> {
        for blob in &image.blobs {
            self.put_blob(repository, blob.bytes.clone()).await?;
        }
        for manifest in image.all_manifests() {
            let query = [("repository", repository), ("mediaType", &*manifest.media_type)];
            self.call(Method::PUT, &path("/manifests", &query), manifest.bytes.clone()).await?;
        }
        self.put_tag(repository, tag, image.digest().as_ref()).await
    }

    /// Puts a blob.
    pub async fn put_blob(&self, repository: &str, bytes: Bytes) -> Result<()> {
        self.call(Method::PUT, &path("/blobs", &[("repository", repository)]), bytes).await.map(drop)
    }

    /// Takes a blob or a manifest away.
    pub async fn remove(&self, repository: &str, digest: &str) -> Result<()> {
        let query = [("repository", repository), ("digest", digest)];
        self.call(Method::DELETE, &path("/blobs", &query), Bytes::new()).await.map(drop)
    }

    /// Points a tag at a digest.
    pub async fn put_tag(&self, repository: &str, tag: &str, digest: &str) -> Result<()> {
        let query = [("repository", repository), ("tag", tag), ("digest", digest)];
        self.call(Method::PUT, &path("/tags", &query), Bytes::new()).await.map(drop)
    }

    /// Takes a tag away.
    pub async fn remove_tag(&self, repository: &str, tag: &str) -> Result<()> {
        let query = [("repository", repository), ("tag", tag)];
        self.call(Method::DELETE, &path("/tags", &query), Bytes::new()).await.map(drop)
    }

    /// Says who may read from now on.
    pub async fn set_access(&self, access: &Access) -> Result<()> {
        self.call(Method::PUT, "/access", serde_json::to_vec(access)?.into()).await.map(drop)
    }

    /// Adds a rule behind those in force.
    pub async fn misbehave(&self, rule: impl Into<Rule>) -> Result<()> {
        self.call(Method::POST, "/rules", serde_json::to_vec(&rule.into())?.into()).await.map(drop)
    }

    /// Takes all rules away.
    pub async fn behave(&self) -> Result<()> {
        self.call(Method::DELETE, "/rules", Bytes::new()).await.map(drop)
    }

    /// The rules in force, with the times that are left.
    pub async fn rules(&self) -> Result<Vec<Rule>> {
        self.json(Method::GET, "/rules", Bytes::new()).await
    }

    /// Closes the registry's listener and every connection to it.
    pub async fn off(&self) -> Result<()> {
        self.call(Method::PUT, "/off", Bytes::new()).await.map(drop)
    }

    /// Listens again, at the same address.
    pub async fn on(&self) -> Result<()> {
        self.call(Method::PUT, "/on", Bytes::new()).await.map(drop)
    }

    /// What was asked so far.
    pub async fn traffic(&self) -> Result<Traffic> {
        self.json(Method::GET, "/traffic", Bytes::new()).await
    }

    /// What was asked so far, and begins to count anew.
    pub async fn reset_traffic(&self) -> Result<Traffic> {
        self.json(Method::DELETE, "/traffic", Bytes::new()).await
    }

    async fn json<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T> {
        let answer = self.call(method, path, body).await?;
        serde_json::from_slice(&answer).with_context(|| format!("{path} answered with what is not its JSON"))
    }

    async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes> {
        let what = format!("{method} http://{}{path}", self.address);
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let exchange = async {
            let response = self.client.request(request).await?;
            let status = response.status();
            Ok::<_, anyhow::Error>((status, response.into_body().collect().await?.to_bytes()))
        };
        let (status, body) = tokio::time::timeout(TIMEOUT, exchange)
            .await
            .with_context(|| format!("{what}: no answer within {} s", TIMEOUT.as_secs()))?
            .with_context(|| format!("{what}: the upstream's control API is not there"))?;
        if !status.is_success() {
            bail!("{what}: {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }
}

fn path(path: &str, query: &[(&str, &str)]) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    format!("{path}?{query}")
}

type Handle = State<Arc<Upstream>>;

async fn state(State(upstream): Handle) -> Json<Listening> {
    Json(Listening { address: upstream.address(), on: upstream.is_on().await })
}

async fn on(State(upstream): Handle) -> Response {
    match upstream.on().await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => (StatusCode::CONFLICT, format!("{error:#}")).into_response(),
    }
}

async fn off(State(upstream): Handle) -> StatusCode {
    upstream.off().await;
    StatusCode::NO_CONTENT
}

async fn rules(State(upstream): Handle) -> Json<Vec<Rule>> {
    Json(upstream.rules())
}

async fn add_rule(State(upstream): Handle, Json(rule): Json<Rule>) -> StatusCode {
    upstream.misbehave(rule);
    StatusCode::NO_CONTENT
}

async fn clear_rules(State(upstream): Handle) -> StatusCode {
    upstream.behave();
    StatusCode::NO_CONTENT
}

async fn set_access(State(upstream): Handle, Json(access): Json<Access>) -> StatusCode {
    upstream.set_access(access);
    StatusCode::NO_CONTENT
}

async fn traffic(State(upstream): Handle) -> Json<Traffic> {
    Json(upstream.traffic())
}

async fn reset_traffic(State(upstream): Handle) -> Json<Traffic> {
    Json(upstream.reset_traffic())
}

#[derive(Deserialize)]
struct Repository {
    repository: String,
}

async fn put_blob(State(upstream): Handle, Query(query): Query<Repository>, body: Bytes) -> String {
    upstream.store().put_blob(&query.repository, body).to_string()
}

#[derive(Deserialize)]
struct Removed {
    repository: String,
    digest: String,
}

async fn remove_content(State(upstream): Handle, Query(query): Query<Removed>) -> StatusCode {
    found(upstream.store().remove(&query.repository, &query.digest))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    repository: String,
    media_type: String,
}

async fn put_manifest(State(upstream): Handle, Query(query): Query<Manifest>, body: Bytes) -> String {
    upstream.store().put_manifest(&query.repository, &query.media_type, body).to_string()
}

#[derive(Deserialize)]
struct Pointed {
    repository: String,
    tag: String,
    digest: Option<String>,
}

async fn put_tag(State(upstream): Handle, Query(query): Query<Pointed>) -> Response {
    match query.digest.as_deref().map(parse_digest) {
        Some(Ok(digest)) => {
            upstream.store().put_tag(&query.repository, &query.tag, &digest);
            StatusCode::NO_CONTENT.into_response()
        }
        Some(Err(error)) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        None => (StatusCode::BAD_REQUEST, "a digest is needed").into_response(),
    }
}

async fn remove_tag(State(upstream): Handle, Query(query): Query<Pointed>) -> StatusCode {
    found(upstream.store().remove_tag(&query.repository, &query.tag))
}

fn found(found: bool) -> StatusCode {
    if found { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}
