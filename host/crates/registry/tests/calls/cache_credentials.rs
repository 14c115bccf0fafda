//! In whose name the registry inside the cluster is spoken to.

use axum::response::Response;
use cache_registry_core::{Hasher, Reason, Reference};
use cache_registry_registry::{Connections, CopyOptions, Credentials, Error, GetOptions, Object, copy};
use http::request::Parts;
use rstest::rstest;
use url::Url;

use crate::distribution::{Distribution, PASSWORD, USER, Version};
use crate::images::Images;
use crate::server::{Server, answer, answer_with};
use crate::{connections, connections_by};

/// `Authorization` of [`ours`].
const BASIC: &str = "Basic b3VyczpodXNo";

fn ours() -> Option<Credentials> {
    Credentials::password("ours", "hush").ok()
}

fn guard(parts: &Parts) -> Response {
    match parts.headers.get("authorization") {
        Some(value) if value == BASIC => answer(200, ""),
        _ => answer_with(401, &[("www-authenticate", r#"Basic realm="x""#)], ""),
    }
}

/// What each request brought along, in their order.
fn brought(server: &Server) -> Vec<Option<String>> {
    server.seen().into_iter().map(|seen| seen.authorization).collect()
}

async fn head(connections: &Connections, cache: &Url) -> Result<(), Error> {
    connections.cache(cache, "x").head_manifest("1").await.map(|_| ())
}

#[tokio::test]
async fn the_cache_is_shown_its_credentials_unasked_and_no_other_registry_is() {
    let (cache, upstream) = (Server::start(guard).await, Server::start(|_| answer(200, "")).await);
    let connections = connections(&upstream.url);
    connections.clone().set_cache_credentials(ours());

    head(&connections, &cache.url).await.unwrap();
    connections.upstream("docker.io", "library/x").head_manifest("1").await.unwrap();

    assert_eq!(brought(&cache), [Some(BASIC.to_owned())]);
    assert_eq!(brought(&upstream), [None]);
}

/// The same registry as an upstream is spoken to in nobody's name.
#[tokio::test]
async fn an_upstream_that_asks_for_a_password_does_not_get_that_of_the_cache() {
    let upstream = Server::start(guard).await;
    let connections = connections(&upstream.url);
    connections.set_cache_credentials(ours());

    let error = connections.upstream("docker.io", "library/x").head_manifest("1").await.unwrap_err();

    assert_eq!(error.reason(), Reason::Unauthorized);
    assert_eq!(brought(&upstream), [None]);
}

#[tokio::test]
async fn where_the_cache_redirects_to_sees_no_credentials() {
    let (images, _) = Images::of_layers("1", &[b"layer"]);
    let store = Server::start(move |parts| images.answer(parts)).await;
    let elsewhere = store.url.clone();
    let cache = Server::start(move |parts| {
        answer_with(307, &[("location", elsewhere.join(parts.uri.path()).unwrap().as_str())], "")
    })
    .await;
    let connections = connections_by("");
    connections.set_cache_credentials(ours());

    let blob = Object::Blob(Hasher::sha256(b"layer"));
    connections.cache(&cache.url, "x").get(&blob, &GetOptions::default()).await.unwrap();

    assert_eq!((brought(&cache), brought(&store)), (vec![Some(BASIC.to_owned())], vec![None]));
}

#[tokio::test]
async fn credentials_are_exchanged_under_way_and_wrong_ones_are_shown_once() {
    let cache = Server::start(guard).await;
    let connections = connections_by("");

    let nobody = head(&connections, &cache.url).await.unwrap_err();
    connections.set_cache_credentials(Credentials::password("ours", "wrong").ok());
    let wrong = head(&connections, &cache.url).await.unwrap_err();
    connections.set_cache_credentials(ours());
    head(&connections, &cache.url).await.unwrap();
    connections.set_cache_credentials(None);
    head(&connections, &cache.url).await.unwrap_err();

    for error in [&nobody, &wrong] {
        assert_eq!((error.reason(), error.status().unwrap().as_u16()), (Reason::RegistryUnreachable, 401), "{error}");
        assert!(!error.to_string().contains("b3Vy"), "{error}");
    }
    assert!(nobody.to_string().contains("there are none for it yet"), "{nobody}");
    assert!(wrong.to_string().contains("refuses the credentials"), "{wrong}");
    let wrong = "Basic b3Vyczp3cm9uZw==".to_owned();
    assert_eq!(brought(&cache), [None, Some(wrong), Some(BASIC.to_owned()), None]);
}

#[rstest]
#[case(Version::Two)]
#[case(Version::Three)]
#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_copied_into_a_cache_that_wants_a_password(#[case] version: Version) {
    let (images, root) = Images::two_platforms("1");
    let upstream = Server::start(move |parts| images.answer(parts)).await;
    let (connections, cache) = (connections(&upstream.url), Distribution::guarded(version));
    let source: Reference = "docker.io/library/x:1".parse().unwrap();

    let options = CopyOptions::default();

    let refused = copy(&source, &connections, &cache.url, &options, &|_, _| {}).await.unwrap_err();
    connections.set_cache_credentials(Credentials::password(USER, PASSWORD).ok());
    let copied = copy(&source, &connections, &cache.url, &options, &|_, _| {}).await.unwrap();

    assert_eq!((refused.reason(), copied.digest), (Reason::RegistryUnreachable, root));
}
