use super::*;
use crate::mock_api::MockApi;
use axum::http::Method;
use axum::http::header::AUTHORIZATION;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use cache_registry_registry::{Registries, Timeouts};
use cache_registry_upstream::{Access, Image, Upstream};
use k8s_openapi::api::core::v1::Secret;
use kube_runtime::watcher::Event;
use rstest::rstest;
use serde_json::{Value, json};

const LINE: &str = "proxy:of-the-proxies";
const PASSWORD: &str = "hush-hush";

/// The server without its socket, with an upstream `reg.example` that has `app:1`.
struct World {
    upstream: Upstream,
    api: MockApi,
    tokens: PullTokens,
}

impl World {
    async fn start(access: Access) -> Self {
        let upstream = Upstream::start(([127, 0, 0, 1], 0).into()).await.unwrap();
        upstream.add("app", "1", &Image::hello(b"app").unwrap());
        upstream.set_access(access);
        let file = format!("registries: {{reg.example: {{endpoint: 'http://{}'}}}}", upstream.address());
        let connections = Connections::new(Registries::parse(&file).unwrap(), Timeouts::default()).unwrap();
        let (client, api) = MockApi::new();
        let secrets = PullSecrets::new(client.clone(), true);
        let tokens = PullTokens::new(&client, "system", "credentials", NodeAddress::default(), secrets, connections);
        let secret = json!({"metadata": {"name": "credentials"}, "data": {"proxy": BASE64_STANDARD.encode(LINE)}});
        tokens.0.proxies.learn(&serde_json::from_value::<Secret>(secret).unwrap());
        Self { upstream, api, tokens }
    }

    /// With a pod that uses `app:1` and names a Secret; it holds this password.
    async fn with_pod(access: Access, password: &str) -> Self {
        let world = Self::start(access).await;
        world.lists(&[pod("app:1", Some("regcred"))]);
        let config = json!({"auths": {"reg.example": {"username": "someone", "password": password}}});
        let secret = json!({
            "metadata": {"name": "regcred"}, "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": BASE64_STANDARD.encode(config.to_string())},
        });
        let mut world = world;
        let mut api = std::mem::replace(&mut world.api, MockApi::new().1);
        tokio::spawn(async move {
            loop {
                api.expect(Method::GET, "/api/v1/namespaces/ns/secrets/regcred").await.answer(&secret);
            }
        });
        world
    }

    fn lists(&self, pods: &[Value]) {
        self.tokens.pods().see(&Event::Init);
        for pod in pods {
            self.tokens.pods().see(&Event::InitApply(serde_json::from_value(pod.clone()).unwrap()));
        }
        self.tokens.pods().see(&Event::InitDone);
    }

    async fn asks(&self, line: &str, repository: &str) -> Result<PullToken, Refusal> {
        let authorization = format!("Basic {}", BASE64_STANDARD.encode(line));
        let headers = HeaderMap::from_iter([(AUTHORIZATION, authorization.parse().unwrap())]);
        let body = json!({"registry": "reg.example", "repository": repository}).to_string();
        self.tokens.answer(&headers, body.as_bytes()).await
    }

    async fn refused(&self, repository: &str) -> (u16, String) {
        let refusal = self.asks(LINE, repository).await.unwrap_err();
        (refusal.status.as_u16(), refusal.message)
    }
}

fn pod(image: &str, secret: Option<&str>) -> Value {
    let secrets: Vec<_> = secret.iter().map(|name| json!({"name": name})).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "ns", "name": image.replace(':', "-")},
        "spec": {
            "containers": [{"name": "main", "image": format!("localhost:7439/reg.example/{image}")}],
            "imagePullSecrets": secrets,
        },
    })
}

fn credentials() -> Access {
    Access::Credentials { username: "someone".to_owned(), password: PASSWORD.to_owned() }
}

#[tokio::test]
async fn a_token_lets_its_holder_pull_what_a_pod_uses_and_nothing_else() {
    let world = World::with_pod(credentials(), PASSWORD).await;
    let token = world.asks(LINE, "app").await.unwrap();
    assert!((200..=300).contains(&token.lasts().as_secs()), "{token:?}");
    assert!(!format!("{token:?}").contains(token.secret()), "{token:?}");

    // Whoever has it needs nothing more.
    let file = format!("registries: {{reg.example: {{endpoint: 'http://{}'}}}}", world.upstream.address());
    let connections = Connections::new(Registries::parse(&file).unwrap(), Timeouts::default()).unwrap();
    let handed_on = cache_registry_registry::Credentials::pull_token(token.secret()).unwrap();
    let repository = |name| connections.upstream_as("reg.example", name, Some(handed_on.clone()));
    assert!(repository("app").head_manifest("1").await.unwrap().is_some());
    world.upstream.add("other", "1", &Image::hello(b"other").unwrap());
    assert!(repository("other").head_manifest("1").await.is_err());

    assert_eq!(world.refused("other").await, (404, "no pod uses it".to_owned()));
}

#[rstest]
#[case::wrong_password("proxy:guessed")]
#[case::somebody_else("controllers:of-the-proxies")]
#[tokio::test]
async fn who_is_no_proxy_gets_nothing_and_nothing_is_asked(#[case] line: &str) {
    let world = World::with_pod(credentials(), PASSWORD).await;
    assert_eq!(world.asks(line, "app").await.unwrap_err().status, StatusCode::UNAUTHORIZED);
    assert_eq!(world.upstream.traffic().requests.len(), 0);
}

#[tokio::test]
async fn before_the_password_is_known_nobody_is_let_in() {
    let (client, _api) = MockApi::new();
    let proxies = Proxies::new(client, "system", "credentials");
    assert_eq!(proxies.admit(&HeaderMap::new()).unwrap_err().status, StatusCode::SERVICE_UNAVAILABLE);
    // A Secret of no use makes nobody known.
    proxies.learn(&Secret::default());
    assert_eq!(proxies.admit(&HeaderMap::new()).unwrap_err().status, StatusCode::SERVICE_UNAVAILABLE);
}

#[rstest]
#[case::wrong(credentials(), "wrong", 403, "refuses the pull secrets")]
#[case::of_passwords(
    Access::Password { username: "someone".to_owned(), password: PASSWORD.to_owned() },
    PASSWORD,
    501,
    "takes passwords alone"
)]
#[case::open(Access::Open, PASSWORD, 409, "without one")]
#[tokio::test]
async fn why_there_is_no_token_is_told_without_names_and_secrets(
    #[case] access: Access,
    #[case] password: &str,
    #[case] status: u16,
    #[case] words: &str,
) {
    let world = World::with_pod(access, password).await;
    let (code, message) = world.refused("app").await;
    assert_eq!(code, status, "{message}");
    assert!(message.contains(words), "{message}");
    for secret in ["regcred", PASSWORD, "someone"] {
        assert!(!message.contains(secret), "{message}");
    }
}

#[tokio::test]
async fn a_pod_without_a_pull_secret_brings_no_token() {
    let world = World::start(credentials()).await;
    world.lists(&[pod("app:1", None)]);
    let (status, message) = world.refused("app").await;
    assert_eq!(status, 404);
    assert!(message.starts_with("no pod that uses it names a pull secret. Give its pods"), "{message}");
    assert!(message.contains("name it in controllers.webhook.nodeRegistries"), "{message}");
    assert_eq!(world.upstream.traffic().requests.len(), 0);
}

#[tokio::test]
async fn a_pod_that_was_just_admitted_is_waited_for() {
    let world = World::with_pod(credentials(), PASSWORD).await;
    let admitted = async {
        tokio::task::yield_now().await;
        let another = serde_json::from_value(pod("late/app:1", Some("regcred"))).unwrap();
        world.upstream.add("late/app", "1", &Image::hello(b"late").unwrap());
        world.tokens.pods().see(&Event::Apply(another));
    };
    let (token, ()) = tokio::join!(world.asks(LINE, "late/app"), admitted);
    token.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_yet_is_not_said_to_be_unused() {
    let world = World::start(credentials()).await;
    assert_eq!(world.refused("app").await.0, 503);
    world.lists(&[]);
    assert_eq!(world.refused("app").await, (404, "no pod uses it".to_owned()));
}

#[tokio::test]
async fn a_request_of_another_form_is_refused() {
    let world = World::start(Access::Open).await;
    let authorization = format!("Basic {}", BASE64_STANDARD.encode(LINE));
    let headers = HeaderMap::from_iter([(AUTHORIZATION, authorization.parse().unwrap())]);
    for body in ["", "{}", r#"{"registry":"reg.example"}"#, "[1]"] {
        let refusal = world.tokens.answer(&headers, body.as_bytes()).await.unwrap_err();
        assert_eq!(refusal.status, StatusCode::BAD_REQUEST, "{body}");
    }
}
