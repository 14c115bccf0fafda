use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rustix::process::getpid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity, set_current_timer_slack};
use wasmtime::EngineWeak;

/// Lets time pass for guests: they are looked after at each tick. It stands while there are none.
///
/// A thread that wakes waits where it woke for the one that runs there to end its slice, some milliseconds, when no core
/// looks idle at that moment. So two threads tick, each on its half of the cores: what keeps a core for itself does not
/// keep the clock from telling it that it has had enough. On one core there is one.
///
/// Where guests are quick there is nothing to tell them, and each tick takes something from who serves requests. So it
/// ticks slowly until one was not quick, and for a while after that.
pub(crate) struct Clock {
    works: Arc<Works>,
    hands: Vec<Thread>,
}

/// As long as it is there, there are ticks.
pub(crate) struct Running {
    works: Arc<Works>,
}

struct Works {
    guests: AtomicUsize,
    /// Hands that do not move.
    standing: AtomicUsize,
    began: Instant,
    /// When the last tick was, in microseconds since it began.
    ticked: AtomicU64,
    /// Until when it ticks fast, likewise.
    fast_until: AtomicU64,
}

/// From one tick to the next. A policy may hold up the thread that serves it for so long and a little more, unless one did
/// that a moment ago.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// The same while policies are not quick. Shorter ones would cost more than they save.
const FAST_TICK: Duration = Duration::from_micros(150);

/// So long after one that was not quick. Who does it once does it again.
const FAST_LASTS: Duration = Duration::from_secs(2);

const MOST_HANDS: usize = 2;

/// How long ticks come although there are no guests: to stop and start for each of many requests would cost more.
const LINGER: Duration = Duration::from_millis(250);

/// How often a clock that stands looks whether there still is an engine.
const REST: Duration = Duration::from_mins(1);

impl Clock {
    /// Its threads end with the engine.
    pub(crate) fn start(engine: &EngineWeak) -> io::Result<Self> {
        let works = Arc::new(Works::default());
        let mut hands = Vec::new();
        let count = thread::available_parallelism().map_or(MOST_HANDS, |cores| cores.get().min(MOST_HANDS));
        for hand in 0..count {
            let (works, engine) = (works.clone(), engine.clone());
            let run = move || works.run(|| settle(hand, count), &engine);
            hands.push(thread::Builder::new().name("policy-clock".to_owned()).spawn(run)?.thread().clone());
        }
        Ok(Self { works, hands })
    }

    /// A guest is about to run.
    pub(crate) fn run(&self) -> Running {
        self.works.guests.fetch_add(1, Ordering::SeqCst);
        if self.works.standing.load(Ordering::SeqCst) > 0 {
            self.wind();
        }
        Running { works: self.works.clone() }
    }

    /// A guest was not quick.
    pub(crate) fn quicken(&self) {
        self.works.quicken();
    }

    fn wind(&self) {
        for hand in &self.hands {
            hand.unpark();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.works.guests.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.wind();
    }
}

impl Default for Works {
    fn default() -> Self {
        Self {
            guests: AtomicUsize::new(0),
            standing: AtomicUsize::new(0),
            began: Instant::now(),
            ticked: AtomicU64::new(0),
            fast_until: AtomicU64::new(0),
        }
    }
}

impl Works {
    fn quicken(&self) {
        let until = self.began.elapsed() + FAST_LASTS;
        self.fast_until.store(micros(until), Ordering::Relaxed);
    }

    /// Moves one of the hands.
    fn run(&self, settle: impl Fn(), engine: &EngineWeak) {
        wake_in_time();
        settle();
        let mut alone_since = None;
        loop {
            thread::sleep(self.until_due(self.began.elapsed()));
            let Some(engine) = engine.upgrade() else { return };
            let now = self.began.elapsed();
            if self.is_due(now) {
                engine.increment_epoch();
            }
            drop(engine);
            if !self.is_alone() {
                alone_since = None;
            } else if now.saturating_sub(*alone_since.get_or_insert(now)) > LINGER {
                self.standing.fetch_add(1, Ordering::SeqCst);
                // A guest that comes either sees that it stands, or is seen here.
                if self.is_alone() {
                    thread::park_timeout(REST);
                }
                self.standing.fetch_sub(1, Ordering::SeqCst);
                settle();
                alone_since = None;
            }
        }
    }

    /// How long it is from one tick to the next.
    fn interval(&self, now: Duration) -> Duration {
        if micros(now) < self.fast_until.load(Ordering::Relaxed) { FAST_TICK } else { TICK }
    }

    /// How long a hand sleeps that has looked. One that came too soon after the other does not lose a whole tick.
    fn until_due(&self, now: Duration) -> Duration {
        let interval = self.interval(now);
        interval.saturating_sub(self.since_tick(now)).max(interval / 5)
    }

    /// Whether the last tick was long enough ago, and then it is now. A hand that comes soon after the other leaves the
    /// tick to it.
    fn is_due(&self, now: Duration) -> bool {
        let ticked = self.ticked.load(Ordering::Relaxed);
        if now.saturating_sub(Duration::from_micros(ticked)) < self.interval(now) * 4 / 5 {
            return false;
        }
        self.ticked.compare_exchange(ticked, micros(now), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn since_tick(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_micros(self.ticked.load(Ordering::Relaxed)))
    }

    fn is_alone(&self) -> bool {
        self.guests.load(Ordering::SeqCst) == 0
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The kernel may let a thread sleep longer than it wants, to wake it together with others
/// ([`PR_SET_TIMERSLACK`](https://man7.org/linux/man-pages/man2/PR_SET_TIMERSLACK.2const.html)). Not this one.
fn wake_in_time() {
    if let Err(error) = set_current_timer_slack(NonZeroU64::new(1)) {
        tracing::debug!(%error, "the policies' clock goes slow");
    }
}

/// Takes a hand's thread to its share of the cores that the process has by now. Where it may not choose, it is where the
/// kernel lets it be.
fn settle(hand: usize, hands: usize) {
    let cores = sched_getaffinity(Some(getpid()));
    if let Err(error) = cores.and_then(|cores| sched_setaffinity(None, &share(hand, hands, &cores))) {
        tracing::debug!(%error, "a hand of the policies' clock has no cores of its own");
    }
}

/// A hand's share of these cores; all of them, where there are too few to be shared.
fn share(hand: usize, hands: usize, cores: &CpuSet) -> CpuSet {
    let mut share = CpuSet::new();
    let cores_in_order = (0..CpuSet::MAX_CPU).filter(|core| cores.is_set(*core));
    cores_in_order.skip(hand).step_by(hands).for_each(|core| share.set(core));
    if share.count() == 0 { *cores } else { share }
}

#[cfg(test)]
impl Clock {
    pub(crate) fn is_fast(&self) -> bool {
        self.works.interval(self.works.began.elapsed()) == FAST_TICK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::{Config, Engine, Instance, Module, Store, Trap};

    fn until(what: impl Fn() -> bool) {
        let began = Instant::now();
        while !what() {
            assert!(began.elapsed() < Duration::from_secs(20));
            thread::yield_now();
        }
    }

    fn stands(clock: &Clock) -> bool {
        clock.works.standing.load(Ordering::SeqCst) == clock.hands.len()
    }

    #[test]
    fn it_stands_while_there_are_no_guests_and_not_while_there_is_one() {
        let engine = Engine::new(Config::new().epoch_interruption(true)).unwrap();
        let endless = wat::parse_str(r#"(module (func (export "run") (loop $forever (br $forever))))"#).unwrap();
        let endless = Module::new(&engine, endless).unwrap();
        let mut store = Store::new(&engine, ());
        let guest = Instance::new(&mut store, &endless, &[]).unwrap();
        let guest = guest.get_typed_func::<(), ()>(&mut store, "run").unwrap();
        let clock = Clock::start(&engine.weak()).unwrap();
        until(|| stands(&clock));
        let running = clock.run();
        // Longer than it would linger. With a clock that stands, this would not end before that looks around.
        store.set_epoch_deadline(500);
        let began = Instant::now();
        let ended = guest.call(&mut store, ()).unwrap_err();
        assert_eq!(ended.downcast_ref(), Some(&Trap::Interrupt));
        assert!(began.elapsed() < REST * 3 / 4, "{:?}", began.elapsed());
        drop(running);
        until(|| stands(&clock));
    }

    #[test]
    fn its_threads_end_with_the_engine() {
        let engine = Engine::default();
        let clock = Clock::start(&engine.weak()).unwrap();
        until(|| stands(&clock));
        let works = Arc::downgrade(&clock.works);
        drop((engine, clock));
        until(|| works.strong_count() == 0);
    }

    #[test]
    fn two_hands_make_no_more_ticks_than_one() {
        let works = Works::default();
        assert!(works.is_due(TICK));
        assert!(!works.is_due(TICK) && !works.is_due(TICK * 3 / 2));
        assert_eq!(works.until_due(TICK * 3 / 2), TICK / 2);
        assert!(works.is_due(TICK * 2));
        assert_eq!(works.until_due(TICK * 2), TICK);
    }

    #[test]
    fn it_ticks_fast_for_a_while_after_a_guest_that_was_not_quick() {
        let (works, now) = (Works::default(), TICK);
        assert_eq!(works.interval(now), TICK);
        works.quicken();
        assert_eq!(works.interval(now), FAST_TICK);
        assert!(works.is_due(now) && !works.is_due(now + FAST_TICK / 2) && works.is_due(now + FAST_TICK));
        assert_eq!(works.interval(works.began.elapsed() + FAST_LASTS), TICK);
    }

    #[test]
    fn each_hand_has_its_share_of_the_cores_or_all_of_one() {
        let cores = |numbers: &[usize]| {
            let mut set = CpuSet::new();
            for core in numbers {
                set.set(*core);
            }
            set
        };
        let of = |hand, numbers| share(hand, 2, &cores(numbers));
        assert_eq!([0, 1].map(|hand| of(hand, &[1, 2, 5, 6, 9])), [cores(&[1, 5, 9]), cores(&[2, 6])]);
        assert_eq!([0, 1].map(|hand| of(hand, &[3])), [cores(&[3]), cores(&[3])]);
        assert_eq!(share(0, 1, &cores(&[1, 2])), cores(&[1, 2]));
    }
}
