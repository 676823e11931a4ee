/*
 * What the tiny servers say, whatever carries it: tiny_http over HTTP, tiny_server on stdio. They
 * trust their peer, which is the gateway: they look for words in a message instead of reading JSON.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { TINY_HEAD = 1 << 11 };

struct tiny_revisions {
    bool is_legacy, is_modern;
    bool has_sizes; /* beside echo, the tools small, medium, large and rows, for numbers */
};

/* One message in three parts, of which only the first is made anew each time. */
struct tiny_answer {
    int status;          /* of HTTP */
    bool is_opening;     /* the answer to initialize: a session begins */
    size_t head_len;     /* 0: there is no answer, as the message was a notification */
    const char *payload; /* forever there, or a part of the message */
    size_t payload_len;
    const char *tail; /* forever there */
    size_t tail_len;
    char head[TINY_HEAD];
};

/* Does the message say that it is of 2026-07-28? */
bool tiny_is_modern(const char *message);

/* The message ends with NUL. */
void tiny_answer(const struct tiny_revisions *revisions, const char *message,
                 struct tiny_answer *ret_answer);

/* Once, before the first answer, where there are sizes. */
void tiny_make_sizes(void);
