//! Images that a cluster's cache is to have, whatever happens, and pulls of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cache_registry_api::{CachedImage, CachedImageSpec};
use cache_registry_bed::cluster::{Cluster, Node};
use cache_registry_bed::{IpVersion, until};
use cache_registry_core::object_name;
use cache_registry_upstream::Image;
use kube::api::PostParams;

use crate::whole::{Kept, whole};

/// A proxy's circuit breaker is open for 30 s at most.
const LONGEST_LEFT_ALONE: Duration = Duration::from_secs(40);

/// Pulls, and what became of them.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many images were pulled, or should have been.
    pub tried: usize,
    /// What went wrong, each time.
    pub failed: Vec<String>,
    /// The slowest pull by the container runtime that succeeded.
    pub slowest: Duration,
}

impl Tally {
    /// Of both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.tried += other.tried;
        self.failed.extend(other.failed);
        self.slowest = self.slowest.max(other.slowest);
        self
    }
}

/// The images: two tags of one index of two platforms, and an image of one.
pub fn stock() -> Result<[Kept; 2]> {
    let multi = Image::hello(b"of two platforms")?;
    Ok([
        Kept { image: multi, repository: "library/multi", tags: &["1.0", "same"] },
        Kept { image: Image::large(3_000_000, 1)?, repository: "library/large", tags: &["1.0"] },
    ])
}

/// Offers an image upstream, and has it cached.
pub async fn cache(cluster: &Cluster, kept: &Kept, retain: bool) -> Result<()> {
    for (tag, source) in kept.tags.iter().zip(kept.sources()) {
        cluster.upstream.add(kept.repository, tag, &kept.image).await?;
        ask_for(cluster, &source, retain).await?;
        cluster.objects().cached(&source).await?;
    }
    Ok(())
}

/// Has an image cached that no pod uses.
pub async fn ask_for(cluster: &Cluster, source: &str, retain: bool) -> Result<()> {
    let images = cluster.objects().cached_images();
    let name = object_name(&source.parse()?);
    if images.get_opt(&name).await?.is_none() {
        let spec = CachedImageSpec { source_image: source.to_owned(), retain };
        images.create(&PostParams::default(), &CachedImage::new(&name, spec)).await?;
    }
    Ok(())
}

/// Pulls all of it on both nodes with upstream gone, so that it comes from the cache or not at all. The nodes' proxies
/// leave a registry alone for some time that did not answer.
pub async fn all_is_whole(cluster: &Cluster) -> Result<()> {
    cluster.upstream.off().await?;
    let [_, large] = stock()?;
    let layer = large.image.blobs.last().context("no layer")?;
    // A blob, since a proxy may have a manifest in memory.
    let path = format!("/v2/docker.io/{}/blobs/{}", large.repository, layer.digest);
    for node in [&cluster.a, &cluster.b] {
        until("the proxy to ask the registry again", LONGEST_LEFT_ALONE, async || {
            let answer = node.get(7439, IpVersion::V4, &path).await?;
            Ok((answer.status == 200).then_some(()))
        })
        .await?;
        for kept in stock()? {
            whole(node, &kept).await?;
        }
    }
    cluster.upstream.on().await
}

/// Pulls all of it on both nodes, by turns, while something happens.
pub async fn pulls_during<T>(cluster: &Cluster, happens: impl Future<Output = Result<T>>) -> Result<(T, Tally)> {
    let over = AtomicBool::new(false);
    let happens = async {
        let outcome = happens.await;
        over.store(true, Ordering::Relaxed);
        outcome
    };
    let (outcome, a, b) = tokio::join!(happens, pulls(&cluster.a, &over), pulls(&cluster.b, &over));
    Ok((outcome?, a?.and(b?)))
}

/// Until it is over, by the container runtime and by hand, with every platform.
async fn pulls(node: &Node, over: &AtomicBool) -> Result<Tally> {
    let stock = stock()?;
    let mut tally = Tally::default();
    while !over.load(Ordering::Relaxed) {
        for kept in &stock {
            let reference = format!("localhost:7439/docker.io/{}:1.0", kept.repository);
            node.images.remove(&reference).await?;
            let began = Instant::now();
            let by_runtime = node.images.pull(&reference).await.map(drop).map_err(anyhow::Error::from);
            if by_runtime.is_ok() {
                tally.slowest = tally.slowest.max(began.elapsed());
            }
            for outcome in [by_runtime, whole(node, kept).await] {
                tally.tried += 1;
                let place = || format!("{reference} on node {}, pull {}", node.name(), tally.tried);
                let failed = outcome.with_context(place).err();
                tally.failed.extend(failed.map(|error| format!("{error:#}")));
            }
        }
    }
    Ok(tally)
}

impl Tally {
    /// An error where a pull failed, or where there were not even so many.
    pub fn is_clean(&self, at_least: usize) -> Result<()> {
        let Self { tried, failed, .. } = self;
        ensure!(failed.is_empty(), "{} of {tried} pulls failed: {}", failed.len(), failed.join("\n"));
        ensure!(*tried >= at_least, "only {tried} pulls");
        Ok(())
    }
}
