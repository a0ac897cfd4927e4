/* For event loops: questions to a vault that takes a while, asked on threads of their own. */

#ifndef ANSWERS_H
#define ANSWERS_H

#include "curve_tun.h"

/* Whom a question is for: an IPv4 address, or the /64 of an IPv6 address, which is what one
 * subscriber has. */
struct source {
    uint8_t bytes[8];
    bool ipv6;
};

/* A question, from answers_ask until its asker takes it or drops it. */
struct question {
    curve_tun_request request;
    curve_tun_answer answer;
    void *asker; /* NULL if nobody waits for the answer any more. */
    struct source source;
    uint64_t turn;
    struct question *next;
};

/* Those who ask for one event loop. */
struct answers;

/* Starts the threads. *ready is a descriptor that can be read when there are answers. The vault
 * stays the caller's. */
struct answers *answers_begin(const curve_tun_vault *vault, int *ready);

/* Has the connection's request answered, if it has one, and then gives the question. Sources take
 * turns, so that one with many questions does not stand before the others. False if there is no
 * memory for it. */
bool answers_ask(struct answers *answers, curve_tun_connection *connection, void *asker, struct source source,
                 struct question **question);

/* Nobody waits for the answer any more. If the question has not been put, it never will be. */
void answers_drop(struct answers *answers, struct question *question);

/* The next question that has its answer, for its asker to free, or NULL. */
struct question *answers_take(struct answers *answers);

/* Waits for the threads to end, and frees everything. Who has asked has dropped his questions. */
void answers_end(struct answers *answers);

#endif
