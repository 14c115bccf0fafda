//! Calls to registries as they are: distribution 2.8 and 3 as a cache, and a small one of ours for what a real one
//! does only on a bad day.

#![allow(clippy::panic, clippy::unwrap_used, reason = "what a test cannot do without ends it")]

mod artifacts;
mod auth;
mod cache_credentials;
mod cache_headers;
mod copies;
mod corners;
mod credentials;
mod distribution;
mod garbage;
mod images;
mod let_go;
mod limits;
mod pull_tokens;
mod redirects;
mod referrers;
mod removals;
mod server;
mod shelf;
mod tls;
mod whole;
mod writes;

use std::time::Duration;

use cache_registry_registry::{Connections, Registries, Timeouts, Waits};
use url::Url;

/// Connections for which `docker.io` is at `endpoint`, by plain HTTP, and no wait is long.
fn connections(endpoint: &Url) -> Connections {
    connections_by(&format!("registries:\n  docker.io:\n    endpoint: {endpoint}\n"))
}

/// Connections by a registries file.
fn connections_by(file: &str) -> Connections {
    let second = Duration::from_secs(1);
    let waits = Waits { connect: second, first_byte: second, idle: second, commit: 10 * second };
    let timeouts = Timeouts { cache: Waits { first_byte: 5 * second, ..waits }, upstream: waits };
    Connections::new(Registries::parse(file).unwrap(), timeouts).unwrap()
}
