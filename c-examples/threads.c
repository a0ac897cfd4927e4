#define _POSIX_C_SOURCE 200809L

#include "threads.h"

#include "common.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct client {
    curve_tun_socket *socket;
    serve_client *serve;
    void *context;
    struct client *previous, *next;
};

/* The clients being served, to be shut down at the end. */
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
    /* Under the lock, so that no other thread shuts down a closed socket. */
    curve_tun_socket_free(client->socket);
    pthread_cond_signal(&client_left);
    pthread_mutex_unlock(&lock);
    free(client);
}

static void *serve_on_thread(void *argument)
{
    struct client *client = argument;

    client->serve(client->socket, client->context);
    remove_client(client);
    return NULL;
}

/* Serves a client on its own thread, or closes it if no thread can be started. */
static void start(curve_tun_socket *socket, serve_client *serve, void *context)
{
    struct client *client = malloc(sizeof *client);
    pthread_t thread;

    if (client == NULL) {
        curve_tun_socket_free(socket);
        return;
    }
    client->socket = socket;
    client->serve = serve;
    client->context = context;
    add_client(client);
    if (pthread_create(&thread, NULL, serve_on_thread, client) == 0)
        pthread_detach(thread);
    else
        remove_client(client);
}

struct signals {
    curve_tun_listener *listener;
    report_status *report;
    void *context;
};

/* Reports at each SIGHUP. On a signal to end, wakes the thread that accepts. */
static void *wait_for_signals(void *argument)
{
    const struct signals *what = argument;
    sigset_t signals;
    int signal;

    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    if (what->report != NULL)
        sigaddset(&signals, SIGHUP);
    while (sigwait(&signals, &signal) == 0 && signal == SIGHUP)
        what->report(what->context);
    curve_tun_listener_shutdown(what->listener);
    return NULL;
}

void serve_on_threads(curve_tun_listener *listener, serve_client *serve, report_status *report, void *context)
{
    struct signals signals = {listener, report, context};
    curve_tun_socket *socket;
    curve_tun_result result;
    struct client *client;
    char address[CURVE_TUN_ADDRESS_TEXT_SIZE];
    pthread_t end;
    int error;

    error = pthread_create(&end, NULL, wait_for_signals, &signals);
    if (error != 0)
        fail("thread", strerror(error));
    check("address", curve_tun_listener_address(listener, address, sizeof address));
    printf("listening on %s\n", address);
    fflush(stdout);

    while ((result = curve_tun_listener_accept(listener, -1, &socket)) != CURVE_TUN_ERR_CLOSED) {
        if (result == CURVE_TUN_OK)
            start(socket, serve, context);
        else if (curve_tun_result_is_transient(result))
            /* The listener waits a little and continues. */
            fprintf(stderr, "accept: %s\n", curve_tun_result_message(result));
        else
            check("accept", result);
    }

    pthread_join(end, NULL);
    pthread_mutex_lock(&lock);
    for (client = clients; client != NULL; client = client->next)
        curve_tun_socket_shutdown(client->socket);
    while (clients != NULL)
        pthread_cond_wait(&client_left, &lock);
    pthread_mutex_unlock(&lock);
}
