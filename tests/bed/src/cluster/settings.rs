//! The configuration files of a node's programs. What is set is what this machine needs, and what makes two nodes on
//! one machine share nothing.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::dns;
use crate::certificates::{Authority, CertificateFiles};

/// A kubelet's
/// (<https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/#kubelet-config-k8s-io-v1beta1-KubeletConfiguration>).
pub(crate) fn kubelet(cgroup: &str, socket: &Path, authority: &Authority, server: &CertificateFiles) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": authority.file() },
        },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": server.certificate,
        "tlsPrivateKeyFile": server.key,
        "containerRuntimeEndpoint": format!("unix://{}", socket.display()),
        "clusterDNS": [dns::ADDRESS],
        "clusterDomain": dns::DOMAIN,
        // A pod that asks for the node's DNS gets none.
        "resolvConf": "",
        // There is no systemd, and control groups may be of version 1.
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{cgroup}"),
        "failCgroupV1": false,
        // How soon a changed Secret is in a pod's files; a minute unless it is set.
        "syncFrequency": "5s",
        // The machine's resources are not the cluster's to manage: nothing is evicted, and no image removed.
        "failSwapOn": false,
        "enforceNodeAllocatable": [],
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "localStorageCapacityIsolation": false,
        // Without CAP_SYS_RESOURCE it may not be lowered.
        "oomScoreAdj": 0,
    })
}

/// kube-proxy's
/// (<https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/#kubeproxy-config-k8s-io-v1alpha1-KubeProxyConfiguration>).
pub(crate) fn kube_proxy(node: &str, kubeconfig: &Path, pods: &str) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": { "kubeconfig": kubeconfig },
        "hostnameOverride": node,
        "mode": "iptables",
        "clusterCIDR": pods,
        // The machine's table of connections is left as it is.
        "conntrack": { "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
        "oomScoreAdj": 0,
    })
}

/// containerd's way to a registry: by this address, whatever the registry is called
/// (<https://github.com/containerd/containerd/blob/main/docs/hosts.md>).
pub(crate) fn hosts(upstream: SocketAddr) -> String {
    // Without `server`, the registry itself would be asked after it, and its name not be found.
    format!(
        "server = \"http://{upstream}\"\n\
         [host.\"http://{upstream}\"]\n\
         capabilities = [\"pull\", \"resolve\"]\n"
    )
}
