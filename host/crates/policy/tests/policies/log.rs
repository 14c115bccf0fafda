//! What a policy says is in the log under its name, and cannot fill it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use cache_registry_policy::LoadError;
use tracing_subscriber::fmt::MakeWriter;

use crate::engine;
use crate::guest::{self};

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

/// What is logged while a policy with `body` in its `check` is loaded, which happens on this thread.
fn logged(body: &str) -> (String, Result<(), LoadError>) {
    let check =
        format!(r#"(func (export "cache-registry:policy/check@0.1.0#check") (result i32) {body} (i32.const 64))"#);
    let filter = format!(
        "(func (export \"cache-registry:policy/filter@0.1.0#filter\") (param{}) (result i32) unreachable)",
        " i32".repeat(15)
    );
    let text = r#"(data (i32.const 1024) "first\0asecond")"#;
    let wasm = guest::component(&["check", "filter"], &format!("{text} {check} {filter}"));
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_writer(lines.clone()).with_ansi(false).finish();
    let loaded = tracing::subscriber::with_default(subscriber, || engine().load("guest", &wasm, ""));
    (lines.text(), loaded.map(drop))
}

#[test]
fn a_line_has_the_policys_name_and_level_and_is_one_line() {
    let (log, loaded) = logged("(call $log (i32.const 2) (i32.const 1024) (i32.const 12))");
    assert!(loaded.is_ok());
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.contains(" WARN "), "{log}");
    assert!(log.contains(r#"policy="guest" said="first\nsecond""#), "{log}");
}

#[test]
fn a_flood_is_cut_off_and_then_runs_out_of_time() {
    let (log, loaded) = logged("(loop $more (call $log (i32.const 1) (i32.const 1024) (i32.const 12)) (br $more))");
    assert_eq!(loaded.unwrap_err().to_string(), "the policy was tried, and it took longer than 200ms");
    assert!(log.len() < 64 << 10, "{} bytes", log.len());
    assert_eq!(log.matches("the rest is dropped").count(), 1, "{log}");
}

#[test]
fn a_line_that_is_too_long_is_cut() {
    let (log, loaded) = logged("(call $log (i32.const 1) (i32.const 1024) (i32.const 60000))");
    assert!(loaded.is_ok());
    assert!(log.contains("first"), "{log}");
    assert!(log.len() < 64 << 10, "{} bytes", log.len());
    assert_eq!(log.matches("the rest is dropped").count(), 1, "{log}");
}
