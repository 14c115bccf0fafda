use super::*;
use crate::mock_api::{Asked, MockApi};
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/ns/leases";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/leader";

fn candidate() -> (Leadership, MockApi) {
    let (client, api) = MockApi::new();
    (Leadership::new(client, "ns", "leader", "me".to_owned(), Times::default()), api)
}

fn lease(resource_version: &str, holder: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "leader", "namespace": "ns", "resourceVersion": resource_version},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 4},
    })
}

/// Runs a step of the election beside the API server's side of the scenario.
fn acquiring(mut leadership: Leadership) -> JoinHandle<Leadership> {
    tokio::spawn(async move {
        leadership.acquire(|| {}).await;
        leadership
    })
}

fn keeping(mut leadership: Leadership) -> JoinHandle<Leadership> {
    tokio::spawn(async move {
        leadership.keep().await;
        leadership
    })
}

/// The write that takes or renews the Lease, as seen by the API server.
fn holder(asked: &Asked) -> (&str, &Value) {
    (asked.body["spec"]["holderIdentity"].as_str().unwrap(), &asked.body["metadata"]["resourceVersion"])
}

async fn leading() -> (Leadership, MockApi) {
    let (leadership, mut api) = candidate();
    let acquiring = acquiring(leadership);
    api.expect(Method::GET, LEASE).await.answer(&lease("1", ""));
    api.expect(Method::PATCH, LEASE).await.answer(&lease("2", "me"));
    (acquiring.await.unwrap(), api)
}

#[tokio::test(start_paused = true)]
async fn the_first_replica_creates_the_lease() {
    let (leadership, mut api) = candidate();
    let acquiring = acquiring(leadership);
    api.expect(Method::GET, LEASE).await.refuse(404, "NotFound");
    let create = api.expect(Method::POST, LEASES).await;
    assert_eq!(holder(&create), ("me", &Value::Null));
    assert_eq!(create.body["spec"]["leaseDurationSeconds"], 15);
    create.answer(&lease("1", "me"));
    acquiring.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn of_two_that_create_it_the_slower_stands_by() {
    let (leadership, mut api) = candidate();
    let acquiring = acquiring(leadership);
    api.expect(Method::GET, LEASE).await.refuse(404, "NotFound");
    api.expect(Method::POST, LEASES).await.refuse(409, "AlreadyExists");
    api.expect(Method::GET, LEASE).await.answer(&lease("1", "other"));
    // Held by the other, so that the next request is a look and not a write.
    api.expect(Method::GET, LEASE).await.answer(&lease("2", "other"));
    assert!(!acquiring.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_taken_at_once_and_as_it_was_seen() {
    let (leadership, mut api) = candidate();
    let began = Instant::now();
    let acquiring = acquiring(leadership);
    api.expect(Method::GET, LEASE).await.answer(&lease("7", ""));
    let take = api.expect(Method::PATCH, LEASE).await;
    assert_eq!(holder(&take), ("me", &json!("7")));
    assert_eq!(take.body["spec"]["leaseTransitions"], 5);
    assert!(take.query.contains("force=true") && take.query.contains("fieldManager=cache-registry"), "{}", take.query);
    take.answer(&lease("8", "me"));
    acquiring.await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn of_two_that_take_it_one_gets_a_conflict_and_stands_by() {
    let (leadership, mut api) = candidate();
    let acquiring = acquiring(leadership);
    api.expect(Method::GET, LEASE).await.answer(&lease("7", ""));
    api.expect(Method::PATCH, LEASE).await.refuse(409, "Conflict");
    api.expect(Method::GET, LEASE).await.answer(&lease("8", "other"));
    api.expect(Method::GET, LEASE).await.answer(&lease("8", "other"));
    assert!(!acquiring.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_renews_is_never_pushed_aside() {
    let (leadership, mut api) = candidate();
    let acquiring = acquiring(leadership);
    let began = Instant::now();
    for version in 0.. {
        api.expect(Method::GET, LEASE).await.answer(&lease(&version.to_string(), "other"));
        if began.elapsed() > Duration::from_mins(10) {
            break;
        }
    }
    assert!(!acquiring.is_finished());
}

#[tokio::test(start_paused = true)]
async fn the_lease_of_a_holder_that_is_gone_is_taken_after_its_duration_and_not_before() {
    let (leadership, mut api) = candidate();
    let began = Instant::now();
    let acquiring = acquiring(leadership);
    let take = loop {
        let asked = api.asked().await;
        match asked.method {
            Method::GET => asked.answer(&lease("7", "gone")),
            _ => break asked,
        }
    };
    let waited = began.elapsed();
    assert!((15..18).contains(&waited.as_secs()), "{waited:?}");
    assert_eq!(holder(&take), ("me", &json!("7")));
    take.answer(&lease("8", "me"));
    acquiring.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_down_is_tried_until_it_answers() {
    let (mut leadership, mut api) = candidate();
    let (sent, mut reached) = tokio::sync::mpsc::unbounded_channel();
    let acquiring = tokio::spawn(async move { leadership.acquire(|| sent.send(()).unwrap()).await });
    for _ in 0..5 {
        api.expect(Method::GET, LEASE).await.refuse(503, "ServiceUnavailable");
    }
    assert!(reached.try_recv().is_err(), "an error is no contact");
    api.expect(Method::GET, LEASE).await.answer(&lease("1", ""));
    api.expect(Method::PATCH, LEASE).await.answer(&lease("2", "me"));
    acquiring.await.unwrap();
    assert_eq!(reached.try_recv(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn the_holder_renews_with_what_it_wrote_last() {
    let (leadership, mut api) = leading().await;
    let keeping = keeping(leadership);
    for version in 2..10 {
        let renew = api.expect(Method::PATCH, LEASE).await;
        assert_eq!(holder(&renew), ("me", &json!(version.to_string())));
        assert_eq!(renew.body["spec"]["leaseTransitions"], 4, "the same reign");
        assert!(renew.body["spec"]["acquireTime"].is_string(), "left out, it would be removed");
        renew.answer(&lease(&(version + 1).to_string(), "me"));
    }
    assert!(!keeping.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_another_took_over_from_stops_at_once() {
    let (leadership, mut api) = leading().await;
    let keeping = keeping(leadership);
    api.expect(Method::PATCH, LEASE).await.refuse(409, "Conflict");
    api.expect(Method::GET, LEASE).await.answer(&lease("9", "other"));
    let answered = Instant::now();
    keeping.await.unwrap();
    assert_eq!(answered.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_label_that_someone_puts_on_the_lease_unseats_nobody() {
    let (leadership, mut api) = leading().await;
    let keeping = keeping(leadership);
    api.expect(Method::PATCH, LEASE).await.refuse(409, "Conflict");
    api.expect(Method::GET, LEASE).await.answer(&lease("9", "me"));
    let renew = api.expect(Method::PATCH, LEASE).await;
    assert_eq!(holder(&renew), ("me", &json!("9")));
    renew.answer(&lease("10", "me"));
    api.expect(Method::PATCH, LEASE).await.answer(&lease("11", "me"));
    assert!(!keeping.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_cannot_renew_stops_before_the_lease_is_free() {
    for hangs in [false, true] {
        let (leadership, mut api) = leading().await;
        let began = Instant::now();
        let keeping = keeping(leadership);
        let refusing = tokio::spawn(async move {
            let mut unanswered = Vec::new();
            loop {
                let asked = api.asked().await;
                if hangs { unanswered.push(asked) } else { asked.refuse(503, "ServiceUnavailable") }
            }
        });
        keeping.await.unwrap();
        refusing.abort();
        assert_eq!(began.elapsed(), Times::default().give_up, "hangs: {hangs}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_lease_is_a_lost_lease() {
    let (leadership, mut api) = leading().await;
    let keeping = keeping(leadership);
    api.expect(Method::PATCH, LEASE).await.refuse(409, "Conflict");
    api.expect(Method::GET, LEASE).await.refuse(404, "NotFound");
    keeping.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn releasing_frees_the_lease() {
    let (leadership, mut api) = leading().await;
    let releasing = tokio::spawn(leadership.release());
    let release = api.expect(Method::PATCH, LEASE).await;
    assert_eq!(holder(&release), ("", &json!("2")));
    release.answer(&lease("3", ""));
    releasing.await.unwrap();
}
