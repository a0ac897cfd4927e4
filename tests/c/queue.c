/* Queued sends: when they are written, and what happens to them on a timeout, an error or an
 * end. */

#define _POSIX_C_SOURCE 200809L

#include "check.h"

#include <pthread.h>
#include <unistd.h>

static uint8_t message[CURVE_TUN_MESSAGE_MAX + 1], received[CURVE_TUN_MESSAGE_MAX];
static curve_tun_listener *listener;

static void *dial(void *argument)
{
    struct world *w = argument;
    curve_tun_socket *socket;

    OK(curve_tun_socket_connect("127.0.0.1", curve_tun_listener_port(listener), w->client_vault, w->server_key, NULL,
                                PATIENCE_MS, &socket));
    return socket;
}

static void connect_pair(struct world *w, curve_tun_socket **client, curve_tun_socket **server)
{
    pthread_t thread;
    void *socket;

    CHECK(pthread_create(&thread, NULL, dial, w) == 0);
    OK(curve_tun_listener_accept(listener, PATIENCE_MS, server));
    CHECK(pthread_join(thread, &socket) == 0);
    *client = socket;
}

/* Makes the message of this number. */
static const uint8_t *numbered(uint32_t number)
{
    memcpy(message, &number, sizeof number);
    return message;
}

/* Receives a message and checks its number. */
static void is_next(curve_tun_socket *from, uint32_t number, size_t len)
{
    size_t got;

    OK(curve_tun_socket_recv(from, received, sizeof received, &got, PATIENCE_MS));
    CHECK(got == len && memcmp(received, &number, sizeof number) == 0);
}

static void nothing_comes(curve_tun_socket *from)
{
    size_t len;

    GIVES(CURVE_TUN_ERR_TIMEOUT, curve_tun_socket_recv(from, received, sizeof received, &len, 0));
}

static void goes_by_a_flush_a_send_or_enough(struct world *w)
{
    curve_tun_socket *client, *server;
    curve_tun_message two[2] = {{(const uint8_t *)"\5\0\0\0", 4}, {(const uint8_t *)"\6\0\0\0", 4}};
    uint32_t i;

    connect_pair(w, &client, &server);
    OK(curve_tun_socket_flush(client, 0));
    for (i = 0; i < 3; i++)
        OK(curve_tun_socket_queue(client, numbered(i), 64, 0));
    nothing_comes(server);
    OK(curve_tun_socket_flush(client, PATIENCE_MS));
    for (i = 0; i < 3; i++)
        is_next(server, i, 64);

    OK(curve_tun_socket_queue(client, numbered(3), 64, 0));
    nothing_comes(server);
    OK(curve_tun_socket_send(client, numbered(4), 64, PATIENCE_MS));
    is_next(server, 3, 64);
    is_next(server, 4, 64);
    OK(curve_tun_socket_queue(client, numbered(4), 64, 0));
    OK(curve_tun_socket_send_many(client, two, 2, PATIENCE_MS));
    is_next(server, 4, 64);
    is_next(server, 5, 4);
    is_next(server, 6, 4);

    /* 64 KiB are written without a flush: 64 frames of 1,024 bytes, the last of which triggers
     * it. */
    for (i = 0; i < 63; i++)
        OK(curve_tun_socket_queue(client, numbered(i), 1024 - 34, 0));
    nothing_comes(server);
    OK(curve_tun_socket_queue(client, numbered(63), 1024 - 34, 0));
    for (i = 0; i < 64; i++)
        is_next(server, i, 1024 - 34);

    /* A message that cannot be sent is not queued, and does not harm the queued ones. */
    OK(curve_tun_socket_queue(client, numbered(7), 64, 0));
    GIVES(CURVE_TUN_ERR_TOO_LARGE, curve_tun_socket_queue(client, message, CURVE_TUN_MESSAGE_MAX + 1, 0));
    OK(curve_tun_socket_queue(client, numbered(8), CURVE_TUN_MESSAGE_MAX, 0));
    OK(curve_tun_socket_flush(client, PATIENCE_MS));
    is_next(server, 7, 64);
    is_next(server, 8, CURVE_TUN_MESSAGE_MAX);
    OK(curve_tun_socket_queue(client, NULL, 0, 0));
    OK(curve_tun_socket_flush(client, PATIENCE_MS));
    CHECK(curve_tun_socket_recv(server, received, 0, &(size_t){1}, PATIENCE_MS) == CURVE_TUN_OK);
    curve_tun_socket_free(client);
    curve_tun_socket_free(server);
}

/* Queues messages, from this number on, until the transport is full; returns the next number. */
static uint32_t fill(curve_tun_socket *socket, uint32_t count)
{
    curve_tun_result result;

    while ((result = curve_tun_socket_queue(socket, numbered(count), 1000, 0)) == CURVE_TUN_OK)
        count++;
    GIVES(CURVE_TUN_ERR_TIMEOUT, result);
    return count;
}

static void *flush(void *socket)
{
    OK(curve_tun_socket_flush(socket, PATIENCE_MS));
    return NULL;
}

/* A timeout neither removes anything from the queue nor adds anything to it. */
static void a_full_transport(struct world *w)
{
    curve_tun_socket *client, *server;
    pthread_t thread;
    uint32_t i, count;
    curve_tun_result result;

    connect_pair(w, &client, &server);
    count = fill(client, 0);
    /* The system may find room once more, but not for ever. */
#define TIMES_OUT(call, messages)                      \
    do {                                               \
        while ((result = (call)) == CURVE_TUN_OK)      \
            count = fill(client, count + (messages));  \
        GIVES(CURVE_TUN_ERR_TIMEOUT, result);          \
    } while (0)
    TIMES_OUT(curve_tun_socket_queue(client, numbered(count), 1000, 1), 1);
    TIMES_OUT(curve_tun_socket_flush(client, 0), 0);
    TIMES_OUT(curve_tun_socket_flush(client, 1), 0);
    TIMES_OUT(curve_tun_socket_send(client, numbered(count), 1000, 0), 1);
    CHECK(pthread_create(&thread, NULL, flush, client) == 0);
    for (i = 0; i < count; i++)
        is_next(server, i, 1000);
    CHECK(pthread_join(thread, NULL) == 0);
    nothing_comes(server);
    OK(curve_tun_socket_send(client, numbered(count), 1000, PATIENCE_MS));
    is_next(server, count, 1000);
    curve_tun_socket_free(client);
    curve_tun_socket_free(server);
}

/* A socket that is freed writes what the system takes at once, in order, and waits for nothing. */
static void freed(struct world *w)
{
    curve_tun_socket *client, *server;
    curve_tun_result result;
    uint32_t i, count;
    size_t len;

    connect_pair(w, &client, &server);
    for (i = 0; i < 10; i++)
        OK(curve_tun_socket_queue(client, numbered(i), 64, 0));
    curve_tun_socket_free(client);
    for (i = 0; i < 10; i++)
        is_next(server, i, 64);
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_socket_recv(server, received, sizeof received, &len, PATIENCE_MS));
    curve_tun_socket_free(server);

    connect_pair(w, &client, &server);
    count = fill(client, 0);
    curve_tun_socket_free(client);
    for (i = 0; (result = curve_tun_socket_recv(server, received, sizeof received, &len, PATIENCE_MS)) == CURVE_TUN_OK;
         i++)
        CHECK(len == 1000 && memcmp(received, numbered(i), len) == 0);
    GIVES(CURVE_TUN_ERR_CLOSED, result);
    CHECK(i > 0 && i <= count);
    curve_tun_socket_free(server);
}

static void *queue_until_closed(void *socket)
{
    curve_tun_result result;

    while ((result = curve_tun_socket_queue(socket, message, 1000, -1)) == CURVE_TUN_OK)
        ;
    GIVES(CURVE_TUN_ERR_CLOSED, result);
    return NULL;
}

/* A socket that is shut down drops its queue, and wakes threads that wait to add to it. */
static void shut_down(struct world *w)
{
    curve_tun_socket *client, *server;
    pthread_t thread;
    size_t len;

    connect_pair(w, &client, &server);
    OK(curve_tun_socket_queue(client, numbered(1), 64, 0));
    curve_tun_socket_shutdown(client);
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_socket_queue(client, numbered(2), 64, PATIENCE_MS));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_socket_flush(client, PATIENCE_MS));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_socket_recv(server, received, sizeof received, &len, PATIENCE_MS));
    curve_tun_socket_free(client);
    curve_tun_socket_free(server);

    connect_pair(w, &client, &server);
    fill(client, 0);
    CHECK(pthread_create(&thread, NULL, queue_until_closed, client) == 0);
    curve_tun_socket_shutdown(client);
    CHECK(pthread_join(thread, NULL) == 0);
    curve_tun_socket_free(client);
    curve_tun_socket_free(server);

    /* So does the end of the peer, once the system knows of it. */
    connect_pair(w, &client, &server);
    curve_tun_socket_free(server);
    queue_until_closed(client);
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_socket_queue(client, message, 1, PATIENCE_MS));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_socket_flush(client, PATIENCE_MS));
    curve_tun_socket_free(client);
}

#define THREADS 3
#define EACH 2000

struct writer {
    curve_tun_socket *socket;
    uint32_t number;
};

static void *queue_numbered(void *argument)
{
    struct writer *writer = argument;
    uint32_t bytes[8] = {writer->number};

    for (bytes[1] = 0; bytes[1] < EACH; bytes[1]++) {
        OK(curve_tun_socket_queue(writer->socket, (const uint8_t *)bytes, sizeof bytes, PATIENCE_MS));
        if (bytes[1] % 100 == writer->number)
            OK(curve_tun_socket_flush(writer->socket, PATIENCE_MS));
    }
    OK(curve_tun_socket_flush(writer->socket, PATIENCE_MS));
    return NULL;
}

/* Threads take turns, and each one's messages stay in order. */
static void threads(struct world *w)
{
    curve_tun_socket *client, *server;
    struct writer writers[THREADS];
    pthread_t thread[THREADS];
    uint32_t next[THREADS] = {0}, got[8], i;
    size_t len;

    connect_pair(w, &client, &server);
    for (i = 0; i < THREADS; i++) {
        writers[i].socket = client;
        writers[i].number = i;
        CHECK(pthread_create(&thread[i], NULL, queue_numbered, &writers[i]) == 0);
    }
    for (i = 0; i < THREADS * EACH; i++) {
        OK(curve_tun_socket_recv(server, (uint8_t *)got, sizeof got, &len, PATIENCE_MS));
        CHECK(len == sizeof got && got[0] < THREADS && got[1] == next[got[0]]++);
    }
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_join(thread[i], NULL) == 0);
    nothing_comes(server);
    curve_tun_socket_free(client);
    curve_tun_socket_free(server);
}

static void *just_connect(void *argument)
{
    struct world *w = argument;
    curve_tun_socket *socket = NULL;

    CHECK(curve_tun_socket_connect("127.0.0.1", curve_tun_listener_port(listener), w->client_vault, w->server_key,
                                   NULL, PATIENCE_MS, &socket) != CURVE_TUN_OK);
    return NULL;
}

static void before_the_handshake(struct world *w)
{
    curve_tun_socket *server;
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, just_connect, w) == 0);
    OK(curve_tun_listener_transport_accept(listener, PATIENCE_MS, &server));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_socket_queue(server, message, 1, 0));
    GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_socket_flush(server, 0));
    curve_tun_socket_free(server);
    CHECK(pthread_join(thread, NULL) == 0);
}

/* The send high-water mark does not apply to sockets. */
static void low_marks(struct world *w)
{
    curve_tun_options options = CURVE_TUN_OPTIONS_INIT;
    curve_tun_server *server;
    curve_tun_socket *here, *there;
    curve_tun_listener *first = listener;
    curve_tun_message many[3] = {{numbered(0), 4}, {numbered(0), 4}, {numbered(0), 4}};
    int i;

    options.send_high_water = 1;
    OK(curve_tun_server_new(w->server_vault, w->registry, &options, &server));
    OK(curve_tun_listener_open("127.0.0.1", 0, server, &listener));
    curve_tun_server_free(server);
    connect_pair(w, &there, &here);
    OK(curve_tun_socket_send_many(here, many, 3, PATIENCE_MS));
    for (i = 0; i < 3; i++)
        OK(curve_tun_socket_queue(here, numbered(0), 4, 0));
    OK(curve_tun_socket_flush(here, PATIENCE_MS));
    for (i = 0; i < 6; i++)
        is_next(there, 0, 4);
    curve_tun_socket_free(here);
    curve_tun_socket_free(there);
    curve_tun_listener_free(listener);
    listener = first;
}

/* Addresses in bytes. */
static void peers(struct world *w)
{
    curve_tun_socket *client, *server;
    uint8_t ip[CURVE_TUN_IP_BYTES_MAX];
    uint16_t port;
    uint32_t scope;
    size_t len;

    connect_pair(w, &client, &server);
    OK(curve_tun_socket_peer_ip(client, ip, &len, &port, &scope));
    CHECK(len == 4 && memcmp(ip, "\177\0\0\1", 4) == 0 && port == curve_tun_listener_port(listener) && scope == 0);
    OK(curve_tun_socket_peer_ip(server, ip, &len, &port, &scope));
    CHECK(len == 4 && memcmp(ip, "\177\0\0\1", 4) == 0 && port != 0 && scope == 0);
    curve_tun_socket_free(client);
    curve_tun_socket_free(server);
}

int main(void)
{
    struct world w = new_world();

    OK(curve_tun_listener_open("127.0.0.1", 0, w.server, &listener));
    goes_by_a_flush_a_send_or_enough(&w);
    a_full_transport(&w);
    freed(&w);
    shut_down(&w);
    threads(&w);
    before_the_handshake(&w);
    low_marks(&w);
    peers(&w);
    curve_tun_listener_free(listener);
    free_world(&w);
    return 0;
}
