use std::fs;
use std::path::Path;

use bytes::Bytes;
use cache_registry_configmaps::{decompress, settings_json};
use cache_registry_policy::{Component, Engine, Policy};

use crate::Failure;

/// A policy in a file, as its author has it.
#[derive(Debug)]
pub(crate) struct PolicyFile {
    /// The file's, for messages.
    pub(crate) shown: String,
    /// The file's name without its ending.
    pub(crate) name: String,
    /// What is in the file: a component, which may be compressed.
    pub(crate) bytes: Vec<u8>,
    /// The settings as they are written.
    pub(crate) settings: Option<String>,
    json: String,
}

/// Larger files are not read: the host would not have one, and a device has no end.
const LARGEST_FILE: u64 = 256 << 20;

impl PolicyFile {
    /// Reads the file of a policy and the file of its settings.
    pub(crate) fn read(path: &Path, settings: Option<&Path>) -> Result<Self, Failure> {
        let metadata = fs::metadata(path).map_err(|error| Failure::unread(path, &error))?;
        let shown = path.display().to_string();
        if !metadata.is_file() {
            return Err(Failure::bad_input(format_args!("{shown} is no file; expected a component, as *.wasm")));
        }
        if metadata.len() > LARGEST_FILE {
            return Err(Failure::refused(format_args!("{shown} is larger than {} MiB", LARGEST_FILE >> 20)));
        }
        let bytes = fs::read(path).map_err(|error| Failure::unread(path, &error))?;
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let name = name.split_once('.').map_or(name.as_str(), |(stem, _)| stem).to_owned();
        let (settings, json) = match settings {
            None => (None, String::new()),
            Some(path) => {
                let text = fs::read_to_string(path).map_err(|error| Failure::unread(path, &error))?;
                let json = settings_json(&text);
                let json = json.map_err(|error| Failure::bad_input(format_args!("{}: {error}", path.display())))?;
                (Some(text), json)
            }
        };
        Ok(Self { shown, name, bytes, settings, json })
    }

    /// The component, decompressed as the host would.
    pub(crate) fn component(&self) -> Result<Bytes, Failure> {
        let component = decompress(self.bytes.clone().into());
        component.map_err(|refusal| Failure::refused(format_args!("{}: {refusal}", self.shown)))
    }

    /// Compiles it as the host would.
    pub(crate) fn compile(&self, engine: &Engine) -> Result<Component, Failure> {
        let component = engine.compile(&self.component()?);
        component.map_err(|error| Failure::refused(format_args!("{}: {error}", self.shown)))
    }

    /// Tries it with its settings, as the host would.
    pub(crate) fn load(&self, engine: &Engine, component: &Component, name: &str) -> Result<Policy, Failure> {
        let policy = engine.load(name, component, &self.json);
        policy.map_err(|error| Failure::refused(format_args!("{}: {error}", self.shown)))
    }
}
