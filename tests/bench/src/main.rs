//! The tables of `docs/performance.md`: what cache-registry takes, beside what does the same without it, in one run on
//! one machine.
//!
//! Machines differ and are busy, so what counts is the ratio: each round measures every side, one right after the
//! other, and a row is the median over rounds.

mod admission;
mod load;
mod machine;
mod native;
mod part;
mod proxying;
mod pull;
mod report;
mod review;
mod row;
mod serve;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};

use crate::proxying::Programs;
use crate::report::{Section, render, write_between_markers, write_json};
use crate::serve::Serve;

/// Measures, prints the tables, and writes them to docs/performance.md and target/bench.json.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where the pinned programs are: what tests/tools/build.sh prints
    #[arg(long, env = "CACHE_REGISTRY_TOOLS", value_name = "FOLDER")]
    tools: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One of the servers that are measured: the benchmark starts it itself
    #[command(hide = true)]
    Serve(Serve),
}

/// Many times what it takes: something hangs.
const LONGEST: Duration = Duration::from_mins(8);

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(Command::Serve(serve)) = args.command {
        return serve.run();
    }
    let tools = args.tools.context("where are the pinned programs? --tools $(tests/tools/build.sh)")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        // What is not finished is dropped, and with it every server and file.
        tokio::select! {
            measured = tokio::time::timeout(LONGEST, bench(tools)) => {
                measured.with_context(|| format!("not finished after {} s", LONGEST.as_secs()))?
            }
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            _ = terminated.recv() => bail!("terminated"),
        }
    });
    runtime.shutdown_background();
    outcome
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the tables are what it is for")]
async fn bench(tools: PathBuf) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let this = std::env::current_exe()?;
    let cache_registry = this.with_file_name("cache-registry");
    if !cache_registry.is_file() {
        bail!("{} is not there: cargo build --release --package cache-registry", cache_registry.display());
    }
    if std::thread::available_parallelism()?.get() < 2 {
        bail!("servers and load need a CPU each, and here is one");
    }
    let folder = tempfile::Builder::new().prefix("cache-registry-bench.").tempdir()?;

    eprintln!("admission reviews (about 35 s) ...");
    let admission = Section {
        title: "Admission: the built-in policies in Wasm; the baseline is the same rules in native code",
        rows: admission::measure(folder.path()).await?,
    };
    eprintln!("pulls through the proxy (about 90 s) ...");
    let programs = Programs { tools, cache_registry };
    let pulls = Section { title: "Pulls of what is cached", rows: proxying::measure(folder.path(), &programs).await? };
    folder.close()?;

    let sections = [admission, pulls];
    let text = render(&sections, &machine::description(), &today());
    println!("{text}");
    write_json(&sections, &root.join("target/bench.json"))?;
    write_between_markers(&text, &root.join("docs/performance.md"))
}

/// The date in UTC, `2026-11-24`.
fn today() -> String {
    jiff::Timestamp::try_from(SystemTime::now()).map_or_else(|_| String::new(), |now| now.strftime("%F").to_string())
}
