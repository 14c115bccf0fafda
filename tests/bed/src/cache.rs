use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use base64::prelude::{BASE64_STANDARD, Engine};
use http::Method;

use crate::bed::Options;
use crate::collector::Collector;
use crate::credentials::credentials_file;
use crate::exchange::{self, Answer};
use crate::network::Network;
use crate::part::{Part, Ready};
use crate::tools::Tools;

/// Which registry is the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheKind {
    /// CNCF distribution, the version that `tests/tools/go.mod` pins.
    Distribution,
    /// The same as the chart has it: two listeners on one volume, each of which lets in one role.
    Guarded,
    /// Debian's docker-registry, distribution 2.8: sparse indexes refused, no referrers.
    DockerRegistry,
}

const PORT: u16 = 5000;
const READER_PORT: u16 = 5002;
const METRICS: u16 = 5003;

/// The registry inside the cluster.
#[derive(Debug)]
pub struct Cache {
    /// Its process; of two, the one that is written to.
    pub part: Part,
    /// Of [`CacheKind::Guarded`], the one that is read.
    pub reader: Option<Part>,
    address: SocketAddr,
    reader_address: SocketAddr,
    metrics: SocketAddr,
}

impl Cache {
    pub(crate) fn new(folder: &Path, network: Network, tools: &Tools, options: &Options) -> Result<Self> {
        let kind = options.cache;
        let (address, metrics) = (network.shared(PORT), network.host(METRICS));
        let of = Process { folder, tools, kind, collector: options.traces.then(|| Collector::endpoint(network)) };
        if kind != CacheKind::Guarded {
            let part = of.part("registry", address, Some(metrics), WITH_DELETE)?;
            return Ok(Self { part, reader: None, address, reader_address: address, metrics });
        }
        let reader_address = network.shared(READER_PORT);
        let writes = format!("{WITH_DELETE}{}", htpasswd(&credentials_file(folder, "htpasswd.controllers")));
        let reads = format!("{READ_ONLY}{}", htpasswd(&credentials_file(folder, "htpasswd.proxy")));
        let part = of.part("registry", address, None, &writes)?;
        let reader = Some(of.part("reader", reader_address, Some(metrics), &reads)?);
        Ok(Self { part, reader, address, reader_address, metrics })
    }

    /// Whether it asks for credentials.
    pub(crate) fn is_guarded(&self) -> bool {
        self.reader.is_some()
    }

    pub(crate) async fn start(&mut self) -> Result<()> {
        self.part.start().await?;
        match &mut self.reader {
            Some(reader) => reader.start().await,
            None => Ok(()),
        }
    }

    /// Where the nodes read it.
    pub fn reader_address(&self) -> SocketAddr {
        self.reader_address
    }

    /// A request to a listener with a line of credentials, `user:password`, or with none.
    pub async fn ask(&self, listener: SocketAddr, method: Method, path: &str, line: Option<&str>) -> Result<Answer> {
        let authorization = line.map(|line| format!("Basic {}", BASE64_STANDARD.encode(line)));
        let headers: Vec<_> = authorization.iter().map(|value| ("authorization", value.as_str())).collect();
        exchange::request(tokio::net::TcpStream::connect(listener).await?, method, path, &headers).await
    }

    /// Where the controllers reach it, and the nodes where it is one process.
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

/// What the registry's processes have in common.
struct Process<'a> {
    folder: &'a Path,
    tools: &'a Tools,
    kind: CacheKind,
    collector: Option<String>,
}

impl Process<'_> {
    /// One that answers at `address`, shows its metrics at `metrics`, and lets in whom `access` says.
    fn part(&self, name: &str, address: SocketAddr, metrics: Option<SocketAddr>, access: &str) -> Result<Part> {
        let program = match self.kind {
            CacheKind::Distribution | CacheKind::Guarded => self.tools.path("registry"),
            CacheKind::DockerRegistry => "docker-registry".into(),
        };
        let config = self.folder.join(format!("{name}.yml"));
        fs::write(&config, self.configuration(address, metrics, access))?;
        // The one path that asks for no credentials; distribution 2.8 has it as well.
        let part = Part::new(self.folder, name, program, Ready::Answers(address, "/")).args(["serve".into(), config]);
        Ok(match &self.collector {
            None => part.env("OTEL_TRACES_EXPORTER", "none"),
            Some(endpoint) => part.env("OTEL_TRACES_EXPORTER", "otlp").env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        })
    }

    /// No cache of blob descriptors: after a garbage collection it would promise blobs that are gone.
    fn configuration(&self, address: SocketAddr, metrics: Option<SocketAddr>, access: &str) -> String {
        let data = self.folder.join("registry");
        let data = data.display();
        let debug =
            metrics.map(|metrics| format!("  debug:\n    addr: {metrics}\n    prometheus:\n      enabled: true\n"));
        let validation = match self.kind {
            // Indexes whose children were not all copied are taken.
            CacheKind::Distribution | CacheKind::Guarded => {
                "validation:\n  manifests:\n    indexes:\n      platforms: none\n"
            }
            CacheKind::DockerRegistry => "",
        };
        format!(
            "version: 0.1\n\
             log:\n  level: info\n\
             storage:\n  filesystem:\n    rootdirectory: {data}\n\
             {access}\
             http:\n  addr: {address}\n  secret: of-this-bed\n\
             {}\
             {validation}",
            debug.unwrap_or_default()
        )
    }
}

/// What follows upon the root directory.
const WITH_DELETE: &str = "  delete:\n    enabled: true\n";
const READ_ONLY: &str =
    "  maintenance:\n    readonly:\n      enabled: true\n    uploadpurging:\n      enabled: false\n";

fn htpasswd(file: &Path) -> String {
    format!("auth:\n  htpasswd:\n    realm: cache-registry\n    path: {}\n", file.display())
}
