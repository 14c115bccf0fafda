//! Before the real registry, as the tools of the test bed build it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use cache_registry_core::Hasher;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::client::{ask, get, get_range, head};
use crate::node::{Node, nobody, noise};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

struct Distribution {
    address: SocketAddr,
    process: Child,
    folder: TempDir,
}

impl Distribution {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = nobody().await;
        let file = folder.path().join("config.yml");
        let storage = folder.path().join("storage");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n",
            storage.display()
        );
        std::fs::write(&file, config).unwrap();
        let process = Command::new(binary().await)
            .args(["serve".as_ref(), file.as_os_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let up = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), up).await.expect("distribution is up");
        Self { address, process, folder }
    }

    /// The file of a blob.
    fn file_of(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let blobs = self.folder.path().join("storage/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}

/// Built once per machine.
async fn binary() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/tools/build.sh");
    let built = Command::new(script).stderr(Stdio::inherit()).output().await.unwrap();
    assert!(built.status.success(), "tests/tools/build.sh builds the tools of the test bed");
    PathBuf::from(String::from_utf8(built.stdout).unwrap().trim()).join("registry")
}

async fn send(client: &Client<HttpConnector, Full<Bytes>>, request: Request<Full<Bytes>>) -> http::HeaderMap {
    let response = client.request(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    assert!(parts.status.is_success(), "{}: {}", parts.status, String::from_utf8_lossy(&body));
    parts.headers
}

/// An index of one image of one layer; returns the digests of the index, the image and the layer.
async fn push(registry: SocketAddr, repository: &str, layer: &Bytes) -> (String, String, String) {
    let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let base = format!("http://{registry}/v2/{repository}");
    let mut digests = Vec::new();
    let config =
        Bytes::from_static(br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#);
    for blob in [layer, &config] {
        let digest = Hasher::sha256(blob).to_string();
        let request = Request::post(format!("{base}/blobs/uploads/")).body(Full::default()).unwrap();
        let upload = send(&client, request).await;
        let location = upload["location"].to_str().unwrap();
        let location = location.strip_prefix(&format!("http://{registry}")).unwrap_or(location);
        let joint = if location.contains('?') { '&' } else { '?' };
        let target = format!("http://{registry}{location}{joint}digest={digest}");
        let request = Request::put(target).header("content-type", "application/octet-stream");
        send(&client, request.body(Full::new(blob.clone())).unwrap()).await;
        digests.push((digest, blob.len()));
    }
    let (layer, config) = (&digests[0], &digests[1]);
    let image = serde_json::json!({
        "schemaVersion": 2, "mediaType": IMAGE,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.0, "size": config.1},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": layer.0, "size": layer.1}],
    });
    let image = Bytes::from(image.to_string());
    let image_digest = Hasher::sha256(&image).to_string();
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": INDEX,
        "manifests": [{"mediaType": IMAGE, "digest": image_digest, "size": image.len(),
            "platform": {"architecture": "amd64", "os": "linux"}}],
    });
    let index = Bytes::from(index.to_string());
    let index_digest = Hasher::sha256(&index).to_string();
    for (reference, kind, bytes) in [(image_digest.as_str(), IMAGE, image), ("1", INDEX, index)] {
        let request = Request::put(format!("{base}/manifests/{reference}")).header("content-type", kind);
        send(&client, request.body(Full::new(bytes)).unwrap()).await;
    }
    (index_digest, image_digest, layer.0.clone())
}

#[tokio::test]
async fn an_image_is_pulled_as_containerd_does_and_again_when_its_registry_is_killed() {
    let (mut cache, upstream) = (Distribution::start().await, Distribution::start().await);
    let layer = noise(3_000_000);
    let (index, image, layer_digest) = push(cache.address, "reg.test/app", &layer).await;
    push(upstream.address, "app", &layer).await;
    let node = Node::start_with(cache.address, upstream.address, |config| config.manifest_memory = 0).await;

    for leg in ["cache", "upstream"] {
        if leg == "upstream" {
            cache.process.kill().await.unwrap();
        }
        // A client that names no type of an index gets it all the same.
        let told =
            ask(node.address, Method::HEAD, "/v2/reg.test/app/manifests/1", &[("accept", IMAGE), ("accept", "*/*")])
                .await;
        assert_eq!((told.status, told.header("x-cache-registry-served-by")), (200, leg));
        assert_eq!((told.header("docker-content-digest"), told.header("content-type")), (index.as_str(), INDEX));
        for (digest, kind) in [(&index, INDEX), (&image, IMAGE)] {
            let got = get(node.address, &format!("/v2/reg.test/app/manifests/{digest}")).await;
            assert_eq!((got.status, got.header("content-type")), (200, kind));
            assert_eq!(Hasher::sha256(&got.body).to_string(), *digest);
        }
        let blob = format!("/v2/reg.test/app/blobs/{layer_digest}");
        assert_eq!(head(node.address, &blob).await.header("content-length"), layer.len().to_string());
        let got = get(node.address, &blob).await;
        assert!(got.is_complete && got.body == layer);
        assert_eq!(got.header("x-cache-registry-served-by"), leg);
        let rest = get_range(node.address, &blob, "bytes=2000000-").await;
        assert_eq!(rest.status, 206);
        assert!(rest.body == layer.slice(2_000_000..));
    }
}

#[tokio::test]
async fn bytes_that_went_bad_on_the_registrys_disk_are_never_complete() {
    let (cache, upstream) = (Distribution::start().await, Distribution::start().await);
    let layer = noise(3_000_000);
    let (_, _, digest) = push(cache.address, "reg.test/app", &layer).await;
    push(upstream.address, "app", &layer).await;
    let mut bad = layer.to_vec();
    bad[1_500_000] ^= 1;
    std::fs::write(cache.file_of(&digest), bad).unwrap();
    let node = Node::start(cache.address, upstream.address).await;
    let blob = format!("/v2/reg.test/app/blobs/{digest}");
    assert!(!get(node.address, &blob).await.is_complete);
    let got = get(node.address, &blob).await;
    assert!(got.is_complete && got.body == layer);
    assert_eq!(got.header("x-cache-registry-served-by"), "upstream");
}
