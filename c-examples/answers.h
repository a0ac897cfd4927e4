/* For event loops: questions to a vault that takes a while, asked on threads of their own. */

#ifndef ANSWERS_H
#define ANSWERS_H

#include "curve_tun.h"

struct question {
    curve_tun_request request;
    curve_tun_answer answer;
    void *asker;
    struct question *next;
};

/* Those who ask for one event loop. */
struct answers;

/* Starts the threads. *ready is a descriptor that can be read when there are answers. The vault stays the caller's. */
struct answers *answers_begin(const curve_tun_vault *vault, int *ready);

/* Has the connection's request answered, if it has one: then sets *asked. False if there is no memory for it. */
bool answers_ask(struct answers *answers, curve_tun_connection *connection, void *asker, bool *asked);

/* The next question that has its answer, for the caller to free, or NULL. */
struct question *answers_take(struct answers *answers);

/* Waits for the threads to end. What they had not come to has an error as its answer; all can be taken still. */
void answers_end(struct answers *answers);

/* Frees what has ended and been taken from. */
void answers_free(struct answers *answers);

#endif
