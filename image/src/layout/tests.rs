use std::io::Read as _;

use flate2::read::GzDecoder;

use super::*;
use crate::contents;

fn about() -> About {
    About {
        name: "ghcr.io/enix/cache-registry".to_owned(),
        version: "1.2.3".to_owned(),
        revision: "0123abc".to_owned(),
        source: "https://example.org/cache-registry".to_owned(),
        licenses: "Apache-2.0".to_owned(),
        created: Timestamp::from_second(1_700_000_000).unwrap(),
        architecture: "amd64",
    }
}

fn image() -> Layout {
    Layout::of(&about(), &[contents::base(), contents::program(b"binary".to_vec())]).unwrap()
}

/// A JSON blob that a descriptor names, its digest and size checked.
fn blob<'a>(layout: &'a Layout, descriptor: &Value) -> &'a [u8] {
    let digest = descriptor["digest"].as_str().unwrap();
    let bytes = &layout.files[&format!("blobs/{}", digest.replace(':', "/"))];
    assert_eq!(Hasher::sha256(bytes).to_string(), digest);
    assert_eq!(descriptor["size"], bytes.len());
    bytes
}

fn document(layout: &Layout, descriptor: &Value) -> Value {
    serde_json::from_slice(blob(layout, descriptor)).unwrap()
}

fn manifest(layout: &Layout) -> Value {
    let index: Value = serde_json::from_slice(&layout.files["index.json"]).unwrap();
    document(layout, &index["manifests"][0])
}

/// What is in all the layers: path, mode, time, owner.
fn entries(layout: &Layout) -> Vec<(String, u32, u64, u64)> {
    let manifest = manifest(layout);
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers
        .flat_map(|layer| {
            let mut archive = tar::Archive::new(GzDecoder::new(blob(layout, layer)));
            let entries = archive.entries().unwrap().map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                let path = entry.path().unwrap().display().to_string();
                (path, header.mode().unwrap(), header.mtime().unwrap(), header.uid().unwrap())
            });
            entries.collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn every_descriptor_leads_to_its_bytes() {
    let layout = image();
    let manifest = manifest(&layout);
    let config = document(&layout, &manifest["config"]);
    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    for (layer, diff_id) in layers.iter().zip(config["rootfs"]["diff_ids"].as_array().unwrap()) {
        let mut tar = Vec::new();
        GzDecoder::new(blob(&layout, layer)).read_to_end(&mut tar).unwrap();
        assert_eq!(Hasher::sha256(&tar).to_string(), diff_id.as_str().unwrap());
    }
    assert_eq!(layout.files.len(), ["index.json", "oci-layout", "manifest", "config", "base", "program"].len());
}

#[test]
fn the_program_runs_as_a_user_without_rights() {
    let layout = image();
    let config = document(&layout, &manifest(&layout)["config"]);
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Entrypoint"], json!(["/usr/bin/cache-registry"]));
    assert_eq!((&config["os"], &config["architecture"]), (&json!("linux"), &json!("amd64")));
}

#[test]
fn labels_say_where_it_comes_from() {
    let layout = image();
    let manifest = manifest(&layout);
    let config = document(&layout, &manifest["config"]);
    for labels in [&config["config"]["Labels"], &manifest["annotations"]] {
        let label = |key| labels[format!("org.opencontainers.image.{key}")].as_str().unwrap();
        assert_eq!(label("title"), "cache-registry");
        assert_eq!(label("version"), "1.2.3");
        assert_eq!(label("revision"), "0123abc");
        assert_eq!(label("source"), "https://example.org/cache-registry");
        assert_eq!(label("licenses"), "Apache-2.0");
        assert_eq!(label("created"), "2023-11-14T22:13:20Z");
    }
}

#[test]
fn files_have_the_time_of_the_commit_and_belong_to_root() {
    let entries = entries(&image());
    let paths: Vec<_> = entries.iter().map(|(path, ..)| path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "etc/",
            "etc/ssl/",
            "etc/ssl/certs/",
            "usr/",
            "usr/share/",
            "usr/share/doc/",
            "usr/share/doc/cache-registry/",
            "etc/group",
            "etc/passwd",
            "etc/ssl/certs/ca-certificates.crt",
            "usr/share/doc/cache-registry/LICENSE",
            "usr/",
            "usr/bin/",
            "usr/bin/cache-registry",
        ]
    );
    for (path, mode, time, owner) in &entries {
        let expected = if path.ends_with('/') || path == PROGRAM { 0o755 } else { 0o644 };
        assert_eq!((*mode, *time, *owner), (expected, 1_700_000_000, 0), "{path}");
    }
}

#[test]
fn the_same_in_gives_the_same_bytes_out() {
    let here = tempfile::tempdir().unwrap();
    let [first, second] = ["one", "another"].map(|name| {
        let (layout, folder, archive) = (image(), here.path().join(name), here.path().join(format!("{name}.tar")));
        layout.write_folder(&folder).unwrap();
        layout.write_archive(&archive).unwrap();
        (layout.digest().to_string(), fs::read(archive).unwrap())
    });
    assert!(first == second);
}

#[test]
fn a_folder_of_before_is_replaced() {
    let here = tempfile::tempdir().unwrap();
    let folder = here.path().join("image");
    fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
    fs::write(folder.join("blobs/sha256/stale"), "").unwrap();
    let layout = image();
    layout.write_folder(&folder).unwrap();
    assert!(!folder.join("blobs/sha256/stale").exists());
    for (path, content) in &layout.files {
        assert_eq!(&fs::read(folder.join(path)).unwrap(), content, "{path}");
    }
}
