//! What of an image is copied, and what the cache says of what it has.

use cache_registry_core::{Location, PlatformChoice, Platforms, Reason, Reference};
use cache_registry_registry::{Connections, Copied, CopyError, CopyOptions, Presence, Repository, copy};
use cache_registry_upstream::{Content, File, INDEX, Image, Layer, Matching, Platform, Upstream};
use rstest::rstest;
use serde_json::{Value, json};

use crate::connections;
use crate::distribution::{Distribution, Version};

const SOURCE: &str = "docker.io/library/hello:1";

pub(crate) fn platforms(text: &str) -> Platforms {
    match text.parse() {
        Ok(PlatformChoice::Fixed(platforms)) => platforms,
        other => panic!("{other:?}"),
    }
}

/// An upstream registry, and the cache that is filled from it.
pub(crate) struct Place {
    pub(crate) upstream: Upstream,
    pub(crate) cache: Distribution,
    pub(crate) connections: Connections,
}

impl Place {
    pub(crate) async fn of(cache: Distribution) -> Self {
        let upstream = Upstream::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let connections = connections(&format!("http://{}", upstream.address()).parse().unwrap());
        Self { upstream, cache, connections }
    }

    pub(crate) async fn copies(&self, source: &str, options: &CopyOptions) -> Result<Copied, CopyError> {
        let source: Reference = source.parse().unwrap();
        copy(&source, &self.connections, &self.cache.url, options, &|_, _| {}).await
    }

    async fn copies_for(&self, nodes: &str) -> Copied {
        let options = CopyOptions { platforms: platforms(nodes), ..CopyOptions::default() };
        self.copies(SOURCE, &options).await.unwrap()
    }

    pub(crate) fn repository(&self) -> Repository {
        let source: Reference = SOURCE.parse().unwrap();
        self.connections.cache(&self.cache.url, Location::of(&source).repository())
    }

    async fn has(&self, manifest: &Content) -> bool {
        let found = self.repository().head_manifest(manifest.digest.as_ref()).await.unwrap();
        found.is_some()
    }
}

/// amd64 and arm64, and an attestation of each.
fn hello() -> Image {
    Image::hello(b"hello").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_index_is_copied_what_the_nodes_take_and_later_the_rest() {
    let place = Place::of(Distribution::taking_sparse_indexes(Version::Three)).await;
    let image = hello();
    let [amd64, about_amd64, arm64, about_arm64] = image.manifests.as_slice() else { panic!("{image:?}") };
    place.upstream.add("library/hello", "1", &image);

    let copied = place.copies_for("linux/amd64").await;
    assert_eq!((&copied.digest, copied.platforms), (image.digest(), vec!["linux/amd64".to_owned()]));
    let repository = place.repository();
    assert_eq!(repository.get_manifest("1").await.unwrap().bytes, image.root.bytes);
    assert!(place.has(amd64).await && place.has(about_amd64).await);
    assert!(!place.has(arm64).await && !place.has(about_arm64).await);
    let presence = async |nodes: &str| repository.presence("1", &platforms(nodes)).await.unwrap();
    assert_eq!(presence("linux/amd64").await, Presence::Whole(image.digest().clone()));
    for more in ["all", "linux/amd64,linux/arm64"] {
        assert_eq!(presence(more).await, Presence::Partial(image.digest().clone()), "{more}");
    }
    assert_eq!(repository.presence("2", &platforms("all")).await.unwrap(), Presence::Absent);

    // A node of another kind has come: only what it needs is fetched, and the index not at all.
    place.upstream.reset_traffic();
    let copied = place.copies_for("linux/amd64,linux/arm64").await;
    assert_eq!(copied.platforms, ["linux/amd64", "linux/arm64/v8"]);
    assert_eq!(presence("all").await, Presence::Whole(image.digest().clone()));
    let fetched = place.upstream.traffic();
    let manifests = fetched.requests.iter().filter(|request| request.method == "GET" && request.bytes > 0);
    assert!(manifests.clone().all(|request| request.target.reference != amd64.digest.to_string()));
    assert_eq!(fetched.of(&Matching::manifests()).filter(|request| request.method == "GET").count(), 2);
    // And it left again: what is there is there.
    assert_eq!(place.copies_for("linux/arm64").await.platforms, ["linux/amd64", "linux/arm64/v8"]);
}

#[rstest]
#[case::refused_by_version_2(Distribution::start(Version::Two), "linux/amd64")]
#[case::refused_by_version_3(Distribution::start(Version::Three), "linux/amd64")]
#[case::nothing_that_is_wanted(Distribution::taking_sparse_indexes(Version::Three), "linux/s390x")]
#[tokio::test(flavor = "multi_thread")]
async fn all_is_copied_where_not_all_will_not_do(#[case] cache: Distribution, #[case] nodes: &str) {
    let place = Place::of(cache).await;
    let image = hello();
    place.upstream.add("library/hello", "1", &image);
    assert_eq!(place.copies_for(nodes).await.platforms, ["linux/amd64", "linux/arm64/v8"]);
    let presence = place.repository().presence("1", &platforms("all")).await.unwrap();
    assert_eq!(presence, Presence::Whole(image.digest().clone()));
}

/// A manifest with something changed or taken away, under its new digest.
fn changed(manifest: &Content, change: impl FnOnce(&mut Value)) -> Content {
    let mut document: Value = serde_json::from_slice(&manifest.bytes).unwrap();
    change(&mut document);
    Content::new(manifest.media_type.clone(), document.to_string())
}

#[rstest]
#[case(Version::Two)]
#[case(Version::Three)]
#[tokio::test(flavor = "multi_thread")]
async fn indexes_in_indexes_zstd_and_manifests_without_a_type_of_their_own(#[case] version: Version) {
    let place = Place::of(Distribution::start(version)).await;
    let layer = Layer::gzip(&[File::data("x", "x")]).unwrap();
    let mut image = Image::single(&Platform::AMD64, &[layer], &["/x"]);
    image.root = changed(&image.root, |document| {
        document["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+zstd");
        document.as_object_mut().unwrap().remove("mediaType");
    });
    let descriptor = |content: &Content| json!({"mediaType": content.media_type, "digest": content.digest.to_string(), "size": content.bytes.len()});
    let index = |child: &Content| {
        Content::new(INDEX, json!({"schemaVersion": 2, "manifests": [descriptor(child)]}).to_string())
    };
    let (leaf, inner) = (image.root.clone(), index(&image.root));
    image.root = index(&inner);
    image.manifests = vec![leaf.clone(), inner];
    place.upstream.add("library/hello", "1", &image);

    let copied = place.copies_for("linux/amd64").await;
    assert_eq!((&copied.digest, copied.size), (image.digest(), image.size()));
    for manifest in image.all_manifests() {
        let stored = place.repository().get_manifest(manifest.digest.as_ref()).await.unwrap();
        assert_eq!(stored.bytes, manifest.bytes);
    }
    let presence = async || place.repository().presence("1", &platforms("linux/amd64")).await.unwrap();
    assert_eq!(presence().await, Presence::Whole(image.digest().clone()));
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_1_is_refused_in_words() {
    const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let place = Place::of(Distribution::start(Version::Three)).await;
    let manifest = json!({"schemaVersion": 1, "name": "library/hello", "tag": "1", "fsLayers": []}).to_string();
    let digest = place.upstream.store().put_manifest("library/hello", SCHEMA_1, manifest.into());
    place.upstream.store().put_tag("library/hello", "1", &digest);

    let refused = place.copies(SOURCE, &CopyOptions::default()).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::Unsupported, "{refused}");
    assert!(
        refused.to_string().contains("schema 1, which no runtime pulls any more: push the image again"),
        "{refused}"
    );
    assert_eq!(place.repository().presence("1", &Platforms::All).await.unwrap(), Presence::Absent);
}
