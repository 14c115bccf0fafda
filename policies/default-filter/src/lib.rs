//! The built-in filter, last in the set: what no other policy decided is cached, unless caching it makes no sense.
//!
//! Left alone are images that are never pulled, images that are pulled through the nodes' cache already, and images
//! in the cache's own registries, because it cannot fill itself from itself, and in those that the settings name.
//!
//! # Settings
//!
//! ```json
//! {"registries": ["registry.internal:5000"], "nodeRegistries": ["*.azurecr.io", "gcr.io/my-project/"]}
//! ```
//!
//! `registries` are hosts, as they stand in image references. `nodeRegistries` are those from which nodes pull with
//! credentials of their own: the kubelet looks for these by the name of an image, and has none for a rewritten one. They
//! have the form of a kubelet's `matchImages`: a host, with `*` for any part of a label, and where it matters a port and
//! the beginning of a path. The case of letters does not matter.
//!
//! [`Rules`] decides, and is plain Rust on every target.

mod pattern;
mod settings;

use cache_registry_policy_sdk::{Filter, Pod, Settings, export, host};

pub use cache_registry_policy_sdk::{Container, ContainerKind, Image, PullPolicy, Verdict};

use settings::Registries;

/// What the decision depends on besides the container and its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    node_registry: String,
    own_registries: Vec<String>,
    others: Registries,
}

impl Rules {
    /// The rules for nodes that pull at `node_registry`, and for a cache in `own_registries`.
    pub fn new(node_registry: String, own_registries: Vec<String>) -> Self {
        Self { node_registry, own_registries, others: Registries::default() }
    }

    /// The same, and what settings say, as the crate's documentation has them. What cannot be read is told in words.
    pub fn with_settings(self, settings: &str) -> Result<Self, String> {
        Ok(Self { others: Registries::read(settings)?, ..self })
    }

    /// Decides on one container; never passes.
    pub fn verdict(&self, container: &Container, image: &Image) -> Verdict {
        if container.pull_policy == PullPolicy::Never {
            Verdict::ignore("imagePullPolicy is Never")
        } else if image.registry == self.node_registry {
            Verdict::ignore("it is pulled through the cache already")
        } else if self.own_registries.contains(&image.registry) {
            Verdict::ignore([&image.registry, " is the cache's own registry"].concat())
        } else if self.others.leave_alone(&image.registry) {
            Verdict::ignore(["images in ", &image.registry, " are left alone"].concat())
        } else if let Some(pattern) = self.others.pulled_by_nodes(image) {
            Verdict::ignore(pulled_by_nodes_alone(pattern))
        } else {
            Verdict::Cache
        }
    }
}

/// What there is to know and to do, within the 200 characters that a pod's author gets to read.
fn pulled_by_nodes_alone(pattern: &str) -> String {
    [
        "nodes pull it with credentials of their own; to have it cached, give its pods a pull secret and take ",
        pattern,
        " out of controllers.webhook.nodeRegistries",
    ]
    .concat()
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

    fn check(&self) -> Result<(), String> {
        self.others.check()
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

    #[rstest]
    #[case("123456789012.dkr.ecr.eu-west-1.amazonaws.com", Some("*.dkr.ecr.*.amazonaws.com"))]
    #[case("mine.azurecr.io", Some("*.azurecr.io"))]
    #[case("azurecr.io", None)]
    #[case("docker.io", None)]
    fn what_nodes_pull_with_their_own_credentials_is_left_alone(#[case] registry: &str, #[case] by: Option<&str>) {
        let settings = r#"{"nodeRegistries": ["*.dkr.ecr.*.amazonaws.com", "*.azurecr.io"]}"#;
        let expected = by.map_or(Verdict::Cache, |pattern| Verdict::ignore(pulled_by_nodes_alone(pattern)));
        assert_eq!(verdict(PullPolicy::Always, registry, settings), expected);
        assert_eq!(verdict(PullPolicy::Always, registry, r#"{"nodeRegistries": []}"#), Verdict::Cache);
    }

    /// A host cuts what is longer, and the end is what to do.
    #[test]
    fn the_reason_is_short_enough_to_be_read_whole() {
        assert!(pulled_by_nodes_alone("*.dkr-ecr.*.on.amazonwebservices.com.cn").len() <= 200);
    }
}
