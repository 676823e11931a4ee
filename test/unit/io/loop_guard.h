/* A loop with a guard: a test that waits for something that never comes fails instead of hanging.
 */
#pragma once

#include "io/loop.h"
#include "test.h"

enum { GUARD_MS = 20000 };

struct guarded {
    struct io_loop *loop;
    struct io_timer *guard;
    bool is_late;
};

static void guard_fired(void *context) {
    struct guarded *guarded = context;
    guarded->is_late = true;
    io_loop_stop(guarded->loop);
}

static struct io_loop *guarded_new(struct guarded *guarded) {
    *guarded = (struct guarded){.loop = NULL};
    if (io_loop_new(&guarded->loop) != 0)
        CANNOT_GO_ON();
    guarded->guard = io_timer_new(guarded->loop, guard_fired, guarded);
    io_timer_start(guarded->guard, GUARD_MS);
    return guarded->loop;
}

static void guarded_run(struct guarded *guarded) {
    io_loop_run(guarded->loop);
    CHECK(!guarded->is_late);
}

static void guarded_free(struct guarded *guarded) {
    io_timer_free(guarded->guard);
    guarded->loop = io_loop_free(guarded->loop);
}

/* Calls `fn` once after `n` turns of the loop: long enough for all that was due to happen. */
struct later {
    struct io_message message;
    struct io_loop *loop;
    unsigned n;
    void (*fn)(void *context);
    void *context;
};

MAYBE_UNUSED static void later_delivered(struct io_message *message) {
    struct later *later = CONTAINER_OF(message, struct later, message);
    if (later->n-- > 0)
        io_loop_post(later->loop, &later->message);
    else
        later->fn(later->context);
}

MAYBE_UNUSED static void later_start(struct later *later) {
    later->message = (struct io_message){.deliver = later_delivered};
    io_loop_post(later->loop, &later->message);
}
