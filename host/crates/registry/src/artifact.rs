//! WebAssembly components as OCI artifacts: kept in a registry, beside images.
//!
//! What is written has the layout that the CNCF's working group agreed on
//! (<https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>): a configuration of the type
//! `application/vnd.wasm.config.v0+json` and one layer, `application/wasm`. What is read may be older or simpler, as
//! `oras push` makes it: the one layer that is Wasm counts.

use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cache_registry_core::{Digest, Hasher, Reason};
use futures::stream::TryStreamExt as _;
use http_body_util::Full;

use crate::download::download;
use crate::manifest::Blob;
use crate::retry::retried;
use crate::wasm_layout::{component, layout};
use crate::{Error, Repository};

/// A component that was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WasmArtifact {
    /// Of the manifest: what the reference names by its digest, or named just now by its tag.
    pub digest: Digest,
    /// The component, checked against the digest that the manifest gives.
    pub wasm: Bytes,
}

/// What a component needs and offers, for the artifact's configuration: `cache-registry:policy/filter@0.1.0`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// The names of what it imports.
    pub imports: Vec<String>,
    /// The names of what it exports.
    pub exports: Vec<String>,
}

/// However slowly a registry sends, or takes.
const LONGEST: Duration = Duration::from_mins(10);
const TRIES: usize = 4;

/// Fetches the component that a tag or a digest names. One of more than `largest` bytes is not downloaded.
///
/// Whether a tag still names the same is told by [`Repository::resolve`], without a download.
pub async fn pull_wasm(repository: &Repository, reference: &str, largest: u64) -> Result<WasmArtifact, Error> {
    let pulling = async {
        let manifest = retried(TRIES, || repository.get_manifest(reference)).await?;
        let blob = component(&manifest, largest).map_err(|problem| repository.unusable(problem))?;
        let mut failure = None;
        // Each mirror by itself: one that sends wrong bytes is told from the registry only when all of them are there.
        for place in repository.places()? {
            match fetch(place, &blob).await {
                Ok(wasm) => return Ok(WasmArtifact { digest: manifest.digest, wasm }),
                Err(error) => {
                    tracing::debug!(%error, "not pulled here");
                    failure = Some(error);
                }
            }
        }
        Err(failure.unwrap_or_else(|| repository.addressless()))
    };
    in_time(repository, LONGEST, pulling).await
}

/// Writes a component and puts a tag on it. Returns the digest of its manifest, which is the same for the same
/// component in the same repository: nothing is sent that the registry has.
pub async fn push_wasm(
    repository: &Repository,
    tag: &str,
    wasm: Bytes,
    interfaces: &Interfaces,
) -> Result<Digest, Error> {
    let layout = layout(&repository.name, &wasm, interfaces);
    let pushing = async {
        // What a mirror has says nothing of what the registry has.
        let registry = repository.itself()?;
        for bytes in [&wasm, &layout.config] {
            let (digest, size) = (Hasher::sha256(bytes), bytes.len() as u64);
            if !told(retried(TRIES, || registry.blob_exists(&digest, size)).await)? {
                retried(TRIES, || registry.push_blob(&digest, size, Full::new(bytes.clone()))).await?;
            }
        }
        let tagged = told(retried(TRIES, || registry.head_manifest(tag)).await)?;
        let digest = layout.manifest.digest.clone();
        if tagged.and_then(|existing| existing.digest).as_ref() != Some(&digest) {
            retried(TRIES, || registry.push_manifest(tag, &layout.manifest)).await?;
        }
        Ok(digest)
    };
    in_time(repository, LONGEST, pushing).await
}

/// The bytes of a blob, all of them in memory, and checked.
async fn fetch(from: Repository, blob: &Blob) -> Result<Bytes, Error> {
    let asked = from.asked(&["blobs", blob.digest.as_ref()])?;
    let mut hasher = Hasher::expecting(&blob.digest).map_err(|error| asked.unusable(error))?;
    // All at once, and never more: the size was looked at, and a download that is longer ends with an error.
    let mut wasm = BytesMut::with_capacity(usize::try_from(blob.size).unwrap_or_default());
    let mut pieces = pin!(download(from, blob.clone()));
    while let Some(piece) = pieces.try_next().await? {
        hasher.update(&piece);
        wasm.extend_from_slice(&piece);
    }
    let problem = |error| asked.garbled(format_args!("the component is not what its manifest says: {error}"));
    hasher.finish().map_err(problem)?;
    Ok(wasm.freeze())
}

/// What a registry says that it has; nothing where it does not tell who is asking. Whether that one may write, the write
/// shows.
fn told<T: Default>(answer: Result<T, Error>) -> Result<T, Error> {
    match answer {
        Err(error) if error.reason() == Reason::Unauthorized => Ok(T::default()),
        answer => answer,
    }
}

async fn in_time<T>(
    repository: &Repository,
    limit: Duration,
    doing: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let done = tokio::time::timeout(limit, doing).await;
    done.unwrap_or_else(|_| Err(repository.unusable(format_args!("the component is not through within {limit:?}"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Connections, Registries, Timeouts};

    #[tokio::test]
    async fn what_goes_on_forever_ends() {
        let connections = Connections::new(Registries::default(), Timeouts::default()).unwrap();
        let repository = connections.upstream("reg.example", "app");
        let forever = std::future::pending::<Result<(), Error>>();

        let error = in_time(&repository, Duration::from_millis(1), forever).await.unwrap_err().to_string();

        assert!(error.contains("reg.example/app: ") && error.contains("not through within 1ms"), "{error}");
    }
}
