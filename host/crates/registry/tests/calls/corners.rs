//! Answers as they should not be.

use cache_registry_core::{Hasher, Reason};
use cache_registry_registry::{GetOptions, Object};
use http::Method;

use crate::connections;
use crate::images::{IMAGE, INDEX, Images};
use crate::server::{Server, answer, answer_with};

#[tokio::test]
async fn a_manifest_that_is_not_its_digest_is_refused() {
    let (mut images, digest) = Images::of_layers("1", &[b"layer"]);
    images.manifests.insert(digest.to_string(), (IMAGE, b"{}".to_vec()));
    let server = Server::start(move |parts| images.answer(parts)).await;
    let repository = connections(&server.url).upstream("docker.io", "library/x");

    let error = repository.get_manifest(digest.as_ref()).await.unwrap_err();

    assert!(error.to_string().contains(&format!("expected {digest}, got sha256:44136fa")), "{error}");
    assert_eq!(error.reason(), Reason::UpstreamUnreachable);
}

#[tokio::test]
async fn a_tag_that_is_not_the_digest_in_its_header_is_refused() {
    let told = Hasher::sha256(b"another").to_string();
    let headers =
        move |body: &'static str| answer_with(200, &[("content-type", IMAGE), ("docker-content-digest", &told)], body);
    let server = Server::start(move |_| headers("{}")).await;
    let repository = connections(&server.url).upstream("docker.io", "library/x");

    let error = repository.get_manifest("1").await.unwrap_err();

    assert!(error.to_string().contains("the manifest is not what it should be"), "{error}");
}

#[tokio::test]
async fn a_manifest_that_is_something_else_than_it_is_served_as_is_refused() {
    let server =
        Server::start(|_| answer_with(200, &[("content-type", IMAGE)], format!(r#"{{"mediaType":"{INDEX}"}}"#))).await;
    let repository = connections(&server.url).upstream("docker.io", "library/x");

    let error = repository.get_manifest("1").await.unwrap_err();

    assert!(error.to_string().contains(&format!("served as {IMAGE} and says that it is {INDEX}")), "{error}");
}

#[tokio::test]
async fn what_is_not_there_is_not_there() {
    let server = Server::start(|parts| Images::default().answer(parts)).await;
    let repository = connections(&server.url).upstream("docker.io", "library/x");

    assert_eq!(repository.head_manifest("1").await.unwrap(), None);
    assert!(!repository.blob_exists(&Hasher::sha256(b""), 0).await.unwrap());
    let error = repository.get_manifest("1").await.unwrap_err();
    assert_eq!(error.reason(), Reason::NotFound);
    assert!(error.to_string().starts_with("docker.io/library/x: GET http://127.0.0.1:"), "{error}");
    assert!(error.to_string().contains("404 Not Found: manifest unknown"), "{error}");
}

#[tokio::test]
async fn a_range_that_cannot_be_met_is_an_answer() {
    let server = Server::start(|_| answer_with(416, &[("content-range", "bytes */5")], "")).await;
    let repository = connections(&server.url).upstream("docker.io", "library/x");
    let options = GetOptions { range: Some("bytes=9-".parse().unwrap()), ..GetOptions::default() };

    let response = repository.get(&Object::Blob(Hasher::sha256(b"")), &options).await.unwrap();

    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-range"]),
        (416, &"bytes */5".parse().unwrap())
    );
}

#[tokio::test]
async fn several_accept_values_go_out_as_one_line_and_no_encoding_is_asked_for() {
    let server = Server::start(|parts| {
        let lines = parts.headers.get_all("accept").iter().count();
        let accept = parts.headers["accept"].to_str().unwrap();
        let encoding = parts.headers.contains_key("accept-encoding");
        answer_with(200, &[("x-accept", accept), ("x-lines", &lines.to_string())], encoding.to_string())
    })
    .await;
    let repository = connections(&server.url).upstream("docker.io", "library/x");
    let accept = vec![INDEX.parse().unwrap(), IMAGE.parse().unwrap()];
    let options = GetOptions { accept, range: None };

    let response = repository.head(&Object::Manifest("1".to_owned()), &options).await.unwrap();

    assert_eq!(response.headers()["x-accept"], format!("{INDEX}, {IMAGE}"));
    assert_eq!(response.headers()["x-lines"], "1");
    assert_eq!(server.count(&Method::HEAD, "/v2/library/x/manifests/1"), 1);
}

#[tokio::test]
async fn no_name_leaves_the_api() {
    let server = Server::start(|_| answer(404, "")).await;
    let repository = connections(&server.url).upstream("docker.io", "../../secret?a=b#c");

    assert_eq!(repository.head_manifest("../x/y?z").await.unwrap(), None);

    assert_eq!(server.seen()[0].path, "/v2/secret%3Fa=b%23c/manifests/..%2Fx%2Fy%3Fz");
}

#[tokio::test]
async fn a_registry_that_is_no_host_is_told() {
    let repository = connections(&"http://127.0.0.1:1".parse().unwrap()).upstream("999.999.1.1", "x");
    let error = repository.head_manifest("1").await.unwrap_err();
    assert!(error.to_string().contains("is no registry's host"), "{error}");
}
