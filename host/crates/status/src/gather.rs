use std::time::Duration;

use cache_registry_api::labels::{COLLECTION_ANNOTATION, LAST_COLLECTION_ANNOTATION};
use cache_registry_api::{CachedImage, CollectionRecord, CollectionReport};
use futures::stream::{self, StreamExt as _};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, ListParams, Object};
use kube::{Api, Client, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::samples::Samples;
use crate::standing::{Registry, Seen};

/// Each call is given up after this long.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a proxy may take: there may be hundreds, and one that does not answer says something as well.
const PROXY_PATIENCE: Duration = Duration::from_secs(5);
const PROXIES_AT_ONCE: usize = 16;
/// `CachedImage`s are listed in pages of this many.
const PAGE: u32 = 500;

/// Looks at the release in this namespace.
pub(crate) async fn gather(client: &Client, namespace: &str) -> Result<Seen, Error> {
    let (images, registry, proxies) =
        tokio::try_join!(images(client), registry(client, namespace), proxies(client, namespace))?;
    Ok(Seen { images, registry, proxies })
}

async fn images(client: &Client) -> Result<Vec<CachedImage>, Error> {
    let api: Api<CachedImage> = Api::all(client.clone());
    let mut page = ListParams::default().limit(PAGE);
    let mut images = Vec::new();
    loop {
        let list = match list(&api, &page, "CachedImages").await {
            Err(Error::Unseen { error, .. }) if is_not_found(&error) => return Err(Error::NotInstalled),
            list => list?,
        };
        images.extend(list.items);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(images),
        }
    }
}

/// What is looked at of a `StatefulSet`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Replicas {
    #[serde(default)]
    replicas: Option<i32>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ready {
    #[serde(default)]
    ready_replicas: Option<i32>,
}

/// What is looked at of a `CronJob`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Schedule {
    schedule: String,
    #[serde(default)]
    suspend: Option<bool>,
}

async fn registry(client: &Client, namespace: &str) -> Result<Option<Registry>, Error> {
    let sets: Api<Object<Replicas, Ready>> =
        Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<StatefulSet>(&()));
    let Some(set) = list(&sets, &of_role("registry"), "StatefulSets").await?.items.into_iter().next() else {
        return Ok(None);
    };
    let jobs: Api<Object<Schedule, Ready>> =
        Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<CronJob>(&()));
    let job = list(&jobs, &of_role("gc"), "CronJobs").await?.items.into_iter().next();
    let schedule = job.map(|job| match job.spec.suspend {
        Some(true) => format!("{} (suspended)", job.spec.schedule),
        _ => job.spec.schedule,
    });
    Ok(Some(Registry {
        replicas: set.spec.replicas.unwrap_or(1),
        ready: set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0),
        collecting: set.annotations().get(COLLECTION_ANNOTATION).map(|text| CollectionRecord::read(text)),
        last_collection: set
            .annotations()
            .get(LAST_COLLECTION_ANNOTATION)
            .and_then(|text| CollectionReport::read(text)),
        schedule,
    }))
}

/// What is looked at of a proxy's pod.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Containers {
    containers: Vec<Container>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    #[serde(default)]
    readiness_probe: Option<Probe>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    #[serde(default)]
    http_get: Option<HttpGet>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct HttpGet {
    port: u16,
}

async fn proxies(client: &Client, namespace: &str) -> Result<Vec<Result<Samples, String>>, Error> {
    let pods: Api<Object<Containers, Ready>> =
        Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<Pod>(&()));
    let pods = list(&pods, &of_role("proxy").fields("status.phase=Running"), "Pods").await?.items;
    let asking = pods.into_iter().map(|pod| async move {
        let told = tokio::time::timeout(PROXY_PATIENCE, metrics(client, &pod)).await;
        let told = told.unwrap_or_else(|_| Err(format!("it did not answer within {PROXY_PATIENCE:?}")));
        told.map_err(|problem| format!("{}: {problem}", pod.name_any()))
    });
    Ok(stream::iter(asking).buffered(PROXIES_AT_ONCE).collect().await)
}

/// Its metrics, by way of the API server: whoever looks need not be in the cluster's network.
async fn metrics(client: &Client, pod: &Object<Containers, Ready>) -> Result<Samples, String> {
    // A pod in its node's network names no ports; the admin port is the one that it is probed on.
    let probes =
        pod.spec.containers.iter().filter_map(|container| container.readiness_probe.as_ref()?.http_get.as_ref());
    let port = probes.map(|get| get.port).next().ok_or("it has no readiness probe")?;
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy/metrics");
    let request = http::Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
    client.request_text(request).await.map(|page| Samples::read(&page)).map_err(|error| match &error {
        kube::Error::Api(refusal) if refusal.code == 403 => "you may not `get` `pods/proxy`".to_owned(),
        _ => error.to_string(),
    })
}

fn of_role(role: &str) -> ListParams {
    ListParams::default().labels(&format!("app.kubernetes.io/component={role}"))
}

async fn list<K>(api: &Api<K>, wanted: &ListParams, what: &'static str) -> Result<kube::core::ObjectList<K>, Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let unseen = |error| Error::Unseen { what, error: Box::new(error) };
    match tokio::time::timeout(PATIENCE, api.list(wanted)).await {
        Ok(list) => list.map_err(unseen),
        Err(_) => Err(Error::Silent { what, patience: PATIENCE }),
    }
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(refusal) if refusal.code == 404)
}
