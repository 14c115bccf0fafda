use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use hyper::ext::ReasonPhrase;

use crate::fault::{Course, Fault};
use crate::legs::Failure;
use crate::route::{Name, RouteError};

/// An error for the client, in the form of the distribution specification
/// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes>).
///
/// The first request of a pull is a HEAD, whose answer has no body: what a person sees of it in a pod's events is the
/// status line alone. So the reason phrase says it too
/// ([RFC 9112 §4](https://www.rfc-editor.org/rfc/rfc9112#section-4)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) retry_after: Option<Duration>,
}

/// What was asked for, in the words and the code of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Manifest,
    Blob,
}

impl Kind {
    /// The word for it in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Blob => "blob",
        }
    }
}

const LONGEST_PHRASE: usize = 300;

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    /// Neither leg serves it: what the upstream said, and what the cache said where that is news.
    pub(crate) fn of(course: &Course, name: &Name, kind: Kind) -> Self {
        let registry = &name.registry;
        let Some(upstream) = course.upstream() else {
            return Self::new(StatusCode::BAD_GATEWAY, "UNAVAILABLE", format!("{registry} was not asked for {name}"));
        };
        let mut refusal = Self::of_upstream(upstream, name, kind);
        if let Some(cache) = course.cache().filter(|cache| cache.failure != Failure::Missing) {
            let said = refusal.message.trim_end_matches('.');
            refusal.message = format!("{said}. The cache does not serve it either: {}", cache.message);
        }
        refusal
    }

    fn of_upstream(fault: &Fault, name: &Name, kind: Kind) -> Self {
        let registry = &name.registry;
        let said = fault.message.as_str();
        match (fault.failure, fault.status) {
            (Failure::Missing, _) => {
                let code = match kind {
                    Kind::Manifest => "MANIFEST_UNKNOWN",
                    Kind::Blob => "BLOB_UNKNOWN",
                };
                Self::new(StatusCode::NOT_FOUND, code, said)
            }
            // No WWW-Authenticate: the credentials that it would bring are not for this proxy, and containerd, which
            // finds no challenge, gives up (or falls back, as a mirror's client) instead of asking again.
            (Failure::Denied, status) => {
                let status = status.unwrap_or(StatusCode::FORBIDDEN);
                let code = if status == StatusCode::UNAUTHORIZED { "UNAUTHORIZED" } else { "DENIED" };
                let why = fault.no_token.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
                let message = format!(
                    "{registry} needs credentials for {name}, and this proxy has none{why}. With the label \
                     cache-registry.enix.io/image-caching-policy=ignore a pod is pulled with its own. {said}"
                );
                Self::new(status, code, message)
            }
            // An upstream is left out for its address alone.
            (Failure::Skipped, _) => Self::new(StatusCode::FORBIDDEN, "DENIED", said),
            (Failure::RateLimited, _) => Self {
                retry_after: Some(fault.retry_after.unwrap_or(Duration::from_secs(1))),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", said)
            },
            // It makes containerd ask with GET.
            (_, Some(StatusCode::METHOD_NOT_ALLOWED)) => Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", said),
            (Failure::WrongBytes, _) => {
                let message = format!("{registry} sent other bytes for {name} than the digest names: {said}");
                Self::new(StatusCode::BAD_GATEWAY, "UNAVAILABLE", message)
            }
            _ => Self::new(StatusCode::BAD_GATEWAY, "UNAVAILABLE", said),
        }
    }

    /// The client has wrong bytes from the start of the blob: a rest would complete them to something useless. 502 is
    /// a status that no containerd asks again after.
    pub(crate) fn rest_is_useless(name: &Name) -> Self {
        let message =
            format!("the bytes of this blob of {name} that were sent before were wrong: start again at byte 0");
        Self::new(StatusCode::BAD_GATEWAY, "BLOB_UNKNOWN", message)
    }

    /// The path is none that is served.
    pub(crate) fn of_route(error: &RouteError) -> Self {
        let (status, code) = match error {
            RouteError::NotServed => (StatusCode::NOT_FOUND, "UNSUPPORTED"),
            RouteError::NoRegistry(_) => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
            RouteError::Loop(_) => (StatusCode::FORBIDDEN, "DENIED"),
            RouteError::Invalid(_) => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
            RouteError::Digest(_) => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
        };
        Self::new(status, code, error.to_string())
    }

    /// Anything but GET and HEAD.
    pub(crate) fn of_method(method: &Method) -> Self {
        let message =
            format!("{method} is not served here: nodes pull from this proxy, and push to the registry itself");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
    }

    /// As a response.
    pub(crate) fn into_response(self) -> Response {
        let body = serde_json::json!({"errors": [{"code": self.code, "message": self.message}]}).to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        if let Some(after) = self.retry_after {
            // Rounded up: a client that comes back too early is counted against the limit.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Ok(phrase) = ReasonPhrase::try_from(status_line(&self.message)) {
            response.extensions_mut().insert(phrase);
        }
        response
    }
}

/// As much of a message as a status line should hold, in printable ASCII.
fn status_line(message: &str) -> String {
    message.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).take(LONGEST_PHRASE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::legs::Step;
    use rstest::rstest;

    fn name() -> Name {
        Name { registry: "docker.io".to_owned(), repository: "library/x".to_owned() }
    }

    fn fault(failure: Failure, status: Option<u16>) -> Fault {
        let status = status.map(|status| StatusCode::from_u16(status).unwrap());
        Fault { failure, status, retry_after: None, message: "SAID".to_owned(), no_token: None }
    }

    fn refused(cache: Fault, upstream: Fault) -> Refusal {
        let mut course = Course::default();
        course.failed(Step::AskCache, cache);
        course.failed(Step::AskUpstream, upstream);
        Refusal::of(&course, &name(), Kind::Manifest)
    }

    #[rstest]
    #[case(Failure::Missing, Some(404), 404, "MANIFEST_UNKNOWN")]
    #[case(Failure::Denied, Some(401), 401, "UNAUTHORIZED")]
    #[case(Failure::Denied, Some(403), 403, "DENIED")]
    #[case(Failure::Sick, Some(403), 502, "UNAVAILABLE")]
    #[case(Failure::RateLimited, Some(429), 429, "TOOMANYREQUESTS")]
    #[case(Failure::Sick, Some(405), 405, "UNSUPPORTED")]
    #[case(Failure::Sick, Some(500), 502, "UNAVAILABLE")]
    #[case(Failure::Sick, Some(200), 502, "UNAVAILABLE")]
    #[case(Failure::Sick, None, 502, "UNAVAILABLE")]
    #[case(Failure::Skipped, None, 403, "DENIED")]
    #[case(Failure::WrongBytes, Some(200), 502, "UNAVAILABLE")]
    fn the_upstreams_answer_is_passed_on_in_words(
        #[case] failure: Failure,
        #[case] status: Option<u16>,
        #[case] expected: u16,
        #[case] code: &str,
    ) {
        let refusal = refused(fault(Failure::Missing, Some(404)), fault(failure, status));
        assert_eq!((refusal.status.as_u16(), refusal.code), (expected, code));
        assert!(refusal.message.contains("SAID") && !refusal.message.contains("The cache does"), "{}", refusal.message);
        let response = refusal.into_response();
        assert_eq!(response.headers().contains_key(RETRY_AFTER), expected == 429);
        assert!(!response.headers().contains_key(http::header::WWW_AUTHENTICATE));
    }

    #[test]
    fn a_sick_cache_is_told_of_and_one_that_has_nothing_is_not_news() {
        let refusal = refused(Fault::sick("CACHE SAID"), fault(Failure::Missing, Some(404)));
        assert!(refusal.message.ends_with("The cache does not serve it either: CACHE SAID"), "{}", refusal.message);
    }

    #[test]
    fn the_status_line_says_it_too_on_one_line_of_ascii() {
        let mut denied = fault(Failure::Denied, Some(401));
        denied.message = format!("Zugriff verweigert: ä\r\nX-Evil: 1 {}", "x".repeat(1000));
        let response = refused(fault(Failure::Missing, Some(404)), denied).into_response();
        let phrase = response.extensions().get::<ReasonPhrase>().unwrap().as_bytes();
        assert!(phrase.starts_with(b"docker.io needs credentials for docker.io/library/x"));
        assert!(phrase.len() == LONGEST_PHRASE && phrase.iter().all(|b| (b' '..=b'~').contains(b)));
    }

    #[test]
    fn a_wait_is_rounded_up() {
        let mut limited = fault(Failure::RateLimited, Some(429));
        limited.retry_after = Some(Duration::from_millis(1200));
        let response = refused(fault(Failure::Missing, Some(404)), limited).into_response();
        assert_eq!(response.headers()[RETRY_AFTER], "2");
    }
}
