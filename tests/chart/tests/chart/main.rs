//! The chart, rendered for many values.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by them, in its helpers too")]

mod access;
mod buckets;
mod certificates;
mod collection;
mod documents;
mod drivers;
mod flags;
mod matrix;
mod monitoring;
mod names;
mod network;
mod refusals;
mod registry_access;
mod restricted;
mod roles;
mod storage;
mod traces;
