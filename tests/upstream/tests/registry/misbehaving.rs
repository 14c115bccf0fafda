use std::io::ErrorKind;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache_registry_upstream::{Fault, Matching, Rule, Upstream, pseudo_random, stalled_listener};
use http::{Method, StatusCode};
use rstest::rstest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{A_WHILE, Client, End, LONG, header, loopback, read};

const SIZE: usize = 300_000;

/// A registry with one blob, and the path of the blob.
async fn with_blob() -> (Upstream, Client, String, Bytes) {
    let upstream = Upstream::start(loopback()).await.unwrap();
    let bytes = Bytes::from(pseudo_random(SIZE, 7));
    let digest = upstream.store().put_blob("a/b", bytes.clone());
    let client = Client::of(upstream.address());
    (upstream, client, format!("/v2/a/b/blobs/{digest}"), bytes)
}

#[tokio::test]
async fn off_refuses_connections_and_on_is_at_the_same_address() {
    let (upstream, client, path, bytes) = with_blob().await;
    upstream.misbehave(Fault::StallWithin { after: 10 });
    let open = client.open(Method::GET, &path, &[]).await.unwrap();
    upstream.off().await;
    upstream.behave();
    assert_eq!(read(open.into_body()).await.1, End::Cut, "open connections are closed");
    let refused = TcpStream::connect(upstream.address()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);

    upstream.on().await.unwrap();
    let (head, body) = Client::of(upstream.address()).get(&path).await;
    assert_eq!((head.status, body), (StatusCode::OK, bytes));
}

#[tokio::test]
async fn a_dropped_upstream_is_gone() {
    let (upstream, ..) = with_blob().await;
    let address = upstream.address();
    drop(upstream);
    let gone = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, gone).await.expect("connections are refused");
}

#[tokio::test]
async fn delay_comes_before_the_head() {
    let (upstream, client, path, bytes) = with_blob().await;
    upstream.misbehave(Fault::Delay { millis: 300 });
    let begun = Instant::now();
    let answer = client.open(Method::GET, &path, &[]).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(read(answer.into_body()).await, (bytes, End::Whole));
}

#[tokio::test]
async fn rate_is_of_the_body() {
    let (upstream, client, path, bytes) = with_blob().await;
    upstream.misbehave(Fault::Rate { bytes_per_second: 400_000 });
    let begun = Instant::now();
    let (_, body) = client.get(&path).await;
    let took = begun.elapsed();
    assert_eq!(body, bytes);
    assert!(took >= Duration::from_millis(700), "300 kB at 400 kB/s in {took:?}");
}

#[tokio::test]
async fn stalled_before_the_answer() {
    let (upstream, client, path, _) = with_blob().await;
    upstream.misbehave(Fault::StallBefore);
    let answer = tokio::time::timeout(A_WHILE, client.open(Method::GET, &path, &[])).await;
    assert!(answer.is_err(), "{answer:?}");
    let traffic = upstream.traffic();
    assert_eq!((traffic.requests.len(), traffic.requests[0].status), (1, 0));
}

#[rstest]
#[case(Fault::StallWithin { after: 0 }, 0, End::Stalled)]
#[case(Fault::StallWithin { after: 100_000 }, 100_000, End::Stalled)]
#[case(Fault::Cut { after: 0 }, 0, End::Cut)]
#[case(Fault::Cut { after: 100_000 }, 100_000, End::Cut)]
#[case(Fault::Cut { after: 300_000 }, 300_000, End::Whole)]
#[tokio::test]
async fn a_body_that_stops(#[case] fault: Fault, #[case] received: usize, #[case] end: End) {
    let (upstream, client, path, bytes) = with_blob().await;
    upstream.misbehave(fault);
    let answer = client.open(Method::GET, &path, &[]).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-length"], SIZE.to_string());
    assert_eq!(read(answer.into_body()).await, (bytes.slice(..received), end));
    assert_eq!(upstream.traffic().bytes(&Matching::any()), received as u64);
}

#[tokio::test]
async fn a_cut_body_can_be_resumed() {
    let (upstream, client, path, bytes) = with_blob().await;
    upstream.misbehave(Rule::all(Fault::Cut { after: 1000 }).times(1));
    let (first, end) = read(client.open(Method::GET, &path, &[]).await.unwrap().into_body()).await;
    assert_eq!((first.len(), end), (1000, End::Cut));
    let (head, rest) = client.exchange(Method::GET, &path, &[("range", "bytes=1000-")]).await;
    assert_eq!(head.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!([first, rest].concat(), bytes);
}

#[tokio::test]
async fn wrong_bytes_look_right() {
    let (upstream, client, path, bytes) = with_blob().await;
    let (right, _) = client.get(&path).await;
    upstream.misbehave(Fault::WrongBytes);
    let (head, body) = client.get(&path).await;
    assert_eq!(
        (head.status, &head.headers["docker-content-digest"]),
        (StatusCode::OK, &right.headers["docker-content-digest"])
    );
    assert_eq!(body.len(), bytes.len());
    assert!(body.iter().zip(&bytes).all(|(wrong, right)| wrong != right));
}

#[rstest]
#[case(Fault::Unauthorized, StatusCode::UNAUTHORIZED, Some(("www-authenticate", "repository:a/b:pull")))]
#[case(Fault::TooManyRequests { retry_after: Some(7) }, StatusCode::TOO_MANY_REQUESTS, Some(("retry-after", "7")))]
#[case(Fault::TooManyRequests { retry_after: None }, StatusCode::TOO_MANY_REQUESTS, None)]
#[case(Fault::Status { code: 503 }, StatusCode::SERVICE_UNAVAILABLE, None)]
#[case(
    Fault::Redirect { to: "http://elsewhere.test:80".to_owned() },
    StatusCode::TEMPORARY_REDIRECT,
    Some(("location", "http://elsewhere.test:80/v2/a/b/blobs/sha256:")),
)]
#[tokio::test]
async fn another_status(#[case] fault: Fault, #[case] status: StatusCode, #[case] expected: Option<(&str, &str)>) {
    let (upstream, client, path, _) = with_blob().await;
    upstream.misbehave(fault.clone());
    let (head, _) = client.get(&path).await;
    assert_eq!(head.status, status);
    match expected {
        Some((name, part)) => assert!(header(&head, name).unwrap().contains(part), "{head:?}"),
        None => assert_eq!(header(&head, "retry-after"), None),
    }
    assert_eq!(upstream.traffic().requests[0].fault, Some(fault));
}

#[tokio::test]
async fn a_rule_strikes_only_what_it_matches_and_only_so_often() {
    let (upstream, client, path, _) = with_blob().await;
    let rule = Rule::on(Matching::blobs().repository("a/b"), Fault::Status { code: 500 });
    upstream.misbehave(rule.times(2));
    assert_eq!(client.get("/v2/").await.0.status, StatusCode::OK);
    assert_eq!(client.get("/v2/a/c/blobs/sha256:00").await.0.status, StatusCode::NOT_FOUND);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(client.get(&path).await.0.status.as_u16());
    }
    assert_eq!(statuses, [500, 500, 200]);
}

#[tokio::test]
async fn a_stalled_listener_accepts_and_never_answers() {
    let stalled = stalled_listener(loopback()).await.unwrap();
    let mut stream = TcpStream::connect(stalled.address()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(tokio::time::timeout(A_WHILE, stream.read_u8()).await.is_err());
    drop(stalled);
    assert!(tokio::time::timeout(LONG, stream.read_u8()).await.expect("it is closed").is_err());
}
