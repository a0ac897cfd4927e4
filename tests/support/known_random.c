/*
 * Loaded before a program's libraries (LD_PRELOAD), it gives random bytes that a test outside can compute again, and so
 * know each secret of the program without one having left it.
 *
 * Each draw is written to the file that KNOWN_RANDOM names: process, thread's name, number and length. It keeps nothing
 * of what it gives: words are made in registers and put where the caller wants them.
 */

#define _GNU_SOURCE

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <unistd.h>

static uint64_t draws;

/* SplitMix64's last step. */
static uint64_t mix(uint64_t word)
{
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9u;
    word = (word ^ (word >> 27)) * 0x94d049bb133111ebu;
    return word ^ (word >> 31);
}

ssize_t getrandom(void *buffer, size_t len, unsigned flags)
{
    uint64_t draw = __atomic_fetch_add(&draws, 1, __ATOMIC_SEQ_CST);
    const char *log = getenv("KNOWN_RANDOM");
    unsigned char *bytes = buffer;
    char line[96], name[17] = "";
    int fd, count;
    size_t i;

    (void)flags;
    for (i = 0; i < len; i++)
        bytes[i] = (unsigned char)(mix((draw << 32) + i / 8 + 1) >> (i % 8 * 8));
    if (log == NULL)
        return (ssize_t)len;
    prctl(PR_GET_NAME, name);
    count = snprintf(line, sizeof line, "%ld %s %llu %zu\n", (long)getpid(), name, (unsigned long long)draw, len);
    fd = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    /* A test that misses a line fails. */
    if (fd < 0 || write(fd, line, (size_t)count) != count)
        abort();
    close(fd);
    return (ssize_t)len;
}
