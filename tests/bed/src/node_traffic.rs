use std::collections::BTreeMap;
use std::fmt;

/// What a node's proxy sent, by who it came from: the difference of two looks at its metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeTraffic {
    requests: BTreeMap<String, u64>,
    bytes: BTreeMap<String, u64>,
    mismatches: BTreeMap<String, u64>,
}

impl NodeTraffic {
    /// Reads the text of the proxy's metrics
    /// ([OpenMetrics](https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md)).
    pub(crate) fn read(metrics: &str) -> Self {
        let mut traffic = Self::default();
        for line in metrics.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<u64>() else { continue };
            let Some((name, labels)) = series.split_once('{') else { continue };
            let (map, label) = match name {
                "cache_registry_proxy_requests_total" => (&mut traffic.requests, "served_by"),
                "cache_registry_proxy_sent_bytes_total" => (&mut traffic.bytes, "leg"),
                "cache_registry_proxy_digest_mismatches_total" => (&mut traffic.mismatches, "leg"),
                _ => continue,
            };
            if let Some(who) = value_of(labels, label) {
                *map.entry(who.to_owned()).or_default() += value;
            }
        }
        traffic
    }

    /// What came after `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let less = |now: &BTreeMap<String, u64>, then: &BTreeMap<String, u64>| {
            let differences = now.iter().map(|(who, n)| (who.clone(), n - then.get(who).copied().unwrap_or(0).min(*n)));
            differences.filter(|(_, n)| *n > 0).collect()
        };
        Self {
            requests: less(&self.requests, &before.requests),
            bytes: less(&self.bytes, &before.bytes),
            mismatches: less(&self.mismatches, &before.mismatches),
        }
    }

    /// Requests that were answered from there: `cache`, `upstream`.
    pub fn requests(&self, who: &str) -> u64 {
        self.requests.get(who).copied().unwrap_or(0)
    }

    /// Bodies from there that were not what was asked for.
    pub fn mismatches(&self, who: &str) -> u64 {
        self.mismatches.get(who).copied().unwrap_or(0)
    }

    /// Bytes that came from there.
    pub fn bytes(&self, who: &str) -> u64 {
        self.bytes.get(who).copied().unwrap_or(0)
    }
}

impl fmt::Display for NodeTraffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (who, requests)) in self.requests.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{requests} answers with {} bytes from {who}", self.bytes(who))?;
        }
        Ok(())
    }
}

fn value_of<'a>(labels: &'a str, label: &str) -> Option<&'a str> {
    let (_, rest) = labels.split_once(&format!("{label}=\""))?;
    Some(rest.split_once('"')?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = concat!(
        "# TYPE cache_registry_proxy_requests counter\n",
        "cache_registry_proxy_requests_total{served_by=\"cache\",status=\"200\"} 2\n",
    );
    const AFTER: &str = concat!(
        "cache_registry_proxy_requests_total{served_by=\"cache\",status=\"200\"} 5\n",
        "cache_registry_proxy_requests_total{served_by=\"cache\",status=\"206\"} 1\n",
        "cache_registry_proxy_sent_bytes_total{leg=\"cache\"} 700\n",
        "# EOF\n",
    );

    #[test]
    fn is_the_difference_of_two_looks() {
        let traffic = NodeTraffic::read(AFTER).since(&NodeTraffic::read(BEFORE));
        assert_eq!((traffic.requests("cache"), traffic.bytes("cache"), traffic.requests("upstream")), (4, 700, 0));
        assert_eq!(traffic.to_string(), "4 answers with 700 bytes from cache");
    }
}
