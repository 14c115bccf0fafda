use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};

use crate::Error;

/// A registry that asks to be left alone for longer gets its wish: who asked is told, and comes back later.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// Does something again, after ever longer waits, as long as its failures may pass by themselves.
pub(crate) async fn retried<T, F>(times: usize, what: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    what.retry(waits(times))
        .when(Error::is_transient)
        .adjust(wait_after)
        .notify(|error, wait| tracing::debug!(%error, ?wait, "tried again"))
        .await
}

/// The waits between tries: 0.2 s, 0.4 s, 0.8 s, …, each a little longer by chance.
pub(crate) fn waits(times: usize) -> ExponentialBuilder {
    ExponentialBuilder::new().with_min_delay(FIRST_WAIT).with_max_times(times).with_jitter()
}

/// How long to wait after a failure; `None` to give up.
pub(crate) fn wait_after(error: &Error, planned: Option<Duration>) -> Option<Duration> {
    let wait = planned?.max(error.retry_after().unwrap_or_default());
    (wait <= LONGEST_WAIT).then_some(wait)
}
