/* The smallest structs of any header, each up to the last field that it cannot do without. They are
 * frozen, since programs built with them run with any later library. Do not edit them. */
#ifndef LEAST_H
#define LEAST_H

#include <stddef.h>
#include <stdint.h>

struct least_options {
    size_t size;
};

struct least_vault_callbacks {
    size_t size;
    uint8_t public_key[32];
    uint32_t deferred;
    uint32_t reserved;
};

struct least_registry_callbacks {
    size_t size;
    uint32_t deferred;
    uint32_t reserved;
};

struct least_registry_problem {
    size_t size;
    uint64_t line;
    uint64_t column;
};

struct least_dns_options {
    size_t size;
};

struct least_request {
    size_t size;
    uint32_t kind;
    uint32_t nonce_len;
    uint32_t sealed_len;
    uint32_t message_len;
    uint8_t peer_public_key[32];
    uint8_t nonce[16];
    uint8_t sealed[80];
    uint8_t message[128];
    char address[64];
    char listener[256];
};

struct least_answer {
    size_t size;
    uint32_t kind;
    int32_t result;
    uint32_t accepted;
    uint32_t reserved;
    uint8_t nonce[16];
    uint8_t bytes[144];
};

struct least_trust {
    size_t size;
    const uint8_t *server_public_key;
    const void *registry;
    const void *known_servers;
    uint32_t first_use;
    uint32_t reserved;
};

struct least_trust_outcome {
    size_t size;
    uint8_t offered_public_key[32];
    uint8_t known_public_key[32];
};

struct least_stream_options {
    size_t size;
};

struct least_stream_peer {
    size_t size;
    uint32_t message_max;
    uint32_t client_ip_len;
    uint8_t client_ip[16];
    uint32_t client_port;
    char service[68];
};

#endif
