//! The built-in filter, last in the set: what no other policy decided is cached, unless caching it makes no sense.
//!
//! Left alone are images that are never pulled, images that are pulled through the nodes' cache already, and images
//! in the cache's own registries, because it cannot fill itself from itself, and in those that the settings name.
//!
//! # Settings
//!
//! One registry host per line, as it stands in image references; blank lines and the case of letters do not matter:
//!
//! ```text
//! registry.cache-registry.svc:5000
//! cache.example
//! ```
//!
//! [`Rules`] decides, and is plain Rust on every target. Compiled to WebAssembly, `component` puts it behind the
//! contract in `wit/`.

#[cfg(target_family = "wasm")]
mod component;
mod glue;

pub use glue::cache_registry::policy::types::{Container, ContainerKind, Image, PullPolicy, Verdict};

/// What the decision depends on besides the container and its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    node_registry: String,
    own_registries: Vec<String>,
}

impl Rules {
    /// The rules for nodes that pull at `node_registry`, for a cache in `own_registries`, and for settings as the
    /// crate's documentation has them.
    pub fn new(node_registry: String, mut own_registries: Vec<String>, settings: &str) -> Self {
        own_registries.extend(registries(settings).map(|(_, host)| host.to_ascii_lowercase()));
        Self { node_registry, own_registries }
    }

    /// Decides on one container; never passes.
    pub fn verdict(&self, container: &Container, image: &Image) -> Verdict {
        if container.pull_policy == PullPolicy::Never {
            Verdict::Ignore("imagePullPolicy is Never".to_owned())
        } else if image.registry == self.node_registry {
            Verdict::Ignore("it is pulled through the cache already".to_owned())
        } else if self.own_registries.contains(&image.registry) {
            Verdict::Ignore(format!("{} is the cache's own registry", image.registry))
        } else {
            Verdict::Cache
        }
    }
}

/// Says in which line settings name something that cannot be the registry of an image.
pub fn check(settings: &str) -> Result<(), String> {
    let is_of_a_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    match registries(settings).find(|(_, host)| !host.chars().all(is_of_a_host)) {
        None => Ok(()),
        Some((line, host)) => Err(format!(
            "line {line}: \"{host}\" is not a registry host; write it as it stands in image references, such as \
             registry.example:5000"
        )),
    }
}

/// The hosts that settings list, each with the number of its line.
fn registries(settings: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(settings.lines().map(str::trim)).filter(|(_, host)| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn verdict(pull_policy: PullPolicy, registry: &str, settings: &str) -> Verdict {
        let container = Container { name: "web".to_owned(), kind: ContainerKind::Regular, pull_policy };
        let (repository, tag) = ("library/nginx".to_owned(), Some("1.27".to_owned()));
        let image = Image { registry: registry.to_owned(), repository, tag, digest: None };
        Rules::new("localhost:7439".to_owned(), Vec::new(), settings).verdict(&container, &image)
    }

    fn ignored(reason: &str) -> Verdict {
        Verdict::Ignore(reason.to_owned())
    }

    #[rstest]
    #[case(PullPolicy::Always)]
    #[case(PullPolicy::IfNotPresent)]
    fn what_is_pulled_is_cached(#[case] pull_policy: PullPolicy) {
        assert_eq!(verdict(pull_policy, "docker.io", ""), Verdict::Cache);
    }

    #[test]
    fn what_is_never_pulled_is_left_alone() {
        assert_eq!(verdict(PullPolicy::Never, "docker.io", ""), ignored("imagePullPolicy is Never"));
    }

    #[test]
    fn what_is_at_the_node_address_is_left_alone() {
        let already = ignored("it is pulled through the cache already");
        assert_eq!(verdict(PullPolicy::Always, "localhost:7439", ""), already);
        assert_eq!(verdict(PullPolicy::Always, "localhost:5000", ""), Verdict::Cache);
    }

    #[rstest]
    #[case("cache.example", true)]
    #[case("registry.svc:5000", true)]
    #[case("registry.svc", false)]
    #[case("sub.cache.example", false)]
    fn the_registries_in_the_settings_are_left_alone(#[case] registry: &str, #[case] own: bool) {
        let settings = "\n  Cache.Example\r\n\nregistry.svc:5000\n";
        let expected = if own { ignored(&format!("{registry} is the cache's own registry")) } else { Verdict::Cache };
        assert_eq!(verdict(PullPolicy::Always, registry, settings), expected);
    }

    #[rstest]
    #[case("")]
    #[case("cache.example\nregistry.svc:5000\n[fd00::1]:5000")]
    fn hosts_are_good_settings(#[case] settings: &str) {
        assert_eq!(check(settings), Ok(()));
    }

    #[rstest]
    #[case("cache.example\n\nhttp://registry.svc:5000", "line 3: \"http://registry.svc:5000\"")]
    #[case("registries: []", "line 1: \"registries: []\"")]
    fn anything_else_is_refused_with_its_line(#[case] settings: &str, #[case] start: &str) {
        let error = check(settings).unwrap_err();
        assert!(error.starts_with(start), "{error}");
    }
}
