//! The built-in filter, last in the set: what no other policy decided is cached, unless caching it makes no sense.
//!
//! Left alone are images that are never pulled, images that are pulled through the nodes' cache already, and images
//! in the cache's own registries, because it cannot fill itself from itself, and in those that the settings name.
//!
//! # Settings
//!
//! Registry hosts, as they stand in image references; the case of letters does not matter:
//!
//! ```json
//! {"registries": ["registry.internal:5000", "images.example"]}
//! ```
//!
//! [`Rules`] decides, and is plain Rust on every target.

mod registries;

use cache_registry_policy_sdk::{Filter, Pod, Settings, export, host};

pub use cache_registry_policy_sdk::{Container, ContainerKind, Image, PullPolicy, Verdict};

/// What the decision depends on besides the container and its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    node_registry: String,
    own_registries: Vec<String>,
    other_registries: Vec<String>,
}

impl Rules {
    /// The rules for nodes that pull at `node_registry`, and for a cache in `own_registries`.
    pub fn new(node_registry: String, own_registries: Vec<String>) -> Self {
        Self { node_registry, own_registries, other_registries: Vec::new() }
    }

    /// The same, and what settings say, as the crate's documentation has them. What is wrong with them is said in words.
    pub fn with_settings(self, settings: &str) -> Result<Self, String> {
        Ok(Self { other_registries: registries::read(settings)?, ..self })
    }

    /// Decides on one container; never passes.
    pub fn verdict(&self, container: &Container, image: &Image) -> Verdict {
        if container.pull_policy == PullPolicy::Never {
            Verdict::ignore("imagePullPolicy is Never")
        } else if image.registry == self.node_registry {
            Verdict::ignore("it is pulled through the cache already")
        } else if self.own_registries.contains(&image.registry) {
            Verdict::ignore([&image.registry, " is the cache's own registry"].concat())
        } else if self.other_registries.contains(&image.registry) {
            Verdict::ignore(["images in ", &image.registry, " are left alone"].concat())
        } else {
            Verdict::Cache
        }
    }
}

impl Settings for Rules {
    fn read(settings: &str) -> Result<Self, String> {
        Self::new(host::node_registry(), host::own_registries()).with_settings(settings)
    }
}

impl Filter for Rules {
    fn filter(&self, _: &Pod, container: &Container, image: &Image) -> Verdict {
        self.verdict(container, image)
    }
}

export!(filter: Rules);

#[cfg(test)]
mod tests {
    use super::*;
    use cache_registry_policy_sdk::testing;
    use rstest::rstest;

    fn verdict(pull_policy: PullPolicy, registry: &str, settings: &str) -> Verdict {
        testing::set_own_registries(&["cache.example", "registry.svc:5000"]);
        let container = Container { pull_policy, ..testing::container("web") };
        let image = testing::image(&format!("{registry}/library/nginx:1.27"));
        Rules::read(settings).unwrap().filter(&testing::pod("shop"), &container, &image)
    }

    #[rstest]
    #[case(PullPolicy::Always)]
    #[case(PullPolicy::IfNotPresent)]
    fn what_is_pulled_is_cached(#[case] pull_policy: PullPolicy) {
        assert_eq!(verdict(pull_policy, "docker.io", ""), Verdict::Cache);
    }

    #[test]
    fn what_is_never_pulled_is_left_alone() {
        assert_eq!(verdict(PullPolicy::Never, "docker.io", ""), Verdict::ignore("imagePullPolicy is Never"));
    }

    #[test]
    fn what_is_at_the_node_address_is_left_alone() {
        let already = Verdict::ignore("it is pulled through the cache already");
        assert_eq!(verdict(PullPolicy::Always, "localhost:7439", ""), already);
        assert_eq!(verdict(PullPolicy::Always, "localhost:5000", ""), Verdict::Cache);
    }

    #[rstest]
    #[case("cache.example", true)]
    #[case("registry.svc:5000", true)]
    #[case("registry.svc", false)]
    #[case("sub.cache.example", false)]
    fn the_caches_own_registries_are_left_alone(#[case] registry: &str, #[case] own: bool) {
        let ignored = Verdict::ignore(format!("{registry} is the cache's own registry"));
        let expected = if own { ignored } else { Verdict::Cache };
        assert_eq!(verdict(PullPolicy::Always, registry, ""), expected);
    }

    #[rstest]
    #[case("reg.internal:5000", true)]
    #[case("images.example", true)]
    #[case("reg.internal", false)]
    fn the_registries_in_the_settings_are_left_alone(#[case] registry: &str, #[case] named: bool) {
        let settings = r#"{"registries": ["reg.internal:5000", "Images.Example"]}"#;
        let ignored = Verdict::ignore(format!("images in {registry} are left alone"));
        let expected = if named { ignored } else { Verdict::Cache };
        assert_eq!(verdict(PullPolicy::Always, registry, settings), expected);
    }
}
