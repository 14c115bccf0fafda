use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;

use crate::certificates::{Authority, CertificateFiles, SigningKeys};
use crate::network::{Namespace, Network};
use crate::part::{Part, Ready};
use crate::tools::Tools;
use crate::until;

/// How long the API server may take until it serves, on a machine that is busy building.
const LONGEST_START: Duration = Duration::from_mins(1);

/// Where a control plane is, and so what it is for.
#[derive(Debug, Clone)]
pub(crate) enum Site {
    /// On an address that only this machine reaches. There is no scheduler and no kubelet: a pod is stored and stays
    /// `Pending`, and a test does what a kubelet does next.
    Alone(Network),
    /// In the network of a node, as on a control plane node: what a Service's address leads to is reached from there,
    /// and kubelets and pods reach it.
    WithNodes(Namespace),
}

impl Site {
    pub(crate) fn address(&self, port: u16) -> SocketAddr {
        match self {
            Self::Alone(network) => network.host(port),
            Self::WithNodes(namespace) => namespace.address(port),
        }
    }

    pub(crate) fn part(&self, folder: &Path, tools: &Tools, name: &str, ready: Ready) -> Part {
        let program = tools.path(name);
        match self {
            Self::Alone(_) => Part::new(folder, name, program, ready),
            Self::WithNodes(namespace) => namespace.part(folder, name, program, ready),
        }
    }

    /// Writes the kubeconfig of a user with this certificate.
    pub(crate) fn kubeconfig(&self, folder: &Path, user: &str, files: &CertificateFiles) -> Result<PathBuf> {
        let path = folder.join(format!("{user}.kubeconfig"));
        // JSON is YAML.
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": "bed",
                "cluster": {
                    "server": format!("https://{}", self.address(API)),
                    "certificate-authority": folder.join("ca.crt"),
                },
            }],
            "users": [{ "name": user, "user": { "client-certificate": files.certificate, "client-key": files.key } }],
            "contexts": [{ "name": "bed", "context": { "cluster": "bed", "user": user } }],
            "current-context": "bed",
        });
        fs::write(&path, serde_json::to_vec_pretty(&kubeconfig)?)?;
        Ok(path)
    }
}

/// etcd, kube-apiserver and kube-controller-manager, as a cluster has them: authentication by certificate, RBAC, the
/// admission plugins that are on by default.
pub struct ControlPlane {
    /// Where the API server keeps its objects.
    pub etcd: Part,
    /// The API server.
    pub api_server: Part,
    /// The controllers that a pod needs: service accounts, namespaces, Deployments.
    pub controller_manager: Part,
    site: Site,
    folder: PathBuf,
    client: Client,
}

impl ControlPlane {
    /// Starts it for objects alone, and waits until the API server serves.
    pub(crate) async fn start(
        folder: &Path,
        network: Network,
        tools: &Tools,
        authority: &Authority,
        tracing: Option<PathBuf>,
    ) -> Result<Self> {
        Self::start_at(folder, Site::Alone(network), tools, authority, tracing).await
    }

    /// Starts it, and waits until the API server serves. `tracing` is the API server's file for that, if it is to do any.
    pub(crate) async fn start_at(
        folder: &Path,
        site: Site,
        tools: &Tools,
        authority: &Authority,
        tracing: Option<PathBuf>,
    ) -> Result<Self> {
        let signing_keys = authority.signing_keys()?;
        let admin = authority.client("admin", Some("system:masters"))?;
        let admin = site.kubeconfig(folder, "admin", &admin)?;
        let mut plane = Self {
            etcd: etcd(folder, &site, tools),
            api_server: api_server(folder, &site, tools, authority, &signing_keys)?
                .args(tracing.map(|file| format!("--tracing-config-file={}", file.display()))),
            controller_manager: controller_manager(folder, &site, tools, authority, &admin, &signing_keys),
            site,
            folder: folder.to_owned(),
            client: client(&admin).await?,
        };
        plane.etcd.start().await?;
        plane.start_api_server().await?;
        plane.controller_manager.spawn()?;
        Ok(plane)
    }

    /// Starts the API server, and waits until it serves.
    pub async fn start_api_server(&mut self) -> Result<()> {
        self.api_server.start().await?;
        let serves = until("the API server to serve", LONGEST_START, async || {
            if !self.api_server.runs() {
                return Ok(Some(false));
            }
            let request = http::Request::get("/readyz").body(Vec::new())?;
            Ok((self.client.request_text(request).await? == "ok").then_some(true))
        });
        if !serves.await.with_context(|| self.api_server.log_tail(15))? {
            bail!("the API server ended\n{}", self.api_server.log_tail(15));
        }
        Ok(())
    }

    /// Waits until pods can be created in a namespace.
    pub async fn takes_pods(&mut self, namespace: &str) -> Result<()> {
        self.controller_manager.ready().await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        until("the default service account", LONGEST_START, async || Ok(accounts.get_opt("default").await?))
            .await
            .with_context(|| self.controller_manager.log_tail(15))?;
        Ok(())
    }

    /// An administrator's client.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// An administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("admin.kubeconfig")
    }

    /// A kubeconfig for a user whose rights are what RBAC gives to that name.
    pub(crate) fn kubeconfig_of(&self, authority: &Authority, user: &str) -> Result<PathBuf> {
        self.site.kubeconfig(&self.folder, user, &authority.client(user, None)?)
    }
}

const ETCD: u16 = 2379;
const ETCD_PEERS: u16 = 2380;
const API: u16 = 6443;
const CONTROLLER_MANAGER: u16 = 10257;

/// The addresses of Services.
pub(crate) const SERVICES: &str = "10.96.0.0/16";
/// The API server's own, the first of them.
const API_SERVICE: &str = "10.96.0.1";

fn etcd(folder: &Path, site: &Site, tools: &Tools) -> Part {
    let clients = format!("http://{}", site.address(ETCD));
    let peers = format!("http://{}", site.address(ETCD_PEERS));
    site.part(folder, tools, "etcd", Ready::Answers(site.address(ETCD), "/readyz"))
        .args(["--data-dir".into(), folder.join("etcd")])
        .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
        .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
        .args(["--initial-cluster", &format!("default={peers}")])
        // Nothing here outlives the machine.
        .args(["--unsafe-no-fsync", "--log-level", "warn"])
}

fn api_server(
    folder: &Path,
    site: &Site,
    tools: &Tools,
    authority: &Authority,
    signing_keys: &SigningKeys,
) -> Result<Part> {
    let address = site.address(API);
    let host = address.ip().to_string();
    let known_as = [host.as_str(), API_SERVICE, "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];
    let server = authority.server_of("kube-apiserver", &known_as)?;
    let part = site
        .part(folder, tools, "kube-apiserver", Ready::Accepts(address))
        .args(["--etcd-servers", &format!("http://{}", site.address(ETCD))])
        .args(["--bind-address", &host, "--advertise-address", &host])
        .args(["--secure-port", &address.port().to_string()])
        .args(["--service-cluster-ip-range", SERVICES])
        .args(["--service-account-issuer", "https://kubernetes.default.svc"])
        .args(["--tls-cert-file".as_ref(), server.certificate.as_path()])
        .args(["--tls-private-key-file".as_ref(), server.key.as_path()])
        .args(["--client-ca-file".into(), authority.file()])
        .args(["--service-account-key-file".as_ref(), signing_keys.public.as_path()])
        .args(["--service-account-signing-key-file".as_ref(), signing_keys.private.as_path()]);
    Ok(match site {
        // A Service's endpoints may not be on loopback, where this one is.
        Site::Alone(_) => part.args(["--endpoint-reconciler-type", "none", "--authorization-mode", "RBAC"]),
        Site::WithNodes(_) => {
            // For logs, exec and port-forward.
            let to_kubelets = authority.client("kube-apiserver-kubelet-client", Some("system:masters"))?;
            part.args(["--authorization-mode", "Node,RBAC", "--enable-admission-plugins", "NodeRestriction"])
                .args(["--allow-privileged", "--kubelet-preferred-address-types", "InternalIP"])
                .args(["--kubelet-certificate-authority".into(), authority.file()])
                .args(["--kubelet-client-certificate".as_ref(), to_kubelets.certificate.as_path()])
                .args(["--kubelet-client-key".as_ref(), to_kubelets.key.as_path()])
        }
    })
}

fn controller_manager(
    folder: &Path,
    site: &Site,
    tools: &Tools,
    authority: &Authority,
    kubeconfig: &Path,
    signing_keys: &SigningKeys,
) -> Part {
    const WITHOUT_NODES: &str = "serviceaccount-controller,root-ca-certificate-publisher-controller,\
        namespace-controller,deployment-controller,replicaset-controller,garbage-collector-controller";
    let address = site.address(CONTROLLER_MANAGER);
    let part = site
        .part(folder, tools, "kube-controller-manager", Ready::Accepts(address))
        .args(["--kubeconfig".as_ref(), kubeconfig])
        .args(["--bind-address", &address.ip().to_string(), "--secure-port", &address.port().to_string()])
        .args(["--cert-dir".into(), folder.join("kube-controller-manager")])
        .args(["--service-account-private-key-file".as_ref(), signing_keys.private.as_path()])
        .args(["--root-ca-file".into(), authority.file()])
        .args(["--leader-elect=false"]);
    match site {
        Site::Alone(_) => part.args(["--controllers", WITHOUT_NODES]),
        Site::WithNodes(_) => part.args(["--use-service-account-credentials"]),
    }
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
