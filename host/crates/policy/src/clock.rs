use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::EngineWeak;

/// Lets time pass for guests: they are looked after at each tick. It stands while none is asked anything.
pub(crate) struct Clock {
    hands: Arc<Hands>,
    thread: Thread,
}

#[derive(Default)]
struct Hands {
    ticks: AtomicU64,
    /// The tick at which somebody last asked for them.
    asked: AtomicU64,
    stands: AtomicBool,
}

/// So long may a policy that loops hold up the thread that serves it, and a little more. Shorter ones would cost more than
/// they save.
pub(crate) const TICK: Duration = Duration::from_micros(250);

/// Ticks that come although nobody asked: to stop and start for each of many requests would cost more.
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

    /// Ticks since the start. While the kernel keeps the whole process from running (a CPU limit), there are none.
    pub(crate) fn now(&self) -> u64 {
        self.hands.ticks.load(Ordering::Relaxed)
    }

    /// For the next while there are ticks.
    pub(crate) fn wind(&self) {
        self.hands.asked.store(self.now(), Ordering::SeqCst);
        if self.hands.stands.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.thread.unpark();
    }
}

impl Hands {
    fn run(&self, engine: &EngineWeak) {
        loop {
            thread::sleep(TICK);
            let Some(engine) = engine.upgrade() else { return };
            let now = self.ticks.fetch_add(1, Ordering::Relaxed) + 1;
            engine.increment_epoch();
            drop(engine);
            if self.is_unwound(now) {
                self.stands.store(true, Ordering::SeqCst);
                // Who winds it either sees that it stands, or is seen here.
                if self.is_unwound(now) {
                    thread::park_timeout(REST);
                }
                self.stands.store(false, Ordering::SeqCst);
            }
        }
    }

    fn is_unwound(&self, now: u64) -> bool {
        now.saturating_sub(self.asked.load(Ordering::SeqCst)) > LINGER
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
    fn it_stands_while_nobody_asks_and_goes_on_when_somebody_does() {
        let engine = wasmtime::Engine::default();
        let clock = Clock::start(engine.weak()).unwrap();
        until(|| clock.hands.stands.load(Ordering::SeqCst));
        let stood = clock.now();
        clock.wind();
        until(|| clock.now() > stood + 10);
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
