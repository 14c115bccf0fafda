//! The Helm chart as helm renders it, without a cluster. What a cluster does with it is tested by `tests/e2e`.
//!
//! - [`render`] gives the objects of a [`Release`] for some values, or the words of the refusal.
//! - [`values`] reads `values.yaml` with its comments, which the chart's README repeats as a table.

pub mod values;

mod helm;
mod release;

use std::path::PathBuf;

pub use helm::{lint, render, render_as, render_where, tool};
pub use release::{Pod, Release, at};

/// The release in tests that name none, and its namespace: those of the README's command.
pub const RELEASE: &str = "cache-registry";

/// The namespace of every release in tests.
pub const NAMESPACE: &str = "cache-registry-system";

/// The folder of the chart.
pub fn folder() -> PathBuf {
    workspace().join("helm/cache-registry")
}

/// The folder of the workspace.
pub fn workspace() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
