use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use tokio::sync::oneshot;
use tracing::{Dispatch, dispatcher};

use super::{LONGEST_GAP, Undecided};
use crate::pace::on_a_core;
use crate::step_back::{give_way, step_back};

/// Threads for what may take long.
///
/// Those that others always go before have nearly nothing while others want all of the cores. What meets this goes on at
/// low priority, which always has something; and so does, for a while, what comes after it.
pub(super) struct Threads {
    after_others: ThreadPool,
    /// How many of them have something to do.
    at_work: AtomicUsize,
    at_low_priority: ThreadPool,
    crowded: Crowded,
}

/// Work, and who waits for what comes of it.
pub(super) struct Job<T> {
    pub(super) work: Work<T>,
    pub(super) sender: oneshot::Sender<Result<T, Undecided>>,
    /// Where the one who waits logs.
    pub(super) log: Dispatch,
}

pub(super) type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A job that waits for a thread, for as long as anybody waits for the job.
pub(super) struct Place<T>(Queued<T>);

/// A job until a thread has it.
struct Queued<T>(Arc<Mutex<Option<Job<T>>>>);

/// When others were last found to have the cores.
#[derive(Default)]
struct Crowded(Mutex<Option<Instant>>);

/// One would do for all, if the first in line did not loop. There are no more where there are more cores.
const FEWEST: usize = 2;
const MOST: usize = 8;

/// How long others are believed to have the cores.
const CROWD_LASTS: Duration = Duration::from_secs(1);

impl Threads {
    pub(super) fn new() -> Result<Self, ThreadPoolBuildError> {
        Ok(Self {
            after_others: threads("slow-lane", step_back)?,
            at_work: AtomicUsize::new(0),
            at_low_priority: threads("slow-lane-low", give_way)?,
            crowded: Crowded::default(),
        })
    }

    /// Does a job after others, or where those have the cores, at low priority.
    pub(super) fn go_on<T: Send + 'static>(self: &Arc<Self>, job: Job<T>) -> Place<T> {
        if self.crowded.is_now() {
            self.at_low_priority(job);
            return Place(Queued::default());
        }
        let queued = Queued(Arc::new(Mutex::new(Some(job))));
        let (threads, next) = (self.clone(), queued.clone());
        self.after_others.spawn(move || {
            let Some(job) = next.take() else { return };
            if threads.crowded.is_now() {
                return threads.at_low_priority(job);
            }
            threads.at_work.fetch_add(1, Ordering::Relaxed);
            let left = job.run(in_gaps);
            threads.at_work.fetch_sub(1, Ordering::Relaxed);
            if let Some(job) = left {
                threads.crowded.found();
                threads.at_low_priority(job);
            }
        });
        Place(queued)
    }

    /// A job was waited for: where it is not begun although a thread has nothing else to do, or others have the cores, it
    /// is done at low priority.
    pub(super) fn hurry<T: Send + 'static>(&self, Place(queued): &Place<T>) {
        let is_in_line = self.at_work.load(Ordering::Relaxed) == self.after_others.current_num_threads();
        if is_in_line && !self.crowded.is_now() {
            return;
        }
        if let Some(job) = queued.take() {
            self.crowded.found();
            self.at_low_priority(job);
        }
    }

    fn at_low_priority<T: Send + 'static>(&self, job: Job<T>) {
        self.at_low_priority.spawn(|| drop(job.run(|work| Poll::Ready(to_its_end(work)))));
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

impl<T> Queued<T> {
    fn take(&self) -> Option<Job<T>> {
        lock(&self.0).take()
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

impl<T> Clone for Queued<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Queued<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl Crowded {
    fn found(&self) {
        *lock(&self.0) = Some(Instant::now());
    }

    fn is_now(&self) -> bool {
        lock(&self.0).is_some_and(|found| found.elapsed() < CROWD_LASTS)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        thread::yield_now();
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
pub(super) fn poll<T>(work: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Poll<T> {
    work.poll(&mut Context::from_waker(Waker::noop()))
}

/// A fault of this program's costs one request its caching, and not the process.
pub(super) fn without_panic<T>(work: impl FnOnce() -> T) -> Result<T, Undecided> {
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|_| Undecided::Panic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use tokio::sync::oneshot::error::TryRecvError;
    use tokio::task::yield_now;

    /// Has threads do something, of which what it comes to is received.
    fn go_on<T: Send + 'static>(
        threads: &Arc<Threads>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> (Place<T>, oneshot::Receiver<Result<T, Undecided>>) {
        let (sender, receiver) = oneshot::channel();
        (threads.go_on(Job { work: Box::pin(work), sender, log: Dispatch::none() }), receiver)
    }

    /// Makes them threads that do not get to run: they begin nothing, and are not at work, until what is returned is
    /// dropped.
    fn hold_up(threads: &Threads) -> Vec<mpsc::Sender<()>> {
        let hold_up_one = |_| {
            let (held, let_go) = mpsc::channel();
            threads.after_others.spawn(move || {
                let _ = let_go.recv();
            });
            held
        };
        (0..threads.after_others.current_num_threads()).map(hold_up_one).collect()
    }

    fn name() -> String {
        thread::current().name().unwrap_or_default().to_owned()
    }

    #[test]
    fn what_does_not_get_to_run_goes_on_at_low_priority_and_so_does_what_comes_next() {
        let threads = Arc::new(Threads::new().unwrap());
        let (_place, done) = go_on(&threads, async {
            let first = name();
            // On no core, as if others had all of them.
            thread::sleep(2 * LONGEST_GAP);
            yield_now().await;
            [first, name()]
        });
        assert_eq!(done.blocking_recv().unwrap().unwrap(), ["slow-lane", "slow-lane-low"]);
        // However long it took to be told.
        threads.crowded.found();
        let (_place, done) = go_on(&threads, async { name() });
        assert_eq!(done.blocking_recv().unwrap().unwrap(), "slow-lane-low");
    }

    #[test]
    fn what_is_not_begun_is_hurried_unless_the_threads_have_other_work() {
        let threads = Arc::new(Threads::new().unwrap());
        let held = hold_up(&threads);
        let (queued, mut done) = go_on(&threads, async { name() });

        threads.at_work.store(threads.after_others.current_num_threads(), Ordering::Relaxed);
        threads.hurry(&queued);
        assert!(!threads.crowded.is_now());
        assert!(matches!(done.try_recv(), Err(TryRecvError::Empty)));

        threads.at_work.store(0, Ordering::Relaxed);
        threads.hurry(&queued);
        assert!(threads.crowded.is_now());
        assert_eq!(done.blocking_recv().unwrap().unwrap(), "slow-lane-low");
        drop(held);
    }

    #[test]
    fn what_nobody_waits_for_is_not_begun() {
        let threads = Arc::new(Threads::new().unwrap());
        let held = hold_up(&threads);
        let (place, mut done) = go_on(&threads, async { name() });
        drop(place);
        assert!(matches!(done.try_recv(), Err(TryRecvError::Closed)));
        drop(held);
    }

    #[test]
    fn a_crowd_is_not_for_ever() {
        let found = |ago| Crowded(Mutex::new(Instant::now().checked_sub(ago)));
        assert!(!Crowded::default().is_now() && !found(CROWD_LASTS).is_now());
        assert!(found(CROWD_LASTS / 2).is_now());
    }
}
