use cache_registry_core::{Location, Reason};
use kube::ResourceExt as _;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use super::{Done, Name, Reconciler};
use crate::backoff::pause;
use crate::copier::Copier;
use crate::freshness::Freshness;
use crate::line::Line;
use crate::plan::{Failure, Standing, Task};
use crate::tracked::Tracked;

/// Copies, checks and questions: which of them wait, and which run.
impl<C: Copier> Reconciler<C> {
    pub(super) fn start(&mut self, name: &Name, task: Task) {
        let Some(tracked) = self.images.get_mut(name) else { return };
        // What is being taken away from its place must not be found there: it goes on when that is done.
        if tracked.source.as_ref().is_some_and(|source| self.removing.contains_key(&Location::of(source))) {
            return;
        }
        let line = match task {
            Task::Copy => {
                tracked.standing = Standing::Waiting;
                &mut self.copies
            }
            Task::Update => {
                tracked.freshness = Freshness::Waiting;
                &mut self.copies
            }
            Task::Check => {
                tracked.standing = Standing::Checking;
                &mut self.checks
            }
            Task::Ask => {
                tracked.freshness = Freshness::Asking;
                &mut self.asks
            }
        };
        // What pods wait for goes before what some workload may want one day.
        let has_pods = tracked.source.as_ref().is_some_and(|source| self.usage.has_pods(source));
        line.join(name.clone(), has_pods);
        self.start_next();
        self.settle(name);
    }

    /// Starts the tasks whose turn it is.
    pub(super) fn start_next(&mut self) {
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
            let secrets = self.usage.pull_secrets(&source, &tracked.originals);
            tracked.tried_with.clone_from(&secrets);
            run(&mut self.tasks, &mut self.copies, tracked, async move {
                let began = Instant::now();
                let outcome = copier.copy(&source, &secrets).await;
                Done::Copied { task, name: image, uid, time: began.elapsed(), outcome }
            });
            self.settle(&name);
        }
        while let Some(name) = self.checks.next() {
            let waits = |tracked: &&mut Tracked| tracked.standing == Standing::Checking && tracked.running.is_none();
            let Some(tracked) = self.images.get_mut(&name).filter(waits) else { continue };
            let Some(source) = tracked.source.clone() else { continue };
            let (copier, uid) = (self.copier.clone(), tracked.image.uid());
            run(&mut self.tasks, &mut self.checks, tracked, async move {
                let outcome = copier.find(&source).await;
                Done::Checked { name, uid, outcome }
            });
        }
        while let Some(name) = self.asks.next() {
            let waits = |tracked: &&mut Tracked| tracked.freshness == Freshness::Asking && tracked.running.is_none();
            let Some(tracked) = self.images.get_mut(&name).filter(waits) else { continue };
            let Some(source) = tracked.source.clone() else { continue };
            let (copier, uid) = (self.copier.clone(), tracked.image.uid());
            let secrets = self.usage.pull_secrets(&source, &tracked.originals);
            run(&mut self.tasks, &mut self.asks, tracked, async move {
                let outcome = copier.ask(&source, &secrets).await;
                Done::Asked { name, uid, outcome }
            });
        }
        let lines = [(Task::Copy, &self.copies), (Task::Check, &self.checks), (Task::Ask, &self.asks)];
        for (task, line) in lines {
            self.metrics.queue(task, line.waiting(), line.running());
        }
    }

    pub(super) fn next_in_line(&mut self, ended: Id) {
        self.copies.ended(ended);
        self.checks.ended(ended);
        self.asks.ended(ended);
        self.start_next();
    }

    /// An upstream that asks for time gets it from all images: its limit is one for all of them.
    pub(super) fn leave_alone(&mut self, name: &Name, failure: Option<&Failure>) {
        let Some(failure) = failure.filter(|failure| failure.reason == Reason::RateLimited) else { return };
        let Some(source) = self.images.get(name).and_then(|tracked| tracked.source.as_ref()) else { return };
        let until = Instant::now() + pause(failure.reason, 1, failure.retry_after, fastrand::f64());
        let registry = source.registry().to_owned();
        self.quiet.entry(registry).and_modify(|known| *known = until.max(*known)).or_insert(until);
    }
}

/// Lets a task of an image run, out of the line in which it has waited.
fn run(
    tasks: &mut JoinSet<Done>,
    line: &mut Line,
    tracked: &mut Tracked,
    task: impl Future<Output = Done> + Send + 'static,
) {
    let running = tasks.spawn(task);
    line.started(running.id());
    tracked.running = Some(running);
}
