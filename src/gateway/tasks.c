/*
 * Tasks of one era on both sides: requests about them go to the instance that their id names
 * (task_id.c), and ids are others on the way to the client and back.
 *
 * A list has a page of each server, one server after the other, of the tasks that the instance of
 * this caller knows. Of a server that all callers share it would tell each of the others' tasks:
 * there it is none.
 */
#include "mcp/tasks.h"

#include <errno.h>

#include "base/mem.h"
#include "mcp/capabilities.h"
#include "private.h"

/* In front of a server's own cursor in ours, which has nothing where a server's list begins. */
enum { CURSOR_MARK = '=' };

/* --- ids --- */

struct slice gw_call_endpoint(const struct gw_call *call) {
    return call->only != NULL ? upstream_name(call->only) : SLICE_EMPTY;
}

void gw_call_set_home(struct gw_call *call, const struct upstream *upstream,
                      unsigned capabilities) {
    enum config_share share = upstream_config(upstream)->share;
    struct gw_call_home *home = &call->home;
    home->is_session = share == CONFIG_SHARE_SESSION && call->session != NULL;
    home->capabilities = share == CONFIG_SHARE_ALL ? 0 : capabilities;
    if (slice_to_cstr(upstream_name(upstream), home->upstream, sizeof home->upstream) != 0)
        home->upstream[0] = '\0'; /* never: a server's name fits */
}

static struct gw_task_home home_of(const struct gw_call *call) {
    return (struct gw_task_home){
        .upstream = slice_from_cstr(call->home.upstream),
        .session = call->home.is_session ? slice_from_cstr(call->session->id) : SLICE_EMPTY,
        .capabilities = call->home.capabilities,
    };
}

/* A mcp_task_rename_fn: the client's id for the server's. */
static int write_ours(void *context, const struct json_node *id, struct buf *out) {
    const struct gw_task_reader *whose = context;
    struct buf own CLEANUP(buf_deinit) = BUF_INIT(LIMIT_TASK_ID);
    if (json_string_append(&own, id) != 0 || buf_len(&own) == 0)
        return -EINVAL;
    struct gw_task_name name = {.kind = whose->kind, .home = whose->home, .id = buf_slice(&own)};
    buf_append_byte(out, '"');
    int error = gw_task_seal(whose->gateway, whose->principal, whose->endpoint, &name, out);
    return error != 0 ? error : buf_append_byte(out, '"');
}

int gw_task_rename(const struct gw_task_reader *whose, struct json_reader *reader, unsigned places,
                   struct slice text, struct buf *out) {
    struct gw_task_reader copy = *whose;
    return mcp_tasks_rename(out, reader, text, places, write_ours, &copy);
}

/* And back. One that is none of ours stays: the server has not given it. */
static int write_theirs(void *context, const struct json_node *id, struct buf *out) {
    const struct gw_call *call = context;
    struct buf memory CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    struct gw_task_name name;
    struct json_writer writer;
    if (gw_task_open(call->worker->gateway, call->principal->id, gw_call_endpoint(call),
                     json_string_raw(id), &memory, &name) != 0 ||
        name.kind != GW_TASK_LEGACY ||
        !slice_eq(name.home.upstream, slice_from_cstr(call->home.upstream)))
        return buf_append(out, id->raw);
    json_writer_init(&writer, out);
    json_string(&writer, name.id);
    return buf_error(out);
}

static struct slice rename_ids(struct gw_call *call, unsigned places, struct slice text,
                               struct buf *out) {
    struct gw_task_reader whose = {
        .gateway = call->worker->gateway,
        .principal = call->principal->id,
        .endpoint = gw_call_endpoint(call),
        .kind = mcp_revision_is_modern(call->revision) ? GW_TASK_MODERN : GW_TASK_LEGACY,
        .home = home_of(call),
    };
    if (!mcp_tasks_possible(text))
        return text;
    int error = gw_task_rename(&whose, call->worker->second_reader, places, text, out);
    return error == 0 ? buf_slice(out) : (struct slice){.ptr = NULL};
}

struct slice gw_task_told(struct gw_call *call, unsigned places, struct slice text,
                          struct buf *out) {
    if (call->upstream_revision != MCP_2025_11_25)
        return text;
    if (call->revision == MCP_2025_11_25)
        return rename_ids(call, places, text, out);
    if (!mcp_tasks_possible(text))
        return text;
    int error = mcp_tasks_strip(out, call->worker->second_reader, text);
    return error == 0 ? buf_slice(out) : (struct slice){.ptr = NULL};
}

struct slice gw_task_said(struct gw_call *call, struct slice text, struct buf *out) {
    if (call->upstream_revision != MCP_2025_11_25 || call->revision != MCP_2025_11_25)
        return text;
    if (!mcp_tasks_possible(text))
        return text;
    int error = mcp_tasks_rename(out, call->worker->second_reader, text, MCP_TASK_RELATED,
                                 write_theirs, call);
    return error == 0 ? buf_slice(out) : text; /* the server makes of it what it can */
}

static unsigned places_of(const struct gw_call *call) {
    switch ((int)call->method) {
    case MCP_TOOLS_CALL:
        return MCP_TASK_RELATED | (call->asked_for_task ? MCP_TASK_CREATED : 0u);
    case MCP_TASKS_GET:
    case MCP_TASKS_UPDATE:
    case MCP_TASKS_CANCEL:
        return MCP_TASK_AT_ROOT | MCP_TASK_RELATED;
    case MCP_TASKS_LIST:
        return MCP_TASK_LISTED;
    default:
        return MCP_TASK_RELATED;
    }
}

static struct slice answer_modern(struct gw_call *call, struct slice result, struct buf *out) {
    bool is_task =
        call->method == MCP_TOOLS_CALL && mcp_result_is_task(call->worker->second_reader, result);
    if (is_task && !call->takes_task)
        return (struct slice){.ptr = NULL}; /* it must not be told of one */
    return is_task || mcp_method_is_of_tasks(call->method)
               ? rename_ids(call, MCP_TASK_AT_ROOT, result, out)
               : result;
}

struct slice gw_task_answer(struct gw_call *call, struct slice result, struct buf *out) {
    if (mcp_revision_is_modern(call->upstream_revision) && mcp_revision_is_modern(call->revision))
        return answer_modern(call, result, out);
    return gw_task_told(call, places_of(call), result, out);
}

/* --- tokens of progress --- */

/* Those of the last calls that asked for tasks; session->mutex. */
struct gw_task_tokens {
    size_t next;
    struct task_token {
        uint64_t id;
        char *token; /* owned */
        size_t len;
    } items[LIMIT_TASK_TOKENS];
};

void gw_task_tokens_free(struct gw_task_tokens *tokens) {
    for (size_t i = 0; tokens != NULL && i < LIMIT_TASK_TOKENS; i++)
        mem_free(tokens->items[i].token);
    mem_free(tokens);
}

void gw_task_note_token(const struct gw_call *call, uint64_t id) {
    struct gw_session *session = call->session;
    char *copy = call->token != NULL ? mem_alloc(call->token_len) : NULL;
    if (copy == NULL)
        return; /* nothing is told, then */
    memcpy(copy, call->token, call->token_len);
    pthread_mutex_lock(&session->mutex);
    if (session->task_tokens == NULL)
        session->task_tokens = mem_xalloc(sizeof *session->task_tokens);
    struct gw_task_tokens *tokens = session->task_tokens;
    struct task_token *place = &tokens->items[tokens->next++ % LIMIT_TASK_TOKENS];
    char *before = place->token;
    *place = (struct task_token){.id = id, .token = copy, .len = call->token_len};
    pthread_mutex_unlock(&session->mutex);
    mem_free(before);
}

bool gw_task_find_token(const struct gw_call *call, struct slice id, struct buf *out) {
    struct gw_session *session = call->session;
    uint64_t number;
    bool has_found = false;
    if (session == NULL || slice_to_u64(id, &number) != 0 || number == 0)
        return false;
    pthread_mutex_lock(&session->mutex);
    const struct gw_task_tokens *tokens = session->task_tokens;
    for (size_t i = 0; tokens != NULL && i < LIMIT_TASK_TOKENS && !has_found; i++) {
        const struct task_token *at = &tokens->items[i];
        has_found = at->id == number && buf_append(out, slice_make(at->token, at->len)) == 0;
    }
    pthread_mutex_unlock(&session->mutex);
    return has_found;
}

/* --- requests --- */

struct request {
    const struct mcp_message *message;
    const struct json_node
        *node;         /* of params: taskId, or cursor; NULL: a list from its beginning */
    struct buf memory; /* of name */
    struct gw_task_name name;
    const struct upstream *upstream;
    struct upstream_instance *instance; /* a reference */
    struct catalog *catalog;            /* a reference; NULL: it has not been up yet */
    uint64_t patience_ms;
};

static void deinit(struct request *request) {
    buf_deinit(&request->memory);
    upstream_instance_unref(request->instance);
    catalog_unref(request->catalog);
}

/* Whatever is wrong with the id, it is the same to the caller. False: always. */
static bool refuse_unknown(struct gw_call *call) {
    gw_call_answer_error(call, MCP_E_INVALID_PARAMS,
                         call->method == MCP_TASKS_LIST ? SLICE("cursor is not one of this list's")
                                                        : SLICE("unknown task"),
                         SLICE_EMPTY);
    return false;
}

static bool refuse_memory(struct gw_call *call) {
    gw_call_answer_error(call, MCP_E_INTERNAL, SLICE("the gateway is out of memory"), SLICE_EMPTY);
    return false;
}

static bool refuse_method(struct gw_call *call) {
    gw_call_answer_error(call, MCP_E_METHOD_NOT_FOUND, SLICE("Method not found"), SLICE_EMPTY);
    return false;
}

bool gw_task_check_declared(struct gw_call *call) {
    if (call->takes_task || !mcp_revision_is_modern(call->revision))
        return true;
    gw_call_answer_error(
        call, MCP_E_MISSING_CAPABILITY,
        SLICE("the client has not declared the extension io.modelcontextprotocol/tasks on this "
              "request"),
        SLICE(
            "{\"requiredCapabilities\":{\"extensions\":{\"io.modelcontextprotocol/tasks\":{}}}}"));
    return false;
}

/* The upstream of that name, if the caller may know of it here. */
static struct upstream *find_upstream(const struct gw_call *call, struct slice name) {
    return gw_task_upstream(call->worker, call->exchange->caller, call->only, name);
}

/* Starts it when it has never been up. False: the call has been refused. */
static bool find_instance(struct gw_call *call, struct request *request,
                          struct upstream *upstream) {
    struct upstream_status status;
    int error = gw_task_instance(call->worker, call->exchange->caller, upstream,
                                 &request->name.home, &request->instance);
    if (error == UPSTREAM_E_ROOM)
        gw_call_refuse(call, MCP_E_UNAVAILABLE, SLICE(UPSTREAM_LACKS_ROOM));
    else if (error == -ECANCELED)
        gw_call_refuse(call, MCP_E_UNAVAILABLE, SLICE("the upstream is stopping"));
    else if (error != 0)
        refuse_memory(call);
    if (error != 0)
        return false;
    upstream_instance_status(request->instance, &status);
    request->upstream = upstream;
    request->catalog = status.catalog;
    if (status.catalog == NULL) {
        upstream_instance_start(request->instance);
        request->patience_ms = upstream_config(upstream)->startup_timeout_ms;
    }
    return true;
}

/* Empty: its instance is the principal's. */
static struct slice session_of(const struct gw_call *call, const struct upstream *upstream) {
    bool has_own =
        upstream_config(upstream)->share == CONFIG_SHARE_SESSION && call->session != NULL;
    return has_own ? slice_from_cstr(call->session->id) : SLICE_EMPTY;
}

/* By what the client got. False: the call has been refused. */
static bool open_name(struct gw_call *call, struct request *request, enum gw_task_kind kind) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(LIMIT_TASK_NAME);
    if (json_string_append(&text, request->node) != 0)
        return refuse_unknown(call);
    int error = gw_task_open(call->worker->gateway, call->principal->id, gw_call_endpoint(call),
                             buf_slice(&text), &request->memory, &request->name);
    if (error != 0 && error != GW_E_STATE)
        return refuse_memory(call);
    struct upstream *upstream = error == 0 && request->name.kind == kind
                                    ? find_upstream(call, request->name.home.upstream)
                                    : NULL;
    if (upstream == NULL || !slice_eq(request->name.home.session, session_of(call, upstream)))
        return refuse_unknown(call);
    return find_instance(call, request, upstream);
}

static bool find_task(struct gw_call *call, struct request *request) {
    request->node = mcp_param(call->worker->reader, request->message, SLICE("taskId"), JSON_STRING);
    if (request->node == NULL) {
        gw_call_answer_error(call, MCP_E_INVALID_PARAMS, SLICE("params.taskId must be a string"),
                             SLICE_EMPTY);
        return false;
    }
    return open_name(call, request,
                     mcp_revision_is_modern(call->revision) ? GW_TASK_MODERN : GW_TASK_LEGACY);
}

/* --- lists --- */

/* Whether its tasks are listed for this caller. */
static bool is_listed(const struct gw_view_item *item) {
    const struct catalog *catalog = item->status.catalog;
    return catalog != NULL && (catalog->tasks & CATALOG_TASK_LIST) != 0 &&
           upstream_config(item->upstream)->share != CONFIG_SHARE_ALL;
}

/* The first server with a list that comes behind `name` (empty: the first of all) in the order of
 * the file. NULL: there is none; *ret_patience_ms (may be NULL): but one may start. */
static struct upstream *next_listed(const struct gw_call *call, struct slice name,
                                    uint64_t *ret_patience_ms) {
    struct upstream *found = NULL;
    bool is_behind = name.len == 0;
    struct gw_view *view = gw_view_open(call->worker, call->exchange->caller, call->session,
                                        call->capabilities, call->only);
    for (size_t i = 0; i < view->n && found == NULL; i++) {
        if (is_behind && is_listed(&view->items[i]))
            found = view->items[i].upstream;
        is_behind = is_behind || slice_eq(upstream_name(view->items[i].upstream), name);
    }
    if (ret_patience_ms != NULL)
        *ret_patience_ms = gw_view_patience(view, io_loop_now(call->worker->loop),
                                            call->worker->config->list_timeout_ms);
    gw_view_close(view);
    return found;
}

/* Where that server's list goes on. */
static struct gw_task_name cursor_of(const struct gw_call *call, const struct upstream *upstream,
                                     struct slice marked) {
    return (struct gw_task_name){
        .kind = GW_TASK_CURSOR,
        .home = {.upstream = upstream_name(upstream),
                 .session = session_of(call, upstream),
                 .capabilities = call->capabilities},
        .id = marked,
    };
}

static bool find_list(struct gw_call *call, struct request *request, bool is_late) {
    const struct json_node *cursor =
        request->message->params != NULL
            ? json_member(call->worker->reader, request->message->params, SLICE("cursor"))
            : NULL;
    uint64_t patience_ms = 0;
    if (cursor != NULL && cursor->type != JSON_STRING)
        return refuse_unknown(call);
    request->node = cursor;
    if (cursor != NULL)
        return open_name(call, request, GW_TASK_CURSOR);
    struct upstream *upstream = next_listed(call, SLICE_EMPTY, &patience_ms);
    if (upstream != NULL) {
        request->name = cursor_of(call, upstream, SLICE_EMPTY);
        return find_instance(call, request, upstream);
    }
    request->patience_ms = patience_ms;
    if (patience_ms != 0 && !is_late)
        return true;
    return refuse_method(call); /* no server has a list */
}

/* "nextCursor":..., of the server's page or of the next server. Empty: there is no next one. False:
 * there is no memory, or the server's cursor is too long. */
static bool write_next(struct gw_call *call, const struct json_node *theirs, struct buf *out) {
    struct buf marked CLEANUP(buf_deinit) = BUF_INIT(LIMIT_TASK_CURSOR);
    struct slice name = slice_from_cstr(call->home.upstream);
    bool goes_on = theirs != NULL && theirs->type == JSON_STRING;
    const struct upstream *next =
        goes_on ? find_upstream(call, name) : next_listed(call, name, NULL);
    if (goes_on) {
        buf_append_byte(&marked, CURSOR_MARK);
        if (json_string_append(&marked, theirs) != 0)
            return false;
    }
    if (next == NULL)
        return true;
    struct gw_task_name cursor = cursor_of(call, next, buf_slice(&marked));
    buf_append_byte(out, '"');
    int error = gw_task_seal(call->worker->gateway, call->principal->id, gw_call_endpoint(call),
                             &cursor, out);
    return error == 0 && buf_append_byte(out, '"') == 0;
}

/* The server's page with a cursor of ours. */
static bool write_page(struct gw_call *call, struct slice page, struct buf *out) {
    struct json_reader *reader = call->worker->second_reader;
    struct buf next CLEANUP(buf_deinit) = BUF_INIT(LIMIT_TASK_NAME + KIB(1));
    struct buf member CLEANUP(buf_deinit) = BUF_INIT(LIMIT_TASK_NAME + KIB(2));
    if (json_read(reader, page, &json_want_root, NULL, NULL) != 0 ||
        json_member_typed(reader, json_root(reader), SLICE("tasks"), JSON_ARRAY) == NULL)
        return false;
    const struct json_node *theirs = json_member(reader, json_root(reader), SLICE("nextCursor"));
    if (!write_next(call, theirs, &next))
        return false;
    if (buf_len(&next) == 0)
        return buf_append(out, page) == 0;
    if (theirs == NULL)
        buf_append(&member, SLICE("\"nextCursor\":"));
    buf_append(&member, buf_slice(&next));
    if (theirs == NULL)
        buf_append_byte(&member, ','); /* "tasks" follows */
    struct mcp_edit edit = {.span = theirs != NULL ? theirs->raw : slice_make(page.ptr + 1, 0),
                            .replacement = buf_slice(&member)};
    return buf_error(&member) == 0 && mcp_splice(out, page, &edit, 1) == 0;
}

/* --- the way there and back --- */

/* A task of the server's that it was not asked for is nobody's news. */
static bool is_own_task(struct gw_call *call, struct slice result) {
    struct json_reader *reader = call->worker->second_reader;
    if (call->method == MCP_TASKS_LIST || call->method == MCP_TASKS_RESULT)
        return true;
    if (json_read(reader, result, &json_want_root, NULL, NULL) != 0)
        return false;
    const struct json_node *id = json_member(reader, json_root(reader), SLICE("taskId"));
    bool is_ack = mcp_revision_is_modern(call->revision) && call->method != MCP_TASKS_GET;
    return id != NULL ? json_string_is(id, slice_make(call->task, call->task_len)) : is_ack;
}

static void on_done(void *context, enum upstream_outcome outcome, struct slice bytes) {
    struct gw_call *call = context;
    unsigned status = upstream_call_http_status(TAKE(call->upstream_call));
    struct buf page CLEANUP(buf_deinit) = BUF_INIT(bytes.len * 2 + KIB(8));
    if (outcome == UPSTREAM_RESULT && !is_own_task(call, bytes)) {
        gw_call_refuse(call, MCP_E_UNAVAILABLE,
                       SLICE("the upstream has answered with another task than the one that was "
                             "asked for"));
        return;
    }
    if (call->method == MCP_TASKS_LIST && outcome == UPSTREAM_RESULT) {
        if (!write_page(call, bytes, &page)) {
            gw_call_refuse(call, MCP_E_UNAVAILABLE,
                           SLICE("the upstream's list of tasks cannot be passed on"));
            return;
        }
        bytes = buf_slice(&page);
    }
    gw_call_finish(call, outcome, bytes, status);
}

static void on_notification(void *context, enum mcp_method method, struct slice params) {
    gw_call_pass_on(context, method, params);
}

static const struct upstream_call_events events = {
    .on_notification = on_notification,
    .on_ask = gw_call_on_ask,
    .on_ask_cancelled = gw_call_on_ask_cancelled,
    .on_done = on_done,
};

static bool keep_task(struct gw_call *call, struct slice id) {
    mem_free(call->task);
    call->task = mem_alloc(id.len + 1);
    call->task_len = id.len;
    if (call->task == NULL)
        return false;
    if (id.len != 0)
        memcpy(call->task, id.ptr, id.len);
    return true;
}

static int start(struct gw_call *call, const struct request *request) {
    struct gw_worker *worker = call->worker;
    struct buf *line = gw_worker_scratch(worker);
    struct buf fields CLEANUP(buf_deinit) = BUF_INIT(LIMIT_HTTP_HEADER_BLOCK);
    CLEANUP(oauth_token_unrefp) struct oauth_token *token = NULL;
    bool is_list = call->method == MCP_TASKS_LIST;
    bool goes_on = request->name.id.len != 0;
    struct mcp_params_edit edit = {
        .from = call->revision,
        .to = call->revision,
        .name_span = request->node != NULL && goes_on ? request->node->raw : SLICE_EMPTY,
        .name = is_list && goes_on ? slice_from(request->name.id, 1) : request->name.id,
        .log_level = -1,
        .drops_cursor = is_list && !goes_on,
    };
    struct upstream_request out = {
        .id = upstream_next_id(worker->gateway->upstreams),
        .method = call->method,
        .revision = call->upstream_revision,
        .asker = call->session != NULL ? (uintptr_t)call->session : (uintptr_t)call,
        .name = is_list ? SLICE_EMPTY : request->name.id,
        .is_patient = call->method == MCP_TASKS_RESULT,
        .progress = call->method == MCP_TASKS_RESULT ? UPSTREAM_ANY_REQUEST : 0,
    };
    int error = gw_call_write_line(call, request->message, &edit, out.id, line);
    if (error == 0)
        error = gw_call_write_fields(call, request->upstream, &fields);
    if (error == 0)
        error = gw_token_take(call->exchange->caller, request->upstream, request->instance, &token);
    if (error != 0)
        return error;
    out.token = token;
    out.line = buf_slice(line);
    out.fields = buf_slice(&fields);
    call->upstream_call =
        upstream_call_start(request->instance, worker->upstreams, &out, &events, call);
    if (call->upstream_call != NULL && gw_exchange_is_clogged(call->exchange))
        upstream_call_pause(call->upstream_call, true);
    return call->upstream_call != NULL ? 0 : -ENOMEM;
}

/* What a server of that revision and with these capabilities does not know, it is not asked. */
static bool check_served(struct gw_call *call, const struct request *request) {
    const struct catalog *catalog = request->catalog;
    unsigned needed = mcp_revision_is_modern(call->revision) ? CATALOG_TASK_EXTENSION
                      : call->method == MCP_TASKS_LIST       ? CATALOG_TASK_LIST
                      : call->method == MCP_TASKS_CANCEL     ? CATALOG_TASK_CANCEL
                                                             : CATALOG_TASK_CALLS;
    if (catalog->revision != call->revision)
        return refuse_unknown(call);
    if ((catalog->tasks & needed) != 0)
        return true;
    return refuse_method(call);
}

static void send(struct gw_call *call, const struct request *request) {
    gw_record_where(call, request->upstream, SLICE_EMPTY, false);
    const struct policy_server *server = gw_policy_server(
        call->worker, upstream_name(request->upstream), call->exchange->caller->identity);
    if (!check_served(call, request) || !gw_call_check_scopes(call, server, NULL) ||
        !gw_token_check(call, request->upstream))
        return;
    gw_record_allow(call);
    if (!gw_record_intent(call, request->message, false))
        return;
    log_write(call->worker->gateway->log, LOG_DEBUG, "mcp", "call",
              LOG_TEXT("method", mcp_method_name(call->method)),
              LOG_TEXT("upstream", upstream_name(request->upstream)),
              LOG_TEXT("principal", call->principal->id));
    call->upstream_revision = request->catalog->revision;
    gw_call_set_home(call, request->upstream, request->name.home.capabilities);
    int error = keep_task(call, request->name.id) ? start(call, request) : -ENOMEM;
    gw_call_stop_waiting(call);
    if (error != 0)
        refuse_memory(call);
    else
        gw_exchange_wait(call->exchange);
}

void gw_task_route(struct gw_call *call, const struct mcp_message *message, bool is_late) {
    CLEANUP(deinit) struct request request = {.message = message, .memory = BUF_INIT(KIB(4))};
    if (!gw_task_check_declared(call) ||
        !(call->method == MCP_TASKS_LIST ? find_list(call, &request, is_late)
                                         : find_task(call, &request)))
        return;
    if (request.catalog != NULL)
        send(call, &request);
    else if (!is_late)
        gw_route_wait(call, message, request.patience_ms);
    else
        gw_call_refuse(call, MCP_E_UNAVAILABLE,
                       SLICE("the upstream is down; the gateway tries to start it again"));
}
