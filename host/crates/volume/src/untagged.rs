use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cache_registry_core::{Named, parse_digest, reached};

use crate::Error;
use crate::files::{BASE, content, entries, found, make, name, remove};

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Manifests and indexes, each counted once for every repository.
    pub manifests: u64,
    /// Repositories that were left alone, because something in them could not be understood.
    pub left_alone: u64,
}

/// Makes what `garbage-collect` fails without: the folders that distribution makes when it is first written to.
pub fn prepare(root: &Path) -> Result<(), Error> {
    ["repositories", "blobs"].iter().try_for_each(|folder| make(&root.join(BASE).join(folder)))
}

/// Takes the manifests that no tag reaches out of their repositories, so that `garbage-collect` removes them and what they
/// alone need. Those that were pushed after `before` stay: the tag of an image is pushed last, and may be still to come.
pub fn remove_untagged(root: &Path, before: SystemTime) -> Result<Removed, Error> {
    let base = root.join(BASE);
    let mut removed = Removed::default();
    prepare(root)?;
    for repository in repositories(&base.join("repositories"))? {
        let (Some(manifests), Some(tags)) = (manifests(&base, &repository)?, tags(&repository)?) else {
            removed.left_alone += 1;
            continue;
        };
        let tagged = tags.values().flatten().cloned().collect();
        let stays = reached(&tagged, &manifests);
        for digest in manifests.keys().filter(|digest| !stays.contains(*digest)) {
            let revision = below(&repository.join("_manifests/revisions"), digest);
            let link = revision.join("link");
            let pushed = found(&link, fs::metadata(&link).and_then(|metadata| metadata.modified()))?;
            if pushed.is_some_and(|pushed| pushed >= before) {
                continue;
            }
            // The history of the tags goes first: without its end, what is left of it would never be found again.
            for tag in tags.keys() {
                remove(&below(&tag.join("index"), digest))?;
            }
            remove(&revision)?;
            removed.manifests += 1;
            tracing::info!(repository = %repository.display(), digest, "no tag reaches this manifest: removed");
        }
    }
    Ok(removed)
}

/// The folders of all repositories, which may be within each other.
fn repositories(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut repositories = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in entries(&folder)? {
            if name(&path) == "_manifests" {
                repositories.push(folder.clone());
            // What begins so is distribution's, and never part of a name.
            } else if !name(&path).starts_with('_') {
                folders.push(path);
            }
        }
    }
    Ok(repositories)
}

/// The manifests of a repository, and what they name. `None` where one is no JSON, or none by its name: then it is not
/// known what is needed.
fn manifests(base: &Path, repository: &Path) -> Result<Option<BTreeMap<String, Named>>, Error> {
    let mut manifests = BTreeMap::new();
    for algorithm in entries(&repository.join("_manifests/revisions"))? {
        for revision in entries(&algorithm)? {
            let digest = format!("{}:{}", name(&algorithm), name(&revision));
            if parse_digest(&digest).is_err() {
                tracing::warn!(path = %revision.display(), "this is no digest; the repository is left alone");
                return Ok(None);
            }
            // Without its bytes it can't be pulled, and needs nothing.
            let named =
                content(&blob(base, &digest))?.map_or_else(|| Some(Named::default()), |bytes| Named::read(&bytes));
            let Some(named) = named else {
                tracing::warn!(path = %revision.display(), "this manifest is no JSON; the repository is left alone");
                return Ok(None);
            };
            manifests.insert(digest, named);
        }
    }
    Ok(Some(manifests))
}

/// The folders of the tags of a repository, and what each names. `None` where one names no digest, as after a write that
/// was cut.
fn tags(repository: &Path) -> Result<Option<BTreeMap<PathBuf, Option<String>>>, Error> {
    let mut tags = BTreeMap::new();
    for tag in entries(&repository.join("_manifests/tags"))? {
        let link = content(&tag.join("current/link"))?;
        let digest = link.map(|link| parse_digest(String::from_utf8_lossy(&link).trim()));
        let Ok(digest) = digest.transpose() else {
            tracing::warn!(path = %tag.display(), "this tag names no digest; the repository is left alone");
            return Ok(None);
        };
        tags.insert(tag, digest.map(|digest| digest.to_string()));
    }
    Ok(Some(tags))
}

fn blob(base: &Path, digest: &str) -> PathBuf {
    let (algorithm, hex) = digest.split_once(':').unwrap_or_default();
    base.join("blobs").join(algorithm).join(hex.get(..2).unwrap_or_default()).join(hex).join("data")
}

/// `<folder>/sha256/<hex>`
fn below(folder: &Path, digest: &str) -> PathBuf {
    let (algorithm, hex) = digest.split_once(':').unwrap_or_default();
    folder.join(algorithm).join(hex)
}

#[cfg(test)]
mod tests;
