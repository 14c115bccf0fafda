//! `make demo`: the main job of cache-registry, on this machine, step by step.

mod story;
mod telling;

use std::process::ExitCode;

use anyhow::Result;
use cache_registry_bed::{Bed, Options, interrupted};
use clap::Parser;
use clap::builder::FalseyValueParser;

use crate::telling::Telling;

/// Brings up a cluster, caches a pod's image, stops the upstream registry, and pulls the image on a second node.
#[derive(Debug, Parser)]
struct Args {
    /// Leave everything running, and print how to look around and how to stop it
    #[arg(long, env = "KEEP", value_parser = FalseyValueParser::new())]
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let mut telling = Telling::new();
    let outcome = tokio::select! {
        outcome = demo(&mut telling, args.keep) => outcome,
        signal = interrupted() => match signal {
            Ok(()) => {
                // The bed went with the future above, and waited until all was gone.
                let _ = Telling::new().line("\ninterrupted: everything is taken away again");
                return ExitCode::from(130);
            }
            Err(error) => Err(error),
        },
    };
    let told = match &outcome {
        Ok(()) => telling.line("demo: ok"),
        Err(error) => telling.line(&format!("\n{error:#}\n\ndemo: FAILED")),
    };
    if outcome.is_ok() && told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn demo(telling: &mut Telling, keep: bool) -> Result<()> {
    telling.line("cache-registry: a cluster that starts pods when the upstream registry is gone")?;
    telling.step("Bring up a cluster, an upstream registry and cache-registry")?;
    let mut bed = Bed::start(Options::default()).await?;
    if let Err(error) = story::tell(telling, &bed).await {
        telling.line(&bed.state().await)?;
        return Err(error);
    }
    if !keep {
        return Ok(());
    }
    let around = story::how_to_look_around(&bed);
    let guardian = bed.keep()?;
    telling.step("Everything is left running")?;
    telling.line(&format!("{around}\n    kill {guardian}    # stops all of it and takes it away\n"))
}
