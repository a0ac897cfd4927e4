/*
 * stream_client HOST PORT SECRET SERVER_PUBLIC [SERVICE]
 *
 * Sends standard input as a stream to a server, and prints the stream that comes back, both at
 * once. It ends with status 0 only if both have come to their end: a part of an answer is not taken
 * for all of it, whoever cut the connection.
 */

#define _POSIX_C_SOURCE 200809L

#include "common.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TIMEOUT_MS 30000

/* Exits unless the result is CURVE_TUN_OK; says why if the server has given the stream up. */
static void check_stream(const char *what, const curve_tun_stream *stream, curve_tun_result result)
{
    uint32_t code;

    if (result == CURVE_TUN_ERR_ABORTED && curve_tun_stream_abort_code(stream, &code) == CURVE_TUN_OK) {
        fprintf(stderr, "%s: %s (code %u)\n", what, curve_tun_result_message(result), (unsigned)code);
        exit(EXIT_FAILURE);
    }
    check(what, result);
}

static void *print_answer(void *argument)
{
    curve_tun_stream *stream = argument;
    static uint8_t buffer[65536];
    size_t len;

    do {
        check_stream("receive", stream, curve_tun_stream_read(stream, buffer, sizeof buffer, &len, -1));
        if (fwrite(buffer, 1, len, stdout) != len || fflush(stdout) != 0)
            fail("standard output", strerror(errno));
    } while (len > 0);
    return NULL;
}

static void send_input(curve_tun_stream *stream)
{
    static uint8_t buffer[65536];
    size_t written;
    ssize_t len;

    while ((len = read(STDIN_FILENO, buffer, sizeof buffer)) != 0) {
        if (len < 0 && errno != EINTR)
            fail("standard input", strerror(errno));
        if (len > 0)
            check_stream("send", stream,
                         curve_tun_stream_write(stream, buffer, (size_t)len, &written, TIMEOUT_MS));
    }
    check_stream("send", stream, curve_tun_stream_finish_write(stream, TIMEOUT_MS));
}

/* One thread receives while this one sends: otherwise each end could wait for the other to read. */
static void talk(curve_tun_stream *stream)
{
    pthread_t receiver;
    int error = pthread_create(&receiver, NULL, print_answer, stream);

    if (error != 0)
        fail("thread", strerror(error));
    send_input(stream);
    pthread_join(receiver, NULL);
    check_stream("finish", stream, curve_tun_stream_finish(stream, TIMEOUT_MS));
}

int main(int argc, char **argv)
{
    curve_tun_stream_options options = CURVE_TUN_STREAM_OPTIONS_INIT;
    uint8_t server_public_key[CURVE_TUN_KEY_BYTES];
    curve_tun_vault *vault;
    curve_tun_socket *socket;
    curve_tun_stream *stream;
    uint16_t port;

    if (argc != 5 && argc != 6)
        fail(argv[0], "HOST PORT SECRET SERVER_PUBLIC [SERVICE]");
    port = port_argument(argv[2]);
    public_key_argument(argv[4], server_public_key);
    options.service = argv[5];
    vault = vault_argument(argv[3]);
    check("connect",
          curve_tun_socket_connect(argv[1], port, vault, server_public_key, NULL, TIMEOUT_MS, &socket));
    curve_tun_vault_free(vault);
    check("stream", curve_tun_stream_new(socket, &options, &stream));
    /* The stream holds a reference to it. */
    curve_tun_socket_free(socket);
    talk(stream);
    curve_tun_stream_free(stream);
    return 0;
}
