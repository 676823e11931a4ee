/* The PROXY protocol: every command, family and length, whole, byte by byte and cut anywhere. */
#include "base/limits.h"
#include "http/proxy_protocol.h"
#include "test.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
enum { FIXED = 16 };

/* A header in a block of exactly its length, so that a byte too far is found. */
struct header {
    char *bytes;
    size_t len;
};

static struct header make(unsigned char command, unsigned char family, size_t len,
                          const void *addresses, size_t addresses_len) {
    struct header header = {.len = FIXED + len, .bytes = mem_alloc(FIXED + len)};
    if (header.bytes == NULL)
        CANNOT_GO_ON();
    memcpy(header.bytes, SIGNATURE, 12);
    header.bytes[12] = (char)command;
    header.bytes[13] = (char)family;
    header.bytes[14] = (char)(len >> 8);
    header.bytes[15] = (char)len;
    memset(header.bytes + FIXED, 0x5a, len);
    if (addresses_len != 0)
        memcpy(header.bytes + FIXED, addresses, addresses_len < len ? addresses_len : len);
    return header;
}

static enum proxy_verdict read_copy(struct slice bytes, struct proxy_header *ret_header) {
    char *copy = mem_alloc(bytes.len);
    if (copy == NULL)
        CANNOT_GO_ON();
    memcpy(copy, bytes.ptr, bytes.len);
    enum proxy_verdict verdict = proxy_header_read(slice_make(copy, bytes.len), ret_header);
    mem_free(copy);
    return verdict;
}

static bool is_same(const struct proxy_header *a, const struct proxy_header *b) {
    return a->len == b->len && a->has_source == b->has_source &&
           a->source.family_bits == b->source.family_bits && a->source.bits == b->source.bits &&
           memcmp(a->source.bytes, b->source.bytes, sizeof a->source.bytes) == 0;
}

/* The verdict of all bytes; each prefix is undecided or says the same already. */
static enum proxy_verdict judge(struct slice bytes, struct proxy_header *ret_header) {
    struct proxy_header untouched = {.len = 77};
    enum proxy_verdict whole = read_copy(bytes, ret_header), last = PROXY_NEED_MORE;
    for (size_t n = 0; n <= bytes.len; n++) {
        struct proxy_header header = untouched;
        enum proxy_verdict verdict = read_copy(slice_make(bytes.ptr, n), &header);
        if (last != PROXY_NEED_MORE || verdict != PROXY_NEED_MORE)
            CHECK_INT(verdict, whole);
        if (verdict == PROXY_NEED_MORE)
            CHECK(is_same(&header, &untouched));
        if (verdict == PROXY_DONE)
            CHECK(is_same(&header, ret_header));
        if (verdict == PROXY_REFUSED)
            CHECK(strcmp(header.reason, ret_header->reason) == 0);
        last = verdict;
    }
    CHECK_INT(last, whole);
    return whole;
}

#define V4 "\xcb\x00\x71\x09\x0a\x00\x00\x01\xd9\x03\x01\xbb"
#define V6                                                                                         \
    "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\xd9\x03" \
    "\x01\xbb"
#define MAPPED                                                                                     \
    "\0\0\0\0\0\0\0\0\0\0\xff\xff\xcb\x00\x71\x09\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\x01\xd9\x03" \
    "\x01\xbb"
#define SHORT  "the PROXY header is too short for its addresses"
#define LONG   "the PROXY header is too long"
#define NO_TCP "the PROXY header is not for TCP"

static const struct row {
    const char *label;
    unsigned char command, family;
    size_t len;
    const char *addresses;
    size_t addresses_len;
    enum proxy_verdict verdict;
    const char *source; /* NULL: the connection's own address stays */
    const char *reason;
} rows[] = {
    {"IPv4", 0x21, 0x11, 12, V4, 12, PROXY_DONE, "203.0.113.9", NULL},
    {"IPv6", 0x21, 0x21, 36, V6, 36, PROXY_DONE, "2001:db8::1", NULL},
    {"IPv4 in IPv6", 0x21, 0x21, 36, MAPPED, 36, PROXY_DONE, "203.0.113.9", NULL},
    {"IPv4 and a TLV", 0x21, 0x11, 12 + 7, V4 "\x04\x00\x04\0\0\0\0", 19, PROXY_DONE, "203.0.113.9",
     NULL},
    {"a TLV longer than what is left", 0x21, 0x11, 15, V4 "\x01\xff\xff", 15, PROXY_DONE,
     "203.0.113.9", NULL},
    {"half a TLV", 0x21, 0x11, 13, V4 "\x01", 13, PROXY_DONE, "203.0.113.9", NULL},
    {"IPv4 up to the limit", 0x21, 0x11, LIMIT_PROXY_HEADER - FIXED, V4, 12, PROXY_DONE,
     "203.0.113.9", NULL},
    {"IPv4 past the limit", 0x21, 0x11, LIMIT_PROXY_HEADER - FIXED + 1, V4, 12, PROXY_REFUSED, NULL,
     LONG},
    {"the longest", 0x21, 0x11, 0xffff, V4, 12, PROXY_REFUSED, NULL, LONG},
    {"IPv4 too short", 0x21, 0x11, 11, V4, 11, PROXY_REFUSED, NULL, SHORT},
    {"IPv4 empty", 0x21, 0x11, 0, "", 0, PROXY_REFUSED, NULL, SHORT},
    {"IPv6 too short", 0x21, 0x21, 35, V6, 35, PROXY_REFUSED, NULL, SHORT},
    {"IPv6 with IPv4's length", 0x21, 0x21, 12, V4, 12, PROXY_REFUSED, NULL, SHORT},
    {"Unix", 0x21, 0x31, 216, "", 0, PROXY_DONE, NULL, NULL},
    {"Unix too short", 0x21, 0x31, 215, "", 0, PROXY_REFUSED, NULL, SHORT},
    {"unspecified", 0x21, 0x00, 0, "", 0, PROXY_DONE, NULL, NULL},
    {"unspecified, with something", 0x21, 0x00, 12, V4, 12, PROXY_DONE, NULL, NULL},
    {"IPv4, datagrams", 0x21, 0x12, 12, V4, 12, PROXY_REFUSED, NULL, NO_TCP},
    {"IPv6, datagrams", 0x21, 0x22, 36, V6, 36, PROXY_REFUSED, NULL, NO_TCP},
    {"Unix, datagrams", 0x21, 0x32, 216, "", 0, PROXY_REFUSED, NULL, NO_TCP},
    {"IPv4, no transport", 0x21, 0x10, 12, V4, 12, PROXY_REFUSED, NULL, NO_TCP},
    {"no family, stream", 0x21, 0x01, 12, V4, 12, PROXY_REFUSED, NULL, NO_TCP},
    {"an unknown family", 0x21, 0x41, 12, V4, 12, PROXY_REFUSED, NULL, NO_TCP},
    {"local", 0x20, 0x00, 0, "", 0, PROXY_DONE, NULL, NULL},
    {"local, with addresses", 0x20, 0x11, 12, V4, 12, PROXY_DONE, NULL, NULL},
    {"local, whatever the family", 0x20, 0xff, 3, "abc", 3, PROXY_DONE, NULL, NULL},
    {"local, past the limit", 0x20, 0x00, LIMIT_PROXY_HEADER - FIXED + 1, "", 0, PROXY_REFUSED,
     NULL, LONG},
    {"another command", 0x22, 0x11, 12, V4, 12, PROXY_REFUSED, NULL,
     "the PROXY header has an unknown command"},
    {"the last command", 0x2f, 0x11, 12, V4, 12, PROXY_REFUSED, NULL,
     "the PROXY header has an unknown command"},
    {"version 1", 0x11, 0x11, 12, V4, 12, PROXY_REFUSED, NULL,
     "the PROXY header is of another version than 2"},
    {"version 3", 0x31, 0x11, 12, V4, 12, PROXY_REFUSED, NULL,
     "the PROXY header is of another version than 2"},
    {"version 0", 0x01, 0x11, 12, V4, 12, PROXY_REFUSED, NULL,
     "the PROXY header is of another version than 2"},
};

static void test_rows(void) {
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *row = &rows[i];
        struct proxy_header found = {.len = 0};
        struct network expected = {.family_bits = 0};
        test_row(row->label);
        struct header header =
            make(row->command, row->family, row->len, row->addresses, row->addresses_len);
        CHECK_INT(judge(slice_make(header.bytes, header.len), &found), row->verdict);
        if (row->verdict == PROXY_REFUSED)
            CHECK_STR(slice_from_cstr(found.reason), row->reason);
        if (row->verdict == PROXY_DONE) {
            CHECK_INT(found.len, header.len);
            CHECK_INT(found.has_source, row->source != NULL);
        }
        if (row->verdict == PROXY_DONE && row->source != NULL) {
            CHECK(network_parse_address(slice_from_cstr(row->source), &expected));
            CHECK_INT(found.source.family_bits, expected.family_bits);
            CHECK_INT(found.source.bits, expected.bits);
            CHECK(memcmp(found.source.bytes, expected.bytes, sizeof expected.bytes) == 0);
        }
        mem_free(header.bytes);
    }
}

/* All 65536 values of the two bytes that decide: only those of the specification are taken. */
static void test_every_command_and_family(void) {
    char bytes[FIXED + 216] = SIGNATURE;
    size_t n_done = 0, n_sources = 0;
    bytes[15] = (char)216;
    for (unsigned i = 0; i <= 0xffff; i++) {
        struct proxy_header found = {.len = 0};
        bytes[12] = (char)(i >> 8);
        bytes[13] = (char)i;
        if (proxy_header_read(slice_make(bytes, sizeof bytes), &found) != PROXY_DONE)
            continue;
        n_done++;
        n_sources += found.has_source ? 1 : 0;
    }
    CHECK_INT(n_done, 256 + 4);
    CHECK_INT(n_sources, 2);
}

/* What is behind the header is not looked at, and not counted. */
static void test_what_follows(void) {
    struct proxy_header found = {.len = 0};
    static const char bytes[] = SIGNATURE "\x21\x11\x00\x0c" V4 "POST / HTTP/1.1\r\n";
    CHECK_INT(proxy_header_read(slice_make(bytes, sizeof bytes - 1), &found), PROXY_DONE);
    CHECK_INT(found.len, 28);
    CHECK(found.has_source);
}

static void test_no_header(void) {
    static const struct slice others[] = {
        SLICE_INIT("PROXY TCP4 203.0.113.9 10.0.0.1 55555 443\r\n"),
        SLICE_INIT("PROXY UNKNOWN\r\n"),
        SLICE_INIT("POST /mcp HTTP/1.1\r\n"),
        SLICE_INIT("\x16\x03\x01\x02\x00\x01"),
        SLICE_INIT("\r\n\r\nGET / HTTP/1.1\r\n"),
        SLICE_INIT("\r\n\r\n\0\r\nQUIT\r"),
        SLICE_INIT("\r\n\r\n\0\r\nquit\n\x21\x11\0\0"),
        SLICE_INIT("\n"),
        SLICE_INIT("\0"),
    };
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        struct proxy_header found = {.len = 0};
        test_row(others[i].ptr);
        CHECK_INT(judge(others[i], &found), PROXY_REFUSED);
        CHECK_STR(slice_from_cstr(found.reason), "there is no PROXY header of version 2");
    }
    struct proxy_header found = {.len = 77};
    CHECK_INT(proxy_header_read(SLICE_EMPTY, &found), PROXY_NEED_MORE);
    CHECK_INT(found.len, 77);
}

TEST_MAIN(TEST(test_rows), TEST(test_every_command_and_family), TEST(test_what_follows),
          TEST(test_no_header))
