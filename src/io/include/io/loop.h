/*
 * The event loop of one worker thread: mailbox, timers, descriptors, signals. A thin layer over
 * libuv that keeps three promises: a callback never runs from inside the call that set it up; after
 * a *_free() no callback of that object runs; objects belong to the thread of their loop, except
 * where a function says "any thread".
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/budget.h"
#include "base/compiler.h"
#include "base/list.h"

struct io_loop;
struct io_timer;
struct io_watch;
struct io_signal;

MUST_CHECK int io_loop_new(struct io_loop **ret_loop);
/* After io_loop_run() has returned and everything on the loop was freed. Accepts NULL. */
struct io_loop *io_loop_free(struct io_loop *loop);

/*
 * What streams of this loop hold counts for `budget`, which several loops share; while it is
 * exceeded they do not read. Before the first stream. NULL: there is no bound.
 */
void io_loop_set_budget(struct io_loop *loop, struct budget *budget);
struct budget *io_loop_budget(const struct io_loop *loop);

/* Runs until io_loop_stop(); the calling thread becomes the loop's thread. */
void io_loop_run(struct io_loop *loop);
/* Any thread, also before io_loop_run(). One stop ends one run. */
void io_loop_stop(struct io_loop *loop);
/* Milliseconds of the monotonic clock, as of this turn of the loop. */
uint64_t io_loop_now(const struct io_loop *loop);

/*
 * A message to a loop: embedded in an object of the sender, which belongs to the receiver from
 * io_loop_post() on. Messages of one sender arrive in order.
 */
struct io_message {
    struct list_link link;
    void (*deliver)(struct io_message *message);
};

/* Any thread. A post to the own loop is delivered in its next turn, without a system call. */
void io_loop_post(struct io_loop *loop, struct io_message *message);

typedef void io_timer_fn(void *context);
struct io_timer *io_timer_new(struct io_loop *loop, io_timer_fn *fn, void *context);
/* (Re)starts: fires once, `delay_ms` from now. */
void io_timer_start(struct io_timer *timer, uint64_t delay_ms);
void io_timer_stop(struct io_timer *timer);
bool io_timer_is_running(const struct io_timer *timer);
struct io_timer *io_timer_free(struct io_timer *timer);

/* Calls `fn` whenever the descriptor, which stays the caller's, is readable. */
typedef void io_watch_fn(void *context);
MUST_CHECK int io_watch_new(struct io_loop *loop, int fd, io_watch_fn *fn, void *context,
                            struct io_watch **ret_watch);
struct io_watch *io_watch_free(struct io_watch *watch);

typedef void io_signal_fn(void *context, int signal);
MUST_CHECK int io_signal_new(struct io_loop *loop, int signal, io_signal_fn *fn, void *context,
                             struct io_signal **ret_signal);
struct io_signal *io_signal_free(struct io_signal *signal);
