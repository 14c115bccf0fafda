//! The verbs of `cache-registry policy`, asked as a shell would ask.
#![allow(clippy::unwrap_used, reason = "what cannot be set up is a failed test")]

mod bench;
mod check;
mod configmap;
mod new;
mod push;
mod run;

use std::fs;
use std::path::PathBuf;

use cache_registry_authoring::{Command, Failure};
use cache_registry_guests::{Answer, component};
use clap::Parser;
use tempfile::TempDir;

/// A folder with files, in which commands are given.
pub(crate) struct Desk(TempDir);

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: u8,
    pub(crate) out: String,
    /// What was said on standard error.
    pub(crate) said: String,
}

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// With a policy in `mine.wasm`.
    pub(crate) fn with_policy(wasm: impl AsRef<[u8]>) -> Self {
        let desk = Self::new();
        desk.write("mine.wasm", wasm);
        desk
    }

    pub(crate) fn with_settable_policy() -> Self {
        Self::with_policy(settable_filter())
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Gives a command whose words are files where they begin with `@`. What is said has no folder in it.
    pub(crate) async fn policy(&self, line: &str) -> Ended {
        let words = line.split_whitespace().map(|word| match word.strip_prefix('@') {
            Some(name) => self.path(name).display().to_string(),
            None => word.to_owned(),
        });
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let parsed = Line::try_parse_from(std::iter::once("policy".to_owned()).chain(words));
        let ended = match parsed {
            Ok(Line { command }) => command.run(&mut out, &mut notes).await,
            Err(error) => Err(Failure::BadInput(error.to_string())),
        };
        let folder = format!("{}/", self.0.path().display());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&folder, "");
        let (status, failure) = match ended {
            Ok(()) => (0, String::new()),
            Err(failure) => (failure.exit_status(), failure.to_string().replace(&folder, "")),
        };
        Ended { status, out: text(out), said: text(notes) + &failure }
    }
}

impl Ended {
    /// What a command put out that did what it was asked for.
    #[track_caller]
    pub(crate) fn well(self) -> String {
        assert_eq!((self.status, self.said.as_str()), (0, ""), "{self:?}");
        self.out
    }

    /// What was said by one that did not.
    #[track_caller]
    pub(crate) fn with(self, status: u8) -> String {
        assert_eq!(self.status, status, "{self:?}");
        self.said
    }
}

/// A filter that ignores every image where it has settings, which must be a map.
pub(crate) fn settable_filter() -> Vec<u8> {
    const COMPLAINT: &str = "expected a map";
    let fields = format!(
        r#"(data (i32.const 128) "\01\00\00\00\00\08\00\00\{length:02x}\00\00\00")
           (data (i32.const 2048) "{COMPLAINT}")
           {ignored}
           (func (export "cache-registry:policy/check@0.1.0#check") (result i32)
             (call $settings (i32.const 512))
             (if (i32.and
                   (i32.ne (i32.load (i32.const 516)) (i32.const 0))
                   (i32.ne (i32.load8_u (i32.load (i32.const 512))) (i32.const 123)))
               (then (return (i32.const 128))))
             (i32.const 256))
           (func (export "cache-registry:policy/filter@0.1.0#filter") (param $pod i32) (param{params}) (result i32)
             (call $settings (i32.const 512))
             (call $drop_pod (local.get $pod))
             (if (i32.eqz (i32.load (i32.const 516))) (then (return (i32.const 256))))
             (i32.const 64))"#,
        ignored = Answer::Ignore("as it is set").data(),
        length = COMPLAINT.len(),
        params = " i32".repeat(14),
    );
    component(&["check", "filter"], &fields)
}
