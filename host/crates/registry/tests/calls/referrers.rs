//! What is about an image comes with it, is found where clients look, and goes with it.

use std::process::Command;
use std::time::Duration;

use cache_registry_core::{Digest, Platforms, cosign_tags, referrers_tag};
use cache_registry_registry::{CopyOptions, Presence};
use cache_registry_upstream::{Content, Fault, INDEX, Image, Matching, Rule};
use http::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::distribution::{Distribution, Version, tool};
use crate::whole::{Place, platforms};

const SOURCE: &str = "docker.io/library/hello:1";
const REPOSITORY: &str = "library/hello";

/// As the controllers copy, for nodes of amd64.
fn options() -> CopyOptions {
    CopyOptions { referrers: true, platforms: platforms("linux/amd64"), ..CopyOptions::default() }
}

fn hello() -> Image {
    Image::hello(b"signed").unwrap()
}

/// Puts something that has no tag at the upstream.
fn put(place: &Place, image: &Image) {
    let store = place.upstream.store();
    for blob in &image.blobs {
        store.put_blob(REPOSITORY, blob.bytes.clone());
    }
    store.put_manifest(REPOSITORY, &image.root.media_type, image.root.bytes.clone());
}

/// What the cache lists as being about a manifest.
async fn listed(place: &Place, subject: &Digest) -> Vec<Value> {
    let list = place.repository().get_manifest(&referrers_tag(subject)).await.unwrap();
    let list: Value = serde_json::from_slice(&list.bytes).unwrap();
    list["manifests"].as_array().unwrap().clone()
}

/// All of it is in the cache, byte for byte.
async fn has_all(place: &Place, image: &Image) {
    let repository = place.repository();
    assert_eq!(repository.get_manifest(image.digest().as_ref()).await.unwrap().bytes, image.root.bytes);
    for blob in &image.blobs {
        assert!(repository.blob_exists(&blob.digest, blob.bytes.len() as u64).await.unwrap(), "{}", blob.digest);
    }
}

#[rstest]
#[case(Distribution::start(Version::Two))]
#[case(Distribution::taking_sparse_indexes(Version::Three))]
#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_lists_is_copied_and_listed_under_the_tag(#[case] cache: Distribution) {
    let place = Place::of(cache).await;
    let image = hello();
    place.upstream.add(REPOSITORY, "1", &image);
    let signature = Image::about(&image.root, "application/vnd.dev.sigstore.bundle.v0.3+json", "signed");
    let sbom = Image::about(&image.manifests[0], "application/spdx+json", "packages");
    put(&place, &signature);
    put(&place, &sbom);

    let copied = place.copies(SOURCE, &options()).await.unwrap();
    assert_eq!(copied.notes, Vec::<String>::new());
    for (subject, about, kind) in [
        (image.digest(), &signature, "application/vnd.dev.sigstore.bundle.v0.3+json"),
        (&image.manifests[0].digest, &sbom, "application/spdx+json"),
    ] {
        has_all(&place, about).await;
        let listed = listed(&place, subject).await;
        assert_eq!(listed.len(), 1);
        assert_eq!(
            (&listed[0]["digest"], &listed[0]["artifactType"]),
            (&json!(about.digest().to_string()), &json!(kind))
        );
        // As a tool sees it that knows nothing of us.
        let reference = format!("{}/docker.io/{REPOSITORY}@{subject}", place.cache.host());
        let found = Command::new(tool("oras"))
            .args(["discover", "--plain-http", "--format", "json", &reference])
            .output()
            .unwrap();
        let found = String::from_utf8(found.stdout).unwrap();
        assert!(found.contains(&about.digest().to_string()), "{found}");
    }

    // Again is nothing new: HEADs, and the lists.
    place.upstream.reset_traffic();
    let again = place.copies(SOURCE, &options()).await.unwrap();
    assert_eq!(again.bytes_uploaded, 0);
    let traffic = place.upstream.traffic();
    assert_eq!(traffic.of(&Matching::manifests().method(&Method::GET)).count(), 0);
    // The tag's; and for the index and for the image that is wanted a list and cosign's three tags.
    assert_eq!(traffic.requests.len(), 1 + 4 * 2);
}

#[rstest]
#[case(Distribution::start(Version::Two))]
#[case(Distribution::taking_sparse_indexes(Version::Three))]
#[tokio::test(flavor = "multi_thread")]
async fn without_an_api_what_is_under_the_tags_is_copied_to_the_letter(#[case] cache: Distribution) {
    let place = Place::of(cache).await;
    let without_api = Rule::on(Matching::referrers(), Fault::Status { code: 404 });
    place.upstream.misbehave(without_api);
    let image = hello();
    place.upstream.add(REPOSITORY, "1", &image);
    let [bundle, signature] = ["bundle", "simple"].map(|text| Image::about(&image.root, "x/y", text));
    put(&place, &bundle);
    let entry = json!({"mediaType": bundle.root.media_type, "digest": bundle.digest().to_string(), "size": bundle.root.bytes.len()});
    // With a space, which would get lost if it was written anew.
    let list = Content::new(INDEX, format!(r#"{{"schemaVersion": 2,"mediaType":"{INDEX}","manifests":[{entry}]}}"#));
    let store = place.upstream.store();
    store.put_manifest(REPOSITORY, INDEX, list.bytes.clone());
    store.put_tag(REPOSITORY, &referrers_tag(image.digest()), &list.digest);
    let cosign = cosign_tags(image.digest()).next().unwrap();
    place.upstream.add(REPOSITORY, &cosign, &signature);

    let copied = place.copies(SOURCE, &options()).await.unwrap();
    assert_eq!(copied.notes, Vec::<String>::new());
    let repository = place.repository();
    assert_eq!(repository.get_manifest(&referrers_tag(image.digest())).await.unwrap().bytes, list.bytes);
    assert_eq!(repository.get_manifest(&cosign).await.unwrap().bytes, signature.root.bytes);
    has_all(&place, &bundle).await;
    has_all(&place, &signature).await;
    // That there is none is asked once.
    assert_eq!(place.upstream.traffic().of(&Matching::referrers()).count(), 1);
}

#[rstest]
#[case::limited(Matching::referrers(), Fault::TooManyRequests { retry_after: None })]
#[case::failing(Matching::referrers(), Fault::Status { code: 500 })]
#[case::wrong(Matching::blobs(), Fault::Status { code: 403 })]
#[tokio::test(flavor = "multi_thread")]
async fn that_it_cannot_be_had_is_a_note(#[case] of: Matching, #[case] fault: Fault) {
    let place = Place::of(Distribution::taking_sparse_indexes(Version::Three)).await;
    let image = hello();
    place.upstream.add(REPOSITORY, "1", &image);
    place.copies(SOURCE, &CopyOptions::default()).await.unwrap();
    put(&place, &Image::about(&image.root, "x/y", "signed"));
    place.upstream.misbehave(Rule::on(of, fault));

    let copied = place.copies(SOURCE, &options()).await.unwrap();
    assert_eq!(&copied.digest, image.digest());
    assert_eq!(copied.notes.len(), 1, "{:?}", copied.notes);
    assert!(
        copied.notes[0].starts_with("Signatures, attestations and SBOMs of the image are left out"),
        "{:?}",
        copied.notes
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_the_list_and_is_not_there_is_left_out_of_it() {
    let place = Place::of(Distribution::taking_sparse_indexes(Version::Three)).await;
    let image = hello();
    place.upstream.add(REPOSITORY, "1", &image);
    let [good, lost] = ["good", "lost"].map(|text| Image::about(&image.root, "x/y", text));
    put(&place, &good);
    put(&place, &lost);
    let gone = Matching::manifests().reference(lost.digest().as_ref());
    place.upstream.misbehave(Rule::on(gone, Fault::Status { code: 404 }));

    let copied = place.copies(SOURCE, &options()).await.unwrap();
    assert_eq!(listed(&place, image.digest()).await.len(), 1);
    assert!(copied.notes.len() == 1 && copied.notes[0].contains(&lost.digest().to_string()), "{:?}", copied.notes);
}

#[rstest]
#[case(Distribution::start(Version::Two))]
#[case(Distribution::taking_sparse_indexes(Version::Three))]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_about_an_image_goes_with_its_last_tag(#[case] cache: Distribution) {
    let place = Place::of(cache).await;
    let image = hello();
    for tag in ["1", "2"] {
        place.upstream.add(REPOSITORY, tag, &image);
    }
    put(&place, &Image::about(&image.root, "x/y", "signed"));
    put(&place, &Image::about(&image.manifests[0], "x/y", "signed"));
    let cosign = cosign_tags(image.digest()).next().unwrap();
    place.upstream.add(REPOSITORY, &cosign, &Image::about(&image.root, "x/y", "cosign"));
    for source in [SOURCE, "docker.io/library/hello:2"] {
        place.copies(source, &options()).await.unwrap();
    }
    let repository = place.repository();
    let tags = async || repository.tags().await.unwrap().len();
    assert_eq!(tags().await, 5);

    repository.delete_image("1", false).await.unwrap();
    assert_eq!(tags().await, 4, "the other tag has the same digest");
    let whole = repository.presence("2", &platforms("linux/amd64")).await.unwrap();
    assert_eq!(whole, Presence::Whole(image.digest().clone()));
    repository.delete_image("2", false).await.unwrap();
    assert_eq!(tags().await, 0);
    repository.delete_image("2", false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_about_an_earlier_image_of_a_tag_goes_when_it_moves() {
    let place = Place::of(Distribution::taking_sparse_indexes(Version::Three)).await;
    let (old, new) = (hello(), Image::hello(b"new").unwrap());
    for image in [&old, &new] {
        place.upstream.add(REPOSITORY, "1", image);
        put(&place, &Image::about(&image.root, "x/y", "signed"));
        place.copies(SOURCE, &options()).await.unwrap();
    }
    let mut expected = vec!["1".to_owned(), referrers_tag(new.digest())];
    expected.sort();
    let mut tags = place.repository().tags().await.unwrap();
    tags.sort();
    assert_eq!(tags, expected);
    assert_eq!(
        place.repository().presence("1", &Platforms::All).await.unwrap(),
        Presence::Partial(new.digest().clone())
    );
}

/// As the controllers have it with a bucket: nothing of either image is left that could be pulled.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_let_go_takes_along_what_is_about_it() {
    let place = Place::of(Distribution::taking_sparse_indexes(Version::Three)).await;
    let options = CopyOptions { lets_go: true, ..options() };
    let (old, new) = (hello(), Image::hello(b"new").unwrap());
    let [about_old, about_new] = [&old, &new].map(|image| Image::about(&image.root, "x/y", "signed"));
    for (image, about) in [(&old, &about_old), (&new, &about_new)] {
        place.upstream.add(REPOSITORY, "1", image);
        put(&place, about);
        place.copies(SOURCE, &options).await.unwrap();
    }
    let repository = place.repository();
    let is_there = async |image: &Image| repository.head_manifest(image.digest().as_ref()).await.unwrap().is_some();

    repository.remove_let_go(Duration::ZERO).await.unwrap();
    let mut tags = repository.tags().await.unwrap();
    tags.sort();
    assert_eq!(tags, ["1".to_owned(), referrers_tag(new.digest())]);
    assert!(is_there(&new).await && is_there(&about_new).await);
    assert!(!is_there(&old).await && !is_there(&about_old).await);

    repository.delete_image("1", true).await.unwrap();
    repository.remove_let_go(Duration::ZERO).await.unwrap();
    assert_eq!(repository.tags().await.unwrap(), Vec::<String>::new());
    assert!(!is_there(&new).await && !is_there(&about_new).await);
}
