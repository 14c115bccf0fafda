//! Who asks: passwords and identity tokens, where they go and where they do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::response::Response;
use cache_registry_core::{Hasher, Reason};
use cache_registry_registry::{Connections, Credentials, Error, GetOptions, Object};
use cache_registry_upstream::{Access, Image, Upstream};
use http::Method;
use http::request::Parts;
use rstest::rstest;

use crate::distribution::{Distribution, PASSWORD, USER, Version};
use crate::images::Images;
use crate::server::{Server, answer, answer_with};
use crate::tls::serve;
use crate::{connections, connections_by};

/// `Authorization` of [`someone`].
const BASIC: &str = "Basic c29tZW9uZTpodXNo";

fn someone() -> Option<Credentials> {
    Credentials::password("someone", "hush").ok()
}

fn basic(parts: &Parts) -> bool {
    parts.headers.get("authorization").is_some_and(|value| value == BASIC)
}

fn wants_password() -> Response {
    answer_with(401, &[("www-authenticate", r#"Basic realm="x""#)], "")
}

fn wants_token(realm: &str) -> Response {
    let value = format!(r#"Bearer realm="{realm}",service="it",scope="repository:library/x:pull""#);
    answer_with(401, &[("www-authenticate", &value)], "")
}

async fn head(connections: &Connections, credentials: Option<Credentials>) -> Result<(), Error> {
    connections.upstream_as("docker.io", "library/x", credentials).head_manifest("1").await.map(|_| ())
}

#[rstest]
#[case(Version::Two)]
#[case(Version::Three)]
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_wants_a_password_lets_in_who_has_it(#[case] version: Version) {
    let registry = Distribution::guarded(version);
    let connections = connections(&registry.url);

    head(&connections, Credentials::password(USER, PASSWORD).ok()).await.unwrap();

    let nobody = head(&connections, None).await.unwrap_err();
    assert_eq!(nobody.reason(), Reason::Unauthorized);
    assert!(nobody.to_string().contains("wants a user name and a password"), "{nobody}");
    let wrong = head(&connections, someone()).await.unwrap_err();
    assert_eq!(wrong.reason(), Reason::Unauthorized);
    assert!(wrong.to_string().contains("refuses the credentials: they are wrong"), "{wrong}");
}

async fn private() -> (Upstream, Connections) {
    let upstream = Upstream::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    upstream.add("library/x", "1", &Image::hello(b"program").unwrap());
    upstream.set_access(Access::Credentials { username: "someone".to_owned(), password: "hush".to_owned() });
    let url = format!("http://{}", upstream.address()).parse().unwrap();
    (upstream, connections(&url))
}

#[tokio::test]
async fn a_token_service_gives_tokens_to_who_has_the_password() {
    let (upstream, connections) = private().await;
    let repository = connections.upstream_as("docker.io", "library/x", someone());

    assert_eq!(repository.get_manifest("1").await.unwrap().digest, *Image::hello(b"program").unwrap().digest());

    let asked: Vec<_> = upstream.traffic().requests.into_iter().map(|request| request.authorization).collect();
    assert_eq!(asked, [None, Some("Basic".to_owned()), Some("Bearer".to_owned())]);
}

#[tokio::test]
async fn a_token_serves_only_who_it_was_given_to() {
    let (_upstream, connections) = private().await;
    head(&connections, someone()).await.unwrap();

    for other in [None, Credentials::password("someone", "else").ok(), Credentials::identity_token("hush").ok()] {
        let error = head(&connections, other).await.unwrap_err();
        assert_eq!(error.reason(), Reason::Unauthorized, "{error}");
        assert!(error.to_string().contains("/token: "), "{error}");
    }

    head(&connections, someone()).await.unwrap();
}

#[rstest]
#[case(None)]
#[case(someone())]
#[tokio::test]
async fn a_registry_is_not_shown_another_one_s_token(#[case] credentials: Option<Credentials>) {
    let given = AtomicUsize::new(0);
    let service = Server::start(move |_| {
        let number = given.fetch_add(1, Ordering::SeqCst);
        answer(200, format!(r#"{{"token":"t{number}","expires_in":300}}"#))
    })
    .await;
    let realm = service.url.to_string();
    let registry = move |parts: &Parts| {
        if parts.headers.contains_key("authorization") { answer(200, "") } else { wants_token(&realm) }
    };
    let (honest, curious) = (Server::start(registry.clone()).await, Server::start(registry).await);
    let file = format!(
        "registries:\n  docker.io:\n    endpoint: {}\n  curious.example:\n    endpoint: {}\n  {}:\n    plainHttp: true\n",
        honest.url,
        curious.url,
        service.host()
    );
    let connections = connections_by(&file);

    for registry in ["docker.io", "curious.example"] {
        let repository = connections.upstream_as(registry, "library/x", credentials.clone());
        repository.head_manifest("1").await.unwrap();
    }

    let shown = |server: &Server| server.seen().last().unwrap().authorization.clone();
    assert_eq!((shown(&honest).as_deref(), shown(&curious).as_deref()), (Some("Bearer t0"), Some("Bearer t1")));
}

#[tokio::test]
async fn a_password_that_is_refused_is_not_tried_again_by_itself() {
    let server = Server::start(|parts| match parts.uri.path() {
        "/token" => answer(401, r#"{"details":"incorrect username or password"}"#),
        _ => wants_token(&format!("http://{}/token", parts.headers["host"].to_str().unwrap())),
    })
    .await;
    let connections = connections(&server.url);

    for times in 1..=2 {
        let error = head(&connections, someone()).await.unwrap_err();
        assert!(error.to_string().contains("401 Unauthorized: incorrect username or password."), "{error}");
        assert_eq!(server.count(&Method::GET, "/token"), times);
    }
}

#[tokio::test]
async fn a_password_is_sent_when_it_is_asked_for_and_from_then_on() {
    let server = Server::start(|parts| if basic(parts) { answer(404, "") } else { wants_password() }).await;
    let connections = connections(&server.url);

    head(&connections, someone()).await.unwrap();
    head(&connections, someone()).await.unwrap();

    let sent: Vec<_> = server.seen().into_iter().map(|seen| seen.authorization).collect();
    assert_eq!(sent, [None, Some(BASIC.to_owned()), Some(BASIC.to_owned())]);
}

#[tokio::test]
async fn a_password_that_is_no_longer_right_is_sent_once() {
    let is_right = Arc::new(AtomicBool::new(true));
    let right = Arc::clone(&is_right);
    let server =
        Server::start(
            move |parts| {
                if right.load(Ordering::SeqCst) && basic(parts) { answer(404, "") } else { wants_password() }
            },
        )
        .await;
    let connections = connections(&server.url);
    head(&connections, someone()).await.unwrap();
    let before = server.seen().len();
    is_right.store(false, Ordering::SeqCst);

    let error = head(&connections, someone()).await.unwrap_err();

    assert!(error.to_string().contains("refuses the credentials"), "{error}");
    assert_eq!(server.seen().len(), before + 1);
}

#[tokio::test]
async fn a_password_does_not_follow_a_redirect() {
    let store = Server::start(|_| wants_password()).await;
    let location = store.url.join("/blob").unwrap();
    let redirected = move |parts: &Parts| {
        if basic(parts) { answer_with(307, &[("location", location.as_str())], "") } else { wants_password() }
    };
    let registry = Server::start(redirected.clone()).await;
    let service = Server::start(redirected).await;
    let realm = service.url.to_string();
    let other = Server::start(move |_| wants_token(&realm)).await;
    let file = format!(
        "registries:\n  docker.io:\n    endpoint: {}\n  other.example:\n    endpoint: {}\n  {}:\n    plainHttp: true\n  {}:\n    plainHttp: true\n",
        registry.url,
        other.url,
        service.host(),
        store.host()
    );
    let connections = connections_by(&file);

    let repository = connections.upstream_as("docker.io", "library/x", someone());
    let error = repository.get(&Object::Blob(Hasher::sha256(b"")), &GetOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("sent the request on to a store that refuses it"), "{error}");
    let error = connections.upstream_as("other.example", "library/x", someone()).head_manifest("1").await.unwrap_err();
    assert_eq!(error.reason(), Reason::Unauthorized);

    // Both had it, and both sent us on.
    assert_eq!(service.seen()[0].authorization.as_deref(), Some(BASIC));
    assert_eq!(store.seen().len(), 2);
    assert!(store.seen().iter().all(|seen| seen.authorization.is_none()), "{:?}", store.seen());
    let told: Vec<_> = other.seen().into_iter().filter_map(|seen| seen.authorization).collect();
    assert_eq!(told, [] as [String; 0]);
}

#[tokio::test]
async fn a_store_has_no_token_service() {
    let store = Server::start(|parts| match parts.uri.path() {
        "/token" => answer(200, r#"{"token":"t"}"#),
        _ => wants_token(&format!("http://{}/token", parts.headers["host"].to_str().unwrap())),
    })
    .await;
    let location = store.url.join("/blob").unwrap();
    let registry = Server::start(move |_| answer_with(307, &[("location", location.as_str())], "")).await;
    let file = format!(
        "registries:\n  docker.io:\n    endpoint: {}\n  {}:\n    plainHttp: true\n",
        registry.url,
        store.host()
    );
    let repository = connections_by(&file).upstream_as("docker.io", "library/x", someone());

    let error = repository.get(&Object::Blob(Hasher::sha256(b"")), &GetOptions::default()).await.unwrap_err();

    assert!(error.to_string().contains("sent the request on to a store that refuses it"), "{error}");
    assert_eq!((store.count(&Method::GET, "/blob"), store.count(&Method::GET, "/token")), (1, 0));
}

#[rstest]
#[case(false)]
#[case(true)]
#[tokio::test]
async fn a_mirror_is_told_nothing(#[case] by_token: bool) {
    let mirror = Server::start(move |parts| match (parts.uri.path(), by_token) {
        ("/token", _) => answer(200, r#"{"token":"t"}"#),
        (_, true) => wants_token(&format!("http://{}/token", parts.headers["host"].to_str().unwrap())),
        (_, false) => wants_password(),
    })
    .await;
    let (images, digest) = Images::of_layers("1", &[b"layer"]);
    let server = Server::start(move |parts| if basic(parts) { images.answer(parts) } else { wants_password() }).await;
    let file = format!(
        "registries:\n  docker.io:\n    endpoint: {}\n    mirrors:\n      - endpoint: {}\n",
        server.url, mirror.url
    );
    let repository = connections_by(&file).upstream_as("docker.io", "library/x", someone());

    assert_eq!(repository.get_manifest("1").await.unwrap().digest, digest);

    assert!(!mirror.seen().is_empty());
    let told = mirror.seen().into_iter().filter_map(|seen| seen.authorization);
    assert!(told.clone().all(|authorization| authorization == "Bearer t"), "{:?}", told.collect::<Vec<_>>());
}

#[tokio::test]
async fn an_identity_token_is_exchanged_in_a_form() {
    let server = Server::start(|parts| match (parts.method.as_str(), parts.uri.path()) {
        ("POST", "/token") => answer(200, r#"{"access_token":"t"}"#),
        _ if parts.headers.get("authorization").is_some_and(|value| value == "Bearer t") => answer(404, ""),
        _ => wants_token(&format!("http://{}/token", parts.headers["host"].to_str().unwrap())),
    })
    .await;

    head(&connections(&server.url), Credentials::identity_token("hush+&").ok()).await.unwrap();

    let [_, exchange, _] = server.seen().try_into().unwrap();
    assert_eq!((exchange.path.as_str(), exchange.authorization), ("/token", None));
    let form = "grant_type=refresh_token&refresh_token=hush%2B%26&client_id=cache-registry&service=it&scope=repository%3Alibrary%2Fx%3Apull";
    assert_eq!(exchange.body, form);
}

#[tokio::test]
async fn an_identity_token_is_no_password() {
    let server = Server::start(|_| wants_password()).await;

    let error = head(&connections(&server.url), Credentials::identity_token("hush").ok()).await.unwrap_err();

    assert_eq!(error.reason(), Reason::Unauthorized);
    assert!(error.to_string().contains("the credentials for it are an identity token"), "{error}");
    assert!(server.seen().iter().all(|seen| seen.authorization.is_none()));
}

#[tokio::test]
async fn a_password_is_not_sent_in_the_clear_where_the_registry_has_tls() {
    let service = Server::start(|_| answer(200, r#"{"token":"t"}"#)).await;
    let realm = service.url.to_string();
    let (address, certificate) =
        serve(
            move |parts| {
                if parts.headers.contains_key("authorization") { answer(404, "") } else { wants_token(&realm) }
            },
        )
        .await;
    let ca = certificate.replace('\n', "\n      ");
    // Named, so that a token for everybody may be asked for.
    let file = format!(
        "registries:\n  docker.io:\n    endpoint: https://{address}\n    ca: |\n      {ca}\n  {}:\n    plainHttp: true\n",
        service.host()
    );
    let connections = connections_by(&file);

    let error = head(&connections, someone()).await.unwrap_err();

    assert_eq!(error.reason(), Reason::Unauthorized);
    assert!(error.to_string().contains("would be sent the credentials without TLS"), "{error}");
    assert_eq!(service.seen(), []);
    head(&connections, None).await.unwrap();
    assert_eq!(service.seen().len(), 1);
}

#[tokio::test]
async fn no_error_holds_a_password() {
    let server = Server::start(|parts| match parts.uri.path() {
        "/token" => answer(403, ""),
        _ if parts.uri.path().contains("/basic/") => wants_password(),
        _ => wants_token(&format!("http://{}/token?account=x", parts.headers["host"].to_str().unwrap())),
    })
    .await;
    let connections = connections(&server.url);
    for credentials in [someone(), Credentials::identity_token("hush").ok()] {
        for name in ["library/x", "basic/x"] {
            let repository = connections.upstream_as("docker.io", name, credentials.clone());
            let error = repository.head_manifest("1").await.unwrap_err();
            let texts = [error.to_string(), format!("{error:?}"), format!("{repository:?}")];
            assert!(texts.iter().all(|text| !text.contains("hush") && !text.contains("c29tZW9uZTp")), "{texts:?}");
        }
    }
}

#[tokio::test]
async fn many_askers_of_one_name_fetch_one_token() {
    let given = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&given);
    let server = Server::start(move |parts| match (parts.uri.path(), parts.headers.contains_key("authorization")) {
        ("/token", _) => {
            count.fetch_add(1, Ordering::SeqCst);
            answer(200, r#"{"token":"t","expires_in":300}"#)
        }
        (_, true) => answer(404, ""),
        (_, false) => wants_token(&format!("http://{}/token", parts.headers["host"].to_str().unwrap())),
    })
    .await;
    let connections = connections(&server.url);

    // Each from a Secret of its own that holds the same.
    let askers = (0..8).map(|_| head(&connections, someone()));
    for answer in futures::future::join_all(askers).await {
        answer.unwrap();
    }

    assert_eq!(given.load(Ordering::SeqCst), 1);
}
