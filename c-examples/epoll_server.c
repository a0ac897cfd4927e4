/*
 * epoll_server [--threads N] [--verbose] [--handshakes N] [--per-source N] HOST PORT SECRET
 * PEER_PUBLIC [PEER_PUBLIC...]
 *
 * The service of echo_server for thousands of clients, on one thread or on N, each with an event
 * loop and clients of its own: the system spreads clients over the loops. epoll reports when bytes
 * can move; clients.c moves them, and a connection without I/O turns them into messages. A slow
 * vault is called on threads beside the loops (answers.c). Prints "listening on HOST:PORT" when it
 * is ready. SIGTERM or SIGINT ends it.
 */

#define _GNU_SOURCE

#include "clients.h"
#include "common.h"
#include "refusals.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define EVENTS 256
/* How many clients are accepted before the others have their turn. */
#define BATCH 16
/* After running out of descriptors or memory, no client is accepted for this long, or until one
 * leaves. */
#define ACCEPT_PAUSE_MS 100
#define THREADS_MAX 1024

/* The state of one thread. */
struct loop {
    pthread_t thread;
    int listener;
    int answered;            /* Readable when the vault has answered. */
    int64_t accept_again_ms; /* When to accept again; -1 while accepting. */
    struct clients clients;
};

/* Readable, by every loop, as soon as the program has to end. */
static int end_signal;

static void pause_accepting(struct loop *loop)
{
    if (loop->accept_again_ms < 0) {
        fprintf(stderr, "accept: %s\n", strerror(errno));
        watch(loop->clients.epoll, EPOLL_CTL_MOD, loop->listener, 0, &loop->listener);
    }
    loop->accept_again_ms = now_ms() + ACCEPT_PAUSE_MS;
}

static void go_on_accepting(struct loop *loop)
{
    if (loop->accept_again_ms >= 0) {
        loop->accept_again_ms = -1;
        watch(loop->clients.epoll, EPOLL_CTL_MOD, loop->listener, EPOLLIN, &loop->listener);
    }
}

static void accept_clients(struct loop *loop)
{
    int i;

    for (i = 0; i < BATCH; i++) {
        struct sockaddr_storage peer;
        socklen_t len = sizeof peer;
        int fd = accept4(loop->listener, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0)
            clients_welcome(&loop->clients, fd, &peer);
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            return;
        else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            /* The client stays in the system's queue, and would wake the loop for ever. */
            pause_accepting(loop);
            return;
        }
        /* Other errors concern a single client that has gone (accept(2)). */
    }
}

/* Returns the milliseconds until the next deadline, for epoll_wait; -1 if there is none. */
static int time_to_wait(const struct loop *loop)
{
    int64_t next = clients_deadline_ms(&loop->clients), left;

    if (next < 0 || (loop->accept_again_ms >= 0 && loop->accept_again_ms < next))
        next = loop->accept_again_ms;
    if (next < 0)
        return -1;
    left = next - now_ms();
    return left < 0 ? 0 : left > 60000 ? 60000 : (int)left;
}

/* Serves clients until the end signal. */
static void *run(void *argument)
{
    struct loop *loop = argument;
    struct clients *clients = &loop->clients;
    struct epoll_event events[EVENTS];
    bool end = false;

    while (!end) {
        int i, count = epoll_wait(clients->epoll, events, EVENTS, time_to_wait(loop));

        if (count < 0 && errno != EINTR)
            fail("epoll", strerror(errno));
        for (i = 0; i < count; i++) {
            void *who = events[i].data.ptr;

            if (who == &end_signal)
                end = true;
            else if (who == &loop->listener)
                accept_clients(loop);
            else if (who == &loop->answered)
                clients_give_answers(clients);
            else
                clients_serve(clients, who, events[i].events);
        }
        clients_tick(clients);
        if (clients_free_gone(clients) || loop->accept_again_ms <= now_ms())
            go_on_accepting(loop);
    }
    return NULL;
}

static struct loop *new_loop(int listener, const struct service *service)
{
    struct loop *loop = calloc(1, sizeof *loop);
    struct clients *clients;

    if (loop == NULL)
        fail("loop", strerror(errno));
    clients = &loop->clients;
    loop->listener = listener;
    loop->accept_again_ms = -1;
    clients->server = service->server;
    clients->answers = answers_begin(service->vault, &loop->answered);
    clients->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (clients->epoll < 0 || !watch(clients->epoll, EPOLL_CTL_ADD, listener, EPOLLIN, &loop->listener) ||
        !watch(clients->epoll, EPOLL_CTL_ADD, end_signal, EPOLLIN, &end_signal) ||
        !watch(clients->epoll, EPOLL_CTL_ADD, loop->answered, EPOLLIN, &loop->answered))
        fail("epoll", strerror(errno));
    return loop;
}

static void free_loop(struct loop *loop)
{
    struct clients *clients = &loop->clients;

    close(loop->listener);
    clients_close(clients);
    answers_end(clients->answers);
    close(clients->epoll);
    free(loop);
}

/* Listens, with TCP_NODELAY, which accepted sockets inherit. Returns -1 on failure. */
static int listen_at(const struct sockaddr *address, socklen_t len, bool shared)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1, off = 0;

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (address->sa_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if ((shared && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) || bind(fd, address, len) != 0 ||
        listen(fd, SOMAXCONN) != 0) {
        int error = errno;

        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* Listens on the first address of `host` that works. */
static int listen_first(const char *host, uint16_t port, bool shared)
{
    struct addrinfo hints, *addresses, *a;
    char service[6];
    int fd = -1, error;

    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
    snprintf(service, sizeof service, "%u", (unsigned)port);
    error = getaddrinfo(host, service, &hints, &addresses);
    if (error != 0)
        fail(host, gai_strerror(error));
    for (a = addresses; a != NULL && fd < 0; a = a->ai_next)
        fd = listen_at(a->ai_addr, a->ai_addrlen, shared);
    error = errno;
    freeaddrinfo(addresses);
    if (fd < 0)
        fail(host, strerror(error));
    return fd;
}

/* Listens on the same address as another socket of the program. */
static int listen_again(int listener)
{
    struct sockaddr_storage local;
    socklen_t len = sizeof local;
    int fd = -1;

    if (getsockname(listener, (struct sockaddr *)&local, &len) == 0)
        fd = listen_at((struct sockaddr *)&local, len, true);
    if (fd < 0)
        fail("listen", strerror(errno));
    return fd;
}

static void print_address(int listener)
{
    struct sockaddr_storage local;
    socklen_t len = sizeof local;
    char text[CURVE_TUN_ADDRESS_TEXT_SIZE];
    bool ipv6;

    if (getsockname(listener, (struct sockaddr *)&local, &len) != 0 || !address_text(&local, text))
        fail("address", strerror(errno));
    ipv6 = local.ss_family == AF_INET6;
    printf(ipv6 ? "listening on [%s]:%u\n" : "listening on %s:%u\n", text,
           (unsigned)ntohs(ipv6 ? ((struct sockaddr_in6 *)&local)->sin6_port
                                : ((struct sockaddr_in *)&local)->sin_port));
    fflush(stdout);
}

/* Raises the limit of descriptors as far as the system allows. */
static void raise_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void watch_end_signals(void)
{
    sigset_t signals;

    block_end_signals();
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    /* Nobody reads it, so it wakes every loop. */
    end_signal = signalfd(-1, &signals, SFD_CLOEXEC);
    if (end_signal < 0)
        fail("signalfd", strerror(errno));
}

int main(int argc, char **argv)
{
    static struct loop *loops[THREADS_MAX];
    size_t threads = 1, i;
    struct service service;
    int listener;

    if (argc > 2 && strcmp(argv[1], "--threads") == 0) {
        threads = number_argument(argv[2], 1, THREADS_MAX);
        argv[2] = argv[0];
        argc -= 2;
        argv += 2;
    }
    if (argc < 5)
        fail(argv[0], "[--threads N] [--verbose] [--handshakes N] [--per-source N] HOST PORT SECRET PEER_PUBLIC "
                      "[PEER_PUBLIC...]");
    service = service_arguments(argc, argv);
    if (service.verbose)
        say_refusals(service.server);
    raise_limit();
    watch_end_signals();
    listener = listen_first(service.host, service.port, threads > 1);
    for (i = 0; i < threads; i++)
        loops[i] = new_loop(i == 0 ? listener : listen_again(listener), &service);
    print_address(listener);

    for (i = 1; i < threads; i++) {
        int error = pthread_create(&loops[i]->thread, NULL, run, loops[i]);

        if (error != 0)
            fail("thread", strerror(error));
    }
    run(loops[0]);
    for (i = 1; i < threads; i++)
        pthread_join(loops[i]->thread, NULL);

    for (i = 0; i < threads; i++)
        free_loop(loops[i]);
    close(end_signal);
    curve_tun_server_free(service.server);
    curve_tun_vault_free(service.vault);
    return 0;
}
