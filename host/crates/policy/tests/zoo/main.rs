//! Hostile components, in an engine that other policies use as well. Each ends within its limits, nobody else is answered
//! wrongly, and the memory comes back.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by them, in its helpers too")]

mod beasts;

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cache_registry_core::{ContainerFacts, ContainerKind, Decision, PodFacts, PullPolicy};
use cache_registry_policy::built_in::{self, ReleaseSettings};
use cache_registry_policy::{
    Engine, HostFacts, Limits, LoadError, Member, Metrics, Observer, PolicyFailure, PolicySet,
};
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio::task;

/// Time enough for the good ones on a machine that does much else, and little enough for those that take all of it.
const LIMITS: Limits =
    Limits { time: Duration::from_millis(300), memory: 8 << 20, concurrency: 4, wait: Duration::from_mins(1) };

/// As long as an API server waits. On a machine that does nothing else, they take their time and no more.
const PATIENCE: Duration = Duration::from_secs(5);

/// One beast at a time, and nobody beside who measures memory.
static CAGE: Mutex<()> = Mutex::new(());

fn engine() -> Engine {
    Engine::new(&LIMITS, HostFacts::default()).unwrap()
}

fn nobody() -> Observer {
    Metrics::register(&mut Registry::default()).into()
}

fn containers() -> Vec<ContainerFacts> {
    let container = |image: &str| ContainerFacts {
        name: "web".to_owned(),
        kind: ContainerKind::Regular,
        pull_policy: PullPolicy::Always,
        image: image.parse().unwrap(),
    };
    ["a:1", "b:1"].map(container).into()
}

fn pod() -> Arc<PodFacts> {
    Arc::new(PodFacts { json: Arc::from("x".repeat(100_000)), ..PodFacts::default() })
}

/// Asks the built-in policies again and again until it is told to stop, and returns how often.
async fn ask_the_good(engine: Engine, stop: Arc<AtomicBool>, asked: Arc<AtomicUsize>) {
    let good = PolicySet::built_in(engine, &ReleaseSettings::default(), nobody()).unwrap();
    while !stop.load(Ordering::Relaxed) {
        for verdict in good.decide(pod(), containers()).await {
            assert!(
                matches!(verdict.decision, Decision::Rewritten { .. }) && verdict.warnings.is_empty(),
                "{verdict:?}"
            );
        }
        asked.fetch_add(1, Ordering::Relaxed);
    }
}

/// Does something with an engine while its good policies are asked, and sees that they are.
async fn beside_the_good<F: Future>(engine: &Engine, name: &str, harm: F) -> F::Output {
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let good = tokio::spawn(ask_the_good(engine.clone(), stop.clone(), asked.clone()));
    let came_of_it = harm.await;
    // However quick the harm was.
    let before = asked.load(Ordering::Relaxed);
    while asked.load(Ordering::Relaxed) < before + 5 && !good.is_finished() {
        task::yield_now().await;
    }
    stop.store(true, Ordering::Relaxed);
    good.await.unwrap_or_else(|error| panic!("{name}: {error}"));
    came_of_it
}

/// Puts a hostile filter before the built-in policies, asks it, and returns what is told of it.
async fn ask(engine: &Engine, name: &str, wasm: &[u8]) -> Option<PolicyFailure> {
    let beast = Arc::new(engine.load("beast", &engine.compile(wasm).unwrap(), "").unwrap());
    let members = [beast].into_iter().chain(built_in::load(engine).unwrap()).map(Member::from).collect();
    let (sender, mut failures) = mpsc::channel(1);
    let set = PolicySet::new(engine.clone(), members, Observer { failures: Some(sender), ..nobody() }).unwrap();
    let began = Instant::now();
    let verdicts = set.decide(pod(), containers()).await;
    assert!(began.elapsed() < PATIENCE, "{name}: {:?}", began.elapsed());
    assert!(verdicts.iter().all(|verdict| verdict.warnings.len() == 1), "{name}: {verdicts:?}");
    failures.try_recv().ok()
}

async fn load(engine: &Engine, name: &str, wasm: Vec<u8>) -> LoadError {
    let (engine, began) = (engine.clone(), Instant::now());
    let loaded = task::spawn_blocking(move || engine.load("beast", &engine.compile(&wasm)?, "").map(drop));
    let error = loaded.await.unwrap().unwrap_err();
    assert!(began.elapsed() < PATIENCE, "{name}: {:?}", began.elapsed());
    error
}

#[test]
fn those_that_do_harm_when_asked_harm_nobody_else() {
    let _cage = CAGE.lock().unwrap_or_else(PoisonError::into_inner);
    runtime().block_on(async {
        let engine = engine();
        for (name, wasm, cause) in beasts::when_asked() {
            let failure = beside_the_good(&engine, name, ask(&engine, name, &wasm)).await;
            assert_eq!(failure.as_ref().map(|failure| failure.cause), Some(cause), "{name}: {failure:?}");
        }
    });
}

#[test]
fn those_that_do_harm_when_loaded_harm_nobody_else() {
    let _cage = CAGE.lock().unwrap_or_else(PoisonError::into_inner);
    runtime().block_on(async {
        let engine = engine();
        for (name, wasm, reason) in beasts::when_loaded() {
            let error = beside_the_good(&engine, name, load(&engine, name, wasm)).await;
            assert_eq!(error.reason(), reason, "{name}: {error}");
        }
    });
}

#[test]
fn the_good_are_answered_while_something_huge_is_compiled() {
    let _cage = CAGE.lock().unwrap_or_else(PoisonError::into_inner);
    runtime().block_on(async {
        let (engine, huge) = (engine(), beasts::huge());
        let compile = {
            let engine = engine.clone();
            task::spawn_blocking(move || engine.compile(&huge))
        };
        let began = Instant::now();
        beside_the_good(&engine, "huge", compile).await.unwrap().unwrap();
        // Else it would not tell anything.
        assert!(began.elapsed() > Duration::from_millis(200), "{:?}", began.elapsed());
    });
}

/// Threads that compile and slots of the pool keep some for their next work, each from the round on in which it is first
/// used; so it grows for a while, and then no more. What does not come back makes it grow with each round, for ever.
#[test]
fn the_memory_comes_back() {
    const AT_REST: usize = 10;
    let _cage = CAGE.lock().unwrap_or_else(PoisonError::into_inner);
    runtime().block_on(async {
        let engine = engine();
        let mut resident = Vec::new();
        while resident.last_chunk::<AT_REST>().is_none_or(|last| last[AT_REST - 1] >= last[0] + (4 << 20)) {
            let round = resident.len();
            for (name, wasm, _) in beasts::when_asked().into_iter().filter(|(_, _, cause)| *cause != "time") {
                ask(&engine, name, &wasm).await;
            }
            for (name, wasm, _) in beasts::when_loaded() {
                if round < 4 || !name.contains("for ever") && !name.starts_with("loop") {
                    load(&engine, name, wasm).await;
                }
            }
            resident.push(resident_now());
            let mib = || resident.iter().map(|bytes| bytes >> 20).collect::<Vec<_>>();
            assert!(round < 60, "MiB after each round: {:?}", mib());
        }
    });
}

/// Bytes of memory that this process has (<https://docs.kernel.org/filesystems/proc.html>).
fn resident_now() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}
