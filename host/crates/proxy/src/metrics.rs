use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::breaker::Position;
use crate::legs::{Failure, Leg};

/// What the proxy counts.
#[derive(Debug, Clone)]
pub struct Metrics {
    asked: Family<AskedLabels, Counter>,
    served: Family<ServedLabels, Counter>,
    bytes: Family<LegLabels, Counter>,
    first_byte: Family<LegLabels, Histogram>,
    mismatches: Family<LegLabels, Counter>,
    continued: Family<LegLabels, Counter>,
    breaker: Gauge<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AskedLabels {
    leg: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServedLabels {
    served_by: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LegLabels {
    leg: &'static str,
}

/// Around what matters: a manifest from a near registry, the 2 s of the cache leg, an upstream across the world.
const FIRST_BYTE_SECONDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.0, 5.0, 15.0];

impl Metrics {
    /// Registers them all.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            asked: Family::default(),
            served: Family::default(),
            bytes: Family::default(),
            first_byte: Family::new_with_constructor(|| Histogram::new(FIRST_BYTE_SECONDS)),
            mismatches: Family::default(),
            continued: Family::default(),
            breaker: Gauge::<i64, std::sync::atomic::AtomicI64>::default(),
        };
        let proxy = registry.sub_registry_with_prefix("cache_registry_proxy");
        proxy.register(
            "leg_requests",
            "Requests to the cache and to upstreams, by what came of them",
            metrics.asked.clone(),
        );
        proxy.register("requests", "Requests of clients, by who served them", metrics.served.clone());
        proxy.register_with_unit("sent", "Bytes of bodies sent to clients", Unit::Bytes, metrics.bytes.clone());
        proxy.register_with_unit(
            "first_byte",
            "From asking a leg to the headers of its answer",
            Unit::Seconds,
            metrics.first_byte.clone(),
        );
        proxy.register(
            "digest_mismatches",
            "Bodies whose bytes were not the ones asked for",
            metrics.mismatches.clone(),
        );
        proxy.register(
            "bodies_continued",
            "Bodies that another leg finished, by the leg that failed",
            metrics.continued.clone(),
        );
        proxy.register("breaker_state", "Of the cache: 0 in use, 1 being probed, 2 left out", metrics.breaker.clone());
        metrics
    }

    pub(crate) fn leg_answered(&self, leg: Leg, took: Duration) {
        self.asked.get_or_create(&AskedLabels { leg: leg.as_str(), outcome: "served" }).inc();
        self.first_byte.get_or_create(&LegLabels { leg: leg.as_str() }).observe(took.as_secs_f64());
    }

    pub(crate) fn leg_failed(&self, leg: Leg, failure: Failure) {
        self.asked.get_or_create(&AskedLabels { leg: leg.as_str(), outcome: failure.as_str() }).inc();
    }

    pub(crate) fn served(&self, served_by: &'static str, status: u16) {
        self.served.get_or_create(&ServedLabels { served_by, status }).inc();
    }

    pub(crate) fn sent(&self, leg: Leg, bytes: u64) {
        self.bytes.get_or_create(&LegLabels { leg: leg.as_str() }).inc_by(bytes);
    }

    pub(crate) fn mismatch(&self, leg: Leg) {
        self.mismatches.get_or_create(&LegLabels { leg: leg.as_str() }).inc();
    }

    pub(crate) fn continued(&self, failed: Leg) {
        self.continued.get_or_create(&LegLabels { leg: failed.as_str() }).inc();
    }

    pub(crate) fn breaker(&self, position: Position) {
        self.breaker.set(match position {
            Position::Closed => 0,
            Position::HalfOpen => 1,
            Position::Open => 2,
        });
    }
}
