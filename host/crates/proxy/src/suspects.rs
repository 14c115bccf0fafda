use std::time::Duration;

use cache_registry_core::Digest;
use moka::future::Cache;

use crate::route::Name;

/// The blobs that were served with wrong bytes not long ago.
///
/// containerd answers a cut body by asking the same host for the rest (`Range: bytes=N-`). After wrong bytes a right
/// rest is of no use: what containerd has put together fails when it is committed, and it may keep it for the next
/// attempt. So a rest is refused until somebody has asked for the blob from its first byte again; the attempt that has
/// wrong bytes ends at once, and the next one starts at 0. Nothing is ever read from the cache for such a blob until
/// the memory of it ends.
#[derive(Debug)]
pub(crate) struct Suspects(Cache<String, Suspect>);

/// What is known of a blob.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Suspect {
    /// The cache's bytes are not to be used.
    pub(crate) cache_is_wrong: bool,
    /// A client has wrong bytes from the start of it.
    pub(crate) rest_is_useless: bool,
}

/// Long enough for every retry of a kubelet (5 minutes apart at most), short enough for a registry that was repaired.
const REMEMBERED: Duration = Duration::from_mins(10);
const MOST: u64 = 4096;

impl Suspects {
    pub(crate) fn new() -> Self {
        Self(Cache::builder().max_capacity(MOST).time_to_live(REMEMBERED).build())
    }

    /// What is known of a blob.
    pub(crate) async fn of(&self, name: &Name, digest: &Digest) -> Suspect {
        self.0.get(&key(name, digest)).await.unwrap_or_default()
    }

    /// Wrong bytes went to a client. `from_cache`: some or all of them were the cache's.
    pub(crate) async fn wrong_bytes_left(&self, name: &Name, digest: &Digest, from_cache: bool) {
        let known = self.of(name, digest).await;
        let suspect = Suspect { cache_is_wrong: known.cache_is_wrong || from_cache, rest_is_useless: true };
        self.0.insert(key(name, digest), suspect).await;
    }

    /// The cache's bytes were wrong, and no client has seen them.
    pub(crate) async fn cache_is_wrong(&self, name: &Name, digest: &Digest) {
        let known = self.of(name, digest).await;
        self.0.insert(key(name, digest), Suspect { cache_is_wrong: true, ..known }).await;
    }

    /// A client starts at the first byte again: from now on a rest is of use.
    pub(crate) async fn starts_again(&self, name: &Name, digest: &Digest) {
        let known = self.of(name, digest).await;
        if known.rest_is_useless {
            self.0.insert(key(name, digest), Suspect { rest_is_useless: false, ..known }).await;
        }
    }
}

fn key(name: &Name, digest: &Digest) -> String {
    format!("{name}@{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache_registry_core::Hasher;

    #[tokio::test]
    async fn a_rest_is_useless_until_somebody_starts_again() {
        let suspects = Suspects::new();
        let name = Name { registry: "docker.io".to_owned(), repository: "library/x".to_owned() };
        let other = Name { registry: "docker.io".to_owned(), repository: "library/y".to_owned() };
        let digest = Hasher::sha256(b"x");
        assert_eq!(suspects.of(&name, &digest).await, Suspect::default());

        suspects.wrong_bytes_left(&name, &digest, true).await;
        assert_eq!(suspects.of(&name, &digest).await, Suspect { cache_is_wrong: true, rest_is_useless: true });
        suspects.starts_again(&name, &digest).await;
        assert_eq!(suspects.of(&name, &digest).await, Suspect { cache_is_wrong: true, rest_is_useless: false });
        assert_eq!(suspects.of(&other, &digest).await, Suspect::default());

        suspects.wrong_bytes_left(&other, &digest, false).await;
        assert_eq!(suspects.of(&other, &digest).await, Suspect { cache_is_wrong: false, rest_is_useless: true });
    }
}
