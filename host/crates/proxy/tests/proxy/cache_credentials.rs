//! In whose name the proxy asks the cache.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use cache_registry_proxy::CacheCredentials;
use tempfile::TempDir;

use crate::client::{Got, get};
use crate::node::{CACHE, Node, UPSTREAM, node, noise};
use crate::origin::{Mood, Origin};

/// `Authorization` of the line `proxy:hush` and of `proxy:new`.
const HUSH: &str = "Basic cHJveHk6aHVzaA==";
const NEW: &str = "Basic cHJveHk6bmV3";

/// A proxy that follows the file at a path, of which the cache lets in who has the password `hush`.
struct Guarded {
    cache: Origin,
    upstream: Origin,
    node: Node,
    file: PathBuf,
    bytes: Bytes,
    manifest: String,
    _folder: TempDir,
}

impl Guarded {
    async fn start(line: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("proxy");
        if let Some(line) = line {
            std::fs::write(&file, line).unwrap();
        }
        let (cache, upstream) = (Origin::start().await, Origin::start().await);
        let node = Node::start_with(cache.address, upstream.address, |config| {
            // Each pull asks.
            config.tag_memory = Duration::ZERO;
            config.manifest_memory = 0;
        })
        .await;
        let bytes = noise(2_000);
        cache.manifest(CACHE, "1", &bytes);
        upstream.manifest(UPSTREAM, "1", &bytes);
        cache.mood(Mood::Guarded(HUSH));
        tokio::spawn(CacheCredentials::open(file.clone(), node.connections.clone()).await.follow());
        let manifest = "/v2/reg.test/app/manifests/1".to_owned();
        Self { cache, upstream, node, file, bytes, manifest, _folder: folder }
    }

    async fn pull(&self) -> Got {
        let got = get(self.node.address, &self.manifest).await;
        assert_eq!((got.status, &got.body), (200, &self.bytes));
        got
    }

    /// Pulls until they come from this leg.
    async fn served_by(&self, leg: &str) {
        let served = async {
            while self.pull().await.header("x-cache-registry-served-by") != leg {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(20), served).await.is_ok(), "never by {leg}");
    }

    fn brought(&self) -> Vec<String> {
        self.cache.seen().iter().map(|seen| seen.header("authorization")).collect()
    }
}

fn write(path: &Path, line: &str) {
    // As the kubelet does it: whole at once.
    let next = path.with_extension("next");
    std::fs::write(&next, line).unwrap();
    std::fs::rename(next, path).unwrap();
}

#[tokio::test]
async fn the_cache_is_shown_what_the_file_says_and_upstream_is_not() {
    let guarded = Guarded::start(Some("proxy:hush\n")).await;
    let got = guarded.pull().await;
    assert_eq!(got.header("x-cache-registry-served-by"), "cache");
    assert!(guarded.brought().iter().all(|header| header == HUSH), "{:?}", guarded.brought());

    guarded.cache.mood(Mood::Status(500));
    assert_eq!(guarded.pull().await.header("x-cache-registry-served-by"), "upstream");
    assert!(guarded.upstream.seen().iter().all(|seen| seen.header("authorization").is_empty()));
}

#[tokio::test]
async fn a_cache_that_refuses_is_a_cache_that_fails() {
    let guarded = Guarded::start(Some("proxy:wrong")).await;
    assert_eq!(guarded.pull().await.header("x-cache-registry-served-by"), "upstream");
    // And the client is not asked for credentials, which are none of its business.
    guarded.upstream.mood(Mood::Status(500));
    let got = get(guarded.node.address, &guarded.manifest).await;
    assert!(got.status >= 500 && got.header("www-authenticate").is_empty(), "{}", got.status);
}

#[tokio::test]
async fn a_file_that_comes_later_is_used_and_a_changed_one_as_well() {
    let guarded = Guarded::start(None).await;
    assert_eq!(guarded.pull().await.header("x-cache-registry-served-by"), "upstream");
    assert!(guarded.brought().iter().all(String::is_empty));

    write(&guarded.file, "proxy:hush");
    guarded.served_by("cache").await;

    guarded.cache.mood(Mood::Guarded(NEW));
    assert_eq!(guarded.pull().await.header("x-cache-registry-served-by"), "upstream");
    write(&guarded.file, "proxy:new");
    guarded.served_by("cache").await;

    std::fs::remove_file(&guarded.file).unwrap();
    guarded.served_by("upstream").await;
}

#[tokio::test]
async fn a_file_of_no_use_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy");
    let (cache, _, node) = node().await;
    std::fs::write(&file, "proxy:hush").unwrap();
    drop(CacheCredentials::open(file.clone(), node.connections.clone()).await);
    std::fs::write(&file, "half").unwrap();
    drop(CacheCredentials::open(file, node.connections.clone()).await);

    get(node.address, "/v2/reg.test/app/manifests/1").await;

    assert_eq!(cache.seen()[0].header("authorization"), HUSH);
}
