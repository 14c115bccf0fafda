//! A run and the API server, call by call.

use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::api::{Means, Objects};
use super::drive::{Reached, drive};
use super::step::Goal;
use crate::mock_api::MockApi;

const STATEFUL_SET: &str = "/apis/apps/v1/namespaces/ns/statefulsets/registry";
const JOB: &str = "/apis/batch/v1/namespaces/ns/jobs/registry-gc";
const JOBS: &str = "/apis/batch/v1/namespaces/ns/jobs";
const PODS: &str = "/api/v1/namespaces/ns/pods";

const RECORD: &str = r#"{"replicas":2,"who":"ours","since":"2026-11-24T20:00:00Z"}"#;

fn stateful_set(version: &str, replicas: i32, record: Option<&str>) -> Value {
    let annotations = record.map(|record| json!({ "cache-registry.enix.io/garbage-collection": record }));
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {
            "name": "registry", "namespace": "ns", "uid": "of-it", "resourceVersion": version, "generation": 3,
            "annotations": annotations,
        },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "component": "registry" } },
            "serviceName": "registry",
            "template": {},
        },
        "status": { "observedGeneration": 3, "replicas": replicas, "readyReplicas": replicas },
    })
}

fn job(stage: &Value) -> Value {
    let annotations = json!({ "cache-registry.enix.io/garbage-collection-run": "ours" });
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": "registry-gc", "uid": "of-the-job", "resourceVersion": "9", "annotations": annotations },
        "spec": stage,
    })
}

/// Answers one look: the `StatefulSet`, the Job and the pods of both.
async fn look(api: &mut MockApi, stateful_set: &Value, job: Option<&Value>) {
    api.expect(Method::GET, STATEFUL_SET).await.answer(stateful_set);
    let asked = api.expect(Method::GET, JOB).await;
    match job {
        Some(job) => asked.answer(job),
        None => asked.refuse(404, "NotFound"),
    }
    for selector in ["component%3Dregistry", "batch.kubernetes.io%2Fjob-name%3Dregistry-gc"] {
        let asked = api.expect(Method::GET, PODS).await;
        assert!(asked.query.contains(selector), "{}", asked.query);
        asked.answer(&json!({ "apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": [] }));
    }
}

fn driving(goal: Goal) -> (JoinHandle<Result<Reached, String>>, MockApi) {
    let (client, api) = MockApi::new();
    let driving = tokio::spawn(async move {
        let objects = Objects::new(client, "ns", "registry", "me");
        let deadline = std::time::Duration::from_mins(1);
        let means = Means { run: "ours".to_owned(), deadline, ..Means::default() };
        drive(&objects, &goal, &means).await
    });
    (driving, api)
}

fn collect() -> Goal {
    Goal::Collect { run: "ours".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn the_registry_stops_and_is_recorded_in_one_write_of_what_was_seen() {
    let (_driving, mut api) = driving(collect());
    look(&mut api, &stateful_set("7", 2, None), None).await;
    let stop = api.expect(Method::PATCH, STATEFUL_SET).await;
    assert_eq!(stop.body["metadata"]["resourceVersion"], "7");
    assert_eq!(stop.body["spec"], json!({ "replicas": 0 }));
    let record = &stop.body["metadata"]["annotations"]["cache-registry.enix.io/garbage-collection"];
    assert!(record.as_str().unwrap().starts_with(r#"{"replicas":2,"who":"ours","since":""#), "{record}");
    // Somebody else was faster: what is next is decided anew.
    stop.refuse(409, "Conflict");
    look(&mut api, &stateful_set("8", 2, None), None).await;
    assert_eq!(api.expect(Method::PATCH, STATEFUL_SET).await.body["metadata"]["resourceVersion"], "8");
}

#[tokio::test(start_paused = true)]
async fn the_job_is_made_suspended_and_started_as_it_was_seen() {
    let (_driving, mut api) = driving(collect());
    let stopped = stateful_set("8", 0, Some(RECORD));
    look(&mut api, &stopped, None).await;
    let create = api.expect(Method::POST, JOBS).await;
    assert_eq!(create.body["metadata"]["name"], "registry-gc");
    assert_eq!(create.body["metadata"]["ownerReferences"][0]["uid"], "of-it");
    assert_eq!(create.body["metadata"]["annotations"]["cache-registry.enix.io/garbage-collection-run"], "ours");
    let spec = &create.body["spec"];
    assert_eq!((&spec["suspend"], &spec["backoffLimit"]), (&json!(true), &json!(0)));
    assert_eq!(spec["activeDeadlineSeconds"], 60);
    let suspended = job(&json!({ "suspend": true, "template": {} }));
    create.answer(&suspended);
    look(&mut api, &stopped, Some(&suspended)).await;
    let start = api.expect(Method::PATCH, JOB).await;
    assert_eq!(start.body, json!({ "metadata": { "resourceVersion": "9" }, "spec": { "suspend": false } }));
}

#[tokio::test(start_paused = true)]
async fn the_registry_is_put_back_and_the_record_taken_away_in_one_write() {
    let (driving, mut api) = driving(Goal::Restore);
    let stopped = stateful_set("8", 0, Some(RECORD));
    look(&mut api, &stopped, Some(&job(&json!({ "template": {} })))).await;
    let delete = api.expect(Method::DELETE, JOB).await;
    assert_eq!(delete.body["preconditions"]["uid"], "of-the-job");
    assert_eq!(delete.body["propagationPolicy"], "Foreground");
    // The API server is away for a moment.
    delete.refuse(503, "ServiceUnavailable");
    api.expect(Method::GET, STATEFUL_SET).await.refuse(500, "InternalError");
    look(&mut api, &stopped, None).await;
    let back = api.expect(Method::PATCH, STATEFUL_SET).await;
    let metadata = json!({
        "resourceVersion": "8", "annotations": { "cache-registry.enix.io/garbage-collection": null },
    });
    assert_eq!(back.body, json!({ "metadata": metadata, "spec": { "replicas": 2 } }));
    let running = stateful_set("9", 2, None);
    back.answer(&running);
    look(&mut api, &running, None).await;
    assert!(driving.await.unwrap().unwrap().acted);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_not_there_is_not_waited_for() {
    let (driving, mut api) = driving(Goal::Restore);
    api.expect(Method::GET, STATEFUL_SET).await.refuse(404, "NotFound");
    assert!(driving.await.unwrap().is_err_and(|why| why.contains("not there")));
}
