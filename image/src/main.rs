//! Packs the static binary into an OCI image, without a container engine.
//!
//! ```text
//! executable ─ is it static, and for what machine?
//!     │
//! contents ─── which files the image has
//!     │
//! layout ───── OCI layout: a folder, and the same as one tar file
//! ```
//!
//! What goes in decides every byte that comes out: the binary, the commit and its time, and `Cargo.lock`, which pins
//! the CA certificates and the compressor. Nothing of the machine gets in, so a commit has one image digest.

mod contents;
mod executable;
mod layout;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use jiff::Timestamp;

use crate::executable::Executable;
use crate::layout::{About, Layout};

/// What the files of the image may take together: a node pulls them before it pulls anything through them.
const LARGEST: u64 = 40 << 20;

/// Packs cache-registry into an OCI image.
#[derive(Debug, Parser)]
struct Args {
    /// The binary, linked statically
    binary: PathBuf,
    /// The folder that becomes an OCI layout; what is in it goes away
    #[arg(long, value_name = "FOLDER")]
    layout: PathBuf,
    /// The same layout as a tar file, for `docker load`, `ctr images import` and `skopeo copy oci-archive:`
    #[arg(long, value_name = "FILE")]
    archive: PathBuf,
    /// The name of the image without its tag: what loading the archive calls it
    #[arg(long, value_name = "NAME", default_value = "ghcr.io/enix/cache-registry")]
    name: String,
    /// The commit that the binary was built from
    #[arg(long)]
    revision: String,
    /// When that commit was made, in seconds since 1970: the time of everything in the image
    #[arg(long, value_name = "SECONDS", value_parser = timestamp)]
    created: Timestamp,
}

fn main() -> ExitCode {
    match pack(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // When standard error is gone there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "pack-image: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn pack(args: Args) -> Result<()> {
    let binary = fs::read(&args.binary).with_context(|| format!("reading {}", args.binary.display()))?;
    let executable = Executable::read(&binary).with_context(|| format!("{}", args.binary.display()))?;
    let layers = [contents::base(), contents::program(binary)];
    let size: u64 = layers.iter().flatten().map(|file| file.content.len() as u64).sum();
    ensure!(size <= LARGEST, "the image's files take {} MiB, more than {}", size >> 20, LARGEST >> 20);

    let about = About {
        name: args.name,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: args.revision,
        source: env!("CARGO_PKG_REPOSITORY").to_owned(),
        licenses: env!("CARGO_PKG_LICENSE").to_owned(),
        created: args.created,
        architecture: executable.architecture,
    };
    let layout = Layout::of(&about, &layers)?;
    layout.write_folder(&args.layout).with_context(|| format!("writing {}", args.layout.display()))?;
    layout.write_archive(&args.archive).with_context(|| format!("writing {}", args.archive.display()))?;

    let mib = |bytes: u64| format!("{}.{} MiB", bytes >> 20, ((bytes & 0xF_FFFF) * 10) >> 20);
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}:{} ({})", about.name, about.version, about.architecture)?;
    writeln!(out, "digest {}", layout.digest())?;
    writeln!(out, "{} of files, {} to pull", mib(size), mib(layout.pulled()))?;
    Ok(())
}

fn timestamp(text: &str) -> Result<Timestamp, String> {
    let seconds = text.parse().map_err(|_| "expected a whole number of seconds".to_owned())?;
    Timestamp::from_second(seconds).map_err(|error| error.to_string())
}
