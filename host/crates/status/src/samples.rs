/// What a page of metrics says, in the text format that our roles serve
/// (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).
///
/// Read here and not by a crate: the ones there are bring a parser of regular expressions into the image, and this reads
/// our own pages alone, of which labels are words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Samples(Vec<Sample>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Sample {
    name: String,
    /// `leg="cache",outcome="served"`.
    labels: String,
    value: u64,
}

impl Samples {
    /// Reads a page. Lines that are no whole number of something are left out.
    pub(crate) fn read(page: &str) -> Self {
        Self(page.lines().filter_map(sample).collect())
    }

    /// The sum of a metric over all its samples that have this label; `None` where there is none.
    pub(crate) fn sum(&self, name: &str, label: (&str, &str)) -> Option<u64> {
        let wanted = format!("{}=\"{}\"", label.0, label.1);
        let found = self.0.iter().filter(|sample| sample.name == name && sample.labels.split(',').any(|l| l == wanted));
        found.map(|sample| sample.value).reduce(u64::saturating_add)
    }

    /// A metric that has no labels.
    pub(crate) fn value(&self, name: &str) -> Option<u64> {
        self.0.iter().find(|sample| sample.name == name).map(|sample| sample.value)
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (metric, value) = line.split_once(' ').filter(|_| !line.starts_with('#'))?;
    let value = value.split(' ').next()?.parse().ok()?;
    let (name, labels) = match metric.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (metric, ""),
    };
    Some(Sample { name: name.to_owned(), labels: labels.to_owned(), value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: &str = "# HELP cache_registry_proxy_requests Requests of clients.\n\
        # TYPE cache_registry_proxy_requests counter\n\
        cache_registry_proxy_requests_total{served_by=\"cache\",status=\"200\"} 7\n\
        cache_registry_proxy_requests_total{served_by=\"cache\",status=\"206\"} 2\n\
        cache_registry_proxy_requests_total{served_by=\"upstream\",status=\"200\"} 1\n\
        cache_registry_proxy_breaker_state 2\n\
        # EOF\n";

    #[test]
    fn sums_go_over_the_other_labels() {
        let samples = Samples::read(PAGE);
        let requests = |by| samples.sum("cache_registry_proxy_requests_total", ("served_by", by));
        assert_eq!((requests("cache"), requests("upstream"), requests("nobody")), (Some(9), Some(1), None));
        assert_eq!(samples.value("cache_registry_proxy_breaker_state"), Some(2));
        assert_eq!(samples.value("cache_registry_proxy_bodies"), None);
    }

    proptest! {
        #[test]
        fn any_page_is_read(page in ".{0,200}", line in "[a-z_]{0,5}[{]?[a-z=\",]{0,9}[}]? ?[0-9.e+]{0,30}") {
            drop(Samples::read(&page));
            drop(Samples::read(&line));
        }
    }
}
