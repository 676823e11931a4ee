#include "room.h"

#include <errno.h>

#include "base/mem.h"
#include "private.h"

void room_deinit(struct room *room) {
    mem_free(room->heap);
    room->heap = NULL;
    room->n = room->cap = 0;
}

static void put(struct room *room, size_t at, struct room_entry entry) {
    room->heap[at] = entry;
    entry.instance->room_place = at + 1;
}

static void move_up(struct room *room, size_t at, struct room_entry entry) {
    while (at != 0 && entry.used_ms < room->heap[(at - 1) / 2].used_ms) {
        put(room, at, room->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    put(room, at, entry);
}

/* Among the first n. */
static void move_down(struct room *room, size_t n, size_t at, struct room_entry entry) {
    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < n && room->heap[child + 1].used_ms < room->heap[child].used_ms)
            child++;
        if (child >= n || room->heap[child].used_ms >= entry.used_ms)
            break;
        put(room, at, room->heap[child]);
        at = child;
    }
    put(room, at, entry);
}

bool room_has_place(const struct room *room) {
    return room->n < atomic_load(&room->max);
}

int room_add(struct room *room, struct upstream_instance *instance) {
    if (room->n == room->cap) {
        size_t cap = room->cap != 0 ? room->cap * 2 : 64;
        struct room_entry *heap = mem_realloc(room->heap, cap * sizeof *heap);
        if (heap == NULL)
            return -ENOMEM;
        room->heap = heap;
        room->cap = cap;
    }
    uint64_t used_ms = atomic_load(&instance->last_used_ms);
    move_up(room, room->n++, (struct room_entry){used_ms, instance});
    return 0;
}

void room_remove(struct room *room, struct upstream_instance *instance) {
    if (instance->room_place == 0)
        return;
    size_t at = instance->room_place - 1;
    instance->room_place = 0;
    struct room_entry last = room->heap[--room->n];
    room_stir(room);
    if (last.instance == instance)
        return;
    if (at != 0 && last.used_ms < room->heap[(at - 1) / 2].used_ms)
        move_up(room, at, last);
    else
        move_down(room, room->n, at, last);
}

static bool claim(struct upstream_instance *instance) {
    size_t none = 0;
    if (atomic_load(&instance->start_posted) || atomic_load(&instance->is_starting))
        return false;
    return atomic_compare_exchange_strong(&instance->n_under_way, &none, ROOM_CLAIMED);
}

/*
 * What may not go is put aside behind the heap, and comes back into it at the end as if it had been
 * used now. The flag is set before the look, so that what comes to an end meanwhile clears it.
 */
struct upstream_instance *room_claim(struct room *room, uint64_t now_ms) {
    struct upstream_instance *found = NULL;
    size_t n = room->n;
    if (atomic_load(&room->is_full))
        return NULL;
    atomic_store(&room->is_full, true);
    while (n != 0) {
        struct room_entry first = room->heap[0];
        uint64_t used_ms = atomic_load(&first.instance->last_used_ms);
        if (used_ms > first.used_ms) {
            move_down(room, n, 0, (struct room_entry){used_ms, first.instance});
        } else if (claim(first.instance)) {
            found = first.instance;
            break;
        } else {
            struct room_entry last = room->heap[--n];
            if (n != 0)
                move_down(room, n, 0, last);
            put(room, n, (struct room_entry){now_ms, first.instance});
        }
    }
    for (; n < room->n; n++)
        move_up(room, n, room->heap[n]);
    if (found != NULL)
        room_remove(room, found); /* clears the flag */
    return found;
}
