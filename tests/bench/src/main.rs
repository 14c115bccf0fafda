//! The tables of `docs/performance.md`: what cache-registry takes, beside what does the same without it, in one run on
//! one machine.
//!
//! Machines differ and are busy, so what counts is the ratio: each round measures every side, one right after the
//! other, and a row is the median over rounds.

mod admission;
mod example;
mod fill;
mod hostile;
mod load;
mod machine;
mod native;
mod paced;
mod part;
mod proxying;
mod pull;
mod reload;
mod report;
mod review;
mod row;
mod scale;
mod serve;
mod webhook;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::fill::Fill;
use crate::proxying::Programs;
use crate::report::{Section, render, write_between_markers, write_json};
use crate::serve::Serve;
use crate::webhook::Webhooks;

/// Measures, prints the tables, and writes them to docs/performance.md and target/bench.json.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where the pinned programs are: what tests/tools/build.sh prints
    #[arg(long, env = "CACHE_REGISTRY_TOOLS", value_name = "FOLDER")]
    tools: Option<PathBuf>,
    /// Measure this alone, and print it without writing it anywhere
    #[arg(long, value_name = "WHAT")]
    only: Option<Subject>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    Admission,
    Reload,
    Hostile,
    Pulls,
    Scale,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One of the servers that are measured: the benchmark starts it itself
    #[command(hide = true)]
    Serve(Serve),
    /// A neighbour of what is measured: the benchmark starts it itself
    #[command(hide = true)]
    Fill(Fill),
}

/// Many times what it takes: something hangs.
const LONGEST: Duration = Duration::from_mins(20);

#[expect(clippy::print_stderr, reason = "for the person who waits")]
fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.command {
        Some(Command::Serve(serve)) => serve.run(),
        Some(Command::Fill(fill)) => fill.run(),
        None => until_interrupted(args.tools, args.only),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn until_interrupted(tools: Option<PathBuf>, only: Option<Subject>) -> Result<()> {
    let tools = tools.context("where are the pinned programs? --tools $(tests/tools/build.sh)")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate())?;
        // What is not finished is dropped, and with it every server and file.
        tokio::select! {
            measured = tokio::time::timeout(LONGEST, bench(tools, only)) => {
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
async fn bench(tools: PathBuf, only: Option<Subject>) -> Result<()> {
    if std::thread::available_parallelism()?.get() < 2 {
        bail!("servers and load need a CPU each, and here is one");
    }
    let folder = tempfile::Builder::new().prefix("cache-registry-bench.").tempdir()?;
    let machine = machine::description();
    let mut sections = Vec::new();
    let webhooks = Webhooks::new(folder.path())?;
    if only.is_none_or(|only| only == Subject::Admission) {
        eprintln!("admission reviews ...");
        let title = "Admission: the built-in policies in Wasm; the baseline is the same rules in native code";
        let example = example::build(folder.path())?;
        sections.push(Section { title, rows: admission::measure(&webhooks, &example).await? });
    }
    if only.is_none_or(|only| only == Subject::Reload) {
        eprintln!("policies replaced under load ...");
        let title = "Policies replaced 100 times through the API server under 1,000 reviews a second; the baseline is \
                     without";
        sections.push(Section { title, rows: Box::pin(reload::measure()).await? });
    }
    if only.is_none_or(|only| only == Subject::Hostile) {
        eprintln!("reviews beside hostile policies ...");
        let title = "Good reviews beside hostile policies";
        sections.push(Section { title, rows: hostile::measure(folder.path(), &webhooks).await? });
    }
    if only.is_none_or(|only| only == Subject::Pulls) {
        eprintln!("pulls of what is cached ...");
        let programs = Programs { tools, cache_registry: beside_this_program()? };
        sections.push(Section {
            title: "Pulls of what is cached",
            rows: proxying::measure(folder.path(), &programs).await?,
        });
    }
    if only.is_none_or(|only| only == Subject::Scale) {
        eprintln!("10,000 pods of 2,000 images ...");
        let title = "10,000 pods of 2,000 images";
        sections.push(Section { title, rows: Box::pin(scale::measure()).await? });
    }
    folder.close()?;

    let text = render(&sections, &machine, &today());
    println!("{text}");
    if only.is_some() {
        return Ok(());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    write_json(&sections, &root.join("target/bench.json"))?;
    write_between_markers(&text, &root.join("docs/performance.md"))
}

fn beside_this_program() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("cache-registry");
    if !program.is_file() {
        bail!("{} is not there: cargo build --release --package cache-registry", program.display());
    }
    Ok(program)
}

/// The date in UTC, `2026-11-24`.
fn today() -> String {
    jiff::Timestamp::try_from(SystemTime::now()).map_or_else(|_| String::new(), |now| now.strftime("%F").to_string())
}
