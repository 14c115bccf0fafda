use std::time::Duration;

use cache_registry_core::Reason;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::collection::CollectionMetrics;
use crate::plan::Task;

/// What the controllers count.
#[derive(Debug, Clone)]
pub struct Metrics {
    leader: Gauge,
    images: Family<ByReason, Gauge>,
    held: Family<ByUse, Gauge>,
    max_size: Gauge,
    copies: Family<ByReason, Counter>,
    copy_duration: Histogram,
    copied_bytes: Counter,
    removals: Family<ByResult, Counter>,
    checks: Family<ByOutcome, Counter>,
    waiting: Family<ByTask, Gauge>,
    running: Family<ByTask, Gauge>,
    errors: Family<ByOperation, Counter>,
    pub(crate) collection: CollectionMetrics,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByUse {
    needed: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOperation {
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByTask {
    task: &'static str,
}

/// What the registry said when it was asked whether it still has an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// It has it.
    Found,
    /// It has it, without all that is wanted of it.
    Partial,
    /// It has it no more, or something else under its name.
    Lost,
    /// It said nothing that could be used.
    Failed,
}

impl Metrics {
    /// Registers everything, under `cache_registry_…`. What is counted is there from the start, at 0, so that the first
    /// event is an increase.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            leader: Gauge::default(),
            images: Family::default(),
            held: Family::default(),
            max_size: Gauge::default(),
            copies: Family::default(),
            // From a small image nearby to a large one from far away.
            copy_duration: Histogram::new([0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0]),
            copied_bytes: Counter::default(),
            removals: Family::default(),
            checks: Family::default(),
            waiting: Family::default(),
            running: Family::default(),
            errors: Family::default(),
            collection: CollectionMetrics::register(registry),
        };
        let Self {
            leader,
            images,
            held,
            max_size,
            copies,
            copy_duration,
            copied_bytes,
            removals,
            checks,
            waiting,
            running,
            errors,
            collection: _,
        } = metrics.clone();
        registry.register("cache_registry_leader", "1 on the replica that leads", leader);
        registry.register(
            "cache_registry_cached_images",
            "CachedImages by the reason of their condition Ready",
            images,
        );
        registry.register_with_unit(
            "cache_registry_cached_images_size",
            "What CachedImages hold in the registry, layers that they share counted for each; needed: in use, retained, or not known to be unused",
            Unit::Bytes,
            held,
        );
        registry.register_with_unit(
            "cache_registry_max_size",
            "What they may hold before unused ones go ahead of their time; 0 for any amount",
            Unit::Bytes,
            max_size,
        );
        registry.register("cache_registry_copies", "Copies that ended, by their outcome", copies);
        registry.register("cache_registry_copy_duration_seconds", "How long copies took that succeeded", copy_duration);
        registry.register(
            "cache_registry_copied_bytes",
            "Bytes sent to the registry by copies that succeeded",
            copied_bytes,
        );
        registry.register(
            "cache_registry_removals",
            "Tags taken away from the registry, and attempts at it that failed",
            removals,
        );
        registry.register(
            "cache_registry_checks",
            "Questions to the registry whether it still has an image, by its answer",
            checks,
        );
        registry.register(
            "cache_registry_tasks_waiting",
            "Copies and checks whose turn it is not yet, on the replica that leads",
            waiting,
        );
        registry.register(
            "cache_registry_tasks_running",
            "Copies and checks that run, on the replica that leads",
            running,
        );
        registry.register(
            "cache_registry_reconcile_errors",
            "Calls to the API server that failed, by operation",
            errors,
        );
        metrics.show_all();
        metrics
    }

    /// Has everything that can be counted show, at 0.
    fn show_all(&self) {
        for reason in Reason::ALL.into_iter().filter(|reason| *reason != Reason::Copying) {
            drop(self.copies.get_or_create(&ByReason { reason: reason.as_str() }));
        }
        for check in [Check::Found, Check::Partial, Check::Lost, Check::Failed] {
            drop(self.checks.get_or_create(&ByOutcome { outcome: check.as_str() }));
        }
        for result in ["removed", "failed"] {
            drop(self.removals.get_or_create(&ByResult { result }));
        }
        for operation in [
            "watch pods",
            "watch workloads",
            "watch cachedimages",
            "create",
            "status",
            "survey",
            "expire",
            "webhook_certificate",
        ] {
            drop(self.errors.get_or_create(&ByOperation { operation }));
        }
    }

    pub(crate) fn leading(&self, leading: bool) {
        self.leader.set(leading.into());
    }

    /// The number of images that stand so, as far as this replica knows.
    pub(crate) fn images(&self, reason: Reason) -> Gauge {
        self.images.get_or_create_owned(&ByReason { reason: reason.as_str() })
    }

    /// Begins to count images and tasks, at 0: this replica leads.
    pub(crate) fn begin(&self) {
        self.forget();
        for reason in Reason::ALL {
            drop(self.images.get_or_create(&ByReason { reason: reason.as_str() }));
        }
        self.holds(0, 0, None);
        for task in [Task::Copy, Task::Check] {
            self.queue(task, 0, 0);
        }
    }

    /// Forgets the images and tasks: whoever leads next counts them.
    pub(crate) fn forget(&self) {
        self.images.clear();
        self.held.clear();
        self.waiting.clear();
        self.running.clear();
    }

    /// How many bytes the registry holds of images that must stay, and of others.
    pub(crate) fn holds(&self, needed: u64, unneeded: u64, max: Option<u64>) {
        let count = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.held.get_or_create(&ByUse { needed: "true" }).set(count(needed));
        self.held.get_or_create(&ByUse { needed: "false" }).set(count(unneeded));
        self.max_size.set(count(max.unwrap_or(0)));
    }

    /// How many images wait for a task, and for how many it runs.
    pub(crate) fn queue(&self, task: Task, waiting: usize, running: usize) {
        let task = ByTask { task: task.as_str() };
        let count = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
        self.waiting.get_or_create(&task).set(count(waiting));
        self.running.get_or_create(&task).set(count(running));
    }

    pub(crate) fn checked(&self, check: Check) {
        self.checks.get_or_create(&ByOutcome { outcome: check.as_str() }).inc();
    }

    pub(crate) fn copied(&self, time: Duration, bytes: u64) {
        self.copies.get_or_create(&ByReason { reason: Reason::Cached.as_str() }).inc();
        self.copy_duration.observe(time.as_secs_f64());
        self.copied_bytes.inc_by(bytes);
    }

    pub(crate) fn copy_failed(&self, reason: Reason) {
        self.copies.get_or_create(&ByReason { reason: reason.as_str() }).inc();
    }

    pub(crate) fn removed(&self) {
        self.removals.get_or_create(&ByResult { result: "removed" }).inc();
    }

    pub(crate) fn removal_failed(&self) {
        self.removals.get_or_create(&ByResult { result: "failed" }).inc();
    }

    pub(crate) fn error(&self, operation: &'static str) {
        self.errors.get_or_create(&ByOperation { operation }).inc();
    }
}

impl Check {
    fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Partial => "partial",
            Self::Lost => "lost",
            Self::Failed => "failed",
        }
    }
}
