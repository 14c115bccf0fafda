use std::time::Duration;

use bytes::Bytes;
use cache_registry_core::{Digest, Hasher, Platforms, Reason, cosign_tags, referrers_tag};
use serde_json::{Value, json};

use crate::copy::{Brought, Copy, TRIES};
use crate::manifest::OCI_INDEX;
use crate::plan::Plan;
use crate::referrers_api::Referrer;
use crate::retry::retried;
use crate::{Error, Manifest};

/// For all that is about an image. The image itself is there by then, and waits for nothing of it.
const TIME: Duration = Duration::from_mins(2);

/// Of one manifest: a hostile list must not fill the registry.
const MOST_REFERRERS: usize = 100;

/// Of one image: the index, and so many of its images.
const MOST_SUBJECTS: usize = 33;

/// What is about an image: signatures, attestations, SBOMs. It is found where clients look for it: by the referrers API,
/// under the tag that stands for that, and under cosign's tags. In the target it is under the tags alone, which every
/// client knows: that is what distribution has.
impl Copy<'_> {
    /// Brings what is about an image and about each of its images that were copied. Returns what there is to be said.
    ///
    /// Upstream gets at most five requests for each of them where it has nothing.
    pub(crate) async fn bring_referrers(&self, image: &Plan) -> Vec<String> {
        let mut notes = Vec::new();
        let bringing = async {
            for subject in subjects(image) {
                self.bring_listed(subject, &mut notes).await?;
                for tag in cosign_tags(subject) {
                    self.bring_tagged(&tag, &mut notes).await?;
                }
            }
            Ok::<_, Error>(())
        };
        let problem = match tokio::time::timeout(TIME, bringing).await {
            Ok(Ok(())) => return notes,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not copied within {TIME:?}."),
        };
        tracing::debug!(problem, "signatures and the like are left out");
        notes.push(format!(
            "Signatures, attestations and SBOMs of the image are left out, or some of them are: {problem}"
        ));
        notes
    }

    /// What is on a list: of the API where there is one, else under its tag.
    async fn bring_listed(&self, subject: &Digest, notes: &mut Vec<String>) -> Result<(), Error> {
        let tag = referrers_tag(subject);
        let Some(mut listed) = self.upstream.referrers(subject).await? else {
            return self.bring_tagged(&tag, notes).await;
        };
        if listed.len() > MOST_REFERRERS {
            notes.push(format!("Of {} that are about {subject}, {MOST_REFERRERS} are copied.", listed.len()));
            listed.truncate(MOST_REFERRERS);
        }
        let mut brought = Vec::new();
        for referrer in listed {
            if self.bring_one(&referrer.digest, None, notes).await? {
                brought.push(referrer);
            }
        }
        if brought.is_empty() {
            return Ok(());
        }
        let list = list(brought);
        if self.tagged(&tag).await?.as_ref() == Some(&list.digest) {
            return Ok(());
        }
        self.let_go(&tag).await?;
        self.push_manifest(&tag, &list).await
    }

    /// What upstream has under a tag, which few images have.
    async fn bring_tagged(&self, tag: &str, notes: &mut Vec<String>) -> Result<(), Error> {
        let Some(found) = retried(TRIES, || self.upstream.head_manifest(tag)).await? else { return Ok(()) };
        let digest = match found.digest {
            Some(digest) => digest,
            None => self.upstream.resolve(tag).await?,
        };
        if self.tagged(tag).await?.as_ref() != Some(&digest) {
            self.bring_one(&digest, Some(tag), notes).await?;
        }
        Ok(())
    }

    /// False, and a note, for what is nothing that can be copied.
    async fn bring_one(&self, digest: &Digest, tag: Option<&str>, notes: &mut Vec<String>) -> Result<bool, Error> {
        match self.bring(digest, tag, &Platforms::All, &|_, _| {}).await {
            Ok(Brought::All(_, more)) => {
                notes.extend(more);
                Ok(true)
            }
            Err(error) if matches!(error.reason(), Reason::Unsupported | Reason::NotFound) => {
                notes.push(format!("{digest}, which is about the image, is left out: {error}"));
                Ok(false)
            }
            Ok(Brought::Refused(error)) | Err(error) => Err(error),
        }
    }

    /// What the target has under a tag.
    async fn tagged(&self, tag: &str) -> Result<Option<Digest>, Error> {
        Ok(retried(TRIES, || self.target.head_manifest(tag)).await?.and_then(|existing| existing.digest))
    }

    /// Lets what was about an earlier image of the tag go. That it cannot be is no matter: it is small, and harms nobody.
    pub(crate) async fn forget_referrers(&self, before: &Digest) {
        if let Err(error) = self.target.delete_referrers(before.as_ref(), self.lets_go).await {
            tracing::debug!(%error, %before, "what is about an image that was replaced stays");
        }
    }
}

/// What something can be about: the image itself, and its images for platforms.
fn subjects(image: &Plan) -> Vec<&Digest> {
    let root = image.manifests.last().map(|root| &root.manifest.digest);
    let mut subjects: Vec<&Digest> = root.into_iter().collect();
    for (digest, _) in &image.offered {
        if !image.left_out.contains(digest) && !subjects.contains(&digest) {
            subjects.push(digest);
        }
    }
    subjects.truncate(MOST_SUBJECTS);
    subjects
}

/// The index that stands for the answer of an API. It is the one manifest that is written here rather than upstream: the
/// API's answer has no digest, and what it lists is upstream's to the letter. The order is ours, so that the same list is
/// the same index.
fn list(mut referrers: Vec<Referrer>) -> Manifest {
    referrers.sort_by_key(|referrer| referrer.digest.to_string());
    referrers.dedup_by(|one, other| one.digest == other.digest);
    let manifests: Vec<Value> = referrers.into_iter().map(|referrer| referrer.descriptor).collect();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
    let bytes = Bytes::from(index.to_string());
    Manifest { media_type: OCI_INDEX.to_owned(), digest: Hasher::sha256(&bytes), bytes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Contents;

    #[test]
    fn a_list_is_an_index_and_does_not_depend_on_the_order() {
        let referrer = |name: &str| {
            let digest = Hasher::sha256(name.as_bytes());
            let descriptor = json!({"digest": digest.to_string(), "size": 1, "artifactType": "x/y"});
            Referrer { digest, descriptor }
        };
        let one = list(vec![referrer("a"), referrer("b"), referrer("a")]);
        let other = list(vec![referrer("b"), referrer("a")]);
        assert_eq!(one, other);
        let Ok(Contents::Index(children)) = one.contents() else { panic!("no index") };
        assert_eq!(children.len(), 2);
        assert!(String::from_utf8_lossy(&one.bytes).contains(r#""artifactType":"x/y""#));
    }
}
