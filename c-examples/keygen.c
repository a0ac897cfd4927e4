/* Makes a key pair: keygen [FILE]
 *
 * With FILE the secret key is stored in a new vault there, which only you can read, and "public
 * TEXT" is printed: 44 characters of base64. Without FILE, "public TEXT" and "secret TEXT" are
 * printed, and nothing is stored. */

#include "common.h"

#include <stdio.h>

static void print_public(const uint8_t key[CURVE_TUN_KEY_BYTES])
{
    char text[CURVE_TUN_KEY_TEXT_SIZE];

    check("public key", curve_tun_public_key_to_text(key, text));
    printf("public %s\n", text);
}

static void print_pair(void)
{
    uint8_t public_key[CURVE_TUN_KEY_BYTES], secret_key[CURVE_TUN_KEY_BYTES];
    char secret_text[CURVE_TUN_KEY_TEXT_SIZE];

    check("key pair", curve_tun_keypair_generate(public_key, secret_key));
    check("secret key", curve_tun_secret_key_to_text(secret_key, secret_text));
    curve_tun_wipe(secret_key, sizeof secret_key);
    print_public(public_key);
    printf("secret %s\n", secret_text);
    curve_tun_wipe(secret_text, sizeof secret_text);
}

static void make_vault(const char *file)
{
    uint8_t public_key[CURVE_TUN_KEY_BYTES];
    curve_tun_vault *vault;

    check(file, curve_tun_vault_create_file(file, NULL, 0, &vault));
    check("public key", curve_tun_vault_public_key(vault, public_key));
    curve_tun_vault_free(vault);
    print_public(public_key);
}

int main(int argc, char **argv)
{
    if (argc > 2) {
        fprintf(stderr, "usage: keygen [FILE]\n");
        return 2;
    }
    /* Unbuffered, so that no copy of the secret is left behind. */
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc == 2)
        make_vault(argv[1]);
    else
        print_pair();
    if (ferror(stdout))
        fail("keygen", "standard output cannot be written");
    return 0;
}
