/* What a reader makes of bytes that come in pieces, as text: the tests and the fuzz target compare.
 */
#pragma once

#include <errno.h>
#include <inttypes.h>

#include "base/buf.h"
#include "resp/resp.h"

static inline void resp_trace_reply(struct buf *out, const struct resp_reply *reply) {
    switch (resp_type(reply)) {
    case RESP_STRING:
    case RESP_STATUS:
    case RESP_ERROR:
        buf_append_byte(out, resp_type(reply) == RESP_STRING   ? '$'
                             : resp_type(reply) == RESP_STATUS ? '+'
                                                               : '-');
        buf_append(out, resp_text(reply));
        break;
    case RESP_INTEGER:
        buf_printf(out, ":%" PRId64, resp_integer(reply));
        break;
    case RESP_NIL:
        buf_append_cstr(out, "nil");
        break;
    case RESP_ARRAY:
        buf_append_byte(out, '[');
        for (size_t i = 0; i < resp_count(reply); i++)
            resp_trace_reply(out, resp_at(reply, i));
        buf_append_byte(out, ']');
        break;
    }
    buf_append_byte(out, ' ');
}

static inline int resp_trace(struct buf *out, struct slice bytes, size_t piece) {
    struct resp_reader *reader = NULL;
    struct resp_reply *reply = NULL;
    size_t at = 0;
    int error = resp_reader_new(&reader);
    while (error == 0 && at < bytes.len) {
        size_t len = bytes.len - at < piece ? bytes.len - at : piece;
        error = resp_feed(reader, slice_sub(bytes, at, at + len));
        at += len;
        while (error == 0) {
            error = resp_next(reader, &reply);
            if (error != 0 || reply == NULL)
                break;
            resp_trace_reply(out, reply);
            reply = resp_reply_free(reply);
        }
    }
    if (error != 0)
        buf_append_cstr(out, error == -EPROTO ? "EPROTO" : "ENOMEM");
    resp_reader_free(reader);
    return error;
}
