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

static bool is_one_of(const char *const *blocks, size_t n, const struct network *address) {
    for (size_t i = 0; i < n; i++) {
        struct network block;
        if (network_parse(slice_from_cstr(blocks[i]), &block) && network_has(&block, address))
            return true;
    }
    return false;
}

bool network_is_loopback(const struct network *address) {
    static const char *const blocks[] = {"127.0.0.0/8", "::1"};
    return is_one_of(blocks, ARRAY_LEN(blocks), address);
}

bool network_is_inner(const struct network *address) {
    /* The last ones: of Amazon, Azure, Alibaba, Oracle. */
    static const char *const blocks[] = {"169.254.0.0/16",   "fe80::/10",       "fd00:ec2::/32",
                                         "168.63.129.16/32", "100.100.100.200", "192.0.0.192"};
    /* IPv4-compatible, IPv4-translated, NAT64, 6to4: where the IPv4 address is in each. */
    static const struct {
        const char *block;
        unsigned at;
    } forms[] = {{"::/96", 12},
                 {"::ffff:0:0:0/96", 12},
                 {"64:ff9b::/96", 12},
                 {"64:ff9b:1::/48", 12},
                 {"2002::/16", 2}};
    if (is_one_of(blocks, ARRAY_LEN(blocks), address))
        return true;
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        struct network form, inside;
        if (!network_parse(slice_from_cstr(forms[i].block), &form) || !network_has(&form, address))
            continue;
        network_from_bytes(address->bytes + forms[i].at, NETWORK_V4_BITS, &inside);
        if (is_one_of(blocks, ARRAY_LEN(blocks), &inside))
            return true;
    }
    return false;
}
