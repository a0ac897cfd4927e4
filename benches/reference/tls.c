/*
 * TLS 1.3 with OpenSSL: X25519, AES-256-GCM, certificates on both sides, no session tickets, so
 * that every connection makes a full handshake, as with curve_tun.
 *
 *     tls SECONDS ECHOES SETUPS CERTIFICATES     the folder that certificates.sh fills
 */

#include "bench.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct end {
    SSL *ssl;
    int descriptor;
    struct frames frames;
};

static SSL_CTX *server_context, *client_context;
static int listener;
static uint16_t port;

static void tls_die(const char *what)
{
    fprintf(stderr, "%s\n", what);
    ERR_print_errors_fp(stderr);
    exit(EXIT_FAILURE);
}

static SSL_CTX *new_context(const SSL_METHOD *method, const char *folder, const char *name)
{
    SSL_CTX *context = SSL_CTX_new(method);
    char certificate[4096], key[4096], authority[4096];

    snprintf(certificate, sizeof certificate, "%s/%s.pem", folder, name);
    snprintf(key, sizeof key, "%s/%s.key", folder, name);
    snprintf(authority, sizeof authority, "%s/authority.pem", folder);
    if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_use_certificate_file(context, certificate, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_load_verify_locations(context, authority, NULL) != 1 ||
        SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384") != 1 ||
        SSL_CTX_set1_groups_list(context, "X25519") != 1 || SSL_CTX_set_num_tickets(context, 0) != 1)
        tls_die(folder);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    return context;
}

static void tls_listen(enum job job)
{
    (void)job;
    listener = tcp_listen(&port);
}

static void tls_unlisten(void)
{
    close(listener);
}

static ssize_t tls_read(void *stream, void *bytes, size_t size)
{
    return SSL_read(stream, bytes, (int)size);
}

static void tls_write(void *stream, const void *bytes, size_t size)
{
    if (SSL_write(stream, bytes, (int)size) != (int)size)
        tls_die("SSL_write");
}

static struct end *new_end(int descriptor, SSL_CTX *context, int (*handshake)(SSL *))
{
    struct end *end = malloc(sizeof *end);

    if (end == NULL)
        die("malloc");
    end->descriptor = descriptor;
    end->ssl = SSL_new(context);
    if (end->ssl == NULL || SSL_set_fd(end->ssl, descriptor) != 1 || handshake(end->ssl) != 1)
        tls_die("handshake");
    end->frames.read = tls_read;
    end->frames.write = tls_write;
    end->frames.stream = end->ssl;
    frames_init(&end->frames);
    return end;
}

static struct end *tls_accept(void)
{
    return new_end(tcp_accept(listener), server_context, SSL_accept);
}

static struct end *tls_connect(void)
{
    return new_end(tcp_connect(port), client_context, SSL_connect);
}

static void tls_send(struct end *end, uint8_t *message, size_t size)
{
    frames_send(&end->frames, message, size);
}

static void tls_send_many(struct end *end, uint8_t *message, size_t size, size_t count)
{
    frames_send_many(&end->frames, message, size, count);
}

static const uint8_t *tls_receive(struct end *end, size_t *size)
{
    return frames_receive(&end->frames, size);
}

static void tls_close(struct end *end)
{
    frames_free(&end->frames);
    SSL_free(end->ssl);
    close(end->descriptor);
    free(end);
}

int main(int argc, char **argv)
{
    static const struct transport tls = {
        "tls", tls_listen, tls_unlisten, tls_accept, tls_connect,
        tls_send, tls_send_many, tls_receive, tls_close, 1,
    };
    struct extent extent = extent_arguments(argc, argv);

    if (argc < 5) {
        fprintf(stderr, "%s SECONDS ECHOES SETUPS CERTIFICATES\n", argv[0]);
        return EXIT_FAILURE;
    }
    signal(SIGPIPE, SIG_IGN);
    server_context = new_context(TLS_server_method(), argv[4], "server");
    client_context = new_context(TLS_client_method(), argv[4], "client");
    measure(&tls, extent);
    return 0;
}
