/* A tunnel with all keys from DNS, with a library that supports it: dns NAME_SERVER TRUST_ANCHORS
 * SERVER_VAULT CLIENT_VAULT. */

#include "check.h"

#include <pthread.h>

static curve_tun_registry *open_registry(const char *name_server, const char *trust_anchors)
{
    curve_tun_dns_options options;
    curve_tun_registry *registry;

    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.servers = name_server;
    /* An empty text is not NULL: it selects neither the root's keys nor other name servers. */
    options.trust_anchors = "";
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_registry_open_dns("test", &options, &registry));
    options.trust_anchors = trust_anchors;
    options.servers = " ";
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_registry_open_dns("test", &options, &registry));
    options.servers = name_server;
    OK(curve_tun_registry_open_dns("test", &options, &registry));
    return registry;
}

struct end {
    uint16_t port;
    curve_tun_vault *vault;
    curve_tun_registry *registry;
};

/* A client that finds its server's key by name. */
static void *client(void *argument)
{
    struct end *end = argument;
    curve_tun_options options = CURVE_TUN_OPTIONS_INIT;
    curve_tun_socket *sock;

    OK(curve_tun_socket_connect_by_name("127.0.0.1", end->port, end->vault, end->registry, &options, PATIENCE_MS, &sock));
    OK(curve_tun_socket_send(sock, (const uint8_t *)"named", 5, PATIENCE_MS));
    curve_tun_socket_free(sock);
    return NULL;
}

static void sockets(curve_tun_server *server, curve_tun_vault *vault, curve_tun_registry *registry)
{
    curve_tun_listener *listener;
    curve_tun_socket *sock;
    struct end end;
    uint8_t message[8];
    pthread_t thread;
    size_t len;

    OK(curve_tun_listener_open("127.0.0.1", 0, server, &listener));
    end.port = curve_tun_listener_port(listener);
    end.vault = vault;
    end.registry = registry;
    CHECK(pthread_create(&thread, NULL, client, &end) == 0);
    OK(curve_tun_listener_accept(listener, PATIENCE_MS, &sock));
    OK(curve_tun_socket_recv(sock, message, sizeof message, &len, PATIENCE_MS));
    CHECK(len == 5 && memcmp(message, "named", 5) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    curve_tun_socket_free(sock);
    curve_tun_listener_free(listener);
}

/* A client from an address, over a connection without I/O; returns the server's verdict. */
static curve_tun_result verdict(curve_tun_server *server, curve_tun_vault *vault, const uint8_t *server_key,
                                curve_tun_registry *registry, const char *address)
{
    curve_tun_options options = CURVE_TUN_OPTIONS_INIT;
    curve_tun_connection *c, *s;
    curve_tun_request request;
    curve_tun_answer answer;
    curve_tun_result result;

    request.size = sizeof request;
    answer.size = sizeof answer;
    OK(curve_tun_connection_new_client(vault, server_key, &options, &c));
    OK(curve_tun_connection_new_server(server, address, &s));
    OK(carry(c, s));
    OK(carry(s, c));
    OK(carry(c, s));
    OK(curve_tun_connection_request(s, &request));
    CHECK(request.kind == CURVE_TUN_REQUEST_VERIFY);
    OK(curve_tun_registry_answer(registry, &request, &answer));
    result = curve_tun_connection_answer(s, &answer);
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);
    return result;
}

int main(int count, char **arguments)
{
    curve_tun_options options = CURVE_TUN_OPTIONS_INIT;
    curve_tun_vault *server_vault, *client_vault;
    curve_tun_registry *registry, *untrusting;
    curve_tun_server *server;
    curve_tun_socket *none = NULL;
    uint8_t server_key[CURVE_TUN_KEY_BYTES];

    CHECK(count == 5);
    OK(curve_tun_vault_open_file(arguments[3], NULL, 0, &server_vault));
    OK(curve_tun_vault_open_file(arguments[4], NULL, 0, &client_vault));
    OK(curve_tun_vault_public_key(server_vault, server_key));
    registry = open_registry(arguments[1], arguments[2]);
    OK(curve_tun_server_new(server_vault, registry, &options, &server));
    sockets(server, client_vault, registry);
    OK(verdict(server, client_vault, server_key, registry, "127.0.0.1"));
    GIVES(CURVE_TUN_ERR_UNKNOWN_PEER, verdict(server, client_vault, server_key, registry, "127.0.0.2"));

    /* Without the zone's keys nothing in it is proven: there is no chain from the root's keys. */
    untrusting = open_registry(arguments[1], NULL);
    GIVES(CURVE_TUN_ERR_NOT_VALIDATED, curve_tun_socket_connect_by_name("127.0.0.1", 1, client_vault, untrusting, &options,
                                                                        PATIENCE_MS, &none));
    CHECK(none == NULL);
    curve_tun_registry_free(untrusting);
    curve_tun_server_free(server);
    curve_tun_registry_free(registry);
    curve_tun_vault_free(client_vault);
    curve_tun_vault_free(server_vault);
    return 0;
}
