/*
 * split-http: where our parser ends one HTTP/1.1 request and begins the next. Reads documents from
 * stdin, each behind its length (four bytes, the most significant first), as if each were all that
 * came on a connection, and prints one line for each:
 *
 *     END [METHOD TARGET LENGTH HASH]...
 *
 * END is "whole" when nothing is left over, "part" when the last request is not whole, else the
 * status of the refusal; then there are four words for every whole request: the method, the target,
 * and the body without its framing, by length and FNV-1a hash (64 bits). So that another parser can
 * be compared with it. What follows a request that closes the connection is read too.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/limits.h"
#include "base/mem.h"
#include "http/message.h"

#define DOCUMENT_MAX MIB(16)
#define LINE_MAX_LEN MIB(4)

struct body {
    uint64_t len, hash;
};

static const struct body no_body = {.len = 0, .hash = 0xcbf29ce484222325};

static void add(struct body *body, struct slice bytes) {
    body->len += bytes.len;
    for (size_t i = 0; i < bytes.len; i++)
        body->hash = (body->hash ^ (unsigned char)bytes.ptr[i]) * 0x100000001b3;
}

/* Appends the requests to `line`; *ret_end is the first word. 0, or -ENOMEM. */
MUST_CHECK static int split(struct slice document, struct buf *line, char ret_end[8]) {
    CLEANUP(http_parser_freep) struct http_parser *parser = NULL;
    struct body body = no_body;
    int r = http_parser_new(HTTP_REQUESTS, NULL, &parser);
    while (r == 0) {
        const struct http_head *head;
        enum http_event event;
        struct slice data;
        size_t consumed;
        r = http_parser_feed(parser, document, &consumed, &event, &data);
        if (r != 0)
            break;
        document = slice_from(document, consumed);
        switch (event) {
        case HTTP_HEAD:
            body = no_body;
            break;
        case HTTP_DATA:
            add(&body, data);
            break;
        case HTTP_END:
            head = http_parser_head(parser);
            r = buf_printf(line, " %.*s %.*s %" PRIu64 " %" PRIx64, SLICE_ARGS(head->method_text),
                           SLICE_ARGS(head->target), body.len, body.hash);
            http_parser_next(parser);
            break;
        case HTTP_NEED_MORE:
            snprintf(ret_end, 8, "%s", http_parser_in_message(parser) ? "part" : "whole");
            return 0;
        case HTTP_REFUSED:
            snprintf(ret_end, 8, "%u", (unsigned)http_parser_refusal(parser).status);
            return 0;
        }
    }
    return r;
}

/* False: the input ended, in the midst of a document or before one. */
static bool read_document(char **ret_bytes, size_t *ret_len) {
    unsigned char length[4];
    if (fread(length, 1, sizeof length, stdin) != sizeof length)
        return false;
    size_t len = (size_t)length[0] << 24 | (size_t)length[1] << 16 | (size_t)length[2] << 8 |
                 (size_t)length[3];
    char *bytes = len <= DOCUMENT_MAX ? mem_alloc(len) : NULL;
    if (bytes == NULL || fread(bytes, 1, len, stdin) != len) {
        mem_free(bytes);
        return false;
    }
    *ret_bytes = bytes;
    *ret_len = len;
    return true;
}

int main(void) {
    char *bytes;
    size_t len;
    while (read_document(&bytes, &len)) {
        struct buf line CLEANUP(buf_deinit) = BUF_INIT(LINE_MAX_LEN);
        char end[8] = "";
        int r = split(slice_make(bytes, len), &line, end);
        mem_free(bytes);
        if (r != 0) {
            fprintf(stderr, "split-http: a line of more than %d bytes, or no memory\n",
                    (int)LINE_MAX_LEN);
            return 1;
        }
        printf("%s", end);
        fwrite(buf_slice(&line).ptr, 1, buf_len(&line), stdout);
        printf("\n");
    }
    return fflush(stdout) == 0 && feof(stdin) ? 0 : 1;
}
