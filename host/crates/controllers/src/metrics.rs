use std::time::Duration;

use cache_registry_core::Reason;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::collection::CollectionMetrics;

/// What the controllers count.
#[derive(Debug, Clone)]
pub struct Metrics {
    leader: Gauge,
    images: Family<ByReason, Gauge>,
    copies: Family<ByReason, Counter>,
    copy_duration: Histogram,
    copied_bytes: Counter,
    errors: Family<ByOperation, Counter>,
    pub(crate) collection: CollectionMetrics,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOperation {
    operation: &'static str,
}

impl Metrics {
    /// Registers everything, under `cache_registry_…`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            leader: Gauge::default(),
            images: Family::default(),
            copies: Family::default(),
            // From a small image nearby to a large one from far away.
            copy_duration: Histogram::new([0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0]),
            copied_bytes: Counter::default(),
            errors: Family::default(),
            collection: CollectionMetrics::register(registry),
        };
        let Self { leader, images, copies, copy_duration, copied_bytes, errors, .. } = metrics.clone();
        registry.register("cache_registry_leader", "1 on the replica that leads", leader);
        registry.register(
            "cache_registry_cached_images",
            "CachedImages by the reason of their condition Ready",
            images,
        );
        registry.register("cache_registry_copies", "Copies that ended, by their outcome", copies);
        registry.register("cache_registry_copy_duration_seconds", "How long copies took that succeeded", copy_duration);
        registry.register(
            "cache_registry_copied_bytes",
            "Bytes sent to the registry by copies that succeeded",
            copied_bytes,
        );
        registry.register(
            "cache_registry_reconcile_errors",
            "Calls to the API server that failed, by operation",
            errors,
        );
        metrics
    }

    pub(crate) fn leading(&self, leading: bool) {
        self.leader.set(leading.into());
    }

    /// The number of images that stand so, as far as this replica knows.
    pub(crate) fn images(&self, reason: Reason) -> Gauge {
        self.images.get_or_create_owned(&ByReason { reason: reason.as_str() })
    }

    /// Forgets the images: whoever leads next counts them.
    pub(crate) fn forget_images(&self) {
        self.images.clear();
    }

    pub(crate) fn copied(&self, time: Duration, bytes: u64) {
        self.copies.get_or_create(&ByReason { reason: Reason::Cached.as_str() }).inc();
        self.copy_duration.observe(time.as_secs_f64());
        self.copied_bytes.inc_by(bytes);
    }

    pub(crate) fn copy_failed(&self, reason: Reason) {
        self.copies.get_or_create(&ByReason { reason: reason.as_str() }).inc();
    }

    pub(crate) fn error(&self, operation: &'static str) {
        self.errors.get_or_create(&ByOperation { operation }).inc();
    }
}
