/* Commands to bytes and bytes to replies: whole, a byte at a time, without memory, beyond bounds.
 */
#include <hiredis/hiredis.h>

#include "base/buf.h"
#include "base/limits.h"
#include "resp/resp.h"
#include "test.h"
#include "trace.h"

/* --- writing --- */

static void test_write(void) {
    static const struct {
        struct slice arguments[4];
        size_t n;
        const char *bytes;
    } cases[] = {
        {{SLICE_INIT("PING")}, 1, "*1\r\n$4\r\nPING\r\n"},
        {{SLICE_INIT("A"), SLICE_INIT(""), SLICE_INIT("x\r\ny")},
         3,
         "*3\r\n$1\r\nA\r\n$0\r\n\r\n$4\r\nx\r\ny\r\n"},
        {{SLICE_INIT("0123456789ab")}, 1, "*1\r\n$12\r\n0123456789ab\r\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        CHECK_INT(resp_write_command(&out, cases[i].arguments, cases[i].n), 0);
        CHECK_STR(buf_slice(&out), cases[i].bytes);
    }
}

/* hiredis' own formatter makes the same. */
static void test_write_as_hiredis(void) {
    static const struct slice arguments[] = {SLICE_INIT("EVALSHA"), SLICE_INIT("a\0b"),
                                             SLICE_INIT(""), SLICE_INIT("1000000000")};
    const char *pointers[ARRAY_LEN(arguments)];
    size_t lengths[ARRAY_LEN(arguments)];
    char *expected = NULL;
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    for (size_t i = 0; i < ARRAY_LEN(arguments); i++) {
        pointers[i] = arguments[i].ptr;
        lengths[i] = arguments[i].len;
    }
    long long n = redisFormatCommandArgv(&expected, ARRAY_LEN(arguments), pointers, lengths);
    REQUIRE(n > 0);
    CHECK_INT(resp_write_command(&out, arguments, ARRAY_LEN(arguments)), 0);
    CHECK_SLICE(buf_slice(&out), slice_make(expected, (size_t)n));
    redisFreeCommand(expected);
}

static void test_write_beyond(void) {
    static const struct slice arguments[] = {SLICE_INIT("PING")};
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(13);
    CHECK_INT(resp_write_command(&out, arguments, 1), -E2BIG);
    struct buf fits CLEANUP(buf_deinit) = BUF_INIT(14);
    CHECK_INT(resp_write_command(&fits, arguments, 1), 0);
}

/* --- reading --- */

static const struct {
    const char *name;
    struct slice bytes;
    const char *trace;
} replies[] = {
    {"status", SLICE_INIT("+OK\r\n"), "+OK "},
    {"empty status", SLICE_INIT("+\r\n"), "+ "},
    {"error", SLICE_INIT("-NOSCRIPT No matching script.\r\n"), "-NOSCRIPT No matching script. "},
    {"integers", SLICE_INIT(":0\r\n:-7\r\n:9223372036854775807\r\n"),
     ":0 :-7 :9223372036854775807 "},
    {"integer too large", SLICE_INIT(":9223372036854775808\r\n"), "EPROTO"},
    {"no integer", SLICE_INIT(":1x\r\n"), "EPROTO"},
    {"bulk", SLICE_INIT("$3\r\na\r\n\r\n"), "$a\r\n "},
    {"empty bulk", SLICE_INIT("$0\r\n\r\n"), "$ "},
    {"nil", SLICE_INIT("$-1\r\n*-1\r\n"), "nil nil "},
    {"negative bulk", SLICE_INIT("$-2\r\n"), "EPROTO"},
    {"negative array", SLICE_INIT("*-2\r\n"), "EPROTO"},
    {"array", SLICE_INIT("*2\r\n:1\r\n:250\r\n"), "[:1 :250 ] "},
    {"empty array", SLICE_INIT("*0\r\n"), "[] "},
    {"nested", SLICE_INIT("*3\r\n*1\r\n$1\r\nx\r\n*0\r\n$-1\r\n+next\r\n"),
     "[[$x ] [] nil ] +next "},
    {"seven deep", SLICE_INIT("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"),
     "[[[[[[[:1 ] ] ] ] ] ] ] "},
    {"nine deep", SLICE_INIT("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"),
     "EPROTO"},
    {"an array of more than a reply can hold", SLICE_INIT("*2147483647\r\n"), "EPROTO"},
    {"an array of more than an int", SLICE_INIT("*4294967297\r\n"), "EPROTO"},
    {"many arrays of many", SLICE_INIT("*20000\r\n*20000\r\n*20000\r\n*20000\r\n"), ""},
    {"not whole", SLICE_INIT("+OK\r\n$5\r\nab"), "+OK "},
    {"a length of many digits", SLICE_INIT("$99999999999999999999\r\n"), "EPROTO"},
    {"HTTP", SLICE_INIT("HTTP/1.1 400 Bad Request\r\n"), "EPROTO"},
    {"TLS", SLICE_INIT("\x15\x03\x01\x00\x02\x02\x46"), "EPROTO"},
    {"RESP3 map", SLICE_INIT("%1\r\n+a\r\n+b\r\n"), "EPROTO"},
    {"RESP3 double", SLICE_INIT(",1.5\r\n"), "EPROTO"},
    {"RESP3 push", SLICE_INIT(">1\r\n+a\r\n"), "EPROTO"},
    {"a reply, then garbage", SLICE_INIT("+OK\r\n\r\n"), "+OK EPROTO"},
};

static void test_replies(void) {
    for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
        static const size_t pieces[] = {SIZE_MAX, 1, 2, 3};
        test_row(replies[i].name);
        for (size_t k = 0; k < ARRAY_LEN(pieces); k++) {
            struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(64));
            (void)resp_trace(&out, replies[i].bytes, pieces[k]);
            CHECK_STR(buf_slice(&out), replies[i].trace);
        }
    }
}

static void memory_body(void *arg) {
    struct buf *out = arg;
    buf_reset(out, SIZE_MAX);
    (void)resp_trace(out, SLICE("*3\r\n*1\r\n$1\r\nx\r\n*0\r\n$-1\r\n+next\r\n-no\r\n:1\r\n"), 5);
}

static void test_without_memory(void) {
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    CHECK(buf_reserve(&out, KIB(1)) != NULL);
    test_torture(memory_body, &out);
    CHECK_STR(buf_slice(&out), "[[$x ] [] nil ] +next -no :1 ");
}

/* --- bounds --- */

static int read_bulk(size_t total, size_t piece, bool is_whole) {
    struct resp_reader *reader;
    struct resp_reply *reply = NULL;
    char *bytes CLEANUP(mem_freep) = mem_xalloc(total);
    char *text = bytes;
    int n = snprintf(text, 32, "$%zu\r\n", is_whole ? total - 10 : total + 5);
    CHECK_INT(n, 8);
    memset(text + n, 'x', total - (size_t)n);
    if (resp_reader_new(&reader) != 0)
        CANNOT_GO_ON();
    int error = 0;
    for (size_t at = 0; at < total && error == 0 && reply == NULL; at += piece) {
        size_t len = total - at < piece ? total - at : piece;
        error = resp_feed(reader, slice_make(text + at, len));
        if (error == 0)
            error = resp_next(reader, &reply);
    }
    if (error == 0 && is_whole)
        CHECK(reply != NULL && resp_text(reply).len == total - 10);
    if (error != 0) {
        CHECK(reply == NULL);
        CHECK_INT(resp_feed(reader, SLICE("+OK\r\n")), error); /* of no use any more */
        CHECK_INT(resp_next(reader, &reply), error);
    }
    resp_reply_free(reply);
    resp_reader_free(reader);
    return error;
}

static void test_length(void) {
    static const size_t pieces[] = {MIB(1), 4096, 1};
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        CHECK_INT(read_bulk(LIMIT_REDIS_REPLY, pieces[i], true), 0);
        CHECK_INT(read_bulk(LIMIT_REDIS_REPLY + 1, pieces[i], true), -EPROTO);
        CHECK_INT(read_bulk(LIMIT_REDIS_REPLY, pieces[i], false), 0);
        CHECK_INT(read_bulk(LIMIT_REDIS_REPLY + 1, pieces[i], false), -EPROTO);
    }
}

/* The bound is one reply's: more of them than that may come at once, and for ever. */
static void test_many(void) {
    struct buf bytes CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    struct resp_reader *reader;
    size_t n = 0;
    for (size_t i = 0; i < 20000; i++)
        buf_append(&bytes, SLICE("*2\r\n:0\r\n:0\r\n"));
    CHECK_INT(resp_reader_new(&reader), 0);
    for (int round = 0; round < 3; round++) {
        CHECK_INT(resp_feed(reader, buf_slice(&bytes)), 0);
        for (;;) {
            struct resp_reply *reply = NULL;
            CHECK_INT(resp_next(reader, &reply), 0);
            if (reply == NULL)
                break;
            n += resp_count(reply) == 2 && resp_integer(resp_at(reply, 1)) == 0;
            resp_reply_free(reply);
        }
    }
    CHECK_INT(n, 60000);
    resp_reader_free(reader);
}

TEST_MAIN(TEST(test_write), TEST(test_write_as_hiredis), TEST(test_write_beyond),
          TEST(test_replies), TEST(test_without_memory), TEST(test_length), TEST(test_many))
