use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use cache_registry_bed::{Bed, Options, pod, until};
use cache_registry_upstream::{Image, Layer, Matching, Platform};
use futures::stream::{StreamExt as _, TryStreamExt as _, iter};
use kube::api::PostParams;
use serde_json::json;

use crate::row::{Better, Row};

const IMAGES: usize = 2_000;
const PODS: usize = 10_000;
const AT_ONCE: usize = 32;
const LONGEST: Duration = Duration::from_mins(10);
/// An hour in a cluster. What happens once an interval is measured over one.
const INTERVAL: &str = "1m";
const REST: Duration = Duration::from_mins(1);

/// The controllers of a large cluster: pods that nobody starts, and images of some bytes, so that it is what the
/// controllers do that is measured, and not the disk.
pub(crate) async fn measure() -> Result<Vec<Row>> {
    let mut bed = Bed::start(Options { update_interval: INTERVAL, ..Options::default() }).await?;
    let measured = tokio::time::timeout(LONGEST, of(&mut bed)).await;
    let state = if matches!(measured, Ok(Ok(_))) { String::new() } else { bed.controllers[0].log_tail(30) };
    measured.context("not done in time").and_then(|done| done).context(state)
}

async fn of(bed: &mut Bed) -> Result<Vec<Row>> {
    bed.controllers[0].kill().await?;
    fill(bed).await?;

    let began = Instant::now();
    bed.controllers[0].start().await?;
    is_steady(bed).await?;
    let copied = began.elapsed();

    bed.controllers[0].kill().await?;
    let began = Instant::now();
    bed.controllers[0].start().await?;
    is_steady(bed).await?;
    let steady = began.elapsed();

    let written = writes(bed).await?;
    bed.upstream.reset_traffic().await?;
    tokio::time::sleep(REST).await;
    let written = writes(bed).await? - written;
    let asked = bed.upstream.traffic().await?.count(&Matching::any());
    let memory = |name| memory(bed.controllers[0].id(), name);
    Ok(vec![
        Row::new("from the controllers' start to all images copied", copied.as_secs_f64(), "s", Better::Lower),
        Row::new("from another start to all images checked", steady.as_secs_f64(), "s", Better::Lower).target(60.0),
        Row::new("controllers' RSS at rest", memory("VmRSS")?, "MiB", Better::Lower).target(100.0),
        Row::new("controllers' largest RSS", memory("VmHWM")?, "MiB", Better::Lower),
        Row::new("writes to the API server in a minute at rest, the Lease's left out", written, "", Better::Lower)
            .target(0.0),
        Row::new("requests to upstream in an update interval, an hour by default", number(asked), "", Better::Lower),
    ])
}

async fn fill(bed: &Bed) -> Result<()> {
    let images = iter(0..IMAGES).map(|number| async move {
        let layer = Layer::tar(&[cache_registry_upstream::File::data("number", number.to_string())])?;
        let image = Image::single(&Platform::AMD64, &[layer], &["/none"]);
        bed.upstream.add(&format!("library/image-{number}"), "1.0", &image).await
    });
    images.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let pods = bed.objects().pods();
    let creating = iter(0..PODS).map(|number| {
        let pods = &pods;
        async move {
            let image = format!("image-{}:1.0", number % IMAGES);
            let pod = pod(&format!("pod-{number}"), &json!([{ "name": "main", "image": image }]));
            pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
            anyhow::Ok(())
        }
    });
    creating.buffer_unordered(AT_ONCE).try_collect().await
}

/// The leader knows of each image that the registry has it, and has nothing to do.
async fn is_steady(bed: &Bed) -> Result<()> {
    let lines = [
        format!("cache_registry_cached_images{{reason=\"Cached\"}} {IMAGES}"),
        "cache_registry_tasks_waiting{task=\"check\"} 0".to_owned(),
        "cache_registry_tasks_running{task=\"check\"} 0".to_owned(),
        "cache_registry_tasks_waiting{task=\"copy\"} 0".to_owned(),
        "cache_registry_tasks_running{task=\"copy\"} 0".to_owned(),
    ];
    until("the controllers to be steady", LONGEST, async || {
        let metrics = bed.controllers_metrics(0).await?;
        let says = |line: &String| metrics.lines().any(|shown| shown == line);
        Ok(lines.iter().all(says).then_some(()))
    })
    .await
}

/// Everything that the API server was asked to write and that is about what the controllers write.
async fn writes(bed: &Bed) -> Result<f64> {
    let request = http::Request::get("/metrics").body(Vec::new())?;
    let metrics = bed.control_plane.client().request_text(request).await?;
    let is_write = |line: &str| {
        let verbs = ["POST", "PUT", "PATCH", "DELETE", "APPLY"];
        line.starts_with("apiserver_request_total{")
            && verbs.iter().any(|verb| line.contains(&format!("verb=\"{verb}\"")))
            && ["cachedimages", "events"].iter().any(|kind| line.contains(&format!("resource=\"{kind}\"")))
    };
    let counts = metrics.lines().filter(|line| is_write(line)).filter_map(|line| line.rsplit(' ').next()?.parse().ok());
    let counts: Vec<f64> = counts.collect();
    if counts.is_empty() {
        bail!("the API server counts no writes of CachedImages");
    }
    Ok(counts.iter().sum())
}

/// A line of a process's status, in MiB (proc(5)).
fn memory(process: Option<u32>, name: &str) -> Result<f64> {
    let process = process.context("the controllers have ended")?;
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib: f64 = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).context("no such line")?;
    Ok(kib / 1024.0)
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
