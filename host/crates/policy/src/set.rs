use std::fmt;
use std::sync::Arc;

use cache_registry_core::{ContainerFacts, Decision, PodFacts, Verdict};
use prometheus_client::metrics::histogram::Histogram;
use tokio::task;
use tokio::time::timeout;

use crate::bindings::types;
use crate::built_in;
use crate::engine::Engine;
use crate::failure::{Failure, one_line};
use crate::load::{LoadError, Policy};
use crate::metrics::Metrics;
use crate::session::Session;

/// Policies in the order in which they are asked. A handle: clones share everything.
///
/// The first filter that does not pass decides whether an image is cached, the first rewriter that answers with a
/// reference decides under which one nodes pull it. A failure decides too: the image is left alone.
#[derive(Clone)]
pub struct PolicySet(Arc<Inner>);

struct Inner {
    engine: Engine,
    members: Vec<Member>,
    metrics: Metrics,
}

struct Member {
    policy: Arc<Policy>,
    durations: Histogram,
}

/// A set can have this many policies. A request may hold an instance of each, and slots for them are set aside.
pub const MOST_POLICIES: usize = 16;

/// There are more than [`MOST_POLICIES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} policies are more than the {MOST_POLICIES} that a set can have")]
pub struct TooManyPolicies(usize);

impl PolicySet {
    /// A set of policies that `engine` loaded, in the order in which they are asked.
    pub fn new(engine: Engine, policies: Vec<Arc<Policy>>, metrics: Metrics) -> Result<Self, TooManyPolicies> {
        if policies.len() > MOST_POLICIES {
            return Err(TooManyPolicies(policies.len()));
        }
        Ok(Self::of(engine, policies, metrics))
    }

    /// The set where nobody brought a policy: `default-filter` and `default-rewrite`. Images in `own_registries`,
    /// the cache's, are left alone.
    pub fn built_in(engine: Engine, own_registries: &[String], metrics: Metrics) -> Result<Self, LoadError> {
        let policies = built_in::load(&engine, own_registries)?;
        Ok(Self::of(engine, policies.into(), metrics))
    }

    /// The verdict on each container, in the order of `containers`.
    ///
    /// Always answers, within the limits' `wait` and `time` for each policy: what a policy or this crate gets wrong is
    /// an image left alone, with a warning.
    pub async fn decide(&self, pod: Arc<PodFacts>, containers: Vec<ContainerFacts>) -> Vec<Verdict> {
        let count = containers.len();
        if count == 0 {
            return Vec::new();
        }
        let wait = self.0.engine.limits().wait;
        let Ok(Ok(turn)) = timeout(wait, self.0.engine.turns().acquire_owned()).await else {
            self.0.metrics.busy();
            tracing::warn!(namespace = pod.namespace, ?wait, "images left alone: too many requests at once");
            return vec![
                unasked(format!("no policy could be asked within {wait:?}, there are too many requests"));
                count
            ];
        };
        let set = self.0.clone();
        let decided = task::spawn_blocking(move || {
            let _turn = turn;
            set.judge(&pod, &containers)
        });
        decided.await.unwrap_or_else(|error| {
            tracing::error!(%error, "images left alone: a fault of cache-registry while policies were asked");
            vec![unasked("no policy could be asked, by a fault of cache-registry".to_owned()); count]
        })
    }

    fn of(engine: Engine, policies: Vec<Arc<Policy>>, metrics: Metrics) -> Self {
        let member = |policy: Arc<Policy>| Member { durations: metrics.duration_of(policy.name()), policy };
        Self(Arc::new(Inner { engine, members: policies.into_iter().map(member).collect(), metrics }))
    }
}

impl fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.members.iter().map(|member| &member.policy)).finish()
    }
}

/// How far a container has come.
#[allow(clippy::large_enum_variant, reason = "nearly all end as the large one")]
enum Stage {
    /// No filter decided yet.
    Open,
    /// A filter said `cache`, no rewriter decided yet.
    Cached,
    Decided(Verdict),
}

impl Inner {
    /// Asks policy after policy about container after container: a policy's instance serves all of them.
    fn judge(&self, pod: &Arc<PodFacts>, containers: &[ContainerFacts]) -> Vec<Verdict> {
        let mut stages: Vec<_> = containers.iter().map(|_| Stage::Open).collect();
        // Those that both filter and rewrite keep their instance in between.
        let mut kept = Vec::new();
        for member in &self.members {
            let mut session = Session::new(&self.engine, &member.policy, pod, &member.durations);
            if let Some(export) = &member.policy.exports.filter {
                let open = stages.iter_mut().zip(containers).filter(|(stage, _)| matches!(stage, Stage::Open));
                for (stage, container) in open {
                    *stage = match session.filter(export, container) {
                        Ok(types::Verdict::Pass) => Stage::Open,
                        Ok(types::Verdict::Cache) => Stage::Cached,
                        Ok(types::Verdict::Ignore(reason)) => Stage::Decided(ignored(&member.policy, &reason)),
                        Err(failure) => Stage::Decided(self.failed(&mut session, &member.policy, container, &failure)),
                    };
                }
            }
            kept.extend(member.policy.exports.rewrite.as_ref().map(|export| (member, export, session)));
        }
        for (member, export, mut session) in kept {
            let cached = stages.iter_mut().zip(containers).filter(|(stage, _)| matches!(stage, Stage::Cached));
            for (stage, container) in cached {
                *stage = match session.rewrite(export, container) {
                    Ok(None) => Stage::Cached,
                    Ok(Some(new)) => Stage::Decided(Verdict {
                        decision: Decision::Rewritten { image: new.image, source: new.source },
                        policy: Some(member.policy.name().to_owned()),
                        warnings: Vec::new(),
                    }),
                    Err(failure) => Stage::Decided(self.failed(&mut session, &member.policy, container, &failure)),
                };
            }
        }
        stages.into_iter().map(Stage::verdict).collect()
    }

    fn failed(
        &self,
        session: &mut Session<'_>,
        policy: &Policy,
        container: &ContainerFacts,
        failure: &Failure,
    ) -> Verdict {
        let name = policy.name();
        self.metrics.failed(name, failure.cause());
        if session.fails_newly(failure.cause()) {
            tracing::warn!(
                policy = name,
                cause = failure.cause().as_str(),
                container = container.name,
                image = %container.image,
                %failure,
                "image left alone: policy failed"
            );
        }
        let words = format!("policy {name} {failure}");
        let decision = Decision::LeftAlone { reason: words.clone() };
        Verdict { decision, policy: Some(name.to_owned()), warnings: vec![words] }
    }
}

impl Stage {
    fn verdict(self) -> Verdict {
        let left_alone = |reason: &str| {
            let decision = Decision::LeftAlone { reason: reason.to_owned() };
            Verdict { decision, policy: None, warnings: Vec::new() }
        };
        match self {
            Self::Decided(verdict) => verdict,
            Self::Open => left_alone("no policy asks for it to be cached"),
            Self::Cached => left_alone("it is to be cached, but no policy says under which reference"),
        }
    }
}

fn ignored(policy: &Policy, reason: &str) -> Verdict {
    let reason = match reason.trim() {
        "" => format!("policy {} ignores it", policy.name()),
        reason => one_line(reason, 200),
    };
    let decision = Decision::LeftAlone { reason };
    Verdict { decision, policy: Some(policy.name().to_owned()), warnings: Vec::new() }
}

/// A verdict for when nobody could be asked.
fn unasked(words: String) -> Verdict {
    Verdict { decision: Decision::LeftAlone { reason: words.clone() }, policy: None, warnings: vec![words] }
}
