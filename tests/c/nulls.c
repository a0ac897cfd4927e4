/* Each exported function with each of its pointers NULL: always an error, and nothing is written or
 * leaked. */

#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#define IS_NULL(call) GIVES(CURVE_TUN_ERR_NULL, call)

static uint8_t key[CURVE_TUN_KEY_BYTES], bytes[256];
static char text[CURVE_TUN_KEY_TEXT_SIZE];
static size_t len;

static void keys(void)
{
    CHECK(curve_tun_version() != NULL);
    CHECK(curve_tun_abi_version() == CURVE_TUN_ABI_VERSION);
    (void)curve_tun_memory_locked();
    CHECK(curve_tun_result_name(0) != NULL);
    CHECK(curve_tun_result_message(0) != NULL);
    CHECK(!curve_tun_result_is_transient(0));
    IS_NULL(curve_tun_keypair_generate(NULL, key));
    IS_NULL(curve_tun_keypair_generate(key, NULL));
    IS_NULL(curve_tun_public_key_to_text(NULL, text));
    IS_NULL(curve_tun_public_key_to_text(key, NULL));
    IS_NULL(curve_tun_public_key_from_text(NULL, 44, key));
    IS_NULL(curve_tun_public_key_from_text(text, 44, NULL));
    IS_NULL(curve_tun_secret_key_to_text(NULL, text));
    IS_NULL(curve_tun_secret_key_to_text(key, NULL));
    IS_NULL(curve_tun_secret_key_from_text(NULL, 44, key));
    IS_NULL(curve_tun_secret_key_from_text(text, 44, NULL));
    curve_tun_wipe(NULL, 0);
    curve_tun_wipe(NULL, 5);
}

static int32_t box_seal(void *user_data, uint32_t purpose, const uint8_t *peer, const uint8_t *message, size_t l,
                        uint8_t *nonce, uint8_t *sealed)
{
    (void)user_data, (void)purpose, (void)peer, (void)message, (void)l, (void)nonce, (void)sealed;
    return CURVE_TUN_ERR_VAULT_FAILED;
}

static int32_t box_open(void *user_data, uint32_t purpose, const uint8_t *peer, const uint8_t *nonce,
                        size_t nonce_len, const uint8_t *sealed, size_t l, uint8_t *message)
{
    (void)user_data, (void)purpose, (void)peer, (void)nonce, (void)nonce_len;
    (void)sealed, (void)l, (void)message;
    return CURVE_TUN_ERR_VAULT_FAILED;
}

static int32_t verify(void *user_data, const char *address, const uint8_t *public_key, const char *listener,
                      uint32_t *accepted)
{
    (void)user_data, (void)address, (void)public_key, (void)listener, (void)accepted;
    return CURVE_TUN_ERR_REGISTRY_FAILED;
}

static void evict(void *user_data)
{
    (void)user_data;
    CHECK(!"a handshake is evicted by nobody");
}

static void must_not_free(void *user_data)
{
    (void)user_data;
    CHECK(!"free is called for a vault that was not made");
}

static void vaults(struct world *w)
{
    curve_tun_vault *none = NULL, *v = w->server_vault;
    curve_tun_vault_callbacks callbacks;

    IS_NULL(curve_tun_vault_generate(NULL));
    IS_NULL(curve_tun_vault_from_secret(NULL, &none));
    IS_NULL(curve_tun_vault_from_secret(key, NULL));
    memset(&callbacks, 0, sizeof callbacks);
    callbacks.size = sizeof callbacks;
    callbacks.box_seal = box_seal;
    callbacks.box_open = box_open;
    callbacks.free = must_not_free;
    IS_NULL(curve_tun_vault_custom(NULL, NULL, &none));
    IS_NULL(curve_tun_vault_custom(&callbacks, NULL, NULL));
    callbacks.box_seal = NULL;
    IS_NULL(curve_tun_vault_custom(&callbacks, NULL, &none));
    callbacks.box_seal = box_seal;
    callbacks.box_open = NULL;
    IS_NULL(curve_tun_vault_custom(&callbacks, NULL, &none));
    /* Every field that may be NULL. */
    callbacks.box_open = box_open;
    callbacks.free = NULL;
    OK(curve_tun_vault_custom(&callbacks, NULL, &none));
    curve_tun_vault_free(none);
    none = NULL;

    IS_NULL(curve_tun_vault_public_key(NULL, key));
    IS_NULL(curve_tun_vault_public_key(v, NULL));
    IS_NULL(curve_tun_vault_box(NULL, CURVE_TUN_PURPOSE_VOUCH, key, bytes, 4, bytes + 32, bytes + 64));
    IS_NULL(curve_tun_vault_box(v, CURVE_TUN_PURPOSE_VOUCH, NULL, bytes, 4, bytes + 32, bytes + 64));
    IS_NULL(curve_tun_vault_box(v, CURVE_TUN_PURPOSE_VOUCH, key, NULL, 4, bytes + 32, bytes + 64));
    IS_NULL(curve_tun_vault_box(v, CURVE_TUN_PURPOSE_VOUCH, key, bytes, 4, NULL, bytes + 64));
    IS_NULL(curve_tun_vault_box(v, CURVE_TUN_PURPOSE_VOUCH, key, bytes, 4, bytes + 32, NULL));
    IS_NULL(curve_tun_vault_box_open(NULL, CURVE_TUN_PURPOSE_VOUCH, key, bytes, bytes + 32, 20, bytes + 64));
    IS_NULL(curve_tun_vault_box_open(v, CURVE_TUN_PURPOSE_VOUCH, NULL, bytes, bytes + 32, 20, bytes + 64));
    IS_NULL(curve_tun_vault_box_open(v, CURVE_TUN_PURPOSE_VOUCH, key, NULL, bytes + 32, 20, bytes + 64));
    IS_NULL(curve_tun_vault_box_open(v, CURVE_TUN_PURPOSE_VOUCH, key, bytes, NULL, 20, bytes + 64));
    IS_NULL(curve_tun_vault_box_open(v, CURVE_TUN_PURPOSE_VOUCH, key, bytes, bytes + 32, 20, NULL));
    curve_tun_vault_free(NULL);
}

static void kept_vaults(void)
{
    curve_tun_vault *none = NULL;

    IS_NULL(curve_tun_vault_create_file(NULL, bytes, 4, &none));
    IS_NULL(curve_tun_vault_create_file("/nowhere/vault", NULL, 4, &none));
    IS_NULL(curve_tun_vault_create_file("/nowhere/vault", bytes, 4, NULL));
    IS_NULL(curve_tun_vault_create_file_at_cost(NULL, bytes, 4, 1, 8192, &none));
    IS_NULL(curve_tun_vault_create_file_at_cost("/nowhere/vault", NULL, 4, 1, 8192, &none));
    IS_NULL(curve_tun_vault_create_file_at_cost("/nowhere/vault", bytes, 4, 1, 8192, NULL));
    IS_NULL(curve_tun_vault_open_file(NULL, bytes, 4, &none));
    IS_NULL(curve_tun_vault_open_file("/nowhere/vault", NULL, 4, &none));
    IS_NULL(curve_tun_vault_open_file("/nowhere/vault", bytes, 4, NULL));
    IS_NULL(curve_tun_vault_open_agent(NULL, &none));
    IS_NULL(curve_tun_vault_open_agent("/nowhere/socket", NULL));
    IS_NULL(curve_tun_vault_open_pkcs11(NULL, bytes, 4, &none));
    IS_NULL(curve_tun_vault_open_pkcs11("pkcs11:", NULL, 4, &none));
    IS_NULL(curve_tun_vault_open_pkcs11("pkcs11:", bytes, 4, NULL));
    /* A passphrase of no bytes may be NULL. */
    GIVES(CURVE_TUN_ERR_FILE_NOT_FOUND, curve_tun_vault_open_file("/nowhere/vault", NULL, 0, &none));
    CHECK(none == NULL);
}

static void registries(struct world *w)
{
    curve_tun_registry *none = NULL, *r = w->registry;
    curve_tun_registry_callbacks callbacks;
    bool accepted = false;

    IS_NULL(curve_tun_registry_new(NULL));
    memset(&callbacks, 0, sizeof callbacks);
    callbacks.size = sizeof callbacks;
    callbacks.free = must_not_free;
    IS_NULL(curve_tun_registry_custom(NULL, NULL, &none));
    IS_NULL(curve_tun_registry_custom(&callbacks, NULL, &none));
    callbacks.verify = verify;
    IS_NULL(curve_tun_registry_custom(&callbacks, NULL, NULL));
    callbacks.free = NULL;
    OK(curve_tun_registry_custom(&callbacks, NULL, &none));
    curve_tun_registry_free(none);

    IS_NULL(curve_tun_registry_add(NULL, "::1", key));
    IS_NULL(curve_tun_registry_add(r, NULL, key));
    IS_NULL(curve_tun_registry_add(r, "::1", NULL));
    IS_NULL(curve_tun_registry_remove(NULL, "::1", key));
    IS_NULL(curve_tun_registry_remove(r, NULL, key));
    IS_NULL(curve_tun_registry_remove(r, "::1", NULL));
    IS_NULL(curve_tun_registry_lookup(NULL, "127.0.0.1", key));
    IS_NULL(curve_tun_registry_lookup(r, NULL, key));
    IS_NULL(curve_tun_registry_lookup(r, "127.0.0.1", NULL));
    IS_NULL(curve_tun_registry_verify(NULL, "127.0.0.1", key, &accepted));
    IS_NULL(curve_tun_registry_verify(r, NULL, key, &accepted));
    IS_NULL(curve_tun_registry_verify(r, "127.0.0.1", NULL, &accepted));
    IS_NULL(curve_tun_registry_verify(r, "127.0.0.1", key, NULL));
    curve_tun_registry_free(NULL);
}

static void kept_registries(struct world *w)
{
    curve_tun_registry *none = NULL;
    curve_tun_registry_problem problem;
    curve_tun_dns_options dns;

    memset(&problem, 0, sizeof problem);
    problem.size = sizeof problem;
    memset(&dns, 0, sizeof dns);
    dns.size = sizeof dns;
    IS_NULL(curve_tun_registry_open_file(NULL, &none));
    IS_NULL(curve_tun_registry_open_file("/", NULL));
    IS_NULL(curve_tun_registry_file_check(NULL, &problem));
    IS_NULL(curve_tun_registry_file_check("/", NULL));
    IS_NULL(curve_tun_registry_file_problem(NULL, &problem));
    IS_NULL(curve_tun_registry_file_problem(w->registry, NULL));
    IS_NULL(curve_tun_registry_open_dns(NULL, &dns, &none));
    IS_NULL(curve_tun_registry_open_dns("example", &dns, NULL));
    CHECK(none == NULL);
}

static void known_servers(struct world *w)
{
    curve_tun_known_servers *known = NULL;
    curve_tun_result told = CURVE_TUN_OK;
    curve_tun_trust trust = {0};
    curve_tun_trust_outcome said = {0};
    curve_tun_socket *none = NULL;
    char path[] = "/tmp/known-XXXXXX";
    int fd = mkstemp(path);

    CHECK(fd >= 0);
    close(fd);
    IS_NULL(curve_tun_known_servers_open(NULL, &known));
    IS_NULL(curve_tun_known_servers_open(path, NULL));
    OK(curve_tun_known_servers_open(path, &known));
    IS_NULL(curve_tun_known_servers_check(NULL, "host", 1, key, bytes));
    IS_NULL(curve_tun_known_servers_check(known, NULL, 1, key, bytes));
    IS_NULL(curve_tun_known_servers_check(known, "host", 1, NULL, bytes));
    IS_NULL(curve_tun_known_servers_check(known, "host", 1, key, NULL));
    IS_NULL(curve_tun_known_servers_remember(NULL, "host", 1, key, bytes));
    IS_NULL(curve_tun_known_servers_remember(known, NULL, 1, key, bytes));
    IS_NULL(curve_tun_known_servers_remember(known, "host", 1, NULL, bytes));
    IS_NULL(curve_tun_known_servers_remember(known, "host", 1, key, NULL));
    IS_NULL(curve_tun_socket_connect_known(NULL, 1, w->client_vault, key, known, 0, &w->options, 0, bytes, &told, &none));
    IS_NULL(curve_tun_socket_connect_known("::1", 1, NULL, key, known, 0, &w->options, 0, bytes, &told, &none));
    IS_NULL(curve_tun_socket_connect_known("::1", 1, w->client_vault, NULL, known, 0, &w->options, 0, bytes, &told, &none));
    IS_NULL(curve_tun_socket_connect_known("::1", 1, w->client_vault, key, NULL, 0, &w->options, 0, bytes, &told, &none));
    IS_NULL(curve_tun_socket_connect_known("::1", 1, w->client_vault, key, known, 0, &w->options, 0, NULL, &told, &none));
    IS_NULL(curve_tun_socket_connect_known("::1", 1, w->client_vault, key, known, 0, &w->options, 0, bytes, NULL, &none));
    IS_NULL(curve_tun_socket_connect_known("::1", 1, w->client_vault, key, known, 0, &w->options, 0, bytes, &told, NULL));
    IS_NULL(curve_tun_socket_connect_by_name(NULL, 1, w->client_vault, w->registry, &w->options, 0, &none));
    IS_NULL(curve_tun_socket_connect_by_name("::1", 1, NULL, w->registry, &w->options, 0, &none));
    IS_NULL(curve_tun_socket_connect_by_name("::1", 1, w->client_vault, NULL, &w->options, 0, &none));
    IS_NULL(curve_tun_socket_connect_by_name("::1", 1, w->client_vault, w->registry, &w->options, 0, NULL));
    trust.size = sizeof trust;
    trust.server_public_key = key;
    said.size = sizeof said;
    IS_NULL(curve_tun_socket_connect_trusted(NULL, 1, w->client_vault, &trust, &w->options, 0, &said, &none));
    IS_NULL(curve_tun_socket_connect_trusted("::1", 1, NULL, &trust, &w->options, 0, &said, &none));
    IS_NULL(curve_tun_socket_connect_trusted("::1", 1, w->client_vault, NULL, &w->options, 0, &said, &none));
    IS_NULL(curve_tun_socket_connect_trusted("::1", 1, w->client_vault, &trust, &w->options, 0, NULL, &none));
    IS_NULL(curve_tun_socket_connect_trusted("::1", 1, w->client_vault, &trust, &w->options, 0, &said, NULL));
    CHECK(none == NULL);
    curve_tun_known_servers_free(known);
    curve_tun_known_servers_free(NULL);
    unlink(path);
}

static void requests(struct world *w)
{
    curve_tun_request request;
    curve_tun_answer answer;

    memset(&request, 0, sizeof request);
    memset(&answer, 0, sizeof answer);
    request.size = sizeof request;
    answer.size = sizeof answer;
    IS_NULL(curve_tun_vault_answer(NULL, &request, &answer));
    IS_NULL(curve_tun_vault_answer(w->server_vault, NULL, &answer));
    IS_NULL(curve_tun_vault_answer(w->server_vault, &request, NULL));
    IS_NULL(curve_tun_registry_answer(NULL, &request, &answer));
    IS_NULL(curve_tun_registry_answer(w->registry, NULL, &answer));
    IS_NULL(curve_tun_registry_answer(w->registry, &request, NULL));
}

static void never_observe(void *user_data, const curve_tun_handshake_event *event)
{
    (void)user_data, (void)event;
    CHECK(false);
}

static void connections(struct world *w)
{
    curve_tun_server *server;
    curve_tun_connection *none = NULL, *c, *s;
    curve_tun_request request;
    curve_tun_answer answer;
    const uint8_t *pending;
    uint8_t *place;
    curve_tun_message message = {NULL, 0};
    int64_t next;

    IS_NULL(curve_tun_server_new(NULL, w->registry, &w->options, &server));
    IS_NULL(curve_tun_server_new(w->server_vault, NULL, &w->options, &server));
    IS_NULL(curve_tun_server_new(w->server_vault, w->registry, &w->options, NULL));
    IS_NULL(curve_tun_server_observe(NULL, never_observe, NULL, NULL));
    curve_tun_server_free(NULL);

    IS_NULL(curve_tun_connection_new_client(NULL, w->server_key, &w->options, &none));
    IS_NULL(curve_tun_connection_new_client(w->client_vault, NULL, &w->options, &none));
    IS_NULL(curve_tun_connection_new_client(w->client_vault, w->server_key, &w->options, NULL));
    IS_NULL(curve_tun_connection_new_server(NULL, "127.0.0.1", &none));
    IS_NULL(curve_tun_connection_new_server(w->server, NULL, &none));
    IS_NULL(curve_tun_connection_new_server(w->server, "127.0.0.1", NULL));
    IS_NULL(curve_tun_connection_new_server_ip(NULL, bytes, 4, &none));
    IS_NULL(curve_tun_connection_new_server_ip(w->server, NULL, 4, &none));
    IS_NULL(curve_tun_connection_new_server_ip(w->server, bytes, 4, NULL));
    CHECK(none == NULL);

    connected_pair(w, &c, &s);
    memset(&request, 0, sizeof request);
    memset(&answer, 0, sizeof answer);
    request.size = sizeof request;
    answer.size = sizeof answer;
    IS_NULL(curve_tun_connection_read(NULL, bytes, 1, &len));
    IS_NULL(curve_tun_connection_read(c, NULL, 1, &len));
    IS_NULL(curve_tun_connection_read(c, bytes, 0, NULL));
    OK(curve_tun_connection_read(c, NULL, 0, &len));
    IS_NULL(curve_tun_connection_read_buffer(NULL, &place, &len));
    IS_NULL(curve_tun_connection_read_buffer(c, NULL, &len));
    IS_NULL(curve_tun_connection_read_buffer(c, &place, NULL));
    IS_NULL(curve_tun_connection_read_commit(NULL, 0));
    CHECK(!curve_tun_connection_wants_read(NULL));
    IS_NULL(curve_tun_connection_write(NULL, bytes, 1, &len));
    IS_NULL(curve_tun_connection_write(c, NULL, 1, &len));
    IS_NULL(curve_tun_connection_write(c, bytes, 1, NULL));
    OK(curve_tun_connection_write(c, NULL, 0, &len));
    IS_NULL(curve_tun_connection_pending(NULL, &pending, &len));
    IS_NULL(curve_tun_connection_pending(c, NULL, &len));
    IS_NULL(curve_tun_connection_pending(c, &pending, NULL));
    IS_NULL(curve_tun_connection_written(NULL, 0));
    CHECK(curve_tun_connection_pending_len(NULL) == 0);
    CHECK(!curve_tun_connection_wants_write(NULL));
    IS_NULL(curve_tun_connection_send(NULL, bytes, 1));
    IS_NULL(curve_tun_connection_send(c, NULL, 1));
    IS_NULL(curve_tun_connection_send_many(NULL, &message, 1, &len));
    IS_NULL(curve_tun_connection_send_many(c, NULL, 1, &len));
    IS_NULL(curve_tun_connection_send_many(c, &message, 1, NULL));
    message.len = 1;
    IS_NULL(curve_tun_connection_send_many(c, &message, 1, &len));
    OK(curve_tun_connection_send_many(c, NULL, 0, &len));
    CHECK(len == 0 && curve_tun_connection_pending_len(c) == 0);
    OK(curve_tun_connection_send(c, NULL, 0));
    OK(carry(c, s));
    IS_NULL(curve_tun_connection_recv(NULL, bytes, 1, &len));
    IS_NULL(curve_tun_connection_recv(s, NULL, 1, &len));
    IS_NULL(curve_tun_connection_recv(s, bytes, 1, NULL));
    IS_NULL(curve_tun_connection_peek(NULL, &pending, &len));
    IS_NULL(curve_tun_connection_peek(s, NULL, &len));
    IS_NULL(curve_tun_connection_peek(s, &pending, NULL));
    IS_NULL(curve_tun_connection_consume(NULL));
    /* The empty message has been waiting all along, and needs no buffer. */
    OK(curve_tun_connection_recv(s, NULL, 0, &len));
    CHECK(len == 0);
    CHECK(curve_tun_connection_state(NULL) == CURVE_TUN_STATE_CLOSED);
    IS_NULL(curve_tun_connection_peer_key(NULL, key));
    IS_NULL(curve_tun_connection_peer_key(c, NULL));
    IS_NULL(curve_tun_connection_on_evict(NULL, evict, NULL));
    IS_NULL(curve_tun_connection_tick(NULL, 0, &next));
    IS_NULL(curve_tun_connection_tick(c, 0, NULL));
    IS_NULL(curve_tun_connection_request(NULL, &request));
    IS_NULL(curve_tun_connection_request(c, NULL));
    IS_NULL(curve_tun_connection_answer(NULL, &answer));
    IS_NULL(curve_tun_connection_answer(c, NULL));
    IS_NULL(curve_tun_connection_transport_ended(NULL));
    curve_tun_connection_close(NULL);
    curve_tun_connection_free(NULL);
    CHECK(curve_tun_connection_state(c) == CURVE_TUN_STATE_CONNECTED);
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);
}

static void sockets(struct world *w)
{
    curve_tun_listener *listener, *no_listener = NULL;
    curve_tun_socket *accepted, *none = NULL;
    curve_tun_message message;
    char address[CURVE_TUN_ADDRESS_TEXT_SIZE];
    uint16_t port;
    uint32_t scope;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int client;

    IS_NULL(curve_tun_socket_connect(NULL, 1, w->client_vault, w->server_key, &w->options, 0, &none));
    IS_NULL(curve_tun_socket_connect("127.0.0.1", 1, NULL, w->server_key, &w->options, 0, &none));
    IS_NULL(curve_tun_socket_connect("127.0.0.1", 1, w->client_vault, NULL, &w->options, 0, &none));
    IS_NULL(curve_tun_socket_connect("127.0.0.1", 1, w->client_vault, w->server_key, &w->options, 0, NULL));
    IS_NULL(curve_tun_listener_open(NULL, 0, w->server, &no_listener));
    IS_NULL(curve_tun_listener_open("127.0.0.1", 0, NULL, &no_listener));
    IS_NULL(curve_tun_listener_open("127.0.0.1", 0, w->server, NULL));
    CHECK(curve_tun_listener_port(NULL) == 0);
    OK(curve_tun_listener_open("127.0.0.1", 0, w->server, &listener));
    IS_NULL(curve_tun_listener_address(NULL, address, sizeof address));
    IS_NULL(curve_tun_listener_address(listener, NULL, sizeof address));
    IS_NULL(curve_tun_listener_transport_accept(NULL, 0, &none));
    IS_NULL(curve_tun_listener_transport_accept(listener, 0, NULL));
    IS_NULL(curve_tun_socket_handshake(NULL, 0));
    IS_NULL(curve_tun_listener_accept(NULL, 0, &none));
    IS_NULL(curve_tun_listener_accept(listener, 0, NULL));
    CHECK(none == NULL && no_listener == NULL);

    /* A client whose handshake is pending is enough: no call here gets far enough to need more. */
    client = socket(AF_INET, SOCK_STREAM, 0);
    to.sin_port = htons(curve_tun_listener_port(listener));
    CHECK(connect(client, (const struct sockaddr *)&to, sizeof to) == 0);
    OK(curve_tun_listener_transport_accept(listener, PATIENCE_MS, &accepted));
    IS_NULL(curve_tun_socket_send(NULL, bytes, 1, 0));
    IS_NULL(curve_tun_socket_send(accepted, NULL, 1, 0));
    message.bytes = NULL;
    message.len = 1;
    IS_NULL(curve_tun_socket_send_many(NULL, &message, 1, 0));
    IS_NULL(curve_tun_socket_send_many(accepted, NULL, 1, 0));
    IS_NULL(curve_tun_socket_send_many(accepted, &message, 1, 0));
    IS_NULL(curve_tun_socket_queue(NULL, bytes, 1, 0));
    IS_NULL(curve_tun_socket_queue(accepted, NULL, 1, 0));
    IS_NULL(curve_tun_socket_flush(NULL, 0));
    IS_NULL(curve_tun_socket_recv(NULL, bytes, 1, &len, 0));
    IS_NULL(curve_tun_socket_recv(accepted, NULL, 1, &len, 0));
    IS_NULL(curve_tun_socket_recv(accepted, bytes, 1, NULL, 0));
    IS_NULL(curve_tun_socket_peer_key(NULL, key));
    IS_NULL(curve_tun_socket_peer_key(accepted, NULL));
    IS_NULL(curve_tun_socket_peer_address(NULL, address, sizeof address));
    IS_NULL(curve_tun_socket_peer_address(accepted, NULL, sizeof address));
    IS_NULL(curve_tun_socket_peer_ip(NULL, bytes, &len, &port, &scope));
    IS_NULL(curve_tun_socket_peer_ip(accepted, NULL, &len, &port, &scope));
    IS_NULL(curve_tun_socket_peer_ip(accepted, bytes, NULL, &port, &scope));
    IS_NULL(curve_tun_socket_peer_ip(accepted, bytes, &len, NULL, &scope));
    IS_NULL(curve_tun_socket_peer_ip(accepted, bytes, &len, &port, NULL));
    CHECK(curve_tun_socket_fd(NULL) == -1);
    CHECK(curve_tun_socket_fd(accepted) >= 0);
    curve_tun_socket_shutdown(NULL);
    curve_tun_socket_free(NULL);
    curve_tun_listener_shutdown(NULL);
    curve_tun_listener_free(NULL);
    curve_tun_socket_free(accepted);
    curve_tun_listener_free(listener);
    close(client);
}

int main(void)
{
    struct world w = new_world();

    keys();
    vaults(&w);
    kept_vaults();
    registries(&w);
    kept_registries(&w);
    known_servers(&w);
    requests(&w);
    connections(&w);
    sockets(&w);
    free_world(&w);
    return 0;
}
