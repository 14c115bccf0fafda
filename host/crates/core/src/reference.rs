use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, parse_digest};

/// An image reference, fully qualified: `docker.io/library/nginx:1.27`, `reg.example:5000/app@sha256:…`.
///
/// Parsing normalises as every container runtime does: no host means `docker.io`, one path component there means
/// `library/`, neither tag nor digest means `latest`
/// (<https://github.com/distribution/reference>). A reference has a tag, a digest or both; with both, the digest
/// says what is pulled and the tag is a comment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an image reference: {problem}")]
pub struct InvalidReference {
    text: String,
    problem: String,
}

impl InvalidReference {
    pub(crate) fn new(text: &str, problem: impl fmt::Display) -> Self {
        // The text may be anything that a pod brought: what is quoted of it is bounded.
        Self { text: text.chars().take(200).collect(), problem: problem.to_string() }
    }
}

/// Longer texts are refused before they are looked at: 255 for a name, 128 for a tag, 135 for a sha512 digest.
const LONGEST: usize = 1024;

impl Reference {
    /// The host, with its port where it has one: `docker.io`, `reg.example:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path within the registry: `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, where one was written, or `latest` where neither tag nor digest was.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where one was written.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// True when what this names may change: it has no digest.
    pub fn can_move(&self) -> bool {
        self.digest.is_none()
    }

    /// What stands for the manifest in a registry's API, `/v2/<name>/manifests/<this>`: the digest, else the tag.
    pub fn manifest_reference(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_else(|| "latest".to_owned()),
        }
    }

    /// The same image in another registry and repository.
    pub(crate) fn name_replaced(&self, registry: String, repository: String) -> Self {
        Self { registry, repository, tag: self.tag.clone(), digest: self.digest.clone() }
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > LONGEST {
            let problem = format_args!("{} bytes are more than a reference can have", text.len());
            return Err(InvalidReference::new(text, problem));
        }
        let (tagged, digest) = match text.split_once('@') {
            Some((tagged, digest)) => {
                let digest = parse_digest(digest).map_err(|error| InvalidReference::new(text, error))?;
                (tagged, Some(digest))
            }
            None => (text, None),
        };
        let (name, tag) = split_tag(tagged);
        let (registry, path) = split_host(name);
        let is_official = registry == DOCKER_HUB && !path.contains('/');
        let repository = if is_official { format!("{OFFICIAL}{path}") } else { path.to_owned() };
        let is_well_formed = is_host(&registry)
            && repository.len() <= LONGEST_PATH
            && path.split('/').all(is_path_component)
            && tag.is_none_or(is_tag);
        if !is_well_formed {
            return Err(InvalidReference::new(
                text,
                "expected [host[:port]/]path[:tag][@digest], the path in lower case",
            ));
        }
        let tag = tag.or(if digest.is_none() { Some("latest") } else { None });
        Ok(Self { registry, repository, tag: tag.map(ToOwned::to_owned), digest })
    }
}

const DOCKER_HUB: &str = "docker.io";

/// Where Docker Hub has the repositories whose path is one word.
const OFFICIAL: &str = "library/";

/// The longest repository (<https://github.com/distribution/reference>).
const LONGEST_PATH: usize = 255;

/// Splits off the tag: what follows a colon that no slash follows. The colon of a port is followed by one.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

/// Splits a name into its host, in lower case, and its path. What precedes the first slash is a host where it has a dot
/// or a port or is `localhost`; else it is part of a path at Docker Hub. Host names are case-insensitive (RFC 4343), and
/// one image must not be cached twice for its spelling.
fn split_host(name: &str) -> (String, &str) {
    match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host.eq_ignore_ascii_case("localhost") => {
            let host = host.to_ascii_lowercase();
            (if host == "index.docker.io" { DOCKER_HUB.to_owned() } else { host }, path)
        }
        _ => (DOCKER_HUB.to_owned(), name),
    }
}

/// Labels of letters, digits and inner dashes, separated by dots, and a port or none.
fn is_host(host: &str) -> bool {
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| is_lower_alphanumeric(c) || c == '-')
    };
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    name.split('.').all(is_label) && port.is_none_or(is_port)
}

/// Runs of lower-case letters and digits, separated by `.`, `_`, `__` or dashes
/// ([OCI distribution specification](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests)).
fn is_path_component(component: &str) -> bool {
    component.starts_with(is_lower_alphanumeric)
        && component.ends_with(is_lower_alphanumeric)
        && component
            .split(is_lower_alphanumeric)
            .all(|separator| matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
}

/// A letter, a digit or `_`, and up to 127 of these, `.` and `-` (the same section).
fn is_tag(tag: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.starts_with(is_word) && tag.len() <= 128 && tag.chars().all(|c| is_word(c) || c == '.' || c == '-')
}

fn is_lower_alphanumeric(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[rstest]
    #[case("nginx", "docker.io/library/nginx:latest")]
    #[case("nginx:1.27", "docker.io/library/nginx:1.27")]
    #[case("index.docker.io/bitnami/redis:7", "docker.io/bitnami/redis:7")]
    #[case("GHCR.io/a/b:1", "ghcr.io/a/b:1")]
    #[case("Docker.io/nginx", "docker.io/library/nginx:latest")]
    #[case("reg.example:5000/app", "reg.example:5000/app:latest")]
    #[case("localhost/app:1", "localhost/app:1")]
    #[case("127.0.0.1:5000/a/b/c:x", "127.0.0.1:5000/a/b/c:x")]
    fn is_normalised_as_a_runtime_does(#[case] text: &str, #[case] normal: &str) {
        let reference: Reference = text.parse().unwrap();
        assert_eq!(reference.to_string(), normal);
        assert_eq!(normal.parse::<Reference>().unwrap(), reference);
    }

    #[test]
    fn a_digest_is_what_is_pulled_with_or_without_a_tag() {
        let pinned: Reference = format!("nginx@sha256:{HEX}").parse().unwrap();
        assert_eq!((pinned.tag(), pinned.can_move()), (None, false));
        let both: Reference = format!("nginx:1.27@sha256:{HEX}").parse().unwrap();
        assert_eq!(both.manifest_reference(), format!("sha256:{HEX}"));
        assert_eq!(both.to_string(), format!("docker.io/library/nginx:1.27@sha256:{HEX}"));
    }

    #[rstest]
    #[case("")]
    #[case("nginx:")]
    #[case("docker.io/Nginx")]
    #[case("Library/nginx")]
    #[case("a b")]
    #[case("nginx@sha256:abc")]
    #[case("nginx@md5:0123456789abcdef0123456789abcdef")]
    #[case(&format!("nginx@sha256:{}", HEX.to_uppercase()))]
    #[case("../etc/passwd")]
    #[case(&"a".repeat(2000))]
    fn what_no_runtime_would_pull_is_refused(#[case] text: &str) {
        let error = text.parse::<Reference>().unwrap_err().to_string();
        assert!(error.contains("is not an image reference"), "{error}");
    }

    #[rstest]
    #[case("a..b/c")]
    #[case("-a.b/c")]
    #[case("a_b.example/c")]
    #[case("a.example:port/c")]
    #[case("a.example:65536/c")]
    #[case("a.example:/c")]
    #[case("a.example/")]
    #[case("a//b")]
    #[case("a___b")]
    #[case("a._b")]
    #[case("a-")]
    #[case("nginx:-1")]
    #[case("nginx:é")]
    #[case(&format!("nginx:{}", "1".repeat(129)))]
    #[case(&format!("a.example/{}", "b".repeat(256)))]
    #[case::too_long_with_library(&"b".repeat(248))]
    #[case("nginx@")]
    fn a_part_that_is_malformed_makes_it_none(#[case] text: &str) {
        assert!(text.parse::<Reference>().is_err());
    }

    proptest::proptest! {
        /// oci-spec's parser, whose regular expression costs a process 12 MiB and a reference 5 us, is the judge.
        #[test]
        fn is_read_as_oci_spec_reads_it(
            text in "([a-z0-9-]{1,4}(\\.[a-z0-9]{1,3})?(:[0-9]{1,4})?/)?[a-z0-9._/-]{1,12}(:[A-Za-z0-9._-]{1,5})?(@sha256:[0-9a-f]{64})?"
        ) {
            // It lets a host have a `_`, which no host has; the node address depends on that.
            proptest::prop_assume!(!text.split_once('/').is_some_and(|(first, _)| first.contains('_') && first.contains('.')));
            let theirs = oci_spec::distribution::Reference::try_from(text.as_str()).ok();
            let ours = text.parse::<Reference>().ok();
            proptest::prop_assert_eq!(ours.map(|ours| ours.to_string()), theirs.map(|theirs| theirs.whole()));
        }

        #[test]
        fn no_text_panics_and_what_parses_reads_back(text in ".{0,80}") {
            if let Ok(reference) = text.parse::<Reference>() {
                proptest::prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
        }
    }
}
