use cache_registry_api::labels::{IMAGES_ANNOTATION, REWRITTEN_LABEL, REWRITTEN_VALUE};
use cache_registry_api::{ImageEntry, ImagesAnnotation, Outcome};
use cache_registry_core::{ContainerKind, Decision, NodeAddress, Reference, Verdict};
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation, TestOperation};
use serde_json::{Value, json};

use crate::inquiry::{Claim, Inquiry, Standing, Subject};
use crate::pod::Pod;

/// The answer to an inquiry.
#[derive(Debug, Default)]
pub(crate) struct Conclusion {
    /// Empty when the pod is as it should be.
    pub(crate) patch: Patch,
    /// For the pod's author.
    pub(crate) warnings: Vec<String>,
    /// Those of the warnings that no policy gave, so that nobody logged them yet.
    pub(crate) found_here: Vec<String>,
    /// What was decided for each image that was looked at, for the metrics.
    pub(crate) tally: Vec<Tally>,
    /// What the image of each subject becomes, in their order; `None` where it stays.
    pub(crate) images: Vec<Option<String>>,
    /// What is on record for the containers.
    pub(crate) record: ImagesAnnotation,
}

/// What was decided for one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tally {
    /// It was rewritten in this answer.
    Rewritten,
    /// It was rewritten before.
    AlreadyRewritten,
    /// It was left alone, as somebody wanted it or because it cannot be cached.
    LeftAlone,
    /// It was left alone because a policy failed, or answered with what cannot be used.
    PolicyFailed,
}

/// Turns verdicts into a patch. `verdicts` answer the inquiry's questions in their order.
///
/// The patch replaces images, each after a `test` that the image is the one that was decided on. The API server applies
/// it to the very object that it sent, so the test holds; if it ever did not, the request would be refused in spite of
/// `failurePolicy: Ignore`, which is better than another container's image. (It compares the JSON texts, and the
/// letters of a reference can be written in one way only.) The patch sets the label where an image is rewritten, takes
/// away one that is not true, and writes the annotation.
pub(crate) fn conclude(inquiry: &Inquiry<'_>, verdicts: &[Verdict], node: &NodeAddress) -> Conclusion {
    let mut conclusion = Conclusion::default();
    for subject in &inquiry.subjects {
        let Settled { entry, image, warnings, found_here, tally } = settle(subject, verdicts, node);
        let image = image.filter(|image| *image != subject.image);
        if let Some(image) = &image {
            conclusion.patch.0.extend(replace_image(subject, image));
        }
        conclusion.images.push(image);
        if let Some(entry) = entry {
            conclusion.record.0.insert(subject.name.clone(), entry);
        }
        for warning in warnings {
            conclusion.warnings.push(format!("container {}: {warning}", subject.name));
        }
        if let Some(warning) = found_here {
            conclusion.warn(format!("container {}: {warning}", subject.name));
        }
        conclusion.tally.extend(tally);
    }
    if inquiry.records {
        if let Some(operations) = record(&inquiry.pod, &conclusion.record) {
            conclusion.patch.0.extend(operations);
        } else {
            conclusion.leave_all(inquiry);
        }
    }
    conclusion
}

impl Conclusion {
    /// Without the record nobody would know what to fill the cache from.
    fn leave_all(&mut self, inquiry: &Inquiry<'_>) {
        const WHY: &str = "the pod's annotations leave no room for ours";
        self.patch = Patch::default();
        self.tally.fill(Tally::LeftAlone);
        for (subject, image) in inquiry.subjects.iter().zip(&mut self.images) {
            if image.take().is_some() {
                let outcome = Outcome::LeftAlone(WHY.to_owned());
                let entry = ImageEntry { original: subject.image.clone(), outcome };
                self.record.0.insert(subject.name.clone(), entry);
            }
        }
        self.warn(format!("images left alone: {WHY}"));
    }

    fn warn(&mut self, warning: String) {
        self.warnings.push(warning.clone());
        self.found_here.push(warning);
    }
}

struct Settled {
    entry: Option<ImageEntry>,
    /// What the container's image becomes.
    image: Option<String>,
    warnings: Vec<String>,
    found_here: Option<String>,
    tally: Option<Tally>,
}

impl Settled {
    /// The image stays; this is on record for it.
    fn stays(entry: Option<ImageEntry>, tally: Option<Tally>) -> Self {
        Self { entry, image: None, warnings: Vec::new(), found_here: None, tally }
    }
}

fn settle(subject: &Subject, verdicts: &[Verdict], node: &NodeAddress) -> Settled {
    match &subject.standing {
        Standing::Unchanged(entry) => Settled::stays(entry.clone(), None),
        Standing::Decided(entry) => {
            let tally = match entry.outcome {
                Outcome::Rewritten(_) => Tally::AlreadyRewritten,
                Outcome::LeftAlone(_) => Tally::LeftAlone,
            };
            Settled::stays(Some(entry.clone()), Some(tally))
        }
        Standing::Asked { question, claim } => {
            if let Some(Claim { question, entry }) = claim
                && let Some(Ok((image, source))) = verdicts.get(*question).map(|verdict| usable(verdict, node))
                && image.to_string() == subject.image
                && entry.outcome == Outcome::Rewritten(source.clone())
            {
                return Settled::stays(Some(entry.clone()), Some(Tally::AlreadyRewritten));
            }
            decided(subject, verdicts.get(*question), node)
        }
    }
}

fn decided(subject: &Subject, verdict: Option<&Verdict>, node: &NodeAddress) -> Settled {
    let mut found_here = None;
    let warnings = verdict.map(|verdict| verdict.warnings.clone()).unwrap_or_default();
    let usable = verdict.map_or(Err(Unusable::Left("no policy decided".to_owned())), |verdict| usable(verdict, node));
    let (outcome, image, tally) = match usable {
        Ok((image, source)) => (Outcome::Rewritten(source.clone()), Some(image.to_string()), Tally::Rewritten),
        Err(Unusable::Left(reason)) if warnings.is_empty() => (Outcome::LeftAlone(reason), None, Tally::LeftAlone),
        Err(Unusable::Left(reason)) => (Outcome::LeftAlone(reason), None, Tally::PolicyFailed),
        Err(Unusable::Wrong(problem)) => {
            let policy = verdict.and_then(|verdict| verdict.policy.as_deref()).unwrap_or("the rewriting policy");
            let problem = format!("{policy}: {problem}");
            found_here = Some(problem.clone());
            (Outcome::LeftAlone(problem), None, Tally::PolicyFailed)
        }
    };
    let entry = Some(ImageEntry { original: subject.image.clone(), outcome });
    Settled { entry, image, warnings, found_here, tally: Some(tally) }
}

enum Unusable {
    /// The image is to be left alone.
    Left(String),
    /// The image was to be rewritten, in a way that would do harm.
    Wrong(String),
}

/// Longer names are refused by nodes, some of which count the host with them
/// (<https://github.com/distribution/reference>, `ErrNameTooLong`).
const LONGEST_NAME: usize = 255;

/// The image and its source, where a verdict is to rewrite and the node would find what it is sent to.
fn usable<'v>(verdict: &'v Verdict, node: &NodeAddress) -> Result<(&'v Reference, &'v Reference), Unusable> {
    let (image, source) = match &verdict.decision {
        Decision::Rewritten { image, source } => (image, source),
        Decision::LeftAlone { reason } => return Err(Unusable::Left(reason.clone())),
    };
    if node.serves(source) {
        return Err(Unusable::Wrong(format!("the source {source} is at the node address, which is filled from it")));
    }
    if node.serves(image) && *image != node.of(source) {
        return Err(Unusable::Wrong(format!("{image} is not what the node address has for the source {source}")));
    }
    if image.registry().len() + 1 + image.repository().len() > LONGEST_NAME {
        return Err(Unusable::Left(format!("rewritten, its name would have more than {LONGEST_NAME} characters")));
    }
    Ok((image, source))
}

fn replace_image(subject: &Subject, image: &str) -> [PatchOperation; 2] {
    let list = match subject.kind {
        ContainerKind::Init => "initContainers",
        ContainerKind::Regular => "containers",
        ContainerKind::Ephemeral => "ephemeralContainers",
    };
    let path = PointerBuf::from_tokens(["spec", list, &subject.index.to_string(), "image"]);
    [
        PatchOperation::Test(TestOperation { path: path.clone(), value: Value::String(subject.image.clone()) }),
        PatchOperation::Replace(ReplaceOperation { path, value: Value::String(image.to_owned()) }),
    ]
}

/// The API server refuses an object whose annotations are longer than this, keys and values together
/// (`TotalAnnotationSizeLimitB`).
const LONGEST_ANNOTATIONS: usize = 256 * 1024;

/// What makes the pod's label and annotation say what is so. `None` where the annotation would be too much.
fn record(pod: &Pod<'_>, images: &ImagesAnnotation) -> Option<Vec<PatchOperation>> {
    let rewritten = images.0.values().any(|entry| matches!(entry.outcome, Outcome::Rewritten(_)));
    let annotation = (!images.0.is_empty()).then(|| images.to_string());
    if let Some(annotation) = &annotation {
        let others = pod.metadata.annotations.iter().flatten().filter(|(key, _)| &***key != IMAGES_ANNOTATION);
        let theirs: usize = others.map(|(key, value)| key.len() + value.len()).sum();
        if theirs + IMAGES_ANNOTATION.len() + annotation.len() > LONGEST_ANNOTATIONS {
            return None;
        }
    }
    let label = rewritten.then(|| REWRITTEN_VALUE.to_owned());
    let has_labels = pod.metadata.labels.is_some();
    let has_annotations = pod.metadata.annotations.is_some();
    let operations = [
        set("labels", has_labels, REWRITTEN_LABEL, pod.label(REWRITTEN_LABEL), label),
        set("annotations", has_annotations, IMAGES_ANNOTATION, pod.annotation(IMAGES_ANNOTATION), annotation),
    ];
    Some(operations.into_iter().flatten().collect())
}

fn set(map: &str, exists: bool, key: &str, now: Option<&str>, wanted: Option<String>) -> Option<PatchOperation> {
    if now == wanted.as_deref() {
        return None;
    }
    let path = PointerBuf::from_tokens(["metadata", map, key]);
    Some(match wanted {
        None => PatchOperation::Remove(RemoveOperation { path }),
        Some(value) if exists => PatchOperation::Add(AddOperation { path, value: Value::String(value) }),
        Some(value) => {
            let path = PointerBuf::from_tokens(["metadata", map]);
            PatchOperation::Add(AddOperation { path, value: json!({ key: value }) })
        }
    })
}
