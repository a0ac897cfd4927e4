//! Adds and removes entries. This module computes what the file is to say, and
//! [`write`](super::write) puts it in place.

use super::error::{FileResult, RegistryFileError};
use super::line::{Entry, Subject, check_comment};
use super::write::{Edit, Step, Writer};
use super::{each, trust};
use crate::error::{Error, Result};
use crate::registry::{KnownKeys, Place};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Makes an empty file if there is none. Fails if a file at this place would be refused.
pub(super) fn create_if_missing(path: &Path) -> FileResult<()> {
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    trust::check_folders(path)?;
    match OpenOptions::new().write(true).create_new(true).mode(0o644).open(path) {
        Ok(file) => file.sync_all(),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
    }
    .map_err(|e| RegistryFileError::of_call(path, &e))
}

/// Adds an entry to the file if it is not there yet and `allow` has nothing against it. Returns
/// whether the entry was added. For an entry of a server, `allow` is given what the file has about
/// that server and about the key.
pub(super) fn add_if(
    path: &Path,
    create: bool,
    entry: &Entry,
    mut allow: impl FnMut(&KnownKeys) -> Result<()>,
) -> FileResult<bool> {
    check_comment(&entry.comment)?;
    let denies = entry.subject == Subject::Client(Place::Nowhere);
    let line = entry.to_string();
    Writer::begin(path, create)?.change(|| {
        let (mut text, mut known, mut of_server) = (Vec::new(), false, KnownKeys::default());
        let read = each(path, |line| {
            text.extend_from_slice(line.raw);
            if let Some(there) = line.entry {
                known |= there.subject == entry.subject && there.key == entry.key;
                of_server.denied |=
                    there.subject == Subject::Client(Place::Nowhere) && there.key == entry.key;
                if matches!(there.subject, Subject::Server(_)) && there.subject == entry.subject {
                    of_server.keys.push(there.key);
                }
            }
        });
        let from = match read {
            Err(RegistryFileError::Failed(Error::FileNotFound)) if create => None,
            Ok(read) if denies => Some(read.stamp),
            read => Some(read?.whole()?.stamp),
        };
        allow(&of_server)?;
        if known {
            return Ok(None);
        }
        end_line(&mut text);
        text.extend_from_slice(line.as_bytes());
        end_line(&mut text);
        Ok(Some(Edit { from, text, step: Step::Append(line.clone()) }))
    })
}

/// Removes the entries for which `unwanted` returns true, and returns how many there were;
/// `NotFound` if there were none.
pub(super) fn remove_if(path: &Path, unwanted: impl Fn(&Entry) -> bool) -> FileResult<u64> {
    let mut count = 0;
    Writer::begin(path, false)?.change(|| {
        let (mut text, mut lines) = (Vec::new(), Vec::new());
        let read = each(path, |line| {
            if line.entry.as_ref().is_some_and(&unwanted) {
                lines.push(line.first());
            } else {
                text.extend_from_slice(line.raw);
            }
        })?;
        let from = Some(read.whole()?.stamp);
        if lines.is_empty() {
            return Err(Error::NotFound.into());
        }
        end_line(&mut text);
        count = lines.len() as u64;
        Ok(Some(Edit { from, text, step: Step::Comment(lines) }))
    })?;
    Ok(count)
}

/// Ends the last line, if it has no end.
fn end_line(text: &mut Vec<u8>) {
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
}
