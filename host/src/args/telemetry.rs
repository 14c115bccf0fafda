use std::str::FromStr as _;

use cache_registry_runtime::traces::{Endpoint, Ratio};
use cache_registry_runtime::{LogFormat, Traces};
use clap::Args as ClapArgs;

/// Logs and traces.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Telemetry {
    /// How logs are written to standard error; RUST_LOG chooses what
    #[arg(long, env = "CACHE_REGISTRY_LOG_FORMAT", default_value = "text", value_parser = LogFormat::from_str)]
    pub(crate) log_format: LogFormat,
    /// The collector that traces are sent to, a URL for OTLP over HTTP, mostly with port 4318. Without, none are
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL", value_parser = Endpoint::from_str)]
    pub(crate) otlp_endpoint: Option<Endpoint>,
    /// How many of the traces that begin here are sent, from 0, for none, to 1, for all; what somebody else began goes
    /// by their choice. Without, 0.01 of reviews and pulls, and all copies and garbage collections
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", value_name = "RATIO", value_parser = Ratio::from_str)]
    pub(crate) otlp_sampling: Option<Ratio>,
}

impl Telemetry {
    /// What is sent of a role, whose traces are few or many; `None` where nothing is.
    pub(crate) fn traces(&self, role: &'static str, unless_told: Ratio) -> Option<Traces> {
        let ratio = self.otlp_sampling.unwrap_or(unless_told);
        self.otlp_endpoint.clone().map(|endpoint| Traces { endpoint, ratio, role })
    }
}
