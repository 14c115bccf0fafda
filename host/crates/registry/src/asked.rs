use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cache_registry_core::Reason;
use http::{HeaderMap, Method, StatusCode};
use url::Url;

use crate::Error;
use crate::connect::{AddressRefused, NotConnected};
use crate::quota::Quota;
use crate::retry_after::retry_after;
use crate::told::Told;

/// Which of the two kinds of registry a request goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leg {
    /// The registry inside the cluster.
    Cache,
    /// Every other one.
    Upstream,
}

/// A request, as an error tells of it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) leg: Leg,
    /// The host as it stands in references.
    pub(crate) registry: Arc<str>,
    pub(crate) repository: Arc<str>,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) whom: Whom,
    /// True where the registry is spoken to in somebody's name.
    pub(crate) with_credentials: bool,
}

/// Who a request goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    /// The registry.
    Registry,
    /// Another host, which a redirect of the registry led to.
    Store,
    /// The token service that the registry names, wherever it is.
    TokenService,
}

impl Asked {
    /// The same, asked of the registry's token service.
    pub(crate) fn of_token_service(self) -> Self {
        Self { whom: Whom::TokenService, ..self }
    }

    /// The registry answered with a status of 400 or more.
    pub(crate) fn answered(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
        let told = Told::read(headers, body);
        let wait = retry_after(headers, SystemTime::now());
        let after = wait.map(|wait| format!(" It asks to be left alone for {wait:?}.")).unwrap_or_default();
        let (reason, transient, what, todo) = match status {
            // It says nothing of the image.
            StatusCode::NOT_FOUND if self.whom == Whom::TokenService => (
                Reason::UpstreamUnreachable,
                false,
                "names this token service, which is not there",
                "The fault is on the registry's side.",
            ),
            StatusCode::NOT_FOUND => {
                (Reason::NotFound, false, "has no such thing", "Check the name, the tag and the digest.")
            }
            _ if told.is_unknown && status.is_client_error() && self.whom != Whom::TokenService => {
                (Reason::NotFound, false, "has no such thing", "Check the name, the tag and the digest.")
            }
            // A store's refusal is not the registry's: a signed address that ran out is signed anew on the next try.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if self.whom == Whom::Store => (
                Reason::UpstreamUnreachable,
                true,
                "sent the request on to a store that refuses it",
                "The registry signs a new address for every request, so it is worth another try.",
            ),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if self.with_credentials => (
                Reason::Unauthorized,
                false,
                "refuses the credentials: they are wrong or have run out, they do not reach this repository, or it does \
                 not exist",
                "Check the name, and the credentials and what they may do.",
            ),
            // An identity token that is not right is a bad request (RFC 6749 §5.2).
            StatusCode::BAD_REQUEST if self.whom == Whom::TokenService && self.with_credentials => (
                Reason::Unauthorized,
                false,
                "refuses the credentials: they are wrong or have run out",
                "Check the credentials and what they may do.",
            ),
            // Many registries, Docker Hub among them, say the same of a repository that does not exist.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (
                Reason::Unauthorized,
                false,
                "refuses access: the repository is private, or does not exist",
                "Check the name; if it is private, it cannot be read without credentials.",
            ),
            // Whoever asked shows it and comes back later: waiting here would hide a limit behind a long copy.
            StatusCode::TOO_MANY_REQUESTS => (
                Reason::RateLimited,
                false,
                "limits how often it may be asked",
                "A mirror in the registries file takes load off it.",
            ),
            StatusCode::REQUEST_TIMEOUT => (Reason::UpstreamUnreachable, true, "timed out", "It is worth another try."),
            status if status.is_server_error() => {
                (Reason::UpstreamUnreachable, true, "failed", "The fault is on its side: see its logs or status page.")
            }
            _ => (Reason::UpstreamUnreachable, false, "refuses the request", "See its message and its logs."),
        };
        let quota = Some(headers).filter(|_| status == StatusCode::TOO_MANY_REQUESTS).and_then(Quota::of);
        let after = quota.map_or_else(String::new, |quota| format!(" {quota}")) + &after;
        let message = match told.message {
            Some(message) => format!("{self}: {what}: {status}: {message}.{after} {todo}"),
            None => format!("{self}: {what}: {status}.{after} {todo}"),
        };
        // Who asks for an image takes a 404 for its absence.
        let is_of_image = (status, self.whom) != (StatusCode::NOT_FOUND, Whom::TokenService);
        self.error(reason, is_of_image.then_some(status), wait, transient, &message)
    }

    /// No answer came: no connection, or one that broke.
    pub(crate) fn unanswered(&self, error: &(dyn std::error::Error + 'static)) -> Error {
        let chain: Vec<_> = std::iter::successors(Some(error), |error| below(*error)).collect();
        if let Some(refused) = chain.iter().find_map(|error| error.downcast_ref::<AddressRefused>()) {
            let host = self.url.host_str().unwrap_or_default();
            let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
            let todo = format!("If that is meant, name {host}{port} in the registries file.");
            return self.failed(false, format_args!("not asked: {refused}. {todo}")).of_refused_address();
        }
        if let Some(late) = chain.iter().find_map(|error| error.downcast_ref::<NotConnected>()) {
            return self.failed(true, format_args!("{late}. {}", self.reachable()));
        }
        // A stream that is being sent broke off, and its error is the one that counts.
        if let Some(ours) = chain.iter().find_map(|error| error.downcast_ref::<Error>()) {
            return ours.clone();
        }
        let tls = chain.iter().any(|error| error.is::<rustls::Error>());
        let todo = if tls {
            "Check the certificate; a CA of your own, or plain HTTP, is set in the registries file."
        } else {
            self.reachable()
        };
        // Each layer of the client repeats the one below it: the innermost says what happened.
        let cause = chain.last().map(ToString::to_string).unwrap_or_default();
        self.failed(!tls, format_args!("no answer: {cause}. {todo}"))
    }

    /// An answer did not come, or did not go on, in time.
    pub(crate) fn late(&self, what: &str, within: Duration) -> Error {
        self.failed(true, format_args!("{what} within {within:?}. {}", self.reachable()))
    }

    /// The answer broke off.
    pub(crate) fn cut(&self, error: &hyper::Error) -> Error {
        let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
        self.failed(true, format_args!("the answer broke off: {cause}. {}", self.reachable()))
    }

    /// The answer is not what a registry may answer; asking again may bring another one.
    pub(crate) fn garbled(&self, problem: impl fmt::Display) -> Error {
        self.failed(true, format_args!("{problem}. See the registry's logs; a proxy on the way may alter answers."))
    }

    /// The answer cannot be used, and no further one will be.
    pub(crate) fn unusable(&self, problem: impl fmt::Display) -> Error {
        self.failed(false, format_args!("{problem}"))
    }

    /// What the registry has is of a kind that cannot be copied, which it is not to be blamed for.
    pub(crate) fn unsupported(&self, problem: impl fmt::Display) -> Error {
        self.error(Reason::Unsupported, None, None, false, &format!("{self}: {problem}"))
    }

    /// Access is refused before there is anything to ask.
    pub(crate) fn unauthorized(&self, problem: impl fmt::Display) -> Error {
        let message = format!("{self}: {problem}");
        self.error(Reason::Unauthorized, Some(StatusCode::UNAUTHORIZED), None, false, &message)
    }

    /// What was to be pushed is not what it should be, which is nothing that this registry did.
    pub(crate) fn wrong_source(&self, problem: impl fmt::Display) -> Error {
        let message = format!("{self}: not pushed, because {problem}. The registry it came from sent something else.");
        Error::new(Reason::UpstreamUnreachable, None, None, true, &message)
    }

    fn reachable(&self) -> &'static str {
        match self.leg {
            Leg::Cache => "Check that the registry inside the cluster runs, and its logs.",
            Leg::Upstream => "Check DNS and the network to it, or give a mirror in the registries file.",
        }
    }

    fn failed(&self, transient: bool, problem: fmt::Arguments<'_>) -> Error {
        self.error(Reason::UpstreamUnreachable, None, None, transient, &format!("{self}: {problem}"))
    }

    fn error(
        &self,
        reason: Reason,
        status: Option<StatusCode>,
        retry_after: Option<Duration>,
        transient: bool,
        message: &str,
    ) -> Error {
        let reason = match self.leg {
            Leg::Cache => Reason::RegistryUnreachable,
            Leg::Upstream => reason,
        };
        Error::new(reason, status, retry_after, transient, message)
    }
}

impl fmt::Display for Asked {
    /// `docker.io/library/nginx: GET https://registry-1.docker.io/v2/library/nginx/manifests/1`. The query stays out:
    /// an address that a store signed is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.url.clone();
        url.set_query(None);
        match self.leg {
            Leg::Cache => write!(f, "{} in the cache: {} {url}", self.repository, self.method),
            Leg::Upstream => write!(f, "{}/{}: {} {url}", self.registry, self.repository, self.method),
        }
    }
}

/// The error inside of an error. An `io::Error` passes over what it was made from when it is asked for its source.
fn below<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a (dyn std::error::Error + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn asked(leg: Leg, whom: Whom) -> Asked {
        Asked {
            leg,
            registry: "docker.io".into(),
            repository: "library/x".into(),
            method: Method::GET,
            url: Url::parse("https://registry-1.docker.io/v2/library/x/manifests/1?X-Signature=secret").unwrap(),
            whom,
            with_credentials: false,
        }
    }

    fn answer(status: u16, body: &str) -> Error {
        asked(Leg::Upstream, Whom::Registry).answered(
            StatusCode::from_u16(status).unwrap(),
            &HeaderMap::new(),
            body.as_bytes(),
        )
    }

    #[rstest]
    #[case(404, "", Reason::NotFound, false)]
    #[case(400, r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#, Reason::NotFound, false)]
    #[case(401, r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#, Reason::Unauthorized, false)]
    #[case(403, "", Reason::Unauthorized, false)]
    #[case(429, "", Reason::RateLimited, false)]
    #[case(400, "", Reason::UpstreamUnreachable, false)]
    #[case(408, "", Reason::UpstreamUnreachable, true)]
    #[case(500, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#, Reason::UpstreamUnreachable, true)]
    #[case(503, "", Reason::UpstreamUnreachable, true)]
    fn a_status_has_a_reason(#[case] status: u16, #[case] body: &str, #[case] reason: Reason, #[case] transient: bool) {
        let error = answer(status, body);
        assert_eq!((error.reason(), error.is_transient()), (reason, transient), "{error}");
        assert_eq!(error.status().unwrap(), status);
    }

    #[test]
    fn whatever_the_cache_does_is_its_own_fault() {
        let error = asked(Leg::Cache, Whom::Registry).answered(StatusCode::NOT_FOUND, &HeaderMap::new(), b"");
        assert_eq!((error.reason(), error.status()), (Reason::RegistryUnreachable, Some(StatusCode::NOT_FOUND)));
    }

    #[test]
    fn a_store_that_refuses_is_not_a_private_repository() {
        let error = asked(Leg::Upstream, Whom::Store).answered(StatusCode::FORBIDDEN, &HeaderMap::new(), b"");
        assert_eq!((error.reason(), error.is_transient()), (Reason::UpstreamUnreachable, true));
    }

    #[test]
    fn a_token_service_that_is_not_there_is_not_an_image_that_is_not_there() {
        for body in ["", r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#] {
            let asked = asked(Leg::Upstream, Whom::TokenService);
            let error = asked.answered(StatusCode::NOT_FOUND, &HeaderMap::new(), body.as_bytes());
            assert_eq!((error.reason(), error.status()), (Reason::UpstreamUnreachable, None), "{error}");
        }
    }

    #[rstest]
    #[case(Whom::Registry, StatusCode::FORBIDDEN)]
    #[case(Whom::TokenService, StatusCode::UNAUTHORIZED)]
    fn credentials_that_are_refused_are_told_from_none(#[case] whom: Whom, #[case] status: StatusCode) {
        let anonymous = asked(Leg::Upstream, whom).answered(status, &HeaderMap::new(), b"");
        let named = Asked { with_credentials: true, ..asked(Leg::Upstream, whom) };
        let named = named.answered(status, &HeaderMap::new(), b"");
        assert_eq!((anonymous.reason(), named.reason()), (Reason::Unauthorized, Reason::Unauthorized));
        assert!(anonymous.to_string().contains("cannot be read without credentials"), "{anonymous}");
        assert!(named.to_string().contains("refuses the credentials: they are wrong"), "{named}");
    }

    #[test]
    fn a_token_service_calls_wrong_credentials_a_bad_request() {
        for (with_credentials, reason) in [(true, Reason::Unauthorized), (false, Reason::UpstreamUnreachable)] {
            let asked = Asked { with_credentials, ..asked(Leg::Upstream, Whom::TokenService) };
            let error = asked.answered(StatusCode::BAD_REQUEST, &HeaderMap::new(), br#"{"error":"invalid_grant"}"#);
            assert_eq!(error.reason(), reason, "{error}");
        }
    }

    #[test]
    fn the_text_says_where_what_and_what_to_do_but_no_secret() {
        let body = r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
        let text = answer(401, body).to_string();
        for part in [
            "docker.io/library/x: GET https://registry-1.docker.io/v2/library/x/manifests/1:",
            "private, or does not exist",
            "401 Unauthorized: requested access to the resource is denied.",
            "Check the name",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert!(!text.contains("secret"), "{text}");
    }

    #[rstest]
    #[case(StatusCode::SERVICE_UNAVAILABLE, true)]
    #[case(StatusCode::TOO_MANY_REQUESTS, false)]
    fn a_wait_is_told(#[case] status: StatusCode, #[case] transient: bool) {
        let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, "7".parse().unwrap())]);
        let error = asked(Leg::Upstream, Whom::Registry).answered(status, &headers, b"");
        assert_eq!((error.retry_after(), error.is_transient()), (Some(Duration::from_secs(7)), transient));
        assert!(error.to_string().contains("left alone for 7s"), "{error}");
    }
}
