//! Copies, from an upstream of ours into the real registry.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cache_registry_core::{Digest, Hasher, LetGo, Location, Reason, Reference};
use cache_registry_registry::{Connections, Copied, CopyError, CopyOptions, GetOptions, Object, copy};
use http::Method;
use rstest::rstest;

use crate::connections;
use crate::distribution::{Distribution, Version};
use crate::images::{FOREIGN, INDEX, Images, pseudo_random};
use crate::server::{Server, answer, answer_with, breaking};

async fn copied(image: &str, connections: &Connections, cache: &Distribution) -> Result<Copied, CopyError> {
    copy(&reference(image), connections, &cache.url, &CopyOptions::default(), &|_, _| {}).await
}

fn reference(image: &str) -> Reference {
    image.parse().unwrap()
}

async fn upstream(images: Images) -> Server {
    Server::start(move |parts| images.answer(parts)).await
}

/// The digest under the image's tag in the cache.
async fn tagged(image: &str, connections: &Connections, cache: &Distribution) -> Option<Digest> {
    let location = Location::of(&reference(image));
    let target = connections.cache(&cache.url, location.repository());
    target.head_manifest(location.tag()).await.unwrap().map(|existing| existing.digest.unwrap())
}

#[rstest]
#[case(Version::Two)]
#[case(Version::Three)]
#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_copied_whole_and_byte_for_byte(#[case] version: Version) {
    let (images, root) = Images::two_platforms("1.0");
    let server = upstream(images.clone()).await;
    let (connections, cache) = (connections(&server.url), Distribution::start(version));
    let reports = Mutex::new(Vec::new());
    let progress = |done, total| reports.lock().unwrap().push((done, total));

    let source = reference("docker.io/library/hello:1.0");
    let result = copy(&source, &connections, &cache.url, &CopyOptions::default(), &progress).await.unwrap();

    let blobs: u64 = images.blobs.values().map(|bytes| bytes.len() as u64).sum();
    let manifests: u64 =
        images.manifests.iter().filter(|(name, _)| *name != "1.0").map(|(_, m)| m.1.len() as u64).sum();
    assert_eq!(result.digest, root);
    assert_eq!(result.size, blobs + manifests);
    assert_eq!(result.platforms, ["linux/amd64", "linux/arm64"]);
    assert_eq!(reports.lock().unwrap().last(), Some(&(blobs, blobs)));
    let target = connections.cache(&cache.url, "docker.io/library/hello");
    let stored = target.get_manifest("1.0").await.unwrap();
    assert_eq!(stored.bytes, images.manifests["1.0"].1);
    assert_eq!((stored.media_type.as_str(), stored.digest), (INDEX, root));
    for (digest, bytes) in &images.blobs {
        let digest = cache_registry_core::parse_digest(digest).unwrap();
        assert!(target.blob_exists(&digest, bytes.len() as u64).await.unwrap(), "{digest}");
    }
    // The shared layer once.
    assert_eq!(server.count(&Method::GET, "/blobs/"), images.blobs.len());
}

#[rstest]
#[case(Version::Two)]
#[case(Version::Three)]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_costs_upstream_one_head_and_no_upload(#[case] version: Version) {
    let (images, root) = Images::two_platforms("1.0");
    let server = upstream(images).await;
    let (connections, cache) = (connections(&server.url), Distribution::start(version));
    let first = copied("hello:1.0", &connections, &cache).await.unwrap();
    let before = server.seen().len();

    let second = copied("hello:1.0", &connections, &cache).await.unwrap();

    let after = server.seen().split_off(before);
    assert_eq!(after.iter().map(|seen| seen.method.clone()).collect::<Vec<_>>(), [Method::HEAD]);
    assert_eq!((second.bytes_uploaded, &second.digest, second.size), (0, &root, first.size));
    assert!(first.bytes_uploaded > first.size, "the root goes up twice, by digest and by tag");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moved_is_moved_and_only_what_is_new_is_sent() {
    let layers = [pseudo_random(1, 200_000), pseudo_random(2, 1_000)];
    let (old, replaced) = Images::of_layers("1", &[&layers[0]]);
    let (new, digest) = Images::of_layers("1", &[&layers[0], &layers[1]]);
    let moved = AtomicUsize::new(0);
    let moved = std::sync::Arc::new(moved);
    let now = std::sync::Arc::clone(&moved);
    let server =
        Server::start(move |parts| if now.load(Ordering::SeqCst) == 0 { &old } else { &new }.answer(parts)).await;
    let (connections, cache) = (connections(&server.url), Distribution::start(Version::Three));
    copied("x:1", &connections, &cache).await.unwrap();
    moved.store(1, Ordering::SeqCst);

    let options = CopyOptions { lets_go: true, ..CopyOptions::default() };
    let result = copy(&reference("x:1"), &connections, &cache.url, &options, &|_, _| {}).await.unwrap();

    assert_eq!(tagged("x:1", &connections, &cache).await, Some(digest));
    let tags = connections.cache(&cache.url, "docker.io/library/x").tags().await.unwrap();
    let let_go: Vec<_> = tags.iter().filter(|tag| tag.parse::<LetGo>().is_ok()).collect();
    let [let_go] = let_go.as_slice() else { panic!("{tags:?}") };
    assert_eq!(tagged(&format!("x:{let_go}"), &connections, &cache).await, Some(replaced));
    assert!((1_000..10_000).contains(&result.bytes_uploaded), "{}", result.bytes_uploaded);
    assert_eq!(result.platforms, ["linux/amd64"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_gets_a_tag_of_ours() {
    let (images, root) = Images::two_platforms("1.0");
    let server = upstream(images).await;
    let (connections, cache) = (connections(&server.url), Distribution::start(Version::Three));
    let image = format!("hello:1.0@{root}");

    assert_eq!(copied(&image, &connections, &cache).await.unwrap().digest, root);

    assert_eq!(tagged(&image, &connections, &cache).await, Some(root));
    assert_eq!(tagged("hello:1.0", &connections, &cache).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_of_another_repository_is_mounted() {
    let layer = pseudo_random(1, 500_000);
    let (images, _) = Images::of_layers("1", &[&layer]);
    let server = upstream(images).await;
    let (connections, cache) = (connections(&server.url), Distribution::start(Version::Three));
    copied("one:1", &connections, &cache).await.unwrap();

    let second = copied("two:1", &connections, &cache).await.unwrap();

    assert!(second.bytes_uploaded < 10_000, "{} bytes were sent again", second.bytes_uploaded);
    let target = connections.cache(&cache.url, "docker.io/library/two");
    assert!(target.blob_exists(&Hasher::sha256(&layer), 500_000).await.unwrap());
}

#[rstest]
#[case(Version::Two)]
#[case(Version::Three)]
#[tokio::test(flavor = "multi_thread")]
async fn empty_and_repeated_layers_are_sent_once(#[case] version: Version) {
    let layer = pseudo_random(1, 50_000);
    let (images, root) = Images::of_layers("1", &[b"", &layer, b"", &layer]);
    let server = upstream(images).await;
    let (connections, cache) = (connections(&server.url), Distribution::start(version));

    assert_eq!(copied("x:1", &connections, &cache).await.unwrap().digest, root);

    assert_eq!(server.count(&Method::GET, Hasher::sha256(&layer).as_ref()), 1);
    let target = connections.cache(&cache.url, "docker.io/library/x");
    assert!(target.blob_exists(&Hasher::sha256(b""), 0).await.unwrap());
}

#[rstest]
#[case(Version::Two)]
#[case(Version::Three)]
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_layer_that_upstream_does_not_have_is_left_out_with_a_note(#[case] version: Version) {
    let mut images = Images::default();
    let absent = Hasher::sha256(b"not to be passed on");
    let root = images.image(r#"{"os":"windows","architecture":"amd64"}"#, &[(FOREIGN, &absent, 19)]);
    images.tag("1", &root);
    let server = upstream(images).await;
    let (connections, cache) = (connections(&server.url), Distribution::start(version));

    let result = copied("x:1", &connections, &cache).await.unwrap();

    assert_eq!(result.notes.len(), 1);
    assert!(result.notes[0].contains(&absent.to_string()), "{:?}", result.notes);
    assert_eq!(tagged("x:1", &connections, &cache).await, Some(root));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_breaks_off_goes_on_where_it_was() {
    let layer = pseudo_random(1, 400_000);
    let (images, root) = Images::of_layers("1", &[&layer]);
    let broken = AtomicUsize::new(0);
    let path = format!("/blobs/{}", Hasher::sha256(&layer));
    let server = Server::start(move |parts| {
        if parts.method == Method::GET
            && parts.uri.path().ends_with(&path)
            && broken.fetch_add(1, Ordering::SeqCst) == 0
        {
            return answer_with(200, &[("content-length", "400000")], breaking(layer[..150_000].to_vec()));
        }
        images.answer(parts)
    })
    .await;
    let (connections, cache) = (connections(&server.url), Distribution::start(Version::Three));

    assert_eq!(copied("x:1", &connections, &cache).await.unwrap().digest, root);

    let ranges: Vec<_> = server.seen().into_iter().filter_map(|seen| seen.range).collect();
    assert_eq!(ranges, ["bytes=150000-"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_ignores_the_range_is_read_from_the_start() {
    let layer = pseudo_random(1, 400_000);
    let (images, root) = Images::of_layers("1", &[&layer]);
    let broken = AtomicUsize::new(0);
    let path = format!("/blobs/{}", Hasher::sha256(&layer));
    let server = Server::start(move |parts| {
        if parts.method == Method::GET && parts.uri.path().ends_with(&path) {
            return match broken.fetch_add(1, Ordering::SeqCst) {
                0 => answer_with(200, &[("content-length", "400000")], breaking(layer[..150_000].to_vec())),
                _ => answer(200, layer.clone()),
            };
        }
        images.answer(parts)
    })
    .await;
    let (connections, cache) = (connections(&server.url), Distribution::start(Version::Two));

    assert_eq!(copied("x:1", &connections, &cache).await.unwrap().digest, root);
}

#[rstest]
#[case(Version::Two)]
#[case(Version::Three)]
#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_are_never_committed(#[case] version: Version) {
    let layer = pseudo_random(1, 200_000);
    let (mut images, _) = Images::of_layers("1", &[&layer]);
    let digest = Hasher::sha256(&layer);
    images.blobs.insert(digest.to_string(), pseudo_random(9, 200_000));
    let server = upstream(images).await;
    let (connections, cache) = (connections(&server.url), Distribution::start(version));

    let error = copied("x:1", &connections, &cache).await.unwrap_err();

    assert_eq!(error.reason(), Reason::UpstreamUnreachable);
    assert!(error.to_string().contains(&format!("expected {digest}, got sha256:")), "{error}");
    let target = connections.cache(&cache.url, "docker.io/library/x");
    assert!(!target.blob_exists(&digest, 200_000).await.unwrap());
    assert_eq!(tagged("x:1", &connections, &cache).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_upstream_lost_is_named_and_nothing_gets_a_tag() {
    let (mut images, _) = Images::two_platforms("1.0");
    let lost = images.manifests.keys().find(|name| images.manifests[*name].0 != INDEX && name.starts_with("sha256:"));
    let lost = lost.unwrap().clone();
    images.manifests.remove(&lost);
    let server = upstream(images).await;
    let (connections, cache) = (connections(&server.url), Distribution::start(Version::Three));

    let error = copied("hello:1.0", &connections, &cache).await.unwrap_err();

    assert_eq!(error.reason(), Reason::NotFound);
    assert!(error.to_string().contains(&lost), "{error}");
    assert_eq!(tagged("hello:1.0", &connections, &cache).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_more_than_memory_should_hold_is_not_read_to_its_end() {
    const CHILDREN: usize = 20;
    let mut images = Images::default();
    let mut entries = Vec::new();
    for number in 0..CHILDREN {
        // As large as a manifest may be: ten of them are more than all may have together.
        let (head, tail) = (r#"{"schemaVersion":2,"#, format!(r#""manifests":[],"number":{number}}}"#));
        let text = format!("{head}{}{tail}", " ".repeat(4 * 1024 * 1024 - 100));
        let size = text.len();
        let digest = images.manifest(INDEX, text);
        entries.push(format!(r#"{{"mediaType":"{INDEX}","digest":"{digest}","size":{size}}}"#));
    }
    let root = images.manifest(INDEX, format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(",")));
    images.tag("1", &root);
    let server = upstream(images).await;
    let (connections, cache) = (connections(&server.url), Distribution::start(Version::Two));

    let error = copied("x:1", &connections, &cache).await.unwrap_err();

    assert!(error.to_string().contains("is out of bounds"), "{error}");
    // The root, nine children, and those that are under way at the same time.
    let fetched = server.count(&Method::GET, "/manifests/");
    assert!(fetched < CHILDREN, "{fetched} manifests were fetched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_asks_to_be_left_alone_is() {
    let server = Server::start(|_| answer_with(429, &[("retry-after", "1")], "too many")).await;
    let (connections, cache) = (connections(&server.url), Distribution::start(Version::Two));

    let error = copied("x:1", &connections, &cache).await.unwrap_err();

    assert_eq!((error.reason(), error.retry_after()), (Reason::RateLimited, Some(Duration::from_secs(1))));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_wait_is_waited_for() {
    let (images, root) = Images::of_layers("1", &[b"layer"]);
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |parts| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => answer_with(503, &[("retry-after", "1")], ""),
        1 => answer(503, ""),
        _ => images.answer(parts),
    })
    .await;
    let (connections, cache) = (connections(&server.url), Distribution::start(Version::Two));
    let began = std::time::Instant::now();

    assert_eq!(copied("x:1", &connections, &cache).await.unwrap().digest, root);

    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_tells_nothing_in_a_head_is_asked_by_get() {
    let (images, root) = Images::of_layers("1", &[b"layer"]);
    let server = Server::start(move |parts| match parts.method {
        Method::HEAD => answer(405, ""),
        _ => images.answer(parts),
    })
    .await;
    let (connections, cache) = (connections(&server.url), Distribution::start(Version::Two));

    assert_eq!(copied("x:1", &connections, &cache).await.unwrap().digest, root);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_down_is_told() {
    let (images, _) = Images::of_layers("1", &[b"layer"]);
    let server = upstream(images).await;
    let nobody = Server::start(|_| answer(500, "")).await.url.clone();
    let cache = Distribution::start(Version::Two);

    let error = copied("x:1", &connections(&nobody), &cache).await.unwrap_err();
    assert_eq!(error.reason(), Reason::UpstreamUnreachable, "{error}");

    let connections = connections(&server.url);
    let error = copy(&reference("x:1"), &connections, &nobody, &CopyOptions::default(), &|_, _| {}).await.unwrap_err();
    assert_eq!(error.reason(), Reason::RegistryUnreachable, "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_one_is_refused_in_words() {
    let kind = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let mut images = Images::default();
    let digest = images.manifest(kind, r#"{"schemaVersion":1}"#.to_owned());
    images.tag("1", &digest);
    let server = upstream(images).await;
    let (connections, cache) = (connections(&server.url), Distribution::start(Version::Two));

    let error = copied("x:1", &connections, &cache).await.unwrap_err().to_string();

    assert!(error.contains("schema 1") && error.contains("push the image again"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_takes_no_longer_than_it_may() {
    let layer = pseudo_random(1, 1_000);
    let (images, _) = Images::of_layers("1", &[&layer]);
    let path = format!("/blobs/{}", Hasher::sha256(&layer));
    let server = Server::start(move |parts| {
        if parts.uri.path().ends_with(&path) {
            return answer_with(503, &[("retry-after", "15")], "");
        }
        images.answer(parts)
    })
    .await;
    let (connections, cache) = (connections(&server.url), Distribution::start(Version::Two));
    let options = CopyOptions { time: Duration::from_millis(700), ..CopyOptions::default() };

    let error = copy(&reference("x:1"), &connections, &cache.url, &options, &|_, _| {}).await.unwrap_err();

    assert!(error.to_string().contains("not copied within 700ms"), "{error}");
    assert_eq!(tagged("x:1", &connections, &cache).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_of_another_size_than_its_manifest_says_is_not_sent() {
    let layer = pseudo_random(1, 1_000);
    let (mut images, _) = Images::of_layers("1", &[&layer]);
    images.blobs.insert(Hasher::sha256(&layer).to_string(), layer[..500].to_vec());
    let server = upstream(images).await;
    let (connections, cache) = (connections(&server.url), Distribution::start(Version::Two));

    let error = copied("x:1", &connections, &cache).await.unwrap_err();

    assert!(error.to_string().contains("500 bytes here, and 1000 by its manifest"), "{error}");
    assert_eq!(error.reason(), Reason::UpstreamUnreachable);
    let target = connections.cache(&cache.url, "docker.io/library/x");
    assert!(target.get(&Object::Blob(Hasher::sha256(&layer)), &GetOptions::default()).await.is_err());
}
