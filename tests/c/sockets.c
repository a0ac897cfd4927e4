/* Blocking sockets: both ends in one program, over loopback. */

#define _POSIX_C_SOURCE 200809L

#include "check.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <pthread.h>
#include <unistd.h>

static uint8_t message[CURVE_TUN_MESSAGE_MAX + 1], received[CURVE_TUN_MESSAGE_MAX];

struct dial {
    struct world *world;
    const char *host;
    uint16_t port;
    const uint8_t *server_key;
    curve_tun_vault *vault;
    curve_tun_result result;
    curve_tun_socket *socket;
};

static void *dial(void *argument)
{
    struct dial *d = argument;

    d->result = curve_tun_socket_connect(d->host, d->port, d->vault, d->server_key, &d->world->options, PATIENCE_MS,
                                         &d->socket);
    return NULL;
}

/* Checks that the peer's address in bytes is that of the text, as the system reads it. */
static void is_at(curve_tun_socket *socket, const char *host)
{
    uint8_t ip[CURVE_TUN_IP_BYTES_MAX], expected[CURVE_TUN_IP_BYTES_MAX];
    char address[CURVE_TUN_ADDRESS_TEXT_SIZE], *interface;
    uint16_t port;
    uint32_t scope;
    size_t len;

    OK(curve_tun_socket_peer_address(socket, address, sizeof address));
    OK(curve_tun_socket_peer_ip(socket, ip, &len, &port, &scope));
    CHECK(port == atoi(strrchr(address, ':') + 1));
    strcpy(address, host);
    interface = strchr(address, '%');
    CHECK(scope == (interface == NULL ? 0 : if_nametoindex(interface + 1)));
    if (interface != NULL)
        *interface = '\0';
    CHECK(inet_pton(len == 4 ? AF_INET : AF_INET6, address, expected) == 1);
    CHECK((len == 4 || len == 16) && memcmp(ip, expected, len) == 0);
}

/* Makes both ends of a tunnel, with `accept` or with `transport_accept` and `handshake`. */
static void connect_pair(struct world *w, const char *host, curve_tun_listener *listener, bool in_steps,
                         curve_tun_socket **client, curve_tun_socket **server)
{
    struct dial d = {w, host, curve_tun_listener_port(listener), w->server_key, w->client_vault, 0, NULL};
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, dial, &d) == 0);
    if (in_steps) {
        size_t len;

        OK(curve_tun_listener_transport_accept(listener, PATIENCE_MS, server));
        GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_socket_send(*server, message, 1, 0));
        GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_socket_recv(*server, received, 1, &len, 0));
        GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_socket_peer_key(*server, received));
        OK(curve_tun_socket_handshake(*server, PATIENCE_MS));
        GIVES(CURVE_TUN_ERR_WRONG_STATE, curve_tun_socket_handshake(*server, PATIENCE_MS));
    } else {
        OK(curve_tun_listener_accept(listener, PATIENCE_MS, server));
    }
    CHECK(pthread_join(thread, NULL) == 0);
    OK(d.result);
    *client = d.socket;
}

static void talk(struct world *w, const char *host, bool in_steps)
{
    curve_tun_listener *listener;
    curve_tun_socket *c, *s;
    curve_tun_message many[3];
    uint8_t key[CURVE_TUN_KEY_BYTES];
    char address[CURVE_TUN_ADDRESS_TEXT_SIZE], short_address[4] = "...";
    size_t len, i;

    OK(curve_tun_listener_open(host, 0, w->server, &listener));
    GIVES(CURVE_TUN_ERR_ADDRESS_IN_USE,
          curve_tun_listener_open(host, curve_tun_listener_port(listener), w->server, &listener));
    OK(curve_tun_listener_address(listener, address, sizeof address));
    CHECK(strstr(address, host) != NULL && strrchr(address, ':') != NULL);
    CHECK(atoi(strrchr(address, ':') + 1) == curve_tun_listener_port(listener));
    GIVES(CURVE_TUN_ERR_TOO_SMALL, curve_tun_listener_address(listener, short_address, sizeof short_address));
    GIVES(CURVE_TUN_ERR_TOO_SMALL, curve_tun_listener_address(listener, address, strlen(address)));
    OK(curve_tun_listener_address(listener, address, strlen(address) + 1));
    CHECK(strcmp(short_address, "...") == 0);

    GIVES(CURVE_TUN_ERR_TIMEOUT, curve_tun_listener_accept(listener, 0, &s));
    connect_pair(w, host, listener, in_steps, &c, &s);
    OK(curve_tun_socket_peer_key(c, key));
    CHECK(memcmp(key, w->server_key, sizeof key) == 0);
    OK(curve_tun_socket_peer_key(s, key));
    CHECK(memcmp(key, w->client_key, sizeof key) == 0);
    OK(curve_tun_socket_peer_address(s, address, sizeof address));
    CHECK(strstr(address, host) != NULL);
    GIVES(CURVE_TUN_ERR_TOO_SMALL, curve_tun_socket_peer_address(s, address, 3));
    is_at(s, host);
    CHECK(curve_tun_socket_fd(c) >= 0 && curve_tun_socket_fd(c) != curve_tun_socket_fd(s));

    GIVES(CURVE_TUN_ERR_TIMEOUT, curve_tun_socket_recv(s, received, sizeof received, &len, 0));
    GIVES(CURVE_TUN_ERR_TIMEOUT, curve_tun_socket_recv(s, received, sizeof received, &len, 20));
    GIVES(CURVE_TUN_ERR_TOO_LARGE, curve_tun_socket_send(c, message, sizeof message, PATIENCE_MS));
    for (i = 0; i < 3; i++) {
        many[i].bytes = message;
        many[i].len = sizeof message - i;
    }
    /* One of three is too large: none is sent, and no counter is used up. */
    GIVES(CURVE_TUN_ERR_TOO_LARGE, curve_tun_socket_send_many(c, many, 3, PATIENCE_MS));
    for (i = 0; i < 3; i++) {
        many[i].len = 1000 * i;
        many[i].bytes = i == 0 ? NULL : message + i;
    }
    for (i = 0; i < sizeof message; i++)
        message[i] = (uint8_t)(i * 7);
    OK(curve_tun_socket_send_many(c, many, 3, PATIENCE_MS));
    OK(curve_tun_socket_send_many(c, NULL, 0, PATIENCE_MS));
    OK(curve_tun_socket_recv(s, NULL, 0, &len, PATIENCE_MS));
    CHECK(len == 0);
    GIVES(CURVE_TUN_ERR_TOO_SMALL, curve_tun_socket_recv(s, received, 999, &len, PATIENCE_MS));
    CHECK(len == 1000);
    OK(curve_tun_socket_recv(s, received, 1000, &len, PATIENCE_MS));
    CHECK(len == 1000 && memcmp(received, message + 1, len) == 0);
    OK(curve_tun_socket_recv(s, received, sizeof received, &len, PATIENCE_MS));
    CHECK(len == 2000 && memcmp(received, message + 2, len) == 0);

    /* Messages sent before the close arrive; then each call returns closed. */
    OK(curve_tun_socket_send(s, message, CURVE_TUN_MESSAGE_MAX, PATIENCE_MS));
    OK(curve_tun_socket_send(s, message, 5, PATIENCE_MS));
    curve_tun_socket_free(s);
    OK(curve_tun_socket_recv(c, received, sizeof received, &len, PATIENCE_MS));
    CHECK(len == CURVE_TUN_MESSAGE_MAX && memcmp(received, message, len) == 0);
    OK(curve_tun_socket_recv(c, received, sizeof received, &len, PATIENCE_MS));
    CHECK(len == 5);
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_socket_recv(c, received, sizeof received, &len, PATIENCE_MS));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_socket_recv(c, received, sizeof received, &len, PATIENCE_MS));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_socket_send(c, message, 1, PATIENCE_MS));
    curve_tun_socket_shutdown(c);
    curve_tun_socket_shutdown(c);
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_socket_send(c, message, 1, PATIENCE_MS));
    curve_tun_socket_free(c);

    curve_tun_listener_shutdown(listener);
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_listener_accept(listener, PATIENCE_MS, &s));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_listener_transport_accept(listener, PATIENCE_MS, &s));
    curve_tun_listener_free(listener);
}

/* Each failure to connect has its own error. */
static void refusals(struct world *w)
{
    curve_tun_listener *listener;
    curve_tun_vault *stranger;
    curve_tun_socket *socket = NULL;
    struct dial d = {w, "127.0.0.1", 0, NULL, w->client_vault, 0, NULL};
    static const uint8_t weak[CURVE_TUN_KEY_BYTES];
    uint8_t wrong_key[CURVE_TUN_KEY_BYTES];
    pthread_t thread;
    uint16_t port;
    size_t len;

    OK(curve_tun_listener_open("127.0.0.1", 0, w->server, &listener));
    port = curve_tun_listener_port(listener);
    OK(curve_tun_vault_generate(&stranger));
    OK(curve_tun_vault_public_key(stranger, wrong_key));

    GIVES(CURVE_TUN_ERR_WEAK_KEY,
          curve_tun_socket_connect("127.0.0.1", port, w->client_vault, weak, &w->options, PATIENCE_MS, &socket));
    GIVES(CURVE_TUN_ERR_NAME_NOT_FOUND, curve_tun_socket_connect("", port, w->client_vault, w->server_key, &w->options,
                                                                 PATIENCE_MS, &socket));
    GIVES(CURVE_TUN_ERR_NAME_NOT_FOUND, curve_tun_socket_connect("\xff", port, w->client_vault, w->server_key, &w->options,
                                                                 PATIENCE_MS, &socket));

    d.port = port;
    d.server_key = wrong_key;
    CHECK(pthread_create(&thread, NULL, dial, &d) == 0);
    OK(curve_tun_listener_transport_accept(listener, PATIENCE_MS, &socket));
    GIVES(CURVE_TUN_ERR_BAD_PACKET, curve_tun_socket_handshake(socket, PATIENCE_MS));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_socket_handshake(socket, PATIENCE_MS));
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_socket_send(socket, message, 1, PATIENCE_MS));
    curve_tun_socket_free(socket);
    CHECK(pthread_join(thread, NULL) == 0);
    GIVES(CURVE_TUN_ERR_WRONG_SERVER_KEY, d.result);

    /* An unknown client learns of it only from the close; the server reports why. */
    d.server_key = w->server_key;
    d.vault = stranger;
    CHECK(pthread_create(&thread, NULL, dial, &d) == 0);
    OK(curve_tun_listener_transport_accept(listener, PATIENCE_MS, &socket));
    GIVES(CURVE_TUN_ERR_UNKNOWN_PEER, curve_tun_socket_handshake(socket, PATIENCE_MS));
    CHECK(pthread_join(thread, NULL) == 0);
    OK(d.result);
    GIVES(CURVE_TUN_ERR_CLOSED, curve_tun_socket_recv(d.socket, received, sizeof received, &len, PATIENCE_MS));
    curve_tun_socket_free(d.socket);
    curve_tun_socket_free(socket);

    curve_tun_listener_free(listener);
    socket = NULL;
    GIVES(CURVE_TUN_ERR_CONNECTION_REFUSED,
          curve_tun_socket_connect("127.0.0.1", port, w->client_vault, w->server_key, &w->options, PATIENCE_MS, &socket));
    CHECK(socket == NULL);
    curve_tun_vault_free(stranger);
}

/* Sockets and listeners stay usable when the objects that they were made from are freed. */
static void lifetimes(void)
{
    struct world w = new_world();
    curve_tun_listener *listener;
    curve_tun_socket *c, *s;
    size_t len;

    OK(curve_tun_listener_open("127.0.0.1", 0, w.server, &listener));
    curve_tun_server_free(w.server);
    curve_tun_registry_free(w.registry);
    curve_tun_vault_free(w.server_vault);
    connect_pair(&w, "127.0.0.1", listener, false, &c, &s);
    curve_tun_vault_free(w.client_vault);
    curve_tun_listener_free(listener);
    OK(curve_tun_socket_send(c, message, 100, PATIENCE_MS));
    OK(curve_tun_socket_recv(s, received, sizeof received, &len, PATIENCE_MS));
    CHECK(len == 100);
    curve_tun_socket_free(c);
    curve_tun_socket_free(s);
}

/* With a link-local address and its interface, `fe80::1%eth0`, only that address is tested. */
int main(int argc, char **argv)
{
    struct world w = new_world();

    if (argc == 2 && strchr(argv[1], '%') != NULL) {
        OK(curve_tun_registry_add(w.registry, "fe80::/10", w.client_key));
        talk(&w, argv[1], false);
        talk(&w, argv[1], true);
        free_world(&w);
        return 0;
    }
    OK(curve_tun_registry_add(w.registry, "::1", w.client_key));
    talk(&w, "127.0.0.1", false);
    talk(&w, "127.0.0.1", true);
    talk(&w, "::1", false);
    refusals(&w);
    lifetimes();
    free_world(&w);
    return 0;
}
