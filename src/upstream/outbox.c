#include "outbox.h"

#include <errno.h>

#include "base/limits.h"
#include "base/mem.h"

static void pump(struct outbox *outbox);

static void free_item(struct outbox_item *item) {
    list_remove(&item->link);
    item->outbox->n_own -= item->is_call ? 0 : 1;
    mem_free(item);
}

/* Its turn is over. */
static void finish(struct outbox_item *item) {
    struct outbox *outbox = item->outbox;
    bool was_prompt = item->is_prompt;
    free_item(item);
    if (!was_prompt)
        pump(outbox);
}

static void on_head(void *context, const struct http_head *head) {
    struct outbox_item *item = context;
    if (item->outbox->events->on_head != NULL)
        item->outbox->events->on_head(item, head);
}

static bool on_message(void *context, struct slice document) {
    struct outbox_item *item = context;
    struct outbox *outbox = item->outbox;
    if (outbox->is_closed || outbox->events->on_message == NULL ||
        !outbox->events->on_message(item, document))
        return false;
    finish(item);
    return true;
}

static void on_accepted(void *context) {
    struct outbox_item *item = context;
    item->post = NULL;
    finish(item);
}

/* Out of the list before its owner hears of it, who may close the box. */
static void on_end(void *context, const struct post_end *end) {
    struct outbox_item *item = context;
    struct outbox *outbox = item->outbox;
    bool was_prompt = item->is_prompt;
    item->post = NULL;
    if (outbox->is_closed)
        return;
    list_remove(&item->link);
    outbox->n_own -= item->is_call ? 0 : 1;
    outbox->events->on_end(item, end);
    mem_free(item);
    if (!was_prompt)
        pump(outbox);
}

static struct outbox_item *find_refused(struct outbox *outbox) {
    LIST_FOREACH_SAFE (&outbox->items, link, tmp) {
        struct outbox_item *item = CONTAINER_OF(link, struct outbox_item, link);
        if (item->is_refused)
            return item;
    }
    return NULL;
}

/* Outside of whoever sends them. */
static void on_timer(void *context) {
    struct outbox *outbox = context;
    struct post_end end = {.obstacle = POST_LACKS_TOKEN,
                           .lack = OAUTH_LACK_REFUSED,
                           .reason = "there is no access token of its user to ask with"};
    if (outbox->is_broken && !outbox->is_closed)
        outbox->events->on_broken(outbox->context);
    for (struct outbox_item *item; !outbox->is_closed && (item = find_refused(outbox)) != NULL;)
        on_end(item, &end);
}

/* What a call is sent with; else what the instance sends by itself is. */
static int start_post(struct outbox_item *item, const struct transport_message *message,
                      struct route *route) {
    static const struct post_events events = {
        .on_head = on_head,
        .on_message = on_message,
        .on_accepted = on_accepted,
        .on_end = on_end,
    };
    struct upstream_instance *instance = item->outbox->instance;
    const struct upstream_request *call = message != NULL ? message->call : NULL;
    CLEANUP(oauth_token_unrefp)
    struct oauth_token *own = call == NULL ? instance_token(instance) : NULL;
    struct post_options options = {
        .worker = instance->worker,
        .route = route,
        .method = HTTP_METHOD_POST,
        .mcp_method = item->is_answer ? MCP_METHOD_UNKNOWN : item->method,
        .body = slice_make(item->line, item->len),
        .token = own,
        .is_idempotent = item->id != 0, /* the handshake and lists change nothing */
        .is_letter = item->outbox->sends_letters,
        /* Else one that is never answered would keep all others waiting. */
        .most_ms = instance->upstream->config->startup_timeout_ms,
    };
    if (call != NULL) {
        options.fields = call->fields;
        options.has_rule_fields = instance->upstream->wants_caller_fields;
        options.token = call->token;
        options.is_idempotent = message->may_repeat;
        options.may_leave = call->may_leave;
        options.may_leave_context = call->may_leave_context;
        options.may_leave_value = call->may_leave_value;
        options.most_ms = 0; /* its own times are watched */
    }
    return post_start(&options, &events, item, &item->post);
}

/* `message`: of a call. Of what is no call, the timer tells the errors. */
static int start(struct outbox_item *item, const struct transport_message *message) {
    struct outbox *outbox = item->outbox;
    struct route *route = outbox->events->route_for(outbox->context, item);
    int error = start_post(item, message, route);
    route_unref(route);
    if (error == 0 || item->is_call)
        return error;
    item->is_refused = error == -EACCES;
    outbox->is_broken = outbox->is_broken || error != -EACCES;
    io_timer_start(outbox->timer, 0);
    return 0;
}

/* Starts the first one that waits for its turn. */
static void pump(struct outbox *outbox) {
    LIST_FOREACH_SAFE (&outbox->items, link, tmp) {
        struct outbox_item *item = CONTAINER_OF(link, struct outbox_item, link);
        if (item->is_prompt)
            continue; /* runs since it came */
        if (item->post == NULL && !item->is_refused && !outbox->is_closed)
            (void)!start(item, NULL);
        return;
    }
}

int outbox_send(struct outbox *outbox, const struct transport_message *message) {
    bool is_call = message->call != NULL;
    if (outbox->is_closed)
        return -EPIPE;
    if (!is_call && outbox->n_own >= LIMIT_SERVER_QUEUE)
        return -ENOBUFS;
    struct outbox_item *item = mem_alloc(sizeof *item + message->line.len);
    if (item == NULL)
        return -ENOMEM;
    *item = (struct outbox_item){
        .outbox = outbox,
        .id = message->id,
        .method = message->method,
        .is_answer = message->is_answer,
        .is_call = is_call,
        .is_prompt = is_call || message->is_answer || message->method == MCP_NOTIFY_CANCELLED ||
                     message->method == MCP_PING || message->method == MCP_RESOURCES_SUBSCRIBE ||
                     message->method == MCP_RESOURCES_UNSUBSCRIBE,
        .len = message->line.len,
    };
    memcpy(item->line, message->line.ptr, message->line.len);
    list_push_back(&outbox->items, &item->link);
    outbox->n_own += is_call ? 0 : 1;
    if (!item->is_prompt) {
        pump(outbox);
        return 0;
    }
    int error = start(item, message);
    if (error != 0)
        free_item(item);
    return error;
}

bool outbox_forget(struct outbox *outbox, uint64_t id) {
    LIST_FOREACH_SAFE (&outbox->items, link, tmp) {
        struct outbox_item *item = CONTAINER_OF(link, struct outbox_item, link);
        if (item->id != id)
            continue;
        bool has_left = post_has_left(item->post);
        item->post = post_let_go(item->post);
        finish(item);
        return has_left;
    }
    return true;
}

void outbox_close(struct outbox *outbox) {
    outbox->is_closed = true;
    io_timer_stop(outbox->timer);
    LIST_FOREACH_SAFE (&outbox->items, link, tmp) {
        struct outbox_item *item = CONTAINER_OF(link, struct outbox_item, link);
        item->post = post_cancel(item->post);
    }
}

void outbox_init(struct outbox *outbox, struct upstream_instance *instance,
                 const struct outbox_events *events, void *context) {
    *outbox = (struct outbox){.instance = instance, .events = events, .context = context};
    list_init(&outbox->items);
    outbox->timer = io_timer_new(instance->loop, on_timer, outbox);
}

void outbox_deinit(struct outbox *outbox) {
    outbox_close(outbox);
    LIST_FOREACH_SAFE (&outbox->items, link, tmp)
        free_item(CONTAINER_OF(link, struct outbox_item, link));
    io_timer_free(outbox->timer);
}
