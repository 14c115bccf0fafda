mod threads;

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rayon::ThreadPoolBuildError;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{Dispatch, dispatcher};

use crate::pace::{Late, Pace};
use threads::{Job, Threads, Work, poll, without_panic};

pub(crate) use threads::to_its_end;

/// Where decisions go on that are not made at once.
///
/// Nearly all take a tenth of a millisecond, less than it takes to hand them to another thread: they are made in place,
/// on the thread that serves the request. One that takes longer stops at a tick of the clock, and goes on here, on one of
/// some threads that the kernel interrupts at once for those that serve requests.
pub(crate) struct SlowLane(Arc<Threads>);

/// A decision that was not made.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(crate) enum Undecided {
    /// By a fault of this program's.
    #[error("a panic")]
    Panic,
    /// It was waited for long enough.
    #[error(transparent)]
    Late(#[from] Late),
}

/// How long others may keep work from running. They take less for some requests, and it is short beside what an API
/// server waits.
const LONGEST_GAP: Duration = Duration::from_millis(20);

impl SlowLane {
    pub(crate) fn new() -> Result<Self, ThreadPoolBuildError> {
        Threads::new().map(Arc::new).map(Self)
    }

    /// Does work in place, or as far as it comes there, and the rest in the slow lane.
    pub(crate) async fn take<T: Send + 'static>(
        &self,
        pace: &Pace,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Undecided> {
        let mut work: Work<T> = Box::pin(work);
        if let Poll::Ready(done) = without_panic(|| poll(work.as_mut()))? {
            return Ok(done);
        }
        pace.slow_down();
        let (sender, mut receiver) = oneshot::channel();
        let log = dispatcher::get_default(Dispatch::clone);
        let queued = self.0.go_on(Job { work, sender, log });
        let done = async {
            loop {
                if let Ok(done) = timeout(LONGEST_GAP, &mut receiver).await {
                    return done;
                }
                self.0.hurry(&queued);
            }
        };
        match timeout(pace.longest(), done).await {
            Ok(done) => done.unwrap_or(Err(Undecided::Panic)),
            Err(_) => Err(Late(pace.longest()).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread::{self, ThreadId};
    use tokio::task::yield_now;

    use crate::engine::Limits;

    fn pace() -> Arc<Pace> {
        Pace::in_place(&Limits::default())
    }

    /// Stops once, and says on which threads it was before and after.
    async fn stopping() -> (ThreadId, ThreadId) {
        let first = thread::current().id();
        yield_now().await;
        (first, thread::current().id())
    }

    #[tokio::test]
    async fn what_stops_goes_on_elsewhere_and_may_be_slow_there() {
        let (lane, pace) = (SlowLane::new().unwrap(), pace());
        let (first, then) = lane.take(&pace, stopping()).await.unwrap();
        assert_eq!(first, thread::current().id());
        assert_ne!(then, first);
        assert!(!pace.is_in_place_still(Duration::ZERO));
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_in_place_and_in_the_lane() {
        let (lane, pace) = (SlowLane::new().unwrap(), pace());
        let in_place = lane.take(&pace, async { panic!("a fault of a test's") });
        assert!(matches!(in_place.await, Err::<(), _>(Undecided::Panic)));
        let in_the_lane = lane.take(&pace, async {
            yield_now().await;
            panic!("a fault of a test's");
        });
        assert!(matches!(in_the_lane.await, Err::<(), _>(Undecided::Panic)));
    }

    #[tokio::test]
    async fn nobody_waits_longer_than_a_decision_may_take() {
        let (lane, pace) = (SlowLane::new().unwrap(), Pace::over());
        let (end, ended) = mpsc::channel::<()>();
        let endless = async move {
            yield_now().await;
            let _ = ended.recv();
        };
        let taken = lane.take(&pace, endless).await;
        assert!(matches!(taken, Err(Undecided::Late(_))), "{taken:?}");
        drop(end);
    }
}
