//! What becomes of the images that pods use: copies in the registry, and conditions that say how it went.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cache_registry_api::CachedImageStatus;
use cache_registry_bed::{Bed, GONE_REGISTRY, Options, until};
use cache_registry_e2e::{content_digest, publish, publish_large, run, tests};
use cache_registry_upstream::{Access, Fault, Matching, Rule};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::ListParams;

fn main() -> Result<ExitCode> {
    run(
        Options { controllers: 2, ..Options::default() },
        tests![
            an_index_is_copied_verbatim_with_all_its_children,
            the_users_of_an_image_are_counted,
            an_image_that_upstream_has_not_is_not_found,
            credentials_that_are_missing_show_as_unauthorized,
            a_rate_limit_is_shown_and_its_retry_after_obeyed,
            an_upstream_that_is_gone_is_unreachable,
            wrong_bytes_from_upstream_are_never_stored_under_a_tag,
            a_registry_that_is_gone_is_shown_and_the_copy_made_when_it_is_back,
            controllers_killed_within_a_copy_finish_it_after_a_restart,
            another_replica_leads_when_the_leader_is_killed,
            another_replica_leads_at_once_when_the_leader_is_told_to_end,
        ],
    )
}

async fn an_index_is_copied_verbatim_with_all_its_children(bed: &mut Bed) -> Result<()> {
    let published = publish(bed, "verbatim").await?;
    bed.objects().create_pod("verbatim", "verbatim:1.0").await?;
    let cached = bed.objects().cached(&published.source).await?;
    let status = cached.status.context("no status")?;
    assert_eq!(status.digest, Some(published.image.digest().to_string()));
    assert_eq!(status.platforms, ["linux/amd64", "linux/arm64/v8"]);
    assert_eq!(status.size, Some(i64::try_from(published.image.size())?));
    ensure!(status.last_copied.is_some() && status.observed_generation.is_some(), "{status:?}");

    let repository = format!("docker.io/{}", published.repository);
    let by_tag = bed.cache.get(&format!("/v2/{repository}/manifests/1.0")).await?;
    assert_eq!(by_tag.body, published.image.root.bytes);
    for manifest in published.image.all_manifests() {
        let answer = bed.cache.get(&format!("/v2/{repository}/manifests/{}", manifest.digest)).await?;
        assert_eq!((answer.status.as_u16(), &answer.body), (200, &manifest.bytes));
    }
    for blob in &published.image.blobs {
        let answer = bed.cache.get(&format!("/v2/{repository}/blobs/{}", blob.digest)).await?;
        assert_eq!((answer.status.as_u16(), content_digest(&answer.body)), (200, blob.digest.to_string()));
    }
    Ok(())
}

async fn the_users_of_an_image_are_counted(bed: &mut Bed) -> Result<()> {
    let published = publish(bed, "counted").await?;
    for name in ["counted-1", "counted-2"] {
        bed.objects().create_pod(name, "counted:1.0").await?;
    }
    uses(bed, &published.source, 2).await?;
    bed.objects().delete_pod("counted-1").await?;
    uses(bed, &published.source, 1).await?;
    bed.objects().delete_pod("counted-2").await?;
    uses(bed, &published.source, 0).await
}

async fn an_image_that_upstream_has_not_is_not_found(bed: &mut Bed) -> Result<()> {
    bed.objects().create_pod("missing", "missing:1.0").await?;
    let source = "docker.io/library/missing:1.0";
    let image = bed.objects().not_cached(source, "NotFound").await?;
    let message = &image.status.as_ref().and_then(CachedImageStatus::ready).context("no condition")?.message;
    ensure!(message.len() > 20, "this helps nobody: {message}");
    an_event_says(bed, "NotFound").await?;
    Ok(())
}

async fn credentials_that_are_missing_show_as_unauthorized(bed: &mut Bed) -> Result<()> {
    publish(bed, "private").await?;
    let access = Access::Credentials { username: "someone".to_owned(), password: "secret".to_owned() };
    bed.upstream.set_access(&access).await?;
    bed.objects().create_pod("private", "private:1.0").await?;
    bed.objects().not_cached("docker.io/library/private:1.0", "Unauthorized").await?;
    Ok(())
}

async fn a_rate_limit_is_shown_and_its_retry_after_obeyed(bed: &mut Bed) -> Result<()> {
    const RETRY_AFTER: u64 = 4;
    let published = publish(bed, "limited").await?;
    let limited = Matching::any().repository(&published.repository);
    let limit = Rule::on(limited.clone(), Fault::TooManyRequests { retry_after: Some(RETRY_AFTER) });
    bed.upstream.misbehave(limit.times(1)).await?;
    bed.objects().create_pod("limited", "limited:1.0").await?;
    bed.objects().not_cached(&published.source, "RateLimited").await?;
    bed.objects().cached(&published.source).await?;

    let traffic = bed.upstream.traffic().await?;
    let times: Vec<u64> = traffic.of(&limited).map(|request| request.at).collect();
    ensure!(times.len() > 1, "{times:?}");
    ensure!(times[1] - times[0] >= RETRY_AFTER * 1000, "it came back too early: {times:?} ms");
    Ok(())
}

async fn an_upstream_that_is_gone_is_unreachable(bed: &mut Bed) -> Result<()> {
    let source = format!("{GONE_REGISTRY}/app:1");
    bed.objects().create_pod("gone", &source).await?;
    bed.objects().not_cached(&source, "UpstreamUnreachable").await?;

    let published = publish(bed, "comes-back").await?;
    bed.upstream.off().await?;
    bed.objects().create_pod("comes-back", "comes-back:1.0").await?;
    bed.objects().not_cached(&published.source, "UpstreamUnreachable").await?;
    bed.upstream.on().await?;
    bed.objects().cached_within(&published.source, Duration::from_mins(1)).await?;
    Ok(())
}

async fn wrong_bytes_from_upstream_are_never_stored_under_a_tag(bed: &mut Bed) -> Result<()> {
    let published = publish(bed, "wrong-upstream").await?;
    let blobs = Matching::blobs().repository(&published.repository);
    bed.upstream.misbehave(Rule::on(blobs, Fault::WrongBytes)).await?;
    bed.objects().create_pod("wrong-upstream", "wrong-upstream:1.0").await?;
    bed.objects().not_cached(&published.source, "UpstreamUnreachable").await?;
    let tag = format!("/v2/docker.io/{}/manifests/1.0", published.repository);
    assert_eq!(bed.cache.get(&tag).await?.status.as_u16(), 404);

    bed.upstream.behave().await?;
    bed.objects().cached_within(&published.source, Duration::from_mins(1)).await?;
    assert_eq!(bed.cache.get(&tag).await?.body, published.image.root.bytes);
    Ok(())
}

async fn a_registry_that_is_gone_is_shown_and_the_copy_made_when_it_is_back(bed: &mut Bed) -> Result<()> {
    let published = publish(bed, "no-registry").await?;
    bed.cache.part.kill().await?;
    bed.objects().create_pod("no-registry", "no-registry:1.0").await?;
    bed.objects().not_cached(&published.source, "RegistryUnreachable").await?;
    bed.cache.part.start().await?;
    bed.objects().cached_within(&published.source, Duration::from_mins(1)).await?;
    Ok(())
}

async fn controllers_killed_within_a_copy_finish_it_after_a_restart(bed: &mut Bed) -> Result<()> {
    let published = publish_large(bed, "interrupted", 20 << 20).await?;
    let blobs = Matching::blobs().repository(&published.repository);
    bed.upstream.misbehave(Rule::on(blobs.clone(), Fault::Rate { bytes_per_second: 2 << 20 })).await?;
    bed.objects().create_pod("interrupted", "interrupted:1.0").await?;
    until("a part of the layer to be copied", Duration::from_secs(30), async || {
        Ok((bed.upstream.traffic().await?.bytes(&blobs) > 4 << 20).then_some(()))
    })
    .await?;
    for part in &mut bed.controllers {
        part.kill().await?;
    }

    let repository = format!("docker.io/{}", published.repository);
    for path in
        [format!("/v2/{repository}/manifests/1.0"), format!("/v2/{repository}/manifests/{}", published.image.digest())]
    {
        assert_eq!(bed.cache.get(&path).await?.status.as_u16(), 404, "{path}");
    }
    let image = bed.objects().cached_image(&published.source).await?.context("no CachedImage")?;
    let ready = image.status.as_ref().and_then(CachedImageStatus::ready);
    ensure!(ready.is_none_or(|ready| ready.status != "True"), "half an image is Ready: {ready:?}");

    bed.upstream.behave().await?;
    for part in &mut bed.controllers {
        part.start().await?;
    }
    bed.objects().cached_within(&published.source, Duration::from_mins(1)).await?;
    let answer = bed.cache.get(&format!("/v2/{repository}/manifests/1.0")).await?;
    assert_eq!(content_digest(&answer.body), published.image.digest().to_string());
    for blob in &published.image.blobs {
        let answer = bed.cache.get(&format!("/v2/{repository}/blobs/{}", blob.digest)).await?;
        assert_eq!(content_digest(&answer.body), blob.digest.to_string());
    }
    Ok(())
}

async fn another_replica_leads_when_the_leader_is_killed(bed: &mut Bed) -> Result<()> {
    let leader = leader(bed, None, Duration::from_mins(1)).await?;
    replica(bed, &leader)?.kill().await?;
    let published = publish(bed, "after-a-kill").await?;
    bed.objects().create_pod("after-a-kill", "after-a-kill:1.0").await?;
    bed.objects().cached_within(&published.source, Duration::from_mins(1)).await?;
    ensure!(self::leader(bed, Some(&leader), Duration::from_secs(1)).await? != leader, "the dead one leads");
    Ok(())
}

async fn another_replica_leads_at_once_when_the_leader_is_told_to_end(bed: &mut Bed) -> Result<()> {
    let leader = leader(bed, None, Duration::from_mins(1)).await?;
    let part = replica(bed, &leader)?;
    part.terminate()?;
    let status = part.ended(Duration::from_secs(15)).await?;
    ensure!(status.success(), "it ended with {status}");
    let ended = Instant::now();
    self::leader(bed, Some(&leader), Duration::from_secs(10)).await?;
    ensure!(ended.elapsed() < Duration::from_secs(10), "the Lease was not released");
    Ok(())
}

/// Who holds the Lease; waits until that is somebody, other than `not`.
async fn leader(bed: &Bed, not: Option<&str>, bound: Duration) -> Result<String> {
    let leases: Api<Lease> = Api::namespaced(bed.control_plane.client(), cache_registry_bed::NAMESPACE);
    until("a replica to lead", bound, async || {
        let lease = leases.get("cache-registry-controllers").await?;
        let holder = lease.spec.and_then(|spec| spec.holder_identity).filter(|holder| !holder.is_empty());
        Ok(holder.filter(|holder| Some(holder.as_str()) != not))
    })
    .await
}

/// The replica behind the holder of a Lease: its name, and what makes each of its starts another holder.
fn replica<'a>(bed: &'a mut Bed, holder: &str) -> Result<&'a mut cache_registry_bed::Part> {
    let part = bed.controllers.iter_mut().find(|part| holder.starts_with(part.name()));
    part.with_context(|| format!("no replica {holder}"))
}

async fn uses(bed: &Bed, source: &str, count: i32) -> Result<()> {
    until(format!("{source} to be used by {count} pods"), Duration::from_secs(30), async || {
        let image = bed.objects().cached_image(source).await?;
        let used_by = image.and_then(|image| image.status).and_then(|status| status.used_by);
        Ok(used_by.filter(|used_by| used_by.count == count).map(drop))
    })
    .await
}

async fn an_event_says(bed: &Bed, reason: &str) -> Result<()> {
    let events: Api<Event> = Api::all(bed.control_plane.client());
    until(format!("an Event that says {reason}"), Duration::from_secs(10), async || {
        let events = events.list(&ListParams::default()).await?;
        Ok(events.items.into_iter().find(|event| event.reason.as_deref() == Some(reason)).map(drop))
    })
    .await
}
