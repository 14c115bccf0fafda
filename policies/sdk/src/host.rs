//! What a policy may call, at any time. Natively, what tests need of it.

pub use crate::glue::host::Level;

#[cfg(target_family = "wasm")]
use crate::glue::host as real;
#[cfg(not(target_family = "wasm"))]
use crate::stand_in as real;

/// Writes a line to the host's log, under the policy's name. There are 8 KiB of it for a request. In tests it is
/// printed.
pub fn log(level: Level, message: &str) {
    real::log(level, message);
}

/// The registries that hold the cache itself, as they stand in references. In tests those of
/// `testing::set_own_registries`.
pub fn own_registries() -> Vec<String> {
    real::own_registries()
}

/// The registry under which nodes pull what is cached: `localhost:7439`.
pub fn node_registry() -> String {
    real::node_registry()
}

/// The reference under which nodes pull what is cached from `source`: for `reg.example:5000/app:1` it is
/// `localhost:7439/reg.example_5000/app:1`. An error where `source` is not an image reference. In tests `source` is
/// fully qualified.
pub fn node_address(source: &str) -> Result<String, String> {
    real::node_address(source)
}
