/* A stream without I/O that a loop with poll drives, against one over a socket that blocks. */

#define _POSIX_C_SOURCE 200809L

#include "tunnel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define P PATIENCE_MS
#define MANY ((size_t)1 << 20)

/* The server's end, on a transport that does not block. */
struct driven {
    int fd;
    curve_tun_connection *connection;
    curve_tun_stream_machine *machine;
};

/* Writes what the transport takes. False if that is nothing. */
static bool write_out(struct driven *d)
{
    const uint8_t *bytes;
    bool wrote = false;
    size_t len;

    while (curve_tun_connection_pending(d->connection, &bytes, &len) == CURVE_TUN_OK && len > 0) {
        ssize_t count = send(d->fd, bytes, len, MSG_NOSIGNAL);

        if (count < 0) {
            CHECK(errno == EAGAIN || errno == EINTR);
            break;
        }
        OK(curve_tun_connection_written(d->connection, (size_t)count));
        wrote = true;
    }
    return wrote;
}

/* Moves bytes of the transport: what there is to write, or else, after a wait, what there is to
 * read. */
static void turn(struct driven *d)
{
    struct pollfd ready = {d->fd, 0, 0};
    uint8_t *place;
    size_t len;
    ssize_t count;

    if (write_out(d))
        return;
    if (curve_tun_connection_wants_read(d->connection))
        ready.events |= POLLIN;
    if (curve_tun_connection_wants_write(d->connection))
        ready.events |= POLLOUT;
    CHECK(ready.events != 0 && poll(&ready, 1, P) == 1);
    if ((ready.revents & POLLIN) == 0)
        return;
    OK(curve_tun_connection_read_buffer(d->connection, &place, &len));
    count = recv(d->fd, place, len, 0);
    if (count > 0)
        OK(curve_tun_connection_read_commit(d->connection, (size_t)count));
    else if (count == 0)
        GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_connection_transport_ended(d->connection));
    else
        CHECK(errno == EAGAIN || errno == EINTR);
}

/* Sends back every byte, and the end. */
static void echo_bytes(struct driven *d)
{
    uint8_t buffer[30000];
    size_t at = 0, len = 0, written;
    curve_tun_result result;

    for (;;) {
        if (at == len) {
            at = 0;
            result = curve_tun_stream_machine_read(d->machine, buffer, sizeof buffer, &len);
            if (result == CURVE_TUN_OK && len == 0)
                return;
            if (result != CURVE_TUN_OK)
                len = 0;
        } else {
            result = curve_tun_stream_machine_write(d->machine, buffer + at, len - at, &written);
            at += written;
        }
        if (result == CURVE_TUN_ERR_WOULD_BLOCK)
            turn(d);
        else
            OK(result);
    }
}

/* Sends back every message, and the end. */
static void echo_messages(struct driven *d)
{
    const uint8_t *message = NULL;
    curve_tun_result result;
    size_t len;

    for (;;) {
        if (message == NULL) {
            result = curve_tun_stream_machine_recv_message(d->machine, &message, &len);
            if (result == CURVE_TUN_OK && message == NULL)
                return;
        } else {
            result = curve_tun_stream_machine_send_message(d->machine, message, len);
            if (result == CURVE_TUN_OK)
                message = NULL;
        }
        if (result == CURVE_TUN_ERR_WOULD_BLOCK)
            turn(d);
        else
            OK(result);
    }
}

/* Accepts a client, and runs the handshake. */
static struct driven accept_driven(int listener, const curve_tun_server *server)
{
    static const uint8_t loopback[4] = {127, 0, 0, 1};
    struct driven d = {-1, NULL, NULL};

    d.fd = accept(listener, NULL, NULL);
    CHECK(d.fd >= 0 && fcntl(d.fd, F_SETFL, O_NONBLOCK) == 0);
    OK(curve_tun_connection_new_server_ip(server, loopback, sizeof loopback, &d.connection));
    while (curve_tun_connection_state(d.connection) != CURVE_TUN_STATE_CONNECTED)
        turn(&d);
    return d;
}

/* Ends the transport in the order that the header asks of a server. */
static void close_driven(struct driven *d)
{
    while (curve_tun_connection_wants_write(d->connection))
        turn(d);
    CHECK(curve_tun_stream_machine_is_finished(d->machine));
    CHECK(shutdown(d->fd, SHUT_WR) == 0);
    while (curve_tun_connection_state(d->connection) != CURVE_TUN_STATE_CLOSED)
        turn(d);
    curve_tun_stream_machine_free(d->machine);
    curve_tun_connection_free(d->connection);
    close(d->fd);
}

struct client {
    struct world *world;
    uint16_t port;
    const curve_tun_stream_options *options;
    curve_tun_stream *stream;
};

static void *write_all(void *argument)
{
    const struct client *client = argument;
    uint8_t *bytes = pattern(0, MANY);
    size_t written;

    if (client->options->mode == CURVE_TUN_MODE_STREAM) {
        OK(curve_tun_stream_write(client->stream, bytes, MANY, &written, P));
    } else {
        OK(curve_tun_stream_send_message(client->stream, bytes, 0, P));
        OK(curve_tun_stream_send_message(client->stream, bytes, MANY, P));
        OK(curve_tun_stream_send_message(client->stream, bytes, 65502, P));
    }
    OK(curve_tun_stream_finish_write(client->stream, P));
    free(bytes);
    return NULL;
}

static void read_all(curve_tun_stream *stream)
{
    uint8_t buffer[20011];
    size_t at = 0, len;

    do {
        OK(curve_tun_stream_read(stream, buffer, sizeof buffer, &len, P));
        check_pattern(buffer, at, len);
        at += len;
    } while (len > 0);
    CHECK(at == MANY);
}

static void recv_all(curve_tun_stream *stream)
{
    static const size_t sizes[] = {0, MANY, 65502};
    const uint8_t *message;
    size_t i, len;

    for (i = 0; i < 3; i++) {
        OK(curve_tun_stream_recv_message(stream, &message, &len, P));
        CHECK(message != NULL && len == sizes[i]);
        check_pattern(message, 0, len);
    }
    OK(curve_tun_stream_recv_message(stream, &message, &len, P));
    CHECK(message == NULL);
}

static void *run_client(void *argument)
{
    struct client *client = argument;
    curve_tun_socket *socket;
    pthread_t writing;

    OK(curve_tun_socket_connect("127.0.0.1", client->port, client->world->client_vault, client->world->server_key,
                                NULL, P, &socket));
    OK(curve_tun_stream_new(socket, client->options, &client->stream));
    curve_tun_socket_free(socket);
    CHECK(pthread_create(&writing, NULL, write_all, client) == 0);
    if (client->options->mode == CURVE_TUN_MODE_STREAM)
        read_all(client->stream);
    else
        recv_all(client->stream);
    CHECK(pthread_join(writing, NULL) == 0);
    OK(curve_tun_stream_finish(client->stream, P));
    curve_tun_stream_free(client->stream);
    return NULL;
}

static void serve_one(struct client *client, int listener, const curve_tun_server *server)
{
    curve_tun_result result;
    struct driven d;
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, run_client, client) == 0);
    d = accept_driven(listener, server);
    OK(curve_tun_stream_machine_new(d.connection, client->options, &d.machine));
    while ((result = curve_tun_stream_machine_peer(d.machine, NULL)) == CURVE_TUN_ERR_WOULD_BLOCK)
        turn(&d);
    OK(result);
    OK(curve_tun_stream_machine_accept(d.machine));
    if (client->options->mode == CURVE_TUN_MODE_STREAM)
        echo_bytes(&d);
    else
        echo_messages(&d);
    while ((result = curve_tun_stream_machine_finish_write(d.machine)) == CURVE_TUN_ERR_WOULD_BLOCK)
        turn(&d);
    OK(result);
    close_driven(&d);
    CHECK(pthread_join(thread, NULL) == 0);
}

int main(void)
{
    curve_tun_stream_options options = CURVE_TUN_STREAM_OPTIONS_INIT;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    struct world w = new_world();
    curve_tun_server *server;
    struct client client;
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    CHECK(bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 1) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&address, &len) == 0);
    /* Bounds that are reached. */
    w.options.send_high_water = 70000;
    w.options.receive_high_water = 70000;
    OK(curve_tun_server_new(w.server_vault, w.registry, &w.options, &server));
    client.world = &w;
    client.port = ntohs(address.sin_port);
    client.options = &options;
    serve_one(&client, listener, server);
    options.mode = CURVE_TUN_MODE_MESSAGES;
    serve_one(&client, listener, server);
    curve_tun_server_free(server);
    close(listener);
    free_world(&w);
    return 0;
}
