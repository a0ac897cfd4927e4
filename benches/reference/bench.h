/*
 * Shared by the programs of `make bench`: one measurement for every transport.
 *
 * A transport moves messages over loopback between a thread that serves and the thread that
 * measures. Each program describes its transport in a `struct transport` and hands it to `measure`,
 * which prints rows:
 *
 *     SYSTEM,METRIC,SIZE,VALUE,UNIT
 *
 * single     messages each sent by a call of its own, one way
 * batched    messages sent many to a call, one way
 * queued     messages each given by a call of its own and sent together, one way
 * echo_p50   one message there and back, median; echo_p99 alike
 * seal_in_c  sealing alone, in memory
 * setup      connections made, used for one echo, and closed, one after the other
 */
#ifndef BENCH_H
#define BENCH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The largest message that every system here can carry: the limit of curve_tun. */
#define MESSAGE_MAX 65503
/* Bytes before a message that a transport may use for its header. */
#define HEAD_ROOM 2
/* How much is sent in one batch, and read at a time. */
#define BATCH_BYTES (256 * 1024)

/* The sizes of messages that are measured. */
#define SIZES 6
extern const size_t sizes[SIZES];

enum job { JOB_STREAM, JOB_ECHO, JOB_SETUP };

/* One end of a connection, which each program defines. */
struct end;

struct transport {
    const char *name;
    /* Begins to listen for connections with this job. Called before each measurement; `unlisten` is
     * called after it. */
    void (*listen)(enum job job);
    void (*unlisten)(void);
    struct end *(*accept)(void);
    struct end *(*connect)(void);
    /* Sends one message at once. HEAD_ROOM bytes before it may be written to. */
    void (*send)(struct end *end, uint8_t *message, size_t size);
    /* Sends the same message `count` times, in batches; NULL if the system cannot. */
    void (*send_many)(struct end *end, uint8_t *message, size_t size, size_t count);
    /* Waits for a message, which stays valid until the next call on this end; NULL when there are
     * no more. */
    const uint8_t *(*receive)(struct end *end, size_t *size);
    void (*close)(struct end *end);
    /* Whether the setup of connections can be measured. */
    int has_setup;
};

/* How much is measured: from the arguments SECONDS (of each stream), ECHOES and SETUPS. */
struct extent {
    double seconds;
    int echoes;
    int setups;
};

struct extent extent_arguments(int argc, char **argv);

void measure(const struct transport *transport, struct extent extent);

/* Measures messages sent one way, `per_batch` to a call, and prints a row of this metric. */
void measure_stream(const struct transport *transport, const char *metric, size_t size, size_t per_batch,
                    double seconds);

/* Returns connections made and closed per second, one after the other. */
double measure_setups(const struct transport *transport, int count);

/* Prints a row. */
void row(const char *name, const char *metric, size_t size, double value, const char *unit);

/* Returns the seconds of a monotonic clock. */
double now(void);

/* Says what failed and why, and exits with 1. */
void die(const char *what);

/* TCP on 127.0.0.1, with TCP_NODELAY. */
int tcp_listen(uint16_t *port);
int tcp_accept(int listener);
int tcp_connect(uint16_t port);

/* Messages with two bytes of length before each, over any stream of bytes. */
struct frames {
    /* Reads at most `size` bytes, as read(2) does; writes all of them. */
    ssize_t (*read)(void *stream, void *bytes, size_t size);
    void (*write)(void *stream, const void *bytes, size_t size);
    void *stream;
    uint8_t *buffer;
    size_t at;
    size_t have;
    /* A batch that was made, and can be sent again. */
    uint8_t *batch;
    size_t batch_size;
    size_t batch_count;
};

void frames_init(struct frames *frames);
void frames_free(struct frames *frames);
void frames_send(struct frames *frames, uint8_t *message, size_t size);
void frames_send_many(struct frames *frames, const uint8_t *message, size_t size, size_t count);
uint8_t *frames_receive(struct frames *frames, size_t *size);

/* read(2) and write(2) for `frames`, whose stream is a pointer to the descriptor. */
ssize_t descriptor_read(void *stream, void *bytes, size_t size);
void descriptor_write(void *stream, const void *bytes, size_t size);

#endif
