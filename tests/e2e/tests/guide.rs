//! `docs/writing-a-policy.md`, as a reader follows it: every command, in its order, in one shell.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result};
use cache_registry_bed::{Bed, Options, PRIVATE_REGISTRY};
use cache_registry_e2e::{Reader, run_within, steps, tests};

/// Crates and Python packages are fetched and built in it.
const LONGEST: Duration = Duration::from_mins(20);

fn main() -> Result<ExitCode> {
    run_within(LONGEST, Options::default(), tests![a_policy_is_written_as_the_guide_says])
}

async fn a_policy_is_written_as_the_guide_says(bed: &mut Bed) -> Result<()> {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/writing-a-policy.md");
    let steps = steps(&fs::read_to_string(guide)?)?;

    let folder = bed.folder().join("guide");
    let docker = folder.join("docker");
    fs::create_dir_all(&docker)?;
    let mut registry = bed.private_registry()?;
    registry.part.start().await?;
    fs::write(docker.join("config.json"), registry.docker_config().to_string())?;

    let program = bed.cache_registry();
    let kubectl = bed.kubectl_program();
    let folders = [program, &kubectl].map(|program| program.parent().unwrap_or(Path::new("/")));
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(folders.map(Path::to_owned).into_iter().chain(env::split_paths(&path)))?;
    let text = |path: &Path| path.to_str().map(ToOwned::to_owned).context("a path that is no text");
    let variables = [
        ("PATH", path.into_string().ok().context("a PATH that is no text")?),
        ("KUBECONFIG", text(&bed.control_plane.kubeconfig())?),
        ("WEBHOOK", format!("http://{}", bed.webhook_admin_address())),
        ("REGISTRY", PRIVATE_REGISTRY.to_owned()),
        ("DOCKER_CONFIG", text(&docker)?),
        ("CACHE_REGISTRY_REGISTRIES", text(&bed.registries_file())?),
    ];
    let mut reader = Reader::new(&folder, &variables).await?;
    for step in &steps {
        reader.follow(step).await?;
    }
    Ok(())
}
