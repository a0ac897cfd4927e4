//! # Registries in a file and in DNS
//!
//! `docs/REGISTRIES.md` has the grammar of the file and the records in DNS, and says which registry
//! to choose.

use super::boundary::{catch_ok, object, out, path, string};
use super::growing::{self, growing};
use super::registry::{Kind, curve_tun_registry};
use super::result::curve_tun_result;
use crate::error::{Error, Result};
use crate::registry::{FileRegistry, Malformed, RegistryFileError};
use std::ffi::c_char;
use std::mem::offset_of;
use std::sync::Arc;

/// Enough for the text of any problem with the zero after it.
pub const CURVE_TUN_PROBLEM_TEXT_SIZE: usize = 128;

/// The place in a registry file that is wrong.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curve_tun_registry_problem {
    /// `sizeof(curve_tun_registry_problem)`.
    pub size: usize,
    /// The line, counted from 1.
    pub line: u64,
    /// The byte in the line, counted from 1, at which the problem begins.
    pub column: u64,
    /// What is wrong there: a string, in English, without a final stop.
    pub text: [c_char; CURVE_TUN_PROBLEM_TEXT_SIZE],
}

growing!(filled curve_tun_registry_problem, offset_of!(curve_tun_registry_problem, text));

/// Opens the registry in a file. Each decision checks whether the file has changed, and reads it
/// again if so; a large file that has changed is read by a request that is answered later. If the
/// file becomes unusable, the entries in force stay: `curve_tun_registry_file_problem` says why.
///
/// May return `CURVE_TUN_ERR_BAD_REGISTRY_FILE` (`curve_tun_registry_file_check` says where),
/// `CURVE_TUN_ERR_FILE_NOT_FOUND`, `CURVE_TUN_ERR_REGISTRY_PERMISSIONS`, `CURVE_TUN_ERR_TOO_LARGE`
/// for more than 1 GiB, `CURVE_TUN_ERR_PERMISSION_DENIED`, `CURVE_TUN_ERR_TOO_MANY_FILES`,
/// `CURVE_TUN_ERR_IO`, and `CURVE_TUN_ERR_INVALID_ARGUMENT` for a path that is too long or leads to
/// something that is not a file. Threads: any. Blocks as long as it takes to read the file.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_registry_open_file(
    file: *const c_char,
    registry: *mut *mut curve_tun_registry,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (file, mut registry) = unsafe { (path(file)?, out(registry)?) };
        let opened = FileRegistry::open(file).map_err(|error| error.error())?;
        registry.give(curve_tun_registry(Kind::File(Arc::new(opened))));
        Ok(())
    })
}

/// Reads a registry file and reports the first problem in it, which is filled in for
/// `CURVE_TUN_ERR_BAD_REGISTRY_FILE`.
///
/// May return the errors of `curve_tun_registry_open_file`, and `CURVE_TUN_ERR_INVALID_ARGUMENT`
/// for a wrong size. Threads: any. Blocks as long as it takes to read the
/// file.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_registry_file_check(
    file: *const c_char,
    problem: *mut curve_tun_registry_problem,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (file, mut problem) = unsafe { (path(file)?, growing::out(problem)?) };
        let read = FileRegistry::each_entry(file, |_| {});
        read.map_err(|error| told(error, |value| problem.set(value)))
    })
}

/// Says why the entries in force are not those of the file; `CURVE_TUN_OK` if they are. For
/// `CURVE_TUN_ERR_BAD_REGISTRY_FILE` the problem is filled in.
///
/// May return the errors of `curve_tun_registry_file_check`, and `CURVE_TUN_ERR_WRONG_STATE` for a
/// registry that is not in a file. Threads: any. Blocks if the file has changed, as long as it
/// takes to read it.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_registry_file_problem(
    registry: *const curve_tun_registry,
    problem: *mut curve_tun_registry_problem,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (registry, mut problem) = unsafe { (object(registry)?, growing::out(problem)?) };
        let Kind::File(file) = &registry.0 else { return Err(Error::WrongState) };
        match file.problem() {
            None => Ok(()),
            Some(error) => Err(told(error, |value| problem.set(value))),
        }
    })
}

/// Tells the caller where a line is wrong, and returns the error without it.
fn told(error: RegistryFileError, set: impl FnOnce(curve_tun_registry_problem)) -> Error {
    if let RegistryFileError::Malformed(Malformed { line, column, problem }) = error {
        let mut text = [0; CURVE_TUN_PROBLEM_TEXT_SIZE];
        for (to, from) in text.iter_mut().zip(problem.to_string().bytes()) {
            *to = from as c_char;
        }
        set(curve_tun_registry_problem { size: 0, line, column, text });
    }
    error.error()
}

/// Where and how a registry in DNS sends its queries. 0 or NULL in a field means its default, which
/// `CURVE_TUN_DNS_OPTIONS_INIT` sets.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curve_tun_dns_options {
    /// `sizeof(curve_tun_dns_options)`.
    pub size: usize,
    /// Name servers, separated by blanks, each `192.0.2.1:53` or `[2001:db8::1]:53`; NULL for those
    /// that `/etc/resolv.conf` names at the time. They must pass DNSSEC's records on.
    pub servers: *const c_char,
    /// DNSKEY and DS records that are trusted, as `keymgr` and `dig` print them, at least one; NULL
    /// for the keys of the root zone. One key of a zone, the one that signs its keys, is enough.
    pub trust_anchors: *const c_char,
    /// Flag: 1 takes answers without a proof by DNSSEC. Then anybody on the path to the name server
    /// can decide who may come in.
    pub allow_unvalidated: u32,
    /// The most names whose answers are cached. 0 for 65,536.
    pub cache_max: u32,
    /// Milliseconds for an answer, including its validation: at most 3,600,000. 0 for 5,000.
    pub timeout_ms: i64,
    /// The most milliseconds for which an answer is cached, however long its TTL: for that long, a
    /// key that was taken out of DNS may still come in. 0 for 300,000.
    pub ttl_max_ms: i64,
}

growing!(given curve_tun_dns_options, size_of::<usize>());

/// Opens the registry in DNS of the keys under a zone. It answers later, from its own thread:
/// connections without I/O stop with a request, and `curve_tun_registry_answer` answers it.
/// `options` may be NULL for the defaults.
///
/// May return `CURVE_TUN_ERR_UNSUPPORTED` if this library was built without the feature `dns`;
/// `CURVE_TUN_ERR_INVALID_ARGUMENT` for an invalid zone, name server, or DNSKEY or DS record, or
/// for a wrong size; `CURVE_TUN_ERR_REGISTRY_FAILED` if `/etc/resolv.conf` names no server;
/// `CURVE_TUN_ERR_TOO_MANY_THREADS`, `CURVE_TUN_ERR_TOO_MANY_FILES`. Threads: any.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curve_tun_registry_open_dns(
    zone: *const c_char,
    options: *const curve_tun_dns_options,
    registry: *mut *mut curve_tun_registry,
) -> curve_tun_result {
    catch_ok(|| {
        // SAFETY: the header's demands on pointers.
        let (zone, mut registry) =
            unsafe { (string(zone, ZONE_MAX, Error::InvalidArgument)?, out(registry)?) };
        // SAFETY: the header's demands on pointers.
        let opened = unsafe { open_dns(zone, options)? };
        registry.give(curve_tun_registry(opened));
        Ok(())
    })
}

/// The most bytes in a zone's name, with escapes.
const ZONE_MAX: usize = 1024;

#[cfg(not(feature = "dns"))]
unsafe fn open_dns(_: &str, _: *const curve_tun_dns_options) -> Result<Kind> {
    Err(Error::Unsupported)
}

/// # Safety
/// The header's demands on the options.
#[cfg(feature = "dns")]
unsafe fn open_dns(zone: &str, place: *const curve_tun_dns_options) -> Result<Kind> {
    use super::boundary::{flag, given};
    use super::options::{milliseconds, or};
    use crate::registry::{DnsOptions, DnsRegistry};

    /// The most bytes in each string of the options.
    const TEXT_MAX: usize = 1 << 20;
    let mut options = DnsOptions::default();
    // SAFETY: the caller's promise.
    if let Some(c) = given(place, |place| unsafe { growing::read(place) })? {
        // SAFETY: the caller's promise.
        let text = |text| given(text, |text| unsafe { string(text, TEXT_MAX, Error::InvalidArgument) });
        if let Some(servers) = text(c.servers)? {
            let servers = servers.split_ascii_whitespace().map(str::parse);
            options.servers =
                servers.collect::<std::result::Result<_, _>>().map_err(|_| Error::InvalidArgument)?;
            // A string that names none is not the same as NULL.
            if options.servers.is_empty() {
                return Err(Error::InvalidArgument);
            }
        }
        options.trust_anchors = text(c.trust_anchors)?.map(str::to_owned);
        options.allow_unvalidated = flag(c.allow_unvalidated)?;
        options.timeout = milliseconds(c.timeout_ms, options.timeout)?;
        options.ttl_max = milliseconds(c.ttl_max_ms, options.ttl_max)?;
        options.cache_max = or(c.cache_max as usize, options.cache_max);
    }
    Ok(Kind::Dns(Arc::new(DnsRegistry::open(zone, &options)?)))
}
