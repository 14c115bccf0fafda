//! Compiles the built-in policies to components, which the library embeds.
//!
//! A second cargo builds them for `wasm32-unknown-unknown` from the same workspace and lock file, in a target
//! directory of its own: the one of the cargo that runs this is locked. Nothing is written outside of `OUT_DIR`.
#![allow(clippy::print_stdout, reason = "cargo is told things on stdout")]

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const TARGET: &str = "wasm32-unknown-unknown";
const POLICIES: [&str; 2] = ["default-filter", "default-rewrite"];

/// A linker that comes with Rust and makes a component at once; a page of stack instead of sixteen, as what an instance has
/// touched is reset for the next one; and a page of heap, so that none has to grow.
const FLAGS: [&str; 3] =
    ["-Clinker=wasm-component-ld", "-Clink-arg=-zstack-size=65536", "-Clink-arg=--initial-heap=65536"];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), Box<dyn Error>> {
    let workspace = fs::canonicalize(Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../.."))?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    watch(&workspace);
    expect_target()?;
    for policy in POLICIES {
        let component = compile(&workspace, &out.join("guests"), policy)?;
        fs::copy(component, out.join(format!("{policy}.wasm")))?;
    }
    Ok(())
}

/// Everything that the components are made from, so that nothing is built again for another reason.
fn watch(workspace: &Path) {
    let sources =
        POLICIES.iter().flat_map(|policy| [format!("policies/{policy}/src"), format!("policies/{policy}/Cargo.toml")]);
    let shared =
        ["policies/sdk/src", "policies/sdk/Cargo.toml", "wit", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"]
            .map(str::to_owned);
    for path in sources.chain(shared) {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
}

fn expect_target() -> Result<(), Box<dyn Error>> {
    let query = Command::new(env::var("RUSTC")?).args(["--print", "target-libdir", "--target", TARGET]).output()?;
    let libraries = PathBuf::from(String::from_utf8(query.stdout)?.trim());
    if query.status.success() && libraries.is_dir() {
        Ok(())
    } else {
        Err(format!(
            "the policies are compiled to WebAssembly and its target is missing; run: rustup target add {TARGET}"
        )
        .into())
    }
}

/// Returns where the component is.
fn compile(workspace: &Path, target_dir: &Path, policy: &str) -> Result<PathBuf, Box<dyn Error>> {
    let mut cargo = Command::new(env::var("CARGO")?);
    // Natively the policies are plain libraries as well, and those would keep the linker from seeing the whole.
    cargo.current_dir(workspace).args(["rustc", "--locked", "--lib", "--crate-type", "cdylib", "--package", policy]);
    cargo.args(["--profile", "policy", "--target", TARGET, "--target-dir"]).arg(target_dir);
    // What the outer cargo was told about its own build (flags for another target, clippy or a coverage tool in
    // rustc's place) is not meant for this one. Set in this form, the flags also outrank any configuration file.
    let mut flags = FLAGS.map(str::to_owned).to_vec();
    // Messages of panics name source files: of libraries by what they are, not by where this machine keeps them.
    let cargo_home = env::var("CARGO_HOME").or_else(|_| env::var("HOME").map(|home| format!("{home}/.cargo")));
    if let Ok(cargo_home) = cargo_home {
        flags.push(format!("--remap-path-prefix={cargo_home}=/cargo"));
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    for variable in ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CLIPPY_ARGS", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(variable);
    }
    if cargo.status()?.success() {
        Ok(target_dir.join(TARGET).join("policy").join(format!("{}.wasm", policy.replace('-', "_"))))
    } else {
        Err(format!("{policy} did not compile, see the messages of the second cargo").into())
    }
}
