use std::path::PathBuf;

use anyhow::{Context, Result};
use cache_registry_bed::Bed;
use cache_registry_core::{Digest, Hasher};

/// The file in which distribution's filesystem driver keeps a blob or a manifest.
pub fn blob_file(bed: &Bed, digest: &Digest) -> Result<PathBuf> {
    let hex = digest.digest();
    let start = hex.get(..2).context("a digest has more than two characters")?;
    Ok(bed.folder().join("registry/docker/registry/v2/blobs/sha256").join(start).join(hex).join("data"))
}

/// The digest of what a cache or a proxy answered with.
pub fn content_digest(bytes: &[u8]) -> String {
    Hasher::sha256(bytes).to_string()
}
