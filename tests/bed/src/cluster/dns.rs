use serde_json::{Value, json};

use super::images::COREDNS;

/// The address that pods ask.
pub(crate) const ADDRESS: &str = "10.96.0.10";

/// What every name ends in.
pub(crate) const DOMAIN: &str = "cluster.local";

/// The Deployment's name, in `kube-system`.
pub(crate) const DEPLOYMENT: &str = "coredns";

/// `CoreDNS` as kubeadm installs it, with nowhere to forward to: names outside the cluster are not there.
pub(crate) fn objects() -> Value {
    let metadata = json!({ "name": DEPLOYMENT, "namespace": "kube-system", "labels": { "k8s-app": "kube-dns" } });
    json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata },
        cluster_role(),
        cluster_role_binding(),
        { "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { "Corefile": corefile() } },
        deployment(&metadata),
        service(),
    ]})
}

fn corefile() -> String {
    format!(
        ".:53 {{
    errors
    health
    ready
    kubernetes {DOMAIN} in-addr.arpa ip6.arpa {{
        pods insecure
        ttl 5
    }}
    cache 5
    loadbalance
}}
"
    )
}

fn cluster_role() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": { "name": "system:coredns" },
        "rules": [
            {
                "apiGroups": [""],
                "resources": ["endpoints", "services", "pods", "namespaces"],
                "verbs": ["list", "watch"],
            },
            { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"] },
        ],
    })
}

fn cluster_role_binding() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": { "name": "system:coredns" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns" },
        "subjects": [{ "kind": "ServiceAccount", "name": DEPLOYMENT, "namespace": "kube-system" }],
    })
}

fn deployment(metadata: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "k8s-app": "kube-dns" } },
            "template": {
                "metadata": { "labels": { "k8s-app": "kube-dns" } },
                "spec": {
                    "priorityClassName": "system-cluster-critical",
                    "serviceAccountName": DEPLOYMENT,
                    "dnsPolicy": "Default",
                    "topologySpreadConstraints": [{
                        "maxSkew": 1,
                        "topologyKey": "kubernetes.io/hostname",
                        "whenUnsatisfiable": "DoNotSchedule",
                        "labelSelector": { "matchLabels": { "k8s-app": "kube-dns" } },
                    }],
                    "containers": [container()],
                    "volumes": [{ "name": "config", "configMap": { "name": DEPLOYMENT } }],
                },
            },
        },
    })
}

fn container() -> Value {
    json!({
        "name": "coredns",
        "image": COREDNS,
        "args": ["-conf", "/etc/coredns/Corefile"],
        "readinessProbe": { "httpGet": { "path": "/ready", "port": 8181 }, "periodSeconds": 1 },
        "livenessProbe": { "httpGet": { "path": "/health", "port": 8080 }, "initialDelaySeconds": 60 },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "add": ["NET_BIND_SERVICE"], "drop": ["ALL"] },
            "readOnlyRootFilesystem": true,
        },
        "volumeMounts": [{ "name": "config", "mountPath": "/etc/coredns", "readOnly": true }],
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "kube-dns", "namespace": "kube-system", "labels": { "k8s-app": "kube-dns" } },
        "spec": {
            "clusterIP": ADDRESS,
            "selector": { "k8s-app": "kube-dns" },
            "ports": [
                { "name": "dns", "port": 53, "protocol": "UDP" },
                { "name": "dns-tcp", "port": 53, "protocol": "TCP" },
            ],
        },
    })
}
