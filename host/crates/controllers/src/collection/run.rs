use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cache_registry_api::CollectionReport;
use cache_registry_runtime::Shutdown;
use cache_registry_runtime::traces::TRACES;
use k8s_openapi::api::batch::v1::Job;
use kube::Client;
use kube_runtime::events::EventType;
use tokio::time::timeout;
use tracing::Instrument as _;

use super::api::{Means, Objects, Sight};
use super::drive::{Reached, drive};
use super::name_of;
use super::step::Goal;
use crate::lease::{Leadership, Times};

/// How long a run waits for the Lease: longer than one that nobody renews is held.
const LONGEST_FOR_LEASE: Duration = Duration::from_secs(25);

/// How long it takes, at most, to put the registry back. Then it is left to the controllers.
const LONGEST_TO_PUT_BACK: Duration = Duration::from_mins(4);

/// What a run of a garbage collection works with.
#[derive(Debug, Clone)]
pub struct CollectionConfig {
    /// The namespace of all of it.
    pub namespace: String,
    /// The name of this run in the Lease, the record and Events: the pod's name.
    pub identity: String,
    /// The registry's `StatefulSet`. The Lease and the Job are called as it is, with `-gc`.
    pub stateful_set: String,
    /// A file with the Job that removes, YAML.
    pub job: PathBuf,
    /// For how long it may run.
    pub deadline: Duration,
}

/// Why nothing was collected.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The Job can't be read.
    #[error("{}: {why}; the chart makes it", file.display())]
    Job {
        /// Where it is.
        file: PathBuf,
        /// Why not.
        why: String,
    },
    /// Another run is under way.
    #[error(
        "{0} holds the Lease {1}: a garbage collection is under way, or the controllers end one that was cut. Try again when that is done"
    )]
    Held(String, String),
    /// Nobody could be asked.
    #[error(
        "the Lease {0} could not be read or taken in time: is the API server up, and may this ServiceAccount get, update and patch it?"
    )]
    NoLease(String),
    /// Another may have taken over.
    #[error("the Lease {0} could not be renewed in time, so this run is over; the controllers put the registry back")]
    Lost(String),
    /// It was told to.
    #[error("this run was told to end before it was done; the registry is back, and the next run begins anew")]
    Stopped,
    /// Something was in the way.
    #[error("{0}. The registry is back, and the next run begins anew")]
    GivenUp(String),
    /// And the registry is not back.
    #[error("{0}. The controllers go on from here")]
    NotPutBack(String),
}

/// Stops the registry, has the Job remove what nothing needs, puts the registry back, and tells what was freed. Whatever
/// happens in between, the registry is put back; should this process be killed, the controllers do it.
pub async fn collect(
    client: Client,
    config: CollectionConfig,
    shutdown: Shutdown,
) -> Result<Option<CollectionReport>, CollectError> {
    let lease = name_of(&config.stateful_set);
    let run = format!("{}_{:08x}", config.identity, fastrand::u32(..));
    let means = Means { run: run.clone(), job: read(&config.job)?, deadline: config.deadline, freed: None };
    let mut leadership = Leadership::new(client.clone(), &config.namespace, &lease, run, Times::default());
    tokio::select! {
        acquired = timeout(LONGEST_FOR_LEASE, leadership.acquire(|| {})) => if acquired.is_err() {
            return Err(leadership.holder().map_or_else(
                || CollectError::NoLease(lease.clone()),
                |holder| CollectError::Held(holder.to_owned(), lease.clone()),
            ));
        },
        () = shutdown.wait() => return Err(CollectError::Stopped),
    }
    let objects = Objects::new(client, &config.namespace, &config.stateful_set, &config.identity);
    let span = tracing::info_span!(target: TRACES, "collect", stateful_set = config.stateful_set);
    let ended = tokio::select! {
        ended = work(&objects, means, shutdown).instrument(span) => ended,
        () = leadership.keep() => return Err(CollectError::Lost(lease)),
    };
    leadership.release().await;
    ended
}

/// The work of a run that holds the Lease.
async fn work(
    objects: &Objects,
    mut means: Means,
    shutdown: Shutdown,
) -> Result<Option<CollectionReport>, CollectError> {
    let goal = Goal::Collect { run: means.run.clone() };
    let collected = tokio::select! {
        collected = drive(objects, &goal, &means) => collected.map_err(CollectError::GivenUp),
        () = shutdown.wait() => Err(CollectError::Stopped),
    };
    if let Err(error) = &collected {
        tracing::warn!(%error, "nothing more is collected; the registry is put back");
    }
    if let Ok(reached) = &collected {
        means.freed = objects.freed(&reached.sight).await;
    }
    // Boxed: what is seen is large, and whoever awaits this would carry it.
    let restoring = Box::pin(drive(objects, &Goal::Restore, &means));
    let put_back = match timeout(LONGEST_TO_PUT_BACK, restoring).await {
        Ok(Ok(put_back)) => put_back,
        Ok(Err(why)) => return Err(CollectError::NotPutBack(why)),
        Err(_) => return Err(CollectError::NotPutBack("the registry could not be put back in time".to_owned())),
    };
    tell(objects, &put_back.sight, collected, means.freed.is_some()).await
}

/// Says how it went, in the log and by an Event.
async fn tell(
    objects: &Objects,
    sight: &Sight,
    collected: Result<Reached, CollectError>,
    is_known: bool,
) -> Result<Option<CollectionReport>, CollectError> {
    if let Err(error) = collected {
        objects.tell(sight, EventType::Warning, "GarbageCollectionFailed", &error.to_string()).await;
        return Err(error);
    }
    let report = sight.report().filter(|_| is_known);
    let words = report.as_ref().map_or_else(
        || "Garbage was collected; how much is not known, because the Job's pod does not tell.".to_owned(),
        words,
    );
    tracing::info!("{words}");
    objects.tell(sight, EventType::Normal, "GarbageCollected", &words).await;
    Ok(report)
}

fn words(report: &CollectionReport) -> String {
    let CollectionReport { seconds, freed_blobs, freed_bytes, kept_blobs, kept_bytes, .. } = report;
    let freed = match freed_bytes {
        Some(bytes) => format!("{} in {freed_blobs} blobs", megabytes(*bytes)),
        None => format!("{freed_blobs} blobs"),
    };
    let kept = match (kept_bytes, kept_blobs) {
        (Some(bytes), Some(blobs)) => format!("; {} in {blobs} blobs are kept", megabytes(*bytes)),
        _ => String::new(),
    };
    format!("Freed {freed}{kept}. The registry was away for {seconds} s.")
}

fn megabytes(bytes: u64) -> String {
    let tenths = bytes / 100_000;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

fn read(file: &Path) -> Result<Job, CollectError> {
    let job = fs::read_to_string(file).map_err(|error| error.to_string());
    let job = job.and_then(|yaml| serde_saphyr::from_str(&yaml).map_err(|error| error.to_string()));
    job.map_err(|why| CollectError::Job { file: file.to_owned(), why })
}
