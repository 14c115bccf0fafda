//! What the API server stores when a pod is created or changed.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cache_registry_api::labels::{IMAGES_ANNOTATION, OPT_OUT_LABEL, OPT_OUT_VALUE, REWRITTEN_LABEL};
use cache_registry_api::{ImageEntry, ImagesAnnotation, Outcome};
use cache_registry_bed::{Bed, Options, image_of, pod, until};
use cache_registry_e2e::{WebhookConnection, review_of, run, tests};
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

fn main() -> Result<ExitCode> {
    run(
        Options::default(),
        tests![
            every_kind_of_container_is_rewritten,
            a_pod_is_stored_as_before_when_nothing_can_be_cached,
            an_opted_out_pod_is_stored_as_it_was_written,
            an_ephemeral_container_is_rewritten,
            a_new_image_is_rewritten_on_update,
            a_pod_from_before_the_webhook_is_not_restarted_by_an_update,
            pods_are_created_while_the_webhook_is_gone,
            garbage_instead_of_a_review_is_refused_in_words,
            a_new_certificate_is_served_and_no_review_fails,
            a_review_in_flight_is_answered_after_sigterm,
        ],
    )
}

async fn every_kind_of_container_is_rewritten(bed: &mut Bed) -> Result<()> {
    let mut wanted = pod("kinds", &json!([{ "name": "main", "image": "nginx:1.27" }]));
    wanted["spec"]["initContainers"] = json!([
        { "name": "first", "image": "quay.io/team/setup:2" },
        { "name": "side", "image": "reg.example:5000/log:3", "restartPolicy": "Always" },
    ]);
    let stored = bed.objects().create(wanted).await?;

    assert_eq!(image_of(&stored, "main")?, "localhost:7439/docker.io/library/nginx:1.27");
    assert_eq!(image_of(&stored, "first")?, "localhost:7439/quay.io/team/setup:2");
    assert_eq!(image_of(&stored, "side")?, "localhost:7439/reg.example_5000/log:3");
    assert_eq!(label(&stored, REWRITTEN_LABEL), Some("true"));
    let images = images(&stored)?;
    assert_eq!(images.0.len(), 3);
    assert_eq!(entry(&images, "main")?, &rewritten("nginx:1.27", "docker.io/library/nginx:1.27")?);
    assert_eq!(entry(&images, "first")?, &rewritten("quay.io/team/setup:2", "quay.io/team/setup:2")?);
    assert_eq!(entry(&images, "side")?, &rewritten("reg.example:5000/log:3", "reg.example:5000/log:3")?);
    Ok(())
}

async fn a_pod_is_stored_as_before_when_nothing_can_be_cached(bed: &mut Bed) -> Result<()> {
    let containers = json!([
        { "name": "local", "image": "built:here", "imagePullPolicy": "Never" },
        { "name": "odd", "image": "Not A Reference" },
    ]);
    let stored = bed.objects().create(pod("nothing", &containers)).await?;

    assert_eq!(image_of(&stored, "local")?, "built:here");
    assert_eq!(image_of(&stored, "odd")?, "Not A Reference");
    assert_eq!(label(&stored, REWRITTEN_LABEL), None);
    let images = images(&stored)?;
    for name in ["local", "odd"] {
        let outcome = &entry(&images, name)?.outcome;
        ensure!(matches!(outcome, Outcome::LeftAlone(reason) if !reason.is_empty()), "{name}: {outcome:?}");
    }
    Ok(())
}

async fn an_opted_out_pod_is_stored_as_it_was_written(bed: &mut Bed) -> Result<()> {
    let mut wanted = pod("opted-out", &json!([{ "name": "main", "image": "nginx:1.27" }]));
    wanted["metadata"]["labels"] = json!({ OPT_OUT_LABEL: OPT_OUT_VALUE });
    let stored = bed.objects().create(wanted.clone()).await?;
    assert_eq!(image_of(&stored, "main")?, "nginx:1.27");
    assert_eq!(label(&stored, REWRITTEN_LABEL), None);
    ensure!(stored.annotations().is_empty(), "{:?}", stored.annotations());

    // The same where the webhook is asked all the same, by a configuration without our selector.
    let (status, answer) = WebhookConnection::open(bed).await?.review(&review_of(&wanted)).await?;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((&answer["response"]["allowed"], &answer["response"]["patch"]), (&json!(true), &Value::Null));
    Ok(())
}

async fn an_ephemeral_container_is_rewritten(bed: &mut Bed) -> Result<()> {
    bed.objects().create_pod("debugged", "nginx:1.27").await?;
    let debugger = json!({ "spec": { "ephemeralContainers": [{ "name": "debugger", "image": "busybox:1.36" }] } });
    let stored = bed
        .objects()
        .pods()
        .patch_ephemeral_containers("debugged", &PatchParams::default(), &Patch::Strategic(debugger))
        .await?;
    assert_eq!(image_of(&stored, "debugger")?, "localhost:7439/docker.io/library/busybox:1.36");
    assert_eq!(image_of(&stored, "main")?, "localhost:7439/docker.io/library/nginx:1.27");
    Ok(())
}

async fn a_new_image_is_rewritten_on_update(bed: &mut Bed) -> Result<()> {
    let containers = json!([{ "name": "main", "image": "nginx:1.27" }, { "name": "side", "image": "log:1" }]);
    bed.objects().create(pod("updated", &containers)).await?;
    let change = json!({ "spec": { "containers": [{ "name": "main", "image": "nginx:1.28" }] } });
    let stored = change_pod(bed, "updated", change).await?;

    assert_eq!(image_of(&stored, "main")?, "localhost:7439/docker.io/library/nginx:1.28");
    assert_eq!(image_of(&stored, "side")?, "localhost:7439/docker.io/library/log:1");
    let images = images(&stored)?;
    assert_eq!(entry(&images, "main")?, &rewritten("nginx:1.28", "docker.io/library/nginx:1.28")?);
    assert_eq!(entry(&images, "side")?, &rewritten("log:1", "docker.io/library/log:1")?);
    Ok(())
}

async fn a_pod_from_before_the_webhook_is_not_restarted_by_an_update(bed: &mut Bed) -> Result<()> {
    bed.webhook.kill().await?;
    bed.objects().create_pod("from-before", "nginx:1.27").await?;
    bed.webhook.start().await?;
    let stored = change_pod(bed, "from-before", json!({ "metadata": { "labels": { "changed": "yes" } } })).await?;
    assert_eq!(label(&stored, "changed"), Some("yes"));
    assert_eq!(image_of(&stored, "main")?, "nginx:1.27");
    Ok(())
}

async fn pods_are_created_while_the_webhook_is_gone(bed: &mut Bed) -> Result<()> {
    bed.webhook.kill().await?;
    let stored = bed.objects().create_pod("unseen", "nginx:1.27").await?;
    assert_eq!(image_of(&stored, "main")?, "nginx:1.27");

    bed.webhook.start().await?;
    bed.webhook.freeze()?;
    let stored = bed.objects().create_pod("unanswered", "nginx:1.27").await?;
    assert_eq!(image_of(&stored, "main")?, "nginx:1.27");
    Ok(())
}

async fn garbage_instead_of_a_review_is_refused_in_words(bed: &mut Bed) -> Result<()> {
    for garbage in [json!([]), json!("x"), json!({ "kind": "AdmissionReview" }), json!({ "request": 7 })] {
        let (status, _) = WebhookConnection::open(bed).await?.review(&garbage).await?;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{garbage}");
    }
    ensure!(bed.webhook.runs(), "it ended");
    Ok(())
}

async fn a_new_certificate_is_served_and_no_review_fails(bed: &mut Bed) -> Result<()> {
    let before = WebhookConnection::open(bed).await?.certificate().to_vec();
    bed.renew_webhook_certificate()?;
    let mut created = 0;
    until("the new certificate to be served", Duration::from_secs(30), async || {
        // A review that fails leaves the pod as it was written: the failure policy is Ignore.
        let name = format!("renewed-{created}");
        let wanted = serde_json::from_value(pod(&name, &json!([{ "name": "main", "image": "nginx:1.27" }])))?;
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let stored = bed.objects().pods().create(&dry_run, &wanted).await?;
        assert_eq!(image_of(&stored, "main")?, "localhost:7439/docker.io/library/nginx:1.27");
        created += 1;
        let connection = WebhookConnection::open(bed).await?;
        Ok((connection.certificate() != before).then_some(()))
    })
    .await?;
    // The API server goes on, over the connection that it has and over new ones.
    let stored = bed.objects().create_pod("after-renewal", "nginx:1.27").await?;
    assert_eq!(image_of(&stored, "main")?, "localhost:7439/docker.io/library/nginx:1.27");
    Ok(())
}

async fn a_review_in_flight_is_answered_after_sigterm(bed: &mut Bed) -> Result<()> {
    let wanted = pod("in-flight", &json!([{ "name": "main", "image": "nginx:1.27" }]));
    let mut connection = WebhookConnection::open(bed).await?;
    // An answer over this connection: the server has taken it.
    connection.review(&review_of(&wanted)).await?;
    let half = connection.begin(&review_of(&wanted)).await?;
    bed.webhook.terminate()?;
    until("the webhook to take no more connections", Duration::from_secs(10), async || {
        Ok(tokio::net::TcpStream::connect(bed.webhook_address()).await.is_err().then_some(()))
    })
    .await?;
    let (status, answer) = half.finish().await?;
    assert_eq!(status, StatusCode::OK);
    ensure!(answer["response"]["patch"].is_string(), "no patch: {answer}");
    let status = bed.webhook.ended(Duration::from_secs(10)).await?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

async fn change_pod(bed: &Bed, name: &str, change: Value) -> Result<Pod> {
    Ok(bed.objects().pods().patch(name, &PatchParams::default(), &Patch::Strategic(change)).await?)
}

fn label<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.labels().get(name).map(String::as_str)
}

fn images(pod: &Pod) -> Result<ImagesAnnotation> {
    Ok(pod.annotations().get(IMAGES_ANNOTATION).context("the pod has no annotation of ours")?.parse()?)
}

fn entry<'a>(images: &'a ImagesAnnotation, container: &str) -> Result<&'a ImageEntry> {
    images.0.get(container).with_context(|| format!("{container} is not in the annotation"))
}

fn rewritten(original: &str, source: &str) -> Result<ImageEntry> {
    Ok(ImageEntry { original: original.to_owned(), outcome: Outcome::Rewritten(source.parse()?) })
}
