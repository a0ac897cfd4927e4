#define _POSIX_C_SOURCE 200809L

#include "common.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(EXIT_FAILURE);
}

void check(const char *what, curve_tun_result result)
{
    if (result == CURVE_TUN_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, curve_tun_result_message(result));
    /* Another try with the same passphrase or PIN would fail again, and would lock a token. */
    exit(result == CURVE_TUN_ERR_WRONG_PASSPHRASE || result == CURVE_TUN_ERR_PIN_LOCKED ? PASSPHRASE_REFUSED
                                                                                        : EXIT_FAILURE);
}

unsigned long number_argument(const char *text, unsigned long min, unsigned long max)
{
    char *end;
    unsigned long number;

    errno = 0;
    number = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || number < min || number > max)
        fail(text, "not a number in range");
    return number;
}

uint16_t port_argument(const char *text)
{
    return (uint16_t)number_argument(text, 0, 65535);
}

void public_key_argument(const char *text, uint8_t public_key[CURVE_TUN_KEY_BYTES])
{
    check(text, curve_tun_public_key_from_text(text, strlen(text), public_key));
}

size_t read_secret_line(const char *path, void *line, size_t size)
{
    FILE *file = fopen(path, "r");
    struct stat status;
    size_t len;
    char *end;

    if (file == NULL || fstat(fileno(file), &status) != 0)
        fail(path, strerror(errno));
    /* The same rule as in the tool. The group may read it, since that is how service managers hand
     * secrets to a service's user. */
    if (S_ISREG(status.st_mode) && (status.st_mode & 027) != 0)
        fail(path, "others can read or change it");
    /* No copy of the secret may stay behind in the stream's buffer. */
    setvbuf(file, NULL, _IONBF, 0);
    len = fread(line, 1, size, file);
    fclose(file);
    end = memchr(line, '\n', len);
    if (end == NULL && len == size)
        fail(path, "the first line is too long");
    return end == NULL ? len : (size_t)(end - (char *)line);
}

/* Opens a stored vault. Returns false if the text does not name one. */
static bool open_kept_vault(const char *text, const uint8_t *passphrase, size_t len, curve_tun_vault **vault)
{
    if (strncmp(text, "vault:", 6) == 0)
        check(text, curve_tun_vault_open_file(text + 6, passphrase, len, vault));
    else if (strncmp(text, "agent:", 6) == 0)
        check(text, curve_tun_vault_open_agent(text + 6, vault));
    else if (strncmp(text, "pkcs11:", 7) == 0)
        /* The URI is not printed, since it may have a PIN. */
        check("pkcs11", curve_tun_vault_open_pkcs11(text, passphrase, len, vault));
    else
        return false;
    return true;
}

curve_tun_vault *kept_vault_argument(const char *text, const char *passphrase_file)
{
    uint8_t passphrase[1024];
    curve_tun_vault *vault;
    size_t len = 0;

    /* A failing call ends the program, and its memory with it. */
    if (passphrase_file != NULL)
        len = read_secret_line(passphrase_file, passphrase, sizeof passphrase);
    if (!open_kept_vault(text, len == 0 ? NULL : passphrase, len, &vault))
        fail(text, "not a vault: vault:FILE, agent:SOCKET or pkcs11:...");
    curve_tun_wipe(passphrase, len);
    return vault;
}

curve_tun_vault *vault_argument(const char *text)
{
    char file_text[CURVE_TUN_KEY_TEXT_SIZE + 1];
    uint8_t secret_key[CURVE_TUN_KEY_BYTES];
    curve_tun_vault *vault;
    size_t len = strlen(text);
    curve_tun_result result;

    if (open_kept_vault(text, NULL, 0, &vault))
        return vault;
    if (text[0] == '@') {
        len = read_secret_line(text + 1, file_text, sizeof file_text);
        text = file_text;
    }
    result = curve_tun_secret_key_from_text(text, len, secret_key);
    curve_tun_wipe(file_text, sizeof file_text);
    /* The text is not printed, since it is secret. */
    check("secret key", result);
    result = curve_tun_vault_from_secret(secret_key, &vault);
    curve_tun_wipe(secret_key, sizeof secret_key);
    check("vault", result);
    return vault;
}

struct service service_arguments(int argc, char **argv)
{
    struct service service;
    curve_tun_options options = CURVE_TUN_OPTIONS_INIT;
    curve_tun_registry *registry;
    const char *program = argv[0];
    int i;

    service.verbose = false;
    while (argc > 2 && strncmp(argv[1], "--", 2) == 0) {
        uint32_t number;

        if (strcmp(argv[1], "--verbose") == 0) {
            service.verbose = true;
            argc--;
            argv++;
            continue;
        }
        number = (uint32_t)number_argument(argv[2], 1, UINT32_MAX);
        if (strcmp(argv[1], "--handshakes") == 0)
            options.handshakes_max = number;
        else if (strcmp(argv[1], "--per-source") == 0)
            options.handshakes_per_source = number;
        else
            fail(argv[1], "no such option");
        argc -= 2;
        argv += 2;
    }
    if (argc < 5)
        fail(program, "[--verbose] [--handshakes N] [--per-source N] HOST PORT SECRET PEER_PUBLIC [PEER_PUBLIC...]");
    service.host = argv[1];
    service.port = port_argument(argv[2]);
    service.vault = vault_argument(argv[3]);
    check("registry", curve_tun_registry_new(&registry));
    for (i = 4; i < argc; i++) {
        uint8_t peer[CURVE_TUN_KEY_BYTES];

        public_key_argument(argv[i], peer);
        check("registry", curve_tun_registry_add(registry, "*", peer));
    }
    check("server", curve_tun_server_new(service.vault, registry, &options, &service.server));
    /* The server holds a reference to it. */
    curve_tun_registry_free(registry);
    return service;
}

void block_end_signals(void)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
}
