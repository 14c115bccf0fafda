use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cache_registry_bed::until;
use cache_registry_e2e::collection::{Moment, REMOVING, Run, restored};
use cache_registry_e2e::{Kept, Tally, ask_for, processes_of};
use cache_registry_upstream::Image;
use cache_registry_volume::measure;
use kube::ResourceExt;
use rustix::process::{Signal, kill_process};
use tokio::time::sleep;

use crate::Found;
use crate::place::Place;

/// After a run was killed, the registry is to be back within this.
const LONGEST_AWAY: Duration = Duration::from_mins(1);

/// How a run is cut.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// Its process is killed.
    Process,
    /// Its pod and its Job are deleted at once.
    Pod,
    /// It is told to end.
    Told,
    /// What it has started is killed: the process of this command line, in the Job that removes.
    Part(&'static [&'static str]),
}

/// What the Job that removes runs, one after the other.
const PARTS: [&[&str]; 3] = [
    &["/usr/bin/cache-registry", "volume", "measure"],
    &["/usr/bin/cache-registry", "volume", "remove-untagged"],
    &["/registry", "garbage-collect"],
];

const WAYS: [Cut; 3] = [Cut::Process, Cut::Pod, Cut::Told];

/// How many are killed at a moment of their own: each way at each moment, and each part of the Job.
pub(crate) const NAMED: usize = Moment::ALL.len() * WAYS.len() + PARTS.len();

/// At least so many pulls are spread over one run.
const PULLS: usize = 200;

/// With new images that are asked for before, while and after the registry is away.
pub(crate) async fn undisturbed(place: &mut Place) -> Result<Found> {
    let cluster = &place.cluster;
    let gone = Kept { image: Image::large(20_000_000, 2)?, repository: "library/gone", tags: &["1.0"] };
    cluster.upstream.add(gone.repository, "1.0", &gone.image).await?;
    cluster.objects().create_pod("gone", "gone:1.0").await?;
    cluster.objects().cached("docker.io/library/gone:1.0").await?;
    cluster.objects().delete_pod("gone").await?;
    let tag = place.tag(gone.repository, "1.0");
    until("the tag of what nothing uses to go", Duration::from_mins(1), async || Ok((!tag.exists()).then_some(())))
        .await?;
    let before = measure(&place.volume)?;
    let mut tally = Tally::default();
    let mut runs = 0;
    // One run may be over before there were so many.
    while tally.tried < PULLS {
        runs += 1;
        let happens = async {
            let run = Run::begin(cluster, &format!("undisturbed-{runs}")).await?;
            run.reaches(Moment::Stopped).await?;
            let new = format!("library/new-{runs}");
            let source = format!("docker.io/{new}:1.0");
            cluster.upstream.add(&new, "1.0", &Image::large(1_000_000, 100 + runs)?).await?;
            ask_for(cluster, &source, true).await?;
            let ended = run.ended().await?;
            ensure!(ended.is_ok(), "the run failed: {ended:?}");
            restored(cluster).await?;
            cluster.objects().cached(&source).await?;
            Ok(())
        };
        let ((), during) = Box::pin(place.pulls(happens)).await?;
        tally = tally.and(during);
    }
    let freed = before.bytes.saturating_sub(measure(&place.volume)?.bytes) / 1_000_000;
    let note = format!("{runs} runs, {freed} MB freed, {runs} new images copied after");
    Ok(Found { tally, note })
}

/// At each of their moments in each way, then anywhere. After each, everything is pulled with upstream gone.
pub(crate) async fn killed(place: &mut Place, random: usize) -> Result<Found> {
    let named = Moment::ALL.into_iter().flat_map(|moment| WAYS.map(|way| (moment, way)));
    let parts = PARTS.map(|part| (Moment::Made, Cut::Part(part)));
    let anywhere = (0..random).map(|kill| (Moment::Stopped, WAYS[kill % WAYS.len()]));
    let cuts: Vec<_> = named.chain(parts).chain(anywhere).collect();
    let undisturbed = Instant::now();
    ensure!(Run::begin(&place.cluster, "before").await?.ended().await?.is_ok(), "the run failed");
    restored(&place.cluster).await?;
    let undisturbed = undisturbed.elapsed();

    let (mut tally, mut longest) = (Tally::default(), Duration::ZERO);
    for (number, (moment, how)) in cuts.iter().enumerate() {
        let is_random = number >= NAMED;
        let pause = if is_random { undisturbed.mul_f64(fastrand::f64() / 2.0) } else { Duration::ZERO };
        let (took, during) = Box::pin(place.pulls(cut(place, &format!("cut-{number}"), *moment, *how, pause))).await?;
        ensure!(took < LONGEST_AWAY, "{how:?} at {moment:?}: {took:?}");
        tally = tally.and(during);
        longest = longest.max(took);
        place.is_whole().await.with_context(|| format!("after {how:?} at {moment:?}"))?;
    }
    let last = Run::begin(&place.cluster, "after").await?.ended().await?;
    ensure!(last.is_ok(), "the run after them failed: {last:?}");
    restored(&place.cluster).await?;
    let note = format!(
        "{NAMED} at named moments, {random} at random ones; the registry was back after {:.1} s at most",
        longest.as_secs_f32()
    );
    Ok(Found { tally, note })
}

/// Begins a run, cuts it, and says how long it was until the registry was back.
async fn cut(place: &Place, name: &str, moment: Moment, how: Cut, pause: Duration) -> Result<Duration> {
    let run = Run::begin(&place.cluster, name).await?;
    run.reaches(moment).await?;
    sleep(pause).await;
    let now = run.now().await?;
    let cut = match how {
        Cut::Process => run.kill().await?,
        Cut::Pod => run.delete(true).await.is_ok(),
        Cut::Told => run.delete(false).await.is_ok(),
        Cut::Part(command) => kill_part(place, &run, command).await?,
    };
    let took = restored(&place.cluster).await?;
    say(&format!("  {name}: {how:?} at {now:?} ({cut}), back after {:.1} s", took.as_secs_f32()));
    Ok(took)
}

/// They are short, and looked for all the time until the Job is over.
async fn kill_part(place: &Place, run: &Run<'_>, command: &[&str]) -> Result<bool> {
    while run.now().await? <= Moment::Removing {
        let asked = Instant::now();
        let pods = place.pods_of_job(REMOVING).await?;
        let Some(uid) = pods.first().and_then(ResourceExt::uid) else { continue };
        while asked.elapsed() < Duration::from_millis(500) {
            if let Some(process) = processes_of(&uid, command).first() {
                return Ok(kill_process(*process, Signal::KILL).is_ok());
            }
            tokio::task::yield_now().await;
        }
    }
    Ok(false)
}

fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{line}");
}
