use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;

use crate::certificates::{Authority, CertificateFiles, SigningKeys};
use crate::network::Network;
use crate::part::{Part, Ready};
use crate::tools::Tools;
use crate::until;

/// How long the API server may take until it serves, on a machine that is busy building.
const LONGEST_START: Duration = Duration::from_mins(1);

/// etcd, kube-apiserver and kube-controller-manager, as a cluster has them: authentication by certificate, RBAC, the
/// admission plugins that are on by default.
///
/// There is no scheduler and no kubelet: a pod is stored and stays `Pending`, and a test does what a kubelet does next.
pub struct ControlPlane {
    /// Where the API server keeps its objects.
    pub etcd: Part,
    /// The API server.
    pub api_server: Part,
    /// The controllers that a pod needs: service accounts, namespaces, Deployments.
    pub controller_manager: Part,
    network: Network,
    folder: PathBuf,
    client: Client,
}

impl ControlPlane {
    /// Starts it, and waits until a pod can be created.
    pub(crate) async fn start(folder: &Path, network: Network, tools: &Tools, authority: &Authority) -> Result<Self> {
        let server = authority.server("kube-apiserver", network.host(API))?;
        let signing_keys = authority.signing_keys()?;
        let admin = authority.client("admin", Some("system:masters"))?;
        let admin = write_kubeconfig(folder, network, "admin", &admin)?;
        let mut plane = Self {
            etcd: etcd(folder, network, tools),
            api_server: api_server(folder, network, tools, authority, &server, &signing_keys),
            controller_manager: controller_manager(folder, network, tools, authority, &admin, &signing_keys),
            network,
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
    pub(crate) async fn takes_pods(&mut self, namespace: &str) -> Result<()> {
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
        write_kubeconfig(&self.folder, self.network, user, &authority.client(user, None)?)
    }
}

const ETCD: u16 = 2379;
const ETCD_PEERS: u16 = 2380;
const API: u16 = 6443;
const CONTROLLER_MANAGER: u16 = 10257;

fn etcd(folder: &Path, network: Network, tools: &Tools) -> Part {
    let clients = format!("http://{}", network.host(ETCD));
    let peers = format!("http://{}", network.host(ETCD_PEERS));
    Part::new(folder, "etcd", tools.path("etcd"), Ready::Answers(network.host(ETCD), "/readyz"))
        .args(["--data-dir".into(), folder.join("etcd")])
        .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
        .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
        .args(["--initial-cluster", &format!("default={peers}")])
        // Nothing here outlives the machine.
        .args(["--unsafe-no-fsync", "--log-level", "warn"])
}

fn api_server(
    folder: &Path,
    network: Network,
    tools: &Tools,
    authority: &Authority,
    server: &CertificateFiles,
    signing_keys: &SigningKeys,
) -> Part {
    let address = network.host(API);
    Part::new(folder, "kube-apiserver", tools.path("kube-apiserver"), Ready::Accepts(address))
        .args(["--etcd-servers", &format!("http://{}", network.host(ETCD))])
        .args(["--bind-address", &address.ip().to_string(), "--advertise-address", &address.ip().to_string()])
        .args(["--secure-port", &address.port().to_string()])
        // A Service's endpoints may not be on loopback, where this one is.
        .args(["--endpoint-reconciler-type", "none"])
        .args(["--service-cluster-ip-range", "10.96.0.0/16", "--authorization-mode", "RBAC"])
        .args(["--service-account-issuer", "https://kubernetes.default.svc"])
        .args(["--tls-cert-file".as_ref(), server.certificate.as_path()])
        .args(["--tls-private-key-file".as_ref(), server.key.as_path()])
        .args(["--client-ca-file".into(), authority.file()])
        .args(["--service-account-key-file".as_ref(), signing_keys.public.as_path()])
        .args(["--service-account-signing-key-file".as_ref(), signing_keys.private.as_path()])
}

fn controller_manager(
    folder: &Path,
    network: Network,
    tools: &Tools,
    authority: &Authority,
    kubeconfig: &Path,
    signing_keys: &SigningKeys,
) -> Part {
    const CONTROLLERS: &str = "serviceaccount-controller,root-ca-certificate-publisher-controller,\
        namespace-controller,deployment-controller,replicaset-controller,garbage-collector-controller";
    let address = network.host(CONTROLLER_MANAGER);
    Part::new(folder, "kube-controller-manager", tools.path("kube-controller-manager"), Ready::Accepts(address))
        .args(["--kubeconfig".as_ref(), kubeconfig])
        .args(["--bind-address", &address.ip().to_string(), "--secure-port", &address.port().to_string()])
        .args(["--cert-dir".into(), folder.join("kube-controller-manager")])
        .args(["--service-account-private-key-file".as_ref(), signing_keys.private.as_path()])
        .args(["--root-ca-file".into(), authority.file()])
        .args(["--leader-elect=false", "--controllers", CONTROLLERS])
}

fn write_kubeconfig(folder: &Path, network: Network, user: &str, files: &CertificateFiles) -> Result<PathBuf> {
    let path = folder.join(format!("{user}.kubeconfig"));
    // JSON is YAML.
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "bed",
            "cluster": {
                "server": format!("https://{}", network.host(API)),
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

async fn client(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
