use std::time::Duration;

use backon::ExponentialBuilder;
use cache_registry_api::labels::{POLICY_LABEL, POLICY_VALUE};
use cache_registry_registry::Connections;
use cache_registry_runtime::{Handle, Shutdown};
use kube::{Api, Client};
use kube_runtime::watcher::ExponentialBackoff;
use kube_runtime::{WatchStreamExt as _, watcher};

use crate::ReloadableSet;
use crate::announcements::Announcements;
use crate::events::Announcer;
use crate::image::Registries;
use crate::reloader::Reloader;

/// Where policies come from.
#[derive(Debug, Clone)]
pub struct Config {
    /// The release's namespace: of the `ConfigMap`s, the pull secrets and the Events.
    pub namespace: String,
    /// The pod, which Events name as who tells them, and what they are about where no `ConfigMap` is to blame.
    pub identity: Option<String>,
    /// How often it is looked at what the tags of policies' images name.
    pub image_interval: Duration,
}

/// Why it ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A bug. What was under way is unknown, so the process has to start anew.
    #[error("a task that loads policies panicked: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// `ConfigMap`s are listed in pages of this many: each may have a megabyte, and a page is in memory whole.
const PAGE: u32 = 10;

/// How soon it is tried to watch again. One watch a replica is no load for an API server that is just coming back.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Keeps the set what the `ConfigMap`s of the release's namespace say, until shutdown begins.
///
/// `ready` is dropped when what there is at the start is in force: the API server was reached, and each policy was
/// loaded or refused. A policy that takes longer than 30 s is not waited for.
pub async fn run(
    client: Client,
    config: Config,
    mut set: ReloadableSet,
    connections: Connections,
    shutdown: Shutdown,
    ready: Handle,
) -> Result<(), Error> {
    let Some(failures) = set.failures.take() else { return Ok(()) };
    let Config { namespace, identity, image_interval } = config;
    let instance = identity.clone().unwrap_or_else(|| "cache-registry-webhook".to_owned());
    let (announcer, tell) = Announcer::new(client.clone(), &namespace, instance);
    let announcements = Announcements::new(announcer, &namespace, identity);
    let registries = Registries::new(connections, client.clone(), &namespace);
    let (reloader, reports) = Reloader::new(set, registries, image_interval, announcements, ready);

    let backoff = ExponentialBuilder::new().with_min_delay(FIRST_PAUSE).with_max_delay(LONGEST_PAUSE);
    let backoff = ExponentialBackoff::from(backoff.with_factor(2.0).with_jitter().without_max_times());
    let selected = watcher::Config::default().labels(&format!("{POLICY_LABEL}={POLICY_VALUE}")).page_size(PAGE);
    let configmaps = watcher(Api::namespaced(client, &namespace), selected).backoff(backoff);
    tokio::select! {
        error = reloader.run(configmaps, reports, failures) => Err(error.into()),
        () = tell => Ok(()),
        () = shutdown.wait() => Ok(()),
    }
}
