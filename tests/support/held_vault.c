/*
 * To be loaded before other libraries: tells the test of each question to a vault that answers
 * later, and holds each call until the test lets it go on.
 *
 * Each report is a connection to the Unix socket in HELD_VAULT, over which go a letter and the
 * peer's public key: A when the question is where those who ask find it, C when the vault is
 * called. The test answers with one byte.
 */

#define _GNU_SOURCE

#include "curve_tun.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void *next(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);

    if (function == NULL)
        abort();
    return function;
}

static void report(char what, const uint8_t *key)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char bytes[1 + CURVE_TUN_KEY_BYTES];
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strncpy(address.sun_path, getenv("HELD_VAULT"), sizeof address.sun_path - 1);
    bytes[0] = what;
    memcpy(bytes + 1, key, CURVE_TUN_KEY_BYTES);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        send(fd, bytes, sizeof bytes, MSG_NOSIGNAL) != (ssize_t)sizeof bytes)
        abort();
    /* Until the test has taken note; or, if it is gone, until the end. */
    if (recv(fd, bytes, 1, 0) < 0)
        abort();
    close(fd);
}

/* No deadline but the test's own ends a handshake. */
curve_tun_result curve_tun_server_new(const curve_tun_vault *vault, const curve_tun_registry *registry,
                                      const curve_tun_options *options, curve_tun_server **server)
{
    curve_tun_result (*real)(const curve_tun_vault *, const curve_tun_registry *, const curve_tun_options *,
                             curve_tun_server **);
    curve_tun_options patient = CURVE_TUN_OPTIONS_INIT;

    *(void **)&real = next("curve_tun_server_new");
    if (options != NULL)
        patient = *options;
    patient.handshake_timeout_ms = INT64_MAX;
    return real(vault, registry, &patient, server);
}

/* The question that this thread has taken from a connection, until the connection's next tick:
 * before that it has been put among those that wait. */
static __thread uint8_t taken[CURVE_TUN_KEY_BYTES];
static __thread bool has_taken;

curve_tun_result curve_tun_connection_request(curve_tun_connection *connection,
                                              curve_tun_request *request)
{
    curve_tun_result (*real)(curve_tun_connection *, curve_tun_request *);
    curve_tun_result result;

    *(void **)&real = next("curve_tun_connection_request");
    result = real(connection, request);
    if (result == CURVE_TUN_OK) {
        memcpy(taken, request->peer_public_key, sizeof taken);
        has_taken = true;
    }
    return result;
}

curve_tun_result curve_tun_connection_tick(curve_tun_connection *connection, int64_t now_ms,
                                           int64_t *next_deadline_ms)
{
    curve_tun_result (*real)(curve_tun_connection *, int64_t, int64_t *);

    if (has_taken)
        report('A', taken);
    has_taken = false;
    *(void **)&real = next("curve_tun_connection_tick");
    return real(connection, now_ms, next_deadline_ms);
}

curve_tun_result curve_tun_vault_answer(const curve_tun_vault *vault,
                                        const curve_tun_request *request, curve_tun_answer *answer)
{
    curve_tun_result (*real)(const curve_tun_vault *, const curve_tun_request *,
                             curve_tun_answer *);

    report('C', request->peer_public_key);
    *(void **)&real = next("curve_tun_vault_answer");
    return real(vault, request, answer);
}
