/*
 * The parts of the API and who owns what. The loop's thread owns everything but what is said
 * otherwise; a request is lent to a thread of the store, or of a crew, while that works for it, and
 * nobody else touches it meanwhile but for `connection`, which may go.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "accounts/accounts.h"
#include "admin/api.h"
#include "base/arena.h"
#include "base/list.h"
#include "guard.h"
#include "http/message.h"
#include "json/reader.h"
#include "json/writer.h"
#include "route.h"

enum {
    API_CONNECTIONS = 256,
    API_CONNECTIONS_OF_ONE = 64, /* address; of IPv6 its /64 */
    API_HEADER_MS = 10000,       /* handshake; a head */
    API_BODY_MS = 15000,         /* between bytes of a body */
    API_IDLE_MS = 60000,
    API_WRITE_MS = 30000, /* between bytes that a client reads */
    API_LINGER_MS = 2000,
    API_STREAMS = 64,       /* of events, in all */
    API_STREAMS_OF_ONE = 8, /* user */
    API_EXPORTS = 4,
    API_TRIALS = 4, /* at once */
    API_TRIAL_MS = 10000,
};
#define API_HEAD        KIB(16)
#define API_BODY        MIB(1)
#define API_PUBLIC_BODY KIB(16) /* of those whom nobody knows */
#define API_ANSWER      MIB(32)
#define API_PAGE        MIB(8) /* of a list: it ends behind the item that goes beyond this */
#define API_ARENA       MIB(4)
#define API_HELD        MIB(64) /* bodies of all requests */
#define API_HELD_OF_ONE MIB(8)  /* address; of IPv6 its /64 */
#define API_QUEUED      MIB(33) /* of one connection, towards the client */
#define API_PIPELINED   KIB(64)

/* --- crews: threads for what blocks (crew.c) --- */

struct crew;
struct crew_task {
    struct io_message message; /* its `deliver`, on `loop`, when `run` is done */
    struct io_loop *loop;
    void (*run)(struct crew_task *task); /* on a thread of the crew */
    struct list_link link;
};
MUST_CHECK int crew_new(size_t n_threads, size_t max_waiting, struct crew **ret_crew);
/* False: too many wait. */
MUST_CHECK bool crew_submit(struct crew *crew, struct crew_task *task);
/* What was submitted is done first. Accepts NULL. */
struct crew *crew_free(struct crew *crew);

/* --- the whole --- */

struct events;

struct api {
    struct api_options options;
    struct io_address address;
    struct io_loop *loop;
    pthread_t thread;
    bool has_thread, is_stopping;
    int listen_fd;
    struct io_listener *listener;
    struct list connections, requests, queries, refreshes;
    size_t n_connections, n_requests, n_exports;
    struct crew *hashers, *readers, *testers;
    size_t n_trials;      /* under way */
    atomic_bool gives_up; /* it stops: trials end */
    struct events *events;
    struct io_timer *sweep; /* of what is over in the store */
    struct budget held;
    struct io_message stop, notice;
    atomic_bool is_noticed;
    pthread_mutex_t mutex;     /* guards what follows, which other threads set */
    struct io_tls *tls;        /* a reference */
    struct guard_hosts *hosts; /* likewise: while a request looks at them, the lock is held */
    struct http_forwarded forwarded;
    struct network *trusted; /* its own */
    struct buf openapi;      /* made once */
    uint64_t started_ms;     /* wall clock */
    char date[48];
    uint64_t date_second;
};

/* Any thread. What this peer says of its clients is believed. */
bool api_trusts(struct api *api, const struct network *peer);
/* Whose request it is that comes from this peer. */
struct network api_client(struct api *api, const struct http_head *head,
                          const struct network *peer);

/* --- connections (connection.c) --- */

struct api_connection {
    struct list_link link;
    struct api *api;
    struct network peer;
    struct io_stream *stream;
    struct io_timer *timer, *write_timer;
    struct http_parser *parser;
    struct api_request *request; /* that comes in or is being answered */
    struct buf pipelined;
    bool is_tls, is_busy, is_reading, closes, is_aborted, is_head_timed;
    uint64_t body_began_ms, body_len, delivered, progress_ms;
};

void api_connection_new(struct api *api, int fd, const struct network *peer);
void api_connection_free(struct api_connection *connection);
/* False: it is going to end. */
bool api_connection_write(struct api_connection *connection, struct slice bytes);
/* The request, which is gone, was answered. */
void api_connection_answered(struct api_connection *connection, bool keep_alive);
/* What the peer has not taken. */
size_t api_connection_queued(const struct api_connection *connection);
void api_append_date(struct api *api, struct buf *out);

/* --- requests (request.c, answer.c, record.c) --- */

/* Who asks, copied out of the store. */
struct api_who {
    bool is_known;
    bool is_token;
    char user[ACCOUNTS_ID + 1];
    char session[ACCOUNTS_ID + 1]; /* of a token: empty */
    char token[ACCOUNTS_ID + 1];
    char csrf[ACCOUNTS_SECRET + 1];
    char name[256];
    bool must_change, is_due;
    uint64_t created_ms, ends_ms, used_ms;
    struct policy_rights *rights; /* a reference */
};

/* What a handler's work makes; emptied before each time that it runs. */
struct api_answer {
    uint16_t status;   /* 0: as the route says */
    struct buf body;   /* JSON, or of the route's media type */
    struct buf fields; /* further ones of the head, whole lines */
    struct buf reason; /* of a refusal: a sentence for people */
    const char *cure;  /* what to do; NULL: nothing special */
    const char *kind;  /* of the problem; NULL: by its status */
    uint64_t wait_ms;  /* Retry-After; 0: none */
    uint64_t etag;     /* the version of what is answered; 0: none */
};

struct api_request {
    struct api *api;
    struct list_link link;
    struct api_connection *connection; /* NULL: gone */
    const struct api_route *route;     /* NULL: there is none */
    enum http_method method;
    bool is_head, is_http10, keep_alive;
    bool is_refused; /* by its head, and answered when it is whole */
    bool is_running; /* it is whole */
    bool streams;
    struct arena arena;
    struct slice path, query;                  /* as they were sent */
    struct slice parameters[GUARD_PARAMETERS]; /* of the path */
    struct slice *queries; /* in the order of route->query; ptr NULL: was not asked for */
    enum guard_credentials credentials;
    struct guard_who presented;
    struct slice csrf, agent;
    enum guard_match match;
    uint64_t version; /* of If-Match; 0: any */
    struct buf body;
    struct json_reader *reader; /* of the body, which was checked */
    struct network client;
    char client_text[NETWORK_TEXT];
    char id[23]; /* of the records */
    uint64_t began_us;

    struct api_who who;
    struct buf password_hash;
    struct api_answer answer;
    void *own; /* of a handler with `begin`, freed by free_own() */
    void (*free_own)(struct api_request *request);
    void (*on_gone)(struct api_request *request); /* the client went away; of a stream */
    void (*on_drain)(struct api_request *request);

    /* Private. */
    void (*next)(struct api_request *request); /* what goes on when the job, task or wait is over */
    void (*after_record)(struct api_request *request);
    struct store_job job;
    struct crew_task task;
    struct audit_wait wait;
    api_work_fn *work;
    void (*run)(struct api_request *request);
};

struct api_request *api_request_new(struct api_connection *connection);
void api_request_free(struct api_request *request);
/* The head is whole. False: it is refused, answered, and the connection closes behind it. */
bool api_request_head(struct api_request *request, const struct http_head *head);
/* The body is. */
void api_request_run(struct api_request *request);
/* The connection has gone. */
void api_request_gone(struct api_request *request);

/* What handlers do. */

/* `next` is called on the loop when the work is done; request->job.result is what it came to. */
void api_in_store(struct api_request *request, enum store_kind kind, api_work_fn *work,
                  void (*next)(struct api_request *request));
/* `run` on a thread of the crew, then `next`. False: too many wait, and the request is answered. */
MUST_CHECK bool api_in_crew(struct api_request *request, struct crew *crew,
                            void (*run)(struct api_request *request),
                            void (*next)(struct api_request *request));
/* The same for one whose answer has begun: false leaves it as it is. */
MUST_CHECK bool api_again_in_crew(struct api_request *request, struct crew *crew,
                                  void (*run)(struct api_request *request),
                                  void (*next)(struct api_request *request));
/* Looks again who it is, in a transaction of a work. 0; API_E_REFUSED. */
MUST_CHECK int api_find_who(struct store_tx *tx, struct api_request *request);
/* Everything that `error` of a work can be becomes an answer, and it is sent. */
void api_request_done(struct api_request *request, int error);
/* Within a work, or before api_request_done(): a problem. Returns API_E_REFUSED. */
enum { API_E_REFUSED = 1000 };
int api_refuse(struct api_request *request, uint16_t status, const char *reason, const char *cure);
int api_refuse_kind(struct api_request *request, uint16_t status, const char *kind,
                    const char *reason, const char *cure);
void api_answer_reset(struct api_answer *answer);
struct accounts_actor api_actor(const struct api_request *request);
bool api_may(const struct api_request *request, enum permission permission);
/* The body's members. */
MUST_CHECK int api_text(struct api_request *request, const char *name, struct slice *ret_text);
/* The value of a query, ptr NULL: there is none. */
struct slice api_query(const struct api_request *request, const char *name);
uint64_t api_query_number(const struct api_request *request, const char *name, uint64_t usual);

/* Answers (answer.c). */
void api_send(struct api_request *request); /* request->answer */
/* The head of an answer whose body comes in pieces. False: the connection is gone. */
MUST_CHECK bool api_stream_begin(struct api_request *request, const char *media,
                                 struct slice fields);
bool api_stream_write(struct api_request *request, struct slice bytes);
void api_stream_end(struct api_request *request, bool is_whole);
/* The client would be sent more than it takes. */
bool api_stream_is_full(const struct api_request *request);

/* Records (record.c): `next` is called on the loop, now or later, when the record was written; of
 * an intent that cannot be the request is answered instead. */
void api_record_intent(struct api_request *request, void (*next)(struct api_request *request));
void api_record_outcome(struct api_request *request, void (*next)(struct api_request *request));
/* Of what is no request, too. `reason` is a constant. */
void api_count_stranger(struct api *api, const struct network *address, const char *reason);

/* A page of a list: {"items":[...],"next":...}. */
struct api_page {
    struct api_request *request;
    struct json_writer writer;
    size_t n, most;
    bool has_more;
};
/* `most` of the query, or the usual 50. */
void api_page_begin(struct api_page *page, struct api_request *request);
/* False: the page is full, and this item is the next one's. */
bool api_page_takes(struct api_page *page);
/* `place`: behind which the next page begins. */
void api_page_end(struct api_page *page, struct slice place);
void api_page_end_at(struct api_page *page, const struct accounts_place *place);
/* 0; API_E_REFUSED: it is none of such a list. *ret_place stays when there is no cursor. */
MUST_CHECK int api_read_cursor(struct api_request *request, struct buf *place);
MUST_CHECK int api_read_place(struct api_request *request, struct accounts_place *ret_place,
                              bool *ret_is_there);

/* JSON of the answer. */
void api_write_time(struct json_writer *writer, const char *key, uint64_t ms); /* 0: null */
void api_write_text(struct json_writer *writer, const char *key, struct slice text);

/* In a transaction: request->who becomes who this new cookie is; the cookie goes into the answer.
 */
MUST_CHECK int api_become(struct store_tx *tx, struct api_request *request,
                          const struct accounts_cookie *cookie);
/* The session whose cookie came with the request, if it is one, ends. */
MUST_CHECK int api_end_presented(struct store_tx *tx, struct api_request *request);

/* Cookies. */
int api_write_cookie(struct buf *fields, const struct accounts_cookie *cookie);
int api_write_no_cookie(struct buf *fields);

/* --- the gateway's loop (ask.c) --- */

/* `write` on worker 0, then `next` on our loop with what it wrote, or its error, in
 * request->answer.body. */
void api_ask(struct api_request *request, api_write_fn *write, void *context,
             void (*next)(struct api_request *request, int error));
/* For no request: *done gets the text, valid during the call. */
typedef void api_asked_fn(struct api *api, int error, struct slice text);
void api_ask_alone(struct api *api, api_write_fn *write, void *context, api_asked_fn *done);
/* The gateway does not run any more. */
/* Something was written: request->next is called when every worker of the gateway goes by it. */
void api_refresh(struct api_request *request);
void api_forget_refreshes(struct api *api);
void api_forget_queries(struct api *api);

/* --- open streams of events (events.c) --- */

MUST_CHECK int events_new(struct api *api, struct events **ret_events);
struct events *events_free(struct events *events);
void events_look(struct events *events);
/* All streams end. */
void events_stop(struct events *events);
