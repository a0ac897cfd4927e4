//! Folders that are to survive a crash.

use std::fs::File;
use std::io;
use std::path::Path;

/// Brings the entry of `path` in its folder to the disk: that it is there, under this name, or no
/// more.
pub(crate) fn sync_entry(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
