/* What set.c, instance.c and call.c share. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/list.h"
#include "base/map.h"
#include "children.h"
#include "mcp/message.h"
#include "stdio_child.h"
#include "upstream/upstream.h"

struct upstream_set {
    struct upstream_set_options options;
    struct children *children;
    struct upstream **upstreams;
    size_t n_upstreams;
    atomic_uint_fast64_t last_id;
    atomic_size_t n_open; /* instances that are not closed for good */
    atomic_bool is_stopping;
    void (*on_stopped)(void *context);
    void *stop_context;
    struct io_message stopped_message;
    atomic_bool stopped_sent;
};

/* How an upstream's process wants to be spoken to; the probe finds out once. */
enum verdict { VERDICT_UNKNOWN, VERDICT_LEGACY, VERDICT_MODERN };

struct upstream {
    struct upstream_set *set;
    const struct config_server *config;
    size_t index; /* in the file's order */
    /*
     * Guards the rest, and of each instance the fields that it names: workers look instances up and
     * read their status, the homes change it. Held for a few instructions, never across I/O.
     */
    pthread_mutex_t mutex;
    struct map instances; /* owner to struct upstream_instance, with a reference */
    size_t n_running;
    enum verdict verdict;
};

/* What the instance has asked its server and waits for. */
enum ask { ASK_NOTHING, ASK_DISCOVER, ASK_INITIALIZE, ASK_LIST };

struct upstream_instance {
    atomic_uint refs;
    struct upstream *upstream;
    struct slice owner; /* owned memory */
    struct io_loop *loop;

    /* Guarded by upstream->mutex; written by the home only. */
    enum upstream_state state;
    bool is_listed, is_first_start;
    uint64_t first_started_ms;
    struct catalog *catalog;
    char error[160];
    /* Guarded likewise; written by any worker. */
    int wanted_level;

    /* The home's own. */
    struct io_message start_message, level_message, close_message;
    atomic_bool start_posted, level_posted, close_posted;
    struct stdio *child;
    struct json_reader *reader;
    bool has_slot; /* counted in n_running */
    bool is_probing,
        is_reprobe; /* the process was started for the probe; it is to start again at once */
    bool is_stopping_idle, is_closing;
    enum ask ask;
    uint64_t ask_id;
    enum mcp_list ask_list;
    unsigned lists_wanted, lists_declared, lists_changed, lists_told;
    struct catalog *next;           /* being built */
    struct catalog_list *page_list; /* the list being read */
    unsigned n_pages;
    struct io_timer *start_timer, *probe_timer, *retry_timer, *tick_timer;
    uint64_t retry_delay_ms, ready_since_ms, last_used_ms;
    int sent_level;
    unsigned n_garbage;
    uint64_t log_second;
    unsigned n_logged;     /* in that second */
    const char *complaint; /* why the gateway ends the process; NULL: it ended by itself */
    struct map pending;    /* id to struct upstream_call: sent, not answered */
    struct list calls;     /* all: waiting and sent, in order of arrival */
    size_t n_calls;
};

struct upstream_call {
    /* The caller's. */
    struct io_loop *origin;
    struct upstream_call_events events;
    void *context;
    bool is_cancelled, is_done;
    bool cancel_under_way; /* cancel_message is with the home */
    char cancel_reason[64];

    /* Set before the home hears of it. */
    struct upstream_instance *instance; /* a reference */
    uint64_t id;
    struct io_message start_message, cancel_message, final_message;

    /* The home's. */
    struct list_link link; /* in instance->calls */
    bool is_sent, is_finished;
    uint64_t started_ms, heard_ms;
    char *line; /* owned; until it is sent */
    size_t line_len;
    enum upstream_outcome outcome;
    char *answer; /* owned; for the final message */
    size_t answer_len;
};

/* instance.c, on the home */
struct log *instance_log(const struct upstream_instance *instance);
struct slice instance_name(const struct upstream_instance *instance);
/* Ends the line, writes it and frees the buffer. */
int instance_send_line(struct upstream_instance *instance, struct buf *line);
void instance_announce(struct upstream_instance *instance, unsigned list_mask);
/* Ends a process that has not kept its side; it is started again after a pause. */
void instance_give_up(struct upstream_instance *instance, const char *reason);
/* The handshake is over. */
void instance_ready(struct upstream_instance *instance);
struct upstream_instance *instance_new(struct upstream *upstream, struct slice owner,
                                       struct io_loop *loop);
struct upstream_instance *instance_ref(struct upstream_instance *instance);
/* Starts when it is idle; does nothing otherwise. */
void instance_wake(struct upstream_instance *instance);
/* Any thread: closes it for good on its home. */
void instance_close(struct upstream_instance *instance);

/* handshake.c, on the home */
void handshake_begin(struct upstream_instance *instance);
/* The answer to what was asked last. */
void handshake_answer(struct upstream_instance *instance, const struct mcp_message *message);
void handshake_lists_changed(struct upstream_instance *instance, unsigned list_mask);
/* A list that is read again does not come: the old one stays. */
void handshake_lists_late(struct upstream_instance *instance);
void handshake_forget(struct upstream_instance *instance);
void handshake_set_verdict(struct upstream_instance *instance, enum verdict verdict);

/* inbound.c, on the home */
void instance_handle_line(struct upstream_instance *instance, struct slice line);

/* call.c, on the home */
void calls_flush(struct upstream_instance *instance);
void calls_fail_all(struct upstream_instance *instance, struct slice reason);
/* Fails those over time; true when any are left. */
bool calls_check_time(struct upstream_instance *instance, uint64_t now_ms);
/* The answer to a call; false: no call has that id. */
bool calls_answer(struct upstream_instance *instance, struct slice id,
                  enum upstream_outcome outcome, struct slice bytes);
/* A notification for the call with that progress token; false: there is none. */
bool calls_progress(struct upstream_instance *instance, struct slice token, struct slice params);
/* A log message, to the longest running call of each origin context; false when no call runs. */
bool calls_log(struct upstream_instance *instance, struct slice params);

/* Why a call would wait in vain now; empty: it would not. */
struct slice instance_refusal(const struct upstream_instance *instance, char *text, size_t size);

/* set.c, any thread */
void set_instance_closed(struct upstream_set *set);
