use std::collections::BTreeMap;
use std::sync::Arc;

use crate::reference::Reference;

/// What policies may know of the pod under review.
#[derive(Debug, Clone, Default)]
pub struct PodFacts {
    /// The namespace of the request; a pod's own may be empty at creation.
    pub namespace: String,
    /// Absent for a pod that gets its name from `generateName`.
    pub name: Option<String>,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `spec.serviceAccountName`, empty where none is set yet.
    pub service_account: String,
    /// The controlling owner, where there is one.
    pub owner: Option<Owner>,
    /// The whole pod as it was received.
    pub json: Arc<str>,
}

/// An owner reference with `controller: true`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// `apps/v1`.
    pub api_version: String,
    /// `ReplicaSet`.
    pub kind: String,
    /// The owner's name.
    pub name: String,
}

/// One container of the pod, with an image that parses.
#[derive(Debug, Clone)]
pub struct ContainerFacts {
    /// Its name, unique in the pod over containers of every kind.
    pub name: String,
    /// Which of the pod's lists it is in.
    pub kind: ContainerKind,
    /// When the node pulls. Where the pod says nothing, what the API server will put there.
    pub pull_policy: PullPolicy,
    /// What it asks for.
    pub image: Reference,
}

/// Which of a pod's lists a container is in. A sidecar is an init container that restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContainerKind {
    /// `spec.initContainers`
    Init,
    /// `spec.containers`
    Regular,
    /// `spec.ephemeralContainers`
    Ephemeral,
}

/// `imagePullPolicy` (<https://kubernetes.io/docs/concepts/containers/images/#image-pull-policy>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PullPolicy {
    /// Asked for at every start.
    Always,
    /// Pulled when the node does not have it.
    IfNotPresent,
    /// Never pulled: it is on the node, or the container does not start.
    Never,
}

/// What becomes of one container's image.
#[expect(clippy::large_enum_variant, reason = "a handful live for one admission request; a Box would cost more")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The node pulls `image`, the cache is filled from `source`.
    Rewritten {
        /// What the container's image becomes.
        image: Reference,
        /// Where the cache fetches it from.
        source: Reference,
    },
    /// The image stays as it was written.
    LeftAlone {
        /// Why, in words for the pod's author.
        reason: String,
    },
}

/// A [`Decision`], and who made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What becomes of the image.
    pub decision: Decision,
    /// The policy that decided; `None` where no policy was asked.
    pub policy: Option<String>,
    /// The policy whose filter said that the image is cached; `None` where none did.
    pub cached_by: Option<String>,
    /// What went wrong in a policy on the way here, in words, for the admission response's warnings.
    pub warnings: Vec<String>,
}
