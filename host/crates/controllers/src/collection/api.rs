use std::collections::BTreeMap;
use std::time::Duration;

use cache_registry_api::labels::{COLLECTION_ANNOTATION, COLLECTION_RUN_ANNOTATION, LAST_COLLECTION_ANNOTATION};
use cache_registry_api::{CollectionRecord, CollectionReport};
use futures::{AsyncBufReadExt as _, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, LogParams, Patch, Preconditions};
use kube::{Api, Client, Resource as _, ResourceExt};
use kube_runtime::events::{Event, EventType};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::freed::{self, Freed};
use super::job;
use super::name_of;
use super::step::{Observed, Step};
use crate::events::Events;
use crate::lease::bounded;
use crate::{created_by_us, patched_by_us};

/// A log has a line for each blob.
const LONGEST_LOG: Duration = Duration::from_secs(30);

/// The label that Kubernetes gives the pods of a Job.
const JOB_NAME_LABEL: &str = "batch.kubernetes.io/job-name";

/// The registry and the Job of a garbage collection, at the API server.
pub(crate) struct Objects {
    stateful_sets: Api<StatefulSet>,
    jobs: Api<Job>,
    pods: Api<Pod>,
    events: Events,
    name: String,
}

/// What stands there.
pub(crate) struct Sight {
    pub(crate) observed: Observed,
    stateful_set: StatefulSet,
    job: Option<Job>,
    job_pods: Vec<Pod>,
}

/// What a step takes beyond what is seen.
#[derive(Debug, Default)]
pub(crate) struct Means {
    /// The run that stops the registry.
    pub(crate) run: String,
    /// The Job to create, without a name.
    pub(crate) job: Job,
    /// For how long it may run.
    pub(crate) deadline: Duration,
    /// What it found, to be told when the registry is put back.
    pub(crate) freed: Option<Freed>,
}

impl Objects {
    /// `stateful_set` is the registry's; `identity` is named as the reporter of Events.
    pub(crate) fn new(client: Client, namespace: &str, stateful_set: &str, identity: &str) -> Self {
        Self {
            stateful_sets: Api::namespaced(client.clone(), namespace),
            jobs: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client.clone(), namespace),
            events: Events::new(client, identity.to_owned()),
            name: stateful_set.to_owned(),
        }
    }

    /// Looks at all of them. The `StatefulSet` is first: pods that are counted later are none of an earlier wish.
    pub(crate) async fn look(&self) -> kube::Result<Sight> {
        let stateful_set = bounded(self.stateful_sets.get(&self.name)).await?;
        let job = bounded(self.jobs.get_opt(&name_of(&self.name))).await?;
        let spec = stateful_set.spec.clone().unwrap_or_default();
        let selector = spec.selector.match_labels.unwrap_or_default();
        let registry_pods = self.list(&selector).await?;
        let job_pods = self.list(&BTreeMap::from([(JOB_NAME_LABEL.to_owned(), name_of(&self.name))])).await?;

        let replicas = spec.replicas.unwrap_or(1);
        let status = stateful_set.status.clone().unwrap_or_default();
        // A controller that has not seen the last change yet may still make a pod by the one before.
        let is_heard = status.observed_generation >= stateful_set.metadata.generation;
        let observed = Observed {
            replicas,
            record: stateful_set.annotations().get(COLLECTION_ANNOTATION).map(|text| CollectionRecord::read(text)),
            ready: is_heard && status.ready_replicas.unwrap_or(0) >= replicas,
            registry_pods: job::alive(&registry_pods) + usize::from(!is_heard),
            job: job.as_ref().map(|job| job::observed(job, &job_pods)),
            job_pods: job::alive(&job_pods),
        };
        Ok(Sight { observed, stateful_set, job, job_pods })
    }

    async fn list(&self, labels: &BTreeMap<String, String>) -> kube::Result<Vec<Pod>> {
        let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Ok(bounded(self.pods.list(&ListParams::default().labels(&labels.join(",")))).await?.items)
    }

    /// Does a step that was decided on what was seen; the API server refuses it (409) where that is so no more.
    pub(crate) async fn act(&self, step: &Step, seen: &Sight, means: &Means) -> kube::Result<()> {
        let record = seen.observed.record.as_ref();
        match step {
            Step::Stop => {
                let record = CollectionRecord {
                    replicas: seen.observed.replicas,
                    who: means.run.clone(),
                    since: Timestamp::now(),
                };
                let record = json!({ COLLECTION_ANNOTATION: text(&record) });
                self.scale(seen, 0, &record).await
            }
            Step::ServeReads => self.scale(seen, seen.observed.wanted(), &json!({})).await,
            Step::PutBack => {
                let mut annotations = json!({ COLLECTION_ANNOTATION: null });
                if let (Some(freed), Some(record)) = (means.freed, record) {
                    annotations[LAST_COLLECTION_ANNOTATION] = text(&report(freed, record, Timestamp::now()));
                }
                self.scale(seen, seen.observed.wanted(), &annotations).await
            }
            Step::CreateJob => bounded(self.jobs.create(&created_by_us(), &self.job(seen, means))).await.map(drop),
            Step::StartJob => {
                let version = seen.job.as_ref().and_then(ResourceExt::resource_version);
                let patch = json!({ "metadata": { "resourceVersion": version }, "spec": { "suspend": false } });
                bounded(self.jobs.patch(&name_of(&self.name), &patched_by_us(), &Patch::Merge(patch))).await.map(drop)
            }
            Step::DeleteJob => {
                let uid = seen.job.as_ref().and_then(ResourceExt::uid);
                let this_one = Preconditions { uid, resource_version: None };
                // It is there until its pods are gone.
                let how = DeleteParams::foreground().preconditions(this_one);
                match bounded(self.jobs.delete(&name_of(&self.name), &how)).await {
                    Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                    deleted => deleted.map(drop),
                }
            }
            Step::Wait(_) | Step::Done | Step::GiveUp(_) => Ok(()),
        }
    }

    /// Changes the `StatefulSet` as it was seen, in one write.
    async fn scale(&self, seen: &Sight, replicas: i32, annotations: &Value) -> kube::Result<()> {
        let patch = Patch::Merge(json!({
            "metadata": { "resourceVersion": seen.stateful_set.resource_version(), "annotations": annotations },
            "spec": { "replicas": replicas },
        }));
        bounded(self.stateful_sets.patch(&self.name, &patched_by_us(), &patch)).await.map(drop)
    }

    fn job(&self, seen: &Sight, means: &Means) -> Job {
        let mut job = means.job.clone();
        job.metadata.name = Some(name_of(&self.name));
        job.annotations_mut().insert(COLLECTION_RUN_ANNOTATION.to_owned(), means.run.clone());
        // So that it goes with the registry, whatever becomes of the run.
        job.metadata.owner_references = seen.stateful_set.owner_ref(&()).map(|owner| vec![owner]);
        let spec = job.spec.get_or_insert_default();
        spec.suspend = Some(true);
        spec.backoff_limit = Some(0);
        spec.active_deadline_seconds = Some(means.deadline.as_secs().try_into().unwrap_or(i64::MAX));
        job
    }

    /// How much the Job has removed: as its containers measured it, or as the log of the one that works on a bucket says.
    /// `None` where nobody tells.
    pub(crate) async fn freed(&self, seen: &Sight) -> Option<Freed> {
        if let Some((before, after)) = job::sizes(&seen.job_pods) {
            return Some(Freed::between(before, after));
        }
        let (pod, container) = freed::worker(&seen.job_pods)?;
        match timeout(LONGEST_LOG, self.told_by_log(&pod, container)).await {
            Ok(Ok(freed)) => freed,
            Ok(Err(error)) => {
                tracing::warn!(%error, pod, "how much was removed is not known: the log of the Job's pod can't be read");
                None
            }
            Err(_) => {
                tracing::warn!(
                    pod,
                    "how much was removed is not known: the log of the Job's pod takes too long to read"
                );
                None
            }
        }
    }

    async fn told_by_log(&self, pod: &str, container: String) -> kube::Result<Option<Freed>> {
        let of = LogParams { container: Some(container), ..LogParams::default() };
        let mut lines = self.pods.log_stream(pod, &of).await?.lines();
        while let Some(line) = lines.next().await {
            if let Some(freed) = Freed::told_by(&line.map_err(kube::Error::ReadEvents)?) {
                return Ok(Some(freed));
            }
        }
        Ok(None)
    }

    /// Tells something of the registry by an Event.
    pub(crate) async fn tell(&self, seen: &Sight, type_: EventType, reason: &str, note: &str) {
        let (reason, note, action) = (reason.to_owned(), Some(note.to_owned()), "CollectGarbage".to_owned());
        let event = Event { type_, reason, note, action, secondary: None };
        self.events.tell(&seen.stateful_set.object_ref(&()), event).await;
    }
}

impl Sight {
    /// What the `StatefulSet` tells of the last run that succeeded.
    pub(crate) fn report(&self) -> Option<CollectionReport> {
        self.stateful_set.annotations().get(LAST_COLLECTION_ANNOTATION).and_then(|text| CollectionReport::read(text))
    }
}

/// As an annotation has it.
fn text(value: &impl serde::Serialize) -> Value {
    serde_json::to_string(value).map(Value::from).unwrap_or_default()
}

fn report(freed: Freed, record: &CollectionRecord, now: Timestamp) -> CollectionReport {
    CollectionReport {
        ended: now,
        seconds: now.duration_since(record.since).as_secs().try_into().unwrap_or(0),
        freed_blobs: freed.blobs,
        freed_bytes: freed.bytes,
        kept_blobs: freed.kept.map(|kept| kept.blobs),
        kept_bytes: freed.kept.map(|kept| kept.bytes),
    }
}
