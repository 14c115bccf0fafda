//! `AdmissionReview` in, policies, JSON patch out.
//!
//! ```text
//!          parse            examine                    conclude            allowed
//! body ─────────▶ Request ─────────▶ Inquiry ────────────────────▶ Conclusion ─────────▶ body
//!                                       │ questions       ▲ verdicts      patch, warnings
//!                                       └───▶ Decide ─────┘
//! ```
//!
//! All but [`Decide`] is computed from what is at hand: which containers are looked at (`inquiry`), and what the patch
//! is (`conclusion`). The answer to a review is "allowed", always; the answer to the patched pod is that there is
//! nothing more to do, so that a webhook after ours may have ours asked again.
//!
//! A pod is left exactly as it is when its author opted out, when it mirrors a static pod, and when anything about it
//! is not understood. What is not a review at all gets an HTTP error with the reason, which the API server logs, and
//! which by `failurePolicy: Ignore` leaves the pod alone too.
//!
//! [`explain()`] takes the same way without HTTP, for people who want to know what would be answered and why.
//!
//! [`Server`] is the HTTPS around it: on `axum-server`, which swaps the whole TLS configuration for new handshakes, so
//! that a changed certificate is served without a connection being closed.

#[cfg(test)]
mod answers;
mod certificate;
mod conclusion;
mod consider;
mod decide;
mod explain;
mod ground;
mod inquiry;
mod lingering;
mod metrics;
mod pod;
mod review;
mod router;
mod server;
mod warnings;

pub use certificate::CertificateError;
pub use decide::Decide;
pub use explain::{ExplainedContainer, Explanation, NoPod, NoReview, explain};
pub use ground::Ground;
pub use metrics::Metrics;
pub use router::router;
pub use server::{Config, Server, SetupError};
