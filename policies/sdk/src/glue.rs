//! What wit-bindgen makes of the contract, and what stands between it and a policy. The one place with `unsafe`.
#![allow(unsafe_code, missing_docs, unreachable_pub, unused_qualifications, clippy::panic, clippy::pedantic)]
// Natively nobody calls the host.
#![cfg_attr(not(target_family = "wasm"), allow(dead_code, unused_macros, unused_imports))]

use std::sync::OnceLock;

use crate::Settings;

pub mod checking {
    wit_bindgen::generate!({
        path: "wit",
        inline: "package cache-registry:sdk;
                 world checking {
                     import cache-registry:policy/host@0.1.0;
                     import cache-registry:policy/types@0.1.0;
                     export cache-registry:policy/check@0.1.0;
                 }",
        world: "cache-registry:sdk/checking",
        pub_export_macro: true,
        generate_all,
        additional_derives: [PartialEq, Eq],
    });
}

pub mod filtering {
    wit_bindgen::generate!({
        path: "wit",
        inline: "package cache-registry:sdk;
                 world filtering { export cache-registry:policy/filter@0.1.0; }",
        world: "cache-registry:sdk/filtering",
        pub_export_macro: true,
        with: {
            "cache-registry:policy/types@0.1.0": super::checking::cache_registry::policy::types,
            "cache-registry:policy/filter@0.1.0": generate,
        },
    });

    /// What the policy says of its settings, in this part.
    pub fn check(policy: &impl crate::Filter) -> Result<(), String> {
        policy.check()
    }
}

pub mod rewriting {
    wit_bindgen::generate!({
        path: "wit",
        inline: "package cache-registry:sdk;
                 world rewriting { export cache-registry:policy/rewrite@0.1.0; }",
        world: "cache-registry:sdk/rewriting",
        pub_export_macro: true,
        with: {
            "cache-registry:policy/types@0.1.0": super::checking::cache_registry::policy::types,
            "cache-registry:policy/rewrite@0.1.0": generate,
        },
    });

    /// What the policy says of its settings, in this part.
    pub fn check(policy: &impl crate::Rewrite) -> Result<(), String> {
        policy.check()
    }
}

pub use checking::cache_registry::policy::{host, types};

/// A policy in its place: [`export!`](crate::export!) makes it, and the exports are implemented for it.
pub trait Component {
    type Policy: Settings + Send + Sync + 'static;

    /// Where an instance keeps its policy.
    fn slot() -> &'static OnceLock<Self::Policy>;

    /// What is wrong with settings that could be read.
    fn check(policy: &Self::Policy) -> Result<(), String>;
}

#[cfg(target_family = "wasm")]
mod exports {
    use super::checking::exports::cache_registry::policy::check;
    use super::filtering::exports::cache_registry::policy::filter;
    use super::rewriting::exports::cache_registry::policy::rewrite;
    use super::types::{Container, Image, Pod, Rewritten, Verdict};
    use super::{Component, host};
    use crate::{Filter, Rewrite, Settings, panics};

    impl<C: Component> check::Guest for C {
        fn check() -> Result<(), String> {
            panics::are_logged();
            C::check(&C::Policy::read(&host::settings())?)
        }
    }

    impl<C: Component<Policy: Filter>> filter::Guest for C {
        fn filter(pod: &Pod, container: Container, image: Image) -> Verdict {
            policy::<C>().filter(pod, &container, &image)
        }
    }

    impl<C: Component<Policy: Rewrite>> rewrite::Guest for C {
        fn rewrite(pod: &Pod, container: Container, image: Image) -> Result<Option<Rewritten>, String> {
            policy::<C>().rewrite(pod, &container, &image)
        }
    }

    /// The policy, made when an instance is first asked.
    fn policy<C: Component>() -> &'static C::Policy {
        C::slot().get_or_init(|| {
            panics::are_logged();
            // The host asked `check` about the same settings before.
            C::Policy::read(&host::settings()).unwrap_or_else(|error| panic!("the settings are wrong: {error}"))
        })
    }
}
