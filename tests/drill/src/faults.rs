use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cache_registry_bed::until;
use cache_registry_e2e::collection::{REGISTRY, restored};
use cache_registry_e2e::release::NAMESPACE;
use cache_registry_e2e::{Kept, ask_for, cache, stock, whole};
use cache_registry_upstream::{Fault, Image, Rule};
use rustix::process::Signal;
use tokio::time::sleep;

use crate::Found;
use crate::place::{Place, copy};

/// For so long a fault lasts that ends by itself.
const A_WHILE: Duration = Duration::from_secs(20);

pub(crate) async fn upstream_is_gone(place: &mut Place) -> Result<Found> {
    let upstream = &place.cluster.upstream;
    place
        .found(async {
            upstream.off().await?;
            sleep(A_WHILE).await;
            Ok(())
        })
        .await
}

pub(crate) async fn upstream_limits_the_rate(place: &mut Place) -> Result<Found> {
    let fault = Fault::TooManyRequests { retry_after: Some(60) };
    misbehaves(place, fault, Duration::from_mins(1)).await
}

pub(crate) async fn upstream_stalls(place: &mut Place) -> Result<Found> {
    misbehaves(place, Fault::StallBefore, A_WHILE).await
}

async fn misbehaves(place: &Place, fault: Fault, time: Duration) -> Result<Found> {
    let upstream = &place.cluster.upstream;
    place
        .found(async {
            upstream.misbehave(Rule::all(fault)).await?;
            sleep(time).await;
            Ok(())
        })
        .await
}

pub(crate) async fn upstream_deletes_the_tags(place: &mut Place) -> Result<Found> {
    let upstream = &place.cluster.upstream;
    place
        .found(async {
            for kept in stock()? {
                for tag in kept.tags {
                    upstream.remove_tag(kept.repository, tag).await?;
                }
            }
            sleep(A_WHILE).await;
            Ok(())
        })
        .await
}

/// There and back. Whatever the tag means at a moment, a pull of it gets one image or the other, and all of it.
pub(crate) async fn upstream_moves_the_tags(place: &mut Place) -> Result<Found> {
    const MOVES: usize = 6;
    let cluster = &place.cluster;
    let images = [Image::hello(b"before")?, Image::hello(b"after")?];
    let moving = |image: &Image| Kept { image: image.clone(), repository: "library/moving", tags: &["1.0"] };
    let source = "docker.io/library/moving:1.0";
    cluster.upstream.add("library/moving", "1.0", &images[0]).await?;
    ask_for(cluster, source, true).await?;
    cluster.objects().cached(source).await?;
    let happens = async {
        for image in images.iter().cycle().skip(1).take(MOVES) {
            cluster.upstream.add("library/moving", "1.0", image).await?;
            let digest = image.digest().to_string();
            until("the registry to follow", Duration::from_secs(40), async || {
                let status = cluster.objects().cached(source).await?.status.context("no status")?;
                Ok((status.digest.as_deref() == Some(&digest)).then_some(()))
            })
            .await?;
            // A proxy remembers for some seconds what a tag means.
            until("a node to follow", Duration::from_secs(10), async || {
                whole(&cluster.a, &moving(image)).await.map(Some)
            })
            .await?;
        }
        Ok(())
    };
    let found = Box::pin(place.found(happens)).await?;
    Ok(Found { note: format!("{MOVES} moves were followed"), ..found })
}

/// It is started again by its kubelet.
pub(crate) async fn registry_is_killed(place: &mut Place) -> Result<Found> {
    const KILLS: usize = 3;
    let happens = async {
        for _ in 0..KILLS {
            let killed = place.signal("registry", &["/registry"], Signal::KILL).await?;
            until("the registry to be started again", Duration::from_mins(2), async || {
                let now = place.processes("registry", &["/registry"]).await?;
                Ok((now.len() == killed.len() && now.iter().all(|new| !killed.contains(new))).then_some(()))
            })
            .await?;
            restored(&place.cluster).await?;
        }
        Ok(())
    };
    let found = Box::pin(place.found(happens)).await?;
    Ok(Found { note: format!("{KILLS} times"), ..found })
}

pub(crate) async fn registry_is_frozen(place: &mut Place) -> Result<Found> {
    let happens = async {
        place.signal("registry", &["/registry"], Signal::STOP).await?;
        sleep(A_WHILE).await;
        place.signal("registry", &["/registry"], Signal::CONT).await?;
        Ok(())
    };
    Box::pin(place.found(happens)).await
}

pub(crate) async fn volume_is_wiped(place: &mut Place) -> Result<Found> {
    let began = Instant::now();
    let happens = async {
        fs::remove_dir_all(place.volume.join("docker")).context("wiping the volume")?;
        place.is_cached().await
    };
    let found = Box::pin(place.found(happens)).await?;
    Ok(Found { note: format!("filled again after {:.0} s", began.elapsed().as_secs_f32()), ..found })
}

/// One from before an image came. The registry is stopped for it, as whoever restores would.
pub(crate) async fn older_backup_is_restored(place: &mut Place) -> Result<Found> {
    let cluster = &place.cluster;
    let backup = cluster.folder().join("backup");
    let data = place.volume.join("docker");
    copy(&data, &backup)?;
    let later = Kept { image: Image::large(2_000_000, 3)?, repository: "library/later", tags: &["1.0"] };
    cache(cluster, &later, true).await?;

    let began = Instant::now();
    let scale = async |replicas: &str| {
        let replicas = format!("--replicas={replicas}");
        cluster.kubectl(&["scale", "statefulset", REGISTRY, "--namespace", NAMESPACE, &replicas]).await
    };
    let happens = async {
        scale("0").await?;
        until("the registry to end", Duration::from_mins(1), async || {
            Ok(place.pods("registry").await?.is_empty().then_some(()))
        })
        .await?;
        fs::remove_dir_all(&data)?;
        copy(&backup, &data)?;
        scale("1").await?;
        restored(cluster).await?;
        let tag = place.tag(later.repository, "1.0");
        until("the image that it lacks to be there again", Duration::from_mins(2), async || {
            Ok(tag.exists().then_some(()))
        })
        .await
    };
    let found = Box::pin(place.found(happens)).await?;
    whole(&cluster.a, &later).await?;
    fs::remove_dir_all(&backup)?;
    Ok(Found { note: format!("what it lacked was there after {:.0} s", began.elapsed().as_secs_f32()), ..found })
}

/// For longer than Leases are held by those that cannot renew them: another replica leads afterwards.
pub(crate) async fn api_server_is_frozen(place: &mut Place) -> Result<Found> {
    let api_server = &place.cluster.control_plane.api_server;
    let happens = async {
        api_server.freeze()?;
        sleep(Duration::from_secs(30)).await;
        api_server.thaw()?;
        Ok(())
    };
    Box::pin(place.found(happens)).await
}

pub(crate) async fn controllers_are_killed(place: &mut Place) -> Result<Found> {
    let happens = async {
        place.signal("controllers", &["/usr/bin/cache-registry", "controllers"], Signal::KILL).await?;
        sleep(A_WHILE).await;
        Ok(())
    };
    Box::pin(place.found(happens)).await
}
