/*
 * Runs one operation of the library a fixed number of times, so that callgrind counts the
 * instructions of `measured` alone. Bytes move in memory; there are no sockets and no clocks. The
 * cryptography does the same for all keys and messages of one size, so random keys give equal
 * counts.
 *
 *     counts seal SIZE | open SIZE | handshake
 */

#include "curve_tun.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How often `measured` runs its operation. */
#define MESSAGES 64
#define HANDSHAKES 4

struct pair {
    curve_tun_connection *client;
    curve_tun_connection *server;
};

static curve_tun_vault *client_vault, *server_vault;
static curve_tun_server *server;
static uint8_t server_key[CURVE_TUN_KEY_BYTES];
static uint8_t message[CURVE_TUN_MESSAGE_MAX];

static void check(const char *what, curve_tun_result result)
{
    if (result != CURVE_TUN_OK) {
        fprintf(stderr, "%s: %s\n", what, curve_tun_result_message(result));
        exit(EXIT_FAILURE);
    }
}

static void set_up(void)
{
    curve_tun_registry *registry;
    uint8_t client_key[CURVE_TUN_KEY_BYTES];

    check("vault", curve_tun_vault_generate(&client_vault));
    check("vault", curve_tun_vault_generate(&server_vault));
    check("key", curve_tun_vault_public_key(client_vault, client_key));
    check("key", curve_tun_vault_public_key(server_vault, server_key));
    check("registry", curve_tun_registry_new(&registry));
    check("registry", curve_tun_registry_add(registry, "127.0.0.1", client_key));
    check("server", curve_tun_server_new(server_vault, registry, NULL, &server));
    curve_tun_registry_free(registry);
}

/* Moves all pending bytes from one end to the other. */
static void carry(curve_tun_connection *from, curve_tun_connection *to)
{
    const uint8_t *bytes;
    size_t len;

    check("pending", curve_tun_connection_pending(from, &bytes, &len));
    while (len > 0) {
        uint8_t *buffer;
        size_t count;

        check("buffer", curve_tun_connection_read_buffer(to, &buffer, &count));
        if (count > len)
            count = len;
        memcpy(buffer, bytes, count);
        check("commit", curve_tun_connection_read_commit(to, count));
        check("written", curve_tun_connection_written(from, count));
        check("pending", curve_tun_connection_pending(from, &bytes, &len));
    }
}

static struct pair connect_pair(void)
{
    struct pair pair;

    check("client", curve_tun_connection_new_client(client_vault, server_key, NULL, &pair.client));
    check("server", curve_tun_connection_new_server(server, "127.0.0.1", &pair.server));
    carry(pair.client, pair.server);
    carry(pair.server, pair.client);
    carry(pair.client, pair.server);
    if (curve_tun_connection_state(pair.server) != CURVE_TUN_STATE_CONNECTED)
        check("handshake", CURVE_TUN_ERR_INTERNAL);
    return pair;
}

static void free_pair(struct pair pair)
{
    curve_tun_connection_free(pair.client);
    curve_tun_connection_free(pair.server);
}

static void send_messages(struct pair pair, size_t size)
{
    int i;

    for (i = 0; i < MESSAGES; i++)
        check("send", curve_tun_connection_send(pair.client, message, size));
}

/* Receives what the client has sent, a batch at a time, as from a transport. */
static void receive_messages(struct pair pair)
{
    static uint8_t buffer[CURVE_TUN_MESSAGE_MAX];
    const uint8_t *bytes;
    size_t len, consumed, message_len;

    check("pending", curve_tun_connection_pending(pair.client, &bytes, &len));
    while (len > 0) {
        check("read", curve_tun_connection_read(pair.server, bytes, len, &consumed));
        bytes += consumed;
        len -= consumed;
        while (curve_tun_connection_recv(pair.server, buffer, sizeof buffer, &message_len) == CURVE_TUN_OK)
            ;
    }
}

/* The only function whose instructions are counted. */
__attribute__((noinline)) static void measured(const char *operation, struct pair pair, size_t size)
{
    int i;

    if (strcmp(operation, "seal") == 0) {
        send_messages(pair, size);
    } else if (strcmp(operation, "open") == 0) {
        receive_messages(pair);
    } else {
        for (i = 0; i < HANDSHAKES; i++)
            free_pair(connect_pair());
    }
}

/* Discards what the client has sent. */
static void discard(struct pair pair)
{
    const uint8_t *bytes;
    size_t len;

    check("pending", curve_tun_connection_pending(pair.client, &bytes, &len));
    check("written", curve_tun_connection_written(pair.client, len));
}

int main(int argc, char **argv)
{
    struct pair pair;
    size_t size = 0;
    const char *operation = argc > 1 ? argv[1] : "";

    if (strcmp(operation, "handshake") != 0) {
        if (argc < 3 || (strcmp(operation, "seal") != 0 && strcmp(operation, "open") != 0)) {
            fprintf(stderr, "%s seal SIZE | open SIZE | handshake\n", argv[0]);
            return EXIT_FAILURE;
        }
        size = strtoul(argv[2], NULL, 10);
    }
    set_up();
    pair = connect_pair();
    /* The buffers have their size, and the peer is known, before counting begins. */
    send_messages(pair, size);
    if (strcmp(operation, "open") == 0) {
        receive_messages(pair);
        discard(pair);
        send_messages(pair, size);
    } else {
        discard(pair);
    }
    measured(operation, pair, size);
    free_pair(pair);
    curve_tun_server_free(server);
    curve_tun_vault_free(client_vault);
    curve_tun_vault_free(server_vault);
    return 0;
}
