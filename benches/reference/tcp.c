/* Loopback TCP, and length-prefixed messages over a byte stream. */

#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A batch may exceed its size by one frame. */
#define BUFFER_BYTES (BATCH_BYTES + HEAD_ROOM + MESSAGE_MAX)

static int no_delay(int descriptor)
{
    int one = 1;

    if (descriptor < 0 || setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0)
        die("socket");
    return descriptor;
}

static struct sockaddr_in loopback(uint16_t port)
{
    struct sockaddr_in address;

    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

int tcp_listen(uint16_t *port)
{
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 64) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0)
        die("listen");
    *port = ntohs(address.sin_port);
    return listener;
}

int tcp_accept(int listener)
{
    return no_delay(accept(listener, NULL, NULL));
}

int tcp_connect(uint16_t port)
{
    struct sockaddr_in address = loopback(port);
    int descriptor = no_delay(socket(AF_INET, SOCK_STREAM, 0));

    if (connect(descriptor, (struct sockaddr *)&address, sizeof address) != 0)
        die("connect");
    return descriptor;
}

ssize_t descriptor_read(void *stream, void *bytes, size_t size)
{
    return read(*(int *)stream, bytes, size);
}

void descriptor_write(void *stream, const void *bytes, size_t size)
{
    const uint8_t *rest = bytes;

    while (size > 0) {
        ssize_t count = send(*(int *)stream, rest, size, MSG_NOSIGNAL);

        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            die("send");
        rest += count;
        size -= (size_t)count;
    }
}

void frames_init(struct frames *frames)
{
    frames->buffer = malloc(BUFFER_BYTES);
    frames->batch = NULL;
    frames->at = frames->have = frames->batch_size = frames->batch_count = 0;
    if (frames->buffer == NULL)
        die("malloc");
}

void frames_free(struct frames *frames)
{
    free(frames->buffer);
    free(frames->batch);
}

static void put_length(uint8_t *frame, size_t size)
{
    frame[0] = (uint8_t)(size >> 8);
    frame[1] = (uint8_t)size;
}

void frames_send(struct frames *frames, uint8_t *message, size_t size)
{
    put_length(message - HEAD_ROOM, size);
    frames->write(frames->stream, message - HEAD_ROOM, HEAD_ROOM + size);
}

void frames_send_many(struct frames *frames, const uint8_t *message, size_t size, size_t count)
{
    if (frames->batch_size != size || frames->batch_count != count) {
        size_t i;

        if (frames->batch == NULL && (frames->batch = malloc(BUFFER_BYTES)) == NULL)
            die("malloc");
        for (i = 0; i < count; i++) {
            uint8_t *frame = frames->batch + i * (HEAD_ROOM + size);

            put_length(frame, size);
            memcpy(frame + HEAD_ROOM, message, size);
        }
        frames->batch_size = size;
        frames->batch_count = count;
    }
    frames->write(frames->stream, frames->batch, count * (HEAD_ROOM + size));
}

uint8_t *frames_receive(struct frames *frames, size_t *size)
{
    for (;;) {
        uint8_t *frame = frames->buffer + frames->at;
        size_t have = frames->have - frames->at;
        ssize_t count;

        if (have >= HEAD_ROOM) {
            *size = (size_t)(frame[0] << 8 | frame[1]);
            if (have >= HEAD_ROOM + *size) {
                frames->at += HEAD_ROOM + *size;
                return frame + HEAD_ROOM;
            }
        }
        memmove(frames->buffer, frame, have);
        frames->at = 0;
        frames->have = have;
        count = frames->read(frames->stream, frames->buffer + have, BATCH_BYTES - have);
        if (count <= 0)
            return NULL;
        frames->have += (size_t)count;
    }
}
