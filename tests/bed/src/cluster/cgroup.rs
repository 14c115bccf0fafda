use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const MOUNT: &str = "/sys/fs/cgroup";

/// Makes the control group under which the pods of a node are, in every hierarchy that this machine has. The guardian
/// removes it by its name, which begins like the bed's links.
pub(crate) fn make(name: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let path = hierarchy.join(name);
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// The one of version 2, or those of version 1.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let is_one = |path: &Path| path.join("cgroup.procs").exists();
    if is_one(Path::new(MOUNT)) {
        return Ok(vec![PathBuf::from(MOUNT)]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(MOUNT).context("no control groups are mounted")? {
        let path = entry?.path();
        if is_one(&path) {
            found.push(path);
        }
    }
    Ok(found)
}
