//! The chart's release on a cluster, installed by the README's command.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use cache_registry_bed::cluster::{BUSYBOX, Cluster};
use cache_registry_upstream::{File, Image, Layer, Platform};
use serde_json::json;

/// The release.
pub const RELEASE: &str = "cache-registry";
/// And its namespace.
pub const NAMESPACE: &str = "cache-registry-system";

/// The images of the chart, as its values name them.
const IMAGE: &str = concat!("ghcr.io/enix/cache-registry:", env!("CARGO_PKG_VERSION"));
/// The registry's.
pub const REGISTRY: &str = "docker.io/library/registry:3.1.2";

/// Installs it, or upgrades it.
pub async fn install(cluster: &Cluster) -> Result<()> {
    install_with(cluster, &[]).await
}

/// The README's command, with the places of upstream and with `settings` as values.
pub async fn install_with(cluster: &Cluster, settings: &[&str]) -> Result<()> {
    publish(cluster).await?;
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
    cluster.apply(&namespace.to_string()).await?;
    let upstream = format!("http://{}", cluster.upstream.address());
    let registries = ["docker.io", "ghcr.io"].map(|host| (host.to_owned(), json!({ "endpoint": upstream })));
    let document = json!({
        "registries": serde_json::Map::from_iter(registries),
        "log": { "format": "text", "filter": "info,cache_registry=debug" },
        // A whole cluster shares the cores of this machine, while a release is replaced with two nodes pulling.
        "policies": { "time": "500ms" },
    });
    let values = cluster.folder().join("values.yaml");
    fs::write(&values, document.to_string())?;
    // A test that fails may have ended helm in the middle.
    let pending = "owner=helm,status in (pending-install,pending-upgrade,pending-rollback)";
    cluster.kubectl(&["delete", "secrets", "--namespace", NAMESPACE, "--selector", pending]).await?;
    let values = values.display().to_string();
    let command = ["upgrade", "--install", "--namespace", NAMESPACE, RELEASE, &chart(), "--values", &values];
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    cluster.helm(&[&command[..], &settings, &["--wait", "--timeout", "2m"]].concat()).await?;
    Ok(())
}

/// A `PersistentVolume` on node a, which any claim may have; and its folder.
pub async fn volume(cluster: &Cluster) -> Result<PathBuf> {
    let folder = cluster.folder().join("images");
    fs::create_dir_all(&folder)?;
    let volume = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": { "name": "images" },
        "spec": {
            "capacity": { "storage": "20Gi" },
            "accessModes": ["ReadWriteOnce"],
            "local": { "path": folder },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [
                { "key": "kubernetes.io/hostname", "operator": "In", "values": [cluster.a.name()] },
            ]}]}},
        },
    });
    cluster.apply(&volume.to_string()).await?;
    Ok(folder)
}

/// Puts the release's images into upstream. Ours is the one that `make image` has packed, where `CACHE_REGISTRY_IMAGE`
/// says so; else it is the binary that the other tests have, with its libraries, which takes no build of its own.
async fn publish(cluster: &Cluster) -> Result<()> {
    if let Some(layout) = env::var_os("CACHE_REGISTRY_IMAGE").map(PathBuf::from) {
        let hint = || format!("no image at {}: run `make image` first", layout.display());
        cluster.add_image(IMAGE, &layout).await.with_context(hint)?;
    } else {
        let layer = Layer::tar(&with_libraries("usr/bin/cache-registry", cluster.cache_registry())?)?;
        let image = Image::single(&Platform::AMD64, &[layer], &["/usr/bin/cache-registry"]);
        add(cluster, IMAGE.trim_start_matches("ghcr.io/"), &image).await?;
    }
    let registry = fs::read(cluster.programs().join("registry"))?;
    let layer = Layer::tar(&[File::program("registry", &registry)])?;
    let image = Image::single(&Platform::AMD64, &[layer], &["/registry"]);
    add(cluster, REGISTRY.trim_start_matches("docker.io/"), &image).await
}

/// Puts busybox into upstream under another name.
pub async fn publish_busybox(cluster: &Cluster, reference: &str) -> Result<()> {
    let layer = Layer::tar(&[File::program("busybox", &fs::read("/bin/busybox")?)])?;
    let image = Image::single(&Platform::AMD64, &[layer], &["/busybox"]);
    add(cluster, reference.trim_start_matches("docker.io/"), &image).await
}

async fn add(cluster: &Cluster, reference: &str, image: &Image) -> Result<()> {
    let (repository, tag) = reference.split_once(':').context("no tag")?;
    cluster.upstream.add(repository, tag, image).await
}

/// A program at a path of an image, and what ldd(1) says that it is linked with.
fn with_libraries(path: &str, program: &Path) -> Result<Vec<File>> {
    let listed = Command::new("ldd").arg(program).output().context("ldd")?;
    let listed = String::from_utf8(listed.stdout)?;
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    let mut files = vec![File::program(path, &fs::read(program)?)];
    for library in libraries {
        files.push(File::program(library.trim_start_matches('/'), &fs::read(library).context(library.to_owned())?));
    }
    Ok(files)
}

/// A Deployment of one replica on a node.
pub async fn deploy(cluster: &Cluster, name: &str, node: &str) -> Result<()> {
    deploy_with(cluster, name, node, BUSYBOX, &[]).await
}

/// The same with another image of busybox, and with pull secrets.
pub async fn deploy_with(cluster: &Cluster, name: &str, node: &str, image: &str, secrets: &[&str]) -> Result<()> {
    let secrets: Vec<_> = secrets.iter().map(|name| json!({ "name": name })).collect();
    let labels = json!({ "app": name });
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "nodeSelector": { "kubernetes.io/hostname": node },
                    "imagePullSecrets": secrets,
                    "containers": [{ "name": "main", "image": image, "args": ["sh", "-c", "exec sleep 3600"] }],
                },
            },
        },
    });
    cluster.apply(&deployment.to_string()).await?;
    cluster.available("default", name).await
}

/// The folder of the chart.
pub fn chart() -> String {
    workspace().join("helm/cache-registry").display().to_string()
}

fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}
