use std::fmt;

use crate::let_go::LetGo;
use crate::node_address::{host_component, split_host_component};
use crate::reference::Reference;
use crate::referrers_tag::is_referrers_tag;

/// Where the cache keeps an image: a repository and a tag in the registry inside the cluster.
///
/// The repository is `<host>[_<port>]/<path>`, the path of the node address. A reference with a digest is kept under
/// a tag of ours, `digest.<algorithm>-<hex>`, because garbage collection keeps what a tag reaches; the prefix keeps it
/// apart from the referrers tag schema of the OCI distribution specification, `<algorithm>-<hex>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Location {
    repository: String,
    tag: String,
}

/// What the tags of references with a digest begin with.
const DIGEST_TAG: &str = "digest.";

impl Location {
    /// The location of what is fetched from `source`.
    pub fn of(source: &Reference) -> Self {
        let tag = match source.digest() {
            Some(digest) => format!("{DIGEST_TAG}{}", digest.to_string().replacen(':', "-", 1)),
            None => source.manifest_reference(),
        };
        Self { repository: Self::repository_of(source.registry(), source.repository()), tag }
    }

    /// The cache's repository for one upstream repository.
    pub fn repository_of(registry: &str, repository: &str) -> String {
        format!("{}/{repository}", host_component(registry))
    }

    /// The upstream registry and repository of a repository of the cache, the inverse of [`Self::repository_of`]:
    /// what the proxy reads from the path of a pull. `None` for what is not of that form.
    pub fn upstream_of(repository: &str) -> Option<(String, String)> {
        split_host_component(repository)
    }

    /// The source that has this location, the inverse of [`Self::of`]; where two have it, the one without a tag. `None`
    /// for what the cache does not keep there, or keeps with an image, its signatures, or was told to [let go](LetGo).
    pub fn source(repository: &str, tag: &str) -> Option<Reference> {
        if is_referrers_tag(tag) || tag.parse::<LetGo>().is_ok() {
            return None;
        }
        let (registry, path) = Self::upstream_of(repository)?;
        let name = match tag.strip_prefix(DIGEST_TAG).and_then(|digest| digest.split_once('-')) {
            Some((algorithm, hex)) => format!("{registry}/{path}@{algorithm}:{hex}"),
            None => format!("{registry}/{path}:{tag}"),
        };
        let source: Reference = name.parse().ok()?;
        let location = Self::of(&source);
        (location.repository == repository && location.tag == tag).then_some(source)
    }

    /// The repository in the cache.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag in the cache.
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[rstest]
    #[case("nginx:1.27", "docker.io/library/nginx:1.27")]
    #[case("reg.example:5000/app:1", "reg.example_5000/app:1")]
    #[case(&format!("nginx@sha256:{HEX}"), &format!("docker.io/library/nginx:digest.sha256-{HEX}"))]
    #[case(&format!("nginx:1.27@sha256:{HEX}"), &format!("docker.io/library/nginx:digest.sha256-{HEX}"))]
    fn is_computed_from_the_source(#[case] source: &str, #[case] location: &str) {
        assert_eq!(Location::of(&source.parse().unwrap()).to_string(), location);
    }

    #[rstest]
    #[case("docker.io/library/nginx:1.27")]
    #[case("reg.example:5000/app:1")]
    #[case(&format!("docker.io/library/nginx@sha256:{HEX}"))]
    fn leads_back_to_its_source(#[case] source: &str) {
        let source: Reference = source.parse().unwrap();
        let location = Location::of(&source);
        assert_eq!(Location::source(location.repository(), location.tag()), Some(source));
    }

    #[rstest]
    #[case("nginx", "1.27")]
    #[case("docker.io/nginx", "1.27")]
    #[case("docker.io/library/nginx", "digest.sha256-short")]
    #[case("docker.io/library/nginx", "not a tag")]
    #[case("docker.io/library/nginx", &format!("sha256-{HEX}"))]
    #[case("docker.io/library/nginx", &format!("sha256-{HEX}.sig"))]
    #[case("docker.io/library/nginx", "untagged.1795830000.e3b0c44298fc1c14")]
    fn what_is_kept_nowhere_has_no_source(#[case] repository: &str, #[case] tag: &str) {
        assert_eq!(Location::source(repository, tag), None);
    }

    #[test]
    fn is_itself_a_valid_reference_path() {
        let location = Location::of(&"reg.example:5000/a/b:1".parse().unwrap());
        let inside = format!("cache:5000/{location}");
        assert_eq!(inside.parse::<Reference>().unwrap().to_string(), inside);
    }
}
