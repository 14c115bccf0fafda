use std::borrow::Cow;
use std::fmt;

use cache_registry_core::{Digest, Location, NodeAddress, Reference, parse_digest};
use percent_encoding::percent_decode_str;
use url::form_urlencoded;

/// What a request asks for
/// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#endpoints>).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/v2/`: is this a registry?
    Base,
    /// `/v2/<name>/manifests/<reference>`
    Manifest(Name, ManifestReference),
    /// `/v2/<name>/blobs/<digest>`
    Blob(Name, Digest),
}

/// A repository of an upstream registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    /// The registry as it stands in references: `docker.io`, `reg.example:5000`.
    pub(crate) registry: String,
    /// `library/nginx`
    pub(crate) repository: String,
}

/// What stands after `/manifests/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum ManifestReference {
    /// What it names may change.
    Tag(String),
    /// What it names never changes.
    Digest(Digest),
}

/// Why a path is none that the proxy serves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RouteError {
    /// No manifest and no blob: an upload, a list of tags, a catalogue, or no registry path at all.
    #[error("only /v2/<name>/manifests/<reference> and /v2/<name>/blobs/<digest> are served here")]
    NotServed,
    /// The name has no upstream.
    #[error("{0:?} names no upstream registry: expected <registry host>/<repository>, or ?ns=<registry host>")]
    NoRegistry(String),
    /// The name is the proxy's own.
    #[error("{0:?} is this proxy's own address, not an upstream registry")]
    Loop(String),
    /// A name or reference that no registry could have.
    #[error("{0}")]
    Invalid(String),
    /// A digest that cannot be checked.
    #[error("{0}")]
    Digest(String),
}

impl Name {
    /// Where the cache keeps the repository.
    pub(crate) fn in_cache(&self) -> String {
        Location::repository_of(&self.registry, &self.repository)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)
    }
}

impl fmt::Display for ManifestReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// Reads the path and the query of a request, in each of the forms that runtimes use:
///
/// | configured as | request |
/// |---|---|
/// | a rewritten image | `/v2/docker.io/library/x/manifests/1` |
/// | the same, with a `_default` host that is this proxy | `/v2/docker.io/library/x/manifests/1?ns=localhost:7439` |
/// | a mirror | `/v2/library/x/manifests/1?ns=docker.io` |
/// | a mirror with `override_path` | `/v2/docker.io/library/x/manifests/1?ns=docker.io` |
pub(crate) fn route(path: &str, query: Option<&str>, node: &NodeAddress) -> Result<Route, RouteError> {
    // Decoded once and as a whole: what is encoded twice, and every traversal, fails the grammar of names below.
    let path = percent_decode_str(path).decode_utf8().map_err(|_| RouteError::NotServed)?;
    let rest = match path.strip_prefix("/v2") {
        Some("" | "/") => return Ok(Route::Base),
        Some(rest) => rest.strip_prefix('/').ok_or(RouteError::NotServed)?,
        None => return Err(RouteError::NotServed),
    };
    let (head, reference) = rest.rsplit_once('/').ok_or(RouteError::NotServed)?;
    let (name, kind) = head.rsplit_once('/').ok_or(RouteError::NotServed)?;
    let (registry, repository) = registry_and_repository(name, namespace(query), node)?;
    match kind {
        "manifests" => {
            let reference = if reference.contains(':') {
                ManifestReference::Digest(digest(reference)?)
            } else {
                ManifestReference::Tag(reference.to_owned())
            };
            Ok(Route::Manifest(checked_name(&registry, &repository, &reference, node)?, reference))
        }
        "blobs" => {
            let digest = digest(reference)?;
            let reference = ManifestReference::Digest(digest.clone());
            Ok(Route::Blob(checked_name(&registry, &repository, &reference, node)?, digest))
        }
        _ => Err(RouteError::NotServed),
    }
}

/// `ns` of the query: the registry of the image as containerd knows it, when it is not the host that it asks.
fn namespace(query: Option<&str>) -> Option<Cow<'_, str>> {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .find_map(|(key, value)| (key == "ns" && !value.is_empty()).then_some(value))
}

fn registry_and_repository(
    name: &str,
    namespace: Option<Cow<'_, str>>,
    node: &NodeAddress,
) -> Result<(String, String), RouteError> {
    match namespace {
        Some(registry) if !is_own_address(&registry, node) => {
            // With override_path the host stands in the path as well, in our form or with its port as it is.
            let repository = [Location::repository_of(&registry, ""), format!("{registry}/")]
                .iter()
                .find_map(|prefix| name.strip_prefix(prefix.as_str()))
                .unwrap_or(name);
            Ok((registry.into_owned(), repository.to_owned()))
        }
        _ => Location::upstream_of(name).ok_or_else(|| RouteError::NoRegistry(quoted(name))),
    }
}

/// Holds the name against the grammar of references, and normalises its host as references are.
fn checked_name(
    registry: &str,
    repository: &str,
    reference: &ManifestReference,
    node: &NodeAddress,
) -> Result<Name, RouteError> {
    // Without a dot or a port the first word is a path of docker.io to every parser; and a second colon or an at
    // sign would move the border between name and reference.
    if !(registry.contains(['.', ':']) || registry == "localhost") || registry.contains(['/', '@']) {
        return Err(RouteError::NoRegistry(quoted(registry)));
    }
    if repository.contains([':', '@']) {
        return Err(RouteError::Invalid(format!("{:?} is not a repository name", quoted(repository))));
    }
    let text = match reference {
        ManifestReference::Tag(tag) => format!("{registry}/{repository}:{tag}"),
        ManifestReference::Digest(digest) => format!("{registry}/{repository}@{digest}"),
    };
    let parsed: Reference = text.parse().map_err(|error| RouteError::Invalid(format!("{error}")))?;
    if is_own_address(parsed.registry(), node) {
        return Err(RouteError::Loop(parsed.registry().to_owned()));
    }
    Ok(Name { registry: parsed.registry().to_owned(), repository: parsed.repository().to_owned() })
}

fn digest(text: &str) -> Result<Digest, RouteError> {
    parse_digest(text).map_err(|error| RouteError::Digest(error.to_string()))
}

/// True for the node address, under each name that loopback has.
fn is_own_address(registry: &str, node: &NodeAddress) -> bool {
    if registry.eq_ignore_ascii_case(node.authority()) {
        return true;
    }
    let port = |authority: &str| authority.rsplit_once(':').map(|(_, port)| port.to_owned());
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    matches!(host, "localhost" | "127.0.0.1" | "[::1]") && port(registry) == port(node.authority())
}

/// What is repeated to the client of what it sent is bounded.
fn quoted(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn routed(target: &str) -> Result<Route, RouteError> {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        route(path, query, &NodeAddress::default())
    }

    #[rstest]
    #[case::rewritten("/v2/docker.io/library/x/manifests/1", "docker.io", "library/x")]
    #[case::default_host_is_us("/v2/docker.io/library/x/manifests/1?ns=localhost%3A7439", "docker.io", "library/x")]
    #[case::default_host_is_us_by_number("/v2/docker.io/x/y/manifests/1?ns=127.0.0.1%3A7439", "docker.io", "x/y")]
    #[case::mirror("/v2/library/x/manifests/1?ns=docker.io", "docker.io", "library/x")]
    #[case::mirror_of_a_port("/v2/a/b/manifests/1?ns=example.test%3A9000", "example.test:9000", "a/b")]
    #[case::override_path("/v2/docker.io/library/x/manifests/1?ns=docker.io", "docker.io", "library/x")]
    #[case::override_path_port("/v2/example.test_9000/x/manifests/1?ns=example.test%3A9000", "example.test:9000", "x")]
    #[case::override_path_raw("/v2/example.test:9000/x/manifests/1?ns=example.test%3A9000", "example.test:9000", "x")]
    #[case::a_port_in_the_path("/v2/reg.example_5000/app/manifests/1", "reg.example:5000", "app")]
    #[case::one_word_at_docker("/v2/docker.io/nginx/manifests/1", "docker.io", "library/nginx")]
    #[case::one_word_mirrored("/v2/nginx/manifests/1?ns=docker.io", "docker.io", "library/nginx")]
    #[case::old_name_of_docker("/v2/index.docker.io/library/x/manifests/1", "docker.io", "library/x")]
    #[case::old_name_mirrored("/v2/library/x/manifests/1?ns=index.docker.io", "docker.io", "library/x")]
    #[case::other_keys("/v2/library/x/manifests/1?a=b&ns=docker.io", "docker.io", "library/x")]
    #[case::empty_ns("/v2/docker.io/library/x/manifests/1?ns=", "docker.io", "library/x")]
    #[case::deep("/v2/ghcr.io/a/b/c/d/manifests/1", "ghcr.io", "a/b/c/d")]
    #[case::named_like_the_api("/v2/ghcr.io/a/manifests/blobs/manifests/1", "ghcr.io", "a/manifests/blobs")]
    #[case::a_dotted_path_at_another_host("/v2/ghcr.io/x/manifests/1?ns=reg.example", "reg.example", "ghcr.io/x")]
    #[case::case_of_a_host("/v2/GHCR.io/a/b/manifests/1", "ghcr.io", "a/b")]
    #[case::encoded("/v2/docker.io%2Flibrary%2Fx/manifests/1", "docker.io", "library/x")]
    fn every_form_of_a_name_is_understood(#[case] target: &str, #[case] registry: &str, #[case] repository: &str) {
        let name = Name { registry: registry.to_owned(), repository: repository.to_owned() };
        assert_eq!(routed(target), Ok(Route::Manifest(name, ManifestReference::Tag("1".to_owned()))));
    }

    #[test]
    fn digests_are_read_with_or_without_encoding() {
        let name = Name { registry: "ghcr.io".to_owned(), repository: "a".to_owned() };
        let digest = parse_digest(&format!("sha256:{HEX}")).unwrap();
        for colon in [":", "%3A", "%3a"] {
            assert_eq!(
                routed(&format!("/v2/ghcr.io/a/blobs/sha256{colon}{HEX}")),
                Ok(Route::Blob(name.clone(), digest.clone()))
            );
            assert_eq!(
                routed(&format!("/v2/ghcr.io/a/manifests/sha256{colon}{HEX}")),
                Ok(Route::Manifest(name.clone(), ManifestReference::Digest(digest.clone())))
            );
        }
    }

    #[rstest]
    #[case("/v2")]
    #[case("/v2/")]
    #[case("/v2/?ns=docker.io")]
    fn the_base_is_recognised(#[case] target: &str) {
        assert_eq!(routed(target), Ok(Route::Base));
    }

    #[rstest]
    #[case("/")]
    #[case("/v1/x")]
    #[case("/v22/docker.io/x/manifests/1")]
    #[case("/v2/_catalog")]
    #[case("/v2/docker.io/x/tags/list")]
    #[case("/v2/docker.io/x/blobs/uploads/123")]
    #[case("/v2/manifests/1")]
    #[case("/v2/%ff/manifests/1")]
    #[case(&format!("/v2/docker.io/x/referrers/sha256:{HEX}"))]
    fn other_paths_are_not_served(#[case] target: &str) {
        assert!(routed(target).is_err(), "{:?}", routed(target));
    }

    #[rstest]
    #[case::no_host("/v2/library/x/manifests/1")]
    #[case::one_word("/v2/x/manifests/1")]
    #[case::ns_is_no_host("/v2/library/x/manifests/1?ns=docker")]
    #[case::ns_is_a_path("/v2/x/manifests/1?ns=docker.io/library")]
    fn a_name_without_a_registry_is_refused(#[case] target: &str) {
        assert!(matches!(routed(target), Err(RouteError::NoRegistry(_))), "{:?}", routed(target));
    }

    #[rstest]
    #[case::dots("/v2/docker.io/../../etc/passwd/manifests/1")]
    #[case::encoded_dots("/v2/docker.io/%2e%2e/%2e%2e/x/manifests/1")]
    #[case::encoded_twice("/v2/docker.io/%252e%252e/x/manifests/1")]
    #[case::tag_of_dots("/v2/docker.io/library/x/manifests/..")]
    #[case::empty_component("/v2/docker.io//x/manifests/1")]
    #[case::empty_reference("/v2/docker.io/x/manifests/")]
    #[case::upper_case("/v2/docker.io/Library/x/manifests/1")]
    #[case::query_in_a_name("/v2/docker.io/x%3Fy/manifests/1")]
    #[case::a_line_break("/v2/docker.io/x%0d%0ay/manifests/1")]
    #[case::a_tag_in_the_name("/v2/docker.io/x:t/manifests/1")]
    #[case::user_in_the_host("/v2/user@docker.io/x/manifests/1")]
    #[case::space_in_ns("/v2/x/manifests/1?ns=docker.io%20")]
    #[case::user_in_ns("/v2/x/manifests/1?ns=a%40docker.io")]
    #[case::a_tag_in_the_name_of_a_blob(&format!("/v2/docker.io/x:t/blobs/sha256:{HEX}"))]
    #[case::short_digest("/v2/docker.io/x/blobs/sha256:abc")]
    #[case::no_digest("/v2/docker.io/x/blobs/latest")]
    #[case::unknown_algorithm("/v2/docker.io/x/manifests/md5:0123456789abcdef0123456789abcdef")]
    #[case::long(&format!("/v2/docker.io/{}/manifests/1", "a".repeat(2000)))]
    fn what_is_no_name_is_refused(#[case] target: &str) {
        let error = routed(target).unwrap_err();
        assert!(error.to_string().len() < 600, "{error}");
    }

    #[rstest]
    #[case("/v2/localhost_7439/docker.io/x/manifests/1")]
    #[case("/v2/127.0.0.1_7439/x/manifests/1")]
    #[case("/v2/localhost_7439/x/manifests/1?ns=localhost%3A7439")]
    fn the_proxy_is_not_its_own_upstream(#[case] target: &str) {
        assert!(matches!(routed(target), Err(RouteError::Loop(_))), "{:?}", routed(target));
    }

    #[test]
    fn the_name_in_the_cache_is_the_one_that_copies_go_to() {
        let Ok(Route::Manifest(name, _)) = routed("/v2/a/b/manifests/1?ns=reg.example%3A5000") else { panic!() };
        let source: Reference = "reg.example:5000/a/b:1".parse().unwrap();
        assert_eq!(name.in_cache(), Location::of(&source).repository());
    }
}
