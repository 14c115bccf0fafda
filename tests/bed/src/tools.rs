use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// Where the programs of the bed are.
#[derive(Debug, Clone)]
pub struct Tools {
    folder: PathBuf,
    cache_registry: PathBuf,
    upstream: PathBuf,
}

impl Tools {
    /// Finds the programs of others in `CACHE_REGISTRY_TOOLS`, or installs and builds what is missing (`tests/tools`),
    /// with progress on standard error; and our own, `CACHE_REGISTRY_BIN` or what was built beside this program.
    pub async fn find() -> Result<Self> {
        let folder = if let Some(folder) = env::var_os("CACHE_REGISTRY_TOOLS") {
            PathBuf::from(folder)
        } else {
            script("packages.sh").await?;
            PathBuf::from(script("build.sh").await?.trim())
        };
        let cache_registry = match env::var_os("CACHE_REGISTRY_BIN") {
            Some(path) => PathBuf::from(path),
            None => beside_this_program("cache-registry")?,
        };
        let upstream = beside_this_program("upstream")?;
        for program in [&cache_registry, &upstream] {
            if !program.is_file() {
                bail!(
                    "{} is not there: run `cargo build -p cache-registry -p cache-registry-upstream` first",
                    program.display()
                );
            }
        }
        Ok(Self { folder, cache_registry, upstream })
    }

    /// A program that `tests/tools/build.sh` built.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The binary under test.
    pub(crate) fn cache_registry(&self) -> &Path {
        &self.cache_registry
    }

    /// The upstream registry of the tests.
    pub(crate) fn upstream(&self) -> &Path {
        &self.upstream
    }

    /// kubectl, for a person to look around with.
    pub fn kubectl(&self) -> PathBuf {
        self.path("kubectl")
    }
}

/// Runs a script of `tests/tools` and returns what it prints.
async fn script(name: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools").join(name);
    let output = Command::new(&path)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .await
        .with_context(|| format!("{} did not start", path.display()))?;
    if !output.status.success() {
        bail!("tests/tools/{name} failed ({}); it says why above", output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// `target/debug/NAME` for a program in `target/debug` or `target/debug/deps`.
fn beside_this_program(name: &str) -> Result<PathBuf> {
    let this = env::current_exe()?;
    let folder = this.ancestors().skip(1).find(|folder| !folder.ends_with("deps")).unwrap_or(Path::new("."));
    Ok(folder.join(name))
}
