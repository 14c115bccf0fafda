use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_RANGES, ALLOW, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HOST, LOCATION,
    RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use serde_json::json;

use crate::access::Gate;
use crate::body::{Delivery, Stop, deliver};
use crate::fault::{Fault, Rules};
use crate::image::{Content, INDEX};
use crate::store::Store;
use crate::target::{Kind, Target};
use crate::traffic::{Entry, Recorder, Request};

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RATELIMIT_SOURCE: HeaderName = HeaderName::from_static("docker-ratelimit-source");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// A registry without its sockets.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) store: Store,
    pub(crate) rules: Rules,
    pub(crate) gate: Gate,
    pub(crate) recorder: Recorder,
    /// `http` or `https`, for the address of the token endpoint.
    pub(crate) scheme: &'static str,
}

/// The right answer to a request, before anything misbehaves.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Registry {
    /// Answers a request, or misbehaves as the rules say.
    pub(crate) async fn answer(&self, request: http::Request<hyper::body::Incoming>) -> Response<Body> {
        let (request, _) = request.into_parts();
        let target = Target::of(request.uri.path());
        let fault = self.rules.strike(request.method.as_str(), &target);
        let entry = self.recorder.request(recorded(&request, &target, fault.clone()));

        match &fault {
            Some(Fault::Delay { millis }) => tokio::time::sleep(Duration::from_millis(*millis)).await,
            // For as long as the connection lives: the client, or `off`, ends it.
            Some(Fault::StallBefore) => {
                log(&entry);
                std::future::pending::<()>().await;
            }
            _ => {}
        }
        let answer = self.faulty(fault.as_ref(), &request, &target).unwrap_or_else(|| self.right(&request, &target));
        let answer = match &fault {
            Some(Fault::Quota { limit, remaining, window }) => answer
                .with(RATELIMIT_LIMIT, &format!("{limit};w={window}"))
                .with(RATELIMIT_REMAINING, &format!("{remaining};w={window}"))
                .with(RATELIMIT_SOURCE, "203.0.113.7"),
            _ => answer,
        };
        entry.answered(answer.status.as_u16());
        log(&entry);
        // A misbehaving body is meant for a body that was asked for, not for the words of an error.
        let fault = fault.filter(|_| answer.status.is_success());
        respond(answer, &request.method, fault.as_ref(), entry)
    }

    /// The answer of a fault that replaces the right one.
    fn faulty(&self, fault: Option<&Fault>, request: &http::request::Parts, target: &Target) -> Option<Answer> {
        Some(match fault? {
            Fault::Unauthorized => self.challenge(request, target),
            Fault::TooManyRequests { retry_after } => {
                let mut answer = Answer::error(
                    StatusCode::TOO_MANY_REQUESTS,
                    "TOOMANYREQUESTS",
                    "You have reached your pull rate limit",
                );
                if let Some(seconds) = retry_after {
                    answer.headers.insert(RETRY_AFTER, HeaderValue::from(*seconds));
                }
                answer
            }
            Fault::Status { code } => {
                let status = StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Answer::error(status, "UNKNOWN", "made to fail")
            }
            Fault::Redirect { to } => {
                let path = request.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
                Answer::new(StatusCode::TEMPORARY_REDIRECT, Bytes::new()).with(LOCATION, &format!("{to}{path}"))
            }
            Fault::Delay { .. }
            | Fault::Rate { .. }
            | Fault::StallBefore
            | Fault::StallWithin { .. }
            | Fault::Cut { .. }
            | Fault::WrongBytes
            | Fault::Quota { .. } => return None,
        })
    }

    fn right(&self, request: &http::request::Parts, target: &Target) -> Answer {
        if target.kind == Kind::Token {
            return self.token(request);
        }
        let authorization = text(&request.headers, &AUTHORIZATION);
        if !self.gate.admits(authorization, &target.repository) {
            return self.challenge(request, target);
        }
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return Answer::error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "this registry is read-only")
                .with(ALLOW, "GET, HEAD");
        }
        let answer = match target.kind {
            Kind::Ping => Some(Answer::json(StatusCode::OK, &json!({}))),
            Kind::Tags => self
                .store
                .tags(&target.repository)
                .map(|tags| Answer::json(StatusCode::OK, &json!({ "name": target.repository, "tags": tags }))),
            Kind::Referrers => {
                self.store.referrers(&target.repository, &target.reference).map(|about| referrers(&about))
            }
            Kind::Manifest => return self.manifest(request, target),
            Kind::Blob => self.store.blob(&target.repository, &target.reference).map(|blob| ranged(&blob, request)),
            Kind::Token | Kind::Other => None,
        };
        answer.unwrap_or_else(|| match target.kind {
            Kind::Blob => Answer::error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "blob unknown to registry"),
            Kind::Tags | Kind::Referrers => {
                Answer::error(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "repository name not known to registry")
            }
            _ => Answer::error(StatusCode::NOT_FOUND, "NOT_FOUND", "no such endpoint"),
        })
    }

    /// A manifest is given only to who accepts its media type by name, as distribution has it for indexes and OCI
    /// manifests; `*/*` does not name it. One of schema 1 is given to anybody.
    fn manifest(&self, request: &http::request::Parts, target: &Target) -> Answer {
        let Some(manifest) = self.store.manifest(&target.repository, &target.reference) else {
            return Answer::error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown");
        };
        let is_of_schema_1 = manifest.media_type.starts_with("application/vnd.docker.distribution.manifest.v1");
        if !is_of_schema_1 && !accepted(&request.headers).any(|accepted| accepted == manifest.media_type) {
            let message = format!("found {}, which the Accept header does not name", manifest.media_type);
            return Answer::error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", &message);
        }
        Answer::content(StatusCode::OK, &manifest, manifest.bytes.clone())
    }

    fn token(&self, request: &http::request::Parts) -> Answer {
        let query = request.uri.query().unwrap_or_default();
        let scope = url::form_urlencoded::parse(query.as_bytes())
            .find_map(|(key, value)| (key == "scope").then(|| value.into_owned()))
            .unwrap_or_default();
        match self.gate.grant(text(&request.headers, &AUTHORIZATION), &scope) {
            Some(grant) => Answer::json(
                StatusCode::OK,
                &json!({ "token": grant.token, "access_token": grant.token, "expires_in": grant.valid_for.as_secs() }),
            ),
            None => Answer::error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "incorrect username or password"),
        }
    }

    /// 401, and where to get a token (RFC 6750, section 3), or that a password is wanted (RFC 7617, section 2).
    fn challenge(&self, request: &http::request::Parts, target: &Target) -> Answer {
        let refusal = Answer::error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required");
        if self.gate.wants_password() {
            return refusal.with(WWW_AUTHENTICATE, r#"Basic realm="upstream""#);
        }
        let host = text(&request.headers, &HOST).or_else(|| request.uri.authority().map(http::uri::Authority::as_str));
        let realm = format!("{}://{}/token", self.scheme, host.unwrap_or("localhost"));
        let scope = match target.repository.as_str() {
            "" => String::new(),
            repository => format!(r#",scope="repository:{repository}:pull""#),
        };
        let challenge = format!(r#"Bearer realm="{realm}",service="upstream"{scope}"#);
        refusal.with(WWW_AUTHENTICATE, &challenge)
    }
}

impl Answer {
    fn new(status: StatusCode, body: Bytes) -> Self {
        Self { status, headers: HeaderMap::new(), body }.with(API_VERSION, "registry/2.0")
    }

    fn json(status: StatusCode, document: &serde_json::Value) -> Self {
        Self::new(status, document.to_string().into()).with(CONTENT_TYPE, "application/json")
    }

    /// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes>
    fn error(status: StatusCode, code: &str, message: &str) -> Self {
        Self::json(status, &json!({ "errors": [{ "code": code, "message": message }] }))
    }

    fn content(status: StatusCode, content: &Content, body: Bytes) -> Self {
        Self::new(status, body)
            .with(CONTENT_TYPE, &content.media_type)
            .with(DIGEST, content.digest.as_ref())
            .with(ETAG, &format!("\"{}\"", content.digest))
    }

    fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }
}

/// The list of what is about a manifest
/// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers>).
fn referrers(about: &[Content]) -> Answer {
    let entry = |manifest: &Content| {
        let document: serde_json::Value = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
        let of_config = document["config"]["mediaType"].clone();
        let artifact_type = document.get("artifactType").cloned().unwrap_or(of_config);
        json!({
            "mediaType": manifest.media_type, "digest": manifest.digest.to_string(), "size": manifest.bytes.len(),
            "artifactType": artifact_type, "annotations": document["annotations"],
        })
    };
    let entries: Vec<_> = about.iter().map(entry).collect();
    Answer::json(StatusCode::OK, &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }))
        .with(CONTENT_TYPE, INDEX)
}

/// A blob, or the part of it that the request's `Range` header names (RFC 9110, section 14).
fn ranged(blob: &Content, request: &http::request::Parts) -> Answer {
    let length = blob.bytes.len();
    let answer = match text(&request.headers, &RANGE).map(|range| single_range(range, length)) {
        None | Some(Ok(None)) => Answer::content(StatusCode::OK, blob, blob.bytes.clone()),
        Some(Ok(Some((first, last)))) => {
            Answer::content(StatusCode::PARTIAL_CONTENT, blob, blob.bytes.slice(first..=last))
                .with(CONTENT_RANGE, &format!("bytes {first}-{last}/{length}"))
        }
        Some(Err(Unsatisfiable)) => {
            Answer::error(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID", "the range is outside of the blob")
                .with(CONTENT_RANGE, &format!("bytes */{length}"))
        }
    };
    answer.with(ACCEPT_RANGES, "bytes")
}

#[derive(Debug, PartialEq, Eq)]
struct Unsatisfiable;

/// The first and last byte that are asked for; `None` where the header is to be ignored: another unit, several ranges,
/// no range at all.
fn single_range(header: &str, length: usize) -> Result<Option<(usize, usize)>, Unsatisfiable> {
    let Some((first, last)) = header.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Ok(None);
    };
    let end = length.checked_sub(1);
    match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) if first > last => Ok(None),
        (Ok(first), last) if last.is_ok() || header.ends_with('-') => match end {
            Some(end) if first <= end => Ok(Some((first, last.map_or(end, |last| last.min(end))))),
            _ => Err(Unsatisfiable),
        },
        (Err(_), Ok(suffix)) if first.is_empty() => match end {
            Some(end) if suffix > 0 => Ok(Some((length.saturating_sub(suffix), end))),
            _ => Err(Unsatisfiable),
        },
        _ => Ok(None),
    }
}

fn respond(answer: Answer, method: &Method, fault: Option<&Fault>, entry: Arc<Entry>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(answer.body.len()));
    if method == Method::HEAD {
        return response;
    }
    let mut bytes = answer.body;
    let mut delivery = Delivery::default();
    match fault {
        Some(Fault::Rate { bytes_per_second }) => delivery.bytes_per_second = Some(*bytes_per_second),
        Some(Fault::StallWithin { after }) => delivery.stop = Some((*after, Stop::Stall)),
        Some(Fault::Cut { after }) => delivery.stop = Some((*after, Stop::Cut)),
        Some(Fault::WrongBytes) => bytes = bytes.iter().map(|byte| byte ^ 1).collect(),
        _ => {}
    }
    *response.body_mut() = deliver(bytes, delivery, entry);
    response
}

/// Every media type of every `Accept` header, without its parameters.
fn accepted(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|item| item.split(';').next().unwrap_or_default().trim())
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn recorded(request: &http::request::Parts, target: &Target, fault: Option<Fault>) -> Request {
    let authorization = text(&request.headers, &AUTHORIZATION);
    Request {
        at: 0,
        method: request.method.to_string(),
        target: target.clone(),
        query: request.uri.query().map(ToOwned::to_owned),
        range: text(&request.headers, &RANGE).map(ToOwned::to_owned),
        accept: accepted(&request.headers).collect::<Vec<_>>().join(","),
        authorization: authorization.and_then(|value| value.split(' ').next()).map(ToOwned::to_owned),
        fault,
        status: 0,
        bytes: 0,
    }
}

fn log(entry: &Entry) {
    let request = entry.now();
    tracing::info!(
        method = request.method,
        kind = ?request.target.kind,
        repository = request.target.repository,
        reference = request.target.reference,
        range = request.range,
        status = request.status,
        fault = ?request.fault,
        "request"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("bytes=0-", Ok(Some((0, 9))))]
    #[case("bytes=3-5", Ok(Some((3, 5))))]
    #[case("bytes=3-99", Ok(Some((3, 9))))]
    #[case("bytes=-4", Ok(Some((6, 9))))]
    #[case("bytes=-99", Ok(Some((0, 9))))]
    #[case("bytes=10-", Err(Unsatisfiable))]
    #[case("bytes=-0", Err(Unsatisfiable))]
    #[case("bytes=5-3", Ok(None))]
    #[case("bytes=0-1,3-4", Ok(None))]
    #[case("bytes=-", Ok(None))]
    #[case("lines=1-2", Ok(None))]
    fn a_range_of_ten_bytes(#[case] header: &str, #[case] expected: Result<Option<(usize, usize)>, Unsatisfiable>) {
        assert_eq!(single_range(header, 10), expected);
    }

    #[test]
    fn nothing_of_an_empty_blob_can_be_asked_for() {
        assert_eq!(single_range("bytes=0-", 0), Err(Unsatisfiable));
    }
}
