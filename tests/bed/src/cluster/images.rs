use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use cache_registry_upstream::{Content, File, Image, Layer, Platform};
use serde_json::Value;
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

    add(upstream, PAUSE, &of_program("pause", &pause)?).await?;
    add(upstream, COREDNS, &of_program("coredns", &tools.path("coredns"))?).await?;
    add(upstream, BUSYBOX, &of_program("busybox", Path::new("/bin/busybox"))?).await
}

/// Puts an image into upstream.
pub(crate) async fn add(upstream: &Upstream, reference: &str, image: &Image) -> Result<()> {
    let (repository, tag) = repository_and_tag(reference);
    upstream.add(repository, tag, image).await
}

/// An image with a static program as its only file.
fn of_program(name: &str, program: &Path) -> Result<Image> {
    let bytes = fs::read(program).with_context(|| program.display().to_string())?;
    let layer = Layer::tar(&[File::program(name, &bytes)])?;
    Ok(Image::single(&Platform::AMD64, &[layer], &[&format!("/{name}")]))
}

/// The first image of an OCI layout (<https://github.com/opencontainers/image-spec/blob/main/image-layout.md>).
pub(crate) fn of_layout(folder: &Path) -> Result<Image> {
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    let content = |descriptor: &Value| -> Result<Content> {
        let digest = descriptor["digest"].as_str().context("a descriptor without a digest")?;
        let bytes = read(&folder.join("blobs").join(digest.replacen(':', "/", 1)))?;
        Ok(Content::new(descriptor["mediaType"].as_str().unwrap_or_default(), bytes))
    };
    let named_by = |content: &Content, key: &str| -> Result<Vec<Value>> {
        let document: Value = serde_json::from_slice(&content.bytes)?;
        Ok(document[key].as_array().cloned().unwrap_or_default())
    };

    let index: Value = serde_json::from_slice(&read(&folder.join("index.json"))?)?;
    let root = content(&index["manifests"][0])?;
    let manifests: Vec<_> = named_by(&root, "manifests")?.iter().map(content).collect::<Result<_>>()?;
    let mut blobs = Vec::new();
    for manifest in if manifests.is_empty() { std::slice::from_ref(&root) } else { &manifests } {
        let document: Value = serde_json::from_slice(&manifest.bytes)?;
        blobs.push(content(&document["config"])?);
        for layer in named_by(manifest, "layers")? {
            blobs.push(content(&layer)?);
        }
    }
    Ok(Image { root, manifests, blobs })
}

/// Of a reference of the form `host/repository:tag`.
fn repository_and_tag(reference: &str) -> (&str, &str) {
    let path = reference.split_once('/').map_or(reference, |(_, path)| path);
    path.rsplit_once(':').unwrap_or((path, "latest"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_image_is_the_same_after_it_was_in_a_layout() {
        let image = Image::hello(b"program").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let blobs = folder.path().join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        for content in image.all_manifests().chain(&image.blobs) {
            fs::write(blobs.join(content.digest.digest()), &content.bytes).unwrap();
        }
        let root = json!({ "mediaType": image.root.media_type, "digest": image.digest().to_string() });
        fs::write(folder.path().join("index.json"), json!({ "manifests": [root] }).to_string()).unwrap();

        let read = of_layout(folder.path()).unwrap();
        assert_eq!(read.root, image.root);
        let is_in = |all: &[Content], one: &Content| all.iter().any(|found| found.digest == one.digest);
        assert!(image.manifests.iter().all(|manifest| is_in(&read.manifests, manifest)));
        assert!(image.blobs.iter().all(|blob| is_in(&read.blobs, blob)));
    }

    #[test]
    fn a_reference_is_a_repository_and_a_tag_without_its_host() {
        assert_eq!(repository_and_tag("reg.example:5000/a/b:1.0"), ("a/b", "1.0"));
        assert_eq!(repository_and_tag("docker.io/library/a"), ("library/a", "latest"));
    }
}
