/* Messages over TCP and nothing else: what a tunnel cannot beat. */

#include "bench.h"

#include <stdlib.h>
#include <unistd.h>

struct end {
    int descriptor;
    struct frames frames;
};

static int listener;
static uint16_t port;

static void plain_listen(enum job job)
{
    (void)job;
    listener = tcp_listen(&port);
}

static void plain_unlisten(void)
{
    close(listener);
}

static struct end *new_end(int descriptor)
{
    struct end *end = malloc(sizeof *end);

    if (end == NULL)
        die("malloc");
    end->descriptor = descriptor;
    end->frames.read = descriptor_read;
    end->frames.write = descriptor_write;
    end->frames.stream = &end->descriptor;
    frames_init(&end->frames);
    return end;
}

static struct end *plain_accept(void)
{
    return new_end(tcp_accept(listener));
}

static struct end *plain_connect(void)
{
    return new_end(tcp_connect(port));
}

static void plain_send(struct end *end, uint8_t *message, size_t size)
{
    frames_send(&end->frames, message, size);
}

static void plain_send_many(struct end *end, uint8_t *message, size_t size, size_t count)
{
    frames_send_many(&end->frames, message, size, count);
}

static const uint8_t *plain_receive(struct end *end, size_t *size)
{
    return frames_receive(&end->frames, size);
}

static void plain_close(struct end *end)
{
    frames_free(&end->frames);
    close(end->descriptor);
    free(end);
}

int main(int argc, char **argv)
{
    static const struct transport plain = {
        "tcp", plain_listen, plain_unlisten, plain_accept, plain_connect,
        plain_send, plain_send_many, plain_receive, plain_close, 1,
    };

    measure(&plain, extent_arguments(argc, argv));
    return 0;
}
