/*
 * Lines that come, the order in which they leave, and the end. Requests leave as they come and run
 * side by side; a legacy notification or answer, and initialize, has to be taken by the server
 * before the next message leaves, because POSTs overtake each other.
 */
#include <errno.h>

#include "base/mem.h"
#include "base/secret.h"
#include "io/file.h"
#include "private.h"

enum {
    MOST_RUNNING = 256,
    MOST_WAITING = 64, /* then the client is not read */
    END_MS = 10000,    /* for the answers to what a client asked that has closed its side */
    GOODBYE_MS = 2000, /* for the DELETE; and for what the client has still to read */
};
#define MOST_UNREAD MIB(1)

/* Toward the client. */

static void on_written(void *context) {
    struct bridge *bridge = context;
    if (bridge->is_flushing)
        io_timer_start(bridge->end_timer, 0);
    else if (bridge->is_flooded)
        bridge_pause(bridge, false);
    bridge_pump(bridge);
}

void bridge_write(struct bridge *bridge, struct slice json) {
    struct buf line CLEANUP(buf_deinit) = BUF_INIT(json.len + 1);
    buf_append(&line, json);
    mcp_make_one_line(&line, 0);
    if (buf_append_byte(&line, '\n') != 0 ||
        io_stream_write(bridge->out, buf_slice(&line), SIZE_MAX) != 0)
        bridge_fail(bridge, -EPIPE, "the client does not read any more");
    else if (!bridge->is_flooded && io_stream_queued(bridge->out) > MOST_UNREAD)
        bridge_pause(bridge, true);
}

/* What leaves. */

static bool may_leave(struct bridge *bridge) {
    size_t n = 0;
    LIST_FOREACH_SAFE (&bridge->running, link, tmp) {
        if (bridge_post_blocks(CONTAINER_OF(link, struct bridge_post, link)) || ++n == MOST_RUNNING)
            return false;
    }
    return true;
}

void bridge_pump(struct bridge *bridge) {
    struct list_link *link;
    if (bridge->error != 0 || bridge->is_saying_goodbye || bridge->transport == BRIDGE_OPENING_SSE)
        return;
    if (bridge->is_restarting && list_is_empty(&bridge->running))
        bridge_session_begin(bridge);
    while (!bridge->is_restarting && may_leave(bridge) &&
           (link = list_pop_front(&bridge->waiting)) != NULL) {
        list_push_back(&bridge->running, link);
        bridge->n_waiting--;
        bridge_post_start(CONTAINER_OF(link, struct bridge_post, link));
    }
    io_stream_read(bridge->in,
                   !bridge->is_ending && !bridge->is_flooded && bridge->n_waiting < MOST_WAITING);
}

/* Lines. */

static void refuse_line(struct bridge *bridge, const struct mcp_refusal *refusal) {
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
    if (mcp_write_error(&out, refusal->id, refusal->code, slice_from_cstr(refusal->reason),
                        SLICE_EMPTY) == 0)
        bridge_write(bridge, buf_slice(&out));
}

/* Cancelling a request of 2026-07-28 is closing its stream; before, the server is told, and does
 * not answer. True: it need not be sent. */
static bool take_cancelled(struct bridge *bridge, const struct mcp_message *message) {
    const struct json_node *id =
        message->params != NULL ? json_member(bridge->reader, message->params, SLICE("requestId"))
                                : NULL;
    if (id == NULL || (id->type != JSON_STRING && id->type != JSON_NUMBER))
        return false;
    struct bridge_post *post = bridge_post_find(&bridge->running, id->raw);
    struct bridge_post *waits = post == NULL ? bridge_post_find(&bridge->waiting, id->raw) : NULL;
    if (waits != NULL) {
        bridge->n_waiting--;
        bridge_post_free(waits);
        return true;
    }
    if (post == NULL || post->method == MCP_INITIALIZE)
        return buf_len(&bridge->modern_version) != 0 && post == NULL;
    bool is_modern = post->is_modern;
    post->is_answered = true;
    if (is_modern || post->waits_for_stream)
        bridge_post_free(post);
    return is_modern;
}

/* Of what kind it is. False: it has been refused, or need not be sent. */
static bool classify(struct bridge *bridge, struct bridge_post *post) {
    struct slice line = slice_make(post->line, post->len);
    struct mcp_message message;
    struct mcp_refusal refusal = {.code = MCP_E_INTERNAL, .reason = "out of memory"};
    post->is_batch = mcp_is_batch(line);
    if (post->is_batch) {
        if (json_read(bridge->reader, line, NULL, NULL, NULL) == 0)
            return true;
        refusal = (struct mcp_refusal){.code = MCP_E_PARSE, .reason = "this is no JSON"};
        refuse_line(bridge, &refusal);
        return false;
    }
    if (mcp_message_read(bridge->reader, line, &message, &refusal) != 0) {
        refuse_line(bridge, &refusal);
        return false;
    }
    post->kind = message.kind;
    post->method = message.method;
    post->id = message.kind == MCP_REQUEST ? message.id : SLICE_EMPTY;
    post->is_modern = mcp_has_envelope(bridge->reader, &message);
    return message.kind != MCP_NOTIFICATION || message.method != MCP_NOTIFY_CANCELLED ||
           !take_cancelled(bridge, &message);
}

static void take_line(struct bridge *bridge, struct slice line) {
    if (slice_ends_with(line, SLICE("\r")))
        line.len--;
    line = slice_trim(line);
    if (line.len == 0)
        return;
    struct bridge_post *post = bridge_post_new(bridge, line);
    if (post == NULL || !classify(bridge, post)) {
        bridge_post_free(post);
        return;
    }
    list_push_back(&bridge->waiting, &post->link);
    bridge->n_waiting++;
}

static void on_read(void *context, struct slice bytes) {
    struct bridge *bridge = context;
    size_t end = 0;
    while ((end = slice_find_byte(bytes, '\n')) != SIZE_MAX) {
        if (buf_append(&bridge->input, slice_sub(bytes, 0, end)) != 0) {
            bridge_fail(bridge, -EMSGSIZE, "the client sent a line that is too long");
            return;
        }
        struct buf line = bridge->input;
        buf_init(&bridge->input, LIMIT_UPSTREAM_MESSAGE);
        take_line(bridge, buf_slice(&line));
        buf_deinit(&line);
        bytes = slice_from(bytes, end + 1);
    }
    if (buf_append(&bridge->input, bytes) != 0)
        bridge_fail(bridge, -EMSGSIZE, "the client sent a line that is too long");
    bridge_settle(bridge);
}

/* A listen is never answered: it ends with whoever wanted it. */
static void drop_listens(struct list *list, size_t *ret_n) {
    LIST_FOREACH_SAFE (list, link, tmp) {
        struct bridge_post *post = CONTAINER_OF(link, struct bridge_post, link);
        if (post->method != MCP_SUBSCRIPTIONS_LISTEN)
            continue;
        bridge_post_free(post);
        (*ret_n)++;
    }
}

static void on_in_end(void *context, int error) {
    struct bridge *bridge = context;
    (void)error;
    struct buf line = bridge->input; /* a last one without its end */
    buf_init(&bridge->input, LIMIT_UPSTREAM_MESSAGE);
    take_line(bridge, buf_slice(&line));
    buf_deinit(&line);
    size_t n_running = 0, n_waiting = 0;
    drop_listens(&bridge->running, &n_running);
    drop_listens(&bridge->waiting, &n_waiting);
    bridge->n_waiting -= n_waiting;
    bridge->is_ending = true;
    if (!bridge->is_saying_goodbye)
        io_timer_start(bridge->end_timer, END_MS);
    bridge_settle(bridge);
}

static void on_out_end(void *context, int error) {
    struct bridge *bridge = context;
    (void)error;
    bridge_fail(bridge, -EPIPE, "the client does not read any more");
}

/* The end. Always from the timer: nothing that is at work sees it coming. */

static void end_soon(struct bridge *bridge) {
    bridge->is_ending = true;
    if (!bridge->is_saying_goodbye)
        io_timer_start(bridge->end_timer, 0);
}

void bridge_stop(struct bridge *bridge) {
    end_soon(bridge);
}

void bridge_fail(struct bridge *bridge, int error, const char *why) {
    if (bridge->error != 0 || bridge->is_saying_goodbye)
        return;
    log_write(bridge->log, LOG_ERROR, "connect", why);
    bridge->error = error;
    end_soon(bridge);
}

void bridge_settle(struct bridge *bridge) {
    bridge_pump(bridge);
    bool is_done = list_is_empty(&bridge->waiting) && list_is_empty(&bridge->running);
    if (bridge->is_saying_goodbye ? bridge->goodbye == NULL : bridge->is_ending && is_done)
        io_timer_start(bridge->end_timer, 0);
}

static void fail_all(struct list *list) {
    struct list_link *link;
    while ((link = list_pop_front(list)) != NULL)
        bridge_post_fail(CONTAINER_OF(link, struct bridge_post, link), MCP_E_UNAVAILABLE,
                         SLICE("the connection to the server has ended"));
}

static void on_end_timer(void *context) {
    struct bridge *bridge = context;
    if (!bridge->is_saying_goodbye) {
        bridge->is_saying_goodbye = true;
        fail_all(&bridge->running);
        fail_all(&bridge->waiting);
        if (bridge_session_goodbye(bridge)) {
            io_timer_start(bridge->end_timer, GOODBYE_MS);
            return;
        }
    }
    bridge->goodbye = client_cancel(bridge->goodbye);
    io_stream_flush(bridge->out);
    if (!bridge->is_flushing && io_stream_queued(bridge->out) != 0) {
        bridge->is_flushing = true;
        io_timer_start(bridge->end_timer, GOODBYE_MS);
        return;
    }
    bridge->on_end(bridge->context, bridge->error);
}

/* Its life. */

static int open_streams(struct bridge *bridge, int in_fd, int out_fd) {
    static const struct io_stream_events in_events = {.on_read = on_read, .on_end = on_in_end};
    static const struct io_stream_events out_events = {.on_end = on_out_end,
                                                       .on_drain = on_written};
    int error =
        io_stream_new(bridge->loop, IO_STREAM_PIPE, out_fd, &out_events, bridge, &bridge->out);
    if (error != 0) {
        io_fd_close(&in_fd);
        return error;
    }
    error = io_stream_new(bridge->loop, IO_STREAM_PIPE, in_fd, &in_events, bridge, &bridge->in);
    if (error == 0)
        io_stream_read(bridge->in, true);
    return error;
}

static int make(const struct bridge_options *options, struct bridge *bridge,
                const char **ret_reason) {
    struct client_options client_options = {
        .loop = options->loop, .log = options->log, .tls = options->tls};
    struct client_target_options target = {.url = options->url,
                                           .connect = options->connect,
                                           .connect_context = options->connect_context};
    int in_fd = options->in_fd, out_fd = options->out_fd;
    int error = client_target_new(&target, &bridge->target, ret_reason);
    if (error == 0)
        error = client_new(&client_options, &bridge->client);
    if (error == 0)
        error = json_reader_new(&bridge->reader);
    if (error == 0)
        error = json_reader_new(&bridge->second_reader);
    if (error == 0)
        error = buf_append(&bridge->url, options->url);
    if (error == 0)
        error = buf_append(&bridge->fields, options->fields);
    if (error == 0)
        return open_streams(bridge, in_fd, out_fd);
    io_fd_close(&in_fd);
    io_fd_close(&out_fd);
    return error;
}

int bridge_new(const struct bridge_options *options, struct bridge **ret_bridge,
               const char **ret_reason) {
    struct bridge *bridge = mem_xalloc(sizeof *bridge);
    *bridge = (struct bridge){.loop = options->loop,
                              .log = options->log,
                              .connect = options->connect,
                              .connect_context = options->connect_context,
                              .on_end = options->on_end,
                              .context = options->context};
    buf_init(&bridge->url, LIMIT_URI);
    buf_init(&bridge->fields, LIMIT_HTTP_HEADER_BLOCK);
    buf_init(&bridge->input, LIMIT_UPSTREAM_MESSAGE);
    buf_init(&bridge->modern_version, 64);
    list_init(&bridge->waiting);
    list_init(&bridge->running);
    map_init(&bridge->mirrors);
    bridge->end_timer = io_timer_new(options->loop, on_end_timer, bridge);
    int error = make(options, bridge, ret_reason);
    if (error != 0)
        bridge_free(bridge);
    else
        *ret_bridge = bridge;
    return error;
}

static void free_posts(struct list *list) {
    struct list_link *link;
    while ((link = list_pop_front(list)) != NULL)
        bridge_post_free(CONTAINER_OF(link, struct bridge_post, link));
}

struct bridge *bridge_free(struct bridge *bridge) {
    size_t cursor = 0;
    void *mirrors = NULL;
    if (bridge == NULL)
        return NULL;
    free_posts(&bridge->waiting);
    free_posts(&bridge->running);
    bridge_stream_close(bridge);
    bridge_session_forget(bridge);
    client_cancel(bridge->goodbye);
    client_free(bridge->client);
    client_target_free(bridge->target);
    client_target_free(bridge->endpoint);
    io_timer_free(bridge->end_timer);
    io_stream_free(bridge->in);
    io_stream_free(bridge->out);
    while (map_next(&bridge->mirrors, &cursor, NULL, &mirrors))
        bridge_mirrors_free(mirrors);
    map_deinit(&bridge->mirrors);
    json_reader_free(bridge->reader);
    json_reader_free(bridge->second_reader);
    secret_buf_deinit(&bridge->fields);
    buf_deinit(&bridge->url);
    buf_deinit(&bridge->input);
    buf_deinit(&bridge->modern_version);
    mem_free(bridge);
    return NULL;
}
