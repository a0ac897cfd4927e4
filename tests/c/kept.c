/* Stored vaults: kept FOLDER AGENT_SOCKET [TOKEN_URI PIN]. */

#define _XOPEN_SOURCE 700

#include "check.h"

#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint8_t passphrase[] = "correct horse";
#define PASSPHRASE passphrase, sizeof passphrase - 1

/* FOLDER/NAME, in a separate buffer for each call in one expression. */
static char *in(const char *folder, const char *name)
{
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void files(const char *folder)
{
    curve_tun_vault *vault, *again = NULL;
    uint8_t key[CURVE_TUN_KEY_BYTES], same[CURVE_TUN_KEY_BYTES];
    const char *path = in(folder, "plain");
    char long_path[5000];
    struct stat status;

    OK(curve_tun_vault_create_file(path, NULL, 0, &vault));
    CHECK(stat(path, &status) == 0 && (status.st_mode & 07777) == 0600);
    OK(curve_tun_vault_public_key(vault, key));
    GIVES(CURVE_TUN_ERR_ALREADY_EXISTS, curve_tun_vault_create_file(path, NULL, 0, &again));
    GIVES(CURVE_TUN_ERR_VAULT_IN_USE, curve_tun_vault_open_file(path, NULL, 0, &again));
    curve_tun_vault_free(vault);
    GIVES(CURVE_TUN_ERR_WRONG_PASSPHRASE, curve_tun_vault_open_file(path, PASSPHRASE, &again));
    CHECK(chmod(path, 0640) == 0);
    GIVES(CURVE_TUN_ERR_VAULT_PERMISSIONS, curve_tun_vault_open_file(path, NULL, 0, &again));
    CHECK(chmod(path, 0600) == 0);
    CHECK(again == NULL);
    OK(curve_tun_vault_open_file(path, NULL, 0, &vault));
    OK(curve_tun_vault_public_key(vault, same));
    CHECK(memcmp(key, same, sizeof key) == 0);
    curve_tun_vault_free(vault);
    CHECK(truncate(path, 100) == 0);
    GIVES(CURVE_TUN_ERR_VAULT_CORRUPT, curve_tun_vault_open_file(path, NULL, 0, &again));

    path = in(folder, "sealed");
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_vault_create_file_at_cost(path, PASSPHRASE, 0, 8192, &vault));
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_vault_create_file_at_cost(path, PASSPHRASE, 1, 8191, &vault));
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_vault_create_file_at_cost(path, NULL, 0, 1, 8192, &vault));
    OK(curve_tun_vault_create_file_at_cost(path, PASSPHRASE, 1, 8192, &vault));
    curve_tun_vault_free(vault);
    GIVES(CURVE_TUN_ERR_WRONG_PASSPHRASE, curve_tun_vault_open_file(path, NULL, 0, &again));
    OK(curve_tun_vault_open_file(path, PASSPHRASE, &vault));
    curve_tun_vault_free(vault);

    GIVES(CURVE_TUN_ERR_FILE_NOT_FOUND, curve_tun_vault_create_file(in(folder, "no/such"), NULL, 0, &again));
    memset(long_path, 'x', sizeof long_path);
    long_path[sizeof long_path - 1] = 0;
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_vault_open_file(long_path, NULL, 0, &again));
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_vault_open_agent(in(folder, long_path + 4800), &again));
    GIVES(CURVE_TUN_ERR_FILE_NOT_FOUND, curve_tun_vault_open_agent(in(folder, "nobody"), &again));
}

struct end {
    curve_tun_listener *listener;
    curve_tun_vault *vault;
    uint8_t server_key[CURVE_TUN_KEY_BYTES];
};

static void *client(void *argument)
{
    struct end *end = argument;
    curve_tun_options options = CURVE_TUN_OPTIONS_INIT;
    curve_tun_socket *sock;
    uint8_t answer[16];
    size_t len;

    OK(curve_tun_socket_connect("127.0.0.1", curve_tun_listener_port(end->listener), end->vault, end->server_key, &options,
                                PATIENCE_MS, &sock));
    OK(curve_tun_socket_send(sock, (const uint8_t *)"kept", 4, PATIENCE_MS));
    OK(curve_tun_socket_recv(sock, answer, sizeof answer, &len, PATIENCE_MS));
    CHECK(len == 4 && memcmp(answer, "kept", 4) == 0);
    curve_tun_socket_free(sock);
    return NULL;
}

/* A tunnel over sockets between two vaults. */
static void tunnel(curve_tun_vault *here, curve_tun_vault *there)
{
    curve_tun_options options = CURVE_TUN_OPTIONS_INIT;
    curve_tun_registry *registry;
    curve_tun_server *server;
    curve_tun_socket *sock;
    uint8_t key[CURVE_TUN_KEY_BYTES], peer[CURVE_TUN_KEY_BYTES], message[16];
    struct end end;
    pthread_t thread;
    size_t len;

    OK(curve_tun_vault_public_key(there, key));
    OK(curve_tun_registry_new(&registry));
    OK(curve_tun_registry_add(registry, "*", key));
    OK(curve_tun_server_new(here, registry, &options, &server));
    OK(curve_tun_listener_open("127.0.0.1", 0, server, &end.listener));
    end.vault = there;
    OK(curve_tun_vault_public_key(here, end.server_key));
    CHECK(pthread_create(&thread, NULL, client, &end) == 0);
    OK(curve_tun_listener_accept(end.listener, PATIENCE_MS, &sock));
    OK(curve_tun_socket_peer_key(sock, peer));
    CHECK(memcmp(peer, key, sizeof key) == 0);
    OK(curve_tun_socket_recv(sock, message, sizeof message, &len, PATIENCE_MS));
    OK(curve_tun_socket_send(sock, message, len, PATIENCE_MS));
    CHECK(pthread_join(thread, NULL) == 0);
    curve_tun_socket_free(sock);
    curve_tun_listener_free(end.listener);
    curve_tun_server_free(server);
    curve_tun_registry_free(registry);
}

/* The same over a connection without I/O, whose requests the test answers itself. */
static void by_hand(curve_tun_vault *here, curve_tun_vault *there)
{
    curve_tun_options options = CURVE_TUN_OPTIONS_INIT;
    curve_tun_connection *ends[2];
    curve_tun_registry *registry;
    curve_tun_server *server;
    curve_tun_request request;
    curve_tun_answer answer;
    uint8_t key[CURVE_TUN_KEY_BYTES];
    int moved;

    OK(curve_tun_vault_public_key(there, key));
    OK(curve_tun_registry_new(&registry));
    OK(curve_tun_registry_add(registry, "127.0.0.1", key));
    OK(curve_tun_server_new(here, registry, &options, &server));
    OK(curve_tun_vault_public_key(here, key));
    OK(curve_tun_connection_new_client(there, key, &options, &ends[0]));
    OK(curve_tun_connection_new_server(server, "127.0.0.1", &ends[1]));
    request.size = sizeof request;
    answer.size = sizeof answer;
    do {
        int i;

        moved = 0;
        for (i = 0; i < 2; i++) {
            while (curve_tun_connection_request(ends[i], &request) == CURVE_TUN_OK) {
                OK(curve_tun_vault_answer(i == 0 ? there : here, &request, &answer));
                OK(curve_tun_connection_answer(ends[i], &answer));
                moved = 1;
            }
            if (curve_tun_connection_wants_write(ends[i])) {
                OK(carry(ends[i], ends[1 - i]));
                moved = 1;
            }
        }
    } while (moved);
    CHECK(curve_tun_connection_state(ends[0]) == CURVE_TUN_STATE_CONNECTED);
    CHECK(curve_tun_connection_state(ends[1]) == CURVE_TUN_STATE_CONNECTED);
    curve_tun_connection_free(ends[0]);
    curve_tun_connection_free(ends[1]);
    curve_tun_server_free(server);
    curve_tun_registry_free(registry);
}

/* A key in a token, with a library that supports such vaults. */
static void token(const char *uri, const char *pin, curve_tun_vault *file)
{
    curve_tun_vault *vault, *again = NULL;
    const uint8_t *bytes = (const uint8_t *)pin;

    GIVES(CURVE_TUN_ERR_WRONG_PASSPHRASE, curve_tun_vault_open_pkcs11(uri, NULL, 0, &again));
    GIVES(CURVE_TUN_ERR_WRONG_PASSPHRASE, curve_tun_vault_open_pkcs11(uri, bytes, strlen(pin) - 1, &again));
    OK(curve_tun_vault_open_pkcs11(uri, bytes, strlen(pin), &vault));
    GIVES(CURVE_TUN_ERR_VAULT_IN_USE, curve_tun_vault_open_pkcs11(uri, bytes, strlen(pin), &again));
    CHECK(again == NULL);
    tunnel(vault, file);
    tunnel(file, vault);
    by_hand(vault, vault);
    curve_tun_vault_free(vault);
}

int main(int argc, char **argv)
{
    curve_tun_vault *file, *agent, *none = NULL;
    curve_tun_result result;

    CHECK(argc == 3 || argc == 5);
    files(argv[1]);
    OK(curve_tun_vault_create_file(in(argv[1], "file.vault"), NULL, 0, &file));
    OK(curve_tun_vault_open_agent(argv[2], &agent));
    tunnel(file, agent);
    tunnel(agent, file);
    tunnel(agent, agent);
    by_hand(file, agent);
    by_hand(agent, file);
    if (argc == 5)
        token(argv[3], argv[4], file);
    curve_tun_vault_free(file);
    curve_tun_vault_free(agent);
    /* Without support for tokens the library says so; with it, there is no such module. */
    result = curve_tun_vault_open_pkcs11("pkcs11:?module-path=/nowhere/module.so", NULL, 0, &none);
    CHECK(result == (argc == 3 ? CURVE_TUN_ERR_UNSUPPORTED : CURVE_TUN_ERR_FILE_NOT_FOUND));
    CHECK(none == NULL);
    return 0;
}
