/*
 * Makes and ends secrets step by step, for a test that searches this process's memory after each
 * step: secrets FOLDER PASSPHRASE_FILE. It prints the step on standard output, and continues when
 * it reads a line.
 */

#define _POSIX_C_SOURCE 200809L

#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

static void step(const char *name)
{
    char line[2];

    printf("%s\n", name);
    CHECK(fflush(stdout) == 0);
    /* Not through a stream, whose buffer would be one more copy. */
    CHECK(read(STDIN_FILENO, line, 1) == 1);
}

static void talk(curve_tun_connection *from, curve_tun_connection *to)
{
    uint8_t message[16];
    size_t len;

    OK(curve_tun_connection_send(from, (const uint8_t *)"a message", 9));
    OK(carry(from, to));
    OK(curve_tun_connection_recv(to, message, sizeof message, &len));
    CHECK(len == 9);
}

/* Handshakes that end at each of their steps. */
static void aborted(struct world *w)
{
    static const uint8_t nothing[300];
    curve_tun_connection *c, *s;
    size_t consumed;
    int at;

    for (at = 0; at < 5; at++) {
        new_pair(w, &c, &s);
        if (at > 0)
            OK(carry(c, s));
        if (at == 2)
            GIVES(CURVE_TUN_ERR_BAD_PACKET, curve_tun_connection_read(c, nothing, sizeof nothing, &consumed));
        if (at == 3)
            GIVES(CURVE_TUN_ERR_BAD_PACKET, curve_tun_connection_read(s, nothing, sizeof nothing, &consumed));
        if (at == 4) {
            /* Connected in the client's view, but refused. */
            OK(carry(s, c));
            OK(curve_tun_registry_add(w->registry, "!", w->client_key));
            GIVES(CURVE_TUN_ERR_UNKNOWN_PEER, carry(c, s));
            OK(curve_tun_registry_remove(w->registry, "!", w->client_key));
        }
        curve_tun_connection_free(c);
        curve_tun_connection_free(s);
    }
}

static void errors(struct world *w, const char *folder)
{
    uint8_t box[48] = {0}, message[32], nonce[CURVE_TUN_NONCE_BYTES] = {0}, weak[CURVE_TUN_KEY_BYTES] = {0};
    uint8_t sealed[48], public_key[CURVE_TUN_KEY_BYTES], secret_key[CURVE_TUN_KEY_BYTES];
    curve_tun_connection *c, *s;
    curve_tun_vault *none = NULL;
    char path[512];

    GIVES(CURVE_TUN_ERR_BAD_PACKET, curve_tun_vault_box_open(w->server_vault, CURVE_TUN_PURPOSE_VOUCH, w->client_key,
                                                             nonce, box, sizeof box, message));
    GIVES(CURVE_TUN_ERR_WEAK_KEY, curve_tun_vault_box(w->server_vault, CURVE_TUN_PURPOSE_COOKIE, weak, box, 32, nonce,
                                                      sealed));
    GIVES(CURVE_TUN_ERR_WEAK_KEY, curve_tun_connection_new_client(w->client_vault, weak, &w->options, &c));
    snprintf(path, sizeof path, "%s/no/such", folder);
    GIVES(CURVE_TUN_ERR_FILE_NOT_FOUND, curve_tun_vault_create_file(path, NULL, 0, &none));
    OK(curve_tun_keypair_generate(public_key, secret_key));
    OK(curve_tun_vault_from_secret(secret_key, &none));
    curve_tun_wipe(secret_key, sizeof secret_key);
    curve_tun_vault_free(none);
    /* A client that expects another server's key. */
    OK(curve_tun_connection_new_client(w->client_vault, w->client_key, &w->options, &c));
    OK(curve_tun_connection_new_server(w->server, "127.0.0.1", &s));
    GIVES(CURVE_TUN_ERR_BAD_PACKET, carry(c, s));
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);
}

struct end {
    struct world *world;
    uint16_t port;
};

static void *client(void *argument)
{
    struct end *end = argument;
    curve_tun_socket *sock;
    uint8_t message[8];
    size_t len;

    OK(curve_tun_socket_connect("127.0.0.1", end->port, end->world->client_vault, end->world->server_key,
                                &end->world->options, PATIENCE_MS, &sock));
    OK(curve_tun_socket_send(sock, (const uint8_t *)"sent", 4, PATIENCE_MS));
    OK(curve_tun_socket_recv(sock, message, sizeof message, &len, PATIENCE_MS));
    curve_tun_socket_free(sock);
    return NULL;
}

static void sockets(struct world *w)
{
    curve_tun_listener *listener;
    curve_tun_socket *sock;
    uint8_t message[8];
    struct end end;
    pthread_t thread;
    size_t len;

    OK(curve_tun_listener_open("127.0.0.1", 0, w->server, &listener));
    end.world = w;
    end.port = curve_tun_listener_port(listener);
    CHECK(pthread_create(&thread, NULL, client, &end) == 0);
    OK(curve_tun_listener_accept(listener, PATIENCE_MS, &sock));
    OK(curve_tun_socket_recv(sock, message, sizeof message, &len, PATIENCE_MS));
    OK(curve_tun_socket_send(sock, message, len, PATIENCE_MS));
    CHECK(pthread_join(thread, NULL) == 0);
    curve_tun_socket_free(sock);
    curve_tun_listener_free(listener);
}

static void passphrases(const char *folder, const char *passphrase_file)
{
    uint8_t passphrase[64];
    curve_tun_vault *vault, *again = NULL;
    char path[512];
    ssize_t len;
    int fd = open(passphrase_file, O_RDONLY);

    len = read(fd, passphrase, sizeof passphrase);
    CHECK(fd >= 0 && len > 0);
    close(fd);
    snprintf(path, sizeof path, "%s/sealed", folder);
    OK(curve_tun_vault_create_file_at_cost(path, passphrase, (size_t)len, 1, 1 << 20, &vault));
    GIVES(CURVE_TUN_ERR_ALREADY_EXISTS,
          curve_tun_vault_create_file_at_cost(path, passphrase, (size_t)len, 1, 1 << 20, &again));
    curve_tun_vault_free(vault);
    GIVES(CURVE_TUN_ERR_WRONG_PASSPHRASE, curve_tun_vault_open_file(path, passphrase, (size_t)len - 1, &again));
    OK(curve_tun_vault_open_file(path, passphrase, (size_t)len, &vault));
    curve_tun_wipe(passphrase, sizeof passphrase);
    step("sealed vault open");
    curve_tun_vault_free(vault);
    CHECK(again == NULL);
}

int main(int argc, char **argv)
{
    struct world w;
    curve_tun_connection *c, *s;

    CHECK(argc == 3);
    w = new_world();
    step("server");
    connected_pair(&w, &c, &s);
    talk(c, s);
    step("connected");
    talk(s, c);
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);
    step("closed");
    aborted(&w);
    step("aborted");
    errors(&w, argv[1]);
    step("errors");
    sockets(&w);
    step("sockets");
    passphrases(argv[1], argv[2]);
    step("sealed vault freed");
    /* The minute passes during this step. */
    step("minute");
    free_world(&w);
    step("freed");
    return 0;
}
