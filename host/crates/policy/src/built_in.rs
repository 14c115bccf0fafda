//! The policies that are always there, last in the set: compiled from `policies/` when this crate is built.

use std::sync::Arc;

use crate::engine::Engine;
use crate::load::{LoadError, Policy};

/// The component of `policies/default-filter`.
pub const DEFAULT_FILTER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/default-filter.wasm"));

/// The component of `policies/default-rewrite`.
pub const DEFAULT_REWRITE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/default-rewrite.wasm"));

/// Their names, in their order in a set.
pub const NAMES: [&str; 2] = ["default-filter", "default-rewrite"];

/// The component of the built-in policy of this name.
pub fn wasm(name: &str) -> Option<&'static [u8]> {
    let components = [DEFAULT_FILTER, DEFAULT_REWRITE];
    NAMES.into_iter().zip(components).find(|(known, _)| *known == name).map(|(_, wasm)| wasm)
}

/// Loads both without settings, in their order in a set.
pub fn load(engine: &Engine) -> Result<[Arc<Policy>; 2], LoadError> {
    let [filter, rewrite] = NAMES;
    Ok([
        Arc::new(engine.load(filter, &engine.compile(DEFAULT_FILTER)?, "")?),
        Arc::new(engine.load(rewrite, &engine.compile(DEFAULT_REWRITE)?, "")?),
    ])
}
