//! Policies of `ConfigMap`s: what a person brings with kubectl is what the next pod follows, and what is wrong is told.

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cache_registry_api::labels::IMAGES_ANNOTATION;
use cache_registry_bed::{Bed, NAMESPACE, Options, POLICY_PULL_SECRET, PRIVATE_REGISTRY, image_of, page, pod, until};
use cache_registry_e2e::{
    PolicyMaps, TRIED_IMAGE, WebhookConnection, next_pod, note, outcome_of, review_of, run, tests,
};
use cache_registry_guests::{Answer, filter, filter_answering};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

fn main() -> Result<ExitCode> {
    run(
        Options::default(),
        tests![
            a_label_is_what_makes_a_policy_of_a_configmap,
            changed_settings_are_in_force_within_a_second,
            a_broken_version_leaves_the_old_rule_and_kubectl_describe_says_why,
            a_webhook_that_finds_a_broken_policy_starts_and_says_so,
            a_built_in_policy_is_switched_off_and_on,
            priority_decides_who_is_asked_first,
            two_replicas_come_to_the_same_set_and_tell_it_once,
            the_set_stays_while_the_api_server_is_gone,
            a_webhook_that_starts_without_the_api_server_waits_for_it,
            a_policy_that_traps_leaves_the_pod_as_it_is_and_is_told,
            a_policy_that_traps_is_passed_over_where_that_is_asked_for,
            a_policy_comes_from_a_private_registry_by_tag_and_by_digest,
            a_secret_that_may_not_be_read_is_told,
            nothing_breaks_where_no_events_may_be_written,
        ],
    )
}

const REWRITTEN: &str = "localhost:7439/docker.io/library/nginx:1.27";

async fn a_label_is_what_makes_a_policy_of_a_configmap(bed: &mut Bed) -> Result<()> {
    let policies = cleared(bed).await?;
    policies.create("mine", &ignoring("because I say so")).await?;
    assert_eq!(next_pod(bed, "unlabelled").await?, Ok(REWRITTEN.to_owned()));

    policies.label("mine").await?;
    let row = policies.in_force("mine").await?;
    assert_eq!((&row["name"], &row["priority"], &row["filters"]), (&json!("mine"), &json!(0), &json!(true)));
    assert_eq!(next_pod(bed, "labelled").await?, Err("because I say so".to_owned()));
    policies.described("mine", "PolicyLoaded").await?;

    policies.kubectl(&["label", "configmap", "mine", "cache-registry.enix.io/policy-"]).await?;
    policies.gone("mine").await?;
    assert_eq!(next_pod(bed, "unlabelled-again").await?, Ok(REWRITTEN.to_owned()));

    policies.label("mine").await?;
    policies.in_force("mine").await?;
    assert_eq!(next_pod(bed, "labelled-again").await?, Err("because I say so".to_owned()));
    policies.delete("mine").await?;
    policies.gone("mine").await?;
    assert_eq!(next_pod(bed, "deleted").await?, Ok(REWRITTEN.to_owned()));
    Ok(())
}

async fn changed_settings_are_in_force_within_a_second(bed: &mut Bed) -> Result<()> {
    let policies = cleared(bed).await?;
    policies.create("told", &telling_its_settings()).await?;
    policies.set("told", &json!({ "settings": "a: 0\n" })).await?;
    policies.label("told").await?;
    policies.in_force("told").await?;
    assert_eq!(next_pod(bed, "before").await?, Err(r#"{"a":0}"#.to_owned()));

    let mut webhook = WebhookConnection::open(bed).await?;
    let mut slowest = Duration::ZERO;
    for number in 1..=5 {
        policies.set("told", &json!({ "settings": format!("a: {number}\n") })).await?;
        let answered = Instant::now();
        let expected = Err(format!("{{\"a\":{number}}}"));
        until("the new settings to be in force", Duration::from_secs(1), async || {
            Ok((decided(&mut webhook).await? == expected).then_some(()))
        })
        .await?;
        slowest = slowest.max(answered.elapsed());
    }
    note!("changed settings were in force {} ms after the API server's answer at the latest", slowest.as_millis());
    Ok(())
}

async fn a_broken_version_leaves_the_old_rule_and_kubectl_describe_says_why(bed: &mut Bed) -> Result<()> {
    let policies = cleared(bed).await?;
    let good = ignoring("the rule that was right");
    policies.bring("mine", &good).await?;
    let core_module = b"\0asm\x01\0\0\0".to_vec();
    let broken = [
        ("not-wasm", "this is not WebAssembly", b"#!/bin/sh\n".to_vec()),
        ("core-module", "not yet a component", core_module),
        ("damaged", "cut off or damaged", good[..good.len() / 2].to_vec()),
        ("compression", "does not decompress", [&[0x1f, 0x8b], &good[..]].concat()),
    ];
    for (reason, words, bytes) in broken {
        policies.replace("mine", &bytes).await?;
        let row = policies.refused("mine", reason).await?;
        assert_eq!(row["state"], "in-force");
        assert_eq!(next_pod(bed, reason).await?, Err("the rule that was right".to_owned()));
        let described = policies.described("mine", words).await?;
        ensure!(described.contains("PolicyRefused") && described.contains("stays in force"), "{described}");
    }
    policies.set("mine", &json!({ "onError": "explode" })).await?;
    policies.described("mine", r#"it has to be "leave" or "pass""#).await?;
    policies.set("mine", &json!({ "onError": null })).await?;
    policies.replace("mine", &ignoring("the next rule")).await?;
    policies.in_force("mine").await?;
    assert_eq!(next_pod(bed, "mended").await?, Err("the next rule".to_owned()));
    Ok(())
}

async fn a_webhook_that_finds_a_broken_policy_starts_and_says_so(bed: &mut Bed) -> Result<()> {
    let policies = cleared(bed).await?;
    policies.bring("good", &ignoring("good")).await?;
    policies.create("wrong", b"no wasm").await?;
    policies.label("wrong").await?;
    policies.refused("wrong", "not-wasm").await?;
    bed.webhook.kill().await?;
    bed.webhook.start().await?;

    let rows = PolicyMaps::of(bed).shown(0).await?;
    let states: Vec<_> = rows.iter().map(|row| (row["name"].clone(), row["state"].clone())).collect();
    let expected =
        [("good", "in-force"), ("default-filter", "in-force"), ("default-rewrite", "in-force"), ("wrong", "refused")];
    assert_eq!(states, expected.map(|(name, state)| (json!(name), json!(state))));
    assert_eq!(next_pod(bed, "restarted").await?, Err("good".to_owned()));
    Ok(())
}

async fn a_built_in_policy_is_switched_off_and_on(bed: &mut Bed) -> Result<()> {
    let policies = cleared(bed).await?;
    policies.apply("no-filter", &json!({ "builtIn": "default-filter", "enabled": "false" })).await?;
    policies.becomes(0, "one policy", |rows| in_force(rows) == ["default-rewrite"]).await?;
    assert_eq!(next_pod(bed, "no-filter").await?, Err("no policy asks for it to be cached".to_owned()));
    // Another ConfigMap for the same has nothing to say.
    policies.apply("second", &json!({ "builtIn": "default-filter" })).await?;
    policies.refused("second", "clash").await?;
    policies.described("second", "the ConfigMap no-filter").await?;
    policies.delete("no-filter").await?;
    policies.in_force("second").await?;
    assert_eq!(next_pod(bed, "with-filter").await?, Ok(REWRITTEN.to_owned()));
    Ok(())
}

async fn priority_decides_who_is_asked_first(bed: &mut Bed) -> Result<()> {
    let policies = cleared(bed).await?;
    policies.bring("a", &ignoring("a")).await?;
    policies.bring("b", &ignoring("b")).await?;
    assert_eq!(next_pod(bed, "by-name").await?, Err("a".to_owned()));
    policies.set("b", &json!({ "priority": "-1" })).await?;
    policies.becomes(0, "b first", |rows| in_force(rows)[..2] == ["b", "a"]).await?;
    assert_eq!(next_pod(bed, "by-priority").await?, Err("b".to_owned()));
    policies.set("b", &json!({ "enabled": "false" })).await?;
    policies.becomes(0, "a alone", |rows| in_force(rows)[..2] == ["a", "default-filter"]).await?;
    assert_eq!(next_pod(bed, "switched-off").await?, Err("a".to_owned()));
    Ok(())
}

async fn two_replicas_come_to_the_same_set_and_tell_it_once(bed: &mut Bed) -> Result<()> {
    let policies = cleared(bed).await?;
    policies.bring("first", &ignoring("first")).await?;
    let mut other = bed.webhook_replica(1)?;
    other.start().await?;
    policies.create("second", &ignoring("second")).await?;
    policies.set("second", &json!({ "priority": "-5" })).await?;
    policies.label("second").await?;
    policies.replace("first", b"no wasm").await?;
    let mut sets = Vec::new();
    for replica in [0, 1] {
        let is_so = |rows: &[Value]| rows.len() == 4 && rows[1]["lastError"]["reason"] == "not-wasm";
        let rows = policies.becomes(replica, "both policies, and one refused", is_so).await?;
        sets.push(rows.iter().map(|row| (row["name"].clone(), row["digest"].clone())).collect::<Vec<_>>());
    }
    assert_eq!(sets[0], sets[1]);
    assert_eq!(sets[0][0].0, "second");

    policies.described("first", "PolicyRefused").await?;
    policies.described("second", "PolicyLoaded").await?;
    other.kill().await?;
    for (name, reason) in [("first", "PolicyRefused"), ("second", "PolicyLoaded")] {
        let told = events_of(bed, name).await?;
        let count = told.iter().filter(|event| event.reason.as_deref() == Some(reason)).count();
        assert_eq!(count, 1, "{reason} of {name} is told {count} times");
    }
    Ok(())
}

async fn the_set_stays_while_the_api_server_is_gone(bed: &mut Bed) -> Result<()> {
    cleared(bed).await?.bring("mine", &telling_its_settings()).await?;
    bed.control_plane.api_server.kill().await?;
    let mut webhook = WebhookConnection::open(bed).await?;
    let before = decided(&mut webhook).await?;
    assert_eq!(before, Err("policy mine ignores it".to_owned()));
    until("the watch to fail", Duration::from_secs(10), async || {
        Ok(bed.webhook.log().contains("the set stays what it is until the API server answers again").then_some(()))
    })
    .await?;
    assert_eq!(decided(&mut webhook).await?, before);
    assert_eq!(bed.webhook_admin(0, "/ready").await?.status, 200);

    bed.control_plane.start_api_server().await?;
    assert_eq!(decided(&mut webhook).await?, before);
    PolicyMaps::of(bed).set("mine", &json!({ "settings": "back" })).await?;
    let answered = Instant::now();
    until("the change to be in force", Duration::from_secs(15), async || {
        Ok((decided(&mut webhook).await? == Err("\"back\"".to_owned())).then_some(()))
    })
    .await?;
    note!("a change was in force {} ms after the API server came back", answered.elapsed().as_millis());
    Ok(())
}

async fn a_webhook_that_starts_without_the_api_server_waits_for_it(bed: &mut Bed) -> Result<()> {
    cleared(bed).await?.bring("mine", &ignoring("mine")).await?;
    bed.webhook.kill().await?;
    bed.control_plane.api_server.kill().await?;
    let (log, admin) = (bed.webhook.log_file(), bed.webhook_admin_address());
    let (webhook, plane) = (&mut bed.webhook, &mut bed.control_plane);
    let before = fs::read_to_string(&log)?.len();
    let coming_back = async {
        until("the webhook to miss it", Duration::from_secs(20), async || {
            let log = fs::read_to_string(&log)?;
            Ok(log[before..].contains("until the API server answers again").then_some(()))
        })
        .await?;
        let ready = page(admin, "/ready").await?;
        assert_eq!(ready.status, 503);
        assert_eq!(&*ready.body, b"waiting for the policies of ConfigMaps\n");
        plane.start_api_server().await
    };
    tokio::try_join!(webhook.start(), coming_back)?;
    assert_eq!(next_pod(bed, "ready-at-last").await?, Err("mine".to_owned()));
    Ok(())
}

async fn a_policy_that_traps_leaves_the_pod_as_it_is_and_is_told(bed: &mut Bed) -> Result<()> {
    let policies = cleared(bed).await?;
    policies.bring("trapping", &filter("unreachable")).await?;
    let said = policies.create_pod("trapped", TRIED_IMAGE).await?;
    ensure!(said.contains("Warning") && said.contains("policy trapping"), "{said:?}");
    let stored = bed.objects().pods().get("trapped").await?;
    assert_eq!(image_of(&stored, "trapped")?, TRIED_IMAGE);
    let described = policies.described("trapping", "PolicyFailed").await?;
    ensure!(described.contains("the image was left as it is"), "{described}");

    for _ in 0..10 {
        let warned = decided(&mut WebhookConnection::open(bed).await?).await?;
        ensure!(warned.is_err(), "{warned:?}");
    }
    let row = policies.in_force("trapping").await?;
    assert_eq!((&row["failing"], &row["lastFailure"]["namespace"]), (&json!(true), &json!("default")));
    ensure!(row["failuresInARow"].as_u64() >= Some(10), "{row}");
    let metrics = bed.webhook_admin(0, "/metrics").await?;
    let metrics = String::from_utf8(metrics.body.to_vec())?;
    ensure!(metrics.contains("cache_registry_policies{state=\"failing\"} 1"), "{metrics}");
    Ok(())
}

async fn a_policy_that_traps_is_passed_over_where_that_is_asked_for(bed: &mut Bed) -> Result<()> {
    let policies = cleared(bed).await?;
    policies.create("passing", &filter("unreachable")).await?;
    policies.set("passing", &json!({ "onError": "pass" })).await?;
    policies.label("passing").await?;
    assert_eq!(policies.in_force("passing").await?["onError"], "pass");
    let said = policies.create_pod("passed", TRIED_IMAGE).await?;
    ensure!(said.contains("policy passing"), "{said:?}");
    assert_eq!(image_of(&bed.objects().pods().get("passed").await?, "passed")?, REWRITTEN);
    policies.described("passing", "the next policy was asked").await?;
    Ok(())
}

async fn a_policy_comes_from_a_private_registry_by_tag_and_by_digest(bed: &mut Bed) -> Result<()> {
    cleared(bed).await?;
    let mut registry = bed.private_registry()?;
    registry.part.start().await?;
    let policies = PolicyMaps::of(bed);
    let arguments = registry.secret_arguments();
    let arguments: Vec<_> = ["create", "secret", "docker-registry", POLICY_PULL_SECRET]
        .into_iter()
        .chain(arguments.iter().map(String::as_str))
        .collect();
    policies.kubectl(&arguments).await?;
    let reference = format!("{PRIVATE_REGISTRY}/policies/mine:1");
    let config = registry.docker_config();
    let first = policies.push(&ignoring("first"), &reference, &config).await?;

    policies.apply("mine", &json!({ "image": reference })).await?;
    policies.refused("mine", "image-unauthorized").await?;
    policies.described("mine", "private.example").await?;
    policies.set("mine", &json!({ "pullSecret": POLICY_PULL_SECRET })).await?;
    let row = policies.in_force("mine").await?;
    assert_eq!((&row["image"]["reference"], &row["image"]["digest"]), (&json!(reference), &json!(first)));
    assert_eq!(next_pod(bed, "by-tag").await?, Err("first".to_owned()));

    // The tag moves.
    let second = policies.push(&ignoring("second"), &reference, &config).await?;
    policies.becomes(0, "the new digest", |rows| rows[0]["image"]["digest"] == second).await?;
    assert_eq!(next_pod(bed, "tag-moved").await?, Err("second".to_owned()));

    // The registry goes: what was pulled stays, and can be told something else.
    registry.part.kill().await?;
    policies.refused("mine", "image-unreachable").await?;
    assert_eq!(next_pod(bed, "registry-gone").await?, Err("second".to_owned()));
    policies.set("mine", &json!({ "priority": "-3" })).await?;
    policies.becomes(0, "the new priority", |rows| rows[0]["priority"] == -3).await?;

    // A start does not wait for it.
    bed.webhook.kill().await?;
    bed.webhook.start().await?;
    let policies = PolicyMaps::of(bed);
    policies.refused("mine", "image-unreachable").await?;
    assert_eq!(next_pod(bed, "started-without").await?, Ok(REWRITTEN.to_owned()));
    registry.part.start().await?;
    let by_digest = format!("{PRIVATE_REGISTRY}/policies/mine@{first}");
    policies.set("mine", &json!({ "image": by_digest })).await?;
    assert_eq!(policies.in_force("mine").await?["image"]["digest"], first);
    assert_eq!(next_pod(bed, "by-digest").await?, Err("first".to_owned()));
    registry.part.kill().await?;
    Ok(())
}

async fn a_secret_that_may_not_be_read_is_told(bed: &mut Bed) -> Result<()> {
    let policies = cleared(bed).await?;
    let data = json!({ "image": format!("{PRIVATE_REGISTRY}/policies/mine:1"), "pullSecret": "other" });
    policies.apply("mine", &data).await?;
    policies.refused("mine", "pull-secret").await?;
    policies.described("mine", "may not read Secret other").await?;
    Ok(())
}

async fn nothing_breaks_where_no_events_may_be_written(bed: &mut Bed) -> Result<()> {
    let policies = cleared(bed).await?;
    let role = ["patch", "role", "cache-registry-webhook", "--type=json", "--patch"];
    let with = |patch: &'static str| role.into_iter().chain([patch]).collect::<Vec<_>>();
    policies.kubectl(&with(r#"[{"op":"replace","path":"/rules/1/verbs","value":["list"]}]"#)).await?;
    let outcome = async {
        policies.bring("mine", &ignoring("quietly")).await?;
        policies.replace("mine", b"no wasm").await?;
        policies.refused("mine", "not-wasm").await?;
        assert_eq!(next_pod(bed, "no-events").await?, Err("quietly".to_owned()));
        until("the log to say so", Duration::from_secs(10), async || {
            Ok(bed.webhook.log().contains("no Events: this ServiceAccount may not create them").then_some(()))
        })
        .await
    };
    let outcome = outcome.await;
    policies.kubectl(&with(r#"[{"op":"replace","path":"/rules/1/verbs","value":["create","patch"]}]"#)).await?;
    outcome
}

/// The policies of a bed on which no earlier test has left any.
async fn cleared(bed: &Bed) -> Result<PolicyMaps<'_>> {
    let policies = PolicyMaps::of(bed);
    policies.clear().await?;
    Ok(policies)
}

fn in_force(rows: &[Value]) -> Vec<&str> {
    rows.iter().filter(|row| row["state"] == "in-force").filter_map(|row| row["name"].as_str()).collect()
}

/// A filter that leaves every image alone.
fn ignoring(reason: &str) -> Vec<u8> {
    filter_answering(&Answer::Ignore(reason))
}

/// A filter that leaves every image alone, and gives its settings as the reason.
fn telling_its_settings() -> Vec<u8> {
    filter(
        "(call $settings (i32.const 128))
         (i32.store (i32.const 64) (i32.const 2))
         (i32.store (i32.const 68) (i32.load (i32.const 128)))
         (i32.store (i32.const 72) (i32.load (i32.const 132)))",
    )
}

/// What the webhook answers when it is asked without the API server.
async fn decided(webhook: &mut WebhookConnection) -> Result<Result<String, String>> {
    let review = review_of(&pod("reviewed", &json!([{ "name": "main", "image": TRIED_IMAGE }])));
    let (status, answer) = webhook.review(&review).await?;
    ensure!(status == 200, "{status}: {answer}");
    let patch = answer["response"]["patch"].as_str().context("no patch")?;
    let patch: k8s_openapi::ByteString = serde_json::from_value(json!(patch))?;
    let patch: Vec<Value> = serde_json::from_slice(&patch.0)?;
    let annotations = patch.iter().find(|operation| operation["path"] == "/metadata/annotations");
    let annotation = annotations.and_then(|operation| operation["value"][IMAGES_ANNOTATION].as_str());
    outcome_of(annotation.context("no annotation")?, REWRITTEN)
}

/// The Events about a `ConfigMap` that is there now.
async fn events_of(bed: &Bed, name: &str) -> Result<Vec<Event>> {
    let client = bed.control_plane.client();
    let configmaps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let uid = configmaps.get(name).await?.uid();
    let events: Api<Event> = Api::namespaced(client, NAMESPACE);
    let all = events.list(&ListParams::default()).await?.items;
    Ok(all.into_iter().filter(|event| event.regarding.as_ref().is_some_and(|of| of.uid == uid)).collect())
}
