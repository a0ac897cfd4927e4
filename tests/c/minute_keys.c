/*
 * A server's minute keys rotate as long as anything made with the server may need them, even if the
 * server itself has been freed: a connection without I/O, a listener, a socket whose handshake is
 * pending.
 *
 * The program replaces the library's clock: a test moves it a minute ahead, and waits until the
 * timer has noticed.
 */

#define _GNU_SOURCE

#include "check.h"

#include <dirent.h>
#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <time.h>

#define LOOK_NS (5 * 1000 * 1000)
#define LOOKS (PATIENCE_MS / 5)

/* How far ahead the monotonic clock is, and how many times timers have begun to wait. */
static long moved_s;
static unsigned long waits;

static void *of_system(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);

    CHECK(function != NULL);
    return function;
}

/* Replaces the system's function, for the library too. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    int (*real)(clockid_t, struct timespec *);
    int result;

    *(void **)&real = of_system("clock_gettime");
    result = real(clock, now);
    if (clock == CLOCK_MONOTONIC)
        now->tv_sec += __atomic_load_n(&moved_s, __ATOMIC_SEQ_CST);
    return result;
}

/* Linux keeps 15 characters of a thread's name. */
static bool is_timer(const char *thread)
{
    return strncmp(thread, "curve_tun-minut", 15) == 0;
}

static struct timespec system_time(void)
{
    int (*real)(clockid_t, struct timespec *);
    struct timespec now;

    *(void **)&real = of_system("clock_gettime");
    CHECK(real(CLOCK_MONOTONIC, &now) == 0);
    return now;
}

/* Likewise: a timer checks the clock every few milliseconds, instead of once a minute. It waits
 * until a time of the system's clock. */
long syscall(long number, ...)
{
    struct timespec look;
    long (*real)(long, ...);
    char name[16] = "";
    long argument[6];
    va_list list;
    int i;

    va_start(list, number);
    for (i = 0; i < 6; i++)
        argument[i] = va_arg(list, long);
    va_end(list);
    *(void **)&real = of_system("syscall");
    if (number == SYS_futex && (argument[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET && argument[3] != 0 &&
        pthread_getname_np(pthread_self(), name, sizeof name) == 0 && is_timer(name)) {
        __atomic_add_fetch(&waits, 1, __ATOMIC_SEQ_CST);
        look = system_time();
        look.tv_nsec += LOOK_NS;
        if (look.tv_nsec >= 1000000000) {
            look.tv_sec++;
            look.tv_nsec -= 1000000000;
        }
        argument[3] = (long)&look;
    }
    return real(number, argument[0], argument[1], argument[2], argument[3], argument[4],
                argument[5]);
}

static void look_again(void)
{
    static const struct timespec pause = {0, LOOK_NS};

    nanosleep(&pause, NULL);
}

/* Moves the clock, and waits until everything due by then is done: of two waits that begin
 * afterwards, the second follows a check of the clock. There is one timer. */
static void pass_a_minute(void)
{
    unsigned long begun;
    int i;

    __atomic_add_fetch(&moved_s, 60, __ATOMIC_SEQ_CST);
    begun = __atomic_load_n(&waits, __ATOMIC_SEQ_CST);
    for (i = 0; i < LOOKS && __atomic_load_n(&waits, __ATOMIC_SEQ_CST) < begun + 2; i++)
        look_again();
    CHECK(i < LOOKS);
}

static int timers(void)
{
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *task;
    int count = 0;

    CHECK(tasks != NULL);
    while ((task = readdir(tasks)) != NULL) {
        char path[300], name[16] = "";
        FILE *file;

        snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
        file = fopen(path, "r");
        /* It may have ended meanwhile. */
        if (file != NULL) {
            count += fgets(name, sizeof name, file) != NULL && is_timer(name);
            fclose(file);
        }
    }
    closedir(tasks);
    return count;
}

/* A thread takes its time to begin, to get its name and to end. */
static void wait_for_timers(int count)
{
    int i;

    for (i = 0; i < LOOKS && timers() != count; i++)
        look_again();
    CHECK(i < LOOKS);
}

static curve_tun_server *new_server(struct world *w)
{
    curve_tun_server *server;

    OK(curve_tun_server_new(w->server_vault, w->registry, &w->options, &server));
    wait_for_timers(1);
    return server;
}

/* Two handshakes whose clients have their cookies when the server is freed. */
static void connections(struct world *w)
{
    curve_tun_connection *client[2], *server[2];
    int i;

    w->server = new_server(w);
    for (i = 0; i < 2; i++) {
        new_pair(w, &client[i], &server[i]);
        OK(carry(client[i], server[i]));
        OK(carry(server[i], client[i]));
        CHECK(curve_tun_connection_state(server[i]) == CURVE_TUN_STATE_ACCEPTING);
    }
    curve_tun_server_free(w->server);
    w->server = NULL;

    /* A cookie is valid for the minute of its key, and for the next one. */
    pass_a_minute();
    OK(carry(client[0], server[0]));
    CHECK(curve_tun_connection_state(server[0]) == CURVE_TUN_STATE_CONNECTED);
    curve_tun_connection_free(server[0]);
    pass_a_minute();
    GIVES(CURVE_TUN_ERR_COOKIE_EXPIRED, carry(client[1], server[1]));

    CHECK(timers() == 1);
    curve_tun_connection_free(server[1]);
    wait_for_timers(0);
    for (i = 0; i < 2; i++)
        curve_tun_connection_free(client[i]);
}

struct dial {
    struct world *world;
    uint16_t port;
    curve_tun_socket *socket;
};

static void *dial(void *argument)
{
    struct dial *d = argument;

    OK(curve_tun_socket_connect("127.0.0.1", d->port, d->world->client_vault, d->world->server_key,
                                &d->world->options, -1, &d->socket));
    return NULL;
}

/* A listener, and then a socket whose handshake is pending while its server and listener are
 * gone. */
static void sockets(struct world *w)
{
    curve_tun_server *server = new_server(w);
    curve_tun_listener *listener;
    curve_tun_socket *sock;
    struct dial d = {w, 0, NULL};
    pthread_t thread;

    OK(curve_tun_listener_open("127.0.0.1", 0, server, &listener));
    curve_tun_server_free(server);
    pass_a_minute();
    d.port = curve_tun_listener_port(listener);
    CHECK(pthread_create(&thread, NULL, dial, &d) == 0);
    OK(curve_tun_listener_transport_accept(listener, -1, &sock));
    curve_tun_listener_free(listener);
    pass_a_minute();
    OK(curve_tun_socket_handshake(sock, -1));
    CHECK(pthread_join(thread, NULL) == 0);
    curve_tun_socket_free(sock);
    curve_tun_socket_free(d.socket);
    wait_for_timers(0);
}

int main(void)
{
    struct world w = new_world();

    /* The server of the world has a timer, too. */
    curve_tun_server_free(w.server);
    w.server = NULL;
    wait_for_timers(0);
    /* Only the lifetime of the cookies ends a handshake here. */
    w.options.handshake_timeout_ms = INT64_MAX;
    connections(&w);
    sockets(&w);
    free_world(&w);
    return 0;
}
