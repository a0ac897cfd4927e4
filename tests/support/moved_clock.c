/* To be loaded before other libraries: a wall clock that a test moves. The
 * monotonic clock is as it is. */

#define _GNU_SOURCE

#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static atomic_long moved;

/* Puts the wall clock this many seconds ahead of the system's, or behind. */
void move_wall_clock(long seconds) { moved = seconds; }

int clock_gettime(clockid_t clock, struct timespec *now) {
  long result = syscall(SYS_clock_gettime, clock, now);

  if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
    now->tv_sec += moved;
  return (int)result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec time;

  (void)zone;
  clock_gettime(CLOCK_REALTIME, &time);
  now->tv_sec = time.tv_sec;
  now->tv_usec = time.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *now) {
  struct timespec time;

  clock_gettime(CLOCK_REALTIME, &time);
  if (now != NULL)
    *now = time.tv_sec;
  return time.tv_sec;
}
