//! What a garbage collection keeps, and what it frees, with the registry as it is.

use std::path::Path;
use std::time::{Duration, SystemTime};

use cache_registry_volume::{Removed, Size, measure, prepare, remove_untagged};
use rstest::rstest;

use crate::distribution::{Distribution, Version};
use crate::shelf::{Shelf, about, image, index};

/// As the Job does it, with no time for a tag to come.
fn untagged(root: &Path) -> Removed {
    remove_untagged(root, SystemTime::now() + Duration::from_secs(1)).unwrap()
}

#[rstest]
#[case(Version::Two)]
#[case(Version::Three)]
#[tokio::test(flavor = "multi_thread")]
async fn what_no_tag_reaches_is_freed_and_all_else_stays_whole(#[case] version: Version) {
    let registry = Distribution::start(version);
    let (one, other, deep, old, new, alone) =
        (image("one"), image("other"), image("deep"), image("old"), image("new"), image("alone"));
    let (both, signature, stale) = (index(&[&one.root, &other.root]), about(&one.root), about(&old.root));
    let multi = Shelf::of(&registry, "docker.io/library/multi");
    for image in [&one, &other, &signature] {
        multi.put_image(image).await;
    }
    multi.put(&both, "1.0").await;
    multi.put(&both, "latest").await;
    let (inner, nested) = (index(&[&deep.root]), Shelf::of(&registry, "docker.io/library/multi/nested"));
    nested.put_image(&deep).await;
    nested.put(&inner, inner.digest.as_ref()).await;
    nested.put(&index(&[&inner]), "1").await;
    let moved = Shelf::of(&registry, "docker.io/moved");
    for image in [&old, &new, &stale] {
        moved.put_image(image).await;
    }
    moved.put(&old.root, "1").await;
    moved.put(&new.root, "1").await;
    Shelf::of(&registry, "alone").put_image(&alone).await;

    let (mut before, mut removed) = (Size::default(), Removed::default());
    let registry = registry.collect(&[], |root| (before, removed) = (measure(root).unwrap(), untagged(root)));
    // The old image, what was about it, and the one that never had a tag.
    assert_eq!(removed, Removed { manifests: 3, left_alone: 0 });
    let multi = Shelf::of(&registry, "docker.io/library/multi");
    for reference in ["1.0", "latest", signature.root.digest.as_ref()] {
        assert_eq!(multi.missing(reference).await, Vec::<String>::new(), "{reference}");
    }
    assert_eq!(Shelf::of(&registry, "docker.io/library/multi/nested").missing("1").await, Vec::<String>::new());
    let moved = Shelf::of(&registry, "docker.io/moved");
    assert_eq!(moved.missing("1").await, Vec::<String>::new());
    let gone = old.root.digest.to_string();
    assert_eq!(moved.missing(&gone).await, [gone]);

    let mut after = Size::default();
    // A second one finds nothing.
    let _registry = registry.collect(&[], |root| {
        after = measure(root).unwrap();
        assert_eq!(untagged(root), Removed::default());
    });
    // Manifest, configuration and layer of each.
    assert_eq!(before.blobs - after.blobs, 9);
    let freed: u64 = [&old, &stale, &alone].iter().map(|image| image.size()).sum();
    assert!(before.bytes - after.bytes >= freed, "{before:?} {after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_which_an_image_is_missing_costs_no_other_its_layers() {
    let registry = same_index_whole_and_sparse().await;
    let registry = registry.collect(&[], |root| assert_eq!(untagged(root), Removed::default()));
    assert_eq!(Shelf::of(&registry, "b/whole").missing("1").await, Vec::<String>::new());
    // The one that was not there, and nothing else.
    let missing = Shelf::of(&registry, "a/sparse").missing("1").await;
    assert_eq!(missing, [image("one").root.digest.to_string()]);
}

/// Why it is not used. Should this fail, distribution was mended.
#[tokio::test(flavor = "multi_thread")]
async fn distributions_own_way_takes_the_layers_of_an_image_that_has_a_tag() {
    let registry = same_index_whole_and_sparse().await.collect(&["--delete-untagged"], |_| ());
    let missing = Shelf::of(&registry, "b/whole").missing("1").await;
    let blobs = image("one").blobs;
    assert!(!missing.is_empty() && missing.iter().all(|any| blobs.iter().any(|blob| blob.digest.to_string() == *any)));
}

/// The same index in two repositories, in the first of which one of its images is missing.
async fn same_index_whole_and_sparse() -> Distribution {
    let registry = Distribution::taking_sparse_indexes(Version::Three);
    let (one, other) = (image("one"), image("other"));
    let both = index(&[&one.root, &other.root]);
    let (sparse, whole) = (Shelf::of(&registry, "a/sparse"), Shelf::of(&registry, "b/whole"));
    sparse.put_image(&other).await;
    sparse.put(&both, "1").await;
    for image in [&one, &other] {
        whole.put_image(image).await;
    }
    whole.put(&both, "1").await;
    registry
}

#[rstest]
#[case(Version::Two)]
#[case(Version::Three)]
fn a_registry_that_never_had_an_image_can_be_collected(#[case] version: Version) {
    let registry = Distribution::start(version);
    drop(registry.collect(&[], |root| assert_eq!(untagged(root), Removed::default())));
}

#[rstest]
#[case(Version::Two)]
#[case(Version::Three)]
fn nor_does_it_take_manifests_to_be_removed(#[case] version: Version) {
    let registry = Distribution::start(version);
    drop(registry.collect(&[], |root| prepare(root).unwrap()));
}
