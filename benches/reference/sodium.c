/*
 * libsodium's box in a loop: what sealing and opening a message cost when nothing else is done.
 *
 *     sodium SECONDS
 */

#include "bench.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define SIZES (sizeof sizes / sizeof *sizes)
#define ROUND 64

static const size_t sizes[] = {64, 1024, 16384, MESSAGE_MAX};
static uint8_t message[MESSAGE_MAX], sealed[MESSAGE_MAX + crypto_box_MACBYTES], opened[MESSAGE_MAX];
static uint8_t nonce[crypto_box_NONCEBYTES], key[crypto_box_BEFORENMBYTES];

static void seal(size_t size)
{
    sodium_increment(nonce, sizeof nonce);
    if (crypto_box_easy_afternm(sealed, message, size, nonce, key) != 0)
        die("seal");
}

static void open_again(size_t size)
{
    if (crypto_box_open_easy_afternm(opened, sealed, size + crypto_box_MACBYTES, nonce, key) != 0)
        die("open");
}

/* Nanoseconds of one call. */
static double measure_calls(void (*call)(size_t), size_t size, double seconds)
{
    double began = now(), took;
    long calls = 0;

    do {
        int i;

        for (i = 0; i < ROUND; i++)
            call(size);
        calls += ROUND;
        took = now() - began;
    } while (took < seconds);
    return took / (double)calls * 1e9;
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 0.2;
    size_t i;

    if (sodium_init() < 0)
        die("sodium_init");
    randombytes_buf(key, sizeof key);
    for (i = 0; i < SIZES; i++) {
        row("libsodium", "seal", sizes[i], measure_calls(seal, sizes[i], seconds), "ns");
        row("libsodium", "open", sizes[i], measure_calls(open_again, sizes[i], seconds), "ns");
    }
    return 0;
}
