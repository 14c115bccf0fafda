use std::fmt;
use std::sync::Arc;

use cache_registry_core::{ContainerFacts, Decision, PodFacts, Verdict};
use tokio::time::timeout;
use tracing::Instrument as _;

use crate::bindings::types;
use crate::built_in::{self, ReleaseSettings};
use crate::engine::Engine;
use crate::failure::{Failure, one_line};
use crate::instance::Instance;
use crate::lane::Undecided;
use crate::load::{LoadError, Policy};
use crate::metrics::Meters;
use crate::observer::Observer;
use crate::pace::Pace;
use crate::session::Session;

/// Policies in the order in which they are asked. A handle: clones share everything.
///
/// The first filter that does not pass decides whether an image is cached, the first rewriter that answers with a
/// reference decides under which one nodes pull it. A failure decides too, unless the policy is in the set to be passed
/// over when it fails: the image is left alone.
#[derive(Clone)]
pub struct PolicySet(Arc<Inner>);

struct Inner {
    engine: Engine,
    seats: Vec<Seat>,
    observer: Observer,
}

/// A policy's place in a set.
#[derive(Debug, Clone)]
pub struct Member {
    /// Who is asked.
    pub policy: Arc<Policy>,
    /// What becomes of an image about which it fails.
    pub on_error: OnError,
}

/// What becomes of an image when a policy fails that was asked about it. There is a warning either way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum OnError {
    /// It is left alone.
    #[default]
    Leave,
    /// The next policy is asked, as if this one had no opinion.
    Pass,
}

/// A member, and what is counted of it.
pub(crate) struct Seat {
    pub(crate) member: Member,
    pub(crate) meters: Meters,
}

/// A set can have this many policies. A request may hold an instance of each, and slots for them are set aside.
pub const MOST_POLICIES: usize = 16;

/// There are more than [`MOST_POLICIES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} policies are more than the {MOST_POLICIES} that a set can have")]
pub struct TooManyPolicies(usize);

impl From<Arc<Policy>> for Member {
    /// One whose failures leave images alone.
    fn from(policy: Arc<Policy>) -> Self {
        Self { policy, on_error: OnError::default() }
    }
}

impl PolicySet {
    /// A set of policies that `engine` loaded, in the order in which they are asked.
    pub fn new(engine: Engine, members: Vec<Member>, observer: Observer) -> Result<Self, TooManyPolicies> {
        if members.len() > MOST_POLICIES {
            return Err(TooManyPolicies(members.len()));
        }
        Ok(Self::of(engine, members, observer))
    }

    /// The set where nobody brought a policy: `default-filter` and `default-rewrite`, as a release has them.
    pub fn built_in(engine: Engine, release: &ReleaseSettings, observer: Observer) -> Result<Self, LoadError> {
        let members = built_in::load_for(&engine, release)?.map(Member::from);
        Ok(Self::of(engine, members.into(), observer))
    }

    /// Its policies, in their order.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.0.seats.iter().map(|seat| &seat.member)
    }

    /// The verdict on each container, in the order of `containers`.
    ///
    /// Always answers, within the limits' `wait`, and the longer of three seconds and four times `time`: what a policy or
    /// this crate gets wrong is an image left alone, with a warning.
    pub async fn decide(&self, pod: Arc<PodFacts>, containers: Vec<ContainerFacts>) -> Vec<Verdict> {
        let count = containers.len();
        if count == 0 {
            return Vec::new();
        }
        let wait = self.0.engine.limits().wait;
        let Ok(Ok(turn)) = timeout(wait, self.0.engine.turns().acquire_owned()).await else {
            self.0.observer.metrics.busy();
            tracing::warn!(namespace = pod.namespace, ?wait, "images left alone: too many requests at once");
            return vec![
                unasked(format!("no policy could be asked within {wait:?}, there are too many requests"));
                count
            ];
        };
        let (engine, set, pace) = (&self.0.engine, self.0.clone(), Pace::in_place(self.0.engine.limits()));
        let judging = {
            let pace = pace.clone();
            async move {
                let (verdicts, used) = set.judge(&pod, &containers, &pace).await;
                let remains = (used, turn);
                // Once the request is answered, its thread comes to what was spawned last.
                if pace.is_in_place() {
                    drop(tokio::spawn(async { drop(remains) }));
                }
                verdicts
            }
        };
        let decided = engine.lane().take(&pace, judging.in_current_span()).await;
        decided.unwrap_or_else(|undecided| {
            let words = match undecided {
                Undecided::Panic => "no policy could be asked, by a fault of cache-registry".to_owned(),
                Undecided::Late(late) => format!("the policies had {late}"),
            };
            self.0.observer.metrics.busy();
            tracing::error!(%undecided, "images left alone: {words}");
            vec![unasked(words); count]
        })
    }

    /// Nothing is shown any more of policies of `other` whose names are not in this set.
    pub(crate) fn forget_those_only_in(&self, other: &Self) {
        for gone in other.members().map(|member| member.policy.name()) {
            if self.members().all(|member| member.policy.name() != gone) {
                self.0.observer.metrics.forget(gone);
            }
        }
    }

    fn of(engine: Engine, members: Vec<Member>, observer: Observer) -> Self {
        let seat = |member: Member| {
            let meters = observer.metrics.of(member.policy.name());
            meters.failing.set(member.policy.health().failing().into());
            Seat { member, meters }
        };
        let seats = members.into_iter().map(seat).collect();
        Self(Arc::new(Inner { engine, seats, observer }))
    }
}

impl fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.members()).finish()
    }
}

/// How far a container has come.
struct Progress {
    stage: Stage,
    cached_by: Option<String>,
    warnings: Vec<String>,
}

#[expect(clippy::large_enum_variant, reason = "nearly all end as the large one")]
enum Stage {
    /// No filter decided yet.
    Open,
    /// A filter said `cache`, no rewriter decided yet.
    Cached,
    /// By the policy of this name.
    Decided(Decision, String),
}

impl Inner {
    /// Asks policy after policy about container after container: a policy's instance serves all of them. Those that may be
    /// wiped later are left over.
    async fn judge(
        &self,
        pod: &Arc<PodFacts>,
        containers: &[ContainerFacts],
        pace: &Arc<Pace>,
    ) -> (Vec<Verdict>, Vec<Instance>) {
        let mut all: Vec<_> = containers.iter().map(|_| Progress::new()).collect();
        // Those that both filter and rewrite keep their instance in between.
        let (mut kept, mut used) = (Vec::new(), Vec::new());
        for seat in &self.seats {
            let policy = &seat.member.policy;
            let mut session = Session::new(&self.engine, &self.observer, seat, pod, pace);
            if let Some(export) = &policy.component.asked().filter {
                let open = all.iter_mut().zip(containers).filter(|(progress, _)| matches!(progress.stage, Stage::Open));
                for (progress, container) in open {
                    match session.filter(export, container).await {
                        Ok(types::Verdict::Pass) => {}
                        Ok(types::Verdict::Cache) => progress.cached(policy),
                        Ok(types::Verdict::Ignore(reason)) => progress.ignored(policy, &reason),
                        Err(failure) => progress.failed(&mut session, container, &failure),
                    }
                }
            }
            match &policy.component.asked().rewrite {
                Some(export) => kept.push((policy, export, session)),
                None => used.extend(session.end()),
            }
        }
        for (policy, export, mut session) in kept {
            let cached = all.iter_mut().zip(containers).filter(|(progress, _)| matches!(progress.stage, Stage::Cached));
            for (progress, container) in cached {
                match session.rewrite(export, container).await {
                    Ok(None) => {}
                    Ok(Some(new)) => {
                        progress.decided(policy, Decision::Rewritten { image: new.image, source: new.source });
                    }
                    Err(failure) => progress.failed(&mut session, container, &failure),
                }
            }
            used.extend(session.end());
        }
        (all.into_iter().map(Progress::verdict).collect(), used)
    }
}

impl Progress {
    fn new() -> Self {
        Self { stage: Stage::Open, cached_by: None, warnings: Vec::new() }
    }

    fn cached(&mut self, by: &Policy) {
        self.stage = Stage::Cached;
        self.cached_by = Some(by.name().to_owned());
    }

    fn ignored(&mut self, by: &Policy, reason: &str) {
        let reason = match reason.trim() {
            "" => format!("policy {} ignores it", by.name()),
            reason => one_line(reason, 200),
        };
        self.decided(by, Decision::LeftAlone { reason });
    }

    fn decided(&mut self, by: &Policy, decision: Decision) {
        self.stage = Stage::Decided(decision, by.name().to_owned());
    }

    fn failed(&mut self, session: &mut Session<'_>, container: &ContainerFacts, failure: &Failure) {
        let member = session.member();
        let words = format!("policy {} {failure}", member.policy.name());
        session.failed(container, failure.cause(), &words);
        if member.on_error == OnError::Leave {
            self.decided(&member.policy, Decision::LeftAlone { reason: words.clone() });
        }
        self.warnings.push(words);
    }

    fn verdict(self) -> Verdict {
        let left_alone = |reason: &str| (Decision::LeftAlone { reason: reason.to_owned() }, None);
        let (decision, policy) = match self.stage {
            Stage::Decided(decision, policy) => (decision, Some(policy)),
            Stage::Open => left_alone("no policy asks for it to be cached"),
            Stage::Cached => left_alone("it is to be cached, but no policy says under which reference"),
        };
        Verdict { decision, policy, cached_by: self.cached_by, warnings: self.warnings }
    }
}

/// A verdict for when nobody could be asked.
fn unasked(words: String) -> Verdict {
    let decision = Decision::LeftAlone { reason: words.clone() };
    Verdict { decision, policy: None, cached_by: None, warnings: vec![words] }
}
