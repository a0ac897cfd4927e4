// curve_tun: message-oriented tunnels over TCP, secured by Curve25519 in the manner of CurveCP.
//
// This header is generated from the library's source; do not edit it.
//
// # Conventions
//
// Objects. Every object is an opaque pointer. A function whose name contains `_new`, `_create_`,
// `_open`, `_custom` or `_connect`, one of a listener that accepts, and
// `curve_tun_vault_from_secret`, makes an object and gives it through its last pointer; the
// `_free` of its type frees it, once. Freeing NULL does nothing. An object keeps alive what it was
// made from: a vault, a registry or a server may be freed as soon as nothing more will be made
// from it, and the socket or connection of a stream as soon as the program has no further use for
// it. Nothing has to be initialised, and nothing global has to be freed.
//
// Results. A function that can fail returns a `curve_tun_result`, 0 (`CURVE_TUN_OK`) for success,
// and gives its values through pointers to memory of the caller. On failure that memory is left as
// it was, except where a function says otherwise. Every function that returns a `curve_tun_result`
// may return `CURVE_TUN_ERR_NULL` for a NULL pointer and `CURVE_TUN_ERR_INTERNAL` for a defect of
// this library, which also closes the object that met it; the comments do not repeat these two.
//
// Pointers. Every pointer must be valid for what its function says, for the length of the call;
// none is kept after it, except where a function says otherwise. NULL is an error, never a crash;
// it is allowed for bytes whose length is 0, for `user_data`, and where a function says so. The
// buffers of one call must not overlap. Keys have `CURVE_TUN_KEY_BYTES` bytes. Host names and
// addresses are strings that end with a zero; addresses are `192.0.2.7` or `2001:db8::7`, networks
// `192.0.2.0/24` or `2001:db8::/32`.
//
// Integers. Sizes and lengths are in bytes and times in milliseconds. A timeout that is negative
// waits for ever, and 0 never waits. Flags are 0 or 1. Any integer may be passed for a constant:
// values out of range are refused with `CURVE_TUN_ERR_INVALID_ARGUMENT`.
//
// Structs that may grow begin with `size`. The caller sets it to the struct's `sizeof` before each
// call that takes the struct, also where the call fills it. The macro named after it, with
// `_INIT`, does so and sets everything else to 0:
// `curve_tun_options options = CURVE_TUN_OPTIONS_INIT;`. In options, 0 in a field means its
// default, and NULL for the struct means all defaults.
//
// So a program built with an older header works with a newer library: a smaller struct is read as
// if the fields that it lacks were 0, and is filled as far as it goes. A newer program works with
// an older library as long as it sets no field that the library does not know; if it does, it gets
// `CURVE_TUN_ERR_INVALID_ARGUMENT`. A wrong size gets the same: one that is too small for the
// fields without which the struct means nothing, above 4,096, or that cuts a field in two.
//
// Threads. "Threads: any" means that the call may be made from any thread at any time, also while
// other calls on the same object run. "Threads: one at a time" means that it may be made from any
// thread, but not while another call on the same object runs. Freeing an object is always the last
// call on it.
//
// Forks. A child of `fork()` can only free the objects of its parent, since the same counters must
// never seal twice, and another thread of the parent may have been in the middle of a call. Every
// other call on such an object does nothing and returns `CURVE_TUN_ERR_FORKED` at once; a function
// that does not return a `curve_tun_result` returns what it returns for NULL. The comments do not
// repeat this.
//
// Blocking. A function blocks only if its comment says so, and then no longer than its timeout, if
// it has one.
//
// Linking. `cc program.c -lcurve_tun` for the shared library, and for the static one
// `cc program.c libcurve_tun.a -lpthread -ldl -lm`. A program that also links another static
// library made with Rust links the object that `make object` makes instead.
//
// Secrets. This library wipes every secret that it held. Callers wipe their own copies with
// `curve_tun_wipe`.
//
// Memory. Shortages that a program can survive are errors: `CURVE_TUN_ERR_OUT_OF_MEMORY` for
// guarded memory for keys and the memory that a passphrase costs, `CURVE_TUN_ERR_TOO_MANY_THREADS`
// for threads, and `CURVE_TUN_ERR_NO_BUFFERS` for buffers of the system. Ordinary memory, for
// objects, messages and entries of registries, comes from `malloc`; when that fails, the process
// is aborted (SIGABRT), as it is when the system has no randomness.
//
// Signals. A signal that interrupts a call does not end it: the call goes on waiting. None of
// these functions raises SIGPIPE, and the library's own threads handle none of the program's
// signals.
//
// Unloading. `dlclose` may be called when every object has been freed and every call has returned.
// The library stays mapped until the threads that called it have ended.
//
// Limits. A message has 0 to `CURVE_TUN_MESSAGE_MAX` (65,503) bytes, a key 32 bytes, the text of a
// key 44 characters. Closing is not authenticated: a program that must tell a finished
// conversation from one that was cut off ends it with a message of its own, or uses streams, whose
// messages may be larger, too.

#ifndef CURVE_TUN_H
#define CURVE_TUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The version of this header; `curve_tun_version` tells that of the library in use.
#define CURVE_TUN_VERSION "0.1.0"
#define CURVE_TUN_VERSION_MAJOR 0
#define CURVE_TUN_VERSION_MINOR 1
#define CURVE_TUN_VERSION_PATCH 0

// The binary interface of this header: the major version in the high 16 bits, and until 1.0 the
// minor one in the low 16; `curve_tun_abi_version` tells that of the library in use.
#define CURVE_TUN_ABI_VERSION 1

// Warns of a result that is not looked at.
#if defined(__GNUC__) || defined(__clang__)
#define CURVE_TUN_MUST_USE __attribute__((warn_unused_result))
#else
#define CURVE_TUN_MUST_USE
#endif

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// # Results

// What a call returns. The numbers never change and are never reused.
enum curve_tun_result
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Success.
    CURVE_TUN_OK = 0,
    // A pointer that must not be NULL was NULL.
    CURVE_TUN_ERR_NULL = 1,
    // An argument is out of its documented range.
    CURVE_TUN_ERR_INVALID_ARGUMENT = 2,
    // The call does not fit the object's present state.
    CURVE_TUN_ERR_WRONG_STATE = 3,
    // A message is larger than 65503 bytes.
    CURVE_TUN_ERR_TOO_LARGE = 4,
    // The caller's buffer is too small; what it was for is still there.
    CURVE_TUN_ERR_TOO_SMALL = 5,
    // Nothing to do or to give just now.
    CURVE_TUN_ERR_WOULD_BLOCK = 6,
    // The deadline passed.
    CURVE_TUN_ERR_TIMEOUT = 7,
    // The connection, socket or listener is closed.
    CURVE_TUN_ERR_CLOSED = 8,
    // The text is not a public key: 44 characters of base64.
    CURVE_TUN_ERR_BAD_KEY_TEXT = 9,
    // The text is not an IP address or network.
    CURVE_TUN_ERR_BAD_ADDRESS = 10,
    // A public key of low order, with which no secret can be agreed.
    CURVE_TUN_ERR_WEAK_KEY = 11,
    // The peer sent something other than the one packet expected of it.
    CURVE_TUN_ERR_BAD_PACKET = 12,
    // The server could not open the hello, or its cookie does not open: it has another key,
    // or its vault fails. Transient, as an outage looks the same; a server with another key
    // learns nothing by another try.
    CURVE_TUN_ERR_WRONG_SERVER_KEY = 13,
    // The initiate came after its minute key was gone.
    CURVE_TUN_ERR_COOKIE_EXPIRED = 14,
    // The registry does not accept this key from this address.
    CURVE_TUN_ERR_UNKNOWN_PEER = 15,
    // A counter reached its end; a nonce would repeat.
    CURVE_TUN_ERR_COUNTER_EXHAUSTED = 16,
    // The server has as many handshakes in flight as it allows.
    CURVE_TUN_ERR_TOO_MANY_HANDSHAKES = 17,
    // The vault refused or failed.
    CURVE_TUN_ERR_VAULT_FAILED = 18,
    // The registry failed to decide.
    CURVE_TUN_ERR_REGISTRY_FAILED = 19,
    // There is no such entry.
    CURVE_TUN_ERR_NOT_FOUND = 20,
    // The object belongs to the parent of this forked process.
    CURVE_TUN_ERR_FORKED = 21,
    // Guarded memory could not be had.
    CURVE_TUN_ERR_OUT_OF_MEMORY = 22,
    // libsodium could not be initialised.
    CURVE_TUN_ERR_CRYPTO_UNAVAILABLE = 23,
    // The host name has no address.
    CURVE_TUN_ERR_NAME_NOT_FOUND = 24,
    // Nothing listens at the address.
    CURVE_TUN_ERR_CONNECTION_REFUSED = 25,
    // The network or host cannot be reached.
    CURVE_TUN_ERR_UNREACHABLE = 26,
    // The local address is in use.
    CURVE_TUN_ERR_ADDRESS_IN_USE = 27,
    // The local address is not one of this machine.
    CURVE_TUN_ERR_ADDRESS_NOT_AVAILABLE = 28,
    // The operating system denies permission.
    CURVE_TUN_ERR_PERMISSION_DENIED = 29,
    // The process or the system is out of file descriptors.
    CURVE_TUN_ERR_TOO_MANY_FILES = 30,
    // The operating system failed in another way.
    CURVE_TUN_ERR_IO = 31,
    // A defect in this library was caught; the object is closed.
    CURVE_TUN_ERR_INTERNAL = 32,
    // Another process, or another vault of this one, has the vault's file open.
    CURVE_TUN_ERR_VAULT_IN_USE = 33,
    // The vault's file is a link, is no regular file, belongs to another user, or is open to
    // group or others.
    CURVE_TUN_ERR_VAULT_PERMISSIONS = 34,
    // The vault's file is damaged, or is none.
    CURVE_TUN_ERR_VAULT_CORRUPT = 35,
    // The vault's file, or the agent, is of a later version than this library knows.
    CURVE_TUN_ERR_VAULT_VERSION = 36,
    // The passphrase or PIN is wrong, or missing, or was given for a vault without one.
    CURVE_TUN_ERR_WRONG_PASSPHRASE = 37,
    // Something is already there, and is not overwritten.
    CURVE_TUN_ERR_ALREADY_EXISTS = 38,
    // There is no such file.
    CURVE_TUN_ERR_FILE_NOT_FOUND = 39,
    // The disk, or the user's share of it, is full.
    CURVE_TUN_ERR_DISK_FULL = 40,
    // The file system is read-only.
    CURVE_TUN_ERR_READ_ONLY = 41,
    // This build of the library lacks the feature.
    CURVE_TUN_ERR_UNSUPPORTED = 42,
    // Others than its owner, its group and root could have written the registry's file.
    CURVE_TUN_ERR_REGISTRY_PERMISSIONS = 43,
    // A line of the registry's file is wrong.
    CURVE_TUN_ERR_BAD_REGISTRY_FILE = 44,
    // The server is known by another key.
    CURVE_TUN_ERR_KEY_CHANGED = 45,
    // The key is denied.
    CURVE_TUN_ERR_KEY_DENIED = 46,
    // DNS gave an answer without a valid proof by DNSSEC.
    CURVE_TUN_ERR_NOT_VALIDATED = 47,
    // The PIN of a token is locked, expired or not set.
    CURVE_TUN_ERR_PIN_LOCKED = 48,
    // The system gives no further thread: the limit of the user or of the system is reached.
    CURVE_TUN_ERR_TOO_MANY_THREADS = 49,
    // The system has no memory for buffers of sockets or for other objects of its own.
    CURVE_TUN_ERR_NO_BUFFERS = 50,
    // The peer does not speak the stream layer: its first message opens no stream.
    CURVE_TUN_ERR_NOT_A_STREAM = 51,
    // The transport ended before the end of the stream: it was cut, by whomever.
    CURVE_TUN_ERR_TRUNCATED = 52,
    // The peer has given the stream up.
    CURVE_TUN_ERR_ABORTED = 53,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum curve_tun_result curve_tun_result;
#else
typedef int32_t curve_tun_result;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Returns the name of a result, such as `"CURVE_TUN_ERR_TIMEOUT"`; `"CURVE_TUN_UNKNOWN"` for a
// number that is no result.
//
// A static string, never NULL. Threads: any.
const char *curve_tun_result_name(int32_t result);

// Returns an English sentence, without a final stop, that says what a result means.
//
// A static string, never NULL. Threads: any.
const char *curve_tun_result_message(int32_t result);

// Says whether the same call, made again after a while, may succeed although the program has
// changed nothing: a loop that accepts or connects then goes on ("Listeners" has a table). true
// for `CURVE_TUN_ERR_TIMEOUT` and `CURVE_TUN_ERR_TOO_MANY_FILES`, for example, and for
// `CURVE_TUN_ERR_WRONG_SERVER_KEY`, as a server whose vault is out looks the same; false for
// `CURVE_TUN_ERR_CLOSED`, which means that the object has ended.
//
// false for `CURVE_TUN_OK`, and for a number that is no result. Threads: any.
bool curve_tun_result_is_transient(int32_t result);

// # Version, memory and keys
//
// The text of a key, public or secret, is 44 characters of base64 (RFC 4648, section 4).

// Bytes in a key.
#define CURVE_TUN_KEY_BYTES 32

// Characters in the text of a key, and the zero after them.
#define CURVE_TUN_KEY_TEXT_SIZE 45

// The largest message, in bytes.
#define CURVE_TUN_MESSAGE_MAX 65503

// Returns the version of the library in use, such as `"1.2.3"`; `CURVE_TUN_VERSION` is that of
// this header.
//
// A static string. Threads: any.
const char *curve_tun_version(void);

// Returns the version of the binary interface of the library in use. A program or a binding built
// with a header of another `CURVE_TUN_ABI_VERSION` does not work with this library; one that loads
// the library itself checks once.
//
// Until 1.0 each minor version has a different interface; from then on the major version alone
// counts. Threads: any.
uint32_t curve_tun_abi_version(void);

// Says whether all long-term and minute keys of this process so far are in memory that the system
// has locked, so that none reaches swap.
//
// False once the system has refused to lock memory (`RLIMIT_MEMLOCK`, a filter of system calls);
// everything works all the same. True before the first key. Threads: any.
bool curve_tun_memory_locked(void);

// Makes a new key pair. The caller keeps the secret key secret, and wipes it.
//
// May return `CURVE_TUN_ERR_OUT_OF_MEMORY`, `CURVE_TUN_ERR_CRYPTO_UNAVAILABLE`. Threads: any.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_keypair_generate(uint8_t public_key[CURVE_TUN_KEY_BYTES],
                                            uint8_t secret_key[CURVE_TUN_KEY_BYTES]);

// Writes the text of a public key, with a zero after it.
//
// Threads: any.
curve_tun_result curve_tun_public_key_to_text(const uint8_t public_key[CURVE_TUN_KEY_BYTES],
                                              char text[CURVE_TUN_KEY_TEXT_SIZE]);

// Reads a public key from its text, which has `len` characters and needs no zero after them.
//
// May return `CURVE_TUN_ERR_BAD_KEY_TEXT` unless the text is that of exactly one key: 44
// characters of base64 in its one valid form. Any 32 bytes are a key here; one of low order is
// refused where it would be used. Threads: any.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_public_key_from_text(const char *text,
                                                size_t len,
                                                uint8_t public_key[CURVE_TUN_KEY_BYTES]);

// Writes the text of a secret key, with a zero after it. The caller keeps the text secret, and
// wipes it.
//
// Takes the same time for every key. Threads: any.
curve_tun_result curve_tun_secret_key_to_text(const uint8_t secret_key[CURVE_TUN_KEY_BYTES],
                                              char text[CURVE_TUN_KEY_TEXT_SIZE]);

// Reads a secret key from its text, which has `len` characters and needs no zero after them. The
// caller keeps text and key secret, and wipes them.
//
// Takes the same time for every valid text. May return `CURVE_TUN_ERR_BAD_KEY_TEXT`, as
// `curve_tun_public_key_from_text` does. Threads: any.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_secret_key_from_text(const char *text,
                                                size_t len,
                                                uint8_t secret_key[CURVE_TUN_KEY_BYTES]);

// Overwrites `len` bytes with zeros in a way that no compiler removes. Does nothing for NULL.
//
// Threads: any.
void curve_tun_wipe(void *bytes, size_t len);

// # Options

// Limits and settings of connections, sockets and servers. 0 in a field means its default, which
// `CURVE_TUN_OPTIONS_INIT` sets; a function that takes options takes NULL for the defaults.
typedef struct {
    // `sizeof(curve_tun_options)`.
    size_t size;
    // Milliseconds from accept (or connect) to connected. 0 for 10,000.
    int64_t handshake_timeout_ms;
    // The bytes of received messages waiting for the receiver at which no more are taken from the
    // transport. One further packet may come on top. At most 1 GiB. 0 for 262,144.
    size_t receive_high_water;
    // The bytes sealed and not yet taken by the transport at which `curve_tun_connection_send`
    // returns `CURVE_TUN_ERR_WOULD_BLOCK`. At most 4 GiB - 1. 0 for 67,108,864. Blocking sockets
    // never reach it.
    size_t send_high_water;
    // How many handshakes a server may have in flight. 0 for 1,024.
    uint32_t handshakes_max;
    // How many of these one source may have: an IPv4 address, or the /64 of an IPv6 address. 0
    // sets no limit other than `handshakes_max`. At either limit, a new handshake evicts the
    // oldest one of the source that has the most (`curve_tun_connection_on_evict`).
    uint32_t handshakes_per_source;
    // Flag: 1 for Nagle's algorithm, by which small messages wait for one another; 0 sends them at
    // once (TCP_NODELAY). Sockets only.
    uint32_t nagle;
    // Flag: 1 for no TCP keep-alive; 0 for one with the first probe after 60 idle seconds. Sockets
    // only.
    uint32_t no_keep_alive;
    // The server's name, which its registry gets with each client, so that one registry can decide
    // differently for several listeners: a string of at most 255 bytes without control characters,
    // copied. NULL for none.
    const char *listener;
} curve_tun_options;

// A `curve_tun_options` with `size` set, and all else 0.
#define CURVE_TUN_OPTIONS_INIT \
    {sizeof(curve_tun_options), 0, 0, 0, 0, 0, 0, 0, NULL}

// # Vaults
//
// A vault is the only holder of a long-term secret key. It seals and opens boxes with that key,
// and makes the long-term nonce itself, which it gives with the box. No call reveals the secret
// key.

// Bytes of a long-term nonce, which a vault makes; in the nonce of a box it follows the purpose's
// prefix.
#define CURVE_TUN_NONCE_BYTES 16

// Bytes by which a box is longer than its message.
#define CURVE_TUN_BOX_OVERHEAD 16

// Purpose: the box in a hello. A vault only opens it. Nonce: the 8 bytes of the packet's counter.
#define CURVE_TUN_PURPOSE_HELLO 1

// Purpose: the box in a cookie packet. Nonce: `CURVE_TUN_NONCE_BYTES`.
#define CURVE_TUN_PURPOSE_COOKIE 2

// Purpose: the vouch in an initiate. Nonce: `CURVE_TUN_NONCE_BYTES`.
#define CURVE_TUN_PURPOSE_VOUCH 3

// The holder of a long-term secret key.
typedef struct curve_tun_vault curve_tun_vault;

// A vault implemented by the program, for `curve_tun_vault_custom`.
//
// The functions may be called from any thread, and from several at once. Without `deferred` it is
// the thread whose call needs the vault: a call on a connection or a socket in its handshake, or
// `curve_tun_vault_box`, `_box_open` or `_answer`. With `deferred`, calls on connections do not
// call them; for blocking sockets, the library's own threads do, 256 at most: further requests
// wait for one, until the deadline of their handshake. The functions must not use the connection
// or socket that is being served, nor let a C++ exception or a `longjmp` out. They return
// `CURVE_TUN_OK` or an error: `CURVE_TUN_ERR_BAD_PACKET` for a box that does not open,
// `CURVE_TUN_ERR_WEAK_KEY` for a peer's key of low order, `CURVE_TUN_ERR_TIMEOUT`, or
// `CURVE_TUN_ERR_VAULT_FAILED`, for which any other value is taken.
typedef struct {
    // `sizeof(curve_tun_vault_callbacks)`.
    size_t size;
    // The public key whose secret the vault holds.
    uint8_t public_key[CURVE_TUN_KEY_BYTES];
    // Flag: 0 if the functions answer in microseconds, and connections may call them on the spot;
    // 1 if they take longer, and connections stop with a request instead
    // (`curve_tun_connection_request`). If the program answers the requests itself, `box_seal` and
    // `box_open` may be NULL; anything else that needs them then gets
    // `CURVE_TUN_ERR_VAULT_FAILED`.
    uint32_t deferred;
    // 0.
    uint32_t reserved;
    // Makes a nonce of `CURVE_TUN_NONCE_BYTES` that was never used with this secret key before,
    // and seals `len` bytes of `message` for the peer into `sealed`, which has
    // `len + CURVE_TUN_BOX_OVERHEAD` bytes: `crypto_box_easy` under the purpose's prefix
    // (`"CurveCPK"` for a cookie, `"CurveCPV"` for a vouch) and the nonce.
    int32_t (*box_seal)(void *user_data,
                        uint32_t purpose,
                        const uint8_t *peer_public_key,
                        const uint8_t *message,
                        size_t len,
                        uint8_t *nonce,
                        uint8_t *sealed);
    // Opens the `len` bytes of a box from the peer into `message`, which has
    // `len - CURVE_TUN_BOX_OVERHEAD` bytes: `crypto_box_open_easy` under the purpose's prefix
    // (`"CurveCP-client-H"` for a hello, otherwise as in `box_seal`) and the nonce, which has
    // `nonce_len` bytes.
    int32_t (*box_open)(void *user_data,
                        uint32_t purpose,
                        const uint8_t *peer_public_key,
                        const uint8_t *nonce,
                        size_t nonce_len,
                        const uint8_t *sealed,
                        size_t len,
                        uint8_t *message);
    // Called once, when nothing uses the vault any more, on the thread that freed its last user;
    // may be NULL.
    void (*free)(void *user_data);
} curve_tun_vault_callbacks;

// A `curve_tun_vault_callbacks` with `size` set, and all else 0.
#define CURVE_TUN_VAULT_CALLBACKS_INIT \
    {sizeof(curve_tun_vault_callbacks), {0}, 0, 0, NULL, NULL, NULL}

// Makes a vault in memory with a new key.
//
// May return `CURVE_TUN_ERR_OUT_OF_MEMORY`, `CURVE_TUN_ERR_CRYPTO_UNAVAILABLE`. Threads: any.
CURVE_TUN_MUST_USE curve_tun_result curve_tun_vault_generate(curve_tun_vault **vault);

// Makes a vault in memory from a secret key, which it copies. The caller wipes the original.
//
// May return `CURVE_TUN_ERR_OUT_OF_MEMORY`, `CURVE_TUN_ERR_CRYPTO_UNAVAILABLE`. Threads: any.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_vault_from_secret(const uint8_t secret_key[CURVE_TUN_KEY_BYTES],
                                             curve_tun_vault **vault);

// Makes a vault that the program implements. `callbacks` is copied; `user_data` is passed to each
// function as it is.
//
// On success the vault owns `user_data`, and `free` is called for it; on failure it is not. May
// return `CURVE_TUN_ERR_INVALID_ARGUMENT` for a wrong size or an invalid flag;
// `CURVE_TUN_ERR_NULL` also if `box_seal` or `box_open` is NULL without `deferred`. Threads: any.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_vault_custom(const curve_tun_vault_callbacks *callbacks,
                                        void *user_data,
                                        curve_tun_vault **vault);

// Gives the public key whose secret the vault holds.
//
// Threads: any.
curve_tun_result curve_tun_vault_public_key(const curve_tun_vault *vault,
                                            uint8_t public_key[CURVE_TUN_KEY_BYTES]);

// Seals `len` bytes for a peer under a new long-term nonce, and gives both. `sealed` gets
// `len + CURVE_TUN_BOX_OVERHEAD` bytes.
//
// May return `CURVE_TUN_ERR_INVALID_ARGUMENT` for an unknown purpose and for
// `CURVE_TUN_PURPOSE_HELLO`, `CURVE_TUN_ERR_WEAK_KEY` for a peer's key of low order,
// `CURVE_TUN_ERR_FORKED`, `CURVE_TUN_ERR_COUNTER_EXHAUSTED`, `CURVE_TUN_ERR_VAULT_FAILED`, and the
// errors of vaults that are kept (below). Threads: any. Blocks as long as a custom vault's
// function does, or the disk, the agent or the token.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_vault_box(const curve_tun_vault *vault,
                                     uint32_t purpose,
                                     const uint8_t peer_public_key[CURVE_TUN_KEY_BYTES],
                                     const uint8_t *message,
                                     size_t len,
                                     uint8_t nonce[CURVE_TUN_NONCE_BYTES],
                                     uint8_t *sealed);

// Opens a box of `len` bytes that a peer sealed. `nonce` has 8 bytes for
// `CURVE_TUN_PURPOSE_HELLO`, otherwise `CURVE_TUN_NONCE_BYTES`. `message` gets
// `len - CURVE_TUN_BOX_OVERHEAD` bytes.
//
// May return `CURVE_TUN_ERR_BAD_PACKET` if it does not open or is too short;
// `CURVE_TUN_ERR_INVALID_ARGUMENT` for an unknown purpose, `CURVE_TUN_ERR_WEAK_KEY` for a peer's
// key of low order, `CURVE_TUN_ERR_FORKED`, `CURVE_TUN_ERR_VAULT_FAILED`, and the errors of vaults
// that are kept (below). Threads: any. Blocks as long as a custom vault's function does, or the
// agent or the token.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_vault_box_open(const curve_tun_vault *vault,
                                          uint32_t purpose,
                                          const uint8_t peer_public_key[CURVE_TUN_KEY_BYTES],
                                          const uint8_t *nonce,
                                          const uint8_t *sealed,
                                          size_t len,
                                          uint8_t *message);

// Frees the caller's reference to a vault. Its key is wiped when the last server and connection
// that use it are gone.
//
// Threads: the last call on this pointer.
void curve_tun_vault_free(curve_tun_vault *vault);

// # Vaults that are kept
//
// A key that outlives its program is kept in a file, by an agent (a separate process,
// `curve-tun agent`), or in a PKCS#11 token. `docs/VAULTS.md` says which to choose. All of them
// are freed with `curve_tun_vault_free`.
//
// A vault on disk hands out a nonce only once the bound of its counter is on the disk. So the
// first box after opening, and one in 1,048,576 after that, takes as long as the disk takes, and
// may fail with `CURVE_TUN_ERR_DISK_FULL`, `CURVE_TUN_ERR_READ_ONLY` or `CURVE_TUN_ERR_IO`;
// nothing is lost then, and the next call tries again.

// Makes a vault with a new key in a new file of mode 0600. A file that is already at `path` is
// never overwritten.
//
// The file is sealed with the `len` bytes of `passphrase`, which the caller wipes; with 0 bytes
// its permissions alone protect it. Sealing takes about a second and 256 MiB: libsodium's
// "moderate" cost of Argon2id. File and folder are on the disk when this returns. May return
// `CURVE_TUN_ERR_ALREADY_EXISTS`; `CURVE_TUN_ERR_FILE_NOT_FOUND` if the folder does not exist;
// `CURVE_TUN_ERR_PERMISSION_DENIED`, `CURVE_TUN_ERR_READ_ONLY`, `CURVE_TUN_ERR_DISK_FULL`,
// `CURVE_TUN_ERR_TOO_MANY_FILES`, `CURVE_TUN_ERR_IO`, `CURVE_TUN_ERR_INVALID_ARGUMENT` for a path
// of over 4,095 bytes, `CURVE_TUN_ERR_OUT_OF_MEMORY`, `CURVE_TUN_ERR_CRYPTO_UNAVAILABLE`. Threads:
// any. Blocks on the disk, and as long as that cost takes.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_vault_create_file(const char *path,
                                             const uint8_t *passphrase,
                                             size_t len,
                                             curve_tun_vault **vault);

// As `curve_tun_vault_create_file`, with a cost of the caller's choice, which opening the vault
// then takes as well: `operations` passes (1 to 65,536) over `memory` bytes (8,192 to
// 4,294,967,296).
//
// May also return `CURVE_TUN_ERR_INVALID_ARGUMENT` for a cost out of that range, or without a
// passphrase. Threads: any. Blocks on the disk, and as long as that cost takes.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_vault_create_file_at_cost(const char *path,
                                                     const uint8_t *passphrase,
                                                     size_t len,
                                                     uint64_t operations,
                                                     uint64_t memory,
                                                     curve_tun_vault **vault);

// Opens the vault in a file, which is locked until the vault is gone. A sealed file is opened with
// the `len` bytes of `passphrase`, which the caller wipes.
//
// May return `CURVE_TUN_ERR_FILE_NOT_FOUND`; `CURVE_TUN_ERR_VAULT_PERMISSIONS` if the file is a
// symbolic link, no regular file, another user's, or open to group or others;
// `CURVE_TUN_ERR_VAULT_IN_USE`; `CURVE_TUN_ERR_VAULT_CORRUPT`, `CURVE_TUN_ERR_VAULT_VERSION`;
// `CURVE_TUN_ERR_WRONG_PASSPHRASE` if the passphrase does not open it, is missing, or is given for
// a vault without one; `CURVE_TUN_ERR_PERMISSION_DENIED`, `CURVE_TUN_ERR_READ_ONLY`,
// `CURVE_TUN_ERR_TOO_MANY_FILES`, `CURVE_TUN_ERR_IO`, `CURVE_TUN_ERR_INVALID_ARGUMENT` for a path
// of over 4,095 bytes, `CURVE_TUN_ERR_OUT_OF_MEMORY`, `CURVE_TUN_ERR_CRYPTO_UNAVAILABLE`. Threads:
// any. Blocks on the disk, and as long as the cost at which the file was sealed takes.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_vault_open_file(const char *path,
                                           const uint8_t *passphrase,
                                           size_t len,
                                           curve_tun_vault **vault);

// Opens the vault of the agent at a Unix socket (`curve-tun agent`), which alone knows the key.
// The agent must run as the same user or as root, and may be restarted.
//
// Connections do not call this vault on the spot: they stop with a request
// (`curve_tun_connection_request`). Each request, including this one, may take 5 seconds, within
// which the agent may start or restart; after that it fails with `CURVE_TUN_ERR_TIMEOUT`. If the
// agent restarts with another key, requests fail with `CURVE_TUN_ERR_VAULT_FAILED`. A box may have
// 65,503 bytes more than its overhead: `CURVE_TUN_ERR_TOO_LARGE`.
//
// May return, when its 5 seconds are over, `CURVE_TUN_ERR_FILE_NOT_FOUND` if there is no socket,
// `CURVE_TUN_ERR_CONNECTION_REFUSED` if no agent listens at it, `CURVE_TUN_ERR_CLOSED` if the
// agent does not serve this user, `CURVE_TUN_ERR_TIMEOUT`; at once, `CURVE_TUN_ERR_UNSUPPORTED` on
// systems other than Linux, `CURVE_TUN_ERR_PERMISSION_DENIED` if it is another user's,
// `CURVE_TUN_ERR_VAULT_VERSION` if it is of another version, `CURVE_TUN_ERR_VAULT_FAILED` for an
// invalid answer, `CURVE_TUN_ERR_INVALID_ARGUMENT` for a path of over 107 bytes,
// `CURVE_TUN_ERR_TOO_MANY_FILES`, `CURVE_TUN_ERR_CRYPTO_UNAVAILABLE`. Threads: any. Blocks for at
// most 5 seconds.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_vault_open_agent(const char *socket_path,
                                            curve_tun_vault **vault);

// Opens the key in the PKCS#11 token that a URI (RFC 7512) names, such as
// `pkcs11:token=office;object=myserver?module-path=/usr/lib/softhsm/libsofthsm2.so`, with the
// `len` bytes of `pin`, which the caller wipes; with 0 bytes the PIN is the URI's, if it has one.
// `docs/VAULTS.md` lists the attributes.
//
// Connections do not call this vault on the spot: they stop with a request
// (`curve_tun_connection_request`). While the token is away, calls fail with
// `CURVE_TUN_ERR_NOT_FOUND`; when it is back they work again, after one login. This vault does not
// try a refused PIN again; neither should the program, nor whatever restarts it: tokens lock.
//
// May return `CURVE_TUN_ERR_UNSUPPORTED` if this library was built without the feature `pkcs11`;
// `CURVE_TUN_ERR_INVALID_ARGUMENT` if the URI is malformed, has an unknown attribute, or fits
// several tokens or keys, or if the PIN has over 255 bytes; `CURVE_TUN_ERR_FILE_NOT_FOUND` if its
// module or PIN file does not exist; `CURVE_TUN_ERR_VAULT_PERMISSIONS` if others than its owner
// and group can read the PIN file, or others than its owner can write it;
// `CURVE_TUN_ERR_NOT_FOUND` if no token or X25519 key fits; `CURVE_TUN_ERR_WRONG_PASSPHRASE` for a
// wrong PIN or none; `CURVE_TUN_ERR_PIN_LOCKED` if the PIN is locked, expired or not set;
// `CURVE_TUN_ERR_VAULT_FAILED` if the module fails; for the file in which the bound of the counter
// is kept, the errors of `curve_tun_vault_open_file` and `curve_tun_vault_create_file`. Threads:
// any. Blocks as long as the token does.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_vault_open_pkcs11(const char *uri,
                                             const uint8_t *pin,
                                             size_t len,
                                             curve_tun_vault **vault);

// # Registries
//
// A registry says which public keys may come in from where. A place is a string: an address; a
// network; `*`, anywhere; or `!`, nowhere. A key with an entry `!` is denied, whatever other
// entries it has. A key that may come in from anywhere may do so also where a network has entries.
// Of the networks that contain an address, the most specific one that has entries decides alone.
// An empty registry lets nobody in.

// Decides which clients may come in.
typedef struct curve_tun_registry curve_tun_registry;

// A registry implemented by the program, for `curve_tun_registry_custom`.
//
// `verify` may be called from any thread, and from several at once: from the threads that call a
// custom vault's functions, with `curve_tun_registry_verify` and `_answer` in place of the calls
// on a vault. It must not use the connection or socket that is being served, nor let a C++
// exception or a `longjmp` out.
typedef struct {
    // `sizeof(curve_tun_registry_callbacks)`.
    size_t size;
    // Flag: 0 if `verify` answers in microseconds, and connections may call it on the spot; 1 if
    // it takes longer, and connections stop with a request instead
    // (`curve_tun_connection_request`). If the program answers the requests itself, `verify` may
    // be NULL; anything else that needs it then gets `CURVE_TUN_ERR_REGISTRY_FAILED`.
    uint32_t deferred;
    // 0.
    uint32_t reserved;
    // Says whether the client that has proven to hold this public key's secret may come in from
    // this address to the server of this name (`listener` of `curve_tun_options`; an empty string
    // if it has none). `*accepted` is 0; set it to 1 to let the client in. Any other value, and
    // any return value but `CURVE_TUN_OK`, means that the registry failed, and the client is
    // refused with `CURVE_TUN_ERR_REGISTRY_FAILED`.
    int32_t (*verify)(void *user_data,
                      const char *address,
                      const uint8_t *public_key,
                      const char *listener,
                      uint32_t *accepted);
    // Called once, when nothing uses the registry any more, on the thread that freed its last
    // user; may be NULL.
    void (*free)(void *user_data);
} curve_tun_registry_callbacks;

// A `curve_tun_registry_callbacks` with `size` set, and all else 0.
#define CURVE_TUN_REGISTRY_CALLBACKS_INIT \
    {sizeof(curve_tun_registry_callbacks), 0, 0, NULL, NULL}

// Makes an empty registry in memory.
//
// Threads: any.
CURVE_TUN_MUST_USE curve_tun_result curve_tun_registry_new(curve_tun_registry **registry);

// Makes a registry that the program implements. `callbacks` is copied; `user_data` is passed to
// each function as it is.
//
// On success the registry owns `user_data`, and `free` is called for it; on failure it is not. May
// return `CURVE_TUN_ERR_INVALID_ARGUMENT` for a wrong size or an invalid flag;
// `CURVE_TUN_ERR_NULL` also if `verify` is NULL without `deferred`. Threads: any.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_registry_custom(const curve_tun_registry_callbacks *callbacks,
                                           void *user_data,
                                           curve_tun_registry **registry);

// Adds an entry, which says where the holder of a public key may come in from. Adding it again
// changes nothing. It applies from the next handshake on.
//
// `place` is as described above: `192.0.2.7`, `192.0.2.0/24`, `*` or `!`; `0.0.0.0/0` is all of
// IPv4, `::/0` all of IPv6. For a registry in a file, the entry is written to the file. An entry
// `!` is written even to a file with a wrong line, of which nothing else comes into force
// (`curve_tun_registry_file_problem`). May return `CURVE_TUN_ERR_BAD_ADDRESS`;
// `CURVE_TUN_ERR_WRONG_STATE` for a registry that is neither in memory nor in a file; and the
// errors of `curve_tun_registry_open_file`, `CURVE_TUN_ERR_DISK_FULL`, `CURVE_TUN_ERR_READ_ONLY`;
// `CURVE_TUN_ERR_PERMISSION_DENIED` also if this user may neither write the file nor replace it by
// one that is the same in everything else, including its access control list; and
// `CURVE_TUN_ERR_TIMEOUT` if another writer does not finish. Threads: any. Blocks only for a file:
// as long as it takes to read and write it, and at most ten seconds for other writers.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_registry_add(const curve_tun_registry *registry,
                                        const char *place,
                                        const uint8_t public_key[CURVE_TUN_KEY_BYTES]);

// Removes exactly the entry that `curve_tun_registry_add` added. It no longer applies from the
// next handshake on; established connections stay.
//
// May return `CURVE_TUN_ERR_NOT_FOUND` if there is no entry with this place and key, and the
// errors of `curve_tun_registry_add`. Threads: any. Blocks as `curve_tun_registry_add` does.
curve_tun_result curve_tun_registry_remove(const curve_tun_registry *registry,
                                           const char *place,
                                           const uint8_t public_key[CURVE_TUN_KEY_BYTES]);

// Gives a public key that may come in from an address: of several, the least when compared as
// numbers.
//
// May return `CURVE_TUN_ERR_NOT_FOUND` if no key may come in from there;
// `CURVE_TUN_ERR_BAD_ADDRESS`, also for a network; `CURVE_TUN_ERR_WRONG_STATE` for a custom
// registry; and for one in DNS `CURVE_TUN_ERR_NOT_VALIDATED`, `CURVE_TUN_ERR_TIMEOUT`,
// `CURVE_TUN_ERR_REGISTRY_FAILED` and `CURVE_TUN_ERR_FORKED`. Threads: any. Blocks only for a file
// that has changed, as long as it takes to read it, and for DNS, at most for its timeout.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_registry_lookup(const curve_tun_registry *registry,
                                           const char *address,
                                           uint8_t public_key[CURVE_TUN_KEY_BYTES]);

// Says whether the holder of a public key may come in from an address.
//
// The listener's name is empty. A link-local address may have its scope after it (`fe80::1%eth0`),
// which is ignored. May return `CURVE_TUN_ERR_BAD_ADDRESS`, and `CURVE_TUN_ERR_REGISTRY_FAILED` or
// `CURVE_TUN_ERR_NOT_VALIDATED` if the registry cannot tell. Threads: any. Blocks as long as a
// custom registry's function does, for a file that has changed, and for DNS, at most for its
// timeout.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_registry_verify(const curve_tun_registry *registry,
                                           const char *address,
                                           const uint8_t public_key[CURVE_TUN_KEY_BYTES],
                                           bool *accepted);

// Frees the caller's reference to a registry; servers that were made with it keep it.
//
// Threads: the last call on this pointer.
void curve_tun_registry_free(curve_tun_registry *registry);

// # Registries in a file and in DNS
//
// `docs/REGISTRIES.md` has the grammar of the file and the records in DNS, and says which registry
// to choose.

// Enough for the text of any problem with the zero after it.
#define CURVE_TUN_PROBLEM_TEXT_SIZE 128

// The place in a registry file that is wrong.
typedef struct {
    // `sizeof(curve_tun_registry_problem)`.
    size_t size;
    // The line, counted from 1.
    uint64_t line;
    // The byte in the line, counted from 1, at which the problem begins.
    uint64_t column;
    // What is wrong there: a string, in English, without a final stop.
    char text[CURVE_TUN_PROBLEM_TEXT_SIZE];
} curve_tun_registry_problem;

// A `curve_tun_registry_problem` with `size` set, and all else 0.
#define CURVE_TUN_REGISTRY_PROBLEM_INIT \
    {sizeof(curve_tun_registry_problem), 0, 0, {0}}

// Where and how a registry in DNS sends its queries. 0 or NULL in a field means its default, which
// `CURVE_TUN_DNS_OPTIONS_INIT` sets.
typedef struct {
    // `sizeof(curve_tun_dns_options)`.
    size_t size;
    // Name servers, separated by blanks, each `192.0.2.1:53` or `[2001:db8::1]:53`; NULL for those
    // that `/etc/resolv.conf` names at the time. They must pass DNSSEC's records on.
    const char *servers;
    // DNSKEY and DS records that are trusted, as `keymgr` and `dig` print them, at least one; NULL
    // for the keys of the root zone. One key of a zone, the one that signs its keys, is enough.
    const char *trust_anchors;
    // Flag: 1 takes answers without a proof by DNSSEC. Then anybody on the path to the name server
    // can decide who may come in.
    uint32_t allow_unvalidated;
    // The most names whose answers are cached. 0 for 65,536.
    uint32_t cache_max;
    // Milliseconds for an answer, including its validation: at most 3,600,000. 0 for 5,000.
    int64_t timeout_ms;
    // The most milliseconds for which an answer is cached, however long its TTL: for that long, a
    // key that was taken out of DNS may still come in. 0 for 300,000.
    int64_t ttl_max_ms;
} curve_tun_dns_options;

// A `curve_tun_dns_options` with `size` set, and all else 0.
#define CURVE_TUN_DNS_OPTIONS_INIT \
    {sizeof(curve_tun_dns_options), NULL, NULL, 0, 0, 0, 0}

// Opens the registry in a file. Each decision checks whether the file has changed, and reads it
// again if so; a large file that has changed is read by a request that is answered later. If the
// file becomes unusable, the entries in force stay: `curve_tun_registry_file_problem` says why.
//
// May return `CURVE_TUN_ERR_BAD_REGISTRY_FILE` (`curve_tun_registry_file_check` says where),
// `CURVE_TUN_ERR_FILE_NOT_FOUND`, `CURVE_TUN_ERR_REGISTRY_PERMISSIONS`, `CURVE_TUN_ERR_TOO_LARGE`
// for more than 1 GiB, `CURVE_TUN_ERR_PERMISSION_DENIED`, `CURVE_TUN_ERR_TOO_MANY_FILES`,
// `CURVE_TUN_ERR_IO`, and `CURVE_TUN_ERR_INVALID_ARGUMENT` for a path that is too long or leads to
// something that is not a file. Threads: any. Blocks as long as it takes to read the file.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_registry_open_file(const char *file,
                                              curve_tun_registry **registry);

// Reads a registry file and reports the first problem in it, which is filled in for
// `CURVE_TUN_ERR_BAD_REGISTRY_FILE`.
//
// May return the errors of `curve_tun_registry_open_file`, and `CURVE_TUN_ERR_INVALID_ARGUMENT`
// for a wrong size. Threads: any. Blocks as long as it takes to read the
// file.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_registry_file_check(const char *file,
                                               curve_tun_registry_problem *problem);

// Says why the entries in force are not those of the file; `CURVE_TUN_OK` if they are. For
// `CURVE_TUN_ERR_BAD_REGISTRY_FILE` the problem is filled in.
//
// May return the errors of `curve_tun_registry_file_check`, and `CURVE_TUN_ERR_WRONG_STATE` for a
// registry that is not in a file. Threads: any. Blocks if the file has changed, as long as it
// takes to read it.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_registry_file_problem(const curve_tun_registry *registry,
                                                 curve_tun_registry_problem *problem);

// Opens the registry in DNS of the keys under a zone. It answers later, from its own thread:
// connections without I/O stop with a request, and `curve_tun_registry_answer` answers it.
// `options` may be NULL for the defaults.
//
// May return `CURVE_TUN_ERR_UNSUPPORTED` if this library was built without the feature `dns`;
// `CURVE_TUN_ERR_INVALID_ARGUMENT` for an invalid zone, name server, or DNSKEY or DS record, or
// for a wrong size; `CURVE_TUN_ERR_REGISTRY_FAILED` if `/etc/resolv.conf` names no server;
// `CURVE_TUN_ERR_TOO_MANY_THREADS`, `CURVE_TUN_ERR_TOO_MANY_FILES`. Threads: any.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_registry_open_dns(const char *zone,
                                             const curve_tun_dns_options *options,
                                             curve_tun_registry **registry);

// # Servers
//
// A server is a vault, minute keys, a registry and limits, shared by all connections that it
// accepts.

// The outcome of a client's handshake.
enum curve_tun_handshake_outcome
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // The client is connected.
    CURVE_TUN_HANDSHAKE_ACCEPTED = 0,
    // The handshake failed.
    CURVE_TUN_HANDSHAKE_REFUSED = 1,
    // It was evicted for another handshake at the limits of the options.
    CURVE_TUN_HANDSHAKE_EVICTED = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum curve_tun_handshake_outcome curve_tun_handshake_outcome;
#else
typedef int32_t curve_tun_handshake_outcome;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What all connections of a server share. Each server has a thread that rotates its minute keys.
typedef struct curve_tun_server curve_tun_server;

// How the handshake of one client with a server ended, as `curve_tun_server_observe` reports it.
// The library fills it in; what its pointers point to is valid until the call returns.
typedef struct {
    // The size of the struct as this library has it, which may be larger than the program's.
    size_t size;
    // The outcome. A later library may have more values.
    curve_tun_handshake_outcome outcome;
    // `CURVE_TUN_OK` if the client was accepted; the error that ended the handshake if it was
    // refused: that of the vault or the registry if one of them failed, and `CURVE_TUN_ERR_CLOSED`
    // if the client left or the program closed or freed the server's end;
    // `CURVE_TUN_ERR_TOO_MANY_HANDSHAKES` if it was evicted.
    curve_tun_result result;
    // The address that the client came from.
    const char *address;
    // The client's long-term public key, of `CURVE_TUN_KEY_BYTES`, if it got so far as to prove
    // it; otherwise NULL.
    const uint8_t *public_key;
} curve_tun_handshake_event;

// Makes a server. It keeps the vault and the registry alive.
//
// May return `CURVE_TUN_ERR_INVALID_ARGUMENT` for options out of range,
// `CURVE_TUN_ERR_OUT_OF_MEMORY`, `CURVE_TUN_ERR_TOO_MANY_THREADS`,
// `CURVE_TUN_ERR_CRYPTO_UNAVAILABLE`. Threads: any.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_server_new(const curve_tun_vault *vault,
                                      const curve_tun_registry *registry,
                                      const curve_tun_options *options,
                                      curve_tun_server **server);

// Sets `observe` to be called once for each client's handshake with this server, when it ends:
// with the client connected, refused or evicted. Set it before the first client comes: handshakes
// that have ended by then are not reported.
//
// Nothing on the wire tells of a failure, so to a client, a server whose vault fails looks like
// one with another key (`CURVE_TUN_ERR_WRONG_SERVER_KEY`); the observer tells the server's own
// program that it was `CURVE_TUN_ERR_VAULT_FAILED`, for example. A client that left before it was
// taken from the system's queue had no handshake.
//
// `observe` runs on the thread whose call drives the handshake: one that accepts, runs the
// handshake or shuts down, or one on the connection, its free included. Several threads may call
// it at once, and no lock of the library is held. It must not use the connection that is being
// served, nor accept or run a handshake, nor let a C++ exception or a `longjmp` out; it may make
// any other call. While it runs, that thread serves nobody, so it should not wait. It costs a
// handshake one call and no more: nothing is kept of a handshake once it is reported, and a flood
// is reported as it is turned away. `free` is called once, when nothing uses the server any more,
// on the thread that freed its last user; it may be NULL.
//
// `observe` may be NULL for an observer that does nothing. On success the server owns `user_data`,
// and `free` is called for it; on failure it is not. May return `CURVE_TUN_ERR_WRONG_STATE` if the
// server has an observer already, which stays. Threads: any.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_server_observe(const curve_tun_server *server,
                                          void (*observe)(void *user_data,
                                                          const curve_tun_handshake_event *event),
                                          void *user_data,
                                          void (*free)(void *user_data));

// Frees the caller's reference to a server; listeners and connections that were made with it keep
// it. Its thread ends with the last of them.
//
// Threads: the last call on this pointer.
void curve_tun_server_free(curve_tun_server *server);

// # Requests
//
// A connection without I/O whose vault or registry answers later stops in its handshake with a
// request, and goes on with the answer. Requests and answers are plain values: they may be copied,
// and passed to another thread or process. Nothing in a request is secret.

// Request to a server's vault: open `sealed` with `CURVE_TUN_PURPOSE_HELLO`; it must hold 64
// zeros; then seal `message` with `CURVE_TUN_PURPOSE_COOKIE`. Both boxes have the same peer, and
// so the same shared key. Answer: `nonce`, and the 144 bytes of the new box in `bytes`.
#define CURVE_TUN_REQUEST_ANSWER_HELLO 1

// Request to a client's vault: seal `message` with `CURVE_TUN_PURPOSE_VOUCH`. Answer: `nonce`, and
// the 48 bytes of the new box in `bytes`.
#define CURVE_TUN_REQUEST_SEAL_VOUCH 2

// Request to a server's vault: open `sealed` with `CURVE_TUN_PURPOSE_VOUCH`. Answer: the 32 bytes
// that it holds in `bytes`.
#define CURVE_TUN_REQUEST_OPEN_VOUCH 3

// Request to a server's registry: may the client, which has proven to hold the secret of
// `peer_public_key`, come in from `address` to the server named `listener`? Answer: `accepted`.
#define CURVE_TUN_REQUEST_VERIFY 4

// The largest `sealed` of a request.
#define CURVE_TUN_REQUEST_SEALED_MAX 80

// The largest `message` of a request.
#define CURVE_TUN_REQUEST_MESSAGE_MAX 128

// The largest `bytes` of an answer.
#define CURVE_TUN_ANSWER_BYTES_MAX 144

// Enough for the text of any address, with a port and with the zero after it.
#define CURVE_TUN_ADDRESS_TEXT_SIZE 64

// Enough for the name of any listener with the zero after it.
#define CURVE_TUN_LISTENER_SIZE 256

// A connection's request to a vault or a registry that answers later.
typedef struct {
    // `sizeof(curve_tun_request)`.
    size_t size;
    // One of the kinds of request above, which says who is asked, and for what.
    uint32_t kind;
    // Bytes in `nonce`: 8, 16 or 0.
    uint32_t nonce_len;
    // Bytes in `sealed`.
    uint32_t sealed_len;
    // Bytes in `message`.
    uint32_t message_len;
    // The peer of the boxes, or the client to be verified.
    uint8_t peer_public_key[CURVE_TUN_KEY_BYTES];
    // What follows the purpose's prefix in the nonce of `sealed`.
    uint8_t nonce[CURVE_TUN_NONCE_BYTES];
    // A box to be opened.
    uint8_t sealed[CURVE_TUN_REQUEST_SEALED_MAX];
    // The message to be sealed.
    uint8_t message[CURVE_TUN_REQUEST_MESSAGE_MAX];
    // Where the client comes from, a string.
    char address[CURVE_TUN_ADDRESS_TEXT_SIZE];
    // The server's name (`listener` of `curve_tun_options`), a string; empty if it has none.
    char listener[CURVE_TUN_LISTENER_SIZE];
} curve_tun_request;

// A `curve_tun_request` with `size` set, and all else 0.
#define CURVE_TUN_REQUEST_INIT \
    {sizeof(curve_tun_request), 0, 0, 0, 0, {0}, {0}, {0}, {0}, {0}, {0}}

// The answer of a vault or a registry to a request.
typedef struct {
    // `sizeof(curve_tun_answer)`.
    size_t size;
    // The request's kind, so that a late answer is not taken for the answer to a later request.
    uint32_t kind;
    // `CURVE_TUN_OK`, or why there is no answer. The connection then closes with
    // `CURVE_TUN_ERR_BAD_PACKET` (a box did not open), `CURVE_TUN_ERR_WEAK_KEY`,
    // `CURVE_TUN_ERR_TIMEOUT`, or, for any other value, with `CURVE_TUN_ERR_VAULT_FAILED` or
    // `CURVE_TUN_ERR_REGISTRY_FAILED`.
    int32_t result;
    // Flag: whether the client may come in.
    uint32_t accepted;
    // 0.
    uint32_t reserved;
    // The long-term nonce of the box that was sealed.
    uint8_t nonce[CURVE_TUN_NONCE_BYTES];
    // The box that was sealed, or what the box that was opened holds.
    uint8_t bytes[CURVE_TUN_ANSWER_BYTES_MAX];
} curve_tun_answer;

// A `curve_tun_answer` with `size` set, and all else 0.
#define CURVE_TUN_ANSWER_INIT \
    {sizeof(curve_tun_answer), 0, 0, 0, 0, {0}, {0}}

// Lets a vault answer a request to a vault, on a thread that may block.
//
// Returns `CURVE_TUN_OK` also if the vault fails: the answer says so. May return
// `CURVE_TUN_ERR_INVALID_ARGUMENT` for a wrong size, an invalid request, or one to a registry.
// Threads: any. Blocks as long as a custom vault's functions do.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_vault_answer(const curve_tun_vault *vault,
                                        const curve_tun_request *request,
                                        curve_tun_answer *answer);

// Lets a registry answer a request to a registry, on a thread that may block.
//
// Returns `CURVE_TUN_OK` also if the registry fails: the answer says so. May return
// `CURVE_TUN_ERR_INVALID_ARGUMENT` for a wrong size, an invalid request, or one to a vault.
// Threads: any. Blocks as long as a custom registry's function does.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_registry_answer(const curve_tun_registry *registry,
                                           const curve_tun_request *request,
                                           curve_tun_answer *answer);

// # Connections without I/O
//
// For event loops and bindings: bytes in, bytes out, messages in, messages out. The program moves
// the bytes: it passes what it reads from the transport to `curve_tun_connection_read`, and writes
// what `curve_tun_connection_write` gives to the transport, both in order. It calls
// `curve_tun_connection_tick` when that is due, answers requests if a vault or a registry answers
// later, and reports the end of the transport.
//
// An error that ends the connection is returned once, by the call that met it; from then on calls
// return `CURVE_TUN_ERR_CLOSED`, except that messages which arrived before can still be received.
// A function of a custom vault or registry that uses the connection that is calling it gets
// `CURVE_TUN_ERR_WRONG_STATE`, and so do the functions that send and receive messages once a
// stream was made of the connection (`curve_tun_stream_machine_new`).

// The most bytes in an IP address.
#define CURVE_TUN_IP_BYTES_MAX 16

// The state of a connection.
enum curve_tun_state
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // A client that has not sent its hello, or a server that has not answered one.
    CURVE_TUN_STATE_READY = 0,
    // A client that waits for the cookie, or for the vouch from its vault.
    CURVE_TUN_STATE_INITIATING = 1,
    // A server that waits for the initiate, or for its vault or registry.
    CURVE_TUN_STATE_ACCEPTING = 2,
    // Messages go both ways.
    CURVE_TUN_STATE_CONNECTED = 3,
    // Over, for whatever reason.
    CURVE_TUN_STATE_CLOSED = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum curve_tun_state curve_tun_state;
#else
typedef int32_t curve_tun_state;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// One end of a tunnel, whose bytes the program moves.
typedef struct curve_tun_connection curve_tun_connection;

// Makes a client's end of a connection to the holder of the server's secret key. The client's own
// key is the one in the vault. Its hello waits to be written.
//
// May return `CURVE_TUN_ERR_WEAK_KEY` for a server's key of low order,
// `CURVE_TUN_ERR_INVALID_ARGUMENT` for options out of range, `CURVE_TUN_ERR_OUT_OF_MEMORY`,
// `CURVE_TUN_ERR_CRYPTO_UNAVAILABLE`. Threads: any.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_connection_new_client(const curve_tun_vault *vault,
                                                 const uint8_t server_public_key[CURVE_TUN_KEY_BYTES],
                                                 const curve_tun_options *options,
                                                 curve_tun_connection **connection);

// Makes a server's end of a connection to a client that came from an address, which the registry
// will get. A link-local address may have its scope after it, as `getnameinfo` writes it
// (`fe80::1%eth0`); the scope is ignored.
//
// When as many handshakes are in flight as the server's options allow, the oldest of the source
// that has the most is evicted, if it allows that (`curve_tun_connection_on_evict`). May return
// `CURVE_TUN_ERR_TOO_MANY_HANDSHAKES` if no handshake can be evicted, `CURVE_TUN_ERR_BAD_ADDRESS`,
// `CURVE_TUN_ERR_CRYPTO_UNAVAILABLE`, `CURVE_TUN_ERR_FORKED`. Threads: any, but not from an
// `evict`.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_connection_new_server(const curve_tun_server *server,
                                                 const char *peer_address,
                                                 curve_tun_connection **connection);

// As `curve_tun_connection_new_server`, for an address of 4 bytes (IPv4) or 16 (IPv6; an
// IPv4-mapped one is taken as IPv4), in network byte order, as in `sin_addr` or `sin6_addr`.
//
// May return `CURVE_TUN_ERR_BAD_ADDRESS` for another length, and otherwise what that function may.
// Threads: any, but not from an `evict`.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_connection_new_server_ip(const curve_tun_server *server,
                                                    const uint8_t *peer_ip,
                                                    size_t peer_ip_len,
                                                    curve_tun_connection **connection);

// Lets a server's handshake be evicted for another when as many are in flight as the server's
// options allow. The handshake is then over: the next call returns
// `CURVE_TUN_ERR_TOO_MANY_HANDSHAKES`, once, and `evict` is called, once, with `user_data`, on the
// thread of the call that makes the other connection. It makes the driver of this connection end
// it, for instance with `shutdown(fd, SHUT_RDWR)`; it must not block, nor call this library. It is
// not called once the handshake is over, nor after `curve_tun_connection_close` or `_free` has
// returned; `user_data` must last until then. `evict` may be NULL: then the driver learns of it
// from its next call on this connection, at the latest from the `curve_tun_connection_tick` at the
// deadline.
//
// May return `CURVE_TUN_ERR_WRONG_STATE` for a client's end, and after the handshake;
// `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_connection_on_evict(curve_tun_connection *connection,
                                               void (*evict)(void *user_data),
                                               void *user_data);

// Returns the state of the connection.
//
// `CURVE_TUN_STATE_CLOSED` for NULL. Threads: one at a time.
curve_tun_state curve_tun_connection_state(const curve_tun_connection *connection);

// Gives the peer's proven long-term public key once connected, even if closed since.
//
// May return `CURVE_TUN_ERR_WRONG_STATE` before. Threads: one at a time.
curve_tun_result curve_tun_connection_peer_key(const curve_tun_connection *connection,
                                               uint8_t public_key[CURVE_TUN_KEY_BYTES]);

// Tells the connection the time, in monotonic milliseconds from any origin, not negative. Gives
// the time by which to call it again; -1 if no further call is due until another function was
// called.
//
// The handshake's time runs from the first call. Call it when the connection is made, whenever the
// given time comes, and when the handshake is over: an established connection frees its idle
// buffers in this call. May return `CURVE_TUN_ERR_TIMEOUT` (the handshake was not over in time)
// and `CURVE_TUN_ERR_TOO_MANY_HANDSHAKES` (it was evicted), after which the connection is closed;
// `CURVE_TUN_ERR_INVALID_ARGUMENT` for a negative time, `CURVE_TUN_ERR_CLOSED`,
// `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_connection_tick(curve_tun_connection *connection,
                                           int64_t now_ms,
                                           int64_t *next_deadline_ms);

// Reports the orderly end of the transport: the peer closed its side. The connection is closed;
// messages that have arrived can still be received.
//
// Returns what the end means: `CURVE_TUN_ERR_CLOSED`; or `CURVE_TUN_ERR_WRONG_SERVER_KEY` for a
// client whose hello was answered by nothing but the end, as a server does that cannot open it
// because it has another key or its vault fails; or `CURVE_TUN_ERR_TOO_MANY_HANDSHAKES` for one
// that was evicted. Threads: one at a time.
curve_tun_result curve_tun_connection_transport_ended(curve_tun_connection *connection);

// Closes the connection, for a program that is done with it or whose transport broke: secrets are
// wiped, and bytes for the transport dropped. Messages that have arrived can still be received.
// Does nothing for a closed connection or NULL.
//
// Threads: one at a time.
void curve_tun_connection_close(curve_tun_connection *connection);

// Frees the connection and everything that it holds; if a stream was made of it, once that is
// freed, too.
//
// Threads: the last call on this pointer.
void curve_tun_connection_free(curve_tun_connection *connection);

// # Bytes, messages and requests of a connection

// One message of several that are sent by one call.
typedef struct {
    // The message; may be NULL if it is empty.
    const uint8_t *bytes;
    // Its length.
    size_t len;
} curve_tun_message;

// Takes bytes from the transport, in pieces of any size, and gives how many it took.
//
// It takes only some of them at the receive high-water mark; pass the rest again once messages
// have been received. A length of 0 does nothing. May return, once, the error that ended the
// connection: `CURVE_TUN_ERR_BAD_PACKET`, `CURVE_TUN_ERR_WRONG_SERVER_KEY`,
// `CURVE_TUN_ERR_COOKIE_EXPIRED`, `CURVE_TUN_ERR_UNKNOWN_PEER`, `CURVE_TUN_ERR_COUNTER_EXHAUSTED`,
// `CURVE_TUN_ERR_VAULT_FAILED`, `CURVE_TUN_ERR_REGISTRY_FAILED`, `CURVE_TUN_ERR_TIMEOUT` from a
// custom vault; then `CURVE_TUN_ERR_CLOSED`. `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_connection_read(curve_tun_connection *connection,
                                           const uint8_t *bytes,
                                           size_t len,
                                           size_t *consumed);

// Gives `*len` bytes of the receive buffer to read the transport into directly, which saves a
// copy; call `curve_tun_connection_read_commit` afterwards. The bytes belong to the connection and
// are valid until the next call on it.
//
// `*len` is 0 at the receive high-water mark. May return `CURVE_TUN_ERR_CLOSED`,
// `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_connection_read_buffer(curve_tun_connection *connection,
                                                  uint8_t **bytes,
                                                  size_t *len);

// Reports that the first `count` bytes of that buffer were filled from the transport. A count of 0
// does nothing.
//
// May return what `curve_tun_connection_read` may, and `CURVE_TUN_ERR_INVALID_ARGUMENT` unless the
// last call on this connection was `curve_tun_connection_read_buffer` and it offered at least
// `count` bytes. Threads: one at a time.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_connection_read_commit(curve_tun_connection *connection,
                                                  size_t count);

// Says whether the connection takes bytes from the transport now: not at the receive high-water
// mark, nor when closed.
//
// false for NULL. Threads: one at a time.
bool curve_tun_connection_wants_read(const curve_tun_connection *connection);

// Copies bytes for the transport into `buffer`, and gives how many. The program writes all of them
// to the transport, in order. 0 means that there are none.
//
// May return `CURVE_TUN_ERR_CLOSED`, `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_connection_write(curve_tun_connection *connection,
                                            uint8_t *buffer,
                                            size_t capacity,
                                            size_t *written);

// Gives a pointer to all bytes for the transport, which saves a copy; report with
// `curve_tun_connection_written` how many of them the transport took. The bytes belong to the
// connection and are valid until the next call on it.
//
// May return `CURVE_TUN_ERR_CLOSED` if the connection is closed and has none,
// `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_connection_pending(curve_tun_connection *connection,
                                              const uint8_t **bytes,
                                              size_t *len);

// Returns how many bytes there are for the transport: those that `curve_tun_connection_pending`
// gives.
//
// 0 for NULL. Threads: one at a time.
size_t curve_tun_connection_pending_len(const curve_tun_connection *connection);

// Reports that the transport took the first `count` of the bytes that
// `curve_tun_connection_pending` gives. A count of 0 does nothing.
//
// May return `CURVE_TUN_ERR_INVALID_ARGUMENT` if there are fewer, as in a closed connection.
// Threads: one at a time.
curve_tun_result curve_tun_connection_written(curve_tun_connection *connection, size_t count);

// Says whether there are bytes for the transport.
//
// false for NULL. Threads: one at a time.
bool curve_tun_connection_wants_write(const curve_tun_connection *connection);

// Seals a message of `len` bytes for the peer, and adds it to the bytes for the transport.
//
// May return `CURVE_TUN_ERR_TOO_LARGE` above `CURVE_TUN_MESSAGE_MAX`, `CURVE_TUN_ERR_WOULD_BLOCK`
// at the send high-water mark, `CURVE_TUN_ERR_WRONG_STATE` before it is connected: nothing is
// sent, and the connection stays as it is. `CURVE_TUN_ERR_COUNTER_EXHAUSTED`: it is closed, and
// only pending bytes remain to be written. `CURVE_TUN_ERR_CLOSED`, `CURVE_TUN_ERR_FORKED`.
// Threads: one at a time.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_connection_send(curve_tun_connection *connection,
                                           const uint8_t *message,
                                           size_t len);

// Seals `count` messages for the peer, in order, and adds them to the bytes for the transport. It
// stops at the send high-water mark, and gives how many it sealed in `*sent`.
//
// May return `CURVE_TUN_ERR_TOO_LARGE` if one of them is too large, `CURVE_TUN_ERR_NULL` if one of
// them is NULL with a length, `CURVE_TUN_ERR_WOULD_BLOCK` if there are some and the high-water
// mark was reached before the first, `CURVE_TUN_ERR_WRONG_STATE` before it is connected: none is
// sent, and the connection stays as it is. `CURVE_TUN_ERR_COUNTER_EXHAUSTED`, with `*sent` set: it
// is closed, and only pending bytes remain to be written. `CURVE_TUN_ERR_CLOSED`,
// `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_connection_send_many(curve_tun_connection *connection,
                                                const curve_tun_message *messages,
                                                size_t count,
                                                size_t *sent);

// Gives the next message, of `*len` bytes, in the buffer in which it was opened, which saves a
// copy; `curve_tun_connection_consume` removes it. The message belongs to the connection and is
// valid until the next call on it; `*message` is never NULL.
//
// May return `CURVE_TUN_ERR_WOULD_BLOCK` if there is none now, `CURVE_TUN_ERR_CLOSED` if there
// will be none, `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_connection_peek(curve_tun_connection *connection,
                                           const uint8_t **message,
                                           size_t *len);

// Removes the message that `curve_tun_connection_peek` gives.
//
// May return `CURVE_TUN_ERR_WOULD_BLOCK` if there is none now, `CURVE_TUN_ERR_CLOSED` if there
// will be none, `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
curve_tun_result curve_tun_connection_consume(curve_tun_connection *connection);

// Copies the next message into `buffer`, removes it, and gives its length in `*len`.
//
// May return `CURVE_TUN_ERR_TOO_SMALL`, with the message's length in `*len`, if it is longer than
// `capacity`: it stays. `CURVE_TUN_ERR_WOULD_BLOCK` if there is none now, `CURVE_TUN_ERR_CLOSED`
// if there will be none, `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_connection_recv(curve_tun_connection *connection,
                                           uint8_t *buffer,
                                           size_t capacity,
                                           size_t *len);

// Gives the connection's request to a vault or a registry that answers later. `request->size` must
// be set.
//
// May return `CURVE_TUN_ERR_WOULD_BLOCK` if there is no request, `CURVE_TUN_ERR_INVALID_ARGUMENT`
// for a wrong size, `CURVE_TUN_ERR_CLOSED`. Threads: one at a time.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_connection_request(curve_tun_connection *connection,
                                              curve_tun_request *request);

// Continues the handshake with the answer to the connection's request. `answer->size` and
// `answer->kind` must be set.
//
// May return `CURVE_TUN_ERR_WRONG_STATE` if there is no request, `CURVE_TUN_ERR_INVALID_ARGUMENT`
// for an answer to another kind of request, a wrong size or an invalid flag; these leave the
// connection as it is. Otherwise what `curve_tun_connection_read` may. Threads: one at a time.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_connection_answer(curve_tun_connection *connection,
                                             const curve_tun_answer *answer);

// # Sockets
//
// Blocking TCP. On one socket one thread may send while another receives; two that send, or two
// that receive, take turns. `curve_tun_socket_shutdown` from another thread wakes them all. No
// call here raises SIGPIPE, and a signal cuts no wait short.
//
// An error that ends a socket is returned once, by the call that met it; from then on calls return
// `CURVE_TUN_ERR_CLOSED`, except that messages which arrived before can still be received. A
// custom vault or registry without `deferred` is called on the thread that runs the handshake; one
// with `deferred`, on the library's own threads, 256 at most for each.
//
// A socket of which a stream was made (`curve_tun_stream_new`) sends and receives no messages of
// its own: the functions that do return `CURVE_TUN_ERR_WRONG_STATE`.

// A tunnel over one TCP connection.
typedef struct curve_tun_socket curve_tun_socket;

// Connects to a host, which is an address or a name, and makes a tunnel to the holder of the
// server's secret key. All addresses of a name are tried, slow ones in parallel.
//
// May return `CURVE_TUN_ERR_NAME_NOT_FOUND`, `CURVE_TUN_ERR_CONNECTION_REFUSED`,
// `CURVE_TUN_ERR_UNREACHABLE`, `CURVE_TUN_ERR_PERMISSION_DENIED`,
// `CURVE_TUN_ERR_ADDRESS_NOT_AVAILABLE`, `CURVE_TUN_ERR_TOO_MANY_FILES`, `CURVE_TUN_ERR_IO`;
// `CURVE_TUN_ERR_TIMEOUT`; `CURVE_TUN_ERR_WRONG_SERVER_KEY`, `CURVE_TUN_ERR_BAD_PACKET`,
// `CURVE_TUN_ERR_CLOSED`, `CURVE_TUN_ERR_WEAK_KEY`, `CURVE_TUN_ERR_INVALID_ARGUMENT` for options
// out of range, `CURVE_TUN_ERR_VAULT_FAILED`, `CURVE_TUN_ERR_OUT_OF_MEMORY`,
// `CURVE_TUN_ERR_TOO_MANY_THREADS`, `CURVE_TUN_ERR_NO_BUFFERS`,
// `CURVE_TUN_ERR_CRYPTO_UNAVAILABLE`. A server that does not know this client closes the tunnel
// after it was made. Threads: any. Blocks until connected, at most for `timeout_ms` and for the
// handshake timeout in the options.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_socket_connect(const char *host,
                                          uint16_t port,
                                          const curve_tun_vault *vault,
                                          const uint8_t server_public_key[CURVE_TUN_KEY_BYTES],
                                          const curve_tun_options *options,
                                          int64_t timeout_ms,
                                          curve_tun_socket **socket);

// Runs the handshake of a socket that `curve_tun_listener_transport_accept` gave.
//
// May return `CURVE_TUN_ERR_WRONG_STATE` if it is connected already; `CURVE_TUN_ERR_TIMEOUT`,
// `CURVE_TUN_ERR_BAD_PACKET`, `CURVE_TUN_ERR_COOKIE_EXPIRED`, `CURVE_TUN_ERR_UNKNOWN_PEER`,
// `CURVE_TUN_ERR_VAULT_FAILED`, `CURVE_TUN_ERR_REGISTRY_FAILED`,
// `CURVE_TUN_ERR_TOO_MANY_HANDSHAKES` if it was evicted, `CURVE_TUN_ERR_CLOSED` if the client has
// left, or the socket or its listener was shut down: the socket is closed. Threads: any. Blocks
// until connected, at most for `timeout_ms`, and until the handshake timeout in the options has
// passed since the accept. It returns as soon as the handshake is over, even while a vault or a
// registry has yet to answer.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_socket_handshake(const curve_tun_socket *socket,
                                            int64_t timeout_ms);

// Sends one message of `len` bytes.
//
// May return `CURVE_TUN_ERR_TOO_LARGE` above `CURVE_TUN_MESSAGE_MAX`, and
// `CURVE_TUN_ERR_WRONG_STATE` before the handshake: nothing is sent and the socket stays usable.
// `CURVE_TUN_ERR_TIMEOUT`: if part of it was sealed by then, the socket is closed, since half a
// packet cannot be taken back; with a timeout of 0 and a full transport nothing was sealed, and
// the socket stays usable. `CURVE_TUN_ERR_COUNTER_EXHAUSTED`, `CURVE_TUN_ERR_CLOSED`,
// `CURVE_TUN_ERR_FORKED`. Threads: any. Blocks until the operating system has taken all of it, at
// most for `timeout_ms`.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_socket_send(const curve_tun_socket *socket,
                                       const uint8_t *message,
                                       size_t len,
                                       int64_t timeout_ms);

// Sends `count` messages, in order, in as few system calls as they need.
//
// May return what `curve_tun_socket_send` may: `CURVE_TUN_ERR_TOO_LARGE` if one of them is too
// large, and `CURVE_TUN_ERR_NULL` if one of them is NULL with a length; then none is sent.
// Threads: any. Blocks as `curve_tun_socket_send` does. Queued messages go first.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_socket_send_many(const curve_tun_socket *socket,
                                            const curve_tun_message *messages,
                                            size_t count,
                                            int64_t timeout_ms);

// Seals one message of `len` bytes and queues it, for a program that sends many small messages one
// by one. The queue goes to the operating system, in order, when it reaches 64 KiB, with
// `curve_tun_socket_flush`, and with the next `curve_tun_socket_send` or `_send_many`. No other
// call writes it, not even `curve_tun_socket_recv`.
//
// `CURVE_TUN_OK` means that the message is queued, not that it is sent: flush before waiting for
// an answer. `message` is the caller's again when this returns. Freeing a socket passes on as much
// of its queue as the system takes at once; shutting it down drops the queue.
//
// May return `CURVE_TUN_ERR_TOO_LARGE` above `CURVE_TUN_MESSAGE_MAX`, `CURVE_TUN_ERR_WRONG_STATE`
// before the handshake, and `CURVE_TUN_ERR_TIMEOUT`: the message is not queued, the queue stays as
// it is, and the socket stays usable. `CURVE_TUN_ERR_COUNTER_EXHAUSTED`, `CURVE_TUN_ERR_CLOSED`:
// the socket is closed, and queued messages may be lost. `CURVE_TUN_ERR_FORKED`. Threads: any; two
// that queue, send or flush take turns. Blocks only while 64 KiB wait that the operating system
// does not take, or for its turn, at most for `timeout_ms`.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_socket_queue(const curve_tun_socket *socket,
                                        const uint8_t *message,
                                        size_t len,
                                        int64_t timeout_ms);

// Passes everything that is queued to the operating system.
//
// May return `CURVE_TUN_ERR_TIMEOUT`: what the system has not taken stays queued, and the socket
// stays usable. `CURVE_TUN_ERR_WRONG_STATE` before the handshake. `CURVE_TUN_ERR_CLOSED`: the
// socket is closed, and queued messages are lost. `CURVE_TUN_ERR_FORKED`. Threads: any. Blocks
// until the operating system has taken all of it, at most for `timeout_ms`.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_socket_flush(const curve_tun_socket *socket,
                                        int64_t timeout_ms);

// Receives one message into `buffer`, and gives its length in `*len`.
//
// May return `CURVE_TUN_ERR_TOO_SMALL`, with the message's length in `*len`, if it is longer than
// `capacity`: it stays. `CURVE_TUN_ERR_TIMEOUT`: nothing is lost. `CURVE_TUN_ERR_WRONG_STATE`
// before the handshake. `CURVE_TUN_ERR_BAD_PACKET`, `CURVE_TUN_ERR_COUNTER_EXHAUSTED`: the socket
// is closed. `CURVE_TUN_ERR_CLOSED`, `CURVE_TUN_ERR_FORKED`. Threads: any. Blocks until there is a
// message, at most for `timeout_ms`.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_socket_recv(const curve_tun_socket *socket,
                                       uint8_t *buffer,
                                       size_t capacity,
                                       size_t *len,
                                       int64_t timeout_ms);

// Gives the peer's proven long-term public key.
//
// May return `CURVE_TUN_ERR_WRONG_STATE` before the handshake, `CURVE_TUN_ERR_CLOSED` if the
// handshake failed, `CURVE_TUN_ERR_FORKED`. Threads: any.
curve_tun_result curve_tun_socket_peer_key(const curve_tun_socket *socket,
                                           uint8_t public_key[CURVE_TUN_KEY_BYTES]);

// Writes the peer's address and port as a string, such as `192.0.2.7:4000` or
// `[2001:db8::7]:4000`. An IPv4 peer of an IPv6 socket is an IPv4 peer. A link-local address has
// its interface after it: `[fe80::7%eth0]:4000`.
//
// May return `CURVE_TUN_ERR_TOO_SMALL`; `CURVE_TUN_ADDRESS_TEXT_SIZE` is always enough. Threads:
// any.
curve_tun_result curve_tun_socket_peer_address(const curve_tun_socket *socket, char *buffer, size_t capacity);

// Gives the peer's address in `ip`, 4 bytes for IPv4 or 16 for IPv6 in network byte order, as
// `*len` says; its port; and the number of the interface of a link-local address, otherwise 0. An
// IPv4 peer of an IPv6 socket is an IPv4 peer.
//
// Threads: any.
curve_tun_result curve_tun_socket_peer_ip(const curve_tun_socket *socket,
                                          uint8_t ip[CURVE_TUN_IP_BYTES_MAX],
                                          size_t *len,
                                          uint16_t *port,
                                          uint32_t *scope);

// Returns the socket's file descriptor, to poll together with others. Never read, write or close
// it. A message may be waiting although the descriptor is not readable: poll only after
// `curve_tun_socket_recv` with a timeout of 0 has returned `CURVE_TUN_ERR_TIMEOUT`.
//
// -1 for NULL. Threads: any.
int curve_tun_socket_fd(const curve_tun_socket *socket);

// Shuts down both directions: calls that wait are woken and return `CURVE_TUN_ERR_CLOSED`.
// Messages that have arrived can still be received; queued ones are lost. The socket must still be
// freed.
//
// Does nothing for NULL. Threads: any.
void curve_tun_socket_shutdown(const curve_tun_socket *socket);

// Closes and frees a socket; does nothing for NULL. What was sent still arrives if the peer goes
// on reading. If a stream was made of it, the transport stays open until that is freed, too.
//
// Threads: the last call on this pointer. To end a socket that other threads wait on, shut it
// down, wait for the threads, then free it. Returns at once.
void curve_tun_socket_free(curve_tun_socket *socket);

// # Listeners
//
// Handshakes run only while a thread is in `curve_tun_listener_accept`: a program that does not
// call it for longer than the handshake timeout in the options loses clients. What a loop does
// with each result:
//
// | result | a loop that accepts | a client that connects |
// | --- | --- | --- |
// | `CURVE_TUN_OK` | serves the client | uses the tunnel |
// | `CURVE_TUN_ERR_TIMEOUT` | accepts again | tries again |
// | `CURVE_TUN_ERR_TOO_MANY_FILES` | reports it, accepts again | pauses, tries again |
// | `CURVE_TUN_ERR_NO_BUFFERS` | reports it, accepts again | pauses, tries again |
// | `CURVE_TUN_ERR_IO` | reports it, accepts again | pauses, tries again |
// | `CURVE_TUN_ERR_CLOSED` | ends: the listener was shut down | pauses, longer each time, tries again |
// | `CURVE_TUN_ERR_WRONG_SERVER_KEY` | does not meet it | reports it, pauses, longer each time, tries again |
// | others, if `curve_tun_result_is_transient` | accepts again | pauses, tries again |
// | others | ends | ends |
//
// A loop that accepts needs no pause of its own: when the system gives no connection, the listener
// tries again after 100 milliseconds. A server asks its registry only when the client already
// considers itself connected: a client that is not let in learns that from its first
// `curve_tun_socket_recv`, which returns `CURVE_TUN_ERR_CLOSED`, as it does when the server goes
// away. A server whose vault is out for a while looks like one with another key
// (`CURVE_TUN_ERR_WRONG_SERVER_KEY`); trying again reveals nothing to a server that does have
// another key.

// A TCP port on which tunnels are accepted.
typedef struct curve_tun_listener curve_tun_listener;

// Listens on a host, which is an address or a name of this machine, and a port; port 0 picks a
// free one. `"::"` takes IPv4 connections too. The listener keeps the server alive.
//
// May return `CURVE_TUN_ERR_NAME_NOT_FOUND`, `CURVE_TUN_ERR_ADDRESS_IN_USE`,
// `CURVE_TUN_ERR_ADDRESS_NOT_AVAILABLE`, `CURVE_TUN_ERR_PERMISSION_DENIED`,
// `CURVE_TUN_ERR_TOO_MANY_FILES`, `CURVE_TUN_ERR_TOO_MANY_THREADS` for the lookup of a name,
// `CURVE_TUN_ERR_NO_BUFFERS`, `CURVE_TUN_ERR_IO`. Threads: any. Blocks while a name is looked up.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_listener_open(const char *host,
                                         uint16_t port,
                                         const curve_tun_server *server,
                                         curve_tun_listener **listener);

// Returns the port that a listener listens on.
//
// 0 for NULL. Threads: any.
uint16_t curve_tun_listener_port(const curve_tun_listener *listener);

// Writes the address and port that a listener listens on as a string, such as `192.0.2.7:4000`,
// `[2001:db8::7]:4000` or `[fe80::7%eth0]:4000`.
//
// May return `CURVE_TUN_ERR_TOO_SMALL`; `CURVE_TUN_ADDRESS_TEXT_SIZE` is always enough. Threads:
// any.
curve_tun_result curve_tun_listener_address(const curve_tun_listener *listener,
                                            char *buffer,
                                            size_t capacity);

// Gives the next client that connects, before its handshake. The caller runs
// `curve_tun_socket_handshake`, on a separate thread if other clients should not wait for it. A
// client that has left already is closed and not given. When as many handshakes are in flight as
// the server's options allow, a new client evicts the oldest handshake of the source that has the
// most, whose socket is closed. The next call then waits until that socket is freed by
// `curve_tun_socket_free`, at most 100 ms, so that a flood leaves no more sockets than there may
// be handshakes.
//
// Do not use it together with `curve_tun_listener_accept` on one listener: each would wait for the
// other's turn. May return `CURVE_TUN_ERR_TIMEOUT`; `CURVE_TUN_ERR_TOO_MANY_FILES`,
// `CURVE_TUN_ERR_NO_BUFFERS` or `CURVE_TUN_ERR_IO` when the system gives no connection, at most
// ten times a second, and the listener goes on; `CURVE_TUN_ERR_CLOSED` after
// `curve_tun_listener_shutdown`. Threads: any. Blocks until there is a client, at most for
// `timeout_ms`.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_listener_transport_accept(const curve_tun_listener *listener,
                                                     int64_t timeout_ms,
                                                     curve_tun_socket **socket);

// Gives the next client whose handshake is done. All handshakes in flight go on meanwhile, so a
// silent client keeps nobody waiting. A client that fails its handshake is closed and not given.
// When as many are in flight as the server's options allow, a new client evicts the oldest
// handshake of the source that has the most.
//
// May return what `curve_tun_listener_transport_accept` may; `CURVE_TUN_ERR_TIMEOUT` loses no
// client. Threads: any. Blocks until there is a client, at most for `timeout_ms`.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_listener_accept(const curve_tun_listener *listener,
                                           int64_t timeout_ms,
                                           curve_tun_socket **socket);

// Shuts a listener down from any thread: every accept, now and later, returns
// `CURVE_TUN_ERR_CLOSED`, and unfinished handshakes end, also those of
// `curve_tun_socket_handshake`. The listener must still be freed.
//
// Does nothing for NULL. Threads: any.
void curve_tun_listener_shutdown(const curve_tun_listener *listener);

// Closes and frees a listener: its port becomes free, and clients whose handshake is not done are
// closed. Sockets that it gave stay.
//
// Threads: the last call on this pointer. To end a listener that other threads wait on, shut it
// down, wait for the threads, then free it.
void curve_tun_listener_free(curve_tun_listener *listener);

// # Servers that are known
//
// A client never gets a server's key over the wire: it has it beforehand, from its user, from a
// file or from DNS. Trust on first use adds memory: once a key was used for a name, it is the only
// key accepted for that name. Keys are remembered in a registry file, in entries of the form
// `[host]:port key`.
//
// Which key is trusted is decided in the same way here as in Rust and Erlang. If a key is given,
// it is the only candidate; otherwise the keys that a registry has for the name are tried in turn.
// A key that the known servers deny is skipped, and so is one that is not among those that the
// server is known by; for a server that they do not know, `first_use` decides. A key whose secret
// the server does not hold is skipped, too. When none is left, the first key that was not trusted
// is reported.

// Do not use a server for which no key is known.
#define CURVE_TUN_FIRST_USE_REFUSE 0

// Use it this once.
#define CURVE_TUN_FIRST_USE_ONCE 1

// Use it, and remember the key once the server has proven to hold its secret.
#define CURVE_TUN_FIRST_USE_REMEMBER 2

// The servers that a client knows.
typedef struct curve_tun_known_servers curve_tun_known_servers;

// Where a client gets a server's key from, and what it checks the key against. Fields that are 0
// or NULL, as `CURVE_TUN_TRUST_INIT` sets them, play no part.
typedef struct {
    // `sizeof(curve_tun_trust)`.
    size_t size;
    // The 32 bytes of the given key, which stay the caller's; `registry` is not asked then. May be
    // NULL.
    const uint8_t *server_public_key;
    // The registry that knows the keys of servers, in a file or in DNS; may be NULL.
    const curve_tun_registry *registry;
    // The known servers; may be NULL.
    const curve_tun_known_servers *known_servers;
    // What to do with a server that `known_servers` lacks: one of `CURVE_TUN_FIRST_USE_…`.
    uint32_t first_use;
    // 0; has no meaning yet.
    uint32_t reserved;
} curve_tun_trust;

// A `curve_tun_trust` with `size` set, and all else 0.
#define CURVE_TUN_TRUST_INIT \
    {sizeof(curve_tun_trust), NULL, NULL, NULL, 0, 0}

// What `curve_tun_socket_connect_trusted` gives besides its result:
// `CURVE_TUN_TRUST_OUTCOME_INIT`.
typedef struct {
    // `sizeof(curve_tun_trust_outcome)`.
    size_t size;
    // For `CURVE_TUN_ERR_KEY_CHANGED`, `CURVE_TUN_ERR_KEY_DENIED` and `CURVE_TUN_ERR_UNKNOWN_PEER`
    // the key that is not trusted; otherwise zeros.
    uint8_t offered_public_key[CURVE_TUN_KEY_BYTES];
    // For `CURVE_TUN_ERR_KEY_CHANGED` the key that the server is known by; otherwise zeros.
    uint8_t known_public_key[CURVE_TUN_KEY_BYTES];
    // For `CURVE_TUN_OK`, why a key that should have been remembered was not, as in
    // `curve_tun_socket_connect_known`; `CURVE_TUN_OK` if it was, or did not have to be.
    curve_tun_result remembered;
    // 0; has no meaning yet.
    uint32_t reserved;
} curve_tun_trust_outcome;

// A `curve_tun_trust_outcome` with `size` set, and all else 0.
#define CURVE_TUN_TRUST_OUTCOME_INIT \
    {sizeof(curve_tun_trust_outcome), {0}, {0}, CURVE_TUN_OK, 0}

// Opens the servers known in a registry file; if there is no such file, an empty one is made.
//
// May return the errors of `curve_tun_registry_open_file` and of `curve_tun_registry_add`.
// Threads: any. Blocks as long as it takes to read the file.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_known_servers_open(const char *file,
                                              curve_tun_known_servers **known);

// Says whether a public key may be used for a server, before a connection is made.
//
// Returns `CURVE_TUN_OK` if the server is known by this key; `CURVE_TUN_ERR_UNKNOWN_PEER` if no
// key is known for it, so the program or its user decides; `CURVE_TUN_ERR_KEY_CHANGED` if it is
// known by another key, which is then written to `known_public_key`: only the user can tell
// whether the server was given a new one or someone is in its place; `CURVE_TUN_ERR_KEY_DENIED` if
// the file denies the key. May return `CURVE_TUN_ERR_INVALID_ARGUMENT` for a host that is no
// address or name, and for port 0; and, since a change would otherwise go unnoticed, the errors of
// `curve_tun_registry_open_file` for a file that has become unusable. Threads: any. Blocks if the
// file has changed, as long as it takes to read it.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_known_servers_check(const curve_tun_known_servers *known,
                                               const char *host,
                                               uint16_t port,
                                               const uint8_t public_key[CURVE_TUN_KEY_BYTES],
                                               uint8_t known_public_key[CURVE_TUN_KEY_BYTES]);

// Remembers a public key for a server: for programs that drive their own connections, once they
// are connected. `curve_tun_socket_connect_known` does this itself.
//
// Returns `CURVE_TUN_ERR_KEY_CHANGED` if another key has been remembered meanwhile, which is then
// written to `known_public_key`, and `CURVE_TUN_ERR_KEY_DENIED` if the key has been denied. May
// return the errors of `curve_tun_registry_add`, and `CURVE_TUN_ERR_INVALID_ARGUMENT` for a host
// that is no address or name, and for port 0. Threads: any. Blocks as `curve_tun_registry_add`
// does.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_known_servers_remember(const curve_tun_known_servers *known,
                                                  const char *host,
                                                  uint16_t port,
                                                  const uint8_t public_key[CURVE_TUN_KEY_BYTES],
                                                  uint8_t known_public_key[CURVE_TUN_KEY_BYTES]);

// As `curve_tun_socket_connect`, with a key that is trusted ("Servers that are known"). Nothing is
// sent with a key before it is trusted.
//
// A program whose user decides about first uses passes `CURVE_TUN_FIRST_USE_REFUSE`, shows the
// offered key of `CURVE_TUN_ERR_UNKNOWN_PEER`, and connects again with that key as the given one
// and another `first_use`.
//
// May return `CURVE_TUN_ERR_KEY_CHANGED`, `CURVE_TUN_ERR_KEY_DENIED`,
// `CURVE_TUN_ERR_UNKNOWN_PEER`; `CURVE_TUN_ERR_INVALID_ARGUMENT` for neither a key nor a registry,
// for an invalid `first_use`, for wrong sizes, and, where a registry or known servers are asked,
// for a host that is no address or name and for port 0; `CURVE_TUN_ERR_WRONG_STATE` for a registry
// that is neither in a file nor in DNS; and the errors of `curve_tun_socket_connect_by_name` and
// `curve_tun_socket_connect_known`. `outcome` is filled in for each of these results but
// `CURVE_TUN_ERR_NULL`, `CURVE_TUN_ERR_FORKED`, and those that say that an argument is wrong.
// Threads: any. Blocks as `curve_tun_socket_connect_known` does.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_socket_connect_trusted(const char *host,
                                                  uint16_t port,
                                                  const curve_tun_vault *vault,
                                                  const curve_tun_trust *trust,
                                                  const curve_tun_options *options,
                                                  int64_t timeout_ms,
                                                  curve_tun_trust_outcome *outcome,
                                                  curve_tun_socket **socket);

// As `curve_tun_socket_connect`, if `known` has nothing against this key for this host and port.
// Nothing is sent before that is clear. For a server that is not known, `first_use` decides, one
// of `CURVE_TUN_FIRST_USE_…`.
//
// Returns what `curve_tun_known_servers_check` and `curve_tun_socket_connect` return, and may
// return `CURVE_TUN_ERR_INVALID_ARGUMENT` for an invalid `first_use`. For
// `CURVE_TUN_ERR_KEY_CHANGED` the known key is written to `known_public_key`; another program may
// have remembered it meanwhile.
//
// A key that should be remembered but cannot be written does not cost the tunnel, since the server
// has proven the key: the call returns `CURVE_TUN_OK` with the socket, and writes the reason to
// `remembered`, an error of `curve_tun_registry_add` such as `CURVE_TUN_ERR_READ_ONLY`. The next
// use of that server is a first use again. In every other case of `CURVE_TUN_OK`, `remembered` is
// `CURVE_TUN_OK`. Threads: any. Blocks as `curve_tun_socket_connect` does, and to read and write
// the file: for other writers at most ten seconds more.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_socket_connect_known(const char *host,
                                                uint16_t port,
                                                const curve_tun_vault *vault,
                                                const uint8_t server_public_key[CURVE_TUN_KEY_BYTES],
                                                const curve_tun_known_servers *known,
                                                uint32_t first_use,
                                                const curve_tun_options *options,
                                                int64_t timeout_ms,
                                                uint8_t known_public_key[CURVE_TUN_KEY_BYTES],
                                                curve_tun_result *remembered,
                                                curve_tun_socket **socket);

// As `curve_tun_socket_connect`, with the key that a registry in a file (an entry
// `[host]:port key`) or in DNS knows for the host and port. If it knows several, they are tried in
// turn.
//
// May return `CURVE_TUN_ERR_NOT_FOUND` if no key is known; `CURVE_TUN_ERR_WRONG_STATE` for a
// registry that is neither in a file nor in DNS; `CURVE_TUN_ERR_INVALID_ARGUMENT` for a host that
// is no address or name, and for port 0; `CURVE_TUN_ERR_NOT_VALIDATED`,
// `CURVE_TUN_ERR_REGISTRY_FAILED`, `CURVE_TUN_ERR_FORKED`; and the errors of
// `curve_tun_socket_connect`. Threads: any. Blocks until connected, at most for `timeout_ms`.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_socket_connect_by_name(const char *host,
                                                  uint16_t port,
                                                  const curve_tun_vault *vault,
                                                  const curve_tun_registry *registry,
                                                  const curve_tun_options *options,
                                                  int64_t timeout_ms,
                                                  curve_tun_socket **socket);

// Frees the caller's reference to known servers.
//
// Threads: the last call on this pointer.
void curve_tun_known_servers_free(curve_tun_known_servers *known);

// # Options of streams, and why streams are aborted

// A stream of bytes, without borders between them.
#define CURVE_TUN_MODE_STREAM 0

// Messages, of up to 4,294,967,295 bytes each.
#define CURVE_TUN_MODE_MESSAGES 1

// A buffer of this size is large enough for the name of any service and its final zero.
#define CURVE_TUN_SERVICE_SIZE 68

// The stream was given up, or freed before it had ended; also every code that is not known here.
#define CURVE_TUN_ABORT_GIVEN_UP 0

// The other end broke a rule of the stream layer.
#define CURVE_TUN_ABORT_PROTOCOL 1

// A defect, or something that the system refused.
#define CURVE_TUN_ABORT_INTERNAL 2

// What the stream was forwarded from or to has been reset.
#define CURVE_TUN_ABORT_LOCAL_RESET 3

// The program is about to end.
#define CURVE_TUN_ABORT_SHUTTING_DOWN 4

// A limit of time has passed.
#define CURVE_TUN_ABORT_TIME_LIMIT 5

// There is no service of this name for this key.
#define CURVE_TUN_ABORT_NO_SERVICE 6

// Nothing listens at the address behind the server.
#define CURVE_TUN_ABORT_TARGET_REFUSED 8

// The address behind the server cannot be reached.
#define CURVE_TUN_ABORT_TARGET_UNREACHABLE 9

// A message was announced that is larger than its receiver takes.
#define CURVE_TUN_ABORT_TOO_LARGE 10

// A limit of connections or of memory is reached.
#define CURVE_TUN_ABORT_BUSY 11

// A buffer of this size is large enough for the text of any abort and its final zero.
#define CURVE_TUN_ABORT_TEXT_SIZE 256

// How a stream is used. 0 in a field means its default, which `CURVE_TUN_STREAM_OPTIONS_INIT`
// sets; a function that takes options takes NULL for the defaults.
typedef struct {
    // `sizeof(curve_tun_stream_options)`.
    size_t size;
    // What the stream carries: `CURVE_TUN_MODE_STREAM` or `CURVE_TUN_MODE_MESSAGES`. Both ends are
    // told the same.
    uint32_t mode;
    // The largest message that this end takes, in bytes; less than 65,502 counts as 65,502. 0 for
    // 16,777,216. No meaning in `CURVE_TUN_MODE_STREAM`.
    uint32_t message_max;
    // The service that a client asks for: 1 to 64 of `a` to `z`, `0` to `9`, `.`, `_` and `-`,
    // copied. NULL for none. No meaning for a server.
    const char *service;
    // For whom a client forwards: an address of `client_ip_len` bytes, in network byte order. No
    // meaning for a server.
    uint8_t client_ip[CURVE_TUN_IP_BYTES_MAX];
    // 4 for IPv4, 16 for IPv6, 0 for no address.
    uint32_t client_ip_len;
    // The port that belongs to that address.
    uint32_t client_port;
} curve_tun_stream_options;

// A `curve_tun_stream_options` with `size` set, and all else 0.
#define CURVE_TUN_STREAM_OPTIONS_INIT \
    {sizeof(curve_tun_stream_options), 0, 0, NULL, {0}, 0, 0}

// What the peer said when it opened the stream: `CURVE_TUN_STREAM_PEER_INIT`.
typedef struct {
    // `sizeof(curve_tun_stream_peer)`.
    size_t size;
    // The largest message that the peer takes, in bytes; 0 in `CURVE_TUN_MODE_STREAM`.
    uint32_t message_max;
    // 4 or 16 if the peer is a client that said for whom it forwards; otherwise 0.
    uint32_t client_ip_len;
    // That address, in network byte order. Nothing proves it: believe only peers that may say so.
    uint8_t client_ip[CURVE_TUN_IP_BYTES_MAX];
    // The port that belongs to that address; otherwise 0.
    uint32_t client_port;
    // The service that the peer, a client, asks for: a string; empty for none.
    char service[CURVE_TUN_SERVICE_SIZE];
} curve_tun_stream_peer;

// A `curve_tun_stream_peer` with `size` set, and all else 0.
#define CURVE_TUN_STREAM_PEER_INIT \
    {sizeof(curve_tun_stream_peer), 0, 0, {0}, 0, {0}}

// # Streams
//
// A stream over a connected socket: bytes with an end of their own, or messages that may be larger
// than `CURVE_TUN_MESSAGE_MAX`. Both ends have to use one, in the same mode; `docs/PROTOCOL.md`,
// section 13, has the bytes. The end that connected is the client. It may write at once. The
// server waits for what the client says of itself (`curve_tun_stream_await_peer`), and then takes
// the stream (`curve_tun_stream_accept`) or refuses it (`curve_tun_stream_abort`).
//
// Ends. `curve_tun_stream_finish_write` ends one direction, and is the only thing that does: the
// peer's `curve_tun_stream_read` gives a length of 0 only after it has given all bytes that were
// written before. A transport that ends earlier was cut, by whomever: `CURVE_TUN_ERR_TRUNCATED`. A
// stream that the peer has given up is `CURVE_TUN_ERR_ABORTED`. Freeing a stream before both
// directions have ended aborts it, so that the peer does not take what came for everything.
//
// The socket. A stream keeps the socket that it was made of alive, and the caller frees both, in
// any order; the transport is closed when both are freed. As long as the caller has the socket it
// can ask it for the peer's key and address and for its descriptor, and shut it down, which wakes
// every call on the stream. The functions that send and receive messages of a socket return
// `CURVE_TUN_ERR_WRONG_STATE` once a stream was made of it.
//
// What ended a stream is returned by each later call in the directions that it ended. An error
// that ended the tunnel below is returned once, by the call that met it; from then on it is
// `CURVE_TUN_ERR_TRUNCATED` for calls that read, and `CURVE_TUN_ERR_CLOSED` for those that write.

// One end of a stream over a socket.
typedef struct curve_tun_stream curve_tun_stream;

// Makes a stream of a connected socket, which must not have been used for messages. Nothing is
// sent by it: a client opens the stream with its first call that writes, reads or waits.
//
// May return `CURVE_TUN_ERR_WRONG_STATE` before the handshake of the socket, and if a stream was
// made of it already; `CURVE_TUN_ERR_CLOSED` if the handshake failed;
// `CURVE_TUN_ERR_INVALID_ARGUMENT` for options out of range; `CURVE_TUN_ERR_FORKED`. Threads: any.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_stream_new(const curve_tun_socket *socket,
                                      const curve_tun_stream_options *options,
                                      curve_tun_stream **stream);

// Waits until the peer has opened the stream, and gives in `*peer` what it said, each time.
// `peer->size` must be set; `peer` may be NULL. A server calls it before
// `curve_tun_stream_accept`. A client need not call it; with a timeout it finds out whether the
// server speaks streams at all.
//
// May return `CURVE_TUN_ERR_TIMEOUT`: nothing is lost, and a further call goes on.
// `CURVE_TUN_ERR_NOT_A_STREAM` if the peer does not speak the stream layer,
// `CURVE_TUN_ERR_BAD_PACKET` if it has opened the other mode or broken a rule,
// `CURVE_TUN_ERR_ABORTED` if it has refused or given up the stream, `CURVE_TUN_ERR_TRUNCATED` if
// the transport has ended, `CURVE_TUN_ERR_CLOSED`: the stream is over.
// `CURVE_TUN_ERR_INVALID_ARGUMENT` for a wrong size. `CURVE_TUN_ERR_FORKED`. Threads: any. Blocks
// at most for `timeout_ms`.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_stream_await_peer(const curve_tun_stream *stream,
                                             curve_tun_stream_peer *peer,
                                             int64_t timeout_ms);

// Takes the stream that a client has opened, and says so to the client as far as that needs no
// wait; the rest goes with the next call. To refuse it, call `curve_tun_stream_abort` instead.
//
// May return `CURVE_TUN_ERR_WRONG_STATE` for a client, a second time, and before
// `curve_tun_stream_await_peer` has returned `CURVE_TUN_OK`; what has ended the stream meanwhile;
// `CURVE_TUN_ERR_FORKED`. Threads: any.
CURVE_TUN_MUST_USE curve_tun_result curve_tun_stream_accept(const curve_tun_stream *stream);

// Reads at least one and at most `capacity` bytes of a stream in `CURVE_TUN_MODE_STREAM` into
// `buffer`, and gives how many in `*len`. A length of 0 is the end: the peer has finished, and all
// that it wrote has been read. Further calls give it again.
//
// May return `CURVE_TUN_ERR_TIMEOUT`: nothing is lost. `CURVE_TUN_ERR_TRUNCATED` if the transport
// ended before the end of the stream: what was read is a part. `CURVE_TUN_ERR_ABORTED`
// (`curve_tun_stream_abort_code`). `CURVE_TUN_ERR_BAD_PACKET`, `CURVE_TUN_ERR_NOT_A_STREAM`,
// `CURVE_TUN_ERR_COUNTER_EXHAUSTED`. `CURVE_TUN_ERR_CLOSED` after the own abort.
// `CURVE_TUN_ERR_WRONG_STATE` in the other mode, and for a server before
// `curve_tun_stream_accept`. `CURVE_TUN_ERR_INVALID_ARGUMENT` for a capacity of 0.
// `CURVE_TUN_ERR_FORKED`. Threads: any; two that read take turns. Blocks until there is a byte or
// the end, at most for `timeout_ms`.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_stream_read(const curve_tun_stream *stream,
                                       uint8_t *buffer,
                                       size_t capacity,
                                       size_t *len,
                                       int64_t timeout_ms);

// Writes `len` bytes to a stream in `CURVE_TUN_MODE_STREAM`, and gives in `*written` how many of
// them were taken: all of them if it returns `CURVE_TUN_OK`, and also after a failure, where they
// may be fewer. Bytes that were taken need no further call, and are the caller's again. A length
// of 0 sends what a client or a server has to say first.
//
// May return `CURVE_TUN_ERR_TIMEOUT`: pass the bytes that were not taken again.
// `CURVE_TUN_ERR_ABORTED` (`curve_tun_stream_abort_code`); `CURVE_TUN_ERR_BAD_PACKET`,
// `CURVE_TUN_ERR_NOT_A_STREAM`, if that has ended the stream; `CURVE_TUN_ERR_COUNTER_EXHAUSTED`,
// `CURVE_TUN_ERR_CLOSED`. `CURVE_TUN_ERR_WRONG_STATE` in the other mode, after
// `curve_tun_stream_finish_write`, and for a server before `curve_tun_stream_accept`.
// `CURVE_TUN_ERR_FORKED`. Threads: any; two that write take turns, and their bytes may mix. Blocks
// until all bytes are taken, at most for `timeout_ms`.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_stream_write(const curve_tun_stream *stream,
                                        const uint8_t *bytes,
                                        size_t len,
                                        size_t *written,
                                        int64_t timeout_ms);

// Sends one message of `len` bytes in `CURVE_TUN_MODE_MESSAGES`. One of more than 65,502 bytes
// waits until the peer has opened the stream, since only then it is known what it takes.
//
// May return `CURVE_TUN_ERR_TOO_LARGE` if it is larger than the peer takes, or than 4,294,967,295
// bytes: nothing is sent, and the stream goes on. `CURVE_TUN_ERR_TIMEOUT`: if a part of it was
// sent, the stream is aborted, and later calls return `CURVE_TUN_ERR_CLOSED`; otherwise it goes
// on. `CURVE_TUN_ERR_ABORTED`, `CURVE_TUN_ERR_BAD_PACKET`, `CURVE_TUN_ERR_NOT_A_STREAM`,
// `CURVE_TUN_ERR_TRUNCATED`, `CURVE_TUN_ERR_COUNTER_EXHAUSTED`, `CURVE_TUN_ERR_CLOSED`.
// `CURVE_TUN_ERR_WRONG_STATE` in the other mode, after `curve_tun_stream_finish_write`, and for a
// server before `curve_tun_stream_accept`. `CURVE_TUN_ERR_FORKED`. Threads: any; two that send
// take turns. Blocks until all of it is on its way, at most for `timeout_ms`.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_stream_send_message(const curve_tun_stream *stream,
                                               const uint8_t *message,
                                               size_t len,
                                               int64_t timeout_ms);

// Receives one message in `CURVE_TUN_MODE_MESSAGES`: gives a pointer to its `*len` bytes, which
// belong to the stream and are valid until the next call of this function on it. The pointer is
// NULL at the end of the stream, each time, and never otherwise, not even for an empty message.
//
// Memory is taken as a message comes, not by what is announced, and is given back by the next
// call.
//
// May return `CURVE_TUN_ERR_TIMEOUT`: nothing is lost. `CURVE_TUN_ERR_TOO_LARGE` if the peer has
// sent one that is larger than this end takes: the stream is over. Otherwise what
// `curve_tun_stream_read` may. Threads: any, but one at a time among those that receive from this
// stream. Blocks until the message has come whole, at most for `timeout_ms`.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_stream_recv_message(const curve_tun_stream *stream,
                                               const uint8_t **message,
                                               size_t *len,
                                               int64_t timeout_ms);

// Ends what this end writes: the peer reads an end after all of it. Reading goes on.
//
// May return `CURVE_TUN_ERR_TIMEOUT`: a further call goes on. `CURVE_TUN_ERR_ABORTED`,
// `CURVE_TUN_ERR_BAD_PACKET`, `CURVE_TUN_ERR_NOT_A_STREAM`, `CURVE_TUN_ERR_TOO_LARGE`, if that has
// ended the stream; `CURVE_TUN_ERR_COUNTER_EXHAUSTED`, `CURVE_TUN_ERR_CLOSED`.
// `CURVE_TUN_ERR_WRONG_STATE` for a server before `curve_tun_stream_accept`.
// `CURVE_TUN_ERR_FORKED`. A second call does nothing. Threads: any. Blocks until the operating
// system has taken all of it, at most for `timeout_ms`.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_stream_finish_write(const curve_tun_stream *stream,
                                               int64_t timeout_ms);

// Ends the stream in order: ends what this end writes, reads and drops what the peer still sends
// until its end, and waits until the peer has closed its side of the transport, at most two
// seconds. `CURVE_TUN_OK` means that both directions have ended as they should. The stream must
// still be freed.
//
// May return what `curve_tun_stream_finish_write` may, and `CURVE_TUN_ERR_TRUNCATED`. After
// `CURVE_TUN_ERR_TIMEOUT` a further call goes on. Threads: any. Blocks at most for `timeout_ms`.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_stream_finish(const curve_tun_stream *stream,
                                         int64_t timeout_ms);

// Gives the stream up in both directions, and tells the peer why: one of `CURVE_TUN_ABORT_…`,
// and a text for the operator of the peer, of at most 255 bytes of UTF-8, which is NULL or empty
// in most programs. A server refuses a stream by it. Calls that read are woken and return
// `CURVE_TUN_ERR_CLOSED`; so does a call that writes, as soon as the peer takes bytes. Does
// nothing where the stream has ended.
//
// May return `CURVE_TUN_ERR_INVALID_ARGUMENT` for another code or text, `CURVE_TUN_ERR_FORKED`.
// Threads: any.
curve_tun_result curve_tun_stream_abort(const curve_tun_stream *stream, uint32_t code, const char *text);

// Gives the code of the peer's abort: one of `CURVE_TUN_ABORT_…`.
//
// May return `CURVE_TUN_ERR_NOT_FOUND` if the peer has not aborted the stream, as far as is known
// here; `CURVE_TUN_ERR_FORKED`. Threads: any.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_stream_abort_code(const curve_tun_stream *stream,
                                             uint32_t *code);

// Writes the text of the peer's abort as a string, which is mostly empty. It is the peer's: escape
// control characters where it is shown.
//
// May return `CURVE_TUN_ERR_NOT_FOUND` as `curve_tun_stream_abort_code`;
// `CURVE_TUN_ERR_TOO_SMALL`, where `CURVE_TUN_ABORT_TEXT_SIZE` is always enough;
// `CURVE_TUN_ERR_FORKED`. Threads: any.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_stream_abort_text(const curve_tun_stream *stream,
                                             char *buffer,
                                             size_t capacity);

// Frees a stream; does nothing for NULL. One whose directions have not both ended is aborted with
// `CURVE_TUN_ABORT_GIVEN_UP`.
//
// Threads: the last call on this pointer. To end a stream that other threads wait on, shut its
// socket down, or abort the stream if they only read; wait for the threads, then free it. Returns
// at once.
void curve_tun_stream_free(curve_tun_stream *stream);

// # Streams without I/O
//
// A stream over a connection whose bytes the program moves, for event loops and bindings. It says
// and means the same as a stream over a socket ("Streams"), and never waits:
// `CURVE_TUN_ERR_WOULD_BLOCK` stands where a call on a socket would.
//
// The program goes on to move the bytes of the connection and to tick it. After bytes have come it
// calls the functions that read, until one returns `CURVE_TUN_ERR_WOULD_BLOCK`; after each call
// here it writes what the connection has for the transport (`curve_tun_connection_pending`), for
// reading may have to be answered. When the transport has ended it reports that to the connection
// (`curve_tun_connection_transport_ended`, or `_close` if it broke); what came before is still
// read, and then it is the end of the stream, or `CURVE_TUN_ERR_TRUNCATED`.
//
// Bounds. What a program does not read stays in the connection up to its receive high-water mark,
// and then in the transport. What it writes goes into the connection up to its send high-water
// mark; whoever wants less of it ahead of the transport sets that (`send_high_water`), or watches
// `curve_tun_connection_pending_len`.
//
// Closing. Once `curve_tun_stream_machine_is_finished` says so and nothing is pending, a server
// ends what it writes to the transport (`shutdown(fd, SHUT_WR)`), reads and drops what still comes
// until the client has closed, at most 2 seconds, and then closes; a client waits for the server's
// end, at most 1 second. Whoever closes with bytes unread has the system reset the transport, and
// with it what the peer has not read yet.
//
// A machine keeps its connection alive, and the program frees both, in any order. Calls on the two
// are calls on one object: "one at a time" holds for both together.

// One end of a stream over a connection without I/O.
typedef struct curve_tun_stream_machine curve_tun_stream_machine;

// Makes a stream of a connection that is connected and has not been used for messages. The OPEN of
// a client goes with its first call that writes, reads or asks for the peer.
//
// May return `CURVE_TUN_ERR_WRONG_STATE` before it is connected, and if a stream was made of it
// already; `CURVE_TUN_ERR_CLOSED`; `CURVE_TUN_ERR_INVALID_ARGUMENT` for options out of range;
// `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_stream_machine_new(curve_tun_connection *connection,
                                              const curve_tun_stream_options *options,
                                              curve_tun_stream_machine **machine);

// Gives in `*peer` what the peer said when it opened the stream. `peer->size` must be set; `peer`
// may be NULL. A server calls it before `curve_tun_stream_machine_accept`.
//
// May return `CURVE_TUN_ERR_WOULD_BLOCK` if the peer has not opened it yet. Otherwise as
// `curve_tun_stream_await_peer`. Threads: one at a time.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_stream_machine_peer(curve_tun_stream_machine *machine,
                                               curve_tun_stream_peer *peer);

// Takes the stream that a client has opened. To refuse it, call `curve_tun_stream_machine_abort`
// instead.
//
// May return `CURVE_TUN_ERR_WRONG_STATE` for a client, a second time, and before
// `curve_tun_stream_machine_peer` has returned `CURVE_TUN_OK`; what has ended the stream
// meanwhile; `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
CURVE_TUN_MUST_USE curve_tun_result curve_tun_stream_machine_accept(curve_tun_stream_machine *machine);

// Reads at least one and at most `capacity` bytes of a stream in `CURVE_TUN_MODE_STREAM` into
// `buffer`, and gives how many in `*len`. A length of 0 is the end, each time.
//
// May return `CURVE_TUN_ERR_WOULD_BLOCK` if there is nothing to read now. Otherwise as
// `curve_tun_stream_read`, except that what is wrong with a packet is told by the call that passes
// it to the connection. Threads: one at a time.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_stream_machine_read(curve_tun_stream_machine *machine,
                                               uint8_t *buffer,
                                               size_t capacity,
                                               size_t *len);

// Writes `len` bytes to a stream in `CURVE_TUN_MODE_STREAM`, and gives in `*written` how many of
// them were taken: all of them if it returns `CURVE_TUN_OK`, and also after a failure, where they
// may be fewer. A length of 0 seals what a client or a server has to say first.
//
// May return `CURVE_TUN_ERR_WOULD_BLOCK` at the send high-water mark: pass the bytes that were not
// taken again once the transport has taken some. Otherwise as `curve_tun_stream_write`. Threads:
// one at a time.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_stream_machine_write(curve_tun_stream_machine *machine,
                                                const uint8_t *bytes,
                                                size_t len,
                                                size_t *written);

// Sends one message of `len` bytes in `CURVE_TUN_MODE_MESSAGES`.
//
// May return `CURVE_TUN_ERR_WOULD_BLOCK` at the send high-water mark, and, for a message of more
// than 65,502 bytes, before the peer has opened the stream: call it again with the same message,
// once the transport has taken some bytes or has brought some. A part of the message may have been
// sent, so no other message goes before it. `CURVE_TUN_ERR_INVALID_ARGUMENT` for one of another
// length then. Otherwise as `curve_tun_stream_send_message`. Threads: one at a time.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_stream_machine_send_message(curve_tun_stream_machine *machine,
                                                       const uint8_t *message,
                                                       size_t len);

// Receives one message in `CURVE_TUN_MODE_MESSAGES`: gives a pointer to its `*len` bytes, which
// belong to the machine and are valid until the next call of this function on it. The pointer is
// NULL at the end of the stream, each time, and never otherwise.
//
// May return `CURVE_TUN_ERR_WOULD_BLOCK` if none has come whole. Otherwise as
// `curve_tun_stream_recv_message`. Threads: one at a time.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_stream_machine_recv_message(curve_tun_stream_machine *machine,
                                                       const uint8_t **message,
                                                       size_t *len);

// Ends what this end writes: the peer reads an end after all of it. Reading goes on.
//
// May return `CURVE_TUN_ERR_WOULD_BLOCK` at the send high-water mark: a further call goes on, as
// does any other on this machine. `CURVE_TUN_ERR_WRONG_STATE` in the middle of a message.
// Otherwise as `curve_tun_stream_finish_write`. A second call does nothing. Threads: one at a
// time.
CURVE_TUN_MUST_USE curve_tun_result curve_tun_stream_machine_finish_write(curve_tun_stream_machine *machine);

// Says whether both directions have ended as they should, and the connection has all that this end
// had to send. What of it is pending has to be written yet.
//
// false for NULL. Threads: one at a time.
bool curve_tun_stream_machine_is_finished(const curve_tun_stream_machine *machine);

// Gives the stream up in both directions, and tells the peer why, as `curve_tun_stream_abort`
// does.
//
// May return `CURVE_TUN_ERR_INVALID_ARGUMENT` for another code or text, `CURVE_TUN_ERR_FORKED`.
// Threads: one at a time.
curve_tun_result curve_tun_stream_machine_abort(curve_tun_stream_machine *machine,
                                                uint32_t code,
                                                const char *text);

// Gives the code of the peer's abort: one of `CURVE_TUN_ABORT_…`.
//
// May return `CURVE_TUN_ERR_NOT_FOUND` if the peer has not aborted the stream, as far as its
// messages have been read; `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_stream_machine_abort_code(const curve_tun_stream_machine *machine,
                                                     uint32_t *code);

// Writes the text of the peer's abort as a string, which is mostly empty, as
// `curve_tun_stream_abort_text` does.
//
// May return `CURVE_TUN_ERR_NOT_FOUND` as `curve_tun_stream_machine_abort_code`;
// `CURVE_TUN_ERR_TOO_SMALL`; `CURVE_TUN_ERR_FORKED`. Threads: one at a time.
CURVE_TUN_MUST_USE
curve_tun_result curve_tun_stream_machine_abort_text(const curve_tun_stream_machine *machine,
                                                     char *buffer,
                                                     size_t capacity);

// Frees a machine; does nothing for NULL. If its directions have not both ended, the stream is
// aborted with `CURVE_TUN_ABORT_GIVEN_UP`, which is added to the bytes that the connection has for
// the transport; a program that does not write them cuts the stream.
//
// Threads: the last call on this pointer, and not while another call on the connection runs.
void curve_tun_stream_machine_free(curve_tun_stream_machine *machine);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  // CURVE_TUN_H
