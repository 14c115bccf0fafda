//! Runs policies: WebAssembly components of the package `cache-registry:policy`, whose contract is in `wit/`.
//!
//! An [`Engine`] compiles and checks components ([`Engine::load`]); a [`PolicySet`] asks them, in order, about the
//! containers of one pod and gives a verdict for each. A policy can do nothing but answer: it is given the pod, its
//! settings and a log, and its time, its memory and what it passes to the host are limited ([`Limits`]). One that
//! fails costs the image in question its caching, and nothing else.
//!
//! ```text
//! bytes ──load──▶ Policy ─┐            ┌─ instance (filter) ─┐
//!                         ├─▶ PolicySet ── instance (filter) ─┼─▶ Verdict per container
//! bytes ──load──▶ Policy ─┘     ▲      └─ instance (rewrite) ┘
//!                               │
//!            PodFacts, ContainerFacts     fresh for each request, in place or in the slow lane
//! ```
//!
//! Instances are made for one request and one policy from what was compiled and linked before, in slots that are
//! reused, which takes microseconds. A decision is made in place, on the thread that serves the request, which is quicker
//! than another one can be woken. One that is not made at the next tick of a clock goes on in the slow lane, on threads
//! that give way to those that serve requests: a guest that loops delays no other request. A semaphore, no larger than the
//! pool of slots, bounds how many run at once.

mod allowance;
mod bindings;
pub mod built_in;
mod clock;
mod compiler;
mod component;
mod engine;
mod failure;
mod health;
mod host;
mod instance;
mod lane;
mod load;
mod log;
mod memory;
mod metrics;
mod observer;
mod pace;
mod policies;
mod room;
mod session;
mod set;
mod step_back;
mod survey;
mod usage;
mod wasi;

pub use component::Component;
pub use engine::{Engine, HostFacts, Limits, SetupError};
pub use health::Health;
pub use load::{LoadError, Policy};
pub use metrics::Metrics;
pub use observer::{Observer, PolicyFailure};
pub use policies::Policies;
pub use set::{MOST_POLICIES, Member, OnError, PolicySet, TooManyPolicies};
pub use usage::Usage;
