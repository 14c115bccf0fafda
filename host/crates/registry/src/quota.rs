use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::Connections;

/// How many pulls a registry allows, as it tells with its answers
/// (<https://docs.docker.com/docker-hub/usage/pulls/>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// Within the window.
    pub limit: u64,
    /// What is left of them.
    pub remaining: Option<u64>,
    /// How long the window is.
    pub window: Option<Duration>,
    /// For whom it counts: an address, or an account.
    pub source: Option<String>,
}

/// What there is to be told of is bounded, whatever hosts the pods name.
const MOST_REGISTRIES: usize = 32;

/// A text of a registry's that is passed on.
const LONGEST_SOURCE: usize = 64;

impl Quota {
    /// Reads `ratelimit-limit: 100;w=21600`, `ratelimit-remaining: 76;w=21600` and `docker-ratelimit-source`.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let (limit, window) = counted(text("ratelimit-limit")?)?;
        let remaining = text("ratelimit-remaining").and_then(counted);
        let source = text("docker-ratelimit-source").filter(|source| !source.is_empty());
        let source = source.map(|source| source.chars().take(LONGEST_SOURCE).collect());
        Some(Self {
            limit,
            remaining: remaining.map(|(remaining, _)| remaining),
            window: window.or_else(|| remaining?.1),
            source,
        })
    }
}

/// A number, and behind it, maybe, the length of a window in seconds.
fn counted(text: &str) -> Option<(u64, Option<Duration>)> {
    let mut parts = text.split([';', ',']).map(str::trim);
    let number = parts.next()?.parse().ok()?;
    let window = parts.find_map(|part| part.strip_prefix("w=")?.parse().ok()).map(Duration::from_secs);
    Some((number, window))
}

impl fmt::Display for Quota {
    /// `It allows 100 pulls in 6h, 0 of which are left for 203.0.113.7.`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "It allows {} pulls", self.limit)?;
        if let Some(window) = self.window {
            match window.as_secs() {
                seconds if seconds >= 3_600 && seconds.is_multiple_of(3_600) => write!(f, " in {}h", seconds / 3_600)?,
                seconds => write!(f, " in {seconds}s")?,
            }
        }
        if let Some(remaining) = self.remaining {
            write!(f, ", {remaining} of which are left")?;
        }
        if let Some(source) = &self.source {
            write!(f, " for {source}")?;
        }
        f.write_str(".")
    }
}

/// What each registry said last.
#[derive(Debug, Default)]
pub(crate) struct Quotas(Mutex<BTreeMap<Arc<str>, Quota>>);

impl Quotas {
    pub(crate) fn note(&self, registry: &Arc<str>, headers: &HeaderMap) {
        let Some(quota) = Quota::of(headers) else { return };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MOST_REGISTRIES || known.contains_key(registry) {
            known.insert(Arc::clone(registry), quota);
        }
    }

    pub(crate) fn all(&self) -> BTreeMap<Arc<str>, Quota> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Shows what upstream registries allow, for those that tell.
#[derive(Debug)]
pub struct QuotaMetrics(pub Connections);

impl Collector for QuotaMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let quotas = self.0.quotas();
        let mut gauge = |name, help, value: &dyn Fn(&Quota) -> Option<u64>| -> fmt::Result {
            let told: Vec<_> = quotas.iter().filter_map(|(registry, quota)| Some((registry, value(quota)?))).collect();
            if told.is_empty() {
                return Ok(());
            }
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (registry, value) in told {
                let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
                value.encode(family.encode_family(&[("registry", &**registry)])?)?;
            }
            Ok(())
        };
        gauge("cache_registry_upstream_pull_limit", "Pulls that an upstream registry allows, as it says", &|quota| {
            Some(quota.limit)
        })?;
        gauge("cache_registry_upstream_pulls_left", "What is left of them, as it said last", &|quota| quota.remaining)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Registry;
    use rstest::rstest;

    fn headers(limit: &str, remaining: &str, source: &str) -> HeaderMap {
        let all = [("ratelimit-limit", limit), ("ratelimit-remaining", remaining), ("docker-ratelimit-source", source)];
        let given = all.into_iter().filter(|(_, value)| !value.is_empty());
        given.map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[rstest]
    #[case(
        "100;w=21600",
        "0;w=21600",
        "203.0.113.7",
        "It allows 100 pulls in 6h, 0 of which are left for 203.0.113.7."
    )]
    #[case("100;w=90", "76;w=90", "", "It allows 100 pulls in 90s, 76 of which are left.")]
    #[case("200", "", "", "It allows 200 pulls.")]
    #[case("200", "many", "", "It allows 200 pulls.")]
    fn a_quota_is_told(#[case] limit: &str, #[case] remaining: &str, #[case] source: &str, #[case] expected: &str) {
        assert_eq!(Quota::of(&headers(limit, remaining, source)).unwrap().to_string(), expected);
    }

    #[rstest]
    #[case("")]
    #[case("none")]
    #[case("-1;w=2")]
    fn what_is_no_number_is_no_quota(#[case] limit: &str) {
        assert_eq!(Quota::of(&headers(limit, "1", "x")), None);
    }

    #[test]
    fn of_many_registries_only_some_are_kept() {
        let quotas = Quotas::default();
        for number in 0..100 {
            quotas.note(&format!("r{number}.example").into(), &headers("100", "1", ""));
        }
        quotas.note(&"r0.example".into(), &headers("100", "0", ""));
        assert_eq!(quotas.all().len(), MOST_REGISTRIES);
        assert_eq!(quotas.all()["r0.example"].remaining, Some(0));
    }

    #[test]
    fn metrics_show_what_was_said_last() {
        let connections = Connections::new(crate::Registries::default(), crate::Timeouts::default()).unwrap();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(QuotaMetrics(connections.clone())));
        let shown = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        assert_eq!(shown(), "# EOF\n");
        connections.note_quota(&"docker.io".into(), &headers("100;w=21600", "76;w=21600", ""));
        for line in [
            "cache_registry_upstream_pull_limit{registry=\"docker.io\"} 100\n",
            "cache_registry_upstream_pulls_left{registry=\"docker.io\"} 76\n",
        ] {
            assert!(shown().contains(line), "{}", shown());
        }
    }
}
