/* After fork(), a child cannot use its parent's streams, but can free them: nothing of that reaches
 * the peer, which would take an abort by the child for one by the parent. */

#define _POSIX_C_SOURCE 200809L

#include "tunnel.h"

#include <sys/wait.h>
#include <unistd.h>

#define IS_FORKED(call) GIVES(CURVE_TUN_ERR_FORKED, call)
#define P PATIENCE_MS

static void in_child(curve_tun_socket *socket, curve_tun_stream *stream, curve_tun_connection *connection,
                     curve_tun_stream_machine *machine)
{
    curve_tun_stream_machine *no_machine;
    curve_tun_stream *no_stream;
    const uint8_t *message;
    char text[CURVE_TUN_ABORT_TEXT_SIZE];
    uint8_t byte = 0;
    uint32_t code;
    size_t len;

    IS_FORKED(curve_tun_stream_new(socket, NULL, &no_stream));
    IS_FORKED(curve_tun_stream_await_peer(stream, NULL, P));
    IS_FORKED(curve_tun_stream_accept(stream));
    IS_FORKED(curve_tun_stream_read(stream, &byte, 1, &len, P));
    IS_FORKED(curve_tun_stream_write(stream, &byte, 1, &len, P));
    IS_FORKED(curve_tun_stream_send_message(stream, &byte, 1, P));
    IS_FORKED(curve_tun_stream_recv_message(stream, &message, &len, P));
    IS_FORKED(curve_tun_stream_finish_write(stream, P));
    IS_FORKED(curve_tun_stream_finish(stream, P));
    IS_FORKED(curve_tun_stream_abort(stream, 0, NULL));
    IS_FORKED(curve_tun_stream_abort_code(stream, &code));
    IS_FORKED(curve_tun_stream_abort_text(stream, text, sizeof text));
    IS_FORKED(curve_tun_stream_machine_new(connection, NULL, &no_machine));
    IS_FORKED(curve_tun_stream_machine_peer(machine, NULL));
    IS_FORKED(curve_tun_stream_machine_accept(machine));
    IS_FORKED(curve_tun_stream_machine_read(machine, &byte, 1, &len));
    IS_FORKED(curve_tun_stream_machine_write(machine, &byte, 1, &len));
    IS_FORKED(curve_tun_stream_machine_send_message(machine, &byte, 1));
    IS_FORKED(curve_tun_stream_machine_recv_message(machine, &message, &len));
    IS_FORKED(curve_tun_stream_machine_finish_write(machine));
    IS_FORKED(curve_tun_stream_machine_abort(machine, 0, NULL));
    IS_FORKED(curve_tun_stream_machine_abort_code(machine, &code));
    IS_FORKED(curve_tun_stream_machine_abort_text(machine, text, sizeof text));
    CHECK(!curve_tun_stream_machine_is_finished(machine));
    curve_tun_socket_free(socket);
    curve_tun_stream_free(stream);
    curve_tun_connection_free(connection);
    curve_tun_stream_machine_free(machine);
}

/* In the middle of a call when the process forks. */
static void *read_one(void *stream)
{
    uint8_t byte;
    size_t len;

    OK(curve_tun_stream_read(stream, &byte, 1, &len, P));
    CHECK(len == 1 && byte == 'x');
    return NULL;
}

int main(void)
{
    struct house house = new_house();
    curve_tun_connection *near, *far;
    curve_tun_stream_machine *machine;
    curve_tun_socket *client, *server;
    curve_tun_stream *c, *s;
    pthread_t reading;
    uint8_t byte = 'x';
    int status;
    size_t len;
    pid_t child;

    connected_pair(&house.world, &near, &far);
    OK(curve_tun_stream_machine_new(near, NULL, &machine));
    connected_sockets(&house, &client, &server);
    OK(curve_tun_stream_new(client, NULL, &c));
    OK(curve_tun_stream_new(server, NULL, &s));
    OK(curve_tun_stream_write(c, NULL, 0, &len, P));
    OK(curve_tun_stream_await_peer(s, NULL, P));
    OK(curve_tun_stream_accept(s));
    CHECK(pthread_create(&reading, NULL, read_one, c) == 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        in_child(client, c, near, machine);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);

    /* The parent's are unchanged. */
    OK(curve_tun_stream_write(s, &byte, 1, &len, P));
    CHECK(pthread_join(reading, NULL) == 0);
    OK(curve_tun_stream_write(c, &byte, 1, &len, P));
    OK(curve_tun_stream_finish_write(c, P));
    OK(curve_tun_stream_read(s, &byte, 1, &len, P));
    CHECK(len == 1);
    OK(curve_tun_stream_read(s, &byte, 1, &len, P));
    CHECK(len == 0);
    OK(curve_tun_stream_machine_write(machine, &byte, 1, &len));
    CHECK(curve_tun_connection_pending_len(near) > 0);
    curve_tun_stream_free(c);
    curve_tun_stream_free(s);
    curve_tun_socket_free(client);
    curve_tun_socket_free(server);
    curve_tun_stream_machine_free(machine);
    curve_tun_connection_free(near);
    curve_tun_connection_free(far);
    free_house(&house);
    return 0;
}
