use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use rstest::rstest;

use crate::client::{ask, get, head};
use crate::node::{CACHE, CACHE_WAIT, Node, UPSTREAM, nobody, node};
use crate::origin::{INDEX, Mood, Origin};

const MANIFEST: Bytes = Bytes::from_static(b"{\"schemaVersion\":2, \"manifests\":[]}");
const TAG: &str = "/v2/reg.test/app/manifests/1";
/// Of `MANIFEST`.
const DIGEST: &str = "sha256:7e597029d5089a408f4c80738245f51f08b7e367ad8142f29ae22878010e53e9";

#[tokio::test]
async fn a_head_tells_all_that_containerd_asks_for_and_the_get_that_follows_asks_nobody() {
    let (cache, upstream, node) = node().await;
    let digest = cache.manifest(CACHE, "1", &MANIFEST);

    let told = head(node.address, TAG).await;
    assert_eq!((told.status, told.body.len()), (200, 0));
    assert_eq!(told.header("docker-content-digest"), digest);
    assert_eq!(told.header("content-type"), INDEX);
    assert_eq!(told.header("content-length"), MANIFEST.len().to_string());
    assert_eq!(told.header("etag"), format!("\"{digest}\""));
    assert_eq!(told.header("docker-distribution-api-version"), "registry/2.0");
    assert_eq!(told.header("x-cache-registry-served-by"), "cache");

    for reference in [digest.as_str(), "1"] {
        let got = get(node.address, &format!("/v2/reg.test/app/manifests/{reference}")).await;
        assert_eq!((got.status, &got.body), (200, &MANIFEST));
        assert_eq!(got.header("docker-content-digest"), digest);
        assert_eq!(got.header("content-type"), INDEX);
    }
    assert_eq!(cache.seen().len(), 1);
    assert!(upstream.seen().is_empty());
}

#[rstest]
#[case::rewritten("/v2/reg.test/app/manifests/1")]
#[case::mirror("/v2/app/manifests/1?ns=reg.test")]
#[case::override_path("/v2/reg.test/app/manifests/1?ns=reg.test")]
#[case::default_host("/v2/reg.test/app/manifests/1?ns=localhost%3A7439")]
#[tokio::test]
async fn every_form_of_a_name_reaches_the_same_repositories(#[case] target: &str) {
    let (cache, upstream, node) = node().await;
    upstream.manifest(UPSTREAM, "1", &MANIFEST);
    let got = get(node.address, target).await;
    assert_eq!((got.status, got.header("x-cache-registry-served-by")), (200, "upstream"));
    assert_eq!(cache.seen()[0].path, "/v2/reg.test/app/manifests/1");
    assert_eq!(upstream.seen()[0].path, "/v2/app/manifests/1");
}

#[rstest]
#[case::not_there(Mood::Status(404))]
#[case::denied(Mood::Status(401))]
#[case::limited(Mood::Status(429))]
#[case::broken(Mood::Status(500))]
#[case::unavailable(Mood::Status(503))]
#[case::silent(Mood::Silent)]
#[case::wrong_bytes(Mood::WrongBytes)]
#[case::cut(Mood::Cut(5))]
#[case::stalled(Mood::Stalled(5))]
#[tokio::test]
async fn whatever_is_wrong_with_the_cache_the_upstream_serves(#[case] mood: Mood) {
    let (cache, upstream, node) = node().await;
    let digest = cache.manifest(CACHE, "1", &MANIFEST);
    upstream.manifest(UPSTREAM, "1", &MANIFEST);
    cache.mood(mood);
    for target in [TAG, &format!("/v2/reg.test/app/manifests/{digest}")] {
        for method in [Method::HEAD, Method::GET] {
            let got = ask(node.address, method.clone(), target, &[]).await;
            assert_eq!((got.status, got.header("x-cache-registry-served-by")), (200, "upstream"), "{method} {target}");
            assert_eq!(got.header("docker-content-digest"), digest);
            assert_eq!(got.header("content-length"), MANIFEST.len().to_string());
        }
    }
}

#[tokio::test]
async fn a_cache_that_refuses_connections_is_no_hindrance() {
    let upstream = Origin::start().await;
    upstream.manifest(UPSTREAM, "1", &MANIFEST);
    let node = Node::start(nobody().await, upstream.address).await;
    let got = get(node.address, TAG).await;
    assert_eq!((got.status, got.body), (200, MANIFEST));
}

#[tokio::test]
async fn a_silent_cache_costs_a_pull_one_wait_and_is_found_again() {
    let (cache, upstream, node) = node().await;
    let digest = cache.manifest(CACHE, "1", &MANIFEST);
    upstream.manifest(UPSTREAM, "1", &MANIFEST);
    cache.mood(Mood::Silent);
    let started = Instant::now();
    for _ in 0..6 {
        assert_eq!(head(node.address, TAG).await.header("x-cache-registry-served-by"), "upstream");
    }
    let took = started.elapsed();
    assert!(took >= CACHE_WAIT && took < 2 * CACHE_WAIT, "{took:?}");
    assert_eq!(cache.seen().len(), 1);
    assert!((node.metric("cache_registry_proxy_breaker_state ") - 2.0).abs() < f64::EPSILON);

    cache.mood(Mood::Well);
    let found = async {
        while head(node.address, TAG).await.header("x-cache-registry-served-by") != "cache" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), found).await.expect("the cache is asked again");
    assert_eq!(head(node.address, TAG).await.header("docker-content-digest"), digest);
    assert!(node.metric("cache_registry_proxy_breaker_state ").abs() < f64::EPSILON);
}

#[rstest]
#[case::down(None)]
#[case::broken(Some(Mood::Status(500)))]
#[case::limited(Some(Mood::Status(429)))]
#[case::deleted(Some(Mood::Status(404)))]
#[case::wrong_bytes(Some(Mood::WrongBytes))]
#[tokio::test]
async fn with_the_upstream_gone_a_slow_cache_is_waited_for(#[case] upstream_mood: Option<Mood>) {
    let (cache, upstream) = (Origin::start().await, Origin::start().await);
    cache.manifest(CACHE, "1", &MANIFEST);
    upstream.manifest(UPSTREAM, "1", &MANIFEST);
    cache.mood(Mood::Late(CACHE_WAIT * 2));
    let address = match upstream_mood {
        Some(mood) => {
            upstream.mood(mood);
            upstream.address
        }
        None => nobody().await,
    };
    let node = Node::start(cache.address, address).await;
    let got = get(node.address, TAG).await;
    assert_eq!((got.status, got.header("x-cache-registry-served-by")), (200, "cache"), "{got:?}");
    assert_eq!(got.body, MANIFEST);
}

#[tokio::test]
async fn an_upstream_is_asked_with_head_for_a_head_and_with_get_where_that_tells_no_digest() {
    let (_, upstream, node) = node().await;
    let digest = upstream.manifest(UPSTREAM, "1", &MANIFEST);
    assert_eq!(head(node.address, TAG).await.header("docker-content-digest"), digest);
    assert_eq!(upstream.asked(), [("HEAD".to_owned(), String::new())]);

    upstream.mood(Mood::WithoutDigest);
    assert_eq!(head(node.address, TAG).await.header("docker-content-digest"), digest);
    assert_eq!(upstream.asked().last().unwrap().0, "GET");
}

#[rstest]
#[case::no_length(Mood::Chunked, "1")]
#[case::another_digest(Mood::WrongDigestInHead, DIGEST)]
#[tokio::test]
async fn a_head_that_tells_not_all_or_something_else_is_not_passed_on(#[case] mood: Mood, #[case] reference: &str) {
    let (_, upstream, node) = node().await;
    assert_eq!(upstream.manifest(UPSTREAM, "1", &MANIFEST), DIGEST);
    upstream.mood(mood);
    let told = head(node.address, &format!("/v2/reg.test/app/manifests/{reference}")).await;
    assert_eq!((told.status, told.header("docker-content-digest")), (200, DIGEST));
    assert_eq!(told.header("content-length"), MANIFEST.len().to_string());
}

#[tokio::test]
async fn every_accept_line_is_passed_on_and_the_cache_is_told_all_types() {
    let (cache, upstream, node) = node().await;
    upstream.manifest(UPSTREAM, "1", &MANIFEST);
    let lines: Vec<_> = ["a/1", "a/2", "a/3", "a/4", "a/5", "a/6"].map(|kind| ("accept", kind)).into();
    let lines = [lines, vec![("accept-encoding", "zstd;q=1.0, gzip;q=0.8")]].concat();
    assert_eq!(ask(node.address, Method::GET, TAG, &lines).await.status, 200);
    let (cache, upstream) = (&cache.seen()[0], &upstream.seen()[0]);
    assert_eq!(upstream.header("accept"), "a/1, a/2, a/3, a/4, a/5, a/6");
    assert!(cache.header("accept").starts_with("a/1, a/2, a/3, a/4, a/5, a/6, "), "{}", cache.header("accept"));
    for kind in ["oci.image.index.v1", "oci.image.manifest.v1", "manifest.list.v2", "manifest.v2", "*/*"] {
        assert!(cache.header("accept").contains(kind), "{kind}");
    }
    assert_eq!((cache.header("accept-encoding"), upstream.header("accept-encoding")), Default::default());
}

#[rstest]
#[case::not_there(404, 404, "MANIFEST_UNKNOWN")]
#[case::denied(401, 401, "UNAUTHORIZED")]
#[case::forbidden(403, 403, "DENIED")]
#[case::limited(429, 429, "TOOMANYREQUESTS")]
#[case::broken(500, 502, "UNAVAILABLE")]
#[tokio::test]
async fn what_the_upstream_says_is_passed_on_in_words(#[case] said: u16, #[case] status: u16, #[case] code: &str) {
    let (_, upstream, node) = node().await;
    upstream.mood(Mood::Status(said));
    let got = get(node.address, TAG).await;
    let (told, message) = got.error();
    assert_eq!((got.status, told.as_str()), (status, code));
    assert!(message.contains("reg.test"), "{message}");
    // A 401 without a challenge is not the registry's last word, and its body is not read.
    assert!(said == 401 || message.contains("the origin says so"), "{message}");
    assert_eq!(got.header("content-type"), "application/json");
    assert_eq!(got.header("www-authenticate"), "");
    assert_eq!(got.header("retry-after"), if said == 429 { "7" } else { "" });
    if said == 401 {
        assert!(message.contains("needs credentials"), "{message}");
    }
    // A HEAD, the first request of every pull, has no body: the status line says it.
    let told = head(node.address, TAG).await;
    assert_eq!((told.status, told.body.len()), (status, 0));
    assert!(told.header("content-length").parse::<usize>().unwrap() > 0, "the length of what a GET would bring");
    assert!(told.phrase.contains("reg.test"), "{}", told.phrase);
}

#[tokio::test]
async fn an_upstream_that_limits_its_rate_is_left_alone() {
    let (_, upstream, node) = node().await;
    upstream.mood(Mood::Status(429));
    for _ in 0..6 {
        assert_eq!(get(node.address, TAG).await.status, 429);
    }
    assert_eq!(upstream.seen().len(), 1);
}

#[rstest]
#[case::loopback("/v2/127.0.0.1_PORT/app/manifests/1")]
#[case::by_name("/v2/localhost_PORT/app/manifests/1")]
#[case::mirrored("/v2/app/manifests/1?ns=localhost%3APORT")]
#[tokio::test]
async fn an_upstream_within_the_machine_is_refused_unless_it_is_named(#[case] target: &str) {
    let (_, _, node) = node().await;
    let inside = Origin::start().await;
    inside.manifest(UPSTREAM, "1", &MANIFEST);
    let got = get(node.address, &target.replace("PORT", &inside.address.port().to_string())).await;
    let (_, message) = got.error();
    assert_eq!(got.status, 403, "{got:?}");
    assert!(message.contains("registries file"), "{message}");
    assert!(inside.seen().is_empty());
}

#[tokio::test]
async fn a_tag_that_moves_in_the_cache_is_seen_after_its_time() {
    let (cache, upstream) = (Origin::start().await, Origin::start().await);
    let node = Node::start_with(cache.address, upstream.address, |config| config.tag_memory = Duration::ZERO).await;
    for bytes in [MANIFEST, Bytes::from_static(b"{\"schemaVersion\":2}")] {
        let digest = cache.manifest(CACHE, "1", &bytes);
        assert_eq!(head(node.address, TAG).await.header("docker-content-digest"), digest);
    }
}
