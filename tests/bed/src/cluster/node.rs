use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use http::Method;
use serde_json::Value;

use super::pod_network::PodNetwork;
use super::{cgroup, settings};
use crate::certificates::Authority;
use crate::containerd::{Containerd, Files};
use crate::control_plane::Site;
use crate::cri::ImageService;
use crate::exchange::{self, Answer};
use crate::network::{IpVersion, Namespace};
use crate::part::{Part, Ready};
use crate::tools::Tools;

const KUBELET: u16 = 10250;
const KUBE_PROXY_HEALTH: u16 = 10256;

/// Enters the namespaces of the process whose id is in the file `$0`, and runs the arguments there.
const ENTER: &str = r#"exec nsenter --target "$(cat "$0")" --mount --pid --net "$@""#;

/// A node that runs pods: network, mounts and processes of its own, and in them containerd, a kubelet and kube-proxy.
///
/// All that they start ends with [`Self::init`], as on a machine that is switched off.
#[derive(Debug)]
pub struct Node {
    /// The first process, the root of the tree of all others.
    pub init: Part,
    /// Its container runtime.
    pub containerd: Part,
    /// Its kubelet.
    pub kubelet: Part,
    /// Its kube-proxy, which makes Services reachable.
    pub kube_proxy: Part,
    /// The runtime's images, as its kubelet sees them.
    pub images: ImageService,
    name: String,
    namespace: Namespace,
    id_file: PathBuf,
}

/// What the nodes of a cluster have in common.
pub(crate) struct Surroundings<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) tools: &'a Tools,
    pub(crate) authority: &'a Authority,
    pub(crate) control_plane: &'a Site,
    pub(crate) pods: PodNetwork,
    /// Where images come from.
    pub(crate) upstream: SocketAddr,
    /// For which registries.
    pub(crate) registries: &'a [String],
}

impl Node {
    /// A node with nothing started. `place` is 0 or 1.
    pub(crate) fn new(
        around: &Surroundings<'_>,
        name: &str,
        place: u8,
        namespace: Namespace,
        containerd: Containerd,
    ) -> Result<Self> {
        let Surroundings { folder: all, tools, .. } = around;
        let folder = all.join(name);
        let id_file = folder.join("init");
        let inside = |program: &str, path: PathBuf, ready| {
            Part::new(all, format!("{name}-{program}"), "sh", ready).args([
                "-c".into(),
                ENTER.into(),
                id_file.clone(),
                path,
            ])
        };

        let init = namespace
            .part(all, format!("{name}-init"), "unshare".into(), Ready::Exists(id_file.clone()))
            .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"])
            .args(["sh", "-c", include_str!("init.sh"), "init"])
            .args([&folder]);

        let files = Files { folder: folder.join("containerd"), socket: folder.join("containerd.sock") };
        let configuration = containerd.configure(&files, Some(&hosts(around, &folder)?))?;
        write_json(&files.cni().join("bed.conflist"), &around.pods.configuration(place))?;
        let ready = Ready::AcceptsUnix(files.socket.clone());
        let containerd = inside("containerd", containerd.program(tools), ready)
            .args(["--config".into(), configuration])
            .env("PATH", containerd.search_path(tools)?);

        let ready = Ready::Accepts(namespace.address(KUBELET));
        let kubelet = inside("kubelet", tools.path("kubelet"), ready)
            .args(["--config".into(), kubelet_configuration(around, name, &namespace, &files.socket)?])
            .args(["--kubeconfig".into(), kubeconfig(around, &format!("system:node:{name}"), Some("system:nodes"))?])
            .args(["--hostname-override", name, "--node-ip", &namespace.address(0).ip().to_string()]);

        let kubeconfig = kubeconfig(around, "system:kube-proxy", None)?;
        let settings = folder.join("kube-proxy.json");
        write_json(&settings, &settings::kube_proxy(name, &kubeconfig, &around.pods.all()))?;
        let ready = Ready::Answers(namespace.address(KUBE_PROXY_HEALTH), "/healthz");
        let kube_proxy = inside("kube-proxy", tools.path("kube-proxy"), ready).args(["--config".into(), settings]);

        let images = ImageService::new(&files.socket)?;
        Ok(Self { init, containerd, kubelet, kube_proxy, images, name: name.to_owned(), namespace, id_file })
    }

    /// Switches it on, with its container runtime; no kubelet yet, which needs the API server.
    pub(crate) async fn start(&mut self) -> Result<()> {
        if !self.init.runs() && self.id_file.exists() {
            // Of a first process that is gone.
            fs::remove_file(&self.id_file)?;
        }
        self.init.start().await?;
        self.containerd.start().await
    }

    /// Lets it join the cluster.
    pub(crate) async fn join(&mut self) -> Result<()> {
        tokio::try_join!(self.kubelet.start(), self.kube_proxy.start())?;
        Ok(())
    }

    /// What the cluster calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The network namespace it is in.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// `GET` from a port of its `localhost`, from within.
    pub async fn get(&self, port: u16, version: IpVersion, path: &str) -> Result<Answer> {
        exchange::request(self.namespace.connect(port, version).await?, Method::GET, path, &[]).await
    }

    /// The same with the header `Accept`, by which a registry decides whether it gives an index.
    pub async fn get_accepting(&self, port: u16, path: &str, accept: &str) -> Result<Answer> {
        let stream = self.namespace.connect(port, IpVersion::V4).await?;
        exchange::request(stream, Method::GET, path, &[("Accept", accept)]).await
    }

    pub(crate) fn parts(&mut self) -> impl Iterator<Item = &mut Part> {
        [&mut self.init, &mut self.containerd, &mut self.kubelet, &mut self.kube_proxy].into_iter()
    }
}

fn kubeconfig(around: &Surroundings<'_>, user: &str, group: Option<&str>) -> Result<PathBuf> {
    around.control_plane.kubeconfig(around.folder, user, &around.authority.client(user, group)?)
}

fn kubelet_configuration(
    around: &Surroundings<'_>,
    node: &str,
    namespace: &Namespace,
    socket: &Path,
) -> Result<PathBuf> {
    cgroup::make(namespace.name())?;
    let server = around.authority.server(&format!("{node}-kubelet"), namespace.address(KUBELET))?;
    let file = around.folder.join(node).join("kubelet.json");
    write_json(&file, &settings::kubelet(namespace.name(), socket, around.authority, &server))?;
    Ok(file)
}

/// Writes how a container runtime reaches the registries, and returns the folder.
fn hosts(around: &Surroundings<'_>, node: &Path) -> Result<PathBuf> {
    let folder = node.join("hosts");
    for registry in around.registries {
        write(&folder.join(registry).join("hosts.toml"), &settings::hosts(around.upstream))?;
    }
    Ok(folder)
}

fn write_json(path: &Path, document: &Value) -> Result<()> {
    write(path, &format!("{document:#}\n"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    fs::write(path, text).with_context(|| path.display().to_string())
}
