use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{Dispatch, dispatcher};

use crate::pace::{Late, Pace, on_a_core};
use crate::step_back::{give_way, step_back};

/// Where decisions go on that are not made at once.
///
/// Nearly all take a tenth of a millisecond, less than it takes to hand them to another thread: they are made in place,
/// on the thread that serves the request. One that takes longer stops at a tick of the clock, and goes on here, on one of
/// some threads that the kernel interrupts at once for those that serve requests.
pub(crate) struct SlowLane(Arc<Threads>);

/// While others want all of the cores, a thread that they always go before has nearly nothing. Work that meets this goes
/// on at low priority, which always has something; and so does, for a while, what comes after it.
struct Threads {
    after_others: ThreadPool,
    at_low_priority: ThreadPool,
    crowded: Crowded,
}

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

/// Work, and who waits for what comes of it.
struct Job<T> {
    work: Work<T>,
    sender: oneshot::Sender<Result<T, Undecided>>,
    log: Dispatch,
}

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// When others were last found to have the cores.
#[derive(Default)]
struct Crowded(Mutex<Option<Instant>>);

/// One would do for all, if the first in line did not loop. There are no more where there are more cores.
const FEWEST: usize = 2;
const MOST: usize = 8;

/// How long others may go before work between two ticks. Requests take less of a core, and it is short beside what an API
/// server waits.
const LONGEST_GAP: Duration = Duration::from_millis(20);

/// How long others are believed to have the cores.
const CROWD_LASTS: Duration = Duration::from_secs(1);

impl SlowLane {
    pub(crate) fn new() -> Result<Self, ThreadPoolBuildError> {
        let after_others = threads("slow-lane", step_back)?;
        let at_low_priority = threads("slow-lane-low", give_way)?;
        Ok(Self(Arc::new(Threads { after_others, at_low_priority, crowded: Crowded::default() })))
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
        self.0.go_on(Job { work, sender, log: dispatcher::get_default(Dispatch::clone) });
        match timeout(pace.longest(), receiver).await {
            Ok(done) => done.unwrap_or(Err(Undecided::Panic)),
            Err(_) => Err(Late(pace.longest()).into()),
        }
    }
}

impl Threads {
    fn go_on<T: Send + 'static>(self: &Arc<Self>, job: Job<T>) {
        if self.crowded.is_now() {
            return self.at_low_priority.spawn(|| drop(job.run(|work| Poll::Ready(to_its_end(work)))));
        }
        let threads = self.clone();
        self.after_others.spawn(move || {
            if let Some(job) = job.run(in_gaps) {
                threads.crowded.found();
                threads.go_on(job);
            }
        });
    }
}

impl<T> Job<T> {
    /// Does it, and gives it back where that stopped before its end.
    fn run(mut self, go_on: impl FnOnce(&mut Work<T>) -> Poll<T>) -> Option<Self> {
        // Who asked may be gone by now, and at the end.
        if self.sender.is_closed() {
            return None;
        }
        let done = dispatcher::with_default(&self.log, || without_panic(|| go_on(&mut self.work)));
        let done = match done {
            Ok(Poll::Pending) => return Some(self),
            Ok(Poll::Ready(done)) => Ok(done),
            Err(undecided) => Err(undecided),
        };
        drop(self.sender.send(done));
        None
    }
}

impl Crowded {
    fn found(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_now(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|found| found.elapsed() < CROWD_LASTS)
    }
}

fn threads(name: &'static str, start: fn()) -> Result<ThreadPool, ThreadPoolBuildError> {
    let cores = thread::available_parallelism().map_or(FEWEST, usize::from);
    let threads = ThreadPoolBuilder::new().num_threads(cores.clamp(FEWEST, MOST));
    threads.thread_name(|_| name.to_owned()).start_handler(move |_| start()).build()
}

/// Does work while others leave a core for it.
fn in_gaps<T>(work: &mut Work<T>) -> Poll<T> {
    loop {
        let (began, had) = (Instant::now(), on_a_core());
        if let Poll::Ready(done) = poll(work.as_mut()) {
            return Poll::Ready(done);
        }
        let others = began.elapsed().saturating_sub(on_a_core().saturating_sub(had));
        if others > LONGEST_GAP {
            return Poll::Pending;
        }
    }
}

/// Does work to its end on this thread, and offers its core at each tick: the kernel would let it end its slice of some
/// milliseconds before another thread gets to run.
pub(crate) fn to_its_end<T>(work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        if let Poll::Ready(done) = poll(work.as_mut()) {
            return done;
        }
        thread::yield_now();
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
        stop().await;
        (first, thread::current().id())
    }

    async fn stop() {
        let mut stopped = false;
        poll_fn(|_| if std::mem::replace(&mut stopped, true) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    #[tokio::test]
    async fn what_stops_goes_on_elsewhere_and_may_be_slow_there() {
        let (lane, pace) = (SlowLane::new().unwrap(), pace());
        let (first, then) = lane.take(&pace, stopping()).await.unwrap();
        assert_eq!(first, thread::current().id());
        assert_ne!(then, first);
        assert!(!pace.is_in_place_still(Duration::ZERO));
    }

    /// Does without a core for a while whenever it is gone on with, and says on which threads that was.
    async fn without_a_core(times: usize, gap: Duration) -> Vec<String> {
        let mut threads = Vec::new();
        stop().await;
        for _ in 0..times {
            threads.push(thread::current().name().unwrap_or_default().to_owned());
            thread::sleep(gap);
            stop().await;
        }
        threads
    }

    #[tokio::test]
    async fn what_does_not_get_to_run_after_others_goes_on_at_low_priority_and_so_does_what_comes_next() {
        let lane = SlowLane::new().unwrap();
        let threads = lane.take(&pace(), without_a_core(2, 2 * LONGEST_GAP)).await.unwrap();
        assert_eq!(threads, ["slow-lane", "slow-lane-low"]);
        lane.0.crowded.found();
        assert_eq!(lane.take(&pace(), without_a_core(1, Duration::ZERO)).await.unwrap(), ["slow-lane-low"]);
    }

    #[test]
    fn a_crowd_is_not_for_ever() {
        let found = |ago| Crowded(Mutex::new(Instant::now().checked_sub(ago)));
        assert!(!Crowded::default().is_now() && !found(CROWD_LASTS).is_now());
        assert!(found(CROWD_LASTS / 2).is_now());
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
