//! What the registry has, compared with what is said about it.

use super::*;
use rstest::rstest;

const DELAY: Duration = Duration::from_hours(1);

/// A leader that knows of `web`, of which the registry was asked.
async fn with_web() -> World {
    let mut world = World::that_expires_after(DELAY, &[], &[cached("web")]).await;
    world.find().await.answer(Ok(Found::Manifest(Some(digest("web")))));
    world
}

#[tokio::test(start_paused = true)]
async fn an_image_that_nothing_reports_on_is_reported_on() {
    let mut world = with_web().await;
    let left: Reference = "docker.io/library/left:1".parse().unwrap();
    world.registry.lock().unwrap().images = vec!["docker.io/library/web:1".parse().unwrap(), left.clone()];
    let create = tokio::time::timeout(Duration::from_hours(7), world.next_create()).await.unwrap();
    assert_eq!(create.body["spec"], json!({"sourceImage": "docker.io/library/left:1"}));
    create.refuse(500, "InternalError");
    let create = world.next_create().await;
    assert_eq!(create.body["metadata"]["name"], object_name(&left));
    create.answer(&image("left", "1"));
    world.changed(&image("left", "1"));
    assert_eq!(world.copy().await.source, "docker.io/library/left:1");
}

/// The inventory began before its tag went, and saw it.
#[tokio::test(start_paused = true)]
async fn an_image_that_was_just_removed_is_not_made_known_again() {
    let mut world = with_web().await;
    world.registry.lock().unwrap().images = vec!["docker.io/library/web:1".parse().unwrap()];
    world.deleted(&cached("web"));
    let removal = world.removal().await;
    // Every inventory until then finds it.
    tokio::time::sleep(Duration::from_hours(20)).await;
    world.registry.lock().unwrap().images.clear();
    removal.answer(Ok(()));
    world.rests(Duration::from_hours(20)).await;
}

/// Its volume was wiped, or it has what the tag meant in an older backup.
#[rstest]
#[case::wiped(Found::Nothing)]
#[case::older(Found::Manifest(Some(digest("older"))))]
#[tokio::test(start_paused = true)]
async fn a_registry_that_lost_what_it_had_is_found_out_soon_and_filled_again(#[case] sample: Found) {
    let mut world = World::that_expires_after(DELAY, &[], &[cached("a"), cached("b"), cached("c")]).await;
    for _ in 0..3 {
        let find = world.find().await;
        let name = find.source.trim_start_matches("docker.io/library/").trim_end_matches(":1").to_owned();
        find.answer(Ok(Found::Manifest(Some(digest(&name)))));
    }
    let began = Instant::now();
    world.registry.lock().unwrap().sample = Some(sample.clone());
    for _ in 0..3 {
        world.find().await.answer(Ok(sample.clone()));
    }
    let mut copies = vec![world.copy().await, world.copy().await];
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    copies.pop().unwrap().answer(Err(failure(Reason::UpstreamUnreachable, None)));
    copies.push(world.copy().await);
    let mut sources: Vec<_> = copies.iter().map(|copy| copy.source.clone()).collect();
    sources.sort();
    sources.dedup();
    assert_eq!(sources.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_pods_use_is_copied_before_what_no_pod_does() {
    let images: Vec<_> = ["a", "b", "c", "d"].map(|name| image(name, "1")).into();
    let mut world = World::that_expires_after(DELAY, &[pod("p", "d:1")], &images).await;
    let (first, second) = (world.copy().await, world.copy().await);
    assert_eq!(
        [&*first.source, &*second.source].map(|source| source.contains("/d:")),
        [false, false],
        "they run already"
    );
    first.answer(Ok(copied("x")));
    assert_eq!(world.copy().await.source, "docker.io/library/d:1");
}
