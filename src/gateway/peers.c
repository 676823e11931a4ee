#include "peers.h"

#include <string.h>

#include "base/mem.h"
#include "base/random.h"

enum { V6_COUNTED_BITS = 64 };

void peers_init(struct peers *peers, size_t max, size_t max_per_address) {
    atomic_init(&peers->count, 0);
    peers->max = max;
    peers->max_per_address = max_per_address;
    random_bytes(&peers->key, sizeof peers->key);
    for (size_t i = 0; i < PEERS_SHARDS; i++) {
        pthread_mutex_init(&peers->shards[i].mutex, NULL);
        map_init(&peers->shards[i].counts);
    }
    peers->is_there = true;
}

void peers_deinit(struct peers *peers) {
    for (size_t i = 0; i < PEERS_SHARDS && peers->is_there; i++) {
        map_deinit(&peers->shards[i].counts);
        pthread_mutex_destroy(&peers->shards[i].mutex);
    }
    peers->is_there = false;
}

/* The first half of an IPv6 address and a whole IPv4 one differ in length. */
static struct slice key_of(const struct network *peer) {
    return slice_make(peer->bytes,
                      (peer->family_bits == NETWORK_V6_BITS ? V6_COUNTED_BITS : NETWORK_V4_BITS) /
                          8);
}

static struct peers_shard *shard_of(struct peers *peers, struct slice key) {
    return &peers->shards[hash_siphash(&peers->key, key) % PEERS_SHARDS];
}

/* A number as the map's value: no allocation for each. 0 is "not there". */
static void *as_value(uintptr_t count) {
    union {
        uintptr_t number;
        void *pointer;
    } value = {.number = count};
    return value.pointer;
}

static uintptr_t as_count(void *value) {
    return (uintptr_t)value;
}

static enum peers_verdict enter_address(struct peers *peers, struct slice key, bool is_trusted) {
    struct peers_shard *shard = shard_of(peers, key);
    enum peers_verdict verdict = PEERS_FULL_OF_ONE;
    pthread_mutex_lock(&shard->mutex);
    uintptr_t count = as_count(map_get(&shard->counts, key));
    if (is_trusted || count < peers->max_per_address)
        verdict =
            map_set(&shard->counts, key, as_value(count + 1)) == 0 ? PEERS_WELCOME : PEERS_FULL;
    pthread_mutex_unlock(&shard->mutex);
    return verdict;
}

enum peers_verdict peers_enter(struct peers *peers, const struct network *peer, bool is_trusted) {
    if (atomic_fetch_add(&peers->count, 1) >= peers->max) {
        atomic_fetch_sub(&peers->count, 1);
        return PEERS_FULL;
    }
    enum peers_verdict verdict =
        peer->family_bits != 0 ? enter_address(peers, key_of(peer), is_trusted) : PEERS_WELCOME;
    if (verdict != PEERS_WELCOME)
        atomic_fetch_sub(&peers->count, 1);
    return verdict;
}

void peers_leave(struct peers *peers, const struct network *peer) {
    if (peer->family_bits != 0) {
        struct slice key = key_of(peer);
        struct peers_shard *shard = shard_of(peers, key);
        pthread_mutex_lock(&shard->mutex);
        uintptr_t count = as_count(map_get(&shard->counts, key));
        if (count <= 1)
            map_remove(&shard->counts, key);
        else
            (void)!map_set(&shard->counts, key, as_value(count - 1)); /* replaces: cannot fail */
        pthread_mutex_unlock(&shard->mutex);
    }
    atomic_fetch_sub(&peers->count, 1);
}
