use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cache_registry_core::Reason;
use http::StatusCode;

/// Why a registry did not give what it was asked for, or did not take what it was given.
///
/// The text names the registry, the request and what to do. It never holds a query, a token or a password.
#[derive(Debug, Clone)]
pub struct Error(Arc<Details>);

#[derive(Debug, Clone)]
struct Details {
    reason: Reason,
    status: Option<StatusCode>,
    retry_after: Option<Duration>,
    transient: bool,
    refused_address: bool,
    message: String,
}

impl Error {
    /// In one word. Whatever the registry inside the cluster does wrong is [`Reason::RegistryUnreachable`].
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// The status that the registry answered with; `None` where it gave no answer.
    pub fn status(&self) -> Option<StatusCode> {
        self.0.status
    }

    /// How long the registry asked to be left alone (`Retry-After`), a day at most.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// True where nothing was asked, because the address is one that only hosts of the registries file may have.
    pub fn refused_address(&self) -> bool {
        self.0.refused_address
    }

    /// True where the registry says that there is no such thing.
    pub(crate) fn is_absence(&self) -> bool {
        self.status() == Some(StatusCode::NOT_FOUND) || self.reason() == Reason::NotFound
    }

    /// There is no address to ask at.
    pub(crate) fn nowhere(registry: &str, problem: impl fmt::Display) -> Self {
        let message = format!("{registry:?} is no registry's host: {problem}. Check the image's reference.");
        Self::new(Reason::UpstreamUnreachable, None, None, false, &message)
    }

    /// True where the same request may well succeed a moment later.
    pub fn is_transient(&self) -> bool {
        self.0.transient
    }

    /// The connection was refused by us, before it was made.
    pub(crate) fn of_refused_address(mut self) -> Self {
        Arc::make_mut(&mut self.0).refused_address = true;
        self
    }

    pub(crate) fn new(
        reason: Reason,
        status: Option<StatusCode>,
        retry_after: Option<Duration>,
        transient: bool,
        message: &str,
    ) -> Self {
        let message = on_one_line(message);
        Self(Arc::new(Details { reason, status, retry_after, transient, refused_address: false, message }))
    }
}

/// What a registry answers may be anything, and stands in many errors: each is one line, and not longer than this.
const LONGEST_MESSAGE: usize = 2_000;

fn on_one_line(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_MESSAGE).collect()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_quoted_an_error_is_a_line_of_bounded_length() {
        let error = Error::nowhere("a\nb", format_args!("\r\n{}", "é".repeat(4_000)));
        let text = error.to_string();
        assert!(text.starts_with("\"a\\nb\" is no registry's host:   éé"), "{text}");
        assert_eq!(text.chars().count(), LONGEST_MESSAGE);
    }
}
