//! A registry of several replicas that keeps its images in a bucket, on a real server of S3, with pods that pull.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cache_registry_api::labels::LAST_COLLECTION_ANNOTATION;
use cache_registry_api::{CachedImage, CollectionReport};
use cache_registry_bed::cluster::{BUSYBOX, Cluster, Options};
use cache_registry_bed::{Bucket, until};
use cache_registry_e2e::collection::{Moment, Run, registry, restored_to};
use cache_registry_e2e::release::{NAMESPACE, deploy, install_with};
use cache_registry_e2e::{Kept, all_is_whole, ask_for, cache, note, run_within, stock, tests, whole};
use cache_registry_upstream::{Content, Image};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::json;

const LONGEST_TEST: Duration = Duration::from_mins(6);
const LONGEST: Duration = Duration::from_mins(1);

const SECRET: &str = "bucket";

/// Run by hand alone.
const COLLECTING: &str = "registry.garbageCollectionSchedule=0 3 * * 0,registry.garbageCollection.suspend=true";

/// Images of every platform are looked for, whatever the nodes are.
const WHOLE: &str = "controllers.platforms=all";

/// What takes days elsewhere.
const BRISK: &str =
    "registry.garbageCollection.untaggedAfter=1ms,cachedImagesExpiryDelay=0,controllers.updateInterval=2s";
const REPLICAS: i32 = 2;

fn main() -> Result<ExitCode> {
    let options = Options { registries: vec!["ghcr.io".to_owned()], ..Options::default() };
    run_within(
        LONGEST_TEST,
        options,
        tests![
            pods_start_from_the_bucket_with_upstream_gone_and_every_replica_has_it,
            what_nothing_needs_leaves_the_bucket_and_all_else_pulls_whole,
            a_run_that_is_killed_or_fails_brings_all_replicas_back,
            without_the_bucket_pulls_go_upstream_and_copies_wait,
            credentials_that_the_bucket_refuses_are_told_in_the_status,
        ],
    )
}

/// Installs it with a bucket. What a test before has left in there stays.
async fn installed(cluster: &mut Cluster) -> Result<()> {
    cluster.bucket.part.start().await?;
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
    let secret = Bucket::secret(SECRET, NAMESPACE);
    cluster.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": [namespace, secret] }).to_string()).await?;
    let values = cluster.bucket.values();
    let values = values.as_object().context("no values")?.iter().map(|(key, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("registry.persistence.s3.{key}={value}")
    });
    let bucket = values.collect::<Vec<_>>().join(",");
    let registry = format!("registry.replicas={REPLICAS},registry.persistence.s3ExistingSecret={SECRET}");
    install_with(cluster, &[&bucket, &registry, COLLECTING, WHOLE, BRISK]).await
}

/// Has the images cached that are to stay.
async fn filled(cluster: &Cluster) -> Result<()> {
    for kept in stock()? {
        cache(cluster, &kept, true).await?;
    }
    Ok(())
}

async fn pods_start_from_the_bucket_with_upstream_gone_and_every_replica_has_it(cluster: &mut Cluster) -> Result<()> {
    installed(cluster).await?;
    filled(cluster).await?;
    deploy(cluster, "keeper", cluster.a.name()).await?;
    cluster.objects().cached(BUSYBOX).await?;
    cluster.upstream.off().await?;
    cluster.b.images.remove(&format!("localhost:7439/{BUSYBOX}")).await?;
    deploy(cluster, "reader", cluster.b.name()).await?;
    all_is_whole(cluster).await?;

    // Of each replica by itself, as the proxies ask.
    let line = cluster
        .kubectl(&["get", "secret", "--namespace", NAMESPACE, "cache-registry-registry-credentials", "-o", "json"])
        .await?;
    let line: serde_json::Value = serde_json::from_str(&line)?;
    // In base64 already, as HTTP Basic has it.
    let line = line["data"]["proxy"].as_str().context("no line of the proxies")?;
    let [_, large] = stock()?;
    let layer = large.image.blobs.last().context("no layer")?;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), NAMESPACE);
    let pods = pods.list(&ListParams::default().labels("app.kubernetes.io/component=registry")).await?.items;
    ensure!(i32::try_from(pods.len())? == REPLICAS, "{} pods of the registry", pods.len());
    let nodes: Vec<_> = pods.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.clone()).collect();
    ensure!(nodes[0] != nodes[1], "both replicas run on {}", nodes[0]);
    for pod in &pods {
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).context("no address")?;
        let url = format!("http://{address}:5001/v2/docker.io/{}/blobs/{}", large.repository, layer.digest);
        let command =
            format!("/busybox wget -q -O - --header 'Authorization: Basic {line}' {url} | /busybox sha256sum");
        let sum = cluster.kubectl(&["exec", "deployment/reader", "--", "/busybox", "sh", "-c", &command]).await?;
        ensure!(sum.starts_with(layer.digest.digest()), "{} serves other bytes: {sum}", pod.name_any());
    }
    Ok(())
}

async fn what_nothing_needs_leaves_the_bucket_and_all_else_pulls_whole(cluster: &mut Cluster) -> Result<()> {
    installed(cluster).await?;
    filled(cluster).await?;
    let before = cluster.bucket.objects()?;
    // One that a pod uses, and no pod any more; and one of which the tag is moved.
    let gone = Kept { image: Image::large(20_000_000, 2)?, repository: "library/gone", tags: &["1.0"] };
    cluster.upstream.add(gone.repository, "1.0", &gone.image).await?;
    cluster.objects().create_pod("gone", "gone:1.0").await?;
    cluster.objects().cached("docker.io/library/gone:1.0").await?;
    let (old, new) = (Image::large(1_000_000, 3)?, Image::large(1_000_000, 4)?);
    cluster.upstream.add("library/moved", "1.0", &old).await?;
    ask_for(cluster, "docker.io/library/moved:1.0", true).await?;
    cluster.objects().cached("docker.io/library/moved:1.0").await?;
    ensure!(is_there(cluster, &gone.image)? && is_there(cluster, &old)?, "not in the bucket");

    cluster.objects().delete_pod("gone").await?;
    cluster.upstream.add("library/moved", "1.0", &new).await?;
    let revisions = |image: &Image, repository: &str| {
        let name = format!("{repository}/_manifests/revisions/sha256/{}/link", image.root.digest.digest());
        Ok::<_, anyhow::Error>(cluster.bucket.objects()?.iter().any(|object| object.ends_with(&name)))
    };
    until("their manifests to be removed", LONGEST, async || {
        let is_gone = !revisions(&gone.image, gone.repository)? && !revisions(&old, "library/moved")?;
        Ok((is_gone && revisions(&new, "library/moved")?).then_some(()))
    })
    .await?;
    ensure!(is_there(cluster, &gone.image)? && is_there(cluster, &old)?, "their blobs went before a run");

    let run = Run::begin(cluster, "first").await?;
    let ended = run.ended().await?;
    ensure!(ended.is_ok(), "the run failed: {ended:?}");
    restored_to(cluster, REPLICAS).await?;
    for image in [&gone.image, &old] {
        let left = of(cluster, image)?;
        ensure!(left.is_empty(), "still in the bucket: {left:#?}");
    }
    let after = cluster.bucket.objects()?;
    let lost: Vec<_> = before.iter().filter(|object| !after.contains(object)).collect();
    ensure!(lost.is_empty(), "the run has taken what is needed: {lost:#?}");
    let rest: Vec<_> =
        after.iter().filter(|object| object.contains("/library/gone/") || object.contains("untagged.")).collect();
    ensure!(rest.is_empty(), "left behind: {rest:#?}");
    all_is_whole(cluster).await?;
    let moved = Kept { image: new, repository: "library/moved", tags: &["1.0"] };
    whole(&cluster.a, &moved).await?;

    let registry = registry(cluster).await?;
    let report = registry.annotations().get(LAST_COLLECTION_ANNOTATION).and_then(|text| CollectionReport::read(text));
    let report = report.context("no report on the StatefulSet")?;
    // Manifest, configuration and layer of both.
    ensure!((report.freed_blobs, report.freed_bytes) == (6, None), "{report:?}");
    let events = cluster.kubectl(&["get", "events", "--namespace", NAMESPACE]).await?;
    ensure!(events.contains("Freed 6 blobs. The registry was away for"), "no Event tells: {events}");
    note!("freed {} blobs; the registry was away for {} s", report.freed_blobs, report.seconds);
    Ok(())
}

/// Objects of the bucket that hold or name a part of an image: the tag's history apart, which names what it was.
fn of(cluster: &Cluster, image: &Image) -> Result<Vec<String>> {
    let parts = |content: &Content| content.digest.digest().to_owned();
    let hexes: Vec<_> = image.blobs.iter().chain([&image.root]).map(parts).collect();
    let objects = cluster.bucket.objects()?.into_iter().filter(|object| !object.contains("/_manifests/tags/"));
    Ok(objects.filter(|object| hexes.iter().any(|hex| object.contains(hex))).collect())
}

/// Whether every blob of an image is in the bucket.
fn is_there(cluster: &Cluster, image: &Image) -> Result<bool> {
    let objects = of(cluster, image)?;
    let data = |content: &Content| format!("/{}/data", content.digest.digest());
    Ok(image.blobs.iter().chain([&image.root]).all(|blob| objects.iter().any(|object| object.ends_with(&data(blob)))))
}

async fn a_run_that_is_killed_or_fails_brings_all_replicas_back(cluster: &mut Cluster) -> Result<()> {
    installed(cluster).await?;
    filled(cluster).await?;
    for (name, moment) in [("stopped", Moment::Stopped), ("removing", Moment::Removing)] {
        let run = Run::begin(cluster, name).await?;
        run.reaches(moment).await?;
        let killed = run.kill().await?;
        let took = restored_to(cluster, REPLICAS).await?;
        note!("killed ({killed}) when it was {moment:?}: back after {:.1} s", took.as_secs_f32());
        ensure!(took < LONGEST, "{took:?}");
    }
    cluster.bucket.part.kill().await?;
    let words = Run::begin(cluster, "in-vain").await?.ended().await?.err().context("it ran without a bucket")?;
    ensure!(words.contains("container collect ended with status 1") && words.contains("connection refused"), "{words}");
    let last = words.lines().skip_while(|line| !line.starts_with("cache-registry:")).collect::<Vec<_>>().join(" ");
    note!("without a bucket a run says: {last}");
    cluster.bucket.part.start().await?;
    restored_to(cluster, REPLICAS).await?;
    all_is_whole(cluster).await
}

async fn without_the_bucket_pulls_go_upstream_and_copies_wait(cluster: &mut Cluster) -> Result<()> {
    installed(cluster).await?;
    filled(cluster).await?;
    cluster.bucket.part.kill().await?;
    for kept in stock()? {
        for node in [&cluster.a, &cluster.b] {
            whole(node, &kept).await.context("without the bucket")?;
        }
    }
    let late = Image::large(1_000_000, 5)?;
    cluster.upstream.add("library/late", "1.0", &late).await?;
    ask_for(cluster, "docker.io/library/late:1.0", true).await?;
    let waiting = cluster.objects().not_cached("docker.io/library/late:1.0", "RegistryUnreachable").await?;
    note!("without the bucket the status says: {}", message(&waiting));
    cluster.bucket.part.start().await?;
    cluster.objects().cached("docker.io/library/late:1.0").await?;
    ensure!(is_there(cluster, &late)?, "it is not in the bucket");
    all_is_whole(cluster).await
}

async fn credentials_that_the_bucket_refuses_are_told_in_the_status(cluster: &mut Cluster) -> Result<()> {
    installed(cluster).await?;
    filled(cluster).await?;
    let wrong = r#"{"stringData":{"secretKey":"no secret of this bed"}}"#;
    cluster.kubectl(&["patch", "secret", "--namespace", NAMESPACE, SECRET, "--patch", wrong]).await?;
    restarted(cluster).await?;
    for kept in stock()? {
        whole(&cluster.a, &kept).await.context("with wrong credentials")?;
    }
    let refused = Image::large(1_000_000, 6)?;
    cluster.upstream.add("library/refused", "1.0", &refused).await?;
    ask_for(cluster, "docker.io/library/refused:1.0", true).await?;
    let waiting = cluster.objects().not_cached("docker.io/library/refused:1.0", "RegistryUnreachable").await?;
    note!("with wrong credentials the status says: {}", message(&waiting));

    cluster.apply(&Bucket::secret(SECRET, NAMESPACE).to_string()).await?;
    restarted(cluster).await?;
    cluster.objects().cached("docker.io/library/refused:1.0").await?;
    all_is_whole(cluster).await
}

/// As the docs say that a changed Secret is brought to the registry.
async fn restarted(cluster: &Cluster) -> Result<()> {
    let registry = "statefulset/cache-registry-registry";
    cluster.kubectl(&["rollout", "restart", "--namespace", NAMESPACE, registry]).await?;
    restored_to(cluster, REPLICAS).await?;
    Ok(())
}

/// What an image's condition Ready says.
fn message(image: &CachedImage) -> String {
    let conditions = image.status.iter().flat_map(|status| &status.conditions);
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
    ready.map(|ready| ready.message.clone()).unwrap_or_default()
}
