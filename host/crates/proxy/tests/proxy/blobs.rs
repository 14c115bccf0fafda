use bytes::Bytes;
use rstest::rstest;

use crate::client::{Got, get, get_range, head};
use crate::node::{CACHE, IDLE, Node, UPSTREAM, nobody, node, noise};
use crate::origin::{Mood, Origin};

const LARGE: usize = 3_000_000;
const SMALL: usize = 5_000;

/// Holds a blob in both; returns its bytes and its path at the node.
fn both(cache: &Origin, upstream: &Origin, length: usize) -> (Bytes, String) {
    let bytes = noise(length);
    cache.blob(CACHE, &bytes);
    let digest = upstream.blob(UPSTREAM, &bytes);
    (bytes, format!("/v2/reg.test/app/blobs/{digest}"))
}

fn is_whole(got: &Got, bytes: &Bytes) {
    assert_eq!((got.status, got.is_complete, got.body.len()), (200, true, bytes.len()));
    assert!(got.body == *bytes, "other bytes");
    assert_eq!(got.header("content-length"), bytes.len().to_string());
}

#[rstest]
#[tokio::test]
async fn a_blob_comes_from_the_cache_whole(#[values(0, SMALL, LARGE)] length: usize) {
    let (cache, upstream, node) = node().await;
    let (bytes, path) = both(&cache, &upstream, length);
    let told = head(node.address, &path).await;
    assert_eq!((told.status, told.header("content-length")), (200, bytes.len().to_string().as_str()));
    let got = get(node.address, &path).await;
    is_whole(&got, &bytes);
    assert!(path.ends_with(got.header("docker-content-digest")));
    assert_eq!(got.header("x-cache-registry-served-by"), "cache");
    assert_eq!(got.header("accept-ranges"), "bytes");
    assert!(upstream.seen().is_empty());
    let counted = node.metric("cache_registry_proxy_request_duration_seconds_count{kind=\"blob\"}");
    assert!((counted - 2.0).abs() < f64::EPSILON, "{counted}");
}

#[rstest]
#[case::not_there(Mood::Status(404))]
#[case::denied(Mood::Status(401))]
#[case::broken(Mood::Status(500))]
#[case::silent(Mood::Silent)]
#[tokio::test]
async fn a_cache_that_does_not_begin_is_no_hindrance(
    #[case] mood: Mood,
    #[values(SMALL, LARGE)] length: usize,
    #[values(Mood::Well, Mood::Chunked)] upstream_mood: Mood,
) {
    let (cache, upstream, node) = node().await;
    let (bytes, path) = both(&cache, &upstream, length);
    cache.mood(mood);
    upstream.mood(upstream_mood);
    let got = get(node.address, &path).await;
    assert_eq!((got.status, got.is_complete), (200, true));
    assert!(got.body == bytes, "other bytes");
    assert_eq!(got.header("x-cache-registry-served-by"), "upstream");
    assert_eq!(head(node.address, &path).await.status, 200);
}

#[rstest]
#[tokio::test]
async fn a_cache_that_fails_within_a_body_is_continued_by_the_upstream(
    #[values(Mood::Cut(1_234_567), Mood::Stalled(1_234_567), Mood::Cut(0), Mood::Stalled(0))] mood: Mood,
    #[values(Mood::Well, Mood::WithoutRanges, Mood::Chunked)] upstream_mood: Mood,
) {
    let (cache, upstream, node) = node().await;
    let (bytes, path) = both(&cache, &upstream, LARGE);
    cache.mood(mood);
    upstream.mood(upstream_mood);
    is_whole(&get(node.address, &path).await, &bytes);
    let asked = upstream.asked();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].1.ends_with(&format!("-{}", LARGE - 1)), "the rest, not the whole: {asked:?}");
    assert!((node.metric("cache_registry_proxy_bodies_continued_total{leg=\"cache\"}") - 1.0).abs() < f64::EPSILON);
}

#[rstest]
#[tokio::test]
async fn a_small_blob_that_fails_is_replaced_before_its_first_byte(
    #[values(Mood::WrongBytes, Mood::Cut(1234), Mood::Stalled(1234))] mood: Mood,
) {
    let (cache, upstream, node) = node().await;
    let (bytes, path) = both(&cache, &upstream, SMALL);
    cache.mood(mood);
    let got = get(node.address, &path).await;
    is_whole(&got, &bytes);
    assert_eq!(got.header("x-cache-registry-served-by"), "upstream");
    assert_eq!(upstream.asked(), [("GET".to_owned(), String::new())]);
}

#[tokio::test]
async fn a_small_blob_that_drips_is_not_waited_for_without_end() {
    let (cache, upstream) = (Origin::start().await, Origin::start().await);
    let (bytes, path) = both(&cache, &upstream, SMALL);
    cache.mood(Mood::Dripping);
    let node = Node::start_with(cache.address, upstream.address, |config| config.manifest_wait = IDLE * 2).await;
    let got = tokio::time::timeout(IDLE * 10, get(node.address, &path)).await.expect("an answer");
    is_whole(&got, &bytes);
    assert_eq!(got.header("x-cache-registry-served-by"), "upstream");
}

#[rstest]
#[tokio::test]
async fn an_answer_to_a_range_that_nobody_asked_for_is_none(#[values(206, 416)] status: u16) {
    let (cache, upstream, node) = node().await;
    let (bytes, path) = both(&cache, &upstream, SMALL);
    cache.mood(Mood::Status(status));
    for got in [head(node.address, &path).await, get(node.address, &path).await] {
        assert_eq!((got.status, got.header("x-cache-registry-served-by")), (200, "upstream"));
        assert_eq!(got.header("content-length"), bytes.len().to_string());
    }
}

#[tokio::test]
async fn a_length_that_nobody_told_is_not_0() {
    let (cache, upstream, node) = node().await;
    let (_, path) = both(&cache, &upstream, SMALL);
    cache.mood(Mood::Chunked);
    let told = head(node.address, &path).await;
    assert_eq!((told.status, told.header("content-length")), (200, ""));
}

#[tokio::test]
async fn the_words_of_a_refusal_are_no_bytes_of_a_blob() {
    let (cache, upstream, node) = node().await;
    let (bytes, path) = both(&cache, &upstream, LARGE);
    cache.mood(Mood::Cut(3));
    upstream.mood(Mood::RangeRefused);
    // A part of a blob cannot be checked here.
    let got = get_range(node.address, &path, "bytes=2-").await;
    assert!(!got.is_complete && bytes[2..].starts_with(&got.body), "{:?}", got.body);
    assert_eq!(upstream.asked().len(), 1);
}

#[tokio::test]
async fn wrong_bytes_are_cut_and_the_next_attempt_goes_upstream() {
    let (cache, upstream, node) = node().await;
    let (bytes, path) = both(&cache, &upstream, LARGE);
    cache.mood(Mood::WrongBytes);
    let first = get(node.address, &path).await;
    assert!(!first.is_complete && first.body.len() < LARGE, "{} bytes", first.body.len());
    assert!((node.metric("cache_registry_proxy_digest_mismatches_total{leg=\"cache\"}") - 1.0).abs() < f64::EPSILON);

    // containerd asks for the rest: of no use to it.
    let rest = get_range(node.address, &path, &format!("bytes={}-", first.body.len())).await;
    assert_eq!(rest.status, 502);
    assert!(rest.error().1.contains("start again at byte 0"), "{:?}", rest.error());
    assert!(upstream.seen().is_empty());

    // The next pull starts again, and what it resumes is of use.
    let second = get(node.address, &path).await;
    is_whole(&second, &bytes);
    assert_eq!(second.header("x-cache-registry-served-by"), "upstream");
    let rest = get_range(node.address, &path, "bytes=1000-").await;
    assert_eq!((rest.status, rest.header("x-cache-registry-served-by")), (206, "upstream"));
    assert!(rest.body == bytes.slice(1000..), "other bytes");
    assert_eq!(cache.seen().len(), 1, "the cache is not asked for it any more");
}

#[tokio::test]
async fn wrong_bytes_without_a_length_are_cut_too() {
    let (cache, upstream, node) = node().await;
    let (_, path) = both(&cache, &upstream, LARGE);
    cache.mood(Mood::WrongBytesChunked);
    let got = get(node.address, &path).await;
    assert!(!got.is_complete && got.body.len() < LARGE, "{} bytes", got.body.len());
}

#[tokio::test]
async fn wrong_bytes_of_the_upstream_are_never_complete() {
    let (cache, upstream, node) = node().await;
    let (_, path) = both(&cache, &upstream, LARGE);
    cache.mood(Mood::Status(404));
    upstream.mood(Mood::WrongBytes);
    assert!(!get(node.address, &path).await.is_complete);
    let (_, small) = both(&cache, &upstream, SMALL);
    let got = get(node.address, &small).await;
    assert_eq!((got.status, got.error().0.as_str()), (502, "UNAVAILABLE"));
}

#[tokio::test]
async fn a_body_that_nobody_can_continue_is_cut() {
    let cache = Origin::start().await;
    let bytes = noise(LARGE);
    let digest = cache.blob(CACHE, &bytes);
    cache.mood(Mood::Cut(1_234_567));
    let node = Node::start(cache.address, nobody().await).await;
    let got = get(node.address, &format!("/v2/reg.test/app/blobs/{digest}")).await;
    assert!(!got.is_complete);
    assert!(bytes.starts_with(&got.body), "what came before the cut is right");
    assert!((node.metric("cache_registry_proxy_requests_broken_off_total{by=\"proxy\"}") - 1.0).abs() < f64::EPSILON);
}

#[rstest]
#[case::rest("bytes=1000000-", 1_000_000, LARGE)]
#[case::all("bytes=0-", 0, LARGE)]
#[case::middle("bytes=5-999", 5, 1000)]
#[case::beyond("bytes=2999990-9999999", 2_999_990, LARGE)]
#[case::last("bytes=-100", LARGE - 100, LARGE)]
#[tokio::test]
async fn ranges_are_answered_on_both_legs(
    #[case] range: &str,
    #[case] first: usize,
    #[case] end: usize,
    #[values("cache", "upstream")] leg: &str,
) {
    let (cache, upstream, node) = node().await;
    let (bytes, path) = both(&cache, &upstream, LARGE);
    if leg == "upstream" {
        cache.mood(Mood::Status(404));
    }
    let got = get_range(node.address, &path, range).await;
    assert_eq!((got.status, got.is_complete, got.header("x-cache-registry-served-by")), (206, true, leg));
    assert_eq!(got.header("content-range"), format!("bytes {first}-{}/{LARGE}", end - 1));
    assert_eq!(got.header("content-length"), (end - first).to_string());
    assert!(got.body == bytes.slice(first..end), "other bytes");

    let beyond = get_range(node.address, &path, &format!("bytes={LARGE}-")).await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, format!("bytes */{LARGE}").as_str()));
}

#[rstest]
#[tokio::test]
async fn a_range_that_fails_is_continued_within_itself(#[values(Mood::Well, Mood::WithoutRanges)] mood: Mood) {
    let (cache, upstream, node) = node().await;
    let (bytes, path) = both(&cache, &upstream, LARGE);
    cache.mood(Mood::Cut(300_000));
    upstream.mood(mood);
    let got = get_range(node.address, &path, "bytes=1000000-1999999").await;
    assert_eq!((got.status, got.is_complete), (206, true));
    assert!(got.body == bytes.slice(1_000_000..2_000_000), "other bytes");
}

#[tokio::test]
async fn a_registry_without_ranges_answers_with_the_whole() {
    let (cache, upstream, node) = node().await;
    let (bytes, path) = both(&cache, &upstream, LARGE);
    cache.mood(Mood::WithoutRanges);
    is_whole(&get_range(node.address, &path, "bytes=1000-").await, &bytes);
    cache.mood(Mood::Well);
    is_whole(&get_range(node.address, &path, "bytes=0-1,5-6").await, &bytes);
}

#[rstest]
#[case(404, 404, "BLOB_UNKNOWN")]
#[case(401, 401, "UNAUTHORIZED")]
#[case(429, 429, "TOOMANYREQUESTS")]
#[case(503, 502, "UNAVAILABLE")]
#[tokio::test]
async fn a_blob_that_nobody_has_is_refused_in_words(#[case] said: u16, #[case] status: u16, #[case] code: &str) {
    let (cache, upstream, node) = node().await;
    let (_, path) = both(&cache, &upstream, SMALL);
    cache.mood(Mood::Status(404));
    upstream.mood(Mood::Status(said));
    let got = get(node.address, &path).await;
    assert_eq!((got.status, got.error().0.as_str()), (status, code));
}
