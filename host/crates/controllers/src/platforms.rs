//! The platforms of which images are copied: by default those of the cluster's nodes, as they come and go.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use cache_registry_core::{Platform, PlatformChoice, Platforms};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Node;
use kube::api::PartialObjectMeta;
use kube::{Api, Client, ResourceExt as _};
use kube_runtime::WatchStreamExt as _;
use kube_runtime::watcher::{self, Event};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::PAGE;

/// Follows the nodes, where it is them who decide.
pub(crate) struct NodePlatforms {
    /// `None` where it is settled.
    nodes: Option<Api<PartialObjectMeta<Node>>>,
    wanted: watch::Sender<Option<Platforms>>,
}

/// What is wanted, for who copies, and for who has to know when it is more.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    told: watch::Receiver<Option<Platforms>>,
    /// What was known of when it was last asked whether there is more.
    known: Option<Platforms>,
}

/// For how long nothing is copied because the nodes are not known.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the kubelet says of its node (<https://kubernetes.io/docs/reference/labels-annotations-taints/>).
const OS: &str = "kubernetes.io/os";
const ARCHITECTURE: &str = "kubernetes.io/arch";

impl NodePlatforms {
    pub(crate) fn new(client: Client, choice: PlatformChoice) -> Self {
        let (nodes, wanted) = match choice {
            PlatformChoice::Auto => (Some(Api::all(client)), None),
            PlatformChoice::Fixed(platforms) => (None, Some(platforms)),
        };
        Self { nodes, wanted: watch::Sender::new(wanted) }
    }

    pub(crate) fn wanted(&self) -> Wanted {
        Wanted { told: self.wanted.subscribe(), known: None }
    }

    /// Watches the nodes, until it is dropped.
    pub(crate) async fn keep(&self) -> Infallible {
        let Some(nodes) = &self.nodes else { return std::future::pending().await };
        let config = watcher::Config::default().page_size(PAGE);
        let mut events = pin!(watcher::watcher(nodes.clone(), config).default_backoff());
        let mut known = Nodes::default();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => known.apply(event),
                Err(error) if self.wanted.borrow().is_none() => {
                    tracing::warn!(%error, "nodes can't be seen: images of all platforms are copied. May this ServiceAccount list and watch nodes?");
                    self.wanted.send_replace(Some(Platforms::All));
                }
                Err(error) => tracing::debug!(%error, "watching nodes goes on when the API server answers again"),
            }
            if let Some(platforms) = known.platforms() {
                self.wanted.send_if_modified(|wanted| {
                    let is_new = wanted.as_ref() != Some(&platforms);
                    if is_new {
                        tracing::info!(?platforms, "images of these platforms are copied, as nodes have them");
                        *wanted = Some(platforms);
                    }
                    is_new
                });
            }
        }
        std::future::pending().await
    }
}

impl Wanted {
    #[cfg(test)]
    pub(crate) fn as_told(told: watch::Receiver<Option<Platforms>>) -> Self {
        Self { told, known: None }
    }

    /// What is wanted now. As long as that is not known it is waited for, and in the end it is all.
    pub(crate) async fn now(&self) -> Platforms {
        let mut told = self.told.clone();
        let known = timeout(PATIENCE, told.wait_for(Option::is_some)).await;
        known.ok().and_then(Result::ok).and_then(|known| known.clone()).unwrap_or_default()
    }

    /// Returns when more is wanted than before. What was wanted first is not more.
    pub(crate) async fn grown(&mut self) {
        loop {
            if self.told.changed().await.is_err() {
                return std::future::pending().await;
            }
            let now = self.told.borrow_and_update().clone();
            let before = std::mem::replace(&mut self.known, now.clone());
            if let (Some(now), Some(before)) = (now, before)
                && !now.are_within(&before)
            {
                return;
            }
        }
    }
}

/// The nodes, each with what it runs on; `None` where it does not say.
#[derive(Debug, Default)]
struct Nodes {
    known: HashMap<String, Option<Platform>>,
    /// What a listing has brought so far.
    listing: HashMap<String, Option<Platform>>,
    complete: bool,
}

impl Nodes {
    fn apply(&mut self, event: Event<PartialObjectMeta<Node>>) {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(node) => {
                self.listing.insert(node.name_any(), platform(&node));
            }
            Event::InitDone => {
                self.known = std::mem::take(&mut self.listing);
                self.complete = true;
            }
            Event::Apply(node) => {
                self.known.insert(node.name_any(), platform(&node));
            }
            Event::Delete(node) => {
                self.known.remove(&node.name_any());
            }
        }
    }

    /// `None` before all nodes were listed. All where there are none, or one does not say what it is: what it needs must
    /// not be missing.
    fn platforms(&self) -> Option<Platforms> {
        if !self.complete {
            return None;
        }
        let told: Option<_> = self.known.values().cloned().collect();
        Some(told.filter(|_| !self.known.is_empty()).map_or(Platforms::All, Platforms::Of))
    }
}

fn platform(node: &PartialObjectMeta<Node>) -> Option<Platform> {
    let label = |name| node.labels().get(name).map(String::as_str);
    Platform::new(label(OS)?, label(ARCHITECTURE)?, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(name: &str, labels: &serde_json::Value) -> PartialObjectMeta<Node> {
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
        serde_json::from_value(object).unwrap()
    }

    fn of(architecture: &str) -> serde_json::Value {
        json!({"kubernetes.io/os": "linux", "kubernetes.io/arch": architecture})
    }

    fn platforms(text: &str) -> Platforms {
        match text.parse() {
            Ok(PlatformChoice::Fixed(platforms)) => platforms,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_wanted_follows_the_nodes() {
        let mut nodes = Nodes::default();
        nodes.apply(Event::Init);
        nodes.apply(Event::InitApply(node("a", &of("amd64"))));
        assert_eq!(nodes.platforms(), None, "there may be more");
        nodes.apply(Event::InitApply(node("b", &of("amd64"))));
        nodes.apply(Event::InitDone);
        assert_eq!(nodes.platforms(), Some(platforms("linux/amd64")));
        nodes.apply(Event::Apply(node("c", &of("arm64"))));
        assert_eq!(nodes.platforms(), Some(platforms("linux/amd64,linux/arm64")));
        nodes.apply(Event::Delete(node("a", &of("amd64"))));
        nodes.apply(Event::Delete(node("b", &of("amd64"))));
        assert_eq!(nodes.platforms(), Some(platforms("linux/arm64")));
        nodes.apply(Event::Apply(node("d", &json!({}))));
        assert_eq!(nodes.platforms(), Some(platforms("all")), "one does not say what it is");
        nodes.apply(Event::Init);
        assert_eq!(nodes.platforms(), Some(platforms("all")), "a listing is not over before its end");
        nodes.apply(Event::InitApply(node("c", &of("arm64"))));
        nodes.apply(Event::InitDone);
        assert_eq!(nodes.platforms(), Some(platforms("linux/arm64")));
        nodes.apply(Event::Delete(node("c", &of("arm64"))));
        assert_eq!(nodes.platforms(), Some(platforms("all")), "there are none");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_hears_of_more_and_of_nothing_else() {
        let sender = watch::Sender::new(None);
        let mut wanted = Wanted::as_told(sender.subscribe());
        assert_eq!(wanted.now().await, Platforms::All, "for want of an answer");
        let hears = async |wanted: &mut Wanted| timeout(Duration::from_secs(1), wanted.grown()).await.is_ok();
        for (now, is_more) in [
            ("linux/amd64", false),
            ("linux/amd64,linux/arm64", true),
            ("linux/arm64", false),
            ("linux/amd64", true),
            ("all", true),
            ("linux/amd64", false),
        ] {
            sender.send_replace(Some(platforms(now)));
            assert_eq!(hears(&mut wanted).await, is_more, "{now}");
            assert_eq!(Some(wanted.now().await), Some(platforms(now)));
        }
        drop(sender);
        assert!(!hears(&mut wanted).await);
    }
}
