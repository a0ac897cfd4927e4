/* Loads, uses and unloads the shared library repeatedly: nothing of it stays behind, and no remains
 * of it are called. */

#define _POSIX_C_SOURCE 200809L

#include "curve_tun.h"

#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 20

/* check.h is for programs linked with the library. */
#define CHECK(condition)                                                             \
    do {                                                                             \
        if (!(condition)) {                                                          \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);  \
            exit(1);                                                                 \
        }                                                                            \
    } while (0)

/* The functions, looked up by name. */
static struct {
    curve_tun_result (*vault_generate)(curve_tun_vault **);
    curve_tun_result (*vault_public_key)(const curve_tun_vault *, uint8_t *);
    void (*vault_free)(curve_tun_vault *);
    curve_tun_result (*registry_new)(curve_tun_registry **);
    curve_tun_result (*registry_add)(const curve_tun_registry *, const char *, const uint8_t *);
    void (*registry_free)(curve_tun_registry *);
    curve_tun_result (*server_new)(const curve_tun_vault *, const curve_tun_registry *, const curve_tun_options *,
                                   curve_tun_server **);
    void (*server_free)(curve_tun_server *);
    curve_tun_result (*listener_open)(const char *, uint16_t, const curve_tun_server *, curve_tun_listener **);
    curve_tun_result (*listener_accept)(curve_tun_listener *, int64_t, curve_tun_socket **);
    void (*listener_free)(curve_tun_listener *);
} lib;

static void find(void *library, const char *name, void *place)
{
    void *function = dlsym(library, name);

    CHECK(function != NULL);
    memcpy(place, &function, sizeof function);
}

static void *load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    if (library == NULL)
        fprintf(stderr, "%s\n", dlerror());
    CHECK(library != NULL);
    find(library, "curve_tun_vault_generate", &lib.vault_generate);
    find(library, "curve_tun_vault_public_key", &lib.vault_public_key);
    find(library, "curve_tun_vault_free", &lib.vault_free);
    find(library, "curve_tun_registry_new", &lib.registry_new);
    find(library, "curve_tun_registry_add", &lib.registry_add);
    find(library, "curve_tun_registry_free", &lib.registry_free);
    find(library, "curve_tun_server_new", &lib.server_new);
    find(library, "curve_tun_server_free", &lib.server_free);
    find(library, "curve_tun_listener_open", &lib.listener_open);
    find(library, "curve_tun_listener_accept", &lib.listener_accept);
    find(library, "curve_tun_listener_free", &lib.listener_free);
    return library;
}

static void *use(void *unused)
{
    curve_tun_vault *vault;
    curve_tun_registry *registry;
    curve_tun_server *server;
    curve_tun_listener *listener;
    curve_tun_socket *socket;
    uint8_t key[CURVE_TUN_KEY_BYTES];

    (void)unused;
    CHECK(lib.vault_generate(&vault) == CURVE_TUN_OK);
    CHECK(lib.vault_public_key(vault, key) == CURVE_TUN_OK);
    CHECK(lib.registry_new(&registry) == CURVE_TUN_OK);
    CHECK(lib.registry_add(registry, "*", key) == CURVE_TUN_OK);
    CHECK(lib.server_new(vault, registry, NULL, &server) == CURVE_TUN_OK);
    CHECK(lib.listener_open("127.0.0.1", 0, server, &listener) == CURVE_TUN_OK);
    CHECK(lib.listener_accept(listener, 1, &socket) == CURVE_TUN_ERR_TIMEOUT);
    lib.listener_free(listener);
    lib.server_free(server);
    lib.registry_free(registry);
    lib.vault_free(vault);
    return NULL;
}

static int count(const char *folder)
{
    DIR *entries = opendir(folder);
    int count = 0;

    CHECK(entries != NULL);
    while (readdir(entries) != NULL)
        count++;
    closedir(entries);
    return count;
}

/* Whether a file of this name is mapped. */
static bool is_mapped(const char *name)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[4096];
    bool found = false;

    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL)
        found = found || strstr(line, name) != NULL;
    fclose(maps);
    return found;
}

/* A child runs any handlers left behind for fork. */
static void fork_once(void)
{
    int status;
    pid_t child = fork();

    CHECK(child >= 0);
    if (child == 0)
        _exit(0);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

int main(int argument_count, char **arguments)
{
    static const struct timespec moment = {0, 1000000};
    int descriptors, threads, i;
    pthread_t user;
    void *library;

    CHECK(argument_count == 2);
    descriptors = count("/proc/self/fd");
    threads = count("/proc/self/task");
    for (i = 0; i < ROUNDS; i++) {
        library = load(arguments[1]);
        CHECK(pthread_create(&user, NULL, use, NULL) == 0 && pthread_join(user, NULL) == 0);
        fork_once();
        /* A joined thread may still be exiting. */
        while (count("/proc/self/task") > threads)
            nanosleep(&moment, NULL);
        CHECK(dlclose(library) == 0);
        CHECK(!is_mapped("libcurve_tun"));
        fork_once();
        CHECK(count("/proc/self/fd") == descriptors);
    }
    /* The thread that used it continues: whatever it left for the thread's end stays with it. */
    library = load(arguments[1]);
    use(NULL);
    CHECK(dlclose(library) == 0);
    fork_once();
    return 0;
}
