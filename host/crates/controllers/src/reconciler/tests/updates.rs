//! Tags that upstream moves, and upstreams that want to be left alone.

use super::*;

/// `web` as it stands in the registry, which the leader knows, asked about by upstream every hour.
async fn with_web() -> (World, Value) {
    let mut image = cached("web");
    image["metadata"]["annotations"] = json!({"cache-registry.enix.io/update-interval": "1h"});
    let mut world = World::with(&[], std::slice::from_ref(&image)).await;
    world.find().await.answer(Ok(Found::Manifest(Some(digest("web")))));
    (world, image)
}

/// The next status that is written, with the metadata of `image`: the condition `UpToDate`, and `Ready`.
async fn told(world: &mut World, image: &Value) -> (String, String) {
    let asked = world.api.expect(Method::PATCH, &format!("{IMAGES}/web/status")).await;
    let mut written = image.clone();
    written["metadata"]["resourceVersion"] = json!("1000");
    written["status"] = asked.body["status"].clone();
    asked.answer(&written);
    world.changed(&written);
    let says = |kind: &str| {
        let conditions = written["status"]["conditions"].as_array().unwrap();
        let condition = conditions.iter().find(|condition| condition["type"] == kind).unwrap();
        format!("{} {}", condition["status"].as_str().unwrap(), condition["reason"].as_str().unwrap())
    };
    (says("UpToDate"), says("Ready"))
}

/// The next question to upstream. Meanwhile the registry is asked at its own time, and has the image.
async fn asked(world: &mut World, has: &str) -> Ask<String> {
    let question = async {
        loop {
            tokio::select! {
                Some(ask) = world.asks.recv() => return ask,
                Some(find) = world.finds.recv() => find.answer(Ok(Found::Manifest(Some(digest(has))))),
            }
        }
    };
    tokio::time::timeout(Duration::from_hours(2), question).await.expect("a question")
}

fn both(fresh: &str) -> (String, String) {
    (fresh.to_owned(), "True Cached".to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_upstream_moved_is_copied_while_the_old_one_is_there() {
    let (mut world, image) = with_web().await;
    asked(&mut world, "web").await.answer(Ok(digest("another")));
    let copy = world.copy().await;
    assert_eq!(copy.source, "docker.io/library/web:1");
    copy.answer(Ok(copied("another")));
    assert_eq!(told(&mut world, &image).await, both("True Current"));
    let began = Instant::now();
    asked(&mut world, "another").await.answer(Ok(digest("another")));
    assert!(began.elapsed() >= Duration::from_mins(54), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_upstream_does_not_say_leaves_the_image_ready() {
    let (mut world, image) = with_web().await;
    asked(&mut world, "web").await.answer(Ok(digest("web")));
    assert_eq!(told(&mut world, &image).await, both("True Current"));
    for (reason, says) in
        [(Reason::UpstreamUnreachable, "Unknown UpstreamUnreachable"), (Reason::NotFound, "False NotFound")]
    {
        let ask = asked(&mut world, "web").await;
        ask.answer(Err(failure(reason, None)));
        assert_eq!(told(&mut world, &image).await, both(says));
    }
    // It is asked on, with pauses.
    asked(&mut world, "web").await.answer(Ok(digest("another")));
    world.copy().await.answer(Err(failure(Reason::UpstreamUnreachable, None)));
    assert_eq!(told(&mut world, &image).await, both("Unknown UpstreamUnreachable"));
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_asks_for_time_gets_it_from_all_images() {
    let images: Vec<_> = ["a", "b", "c", "d"].map(|name| image(name, "1")).into();
    let mut world = World::with(&[], &images).await;
    let (first, second) = (world.copy().await, world.copy().await);
    let began = Instant::now();
    first.answer(Err(failure(Reason::RateLimited, Some(600))));
    second.answer(Err(failure(Reason::RateLimited, None)));
    let mut limited = HashSet::new();
    while limited.len() < 4 {
        let asked = world.api.asked().await;
        let object = asked.body.clone();
        if object["status"]["conditions"][0]["reason"] == "RateLimited" {
            limited.insert(asked.path.clone());
        }
        asked.answer(&object);
    }
    loop {
        tokio::select! {
            Some(_) = world.copies.recv() => break,
            asked = world.api.asked() => {
                let object = asked.body.clone();
                asked.answer(&object);
            }
        }
    }
    assert!(began.elapsed() >= Duration::from_mins(10), "{:?}", began.elapsed());
}
