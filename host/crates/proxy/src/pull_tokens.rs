use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache_registry_registry::{Connections, Credentials};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use moka::Expiry;
use moka::future::Cache;
use serde::Deserialize;
use tokio::time::timeout;
use url::Url;

use crate::route::Name;

/// Tokens to pull with from upstreams that do not let everybody in: had from the controllers, who may read the pull secrets
/// of pods. A node has none of these.
///
/// Nobody is asked before an upstream has refused, or has limited those who come without. A token is kept in memory until
/// shortly before it runs out, and asked for once however many pulls need it.
pub(crate) struct PullTokens {
    /// `None` where nobody is to be asked.
    controllers: Option<Controllers>,
    held: Cache<String, Held>,
}

/// Who is asked.
struct Controllers {
    address: Uri,
    client: Client<HttpConnector, Full<Bytes>>,
    /// They know whose password it is that the cache is shown.
    connections: Connections,
}

#[derive(Clone)]
struct Held {
    token: Credentials,
    lasts: Duration,
}

/// Why there is no token: the controllers' own words, or what became of asking them.
#[derive(Debug, Clone)]
pub(crate) struct NoToken(Arc<str>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Given {
    token: String,
    expires_in: u64,
}

#[derive(Deserialize)]
struct Told {
    message: String,
}

const LONGEST_CONNECT: Duration = Duration::from_secs(1);
/// The controllers have to ask upstream, and take 6 s for it at most.
const LONGEST_ANSWER: Duration = Duration::from_secs(8);
const LARGEST_ANSWER: usize = 256 * 1024;
const MOST_HELD: u64 = 1_000;

impl PullTokens {
    /// The controllers at this address, if there is one.
    pub(crate) fn new(address: Option<&Url>, connections: Connections) -> Self {
        let controllers = address.and_then(|address| address.join("/pull-token").ok()?.as_str().parse().ok());
        let controllers = controllers.map(|address| {
            let mut connector = HttpConnector::new();
            connector.set_connect_timeout(Some(LONGEST_CONNECT));
            // No idle connection: it would stay with one replica of the controllers, which may be gone by then.
            let client = Client::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_max_idle_per_host(0)
                .build(connector);
            Controllers { address, client, connections }
        });
        Self { controllers, held: Cache::builder().max_capacity(MOST_HELD).expire_after(Life).build() }
    }

    /// The token that there is for a repository.
    pub(crate) async fn held(&self, name: &Name) -> Option<Credentials> {
        Some(self.held.get(&name.to_string()).await?.token)
    }

    /// A token for a repository whose upstream has refused the one that is given here, or nobody in particular.
    pub(crate) async fn obtain(&self, name: &Name, refused: Option<&Credentials>) -> Result<Credentials, NoToken> {
        let Some(controllers) = &self.controllers else { return Err(NoToken::new("nobody is set up to give it one")) };
        let key = name.to_string();
        if self.held.get(&key).await.is_some_and(|held| Some(&held.token) == refused) {
            self.held.invalidate(&key).await;
        }
        // Boxed: this is rare, and would make the future of every pull larger.
        let held = Box::pin(self.held.try_get_with(key, controllers.ask(name))).await;
        held.map(|held| held.token).map_err(|error| NoToken::clone(&error))
    }
}

impl Controllers {
    async fn ask(&self, name: &Name) -> Result<Held, NoToken> {
        let Some(authorization) = self.connections.cache_credentials().and_then(|own| own.basic()) else {
            return Err(NoToken::new("this proxy has no password yet to show to the controllers"));
        };
        let question = serde_json::json!({ "registry": name.registry, "repository": name.repository }).to_string();
        let request = || {
            let mut request = Request::new(Full::new(Bytes::from(question.clone())));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = self.address.clone();
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
            request.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
            request
        };
        let asking = async {
            // Once more where no answer came: the replica may just have ended, and the next connection goes to another.
            let answer = match self.exchange(request()).await {
                Err(_) => self.exchange(request()).await,
                answer => answer,
            };
            answer.map_err(|words| NoToken::new(format_args!("the controllers do not answer: {words}")))
        };
        let late = |_| NoToken::new(format_args!("the controllers did not answer within {LONGEST_ANSWER:?}"));
        let (status, body) = timeout(LONGEST_ANSWER, asking).await.map_err(late)??;
        if status != StatusCode::OK {
            let told = serde_json::from_slice::<Told>(&body);
            return Err(told.map_or_else(
                |_| NoToken::new(format_args!("the controllers answer {status}")),
                |told| NoToken::new(told.message),
            ));
        }
        // The reader's own words may quote what it read.
        let given = serde_json::from_slice::<Given>(&body).ok();
        let given = given.and_then(|given| Some((Credentials::pull_token(&given.token).ok()?, given.expires_in)));
        let (token, seconds) = given.ok_or_else(|| NoToken::new("the controllers' answer holds no token"))?;
        tracing::info!(%name, seconds, "the controllers gave a token to pull with");
        Ok(Held { token, lasts: Duration::from_secs(seconds) })
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), String> {
        let response = self.client.request(request).await.map_err(|error| in_words(&error))?;
        let status = response.status();
        let body =
            Limited::new(response.into_body(), LARGEST_ANSWER).collect().await.map_err(|error| error.to_string())?;
        Ok((status, body.to_bytes()))
    }
}

/// The innermost cause says what happened.
fn in_words(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.last().map(ToString::to_string).unwrap_or_default()
}

impl NoToken {
    fn new(words: impl fmt::Display) -> Self {
        Self(words.to_string().into())
    }
}

impl fmt::Display for NoToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PullTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullTokens").finish_non_exhaustive()
    }
}

struct Life;

impl Expiry<String, Held> for Life {
    fn expire_after_create(&self, _: &String, held: &Held, _: Instant) -> Option<Duration> {
        Some(held.lasts)
    }
}
