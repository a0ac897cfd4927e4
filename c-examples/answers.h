/* For event loops: puts questions to a slow vault on separate threads. */

#ifndef ANSWERS_H
#define ANSWERS_H

#include "curve_tun.h"

/* The source of a question: an IPv4 address, or the /64 of an IPv6 address, which is what one
 * subscriber has. */
struct source {
    uint8_t bytes[8];
    bool ipv6;
};

/* A question, from answers_ask until its asker takes or drops it. */
struct question {
    curve_tun_request request;
    curve_tun_answer answer;
    void *asker; /* NULL once nobody waits for the answer. */
    struct source source;
    uint64_t turn;
    struct question *next;
};

/* The questions of one event loop. */
struct answers;

/* Starts the threads. *ready is a descriptor that becomes readable when there are answers. The
 * vault remains the caller's. */
struct answers *answers_begin(const curve_tun_vault *vault, int *ready);

/* Has the connection's request answered, if it has one, and then returns the question. Sources take
 * turns, so a source with many questions does not delay the others. False if there is no memory for
 * it. */
bool answers_ask(struct answers *answers, curve_tun_connection *connection, void *asker, struct source source,
                 struct question **question);

/* Drops a question whose answer nobody waits for. If it has not been put to the vault yet, it never
 * is. */
void answers_drop(struct answers *answers, struct question *question);

/* Returns the next answered question, which the asker frees, or NULL. */
struct question *answers_take(struct answers *answers);

/* Waits for the threads to end, and frees everything. All questions have been taken or dropped
 * before. */
void answers_end(struct answers *answers);

#endif
