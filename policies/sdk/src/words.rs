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
