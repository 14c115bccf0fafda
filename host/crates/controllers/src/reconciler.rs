use std::collections::{BTreeSet, HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use cache_registry_api::{CachedImage, CachedImageStatus};
use cache_registry_core::{Location, NodeAddress, Reason, Reference};
use cache_registry_registry::Copied;
use cache_registry_runtime::Handle;
use futures::{Stream, StreamExt as _};
use kube::core::DeserializeGuard;
use kube_runtime::watcher::{self, Event};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::time::DelayQueue;

use crate::cluster::Cluster;
use crate::copier::{Copier, Found};
use crate::line::Line;
use crate::metrics::Metrics;
use crate::plan::{Action, Facts, Failure, Now, Task, plan, reason};
use crate::platforms::Wanted;
use crate::pod_sources::Pod;
use crate::retention::Use;
use crate::survey::{Survey, SurveyError};
use crate::tracked::Tracked;
use crate::usage::Usage;
use crate::workloads::{Kind, Workload};
use untagged::Untagged;

mod creation;
mod expiry;
mod inventory;
mod room;
mod tasks;
mod untagged;
mod watches;

/// How many images the registry is asked about at once.
const CHECKS_AT_ONCE: usize = 4;

/// About how many images upstream registries are asked at once.
const ASKS_AT_ONCE: usize = 4;

/// Pods come and go in crowds: their number is written when they have settled for this long.
const SETTLE: Duration = Duration::from_secs(1);

/// The name of a `CachedImage`.
type Name = Arc<str>;

/// What the leader does: makes `CachedImage`s for the images that pods use, and sees to each of them.
///
/// One task owns all of it, and every change passes through it in turn: what the watches bring, what has ended, what
/// is due. It decides ([`plan`]) and never waits itself; copies, checks and writes run beside it and come back as
/// [`Done`]. Dropped, it stops all of them.
pub(crate) struct Reconciler<C> {
    cluster: Cluster,
    survey: Survey,
    copier: Arc<C>,
    metrics: Metrics,
    expiry_delay: Duration,
    update_interval: Duration,
    max_size: Option<u64>,
    /// Whether what is in use is larger than that.
    is_too_small: bool,
    platforms: Wanted,
    usage: Usage,
    images: HashMap<Name, Tracked>,
    /// The `CachedImage`s of a source. A person may have made one under a name of their own.
    named: HashMap<Reference, BTreeSet<Name>>,
    /// What a listing that is going on has brought.
    listing: HashSet<Name>,
    listed: bool,
    /// How often in a row it failed to create the `CachedImage` of a source, for those that are being created.
    creating: HashMap<Arc<Reference>, u32>,
    /// Images whose time is over, before the next look at what is in use, and whether there is one going on.
    due: BTreeSet<Name>,
    looking: bool,
    /// Where tags are being taken away, and how often that failed in a row. Nothing is copied to there meanwhile.
    removing: HashMap<Location, u32>,
    /// Where tags were taken away since the last inventory began.
    removed_meanwhile: HashSet<Location>,
    /// Those of `creating` that the registry has and nothing needs to use.
    adopting: HashSet<Arc<Reference>>,
    /// When the registry was last asked about all images because it had lost one.
    doubted: Option<Instant>,
    copies: Line,
    checks: Line,
    asks: Line,
    untagged: Untagged,
    /// Upstream registries that asked to be left alone, and until when.
    quiet: HashMap<String, Instant>,
    timers: DelayQueue<Due>,
    tasks: JoinSet<Done>,
    /// Dropped when all that exists is known.
    ready: Option<Handle>,
}

enum Due {
    /// To plan for an image.
    Image(Name),
    /// To try again to create the `CachedImage` of a source.
    Source(Arc<Reference>),
    /// To try again to take away the tag of a source.
    Removal(Arc<Reference>),
    /// To list what the registry has.
    Inventory,
    /// To see whether the registry still has what it had, and whether that is too much.
    Sample,
    /// To remove manifests that lost their tags.
    Untagged,
}

/// What has ended.
enum Done {
    Copied {
        task: Task,
        name: Name,
        uid: Option<String>,
        time: Duration,
        outcome: Result<Copied, Failure>,
    },
    Checked {
        name: Name,
        uid: Option<String>,
        outcome: Result<Found, Failure>,
    },
    Asked {
        name: Name,
        uid: Option<String>,
        outcome: Result<String, Failure>,
    },
    Written {
        name: Name,
        uid: Option<String>,
        status: Box<CachedImageStatus>,
        outcome: Result<Box<CachedImage>, kube::Error>,
    },
    Created {
        source: Arc<Reference>,
        outcome: Result<(), kube::Error>,
    },
    Looked {
        due: BTreeSet<Name>,
        outcome: Result<HashSet<Reference>, SurveyError>,
    },
    Expired {
        name: Name,
        uid: Option<String>,
        outcome: Result<(), kube::Error>,
    },
    TagRemoved {
        source: Arc<Reference>,
        outcome: Result<(), Failure>,
    },
    Inventory(Result<Vec<Reference>, Failure>),
    Sampled {
        name: Name,
        uid: Option<String>,
        outcome: Result<bool, Failure>,
    },
    UntaggedRemoved(Result<Option<Duration>, Failure>),
}

/// How the reconciler works.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Where nodes pull from.
    pub(crate) node: NodeAddress,
    /// How many images are copied at once; at least one is.
    pub(crate) parallel_copies: usize,
    /// How long an image stays that nothing uses.
    pub(crate) expiry_delay: Duration,
    /// How often upstream is asked what it means by a tag.
    pub(crate) update_interval: Duration,
    /// How many bytes of images the registry may hold.
    pub(crate) max_size: Option<u64>,
    /// Of which platforms images are copied.
    pub(crate) platforms: Wanted,
    /// How long a manifest stays that has lost its tag; `None` where somebody else removes them.
    pub(crate) remove_untagged_after: Option<Duration>,
}

impl<C: Copier> Reconciler<C> {
    pub(crate) fn new(
        cluster: Cluster,
        survey: Survey,
        copier: Arc<C>,
        settings: Settings,
        metrics: Metrics,
        ready: Handle,
    ) -> Self {
        metrics.begin();
        Self {
            cluster,
            survey,
            copier,
            metrics,
            expiry_delay: settings.expiry_delay,
            update_interval: settings.update_interval,
            max_size: settings.max_size,
            is_too_small: false,
            platforms: settings.platforms,
            usage: Usage::new(settings.node),
            images: HashMap::new(),
            named: HashMap::new(),
            listing: HashSet::new(),
            listed: false,
            creating: HashMap::new(),
            due: BTreeSet::new(),
            looking: false,
            removing: HashMap::new(),
            removed_meanwhile: HashSet::new(),
            adopting: HashSet::new(),
            doubted: None,
            copies: Line::new(settings.parallel_copies.max(1)),
            checks: Line::new(CHECKS_AT_ONCE),
            asks: Line::new(ASKS_AT_ONCE),
            untagged: Untagged::after(settings.remove_untagged_after),
            quiet: HashMap::new(),
            timers: DelayQueue::new(),
            tasks: JoinSet::new(),
            ready: Some(ready),
        }
    }

    /// Works until it is dropped. It returns only when a task of its own panicked, which is a bug.
    pub(crate) async fn run(
        mut self,
        pods: impl Stream<Item = watcher::Result<Event<DeserializeGuard<Pod>>>>,
        workloads: impl Stream<Item = (Kind, watcher::Result<Event<DeserializeGuard<Workload>>>)>,
        images: impl Stream<Item = watcher::Result<Event<DeserializeGuard<CachedImage>>>>,
    ) -> JoinError {
        let (mut pods, mut workloads, mut images) = (pin!(pods), pin!(workloads), pin!(images));
        loop {
            tokio::select! {
                Some(event) = pods.next() => match event {
                    Ok(event) => self.pods_changed(event),
                    Err(error) => self.watch_failed("watch pods", &error),
                },
                Some((kind, event)) = workloads.next() => match event {
                    Ok(event) => self.workloads_changed(kind, event),
                    Err(error) => self.watch_failed("watch workloads", &error),
                },
                Some(event) = images.next() => match event {
                    Ok(event) => self.images_changed(event),
                    Err(error) => self.watch_failed("watch cachedimages", &error),
                },
                () = self.platforms.grown() => self.check_all(),
                Some(ended) = self.tasks.join_next_with_id() => match ended {
                    Ok((task, done)) => self.ended(task, done),
                    Err(error) if error.is_cancelled() => self.next_in_line(error.id()),
                    Err(error) => return error,
                },
                Some(due) = self.timers.next() => match due.into_inner() {
                    Due::Image(name) => {
                        if let Some(tracked) = self.images.get_mut(&name) {
                            tracked.timer = None;
                        }
                        self.touch(&name);
                    }
                    Due::Source(source) => self.create(source),
                    Due::Removal(source) => self.remove_tag(&source),
                    Due::Inventory => self.take_inventory(),
                    Due::Sample => {
                        self.sample();
                        self.make_room();
                    }
                    Due::Untagged => self.untagged_due(),
                },
            }
        }
    }

    fn watch_failed(&self, operation: &'static str, error: &watcher::Error) {
        self.metrics.error(operation);
        tracing::warn!(
            operation, %error,
            "watching goes on when the API server answers again; is the CRD applied, and may this ServiceAccount list and watch?"
        );
    }

    /// Plans for an image, soon; what happens to it until then is planned for together.
    fn touch_soon(&mut self, name: &Name) {
        let soon = Instant::now() + SETTLE;
        if let Some(tracked) = self.images.get_mut(name) {
            let sooner = tracked.timer.is_some_and(|(_, at)| at <= soon);
            if !sooner {
                set_timer(&mut self.timers, name, tracked, Some(soon));
            }
        }
    }

    /// Plans for an image, and does it.
    fn touch(&mut self, name: &Name) {
        match self.decide(name) {
            None => {}
            Some(Action::Expire) => self.expire(name),
            Some(Action::Start(task)) => self.start(name, task),
            Some(action) => self.report(name, action),
        }
    }

    /// Plans again for an image of which the standing has just changed.
    fn settle(&mut self, name: &Name) {
        if let Some(action) = self.decide(name) {
            self.report(name, action);
        }
    }

    fn decide(&self, name: &Name) -> Option<Action> {
        let tracked = self.images.get(name)?;
        let now = Now::read();
        let source = tracked.source.as_ref();
        let originals = source.into_iter().flat_map(|source| self.usage.originals(source));
        let facts = Facts {
            standing: &tracked.standing,
            used_by: source.and_then(|source| self.usage.used_by(source, &tracked.originals)),
            used: source.map_or(Use::Unknown, |source| self.usage.of(source, &tracked.originals)),
            originals: originals.map(str::to_owned).collect(),
            expiry_delay: self.expiry_delay,
            makes_room: tracked.makes_room,
            may_expire: !tracked.expiring && tracked.expire_after.is_none_or(|after| after <= now.instant),
            freshness: &tracked.freshness,
            update_interval: self.update_interval,
            quiet_until: source.and_then(|source| self.quiet.get(source.registry())).copied(),
        };
        Some(plan(&tracked.image, now, &facts))
    }

    fn report(&mut self, name: &Name, action: Action) {
        let (Action::Report { status, mut wake }, Some(tracked)) = (action, self.images.get_mut(name)) else { return };
        let now = Instant::now();
        let stands = status.as_deref().or(tracked.image.status.as_ref()).and_then(reason);
        if stands != tracked.counted {
            let change = |reason: Option<Reason>, by| reason.map(|reason| self.metrics.images(reason).inc_by(by));
            change(tracked.counted, -1);
            change(stands, 1);
            tracked.counted = stands;
        }
        if let Some(status) = status.filter(|_| !tracked.writing) {
            if let Some(after) = tracked.write_after.filter(|after| *after > now) {
                wake = Some(wake.map_or(after, |wake| wake.min(after)));
            } else {
                tracked.writing = true;
                let (cluster, image, name) = (self.cluster.clone(), tracked.image.clone(), name.clone());
                self.tasks.spawn(async move {
                    let outcome = cluster.report(&image, &status).await.map(Box::new);
                    Done::Written { name, uid: image.metadata.uid, status, outcome }
                });
            }
        }
        if let Some(after) = tracked.expire_after.filter(|after| *after > now && !tracked.expiring) {
            wake = Some(wake.map_or(after, |wake| wake.min(after)));
        }
        set_timer(&mut self.timers, name, tracked, wake);
    }

    fn ended(&mut self, task: Id, done: Done) {
        match done {
            Done::Copied { task, name, uid, time, outcome } => {
                self.expect_untagged();
                self.leave_alone(&name, outcome.as_ref().err());
                self.update(&name, uid.as_deref(), |tracked, metrics| tracked.copied(task, time, outcome, metrics));
            }
            Done::Asked { name, uid, outcome } => {
                self.leave_alone(&name, outcome.as_ref().err());
                self.update(&name, uid.as_deref(), |tracked, _| tracked.asked(outcome));
            }
            Done::Checked { name, uid, outcome } => {
                let is_lost = matches!(outcome, Ok(Found::Nothing));
                self.update(&name, uid.as_deref(), |tracked, metrics| tracked.checked(outcome, metrics));
                if is_lost {
                    self.doubt();
                }
            }
            Done::Written { name, uid, status, outcome } => {
                self.update(&name, uid.as_deref(), |tracked, metrics| tracked.written(&status, outcome, metrics));
            }
            Done::Created { source, outcome } => self.created(source, outcome),
            Done::Looked { due, outcome } => self.looked(due, &outcome),
            Done::Expired { name, uid, outcome } => self.expired(&name, uid.as_deref(), outcome),
            Done::TagRemoved { source, outcome } => self.tag_removed(&source, outcome),
            Done::Inventory(outcome) => self.inventory_taken(outcome),
            Done::Sampled { name, uid, outcome } => self.sampled(&name, uid.as_deref(), &outcome),
            Done::UntaggedRemoved(outcome) => self.untagged_removed(outcome),
        }
        self.next_in_line(task);
    }

    /// Notes something about an image, and goes on from there.
    fn update(&mut self, name: &Name, uid: Option<&str>, note: impl FnOnce(&mut Tracked, &Metrics)) {
        if let Some(tracked) = concerned(&mut self.images, name, uid) {
            note(tracked, &self.metrics);
            self.touch(name);
        }
    }
}

/// The image that news are about. One that was deleted meanwhile, and may have been created anew under its name, is none
/// of their business.
fn concerned<'a>(images: &'a mut HashMap<Name, Tracked>, name: &Name, uid: Option<&str>) -> Option<&'a mut Tracked> {
    images.get_mut(name).filter(|tracked| tracked.image.metadata.uid.as_deref() == uid)
}

fn set_timer(timers: &mut DelayQueue<Due>, name: &Name, tracked: &mut Tracked, at: Option<Instant>) {
    if let Some((key, _)) = tracked.timer.take() {
        timers.try_remove(&key);
    }
    tracked.timer = at.map(|at| (timers.insert_at(Due::Image(name.clone()), at), at));
}

#[cfg(test)]
mod tests;
