//! Spans for an OpenTelemetry collector, beside the logs; off unless a collector is named.
//!
//! Which spans there are is said where the work is: [`tracing`]'s. What is here takes a request's trace over
//! ([`join`]), hands it on ([`hand_on`]) and tells more of a span than its log lines shall have ([`note`]). All three do
//! nothing where no collector is named, and in a program that is built without the feature `otlp`.

use std::fmt;
use std::str::FromStr;

use url::Url;

#[cfg(not(feature = "otlp"))]
mod absent;
#[cfg(feature = "otlp")]
mod exporter;
#[cfg(feature = "otlp")]
mod otlp;

#[cfg(not(feature = "otlp"))]
use absent as with;
#[cfg(feature = "otlp")]
use otlp as with;

pub use cache_registry_core::TRACES;
pub(crate) use with::{Sending, layer};
pub use with::{hand_on, join, note};

/// Where spans go, and of whom they tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Traces {
    /// The collector.
    pub endpoint: Endpoint,
    /// How many of the traces that begin here are sent. One that somebody else began is sent if they send theirs.
    pub ratio: Ratio,
    /// What this process does: `webhook`, `proxy`.
    pub role: &'static str,
}

/// The URL of a collector that takes OTLP over HTTP, as `OTEL_EXPORTER_OTLP_ENDPOINT` has it: without `/v1/traces`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

/// How many of all traces: between 0, none, and 1, all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio(f64);

/// What is no [`Endpoint`] or no [`Ratio`], and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotForTraces(&'static str);

impl Endpoint {
    /// Where traces are posted to ([OTLP](https://opentelemetry.io/docs/specs/otel/protocol/exporter/#endpoint-urls-for-otlphttp)).
    pub fn traces(&self) -> String {
        format!("{}/v1/traces", self.0.as_str().trim_end_matches('/'))
    }
}

impl FromStr for Endpoint {
    type Err = NotForTraces;

    fn from_str(text: &str) -> Result<Self, NotForTraces> {
        if cfg!(not(feature = "otlp")) {
            return Err(NotForTraces("this program was built without the feature otlp and sends no traces"));
        }
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = url.ok_or(NotForTraces("expected http or https, and a host: http://collector.example:4318"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(NotForTraces(
                "credentials do not belong into the URL, which shows up in logs: OTEL_EXPORTER_OTLP_HEADERS takes them",
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(NotForTraces("no ? or # may stand in it"));
        }
        if url.path().trim_end_matches('/').ends_with("/v1/traces") {
            return Err(NotForTraces("leave out /v1/traces: it is put there by itself"));
        }
        Ok(Self(url))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Ratio {
    /// Every trace.
    pub const ALL: Self = Self(1.0);
    /// One in a hundred: of 1,000 reviews a second that is 10, in some tens of spans.
    pub const FEW: Self = Self(0.01);
}

impl FromStr for Ratio {
    type Err = NotForTraces;

    fn from_str(text: &str) -> Result<Self, NotForTraces> {
        let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio.map(Self).ok_or(NotForTraces("expected a number from 0, for none, to 1, for all: 0.01"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[cfg(feature = "otlp")]
    #[rstest]
    #[case("http://collector:4318", "http://collector:4318/v1/traces")]
    #[case("http://collector:4318/", "http://collector:4318/v1/traces")]
    #[case("https://[fd00::1]:4318/of/us/", "https://[fd00::1]:4318/of/us/v1/traces")]
    fn traces_are_posted_below_the_endpoint(#[case] endpoint: Endpoint, #[case] url: &str) {
        assert_eq!(endpoint.traces(), url);
    }

    #[cfg(feature = "otlp")]
    #[rstest]
    #[case("", "expected http or https")]
    #[case("collector:4318", "expected http or https")]
    #[case("grpc://collector:4317", "expected http or https")]
    #[case("http://me:secret@collector:4318", "OTEL_EXPORTER_OTLP_HEADERS")]
    #[case("http://collector:4318?token=secret", "no ?")]
    #[case("http://collector:4318/v1/traces", "leave out /v1/traces")]
    fn what_is_no_endpoint_is_refused_in_words(#[case] text: &str, #[case] words: &str) {
        let refusal = text.parse::<Endpoint>().unwrap_err().to_string();
        assert!(refusal.contains(words) && !refusal.contains("secret"), "{refusal}");
    }

    #[cfg(not(feature = "otlp"))]
    #[test]
    fn without_the_feature_an_endpoint_is_refused_in_words() {
        let refusal = "http://collector:4318".parse::<Endpoint>().unwrap_err().to_string();
        assert!(refusal.contains("built without the feature otlp"), "{refusal}");
    }

    #[rstest]
    #[case("0", Some(Ratio(0.0)))]
    #[case("0.01", Some(Ratio::FEW))]
    #[case("1", Some(Ratio::ALL))]
    #[case("1.1", None)]
    #[case("-0.1", None)]
    #[case("NaN", None)]
    #[case("1%", None)]
    fn a_ratio_is_between_none_and_all(#[case] text: &str, #[case] ratio: Option<Ratio>) {
        assert_eq!(text.parse().ok(), ratio);
    }
}
