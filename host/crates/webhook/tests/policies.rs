//! The router with the policies that are built in, as a cluster runs it.
#![allow(clippy::unwrap_used, reason = "what cannot be set up is a failed test")]

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cache_registry_core::NodeAddress;
use cache_registry_policy::built_in::ReleaseSettings;
use cache_registry_policy::{Engine, HostFacts, Limits, Observer, Policies, PolicySet};
use cache_registry_webhook::{Metrics, router};
use http_body_util::BodyExt as _;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tower::ServiceExt as _;

#[tokio::test]
async fn the_built_in_policies_decide() {
    let (node, mut registry) = (NodeAddress::default(), Registry::default());
    let own_registries = vec!["cache.example:5000".to_owned()];
    let engine = Engine::new(&Limits::default(), HostFacts { node_address: node.clone(), own_registries }).unwrap();
    let observer = Observer::from(cache_registry_policy::Metrics::register(&mut registry));
    let policies = Policies::new(PolicySet::built_in(engine, &ReleaseSettings::default(), observer).unwrap());
    let router = router(Arc::new(policies), node, Metrics::register(&mut registry));

    let object = json!({
        "metadata": {"name": "web"},
        "spec": {"containers": [
            {"name": "web", "image": "nginx:1.27"},
            {"name": "local", "image": "app:1", "imagePullPolicy": "Never"},
            {"name": "own", "image": "cache.example:5000/registry:3"},
        ]},
    });
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "1",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "operation": "CREATE",
            "object": object,
        },
    });
    let request = Request::post("/mutate/pods").header(header::CONTENT_TYPE, "application/json");
    let response = router.oneshot(request.body(Body::from(review.to_string())).unwrap()).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&body).unwrap();
    let patch = STANDARD.decode(answer["response"]["patch"].as_str().unwrap()).unwrap();
    let mut pod = object;
    json_patch::patch(&mut pod, &serde_json::from_slice::<json_patch::Patch>(&patch).unwrap()).unwrap();

    let images: Vec<_> = pod["spec"]["containers"].as_array().unwrap().iter().map(|c| &c["image"]).collect();
    assert_eq!(images, ["localhost:7439/docker.io/library/nginx:1.27", "app:1", "cache.example:5000/registry:3"]);
    assert_eq!(answer["response"].get("warnings"), None);
    let annotation = pod["metadata"]["annotations"]["cache-registry.enix.io/images"].as_str().unwrap();
    let images: Value = serde_json::from_str(annotation).unwrap();
    assert_eq!(images["web"], json!({"original": "nginx:1.27", "source": "docker.io/library/nginx:1.27"}));
    for left_alone in ["local", "own"] {
        assert!(images[left_alone]["leftAlone"].is_string(), "{annotation}");
    }
}
