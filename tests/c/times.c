/* Every function that takes a time accepts every value of its type. */

#include "check.h"

#include <pthread.h>

static const int64_t longest[] = {INT64_MAX, INT64_MAX - 1, INT64_MAX / 1000, INT32_MAX, -1, INT64_MIN};

struct dial {
    struct world *world;
    uint16_t port;
    int64_t timeout_ms;
    curve_tun_result result;
    curve_tun_socket *socket;
};

static void *dial(void *argument)
{
    struct dial *d = argument;

    d->result = curve_tun_socket_connect("127.0.0.1", d->port, d->world->client_vault, d->world->server_key,
                                         &d->world->options, d->timeout_ms, &d->socket);
    return NULL;
}

static void sockets(struct world *w, curve_tun_listener *listener, int64_t timeout_ms, bool in_steps)
{
    struct dial d = {w, curve_tun_listener_port(listener), timeout_ms, CURVE_TUN_OK, NULL};
    curve_tun_message many = {(const uint8_t *)"many", 4};
    curve_tun_socket *server;
    uint8_t received[4];
    pthread_t thread;
    size_t len;

    CHECK(pthread_create(&thread, NULL, dial, &d) == 0);
    if (in_steps) {
        OK(curve_tun_listener_transport_accept(listener, timeout_ms, &server));
        OK(curve_tun_socket_handshake(server, timeout_ms));
    } else {
        OK(curve_tun_listener_accept(listener, timeout_ms, &server));
    }
    CHECK(pthread_join(thread, NULL) == 0);
    OK(d.result);
    OK(curve_tun_socket_send(d.socket, (const uint8_t *)"here", 4, timeout_ms));
    OK(curve_tun_socket_recv(server, received, sizeof received, &len, timeout_ms));
    CHECK(len == 4 && memcmp(received, "here", 4) == 0);
    OK(curve_tun_socket_send_many(server, &many, 1, timeout_ms));
    OK(curve_tun_socket_recv(d.socket, received, sizeof received, &len, timeout_ms));
    CHECK(len == 4 && memcmp(received, "many", 4) == 0);
    curve_tun_socket_free(d.socket);
    curve_tun_socket_free(server);
}

/* A connection's clock, from beginning to end. */
static void clocks(struct world *w)
{
    static const int64_t times[] = {0, 1, INT64_MAX - 1, INT64_MAX, 0};
    curve_tun_connection *ends[2];
    curve_tun_result result;
    int64_t next;
    size_t i, end;

    new_pair(w, &ends[0], &ends[1]);
    for (end = 0; end < 2; end++) {
        GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_connection_tick(ends[end], -1, &next));
        GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_connection_tick(ends[end], INT64_MIN, &next));
        for (i = 0; i < sizeof times / sizeof *times; i++) {
            result = curve_tun_connection_tick(ends[end], times[i], &next);
            if (result == CURVE_TUN_OK)
                CHECK(next >= times[i] || next == -1);
            else
                CHECK(result == CURVE_TUN_ERR_TIMEOUT || result == CURVE_TUN_ERR_CLOSED);
        }
        curve_tun_connection_free(ends[end]);
    }
}

int main(void)
{
    struct world w = new_world();
    curve_tun_listener *listener;
    curve_tun_server *server;
    curve_tun_socket *none;
    size_t i;

    OK(curve_tun_listener_open("127.0.0.1", 0, w.server, &listener));
    for (i = 0; i < sizeof longest / sizeof *longest; i++) {
        sockets(&w, listener, longest[i], false);
        sockets(&w, listener, longest[i], true);
    }
    GIVES(CURVE_TUN_ERR_TIMEOUT, curve_tun_listener_accept(listener, 0, &none));
    GIVES(CURVE_TUN_ERR_TIMEOUT, curve_tun_listener_transport_accept(listener, 0, &none));
    curve_tun_listener_free(listener);
    clocks(&w);
    /* The same with a handshake that has unlimited time. */
    w.options.handshake_timeout_ms = INT64_MAX;
    OK(curve_tun_server_new(w.server_vault, w.registry, &w.options, &server));
    OK(curve_tun_listener_open("127.0.0.1", 0, server, &listener));
    sockets(&w, listener, INT64_MAX, false);
    curve_tun_listener_free(listener);
    curve_tun_server_free(server);
    clocks(&w);
    free_world(&w);
    return 0;
}
