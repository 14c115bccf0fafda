use cache_registry_chart::{Release, at, render, workspace};
use rstest::rstest;
use serde_json::{Value, json};

fn volume(release: &Release) -> Value {
    let volumes = release.pod("registry").spec["volumes"].as_array().unwrap().clone();
    volumes.into_iter().find(|volume| volume["name"] == "images").unwrap()
}

#[test]
fn images_are_on_the_nodes_disk_unless_a_volume_is_asked_for() {
    let release = render("").unwrap();
    assert_eq!(volume(&release)["emptyDir"], json!({}));
    assert_eq!(release.of_kind("PersistentVolumeClaim").count(), 0);
}

#[rstest]
#[case("persistence")]
#[case("persistance")]
fn a_volume_is_asked_for_in_either_spelling(#[case] key: &str) {
    let values = format!("registry: {{ {key}: {{ enabled: true, size: 50Gi, storageClass: fast }} }}");
    let release = render(&values).unwrap();
    assert_eq!(volume(&release)["persistentVolumeClaim"], json!({ "claimName": "cache-registry-registry" }));
    let claim = release.object("PersistentVolumeClaim", "cache-registry-registry");
    assert_eq!(at(claim, "spec.resources.requests.storage"), "50Gi");
    assert_eq!(at(claim, "spec.storageClassName"), "fast");
    assert_eq!(at(claim, "spec.accessModes"), &json!(["ReadWriteOnce"]));
}

#[test]
fn a_claim_may_exist() {
    let release = render("registry: { persistence: { enabled: true, existingClaim: images } }").unwrap();
    assert_eq!(volume(&release)["persistentVolumeClaim"], json!({ "claimName": "images" }));
    assert_eq!(release.of_kind("PersistentVolumeClaim").count(), 0);
}

#[rstest]
#[case("true", json!("keep"))]
#[case("false", Value::Null)]
fn a_claim_stays_when_the_release_goes(#[case] keep: &str, #[case] policy: Value) {
    let release = render(&format!("registry: {{ persistence: {{ enabled: true, keep: {keep} }} }}")).unwrap();
    let claim = release.object("PersistentVolumeClaim", "cache-registry-registry");
    assert_eq!(claim["metadata"]["annotations"]["helm.sh/resource-policy"], policy);
}

/// helm deletes what a release has no more, unless it is told to keep it.
#[test]
fn cached_images_outlive_the_release() {
    let release = render("").unwrap();
    let crd = release.object("CustomResourceDefinition", "cachedimages.cache-registry.enix.io");
    assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    assert_eq!(at(crd, "spec.scope"), "Cluster");
    assert_eq!(render("crds: { install: false }").unwrap().of_kind("CustomResourceDefinition").count(), 0);
}

#[test]
fn the_registry_is_configured_as_the_tests_have_it() {
    let release = render("").unwrap();
    let containers = release.pod("registry").containers();
    let files = release.object("ConfigMap", "cache-registry-registry")["data"].as_object().unwrap();
    assert_eq!((containers.len(), files.len()), (2, 2));
    for (container, name) in containers.iter().zip(["config.yml", "reader.yml"]) {
        let configuration: Value = serde_saphyr::from_str(files[name].as_str().unwrap()).unwrap();
        assert_eq!(at(&configuration, "validation.manifests.indexes.platforms"), "none");
        // After a garbage collection it would promise blobs that are gone.
        assert!(at(&configuration, "storage.cache").is_null());
        let is_reader = name == "reader.yml";
        assert_eq!(at(&configuration, "storage.delete.enabled"), !is_reader);
        assert!(at(&configuration, "storage.redirect").is_null());
        let mounts = container["volumeMounts"].as_array().unwrap();
        let images = mounts.iter().find(|mount| mount["name"] == "images").unwrap();
        assert_eq!(images["mountPath"], *at(&configuration, "storage.filesystem.rootdirectory"));
        assert_eq!(images["readOnly"] == true, is_reader);
        assert_eq!(container["args"], json!(["serve", format!("/etc/cache-registry/{name}")]));
    }
}

#[test]
fn the_registry_is_the_version_that_is_tested() {
    let release = render("").unwrap();
    let image = release.pod("registry").container()["image"].as_str().unwrap().to_owned();
    let tag = image.rsplit(':').next().unwrap();
    let pins = std::fs::read_to_string(workspace().join("tests/tools/go.mod")).unwrap();
    assert!(pins.contains(&format!("github.com/distribution/distribution/v3 v{tag} ")), "{image}");
}

/// Its images are gone with the pod when it has no volume.
#[test]
fn a_new_version_of_the_chart_alone_leaves_the_registry_running() {
    let release = render("").unwrap();
    let labels = release.pod("registry").metadata["labels"].as_object().unwrap();
    let keys: Vec<_> = labels.keys().map(String::as_str).collect();
    assert_eq!(keys, ["app.kubernetes.io/component", "app.kubernetes.io/instance", "app.kubernetes.io/name"]);
}
