use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// How something stands, once that is not `unknown` any more; `None` where nobody has said so after a while, or will.
pub(crate) async fn settled<S: Clone + PartialEq>(standing: &watch::Receiver<S>, unknown: &S) -> Option<S> {
    const LONGEST: Duration = Duration::from_secs(10);
    let mut standing = standing.clone();
    let settled = timeout(LONGEST, standing.wait_for(|standing| standing != unknown)).await;
    settled.ok()?.ok().map(|standing| standing.clone())
}
