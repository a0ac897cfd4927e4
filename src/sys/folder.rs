//! Folders whose entries must survive a crash.

use std::fs::File;
use std::io;
use std::path::Path;

/// Syncs the entry of `path` in its folder to the disk: that the file is there under this name, or
/// is there no more.
pub(crate) fn sync_entry(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
