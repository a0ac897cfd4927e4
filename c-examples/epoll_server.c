/*
 * epoll_server [--handshakes N] [--per-source N] HOST PORT SECRET PEER_PUBLIC [PEER_PUBLIC...]
 *
 * The service of echo_server on one thread, for thousands of clients: epoll moves the bytes, and a connection without I/O
 * for each client makes messages of them. A vault that takes a while is asked on threads beside it. Prints "listening on HOST:PORT" when it is ready. SIGTERM or SIGINT ends it.
 */

#define _GNU_SOURCE

#include "answers.h"
#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <malloc.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 256
/* How many clients are accepted, or how often one client is read from, before others have their turn. */
#define BATCH 16
/* A client that has not taken this much is not read from until it has. */
#define OUTPUT_MAX (256 * 1024)
/* After running out of descriptors or memory, no client is accepted for this long, or until one leaves. */
#define ACCEPT_PAUSE_MS 100

/* A list of clients by deadline, the next one first. */
struct queue {
    struct client *first, *last;
};

struct client {
    int fd;
    curve_tun_connection *connection;
    uint32_t events;     /* What epoll watches. */
    bool ended;          /* The peer has said all that it will say. */
    bool asked;          /* Its vault is asked, on another thread. */
    int64_t deadline_ms; /* When its connection wants to be told the time. */
    struct queue *queue; /* The one that it is in. */
    struct client *previous, *next;
};

static int epoll, listener, end_signal, answers;
static curve_tun_server *server;
/* Clients whose handshake is not over, the oldest first; those that have had traffic; and those that rest. */
static struct queue handshakes, established, idle;
/* Clients closed while events or answers for them may be waiting; freed after those. */
static struct client *gone;
/* When to accept again; -1 while accepting. */
static int64_t accept_again_ms = -1;

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void leave_queue(struct client *client)
{
    struct queue *queue = client->queue;

    if (queue == NULL)
        return;
    if (client->previous != NULL)
        client->previous->next = client->next;
    else
        queue->first = client->next;
    if (client->next != NULL)
        client->next->previous = client->previous;
    else
        queue->last = client->previous;
    client->queue = NULL;
}

/* Deadlines mostly come in order, so the place is looked for from the end. */
static void enter_queue(struct queue *queue, struct client *client)
{
    struct client *before = queue->last;

    while (before != NULL && before->deadline_ms > client->deadline_ms)
        before = before->previous;
    client->queue = queue;
    client->previous = before;
    client->next = before != NULL ? before->next : queue->first;
    if (client->next != NULL)
        client->next->previous = client;
    else
        queue->last = client;
    if (before != NULL)
        before->next = client;
    else
        queue->first = client;
}

static bool watch(int operation, int fd, uint32_t events, void *data)
{
    struct epoll_event event;

    memset(&event, 0, sizeof event);
    event.events = events;
    event.data.ptr = data;
    return epoll_ctl(epoll, operation, fd, &event) == 0;
}

static void pause_accepting(void)
{
    if (accept_again_ms < 0) {
        fprintf(stderr, "accept: %s\n", strerror(errno));
        watch(EPOLL_CTL_MOD, listener, 0, &listener);
    }
    accept_again_ms = now_ms() + ACCEPT_PAUSE_MS;
}

static void go_on_accepting(void)
{
    if (accept_again_ms >= 0) {
        accept_again_ms = -1;
        watch(EPOLL_CTL_MOD, listener, EPOLLIN, &listener);
    }
}

static void close_client(struct client *client)
{
    leave_queue(client);
    curve_tun_connection_free(client->connection);
    client->connection = NULL;
    close(client->fd);
    client->next = gone;
    gone = client;
    go_on_accepting();
}

static void free_gone(void)
{
    struct client **place = &gone;

    if (gone == NULL)
        return;

    while (*place != NULL) {
        struct client *client = *place;

        if (client->asked) {
            place = &client->next;
            continue;
        }
        *place = client->next;
        free(client);
    }
#ifdef __GLIBC__
    /* After a crowd, its memory goes back to the system. */
    if (handshakes.first == NULL && established.first == NULL && idle.first == NULL)
        malloc_trim(0);
#endif
}

/* Tells a connection the time, and queues its client for the next time. False if the connection is over. */
static bool tick(struct client *client)
{
    leave_queue(client);
    if (curve_tun_connection_tick(client->connection, now_ms(), &client->deadline_ms) != CURVE_TUN_OK)
        return false;
    if (client->deadline_ms < 0) {
        client->deadline_ms = INT64_MAX;
        enter_queue(&idle, client);
    } else if (curve_tun_connection_state(client->connection) == CURVE_TUN_STATE_CONNECTED) {
        enter_queue(&established, client);
    } else {
        enter_queue(&handshakes, client);
    }
    return true;
}

/* How many bytes wait for the transport. */
static size_t output(struct client *client)
{
    const uint8_t *bytes;
    size_t len;

    if (curve_tun_connection_pending(client->connection, &bytes, &len) != CURVE_TUN_OK)
        return 0;
    return len;
}

/* Puts on the transport what it takes. False if the transport broke. */
static bool write_out(struct client *client)
{
    const uint8_t *bytes;
    size_t len;

    while (curve_tun_connection_pending(client->connection, &bytes, &len) == CURVE_TUN_OK && len > 0) {
        ssize_t count = send(client->fd, bytes, len, MSG_NOSIGNAL);

        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK;
        curve_tun_connection_written(client->connection, (size_t)count);
    }
    return true;
}

/* Sends messages back, unless too much waits for the transport already. False if the connection is over. */
static bool echo(struct client *client)
{
    static uint8_t message[CURVE_TUN_MESSAGE_MAX];
    curve_tun_result result = CURVE_TUN_OK;
    size_t len;

    while (output(client) < OUTPUT_MAX) {
        result = curve_tun_connection_recv(client->connection, message, sizeof message, &len);
        if (result == CURVE_TUN_OK)
            result = curve_tun_connection_send(client->connection, message, len);
        if (result != CURVE_TUN_OK)
            break;
    }
    return result == CURVE_TUN_OK || result == CURVE_TUN_ERR_WOULD_BLOCK;
}

enum came { NOTHING, BYTES, BROKEN };

/* Takes bytes from the transport once. */
static enum came read_in(struct client *client)
{
    uint8_t *room;
    size_t len;
    ssize_t count;

    if (curve_tun_connection_room(client->connection, &room, &len) != CURVE_TUN_OK)
        return BROKEN;
    if (len == 0)
        return NOTHING;
    do
        count = recv(client->fd, room, len, 0);
    while (count < 0 && errno == EINTR);
    if (count < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? NOTHING : BROKEN;
    if (count == 0) {
        client->ended = true;
        return NOTHING;
    }
    return curve_tun_connection_filled(client->connection, (size_t)count) == CURVE_TUN_OK ? BYTES : BROKEN;
}

/* Sends messages back and puts them on the transport, until it or the messages are exhausted. */
static bool move_messages(struct client *client)
{
    bool held_back;

    do {
        if (!echo(client))
            return false;
        held_back = output(client) >= OUTPUT_MAX;
        if (!write_out(client))
            return false;
    } while (held_back && output(client) < OUTPUT_MAX);
    return true;
}

/* Moves what can be moved, and says what to watch for. False if the client is done with. */
static bool serve(struct client *client)
{
    enum came came = NOTHING;
    uint32_t events = 0;
    int reads = 0;

    do {
        if (!move_messages(client))
            return false;
        if (client->ended || output(client) >= OUTPUT_MAX || reads++ == BATCH)
            break;
        came = read_in(client);
    } while (came == BYTES);
    if (came == BROKEN || (client->ended && output(client) == 0))
        return false;
    if (!client->asked && !answers_ask(client->connection, client, &client->asked))
        return false;

    /* The clock of a handshake runs; that of an established connection starts again with traffic. */
    if (client->queue != &established && !tick(client))
        return false;

    if (output(client) > 0)
        events |= EPOLLOUT;
    if (!client->ended && output(client) < OUTPUT_MAX && curve_tun_connection_wants_read(client->connection))
        events |= EPOLLIN;
    if (events != client->events && !watch(EPOLL_CTL_MOD, client->fd, events, client))
        return false;
    client->events = events;
    return true;
}

/* Hands answers to the connections that wait for them. */
static void give_answers(void)
{
    struct question *question;

    while ((question = answers_take()) != NULL) {
        struct client *client = question->asker;

        client->asked = false;
        if (client->connection != NULL &&
            (curve_tun_connection_answer(client->connection, &question->answer) != CURVE_TUN_OK || !serve(client)))
            close_client(client);
        free(question);
    }
}

/* The text of a peer's address, as the registry wants it. */
static bool address_text(const struct sockaddr_storage *peer, char text[CURVE_TUN_ADDRESS_TEXT_SIZE])
{
    const void *address;

    if (peer->ss_family == AF_INET)
        address = &((const struct sockaddr_in *)peer)->sin_addr;
    else
        address = &((const struct sockaddr_in6 *)peer)->sin6_addr;
    return inet_ntop(peer->ss_family, address, text, CURVE_TUN_ADDRESS_TEXT_SIZE) != NULL;
}

/* Another handshake needs the place of this one: epoll finds the transport shut down, and `serve` closes the client. */
static void give_way(void *user_data)
{
    struct client *client = user_data;

    shutdown(client->fd, SHUT_RDWR);
}

static void welcome(int fd, const struct sockaddr_storage *peer)
{
    char address[CURVE_TUN_ADDRESS_TEXT_SIZE];
    struct client *client = calloc(1, sizeof *client);

    if (client != NULL) {
        client->fd = fd;
        client->events = EPOLLIN;
        if (address_text(peer, address) &&
            curve_tun_connection_new_server(server, address, &client->connection) == CURVE_TUN_OK &&
            curve_tun_connection_on_give_way(client->connection, give_way, client) == CURVE_TUN_OK &&
            watch(EPOLL_CTL_ADD, fd, EPOLLIN, client)) {
            if (!tick(client))
                close_client(client);
            return;
        }
        curve_tun_connection_free(client->connection);
        free(client);
    }
    close(fd);
}

static void accept_clients(void)
{
    int i;

    for (i = 0; i < BATCH; i++) {
        struct sockaddr_storage peer;
        socklen_t len = sizeof peer;
        int fd = accept4(listener, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0)
            welcome(fd, &peer);
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            return;
        else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            /* The client stays in the system's queue, and would wake us for ever. */
            pause_accepting();
            return;
        }
        /* Other errors are those of one client that has gone (accept(2)). */
    }
}

static void tick_due(struct queue *queue)
{
    while (queue->first != NULL && queue->first->deadline_ms <= now_ms()) {
        struct client *client = queue->first;

        if (!tick(client))
            close_client(client);
    }
}

static void close_all(struct queue *queue)
{
    while (queue->first != NULL)
        close_client(queue->first);
    free_gone();
}

/* Milliseconds until the next deadline, for epoll_wait; -1 if there is none. */
static int time_to_wait(void)
{
    int64_t next = accept_again_ms, left;

    if (handshakes.first != NULL && (next < 0 || handshakes.first->deadline_ms < next))
        next = handshakes.first->deadline_ms;
    if (established.first != NULL && (next < 0 || established.first->deadline_ms < next))
        next = established.first->deadline_ms;
    if (next < 0)
        return -1;
    left = next - now_ms();
    return left < 0 ? 0 : left > 60000 ? 60000 : (int)left;
}

/* Listens, with TCP_NODELAY, which accepted sockets inherit. */
static int listen_at(const char *host, uint16_t port)
{
    struct addrinfo hints, *addresses, *a;
    char service[6];
    int fd = -1, error, on = 1, off = 0;

    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
    snprintf(service, sizeof service, "%u", (unsigned)port);
    error = getaddrinfo(host, service, &hints, &addresses);
    if (error != 0)
        fail(host, gai_strerror(error));
    for (a = addresses; a != NULL && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
            continue;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (a->ai_family == AF_INET6)
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
        if (bind(fd, a->ai_addr, a->ai_addrlen) != 0 || listen(fd, SOMAXCONN) != 0) {
            error = errno;
            close(fd);
            errno = error;
            fd = -1;
        }
    }
    freeaddrinfo(addresses);
    if (fd < 0)
        fail(host, strerror(errno));
    return fd;
}

static void print_address(void)
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

/* As many descriptors as the system allows us. */
static void raise_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    struct service service = service_arguments(argc, argv);
    static struct epoll_event events[EVENTS];
    sigset_t signals;
    bool end = false;

    raise_limit();
    block_end_signals();
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    server = service.server;
    answers = answers_begin(service.vault);
    listener = listen_at(service.host, service.port);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    end_signal = signalfd(-1, &signals, SFD_CLOEXEC);
    if (epoll < 0 || end_signal < 0 || !watch(EPOLL_CTL_ADD, listener, EPOLLIN, &listener) ||
        !watch(EPOLL_CTL_ADD, end_signal, EPOLLIN, &end_signal) ||
        !watch(EPOLL_CTL_ADD, answers, EPOLLIN, &answers))
        fail("epoll", strerror(errno));
    print_address();

    while (!end) {
        int i, count = epoll_wait(epoll, events, EVENTS, time_to_wait());

        if (count < 0 && errno != EINTR)
            fail("epoll", strerror(errno));
        for (i = 0; i < count; i++) {
            if (events[i].data.ptr == &end_signal) {
                end = true;
            } else if (events[i].data.ptr == &listener) {
                accept_clients();
            } else if (events[i].data.ptr == &answers) {
                give_answers();
            } else {
                struct client *client = events[i].data.ptr;

                /* An event before this one may have closed it. */
                if (client->connection != NULL && !serve(client))
                    close_client(client);
            }
        }
        tick_due(&handshakes);
        tick_due(&established);
        if (accept_again_ms >= 0 && accept_again_ms <= now_ms())
            go_on_accepting();
        free_gone();
    }

    close(listener);
    answers_end();
    give_answers();
    close_all(&handshakes);
    close_all(&established);
    close_all(&idle);
    curve_tun_server_free(server);
    close(end_signal);
    close(epoll);
    curve_tun_vault_free(service.vault);
    return 0;
}
