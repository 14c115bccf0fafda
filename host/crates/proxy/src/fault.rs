use std::time::Duration;

use cache_registry_core::Reason;
use cache_registry_registry::Error;
use http::StatusCode;

use crate::legs::{Failure, Failures, Step, next};
use crate::pull_tokens::NoToken;

/// Why one leg does not serve, in words.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) failure: Failure,
    /// The status that it answered with; `None` where it did not answer.
    pub(crate) status: Option<StatusCode>,
    /// How long it asks to be left alone.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) message: String,
    /// Of an upstream that refuses: why it could not be asked in somebody's name.
    pub(crate) no_token: Option<NoToken>,
}

impl Fault {
    /// It was not asked.
    pub(crate) fn skipped(message: &str) -> Self {
        Self { failure: Failure::Skipped, status: None, retry_after: None, message: message.to_owned(), no_token: None }
    }

    /// It did not answer, or not to the end.
    pub(crate) fn sick(message: impl Into<String>) -> Self {
        Self { failure: Failure::Sick, status: None, retry_after: None, message: message.into(), no_token: None }
    }

    /// It answered, and the answer is of no use.
    pub(crate) fn useless(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            failure: Failure::Sick,
            status: Some(status),
            retry_after: None,
            message: message.into(),
            no_token: None,
        }
    }

    /// Its bytes are not the ones that were asked for.
    pub(crate) fn wrong_bytes(message: impl Into<String>) -> Self {
        Self {
            failure: Failure::WrongBytes,
            status: Some(StatusCode::OK),
            retry_after: None,
            message: message.into(),
            no_token: None,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let failure = match error.reason() {
            _ if error.refused_address() => Failure::Skipped,
            Reason::NotFound => Failure::Missing,
            Reason::Unauthorized => Failure::Denied,
            Reason::RateLimited => Failure::RateLimited,
            Reason::RegistryUnreachable => failure_of_cache(error.status()),
            _ => Failure::Sick,
        };
        let (status, retry_after) = (error.status(), error.retry_after());
        Self { failure, status, retry_after, message: error.to_string(), no_token: None }
    }
}

/// Whatever the cache does wrong has one reason; its status tells more.
fn failure_of_cache(status: Option<StatusCode>) -> Failure {
    match status {
        Some(StatusCode::NOT_FOUND) => Failure::Missing,
        Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Failure::Denied,
        Some(StatusCode::TOO_MANY_REQUESTS) => Failure::RateLimited,
        _ => Failure::Sick,
    }
}

/// How a request fared so far: what the next step is computed from, and what the client is told at the end.
#[derive(Debug, Default)]
pub(crate) struct Course {
    failures: Failures,
    cache: Option<Fault>,
    upstream: Option<Fault>,
}

impl Course {
    /// What to do next.
    pub(crate) fn next(&self) -> Step {
        next(self.failures)
    }

    /// Notes that a step failed.
    pub(crate) fn failed(&mut self, step: Step, fault: Fault) {
        self.failures = self.failures.with(step, fault.failure);
        match step {
            Step::AskCache | Step::AskCacheAgain => self.cache = Some(fault),
            Step::AskUpstream => self.upstream = Some(fault),
            Step::Refuse => {}
        }
    }

    /// What the upstream said.
    pub(crate) fn upstream(&self) -> Option<&Fault> {
        self.upstream.as_ref()
    }

    /// What the cache said last.
    pub(crate) fn cache(&self) -> Option<&Fault> {
        self.cache.as_ref()
    }
}
