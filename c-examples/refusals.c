#define _POSIX_C_SOURCE 200809L

#include "refusals.h"

#include "common.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>

#define LINES_MAX 10

/* The number of lines in this second, and how many were left out since the last one. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static time_t second = -1;
static unsigned lines;
static unsigned long left_out;

/* Whether a line may be printed now; and how many omitted lines are to be reported before it. */
static bool may_say(unsigned long *owed)
{
    struct timespec now = {0, 0};
    bool may;

    clock_gettime(CLOCK_MONOTONIC, &now);
    pthread_mutex_lock(&lock);
    if (now.tv_sec != second) {
        second = now.tv_sec;
        lines = 0;
    }
    may = lines < LINES_MAX;
    *owed = may ? left_out : 0;
    if (may) {
        lines++;
        left_out = 0;
    } else {
        left_out++;
    }
    pthread_mutex_unlock(&lock);
    return may;
}

static void say(void *user_data, const curve_tun_handshake_event *event)
{
    char key[CURVE_TUN_KEY_TEXT_SIZE] = "-";
    unsigned long owed;

    (void)user_data;
    if (event->outcome == CURVE_TUN_HANDSHAKE_ACCEPTED || !may_say(&owed))
        return;
    if (owed > 0)
        fprintf(stderr, "%lu more turned away\n", owed);
    if (event->public_key != NULL)
        check("key", curve_tun_public_key_to_text(event->public_key, key));
    fprintf(stderr, "%s %s %s: %s\n", event->outcome == CURVE_TUN_HANDSHAKE_EVICTED ? "evicted" : "refused",
            event->address, key, curve_tun_result_message(event->result));
}

void say_refusals(curve_tun_server *server)
{
    check("observer", curve_tun_server_observe(server, say, NULL, NULL));
}
