//! Components in registries: real ones, read and written by other people's tools too, and ones that misbehave.

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use cache_registry_core::{Digest, Hasher, Reason};
use cache_registry_registry::artifact::{Interfaces, WasmArtifact, pull_wasm, push_wasm};
use cache_registry_registry::{Connections, Credentials, Repository};
use cache_registry_upstream::{Fault, Image, Matching, Platform, Rule, Upstream};
use http::Method;
use rstest::rstest;

use crate::connections_by;
use crate::distribution::{Distribution, PASSWORD, USER, Version, tool};
use crate::images::{IMAGE, Images, pseudo_random};
use crate::server::{Server, answer, answer_with};

const LARGEST: u64 = 4 * 1024 * 1024;

fn wasm() -> Bytes {
    [b"\0asm\x0d\0\x01\0".to_vec(), pseudo_random(1, 3_000_000)].concat().into()
}

fn interfaces() -> Interfaces {
    Interfaces { imports: Vec::new(), exports: vec!["cache-registry:policy/filter@0.1.0".to_owned()] }
}

fn repository(host: &str, credentials: Option<Credentials>) -> Repository {
    let connections = connections_by(&format!("registries:\n  {host}:\n    plainHttp: true\n"));
    connections.upstream_as(host, "policies/skip-dev", credentials)
}

/// What a program says, with its home in `home` and nothing of this machine's user.
fn output(program: &str, home: &Path, arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new(tool(program));
    command.args(arguments).current_dir(home).env("HOME", home).env("DOCKER_CONFIG", home);
    let output = command.output().unwrap_or_else(|error| panic!("{program} does not run: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[rstest]
#[case(Version::Two)]
#[case(Version::Three)]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_is_pulled_by_tag_and_by_digest(#[case] version: Version) {
    let registry = Distribution::guarded(version);
    let repository = repository(&registry.host(), Credentials::password(USER, PASSWORD).ok());

    let digest = push_wasm(&repository, "v1", wasm(), &interfaces()).await.unwrap();
    // The same again is the same, also under another tag.
    assert_eq!(push_wasm(&repository, "v1", wasm(), &interfaces()).await.unwrap(), digest);
    assert_eq!(push_wasm(&repository, "v2", wasm(), &interfaces()).await.unwrap(), digest);

    let expected = WasmArtifact { digest: digest.clone(), wasm: wasm() };
    for reference in ["v1", "v2", digest.as_ref()] {
        assert_eq!(pull_wasm(&repository, reference, LARGEST).await.unwrap(), expected);
        assert_eq!(repository.resolve(reference).await.unwrap(), digest);
    }
    let error = pull_wasm(&repository, "v3", LARGEST).await.unwrap_err();
    assert_eq!(error.reason(), Reason::NotFound, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_wants_a_password_takes_nothing_without_it() {
    let registry = Distribution::guarded(Version::Three);
    for (credentials, part) in [
        (None, "wants a user name and a password"),
        (Credentials::password(USER, "wrong").ok(), "refuses the credentials"),
    ] {
        let repository = repository(&registry.host(), credentials);
        for error in [
            push_wasm(&repository, "v1", wasm(), &interfaces()).await.unwrap_err(),
            pull_wasm(&repository, "v1", LARGEST).await.unwrap_err(),
        ] {
            assert_eq!(error.reason(), Reason::Unauthorized);
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn crane_and_oras_read_what_is_pushed() {
    let (registry, home) = (Distribution::start(Version::Three), tempfile::tempdir().unwrap());
    let digest = push_wasm(&repository(&registry.host(), None), "v1", wasm(), &interfaces()).await.unwrap();
    let reference = format!("{}/policies/skip-dev", registry.host());

    let named = output("crane", home.path(), &["digest", &format!("{reference}:v1")]);
    assert_eq!(String::from_utf8(named).unwrap().trim(), digest.as_ref());
    let config = output("crane", home.path(), &["config", &format!("{reference}:v1")]);
    assert!(String::from_utf8(config).unwrap().contains(r#""exports":["cache-registry:policy/filter@0.1.0"]"#));
    let blob = output("crane", home.path(), &["blob", &format!("{reference}@{}", Hasher::sha256(&wasm()))]);
    assert_eq!(blob, wasm());

    output("oras", home.path(), &["pull", "--plain-http", &format!("{reference}@{digest}")]);
    assert_eq!(std::fs::read(home.path().join("skip-dev.wasm")).unwrap(), wasm());
}

#[rstest]
#[case(&["policy.wasm:application/wasm"])]
#[case(&["--artifact-type", "application/wasm", "policy.wasm:application/wasm"])]
#[case(&["--config", "config.json:application/vnd.wasm.config.v0+json", "policy.wasm:application/wasm"])]
#[case(&["policy.wasm:application/vnd.wasm.content.layer.v1+wasm"])]
#[case(&["policy.wasm:application/wasm", "config.json:application/json"])]
#[tokio::test(flavor = "multi_thread")]
async fn what_oras_pushes_is_pulled(#[case] arguments: &[&str]) {
    let (registry, home) = (Distribution::start(Version::Three), tempfile::tempdir().unwrap());
    std::fs::write(home.path().join("policy.wasm"), wasm()).unwrap();
    std::fs::write(home.path().join("config.json"), "{}").unwrap();
    let reference = format!("{}/policies/skip-dev:v1", registry.host());
    output("oras", home.path(), &[&["push", "--plain-http", &reference], arguments].concat());

    let pulled = pull_wasm(&repository(&registry.host(), None), "v1", LARGEST).await.unwrap();

    assert_eq!(pulled.wasm, wasm());
}

/// An artifact of one layer, of which the manifest says that it has this digest and size.
fn artifact(layer: &Digest, size: usize) -> Bytes {
    Bytes::from(format!(
        r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{}","size":2}},"layers":[{{"mediaType":"application/wasm","digest":"{layer}","size":{size}}}]}}"#,
        Hasher::sha256(b"{}")
    ))
}

/// A registry that has a component under `v1`, and misbehaves when it is told to.
async fn upstream() -> (Upstream, Connections) {
    let upstream = Upstream::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let layer = upstream.store().put_blob("policies/skip-dev", wasm());
    put(&upstream, &layer, wasm().len());
    let file = format!("registries:\n  reg.example:\n    endpoint: http://{}\n", upstream.address());
    (upstream, connections_by(&file))
}

fn put(upstream: &Upstream, layer: &Digest, size: usize) -> Digest {
    let digest = upstream.store().put_manifest("policies/skip-dev", IMAGE, artifact(layer, size));
    upstream.store().put_tag("policies/skip-dev", "v1", &digest);
    digest
}

async fn pull(connections: &Connections, largest: u64) -> Result<Bytes, String> {
    let repository = connections.upstream("reg.example", "policies/skip-dev");
    let pulled = pull_wasm(&repository, "v1", largest).await;
    pulled.map(|artifact| artifact.wasm).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_pull_that_breaks_off_goes_on_where_it_was() {
    let (upstream, connections) = upstream().await;
    upstream.misbehave(Rule::on(Matching::blobs(), Fault::Cut { after: 1_000_000 }).times(1));
    upstream.misbehave(Rule::on(Matching::manifests(), Fault::Status { code: 503 }).times(1));

    assert_eq!(pull(&connections, LARGEST).await, Ok(wasm()));

    let ranges: Vec<_> = upstream.traffic().of(&Matching::blobs()).map(|request| request.range.clone()).collect();
    assert_eq!(ranges.len(), 2);
    assert!(ranges[1].is_some(), "{ranges:?}");
}

#[tokio::test]
async fn wrong_bytes_are_no_component() {
    let (upstream, connections) = upstream().await;
    upstream.misbehave(Rule::on(Matching::blobs(), Fault::WrongBytes));

    let error = pull(&connections, LARGEST).await.unwrap_err();

    assert!(error.contains(&format!("is not what its manifest says: expected {}", Hasher::sha256(&wasm()))), "{error}");
}

#[tokio::test]
async fn a_component_that_is_too_large_is_not_asked_for() {
    let (upstream, connections) = upstream().await;

    let error = pull(&connections, 3_000_000).await.unwrap_err();

    assert!(error.contains("has 3000008 bytes, and at most 3000000 are taken"), "{error}");
    assert_eq!(upstream.traffic().count(&Matching::blobs()), 0);
}

#[rstest]
#[case(true, "the blob has 3000008 bytes here, and 1000 by its manifest")]
#[case(false, "the blob is longer than 1000 bytes")]
#[tokio::test]
async fn a_component_that_is_larger_than_it_says_is_not_taken_in(#[case] says_length: bool, #[case] part: &str) {
    let layer = Hasher::sha256(&wasm());
    let server = Server::start(move |parts| match parts.uri.path().contains("/blobs/") {
        false => answer_with(200, &[("content-type", IMAGE)], artifact(&layer, 1_000)),
        true if says_length => answer(200, wasm()),
        true => answer(200, axum::body::Body::from_stream(futures::stream::iter([Ok::<_, std::io::Error>(wasm())]))),
    })
    .await;
    let file = format!("registries:\n  reg.example:\n    endpoint: {}\n", server.url);

    let error = pull(&connections_by(&file), 1_000).await.unwrap_err();

    assert!(error.contains(part), "{error}");
}

#[tokio::test]
async fn an_index_and_an_image_are_no_components() {
    let (upstream, connections) = upstream().await;
    for (image, part) in [
        (Image::hello(b"program").unwrap(), "image.index.v1+json, of which nothing is chosen"),
        (Image::single(&Platform::AMD64, &[], &["/x"]), "is a container image"),
    ] {
        upstream.add("policies/skip-dev", "v1", &image);
        let error = pull(&connections, LARGEST).await.unwrap_err();
        assert!(error.contains(part) && error.contains("policy push"), "{error}");
    }
    assert_eq!(upstream.traffic().count(&Matching::blobs()), 0);
}

#[tokio::test]
async fn a_manifest_that_is_not_its_digest_is_no_component() {
    let (digest, mut images) = (Hasher::sha256(b"another"), Images::default());
    let layer = images.blob(&wasm());
    images.manifests.insert(digest.to_string(), (IMAGE, artifact(&layer, wasm().len()).into()));
    let server = Server::start(move |parts| images.answer(parts)).await;
    let repository = repository(&server.host(), None);

    let error = pull_wasm(&repository, digest.as_ref(), LARGEST).await.unwrap_err();

    assert!(error.to_string().contains("the manifest is not what it should be"), "{error}");
}

#[tokio::test]
async fn what_a_mirror_gets_wrong_comes_from_the_registry() {
    let (mirror, _) = upstream().await;
    mirror.misbehave(Rule::on(Matching::blobs(), Fault::WrongBytes));
    let (registry, _) = upstream().await;
    let connections = connections_by(&format!(
        "registries:\n  reg.example:\n    endpoint: http://{}\n    mirrors:\n      - endpoint: http://{}\n",
        registry.address(),
        mirror.address()
    ));

    assert_eq!(pull(&connections, LARGEST).await, Ok(wasm()));

    let asked = |upstream: &Upstream| upstream.traffic().count(&Matching::blobs());
    assert_eq!((asked(&mirror), asked(&registry)), (1, 1));
}

/// A registry need not say how long a blob is.
fn of_no_length() -> axum::body::Body {
    axum::body::Body::from_stream(futures::stream::empty::<std::io::Result<Bytes>>())
}

/// A registry that answers `status` to every question, and takes everything that is written.
async fn taking(status: u16) -> Server {
    Server::start(move |parts| match parts.method {
        Method::POST | Method::PATCH => answer_with(202, &[("location", "/v2/policies/skip-dev/blobs/uploads/1")], ""),
        Method::PUT => answer(201, ""),
        _ => answer(status, of_no_length()),
    })
    .await
}

#[rstest]
#[case(200, 0)]
#[case(404, 2)]
// One that does not say what it has may take it all the same.
#[case(403, 2)]
#[tokio::test]
async fn only_what_is_not_there_is_pushed(#[case] status: u16, #[case] blobs: usize) {
    let server = taking(status).await;

    push_wasm(&repository(&server.host(), None), "v1", wasm(), &interfaces()).await.unwrap();

    assert_eq!((server.count(&Method::POST, "/blobs/uploads/"), server.count(&Method::PUT, "/blobs/")), (blobs, blobs));
    let last = server.seen().pop().unwrap();
    assert_eq!((last.method.as_str(), last.path.as_str()), ("PUT", "/v2/policies/skip-dev/manifests/v1"));
}

#[tokio::test]
async fn a_tag_that_is_on_it_already_is_not_put_there_again() {
    let named = tokio::sync::watch::Sender::new(String::new());
    let digest = named.subscribe();
    let server = Server::start(move |parts| match parts.method {
        Method::PUT => answer(201, ""),
        _ => answer_with(200, &[("docker-content-digest", digest.borrow().as_str())], of_no_length()),
    })
    .await;
    let repository = repository(&server.host(), None);
    for puts in [1, 1] {
        let digest = push_wasm(&repository, "v1", wasm(), &interfaces()).await.unwrap();
        assert_eq!(server.count(&Method::PUT, ""), puts);
        named.send_replace(digest.to_string());
    }
}

#[tokio::test]
async fn what_a_mirror_has_is_pushed_all_the_same() {
    let (mirror, server) = (Server::start(|_| answer(200, "")).await, taking(404).await);
    let connections = connections_by(&format!(
        "registries:\n  reg.example:\n    endpoint: {}\n    mirrors:\n      - endpoint: {}\n",
        server.url, mirror.url
    ));

    let repository = connections.upstream("reg.example", "policies/skip-dev");
    push_wasm(&repository, "v1", wasm(), &interfaces()).await.unwrap();

    assert_eq!((mirror.seen().len(), server.count(&Method::PUT, "/blobs/")), (0, 2));
}

#[rstest]
#[case(true, 0)]
#[case(false, 1)]
#[tokio::test]
async fn a_tag_is_resolved_by_a_head_where_the_registry_tells(#[case] tells: bool, #[case] gets: usize) {
    let manifest = artifact(&Hasher::sha256(b""), 0);
    let digest = Hasher::sha256(&manifest);
    let told = digest.to_string();
    let server = Server::start(move |_| {
        let digest = tells.then_some(("docker-content-digest", told.as_str()));
        let headers: Vec<_> = [("content-type", IMAGE)].into_iter().chain(digest).collect();
        answer_with(200, &headers, manifest.clone())
    })
    .await;

    assert_eq!(repository(&server.host(), None).resolve("v1").await.unwrap(), digest);

    assert_eq!((server.count(&Method::HEAD, ""), server.count(&Method::GET, "")), (1, gets));
}
