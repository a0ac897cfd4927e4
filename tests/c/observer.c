/* A server's observer: which clients it let in, which it turned away and why, and who owns the
 * observer's data. */

#define _POSIX_C_SOURCE 200809L

#include "check.h"

#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

/* The observer's last report, and the number of reports. */
struct told {
    curve_tun_server *server;
    curve_tun_listener *to_shut_down;
    curve_tun_handshake_outcome outcome;
    curve_tun_result result;
    char address[CURVE_TUN_ADDRESS_TEXT_SIZE];
    uint8_t key[CURVE_TUN_KEY_BYTES];
    bool proven;
    unsigned times, freed;
};

static void observe(void *user_data, const curve_tun_handshake_event *event)
{
    struct told *told = user_data;

    CHECK(event->size == sizeof *event);
    CHECK(strlen(event->address) < sizeof told->address);
    strcpy(told->address, event->address);
    told->outcome = event->outcome;
    told->result = event->result;
    told->proven = event->public_key != NULL;
    if (told->proven)
        memcpy(told->key, event->public_key, sizeof told->key);
    told->times++;
    /* Calls on the server from inside the observer do not deadlock. */
    if (told->server != NULL)
        GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_server_observe(told->server, observe, NULL, NULL));
    if (told->to_shut_down != NULL)
        curve_tun_listener_shutdown(told->to_shut_down);
}

static void freed(void *user_data)
{
    ((struct told *)user_data)->freed++;
}

static void never(void *user_data)
{
    (void)user_data;
    CHECK(false);
}

/* Checks that there was one more report, of a client without a proven key. */
static void is_told(struct told *told, curve_tun_handshake_outcome outcome, curve_tun_result result)
{
    CHECK(told->times == 1);
    CHECK(told->outcome == outcome && !told->proven);
    GIVES(result, told->result);
    CHECK(strcmp(told->address, "127.0.0.1") == 0);
    told->times = 0;
}

static void is_told_of(struct told *told, const uint8_t *key, curve_tun_handshake_outcome outcome,
                       curve_tun_result result)
{
    CHECK(told->proven && memcmp(told->key, key, sizeof told->key) == 0);
    told->proven = false;
    is_told(told, outcome, result);
}

static struct told observed(struct world *w)
{
    struct told told = {0};

    told.server = w->server;
    return told;
}

static void in_memory(void)
{
    struct world w = new_world();
    struct told told = observed(&w), other = told;
    curve_tun_connection *c, *s;
    curve_tun_vault *stranger;
    uint8_t stranger_key[CURVE_TUN_KEY_BYTES];
    size_t len;

    OK(curve_tun_server_observe(w.server, observe, &told, freed));
    /* A caller whose observer is refused keeps its data. */
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_server_observe(w.server, observe, &other, never));

    connected_pair(&w, &c, &s);
    is_told_of(&told, w.client_key, CURVE_TUN_HANDSHAKE_ACCEPTED, CURVE_TUN_OK);
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);
    CHECK(told.times == 0);

    OK(curve_tun_vault_generate(&stranger));
    OK(curve_tun_vault_public_key(stranger, stranger_key));
    OK(curve_tun_connection_new_client(stranger, w.server_key, &w.options, &c));
    OK(curve_tun_connection_new_server(w.server, "127.0.0.1", &s));
    OK(carry(c, s));
    OK(carry(s, c));
    GIVES(CURVE_TUN_ERR_UNKNOWN_PEER, carry(c, s));
    is_told_of(&told, stranger_key, CURVE_TUN_HANDSHAKE_REFUSED, CURVE_TUN_ERR_UNKNOWN_PEER);
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);
    curve_tun_vault_free(stranger);

    OK(curve_tun_connection_new_server(w.server, "::ffff:127.0.0.1", &s));
    GIVES(CURVE_TUN_ERR_BAD_PACKET, curve_tun_connection_read(s, (const uint8_t *)"GET / HTTP/1.1\r\n", 16, &len));
    is_told(&told, CURVE_TUN_HANDSHAKE_REFUSED, CURVE_TUN_ERR_BAD_PACKET);
    curve_tun_connection_free(s);

    OK(curve_tun_connection_new_server(w.server, "127.0.0.1", &s));
    curve_tun_connection_free(s);
    is_told(&told, CURVE_TUN_HANDSHAKE_REFUSED, CURVE_TUN_ERR_CLOSED);

    /* The last user of the server frees it. */
    OK(curve_tun_connection_new_server(w.server, "127.0.0.1", &s));
    curve_tun_server_free(w.server);
    w.server = NULL;
    CHECK(told.freed == 0);
    /* The program's own reference is gone, and so is its pointer. */
    told.server = NULL;
    curve_tun_connection_close(s);
    curve_tun_connection_free(s);
    CHECK(told.freed == 1);
    free_world(&w);
    CHECK(told.freed == 1 && other.freed == 0);
}

static int32_t fails_to_seal(void *user_data, uint32_t purpose, const uint8_t *peer, const uint8_t *message, size_t len,
                            uint8_t *nonce, uint8_t *sealed)
{
    (void)user_data, (void)purpose, (void)peer, (void)message, (void)len, (void)nonce, (void)sealed;
    return CURVE_TUN_ERR_VAULT_FAILED;
}

static int32_t fails_to_open(void *user_data, uint32_t purpose, const uint8_t *peer, const uint8_t *nonce,
                             size_t nonce_len, const uint8_t *sealed, size_t len, uint8_t *message)
{
    (void)user_data, (void)purpose, (void)peer, (void)nonce, (void)nonce_len, (void)sealed, (void)len, (void)message;
    return CURVE_TUN_ERR_VAULT_FAILED;
}

/* The client takes it for another server, while the server's program knows the real reason. */
static void a_vault_that_fails(void)
{
    struct world w = new_world();
    curve_tun_vault_callbacks callbacks = {.size = sizeof callbacks, .box_seal = fails_to_seal, .box_open = fails_to_open};
    struct told told;
    curve_tun_connection *c, *s;

    memcpy(callbacks.public_key, w.server_key, sizeof callbacks.public_key);
    curve_tun_server_free(w.server);
    curve_tun_vault_free(w.server_vault);
    OK(curve_tun_vault_custom(&callbacks, NULL, &w.server_vault));
    OK(curve_tun_server_new(w.server_vault, w.registry, &w.options, &w.server));
    told = observed(&w);
    OK(curve_tun_server_observe(w.server, observe, &told, NULL));
    new_pair(&w, &c, &s);
    GIVES(CURVE_TUN_ERR_VAULT_FAILED, carry(c, s));
    GIVES(CURVE_TUN_ERR_WRONG_SERVER_KEY, curve_tun_connection_transport_ended(c));
    is_told(&told, CURVE_TUN_HANDSHAKE_REFUSED, CURVE_TUN_ERR_VAULT_FAILED);
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);
    free_world(&w);
}

static void gives_way(void *user_data)
{
    *(bool *)user_data = true;
}

static void eviction(void)
{
    struct world w = new_world();
    curve_tun_connection *first, *second, *third;
    struct told told;
    bool gave_way = false;

    curve_tun_server_free(w.server);
    w.options.handshakes_max = 1;
    OK(curve_tun_server_new(w.server_vault, w.registry, &w.options, &w.server));
    told = observed(&w);
    OK(curve_tun_server_observe(w.server, observe, &told, NULL));
    OK(curve_tun_connection_new_server(w.server, "127.0.0.1", &first));
    GIVES(CURVE_TUN_ERR_TOO_MANY_HANDSHAKES, curve_tun_connection_new_server(w.server, "127.0.0.1", &third));
    is_told(&told, CURVE_TUN_HANDSHAKE_REFUSED, CURVE_TUN_ERR_TOO_MANY_HANDSHAKES);
    OK(curve_tun_connection_on_evict(first, gives_way, &gave_way));
    OK(curve_tun_connection_new_server(w.server, "127.0.0.1", &second));
    CHECK(gave_way && told.times == 0);
    curve_tun_connection_free(first);
    is_told(&told, CURVE_TUN_HANDSHAKE_EVICTED, CURVE_TUN_ERR_TOO_MANY_HANDSHAKES);
    curve_tun_connection_free(second);
    is_told(&told, CURVE_TUN_HANDSHAKE_REFUSED, CURVE_TUN_ERR_CLOSED);
    free_world(&w);
}

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

/* The observer ends the listener that is accepting: if the listener held a lock, this would
 * deadlock. */
static void with_sockets(void)
{
    struct world w = new_world();
    struct told told = observed(&w);
    struct dial d = {&w, 0, NULL};
    curve_tun_listener *listener;
    curve_tun_socket *none;
    pthread_t thread;

    OK(curve_tun_listener_open("127.0.0.1", 0, w.server, &listener));
    told.to_shut_down = listener;
    OK(curve_tun_server_observe(w.server, observe, &told, freed));
    d.port = curve_tun_listener_port(listener);
    CHECK(pthread_create(&thread, NULL, dial, &d) == 0);
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_listener_accept(listener, PATIENCE_MS, &none));
    CHECK(pthread_join(thread, NULL) == 0);
    is_told_of(&told, w.client_key, CURVE_TUN_HANDSHAKE_ACCEPTED, CURVE_TUN_OK);
    curve_tun_socket_free(d.socket);
    curve_tun_listener_free(listener);
    CHECK(told.freed == 0);
    free_world(&w);
    CHECK(told.freed == 1);
}

static int connect_raw(const curve_tun_listener *listener)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    to.sin_port = htons(curve_tun_listener_port(listener));
    CHECK(fd >= 0 && connect(fd, (const struct sockaddr *)&to, sizeof to) == 0);
    return fd;
}

/* A listener's clients that are turned away are reported as well: one that is evicted, and one that
 * does not speak the protocol. */
static void turned_away_by_sockets(void)
{
    struct world w = new_world();
    curve_tun_options options = CURVE_TUN_OPTIONS_INIT;
    struct told told = {0};
    curve_tun_server *server;
    curve_tun_listener *listener;
    curve_tun_socket *older, *newer;
    int one, other;

    options.handshakes_max = 1;
    OK(curve_tun_server_new(w.server_vault, w.registry, &options, &server));
    told.server = server;
    OK(curve_tun_server_observe(server, observe, &told, freed));
    OK(curve_tun_listener_open("127.0.0.1", 0, server, &listener));
    one = connect_raw(listener);
    OK(curve_tun_listener_transport_accept(listener, PATIENCE_MS, &older));
    CHECK(told.times == 0);
    other = connect_raw(listener);
    OK(curve_tun_listener_transport_accept(listener, PATIENCE_MS, &newer));
    GIVES(CURVE_TUN_ERR_TOO_MANY_HANDSHAKES, curve_tun_socket_handshake(older, PATIENCE_MS));
    is_told(&told, CURVE_TUN_HANDSHAKE_EVICTED, CURVE_TUN_ERR_TOO_MANY_HANDSHAKES);
    curve_tun_socket_free(older);

    CHECK(write(other, "GET / HTTP/1.1\r\n", 16) == 16);
    GIVES(CURVE_TUN_ERR_BAD_PACKET, curve_tun_socket_handshake(newer, PATIENCE_MS));
    is_told(&told, CURVE_TUN_HANDSHAKE_REFUSED, CURVE_TUN_ERR_BAD_PACKET);
    curve_tun_socket_free(newer);
    close(one);
    close(other);
    told.server = NULL;
    curve_tun_server_free(server);
    CHECK(told.freed == 0);
    curve_tun_listener_free(listener);
    CHECK(told.freed == 1 && told.times == 0);
    free_world(&w);
}

/* An observer without a function gets no reports, and still owns its data. */
static void nobody(void)
{
    struct world w = new_world();
    struct told told = {0};
    curve_tun_connection *c, *s;

    OK(curve_tun_server_observe(w.server, NULL, &told, freed));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_server_observe(w.server, observe, &told, never));
    connected_pair(&w, &c, &s);
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);
    CHECK(told.freed == 0);
    free_world(&w);
    CHECK(told.freed == 1 && told.times == 0);
}

int main(void)
{
    in_memory();
    turned_away_by_sockets();
    nobody();
    a_vault_that_fails();
    eviction();
    with_sockets();
    return 0;
}
