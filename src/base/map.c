#include "base/map.h"

#include <errno.h>
#include <stdint.h>

#include "base/checked.h"
#include "base/mem.h"
#include "base/random.h"

enum { FIRST_ENTRIES = 8, NEAR_KEY = 16 };

struct map_entry {
    union {
        char near[NEAR_KEY]; /* a key that fits */
        char *far;           /* owned: another one */
    } key;
    size_t key_len;
    void *value;
    uint64_t hash;
    bool is_there; /* false: it was removed */
};

static struct slice key_of(const struct map_entry *entry) {
    bool is_near = entry->key_len <= NEAR_KEY;
    return slice_make(is_near ? entry->key.near : entry->key.far, entry->key_len);
}

static void free_key(struct map_entry *entry) {
    if (entry->is_there && entry->key_len > NEAR_KEY)
        mem_free(entry->key.far);
}

/* A bucket whose entry was removed still points at it, so that probing goes on; 0 ends a probe. */

void map_init(struct map *map) {
    *map = (struct map){0};
    random_bytes(&map->key, sizeof map->key);
}

void map_clear(struct map *map) {
    for (size_t i = 0; i < map->n_entries; i++)
        free_key(&map->entries[i]);
    mem_free(map->entries);
    mem_free(map->buckets);
    *map = (struct map){.key = map->key};
}

/* The last entry went. A small map, which will be used again soon, keeps its memory. */
static void empty(struct map *map) {
    if (map->cap_entries > FIRST_ENTRIES) {
        map_clear(map);
        return;
    }
    map->n_entries = 0;
    memset(map->buckets, 0, map->n_buckets * sizeof *map->buckets);
}

void map_deinit(struct map *map) {
    if (map != NULL)
        map_clear(map);
}

static struct map_entry *find(const struct map *map, struct slice key, uint64_t hash) {
    if (map->n_buckets == 0)
        return NULL;
    size_t mask = map->n_buckets - 1;
    for (size_t at = (size_t)hash & mask; map->buckets[at] != 0; at = (at + 1) & mask) {
        struct map_entry *entry = &map->entries[map->buckets[at] - 1];
        if (entry->hash == hash && entry->is_there && slice_eq(key_of(entry), key))
            return entry;
    }
    return NULL;
}

void *map_get(const struct map *map, struct slice key) {
    if (map->count == 0)
        return NULL;
    struct map_entry *entry = find(map, key, hash_siphash(&map->key, key));
    return entry != NULL ? entry->value : NULL;
}

bool map_has(const struct map *map, struct slice key) {
    return map_get(map, key) != NULL;
}

static void link_bucket(uint32_t *buckets, size_t n_buckets, uint64_t hash, uint32_t index) {
    size_t mask = n_buckets - 1;
    size_t at = (size_t)hash & mask;
    while (buckets[at] != 0)
        at = (at + 1) & mask;
    buckets[at] = index + 1;
}

/* Room for one more entry: drops the removed ones and doubles when more than half are alive. */
static int make_room(struct map *map) {
    if (map->n_entries < map->cap_entries)
        return 0;
    size_t cap = map->cap_entries == 0               ? FIRST_ENTRIES
                 : map->count * 2 > map->cap_entries ? map->cap_entries * 2
                                                     : map->cap_entries;
    size_t n_buckets = cap * 2;
    if (cap > UINT32_MAX / 4)
        return -ENOMEM;
    struct map_entry *entries = mem_alloc(cap * sizeof *entries);
    uint32_t *buckets = mem_alloc(n_buckets * sizeof *buckets);
    if (entries == NULL || buckets == NULL) {
        mem_free(entries);
        mem_free(buckets);
        return -ENOMEM;
    }
    uint32_t n = 0;
    for (size_t i = 0; i < map->n_entries; i++) {
        if (!map->entries[i].is_there)
            continue;
        entries[n] = map->entries[i];
        link_bucket(buckets, n_buckets, entries[n].hash, n);
        n++;
    }
    mem_free(map->entries);
    mem_free(map->buckets);
    map->entries = entries;
    map->buckets = buckets;
    map->n_entries = n;
    map->cap_entries = cap;
    map->n_buckets = n_buckets;
    return 0;
}

int map_set(struct map *map, struct slice key, void *value) {
    uint64_t hash = hash_siphash(&map->key, key);
    struct map_entry *entry = find(map, key, hash);
    if (entry != NULL) {
        entry->value = value;
        return 0;
    }
    int error = make_room(map);
    if (error != 0)
        return error;
    struct map_entry added = {.key_len = key.len, .value = value, .hash = hash, .is_there = true};
    char *copy = key.len <= NEAR_KEY ? added.key.near : mem_alloc(key.len);
    if (copy == NULL)
        return -ENOMEM;
    if (key.len != 0)
        memcpy(copy, key.ptr, key.len);
    if (key.len > NEAR_KEY)
        added.key.far = copy;
    uint32_t index = (uint32_t)map->n_entries++;
    map->entries[index] = added;
    link_bucket(map->buckets, map->n_buckets, hash, index);
    map->count++;
    return 0;
}

void *map_remove(struct map *map, struct slice key) {
    struct map_entry *entry = map->count != 0 ? find(map, key, hash_siphash(&map->key, key)) : NULL;
    if (entry == NULL)
        return NULL;
    void *value = entry->value;
    free_key(entry);
    *entry = (struct map_entry){.is_there = false};
    map->count--;
    if (map->count == 0)
        empty(map);
    return value;
}

bool map_next(const struct map *map, size_t *cursor, struct slice *ret_key, void **ret_value) {
    while (*cursor < map->n_entries) {
        const struct map_entry *entry = &map->entries[(*cursor)++];
        if (!entry->is_there)
            continue;
        if (ret_key != NULL)
            *ret_key = key_of(entry);
        if (ret_value != NULL)
            *ret_value = entry->value;
        return true;
    }
    return false;
}
