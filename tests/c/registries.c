/* Registries in a file, known servers, and DNS, which this build lacks: registries FOLDER. */

#define _POSIX_C_SOURCE 200809L

#include "check.h"

#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

static const char good_key[] = "CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    CHECK(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void files(const char *path)
{
    uint8_t key[CURVE_TUN_KEY_BYTES] = {9}, other[CURVE_TUN_KEY_BYTES] = {8}, found[CURVE_TUN_KEY_BYTES];
    curve_tun_registry *registry = NULL;
    curve_tun_registry_problem problem;
    char text[256];
    bool accepted;

    memset(&problem, 0, sizeof problem);
    problem.size = sizeof problem;
    GIVES(CURVE_TUN_ERR_FILE_NOT_FOUND, curve_tun_registry_open_file(path, &registry));
    snprintf(text, sizeof text, "# mine\n* %s\n10.0.0.0/33 %s\n", good_key, good_key);
    write_file(path, text);
    GIVES(CURVE_TUN_ERR_BAD_REGISTRY_FILE, curve_tun_registry_open_file(path, &registry));
    CHECK(registry == NULL);
    GIVES(CURVE_TUN_ERR_BAD_REGISTRY_FILE, curve_tun_registry_file_check(path, &problem));
    CHECK(problem.line == 3 && problem.column == 1 && strstr(problem.text, "network") != NULL);
    problem.size = 3;
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_registry_file_check(path, &problem));
    problem.size = sizeof problem;

    snprintf(text, sizeof text, "10.0.0.1 %s\n", good_key);
    write_file(path, text);
    OK(curve_tun_registry_file_check(path, &problem));
    OK(curve_tun_registry_open_file(path, &registry));
    OK(curve_tun_registry_file_problem(registry, &problem));
    OK(curve_tun_registry_verify(registry, "10.0.0.1", key, &accepted));
    CHECK(accepted);
    GIVES(CURVE_TUN_ERR_BAD_ADDRESS, curve_tun_registry_verify(registry, "10.0.0.1%eth0", key, &accepted));
    OK(curve_tun_registry_add(registry, "fe80::/10", key));
    OK(curve_tun_registry_verify(registry, "fe80::1%eth0", key, &accepted));
    CHECK(accepted);
    OK(curve_tun_registry_remove(registry, "fe80::/10", key));
    OK(curve_tun_registry_add(registry, "10.0.0.1", other));
    OK(curve_tun_registry_lookup(registry, "10.0.0.1", found));
    CHECK(memcmp(found, other, sizeof other) == 0);
    OK(curve_tun_registry_add(registry, "!", other));
    OK(curve_tun_registry_verify(registry, "10.0.0.1", other, &accepted));
    CHECK(!accepted);
    OK(curve_tun_registry_remove(registry, "!", other));
    GIVES(CURVE_TUN_ERR_NOT_FOUND, curve_tun_registry_remove(registry, "!", other));

    /* A bad new file leaves the old entries in force and is reported. */
    write_file(path, "* no key\n");
    OK(curve_tun_registry_verify(registry, "10.0.0.1", other, &accepted));
    CHECK(accepted);
    GIVES(CURVE_TUN_ERR_BAD_REGISTRY_FILE, curve_tun_registry_file_problem(registry, &problem));
    CHECK(problem.line == 1 && problem.column == 3);
    GIVES(CURVE_TUN_ERR_BAD_REGISTRY_FILE, curve_tun_registry_add(registry, "10.0.0.1", key));
    /* In a file with an invalid line, only the denial of a key is possible, and it takes effect. */
    OK(curve_tun_registry_add(registry, "!", other));
    OK(curve_tun_registry_verify(registry, "10.0.0.1", other, &accepted));
    CHECK(!accepted);
    OK(curve_tun_registry_verify(registry, "10.0.0.1", key, &accepted));
    CHECK(accepted);
    CHECK(chmod(path, 0666) == 0);
    GIVES(CURVE_TUN_ERR_REGISTRY_PERMISSIONS, curve_tun_registry_file_problem(registry, &problem));
    curve_tun_registry_free(registry);

    OK(curve_tun_registry_new(&registry));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_registry_file_problem(registry, &problem));
    curve_tun_registry_free(registry);
}

static void *accept_all(void *listener)
{
    curve_tun_socket *socket;

    while (curve_tun_listener_accept(listener, -1, &socket) == CURVE_TUN_OK)
        curve_tun_socket_free(socket);
    return NULL;
}

static void known_servers(struct world *w, const char *path)
{
    uint8_t wrong[CURVE_TUN_KEY_BYTES] = {9}, known_key[CURVE_TUN_KEY_BYTES] = {0};
    const uint8_t *key = w->server_key;
    curve_tun_known_servers *known;
    curve_tun_registry *registry;
    curve_tun_listener *listener;
    curve_tun_result remembered = CURVE_TUN_ERR_INTERNAL;
    curve_tun_socket *socket;
    char lock[512];
    pthread_t thread;
    uint16_t port;

    OK(curve_tun_registry_add(w->registry, "*", w->client_key));
    OK(curve_tun_listener_open("127.0.0.1", 0, w->server, &listener));
    port = curve_tun_listener_port(listener);
    CHECK(pthread_create(&thread, NULL, accept_all, listener) == 0);
    OK(curve_tun_known_servers_open(path, &known));
    GIVES(CURVE_TUN_ERR_UNKNOWN_PEER, curve_tun_known_servers_check(known, "127.0.0.1", port, key, known_key));
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_known_servers_check(known, "no host", port, key, known_key));
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_known_servers_check(known, "127.0.0.1", 0, key, known_key));

#define CONNECT(its_key, first_use)                                                                        \
    curve_tun_socket_connect_known("127.0.0.1", port, w->client_vault, its_key, known, first_use, &w->options,     \
                                   PATIENCE_MS, known_key, &remembered, &socket)
    GIVES(CURVE_TUN_ERR_UNKNOWN_PEER, CONNECT(key, CURVE_TUN_FIRST_USE_REFUSE));
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, CONNECT(key, 3));
    GIVES(CURVE_TUN_ERR_WRONG_SERVER_KEY, CONNECT(wrong, CURVE_TUN_FIRST_USE_REMEMBER));
    OK(CONNECT(key, CURVE_TUN_FIRST_USE_ONCE));
    curve_tun_socket_free(socket);
    GIVES(CURVE_TUN_ERR_UNKNOWN_PEER, curve_tun_known_servers_check(known, "127.0.0.1", port, key, known_key));
    /* If the file cannot be written the key is not remembered, but the tunnel is opened. */
    OK(remembered);
    snprintf(lock, sizeof lock, "%s.lock", path);
    CHECK(mkdir(lock, 0700) == 0);
    OK(CONNECT(key, CURVE_TUN_FIRST_USE_REMEMBER));
    GIVES(CURVE_TUN_ERR_IO, remembered);
    OK(curve_tun_socket_send(socket, key, CURVE_TUN_KEY_BYTES, PATIENCE_MS));
    curve_tun_socket_free(socket);
    GIVES(CURVE_TUN_ERR_UNKNOWN_PEER, curve_tun_known_servers_check(known, "127.0.0.1", port, key, known_key));
    CHECK(rmdir(lock) == 0);
    OK(CONNECT(key, CURVE_TUN_FIRST_USE_REMEMBER));
    OK(remembered);
    curve_tun_socket_free(socket);
    OK(curve_tun_known_servers_check(known, "127.0.0.1", port, key, known_key));
    OK(CONNECT(key, CURVE_TUN_FIRST_USE_REFUSE));
    curve_tun_socket_free(socket);
    GIVES(CURVE_TUN_ERR_KEY_CHANGED, CONNECT(wrong, CURVE_TUN_FIRST_USE_REMEMBER));
    CHECK(memcmp(known_key, key, sizeof known_key) == 0);
    GIVES(CURVE_TUN_ERR_KEY_CHANGED, curve_tun_known_servers_remember(known, "127.0.0.1", port, wrong, known_key));
    OK(curve_tun_known_servers_remember(known, "host.example", 1, wrong, known_key));

    OK(curve_tun_registry_open_file(path, &registry));
#define BY_NAME(host, its_registry)                                                                              \
    curve_tun_socket_connect_by_name(host, port, w->client_vault, its_registry, &w->options, PATIENCE_MS, &socket)
    OK(BY_NAME("127.0.0.1", registry));
    curve_tun_socket_free(socket);
    GIVES(CURVE_TUN_ERR_NOT_FOUND, BY_NAME("::1", registry));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, BY_NAME("127.0.0.1", w->registry));
    OK(curve_tun_registry_add(registry, "!", key));
    GIVES(CURVE_TUN_ERR_KEY_DENIED, CONNECT(key, CURVE_TUN_FIRST_USE_ONCE));
    curve_tun_registry_free(registry);

    curve_tun_known_servers_free(known);
    curve_tun_listener_shutdown(listener);
    CHECK(pthread_join(thread, NULL) == 0);
    curve_tun_listener_free(listener);
}

int main(int count, char **arguments)
{
    struct world w = new_world();
    curve_tun_registry *none = NULL;
    char path[2][512];

    CHECK(count == 2);
    snprintf(path[0], sizeof path[0], "%s/peers", arguments[1]);
    snprintf(path[1], sizeof path[1], "%s/known", arguments[1]);
    files(path[0]);
    known_servers(&w, path[1]);
    GIVES(CURVE_TUN_ERR_UNSUPPORTED, curve_tun_registry_open_dns("example", NULL, &none));
    free_world(&w);
    return 0;
}
