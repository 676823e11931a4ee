/*
 * One call to one upstream: which one has the tool, prompt or resource; what has to be said
 * differently there (name, progress token, id); the way back.
 */
#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "json/writer.h"
#include "mcp/capabilities.h"
#include "mcp/name.h"
#include "mcp/tasks.h"
#include "private.h"

/* Which upstream, and under which name it knows the thing. */
struct route {
    struct gw_view_item *item;        /* NULL: nobody has it */
    const struct catalog_item *found; /* NULL: passed on unlisted */
    struct slice rename_span;         /* in the document: the value to replace; empty: none */
    uint64_t patience_ms;             /* nobody has it, but somebody who may is still starting */
    struct slice down;                /* the upstream that would have it, but is down */
    const char *told;                 /* ... and why, where that is for callers to know */
    bool lacks_room;                  /* that one could not be made */
    struct policy_decision decision;  /* with item */
    uint64_t edit_epoch;              /* ... made while edit mode was as it was then */
    struct slice state;               /* the server's requestState, JSON; empty: none */
    struct gw_view_item *unknown;     /* what there is, but not for this caller: for the record */
    struct policy_decision denied;    /* ... and why */
};

/* What the call is about. */
struct subject {
    enum mcp_list list;
    const struct json_node *node; /* its string in the message */
    struct buf text;              /* unescaped */
};

static bool find_reference(const struct json_reader *reader, const struct mcp_message *message,
                           struct subject *subject) {
    const struct json_node *ref = mcp_param(reader, message, SLICE("ref"), JSON_OBJECT);
    const struct json_node *type =
        ref != NULL ? json_member_typed(reader, ref, SLICE("type"), JSON_STRING) : NULL;
    if (type == NULL)
        return false;
    bool is_prompt = json_string_is(type, SLICE("ref/prompt"));
    if (!is_prompt && !json_string_is(type, SLICE("ref/resource")))
        return false;
    subject->list = is_prompt ? MCP_LIST_PROMPTS : MCP_LIST_TEMPLATES;
    subject->node =
        json_member_typed(reader, ref, is_prompt ? SLICE("name") : SLICE("uri"), JSON_STRING);
    return subject->node != NULL;
}

/* False: the parameters do not say what the call is about; *ret_problem says what is missing. */
static bool find_subject(const struct json_reader *reader, const struct mcp_message *message,
                         struct subject *subject, const char **ret_problem) {
    bool is_uri =
        message->method == MCP_RESOURCES_READ || message->method == MCP_RESOURCES_SUBSCRIBE;
    if (message->method == MCP_COMPLETION_COMPLETE) {
        *ret_problem = "params.ref must be a ref/prompt with a name or a ref/resource with a uri";
        if (!find_reference(reader, message, subject))
            return false;
    } else {
        *ret_problem = is_uri ? "params.uri must be a string" : "params.name must be a string";
        subject->list = is_uri                               ? MCP_LIST_RESOURCES
                        : message->method == MCP_PROMPTS_GET ? MCP_LIST_PROMPTS
                                                             : MCP_LIST_TOOLS;
        subject->node =
            mcp_param(reader, message, is_uri ? SLICE("uri") : SLICE("name"), JSON_STRING);
        if (subject->node == NULL)
            return false;
    }
    _Static_assert(LIMIT_URI_LENGTH == 8192, "the refusal says so");
    *ret_problem = "params name something that is longer than 8,192 bytes";
    return json_string_append(&subject->text, subject->node) == 0;
}

/* A resource that nobody lists: by template, else to the only one that has resources at all. */
static struct gw_view_item *find_unlisted(struct gw_view *view, struct slice uri, bool is_only) {
    struct gw_view_item *candidate = NULL;
    size_t n_candidates = 0;
    for (size_t i = 0; i < view->n; i++) {
        const struct catalog *catalog = view->items[i].status.catalog;
        if (catalog == NULL || !gw_view_item_has(view, &view->items[i], MCP_LIST_RESOURCES))
            continue;
        if (catalog_find_template(catalog, uri) != NULL)
            return &view->items[i];
        if (is_only || (catalog->declared & (1u << MCP_LIST_RESOURCES)) != 0) {
            candidate = &view->items[i];
            n_candidates++;
        }
    }
    return n_candidates == 1 ? candidate : NULL;
}

struct gw_view_item *gw_view_find_resource(struct gw_view *view, struct slice uri,
                                           const struct catalog_item **ret_found) {
    struct gw_view_item *item = gw_view_find(view, MCP_LIST_RESOURCES, uri, ret_found);
    return item != NULL ? item : find_unlisted(view, uri, view->only != NULL);
}

/* The caller may use the upstream that the name is of, and there was no room for it. */
static bool would_be_there(const struct gw_view *view, const struct gw_call *call,
                           struct slice name) {
    const struct upstream *upstream =
        call->only != NULL ? call->only
                           : upstream_list_find(view->list, mcp_exposed_upstream(name), NULL);
    return view->lacks_room && upstream != NULL &&
           gw_policy_server(call->worker, upstream_name(upstream), view->identity) != NULL;
}

/* Nobody has it; but would somebody, were it up? Names tell by their prefix, URIs do not. */
static void look_for_absent(struct route *route, struct gw_view *view, const struct gw_call *call,
                            const struct subject *subject) {
    const struct config *config = call->worker->config;
    uint64_t now = io_loop_now(call->worker->loop);
    struct slice text = buf_slice(&subject->text);
    if (!mcp_list_info(subject->list)->is_named && call->only == NULL) {
        route->patience_ms = gw_view_patience(view, now, config->list_timeout_ms);
        route->lacks_room = view->lacks_room;
        return;
    }
    const struct gw_view_item *item = gw_view_named(view, text);
    route->lacks_room = item == NULL && would_be_there(view, call, text);
    if (item == NULL || item->status.catalog != NULL)
        return;
    route->patience_ms =
        gw_view_item_patience(item, now, upstream_config(item->upstream)->startup_timeout_ms);
    if (route->patience_ms == 0)
        route->down = upstream_name(item->upstream);
    route->told = item->status.told;
}

/* The first that has it. */
static void find_listed(struct route *route, struct gw_view *view, const struct subject *subject) {
    struct slice text = buf_slice(&subject->text);
    if (subject->list == MCP_LIST_RESOURCES)
        route->item = gw_view_find_resource(view, text, &route->found);
    else
        route->item = gw_view_find(view, subject->list, text, &route->found);
    if (subject->list != MCP_LIST_TEMPLATES)
        return;
    /* The reference of a completion may be to a plain resource. */
    const struct catalog_item *found = NULL;
    struct gw_view_item *item = gw_view_find(view, MCP_LIST_RESOURCES, text, &found);
    if (item != NULL && (route->item == NULL || item < route->item)) {
        route->item = item;
        route->found = found;
    }
}

static struct route find_route(struct gw_view *view, const struct gw_call *call,
                               const struct subject *subject) {
    struct route route = {0};
    bool exposed = call->only == NULL;
    find_listed(&route, view, subject);
    if (route.item != NULL)
        route.decision = gw_decide(call->worker, view, route.item, subject->list, route.found);
    route.edit_epoch = call->worker->edit_epoch;
    /* From here on it is as if it did not exist. */
    if (route.item != NULL && route.decision.verdict == POLICY_UNKNOWN)
        route = (struct route){.unknown = route.item, .denied = route.decision};
    if (route.item == NULL)
        look_for_absent(&route, view, call, subject);
    else if (route.found != NULL &&
             !slice_eq(route.found->key, exposed ? route.found->exposed : route.found->own))
        route.rename_span = subject->node->raw;
    return route;
}

/* Whose the name would be, and which rule says that this caller does not know the server. False:
 * there is nothing that is hidden. */
static bool find_hidden(const struct gw_call *call, const struct gw_view *view,
                        const struct subject *subject, const struct upstream **ret_upstream,
                        struct buf *rule) {
    struct slice name = buf_slice(&subject->text);
    struct slice prefix = mcp_exposed_upstream(name);
    const struct auth_identity *identity = view->identity;
    const struct upstream *upstream = call->only == NULL && mcp_list_info(subject->list)->is_named
                                          ? upstream_list_find(view->list, prefix, NULL)
                                          : NULL;
    if (upstream == NULL || gw_policy_server(call->worker, prefix, identity) != NULL)
        return false;
    const struct policy_server *server = policy_find_server(call->worker->policy->policy, prefix);
    struct policy_item item = {.kind = gw_policy_kind(subject->list),
                               .name = slice_from(name, prefix.len + 2)};
    if (server == NULL || !auth_may_use_server(identity, prefix)) {
        buf_append_cstr(rule, "server.auth.tokens");
    } else {
        struct policy_decision decision = policy_decide(
            server, &view->caller, &item, gw_edit_is_open(call->worker, identity, prefix));
        (void)policy_write_rule(rule, &decision, item.name);
    }
    *ret_upstream = upstream;
    return true;
}

/* The record says what the caller must not hear. */
static void record_unknown(struct gw_call *call, const struct gw_view *view,
                           const struct route *route, const struct subject *subject) {
    struct buf rule CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    const struct upstream *upstream = NULL;
    bool is_write = false;
    if (!call->record.is_on)
        return;
    if (route->unknown != NULL) {
        upstream = route->unknown->upstream;
        is_write = route->denied.is_write;
        (void)policy_write_rule(&rule, &route->denied, buf_slice(&subject->text));
    } else if (!find_hidden(call, view, subject, &upstream, &rule)) {
        return;
    }
    gw_record_where(call, upstream, SLICE_EMPTY, is_write);
    gw_record_deny(call, buf_slice(&rule), SLICE("this caller may not know of it"));
}

static void answer_unknown(struct gw_call *call, const struct gw_view *view,
                           const struct subject *subject, const struct route *route) {
    struct buf text = BUF_INIT(KIB(64)), data = BUF_INIT(KIB(64));
    struct slice name = buf_slice(&subject->text);
    record_unknown(call, view, route, subject);
    const struct upstream *down =
        route->down.len != 0 ? upstream_list_find(call->worker->list, route->down, NULL) : NULL;
    if (down != NULL && !gw_token_check(call, down))
        return; /* it waits for a token that it may have */
    if (route->down.len != 0) {
        if (route->told != NULL)
            buf_printf(&text, "%.*s: %s", SLICE_ARGS(route->down), route->told);
        else
            buf_printf(&text, "the upstream %.*s is down; the gateway tries to start it again",
                       SLICE_ARGS(route->down));
        gw_call_refuse(call, MCP_E_UNAVAILABLE, buf_slice(&text));
    } else if (route->lacks_room) {
        gw_call_refuse(call, MCP_E_UNAVAILABLE, SLICE(UPSTREAM_LACKS_ROOM));
    } else if (subject->list == MCP_LIST_RESOURCES) {
        struct json_writer writer;
        json_writer_init(&writer, &data);
        json_object_begin(&writer);
        json_kv_string(&writer, SLICE("uri"), name);
        json_object_end(&writer);
        gw_call_answer_error(call, MCP_E_RESOURCE_NOT_FOUND, SLICE("Resource not found"),
                             buf_slice(&data));
    } else {
        const char *what = subject->list == MCP_LIST_TOOLS     ? "tool"
                           : subject->list == MCP_LIST_PROMPTS ? "prompt"
                                                               : "resource template";
        buf_printf(&text, "Unknown %s", what);
        gw_record_deny(call, SLICE("request"), buf_slice(&text)); /* "operation" has the name */
        buf_append_cstr(&text, ": ");
        buf_append(&text, slice_sub(name, 0, 256));
        gw_call_answer_error(call, MCP_E_INVALID_PARAMS, buf_slice(&text), SLICE_EMPTY);
    }
    buf_deinit(&text);
    buf_deinit(&data);
}

/* The way back. */

static void on_notification(void *context, enum mcp_method method, struct slice params) {
    gw_call_pass_on(context, method, params);
}

static void on_done(void *context, enum upstream_outcome outcome, struct slice bytes);

/* The client is given an id early: when its connection breaks it can come back, too. */
static void on_recess(void *context) {
    const struct gw_call *call = context;
    if (call->exchange->connection != NULL && !call->exchange->streams && call->session != NULL &&
        call->session->revision >= MCP_2025_11_25)
        gw_exchange_notify(call->exchange, SLICE_EMPTY);
}

static const struct upstream_call_events events = {
    .on_notification = on_notification,
    .on_ask = gw_call_on_ask,
    .on_ask_cancelled = gw_call_on_ask_cancelled,
    .on_recess = on_recess,
    .on_done = on_done,
};

/* The server has begun a task, which the call waits for. */
static bool runs_on(struct gw_call *call, struct slice result) {
    if (mcp_revision_is_modern(call->upstream_revision))
        return gw_run_take(call, result);
    call->upstream_call = gw_run_follow(call->run, result, &events, call);
    bool is_lost = call->upstream_call == NULL && gw_run_is_lost(call->run);
    if (is_lost)
        gw_call_refuse(call, MCP_E_INTERNAL, SLICE("the gateway is out of memory"));
    return is_lost || call->upstream_call != NULL;
}

static void on_done(void *context, enum upstream_outcome outcome, struct slice bytes) {
    struct gw_call *call = context;
    gw_call_decline_asks(call);
    const struct upstream_call *sent = TAKE(call->upstream_call);
    unsigned status = upstream_call_http_status(sent);
    if (outcome == UPSTREAM_RESULT && gw_call_may_want_input(call) &&
        gw_call_take_input(call, bytes))
        return;
    if (outcome == UPSTREAM_RESULT && gw_call_answer_sealed(call, sent, bytes, status))
        return;
    if (outcome == UPSTREAM_RESULT && call->run != NULL && runs_on(call, bytes))
        return;
    gw_call_finish(call, outcome, bytes, status);
}

void gw_call_finish(struct gw_call *call, enum upstream_outcome outcome, struct slice bytes,
                    unsigned http_status) {
    struct buf told CLEANUP(buf_deinit) = BUF_INIT(call->worker->gateway->max_message * 2);
    gw_record_answer(call, outcome, bytes, http_status);
    if (outcome == UPSTREAM_RESULT || outcome == UPSTREAM_ERROR)
        gw_run_end(call->run);
    if (outcome == UPSTREAM_RESULT)
        bytes = gw_task_answer(call, bytes, &told);
    if (bytes.ptr == NULL) {
        gw_call_refuse(call, MCP_E_UNAVAILABLE,
                       SLICE("the upstream's answer names a task in a way that cannot be passed "
                             "on"));
        return;
    }
    switch (outcome) {
    case UPSTREAM_RESULT:
        gw_call_answer_result(call, bytes, call->upstream_revision);
        return;
    case UPSTREAM_ERROR:
        gw_call_answer_error_object(call, bytes, gw_call_uri(call), call->upstream_revision);
        return;
    case UPSTREAM_FAILED:
        gw_call_refuse(call, MCP_E_UNAVAILABLE, bytes);
        return;
    case UPSTREAM_TIMEOUT:
        gw_call_refuse(call, MCP_E_TIMEOUT, bytes);
        return;
    }
}

/* A legacy client that named no level leaves it to the server; one of 2026-07-28 hears nothing then
 * (MCP 2026-07-28, server/utilities/logging). */
static bool is_loud_enough(struct gw_call *call, struct slice params) {
    bool is_modern = mcp_revision_is_modern(call->revision);
    int wanted = is_modern               ? call->log_level
                 : call->session != NULL ? atomic_load(&call->session->log_level)
                                         : -1;
    if (wanted < 0)
        return !is_modern;
    struct json_reader *reader = call->worker->reader;
    if (json_read(reader, params, &json_want_root, NULL, NULL) != 0)
        return false;
    const struct json_node *node =
        json_member_typed(reader, json_root(reader), SLICE("level"), JSON_STRING);
    return node != NULL && mcp_log_level_parse(json_string_raw(node)) >= wanted;
}

/* Gives the progress back under the token that the client chose. Who waits for the result of a task
 * hears of that, under the token of the call that began it. */
static bool write_progress(struct gw_call *call, struct buf *out, struct slice params) {
    struct json_reader *reader = call->worker->reader;
    struct buf token CLEANUP(buf_deinit) = BUF_INIT(LIMIT_RPC_ID);
    struct buf edited CLEANUP(buf_deinit) =
        BUF_INIT(call->worker->gateway->max_message + LIMIT_RPC_ID);
    bool is_of_task = call->method == MCP_TASKS_RESULT;
    if ((call->token == NULL && !is_of_task) ||
        json_read(reader, params, &json_want_root, NULL, NULL) != 0)
        return false;
    const struct json_node *node = json_member(reader, json_root(reader), SLICE("progressToken"));
    if (node == NULL || (is_of_task && !gw_task_find_token(call, node->raw, &token)))
        return false;
    struct mcp_edit edit = {.span = node->raw,
                            .replacement = is_of_task ? buf_slice(&token)
                                                      : slice_make(call->token, call->token_len)};
    mcp_splice(&edited, params, &edit, 1);
    mcp_write_notification(out, MCP_NOTIFY_PROGRESS, buf_slice(&edited));
    return buf_error(&edited) == 0 && buf_error(out) == 0;
}

void gw_call_pass_on(struct gw_call *call, enum mcp_method method, struct slice params) {
    /* Of a call that it visits (parked.c) the worker that has it decides nothing. */
    bool shares = call->upstream_call == NULL || !gw_exchange_is_heard(call->exchange) ||
                  upstream_call_shares_pipe(call->upstream_call);
    if (shares && gw_exchange_drops(call->exchange))
        return;
    bool is_status = method == MCP_NOTIFY_TASKS_STATUS;
    if (is_status && call->revision != MCP_2025_11_25)
        return;
    struct buf told CLEANUP(buf_deinit) = BUF_INIT(call->worker->gateway->max_message * 2);
    params =
        gw_task_told(call, MCP_TASK_RELATED | (is_status ? MCP_TASK_AT_ROOT : 0u), params, &told);
    if (params.ptr == NULL)
        return;
    struct buf *out = gw_worker_scratch(call->worker);
    if (is_status) {
        mcp_write_notification(out, method, params);
    } else if (method == MCP_NOTIFY_PROGRESS) {
        if (!write_progress(call, out, params))
            return;
    } else {
        if (!is_loud_enough(call, params))
            return;
        mcp_write_notification(out, method, params);
    }
    if (buf_error(out) == 0)
        gw_exchange_notify(call->exchange, buf_slice(out));
}

/* The way there. */

static struct slice arguments_of(const struct gw_call *call, const struct mcp_message *message) {
    const struct json_node *node =
        mcp_param(call->worker->reader, message, SLICE("arguments"), JSON_OBJECT);
    return node != NULL ? node->raw : SLICE_EMPTY;
}

static struct mcp_capabilities_more declared(const struct gw_session *session) {
    if (session == NULL || session->declared == NULL)
        return (struct mcp_capabilities_more){0};
    return (struct mcp_capabilities_more){
        .extensions = slice_make(session->declared, session->extensions_len),
        .experimental =
            slice_make(session->declared + session->extensions_len, session->experimental_len),
    };
}

int gw_call_write_line(struct gw_call *call, const struct mcp_message *message,
                       const struct mcp_params_edit *edit, uint64_t id, struct buf *line) {
    struct buf params CLEANUP(buf_deinit) =
        BUF_INIT(call->worker->config->max_request_body + KIB(16) + 2 * LIMIT_EXTENSIONS +
                 edit->input_responses.len + edit->request_state.len);
    char digits[SLICE_U64];
    struct slice id_text = slice_of_u64(id, digits);
    struct mcp_implementation self = gw_implementation(call->worker->gateway);
    struct mcp_params_edit whole = *edit;
    whole.gateway = &self;
    whole.token = id_text; /* tokens of different clients meet in one upstream */
    whole.more = declared(call->session);
    int error = mcp_bridge_params(&params, call->worker->reader, message, &whole);
    if (error == 0)
        error = mcp_write_request(line, id_text, message->method, buf_slice(&params));
    if (error == 0) {
        mcp_make_one_line(line, 0);
        error = buf_append_byte(line, '\n');
    }
    return error != 0 ? error : buf_error(line);
}

/* The tool runs as a task only, which the client cannot, or has not asked for. */
static bool makes_task(const struct gw_call *call, const struct route *route) {
    const struct catalog *catalog = route->item->status.catalog;
    return call->method == MCP_TOOLS_CALL && route->found != NULL && route->found->needs_task &&
           (catalog->tasks & CATALOG_TASK_CALLS) != 0 && !call->asked_for_task;
}

/* The server may begin a task, which the client, of another era, would not know. */
static bool takes_tasks(const struct gw_call *call, const struct route *route) {
    const struct catalog *catalog = route->item->status.catalog;
    return call->method == MCP_TOOLS_CALL && !mcp_revision_is_modern(call->revision) &&
           call->session != NULL && (catalog->tasks & CATALOG_TASK_EXTENSION) != 0 &&
           upstream_config(route->item->upstream)->share != CONFIG_SHARE_ALL;
}

static int build_line(struct gw_call *call, const struct mcp_message *message,
                      const struct route *route, uint64_t id, struct buf *line) {
    struct mcp_params_edit edit = {
        .from = call->revision,
        .to = call->upstream_revision,
        .name_span = route->rename_span,
        .name =
            route->found != NULL && route->rename_span.len != 0 ? route->found->key : SLICE_EMPTY,
        .log_level = call->session != NULL ? atomic_load(&call->session->log_level) : -1,
        .capabilities = call->capabilities | (takes_tasks(call, route) ? MCP_CAN_TASKS : 0u),
        .input_responses = gw_call_input_responses(call),
        .request_state = route->state.len != 0 ? route->state : gw_call_request_state(call),
        .makes_task = makes_task(call, route),
        .declare_nothing = upstream_config(route->item->upstream)->share == CONFIG_SHARE_ALL,
    };
    return gw_call_write_line(call, message, &edit, id, line);
}

static struct slice caller_field(void *context, struct slice name) {
    return http_head_get(context, name);
}

static bool is_mirrored(const struct mcp_mirrors *mirrors, struct slice name) {
    for (size_t i = 0; mirrors != NULL && i < mirrors->n; i++) {
        if (slice_eq_nocase(mirrors->items[i].name, name))
            return true;
    }
    return false;
}

/*
 * Fields of the client that no annotation names: a server that does not know them has to pass them
 * on (MCP 2026-07-28, basic/transports/streamable-http).
 */
static int write_unknown_params(const struct gw_call *call, const struct mcp_mirrors *mirrors,
                                struct buf *out) {
    struct mcp_param_field fields[LIMIT_HTTP_FIELDS] UNCLEARED;
    size_t n = mcp_revision_is_modern(call->revision)
                   ? gw_call_param_fields(call, fields, ARRAY_LEN(fields))
                   : 0;
    int error = 0;
    for (size_t i = 0; i < n && error == 0; i++) {
        if (is_mirrored(mirrors, fields[i].name))
            continue;
        struct buf name CLEANUP(buf_deinit) = BUF_INIT(LIMIT_HTTP_FIELD_LINE);
        buf_append_cstr(&name, "Mcp-Param-");
        error = buf_append(&name, fields[i].name);
        if (error == 0)
            error = http_write_field(out, buf_slice(&name), fields[i].value);
    }
    return error;
}

int gw_call_write_fields(const struct gw_call *call, const struct upstream *upstream,
                         struct buf *out) {
    union {
        const struct http_head *in;
        void *out;
    } head = {.in = gw_call_head(call)};
    if (upstream_config(upstream)->url.len == 0 || !upstream_wants_caller_fields(upstream))
        return 0;
    return upstream_write_fields(upstream, out, head.in != NULL ? caller_field : NULL, head.out);
}

/* What an HTTP server is told in the head, beside what its transport says by itself. */
static int build_fields(struct gw_call *call, const struct mcp_message *message,
                        const struct route *route, struct buf *out) {
    const struct upstream *upstream = route->item->upstream;
    if (upstream_config(upstream)->url.len == 0)
        return 0;
    int error = gw_call_write_fields(call, upstream, out);
    if (error != 0 || !mcp_revision_is_modern(call->upstream_revision))
        return error;
    const struct mcp_mirrors *mirrors = route->found != NULL ? &route->found->mirrors : NULL;
    if (mirrors != NULL)
        error = mcp_mirrors_write(out, mirrors, call->worker->second_reader,
                                  arguments_of(call, message));
    return error != 0 ? error : write_unknown_params(call, mirrors, out);
}

/* Clients of 2026-07-28 repeat annotated arguments in the head, and who reads the body has to hold
 * one against the other. False: it has been refused. */
static bool check_mirrors(struct gw_call *call, const struct mcp_message *message,
                          const struct route *route) {
    struct mcp_param_field fields[LIMIT_HTTP_FIELDS] UNCLEARED;
    const struct catalog_item *found = route->found;
    if (!mcp_revision_is_modern(call->revision) || found == NULL || found->mirrors.n == 0)
        return true;
    size_t n = gw_call_param_fields(call, fields, ARRAY_LEN(fields));
    struct slice name = SLICE_EMPTY;
    const char *reason = "";
    int error = mcp_mirrors_check(&found->mirrors, call->worker->second_reader,
                                  arguments_of(call, message), fields, n, &name, &reason);
    if (error == 0)
        return true;
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    buf_printf(&text, "Mcp-Param-%.*s: %s", SLICE_ARGS(slice_sub(name, 0, 256)), reason);
    gw_call_answer_error(call, error > 0 ? MCP_E_HEADER_MISMATCH : MCP_E_INTERNAL,
                         error > 0 ? buf_slice(&text) : SLICE("the gateway is out of memory"),
                         SLICE_EMPTY);
    return false;
}

/*
 * The scopes of the server and of the tool, all of them: so that whoever asks for them in one step
 * gets a token that is good for the call (MCP 2026-07-28, basic/authorization).
 */
bool gw_call_check_scopes(struct gw_call *call, const struct policy_server *of_server,
                          const struct config_tool *tool) {
    if (gw_policy_has_scopes(of_server, tool, call->exchange->caller->identity))
        return true;
    const struct config_server *server = policy_server_config(of_server);
    struct slice needed[2 * LIMIT_SCOPES];
    size_t n = 0;
    for (size_t i = 0; i < server->n_scopes; i++)
        needed[n++] = server->scopes[i];
    for (size_t i = 0; tool != NULL && i < tool->n_scopes; i++) {
        if (!auth_list_has(server->scopes, server->n_scopes, tool->scopes[i]))
            needed[n++] = tool->scopes[i];
    }
    gw_exchange_challenge(call->exchange, "insufficient_scope", needed, n);
    gw_record_deny(call, SLICE("scopes"), SLICE("the token lacks a scope"));
    gw_call_answer_error(call, MCP_E_FORBIDDEN,
                         SLICE("the token lacks a scope that this needs; WWW-Authenticate names "
                               "all of them"),
                         SLICE_EMPTY);
    return false;
}

static void record_denial(struct gw_call *call, const struct route *route, struct slice reason) {
    struct buf rule CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    if (!call->record.is_on)
        return;
    (void)policy_write_rule(&rule, &route->decision, route->found->key);
    gw_record_deny(call, buf_slice(&rule), reason);
}

/* What it may know of and must not do: told with the rule and the cure. False: it has been refused.
 */
static bool check_lock(struct gw_call *call, const struct route *route) {
    if (route->decision.verdict != POLICY_LOCKED)
        return true;
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    policy_write_locked(&text, &route->decision, route->found->key);
    record_denial(call, route, buf_slice(&text));
    log_write(call->worker->gateway->log, LOG_INFO, "policy", "a locked tool was called",
              LOG_TEXT("upstream", upstream_name(route->item->upstream)),
              LOG_TEXT("name", route->found->key), LOG_TEXT("principal", call->principal->id));
    gw_call_refuse(call, MCP_E_FORBIDDEN, buf_slice(&text));
    return false;
}

static bool check_arguments(struct gw_call *call, const struct mcp_message *message,
                            const struct route *route) {
    if (LIKELY(!policy_has_argument_rules(&route->decision)))
        return true;
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    /* As it came, whatever it is: what is no object is refused there. */
    const struct json_node *arguments =
        message->params != NULL
            ? json_member(call->worker->reader, message->params, SLICE("arguments"))
            : NULL;
    int error =
        policy_check_arguments(&route->decision, route->found->key, call->worker->second_reader,
                               arguments != NULL ? arguments->raw : SLICE_EMPTY, &reason);
    if (error == 0)
        return true;
    if (error == POLICY_E_ARGUMENT)
        gw_record_deny(call, SLICE("arguments"), buf_slice(&reason));
    if (error == POLICY_E_ARGUMENT)
        gw_call_refuse(call, MCP_E_FORBIDDEN, buf_slice(&reason));
    else
        gw_call_answer_error(call, MCP_E_INTERNAL, SLICE("the gateway is out of memory"),
                             SLICE_EMPTY);
    return false;
}

/* The last of the checks: what it takes is not given back. */
static bool take_units(struct gw_call *call, const struct mcp_message *message,
                       const struct route *route, const struct subject *subject) {
    struct policy_item item =
        gw_policy_item(call->worker, route->item, subject->list, route->found);
    if (call->input != NULL)
        return true; /* the client has called once */
    return gw_call_take_units(call, message, route->item->policy, &item);
}

static bool edit_is_open(const void *context, uint64_t epoch) {
    return gw_edit_still_open(context, epoch);
}

static int start(struct gw_call *call, const struct mcp_message *message, const struct route *route,
                 const struct subject *subject) {
    struct buf *line = gw_worker_scratch(call->worker);
    struct buf fields CLEANUP(buf_deinit) = BUF_INIT(LIMIT_HTTP_HEADER_BLOCK);
    CLEANUP(oauth_token_unrefp) struct oauth_token *token = NULL;
    struct upstream_request request = {
        .id = upstream_next_id(call->worker->gateway->upstreams),
        .method = call->method,
        .revision = call->upstream_revision,
        /* Memory that is theirs alone. */
        .asker = call->session != NULL ? (uintptr_t)call->session : (uintptr_t)call,
    };
    /* The name as the upstream knows it, which is the one in the body. */
    if (mcp_named_by(call->method).len != 0)
        request.name = route->found != NULL ? route->found->key : buf_slice(&subject->text);
    int error = build_line(call, message, route, request.id, line);
    if (error == 0)
        error = build_fields(call, message, route, &fields);
    if (error == 0)
        error = gw_token_take(call->exchange->caller, route->item->upstream, route->item->instance,
                              &token);
    if (error != 0)
        return error;
    request.token = token;
    if (route->decision.is_write) { /* also when edit mode closes while it waits for the server */
        request.may_leave = edit_is_open;
        request.may_leave_context = call->worker->gateway;
        request.may_leave_value = route->edit_epoch;
    }
    request.line = buf_slice(line);
    request.fields = buf_slice(&fields);
    if (call->run == NULL && (makes_task(call, route) || takes_tasks(call, route)))
        error = gw_run_new(call, route->item->upstream, route->item->instance, token, request.line,
                           request.id);
    if (error != 0)
        return error;
    if (call->asked_for_task)
        gw_task_note_token(call, request.id);
    call->upstream_call = upstream_call_start(route->item->instance, call->worker->upstreams,
                                              &request, &events, call);
    if (call->upstream_call != NULL && gw_exchange_is_clogged(call->exchange))
        upstream_call_pause(call->upstream_call, true);
    return call->upstream_call != NULL ? 0 : -ENOMEM;
}

/* What comes back of an earlier answer. False: the call has been refused. */
static bool open_state(struct gw_call *call, const struct mcp_message *message,
                       const struct route *route, const struct subject *subject,
                       enum gw_state_kind *ret_kind, struct buf *out) {
    const struct json_node *state =
        mcp_revision_is_modern(call->revision) && message->params != NULL
            ? json_member(call->worker->reader, message->params, SLICE("requestState"))
            : NULL;
    struct gw_state_binding binding = {
        .principal = call->principal->id,
        .upstream = upstream_name(route->item->upstream),
        .name = route->found != NULL ? route->found->key : buf_slice(&subject->text),
        .arguments = arguments_of(call, message),
        .method = call->method,
    };
    return state == NULL || gw_call_open_state(call, state, &binding, ret_kind, out);
}

/* The server is asked by the instance, once for all who want the same of it. */
static void subscribe(struct gw_call *call, const struct gw_view_item *item, struct slice uri) {
    gw_call_stop_waiting(call);
    gw_exchange_wait(call->exchange);
    if (gw_subscribe(call, item, uri) != 0)
        gw_call_answer_error(call, MCP_E_INTERNAL, SLICE("the gateway is out of memory"),
                             SLICE_EMPTY);
}

/* What comes of a request with a client's input is not for keeping (MCP 2026-07-28,
 * server/utilities/caching). */
static struct mcp_cache find_read_cache(const struct gw_call *call,
                                        const struct mcp_message *message,
                                        const struct gw_view *view, const struct route *route) {
    const struct json_reader *reader = call->worker->reader;
    const struct json_node *params = message->params;
    if (params != NULL && (json_member(reader, params, SLICE("inputResponses")) != NULL ||
                           json_member(reader, params, SLICE("requestState")) != NULL))
        return (struct mcp_cache){0};
    return gw_cache_of_read(call->worker, view, route->item);
}

static void send(struct gw_call *call, const struct mcp_message *message,
                 const struct gw_view *view, struct route *route, const struct subject *subject) {
    struct buf state CLEANUP(buf_deinit) = BUF_INIT(call->worker->config->max_request_body);
    enum gw_state_kind kind = GW_STATE_OF_SERVER;
    gw_record_where(call, route->item->upstream,
                    route->found != NULL ? route->found->key : SLICE_EMPTY,
                    route->decision.is_write);
    if (!check_lock(call, route) ||
        !gw_call_check_scopes(call, route->item->policy,
                              policy_tool_config(route->decision.tool)) ||
        !check_mirrors(call, message, route) || !gw_token_check(call, route->item->upstream) ||
        !check_arguments(call, message, route) ||
        !open_state(call, message, route, subject, &kind, &state) ||
        !take_units(call, message, route, subject))
        return;
    route->state = buf_slice(&state);
    gw_record_allow(call);
    if (!gw_record_intent(call, message, route->decision.is_write))
        return;
    log_write(call->worker->gateway->log, LOG_DEBUG, "mcp", "call",
              LOG_TEXT("method", mcp_method_name(call->method)),
              LOG_TEXT("upstream", upstream_name(route->item->upstream)),
              LOG_TEXT("name", route->found != NULL ? route->found->key : SLICE_EMPTY),
              LOG_TEXT("principal", call->principal->id));
    call->upstream_revision = route->item->status.catalog->revision;
    call->read_cache = find_read_cache(call, message, view, route);
    call->asked_for_task =
        call->method == MCP_TOOLS_CALL && call->revision == MCP_2025_11_25 &&
        call->upstream_revision == MCP_2025_11_25 &&
        mcp_param(call->worker->reader, message, SLICE("task"), JSON_OBJECT) != NULL;
    gw_call_set_home(call, route->item->upstream, call->capabilities);
    gw_call_want_logs(call, route->item->upstream, route->item->instance);
    if (gw_call_may_want_input(call) && !gw_call_keep(call, message))
        return;
    int error = 0;
    if (call->method == MCP_RESOURCES_SUBSCRIBE) {
        subscribe(call, route->item, buf_slice(&subject->text));
        return;
    }
    if (kind == GW_STATE_PARKED)
        error = gw_call_visit(call, message, route->state) ? 0 : -ENOMEM;
    else
        error = start(call, message, route, subject);
    if (kind == GW_STATE_OF_SERVER)
        gw_record_responses(call, message); /* else whoever has the call knows what was asked */
    /* Or it would be sent again when its patience ends. */
    if (gw_call_may_want_input(call))
        gw_call_rest(call);
    else
        gw_call_stop_waiting(call);
    if (error == -E2BIG) {
        gw_call_answer_error(call, MCP_E_INVALID_PARAMS,
                             SLICE("the request is too long for its upstream: what is repeated in "
                                   "header fields may have 32 KiB in all"),
                             SLICE_EMPTY);
    } else if (error != 0) {
        gw_call_answer_error(call, MCP_E_INTERNAL, SLICE("the gateway is out of memory"),
                             SLICE_EMPTY);
    } else {
        gw_exchange_wait(call->exchange);
    }
}

bool gw_call_may_go_on(struct gw_call *call) {
    struct gw_exchange *exchange = call->exchange;
    if (!gw_exchange_is_heard(exchange) || gw_authn_still_holds(exchange))
        return true;
    gw_call_answer_error(call, MCP_E_UNAUTHENTICATED,
                         SLICE("the credential that this came with is worth nothing any more"),
                         SLICE_EMPTY);
    return false;
}

static void try_route(struct gw_call *call, const struct mcp_message *message, bool is_late);

static void go(struct gw_call *call, const struct mcp_message *message, bool is_late) {
    if (mcp_method_is_of_tasks(call->method))
        gw_task_route(call, message, is_late);
    else
        try_route(call, message, is_late);
}

static void resume(struct gw_call *call, bool is_late) {
    struct mcp_message message;
    struct mcp_refusal refusal;
    struct slice document = slice_make(call->document, call->document_len);
    if (!gw_call_may_go_on(call))
        return;
    /* It was read once already: only memory can be lacking. */
    if (mcp_message_read(call->worker->reader, document, &message, &refusal) != 0)
        gw_call_answer_error(call, MCP_E_INTERNAL, SLICE("the gateway is out of memory"),
                             SLICE_EMPTY);
    else
        go(call, &message, is_late);
}

void gw_route_wait(struct gw_call *call, const struct mcp_message *message, uint64_t patience_ms) {
    if (gw_call_keep(call, message))
        gw_call_wait(call, resume, patience_ms);
}

/* Where the subject may turn up when the lists are read again. */
static unsigned lists_of(const struct subject *subject) {
    unsigned mask = 1u << subject->list;
    if (subject->list == MCP_LIST_RESOURCES || subject->list == MCP_LIST_TEMPLATES)
        mask |= 1u << MCP_LIST_RESOURCES | 1u << MCP_LIST_TEMPLATES;
    return mask;
}

static void try_route(struct gw_call *call, const struct mcp_message *message, bool is_late) {
    struct subject subject = {.text = BUF_INIT(LIMIT_URI_LENGTH)};
    const char *problem = "";
    if (!find_subject(call->worker->reader, message, &subject, &problem)) {
        buf_deinit(&subject.text);
        gw_call_answer_error(call, MCP_E_INVALID_PARAMS, slice_from_cstr(problem), SLICE_EMPTY);
        return;
    }
    struct gw_view *view = gw_view_open(call->worker, call->exchange->caller, call->session,
                                        call->capabilities, call->only);
    struct route route = find_route(view, call, &subject);
    if (route.item == NULL && route.patience_ms == 0 && !is_late)
        route.patience_ms = gw_view_refresh(view, call, lists_of(&subject));
    if (route.item != NULL)
        send(call, message, view, &route, &subject);
    else if (route.patience_ms != 0 && !is_late)
        gw_route_wait(call, message, route.patience_ms);
    else
        answer_unknown(call, view, &subject, &route);
    gw_view_close(view);
    buf_deinit(&subject.text);
}

void gw_route_go_on(struct gw_call *call) {
    if (call->method == MCP_SUBSCRIPTIONS_LISTEN)
        gw_listen_go_on(call);
    else
        resume(call, false);
}

void gw_route_start(struct gw_call *call, const struct mcp_message *message) {
    go(call, message, false);
}
