/*
 * What the streams of a session have said, kept for a client whose connection breaks (MCP
 * 2025-11-25, basic/transports, resumability and redelivery). Each event has an id; a GET with
 * Last-Event-ID gets what its stream said after that, then what it says from then on. Sessions of
 * Streamable HTTP alone have it: HTTP+SSE and 2026-07-28 know no ids.
 *
 * A stream is that of a POST, whose calls are its source, or the standalone one of the session's
 * GET. One exchange at most listens to it: the request that began it, or the newest that took it up
 * again, on whichever worker that landed. Workers meet here under the lock of the session's
 * streams, which is never held while something is written; what an exchange of another worker has
 * to do is told by a message (resume.c).
 *
 * What is kept has bounds: LIMIT_REPLAY_* and server.resume_buffer. Beyond them events are
 * forgotten, first those that were written to a client, the oldest of them first. A stream cannot
 * be taken up in front of an event that is forgotten.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/list.h"
#include "base/slice.h"

struct gw_exchange;
struct gw_replay; /* one stream */
struct gw_session;
struct gw_worker;

/* Of an id: the stream, the event and their authenticity, for one session of this process. */
enum { GW_EVENT_ID_BYTES = 24, GW_EVENT_ID_CHARS = 32 };

/* The streams of one session. */
struct gw_replays {
    pthread_mutex_t mutex; /* guards what follows, and what hangs on it */
    struct list streams;   /* struct gw_replay, the oldest first */
    size_t n_streams, n_events, n_bytes;
    uint64_t last_number, last_stamp;
    struct gw_replay *standalone; /* the newest of them; NULL: none */
    bool is_closed;
};

/* One event. */
struct gw_event {
    struct list_link link;
    unsigned refs;
    uint64_t number; /* in its stream, from 1 */
    uint64_t stamp;  /* in its session */
    size_t len;
    char bytes[]; /* a message, one line */
};

void gw_replays_init(struct gw_replays *replays);
/* The session is over: nothing is kept any more. */
void gw_replays_close(struct gw_session *session);
/* Nobody has the session any more. */
void gw_replays_deinit(struct gw_session *session);
/* Forgets streams whose time is over. */
void gw_replays_expire(struct gw_session *session, uint64_t now_ms);

/*
 * The exchange begins a stream, which is exchange->replay then, and listens to it. Nothing happens
 * when there is none to be had: then its events have no ids.
 */
void gw_replay_begin(struct gw_exchange *exchange);
/* Text for `id:`; `number` 0: of the event that says nothing, in front of the others. */
struct slice gw_replay_id(const struct gw_exchange *exchange, uint64_t number,
                          char text[static GW_EVENT_ID_CHARS]);
/* Keeps a message as the next event. True: it is the exchange itself that has to write it. */
bool gw_replay_add(struct gw_exchange *exchange, const struct slice *pieces, size_t n_pieces,
                   uint64_t *ret_number);
/* For the standalone stream, while nobody listens to it; any thread. */
void gw_replay_keep(struct gw_session *session, struct slice message);

enum gw_replay_verdict {
    GW_REPLAY_RESUMED, /* exchange->replay is the stream, and the exchange listens to it */
    GW_REPLAY_UNKNOWN, /* no id that this session was given */
    GW_REPLAY_LOST,    /* what came after it is forgotten */
    GW_REPLAY_DONE,    /* nothing came after it, nor will */
};
/* `id`: what Last-Event-ID says. Whoever has listened so far has its connection closed. */
enum gw_replay_verdict gw_replay_resume(struct gw_exchange *exchange, struct slice id);
bool gw_replay_is_standalone(const struct gw_exchange *exchange);

enum gw_replay_state { GW_REPLAY_GOES_ON, GW_REPLAY_ENDS, GW_REPLAY_BREAKS };
/* What the exchange has to write next, with a reference. NULL: nothing, for now or, by the state,
 * for ever. */
struct gw_event *gw_replay_next(struct gw_exchange *exchange, enum gw_replay_state *ret_state);
void gw_event_unref(struct gw_session *session, struct gw_event *event);

/* The connection of the exchange is gone: it does not listen any more. */
void gw_replay_unhear(struct gw_exchange *exchange);
/* The exchange is over, and its stream with it when the exchange is its source. */
void gw_replay_leave(struct gw_exchange *exchange);
/* Somebody listens. */
bool gw_replay_is_heard(const struct gw_exchange *exchange);
/* ... or does not read what it is sent. */
void gw_replay_clog(struct gw_exchange *exchange, bool is_clogged);
bool gw_replay_is_clogged(const struct gw_exchange *exchange);

/* What an exchange of this worker has to do about the stream. */
enum gw_replay_task {
    GW_REPLAY_IDLE,
    GW_REPLAY_WRITE,   /* it listens, and something was said */
    GW_REPLAY_HANG_UP, /* another one listens now */
    GW_REPLAY_CANCEL,  /* nobody listens to it, nor will: the gateway stops */
};
enum gw_replay_task gw_replay_next_task(struct gw_session *session, struct gw_replay *replay,
                                        struct gw_worker *worker,
                                        struct gw_exchange **ret_exchange);
/* Under the lock of the session's streams. */
struct gw_replay *gw_replay_ref(struct gw_replay *replay);
void gw_replay_unref(struct gw_session *session, struct gw_replay *replay);

/* resume.c */

/* A GET with Last-Event-ID. */
void gw_resume_run(struct gw_exchange *exchange, struct slice id);
/* The worker looks at the stream soon: takes a reference on both. Under the lock of the streams. */
void gw_resume_wake(struct gw_session *session, struct gw_replay *replay, struct gw_worker *worker);
