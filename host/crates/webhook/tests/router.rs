//! The router, asked directly: what a client sees of a review, and of what is none.
#![allow(clippy::unwrap_used, reason = "what cannot be set up is a failed test")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cache_registry_core::{ContainerFacts, Decision, NodeAddress, PodFacts, Verdict};
use cache_registry_webhook::{Decide, Metrics, router};
use http_body_util::BodyExt as _;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// Rewrites everything, except that an image named `broken` has a policy fail, at length.
#[derive(Default)]
struct Fake {
    calls: AtomicUsize,
}

impl Decide for Fake {
    async fn decide(&self, _: Arc<PodFacts>, containers: Vec<ContainerFacts>) -> Vec<Verdict> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let verdict = |container: ContainerFacts| {
            if container.image.repository().ends_with("broken") {
                let decision = Decision::LeftAlone { reason: "a policy failed".to_owned() };
                return Verdict { decision, policy: None, cached_by: None, warnings: vec!["é\n".repeat(400)] };
            }
            let image = NodeAddress::default().of(&container.image);
            let decision = Decision::Rewritten { image, source: container.image };
            Verdict { decision, policy: Some("fake".to_owned()), cached_by: None, warnings: Vec::new() }
        };
        containers.into_iter().map(verdict).collect()
    }
}

struct Webhook {
    router: Router,
    decide: Arc<Fake>,
    registry: Registry,
}

impl Webhook {
    fn new() -> Self {
        let (decide, mut registry) = (Arc::new(Fake::default()), Registry::default());
        let metrics = Metrics::register(&mut registry);
        Self { router: router(decide.clone(), NodeAddress::default(), metrics), decide, registry }
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, Bytes) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        (response.status(), response.into_body().collect().await.unwrap().to_bytes())
    }

    async fn post(&self, body: impl Into<Body>) -> (StatusCode, Bytes) {
        self.send(review_request("application/json").body(body.into()).unwrap()).await
    }

    async fn response(&self, review: &Value) -> Value {
        let (status, body) = self.post(serde_json::to_vec(review).unwrap()).await;
        assert_eq!(status, StatusCode::OK, "{body:?}");
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&answer["apiVersion"], &answer["kind"]),
            (&json!("admission.k8s.io/v1"), &json!("AdmissionReview"))
        );
        answer["response"].clone()
    }

    fn metrics(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.registry).unwrap();
        out
    }
}

fn review_request(content_type: &str) -> axum::http::request::Builder {
    // The API server sends its own timeout along.
    Request::post("/mutate/pods?timeout=5s").header(header::CONTENT_TYPE, content_type)
}

fn review(image: &str) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "an \"uid\"",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "operation": "CREATE",
            "namespace": "team-a",
            "object": {"metadata": {"name": "web"}, "spec": {"containers": [{"name": "web", "image": image}]}},
        },
    })
}

#[tokio::test]
async fn a_review_is_answered_with_its_uid_and_a_patch_in_base64() {
    let response = Webhook::new().response(&review("nginx")).await;
    assert_eq!((&response["uid"], &response["allowed"]), (&json!("an \"uid\""), &json!(true)));
    assert_eq!(response["patchType"], json!("JSONPatch"));
    assert_eq!(response.get("warnings"), None);
    let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let patch: Value = serde_json::from_slice(&patch).unwrap();
    let image = "localhost:7439/docker.io/library/nginx:latest";
    assert_eq!(patch[1], json!({"op": "replace", "path": "/spec/containers/0/image", "value": image}));
}

#[tokio::test]
async fn a_pod_that_is_as_it_should_be_gets_no_patch_and_asks_no_policy() {
    let webhook = Webhook::new();
    let mut review = review("nginx");
    review["request"]["object"]["metadata"]["labels"] =
        json!({"cache-registry.enix.io/image-caching-policy": "ignore"});
    assert_eq!(webhook.response(&review).await, json!({"uid": "an \"uid\"", "allowed": true}));
    review["request"]["operation"] = json!("DELETE");
    assert_eq!(webhook.response(&review).await, json!({"uid": "an \"uid\"", "allowed": true}));
    assert_eq!(webhook.decide.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_policy_that_fails_is_a_warning_that_the_api_server_can_pass_on() {
    let response = Webhook::new().response(&review("broken")).await;
    assert_eq!(response["allowed"], json!(true));
    let warnings = response["warnings"].as_array().unwrap();
    let warning = warnings[0].as_str().unwrap();
    assert!(warning.starts_with("cache-registry: container web: é é"), "{warning}");
    assert!(warning.len() <= 256 && !warning.contains('\n') && warnings.len() == 1);
}

#[rstest]
#[case::exact("application/json", StatusCode::OK)]
#[case::parameter("Application/JSON; charset=utf-8", StatusCode::OK)]
#[case::form("application/x-www-form-urlencoded", StatusCode::UNSUPPORTED_MEDIA_TYPE)]
#[case::patch("application/json-patch+json", StatusCode::UNSUPPORTED_MEDIA_TYPE)]
#[tokio::test]
async fn only_json_is_read(#[case] content_type: &str, #[case] expected: StatusCode) {
    let body = Body::from(review("nginx").to_string());
    let (status, text) = Webhook::new().send(review_request(content_type).body(body).unwrap()).await;
    assert_eq!(status, expected);
    assert!(status.is_success() || text == "expected Content-Type application/json\n");
}

#[tokio::test]
async fn a_content_type_is_needed() {
    let request = Request::post("/mutate/pods").body(Body::from(review("nginx").to_string())).unwrap();
    assert_eq!(Webhook::new().send(request).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[rstest]
#[case("{", "expected an AdmissionReview in JSON")]
#[case(r#"{"apiVersion":"v1","kind":"Pod"}"#, "expected kind AdmissionReview of admission.k8s.io/v1, got")]
#[case(r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#, "with a request")]
#[tokio::test]
async fn garbage_is_a_400_that_says_what_was_expected(#[case] body: &'static str, #[case] expected: &str) {
    let webhook = Webhook::new();
    let (status, text) = webhook.post(body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(String::from_utf8_lossy(&text).contains(expected), "{text:?}");
    let text = webhook.metrics();
    assert!(text.contains(r#"cache_registry_webhook_reviews_total{outcome="refused"} 1"#), "{text}");
    assert!(text.contains(r#"cache_registry_webhook_refusals_total{reason="malformed"} 1"#), "{text}");
    assert!(text.contains(r#"cache_registry_webhook_refusals_total{reason="too_large"} 0"#), "{text}");
}

#[tokio::test]
async fn what_it_quotes_of_garbage_is_bounded() {
    let mut review = review("nginx");
    review["request"]["object"]["spec"] = json!("x".repeat(1_000_000));
    let (status, text) = Webhook::new().post(review.to_string()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.len() <= 520 && text.starts_with(b"expected request.object to be a Pod"), "{} bytes", text.len());
}

#[rstest]
#[case::fits(8 * 1024 * 1024, StatusCode::BAD_REQUEST)]
#[case::too_large(8 * 1024 * 1024 + 1, StatusCode::PAYLOAD_TOO_LARGE)]
#[tokio::test]
async fn a_body_has_a_longest_length(#[case] length: usize, #[case] expected: StatusCode) {
    assert_eq!(Webhook::new().post(vec![b' '; length]).await.0, expected);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let never = futures::stream::pending::<Result<Bytes, Infallible>>();
    let webhook = Webhook::new();
    let answer = tokio::time::timeout(Duration::from_mins(1), webhook.post(Body::from_stream(never))).await;
    assert_eq!(answer.unwrap().0, StatusCode::REQUEST_TIMEOUT);
}

#[rstest]
#[case::method(Request::get("/mutate/pods"), StatusCode::METHOD_NOT_ALLOWED)]
#[case::path(Request::post("/mutate/deployments"), StatusCode::NOT_FOUND)]
#[tokio::test]
async fn there_is_nothing_else(#[case] request: axum::http::request::Builder, #[case] expected: StatusCode) {
    assert_eq!(Webhook::new().send(request.body(Body::empty()).unwrap()).await.0, expected);
}

#[tokio::test]
async fn what_happened_is_counted() {
    let webhook = Webhook::new();
    let zero = webhook.metrics();
    assert!(zero.contains(r#"cache_registry_webhook_images_total{decision="policy_failed"} 0"#), "{zero}");
    webhook.response(&review("nginx")).await;
    webhook.response(&review("broken")).await;
    webhook.response(&review("Not An Image")).await;
    let text = webhook.metrics();
    for line in [
        r#"cache_registry_webhook_reviews_total{outcome="patched"} 3"#,
        r#"cache_registry_webhook_images_total{decision="rewritten"} 1"#,
        r#"cache_registry_webhook_images_total{decision="policy_failed"} 1"#,
        r#"cache_registry_webhook_images_total{decision="left_alone"} 1"#,
        "cache_registry_webhook_review_duration_seconds_count 3",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

fn status_of(body: Vec<u8>) -> StatusCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Webhook::new().post(body)).0
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(status_of(bytes), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn no_damaged_review_makes_it_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut body = review("nginx").to_string().into_bytes();
        for (place, byte) in edits {
            let place = place.index(body.len());
            body[place] = byte;
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        let status = status_of(body);
        prop_assert!(status == StatusCode::OK || status == StatusCode::BAD_REQUEST, "{}", status);
    }
}
