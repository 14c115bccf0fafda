//! A whole cluster on one machine: two nodes on which pods run.
//!
//! ```text
//!   host:    upstream, from which containerd pulls whatever the registry is called; a bucket, for tests that have one;
//!            kubectl, helm, the test
//!   node a:  etcd, API server, controller manager, scheduler, in its network
//!            kubelet, containerd 2.x, kube-proxy; pods
//!   node b:  kubelet, containerd 1.6, kube-proxy; pods
//! ```
//!
//! A [`Bed`](crate::Bed) tests each role of cache-registry with nothing around it that could hide a fault; a cluster
//! is for what only pods on nodes can show: the chart, and what a user of it sees.

mod cgroup;
mod dns;
mod images;
mod node;
mod pod_network;
mod settings;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use cache_registry_upstream::Access;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::{Api, Client};
use serde_json::Value;
use tokio::process::Command;

pub use self::images::BUSYBOX;
pub use self::node::Node;

use self::node::Surroundings;
use self::pod_network::PodNetwork;
use crate::bed::{apply, kubectl, output_within};
use crate::bucket::Bucket;
use crate::certificates::Authority;
use crate::collector::Collector;
use crate::containerd::{Containerd, PAUSE};
use crate::control_plane::{ControlPlane, Site};
use crate::guardian::Guardian;
use crate::network::Network;
use crate::objects::Objects;
use crate::operator::REGISTRIES;
use crate::part::{Part, Ready};
use crate::pod_monitor::Discovery;
use crate::prometheus::Prometheus;
use crate::tools::Tools;
use crate::until;
use crate::upstream::Upstream;

/// How long the cluster may take to be ready once its programs run, on a machine that is busy building.
const LONGEST_START: Duration = Duration::from_mins(2);

/// How long helm may take, which waits for pods when it is told to.
const LONGEST_HELM: Duration = Duration::from_mins(3);

const SCHEDULER: u16 = 10259;
const CERT_MANAGER: u16 = 9403;

/// What kind of cluster.
#[derive(Debug, Clone)]
pub struct Options {
    /// The container runtimes of the nodes a and b.
    pub containerd: [Containerd; 2],
    /// Registries in whose site the upstream stands, besides [`REGISTRIES`] and those of the cluster's own images.
    pub registries: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { containerd: [Containerd::V2, Containerd::V1], registries: Vec::new() }
    }
}

/// A cluster of two nodes, and an upstream registry.
///
/// Every part is a process that a test may kill, freeze and start again. All of it is gone when this is dropped.
pub struct Cluster {
    /// etcd, the API server, the controller manager.
    pub control_plane: ControlPlane,
    /// The scheduler.
    pub scheduler: Part,
    /// The registry outside of it.
    pub upstream: Upstream,
    /// Storage outside of it, which runs when a test has started it.
    pub bucket: Bucket,
    /// The node beside the control plane.
    pub a: Node,
    /// The other one.
    pub b: Node,
    authority: Authority,
    tools: Tools,
    network: Network,
    // Last: it takes everything away when it is dropped.
    guardian: Guardian,
}

impl Cluster {
    /// Starts everything, and waits until both nodes are ready and names are resolved.
    pub async fn start(options: Options) -> Result<Self> {
        let tools = Tools::find().await?;
        // Fails where a test program has started a bed before, with the same provider.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let guardian = Guardian::start()?;
        let folder = guardian.folder();
        let network = Network::new(guardian.number());
        network.up()?;
        let (of_a, of_b) = (network.namespace("a", 0)?, network.namespace("b", 1)?);
        let pods = PodNetwork::new(network);
        pods.connect(&of_a, &of_b)?;
        let authority = Authority::new(folder)?;
        let site = Site::WithNodes(of_a.clone());

        let mut upstream = Upstream::new(folder, network, &tools);
        let registries = REGISTRIES.map(ToOwned::to_owned).into_iter();
        let registries: Vec<_> = registries.chain([images::REGISTRY.to_owned()]).chain(options.registries).collect();
        let around = Surroundings {
            folder,
            tools: &tools,
            authority: &authority,
            control_plane: &site,
            pods,
            upstream: upstream.address(),
            registries: &registries,
        };
        let mut a = Node::new(&around, "a", 0, of_a, options.containerd[0])?;
        let mut b = Node::new(&around, "b", 1, of_b, options.containerd[1])?;
        let mut scheduler = scheduler(folder, &site, &tools, &authority)?;

        // The API server takes longest, and goes first; nothing waits for anything that it does not need.
        // Boxed, for they are large and whoever awaits this would carry them.
        let control_plane = Box::pin(async {
            let plane = ControlPlane::start_at(folder, site.clone(), &tools, &authority, None).await?;
            scheduler.spawn()?;
            apply(&tools, &plane, &dns::objects().to_string()).await?;
            anyhow::Ok(plane)
        });
        let nodes = Box::pin(async {
            let images = async {
                upstream.part.start().await?;
                images::publish(folder, &tools, &upstream).await
            };
            tokio::try_join!(images, a.start(), b.start())?;
            tokio::try_join!(preload(&a), preload(&b))
        });
        let (mut control_plane, _) = tokio::try_join!(control_plane, nodes)?;
        let rest =
            async { tokio::try_join!(a.join(), b.join(), control_plane.takes_pods("default"), scheduler.ready()) };
        Box::pin(rest).await?;
        let bucket = Bucket::new(folder, network, &tools)?;
        let mut cluster =
            Self { control_plane, scheduler, upstream, bucket, a, b, authority, tools, network, guardian };
        if let Err(error) = Box::pin(cluster.ready()).await {
            return Err(error.context(Box::pin(cluster.state()).await));
        }
        Ok(cluster)
    }

    /// Where everything of this cluster is: logs, sockets, certificates, data.
    pub fn folder(&self) -> &Path {
        self.guardian.folder()
    }

    /// An administrator's client.
    pub fn client(&self) -> Client {
        self.control_plane.client()
    }

    /// Pods and `CachedImage`s.
    pub fn objects(&self) -> Objects {
        Objects::new(self.client())
    }

    /// The binary under test.
    pub fn cache_registry(&self) -> &Path {
        self.tools.cache_registry()
    }

    /// The folder with kubectl and helm, for a person to look around with.
    pub fn programs(&self) -> PathBuf {
        self.tools.path("")
    }

    /// What kubectl prints, as an administrator.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        kubectl(&self.tools, &self.control_plane, arguments).await
    }

    /// Applies objects, JSON or YAML, as an administrator.
    pub async fn apply(&self, objects: &str) -> Result<()> {
        apply(&self.tools, &self.control_plane, objects).await
    }

    /// Puts the image of an OCI layout into upstream, under a reference of the form `host/repository:tag`.
    pub async fn add_image(&self, reference: &str, layout: &Path) -> Result<()> {
        images::add(&self.upstream, reference, &images::of_layout(layout)?).await
    }

    /// What helm prints, as an administrator.
    pub async fn helm(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(self.tools.path("helm"));
        command.env("KUBECONFIG", self.control_plane.kubeconfig()).args(arguments);
        output_within(LONGEST_HELM, &mut command, "").await
    }

    /// cert-manager: applies what it defines, and gives its controllers, which are not started yet.
    pub async fn cert_manager(&self) -> Result<Part> {
        let definitions = fs::read_to_string(self.tools.path("cert-manager-crds.yaml"))?;
        self.apply(&definitions).await?;
        let health = self.network.host(CERT_MANAGER);
        let ready = Ready::Answers(health, "/readyz");
        Ok(Part::new(self.folder(), "cert-manager", self.tools.path("cert-manager"), ready)
            .args(["--health-address", &health.to_string()])
            .env("KUBECONFIG", self.control_plane.kubeconfig()))
    }

    /// A Prometheus that reads metrics as its operator would let it for this `PodMonitor`, of the pods that it is told
    /// of. It is not started yet.
    pub fn prometheus(&self, monitor: &Value) -> Result<(Prometheus, Discovery)> {
        let discovery = Discovery::new(self.folder())?;
        let jobs = discovery.scrape_configs(monitor)?;
        Ok((Prometheus::new(self.folder(), self.network, &jobs, &[])?, discovery))
    }

    /// Who takes traces, of pods too. It is not started yet.
    pub fn collector(&self) -> Result<Collector> {
        Collector::new(self.folder(), self.network, &self.tools, &self.authority)
    }

    /// Lets the cluster outlive this program, until the process whose id is returned gets a SIGTERM.
    pub fn keep(mut self) -> Result<u32> {
        self.guardian.keep()
    }

    /// Waits until both nodes are ready and names are resolved.
    pub async fn ready(&self) -> Result<()> {
        let nodes: Api<NodeObject> = Api::all(self.client());
        for name in [self.a.name(), self.b.name()] {
            until(format!("node {name} to be ready"), LONGEST_START, async || {
                Ok(is_ready(&nodes.get(name).await?).then_some(()))
            })
            .await?;
        }
        self.available("kube-system", dns::DEPLOYMENT).await
    }

    /// Waits until all replicas of a Deployment are available.
    pub async fn available(&self, namespace: &str, name: &str) -> Result<()> {
        let deployments: Api<Deployment> = Api::namespaced(self.client(), namespace);
        until(format!("all replicas of {namespace}/{name} to be available"), LONGEST_START, async || {
            let deployment = deployments.get(name).await?;
            let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
            let status = deployment.status.context("it has no status")?;
            if status.observed_generation != deployment.metadata.generation || status.updated_replicas != wanted {
                return Ok(None);
            }
            if status.available_replicas == wanted {
                return Ok(Some(()));
            }
            Err(anyhow!("{} of {}", status.available_replicas.unwrap_or(0), wanted.unwrap_or(0)))
        })
        .await
    }

    /// Brings every part back up and lets the upstream behave: the end of one test and the start of the next.
    pub async fn heal(&mut self) -> Result<()> {
        for part in self.parts() {
            if part.runs() {
                part.thaw()?;
            }
        }
        self.control_plane.etcd.start().await?;
        self.control_plane.start_api_server().await?;
        tokio::try_join!(self.control_plane.controller_manager.start(), self.scheduler.start())?;
        self.upstream.part.start().await?;
        self.upstream.on().await?;
        self.upstream.behave().await?;
        self.upstream.set_access(&Access::Open).await?;
        self.upstream.reset_traffic().await?;
        for node in [&mut self.a, &mut self.b] {
            node.start().await?;
            node.join().await?;
        }
        self.ready().await
    }

    /// What a person would look at when something is wrong: objects, Events, and the end of every log.
    pub async fn state(&mut self) -> String {
        let mut text = String::new();
        for kind in ["nodes", "pods", "services", "events"] {
            let shown = self.kubectl(&["get", kind, "-A", "-o", "wide"]).await;
            let shown = shown.unwrap_or_else(|error| format!("{error:#}"));
            text.extend(["--- ", kind, "\n", &shown, "\n"]);
        }
        for part in self.parts() {
            text += &part.log_tail(25);
            text.push('\n');
        }
        text
    }

    fn parts(&mut self) -> impl Iterator<Item = &mut Part> {
        let plane = &mut self.control_plane;
        [&mut plane.etcd, &mut plane.api_server, &mut plane.controller_manager, &mut self.scheduler]
            .into_iter()
            .chain([&mut self.upstream.part, &mut self.bucket.part])
            .chain(self.a.parts())
            .chain(self.b.parts())
    }
}

/// Gives a node the images that it starts every pod with, as nodes of a cloud come with: pods start with upstream off.
async fn preload(node: &Node) -> Result<()> {
    for image in [PAUSE, images::COREDNS] {
        node.images.pull(image).await.with_context(|| format!("{image} on node {}", node.name()))?;
    }
    Ok(())
}

fn scheduler(folder: &Path, site: &Site, tools: &Tools, authority: &Authority) -> Result<Part> {
    const USER: &str = "system:kube-scheduler";
    let kubeconfig = site.kubeconfig(folder, USER, &authority.client(USER, None)?)?;
    let address: SocketAddr = site.address(SCHEDULER);
    Ok(site
        .part(folder, tools, "kube-scheduler", Ready::Accepts(address))
        .args(["--kubeconfig".as_ref(), kubeconfig.as_path()])
        .args(["--authentication-kubeconfig".as_ref(), kubeconfig.as_path()])
        .args(["--authorization-kubeconfig".as_ref(), kubeconfig.as_path()])
        .args(["--bind-address", &address.ip().to_string(), "--secure-port", &address.port().to_string()])
        .args(["--cert-dir".into(), folder.join("kube-scheduler")])
        .args(["--leader-elect=false"]))
}

fn is_ready(node: &NodeObject) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
