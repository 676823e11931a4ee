/* Records of calls (record.h). */
#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "private.h"

/* Of an error's message: more than a record shows, so that no secret is cut before it is looked
 * for. */
enum { MESSAGE_KEPT = 4 * LIMIT_AUDIT_STRING };

/* Somebody who waits for the trail. It stays until the message was delivered, also when the call is
 * gone by then. */
struct gw_record_wait {
    struct audit_wait wait;
    struct list_link link; /* in worker->record_waits */
    struct gw_worker *worker;
    struct gw_call *call; /* NULL: it is gone */
    struct buf body;      /* of a call that is gone: its record, to be written once more */
    bool is_of_intent;
};

enum {
    USUAL_BYTES = 768, /* of a record without its beginning and end */
    FLUSH_AT = 8       /* records that wait: they need not wait for the others of a long turn */
};

static const struct slice cannot_write =
    SLICE_INIT("the gateway cannot write its audit trail now, and does nothing that it could not "
               "record (audit.mode); try again later");

static bool is_required(const struct gw_worker *worker) {
    return audit_mode(worker->gateway->audit) == AUDIT_REQUIRED;
}

/* --- who and what --- */

/* One that lives as long as the worker: most records need no memory of their own but their text. */
static struct buf *scratch(struct buf *buf) {
    buf_reset(buf, KIB(8));
    buf->max = KIB(8);
    return buf;
}

/* "name version" of an implementation, JSON as written. False: there is no memory, or no room. */
static bool append_client(struct gw_worker *worker, struct slice info, struct buf *out) {
    struct json_reader *reader = worker->second_reader;
    if (json_read(reader, info, &json_want_root, NULL, NULL) != 0)
        return false;
    static const struct slice keys[] = {SLICE_INIT("name"), SLICE_INIT("version")};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        const struct json_node *node =
            json_member_typed(reader, json_root(reader), keys[i], JSON_STRING);
        if (node == NULL)
            continue;
        if (buf_len(out) != 0)
            buf_append_byte(out, ' ');
        (void)!json_string_append(out, node);
    }
    return buf_error(out) == 0;
}

/* Until the next one: programs that send many calls say the same in all of them. */
static struct slice client_text(struct gw_worker *worker, struct slice info) {
    struct buf *seen = &worker->client_info, *text = &worker->client_text;
    if (buf_len(seen) == 0 || !slice_eq(buf_slice(seen), info)) {
        bool is_whole = append_client(worker, info, scratch(text));
        if (!is_whole)
            buf_reset(text, 0);
        if (buf_append(scratch(seen), info) != 0 || !is_whole)
            buf_reset(seen, 0);
    }
    return buf_slice(text);
}

void gw_record_note_client(struct gw_session *session, struct gw_worker *worker,
                           const struct mcp_message *message) {
    const struct json_node *info =
        mcp_param(worker->reader, message, SLICE("clientInfo"), JSON_OBJECT);
    if (worker->audit == NULL || info == NULL)
        return;
    struct slice text = client_text(worker, info->raw);
    /* Half a word is not kept: half a secret would not be known for one. */
    if (text.len >= sizeof session->client) {
        text = slice_sub(text, 0, sizeof session->client - 1);
        while (text.len != 0 && text.ptr[text.len - 1] != ' ')
            text.len--;
    }
    (void)!slice_to_cstr(text, session->client, sizeof session->client);
}

static struct slice client_of(struct gw_call *call, const struct mcp_message *message) {
    const struct json_reader *reader = call->worker->reader;
    const struct json_node *info = NULL;
    if (message->method == MCP_INITIALIZE)
        info = mcp_param(reader, message, SLICE("clientInfo"), JSON_OBJECT);
    else if (call->session != NULL)
        return slice_from_cstr(call->session->client);
    else if (message->meta != NULL)
        info = json_member(reader, message->meta, MCP_META_CLIENT_INFO);
    return info != NULL ? client_text(call->worker, info->raw) : SLICE_EMPTY;
}

static struct slice trace_of(const struct gw_call *call, const struct mcp_message *message) {
    const struct http_head *head = gw_call_head(call);
    struct slice value = head != NULL ? http_head_get(head, SLICE("traceparent")) : SLICE_EMPTY;
    struct slice trace = gw_record_trace(value);
    if (trace.len != 0 || message->meta == NULL)
        return trace;
    const struct json_node *node =
        json_member_typed(call->worker->reader, message->meta, SLICE("traceparent"), JSON_STRING);
    return node != NULL ? gw_record_trace(json_string_raw(node)) : SLICE_EMPTY;
}

/* What the call is about, as the client wrote it. */
static struct slice operation_of(const struct gw_call *call, const struct mcp_message *message,
                                 struct buf *out) {
    const struct json_reader *reader = call->worker->reader;
    bool is_uri = message->method == MCP_RESOURCES_READ ||
                  message->method == MCP_RESOURCES_SUBSCRIBE ||
                  message->method == MCP_RESOURCES_UNSUBSCRIBE;
    const struct json_node *node =
        mcp_param(reader, message, is_uri ? SLICE("uri") : SLICE("name"), JSON_STRING);
    if (node == NULL)
        return SLICE_EMPTY;
    if (!node->value_escaped)
        return json_string_raw(node);
    return json_string_append(out, node) == 0 ? buf_slice(out) : SLICE_EMPTY;
}

static struct slice raw_param(const struct gw_call *call, const struct mcp_message *message,
                              struct slice key) {
    const struct json_node *node =
        message->params != NULL ? json_member(call->worker->reader, message->params, key) : NULL;
    return node != NULL ? node->raw : (struct slice){.ptr = NULL};
}

void gw_record_begin(struct gw_call *call, const struct mcp_message *message) {
    struct gw_worker *worker = call->worker;
    struct gw_record *record = &call->record;
    if (worker->audit == NULL)
        return;
    struct buf operation CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI_LENGTH);
    record->is_on = true;
    record->upstream_status = AUDIT_NONE;
    record->began_us = clock_wall_us();
    record->began_ns = clock_monotonic_ns();
    buf_init(&record->text, LIMIT_AUDIT_BODY - KIB(8)); /* beginning and end are not in it */
    (void)!buf_reserve(&record->text, USUAL_BYTES);
    buf_init(&record->message, MESSAGE_KEPT);
    gw_record_write_who(call->exchange, client_of(call, message), trace_of(call, message),
                        &record->text);
    struct audit_what what = {
        .method = message->method_text,
        .operation = operation_of(call, message, &operation),
        .arguments = raw_param(call, message,
                               message->method == MCP_SUBSCRIPTIONS_LISTEN ? SLICE("notifications")
                                                                           : SLICE("arguments")),
    };
    audit_write_what(worker->audit_writer, &record->text, &what);
}

/* --- where and why --- */

static struct slice share_name(const struct upstream *upstream) {
    switch (upstream_config(upstream)->share) {
    case CONFIG_SHARE_PRINCIPAL:
        return SLICE("principal");
    case CONFIG_SHARE_SESSION:
        return SLICE("session");
    case CONFIG_SHARE_ALL:
        return SLICE("all");
    }
    return SLICE_EMPTY;
}

/* What is durable says the same. */
static bool is_in_text(struct gw_call *call, const struct audit_where *where) {
    struct buf now CLEANUP(buf_deinit) = BUF_INIT(LIMIT_AUDIT_BODY);
    audit_write_where(call->worker->audit_writer, &now, where);
    struct slice text = slice_from(buf_slice(&call->record.text), call->record.before_where);
    return buf_error(&now) == 0 && slice_starts_with(text, buf_slice(&now));
}

void gw_record_where(struct gw_call *call, const struct upstream *upstream, struct slice name,
                     bool is_write) {
    struct gw_record *record = &call->record;
    if (!record->is_on || (record->is_decided && !record->has_intent))
        return;
    struct audit_where where = {
        .upstream = upstream_name(upstream),
        .upstream_operation = name,
        .instance = share_name(upstream),
        .access = is_write ? SLICE("write") : SLICE("read"),
    };
    if (record->has_intent) {
        record->is_elsewhere = !is_in_text(call, &where);
        return;
    }
    /* Routed again, after it has waited: what it is now counts. */
    if (record->before_where != 0)
        buf_truncate(&record->text, record->before_where);
    record->before_where = buf_len(&record->text);
    audit_write_where(call->worker->audit_writer, &record->text, &where);
}

static void decide(struct gw_call *call, struct slice decision, struct slice rule,
                   struct slice reason) {
    struct gw_record *record = &call->record;
    if (!record->is_on || record->is_decided)
        return;
    record->is_decided = true;
    struct audit_decided decided = {.decision = decision, .rule = rule, .reason = reason};
    audit_write_decision(call->worker->audit_writer, &record->text, &decided);
}

void gw_record_allow(struct gw_call *call) {
    decide(call, SLICE("allowed"), SLICE_EMPTY, SLICE_EMPTY);
}

/* What a refusal by one of the gateway's codes says of the decision, where nobody said more. */
void gw_record_refusal(struct gw_call *call, enum mcp_error_code code, struct slice text) {
    static const struct {
        enum mcp_error_code code;
        const char *status; /* NULL: the call was denied, by: */
        struct slice rule;
    } rows[] = {
        {.code = MCP_E_INTERNAL, .status = "error"},
        {.code = MCP_E_UNSUPPORTED, .status = "error"},
        {.code = MCP_E_UNAVAILABLE, .status = "unavailable"},
        {.code = MCP_E_TIMEOUT, .status = "timeout"},
        {.code = MCP_E_FORBIDDEN, .rule = SLICE_INIT("credentials")},
        {.code = MCP_E_UNAUTHENTICATED, .rule = SLICE_INIT("credentials")},
        {.code = MCP_E_BUSY, .rule = SLICE_INIT("limits")},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].code != code)
            continue;
        if (rows[i].status != NULL)
            gw_record_status(call, rows[i].status, code, text);
        else
            gw_record_deny(call, rows[i].rule, text);
        return;
    }
    gw_record_deny(call, SLICE("request"), text); /* there is no such thing to be asked for */
}

void gw_record_deny(struct gw_call *call, struct slice rule, struct slice reason) {
    decide(call, SLICE("denied"), rule, reason);
    gw_record_status(call, "refused", 0, reason);
}

void gw_record_status(struct gw_call *call, const char *status, int code, struct slice message) {
    struct gw_record *record = &call->record;
    bool is_denied = record->status != NULL && strcmp(record->status, "refused") == 0;
    if (!record->is_on || is_denied)
        return;
    record->status = status;
    record->code = code;
    buf_reset(&record->message, MESSAGE_KEPT);
    buf_append(&record->message, utf8_truncate(message, MESSAGE_KEPT));
}

/* --- writing --- */

/* Unique over workers and starts: the base is random. */
static struct slice write_id(const struct gw_call *call, char text[static 17]) {
    uint64_t id = call->worker->record_base + call->serial;
    for (int i = 15; i >= 0; i--, id >>= 4)
        text[i] = "0123456789abcdef"[id & 15];
    return slice_make(text, 16);
}

static void deliver(struct io_message *message);

/* Waking somebody costs as much as writing ten records does: those of one turn of the loop are
 * written together, as long as they are few. */
static void deliver_flush(struct io_message *message) {
    struct gw_worker *worker = CONTAINER_OF(message, struct gw_worker, record_message);
    worker->is_record_posted = false;
    worker->n_unflushed = 0;
    if (worker->audit != NULL) /* else the gateway is being freed, and the trail is closed */
        audit_flush(worker->audit);
}

static void flush_soon(struct gw_worker *worker) {
    if (++worker->n_unflushed == FLUSH_AT) {
        worker->n_unflushed = 0;
        audit_flush(worker->audit);
    }
    if (worker->is_record_posted)
        return;
    worker->is_record_posted = true;
    worker->record_message.deliver = deliver_flush;
    io_loop_post(worker->loop, &worker->record_message);
}

static struct gw_record_wait *wait_new(struct gw_call *call, bool is_of_intent) {
    struct gw_record_wait *wait = mem_alloc(sizeof *wait);
    if (wait == NULL)
        return NULL;
    wait->wait.message.deliver = deliver;
    wait->wait.loop = call->worker->loop;
    wait->wait.is_patient = true;
    wait->worker = call->worker;
    wait->call = call;
    wait->is_of_intent = is_of_intent;
    buf_init(&wait->body, LIMIT_AUDIT_BODY);
    return wait;
}

static void wait_free(struct gw_record_wait *wait) {
    if (wait != NULL)
        buf_deinit(&wait->body);
    mem_free(wait);
}

/* With the sections of the record behind its beginning. False: it is not in the trail; a wait is
 * gone then. */
static bool submit(struct gw_call *call, const char *event, uint64_t time_us, struct slice sections,
                   struct slice end, struct gw_record_wait *wait) {
    struct gw_worker *worker = call->worker;
    struct buf *begin = scratch(&worker->record_begin);
    char id[17];
    audit_write_begin(begin, event, time_us, write_id(call, id));
    /* Where there was no memory for the sections the end of the call is recorded without them; an
     * intent is nothing without them. */
    bool is_whole = buf_error(&call->record.text) == 0;
    struct slice pieces[] = {buf_slice(begin), is_whole ? sections : SLICE_EMPTY, end};
    is_whole = buf_error(begin) == 0 && (is_whole || wait == NULL || !wait->is_of_intent);
    int error = is_whole ? audit_submit(worker->audit, pieces, ARRAY_LEN(pieces),
                                        wait != NULL ? &wait->wait : NULL)
                         : -ENOMEM;
    /* Nothing is confirmed now; it is kept until it can be written, or counted as lost. */
    if (error == AUDIT_E_LOST && wait != NULL && !wait->is_of_intent)
        (void)!audit_submit(worker->audit, pieces, ARRAY_LEN(pieces), NULL);
    if (error == 0 && wait != NULL) {
        call->record.wait = wait;
        list_push_back(&worker->record_waits, &wait->link);
        flush_soon(worker);
    } else {
        mem_free(wait);
    }
    return error == 0;
}

bool gw_record_intent(struct gw_call *call, const struct mcp_message *message, bool is_write) {
    struct gw_worker *worker = call->worker;
    struct gw_record *record = &call->record;
    if (record->is_elsewhere) {
        gw_call_refuse(call, MCP_E_UNAVAILABLE,
                       SLICE("what this names has come to be another server's while its record was "
                             "written; try again"));
        return false;
    }
    if (!record->is_on || record->has_intent)
        return true;
    if (!is_required(worker)) {
        if (!is_write || audit_can_write(worker->gateway->audit))
            return true;
        gw_record_status(call, "unavailable", 0, cannot_write);
        gw_call_refuse(call, MCP_E_UNAVAILABLE, cannot_write);
        return false;
    }
    if (!gw_call_keep(call, message))
        return false;
    struct gw_record_wait *wait = wait_new(call, true);
    if (wait == NULL ||
        !submit(call, "intent", record->began_us, buf_slice(&record->text), SLICE_EMPTY, wait)) {
        gw_record_status(call, "unavailable", 0, cannot_write);
        gw_call_refuse(call, MCP_E_UNAVAILABLE, cannot_write);
        return false;
    }
    gw_call_rest(call);
    gw_exchange_wait(call->exchange);
    return false;
}

static void write_result(struct gw_call *call, uint64_t bytes, struct buf *out) {
    const struct gw_record *record = &call->record;
    const struct gw_exchange *exchange = call->exchange;
    char code[16];
    int len = record->code != 0 ? snprintf(code, sizeof code, "%d", record->code) : 0;
    struct audit_result result = {
        .status = slice_from_cstr(record->status),
        .http_status = exchange->streams || exchange->status == 0 ? 200 : exchange->status,
        .code = slice_make(code, (size_t)len),
        .message = buf_error(&record->message) == 0 ? buf_slice(&record->message) : SLICE_EMPTY,
        .upstream_status = record->upstream_status,
        .bytes = bytes,
        .duration_us = (clock_monotonic_ns() - record->began_ns) / 1000,
    };
    audit_write_result(call->worker->audit_writer, out, &result);
    struct buf asked CLEANUP(buf_deinit) = BUF_INIT(KIB(2));
    asked_write(&record->asked, &asked);
    if (buf_len(&asked) != 0 && buf_error(&asked) == 0)
        audit_write_raw(out, SLICE("asked"), buf_slice(&asked));
}

/* Looking for the key is much cheaper than reading an answer of megabytes; where it stands, only
 * reading tells whether it is the member. */
static bool says_error(struct json_reader *reader, struct slice result) {
    if (slice_find(result, SLICE("\"isError\"")) == SIZE_MAX ||
        json_read(reader, result, &json_want_root, NULL, NULL) != 0)
        return false;
    const struct json_node *node = json_member(reader, json_root(reader), SLICE("isError"));
    return node != NULL && node->type == JSON_TRUE;
}

static void read_error(struct json_reader *reader, struct slice error, int64_t *ret_code,
                       struct buf *text) {
    if (json_read(reader, error, &json_want_root, NULL, NULL) != 0)
        return;
    const struct json_node *code =
        json_member_typed(reader, json_root(reader), SLICE("code"), JSON_NUMBER);
    const struct json_node *message =
        json_member_typed(reader, json_root(reader), SLICE("message"), JSON_STRING);
    if (code != NULL &&
        (json_to_i64(code, ret_code) != 0 || *ret_code < INT32_MIN || *ret_code > INT32_MAX))
        *ret_code = 0;
    if (message != NULL)
        (void)!json_string_append(text, message);
}

/* The record is whole. False: it could not be submitted. */
static bool finish(struct gw_call *call, uint64_t bytes, struct gw_record_wait *wait) {
    struct gw_record *record = &call->record;
    struct buf *result = scratch(&call->worker->record_end);
    if (record->status == NULL)
        record->status = "ok";
    gw_record_allow(call); /* lists and the like, which nobody has to allow */
    write_result(call, bytes, result);
    record->is_on = false;
    if (record->has_intent)
        return submit(call, "outcome", clock_wall_us(), SLICE_EMPTY, buf_slice(result), wait);
    /* Cancelled while the intent is on its way: if that gets lost, the outcome has to say all. */
    if (record->wait != NULL)
        return submit(call, "outcome", clock_wall_us(), buf_slice(&record->text), buf_slice(result),
                      wait);
    return submit(call, "call", record->began_us, buf_slice(&record->text), buf_slice(result),
                  wait);
}

/* What cannot be recorded is not told. */
static void answer_unrecorded(struct gw_call *call) {
    mem_free(TAKE(call->record.held));
    budget_give_back(io_loop_budget(call->worker->loop), call->record.held_len);
    call->record.held_len = 0;
    call->exchange->returns_session = false;
    gw_call_refuse(call, MCP_E_UNAVAILABLE, cannot_write);
}

static bool hold(struct gw_call *call, const struct slice *parts, size_t n_parts, size_t len) {
    struct gw_record *record = &call->record;
    record->held = mem_alloc(len + 1);
    if (record->held == NULL)
        return false;
    for (size_t i = 0; i < n_parts; i++) {
        memcpy(record->held + record->held_len, parts[i].ptr, parts[i].len);
        record->held_len += parts[i].len;
    }
    budget_add(io_loop_budget(call->worker->loop), len);
    return true;
}

/* The call has its answer, and is there until that may be given: nothing else may come to it. */
static void settle(struct gw_call *call) {
    gw_call_stop_waiting(call);
    call->units = gw_units_free(call->units);
    if (!call->has_slot)
        gw_call_leave_slot(call); /* its place in the queue */
}

/* An upstream's answer. */
void gw_record_answer(struct gw_call *call, enum upstream_outcome outcome, struct slice bytes,
                      unsigned http_status) {
    struct gw_record *record = &call->record;
    struct json_reader *reader = call->worker->second_reader;
    if (!record->is_on)
        return;
    if (http_status != 0)
        record->upstream_status = http_status;
    bool may_want =
        mcp_revision_is_modern(call->revision) && mcp_revision_is_modern(call->upstream_revision);
    if (outcome == UPSTREAM_RESULT && may_want &&
        asked_read_wanted(&record->asked, reader, bytes)) {
        gw_record_status(call, "input_required", 0, SLICE_EMPTY);
    } else if (outcome == UPSTREAM_RESULT) {
        gw_record_status(call, says_error(reader, bytes) ? "tool-error" : "ok", 0, SLICE_EMPTY);
    } else if (outcome == UPSTREAM_ERROR) {
        int64_t code = 0;
        struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(64));
        read_error(reader, bytes, &code, &text);
        gw_record_status(call, "error", (int)code, buf_slice(&text));
    }
}

void gw_record_responses(struct gw_call *call, const struct mcp_message *message) {
    const struct json_node *responses =
        call->record.is_on && mcp_revision_is_modern(call->revision)
            ? mcp_param(call->worker->reader, message, SLICE("inputResponses"), JSON_OBJECT)
            : NULL;
    if (responses != NULL)
        asked_read_responses(&call->record.asked, call->worker->second_reader, responses->raw);
}

bool gw_record_end(struct gw_call *call, const struct slice *parts, size_t n_parts) {
    if (!call->record.is_on)
        return false;
    size_t len = 0;
    for (size_t i = 0; i < n_parts; i++)
        len += parts[i].len;
    if (!is_required(call->worker)) {
        (void)finish(call, len, NULL); /* what is lost is counted there */
        return false;
    }
    struct gw_record_wait *wait = wait_new(call, false);
    if (wait != NULL && !hold(call, parts, n_parts, len)) {
        mem_free(wait);
        wait = NULL;
    }
    bool can_wait = wait != NULL;
    settle(call);
    if (finish(call, len, wait) && can_wait)
        gw_exchange_wait(call->exchange);
    else
        answer_unrecorded(call);
    return true;
}

void gw_record_cancelled(struct gw_call *call) {
    if (!call->record.is_on)
        return;
    gw_record_status(call, "cancelled", 0, SLICE_EMPTY);
    (void)finish(call, AUDIT_NONE, NULL);
}

/* It was cancelled while its answer was held. The trail drops what it cannot confirm, and there
 * will be nobody who could say it once more. */
static void keep_body(struct gw_call *call, struct gw_record_wait *wait) {
    const struct gw_record *record = &call->record;
    struct buf result CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
    char id[17];
    audit_write_begin(&wait->body, record->has_intent ? "outcome" : "call",
                      record->has_intent ? clock_wall_us() : record->began_us, write_id(call, id));
    if (!record->has_intent)
        buf_append(&wait->body, buf_slice(&record->text));
    write_result(call, record->held_len, &result);
    buf_append(&wait->body, buf_slice(&result));
}

void gw_record_free(struct gw_call *call) {
    struct gw_record *record = &call->record;
    if (record->wait != NULL) {
        if (!record->wait->is_of_intent)
            keep_body(call, record->wait);
        record->wait->call = NULL;
    }
    buf_deinit(&record->text);
    buf_deinit(&record->message);
    if (record->held != NULL) {
        mem_free(record->held);
        budget_give_back(io_loop_budget(call->worker->loop), record->held_len);
    }
}

/* --- the trail has answered --- */

static void deliver(struct io_message *message) {
    struct audit_wait *inner = CONTAINER_OF(message, struct audit_wait, message);
    struct gw_record_wait *wait = CONTAINER_OF(inner, struct gw_record_wait, wait);
    struct gw_call *call = wait->call;
    bool is_durable = inner->is_durable, is_of_intent = wait->is_of_intent;
    struct audit_worker *audit = wait->worker->audit; /* NULL: the trail is closed */
    struct slice body = buf_slice(&wait->body);
    if (call == NULL && !is_durable && body.len != 0 && buf_error(&wait->body) == 0 &&
        audit != NULL)
        (void)!audit_submit(audit, &body, 1, NULL); /* counted there */
    list_remove(&wait->link);
    wait_free(wait);
    if (call == NULL)
        return;
    call->record.wait = NULL;
    if (is_of_intent && is_durable) {
        call->record.has_intent = true;
        gw_route_go_on(call);
    } else if (is_of_intent) {
        gw_record_status(call, "unavailable", 0, cannot_write);
        gw_call_refuse(call, MCP_E_UNAVAILABLE, cannot_write);
    } else if (is_durable) {
        gw_call_answer_held(call);
    } else {
        /* Once more, for later: whether it is in the file, nobody knows. Its id tells. */
        call->record.is_on = true;
        gw_record_status(call, "unavailable", 0, cannot_write);
        (void)finish(call, AUDIT_NONE, NULL);
        answer_unrecorded(call);
    }
}

void gw_record_waits_free(struct gw_worker *worker) {
    struct list_link *link;
    while ((link = list_pop_front(&worker->record_waits)) != NULL)
        wait_free(CONTAINER_OF(link, struct gw_record_wait, link));
}
