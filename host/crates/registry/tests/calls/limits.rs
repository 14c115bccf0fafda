//! Every wait ends.

use std::time::{Duration, Instant};

use cache_registry_core::{Hasher, Reason};
use cache_registry_registry::{GetOptions, Object};
use http_body_util::BodyExt as _;
use tokio::net::TcpListener;
use url::Url;

use crate::connections;
use crate::server::{Server, answer_with, breaking, stalling};

#[tokio::test]
async fn a_registry_that_accepts_and_says_nothing_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}", silent.local_addr().unwrap())).unwrap();
    let repository = connections(&url).upstream("docker.io", "library/x");
    let began = Instant::now();

    let error = repository.head_manifest("1").await.unwrap_err();

    assert!(error.to_string().contains("no answer within 1s"), "{error}");
    assert_eq!(error.reason(), Reason::UpstreamUnreachable);
    assert!((Duration::from_secs(1)..Duration::from_secs(3)).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let server = Server::start(|_| answer_with(200, &[("content-length", "100")], stalling(b"some"))).await;
    let repository = connections(&server.url).upstream("docker.io", "library/x");
    let object = Object::Blob(Hasher::sha256(b"x"));

    let mut body = repository.get(&object, &GetOptions::default()).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "some");
    let error = body.frame().await.unwrap().unwrap_err();

    assert!(error.to_string().contains("nothing more came within 1s"), "{error}");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_end() {
    let server = Server::start(|_| answer_with(200, &[("content-length", "100")], breaking(b"some".to_vec()))).await;
    let repository = connections(&server.url).upstream("docker.io", "library/x");
    let object = Object::Blob(Hasher::sha256(b"x"));

    let body = repository.get(&object, &GetOptions::default()).await.unwrap().into_body();
    let error = body.collect().await.unwrap_err();

    assert!(error.to_string().contains("broke off"), "{error}");
}

#[tokio::test]
async fn a_manifest_that_never_ends_is_given_up() {
    let server = Server::start(|_| crate::server::answer(200, stalling(b"{"))).await;
    let repository = connections(&server.url).upstream("docker.io", "library/x");

    let error = repository.get_manifest("1").await.unwrap_err();

    assert!(error.to_string().contains("within 1s"), "{error}");
}

#[tokio::test]
async fn a_manifest_that_is_too_large_is_not_read() {
    let server = Server::start(|_| crate::server::answer(200, vec![b' '; 5 * 1024 * 1024])).await;
    let repository = connections(&server.url).upstream("docker.io", "library/x");

    let error = repository.get_manifest("1").await.unwrap_err();

    assert!(error.to_string().contains("larger than 4194304 bytes"), "{error}");
}
