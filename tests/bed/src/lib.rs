//! A cluster of real parts on one machine, for the tests and the demo.
//!
//! A [`Bed`] is etcd, an API server, a registry, an upstream registry that misbehaves on demand, cache-registry itself,
//! and two nodes, each a network namespace with its own containerd and its own proxy. Nothing in it is a mock: a
//! [`Part`] is a process that a test may kill, freeze and start again, and a pull is the CRI call that a kubelet makes.
//!
//! ```text
//!  kubectl ─▶ API server ◀─▶ webhook           upstream
//!                 │                              ▲   ▲
//!                 ▼                              │   │
//!            controllers ── copies ─▶ registry   │   │
//!                    └───────────────────┼───────┘   │
//!  node a, node b:   containerd ─▶ proxy ┴───────────┘
//! ```
//!
//! What a bed makes is taken away by a process of its own, however the bed ends (`guardian.sh`). Two beds may be up at
//! the same time. It needs root, and the programs of `tests/tools`.

mod bed;
mod bucket;
mod cache;
mod certificates;
pub mod cluster;
mod collector;
mod containerd;
mod control_plane;
mod credentials;
mod cri;
mod exchange;
mod guardian;
mod network;
mod node;
mod node_traffic;
mod objects;
mod operator;
mod part;
mod pod_monitor;
mod private_registry;
mod prometheus;
mod tools;
mod upstream;
mod wait;

pub use bed::{Bed, Options};
pub use bucket::Bucket;
pub use cache::{Cache, CacheKind};
pub use certificates::{Authority, CertificateFiles};
pub use collector::{Collector, Span};
pub use containerd::Containerd;
pub use control_plane::ControlPlane;
pub use credentials::REGISTRY_CREDENTIALS;
pub use cri::{Image, ImageService};
pub use exchange::{Answer, page};
pub use network::{IpVersion, Namespace, Network};
pub use node::{Node, Pull};
pub use node_traffic::NodeTraffic;
pub use objects::{Objects, image_of, pod};
pub use operator::{ECR_REGISTRY, GONE_REGISTRY, NAMESPACE, POLICY_PULL_SECRET, PRIVATE_REGISTRY, REGISTRIES};
pub use part::Part;
pub use pod_monitor::Discovery;
pub use private_registry::PrivateRegistry;
pub use prometheus::{Prometheus, Target};
pub use tools::Tools;
pub use upstream::Upstream;
pub use wait::{interrupted, until};
