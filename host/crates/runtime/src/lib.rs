//! What every role needs around its work, and nothing of Kubernetes.
//!
//! A role's `run` reads in this order: logs are set up, signals are listened to, everything is bound, everything is
//! spawned, and the process ends when the last of it has drained.
//!
//! ```text
//! telemetry::init ─▶ Shutdown::on_signals ─▶ Admin::bind ─▶ … ─▶ spawn(admin.serve(shutdown)), spawn(…) ─▶ drain
//!                         │                      ▲
//!                         └── begun: /ready 503 ─┤
//! Readiness::hold ─▶ Handle dropped: ready ──────┘
//! ```
//!
//! - [`telemetry`]: logs on stderr, as text or JSON, and traces.
//! - [`traces`]: what spans have beside that.
//! - [`Readiness`]: ready when everything that was held has been let go of.
//! - [`Shutdown`]: begins at SIGTERM or SIGINT, and bounds how long the end may take.
//! - [`listen()`]: takes an address, alone or beside the process that takes over.
//! - [`Admin`]: `/live`, `/ready` and `/metrics` on a port of their own.

mod admin;
mod drain;
mod listen;
mod readiness;
mod shutdown;
pub mod telemetry;
pub mod traces;

pub use admin::Admin;
pub use drain::{Drain, Overdue};
pub use listen::{Sharing, listen};
pub use readiness::{Handle, Readiness};
pub use shutdown::Shutdown;
pub use telemetry::LogFormat;
pub use traces::Traces;
