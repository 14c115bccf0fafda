use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

use crate::Status;

/// What is counted of policies' `ConfigMap`s.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    reloads: Family<ByOutcome, Counter>,
    swapped: Gauge,
    watch_errors: Counter,
}

/// A closed set: `loaded`, `off` and the reasons of refusals.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

impl Metrics {
    /// Registers everything, under `cache_registry_polic…`. How many policies there are is read from `status`.
    pub(crate) fn register(registry: &mut Registry, status: &Status) -> Self {
        let metrics = Self { reloads: Family::default(), swapped: Gauge::default(), watch_errors: Counter::default() };
        registry.register(
            "cache_registry_policy_reloads",
            "Versions of policies' ConfigMaps and of their images, by what became of them",
            metrics.reloads.clone(),
        );
        registry.register_with_unit(
            "cache_registry_policies_changed_timestamp",
            "When the set in force was last replaced, in seconds since 1970",
            Unit::Seconds,
            metrics.swapped.clone(),
        );
        registry.register(
            "cache_registry_policy_watch_errors",
            "How often the watch of the policies' ConfigMaps failed",
            metrics.watch_errors.clone(),
        );
        registry.register_collector(Box::new(Counted(status.clone())));
        metrics
    }

    pub(crate) fn reloaded(&self, outcome: &'static str) {
        self.reloads.get_or_create(&ByOutcome { outcome }).inc();
    }

    pub(crate) fn swapped(&self) {
        self.swapped.set(Timestamp::now().as_second());
    }

    pub(crate) fn watch_failed(&self) {
        self.watch_errors.inc();
    }
}

/// Counts policies when it is asked, because they begin and cease to fail without a word.
#[derive(Debug)]
struct Counted(Status);

impl Collector for Counted {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut encoder = encoder.encode_descriptor(
            "cache_registry_policies",
            "Policies by state: in-force, of which some are failing; and those of which the newest version is refused",
            None,
            MetricType::Gauge,
        )?;
        for (state, count) in self.0.counts() {
            ConstGauge::new(count).encode(encoder.encode_family(&[("state", state)])?)?;
        }
        Ok(())
    }
}
