/* Concurrent calls: first calls, one thread that sends while another receives, and a shutdown that
 * wakes both. */

#define _POSIX_C_SOURCE 200809L

#include "check.h"

#include <pthread.h>

#define FIRST_CALLERS 16
#define MESSAGES 400

#ifdef SODIUM_FIRST
/* The static library includes libsodium, which another user of it may have initialised already. */
int sodium_init(void);
#endif

static pthread_barrier_t start;

/* The process's first call, from many threads at once. */
static void *first_call(void *argument)
{
    uint8_t public_key[CURVE_TUN_KEY_BYTES], secret_key[CURVE_TUN_KEY_BYTES], again[CURVE_TUN_KEY_BYTES];
    curve_tun_vault *vault;

    (void)argument;
    pthread_barrier_wait(&start);
    OK(curve_tun_keypair_generate(public_key, secret_key));
    OK(curve_tun_vault_from_secret(secret_key, &vault));
    OK(curve_tun_vault_public_key(vault, again));
    CHECK(memcmp(public_key, again, sizeof again) == 0);
    curve_tun_vault_free(vault);
    return NULL;
}

static void first_calls(void)
{
    pthread_t threads[FIRST_CALLERS];
    int i;

    CHECK(pthread_barrier_init(&start, NULL, FIRST_CALLERS) == 0);
    for (i = 0; i < FIRST_CALLERS; i++)
        CHECK(pthread_create(&threads[i], NULL, first_call, NULL) == 0);
    for (i = 0; i < FIRST_CALLERS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    pthread_barrier_destroy(&start);
}

struct end {
    struct world *world;
    uint16_t port;
    curve_tun_socket *socket;
    curve_tun_result result;
};

static void *dial(void *argument)
{
    struct end *end = argument;

    OK(curve_tun_socket_connect("127.0.0.1", end->port, end->world->client_vault, end->world->server_key,
                                &end->world->options, PATIENCE_MS, &end->socket));
    return NULL;
}

static void *send_all(void *argument)
{
    struct end *end = argument;
    static const uint8_t zeros[CURVE_TUN_MESSAGE_MAX];
    size_t i;

    for (i = 0; i < MESSAGES; i++)
        OK(curve_tun_socket_send(end->socket, zeros, (i * 1009) % sizeof zeros, PATIENCE_MS));
    return NULL;
}

static void *recv_all(void *argument)
{
    struct end *end = argument;
    uint8_t *buffer = malloc(CURVE_TUN_MESSAGE_MAX);
    size_t i, len;

    CHECK(buffer != NULL);
    for (i = 0; i < MESSAGES; i++) {
        OK(curve_tun_socket_recv(end->socket, buffer, CURVE_TUN_MESSAGE_MAX, &len, PATIENCE_MS));
        CHECK(len == (i * 1009) % CURVE_TUN_MESSAGE_MAX);
    }
    free(buffer);
    return NULL;
}

/* Sends until the transport is full and the shutdown comes. */
static void *send_for_ever(void *argument)
{
    struct end *end = argument;
    static const uint8_t zeros[CURVE_TUN_MESSAGE_MAX];

    do
        end->result = curve_tun_socket_send(end->socket, zeros, sizeof zeros, -1);
    while (end->result == CURVE_TUN_OK);
    return NULL;
}

static void *recv_for_ever(void *argument)
{
    struct end *end = argument;
    uint8_t byte;
    size_t len;

    end->result = curve_tun_socket_recv(end->socket, &byte, 1, &len, -1);
    return NULL;
}

static void *accept_for_ever(void *listener)
{
    curve_tun_socket *socket;

    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_listener_accept(listener, -1, &socket));
    return NULL;
}

static void both_directions(curve_tun_socket *c, curve_tun_socket *s)
{
    struct end client = {NULL, 0, c, 0}, server = {NULL, 0, s, 0};
    pthread_t threads[4];
    int i;

    CHECK(pthread_create(&threads[0], NULL, send_all, &client) == 0);
    CHECK(pthread_create(&threads[1], NULL, recv_all, &client) == 0);
    CHECK(pthread_create(&threads[2], NULL, send_all, &server) == 0);
    CHECK(pthread_create(&threads[3], NULL, recv_all, &server) == 0);
    for (i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

static void shutdown_wakes(curve_tun_socket *c)
{
    struct end sender = {NULL, 0, c, 0}, receiver = {NULL, 0, c, 0};
    pthread_t sending, receiving;

    CHECK(pthread_create(&receiving, NULL, recv_for_ever, &receiver) == 0);
    CHECK(pthread_create(&sending, NULL, send_for_ever, &sender) == 0);
    curve_tun_socket_shutdown(c);
    CHECK(pthread_join(sending, NULL) == 0);
    CHECK(pthread_join(receiving, NULL) == 0);
    GIVES(CURVE_TUN_ERR_CLOSED, sender.result);
    GIVES(CURVE_TUN_ERR_CLOSED, receiver.result);
}

int main(void)
{
    curve_tun_listener *listener;
    curve_tun_socket *s;
    pthread_t dialing, accepting[2];
    struct world w;
    struct end end;
    int i;

#ifdef SODIUM_FIRST
    CHECK(sodium_init() == 0);
#endif
    first_calls();
    w = new_world();
    OK(curve_tun_listener_open("127.0.0.1", 0, w.server, &listener));
    end.world = &w;
    end.port = curve_tun_listener_port(listener);
    for (i = 0; i < 10; i++) {
        CHECK(pthread_create(&dialing, NULL, dial, &end) == 0);
        OK(curve_tun_listener_accept(listener, PATIENCE_MS, &s));
        CHECK(pthread_join(dialing, NULL) == 0);
        if (i == 0)
            both_directions(end.socket, s);
        shutdown_wakes(end.socket);
        curve_tun_socket_free(end.socket);
        curve_tun_socket_free(s);
    }
    for (i = 0; i < 2; i++)
        CHECK(pthread_create(&accepting[i], NULL, accept_for_ever, listener) == 0);
    curve_tun_listener_shutdown(listener);
    for (i = 0; i < 2; i++)
        CHECK(pthread_join(accepting[i], NULL) == 0);
    curve_tun_listener_free(listener);
    free_world(&w);
    return 0;
}
