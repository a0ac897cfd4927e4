/* Versions, results, keys and their text. */

#include "check.h"

static void text_form(void)
{
    uint8_t key[CURVE_TUN_KEY_BYTES], read[CURVE_TUN_KEY_BYTES], before[CURVE_TUN_KEY_BYTES];
    char text[CURVE_TUN_KEY_TEXT_SIZE];
    char *unterminated;
    size_t len, i;

    /* RFC 4648: 32 zero bytes are 43 times A and the padding. */
    memset(key, 0, sizeof key);
    OK(curve_tun_public_key_to_text(key, text));
    CHECK(strcmp(text, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=") == 0);
    for (i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)(i * 37 + 200);
    OK(curve_tun_public_key_to_text(key, text));
    CHECK(strlen(text) == CURVE_TUN_KEY_TEXT_SIZE - 1);
    OK(curve_tun_public_key_from_text(text, 44, read));
    CHECK(memcmp(key, read, sizeof key) == 0);
    OK(curve_tun_secret_key_to_text(key, text));
    OK(curve_tun_secret_key_from_text(text, 44, read));
    CHECK(memcmp(key, read, sizeof key) == 0);

    /* Every length but 44 is refused, and nothing is read past the end: each text fills its own allocation. */
    memset(before, 0xa5, sizeof before);
    memcpy(read, before, sizeof read);
    for (len = 0; len <= 64; len++) {
        unterminated = malloc(len == 0 ? 1 : len);
        CHECK(unterminated != NULL);
        memset(unterminated, 'A', len);
        if (len == 44)
            unterminated[43] = '=';
        GIVES(len == 44 ? CURVE_TUN_OK : CURVE_TUN_ERR_BAD_KEY_TEXT,
              curve_tun_public_key_from_text(unterminated, len, read));
        if (len != 44) {
            GIVES(CURVE_TUN_ERR_BAD_KEY_TEXT, curve_tun_secret_key_from_text(unterminated, len, read));
            CHECK(memcmp(read, before, sizeof read) == 0);
        }
        memcpy(read, before, sizeof read);
        free(unterminated);
    }
    GIVES(CURVE_TUN_ERR_BAD_KEY_TEXT, curve_tun_public_key_from_text(NULL, 0, read));
    GIVES(CURVE_TUN_ERR_INVALID_ARGUMENT, curve_tun_public_key_from_text(text, SIZE_MAX, read));
}

static void bad_characters(void)
{
    static const char good[] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    char text[sizeof good];
    uint8_t key[CURVE_TUN_KEY_BYTES];
    int character;
    size_t i;

    for (character = 0; character < 256; character++) {
        bool letter = (character >= 'A' && character <= 'Z') || (character >= 'a' && character <= 'z') ||
                      (character >= '0' && character <= '9') || character == '+' || character == '/';

        memcpy(text, good, sizeof good);
        text[7] = (char)character;
        GIVES(letter ? CURVE_TUN_OK : CURVE_TUN_ERR_BAD_KEY_TEXT,
              curve_tun_public_key_from_text(text, 44, key));
    }
    /* Padding elsewhere, missing or too long, and bits that belong to no byte. */
    for (i = 0; i < 43; i++) {
        memcpy(text, good, sizeof good);
        text[i] = '=';
        GIVES(CURVE_TUN_ERR_BAD_KEY_TEXT, curve_tun_public_key_from_text(text, 44, key));
    }
    memcpy(text, good, sizeof good);
    text[43] = 'A';
    GIVES(CURVE_TUN_ERR_BAD_KEY_TEXT, curve_tun_public_key_from_text(text, 44, key));
    memcpy(text, good, sizeof good);
    text[42] = 'B';
    GIVES(CURVE_TUN_ERR_BAD_KEY_TEXT, curve_tun_public_key_from_text(text, 44, key));
}

static void pairs(void)
{
    uint8_t public_key[CURVE_TUN_KEY_BYTES], secret_key[CURVE_TUN_KEY_BYTES], again[CURVE_TUN_KEY_BYTES];
    static const uint8_t zeros[CURVE_TUN_KEY_BYTES];
    curve_tun_vault *vault;

    OK(curve_tun_keypair_generate(public_key, secret_key));
    OK(curve_tun_vault_from_secret(secret_key, &vault));
    OK(curve_tun_vault_public_key(vault, again));
    CHECK(memcmp(public_key, again, sizeof again) == 0);
    curve_tun_vault_free(vault);
    curve_tun_wipe(secret_key, sizeof secret_key);
    CHECK(memcmp(secret_key, zeros, sizeof zeros) == 0);
}

int main(void)
{
    CHECK(strcmp(curve_tun_version(), CURVE_TUN_VERSION) == 0);
    CHECK(strcmp(curve_tun_result_name(CURVE_TUN_OK), "CURVE_TUN_OK") == 0);
    CHECK(strcmp(curve_tun_result_name(CURVE_TUN_ERR_TIMEOUT), "CURVE_TUN_ERR_TIMEOUT") == 0);
    CHECK(strcmp(curve_tun_result_message(CURVE_TUN_ERR_TIMEOUT), "the deadline passed") == 0);
    CHECK(curve_tun_result_name(-77) != NULL && curve_tun_result_message(INT32_MAX) != NULL);
    CHECK(curve_tun_result_is_transient(CURVE_TUN_ERR_TIMEOUT));
    CHECK(curve_tun_result_is_transient(CURVE_TUN_ERR_WRONG_SERVER_KEY));
    CHECK(!curve_tun_result_is_transient(CURVE_TUN_ERR_CLOSED) && !curve_tun_result_is_transient(-77));
    text_form();
    bad_characters();
    pairs();
    return 0;
}
