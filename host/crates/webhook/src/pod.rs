use std::collections::BTreeMap;
use std::sync::Arc;

use cache_registry_api::ImagesAnnotation;
use cache_registry_api::labels::{IMAGES_ANNOTATION, OPT_OUT_LABEL, OPT_OUT_VALUE};
use cache_registry_core::{ContainerKind, Owner, PodFacts, PullPolicy, Reference};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::review::Text;

/// The annotation by which the API server shows a pod that a kubelet runs from a file
/// (<https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-config-mirror>).
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// What matters of a pod, borrowed from the review. Everything else in it is skipped over.
#[derive(Debug, Deserialize)]
pub(crate) struct Pod<'a> {
    #[serde(borrow)]
    pub(crate) metadata: Metadata<'a>,
    #[serde(borrow)]
    spec: Spec<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata<'a> {
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(crate) labels: Option<BTreeMap<Text<'a>, Text<'a>>>,
    #[serde(borrow, default)]
    pub(crate) annotations: Option<BTreeMap<Text<'a>, Text<'a>>>,
    #[serde(borrow, default)]
    owner_references: Option<Vec<OwnerReference<'a>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Container<'a> {
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    image: Option<Text<'a>>,
    #[serde(borrow, default)]
    image_pull_policy: Option<Text<'a>>,
}

impl Pod<'_> {
    /// Every container with the list it is in and its place there.
    pub(crate) fn containers(&self) -> impl Iterator<Item = (ContainerKind, usize, &Container<'_>)> {
        let Spec { init_containers, containers, ephemeral_containers, .. } = &self.spec;
        [
            (ContainerKind::Init, init_containers),
            (ContainerKind::Regular, containers),
            (ContainerKind::Ephemeral, ephemeral_containers),
        ]
        .into_iter()
        .flat_map(|(kind, list)| {
            let list = list.as_deref().unwrap_or_default();
            list.iter().enumerate().map(move |(index, container)| (kind, index, container))
        })
    }

    /// True for a pod whose author wants it left alone.
    pub(crate) fn opted_out(&self) -> bool {
        self.label(OPT_OUT_LABEL) == Some(OPT_OUT_VALUE)
    }

    /// True for what shows a static pod: the kubelet has its own copy, and refuses a mirror that differs from it.
    pub(crate) fn mirrors_a_static_pod(&self) -> bool {
        self.annotation(MIRROR_ANNOTATION).is_some()
    }

    /// True where it, or its `ServiceAccount`, names Secrets to pull its images with.
    pub(crate) fn has_pull_secrets(&self) -> bool {
        self.spec.image_pull_secrets.as_ref().is_some_and(|secrets| !secrets.is_empty())
    }

    /// What its annotation claims was decided before. Nothing, where it is absent or damaged.
    pub(crate) fn claims(&self) -> ImagesAnnotation {
        self.annotation(IMAGES_ANNOTATION).and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(key).map(|value| &**value)
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(|value| &**value)
    }

    /// For a message to people: the pod's name, where it has one already.
    pub(crate) fn name(&self) -> Option<&str> {
        self.metadata.name.as_deref().filter(|name| !name.is_empty())
    }

    /// What policies may know of it.
    pub(crate) fn facts(&self, namespace: &str, json: &str) -> PodFacts {
        let owners = self.metadata.owner_references.as_deref().unwrap_or_default();
        PodFacts {
            namespace: namespace.to_owned(),
            name: self.name().map(ToOwned::to_owned),
            labels: owned(self.metadata.labels.as_ref()),
            annotations: owned(self.metadata.annotations.as_ref()),
            service_account: self.spec.service_account_name.as_deref().unwrap_or_default().to_owned(),
            owner: owners.iter().find(|owner| owner.controller == Some(true)).map(OwnerReference::owned),
            json: Arc::from(json),
        }
    }
}

impl Container<'_> {
    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn image(&self) -> &str {
        self.image.as_deref().unwrap_or_default()
    }

    /// `imagePullPolicy`, or what the API server puts there for an image that reads as `reference`
    /// (<https://kubernetes.io/docs/concepts/containers/images/#imagepullpolicy-defaulting>).
    pub(crate) fn pull_policy(&self, reference: &Reference) -> PullPolicy {
        match self.image_pull_policy.as_deref() {
            Some("Always") => PullPolicy::Always,
            Some("Never") => PullPolicy::Never,
            Some("IfNotPresent") => PullPolicy::IfNotPresent,
            // Any other text is refused by the API server after us; what is decided for it does not matter.
            _ if reference.tag() == Some("latest") => PullPolicy::Always,
            _ => PullPolicy::IfNotPresent,
        }
    }
}

fn owned(map: Option<&BTreeMap<Text<'_>, Text<'_>>>) -> BTreeMap<String, String> {
    map.into_iter().flatten().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(borrow, default)]
    service_account_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    init_containers: Option<Vec<Container<'a>>>,
    #[serde(borrow, default)]
    containers: Option<Vec<Container<'a>>>,
    #[serde(borrow, default)]
    ephemeral_containers: Option<Vec<Container<'a>>>,
    #[serde(default)]
    image_pull_secrets: Option<Vec<IgnoredAny>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OwnerReference<'a> {
    #[serde(borrow, default)]
    api_version: Option<Text<'a>>,
    #[serde(borrow, default)]
    kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(default)]
    controller: Option<bool>,
}

impl OwnerReference<'_> {
    fn owned(&self) -> Owner {
        let text = |text: &Option<Text<'_>>| text.as_deref().unwrap_or_default().to_owned();
        Owner { api_version: text(&self.api_version), kind: text(&self.kind), name: text(&self.name) }
    }
}
