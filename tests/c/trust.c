/* Which key of a server is trusted: each row of the table that Rust, C and Erlang share, on real sockets.
 * trust TABLE FOLDER */

#define _POSIX_C_SOURCE 200809L

#include "check.h"

#include <ctype.h>
#include <pthread.h>
#include <unistd.h>

/* The words of a row. */
enum { GIVEN, NAMED, KNOWN, FIRST_USE, RESULT, OFFERED, KNOWN_BY, WRITTEN, WORDS };

#define WORD_SIZE 32
#define TEXT_SIZE 1024

static struct world w;
static uint16_t port;

static void *accept_all(void *listener)
{
    curve_tun_socket *socket;

    while (curve_tun_listener_accept(listener, -1, &socket) == CURVE_TUN_OK)
        curve_tun_socket_free(socket);
    return NULL;
}

static bool is(const char *word, const char *other)
{
    return strcmp(word, other) == 0;
}

/* A key by its name; zeros for none. */
static void key_of(const char *name, uint8_t key[CURVE_TUN_KEY_BYTES])
{
    memset(key, 0, CURVE_TUN_KEY_BYTES);
    if (is(name, "server"))
        memcpy(key, w.server_key, CURVE_TUN_KEY_BYTES);
    else if (is(name, "other") || is(name, "third"))
        key[0] = is(name, "other") ? 9 : 16;
    else
        CHECK(is(name, "-"));
}

/* Adds to a text the lines that a file has for keys of the server, and for denied keys. */
static void entries(const char *words, char *text)
{
    char copy[WORD_SIZE], key_text[CURVE_TUN_KEY_TEXT_SIZE], *rest = copy, *word;
    uint8_t key[CURVE_TUN_KEY_BYTES];

    if (is(words, "none") || is(words, "-"))
        return;
    strcpy(copy, words);
    while ((word = strtok_r(rest, ",", &rest)) != NULL) {
        key_of(word + (*word == '!'), key);
        OK(curve_tun_public_key_to_text(key, key_text));
        text += strlen(text);
        if (*word == '!')
            sprintf(text, "! %s\n", key_text);
        else
            sprintf(text, "[127.0.0.1]:%u %s\n", port, key_text);
    }
}

static void write_file(const char *path, const char *words)
{
    char text[TEXT_SIZE] = "";
    FILE *file = fopen(path, "w");

    entries(words, text);
    CHECK(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

/* Checks that the file has its previous contents, and the key that was to be added. */
static void check_file(const char *path, const char *before, const char *added)
{
    char text[TEXT_SIZE], expected[TEXT_SIZE] = "";
    FILE *file = fopen(path, "r");

    CHECK(file != NULL);
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    entries(before, expected);
    entries(added, expected);
    CHECK(is(text, expected));
}

static bool is_result(curve_tun_result result, const char *word)
{
    const char *name = curve_tun_result_name(result);

    if (is(word, "ok"))
        return result == CURVE_TUN_OK;
    if (is(word, "no_key"))
        return result == CURVE_TUN_ERR_INVALID_ARGUMENT;
    CHECK(strncmp(name, "CURVE_TUN_", 10) == 0);
    for (name += is(name, "CURVE_TUN_OK") ? 10 : strlen("CURVE_TUN_ERR_"); *name != 0; name++, word++)
        if (tolower((unsigned char)*name) != *word)
            return false;
    return *word == 0;
}

static uint32_t first_use(const char *word)
{
    if (is(word, "once"))
        return CURVE_TUN_FIRST_USE_ONCE;
    if (is(word, "remember"))
        return CURVE_TUN_FIRST_USE_REMEMBER;
    CHECK(is(word, "refuse") || is(word, "-"));
    return CURVE_TUN_FIRST_USE_REFUSE;
}

static void row(char words[WORDS][WORD_SIZE], const char *named, const char *known)
{
    uint8_t given_key[CURVE_TUN_KEY_BYTES], offered[CURVE_TUN_KEY_BYTES], known_by[CURVE_TUN_KEY_BYTES];
    curve_tun_registry *registry = NULL;
    curve_tun_known_servers *known_servers = NULL;
    curve_tun_trust trust = {0};
    curve_tun_trust_outcome outcome;
    curve_tun_socket *socket = NULL;
    curve_tun_result result;

    key_of(words[GIVEN], given_key);
    key_of(words[OFFERED], offered);
    key_of(words[KNOWN_BY], known_by);
    if (!is(words[NAMED], "-")) {
        write_file(named, words[NAMED]);
        OK(curve_tun_registry_open_file(named, &registry));
    }
    if (!is(words[KNOWN], "-")) {
        write_file(known, words[KNOWN]);
        OK(curve_tun_known_servers_open(known, &known_servers));
    }
    trust.size = sizeof trust;
    trust.server_public_key = is(words[GIVEN], "-") ? NULL : given_key;
    trust.registry = registry;
    trust.known_servers = known_servers;
    trust.first_use = first_use(words[FIRST_USE]);
    /* Checks that each field is written. */
    memset(&outcome, 0xff, sizeof outcome);
    outcome.size = sizeof outcome;
    result = curve_tun_socket_connect_trusted("127.0.0.1", port, w.client_vault, &trust, &w.options, PATIENCE_MS,
                                              &outcome, &socket);
    if (!is_result(result, words[RESULT])) {
        fprintf(stderr, "%s %s %s %s: %s, not %s\n", words[GIVEN], words[NAMED], words[KNOWN],
                words[FIRST_USE], curve_tun_result_name(result), words[RESULT]);
        exit(1);
    }
    CHECK(outcome.size == sizeof outcome && outcome.remembered == CURVE_TUN_OK && outcome.reserved == 0);
    CHECK(memcmp(outcome.offered_public_key, offered, sizeof offered) == 0);
    CHECK(memcmp(outcome.known_public_key, known_by, sizeof known_by) == 0);
    CHECK((socket != NULL) == (result == CURVE_TUN_OK));
    if (socket != NULL) {
        OK(curve_tun_socket_peer_key(socket, given_key));
        CHECK(memcmp(given_key, w.server_key, sizeof given_key) == 0);
        curve_tun_socket_free(socket);
    }
    curve_tun_known_servers_free(known_servers);
    curve_tun_registry_free(registry);
    if (!is(words[KNOWN], "-"))
        check_file(known, words[KNOWN], words[WRITTEN]);
}

/* An invalid call is reported before anything is asked. */
static void arguments(void)
{
    curve_tun_trust trust = {0};
    curve_tun_trust_outcome outcome = {0};
    curve_tun_socket *socket;

    trust.size = sizeof trust;
    outcome.size = sizeof outcome;
#define CONNECT()                                                                                            \
    curve_tun_socket_connect_trusted("127.0.0.1", 1, w.client_vault, &trust, &w.options, PATIENCE_MS, &outcome, &socket)
    trust.first_use = 3;
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, CONNECT());
    trust.first_use = 0;
    trust.reserved = 1;
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, CONNECT());
    trust.reserved = 0;
    trust.size = 3;
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, CONNECT());
    trust.size = sizeof trust;
    outcome.size = 3;
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, CONNECT());
    outcome.size = sizeof outcome;
    /* A registry in memory knows no servers. */
    trust.registry = w.registry;
    GIVES(CURVE_TUN_ERR_WRONG_STATE, CONNECT());
}

int main(int count, char **arguments_given)
{
    char line[256], words[WORDS][WORD_SIZE], path[2][512];
    curve_tun_listener *listener;
    pthread_t thread;
    FILE *table;
    int rows = 0;

    CHECK(count == 3);
    table = fopen(arguments_given[1], "r");
    CHECK(table != NULL);
    w = new_world();
    OK(curve_tun_listener_open("127.0.0.1", 0, w.server, &listener));
    port = curve_tun_listener_port(listener);
    CHECK(pthread_create(&thread, NULL, accept_all, listener) == 0);
    arguments();
    while (fgets(line, sizeof line, table) != NULL) {
        if (line[0] == '#')
            continue;
        CHECK(sscanf(line, "%31s %31s %31s %31s %31s %31s %31s %31s", words[0], words[1], words[2], words[3],
                     words[4], words[5], words[6], words[7]) == WORDS);
        rows++;
        snprintf(path[0], sizeof path[0], "%s/named-%d", arguments_given[2], rows);
        snprintf(path[1], sizeof path[1], "%s/known-%d", arguments_given[2], rows);
        row(words, path[0], path[1]);
    }
    /* tests/net/trust.rs checks that no row is missing. */
    CHECK(rows > 200);
    fclose(table);
    curve_tun_listener_shutdown(listener);
    CHECK(pthread_join(thread, NULL) == 0);
    curve_tun_listener_free(listener);
    free_world(&w);
    return 0;
}
