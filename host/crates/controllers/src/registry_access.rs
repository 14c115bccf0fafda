//! The credentials of the registry inside the cluster: made here, kept in a Secret, shown at every call.
//!
//! ```text
//!                   ┌── absent or of no use: patch, as it was seen ──┐
//!                   ▼                                                │
//!  Secret (the chart's) ──watch──▶ contents::lacking ────────────────┘
//!    │   │                             │ nothing
//!    │   └─▶ registry: htpasswd        ▼
//!    └─────▶ proxies: a line       Connections: our own line
//! ```
//!
//! The leader does it, who alone copies. Of two that both believe to lead, the slower one gets a conflict: a patch says
//! which resourceVersion it was made for. What is good is never written over, so credentials that a person or another
//! tool has put there stay.

mod contents;

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use cache_registry_core::Reason;
use cache_registry_registry::Connections;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Patch;
use kube::{Api, Client};
use kube_runtime::WatchStreamExt as _;
use kube_runtime::watcher::watch_object;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::lease::bounded;
use crate::patched_by_us;
use crate::plan::Failure;
use crate::settled::settled;
pub(crate) use contents::PROXY_LINE;

/// Keeps the Secret whole, and the connections in possession of what it says.
pub(crate) struct RegistryAccess {
    /// `None` where the registry lets everybody in.
    secret: Option<Place>,
    connections: Connections,
    standing: watch::Sender<Standing>,
}

/// Where the Secret is.
struct Place {
    secrets: Api<Secret>,
    namespace: String,
    name: String,
}

/// Whether the registry can be spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// The Secret was not read yet.
    Unknown,
    /// As far as it is up to us.
    Known,
    /// Why not, for whoever reads a status.
    Missing(String),
}

/// The standing, for who is about to call the registry.
#[derive(Debug, Clone)]
pub(crate) struct Access(watch::Receiver<Standing>);

/// Between a Secret that can't be written and the next attempt.
const PAUSE: Duration = Duration::from_secs(5);

impl RegistryAccess {
    /// With no name of a Secret, nobody is asked for credentials.
    pub(crate) fn new(client: Client, namespace: &str, name: Option<&str>, connections: Connections) -> Self {
        let secret = name.map(|name| Place {
            secrets: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        });
        let standing = if secret.is_some() { Standing::Unknown } else { Standing::Known };
        Self { secret, connections, standing: watch::Sender::new(standing) }
    }

    /// For who calls the registry.
    pub(crate) fn access(&self) -> Access {
        Access(self.standing.subscribe())
    }

    /// Reads the Secret at every change and fills in what it lacks, until it is dropped.
    pub(crate) async fn keep(&self) -> Infallible {
        let Some(place) = &self.secret else { return std::future::pending().await };
        loop {
            let mut changes = pin!(watch_object(place.secrets.clone(), &place.name).default_backoff());
            while let Some(change) = changes.next().await {
                match change {
                    Ok(Some(secret)) => {
                        if let Err(problem) = self.look(place, secret).await {
                            self.missing(problem);
                            break;
                        }
                    }
                    Ok(None) => self.missing(place.problem(ABSENT)),
                    Err(error) => self.missing(place.problem(format_args!("can't be watched: {error}. {MAY_IT}"))),
                }
            }
            // A new watch begins with the Secret as it is then.
            sleep(PAUSE).await;
        }
    }

    /// Uses what the Secret holds, or writes what it lacks; what was written comes back as the next change.
    async fn look(&self, place: &Place, secret: Secret) -> Result<(), String> {
        let held = secret.data.unwrap_or_default();
        let lacking = contents::lacking(&held).map_err(|error| format!("no password could be made: {error}"))?;
        if lacking.is_empty() {
            let own = contents::own(&held).map_err(|error| place.problem(format_args!("is of no use: {error}")))?;
            self.connections.set_cache_credentials(Some(own));
            if self.standing.send_replace(Standing::Known) != Standing::Known {
                tracing::info!(secret = place.name, "the registry's credentials are known");
            }
            return Ok(());
        }
        let keys = lacking.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let resource_version = secret.metadata.resource_version;
        let metadata = ObjectMeta { resource_version, ..ObjectMeta::default() };
        let patch = Secret { metadata, data: Some(lacking), ..Secret::default() };
        match bounded(place.secrets.patch(&place.name, &patched_by_us(), &Patch::Merge(&patch))).await {
            Ok(_) => tracing::info!(secret = place.name, keys, "made credentials of the registry that were lacking"),
            // Whoever changed it meanwhile is heard of next.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                tracing::info!(secret = place.name, keys, "the Secret has changed meanwhile");
            }
            Err(error) => {
                return Err(place.problem(format_args!("lacks {keys}, which can't be written: {error}. {MAY_IT}")));
            }
        }
        Ok(())
    }

    /// What was known stays known: the registry has not forgotten it.
    fn missing(&self, problem: String) {
        tracing::warn!(problem, "the registry's credentials can't be kept up to date; trying on");
        self.standing.send_if_modified(|standing| {
            let is_news = *standing != Standing::Known;
            if is_news {
                *standing = Standing::Missing(problem);
            }
            is_news
        });
    }
}

const ABSENT: &str = "does not exist. It is made by the chart, and the controllers fill it in: upgrade the release with helm, or make an \
     empty Secret of that name.";
const MAY_IT: &str = "Is the API server up, and may this ServiceAccount get, list, watch and patch that Secret?";

impl Place {
    fn problem(&self, what: impl std::fmt::Display) -> String {
        format!("the Secret {} in {}, of the registry's credentials, {what}", self.name, self.namespace)
    }
}

impl Access {
    /// Returns when the registry can be called; or why it can't. It is waited for while the Secret is being read.
    pub(crate) async fn granted(&self) -> Result<(), Failure> {
        let problem = match settled(&self.0, &Standing::Unknown).await {
            Some(Standing::Known) => return Ok(()),
            Some(Standing::Missing(problem)) => problem,
            _ => "the registry's credentials were not read yet: is the API server up?".to_owned(),
        };
        Err(Failure { reason: Reason::RegistryUnreachable, message: problem, retry_after: None })
    }
}

#[cfg(test)]
mod tests;
