use std::collections::HashMap;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use cache_registry_core::{Digest, Hasher};
use rustix::process::Pid;
use wasmtime::component::Component as Code;

use crate::component::{Compiled, Component};
use crate::engine::Engine;
use crate::load::{LoadError, expect_contract, in_words};
use crate::room;
use crate::step_back::{give_way, step_back};
use crate::survey::Survey;

/// Turns components into code, one after the other, and knows those that are in use.
///
/// Compiling is the only thing here that takes long, and nothing can stop it once it runs. So it has threads of its
/// own that let others go first, it is bounded by what can be seen of a component before, and
/// one that takes too long is left to itself: the threads that are on it end with it, and the next one has others.
pub(crate) struct Compiler {
    longest: Duration,
    known: Mutex<HashMap<Digest, Weak<Compiled>>>,
    turn: Mutex<()>,
    /// Those that took too long, the last ones, so that they are not tried again by whoever comes with them again.
    refused: Mutex<Vec<Digest>>,
    /// Compilations that go on: one that is waited for, and those that were left to themselves.
    running: Arc<AtomicUsize>,
}

/// The largest component that is compiled. JavaScript's interpreter comes in 12 MB, Python's in 18.
const LARGEST: usize = 64 << 20;

/// Compiled in milliseconds, in which a request can wait; and somebody who wrote it waits to see it in force.
const SMALL: usize = 1 << 20;

/// How much of a core's time one may take. Interpreters take ten seconds of two.
const LONGEST: Duration = Duration::from_mins(1);

/// How long one is waited for where others leave it that little of the cores.
const LONGEST_WAIT: Duration = Duration::from_mins(10);

/// How often it is looked at what one has taken.
const GLANCE: Duration = Duration::from_millis(500);

/// So many may run on beyond it.
const MOST_LEFT: usize = 2;

/// How many refused ones are remembered.
const MOST_REFUSED: usize = 64;

/// What is left to all else where the memory of the process has a limit.
const OTHER_MEMORY: u64 = 64 << 20;

/// For the compiler's recursion. Nothing of it is taken before it is used.
const STACK: usize = 8 << 20;

impl Engine {
    /// Compiles a component and links it with what policies are offered. One that is in use already, in whichever
    /// policy, is not compiled again.
    ///
    /// Takes milliseconds for a small component and seconds for one of several megabytes, and waits for those that came
    /// before: not for a thread that serves requests. The work itself is done on threads that let others go first.
    pub fn compile(&self, wasm: &[u8]) -> Result<Component, LoadError> {
        expect_component(wasm)?;
        if wasm.len() > LARGEST {
            return Err(LoadError::TooLarge { size: wasm.len(), largest: LARGEST });
        }
        let compiler = self.compiler();
        let digest = Hasher::sha256(wasm);
        if let Some(component) = compiler.known(&digest) {
            return Ok(component);
        }
        let survey = Survey::of(wasm)?;
        expect_contract(&survey)?;
        self.expect_room(&survey, wasm.len())?;

        let _turn = lock(&compiler.turn);
        // While this one waited, somebody else may have come with the same.
        if let Some(component) = compiler.known(&digest) {
            return Ok(component);
        }
        let code = compiler.compile(self.wasmtime(), &digest, wasm)?;
        let linked = Compiled::link(self, &code, digest.clone(), wasm.len(), survey)?;
        let linked = Arc::new(linked);
        let mut known = lock(&compiler.known);
        known.retain(|_, code| code.strong_count() > 0);
        known.insert(digest, Arc::downgrade(&linked));
        Ok(Component::from(linked))
    }

    /// Refuses what the kernel would end the process for.
    fn expect_room(&self, survey: &Survey, size: usize) -> Result<(), LoadError> {
        let memory = self.limits().memory;
        if survey.memory > memory as u64 {
            return Err(LoadError::Memory { wants: survey.memory, has: memory });
        }
        let wants = survey.memory_to_compile(size);
        match room::memory_limit() {
            Some(limit) if wants > limit.saturating_sub(OTHER_MEMORY) => Err(LoadError::Room { wants, limit }),
            _ => Ok(()),
        }
    }
}

impl Default for Compiler {
    fn default() -> Self {
        Self {
            longest: LONGEST,
            known: Mutex::default(),
            turn: Mutex::default(),
            refused: Mutex::default(),
            running: Arc::default(),
        }
    }
}

impl Compiler {
    fn known(&self, digest: &Digest) -> Option<Component> {
        lock(&self.known).get(digest)?.upgrade().map(Component::from)
    }

    fn compile(&self, engine: &wasmtime::Engine, digest: &Digest, wasm: &[u8]) -> Result<Code, LoadError> {
        if lock(&self.refused).contains(digest) {
            return Err(LoadError::TooLong(self.longest));
        }
        if self.running.load(Ordering::Relaxed) >= MOST_LEFT {
            return Err(LoadError::Busy);
        }
        let is_large = wasm.len() > SMALL;
        let workers = Arc::new(Mutex::new(Vec::new()));
        let threads = rayon::ThreadPoolBuilder::new()
            .thread_name(|_| "policy-compiler".to_owned())
            .stack_size(STACK)
            .start_handler({
                let workers = workers.clone();
                move |_| {
                    if is_large {
                        step_back();
                    } else {
                        give_way();
                    }
                    lock(&workers).push(rustix::thread::gettid());
                }
            })
            .build()
            .map_err(|error| LoadError::Compile(error.to_string()))?;
        let (sender, receiver) = mpsc::sync_channel(1);
        let (engine, wasm, running) = (engine.clone(), wasm.to_vec(), self.running.clone());
        running.fetch_add(1, Ordering::Relaxed);
        threads.spawn(move || {
            // A panic of the compiler's costs the component, and not the process.
            let code = panic::catch_unwind(AssertUnwindSafe(|| Code::new(&engine, &wasm)));
            running.fetch_sub(1, Ordering::Relaxed);
            // Nobody waits any more for one that took too long.
            let _ = sender.send(code);
        });
        let began = Instant::now();
        let code = loop {
            match receiver.recv_timeout(GLANCE.min(self.longest)) {
                Err(RecvTimeoutError::Timeout)
                    if began.elapsed() < LONGEST_WAIT && taken(&lock(&workers)) < self.longest => {}
                end => break end,
            }
        };
        match code {
            Ok(Ok(code)) => code.map_err(|error| LoadError::Compile(in_words(&error))),
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => {
                Err(LoadError::Compile("a fault of the compiler".to_owned()))
            }
            Err(RecvTimeoutError::Timeout) => {
                let mut refused = lock(&self.refused);
                if refused.len() == MOST_REFUSED {
                    refused.remove(0);
                }
                refused.push(digest.clone());
                Err(LoadError::TooLong(self.longest))
            }
        }
    }
}

/// The time on a core that the busiest of some threads had
/// (<https://docs.kernel.org/scheduler/sched-stats.html#proc-pid-schedstat>).
fn taken(threads: &[Pid]) -> Duration {
    let of = |thread: &Pid| {
        let numbers = fs::read_to_string(format!("/proc/self/task/{}/schedstat", thread.as_raw_nonzero())).ok()?;
        numbers.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    };
    threads.iter().filter_map(of).max().unwrap_or_default()
}

/// The first eight bytes: a magic number, a version and a layer
/// (<https://github.com/WebAssembly/component-model/blob/main/design/mvp/Binary.md#component-definitions>).
fn expect_component(wasm: &[u8]) -> Result<(), LoadError> {
    match wasm {
        [] => Err(LoadError::Empty),
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => Err(LoadError::CoreModule),
        [b'\0', b'a', b's', b'm', ..] => Ok(()),
        _ => Err(LoadError::NotWasm),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr;

    use crate::built_in;
    use crate::engine::{HostFacts, Limits};

    /// Variables in loops within loops: some kilobytes that take the compiler seconds.
    fn tangled(times: usize) -> Vec<u8> {
        let (variables, begin, end) = ("i32 ".repeat(times), "(loop ".repeat(times), ")".repeat(times));
        let set: Vec<_> =
            (0..times).map(|i| format!("(local.set {i} (i32.add (local.get {i}) (local.get 0)))")).collect();
        let set = set.concat();
        let end = end.replace(')', "(br_if 0 (local.get 0)))");
        wat::parse_str(format!("(component (core module (func (local {variables}) {begin} {set} {end})))")).unwrap()
    }

    fn small() -> Vec<u8> {
        wat::parse_str("(component (core module (func)))").unwrap()
    }

    #[test]
    fn one_that_takes_too_long_is_left_to_itself() {
        let engine = Engine::new(&Limits::default(), HostFacts::default()).unwrap();
        let (slow, small) = (tangled(1000), small());
        let digest = Hasher::sha256(&slow);
        let compiler = Compiler { longest: Duration::from_millis(50), ..Compiler::default() };

        let began = Instant::now();
        let refused = compiler.compile(engine.wasmtime(), &digest, &slow).err();
        assert!(matches!(refused, Some(LoadError::TooLong(_))), "{refused:?}");
        assert_eq!(
            compiler.running.load(Ordering::Relaxed),
            1,
            "it takes longer than to look for it: {:?}",
            began.elapsed()
        );

        // It keeps nobody else from being compiled, and is not tried again.
        assert!(compiler.compile(engine.wasmtime(), &Hasher::sha256(&small), &small).is_ok());
        let began = Instant::now();
        assert!(matches!(compiler.compile(engine.wasmtime(), &digest, &slow), Err(LoadError::TooLong(_))));
        assert!(began.elapsed() < compiler.longest);
    }

    #[test]
    fn those_left_to_themselves_are_few() {
        let engine = Engine::new(&Limits::default(), HostFacts::default()).unwrap();
        let compiler = Compiler::default();
        compiler.running.store(MOST_LEFT, Ordering::Relaxed);
        let small = small();
        let digest = Hasher::sha256(&small);
        assert!(matches!(compiler.compile(engine.wasmtime(), &digest, &small), Err(LoadError::Busy)));
        compiler.running.store(0, Ordering::Relaxed);
        assert!(compiler.compile(engine.wasmtime(), &digest, &small).is_ok());
        assert_eq!(compiler.running.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_in_use_is_not_compiled_again() {
        let engine = Engine::new(&Limits::default(), HostFacts::default()).unwrap();
        let compiled = || engine.compile(built_in::DEFAULT_FILTER).unwrap();
        let (first, second) = (compiled(), compiled());
        let digest = first.digest().clone();
        assert!(ptr::eq(first.digest(), second.digest()));
        assert_eq!(lock(&engine.compiler().known).len(), 1);
        drop((first, second));
        assert!(engine.compiler().known(&digest).is_none(), "only those in use are known");
    }

    #[test]
    fn it_is_seen_what_a_thread_has_taken() {
        let taken = std::thread::spawn(|| {
            give_way();
            taken(&[rustix::thread::gettid()])
        });
        assert!(!taken.join().unwrap().is_zero());
    }
}
