//! Runs of a garbage collection on a cluster: begun by hand, watched, and cut.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cache_registry_api::labels::COLLECTION_ANNOTATION;
use cache_registry_bed::cluster::Cluster;
use cache_registry_bed::until;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use rustix::process::{Pid, Signal, kill_process};

use crate::processes::processes_of;
use crate::release::{NAMESPACE, RELEASE};

/// How long anything of a run may take, on a machine that is busy.
const LONGEST: Duration = Duration::from_mins(2);

/// The registry's `StatefulSet`.
pub const REGISTRY: &str = "cache-registry-registry";

/// The Job that removes.
pub const REMOVING: &str = "cache-registry-registry-gc";

/// How far a run is, as whoever looks sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// It has not stopped the registry yet.
    Begun,
    /// The registry is to stop.
    Stopped,
    /// The Job is there.
    Made,
    /// The Job runs.
    Removing,
    /// The Job has ended, and the registry is not back.
    Removed,
    /// The registry is to be there again.
    Back,
}

impl Moment {
    /// All of them, in their order.
    pub const ALL: [Self; 6] = [Self::Begun, Self::Stopped, Self::Made, Self::Removing, Self::Removed, Self::Back];
}

/// A run that was begun.
pub struct Run<'c> {
    cluster: &'c Cluster,
    name: String,
    /// True once it was seen to have stopped the registry.
    was_away: AtomicBool,
}

impl<'c> Run<'c> {
    /// As the docs say that one is begun by hand.
    pub async fn begin(cluster: &'c Cluster, name: &str) -> Result<Self> {
        let from = format!("--from=cronjob/{RELEASE}-gc");
        cluster.kubectl(&["create", "job", "--namespace", NAMESPACE, &from, name]).await?;
        Ok(Self { cluster, name: name.to_owned(), was_away: AtomicBool::new(false) })
    }

    /// Waits until it has ended, and gives what its pod said last: of a run that succeeded nothing.
    pub async fn ended(&self) -> Result<Result<(), String>> {
        let jobs: Api<Job> = Api::namespaced(self.cluster.client(), NAMESPACE);
        until(format!("{} to end", self.name), LONGEST, async || {
            let status = jobs.get(&self.name).await?.status.context("no status")?;
            if status.succeeded == Some(1) {
                return Ok(Some(Ok(())));
            }
            let conditions = status.conditions.unwrap_or_default();
            if conditions.iter().any(|condition| condition.type_ == "Failed" && condition.status == "True") {
                return Ok(Some(Err(self.last_words().await.unwrap_or_default())));
            }
            Ok(None)
        })
        .await
    }

    async fn last_words(&self) -> Result<String> {
        let status = self.pod().await?.status.context("no status")?;
        let state = status.container_statuses.unwrap_or_default().into_iter().find_map(|container| container.state);
        Ok(state.and_then(|state| state.terminated?.message).unwrap_or_default())
    }

    /// Waits until it is this far, at least.
    pub async fn reaches(&self, moment: Moment) -> Result<()> {
        until(format!("{} to be {moment:?}", self.name), LONGEST, async || {
            let now = self.now().await?;
            Ok((now >= moment && self.process().await.is_ok()).then_some(()))
        })
        .await
    }

    /// How far it is now.
    pub async fn now(&self) -> Result<Moment> {
        let jobs: Api<Job> = Api::namespaced(self.cluster.client(), NAMESPACE);
        if !registry(self.cluster).await?.annotations().contains_key(COLLECTION_ANNOTATION) {
            return Ok(if self.was_away.load(Ordering::Relaxed) { Moment::Back } else { Moment::Begun });
        }
        self.was_away.store(true, Ordering::Relaxed);
        let Some(job) = jobs.get_opt(REMOVING).await? else { return Ok(Moment::Stopped) };
        let (spec, status) = (job.spec.unwrap_or_default(), job.status.unwrap_or_default());
        Ok(if status.succeeded == Some(1) || job.metadata.deletion_timestamp.is_some() {
            Moment::Removed
        } else if spec.suspend == Some(false) && status.active.unwrap_or(0) > 0 {
            Moment::Removing
        } else {
            Moment::Made
        })
    }

    /// Its process, once it runs.
    async fn process(&self) -> Result<Pid> {
        let uid = self.pod().await?.uid().context("a pod without a uid")?;
        let processes = processes_of(&uid, &["/usr/bin/cache-registry", "gc"]);
        processes.first().copied().context("its process does not run")
    }

    /// Kills its process, which has no time to do anything then. False where it had ended.
    pub async fn kill(&self) -> Result<bool> {
        let Ok(process) = self.process().await else { return Ok(false) };
        Ok(kill_process(process, Signal::KILL).is_ok())
    }

    /// Deletes its pod: at once, or with the time that it has to end. The Job that made it is deleted too, so that it makes
    /// no other.
    pub async fn delete(&self, at_once: bool) -> Result<()> {
        let mut how = DeleteParams::background();
        if at_once {
            let pods: Api<Pod> = Api::namespaced(self.cluster.client(), NAMESPACE);
            pods.delete(&self.pod().await?.name_any(), &DeleteParams::default().grace_period(0)).await?;
            how = how.grace_period(0);
        }
        let jobs: Api<Job> = Api::namespaced(self.cluster.client(), NAMESPACE);
        jobs.delete(&self.name, &how).await?;
        Ok(())
    }

    async fn pod(&self) -> Result<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client(), NAMESPACE);
        let its = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={}", self.name));
        pods.list(&its).await?.items.into_iter().next().with_context(|| format!("no pod of {}", self.name))
    }
}

/// The registry's `StatefulSet` as it is.
pub async fn registry(cluster: &Cluster) -> Result<StatefulSet> {
    let stateful_sets: Api<StatefulSet> = Api::namespaced(cluster.client(), NAMESPACE);
    Ok(stateful_sets.get(REGISTRY).await?)
}

/// Waits until the registry is ready, with no record and no Job, and says how long that took.
pub async fn restored(cluster: &Cluster) -> Result<Duration> {
    restored_to(cluster, 1).await
}

/// The same for a registry of so many replicas.
pub async fn restored_to(cluster: &Cluster, replicas: i32) -> Result<Duration> {
    let began = Instant::now();
    let jobs: Api<Job> = Api::namespaced(cluster.client(), NAMESPACE);
    let pods: Api<Pod> = Api::namespaced(cluster.client(), NAMESPACE);
    until("the registry to be back", LONGEST, async || {
        let registry = registry(cluster).await?;
        ensure!(!registry.annotations().contains_key(COLLECTION_ANNOTATION), "the record is still there");
        let (spec, status) = (registry.spec.context("no spec")?, registry.status.context("no status")?);
        ensure!(status.observed_generation == registry.metadata.generation, "its controller has not seen it");
        let (wanted, ready) = (spec.replicas, status.ready_replicas);
        ensure!(wanted == Some(replicas) && ready == Some(replicas), "{ready:?} of {wanted:?} are ready");
        ensure!(jobs.get_opt(REMOVING).await?.is_none(), "the Job is still there");
        // A pod that is ending counts as ready until it has ended, and only then is there another one.
        let pods = pods.list(&ListParams::default().labels("app.kubernetes.io/component=registry")).await?.items;
        ensure!(i32::try_from(pods.len())? == replicas, "{} pods of the registry", pods.len());
        for pod in &pods {
            let name = pod.name_any();
            ensure!(pod.metadata.deletion_timestamp.is_none(), "{name} is ending");
            let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let is_ready = conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
            ensure!(is_ready, "{name} is not ready");
        }
        Ok(Some(()))
    })
    .await?;
    Ok(began.elapsed())
}
