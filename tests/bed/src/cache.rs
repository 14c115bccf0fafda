use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use crate::exchange::{self, Answer};
use crate::network::Network;
use crate::part::{Part, Ready};
use crate::tools::Tools;

/// Which registry is the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheKind {
    /// CNCF distribution, the version that `tests/tools/go.mod` pins.
    Distribution,
    /// Debian's docker-registry, distribution 2.8: sparse indexes refused, no referrers.
    DockerRegistry,
}

const PORT: u16 = 5000;
const METRICS: u16 = 5003;

/// The registry inside the cluster.
#[derive(Debug)]
pub struct Cache {
    /// Its process.
    pub part: Part,
    address: SocketAddr,
    metrics: SocketAddr,
}

impl Cache {
    pub(crate) fn new(folder: &Path, network: Network, tools: &Tools, kind: CacheKind) -> Result<Self> {
        let (address, metrics) = (network.shared(PORT), network.host(METRICS));
        let program = match kind {
            CacheKind::Distribution => tools.path("registry"),
            CacheKind::DockerRegistry => "docker-registry".into(),
        };
        let config = folder.join("registry.yml");
        fs::write(&config, configuration(address, metrics, &folder.join("registry"), kind))?;
        let part = Part::new(folder, "registry", program, Ready::Answers(address, "/v2/"))
            .args(["serve".into(), config])
            .env("OTEL_TRACES_EXPORTER", "none");
        Ok(Self { part, address, metrics })
    }

    /// Where the nodes and the controllers reach it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its own metrics are.
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `GET` of one of its paths.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        const EVERY: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, */*";
        exchange::get(tokio::net::TcpStream::connect(self.address).await?, path, &[("accept", EVERY)]).await
    }
}

/// No cache of blob descriptors: after a garbage collection it would promise blobs that are gone.
fn configuration(address: SocketAddr, metrics: SocketAddr, data: &Path, kind: CacheKind) -> String {
    let data = data.display();
    let validation = match kind {
        // Indexes whose children were not all copied are taken.
        CacheKind::Distribution => "validation:\n  manifests:\n    indexes:\n      platforms: none\n",
        CacheKind::DockerRegistry => "",
    };
    format!(
        "version: 0.1\n\
         log:\n  level: info\n\
         storage:\n  filesystem:\n    rootdirectory: {data}\n  delete:\n    enabled: true\n\
         http:\n  addr: {address}\n  secret: of-this-bed\n\
         \x20 debug:\n    addr: {metrics}\n    prometheus:\n      enabled: true\n\
         {validation}"
    )
}
