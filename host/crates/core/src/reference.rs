use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use oci_spec::distribution::{ParseError, Reference as OciReference};

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
        let invalid = |problem: &dyn fmt::Display| InvalidReference::new(text, problem);
        if text.len() > LONGEST {
            return Err(invalid(&format_args!("{} bytes are more than a reference can have", text.len())));
        }
        let parsed = OciReference::try_from(with_host_in_lower_case(text).as_ref()).map_err(|error| match error {
            ParseError::ReferenceInvalidFormat => {
                invalid(&"expected [host[:port]/]path[:tag][@digest], the path in lower case")
            }
            error => invalid(&error),
        })?;
        // `Library/nginx`: the grammar takes the first part for a host, and the split into host and path for a path.
        if parsed.repository().contains(|c: char| c.is_ascii_uppercase()) {
            return Err(invalid(&"a path is in lower case, and a host has a dot or a port"));
        }
        let digest = parsed.digest().map(parse_digest).transpose().map_err(|error| invalid(&error))?;
        Ok(Self {
            registry: parsed.registry().to_owned(),
            repository: parsed.repository().to_owned(),
            tag: parsed.tag().map(ToOwned::to_owned),
            digest,
        })
    }
}

/// Host names are case-insensitive (RFC 4343), and one image must not be cached twice for its spelling. What comes before
/// the first slash is surely a host where it has a dot or a port: `GHCR.io/a`, `Registry:5000/a`.
fn with_host_in_lower_case(text: &str) -> Cow<'_, str> {
    match text.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) && host.contains(|c: char| c.is_ascii_uppercase()) => {
            Cow::Owned(format!("{}/{path}", host.to_ascii_lowercase()))
        }
        _ => Cow::Borrowed(text),
    }
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

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_what_parses_reads_back(text in ".{0,80}") {
            if let Ok(reference) = text.parse::<Reference>() {
                proptest::prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
        }
    }
}
