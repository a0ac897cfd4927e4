/*
 * echo_client HOST PORT SECRET SERVER_PUBLIC [--file PATH]
 *
 * Sends each line of standard input as a message to an echo server and prints each answer as a
 * line. With --file, sends a file in messages of 60,000 bytes, compares the answers with it, and
 * prints the number of bytes and seconds.
 */

#define _POSIX_C_SOURCE 200809L

#include "common.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TIMEOUT_MS 30000
#define PIECE 60000

static void echo_lines(curve_tun_socket *socket)
{
    static uint8_t answer[CURVE_TUN_MESSAGE_MAX];
    char *line = NULL;
    size_t capacity = 0, answer_len;
    ssize_t len;

    while ((len = getline(&line, &capacity, stdin)) >= 0) {
        if (len > 0 && line[len - 1] == '\n')
            len--;
        check("send", curve_tun_socket_send(socket, (const uint8_t *)line, (size_t)len, TIMEOUT_MS));
        check("receive", curve_tun_socket_recv(socket, answer, sizeof answer, &answer_len, TIMEOUT_MS));
        fwrite(answer, 1, answer_len, stdout);
        putchar('\n');
        if (fflush(stdout) != 0)
            fail("standard output", strerror(errno));
    }
    if (ferror(stdin))
        fail("standard input", strerror(errno));
    free(line);
}

struct upload {
    curve_tun_socket *socket;
    const char *path;
};

static FILE *open_file(const char *path)
{
    FILE *file = fopen(path, "rb");

    if (file == NULL)
        fail(path, strerror(errno));
    return file;
}

/* Reads the next piece. Returns 0 at the end of the file. */
static size_t read_piece(const char *path, FILE *file, uint8_t piece[PIECE])
{
    size_t len = fread(piece, 1, PIECE, file);

    if (ferror(file))
        fail(path, strerror(errno));
    return len;
}

static void *send_file(void *argument)
{
    const struct upload *upload = argument;
    FILE *file = open_file(upload->path);
    static uint8_t piece[PIECE];
    size_t len;

    while ((len = read_piece(upload->path, file, piece)) > 0)
        check("send", curve_tun_socket_send(upload->socket, piece, len, TIMEOUT_MS));
    fclose(file);
    return NULL;
}

/* One thread sends while this one receives: otherwise each end could wait for the other to read. */
static void echo_file(curve_tun_socket *socket, const char *path)
{
    static uint8_t expected[PIECE], answer[CURVE_TUN_MESSAGE_MAX];
    struct upload upload = {socket, path};
    FILE *file = open_file(path);
    unsigned long long total = 0;
    struct timespec start, end;
    size_t len, answer_len;
    pthread_t sender;
    double seconds;
    int error;

    clock_gettime(CLOCK_MONOTONIC, &start);
    error = pthread_create(&sender, NULL, send_file, &upload);
    if (error != 0)
        fail("thread", strerror(error));
    while ((len = read_piece(path, file, expected)) > 0) {
        check("receive", curve_tun_socket_recv(socket, answer, sizeof answer, &answer_len, TIMEOUT_MS));
        if (answer_len != len || memcmp(answer, expected, len) != 0)
            fail(path, "the server sent other bytes back");
        total += len;
    }
    pthread_join(sender, NULL);
    clock_gettime(CLOCK_MONOTONIC, &end);
    fclose(file);
    seconds = (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9;
    printf("%llu bytes there and back in %.3f seconds\n", total, seconds);
}

int main(int argc, char **argv)
{
    uint8_t server_public_key[CURVE_TUN_KEY_BYTES];
    curve_tun_vault *vault;
    curve_tun_socket *socket;
    uint16_t port;

    if (argc != 5 && !(argc == 7 && strcmp(argv[5], "--file") == 0))
        fail(argv[0], "HOST PORT SECRET SERVER_PUBLIC [--file PATH]");
    port = port_argument(argv[2]);
    public_key_argument(argv[4], server_public_key);
    vault = vault_argument(argv[3]);
    check("connect",
          curve_tun_socket_connect(argv[1], port, vault, server_public_key, NULL, TIMEOUT_MS, &socket));
    curve_tun_vault_free(vault);
    if (argc == 7)
        echo_file(socket, argv[6]);
    else
        echo_lines(socket);
    curve_tun_socket_free(socket);
    return 0;
}
