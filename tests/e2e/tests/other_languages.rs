//! The example that skips pods, in JavaScript and in Python: built as its readers would, pushed to a registry, and in force
//! in a cluster.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cache_registry_bed::{Bed, Options, POLICY_PULL_SECRET, PRIVATE_REGISTRY, image_of};
use cache_registry_e2e::{PolicyMaps, note, run_within, tests};
use serde_json::json;

/// Their toolchains may have to be installed, and what they make has megabytes to be compiled.
const LONGEST: Duration = Duration::from_mins(20);

/// How long a component of 18 MB may take to be compiled, by a build without optimisation on a machine that is busy.
const LONGEST_COMPILE: Duration = Duration::from_mins(5);

fn main() -> Result<ExitCode> {
    run_within(LONGEST, Options::default(), tests![a_policy_in_javascript_is_in_force, a_policy_in_python_is_in_force])
}

async fn a_policy_in_javascript_is_in_force(bed: &mut Bed) -> Result<()> {
    is_in_force(bed, "skip-js").await
}

async fn a_policy_in_python_is_in_force(bed: &mut Bed) -> Result<()> {
    is_in_force(bed, "skip-python").await
}

async fn is_in_force(bed: &mut Bed, example: &str) -> Result<()> {
    let component = build(example, &bed.folder().join(example).with_extension("wasm"))?;
    let mut registry = bed.private_registry()?;
    registry.part.start().await?;
    let policies = PolicyMaps::of(bed);
    policies.clear().await?;
    policies.kubectl(&["delete", "secret", POLICY_PULL_SECRET, "--ignore-not-found"]).await?;
    let arguments = registry.secret_arguments();
    let secret = ["create", "secret", "docker-registry", POLICY_PULL_SECRET].into_iter();
    policies.kubectl(&secret.chain(arguments.iter().map(String::as_str)).collect::<Vec<_>>()).await?;

    let reference = format!("{PRIVATE_REGISTRY}/policies/{example}:1");
    let digest = policies.push(&component, &reference, &registry.docker_config()).await?;
    let image = format!("{PRIVATE_REGISTRY}/policies/{example}@{digest}");
    let data = json!({ "image": image, "pullSecret": POLICY_PULL_SECRET, "settings": "namespaces: [default]\n" });
    policies.apply(example, &data).await?;
    let applied = Instant::now();
    let row = policies.in_force_within(example, LONGEST_COMPILE).await?;
    note!("{example}: {} bytes, in force after {:.1} s", component.len(), applied.elapsed().as_secs_f32());
    assert_eq!((&row["image"]["digest"], &row["filters"]), (&json!(digest), &json!(true)));

    let said = policies.create_pod(&format!("{example}-skipped"), "nginx:1.27").await?;
    let stored = bed.objects().pods().get(&format!("{example}-skipped")).await?;
    assert_eq!(image_of(&stored, &format!("{example}-skipped"))?, "nginx:1.27", "{said}");
    ensure!(!said.contains("Warning"), "{said}");

    // New settings need no compiler, and no registry.
    registry.part.kill().await?;
    policies.set(example, &json!({ "settings": "namespaces: [other]\n", "priority": "5" })).await?;
    policies.becomes(0, "the new version", |rows| rows[0]["priority"] == 5).await?;
    let stored = bed.objects().create_pod(&format!("{example}-cached"), "nginx:1.27").await?;
    assert_eq!(image_of(&stored, "main")?, "localhost:7439/docker.io/library/nginx:1.27");
    policies.clear().await
}

/// Runs the example's `build.sh`.
fn build(example: &str, out: &Path) -> Result<Vec<u8>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/examples").join(example).join("build.sh");
    let output = Command::new(&script).arg(out).stdin(Stdio::null()).output();
    let output = output.with_context(|| script.display().to_string())?;
    ensure!(output.status.success(), "{}: {}", script.display(), String::from_utf8_lossy(&output.stderr));
    Ok(fs::read(out)?)
}
