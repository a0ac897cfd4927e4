/* After fork(), a child is refused the objects of its parent, can end them, and can make its own. */

#define _POSIX_C_SOURCE 200809L

#include "check.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

struct dial {
    struct world *world;
    uint16_t port;
    curve_tun_socket *socket;
};

static void *dial(void *argument)
{
    struct dial *d = argument;

    OK(curve_tun_connect("127.0.0.1", d->port, d->world->client_vault, d->world->server_key, &d->world->options,
                         PATIENCE_MS, &d->socket));
    return NULL;
}

#define IS_FORKED(call) GIVES(CURVE_TUN_ERR_FORKED, call)

static void in_child(struct world *w, curve_tun_connection *c, curve_tun_connection *s,
                     curve_tun_listener *listener, curve_tun_socket *client, curve_tun_socket *server)
{
    static uint8_t bytes[64], nonce[CURVE_TUN_NONCE_BYTES], sealed[64 + CURVE_TUN_BOX_OVERHEAD];
    curve_tun_socket *none;
    curve_tun_connection *own_c, *own_s;
    struct world own;
    const uint8_t *pending;
    uint8_t *room;
    int64_t next;
    size_t len;

    IS_FORKED(curve_tun_vault_box(w->client_vault, CURVE_TUN_PURPOSE_VOUCH, w->server_key, bytes, sizeof bytes,
                                  nonce, sealed));
    IS_FORKED(curve_tun_vault_box_open(w->client_vault, CURVE_TUN_PURPOSE_VOUCH, w->server_key, nonce, sealed,
                                       sizeof sealed, bytes));
    IS_FORKED(curve_tun_connection_send(c, bytes, 1));
    IS_FORKED(curve_tun_connection_read(c, bytes, 1, &len));
    IS_FORKED(curve_tun_connection_write(c, bytes, 1, &len));
    IS_FORKED(curve_tun_connection_pending(c, &pending, &len));
    IS_FORKED(curve_tun_connection_room(c, &room, &len));
    IS_FORKED(curve_tun_connection_filled(c, 0));
    IS_FORKED(curve_tun_connection_recv(s, bytes, sizeof bytes, &len));
    IS_FORKED(curve_tun_connection_tick(c, 0, &next));
    CHECK(!curve_tun_connection_wants_write(s));
    IS_FORKED(curve_tun_accept(listener, 0, &none));
    IS_FORKED(curve_tun_transport_accept(listener, 0, &none));
    IS_FORKED(curve_tun_send(client, bytes, 1, PATIENCE_MS));
    IS_FORKED(curve_tun_recv(client, bytes, sizeof bytes, &len, PATIENCE_MS));
    IS_FORKED(curve_tun_handshake(server, PATIENCE_MS));
    IS_FORKED(curve_tun_peer_key(client, bytes));
    /* None of these may reach the parent. */
    curve_tun_shutdown(client);
    curve_tun_listener_shutdown(listener);
    curve_tun_close(client);
    curve_tun_close(server);
    curve_tun_listener_close(listener);
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);
    free_world(w);

    own = new_world();
    connected_pair(&own, &own_c, &own_s);
    OK(curve_tun_connection_send(own_c, bytes, sizeof bytes));
    OK(carry(own_c, own_s));
    OK(curve_tun_connection_recv(own_s, bytes, sizeof bytes, &len));
    curve_tun_connection_free(own_c);
    curve_tun_connection_free(own_s);
    free_world(&own);
}

int main(void)
{
    struct world w = new_world();
    curve_tun_connection *c, *s;
    curve_tun_listener *listener;
    curve_tun_socket *server;
    struct dial d = {&w, 0, NULL};
    uint8_t byte;
    size_t len;
    pthread_t thread;
    pid_t child;
    int status;

    connected_pair(&w, &c, &s);
    OK(curve_tun_connection_send(s, (const uint8_t *)"x", 1));
    OK(curve_tun_listen("127.0.0.1", 0, w.server, &listener));
    d.port = curve_tun_listener_port(listener);
    CHECK(pthread_create(&thread, NULL, dial, &d) == 0);
    OK(curve_tun_accept(listener, PATIENCE_MS, &server));
    CHECK(pthread_join(thread, NULL) == 0);

    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        in_child(&w, c, s, listener, d.socket, server);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);

    /* The parent's objects are as they were. */
    OK(carry(s, c));
    OK(curve_tun_connection_recv(c, &byte, 1, &len));
    OK(curve_tun_send(d.socket, &byte, 1, PATIENCE_MS));
    OK(curve_tun_recv(server, &byte, 1, &len, PATIENCE_MS));
    CHECK(byte == 'x');
    curve_tun_close(d.socket);
    CHECK(pthread_create(&thread, NULL, dial, &d) == 0);
    curve_tun_close(server);
    OK(curve_tun_accept(listener, PATIENCE_MS, &server));
    CHECK(pthread_join(thread, NULL) == 0);
    curve_tun_close(d.socket);
    curve_tun_close(server);
    curve_tun_listener_close(listener);
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);
    free_world(&w);
    return 0;
}
