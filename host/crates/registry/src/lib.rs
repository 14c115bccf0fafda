//! Calls to OCI registries.

mod body;
mod challenge;
mod connect;
mod connections;
mod copy;
mod download;
mod error;
mod exchange;
mod guard;
mod manifest;
mod plan;
mod registries;
mod repository;
mod retry;
mod retry_after;
mod token;
mod upload;

pub use body::Body;
pub use connections::{Connections, SetupError, Timeouts, Waits};
pub use copy::{Copied, CopyError, CopyOptions, Platforms, Progress, copy};
pub use error::Error;
pub use manifest::Manifest;
pub use registries::{Registries, RegistriesError};
pub use repository::{Existing, GetOptions, Object, Repository};
