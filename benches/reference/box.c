/*
 * What a program that calls libsodium directly would do: each message is a `crypto_box` under a
 * counting nonce, framed and sent over TCP. There is no handshake; both ends start with the shared
 * key.
 */

#include "bench.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TAG crypto_box_MACBYTES

struct end {
    int descriptor;
    struct frames frames;
    uint8_t nonce_out[crypto_box_NONCEBYTES];
    uint8_t nonce_in[crypto_box_NONCEBYTES];
    uint8_t *sealed;
};

static uint8_t key[crypto_box_BEFORENMBYTES];
static int listener;
static uint16_t port;

static void box_listen(enum job job)
{
    (void)job;
    listener = tcp_listen(&port);
}

static void box_unlisten(void)
{
    close(listener);
}

static struct end *new_end(int descriptor, uint8_t us, uint8_t them)
{
    struct end *end = calloc(1, sizeof *end);

    if (end == NULL || (end->sealed = malloc(BATCH_BYTES + HEAD_ROOM + TAG + MESSAGE_MAX)) == NULL)
        die("malloc");
    end->descriptor = descriptor;
    end->nonce_out[0] = us;
    end->nonce_in[0] = them;
    end->frames.read = descriptor_read;
    end->frames.write = descriptor_write;
    end->frames.stream = &end->descriptor;
    frames_init(&end->frames);
    return end;
}

static struct end *box_accept(void)
{
    return new_end(tcp_accept(listener), 's', 'c');
}

static struct end *box_connect(void)
{
    return new_end(tcp_connect(port), 'c', 's');
}

static void count_up(uint8_t nonce[crypto_box_NONCEBYTES])
{
    uint64_t counter;

    memcpy(&counter, nonce + 16, sizeof counter);
    counter++;
    memcpy(nonce + 16, &counter, sizeof counter);
}

/* Writes the frame of a sealed message; returns its size. */
static size_t seal(struct end *end, uint8_t *frame, const uint8_t *message, size_t size)
{
    count_up(end->nonce_out);
    frame[0] = (uint8_t)((TAG + size) >> 8);
    frame[1] = (uint8_t)(TAG + size);
    if (crypto_box_easy_afternm(frame + HEAD_ROOM, message, size, end->nonce_out, key) != 0)
        die("seal");
    return HEAD_ROOM + TAG + size;
}

static void box_send(struct end *end, uint8_t *message, size_t size)
{
    descriptor_write(&end->descriptor, end->sealed, seal(end, end->sealed, message, size));
}

static void box_send_many(struct end *end, uint8_t *message, size_t size, size_t count)
{
    size_t filled = 0;

    while (count-- > 0) {
        filled += seal(end, end->sealed + filled, message, size);
        if (filled >= BATCH_BYTES || count == 0) {
            descriptor_write(&end->descriptor, end->sealed, filled);
            filled = 0;
        }
    }
}

static const uint8_t *box_receive(struct end *end, size_t *size)
{
    uint8_t *sealed = frames_receive(&end->frames, size);

    if (sealed == NULL)
        return NULL;
    count_up(end->nonce_in);
    if (*size < TAG || crypto_box_open_easy_afternm(sealed, sealed, *size, end->nonce_in, key) != 0)
        die("open");
    *size -= TAG;
    return sealed;
}

static void box_close(struct end *end)
{
    frames_free(&end->frames);
    close(end->descriptor);
    free(end->sealed);
    free(end);
}

int main(int argc, char **argv)
{
    static const struct transport box = {
        "libsodium", box_listen, box_unlisten, box_accept, box_connect,
        box_send, box_send_many, box_receive, box_close, 0,
    };

    if (sodium_init() < 0)
        die("sodium_init");
    randombytes_buf(key, sizeof key);
    measure(&box, extent_arguments(argc, argv));
    return 0;
}
