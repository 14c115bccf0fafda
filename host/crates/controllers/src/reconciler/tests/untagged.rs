//! When manifests are removed that have lost their tags.

use super::*;

const DAY: Duration = Duration::from_hours(24);
const HOUR: Duration = Duration::from_hours(1);

/// How long after this moment it was asked for, in whole hours.
fn asked(world: &World, since: Instant) -> Vec<u64> {
    let registry = world.registry.lock().unwrap();
    let hours = |at: &Instant| at.duration_since(since).as_secs() / 3_600;
    registry.untagged_removed.iter().filter(|at| **at >= since).map(hours).collect()
}

/// A leader that has looked at all there is, which it does again and again; the hours of that are not told.
async fn with_web() -> World {
    let mut world = World::that_expires_after(HOUR, &[], &[cached("web")]).await;
    world.find().await.answer(Ok(Found::Manifest(Some(digest("web")))));
    world.registry.lock().unwrap().images = vec!["docker.io/library/web:1".parse().unwrap()];
    tokio::time::sleep(Duration::from_secs(1)).await;
    world
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_looks_for_what_another_has_let_go() {
    let world = with_web().await;
    assert_eq!(world.registry.lock().unwrap().untagged_removed.len(), 1);
}

/// Beside the inventories, of which there is one about every six hours.
#[tokio::test(start_paused = true)]
async fn what_loses_its_tag_is_looked_for_when_its_time_is_over() {
    let mut world = with_web().await;
    world.deleted(&cached("web"));
    world.removal().await.answer(Ok(()));
    world.registry.lock().unwrap().images.clear();
    let since = Instant::now();
    tokio::time::sleep(DAY + HOUR / 2).await;
    let registry = world.registry.lock().unwrap();
    let due = since + DAY;
    let just_after = |at: &&Instant| **at >= due && **at < due + Duration::from_secs(10);
    assert_eq!(registry.untagged_removed.iter().filter(just_after).count(), 1, "{:?}", registry.untagged_removed);
}

#[tokio::test(start_paused = true)]
async fn it_is_looked_again_when_the_next_are_due() {
    let world = with_web().await;
    // The last one first: a failure, then some that are due in two hours, at the inventory's time.
    world.registry.lock().unwrap().untagged = vec![Ok(Some(2 * HOUR)), Err(failure(Reason::RegistryUnreachable, None))];
    let since = Instant::now();
    tokio::time::sleep(Duration::from_hours(9)).await;
    let hours = asked(&world, since);
    let [first, again, next, ..] = hours.as_slice() else { panic!("{hours:?}") };
    assert!(first == again && *next == first + 2, "{hours:?}");
}
