//! Tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::response::Response;
use cache_registry_core::Reason;
use http::Method;
use http::request::Parts;
use rstest::rstest;

use crate::images::Images;
use crate::server::{Server, answer, answer_with};
use crate::{connections, connections_by};

/// Gives tokens at `/token`, and images to who brings one that is in force.
async fn guarded(
    images: Images,
    life: &'static str,
    in_force: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> Server {
    let given = AtomicUsize::new(0);
    Server::start(move |parts| {
        if parts.uri.path() == "/token" {
            let number = given.fetch_add(1, Ordering::SeqCst);
            return answer(200, format!(r#"{{"token":"t{number}"{life}}}"#));
        }
        let brought = parts.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        match brought {
            Some(token) if in_force(&token) => images.answer(parts),
            _ => challenge(parts),
        }
    })
    .await
}

fn challenge(parts: &Parts) -> Response {
    let host = parts.headers["host"].to_str().unwrap();
    let value = format!(r#"Bearer realm="http://{host}/token",service="it",scope="repository:library/x:pull,push""#);
    answer_with(401, &[("www-authenticate", &value)], r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#)
}

#[tokio::test]
async fn a_token_is_fetched_once_and_brought_along_from_then_on() {
    let (images, digest) = Images::of_layers("1", &[b"layer"]);
    let server = guarded(images, r#","expires_in":300"#, |token| token == "Bearer t0").await;
    let repository = connections(&server.url).upstream("docker.io", "library/x");

    let many = futures::future::join_all((0..8).map(|_| repository.get_manifest("1"))).await;
    assert!(many.into_iter().all(|manifest| manifest.unwrap().digest == digest));
    let before = server.seen().len();
    repository.head_manifest("1").await.unwrap().unwrap();

    assert_eq!(server.count(&Method::GET, "/token"), 1);
    let token = server.seen().into_iter().find(|seen| seen.path.starts_with("/token")).unwrap();
    assert_eq!(token.path, "/token?service=it&scope=repository%3Alibrary%2Fx%3Apull%2Cpush");
    let after = server.seen().split_off(before);
    assert_eq!(after.len(), 1, "the challenge is remembered: {after:?}");
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once() {
    let (images, digest) = Images::of_layers("1", &[b"layer"]);
    let good = Arc::new(AtomicUsize::new(0));
    let current = Arc::clone(&good);
    let server = guarded(images, "", move |token| token == format!("Bearer t{}", current.load(Ordering::SeqCst))).await;
    let repository = connections(&server.url).upstream("docker.io", "library/x");
    repository.get_manifest("1").await.unwrap();
    good.store(1, Ordering::SeqCst);

    assert_eq!(repository.get_manifest("1").await.unwrap().digest, digest);

    assert_eq!(server.count(&Method::GET, "/token"), 2);
}

#[tokio::test]
async fn a_repository_that_no_token_opens_is_refused_in_words_and_asked_twice_at_most() {
    let server = guarded(Images::default(), "", |_| false).await;
    let repository = connections(&server.url).upstream("docker.io", "library/x");

    let error = repository.get_manifest("1").await.unwrap_err();

    assert_eq!(error.reason(), Reason::Unauthorized);
    assert!(error.to_string().contains("private, or does not exist"), "{error}");
    assert_eq!(server.count(&Method::GET, "/manifests/"), 2);
}

#[rstest]
#[case(r#"Basic realm="x""#, "wants a user name and a password")]
#[case("Negotiate", "authentication by Negotiate")]
#[case(r#"Bearer realm="file:///etc/passwd""#, "no http or https URL")]
#[tokio::test]
async fn what_cannot_be_met_is_told(#[case] value: &'static str, #[case] part: &str) {
    let server = Server::start(move |_| answer_with(401, &[("www-authenticate", value)], "")).await;
    let repository = connections(&server.url).upstream("docker.io", "library/x");

    let error = repository.get_manifest("1").await.unwrap_err();

    assert_eq!(error.reason(), Reason::Unauthorized);
    assert!(error.to_string().contains(part), "{error}");
}

#[tokio::test]
async fn a_token_service_inside_is_not_asked_unless_it_is_named() {
    let service = Server::start(|_| answer(200, r#"{"access_token":"t"}"#)).await;
    let realm = format!(r#"Bearer realm="{}""#, service.url);
    let (images, digest) = Images::of_layers("1", &[b"layer"]);
    let server = Server::start(move |parts| match parts.headers.get("authorization") {
        Some(token) if token == "Bearer t" => images.answer(parts),
        _ => answer_with(401, &[("www-authenticate", &realm)], ""),
    })
    .await;

    let error = connections(&server.url).upstream("docker.io", "library/x").get_manifest("1").await.unwrap_err();
    assert!(error.to_string().contains(&format!("name {} in the registries file", service.host())), "{error}");
    assert_eq!(service.seen(), []);

    let file = format!(
        "registries:\n  docker.io:\n    endpoint: {}\n  {}:\n    plainHttp: true\n",
        server.url,
        service.host()
    );
    let repository = connections_by(&file).upstream("docker.io", "library/x");
    assert_eq!(repository.get_manifest("1").await.unwrap().digest, digest);
}
