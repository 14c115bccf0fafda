use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use cache_registry_api::{CachedImage, CachedImageStatus};
use cache_registry_core::{Reference, object_name};
use k8s_openapi::api::core::v1::{Container, Node, Pod};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::until;

/// How long an image may take to be copied, when nothing is in the way.
const LONGEST_COPY: Duration = Duration::from_secs(30);

/// The objects that a person would look at, by an administrator's client.
#[derive(Clone)]
pub struct Objects {
    client: Client,
}

impl Objects {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Pods in the namespace `default`.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// `CachedImages`.
    pub fn cached_images(&self) -> Api<CachedImage> {
        Api::all(self.client.clone())
    }

    /// Creates a pod with one container and returns what the API server stored.
    pub async fn create_pod(&self, name: &str, image: &str) -> Result<Pod> {
        self.create(pod(name, &json!([{ "name": "main", "image": image }]))).await
    }

    /// Creates a pod and returns what the API server stored.
    pub async fn create(&self, pod: Value) -> Result<Pod> {
        let pod: Pod = serde_json::from_value(pod)?;
        Ok(self.pods().create(&PostParams::default(), &pod).await?)
    }

    /// Deletes a pod at once: there is no kubelet that would end it.
    pub async fn delete_pod(&self, name: &str) -> Result<()> {
        self.pods().delete(name, &DeleteParams::default().grace_period(0)).await?;
        Ok(())
    }

    /// Creates a node of this architecture, with no kubelet behind it.
    pub async fn create_node(&self, name: &str, architecture: &str) -> Result<Node> {
        let labels = json!({ "kubernetes.io/os": "linux", "kubernetes.io/arch": architecture });
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": labels } });
        let nodes: Api<Node> = Api::all(self.client.clone());
        Ok(nodes.create(&PostParams::default(), &serde_json::from_value(node)?).await?)
    }

    /// The `CachedImage` of a source, if there is one.
    pub async fn cached_image(&self, source: &str) -> Result<Option<CachedImage>> {
        let source: Reference = source.parse()?;
        Ok(self.cached_images().get_opt(&object_name(&source)).await?)
    }

    /// Waits until a source is in the cache: `Ready` is True.
    pub async fn cached(&self, source: &str) -> Result<CachedImage> {
        self.cached_within(source, LONGEST_COPY).await
    }

    /// The same, with a bound of one's own.
    pub async fn cached_within(&self, source: &str, bound: Duration) -> Result<CachedImage> {
        self.condition(source, bound, "True", "Cached").await
    }

    /// Waits until a source is not in the cache for this reason: `Ready` is False.
    pub async fn not_cached(&self, source: &str, reason: &str) -> Result<CachedImage> {
        self.condition(source, LONGEST_COPY, "False", reason).await
    }

    async fn condition(&self, source: &str, bound: Duration, status: &str, reason: &str) -> Result<CachedImage> {
        until(format!("{source} to be Ready={status} ({reason})"), bound, async || {
            let image = self.cached_image(source).await?.context("there is no CachedImage of it")?;
            let ready =
                image.status.as_ref().and_then(CachedImageStatus::ready).context("it has no condition Ready")?;
            if ready.status == status && ready.reason == reason {
                return Ok(Some(image));
            }
            Err(anyhow!("Ready={} ({}): {}", ready.status, ready.reason, ready.message))
        })
        .await
    }
}

/// A pod in the namespace `default`, with these containers.
pub fn pod(name: &str, containers: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": { "containers": containers } })
}

/// The image of a pod's container, of whatever kind.
pub fn image_of<'a>(pod: &'a Pod, container: &str) -> Result<&'a str> {
    let spec = pod.spec.as_ref().context("the pod has no spec")?;
    let of = |containers: &'a [Container]| containers.iter().find(|found| found.name == container)?.image.as_deref();
    of(&spec.containers)
        .or_else(|| of(spec.init_containers.as_deref().unwrap_or_default()))
        .or_else(|| {
            let ephemeral = spec.ephemeral_containers.as_deref().unwrap_or_default();
            ephemeral.iter().find(|found| found.name == container)?.image.as_deref()
        })
        .with_context(|| format!("no container {container} with an image"))
}
