//! The proxy over real sockets: between a client and registries that misbehave, and before a real distribution.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, and does not see that these modules are one")]

mod blobs;
mod cache_credentials;
mod client;
mod distribution;
mod manifests;
mod node;
mod origin;
mod pull_tokens;
mod server;
