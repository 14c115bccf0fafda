use std::collections::BTreeMap;
use std::mem;

use cache_registry_api::{ImageEntry, ImagesAnnotation, Outcome};
use cache_registry_core::{ContainerFacts, ContainerKind, NodeAddress, PodFacts, Reference, parse_digest};

use crate::ground::Ground;
use crate::pod::{Container, Pod};
use crate::review::{Malformed, Request};

/// What there is to do about a review.
#[derive(Debug)]
pub(crate) enum Examined<'a> {
    /// There are images to decide on.
    Inquiry(Inquiry<'a>),
    /// Nothing: the answer is "allowed" without a patch.
    Passed(Passed<'a>),
}

/// A review about which nothing is done.
#[derive(Debug)]
pub(crate) struct Passed<'a> {
    pub(crate) why: Pass,
    /// The pod that is left as it is, where the review is about one.
    pub(crate) pod: Option<Pod<'a>>,
}

/// Why nothing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// No image comes with such an operation.
    Operation,
    /// Its author wants the pod left alone.
    OptedOut,
    /// It shows a static pod.
    Mirror,
}

/// The containers that a review is about, and the questions that it puts to the policies.
#[derive(Debug)]
pub(crate) struct Inquiry<'a> {
    pub(crate) pod: Pod<'a>,
    pub(crate) subjects: Vec<Subject>,
    /// False where the API server drops what is changed of the pod's labels and annotations.
    pub(crate) records: bool,
    json: &'a str,
    questions: Vec<ContainerFacts>,
}

/// A container of the pod.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) kind: ContainerKind,
    /// Its place in the list of its kind.
    pub(crate) index: usize,
    /// Its image, letter by letter.
    pub(crate) image: String,
    pub(crate) standing: Standing,
}

/// What is known of a container's image.
#[derive(Debug)]
pub(crate) enum Standing {
    /// It stays as it is in this review, and this is on record for it, where anything is.
    Unchanged(Option<ImageEntry>),
    /// It stays as it is, for a reason that needs no policy.
    Decided(ImageEntry),
    /// A policy decides. The numbers are places among the questions.
    Asked {
        /// About the image as it stands in the pod.
        question: usize,
        /// About the image that a claim in the annotation says it was before it was rewritten.
        claim: Option<Claim>,
    },
}

/// An entry of the pod's own annotation that says: this image is the outcome of a rewrite. Anyone can write that, so
/// the policies are asked about the original, and the claim stands if they come to the image that is there.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) question: usize,
    pub(crate) entry: ImageEntry,
}

/// Which part of the pod a review is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Created,
    Updated,
    EphemeralContainers,
}

/// Says which containers' images are looked at, and what there is to ask about them.
///
/// - A pod that is created: all of them.
/// - A pod that is updated: those whose image differs from what it was. The others run already, and one that was
///   never rewritten must not be restarted by us; what is on record for them is kept, from the pod as it was.
/// - `pods/ephemeralcontainers`: ephemeral ones whose image differs from what it was.
/// - Anything else (a deletion, another subresource), and a pod that opted out or mirrors a static pod, is passed.
///
/// An image on the node address is no question for a policy: it is where a rewrite leads to. What is on record for it
/// stands if it leads to this very image; without a record (an operator copied a rewritten pod's spec, say) the
/// source is read from the address, so that the image is kept in the cache for this pod too.
///
/// Nor is one of a pod with pull secrets, where these are not to be read: an image that takes them could not be pulled
/// through the cache, whatever a policy says.
pub(crate) fn examine<'a>(request: &Request<'a>, ground: &Ground) -> Result<Examined<'a>, Malformed> {
    let scope = match (&*request.operation, request.sub_resource()) {
        ("CREATE", "") => Scope::Created,
        ("UPDATE", "") => Scope::Updated,
        ("UPDATE", "ephemeralcontainers") => Scope::EphemeralContainers,
        _ => return Ok(Examined::Passed(Passed { why: Pass::Operation, pod: None })),
    };
    let (pod, json) = request.pod()?;
    let before = if scope == Scope::Created { None } else { Some(request.pod_before()?) };
    if let Some(why) = pass(&pod) {
        return Ok(Examined::Passed(Passed { why, pod: Some(pod) }));
    }

    let node = &ground.node;
    let is_left_alone = ground.leaves_pull_secrets_alone && pod.has_pull_secrets();
    let mut claims = pod.claims();
    let mut before = Before::of(before.as_ref());
    let mut questions = Vec::new();
    let mut subjects = Vec::new();
    for (kind, index, container) in pod.containers() {
        if scope == Scope::EphemeralContainers && kind != ContainerKind::Ephemeral {
            continue;
        }
        let (name, image) = (container.name(), container.image());
        let standing = if before.had(kind, name, image) {
            Standing::Unchanged(on_record(image, before.records.0.remove(name), node))
        } else {
            let questions = (!is_left_alone).then_some(&mut questions);
            standing(kind, container, claims.0.remove(name), node, questions)
        };
        subjects.push(Subject { name: name.to_owned(), kind, index, image: image.to_owned(), standing });
    }
    let records = scope != Scope::EphemeralContainers;
    Ok(Examined::Inquiry(Inquiry { pod, subjects, records, json, questions }))
}

fn pass(pod: &Pod<'_>) -> Option<Pass> {
    if pod.opted_out() {
        return Some(Pass::OptedOut);
    }
    pod.mirrors_a_static_pod().then_some(Pass::Mirror)
}

impl Inquiry<'_> {
    /// What to ask the policies, once. Empty when no policy has to be asked.
    pub(crate) fn take_questions(&mut self) -> Vec<ContainerFacts> {
        mem::take(&mut self.questions)
    }

    /// What the policies may know of the pod.
    pub(crate) fn facts(&self, namespace: &str) -> PodFacts {
        self.pod.facts(namespace, self.json)
    }
}

/// The pod before an update; empty before a creation.
#[derive(Default)]
struct Before<'a> {
    images: BTreeMap<(usize, &'a str), &'a str>,
    records: ImagesAnnotation,
}

impl<'a> Before<'a> {
    fn of(pod: Option<&'a Pod<'_>>) -> Self {
        let Some(pod) = pod else { return Self::default() };
        let images = pod.containers().map(|(kind, _, c)| ((kind as usize, c.name()), c.image()));
        Self { images: images.collect(), records: pod.claims() }
    }

    fn had(&self, kind: ContainerKind, name: &str, image: &str) -> bool {
        self.images.get(&(kind as usize, name)) == Some(&image)
    }
}

fn standing(
    kind: ContainerKind,
    container: &Container<'_>,
    claim: Option<ImageEntry>,
    node: &NodeAddress,
    questions: Option<&mut Vec<ContainerFacts>>,
) -> Standing {
    let image = container.image();
    let left_alone =
        |why: String| Standing::Decided(ImageEntry { original: image.to_owned(), outcome: Outcome::LeftAlone(why) });
    if image.is_empty() {
        return left_alone("the container has no image".to_owned());
    }
    if is_an_id(image) {
        return left_alone("it is the ID of an image on the node, not a reference".to_owned());
    }
    let reference: Reference = match image.parse() {
        Ok(reference) => reference,
        Err(error) => return left_alone(error.to_string()),
    };
    if node.serves(&reference) {
        return Standing::Decided(at_node_address(image, &reference, claim, node));
    }
    let Some(questions) = questions else {
        return left_alone("its pod has pull secrets, which cache-registry may not read here".to_owned());
    };
    let mut ask = |image: Reference| {
        let pull_policy = container.pull_policy(&image);
        questions.push(ContainerFacts { name: container.name().to_owned(), kind, pull_policy, image });
        questions.len() - 1
    };
    let question = ask(reference);
    let claim = claim.filter(|entry| entry.original != image && matches!(entry.outcome, Outcome::Rewritten(_)));
    let claim = claim.and_then(|entry| Some(Claim { question: ask(entry.original.parse().ok()?), entry }));
    Standing::Asked { question, claim }
}

/// True for `sha256:…`, which reads as a reference to the tag `…` of `docker.io/library/sha256`, and which container
/// runtimes take for an image that they have.
fn is_an_id(image: &str) -> bool {
    parse_digest(image).is_ok()
}

/// The record for an image that an update leaves as it was: the one that was there, except that an image on the node
/// address always has one.
fn on_record(image: &str, record: Option<ImageEntry>, node: &NodeAddress) -> Option<ImageEntry> {
    match image.parse() {
        Ok(reference) if node.serves(&reference) => Some(at_node_address(image, &reference, record, node)),
        _ => record,
    }
}

fn at_node_address(image: &str, reference: &Reference, claim: Option<ImageEntry>, node: &NodeAddress) -> ImageEntry {
    if let Some(entry) = claim
        && let Outcome::Rewritten(source) = &entry.outcome
        && node.of(source) == *reference
        && !node.serves(source)
    {
        return entry;
    }
    let outcome = match node.source_of(reference) {
        Some(source) if !node.serves(&source) => Outcome::Rewritten(source),
        _ => Outcome::LeftAlone(format!(
            "it is at the node address, but not of the form {}/<registry host>/<repository>",
            node.authority()
        )),
    };
    ImageEntry { original: image.to_owned(), outcome }
}
