use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use http::Method;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::bed::output;
use crate::containerd::Containerd;
use crate::cri::ImageService;
use crate::exchange::{self, Answer};
use crate::network::{IpVersion, Namespace, Network};
use crate::node_traffic::NodeTraffic;
use crate::operator::PROXY_ADMIN;
use crate::part::Part;
use crate::tools::Tools;

/// The port of the proxy on each node's loopback.
const PROXY: u16 = 7439;

/// How long a pull may take, retries included.
const LONGEST_PULL: Duration = Duration::from_mins(1);

/// Between two attempts. A kubelet waits 10 s after the first failure, and longer after each that follows; containerd
/// takes about a second to throw away what a failed attempt left.
const BACK_OFF: Duration = Duration::from_secs(3);

/// A node: a network namespace with a containerd and a proxy of its own.
#[derive(Debug)]
pub struct Node {
    /// Its container runtime.
    pub containerd: Part,
    /// Its proxy.
    pub proxy: Part,
    /// The runtime's images, as its kubelet sees them.
    pub images: ImageService,
    namespace: Namespace,
}

/// A pull that succeeded.
#[derive(Debug)]
pub struct Pull {
    /// What the runtime calls the image: the digest of its config.
    pub id: String,
    /// What earlier attempts failed with.
    pub failures: Vec<String>,
    /// All attempts together.
    pub took: Duration,
}

impl Node {
    /// A node with nothing started. `proxy` makes its proxy.
    pub(crate) fn new(
        folder: &Path,
        network: Network,
        tools: &Tools,
        name: &str,
        place: u8,
        containerd: Containerd,
        proxy: impl FnOnce(&Namespace) -> Part,
    ) -> Result<Self> {
        let namespace = network.namespace(name, place)?;
        let (containerd, socket) = containerd.part(folder, tools, &namespace, name)?;
        Ok(Self { containerd, proxy: proxy(&namespace), images: ImageService::new(&socket)?, namespace })
    }

    /// Pulls as a kubelet does: `PullImage`, and again a while after a failure, at most `attempts` times.
    pub async fn pull(&self, image: &str, attempts: usize) -> Result<Pull> {
        let started = Instant::now();
        let mut failures = Vec::new();
        while failures.len() < attempts {
            if !failures.is_empty() {
                tokio::time::sleep(BACK_OFF).await;
            }
            let left = LONGEST_PULL.saturating_sub(started.elapsed());
            match tokio::time::timeout(left, self.images.pull(image)).await {
                Ok(Ok(id)) => return Ok(Pull { id, failures, took: started.elapsed() }),
                Ok(Err(status)) => failures.push(status.message().to_owned()),
                Err(_) => bail!("{image}: no end after {} s; before: {failures:?}", LONGEST_PULL.as_secs()),
            }
        }
        bail!("{image}: {attempts} attempts failed: {failures:#?}\n{}", self.proxy.log_tail(20))
    }

    /// `GET` of a path of the proxy, from within the node.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.request(Method::GET, path, IpVersion::V4, &[]).await
    }

    /// Any request to the proxy, from within the node.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        version: IpVersion,
        headers: &[(&str, &str)],
    ) -> Result<Answer> {
        let stream = self.namespace.connect(PROXY, version).await?;
        exchange::request(stream, method, path, headers).await
    }

    /// What a program prints that runs in the node's network.
    pub async fn output(&self, program: &Path, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace.path())).arg(program).args(arguments);
        output(&mut command, "").await
    }

    /// The network namespace it is in.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// What its proxy has sent so far, by its metrics.
    pub async fn traffic(&self) -> Result<NodeTraffic> {
        let stream = TcpStream::connect(self.namespace.address(PROXY_ADMIN)).await?;
        let answer = exchange::get(stream, "/metrics", &[]).await?;
        Ok(NodeTraffic::read(&String::from_utf8_lossy(&answer.body)))
    }
}
