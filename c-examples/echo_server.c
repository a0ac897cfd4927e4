/*
 * echo_server [--handshakes N] [--per-source N] HOST PORT SECRET PEER_PUBLIC [PEER_PUBLIC...]
 *
 * Sends each message back, to any number of clients at once, with a thread for each. The peers whose keys are given may come
 * from anywhere. Prints "listening on HOST:PORT" when it is ready; port 0 picks one. SIGTERM or SIGINT ends it.
 */

#define _POSIX_C_SOURCE 200809L

#include "common.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A client that takes nothing for this long is given up. */
#define SEND_TIMEOUT_MS 30000

struct client {
    curve_tun_socket *socket;
    struct client *previous, *next;
};

/* The clients being served, for the end to find them. */
static struct client *clients;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t client_left = PTHREAD_COND_INITIALIZER;

static void add_client(struct client *client)
{
    pthread_mutex_lock(&lock);
    client->previous = NULL;
    client->next = clients;
    if (clients != NULL)
        clients->previous = client;
    clients = client;
    pthread_mutex_unlock(&lock);
}

static void remove_client(struct client *client)
{
    pthread_mutex_lock(&lock);
    if (client->previous != NULL)
        client->previous->next = client->next;
    else
        clients = client->next;
    if (client->next != NULL)
        client->next->previous = client->previous;
    /* Within the lock, so that nobody shuts a closed socket down. */
    curve_tun_close(client->socket);
    pthread_cond_signal(&client_left);
    pthread_mutex_unlock(&lock);
    free(client);
}

static void *serve(void *argument)
{
    struct client *client = argument;
    uint8_t *message = malloc(CURVE_TUN_MESSAGE_MAX);
    size_t len;

    while (message != NULL &&
           curve_tun_recv(client->socket, message, CURVE_TUN_MESSAGE_MAX, &len, -1) == CURVE_TUN_OK &&
           curve_tun_send(client->socket, message, len, SEND_TIMEOUT_MS) == CURVE_TUN_OK)
        ;
    free(message);
    remove_client(client);
    return NULL;
}

/* Serves a client on a thread of its own, or closes it if there is none to be had. */
static void start(curve_tun_socket *socket)
{
    struct client *client = malloc(sizeof *client);
    pthread_t thread;

    if (client == NULL) {
        curve_tun_close(socket);
        return;
    }
    client->socket = socket;
    add_client(client);
    if (pthread_create(&thread, NULL, serve, client) == 0)
        pthread_detach(thread);
    else
        remove_client(client);
}

/* Waits for the signal to end, then wakes the thread that accepts. */
static void *wait_for_end(void *listener)
{
    sigset_t signals;
    int signal;

    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigwait(&signals, &signal);
    curve_tun_listener_shutdown(listener);
    return NULL;
}

int main(int argc, char **argv)
{
    struct service service = service_arguments(argc, argv);
    curve_tun_listener *listener;
    curve_tun_socket *socket;
    curve_tun_result result;
    struct client *client;
    char address[CURVE_TUN_ADDRESS_TEXT_SIZE];
    pthread_t end;
    int error;

    block_end_signals();
    check(service.host, curve_tun_listen(service.host, service.port, service.server, &listener));
    /* The listener keeps it. */
    curve_tun_server_free(service.server);
    curve_tun_vault_free(service.vault);
    error = pthread_create(&end, NULL, wait_for_end, listener);
    if (error != 0)
        fail("thread", strerror(error));
    check("address", curve_tun_listener_address(listener, address, sizeof address));
    printf("listening on %s\n", address);
    fflush(stdout);

    while ((result = curve_tun_accept(listener, -1, &socket)) != CURVE_TUN_ERR_CLOSED) {
        if (result == CURVE_TUN_OK)
            start(socket);
        else if (curve_tun_result_is_transient(result))
            /* The listener waits a little and goes on. */
            fprintf(stderr, "accept: %s\n", curve_tun_result_message(result));
        else
            check("accept", result);
    }

    pthread_join(end, NULL);
    curve_tun_listener_close(listener);
    pthread_mutex_lock(&lock);
    for (client = clients; client != NULL; client = client->next)
        curve_tun_shutdown(client->socket);
    while (clients != NULL)
        pthread_cond_wait(&client_left, &lock);
    pthread_mutex_unlock(&lock);
    return 0;
}
