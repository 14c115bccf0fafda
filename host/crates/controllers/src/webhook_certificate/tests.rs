use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::Method;
use kube::Client;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::*;
use crate::mock_api::MockApi;

const SECRET: &str = "/api/v1/namespaces/ns/secrets/certificate";
const CONFIGURATION: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/hooks";

fn keeper(client: &Client) -> Keeper {
    let wanted = WebhookCertificate {
        secret: "certificate".to_owned(),
        service: "webhook".to_owned(),
        configuration: "hooks".to_owned(),
        life: Duration::from_hours(24),
    };
    Keeper::new(client, "ns", wanted, Metrics::register(&mut Registry::default()))
}

fn secret(data: &Value) -> Value {
    let metadata = json!({ "name": "certificate", "namespace": "ns", "resourceVersion": "7" });
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data })
}

fn configuration(bundle: &Value) -> Value {
    let client_config = json!({ "service": { "name": "webhook", "namespace": "ns" }, "caBundle": bundle });
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": { "name": "hooks" },
        "webhooks": [{
            "name": "pods.example",
            "clientConfig": client_config,
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
        }],
    })
}

/// One look beside the API server's side of it.
fn looking(client: Client) -> JoinHandle<Result<Duration, Problem>> {
    tokio::spawn(async move { keeper(&client).look().await })
}

fn decoded(value: &Value) -> String {
    String::from_utf8(BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_new_ca_is_trusted_before_what_it_signed_is_served() {
    let (client, mut api) = MockApi::new();
    let first = looking(client.clone());
    api.expect(Method::GET, SECRET).await.answer(&secret(&json!({})));
    api.expect(Method::GET, CONFIGURATION).await.answer(&configuration(&Value::Null));
    let trust = api.expect(Method::PATCH, CONFIGURATION).await;
    let bundle = trust.body["webhooks"][0]["clientConfig"]["caBundle"].clone();
    assert_eq!(trust.body["webhooks"][0]["name"], "pods.example");
    trust.answer(&configuration(&bundle));
    let put = api.expect(Method::PATCH, SECRET).await;
    // Somebody else may have written in the meantime.
    assert_eq!(put.body["metadata"]["resourceVersion"], "7");
    let held = put.body["data"].clone();
    assert_eq!(held["ca.crt"], bundle);
    put.answer(&secret(&held));
    assert_eq!(first.await.unwrap().unwrap(), Duration::ZERO);

    // Seen again, it is good, and stays.
    let second = looking(client.clone());
    api.expect(Method::GET, SECRET).await.answer(&secret(&held));
    api.expect(Method::GET, CONFIGURATION).await.answer(&configuration(&bundle));
    assert_eq!(second.await.unwrap().unwrap(), LONGEST_REST);

    // Taken out by hand, it is replaced; what is served until then stays trusted, and has the time to be heard of.
    let third = looking(client);
    api.expect(Method::GET, SECRET).await.answer(&secret(&json!({ "ca.crt": held["ca.crt"] })));
    api.expect(Method::GET, CONFIGURATION).await.answer(&configuration(&bundle));
    let trust = api.expect(Method::PATCH, CONFIGURATION).await;
    let both = decoded(&trust.body["webhooks"][0]["clientConfig"]["caBundle"]);
    assert!(both.ends_with(&decoded(&bundle)) && both.matches("BEGIN CERTIFICATE").count() == 2, "{both}");
    let trusted = tokio::time::Instant::now();
    trust.answer(&configuration(&bundle));
    let put = api.expect(Method::PATCH, SECRET).await;
    assert!(trusted.elapsed() >= SETTLE);
    put.answer(&secret(&held));
    third.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_bundle_that_somebody_took_out_is_put_back() {
    let (client, mut api) = MockApi::new();
    let issued = issue(&keeper(&client).names, Duration::from_hours(24), Timestamp::now()).unwrap();
    let encode = |pem: &str| Value::from(BASE64_STANDARD.encode(pem));
    let authority = encode(&issued.authority);
    let held = json!({
        "ca.crt": authority, "tls.crt": encode(&issued.certificate), "tls.key": encode(&issued.key),
    });
    let looking = looking(client);
    api.expect(Method::GET, SECRET).await.answer(&secret(&held));
    api.expect(Method::GET, CONFIGURATION).await.answer(&configuration(&Value::Null));
    let trust = api.expect(Method::PATCH, CONFIGURATION).await;
    assert_eq!(trust.body["webhooks"][0]["clientConfig"]["caBundle"], authority);
    trust.answer(&configuration(&authority));
    looking.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_gone_is_named() {
    let (client, mut api) = MockApi::new();
    let looking = looking(client);
    api.expect(Method::GET, SECRET).await.refuse(404, "NotFound");
    let words = looking.await.unwrap().unwrap_err().to_string();
    assert!(words.starts_with("Secret certificate: ") && words.ends_with("`helm upgrade` makes it anew"), "{words}");
}
