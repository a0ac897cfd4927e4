/*
 * libsodium's box in a loop: the cost of sealing messages alone.
 *
 *     sodium SECONDS
 */

#include "bench.h"

#include <sodium.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    static uint8_t message[MESSAGE_MAX], sealed[MESSAGE_MAX + crypto_box_MACBYTES];
    uint8_t nonce[crypto_box_NONCEBYTES], key[crypto_box_BEFORENMBYTES];
    double seconds = argc > 1 ? atof(argv[1]) : 0.2;
    size_t i;

    if (sodium_init() < 0)
        die("sodium_init");
    randombytes_buf(key, sizeof key);
    randombytes_buf(nonce, sizeof nonce);
    for (i = 0; i < SIZES; i++) {
        double began = now(), took;
        long count = 0;

        do {
            int round;

            for (round = 0; round < 64; round++) {
                sodium_increment(nonce, sizeof nonce);
                if (crypto_box_easy_afternm(sealed, message, sizes[i], nonce, key) != 0)
                    die("seal");
            }
            count += 64;
            took = now() - began;
        } while (took < seconds);
        row("libsodium", "seal_in_c", sizes[i], took / (double)count * 1e9, "ns");
    }
    return 0;
}
