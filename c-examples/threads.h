/* For blocking servers: accepts clients, and serves each on its own thread, until SIGTERM or
 * SIGINT. */

#ifndef THREADS_H
#define THREADS_H

#include "curve_tun.h"

/* Serves one client until it is finished. The socket is closed afterwards; when the server ends it
 * is shut down. */
typedef void serve_client(curve_tun_socket *socket, void *context);

/* Reports the server's status. Called at each SIGHUP, on a separate thread. */
typedef void report_status(void *context);

/* Prints "listening on HOST:PORT", then serves clients until a signal to end, and returns when
 * every client's thread has finished. block_end_signals has to be called before; with `report`,
 * which may be NULL, SIGHUP is blocked as well. */
void serve_on_threads(curve_tun_listener *listener, serve_client *serve, report_status *report, void *context);

#endif
