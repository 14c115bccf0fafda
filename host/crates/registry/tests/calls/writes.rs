//! Pushes, into the real registry and into one that misbehaves.

use bytes::Bytes;
use cache_registry_core::{Hasher, Reason};
use cache_registry_registry::{GetOptions, Manifest, Object, Repository};
use http::Method;
use http_body_util::{BodyExt as _, Full, StreamBody};
use rstest::rstest;

use crate::connections_by;
use crate::distribution::{Distribution, Version};
use crate::images::{IMAGE, pseudo_random};
use crate::server::{Server, answer, answer_with};

fn repository(url: &url::Url, name: &str) -> Repository {
    connections_by("").cache(url, name)
}

#[rstest]
#[case(Version::Two)]
#[case(Version::Three)]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_is_read_back(#[case] version: Version) {
    let registry = Distribution::start(version);
    let repository = repository(&registry.url, "a/b");
    let (blob, config) = (Bytes::from(pseudo_random(1, 3_000_000)), Bytes::from_static(b"{}"));
    let (digest, config_digest) = (Hasher::sha256(&blob), Hasher::sha256(&config));

    repository.push_blob(&digest, 3_000_000, Full::new(blob.clone())).await.unwrap();
    repository.push_blob(&config_digest, 2, Full::new(config)).await.unwrap();
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_digest}","size":2}},"layers":[]}}"#
    );
    let bytes = Bytes::from(text);
    let manifest = Manifest { media_type: IMAGE.to_owned(), digest: Hasher::sha256(&bytes), bytes };
    repository.push_manifest("v1", &manifest).await.unwrap();

    let body = repository.get(&Object::Blob(digest), &GetOptions::default()).await.unwrap().into_body();
    assert_eq!(body.collect().await.unwrap().to_bytes(), blob);
    assert_eq!(repository.get_manifest("v1").await.unwrap(), manifest);
    let existing = repository.head_manifest("v1").await.unwrap().unwrap();
    assert_eq!((existing.digest.as_ref(), existing.media_type.as_deref()), (Some(&manifest.digest), Some(IMAGE)));
    assert_eq!(existing.size, Some(manifest.bytes.len() as u64));
}

#[rstest]
#[case(Version::Two)]
#[case(Version::Three)]
#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_mounted_from_where_it_is(#[case] version: Version) {
    let registry = Distribution::start(version);
    let blob = Bytes::from_static(b"shared");
    let digest = Hasher::sha256(&blob);
    repository(&registry.url, "one").push_blob(&digest, 6, Full::new(blob)).await.unwrap();
    let two = repository(&registry.url, "two");

    assert!(two.mount_blob(&digest, "one").await.unwrap());
    assert!(two.blob_exists(&digest, 6).await.unwrap());
    assert!(!two.mount_blob(&Hasher::sha256(b"nowhere"), "one").await.unwrap());
}

#[rstest]
#[case(&b"wrong"[..], 5, "expected sha256:")]
#[case(&b"right and more"[..], 5, "there is more of it")]
#[case(&b"rig"[..], 5, "ended 2 bytes too early")]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_its_digest_is_not_committed(#[case] sent: &'static [u8], #[case] size: u64, #[case] part: &str) {
    let registry = Distribution::start(Version::Two);
    let repository = repository(&registry.url, "a");
    let digest = Hasher::sha256(b"right");
    let pieces = sent.chunks(2).map(|piece| Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::from_static(piece))));
    let body = StreamBody::new(futures::stream::iter(pieces.collect::<Vec<_>>()));

    let error = repository.push_blob(&digest, size, body).await.unwrap_err();

    assert!(error.to_string().contains(part), "{error}");
    assert_eq!(error.reason(), Reason::UpstreamUnreachable);
    assert!(!repository.blob_exists(&digest, size).await.unwrap());
}

/// A registry that takes uploads in, at a session address of the test's choice.
async fn taking(location: &'static str) -> Server {
    Server::start(move |parts| match parts.method {
        Method::POST | Method::PATCH => answer_with(202, &[("location", location)], ""),
        Method::PUT => answer(201, ""),
        Method::DELETE => answer(204, ""),
        _ => answer(404, ""),
    })
    .await
}

#[tokio::test]
async fn an_upload_is_committed_by_its_digest_at_the_address_that_it_was_given() {
    let server = taking("/v2/a/blobs/uploads/1?state=x").await;
    let digest = Hasher::sha256(b"right");

    repository(&server.url, "a").push_blob(&digest, 5, Full::new(Bytes::from_static(b"right"))).await.unwrap();

    let paths: Vec<_> = server.seen().into_iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect();
    let put = format!("PUT /v2/a/blobs/uploads/1?state=x&digest={}", digest.to_string().replace(':', "%3A"));
    assert_eq!(paths, ["POST /v2/a/blobs/uploads/", "PATCH /v2/a/blobs/uploads/1?state=x", put.as_str()]);
}

#[tokio::test]
async fn an_upload_of_wrong_bytes_is_given_up() {
    let server = taking("/v2/a/blobs/uploads/1").await;
    let digest = Hasher::sha256(b"right");

    let error = repository(&server.url, "a").push_blob(&digest, 5, Full::new(Bytes::from_static(b"wrong"))).await;

    assert!(error.unwrap_err().to_string().contains("expected sha256:"));
    assert_eq!(server.count(&Method::PUT, ""), 0);
    assert_eq!(server.count(&Method::DELETE, "/v2/a/blobs/uploads/1"), 1);
}

#[tokio::test]
async fn an_upload_does_not_leave_its_registry() {
    let server = taking("http://169.254.169.254/v2/a/blobs/uploads/1").await;
    let digest = Hasher::sha256(b"right");

    let error = repository(&server.url, "a").push_blob(&digest, 5, Full::new(Bytes::from_static(b"right"))).await;

    let error = error.unwrap_err();
    assert!(error.to_string().contains("sent on to 169.254.169.254"), "{error}");
    assert_eq!(error.reason(), Reason::RegistryUnreachable);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_write_that_is_not_answered_with_success_is_none() {
    let server = Server::start(|_| answer(416, "")).await;
    let bytes = Bytes::from_static(b"{}");
    let manifest = Manifest { media_type: IMAGE.to_owned(), digest: Hasher::sha256(&bytes), bytes };

    let error = repository(&server.url, "a").push_manifest("1", &manifest).await.unwrap_err();

    assert!(error.to_string().contains("not written: it answers 416"), "{error}");
    assert_eq!(error.reason(), Reason::RegistryUnreachable);
}

#[tokio::test]
async fn an_upload_that_is_only_begun_is_not_taken_for_a_blob() {
    let server = Server::start(|parts| match parts.method {
        Method::POST => answer_with(201, &[("location", "/v2/a/blobs/uploads/1")], ""),
        Method::PATCH => answer_with(202, &[("location", "/v2/a/blobs/uploads/1")], ""),
        _ => answer(201, ""),
    })
    .await;
    let digest = Hasher::sha256(b"right");

    repository(&server.url, "a").push_blob(&digest, 5, Full::new(Bytes::from_static(b"right"))).await.unwrap();

    assert_eq!((server.count(&Method::PATCH, "/uploads/1"), server.count(&Method::PUT, "digest=")), (1, 1));
}

#[tokio::test]
async fn a_registry_that_stops_taking_is_given_up() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    // The first request is answered, and of the second one nothing is ever read.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let serving = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let _ = connection.read(&mut request).await.unwrap();
        let begun = b"HTTP/1.1 202 Accepted\r\nLocation: /v2/a/blobs/uploads/1\r\nContent-Length: 0\r\n\r\n";
        connection.write_all(begun).await.unwrap();
        std::future::pending::<()>().await;
    });
    let size = 64 * 1024 * 1024;
    let piece = Bytes::from(vec![0; 1024 * 1024]);
    let pieces = (0..64).map(move |_| Ok::<_, std::io::Error>(http_body::Frame::data(piece.clone())));
    let body = StreamBody::new(futures::stream::iter(pieces));

    let error = repository(&url, "a").push_blob(&Hasher::sha256(b""), size, body).await.unwrap_err();

    assert!(error.to_string().contains("nothing more was taken within 1s"), "{error}");
    assert_eq!(error.reason(), Reason::RegistryUnreachable);
    serving.abort();
}
