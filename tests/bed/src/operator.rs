use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use cache_registry_api::labels::{OPT_OUT_LABEL, OPT_OUT_VALUE};
use serde_json::{Value, json};

use crate::bed::Options;
use crate::cache::Cache;
use crate::certificates::{Authority, CertificateFiles};
use crate::collector::Collector;
use crate::credentials::{REGISTRY_CREDENTIALS, credentials_file, credentials_secret};
use crate::network::{Namespace, Network};
use crate::part::{Part, Ready};
use crate::private_registry::private_registry_address;
use crate::tools::Tools;

/// The namespace of the release.
pub const NAMESPACE: &str = "cache-registry-system";

/// The user whose rights the controllers have.
pub(crate) const CONTROLLERS_USER: &str = "cache-registry-controllers";

/// The user whose rights the webhook has.
pub(crate) const WEBHOOK_USER: &str = "cache-registry-webhook";

/// The one Secret that the webhook may read: what policies in registries are pulled with.
pub const POLICY_PULL_SECRET: &str = "policy-pull-secret";

/// The registries that the upstream stands in for. Two of them need no file to be valid in references, the third shows
/// that a port survives the way, and from the fourth nodes of a cloud pull with credentials of their own.
pub const REGISTRIES: [&str; 4] = ["docker.io", "quay.io", "reg.example:5000", ECR_REGISTRY];

/// A registry of ECR, as a cluster of EKS has it.
pub const ECR_REGISTRY: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// A registry that is configured and is not there: connections are refused.
pub const GONE_REGISTRY: &str = "gone.example";

/// A registry that only serves those who have a password ([`PrivateRegistry`](crate::PrivateRegistry)).
pub const PRIVATE_REGISTRY: &str = "private.example";

const WEBHOOK: u16 = 9443;
const WEBHOOK_ADMIN: u16 = 8100;
const CONTROLLERS_ADMIN: u16 = 8081;
const PULL_TOKENS: u16 = 8200;
/// The port of a proxy's metrics.
pub(crate) const PROXY_ADMIN: u16 = 8080;
const NOBODY: u16 = 9;

/// The file that says where registries are.
pub(crate) fn registries_file(folder: &Path) -> PathBuf {
    folder.join("registries.yaml")
}

/// How the roles of cache-registry are started: what a chart's templates say.
#[derive(Debug)]
pub(crate) struct Operator<'a> {
    folder: &'a Path,
    network: Network,
    tools: &'a Tools,
    cache: &'a Cache,
    registries: PathBuf,
    /// The CA of the collector, a file, where there is one.
    collector: Option<PathBuf>,
}

impl<'a> Operator<'a> {
    /// They send traces to a collector of this authority's, if there is one.
    pub(crate) fn new(
        folder: &'a Path,
        network: Network,
        tools: &'a Tools,
        cache: &'a Cache,
        collector: Option<&Authority>,
    ) -> Self {
        let collector = collector.map(Authority::file);
        Self { folder, network, tools, cache, registries: registries_file(folder), collector }
    }

    /// Writes the registries file, with `upstream` in the place of every registry.
    pub(crate) fn write_registries(&self, upstream: SocketAddr) -> Result<()> {
        let known = REGISTRIES.into_iter().map(|registry| (registry, upstream));
        let others =
            [(GONE_REGISTRY, self.network.shared(NOBODY)), (PRIVATE_REGISTRY, private_registry_address(self.network))];
        let entries = known
            .chain(others)
            .map(|(registry, address)| format!("  \"{registry}\":\n    endpoint: http://{address}\n"));
        Ok(fs::write(&self.registries, format!("registries:\n{}", entries.collect::<String>()))?)
    }

    /// One replica of the webhook, 0 to 9, which serves these certificate files. The API server asks the first.
    pub(crate) fn webhook(&self, replica: u8, files: &CertificateFiles, kubeconfig: &Path) -> Part {
        let (address, admin) = (webhook_address(self.network, replica), webhook_admin(self.network, replica));
        let name = if replica == 0 { "webhook".to_owned() } else { format!("webhook-{replica}") };
        self.role(&name, "webhook", admin)
            .args(["--namespace", NAMESPACE, "--identity", &name, "--policy-image-interval", POLICY_IMAGE_INTERVAL])
            .args(["--listen", &address.to_string(), "--admin-listen", &admin.to_string()])
            .args(["--tls-cert".as_ref(), files.certificate.as_path()])
            .args(["--tls-key".as_ref(), files.key.as_path()])
            .args(["--registry-host", &self.cache.address().to_string()])
            .args(["--registries".as_ref(), self.registries.as_path()])
            .env("KUBECONFIG", kubeconfig)
    }

    /// One replica of the controllers, 0 to 9.
    pub(crate) fn controllers(&self, replica: u8, options: &Options, kubeconfig: &Path) -> Part {
        let admin = controllers_admin(self.network, replica);
        let name = format!("controllers-{replica}");
        self.role(&name, "controllers", admin)
            .args(["--namespace", NAMESPACE, "--identity", &name, "--registry", &self.cache.url()])
            .args(["--registries".as_ref(), self.registries.as_path()])
            .args(["--admin-listen", &admin.to_string(), "--expiry-delay", options.expiry_delay])
            .args(["--update-interval", options.update_interval])
            .args(["--pull-secrets"])
            .args(self.cache.is_guarded().then(|| format!("--registry-credentials-secret={REGISTRY_CREDENTIALS}")))
            .args(self.cache.is_guarded().then(|| format!("--pull-tokens-listen={}", self.pull_tokens(replica))))
            .env("KUBECONFIG", kubeconfig)
    }

    /// Where a replica of the controllers gives tokens. The proxies ask the first.
    fn pull_tokens(&self, replica: u8) -> SocketAddr {
        self.network.shared(PULL_TOKENS + u16::from(replica))
    }

    /// The proxy of a node, which has no kubeconfig.
    pub(crate) fn proxy(&self, node: &str, namespace: &Namespace) -> Part {
        let admin = namespace.address(PROXY_ADMIN);
        let cache = format!("http://{}", self.cache.reader_address());
        let credentials = credentials_file(self.folder, "proxy").display().to_string();
        let part = Part::new(self.folder, format!("{node}-proxy"), "nsenter", Ready::Answers(admin, "/ready"))
            .args([format!("--net={}", namespace.path()).into(), self.tools.cache_registry().to_owned()])
            .args(["proxy", "--cache", &cache, "--admin-listen", &admin.to_string()])
            .args(self.cache.is_guarded().then(|| format!("--cache-credentials={credentials}")))
            .args(self.cache.is_guarded().then(|| format!("--pull-tokens=http://{}", self.pull_tokens(0))))
            .args(["--registries".as_ref(), self.registries.as_path()]);
        self.seen(part)
    }

    fn role(&self, name: &str, role: &str, admin: SocketAddr) -> Part {
        let part = Part::new(self.folder, name, self.tools.cache_registry(), Ready::Answers(admin, "/ready"));
        self.seen(part.args([role]))
    }

    /// With logs, and traces where they are wanted: all of them.
    fn seen(&self, part: Part) -> Part {
        let part = part.env("RUST_LOG", LOG);
        match &self.collector {
            None => part,
            Some(authority) => part
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", Collector::endpoint_of_the_roles(self.network))
                .env("OTEL_TRACES_SAMPLER_ARG", "1")
                .env("SSL_CERT_FILE", authority),
        }
    }
}

const LOG: &str = "info,cache_registry=debug";

/// A tag that moves is seen within a test's patience.
const POLICY_IMAGE_INTERVAL: &str = "1s";

/// Where a replica of the webhook answers.
pub(crate) fn webhook_address(network: Network, replica: u8) -> SocketAddr {
    network.host(WEBHOOK + u16::from(replica))
}

/// Where it says how it is, and which policies are in force.
pub(crate) fn webhook_admin(network: Network, replica: u8) -> SocketAddr {
    network.host(WEBHOOK_ADMIN + u16::from(replica))
}

/// Where a replica of the controllers has its admin port.
pub(crate) fn controllers_admin(network: Network, replica: u8) -> SocketAddr {
    network.host(CONTROLLERS_ADMIN + u16::from(replica))
}

/// The objects of a release besides its CRDs: the namespace, what each role may do, when the webhook is asked.
pub(crate) fn objects(network: Network, authority: &Authority) -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } },
        credentials_secret(),
        cluster_role(),
        role(),
        webhook_role(),
        binding("ClusterRoleBinding", "ClusterRole", CONTROLLERS_USER, &json!({ "name": CONTROLLERS_USER })),
        role_binding(CONTROLLERS_USER),
        role_binding(WEBHOOK_USER),
        webhook_configuration(network, authority),
    ]})
}

fn cluster_role() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": { "name": CONTROLLERS_USER },
        "rules": [
            { "apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["list", "watch"] },
            { "apiGroups": [""], "resources": ["secrets"], "verbs": ["get"] },
            {
                "apiGroups": ["apps"],
                "resources": ["daemonsets", "deployments", "replicasets", "statefulsets"],
                "verbs": ["list", "watch"],
            },
            { "apiGroups": ["batch"], "resources": ["cronjobs", "jobs"], "verbs": ["list", "watch"] },
            {
                "apiGroups": ["cache-registry.enix.io"],
                "resources": ["cachedimages"],
                "verbs": ["list", "watch", "create", "delete"],
            },
            { "apiGroups": ["cache-registry.enix.io"], "resources": ["cachedimages/status"], "verbs": ["patch"] },
            // Events about a cluster-scoped object are in the namespace `default`.
            { "apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"] },
        ],
    })
}

fn role() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": { "name": CONTROLLERS_USER, "namespace": NAMESPACE },
        "rules": [
            {
                "apiGroups": ["coordination.k8s.io"],
                "resources": ["leases"],
                "verbs": ["get", "create", "update", "patch"],
            },
            {
                "apiGroups": [""],
                "resources": ["secrets"],
                "resourceNames": [REGISTRY_CREDENTIALS],
                "verbs": ["get", "list", "watch", "patch"],
            },
        ],
    })
}

fn webhook_role() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": { "name": WEBHOOK_USER, "namespace": NAMESPACE },
        "rules": [
            { "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"] },
            { "apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"] },
            {
                "apiGroups": [""],
                "resources": ["secrets"],
                "resourceNames": [POLICY_PULL_SECRET],
                "verbs": ["get"],
            },
        ],
    })
}

fn role_binding(user: &str) -> Value {
    binding("RoleBinding", "Role", user, &json!({ "name": user, "namespace": NAMESPACE }))
}

fn binding(kind: &str, role: &str, user: &str, metadata: &Value) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": metadata,
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": user },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
    })
}

fn webhook_configuration(network: Network, authority: &Authority) -> Value {
    let rule = |operations: &[&str], resource| json!({ "apiGroups": [""], "apiVersions": ["v1"], "operations": operations, "resources": [resource] });
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": { "name": "cache-registry" },
        "webhooks": [{
            "name": "pods.cache-registry.enix.io",
            "clientConfig": {
                "url": format!("https://{}/mutate/pods", webhook_address(network, 0)),
                "caBundle": k8s_openapi::ByteString(authority.pem().into()),
            },
            "rules": [rule(&["CREATE", "UPDATE"], "pods"), rule(&["UPDATE"], "pods/ephemeralcontainers")],
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Ignore",
            "timeoutSeconds": 5,
            "reinvocationPolicy": "IfNeeded",
            "objectSelector": {
                "matchExpressions": [{ "key": OPT_OUT_LABEL, "operator": "NotIn", "values": [OPT_OUT_VALUE] }],
            },
            "namespaceSelector": { "matchExpressions": [{
                "key": "kubernetes.io/metadata.name",
                "operator": "NotIn",
                "values": ["kube-system", NAMESPACE],
            }]},
        }],
    })
}
