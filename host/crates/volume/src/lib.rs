//! The registry's volume, as CNCF distribution keeps it, for the Job of a garbage collection: no registry runs beside.
//!
//! ```text
//! docker/registry/v2/
//!   blobs/sha256/ab/ab12…/data                          manifests too
//!   repositories/docker.io/library/nginx/_manifests/
//!     tags/1.27/current/link                            the digest that the tag names
//!     tags/1.27/index/sha256/ab12…/link                 those that it has named
//!     revisions/sha256/ab12…/link                       the manifests of the repository
//! ```
//!
//! It is the same in distribution 2 and 3 (`registry/storage/paths.go` there describes it). `garbage-collect` takes every
//! revision for needed, and removes the blobs that none needs. Which revisions no tag reaches is decided here:
//! docs/architecture.md says why not by distribution's own `--delete-untagged`.

mod files;
mod size;
mod untagged;

use std::io;
use std::path::PathBuf;

pub use size::{Size, measure};
pub use untagged::{Removed, prepare, remove_untagged};

/// A file of the volume that can't be read or removed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}; is the volume mounted, and may user and group of this process use it?", path.display())]
pub struct Error {
    path: PathBuf,
    source: io::Error,
}
