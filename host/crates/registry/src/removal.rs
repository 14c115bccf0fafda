use bytes::Bytes;
use cache_registry_core::Hasher;
use http::{HeaderMap, Method, StatusCode};
use serde_json::json;

use crate::exchange::Payload;
use crate::manifest::OCI_INDEX;
use crate::{Error, Manifest, Repository};

/// Removals (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#content-management>).
impl Repository {
    /// Takes a tag away, and nothing else: neither the manifest that it names nor any other tag of that manifest. One
    /// that is not there is fine.
    ///
    /// Distribution before its version 3 deletes by digest only, and with the digest every tag that names it. There the
    /// tag is first made to name an index of its own, without images, and that index is deleted. Who pulls the tag at
    /// that very moment is told that it has nothing for its platform.
    pub async fn delete_tag(&self, tag: &str) -> Result<(), Error> {
        match self.delete_manifest(tag).await {
            // It takes the tag for a digest, and says that it is none.
            Err(error) if error.status() == Some(StatusCode::BAD_REQUEST) => {}
            outcome => return outcome,
        }
        // Not to make a tag where there is none.
        if self.head_manifest(tag).await?.is_none() {
            return Ok(());
        }
        let placeholder = placeholder(&self.name, tag);
        // Fails where nothing can be deleted, while the tag still names what it should.
        self.delete_manifest(placeholder.digest.as_ref()).await?;
        self.push_manifest(tag, &placeholder).await?;
        self.delete_manifest(placeholder.digest.as_ref()).await
    }

    pub(crate) async fn delete_manifest(&self, reference: &str) -> Result<(), Error> {
        self.delete(&["manifests", reference]).await
    }

    /// Takes a blob out of the repository. Its bytes go with a garbage collection.
    pub(crate) async fn delete_blob(&self, digest: &str) -> Result<(), Error> {
        self.delete(&["blobs", digest]).await
    }

    /// That it is not there is fine.
    async fn delete(&self, tail: &[&str]) -> Result<(), Error> {
        let endpoint = self.last_endpoint()?;
        let url = self.url(endpoint, tail);
        match self.write(endpoint, Method::DELETE, url, HeaderMap::new(), Payload::Empty).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_absence() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// An index that no other tag names.
fn placeholder(repository: &str, tag: &str) -> Manifest {
    let index = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [],
        "annotations": {"cache-registry.enix.io/deleted": format!("{repository}:{tag}")},
    });
    let bytes = Bytes::from(index.to_string());
    Manifest { media_type: OCI_INDEX.to_owned(), digest: Hasher::sha256(&bytes), bytes }
}
