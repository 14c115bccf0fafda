use std::fs;
use std::path::Path;

use anyhow::Result;
use cache_registry_upstream::{File, Image, Layer, Platform};
use tokio::process::Command;

use crate::bed::output;
use crate::containerd::PAUSE;
use crate::tools::Tools;
use crate::upstream::Upstream;

/// An image with Debian's static busybox as `/busybox`, its entrypoint: a shell, `wget`, `httpd`, `nslookup`.
pub const BUSYBOX: &str = "docker.io/library/busybox:1.35";

/// The registry of the cluster's own images.
pub(crate) const REGISTRY: &str = "registry.k8s.io";

/// The DNS of a cluster.
pub(crate) const COREDNS: &str = "registry.k8s.io/coredns/coredns:v1.13.1";

/// Puts the images that a cluster needs for itself, and [`BUSYBOX`], into upstream.
pub(crate) async fn publish(folder: &Path, tools: &Tools, upstream: &Upstream) -> Result<()> {
    let pause = folder.join("pause");
    let mut compile = Command::new("gcc");
    compile.args(["-static", "-Os", "-s", "-x", "c", "-", "-o"]).arg(&pause);
    output(&mut compile, include_str!("pause.c")).await?;

    add(upstream, PAUSE, "pause", &pause).await?;
    add(upstream, COREDNS, "coredns", &tools.path("coredns")).await?;
    add(upstream, BUSYBOX, "busybox", Path::new("/bin/busybox")).await
}

/// An image with a static program as its only file.
async fn add(upstream: &Upstream, reference: &str, name: &str, program: &Path) -> Result<()> {
    let (repository, tag) = repository_and_tag(reference);
    let layer = Layer::tar(&[File::program(name, &fs::read(program)?)])?;
    let image = Image::single(&Platform::AMD64, &[layer], &[&format!("/{name}")]);
    upstream.add(repository, tag, &image).await
}

/// Of a reference of the form `host/repository:tag`.
fn repository_and_tag(reference: &str) -> (&str, &str) {
    let path = reference.split_once('/').map_or(reference, |(_, path)| path);
    path.rsplit_once(':').unwrap_or((path, "latest"))
}
