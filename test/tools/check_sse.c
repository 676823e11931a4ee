/* check-sse FILE...: whether the parser of server-sent events takes each file, whole, without
 * refusing. */
#include "base/compiler.h"
#include "check.h"
#include "http/sse.h"

static bool check(struct slice document, struct buf *reason) {
    CLEANUP(sse_parser_freep) struct sse_parser *parser = NULL;
    enum sse_result result = SSE_COMMENT;
    int r = sse_parser_new(LIMIT_UPSTREAM_MESSAGE, &parser);
    while (r == 0 && result != SSE_NEED_MORE && result != SSE_REFUSED) {
        struct sse_event event;
        size_t consumed = 0;
        r = sse_parser_feed(parser, document, &consumed, &result, &event);
        document = slice_from(document, consumed);
    }
    if (r != 0)
        buf_append_cstr(reason, "no memory");
    else if (result == SSE_REFUSED)
        buf_append_cstr(reason, sse_parser_reason(parser));
    return r == 0 && result == SSE_NEED_MORE;
}

int main(int argc, char **argv) {
    return check_main(argc, argv, check);
}
