/*
 * What must hold for any text as address or block: what is accepted has bits that its family has,
 * and its text by the system's own writer is the same again; a block holds the addresses that
 * agree with it bit by bit, and no others, never one of the other family. The input is two lines: a
 * block and an address. A rule that breaks ends the process.
 */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/network.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

static void must_be_sound(const struct network *network) {
    MUST(network->family_bits == NETWORK_V4_BITS || network->family_bits == NETWORK_V6_BITS);
    MUST(network->bits <= network->family_bits);
}

/* The address of a network, whatever its prefix, written and read again. */
static struct network read_back(const struct network *network) {
    char text[INET6_ADDRSTRLEN];
    struct network again;
    int family = network->family_bits == NETWORK_V4_BITS ? AF_INET : AF_INET6;
    MUST(inet_ntop(family, network->bytes, text, sizeof text) != NULL);
    MUST(network_parse_address(slice_from_cstr(text), &again));
    MUST(again.family_bits == network->family_bits && again.bits == again.family_bits);
    MUST(memcmp(again.bytes, network->bytes, again.family_bits / 8) == 0);
    return again;
}

static bool agrees(const struct network *network, const struct network *address) {
    if (network->family_bits != address->family_bits)
        return false;
    for (unsigned i = 0; i < network->bits; i++) {
        unsigned mask = 0x80u >> (i % 8);
        if ((network->bytes[i / 8] & mask) != (address->bytes[i / 8] & mask))
            return false;
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice first, second;
    struct network network, address;
    slice_cut(slice_make(data, size), '\n', &first, &second);
    if (!network_parse(first, &network))
        return 0;
    must_be_sound(&network);
    struct network own = read_back(&network);
    MUST(network_has(&network, &own));
    if (!network_parse_address(second, &address))
        return 0;
    must_be_sound(&address);
    MUST(address.bits == address.family_bits);
    (void)read_back(&address);
    MUST(network_has(&network, &address) == agrees(&network, &address));
    struct network same;
    MUST(network_parse(second, &same) && network_has(&same, &address));
    return 0;
}
