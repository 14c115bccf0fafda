//! The chart on a cluster, installed by the README's command.

use std::fmt::Write as _;
use std::fs;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cache_registry_bed::cluster::{BUSYBOX, Cluster, Node, Options};
use cache_registry_bed::{IpVersion, image_of, until};
use cache_registry_e2e::release::{
    NAMESPACE, REGISTRY, RELEASE, chart, deploy, deploy_with, install, install_with, publish_busybox, volume,
};
use cache_registry_e2e::{admissions, note, rewritten, run_within, served_until, tests};
use cache_registry_upstream::Access;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

/// Pods are started several times in a test, on a machine that is busy.
const LONGEST_TEST: Duration = Duration::from_mins(5);
const LONGEST_START: Duration = Duration::from_mins(1);

fn main() -> Result<ExitCode> {
    let options = Options { registries: vec!["ghcr.io".to_owned()], ..Options::default() };
    run_within(
        LONGEST_TEST,
        options,
        tests![
            pods_start_through_the_cache_and_without_upstream,
            pods_with_a_pull_secret_do_too,
            a_second_installation_changes_nothing,
            a_new_certificate_fails_no_admission,
            a_certificate_of_the_users_is_served,
            an_upgrade_fails_no_pull_and_no_admission,
            images_outlive_the_registrys_pod_on_a_volume,
            a_network_plugin_may_forward_the_proxys_port,
            prometheus_finds_every_pod_by_the_pod_monitor,
            accounts_may_do_what_the_table_says,
            every_pod_but_the_proxys_is_restricted,
            nothing_is_left_of_a_release_but_what_cannot_be_had_again,
            values_are_accepted_by_the_api_server,
        ],
    )
}

async fn pods_start_through_the_cache_and_without_upstream(cluster: &mut Cluster) -> Result<()> {
    let started = Instant::now();
    install(cluster).await?;
    note!("installed and ready after {:.1} s", started.elapsed().as_secs_f32());
    note_memory();
    cluster.helm(&["test", RELEASE, "--namespace", NAMESPACE]).await.context("helm test")?;

    deploy(cluster, "first", cluster.a.name()).await?;
    let pod = pod_of(cluster, "first").await?;
    ensure!(image_of(&pod, "main")? == format!("localhost:7439/{BUSYBOX}"), "the pod's image: {pod:?}");
    cluster.objects().cached(BUSYBOX).await?;

    // The other node has never had this image under any name that the kubelet would look for.
    cluster.upstream.off().await?;
    deploy(cluster, "second", cluster.b.name()).await?;

    // Its Events tell that story, to whoever asks about the image.
    let story = cluster.kubectl(&["describe", "cachedimages"]).await?;
    let told = |line: &str| line.split_whitespace().take(2).eq(["Normal", "Cached"]);
    ensure!(story.lines().any(told), "no Event says that the image is cached: {story}");
    Ok(())
}

/// First without a registry inside the cluster, so that it is a token of the controllers that lets the node pull.
async fn pods_with_a_pull_secret_do_too(cluster: &mut Cluster) -> Result<()> {
    const IMAGE: &str = "docker.io/library/private:1";
    install(cluster).await?;
    publish_busybox(cluster, IMAGE).await?;
    // The registry's pod comes back on either node, and has no pull secret.
    for node in [&cluster.a, &cluster.b] {
        node.images.pull(REGISTRY).await?;
    }
    let access = Access::Credentials { username: "somebody".to_owned(), password: "hush".to_owned() };
    cluster.upstream.set_access(&access).await?;
    let server = "--docker-server=https://index.docker.io/v1/";
    let [user, password] = ["--docker-username=somebody", "--docker-password=hush"];
    cluster.kubectl(&["create", "secret", "docker-registry", "private", server, user, password]).await?;

    let registry = format!("statefulset/{RELEASE}-registry");
    cluster.kubectl(&["scale", &registry, "--namespace", NAMESPACE, "--replicas", "0"]).await?;
    cluster.kubectl(&["wait", "pod/cache-registry-registry-0", "-n", NAMESPACE, "--for=delete"]).await?;
    deploy_with(cluster, "first-private", cluster.a.name(), IMAGE, &["private"]).await?;

    cluster.kubectl(&["scale", &registry, "--namespace", NAMESPACE, "--replicas", "1"]).await?;
    cluster.kubectl(&["rollout", "status", "--namespace", NAMESPACE, &registry]).await?;
    cluster.objects().cached_within(IMAGE, LONGEST_START).await?;
    cluster.upstream.off().await?;
    deploy_with(cluster, "second-private", cluster.b.name(), IMAGE, &["private"]).await?;
    cluster.kubectl(&["delete", "secret", "private"]).await?;
    Ok(())
}

async fn a_second_installation_changes_nothing(cluster: &mut Cluster) -> Result<()> {
    install(cluster).await?;
    let before = state(cluster).await?;
    install(cluster).await?;
    let after = state(cluster).await?;
    ensure!(before == after, "the upgrade changed something:\n{before}\n{after}");
    Ok(())
}

/// Renewed as the docs say it is done by hand, which is what the controllers do by themselves when it is time.
async fn a_new_certificate_fails_no_admission(cluster: &mut Cluster) -> Result<()> {
    install(cluster).await?;
    let before = served_until(cluster).await?;
    let renewed = AtomicBool::new(false);
    let renewal = async {
        let remove = r#"[{"op": "remove", "path": "/data/tls.crt"}]"#;
        let secret = "cache-registry-webhook-certificate";
        cluster.kubectl(&["patch", "secret", "-n", NAMESPACE, secret, "--type", "json", "-p", remove]).await?;
        until("every webhook to serve the new certificate", LONGEST_START, async || {
            let now = served_until(cluster).await?;
            Ok((now.len() == before.len() && now.iter().all(|end| !before.contains(end))).then_some(()))
        })
        .await?;
        // And some more that are sure to meet it.
        tokio::time::timeout(LONGEST_START, rewritten(cluster)).await??;
        renewed.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let ((), admitted) = tokio::try_join!(renewal, admissions(cluster, &renewed))?;
    note!("{admitted} pods were rewritten while the certificate was replaced");
    Ok(())
}

async fn a_certificate_of_the_users_is_served(cluster: &mut Cluster) -> Result<()> {
    install(cluster).await?;
    let certificate = rcgen::generate_simple_self_signed([format!("{RELEASE}-webhook.{NAMESPACE}.svc")])?;
    let (pem, key) = (certificate.cert.pem(), certificate.signing_key.serialize_pem());
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": "brought", "namespace": NAMESPACE },
        "type": "kubernetes.io/tls",
        "stringData": { "tls.crt": pem, "tls.key": key },
    });
    cluster.apply(&secret.to_string()).await?;
    let ca = cluster.folder().join("brought.crt");
    fs::write(&ca, &pem)?;
    let chart = chart();
    let mode = "controllers.webhook.certificate.mode=provided,controllers.webhook.certificate.secretName=brought";
    let bundle = format!("controllers.webhook.certificate.caBundle={}", ca.display());
    let command = ["upgrade", RELEASE, &chart, "--namespace", NAMESPACE, "--reuse-values", "--set", mode];
    cluster.helm(&[&command[..], &["--set-file", &bundle, "--wait", "--timeout", "2m"]].concat()).await?;
    // Not at once: the mode is changed for all webhooks together, and they are replaced one by one.
    until("pods to be rewritten", LONGEST_START, async || rewritten(cluster).await.map(Some)).await?;
    // It is not the release's, whose uninstallation leaves nothing.
    cluster.kubectl(&["delete", "secret", "--namespace", NAMESPACE, "brought"]).await?;
    Ok(())
}

/// Every pod of ours is replaced, while both nodes pull and pods are made.
async fn an_upgrade_fails_no_pull_and_no_admission(cluster: &mut Cluster) -> Result<()> {
    install(cluster).await?;
    // The last test's certificate may be served a moment longer than it is trusted.
    until("pods to be rewritten", LONGEST_START, async || rewritten(cluster).await.map(Some)).await?;
    let before = pods_of_the_release(cluster).await?;
    let upgraded = AtomicBool::new(false);
    let upgrade = async {
        let chart = chart();
        let command = ["upgrade", RELEASE, &chart, "--namespace", NAMESPACE, "--reuse-values", "--wait", "--set"];
        let roles = ["proxy", "controllers", "controllers.webhook"];
        let annotations = roles.map(|role| format!("{role}.podAnnotations.rolled=once")).join(",");
        cluster.helm(&[&command[..], &[&annotations]].concat()).await?;
        let proxies = format!("daemonset/{RELEASE}-proxy");
        cluster.kubectl(&["rollout", "status", "--namespace", NAMESPACE, "--timeout", "2m", &proxies]).await?;
        upgraded.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let pulls = async |node: &Node| {
        let (repository, tag) = BUSYBOX.rsplit_once(':').context("no tag")?;
        let path = format!("/v2/{repository}/manifests/{tag}");
        let mut pulled = 0;
        while !upgraded.load(Ordering::Relaxed) {
            // A connection for each, which is what a proxy that goes away could lose.
            let answer = node.get(7439, IpVersion::V4, &path).await;
            let answer = answer.with_context(|| format!("{} after {pulled} pulls", node.name()))?;
            ensure!(answer.status == 200, "{} after {pulled} pulls: {}", node.name(), answer.status);
            pulled += 1;
        }
        anyhow::Ok(pulled)
    };
    let ((), admitted, a, b) =
        tokio::try_join!(upgrade, admissions(cluster, &upgraded), pulls(&cluster.a), pulls(&cluster.b))?;
    let after = pods_of_the_release(cluster).await?;
    let old = |pod: &&String| after.contains(pod) && !pod.contains("-registry-registry-");
    ensure!(!before.iter().any(|pod| old(&pod)), "not all pods were replaced: {before:?}, {after:?}");
    note!("{admitted} pods were rewritten and {a} and {b} manifests pulled while everything was replaced");
    Ok(())
}

async fn images_outlive_the_registrys_pod_on_a_volume(cluster: &mut Cluster) -> Result<()> {
    volume(cluster).await?;
    // Neither the claim nor what earlier tests said of an earlier registry.
    install_with(cluster, &["registry.persistence.enabled=true,registry.persistence.keep=false"]).await?;
    cluster.kubectl(&["delete", "cachedimages", "--all"]).await?;
    deploy(cluster, "keeper", cluster.a.name()).await?;
    cluster.objects().cached(BUSYBOX).await?;

    cluster.upstream.off().await?;
    cluster.kubectl(&["delete", "pod", "--namespace", NAMESPACE, "cache-registry-registry-0"]).await?;
    cluster.kubectl(&["rollout", "status", "--namespace", NAMESPACE, "statefulset/cache-registry-registry"]).await?;
    cluster.b.images.remove(&format!("localhost:7439/{BUSYBOX}")).await?;
    deploy(cluster, "reader", cluster.b.name()).await
}

async fn a_network_plugin_may_forward_the_proxys_port(cluster: &mut Cluster) -> Result<()> {
    install_with(cluster, &["proxy.hostNetwork=false"]).await?;
    cluster.helm(&["test", RELEASE, "--namespace", NAMESPACE]).await.context("helm test")?;
    deploy(cluster, "forwarded", cluster.b.name()).await
}

/// The proxies too, which name no port. That it is the proxies' metrics which are read of them, and the registry's, the
/// series tell.
async fn prometheus_finds_every_pod_by_the_pod_monitor(cluster: &mut Cluster) -> Result<()> {
    cluster.apply(&kind_of_pod_monitors().to_string()).await?;
    cluster.kubectl(&["wait", "--for=condition=Established", "crd/podmonitors.monitoring.coreos.com"]).await?;
    install_with(cluster, &["monitoring.podMonitor.enabled=true,registry.metrics.enabled=true"]).await?;
    let monitor = cluster.kubectl(&["get", "podmonitor", "--namespace", NAMESPACE, RELEASE, "-o", "json"]).await?;
    let (mut prometheus, discovery) = cluster.prometheus(&serde_json::from_str(&monitor)?)?;
    prometheus.part.start().await?;

    let pods: Api<Pod> = Api::namespaced(cluster.client(), NAMESPACE);
    until("every pod's metrics to be read", LONGEST_START, async || {
        let pods = pods.list(&ListParams::default()).await?.items;
        discovery.found(&pods)?;
        // Pods of earlier tests may still be ending.
        let running = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let mut expected: Vec<_> = running.filter_map(identity).collect();
        let up = prometheus.query(r#"up{job="cache-registry", namespace="cache-registry-system"} == 1"#).await?;
        let labels = |labels: &Value| json!([labels["pod"], labels["role"], labels["node"]]).to_string();
        let mut seen: Vec<_> = up.iter().map(|(series, _)| labels(series)).collect();
        expected.sort();
        seen.sort();
        ensure!(seen == expected, "{seen:#?} are read of {expected:#?}");
        Ok(Some(()))
    })
    .await?;
    for expression in [
        "count by (role) (cache_registry_proxy_requests_in_flight) == 2",
        // The certificate that the controllers have made, as the webhooks serve it: new, and of 90 days.
        "count by (role) (time() - cache_registry_webhook_certificate_not_before_timestamp_seconds < 86400) == 2",
        "count by (role) (cache_registry_webhook_certificate_not_after_timestamp_seconds - time() > 89 * 86400) == 2",
        r#"registry_http_requests_total{role="registry", container="reader"}"#,
    ] {
        until(format!("{expression} to have a value"), LONGEST_START, async || {
            // The registry counts the requests that it gets.
            cluster.a.get(7439, IpVersion::V4, "/v2/docker.io/library/absent/manifests/1").await?;
            Ok((!prometheus.query(expression).await?.is_empty()).then_some(()))
        })
        .await?;
    }
    prometheus.part.kill().await
}

/// The name, the role and the node of a pod that has a role.
fn identity(pod: &Pod) -> Option<String> {
    let role = pod.labels().get("app.kubernetes.io/component").filter(|role| *role != "test")?;
    Some(json!([pod.name_any(), role, pod.spec.as_ref()?.node_name]).to_string())
}

/// As much of the operator's `CustomResourceDefinition` as lets a `PodMonitor` be kept.
fn kind_of_pod_monitors() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": "podmonitors.monitoring.coreos.com" },
        "spec": {
            "group": "monitoring.coreos.com",
            "names": { "kind": "PodMonitor", "plural": "podmonitors", "singular": "podmonitor" },
            "scope": "Namespaced",
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
            }],
        },
    })
}

/// What `kubectl auth can-i --list` says beyond what every account may: in the release's namespace, and in another.
async fn accounts_may_do_what_the_table_says(cluster: &mut Cluster) -> Result<()> {
    let collecting =
        "registry.garbageCollectionSchedule=0 3 * * 0,registry.garbageCollection.allowWithoutPersistence=true";
    install_with(cluster, &[collecting]).await?;
    let anybody = rights(cluster, "default:default", "default").await?;
    let mut table = String::new();
    for role in ["webhook", "controllers", "gc", "proxy", "registry"] {
        for namespace in [NAMESPACE, "kube-system"] {
            let all = rights(cluster, &format!("{NAMESPACE}:{RELEASE}-{role}"), namespace).await?;
            for right in all.iter().filter(|right| !anybody.contains(right)) {
                writeln!(table, "{role} in {namespace}: {right}")?;
            }
        }
    }
    ensure!(table == RIGHTS, "the accounts may do this:\n{table}");
    Ok(())
}

/// Of accounts that may do nothing there is nothing to be said: proxy and registry.
const RIGHTS: &str = "\
webhook in cache-registry-system: configmaps [] [] [get list watch]
webhook in cache-registry-system: events.events.k8s.io [] [] [create patch]
controllers in cache-registry-system: cachedimages.cache-registry.enix.io [] [] [list watch create delete]
controllers in cache-registry-system: cachedimages.cache-registry.enix.io/status [] [] [patch]
controllers in cache-registry-system: cronjobs.batch [] [] [list watch]
controllers in cache-registry-system: daemonsets.apps [] [] [list watch]
controllers in cache-registry-system: deployments.apps [] [] [list watch]
controllers in cache-registry-system: events.events.k8s.io [] [] [create patch]
controllers in cache-registry-system: jobs.batch [] [] [list watch]
controllers in cache-registry-system: jobs.batch [] [cache-registry-registry-gc] [get delete]
controllers in cache-registry-system: leases.coordination.k8s.io [] [cache-registry-controllers] [get update patch]
controllers in cache-registry-system: leases.coordination.k8s.io [] [cache-registry-registry-gc] [get update patch]
controllers in cache-registry-system: mutatingwebhookconfigurations.admissionregistration.k8s.io [] [cache-registry] [get list watch patch]
controllers in cache-registry-system: nodes [] [] [list watch]
controllers in cache-registry-system: pods [] [] [list watch]
controllers in cache-registry-system: replicasets.apps [] [] [list watch]
controllers in cache-registry-system: secrets [] [] [get]
controllers in cache-registry-system: secrets [] [cache-registry-registry-credentials] [get list watch patch]
controllers in cache-registry-system: secrets [] [cache-registry-webhook-certificate] [get list watch patch]
controllers in cache-registry-system: statefulsets.apps [] [] [list watch]
controllers in cache-registry-system: statefulsets.apps [] [cache-registry-registry] [get patch]
controllers in kube-system: cachedimages.cache-registry.enix.io [] [] [list watch create delete]
controllers in kube-system: cachedimages.cache-registry.enix.io/status [] [] [patch]
controllers in kube-system: cronjobs.batch [] [] [list watch]
controllers in kube-system: daemonsets.apps [] [] [list watch]
controllers in kube-system: deployments.apps [] [] [list watch]
controllers in kube-system: jobs.batch [] [] [list watch]
controllers in kube-system: mutatingwebhookconfigurations.admissionregistration.k8s.io [] [cache-registry] [get list watch patch]
controllers in kube-system: nodes [] [] [list watch]
controllers in kube-system: pods [] [] [list watch]
controllers in kube-system: replicasets.apps [] [] [list watch]
controllers in kube-system: secrets [] [] [get]
controllers in kube-system: statefulsets.apps [] [] [list watch]
gc in cache-registry-system: events.events.k8s.io [] [] [create patch]
gc in cache-registry-system: jobs.batch [] [] [create]
gc in cache-registry-system: jobs.batch [] [cache-registry-registry-gc] [get patch delete]
gc in cache-registry-system: leases.coordination.k8s.io [] [cache-registry-registry-gc] [get update patch]
gc in cache-registry-system: pods [] [] [list]
gc in cache-registry-system: statefulsets.apps [] [cache-registry-registry] [get patch]
";

/// `resources [names] [verbs]`, sorted.
async fn rights(cluster: &Cluster, account: &str, namespace: &str) -> Result<Vec<String>> {
    let user = format!("--as=system:serviceaccount:{account}");
    let listed = cluster.kubectl(&["auth", "can-i", "--list", &user, "--namespace", namespace, "--no-headers"]).await?;
    let mut rights: Vec<String> =
        listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    rights.sort();
    Ok(rights)
}

/// The API server's own judgement: each pod is offered to a namespace that enforces the level.
async fn every_pod_but_the_proxys_is_restricted(cluster: &mut Cluster) -> Result<()> {
    install(cluster).await?;
    let enforce = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": "restricted", "labels": { "pod-security.kubernetes.io/enforce": "restricted" } },
    });
    cluster.apply(&enforce.to_string()).await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "restricted");
    for (kind, role) in
        [("deployment", "webhook"), ("deployment", "controllers"), ("statefulset", "registry"), ("daemonset", "proxy")]
    {
        let name = format!("{kind}/{RELEASE}-{role}");
        let object = cluster.kubectl(&["get", &name, "--namespace", NAMESPACE, "-o", "json"]).await?;
        let mut spec = serde_json::from_str::<Value>(&object)?["spec"]["template"]["spec"].take();
        // Accounts are of the other namespace.
        spec["serviceAccountName"] = "default".into();
        spec["serviceAccount"] = "default".into();
        let pod = serde_json::from_value(json!({ "metadata": { "name": role }, "spec": spec }))?;
        let by = PostParams { dry_run: true, ..PostParams::default() };
        match (role, pods.create(&by, &pod).await) {
            ("proxy", Err(error)) => {
                let words = error.to_string();
                let faults = words.split_once("restricted:latest").map_or(words.as_str(), |(_, faults)| faults);
                let only_its_port = faults.contains("hostNetwork=true") && !faults.contains("securityContext");
                ensure!(only_its_port, "the proxy needs more than its port: {words}");
            }
            ("proxy", Ok(_)) => bail!("the proxy has its node's network and is restricted all the same"),
            (_, created) => drop(created.with_context(|| role.to_owned())?),
        }
    }
    Ok(())
}

async fn nothing_is_left_of_a_release_but_what_cannot_be_had_again(cluster: &mut Cluster) -> Result<()> {
    install(cluster).await?;
    deploy(cluster, "stays", cluster.a.name()).await?;
    let running = pod_of(cluster, "stays").await?;

    cluster.helm(&["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait"]).await?;
    let mine = format!("app.kubernetes.io/instance={RELEASE}");
    let kinds = "all,configmaps,secrets,serviceaccounts,leases,endpointslices,networkpolicies,poddisruptionbudgets,persistentvolumeclaims,roles,rolebindings";
    until("nothing to be left in the namespaces", LONGEST_START, async || {
        let left = cluster.kubectl(&["get", kinds, "-A", "-l", &mine, "-o", "name"]).await?;
        Ok(left.trim().is_empty().then_some(()))
    })
    .await?;
    // Leases that somebody would have made anew have no label of the release.
    let leases = cluster.kubectl(&["get", "leases,secrets", "--namespace", NAMESPACE, "-o", "name"]).await?;
    ensure!(leases.trim().is_empty(), "left in the namespace: {leases}");
    let kinds = "clusterroles,clusterrolebindings,mutatingwebhookconfigurations,customresourcedefinitions";
    let left = cluster.kubectl(&["get", kinds, "-l", &mine, "-o", "name"]).await?;
    let definition = "customresourcedefinition.apiextensions.k8s.io/cachedimages.cache-registry.enix.io";
    ensure!(left.trim() == definition, "left of the release: {left}");

    let still = pod_of(cluster, "stays").await?;
    ensure!(still.uid() == running.uid(), "the pod was replaced");
    ensure!(cluster.kubectl(&["get", "cachedimages", "-o", "name"]).await?.contains("cachedimage"), "no CachedImage");
    // And a new release takes over what stayed.
    install(cluster).await
}

/// As `helm template` gives them: what no schema of the chart knows, the API server does.
async fn values_are_accepted_by_the_api_server(cluster: &mut Cluster) -> Result<()> {
    install(cluster).await?;
    for values in [
        "proxy.hostNetwork=false",
        "registry.persistence.enabled=true",
        "registry.replicas=2,registry.persistence.s3.bucket=b,registry.persistence.s3.region=eu-west-1",
        "networkPolicy.nodes={10.0.0.0/8}",
        "registry.podDisruptionBudget.enabled=true",
        "registry.persistence.enabled=true,registry.garbageCollectionSchedule=0 3 * * 0",
        "policies.pullSecrets={one,two}",
        "controllers.pullSecrets.enabled=false",
        "controllers.webhook.certificate.life=30d",
        "controllers.webhook.ignoredNamespaces={one,two}",
        "controllers.priorityClassName=system-cluster-critical",
    ] {
        let chart = chart();
        let command = ["upgrade", RELEASE, &chart, "--namespace", NAMESPACE, "--reuse-values", "--dry-run=server"];
        let words = [&command[..], &["--set", values]].concat();
        cluster.helm(&words).await.with_context(|| format!("helm upgrade --set {values}"))?;
    }
    Ok(())
}

async fn pod_of(cluster: &Cluster, name: &str) -> Result<Pod> {
    let pods = cluster.objects().pods().list(&ListParams::default().labels(&format!("app={name}"))).await?;
    pods.items.into_iter().next().with_context(|| format!("no pod of {name}"))
}

/// What an upgrade must not change: the objects' generations, and the pods.
async fn state(cluster: &Cluster) -> Result<String> {
    let mut state = String::new();
    for kind in ["deployments", "daemonsets", "statefulsets", "mutatingwebhookconfigurations"] {
        let objects = cluster.kubectl(&["get", kind, "--namespace", NAMESPACE, "-o", "json"]).await?;
        let objects: Value = serde_json::from_str(&objects)?;
        for object in objects["items"].as_array().into_iter().flatten() {
            writeln!(state, "{} {}", object["metadata"]["name"], object["metadata"]["generation"])?;
        }
    }
    Ok(state + &pods_of_the_release(cluster).await?.join("\n"))
}

/// The names of the pods, sorted, without those of `helm test` and those that end.
async fn pods_of_the_release(cluster: &Cluster) -> Result<Vec<String>> {
    let pods: Api<Pod> = Api::namespaced(cluster.client(), NAMESPACE);
    let pods = pods.list(&ListParams::default().labels("app.kubernetes.io/component!=test")).await?;
    let running = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let mut names: Vec<_> = running.map(ResourceExt::name_any).collect();
    names.sort();
    Ok(names)
}

/// The memory of each process that the image's binary runs as.
fn note_memory() {
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let command = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        let Some(role) = command.strip_prefix("/usr/bin/cache-registry\0").and_then(|rest| rest.split('\0').next())
        else {
            continue;
        };
        let status = fs::read_to_string(process.path().join("status")).unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("unknown").trim();
        note!("{role} has {resident} at rest");
    }
}
