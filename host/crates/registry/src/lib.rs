//! Calls to OCI registries: the one inside the cluster and those upstream.
//!
//! [`Registries`] is what a file says about hosts. [`Connections`] are made from it once and shared; they give a
//! [`Repository`] on one of two legs, which differ in how long is waited and in who is trusted. [`copy()`] reads from
//! one and writes to the other. [`artifact`] keeps WebAssembly components in one, beside images.
//!
//! ```text
//!  Registries ──▶ Connections ──▶ Repository ── get, head, push, mount
//!                   ▲  │            ▲  ▲  ▲
//!  Credentials ─────┘  │   upstream │  │  │ cache
//!   (each leg's own)   │     artifact  copy
//!                      ▼
//!        token ──▶ exchange ──▶ connect: name ─▶ guard ─▶ TCP ─▶ TLS
//!    (401 → token    (redirects, time limits,
//!     → once more)    errors in words)
//! ```
//!
//! Four promises hold for every call. *Every wait is bounded*, by the [`Waits`] of its leg, bodies included. *What a
//! pod names is fetched from public addresses alone*, whatever a name resolves to or a redirect leads to, unless the
//! registries file names the host. *What is written is what was meant*: a blob is committed only with the right digest,
//! and a tag is set only when all that it reaches is there. *[`Credentials`] are the registry's they were given for*:
//! neither they nor a token that they brought reach anybody else, or any text. Bodies that are read are handed on
//! unchecked, because only who asked knows what to do about wrong bytes half-way.

pub mod artifact;
mod asked;
mod body;
mod challenge;
mod connect;
mod connections;
mod copy;
mod credentials;
mod docker_config;
mod download;
mod error;
mod exchange;
mod forsaken;
mod guard;
mod let_go;
mod listing;
mod manifest;
mod plan;
mod presence;
mod pull_token;
mod quota;
mod referrers;
mod referrers_api;
mod registries;
mod removal;
mod repository;
mod retry;
mod retry_after;
mod token;
mod told;
mod upload;
mod wasm_layout;

pub use body::Body;
pub use connections::{Connections, SetupError, Timeouts, Waits};
pub use copy::{Copied, CopyError, CopyOptions, Progress, copy};
pub use credentials::{Credentials, CredentialsError};
pub use error::Error;
pub use let_go::Swept;
pub use manifest::Manifest;
pub use presence::Presence;
pub use pull_token::{HandedOn, PullToken};
pub use quota::{Quota, QuotaMetrics};
pub use registries::{Registries, RegistriesError};
pub use repository::{Existing, GetOptions, Object, Repository};
