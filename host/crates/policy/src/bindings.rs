//! What wasmtime makes of the contract, and how its words map to those of the core.
#![allow(missing_docs, unreachable_pub, clippy::pedantic, reason = "generated")]

use cache_registry_core as core;

wasmtime::component::bindgen!({
    path: "../../../wit",
    world: "deciding",
    exports: { default: async },
    with: { "cache-registry:policy/types.pod": crate::host::Pod },
});

pub(crate) use cache_registry::policy::{host, types};
pub(crate) use exports::cache_registry::policy::{check, filter, rewrite};

impl From<&core::ContainerFacts> for types::Container {
    fn from(container: &core::ContainerFacts) -> Self {
        Self { name: container.name.clone(), kind: container.kind.into(), pull_policy: container.pull_policy.into() }
    }
}

impl From<core::ContainerKind> for types::ContainerKind {
    fn from(kind: core::ContainerKind) -> Self {
        match kind {
            core::ContainerKind::Init => Self::Init,
            core::ContainerKind::Regular => Self::Regular,
            core::ContainerKind::Ephemeral => Self::Ephemeral,
        }
    }
}

impl From<core::PullPolicy> for types::PullPolicy {
    fn from(pull_policy: core::PullPolicy) -> Self {
        match pull_policy {
            core::PullPolicy::Always => Self::Always,
            core::PullPolicy::IfNotPresent => Self::IfNotPresent,
            core::PullPolicy::Never => Self::Never,
        }
    }
}

impl From<&core::Reference> for types::Image {
    fn from(reference: &core::Reference) -> Self {
        Self {
            registry: reference.registry().to_owned(),
            repository: reference.repository().to_owned(),
            tag: reference.tag().map(ToOwned::to_owned),
            digest: reference.digest().map(ToString::to_string),
        }
    }
}
