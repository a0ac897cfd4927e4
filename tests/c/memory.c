/* Out of memory: what the header calls an error returns an error, and what it says aborts does
 * abort. */

#define _POSIX_C_SOURCE 200809L

#include "check.h"

#include <malloc.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define VAULTS_MAX 100000

/* Limits the process to this many bytes more than it has now. */
static void limit_memory(size_t more)
{
    unsigned long pages;
    struct rlimit limit;
    FILE *file = fopen("/proc/self/statm", "r");

    CHECK(file != NULL && fscanf(file, "%lu", &pages) == 1);
    fclose(file);
    limit.rlim_cur = limit.rlim_max = pages * (size_t)sysconf(_SC_PAGESIZE) + more;
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
}

/* Allocates ordinary memory, which then stays available however little the system has left. */
static void hoard(size_t size)
{
    void *memory;

    CHECK(mallopt(M_TRIM_THRESHOLD, 1 << 30) == 1 && mallopt(M_MMAP_THRESHOLD, 1 << 25) == 1);
    memory = malloc(size);
    CHECK(memory != NULL);
    free(memory);
}

/* Guarded memory. */
static void keys(void)
{
    static curve_tun_vault *vaults[VAULTS_MAX];
    curve_tun_result result = CURVE_TUN_OK;
    size_t made = 0;

    hoard(1 << 24);
    limit_memory(1 << 23);
    while (made < VAULTS_MAX && (result = curve_tun_vault_generate(&vaults[made])) == CURVE_TUN_OK)
        made++;
    GIVES(CURVE_TUN_ERR_OUT_OF_MEMORY, result);
    CHECK(made > 10);
    CHECK(vaults[made] == NULL);
    /* When memory is available again, calls succeed. */
    curve_tun_vault_free(vaults[0]);
    OK(curve_tun_vault_generate(&vaults[0]));
    while (made > 0)
        curve_tun_vault_free(vaults[--made]);
}

/* The memory that a passphrase costs. */
static void passphrase(const char *path)
{
    static const uint8_t words[] = "correct horse";
    curve_tun_vault *vault = NULL;

    limit_memory(1 << 27);
    GIVES(CURVE_TUN_ERR_OUT_OF_MEMORY, curve_tun_vault_create_file(path, words, sizeof words, &vault));
    CHECK(vault == NULL && access(path, F_OK) == -1);
    OK(curve_tun_vault_create_file(path, NULL, 0, &vault));
    curve_tun_vault_free(vault);
    CHECK(unlink(path) == 0);
}

/* A server's thread, whose stack is memory of the system. */
static void threads(void)
{
    struct world w = new_world();
    curve_tun_server *server = NULL;

    hoard(1 << 22);
    limit_memory(1 << 20);
    GIVES(CURVE_TUN_ERR_TOO_MANY_THREADS, curve_tun_server_new(w.server_vault, w.registry, &w.options, &server));
    CHECK(server == NULL);
    free_world(&w);
}

/* Messages, which are ordinary memory. */
static void messages(void)
{
    static const uint8_t message[CURVE_TUN_MESSAGE_MAX];
    struct world w = new_world();
    curve_tun_connection *c, *s;

    w.options.send_high_water = UINT32_MAX;
    connected_pair(&w, &c, &s);
    limit_memory(1 << 24);
    for (;;)
        OK(curve_tun_connection_send(c, message, sizeof message));
}

/* Returns how a child ends that runs one of them. */
static int in_child(void (*run)(void))
{
    pid_t child = fork();
    int status;

    CHECK(child >= 0);
    if (child == 0) {
        run();
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    return status;
}

static const char *path;

static void passphrase_at_path(void)
{
    passphrase(path);
}

int main(int count, char **arguments)
{
    int status;

    CHECK(count == 2);
    path = arguments[1];
    CHECK(in_child(keys) == 0);
    CHECK(in_child(passphrase_at_path) == 0);
    CHECK(in_child(threads) == 0);
    status = in_child(messages);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    return 0;
}
