/* The clients of an event loop: a connection without I/O for each, and what moves between it and
 * its socket. */

#ifndef CLIENTS_H
#define CLIENTS_H

#include "answers.h"

#include <sys/socket.h>

struct client;

/* A list of clients by deadline, the next one first. */
struct queue {
    struct client *first, *last;
    size_t count;
};

/* Those that one thread serves. Threads share the server, and nothing else. */
struct clients {
    int epoll; /* Watches them: an event's data is its client. */
    curve_tun_server *server;
    struct answers *answers;
    /* Clients whose handshake is not over, the oldest first; those that have had traffic; and those
     * that rest. */
    struct queue handshakes, established, idle;
    /* Clients closed while events for them may be waiting; freed after those. */
    struct client *gone;
    bool left; /* Whether any has been closed since clients_free_gone. */
    /* The message that is on its way through. */
    uint8_t message[CURVE_TUN_MESSAGE_MAX];
};

/* Has an epoll descriptor watch `fd`. False if it cannot. */
bool watch(int epoll, int operation, int fd, uint32_t events, void *data);

/* Milliseconds of a monotonic clock. */
int64_t now_ms(void);

/* The text of an address, as the registry wants it. */
bool address_text(const struct sockaddr_storage *address, char text[CURVE_TUN_ADDRESS_TEXT_SIZE]);

/* Takes in a client that was just accepted; the socket is ours from here on. At a limit of
 * handshakes, another one is evicted. */
void clients_welcome(struct clients *clients, int fd, const struct sockaddr_storage *peer);

/* Moves what can be moved for a client that epoll named with these events. */
void clients_serve(struct clients *clients, struct client *client, uint32_t events);

/* Hands the vault's answers to the connections that wait for them. */
void clients_give_answers(struct clients *clients);

/* Tells connections the time, where it is due. */
void clients_tick(struct clients *clients);

/* When that is due next; -1 if it is not. */
int64_t clients_deadline_ms(const struct clients *clients);

/* Frees those that have left, when all events at hand are done with. Whether any has left since the
 * last call. */
bool clients_free_gone(struct clients *clients);

/* Closes and frees all. */
void clients_close(struct clients *clients);

#endif
