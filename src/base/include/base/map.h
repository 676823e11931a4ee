/*
 * A hash map from byte strings to pointers: open addressing, keyed hash (a random key per map, so
 * peers cannot flood it), insertion order kept by map_next(). Keys are copied; values belong to the
 * caller.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/hash.h"
#include "base/slice.h"

struct map_entry;

struct map {
    struct map_entry *entries; /* in insertion order */
    uint32_t *buckets;         /* index + 1 into entries; 0 = free */
    size_t count;              /* live entries */
    size_t n_entries, cap_entries, n_buckets;
    struct hash_key key;
};

void map_init(struct map *map);
void map_deinit(struct map *map);

/* The value or NULL. */
void *map_get(const struct map *map, struct slice key);
bool map_has(const struct map *map, struct slice key);
/* Sets or replaces. 0 or -ENOMEM (nothing changed then). `value` must not be NULL. */
MUST_CHECK int map_set(struct map *map, struct slice key, void *value);
/* Takes the entry out and returns its value, or NULL. */
void *map_remove(struct map *map, struct slice key);
void map_clear(struct map *map);

/* Iteration: start with *cursor = 0; false at the end. The current entry may be removed in between.
 */
bool map_next(const struct map *map, size_t *cursor, struct slice *ret_key, void **ret_value);
