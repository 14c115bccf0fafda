use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cache_registry_upstream::Access;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::cache::{Cache, CacheKind};
use crate::certificates::{Authority, CertificateFiles};
use crate::collector::Collector;
use crate::containerd::Containerd;
use crate::control_plane::ControlPlane;
use crate::credentials::mount_credentials;
use crate::exchange::{self, Answer};
use crate::guardian::Guardian;
use crate::network::Network;
use crate::node::Node;
use crate::objects::Objects;
use crate::operator::{
    CONTROLLERS_USER, Operator, PROXY_ADMIN, WEBHOOK_USER, controllers_admin, objects, registries_file,
    webhook_address, webhook_admin,
};
use crate::part::Part;
use crate::private_registry::PrivateRegistry;
use crate::prometheus::{Prometheus, Target, scrape_config};
use crate::tools::Tools;
use crate::upstream::Upstream;

/// What kind of bed.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Which registry is the cache.
    pub cache: CacheKind,
    /// How many replicas of the controllers, 1 to 9.
    pub controllers: u8,
    /// How long an image stays that nothing uses.
    pub expiry_delay: &'static str,
    /// How often upstream is asked whether it has moved a tag.
    pub update_interval: &'static str,
    /// Whether there is a [`Collector`]. Every role sends it all of its traces; the API server and the registry send those
    /// that who asks them sends.
    pub traces: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache: CacheKind::Distribution,
            controllers: 1,
            expiry_delay: "30d",
            update_interval: "1h",
            traces: false,
        }
    }
}

/// A cluster of real parts, an upstream registry, and cache-registry installed in it.
///
/// Every part is a process that a test may kill, freeze and start again. All of it is gone when this is dropped.
pub struct Bed {
    /// etcd, the API server, the controller manager.
    pub control_plane: ControlPlane,
    /// The registry inside the cluster.
    pub cache: Cache,
    /// The registry outside of it.
    pub upstream: Upstream,
    /// `cache-registry webhook`.
    pub webhook: Part,
    /// `cache-registry controllers`, its replicas.
    pub controllers: Vec<Part>,
    /// A node with containerd 2.x.
    pub a: Node,
    /// A node with containerd 1.6.
    pub b: Node,
    /// Who signs the certificates of this bed.
    pub authority: Authority,
    tools: Tools,
    network: Network,
    collector: Option<Collector>,
    // Last: it takes everything away when it is dropped.
    guardian: Guardian,
}

impl Bed {
    /// Starts everything, and waits until all of it is ready.
    pub async fn start(options: Options) -> Result<Self> {
        let tools = Tools::find().await?;
        // Fails where a test program has started a bed before, with the same provider.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let guardian = Guardian::start()?;
        let folder = guardian.folder();
        let network = Network::new(guardian.number());
        network.up()?;
        let authority = Authority::new(folder)?;

        let mut cache = Cache::new(folder, network, &tools, &options)?;
        let mut upstream = Upstream::new(folder, network, &tools);
        let traced = options.traces.then_some(&authority);
        let mut collector = traced.map(|authority| Collector::new(folder, network, &tools, authority)).transpose()?;
        if let Some(collector) = &mut collector {
            collector.part.start().await?;
        }
        let operator = Operator::new(folder, network, &tools, &cache, traced);
        operator.write_registries(upstream.address())?;
        let node = |name, place, containerd| {
            Node::new(folder, network, &tools, name, place, containerd, |namespace| operator.proxy(name, namespace))
        };
        let (mut a, mut b) = (node("a", 0, Containerd::V2)?, node("b", 1, Containerd::V1)?);

        // The API server takes longest, and goes first; nothing waits for anything that it does not need.
        let control_plane = async {
            let tracing = options.traces.then(|| Collector::tracing_of_the_api_server(folder, network)).transpose()?;
            let mut plane = ControlPlane::start(folder, network, &tools, &authority, tracing).await?;
            let crds = output(Command::new(tools.cache_registry()).arg("crds"), "").await?;
            apply(&tools, &plane, &crds).await?;
            apply(&tools, &plane, &objects(network, &authority).to_string()).await?;
            let certificate = authority.server("webhook", webhook_address(network, 0))?;
            let mut webhook = operator.webhook(0, &certificate, &plane.kubeconfig_of(&authority, WEBHOOK_USER)?);
            webhook.spawn()?;
            let kubeconfig = plane.kubeconfig_of(&authority, CONTROLLERS_USER)?;
            let mut controllers = Vec::new();
            for replica in 0..options.controllers {
                let mut part = operator.controllers(replica, &options, &kubeconfig);
                part.spawn()?;
                controllers.push(part);
            }
            plane.takes_pods("default").await?;
            webhook.ready().await?;
            for part in &mut controllers {
                part.ready().await?;
            }
            anyhow::Ok((plane, webhook, controllers))
        };
        // Boxed: its state is most of that of this function.
        let control_plane = Box::pin(control_plane);
        let others = async {
            upstream.part.start().await?;
            tokio::try_join!(a.containerd.start(), a.proxy.start(), b.containerd.start(), b.proxy.start())
        };
        let ((control_plane, webhook, controllers), _) = tokio::try_join!(control_plane, others)?;
        if cache.is_guarded() {
            mount_credentials(control_plane.client(), folder).await?;
        }
        cache.start().await?;
        Ok(Self {
            control_plane,
            cache,
            upstream,
            webhook,
            controllers,
            a,
            b,
            authority,
            tools,
            network,
            collector,
            guardian,
        })
    }

    /// Where everything of this bed is: logs, sockets, certificates, data.
    pub fn folder(&self) -> &Path {
        self.guardian.folder()
    }

    /// Pods and `CachedImage`s.
    pub fn objects(&self) -> Objects {
        Objects::new(self.control_plane.client())
    }

    /// The webhook's address.
    pub fn webhook_address(&self) -> SocketAddr {
        webhook_address(self.network, 0)
    }

    /// Another replica of the webhook, 1 to 9, which is not started yet. The API server does not ask it.
    pub fn webhook_replica(&self, replica: u8) -> Result<Part> {
        let address = webhook_address(self.network, replica);
        let certificate = self.authority.server(&format!("webhook-{replica}"), address)?;
        let kubeconfig = self.control_plane.kubeconfig_of(&self.authority, WEBHOOK_USER)?;
        let traced = self.collector.as_ref().map(|_| &self.authority);
        let operator = Operator::new(self.folder(), self.network, &self.tools, &self.cache, traced);
        Ok(operator.webhook(replica, &certificate, &kubeconfig))
    }

    /// The webhook's admin port.
    pub fn webhook_admin_address(&self) -> SocketAddr {
        webhook_admin(self.network, 0)
    }

    /// A page of the admin port of a replica of the webhook.
    pub async fn webhook_admin(&self, replica: u8, path: &str) -> Result<Answer> {
        exchange::page(webhook_admin(self.network, replica), path).await
    }

    /// The metrics of a replica of the controllers.
    pub async fn controllers_metrics(&self, replica: u8) -> Result<String> {
        let answer = exchange::page(controllers_admin(self.network, replica), "/metrics").await?;
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// A registry that asks for a password, which is not started yet.
    pub fn private_registry(&self) -> Result<PrivateRegistry> {
        PrivateRegistry::new(self.folder(), self.network, &self.tools)
    }

    /// Gives the registry and the proxies the credentials that the Secret holds, as their kubelets do after a while; and
    /// says what it holds.
    pub async fn mount_registry_credentials(&self) -> Result<BTreeMap<String, String>> {
        mount_credentials(self.control_plane.client(), self.folder()).await
    }

    /// A Prometheus that reads the metrics of every part and has this file of rules. It is not started yet.
    pub fn prometheus(&self, rules: &Path) -> Result<Prometheus> {
        Prometheus::new(self.folder(), self.network, &[scrape_config(&self.targets())], &[rules])
    }

    /// Who takes the traces of a bed that has somebody for that.
    pub fn collector(&mut self) -> Result<&mut Collector> {
        self.collector.as_mut().context("this bed has no collector: see Options::traces")
    }

    /// Where each part shows its metrics.
    pub fn targets(&self) -> Vec<Target> {
        let target = |role, pod: &Part, node, address| Target { role, pod: pod.name().to_owned(), node, address };
        let mut targets = vec![
            target("webhook", &self.webhook, "a", self.webhook_admin_address()),
            target("proxy", &self.a.proxy, "a", self.a.namespace().address(PROXY_ADMIN)),
            target("proxy", &self.b.proxy, "b", self.b.namespace().address(PROXY_ADMIN)),
            target(
                "registry",
                self.cache.reader.as_ref().unwrap_or(&self.cache.part),
                "b",
                self.cache.metrics_address(),
            ),
        ];
        let replicas = self.controllers.iter().zip(0..);
        targets.extend(
            replicas.map(|(part, replica)| target("controllers", part, "b", controllers_admin(self.network, replica))),
        );
        targets
    }

    /// The file that says where the registries of this bed are.
    pub fn registries_file(&self) -> PathBuf {
        registries_file(self.folder())
    }

    /// The binary under test.
    pub fn cache_registry(&self) -> &Path {
        self.tools.cache_registry()
    }

    /// kubectl, for a person to look around with.
    pub fn kubectl_program(&self) -> PathBuf {
        self.tools.kubectl()
    }

    /// oras, for what is about an image.
    pub fn oras_program(&self) -> PathBuf {
        self.tools.path("oras")
    }

    /// What kubectl prints, as an administrator.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        kubectl(&self.tools, &self.control_plane, arguments).await
    }

    /// Replaces the webhook's certificate by a new one of the same authority.
    pub fn renew_webhook_certificate(&self) -> Result<CertificateFiles> {
        self.authority.server("webhook", self.webhook_address())
    }

    /// Lets the bed outlive this program, until the process whose id is returned gets a SIGTERM.
    pub fn keep(mut self) -> Result<u32> {
        self.guardian.keep()
    }

    /// Brings every part back up and lets the upstream behave: the end of one test and the start of the next.
    pub async fn heal(&mut self) -> Result<()> {
        self.control_plane.etcd.start().await?;
        self.control_plane.start_api_server().await?;
        for part in self.parts() {
            if part.runs() {
                part.thaw()?;
            } else {
                part.start().await?;
            }
        }
        // A proxy remembers a registry that was sick and bytes that were wrong.
        for proxy in [&mut self.a.proxy, &mut self.b.proxy] {
            proxy.kill().await?;
            proxy.start().await?;
        }
        self.upstream.on().await?;
        self.upstream.behave().await?;
        self.upstream.set_access(&Access::Open).await?;
        self.upstream.reset_traffic().await?;
        Ok(())
    }

    /// What a person would look at when something is wrong: objects, Events, and the end of every log.
    pub async fn state(&mut self) -> String {
        let objects = ["cachedimages", "pods", "leases", "events"];
        let mut text = String::new();
        for kind in objects {
            let shown = kubectl(&self.tools, &self.control_plane, &["get", kind, "-A", "-o", "wide"]).await;
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
        [&mut plane.etcd, &mut plane.api_server, &mut plane.controller_manager]
            .into_iter()
            .chain([&mut self.cache.part, &mut self.upstream.part, &mut self.webhook])
            .chain(&mut self.cache.reader)
            .chain(self.collector.as_mut().map(|collector| &mut collector.part))
            .chain(&mut self.controllers)
            .chain([&mut self.a, &mut self.b].into_iter().flat_map(|node| [&mut node.containerd, &mut node.proxy]))
    }
}

/// How long kubectl may take.
const LONGEST_KUBECTL: Duration = Duration::from_secs(30);

pub(crate) async fn kubectl(tools: &Tools, plane: &ControlPlane, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(tools.kubectl());
    command.env("KUBECONFIG", plane.kubeconfig()).args(arguments);
    output(&mut command, "").await
}

pub(crate) async fn apply(tools: &Tools, plane: &ControlPlane, objects: &str) -> Result<()> {
    let mut command = Command::new(tools.kubectl());
    command.env("KUBECONFIG", plane.kubeconfig()).args(["apply", "--server-side", "-f", "-"]);
    output(&mut command, objects).await?;
    Ok(())
}

/// Runs a program to its end and returns what it prints.
pub(crate) async fn output(command: &mut Command, input: &str) -> Result<String> {
    output_within(LONGEST_KUBECTL, command, input).await
}

/// The same, for a program that may take as long as `longest`.
pub(crate) async fn output_within(longest: Duration, command: &mut Command, input: &str) -> Result<String> {
    let shown = format!("{:?}", command.as_std());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut process = command.spawn().with_context(|| shown.clone())?;
    if let Some(mut standard_input) = process.stdin.take() {
        standard_input.write_all(input.as_bytes()).await.with_context(|| shown.clone())?;
    }
    let Ok(output) = timeout(longest, process.wait_with_output()).await else {
        bail!("{shown}: not within {} s", longest.as_secs());
    };
    let output = output?;
    if !output.status.success() {
        bail!("{shown}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}
