//! A shared library for the tests of C programs, with all features of theirs: the C functions of the crate.

pub use curve_tun;
