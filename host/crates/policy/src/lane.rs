use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::thread;

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{Dispatch, dispatcher};

use crate::pace::{Late, Pace};
use crate::step_back::give_way;

/// Where decisions go on that are not made at once.
///
/// Nearly all take a tenth of a millisecond, less than it takes to hand them to another thread: they are made in place,
/// on the thread that serves the request. One that takes longer stops at a tick of the clock, and goes on here, on one of
/// some threads that give way to those that serve requests.
pub(crate) struct SlowLane(ThreadPool);

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

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One would do for all, if the first in line did not loop. There are no more where there are more cores.
const FEWEST: usize = 2;
const MOST: usize = 8;

impl SlowLane {
    pub(crate) fn new() -> Result<Self, ThreadPoolBuildError> {
        let cores = thread::available_parallelism().map_or(FEWEST, usize::from);
        let threads = ThreadPoolBuilder::new()
            .num_threads(cores.clamp(FEWEST, MOST))
            .thread_name(|_| "slow-lane".to_owned())
            .start_handler(|_| give_way());
        threads.build().map(Self)
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
        let (sender, receiver) = oneshot::channel();
        let log = dispatcher::get_default(Dispatch::clone);
        self.0.spawn(move || {
            if sender.is_closed() {
                return;
            }
            let done = dispatcher::with_default(&log, || without_panic(|| to_its_end(work)));
            // Who asked may be gone by now, as above.
            drop(sender.send(done));
        });
        match timeout(pace.longest(), receiver).await {
            Ok(done) => done.unwrap_or(Err(Undecided::Panic)),
            Err(_) => Err(Late(pace.longest()).into()),
        }
    }
}

/// Does work to its end on this thread.
pub(crate) fn to_its_end<T>(work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        if let Poll::Ready(done) = poll(work.as_mut()) {
            return done;
        }
    }
}

/// Nothing that is done here waits for anything: when it stops, it is to go on somewhere else.
fn poll<T>(work: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Poll<T> {
    work.poll(&mut Context::from_waker(Waker::noop()))
}

/// A fault of this program's costs one request its caching, and not the process.
fn without_panic<T>(work: impl FnOnce() -> T) -> Result<T, Undecided> {
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|_| Undecided::Panic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::mpsc;
    use std::thread::ThreadId;
    use std::time::Duration;

    use crate::engine::Limits;

    fn pace() -> Arc<Pace> {
        Pace::in_place(&Limits::default())
    }

    /// Stops once, and says on which threads it was before and after.
    async fn stopping() -> (ThreadId, ThreadId) {
        let first = thread::current().id();
        let mut stopped = false;
        poll_fn(|_| if std::mem::replace(&mut stopped, true) { Poll::Ready(()) } else { Poll::Pending }).await;
        (first, thread::current().id())
    }

    #[tokio::test]
    async fn what_stops_goes_on_elsewhere_and_may_be_slow_there() {
        let (lane, pace) = (SlowLane::new().unwrap(), pace());
        let (first, then) = lane.take(&pace, stopping()).await.unwrap();
        assert_eq!(first, thread::current().id());
        assert_ne!(then, first);
        assert!(!pace.is_too_slow(Duration::MAX));
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_in_place_and_in_the_lane() {
        let (lane, pace) = (SlowLane::new().unwrap(), pace());
        let in_place = lane.take(&pace, async { panic!("a fault of a test's") });
        assert!(matches!(in_place.await, Err::<(), _>(Undecided::Panic)));
        let in_the_lane = lane.take(&pace, async {
            stopping().await;
            panic!("a fault of a test's");
        });
        assert!(matches!(in_the_lane.await, Err::<(), _>(Undecided::Panic)));
    }

    #[tokio::test]
    async fn nobody_waits_longer_than_a_decision_may_take() {
        let (lane, pace) = (SlowLane::new().unwrap(), Pace::over());
        let (end, ended) = mpsc::channel::<()>();
        let endless = async move {
            stopping().await;
            let _ = ended.recv();
        };
        let taken = lane.take(&pace, endless).await;
        assert!(matches!(taken, Err(Undecided::Late(_))), "{taken:?}");
        drop(end);
    }
}
