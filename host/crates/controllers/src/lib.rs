//! Pods to `CachedImage`s, `CachedImage`s to copies, and the webhook's certificate; one leader.
//!
//! ```text
//!  pods, workloads ──watch──▶ Usage: what uses which images ──┐ a pod's source without a CachedImage: create
//!                                                             ▼
//!  CachedImages ──watch──▶ Reconciler ── plan(image, now, facts) ──▶ copy, check ──▶ registry
//!        ▲                     ▲                  │                       │
//!        └──── status, Event ──┼──────────────────┘                       │
//!                              └────────────── outcome ───────────────────┘
//!  nodes ──watch──▶ NodePlatforms: of which platforms images are copied
//!  the registry's Secret ──watch──▶ RegistryAccess: fills it in ──▶ credentials of every call to the registry
//!  the registry's StatefulSet ──watch──▶ Restorer: puts it back after a garbage collection that was cut
//!  a node's proxy ── POST ──▶ PullTokens: a token to pull with, from what the pull secrets of pods say
//! ```
//!
//! The registry is the truth about what is cached. A new leader believes no status: it asks the registry about every
//! image that is said to be there, and copies what is not. What failed is tried again, each image with pauses of its
//! own. An API server that can't be reached is waited for; nothing that runs needs it in the meantime.
//!
//! A replica that loses the Lease stops its work at once and stands by again; it goes on answering proxies. Copies that
//! are cut short this way, by a shutdown or by a crash leave nothing behind that shows: an image's tag is pushed last, and
//! `Ready` is only True after that. The next leader goes on with what the registry has already.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use cache_registry_core::{NodeAddress, PlatformChoice};
use cache_registry_registry::Connections;
use cache_registry_runtime::{Readiness, Shutdown};
use futures::future::OptionFuture;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use kube::api::{PatchParams, PostParams};
use kube::{Api, Client};
use kube_runtime::{WatchStreamExt as _, watcher};
use tokio::net::TcpListener;
use url::Url;

mod backoff;
mod capacity;
mod cluster;
mod collection;
mod copier;
mod events;
mod freshness;
mod index;
mod lease;
mod line;
mod metrics;
#[cfg(test)]
mod mock_api;
mod plan;
mod platforms;
mod pod_sources;
mod pull_secrets;
mod pull_tokens;
mod reconciler;
mod registry_access;
mod retention;
mod settled;
mod survey;
mod tracked;
mod turns;
mod usage;
mod webhook_certificate;
mod workloads;

use cluster::Cluster;
use collection::Restorer;
pub use collection::{CollectError, CollectionConfig, collect};
use copier::RegistryCopier;
use lease::{Leadership, Times};
pub use metrics::Metrics;
use platforms::NodePlatforms;
use pull_secrets::PullSecrets;
use pull_tokens::PullTokens;
use reconciler::{Reconciler, Settings};
use registry_access::RegistryAccess;
use survey::Survey;
use webhook_certificate::Keeper;
pub use webhook_certificate::WebhookCertificate;
use workloads::Kind;

/// Who writes, as the API server notes it beside every field.
const FIELD_MANAGER: &str = "cache-registry";

/// For a patch of ours.
fn patched_by_us() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// For an object that we make.
fn created_by_us() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

/// The Lease of the replica that leads.
const LEASE: &str = "cache-registry-controllers";

/// Pods and workloads are listed in pages of this many: a page is in memory whole, and so are few others at a time.
const PAGE: u32 = 250;

/// What the controllers work with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The namespace of the Lease.
    pub namespace: String,
    /// The name of this replica in the Lease and in Events: the pod's name. A random suffix is added for the Lease,
    /// since two processes of one identity would both lead.
    pub identity: String,
    /// Where nodes pull from.
    pub node_address: NodeAddress,
    /// The registry that images are copied into.
    pub registry: Url,
    /// The Secret of its credentials; `None` for a registry that lets everybody in.
    pub registry_credentials_secret: Option<String>,
    /// The `StatefulSet` of that registry, which a garbage collection stops; `None` for a registry that none does.
    pub registry_stateful_set: Option<String>,
    /// How many images are copied at once; at least one is.
    pub parallel_copies: usize,
    /// How long an image stays that nothing uses; an annotation of the `CachedImage` says otherwise for one.
    pub expiry_delay: Duration,
    /// How often upstream is asked what it means by a tag, nothing for never; an annotation of the `CachedImage` says
    /// otherwise for one.
    pub update_interval: Duration,
    /// How many bytes of images the registry may hold before unused ones go ahead of their time; `None` for any number.
    pub max_size: Option<u64>,
    /// Of which platforms images are copied.
    pub platforms: PlatformChoice,
    /// Whether what is about an image is copied with it: signatures, attestations, SBOMs.
    pub referrers: bool,
    /// How long a manifest stays that has lost its tag, and is then removed by its digest; `None` where the run of a garbage
    /// collection finds such manifests itself.
    pub remove_untagged_after: Option<Duration>,
    /// The webhook's certificate, where it is to be made here.
    pub webhook_certificate: Option<WebhookCertificate>,
    /// Whether the pull secrets of pods may be read.
    pub pull_secrets: bool,
}

/// Why the controllers ended before they were told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A bug. What was under way is unknown, so the process has to start anew.
    #[error("a task of the controllers panicked: {0}")]
    Panicked(#[from] tokio::task::JoinError),
    /// No proxy gets an answer any more, so the process has to start anew.
    #[error("answering proxies that ask for tokens: {0}")]
    PullTokens(#[from] io::Error),
}

/// Stands by until this replica holds the Lease, then does the controllers' work; until shutdown begins.
///
/// Not ready before the API server has answered, and on the replica that has just begun to lead, before all pods and
/// `CachedImage`s are known. `client` should have a connect timeout; every call made here is bounded beyond that.
///
/// Proxies are answered at `pull_tokens` all the while, where that is given and they have a password to show.
pub async fn run(
    client: Client,
    config: Config,
    connections: Connections,
    pull_tokens: Option<TcpListener>,
    shutdown: Shutdown,
    readiness: Readiness,
    metrics: Metrics,
) -> Result<(), Error> {
    let mut unreached = Some(readiness.hold("the API server"));
    let me = format!("{}_{:08x}", config.identity, fastrand::u32(..));
    let mut leadership = Leadership::new(client.clone(), &config.namespace, LEASE, me, Times::default());
    let certificate =
        config.webhook_certificate.map(|wanted| Keeper::new(&client, &config.namespace, wanted, metrics.clone()));
    let secret = config.registry_credentials_secret.as_deref();
    let access = RegistryAccess::new(client.clone(), &config.namespace, secret, connections.clone());
    let restorer = Restorer::new(
        client.clone(),
        &config.namespace,
        &config.identity,
        config.registry_stateful_set,
        metrics.collection.clone(),
    );
    let platforms = NodePlatforms::new(client.clone(), config.platforms);
    let pull_secrets = PullSecrets::new(client.clone(), config.pull_secrets);
    let tokens = secret.filter(|_| pull_tokens.is_some()).map(|secret| {
        let (node, connections) = (config.node_address.clone(), connections.clone());
        PullTokens::new(&client, &config.namespace, secret, node, pull_secrets.clone(), connections)
    });
    let mut serving = pin!(OptionFuture::from(tokens.as_ref().zip(pull_tokens).map(|(tokens, at)| tokens.serve(at))));
    let copier = Arc::new(RegistryCopier {
        connections,
        registry: config.registry.clone(),
        access: access.access(),
        gate: restorer.gate(),
        platforms: platforms.wanted(),
        referrers: config.referrers,
        pull_secrets,
        remove_untagged_after: config.remove_untagged_after,
        turns: turns::Turns::default(),
    });
    let settings = Settings {
        node: config.node_address.clone(),
        parallel_copies: config.parallel_copies,
        expiry_delay: config.expiry_delay,
        update_interval: config.update_interval,
        max_size: config.max_size,
        platforms: platforms.wanted(),
        remove_untagged_after: config.remove_untagged_after,
    };
    loop {
        let seen = tokens.as_ref().map(PullTokens::pods);
        tokio::select! {
            () = leadership.acquire(|| unreached = None) => {}
            () = shutdown.wait() => return Ok(()),
            Some(Err(error)) = &mut serving => return Err(error.into()),
            Some(never) = OptionFuture::from(seen.map(|pods| pods.watch(client.clone()))) => match never {},
        }
        metrics.leading(true);
        let ended = {
            let reconciler = Reconciler::new(
                Cluster::new(client.clone(), config.identity.clone()),
                Survey::new(client.clone(), config.node_address.clone()),
                copier.clone(),
                settings.clone(),
                metrics.clone(),
                readiness.hold("all pods and CachedImages"),
            );
            let paged = watcher::Config::default().page_size(PAGE);
            let pods = watcher(Api::all(client.clone()), paged.clone()).default_backoff();
            let pods = pods.inspect_ok(|event| seen.into_iter().for_each(|pods| pods.see(event)));
            let workloads = stream::select_all(Kind::ALL.map(|kind| {
                let events = watcher(Api::all_with(client.clone(), &kind.resource()), paged.clone()).default_backoff();
                events.map(move |event| (kind, event)).boxed()
            }));
            let images = watcher(Api::all(client.clone()), watcher::Config::default());
            tokio::select! {
                () = leadership.keep() => Ended::Lost,
                Some(never) = OptionFuture::from(certificate.as_ref().map(Keeper::run)) => match never {},
                () = shutdown.wait() => Ended::Shutdown,
                never = access.keep() => match never {},
                never = restorer.keep() => match never {},
                never = platforms.keep() => match never {},
                Some(Err(error)) = &mut serving => return Err(error.into()),
                panicked = reconciler.run(pods, workloads, images.default_backoff()) => Ended::Panicked(panicked),
            }
        };
        // The work was dropped with the block above: it has stopped before anyone else can begin it.
        metrics.leading(false);
        metrics.forget();
        metrics.collection.forget();
        match ended {
            Ended::Lost => {}
            Ended::Shutdown => {
                leadership.release().await;
                return Ok(());
            }
            Ended::Panicked(error) => return Err(error.into()),
        }
    }
}

/// How a reign ended.
enum Ended {
    Lost,
    Shutdown,
    Panicked(tokio::task::JoinError),
}
