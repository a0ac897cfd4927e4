//! A shared library for the tests of C programs, with all the features they use: the C functions of
//! the crate.

pub use curve_tun;
