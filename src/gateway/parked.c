/*
 * A call of a client of 2026-07-28 whose server is of the era before, and asks in the midst of it.
 * The client cannot be asked on the way: it is answered that input is wanted, and calls again with
 * that. Meanwhile the call to the server is parked on its worker, and waits for LIMIT_ASK_MS.
 *
 * The request that began it is the first visitor. The next one may land on any worker: the worker
 * that has the call is told the answers, and where its news go from then on. What the server says
 * while nobody visits is dropped, but for its requests and its answer.
 *
 * Who comes back has the sealed requestState (request_state.c), which is bound to principal,
 * server and call. Hanging up during a visit cancels the call, as it does without one.
 */
#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/random.h"
#include "json/writer.h"
#include "private.h"

/* Who asks for several things at once sends one request after the other. */
enum { ASK_KEY_CHARS = 32, GATHER_MS = 10 };

struct parked_ask {
    struct list_link link; /* in parked->asks */
    uint64_t number;
    enum mcp_method method;
    size_t id_len, params_len;
    char bytes[]; /* the server's id, its params */
};

struct gw_parked {
    struct list_link link; /* in worker->parked */
    struct gw_worker *worker;
    char id[GW_PARKED_ID];
    struct gw_principal *principal; /* a reference */
    struct upstream_call *call;     /* NULL: it is over */
    struct gw_run *run;             /* owned: the server runs it as a task, or may; NULL */
    enum mcp_revision upstream_revision;
    struct list asks;
    uint64_t last_ask;
    struct asked asked;         /* since a visitor was told, for its record */
    struct gw_call_place guest; /* worker NULL: nobody visits */
    struct io_timer *timer;     /* runs while nobody visits */
    struct io_timer *gather;    /* before a visitor is told what is wanted */
    /* When it is over. */
    enum upstream_outcome outcome;
    unsigned http_status;
    char *answer; /* owned */
    size_t answer_len;
};

/* To the worker of a visitor. */
enum news_kind { NEWS_ASKS, NEWS_NOTE, NEWS_DONE, NEWS_GONE };
struct news {
    struct io_message message;
    struct gw_call_place guest;
    enum news_kind kind;
    enum mcp_method method;
    enum mcp_revision revision;
    enum upstream_outcome outcome;
    unsigned http_status;
    struct asked asked; /* not of a note */
    size_t len;
    char bytes[];
};

/* To the worker of the call. */
struct visit {
    struct io_message message;
    struct gw_worker *worker;
    char id[GW_PARKED_ID];
    struct gw_principal *principal; /* a reference */
    struct gw_call_place guest;
    bool leaves;
    size_t len; /* of the answers; 0: there are none */
    char answers[];
};

static struct slice key_of(const char id[static GW_PARKED_ID]) {
    return slice_make(id, GW_PARKED_ID);
}

static struct slice ask_id(const struct parked_ask *ask) {
    return slice_make(ask->bytes, ask->id_len);
}

static void free_ask(struct parked_ask *ask) {
    list_remove(&ask->link);
    mem_free(ask);
}

static void free_parked(struct gw_parked *parked) {
    struct gw_worker *worker = parked->worker;
    LIST_FOREACH_SAFE (&parked->asks, link, tmp)
        free_ask(CONTAINER_OF(link, struct parked_ask, link));
    list_remove(&parked->link);
    map_remove(&worker->parked_by_id, key_of(parked->id));
    io_timer_free(parked->timer);
    io_timer_free(parked->gather);
    budget_give_back(io_loop_budget(worker->loop), parked->answer_len);
    mem_free(parked->answer);
    gw_run_free(parked->run);
    atomic_fetch_sub(&parked->principal->n_parked, 1);
    gw_principal_unref(parked->principal);
    mem_free(parked);
    gw_worker_check_drained(worker);
}

/* --- to the server --- */

static void refuse_ask(struct upstream_call *call, struct slice id, enum mcp_method method,
                       const char *reason) {
    struct buf error CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    struct json_writer writer;
    if (method == MCP_ELICITATION_CREATE) {
        upstream_call_respond(call, id, false, SLICE("{\"action\":\"cancel\"}"));
        return;
    }
    json_writer_init(&writer, &error);
    json_object_begin(&writer);
    json_kv_i64(&writer, SLICE("code"), MCP_E_UNAVAILABLE);
    json_kv_string(&writer, SLICE("message"), slice_from_cstr(reason));
    json_object_end(&writer);
    upstream_call_respond(call, id, true, buf_slice(&error));
}

/* Nobody will come back for it. */
static void give_up(struct gw_parked *parked, const char *reason) {
    struct upstream_call *call = parked->call;
    LIST_FOREACH_SAFE (&parked->asks, link, tmp) {
        struct parked_ask *ask = CONTAINER_OF(link, struct parked_ask, link);
        if (call != NULL)
            refuse_ask(call, ask_id(ask), ask->method, reason);
    }
    if (call != NULL)
        upstream_call_cancel(call, slice_from_cstr(reason));
    free_parked(parked);
}

static void on_late(void *context) {
    struct gw_parked *parked = context;
    log_write(parked->worker->gateway->log, LOG_INFO, "mcp",
              "gives up a call that nobody came back for",
              LOG_TEXT("principal", parked->principal->id));
    give_up(parked, "nobody came back with what was asked for");
}

static void wait_for_visit(struct gw_parked *parked) {
    parked->guest = (struct gw_call_place){0};
    io_timer_start(parked->timer, LIMIT_ASK_MS);
}

/* --- what the visitor hears --- */

static void write_requests(struct json_writer *writer, const struct gw_parked *parked) {
    char key[ASK_KEY_CHARS];
    json_key(writer, SLICE("inputRequests"));
    json_object_begin(writer);
    LIST_FOREACH_SAFE (&parked->asks, link, tmp) {
        const struct parked_ask *ask = CONTAINER_OF(link, struct parked_ask, link);
        int len = snprintf(key, sizeof key, "cardea-%llu", (unsigned long long)ask->number);
        json_key(writer, slice_make(key, (size_t)len));
        json_object_begin(writer);
        json_kv_string(writer, SLICE("method"), mcp_method_name(ask->method));
        if (ask->params_len != 0)
            json_kv_raw(writer, SLICE("params"),
                        slice_make(ask->bytes + ask->id_len, ask->params_len));
        json_object_end(writer);
    }
    json_object_end(writer);
}

static int write_state(const struct gw_parked *parked, struct buf *out) {
    const struct gateway *gateway = parked->worker->gateway;
    char where[sizeof(uint64_t) + GW_PARKED_ID];
    uint64_t index = parked->worker->index;
    struct gw_state_binding binding;
    struct buf name CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI_LENGTH);
    memcpy(where, &index, sizeof index);
    memcpy(where + sizeof index, parked->id, GW_PARKED_ID);
    struct slice line =
        parked->run != NULL ? gw_run_line(parked->run) : upstream_call_line(parked->call);
    if (!gw_state_bind(parked->worker, parked->principal, upstream_call_upstream(parked->call),
                       line, &name, &binding))
        return -ENOMEM;
    return gw_state_seal(gateway, &binding, GW_STATE_PARKED, slice_make(where, sizeof where), out);
}

/* The result that asks for all that is open. */
static int write_wanted(const struct gw_parked *parked, struct buf *out) {
    struct buf state CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    struct json_writer writer;
    int error = write_state(parked, &state);
    if (error != 0)
        return error;
    json_writer_init(&writer, out);
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("resultType"), SLICE("input_required"));
    write_requests(&writer, parked);
    json_kv_string(&writer, SLICE("requestState"), buf_slice(&state));
    gw_write_result_meta(&writer, parked->worker->gateway);
    json_object_end(&writer);
    mcp_make_one_line(out, 0);
    return buf_error(out);
}

static void deliver_news(struct io_message *message);

static void tell(const struct gw_parked *parked, const struct news *news, struct slice bytes) {
    struct news *copy = mem_xalloc(sizeof *copy + bytes.len);
    *copy = *news;
    copy->message.deliver = deliver_news;
    copy->guest = parked->guest;
    copy->revision = parked->upstream_revision;
    copy->len = bytes.len;
    if (bytes.len != 0)
        memcpy(copy->bytes, bytes.ptr, bytes.len);
    budget_add(io_loop_budget(parked->worker->loop), bytes.len);
    io_loop_post(copy->guest.worker->loop, &copy->message);
}

/* The visitor is sent away for input. */
static void on_gathered(void *context) {
    struct gw_parked *parked = context;
    struct buf wanted CLEANUP(buf_deinit) = BUF_INIT(parked->worker->gateway->max_message * 2);
    if (parked->guest.worker == NULL || list_is_empty(&parked->asks))
        return;
    if (write_wanted(parked, &wanted) != 0) {
        tell(parked, &(struct news){.kind = NEWS_GONE}, SLICE_EMPTY);
        give_up(parked, "the gateway is out of memory");
        return;
    }
    LIST_FOREACH_SAFE (&parked->asks, link, tmp)
        asked_add(&parked->asked, CONTAINER_OF(link, struct parked_ask, link)->method, ASKED_OPEN);
    struct news news = {.kind = NEWS_ASKS};
    asked_move(&news.asked, &parked->asked);
    tell(parked, &news, buf_slice(&wanted));
    wait_for_visit(parked);
}

/* If there is any to be had. */
static void tell_asks(struct gw_parked *parked) {
    if (parked->guest.worker != NULL && !list_is_empty(&parked->asks))
        io_timer_start(parked->gather, GATHER_MS);
}

/* It is over, and somebody is there. */
static void tell_end(struct gw_parked *parked) {
    struct news news = {
        .kind = NEWS_DONE, .outcome = parked->outcome, .http_status = parked->http_status};
    asked_move(&news.asked, &parked->asked);
    tell(parked, &news, slice_make(parked->answer, parked->answer_len));
    free_parked(parked);
}

/* --- events of the call --- */

static void on_notification(void *context, enum mcp_method method, struct slice params) {
    const struct gw_parked *parked = context;
    if (parked->guest.worker != NULL)
        tell(parked, &(struct news){.kind = NEWS_NOTE, .method = method}, params);
}

/* False: it has been refused. */
static bool add_ask(struct gw_parked *parked, const struct upstream_ask *asked) {
    struct buf params CLEANUP(buf_deinit) = BUF_INIT(asked->params.len + 1);
    size_t n = 0;
    LIST_FOREACH_SAFE (&parked->asks, link, tmp)
        n++;
    bool has_room =
        n < LIMIT_ASKS && mcp_bridge_ask_to_modern(&params, parked->worker->second_reader,
                                                   asked->method, asked->params) == 0;
    struct parked_ask *ask =
        has_room ? mem_alloc(sizeof *ask + asked->id.len + buf_len(&params)) : NULL;
    if (ask == NULL) {
        asked_add(&parked->asked, asked->method, ASKED_REFUSED);
        refuse_ask(parked->call, asked->id, asked->method,
                   "too many requests wait for the client's answer");
        return false;
    }
    ask->number = ++parked->last_ask;
    ask->method = asked->method;
    ask->id_len = asked->id.len;
    ask->params_len = buf_len(&params);
    memcpy(ask->bytes, asked->id.ptr, asked->id.len);
    if (ask->params_len != 0)
        memcpy(ask->bytes + asked->id.len, buf_slice(&params).ptr, ask->params_len);
    list_push_back(&parked->asks, &ask->link);
    return true;
}

static void on_ask(void *context, const struct upstream_ask *ask) {
    struct gw_parked *parked = context;
    if (add_ask(parked, ask))
        tell_asks(parked);
}

static bool on_ask_cancelled(void *context, struct slice id) {
    struct gw_parked *parked = context;
    LIST_FOREACH_SAFE (&parked->asks, link, tmp) {
        struct parked_ask *ask = CONTAINER_OF(link, struct parked_ask, link);
        if (!slice_eq(ask_id(ask), id))
            continue;
        asked_add(&parked->asked, ask->method, ASKED_WITHDRAWN);
        free_ask(ask);
        return true;
    }
    return false;
}

static void on_done(void *context, enum upstream_outcome outcome, struct slice bytes);

/* --- parking --- */

static const struct upstream_call_events events = {
    .on_notification = on_notification,
    .on_ask = on_ask,
    .on_ask_cancelled = on_ask_cancelled,
    .on_done = on_done,
};

static void on_done(void *context, enum upstream_outcome outcome, struct slice bytes) {
    struct gw_parked *parked = context;
    LIST_FOREACH_SAFE (&parked->asks, link, tmp) {
        struct parked_ask *ask = CONTAINER_OF(link, struct parked_ask, link);
        upstream_call_decline(parked->call, ask_id(ask), ask->method);
    }
    parked->http_status = upstream_call_http_status(parked->call);
    parked->call = parked->run != NULL && outcome == UPSTREAM_RESULT
                       ? gw_run_follow(parked->run, bytes, &events, parked)
                       : NULL;
    if (parked->call != NULL)
        return;
    if (parked->run != NULL && gw_run_is_lost(parked->run)) {
        outcome = UPSTREAM_FAILED;
        bytes = SLICE("the gateway is out of memory");
    }
    if (outcome == UPSTREAM_RESULT || outcome == UPSTREAM_ERROR)
        gw_run_end(parked->run);
    parked->outcome = outcome;
    parked->answer = mem_alloc(bytes.len + 1);
    if (parked->answer == NULL) {
        bytes = SLICE("the gateway is out of memory for the answer; the call may have been carried "
                      "out");
        parked->outcome = UPSTREAM_FAILED;
        parked->answer = mem_xalloc(bytes.len + 1);
    }
    if (bytes.len != 0)
        memcpy(parked->answer, bytes.ptr, bytes.len);
    parked->answer_len = bytes.len;
    budget_add(io_loop_budget(parked->worker->loop), bytes.len);
    if (parked->guest.worker != NULL)
        tell_end(parked);
}

static struct gw_parked *make(struct gw_call *call) {
    struct gw_worker *worker = call->worker;
    struct gw_parked *parked = mem_alloc(sizeof *parked);
    if (parked == NULL)
        return NULL;
    random_bytes(parked->id, sizeof parked->id);
    if (map_set(&worker->parked_by_id, key_of(parked->id), parked) != 0) {
        mem_free(parked);
        return NULL;
    }
    parked->worker = worker;
    parked->principal = gw_principal_ref(call->principal);
    parked->upstream_revision = call->upstream_revision;
    list_init(&parked->asks);
    parked->timer = io_timer_new(worker->loop, on_late, parked);
    parked->gather = io_timer_new(worker->loop, on_gathered, parked);
    list_push_back(&worker->parked, &parked->link);
    return parked;
}

static bool can_park(const struct gw_call *call) {
    return (call->method == MCP_TOOLS_CALL || call->method == MCP_PROMPTS_GET ||
            call->method == MCP_RESOURCES_READ) &&
           call->exchange->connection != NULL && !call->worker->is_draining &&
           !call->worker->is_ended;
}

void gw_call_park(struct gw_call *call, const struct upstream_ask *ask) {
    struct gw_principal *principal = call->principal;
    if (!can_park(call) || atomic_fetch_add(&principal->n_parked, 1) >= LIMIT_PARKED) {
        if (can_park(call))
            atomic_fetch_sub(&principal->n_parked, 1);
        asked_add(&call->record.asked, ask->method, ASKED_REFUSED);
        refuse_ask(call->upstream_call, ask->id, ask->method,
                   "the client cannot be asked now, or too many of its calls wait for input");
        return;
    }
    struct gw_parked *parked = make(call);
    if (parked == NULL) {
        atomic_fetch_sub(&principal->n_parked, 1);
        refuse_ask(call->upstream_call, ask->id, ask->method, "the gateway is out of memory");
        return;
    }
    parked->call = TAKE(call->upstream_call);
    parked->run = TAKE(call->run);
    upstream_call_pause(parked->call, false);
    upstream_call_adopt(parked->call, &events, parked);
    call->host = call->worker;
    memcpy(call->host_id, parked->id, GW_PARKED_ID);
    parked->guest = (struct gw_call_place){.worker = call->worker, .serial = call->serial};
    on_ask(parked, ask);
}

/* --- visits, on the worker of the call --- */

static const struct json_want want_nothing[] = {{0}};
static const struct json_want want_each[] = {{"*", want_nothing}, {0}};
static const struct json_want want_answers = {.children = want_each};

static void take_answers(struct gw_parked *parked, struct slice answers) {
    struct json_reader *reader = parked->worker->second_reader;
    char key[ASK_KEY_CHARS];
    if (parked->call == NULL || answers.len == 0 ||
        json_read(reader, answers, &want_answers, NULL, NULL) != 0)
        return;
    LIST_FOREACH_SAFE (&parked->asks, link, tmp) {
        struct parked_ask *ask = CONTAINER_OF(link, struct parked_ask, link);
        int len = snprintf(key, sizeof key, "cardea-%llu", (unsigned long long)ask->number);
        const struct json_node *answer =
            json_member_typed(reader, json_root(reader), slice_make(key, (size_t)len), JSON_OBJECT);
        if (answer == NULL)
            continue;
        upstream_call_respond(parked->call, ask_id(ask), false, answer->raw);
        asked_add(&parked->asked, ask->method,
                  asked_read(parked->worker->reader, ask->method, answer->raw));
        free_ask(ask);
    }
}

static void let_in(struct gw_parked *parked, const struct visit *visit) {
    io_timer_stop(parked->timer);
    parked->guest = visit->guest;
    take_answers(parked, slice_make(visit->answers, visit->len));
    if (parked->call == NULL)
        tell_end(parked);
    else
        tell_asks(parked); /* what was not answered, and what came meanwhile */
}

static bool is_same(const struct gw_call_place *a, const struct gw_call_place *b) {
    return a->worker == b->worker && a->serial == b->serial;
}

static void deliver_visit(struct io_message *message) {
    struct visit *visit = CONTAINER_OF(message, struct visit, message);
    struct gw_parked *parked = map_get(&visit->worker->parked_by_id, key_of(visit->id));
    bool is_theirs = parked != NULL && parked->principal == visit->principal;
    if (visit->leaves && is_theirs && is_same(&parked->guest, &visit->guest))
        give_up(parked, "the client hung up");
    else if (!visit->leaves && is_theirs && parked->guest.worker == NULL)
        let_in(parked, visit);
    else if (!visit->leaves && !visit->worker->is_ended) /* else nobody may be there to hear */
        tell(&(struct gw_parked){.worker = visit->worker, .guest = visit->guest},
             &(struct news){.kind = NEWS_GONE}, SLICE_EMPTY);
    budget_give_back(io_loop_budget(visit->worker->loop), visit->len);
    gw_principal_unref(visit->principal);
    mem_free(visit);
}

void gw_parked_drop(struct gw_worker *worker, bool with_visited) {
    LIST_FOREACH_SAFE (&worker->parked, link, tmp) {
        struct gw_parked *parked = CONTAINER_OF(link, struct gw_parked, link);
        if (with_visited || parked->guest.worker == NULL)
            give_up(parked, "the gateway stops");
    }
}

/* --- visits, on the visitor's worker --- */

static void post_visit(struct gw_call *call, bool leaves, struct slice answers) {
    struct visit *visit = mem_xalloc(sizeof *visit + answers.len);
    visit->message.deliver = deliver_visit;
    visit->worker = call->host;
    memcpy(visit->id, call->host_id, GW_PARKED_ID);
    visit->principal = gw_principal_ref(call->principal);
    visit->guest = (struct gw_call_place){.worker = call->worker, .serial = call->serial};
    visit->leaves = leaves;
    visit->len = answers.len;
    if (answers.len != 0)
        memcpy(visit->answers, answers.ptr, answers.len);
    budget_add(io_loop_budget(call->worker->loop), answers.len);
    io_loop_post(call->host->loop, &visit->message);
}

bool gw_call_visit(struct gw_call *call, const struct mcp_message *message, struct slice place) {
    struct gateway *gateway = call->worker->gateway;
    uint64_t index = 0;
    if (place.len != sizeof index + GW_PARKED_ID)
        return false;
    memcpy(&index, place.ptr, sizeof index);
    if (index >= gateway->n_workers)
        return false;
    const struct json_node *answers =
        mcp_param(call->worker->reader, message, SLICE("inputResponses"), JSON_OBJECT);
    call->host = &gateway->workers[index];
    memcpy(call->host_id, place.ptr + sizeof index, GW_PARKED_ID);
    post_visit(call, false, answers != NULL ? answers->raw : SLICE_EMPTY);
    return true;
}

void gw_call_leave(struct gw_call *call) {
    if (call->host != NULL)
        post_visit(call, true, SLICE_EMPTY);
    call->host = NULL;
}

static void hear(struct gw_call *call, const struct news *news) {
    struct slice bytes = slice_make(news->bytes, news->len);
    if (news->kind == NEWS_NOTE) {
        gw_call_pass_on(call, news->method, bytes);
        return;
    }
    struct asked asked = news->asked;
    asked_move(&call->record.asked, &asked);
    call->host = NULL;
    call->upstream_revision = news->revision;
    if (news->kind == NEWS_DONE) {
        gw_call_finish(call, news->outcome, bytes, news->http_status);
    } else if (news->kind == NEWS_ASKS) {
        gw_record_status(call, "input_required", 0, SLICE_EMPTY);
        gw_call_answer_result(call, bytes, call->revision);
    } else {
        gw_call_answer_error(call, MCP_E_INVALID_PARAMS,
                             SLICE("the call that requestState belongs to is over, or goes on "
                                   "elsewhere: send the request again without it"),
                             SLICE_EMPTY);
    }
}

static void deliver_news(struct io_message *message) {
    struct news *news = CONTAINER_OF(message, struct news, message);
    struct gw_worker *worker = news->guest.worker;
    struct gw_call *call = map_get(&worker->calls_by_serial,
                                   slice_make(&news->guest.serial, sizeof news->guest.serial));
    if (call != NULL && call->host != NULL)
        hear(call, news);
    budget_give_back(io_loop_budget(worker->loop), news->len);
    mem_free(news);
}
