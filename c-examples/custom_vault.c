/*
 * custom_vault
 *
 * A vault and a registry implemented by the program. The server's secret key lives in a separate
 * process, which does not use the network; the process that talks to clients never sees the key. A
 * client connects, one message is echoed, and every call of the vault and the registry is printed.
 */

#define _POSIX_C_SOURCE 200809L

#include "common.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define TIMEOUT_MS 10000

/* A question to the key process, and its answer. The handshake's boxes are small. */
struct question {
    uint32_t opens; /* 0: seal bytes. 1: open them. */
    uint32_t purpose;
    uint8_t peer_public_key[CURVE_TUN_KEY_BYTES];
    uint8_t nonce[CURVE_TUN_NONCE_BYTES];
    uint32_t len;
    uint8_t bytes[256];
};

struct answer {
    int32_t result;
    uint8_t nonce[CURVE_TUN_NONCE_BYTES];
    uint8_t bytes[256 + CURVE_TUN_BOX_OVERHEAD];
};

/* The connection to the key process. The library may ask from several threads at once. */
struct key_process {
    int fd;
    pid_t pid;
    pthread_mutex_t lock;
};

static bool read_all(int fd, void *buffer, size_t len)
{
    char *place = buffer;

    while (len > 0) {
        ssize_t count = read(fd, place, len);

        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return false;
        place += count;
        len -= (size_t)count;
    }
    return true;
}

static bool write_all(int fd, const void *buffer, size_t len)
{
    const char *place = buffer;

    while (len > 0) {
        ssize_t count = send(fd, place, len, MSG_NOSIGNAL);

        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return false;
        place += count;
        len -= (size_t)count;
    }
    return true;
}

/* The key process: sends its public key, then answers questions until the other end is closed. */
static void hold_key(int fd)
{
    uint8_t public_key[CURVE_TUN_KEY_BYTES];
    curve_tun_vault *vault;
    struct question q;

    check("vault", curve_tun_vault_generate(&vault));
    check("vault", curve_tun_vault_public_key(vault, public_key));
    if (!write_all(fd, public_key, sizeof public_key))
        fail("key process", "nobody listens");
    while (read_all(fd, &q, sizeof q)) {
        struct answer a;

        memset(&a, 0, sizeof a);
        if (q.len > sizeof q.bytes)
            a.result = CURVE_TUN_ERR_INVALID_ARGUMENT;
        else if (q.opens)
            a.result = curve_tun_vault_box_open(vault, q.purpose, q.peer_public_key, q.nonce, q.bytes, q.len,
                                                a.bytes);
        else
            a.result = curve_tun_vault_box(vault, q.purpose, q.peer_public_key, q.bytes, q.len, a.nonce,
                                           a.bytes);
        if (!write_all(fd, &a, sizeof a))
            break;
    }
    curve_tun_vault_free(vault);
}

static int32_t ask(struct key_process *keys, const struct question *question, struct answer *answer)
{
    bool answered;

    printf("vault: %s a box with purpose %u\n", question->opens ? "open" : "seal",
           (unsigned)question->purpose);
    pthread_mutex_lock(&keys->lock);
    answered = write_all(keys->fd, question, sizeof *question) && read_all(keys->fd, answer, sizeof *answer);
    pthread_mutex_unlock(&keys->lock);
    return answered ? answer->result : CURVE_TUN_ERR_VAULT_FAILED;
}

static int32_t vault_box_seal(void *user_data, uint32_t purpose, const uint8_t *peer_public_key,
                              const uint8_t *message, size_t len, uint8_t *nonce, uint8_t *sealed)
{
    struct question question;
    struct answer answer;
    int32_t result;

    memset(&question, 0, sizeof question);
    if (len > sizeof question.bytes)
        return CURVE_TUN_ERR_VAULT_FAILED;
    question.purpose = purpose;
    memcpy(question.peer_public_key, peer_public_key, CURVE_TUN_KEY_BYTES);
    question.len = (uint32_t)len;
    memcpy(question.bytes, message, len);
    result = ask(user_data, &question, &answer);
    if (result == CURVE_TUN_OK) {
        memcpy(nonce, answer.nonce, CURVE_TUN_NONCE_BYTES);
        memcpy(sealed, answer.bytes, len + CURVE_TUN_BOX_OVERHEAD);
    }
    return result;
}

static int32_t vault_box_open(void *user_data, uint32_t purpose, const uint8_t *peer_public_key,
                              const uint8_t *nonce, size_t nonce_len, const uint8_t *sealed, size_t len,
                              uint8_t *message)
{
    struct question question;
    struct answer answer;
    int32_t result;

    memset(&question, 0, sizeof question);
    if (nonce_len > sizeof question.nonce || len > sizeof question.bytes || len < CURVE_TUN_BOX_OVERHEAD)
        return CURVE_TUN_ERR_VAULT_FAILED;
    question.opens = 1;
    question.purpose = purpose;
    memcpy(question.peer_public_key, peer_public_key, CURVE_TUN_KEY_BYTES);
    memcpy(question.nonce, nonce, nonce_len);
    question.len = (uint32_t)len;
    memcpy(question.bytes, sealed, len);
    result = ask(user_data, &question, &answer);
    if (result == CURVE_TUN_OK)
        memcpy(message, answer.bytes, len - CURVE_TUN_BOX_OVERHEAD);
    return result;
}

/* Nothing uses the vault any more: ends the key process, and the key with it. */
static void vault_free(void *user_data)
{
    struct key_process *keys = user_data;

    close(keys->fd);
    waitpid(keys->pid, NULL, 0);
    pthread_mutex_destroy(&keys->lock);
    free(keys);
    printf("vault: freed\n");
}

/* Starts the key process, before this process has any threads, and makes a vault of it. */
static curve_tun_vault *vault_of_key_process(void)
{
    struct key_process *keys = malloc(sizeof *keys);
    curve_tun_vault_callbacks callbacks = CURVE_TUN_VAULT_CALLBACKS_INIT;
    curve_tun_vault *vault;
    int ends[2];

    if (keys == NULL || socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0)
        fail("key process", strerror(errno));
    keys->pid = fork();
    if (keys->pid < 0)
        fail("key process", strerror(errno));
    if (keys->pid == 0) {
        close(ends[0]);
        free(keys);
        hold_key(ends[1]);
        _exit(0);
    }
    close(ends[1]);
    keys->fd = ends[0];
    pthread_mutex_init(&keys->lock, NULL);

    /* Another process may be slow, so no connection may wait for it inside a call. */
    callbacks.deferred = 1;
    callbacks.box_seal = vault_box_seal;
    callbacks.box_open = vault_box_open;
    callbacks.free = vault_free;
    if (!read_all(keys->fd, callbacks.public_key, sizeof callbacks.public_key))
        fail("key process", "it has ended");
    check("vault", curve_tun_vault_custom(&callbacks, keys, &vault));
    return vault;
}

/* The registry: allows one client, identified by its key, from this machine only. */
static int32_t registry_verify(void *user_data, const char *address, const uint8_t *public_key,
                               const char *listener, uint32_t *accepted)
{
    char text[CURVE_TUN_KEY_TEXT_SIZE];
    curve_tun_result result = curve_tun_public_key_to_text(public_key, text);

    (void)listener;
    if (result != CURVE_TUN_OK)
        return result;
    *accepted = memcmp(public_key, user_data, CURVE_TUN_KEY_BYTES) == 0 && strcmp(address, "127.0.0.1") == 0;
    printf("registry: %s from %s? %s\n", text, address, *accepted ? "yes" : "no");
    return CURVE_TUN_OK;
}

struct client {
    uint16_t port;
    curve_tun_vault *vault;
    uint8_t server_public_key[CURVE_TUN_KEY_BYTES];
};

static void *run_client(void *argument)
{
    static const char message[] = "hello";
    struct client *client = argument;
    curve_tun_socket *socket;
    uint8_t answer[sizeof message];
    size_t len;

    check("connect", curve_tun_socket_connect("127.0.0.1", client->port, client->vault, client->server_public_key,
                                       NULL, TIMEOUT_MS, &socket));
    check("send", curve_tun_socket_send(socket, (const uint8_t *)message, sizeof message - 1, TIMEOUT_MS));
    check("receive", curve_tun_socket_recv(socket, answer, sizeof answer, &len, TIMEOUT_MS));
    printf("client: sent %s, received %.*s\n", message, (int)len, (const char *)answer);
    curve_tun_socket_free(socket);
    return NULL;
}

int main(void)
{
    curve_tun_vault *server_vault = vault_of_key_process();
    uint8_t client_public_key[CURVE_TUN_KEY_BYTES], message[CURVE_TUN_MESSAGE_MAX];
    curve_tun_registry_callbacks callbacks = CURVE_TUN_REGISTRY_CALLBACKS_INIT;
    curve_tun_registry *registry;
    curve_tun_server *server;
    curve_tun_listener *listener;
    curve_tun_socket *socket;
    struct client client;
    pthread_t thread;
    size_t len;
    int error;

    check("vault", curve_tun_vault_generate(&client.vault));
    check("vault", curve_tun_vault_public_key(client.vault, client_public_key));
    check("vault", curve_tun_vault_public_key(server_vault, client.server_public_key));

    callbacks.verify = registry_verify;
    /* The key outlives the registry, so there is nothing to free. */
    check("registry", curve_tun_registry_custom(&callbacks, client_public_key, &registry));

    check("server", curve_tun_server_new(server_vault, registry, NULL, &server));
    check("listen", curve_tun_listener_open("127.0.0.1", 0, server, &listener));
    client.port = curve_tun_listener_port(listener);
    error = pthread_create(&thread, NULL, run_client, &client);
    if (error != 0)
        fail("thread", strerror(error));

    check("accept", curve_tun_listener_accept(listener, TIMEOUT_MS, &socket));
    check("receive", curve_tun_socket_recv(socket, message, sizeof message, &len, TIMEOUT_MS));
    check("send", curve_tun_socket_send(socket, message, len, TIMEOUT_MS));
    pthread_join(thread, NULL);

    curve_tun_socket_free(socket);
    curve_tun_listener_free(listener);
    curve_tun_server_free(server);
    curve_tun_registry_free(registry);
    curve_tun_vault_free(client.vault);
    curve_tun_vault_free(server_vault);
    return 0;
}
