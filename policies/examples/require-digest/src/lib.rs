//! Caches only what has a digest: a tag can be another image tomorrow. See `docs/policies/require-digest.md`.

use cache_registry_policy_sdk::{Container, Filter, Image, Pod, Verdict, export};
use serde::Deserialize;

/// The settings.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RequireDigest {
    /// Registries whose tags are trusted not to move: `reg.example:5000`.
    except: Vec<String>,
}

impl Filter for RequireDigest {
    fn filter(&self, _: &Pod, _: &Container, image: &Image) -> Verdict {
        if image.digest.is_some() || self.except.iter().any(|registry| registry.eq_ignore_ascii_case(&image.registry)) {
            Verdict::Pass
        } else {
            Verdict::ignore("it has no digest, and only images with one are cached: write it like nginx@sha256:…")
        }
    }

    fn check(&self) -> Result<(), String> {
        match self.except.iter().find(|registry| registry.is_empty() || registry.contains('/')) {
            Some(wrong) => Err(format!("\"{wrong}\" is not the host of a registry; write it like docker.io")),
            None => Ok(()),
        }
    }
}

export!(filter: RequireDigest);

#[cfg(test)]
mod tests {
    use super::*;
    use cache_registry_policy_sdk::{Settings, testing};
    use rstest::rstest;

    fn verdict(image: &str) -> Verdict {
        let policy = RequireDigest::read(r#"{"except": ["reg.example:5000"]}"#).unwrap();
        policy.filter(&testing::pod("shop"), &testing::container("web"), &testing::image(image))
    }

    #[rstest]
    #[case("docker.io/library/nginx@sha256:0123")]
    #[case("docker.io/library/nginx:1.27@sha256:0123")]
    #[case("reg.example:5000/app:1")]
    fn a_digest_or_a_trusted_registry_will_do(#[case] image: &str) {
        assert_eq!(verdict(image), Verdict::Pass);
    }

    #[rstest]
    #[case("docker.io/library/nginx:1.27")]
    #[case("reg.example/app:1")]
    fn a_tag_alone_is_ignored_with_the_reason(#[case] image: &str) {
        let Verdict::Ignore(reason) = verdict(image) else { panic!("it is not ignored") };
        assert!(reason.starts_with("it has no digest"), "{reason}");
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let error = RequireDigest::read(r#"{"except": ["reg.example/app"]}"#).unwrap().check().unwrap_err();
        assert!(error.starts_with("\"reg.example/app\" is not the host of a registry"), "{error}");
    }
}
