/* Streams over sockets whose peer does not do its part: timeouts, a peer that speaks no streams or
 * the other mode, and calls of many threads at once. */

#define _POSIX_C_SOURCE 200809L

#include "tunnel.h"

#define P PATIENCE_MS
#define MEGABYTE ((size_t)1 << 20)

static struct house house;

static void open_both(const curve_tun_stream_options *options, curve_tun_socket **client, curve_tun_stream **c,
                      curve_tun_stream **s)
{
    curve_tun_socket *server;

    connected_sockets(&house, client, &server);
    OK(curve_tun_stream_new(*client, options, c));
    OK(curve_tun_stream_new(server, options, s));
    curve_tun_socket_free(server);
    /* Waiting for the server sends what the client says of itself. */
    GIVES(CURVE_TUN_ERR_TIMEOUT, curve_tun_stream_await_peer(*c, NULL, 0));
    OK(curve_tun_stream_await_peer(*s, NULL, P));
    OK(curve_tun_stream_accept(*s));
    OK(curve_tun_stream_await_peer(*c, NULL, P));
}

static void a_peer_that_is_silent(void)
{
    curve_tun_socket *client, *server;
    curve_tun_stream *c, *s;
    uint8_t byte = 77;
    size_t len = 77;

    /* The client says nothing, and then does. */
    connected_sockets(&house, &client, &server);
    OK(curve_tun_stream_new(client, NULL, &c));
    OK(curve_tun_stream_new(server, NULL, &s));
    GIVES(CURVE_TUN_ERR_TIMEOUT, curve_tun_stream_await_peer(s, NULL, 0));
    GIVES(CURVE_TUN_ERR_TIMEOUT, curve_tun_stream_await_peer(s, NULL, 10));
    GIVES(CURVE_TUN_ERR_TIMEOUT, curve_tun_stream_read(c, &byte, 1, &len, 10));
    OK(curve_tun_stream_await_peer(s, NULL, P));
    OK(curve_tun_stream_accept(s));
    GIVES(CURVE_TUN_ERR_TIMEOUT, curve_tun_stream_read(s, &byte, 1, &len, 0));
    CHECK(byte == 77 && len == 77);
    /* Its end does not come, and then does. */
    GIVES(CURVE_TUN_ERR_TIMEOUT, curve_tun_stream_finish(s, 10));
    GIVES(CURVE_TUN_ERR_TIMEOUT, curve_tun_stream_finish(s, 0));
    OK(curve_tun_stream_finish_write(c, P));
    OK(curve_tun_stream_read(c, &byte, 1, &len, P));
    CHECK(len == 0);
    curve_tun_socket_free(client);
    curve_tun_stream_free(c);
    OK(curve_tun_stream_finish(s, P));
    curve_tun_stream_free(s);
    curve_tun_socket_free(server);
}

/* Reads this many bytes of the pattern, from a place on. */
static void read_pattern(curve_tun_stream *stream, size_t from, size_t count)
{
    static uint8_t buffer[10007];
    size_t len;

    while (count > 0) {
        OK(curve_tun_stream_read(stream, buffer, count < sizeof buffer ? count : sizeof buffer, &len, P));
        CHECK(len > 0 && len <= count);
        check_pattern(buffer, from, len);
        from += len;
        count -= len;
    }
}

/* What of a write was taken is told, and goes once and in order. */
static void a_peer_that_does_not_read(void)
{
    curve_tun_stream *c, *s;
    curve_tun_socket *client;
    curve_tun_result result;
    size_t written, total = 0;
    uint8_t *bytes;

    open_both(NULL, &client, &c, &s);
    do {
        bytes = pattern(total, MEGABYTE);
        written = 77;
        result = curve_tun_stream_write(c, bytes, MEGABYTE, &written, 0);
        CHECK(written <= MEGABYTE && (result != CURVE_TUN_OK || written == MEGABYTE));
        free(bytes);
        total += written;
    } while (result == CURVE_TUN_OK);
    GIVES(CURVE_TUN_ERR_TIMEOUT, result);
    GIVES(CURVE_TUN_ERR_TIMEOUT, curve_tun_stream_finish_write(c, 0));
    read_pattern(s, 0, total / 2);
    OK(curve_tun_stream_finish_write(c, P));
    read_pattern(s, total / 2, total - total / 2);
    OK(curve_tun_stream_read(s, (uint8_t[1]){0}, 1, &written, P));
    CHECK(written == 0);
    curve_tun_stream_free(c);
    curve_tun_stream_free(s);
    curve_tun_socket_free(client);
}

/* A message of which a part is on its way cannot be taken back. */
static void a_message_in_the_middle(void)
{
    curve_tun_stream_options options = CURVE_TUN_STREAM_OPTIONS_INIT;
    uint8_t *bytes = pattern(0, 16 * MEGABYTE);
    const uint8_t *message;
    curve_tun_socket *client;
    curve_tun_stream *c, *s;
    curve_tun_result result;
    size_t len;

    options.mode = CURVE_TUN_MODE_MESSAGES;
    open_both(&options, &client, &c, &s);
    do
        result = curve_tun_stream_send_message(c, bytes, 16 * MEGABYTE, 0);
    while (result == CURVE_TUN_OK);
    GIVES(CURVE_TUN_ERR_TIMEOUT, result);
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_stream_send_message(c, bytes, 1, P));
    curve_tun_stream_free(c);
    curve_tun_socket_free(client);
    /* The server gets what is whole, and learns that the rest is missing: by an abort, if that still
     * found room. */
    do
        result = curve_tun_stream_recv_message(s, &message, &len, P);
    while (result == CURVE_TUN_OK && message != NULL && len == 16 * MEGABYTE);
    CHECK(result == CURVE_TUN_ERR_ABORTED || result == CURVE_TUN_ERR_TRUNCATED);
    curve_tun_stream_free(s);
    free(bytes);
}

static void peers_that_speak_otherwise(void)
{
    curve_tun_stream_options options = CURVE_TUN_STREAM_OPTIONS_INIT;
    curve_tun_socket *client, *server;
    curve_tun_stream *c, *s;
    uint8_t bytes[100];
    uint32_t code;
    size_t len;

    /* No stream: such a program is told nothing. */
    connected_sockets(&house, &client, &server);
    OK(curve_tun_socket_send(client, (const uint8_t *)"hello", 5, P));
    OK(curve_tun_stream_new(server, NULL, &s));
    GIVES(CURVE_TUN_ERR_NOT_A_STREAM, curve_tun_stream_await_peer(s, NULL, P));
    GIVES(CURVE_TUN_ERR_NOT_A_STREAM, curve_tun_stream_accept(s));
    curve_tun_stream_free(s);
    curve_tun_socket_free(server);
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_socket_recv(client, bytes, sizeof bytes, &len, P));
    curve_tun_socket_free(client);

    /* A server that does not answer in the language of streams. */
    connected_sockets(&house, &client, &server);
    OK(curve_tun_stream_new(client, NULL, &c));
    GIVES(CURVE_TUN_ERR_TIMEOUT, curve_tun_stream_await_peer(c, NULL, 10));
    OK(curve_tun_socket_recv(server, bytes, sizeof bytes, &len, P));
    OK(curve_tun_socket_send(server, bytes, 1, P));
    GIVES(CURVE_TUN_ERR_NOT_A_STREAM, curve_tun_stream_await_peer(c, NULL, P));
    GIVES(CURVE_TUN_ERR_NOT_A_STREAM, curve_tun_stream_read(c, bytes, 1, &len, P));
    curve_tun_stream_free(c);
    curve_tun_socket_free(client);
    curve_tun_socket_free(server);

    /* The other mode. */
    connected_sockets(&house, &client, &server);
    OK(curve_tun_stream_new(client, NULL, &c));
    options.mode = CURVE_TUN_MODE_MESSAGES;
    OK(curve_tun_stream_new(server, &options, &s));
    OK(curve_tun_stream_write(c, bytes, 1, &len, P));
    GIVES(CURVE_TUN_ERR_BAD_PACKET, curve_tun_stream_await_peer(s, NULL, P));
    GIVES(CURVE_TUN_ERR_BAD_PACKET, curve_tun_stream_accept(s));
    GIVES(CURVE_TUN_ERR_ABORTED, curve_tun_stream_read(c, bytes, 1, &len, P));
    OK(curve_tun_stream_abort_code(c, &code));
    CHECK(code == CURVE_TUN_ABORT_PROTOCOL);
    curve_tun_stream_free(c);
    curve_tun_stream_free(s);
    curve_tun_socket_free(client);
    curve_tun_socket_free(server);
}

#define MANY MEGABYTE

static void *write_many(void *stream)
{
    uint8_t *bytes = pattern(0, MANY);
    size_t at, written;

    for (at = 0; at < MANY; at += written) {
        size_t piece = MANY - at < 100003 ? MANY - at : 100003;

        OK(curve_tun_stream_write(stream, bytes + at, piece, &written, P));
        CHECK(written == piece);
    }
    OK(curve_tun_stream_finish_write(stream, P));
    free(bytes);
    return NULL;
}

/* A thread that reads from a stream, its own buffer. */
static void *read_many(void *stream)
{
    uint8_t *buffer = malloc(10007);
    size_t at = 0, len;

    CHECK(buffer != NULL);
    do {
        OK(curve_tun_stream_read(stream, buffer, 10007, &len, P));
        check_pattern(buffer, at, len);
        at += len;
    } while (len > 0);
    CHECK(at == MANY);
    free(buffer);
    return NULL;
}

static void *ask_for_ever(void *stream)
{
    curve_tun_stream_peer peer = CURVE_TUN_STREAM_PEER_INIT;
    uint32_t code;
    int i;

    for (i = 0; i < 1000; i++) {
        OK(curve_tun_stream_await_peer(stream, &peer, P));
        GIVES(CURVE_TUN_ERR_NOT_FOUND, curve_tun_stream_abort_code(stream, &code));
    }
    return NULL;
}

static void both_directions_at_once(void)
{
    void *(*const calls[])(void *) = {write_many, read_many, ask_for_ever};
    curve_tun_stream *ends[2];
    curve_tun_socket *client;
    pthread_t threads[6];
    int i;

    open_both(NULL, &client, &ends[0], &ends[1]);
    for (i = 0; i < 6; i++)
        CHECK(pthread_create(&threads[i], NULL, calls[i / 2], ends[i % 2]) == 0);
    for (i = 0; i < 6; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    curve_tun_socket_free(client);
    for (i = 0; i < 2; i++)
        curve_tun_stream_free(ends[i]);
}

static void *write_for_ever(void *stream)
{
    static const uint8_t zeros[100000];
    curve_tun_result result;
    size_t written;

    do
        result = curve_tun_stream_write(stream, zeros, sizeof zeros, &written, -1);
    while (result == CURVE_TUN_OK);
    GIVES(CURVE_TUN_ERR_CLOSED, result);
    return NULL;
}

static void *read_until_cut(void *stream)
{
    uint8_t byte;
    size_t len;

    GIVES(CURVE_TUN_ERR_TRUNCATED, curve_tun_stream_read(stream, &byte, 1, &len, -1));
    return NULL;
}

static void a_shutdown_wakes_both(void)
{
    pthread_t reading, writing;
    curve_tun_stream *c, *s;
    curve_tun_socket *client;

    open_both(NULL, &client, &c, &s);
    CHECK(pthread_create(&reading, NULL, read_until_cut, c) == 0);
    CHECK(pthread_create(&writing, NULL, write_for_ever, c) == 0);
    curve_tun_socket_shutdown(client);
    CHECK(pthread_join(reading, NULL) == 0);
    CHECK(pthread_join(writing, NULL) == 0);
    curve_tun_stream_free(c);
    curve_tun_stream_free(s);
    curve_tun_socket_free(client);
}

int main(void)
{
    house = new_house();
    a_peer_that_is_silent();
    a_peer_that_does_not_read();
    a_message_in_the_middle();
    peers_that_speak_otherwise();
    both_directions_at_once();
    a_shutdown_wakes_both();
    free_house(&house);
    return 0;
}
