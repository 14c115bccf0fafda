use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context as _, Result};
use cache_registry_core::{Digest, Hasher};
use flate2::{Compression, GzBuilder};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tar::{Builder, EntryType, Header};

use crate::contents::{File, PROGRAM, USER};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Memory is taken from the system as it is needed. Otherwise mimalloc keeps pages in advance: 30 to 50 MiB more for a
/// webhook at rest (docs/architecture.md, "The image").
const ALLOCATOR: &str = "MIMALLOC_ARENA_EAGER_COMMIT=0";

/// What is said about the image.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) revision: String,
    pub(crate) source: String,
    pub(crate) licenses: String,
    pub(crate) created: Timestamp,
    pub(crate) architecture: &'static str,
}

/// An OCI image layout (<https://github.com/opencontainers/image-spec/blob/main/image-layout.md>) of one image.
#[derive(Debug)]
pub(crate) struct Layout {
    files: BTreeMap<String, Vec<u8>>,
    created: Timestamp,
    digest: Digest,
    pulled: u64,
}

impl Layout {
    /// An image of these layers.
    pub(crate) fn of(about: &About, layers: &[Vec<File>]) -> Result<Self> {
        let mut layout =
            Self { files: BTreeMap::new(), created: about.created, digest: Hasher::sha256(b""), pulled: 0 };
        let (mut diff_ids, mut descriptors) = (Vec::new(), Vec::new());
        for files in layers {
            let tar = layer(files, about.created)?;
            diff_ids.push(Hasher::sha256(&tar).to_string());
            descriptors.push(layout.blob(LAYER, gzip(&tar)?));
        }
        let config = layout.blob(CONFIG, config(about, &diff_ids).to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": descriptors, "annotations": labels(about),
        });
        let manifest = manifest.to_string().into_bytes();
        layout.digest = Hasher::sha256(&manifest);
        let mut descriptor = layout.blob(MANIFEST, manifest);
        layout.pulled = layout.files.values().map(|blob| blob.len() as u64).sum();

        descriptor["platform"] = json!({ "architecture": about.architecture, "os": "linux" });
        // By the first name skopeo and crane find it, by the second containerd calls it after an import.
        descriptor["annotations"] = json!({
            "org.opencontainers.image.ref.name": about.version,
            "io.containerd.image.name": format!("{}:{}", about.name, about.version),
        });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor] });
        layout.files.insert("index.json".to_owned(), index.to_string().into_bytes());
        layout.files.insert("oci-layout".to_owned(), json!({ "imageLayoutVersion": "1.0.0" }).to_string().into_bytes());
        Ok(layout)
    }

    /// The digest of the image's manifest: what it is pinned by.
    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// How many bytes a node pulls.
    pub(crate) fn pulled(&self) -> u64 {
        self.pulled
    }

    /// Writes it as a folder, in the place of what is there.
    pub(crate) fn write_folder(&self, folder: &Path) -> io::Result<()> {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => (),
        }
        for (path, content) in &self.files {
            let path = folder.join(path);
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(path, content)?;
        }
        Ok(())
    }

    /// Writes it as a tar file.
    pub(crate) fn write_archive(&self, file: &Path) -> Result<()> {
        let mut archive = Builder::new(Vec::new());
        for (path, content) in &self.files {
            append(&mut archive, EntryType::Regular, path, 0o644, content, self.created)?;
        }
        Ok(fs::write(file, archive.into_inner()?)?)
    }

    /// Adds a blob and returns its descriptor.
    fn blob(&mut self, media_type: &str, content: Vec<u8>) -> Value {
        let digest = Hasher::sha256(&content);
        let descriptor = json!({ "mediaType": media_type, "digest": digest.to_string(), "size": content.len() });
        self.files.insert(format!("blobs/{}/{}", digest.algorithm(), digest.digest()), content);
        descriptor
    }
}

fn config(about: &About, diff_ids: &[String]) -> Value {
    let history: Vec<_> = diff_ids.iter().map(|_| json!({ "created": about.created.to_string() })).collect();
    json!({
        "created": about.created.to_string(),
        "architecture": about.architecture,
        "os": "linux",
        "config": {
            "User": format!("{USER}:{USER}"),
            "Entrypoint": [format!("/{PROGRAM}")],
            "Env": ["PATH=/usr/bin", ALLOCATOR],
            "WorkingDir": "/",
            "Labels": labels(about),
        },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": history,
    })
}

/// <https://github.com/opencontainers/image-spec/blob/main/annotations.md#pre-defined-annotation-keys>
fn labels(about: &About) -> Value {
    let values = [
        ("title", "cache-registry"),
        ("description", "Keeps a Kubernetes cluster starting pods when the upstream registry can't"),
        ("version", &about.version),
        ("revision", &about.revision),
        ("source", &about.source),
        ("url", &about.source),
        ("licenses", &about.licenses),
        ("created", &about.created.to_string()),
    ];
    let labels = values.map(|(key, value)| (format!("org.opencontainers.image.{key}"), Value::from(value)));
    Value::Object(Map::from_iter(labels))
}

/// A tar of the files and their folders, sorted.
fn layer(files: &[File], time: Timestamp) -> Result<Vec<u8>> {
    let folders: BTreeSet<&str> =
        files.iter().flat_map(|file| file.path.match_indices('/').map(|(end, _)| &file.path[..=end])).collect();
    let mut files: Vec<&File> = files.iter().collect();
    files.sort_by_key(|file| file.path);
    let mut archive = Builder::new(Vec::new());
    for folder in folders {
        append(&mut archive, EntryType::Directory, folder, 0o755, &[], time)?;
    }
    for File { path, mode, content } in files {
        append(&mut archive, EntryType::Regular, path, *mode, content, time)?;
    }
    Ok(archive.into_inner()?)
}

/// Adds an entry that belongs to root. Names of users and devices stay empty: those of this machine say nothing.
fn append(
    archive: &mut Builder<impl Write>,
    kind: EntryType,
    path: &str,
    mode: u32,
    content: &[u8],
    time: Timestamp,
) -> Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(u64::try_from(time.as_second()).context("the commit is from before 1970")?);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(content.len() as u64);
    Ok(archive.append_data(&mut header, path, content)?)
}

/// Without a file name and a time, which gzip would otherwise keep.
fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

#[cfg(test)]
mod tests;
