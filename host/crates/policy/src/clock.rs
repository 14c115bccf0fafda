use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::EngineWeak;

/// Lets time pass for guests: they are looked after at each tick. It stands while there are none.
pub(crate) struct Clock {
    hands: Arc<Hands>,
    thread: Thread,
}

/// As long as it is there, there are ticks.
pub(crate) struct Running {
    hands: Arc<Hands>,
}

#[derive(Default)]
struct Hands {
    ticks: AtomicU64,
    guests: AtomicUsize,
    stands: AtomicBool,
}

/// So long may a policy that loops hold up the thread that serves it, and a little more. Shorter ones would cost more than
/// they save.
pub(crate) const TICK: Duration = Duration::from_micros(250);

/// Ticks that come although there are no guests: to stop and start for each of many requests would cost more.
const LINGER: u64 = 1000;

/// How often a clock that stands looks whether there still is an engine.
const REST: Duration = Duration::from_mins(1);

impl Clock {
    /// Its thread ends with the engine.
    pub(crate) fn start(engine: EngineWeak) -> io::Result<Self> {
        let hands = Arc::new(Hands::default());
        let run = {
            let hands = hands.clone();
            move || hands.run(&engine)
        };
        let thread = thread::Builder::new().name("policy-clock".to_owned()).spawn(run)?;
        Ok(Self { hands, thread: thread.thread().clone() })
    }

    /// A guest is about to run.
    pub(crate) fn run(&self) -> Running {
        self.hands.guests.fetch_add(1, Ordering::SeqCst);
        if self.hands.stands.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Running { hands: self.hands.clone() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.hands.guests.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.thread.unpark();
    }
}

impl Hands {
    fn run(&self, engine: &EngineWeak) {
        let mut alone = 0;
        loop {
            thread::sleep(TICK);
            let Some(engine) = engine.upgrade() else { return };
            self.ticks.fetch_add(1, Ordering::Relaxed);
            engine.increment_epoch();
            drop(engine);
            alone = if self.is_alone() { alone + 1 } else { 0 };
            if alone > LINGER {
                self.stands.store(true, Ordering::SeqCst);
                // A guest that comes either sees that it stands, or is seen here.
                if self.is_alone() {
                    thread::park_timeout(REST);
                }
                self.stands.store(false, Ordering::SeqCst);
                alone = 0;
            }
        }
    }

    fn is_alone(&self) -> bool {
        self.guests.load(Ordering::SeqCst) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn until(what: impl Fn() -> bool) {
        let began = Instant::now();
        while !what() {
            assert!(began.elapsed() < Duration::from_secs(20));
            thread::yield_now();
        }
    }

    #[test]
    fn it_stands_while_there_are_no_guests_and_not_while_there_is_one() {
        let engine = wasmtime::Engine::default();
        let clock = Clock::start(engine.weak()).unwrap();
        let ticks = || clock.hands.ticks.load(Ordering::Relaxed);
        until(|| clock.hands.stands.load(Ordering::SeqCst));
        let running = clock.run();
        let stood = ticks();
        // Longer than it would linger.
        until(|| ticks() > stood + 2 * LINGER);
        drop(running);
        until(|| clock.hands.stands.load(Ordering::SeqCst));
    }

    #[test]
    fn its_thread_ends_with_the_engine() {
        let engine = wasmtime::Engine::default();
        let clock = Clock::start(engine.weak()).unwrap();
        until(|| clock.hands.stands.load(Ordering::SeqCst));
        let hands = Arc::downgrade(&clock.hands);
        drop((engine, clock));
        until(|| hands.strong_count() == 0);
    }
}
