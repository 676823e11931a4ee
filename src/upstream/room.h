/*
 * How many instances there may be ([mcp.downstream_cache] max_size), and which one goes when
 * another one is needed: the one that was unused longest.
 *
 * When an instance was used is written by every call, on any worker, and calls take no lock for it.
 * So a heap holds all instances by what was read of them last, which is never later than the truth:
 * the first is looked at again, and moves down when it was used since; one that has not moved was
 * unused longest. That costs O(log n) for each instance that was used between two looks.
 *
 * An instance is claimed by the bit ROOM_CLAIMED of its n_under_way, which counts its calls: set
 * only while it is 0, and every call looks at it when it counts itself. So either the call is
 * counted and the instance stays, or the instance goes and the call knows it.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

struct upstream_instance;

#define ROOM_CLAIMED (SIZE_MAX / 2 + 1)

struct room_entry {
    uint64_t used_ms; /* or earlier than it was used last */
    struct upstream_instance *instance;
};

/* The set's mutex for open instances guards it, but for what is atomic. */
struct room {
    atomic_size_t max;
    /* Nothing could go at the last look, and nothing has come to an end since. */
    atomic_bool is_full;
    struct room_entry *heap; /* by used_ms; instance->room_place tells where each one is */
    size_t n, cap;
    uint64_t told_ms; /* when the log was told that it is full */
};

void room_deinit(struct room *room);
bool room_has_place(const struct room *room);
/* -ENOMEM. */
MUST_CHECK int room_add(struct room *room, struct upstream_instance *instance);
/* Nothing, when it is not in there. */
void room_remove(struct room *room, struct upstream_instance *instance);
/*
 * Claims and removes the instance that was unused longest of those that may go: no call under way,
 * and not starting. NULL: none may.
 */
struct upstream_instance *room_claim(struct room *room, uint64_t now_ms);
/* Any thread, without the lock: something that kept an instance has come to an end. */
static inline void room_stir(struct room *room) {
    if (UNLIKELY(atomic_load(&room->is_full)))
        atomic_store(&room->is_full, false);
}
