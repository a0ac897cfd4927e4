/* After fork(), a child cannot use its parent's objects, but can free them, and can make its
 * own. */

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

    OK(curve_tun_socket_connect("127.0.0.1", d->port, d->world->client_vault, d->world->server_key, &d->world->options,
                                PATIENCE_MS, &d->socket));
    return NULL;
}

#define IS_FORKED(call) GIVES(CURVE_TUN_ERR_FORKED, call)

static void never(void *user_data)
{
    (void)user_data;
    CHECK(false);
}

/* A child does not report handshakes that its parent began. */
static void parents_observer(void *user_data, const curve_tun_handshake_event *event)
{
    CHECK(getpid() == *(pid_t *)user_data);
    (void)event;
}

static void in_child(struct world *w, curve_tun_connection *c, curve_tun_connection *s,
                     curve_tun_connection *in_flight, curve_tun_listener *listener, curve_tun_socket *client, curve_tun_socket *server)
{
    static uint8_t bytes[64], nonce[CURVE_TUN_NONCE_BYTES], sealed[64 + CURVE_TUN_BOX_OVERHEAD];
    curve_tun_request request = {.size = sizeof request};
    curve_tun_answer answer = {.size = sizeof answer};
    curve_tun_socket *none;
    curve_tun_listener *own_listener;
    curve_tun_server *own_server;
    bool accepted;
    curve_tun_connection *own_c, *own_s;
    struct world own;
    const uint8_t *pending;
    uint8_t *place;
    curve_tun_message message = {bytes, 1};
    uint16_t port;
    uint32_t scope;
    int64_t next;
    size_t len;
    int i;

    IS_FORKED(curve_tun_vault_box(w->client_vault, CURVE_TUN_PURPOSE_VOUCH, w->server_key, bytes, sizeof bytes,
                                  nonce, sealed));
    IS_FORKED(curve_tun_vault_box_open(w->client_vault, CURVE_TUN_PURPOSE_VOUCH, w->server_key, nonce, sealed,
                                       sizeof sealed, bytes));
    IS_FORKED(curve_tun_connection_send(c, bytes, 1));
    IS_FORKED(curve_tun_connection_send_many(c, &message, 1, &len));
    IS_FORKED(curve_tun_connection_peek(s, &pending, &len));
    IS_FORKED(curve_tun_connection_consume(s));
    CHECK(curve_tun_connection_pending_len(s) == 0);
    IS_FORKED(curve_tun_connection_read(c, bytes, 1, &len));
    IS_FORKED(curve_tun_connection_write(c, bytes, 1, &len));
    IS_FORKED(curve_tun_connection_pending(c, &pending, &len));
    IS_FORKED(curve_tun_connection_read_buffer(c, &place, &len));
    IS_FORKED(curve_tun_connection_read_commit(c, 0));
    IS_FORKED(curve_tun_connection_recv(s, bytes, sizeof bytes, &len));
    IS_FORKED(curve_tun_connection_tick(c, 0, &next));
    IS_FORKED(curve_tun_connection_written(s, 0));
    IS_FORKED(curve_tun_connection_peer_key(s, bytes));
    IS_FORKED(curve_tun_connection_transport_ended(s));
    IS_FORKED(curve_tun_connection_on_evict(s, never, NULL));
    IS_FORKED(curve_tun_connection_request(s, &request));
    IS_FORKED(curve_tun_connection_answer(s, &answer));
    CHECK(!curve_tun_connection_wants_read(s));
    CHECK(curve_tun_connection_state(s) == CURVE_TUN_STATE_CLOSED);
    IS_FORKED(curve_tun_connection_new_server(w->server, "192.0.2.7", &own_s));
    IS_FORKED(curve_tun_connection_new_server_ip(w->server, bytes, 4, &own_s));
    IS_FORKED(curve_tun_connection_new_client(w->client_vault, w->server_key, &w->options, &own_c));
    IS_FORKED(curve_tun_listener_open("127.0.0.1", 0, w->server, &own_listener));
    IS_FORKED(curve_tun_socket_connect("127.0.0.1", 1, w->client_vault, w->server_key, &w->options, 0, &none));
    IS_FORKED(curve_tun_vault_public_key(w->client_vault, bytes));
    IS_FORKED(curve_tun_vault_answer(w->client_vault, &request, &answer));
    IS_FORKED(curve_tun_registry_add(w->registry, "*", w->client_key));
    IS_FORKED(curve_tun_registry_remove(w->registry, "*", w->client_key));
    IS_FORKED(curve_tun_registry_lookup(w->registry, "192.0.2.7", bytes));
    IS_FORKED(curve_tun_registry_verify(w->registry, "192.0.2.7", w->client_key, &accepted));
    IS_FORKED(curve_tun_server_new(w->server_vault, w->registry, &w->options, &own_server));
    IS_FORKED(curve_tun_server_observe(w->server, parents_observer, NULL, NULL));
    CHECK(curve_tun_listener_port(listener) == 0 && curve_tun_socket_fd(client) == -1);
    CHECK(!curve_tun_connection_wants_write(s));
    IS_FORKED(curve_tun_listener_accept(listener, 0, &none));
    IS_FORKED(curve_tun_listener_transport_accept(listener, 0, &none));
    IS_FORKED(curve_tun_socket_send(client, bytes, 1, PATIENCE_MS));
    IS_FORKED(curve_tun_socket_queue(client, bytes, 1, PATIENCE_MS));
    IS_FORKED(curve_tun_socket_flush(client, PATIENCE_MS));
    IS_FORKED(curve_tun_socket_peer_ip(client, bytes, &len, &port, &scope));
    IS_FORKED(curve_tun_socket_recv(client, bytes, sizeof bytes, &len, PATIENCE_MS));
    IS_FORKED(curve_tun_socket_handshake(server, PATIENCE_MS));
    IS_FORKED(curve_tun_socket_peer_key(client, bytes));
    /* None of these calls may affect the parent. */
    curve_tun_socket_shutdown(client);
    curve_tun_listener_shutdown(listener);
    curve_tun_socket_free(client);
    curve_tun_socket_free(server);
    curve_tun_listener_free(listener);
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);
    curve_tun_connection_free(in_flight);
    free_world(w);

    /* Threads of these get the memory of threads that exist only in the parent. */
    for (i = 0; i < 50; i++) {
        own = new_world();
        connected_pair(&own, &own_c, &own_s);
        OK(curve_tun_connection_send(own_c, bytes, sizeof bytes));
        OK(carry(own_c, own_s));
        OK(curve_tun_connection_recv(own_s, bytes, sizeof bytes, &len));
        curve_tun_connection_free(own_c);
        curve_tun_connection_free(own_s);
        free_world(&own);
    }
}

int main(void)
{
    struct world w = new_world();
    curve_tun_connection *c, *s, *in_flight;
    curve_tun_listener *listener;
    curve_tun_socket *server;
    struct dial d = {&w, 0, NULL};
    uint8_t byte;
    size_t len;
    pthread_t thread;
    pid_t child, own = getpid();
    int status;

    OK(curve_tun_server_observe(w.server, parents_observer, &own, NULL));
    connected_pair(&w, &c, &s);
    OK(curve_tun_connection_new_server(w.server, "127.0.0.1", &in_flight));
    OK(curve_tun_connection_send(s, (const uint8_t *)"x", 1));
    OK(curve_tun_listener_open("127.0.0.1", 0, w.server, &listener));
    d.port = curve_tun_listener_port(listener);
    CHECK(pthread_create(&thread, NULL, dial, &d) == 0);
    OK(curve_tun_listener_accept(listener, PATIENCE_MS, &server));
    CHECK(pthread_join(thread, NULL) == 0);

    /* Queued messages are sent once, and not by the child. */
    OK(curve_tun_socket_queue(d.socket, (const uint8_t *)"q", 1, PATIENCE_MS));
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        in_child(&w, c, s, in_flight, listener, d.socket, server);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);

    /* The parent's objects are unchanged. */
    OK(carry(s, c));
    OK(curve_tun_connection_recv(c, &byte, 1, &len));
    OK(curve_tun_socket_send(d.socket, &byte, 1, PATIENCE_MS));
    OK(curve_tun_socket_recv(server, &byte, 1, &len, PATIENCE_MS));
    CHECK(byte == 'q');
    OK(curve_tun_socket_recv(server, &byte, 1, &len, PATIENCE_MS));
    CHECK(byte == 'x');
    curve_tun_socket_free(d.socket);
    CHECK(pthread_create(&thread, NULL, dial, &d) == 0);
    curve_tun_socket_free(server);
    OK(curve_tun_listener_accept(listener, PATIENCE_MS, &server));
    CHECK(pthread_join(thread, NULL) == 0);
    curve_tun_socket_free(d.socket);
    curve_tun_socket_free(server);
    curve_tun_listener_free(listener);
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);
    curve_tun_connection_free(in_flight);
    free_world(&w);
    return 0;
}
