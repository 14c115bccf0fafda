//! Lists the files of new projects, which the library embeds: the templates, and what is vendored into them.
#![allow(clippy::print_stdout, reason = "cargo is told things on stdout")]

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

fn main() -> io::Result<()> {
    let this = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let workspace = fs::canonicalize(this.join("../../.."))?;
    let mut list = String::from("&[\n");
    for (name, folder) in [
        ("templates", this.join("templates")),
        ("sdk/src", workspace.join("policies/sdk/src")),
        ("wit", workspace.join("wit")),
    ] {
        println!("cargo::rerun-if-changed={}", folder.display());
        let mut files = Vec::new();
        walk(&folder, &mut files)?;
        files.sort();
        for file in files {
            let path = Path::new(name).join(file.strip_prefix(&folder).unwrap_or(&file));
            let [path, file] = [&path, &file].map(|path| path.display().to_string());
            // A string that is debugged is a literal of Rust.
            let _ = writeln!(list, "    ({path:?}, include_str!({file:?})),");
        }
    }
    list += "]\n";
    fs::write(PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("files.rs"), list)
}

/// Every file, but for what is made where a template is tried in its place.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    const MADE: [&str; 5] = ["target", "node_modules", "__pycache__", ".venv", "Cargo.lock"];
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().and_then(|name| name.to_str()).is_none_or(|name| MADE.contains(&name)) {
            continue;
        }
        if path.is_dir() { walk(&path, files)? } else { files.push(path) }
    }
    Ok(())
}
