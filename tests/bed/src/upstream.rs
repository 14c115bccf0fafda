use std::ops::Deref;
use std::path::Path;

use cache_registry_upstream::Control;

use crate::network::Network;
use crate::part::{Part, Ready};
use crate::tools::Tools;

const PORT: u16 = 80;
const CONTROL: u16 = 8800;

/// The registry outside the cluster, which misbehaves on demand. It stands in for all of
/// [`REGISTRIES`](crate::REGISTRIES).
#[derive(Debug)]
pub struct Upstream {
    /// Its process.
    pub part: Part,
    control: Control,
    network: Network,
}

impl Upstream {
    pub(crate) fn new(folder: &Path, network: Network, tools: &Tools) -> Self {
        let control = network.host(CONTROL);
        let part = Part::new(folder, "upstream", tools.upstream(), Ready::Accepts(control)).args([
            "--listen",
            &network.shared(PORT).to_string(),
            "--control",
            &control.to_string(),
        ]);
        Self { part, control: Control::new(control), network }
    }

    /// Where the nodes and the controllers reach it.
    pub fn address(&self) -> std::net::SocketAddr {
        self.network.shared(PORT)
    }

    /// Where a person can tell it to misbehave, over HTTP.
    pub fn control_url(&self) -> String {
        format!("http://{}", self.network.host(CONTROL))
    }
}

impl Deref for Upstream {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}
