/* Shared by the C tests of streams: both ends of a tunnel over TCP, and bytes that say where they
 * are. */

#ifndef TUNNEL_H
#define TUNNEL_H

#include "check.h"

#include <pthread.h>

/* A listener, and the world that it is in. */
struct house {
    struct world world;
    curve_tun_listener *listener;
    uint16_t port;
};

UNUSED_BY_SOME static struct house new_house(void)
{
    struct house house;

    house.world = new_world();
    OK(curve_tun_listener_open("127.0.0.1", 0, house.world.server, &house.listener));
    house.port = curve_tun_listener_port(house.listener);
    return house;
}

UNUSED_BY_SOME static void free_house(struct house *house)
{
    curve_tun_listener_free(house->listener);
    free_world(&house->world);
}

UNUSED_BY_SOME static curve_tun_socket *connect_client(struct house *house)
{
    curve_tun_socket *client;

    OK(curve_tun_socket_connect("127.0.0.1", house->port, house->world.client_vault, house->world.server_key,
                                &house->world.options, PATIENCE_MS, &client));
    return client;
}

struct connecting {
    struct house *house;
    curve_tun_socket *socket;
};

UNUSED_BY_SOME static void *connect_on_thread(void *argument)
{
    struct connecting *connecting = argument;

    connecting->socket = connect_client(connecting->house);
    return NULL;
}

UNUSED_BY_SOME static void connected_sockets(struct house *house, curve_tun_socket **client, curve_tun_socket **server)
{
    struct connecting connecting = {house, NULL};
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, connect_on_thread, &connecting) == 0);
    OK(curve_tun_listener_accept(house->listener, PATIENCE_MS, server));
    CHECK(pthread_join(thread, NULL) == 0);
    *client = connecting.socket;
}

/* The byte at a place of what is sent. */
UNUSED_BY_SOME static uint8_t byte_at(size_t place)
{
    return (uint8_t)(place * 7 + place / 251);
}

/* Bytes from a place on, which the caller frees. */
UNUSED_BY_SOME static uint8_t *pattern(size_t from, size_t len)
{
    uint8_t *bytes = malloc(len + 1);
    size_t i;

    CHECK(bytes != NULL);
    for (i = 0; i < len; i++)
        bytes[i] = byte_at(from + i);
    return bytes;
}

UNUSED_BY_SOME static void check_pattern(const uint8_t *bytes, size_t from, size_t len)
{
    size_t i;

    for (i = 0; i < len; i++)
        CHECK(bytes[i] == byte_at(from + i));
}

#endif
