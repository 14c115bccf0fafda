//! What wasmtime makes of the contract, and how its words map to those of the core.
#![allow(missing_docs, unreachable_pub, clippy::pedantic, reason = "generated")]

use cache_registry_core as core;

wasmtime::component::bindgen!({
    path: "../../../wit",
    world: "deciding",
    exports: { default: async },
    // What guests are asked about is lent, and not copied first.
    ownership: Borrowing { duplicate_if_necessary: false },
    with: { "cache-registry:policy/types.pod": crate::host::Pod },
});

pub(crate) use cache_registry::policy::{host, types};
pub(crate) use exports::cache_registry::policy::{check, filter, rewrite};

impl<'a> From<&'a core::ContainerFacts> for types::Container<'a> {
    fn from(container: &'a core::ContainerFacts) -> Self {
        Self { name: &container.name, kind: container.kind.into(), pull_policy: container.pull_policy.into() }
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

impl<'a> types::Image<'a> {
    /// An image whose digest is this text.
    pub(crate) fn of(reference: &'a core::Reference, digest: Option<&'a str>) -> Self {
        Self { registry: reference.registry(), repository: reference.repository(), tag: reference.tag(), digest }
    }
}
