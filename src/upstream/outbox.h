/*
 * What the home of an instance sends to an HTTP server. Requests of the handshake and notifications
 * go out one after the other, because POSTs that overtake each other would (a server takes nothing
 * before notifications/initialized). What is prompt goes out at once: answers to the server, which
 * may be waiting for one in the midst of an answer of its own, and calls and subscriptions, which
 * all come after the handshake.
 */
#pragma once

#include "private.h"

struct outbox;

struct outbox_item {
    struct list_link link; /* in outbox->items */
    struct outbox *outbox;
    struct post *post; /* running */
    uint64_t id;       /* of a request; else 0 */
    enum mcp_method method;
    bool is_answer, is_prompt, is_call;
    bool is_refused; /* there is no token to send it with */
    size_t len;
    char line[];
};

struct outbox_events {
    /* To where it is sent: a reference. */
    struct route *(*route_for)(void *context, const struct outbox_item *item);
    /* Those of post.h. The item is gone after on_end, and after on_message has said true. */
    void (*on_head)(struct outbox_item *item, const struct http_head *head);
    bool (*on_message)(struct outbox_item *item, struct slice document);
    void (*on_end)(struct outbox_item *item, const struct post_end *end);
    /* Something cannot be sent: there is no memory. Not from inside outbox_send(). */
    void (*on_broken)(void *context);
};

struct outbox {
    struct upstream_instance *instance;
    const struct outbox_events *events;
    void *context;
    bool sends_letters; /* see post.h */
    bool is_closed;
    struct list items;      /* in order; the first one that is not prompt runs, and all that are */
    size_t n_own;           /* of them that are no calls */
    struct io_timer *timer; /* items that cannot be sent */
    bool is_broken;
};

void outbox_init(struct outbox *outbox, struct upstream_instance *instance,
                 const struct outbox_events *events, void *context);
void outbox_deinit(struct outbox *outbox);
/* As transport_ops.send; of a call also -EACCES: it needs a token that it has not. */
MUST_CHECK int outbox_send(struct outbox *outbox, const struct transport_message *message);
/* As transport_ops.forget. */
bool outbox_forget(struct outbox *outbox, uint64_t id);
/* Nothing is sent any more, and no event follows. */
void outbox_close(struct outbox *outbox);
