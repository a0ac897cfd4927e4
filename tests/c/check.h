/* Shared by the C tests: checks that end the program, and a world of keys, vaults and servers. */

#ifndef CHECK_H
#define CHECK_H

#include "curve_tun.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNUSED_BY_SOME __attribute__((unused))

/* How long anything may take before a test considers it hung. */
#define PATIENCE_MS 60000

#define CHECK(condition)                                                             \
    do {                                                                             \
        if (!(condition)) {                                                          \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);  \
            exit(1);                                                                 \
        }                                                                            \
    } while (0)

/* Checks that a call returns a result. */
#define GIVES(expected, call)                                                                 \
    do {                                                                                      \
        curve_tun_result given = (call);                                                      \
        if (given != (expected)) {                                                            \
            fprintf(stderr, "%s:%d: %s gives %s, not %s\n", __FILE__, __LINE__, #call,        \
                    curve_tun_result_name(given), curve_tun_result_name(expected));           \
            exit(1);                                                                          \
        }                                                                                     \
    } while (0)

#define OK(call) GIVES(CURVE_TUN_OK, call)

/* A server that knows one client. */
struct world {
    curve_tun_options options;
    curve_tun_vault *server_vault, *client_vault;
    uint8_t server_key[CURVE_TUN_KEY_BYTES], client_key[CURVE_TUN_KEY_BYTES];
    curve_tun_registry *registry;
    curve_tun_server *server;
};

UNUSED_BY_SOME static struct world new_world(void)
{
    struct world w = {.options = CURVE_TUN_OPTIONS_INIT};

    OK(curve_tun_vault_generate(&w.server_vault));
    OK(curve_tun_vault_generate(&w.client_vault));
    OK(curve_tun_vault_public_key(w.server_vault, w.server_key));
    OK(curve_tun_vault_public_key(w.client_vault, w.client_key));
    OK(curve_tun_registry_new(&w.registry));
    OK(curve_tun_registry_add(w.registry, "127.0.0.1", w.client_key));
    OK(curve_tun_server_new(w.server_vault, w.registry, &w.options, &w.server));
    return w;
}

UNUSED_BY_SOME static void free_world(struct world *w)
{
    curve_tun_server_free(w->server);
    curve_tun_registry_free(w->registry);
    curve_tun_vault_free(w->client_vault);
    curve_tun_vault_free(w->server_vault);
}

/* Makes both ends of a connection in memory, before the first byte. */
UNUSED_BY_SOME static void new_pair(struct world *w, curve_tun_connection **client, curve_tun_connection **server)
{
    OK(curve_tun_connection_new_client(w->client_vault, w->server_key, &w->options, client));
    OK(curve_tun_connection_new_server(w->server, "127.0.0.1", server));
}

/* Moves pending bytes from one end to the other; returns the result of the reading end. */
UNUSED_BY_SOME static curve_tun_result carry(curve_tun_connection *from, curve_tun_connection *to)
{
    const uint8_t *bytes;
    size_t len, consumed;
    curve_tun_result result;

    while (curve_tun_connection_pending(from, &bytes, &len) == CURVE_TUN_OK && len > 0) {
        result = curve_tun_connection_read(to, bytes, len, &consumed);
        if (result != CURVE_TUN_OK) {
            /* As if a transport had taken them. */
            OK(curve_tun_connection_written(from, len));
            return result;
        }
        if (consumed == 0)
            break;
        OK(curve_tun_connection_written(from, consumed));
    }
    return CURVE_TUN_OK;
}

/* Makes both ends of an established connection in memory. */
UNUSED_BY_SOME static void connected_pair(struct world *w, curve_tun_connection **client,
                                          curve_tun_connection **server)
{
    new_pair(w, client, server);
    OK(carry(*client, *server));
    OK(carry(*server, *client));
    OK(carry(*client, *server));
    CHECK(curve_tun_connection_state(*client) == CURVE_TUN_STATE_CONNECTED);
    CHECK(curve_tun_connection_state(*server) == CURVE_TUN_STATE_CONNECTED);
}

#endif
