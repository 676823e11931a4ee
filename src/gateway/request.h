/* A connection, and one HTTP request on it. */
#pragma once

#include "state.h"

/* connection.c */

/* What a connection begins with, before HTTP. */
enum gw_opening {
    GW_OPENING_PROXY, /* the PROXY header has to come */
    GW_OPENING_TLS,   /* the handshake is under way */
    GW_OPENED,
};

struct gw_connection {
    struct list_link link;
    struct gw_worker *worker;
    struct io_stream *stream;
    struct http_parser *parser;
    struct gw_exchange *exchange; /* the one being received or answered */
    struct gw_caller *caller;     /* of the last request; a reference, or NULL */
    struct buf pipelined;         /* what came while the exchange was being answered */
    struct network peer;          /* who is connected to us */
    struct network client; /* it, or whom its PROXY header names: an address that is counted */
    bool is_from_proxy;    /* there was such a header */
    bool is_counted;       /* among the peers */
    uint64_t tls_number;   /* the worker's, when the handshake began */
    bool is_health_only;   /* of the listener for health checks: nothing else is served */
    enum gw_opening opening;
    struct io_timer *timer;           /* of what is to come; of the end */
    struct io_timer *write_timer;     /* of what is to be read; NULL: never needed so far */
    uint64_t delivered, progress_ms;  /* how much of it, and when it last became more */
    uint64_t body_began_ms, body_len; /* of the body that comes in; 0: not yet timed */
    uint64_t used_ms;                 /* when its last answer was whole, or it was opened */
    bool is_busy;       /* the request is whole, the answer is not, or has to drain first */
    bool is_paused;     /* enough was pipelined */
    bool is_held;       /* a call of it waits for its turn: nothing is read */
    bool is_clogged;    /* the client does not read what waits for it */
    bool is_draining;   /* answered; goes on when it is clogged no more */
    bool closes;        /* after what is queued */
    bool is_aborted;    /* at once */
    bool is_reading;    /* inside the feeding loop */
    bool is_head_timed; /* the timer runs for the whole head, however it drips in */
};

/* Takes the descriptor and the place among the peers over. */
void gw_connection_new(struct gw_worker *worker, int fd, const struct network *peer,
                       bool is_health_only);
/* Bytes of HTTP. */
void gw_connection_read(struct gw_connection *connection, struct slice bytes);
struct gw_connection *gw_connection_free(struct gw_connection *connection);
/* Writes; closes the connection when the client does not read or is gone (returns false then). */
bool gw_connection_write(struct gw_connection *connection, const struct slice *pieces,
                         size_t n_pieces);
/* Reads nothing from the client for now, or again. */
void gw_connection_hold(struct gw_connection *connection, bool on);
/* Ends the connection soon: what should have been written cannot be. */
void gw_connection_abort(struct gw_connection *connection);
/* The gateway ends: so does the connection, when what has come and what may be on its way is
 * answered. */
void gw_connection_drain(struct gw_connection *connection);
/* The answer is whole: next request, or the end. */
void gw_connection_answered(struct gw_connection *connection, bool keep_alive);
/* The connection ends when what is queued is out; the client gets a moment to read it. */
void gw_connection_close(struct gw_connection *connection);

/* opening.c */

/* The stream is there, and its timer runs for header_timeout. May free the connection. */
void gw_opening_begin(struct gw_connection *connection);
/* Bytes that came before it was open, in the clear. */
void gw_opening_read(struct gw_connection *connection, struct slice bytes);
/* The time is over. */
void gw_opening_late(struct gw_connection *connection);
/* The worker has another TLS context: clients whose authority is gone, go. */
void gw_opening_recheck(struct gw_worker *worker);

/* exchange.c */

/* Where answers and notifications of a call go; never called from inside the call's making. */
struct gw_exchange {
    struct gw_worker *worker;
    struct gw_connection *connection; /* NULL: the client is gone */
    struct gw_principal *principal;   /* the caller's */
    struct gw_session *session;       /* a reference */
    struct upstream *only;            /* a reference; NULL: the merged endpoint */
    struct buf body;
    enum config_door door; /* of the endpoint */
    /* HTTP+SSE: the stream that answers this message in its place; its own request is answered.
     * NULL: it has none, or that is gone. */
    struct gw_exchange *carrier;
    struct list_link carried_link; /* in carrier->carried */
    struct http_head *kept_head;   /* owned: of the request that the message came in */
    struct list carried, held;     /* of such a stream: struct gw_exchange, struct gw_post */
    size_t n_carried;
    struct gw_post *post;    /* the message on its way to a stream, until that took it over */
    bool ends_when_answered; /* the stream, with the last message that it carries */
    struct network client;   /* its address, by server.client_ip */
    bool is_from_proxy;      /* a trusted one: what it says of the client counts */
    bool is_cors;            /* of a page whose origin [server.cors] allows */
    struct buf early;        /* an answer that was decided before the body was read */
    bool is_refused;         /* there is one */
    bool is_hurried;         /* which does not wait for a body that may never come */
    struct gw_units *units;  /* owned: it waits for its limits, or has */
    size_t phase;            /* of the head: the one that is at work */
    bool is_waiting;         /* it waits; the body is kept */
    bool is_whole;           /* the body has come meanwhile */
    bool has_waited;         /* for keys: not again */
    uint64_t judged_ms;      /* when its head was let in */
    struct gw_authn_wait *authn_wait; /* NULL: does not */
    struct gw_caller *caller;         /* a reference; NULL: not known yet */
    enum http_method method;
    bool keep_alive, is_http10;
    bool has_version_header;
    enum mcp_revision version_header;
    bool version_header_known;
    bool version_header_is_modern;            /* also a revision that comes after ours */
    char session_id[GW_SESSION_ID_CHARS + 1]; /* as sent, empty when absent */
    bool session_id_sent, session_id_malformed;
    bool is_answered, streams, is_batch, is_get_stream;
    bool returns_session;     /* the answer names the new session */
    bool is_modern;           /* of 2026-07-28: hanging up cancels its call */
    uint64_t serial;          /* of that call */
    uint16_t status;          /* of an answer that is no stream; 0: 200 */
    struct buf fields;        /* of the same, further ones; mostly none */
    struct gw_replay *replay; /* owned: what its stream has said; NULL: its events have no ids */
    struct list_link replay_link;
    uint64_t resumed_at; /* the event that it goes on behind */
    size_t n_calls;      /* running or waiting */
    struct list calls;   /* those of them that were made so far */
    size_t n_waiting;    /* for a slot */
    size_t n_dropped;    /* notifications that the client did not read */
    struct list looks;   /* of a listen: struct gw_task_look (task_news.c) */
    size_t n_looks;
    size_t n_asked; /* requests in it, for the record: each gets one, or is counted */
    struct io_timer *alive_timer;
};

/* `connection` NULL: of a message that a stream carries. NULL: there is no memory. */
struct gw_exchange *gw_exchange_new(struct gw_worker *worker, struct gw_connection *connection);
void gw_exchange_unref_connection(struct gw_exchange *exchange);
/* A whole answer into exchange->early, which is sent when the body was read and forgotten. The
 * fields are whole lines. */
void gw_exchange_write_early(struct gw_exchange *exchange, uint16_t status,
                             struct slice extra_fields, struct slice body);
/* The lines that browsers are told with which pages may read the answer, and to come by TLS only.
 */
void gw_exchange_append_border(const struct gw_exchange *exchange, struct buf *out);
/* The request is whole. */
void gw_exchange_run(struct gw_exchange *exchange);
/* Its client is there to hear of it. */
bool gw_exchange_is_heard(const struct gw_exchange *exchange);
/* ... or listens on another connection (replay.h). */
bool gw_exchange_is_followed(const struct gw_exchange *exchange);
/* What is said is heard, or kept. */
bool gw_exchange_can_be_told(const struct gw_exchange *exchange);
/* Nobody will get their answers, and nothing is to wait for them. With the last one the exchange is
 * gone. */
void gw_exchange_cancel_calls(struct gw_exchange *exchange);
/* The head of the request; NULL: it is gone with its client. */
const struct http_head *gw_exchange_fields(const struct gw_exchange *exchange);
/* A message for the client that does not end the exchange. */
void gw_exchange_notify(struct gw_exchange *exchange, struct slice json);
void gw_exchange_notify_parts(struct gw_exchange *exchange, const struct slice *parts,
                              size_t n_parts);
/* An answer that is no stream has status 403 and says in its head what is needed. */
void gw_exchange_challenge(struct gw_exchange *exchange, const char *error,
                           const struct slice *scopes, size_t n_scopes);
/* The answer to one of its calls, in at most GW_PIECES pieces (none: it gets no answer); the last
 * one ends it. */
void gw_exchange_answer(struct gw_exchange *exchange, const struct slice *pieces, size_t n_pieces);
void gw_exchange_refuse(struct gw_exchange *exchange, uint16_t status, enum mcp_error_code code,
                        const char *text);
void gw_exchange_end_stream(struct gw_exchange *exchange);
/* The stream ends, at the latest when all that it carries is answered. */
void gw_exchange_drain_stream(struct gw_exchange *exchange);
/* An event of its replay. */
void gw_exchange_write_event(struct gw_exchange *exchange, uint64_t number, struct slice message);
/* An event of another name; its data are one line. */
void gw_exchange_tell(struct gw_exchange *exchange, struct slice event, struct slice data);
/* The session's stream of messages from the server begins; false: it has been refused. */
bool gw_exchange_begin_session_stream(struct gw_exchange *exchange);
/* A whole answer, not recorded here. */
void gw_exchange_send(struct gw_exchange *exchange, uint16_t status, struct slice json);
/* 202 without a body: notifications and answers were taken. */
void gw_exchange_accepted(struct gw_exchange *exchange);
/* An answer with this status and JSON body, before any call was started. */
void gw_exchange_refuse_json(struct gw_exchange *exchange, uint16_t status, const char *reason,
                             struct slice json);
/* Looks up the session that the header fields name; false: it has been refused. */
bool gw_exchange_has_session(struct gw_exchange *exchange);
/* The legacy session that the fields name, or an answer of 404. */
bool gw_exchange_find_session(struct gw_exchange *exchange, enum gw_session_kind kind);
/* What that session gets is not its last: false, and 404, when it has had its time. Answers and
 * cancellations still reach the calls that run. */
bool gw_exchange_takes_requests(struct gw_exchange *exchange);
/* A call runs on: a stream with comments begins when nothing is said for a while. */
void gw_exchange_wait(struct gw_exchange *exchange);
/* An answer before there is an exchange; ends the connection. */
void gw_connection_refuse(struct gw_connection *connection, struct http_refusal refusal);

/* phases.c */

/* It is refused and hurried, and its body has not come whole: answers, and ends the connection. */
void gw_exchange_hurry(struct gw_exchange *exchange);

/* The phases that need the head only. */
void gw_exchange_head(struct gw_exchange *exchange, const struct http_head *head);
/* What a phase waited for is there: that phase runs again, and those behind it. From the loop,
 * never from inside a phase. */
void gw_exchange_go_on(struct gw_exchange *exchange);

/* authn.c */
/* AUTH_OK: exchange->caller and principal are set. */
enum auth_verdict gw_authenticate(struct gw_exchange *exchange, const struct http_head *head,
                                  bool is_last, struct auth_answer *ret_answer);
/* A stream that is open for long: whether its request would be let in now. */
bool gw_authn_still_holds(struct gw_exchange *exchange);
/* The credential that it was let in with is over by its own date; asked before each news. */
bool gw_authn_has_ended(const struct gw_exchange *exchange);
/* After AUTH_NEEDS_KEYS: gw_exchange_go_on() comes when the issuer has been asked for keys. False:
 * it is not asked now. */
bool gw_authn_wait(struct gw_exchange *exchange, const struct auth_answer *answer);
void gw_authn_cancel(struct gw_exchange *exchange);
/* The worker has another generation: whoever waits is looked at again. */
void gw_authn_restart(struct gw_worker *worker);

/* challenge.c */
/* WWW-Authenticate, and Cache-Control: `error` of RFC 6750 section 3.1, NULL without credentials;
 * the scopes that the operation needs beside those that all do. */
void gw_challenge_write(struct buf *out, const struct gw_worker *worker, struct slice path,
                        const char *error, const struct slice *scopes, size_t n_scopes);

/* metadata.c */

/* The body of the answer to a request for metadata. False: there are none at this path. */
bool gw_write_metadata(const struct gw_worker *worker, struct slice path, struct buf *out);

/* Where the metadata are of the endpoint that the request's path names, else those of the
 * configured resource. 0, -ENOENT without server.oauth, the buffer's error. */
MUST_CHECK int gw_metadata_url(const struct gw_worker *worker, struct slice path, struct buf *out);

/* sse.c */

/*
 * A message that was POSTed for the stream of a session of HTTP+SSE: on its way to the worker that
 * has the stream, and back with what the POST is answered. Who has it is who may touch it, but for
 * what the first worker keeps for itself.
 */
struct gw_post {
    struct io_message message;
    struct list_link link;        /* in stream->held */
    struct gw_worker *from;       /* where the request is */
    struct gw_worker *worker;     /* where the stream is, or was */
    struct gw_exchange *exchange; /* of the first worker; NULL: its client is gone */
    atomic_bool is_abandoned;     /* likewise, for the second one */
    /* References. */
    struct gw_session *session;
    struct auth_identity *identity;
    struct upstream *only;
    struct network client;
    bool is_from_proxy;
    enum mcp_revision version_header; /* MCP_REVISION_NONE: of no revision with sessions */
    struct http_head *head;           /* owned, until it is run */
    struct buf body;
    struct gw_exchange *run; /* answers it; NULL: it is gone already */
    uint16_t status;         /* of the answer; 404: the stream is gone */
    struct buf answer;       /* its body, JSON or nothing */
};

/* GET: a session, and its stream. */
void gw_sse_open(struct gw_exchange *exchange);
/* POST: its message goes to the stream of its session. */
void gw_sse_post(struct gw_exchange *exchange);
/* The client reads again: messages that have waited for that are run. */
void gw_sse_go_on(struct gw_exchange *stream);
/* A request of a session that has too many: it has been refused. */
bool gw_sse_is_full(struct gw_exchange *exchange);
/* The stream is gone, and the session with it. */
void gw_sse_end(struct gw_exchange *stream);
/* The POST is gone; its message is run all the same. */
void gw_sse_abandon(struct gw_post *post);
