use std::collections::{BTreeSet, HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use cache_registry_api::{CachedImage, CachedImageStatus};
use cache_registry_core::{Location, NodeAddress, Reason, Reference};
use cache_registry_registry::Copied;
use cache_registry_runtime::Handle;
use futures::{Stream, StreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use kube::core::DeserializeGuard;
use kube_runtime::watcher::{self, Event};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::time::DelayQueue;

use crate::backoff::{pause, write_pause};
use crate::cluster::Cluster;
use crate::copier::{Copier, Found};
use crate::freshness::Freshness;
use crate::line::Line;
use crate::metrics::Metrics;
use crate::plan::{Action, Facts, Failure, Now, Standing, Task, plan, reason};
use crate::pod_sources::{Pod, PodSpec, PodStatus};
use crate::retention::Use;
use crate::survey::{Survey, SurveyError};
use crate::tracked::{Tracked, is_older};
use crate::usage::Usage;
use crate::workloads::{Kind, Workload};

mod expiry;
mod inventory;

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
    /// To see whether the registry still has what it had.
    Sample,
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
                    Due::Sample => self.sample(),
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

    fn pods_changed(&mut self, event: Event<DeserializeGuard<Pod>>) {
        let done = matches!(event, Event::InitDone);
        for source in self.usage.pods_changed(&readable_pod(event)) {
            for name in self.named.get(&source).cloned().unwrap_or_default() {
                self.touch_soon(&name);
            }
            self.ensure(&source);
        }
        if done {
            // Of those that no pod uses the status may still say otherwise.
            self.touch_all_soon();
            self.all_listed();
        }
    }

    fn workloads_changed(&mut self, kind: Kind, event: Event<DeserializeGuard<Workload>>) {
        let done = matches!(event, Event::InitDone);
        let changed = self.usage.workloads_changed(kind, &readable_workload(event));
        if done {
            self.touch_all_soon();
        } else if !changed.is_empty() {
            let uses = |tracked: &Tracked| tracked.names().any(|image| changed.contains(image));
            let touched: Vec<_> =
                self.images.iter().filter(|(_, tracked)| uses(tracked)).map(|(name, _)| name.clone()).collect();
            for name in touched {
                self.touch_soon(&name);
            }
        }
    }

    fn touch_all_soon(&mut self) {
        for name in self.images.keys().cloned().collect::<Vec<_>>() {
            self.touch_soon(&name);
        }
    }

    fn images_changed(&mut self, event: Event<DeserializeGuard<CachedImage>>) {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(image) => {
                self.listing.insert(image.name_any().into());
                self.appeared(image);
            }
            Event::InitDone => {
                let listing = std::mem::take(&mut self.listing);
                let gone: Vec<Name> = self.images.keys().filter(|name| !listing.contains(*name)).cloned().collect();
                for name in gone {
                    self.disappeared(&name);
                }
                self.listed = true;
                self.all_listed();
            }
            Event::Apply(image) => self.appeared(image),
            Event::Delete(image) => self.disappeared(&image.name_any()),
        }
    }

    /// Once all pods and all `CachedImage`s are known, it is known which are missing.
    fn all_listed(&mut self) {
        if self.listed && self.usage.knows_all_pods() {
            for source in self.usage.images_of_pods().cloned().collect::<Vec<_>>() {
                self.ensure(&source);
            }
            // Once: both are listed anew after each interruption.
            if self.ready.take().is_some() {
                self.take_inventory();
                self.sample();
            }
        }
    }

    fn appeared(&mut self, image: DeserializeGuard<CachedImage>) {
        let name: Name = image.name_any().into();
        let mut image = match image.0 {
            Ok(image) => image,
            Err(error) => {
                tracing::warn!(image = %name, %error, "this CachedImage can't be read and is left alone");
                self.forget(&name);
                return;
            }
        };
        image.metadata.managed_fields = None;
        match self.images.get_mut(&name) {
            Some(tracked) if tracked.image.metadata.uid == image.metadata.uid => {
                if !is_older(&image, &tracked.image) {
                    tracked.is_now(image);
                }
            }
            _ => {
                self.forget(&name);
                let source = image.spec.source_image.parse::<Reference>().ok();
                if let Some(source) = &source {
                    self.named.entry(source.clone()).or_default().insert(name.clone());
                }
                self.images.insert(name.clone(), Tracked::new(image, source));
            }
        }
        self.touch(&name);
    }

    fn disappeared(&mut self, name: &str) {
        let Some(source) = self.forget(name).map(Arc::new) else { return };
        if self.usage.has_pods(&source) {
            // Deleted while pods use it: they need it still.
            self.ensure(&source);
        } else if self.usage.knows_all_pods() {
            self.remove_tag(&source);
        }
    }

    fn forget(&mut self, name: &str) -> Option<Reference> {
        let tracked = self.images.remove(name)?;
        if let Some(running) = tracked.running {
            running.abort();
        }
        if let Some((key, _)) = tracked.timer {
            self.timers.try_remove(&key);
        }
        if let Some(reason) = tracked.counted {
            self.metrics.images(reason).dec();
        }
        let source = tracked.source?;
        if let Some(names) = self.named.get_mut(&source) {
            names.remove(name);
            if names.is_empty() {
                self.named.remove(&source);
            }
        }
        Some(source)
    }

    /// Creates the `CachedImage` of a source that pods use, unless there is one or it is on its way.
    fn ensure(&mut self, source: &Arc<Reference>) {
        let known = self.listed && self.usage.knows_all_pods();
        let there = self.named.contains_key(source) || self.creating.contains_key(source);
        if known && self.usage.has_pods(source) && !there {
            self.creating.insert(source.clone(), 0);
            self.create(source.clone());
        }
    }

    fn create(&mut self, source: Arc<Reference>) {
        let wanted = self.usage.has_pods(&source) || self.adopting.contains(&source);
        if !wanted || self.named.contains_key(&source) {
            self.creating.remove(&source);
            self.adopting.remove(&source);
            return;
        }
        let cluster = self.cluster.clone();
        self.tasks.spawn(async move {
            let outcome = cluster.create(&source).await;
            Done::Created { source, outcome }
        });
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

    fn start(&mut self, name: &Name, task: Task) {
        let Some(tracked) = self.images.get_mut(name) else { return };
        // What is being taken away from its place must not be found there: it goes on when that is done.
        if tracked.source.as_ref().is_some_and(|source| self.removing.contains_key(&Location::of(source))) {
            return;
        }
        let line = match task {
            Task::Copy | Task::Update => &mut self.copies,
            Task::Check => &mut self.checks,
            Task::Ask => &mut self.asks,
        };
        match task {
            Task::Copy => tracked.standing = Standing::Waiting,
            Task::Check => tracked.standing = Standing::Checking,
            Task::Ask => tracked.freshness = Freshness::Asking,
            Task::Update => tracked.freshness = Freshness::Waiting,
        }
        // What pods wait for goes before what some workload may want one day.
        let has_pods = tracked.source.as_ref().is_some_and(|source| self.usage.has_pods(source));
        line.join(name.clone(), has_pods);
        self.start_next();
        self.settle(name);
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
        let facts = Facts {
            standing: &tracked.standing,
            used_by: tracked.source.as_ref().and_then(|source| self.usage.used_by(source, &tracked.originals)),
            used: tracked.source.as_ref().map_or(Use::Unknown, |source| self.usage.of(source, &tracked.originals)),
            originals: tracked
                .source
                .iter()
                .flat_map(|source| self.usage.originals(source))
                .map(str::to_owned)
                .collect(),
            expiry_delay: self.expiry_delay,
            may_expire: !tracked.expiring && tracked.expire_after.is_none_or(|after| after <= now.instant),
            freshness: &tracked.freshness,
            update_interval: self.update_interval,
            quiet_until: tracked.source.as_ref().and_then(|source| self.quiet.get(source.registry())).copied(),
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

    /// Starts the tasks whose turn it is.
    fn start_next(&mut self) {
        while let Some(name) = self.copies.next() {
            // It may have been deleted while it waited.
            let Some(tracked) = self.images.get_mut(&name) else { continue };
            let Some(source) = tracked.source.clone() else { continue };
            let is_quiet = self.quiet.get(source.registry()).is_some_and(|until| *until > Instant::now());
            let task = match (&tracked.standing, &tracked.freshness) {
                (Standing::Waiting, _) => Task::Copy,
                (_, Freshness::Waiting) => Task::Update,
                _ => continue,
            };
            match task {
                Task::Update => tracked.freshness = if is_quiet { Freshness::Moved } else { Freshness::Copying },
                _ => tracked.standing = if is_quiet { Standing::Missing } else { Standing::Copying },
            }
            if is_quiet {
                self.settle(&name);
                continue;
            }
            let (copier, uid, image) = (self.copier.clone(), tracked.image.uid(), name.clone());
            let running = self.tasks.spawn(async move {
                let began = Instant::now();
                let outcome = copier.copy(&source).await;
                Done::Copied { task, name: image, uid, time: began.elapsed(), outcome }
            });
            self.copies.started(running.id());
            tracked.running = Some(running);
            self.settle(&name);
        }
        while let Some(name) = self.checks.next() {
            let waits = |tracked: &&mut Tracked| tracked.standing == Standing::Checking && tracked.running.is_none();
            let Some(tracked) = self.images.get_mut(&name).filter(waits) else { continue };
            let Some(source) = tracked.source.clone() else { continue };
            let (copier, uid) = (self.copier.clone(), tracked.image.uid());
            let running = self.tasks.spawn(async move {
                let outcome = copier.find(&source).await;
                Done::Checked { name, uid, outcome }
            });
            self.checks.started(running.id());
            tracked.running = Some(running);
        }
        while let Some(name) = self.asks.next() {
            let waits = |tracked: &&mut Tracked| tracked.freshness == Freshness::Asking && tracked.running.is_none();
            let Some(tracked) = self.images.get_mut(&name).filter(waits) else { continue };
            let Some(source) = tracked.source.clone() else { continue };
            let (copier, uid) = (self.copier.clone(), tracked.image.uid());
            let running = self.tasks.spawn(async move {
                let outcome = copier.ask(&source).await;
                Done::Asked { name, uid, outcome }
            });
            self.asks.started(running.id());
            tracked.running = Some(running);
        }
        let lines = [(Task::Copy, &self.copies), (Task::Check, &self.checks), (Task::Ask, &self.asks)];
        for (task, line) in lines {
            self.metrics.queue(task, line.waiting(), line.running());
        }
    }

    fn next_in_line(&mut self, ended: Id) {
        self.copies.ended(ended);
        self.checks.ended(ended);
        self.asks.ended(ended);
        self.start_next();
    }

    fn ended(&mut self, task: Id, done: Done) {
        match done {
            Done::Copied { task, name, uid, time, outcome } => {
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
        }
        self.next_in_line(task);
    }

    /// An upstream that asks for time gets it from all images: its limit is one for all of them.
    fn leave_alone(&mut self, name: &Name, failure: Option<&Failure>) {
        let Some(failure) = failure.filter(|failure| failure.reason == Reason::RateLimited) else { return };
        let Some(source) = self.images.get(name).and_then(|tracked| tracked.source.as_ref()) else { return };
        let until = Instant::now() + pause(failure.reason, 1, failure.retry_after, fastrand::f64());
        let registry = source.registry().to_owned();
        self.quiet.entry(registry).and_modify(|known| *known = until.max(*known)).or_insert(until);
    }

    /// Notes something about an image, and goes on from there. One that was deleted meanwhile, and may have been created
    /// anew under its name, is none of the news' business.
    fn update(&mut self, name: &Name, uid: Option<&str>, note: impl FnOnce(&mut Tracked, &Metrics)) {
        if let Some(tracked) = self.images.get_mut(name).filter(|tracked| tracked.image.metadata.uid.as_deref() == uid)
        {
            note(tracked, &self.metrics);
            self.touch(name);
        }
    }

    fn created(&mut self, source: Arc<Reference>, outcome: Result<(), kube::Error>) {
        match outcome {
            Ok(()) => {
                self.creating.remove(&source);
                self.adopting.remove(&source);
            }
            Err(error) => {
                let failures = self.creating.entry(source.clone()).or_default();
                *failures += 1;
                self.metrics.error("create");
                tracing::warn!(image = %source, %error, "the CachedImage can't be created; trying on. May this ServiceAccount create CachedImages?");
                let pause = write_pause(*failures, fastrand::f64());
                self.timers.insert(Due::Source(source), pause);
            }
        }
    }
}

fn set_timer(timers: &mut DelayQueue<Due>, name: &Name, tracked: &mut Tracked, at: Option<Instant>) {
    if let Some((key, _)) = tracked.timer.take() {
        timers.try_remove(&key);
    }
    tracked.timer = at.map(|at| (timers.insert_at(Due::Image(name.clone()), at), at));
}

/// A pod that can't be read uses nothing that could be seen. Before anything is removed, it is in the way.
fn readable_pod(event: Event<DeserializeGuard<Pod>>) -> Event<Pod> {
    readable(event, |metadata| Pod { metadata, spec: PodSpec::default(), status: PodStatus::default() })
}

fn readable_workload(event: Event<DeserializeGuard<Workload>>) -> Event<Workload> {
    readable(event, Workload::without_images)
}

fn readable<K>(event: Event<DeserializeGuard<K>>, without_images: impl Fn(ObjectMeta) -> K) -> Event<K> {
    let read = |object: DeserializeGuard<K>| {
        object.0.unwrap_or_else(|invalid| {
            let (namespace, name) = (&invalid.metadata.namespace, &invalid.metadata.name);
            tracing::warn!(
                namespace,
                name,
                error = invalid.error,
                "this object can't be read; its images are not seen"
            );
            without_images(invalid.metadata)
        })
    };
    match event {
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(read(object)),
        Event::InitDone => Event::InitDone,
        Event::Apply(object) => Event::Apply(read(object)),
        Event::Delete(object) => Event::Delete(read(object)),
    }
}

#[cfg(test)]
mod tests;
