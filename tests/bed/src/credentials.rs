use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::operator::NAMESPACE;
use crate::until;

/// The Secret of the registry's credentials.
pub const REGISTRY_CREDENTIALS: &str = "registry-credentials";

/// The keys that the registry and the proxies are given as files.
const MOUNTED: [&str; 3] = ["htpasswd.controllers", "htpasswd.proxy", "proxy"];

const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Where a key of the Secret is, for who has it mounted.
pub(crate) fn credentials_file(folder: &Path, key: &str) -> PathBuf {
    folder.join("credentials").join(key)
}

/// The Secret as the chart makes it.
pub(crate) fn credentials_secret() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": REGISTRY_CREDENTIALS, "namespace": NAMESPACE },
    })
}

/// What a kubelet does: waits until the Secret has all keys that are mounted, and exchanges the files. Returns what the
/// Secret holds.
pub(crate) async fn mount_credentials(client: Client, folder: &Path) -> Result<BTreeMap<String, String>> {
    let secrets: Api<Secret> = Api::namespaced(client, NAMESPACE);
    let held = until("the registry's credentials", LONGEST_WAIT, async || {
        let held = secrets.get(REGISTRY_CREDENTIALS).await?.data.unwrap_or_default();
        Ok(MOUNTED.iter().all(|key| held.contains_key(*key)).then_some(held))
    })
    .await?;
    let mut texts = BTreeMap::new();
    for (key, value) in held {
        texts.insert(key, String::from_utf8(value.0)?);
    }
    fs::create_dir_all(folder.join("credentials"))?;
    for key in MOUNTED {
        let (file, next) = (credentials_file(folder, key), credentials_file(folder, "next"));
        fs::write(&next, &texts[key])?;
        fs::rename(next, file)?;
    }
    Ok(texts)
}
