/*
 * Commands: an array of bulk strings each (RESP2, "Sending commands to a Redis server"). Written
 * here, into our own buffer: hiredis' formatter wants arrays of pointers and a block of its own for
 * each command, and makes the same bytes (the unit test compares).
 */
#include "resp/resp.h"

static int write_header(struct buf *out, char kind, size_t n) {
    buf_append_byte(out, kind);
    buf_append_u64(out, n);
    return buf_append(out, SLICE("\r\n"));
}

int resp_write_command(struct buf *out, const struct slice *arguments, size_t n) {
    write_header(out, '*', n);
    for (size_t i = 0; i < n; i++) {
        write_header(out, '$', arguments[i].len);
        buf_append(out, arguments[i]);
        buf_append(out, SLICE("\r\n"));
    }
    return buf_error(out);
}
