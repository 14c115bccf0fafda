use std::time::Duration;

use cache_registry_core::NodeAddress;
use cache_registry_policy::built_in::{NODE_REGISTRIES, ReleaseSettings};
use cache_registry_policy::{Engine, HostFacts, Limits};
use clap::Args;

use crate::Failure;
use crate::quantity::{bytes, time};

/// What policies are told and given, as the webhook of a release is set.
#[derive(Debug, Args)]
pub struct PolicyHost {
    /// Registries that hold the cache itself, whose images are never cached: as they stand in references
    #[arg(long, env = "CACHE_REGISTRY_REGISTRY_HOST", value_name = "HOST[:PORT]", value_delimiter = ',')]
    pub registry_host: Vec<String>,
    /// Registries from which nodes pull with credentials of their own, whose images the built-in filter leaves alone: as
    /// matchImages of a kubelet has them, with * for any part between dots. Empty for none; unless given, what the
    /// kubelets of EKS, GKE and AKS have credentials for
    #[arg(long, env = "CACHE_REGISTRY_NODE_REGISTRIES", value_name = "PATTERNS", value_delimiter = ',', default_values = NODE_REGISTRIES)]
    pub node_registries: Vec<String>,
    /// Time on a processor for one policy in one review: 50ms, 1s
    #[arg(long, env = "CACHE_REGISTRY_POLICY_TIME", default_value = "50ms", value_parser = time)]
    pub policy_time: Duration,
    /// Memory for one policy in one review: 32Mi, 16777216
    #[arg(long, env = "CACHE_REGISTRY_POLICY_MEMORY", default_value = "32Mi", value_parser = bytes)]
    pub policy_memory: usize,
}

/// The same, with the node address.
#[derive(Debug, Args)]
pub(crate) struct Host {
    /// What rewritten references begin with: where each node's proxy listens
    #[arg(long, env = "CACHE_REGISTRY_NODE_ADDRESS", default_value = "localhost:7439", value_parser = NodeAddress::new)]
    pub(crate) node_address: NodeAddress,
    #[command(flatten)]
    policies: PolicyHost,
}

impl PolicyHost {
    /// What policies may take; `concurrency` as it is by default.
    pub fn limits(&self) -> Limits {
        Limits { time: self.policy_time, memory: self.policy_memory, ..Limits::default() }
    }

    /// What the built-in policies are told.
    pub fn release_settings(&self) -> ReleaseSettings {
        // An empty list is one empty text to who splits it at commas.
        let is_given = |pattern: &&String| !pattern.is_empty();
        ReleaseSettings { node_registries: self.node_registries.iter().filter(is_given).cloned().collect() }
    }
}

impl Host {
    /// What the built-in policies are told.
    pub(crate) fn release_settings(&self) -> ReleaseSettings {
        self.policies.release_settings()
    }

    /// An engine for one who asks.
    pub(crate) fn engine(&self) -> Result<Engine, Failure> {
        let limits = Limits { concurrency: 1, ..self.policies.limits() };
        let facts =
            HostFacts { node_address: self.node_address.clone(), own_registries: self.policies.registry_host.clone() };
        Engine::new(&limits, facts).map_err(Failure::bad_input)
    }
}
