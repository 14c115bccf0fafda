//! The proxy over real sockets: between a client and registries that misbehave, and before a real distribution.

mod blobs;
mod client;
mod distribution;
mod manifests;
mod node;
mod origin;
mod server;
