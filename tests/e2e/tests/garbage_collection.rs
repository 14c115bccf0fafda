//! Garbage collection on a cluster, with the chart's `CronJob`, and what becomes of pulls meanwhile.

use std::env;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cache_registry_api::CollectionReport;
use cache_registry_api::labels::LAST_COLLECTION_ANNOTATION;
use cache_registry_bed::cluster::{Cluster, Options};
use cache_registry_bed::until;
use cache_registry_e2e::collection::{Moment, REGISTRY, Run, registry, restored};
use cache_registry_e2e::release::{NAMESPACE, RELEASE, chart, install_with, volume};
use cache_registry_e2e::{Kept, all_is_whole, ask_for, cache, note, pulls_during, run_within, stock, tests};
use cache_registry_upstream::Image;
use cache_registry_volume::measure;
use kube::ResourceExt;

/// How many runs are killed, each at another moment.
const KILLS: &str = "CACHE_REGISTRY_KILLS";
const FEW_KILLS: usize = 6;

/// After a run was killed, the registry is to be back within this.
const LONGEST_AWAY: Duration = Duration::from_mins(1);

/// Each kill takes a run and the time to come back from it.
const LONGEST_TEST: Duration = Duration::from_mins(6);
const LONGEST_KILL: Duration = Duration::from_mins(2);

/// Run by hand alone.
const COLLECTING: [&str; 5] = [
    "registry.persistence.enabled=true,registry.persistence.keep=false",
    "registry.garbageCollectionSchedule=0 3 * * 0,registry.garbageCollection.suspend=true",
    "registry.garbageCollection.untaggedAfter=1ms,cachedImagesExpiryDelay=0",
    "log.format=text",
    // Images of every platform are looked for afterwards, whatever the nodes are.
    "controllers.platforms=all",
];

fn main() -> Result<ExitCode> {
    let options = Options { registries: vec!["ghcr.io".to_owned()], ..Options::default() };
    let longest = LONGEST_TEST.max(LONGEST_KILL * u32::try_from(kills())?);
    run_within(
        longest,
        options,
        tests![
            what_nothing_needs_is_freed_and_all_else_pulls_whole,
            no_pull_fails_during_a_run_and_copies_wait_for_its_end,
            a_second_run_at_a_time_is_refused,
            a_run_that_is_told_to_end_puts_the_registry_back_itself,
            an_upgrade_in_the_middle_of_a_run_ends_it,
            the_api_server_may_not_answer_in_the_middle_of_a_run,
            wherever_a_run_is_killed_the_registry_is_back_within_a_minute,
            a_run_is_a_span_at_the_collector_with_its_steps,
        ],
    )
}

fn kills() -> usize {
    env::var(KILLS).ok().and_then(|kills| kills.parse().ok()).unwrap_or(FEW_KILLS)
}

/// Installs it with a volume, and has the images cached that are to stay. Returns the volume's folder.
async fn filled(cluster: &Cluster) -> Result<std::path::PathBuf> {
    let folder = volume(cluster).await?;
    install_with(cluster, &COLLECTING).await?;
    for kept in stock()? {
        cache(cluster, &kept, true).await?;
    }
    Ok(folder)
}

/// The whole life of an image: a pod, a copy, no pod any more, no tag any more, no blobs any more.
async fn what_nothing_needs_is_freed_and_all_else_pulls_whole(cluster: &mut Cluster) -> Result<()> {
    let folder = filled(cluster).await?;
    let gone = Kept { image: Image::large(20_000_000, 2)?, repository: "library/gone", tags: &["1.0"] };
    cluster.upstream.add(gone.repository, "1.0", &gone.image).await?;
    cluster.objects().create_pod("gone", "gone:1.0").await?;
    cluster.objects().cached("docker.io/library/gone:1.0").await?;
    cluster.objects().delete_pod("gone").await?;
    let tag = folder.join("docker/registry/v2/repositories/docker.io/library/gone/_manifests/tags/1.0");
    until("the tag to leave the registry", Duration::from_secs(30), async || Ok((!tag.exists()).then_some(()))).await?;
    let before = measure(&folder)?;

    let run = Run::begin(cluster, "first").await?;
    let ended = run.ended().await?;
    ensure!(ended.is_ok(), "the run failed: {ended:?}");
    restored(cluster).await?;
    let after = measure(&folder)?;
    let freed = before - after;
    ensure!(freed.bytes > 20_000_000 && freed.blobs == 3, "freed {freed:?}");
    for blob in gone.image.blobs.iter().chain([&gone.image.root]) {
        let hex = blob.digest.digest();
        let data = folder.join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data");
        ensure!(!data.exists(), "{} is still there", blob.digest);
    }
    all_is_whole(cluster).await?;

    // It is told in the three places where somebody may look.
    let registry = registry(cluster).await?;
    let report = registry.annotations().get(LAST_COLLECTION_ANNOTATION).and_then(|text| CollectionReport::read(text));
    let report = report.context("no report on the StatefulSet")?;
    ensure!((report.freed_blobs, report.freed_bytes) == (freed.blobs, Some(freed.bytes)), "{report:?}, {freed:?}");
    note!("freed {} bytes in {} blobs; the registry was away for {} s", freed.bytes, freed.blobs, report.seconds);
    let events = cluster.kubectl(&["get", "events", "--namespace", NAMESPACE]).await?;
    ensure!(events.contains("GarbageCollected") && events.contains("Freed 2"), "no Event tells: {events}");
    until("a metric to tell what was freed", Duration::from_secs(20), async || {
        let freed = format!("cache_registry_gc_last_freed_bytes {}", freed.bytes);
        Ok(metrics(cluster).await?.contains(&freed).then_some(()))
    })
    .await
}

/// What the controllers tell, all replicas together.
async fn metrics(cluster: &Cluster) -> Result<String> {
    let selector = "app.kubernetes.io/component=controllers";
    let names = cluster.kubectl(&["get", "pods", "--namespace", NAMESPACE, "-l", selector, "-o", "name"]).await?;
    let mut metrics = String::new();
    for name in names.lines() {
        let name = name.trim_start_matches("pod/");
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}:8080/proxy/metrics");
        metrics += &cluster.kubectl(&["get", "--raw", &path]).await?;
    }
    Ok(metrics)
}

async fn no_pull_fails_during_a_run_and_copies_wait_for_its_end(cluster: &mut Cluster) -> Result<()> {
    filled(cluster).await?;
    let run = async {
        let run = Run::begin(cluster, "busy").await?;
        run.reaches(Moment::Stopped).await?;
        let new = Kept { image: Image::large(1_000_000, 3)?, repository: "library/new", tags: &["1.0"] };
        cluster.upstream.add(new.repository, "1.0", &new.image).await?;
        ask_for(cluster, "docker.io/library/new:1.0", true).await?;
        let waiting = cluster.objects().not_cached("docker.io/library/new:1.0", "RegistryUnreachable").await?;
        let status = serde_json::to_string(&waiting.status)?;
        ensure!(status.contains("The registry is collecting garbage since"), "its status says: {status}");
        let ended = run.ended().await?;
        ensure!(ended.is_ok(), "the run failed: {ended:?}");
        restored(cluster).await?;
        cluster.objects().cached("docker.io/library/new:1.0").await?;
        anyhow::Ok(())
    };
    let ((), tally) = Box::pin(pulls_during(cluster, run)).await?;
    let slowest = tally.slowest.as_secs_f32();
    tally.is_clean(50)?;
    note!("{} images were pulled and each digest checked; none failed; the slowest took {slowest:.2} s", tally.tried);
    all_is_whole(cluster).await
}

async fn a_second_run_at_a_time_is_refused(cluster: &mut Cluster) -> Result<()> {
    filled(cluster).await?;
    // Held by somebody who lives: the run would end before this is seen.
    let me = "somebody else";
    let lease = serde_json::json!({ "spec": {
        "holderIdentity": me, "leaseDurationSeconds": 120, "renewTime": "2026-11-24T20:00:00.000000Z",
    }})
    .to_string();
    let name = format!("{RELEASE}-registry-gc");
    cluster.kubectl(&["patch", "lease", "--namespace", NAMESPACE, &name, "--type", "merge", "-p", &lease]).await?;
    let run = Run::begin(cluster, "second").await?;
    let words = run.ended().await?.err().context("it ran")?;
    ensure!(words.contains("somebody else holds the Lease"), "its pod says: {words}");
    let free = r#"{"spec":{"holderIdentity":""}}"#;
    cluster.kubectl(&["patch", "lease", "--namespace", NAMESPACE, &name, "--type", "merge", "-p", free]).await?;
    restored(cluster).await?;
    Ok(())
}

async fn a_run_that_is_told_to_end_puts_the_registry_back_itself(cluster: &mut Cluster) -> Result<()> {
    filled(cluster).await?;
    let run = Run::begin(cluster, "told").await?;
    run.reaches(Moment::Removing).await?;
    run.delete(false).await?;
    let took = restored(cluster).await?;
    note!("back {:.1} s after the run was told to end", took.as_secs_f32());
    // Before the Lease of one that is killed would be free.
    ensure!(took < Duration::from_secs(15), "it took {took:?}");
    all_is_whole(cluster).await
}

async fn an_upgrade_in_the_middle_of_a_run_ends_it(cluster: &mut Cluster) -> Result<()> {
    filled(cluster).await?;
    let run = Run::begin(cluster, "upgraded").await?;
    run.reaches(Moment::Made).await?;
    // Else the Job may be done before helm is.
    cluster.a.kubelet.freeze()?;
    let chart = chart();
    let command = ["upgrade", RELEASE, &chart, "--namespace", NAMESPACE, "--reuse-values", "--set"];
    cluster.helm(&[&command[..], &["controllers.webhook.podAnnotations.upgraded=yes"]].concat()).await?;
    cluster.a.kubelet.thaw()?;
    let words = run.ended().await?.err().context("it ran to its end")?;
    ensure!(words.contains("scaled up in the middle of it, as `helm upgrade` does"), "its pod says: {words}");
    restored(cluster).await?;
    all_is_whole(cluster).await
}

/// For longer than a Lease is held by one that can't renew it: the run is over, and the leader of the controllers another.
async fn the_api_server_may_not_answer_in_the_middle_of_a_run(cluster: &mut Cluster) -> Result<()> {
    const AWAY: Duration = Duration::from_secs(20);
    filled(cluster).await?;
    let run = Run::begin(cluster, "unanswered").await?;
    run.reaches(Moment::Made).await?;
    cluster.control_plane.api_server.freeze()?;
    tokio::time::sleep(AWAY).await;
    cluster.control_plane.api_server.thaw()?;
    let took = restored(cluster).await?;
    note!("back {:.1} s after the API server answered again", took.as_secs_f32());
    ensure!(took < LONGEST_AWAY, "it took {took:?}");
    all_is_whole(cluster).await
}

/// By its process and by its pod, in turns; at each moment once, then anywhere.
async fn wherever_a_run_is_killed_the_registry_is_back_within_a_minute(cluster: &mut Cluster) -> Result<()> {
    filled(cluster).await?;
    let began = Instant::now();
    ensure!(Run::begin(cluster, "undisturbed").await?.ended().await?.is_ok(), "the run failed");
    let undisturbed = began.elapsed();
    note!("undisturbed, a run takes {:.1} s", undisturbed.as_secs_f32());
    for kill in 0..kills() {
        let run = Run::begin(cluster, &format!("kill-{kill}")).await?;
        if let Some(moment) = Moment::ALL.get(kill) {
            run.reaches(*moment).await?;
        } else {
            // Not while it still waits for the Lease of the one before.
            run.reaches(Moment::Stopped).await?;
            tokio::time::sleep(undisturbed.mul_f64(fastrand::f64() / 2.0)).await;
        }
        let moment = run.now().await?;
        let killed = if kill % 2 == 0 { run.kill().await? } else { run.delete(true).await.is_ok() };
        let took = restored(cluster).await?;
        let how = if kill % 2 == 0 { "its process" } else { "its pod" };
        note!("{kill:>3}: {how} killed ({killed}) when it was {moment:?}: back after {:.1} s", took.as_secs_f32());
        ensure!(took < LONGEST_AWAY, "{moment:?}: {took:?}");
        all_is_whole(cluster).await.with_context(|| format!("killed when it was {moment:?}"))?;
    }
    // The first three are at moments at which nobody but the controllers can do it.
    let events = cluster.kubectl(&["get", "events", "--namespace", NAMESPACE]).await?;
    ensure!(kills() < 3 || events.contains("RegistryPutBack"), "no Event tells of it: {events}");
    // And the next one starts clean.
    let last = Run::begin(cluster, "clean").await?.ended().await?;
    ensure!(last.is_ok(), "the run after them failed: {last:?}");
    restored(cluster).await?;
    all_is_whole(cluster).await
}

async fn a_run_is_a_span_at_the_collector_with_its_steps(cluster: &mut Cluster) -> Result<()> {
    let mut collector = cluster.collector()?;
    collector.part.start().await?;
    volume(cluster).await?;
    let traced = format!("telemetry.otlp.endpoint={}", collector.url);
    install_with(cluster, &[&COLLECTING[..], &[&traced]].concat()).await?;
    let run = Run::begin(cluster, "traced").await?;
    let ended = run.ended().await?;
    ensure!(ended.is_ok(), "the run failed: {ended:?}");
    restored(cluster).await?;
    let span = until("its span", Duration::from_secs(20), async || {
        Ok(collector.spans()?.into_iter().find(|span| span.name == "collect"))
    })
    .await?;
    assert_eq!((&*span.role, &*span.parent, &*span.attribute("stateful_set")), ("gc", "", REGISTRY));
    let steps =
        ["the registry is to stop", "the Job is started", "the Job has ended", "the registry is to be there again"];
    let at: Vec<_> = steps.iter().map(|step| span.text.find(step)).collect();
    ensure!(at.iter().all(Option::is_some) && at.is_sorted(), "not these steps, in their order: {}", span.text);
    ensure!(span.text.contains("traced-"), "it does not say which pod it was: {}", span.text);
    Ok(())
}
