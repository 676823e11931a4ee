/*
 * Who watches an instance, and what its server is asked for in their name. watch.c has
 * those who do, topic.c what they want and hear; subscribe.c asks servers that have sessions, one
 * resource after the other; listen.c asks those of 2026-07-28 for everything at once. All of it
 * belongs to the home of the instance, but for what says "any thread".
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/map.h"
#include "base/slice.h"
#include "io/loop.h"
#include "json/reader.h"
#include "mcp/message.h"
#include "mcp/protocol.h"
#include "tally.h"
#include "upstream/upstream.h"

struct listen;
struct transport_failure;

/* As the server knows of it, or is about to. */
enum topic_state {
    TOPIC_OFF,
    TOPIC_ASKED,
    TOPIC_ON,
    TOPIC_LEAVING, /* resources/unsubscribe is out */
};

/* A resource or a task that is watched. */
struct topic {
    struct list watches; /* none: it goes when the server has let go of it */
    enum topic_state state;
    bool is_refused; /* it was on before, and the server does not take it again */
    /* subscribe.c's. */
    struct list_link ask_link; /* in watches->queue, or in ->out */
    uint64_t ask_id, asked_ms;
    /* listen.c's. */
    uint64_t listen_id; /* the last listen that asks for it */
    bool is_honoured;   /* by the one that is being acknowledged */
    bool was_on;        /* at the listen before the current one */
    struct tally tally;
    bool is_task;
    size_t len; /* of the key: what kind it is, a byte, then URI or id */
    char key[];
};

struct watches {
    struct list all;        /* those that have begun, to tell them the end */
    struct list lists;      /* those of them that want lists */
    struct map topics;      /* key to struct topic */
    size_t n_resources;     /* watches in them, tasks' too */
    size_t n_bytes;         /* of their URIs and ids */
    atomic_size_t n_wanted; /* all that have not failed */
    bool is_ready;          /* the instance is */
    atomic_uint n_heard;    /* on their way from other workers */
    atomic_bool has_missed; /* there were too many of them */
    /* subscribe.c's. */
    struct list queue, out;      /* topics: to be asked for, or let go of; and asked for */
    size_t n_out;                /* in the latter */
    struct io_timer *ask_timer;  /* no answer came */
    struct io_timer *hear_timer; /* runs: nothing is asked for before the server can tell */
    bool is_deaf;                /* what the server tells by itself does not arrive */
    /* listen.c's. */
    struct listen *current, *next, *old;
    struct io_timer *listen_timer; /* the next attempt */
    struct io_timer *ack_timer;    /* the next one was not acknowledged */
    struct io_timer *old_timer;    /* the old one ends */
    uint64_t retry_ms, retry_at_ms;
    unsigned n_failed;
    bool is_refused;    /* it is not asked again, unless somebody comes who wants it */
    bool is_careful;    /* asks for one new resource at a time: some are refused */
    bool has_surplus;   /* the server tells of something that nobody wants any more */
    bool has_lost;      /* a listen: lists may have changed since */
    unsigned lists_was; /* that the old one was to tell of */
    struct tally list_tallies[MCP_LIST_COUNT];
};

/* One that somebody has started. */
struct upstream_watch {
    atomic_uint refs; /* whoever started it, and the home */
    atomic_bool is_gone;
    struct io_loop *loop;
    struct upstream_instance *instance; /* a reference; the home's, until it is gone */
    struct upstream_watch_events events;
    void *context;
    struct io_message start_message, stop_message;
    bool has_begun, is_stopped, is_told;
    unsigned list_mask;
    struct list_link link;      /* in watches->all */
    struct list_link want_link; /* in topic->watches or watches->lists; unlinked: it has failed */
    struct topic *topic;        /* NULL: lists */
    enum upstream_watched kind;
    bool is_too_long;
    size_t key_len; /* as a topic's; 0: of lists */
    char key[];
};

/* watch.c, for the instance */
void watches_init(struct upstream_instance *instance);
/* Its timers; with the instance's own. */
void watches_free_timers(struct upstream_instance *instance);
/* Somebody watches: it is not stopped for being idle. */
bool watches_any(const struct upstream_instance *instance);
void watches_ready(struct upstream_instance *instance);
/* It is not ready any more. */
void watches_lost(struct upstream_instance *instance);
/* It does not start: those who wait for that fail. */
void watches_fail(struct upstream_instance *instance, struct slice reason);
/* It is closed for good. */
void watches_close(struct upstream_instance *instance);
/* The gateway has ended before it was closed, and its loop with it: no event comes. */
void watches_drop(struct upstream_instance *instance);
/* The answer to a request of theirs; false: it is none. */
bool watches_answer(struct upstream_instance *instance, const struct mcp_message *message);
bool watches_refused(struct upstream_instance *instance, uint64_t id,
                     const struct transport_failure *failure);
/* Whether what an HTTP server tells by itself arrives. */
void watches_hearing(struct upstream_instance *instance, bool is_hearing);
/* A notification that is none of a call's: a resource, a list, what becomes of a listen. */
void watches_notified(struct upstream_instance *instance, const struct mcp_message *message);
/* Any thread: notifications/resources/updated that came with the answer to a call. */
void watches_overhear(struct upstream_instance *instance, const struct json_reader *reader,
                      const struct mcp_message *message);

/* topic.c */
/* Of 2026-07-28. */
bool watches_modern(const struct upstream_instance *instance);
/* It is wanted no more; its topic is left to the caller, who settles it. NULL: it had none. */
struct topic *watch_leave(struct upstream_watch *watch);
/* Nothing, when it has heard that already. */
void watch_live(struct upstream_watch *watch, unsigned list_mask);
void watch_failed(struct upstream_watch *watch, enum upstream_outcome outcome, struct slice bytes);
/* NULL: no memory. */
struct topic *topic_new(struct watches *watches, enum upstream_watched kind, struct slice key);
/* The URI, or the server's id of the task. */
struct slice topic_name(const struct topic *topic);
/* The server has declared that it can tell of such a thing. */
bool topic_is_served(const struct upstream_instance *instance, const struct topic *topic);
void topic_free(struct watches *watches, struct topic *topic);
#define WATCH_TIMEOUT "the upstream did not answer in time whether it tells of changes (timeout)"
/* The server tells of it from now on: those who wait hear that, and the others that it may have
 * been updated. */
void topic_on(struct upstream_instance *instance, struct topic *topic);
/* Those who wait for it fail; it is off. */
void topic_fail(struct upstream_instance *instance, struct topic *topic,
                enum upstream_outcome outcome, struct slice bytes);
/* And for good: the others will see what has become of it when they look; those of a task hear
 * that it is lost. */
void topic_refuse(struct upstream_instance *instance, struct topic *topic,
                  enum upstream_outcome outcome, struct slice bytes);
/* Its state has changed: asks, lets go of it or frees it. */
void topic_settle(struct upstream_instance *instance, struct topic *topic);
/* Of those lists changes are told, of the others not. */
void watches_lists_live(struct upstream_instance *instance, unsigned list_mask);
void watches_lists_fail(struct upstream_instance *instance, enum upstream_outcome outcome,
                        struct slice reason);
/* Everything that is on may have been updated. */
void watches_missed(struct upstream_instance *instance);
/* The resource or task that a notification is about, by URI or id (may be NULL), or NULL. */
struct topic *watches_find(struct upstream_instance *instance, enum upstream_watched kind,
                           const struct json_node *name);
/* Empty params: nobody knows what has become of it. */
void topic_tell(struct upstream_instance *instance, struct topic *topic, struct slice params);
/* The lists that such a notification is about. */
unsigned watches_list_mask(enum mcp_method method);

/* subscribe.c */
void subscribe_begin(struct upstream_instance *instance);
void subscribe_end(struct upstream_instance *instance);
bool subscribe_may_ask(const struct upstream_instance *instance);
void subscribe_queue(struct upstream_instance *instance, struct topic *topic);
bool subscribe_answer(struct upstream_instance *instance, uint64_t id,
                      const struct mcp_message *message);
bool subscribe_refused(struct upstream_instance *instance, uint64_t id,
                       const struct transport_failure *failure);
io_timer_fn subscribe_on_late, subscribe_on_heard;

/* listen.c */
void listen_begin(struct upstream_instance *instance);
void listen_end(struct upstream_instance *instance);
/* Asks for what is wanted and not asked for yet. */
void listen_update(struct upstream_instance *instance);
/* Somebody new wants something: it is asked for also where it was refused before. */
void listen_wanted(struct upstream_instance *instance);
/* Nobody wants that any more. */
void listen_unwanted(struct upstream_instance *instance);
/* The lists whose changes are told now; false: that is not known yet. */
bool listen_lists(const struct upstream_instance *instance, unsigned *ret_list_mask);
/* A child's. */
bool listen_answer(struct upstream_instance *instance, uint64_t id,
                   const struct mcp_message *message);
void listen_notified(struct upstream_instance *instance, const struct mcp_message *message);
io_timer_fn listen_on_retry, listen_on_late, listen_on_old;
