/*
 * A client that does not read. Its connection's queue grows until it is clogged; from then on
 * nothing more is fetched for it: the answers of HTTP servers are not read, so that their sockets
 * fill up, and a child, whose output all its callers share, goes on, but what it says before its
 * answer is dropped (the protocol allows it). Answers are never dropped, and a list that changed is
 * told when the queue has drained. The next request of the connection is not begun before that, nor
 * a message whose answer goes on that stream.
 *
 * A client that has taken a stream up again (resume.c) may listen on another worker than its call
 * runs on: nothing is paused for it, and what is said before the answer is dropped.
 */
#include "private.h"

bool gw_exchange_is_clogged(const struct gw_exchange *exchange) {
    if (exchange->carrier != NULL)
        exchange = exchange->carrier;
    if (exchange->connection == NULL && exchange->replay != NULL)
        return gw_replay_is_clogged(exchange);
    return exchange->connection != NULL && exchange->connection->is_clogged;
}

static void pause_calls(struct gw_exchange *exchange, bool is_clogged) {
    LIST_FOREACH_SAFE (&exchange->calls, link, tmp) {
        struct gw_call *call = CONTAINER_OF(link, struct gw_call, exchange_link);
        if (call->upstream_call != NULL)
            upstream_call_pause(call->upstream_call, is_clogged);
    }
}

void gw_exchange_clog(struct gw_exchange *exchange, bool is_clogged) {
    pause_calls(exchange, is_clogged);
    if (exchange->replay != NULL)
        gw_replay_clog(exchange, is_clogged);
    LIST_FOREACH_SAFE (&exchange->carried, link, tmp)
        pause_calls(CONTAINER_OF(link, struct gw_exchange, carried_link), is_clogged);
    if (is_clogged || !exchange->is_get_stream || exchange->connection == NULL)
        return;
    gw_notify_flush(exchange->worker, exchange->session);
    gw_sse_go_on(exchange);
}

bool gw_exchange_drops(struct gw_exchange *exchange) {
    bool is_clogged = gw_exchange_is_clogged(exchange);
    exchange->n_dropped += is_clogged ? 1 : 0;
    return is_clogged;
}

void gw_exchange_tell_dropped(const struct gw_exchange *exchange) {
    if (exchange->n_dropped == 0)
        return;
    log_write(exchange->worker->gateway->log, LOG_INFO, "http",
              "notifications were dropped: the client did not read",
              LOG_NUM("count", exchange->n_dropped),
              LOG_TEXT("principal", exchange->principal->id));
}
