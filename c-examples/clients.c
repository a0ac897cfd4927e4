#define _GNU_SOURCE

#include "clients.h"

#include <arpa/inet.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

/* How often one client is read from before the others have their turn. */
#define BATCH 16
/* A client with this much output pending is not read from until it has been written. */
#define OUTPUT_MAX (256 * 1024)

struct client {
    int fd;
    curve_tun_connection *connection;
    uint32_t events;     /* Events that epoll watches for. */
    bool ended;          /* The peer has sent all that it will send. */
    struct source source;
    struct question *question; /* For the vault, on another thread. */
    int64_t deadline_ms; /* When its connection's next tick is due. */
    struct queue *queue; /* The queue that it is in. */
    struct client *previous, *next;
};

int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool watch(int epoll, int operation, int fd, uint32_t events, void *data)
{
    struct epoll_event event;

    memset(&event, 0, sizeof event);
    event.events = events;
    event.data.ptr = data;
    return epoll_ctl(epoll, operation, fd, &event) == 0;
}

bool address_text(const struct sockaddr_storage *address, char text[CURVE_TUN_ADDRESS_TEXT_SIZE])
{
    const void *bytes;

    if (address->ss_family == AF_INET)
        bytes = &((const struct sockaddr_in *)address)->sin_addr;
    else
        bytes = &((const struct sockaddr_in6 *)address)->sin6_addr;
    return inet_ntop(address->ss_family, bytes, text, CURVE_TUN_ADDRESS_TEXT_SIZE) != NULL;
}

/* The source by which the library counts a client, too. An IPv4 client of an IPv6 socket is an IPv4
 * client. */
static struct source source_of(const struct sockaddr_storage *address)
{
    const struct in6_addr *ipv6 = &((const struct sockaddr_in6 *)address)->sin6_addr;
    struct source source;

    memset(&source, 0, sizeof source);
    if (address->ss_family == AF_INET) {
        memcpy(source.bytes, &((const struct sockaddr_in *)address)->sin_addr, 4);
    } else if (IN6_IS_ADDR_V4MAPPED(ipv6)) {
        memcpy(source.bytes, &ipv6->s6_addr[12], 4);
    } else {
        memcpy(source.bytes, ipv6, sizeof source.bytes);
        source.ipv6 = true;
    }
    return source;
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
    queue->count--;
    client->queue = NULL;
}

/* Deadlines mostly come in order, so the search for the place begins at the end. */
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
    queue->count++;
}

static void close_client(struct clients *clients, struct client *client)
{
    leave_queue(client);
    if (client->question != NULL)
        answers_drop(clients->answers, client->question);
    client->question = NULL;
    curve_tun_connection_free(client->connection);
    client->connection = NULL;
    close(client->fd);
    client->next = clients->gone;
    clients->gone = client;
    clients->left = true;
}

bool clients_free_gone(struct clients *clients)
{
    bool left = clients->left;

    clients->left = false;
    while (clients->gone != NULL) {
        struct client *client = clients->gone;

        clients->gone = client->next;
        free(client);
    }
#ifdef __GLIBC__
    /* After a burst of clients, its memory goes back to the system. */
    if (left && clients->handshakes.first == NULL && clients->established.first == NULL &&
        clients->idle.first == NULL)
        malloc_trim(0);
#endif
    return left;
}

/* Tells a connection the time, and queues its client for the next tick. False if the connection is
 * over. */
static bool tick(struct clients *clients, struct client *client)
{
    leave_queue(client);
    if (curve_tun_connection_tick(client->connection, now_ms(), &client->deadline_ms) != CURVE_TUN_OK)
        return false;
    if (client->deadline_ms < 0) {
        client->deadline_ms = INT64_MAX;
        enter_queue(&clients->idle, client);
    } else if (curve_tun_connection_state(client->connection) == CURVE_TUN_STATE_CONNECTED) {
        enter_queue(&clients->established, client);
    } else {
        enter_queue(&clients->handshakes, client);
    }
    return true;
}

/* Returns how many bytes wait for the transport. */
static size_t output(struct client *client)
{
    const uint8_t *bytes;
    size_t len;

    if (curve_tun_connection_pending(client->connection, &bytes, &len) != CURVE_TUN_OK)
        return 0;
    return len;
}

/* Writes as much as the transport takes. False if the transport broke. */
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

/* Echoes messages, unless too much output is pending already. False if the connection is over. */
static bool echo(struct clients *clients, struct client *client)
{
    uint8_t *message = clients->message;
    curve_tun_result result = CURVE_TUN_OK;
    size_t len;

    while (output(client) < OUTPUT_MAX) {
        result = curve_tun_connection_recv(client->connection, message, sizeof clients->message, &len);
        if (result == CURVE_TUN_OK)
            result = curve_tun_connection_send(client->connection, message, len);
        if (result != CURVE_TUN_OK)
            break;
    }
    return result == CURVE_TUN_OK || result == CURVE_TUN_ERR_WOULD_BLOCK;
}

enum came { NOTHING, BYTES, BROKEN };

/* Reads from the transport once. */
static enum came read_in(struct client *client)
{
    uint8_t *buffer;
    size_t len;
    ssize_t count;

    if (curve_tun_connection_read_buffer(client->connection, &buffer, &len) != CURVE_TUN_OK)
        return BROKEN;
    if (len == 0)
        return NOTHING;
    do
        count = recv(client->fd, buffer, len, 0);
    while (count < 0 && errno == EINTR);
    if (count < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? NOTHING : BROKEN;
    if (count == 0) {
        client->ended = true;
        return NOTHING;
    }
    return curve_tun_connection_read_commit(client->connection, (size_t)count) == CURVE_TUN_OK ? BYTES : BROKEN;
}

/* Echoes messages and writes them, until the transport is full or the messages are exhausted. */
static bool move_messages(struct clients *clients, struct client *client)
{
    bool held_back;

    do {
        if (!echo(clients, client))
            return false;
        held_back = output(client) >= OUTPUT_MAX;
        if (!write_out(client))
            return false;
    } while (held_back && output(client) < OUTPUT_MAX);
    return true;
}

/* Whether the peer may have ended its side because it has sent everything, while an answer is
 * awaited that decides. A peer that has not even seen the cookie has left. */
static bool may_have_said_all(struct client *client)
{
    return client->question != NULL &&
           curve_tun_connection_state(client->connection) == CURVE_TUN_STATE_ACCEPTING;
}

/* Moves all bytes that can be moved, and sets the events to watch for. False if the client is
 * done. */
static bool serve(struct clients *clients, struct client *client)
{
    enum came came = NOTHING;
    uint32_t events = 0;
    int reads = 0;

    do {
        if (!move_messages(clients, client))
            return false;
        if (client->ended || output(client) >= OUTPUT_MAX || reads++ == BATCH)
            break;
        came = read_in(client);
    } while (came == BYTES);
    if (came == BROKEN)
        return false;
    if (client->question == NULL &&
        !answers_ask(clients->answers, client->connection, client, client->source, &client->question))
        return false;
    if (client->ended && output(client) == 0 && !may_have_said_all(client))
        return false;

    /* The clock of a handshake keeps running; that of an established connection restarts with
     * traffic. */
    if (client->queue != &clients->established && !tick(clients, client))
        return false;

    if (output(client) > 0)
        events |= EPOLLOUT;
    if (!client->ended && output(client) < OUTPUT_MAX && curve_tun_connection_wants_read(client->connection))
        events |= EPOLLIN;
    if (events != client->events && !watch(clients->epoll, EPOLL_CTL_MOD, client->fd, events, client))
        return false;
    client->events = events;
    return true;
}

void clients_serve(struct clients *clients, struct client *client, uint32_t events)
{
    /* While an answer is awaited, nothing else shows that the handshake was evicted, or that its
     * transport broke. */
    bool over = client->question != NULL && (events & (EPOLLHUP | EPOLLERR)) != 0;

    /* An earlier event may have closed it. */
    if (client->connection != NULL && (over || !serve(clients, client)))
        close_client(clients, client);
}

void clients_give_answers(struct clients *clients)
{
    struct question *question;

    while ((question = answers_take(clients->answers)) != NULL) {
        struct client *client = question->asker;

        client->question = NULL;
        if (curve_tun_connection_answer(client->connection, &question->answer) != CURVE_TUN_OK ||
            !serve(clients, client))
            close_client(clients, client);
        free(question);
    }
}

/* Another handshake needs this one's permit, on whichever thread it is: epoll reports that the
 * transport is shut down, and `serve` closes the client. */
static void evict(void *user_data)
{
    struct client *client = user_data;

    shutdown(client->fd, SHUT_RDWR);
}

void clients_welcome(struct clients *clients, int fd, const struct sockaddr_storage *peer)
{
    char address[CURVE_TUN_ADDRESS_TEXT_SIZE];
    struct client *client = calloc(1, sizeof *client);

    if (client != NULL) {
        client->fd = fd;
        client->events = EPOLLIN;
        client->source = source_of(peer);
        if (address_text(peer, address) &&
            curve_tun_connection_new_server(clients->server, address, &client->connection) == CURVE_TUN_OK &&
            curve_tun_connection_on_evict(client->connection, evict, client) == CURVE_TUN_OK &&
            watch(clients->epoll, EPOLL_CTL_ADD, fd, EPOLLIN, client)) {
            if (!tick(clients, client))
                close_client(clients, client);
            return;
        }
        curve_tun_connection_free(client->connection);
        free(client);
    }
    close(fd);
}

static void tick_due(struct clients *clients, struct queue *queue)
{
    while (queue->first != NULL && queue->first->deadline_ms <= now_ms()) {
        struct client *client = queue->first;

        if (!tick(clients, client))
            close_client(clients, client);
    }
}

void clients_tick(struct clients *clients)
{
    tick_due(clients, &clients->handshakes);
    tick_due(clients, &clients->established);
}

int64_t clients_deadline_ms(const struct clients *clients)
{
    const struct client *handshake = clients->handshakes.first, *established = clients->established.first;

    if (handshake == NULL || (established != NULL && established->deadline_ms < handshake->deadline_ms))
        handshake = established;
    return handshake != NULL ? handshake->deadline_ms : -1;
}

static void close_all(struct clients *clients, struct queue *queue)
{
    while (queue->first != NULL)
        close_client(clients, queue->first);
}

void clients_close(struct clients *clients)
{
    close_all(clients, &clients->handshakes);
    close_all(clients, &clients->established);
    close_all(clients, &clients->idle);
    clients_free_gone(clients);
}
