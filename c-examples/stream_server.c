/*
 * stream_server [--verbose] [--handshakes N] [--per-source N] HOST PORT SECRET PEER_PUBLIC
 * [PEER_PUBLIC...]
 *
 * Sends each byte of a stream back, and then its end, to any number of clients at once, with a
 * thread for each. It offers one service, "echo", which a client need not name; another one is
 * refused. The arguments are those of echo_server, and so is the rest.
 */

#include "common.h"
#include "refusals.h"
#include "threads.h"

#include <string.h>

/* A client that opens no stream for this long is closed. */
#define OPEN_TIMEOUT_MS 10000
/* A client that reads nothing for this long is given up. */
#define SEND_TIMEOUT_MS 30000

/* Sends back what comes until its end. */
static curve_tun_result echo(curve_tun_stream *stream)
{
    uint8_t buffer[16384];
    curve_tun_result result;
    size_t len, written;

    while ((result = curve_tun_stream_read(stream, buffer, sizeof buffer, &len, -1)) == CURVE_TUN_OK && len > 0) {
        result = curve_tun_stream_write(stream, buffer, len, &written, SEND_TIMEOUT_MS);
        if (result != CURVE_TUN_OK)
            break;
    }
    return result;
}

/* Takes the stream, and serves it to its end. */
static curve_tun_result serve_stream(curve_tun_stream *stream)
{
    curve_tun_stream_peer peer = CURVE_TUN_STREAM_PEER_INIT;
    curve_tun_result result = curve_tun_stream_await_peer(stream, &peer, OPEN_TIMEOUT_MS);

    if (result == CURVE_TUN_OK && peer.service[0] != '\0' && strcmp(peer.service, "echo") != 0)
        return curve_tun_stream_abort(stream, CURVE_TUN_ABORT_NO_SERVICE, NULL);
    if (result == CURVE_TUN_OK)
        result = curve_tun_stream_accept(stream);
    if (result == CURVE_TUN_OK)
        result = echo(stream);
    if (result == CURVE_TUN_OK)
        result = curve_tun_stream_finish(stream, SEND_TIMEOUT_MS);
    return result;
}

static void serve(curve_tun_socket *socket, void *context)
{
    curve_tun_stream *stream;

    (void)context;
    if (curve_tun_stream_new(socket, NULL, &stream) != CURVE_TUN_OK)
        return;
    /* A client that does not do its part is its own affair. One that has not got everything is told
     * so: freeing a stream before its end aborts it. */
    (void)serve_stream(stream);
    curve_tun_stream_free(stream);
}

int main(int argc, char **argv)
{
    struct service service = service_arguments(argc, argv);
    curve_tun_listener *listener;

    block_end_signals();
    if (service.verbose)
        say_refusals(service.server);
    check(service.host, curve_tun_listener_open(service.host, service.port, service.server, &listener));
    /* The listener holds a reference to it. */
    curve_tun_server_free(service.server);
    curve_tun_vault_free(service.vault);
    serve_on_threads(listener, serve, NULL, NULL);
    curve_tun_listener_free(listener);
    return 0;
}
