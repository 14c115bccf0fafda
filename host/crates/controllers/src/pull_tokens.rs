//! Tokens for the nodes' proxies, with which these pull what only the pull secrets of pods give access to, before it is in
//! the cache.
//!
//! ```text
//!  proxy ── POST /pull-token, with the proxies' password ──▶ Proxies ─▶ Pods: who uses it, and with which Secrets?
//!    ▲                                                                    │
//!    └── a token for this repository, to pull ◀── its token service ◀── PullSecrets
//! ```
//!
//! Every replica answers, whether it leads or not: a node's pull must not wait until another replica leads. What a proxy
//! gets is never what is in a Secret, and nothing for what no pod uses: whoever takes over a node can pull what pods are
//! allowed to, and only for as long as a token lasts.

mod pods;
mod proxies;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::post;
use cache_registry_core::{NodeAddress, Reason};
use cache_registry_registry::{Connections, HandedOn, PullToken};
use kube::Client;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::plan::Failure;
use crate::pull_secrets::{ADVICE, PullSecrets};
pub(crate) use pods::Pods;
use proxies::Proxies;

/// Answers proxies.
#[derive(Clone)]
pub(crate) struct PullTokens(Arc<Shared>);

struct Shared {
    pods: Pods,
    proxies: Proxies,
    secrets: PullSecrets,
    connections: Connections,
    room: Semaphore,
}

/// What a proxy asks for.
#[derive(Deserialize)]
struct Wanted {
    /// The registry's host, as it stands in references.
    registry: String,
    repository: String,
}

/// Why there is no token, in words for whoever looks at the pod that is not started.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    status: StatusCode,
    message: String,
}

/// For all of an answer. A proxy waits a little longer.
const LONGEST_ANSWER: Duration = Duration::from_secs(6);
/// Answers that are being made at once.
const MOST_ANSWERS: usize = 64;
const LARGEST_REQUEST: usize = 4096;
const LONGEST_REQUEST: Duration = Duration::from_secs(10);

impl PullTokens {
    /// `secret` is that of the registry's credentials, in the release's namespace.
    pub(crate) fn new(
        client: &Client,
        namespace: &str,
        secret: &str,
        node: NodeAddress,
        secrets: PullSecrets,
        connections: Connections,
    ) -> Self {
        Self(Arc::new(Shared {
            pods: Pods::new(node),
            proxies: Proxies::new(client.clone(), namespace, secret),
            secrets,
            connections,
            room: Semaphore::new(MOST_ANSWERS),
        }))
    }

    /// The pods that it goes by.
    pub(crate) fn pods(&self) -> &Pods {
        &self.0.pods
    }

    /// Answers until it is dropped.
    pub(crate) async fn serve(&self, listener: TcpListener) -> io::Result<Infallible> {
        let router = Router::new()
            .route("/pull-token", post(answer))
            .layer(DefaultBodyLimit::max(LARGEST_REQUEST))
            .with_state(self.clone());
        let serving = axum_server::Server::<SocketAddr>::from_listener(listener)
            .first_request_timeout(LONGEST_REQUEST)
            .serve(router.into_make_service());
        tokio::select! {
            served = serving => Err(served.err().unwrap_or_else(|| io::Error::other("the server has ended"))),
            never = self.0.proxies.follow() => match never {},
        }
    }

    async fn answer(&self, headers: &HeaderMap, body: &[u8]) -> Result<PullToken, Refusal> {
        self.0.proxies.admit(headers)?;
        let wanted: Wanted = serde_json::from_slice(body)
            .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the request is not of the form that proxies send"))?;
        let Ok(_room) = self.0.room.try_acquire() else {
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many proxies ask at once"));
        };
        let late = |_| {
            let message = format!("{} was not asked to an end within {LONGEST_ANSWER:?}", wanted.registry);
            Refusal::new(StatusCode::GATEWAY_TIMEOUT, message)
        };
        let token = timeout(LONGEST_ANSWER, self.token(&wanted)).await.map_err(late)?;
        let Wanted { registry, repository } = &wanted;
        match &token {
            Ok(_) => tracing::info!(registry, repository, "gave a proxy a token"),
            Err(refusal) => tracing::info!(registry, repository, why = refusal.message, "gave a proxy no token"),
        }
        token
    }

    async fn token(&self, wanted: &Wanted) -> Result<PullToken, Refusal> {
        let used = self.0.pods.using(&wanted.registry, &wanted.repository).await?;
        if used.secrets.is_empty() {
            // The proxy goes on with a sentence of its own.
            let message = format!("no pod that uses it names a pull secret. {ADVICE}");
            return Err(Refusal::new(StatusCode::NOT_FOUND, message));
        }
        let reference = used.source.manifest_reference();
        let handed_on = self.0.secrets.each(&used.source, &used.secrets, |credentials| async {
            let source = &used.source;
            let repository = self.0.connections.upstream_as(source.registry(), source.repository(), credentials);
            Ok::<_, Failure>(repository.hand_on(&reference).await?)
        });
        match handed_on.await {
            Ok(HandedOn::Token(token)) => Ok(token),
            Ok(HandedOn::NotNeeded) => Err(Refusal::new(StatusCode::CONFLICT, NOT_NEEDED)),
            Ok(HandedOn::Password) => Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, PASSWORD)),
            Ok(HandedOn::TooGood) => Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, TOO_GOOD)),
            Err(failure) => Err(failure.into()),
        }
    }
}

const NOT_NEEDED: &str = "the registry lets the controllers in without one";
const PASSWORD: &str = "the registry takes passwords alone, and has no tokens that a node could be given. The pod starts when the image has \
     been copied into the cache";
const TOO_GOOD: &str = "the registry's tokens are good for more than this image, and no node is given one. The pod starts when the image has \
     been copied into the cache";

async fn answer(State(tokens): State<PullTokens>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let (status, answer) = match tokens.answer(&headers, &body).await {
        Ok(token) => (StatusCode::OK, json!({ "token": token.secret(), "expiresIn": token.lasts().as_secs() })),
        Err(refusal) => (refusal.status, json!({ "message": refusal.message })),
    };
    let mut response = Response::new(Body::from(answer.to_string()));
    *response.status_mut() = status;
    response
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

/// Which Secrets were tried is for the image's status, which not everybody can read who starts pods.
impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure.reason {
            Reason::Unauthorized | Reason::NotFound => Self::new(StatusCode::FORBIDDEN, REFUSED),
            reason => {
                let message = format!("the controllers could not ask for it: {}", reason.as_str());
                Self::new(StatusCode::BAD_GATEWAY, message)
            }
        }
    }
}

const REFUSED: &str =
    "the registry refuses the pull secrets of the pods that use it; the status of the CachedImage names them";

#[cfg(test)]
mod tests;
