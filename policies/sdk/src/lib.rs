//! Write a policy for cache-registry as a struct and one function.
//!
//! The struct is the policy's settings. A [`Filter`] says which images are cached, a [`Rewrite`] under which reference
//! nodes pull them; [`export!`] makes a WebAssembly component of it:
//!
//! ```
//! use cache_registry_policy_sdk::{Container, Filter, Image, Pod, Verdict, export};
//!
//! #[derive(Default, serde::Deserialize)]
//! #[serde(deny_unknown_fields, default)]
//! struct Skip {
//!     namespaces: Vec<String>,
//! }
//!
//! impl Filter for Skip {
//!     fn filter(&self, pod: &Pod, _: &Container, _: &Image) -> Verdict {
//!         let namespace = pod.namespace();
//!         if self.namespaces.contains(&namespace) {
//!             Verdict::ignore(format!("images in namespace {namespace} are not cached"))
//!         } else {
//!             Verdict::Pass
//!         }
//!     }
//! }
//!
//! export!(filter: Skip);
//! ```
//!
//! The host gives settings as JSON, whether they were written in YAML or in JSON. They are read once, when an instance
//! is first asked; without any, the policy is its [`Default`]. Before a policy goes live the host asks whether its
//! settings are right: they are where they can be read and `check` has nothing against them.
//!
//! A panic fails the one call, and its message reaches the host's log and the pod's author. Nothing else that a policy
//! does is heard outside of its sandbox, except through [`host`].
//!
//! # Memory
//!
//! On `wasm32-unknown-unknown` a policy has the allocator of this crate, which is quicker to begin with. One that brings
//! another depends on this crate with `default-features = false`.
//!
//! # Tests
//!
//! On every target but WebAssembly the same code is plain Rust: the pod and the host have stand-ins, and [`testing`]
//! makes pods, containers and images. A policy is tested like any other function, with `cargo test`.
//!
//! ```
//! # use cache_registry_policy_sdk::{Container, Filter, Image, Pod, Verdict};
//! # struct Skip { namespaces: Vec<String> }
//! # impl Filter for Skip {
//! #     fn filter(&self, pod: &Pod, _: &Container, _: &Image) -> Verdict {
//! #         if self.namespaces.contains(&pod.namespace()) { Verdict::ignore("no") } else { Verdict::Pass }
//! #     }
//! # }
//! use cache_registry_policy_sdk::testing;
//!
//! let policy = Skip { namespaces: vec!["ci".to_owned()] };
//! let (container, image) = (testing::container("web"), testing::image("docker.io/library/nginx:1.27"));
//! assert_eq!(policy.filter(&testing::pod("shop"), &container, &image), Verdict::Pass);
//! assert!(matches!(policy.filter(&testing::pod("ci"), &container, &image), Verdict::Ignore(_)));
//! ```

#[cfg(all(target_family = "wasm", target_os = "unknown", feature = "allocator"))]
mod allocator;
mod export;
#[doc(hidden)]
pub mod glue;
pub mod host;
#[cfg(target_family = "wasm")]
mod panics;
mod policy;
mod settings;
#[cfg(not(target_family = "wasm"))]
mod stand_in;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod words;

pub use glue::types::{Container, ContainerKind, Image, Owner, PullPolicy, Rewritten, Verdict};
pub use policy::{Filter, Rewrite};
pub use settings::Settings;

#[cfg(target_family = "wasm")]
pub use glue::types::Pod;
#[cfg(not(target_family = "wasm"))]
pub use stand_in::Pod;
