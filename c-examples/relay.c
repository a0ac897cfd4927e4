/*
 * relay [--passphrase-file FILE] VAULT REGISTRY KNOWN_SERVERS HOST PORT SERVER_HOST SERVER_PORT
 *
 * Relays messages between clients and one server, as a service run by an operator: its key is in
 * VAULT, "vault:FILE", "agent:SOCKET" or "pkcs11:..."; the first line of the passphrase file
 * unseals the vault, or is the token's PIN. REGISTRY is the registry file of the clients that may
 * come in; KNOWN_SERVERS is one with the key of the server, in an entry "[SERVER_HOST]:SERVER_PORT
 * KEY". No server is trusted on first use, since there is no user to ask.
 *
 * It reports on standard error which clients it turns away, and why (refusals.h), since a client is
 * told little.
 *
 * Both registry files may be changed while it runs (curve-tun peers). On SIGHUP it reports on
 * standard error whether it could use them, and whether the vault works. Prints "listening on
 * HOST:PORT" when it is ready; port 0 picks a free one. SIGTERM or SIGINT ends it.
 */

#define _POSIX_C_SOURCE 200809L

#include "common.h"
#include "refusals.h"
#include "threads.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Timeout for connecting to the server, and for a peer to take a message. */
#define TIMEOUT_MS 30000

struct relay {
    curve_tun_vault *vault;
    curve_tun_registry *clients, *known_servers;
    const char *clients_file, *known_servers_file;
    const char *server_host;
    uint16_t server_port;
};

/* One direction of a client's messages. */
struct direction {
    curve_tun_socket *from, *to;
};

/* Passes messages on until either end is finished, and then ends both. */
static void *pass_on(void *argument)
{
    struct direction *direction = argument;
    uint8_t *message = malloc(CURVE_TUN_MESSAGE_MAX);
    size_t len;

    while (message != NULL &&
           curve_tun_socket_recv(direction->from, message, CURVE_TUN_MESSAGE_MAX, &len, -1) == CURVE_TUN_OK &&
           curve_tun_socket_send(direction->to, message, len, TIMEOUT_MS) == CURVE_TUN_OK)
        ;
    free(message);
    curve_tun_socket_shutdown(direction->from);
    curve_tun_socket_shutdown(direction->to);
    return NULL;
}

static void relay_client(curve_tun_socket *client, void *context)
{
    const struct relay *relay = context;
    curve_tun_socket *server;
    curve_tun_result result;
    pthread_t back;

    result = curve_tun_socket_connect_by_name(relay->server_host, relay->server_port, relay->vault,
                                              relay->known_servers, NULL, TIMEOUT_MS, &server);
    if (result != CURVE_TUN_OK) {
        fprintf(stderr, "%s: %s\n", relay->server_host, curve_tun_result_message(result));
        return;
    }
    struct direction there = {client, server}, and_back = {server, client};
    if (pthread_create(&back, NULL, pass_on, &and_back) == 0) {
        pass_on(&there);
        pthread_join(back, NULL);
    } else {
        fprintf(stderr, "%s: there is no thread to be had\n", relay->server_host);
    }
    curve_tun_socket_free(server);
}

/* Reports whether the entries in force are those of a registry's file, and if not, why. */
static void say_registry(const char *file, const curve_tun_registry *registry)
{
    curve_tun_registry_problem problem = CURVE_TUN_REGISTRY_PROBLEM_INIT;
    curve_tun_result result = curve_tun_registry_file_problem(registry, &problem);

    if (result == CURVE_TUN_OK)
        fprintf(stderr, "%s: in force\n", file);
    else if (result == CURVE_TUN_ERR_BAD_REGISTRY_FILE)
        fprintf(stderr, "%s: line %llu, column %lu: %s; the entries from before are in force\n", file,
                (unsigned long long)problem.line, (unsigned long)problem.column, problem.text);
    else
        fprintf(stderr, "%s: %s; the entries from before are in force\n", file, curve_tun_result_message(result));
}

/* Reports whether the vault can use its key: it seals a box for itself, which goes nowhere. */
static void say_vault(const curve_tun_vault *vault)
{
    uint8_t own_key[CURVE_TUN_KEY_BYTES], nonce[CURVE_TUN_NONCE_BYTES], sealed[CURVE_TUN_BOX_OVERHEAD];
    curve_tun_result result = curve_tun_vault_public_key(vault, own_key);

    if (result == CURVE_TUN_OK)
        result = curve_tun_vault_box(vault, CURVE_TUN_PURPOSE_VOUCH, own_key, NULL, 0, nonce, sealed);
    fprintf(stderr, "vault: %s\n", result == CURVE_TUN_OK ? "works" : curve_tun_result_message(result));
}

static void report(void *context)
{
    const struct relay *relay = context;

    say_registry(relay->clients_file, relay->clients);
    say_registry(relay->known_servers_file, relay->known_servers);
    say_vault(relay->vault);
}

int main(int argc, char **argv)
{
    static struct relay relay;
    const char *program = argv[0], *passphrase_file = NULL;
    curve_tun_server *server;
    curve_tun_listener *listener;
    sigset_t hangup;

    if (argc > 2 && strcmp(argv[1], "--passphrase-file") == 0) {
        passphrase_file = argv[2];
        argc -= 2;
        argv += 2;
    }
    if (argc != 8)
        fail(program, "[--passphrase-file FILE] VAULT REGISTRY KNOWN_SERVERS HOST PORT SERVER_HOST SERVER_PORT");
    block_end_signals();
    sigemptyset(&hangup);
    sigaddset(&hangup, SIGHUP);
    sigprocmask(SIG_BLOCK, &hangup, NULL);

    relay.vault = kept_vault_argument(argv[1], passphrase_file);
    relay.clients_file = argv[2];
    relay.known_servers_file = argv[3];
    check(argv[2], curve_tun_registry_open_file(argv[2], &relay.clients));
    check(argv[3], curve_tun_registry_open_file(argv[3], &relay.known_servers));
    relay.server_host = argv[6];
    relay.server_port = port_argument(argv[7]);
    check("server", curve_tun_server_new(relay.vault, relay.clients, NULL, &server));
    say_refusals(server);
    check(argv[4], curve_tun_listener_open(argv[4], port_argument(argv[5]), server, &listener));

    serve_on_threads(listener, relay_client, report, &relay);

    curve_tun_listener_free(listener);
    curve_tun_server_free(server);
    curve_tun_registry_free(relay.clients);
    curve_tun_registry_free(relay.known_servers);
    curve_tun_vault_free(relay.vault);
    return 0;
}
