/*
 * What must hold for any bytes in front of a connection: every prefix is undecided or gets the
 * verdict of the whole; a header that is taken has a length within the limit and the address that
 * stands in it; what follows it changes nothing. A rule that breaks ends the process.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "http/proxy_protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

enum { FIXED = 16 };

static void must_be_the_same(const struct proxy_header *a, const struct proxy_header *b) {
    MUST(a->len == b->len && a->has_source == b->has_source);
    MUST(a->source.family_bits == b->source.family_bits && a->source.bits == b->source.bits);
    MUST(memcmp(a->source.bytes, b->source.bytes, sizeof a->source.bytes) == 0);
}

/* The header by itself, in a block that ends where it ends. */
static void must_stand_alone(const uint8_t *data, const struct proxy_header *header) {
    struct proxy_header alone = {.len = 0};
    char *copy = mem_alloc(header->len);
    if (copy == NULL)
        return;
    memcpy(copy, data, header->len);
    MUST(proxy_header_read(slice_make(copy, header->len), &alone) == PROXY_DONE);
    must_be_the_same(&alone, header);
    mem_free(copy);
}

static void must_be_sound(const uint8_t *data, size_t size, const struct proxy_header *header) {
    MUST(header->len >= FIXED && header->len <= size && header->len <= LIMIT_PROXY_HEADER);
    MUST((size_t)(data[14] << 8 | data[15]) + FIXED == header->len);
    must_stand_alone(data, header);
    if (!header->has_source)
        return;
    struct network expected = {.family_bits = 0};
    MUST(data[12] == 0x21 && (data[13] == 0x11 || data[13] == 0x21));
    network_from_bytes(data + FIXED, data[13] == 0x11 ? NETWORK_V4_BITS : NETWORK_V6_BITS,
                       &expected);
    MUST(memcmp(&expected.bytes, &header->source.bytes, sizeof expected.bytes) == 0);
    MUST(header->source.family_bits == expected.family_bits &&
         header->source.bits == header->source.family_bits);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct proxy_header whole = {.len = 0};
    enum proxy_verdict verdict = proxy_header_read(slice_make(data, size), &whole);
    size_t most = size < LIMIT_PROXY_HEADER ? size : LIMIT_PROXY_HEADER;
    for (size_t n = 0; n <= most; n++) {
        struct proxy_header header = {.len = 0};
        enum proxy_verdict one = proxy_header_read(slice_make(data, n), &header);
        MUST(one == PROXY_NEED_MORE || one == verdict);
        if (one == PROXY_DONE)
            must_be_the_same(&header, &whole);
        if (one == PROXY_REFUSED)
            MUST(strcmp(header.reason, whole.reason) == 0);
    }
    MUST(verdict != PROXY_NEED_MORE || size < LIMIT_PROXY_HEADER);
    if (verdict == PROXY_DONE)
        must_be_sound(data, size, &whole);
    return 0;
}
