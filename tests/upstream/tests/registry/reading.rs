use std::sync::Arc;

use cache_registry_upstream::{Access, INDEX, Image, MANIFEST, Matching, Tls, Upstream};
use http::{Method, StatusCode};
use rstest::rstest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client::{Client, header, loopback};

async fn hello() -> (Upstream, Client, Image) {
    let upstream = Upstream::start(loopback()).await.unwrap();
    let image = Image::hello(b"program").unwrap();
    upstream.add("library/hello", "1.0", &image);
    let client = Client::of(upstream.address());
    (upstream, client, image)
}

#[rstest]
#[case::by_tag(|_: &Image| "1.0".to_owned())]
#[case::by_digest(|image: &Image| image.digest().to_string())]
#[tokio::test]
async fn an_index_is_given_with_its_digest(#[case] reference: fn(&Image) -> String) {
    let (_upstream, client, image) = hello().await;
    let path = format!("/v2/library/hello/manifests/{}", reference(&image));
    for method in [Method::GET, Method::HEAD] {
        let (head, body) = client.exchange(method.clone(), &path, &[("accept", INDEX)]).await;
        assert_eq!(head.status, StatusCode::OK);
        assert_eq!(header(&head, "content-type"), Some(INDEX));
        assert_eq!(header(&head, "docker-content-digest"), Some(image.digest().as_ref()));
        assert_eq!(header(&head, "content-length"), Some(&*image.root.bytes.len().to_string()));
        assert_eq!(body, if method == Method::GET { image.root.bytes.clone() } else { "".into() });
    }
}

#[rstest]
#[case::no_header(&[], StatusCode::NOT_FOUND)]
#[case::anything(&[("accept", "*/*")], StatusCode::NOT_FOUND)]
#[case::another_type(&[("accept", MANIFEST)], StatusCode::NOT_FOUND)]
#[case::in_a_list(&[("accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json;q=0.5, */*")], StatusCode::OK)]
#[case::in_the_second_line(&[("accept", MANIFEST), ("accept", INDEX)], StatusCode::OK)]
#[tokio::test]
async fn an_index_is_given_to_who_names_its_type(#[case] accept: &[(&str, &str)], #[case] status: StatusCode) {
    let (_upstream, client, _) = hello().await;
    let (head, body) = client.exchange(Method::GET, "/v2/library/hello/manifests/1.0", accept).await;
    assert_eq!(head.status, status);
    assert_eq!(String::from_utf8_lossy(&body).contains("MANIFEST_UNKNOWN"), status == StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn every_blob_of_an_image_is_there() {
    let (_upstream, client, image) = hello().await;
    assert!(!image.blobs.is_empty());
    for blob in &image.blobs {
        let (head, body) = client.get(&format!("/v2/library/hello/blobs/{}", blob.digest)).await;
        assert_eq!(head.status, StatusCode::OK);
        assert_eq!(header(&head, "docker-content-digest"), Some(blob.digest.as_ref()));
        assert_eq!(body, blob.bytes);
    }
}

#[rstest]
#[case("bytes=10-", StatusCode::PARTIAL_CONTENT, "bytes 10-99/100", 10, 100)]
#[case("bytes=10-19", StatusCode::PARTIAL_CONTENT, "bytes 10-19/100", 10, 20)]
#[case("bytes=-5", StatusCode::PARTIAL_CONTENT, "bytes 95-99/100", 95, 100)]
#[tokio::test]
async fn a_part_of_a_blob(
    #[case] range: &str,
    #[case] status: StatusCode,
    #[case] content_range: &str,
    #[case] from: usize,
    #[case] to: usize,
) {
    let (upstream, client, _) = hello().await;
    let bytes: bytes::Bytes = (0..100_u8).collect();
    let digest = upstream.store().put_blob("a", bytes.clone());
    let path = format!("/v2/a/blobs/{digest}");
    let (head, body) = client.exchange(Method::GET, &path, &[("range", range)]).await;
    assert_eq!((head.status, header(&head, "content-range")), (status, Some(content_range)));
    assert_eq!(body, bytes.slice(from..to));

    let (head, _) = client.exchange(Method::GET, &path, &[("range", "bytes=100-")]).await;
    assert_eq!(head.status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(header(&head, "content-range"), Some("bytes */100"));
}

#[tokio::test]
async fn what_is_not_there_is_said_in_the_words_of_the_specification() {
    let (upstream, client, image) = hello().await;
    for (path, code) in [
        ("/v2/library/hello/manifests/2.0".to_owned(), "MANIFEST_UNKNOWN"),
        (format!("/v2/library/other/blobs/{}", image.blobs[0].digest), "BLOB_UNKNOWN"),
        ("/v2/library/other/tags/list".to_owned(), "NAME_UNKNOWN"),
    ] {
        let (head, body) = client.exchange(Method::GET, &path, &[("accept", INDEX)]).await;
        assert_eq!(head.status, StatusCode::NOT_FOUND, "{path}");
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["errors"][0]["code"], code, "{path}");
    }
    let (head, _) = client.exchange(Method::PUT, "/v2/library/hello/manifests/2.0", &[]).await;
    assert_eq!(head.status, StatusCode::METHOD_NOT_ALLOWED);

    assert!(upstream.store().remove_tag("library/hello", "1.0"));
    let (head, _) = client.exchange(Method::GET, "/v2/library/hello/manifests/1.0", &[("accept", INDEX)]).await;
    assert_eq!(head.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn requests_are_counted_with_their_bytes() {
    let (upstream, client, image) = hello().await;
    let blob = &image.blobs[0];
    client.get("/v2/").await;
    client.exchange(Method::HEAD, "/v2/library/hello/manifests/1.0?ns=docker.io", &[("accept", INDEX)]).await;
    for _ in 0..2 {
        client.get(&format!("/v2/library/hello/blobs/{}", blob.digest)).await;
    }
    let traffic = upstream.reset_traffic();
    assert_eq!((traffic.requests.len(), traffic.connections), (4, 1));
    let blobs = Matching::blobs().repository("library/hello").reference(&blob.digest);
    assert_eq!((traffic.count(&blobs), traffic.bytes(&blobs)), (2, 2 * blob.bytes.len() as u64));
    let heads: Vec<_> = traffic.of(&Matching::manifests().method(&Method::HEAD)).collect();
    assert_eq!((heads.len(), heads[0].status, heads[0].bytes), (1, 200, 0));
    assert_eq!((heads[0].query.as_deref(), &*heads[0].accept), (Some("ns=docker.io"), INDEX));
    assert_eq!(upstream.traffic().requests.len(), 0);
}

#[rstest]
#[case::anonymous(Access::Tokens { valid_for: 60 }, &[])]
#[case::with_a_password(
    Access::Credentials { username: "user".to_owned(), password: "word".to_owned() },
    &[("authorization", "Basic dXNlcjp3b3Jk")],
)]
#[tokio::test]
async fn a_token_is_asked_for_and_serves_its_repository(#[case] access: Access, #[case] proof: &[(&str, &str)]) {
    let (upstream, client, image) = hello().await;
    upstream.set_access(access.clone());
    let blob = format!("/v2/library/hello/blobs/{}", image.blobs[0].digest);
    let (head, _) = client.get(&blob).await;
    assert_eq!(head.status, StatusCode::UNAUTHORIZED);
    let address = upstream.address();
    assert_eq!(
        header(&head, "www-authenticate").unwrap(),
        format!(r#"Bearer realm="http://{address}/token",service="upstream",scope="repository:library/hello:pull""#)
    );

    let token = "/token?service=upstream&scope=repository%3Alibrary%2Fhello%3Apull";
    if matches!(access, Access::Credentials { .. }) {
        let (head, _) = client.exchange(Method::GET, token, &[("authorization", "Basic eDp5")]).await;
        assert_eq!(head.status, StatusCode::UNAUTHORIZED);
    }
    let (_, body) = client.exchange(Method::GET, token, proof).await;
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let bearer = format!("Bearer {}", body["token"].as_str().unwrap());
    let (head, _) = client.exchange(Method::GET, &blob, &[("authorization", &bearer)]).await;
    assert_eq!(head.status, StatusCode::OK);
    let other = "/v2/library/other/tags/list";
    let (head, _) = client.exchange(Method::GET, other, &[("authorization", &bearer)]).await;
    assert_eq!(head.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_password_may_be_all_that_lets_in() {
    let (upstream, client, _) = hello().await;
    upstream.set_access(Access::Password { username: "user".to_owned(), password: "word".to_owned() });
    let tags = "/v2/library/hello/tags/list";
    let (head, _) = client.get(tags).await;
    assert_eq!(head.status, StatusCode::UNAUTHORIZED);
    assert_eq!(header(&head, "www-authenticate").unwrap(), r#"Basic realm="upstream""#);
    for (proof, status) in [("Basic dXNlcjp3b3Jk", StatusCode::OK), ("Basic eDp5", StatusCode::UNAUTHORIZED)] {
        let (head, _) = client.exchange(Method::GET, tags, &[("authorization", proof)]).await;
        assert_eq!(head.status, status);
    }
    let (head, _) = client.exchange(Method::GET, "/token", &[("authorization", "Basic dXNlcjp3b3Jk")]).await;
    assert_eq!(head.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_token_expires() {
    let (upstream, client, _) = hello().await;
    upstream.set_access(Access::Tokens { valid_for: 0 });
    let (_, body) = client.get("/token").await;
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let bearer = format!("Bearer {}", body["token"].as_str().unwrap());
    let (head, _) = client.exchange(Method::GET, "/v2/", &[("authorization", &bearer)]).await;
    assert_eq!(head.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn it_speaks_tls() {
    let made = rcgen::generate_simple_self_signed(vec!["upstream.test".to_owned()]).unwrap();
    let tls = Tls::from_pem(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes()).unwrap();
    let upstream = Upstream::start_tls(loopback(), tls).await.unwrap();

    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(upstream.address()).await.unwrap();
    let name = "upstream.test".try_into().unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: upstream.test\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}
