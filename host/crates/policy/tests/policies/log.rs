//! What a policy says is in the log under its name, and cannot fill it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use cache_registry_policy::LoadError;
use tracing_subscriber::fmt::MakeWriter;

use crate::guest;
use crate::{decide, engine, load, set_with};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// What is logged by work that is done on this thread.
pub(crate) fn logged_while<T>(work: impl FnOnce() -> T) -> (String, T) {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_writer(lines.clone()).with_ansi(false).finish();
    let done = tracing::subscriber::with_default(subscriber, work);
    (lines.text(), done)
}

/// What is logged while a policy with `body` in its `check` is loaded.
fn logged(body: &str) -> (String, Result<(), LoadError>) {
    let check =
        format!(r#"(func (export "cache-registry:policy/check@0.1.0#check") (result i32) {body} (i32.const 64))"#);
    let filter = format!(
        "(func (export \"cache-registry:policy/filter@0.1.0#filter\") (param{}) (result i32) unreachable)",
        " i32".repeat(15)
    );
    let text = r#"(data (i32.const 1024) "first\0asecond")"#;
    let wasm = guest::component(&["check", "filter"], &format!("{text} {check} {filter}"));
    let (log, loaded) = logged_while(|| load(&engine(), "guest", &wasm, ""));
    (log, loaded.map(drop))
}

#[test]
fn a_line_has_the_policys_name_and_level_and_is_one_line() {
    let (log, loaded) = logged("(call $log (i32.const 2) (i32.const 1024) (i32.const 12))");
    assert!(loaded.is_ok());
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.contains(" WARN "), "{log}");
    assert!(log.contains(r#"policy="guest" said="first\nsecond""#), "{log}");
}

/// A policy that runs out of time is tried three times: the machine may have been busy.
#[test]
fn a_flood_is_cut_off_and_runs_out_of_time_in_every_trial() {
    let (log, loaded) = logged("(loop $more (call $log (i32.const 1) (i32.const 1024) (i32.const 12)) (br $more))");
    let error = loaded.unwrap_err().to_string();
    assert!(error.starts_with("the policy was tried, and it took longer than 200ms"), "{error}");
    assert!(log.len() < 64 << 10, "{} bytes", log.len());
    assert_eq!(log.matches("the rest is dropped").count(), 3, "{log}");
}

#[test]
fn a_line_that_is_too_long_is_cut() {
    let (log, loaded) = logged("(call $log (i32.const 1) (i32.const 1024) (i32.const 60000))");
    assert!(loaded.is_ok());
    assert!(log.contains("first"), "{log}");
    assert!(log.len() < 64 << 10, "{} bytes", log.len());
    assert_eq!(log.matches("the rest is dropped").count(), 1, "{log}");
}

/// What is logged while a policy with `body` in its filter is asked about `count` containers.
fn logged_for(count: usize, body: &str) -> String {
    let set = set_with(&guest::filter(&format!("{body} unreachable")));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let images = vec!["a:1"; count];
    let (log, verdicts) = logged_while(|| runtime.block_on(decide(&set, &images)));
    assert_eq!(verdicts.iter().filter(|verdict| verdict.warnings.len() == 1).count(), count);
    log
}

#[test]
fn failures_of_one_kind_are_one_line_for_a_pod_of_any_size() {
    let log = logged_for(1000, "");
    let failures: Vec<_> = log.lines().filter(|line| line.contains("policy failed")).collect();
    // The time can be used up before the last is asked, which is a failure of another kind.
    assert!(matches!(failures.len(), 1 | 2) && failures[0].contains("cause=\"trap\""), "{log}");
}

#[test]
fn a_policy_that_traps_has_no_more_log_than_one_that_answers() {
    let log = logged_for(20, "(call $log (i32.const 1) (i32.const 1024) (i32.const 5000))");
    assert_eq!(log.matches("policy says").count(), 2, "{log}");
    assert_eq!(log.matches("the rest is dropped").count(), 1, "{log}");
}

/// Said with the level `error`, as the SDK's panic hook does, and then it traps.
#[test]
fn the_last_error_is_the_reason_of_a_trap() {
    let said = |level: u32| {
        let body = format!(
            "(call $log (i32.const {level}) (i32.const 1024) (i32.const 5)) \
             (call $log (i32.const 1) (i32.const 1030) (i32.const 6)) unreachable"
        );
        logged(&body).1.unwrap_err().to_string()
    };
    assert!(said(3).starts_with("the policy was tried, and it panicked: first; "), "{}", said(3));
    assert!(said(2).starts_with("the policy was tried, and it panicked; "), "{}", said(2));
}
