/* Structs that may grow: a program built with the first header, whose structs are shorter, and one
 * built with a later header, whose structs are longer than the library knows. The argument is a
 * folder for its files. */

#define _POSIX_C_SOURCE 200809L

#include "check.h"
#include "least.h"

#include <pthread.h>
#include <stdlib.h>

#define LATER 24

/* A copy of a struct in its own allocation, so that valgrind and the sanitizers detect accesses
 * beyond it. */
static void *alone(const void *from, size_t size)
{
    void *copy = malloc(size);

    CHECK(copy != NULL);
    memcpy(copy, from, size);
    return copy;
}

/* The struct as a later header has it, with more fields at the end: `set` is one of their bytes. */
static void *later(const void *from, size_t size, uint8_t set)
{
    uint8_t *copy = calloc(1, size + LATER);
    size_t later_size = size + LATER;

    CHECK(copy != NULL);
    memcpy(copy, from, size);
    memcpy(copy, &later_size, sizeof later_size);
    copy[size + LATER - 1] = set;
    return copy;
}

/* The struct with an invalid size. */
static void *resized(const void *from, size_t size, size_t claimed)
{
    void *copy = alone(from, size);

    memcpy(copy, &claimed, sizeof claimed);
    return copy;
}

/* Checks what `call` returns with a struct `p`: as it is, one byte shorter than the minimum, and as
 * a later program has it. */
#define EACH(expected, type, value, least, call)                                                  \
    do {                                                                                          \
        type *p = alone(&(value), (value).size);                                                  \
        GIVES(expected, call);                                                                    \
        free(p);                                                                                  \
        p = resized(&(value), sizeof(value), (least) - 1);                                        \
        GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, call);                                              \
        free(p);                                                                                  \
        p = resized(&(value), sizeof(value), SIZE_MAX);                                           \
        GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, call);                                              \
        free(p);                                                                                  \
        p = later(&(value), sizeof(value), 0);                                                    \
        GIVES(expected, call);                                                                    \
        free(p);                                                                                  \
        p = later(&(value), sizeof(value), 1);                                                    \
        GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, call);                                              \
        free(p);                                                                                  \
    } while (0)

static curve_tun_result made_server(struct world *w, const curve_tun_options *options)
{
    curve_tun_server *server;
    curve_tun_result result = curve_tun_server_new(w->server_vault, w->registry, options, &server);

    if (result == CURVE_TUN_OK)
        curve_tun_server_free(server);
    return result;
}

static curve_tun_result made_vault(const curve_tun_vault_callbacks *callbacks)
{
    curve_tun_vault *vault;
    curve_tun_result result = curve_tun_vault_custom(callbacks, NULL, &vault);

    if (result == CURVE_TUN_OK)
        curve_tun_vault_free(vault);
    return result;
}

static curve_tun_result made_registry(const curve_tun_registry_callbacks *callbacks)
{
    curve_tun_registry *registry;
    curve_tun_result result = curve_tun_registry_custom(callbacks, NULL, &registry);

    if (result == CURVE_TUN_OK)
        curve_tun_registry_free(registry);
    return result;
}

static void options(struct world *w)
{
    struct least_options least = {sizeof least};
    curve_tun_options whole = CURVE_TUN_OPTIONS_INIT;
    curve_tun_connection *c;
    int64_t next;
    void *p = alone(&least, sizeof least);

    OK(made_server(w, p));
    OK(curve_tun_connection_new_client(w->client_vault, w->server_key, p, &c));
    free(p);
    /* Fields that the struct lacks have their defaults. */
    OK(curve_tun_connection_tick(c, 0, &next));
    CHECK(next == 10000);
    curve_tun_connection_free(c);
    OK(made_server(w, NULL));
    whole.handshake_timeout_ms = 77;
    EACH(CURVE_TUN_OK, curve_tun_options, whole, sizeof least, made_server(w, p));
    OK(curve_tun_connection_new_client(w->client_vault, w->server_key, &whole, &c));
    OK(curve_tun_connection_tick(c, 0, &next));
    CHECK(next == 77);
    curve_tun_connection_free(c);
}

static void dns_options(void)
{
    struct least_dns_options least = {sizeof least};
    curve_tun_dns_options whole = CURVE_TUN_DNS_OPTIONS_INIT;
    curve_tun_registry *registry;
    curve_tun_result result;
    void *p = alone(&least, sizeof least);

    /* The system may have no name servers, and the library no DNS. */
    result = curve_tun_registry_open_dns("test", p, &registry);
    free(p);
    CHECK(result == curve_tun_registry_open_dns("test", NULL, &registry) || result == CURVE_TUN_OK);
    if (result == CURVE_TUN_OK)
        curve_tun_registry_free(registry);
    if (result == CURVE_TUN_ERR_UNSUPPORTED)
        return;
    whole.timeout_ms = -1;
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_registry_open_dns("test", &whole, &registry));
    whole.timeout_ms = 3600001;
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_registry_open_dns("test", &whole, &registry));
    whole.timeout_ms = 3600000;
    whole.ttl_max_ms = -1;
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_registry_open_dns("test", &whole, &registry));
    whole.ttl_max_ms = INT64_MAX;
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_registry_open_dns("test", &whole, &registry));
    whole.ttl_max_ms = 0;
    whole.servers = "127.0.0.1:1";
    p = later(&whole, sizeof whole, 1);
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_registry_open_dns("test", p, &registry));
    free(p);
    p = later(&whole, sizeof whole, 0);
    OK(curve_tun_registry_open_dns("test", p, &registry));
    free(p);
    curve_tun_registry_free(registry);
}

/* A handshake whose vault and registry the program answers for, without any callbacks. */
static void requests(struct world *w)
{
    struct least_vault_callbacks least_vault = {sizeof least_vault, {0}, 1, 0};
    struct least_registry_callbacks least_registry = {sizeof least_registry, 1, 0};
    curve_tun_vault_callbacks vault_callbacks = CURVE_TUN_VAULT_CALLBACKS_INIT;
    curve_tun_registry_callbacks registry_callbacks = CURVE_TUN_REGISTRY_CALLBACKS_INIT;
    curve_tun_request whole = CURVE_TUN_REQUEST_INIT;
    curve_tun_answer whole_answer = CURVE_TUN_ANSWER_INIT;
    struct least_request *request = malloc(sizeof *request);
    struct least_answer *answer = malloc(sizeof *answer);
    curve_tun_request *later_request;
    curve_tun_vault *vault;
    curve_tun_registry *registry;
    curve_tun_server *server;
    curve_tun_connection *c, *s;
    uint32_t asked = 0;
    size_t i;
    void *p;

    CHECK(request != NULL && answer != NULL);
    memcpy(least_vault.public_key, w->server_key, sizeof least_vault.public_key);
    p = alone(&least_vault, sizeof least_vault);
    OK(curve_tun_vault_custom(p, NULL, &vault));
    free(p);
    p = alone(&least_registry, sizeof least_registry);
    OK(curve_tun_registry_custom(p, NULL, &registry));
    free(p);
    vault_callbacks.deferred = registry_callbacks.deferred = 1;
    EACH(CURVE_TUN_OK, curve_tun_vault_callbacks, vault_callbacks, sizeof least_vault, made_vault(p));
    EACH(CURVE_TUN_OK, curve_tun_registry_callbacks, registry_callbacks, sizeof least_registry, made_registry(p));

    OK(curve_tun_server_new(vault, registry, NULL, &server));
    OK(curve_tun_connection_new_client(w->client_vault, w->server_key, NULL, &c));
    OK(curve_tun_connection_new_server(server, "127.0.0.1", &s));
    OK(carry(c, s));
    for (;;) {
        request->size = sizeof *request;
        answer->size = sizeof *answer;
        if (curve_tun_connection_request(s, (curve_tun_request *)request) == CURVE_TUN_ERR_WOULD_BLOCK) {
            if (curve_tun_connection_state(s) == CURVE_TUN_STATE_CONNECTED)
                break;
            OK(carry(s, c));
            OK(carry(c, s));
            continue;
        }
        CHECK(request->size == sizeof *request);
        /* The same as a later program sees it: the fields beyond are zero. */
        later_request = later(&whole, sizeof whole, 1);
        OK(curve_tun_connection_request(s, later_request));
        CHECK(memcmp(&later_request->kind, &request->kind, sizeof *request - sizeof(size_t)) == 0);
        for (i = sizeof whole; i < sizeof whole + LATER; i++)
            CHECK(((uint8_t *)later_request)[i] == 0);
        CHECK(later_request->size == sizeof whole + LATER);
        free(later_request);

        asked |= UINT32_C(1) << request->kind;
        if (request->kind == CURVE_TUN_REQUEST_VERIFY)
            OK(curve_tun_registry_answer(w->registry, (curve_tun_request *)request, (curve_tun_answer *)answer));
        else
            OK(curve_tun_vault_answer(w->server_vault, (curve_tun_request *)request, (curve_tun_answer *)answer));
        OK(curve_tun_connection_answer(s, (curve_tun_answer *)answer));
    }
    CHECK(asked == (1 << CURVE_TUN_REQUEST_ANSWER_HELLO | 1 << CURVE_TUN_REQUEST_OPEN_VOUCH |
                    1 << CURVE_TUN_REQUEST_VERIFY));
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);

    OK(curve_tun_connection_new_client(w->client_vault, w->server_key, NULL, &c));
    OK(curve_tun_connection_new_server(server, "127.0.0.1", &s));
    OK(carry(c, s));
    OK(curve_tun_connection_request(s, &whole));
    EACH(CURVE_TUN_OK, curve_tun_request, whole, sizeof *request,
         curve_tun_vault_answer(w->server_vault, p, &whole_answer));
    p = resized(&whole, sizeof whole, sizeof *request - 1);
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_connection_request(s, p));
    free(p);
    p = resized(&whole_answer, sizeof whole_answer, sizeof *answer - 1);
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_connection_answer(s, p));
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_vault_answer(w->server_vault, &whole, p));
    free(p);
    p = later(&whole_answer, sizeof whole_answer, 1);
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_connection_answer(s, p));
    free(p);
    p = later(&whole_answer, sizeof whole_answer, 0);
    OK(curve_tun_connection_answer(s, p));
    free(p);

    /* Everything else that needs missing callbacks fails with an error. */
    GIVES(CURVE_TUN_ERR_VAULT_FAILED, curve_tun_vault_box(vault, CURVE_TUN_PURPOSE_VOUCH, w->client_key, whole.sealed,
                                                          1, whole.nonce, whole.message));
    GIVES(CURVE_TUN_ERR_REGISTRY_FAILED,
          curve_tun_registry_verify(registry, "127.0.0.1", w->client_key, &(bool){false}));
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);
    curve_tun_server_free(server);
    curve_tun_registry_free(registry);
    curve_tun_vault_free(vault);
    free(request);
    free(answer);
}

static void problem(const char *folder)
{
    struct least_registry_problem least = {sizeof least, 0, 0}, *p = alone(&least, sizeof least);
    curve_tun_registry_problem whole = CURVE_TUN_REGISTRY_PROBLEM_INIT, *q;
    char file[4096];
    FILE *made;
    size_t i;

    snprintf(file, sizeof file, "%s/wrong", folder);
    made = fopen(file, "w");
    CHECK(made != NULL && fputs("# fine\nnot an entry\n", made) >= 0 && fclose(made) == 0);
    GIVES(CURVE_TUN_ERR_BAD_REGISTRY_FILE, curve_tun_registry_file_check(file, (curve_tun_registry_problem *)p));
    CHECK(p->size == sizeof least && p->line == 2 && p->column == 1);
    free(p);
    q = later(&whole, sizeof whole, 1);
    GIVES(CURVE_TUN_ERR_BAD_REGISTRY_FILE, curve_tun_registry_file_check(file, q));
    CHECK(q->line == 2 && q->text[0] != '\0');
    for (i = sizeof whole; i < sizeof whole + LATER; i++)
        CHECK(((uint8_t *)q)[i] == 0);
    free(q);
    q = resized(&whole, sizeof whole, sizeof least - 1);
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_registry_file_check(file, q));
    free(q);
}

struct accepting {
    curve_tun_listener *listener;
    int clients;
};

static void *accept_all(void *argument)
{
    struct accepting *accepting = argument;
    curve_tun_socket *socket;

    while (accepting->clients-- > 0) {
        OK(curve_tun_listener_accept(accepting->listener, PATIENCE_MS, &socket));
        curve_tun_socket_free(socket);
    }
    return NULL;
}

static void trust(struct world *w)
{
    struct least_trust least = {sizeof least, w->server_key, NULL, NULL, 0, 0};
    struct least_trust_outcome least_outcome = {sizeof least_outcome, {1}, {1}}, *outcome;
    curve_tun_trust whole = CURVE_TUN_TRUST_INIT;
    curve_tun_trust_outcome whole_outcome = CURVE_TUN_TRUST_OUTCOME_INIT, *later_outcome;
    struct accepting accepting = {NULL, 2};
    curve_tun_socket *socket;
    pthread_t thread;
    uint16_t port;
    size_t i;
    void *p;

    OK(curve_tun_listener_open("127.0.0.1", 0, w->server, &accepting.listener));
    port = curve_tun_listener_port(accepting.listener);
    CHECK(pthread_create(&thread, NULL, accept_all, &accepting) == 0);
    /* An uninitialised size: nothing behind the struct is read. */
    least.size = SIZE_MAX / 2 + 1 - sizeof(size_t);
    p = alone(&least, sizeof least);
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT,
          curve_tun_socket_connect_trusted("127.0.0.1", port, w->client_vault, p, NULL, PATIENCE_MS, &whole_outcome,
                                           &socket));
    free(p);
    least.size = sizeof least;
    p = alone(&least, sizeof least);
    outcome = alone(&least_outcome, sizeof least_outcome);
    OK(curve_tun_socket_connect_trusted("127.0.0.1", port, w->client_vault, p, NULL, PATIENCE_MS,
                                        (curve_tun_trust_outcome *)outcome, &socket));
    curve_tun_socket_free(socket);
    CHECK(outcome->size == sizeof least_outcome);
    CHECK(outcome->offered_public_key[0] == 0 && outcome->known_public_key[0] == 0);
    free(outcome);
    free(p);

    whole.server_public_key = w->server_key;
    p = later(&whole, sizeof whole, 0);
    later_outcome = later(&whole_outcome, sizeof whole_outcome, 1);
    OK(curve_tun_socket_connect_trusted("127.0.0.1", port, w->client_vault, p, NULL, PATIENCE_MS, later_outcome,
                                        &socket));
    curve_tun_socket_free(socket);
    for (i = sizeof whole_outcome; i < sizeof whole_outcome + LATER; i++)
        CHECK(((uint8_t *)later_outcome)[i] == 0);
    free(later_outcome);
    free(p);
    CHECK(pthread_join(thread, NULL) == 0);

    p = later(&whole, sizeof whole, 1);
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT,
          curve_tun_socket_connect_trusted("127.0.0.1", port, w->client_vault, p, NULL, PATIENCE_MS, &whole_outcome,
                                           &socket));
    free(p);
    p = resized(&whole_outcome, sizeof whole_outcome, sizeof least_outcome - 1);
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT,
          curve_tun_socket_connect_trusted("127.0.0.1", port, w->client_vault, &whole, NULL, PATIENCE_MS, p, &socket));
    free(p);
    curve_tun_listener_free(accepting.listener);
}

static curve_tun_result made_stream(struct world *w, const curve_tun_stream_options *options)
{
    curve_tun_connection *client, *server;
    curve_tun_stream_machine *stream;
    curve_tun_result result;

    connected_pair(w, &client, &server);
    result = curve_tun_stream_machine_new(client, options, &stream);
    if (result == CURVE_TUN_OK)
        curve_tun_stream_machine_free(stream);
    curve_tun_connection_free(client);
    curve_tun_connection_free(server);
    return result;
}

static void streams(struct world *w)
{
    struct least_stream_options least = {sizeof least};
    struct least_stream_peer least_peer;
    curve_tun_stream_options whole = CURVE_TUN_STREAM_OPTIONS_INIT;
    curve_tun_stream_peer whole_peer = CURVE_TUN_STREAM_PEER_INIT;
    curve_tun_stream_machine *c, *s;
    curve_tun_connection *client, *server;
    uint8_t *later_peer;
    size_t i, written;
    void *p = alone(&least, sizeof least);

    OK(made_stream(w, p));
    free(p);
    OK(made_stream(w, NULL));
    whole.service = "web";
    EACH(CURVE_TUN_OK, curve_tun_stream_options, whole, sizeof least, made_stream(w, p));

    connected_pair(w, &client, &server);
    OK(curve_tun_stream_machine_new(client, &whole, &c));
    OK(curve_tun_stream_machine_new(server, NULL, &s));
    OK(curve_tun_stream_machine_write(c, NULL, 0, &written));
    OK(carry(client, server));
    memset(&least_peer, 7, sizeof least_peer);
    least_peer.size = sizeof least_peer;
    p = alone(&least_peer, sizeof least_peer);
    OK(curve_tun_stream_machine_peer(s, p));
    CHECK(strcmp(((struct least_stream_peer *)p)->service, "web") == 0);
    CHECK(((struct least_stream_peer *)p)->size == sizeof least_peer);
    free(p);
    p = resized(&whole_peer, sizeof whole_peer, sizeof least_peer - 1);
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_stream_machine_peer(s, p));
    free(p);
    later_peer = later(&whole_peer, sizeof whole_peer, 1);
    OK(curve_tun_stream_machine_peer(s, (curve_tun_stream_peer *)(void *)later_peer));
    for (i = sizeof whole_peer; i < sizeof whole_peer + LATER; i++)
        CHECK(later_peer[i] == 0);
    free(later_peer);
    curve_tun_stream_machine_free(c);
    curve_tun_stream_machine_free(s);
    curve_tun_connection_free(client);
    curve_tun_connection_free(server);
}

/* A later field must not lie where an older program has padding, which may hold anything. */
static void no_padding_at_the_end(void)
{
#define ENDS_WITH(type, last) CHECK(offsetof(type, last) + sizeof(((type *)NULL)->last) == sizeof(type))
    ENDS_WITH(curve_tun_options, listener);
    ENDS_WITH(curve_tun_vault_callbacks, free);
    ENDS_WITH(curve_tun_registry_callbacks, free);
    ENDS_WITH(curve_tun_registry_problem, text);
    ENDS_WITH(curve_tun_dns_options, ttl_max_ms);
    ENDS_WITH(curve_tun_request, listener);
    ENDS_WITH(curve_tun_answer, bytes);
    ENDS_WITH(curve_tun_trust, reserved);
    ENDS_WITH(curve_tun_trust_outcome, reserved);
    ENDS_WITH(curve_tun_stream_options, client_port);
    ENDS_WITH(curve_tun_stream_peer, service);
}

int main(int argc, char **argv)
{
    struct world w = new_world();

    CHECK(argc == 2);
    no_padding_at_the_end();
    options(&w);
    dns_options();
    requests(&w);
    problem(argv[1]);
    trust(&w);
    streams(&w);
    free_world(&w);
    return 0;
}
