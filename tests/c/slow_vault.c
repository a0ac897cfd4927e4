/*
 * A custom vault whose calls take 50 ms each, under 100 handshakes at once: over blocking sockets,
 * and over connections that the program drives and whose requests it answers. No hello is answered
 * before all have been asked, so each test ends only if the calls run concurrently.
 */

#define _POSIX_C_SOURCE 200809L

#include "check.h"

#include <pthread.h>
#include <time.h>

#define CLIENTS 100

struct slow {
    curve_tun_vault *key;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int in_flight, most;
};

static void take_a_while(void)
{
    static const struct timespec duration = {0, 50 * 1000 * 1000};

    nanosleep(&duration, NULL);
}

/* Waits until all clients are being served at once, unless that has happened before. */
static void meet(struct slow *slow)
{
    struct timespec end;

    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += PATIENCE_MS / 1000;
    pthread_mutex_lock(&slow->mutex);
    if (++slow->in_flight > slow->most)
        slow->most = slow->in_flight;
    pthread_cond_broadcast(&slow->changed);
    while (slow->most < CLIENTS)
        CHECK(pthread_cond_timedwait(&slow->changed, &slow->mutex, &end) == 0);
    slow->in_flight--;
    pthread_mutex_unlock(&slow->mutex);
}

static int32_t slow_seal(void *user_data, uint32_t purpose, const uint8_t *peer, const uint8_t *message, size_t len,
                         uint8_t *nonce, uint8_t *sealed)
{
    struct slow *slow = user_data;

    take_a_while();
    return curve_tun_vault_box(slow->key, purpose, peer, message, len, nonce, sealed);
}

static int32_t slow_open(void *user_data, uint32_t purpose, const uint8_t *peer, const uint8_t *nonce, size_t nonce_len,
                         const uint8_t *sealed, size_t len, uint8_t *message)
{
    struct slow *slow = user_data;

    (void)nonce_len;
    meet(slow);
    take_a_while();
    return curve_tun_vault_box_open(slow->key, purpose, peer, nonce, sealed, len, message);
}

/* A server with such a vault, which knows the client of the world. */
static curve_tun_server *slow_server(struct world *w, struct slow *slow)
{
    curve_tun_vault_callbacks callbacks;
    curve_tun_vault *vault;
    curve_tun_server *server;

    memset(&callbacks, 0, sizeof callbacks);
    callbacks.size = sizeof callbacks;
    callbacks.deferred = 1;
    memcpy(callbacks.public_key, w->server_key, sizeof callbacks.public_key);
    callbacks.box_seal = slow_seal;
    callbacks.box_open = slow_open;
    pthread_mutex_lock(&slow->mutex);
    slow->in_flight = slow->most = 0;
    pthread_mutex_unlock(&slow->mutex);
    OK(curve_tun_vault_custom(&callbacks, slow, &vault));
    OK(curve_tun_server_new(vault, w->registry, &w->options, &server));
    curve_tun_vault_free(vault);
    return server;
}

struct end {
    struct world *world;
    uint16_t port;
    pthread_t thread;
};

static void *client(void *argument)
{
    struct end *end = argument;
    curve_tun_socket *sock;
    uint8_t message[8];
    size_t len;

    OK(curve_tun_socket_connect("127.0.0.1", end->port, end->world->client_vault, end->world->server_key,
                                &end->world->options, PATIENCE_MS, &sock));
    OK(curve_tun_socket_recv(sock, message, sizeof message, &len, PATIENCE_MS));
    CHECK(len == 5 && memcmp(message, "hello", 5) == 0);
    curve_tun_socket_free(sock);
    return NULL;
}

static void blocking_sockets(struct world *w, struct slow *slow)
{
    static struct end ends[CLIENTS];
    curve_tun_server *server = slow_server(w, slow);
    curve_tun_listener *listener;
    curve_tun_socket *sock;
    int i;

    OK(curve_tun_listener_open("127.0.0.1", 0, server, &listener));
    for (i = 0; i < CLIENTS; i++) {
        ends[i].world = w;
        ends[i].port = curve_tun_listener_port(listener);
        CHECK(pthread_create(&ends[i].thread, NULL, client, &ends[i]) == 0);
    }
    /* One thread accepts all of them. */
    for (i = 0; i < CLIENTS; i++) {
        OK(curve_tun_listener_accept(listener, PATIENCE_MS, &sock));
        OK(curve_tun_socket_send(sock, (const uint8_t *)"hello", 5, PATIENCE_MS));
        curve_tun_socket_free(sock);
    }
    for (i = 0; i < CLIENTS; i++)
        CHECK(pthread_join(ends[i].thread, NULL) == 0);
    CHECK(slow->most >= CLIENTS);
    curve_tun_listener_free(listener);
    curve_tun_server_free(server);
}

struct question {
    curve_tun_vault *vault;
    curve_tun_connection *client, *server;
    curve_tun_request request;
    curve_tun_answer answer;
    pthread_t thread;
};

static void *answer(void *argument)
{
    struct question *question = argument;

    OK(curve_tun_vault_answer(question->vault, &question->request, &question->answer));
    return NULL;
}

/* Answers the requests of all connections, on a thread each, while this thread could serve
 * others. */
static void answer_all(struct question *questions)
{
    int i;

    for (i = 0; i < CLIENTS; i++) {
        questions[i].request.size = sizeof questions[i].request;
        questions[i].answer.size = sizeof questions[i].answer;
        OK(curve_tun_connection_request(questions[i].server, &questions[i].request));
        CHECK(pthread_create(&questions[i].thread, NULL, answer, &questions[i]) == 0);
    }
    for (i = 0; i < CLIENTS; i++) {
        CHECK(pthread_join(questions[i].thread, NULL) == 0);
        OK(curve_tun_connection_answer(questions[i].server, &questions[i].answer));
    }
}

static void driven_by_the_program(struct world *w, struct slow *slow)
{
    static struct question questions[CLIENTS];
    curve_tun_vault_callbacks callbacks;
    curve_tun_server *server = slow_server(w, slow);
    curve_tun_vault *vault;
    int i;

    memset(&callbacks, 0, sizeof callbacks);
    callbacks.size = sizeof callbacks;
    callbacks.box_seal = slow_seal;
    callbacks.box_open = slow_open;
    OK(curve_tun_vault_custom(&callbacks, slow, &vault));
    for (i = 0; i < CLIENTS; i++) {
        questions[i].vault = vault;
        OK(curve_tun_connection_new_client(w->client_vault, w->server_key, &w->options, &questions[i].client));
        OK(curve_tun_connection_new_server(server, "127.0.0.1", &questions[i].server));
        OK(carry(questions[i].client, questions[i].server));
    }
    answer_all(questions);
    CHECK(slow->most >= CLIENTS);
    for (i = 0; i < CLIENTS; i++) {
        OK(carry(questions[i].server, questions[i].client));
        OK(carry(questions[i].client, questions[i].server));
    }
    answer_all(questions);
    for (i = 0; i < CLIENTS; i++) {
        CHECK(curve_tun_connection_state(questions[i].server) == CURVE_TUN_STATE_CONNECTED);
        curve_tun_connection_free(questions[i].client);
        curve_tun_connection_free(questions[i].server);
    }
    curve_tun_vault_free(vault);
    curve_tun_server_free(server);
}

int main(void)
{
    struct world w = new_world();
    struct slow slow;

    w.options.handshake_timeout_ms = PATIENCE_MS;
    w.options.handshakes_max = CLIENTS;
    /* Threads of the library read it, and no lock of this program orders that: so it is written
     * before they start. */
    slow.key = w.server_vault;
    CHECK(pthread_mutex_init(&slow.mutex, NULL) == 0 && pthread_cond_init(&slow.changed, NULL) == 0);
    blocking_sockets(&w, &slow);
    driven_by_the_program(&w, &slow);
    pthread_mutex_destroy(&slow.mutex);
    pthread_cond_destroy(&slow.changed);
    free_world(&w);
    return 0;
}
