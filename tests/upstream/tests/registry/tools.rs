//! The clients that people have.

use std::process::Command;

use cache_registry_core::Hasher;
use cache_registry_upstream::{Access, Image, Upstream};

use crate::client::loopback;

async fn skopeo(arguments: Vec<String>) -> Vec<u8> {
    let output = tokio::task::spawn_blocking(move || Command::new("skopeo").args(arguments).output())
        .await
        .unwrap()
        .expect("skopeo, which these tests need: apt-get install --no-install-recommends skopeo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[tokio::test]
async fn skopeo_sees_the_index_as_it_was_made() {
    let upstream = Upstream::start(loopback()).await.unwrap();
    let image = Image::hello(b"program").unwrap();
    upstream.add("library/hello", "1.0", &image);
    let source = format!("docker://{}/library/hello:1.0", upstream.address());
    let raw = skopeo(vec!["inspect".into(), "--tls-verify=false".into(), "--raw".into(), source]).await;
    assert_eq!(Hasher::check(image.digest(), &raw), Ok(()));
}

#[tokio::test]
async fn skopeo_copies_every_platform_with_a_token() {
    let upstream = Upstream::start(loopback()).await.unwrap();
    upstream.set_access(Access::Tokens { valid_for: 60 });
    let image = Image::hello(b"program").unwrap();
    upstream.add("library/hello", "1.0", &image);

    let folder = tempfile::tempdir().unwrap();
    let copied = folder.path().join("copied").display().to_string();
    skopeo(vec![
        "--insecure-policy".into(),
        "copy".into(),
        "--all".into(),
        "--preserve-digests".into(),
        "--src-tls-verify=false".into(),
        format!("docker://{}/library/hello:1.0", upstream.address()),
        format!("oci:{copied}:1.0"),
    ])
    .await;
    // skopeo checks the digest of each blob against its descriptor; that all of them arrived is left to see here.
    for content in image.all_manifests().chain(&image.blobs) {
        let path = folder.path().join("copied/blobs/sha256").join(content.digest.digest());
        assert_eq!(std::fs::read(path).unwrap(), content.bytes);
    }
}
