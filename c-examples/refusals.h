/* Reports on standard error which clients a server turns away. */

#ifndef REFUSALS_H
#define REFUSALS_H

#include "curve_tun.h"

/*
 * From now on, prints one line for each client of the server that is not let in:
 *
 *     refused ADDRESS KEY: REASON
 *     evicted ADDRESS KEY: REASON
 *
 * KEY is "-" for a client that has proven none. At most ten lines a second are printed, since
 * strangers decide how many clients there are; a line "N more turned away" counts the others.
 */
void say_refusals(curve_tun_server *server);

#endif
