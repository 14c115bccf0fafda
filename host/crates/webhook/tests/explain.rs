//! What people are told of an answer is the answer that the API server gets.
#![allow(clippy::unwrap_used, reason = "what cannot be set up is a failed test")]

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cache_registry_core::{ContainerFacts, ContainerKind, Decision, NodeAddress, PodFacts, Verdict};
use cache_registry_webhook::{Decide, ExplainedContainer, Explanation, Metrics, explain, router};
use http_body_util::BodyExt as _;
use prometheus_client::registry::Registry;
use rstest::rstest;
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// Rewrites everything but what is named `ignored` or `broken`.
struct Fake;

impl Decide for Fake {
    async fn decide(&self, _: Arc<PodFacts>, containers: Vec<ContainerFacts>) -> Vec<Verdict> {
        let verdict = |container: ContainerFacts| {
            let left_alone = |reason: &str, warnings: &[&str]| Verdict {
                decision: Decision::LeftAlone { reason: reason.to_owned() },
                policy: Some("a-filter".to_owned()),
                cached_by: None,
                warnings: warnings.iter().map(|&warning| warning.to_owned()).collect(),
            };
            match container.image.repository().rsplit('/').next() {
                Some("ignored") => left_alone("not this one", &[]),
                Some("broken") => left_alone("policy a-filter panicked", &["policy a-filter panicked"]),
                _ => Verdict {
                    decision: Decision::Rewritten {
                        image: NodeAddress::default().of(&container.image),
                        source: container.image,
                    },
                    policy: Some("a-rewriter".to_owned()),
                    cached_by: Some("a-filter".to_owned()),
                    warnings: Vec::new(),
                },
            }
        };
        containers.into_iter().map(verdict).collect()
    }
}

fn review(operation: &str, object: &Value, old_object: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "1",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "operation": operation,
            "namespace": "team-a",
            "object": object,
            "oldObject": old_object,
        },
    })
}

fn pod(images: &[(&str, &str)]) -> Value {
    let containers: Vec<_> = images.iter().map(|(name, image)| json!({"name": name, "image": image})).collect();
    json!({"metadata": {"name": "web"}, "spec": {"containers": containers}})
}

async fn explained(review: &Value) -> Explanation {
    explain(&review.to_string(), &Fake, &NodeAddress::default()).await.unwrap()
}

async fn only_container(review: &Value) -> ExplainedContainer {
    let explanation = explained(review).await;
    assert_eq!(explanation.containers.len(), 1, "{explanation:?}");
    explanation.containers.into_iter().next().unwrap()
}

/// The patch and the warnings of the router.
async fn answered(review: &Value) -> (Value, Vec<String>) {
    let router = router(Arc::new(Fake), NodeAddress::default(), Metrics::register(&mut Registry::default()));
    let request = Request::post("/mutate/pods").header(header::CONTENT_TYPE, "application/json");
    let response = router.oneshot(request.body(Body::from(review.to_string())).unwrap()).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&body).unwrap();
    let patch = answer["response"]["patch"].as_str();
    let patch = patch.map_or(json!([]), |patch| serde_json::from_slice(&STANDARD.decode(patch).unwrap()).unwrap());
    (patch, serde_json::from_value(answer["response"]["warnings"].clone()).unwrap_or_default())
}

#[tokio::test]
async fn a_container_has_who_decided_what_and_why() {
    let object = json!({
        "metadata": {"name": "web"},
        "spec": {
            "initContainers": [{"name": "first", "image": "ignored"}],
            "containers": [{"name": "web", "image": "nginx:1.27"}, {"name": "odd", "image": "Not A Reference"}],
        },
    });
    let Explanation { namespace, name, containers, warnings, .. } =
        explained(&review("CREATE", &object, &json!(null))).await;
    assert_eq!((namespace.as_str(), name.as_deref()), ("team-a", Some("web")));
    let left_alone = |name: &str, kind, image: &str, policy: Option<&str>, reason: &str| ExplainedContainer {
        name: name.to_owned(),
        kind,
        original: image.to_owned(),
        image: image.to_owned(),
        source: None,
        policy: policy.map(ToOwned::to_owned),
        reason: reason.to_owned(),
    };
    let rewritten = ExplainedContainer {
        name: "web".to_owned(),
        kind: ContainerKind::Regular,
        original: "nginx:1.27".to_owned(),
        image: "localhost:7439/docker.io/library/nginx:1.27".to_owned(),
        source: Some("docker.io/library/nginx:1.27".parse().unwrap()),
        policy: Some("a-rewriter".to_owned()),
        reason: "it is to be cached, says a-filter".to_owned(),
    };
    assert_eq!(containers[0], left_alone("first", ContainerKind::Init, "ignored", Some("a-filter"), "not this one"));
    assert_eq!(containers[1], rewritten);
    assert_eq!((containers[2].source.clone(), containers[2].policy.clone()), (None, None));
    assert!(containers[2].reason.contains("is not an image reference"), "{}", containers[2].reason);
    assert_eq!(warnings, Vec::<String>::new());
}

#[rstest]
#[case::created(review("CREATE", &pod(&[("a", "nginx"), ("b", "broken"), ("c", "ignored")]), &json!(null)))]
#[case::updated(review("UPDATE", &pod(&[("a", "nginx:2"), ("b", "b")]), &pod(&[("a", "nginx:1"), ("b", "b")])))]
#[case::rewritten_before(review("CREATE", &pod(&[("a", "localhost:7439/docker.io/library/nginx:1")]), &json!(null)))]
#[case::deleted(review("DELETE", &json!(null), &pod(&[("a", "nginx")])))]
#[tokio::test]
async fn the_patch_and_the_warnings_are_those_of_the_router(#[case] review: Value) {
    let (patch, warnings) = answered(&review).await;
    let explanation = explained(&review).await;
    assert_eq!((json!(explanation.patch), explanation.warnings), (patch, warnings));
}

#[rstest]
#[case::opted_out("labels", "cache-registry.enix.io/image-caching-policy", "ignore", "is labelled")]
#[case::mirror("annotations", "kubernetes.io/config.mirror", "0a1b", "static pod")]
#[tokio::test]
async fn a_pod_that_is_not_looked_at_says_why(
    #[case] map: &str,
    #[case] key: &str,
    #[case] value: &str,
    #[case] reason: &str,
) {
    let mut object = pod(&[("web", "nginx")]);
    object["metadata"][map] = json!({key: value});
    let container = only_container(&review("CREATE", &object, &json!(null))).await;
    assert_eq!((container.source, container.policy), (None, None));
    assert!(container.reason.contains(reason), "{}", container.reason);
}

#[tokio::test]
async fn an_image_that_was_rewritten_before_has_its_source() {
    let node = "localhost:7439/docker.io/library/nginx:1";
    let container = only_container(&review("CREATE", &pod(&[("web", node)]), &json!(null))).await;
    assert_eq!(container.source.unwrap().to_string(), "docker.io/library/nginx:1");
    assert_eq!((container.image.as_str(), container.reason.as_str()), (node, "it is at the node address already"));

    let container = only_container(&review("UPDATE", &pod(&[("web", "nginx")]), &pod(&[("web", "nginx")]))).await;
    assert_eq!((container.source, container.reason.as_str()), (None, "it is not changed by this update"));
}

#[tokio::test]
async fn a_pod_without_room_for_the_record_is_said_to_be_left_alone() {
    let mut object = pod(&[("web", "nginx")]);
    object["metadata"]["annotations"] = json!({"full": "x".repeat(256 << 10)});
    let review = review("CREATE", &object, &json!(null));
    let container = only_container(&review).await;
    assert_eq!((container.source, container.image.as_str()), (None, "nginx"));
    assert!(container.reason.contains("no room"), "{}", container.reason);
    assert_eq!(answered(&review).await.0, json!([]));
}

#[tokio::test]
async fn what_is_no_pod_is_told_with_its_place() {
    let mut object = pod(&[("web", "nginx")]);
    object["spec"]["containers"][0]["image"] = json!(7);
    let text = review("CREATE", &object, &json!(null)).to_string();
    let refusal = explain(&text, &Fake, &NodeAddress::default()).await.unwrap_err();
    let no_pod = refusal.no_pod().unwrap();
    assert_eq!(no_pod.field, "object");
    assert_eq!(object.to_string().as_bytes()[no_pod.column - 1], b'7', "{}", no_pod.problem);
    assert!(no_pod.problem.contains("expected a string"), "{}", no_pod.problem);

    let refusal = explain("{}", &Fake, &NodeAddress::default()).await.unwrap_err();
    assert_eq!(refusal.no_pod(), None);
}
