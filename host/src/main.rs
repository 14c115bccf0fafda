//! `cache-registry`: one binary, a subcommand for each role and tool.

mod args;
mod run;

use clap::Parser as _;

fn main() -> anyhow::Result<()> {
    run::run(args::Args::parse())
}
