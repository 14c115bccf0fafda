//! The whole cluster of the test bed is one: pods run on both nodes, and reach each other as pods do.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cache_registry_bed::cluster::{BUSYBOX, Cluster, Node, Options};
use cache_registry_bed::{IpVersion, until};
use cache_registry_e2e::{note, run, tests};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::json;

const LONGEST_ANSWER: Duration = Duration::from_secs(20);

/// A port of each node's `localhost`, as the proxy has one.
const HOST_PORT: u16 = 7440;

fn main() -> Result<ExitCode> {
    run(
        Options::default(),
        tests![
            a_deployment_runs_on_both_nodes_and_answers_by_the_name_of_its_service,
            a_pod_starts_with_upstream_off_from_an_image_that_its_node_has,
            a_node_that_was_switched_off_comes_back_with_its_pods,
            pods_read_their_account_their_configuration_and_their_secrets,
        ],
    )
}

async fn a_deployment_runs_on_both_nodes_and_answers_by_the_name_of_its_service(cluster: &mut Cluster) -> Result<()> {
    let started = Instant::now();
    web(cluster).await?;
    note!("a Deployment of two replicas is available after {:.1} s", started.elapsed().as_secs_f32());
    let (on_a, on_b) = (pod_on(cluster, &cluster.a).await?, pod_on(cluster, &cluster.b).await?);

    // By its name, through kube-proxy's rules, and in the end from the pod of the other node.
    for (from, other) in [(&on_a, &on_b), (&on_b, &on_a)] {
        until(format!("{from} to get an answer of {other}"), LONGEST_ANSWER, async || {
            let fetch = ["exec", from, "--", "busybox", "wget", "-q", "-O", "-", "http://web.default.svc"];
            Ok((cluster.kubectl(&fetch).await?.trim() == other).then_some(()))
        })
        .await?;
    }

    for (node, pod) in [(&cluster.a, &on_a), (&cluster.b, &on_b)] {
        let answer = node.get(HOST_PORT, IpVersion::V4, "/").await?;
        ensure!(answer.body.trim_ascii() == pod.as_bytes(), "localhost:{HOST_PORT} of {}: {answer:?}", node.name());
        let log = cluster.kubectl(&["logs", pod]).await?;
        ensure!(log.contains("serving"), "the log of {pod}: {log:?}");
    }
    Ok(())
}

async fn a_pod_starts_with_upstream_off_from_an_image_that_its_node_has(cluster: &mut Cluster) -> Result<()> {
    web(cluster).await?;
    cluster.upstream.off().await?;
    let before = pod_on(cluster, &cluster.b).await?;
    cluster.kubectl(&["delete", "pod", &before, "--wait=false", "--grace-period=1"]).await?;
    until(format!("another pod than {before} on node b"), LONGEST_ANSWER, async || {
        Ok((pod_on(cluster, &cluster.b).await? != before).then_some(()))
    })
    .await?;
    cluster.available("default", "web").await
}

async fn a_node_that_was_switched_off_comes_back_with_its_pods(cluster: &mut Cluster) -> Result<()> {
    web(cluster).await?;
    let before = pod_on(cluster, &cluster.b).await?;
    cluster.b.init.kill().await?;
    until("nothing to answer on node b", LONGEST_ANSWER, async || {
        Ok(cluster.b.get(HOST_PORT, IpVersion::V4, "/").await.is_err().then_some(()))
    })
    .await?;

    cluster.heal().await?;
    until(format!("{before} to answer again"), LONGEST_ANSWER, async || {
        let answer = cluster.b.get(HOST_PORT, IpVersion::V4, "/").await?;
        Ok((answer.body.trim_ascii() == before.as_bytes()).then_some(()))
    })
    .await
}

async fn pods_read_their_account_their_configuration_and_their_secrets(cluster: &mut Cluster) -> Result<()> {
    const SHOW: &str = "cd /in; cat config/word secret/word; echo; wc -c < token/token; touch empty/it && ls empty";
    let mounts = ["config", "secret", "token", "empty"];
    let mounts = mounts.map(|name| json!({ "name": name, "mountPath": format!("/in/{name}") }));
    cluster
        .apply(
            &json!({ "apiVersion": "v1", "kind": "List", "items": [
                { "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "reader" }, "data": { "word": "of-a-map " } },
                { "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "reader" }, "stringData": { "word": "of-a-secret" } },
                { "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "reader" }, "spec": {
                    "restartPolicy": "Never",
                    "containers": [{
                        "name": "main",
                        "image": BUSYBOX,
                        "args": ["sh", "-c", SHOW],
                        "volumeMounts": mounts,
                    }],
                    "volumes": [
                        { "name": "config", "configMap": { "name": "reader" } },
                        { "name": "secret", "secret": { "secretName": "reader" } },
                        { "name": "token", "projected": { "sources": [{ "serviceAccountToken": { "path": "token" } }] } },
                        { "name": "empty", "emptyDir": {} },
                    ],
                }},
            ]})
            .to_string(),
        )
        .await?;
    let pods: Api<Pod> = cluster.objects().pods();
    until("the pod to have succeeded", LONGEST_ANSWER, async || {
        let phase = pods.get("reader").await?.status.and_then(|status| status.phase);
        Ok((phase.as_deref() == Some("Succeeded")).then_some(()))
    })
    .await?;
    let log = cluster.kubectl(&["logs", "reader"]).await?;
    let lines: Vec<&str> = log.lines().collect();
    let [words, length, file] = lines[..] else { anyhow::bail!("its log: {log:?}") };
    assert_eq!((words, file), ("of-a-map of-a-secret", "it"));
    ensure!(length.trim().parse::<usize>()? > 100, "a token of {length} bytes");
    Ok(())
}

/// A Deployment with a pod on each node, behind a Service: each answers with its name, on a host port as well.
async fn web(cluster: &Cluster) -> Result<()> {
    const SERVE: &str = "hostname > /www/index.html; echo serving; exec busybox httpd -f -p 8080 -h /www";
    let labels = json!({ "app": "web" });
    let objects = json!({ "apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": "web" },
            "spec": {
                "replicas": 2,
                "selector": { "matchLabels": labels },
                // One a node: a third would wait for the host port.
                "strategy": { "type": "Recreate" },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": {
                        "terminationGracePeriodSeconds": 1,
                        "containers": [{
                            "name": "main",
                            "image": BUSYBOX,
                            "args": ["sh", "-c", SERVE],
                            "ports": [{ "containerPort": 8080, "hostPort": HOST_PORT, "hostIP": "127.0.0.1" }],
                            "readinessProbe": { "httpGet": { "path": "/", "port": 8080 }, "periodSeconds": 1 },
                            "securityContext": {
                                "runAsUser": 65532,
                                "runAsNonRoot": true,
                                "allowPrivilegeEscalation": false,
                                "capabilities": { "drop": ["ALL"] },
                                "seccompProfile": { "type": "RuntimeDefault" },
                                "readOnlyRootFilesystem": true,
                            },
                            "volumeMounts": [{ "name": "www", "mountPath": "/www" }],
                        }],
                        "volumes": [{ "name": "www", "emptyDir": {} }],
                    },
                },
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": "web" },
            "spec": { "selector": labels, "ports": [{ "port": 80, "targetPort": 8080 }] },
        },
    ]});
    cluster.apply(&objects.to_string()).await?;
    cluster.available("default", "web").await
}

/// The name of the pod of `web` on a node that is not about to end.
async fn pod_on(cluster: &Cluster, node: &Node) -> Result<String> {
    let there = ListParams::default().labels("app=web").fields(&format!("spec.nodeName={}", node.name()));
    let pods = cluster.objects().pods().list(&there).await?;
    let stays = pods.items.iter().find(|pod| pod.metadata.deletion_timestamp.is_none());
    Ok(stays.with_context(|| format!("no pod of web on node {}", node.name()))?.name_any())
}
