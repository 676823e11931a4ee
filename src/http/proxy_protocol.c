#include "http/proxy_protocol.h"

#include <string.h>

#include "base/limits.h"

/* doc/proxy-protocol.txt, section 2.2: signature, version and command, family and transport, and
 * the length of what follows: the addresses, and TLVs behind them. */
static const char signature[] = "\r\n\r\n\0\r\nQUIT\n";

enum {
    SIGNATURE_LEN = sizeof signature - 1,
    COMMAND_AT = SIGNATURE_LEN,
    FAMILY_AT,
    LENGTH_AT,
    FIXED_LEN = LENGTH_AT + 2,
    VERSION = 0x20, /* in the upper half */
    LOCAL = 0,
    PROXY = 1,
};

/* Those that are known; others have to be refused. Datagrams cannot come by TCP. */
static const struct family {
    unsigned char code;
    size_t addresses_len; /* at least: of both ends, with their ports */
    unsigned bits;        /* of the source's address, which is the first; 0: none to be used */
} families[] = {
    {0x00, 0, 0}, /* AF_UNSPEC */
    {0x11, 2 * (4 + 2), NETWORK_V4_BITS},
    {0x21, 2 * (16 + 2), NETWORK_V6_BITS},
    {0x31, 2 * 108, 0}, /* AF_UNIX */
};

static enum proxy_verdict refuse(const char *reason, struct proxy_header *ret_header) {
    ret_header->reason = reason;
    return PROXY_REFUSED;
}

static const struct family *find_family(unsigned char code) {
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        if (families[i].code == code)
            return &families[i];
    }
    return NULL;
}

/* Each byte is judged as soon as it is there, so that refusals do not depend on the cuts. */
enum proxy_verdict proxy_header_read(struct slice bytes, struct proxy_header *ret_header) {
    const unsigned char *at = (const unsigned char *)bytes.ptr;
    size_t n = bytes.len < SIGNATURE_LEN ? bytes.len : SIGNATURE_LEN;
    if (n != 0 && memcmp(bytes.ptr, signature, n) != 0)
        return refuse("there is no PROXY header of version 2", ret_header);
    if (bytes.len <= COMMAND_AT)
        return PROXY_NEED_MORE;
    unsigned command = at[COMMAND_AT] & 0x0fu;
    if ((at[COMMAND_AT] & 0xf0u) != VERSION)
        return refuse("the PROXY header is of another version than 2", ret_header);
    if (command != LOCAL && command != PROXY)
        return refuse("the PROXY header has an unknown command", ret_header);
    if (bytes.len <= FAMILY_AT)
        return PROXY_NEED_MORE;
    /* Of a LOCAL header the rest is ignored, whatever it says. */
    const struct family *family = command == PROXY ? find_family(at[FAMILY_AT]) : &families[0];
    if (family == NULL)
        return refuse("the PROXY header is not for TCP", ret_header);
    if (bytes.len < FIXED_LEN)
        return PROXY_NEED_MORE;
    size_t len = (size_t)at[LENGTH_AT] << 8 | at[LENGTH_AT + 1];
    if (len > LIMIT_PROXY_HEADER - FIXED_LEN)
        return refuse("the PROXY header is too long", ret_header);
    if (len < family->addresses_len)
        return refuse("the PROXY header is too short for its addresses", ret_header);
    if (bytes.len < FIXED_LEN + len)
        return PROXY_NEED_MORE;
    *ret_header = (struct proxy_header){.len = FIXED_LEN + len, .has_source = family->bits != 0};
    if (ret_header->has_source)
        network_from_bytes(at + FIXED_LEN, family->bits, &ret_header->source);
    return PROXY_DONE;
}
