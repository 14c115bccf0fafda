use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rustix::process::getpid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use wasmtime::EngineWeak;

/// Lets time pass for guests: they are looked after at each tick. It stands while there are none.
///
/// A thread that wakes waits where it woke for the one that runs there to end its slice, some milliseconds, when no core
/// looks idle at that moment. So two threads tick, each on its half of the cores: what keeps a core for itself does not
/// keep the clock from telling it that it has had enough.
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
}

/// So long may a policy that loops hold up the thread that serves it, and a little more. Shorter ones would cost more than
/// they save.
pub(crate) const TICK: Duration = Duration::from_micros(250);

const HANDS: usize = 2;

/// A hand that comes so soon after the other leaves the tick to it.
const TOO_SOON: Duration = Duration::from_micros(200);

/// Ticks that come although there are no guests: to stop and start for each of many requests would cost more.
const LINGER: u64 = 1000;

/// How often a clock that stands looks whether there still is an engine.
const REST: Duration = Duration::from_mins(1);

impl Clock {
    /// Its threads end with the engine.
    pub(crate) fn start(engine: &EngineWeak) -> io::Result<Self> {
        let works = Arc::new(Works {
            guests: AtomicUsize::new(0),
            standing: AtomicUsize::new(0),
            began: Instant::now(),
            ticked: AtomicU64::new(0),
        });
        let mut hands = Vec::new();
        for hand in 0..HANDS {
            let (works, engine) = (works.clone(), engine.clone());
            let run = move || works.run(hand, &engine);
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

impl Works {
    /// Moves one of the hands.
    fn run(&self, hand: usize, engine: &EngineWeak) {
        let mut alone = 0;
        settle(hand);
        loop {
            thread::sleep(TICK);
            let Some(engine) = engine.upgrade() else { return };
            if self.is_due(self.began.elapsed()) {
                engine.increment_epoch();
            }
            drop(engine);
            alone = if self.is_alone() { alone + 1 } else { 0 };
            if alone > LINGER {
                self.standing.fetch_add(1, Ordering::SeqCst);
                // A guest that comes either sees that it stands, or is seen here.
                if self.is_alone() {
                    thread::park_timeout(REST);
                }
                self.standing.fetch_sub(1, Ordering::SeqCst);
                settle(hand);
                alone = 0;
            }
        }
    }

    /// Whether the last tick was long enough ago, and then it is now.
    fn is_due(&self, now: Duration) -> bool {
        let ticked = self.ticked.load(Ordering::Relaxed);
        if now.saturating_sub(Duration::from_micros(ticked)) < TOO_SOON {
            return false;
        }
        let now = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        self.ticked.compare_exchange(ticked, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn is_alone(&self) -> bool {
        self.guests.load(Ordering::SeqCst) == 0
    }
}

/// Takes a hand's thread to its share of the cores that the process has by now. Where it may not choose, it is where the
/// kernel lets it be.
fn settle(hand: usize) {
    let settled = sched_getaffinity(Some(getpid())).and_then(|cores| sched_setaffinity(None, &share(hand, &cores)));
    if let Err(error) = settled {
        tracing::debug!(%error, "a hand of the policies' clock has no cores of its own");
    }
}

/// Every other of these cores; all of them, where there are too few to be shared.
fn share(hand: usize, cores: &CpuSet) -> CpuSet {
    let mut share = CpuSet::new();
    let cores_in_order = (0..CpuSet::MAX_CPU).filter(|core| cores.is_set(*core));
    cores_in_order.skip(hand).step_by(HANDS).for_each(|core| share.set(core));
    if share.count() == 0 { *cores } else { share }
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
        store.set_epoch_deadline(2 * LINGER);
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
        let engine = Engine::default();
        let clock = Clock::start(&engine.weak()).unwrap();
        until(|| stands(&clock));
        let now = clock.works.began.elapsed() + TICK;
        assert!(clock.works.is_due(now));
        assert!(!clock.works.is_due(now) && !clock.works.is_due(now + TOO_SOON / 2));
        assert!(clock.works.is_due(now + TOO_SOON));
    }

    #[test]
    fn each_hand_has_half_of_the_cores_or_all_of_one() {
        let cores = |numbers: &[usize]| {
            let mut set = CpuSet::new();
            for core in numbers {
                set.set(*core);
            }
            set
        };
        let of = |hand, numbers| share(hand, &cores(numbers));
        assert_eq!([0, 1].map(|hand| of(hand, &[1, 2, 5, 6, 9])), [cores(&[1, 5, 9]), cores(&[2, 6])]);
        assert_eq!([0, 1].map(|hand| of(hand, &[3])), [cores(&[3]), cores(&[3])]);
    }
}
