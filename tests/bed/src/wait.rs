use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

/// How long it takes to look again.
const PAUSE: Duration = Duration::from_millis(25);

/// Looks until `look` finds something, at most for `bound`.
///
/// `look` answers `Ok(None)` or an error for "not yet"; after `bound`, its last error is told. One look may take as
/// long as is left.
pub async fn until<T>(
    what: impl Display,
    bound: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    let mut last = None;
    loop {
        let left = bound.saturating_sub(started.elapsed());
        let looked = timeout(left, look()).await;
        // A look that waits for nothing is never late itself.
        let is_late = looked.is_err() || left.is_zero();
        match looked {
            Ok(Ok(Some(found))) => return Ok(found),
            Ok(Ok(None)) => last = None,
            Ok(Err(error)) => last = Some(error),
            Err(_) => {}
        }
        if is_late {
            let why = last.map(|error| format!(": {error:#}")).unwrap_or_default();
            bail!("{what}: not within {} s{why}", bound.as_secs_f32());
        }
        tokio::time::sleep(PAUSE.min(bound)).await;
    }
}

/// Waits until this program is told to end: Ctrl-C, or a SIGTERM.
pub async fn interrupted() -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
