#include "bench.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const size_t sizes[SIZES] = {64, 256, 1024, 4096, 16384, MESSAGE_MAX};

/* A message of this size ends a stream; the answer is the number of messages before it. */
#define END_SIZE 1

double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

void die(const char *what)
{
    perror(what);
    exit(EXIT_FAILURE);
}

void row(const char *name, const char *metric, size_t size, double value, const char *unit)
{
    printf("%s,%s,%zu,%.2f,%s\n", name, metric, size, value, unit);
    fflush(stdout);
}

struct extent extent_arguments(int argc, char **argv)
{
    struct extent extent;

    if (argc < 4) {
        fprintf(stderr, "%s SECONDS ECHOES SETUPS\n", argv[0]);
        exit(EXIT_FAILURE);
    }
    extent.seconds = atof(argv[1]);
    extent.echoes = atoi(argv[2]);
    extent.setups = atoi(argv[3]);
    if (extent.seconds <= 0 || extent.echoes < 1 || extent.setups < 1) {
        fprintf(stderr, "%s: nothing to measure\n", argv[0]);
        exit(EXIT_FAILURE);
    }
    return extent;
}

/* Makes a message with room for a header before it. */
static uint8_t *new_message(size_t size)
{
    uint8_t *memory = calloc(1, HEAD_ROOM + size);

    if (memory == NULL)
        die("calloc");
    return memory + HEAD_ROOM;
}

static void free_message(uint8_t *message)
{
    free(message - HEAD_ROOM);
}

/* Finds the first two processors that this process may run on; both are the same if there is only
 * one. */
static void two_processors(cpu_set_t processors[2])
{
    static cpu_set_t allowed;
    int i, found = 0;

    /* Asked only once: afterwards the calling thread is bound to one. */
    if (CPU_COUNT(&allowed) == 0 && sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        die("sched_getaffinity");
    for (i = 0; i < CPU_SETSIZE && found < 2; i++) {
        if (CPU_ISSET(i, &allowed)) {
            CPU_ZERO(&processors[found]);
            CPU_SET(i, &processors[found]);
            found++;
        }
    }
    if (found < 2)
        processors[1] = processors[0];
}

/*
 * Starts the thread at the other end. Each end is bound to its own processor: left to the
 * scheduler, they share one in some runs and not in others, which changes the figures by more than
 * half.
 */
static void start(pthread_t *thread, void *(*run)(void *), void *argument)
{
    cpu_set_t processors[2];
    pthread_attr_t attributes;

    two_processors(processors);
    if (sched_setaffinity(0, sizeof processors[0], &processors[0]) != 0)
        die("sched_setaffinity");
    errno = pthread_attr_init(&attributes);
    if (errno == 0)
        errno = pthread_attr_setaffinity_np(&attributes, sizeof processors[1], &processors[1]);
    if (errno == 0)
        errno = pthread_create(thread, &attributes, run, argument);
    if (errno != 0)
        die("pthread_create");
    pthread_attr_destroy(&attributes);
}

/* Counts messages until one of END_SIZE. */
static void *count_messages(void *argument)
{
    const struct transport *transport = argument;
    struct end *end = transport->accept();
    uint8_t *answer = new_message(sizeof(uint64_t));
    uint64_t count = 0;
    size_t size;

    while (transport->receive(end, &size) != NULL && size != END_SIZE)
        count++;
    memcpy(answer, &count, sizeof count);
    transport->send(end, answer, sizeof count);
    /* The other end closes first. */
    while (transport->receive(end, &size) != NULL && size != END_SIZE)
        ;
    transport->close(end);
    free_message(answer);
    return NULL;
}

void measure_stream(const struct transport *transport, const char *metric, size_t size, size_t per_batch,
                    double seconds)
{
    uint8_t *message = new_message(size);
    struct end *end;
    pthread_t thread;
    uint64_t sent = 0, arrived = 0;
    const uint8_t *answer;
    size_t answer_size;
    double began, took;
    int i;

    transport->listen(JOB_STREAM);
    start(&thread, count_messages, (void *)transport);
    end = transport->connect();
    /* The first message waits for the rest of the setup. */
    transport->send(end, message, size);
    began = now();
    do {
        for (i = 0; i < 16; i++) {
            if (per_batch > 1)
                transport->send_many(end, message, size, per_batch);
            else
                transport->send(end, message, size);
        }
        sent += 16 * per_batch;
    } while (now() - began < seconds);
    transport->send(end, message, END_SIZE);
    answer = transport->receive(end, &answer_size);
    took = now() - began;
    if (answer != NULL && answer_size == sizeof arrived)
        memcpy(&arrived, answer, sizeof arrived);
    if (arrived != sent + 1) {
        fprintf(stderr, "%s: not all messages arrived\n", transport->name);
        exit(EXIT_FAILURE);
    }
    transport->send(end, message, END_SIZE);
    transport->close(end);
    pthread_join(thread, NULL);
    transport->unlisten();
    free_message(message);
    row(transport->name, metric, size, (double)sent / took, "1/s");
}

struct echo {
    const struct transport *transport;
    int connections;
};

/* Echoes messages until one of END_SIZE, which it echoes too; for each connection. */
static void *send_back(void *argument)
{
    const struct echo *echo = argument;
    const struct transport *transport = echo->transport;
    uint8_t *message = new_message(MESSAGE_MAX);
    int i;

    for (i = 0; i < echo->connections; i++) {
        struct end *end = transport->accept();
        const uint8_t *came;
        size_t size;

        while ((came = transport->receive(end, &size)) != NULL) {
            memcpy(message, came, size);
            transport->send(end, message, size);
            if (size == END_SIZE)
                break;
        }
        transport->close(end);
    }
    free_message(message);
    return NULL;
}

/* One message there and back. */
static void echo_once(const struct transport *transport, struct end *end, uint8_t *message, size_t size)
{
    size_t came;

    transport->send(end, message, size);
    if (transport->receive(end, &came) == NULL || came != size) {
        fprintf(stderr, "%s: no echo\n", transport->name);
        exit(EXIT_FAILURE);
    }
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void echoes(const struct transport *transport, size_t size, int count)
{
    struct echo echo = {transport, 1};
    uint8_t *message = new_message(size);
    double *times = calloc((size_t)count, sizeof *times);
    struct end *end;
    pthread_t thread;
    int i;

    if (times == NULL)
        die("calloc");
    transport->listen(JOB_ECHO);
    start(&thread, send_back, &echo);
    end = transport->connect();
    for (i = -count / 10; i < count; i++) {
        double began = now();

        echo_once(transport, end, message, size);
        if (i >= 0)
            times[i] = (now() - began) * 1e6;
    }
    echo_once(transport, end, message, END_SIZE);
    transport->close(end);
    pthread_join(thread, NULL);
    transport->unlisten();
    qsort(times, (size_t)count, sizeof *times, compare);
    row(transport->name, "echo_p50", size, times[count / 2], "us");
    row(transport->name, "echo_p99", size, times[(size_t)count * 99 / 100], "us");
    free(times);
    free_message(message);
}

double measure_setups(const struct transport *transport, int count)
{
    struct echo echo = {transport, count};
    uint8_t *message = new_message(END_SIZE);
    pthread_t thread;
    double began, took;
    int i;

    transport->listen(JOB_SETUP);
    start(&thread, send_back, &echo);
    began = now();
    for (i = 0; i < count; i++) {
        struct end *end = transport->connect();

        echo_once(transport, end, message, END_SIZE);
        transport->close(end);
    }
    took = now() - began;
    pthread_join(thread, NULL);
    transport->unlisten();
    free_message(message);
    return count / took;
}

void measure(const struct transport *transport, struct extent extent)
{
    size_t i;

    for (i = 0; i < SIZES; i++)
        measure_stream(transport, "single", sizes[i], 1, extent.seconds);
    for (i = 0; transport->send_many != NULL && i < SIZES; i++)
        measure_stream(transport, "batched", sizes[i], BATCH_BYTES / sizes[i], extent.seconds);
    for (i = 0; i < SIZES; i++)
        echoes(transport, sizes[i], extent.echoes);
    if (transport->has_setup)
        row(transport->name, "setup", 0, measure_setups(transport, extent.setups), "1/s");
}
