//! Pods that are offered to a cluster's API server while something happens to its webhooks.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use cache_registry_api::labels::IMAGES_ANNOTATION;
use cache_registry_bed::cluster::{BUSYBOX, Cluster};
use cache_registry_bed::image_of;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::release::NAMESPACE;

/// Offers pods one after the other until it is over; each is rewritten. Gives their number.
pub async fn admissions(cluster: &Cluster, over: &AtomicBool) -> Result<usize> {
    let mut admitted = 0;
    while !over.load(Ordering::Relaxed) {
        rewritten(cluster).await.with_context(|| format!("after {admitted} pods that were rewritten"))?;
        admitted += 1;
    }
    Ok(admitted)
}

/// Offers a pod to the API server, which asks the webhook about it; an answer that it does not get leaves the pod alone.
pub async fn rewritten(cluster: &Cluster) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "default");
    let pod = serde_json::from_value(json!({
        "metadata": { "name": "offered" },
        "spec": { "containers": [{ "name": "main", "image": BUSYBOX }] },
    }))?;
    let created = pods.create(&PostParams { dry_run: true, ..PostParams::default() }, &pod).await?;
    let image = image_of(&created, "main")?;
    // Nothing where the webhook was not asked.
    let why = created.annotations().get(IMAGES_ANNOTATION);
    ensure!(image.starts_with("localhost:7439/"), "the pod was left alone: {image}, {why:?}");
    Ok(())
}

/// Until when the certificate of each webhook that runs is valid, as its metric tells.
pub async fn served_until(cluster: &Cluster) -> Result<Vec<String>> {
    let pods: Api<Pod> = Api::namespaced(cluster.client(), NAMESPACE);
    let of_webhook = ListParams::default().labels("app.kubernetes.io/component=webhook");
    let mut ends = Vec::new();
    for pod in pods.list(&of_webhook).await? {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{}:8080/proxy/metrics", pod.name_any());
        let metrics = cluster.kubectl(&["get", "--raw", &path]).await?;
        let name = "cache_registry_webhook_certificate_not_after_timestamp_seconds ";
        ends.extend(metrics.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned));
    }
    ensure!(ends.len() > 1, "fewer than two webhooks tell until when their certificate is valid: {ends:?}");
    Ok(ends)
}
