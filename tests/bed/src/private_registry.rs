use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use crate::network::Network;
use crate::operator::PRIVATE_REGISTRY;
use crate::part::{Part, Ready};
use crate::tools::Tools;

/// A registry that serves only those who have its password, at [`PRIVATE_REGISTRY`].
#[derive(Debug)]
pub struct PrivateRegistry {
    /// Its process, which is not started yet.
    pub part: Part,
    address: SocketAddr,
}

const PORT: u16 = 5001;

/// Who may push and pull.
const USER: &str = "policies";
const PASSWORD: &str = "hush";

/// The same as `htpasswd -B` writes it.
const HTPASSWD: &str = "policies:$2b$05$abcdefghijklmnopqrstuulzd.YqjLDl8lvpSmVj3De/fioSBHnUa\n";

pub(crate) fn private_registry_address(network: Network) -> SocketAddr {
    network.shared(PORT)
}

impl PrivateRegistry {
    pub(crate) fn new(folder: &Path, network: Network, tools: &Tools) -> Result<Self> {
        let address = private_registry_address(network);
        let (config, htpasswd) = (folder.join("private-registry.yml"), folder.join("htpasswd"));
        fs::write(&htpasswd, HTPASSWD)?;
        fs::write(&config, configuration(address, &folder.join("private-registry"), &htpasswd))?;
        let part = Part::new(folder, "private-registry", tools.path("registry"), Ready::Accepts(address))
            .args(["serve".into(), config])
            .env("OTEL_TRACES_EXPORTER", "none");
        Ok(Self { part, address })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `docker login` leaves, and a pull secret holds.
    pub fn docker_config(&self) -> Value {
        json!({ "auths": { PRIVATE_REGISTRY: { "username": USER, "password": PASSWORD } } })
    }

    /// The arguments by which `kubectl create secret docker-registry NAME` makes that secret.
    pub fn secret_arguments(&self) -> [String; 3] {
        [
            format!("--docker-server={PRIVATE_REGISTRY}"),
            format!("--docker-username={USER}"),
            format!("--docker-password={PASSWORD}"),
        ]
    }
}

fn configuration(address: SocketAddr, data: &Path, htpasswd: &Path) -> String {
    let (data, htpasswd) = (data.display(), htpasswd.display());
    format!(
        "version: 0.1\n\
         log:\n  level: info\n\
         storage:\n  filesystem:\n    rootdirectory: {data}\n\
         http:\n  addr: {address}\n  secret: of-this-bed\n\
         auth:\n  htpasswd:\n    realm: private\n    path: {htpasswd}\n"
    )
}
