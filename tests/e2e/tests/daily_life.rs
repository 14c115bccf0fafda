//! What a platform engineer sees of it on a cluster, without a look at the logs.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cache_registry_bed::cluster::{BUSYBOX, Cluster, Options};
use cache_registry_bed::until;
use cache_registry_core::object_name;
use cache_registry_e2e::release::{NAMESPACE, deploy, install_with};
use cache_registry_e2e::{ask_for, note, run_within, tests};
use cache_registry_upstream::Image;
use serde_json::{Value, json};
use tokio::process::Command;

const LONGEST_TEST: Duration = Duration::from_mins(4);

/// Room for all that is in use, and for one of the large images.
const MAX_SIZE: &str = "8Mi";
const LARGE: usize = 4_500_000;

fn main() -> Result<ExitCode> {
    let options = Options { registries: vec!["ghcr.io".to_owned()], ..Options::default() };
    run_within(
        LONGEST_TEST,
        options,
        tests![
            replicas_start_on_another_node_with_upstream_gone_and_kubectl_tells_the_story,
            the_cache_says_on_a_terminal_how_it_stands,
            what_was_used_longest_ago_makes_room,
        ],
    )
}

async fn installed(cluster: &Cluster) -> Result<()> {
    install_with(cluster, &[&format!("registry.maxSize={MAX_SIZE}"), "log.format=text"]).await
}

async fn replicas_start_on_another_node_with_upstream_gone_and_kubectl_tells_the_story(
    cluster: &mut Cluster,
) -> Result<()> {
    installed(cluster).await?;
    deploy(cluster, "replicas", cluster.a.name()).await?;
    cluster.kubectl(&["scale", "deployment", "replicas", "--replicas=3"]).await?;
    cluster.available("default", "replicas").await?;
    cluster.objects().cached(BUSYBOX).await?;

    cluster.upstream.off().await?;
    let to_b = json!({ "spec": { "replicas": 4, "template": { "spec": { "nodeSelector": {
        "kubernetes.io/hostname": cluster.b.name(),
    }}}}});
    cluster.kubectl(&["patch", "deployment", "replicas", "--patch", &to_b.to_string()]).await?;
    cluster.available("default", "replicas").await?;
    let nodes = ["get", "pods", "--selector=app=replicas", "--field-selector=status.phase=Running"];
    let nodes = cluster.kubectl(&[&nodes[..], &["-o", "jsonpath={.items[*].spec.nodeName}"]].concat()).await?;
    let on_b = nodes.split(' ').filter(|node| *node == cluster.b.name()).count();
    ensure!(on_b == 4, "they run on {nodes}");

    let name = object_name(&BUSYBOX.parse()?);
    let told = until("the status to tell of all of them", Duration::from_secs(30), async || {
        let list = cluster.kubectl(&["get", "cachedimages"]).await?;
        let line = list.lines().find(|line| line.starts_with(&name)).context("it is not in the list")?.to_owned();
        let words: Vec<&str> = line.split_whitespace().collect();
        Ok((words.get(4) == Some(&"4")).then_some(line))
    });
    let line = told.await?;
    ensure!(line.contains(BUSYBOX) && line.contains("True") && line.contains("sha256:"), "{line}");
    let described = cluster.kubectl(&["describe", "cachedimage", &name]).await?;
    for words in ["Reason:                Cached", "Deployment/default/replicas", "Copying from docker.io"] {
        ensure!(described.contains(words), "{words:?} is not in\n{described}");
    }
    Ok(())
}

/// What the program says, as a user runs it.
async fn status(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(cluster.cache_registry());
    command.env("KUBECONFIG", cluster.control_plane.kubeconfig()).arg("status").args(arguments).kill_on_drop(true);
    let output = command.output().await?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "{said}");
    Ok(String::from_utf8(output.stdout)?)
}

async fn the_cache_says_on_a_terminal_how_it_stands(cluster: &mut Cluster) -> Result<()> {
    installed(cluster).await?;
    deploy(cluster, "seen", cluster.a.name()).await?;
    cluster.objects().cached(BUSYBOX).await?;
    ask_for(cluster, "docker.io/library/never-was:1.0", true).await?;
    cluster.objects().not_cached("docker.io/library/never-was:1.0", "NotFound").await?;

    let standing: Value = serde_json::from_str(&status(cluster, &["--output", "json"]).await?)?;
    let number = |pointer: &str| standing.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    ensure!(number("/images/reasons/Cached") >= 1 && number("/images/reasons/NotFound") == 1, "{standing}");
    ensure!((number("/registry/replicas"), number("/registry/ready")) == (1, 1), "{standing}");
    ensure!((number("/pulls/proxies"), number("/pulls/told")) == (2, 2), "{standing}");
    ensure!(number("/pulls/requests/cache") + number("/pulls/requests/upstream") > 0, "{standing}");
    ensure!(standing["upstreams"][0]["host"] == "docker.io" && standing["upstreams"][0]["failing"] == 1, "{standing}");

    let text = status(cluster, &[]).await?;
    let lines =
        ["IMAGES    ", "REGISTRY  1 of 1 ready", "as 2 of 2 proxies tell", "docker.io/library/never-was:1.0  NotFound"];
    for line in lines {
        ensure!(text.contains(line), "{line:?} is not in\n{text}");
    }
    note!("{}", text.lines().next().unwrap_or_default());

    let elsewhere = status(cluster, &["--namespace", "default"]).await?;
    ensure!(elsewhere.contains("REGISTRY  not in this namespace"), "{elsewhere}");
    let missing = format!("delete cachedimage {}", object_name(&"docker.io/library/never-was:1.0".parse()?));
    cluster.kubectl(&missing.split(' ').collect::<Vec<_>>()).await?;
    Ok(())
}

/// Of two images that nothing uses, the one goes that was used before; what pods use stays.
async fn what_was_used_longest_ago_makes_room(cluster: &mut Cluster) -> Result<()> {
    installed(cluster).await?;
    deploy(cluster, "used", cluster.a.name()).await?;
    cluster.objects().cached(BUSYBOX).await?;
    let source = |name: &str| format!("docker.io/library/{name}:1.0");
    for (seed, name) in [(11, "sooner"), (12, "longer")] {
        cluster.upstream.add(&format!("library/{name}"), "1.0", &Image::large(LARGE, seed)?).await?;
        ask_for(cluster, &source(name), true).await?;
        cluster.objects().cached(&source(name)).await?;
    }
    for name in ["sooner", "longer"] {
        let object = object_name(&source(name).parse()?);
        // Longer than anything here is unused; that of the release would be over.
        cluster.kubectl(&["annotate", "cachedimage", &object, "cache-registry.enix.io/expiry-delay=4000d"]).await?;
        let free = r#"{"spec":{"retain":false}}"#;
        cluster.kubectl(&["patch", "cachedimage", &object, "--type=merge", "-p", free]).await?;
        until("it to be unused", Duration::from_secs(20), async || {
            let image = cluster.objects().cached_image(&source(name)).await?.context("it is gone")?;
            Ok(image.status.and_then(|status| status.unused_since))
        })
        .await?;
    }
    // So far both were used a moment ago.
    for (name, unused_since) in [("longer", "2026-01-01T00:00:00Z"), ("sooner", "2026-01-02T00:00:00Z")] {
        let object = object_name(&source(name).parse()?);
        let since = json!({ "status": { "unusedSince": unused_since } }).to_string();
        cluster
            .kubectl(&["patch", "cachedimage", &object, "--subresource=status", "--type=merge", "-p", &since])
            .await?;
    }
    until("room to be made", Duration::from_mins(1), async || {
        Ok(cluster.objects().cached_image(&source("longer")).await?.is_none().then_some(()))
    })
    .await?;
    // The next look at the sizes is half a minute later, and finds that all fit.
    let events =
        cluster.kubectl(&["get", "events", "--namespace", "default", "--field-selector=reason=Expired"]).await?;
    ensure!(events.contains("longer") && !events.contains("sooner"), "{events}");
    for source in [source("sooner"), BUSYBOX.to_owned()] {
        cluster.objects().cached(&source).await?;
    }
    let alive = cluster.kubectl(&["get", "pods", "--namespace", NAMESPACE]).await?;
    ensure!(!alive.contains("CrashLoopBackOff"), "{alive}");
    Ok(())
}
