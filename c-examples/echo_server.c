/*
 * echo_server [--verbose] [--handshakes N] [--per-source N] HOST PORT SECRET PEER_PUBLIC
 * [PEER_PUBLIC...]
 *
 * Sends each message back, to any number of clients at once, with a thread for each. The peers
 * whose keys are given may come from anywhere. Prints "listening on HOST:PORT" when it is ready;
 * port 0 picks a free one. SIGTERM or SIGINT ends it.
 *
 * SECRET is the text of a secret key or "@FILE", a file that begins with it; or a stored vault:
 * "vault:FILE", "agent:SOCKET" or "pkcs11:...".
 */

#include "common.h"
#include "refusals.h"
#include "threads.h"

#include <stdlib.h>

/* A client that reads nothing for this long is closed. */
#define SEND_TIMEOUT_MS 30000

static void echo(curve_tun_socket *socket, void *context)
{
    uint8_t *message = malloc(CURVE_TUN_MESSAGE_MAX);
    size_t len;

    (void)context;
    while (message != NULL &&
           curve_tun_socket_recv(socket, message, CURVE_TUN_MESSAGE_MAX, &len, -1) == CURVE_TUN_OK &&
           curve_tun_socket_send(socket, message, len, SEND_TIMEOUT_MS) == CURVE_TUN_OK)
        ;
    free(message);
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
    serve_on_threads(listener, echo, NULL, NULL);
    curve_tun_listener_free(listener);
    return 0;
}
