use cache_registry_api::CollectionReport;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What is counted of garbage collections, on the replica that leads; what the last run found is 0 before the first.
#[derive(Debug, Clone, Default)]
pub(crate) struct CollectionMetrics {
    under_way: Gauge,
    ended: Gauge,
    seconds: Gauge,
    freed_bytes: Gauge,
    freed_blobs: Gauge,
    kept_bytes: Gauge,
    kept_blobs: Gauge,
    restored: Counter,
}

impl CollectionMetrics {
    /// Registers everything, under `cache_registry_gc_…`.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let Self { under_way, ended, seconds, freed_bytes, freed_blobs, kept_bytes, kept_blobs, restored } =
            metrics.clone();
        let registry = registry.sub_registry_with_prefix("cache_registry_gc");
        registry.register("under_way", "1 while the registry is stopped for a garbage collection", under_way);
        registry.register(
            "last_success_timestamp_seconds",
            "When the registry was put back after the last garbage collection that succeeded",
            ended,
        );
        registry.register("last_duration_seconds", "How long it was away for that", seconds);
        registry.register(
            "last_freed_bytes",
            "Bytes that were removed then; of a bucket nobody tells, and it stays 0",
            freed_bytes,
        );
        registry.register("last_freed_blobs", "Blobs that were removed then", freed_blobs);
        registry.register("last_kept_bytes", "Bytes that were left then, on a volume", kept_bytes);
        registry.register("last_kept_blobs", "Blobs that were left then, on a volume", kept_blobs);
        registry.register(
            "restores",
            "Runs that did not end themselves, after which the registry was put back",
            restored,
        );
        metrics
    }

    pub(crate) fn under_way(&self, under_way: bool) {
        self.under_way.set(under_way.into());
    }

    pub(crate) fn last(&self, report: &CollectionReport) {
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.ended.set(report.ended.as_second());
        self.seconds.set(count(report.seconds));
        self.freed_bytes.set(count(report.freed_bytes.unwrap_or_default()));
        self.freed_blobs.set(count(report.freed_blobs));
        self.kept_bytes.set(count(report.kept_bytes.unwrap_or_default()));
        self.kept_blobs.set(count(report.kept_blobs.unwrap_or_default()));
    }

    /// Whoever leads next tells.
    pub(crate) fn forget(&self) {
        let Self { under_way, ended, seconds, freed_bytes, freed_blobs, kept_bytes, kept_blobs, restored: _ } = self;
        for gauge in [under_way, ended, seconds, freed_bytes, freed_blobs, kept_bytes, kept_blobs] {
            gauge.set(0);
        }
    }

    pub(crate) fn restored(&self) {
        self.restored.inc();
    }
}
