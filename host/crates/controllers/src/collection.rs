//! Garbage collection: the registry is stopped, a Job removes from its volume what nothing needs, and it is put back.
//!
//! ```text
//!  StatefulSet  1 ──▶ 0, with a record ─────────────────────────────────────▶ 1, the record gone, a report
//!                          │ no pod left                                      ▲ no Job, no pod of it
//!  Job                     └──▶ created, suspended ──▶ started ──▶ ended ──▶ deleted
//! ```
//!
//! What is next follows from what is seen and from nothing that happened before ([`step::next_step`]), so that it does not
//! matter who goes on, or where it was cut. A run does it with the goal to collect; whoever leads the controllers does it
//! with the goal to put the registry back, where a record is there and nobody holds the run's Lease any more.
//!
//! **While anything may be removed, nothing is written.** Writers hold still as long as the record is there ([`gate`]), and
//! it goes when no Job and no pod of one are left. A call that was sent by someone who has lost the Lease since may arrive
//! late, and must not break that: what changes the `StatefulSet` says which resourceVersion it was decided on, and a Job is
//! created suspended. Starting it is a call of its own, for this very Job, which is deleted before the record goes.

mod api;
mod drive;
mod freed;
mod gate;
mod job;
mod metrics;
mod restorer;
mod run;
mod step;

pub(crate) use gate::Gate;
pub(crate) use metrics::CollectionMetrics;
pub(crate) use restorer::Restorer;
pub use run::{CollectError, CollectionConfig, collect};

/// The names of the Lease and of the Job of a garbage collection, by the registry's `StatefulSet`.
pub(crate) fn name_of(stateful_set: &str) -> String {
    format!("{stateful_set}-gc")
}

#[cfg(test)]
mod tests;
