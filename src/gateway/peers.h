/*
 * How many connections clients have open: in all, and by address. Shared by all workers: the sum is
 * an atomic, the addresses are a map in shards, each under a short lock that is taken once when a
 * connection comes and once when it goes.
 *
 * An address is an IPv4 address or the /64 of an IPv6 one, which is what one household or one
 * machine has at the least. Trusted proxies, behind which many clients are, may have any number.
 * The table cannot outgrow the connections: an address that has none left is not in it.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "base/hash.h"
#include "base/map.h"
#include "base/network.h"
#include "base/slice.h"

enum { PEERS_SHARDS = 16 };

struct peers_shard {
    pthread_mutex_t mutex; /* guards counts */
    struct map counts;     /* of an address to how many connections it has, as a number */
};

struct peers {
    atomic_size_t count;
    size_t max, max_per_address;
    bool is_there; /* between init and deinit */
    struct hash_key key;
    struct peers_shard shards[PEERS_SHARDS];
};

void peers_init(struct peers *peers, size_t max, size_t max_per_address);
void peers_deinit(struct peers *peers);

enum peers_verdict {
    PEERS_WELCOME,
    PEERS_FULL,        /* `max` are open, or there is no memory to count it */
    PEERS_FULL_OF_ONE, /* this address has `max_per_address` */
};

/* Any thread. Only who was welcome is counted, and has to leave. `is_trusted`: one that many
 * clients share, to whom max_per_address is not applied. */
MUST_CHECK enum peers_verdict peers_enter(struct peers *peers, const struct network *peer,
                                          bool is_trusted);
/* Any thread; with the same address. */
void peers_leave(struct peers *peers, const struct network *peer);
