use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{ask, get};
use crate::node::{CACHE, node, noise};
use crate::origin::Mood;

const BOUND: Duration = Duration::from_secs(10);

#[tokio::test]
async fn the_base_says_that_this_is_a_registry() {
    let (_, _, node) = node().await;
    let got = get(node.address, "/v2/").await;
    assert_eq!((got.status, got.header("docker-distribution-api-version")), (200, "registry/2.0"));
}

#[tokio::test]
async fn only_get_and_head_are_served() {
    let (cache, upstream, node) = node().await;
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
        let got = ask(node.address, method.clone(), "/v2/reg.test/app/blobs/uploads/", &[]).await;
        assert_eq!((got.status, got.header("allow"), got.error().0.as_str()), (405, "GET, HEAD", "UNSUPPORTED"));
    }
    for path in ["/", "/v2/_catalog", "/v2/reg.test/app/tags/list", "/metrics"] {
        let got = get(node.address, path).await;
        assert_eq!((got.status, got.error().0.as_str()), (404, "UNSUPPORTED"), "{path}");
    }
    assert!(cache.seen().is_empty() && upstream.seen().is_empty());
}

#[tokio::test]
async fn a_greeting_in_tls_is_answered_in_http_with_400() {
    let (_, _, node) = node().await;
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    // A record header for a ClientHello of 512 bytes, and its beginning.
    let mut hello = vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    hello.resize(517, 0x55);
    stream.write_all(&hello).await.unwrap();
    let mut answer = Vec::new();
    timeout(BOUND, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_pull_in_flight_ends_and_idle_connections_are_closed_when_shutdown_begins() {
    let (cache, _, node) = node().await;
    // More than the sockets between the two hold.
    let bytes = Bytes::from(noise(1_000_000).repeat(40));
    let digest = cache.blob(CACHE, &bytes);
    let mut idle = TcpStream::connect(node.address).await.unwrap();
    idle.write_all(b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    idle.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");

    // The first bytes are there, the rest comes after shutdown has begun.
    let mut pull = TcpStream::connect(node.address).await.unwrap();
    let request = format!("GET /v2/reg.test/app/blobs/{digest} HTTP/1.1\r\nhost: x\r\n\r\n");
    pull.write_all(request.as_bytes()).await.unwrap();
    let mut got = vec![0; 1000];
    pull.read_exact(&mut got).await.unwrap();

    node.shutdown.begin();
    let mut rest = Vec::new();
    timeout(BOUND, idle.read_to_end(&mut rest)).await.expect("the idle connection is closed").unwrap();
    assert!(!node.serving.is_finished(), "the pull is still in flight");
    assert!(TcpStream::connect(node.address).await.is_err(), "no new connection is taken");

    timeout(BOUND, pull.read_to_end(&mut got)).await.unwrap().unwrap();
    assert!(got.ends_with(&bytes[1000..]), "{} bytes", got.len());
    timeout(BOUND, node.serving).await.expect("the server ends with its last pull").unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_request_to_the_cache() {
    let (cache, _, node) = node().await;
    let bytes = noise(3_000_000);
    let digest = cache.blob(CACHE, &bytes);
    cache.mood(Mood::Stalled(1_000_000));
    let mut pull = TcpStream::connect(node.address).await.unwrap();
    let request = format!("GET /v2/reg.test/app/blobs/{digest} HTTP/1.1\r\nhost: x\r\n\r\n");
    pull.write_all(request.as_bytes()).await.unwrap();
    pull.read_exact(&mut [0; 1000]).await.unwrap();
    drop(pull);
    let counted = async {
        while node.metric("cache_registry_proxy_requests_total{served_by=\"cache\",status=\"200\"}") < 1.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(BOUND, counted).await.expect("the request has ended");
    assert!((node.metric("cache_registry_proxy_requests_broken_off_total{by=\"client\"}") - 1.0).abs() < f64::EPSILON);
    assert!(node.metric("cache_registry_proxy_requests_in_flight ").abs() < f64::EPSILON);
}
