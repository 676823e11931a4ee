/*
 * Requests that wait for a slot of their principal (admission.h). One that waits is kept whole and
 * its connection is not read, so that a client that asks for more than it may have is slowed down
 * by its own socket. It is begun when a slot gets free, on the worker where it landed, by a message
 * of whoever left; it is refused after server.limits.max_wait.
 *
 * While nothing is read nobody tells that a client is gone. For clients of 2026-07-28, whose
 * hang-up cancels, somebody looks now and then. A legacy client's request stays what it is: its
 * connection is held open, and so counted, until the request has had its turn.
 */
#include "base/mem.h"
#include "private.h"

enum { HANGUP_CHECK_MS = 250, HANGUP_CHECKS = 1000 };

struct gw_wait {
    struct admission_ticket ticket;
    struct io_message message; /* the slot is there */
    struct gw_call *call;      /* NULL: it gave up when it had been chosen already */
    struct gw_principal *principal;
    struct gw_worker *worker;
    struct list_link link; /* in worker->waits, of clients whose hang-up cancels */
    struct io_timer *timer;
};

/* Slots. */

static void leave(struct gw_principal *principal) {
    if (!admission_leave(&principal->admission))
        return;
    struct admission_ticket *ticket = admission_next(&principal->admission);
    if (ticket == NULL)
        return;
    struct gw_wait *wait = CONTAINER_OF(ticket, struct gw_wait, ticket);
    io_loop_post(wait->worker->loop, &wait->message);
}

/* It waits no more; the slot, if there is one, is not touched. */
static void end_wait(struct gw_wait *wait) {
    struct gw_exchange *exchange = wait->call->exchange;
    wait->call->wait = NULL;
    wait->timer = io_timer_free(wait->timer);
    list_remove(&wait->link);
    if (--exchange->n_waiting == 0 && exchange->connection != NULL)
        gw_connection_hold(exchange->connection, false);
}

void gw_call_leave_slot(struct gw_call *call) {
    struct gw_wait *wait = call->wait;
    if (call->has_slot) {
        call->has_slot = false;
        leave(call->principal);
    }
    if (wait == NULL)
        return;
    end_wait(wait);
    if (admission_give_up(&wait->principal->admission, &wait->ticket))
        mem_free(wait);
    else
        wait->call = NULL; /* its slot is on the way */
}

static void deliver_slot(struct io_message *message) {
    struct gw_wait *wait = CONTAINER_OF(message, struct gw_wait, message);
    struct gw_call *call = wait->call;
    struct mcp_message request;
    struct mcp_refusal refusal;
    if (call == NULL) {
        leave(wait->principal);
        mem_free(wait);
        return;
    }
    end_wait(wait);
    mem_free(wait);
    call->has_slot = true;
    struct slice document = slice_make(call->document, call->document_len);
    if (!gw_call_may_go_on(call))
        return;
    /* It was read once already: only memory can be lacking. */
    if (mcp_message_read(call->worker->reader, document, &request, &refusal) != 0)
        gw_call_answer_error(call, MCP_E_INTERNAL, SLICE("the gateway is out of memory"),
                             SLICE_EMPTY);
    else
        gw_route_start(call, &request);
}

/* Waiting. */

static void on_late(void *context) {
    struct gw_wait *wait = context;
    const struct config_limits *limits = &wait->worker->config->limits;
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    buf_printf(&text,
               "%llu calls of this caller are running, which is all it may "
               "(server.limits.max_in_flight), and there was no room for this one within %llu ms "
               "(server.limits.max_wait); try again later",
               (unsigned long long)limits->max_in_flight, (unsigned long long)limits->max_wait_ms);
    log_write(wait->worker->gateway->log, LOG_INFO, "mcp", "a call waited too long for its turn",
              LOG_TEXT("principal", wait->principal->id),
              LOG_NUM("max_in_flight", limits->max_in_flight),
              LOG_NUM("max_wait_ms", limits->max_wait_ms));
    gw_call_refuse(wait->call, MCP_E_BUSY, buf_slice(&text));
}

/* Some of them at a time, in turn: each costs a system call. */
static void on_hangup_check(void *context) {
    struct gw_worker *worker = context;
    struct list rest;
    struct list_link *link;
    list_init(&rest);
    list_splice_back(&rest, &worker->waits);
    for (size_t i = 0; i < HANGUP_CHECKS && (link = list_pop_front(&rest)) != NULL; i++) {
        struct gw_wait *wait = CONTAINER_OF(link, struct gw_wait, link);
        struct gw_connection *connection = wait->call->exchange->connection;
        if (connection != NULL && io_stream_has_hung_up(connection->stream))
            gw_connection_free(connection); /* which cancels its call */
        else
            list_push_back(&worker->waits, link);
    }
    list_splice_back(&rest, &worker->waits);
    list_splice_back(&worker->waits, &rest);
    if (!list_is_empty(&worker->waits))
        io_timer_start(worker->hangup_timer, HANGUP_CHECK_MS);
}

void gw_waits_init(struct gw_worker *worker) {
    list_init(&worker->waits);
    worker->hangup_timer = io_timer_new(worker->loop, on_hangup_check, worker);
}

void gw_waits_deinit(struct gw_worker *worker) {
    worker->hangup_timer = io_timer_free(worker->hangup_timer);
}

/*
 * Whose request it is: a session's; without one, that of a program at an address, which is all that
 * is known. A client can call itself what it likes, but not somebody else's session.
 */
static uint64_t flow_of(const struct gw_call *call, const struct mcp_message *message) {
    enum { MOST_OF_INFO = 1024 };
    const struct hash_key *key = &call->worker->gateway->sessions.key;
    if (call->session != NULL)
        return hash_siphash(key, slice_from_cstr(call->session->id));
    const struct gw_connection *connection = call->exchange->connection;
    const struct json_node *info =
        message->meta != NULL
            ? json_member(call->worker->reader, message->meta, MCP_META_CLIENT_INFO)
            : NULL;
    struct {
        unsigned char address[sizeof connection->client.bytes];
        uint64_t info;
    } flow = {.info = 0};
    if (connection != NULL)
        memcpy(flow.address, connection->client.bytes, sizeof flow.address);
    if (info != NULL)
        flow.info = hash_siphash(key, slice_sub(info->raw, 0, MOST_OF_INFO));
    return hash_siphash(key, slice_make(&flow, sizeof flow));
}

/* True: a slot has got free in between. */
static bool wait_for_slot(struct gw_call *call, const struct mcp_message *message) {
    struct gw_worker *worker = call->worker;
    struct gw_exchange *exchange = call->exchange;
    struct gw_wait *wait = mem_xalloc(sizeof *wait);
    *wait = (struct gw_wait){
        .message = {.deliver = deliver_slot},
        .call = call,
        .principal = call->principal,
        .worker = worker,
    };
    if (admission_wait(&call->principal->admission, &wait->ticket, flow_of(call, message))) {
        mem_free(wait);
        return true;
    }
    call->wait = wait;
    if (exchange->n_waiting++ == 0 && exchange->connection != NULL)
        gw_connection_hold(exchange->connection, true);
    if (!gw_call_keep(call, message))
        return false; /* refused for want of memory; waits no more */
    wait->timer = io_timer_new(worker->loop, on_late, wait);
    io_timer_start(wait->timer, worker->config->limits.max_wait_ms);
    if (exchange->is_modern) {
        list_push_back(&worker->waits, &wait->link);
        if (!io_timer_is_running(worker->hangup_timer))
            io_timer_start(worker->hangup_timer, HANGUP_CHECK_MS);
    }
    log_write(worker->gateway->log, LOG_DEBUG, "mcp", "a call waits for its turn",
              LOG_TEXT("principal", call->principal->id));
    gw_exchange_wait(exchange);
    return false;
}

void gw_call_start(struct gw_call *call, const struct mcp_message *message) {
    if (!admission_enter(&call->principal->admission) && !wait_for_slot(call, message))
        return;
    call->has_slot = true;
    gw_route_start(call, message);
}
