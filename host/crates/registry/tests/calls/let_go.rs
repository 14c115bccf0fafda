//! Manifests that lost their tags, removed through the registry's own interface: what a bucket takes.

use std::time::Duration;

use cache_registry_core::LetGo;
use cache_registry_registry::Swept;
use cache_registry_volume::{Size, measure};
use rstest::rstest;

use crate::distribution::{Distribution, Version};
use crate::shelf::{Shelf, about, image, index};

/// As the controllers take a tag away.
async fn take_away(shelf: &Shelf, tag: &str) {
    shelf.0.let_go(tag).await.unwrap();
    shelf.0.delete_tag(tag).await.unwrap();
}

/// Removes what was let go until now.
async fn sweep(shelf: &Shelf) -> Swept {
    shelf.0.remove_let_go(Duration::ZERO).await.unwrap()
}

#[rstest]
#[case(Version::Two)]
#[case(Version::Three)]
#[tokio::test(flavor = "multi_thread")]
async fn the_last_tag_takes_all_of_an_image_along_and_a_sibling_none(#[case] version: Version) {
    let registry = Distribution::start(version);
    let shelf = Shelf::of(&registry, "docker.io/library/multi");
    let (one, other) = (image("one"), image("other"));
    let both = index(&[&one.root, &other.root]);
    for image in [&one, &other] {
        shelf.put_image(image).await;
    }
    shelf.put(&both, "1.0").await;
    shelf.put(&both, "latest").await;

    take_away(&shelf, "1.0").await;
    assert_eq!(sweep(&shelf).await, Swept { manifests: 0, next: None });
    assert_eq!(shelf.0.tags().await.unwrap(), ["latest"]);
    assert_eq!(shelf.missing("latest").await, Vec::<String>::new());

    take_away(&shelf, "latest").await;
    assert_eq!(sweep(&shelf).await, Swept { manifests: 3, next: None });
    assert_eq!(shelf.0.tags().await.unwrap(), Vec::<String>::new());
    assert_eq!(sweep(&shelf).await, Swept::default());
    let mut left = Size::default();
    // Manifest, configuration and layer of each, and the index; and what version 2 takes tags away with.
    let registry = registry.collect(&[], |root| assert!(measure(root).unwrap().blobs >= 7));
    drop(registry.collect(&[], |root| left = measure(root).unwrap()));
    assert_eq!(left.blobs, 0);
}

#[rstest]
#[case(Version::Two)]
#[case(Version::Three)]
#[tokio::test(flavor = "multi_thread")]
async fn of_an_image_that_moved_goes_what_the_new_one_does_not_need(#[case] version: Version) {
    let registry = Distribution::start(version);
    let shelf = Shelf::of(&registry, "docker.io/library/moved");
    let (shared, old, new) = (image("shared"), image("old"), image("new"));
    let (before, after) = (index(&[&shared.root, &old.root]), index(&[&shared.root, &new.root]));
    for image in [&shared, &old, &new] {
        shelf.put_image(image).await;
    }
    shelf.put(&before, "1").await;
    shelf.0.let_go("1").await.unwrap();
    shelf.put(&after, "1").await;

    assert_eq!(sweep(&shelf).await, Swept { manifests: 2, next: None });
    assert_eq!(shelf.missing("1").await, Vec::<String>::new());
    let gone = old.root.digest.to_string();
    assert_eq!(shelf.missing(&gone).await, [gone]);
    let registry = registry.collect(&[], |_| ());
    let shelf = Shelf::of(&registry, "docker.io/library/moved");
    assert_eq!(shelf.missing("1").await, Vec::<String>::new());
}

#[rstest]
#[case(Version::Two)]
#[case(Version::Three)]
#[tokio::test(flavor = "multi_thread")]
async fn a_signature_stays_with_what_it_signs(#[case] version: Version) {
    let registry = Distribution::start(version);
    let shelf = Shelf::of(&registry, "docker.io/library/signed");
    let signed = image("signed");
    let signature = about(&signed.root);
    for image in [&signed, &signature] {
        shelf.put_image(image).await;
    }
    shelf.put(&signed.root, "1").await;
    shelf.put(&signature.root, "sha256-cosign.sig").await;
    take_away(&shelf, "sha256-cosign.sig").await;

    assert_eq!(sweep(&shelf).await.manifests, 0);
    assert_eq!(shelf.missing(signature.root.digest.as_ref()).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_before_its_time_and_it_is_said_when_that_is() {
    let registry = Distribution::start(Version::Three);
    let shelf = Shelf::of(&registry, "docker.io/library/early");
    let early = image("early");
    shelf.put_image(&early).await;
    shelf.put(&early.root, "1").await;
    take_away(&shelf, "1").await;

    let day = Duration::from_hours(24);
    let swept = shelf.0.remove_let_go(day).await.unwrap();
    assert_eq!(swept.manifests, 0);
    assert!(swept.next.is_some_and(|next| next <= day && next > Duration::from_hours(23)), "{swept:?}");
    let tags = shelf.0.tags().await.unwrap();
    let [tag] = tags.as_slice() else { panic!("{tags:?}") };
    assert!(tag.parse::<LetGo>().is_ok(), "{tag}");
    assert_eq!(shelf.missing(early.root.digest.as_ref()).await, Vec::<String>::new());
}

/// As after a run that was cut: the tag has what it names no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_names_nothing_any_more_is_tidied_away() {
    let registry = Distribution::start(Version::Three);
    let shelf = Shelf::of(&registry, "docker.io/library/cut");
    let cut = image("cut");
    shelf.put_image(&cut).await;
    shelf.put(&cut.root, "1").await;
    take_away(&shelf, "1").await;
    let registry = registry.collect(&[], |root| {
        let revisions = root.join("docker/registry/v2/repositories/docker.io/library/cut/_manifests/revisions");
        std::fs::remove_dir_all(revisions).unwrap();
    });
    let shelf = Shelf::of(&registry, "docker.io/library/cut");
    assert_eq!(shelf.0.tags().await.unwrap().len(), 1);
    assert_eq!(sweep(&shelf).await, Swept { manifests: 0, next: None });
    assert_eq!(shelf.0.tags().await.unwrap(), Vec::<String>::new());
}

/// It is listed, so it may be the registry that cannot see what it names.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_while_another_tag_names_nothing() {
    let registry = Distribution::start(Version::Three);
    let shelf = Shelf::of(&registry, "docker.io/library/odd");
    let (odd, gone) = (image("odd"), image("gone"));
    for (image, tag) in [(&odd, "1"), (&gone, "2")] {
        shelf.put_image(image).await;
        shelf.put(&image.root, tag).await;
    }
    take_away(&shelf, "2").await;
    let registry = registry.collect(&[], |root| {
        let revisions = root.join("docker/registry/v2/repositories/docker.io/library/odd/_manifests/revisions/sha256");
        std::fs::remove_dir_all(revisions.join(odd.root.digest.digest())).unwrap();
    });
    let shelf = Shelf::of(&registry, "docker.io/library/odd");
    let words = shelf.0.remove_let_go(Duration::ZERO).await.unwrap_err().to_string();
    assert!(words.contains("its tag 1 is listed and names nothing"), "{words}");
    assert_eq!(shelf.missing(gone.root.digest.as_ref()).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_is_not_there_is_let_go_in_no_time() {
    let registry = Distribution::start(Version::Three);
    let shelf = Shelf::of(&registry, "docker.io/library/none");
    shelf.0.let_go("1").await.unwrap();
    assert_eq!(sweep(&shelf).await, Swept::default());
}
