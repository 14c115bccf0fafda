//! Many requests at once: none waits for a policy that loops, beyond the limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cache_registry_core::Decision;
use cache_registry_policy::Limits;

use crate::guest;
use crate::{LIMITS, cached, decide, engine, engine_with, failed, policy, set_of};

const LOOP: &str = "(loop $forever (br $forever))";

/// Three of four turns are always taken by a policy that loops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_loops_does_not_starve_the_others() {
    let engine = engine_with(&Limits { time: Duration::from_millis(50), ..LIMITS });
    let looping = set_of(&engine, vec![policy(&engine, "guest", &guest::filter(LOOP))]);
    let good = set_of(&engine, Vec::new());
    let (stop, looped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let loops: Vec<_> = (0..LIMITS.concurrency - 1)
        .map(|_| {
            let (looping, stop, looped) = (looping.clone(), stop.clone(), looped.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(decide(&looping, &["a:1"]).await, [failed("policy guest took longer than 50ms")]);
                    looped.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    // Alone on a turn, 2,000 decisions take a tenth of a second; one behind each loop, more than a minute and a half.
    let began = Instant::now();
    let mut decided = 0;
    while decided < 2000 || looped.load(Ordering::Relaxed) < 6 {
        assert_eq!(decide(&good, &["a:1", "b:1"]).await, [cached("a:1"), cached("b:1")]);
        decided += 1;
        assert!(began.elapsed() < Duration::from_secs(30), "{decided} in {:?}", began.elapsed());
    }
    stop.store(true, Ordering::Relaxed);
    for task in loops {
        task.await.unwrap();
    }
}

/// The worker that serves other requests goes on while a guest loops.
#[tokio::test(flavor = "current_thread")]
async fn a_guest_does_not_hold_up_the_thread_that_asks() {
    let engine = engine();
    let looping = set_of(&engine, vec![policy(&engine, "guest", &guest::filter(LOOP))]);
    let mut decision = Box::pin(decide(&looping, &["a:1"]));
    let mut beats = 0;
    let verdicts = loop {
        tokio::select! {
            biased;
            verdicts = &mut decision => break verdicts,
            () = tokio::time::sleep(Duration::from_millis(5)) => beats += 1,
        }
    };
    assert_eq!(verdicts, [failed("policy guest took longer than 200ms")]);
    assert!(beats >= 3, "{beats}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_waits_too_long_for_its_turn_is_left_alone() {
    let limits = Limits { concurrency: 1, time: Duration::from_millis(200), wait: Duration::from_millis(50), ..LIMITS };
    let engine = engine_with(&limits);
    let looping = set_of(&engine, vec![policy(&engine, "guest", &guest::filter(LOOP))]);
    let both = tokio::join!(decide(&looping, &["a:1"]), decide(&looping, &["b:1", "c:1"]));
    assert_eq!(both.0, [failed("policy guest took longer than 200ms")]);
    let words = "no policy could be asked within 50ms, there are too many requests";
    for verdict in &both.1 {
        assert_eq!(verdict.decision, Decision::LeftAlone { reason: words.to_owned() });
        assert_eq!((verdict.policy.as_deref(), verdict.warnings.as_slice()), (None, &[words.to_owned()][..]));
    }
    assert_eq!(both.1.len(), 2);
}
