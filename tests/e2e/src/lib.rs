//! Runs end-to-end tests on a [`Bed`](cache_registry_bed::Bed), or on a whole
//! [`Cluster`](cache_registry_bed::cluster::Cluster).
//!
//! The tests of one file share a bed and run one after the other; before each, every part is brought back up and the
//! upstream behaves again. A test that fails shows the state of the bed: objects, Events, and the end of every log.
//!
//! It is a test harness of its own and not the built-in one because a bed has to be taken down before the program
//! ends, which a `static` never is.

mod admissions;
pub mod collection;
mod document;
mod images;
mod policy_maps;
mod processes;
mod registry_data;
pub mod release;
mod stage;
mod stock;
mod webhook_client;
mod whole;

use std::any::Any;
use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use futures::FutureExt;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;
use tokio::time::timeout;

pub use admissions::{admissions, rewritten, served_until};
pub use document::{Reader, Step, shows, steps};
pub use images::{Published, expects_gone, publish, publish_large, pulls_whole};
pub use policy_maps::{PolicyMaps, TRIED_IMAGE, next_pod, outcome_of};
pub use processes::processes_of;
pub use registry_data::{blob_file, content_digest};
pub use stage::Stage;
pub use stock::{Tally, all_is_whole, ask_for, cache, pulls_during, stock};
pub use webhook_client::{WebhookConnection, review_of};
pub use whole::{Kept, whole};

/// How long a test may take, beyond which it has failed, where its file says nothing else.
const LONGEST_TEST: Duration = Duration::from_mins(2);

/// A test: its name, and what it does.
pub struct Test<S> {
    /// The name, as a sentence.
    pub name: &'static str,
    /// What it does.
    pub body: for<'a> fn(&'a mut S) -> Running<'a>,
}

/// A test that runs.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// Makes [`Test`]s of functions of the form `async fn name(bed: &mut Bed) -> Result<()>`, or of another [`Stage`].
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        vec![$($crate::Test { name: stringify!($name), body: |stage| Box::pin($name(stage)) }),*]
    };
}

/// Says something beside the results: a measurement.
#[macro_export]
macro_rules! note {
    ($($words:tt)*) => { $crate::say(&format!($($words)*)) };
}

/// Writes a line to standard error.
pub fn say(line: &str) {
    // A terminal that is gone is no reason to fail.
    let _ = writeln!(std::io::stderr(), "  {line}");
}

enum Slot<S: Stage> {
    NotStarted(S::Options),
    Up(Box<S>),
    Failed(String),
}

/// Runs tests on one bed or cluster, which is started when the first of them is.
pub fn run<S: Stage>(options: S::Options, tests: Vec<Test<S>>) -> Result<ExitCode> {
    run_within(LONGEST_TEST, options, tests)
}

/// The same, for tests each of which may take as long as `longest`.
pub fn run_within<S: Stage>(longest: Duration, options: S::Options, tests: Vec<Test<S>>) -> Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let runtime = Arc::new(Runtime::new()?);
    let slot = Arc::new(Mutex::new(Slot::NotStarted(options)));
    let trials = tests.into_iter().map(|test| {
        let (runtime, slot) = (Arc::clone(&runtime), Arc::clone(&slot));
        Trial::test(test.name, move || {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            runtime.block_on(one(&mut slot, &test, longest)).map_err(|error| Failed::from(format!("{error:#}")))
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    // Within the runtime, where its parts were started.
    runtime.block_on(async { drop(slot) });
    Ok(conclusion.exit_code())
}

async fn one<S: Stage>(slot: &mut Slot<S>, test: &Test<S>, longest: Duration) -> Result<()> {
    if let Slot::NotStarted(options) = slot {
        *slot = match S::start(options.clone()).await {
            Ok(stage) => Slot::Up(Box::new(stage)),
            Err(error) => Slot::Failed(format!("{error:#}")),
        };
    }
    let stage = match slot {
        Slot::Up(stage) => stage,
        Slot::Failed(error) => return Err(anyhow!("there is nothing to test on: {error}")),
        Slot::NotStarted(_) => return Err(anyhow!("there is nothing to test on")),
    };
    stage.heal().await.context("not all could be brought back up before the test")?;
    let run = AssertUnwindSafe(timeout(longest, (test.body)(stage))).catch_unwind();
    let failure = match run.await {
        Ok(Ok(Ok(()))) => return Ok(()),
        Ok(Ok(Err(error))) => format!("{error:#}"),
        Ok(Err(_)) => format!("not done after {} s", longest.as_secs()),
        Err(panic) => words_of(&*panic),
    };
    Err(anyhow!("{failure}\n\n{}", stage.state().await))
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without words").to_owned()
}
