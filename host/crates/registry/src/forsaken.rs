use std::collections::HashSet;

use cache_registry_core::{Digest, LetGo, cosign_tags, is_referrers_tag, referrers_tag};
use futures::stream::{StreamExt as _, TryStreamExt as _, iter};
use http::StatusCode;

use crate::manifest::Contents;
use crate::{Error, Repository};

/// How many tags are looked at at once.
const AT_ONCE: usize = 4;

/// Manifests that one tag is looked for in: a hostile index must not hold us for days.
const MOST_MANIFESTS: usize = 1_000;

impl Repository {
    /// Takes an image's tag away, and before it the tags of what is about the image, unless another tag reaches what that
    /// is about. One that is not there is fine.
    ///
    /// Cut short in between, there is an image without its signatures, which is found and removed again; not signatures
    /// that nobody would ever find. With `lets_go`, what the tags have named is kept for [`Self::remove_let_go`].
    pub async fn delete_image(&self, tag: &str, lets_go: bool) -> Result<(), Error> {
        self.delete_referrers(tag, lets_go).await?;
        self.take_away(tag, lets_go).await
    }

    async fn take_away(&self, tag: &str, lets_go: bool) -> Result<(), Error> {
        if lets_go {
            self.let_go(tag).await?;
        }
        self.delete_tag(tag).await
    }

    /// Takes the tags away of what is about that which `reference` alone reaches.
    pub(crate) async fn delete_referrers(&self, reference: &str, lets_go: bool) -> Result<(), Error> {
        let tags = self.tags().await?;
        let (about, images): (Vec<_>, Vec<_>) = tags.iter().map(String::as_str).partition(|tag| is_referrers_tag(tag));
        if about.is_empty() {
            return Ok(());
        }
        let going = self.reached(reference).await?;
        if forsaken(&going, &HashSet::new(), &about).is_empty() {
            return Ok(());
        }
        // What was let go has no say in it.
        let images = images.into_iter().filter(|tag| *tag != reference && tag.parse::<LetGo>().is_err());
        let others: Vec<String> = images.map(str::to_owned).collect();
        let others = iter(others).map(|tag| async move { self.reached(&tag).await });
        let staying: Vec<HashSet<Digest>> = others.buffered(AT_ONCE).try_collect().await?;
        for tag in forsaken(&going, &staying.into_iter().flatten().collect(), &about) {
            self.take_away(tag, lets_go).await?;
        }
        Ok(())
    }

    /// The manifest that a reference names, and all that its indexes name; nothing where there is nothing.
    async fn reached(&self, reference: &str) -> Result<HashSet<Digest>, Error> {
        let mut reached = HashSet::new();
        let mut next = vec![reference.to_owned()];
        while let Some(reference) = next.pop() {
            let manifest = match self.get_manifest(&reference).await {
                Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => continue,
                manifest => manifest?,
            };
            if let Ok(Contents::Index(children)) = manifest.contents() {
                for child in children {
                    if child.is_index && !reached.contains(&child.digest) && reached.len() < MOST_MANIFESTS {
                        next.push(child.digest.to_string());
                    }
                    reached.insert(child.digest);
                }
            }
            reached.insert(manifest.digest);
        }
        Ok(reached)
    }
}

/// The tags among `about` of what is about something that goes and does not stay.
fn forsaken<'a>(going: &HashSet<Digest>, staying: &HashSet<Digest>, about: &[&'a str]) -> Vec<&'a str> {
    let tags_of = |digests: &HashSet<Digest>| -> HashSet<String> {
        digests.iter().flat_map(|digest| cosign_tags(digest).chain([referrers_tag(digest)])).collect()
    };
    let (going, staying) = (tags_of(going), tags_of(staying));
    about.iter().copied().filter(|tag| going.contains(*tag) && !staying.contains(*tag)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache_registry_core::Hasher;

    #[test]
    fn what_is_about_something_that_stays_stays() {
        let of = |names: &[&str]| names.iter().map(|name| Hasher::sha256(name.as_bytes())).collect::<HashSet<_>>();
        let all: Vec<String> = ["index", "child", "other"]
            .iter()
            .map(|name| Hasher::sha256(name.as_bytes()))
            .flat_map(|digest| cosign_tags(&digest).chain([referrers_tag(&digest)]))
            .collect();
        let about: Vec<&str> = all.iter().map(String::as_str).collect();
        // A child may be in another index as well.
        assert_eq!(forsaken(&of(&["index", "child"]), &of(&["child", "other"]), &about), about[..4]);
        assert_eq!(forsaken(&of(&["index"]), &of(&["index"]), &about), Vec::<&str>::new());
        assert_eq!(forsaken(&of(&["unsigned"]), &of(&[]), &about), Vec::<&str>::new());
        assert_eq!(forsaken(&of(&["index", "child", "other"]), &of(&[]), &about), about);
    }
}
