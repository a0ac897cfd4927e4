//! Converts failed system calls to errors, and errors to `std::io`. This is the only place where
//! errnos are read.

use super::Error;
use std::io::{self, ErrorKind};

impl Error {
    /// Returns what a failed call on a file means.
    pub(crate) fn of_file(error: &io::Error) -> Error {
        match Error::of_call(error) {
            // A file system on top of a network says these. They are not about a deadline,
            // connection or address of ours.
            Error::WouldBlock
            | Error::Timeout
            | Error::Closed
            | Error::ConnectionRefused
            | Error::Unreachable
            | Error::AddressInUse
            | Error::AddressNotAvailable => Error::Io,
            error => error,
        }
    }

    /// Returns what a failed call on a socket means.
    pub(crate) fn of_socket(error: &io::Error) -> Error {
        match Error::of_call(error) {
            // A socket has no file, and its calls have no argument that the program has given.
            Error::FileNotFound
            | Error::AlreadyExists
            | Error::DiskFull
            | Error::ReadOnly
            | Error::InvalidArgument => Error::Io,
            error => error,
        }
    }

    /// Returns what a failed call means on something that is both, such as a Unix socket with its
    /// file.
    pub(crate) fn of_call(error: &io::Error) -> Error {
        match error.raw_os_error() {
            Some(errno) => Error::of_errno(errno),
            None => Error::of_kind(error.kind()),
        }
    }

    fn of_errno(errno: i32) -> Error {
        let all = Error::ALL.iter().copied();
        all.into_iter().find(|error| error.row().errnos.contains(&errno)).unwrap_or(Error::Io)
    }

    /// Returns what a failure means that the standard library noticed before it called the system,
    /// or after.
    fn of_kind(kind: ErrorKind) -> Error {
        match kind {
            ErrorKind::InvalidInput | ErrorKind::InvalidFilename => Error::InvalidArgument,
            ErrorKind::NotFound | ErrorKind::NotADirectory => Error::FileNotFound,
            ErrorKind::AlreadyExists => Error::AlreadyExists,
            ErrorKind::PermissionDenied => Error::PermissionDenied,
            ErrorKind::OutOfMemory => Error::OutOfMemory,
            ErrorKind::WouldBlock => Error::WouldBlock,
            ErrorKind::TimedOut => Error::Timeout,
            _ => Error::Io,
        }
    }
}

impl From<Error> for io::Error {
    /// Keeps the errno if the system has one for this error; `raw_os_error` returns it. Any other
    /// error is kept whole; `get_ref` returns it.
    fn from(error: Error) -> io::Error {
        match error.row().errnos.first() {
            Some(errno) => io::Error::from_raw_os_error(*errno),
            None => io::Error::new(kind(error), error),
        }
    }
}

/// Returns the kind of an error that has no errno.
fn kind(error: Error) -> ErrorKind {
    match error {
        Error::Null | Error::TooLarge | Error::TooSmall | Error::BadKeyText | Error::BadAddress => {
            ErrorKind::InvalidInput
        }
        Error::BadPacket | Error::NotAStream | Error::VaultCorrupt | Error::BadRegistryFile => {
            ErrorKind::InvalidData
        }
        Error::Truncated => ErrorKind::UnexpectedEof,
        Error::Aborted => ErrorKind::ConnectionAborted,
        Error::NameNotFound | Error::NotFound => ErrorKind::NotFound,
        Error::OutOfMemory => ErrorKind::OutOfMemory,
        Error::Unsupported | Error::VaultVersion => ErrorKind::Unsupported,
        Error::VaultInUse => ErrorKind::ResourceBusy,
        Error::UnknownPeer
        | Error::KeyDenied
        | Error::VaultPermissions
        | Error::RegistryPermissions
        | Error::WrongPassphrase => ErrorKind::PermissionDenied,
        _ => ErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_errno_means_one_error() {
        let errnos = || Error::ALL.iter().flat_map(|error| error.row().errnos);
        assert_eq!(errnos().collect::<BTreeSet<_>>().len(), errnos().count());
        for error in Error::ALL.iter().copied() {
            for errno in error.row().errnos {
                assert_eq!(Error::of_call(&io::Error::from_raw_os_error(*errno)), error);
            }
        }
        assert_eq!(Error::of_call(&io::Error::from_raw_os_error(libc::EXDEV)), Error::Io);
    }

    #[test]
    fn files_have_no_deadlines_and_sockets_no_disks() {
        let of = |errno| io::Error::from_raw_os_error(errno);
        for (errno, file) in [
            (libc::ENOENT, Error::FileNotFound),
            (libc::ENOTDIR, Error::FileNotFound),
            (libc::EFBIG, Error::DiskFull),
            (libc::EDQUOT, Error::DiskFull),
            (libc::ENAMETOOLONG, Error::InvalidArgument),
            (libc::ENOMEM, Error::NoBuffers),
            (libc::ETIMEDOUT, Error::Io),
            (libc::ECONNRESET, Error::Io),
            (libc::EAGAIN, Error::Io),
        ] {
            assert_eq!(Error::of_file(&of(errno)), file, "{}", of(errno));
        }
        assert_eq!(Error::of_file(&ErrorKind::InvalidInput.into()), Error::InvalidArgument);
        assert_eq!(Error::of_file(&ErrorKind::OutOfMemory.into()), Error::OutOfMemory);
        assert_eq!(Error::of_file(&ErrorKind::UnexpectedEof.into()), Error::Io);
        #[cfg(feature = "net")]
        for (errno, socket) in [
            (libc::ETIMEDOUT, Error::Timeout),
            (libc::EPIPE, Error::Closed),
            (libc::ENFILE, Error::TooManyFiles),
            (libc::ENOBUFS, Error::NoBuffers),
            (libc::ENETDOWN, Error::Unreachable),
            (libc::EPERM, Error::PermissionDenied),
            (libc::EINVAL, Error::Io),
            (libc::ENOENT, Error::Io),
        ] {
            assert_eq!(Error::of_socket(&of(errno)), socket, "{}", of(errno));
        }
    }
}
