//! `make drill`: faults on a cluster of real parts, one after the other, and what becomes of pulls meanwhile.
//!
//! Two nodes pull the same images over and over, by their container runtimes and blob by blob with each digest checked.
//! They are in use: a `CronJob` that never runs names them, and what nothing uses expires at once. After each fault
//! upstream is switched off, and all of them have to come out of the cache whole.

mod collections;
mod faults;
mod place;
mod table;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use cache_registry_bed::interrupted;
use cache_registry_e2e::Tally;
use clap::Parser;

use crate::place::Place;
use crate::table::{Row, Table};

/// Breaks a cluster in every way that this project knows of, and says which pulls failed.
#[derive(Debug, Parser)]
struct Args {
    /// Only the drills whose names contain this
    #[arg(long)]
    only: Option<String>,
    /// How many garbage collections are killed at a random moment, after those that are killed at each of theirs
    #[arg(long, default_value_t = 20)]
    random_kills: usize,
}

/// What a drill has found.
#[derive(Debug, Default)]
struct Found {
    tally: Tally,
    /// Something beside the pulls, in words.
    note: String,
}

/// How long a drill may take; the kills of garbage collections are many.
const LONGEST: Duration = Duration::from_mins(5);
const LONGEST_KILL: Duration = Duration::from_mins(2);

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = tokio::select! {
        outcome = drill(Args::parse()) => outcome,
        // The cluster goes with the future above, and waits until all is gone.
        signal = interrupted() => signal,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "\n{error:#}");
            let _ = writeln!(io::stdout(), "drill: FAILED");
            ExitCode::FAILURE
        }
    }
}

/// Runs one, where it is wanted: a name, and what it does.
macro_rules! drill {
    ($place:ident, $table:ident, $args:ident, $longest:expr, $name:literal, $body:expr) => {
        if $args.only.as_deref().is_none_or(|only| $name.contains(only)) {
            $table.row(Box::pin(one($name, $longest, &mut $place, async |$place: &mut Place| $body)).await)?;
        }
    };
}

async fn drill(args: Args) -> Result<()> {
    let mut table = Table::default();
    let mut place = Box::pin(Place::start()).await?;
    macro_rules! drills {
        ($($name:literal => $fault:path),* $(,)?) => {
            $(drill!(place, table, args, LONGEST, $name, $fault(place).await);)*
        };
    }
    drills! {
        "upstream is gone" => faults::upstream_is_gone,
        "upstream answers 429 for a minute" => faults::upstream_limits_the_rate,
        "upstream takes requests and never answers" => faults::upstream_stalls,
        "upstream deletes the tags" => faults::upstream_deletes_the_tags,
        "upstream moves the tags" => faults::upstream_moves_the_tags,
        "the registry is killed" => faults::registry_is_killed,
        "the registry is frozen for 20 s" => faults::registry_is_frozen,
        "the registry's volume is wiped" => faults::volume_is_wiped,
        "an older backup of the volume is restored" => faults::older_backup_is_restored,
        "the API server is frozen for 30 s" => faults::api_server_is_frozen,
        "the controllers are killed" => faults::controllers_are_killed,
        "a garbage collection, and a push in the middle" => collections::undisturbed,
    }
    let longest = LONGEST_KILL * u32::try_from(collections::NAMED + args.random_kills)?;
    let random = args.random_kills;
    drill!(
        place,
        table,
        args,
        longest,
        "garbage collections are killed",
        Box::pin(collections::killed(place, random)).await
    );
    table.end()
}

/// Runs a drill, and asks for everything afterwards.
async fn one(
    name: &'static str,
    longest: Duration,
    place: &mut Place,
    body: impl AsyncFnOnce(&mut Place) -> Result<Found>,
) -> Row {
    let _ = writeln!(io::stderr(), "{name} ...");
    let began = Instant::now();
    let running = async {
        let found = body(place).await?;
        place.heal().await?;
        place.is_whole().await.context("afterwards, with upstream gone")?;
        let Tally { tried, failed, .. } = &found.tally;
        ensure!(*tried > 0, "nothing was pulled");
        for failure in failed {
            let _ = writeln!(io::stderr(), "  {failure}");
        }
        anyhow::Ok(found)
    };
    let outcome = tokio::time::timeout(longest, running).await;
    let outcome = outcome.unwrap_or_else(|_| Err(anyhow!("not done after {longest:?}")));
    if let Err(error) = &outcome {
        let _ = writeln!(io::stderr(), "  {error:#}\n{}", place.state().await);
    }
    Row { name, took: began.elapsed(), outcome }
}
