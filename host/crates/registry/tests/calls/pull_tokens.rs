//! Access that is handed on: what for, and where it goes.

use axum::response::Response;
use cache_registry_core::{Hasher, Reason};
use cache_registry_registry::{Connections, Credentials, GetOptions, HandedOn, Object};
use cache_registry_upstream::{Access, Image, Upstream};
use http::request::Parts;
use rstest::rstest;

use crate::images::Images;
use crate::server::{Server, answer, answer_with};
use crate::{connections, connections_by};

fn someone(password: &str) -> Option<Credentials> {
    Credentials::password("someone", password).ok()
}

async fn private(access: Access) -> (Upstream, Connections) {
    let upstream = Upstream::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    upstream.add("library/x", "1", &Image::hello(b"program").unwrap());
    upstream.set_access(access);
    let url = format!("http://{}", upstream.address()).parse().unwrap();
    (upstream, connections(&url))
}

fn with_tokens() -> Access {
    Access::Credentials { username: "someone".to_owned(), password: "hush".to_owned() }
}

async fn handed_on(connections: &Connections, password: &str, tag: &str) -> Result<HandedOn, Reason> {
    let repository = connections.upstream_as("docker.io", "library/x", someone(password));
    repository.hand_on(tag).await.map_err(|error| error.reason())
}

#[rstest]
#[case::that_is_there("1")]
#[case::that_is_not_there("2")]
#[tokio::test]
async fn a_token_serves_who_it_is_handed_on_to(#[case] tag: &str) {
    let (upstream, connections) = private(with_tokens()).await;
    let HandedOn::Token(token) = handed_on(&connections, "hush", tag).await.unwrap() else { panic!("no token") };
    assert!((200..=300).contains(&token.lasts().as_secs()), "{:?}", token.lasts());

    let url = format!("http://{}", upstream.address()).parse().unwrap();
    let others = crate::connections(&url);
    upstream.reset_traffic();
    let repository = others.upstream_as("docker.io", "library/x", Credentials::pull_token(token.secret()).ok());
    assert_eq!(repository.get_manifest("1").await.unwrap().digest, *Image::hello(b"program").unwrap().digest());
    // Unasked, and nothing else was.
    let shown: Vec<_> = upstream.traffic().requests.into_iter().map(|request| request.authorization).collect();
    assert_eq!(shown, [Some("Bearer".to_owned())]);
}

#[rstest]
#[case::open(Access::Open, "hush", Ok(HandedOn::NotNeeded))]
#[case::password(
    Access::Password { username: "someone".to_owned(), password: "hush".to_owned() },
    "hush",
    Ok(HandedOn::Password)
)]
#[case::wrong(with_tokens(), "wrong", Err(Reason::Unauthorized))]
#[tokio::test]
async fn where_there_is_no_token_it_is_said_why(
    #[case] access: Access,
    #[case] password: &str,
    #[case] expected: Result<HandedOn, Reason>,
) {
    let (_upstream, connections) = private(access).await;
    assert_eq!(handed_on(&connections, password, "1").await, expected);
}

/// A registry with a token service of its own that names this scope.
fn registry(scope: &'static str) -> impl Fn(&Parts) -> Response {
    move |parts| match (parts.uri.path(), parts.headers.contains_key("authorization")) {
        ("/token", _) => answer(200, r#"{"token":"t","expires_in":300}"#),
        (_, true) => answer(200, ""),
        _ => {
            let host = parts.headers["host"].to_str().unwrap();
            let challenge = format!(r#"Bearer realm="http://{host}/token",scope="{scope}""#);
            answer_with(401, &[("www-authenticate", &challenge)], "")
        }
    }
}

#[rstest]
#[case("repository:library/x:pull", false)]
#[case("repository:library/x:pull,push", true)]
#[case("*", true)]
#[tokio::test]
async fn a_token_that_is_good_for_more_is_not_handed_on(#[case] scope: &'static str, #[case] is_too_good: bool) {
    let server = Server::start(registry(scope)).await;
    let answer = handed_on(&connections(&server.url), "hush", "1").await.unwrap();
    assert_eq!(answer == HandedOn::TooGood, is_too_good, "{answer:?}");
}

#[tokio::test]
async fn a_token_that_was_handed_on_goes_to_the_registry_alone() {
    let (images, _) = Images::of_layers("1", &[b"layer"]);
    let store = Server::start(move |parts| images.answer(parts)).await;
    let mirror = Server::start(|_| answer(404, "")).await;
    let elsewhere = store.url.clone();
    let server = Server::start(move |parts| {
        answer_with(307, &[("location", elsewhere.join(parts.uri.path()).unwrap().as_str())], "")
    })
    .await;
    let file = format!(
        "registries:\n  docker.io:\n    endpoint: {}\n    mirrors: [{{endpoint: '{}'}}]\n  {}:\n    plainHttp: true\n",
        server.url,
        mirror.url,
        store.host()
    );
    let token = Credentials::pull_token("hush").ok();
    let repository = connections_by(&file).upstream_as("docker.io", "library/x", token);
    let blob = Object::Blob(Hasher::sha256(b"layer"));
    assert_eq!(repository.get(&blob, &GetOptions::default()).await.unwrap().status(), 200);

    let shown = |server: &Server| server.seen().iter().map(|seen| seen.authorization.clone()).collect::<Vec<_>>();
    assert_eq!(shown(&server), [Some("Bearer hush".to_owned())]);
    assert_eq!((shown(&mirror), shown(&store)), (vec![None], vec![None]));
}

#[tokio::test]
async fn a_token_that_is_refused_is_not_exchanged_for_another_one() {
    let server = Server::start(|parts| {
        let host = parts.headers["host"].to_str().unwrap();
        answer_with(401, &[("www-authenticate", &format!(r#"Bearer realm="http://{host}/token""#))], "")
    })
    .await;
    let repository =
        connections(&server.url).upstream_as("docker.io", "library/x", Credentials::pull_token("hush").ok());
    let error = repository.head_manifest("1").await.unwrap_err();
    assert_eq!((error.reason(), server.seen().len()), (Reason::Unauthorized, 1));
    assert!(!error.to_string().contains("hush"), "{error}");
}

#[rstest]
#[case("")]
#[case("two words")]
#[case("a\r\nb")]
#[case("é")]
fn a_token_is_one_word(#[case] text: &str) {
    let error = Credentials::pull_token(text).unwrap_err().to_string();
    assert!(text.is_empty() || !error.contains(text), "{error}");
}
