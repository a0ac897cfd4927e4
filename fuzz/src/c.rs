//! The part of include/curve_tun.h that the targets call. A struct that no longer matches the
//! header makes `c_api` fail.

use std::ffi::{c_char, c_void};

/// `CURVE_TUN_LISTENER_SIZE`.
const LISTENER_SIZE: usize = 256;

macro_rules! opaque {
    ($($name:ident)*) => {
        $(#[repr(C)] pub struct $name { _private: [u8; 0] })*
    };
}
#[repr(C)]
pub struct Message {
    pub bytes: *const u8,
    pub len: usize,
}

opaque! { Vault Registry Server Connection StreamMachine }

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Options {
    pub size: usize,
    pub handshake_timeout_ms: i64,
    pub receive_high_water: usize,
    pub send_high_water: usize,
    pub handshakes_max: u32,
    pub handshakes_per_source: u32,
    pub nagle: u32,
    pub no_keep_alive: u32,
    pub listener: *const c_char,
}

#[repr(C)]
pub struct StreamOptions {
    pub size: usize,
    pub mode: u32,
    pub message_max: u32,
    pub service: *const c_char,
    pub client_ip: [u8; 16],
    pub client_ip_len: u32,
    pub client_port: u32,
}

#[repr(C)]
pub struct VaultCallbacks {
    pub size: usize,
    pub public_key: [u8; 32],
    pub deferred: u32,
    pub reserved: u32,
    pub box_seal:
        Option<unsafe extern "C" fn(*mut c_void, u32, *const u8, *const u8, usize, *mut u8, *mut u8) -> i32>,
    pub box_open: Option<
        unsafe extern "C" fn(*mut c_void, u32, *const u8, *const u8, usize, *const u8, usize, *mut u8) -> i32,
    >,
    pub free: Option<unsafe extern "C" fn(*mut c_void)>,
}

#[repr(C)]
pub struct RegistryCallbacks {
    pub size: usize,
    pub deferred: u32,
    pub reserved: u32,
    pub verify:
        Option<unsafe extern "C" fn(*mut c_void, *const c_char, *const u8, *const c_char, *mut u32) -> i32>,
    pub free: Option<unsafe extern "C" fn(*mut c_void)>,
}

#[repr(C)]
pub struct Request {
    pub size: usize,
    pub kind: u32,
    pub nonce_len: u32,
    pub sealed_len: u32,
    pub message_len: u32,
    pub peer_public_key: [u8; 32],
    pub nonce: [u8; 16],
    pub sealed: [u8; 80],
    pub message: [u8; 128],
    pub address: [u8; 64],
    pub listener: [u8; LISTENER_SIZE],
}

#[repr(C)]
pub struct Answer {
    pub size: usize,
    pub kind: u32,
    pub result: i32,
    pub accepted: u32,
    pub reserved: u32,
    pub nonce: [u8; 16],
    pub bytes: [u8; 144],
}

unsafe extern "C" {
    pub fn curve_tun_keypair_generate(public: *mut u8, secret: *mut u8) -> i32;
    pub fn curve_tun_public_key_from_text(text: *const c_char, len: usize, public: *mut u8) -> i32;
    pub fn curve_tun_secret_key_from_text(text: *const c_char, len: usize, secret: *mut u8) -> i32;
    pub fn curve_tun_vault_generate(vault: *mut *mut Vault) -> i32;
    pub fn curve_tun_vault_from_secret(secret: *const u8, vault: *mut *mut Vault) -> i32;
    pub fn curve_tun_vault_custom(c: *const VaultCallbacks, data: *mut c_void, vault: *mut *mut Vault)
    -> i32;
    pub fn curve_tun_vault_public_key(vault: *const Vault, public: *mut u8) -> i32;
    pub fn curve_tun_vault_box(
        vault: *const Vault,
        purpose: u32,
        peer: *const u8,
        message: *const u8,
        len: usize,
        nonce: *mut u8,
        sealed: *mut u8,
    ) -> i32;
    pub fn curve_tun_vault_box_open(
        vault: *const Vault,
        purpose: u32,
        peer: *const u8,
        nonce: *const u8,
        sealed: *const u8,
        len: usize,
        message: *mut u8,
    ) -> i32;
    pub fn curve_tun_vault_answer(vault: *const Vault, request: *const Request, answer: *mut Answer) -> i32;
    pub fn curve_tun_vault_free(vault: *mut Vault);
    pub fn curve_tun_registry_new(registry: *mut *mut Registry) -> i32;
    pub fn curve_tun_registry_custom(
        callbacks: *const RegistryCallbacks,
        data: *mut c_void,
        registry: *mut *mut Registry,
    ) -> i32;
    pub fn curve_tun_registry_add(registry: *const Registry, address: *const c_char, key: *const u8) -> i32;
    pub fn curve_tun_registry_remove(
        registry: *const Registry,
        address: *const c_char,
        key: *const u8,
    ) -> i32;
    pub fn curve_tun_registry_lookup(registry: *const Registry, address: *const c_char, key: *mut u8) -> i32;
    pub fn curve_tun_registry_answer(
        registry: *const Registry,
        request: *const Request,
        answer: *mut Answer,
    ) -> i32;
    pub fn curve_tun_registry_free(registry: *mut Registry);
    pub fn curve_tun_server_new(
        vault: *const Vault,
        registry: *const Registry,
        options: *const Options,
        server: *mut *mut Server,
    ) -> i32;
    pub fn curve_tun_server_free(server: *mut Server);
    pub fn curve_tun_connection_new_client(
        vault: *const Vault,
        server_public: *const u8,
        options: *const Options,
        connection: *mut *mut Connection,
    ) -> i32;
    pub fn curve_tun_connection_new_server(
        server: *const Server,
        address: *const c_char,
        connection: *mut *mut Connection,
    ) -> i32;
    pub fn curve_tun_connection_new_server_ip(
        server: *const Server,
        ip: *const u8,
        len: usize,
        connection: *mut *mut Connection,
    ) -> i32;
    pub fn curve_tun_connection_on_evict(
        c: *mut Connection,
        evict: Option<unsafe extern "C" fn(*mut c_void)>,
        data: *mut c_void,
    ) -> i32;
    pub fn curve_tun_connection_read(
        c: *mut Connection,
        bytes: *const u8,
        len: usize,
        consumed: *mut usize,
    ) -> i32;
    pub fn curve_tun_connection_read_buffer(c: *mut Connection, bytes: *mut *mut u8, len: *mut usize) -> i32;
    pub fn curve_tun_connection_read_commit(c: *mut Connection, count: usize) -> i32;
    pub fn curve_tun_connection_write(
        c: *mut Connection,
        buffer: *mut u8,
        capacity: usize,
        written: *mut usize,
    ) -> i32;
    pub fn curve_tun_connection_pending(c: *mut Connection, bytes: *mut *const u8, len: *mut usize) -> i32;
    pub fn curve_tun_connection_pending_len(c: *const Connection) -> usize;
    pub fn curve_tun_connection_written(c: *mut Connection, count: usize) -> i32;
    pub fn curve_tun_connection_send(c: *mut Connection, message: *const u8, len: usize) -> i32;
    pub fn curve_tun_connection_send_many(
        c: *mut Connection,
        messages: *const Message,
        count: usize,
        sent: *mut usize,
    ) -> i32;
    pub fn curve_tun_connection_peek(c: *mut Connection, message: *mut *const u8, len: *mut usize) -> i32;
    pub fn curve_tun_connection_consume(c: *mut Connection) -> i32;
    pub fn curve_tun_connection_recv(
        c: *mut Connection,
        buffer: *mut u8,
        capacity: usize,
        len: *mut usize,
    ) -> i32;
    pub fn curve_tun_connection_state(c: *const Connection) -> i32;
    pub fn curve_tun_connection_peer_key(c: *const Connection, public: *mut u8) -> i32;
    pub fn curve_tun_connection_tick(c: *mut Connection, now_ms: i64, next_ms: *mut i64) -> i32;
    pub fn curve_tun_connection_request(c: *mut Connection, request: *mut Request) -> i32;
    pub fn curve_tun_connection_answer(c: *mut Connection, answer: *const Answer) -> i32;
    pub fn curve_tun_connection_transport_ended(c: *mut Connection) -> i32;
    pub fn curve_tun_connection_close(c: *mut Connection);
    pub fn curve_tun_connection_free(c: *mut Connection);
    pub fn curve_tun_stream_machine_new(
        c: *mut Connection,
        options: *const StreamOptions,
        machine: *mut *mut StreamMachine,
    ) -> i32;
    pub fn curve_tun_stream_machine_peer(m: *mut StreamMachine, peer: *mut c_void) -> i32;
    pub fn curve_tun_stream_machine_accept(m: *mut StreamMachine) -> i32;
    pub fn curve_tun_stream_machine_read(
        m: *mut StreamMachine,
        buffer: *mut u8,
        capacity: usize,
        len: *mut usize,
    ) -> i32;
    pub fn curve_tun_stream_machine_write(
        m: *mut StreamMachine,
        bytes: *const u8,
        len: usize,
        written: *mut usize,
    ) -> i32;
    pub fn curve_tun_stream_machine_send_message(
        m: *mut StreamMachine,
        message: *const u8,
        len: usize,
    ) -> i32;
    pub fn curve_tun_stream_machine_recv_message(
        m: *mut StreamMachine,
        message: *mut *const u8,
        len: *mut usize,
    ) -> i32;
    pub fn curve_tun_stream_machine_finish_write(m: *mut StreamMachine) -> i32;
    pub fn curve_tun_stream_machine_is_finished(m: *const StreamMachine) -> bool;
    pub fn curve_tun_stream_machine_abort(m: *mut StreamMachine, code: u32, text: *const c_char) -> i32;
    pub fn curve_tun_stream_machine_abort_code(m: *const StreamMachine, code: *mut u32) -> i32;
    pub fn curve_tun_stream_machine_free(m: *mut StreamMachine);
}
