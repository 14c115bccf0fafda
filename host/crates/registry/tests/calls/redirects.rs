//! Redirects, and mirrors.

use cache_registry_core::{Hasher, Reason};
use cache_registry_registry::{GetOptions, Object};
use http::Method;
use http_body_util::BodyExt as _;

use crate::images::Images;
use crate::server::{Server, answer, answer_with};
use crate::{connections, connections_by};

#[tokio::test]
async fn a_blob_in_a_store_is_fetched_there_without_our_token() {
    let (images, _) = Images::of_layers("1", &[b"layer"]);
    let store = Server::start(move |parts| images.answer(parts)).await;
    let elsewhere = store.url.clone();
    let server = Server::start(move |parts| match (parts.uri.path(), parts.headers.contains_key("authorization")) {
        ("/token", _) => answer(200, r#"{"token":"t"}"#),
        (_, false) => {
            let realm = format!(r#"Bearer realm="http://{}/token""#, parts.headers["host"].to_str().unwrap());
            answer_with(401, &[("www-authenticate", &realm)], "")
        }
        (path, true) if path.starts_with("/moved") => {
            answer_with(307, &[("location", elsewhere.join(path.trim_start_matches("/moved")).unwrap().as_str())], "")
        }
        (path, true) => answer_with(302, &[("location", &format!("/moved{path}"))], ""),
    })
    .await;
    let file =
        format!("registries:\n  docker.io:\n    endpoint: {}\n  {}:\n    plainHttp: true\n", server.url, store.host());
    let repository = connections_by(&file).upstream("docker.io", "library/x");
    let options = GetOptions { range: Some("bytes=2-".parse().unwrap()), ..GetOptions::default() };

    let response = repository.get(&Object::Blob(Hasher::sha256(b"layer")), &options).await.unwrap();

    assert_eq!(response.status(), 206);
    assert_eq!(response.headers()["content-range"], "bytes 2-4/5");
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "yer");
    assert!(store.seen().iter().all(|seen| seen.authorization.is_none()), "{:?}", store.seen());
    assert_eq!(store.seen().len(), 1);
    // Within the registry's own host the token goes along.
    let moved = server.seen().into_iter().find(|seen| seen.path.starts_with("/moved")).unwrap();
    assert_eq!(moved.authorization.as_deref(), Some("Bearer t"));
}

#[tokio::test]
async fn a_redirect_to_the_inside_is_not_followed() {
    let inside = Server::start(|_| answer(200, "secret")).await;
    let location = inside.url.join("/latest/meta-data").unwrap();
    let server = Server::start(move |_| answer_with(307, &[("location", location.as_str())], "")).await;
    let repository = connections(&server.url).upstream("docker.io", "library/x");

    let error = repository.get(&Object::Blob(Hasher::sha256(b"")), &GetOptions::default()).await.unwrap_err();

    assert_eq!(error.reason(), Reason::UpstreamUnreachable);
    assert!(error.to_string().contains("is at 127.0.0.1, a loopback address"), "{error}");
    assert!(error.refused_address());
    assert_eq!(inside.seen(), []);
}

#[tokio::test]
async fn a_registry_inside_that_is_not_named_is_not_asked() {
    let server = Server::start(|_| answer(200, "")).await;
    let connections = connections_by("");
    let port = server.url.port().unwrap();
    for host in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!("[::ffff:127.0.0.1]:{port}")] {
        // A registry is reached by TLS unless the file says otherwise; the guard comes before that.
        let error = connections.upstream(&host, "x").head_manifest("1").await.unwrap_err();
        assert!(error.to_string().contains("a loopback address"), "{error}");
    }
    assert_eq!(server.seen(), []);
}

#[tokio::test]
async fn a_redirect_in_circles_ends() {
    let server = Server::start(|parts| answer_with(302, &[("location", parts.uri.path())], "")).await;
    let repository = connections(&server.url).upstream("docker.io", "library/x");

    let error = repository.head_manifest("1").await.unwrap_err();

    assert!(error.to_string().contains("redirected more than 5 times"), "{error}");
    assert!(!error.refused_address());
    assert_eq!(server.seen().len(), 6);
}

#[tokio::test]
async fn mirrors_are_asked_first_and_what_they_lack_comes_from_the_registry() {
    let (images, digest) = Images::of_layers("1", &[b"layer"]);
    let sick = Server::start(|_| answer(503, "")).await;
    let mirror = Server::start({
        let images = images.clone();
        move |parts| match parts.uri.path().strip_prefix("/v2/hub/library/x/manifests") {
            Some("/1") => images.answer(parts),
            _ => answer(404, ""),
        }
    })
    .await;
    let server = Server::start(move |parts| images.answer(parts)).await;
    let file = format!(
        "registries:\n  docker.io:\n    endpoint: {}\n    mirrors:\n      - endpoint: {}\n      - endpoint: {}hub\n",
        server.url, sick.url, mirror.url
    );
    let repository = connections_by(&file).upstream("docker.io", "library/x");

    assert_eq!(repository.get_manifest("1").await.unwrap().digest, digest);
    assert_eq!((sick.seen().len(), mirror.seen().len(), server.seen().len()), (1, 1, 0));

    assert!(repository.blob_exists(&Hasher::sha256(b"layer"), 5).await.unwrap());
    assert_eq!(server.count(&Method::HEAD, "/blobs/"), 1);
}
