//! Upstreams that do not let everybody in: with tokens that the controllers give.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use cache_registry_registry::Credentials;
use http_body_util::BodyExt as _;
use tokio::net::TcpListener;

use crate::client::{Got, get};
use crate::node::{Node, UPSTREAM, nobody, noise};
use crate::origin::{Mood, Origin};

/// What the controllers were asked: `Authorization` and the body.
type Asked = Arc<Mutex<Vec<(String, String)>>>;

/// The status and the body of their answer.
type Answer = Arc<Mutex<(u16, String)>>;

/// The controllers, which give this answer to everybody.
struct Controllers {
    address: SocketAddr,
    asked: Asked,
    answer: Answer,
}

impl Controllers {
    async fn giving(token: &str, seconds: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, answer) = (Asked::default(), Arc::new(Mutex::new((200, String::new()))));
        let router = Router::new().fallback(answered).with_state((asked.clone(), answer.clone()));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let controllers = Self { address, asked, answer };
        controllers.give(token, seconds);
        controllers
    }

    fn give(&self, token: &str, seconds: u64) {
        *self.answer.lock().unwrap() = (200, format!(r#"{{"token":"{token}","expiresIn":{seconds}}}"#));
    }

    fn refuse(&self, status: u16, message: &str) {
        *self.answer.lock().unwrap() = (status, format!(r#"{{"message":"{message}"}}"#));
    }

    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

async fn answered(State((asked, answer)): State<(Asked, Answer)>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let authorization = parts.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let what = format!("{} {} {}", parts.method, parts.uri.path(), String::from_utf8_lossy(&body));
    asked.lock().unwrap().push((authorization.unwrap_or_default(), what));
    let (status, text) = answer.lock().unwrap().clone();
    Response::builder().status(status).body(text.into()).unwrap()
}

/// A proxy whose cache has nothing, and whose upstream lets in who shows the token `t1`.
struct Private {
    upstream: Origin,
    node: Node,
    bytes: Bytes,
    blob: Bytes,
    digest: String,
}

const MANIFEST: &str = "/v2/reg.test/app/manifests/1";

impl Private {
    async fn start(controllers: SocketAddr) -> Self {
        let (cache, upstream) = (Origin::start().await, Origin::start().await);
        let node = Node::start_with(cache.address, upstream.address, |config| {
            config.pull_tokens = Some(format!("http://{controllers}").parse().unwrap());
            config.tag_memory = Duration::ZERO;
            config.manifest_memory = 0;
        })
        .await;
        node.connections.set_cache_credentials(Credentials::of_line(b"proxy:hush").ok());
        let (bytes, blob) = (noise(2_000), noise(50_000));
        upstream.manifest(UPSTREAM, "1", &bytes);
        let digest = upstream.blob(UPSTREAM, &blob);
        upstream.mood(Mood::Guarded("Bearer t1"));
        Self { upstream, node, bytes, blob, digest }
    }

    async fn pull(&self) -> Got {
        get(self.node.address, MANIFEST).await
    }

    async fn pulls(&self) {
        let got = self.pull().await;
        assert_eq!((got.status, &got.body), (200, &self.bytes));
    }

    /// What each request to upstream was in the name of.
    fn shown(&self) -> Vec<String> {
        self.upstream.seen().iter().map(|seen| seen.header("authorization")).collect()
    }
}

#[tokio::test]
async fn an_upstream_that_refuses_is_asked_with_a_token_and_from_then_on() {
    let controllers = Controllers::giving("t1", 300).await;
    let private = Private::start(controllers.address).await;
    private.pulls().await;
    let blob = get(private.node.address, &format!("/v2/reg.test/app/blobs/{}", private.digest)).await;
    assert_eq!((blob.status, &blob.body), (200, &private.blob));

    assert_eq!(private.shown(), ["", "Bearer t1", "Bearer t1"]);
    let asked = controllers.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 1);
    // The password that the cache is shown, `proxy:hush`.
    assert_eq!(asked[0].0, "Basic cHJveHk6aHVzaA==");
    assert_eq!(asked[0].1, r#"POST /pull-token {"registry":"reg.test","repository":"app"}"#);
}

#[tokio::test]
async fn nobody_is_asked_for_what_everybody_may_pull() {
    let controllers = Controllers::giving("t1", 300).await;
    let private = Private::start(controllers.address).await;
    for mood in [Mood::Well, Mood::Status(404), Mood::Status(500)] {
        private.upstream.mood(mood);
        private.pull().await;
    }
    assert_eq!(controllers.count(), 0);
}

#[tokio::test]
async fn a_token_is_asked_for_once_however_many_need_it() {
    let controllers = Controllers::giving("t1", 300).await;
    let private = Private::start(controllers.address).await;
    futures::future::join_all((0..20).map(|_| private.pulls())).await;
    assert_eq!(controllers.count(), 1);
}

#[tokio::test]
async fn a_token_that_has_run_out_or_is_refused_is_asked_for_anew() {
    let controllers = Controllers::giving("t1", 0).await;
    let private = Private::start(controllers.address).await;
    private.pulls().await;
    private.pulls().await;
    assert_eq!(
        (controllers.count(), private.shown()),
        (2, vec![String::new(), "Bearer t1".to_owned(), String::new(), "Bearer t1".to_owned()])
    );

    controllers.give("t1", 300);
    private.pulls().await;
    private.upstream.mood(Mood::Guarded("Bearer t2"));
    controllers.give("t2", 300);
    private.pulls().await;
    assert_eq!(controllers.count(), 4);
    private.pulls().await;
    assert_eq!((controllers.count(), private.shown().last().unwrap().as_str()), (4, "Bearer t2"));
}

#[tokio::test]
async fn who_has_a_secret_does_not_share_the_limit_of_those_who_have_none() {
    let controllers = Controllers::giving("t1", 300).await;
    let private = Private::start(controllers.address).await;
    private.upstream.mood(Mood::Limited("Bearer t1"));
    private.pulls().await;
    private.pulls().await;
    assert_eq!((controllers.count(), private.shown().len()), (1, 3));

    // A limit of the account is one for all, and left alone.
    private.upstream.mood(Mood::Limited("nobody"));
    assert_eq!(private.pull().await.status, 429);
    assert_eq!(private.pull().await.status, 429);
    assert_eq!((controllers.count(), private.shown().len()), (1, 4));
}

#[tokio::test]
async fn the_controllers_words_are_passed_on() {
    let controllers = Controllers::giving("t1", 300).await;
    let private = Private::start(controllers.address).await;
    controllers.refuse(501, "the registry takes passwords alone");
    let got = private.pull().await;
    assert_eq!((got.status, got.header("www-authenticate")), (401, ""));
    assert!(got.phrase.contains("the registry takes passwords alone"), "{}", got.phrase);

    // It is no answer that stays.
    controllers.give("t1", 300);
    private.pulls().await;
}

#[tokio::test]
async fn controllers_that_are_not_there_are_told_and_asked_again() {
    let private = Private::start(nobody().await).await;
    let got = private.pull().await;
    assert_eq!(got.status, 401);
    assert!(got.phrase.contains("the controllers do not answer"), "{}", got.phrase);

    private.node.connections.set_cache_credentials(None);
    let got = private.pull().await;
    assert!(got.phrase.contains("no password yet"), "{}", got.phrase);

    private.upstream.mood(Mood::Well);
    private.pulls().await;
}

#[tokio::test]
async fn an_answer_that_is_no_token_is_none_and_is_not_told() {
    let controllers = Controllers::giving("t1", 300).await;
    let private = Private::start(controllers.address).await;
    for (status, text) in [(200, "hush"), (200, r#"{"token":"hush hush","expiresIn":300}"#), (500, "hush")] {
        *controllers.answer.lock().unwrap() = (status, text.to_owned());
        let got = private.pull().await;
        let (_, message) = got.error();
        assert!(got.status == 401 && !message.contains("hush"), "{} {message}", got.status);
    }
}
