/* Signals: an interruption cuts no wait short, and a broken connection or pipe raises no signal. */

#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE

#include "check.h"

#include <dirent.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define MESSAGES 200

/* Several threads may be interrupted at the same time. */
static int alarms;

static void count(int number)
{
    (void)number;
    __atomic_add_fetch(&alarms, 1, __ATOMIC_RELAXED);
}

/* Sets an alarm each half millisecond, whose handler does not restart system calls. */
static void set_alarms(int microseconds)
{
    struct sigaction action;
    struct itimerval interval;

    memset(&action, 0, sizeof action);
    action.sa_handler = count;
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    interval.it_interval.tv_sec = interval.it_value.tv_sec = 0;
    interval.it_interval.tv_usec = interval.it_value.tv_usec = microseconds;
    CHECK(setitimer(ITIMER_REAL, &interval, NULL) == 0);
}

struct end {
    struct world *world;
    uint16_t port;
    curve_tun_socket *socket;
};

static void *dial(void *argument)
{
    struct end *end = argument;

    OK(curve_tun_socket_connect("127.0.0.1", end->port, end->world->client_vault, end->world->server_key,
                                &end->world->options, PATIENCE_MS, &end->socket));
    return NULL;
}

/* The alarms go to any thread: two threads that talk are interrupted wherever they wait. */
static void *echo(void *socket)
{
    uint8_t *buffer = malloc(CURVE_TUN_MESSAGE_MAX);
    size_t i, len;

    CHECK(buffer != NULL);
    for (i = 0; i < MESSAGES; i++) {
        OK(curve_tun_socket_recv(socket, buffer, CURVE_TUN_MESSAGE_MAX, &len, PATIENCE_MS));
        OK(curve_tun_socket_send(socket, buffer, len, PATIENCE_MS));
    }
    free(buffer);
    return NULL;
}

static void talk(curve_tun_socket *socket)
{
    static uint8_t sent[CURVE_TUN_MESSAGE_MAX], received[CURVE_TUN_MESSAGE_MAX];
    size_t i, len, size;

    for (i = 0; i < MESSAGES; i++) {
        size = (i * 7919) % sizeof sent;
        memset(sent, (int)i, size);
        OK(curve_tun_socket_send(socket, sent, size, PATIENCE_MS));
        OK(curve_tun_socket_recv(socket, received, sizeof received, &len, PATIENCE_MS));
        CHECK(len == size && memcmp(sent, received, size) == 0);
    }
}

static void interrupted(struct world *w)
{
    curve_tun_listener *listener;
    curve_tun_socket *server, *none;
    struct timespec before, after;
    struct end end;
    pthread_t thread;
    uint8_t byte = 0;
    size_t len;
    int64_t waited_ms;

    set_alarms(500);
    OK(curve_tun_listener_open("127.0.0.1", 0, w->server, &listener));
    end.world = w;
    end.port = curve_tun_listener_port(listener);
    CHECK(pthread_create(&thread, NULL, dial, &end) == 0);
    OK(curve_tun_listener_accept(listener, PATIENCE_MS, &server));
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(pthread_create(&thread, NULL, echo, server) == 0);
    talk(end.socket);
    CHECK(pthread_join(thread, NULL) == 0);

    /* A wait interrupted by nothing but alarms ends at its own deadline, and not before. */
    CHECK(clock_gettime(CLOCK_MONOTONIC, &before) == 0);
    GIVES(CURVE_TUN_ERR_TIMEOUT, curve_tun_listener_accept(listener, 100, &none));
    GIVES(CURVE_TUN_ERR_TIMEOUT, curve_tun_socket_recv(server, &byte, 1, &len, 100));
    CHECK(clock_gettime(CLOCK_MONOTONIC, &after) == 0);
    waited_ms = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
    CHECK(waited_ms >= 199);
    CHECK(__atomic_load_n(&alarms, __ATOMIC_RELAXED) > 100);
    set_alarms(0);

    /* The client is gone: sending to it returns an error and raises no signal. */
    curve_tun_socket_free(end.socket);
    while (curve_tun_socket_send(server, &byte, 1, PATIENCE_MS) == CURVE_TUN_OK)
        ;
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_socket_send(server, &byte, 1, PATIENCE_MS));
    curve_tun_socket_free(server);
    curve_tun_listener_free(listener);
}

static sem_t asked, go_on;

static int32_t verify_late(void *user_data, const char *address, const uint8_t *client_key,
                           const char *listener, uint32_t *accepted)
{
    (void)user_data, (void)address, (void)client_key, (void)listener;
    CHECK(sem_post(&asked) == 0);
    CHECK(sem_wait(&go_on) == 0);
    *accepted = 1;
    return CURVE_TUN_OK;
}

static int threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    int count = 0;

    CHECK(tasks != NULL);
    while (readdir(tasks) != NULL)
        count++;
    closedir(tasks);
    return count;
}

/* An answer that comes after its listener is gone has nobody to wake. */
static void late(struct world *w)
{
    static const struct timespec moment = {0, 1000000};
    curve_tun_registry_callbacks callbacks;
    curve_tun_registry *registry;
    curve_tun_server *server;
    curve_tun_listener *listener;
    curve_tun_socket *none;
    struct end end;
    pthread_t thread;
    int before;

    CHECK(sem_init(&asked, 0, 0) == 0 && sem_init(&go_on, 0, 0) == 0);
    memset(&callbacks, 0, sizeof callbacks);
    callbacks.size = sizeof callbacks;
    callbacks.deferred = 1;
    callbacks.verify = verify_late;
    OK(curve_tun_registry_custom(&callbacks, NULL, &registry));
    before = threads();
    OK(curve_tun_server_new(w->server_vault, registry, &w->options, &server));
    OK(curve_tun_listener_open("127.0.0.1", 0, server, &listener));
    end.world = w;
    end.port = curve_tun_listener_port(listener);
    CHECK(pthread_create(&thread, NULL, dial, &end) == 0);
    do
        GIVES(CURVE_TUN_ERR_TIMEOUT, curve_tun_listener_accept(listener, 10, &none));
    while (sem_trywait(&asked) != 0);
    CHECK(pthread_join(thread, NULL) == 0);
    curve_tun_socket_free(end.socket);
    curve_tun_listener_free(listener);
    curve_tun_server_free(server);
    curve_tun_registry_free(registry);
    CHECK(sem_post(&go_on) == 0);
    while (threads() > before)
        nanosleep(&moment, NULL);
}

int main(void)
{
    struct world w = new_world();

    interrupted(&w);
    late(&w);
    free_world(&w);
    return 0;
}
