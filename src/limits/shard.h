/*
 * A part of the table of counters, under a mutex of its own: a linear hash table (Litwin 1980). It
 * grows and shrinks one chain at a time, so that no check ever waits for a table to be rebuilt. All
 * but the making of it is for who holds the mutex.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "counter.h"

struct shard {
    pthread_mutex_t mutex;
    struct counter **chains;
    uint32_t n_chains, capacity;
    uint32_t mask; /* the power of two that n_chains is below or at, less one */
    uint32_t count;
    uint32_t next; /* chain to be swept */
};

/* -ENOMEM; it can be deinitialised also then. */
MUST_CHECK int shard_init(struct shard *shard);
/* With the counters. */
void shard_deinit(struct shard *shard);

static inline struct counter **shard_chain(const struct shard *shard, uint64_t key) {
    uint32_t chain = (uint32_t)key & shard->mask;
    if (chain >= shard->n_chains)
        chain &= shard->mask >> 1;
    return &shard->chains[chain];
}

static inline struct counter *shard_find(const struct shard *shard, uint64_t key) {
    struct counter *counter = *shard_chain(shard, key);
    while (counter != NULL && counter->key != key)
        counter = counter->next;
    return counter;
}

void shard_insert(struct shard *shard, struct counter *counter);
/* Puts `to` where `from` is, and frees that. */
void shard_replace(struct shard *shard, struct counter *from, struct counter *to);

typedef void shard_forget_fn(void *context, const struct counter *counter);
/* In the next so many chains: frees the counters that are over, of which `forget` is told, and the
 * room that others do not need any more. False: the last chain was among them. */
bool shard_sweep(struct shard *shard, uint64_t now_ms, size_t n, shard_forget_fn *forget,
                 void *context);
