use http::Method;
use serde::{Deserialize, Serialize};

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Which of the endpoints.
    pub kind: Kind,
    /// `library/hello`; empty where the endpoint has none.
    pub repository: String,
    /// A tag or a digest; empty where the endpoint has none.
    pub reference: String,
}

/// The endpoints (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#endpoints>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// `/v2/`
    Ping,
    /// `/v2/<name>/manifests/<reference>`
    Manifest,
    /// `/v2/<name>/blobs/<digest>`
    Blob,
    /// `/v2/<name>/tags/list`
    Tags,
    /// `/v2/<name>/referrers/<digest>`
    Referrers,
    /// `/token`, where bearer tokens are fetched.
    Token,
    /// Anything else.
    Other,
}

impl Target {
    /// Reads a request's path. A repository's name may itself hold `/manifests/`: the last one counts.
    pub fn of(path: &str) -> Self {
        let target = |kind, repository: &str, reference: &str| Self {
            kind,
            repository: repository.to_owned(),
            reference: reference.to_owned(),
        };
        match path.strip_prefix("/v2/") {
            Some("") => return target(Kind::Ping, "", ""),
            None if path == "/v2" => return target(Kind::Ping, "", ""),
            None if path == "/token" => return target(Kind::Token, "", ""),
            _ => {}
        }
        let Some(rest) = path.strip_prefix("/v2/") else { return target(Kind::Other, "", "") };
        if let Some(repository) = rest.strip_suffix("/tags/list") {
            return target(Kind::Tags, repository, "");
        }
        for (kind, separator) in
            [(Kind::Manifest, "/manifests/"), (Kind::Blob, "/blobs/"), (Kind::Referrers, "/referrers/")]
        {
            if let Some((repository, reference)) = rest.rsplit_once(separator)
                && !repository.is_empty()
                && !reference.is_empty()
                && !reference.contains('/')
            {
                return target(kind, repository, reference);
            }
        }
        target(Kind::Other, "", "")
    }
}

/// Which requests are meant: those that agree with everything that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Matching {
    /// `GET` or `HEAD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// The repository's whole name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The tag or the digest, whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

impl Matching {
    /// Every request.
    pub fn any() -> Self {
        Self::default()
    }

    /// Requests for manifests.
    pub fn manifests() -> Self {
        Self { kind: Some(Kind::Manifest), ..Self::default() }
    }

    /// Requests for blobs.
    pub fn blobs() -> Self {
        Self { kind: Some(Kind::Blob), ..Self::default() }
    }

    /// Requests for what is about a manifest.
    pub fn referrers() -> Self {
        Self { kind: Some(Kind::Referrers), ..Self::default() }
    }

    /// Requests for bearer tokens.
    pub fn tokens() -> Self {
        Self { kind: Some(Kind::Token), ..Self::default() }
    }

    /// Only those with this method.
    #[must_use]
    pub fn method(self, method: &Method) -> Self {
        Self { method: Some(method.to_string()), ..self }
    }

    /// Only those to this repository.
    #[must_use]
    pub fn repository(self, repository: impl Into<String>) -> Self {
        Self { repository: Some(repository.into()), ..self }
    }

    /// Only those for this tag or digest.
    #[must_use]
    pub fn reference(self, reference: &(impl AsRef<str> + ?Sized)) -> Self {
        Self { reference: Some(reference.as_ref().to_owned()), ..self }
    }

    /// Says whether a request is one of them.
    pub fn matches(&self, method: &str, target: &Target) -> bool {
        self.method.as_deref().is_none_or(|wanted| wanted == method)
            && self.kind.is_none_or(|wanted| wanted == target.kind)
            && self.repository.as_deref().is_none_or(|wanted| wanted == target.repository)
            && self.reference.as_deref().is_none_or(|wanted| wanted == target.reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("/v2/", Kind::Ping, "", "")]
    #[case("/v2", Kind::Ping, "", "")]
    #[case("/token", Kind::Token, "", "")]
    #[case("/v2/library/hello/manifests/1.0", Kind::Manifest, "library/hello", "1.0")]
    #[case("/v2/a/blobs/sha256:00", Kind::Blob, "a", "sha256:00")]
    #[case("/v2/a/manifests/b/blobs/sha256:00", Kind::Blob, "a/manifests/b", "sha256:00")]
    #[case("/v2/a/b/tags/list", Kind::Tags, "a/b", "")]
    #[case("/v2/a/b/referrers/sha256:00", Kind::Referrers, "a/b", "sha256:00")]
    #[case("/v2/a/blobs/uploads/", Kind::Other, "", "")]
    #[case("/v2/manifests/1", Kind::Other, "", "")]
    #[case("/", Kind::Other, "", "")]
    fn a_path_names_its_endpoint(
        #[case] path: &str,
        #[case] kind: Kind,
        #[case] repository: &str,
        #[case] reference: &str,
    ) {
        let target = Target::of(path);
        assert_eq!((target.kind, &*target.repository, &*target.reference), (kind, repository, reference));
    }

    #[test]
    fn all_that_is_set_must_agree() {
        let request = Target::of("/v2/a/manifests/1");
        assert!(Matching::any().matches("GET", &request));
        assert!(Matching::manifests().repository("a").reference("1").method(&Method::GET).matches("GET", &request));
        assert!(!Matching::blobs().matches("GET", &request));
        assert!(!Matching::manifests().repository("b").matches("GET", &request));
        assert!(!Matching::manifests().reference("2").matches("GET", &request));
        assert!(!Matching::manifests().method(&Method::HEAD).matches("GET", &request));
    }
}
