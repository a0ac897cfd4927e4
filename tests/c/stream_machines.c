/* Streams without I/O: two machines in memory. */

#define _POSIX_C_SOURCE 200809L

#include "tunnel.h"

/* Two ends in memory. */
struct ends {
    curve_tun_connection *client, *server;
    curve_tun_stream_machine *c, *s;
};

static void carry_both(struct ends *ends)
{
    OK(carry(ends->client, ends->server));
    OK(carry(ends->server, ends->client));
}

static struct ends new_ends(struct world *w, const curve_tun_stream_options *options)
{
    struct ends ends;

    connected_pair(w, &ends.client, &ends.server);
    OK(curve_tun_stream_machine_new(ends.client, options, &ends.c));
    OK(curve_tun_stream_machine_new(ends.server, options, &ends.s));
    GIVES(CURVE_TUN_ERR_WOULD_BLOCK, curve_tun_stream_machine_peer(ends.c, NULL));
    GIVES(CURVE_TUN_ERR_WOULD_BLOCK, curve_tun_stream_machine_peer(ends.s, NULL));
    carry_both(&ends);
    OK(curve_tun_stream_machine_peer(ends.s, NULL));
    OK(curve_tun_stream_machine_accept(ends.s));
    carry_both(&ends);
    OK(curve_tun_stream_machine_peer(ends.c, NULL));
    return ends;
}

static void free_ends(struct ends *ends)
{
    curve_tun_stream_machine_free(ends->c);
    curve_tun_stream_machine_free(ends->s);
    curve_tun_connection_free(ends->client);
    curve_tun_connection_free(ends->server);
}

static void write_text(curve_tun_stream_machine *machine, const char *text)
{
    size_t written = 77;

    OK(curve_tun_stream_machine_write(machine, (const uint8_t *)text, strlen(text), &written));
    CHECK(written == strlen(text));
}

static void read_text(curve_tun_stream_machine *machine, const char *text)
{
    uint8_t buffer[64];
    size_t len;

    OK(curve_tun_stream_machine_read(machine, buffer, sizeof buffer, &len));
    CHECK(len == strlen(text) && memcmp(buffer, text, len) == 0);
}

static curve_tun_result read_some(curve_tun_stream_machine *machine, size_t *len)
{
    uint8_t buffer[16];

    return curve_tun_stream_machine_read(machine, buffer, sizeof buffer, len);
}

static void ends_and_cuts(struct world *w)
{
    struct ends ends = new_ends(w, NULL);
    size_t len = 77, written;
    uint8_t two[2];

    GIVES(CURVE_TUN_ERR_WOULD_BLOCK, read_some(ends.c, &len));
    CHECK(len == 77);
    write_text(ends.c, "request");
    OK(curve_tun_stream_machine_finish_write(ends.c));
    OK(curve_tun_stream_machine_finish_write(ends.c));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_stream_machine_write(ends.c, two, 1, &written));
    CHECK(written == 0 && !curve_tun_stream_machine_is_finished(ends.c));
    carry_both(&ends);
    /* A message in pieces. */
    OK(curve_tun_stream_machine_read(ends.s, two, 2, &len));
    CHECK(len == 2 && memcmp(two, "re", 2) == 0);
    read_text(ends.s, "quest");
    OK(read_some(ends.s, &len));
    CHECK(len == 0);
    /* The other direction goes on; then the transport ends with all said. */
    write_text(ends.s, "answer");
    OK(curve_tun_stream_machine_finish_write(ends.s));
    CHECK(curve_tun_stream_machine_is_finished(ends.s));
    carry_both(&ends);
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_connection_transport_ended(ends.client));
    read_text(ends.c, "answer");
    OK(read_some(ends.c, &len));
    CHECK(len == 0 && curve_tun_stream_machine_is_finished(ends.c));
    OK(read_some(ends.c, &len));
    CHECK(len == 0);
    free_ends(&ends);

    /* A transport that ends earlier has been cut; what came before it is there. */
    ends = new_ends(w, NULL);
    write_text(ends.c, "half");
    carry_both(&ends);
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_connection_transport_ended(ends.server));
    read_text(ends.s, "half");
    GIVES(CURVE_TUN_ERR_TRUNCATED, read_some(ends.s, &len));
    GIVES(CURVE_TUN_ERR_TRUNCATED, read_some(ends.s, &len));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_stream_machine_write(ends.s, two, 1, &written));
    /* The other way round. */
    curve_tun_connection_free(ends.server);
    curve_tun_stream_machine_free(ends.s);
    ends.server = NULL;
    ends.s = NULL;
    free_ends(&ends);
}

static void aborts(struct world *w)
{
    struct ends ends = new_ends(w, NULL);
    char text[CURVE_TUN_ABORT_TEXT_SIZE];
    uint32_t code = 77;
    size_t len, written;

    write_text(ends.c, "part");
    OK(curve_tun_stream_machine_abort(ends.c, CURVE_TUN_ABORT_TIME_LIMIT, "too slow"));
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_stream_machine_abort(ends.c, 7, NULL));
    GIVES(CURVE_TUN_ERR_CLOSED, read_some(ends.c, &len));
    carry_both(&ends);
    GIVES(CURVE_TUN_ERR_NOT_FOUND, curve_tun_stream_machine_abort_code(ends.s, &code));
    read_text(ends.s, "part");
    GIVES(CURVE_TUN_ERR_ABORTED, read_some(ends.s, &len));
    GIVES(CURVE_TUN_ERR_ABORTED, curve_tun_stream_machine_write(ends.s, (const uint8_t *)"x", 1, &written));
    OK(curve_tun_stream_machine_abort_code(ends.s, &code));
    CHECK(code == CURVE_TUN_ABORT_TIME_LIMIT);
    GIVES(CURVE_TUN_ERR_TOO_SMALL, curve_tun_stream_machine_abort_text(ends.s, text, 8));
    OK(curve_tun_stream_machine_abort_text(ends.s, text, sizeof text));
    CHECK(strcmp(text, "too slow") == 0);
    free_ends(&ends);

    /* One that is freed says so, if its connection is still written. */
    ends = new_ends(w, NULL);
    curve_tun_stream_machine_free(ends.c);
    ends.c = NULL;
    carry_both(&ends);
    GIVES(CURVE_TUN_ERR_ABORTED, read_some(ends.s, &len));
    OK(curve_tun_stream_machine_abort_code(ends.s, &code));
    CHECK(code == CURVE_TUN_ABORT_GIVEN_UP);
    free_ends(&ends);
}

static void misuse(struct world *w)
{
    curve_tun_stream_options options = CURVE_TUN_STREAM_OPTIONS_INIT;
    curve_tun_stream_peer peer = CURVE_TUN_STREAM_PEER_INIT;
    curve_tun_message sent = {(const uint8_t *)"x", 1};
    const uint8_t *message;
    struct ends ends;
    uint8_t byte = 0;
    size_t len;

    new_pair(w, &ends.client, &ends.server);
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_stream_machine_new(ends.client, NULL, &ends.c));
    curve_tun_connection_close(ends.client);
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_stream_machine_new(ends.client, NULL, &ends.c));
    curve_tun_connection_free(ends.client);
    curve_tun_connection_free(ends.server);

    connected_pair(w, &ends.client, &ends.server);
    options.mode = 2;
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_stream_machine_new(ends.client, &options, &ends.c));
    options.mode = CURVE_TUN_MODE_STREAM;
    options.service = "web";
    options.client_ip_len = 16;
    options.client_ip[15] = 1;
    OK(curve_tun_stream_machine_new(ends.client, &options, &ends.c));
    OK(curve_tun_stream_machine_new(ends.server, NULL, &ends.s));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_stream_machine_new(ends.client, NULL, &ends.c));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_connection_send(ends.client, &byte, 1));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_connection_send_many(ends.client, &sent, 1, &len));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_connection_recv(ends.client, &byte, 1, &len));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_connection_peek(ends.client, &message, &len));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_connection_consume(ends.client));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_stream_machine_accept(ends.c));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_stream_machine_accept(ends.s));
    write_text(ends.c, "text");
    carry_both(&ends);
    OK(curve_tun_stream_machine_peer(ends.s, &peer));
    CHECK(strcmp(peer.service, "web") == 0 && peer.client_ip_len == 16 && peer.client_port == 0);
    CHECK(memcmp(peer.client_ip, options.client_ip, 16) == 0);
    GIVES(CURVE_TUN_ERR_WRONG_STATE, read_some(ends.s, &len));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_stream_machine_write(ends.s, &byte, 1, &len));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_stream_machine_finish_write(ends.s));
    OK(curve_tun_stream_machine_accept(ends.s));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_stream_machine_accept(ends.s));
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_stream_machine_read(ends.s, &byte, 0, &len));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_stream_machine_send_message(ends.s, &byte, 1));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_stream_machine_recv_message(ends.s, &message, &len));
    read_text(ends.s, "text");
    free_ends(&ends);
}

/* Messages through connections that take little at a time. */
static void messages(struct world *w)
{
    static const size_t sizes[] = {0, 1, 65502, 65503, 300000};
    curve_tun_stream_options options = CURVE_TUN_STREAM_OPTIONS_INIT;
    uint8_t *bytes = pattern(0, 300001);
    const uint8_t *message;
    struct ends ends;
    size_t i, len;

    options.mode = CURVE_TUN_MODE_MESSAGES;
    options.message_max = 300000;
    ends = new_ends(w, &options);
    for (i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        curve_tun_result sent, came;
        int waits = 0;

        do {
            sent = curve_tun_stream_machine_send_message(ends.c, bytes, sizes[i]);
            if (sent != CURVE_TUN_OK) {
                GIVES(CURVE_TUN_ERR_WOULD_BLOCK, sent);
                waits++;
                /* Another message may not go in between, nor the end. */
                GIVES(CURVE_TUN_ERR_WOULD_BLOCK, curve_tun_stream_machine_send_message(ends.c, bytes, sizes[i]));
                GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_stream_machine_send_message(ends.c, bytes, 1));
                GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_stream_machine_finish_write(ends.c));
            }
            CHECK(curve_tun_connection_pending_len(ends.client) < 2 * 66000);
            carry_both(&ends);
            came = curve_tun_stream_machine_recv_message(ends.s, &message, &len);
            CHECK(came == CURVE_TUN_ERR_WOULD_BLOCK || sent == CURVE_TUN_OK);
        } while (sent != CURVE_TUN_OK);
        /* The last piece may have been held back. */
        while (came == CURVE_TUN_ERR_WOULD_BLOCK) {
            GIVES(CURVE_TUN_ERR_WOULD_BLOCK, curve_tun_stream_machine_recv_message(ends.c, &message, &len));
            carry_both(&ends);
            came = curve_tun_stream_machine_recv_message(ends.s, &message, &len);
        }
        OK(came);
        CHECK(message != NULL && len == sizes[i] && (waits > 0) == (sizes[i] == 300000));
        check_pattern(message, 0, len);
    }
    GIVES(CURVE_TUN_ERR_TOO_LARGE, curve_tun_stream_machine_send_message(ends.c, bytes, 300001));
    OK(curve_tun_stream_machine_send_message(ends.c, bytes, 3));
    GIVES(CURVE_TUN_ERR_WOULD_BLOCK, curve_tun_stream_machine_finish_write(ends.c));
    CHECK(!curve_tun_stream_machine_is_finished(ends.c));
    carry_both(&ends);
    OK(curve_tun_stream_machine_finish_write(ends.c));
    carry_both(&ends);
    OK(curve_tun_stream_machine_recv_message(ends.s, &message, &len));
    CHECK(message != NULL && len == 3);
    for (i = 0; i < 2; i++) {
        OK(curve_tun_stream_machine_recv_message(ends.s, &message, &len));
        CHECK(message == NULL && len == 0);
    }
    free_ends(&ends);

    /* A large one waits for what the peer takes; a small one does not. */
    connected_pair(w, &ends.client, &ends.server);
    OK(curve_tun_stream_machine_new(ends.client, &options, &ends.c));
    GIVES(CURVE_TUN_ERR_WOULD_BLOCK, curve_tun_stream_machine_send_message(ends.c, bytes, 65503));
    OK(curve_tun_stream_machine_send_message(ends.c, bytes, 65502));
    ends.s = NULL;
    free_ends(&ends);
    free(bytes);
}

int main(void)
{
    struct world w = new_world();

    ends_and_cuts(&w);
    aborts(&w);
    misuse(&w);
    /* From here on a client's connection takes one packet at a time. */
    w.options.send_high_water = 1;
    messages(&w);
    free_world(&w);
    return 0;
}
