/* Each function of streams with each of its pointers NULL: always an error, and nothing is written
 * or leaked. */

#include "tunnel.h"

#define IS_NULL(call) GIVES(CURVE_TUN_ERR_NULL, call)

static const uint8_t *message;
static uint8_t bytes[8];
static char text[CURVE_TUN_ABORT_TEXT_SIZE];
static size_t len = 77;
static uint32_t code = 77;

static void sockets(struct house *house)
{
    curve_tun_stream_peer peer = CURVE_TUN_STREAM_PEER_INIT;
    curve_tun_socket *client, *server;
    curve_tun_stream *c, *none = NULL;

    connected_sockets(house, &client, &server);
    IS_NULL(curve_tun_stream_new(NULL, NULL, &none));
    IS_NULL(curve_tun_stream_new(client, NULL, NULL));
    OK(curve_tun_stream_new(client, NULL, &c));
    IS_NULL(curve_tun_stream_await_peer(NULL, &peer, 0));
    IS_NULL(curve_tun_stream_accept(NULL));
    IS_NULL(curve_tun_stream_read(NULL, bytes, 1, &len, 0));
    IS_NULL(curve_tun_stream_read(c, NULL, 1, &len, 0));
    IS_NULL(curve_tun_stream_read(c, bytes, 1, NULL, 0));
    IS_NULL(curve_tun_stream_write(NULL, bytes, 1, &len, 0));
    IS_NULL(curve_tun_stream_write(c, NULL, 1, &len, 0));
    IS_NULL(curve_tun_stream_write(c, bytes, 1, NULL, 0));
    IS_NULL(curve_tun_stream_send_message(NULL, bytes, 1, 0));
    IS_NULL(curve_tun_stream_send_message(c, NULL, 1, 0));
    IS_NULL(curve_tun_stream_recv_message(NULL, &message, &len, 0));
    IS_NULL(curve_tun_stream_recv_message(c, NULL, &len, 0));
    IS_NULL(curve_tun_stream_recv_message(c, &message, NULL, 0));
    IS_NULL(curve_tun_stream_finish_write(NULL, 0));
    IS_NULL(curve_tun_stream_finish(NULL, 0));
    IS_NULL(curve_tun_stream_abort(NULL, 0, NULL));
    IS_NULL(curve_tun_stream_abort_code(NULL, &code));
    IS_NULL(curve_tun_stream_abort_code(c, NULL));
    IS_NULL(curve_tun_stream_abort_text(NULL, text, sizeof text));
    IS_NULL(curve_tun_stream_abort_text(c, NULL, sizeof text));
    curve_tun_stream_free(NULL);
    CHECK(none == NULL && message == NULL && len == 77 && code == 77);
    curve_tun_stream_free(c);
    curve_tun_socket_free(client);
    curve_tun_socket_free(server);
}

static void machines(struct world *w)
{
    curve_tun_stream_peer peer = CURVE_TUN_STREAM_PEER_INIT;
    curve_tun_stream_machine *c, *none = NULL;
    curve_tun_connection *client, *server;

    connected_pair(w, &client, &server);
    IS_NULL(curve_tun_stream_machine_new(NULL, NULL, &none));
    IS_NULL(curve_tun_stream_machine_new(client, NULL, NULL));
    OK(curve_tun_stream_machine_new(client, NULL, &c));
    IS_NULL(curve_tun_stream_machine_peer(NULL, &peer));
    IS_NULL(curve_tun_stream_machine_accept(NULL));
    IS_NULL(curve_tun_stream_machine_read(NULL, bytes, 1, &len));
    IS_NULL(curve_tun_stream_machine_read(c, NULL, 1, &len));
    IS_NULL(curve_tun_stream_machine_read(c, bytes, 1, NULL));
    IS_NULL(curve_tun_stream_machine_write(NULL, bytes, 1, &len));
    IS_NULL(curve_tun_stream_machine_write(c, NULL, 1, &len));
    IS_NULL(curve_tun_stream_machine_write(c, bytes, 1, NULL));
    IS_NULL(curve_tun_stream_machine_send_message(NULL, bytes, 1));
    IS_NULL(curve_tun_stream_machine_send_message(c, NULL, 1));
    IS_NULL(curve_tun_stream_machine_recv_message(NULL, &message, &len));
    IS_NULL(curve_tun_stream_machine_recv_message(c, NULL, &len));
    IS_NULL(curve_tun_stream_machine_recv_message(c, &message, NULL));
    IS_NULL(curve_tun_stream_machine_finish_write(NULL));
    CHECK(!curve_tun_stream_machine_is_finished(NULL));
    IS_NULL(curve_tun_stream_machine_abort(NULL, 0, NULL));
    IS_NULL(curve_tun_stream_machine_abort_code(NULL, &code));
    IS_NULL(curve_tun_stream_machine_abort_code(c, NULL));
    IS_NULL(curve_tun_stream_machine_abort_text(NULL, text, sizeof text));
    IS_NULL(curve_tun_stream_machine_abort_text(c, NULL, sizeof text));
    curve_tun_stream_machine_free(NULL);
    CHECK(none == NULL && message == NULL && len == 77 && code == 77);
    CHECK(curve_tun_connection_state(client) == CURVE_TUN_STATE_CONNECTED);
    curve_tun_stream_machine_free(c);
    curve_tun_connection_free(client);
    curve_tun_connection_free(server);
}

int main(void)
{
    struct house house = new_house();

    sockets(&house);
    machines(&house.world);
    free_house(&house);
    return 0;
}
