//! Bytes from a client, recorded and made up, to a server.
#![no_main]

use curve_tun::connection::Role;
use curve_tun_fuzz::recorded;

libfuzzer_sys::fuzz_target!(|input: &[u8]| recorded::replay(Role::Server, input));
