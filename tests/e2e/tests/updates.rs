//! Tags that upstream moves, deletes or does not tell about, and a registry that loses what it had.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cache_registry_api::{CachedImage, READY, UP_TO_DATE};
use cache_registry_bed::{Bed, Options, until};
use cache_registry_e2e::{Published, publish, pulls_whole, run, tests};
use cache_registry_upstream::{Fault, Image, Matching, Rule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

fn main() -> Result<ExitCode> {
    run(
        Options { update_interval: "1s", ..Options::default() },
        tests![
            a_tag_that_upstream_moves_is_followed_and_the_image_stays_ready,
            a_tag_that_upstream_deletes_stays_and_the_status_says_since_when,
            an_upstream_that_is_gone_or_asks_for_time_leaves_the_image_as_it_is,
            a_registry_that_was_wiped_is_filled_again,
        ],
    )
}

async fn cached(bed: &Bed, name: &str) -> Result<Published> {
    let published = publish(bed, name).await?;
    bed.objects().create_pod(name, &format!("{name}:1.0")).await?;
    bed.objects().cached(&published.source).await?;
    Ok(published)
}

fn condition(image: &CachedImage, kind: &str) -> Result<Condition> {
    let status = image.status.as_ref().context("no status")?;
    status.conditions.iter().find(|condition| condition.type_ == kind).cloned().with_context(|| format!("no {kind}"))
}

/// Waits until the condition `UpToDate` says so, while the image is in the registry.
async fn says(bed: &Bed, source: &str, expected: &str) -> Result<Condition> {
    until(format!("{source} to be UpToDate={expected}"), Duration::from_secs(40), async || {
        let image = bed.objects().cached_image(source).await?.context("there is no CachedImage of it")?;
        let (fresh, ready) = (condition(&image, UP_TO_DATE)?, condition(&image, READY)?);
        ensure!(ready.status == "True", "Ready={} {}", ready.status, ready.message);
        let found = format!("{} {}", fresh.status, fresh.reason);
        ensure!(found == expected, "it is {found}: {}", fresh.message);
        Ok(Some(fresh))
    })
    .await
}

async fn a_tag_that_upstream_moves_is_followed_and_the_image_stays_ready(bed: &mut Bed) -> Result<()> {
    let first = cached(bed, "moving").await?;
    let ready = condition(&bed.objects().cached(&first.source).await?, READY)?;
    let image = Image::hello(b"what it means now")?;
    bed.upstream.add(&first.repository, "1.0", &image).await?;
    let second = Published { image, ..first };
    let moved = until("the registry to have it", Duration::from_secs(30), async || {
        let status = bed.objects().cached(&second.source).await?.status.context("no status")?;
        Ok((status.digest == Some(second.image.digest().to_string())).then_some(()))
    });
    moved.await?;
    let after = condition(&bed.objects().cached(&second.source).await?, READY)?;
    assert_eq!(after.last_transition_time, ready.last_transition_time, "it was Ready all the time");
    says(bed, &second.source, "True Current").await?;
    bed.upstream.off().await?;
    pulls_whole(bed, &second, "1.0").await
}

async fn a_tag_that_upstream_deletes_stays_and_the_status_says_since_when(bed: &mut Bed) -> Result<()> {
    let published = cached(bed, "deleted").await?;
    says(bed, &published.source, "True Current").await?;
    bed.upstream.remove_tag(&published.repository, "1.0").await?;
    let told = says(bed, &published.source, "False NotFound").await?;
    ensure!(told.message.starts_with("What the registry has stays. "), "{}", told.message);
    pulls_whole(bed, &published, "1.0").await?;
    // It is asked again and again, and says the same.
    bed.upstream.reset_traffic().await?;
    let requests = Matching::any().repository(&published.repository);
    until("upstream to be asked again", Duration::from_secs(40), async || {
        Ok((bed.upstream.traffic().await?.count(&requests) > 0).then_some(()))
    })
    .await?;
    assert_eq!(says(bed, &published.source, "False NotFound").await?.last_transition_time, told.last_transition_time);
    bed.upstream.put_tag(&published.repository, "1.0", published.image.digest().as_ref()).await?;
    says(bed, &published.source, "True Current").await?;
    Ok(())
}

async fn an_upstream_that_is_gone_or_asks_for_time_leaves_the_image_as_it_is(bed: &mut Bed) -> Result<()> {
    let published = cached(bed, "patient").await?;
    bed.upstream.off().await?;
    says(bed, &published.source, "Unknown UpstreamUnreachable").await?;
    pulls_whole(bed, &published, "1.0").await?;
    bed.upstream.on().await?;
    says(bed, &published.source, "True Current").await?;
    let tags = Matching::any().repository(&published.repository);
    bed.upstream.misbehave(Rule::on(tags, Fault::TooManyRequests { retry_after: Some(3) })).await?;
    says(bed, &published.source, "Unknown RateLimited").await?;
    pulls_whole(bed, &published, "1.0").await?;
    bed.upstream.behave().await?;
    says(bed, &published.source, "True Current").await?;
    Ok(())
}

/// The registry's disk is new: it is asked, and not the statuses, which say that it has everything.
async fn a_registry_that_was_wiped_is_filled_again(bed: &mut Bed) -> Result<()> {
    let all = [cached(bed, "wiped-0").await?, cached(bed, "wiped-1").await?, cached(bed, "wiped-2").await?];
    bed.cache.part.kill().await?;
    std::fs::remove_dir_all(bed.folder().join("registry")).context("wiping the registry")?;
    bed.cache.part.start().await?;
    for published in &all {
        let path = format!("/v2/docker.io/{}/manifests/1.0", published.repository);
        until("the registry to have it again", Duration::from_mins(1), async || {
            Ok((bed.cache.get(&path).await?.status.as_u16() == 200).then_some(()))
        })
        .await?;
        bed.objects().cached(&published.source).await?;
    }
    bed.upstream.off().await?;
    for published in &all {
        pulls_whole(bed, published, "1.0").await?;
    }
    Ok(())
}
