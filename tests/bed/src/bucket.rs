use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::network::Network;
use crate::part::{Part, Ready};
use crate::tools::Tools;

const PORT: u16 = 7070;
const REGION: &str = "us-east-1";
const ACCESS_KEY: &str = "of-this-bed";
const SECRET_KEY: &str = "the secret of this bed";

/// A server of S3, [versitygw](https://github.com/versity/versitygw), and a bucket in it. It keeps each object as a file of
/// its name.
#[derive(Debug)]
pub struct Bucket {
    /// Its process, which is not started yet.
    pub part: Part,
    address: SocketAddr,
    folder: PathBuf,
}

impl Bucket {
    pub(crate) fn new(folder: &Path, network: Network, tools: &Tools) -> Result<Self> {
        let address = network.shared(PORT);
        let (buckets, metadata) = (folder.join("s3/buckets"), folder.join("s3/metadata"));
        let bucket = buckets.join(Self::NAME);
        for folder in [&bucket, &metadata] {
            fs::create_dir_all(folder)?;
        }
        let part = Part::new(folder, "s3", tools.path("versitygw"), Ready::Answers(address, "/healthz"))
            .args(["--port", &address.to_string(), "--region", REGION, "--health", "/healthz", "--quiet", "posix"])
            .args(["--sidecar".into(), metadata, buckets])
            .env("ROOT_ACCESS_KEY", ACCESS_KEY)
            .env("ROOT_SECRET_KEY", SECRET_KEY);
        Ok(Self { part, address, folder: bucket })
    }

    /// What it is called.
    pub const NAME: &str = "images";

    /// Where it is, as the chart's `registry.persistence.s3` has it.
    pub fn values(&self) -> Value {
        json!({
            "bucket": Self::NAME,
            "region": REGION,
            "regionendpoint": format!("http://{}", self.address),
            "forcepathstyle": true,
            "rootdirectory": "/cache",
        })
    }

    /// A Secret with its credentials, as the chart's `registry.persistence.s3ExistingSecret` names one.
    pub fn secret(name: &str, namespace: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": name, "namespace": namespace },
            "stringData": { "accessKey": ACCESS_KEY, "secretKey": SECRET_KEY },
        })
    }

    /// The names of all objects in it, sorted.
    pub fn objects(&self) -> Result<Vec<String>> {
        let mut objects = Vec::new();
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
                let path = entry?.path();
                let name = path.strip_prefix(&self.folder)?.display().to_string();
                // The server's own.
                if name.starts_with(".sgwtmp") {
                    continue;
                }
                if path.is_dir() { folders.push(path) } else { objects.push(name) }
            }
        }
        objects.sort();
        Ok(objects)
    }
}
