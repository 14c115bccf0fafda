use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use cache_registry_policy::built_in;
use clap::{Args, ValueEnum};

use crate::Failure;

/// `cache-registry policy new`
#[derive(Debug, Args)]
pub struct New {
    /// Name of the policy, and of the folder that is made for it: a to z, 0 to 9 and -
    name: String,
    /// What it is written in; policies in JavaScript and Python are megabytes, and go to a cluster by way of a registry
    #[arg(long, default_value = "rust")]
    lang: Language,
    /// Where the folder is made
    #[arg(long = "in", value_name = "FOLDER", default_value = ".")]
    parent: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Language {
    Rust,
    Js,
    Python,
}

/// Path and content of each file that can be in a project.
const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// The name of the policy in the templates, as it is and as modules have it.
const NAME: &str = "{{name}}";
const MODULE: &str = "{{name_}}";

/// What is made of it, file names and object names, is longer.
const LONGEST_NAME: usize = 60;

/// Names that a package cannot have: keywords of Rust, and crates that every policy depends on.
const TAKEN: [&str; 15] = [
    "alloc",
    "core",
    "crate",
    "dlmalloc",
    "proc-macro",
    "self",
    "serde",
    "serde-json",
    "std",
    "super",
    "test",
    "wit-bindgen",
    "wit-component",
    "cache-registry-policy-sdk",
    "sdk",
];

impl New {
    /// Makes a project, and says what to do with it.
    pub(crate) fn run(self, out: &mut impl Write) -> Result<(), Failure> {
        let Self { name, lang, parent } = self;
        expect_name(&name)?;
        let folder = if parent == Path::new(".") { PathBuf::from(&name) } else { parent.join(&name) };
        match fs::read_dir(&folder).map(|mut entries| entries.next().is_some()) {
            Ok(false) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Ok(true) | Err(_) => {
                return Err(Failure::bad_input(format_args!(
                    "{} is there already: remove it, or choose another name",
                    folder.display()
                )));
            }
        }
        for (path, content) in project(lang, &name) {
            write(&folder.join(path), &content)?;
        }
        writeln!(out, "{} is a policy in {}. In there:", folder.display(), lang.called())?;
        for (command, what) in lang.commands() {
            writeln!(out, "  {command:<54} {what}")?;
        }
        writeln!(out, "README.md says how it gets into a cluster.")?;
        Ok(())
    }
}

impl Language {
    fn called(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::Js => "JavaScript",
            Self::Python => "Python",
        }
    }

    /// Where its template is.
    fn folder(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Js => "js",
            Self::Python => "python",
        }
    }

    /// What to do in a new project.
    fn commands(self) -> [(&'static str, &'static str); 2] {
        match self {
            Self::Rust => [
                ("cargo test", "runs its tests, natively"),
                ("cargo build --release --target wasm32-unknown-unknown", "makes the component"),
            ],
            Self::Js => [("npm test", "runs its tests, natively"), ("npm run build", "makes the component")],
            Self::Python => [("./test.sh", "runs its tests, natively"), ("./build.sh", "makes the component")],
        }
    }
}

/// The files of a project.
fn project(lang: Language, name: &str) -> impl Iterator<Item = (PathBuf, String)> {
    let module = name.replace('-', "_");
    let named = move |text: &str, name: &str| text.replace(NAME, name).replace(MODULE, &module);
    let name = name.to_owned();
    FILES.iter().filter_map(move |(path, content)| {
        let template = Path::new("templates").join(lang.folder());
        let path = Path::new(path);
        if let Ok(path) = path.strip_prefix(template) {
            return Some((named(path.to_str()?, &name).into(), named(content, &name)));
        }
        if path.starts_with("templates") {
            return None;
        }
        // The SDK has the contract within it; the other toolchains read it where it is.
        let vendored = match lang {
            Language::Rust if path.starts_with("wit") => Path::new("sdk").join(path),
            Language::Rust => path.to_owned(),
            Language::Js | Language::Python => path.starts_with("wit").then(|| path.to_owned())?,
        };
        Some((vendored, (*content).to_owned()))
    })
}

fn expect_name(name: &str) -> Result<(), Failure> {
    let refuse = |why: &str| {
        Err(Failure::bad_input(format_args!("{name:?} cannot be the name of a policy: {why}; try one like skip-ci")))
    };
    let is_word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if !name.split('-').all(is_word) {
        return refuse("it may have a to z, 0 to 9, and single - between them");
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return refuse("it has to begin with a letter");
    }
    if name.len() > LONGEST_NAME {
        return refuse(&format!("it is longer than {LONGEST_NAME} characters"));
    }
    if built_in::NAMES.contains(&name) {
        return refuse("a built-in policy has it");
    }
    if TAKEN.contains(&name) {
        return refuse("programming languages use it");
    }
    Ok(())
}

fn write(path: &Path, content: &str) -> Result<(), Failure> {
    let cannot = |error| Failure::bad_input(format_args!("cannot write {}: {error}", path.display()));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(cannot)?;
    }
    fs::write(path, content).map_err(cannot)?;
    // A script is there to be run.
    #[cfg(unix)]
    if content.starts_with("#!") {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(cannot)?;
    }
    Ok(())
}
