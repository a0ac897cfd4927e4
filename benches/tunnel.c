/*
 * curve_tun through its C ABI, measured in the same way as the programs in `reference`.
 *
 *     tunnel SECONDS ECHOES SETUPS
 *     tunnel seal SECONDS          sealing in memory, beside reference/sodium.c
 *     tunnel idle SETUPS COUNT...  connections made per second while COUNT idle ones are open, for each COUNT for which
 *                                  there are descriptors
 */

#include "bench.h"
#include "curve_tun.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define FOR_EVER (-1)
#define HOST "127.0.0.1"
/* A frame's bytes beyond its message. */
#define FRAME_OVERHEAD 34

struct end {
    curve_tun_socket *socket;
    uint8_t *buffer;
    /* The batch that this end sends repeatedly. */
    curve_tun_message *batch;
};

static curve_tun_vault *client_vault, *server_vault;
static curve_tun_server *server;
static curve_tun_listener *listener;
static uint8_t server_key[CURVE_TUN_KEY_BYTES];

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
    check("registry", curve_tun_registry_add(registry, HOST, client_key));
    check("server", curve_tun_server_new(server_vault, registry, NULL, &server));
    curve_tun_registry_free(registry);
}

static void tear_down(void)
{
    curve_tun_server_free(server);
    curve_tun_vault_free(client_vault);
    curve_tun_vault_free(server_vault);
}

static void tunnel_listen(enum job job)
{
    (void)job;
    check("listen", curve_tun_listener_open(HOST, 0, server, &listener));
}

static void tunnel_unlisten(void)
{
    curve_tun_listener_free(listener);
}

static struct end *new_end(curve_tun_socket *socket)
{
    struct end *end = malloc(sizeof *end);

    if (end == NULL || (end->buffer = malloc(MESSAGE_MAX)) == NULL)
        die("malloc");
    end->socket = socket;
    end->batch = NULL;
    return end;
}

static struct end *tunnel_accept(void)
{
    curve_tun_socket *socket;

    check("accept", curve_tun_listener_accept(listener, FOR_EVER, &socket));
    return new_end(socket);
}

static struct end *tunnel_connect(void)
{
    curve_tun_socket *socket;

    check("connect", curve_tun_socket_connect(HOST, curve_tun_listener_port(listener), client_vault, server_key, NULL,
                                              FOR_EVER, &socket));
    return new_end(socket);
}

static void tunnel_send(struct end *end, uint8_t *message, size_t size)
{
    check("send", curve_tun_socket_send(end->socket, message, size, FOR_EVER));
}

static void tunnel_send_many(struct end *end, uint8_t *message, size_t size, size_t count)
{
    if (end->batch == NULL) {
        size_t i;

        if ((end->batch = calloc(count, sizeof *end->batch)) == NULL)
            die("calloc");
        for (i = 0; i < count; i++) {
            end->batch[i].bytes = message;
            end->batch[i].len = size;
        }
    }
    check("send_many", curve_tun_socket_send_many(end->socket, end->batch, count, FOR_EVER));
}

static const uint8_t *tunnel_receive(struct end *end, size_t *size)
{
    curve_tun_result result = curve_tun_socket_recv(end->socket, end->buffer, MESSAGE_MAX, size, FOR_EVER);

    if (result == CURVE_TUN_ERR_CLOSED)
        return NULL;
    check("recv", result);
    return end->buffer;
}

static void tunnel_close(struct end *end)
{
    curve_tun_socket_free(end->socket);
    free(end->batch);
    free(end->buffer);
    free(end);
}

static void tunnel_queue(struct end *end, uint8_t *message, size_t size)
{
    check("queue", curve_tun_socket_queue(end->socket, message, size, FOR_EVER));
}

/* An end that waits for an answer flushes first. */
static const uint8_t *tunnel_flush_and_receive(struct end *end, size_t *size)
{
    curve_tun_result result = curve_tun_socket_flush(end->socket, FOR_EVER);

    if (result == CURVE_TUN_ERR_CLOSED)
        return NULL;
    check("flush", result);
    return tunnel_receive(end, size);
}

static const struct transport tunnel = {
    "curve_tun", tunnel_listen, tunnel_unlisten, tunnel_accept, tunnel_connect,
    tunnel_send, tunnel_send_many, tunnel_receive, tunnel_close, 1,
};

/* The same with queued messages. */
static const struct transport queued = {
    "curve_tun", tunnel_listen, tunnel_unlisten, tunnel_accept, tunnel_connect,
    tunnel_queue, NULL, tunnel_flush_and_receive, tunnel_close, 0,
};

/* Moves all pending bytes from one end to the other. */
static void carry(curve_tun_connection *from, curve_tun_connection *to)
{
    const uint8_t *bytes;
    size_t len, consumed;

    check("pending", curve_tun_connection_pending(from, &bytes, &len));
    check("read", curve_tun_connection_read(to, bytes, len, &consumed));
    check("written", curve_tun_connection_written(from, consumed));
}

static void measure_seal(double seconds)
{
    static uint8_t message[MESSAGE_MAX];
    curve_tun_connection *client, *peer;
    size_t i;

    check("client", curve_tun_connection_new_client(client_vault, server_key, NULL, &client));
    check("server", curve_tun_connection_new_server(server, HOST, &peer));
    carry(client, peer);
    carry(peer, client);
    carry(client, peer);
    for (i = 0; i < SIZES; i++) {
        double began = now(), took;
        long count = 0;

        do {
            int round;

            for (round = 0; round < 64; round++) {
                check("send", curve_tun_connection_send(client, message, sizes[i]));
                check("written", curve_tun_connection_written(client, sizes[i] + FRAME_OVERHEAD));
            }
            count += 64;
            took = now() - began;
        } while (took < seconds);
        row("curve_tun", "seal_in_c", sizes[i], took / (double)count * 1e9, "ns");
    }
    curve_tun_connection_free(client);
    curve_tun_connection_free(peer);
}

/* Idle connections, both ends of each in this process. */
struct idle {
    size_t count;
    struct end **accepted;
    struct end **connected;
};

static void *accept_idle(void *argument)
{
    struct idle *idle = argument;
    size_t i;

    for (i = 0; i < idle->count; i++)
        idle->accepted[i] = tunnel_accept();
    return NULL;
}

static void open_idle(struct idle *idle)
{
    pthread_t thread;
    size_t i;

    idle->accepted = calloc(idle->count + 1, sizeof *idle->accepted);
    idle->connected = calloc(idle->count + 1, sizeof *idle->connected);
    if (idle->accepted == NULL || idle->connected == NULL)
        die("calloc");
    tunnel_listen(JOB_STREAM);
    if (pthread_create(&thread, NULL, accept_idle, idle) != 0)
        die("pthread_create");
    for (i = 0; i < idle->count; i++)
        idle->connected[i] = tunnel_connect();
    pthread_join(thread, NULL);
    tunnel_unlisten();
}

static void close_idle(struct idle *idle)
{
    size_t i;

    for (i = 0; i < idle->count; i++) {
        tunnel_close(idle->connected[i]);
        tunnel_close(idle->accepted[i]);
    }
    free(idle->connected);
    free(idle->accepted);
}

/* Whether this process may open both ends of this many connections. */
static int descriptors_allow(size_t count)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 0;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= 2 * count + 100;
}

static void measure_beside_idle(size_t count, int setups)
{
    struct idle idle = {count, NULL, NULL};

    if (!descriptors_allow(count)) {
        fprintf(stderr, "too few descriptors for %zu idle connections (ulimit -Hn)\n", count);
        return;
    }
    open_idle(&idle);
    row("curve_tun", "setup_beside_idle", count, measure_setups(&tunnel, setups), "1/s");
    close_idle(&idle);
}

int main(int argc, char **argv)
{
    int i;

    set_up();
    if (argc > 2 && strcmp(argv[1], "seal") == 0) {
        measure_seal(atof(argv[2]));
    } else if (argc > 3 && strcmp(argv[1], "idle") == 0) {
        for (i = 3; i < argc; i++)
            measure_beside_idle(strtoul(argv[i], NULL, 10), atoi(argv[2]));
    } else {
        struct extent extent = extent_arguments(argc, argv);

        measure(&tunnel, extent);
        for (i = 0; i < SIZES; i++)
            measure_stream(&queued, "queued", sizes[i], 1, extent.seconds);
    }
    tear_down();
    return 0;
}
