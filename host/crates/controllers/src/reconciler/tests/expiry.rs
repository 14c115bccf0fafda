//! The end of images that nothing uses.

use super::*;
use crate::capacity::LEAST_UNUSED;

const DELAY: Duration = Duration::from_hours(1);

/// A Deployment without replicas, of one image.
fn deployment(image: &str) -> Value {
    let template = json!({"spec": {"containers": [{"name": "main", "image": image}]}});
    json!({"metadata": {"namespace": "ns", "name": "app"}, "spec": {"replicas": 0, "template": template}})
}

/// `web`, which is cached and has not been used for so long.
fn unused_for(time: Duration) -> Value {
    let at = |time: Timestamp| json!(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let since = Timestamp::now() - time;
    let mut image = cached("web");
    image["status"]["unusedSince"] = at(since);
    image["status"]["expiresAt"] = at(since + DELAY);
    image
}

/// A leader that has just seen the last workload, and that `web` is in the registry.
async fn with(image: &Value, deployments: &[Value]) -> World {
    let mut world = World::that_expires_after(DELAY, &[], std::slice::from_ref(image)).await;
    world.find().await.answer(Ok(Found::Manifest(Some(digest("web")))));
    world.lists_workloads(deployments);
    world
}

/// The next request, which deletes `web` as it was, is granted.
async fn deleted(world: &mut World, image: &Value) {
    let asked = world.api.expect(Method::DELETE, &format!("{IMAGES}/web")).await;
    let as_it_was = json!({"uid": "uid-of-web", "resourceVersion": image["metadata"]["resourceVersion"]});
    assert_eq!(asked.body["preconditions"], as_it_was);
    asked.answer(&json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}));
    assert_eq!(world.event().await, "Normal Expired");
    world.deleted(image);
}

#[tokio::test(start_paused = true)]
async fn what_nothing_uses_says_when_it_goes() {
    let mut world = with(&cached("web"), &[]).await;
    let (_, object) = world.told("web").await;
    let time = |field: &str| object["status"][field].as_str().unwrap().parse::<Timestamp>().unwrap();
    assert_eq!(time("expiresAt"), time("unusedSince") + DELAY);
    world.rests(Duration::from_mins(50)).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_over_is_deleted_and_then_its_tag() {
    let image = unused_for(DELAY);
    let mut world = with(&image, &[]).await;
    world.surveyed(&[]).await;
    deleted(&mut world, &image).await;
    let removal = world.removal().await;
    assert_eq!(removal.source, "docker.io/library/web:1");
    removal.answer(Ok(()));
    world.rests(Duration::from_hours(2)).await;
    assert!(world.metric(r#"cache_registry_removals_total{result="removed"} 1"#));
}

/// Half of its delay is over; that it is unused is looked at as if all of it were.
#[tokio::test(start_paused = true)]
async fn what_takes_too_much_room_goes_before_its_time() {
    let mut image = unused_for(DELAY / 2);
    image["status"]["size"] = json!(MAX_SIZE + 1);
    let mut world = with(&image, &[]).await;
    let (_, object) = world.told("web").await;
    let time = |field: &str| object["status"][field].as_str().unwrap().parse::<Timestamp>().unwrap();
    assert_eq!(time("expiresAt"), time("unusedSince") + LEAST_UNUSED);
    world.surveyed(&[]).await;
    deleted(&mut world, &object).await;
    world.removal().await.answer(Ok(()));
}

#[tokio::test(start_paused = true)]
async fn what_is_in_use_stays_however_much_room_it_takes() {
    let mut image = unused_for(DELAY / 2);
    image["status"]["size"] = json!(MAX_SIZE + 1);
    let mut world = with(&image, &[deployment("web:1")]).await;
    let (_, object) = world.told("web").await;
    assert_eq!(object["status"]["expiresAt"], Value::Null);
    world.rests(Duration::from_mins(50)).await;
    assert!(world.metric(r#"cache_registry_cached_images_size_bytes{needed="true"} 1001"#));
    assert!(world.metric("cache_registry_max_size_bytes 1000"));
}

#[tokio::test(start_paused = true)]
async fn a_workload_without_pods_keeps_its_image() {
    let mut world = with(&unused_for(DELAY), &[deployment("web:1")]).await;
    let (_, object) = world.told("web").await;
    assert_eq!(object["status"]["expiresAt"], Value::Null);
    assert_eq!(object["status"]["usedBy"], json!({"count": 0, "workloads": ["Deployment/ns/app"]}));
    world.rests(Duration::from_mins(50)).await;

    let event = Event::Delete(read(&deployment("web:1")));
    world.workloads.send((Kind::Deployment, event)).ok().unwrap();
    let (_, object) = world.told("web").await;
    assert!(object["status"]["expiresAt"].is_string(), "{object}");
}

#[tokio::test(start_paused = true)]
async fn a_workload_that_asks_for_what_a_policy_replaces_keeps_what_it_gets() {
    let mut image = unused_for(DELAY);
    image["status"]["originals"] = json!(["hub.example/web:1"]);
    let mut world = with(&image, &[deployment("hub.example/web:1")]).await;
    let (_, object) = world.told("web").await;
    assert_eq!(object["status"]["usedBy"]["workloads"], json!(["Deployment/ns/app"]));
    world.rests(Duration::from_mins(50)).await;
}

/// The watch has not told of it.
#[tokio::test(start_paused = true)]
async fn what_a_fresh_look_finds_in_use_stays() {
    let image = unused_for(DELAY);
    for (path, object) in [
        ("/api/v1/pods", pod("a", "web:1")),
        ("/apis/apps/v1/deployments", deployment("web:1")),
        ("/apis/apps/v1/replicasets", deployment("docker.io/library/web:1")),
    ] {
        let mut world = with(&image, &[]).await;
        world.surveyed(&[(path, object)]).await;
        // It looks again, and finds that nothing uses it any more.
        world.surveyed(&[]).await;
        deleted(&mut world, &image).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_seen_is_not_unused() {
    let image = unused_for(DELAY);
    let mut world = with(&image, &[]).await;
    for _ in 0..5 {
        world.api.expect(Method::GET, SURVEYED[0]).await.refuse(403, "Forbidden");
    }
    // Nor is what an object may use that can't be read.
    world.api.expect(Method::GET, SURVEYED[0]).await.answer(&json!({
        "apiVersion": "v1", "kind": "List", "metadata": {},
        "items": [{"metadata": {"namespace": "ns", "name": "odd"}, "spec": {"containers": 7}}],
    }));
    world.surveyed(&[]).await;
    deleted(&mut world, &image).await;
    assert!(world.metric(r#"cache_registry_reconcile_errors_total{operation="survey"} 6"#));
}

#[tokio::test(start_paused = true)]
async fn news_that_come_during_the_look_count() {
    let image = unused_for(DELAY);
    let mut world = with(&image, &[]).await;
    let asked = world.api.expect(Method::GET, SURVEYED[0]).await;
    world.changed(&pod("a", "web:1"));
    asked.answer(&json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": []}));
    for path in &SURVEYED[1..] {
        let nothing = json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": []});
        world.api.expect(Method::GET, path).await.answer(&nothing);
    }
    let (_, object) = world.told("web").await;
    assert_eq!((&object["status"]["expiresAt"], &object["status"]["usedBy"]["count"]), (&Value::Null, &json!(1)));
    world.rests(Duration::from_mins(50)).await;
}

#[tokio::test(start_paused = true)]
async fn what_has_changed_since_is_decided_anew() {
    let image = unused_for(DELAY);
    let mut world = with(&image, &[]).await;
    world.surveyed(&[]).await;
    world.api.expect(Method::DELETE, &format!("{IMAGES}/web")).await.refuse(409, "Conflict");
    let mut retained = image.clone();
    retained["metadata"]["resourceVersion"] = json!("11");
    retained["spec"]["retain"] = json!(true);
    world.changed(&retained);
    let (asked, _) = world.status("web").await;
    assert_eq!(asked.body["status"]["expiresAt"], Value::Null);
    retained["status"] = asked.body["status"].clone();
    retained["metadata"]["resourceVersion"] = json!("12");
    asked.answer(&retained);
    world.rests(Duration::from_mins(50)).await;
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_could_not_be_taken_away_is_tried_again() {
    let mut world = with(&cached("web"), &[]).await;
    world.told("web").await;
    world.deleted(&cached("web"));
    world.removal().await.answer(Err(failure(Reason::RegistryUnreachable, None)));
    world.removal().await.answer(Ok(()));
    world.rests(Duration::from_hours(2)).await;
    assert!(world.metric(r#"cache_registry_removals_total{result="failed"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_wanted_again_is_copied_after_its_tag_has_gone() {
    let mut world = with(&cached("web"), &[]).await;
    world.told("web").await;
    world.deleted(&cached("web"));
    let removal = world.removal().await;
    world.changed(&pod("a", "web:1"));
    let create = world.api.expect(Method::POST, IMAGES).await;
    create.answer(&image("web", "2000"));
    let mut again = image("web", "2000");
    again["metadata"]["uid"] = json!("another");
    world.changed(&again);
    world.rests(Duration::from_mins(1)).await;
    removal.answer(Ok(()));
    assert_eq!(world.copy().await.source, "docker.io/library/web:1");
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_another_image_is_kept_under_stays() {
    let digest = digest("web");
    let named = |name: &str, source: String| {
        let mut image = cached(name);
        image["spec"]["sourceImage"] = json!(source);
        image["status"]["digest"] = json!(digest);
        let location = Location::of(&source.parse().unwrap());
        image["status"]["conditions"][0]["message"] = json!(format!("The registry has it as {location}."));
        image
    };
    let (one, two) = (
        named("one", format!("docker.io/library/web@{digest}")),
        named("two", format!("docker.io/library/web:1@{digest}")),
    );
    let mut world = World::that_expires_after(DELAY, &[], &[one.clone(), two.clone()]).await;
    for _ in 0..2 {
        world.find().await.answer(Ok(Found::Manifest(Some(digest.clone()))));
    }
    world.deleted(&one);
    world.rests(Duration::from_mins(10)).await;
    world.deleted(&two);
    assert_eq!(world.removal().await.source, format!("docker.io/library/web:1@{digest}"));
}
