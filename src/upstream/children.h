/*
 * The living children of all workers: takes the spawners' events, which arrive on one loop, to the
 * loop of the child they are about.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/slice.h"
#include "io/loop.h"
#include "io/spawner.h"

struct children;

/* `on_lost` runs on `loop` when a spawner is gone. Spawners may be NULL. */
MUST_CHECK int children_new(struct io_loop *loop, struct spawner *isolated, struct spawner *plain,
                            void (*on_lost)(void *context), void *context,
                            struct children **ret_children);
struct children *children_free(struct children *children);

/* Runs on the child's loop, for each of its events; `reason` is text for the log, empty for
 * SPAWNER_STARTED. */
typedef void child_event_fn(void *context, enum spawner_event_kind kind, struct slice reason);

/*
 * Starts a child and registers it; no event comes before this returns. The descriptors stay the
 * caller's. Any thread. 0, or -errno: nothing was started.
 */
MUST_CHECK int children_spawn(struct children *children, bool isolated,
                              struct spawner_command *command, struct io_loop *loop,
                              child_event_fn *fn, void *context, uint64_t *ret_id);
/* Signals its process group. Any thread. */
void children_signal(struct children *children, bool isolated, uint64_t id, int signal);
/* No event of this child comes any more. On the child's loop. */
void children_forget(struct children *children, uint64_t id);
