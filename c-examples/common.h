/* What the examples share: arguments to objects, and a way out when they are wrong. */

#ifndef COMMON_H
#define COMMON_H

#include "curve_tun.h"

/* Prints "what: why" and exits with 1. */
void fail(const char *what, const char *why);

/* The exit status for a passphrase or a PIN that is wrong or locked: a service manager is not to
 * start the program again. */
#define PASSPHRASE_REFUSED 4

/* Fails unless the result is CURVE_TUN_OK; with PASSPHRASE_REFUSED if it says so. */
void check(const char *what, curve_tun_result result);


/* A decimal number from min to max. */
unsigned long number_argument(const char *text, unsigned long min, unsigned long max);

/* A port from its decimal digits. */
uint16_t port_argument(const char *text);

/* A public key from its text. */
void public_key_argument(const char *text, uint8_t public_key[CURVE_TUN_KEY_BYTES]);

/* Reads the first line of a file, without its end; gives its length. It must fit with the end. The
 * caller wipes it. A file that others than its owner and group can read is refused. */
size_t read_secret_line(const char *path, void *line, size_t size);

/* A vault that is kept: "vault:FILE" in a file, "agent:SOCKET" by the agent at a socket, or in the
 * token of a URI, "pkcs11:...". The first line of passphrase_file, which may be NULL, is the
 * vault's passphrase or the token's PIN. */
curve_tun_vault *kept_vault_argument(const char *text, const char *passphrase_file);

/* A vault from the text of a secret key, or from "@FILE", a file that begins with it; or one that
 * is kept. */
curve_tun_vault *vault_argument(const char *text);

/* What both servers take: [--verbose] [--handshakes N] [--per-source N] HOST PORT SECRET
 * PEER_PUBLIC [PEER_PUBLIC...] */
struct service {
    const char *host;
    uint16_t port;
    curve_tun_server *server;
    curve_tun_vault *vault;  /* The server's. */
    bool verbose;            /* Whether to say whom the server turns away: refusals.h. */
};

/* Makes a server that lets the given peers in from anywhere. Server and vault are the caller's to
 * free. */
struct service service_arguments(int argc, char **argv);

/* Blocks SIGTERM and SIGINT in this thread and in those that it will start, for sigwait or
 * signalfd. */
void block_end_signals(void);

#endif
