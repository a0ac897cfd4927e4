//! Sequences of calls through the C face: objects of every kind are made, used in any state, with
//! NULL for any pointer, and freed in any order. A panic fails the run even where the library would
//! catch it.
#![no_main]

use arbitrary::Arbitrary;
use curve_tun_fuzz::c::*;
use curve_tun_fuzz::repeatable;
use std::ffi::{CString, c_char, c_void};
use std::mem::size_of;
use std::ptr::{null, null_mut};

const OK: i32 = 0;
const NULL: i32 = 1;
const WOULD_BLOCK: i32 = 6;
const CLOSED: i32 = 8;
const VAULT_FAILED: i32 = 18;
const INTERNAL: i32 = 32;

#[derive(Arbitrary, Debug)]
enum Call {
    VaultGenerate,
    VaultFromSecret([u8; 32]),
    VaultCustom {
        deferred: u8,
        broken: bool,
        size: u8,
    },
    VaultFree(u8),
    VaultBox {
        vault: u8,
        purpose: u8,
        peer: u8,
        len: u8,
        then_open: bool,
    },
    RegistryNew,
    RegistryCustom {
        deferred: u8,
        says: u8,
    },
    RegistryAdd {
        registry: u8,
        address: Text,
        key: u8,
    },
    RegistryRemove {
        registry: u8,
        address: Text,
        key: u8,
    },
    RegistryLookup {
        registry: u8,
        address: Text,
    },
    RegistryFree(u8),
    ServerNew {
        vault: u8,
        registry: u8,
        options: Tuned,
    },
    ServerFree(u8),
    NewClient {
        vault: u8,
        server_vault: u8,
        options: Tuned,
    },
    NewServer {
        server: u8,
        address: Text,
    },
    /// Carries bytes of one connection to another.
    Carry {
        from: u8,
        to: u8,
        count: u16,
        in_place: bool,
    },
    CarryAll {
        a: u8,
        b: u8,
    },
    Read {
        connection: u8,
        bytes: Vec<u8>,
    },
    Filled {
        connection: u8,
        count: u16,
    },
    Written {
        connection: u8,
        count: u16,
    },
    Send {
        connection: u8,
        len: u16,
    },
    SendTooLong(u8),
    Receive {
        connection: u8,
        capacity: u16,
    },
    Tick {
        connection: u8,
        now: i64,
    },
    /// Answers the request with a vault and a registry, perhaps with a wrong kind or result.
    Answer {
        connection: u8,
        vault: u8,
        registry: u8,
        kind: Option<u8>,
        result: i8,
    },
    Ended(u8),
    Close(u8),
    ConnectionFree(u8),
    NewServerIp {
        server: u8,
        ip: Vec<u8>,
    },
    MayBeEvicted(u8),
    SendMany {
        connection: u8,
        lens: Vec<u16>,
    },
    Peek(u8),
    Consume(u8),
}

/// The text of an address, usually a valid one.
#[derive(Arbitrary, Debug)]
enum Text {
    V4,
    V6,
    Network,
    Null,
    Any(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum Tuned {
    Default,
    Null,
    Any { size: u8, values: [u32; 4] },
}

#[derive(Default)]
struct Objects {
    vaults: Vec<*mut Vault>,
    registries: Vec<*mut Registry>,
    servers: Vec<*mut Server>,
    connections: Vec<*mut Connection>,
    /// Vaults behind custom ones that do not free them, to be freed at the end.
    behind: Vec<*mut Vault>,
}

/// Returns one of them, or NULL beyond their end.
fn pick<T>(all: &[*mut T], at: u8) -> *mut T {
    all.get(usize::from(at) % (all.len() + 1)).copied().unwrap_or(null_mut())
}

/// Removes one of them, to be freed.
fn remove<T>(all: &mut Vec<*mut T>, at: u8) -> *mut T {
    let at = usize::from(at) % (all.len() + 1);
    if at < all.len() { all.swap_remove(at) } else { null_mut() }
}

/// Keeps the object that a call made; a call that fails leaves its pointer unchanged.
fn keep<T>(all: &mut Vec<*mut T>, result: i32, made: *mut T) {
    checked(result);
    assert_eq!(result == OK, !made.is_null());
    if result == OK {
        all.push(made);
    }
}

/// Checks that no call reports an internal error.
fn checked(result: i32) -> i32 {
    assert!(result >= OK && result != INTERNAL, "result {result}");
    result
}

impl Text {
    fn string(self) -> Option<CString> {
        match self {
            Text::V4 => Some(c"192.0.2.7".into()),
            Text::V6 => Some(c"2001:db8::7".into()),
            Text::Network => Some(c"192.0.2.0/24".into()),
            Text::Null => None,
            Text::Any(bytes) => CString::new(bytes).ok(),
        }
    }
}

fn pointer(text: &Option<CString>) -> *const c_char {
    text.as_ref().map_or(null(), |text| text.as_ptr())
}

impl Tuned {
    fn options(&self) -> Option<Options> {
        let mut options = Options {
            size: size_of::<Options>(),
            handshake_timeout_ms: 0,
            receive_high_water: 0,
            send_high_water: 0,
            handshakes_max: 0,
            handshakes_per_source: 0,
            nagle: 0,
            no_keep_alive: 0,
            listener: null(),
        };
        match self {
            Tuned::Default => {}
            Tuned::Null => return None,
            Tuned::Any { size, values } => {
                // Never more than the struct has, since the claimed size has to exist.
                options.size = (*size).min(size_of::<Options>() as u8).into();
                options.handshake_timeout_ms = values[0].into();
                options.receive_high_water = values[1] as usize % 100_000;
                options.send_high_water = values[2] as usize % 100_000;
                options.handshakes_max = values[3] % 8;
                options.handshakes_per_source = values[3] >> 3 & 3;
                options.nagle = values[3] >> 30;
            }
        }
        Some(options)
    }
}

unsafe extern "C" fn seal(
    user: *mut c_void,
    purpose: u32,
    peer: *const u8,
    message: *const u8,
    len: usize,
    nonce: *mut u8,
    sealed: *mut u8,
) -> i32 {
    // SAFETY: `user` is the vault behind this one; the rest is passed on.
    unsafe { curve_tun_vault_box(user.cast(), purpose, peer, message, len, nonce, sealed) }
}

unsafe extern "C" fn open(
    user: *mut c_void,
    purpose: u32,
    peer: *const u8,
    nonce: *const u8,
    _nonce_len: usize,
    sealed: *const u8,
    len: usize,
    message: *mut u8,
) -> i32 {
    // SAFETY: as above.
    unsafe { curve_tun_vault_box_open(user.cast(), purpose, peer, nonce, sealed, len, message) }
}

unsafe extern "C" fn free(user: *mut c_void) {
    // SAFETY: it was made only for the custom vault.
    unsafe { curve_tun_vault_free(user.cast()) }
}

unsafe extern "C" fn verify(
    user: *mut c_void,
    _: *const c_char,
    _: *const u8,
    _: *const c_char,
    accepted: *mut u32,
) -> i32 {
    // SAFETY: `accepted` is valid by the contract of the callback.
    unsafe { *accepted = user as u32 % 4 };
    user as i32 / 4
}

impl Objects {
    fn public_key(&self, vault: u8) -> Option<[u8; 32]> {
        let (vault, mut key) = (pick(&self.vaults, vault), [0; 32]);
        // SAFETY: a live vault or NULL.
        (unsafe { curve_tun_vault_public_key(vault, key.as_mut_ptr()) } == OK).then_some(key)
    }

    fn carry(&self, from: u8, to: u8, count: usize, in_place: bool) -> usize {
        let (from, to) = (pick(&self.connections, from), pick(&self.connections, to));
        let (mut bytes, mut len) = (null(), 0);
        // SAFETY: live connections or NULL, one call at a time; the bytes are copied before the next call.
        unsafe {
            if checked(curve_tun_connection_pending(from, &mut bytes, &mut len)) != OK {
                return 0;
            }
            assert_eq!(curve_tun_connection_pending_len(from), len);
            let copy = std::slice::from_raw_parts(bytes, len.min(count)).to_vec();
            let mut taken = 0;
            if in_place {
                let (mut room, mut size) = (null_mut(), 0);
                if checked(curve_tun_connection_read_buffer(to, &mut room, &mut size)) != OK {
                    return 0;
                }
                taken = size.min(copy.len());
                std::ptr::copy_nonoverlapping(copy.as_ptr(), room, taken);
                checked(curve_tun_connection_read_commit(to, taken));
            } else {
                checked(curve_tun_connection_read(to, copy.as_ptr(), copy.len(), &mut taken));
            }
            // `to` may be `from`, which reading may have closed.
            checked(curve_tun_connection_written(from, taken));
            taken
        }
    }

    fn run(&mut self, call: Call) {
        // SAFETY: every pointer is a live object of its type, NULL, or memory of the length beside it; objects leave
        // their lists before they are ended.
        unsafe {
            match call {
                Call::VaultGenerate => {
                    let mut vault = null_mut();
                    let result = curve_tun_vault_generate(&mut vault);
                    keep(&mut self.vaults, result, vault);
                }
                Call::VaultFromSecret(secret) => {
                    let mut vault = null_mut();
                    let result = curve_tun_vault_from_secret(secret.as_ptr(), &mut vault);
                    keep(&mut self.vaults, result, vault);
                }
                Call::VaultCustom { deferred, broken, size } => {
                    let (mut inner, mut vault) = (null_mut(), null_mut());
                    assert_eq!(curve_tun_vault_generate(&mut inner), OK);
                    // Cut to whole fields, down to less than the minimum.
                    let size = size_of::<VaultCallbacks>() - usize::from(size / 32) * size_of::<usize>();
                    let mut callbacks = VaultCallbacks {
                        size,
                        public_key: [0; 32],
                        deferred: u32::from(deferred % 4),
                        reserved: 0,
                        box_seal: Some(seal),
                        box_open: (!broken).then_some(open),
                        free: Some(free),
                    };
                    curve_tun_vault_public_key(inner, callbacks.public_key.as_mut_ptr());
                    let result = curve_tun_vault_custom(&callbacks, inner.cast(), &mut vault);
                    assert!(!broken || result != OK || callbacks.deferred == 1);
                    if result != OK {
                        curve_tun_vault_free(inner);
                    } else if size < size_of::<VaultCallbacks>() {
                        self.behind.push(inner);
                    }
                    keep(&mut self.vaults, result, vault);
                }
                Call::VaultFree(at) => curve_tun_vault_free(remove(&mut self.vaults, at)),
                Call::VaultBox { vault, purpose, peer, len, then_open } => {
                    let Some(peer_key) = self.public_key(peer) else { return };
                    let (message, mut nonce) = (vec![7; len.into()], [0; 16]);
                    let mut sealed = vec![0; usize::from(len) + 16];
                    let (from, purpose) = (pick(&self.vaults, vault), u32::from(purpose % 5));
                    let bytes = message.as_ptr();
                    let (n, s) = (nonce.as_mut_ptr(), sealed.as_mut_ptr());
                    let result =
                        curve_tun_vault_box(from, purpose, peer_key.as_ptr(), bytes, message.len(), n, s);
                    if checked(result) != OK || !then_open {
                        return;
                    }
                    let own = self.public_key(vault).unwrap();
                    let mut opened = vec![0; len.into()];
                    let to = pick(&self.vaults, peer);
                    let out = opened.as_mut_ptr();
                    let result = curve_tun_vault_box_open(to, purpose, own.as_ptr(), n, s, sealed.len(), out);
                    // A custom vault may lack the function that opens.
                    assert!(checked(result) == VAULT_FAILED || (result, opened) == (OK, message));
                }
                Call::RegistryNew => {
                    let mut registry = null_mut();
                    let result = curve_tun_registry_new(&mut registry);
                    keep(&mut self.registries, result, registry);
                }
                Call::RegistryCustom { deferred, says } => {
                    let mut registry = null_mut();
                    let callbacks = RegistryCallbacks {
                        size: size_of::<RegistryCallbacks>(),
                        deferred: u32::from(deferred % 4),
                        reserved: 0,
                        verify: Some(verify),
                        free: None,
                    };
                    let says = usize::from(says) as *mut c_void;
                    let result = curve_tun_registry_custom(&callbacks, says, &mut registry);
                    assert_eq!(result == OK, callbacks.deferred < 2);
                    keep(&mut self.registries, result, registry);
                }
                Call::RegistryAdd { registry, address, key } => {
                    let (address, key) = (address.string(), self.public_key(key));
                    let key = key.as_ref().map_or(null(), |key| key.as_ptr());
                    let registry = pick(&self.registries, registry);
                    checked(curve_tun_registry_add(registry, pointer(&address), key));
                }
                Call::RegistryRemove { registry, address, key } => {
                    let (address, key) = (address.string(), self.public_key(key));
                    let key = key.as_ref().map_or(null(), |key| key.as_ptr());
                    let registry = pick(&self.registries, registry);
                    checked(curve_tun_registry_remove(registry, pointer(&address), key));
                }
                Call::RegistryLookup { registry, address } => {
                    let (address, mut key) = (address.string(), [0; 32]);
                    let registry = pick(&self.registries, registry);
                    checked(curve_tun_registry_lookup(registry, pointer(&address), key.as_mut_ptr()));
                }
                Call::RegistryFree(at) => curve_tun_registry_free(remove(&mut self.registries, at)),
                Call::ServerNew { vault, registry, options } => {
                    let (options, mut server) = (options.options(), null_mut());
                    let options = options.as_ref().map_or(null(), |options| options);
                    let (vault, registry) = (pick(&self.vaults, vault), pick(&self.registries, registry));
                    let result = curve_tun_server_new(vault, registry, options, &mut server);
                    keep(&mut self.servers, result, server);
                }
                Call::ServerFree(at) => curve_tun_server_free(remove(&mut self.servers, at)),
                Call::NewClient { vault, server_vault, options } => {
                    let (options, mut connection) = (options.options(), null_mut());
                    let options = options.as_ref().map_or(null(), |options| options);
                    let key = self.public_key(server_vault);
                    let key = key.as_ref().map_or(null(), |key| key.as_ptr());
                    let vault = pick(&self.vaults, vault);
                    let result = curve_tun_connection_new_client(vault, key, options, &mut connection);
                    keep(&mut self.connections, result, connection);
                }
                Call::NewServer { server, address } => {
                    let (address, mut connection) = (address.string(), null_mut());
                    let server = pick(&self.servers, server);
                    let result = curve_tun_connection_new_server(server, pointer(&address), &mut connection);
                    keep(&mut self.connections, result, connection);
                }
                Call::Carry { from, to, count, in_place } => {
                    self.carry(from, to, count.into(), in_place);
                }
                Call::CarryAll { a, b } => {
                    for _ in 0..4 {
                        self.carry(a, b, usize::MAX, false);
                        self.carry(b, a, usize::MAX, true);
                    }
                }
                Call::Read { connection, bytes } => {
                    let (connection, mut consumed) = (pick(&self.connections, connection), usize::MAX);
                    let result =
                        curve_tun_connection_read(connection, bytes.as_ptr(), bytes.len(), &mut consumed);
                    assert!(checked(result) != OK || consumed <= bytes.len());
                }
                Call::Filled { connection, count } => {
                    // Without asking for the buffer first.
                    let result =
                        curve_tun_connection_read_commit(pick(&self.connections, connection), count.into());
                    assert!(count == 0 || checked(result) != OK);
                }
                Call::Written { connection, count } => {
                    let connection = pick(&self.connections, connection);
                    checked(curve_tun_connection_written(connection, count.into()));
                }
                Call::Send { connection, len } => {
                    let message = vec![9; len.into()];
                    let connection = pick(&self.connections, connection);
                    checked(curve_tun_connection_send(connection, message.as_ptr(), message.len()));
                }
                Call::SendTooLong(connection) => {
                    let (connection, message) = (pick(&self.connections, connection), vec![0; 65504]);
                    let result = curve_tun_connection_send(connection, message.as_ptr(), message.len());
                    assert_ne!(checked(result), OK);
                }
                Call::Receive { connection, capacity } => {
                    let (mut buffer, mut len) = (vec![0; capacity.into()], usize::MAX);
                    let connection = pick(&self.connections, connection);
                    let out = buffer.as_mut_ptr();
                    let result = curve_tun_connection_recv(connection, out, buffer.len(), &mut len);
                    assert!(checked(result) != OK || len <= buffer.len());
                }
                Call::NewServerIp { server, ip } => {
                    let (server, mut connection) = (pick(&self.servers, server), null_mut());
                    let (bytes, len) = (ip.as_ptr(), ip.len());
                    let result = curve_tun_connection_new_server_ip(server, bytes, len, &mut connection);
                    assert!(result != OK || len == 4 || len == 16);
                    keep(&mut self.connections, result, connection);
                }
                Call::MayBeEvicted(at) => {
                    checked(curve_tun_connection_on_evict(pick(&self.connections, at), None, null_mut()));
                }
                Call::SendMany { connection, lens } => {
                    let connection = pick(&self.connections, connection);
                    let (bytes, mut sent) = (vec![9; 65535], usize::MAX);
                    let message = |len: &u16| Message { bytes: bytes.as_ptr(), len: (*len).into() };
                    let messages: Vec<_> = lens.iter().map(message).collect();
                    let before = curve_tun_connection_pending_len(connection);
                    let result = curve_tun_connection_send_many(
                        connection,
                        messages.as_ptr(),
                        messages.len(),
                        &mut sent,
                    );
                    if checked(result) == OK {
                        let sealed = messages[..sent].iter().map(|message| message.len + 34).sum::<usize>();
                        assert_eq!(curve_tun_connection_pending_len(connection), before + sealed);
                        assert!(sent > 0 || messages.is_empty());
                    } else {
                        assert_eq!(curve_tun_connection_pending_len(connection), before);
                    }
                }
                Call::Peek(at) => {
                    let (connection, mut message, mut len) =
                        (pick(&self.connections, at), null(), usize::MAX);
                    if checked(curve_tun_connection_peek(connection, &mut message, &mut len)) == OK {
                        let peeked = std::slice::from_raw_parts(message, len).to_vec();
                        let mut received = vec![0; len];
                        let out = received.as_mut_ptr();
                        assert_eq!(curve_tun_connection_recv(connection, out, len, &mut len), OK);
                        assert_eq!(received, peeked);
                    }
                }
                Call::Consume(at) => {
                    let (connection, mut message, mut len) = (pick(&self.connections, at), null(), 0);
                    let peeked = curve_tun_connection_peek(connection, &mut message, &mut len);
                    assert_eq!(checked(curve_tun_connection_consume(connection)) == OK, peeked == OK);
                }
                Call::Tick { connection, now } => {
                    let (connection, mut next) = (pick(&self.connections, connection), i64::MIN);
                    let result = curve_tun_connection_tick(connection, now, &mut next);
                    assert!(
                        checked(result) != OK || next == -1 || next > now || now == i64::MAX,
                        "{now} {next}"
                    );
                }
                Call::Answer { connection, vault, registry, kind, result } => {
                    let connection = pick(&self.connections, connection);
                    let mut request: Request = std::mem::zeroed();
                    let mut answer: Answer = std::mem::zeroed();
                    (request.size, answer.size) = (size_of::<Request>(), size_of::<Answer>());
                    let asked = checked(curve_tun_connection_request(connection, &mut request));
                    if asked == OK {
                        let (vault, registry) = (pick(&self.vaults, vault), pick(&self.registries, registry));
                        let answered = if request.kind == 4 {
                            curve_tun_registry_answer(registry, &request, &mut answer)
                        } else {
                            curve_tun_vault_answer(vault, &request, &mut answer)
                        };
                        checked(answered);
                    } else {
                        assert!([NULL, WOULD_BLOCK, CLOSED].contains(&asked));
                    }
                    if let Some(kind) = kind {
                        answer.kind = u32::from(kind % 6);
                        answer.result = result.into();
                    }
                    let result = checked(curve_tun_connection_answer(connection, &answer));
                    assert!(asked == OK || result != OK, "an answer to nothing");
                }
                Call::Ended(connection) => {
                    let result = curve_tun_connection_transport_ended(pick(&self.connections, connection));
                    assert_ne!(checked(result), OK);
                }
                Call::Close(connection) => {
                    let connection = pick(&self.connections, connection);
                    curve_tun_connection_close(connection);
                    assert_eq!(curve_tun_connection_state(connection), 4);
                }
                Call::ConnectionFree(at) => curve_tun_connection_free(remove(&mut self.connections, at)),
            }
        }
    }
}

libfuzzer_sys::fuzz_target!(|calls: Vec<Call>| {
    repeatable();
    let mut objects = Objects::default();
    for call in calls.into_iter().take(100) {
        objects.run(call);
    }
    // SAFETY: everything left is freed once; servers and vaults first, which their users keep
    // alive.
    unsafe {
        objects.vaults.drain(..).for_each(|vault| curve_tun_vault_free(vault));
        objects.servers.drain(..).for_each(|server| curve_tun_server_free(server));
        objects.registries.drain(..).for_each(|registry| curve_tun_registry_free(registry));
        objects.connections.drain(..).for_each(|connection| curve_tun_connection_free(connection));
        objects.behind.drain(..).for_each(|vault| curve_tun_vault_free(vault));
    }
});
