/* The clients of an event loop: each has a connection without I/O, and bytes are moved between it
 * and its socket. */

#ifndef CLIENTS_H
#define CLIENTS_H

#include "answers.h"

#include <sys/socket.h>

struct client;

/* A list of clients by deadline, the earliest first. */
struct queue {
    struct client *first, *last;
    size_t count;
};

/* The clients that one thread serves. Threads share the server, and nothing else. */
struct clients {
    int epoll; /* Watches them: the data of an event is its client. */
    curve_tun_server *server;
    struct answers *answers;
    /* Clients whose handshake is in progress, the oldest first; those with traffic; and those that
     * are idle. */
    struct queue handshakes, established, idle;
    /* Closed clients for which events may be pending; freed after those. */
    struct client *gone;
    bool left; /* Whether any has been closed since clients_free_gone. */
    /* The message being echoed. */
    uint8_t message[CURVE_TUN_MESSAGE_MAX];
};

/* Has an epoll descriptor watch `fd`. False on failure. */
bool watch(int epoll, int operation, int fd, uint32_t events, void *data);

/* Returns the milliseconds of a monotonic clock. */
int64_t now_ms(void);

/* Writes the text of an address, in the form that the registry takes. */
bool address_text(const struct sockaddr_storage *address, char text[CURVE_TUN_ADDRESS_TEXT_SIZE]);

/* Adds a client that was just accepted, and takes ownership of its socket. At a limit of
 * handshakes, another one is evicted. */
void clients_welcome(struct clients *clients, int fd, const struct sockaddr_storage *peer);

/* Moves the bytes of a client for which epoll reported these events. */
void clients_serve(struct clients *clients, struct client *client, uint32_t events);

/* Hands the vault's answers to the connections that wait for them. */
void clients_give_answers(struct clients *clients);

/* Ticks the connections that are due. */
void clients_tick(struct clients *clients);

/* Returns when the next tick is due; -1 if none is. */
int64_t clients_deadline_ms(const struct clients *clients);

/* Frees the clients that have left, once all pending events are handled. Returns whether any has
 * left since the last call. */
bool clients_free_gone(struct clients *clients);

/* Closes and frees all clients. */
void clients_close(struct clients *clients);

#endif
