//! Tags that are taken away, and lists of what there is, in the real registry.

use cache_registry_core::Location;
use cache_registry_registry::{CopyOptions, Manifest, Repository, copy};
use rstest::rstest;

use crate::connections;
use crate::distribution::{Distribution, Version};
use crate::images::Images;
use crate::server::Server;

/// A registry with an index of two platforms under `1.0` of docker.io/library/hello, and that repository.
async fn with_an_index(cache: &Distribution) -> (Repository, Manifest) {
    let (images, _) = Images::two_platforms("1.0");
    let server = Server::start(move |parts| images.answer(parts)).await;
    let connections = connections(&server.url);
    let source = "docker.io/library/hello:1.0".parse().unwrap();
    copy(&source, &connections, &cache.url, &CopyOptions::default(), &|_, _| {}).await.unwrap();
    let repository = connections.cache(&cache.url, Location::of(&source).repository());
    let index = repository.get_manifest("1.0").await.unwrap();
    (repository, index)
}

fn children(index: &Manifest) -> Vec<String> {
    let index: serde_json::Value = serde_json::from_slice(&index.bytes).unwrap();
    let children = index["manifests"].as_array().unwrap();
    children.iter().map(|child| child["digest"].as_str().unwrap().to_owned()).collect()
}

#[rstest]
#[case(Version::Two)]
#[case(Version::Three)]
#[tokio::test(flavor = "multi_thread")]
async fn a_tag_is_taken_away_and_its_sibling_is_whole(#[case] version: Version) {
    let cache = Distribution::start(version);
    let (repository, index) = with_an_index(&cache).await;
    repository.push_manifest("sibling", &index).await.unwrap();

    repository.delete_tag("1.0").await.unwrap();

    assert_eq!(repository.tags().await.unwrap(), ["sibling"]);
    assert_eq!(repository.get_manifest("sibling").await.unwrap(), index);
    for child in children(&index) {
        assert_eq!(repository.get_manifest(&child).await.unwrap().digest.to_string(), child);
    }
    repository.delete_tag("1.0").await.unwrap();
    repository.delete_tag("sibling").await.unwrap();
    assert_eq!(repository.tags().await.unwrap(), Vec::<String>::new());
}

#[rstest]
#[case(Version::Two)]
#[case(Version::Three)]
#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_can_be_deleted_the_tag_stays_what_it_is(#[case] version: Version) {
    let cache = Distribution::without_deletion(version);
    let (repository, index) = with_an_index(&cache).await;

    let refused = repository.delete_tag("1.0").await.unwrap_err();

    assert_eq!(refused.status(), Some(http::StatusCode::METHOD_NOT_ALLOWED), "{refused}");
    assert_eq!(repository.get_manifest("1.0").await.unwrap(), index);
}

#[rstest]
#[case(Version::Two)]
#[case(Version::Three)]
#[tokio::test(flavor = "multi_thread")]
async fn all_repositories_and_tags_are_listed(#[case] version: Version) {
    let cache = Distribution::start(version);
    let (repository, index) = with_an_index(&cache).await;
    // More than one page of them.
    let mut tags: Vec<String> = (0..1_001).map(|number| format!("t{number:04}")).collect();
    for tag in &tags {
        repository.push_manifest(tag, &index).await.unwrap();
    }
    tags.insert(0, "1.0".to_owned());

    let mut listed = repository.tags().await.unwrap();
    listed.sort();
    assert_eq!(listed, tags);
    let connections = connections(&cache.url);
    assert_eq!(connections.repositories(&cache.url).await.unwrap(), ["docker.io/library/hello"]);
    assert_eq!(connections.cache(&cache.url, "docker.io/library/none").tags().await.unwrap(), Vec::<String>::new());
}
