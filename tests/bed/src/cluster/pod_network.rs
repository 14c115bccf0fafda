use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use serde_json::{Value, json};

use crate::control_plane::SERVICES;
use crate::network::{Namespace, Network, ip};

/// The addresses of the pods of a cluster: half of `10.214.N.0/24` for each node, reached by routes.
///
/// ```text
///   host ─── 10.214.N.0/25 via node a, 10.214.N.128/25 via node b
///   node ─── cni0, a bridge with its pods; the other half via the other node; Services on eth0, where
///            kube-proxy's rules take them over
/// ```
///
/// Nothing is masqueraded: pods see each other's addresses, the upstream sees theirs, and a test on the host may speak
/// to a pod. There is no way to anywhere else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PodNetwork {
    number: u8,
}

impl PodNetwork {
    pub(crate) fn new(network: Network) -> Self {
        Self { number: network.number() }
    }

    /// The addresses of all pods.
    pub(crate) fn all(self) -> String {
        format!("{}/24", self.first(0))
    }

    /// The addresses of a node's pods. `place` is 0 or 1.
    fn of(self, place: u8) -> String {
        format!("{}/25", self.first(place))
    }

    fn first(self, place: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 214, self.number, 128 * place)
    }

    /// Tells the host and two nodes the ways.
    pub(crate) fn connect(self, a: &Namespace, b: &Namespace) -> Result<()> {
        let way = |place, to: &Namespace| format!("route add {} via {}\n", self.of(place), host_of(to));
        ip(&[], &format!("{}{}", way(0, a), way(1, b)))?;
        for (node, others) in [(a, way(1, b)), (b, way(0, a))] {
            ip(&["-netns", node.name()], &format!("{others}route add {SERVICES} dev eth0\n"))?;
        }
        Ok(())
    }

    /// The configuration by which a node's container runtime gives a pod its address and its host ports.
    pub(crate) fn configuration(self, place: u8) -> Value {
        json!({
            "cniVersion": "1.0.0",
            "name": "bed",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": true,
                    "hairpinMode": true,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{ "subnet": self.of(place) }]],
                        "routes": [{ "dst": "0.0.0.0/0" }],
                    },
                },
                { "type": "portmap", "capabilities": { "portMappings": true } },
            ],
        })
    }
}

fn host_of(node: &Namespace) -> std::net::IpAddr {
    let address: SocketAddr = node.address(0);
    address.ip()
}
