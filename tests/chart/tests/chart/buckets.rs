//! Images in a bucket, and what several replicas take.

use cache_registry_chart::{Release, at, render};
use rstest::rstest;
use serde_json::{Value, json};

use crate::matrix::{AZURE, GCS, S3};

/// What both processes of the registry are told about storage.
fn storage(release: &Release) -> [Value; 2] {
    let files = &release.object("ConfigMap", "cache-registry-registry")["data"];
    ["config.yml", "reader.yml"].map(|name| {
        let configuration: Value = serde_saphyr::from_str(files[name].as_str().unwrap()).unwrap();
        configuration["storage"].clone()
    })
}

/// The environment of the first process, by name.
fn environment(release: &Release, name: &str) -> Option<Value> {
    let containers = release.pod("registry").containers().to_vec();
    let [first, second] = containers.as_slice() else { panic!("not two containers") };
    assert_eq!(first["env"], second["env"]);
    first["env"].as_array().unwrap().iter().find(|variable| variable["name"] == name).cloned()
}

fn of_secret(secret: &str, key: &str) -> Value {
    json!({ "secretKeyRef": { "name": secret, "key": key } })
}

#[rstest]
#[case(S3, json!({ "s3": {
    "bucket": "images", "region": "us-east-1", "regionendpoint": "https://s3.example", "forcepathstyle": true,
    "chunksize": 33_554_432,
} }))]
#[case(GCS, json!({ "gcs": {
    "bucket": "images", "rootdirectory": "cache", "keyfile": "/etc/cache-registry-storage/credentials.json",
} }))]
#[case(AZURE, json!({ "azure": {
    "container": "images", "accountname": "account", "credentials": { "type": "default_credentials" },
} }))]
fn both_processes_are_told_the_bucket_and_redirect_nobody_to_it(#[case] values: &str, #[case] driver: Value) {
    let release = render(values).unwrap();
    for (storage, is_reader) in storage(&release).into_iter().zip([false, true]) {
        let (name, settings) = driver.as_object().unwrap().iter().next().unwrap();
        assert_eq!(&storage[name], settings);
        assert_eq!(at(&storage, "redirect.disable"), true);
        assert!(storage["filesystem"].is_null());
        assert_eq!(at(&storage, "delete.enabled"), !is_reader);
        assert_eq!(*at(&storage, "maintenance.readonly.enabled") == true, is_reader);
    }
    let volumes = release.pod("registry").spec["volumes"].as_array().unwrap().clone();
    assert!(volumes.iter().all(|volume| volume["name"] != "images"), "{volumes:?}");
    assert_eq!(release.of_kind("PersistentVolumeClaim").count(), 0);
}

/// No credential is in an object that the chart makes.
#[test]
fn credentials_are_in_a_secret_of_ones_own() {
    let s3 = render(S3).unwrap();
    for (variable, key) in [("AWS_ACCESS_KEY_ID", "accessKey"), ("AWS_SECRET_ACCESS_KEY", "secretKey")] {
        assert_eq!(environment(&s3, variable).unwrap()["valueFrom"], of_secret("bucket", key));
    }
    let gcs = render(GCS).unwrap().pod("registry").spec["volumes"][1].clone();
    assert_eq!((&gcs["name"], at(&gcs, "secret.secretName")), (&json!("storage-credentials"), &json!("bucket")));
    let azure = "registry: { persistence: { azure: { container: images }, azureExistingSecret: bucket } }";
    let azure = render(azure).unwrap();
    for (variable, key) in
        [("REGISTRY_STORAGE_AZURE_ACCOUNTKEY", "accountkey"), ("REGISTRY_STORAGE_AZURE_ACCOUNTNAME", "accountname")]
    {
        assert_eq!(environment(&azure, variable).unwrap()["valueFrom"], of_secret("bucket", key));
    }
    assert_eq!(at(&storage(&azure)[0], "azure.credentials.type"), "shared_key");
}

#[test]
fn or_the_cloud_gives_the_pod_an_identity() {
    let release = render(AZURE).unwrap();
    let account = release.object("ServiceAccount", "cache-registry-registry");
    assert_eq!(account["metadata"]["annotations"], json!({ "azure.workload.identity/client-id": "0-1" }));
    // What the cloud's webhook goes by; it mounts a token of its own.
    let pod = release.pod("registry");
    assert_eq!(pod.metadata["labels"]["azure.workload.identity/use"], "true");
    assert_eq!(pod.spec["automountServiceAccountToken"], false);
    let plain = render("registry: { persistence: { s3: { bucket: b, region: eu-west-1 } } }").unwrap();
    assert_eq!(environment(&plain, "AWS_ACCESS_KEY_ID"), None);
}

#[test]
fn a_ca_of_ones_own_takes_the_place_of_all_others() {
    let release = render(S3).unwrap();
    assert_eq!(environment(&release, "SSL_CERT_FILE").unwrap()["value"], "/etc/cache-registry-storage-ca/ca.crt");
    let ca = &release.pod("registry").spec["volumes"][1];
    assert_eq!((&ca["name"], at(ca, "secret.secretName")), (&json!("storage-ca"), &json!("corporate-ca")));
}

#[rstest]
#[case(S3, Some(json!({ "valueFrom": of_secret("cache-registry-registry-credentials", "uploads") })))]
#[case(AZURE, Some(json!({ "value": "everybody-may-write" })))]
#[case(GCS, None)]
fn several_replicas_take_up_each_others_uploads(#[case] values: &str, #[case] secret: Option<Value>) {
    let found = environment(&render(values).unwrap(), "REGISTRY_HTTP_SECRET").map(|mut variable| {
        variable.as_object_mut().unwrap().remove("name");
        variable
    });
    assert_eq!(found, secret);
}

#[test]
fn several_replicas_run_apart_and_are_not_evicted_at_once() {
    let release = render(S3).unwrap();
    assert_eq!(at(release.object("StatefulSet", "cache-registry-registry"), "spec.replicas"), 2);
    let affinity = at(release.pod("registry").spec, "affinity.podAntiAffinity");
    assert!(affinity["preferredDuringSchedulingIgnoredDuringExecution"][0].is_object(), "{affinity}");
    let budget = release.object("PodDisruptionBudget", "cache-registry-registry");
    assert_eq!(at(budget, "spec.maxUnavailable"), 1);

    let one = render("").unwrap();
    assert_eq!(at(one.object("StatefulSet", "cache-registry-registry"), "spec.replicas"), 1);
    assert!(one.pod("registry").spec["affinity"].is_null());
    assert!(one.of_kind("PodDisruptionBudget").all(|budget| budget["metadata"]["name"] != "cache-registry-registry"));
}
