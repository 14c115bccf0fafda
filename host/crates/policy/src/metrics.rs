use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::failure::Cause;

/// What is counted of policies. The labels are the names of policies in the set in force and a closed set of causes.
#[derive(Debug, Clone)]
pub struct Metrics {
    duration: Family<PolicyLabel, Histogram, fn() -> Histogram>,
    failures: Family<FailureLabels, Counter>,
    failing: Family<PolicyLabel, Gauge>,
    busy: Counter,
}

/// What is counted of one policy. It can outlive the policy's place in the metrics, and then counts for nobody.
#[derive(Debug)]
pub(crate) struct Meters {
    pub(crate) duration: Histogram,
    failures: [Counter; Cause::ALL.len()],
    pub(crate) failing: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PolicyLabel {
    policy: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    policy: String,
    cause: Cause,
}

impl Metrics {
    /// Registers `cache_registry_policy_duration_seconds{policy}`, `cache_registry_policy_failures_total{policy,cause}`,
    /// `cache_registry_policy_failing{policy}` and `cache_registry_policy_busy_total`.
    pub fn register(registry: &mut Registry) -> Self {
        // From 10 µs, what a small policy takes, to 160 ms, which is beyond the time that policies are given.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(1e-5, 2.0, 15));
        let metrics = Self {
            duration: Family::new_with_constructor(histogram),
            failures: Family::default(),
            failing: Family::default(),
            busy: Counter::default(),
        };
        registry.register_with_unit(
            "cache_registry_policy_duration",
            "Time that one policy took for one request, over all of its containers, with what it waited for a core",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        registry.register(
            "cache_registry_policy_failures",
            "Images about which a policy failed, which leaves them alone unless the next policy is to be asked",
            metrics.failures.clone(),
        );
        registry.register(
            "cache_registry_policy_failing",
            "1 for a policy that failed in the last ten requests or more, else 0",
            metrics.failing.clone(),
        );
        registry.register(
            "cache_registry_policy_busy",
            "Requests whose images were left alone because policies could not be asked, or had too little of the processor",
            metrics.busy.clone(),
        );
        metrics
    }

    /// The meters of a policy, at 0 where they are new.
    pub(crate) fn of(&self, policy: &str) -> Meters {
        let label = PolicyLabel { policy: policy.to_owned() };
        Meters {
            duration: self.duration.get_or_create_owned(&label),
            failures: Cause::ALL
                .map(|cause| self.failures.get_or_create_owned(&FailureLabels { policy: policy.to_owned(), cause })),
            failing: self.failing.get_or_create_owned(&label),
        }
    }

    /// No more of a policy is shown.
    pub(crate) fn forget(&self, policy: &str) {
        let label = PolicyLabel { policy: policy.to_owned() };
        self.duration.remove(&label);
        self.failing.remove(&label);
        for cause in Cause::ALL {
            self.failures.remove(&FailureLabels { policy: policy.to_owned(), cause });
        }
    }

    pub(crate) fn busy(&self) {
        self.busy.inc();
    }
}

impl Meters {
    pub(crate) fn failed(&self, cause: Cause) {
        self.failures[cause as usize].inc();
    }
}

impl EncodeLabelValue for Cause {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.as_str().encode(encoder)
    }
}
