#include "io/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "base/checked.h"
#include "base/mem.h"
#include "loop_private.h"
#include "tls_private.h"

/*
 * The mailbox is a list under a mutex that is held for a few instructions, plus a uv_async_t to
 * wake the loop. A loop's messages to itself go to a second list without lock or system call,
 * drained by an idle handle that is active only while there is something in it.
 */

static void deliver_all(struct list *messages) {
    struct list_link *link;
    while ((link = list_pop_front(messages)) != NULL) {
        struct io_message *message = CONTAINER_OF(link, struct io_message, link);
        message->deliver(message);
    }
}

static void drain_mailbox(struct io_loop *loop) {
    struct list batch;
    list_init(&batch);
    pthread_mutex_lock(&loop->mutex);
    list_splice_back(&batch, &loop->mailbox);
    pthread_mutex_unlock(&loop->mutex);
    deliver_all(&batch);
}

static void on_async(uv_async_t *async) {
    struct io_loop *loop = async->data;
    drain_mailbox(loop);
    if (atomic_load(&loop->stop_wanted))
        uv_stop(&loop->uv);
}

static void on_idle(uv_idle_t *idle) {
    struct io_loop *loop = idle->data;
    struct list batch;
    list_init(&batch);
    list_splice_back(&batch, &loop->local);
    deliver_all(&batch);
    if (list_is_empty(&loop->local))
        uv_idle_stop(idle);
}

static void on_turn_end(uv_prepare_t *prepare) {
    streams_end_turn(prepare->data);
}

static void close_kept_timers(struct io_loop *loop);

/* libuv aborts where its table of descriptors cannot grow: it gets at the reserve, too (mem.h). */
static void *uv_calloc(size_t n, size_t size) {
    size_t whole = 0;
    return size_mul_overflows(n, size, &whole) ? NULL : mem_xalloc(whole);
}

int io_loop_new(struct io_loop **ret_loop) {
    uv_replace_allocator(mem_xalloc, mem_xrealloc, uv_calloc, mem_free);
    struct io_loop *loop = mem_xalloc(sizeof *loop);
    int error = uv_loop_init(&loop->uv);
    if (error != 0) {
        mem_free(loop);
        return error;
    }
    pthread_mutex_init(&loop->mutex, NULL);
    list_init(&loop->mailbox);
    list_init(&loop->local);
    uv_async_init(&loop->uv, &loop->async, on_async);
    uv_idle_init(&loop->uv, &loop->idle);
    uv_timer_init(&loop->uv, &loop->starved_timer);
    uv_prepare_init(&loop->uv, &loop->turn_end);
    loop->turn_end.data = loop;
    uv_prepare_start(&loop->turn_end, on_turn_end);
    uv_unref((uv_handle_t *)&loop->turn_end);
    streams_init(loop);
    list_init(&loop->timers_kept);
    loop->starved_timer.data = loop;
    loop->async.data = loop;
    loop->idle.data = loop;
    *ret_loop = loop;
    return 0;
}

struct io_loop *io_loop_free(struct io_loop *loop) {
    if (loop == NULL)
        return NULL;
    /*
     * Messages that nobody will deliver to a running gateway still own memory: let them free it,
     * and what they post in turn. Local ones are older: no post is local since the loop stopped.
     */
    while (!list_is_empty(&loop->local) || !list_is_empty(&loop->mailbox)) {
        deliver_all(&loop->local);
        drain_mailbox(loop);
    }
    close_kept_timers(loop);
    uv_close((uv_handle_t *)&loop->async, NULL);
    uv_close((uv_handle_t *)&loop->idle, NULL);
    uv_close((uv_handle_t *)&loop->starved_timer, NULL);
    uv_close((uv_handle_t *)&loop->turn_end, NULL);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    uv_loop_close(&loop->uv);
    tls_loop_free(loop->tls);
    pthread_mutex_destroy(&loop->mutex);
    mem_free(loop);
    return NULL;
}

void io_loop_set_budget(struct io_loop *loop, struct budget *budget) {
    loop->budget = budget;
}

struct budget *io_loop_budget(const struct io_loop *loop) {
    return loop->budget;
}

/* What this thread posted before it ran the loop comes before what it posts from now on. */
static void adopt_mailbox(struct io_loop *loop) {
    pthread_mutex_lock(&loop->mutex);
    list_splice_back(&loop->local, &loop->mailbox);
    pthread_mutex_unlock(&loop->mutex);
    if (!list_is_empty(&loop->local))
        uv_idle_start(&loop->idle, on_idle);
}

void io_loop_run(struct io_loop *loop) {
    adopt_mailbox(loop);
    loop->thread = pthread_self();
    atomic_store(&loop->has_thread, true);
    mem_reserve_open();
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    mem_reserve_close();
    /* From here on every post takes the locked way, whoever makes it. */
    atomic_store(&loop->has_thread, false);
    atomic_store(&loop->stop_wanted, false); /* one stop ends one run */
}

void io_loop_stop(struct io_loop *loop) {
    atomic_store(&loop->stop_wanted, true);
    uv_async_send(&loop->async);
}

uint64_t io_loop_now(const struct io_loop *loop) {
    return uv_now(&loop->uv);
}

void io_loop_post(struct io_loop *loop, struct io_message *message) {
    if (atomic_load(&loop->has_thread) && pthread_equal(loop->thread, pthread_self())) {
        if (list_is_empty(&loop->local))
            uv_idle_start(&loop->idle, on_idle);
        list_push_back(&loop->local, &message->link);
        return;
    }
    pthread_mutex_lock(&loop->mutex);
    bool was_empty = list_is_empty(&loop->mailbox);
    list_push_back(&loop->mailbox, &message->link);
    pthread_mutex_unlock(&loop->mutex);
    if (was_empty)
        uv_async_send(&loop->async);
}

/*
 * Timers. Nearly all of them watch for what does not happen: they are started for each call, put
 * off with each byte, and freed. So the heap of libuv is left alone as far as possible: a deadline
 * that moves away is only noted, and looked at when the old one comes; a stopped timer fires into
 * the void; and freed ones are kept for the next io_timer_new().
 */

enum { TIMERS_KEPT = 1024 };

struct io_timer {
    uv_timer_t uv;
    struct io_loop *loop;
    io_timer_fn *fn;
    void *context;
    uint64_t deadline; /* in the loop's time */
    uint64_t set_for;  /* when libuv fires; while `is_set` */
    bool is_running, is_set;
    struct list_link link; /* in loop->timers_kept */
};

static void on_timer(uv_timer_t *uv) {
    struct io_timer *timer = uv->data;
    uint64_t now = uv_now(&timer->loop->uv);
    timer->is_set = false;
    if (!timer->is_running)
        return;
    if (now < timer->deadline) {
        timer->is_set = true;
        timer->set_for = timer->deadline;
        uv_timer_start(&timer->uv, on_timer, timer->deadline - now, 0);
        return;
    }
    timer->is_running = false;
    timer->fn(timer->context);
}

struct io_timer *io_timer_new(struct io_loop *loop, io_timer_fn *fn, void *context) {
    struct list_link *kept = list_pop_front(&loop->timers_kept);
    struct io_timer *timer;
    if (kept != NULL) {
        loop->n_timers_kept--;
        timer = CONTAINER_OF(kept, struct io_timer, link);
    } else {
        timer = mem_xalloc(sizeof *timer);
        uv_timer_init(&loop->uv, &timer->uv);
        timer->uv.data = timer;
        timer->loop = loop;
    }
    timer->fn = fn;
    timer->context = context;
    return timer;
}

void io_timer_start(struct io_timer *timer, uint64_t delay_ms) {
    uint64_t now = uv_now(&timer->loop->uv);
    timer->deadline = delay_ms < UINT64_MAX - now ? now + delay_ms : UINT64_MAX;
    timer->is_running = true;
    if (timer->is_set && timer->set_for <= timer->deadline)
        return;
    timer->is_set = true;
    timer->set_for = timer->deadline;
    uv_timer_start(&timer->uv, on_timer, delay_ms, 0);
}

void io_timer_stop(struct io_timer *timer) {
    timer->is_running = false;
}

bool io_timer_is_running(const struct io_timer *timer) {
    return timer->is_running;
}

static void free_handle(uv_handle_t *handle) {
    mem_free(handle->data);
}

struct io_timer *io_timer_free(struct io_timer *timer) {
    if (timer == NULL)
        return NULL;
    timer->is_running = false;
    if (timer->loop->n_timers_kept < TIMERS_KEPT) {
        timer->loop->n_timers_kept++;
        list_push_front(&timer->loop->timers_kept, &timer->link);
    } else {
        uv_close((uv_handle_t *)&timer->uv, free_handle);
    }
    return NULL;
}

static void close_kept_timers(struct io_loop *loop) {
    struct list_link *link;
    loop->n_timers_kept = TIMERS_KEPT; /* what is freed from here on is closed */
    while ((link = list_pop_front(&loop->timers_kept)) != NULL) {
        struct io_timer *timer = CONTAINER_OF(link, struct io_timer, link);
        uv_close((uv_handle_t *)&timer->uv, free_handle);
    }
}

/* Descriptors. */

struct io_watch {
    uv_poll_t uv;
    io_watch_fn *fn;
    void *context;
};

static void on_poll(uv_poll_t *uv, int status, int events) {
    struct io_watch *watch = uv->data;
    (void)status; /* an error shows when the descriptor is read */
    (void)events;
    watch->fn(watch->context);
}

int io_watch_new(struct io_loop *loop, int fd, io_watch_fn *fn, void *context,
                 struct io_watch **ret_watch) {
    struct io_watch *watch = mem_xalloc(sizeof *watch);
    int error = uv_poll_init(&loop->uv, &watch->uv, fd);
    if (error != 0) {
        mem_free(watch);
        return error;
    }
    watch->uv.data = watch;
    watch->fn = fn;
    watch->context = context;
    uv_poll_start(&watch->uv, UV_READABLE, on_poll);
    *ret_watch = watch;
    return 0;
}

struct io_watch *io_watch_free(struct io_watch *watch) {
    if (watch != NULL)
        uv_close((uv_handle_t *)&watch->uv, free_handle);
    return NULL;
}

/* Signals. */

struct io_signal {
    uv_signal_t uv;
    io_signal_fn *fn;
    void *context;
};

static void on_signal(uv_signal_t *uv, int number) {
    struct io_signal *signal = uv->data;
    signal->fn(signal->context, number);
}

int io_signal_new(struct io_loop *loop, int number, io_signal_fn *fn, void *context,
                  struct io_signal **ret_signal) {
    struct io_signal *signal = mem_xalloc(sizeof *signal);
    int error = uv_signal_init(&loop->uv, &signal->uv);
    if (error != 0) {
        mem_free(signal);
        return error;
    }
    signal->uv.data = signal;
    signal->fn = fn;
    signal->context = context;
    error = uv_signal_start(&signal->uv, on_signal, number);
    if (error != 0) {
        io_signal_free(signal);
        return error;
    }
    *ret_signal = signal;
    return 0;
}

struct io_signal *io_signal_free(struct io_signal *signal) {
    if (signal != NULL)
        uv_close((uv_handle_t *)&signal->uv, free_handle);
    return NULL;
}
