use cache_registry_api::labels::{OPT_OUT_LABEL, OPT_OUT_VALUE};
use cache_registry_api::{ImageEntry, Outcome};
use cache_registry_core::{ContainerKind, NodeAddress, Reference, Verdict};
use json_patch::Patch;

use crate::conclusion::Conclusion;
use crate::consider::{Considered, consider};
use crate::decide::Decide;
use crate::inquiry::{Inquiry, Pass, Passed, Standing, Subject};
use crate::pod::Pod;
use crate::review::{self, Malformed, Request};
use crate::warnings;

/// What the answer to a review is, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The namespace of the request.
    pub namespace: String,
    /// The pod's name, where it has one already.
    pub name: Option<String>,
    /// The containers that the review is about.
    pub containers: Vec<ExplainedContainer>,
    /// What the answer changes in the pod.
    pub patch: Patch,
    /// What the answer tells the pod's author, as the API server passes it on.
    pub warnings: Vec<String>,
}

/// What became of one container's image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedContainer {
    /// Its name.
    pub name: String,
    /// Which list it is in.
    pub kind: ContainerKind,
    /// The image as the pod's author wrote it.
    pub original: String,
    /// The image that the node pulls.
    pub image: String,
    /// Where the cache fetches it from; `None` where it is left alone.
    pub source: Option<Reference>,
    /// The policy that decided; `None` where none did.
    pub policy: Option<String>,
    /// Why it was rewritten, or left alone.
    pub reason: String,
}

/// The text is no `AdmissionReview` that the webhook answers.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct NoReview(#[from] Malformed);

/// Which part of a review is no pod, and where it stops being one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoPod {
    /// `object` or `oldObject`.
    pub field: &'static str,
    /// The column, counted from 1, in the part's JSON where that is one line.
    pub column: usize,
    /// What was expected there.
    pub problem: String,
}

impl NoReview {
    /// Where the review is one, but not of a pod.
    pub fn no_pod(&self) -> Option<NoPod> {
        match &self.0 {
            Malformed::BadPod { field, error } => {
                Some(NoPod { field, column: error.column(), problem: error.to_string() })
            }
            _ => None,
        }
    }
}

/// Answers an `AdmissionReview` in JSON as the [router](crate::router()) does, for people and without HTTP: the same
/// inquiry, the same conclusion.
pub async fn explain<D: Decide>(review: &str, decide: &D, node: &NodeAddress) -> Result<Explanation, NoReview> {
    let request = review::parse(review.as_bytes())?;
    Ok(match consider(&request, decide, &node.clone().into()).await? {
        Considered::Passed(passed) => passed_over(&request, &passed),
        Considered::Concluded { inquiry, verdicts, conclusion } => concluded(&request, &inquiry, &verdicts, conclusion),
    })
}

fn passed_over(request: &Request<'_>, Passed { why, pod }: &Passed<'_>) -> Explanation {
    let reason = match why {
        Pass::Operation => "no image comes with this operation".to_owned(),
        Pass::OptedOut => format!("the pod is labelled {OPT_OUT_LABEL}: {OPT_OUT_VALUE}"),
        Pass::Mirror => "the pod mirrors a static pod, of which the kubelet has its own copy".to_owned(),
    };
    let containers = pod.iter().flat_map(Pod::containers);
    Explanation {
        namespace: request.namespace().to_owned(),
        name: pod.as_ref().and_then(|pod| pod.name()).map(ToOwned::to_owned),
        containers: containers
            .map(|(kind, _, container)| ExplainedContainer {
                name: container.name().to_owned(),
                kind,
                original: container.image().to_owned(),
                image: container.image().to_owned(),
                source: None,
                policy: None,
                reason: reason.clone(),
            })
            .collect(),
        patch: Patch::default(),
        warnings: Vec::new(),
    }
}

fn concluded(
    request: &Request<'_>,
    inquiry: &Inquiry<'_>,
    verdicts: &[Verdict],
    conclusion: Conclusion,
) -> Explanation {
    let Conclusion { patch, warnings, images, record, .. } = conclusion;
    let subjects = inquiry.subjects.iter().zip(images);
    Explanation {
        namespace: request.namespace().to_owned(),
        name: inquiry.pod.name().map(ToOwned::to_owned),
        containers: subjects
            .map(|(subject, image)| container(subject, image, record.0.get(&subject.name), verdicts))
            .collect(),
        patch,
        warnings: warnings::fit(&warnings),
    }
}

fn container(
    subject: &Subject,
    image: Option<String>,
    entry: Option<&ImageEntry>,
    verdicts: &[Verdict],
) -> ExplainedContainer {
    let (verdict, how) = match &subject.standing {
        Standing::Unchanged(_) => (None, "it is not changed by this update"),
        Standing::Decided(_) => (None, "it is at the node address already"),
        Standing::Asked { claim: Some(claim), .. } if entry == Some(&claim.entry) => {
            (verdicts.get(claim.question), "it was rewritten before")
        }
        Standing::Asked { question, .. } => (verdicts.get(*question), "it is to be cached"),
    };
    let (source, reason) = match entry.map(|entry| &entry.outcome) {
        Some(Outcome::Rewritten(source)) => {
            let filter = verdict.and_then(|verdict| verdict.cached_by.as_deref());
            (Some(source.clone()), filter.map_or(how.to_owned(), |filter| format!("{how}, says {filter}")))
        }
        Some(Outcome::LeftAlone(reason)) => (None, reason.clone()),
        None => (None, how.to_owned()),
    };
    ExplainedContainer {
        name: subject.name.clone(),
        kind: subject.kind,
        original: entry.map_or(&subject.image, |entry| &entry.original).clone(),
        image: image.unwrap_or_else(|| subject.image.clone()),
        source,
        policy: verdict.and_then(|verdict| verdict.policy.clone()),
        reason,
    }
}
