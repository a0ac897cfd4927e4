//! The crate's error type.

mod errno;
mod table;

pub(crate) use table::each_error;

use std::ffi::CStr;
use std::fmt;

/// The result of everything that can fail with an [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

macro_rules! errors {
    ($(
        $(#[doc = $doc:literal])+
        $number:literal $variant:ident $name:ident $atom:ident $when:ident [$($errno:ident)*]
            $sentence:literal;
    )+) => {
        /// Everything that can go wrong, described by what a caller can do about it.
        ///
        /// Each error has a number that is never reused ([`Error::code`], C's `curve_tun_result`),
        /// an atom ([`Error::atom`], Erlang's `{error, Reason}`) and a sentence ([`fmt::Display`]).
        /// No error is ever sent over the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(i32)]
        pub enum Error {
            $($(#[doc = $doc])+ $variant = $number,)+
        }

        impl Error {
            /// Every error, in the order of their numbers.
            pub const ALL: &'static [Error] = &[$(Error::$variant),+];

            const fn row(self) -> &'static Row {
                match self {
                    $(Error::$variant => const {
                        &Row {
                            name: c_str(concat!(stringify!($name), "\0")),
                            atom: stringify!($atom),
                            transient: matches!(When::$when, When::transient),
                            errnos: &[$(libc::$errno),*],
                            sentence: c_str(concat!($sentence, "\0")),
                        }
                    },)+
                }
            }
        }
    };
}

each_error!(errors);

/// A row of the table, without what the enum itself has.
struct Row {
    name: &'static CStr,
    atom: &'static str,
    transient: bool,
    errnos: &'static [i32],
    sentence: &'static CStr,
}

/// The table's words for whether another try is worthwhile.
#[allow(non_camel_case_types, reason = "the table's words")]
enum When {
    transient,
    permanent,
}

const fn c_str(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("a zero within a text of the table"),
    }
}

impl Error {
    /// Returns the number of this error in C. Numbers begin at 1 and are never reused.
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// Returns the error with this number, if there is one.
    pub fn from_code(code: i32) -> Option<Error> {
        Error::ALL.iter().copied().find(|error| error.code() == code)
    }

    /// Returns the constant's name in C, such as `CURVE_TUN_ERR_TIMEOUT`.
    pub fn name(self) -> &'static str {
        text(self.row().name)
    }

    /// Returns the reason in Erlang's `{error, Reason}`, such as `timeout`.
    pub const fn atom(self) -> &'static str {
        self.row().atom
    }

    /// Returns a sentence in English, without a final stop.
    pub fn message(self) -> &'static str {
        text(self.row().sentence)
    }

    /// Returns whether the same call, made again after a while, may succeed although the program
    /// has changed nothing. Time has to pass, others have to give back resources of the machine, or
    /// something far away has to come back.
    ///
    /// A loop that accepts or connects should continue after such an error, and end with any other.
    /// `Closed` is not transient, because it is the error of an object that is at its end; a client
    /// whose server has closed connects anew. `WrongServerKey` is transient, because a server says
    /// nothing when its vault is out of order. But if the error lasts, the client has the wrong
    /// key, so a client should report it, and wait longer from try to try.
    pub const fn is_transient(self) -> bool {
        self.row().transient
    }

    /// Returns [`Error::name`] and [`Error::message`] for C.
    #[cfg(feature = "capi")]
    pub(crate) const fn c_strings(self) -> (&'static CStr, &'static CStr) {
        (self.row().name, self.row().sentence)
    }
}

fn text(text: &'static CStr) -> &'static str {
    text.to_str().unwrap_or_default()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Error {}
