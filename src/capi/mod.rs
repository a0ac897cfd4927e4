//! curve_tun: message-oriented tunnels over TCP, secured by Curve25519 in the manner of CurveCP.
//!
//! This header is generated from the library's source; do not edit it.
//!
//! # Conventions
//!
//! Objects. Every object is an opaque pointer. A function whose name contains `_new`, `_create_`,
//! `_open`, `_custom` or `_connect`, one of a listener that accepts, and
//! `curve_tun_vault_from_secret`, makes an object and gives it through its last pointer; the
//! `_free` of its type frees it, once. Freeing NULL does nothing. An object keeps alive what it was
//! made from: a vault, a registry or a server may be freed as soon as nothing more will be made
//! from it, and the socket or connection of a stream as soon as the program has no further use for
//! it. Nothing has to be initialised, and nothing global has to be freed.
//!
//! Results. A function that can fail returns a `curve_tun_result`, 0 (`CURVE_TUN_OK`) for success,
//! and gives its values through pointers to memory of the caller. On failure that memory is left as
//! it was, except where a function says otherwise. Every function that returns a `curve_tun_result`
//! may return `CURVE_TUN_ERR_NULL` for a NULL pointer and `CURVE_TUN_ERR_INTERNAL` for a defect of
//! this library, which also closes the object that met it; the comments do not repeat these two.
//!
//! Pointers. Every pointer must be valid for what its function says, for the length of the call;
//! none is kept after it, except where a function says otherwise. NULL is an error, never a crash;
//! it is allowed for bytes whose length is 0, for `user_data`, and where a function says so. The
//! buffers of one call must not overlap. Keys have `CURVE_TUN_KEY_BYTES` bytes. Host names and
//! addresses are strings that end with a zero; addresses are `192.0.2.7` or `2001:db8::7`, networks
//! `192.0.2.0/24` or `2001:db8::/32`.
//!
//! Integers. Sizes and lengths are in bytes and times in milliseconds. A timeout that is negative
//! waits for ever, and 0 never waits. Flags are 0 or 1. Any integer may be passed for a constant:
//! values out of range are refused with `CURVE_TUN_ERR_INVALID_ARGUMENT`.
//!
//! Structs that may grow begin with `size`. The caller sets it to the struct's `sizeof` before each
//! call that takes the struct, also where the call fills it. The macro named after it, with
//! `_INIT`, does so and sets everything else to 0:
//! `curve_tun_options options = CURVE_TUN_OPTIONS_INIT;`. In options, 0 in a field means its
//! default, and NULL for the struct means all defaults.
//!
//! So a program built with an older header works with a newer library: a smaller struct is read as
//! if the fields that it lacks were 0, and is filled as far as it goes. A newer program works with
//! an older library as long as it sets no field that the library does not know; if it does, it gets
//! `CURVE_TUN_ERR_INVALID_ARGUMENT`. A wrong size gets the same: one that is too small for the
//! fields without which the struct means nothing, above 4,096, or that cuts a field in two.
//!
//! Threads. "Threads: any" means that the call may be made from any thread at any time, also while
//! other calls on the same object run. "Threads: one at a time" means that it may be made from any
//! thread, but not while another call on the same object runs. Freeing an object is always the last
//! call on it.
//!
//! Forks. A child of `fork()` can only free the objects of its parent, since the same counters must
//! never seal twice, and another thread of the parent may have been in the middle of a call. Every
//! other call on such an object does nothing and returns `CURVE_TUN_ERR_FORKED` at once; a function
//! that does not return a `curve_tun_result` returns what it returns for NULL. The comments do not
//! repeat this.
//!
//! Blocking. A function blocks only if its comment says so, and then no longer than its timeout, if
//! it has one.
//!
//! Linking. `cc program.c -lcurve_tun` for the shared library, and for the static one
//! `cc program.c libcurve_tun.a -lpthread -ldl -lm`. A program that also links another static
//! library made with Rust links the object that `make object` makes instead.
//!
//! Secrets. This library wipes every secret that it held. Callers wipe their own copies with
//! `curve_tun_wipe`.
//!
//! Memory. Shortages that a program can survive are errors: `CURVE_TUN_ERR_OUT_OF_MEMORY` for
//! guarded memory for keys and the memory that a passphrase costs, `CURVE_TUN_ERR_TOO_MANY_THREADS`
//! for threads, and `CURVE_TUN_ERR_NO_BUFFERS` for buffers of the system. Ordinary memory, for
//! objects, messages and entries of registries, comes from `malloc`; when that fails, the process
//! is aborted (SIGABRT), as it is when the system has no randomness.
//!
//! Signals. A signal that interrupts a call does not end it: the call goes on waiting. None of
//! these functions raises SIGPIPE, and the library's own threads handle none of the program's
//! signals.
//!
//! Unloading. `dlclose` may be called when every object has been freed and every call has returned.
//! The library stays mapped until the threads that called it have ended.
//!
//! Limits. A message has 0 to `CURVE_TUN_MESSAGE_MAX` (65,503) bytes, a key 32 bytes, the text of a
//! key 44 characters. Closing is not authenticated: a program that must tell a finished
//! conversation from one that was cut off ends it with a message of its own, or uses streams, whose
//! messages may be larger, too.

#![allow(non_camel_case_types, reason = "the names are those of C")]

mod boundary;
mod connection;
mod growing;
mod kept;
mod keys;
mod known;
mod listener;
mod options;
mod registry;
mod registry_kept;
mod request;
mod result;
mod server;
mod socket;
mod stream;
mod stream_driver;
mod stream_machine;
mod stream_options;
mod traffic;
mod vault;

#[cfg(test)]
mod tests;
