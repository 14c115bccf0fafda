use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue, LOCATION, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use tokio::time::Instant;
use url::Url;

use crate::asked::{Asked, Leg, Whom};
use crate::connect::{BoxError, Connector, Reach, host_and_port};
use crate::quota::Quotas;
use crate::token::{Need, Tokens};
use crate::{Body, Credentials, Error, Waits};

/// What is sent as a request's body.
pub(crate) type Sent = UnsyncBoxBody<Bytes, BoxError>;

/// Some stores redirect twice; nobody five times.
const MOST_REDIRECTS: usize = 5;
/// Of an answer that is an error, for its message.
const LARGEST_ERROR: usize = 64 * 1024;

/// One address of a registry, and how it is spoken to.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) leg: Leg,
    /// The host as it stands in references.
    pub(crate) registry: Arc<str>,
    pub(crate) url: Url,
    pub(crate) waits: Waits,
    pub(crate) reach: Reach,
    pub(crate) client: Client<Connector, Sent>,
    /// In whose name it is asked; nobody's where absent.
    pub(crate) credentials: Option<Credentials>,
    /// Puts in headers that are for this registry alone.
    pub(crate) further_headers: Option<fn(&mut HeaderMap)>,
    /// Where it is noted what the registry allows.
    pub(crate) quotas: Arc<Quotas>,
}

/// A request, but for what it brings along.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) repository: Arc<str>,
    /// Until the answer's headers, the connection included. For a stream, from its last byte on.
    pub(crate) within: Duration,
    /// True for what is asked for by its digest, which may come from anywhere.
    pub(crate) is_content_addressed: bool,
    /// True for what is asked of the token service, wherever that is.
    pub(crate) is_for_token: bool,
}

/// What a request brings along.
pub(crate) enum Payload {
    Empty,
    Bytes(Bytes),
    /// Can be sent once only.
    Stream(Sent, Arc<Sending>),
}

/// Whom a stream that is being sent waits for.
pub(crate) struct Sending {
    began: Instant,
    /// Milliseconds from the beginning to when the connection last got something, or [`SOURCE`].
    last: AtomicU64,
    is_done: AtomicBool,
}

/// The connection has room, and there is nothing to put in: the source's own time limits count.
const SOURCE: u64 = u64::MAX;

/// A registry's answer, below 400 or 416.
pub(crate) struct Answer {
    pub(crate) response: Response<Body>,
    pub(crate) asked: Arc<Asked>,
}

impl Endpoint {
    /// Sends a request; where the registry wants to know first who asks, or that it may, sends it again with that.
    pub(crate) async fn send(&self, tokens: &Tokens, need: &Need, ask: Ask, payload: Payload) -> Result<Answer, Error> {
        let known = tokens.known(self, need).await;
        let again = payload.again();
        let refusal = match self.answered(ask.clone(), payload, known.clone()).await? {
            Outcome::Answer(answer) => return Ok(answer),
            Outcome::Refusal(refusal) => refusal,
        };
        match again {
            Some(again) if refusal.is_challenge() => {
                match tokens.obtained(self, need, &refusal.headers, known.as_ref()).await? {
                    Some(authorization) => self.exchange(ask, again, Some(authorization)).await,
                    None => Err(refusal.error),
                }
            }
            _ => Err(refusal.error),
        }
    }

    /// Sends a request with what authorisation there is.
    pub(crate) async fn exchange(
        &self,
        ask: Ask,
        payload: Payload,
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, Error> {
        match self.answered(ask, payload, authorization).await? {
            Outcome::Answer(answer) => Ok(answer),
            Outcome::Refusal(refusal) => Err(refusal.error),
        }
    }

    /// A request as an error tells of it.
    pub(crate) fn asked(&self, repository: &Arc<str>, method: Method, url: Url) -> Asked {
        let is_here = host_and_port(&url) == host_and_port(&self.url);
        let whom = if is_here { Whom::Registry } else { Whom::Store };
        let (leg, registry, repository) = (self.leg, Arc::clone(&self.registry), Arc::clone(repository));
        let with_credentials = self.credentials.is_some();
        Asked { leg, registry, repository, method, url, whom, with_credentials }
    }

    /// Follows redirects to an answer or a refusal.
    async fn answered(
        &self,
        mut ask: Ask,
        mut payload: Payload,
        mut authorization: Option<HeaderValue>,
    ) -> Result<Outcome, Error> {
        for _ in 0..=MOST_REDIRECTS {
            let asked = self.asked(&ask.repository, ask.method.clone(), ask.url.clone());
            let asked = Arc::new(if ask.is_for_token { asked.of_token_service() } else { asked });
            // Only a read is redirected, and it brings nothing along.
            let payload = std::mem::replace(&mut payload, Payload::Empty);
            let response = self.once(&ask, &asked, payload, authorization.as_ref()).await?;
            let status = response.status();
            if self.leg == Leg::Upstream && asked.whom == Whom::Registry {
                self.quotas.note(&self.registry, response.headers());
            }
            if is_redirect(status) {
                let next = redirect(&asked, &response)?;
                if !matches!(ask.method, Method::GET | Method::HEAD) {
                    let host = next.host_str().unwrap_or_default();
                    return Err(asked.unusable(format_args!(
                        "what is sent is redirected to {host}, which is not followed. Give that address as the endpoint."
                    )));
                }
                let loses_tls = ask.url.scheme() == "https" && next.scheme() == "http";
                if loses_tls && !ask.is_content_addressed && !self.reach.is_named(&next) {
                    let host = next.host_str().unwrap_or_default();
                    return Err(asked.unusable(format_args!(
                        "redirected to {host} without TLS, where a tag could be answered with anything. Name that host \
                         in the registries file if that is meant."
                    )));
                }
                if loses_tls || host_and_port(&next) != host_and_port(&ask.url) {
                    authorization = None;
                }
                ask.url = next;
                continue;
            }
            let response = response.map(|frames| Body::new(frames, self.waits.idle, Arc::clone(&asked)));
            if status.as_u16() < 400 || status == StatusCode::RANGE_NOT_SATISFIABLE {
                return Ok(Outcome::Answer(Answer { response, asked }));
            }
            let (parts, body) = response.into_parts();
            // What went wrong is known already; why is told if it comes.
            let why = tokio::time::timeout(self.waits.first_byte, body.whole(LARGEST_ERROR)).await;
            let why = why.ok().and_then(Result::ok).unwrap_or_default();
            let error = asked.answered(status, &parts.headers, &why);
            return Ok(Outcome::Refusal(Refusal { error, headers: parts.headers, whom: asked.whom }));
        }
        let asked = self.asked(&ask.repository, ask.method, ask.url);
        Err(asked.unusable(format_args!("redirected more than {MOST_REDIRECTS} times")))
    }

    /// One request and its answer.
    async fn once(
        &self,
        ask: &Ask,
        asked: &Asked,
        payload: Payload,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response<Incoming>, Error> {
        let (body, sending) = match payload {
            Payload::Empty => (Empty::new().map_err(|never| match never {}).boxed_unsync(), None),
            Payload::Bytes(bytes) => (Full::new(bytes).map_err(|never| match never {}).boxed_unsync(), None),
            Payload::Stream(body, sending) => (body, Some(sending)),
        };
        let mut request = Request::new(body);
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() = Uri::try_from(ask.url.as_str()).map_err(|error| asked.unusable(error))?;
        request.headers_mut().clone_from(&ask.headers);
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(OURSELVES));
        if let (Some(further), Whom::Registry) = (self.further_headers, asked.whom) {
            further(request.headers_mut());
        }
        if let Some(authorization) = authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        let answering = self.client.request(request);
        let answer = match sending {
            None => {
                tokio::time::timeout(ask.within, answering).await.map_err(|_| asked.late("no answer", ask.within))?
            }
            Some(sending) => tokio::select! {
                answer = answering => answer,
                (what, within) = sending.stalled(self.waits.idle, ask.within) => return Err(asked.late(what, within)),
            },
        };
        answer.map_err(|error| asked.unanswered(&error))
    }
}

const OURSELVES: &str = concat!("cache-registry/", env!("CARGO_PKG_VERSION"));

impl Payload {
    /// The same once more; `None` for a stream.
    fn again(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Bytes(bytes) => Some(Self::Bytes(bytes.clone())),
            Self::Stream(..) => None,
        }
    }
}

impl Sending {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), last: AtomicU64::new(0), is_done: AtomicBool::new(false) }
    }

    /// The connection has room.
    pub(crate) fn waits_for_source(&self) {
        self.last.store(SOURCE, Ordering::Relaxed);
    }

    /// The connection got something.
    pub(crate) fn waits_for_connection(&self) {
        let elapsed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(SOURCE - 1);
        self.last.store(elapsed, Ordering::Relaxed);
    }

    /// The connection got the last of it.
    pub(crate) fn waits_for_answer(&self) {
        self.waits_for_connection();
        self.is_done.store(true, Ordering::Relaxed);
    }

    /// Returns once nothing was taken for `idle`, or no answer came `within` a time after the end.
    async fn stalled(&self, idle: Duration, within: Duration) -> (&'static str, Duration) {
        loop {
            let (what, limit) = if self.is_done.load(Ordering::Relaxed) {
                ("no answer", within)
            } else {
                ("nothing more was taken", idle)
            };
            let last = match self.last.load(Ordering::Relaxed) {
                SOURCE => Instant::now(),
                last => self.began + Duration::from_millis(last),
            };
            if last.elapsed() >= limit {
                return (what, limit);
            }
            tokio::time::sleep_until(last + limit).await;
        }
    }
}

enum Outcome {
    Answer(Answer),
    Refusal(Refusal),
}

/// An answer of 400 or more.
struct Refusal {
    error: Error,
    headers: HeaderMap,
    whom: Whom,
}

impl Refusal {
    /// True where it may help to say who asks. What a store asks for that a redirect led to is not ours to give.
    fn is_challenge(&self) -> bool {
        self.error.status() == Some(StatusCode::UNAUTHORIZED) && self.whom == Whom::Registry
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    )
}

fn redirect(asked: &Asked, response: &Response<Incoming>) -> Result<Url, Error> {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let next = location.and_then(|location| asked.url.join(location).ok());
    let next = next.ok_or_else(|| asked.garbled("redirected without a usable Location"))?;
    if !matches!(next.scheme(), "http" | "https") || !next.username().is_empty() || next.password().is_some() {
        return Err(asked.unusable("redirected to what is no plain http or https URL"));
    }
    Ok(next)
}
