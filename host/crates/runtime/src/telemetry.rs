//! Logs on stderr, and traces where a collector is named.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::str::FromStr;

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer as _, fmt as lines};

use crate::traces::{self, Sending, TRACES, Traces};

/// What a log line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people: one line of text, coloured on a terminal.
    #[default]
    Text,
    /// For collectors: one JSON object a line.
    Json,
}

/// Logs or traces could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// `RUST_LOG` does not read as a filter.
    #[error("{FILTER} is no log filter ({0}); expected directives such as info or info,cache_registry_proxy=debug")]
    Filter(#[from] ParseError),
    /// A subscriber is in place already.
    #[error("logs are set up already: {0}")]
    Taken(#[from] TryInitError),
    /// Traces cannot be sent.
    #[error("traces cannot be sent: {0}")]
    Traces(String),
}

/// Which lines are logged ([directives](https://docs.rs/tracing-subscriber/latest/tracing_subscriber/filter/struct.EnvFilter.html#directives)).
const FILTER: &str = EnvFilter::DEFAULT_ENV;

/// What is known of a process from outside: its logs, and its traces if there are any.
#[derive(Debug)]
#[must_use = "the last spans are sent at its end"]
pub struct Telemetry(Option<Sending>);

/// Logs to stderr from here on; `RUST_LOG` says which lines, `info` where it is absent or empty. Sends traces where
/// these are wanted, whatever is logged; called within a tokio runtime.
pub fn init(format: LogFormat, traces: Option<&Traces>) -> Result<Telemetry, InitError> {
    let wanted = std::env::var(FILTER).unwrap_or_default();
    let wanted = if wanted.is_empty() { "info" } else { &wanted };
    // The exporter of OpenTelemetry has a line for every batch that is lost, where ours has one for all of them.
    let filter = EnvFilter::try_new(format!("{TRACES}=off,opentelemetry-otlp=off,{wanted}"))?;
    let logs = lines::layer().with_writer(io::stderr);
    let logs = match format {
        LogFormat::Text => logs.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => logs.json().flatten_event(true).with_span_list(false).boxed(),
    };
    let sending = traces.map(Sending::begin).transpose()?;
    let logs = tracing_subscriber::registry().with(logs.with_filter(filter));
    // An `Option` of a layer would do, and where it is `None` ask the filter of logs about each span for traces anew.
    match &sending {
        None => logs.try_init()?,
        Some(sending) => logs.with(traces::layer(sending)).try_init()?,
    }
    if let Some(traces) = traces {
        tracing::info!(collector = %traces.endpoint, "sending traces");
    }
    Ok(Telemetry(sending))
}

impl Telemetry {
    /// Sends the last spans, in a bounded time.
    pub async fn end(self) {
        if let Some(sending) = self.0 {
            sending.end().await;
        }
    }
}

impl FromStr for LogFormat {
    type Err = UnknownLogFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(UnknownLogFormat),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// The text names no [`LogFormat`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected text or json")]
pub struct UnknownLogFormat;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_reads_back() {
        for format in [LogFormat::Text, LogFormat::Json] {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert_eq!("xml".parse::<LogFormat>(), Err(UnknownLogFormat));
    }
}
