/* Streams over sockets: ends, cuts and aborts, both modes, misuse, timeouts, threads. */

#define _POSIX_C_SOURCE 200809L

#include "tunnel.h"

#define P PATIENCE_MS

static struct house house;

/* Both ends of a stream. The sockets are freed at once: the streams keep them. */
static void open_both(const curve_tun_stream_options *options, curve_tun_stream **c, curve_tun_stream **s)
{
    curve_tun_socket *client, *server;
    size_t written;

    connected_sockets(&house, &client, &server);
    OK(curve_tun_stream_new(client, options, c));
    OK(curve_tun_stream_new(server, options, s));
    curve_tun_socket_free(client);
    curve_tun_socket_free(server);
    if (options == NULL || options->mode == CURVE_TUN_MODE_STREAM) {
        OK(curve_tun_stream_write(*c, NULL, 0, &written, P));
    } else {
        /* Waiting for the server sends what the client says of itself. */
        GIVES(CURVE_TUN_ERR_TIMEOUT, curve_tun_stream_await_peer(*c, NULL, 0));
    }
    OK(curve_tun_stream_await_peer(*s, NULL, P));
    OK(curve_tun_stream_accept(*s));
    OK(curve_tun_stream_await_peer(*c, NULL, P));
}

static void write_all(curve_tun_stream *stream, const char *text)
{
    size_t written;

    OK(curve_tun_stream_write(stream, (const uint8_t *)text, strlen(text), &written, P));
    CHECK(written == strlen(text));
}

/* Reads exactly this text. */
static void read_text(curve_tun_stream *stream, const char *text)
{
    uint8_t buffer[64];
    size_t len, got = 0;

    while (got < strlen(text)) {
        OK(curve_tun_stream_read(stream, buffer + got, strlen(text) - got, &len, P));
        CHECK(len > 0);
        got += len;
    }
    CHECK(memcmp(buffer, text, got) == 0);
}

static curve_tun_result read_some(curve_tun_stream *stream, size_t *len)
{
    uint8_t buffer[16];

    return curve_tun_stream_read(stream, buffer, sizeof buffer, len, P);
}

static void read_end(curve_tun_stream *stream)
{
    size_t len = 9;

    OK(read_some(stream, &len));
    CHECK(len == 0);
}

static void *finish_on_thread(void *stream)
{
    OK(curve_tun_stream_finish(stream, P));
    return NULL;
}

static void finish_both(curve_tun_stream *c, curve_tun_stream *s)
{
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, finish_on_thread, s) == 0);
    OK(curve_tun_stream_finish(c, P));
    CHECK(pthread_join(thread, NULL) == 0);
    curve_tun_stream_free(c);
    curve_tun_stream_free(s);
}

static void ends(void)
{
    curve_tun_stream *c, *s;
    size_t written;
    uint32_t code;

    open_both(NULL, &c, &s);
    write_all(c, "request");
    OK(curve_tun_stream_finish_write(c, P));
    OK(curve_tun_stream_finish_write(c, P));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_stream_write(c, (const uint8_t *)"x", 1, &written, P));
    CHECK(written == 0);
    read_text(s, "request");
    read_end(s);
    read_end(s);
    /* The other direction goes on. */
    write_all(s, "answer");
    read_text(c, "answer");
    GIVES(CURVE_TUN_ERR_NOT_FOUND, curve_tun_stream_abort_code(c, &code));
    OK(curve_tun_stream_finish_write(s, P));
    read_end(c);
    finish_both(c, s);
    /* Ends that finish with all still to be read. */
    open_both(NULL, &c, &s);
    write_all(c, "to be dropped");
    finish_both(c, s);
}

static void cut(void)
{
    curve_tun_socket *client, *server;
    curve_tun_stream *c, *s;
    uint32_t code = 77;
    size_t len = 77, written;

    connected_sockets(&house, &client, &server);
    OK(curve_tun_stream_new(client, NULL, &c));
    OK(curve_tun_stream_new(server, NULL, &s));
    write_all(c, "half");
    OK(curve_tun_stream_await_peer(s, NULL, P));
    OK(curve_tun_stream_accept(s));
    read_text(s, "half");
    curve_tun_socket_shutdown(client);
    GIVES(CURVE_TUN_ERR_TRUNCATED, read_some(s, &len));
    GIVES(CURVE_TUN_ERR_TRUNCATED, read_some(s, &len));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_stream_finish(s, P));
    GIVES(CURVE_TUN_ERR_NOT_FOUND, curve_tun_stream_abort_code(s, &code));
    CHECK(len == 77 && code == 77);
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_stream_write(c, (const uint8_t *)"x", 1, &written, P));
    /* Streams may be freed before their sockets. */
    curve_tun_stream_free(c);
    curve_tun_stream_free(s);
    curve_tun_socket_free(client);
    curve_tun_socket_free(server);

    /* A cut after an end takes nothing of it back. */
    connected_sockets(&house, &client, &server);
    OK(curve_tun_stream_new(client, NULL, &c));
    OK(curve_tun_stream_new(server, NULL, &s));
    write_all(c, "all");
    OK(curve_tun_stream_finish_write(c, P));
    OK(curve_tun_stream_await_peer(s, NULL, P));
    OK(curve_tun_stream_accept(s));
    read_text(s, "all");
    read_end(s);
    curve_tun_socket_shutdown(client);
    read_end(s);
    curve_tun_socket_free(client);
    curve_tun_socket_free(server);
    curve_tun_stream_free(c);
    curve_tun_stream_free(s);
}

static void *read_for_ever(void *stream)
{
    uint8_t byte;
    size_t len;

    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_stream_read(stream, &byte, 1, &len, -1));
    return NULL;
}

static void aborts(void)
{
    curve_tun_stream *c, *s;
    char text[CURVE_TUN_ABORT_TEXT_SIZE];
    pthread_t reading;
    uint32_t code = 77;
    size_t len, written;

    open_both(NULL, &c, &s);
    write_all(c, "a part");
    CHECK(pthread_create(&reading, NULL, read_for_ever, c) == 0);
    OK(curve_tun_stream_abort(c, CURVE_TUN_ABORT_SHUTTING_DOWN, "back at noon"));
    CHECK(pthread_join(reading, NULL) == 0);
    OK(curve_tun_stream_abort(c, CURVE_TUN_ABORT_BUSY, NULL));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_stream_write(c, (const uint8_t *)"x", 1, &written, P));
    read_text(s, "a part");
    GIVES(CURVE_TUN_ERR_ABORTED, read_some(s, &len));
    GIVES(CURVE_TUN_ERR_ABORTED, read_some(s, &len));
    GIVES(CURVE_TUN_ERR_ABORTED, curve_tun_stream_write(s, (const uint8_t *)"x", 1, &written, P));
    GIVES(CURVE_TUN_ERR_ABORTED, curve_tun_stream_finish_write(s, P));
    OK(curve_tun_stream_abort_code(s, &code));
    CHECK(code == CURVE_TUN_ABORT_SHUTTING_DOWN);
    GIVES(CURVE_TUN_ERR_TOO_SMALL, curve_tun_stream_abort_text(s, text, strlen("back at noon")));
    OK(curve_tun_stream_abort_text(s, text, sizeof text));
    CHECK(strcmp(text, "back at noon") == 0);
    curve_tun_stream_free(c);
    curve_tun_stream_free(s);

    /* Freed before it has ended. */
    open_both(NULL, &c, &s);
    write_all(s, "a part");
    curve_tun_stream_free(s);
    read_text(c, "a part");
    GIVES(CURVE_TUN_ERR_ABORTED, read_some(c, &len));
    OK(curve_tun_stream_abort_code(c, &code));
    OK(curve_tun_stream_abort_text(c, text, sizeof text));
    CHECK(code == CURVE_TUN_ABORT_GIVEN_UP && text[0] == '\0');
    curve_tun_stream_free(c);
}

static void refusal(void)
{
    curve_tun_stream_options options = CURVE_TUN_STREAM_OPTIONS_INIT;
    curve_tun_stream_peer peer = CURVE_TUN_STREAM_PEER_INIT;
    curve_tun_socket *client, *server;
    curve_tun_stream *c, *s;
    uint32_t code;
    size_t len;

    options.service = "web.1";
    options.client_ip_len = 4;
    memcpy(options.client_ip, "\xc0\x00\x02\x07", 4);
    options.client_port = 65535;
    connected_sockets(&house, &client, &server);
    OK(curve_tun_stream_new(client, &options, &c));
    /* What only a client has is ignored. */
    OK(curve_tun_stream_new(server, &options, &s));
    write_all(c, "with the first packet");
    OK(curve_tun_stream_await_peer(s, &peer, P));
    CHECK(strcmp(peer.service, "web.1") == 0 && peer.message_max == 0);
    CHECK(peer.client_ip_len == 4 && memcmp(peer.client_ip, options.client_ip, 16) == 0);
    CHECK(peer.client_port == 65535 && peer.size == sizeof peer);
    OK(curve_tun_stream_abort(s, CURVE_TUN_ABORT_NO_SERVICE, ""));
    GIVES(CURVE_TUN_ERR_ABORTED, curve_tun_stream_await_peer(c, &peer, P));
    GIVES(CURVE_TUN_ERR_ABORTED, read_some(c, &len));
    OK(curve_tun_stream_abort_code(c, &code));
    CHECK(code == CURVE_TUN_ABORT_NO_SERVICE);
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_stream_accept(s));
    curve_tun_stream_free(c);
    curve_tun_stream_free(s);
    curve_tun_socket_free(client);
    curve_tun_socket_free(server);
}

/* Sizes around all borders, and the least that an end can be told to take. */
static const size_t sizes[] = {0, 1, 65502, 65503, 65504, 131000, 1000000};
#define SIZES (sizeof sizes / sizeof *sizes)
#define LARGEST 1000000

static void *send_messages(void *stream)
{
    uint8_t *bytes = pattern(0, LARGEST + 1);
    size_t i;

    for (i = 0; i < SIZES; i++)
        OK(curve_tun_stream_send_message(stream, bytes, sizes[i], P));
    GIVES(CURVE_TUN_ERR_TOO_LARGE, curve_tun_stream_send_message(stream, bytes, LARGEST + 1, P));
    OK(curve_tun_stream_send_message(stream, bytes, 4, P));
    OK(curve_tun_stream_finish_write(stream, P));
    free(bytes);
    return NULL;
}

static void messages(void)
{
    curve_tun_stream_options options = CURVE_TUN_STREAM_OPTIONS_INIT;
    curve_tun_stream_peer peer = CURVE_TUN_STREAM_PEER_INIT;
    const uint8_t *message;
    curve_tun_stream *c, *s;
    pthread_t sending;
    size_t i, len;

    options.mode = CURVE_TUN_MODE_MESSAGES;
    options.message_max = LARGEST;
    open_both(&options, &c, &s);
    OK(curve_tun_stream_await_peer(c, &peer, P));
    CHECK(peer.message_max == LARGEST && peer.service[0] == '\0' && peer.client_ip_len == 0);
    CHECK(pthread_create(&sending, NULL, send_messages, c) == 0);
    for (i = 0; i <= SIZES; i++) {
        OK(curve_tun_stream_recv_message(s, &message, &len, P));
        CHECK(message != NULL && len == (i < SIZES ? sizes[i] : 4));
        check_pattern(message, 0, len);
    }
    for (i = 0; i < 2; i++) {
        OK(curve_tun_stream_recv_message(s, &message, &len, P));
        CHECK(message == NULL && len == 0);
    }
    CHECK(pthread_join(sending, NULL) == 0);
    GIVES(CURVE_TUN_ERR_TIMEOUT, curve_tun_stream_recv_message(c, &message, &len, 0));
    finish_both(c, s);

    options.message_max = 1;
    open_both(&options, &c, &s);
    OK(curve_tun_stream_await_peer(c, &peer, P));
    CHECK(peer.message_max == 65502);
    curve_tun_stream_free(c);
    GIVES(CURVE_TUN_ERR_ABORTED, curve_tun_stream_recv_message(s, &message, &len, P));
    curve_tun_stream_free(s);
}

static void misuse(void)
{
    static const char *const no_services[] = {"", "Web", "a b", "web/1",
        "a-name-that-has-more-than-sixty-four-letters-and-so-is-not-one-of-any", "\xff"};
    curve_tun_stream_options options = CURVE_TUN_STREAM_OPTIONS_INIT;
    curve_tun_message message = {(const uint8_t *)"x", 1};
    curve_tun_socket *client, *server;
    curve_tun_stream *c, *s, *none = NULL;
    const uint8_t *received;
    char text[CURVE_TUN_ABORT_TEXT_SIZE + 1];
    uint8_t byte = 'x';
    size_t i, len;

    connected_sockets(&house, &client, &server);
#define REFUSED(field, value)                                                                    \
    do {                                                                                         \
        options = (curve_tun_stream_options)CURVE_TUN_STREAM_OPTIONS_INIT;                       \
        options.field = (value);                                                                 \
        GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_stream_new(client, &options, &none));    \
    } while (0)
    REFUSED(size, 0);
    REFUSED(mode, 2);
    REFUSED(client_ip_len, 5);
    REFUSED(client_ip_len, 17);
    REFUSED(client_ip_len, UINT32_MAX);
    REFUSED(client_port, 65536);
    for (i = 0; i < sizeof no_services / sizeof *no_services; i++)
        REFUSED(service, no_services[i]);
    CHECK(none == NULL);

    OK(curve_tun_stream_new(client, NULL, &c));
    OK(curve_tun_stream_new(server, NULL, &s));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_stream_new(client, NULL, &none));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_socket_send(client, &byte, 1, P));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_socket_send_many(client, &message, 1, P));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_socket_queue(client, &byte, 1, P));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_socket_flush(client, P));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_socket_recv(client, &byte, 1, &len, P));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_socket_handshake(client, P));
    OK(curve_tun_socket_peer_address(client, text, sizeof text));
    CHECK(curve_tun_socket_fd(client) >= 0);

    /* Before the server has taken the stream. */
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_stream_accept(c));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_stream_accept(s));
    write_all(c, "text");
    OK(curve_tun_stream_await_peer(s, NULL, P));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_stream_read(s, &byte, 1, &len, P));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_stream_write(s, &byte, 1, &len, P));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_stream_finish_write(s, P));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_stream_finish(s, P));
    OK(curve_tun_stream_accept(s));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_stream_accept(s));

    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_stream_read(s, &byte, 0, &len, P));
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_stream_read(s, NULL, 0, &len, P));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_stream_send_message(s, &byte, 1, P));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_stream_recv_message(s, &received, &len, P));
    memset(text, 'x', sizeof text);
    text[CURVE_TUN_ABORT_TEXT_SIZE] = '\0';
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_stream_abort(c, 0, text));
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_stream_abort(c, 0, "\xff"));
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_stream_abort(c, 7, NULL));
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_stream_abort(c, 65536, NULL));
    /* None of that has harmed it. */
    read_text(s, "text");
    curve_tun_socket_free(client);
    curve_tun_socket_free(server);
    finish_both(c, s);

    options = (curve_tun_stream_options)CURVE_TUN_STREAM_OPTIONS_INIT;
    options.mode = CURVE_TUN_MODE_MESSAGES;
    open_both(&options, &c, &s);
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_stream_read(c, &byte, 1, &len, P));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_stream_write(c, &byte, 1, &len, P));
    curve_tun_stream_free(c);
    curve_tun_stream_free(s);
}

int main(void)
{
    house = new_house();
    ends();
    cut();
    aborts();
    refusal();
    messages();
    misuse();
    free_house(&house);
    return 0;
}
