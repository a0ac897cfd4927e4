//! Bytes from a server, recorded and made up, to a client.
#![no_main]

use curve_tun::connection::Role;
use curve_tun_fuzz::recorded;

libfuzzer_sys::fuzz_target!(|input: &[u8]| recorded::replay(Role::Client, input));
