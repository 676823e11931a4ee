/* What the files of io/ share of the loop. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "base/budget.h"
#include "base/list.h"
#include "io/loop.h"

enum { IO_READ_CHUNK = 64 * 1024 };

/* A stream that may read on although too much is held; NULL: none. */
struct io_favourite {
    struct io_stream *stream;
    uint64_t since_ms;
};

struct tls_loop;

struct io_loop {
    uv_loop_t uv;
    uv_async_t async;
    uv_idle_t idle;
    pthread_mutex_t mutex; /* guards mailbox: other threads post */
    struct list mailbox;
    struct list local; /* posts of the loop to itself */
    pthread_t thread;
    atomic_bool has_thread, stop_wanted;
    struct budget *budget;   /* NULL: none */
    struct list timers_kept; /* freed ones, for the next that is wanted */
    size_t n_timers_kept;
    uv_prepare_t turn_end; /* before the loop waits for events */
    struct list unsent;    /* streams that were written to in this turn, or have to tell of it */
    size_t n_unsent;       /* writes since all of them were sent */
    size_t n_writes;       /* in this turn */
    size_t usual_writes;   /* in a turn, of those that write; in sixteenths */
    bool is_busy;          /* what is written waits for the end of the turn */
    struct list starved;   /* streams that would read, but too much is held */
    uv_timer_t starved_timer;
    /* Of the streams that bring more to hold, and of those that drain. */
    struct io_favourite favourites[2];
    struct tls_loop *tls; /* what its TLS streams share (tls_wire.c); NULL: there were none yet */
    char read_chunk[IO_READ_CHUNK]; /* every stream reads into it: bytes are handed on at once */
};

/* stream.c */
void streams_init(struct io_loop *loop);
/* Reading goes on where there is room again. */
void streams_feed(struct io_loop *loop);
/* What was written in this turn leaves. */
void streams_end_turn(struct io_loop *loop);
