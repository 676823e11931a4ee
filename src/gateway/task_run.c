/*
 * Calls that their servers run as tasks, and whose clients know of none: they are of another era,
 * or have not asked for one. The client waits for its result, as for that of any call.
 *
 * A server of 2025-11-25 is asked for a task where a tool runs as one only; then one request waits
 * for the result. One of 2026-07-28 begins tasks by itself, and is asked how far it is in the time
 * that it wishes; input that it wants in between is asked of the client (input.c). All that lasts
 * no longer than max_timeout.
 *
 * Who does not wait any more, for whatever reason, has cancelled the task.
 */
#include <errno.h>

#include "base/mem.h"
#include "base/random.h"
#include "mcp/tasks.h"
#include "private.h"

struct gw_run {
    struct gw_worker *worker;
    struct gw_call *call;      /* of 2026-07-28; else it may be parked */
    struct upstream *upstream; /* a reference, as the next two */
    struct upstream_instance *instance;
    struct oauth_token *token;  /* NULL: none */
    enum mcp_revision revision; /* of the server */
    enum mcp_revision client;
    unsigned capabilities;
    uintptr_t asker;
    uint64_t first_id, ends_ms, poll_ms;
    bool is_task, is_over, is_updating, has_followed;
    unsigned n_failures;
    struct upstream_call *poll; /* tasks/get or tasks/update */
    struct io_timer *timer;     /* until the next one */
    struct buf id;              /* of the task, unescaped */
    struct buf keys;            /* of input that it has got */
    struct buf line;            /* that the call was sent with */
};

int gw_run_new(struct gw_call *call, struct upstream *upstream, struct upstream_instance *instance,
               struct oauth_token *token, struct slice line, uint64_t id) {
    struct gw_run *run = mem_alloc(sizeof *run);
    if (run == NULL)
        return -ENOMEM;
    const struct config_server *config = upstream_config(upstream);
    *run = (struct gw_run){
        .worker = call->worker,
        .call = call,
        .upstream = upstream_ref(upstream),
        .instance = upstream_instance_ref(instance),
        .token = token != NULL ? oauth_token_ref(token) : NULL,
        .revision = call->upstream_revision,
        .client = call->revision,
        .capabilities = call->capabilities,
        .asker = call->session != NULL ? (uintptr_t)call->session : (uintptr_t)call,
        .first_id = id,
        .ends_ms = io_loop_now(call->worker->loop) + config->call_total_timeout_ms,
    };
    buf_init(&run->id, LIMIT_TASK_ID);
    buf_init(&run->keys, LIMIT_TASK_KEYS);
    buf_init(&run->line, line.len);
    call->run = run;
    return buf_append(&run->line, line); /* freed with the call */
}

struct slice gw_run_line(const struct gw_run *run) {
    return buf_slice(&run->line);
}

bool gw_run_is_task(const struct gw_run *run) {
    return run != NULL && run->is_task;
}

void gw_run_end(struct gw_run *run) {
    if (run != NULL)
        run->is_over = true;
}

/* --- requests of ours --- */

/* NULL: there is no memory. */
static struct upstream_call *request(const struct gw_run *run, enum mcp_method method,
                                     struct slice responses,
                                     const struct upstream_call_events *events, void *context) {
    struct gw_task_request what = {
        .worker = run->worker,
        .upstream = run->upstream,
        .instance = run->instance,
        .token = run->token,
        .revision = run->revision,
        .client = run->client,
        .capabilities = run->capabilities,
        .asker = run->asker,
        .first_id = run->first_id,
        .method = method,
        .id = buf_slice(&run->id),
        .responses = responses,
    };
    return gw_task_request(&what, events, context);
}

static void ignore_note(void *context, enum mcp_method method, struct slice params) {
    (void)context;
    (void)method;
    (void)params;
}

static void ignore_end(void *context, enum upstream_outcome outcome, struct slice bytes) {
    (void)context;
    (void)outcome;
    (void)bytes;
}

struct gw_run *gw_run_free(struct gw_run *run) {
    static const struct upstream_call_events nobody = {.on_notification = ignore_note,
                                                       .on_done = ignore_end};
    if (run == NULL)
        return NULL;
    if (run->poll != NULL)
        upstream_call_cancel(run->poll, SLICE_EMPTY);
    if (run->is_task && !run->is_over && !run->worker->is_ended)
        (void)!request(run, MCP_TASKS_CANCEL, SLICE_EMPTY, &nobody, NULL);
    io_timer_free(run->timer);
    buf_deinit(&run->id);
    buf_deinit(&run->keys);
    buf_deinit(&run->line);
    oauth_token_unref(run->token);
    upstream_instance_unref(run->instance);
    upstream_unref(run->upstream);
    mem_free(run);
    return NULL;
}

/* It is one, and has an id that is short enough. */
static bool take_created(struct gw_run *run, struct slice result) {
    struct mcp_task task;
    if (run->is_task ||
        !mcp_task_read_created(run->worker->second_reader, result, run->revision, &task) ||
        json_string_append(&run->id, task.id) != 0 || buf_len(&run->id) == 0)
        return false;
    run->is_task = true;
    run->poll_ms = task.poll_ms;
    return true;
}

/* --- 2025-11-25 --- */

struct upstream_call *gw_run_follow(struct gw_run *run, struct slice result,
                                    const struct upstream_call_events *events, void *context) {
    if (!take_created(run, result))
        return NULL;
    struct upstream_call *next = request(run, MCP_TASKS_RESULT, SLICE_EMPTY, events, context);
    run->has_followed = next != NULL;
    return next;
}

bool gw_run_is_lost(const struct gw_run *run) {
    return run->is_task && !run->has_followed && !mcp_revision_is_modern(run->revision);
}

/* --- 2026-07-28 --- */

static void poll_now(struct gw_run *run);

static void on_timer(void *context) {
    poll_now(context);
}

/* Not all at the same moment that began at the same moment. */
static uint64_t with_jitter(uint64_t ms) {
    uint32_t random;
    random_bytes((char *)&random, sizeof random);
    return ms + random % (ms / 5 + 1);
}

static void poll_soon(struct gw_run *run) {
    uint64_t now = io_loop_now(run->worker->loop), wait = with_jitter(run->poll_ms);
    if (now >= run->ends_ms) {
        gw_call_refuse(run->call, MCP_E_TIMEOUT,
                       SLICE("the upstream did not end its task in time (max_timeout)"));
        return;
    }
    if (run->timer == NULL)
        run->timer = io_timer_new(run->worker->loop, on_timer, run);
    io_timer_start(run->timer, wait < run->ends_ms - now ? wait : run->ends_ms - now);
}

static void refuse_task(struct gw_run *run, const char *reason) {
    gw_call_refuse(run->call, MCP_E_UNAVAILABLE, slice_from_cstr(reason));
}

static void take_state(struct gw_run *run, struct slice result, unsigned http_status) {
    struct gw_call *call = run->call;
    struct mcp_task task;
    if (!mcp_task_read(run->worker->second_reader, result, &task) ||
        !json_string_is(task.id, buf_slice(&run->id))) {
        refuse_task(run, "the upstream has answered with no task, or another one than was asked "
                         "for");
        return;
    }
    run->poll_ms = task.poll_ms;
    switch (task.status) {
    case MCP_TASK_WORKING:
        poll_soon(run);
        return;
    case MCP_TASK_INPUT_REQUIRED:
        if (task.input == NULL || !gw_call_ask_for_task(call, task.input))
            poll_soon(run);
        return;
    case MCP_TASK_COMPLETED:
        gw_run_end(run);
        if (task.result.len == 0)
            refuse_task(run, "the upstream's task is complete, and has no result");
        else
            gw_call_finish(call, UPSTREAM_RESULT, task.result, http_status);
        return;
    case MCP_TASK_FAILED:
        gw_run_end(run);
        if (task.error.len == 0)
            refuse_task(run, "the upstream's task has failed");
        else
            gw_call_finish(call, UPSTREAM_ERROR, task.error, http_status);
        return;
    case MCP_TASK_CANCELLED:
        gw_run_end(run);
        refuse_task(run, "the upstream has cancelled the task");
        return;
    }
}

/* Of tasks/get and tasks/update. */
static void on_polled(void *context, enum upstream_outcome outcome, struct slice bytes) {
    struct gw_run *run = context;
    unsigned http_status = upstream_call_http_status(TAKE(run->poll));
    bool is_update = run->is_updating;
    run->is_updating = false;
    if (outcome == UPSTREAM_RESULT || outcome == UPSTREAM_ERROR)
        run->n_failures = 0;
    bool is_lost = outcome != UPSTREAM_RESULT && outcome != UPSTREAM_ERROR;
    if (outcome == UPSTREAM_RESULT && !is_update)
        take_state(run, bytes, http_status);
    else if (outcome == UPSTREAM_ERROR ||
             (is_lost && (is_update || ++run->n_failures >= LIMIT_TASK_POLL_FAILURES)))
        gw_call_finish(run->call, outcome, bytes, http_status);
    else
        poll_soon(run);
}

static const struct upstream_call_events poll_events = {.on_notification = ignore_note,
                                                        .on_done = on_polled};

static void send(struct gw_run *run, enum mcp_method method, struct slice responses) {
    run->poll = request(run, method, responses, &poll_events, run);
    if (run->poll == NULL)
        gw_call_refuse(run->call, MCP_E_INTERNAL, SLICE("the gateway is out of memory"));
}

static void poll_now(struct gw_run *run) {
    send(run, MCP_TASKS_GET, SLICE_EMPTY);
}

bool gw_run_take(struct gw_call *call, struct slice result) {
    struct gw_run *run = call->run;
    if (!take_created(run, result))
        return false;
    poll_soon(run);
    return true;
}

void gw_run_update(struct gw_call *call) {
    struct gw_run *run = call->run;
    run->is_updating = true;
    send(run, MCP_TASKS_UPDATE, gw_call_input_responses(call));
}

/* As written (another spelling is another key), between line ends, which no key has. */
static int mark(struct buf *out, struct slice key) {
    buf_append_byte(out, '\n');
    buf_append(out, key);
    return buf_append_byte(out, '\n');
}

bool gw_run_knows_key(const struct gw_run *run, struct slice key) {
    struct buf marked CLEANUP(buf_deinit) = BUF_INIT(key.len + 2);
    return run != NULL && mark(&marked, key) == 0 &&
           slice_find(buf_slice(&run->keys), buf_slice(&marked)) != SIZE_MAX;
}

int gw_run_note_key(struct gw_run *run, struct slice key) {
    return mark(&run->keys, key);
}
