use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::breaker::Position;
use crate::legs::{Failure, Leg};
use crate::refusal::Kind;

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
    in_flight: Gauge<i64>,
    duration: Family<KindLabels, Histogram>,
    broken_off: Family<BrokenOffLabels, Counter>,
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BrokenOffLabels {
    by: &'static str,
}

/// Around what matters: a manifest from a near registry, the 2 s of the cache leg, an upstream across the world.
const FIRST_BYTE_SECONDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.0, 5.0, 15.0];

/// From a manifest in memory to a layer of gigabytes from far away.
const REQUEST_SECONDS: [f64; 11] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.0, 10.0, 30.0, 60.0, 180.0, 600.0];

impl Metrics {
    /// Registers them all. What is counted is there from the start, at 0, so that the first event is an increase.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            asked: Family::default(),
            served: Family::default(),
            bytes: Family::default(),
            first_byte: Family::new_with_constructor(|| Histogram::new(FIRST_BYTE_SECONDS)),
            mismatches: Family::default(),
            continued: Family::default(),
            breaker: Gauge::<i64, std::sync::atomic::AtomicI64>::default(),
            in_flight: Gauge::<i64, std::sync::atomic::AtomicI64>::default(),
            duration: Family::new_with_constructor(|| Histogram::new(REQUEST_SECONDS)),
            broken_off: Family::default(),
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
        proxy.register("requests_in_flight", "Requests of clients that have not ended", metrics.in_flight.clone());
        proxy.register_with_unit(
            "request_duration",
            "From a client's request to the last byte of its answer, where it was answered whole",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        proxy.register(
            "requests_broken_off",
            "Requests that ended before the last byte: left by the client, or cut by the proxy",
            metrics.broken_off.clone(),
        );
        metrics.begin();
        metrics
    }

    fn begin(&self) {
        for leg in [Leg::Cache, Leg::Upstream].map(Leg::as_str) {
            for outcome in Failure::ALL.map(Failure::as_str).into_iter().chain(["served"]) {
                drop(self.asked.get_or_create(&AskedLabels { leg, outcome }));
            }
            drop(self.served.get_or_create(&ServedLabels { served_by: leg, status: 200 }));
            let leg = LegLabels { leg };
            drop(self.bytes.get_or_create(&leg));
            drop(self.first_byte.get_or_create(&leg));
            drop(self.mismatches.get_or_create(&leg));
            drop(self.continued.get_or_create(&leg));
        }
        for status in [404, 429, 502] {
            drop(self.served.get_or_create(&ServedLabels { served_by: "nobody", status }));
        }
        for kind in [Kind::Manifest, Kind::Blob] {
            drop(self.duration.get_or_create(&KindLabels { kind: kind.as_str() }));
        }
        for by in ["client", "proxy"] {
            drop(self.broken_off.get_or_create(&BrokenOffLabels { by }));
        }
    }

    pub(crate) fn request_began(&self) {
        self.in_flight.inc();
    }

    pub(crate) fn request_ended(&self) {
        self.in_flight.dec();
    }

    pub(crate) fn answered_whole(&self, kind: Kind, took: Duration) {
        self.duration.get_or_create(&KindLabels { kind: kind.as_str() }).observe(took.as_secs_f64());
    }

    pub(crate) fn broken_off(&self, by: &'static str) {
        self.broken_off.get_or_create(&BrokenOffLabels { by }).inc();
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

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text;

    #[test]
    fn what_can_happen_to_a_pull_is_there_before_it_happens() {
        let mut registry = Registry::default();
        Metrics::register(&mut registry);
        let mut shown = String::new();
        text::encode(&mut shown, &registry).unwrap();
        for line in [
            r#"leg_requests_total{leg="cache",outcome="sick"} 0"#,
            r#"leg_requests_total{leg="upstream",outcome="rate_limited"} 0"#,
            r#"requests_total{served_by="nobody",status="502"} 0"#,
            r#"sent_bytes_total{leg="cache"} 0"#,
            r#"request_duration_seconds_count{kind="manifest"} 0"#,
            r#"requests_broken_off_total{by="proxy"} 0"#,
        ] {
            assert!(shown.contains(&format!("cache_registry_proxy_{line}\n")), "{line} is not in\n{shown}");
        }
    }
}
