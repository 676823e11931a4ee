/*
 * Streams that are taken up again: a GET with Last-Event-ID (replay.h has what is kept for it). It
 * may land on any worker; what is said meanwhile on another one comes by a message that only says
 * "look", so that everything is written in its order, once.
 */
#include "base/mem.h"
#include "private.h"

struct look {
    struct io_message message;
    struct gw_worker *worker;
    struct gw_session *session; /* references */
    struct gw_replay *replay;
};

static void flush(struct gw_exchange *exchange) {
    struct gw_session *session = exchange->session;
    enum gw_replay_state state = GW_REPLAY_GOES_ON;
    struct gw_event *event;
    while ((event = gw_replay_next(exchange, &state)) != NULL) {
        gw_exchange_write_event(exchange, event->number, slice_make(event->bytes, event->len));
        gw_event_unref(session, event);
    }
    if (state == GW_REPLAY_BREAKS)
        gw_connection_abort(exchange->connection); /* what comes next is forgotten */
    else if (state == GW_REPLAY_ENDS)
        gw_exchange_end_stream(exchange);
}

static void deliver(struct io_message *message) {
    struct look *look = CONTAINER_OF(message, struct look, message);
    struct gw_exchange *exchange = NULL;
    enum gw_replay_task task;
    while ((task = gw_replay_next_task(look->session, look->replay, look->worker, &exchange)) !=
           GW_REPLAY_IDLE) {
        if (task == GW_REPLAY_WRITE)
            flush(exchange);
        else if (task == GW_REPLAY_HANG_UP)
            gw_connection_abort(exchange->connection);
        else
            gw_exchange_cancel_calls(exchange);
    }
    gw_replay_unref(look->session, look->replay);
    gw_session_unref(look->session);
    mem_free(look);
}

void gw_resume_wake(struct gw_session *session, struct gw_replay *replay,
                    struct gw_worker *worker) {
    struct look *look = mem_xalloc(sizeof *look);
    look->message.deliver = deliver;
    look->worker = worker;
    look->session = gw_session_ref(session);
    look->replay = gw_replay_ref(replay);
    io_loop_post(worker->loop, &look->message);
}

/*
 * 400, as the official SDK answers, and not 404: that says of a session that it is over, and
 * clients have to begin another one. 204 tells clients of event streams not to come again (WHATWG
 * HTML, server-sent events).
 */
static bool is_taken_up(struct gw_exchange *exchange, struct slice id) {
    switch (gw_replay_resume(exchange, id)) {
    case GW_REPLAY_RESUMED:
        return true;
    case GW_REPLAY_UNKNOWN:
        gw_exchange_refuse(exchange, 400, MCP_E_INVALID_REQUEST,
                           "Last-Event-ID is no id of an event of this session");
        return false;
    case GW_REPLAY_LOST:
        gw_exchange_refuse(exchange, 400, MCP_E_INVALID_REQUEST,
                           "what came after Last-Event-ID is not kept any more "
                           "(server.resume_buffer); the stream cannot be resumed");
        return false;
    case GW_REPLAY_DONE:
        exchange->n_asked = 1;
        gw_record_done(exchange, "stream");
        gw_exchange_send(exchange, 204, SLICE_EMPTY);
        return false;
    }
    return false;
}

void gw_resume_run(struct gw_exchange *exchange, struct slice id) {
    struct gw_worker *worker = exchange->worker;
    if (!is_taken_up(exchange, id))
        return;
    bool is_standalone = gw_replay_is_standalone(exchange);
    if (!is_standalone) {
        exchange->n_asked = 1;
        gw_record_done(exchange, "stream");
    } else if (!gw_exchange_begin_session_stream(exchange)) {
        return;
    }
    gw_exchange_notify(exchange, SLICE_EMPTY);
    if (!is_standalone) {
        flush(exchange);
        return;
    }
    struct gw_session *session = gw_session_ref(exchange->session);
    flush(exchange); /* another GET may have taken its place: then it is gone now */
    if (atomic_load(&session->is_closed) || worker->is_draining)
        gw_notify_end_stream(session);
    else
        gw_notify_flush(worker, session);
    gw_session_unref(session);
}
