//! Tools for authors of policies: from an idea to a `ConfigMap`, without a cluster.
//!
//! Each verb of `cache-registry policy` is a file here: its flags, and what it does with them. Nothing is decided twice:
//! components are loaded by `policy`, pods are answered by `webhook`, `ConfigMap`s are written by `configmaps` and
//! artifacts pushed by `registry`, as in the cluster. What is ours is to read what people have, and to say what was
//! found so that they know what to do.
//!
//! ```text
//!   YAML, JSON ─ documents ─▶ Node ─ pods ─▶ AdmissionReview ─ webhook::explain ─▶ report
//!                              │ knows its place              ▲
//!   *.wasm ──── policy_file ───┼──▶ Policy ─── PolicySet ─────┘
//!                              └─▶ line and column, where something is wrong
//! ```
#![allow(clippy::doc_markdown, reason = "these comments are what --help prints, where backticks are noise")]

mod bench;
mod check;
mod configmap;
mod documents;
mod failure;
mod host;
mod inputs;
mod new;
mod node;
mod pods;
mod policy_file;
mod push;
mod quantity;
mod report;
mod run;

use std::io::{self, IsTerminal as _, Write};

use clap::Subcommand;
use tracing_subscriber::EnvFilter;

pub use bench::Bench;
pub use check::Check;
pub use configmap::ConfigMap;
pub use failure::Failure;
pub use host::PolicyHost;
pub use new::New;
pub use push::Push;
pub use quantity::time;
pub use run::Run;

/// What can be done with policies.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes a project of a policy that builds with one command, with a native test
    New(New),
    /// Loads a policy as the webhook would, and says what it is or why it is refused
    Check(Check),
    /// Decides on pods: says for each container which policy decides what, and why
    Run(Run),
    /// Measures what a policy takes for a request about pods: time, memory, a fresh instance, compilation
    Bench(Bench),
    /// Prints the ConfigMap of a policy, for kubectl apply
    #[command(name = "configmap")]
    ConfigMap(ConfigMap),
    /// Pushes a policy to a registry as an OCI artifact: for those that are too large for a ConfigMap
    Push(Push),
}

/// Which lines of the log are shown where RUST_LOG does not say: what policies say, and what goes wrong.
const LOG: &str = "warn,cache_registry_policy::log=debug";

/// Lets policies' logs, and our own, be read on standard error: by a person, so without the time.
pub fn log_to_standard_error() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOG));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).without_time();
    // Fails where logs are set up already, and then they go where that said.
    let _ = lines.with_target(false).with_ansi(io::stderr().is_terminal()).try_init();
}

impl Command {
    /// Does it. The answer goes to `out`, and what is to be known beside it to `notes`.
    pub async fn run(self, out: &mut impl Write, notes: &mut impl Write) -> Result<(), Failure> {
        match self {
            Self::New(new) => new.run(out),
            Self::Check(check) => check.run(out),
            Self::Run(run) => run.run(out, notes).await,
            Self::Bench(bench) => bench.run(out, notes).await,
            Self::ConfigMap(configmap) => configmap.run(out),
            Self::Push(push) => push.run(out).await,
        }
    }
}
