/* Calls in the wrong state, after the close, and with integers, sizes and texts out of range. */

#include "check.h"

static uint8_t bytes[CURVE_TUN_MESSAGE_MAX + 1];

static void options_out_of_range(struct world *w)
{
    curve_tun_options o;
    curve_tun_server *s = NULL;
    curve_tun_connection *c = NULL;

#define REFUSED(field, value)                                                                             \
    do {                                                                                                  \
        o = (curve_tun_options)CURVE_TUN_OPTIONS_INIT;                                                    \
        o.field = (value);                                                                                \
        GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT,                                                             \
              curve_tun_server_new(w->server_vault, w->registry, &o, &s));                                \
        GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT,                                                             \
              curve_tun_connection_new_client(w->client_vault, w->server_key, &o, &c));                   \
    } while (0)

    REFUSED(size, 0);
    REFUSED(size, sizeof(size_t) - 1);
    REFUSED(size, SIZE_MAX);
    REFUSED(handshake_timeout_ms, -1);
    REFUSED(receive_high_water, SIZE_MAX);
    REFUSED(send_high_water, SIZE_MAX);
    REFUSED(nagle, 2);
    REFUSED(no_keep_alive, UINT32_MAX);
    CHECK(s == NULL && c == NULL);

}

static int32_t never_box(void *user_data, uint32_t purpose, const uint8_t *peer, const uint8_t *message, size_t len,
                         uint8_t *nonce, uint8_t *sealed)
{
    (void)user_data, (void)purpose, (void)peer, (void)message, (void)len, (void)nonce, (void)sealed;
    return CURVE_TUN_ERR_VAULT_FAILED;
}

static int32_t never_open(void *user_data, uint32_t purpose, const uint8_t *peer, const uint8_t *nonce,
                          size_t nonce_len, const uint8_t *sealed, size_t len, uint8_t *message)
{
    (void)user_data, (void)purpose, (void)peer, (void)nonce, (void)nonce_len;
    (void)sealed, (void)len, (void)message;
    return CURVE_TUN_ERR_VAULT_FAILED;
}

static void vaults(struct world *w)
{
    static const uint8_t weak[CURVE_TUN_KEY_BYTES];
    static const uint32_t no_purposes[] = {0, 4, 77, UINT32_MAX};
    uint8_t nonce[CURVE_TUN_NONCE_BYTES], sealed[20 + CURVE_TUN_BOX_OVERHEAD], opened[20];
    curve_tun_vault *v = w->client_vault;
    curve_tun_vault_callbacks callbacks;
    size_t i;

    for (i = 0; i < sizeof no_purposes / sizeof *no_purposes; i++) {
        GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT,
              curve_tun_vault_box(v, no_purposes[i], w->server_key, bytes, 20, nonce, sealed));
        GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT,
              curve_tun_vault_box_open(v, no_purposes[i], w->server_key, nonce, sealed, sizeof sealed, opened));
    }
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT,
          curve_tun_vault_box(v, CURVE_TUN_PURPOSE_HELLO, w->server_key, bytes, 20, nonce, sealed));
    GIVES(CURVE_TUN_ERR_WEAK_KEY, curve_tun_vault_box(v, CURVE_TUN_PURPOSE_VOUCH, weak, bytes, 20, nonce, sealed));
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT,
          curve_tun_vault_box(v, CURVE_TUN_PURPOSE_VOUCH, w->server_key, bytes, SIZE_MAX, nonce, sealed));
    /* Sealing in place is not supported, and the call says so. */
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT,
          curve_tun_vault_box(v, CURVE_TUN_PURPOSE_VOUCH, w->server_key, bytes, 20, nonce, bytes + 10));

    OK(curve_tun_vault_box(v, CURVE_TUN_PURPOSE_VOUCH, w->server_key, bytes, 20, nonce, sealed));
    OK(curve_tun_vault_box_open(w->server_vault, CURVE_TUN_PURPOSE_VOUCH, w->client_key, nonce, sealed,
                                sizeof sealed, opened));
    CHECK(memcmp(opened, bytes, sizeof opened) == 0);
    memset(opened, 7, sizeof opened);
    GIVES(CURVE_TUN_ERR_BAD_PACKET,
          curve_tun_vault_box_open(w->server_vault, CURVE_TUN_PURPOSE_COOKIE, w->client_key, nonce, sealed,
                                   sizeof sealed, opened));
    sealed[3] ^= 1;
    GIVES(CURVE_TUN_ERR_BAD_PACKET,
          curve_tun_vault_box_open(w->server_vault, CURVE_TUN_PURPOSE_VOUCH, w->client_key, nonce, sealed,
                                   sizeof sealed, opened));
    for (i = 0; i < CURVE_TUN_BOX_OVERHEAD; i++)
        GIVES(CURVE_TUN_ERR_BAD_PACKET,
              curve_tun_vault_box_open(w->server_vault, CURVE_TUN_PURPOSE_VOUCH, w->client_key, nonce, sealed, i,
                                       opened));
    CHECK(opened[0] == 7 && opened[19] == 7);

    memset(&callbacks, 0, sizeof callbacks);
    callbacks.box_seal = never_box;
    callbacks.box_open = never_open;
    v = NULL;
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_vault_custom(&callbacks, NULL, &v));
    callbacks.size = sizeof callbacks;
    callbacks.deferred = 2;
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_vault_custom(&callbacks, NULL, &v));
    CHECK(v == NULL);
}

static void registries(struct world *w)
{
    static const char *const no_addresses[] = {
        "", " ", "127.0.0.1 ", "127.0.0", "256.0.0.1", "127.0.0.1/33", "127.0.0.1/8", "127.0.0.1/", "::1/129", "::g",
        "example.org", "127.0.0.1:80", "\xff\xfe",
        "an address that is far too long to be one, and so is not even looked at to its end by the library",
    };
    uint8_t key[CURVE_TUN_KEY_BYTES] = {9}, found[CURVE_TUN_KEY_BYTES] = {0};
    curve_tun_registry *r;
    bool accepted = true;
    size_t i;

    OK(curve_tun_registry_new(&r));
    /* An empty registry lets nobody in. */
    OK(curve_tun_registry_verify(r, "192.0.2.7", key, &accepted));
    CHECK(!accepted);
    GIVES(CURVE_TUN_ERR_NOT_FOUND, curve_tun_registry_lookup(r, "192.0.2.7", found));
    GIVES(CURVE_TUN_ERR_NOT_FOUND, curve_tun_registry_remove(r, "192.0.2.7", key));
    for (i = 0; i < sizeof no_addresses / sizeof *no_addresses; i++) {
        GIVES(CURVE_TUN_ERR_BAD_ADDRESS, curve_tun_registry_add(r, no_addresses[i], key));
        GIVES(CURVE_TUN_ERR_BAD_ADDRESS, curve_tun_registry_remove(r, no_addresses[i], key));
        GIVES(CURVE_TUN_ERR_BAD_ADDRESS, curve_tun_registry_lookup(r, no_addresses[i], found));
        GIVES(CURVE_TUN_ERR_BAD_ADDRESS, curve_tun_registry_verify(r, no_addresses[i], key, &accepted));
    }
    GIVES(CURVE_TUN_ERR_BAD_ADDRESS, curve_tun_registry_lookup(r, "192.0.2.0/24", found));

    OK(curve_tun_registry_add(r, "192.0.2.0/24", key));
    OK(curve_tun_registry_lookup(r, "192.0.2.7", found));
    CHECK(memcmp(found, key, sizeof key) == 0);
    OK(curve_tun_registry_verify(r, "::ffff:192.0.2.7", key, &accepted));
    CHECK(accepted);
    OK(curve_tun_registry_verify(r, "192.0.3.7", key, &accepted));
    CHECK(!accepted);
    GIVES(CURVE_TUN_ERR_NOT_FOUND, curve_tun_registry_remove(r, "192.0.2.7", key));
    OK(curve_tun_registry_remove(r, "192.0.2.0/24", key));
    OK(curve_tun_registry_verify(r, "192.0.2.7", key, &accepted));
    CHECK(!accepted);
    OK(curve_tun_registry_add(r, "*", key));
    OK(curve_tun_registry_verify(r, "2001:db8::7", key, &accepted));
    CHECK(accepted);
    /* Of several keys the smallest is returned. */
    OK(curve_tun_registry_add(r, "::/0", w->client_key));
    OK(curve_tun_registry_lookup(r, "2001:db8::7", found));
    CHECK(memcmp(found, memcmp(key, w->client_key, sizeof key) < 0 ? key : w->client_key, sizeof key) == 0);
    /* Denied, whatever other entries the key has. */
    OK(curve_tun_registry_add(r, "!", key));
    OK(curve_tun_registry_verify(r, "2001:db8::7", key, &accepted));
    CHECK(!accepted);
    OK(curve_tun_registry_remove(r, "!", key));
    OK(curve_tun_registry_verify(r, "2001:db8::7", key, &accepted));
    CHECK(accepted);
    curve_tun_registry_free(r);
}

static void wrong_states(struct world *w)
{
    curve_tun_connection *c, *s;
    curve_tun_request request;
    curve_tun_answer answer;
    uint8_t key[CURVE_TUN_KEY_BYTES], buffer[16];
    uint8_t *place;
    int64_t next = 77;
    size_t len = 77;

    new_pair(w, &c, &s);
    memset(&answer, 0, sizeof answer);
    answer.size = sizeof answer;
    request.size = sizeof request;
    CHECK(curve_tun_connection_state(c) == CURVE_TUN_STATE_READY);
    CHECK(curve_tun_connection_state(s) == CURVE_TUN_STATE_READY);
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_connection_send(c, bytes, 1));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_connection_peer_key(s, key));
    GIVES(CURVE_TUN_ERR_WOULD_BLOCK, curve_tun_connection_recv(s, buffer, sizeof buffer, &len));
    GIVES(CURVE_TUN_ERR_WOULD_BLOCK, curve_tun_connection_request(s, &request));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_connection_answer(s, &answer));
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_connection_tick(s, -1, &next));
    request.size = 3;
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_connection_request(s, &request));
    answer.size = 3;
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_connection_answer(s, &answer));
    CHECK(len == 77 && next == 77);

    /* Counts of bytes that were never offered. */
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_connection_read_commit(s, 1));
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_connection_written(s, 1));
    OK(curve_tun_connection_written(s, 0));
    OK(curve_tun_connection_read_commit(s, 0));
    OK(curve_tun_connection_read_buffer(s, &place, &len));
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_connection_read_commit(s, len + 1));
    OK(curve_tun_connection_read_buffer(s, &place, &len));
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_connection_read_commit(s, SIZE_MAX));
    OK(curve_tun_connection_read_buffer(s, &place, &len));
    CHECK(curve_tun_connection_wants_read(s));
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_connection_read_commit(s, 1));
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_connection_written(c, SIZE_MAX));

    /* The handshake's deadline is that of the options, from the first tick on. */
    OK(curve_tun_connection_tick(s, 500, &next));
    CHECK(next == 500 + 10000);
    OK(curve_tun_connection_tick(s, next - 1, &next));
    GIVES(CURVE_TUN_ERR_TIMEOUT, curve_tun_connection_tick(s, next, &next));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_connection_tick(s, next, &next));
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);

    GIVES(CURVE_TUN_ERR_BAD_ADDRESS, curve_tun_connection_new_server(w->server, "nowhere", &s));
    GIVES(CURVE_TUN_ERR_BAD_ADDRESS, curve_tun_connection_new_server(w->server, "192.0.2.0/24", &s));
    GIVES(CURVE_TUN_ERR_BAD_ADDRESS, curve_tun_connection_new_server(w->server, "192.0.2.7%eth0", &s));
    GIVES(CURVE_TUN_ERR_BAD_ADDRESS, curve_tun_connection_new_server(w->server, "2001:db8::7%eth0", &s));
    GIVES(CURVE_TUN_ERR_BAD_ADDRESS, curve_tun_connection_new_server(w->server, "fe80::7%", &s));
    OK(curve_tun_connection_new_server(w->server, "fe80::7%eth0", &s));
    curve_tun_connection_free(s);
}

static void after_close(struct world *w)
{
    curve_tun_connection *c, *s;
    curve_tun_request request;
    curve_tun_answer answer;
    uint8_t key[CURVE_TUN_KEY_BYTES], buffer[16];
    const uint8_t *pending;
    uint8_t *place;
    int64_t next;
    size_t len;

    connected_pair(w, &c, &s);
    GIVES(CURVE_TUN_ERR_TOO_LARGE, curve_tun_connection_send(c, bytes, CURVE_TUN_MESSAGE_MAX + 1));
    OK(curve_tun_connection_send(c, (const uint8_t *)"last words", 10));
    OK(carry(c, s));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_connection_transport_ended(s));
    /* Messages before the end can still be read, even after a buffer that was too small. */
    GIVES(CURVE_TUN_ERR_TOO_SMALL, curve_tun_connection_recv(s, buffer, 9, &len));
    CHECK(len == 10);
    OK(curve_tun_connection_recv(s, buffer, 10, &len));
    CHECK(len == 10 && memcmp(buffer, "last words", 10) == 0);
    OK(curve_tun_connection_peer_key(s, key));
    CHECK(memcmp(key, w->client_key, sizeof key) == 0);

    memset(&answer, 0, sizeof answer);
    answer.size = sizeof answer;
    request.size = sizeof request;
    curve_tun_connection_close(c);
    curve_tun_connection_close(c);
    CHECK(curve_tun_connection_state(c) == CURVE_TUN_STATE_CLOSED);
    CHECK(!curve_tun_connection_wants_read(c) && !curve_tun_connection_wants_write(c));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_connection_read(c, bytes, 1, &len));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_connection_read_buffer(c, &place, &len));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_connection_read_commit(c, 0));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_connection_write(c, buffer, sizeof buffer, &len));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_connection_pending(c, &pending, &len));
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_connection_written(c, 1));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_connection_send(c, bytes, 1));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_connection_recv(c, buffer, sizeof buffer, &len));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_connection_tick(c, 0, &next));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_connection_request(c, &request));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_connection_answer(c, &answer));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_connection_transport_ended(c));
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);
}

static void bad_packets(struct world *w)
{
    curve_tun_connection *c, *s;
    uint8_t frame[2] = {0, 7};
    size_t len;

    new_pair(w, &c, &s);
    GIVES(CURVE_TUN_ERR_BAD_PACKET, curve_tun_connection_read(s, frame, sizeof frame, &len));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_connection_read(s, frame, sizeof frame, &len));
    CHECK(!curve_tun_connection_wants_write(s));
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);

    connected_pair(w, &c, &s);
    GIVES(CURVE_TUN_ERR_BAD_PACKET, curve_tun_connection_read(c, frame, sizeof frame, &len));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_connection_send(c, frame, sizeof frame));
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);
}

int main(void)
{
    struct world w = new_world();

    options_out_of_range(&w);
    vaults(&w);
    registries(&w);
    wrong_states(&w);
    after_close(&w);
    bad_packets(&w);
    free_world(&w);
    return 0;
}
