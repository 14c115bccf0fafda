use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
    use wasmtime::{Config, Engine, Instance, Module, Store, Trap};

    fn until(what: impl Fn() -> bool) {
        let began = Instant::now();
        while !what() {
            assert!(began.elapsed() < Duration::from_secs(20));
            thread::yield_now();
        }
    }

    #[test]
    fn it_stands_while_there_are_no_guests_and_not_while_there_is_one() {
        let engine = Engine::new(Config::new().epoch_interruption(true)).unwrap();
        let endless = wat::parse_str(r#"(module (func (export "run") (loop $forever (br $forever))))"#).unwrap();
        let endless = Module::new(&engine, endless).unwrap();
        let mut store = Store::new(&engine, ());
        let guest = Instance::new(&mut store, &endless, &[]).unwrap();
        let guest = guest.get_typed_func::<(), ()>(&mut store, "run").unwrap();
        let clock = Clock::start(engine.weak()).unwrap();
        until(|| clock.hands.stands.load(Ordering::SeqCst));
        let running = clock.run();
        // Longer than it would linger. With a clock that stands, this would not end before that looks around.
        store.set_epoch_deadline(2 * LINGER);
        let began = Instant::now();
        let ended = guest.call(&mut store, ()).unwrap_err();
        assert_eq!(ended.downcast_ref(), Some(&Trap::Interrupt));
        assert!(began.elapsed() < REST / 3, "{:?}", began.elapsed());
        drop(running);
        until(|| clock.hands.stands.load(Ordering::SeqCst));
    }

    #[test]
    fn its_thread_ends_with_the_engine() {
        let engine = Engine::default();
        let clock = Clock::start(engine.weak()).unwrap();
        until(|| clock.hands.stands.load(Ordering::SeqCst));
        let hands = Arc::downgrade(&clock.hands);
        drop((engine, clock));
        until(|| hands.strong_count() == 0);
    }
}
