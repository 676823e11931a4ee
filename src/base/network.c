#include "base/network.h"

#include <arpa/inet.h>
#include <string.h>

enum { MAPPED_BITS = NETWORK_V6_BITS - NETWORK_V4_BITS };

void network_from_bytes(const void *bytes, unsigned bits, struct network *ret_network) {
    static const unsigned char mapped[MAPPED_BITS / 8] = {[10] = 0xff, [11] = 0xff};
    const unsigned char *from = bytes;
    if (bits == NETWORK_V6_BITS && memcmp(from, mapped, sizeof mapped) == 0) {
        from += sizeof mapped;
        bits = NETWORK_V4_BITS;
    }
    *ret_network = (struct network){.family_bits = bits, .bits = bits};
    memcpy(ret_network->bytes, from, bits / 8);
}

bool network_parse_address(struct slice text, struct network *ret_network) {
    char cstr[NETWORK_TEXT];
    unsigned char bytes[NETWORK_V6_BITS / 8];
    if (slice_to_cstr(text, cstr, sizeof cstr) != 0)
        return false;
    if (inet_pton(AF_INET, cstr, bytes) == 1)
        network_from_bytes(bytes, NETWORK_V4_BITS, ret_network);
    else if (inet_pton(AF_INET6, cstr, bytes) == 1)
        network_from_bytes(bytes, NETWORK_V6_BITS, ret_network);
    else
        return false;
    return true;
}

bool network_parse(struct slice text, struct network *ret_network) {
    struct network network;
    struct slice address, length;
    uint64_t bits;
    if (!slice_cut(text, '/', &address, &length))
        return network_parse_address(text, ret_network);
    bool is_v6_text = slice_find_byte(address, ':') != SIZE_MAX;
    if (!network_parse_address(address, &network) || slice_to_u64(length, &bits) != 0 ||
        bits > (is_v6_text ? NETWORK_V6_BITS : NETWORK_V4_BITS))
        return false;
    if (is_v6_text && network.family_bits == NETWORK_V4_BITS) {
        if (bits < MAPPED_BITS)
            return false;
        bits -= MAPPED_BITS;
    }
    network.bits = (unsigned)bits;
    *ret_network = network;
    return true;
}

bool network_has(const struct network *network, const struct network *address) {
    unsigned whole = network->bits / 8, rest = network->bits % 8;
    if (network->family_bits != address->family_bits ||
        memcmp(network->bytes, address->bytes, whole) != 0)
        return false;
    return rest == 0 ||
           ((network->bytes[whole] ^ address->bytes[whole]) & (0xffu << (8 - rest)) & 0xffu) == 0;
}

struct slice network_write_address(const struct network *address, char text[NETWORK_TEXT]) {
    int family = address->family_bits == NETWORK_V6_BITS ? AF_INET6 : AF_INET;
    if (address->family_bits == 0 || inet_ntop(family, address->bytes, text, NETWORK_TEXT) == NULL)
        return SLICE_EMPTY;
    return slice_from_cstr(text);
}
