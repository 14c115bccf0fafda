use cache_registry_chart::{Release, at, render};
use serde_json::{Value, json};

fn webhook(release: &Release) -> &Value {
    &release.object("MutatingWebhookConfiguration", "cache-registry")["webhooks"][0]
}

#[test]
fn an_error_or_a_delay_of_ours_keeps_no_pod_from_starting() {
    let release = render("").unwrap();
    let webhook = webhook(&release);
    assert_eq!(webhook["failurePolicy"], "Ignore");
    assert_eq!(webhook["timeoutSeconds"], 5);
    assert_eq!(webhook["reinvocationPolicy"], "IfNeeded");
    assert_eq!(webhook["sideEffects"], "None");
    assert_eq!(at(webhook, "clientConfig.service.path"), "/mutate/pods");
}

#[test]
fn reviews_are_asked_for_what_can_have_images() {
    let release = render("").unwrap();
    let rules = webhook(&release)["rules"].as_array().unwrap().iter();
    let rules: Vec<_> = rules.map(|rule| (rule["operations"].clone(), rule["resources"].clone())).collect();
    let expected =
        [(json!(["CREATE", "UPDATE"]), json!(["pods"])), (json!(["UPDATE"]), json!(["pods/ephemeralcontainers"]))];
    assert_eq!(rules, expected);
}

#[test]
fn pods_and_namespaces_can_be_left_alone() {
    let values = "
controllers:
  webhook:
    ignoredNamespaces: [monitoring, kube-system]
    objectSelector: { matchExpressions: [{ key: cache, operator: In, values: ['yes'] }] }
";
    let release = render(values).unwrap();
    let webhook = webhook(&release);
    let labels = json!([
        { "key": "cache-registry.enix.io/image-caching-policy", "operator": "NotIn", "values": ["ignore"] },
        { "key": "cache", "operator": "In", "values": ["yes"] },
    ]);
    assert_eq!(at(webhook, "objectSelector.matchExpressions"), &labels);
    let namespaces = &at(webhook, "namespaceSelector.matchExpressions")[0];
    assert_eq!(namespaces["key"], "kubernetes.io/metadata.name");
    assert_eq!(namespaces["operator"], "NotIn");
    assert_eq!(namespaces["values"], json!(["kube-system", "cache-registry-system", "monitoring"]));
}

#[test]
fn webhook_and_controllers_survive_a_node() {
    let release = render("").unwrap();
    for role in ["webhook", "controllers"] {
        let name = format!("cache-registry-{role}");
        assert_eq!(at(release.object("Deployment", &name), "spec.replicas"), 2, "{role}");
        assert_eq!(at(release.object("PodDisruptionBudget", &name), "spec.maxUnavailable"), 1, "{role}");
        let apart = at(release.pod(role).spec, "affinity.podAntiAffinity");
        let term = &apart["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"];
        assert_eq!(term["topologyKey"], "kubernetes.io/hostname", "{role}");
        assert_eq!(term["labelSelector"]["matchLabels"]["app.kubernetes.io/component"], role);
    }
    assert_eq!(
        at(release.object("Deployment", "cache-registry-webhook"), "spec.strategy.rollingUpdate.maxUnavailable"),
        0
    );
}

#[test]
fn an_affinity_of_ones_own_takes_the_place_of_ours() {
    let release = render("controllers: { affinity: { nodeAffinity: { a: b } } }").unwrap();
    assert_eq!(release.pod("controllers").spec["affinity"], json!({ "nodeAffinity": { "a": "b" } }));
}

#[test]
fn the_proxy_is_on_every_node_before_what_needs_it() {
    let release = render("").unwrap();
    let proxy = release.pod("proxy");
    assert_eq!(proxy.spec["priorityClassName"], "system-node-critical");
    assert_eq!(proxy.spec["tolerations"], json!([{ "operator": "Exists" }]));
}

/// In the node's network, with the node's own resolver, and the registry by an address.
#[test]
fn the_proxy_needs_no_name_service_of_the_cluster() {
    let release = render("").unwrap();
    let proxy = release.pod("proxy");
    assert_eq!(proxy.spec["dnsPolicy"], "Default");
    assert_eq!(proxy.argument("--cache"), Some("http://$(CACHE_REGISTRY_REGISTRY_SERVICE_HOST):5001"));
    release.object("Service", "cache-registry-registry");
}

/// In the node's network both listen (`SO_REUSEPORT`), and no port is named that the scheduler would keep for one pod.
#[test]
fn the_next_proxy_of_a_node_starts_before_the_last_one_ends() {
    let release = render("").unwrap();
    let strategy = at(release.object("DaemonSet", "cache-registry-proxy"), "spec.updateStrategy.rollingUpdate");
    assert_eq!(strategy, &json!({ "maxSurge": "10%", "maxUnavailable": 0 }));
    let proxy = release.pod("proxy");
    assert!(proxy.arguments().contains(&"--share-ports"));
    assert_eq!(proxy.container().get("ports"), None);
}

#[test]
fn a_port_that_the_network_plugin_forwards_is_one_pods() {
    let release = render("proxy: { hostNetwork: false }").unwrap();
    let strategy = at(release.object("DaemonSet", "cache-registry-proxy"), "spec.updateStrategy.rollingUpdate");
    assert_eq!(strategy, &json!({ "maxUnavailable": "10%" }));
    assert!(!release.pod("proxy").arguments().contains(&"--share-ports"));
}

#[test]
fn pulls_in_flight_have_the_time_that_the_proxy_gives_them() {
    let release = render("").unwrap();
    // cache_registry_proxy::GRACE is 30 s.
    assert!(release.pod("proxy").spec["terminationGracePeriodSeconds"].as_u64().unwrap() > 30);
}

#[test]
fn helm_test_has_the_node_pull_through_its_proxy() {
    for (values, image) in [
        ("", "localhost:7439/ghcr.io/enix/cache-registry:0.1.0"),
        ("image: { repository: reg.example:5000/a/b, tag: x }", "localhost:7439/reg.example_5000/a/b:x"),
        ("image: { repository: enix/cache, tag: x }", "localhost:7439/docker.io/enix/cache:x"),
        ("image: { repository: cache, tag: x }", "localhost:7439/docker.io/library/cache:x"),
        ("{ proxy: { hostPort: 5001 }, image: { tag: '2' } }", "localhost:5001/ghcr.io/enix/cache-registry:2"),
    ] {
        let release = render(values).unwrap();
        let pod = release.pod("test");
        assert_eq!(pod.metadata["annotations"]["helm.sh/hook"], "test");
        assert_eq!(pod.container()["image"], image);
        assert_eq!(pod.container()["imagePullPolicy"], "Always");
    }
}

#[test]
fn environment_and_labels_reach_the_pods() {
    let values = "
commonLabels: { team: platform }
imagePullSecrets: [{ name: ours }]
proxy: { env: [{ name: HTTPS, value: x }], podLabels: { a: b }, podAnnotations: { c: d } }
";
    let release = render(values).unwrap();
    let pod = release.pod("proxy");
    assert_eq!(pod.metadata["labels"]["a"], "b");
    assert_eq!(pod.metadata["labels"]["team"], "platform");
    assert_eq!(pod.metadata["annotations"]["c"], "d");
    assert!(pod.container()["env"].as_array().unwrap().contains(&json!({ "name": "HTTPS", "value": "x" })));
    for pod in release.pods() {
        assert_eq!(pod.spec["imagePullSecrets"], json!([{ "name": "ours" }]), "{}", pod.role);
    }
}
