use cache_registry_core::NodeAddress;

/// What is decided by, beside the policies.
#[derive(Debug, Clone)]
pub struct Ground {
    /// Where nodes pull from.
    pub node: NodeAddress,
    /// Pods that have pull secrets are left alone, before any policy is asked: nobody is there who could pull their images
    /// through the cache.
    pub leaves_pull_secrets_alone: bool,
}

impl From<NodeAddress> for Ground {
    fn from(node: NodeAddress) -> Self {
        Self { node, leaves_pull_secrets_alone: false }
    }
}
