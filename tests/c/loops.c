/* For event loops and bindings: messages read in place, many at once, and callbacks left out. */

#include "check.h"

static uint8_t buffer[CURVE_TUN_MESSAGE_MAX];

/* Carries `count` messages: the first byte of each is its number, and its length is that plus
 * one. */
static void send_numbered(curve_tun_connection *from, curve_tun_connection *to, size_t count)
{
    curve_tun_message messages[200];
    static uint8_t bytes[200][201];
    size_t i, sent;

    for (i = 0; i < count; i++) {
        memset(bytes[i], (int)i, i + 1);
        messages[i].bytes = bytes[i];
        messages[i].len = i + 1;
    }
    OK(curve_tun_connection_send_many(from, messages, count, &sent));
    CHECK(sent == count);
    OK(carry(from, to));
}

static void in_place(struct world *w)
{
    curve_tun_connection *c, *s;
    const uint8_t *message, *again;
    size_t len, i;

    connected_pair(w, &c, &s);
    GIVES(CURVE_TUN_ERR_WOULD_BLOCK, curve_tun_connection_peek(s, &message, &len));
    GIVES(CURVE_TUN_ERR_WOULD_BLOCK, curve_tun_connection_consume(s));
    send_numbered(c, s, 200);
    for (i = 0; i < 200; i++) {
        OK(curve_tun_connection_peek(s, &message, &len));
        CHECK(len == i + 1 && message[0] == i && message[i] == i);
        /* It stays until it is consumed. */
        OK(curve_tun_connection_peek(s, &again, &len));
        CHECK(again == message);
        if (i % 3 == 0) {
            OK(curve_tun_connection_recv(s, buffer, sizeof buffer, &len));
            CHECK(len == i + 1 && buffer[i] == i);
        } else {
            OK(curve_tun_connection_consume(s));
        }
    }
    GIVES(CURVE_TUN_ERR_WOULD_BLOCK, curve_tun_connection_peek(s, &message, &len));

    /* An empty message takes a place, too; and messages before the end can still be read after
     * it. */
    OK(curve_tun_connection_send(c, NULL, 0));
    OK(curve_tun_connection_send(c, (const uint8_t *)"last", 4));
    OK(carry(c, s));
    OK(curve_tun_connection_peek(s, &message, &len));
    CHECK(message != NULL && len == 0);
    OK(curve_tun_connection_consume(s));
    curve_tun_connection_close(s);
    OK(curve_tun_connection_peek(s, &message, &len));
    CHECK(len == 4 && memcmp(message, "last", 4) == 0);
    OK(curve_tun_connection_consume(s));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_connection_peek(s, &message, &len));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_connection_consume(s));
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);
}

static void many(struct world *w)
{
    curve_tun_options options = CURVE_TUN_OPTIONS_INIT;
    curve_tun_message messages[5];
    curve_tun_connection *c, *s;
    const uint8_t *pending;
    size_t i, len, sent = 99;

    for (i = 0; i < 5; i++) {
        messages[i].bytes = buffer;
        messages[i].len = 1000;
    }
    options.send_high_water = 2500;
    OK(curve_tun_connection_new_client(w->client_vault, w->server_key, &options, &c));
    OK(curve_tun_connection_new_server(w->server, "127.0.0.1", &s));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_connection_send_many(c, messages, 5, &sent));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_connection_send_many(c, messages, 0, &sent));
    CHECK(sent == 99);
    OK(carry(c, s));
    OK(carry(s, c));
    OK(carry(c, s));

    /* If not all can be sent, none is. */
    messages[4].len = CURVE_TUN_MESSAGE_MAX + 1;
    messages[4].bytes = calloc(1, messages[4].len);
    CHECK(messages[4].bytes != NULL);
    GIVES(CURVE_TUN_ERR_TOO_LARGE, curve_tun_connection_send_many(c, messages, 5, &sent));
    free((void *)(uintptr_t)messages[4].bytes);
    messages[4].bytes = NULL;
    GIVES(CURVE_TUN_ERR_NULL, curve_tun_connection_send_many(c, messages, 5, &sent));
    CHECK(sent == 99 && curve_tun_connection_pending_len(c) == 0);
    messages[4].bytes = buffer;
    messages[4].len = 1000;

    /* As many as there is room for; the rest has to be passed again. */
    OK(curve_tun_connection_send_many(c, messages, 5, &sent));
    CHECK(sent == 3);
    sent = 99;
    GIVES(CURVE_TUN_ERR_WOULD_BLOCK, curve_tun_connection_send_many(c, messages + 3, 2, &sent));
    CHECK(sent == 99);
    OK(curve_tun_connection_send_many(c, messages + 3, 0, &sent));
    CHECK(sent == 0);
    OK(curve_tun_connection_pending(c, &pending, &len));
    CHECK(curve_tun_connection_pending_len(c) == len && len > 3000);
    OK(curve_tun_connection_written(c, 0));
    OK(carry(c, s));
    CHECK(curve_tun_connection_pending_len(c) == 0);
    OK(curve_tun_connection_send_many(c, messages + 3, 2, &sent));
    CHECK(sent == 2);
    OK(carry(c, s));
    for (i = 0; i < 5; i++) {
        OK(curve_tun_connection_recv(s, buffer, sizeof buffer, &len));
        CHECK(len == 1000);
    }
    curve_tun_connection_close(c);
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_connection_send_many(c, messages, 1, &sent));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_connection_send_many(c, messages, 0, &sent));
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);
}

/* An evicted handshake without a callback learns of it from its next call. */
static void eviction(struct world *w)
{
    curve_tun_options options = CURVE_TUN_OPTIONS_INIT;
    curve_tun_server *server;
    curve_tun_connection *older, *newer;
    int64_t next;

    options.handshakes_max = 1;
    OK(curve_tun_server_new(w->server_vault, w->registry, &options, &server));
    OK(curve_tun_connection_new_server(server, "127.0.0.1", &older));
    GIVES(CURVE_TUN_ERR_TOO_MANY_HANDSHAKES, curve_tun_connection_new_server(server, "127.0.0.1", &newer));
    OK(curve_tun_connection_on_evict(older, NULL, NULL));
    OK(curve_tun_connection_new_server(server, "127.0.0.1", &newer));
    GIVES(CURVE_TUN_ERR_TOO_MANY_HANDSHAKES, curve_tun_connection_tick(older, 0, &next));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_connection_tick(older, 0, &next));
    curve_tun_connection_free(older);
    curve_tun_connection_free(newer);
    curve_tun_server_free(server);
}

/* An address in bytes equals the same one in text: the registry of `w` lets in 127.0.0.1 and nobody
 * else. */
static void addresses(struct world *w)
{
    static const uint8_t v4[4] = {127, 0, 0, 1}, other[4] = {127, 0, 0, 2},
                         mapped[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1}, v6[16] = {[15] = 1};
    const struct {
        const uint8_t *ip;
        size_t len;
        curve_tun_result result;
    } from[] = {{v4, 4, CURVE_TUN_OK},
                {mapped, 16, CURVE_TUN_OK},
                {other, 4, CURVE_TUN_ERR_UNKNOWN_PEER},
                {v6, 16, CURVE_TUN_ERR_UNKNOWN_PEER}};
    curve_tun_connection *c, *s = NULL;
    size_t i;

    for (i = 0; i < sizeof from / sizeof from[0]; i++) {
        OK(curve_tun_connection_new_client(w->client_vault, w->server_key, NULL, &c));
        OK(curve_tun_connection_new_server_ip(w->server, from[i].ip, from[i].len, &s));
        OK(carry(c, s));
        OK(carry(s, c));
        GIVES(from[i].result, carry(c, s));
        curve_tun_connection_free(c);
        curve_tun_connection_free(s);
    }
    s = NULL;
    for (i = 0; i < 18; i++)
        if (i != 4 && i != 16)
            GIVES(CURVE_TUN_ERR_BAD_ADDRESS, curve_tun_connection_new_server_ip(w->server, buffer, i, &s));
    CHECK(s == NULL);
}

int main(void)
{
    struct world w = new_world();

    CHECK(curve_tun_abi_version() == CURVE_TUN_ABI_VERSION);
    in_place(&w);
    many(&w);
    eviction(&w);
    addresses(&w);
    free_world(&w);
    return 0;
}
