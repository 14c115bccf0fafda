use std::collections::{HashMap, HashSet};

use cache_registry_core::Digest;
use futures::stream::{StreamExt as _, TryStreamExt as _, iter};

use crate::manifest::{Blob, Contents};
use crate::retry::retried;
use crate::{Error, Manifest, Repository};

/// All that an image consists of.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Every manifest once, each after all that it refers to: the order of pushing. The last one is the root.
    pub(crate) manifests: Vec<Part>,
    /// Every configuration and layer once.
    pub(crate) blobs: Vec<Blob>,
    /// Of the index's entries.
    pub(crate) platforms: Vec<String>,
    /// The configuration of an image that is no index's child, for its platform.
    pub(crate) only_config: Option<Blob>,
}

/// A manifest, and where it was found.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) manifest: Manifest,
    /// True where the target has it already.
    pub(crate) is_there: bool,
}

/// An index of indexes is allowed, and nobody nests them further.
const DEEPEST: usize = 4;
/// Far above what any image has: a hostile index must not hold us for days.
const MOST_MANIFESTS: usize = 1_000;
/// All manifests together are kept in memory.
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// How many manifests are fetched at once.
const AT_ONCE: usize = 4;
const TRIES: usize = 4;

/// Fetches every manifest that `root` reaches: from the target where it has them, because that costs upstream nothing.
pub(crate) async fn plan(root: &Digest, upstream: &Repository, target: &Repository) -> Result<Plan, Error> {
    let mut parts: HashMap<Digest, (Part, Contents)> = HashMap::new();
    let mut platforms = Vec::new();
    let mut level = vec![root.clone()];
    let mut seen: HashSet<Digest> = level.iter().cloned().collect();
    let mut bytes = 0;
    for depth in 0.. {
        let fetching = iter(std::mem::take(&mut level)).map(|digest| fetch(digest, upstream, target));
        let mut fetched = std::pin::pin!(fetching.buffered(AT_ONCE));
        while let Some(part) = fetched.try_next().await? {
            let contents = part.manifest.contents().map_err(|problem| upstream.unusable(problem))?;
            bytes += part.manifest.bytes.len();
            // Asked of every one: a level may be of a thousand large ones.
            if bytes > MOST_BYTES {
                return Err(out_of_bounds(root, upstream));
            }
            if let Contents::Index(children) = &contents {
                platforms.extend(children.iter().filter_map(|child| child.platform.clone()));
                level.extend(
                    children.iter().map(|child| &child.digest).filter(|new| seen.insert((*new).clone())).cloned(),
                );
            }
            parts.insert(part.manifest.digest.clone(), (part, contents));
        }
        if level.is_empty() {
            break;
        }
        if depth >= DEEPEST || seen.len() > MOST_MANIFESTS {
            return Err(out_of_bounds(root, upstream));
        }
    }
    Ok(ordered(root, parts, platforms))
}

fn out_of_bounds(root: &Digest, upstream: &Repository) -> Error {
    upstream.unusable(format_args!(
        "the index {root} is out of bounds: nested more than {DEEPEST} times, or of more than {MOST_MANIFESTS} \
         manifests or {MOST_BYTES} bytes"
    ))
}

async fn fetch(digest: Digest, upstream: &Repository, target: &Repository) -> Result<Part, Error> {
    let reference = digest.as_ref();
    let there = retried(TRIES, || target.get_manifest(reference)).await;
    match there {
        Ok(manifest) => return Ok(Part { manifest, is_there: true }),
        Err(error) if error.status() == Some(http::StatusCode::NOT_FOUND) => {}
        Err(error) => return Err(error),
    }
    let manifest = retried(TRIES, || upstream.get_manifest(reference)).await?;
    Ok(Part { manifest, is_there: false })
}

/// Brings what was fetched into the order of pushing.
fn ordered(root: &Digest, mut parts: HashMap<Digest, (Part, Contents)>, mut platforms: Vec<String>) -> Plan {
    let mut plan = Plan { manifests: Vec::new(), blobs: Vec::new(), platforms: Vec::new(), only_config: None };
    let mut blobs: HashMap<Digest, usize> = HashMap::new();
    // Depth first: a manifest is opened when it is met and pushed when it is met again, after its children.
    let mut path = vec![root.clone()];
    let mut opened = HashSet::new();
    while let Some(digest) = path.last().cloned() {
        if opened.insert(digest.clone())
            && let Some((_, Contents::Index(children))) = parts.get(&digest)
        {
            path.extend(children.iter().map(|child| &child.digest).filter(|child| parts.contains_key(child)).cloned());
            continue;
        }
        path.pop();
        let Some((part, contents)) = parts.remove(&digest) else { continue };
        if let Contents::Image { config, layers } = contents {
            if digest == *root {
                plan.only_config = Some(config.clone());
            }
            for blob in std::iter::once(config).chain(layers) {
                if let Some(known) = blobs.get(&blob.digest).and_then(|at| plan.blobs.get_mut(*at)) {
                    // What one manifest calls foreign and another does not, is to be had.
                    known.is_foreign &= blob.is_foreign;
                    continue;
                }
                blobs.insert(blob.digest.clone(), plan.blobs.len());
                plan.blobs.push(blob);
            }
        }
        plan.manifests.push(part);
    }
    let mut known = HashSet::new();
    platforms.retain(|platform| known.insert(platform.clone()));
    plan.platforms = platforms;
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Child;
    use cache_registry_core::Hasher;

    fn digest(name: &str) -> Digest {
        Hasher::sha256(name.as_bytes())
    }

    fn part(name: &str) -> Part {
        let manifest = Manifest { media_type: String::new(), digest: digest(name), bytes: bytes::Bytes::new() };
        Part { manifest, is_there: false }
    }

    fn index(name: &str, children: &[&str]) -> (Digest, (Part, Contents)) {
        let child = |name: &&str| Child { digest: digest(name), platform: None };
        (digest(name), (part(name), Contents::Index(children.iter().map(child).collect())))
    }

    fn image(name: &str, config: &str, layers: &[(&str, bool)]) -> (Digest, (Part, Contents)) {
        let blob = |name: &str, is_foreign| Blob { digest: digest(name), size: 1, is_foreign };
        let layers = layers.iter().map(|(name, is_foreign)| blob(name, *is_foreign)).collect();
        (digest(name), (part(name), Contents::Image { config: blob(config, false), layers }))
    }

    #[test]
    fn children_come_before_every_index_that_names_them() {
        let parts = [
            index("root", &["a", "inner", "b"]),
            index("inner", &["a", "c"]),
            image("a", "ca", &[]),
            image("b", "cb", &[]),
            image("c", "cc", &[]),
        ];
        let plan = ordered(&digest("root"), parts.into(), Vec::new());
        let order: Vec<_> = plan.manifests.iter().map(|part| part.manifest.digest.clone()).collect();
        let place = |name: &str| order.iter().position(|one| *one == digest(name)).unwrap();
        assert_eq!(order.len(), 5);
        assert!(place("a") < place("inner") && place("c") < place("inner") && place("inner") < place("root"));
        assert_eq!(place("root"), 4);
    }

    #[test]
    fn a_blob_of_many_manifests_is_one() {
        let parts = [
            index("root", &["a", "b"]),
            image("a", "config", &[("layer", true), ("layer", true)]),
            image("b", "config", &[("layer", false), ("other", true)]),
        ];
        let plan = ordered(&digest("root"), parts.into(), vec!["linux/amd64".to_owned(), "linux/amd64".to_owned()]);
        let blobs: HashSet<_> = plan.blobs.iter().map(|blob| (blob.digest.clone(), blob.is_foreign)).collect();
        let expected = [(digest("config"), false), (digest("layer"), false), (digest("other"), true)];
        assert_eq!(blobs, HashSet::from(expected));
        assert_eq!(plan.blobs.len(), 3);
        assert_eq!(plan.platforms, ["linux/amd64"]);
        assert_eq!(plan.only_config, None);
    }
}
