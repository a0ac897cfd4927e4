//! # Results

use super::boundary::Failure;
use crate::error::{Error, each_error};
use std::ffi::c_char;

macro_rules! output {
    ($($item:tt)*) => {
        $($item)*
    };
}

include!("results.rs");
each_error!(results);

macro_rules! results_of_errors {
    ($(
        $(#[doc = $doc:literal])+
        $number:literal $variant:ident $name:ident $atom:ident $when:ident [$($errno:ident)*]
            $sentence:literal;
    )+) => {
        impl From<Error> for curve_tun_result {
            fn from(error: Error) -> curve_tun_result {
                match error {
                    $(Error::$variant => curve_tun_result::$name,)+
                }
            }
        }
    };
}

each_error!(results_of_errors);

impl Failure for *const c_char {
    fn failure(_: Error) -> Self {
        c"".as_ptr()
    }
}

/// Returns the name of a result, such as `"CURVE_TUN_ERR_TIMEOUT"`; `"CURVE_TUN_UNKNOWN"` for a
/// number that is no result.
///
/// A static string, never NULL. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn curve_tun_result_name(result: i32) -> *const c_char {
    match (result, Error::from_code(result)) {
        (0, _) => c"CURVE_TUN_OK".as_ptr(),
        (_, Some(error)) => error.c_strings().0.as_ptr(),
        (_, None) => c"CURVE_TUN_UNKNOWN".as_ptr(),
    }
}

/// Returns an English sentence, without a final stop, that says what a result means.
///
/// A static string, never NULL. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn curve_tun_result_message(result: i32) -> *const c_char {
    match (result, Error::from_code(result)) {
        (0, _) => c"success".as_ptr(),
        (_, Some(error)) => error.c_strings().1.as_ptr(),
        (_, None) => c"not a result of curve_tun".as_ptr(),
    }
}

/// Says whether the same call, made again after a while, may succeed although the program has
/// changed nothing: a loop that accepts or connects then goes on ("Listeners" has a table). true
/// for `CURVE_TUN_ERR_TIMEOUT` and `CURVE_TUN_ERR_TOO_MANY_FILES`, for example, and for
/// `CURVE_TUN_ERR_WRONG_SERVER_KEY`, as a server whose vault is out looks the same; false for
/// `CURVE_TUN_ERR_CLOSED`, which means that the object has ended.
///
/// false for `CURVE_TUN_OK`, and for a number that is no result. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn curve_tun_result_is_transient(result: i32) -> bool {
    Error::from_code(result).is_some_and(Error::is_transient)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    fn text(string: *const c_char) -> &'static str {
        // SAFETY: the functions give static strings.
        unsafe { CStr::from_ptr(string) }.to_str().unwrap()
    }

    #[test]
    fn every_error_has_its_number_name_and_message_in_c() {
        for error in Error::ALL.iter().copied() {
            let result = curve_tun_result::from(error);
            assert_eq!(result as i32, error.code());
            assert_eq!(format!("{result:?}"), error.name());
            assert_eq!(text(curve_tun_result_name(result as i32)), error.name());
            assert_eq!(text(curve_tun_result_message(result as i32)), error.message());
            assert_eq!(curve_tun_result_is_transient(result as i32), error.is_transient());
        }
    }

    #[test]
    fn success_and_numbers_that_are_no_result_have_texts_too() {
        assert_eq!(text(curve_tun_result_name(0)), "CURVE_TUN_OK");
        assert_eq!(text(curve_tun_result_message(0)), "success");
        let last = Error::ALL.iter().copied().map(Error::code).max().unwrap();
        for number in [-1, last + 1, i32::MIN, i32::MAX] {
            assert_eq!(text(curve_tun_result_name(number)), "CURVE_TUN_UNKNOWN");
            assert_eq!(text(curve_tun_result_message(number)), "not a result of curve_tun");
            assert!(!curve_tun_result_is_transient(number));
        }
    }
}
