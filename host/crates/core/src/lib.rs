//! The model of cache-registry, without any I/O.
//!
//! A container names an image by a [`Reference`]. A policy's [`Decision`] either leaves it as it is or gives it a
//! [node address](NodeAddress), under which the node's proxy serves it, and a *source*, from which the cache is
//! filled. Where the cache keeps it is computed from the source ([`Location`]), and so is the name of the
//! `CachedImage` that reports on it ([`object_name()`]).
//!
//! ```text
//!             policy                          controllers
//! image  ───────────────▶  source Reference ───────────────▶  Location in the cache
//!   │                          │                                      ▲
//!   └─▶ NodeAddress ◀──────────┘                                      │
//!            └────────────── pulled by a node: proxy ─────────────────┘
//! ```
//!
//! References are only ever computed forward: what was asked is recorded beside what it became. The one reader of a
//! node address is the proxy, which has nothing else to go by, and for it the form is reversible.

mod admission;
mod bytes;
mod digest;
mod duration;
mod let_go;
mod location;
mod node_address;
mod object_name;
mod platform;
mod reach;
mod reason;
mod reference;
mod referrers_tag;
mod traces;

pub use admission::{ContainerFacts, ContainerKind, Decision, Owner, PodFacts, PullPolicy, Verdict};
pub use bytes::parse_bytes;
pub use digest::{Digest, DigestMismatch, Hasher, UnsupportedDigest, parse_digest};
pub use duration::parse_duration;
pub use let_go::LetGo;
pub use location::Location;
pub use node_address::NodeAddress;
pub use object_name::object_name;
pub use platform::{InvalidPlatform, Platform, PlatformChoice, Platforms};
pub use reach::{Named, reached};
pub use reason::Reason;
pub use reference::{InvalidReference, Reference};
pub use referrers_tag::{cosign_tags, is_referrers_tag, referrers_tag};
pub use traces::TRACES;
