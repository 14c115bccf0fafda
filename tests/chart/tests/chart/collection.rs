//! The garbage collection: a `CronJob`, and the Job that its runs create.

use cache_registry_chart::{at, render};
use serde_json::{Value, json};

use crate::matrix::{COLLECTING, GCS, S3};

fn volume(spec: &Value, name: &str) -> Value {
    let volumes = spec["volumes"].as_array().unwrap();
    volumes.iter().find(|volume| volume["name"] == name).unwrap().clone()
}

fn container<'a>(pods: &'a [Value], name: &str) -> &'a Value {
    pods.iter().find(|container| container["name"] == name).unwrap()
}

#[test]
fn nothing_is_collected_unless_a_schedule_is_given() {
    let release = render("registry: { persistence: { enabled: true } }").unwrap();
    assert_eq!(release.of_kind("CronJob").count(), 0);
    // A run may have been cut when the schedule was taken out.
    release.object("Lease", "cache-registry-registry-gc");
    assert_eq!(release.pod("controllers").argument("--registry-stateful-set"), Some("cache-registry-registry"));
}

#[test]
fn a_run_is_alone_and_bounded() {
    let release = render(COLLECTING).unwrap();
    let spec = &release.object("CronJob", "cache-registry-gc")["spec"];
    assert_eq!((&spec["schedule"], &spec["concurrencyPolicy"]), (&json!("0 3 * * 0"), &json!("Forbid")));
    assert_eq!(spec["suspend"], false);
    let job = at(spec, "jobTemplate.spec");
    assert_eq!(job["backoffLimit"], 0);
    // Longer than the Job that it waits for.
    assert_eq!(job["activeDeadlineSeconds"], 600 + 600);
    assert_eq!(release.pod("gc").argument("--deadline"), Some("600s"));
    assert_eq!(release.pod("gc").argument("--registry-stateful-set"), Some("cache-registry-registry"));
}

#[test]
fn the_job_is_where_the_run_looks_for_it() {
    let release = render(COLLECTING).unwrap();
    let gc = release.pod("gc");
    let map = release.object("ConfigMap", at(&volume(gc.spec, "collection"), "configMap.name").as_str().unwrap());
    let (folder, file) = gc.argument("--job").unwrap().rsplit_once('/').unwrap();
    assert_eq!(gc.container()["volumeMounts"][0]["mountPath"], folder);
    assert!(map["data"][file].is_string());
}

#[test]
fn the_job_has_the_registrys_volume_image_and_rights() {
    for values in [COLLECTING, WITHOUT_PERSISTENCE] {
        let release = render(values).unwrap();
        let (registry, collection) = (release.pod("registry"), release.pod("collection"));
        for name in ["images", "configuration"] {
            assert_eq!(volume(collection.spec, name), volume(registry.spec, name));
        }
        let collect = container(collection.init_containers(), "collect");
        assert_eq!(collect["image"], registry.container()["image"]);
        assert_eq!(collect["args"], json!(["garbage-collect", "/etc/cache-registry/config.yml"]));
        for key in ["serviceAccountName", "securityContext"] {
            assert_eq!(collection.spec[key], registry.spec[key], "{key}");
        }
        assert_eq!(collection.spec["automountServiceAccountToken"], false);
    }
}

const WITHOUT_PERSISTENCE: &str = "
registry: { garbageCollectionSchedule: 0 3 * * 0, garbageCollection: { allowWithoutPersistence: true } }
";

/// In this order: what is removed afterwards is what the first counts.
#[test]
fn the_volume_is_measured_before_and_after() {
    let release = render(COLLECTING).unwrap();
    let pod = release.pod("collection");
    let names: Vec<_> = pod.init_containers().iter().chain(pod.containers()).map(|any| &any["name"]).collect();
    assert_eq!(names, ["before", "untagged", "collect", "after"]);
    for measures in [container(pod.init_containers(), "before"), pod.container()] {
        assert_eq!(measures["args"][1], "measure");
        // Where Kubernetes reads the message of a container.
        assert_eq!(measures["args"][3], "/dev/termination-log");
        assert_eq!(measures["volumeMounts"][0]["readOnly"], true);
    }
}

#[test]
fn manifests_without_a_tag_can_be_kept() {
    let values = COLLECTING.replace("deadlineSeconds: 600", "deleteUntagged: false");
    let release = render(&values).unwrap();
    let names: Vec<_> = release.pod("collection").init_containers().iter().map(|any| any["name"].clone()).collect();
    assert_eq!(names, ["before", "untagged", "collect"]);
    // Distribution fails on a volume that it has not written to yet.
    assert_eq!(container(release.pod("collection").init_containers(), "untagged")["args"][1], "prepare");
}

/// There is nothing to mount, and nothing that is not distribution's could look into it.
#[test]
fn of_a_bucket_distribution_does_all_and_its_log_tells_how_much() {
    let release = render(S3).unwrap();
    let (registry, collection) = (release.pod("registry"), release.pod("collection"));
    assert!(collection.init_containers().is_empty());
    let collect = collection.container();
    assert_eq!(collect["name"], "collect");
    for key in ["image", "env"] {
        assert_eq!(collect[key], registry.container()[key], "{key}");
    }
    assert_eq!(collection.spec["volumes"][1], registry.spec["volumes"][1]);
    let logs = json!({ "apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"] });
    let reads_logs = |values: &str| {
        let rules = render(values).unwrap().object("Role", "cache-registry-gc")["rules"].clone();
        rules.as_array().unwrap().contains(&logs)
    };
    assert!(reads_logs(S3) && !reads_logs(COLLECTING));
}

/// On a volume the Job finds them, in a bucket the controllers do.
#[test]
fn manifests_without_a_tag_are_removed_from_a_bucket_by_the_controllers() {
    let after = |values: &str| {
        let release = render(values).unwrap();
        release.pod("controllers").argument("--remove-untagged-after").map(str::to_owned)
    };
    assert_eq!(after(S3).as_deref(), Some("24h"));
    for values in [COLLECTING, GCS, ""] {
        assert_eq!(after(values), None);
    }
}
