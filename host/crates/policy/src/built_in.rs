//! The policies that are always there, last in the set: compiled from `policies/` when this crate is built.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::engine::Engine;
use crate::load::{LoadError, Policy};

/// The component of `policies/default-filter`.
pub const DEFAULT_FILTER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/default-filter.wasm"));

/// The component of `policies/default-rewrite`.
pub const DEFAULT_REWRITE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/default-rewrite.wasm"));

/// Their names, in their order in a set.
pub const NAMES: [&str; 2] = ["default-filter", "default-rewrite"];

/// The component of the built-in policy of this name.
pub fn wasm(name: &str) -> Option<&'static [u8]> {
    let components = [DEFAULT_FILTER, DEFAULT_REWRITE];
    NAMES.into_iter().zip(components).find(|(known, _)| *known == name).map(|(_, wasm)| wasm)
}

/// From where nodes pull with credentials of their own, unless it is said otherwise: what the credential providers of
/// the clouds' kubelets are asked about, without what everybody may pull.
///
/// - EKS: `nodeadm/internal/kubelet/image-credential-provider.go` in <https://github.com/awslabs/amazon-eks-ami>
/// - GKE: `pkg/gcpcredential/gcpcredential.go` in <https://github.com/kubernetes/cloud-provider-gcp>
/// - AKS: `pkg/credentialprovider/azure_credentials.go` in <https://github.com/kubernetes-sigs/cloud-provider-azure>
pub const NODE_REGISTRIES: [&str; 19] = [
    "*.dkr.ecr.*.amazonaws.com",
    "*.dkr-ecr.*.on.aws",
    "*.dkr.ecr.*.amazonaws.com.cn",
    "*.dkr-ecr.*.on.amazonwebservices.com.cn",
    "*.dkr.ecr-fips.*.amazonaws.com",
    "*.dkr-ecr-fips.*.on.aws",
    "*.dkr.ecr.*.c2s.ic.gov",
    "*.dkr.ecr.*.sc2s.sgov.gov",
    "*.dkr.ecr.*.cloud.adc-e.uk",
    "*.dkr.ecr.*.csp.hci.ic.gov",
    "*.dkr.ecr.*.amazonaws.eu",
    "gcr.io",
    "*.gcr.io",
    "*.pkg.dev",
    "container.cloud.google.com",
    "*.azurecr.io",
    "*.azurecr.cn",
    "*.azurecr.de",
    "*.azurecr.us",
];

/// What a release tells the built-in policies, beside what a `ConfigMap` says to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseSettings {
    /// From where nodes pull with credentials of their own, as a kubelet's `matchImages` has it.
    pub node_registries: Vec<String>,
}

impl Default for ReleaseSettings {
    fn default() -> Self {
        Self { node_registries: NODE_REGISTRIES.map(ToOwned::to_owned).into() }
    }
}

impl ReleaseSettings {
    /// The settings, JSON text, of the built-in policy of this name to which a `ConfigMap` says `own`, JSON text or
    /// nothing. What that leaves open is as the release has it; what is no map is left for the policy to refuse.
    pub fn with(&self, name: &str, own: &str) -> String {
        if name != NAMES[0] {
            return own.to_owned();
        }
        let own = if own.trim().is_empty() { "{}" } else { own };
        let Ok(mut settings) = serde_json::from_str::<Map<String, Value>>(own) else { return own.to_owned() };
        let key = "nodeRegistries".to_owned();
        settings.entry(key).or_insert_with(|| Value::from(self.node_registries.clone()));
        Value::Object(settings).to_string()
    }
}

/// Loads both as a release has them that says nothing, in their order in a set.
pub fn load(engine: &Engine) -> Result<[Arc<Policy>; 2], LoadError> {
    load_for(engine, &ReleaseSettings::default())
}

/// Loads both as a release has them, in their order in a set.
pub fn load_for(engine: &Engine, release: &ReleaseSettings) -> Result<[Arc<Policy>; 2], LoadError> {
    let [filter, rewrite] = NAMES;
    Ok([
        Arc::new(engine.load(filter, &engine.compile(DEFAULT_FILTER)?, &release.with(filter, ""))?),
        Arc::new(engine.load(rewrite, &engine.compile(DEFAULT_REWRITE)?, &release.with(rewrite, ""))?),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release() -> ReleaseSettings {
        ReleaseSettings { node_registries: vec!["*.azurecr.io".to_owned()] }
    }

    #[test]
    fn what_a_configmap_leaves_open_is_as_the_release_has_it() {
        let of_release = r#"{"nodeRegistries":["*.azurecr.io"]}"#;
        for nothing in ["", " ", "{}"] {
            assert_eq!(release().with("default-filter", nothing), of_release);
        }
        assert_eq!(
            release().with("default-filter", r#"{"registries":["a.example"]}"#),
            r#"{"nodeRegistries":["*.azurecr.io"],"registries":["a.example"]}"#
        );
        assert_eq!(release().with("default-filter", r#"{"nodeRegistries":[]}"#), r#"{"nodeRegistries":[]}"#);
    }

    #[test]
    fn what_it_is_not_about_passes_as_it_is() {
        assert_eq!(release().with("default-rewrite", ""), "");
        for refused in ["[]", "null", "{"] {
            assert_eq!(release().with("default-filter", refused), refused);
        }
    }
}
