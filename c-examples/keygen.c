/* Makes a key pair and prints it: "public TEXT" and "secret TEXT", each 44 characters of base64. */

#include "common.h"

#include <stdio.h>

int main(void)
{
    uint8_t public_key[CURVE_TUN_KEY_BYTES], secret_key[CURVE_TUN_KEY_BYTES];
    char public_text[CURVE_TUN_KEY_TEXT_SIZE], secret_text[CURVE_TUN_KEY_TEXT_SIZE];

    check("key pair", curve_tun_keypair_generate(public_key, secret_key));
    check("public key", curve_tun_public_key_to_text(public_key, public_text));
    check("secret key", curve_tun_secret_key_to_text(secret_key, secret_text));
    curve_tun_wipe(secret_key, sizeof secret_key);

    /* Unbuffered, so that no copy of the secret is left behind. */
    setvbuf(stdout, NULL, _IONBF, 0);
    printf("public %s\n", public_text);
    printf("secret %s\n", secret_text);
    curve_tun_wipe(secret_text, sizeof secret_text);
    if (ferror(stdout))
        fail("keygen", "standard output cannot be written");
    return 0;
}
