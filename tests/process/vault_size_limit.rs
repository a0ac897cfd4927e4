//! The limit on a file's size (`RLIMIT_FSIZE`), at which the system sends a signal that ends a
//! process. There is only one test, since it changes the process.

use curve_tun::registry::{Entry, FileRegistry, RegistryFileError};
use curve_tun::vault::{Cost, FileVault, MemoryVault, Purpose, Vault};
use curve_tun::{Error, PublicKey};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use std::fs;

fn limit(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the pointer is to a valid rlimit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
}

fn seal(vault: &FileVault) -> Result<(), Error> {
    vault.box_seal(Purpose::Cookie, &PublicKey([9; 32]), &[], &mut [0; 16]).map(drop)
}

#[test]
fn at_the_limit_the_disk_is_full_and_no_signal_comes() {
    let folder = tempfile::tempdir().unwrap();
    let [path, new, registry] = ["vault", "new", "registry"].map(|name| folder.path().join(name));
    drop(FileVault::create(&path, None, Cost::default()).unwrap());
    let key = MemoryVault::generate().unwrap().public_key();
    let entry = Entry { subject: "*".parse().unwrap(), key, comment: String::new() };
    let mask = SigSet::thread_get_mask().unwrap();
    for bytes in [0, 1, 4096, 8192, 12_287] {
        // Opening a vault writes both of its slots, one of which ends at 12,288.
        let vault = FileVault::open(&path, None).unwrap();
        limit(bytes);
        let sealed = [(); 2].map(|()| seal(&vault));
        let made = FileVault::create(&new, None, Cost::default()).err();
        let added = FileRegistry::add_to(&registry, &entry).err();
        limit(libc::RLIM_INFINITY);
        assert_eq!(sealed, [Err(Error::DiskFull); 2], "{bytes} bytes");
        assert_eq!(made, Some(Error::DiskFull), "{bytes} bytes");
        assert!(!new.exists());
        if bytes < 2 {
            assert_eq!(added.map(RegistryFileError::error), Some(Error::DiskFull), "{bytes} bytes");
        }
        seal(&vault).unwrap();
        drop(FileVault::create(&new, None, Cost::default()).unwrap());
        fs::remove_file(&new).unwrap();
        let _ = fs::remove_file(&registry);
        assert_eq!(SigSet::thread_get_mask().unwrap(), mask);
    }
    // A host that blocks the signal finds it still blocked.
    let blocked = SigSet::from(Signal::SIGXFSZ);
    blocked.thread_swap_mask(SigmaskHow::SIG_BLOCK).unwrap();
    raise(Signal::SIGXFSZ).unwrap();
    limit(0);
    assert_eq!(seal(&FileVault::open(&path, None).unwrap()), Err(Error::DiskFull));
    limit(libc::RLIM_INFINITY);
    assert_eq!(blocked.wait(), Ok(Signal::SIGXFSZ));
}
