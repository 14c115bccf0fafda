use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use base64::prelude::{BASE64_STANDARD, Engine};
use http::Method;

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

/// The registry inside the cluster.
#[derive(Debug)]
pub struct Cache {
    /// Its process; of two, the one that is written to.
    pub part: Part,
    /// Of [`CacheKind::Guarded`], the one that is read.
    pub reader: Option<Part>,
    address: SocketAddr,
    reader_address: SocketAddr,
}

impl Cache {
    pub(crate) fn new(folder: &Path, network: Network, tools: &Tools, kind: CacheKind) -> Result<Self> {
        let address = network.shared(PORT);
        let reader = (kind == CacheKind::Guarded).then(|| network.shared(READER_PORT));
        let part = process(folder, tools, "registry", address, kind)?;
        let reader_part = reader.map(|address| process(folder, tools, "reader", address, kind)).transpose()?;
        Ok(Self { part, reader: reader_part, address, reader_address: reader.unwrap_or(address) })
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

fn process(folder: &Path, tools: &Tools, name: &str, address: SocketAddr, kind: CacheKind) -> Result<Part> {
    let program = match kind {
        CacheKind::Distribution | CacheKind::Guarded => tools.path("registry"),
        CacheKind::DockerRegistry => "docker-registry".into(),
    };
    let config = folder.join(format!("{name}.yml"));
    let access = match (kind, name) {
        (CacheKind::Guarded, "reader") => {
            format!("{READ_ONLY}{}", htpasswd(&credentials_file(folder, "htpasswd.proxy")))
        }
        (CacheKind::Guarded, _) => {
            format!("{WITH_DELETE}{}", htpasswd(&credentials_file(folder, "htpasswd.controllers")))
        }
        _ => WITH_DELETE.to_owned(),
    };
    fs::write(&config, configuration(address, &folder.join("registry"), kind, &access))?;
    // The one path that asks for no credentials; distribution 2.8 has it as well.
    Ok(Part::new(folder, name, program, Ready::Answers(address, "/"))
        .args(["serve".into(), config])
        .env("OTEL_TRACES_EXPORTER", "none"))
}

/// What follows upon the root directory.
const WITH_DELETE: &str = "  delete:\n    enabled: true\n";
const READ_ONLY: &str =
    "  maintenance:\n    readonly:\n      enabled: true\n    uploadpurging:\n      enabled: false\n";

fn htpasswd(file: &Path) -> String {
    format!("auth:\n  htpasswd:\n    realm: cache-registry\n    path: {}\n", file.display())
}

/// No cache of blob descriptors: after a garbage collection it would promise blobs that are gone.
fn configuration(address: SocketAddr, data: &Path, kind: CacheKind, access: &str) -> String {
    let data = data.display();
    let validation = match kind {
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
         {validation}"
    )
}
