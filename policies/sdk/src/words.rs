use std::fmt;

use crate::host;
use crate::{Image, Rewritten, Verdict};

impl Verdict {
    /// The image is left as it is, for a reason that the pod's author reads.
    pub fn ignore(reason: impl Into<String>) -> Self {
        Self::Ignore(reason.into())
    }
}

impl Rewritten {
    /// The cache fetches the image from `source`, and nodes pull it at their own address. An error where `source` is
    /// no image reference.
    pub fn cached_from(source: impl Into<String>) -> Result<Self, String> {
        let source = source.into();
        Ok(Self { image: host::node_address(&source)?, source })
    }
}

/// The image as a reference: `docker.io/library/nginx:1.27`.
impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registry, repository, tag, digest } = self;
        for part in [registry, "/", repository] {
            f.write_str(part)?;
        }
        for (separator, part) in [(":", tag), ("@", digest)] {
            if let Some(part) = part {
                f.write_str(separator)?;
                f.write_str(part)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use rstest::rstest;

    #[rstest]
    #[case("docker.io/library/nginx:1.27")]
    #[case("reg.example:5000/a/b@sha256:0123")]
    #[case("localhost/app:1@sha256:0123")]
    fn an_image_is_written_as_it_is_read(#[case] reference: &str) {
        assert_eq!(testing::image(reference).to_string(), reference);
    }

    #[rstest]
    #[case("docker.io/library/nginx:1.27", "localhost:7439/docker.io/library/nginx:1.27")]
    #[case("reg.example:5000/a/b@sha256:0123", "localhost:7439/reg.example_5000/a/b@sha256:0123")]
    fn what_is_cached_is_pulled_at_the_node_address(#[case] source: &str, #[case] image: &str) {
        let rewritten = Rewritten { image: image.to_owned(), source: source.to_owned() };
        assert_eq!(Rewritten::cached_from(source), Ok(rewritten));
    }

    #[rstest]
    #[case("nginx")]
    #[case("library/nginx:1.27")]
    #[case("https://reg.example/app:1")]
    fn what_is_no_whole_reference_is_not_cached(#[case] source: &str) {
        assert!(Rewritten::cached_from(source).is_err());
    }
}
