use std::fs;
use std::ops::Sub;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::files::{BASE, entries, found, name};

/// How much is on a volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Layers, configurations and manifests, each of which the registry keeps once.
    pub blobs: u64,
    /// Bytes in all files.
    pub bytes: u64,
}

/// Counts what is in the registry's root directory.
pub fn measure(root: &Path) -> Result<Size, Error> {
    let blobs = root.join(BASE).join("blobs");
    let mut size = Size::default();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in entries(&folder)? {
            // It is the link that is counted, and never what it leads to.
            let Some(metadata) = found(&path, fs::symlink_metadata(&path))? else { continue };
            if metadata.is_dir() {
                folders.push(path);
            } else if metadata.is_file() {
                size.bytes += metadata.len();
                size.blobs += u64::from(name(&path) == "data" && path.starts_with(&blobs));
            }
        }
    }
    Ok(size)
}

impl Sub for Size {
    type Output = Self;

    /// What is less now; where there is more, nothing is.
    fn sub(self, after: Self) -> Self {
        Self { blobs: self.blobs.saturating_sub(after.blobs), bytes: self.bytes.saturating_sub(after.bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_are_files_of_one_name_and_bytes_are_of_all() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(measure(root.path()).unwrap(), Size::default());
        for (file, content) in [
            ("docker/registry/v2/blobs/sha256/ab/ab12/data", "12345"),
            ("docker/registry/v2/blobs/sha256/cd/cd34/data", "1"),
            ("docker/registry/v2/repositories/a/_uploads/x/data", "12"),
            ("docker/registry/v2/repositories/a/_manifests/tags/t/current/link", "123"),
        ] {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
        std::os::unix::fs::symlink("/", root.path().join("elsewhere")).unwrap();
        assert_eq!(measure(root.path()).unwrap(), Size { blobs: 2, bytes: 11 });
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        // A file in the place of the volume holds nothing, and is no error: nothing was removed for it.
        assert_eq!(measure(file.path()).unwrap(), Size::default());
        assert_eq!(Size { blobs: 3, bytes: 9 } - Size { blobs: 1, bytes: 10 }, Size { blobs: 2, bytes: 0 });
    }
}
