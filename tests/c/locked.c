/* Where the system refuses to lock memory, everything works, and a query reports it. */

#define _GNU_SOURCE

#include "check.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* Makes every later call of mlock and mlock2 fail. */
static void refuse_locks(void)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mlock, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mlock2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof rules / sizeof rules[0], rules};

    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void talk(void)
{
    struct world w = new_world();
    curve_tun_connection *c, *s;
    uint8_t received[8];
    size_t len;

    connected_pair(&w, &c, &s);
    OK(curve_tun_connection_send(c, (const uint8_t *)"locked", 6));
    OK(carry(c, s));
    OK(curve_tun_connection_recv(s, received, sizeof received, &len));
    CHECK(len == 6 && memcmp(received, "locked", 6) == 0);
    curve_tun_connection_free(c);
    curve_tun_connection_free(s);
    free_world(&w);
}

int main(void)
{
    static uint8_t bytes[1 << 16];
    bool can_lock;

    CHECK(curve_tun_memory_locked());
    can_lock = mlock(bytes, sizeof bytes) == 0 && munlock(bytes, sizeof bytes) == 0;
    talk();
    CHECK(curve_tun_memory_locked() == can_lock);

    refuse_locks();
    CHECK(mlock(bytes, sizeof bytes) == -1 && errno == EPERM);
    talk();
    CHECK(!curve_tun_memory_locked());
    return 0;
}
