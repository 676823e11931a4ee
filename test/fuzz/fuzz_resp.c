/*
 * What must hold for replies of any bytes: in whatever pieces they come, the same is made of them;
 * what was read lies within its bounds; and a command that is written can be read again, as an
 * array of bulk strings. The first byte says the size of the pieces. A rule that breaks ends the
 * process.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/limits.h"
#include "resp/resp.h"
#include "trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

static void must_be_the_same(struct slice bytes, size_t piece) {
    struct buf whole CLEANUP(buf_deinit) = BUF_INIT(MIB(16));
    struct buf pieces CLEANUP(buf_deinit) = BUF_INIT(MIB(16));
    int expected = resp_trace(&whole, bytes, SIZE_MAX);
    MUST(expected == 0 || expected == -EPROTO);
    MUST(resp_trace(&pieces, bytes, piece) == expected);
    MUST(slice_eq(buf_slice(&whole), buf_slice(&pieces)));
}

/* The input as the arguments of a command, cut at its line ends. */
static void must_come_back(struct slice bytes) {
    enum { MAX = 16 };
    struct slice arguments[MAX], rest = bytes;
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    struct resp_reader *reader = NULL;
    struct resp_reply *reply = NULL;
    size_t n = 0;
    while (n < MAX && slice_cut(rest, '\n', &arguments[n], &rest))
        n++;
    MUST(resp_write_command(&out, arguments, n) == 0);
    if (buf_len(&out) > LIMIT_REDIS_REPLY)
        return;
    MUST(resp_reader_new(&reader) == 0);
    MUST(resp_feed(reader, buf_slice(&out)) == 0);
    MUST(resp_next(reader, &reply) == 0 && reply != NULL);
    MUST(resp_type(reply) == RESP_ARRAY && resp_count(reply) == n);
    for (size_t i = 0; i < n; i++) {
        MUST(resp_type(resp_at(reply, i)) == RESP_STRING);
        MUST(slice_eq(resp_text(resp_at(reply, i)), arguments[i]));
    }
    resp_reply_free(reply);
    MUST(resp_next(reader, &reply) == 0 && reply == NULL);
    resp_reader_free(reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0 || size > KIB(256))
        return 0;
    struct slice bytes = slice_make(data + 1, size - 1);
    if (size < KIB(16))
        must_be_the_same(bytes, 1);
    must_be_the_same(bytes, (size_t)data[0] + 2);
    must_come_back(bytes);
    return 0;
}
