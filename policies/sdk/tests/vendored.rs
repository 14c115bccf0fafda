//! `cache-registry policy new` puts a copy of the SDK into a project, with a manifest that stands on its own: what it
//! says of versions is what this workspace says.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const WORKSPACE: &str = "../../Cargo.toml";
const TEMPLATE: &str = "../../host/crates/authoring/templates/rust";

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The lines of a section.
fn section(manifest: &str, name: &str) -> BTreeSet<String> {
    let lines = manifest.lines().skip_while(|line| *line != format!("[{name}]")).skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(ToOwned::to_owned)
        .collect()
}

/// What is before the first `=` or `.`.
fn keys(lines: &BTreeSet<String>) -> BTreeSet<&str> {
    lines.iter().filter_map(|line| line.split(['=', '.']).next()).map(str::trim).collect()
}

#[test]
fn the_copy_depends_on_what_the_sdk_depends_on() {
    let (workspace, copy, sdk) = (read(WORKSPACE), read(&format!("{TEMPLATE}/sdk/Cargo.toml")), read("Cargo.toml"));
    assert_eq!(section(&copy, "features"), section(&sdk, "features"));
    let of_wasm = "target.'cfg(all(target_family = \"wasm\", target_os = \"unknown\"))'.dependencies";
    for name in ["dependencies", of_wasm] {
        let (here, there) = (section(&sdk, name), section(&copy, name));
        assert!(!here.is_empty());
        assert_eq!(keys(&there), keys(&here));
        let there: BTreeSet<_> = there.iter().map(|line| line.replace(", optional = true", "")).collect();
        assert!(there.is_subset(&section(&workspace, "workspace.dependencies")), "{there:?}");
    }
}

#[test]
fn the_copy_is_the_version_that_the_sdk_is() {
    let (workspace, copy) = (read(WORKSPACE), read(&format!("{TEMPLATE}/sdk/Cargo.toml")));
    let (here, there) = (section(&workspace, "workspace.package"), section(&copy, "package"));
    let shared = keys(&here).intersection(&keys(&there)).map(|key| format!("{key} = ")).collect::<Vec<_>>();
    for key in ["version = ", "edition = ", "rust-version = ", "license = "] {
        assert!(shared.iter().any(|shared| shared == key), "{key}");
    }
    for line in there.iter().filter(|line| shared.iter().any(|key| line.starts_with(key))) {
        assert!(here.contains(line), "{line}");
    }
}

#[test]
fn a_project_is_built_as_ours_are() {
    let toolchain = read("../../rust-toolchain.toml");
    let channel = toolchain.lines().find(|line| line.starts_with("channel")).unwrap();
    assert!(read(&format!("{TEMPLATE}/rust-toolchain.toml")).contains(channel), "{channel}");
    let project = read(&format!("{TEMPLATE}/Cargo.toml"));
    let dependencies = section(&project, "dependencies");
    let serde = dependencies.iter().find(|line| line.starts_with("serde ")).unwrap();
    assert!(section(&read(WORKSPACE), "workspace.dependencies").contains(serde), "{serde}");
    let ours = section(&read(WORKSPACE), "profile.policy");
    for line in section(&project, "profile.release") {
        assert!(ours.contains(&line), "{line}");
    }
}
