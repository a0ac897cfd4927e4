//! The attributes of a file besides its bytes, and who may write it. They are carried over to the
//! file that replaces it, and decide who may use the lock.

use super::error::Kept;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use xattr::FileExt;

/// The extended attribute that holds the access control list of a file.
pub(super) const ACCESS_LIST: &str = "system.posix_acl_access";
/// The attributes that the kernel makes anew for new bytes.
const OF_THE_BYTES: [&str; 2] = ["security.ima", "security.evm"];

pub(super) enum Failure {
    NotKept(Kept),
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

/// Gives `new` the owner, group, mode, access control list and all other extended attributes of
/// `old`, or fails with the first that it cannot give.
///
/// `new` gets no more than those: attributes that it inherited from its folder are removed.
pub(super) fn carry_over(old: &File, new: &File) -> Result<(), Failure> {
    let (was, mine) = (old.metadata()?, new.metadata()?);
    if (was.uid(), was.gid()) != (mine.uid(), mine.gid()) {
        fchown(new, Some(was.uid()), Some(was.gid())).map_err(|_| Failure::NotKept(Kept::Owner))?;
    }
    let mode = Permissions::from_mode(was.mode() & 0o7777);
    new.set_permissions(mode).map_err(|_| Failure::NotKept(Kept::Mode))?;
    let (wanted, there) = (attributes(old)?, attributes(new)?);
    for (name, value) in &wanted {
        if there.get(name) != Some(value) {
            new.set_xattr(name, value).map_err(|_| not_kept(name))?;
        }
    }
    for name in there.keys().filter(|name| !wanted.contains_key(*name)) {
        new.remove_xattr(name).map_err(|_| not_kept(name))?;
    }
    // Check the result: the system may have silently dropped a bit, or changed an attribute.
    let (is, has) = (new.metadata()?, attributes(new)?);
    if (is.uid(), is.gid()) != (was.uid(), was.gid()) {
        return Err(Failure::NotKept(Kept::Owner));
    }
    if is.mode() != was.mode() {
        return Err(Failure::NotKept(Kept::Mode));
    }
    match wanted.keys().chain(has.keys()).find(|name| wanted.get(*name) != has.get(*name)) {
        Some(name) => Err(not_kept(name)),
        None => Ok(()),
    }
}

fn not_kept(name: &OsStr) -> Failure {
    Failure::NotKept(Kept::Attribute(name.to_string_lossy().into()))
}

fn attributes(file: &File) -> io::Result<BTreeMap<OsString, Vec<u8>>> {
    let names = match file.list_xattr() {
        Err(e) if e.kind() == io::ErrorKind::Unsupported => return Ok(BTreeMap::new()),
        names => names?.filter(|name| !OF_THE_BYTES.iter().any(|other| name == other)),
    };
    let mut attributes = BTreeMap::new();
    for name in names {
        if let Some(value) = file.get_xattr(&name)? {
            attributes.insert(name, value);
        }
    }
    Ok(attributes)
}

const READ: u16 = 4;
const WRITE: u16 = 2;
/// The version of the access control list's binary form.
const VERSION: u32 = 2;
const NOBODY: u32 = u32::MAX;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Shares the lock with the users who may write the registry file, and with nobody else. Readers of
/// the file must not open the lock, because they could then hold it.
///
/// This does as much as the current user is allowed to do. A user who is left out gets an error
/// when opening the lock.
pub(super) fn share_lock(lock: &File, registry: &File) -> io::Result<()> {
    let (of, mine) = (registry.metadata()?, lock.metadata()?);
    if (mine.uid(), mine.gid()) != (of.uid(), of.gid()) {
        // The file belongs to root or to this user. An operator of the file's group cannot give the
        // lock to root, but root can use it without that.
        fchown(lock, Some(of.uid()), Some(of.gid())).or_else(|_| fchown(lock, None, Some(of.gid()))).ok();
    }
    let mine = lock.metadata()?;
    let writers = Writers::of(&of, registry.get_xattr(ACCESS_LIST).ok().flatten().as_deref());
    let (mode, list) = writers.of_lock(&mine);
    if mine.mode() & 0o7777 != mode {
        lock.set_permissions(Permissions::from_mode(mode))?;
    }
    let there = lock.get_xattr(ACCESS_LIST).ok().flatten();
    match list {
        Some(list) if there.as_ref() != Some(&list) => lock.set_xattr(ACCESS_LIST, &list),
        None if there.is_some() => lock.remove_xattr(ACCESS_LIST),
        _ => Ok(()),
    }
}

/// The users and groups that may write a file, besides its owner.
struct Writers {
    users: BTreeSet<u32>,
    groups: BTreeSet<u32>,
}

impl Writers {
    fn of(metadata: &Metadata, list: Option<&[u8]>) -> Writers {
        let mut writers = Writers { users: BTreeSet::new(), groups: BTreeSet::new() };
        let entries: Vec<_> = list.map(entries).unwrap_or_default();
        if entries.is_empty() && metadata.mode() & 0o020 != 0 {
            writers.groups.insert(metadata.gid());
        }
        // The mask applies to all entries but those of the owner and of others.
        let mask = entries.iter().find(|(tag, ..)| *tag == MASK).map_or(WRITE, |(_, may, _)| *may);
        for (tag, may, id) in entries {
            match tag {
                _ if may & mask & WRITE == 0 => false,
                USER => writers.users.insert(id),
                GROUP => writers.groups.insert(id),
                GROUP_OBJ => writers.groups.insert(metadata.gid()),
                _ => false,
            };
        }
        writers
    }

    /// Returns the mode and, if one is needed, the access control list by which these writers may
    /// use the lock.
    fn of_lock(mut self, lock: &Metadata) -> (u32, Option<Vec<u8>>) {
        let group = self.groups.remove(&lock.gid());
        if self.users.is_empty() && self.groups.is_empty() {
            return (if group { 0o660 } else { 0o600 }, None);
        }
        let both = READ | WRITE;
        let mut list = VERSION.to_le_bytes().to_vec();
        let mut entry = |tag: u16, may: u16, id: u32| {
            list.extend([tag.to_le_bytes(), may.to_le_bytes()].concat());
            list.extend(id.to_le_bytes());
        };
        entry(USER_OBJ, both, NOBODY);
        self.users.iter().for_each(|id| entry(USER, both, *id));
        entry(GROUP_OBJ, if group { both } else { 0 }, NOBODY);
        self.groups.iter().for_each(|id| entry(GROUP, both, *id));
        entry(MASK, both, NOBODY);
        entry(OTHER, 0, NOBODY);
        // With an access control list, the group's bits of the mode show the mask instead of the
        // group's own permissions.
        (0o660, Some(list))
    }
}

/// Parses an access control list into its entries: tag, permissions, and user or group. Returns no
/// entries for an unknown format.
fn entries(list: &[u8]) -> Vec<(u16, u16, u32)> {
    let Some((version, entries)) = list.split_first_chunk() else { return Vec::new() };
    if u32::from_le_bytes(*version) != VERSION {
        return Vec::new();
    }
    let (entries, _) = entries.as_chunks::<8>();
    entries
        .iter()
        .map(|&[a, b, c, d, e, f, g, h]| {
            (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]), u32::from_le_bytes([e, f, g, h]))
        })
        .collect()
}
