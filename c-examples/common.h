/* Shared by the examples: turns arguments into objects, and exits if they are invalid. */

#ifndef COMMON_H
#define COMMON_H

#include "curve_tun.h"

/* Prints "what: why" and exits with status 1. */
void fail(const char *what, const char *why);

/* The exit status for a wrong passphrase or PIN, or a locked token: a service manager must not
 * restart the program then. */
#define PASSPHRASE_REFUSED 4

/* Exits unless the result is CURVE_TUN_OK; with PASSPHRASE_REFUSED if that is the cause. */
void check(const char *what, curve_tun_result result);


/* Reads a decimal number from min to max. */
unsigned long number_argument(const char *text, unsigned long min, unsigned long max);

/* Reads a port from its decimal digits. */
uint16_t port_argument(const char *text);

/* Reads a public key from its text. */
void public_key_argument(const char *text, uint8_t public_key[CURVE_TUN_KEY_BYTES]);

/* Reads the first line of a file, without its line end, and returns its length. The line has to fit
 * together with the line end. The caller wipes it. A file that anybody but its owner and group can
 * read is refused. */
size_t read_secret_line(const char *path, void *line, size_t size);

/* Opens a stored vault: "vault:FILE" in a file, "agent:SOCKET" with the agent at a socket, or
 * "pkcs11:..." in the token that this URI names. The first line of passphrase_file, which may be
 * NULL, is the vault's passphrase or the token's PIN. */
curve_tun_vault *kept_vault_argument(const char *text, const char *passphrase_file);

/* Makes a vault from the text of a secret key, or from "@FILE", a file that begins with it; or
 * opens a stored one. */
curve_tun_vault *vault_argument(const char *text);

/* The arguments of both servers: [--verbose] [--handshakes N] [--per-source N] HOST PORT SECRET
 * PEER_PUBLIC [PEER_PUBLIC...] */
struct service {
    const char *host;
    uint16_t port;
    curve_tun_server *server;
    curve_tun_vault *vault;  /* The server's. */
    bool verbose;            /* Whether to report refused clients: refusals.h. */
};

/* Makes a server that lets the given peers in from anywhere. The caller frees server and vault. */
struct service service_arguments(int argc, char **argv);

/* Blocks SIGTERM and SIGINT in this thread and those that it starts later, for sigwait or
 * signalfd. */
void block_end_signals(void);

#endif
