use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use cache_registry_core::{Digest, Hasher};
use cache_registry_registry::Credentials;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use kube_runtime::WatchStreamExt as _;
use kube_runtime::watcher::watch_object;
use tokio::sync::watch;
use tokio::time::sleep;

use super::Refusal;
use crate::registry_access::PROXY_LINE;

/// Who may ask: whoever has the password with which proxies read the registry.
pub(super) struct Proxies {
    secrets: Api<Secret>,
    name: String,
    /// The digest of the `Authorization` that lets in. Digests are compared, so that how long that takes tells nothing.
    known: watch::Sender<Option<Digest>>,
}

/// Between the end of a watch and the next one.
const PAUSE: Duration = Duration::from_secs(5);

impl Proxies {
    pub(super) fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self { secrets: Api::namespaced(client, namespace), name: name.to_owned(), known: watch::Sender::new(None) }
    }

    /// Keeps up with the Secret, until it is dropped. What is known stays where the Secret is of no use.
    pub(super) async fn follow(&self) -> Infallible {
        loop {
            let mut changes = pin!(watch_object(self.secrets.clone(), &self.name).default_backoff());
            while let Some(change) = changes.next().await {
                match change {
                    Ok(secret) => secret.iter().for_each(|secret| self.learn(secret)),
                    Err(error) => tracing::debug!(%error, secret = self.name, "watching it goes on"),
                }
            }
            sleep(PAUSE).await;
        }
    }

    pub(super) fn learn(&self, secret: &Secret) {
        if let Some(digest) = authorization(secret) {
            self.known.send_replace(Some(digest));
        }
    }

    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let known = self.known.borrow();
        let Some(known) = &*known else {
            return Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the controllers do not know the proxies' password yet",
            ));
        };
        let shown = headers.get(AUTHORIZATION).map(|shown| Hasher::sha256(shown.as_bytes()));
        if shown.as_ref() == Some(known) {
            return Ok(());
        }
        Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "the controllers know another password of the proxies than this one",
        ))
    }
}

fn authorization(secret: &Secret) -> Option<Digest> {
    let line = secret.data.as_ref()?.get(PROXY_LINE)?;
    let header = Credentials::of_line(&line.0).ok()?.basic()?;
    Some(Hasher::sha256(header.as_bytes()))
}
