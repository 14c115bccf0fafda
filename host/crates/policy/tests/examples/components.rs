//! The components, built once for all tests here, as somebody would who works on them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

pub(crate) const EXAMPLES: [&str; 5] = ["ignore-owner", "mirror", "only-registries", "require-digest", "skip"];

/// The target is there: without it the built-in policies had not been built, and neither had this.
const TARGET: &str = "wasm32-unknown-unknown";

/// The component of an example, or of the SDK's probe.
pub(crate) fn wasm(name: &str) -> Vec<u8> {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let packages: Vec<_> = EXAMPLES.iter().flat_map(|example| ["--package", example]).collect();
        let examples = build(&[&["--lib"], &packages[..]].concat());
        build(&["--package", "cache-registry-policy-sdk", "--example", "probe"]);
        examples
    });
    let file = if name == "probe" { "examples/probe".to_owned() } else { name.replace('-', "_") };
    fs::read(folder.join(file).with_extension("wasm")).unwrap()
}

/// Returns where the components are.
fn build(what: &[&str]) -> PathBuf {
    // Where these flags are: policies/.cargo/config.toml.
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../policies");
    let target_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(policies).args(["build", "--locked", "--profile", "policy", "--target", TARGET]);
    cargo.arg("--target-dir").arg(&target_dir).args(what);
    // What the cargo that runs this was told about its own build is not meant for this one.
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        cargo.env_remove(variable);
    }
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{cargo:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    target_dir.join(TARGET).join("policy")
}
