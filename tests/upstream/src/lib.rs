//! An upstream registry that misbehaves on demand, and images made by hand.
//!
//! It reads as a real registry does: manifests and blobs by GET and HEAD, ranges, digest headers, an `Accept` that must
//! name the media type, bearer tokens where [`Access`] asks for them. At any time it can be told to be [`off`] (the
//! connection is refused), or to misbehave by a [`Rule`]: a [`Fault`], the requests that it strikes, and how many of
//! them. It writes down every request, so that a test can say how many there were.
//!
//! ```text
//!  Image ──▶ Store ──▶ right answer ──┐
//!                                     ├──▶ body, as slow, short or wrong as the fault has it ──▶ client
//!  Rule ──▶ Rules ──▶ Fault ──────────┘                              │
//!                                                                    └──▶ Traffic
//! ```
//!
//! A test in the same process has an [`Upstream`]. The binary `upstream` is the same in a process of its own (in a
//! network namespace, say), and a [`Control`] has the same methods over HTTP.
//!
//! [`off`]: Upstream::off

mod access;
mod answer;
mod body;
mod control;
mod fault;
mod image;
mod stalled;
mod store;
mod target;
mod traffic;
mod upstream;

pub use access::Access;
pub use control::{Control, Listening, serve_control};
pub use fault::{Fault, Rule};
pub use image::{
    CONFIG, Content, File, IN_TOTO, INDEX, Image, LAYER_GZIP, LAYER_TAR, Layer, MANIFEST, Platform, pseudo_random,
};
pub use stalled::{Stalled, stalled_listener};
pub use store::Store;
pub use target::{Kind, Matching, Target};
pub use traffic::{Request, Traffic};
pub use upstream::{Tls, Upstream};
