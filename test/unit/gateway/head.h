/* Heads of requests for the tests, read by the parser as they come in. */
#pragma once

#include "base/buf.h"
#include "http/message.h"
#include "test.h"

static struct http_parser *new_parser(void) {
    struct http_parser *parser = NULL;
    if (http_parser_new(HTTP_REQUESTS, NULL, &parser) != 0)
        CANNOT_GO_ON();
    return parser;
}

/* The head of one request with these lines behind the first; NULL: the parser refuses it. */
static const struct http_head *read_head(struct http_parser *parser, const char *first,
                                         const char *fields) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(32));
    enum http_event event = HTTP_NEED_MORE;
    struct slice data;
    size_t consumed;
    buf_printf(&text, "%s\r\n%s\r\n", first, fields);
    if (buf_error(&text) != 0 ||
        http_parser_feed(parser, buf_slice(&text), &consumed, &event, &data) != 0)
        CANNOT_GO_ON();
    return event == HTTP_HEAD ? http_parser_head(parser) : NULL;
}
