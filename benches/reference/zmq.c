/*
 * libzmq with CURVE, the other message-oriented tunnel of the family. It hands messages to its own
 * thread, which gathers them: its single sends are batched.
 *
 * A bound socket serves all its peers, so `accept` returns that socket. The server is a ROUTER
 * where connections come and go, and a DEALER where there is only one.
 */

#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#define KEY_TEXT 41
#define ENDPOINT_MAX 64

struct end {
    void *socket;
    int is_router;
    int is_bound;
    zmq_msg_t message;
    zmq_msg_t peer;
};

static void *context;
static struct end bound;
static char endpoint[ENDPOINT_MAX];
static char server_public[KEY_TEXT], server_secret[KEY_TEXT], client_public[KEY_TEXT], client_secret[KEY_TEXT];

static void zmq_check(const char *what, int result)
{
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", what, zmq_strerror(zmq_errno()));
        exit(EXIT_FAILURE);
    }
}

static void set(void *socket, int option, const void *value, size_t size)
{
    zmq_check("zmq_setsockopt", zmq_setsockopt(socket, option, value, size));
}

static void init_end(struct end *end, int type)
{
    int linger = 5000;

    end->socket = zmq_socket(context, type);
    if (end->socket == NULL)
        zmq_check("zmq_socket", -1);
    end->is_router = type == ZMQ_ROUTER;
    zmq_msg_init(&end->message);
    zmq_msg_init(&end->peer);
    set(end->socket, ZMQ_LINGER, &linger, sizeof linger);
}

static void end_end(struct end *end)
{
    zmq_msg_close(&end->message);
    zmq_msg_close(&end->peer);
    zmq_close(end->socket);
}

static void curve_listen(enum job job)
{
    int on = 1;
    size_t size = sizeof endpoint;

    init_end(&bound, job == JOB_SETUP ? ZMQ_ROUTER : ZMQ_DEALER);
    bound.is_bound = 1;
    set(bound.socket, ZMQ_CURVE_SERVER, &on, sizeof on);
    set(bound.socket, ZMQ_CURVE_PUBLICKEY, server_public, KEY_TEXT);
    set(bound.socket, ZMQ_CURVE_SECRETKEY, server_secret, KEY_TEXT);
    zmq_check("zmq_bind", zmq_bind(bound.socket, "tcp://127.0.0.1:*"));
    zmq_check("zmq_getsockopt", zmq_getsockopt(bound.socket, ZMQ_LAST_ENDPOINT, endpoint, &size));
}

static void curve_unlisten(void)
{
    end_end(&bound);
}

static struct end *curve_accept(void)
{
    return &bound;
}

static struct end *curve_connect(void)
{
    struct end *end = calloc(1, sizeof *end);

    if (end == NULL)
        die("calloc");
    init_end(end, ZMQ_DEALER);
    set(end->socket, ZMQ_CURVE_SERVERKEY, server_public, KEY_TEXT);
    set(end->socket, ZMQ_CURVE_PUBLICKEY, client_public, KEY_TEXT);
    set(end->socket, ZMQ_CURVE_SECRETKEY, client_secret, KEY_TEXT);
    zmq_check("zmq_connect", zmq_connect(end->socket, endpoint));
    return end;
}

static void curve_send(struct end *end, uint8_t *message, size_t size)
{
    if (end->is_router)
        zmq_check("zmq_msg_send", zmq_msg_send(&end->peer, end->socket, ZMQ_SNDMORE));
    zmq_check("zmq_send", zmq_send(end->socket, message, size, 0));
}

static const uint8_t *curve_receive(struct end *end, size_t *size)
{
    if (end->is_router)
        zmq_check("zmq_msg_recv", zmq_msg_recv(&end->peer, end->socket, 0));
    zmq_check("zmq_msg_recv", zmq_msg_recv(&end->message, end->socket, 0));
    *size = zmq_msg_size(&end->message);
    return zmq_msg_data(&end->message);
}

static void curve_close(struct end *end)
{
    if (end->is_bound)
        return;
    end_end(end);
    free(end);
}

int main(int argc, char **argv)
{
    static const struct transport curve = {
        "zmq", curve_listen, curve_unlisten, curve_accept, curve_connect,
        curve_send, NULL, curve_receive, curve_close, 1,
    };
    struct extent extent = extent_arguments(argc, argv);

    context = zmq_ctx_new();
    zmq_check("keys", zmq_curve_keypair(server_public, server_secret));
    zmq_check("keys", zmq_curve_keypair(client_public, client_secret));
    measure(&curve, extent);
    zmq_ctx_term(context);
    return 0;
}
