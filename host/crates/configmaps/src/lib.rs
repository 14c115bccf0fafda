//! Policies from `ConfigMap`s: read, loaded, and put in force while reviews are answered.
//!
//! ```text
//! ConfigMap ──decode──▶ Declaration ──┬─ component ───────────┐
//!     │                               └─ image ──pull──▶ ─────┤ decompress, compile, check
//!     │ watch                                                 ▼
//! Reloader ◀──────────────── Loaded, or a Refusal ─────── Follower, one for each ConfigMap
//!     │
//!     ├─ arrange ──▶ PolicySet ──replace──▶ Policies ◀── reviews
//!     └─ Events on the ConfigMap, /policies, metrics
//! ```
//!
//! Three promises hold. *What is wrong changes nothing*: the last version that was right stays in force until its
//! `ConfigMap` is deleted, loses its label or switches it off, and whoever wrote it is told what is wrong and what to do
//! ([`Refusal`]). *Every replica comes to the same set by itself*: who is in it follows from the `ConfigMap`s. *Nothing of
//! it is on the way of a review*: an API server or a registry that is gone leaves the set as it is.

mod announcements;
mod arrangement;
mod compression;
mod declaration;
mod encode;
mod events;
mod failures;
mod follower;
mod image;
mod loader;
mod metrics;
#[cfg(test)]
mod mock_api;
#[cfg(test)]
mod mock_registry;
mod refusal;
mod reloadable;
mod reloader;
mod roster;
mod run;
mod settings;
mod status;

pub use compression::{LARGEST_COMPONENT, decompress};
pub use declaration::{BUILT_IN_PRIORITY, Declaration, Image, Source, decode};
pub use encode::{EncodeError, NewConfigMap, encode};
pub use refusal::Refusal;
pub use reloadable::ReloadableSet;
pub use run::{Config, Error, run};
pub use settings::{LONGEST_SETTINGS, settings_json};
pub use status::Status;

#[cfg(test)]
mod tests {
    use std::sync::{Arc, LazyLock};

    use cache_registry_core::NodeAddress;
    use cache_registry_policy::{Engine, HostFacts, Limits, Policy, built_in};

    /// The engine of this process's tests.
    pub(crate) fn engine() -> Engine {
        static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
            let facts = HostFacts { node_address: NodeAddress::default(), own_registries: Vec::new() };
            Engine::new(&Limits { concurrency: 2, ..Limits::default() }, facts).unwrap()
        });
        ENGINE.clone()
    }

    /// A policy of this name, whose code is the built-in filter's.
    pub(crate) fn filter(name: &str) -> Arc<Policy> {
        static COMPONENT: LazyLock<cache_registry_policy::Component> =
            LazyLock::new(|| engine().compile(built_in::DEFAULT_FILTER).unwrap());
        Arc::new(engine().load(name, &COMPONENT, "").unwrap())
    }
}
