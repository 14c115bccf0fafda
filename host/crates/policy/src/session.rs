use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cache_registry_core::{ContainerFacts, PodFacts, Reference, TRACES};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use crate::allowance::Allowance;
use crate::bindings::types::{Rewritten, Verdict};
use crate::bindings::{filter, rewrite};
use crate::engine::Engine;
use crate::failure::{Cause, Failure};
use crate::instance::Instance;
use crate::log::Log;
use crate::observer::{Observer, PolicyFailure};
use crate::pace::Pace;
use crate::set::{Member, Seat};

/// What one policy does for one request: it is instantiated when first asked, and accounts for its time.
///
/// An instance that trapped is replaced when the next container is put to the policy, as long as time is left; when
/// none is, every further question fails without being put.
pub(crate) struct Session<'r> {
    engine: &'r Engine,
    observer: &'r Observer,
    seat: &'r Seat,
    pod: &'r Arc<PodFacts>,
    instance: Option<Instance>,
    allowance: Allowance,
    took: Duration,
    log: Arc<Log>,
    failed_by: Vec<Cause>,
    /// From the first question on; none before. It ends with the last answer.
    span: Span,
}

/// An image under a new reference, and where the cache fetches it from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rewriting {
    pub(crate) image: Reference,
    pub(crate) source: Reference,
}

impl<'r> Session<'r> {
    pub(crate) fn new(
        engine: &'r Engine,
        observer: &'r Observer,
        seat: &'r Seat,
        pod: &'r Arc<PodFacts>,
        pace: &Arc<Pace>,
    ) -> Self {
        Self {
            engine,
            observer,
            seat,
            pod,
            instance: None,
            allowance: Allowance::of(engine.limits(), pace.clone()),
            took: Duration::ZERO,
            log: Arc::new(Log::of(seat.member.policy.identity.clone())),
            failed_by: Vec::new(),
            span: Span::none(),
        }
    }

    /// Whose session it is.
    pub(crate) fn member(&self) -> &'r Member {
        &self.seat.member
    }

    /// The policy gave no usable answer about a container, for which `words` are.
    ///
    /// All of them are counted. Only the first by each cause is worth a line in the log, and telling: a pod has as
    /// many containers as its author writes.
    pub(crate) fn failed(&mut self, container: &ContainerFacts, cause: Cause, words: &str) {
        self.seat.meters.failed(cause);
        if self.failed_by.contains(&cause) {
            return;
        }
        let is_first = self.failed_by.is_empty();
        self.failed_by.push(cause);
        let (policy, cause) = (&self.seat.member.policy, cause.as_str());
        if is_first {
            self.span.record("cache_registry.failure", cause);
        }
        self.span.in_scope(|| {
            tracing::warn!(
                policy = policy.name(),
                cause,
                container = container.name,
                image = %container.image,
                on_error = ?self.seat.member.on_error,
                "policy failed: {words}"
            );
        });
        let failure = PolicyFailure {
            policy: policy.name().to_owned(),
            cause,
            words: words.to_owned(),
            namespace: self.pod.namespace.clone(),
            at: SystemTime::now(),
        };
        policy.pulse.failed(failure.clone());
        self.observer.hear(failure);
    }

    /// Whether the container's image is cached.
    pub(crate) async fn filter(
        &mut self,
        export: &filter::GuestIndices,
        container: &ContainerFacts,
    ) -> Result<Verdict, Failure> {
        self.call(async |instance| instance.filter(export, container).await).await
    }

    /// Under which reference nodes pull the container's image; `None` where the policy has no opinion.
    pub(crate) async fn rewrite(
        &mut self,
        export: &rewrite::GuestIndices,
        container: &ContainerFacts,
    ) -> Result<Option<Rewriting>, Failure> {
        let answer = self.call(async |instance| instance.rewrite(export, container).await).await?;
        let rewritten = answer.map_err(|complaint| Failure::error(&complaint))?;
        rewritten.map(|rewritten| self.usable(&rewritten)).transpose()
    }

    /// It is asked nothing any more. To take an instance apart takes as long as to start it: one that may be wiped later,
    /// for which nobody has to wait, is returned. In the slow lane instances are large, and nobody is kept waiting.
    pub(crate) fn end(mut self) -> Option<Instance> {
        if self.allowance.pace().is_in_place() { self.instance.take() } else { None }
    }

    async fn call<T>(
        &mut self,
        question: impl AsyncFnOnce(&mut Instance) -> wasmtime::Result<T>,
    ) -> Result<T, Failure> {
        let time = self.engine.limits().time;
        if !self.allowance.begin().await.map_err(Failure::late)? {
            return Err(Failure::time(time));
        }
        if self.span.is_none() {
            let policy = self.seat.member.policy.name();
            self.span = tracing::info_span!(target: TRACES, "policy", policy, cache_registry.failure = Empty);
        }
        let span = self.span.clone();
        self.log.call();
        let asking = async {
            match self.ready().await {
                Ok(instance) => question(instance).await,
                Err(error) => Err(error),
            }
        };
        let answer = asking.instrument(span).await;
        self.took += self.allowance.end();
        answer.map_err(|error| {
            tracing::debug!(policy = self.seat.member.policy.name(), ?error, "call failed");
            self.instance = None;
            Failure::of(&error, time, &self.log)
        })
    }

    async fn ready(&mut self) -> wasmtime::Result<&mut Instance> {
        match &mut self.instance {
            Some(instance) => {
                instance.resumes();
                Ok(instance)
            }
            none => {
                let (pod, log) = (self.pod.clone(), self.log.clone());
                let policy = &self.seat.member.policy;
                Ok(none.insert(Instance::new(self.engine, policy, pod, log, self.allowance.clone()).await?))
            }
        }
    }

    /// Reads references of a policy, and keeps nodes from being sent where nothing is kept for them.
    fn usable(&self, rewritten: &Rewritten) -> Result<Rewriting, Failure> {
        let read = |text: &str| text.parse::<Reference>().map_err(|error| Failure::reference(&error));
        let (image, source) = (read(&rewritten.image)?, read(&rewritten.source)?);
        let node = self.engine.node_address();
        if node.serves(&source) {
            return Err(Failure::reference(&format_args!("the source {source} is at the address of the nodes' cache")));
        }
        if node.serves(&image) && image != node.of(&source) {
            return Err(Failure::reference(&format_args!("{image} is not where nodes pull {source}")));
        }
        Ok(Rewriting { image, source })
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.log.end();
        // A policy that was not asked has not done well either.
        if self.took.is_zero() {
            return;
        }
        let meters = &self.seat.meters;
        meters.duration.observe(self.took.as_secs_f64());
        if let Some(failing) = self.seat.member.policy.pulse.ended(self.failed_by.is_empty()) {
            meters.failing.set(failing.into());
        }
    }
}
