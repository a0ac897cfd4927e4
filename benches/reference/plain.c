/*
 * Messages over plain TCP: the upper bound for any tunnel.
 *
 *     plain SECONDS ECHOES SETUPS          from end to end
 *     plain SECONDS ECHOES SETUPS FOLDER   through a pair of spiped, whose key and pids are kept in FOLDER
 */

#include "bench.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
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

/* spiped listens at `ends` in turn: clients connect to the first, which encrypts to the second,
 * which decrypts to this program. */
static uint16_t ends[2];
static char key_file[512];
static char pid_files[2][512];

static void spiped_stop(void)
{
    int i, pid;

    for (i = 0; i < 2; i++) {
        FILE *file = fopen(pid_files[i], "r");

        if (file == NULL)
            continue;
        if (fscanf(file, "%d", &pid) == 1)
            kill(pid, SIGTERM);
        fclose(file);
        unlink(pid_files[i]);
    }
}

static uint16_t free_port(void)
{
    uint16_t port_found;

    close(tcp_listen(&port_found));
    return port_found;
}

static void spiped_start(const char *mode, uint16_t from, uint16_t to, const char *pid_file)
{
    char source[32], target[32];
    int status;
    pid_t child;

    snprintf(source, sizeof source, "[127.0.0.1]:%u", (unsigned)from);
    snprintf(target, sizeof target, "[127.0.0.1]:%u", (unsigned)to);
    child = fork();
    if (child == 0) {
        execlp("spiped", "spiped", mode, "-s", source, "-t", target, "-k", key_file, "-p", pid_file, (char *)NULL);
        perror("spiped");
        _exit(EXIT_FAILURE);
    }
    /* It moves to the background as soon as it listens. */
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
        fprintf(stderr, "spiped did not start\n");
        exit(EXIT_FAILURE);
    }
}

static void spiped_set_up(const char *folder)
{
    uint8_t key[32];
    FILE *random = fopen("/dev/urandom", "r"), *file;

    snprintf(key_file, sizeof key_file, "%s/spiped.key", folder);
    snprintf(pid_files[0], sizeof pid_files[0], "%s/spiped-e.pid", folder);
    snprintf(pid_files[1], sizeof pid_files[1], "%s/spiped-d.pid", folder);
    file = fopen(key_file, "w");
    if (random == NULL || file == NULL || fread(key, sizeof key, 1, random) != 1 ||
        fwrite(key, sizeof key, 1, file) != 1 || fclose(file) != 0)
        die("key");
    fclose(random);
    ends[0] = free_port();
    ends[1] = free_port();
    atexit(spiped_stop);
    spiped_start("-d", ends[1], port, pid_files[1]);
    spiped_start("-e", ends[0], ends[1], pid_files[0]);
}

static struct end *spiped_connect(void)
{
    return new_end(tcp_connect(ends[0]));
}

/* The listener stays open, since spiped knows its port. */
static void spiped_listen(enum job job)
{
    (void)job;
}

static void spiped_unlisten(void)
{
}

int main(int argc, char **argv)
{
    static const struct transport plain = {
        "tcp", plain_listen, plain_unlisten, plain_accept, plain_connect,
        plain_send, plain_send_many, plain_receive, plain_close, 1,
    };
    static const struct transport spiped = {
        "spiped", spiped_listen, spiped_unlisten, plain_accept, spiped_connect,
        plain_send, plain_send_many, plain_receive, plain_close, 1,
    };
    struct extent extent = extent_arguments(argc, argv);

    if (argc > 4) {
        plain_listen(JOB_STREAM);
        spiped_set_up(argv[4]);
        measure(&spiped, extent);
        plain_unlisten();
    } else {
        measure(&plain, extent);
    }
    return 0;
}
