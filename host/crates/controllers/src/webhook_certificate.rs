//! The webhook's certificate, where no cert-manager makes one.
//!
//! ```text
//!                             ┌── trusted first ──▶ caBundle of the MutatingWebhookConfiguration ──▶ API server
//! plan ── issue: a new CA ────┤   (the new CA beside the ones that have not expired)
//!          and what it signs  └── served then ────▶ Secret ── kubelet ──▶ files ──▶ webhook
//! ```
//!
//! In this order, and with a pause between the two that API servers need to hear of a new CA, no review meets a
//! certificate that its API server does not trust, at whatever point this is cut short: a CA that is trusted and of
//! which nothing else is known any more does no harm, because its key was never written down. The old CA stays trusted
//! until it expires, since webhooks serve what it signed until their kubelets bring them the new files, which takes
//! a minute or two.
//!
//! Whoever leads does this. Both objects are watched: what somebody takes out is put back at once.

use std::convert::Infallible;
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Patch;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt as _};
use kube_runtime::{WatchStreamExt as _, watcher};
use serde_json::json;
use tokio::time::sleep;

use crate::lease::bounded;
use crate::metrics::Metrics;
use crate::patched_by_us;

mod issue;
mod plan;

use issue::{Issued, issue};
use plan::{Held, Step, plan};

/// The keys of the Secret: those of type `kubernetes.io/tls`, and the CAs.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITIES: &str = "ca.crt";

/// Between the trust in a new CA and the first certificate of it: how long an API server takes, at most, to hear of a
/// changed `MutatingWebhookConfiguration`, with much to spare.
const SETTLE: Duration = Duration::from_secs(5);

/// After something that failed.
const RETRY: Duration = Duration::from_secs(5);

/// The longest time without a look: clocks can be set.
const LONGEST_REST: Duration = Duration::from_hours(1);

/// Which certificate is made for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookCertificate {
    /// The Secret, in the release's namespace. It has to exist.
    pub secret: String,
    /// The webhook's Service, in the release's namespace, by whose name the API server calls it.
    pub service: String,
    /// The `MutatingWebhookConfiguration` whose webhooks trust the certificate.
    pub configuration: String,
    /// How long a certificate is valid. It is renewed when two thirds of that are over.
    pub life: Duration,
}

/// Keeps a certificate in the Secret, and its CA in the configuration.
pub(crate) struct Keeper {
    secrets: Api<Secret>,
    configurations: Api<MutatingWebhookConfiguration>,
    // Without what is in them, which is read when it is needed.
    secret_changes: Api<PartialObjectMeta<Secret>>,
    configuration_changes: Api<PartialObjectMeta<MutatingWebhookConfiguration>>,
    wanted: WebhookCertificate,
    names: Vec<String>,
    metrics: Metrics,
}

/// What hinders the keeper, in words.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("Secret {0}: {1}; the chart makes it, and `helm upgrade` makes it anew")]
    Secret(String, kube::Error),
    #[error("MutatingWebhookConfiguration {0}: {1}; the chart makes it, and `helm upgrade` makes it anew")]
    Configuration(String, kube::Error),
    #[error("a certificate can't be made: {0}")]
    Issue(#[from] rcgen::Error),
}

impl Keeper {
    pub(crate) fn new(client: &Client, namespace: &str, wanted: WebhookCertificate, metrics: Metrics) -> Self {
        let host = format!("{}.{namespace}.svc", wanted.service);
        Self {
            secrets: Api::namespaced(client.clone(), namespace),
            configurations: Api::all(client.clone()),
            secret_changes: Api::namespaced(client.clone(), namespace),
            configuration_changes: Api::all(client.clone()),
            names: vec![host.clone(), format!("{host}.cluster.local")],
            wanted,
            metrics,
        }
    }

    /// Does it for as long as it is polled.
    pub(crate) async fn run(&self) -> Infallible {
        let mut changes = self.changes();
        loop {
            let rest = match self.look().await {
                Ok(rest) => rest,
                Err(problem) => {
                    self.metrics.error("webhook_certificate");
                    tracing::warn!("the webhook's certificate can't be looked after: {problem}");
                    RETRY
                }
            };
            tokio::select! {
                () = sleep(rest) => {}
                _ = changes.next() => {}
            }
        }
    }

    /// Something for each change of the two objects, our own among them. Errors of a watch come with pauses, and say no
    /// more than those of the looks.
    fn changes(&self) -> impl Stream<Item = ()> + Unpin {
        let named = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
        let secret = watcher(self.secret_changes.clone(), named(&self.wanted.secret));
        let configuration = watcher(self.configuration_changes.clone(), named(&self.wanted.configuration));
        stream::select(secret.default_backoff().map(drop), configuration.default_backoff().map(drop)).boxed()
    }

    /// Looks at both objects and does what is due; returns how long nothing is.
    async fn look(&self) -> Result<Duration, Problem> {
        let wanted = &self.wanted;
        let of_secret = |error| Problem::Secret(wanted.secret.clone(), error);
        let of_configuration = |error| Problem::Configuration(wanted.configuration.clone(), error);
        let secret = bounded(self.secrets.get(&wanted.secret)).await.map_err(of_secret)?;
        let configuration = bounded(self.configurations.get(&wanted.configuration)).await.map_err(of_configuration)?;

        let now = Timestamp::now();
        let held = held(&secret, &self.names, now);
        let trusted = trusted(&configuration);
        match plan(&held, &trusted, now) {
            Step::Issue { why, beside } => {
                let Issued { authority, certificate, key } = issue(&self.names, wanted.life, now)?;
                let authorities = authority + &beside;
                self.trust(&configuration, &authorities).await.map_err(of_configuration)?;
                // Where nothing is trusted yet, nothing is served that could go on in the meantime.
                if !beside.is_empty() {
                    sleep(SETTLE).await;
                }
                self.put(&secret, &authorities, &certificate, &key).await.map_err(of_secret)?;
                tracing::info!(secret = wanted.secret, "a new certificate for the webhook, because {why}");
                Ok(Duration::ZERO)
            }
            Step::Trust(authorities) => {
                self.trust(&configuration, &authorities).await.map_err(of_configuration)?;
                tracing::info!(configuration = wanted.configuration, "the API server trusts the webhook's CA");
                Ok(Duration::ZERO)
            }
            Step::Rest(until) => {
                let rest = Duration::try_from(until.duration_since(now)).unwrap_or_default();
                Ok(rest.min(LONGEST_REST))
            }
        }
    }

    /// Lets the API server trust what these CAs signed.
    async fn trust(&self, configuration: &MutatingWebhookConfiguration, authorities: &str) -> kube::Result<()> {
        let bundle = ByteString(authorities.as_bytes().to_vec());
        let names = configuration.webhooks.iter().flatten().map(|webhook| &webhook.name);
        let webhooks: Vec<_> =
            names.map(|name| json!({ "name": name, "clientConfig": { "caBundle": bundle } })).collect();
        // By the webhooks' names, and with nothing else that a release says about them.
        let patch = Patch::Strategic(json!({ "webhooks": webhooks }));
        bounded(self.configurations.patch(&self.wanted.configuration, &patched_by_us(), &patch)).await.map(drop)
    }

    /// Writes the Secret, unless somebody else has since it was read.
    async fn put(&self, seen: &Secret, authorities: &str, certificate: &str, key: &str) -> kube::Result<()> {
        let bytes = |pem: &str| ByteString(pem.as_bytes().to_vec());
        let patch = Patch::Merge(json!({
            "metadata": { "resourceVersion": seen.resource_version() },
            "data": { AUTHORITIES: bytes(authorities), CERTIFICATE: bytes(certificate), KEY: bytes(key) },
        }));
        bounded(self.secrets.patch(&self.wanted.secret, &patched_by_us(), &patch)).await.map(drop)
    }
}

/// What the Secret holds, or why that is of no use.
fn held(secret: &Secret, names: &[String], now: Timestamp) -> Result<Held, String> {
    let value = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
        bytes.ok_or_else(|| format!("the Secret has no {key}"))
    };
    Held::read(value(CERTIFICATE)?, value(KEY)?, value(AUTHORITIES)?, names, now)
}

/// The CAs that each webhook of the configuration trusts; PEM.
fn trusted(configuration: &MutatingWebhookConfiguration) -> Vec<&[u8]> {
    let webhooks = configuration.webhooks.iter().flatten();
    webhooks.map(|webhook| webhook.client_config.ca_bundle.as_ref().map_or(&[][..], |bundle| &bundle.0)).collect()
}

#[cfg(test)]
mod tests;
