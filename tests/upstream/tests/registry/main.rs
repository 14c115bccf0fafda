//! The upstream registry, seen by its clients.

#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in tests, and does not know their shared functions as such"
)]

mod client;
mod misbehaving;
mod process;
mod reading;
mod tools;
