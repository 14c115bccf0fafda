use cache_registry_core::{Digest, Platforms};
use http::StatusCode;

use crate::manifest::Contents;
use crate::plan::chosen;
use crate::{Error, Repository};

/// What a registry has of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// No such tag.
    Absent,
    /// All that is wanted of what is under the tag.
    Whole(Digest),
    /// What is under the tag, but not all that is wanted of it.
    Partial(Digest),
}

/// Further down no index is looked into.
const DEEPEST: usize = 4;

impl Repository {
    /// Says whether all is there that is wanted of what a tag names. Of an index, one request for each image that is.
    pub async fn presence(&self, tag: &str, wanted: &Platforms) -> Result<Presence, Error> {
        let root = match self.get_manifest(tag).await {
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => return Ok(Presence::Absent),
            root => root?,
        };
        let digest = root.digest.clone();
        let mut level = vec![root];
        for _ in 0..DEEPEST {
            let mut next = Vec::new();
            for manifest in std::mem::take(&mut level) {
                // What is no image was not copied by us, and nothing is missing of it.
                let Ok(Contents::Index(children)) = manifest.contents() else { continue };
                for child in chosen(&children, wanted) {
                    let reference = child.digest.as_ref();
                    let is_there = if child.is_index {
                        match self.get_manifest(reference).await {
                            Ok(index) => {
                                next.push(index);
                                true
                            }
                            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => false,
                            Err(error) => return Err(error),
                        }
                    } else {
                        self.head_manifest(reference).await?.is_some()
                    };
                    if !is_there {
                        return Ok(Presence::Partial(digest));
                    }
                }
            }
            level = next;
        }
        Ok(Presence::Whole(digest))
    }
}
