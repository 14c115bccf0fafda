use std::collections::{HashMap, HashSet};

use cache_registry_core::{Digest, Platform, Platforms};
use futures::stream::{StreamExt as _, TryStreamExt as _, iter};

use crate::manifest::{Blob, Child, Contents};
use crate::retry::retried;
use crate::{Error, Manifest, Repository};

/// What of an image is to be in the target.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Every manifest once, each after all that it refers to: the order of pushing. The last one is the root.
    pub(crate) manifests: Vec<Part>,
    /// Every configuration and layer once.
    pub(crate) blobs: Vec<Blob>,
    /// What its indexes have for a platform, in their order, each once, be it copied or not.
    pub(crate) offered: Vec<(Digest, Platform)>,
    /// What its indexes name and is not copied.
    pub(crate) left_out: HashSet<Digest>,
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

/// Fetches every manifest that `root` reaches by what is wanted of its indexes: from the target where it has them,
/// because that costs upstream nothing.
pub(crate) async fn plan(
    root: &Digest,
    upstream: &Repository,
    target: &Repository,
    wanted: &Platforms,
) -> Result<Plan, Error> {
    let mut parts: HashMap<Digest, (Part, Contents)> = HashMap::new();
    let mut level = vec![root.clone()];
    let mut seen: HashSet<Digest> = level.iter().cloned().collect();
    let mut bytes = 0;
    for depth in 0.. {
        let fetching = iter(std::mem::take(&mut level)).map(|digest| fetch(digest, upstream, target));
        let mut fetched = std::pin::pin!(fetching.buffered(AT_ONCE));
        while let Some(part) = fetched.try_next().await? {
            let contents = part.manifest.contents().map_err(|problem| upstream.unsupported(problem))?;
            bytes += part.manifest.bytes.len();
            // Asked of every one: a level may be of a thousand large ones.
            if bytes > MOST_BYTES {
                return Err(out_of_bounds(root, upstream));
            }
            if let Contents::Index(children) = &contents {
                let new = chosen(children, wanted).filter(|child| seen.insert(child.digest.clone()));
                level.extend(new.map(|child| child.digest.clone()));
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
    Ok(ordered(root, parts))
}

/// The entries of an index that are wanted. Those of no platform always are, but for what is about an entry that is not:
/// an attestation goes with the image that it attests.
pub(crate) fn chosen<'a>(children: &'a [Child], wanted: &Platforms) -> impl Iterator<Item = &'a Child> {
    let offered: Vec<_> = children.iter().filter_map(|child| child.platform.as_ref()).collect();
    let mut wanted = wanted.wanted_of(&offered).into_iter();
    let mut unwanted = HashSet::new();
    let mut taken = HashSet::new();
    for child in children.iter().filter(|child| child.platform.is_some()) {
        let side = if wanted.next() == Some(true) { &mut taken } else { &mut unwanted };
        side.insert(&child.digest);
    }
    children.iter().filter(move |child| match (&child.platform, &child.about) {
        (Some(_), _) => taken.contains(&child.digest),
        (None, Some(about)) => taken.contains(about) || !unwanted.contains(about),
        (None, None) => true,
    })
}

fn out_of_bounds(root: &Digest, upstream: &Repository) -> Error {
    upstream.unsupported(format_args!(
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
fn ordered(root: &Digest, mut parts: HashMap<Digest, (Part, Contents)>) -> Plan {
    let (manifests, offered) = (Vec::new(), Vec::new());
    let mut plan = Plan { manifests, blobs: Vec::new(), offered, left_out: HashSet::new(), only_config: None };
    let known: HashSet<Digest> = parts.keys().cloned().collect();
    let mut blobs: HashMap<Digest, usize> = HashMap::new();
    // Depth first: a manifest is opened when it is met and pushed when it is met again, after its children.
    let mut path = vec![root.clone()];
    let mut opened = HashSet::new();
    while let Some(digest) = path.last().cloned() {
        if opened.insert(digest.clone())
            && let Some((_, Contents::Index(children))) = parts.get(&digest)
        {
            let unknown = children.iter().map(|child| &child.digest).filter(|child| !known.contains(*child));
            plan.left_out.extend(unknown.cloned());
            let named = |child: &Child| Some((child.digest.clone(), child.platform.clone()?));
            plan.offered.extend(children.iter().filter_map(named));
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
    let mut listed = HashSet::new();
    plan.offered.retain(|offered| listed.insert(offered.clone()));
    plan
}

#[cfg(test)]
mod tests;
