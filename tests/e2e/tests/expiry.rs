//! The end of images that nothing uses: what goes, and above all what stays.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cache_registry_api::CachedImage;
use cache_registry_api::labels::EXPIRY_DELAY_ANNOTATION;
use cache_registry_bed::{Bed, Options, until};
use cache_registry_e2e::{Published, expects_gone, publish, pulls_whole, run, tests};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

fn main() -> Result<ExitCode> {
    run(
        Options { expiry_delay: "0s", ..Options::default() },
        tests![
            the_tag_of_an_unused_image_goes_and_its_sibling_stays_whole,
            a_workload_without_replicas_keeps_its_image,
            a_workload_keeps_what_a_policy_fetches_for_it,
            an_image_that_is_retained_stays,
            an_image_with_a_delay_of_its_own_waits_and_is_used_again,
            a_deleted_cached_image_takes_its_tag_along_unless_pods_use_it,
            nothing_goes_while_the_api_server_is_away,
            what_was_deleted_while_nobody_led_leaves_the_registry_too,
        ],
    )
}

/// Waits until there is an image in the cache for a new pod of this name.
async fn cached(bed: &Bed, published: &Published, pod: &str) -> Result<CachedImage> {
    let image = published.source.trim_start_matches("docker.io/library/");
    bed.objects().create_pod(pod, image).await?;
    bed.objects().cached(&published.source).await
}

/// The image's status says this, or will.
async fn says<T>(bed: &Bed, source: &str, what: &str, find: impl Fn(&CachedImage) -> Option<T>) -> Result<T> {
    until(format!("{source} to say {what}"), Duration::from_secs(20), async || {
        let image = bed.objects().cached_image(source).await?.context("there is no CachedImage of it")?;
        Ok(find(&image))
    })
    .await
}

fn workloads(image: &CachedImage) -> Vec<String> {
    let used_by = image.status.as_ref().and_then(|status| status.used_by.as_ref());
    used_by.map(|used_by| used_by.workloads.clone()).unwrap_or_default()
}

fn expires(image: &CachedImage) -> bool {
    image.status.as_ref().is_some_and(|status| status.expires_at.is_some())
}

async fn patch(bed: &Bed, source: &str, patch: Value) -> Result<()> {
    let name = bed.objects().cached_image(source).await?.and_then(|image| image.metadata.name).context("none")?;
    bed.objects().cached_images().patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// The same index under two tags, one of which is not used any more: the other one is pulled whole by both nodes.
async fn the_tag_of_an_unused_image_goes_and_its_sibling_stays_whole(bed: &mut Bed) -> Result<()> {
    let published = publish(bed, "siblings").await?;
    bed.upstream.add(&published.repository, "1.1", &published.image).await?;
    let sibling = "docker.io/library/siblings:1.1";
    cached(bed, &published, "siblings-0").await?;
    bed.objects().create_pod("siblings-1", "siblings:1.1").await?;
    bed.objects().cached(sibling).await?;

    bed.objects().delete_pod("siblings-0").await?;
    expects_gone(bed, &published.source).await?;

    bed.upstream.off().await?;
    pulls_whole(bed, &published, "1.1").await?;
    let events: Api<Event> = Api::namespaced(bed.control_plane.client(), "default");
    let expired = events.list(&ListParams::default().fields("reason=Expired")).await?.items;
    let message = expired.iter().find_map(|event| event.message.as_deref()).context("no Event")?;
    ensure!(message.starts_with("Nothing has used it"), "{message}");
    Ok(())
}

async fn a_workload_without_replicas_keeps_its_image(bed: &mut Bed) -> Result<()> {
    let published = publish(bed, "scaled-down").await?;
    let deployments = deployed(bed, "scaled-down", "scaled-down:1.0").await?;
    cached(bed, &published, "scaled-down").await?;
    let users =
        says(bed, &published.source, "who uses it", |image| Some(workloads(image)).filter(|all| all.len() == 2));
    let users = users.await?;
    ensure!(users[0] == "Deployment/default/scaled-down" && users[1].starts_with("ReplicaSet/"), "{users:?}");
    bed.objects().delete_pod("scaled-down").await?;
    says(bed, &published.source, "that no pod uses it", |image| (pods(image) == 0).then_some(())).await?;
    let image = bed.objects().cached(&published.source).await?;
    ensure!(!expires(&image), "{:?}", image.status);

    // A new revision: what a rollback would start stays.
    let template = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "other:1.0"}]}}}});
    deployments.patch("scaled-down", &PatchParams::default(), &Patch::Strategic(template)).await?;
    says(bed, &published.source, "that a revision uses it", |image| (workloads(image).len() == 1).then_some(()))
        .await?;

    deployments.delete("scaled-down", &DeleteParams::background()).await?;
    expects_gone(bed, &published.source).await
}

fn pods(image: &CachedImage) -> i32 {
    let used_by = image.status.as_ref().and_then(|status| status.used_by.as_ref());
    used_by.map_or(-1, |used_by| used_by.count)
}

/// A Deployment without replicas, in the namespace `default`, once it has its `ReplicaSet`.
async fn deployed(bed: &Bed, name: &str, image: &str) -> Result<Api<Deployment>> {
    let deployments: Api<Deployment> = Api::namespaced(bed.control_plane.client(), "default");
    let labels = json!({ "app": name });
    let deployment = serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": {
            "replicas": 0,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "main", "image": image }] },
            },
        },
    }))?;
    deployments.create(&PostParams::default(), &deployment).await?;
    Ok(deployments)
}

/// The pod's record says that another image was written than is fetched: as a policy that sends to a mirror leaves it.
async fn a_workload_keeps_what_a_policy_fetches_for_it(bed: &mut Bed) -> Result<()> {
    let published = publish(bed, "mirrored").await?;
    let deployments = deployed(bed, "mirrored", "hub.example/mirrored:1.0").await?;
    let entry = json!({ "main": { "original": "hub.example/mirrored:1.0", "source": published.source } });
    let pod = json!({
        "metadata": {
            "name": "mirrored",
            "annotations": { "cache-registry.enix.io/images": entry.to_string() },
            "labels": { "cache-registry.enix.io/image-caching-policy": "ignore" },
        },
        "spec": { "containers": [{ "name": "main", "image": published.on_nodes()? }] },
    });
    bed.objects().create(pod).await?;
    bed.objects().cached(&published.source).await?;
    says(bed, &published.source, "who uses it", |image| (!workloads(image).is_empty()).then_some(())).await?;
    bed.objects().delete_pod("mirrored").await?;
    says(bed, &published.source, "that no pod uses it", |image| (pods(image) == 0).then_some(())).await?;
    // Another leader knows of the pod's record by the status alone.
    bed.controllers[0].kill().await?;
    bed.controllers[0].start().await?;
    let image = bed.objects().cached(&published.source).await?;
    ensure!(image.status.context("no status")?.originals == ["hub.example/mirrored:1.0"]);

    deployments.delete("mirrored", &DeleteParams::background()).await?;
    expects_gone(bed, &published.source).await
}

async fn an_image_that_is_retained_stays(bed: &mut Bed) -> Result<()> {
    let published = publish(bed, "retained").await?;
    cached(bed, &published, "retained").await?;
    patch(bed, &published.source, json!({ "spec": { "retain": true } })).await?;
    bed.objects().delete_pod("retained").await?;
    says(bed, &published.source, "that no pod uses it", |image| (pods(image) == 0).then_some(())).await?;
    let image = bed.objects().cached(&published.source).await?;
    ensure!(!expires(&image), "{:?}", image.status);
    patch(bed, &published.source, json!({ "spec": { "retain": false } })).await?;
    expects_gone(bed, &published.source).await
}

async fn an_image_with_a_delay_of_its_own_waits_and_is_used_again(bed: &mut Bed) -> Result<()> {
    let published = publish(bed, "patient").await?;
    cached(bed, &published, "patient-0").await?;
    patch(bed, &published.source, json!({ "metadata": { "annotations": { EXPIRY_DELAY_ANNOTATION: "1h" } } })).await?;
    bed.objects().delete_pod("patient-0").await?;
    says(bed, &published.source, "when it goes", |image| expires(image).then_some(())).await?;
    let columns = bed.kubectl(&["get", "cachedimages", "--no-headers"]).await?;
    let line = columns.lines().find(|line| line.contains("patient")).context("no line")?;
    ensure!(line.contains('T') && line.contains('Z'), "no time of its end: {line}");
    bed.objects().create_pod("patient-1", "patient:1.0").await?;
    says(bed, &published.source, "that it is in use", |image| (!expires(image)).then_some(())).await?;
    // A changed delay holds at once.
    patch(bed, &published.source, json!({ "metadata": { "annotations": { EXPIRY_DELAY_ANNOTATION: "0s" } } })).await?;
    bed.objects().delete_pod("patient-1").await?;
    expects_gone(bed, &published.source).await
}

async fn a_deleted_cached_image_takes_its_tag_along_unless_pods_use_it(bed: &mut Bed) -> Result<()> {
    let published = publish(bed, "deleted").await?;
    let first = cached(bed, &published, "deleted").await?;
    patch(bed, &published.source, json!({ "spec": { "retain": true } })).await?;
    bed.kubectl(&["delete", "cachedimage", first.metadata.name.as_deref().context("no name")?]).await?;
    let again = until("another CachedImage", Duration::from_secs(20), async || {
        let image = bed.objects().cached(&published.source).await?;
        Ok((image.metadata.uid != first.metadata.uid).then_some(image))
    });
    again.await?;
    patch(bed, &published.source, json!({ "spec": { "retain": true } })).await?;
    bed.objects().delete_pod("deleted").await?;
    says(bed, &published.source, "that no pod uses it", |image| (pods(image) == 0).then_some(())).await?;
    bed.kubectl(&["delete", "cachedimage", first.metadata.name.as_deref().context("no name")?]).await?;
    expects_gone(bed, &published.source).await
}

/// The image is due, and nobody can say whether it is used.
async fn nothing_goes_while_the_api_server_is_away(bed: &mut Bed) -> Result<()> {
    let published = publish(bed, "unseen").await?;
    cached(bed, &published, "unseen").await?;
    patch(bed, &published.source, json!({ "metadata": { "annotations": { EXPIRY_DELAY_ANNOTATION: "3s" } } })).await?;
    bed.objects().delete_pod("unseen").await?;
    says(bed, &published.source, "when it goes", |image| expires(image).then_some(())).await?;
    bed.control_plane.api_server.kill().await?;
    let asked = until("a look at what is in use that fails", Duration::from_secs(30), async || {
        let metrics = bed.controllers_metrics(0).await?;
        let failed = metrics
            .lines()
            .find(|line| line.starts_with("cache_registry_reconcile_errors_total") && line.contains("survey"));
        Ok(failed.map(ToOwned::to_owned))
    });
    asked.await?;
    let kept = bed.cache.get("/v2/docker.io/library/unseen/manifests/1.0").await?;
    assert_eq!((kept.status.as_u16(), &kept.body), (200, &published.image.root.bytes));
    bed.control_plane.start_api_server().await?;
    expects_gone(bed, &published.source).await
}

async fn what_was_deleted_while_nobody_led_leaves_the_registry_too(bed: &mut Bed) -> Result<()> {
    let published = publish(bed, "left").await?;
    let image = cached(bed, &published, "left").await?;
    bed.controllers[0].kill().await?;
    bed.objects().delete_pod("left").await?;
    bed.kubectl(&["delete", "cachedimage", image.metadata.name.as_deref().context("no name")?]).await?;
    let left = bed.cache.get("/v2/docker.io/library/left/manifests/1.0").await?;
    assert_eq!(left.status.as_u16(), 200);
    bed.controllers[0].start().await?;
    expects_gone(bed, &published.source).await
}
