//! `cache-registry`: one binary, a subcommand for each role and tool.

mod args;
mod run;

use std::io::Write as _;
use std::process::ExitCode;

use cache_registry_authoring::Failure;
use clap::Parser as _;

/// musl's own has one lock for all threads (docs/architecture.md, "The image").
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run::run(args::Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The causes in one line and no backtrace, even where RUST_BACKTRACE is set: this is for an operator.
            // When standard error is gone there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "cache-registry: {error:#}");
            error.downcast_ref::<Failure>().map_or(ExitCode::FAILURE, |failure| failure.exit_status().into())
        }
    }
}
