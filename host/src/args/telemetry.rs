use std::str::FromStr;

use cache_registry_runtime::traces::{Endpoint, NotForTraces, Ratio};
use cache_registry_runtime::{LogFormat, Traces};
use clap::Args as ClapArgs;

/// Logs and traces.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Telemetry {
    /// How logs are written to standard error; RUST_LOG chooses what
    #[arg(long, env = "CACHE_REGISTRY_LOG_FORMAT", default_value = "text", value_parser = LogFormat::from_str)]
    pub(crate) log_format: LogFormat,
    /// The collector that traces are sent to, a URL for OTLP over HTTP, mostly with port 4318. Without, none are
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL", value_parser = unless_empty::<Endpoint>)]
    pub(crate) otlp_endpoint: Option<UnlessEmpty<Endpoint>>,
    /// How many of the traces that begin here are sent, from 0, for none, to 1, for all; what somebody else began goes
    /// by their choice. Without, 0.01 of reviews and pulls, and all copies and garbage collections
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", value_name = "RATIO", value_parser = unless_empty::<Ratio>)]
    pub(crate) otlp_sampling: Option<UnlessEmpty<Ratio>>,
}

/// What a value says. An empty one says nothing, as if it were not there: so has [OpenTelemetry][env] it for variables.
///
/// [env]: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#parsing-empty-value
type UnlessEmpty<T> = Option<T>;

fn unless_empty<T: FromStr<Err = NotForTraces>>(text: &str) -> Result<UnlessEmpty<T>, NotForTraces> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

impl Telemetry {
    /// What is sent of a role, whose traces are few or many; `None` where nothing is.
    pub(crate) fn traces(&self, role: &'static str, unless_told: Ratio) -> Option<Traces> {
        let ratio = self.otlp_sampling.flatten().unwrap_or(unless_told);
        self.otlp_endpoint.clone().flatten().map(|endpoint| Traces { endpoint, ratio, role })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use rstest::rstest;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        telemetry: Telemetry,
    }

    fn traces(arguments: &[&str]) -> Option<Traces> {
        let line = ["role"].iter().chain(arguments);
        Line::try_parse_from(line).unwrap().telemetry.traces("role", Ratio::FEW)
    }

    #[rstest]
    #[case(&["--otlp-endpoint", ""])]
    #[case(&["--otlp-endpoint=", "--otlp-sampling="])]
    fn an_endpoint_that_is_empty_is_none(#[case] arguments: &[&str]) {
        assert_eq!(traces(arguments), None);
    }

    #[cfg(feature = "otlp")]
    #[rstest]
    #[case("", Ratio::FEW)]
    #[case("1", Ratio::ALL)]
    fn a_ratio_that_is_empty_is_as_if_it_were_not_there(#[case] sampling: &str, #[case] ratio: Ratio) {
        let endpoint: Endpoint = "http://collector:4318".parse().unwrap();
        let arguments = ["--otlp-endpoint", "http://collector:4318", "--otlp-sampling", sampling];
        assert_eq!(traces(&arguments), Some(Traces { endpoint, ratio, role: "role" }));
    }

    #[rstest]
    #[case(&["--otlp-endpoint", " "])]
    #[case(&["--otlp-sampling", "2"])]
    fn what_says_something_else_is_refused(#[case] arguments: &[&str]) {
        let line = ["role"].iter().chain(arguments);
        Line::try_parse_from(line).unwrap_err();
    }
}
