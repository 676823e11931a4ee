/*
 * check-http FILE...: whether each file is a row of whole, well-formed HTTP/1.1 requests, or of
 * responses when its name ends with ".response" or its content begins with "HTTP/". Nothing may be
 * left over. With the default limits; all responses answer GET.
 */
#include "base/compiler.h"
#include "check.h"
#include "http/message.h"

static bool refuse(struct buf *reason, const struct http_parser *parser) {
    struct http_refusal refusal = http_parser_refusal(parser);
    buf_printf(reason, "%u %s", (unsigned)refusal.status, refusal.reason);
    return false;
}

/* The end of the file is the end of the connection. */
static bool check_end(struct http_parser *parser, size_t messages, struct buf *reason) {
    switch (http_parser_eof(parser)) {
    case HTTP_END:
        return true;
    case HTTP_NEED_MORE:
        if (messages > 0)
            return true;
        break;
    case HTTP_REFUSED:
    case HTTP_HEAD:
    case HTTP_DATA:
        break;
    }
    buf_append_cstr(reason, "incomplete");
    return false;
}

static bool check_messages(enum http_role role, struct slice document, struct buf *reason) {
    CLEANUP(http_parser_freep) struct http_parser *parser = NULL;
    size_t messages = 0;
    int r = http_parser_new(role, NULL, &parser);
    while (r == 0) {
        enum http_event event;
        struct slice data;
        size_t consumed;
        r = http_parser_feed(parser, document, &consumed, &event, &data);
        if (r != 0)
            break;
        document = slice_from(document, consumed);
        if (event == HTTP_REFUSED)
            return refuse(reason, parser);
        if (event == HTTP_NEED_MORE)
            return check_end(parser, messages, reason);
        if (event == HTTP_END) {
            http_parser_next(parser);
            messages++;
        }
    }
    buf_append_cstr(reason, "no memory");
    return false;
}

static bool check_responses(struct slice document, struct buf *reason) {
    return check_messages(HTTP_RESPONSES, document, reason);
}

static bool check_by_content(struct slice document, struct buf *reason) {
    bool is_response = slice_starts_with(document, SLICE("HTTP/"));
    return check_messages(is_response ? HTTP_RESPONSES : HTTP_REQUESTS, document, reason);
}

int main(int argc, char **argv) {
    return check_main_by_name(argc, argv, ".response", check_responses, check_by_content);
}
