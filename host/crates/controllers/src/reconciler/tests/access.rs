//! With whose pull secrets images are copied.

use super::*;

fn pod_with(name: &str, source: &str, secrets: &[&str]) -> Value {
    let mut pod = pod(name, source);
    let secrets: Vec<_> = secrets.iter().map(|name| json!({"name": name})).collect();
    pod["spec"]["imagePullSecrets"] = json!(secrets);
    pod
}

fn deployment(name: &str, image: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": "shop", "name": name},
        "spec": {"replicas": 0, "template": {"spec": {
            "containers": [{"name": "main", "image": image}],
            "imagePullSecrets": [{"name": secret}],
        }}},
    })
}

#[tokio::test(start_paused = true)]
async fn an_image_is_copied_with_the_pull_secrets_of_all_its_pods() {
    let pods = [
        pod_with("a", "web:1", &["one", "two"]),
        pod_with("b", "web:1", &["one"]),
        pod_with("c", "other:1", &["others"]),
    ];
    let mut world = World::with(&pods, &[image("web", "1")]).await;
    let first = world.copy().await;
    assert_eq!(first.secrets, ["ns/one", "ns/two"]);
    world.lists_workloads(&[deployment("idle", "web:1", "of-template"), deployment("else", "other:1", "others")]);
    first.answer(Err(failure(Reason::UpstreamUnreachable, None)));
    assert_eq!(world.copy().await.secrets, ["ns/one", "ns/two", "shop/of-template"]);
}

#[tokio::test(start_paused = true)]
async fn what_no_pod_uses_at_the_moment_is_asked_about_with_the_secrets_of_templates() {
    let mut image = cached("web");
    image["metadata"]["annotations"] = json!({"cache-registry.enix.io/update-interval": "1h"});
    let mut world = World::with(&[], &[image]).await;
    world.lists_workloads(&[deployment("idle", "web:1", "of-template")]);
    world.find().await.answer(Ok(Found::Manifest(Some(digest("web")))));
    let question = tokio::time::timeout(Duration::from_hours(2), world.asks.recv()).await.unwrap().unwrap();
    assert_eq!(question.secrets, ["shop/of-template"]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_with_another_secret_does_not_wait_until_a_refusal_is_forgotten() {
    let mut world = World::with(&[pod_with("a", "web:1", &["bad"])], &[image("web", "1")]).await;
    // Refused so often that the next attempt is minutes away.
    for _ in 0..8 {
        let copy = world.copy().await;
        assert_eq!(copy.secrets, ["ns/bad"]);
        copy.answer(Err(failure(Reason::Unauthorized, None)));
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    let refused = Instant::now();
    world.changed(&pod_with("b", "web:1", &["bad"]));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(world.copies.try_recv().is_err(), "nothing new is known");

    world.changed(&pod_with("c", "web:1", &["good"]));
    assert_eq!(world.copy().await.secrets, ["ns/bad", "ns/good"]);
    assert!(refused.elapsed() < Duration::from_secs(35), "{:?}", refused.elapsed());
}
