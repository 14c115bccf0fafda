//! Nodes of another kind that come, and images that are completed for them.

use super::*;

fn platforms(text: &str) -> Platforms {
    match text.parse() {
        Ok(PlatformChoice::Fixed(platforms)) => platforms,
        other => panic!("{other:?}"),
    }
}

/// `web` as it stands in the registry, whole for `linux/amd64`.
async fn with_web(source: &str) -> (World, Value) {
    let mut image = cached("web");
    image["spec"]["sourceImage"] = json!(source);
    let location = Location::of(&source.parse().unwrap());
    image["status"]["conditions"][0]["message"] = json!(format!("The registry has it as {location}."));
    let mut world = World::with(&[], std::slice::from_ref(&image)).await;
    world.wanted.send_replace(Some(platforms("linux/amd64")));
    world.find().await.answer(Ok(Found::Manifest(Some(digest("web")))));
    (world, image)
}

/// The next status that is written: its conditions, and its platforms.
async fn told(world: &mut World, image: &mut Value) -> (Vec<String>, Value) {
    let asked = world.api.expect(Method::PATCH, &format!("{IMAGES}/web/status")).await;
    image["metadata"]["resourceVersion"] = json!("1000");
    image["status"] = asked.body["status"].clone();
    asked.answer(image);
    world.changed(image);
    let conditions = image["status"]["conditions"].as_array().unwrap().iter();
    let text = |condition: &Value, field: &str| condition[field].as_str().unwrap().to_owned();
    let says = |condition| ["type", "status", "reason"].map(|field| text(condition, field)).join(" ");
    (conditions.map(says).collect(), image["status"]["platforms"].clone())
}

#[tokio::test(start_paused = true)]
async fn a_node_of_another_kind_has_all_images_looked_at_and_completed() {
    let (mut world, mut image) = with_web("docker.io/library/web:1").await;
    world.wanted.send_replace(Some(platforms("linux/amd64,linux/arm64")));
    world.find().await.answer(Ok(Found::Part(digest("web"))));
    let copy = world.copy().await;
    assert!(world.metric(r#"cache_registry_checks_total{outcome="partial"} 1"#));
    copy.answer(Ok(Copied { platforms: vec!["linux/amd64".to_owned(), "linux/arm64".to_owned()], ..copied("web") }));
    let (says, there) = told(&mut world, &mut image).await;
    assert_eq!(says, ["Ready True Cached", "UpToDate True Current"]);
    assert_eq!(there, json!(["linux/amd64", "linux/arm64"]));
    // Fewer is nothing to do.
    world.wanted.send_replace(Some(platforms("linux/arm64")));
    world.rests(Duration::from_mins(30)).await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_completed_stays_what_it_is_and_is_tried_again() {
    let source = format!("docker.io/library/web@{}", digest("web"));
    let (mut world, mut image) = with_web(&source).await;
    world.wanted.send_replace(Some(platforms("all")));
    world.find().await.answer(Ok(Found::Part(digest("web"))));
    world.copy().await.answer(Err(failure(Reason::UpstreamUnreachable, None)));
    let (says, there) = told(&mut world, &mut image).await;
    assert_eq!(says, ["Ready True Cached", "UpToDate Unknown UpstreamUnreachable"]);
    assert_eq!(there, json!(["linux/amd64"]));
    // Though nothing is ever asked about a digest.
    let notes = vec!["Something is left out.".to_owned()];
    world.copy().await.answer(Ok(Copied { notes: notes.clone(), ..copied("web") }));
    let (says, _) = told(&mut world, &mut image).await;
    assert_eq!(says, ["Ready True Cached"]);
    assert_eq!(image["status"]["notes"], json!(notes));
}
