/*
 * A request for subscriptions/listen, as the files see it that it is made of: listen.c sends it and
 * ends it, listen_news.c reads what it brings.
 */
#pragma once

#include "private.h"

struct listen {
    struct upstream_instance *instance;
    uint64_t id;
    struct post *post;    /* over HTTP */
    unsigned asked, told; /* lists: what it asks for, and what the server has acknowledged */
    bool is_acked;
    uint64_t acked_ms;
    size_t n_new; /* resources and tasks that it asks for and that were off */
    unsigned n_garbage;
};

/* listen.c */
void listen_log(const struct upstream_instance *instance, const char *text);
/* Tells a child that nobody wants it any more; an HTTP server sees its stream closed. NULL. */
struct listen *listen_leave(struct listen *listen);
/* What a filter calls the list: templates change with the resources. */
struct slice listen_key(enum mcp_list list);
/* ... and the array of resources, or of tasks. */
struct slice listen_topics_key(bool are_tasks);

/* listen_news.c */
/* `stream`: on which it came; NULL: a child's, on which all come. */
void listen_news(struct upstream_instance *instance, const struct listen *stream,
                 const struct mcp_message *message);
/* A next one will be asked for. There is no old one. */
void listen_asks(struct upstream_instance *instance);
/* There is no old one any more. `is_cut`: not because we left it. */
void listen_old_ended(struct upstream_instance *instance, bool is_cut);
