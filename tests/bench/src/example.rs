use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use wit_component::ComponentEncoder;

/// Makes the component of `policies/examples/skip`, a policy as users write them, in `folder`.
pub(crate) fn build(folder: &Path) -> Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = workspace.join("target/guests");
    let built = Command::new("cargo")
        .args(["build", "--quiet", "--locked", "--package", "skip", "--lib", "--profile", "policy"])
        .args(["--target", "wasm32-unknown-unknown", "--target-dir"])
        .arg(&target)
        .env("RUSTFLAGS", "-C link-arg=-zstack-size=65536 -C link-arg=--initial-heap=65536")
        .current_dir(&workspace)
        .status()?;
    if !built.success() {
        bail!("the example did not compile; its target may be missing: rustup target add wasm32-unknown-unknown");
    }
    let module = fs::read(target.join("wasm32-unknown-unknown/policy/skip.wasm"))?;
    let component = ComponentEncoder::default().validate(true).module(&module)?.encode()?;
    let path = folder.join("skip.wasm");
    fs::write(&path, component)?;
    Ok(path)
}
