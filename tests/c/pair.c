/* Both ends of a tunnel in memory: messages, custom vaults and registries, and requests answered
 * later. */

#include "check.h"

static uint8_t message[CURVE_TUN_MESSAGE_MAX], received[CURVE_TUN_MESSAGE_MAX];

/* Sends a message of each size and receives it, with the bytes moved in copies of at most
 * `piece`. */
static void messages(struct world *w, size_t piece)
{
    static const size_t sizes[] = {0, 1, 15, 16, 17, 1000, 4096, 65502, 65503};
    static uint8_t wire[70000];
    curve_tun_connection *c, *s;
    size_t i, at, count, len, consumed;

    connected_pair(w, &c, &s);
    for (i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        memset(message, (int)i + 1, sizes[i]);
        OK(curve_tun_connection_send(c, message, sizes[i]));
        while (curve_tun_connection_wants_write(c)) {
            OK(curve_tun_connection_write(c, wire, piece < sizeof wire ? piece : sizeof wire, &count));
            for (at = 0; at < count; at += consumed)
                OK(curve_tun_connection_read(s, wire + at, count - at, &consumed));
        }
        memset(received, 0, sizes[i]);
        OK(curve_tun_connection_recv(s, received, sizes[i], &len));
        CHECK(len == sizes[i] && memcmp(message, received, len) == 0);
        GIVES(CURVE_TUN_ERR_WOULD_BLOCK, curve_tun_connection_recv(s, received, sizeof received, &len));
    }
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);
}

/* The same without copies: from `pending` straight into `place`. */
static void without_copies(struct world *w)
{
    curve_tun_connection *c, *s;
    const uint8_t *pending;
    uint8_t *place;
    size_t len, space;
    int i;

    connected_pair(w, &c, &s);
    for (i = 0; i < 50; i++) {
        memset(message, i, sizeof message);
        OK(curve_tun_connection_send(c, message, sizeof message));
        while (curve_tun_connection_wants_write(c)) {
            OK(curve_tun_connection_pending(c, &pending, &len));
            OK(curve_tun_connection_read_buffer(s, &place, &space));
            CHECK(space > 0);
            len = len < space ? len : space;
            memcpy(place, pending, len);
            OK(curve_tun_connection_read_commit(s, len));
            OK(curve_tun_connection_written(c, len));
        }
        OK(curve_tun_connection_recv(s, received, sizeof received, &len));
        CHECK(len == sizeof message && memcmp(message, received, len) == 0);
    }
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);
}

/* A receiver that does not read takes no more than its mark and a packet; then the sender is
 * told. */
static void high_water(struct world *w)
{
    curve_tun_options options = CURVE_TUN_OPTIONS_INIT;
    curve_tun_connection *c, *s;
    curve_tun_server *server;
    const uint8_t *pending;
    size_t len, sent = 0, got = 0, count;
    curve_tun_result result;

    options.receive_high_water = 10000;
    options.send_high_water = 20000;
    OK(curve_tun_server_new(w->server_vault, w->registry, &options, &server));
    OK(curve_tun_connection_new_client(w->client_vault, w->server_key, &options, &c));
    OK(curve_tun_connection_new_server(server, "127.0.0.1", &s));
    OK(carry(c, s));
    OK(carry(s, c));
    OK(carry(c, s));
    for (;;) {
        message[0] = (uint8_t)sent;
        result = curve_tun_connection_send(c, message, 1000);
        if (result != CURVE_TUN_OK)
            break;
        sent++;
        OK(carry(c, s));
        CHECK(sent < 1000);
    }
    CHECK(result == CURVE_TUN_ERR_WOULD_BLOCK);
    CHECK(!curve_tun_connection_wants_read(s));
    OK(curve_tun_connection_pending(c, &pending, &count));
    OK(curve_tun_connection_read(s, pending, count, &len));
    CHECK(len == 0);
    while (got < sent) {
        OK(curve_tun_connection_recv(s, received, sizeof received, &len));
        CHECK(len == 1000 && received[0] == (uint8_t)got);
        got++;
        OK(carry(c, s));
    }
    GIVES(CURVE_TUN_ERR_WOULD_BLOCK, curve_tun_connection_recv(s, received, sizeof received, &len));
    OK(curve_tun_connection_send(c, message, 1000));
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);
    curve_tun_server_free(server);
}

/* A custom vault and registry, in front of those of the library. */
struct host {
    curve_tun_vault *vault;
    curve_tun_registry *registry;
    curve_tun_connection *calling; /* To be misused from within a callback. */
    int sealed, opened, verified, freed;
    int32_t fails_with;
};

static int32_t host_box_seal(void *user_data, uint32_t purpose, const uint8_t *peer, const uint8_t *m, size_t len,
                             uint8_t *nonce, uint8_t *sealed)
{
    struct host *host = user_data;

    host->sealed++;
    if (host->fails_with != CURVE_TUN_OK)
        return host->fails_with;
    return curve_tun_vault_box(host->vault, purpose, peer, m, len, nonce, sealed);
}

static int32_t host_box_open(void *user_data, uint32_t purpose, const uint8_t *peer, const uint8_t *nonce,
                             size_t nonce_len, const uint8_t *sealed, size_t len, uint8_t *m)
{
    struct host *host = user_data;
    size_t consumed;

    host->opened++;
    CHECK(nonce_len == (purpose == CURVE_TUN_PURPOSE_HELLO ? 8 : CURVE_TUN_NONCE_BYTES));
    if (host->calling != NULL) {
        GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_connection_read(host->calling, m, 0, &consumed));
        curve_tun_connection_close(host->calling);
    }
    if (host->fails_with != CURVE_TUN_OK)
        return host->fails_with;
    return curve_tun_vault_box_open(host->vault, purpose, peer, nonce, sealed, len, m);
}

static int32_t host_verify(void *user_data, const char *address, const uint8_t *public_key,
                           const char *listener, uint32_t *accepted)
{
    struct host *host = user_data;
    bool yes = false;
    curve_tun_result result = curve_tun_registry_verify(host->registry, address, public_key, &yes);

    host->verified++;
    CHECK(strcmp(listener, "front door") == 0);
    CHECK(*accepted == 0);
    *accepted = yes;
    return result;
}

static void host_free(void *user_data)
{
    ((struct host *)user_data)->freed++;
}

/* A server with the vault and registry of the host. */
static curve_tun_server *host_server(struct world *w, struct host *host, uint32_t later, curve_tun_vault **vault,
                                     curve_tun_registry **registry)
{
    curve_tun_vault_callbacks v;
    curve_tun_registry_callbacks r;
    curve_tun_server *server;

    memset(host, 0, sizeof *host);
    host->vault = w->server_vault;
    host->registry = w->registry;
    memset(&v, 0, sizeof v);
    v.size = sizeof v;
    memcpy(v.public_key, w->server_key, sizeof v.public_key);
    v.deferred = later;
    v.box_seal = host_box_seal;
    v.box_open = host_box_open;
    v.free = host_free;
    memset(&r, 0, sizeof r);
    r.size = sizeof r;
    r.deferred = later;
    r.verify = host_verify;
    r.free = host_free;
    OK(curve_tun_vault_custom(&v, host, vault));
    OK(curve_tun_registry_custom(&r, host, registry));
    w->options.listener = "front door";
    OK(curve_tun_server_new(*vault, *registry, &w->options, &server));
    w->options.listener = NULL;
    return server;
}

static void talk(curve_tun_connection *c, curve_tun_connection *s)
{
    size_t len;

    OK(curve_tun_connection_send(c, (const uint8_t *)"there", 5));
    OK(curve_tun_connection_send(s, (const uint8_t *)"back", 4));
    OK(carry(c, s));
    OK(carry(s, c));
    OK(curve_tun_connection_recv(s, received, sizeof received, &len));
    CHECK(len == 5 && memcmp(received, "there", 5) == 0);
    OK(curve_tun_connection_recv(c, received, sizeof received, &len));
    CHECK(len == 4 && memcmp(received, "back", 4) == 0);
}

static void answers_now(struct world *w)
{
    curve_tun_connection *c, *s;
    curve_tun_vault *vault;
    curve_tun_registry *registry;
    curve_tun_server *server;
    uint8_t key[CURVE_TUN_KEY_BYTES];
    struct host host;

    server = host_server(w, &host, 0, &vault, &registry);
    OK(curve_tun_vault_public_key(vault, key));
    CHECK(memcmp(key, w->server_key, sizeof key) == 0);
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_registry_add(registry, "::1", key));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_registry_remove(registry, "::1", key));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_registry_lookup(registry, "::1", key));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_registry_add(registry, "*", key));
    OK(curve_tun_connection_new_client(w->client_vault, w->server_key, &w->options, &c));
    OK(curve_tun_connection_new_server(server, "127.0.0.1", &s));
    /* A callback cannot use the connection that calls it; the connection continues undisturbed. */
    host.calling = s;
    OK(carry(c, s));
    OK(carry(s, c));
    OK(carry(c, s));
    CHECK(host.opened == 2 && host.sealed == 1 && host.verified == 1);
    talk(c, s);
    curve_tun_connection_free(c);

    /* Nobody is let in from elsewhere, or when the vault fails; the error says which. */
    host.calling = NULL;
    curve_tun_connection_free(s);
    OK(curve_tun_connection_new_client(w->client_vault, w->server_key, &w->options, &c));
    OK(curve_tun_connection_new_server(server, "127.0.0.2", &s));
    OK(carry(c, s));
    OK(carry(s, c));
    GIVES(CURVE_TUN_ERR_UNKNOWN_PEER, carry(c, s));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_connection_send(s, message, 1));
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);
    {
        static const struct {
            int32_t told;
            curve_tun_result given;
        } failures[] = {
            {CURVE_TUN_ERR_VAULT_FAILED, CURVE_TUN_ERR_VAULT_FAILED},
            {CURVE_TUN_ERR_BAD_PACKET, CURVE_TUN_ERR_BAD_PACKET},
            {CURVE_TUN_ERR_TIMEOUT, CURVE_TUN_ERR_TIMEOUT},
            {CURVE_TUN_ERR_WEAK_KEY, CURVE_TUN_ERR_BAD_PACKET},
            {CURVE_TUN_ERR_WOULD_BLOCK, CURVE_TUN_ERR_VAULT_FAILED},
            {-5, CURVE_TUN_ERR_VAULT_FAILED},
            {INT32_MAX, CURVE_TUN_ERR_VAULT_FAILED},
        };
        size_t i;

        for (i = 0; i < sizeof failures / sizeof *failures; i++) {
            host.fails_with = failures[i].told;
            OK(curve_tun_connection_new_client(w->client_vault, w->server_key, &w->options, &c));
            OK(curve_tun_connection_new_server(server, "127.0.0.1", &s));
            GIVES(failures[i].given, carry(c, s));
            CHECK(!curve_tun_connection_wants_write(s));
            GIVES(CURVE_TUN_ERR_WRONG_SERVER_KEY, curve_tun_connection_transport_ended(c));
            curve_tun_connection_free(c);
            curve_tun_connection_free(s);
        }
    }

    /* The server outlives the caller's references to both, and frees them. */
    curve_tun_vault_free(vault);
    curve_tun_registry_free(registry);
    CHECK(host.freed == 0);
    curve_tun_server_free(server);
    CHECK(host.freed == 2);
}

static void deferred(struct world *w)
{
    static const uint32_t kinds[] = {CURVE_TUN_REQUEST_ANSWER_HELLO, CURVE_TUN_REQUEST_OPEN_VOUCH,
                                     CURVE_TUN_REQUEST_VERIFY};
    curve_tun_connection *c, *s;
    curve_tun_vault *vault;
    curve_tun_registry *registry;
    curve_tun_server *server;
    curve_tun_request request;
    curve_tun_answer answer;
    struct host host;
    size_t i;

    server = host_server(w, &host, 1, &vault, &registry);
    OK(curve_tun_connection_new_client(w->client_vault, w->server_key, &w->options, &c));
    OK(curve_tun_connection_new_server(server, "127.0.0.1", &s));
    memset(&request, 0, sizeof request);
    memset(&answer, 0, sizeof answer);
    request.size = sizeof request;
    answer.size = sizeof answer;
    for (i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        OK(carry(c, s));
        OK(curve_tun_connection_request(s, &request));
        CHECK(request.kind == kinds[i]);
        if (kinds[i] == CURVE_TUN_REQUEST_VERIFY) {
            CHECK(strcmp(request.address, "127.0.0.1") == 0);
            CHECK(memcmp(request.peer_public_key, w->client_key, CURVE_TUN_KEY_BYTES) == 0);
            GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_vault_answer(vault, &request, &answer));
            OK(curve_tun_registry_answer(registry, &request, &answer));
            CHECK(answer.accepted == 1);
            answer.accepted = 2;
            GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_connection_answer(s, &answer));
            answer.accepted = 1;
        } else {
            CHECK(host.opened == (int)i);
            GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_registry_answer(registry, &request, &answer));
            OK(curve_tun_vault_answer(vault, &request, &answer));
            CHECK(host.opened == (int)i + 1);
        }
        CHECK(answer.result == CURVE_TUN_OK);
        OK(curve_tun_connection_answer(s, &answer));
        /* The vouch is followed at once by another request, which this answer does not match. */
        GIVES(kinds[i] == CURVE_TUN_REQUEST_OPEN_VOUCH ? CURVE_TUN_ERR_INVALID_ARGUMENT : CURVE_TUN_ERR_WRONG_STATE,
              curve_tun_connection_answer(s, &answer));
        OK(carry(s, c));
    }
    GIVES(CURVE_TUN_ERR_WOULD_BLOCK, curve_tun_connection_request(s, &request));
    CHECK(host.verified == 1);
    talk(c, s);
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);

    /* A failed answer, with an error of a vault and with a number that is not an error. */
    for (i = 0; i < 2; i++) {
        OK(curve_tun_connection_new_client(w->client_vault, w->server_key, &w->options, &c));
        OK(curve_tun_connection_new_server(server, "127.0.0.1", &s));
        OK(carry(c, s));
        answer.kind = CURVE_TUN_REQUEST_ANSWER_HELLO;
        answer.result = i == 0 ? CURVE_TUN_ERR_TIMEOUT : 1234;
        GIVES(i == 0 ? CURVE_TUN_ERR_TIMEOUT : CURVE_TUN_ERR_VAULT_FAILED, curve_tun_connection_answer(s, &answer));
        GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_connection_answer(s, &answer));
        curve_tun_connection_free(c);
        curve_tun_connection_free(s);
    }
    /* Invalid requests. */
    memset(&request, 0, sizeof request);
    request.size = sizeof request;
    for (i = 0; i < 100; i += 33) {
        request.kind = (uint32_t)i;
        GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_vault_answer(vault, &request, &answer));
        GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_registry_answer(registry, &request, &answer));
    }
    request.kind = CURVE_TUN_REQUEST_VERIFY;
    memset(request.address, '1', sizeof request.address);
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_registry_answer(registry, &request, &answer));

    /* A client's vault may answer later as well. */
    {
        curve_tun_vault_callbacks v;
        curve_tun_vault *client_vault;
        struct host client_host;

        memset(&client_host, 0, sizeof client_host);
        client_host.vault = w->client_vault;
        memset(&v, 0, sizeof v);
        v.size = sizeof v;
        memcpy(v.public_key, w->client_key, sizeof v.public_key);
        v.deferred = 1;
        v.box_seal = host_box_seal;
        v.box_open = host_box_open;
        OK(curve_tun_vault_custom(&v, &client_host, &client_vault));
        OK(curve_tun_connection_new_client(client_vault, w->server_key, &w->options, &c));
        OK(curve_tun_connection_new_server(w->server, "127.0.0.1", &s));
        OK(carry(c, s));
        OK(carry(s, c));
        CHECK(curve_tun_connection_state(c) == CURVE_TUN_STATE_INITIATING);
        OK(curve_tun_connection_request(c, &request));
        CHECK(request.kind == CURVE_TUN_REQUEST_SEAL_VOUCH && request.message_len == 32);
        OK(curve_tun_vault_answer(client_vault, &request, &answer));
        OK(curve_tun_connection_answer(c, &answer));
        OK(carry(c, s));
        CHECK(client_host.sealed == 1 && client_host.opened == 0);
        talk(c, s);
        curve_tun_connection_free(c);
        curve_tun_connection_free(s);
        curve_tun_vault_free(client_vault);
    }
    curve_tun_vault_free(vault);
    curve_tun_registry_free(registry);
    curve_tun_server_free(server);
    CHECK(host.freed == 2);
}

static void handshake_limit(struct world *w)
{
    curve_tun_options options = CURVE_TUN_OPTIONS_INIT;
    curve_tun_connection *c[3], *none = NULL;
    curve_tun_server *server;
    int i;

    options.handshakes_max = 3;
    OK(curve_tun_server_new(w->server_vault, w->registry, &options, &server));
    for (i = 0; i < 3; i++)
        OK(curve_tun_connection_new_server(server, "127.0.0.1", &c[i]));
    GIVES(CURVE_TUN_ERR_TOO_MANY_HANDSHAKES, curve_tun_connection_new_server(server, "127.0.0.1", &none));
    CHECK(none == NULL);
    curve_tun_connection_close(c[0]);
    OK(curve_tun_connection_new_server(server, "127.0.0.1", &none));
    curve_tun_connection_free(none);
    /* Connections keep the server alive. */
    curve_tun_server_free(server);
    for (i = 0; i < 3; i++)
        curve_tun_connection_free(c[i]);
}

static void count_call(void *user_data)
{
    ++*(int *)user_data;
}

/* The oldest handshake of the source that has most, with the new one counted in, is evicted, and
 * told so once. */
static void fair_shares(struct world *w)
{
    const char *from[] = {"127.0.0.2", "127.0.0.3", "127.0.0.3", "2001:db8::1", "2001:db8::2"};
    int evicted[8] = {0};
    curve_tun_options options = CURVE_TUN_OPTIONS_INIT;
    curve_tun_connection *c[8], *client;
    curve_tun_server *server;
    int64_t next;
    int i;

    options.handshakes_max = 5;
    options.handshakes_per_source = 3;
    OK(curve_tun_server_new(w->server_vault, w->registry, &options, &server));
    for (i = 0; i < 5; i++) {
        OK(curve_tun_connection_new_server(server, from[i], &c[i]));
        OK(curve_tun_connection_on_evict(c[i], count_call, &evicted[i]));
    }
    OK(curve_tun_connection_new_server(server, "127.0.0.1", &c[5]));
    OK(curve_tun_connection_on_evict(c[5], count_call, &evicted[5]));
    /* A /64 is one source. */
    OK(curve_tun_connection_new_server(server, "2001:db8::3", &c[6]));
    OK(curve_tun_connection_on_evict(c[6], count_call, &evicted[6]));
    OK(curve_tun_connection_new_server(server, "127.0.0.2", &c[7]));
    OK(curve_tun_connection_on_evict(c[7], count_call, &evicted[7]));
    for (i = 0; i < 8; i++) {
        bool out = i == 0 || i == 1 || i == 3;

        CHECK(evicted[i] == out);
        GIVES(out ? CURVE_TUN_ERR_TOO_MANY_HANDSHAKES : CURVE_TUN_OK, curve_tun_connection_tick(c[i], 0, &next));
        CHECK((curve_tun_connection_state(c[i]) == CURVE_TUN_STATE_CLOSED) == out);
        GIVES(out ? CURVE_TUN_ERR_CLOSED : CURVE_TUN_OK, curve_tun_connection_tick(c[i], 0, &next));
    }
    OK(curve_tun_connection_new_client(w->client_vault, w->server_key, &options, &client));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_connection_on_evict(client, count_call, &evicted[0]));
    curve_tun_connection_free(client);
    for (i = 0; i < 8; i++)
        curve_tun_connection_free(c[i]);
    curve_tun_server_free(server);
}

int main(void)
{
    struct world w = new_world();

    messages(&w, 1);
    messages(&w, 7);
    messages(&w, SIZE_MAX);
    without_copies(&w);
    high_water(&w);
    answers_now(&w);
    deferred(&w);
    handshake_limit(&w);
    fair_shares(&w);
    free_world(&w);
    return 0;
}
