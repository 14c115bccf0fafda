use std::time::Duration;

use cache_registry_registry::{Body, GetOptions, Object, Repository};
use cache_registry_runtime::traces::{TRACES, note};
use http::{Method, Response, StatusCode};
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;

use crate::Proxy;
use crate::fault::Fault;
use crate::legs::{Failure, Leg, Step};
use crate::route::Name;

/// A request to a leg.
#[derive(Debug)]
pub(crate) struct Question {
    /// GET or HEAD.
    pub(crate) method: Method,
    pub(crate) object: Object,
    pub(crate) options: GetOptions,
}

/// What a cache may be silent for within a body.
const SILENCE: Duration = Duration::from_secs(2);

impl Step {
    /// The leg that it asks.
    pub(crate) fn leg(self) -> Leg {
        match self {
            Self::AskCache | Self::AskCacheAgain => Leg::Cache,
            Self::AskUpstream | Self::Refuse => Leg::Upstream,
        }
    }
}

impl Proxy {
    /// Asks the leg of a step, and waits no longer than the step allows for the headers of its answer.
    pub(crate) async fn ask(&self, step: Step, name: &Name, question: &Question) -> Result<Response<Body>, Fault> {
        let started = Instant::now();
        let asking = async {
            let answer = match step {
                Step::AskCache => self.ask_cache(name, question).await,
                Step::AskCacheAgain => self.ask_cache_again(name, question).await,
                Step::AskUpstream => self.ask_upstream(name, question).await,
                Step::Refuse => Err(Fault::skipped("nobody is left to ask")),
            };
            if let Err(fault) = &answer {
                note("cache_registry.failure", fault.failure.as_str());
            }
            answer
        };
        let leg = step.leg().as_str();
        let span = tracing::info_span!(target: TRACES, "ask", leg, registry = &*name.registry);
        let answer = asking.instrument(span).await;
        match &answer {
            Ok(_) => self.metrics.leg_answered(step.leg(), started.elapsed()),
            Err(fault) => self.failed(step, name, fault),
        }
        answer
    }

    /// Counts and logs that a body which had begun `since` then, or was awaited since then, broke off. A cache that
    /// sends nothing for long is as sick as one that does not answer.
    pub(crate) fn broke_off(&self, step: Step, name: &Name, fault: &Fault, since: Instant) {
        if step.leg() == Leg::Cache && fault.failure == Failure::Sick && since.elapsed() >= SILENCE {
            self.breaker.fell_silent(Instant::now());
            self.metrics.breaker(self.breaker.position());
        }
        self.failed(step, name, fault);
    }

    /// Counts and logs a fault of a leg.
    pub(crate) fn failed(&self, step: Step, name: &Name, fault: &Fault) {
        let leg = step.leg();
        self.metrics.leg_failed(leg, fault.failure);
        match fault.failure {
            Failure::WrongBytes => {
                self.metrics.mismatch(leg);
                tracing::warn!(leg = leg.as_str(), %name, message = fault.message, "wrong bytes");
            }
            // A miss is how every first pull begins.
            Failure::Missing | Failure::Skipped => {
                tracing::debug!(leg = leg.as_str(), %name, message = fault.message, "not served");
            }
            _ => tracing::warn!(leg = leg.as_str(), %name, message = fault.message, "not served"),
        }
    }

    async fn ask_cache(&self, name: &Name, question: &Question) -> Result<Response<Body>, Fault> {
        let Some(permit) = self.breaker.permit(Instant::now()) else {
            return Err(Fault::skipped("it did not answer a moment ago and is left out for up to 30 s"));
        };
        self.metrics.breaker(self.breaker.position());
        let answer = self.call_cache(name, question, self.config.cache_wait).await;
        match &answer {
            Err(Fault { status: None, .. }) => permit.silent(Instant::now()),
            _ => permit.answered(),
        }
        self.metrics.breaker(self.breaker.position());
        answer
    }

    async fn ask_cache_again(&self, name: &Name, question: &Question) -> Result<Response<Body>, Fault> {
        let permit = self.breaker.permit_anyway();
        let answer = self.call_cache(name, question, self.config.cache_last_wait).await;
        match &answer {
            Err(Fault { status: None, .. }) => permit.silent(Instant::now()),
            _ => permit.answered(),
        }
        self.metrics.breaker(self.breaker.position());
        answer
    }

    async fn call_cache(&self, name: &Name, question: &Question, wait: Duration) -> Result<Response<Body>, Fault> {
        let repository = self.connections.cache(&self.config.cache, &name.in_cache());
        match timeout(wait, call(&repository, question)).await {
            Ok(answer) => answer,
            Err(_) => Err(Fault::sick(format!("the cache at {} did not answer within {wait:?}", self.config.cache))),
        }
    }

    async fn ask_upstream(&self, name: &Name, question: &Question) -> Result<Response<Body>, Fault> {
        if let Some(fault) = self.limits.still(name, Instant::now()).await {
            return Err(fault);
        }
        let wait = self.config.upstream_wait;
        let answer = match timeout(wait, self.call_upstream(name, question)).await {
            Ok(answer) => answer,
            Err(_) => Err(Fault::sick(format!("{} did not answer within {wait:?}", name.registry))),
        };
        if let Err(fault) = &answer {
            self.limits.note(name, fault, Instant::now()).await;
        }
        answer
    }

    /// In nobody's name, as long as that is enough. One who has a pull secret for a public image has it so as not to share
    /// the limit of those who have none.
    async fn call_upstream(&self, name: &Name, question: &Question) -> Result<Response<Body>, Fault> {
        let upstream = |token| self.connections.upstream_as(&name.registry, &name.repository, token);
        let token = self.pull_tokens.held(name).await;
        let mut fault = match call(&upstream(token.clone()), question).await {
            Err(fault) if fault.failure == Failure::Denied => fault,
            Err(fault) if fault.failure == Failure::RateLimited && token.is_none() => fault,
            answer => return answer,
        };
        match self.pull_tokens.obtain(name, token.as_ref()).await {
            Ok(token) => call(&upstream(Some(token)), question).await,
            Err(why) => {
                fault.no_token = Some(why);
                Err(fault)
            }
        }
    }
}

async fn call(repository: &Repository, question: &Question) -> Result<Response<Body>, Fault> {
    let Question { method, object, options } = question;
    let response = match *method {
        Method::HEAD => repository.head(object, options).await?,
        _ => repository.get(object, options).await?,
    };
    match response.status() {
        StatusCode::OK => Ok(response),
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if options.range.is_some() => Ok(response),
        status => Err(Fault::useless(status, format!("answered {status}, which is no answer to a pull"))),
    }
}
