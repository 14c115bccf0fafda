//! The policies that are always there, last in the set: compiled from `policies/` when this crate is built.

use std::sync::Arc;

use crate::engine::Engine;
use crate::load::{LoadError, Policy};

/// The component of `policies/default-filter`.
pub const DEFAULT_FILTER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/default-filter.wasm"));

/// The component of `policies/default-rewrite`.
pub const DEFAULT_REWRITE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/default-rewrite.wasm"));

/// The settings of `default-filter` that make it leave images in `own_registries` alone: one host per line, as it
/// stands in image references.
pub fn default_filter_settings(own_registries: &[String]) -> String {
    own_registries.join("\n")
}

/// Loads both, in their order in a set.
pub fn load(engine: &Engine, own_registries: &[String]) -> Result<[Arc<Policy>; 2], LoadError> {
    let filter = engine.load("default-filter", DEFAULT_FILTER, &default_filter_settings(own_registries))?;
    let rewrite = engine.load("default-rewrite", DEFAULT_REWRITE, "")?;
    Ok([Arc::new(filter), Arc::new(rewrite)])
}
