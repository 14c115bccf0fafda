use std::env;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use crate::{NAMESPACE, RELEASE, Release, folder, workspace};

/// Where `CACHE_REGISTRY_TOOLS` says, or as `tests/tools` builds them.
static TOOLS: LazyLock<PathBuf> =
    LazyLock::new(|| env::var_os("CACHE_REGISTRY_TOOLS").map_or_else(built_tools, PathBuf::from));

/// A program of the test bed: `helm`, `registry`.
pub fn tool(name: &str) -> PathBuf {
    TOOLS.join(name)
}

/// What is installed with these values (YAML), or why helm refuses.
pub fn render(values: &str) -> Result<Release, String> {
    render_where(&[], values)
}

/// The same for another release.
pub fn render_as(release: &str, values: &str) -> Result<Release, String> {
    template(release, &[], values)
}

/// The same on a cluster that has these kinds: `cert-manager.io/v1/Certificate`.
pub fn render_where(kinds: &[&str], values: &str) -> Result<Release, String> {
    template(RELEASE, kinds, values)
}

/// Whether `helm lint --strict` has something to say.
pub fn lint(values: &str) -> Result<(), String> {
    helm(&["lint", "--strict", "--quiet"], values).map(drop)
}

fn template(release: &str, kinds: &[&str], values: &str) -> Result<Release, String> {
    let mut arguments = vec!["template", release];
    for kind in kinds {
        arguments.extend(["--api-versions", kind]);
    }
    let yaml = helm(&arguments, values)?;
    let documents = serde_saphyr::from_multiple(&yaml).map_err(|error| format!("no YAML: {error}\n{yaml}"))?;
    Ok(Release::new(documents))
}

/// Runs helm with the chart and the values, and gives what it prints, or what it complains of.
fn helm(arguments: &[&str], values: &str) -> Result<String, String> {
    let mut child = Command::new(tool("helm"))
        .args(arguments)
        .arg(folder())
        .args(["--namespace", NAMESPACE, "--values", "-"])
        // Plugins and settings of whoever runs the test.
        .env("HELM_CONFIG_HOME", "/nonexistent")
        .env("KUBECONFIG", "/nonexistent")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", tool("helm").display()))?;
    // It may end without reading: then its words tell more than this error.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(values.as_bytes()));
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stdout) + &text(&output.stderr)) }
}

fn built_tools() -> PathBuf {
    let script = workspace().join("tests/tools/build.sh");
    let output = Command::new(&script).stderr(Stdio::inherit()).output();
    match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().into(),
        output => unreachable!("{} gives no helm: {output:?}", script.display()),
    }
}
