use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Error;

/// Where distribution's files begin, below the root directory.
pub(crate) const BASE: &str = "docker/registry/v2";

/// What is in a folder; nothing where there is none.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let listed = fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    found(folder, listed).map(Option::unwrap_or_default)
}

/// What is in a file; `None` where there is none.
pub(crate) fn content(file: &Path) -> Result<Option<Vec<u8>>, Error> {
    found(file, fs::read(file))
}

/// Removes a folder with all that is in it. That it is gone already is fine.
pub(crate) fn remove(folder: &Path) -> Result<(), Error> {
    found(folder, fs::remove_dir_all(folder)).map(drop)
}

/// Makes a folder, unless there is one.
pub(crate) fn make(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(|source| Error { path: folder.to_owned(), source })
}

/// `None` where there is nothing of that name. Any other error is one: what can't be seen may be there.
pub(crate) fn found<T>(path: &Path, result: io::Result<T>) -> Result<Option<T>, Error> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(Error { path: path.to_owned(), source }),
    }
}

/// The last part of a path, where it is text.
pub(crate) fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}
