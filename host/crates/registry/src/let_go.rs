use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use cache_registry_core::{LetGo, Named, reached};
use futures::stream::{StreamExt as _, TryStreamExt as _, iter};

use crate::retry::retried;
use crate::{Error, Repository};

/// What came of removing what was let go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many manifests were removed.
    pub manifests: usize,
    /// In how long the next one is due, where one is left.
    pub next: Option<Duration>,
}

/// Far above what any repository has: one that has more is left alone.
const MOST_MANIFESTS: usize = 20_000;
const AT_ONCE: usize = 4;
const TRIES: usize = 4;

/// Manifests that no tag reaches any more. A registry lists its tags and nothing else, so what loses its tag is given one
/// of ours ([`LetGo`]) first, and is removed by its digest when it has had that for long enough.
///
/// The order holds wherever it is cut: a tag of ours too many costs nothing, and an index is removed after its images, which
/// nothing else would lead to.
impl Repository {
    /// Keeps what a tag names, for [`Self::remove_let_go`], before the tag is taken away or moved. Where there is nothing,
    /// nothing is kept.
    pub async fn let_go(&self, tag: &str) -> Result<(), Error> {
        let manifest = match retried(TRIES, || self.get_manifest(tag)).await {
            Ok(manifest) => manifest,
            Err(error) if error.is_absence() => return Ok(()),
            Err(error) if !error.is_transient() => {
                tracing::warn!(%error, tag, "what it names can't be read, and will stay in the registry's storage");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let ours = LetGo::new(&manifest.digest, now()).to_string();
        retried(TRIES, || self.push_manifest(&ours, &manifest)).await
    }

    /// Removes the manifests that were let go before that long, unless another tag reaches them. Nobody may write to the
    /// repository meanwhile.
    pub async fn remove_let_go(&self, after: Duration) -> Result<Swept, Error> {
        let tags = self.tags().await?;
        let ours = tags.iter().filter_map(|tag| Some((tag, tag.parse::<LetGo>().ok()?.since())));
        // A clock that was set back makes them stay for longer.
        let left = |since: u64| Duration::from_secs(since).saturating_add(after).saturating_sub(now_exactly());
        let (due, waiting): (Vec<_>, Vec<_>) = ours.partition(|(_, since)| left(*since).is_zero());
        let next = waiting.into_iter().map(|(_, since)| left(since)).min();
        if due.is_empty() {
            return Ok(Swept { manifests: 0, next });
        }
        let due: BTreeSet<&str> = due.into_iter().map(|(tag, _)| tag.as_str()).collect();
        let named = self.named_by(&tags).await?;
        let manifests = self.reachable(named.values().cloned().collect()).await?;
        // What is not seen may be there all the same, and need what would be removed.
        let is_seen = |tag: &str| named.get(tag).is_some_and(|digest| manifests.contains_key(digest));
        if let Some(tag) = tags.iter().find(|tag| !due.contains(tag.as_str()) && !is_seen(tag)) {
            return Err(
                self.unusable(format_args!("its tag {tag} is listed and names nothing; what no tag reaches stays"))
            );
        }
        let doomed = Doomed::of(&named, &due, &manifests);
        for digest in &doomed.links {
            retried(TRIES, || self.delete_blob(digest)).await?;
        }
        for digest in &doomed.manifests {
            retried(TRIES, || self.delete_manifest(digest)).await?;
            tracing::info!(repository = &*self.name, digest, "no tag reaches this manifest: removed");
        }
        let nameless = due.iter().copied().filter(|tag| !named.contains_key(*tag));
        for tag in doomed.tags.iter().map(String::as_str).chain(nameless) {
            // Most registries have taken it away with what it named.
            retried(TRIES, || self.delete_tag(tag)).await?;
        }
        Ok(Swept { manifests: doomed.manifests.len(), next })
    }

    /// The digest that each tag names; without those that name nothing any more.
    async fn named_by(&self, tags: &[String]) -> Result<BTreeMap<String, String>, Error> {
        let asking = iter(tags.to_vec()).map(|tag| async move {
            match self.resolve(&tag).await {
                Ok(digest) => Ok(Some((tag, digest.to_string()))),
                Err(error) if error.is_absence() => Ok(None),
                Err(error) => Err(error),
            }
        });
        asking.buffered(AT_ONCE).try_filter_map(|named| async { Ok(named) }).try_collect().await
    }

    /// All manifests that these lead to, as far as the repository has them.
    async fn reachable(&self, roots: BTreeSet<String>) -> Result<BTreeMap<String, Named>, Error> {
        let mut found = BTreeMap::new();
        let mut seen = roots.clone();
        let mut level: Vec<String> = roots.into_iter().collect();
        while !level.is_empty() {
            if seen.len() > MOST_MANIFESTS {
                return Err(self.unusable(format_args!(
                    "its tags lead to more than {MOST_MANIFESTS} manifests; what no tag reaches stays"
                )));
            }
            let reading = iter(std::mem::take(&mut level)).map(|digest| self.read_named(digest));
            let mut reading = std::pin::pin!(reading.buffered(AT_ONCE));
            while let Some(read) = reading.try_next().await? {
                let Some((digest, named)) = read else { continue };
                level.extend(named.children.iter().filter(|child| seen.insert((*child).clone())).cloned());
                found.insert(digest, named);
            }
        }
        Ok(found)
    }

    async fn read_named(&self, digest: String) -> Result<Option<(String, Named)>, Error> {
        match retried(TRIES, || self.get_manifest(&digest)).await {
            Ok(manifest) => match Named::read(&manifest.bytes) {
                Some(named) => Ok(Some((digest, named))),
                None => Err(self.unusable(format_args!("the manifest {digest} is no JSON; what no tag reaches stays"))),
            },
            Err(error) if error.is_absence() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What is removed for tags that are due.
#[derive(Debug, Default, PartialEq, Eq)]
struct Doomed {
    /// The blobs that are taken out of the repository, first. Distribution's `garbage-collect` does that itself, but in a
    /// bucket no longer finds a repository of which no manifest is left.
    links: BTreeSet<String>,
    /// The manifests, each after those that it alone leads to.
    manifests: Vec<String>,
    /// The tags of ours that have had their time, at last.
    tags: BTreeSet<String>,
}

type Manifests = BTreeMap<String, Named>;

impl Doomed {
    /// Of what the tags in `due` lead to, all that no other tag needs.
    ///
    /// What is about something that stays, a signature, stays with it; and where no other tag leads there, so does the tag
    /// of ours, or it would be out of sight for good.
    fn of(tags: &BTreeMap<String, String>, due: &BTreeSet<&str>, manifests: &Manifests) -> Self {
        let bare: Manifests = manifests
            .iter()
            .map(|(digest, named)| (digest.clone(), Named { subject: None, ..named.clone() }))
            .collect();
        let (mut due, mut kept): (Vec<_>, Vec<_>) = tags.iter().partition(|(tag, _)| due.contains(tag.as_str()));
        let stays = loop {
            let roots = kept.iter().map(|(_, digest)| (*digest).clone()).collect();
            let (stays, led_to) = (reached(&roots, manifests), reached(&roots, &bare));
            let is_about = |digest: &String| stays.contains(digest) && !led_to.contains(digest);
            let (hold, rest): (Vec<_>, Vec<_>) =
                due.into_iter().partition(|(_, digest)| below(digest, manifests).iter().any(is_about));
            due = rest;
            if hold.is_empty() {
                break stays;
            }
            kept.extend(hold);
        };
        let mut doomed = Self { tags: due.iter().map(|(tag, _)| (*tag).clone()).collect(), ..Self::default() };
        let mut taken = stays;
        for digest in due.into_iter().flat_map(|(_, digest)| below(digest, manifests)) {
            if let Some(named) = manifests.get(&digest)
                && taken.insert(digest.clone())
            {
                doomed.links.extend(named.needs.difference(&named.children).filter(|_| kept.is_empty()).cloned());
                doomed.manifests.push(digest);
            }
        }
        doomed
    }
}

/// The manifests that one leads to, each after those that it leads to itself, and this one last.
fn below(root: &str, manifests: &Manifests) -> Vec<String> {
    let (mut below, mut opened, mut closed) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    // Depth first: one is opened when it is met, and done when it is met again, after its children.
    let mut path = vec![root];
    while let Some(digest) = path.pop() {
        let Some(named) = manifests.get(digest) else { continue };
        if opened.insert(digest) {
            path.push(digest);
            path.extend(named.children.iter().map(String::as_str).filter(|child| !opened.contains(child)));
        } else if closed.insert(digest) {
            below.push(digest.to_owned());
        }
    }
    below
}

fn now_exactly() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn now() -> u64 {
    now_exactly().as_secs()
}

#[cfg(test)]
mod tests;
