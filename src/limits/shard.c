#include "shard.h"

#include <errno.h>

#include "base/mem.h"

enum { CHAINS_MIN = 8 };

int shard_init(struct shard *shard) {
    *shard = (struct shard){.mask = CHAINS_MIN - 1};
    pthread_mutex_init(&shard->mutex, NULL);
    shard->chains = mem_alloc(CHAINS_MIN * sizeof(struct counter *));
    if (shard->chains == NULL)
        return -ENOMEM;
    shard->n_chains = shard->capacity = CHAINS_MIN;
    return 0;
}

void shard_deinit(struct shard *shard) {
    for (size_t i = 0; i < shard->n_chains; i++)
        for (struct counter *counter = shard->chains[i]; counter != NULL;) {
            struct counter *next = counter->next;
            mem_free(counter);
            counter = next;
        }
    mem_free(shard->chains);
    pthread_mutex_destroy(&shard->mutex);
}

/* For a table of `n` chains. Without memory it stays as it is, which is slower at worst. */
static void resize(struct shard *shard, size_t n) {
    if (n < CHAINS_MIN || n > UINT32_MAX / sizeof(struct counter *))
        return;
    struct counter **chains = mem_realloc(shard->chains, n * sizeof *chains);
    if (chains == NULL)
        return;
    shard->chains = chains;
    shard->capacity = (uint32_t)n;
}

/* One more chain, which takes its part of the chain that it was one with. */
static void split(struct shard *shard) {
    if (shard->n_chains == shard->capacity)
        resize(shard, shard->capacity + shard->capacity / 4U);
    if (shard->n_chains == shard->capacity)
        return;
    uint32_t added = shard->n_chains++;
    if (added > shard->mask)
        shard->mask = shard->mask << 1 | 1;
    struct counter **from = &shard->chains[added & shard->mask >> 1], **to = &shard->chains[added];
    *to = NULL;
    while (*from != NULL) {
        struct counter *counter = *from;
        if (((uint32_t)counter->key & shard->mask) != added) {
            from = &counter->next;
            continue;
        }
        *from = counter->next;
        counter->next = NULL;
        *to = counter;
        to = &counter->next;
    }
}

/* One chain less. */
static void join(struct shard *shard) {
    uint32_t removed = --shard->n_chains;
    struct counter **to = &shard->chains[removed & shard->mask >> 1];
    while (*to != NULL)
        to = &(*to)->next;
    *to = shard->chains[removed];
    if (removed == (shard->mask >> 1) + 1)
        shard->mask >>= 1;
    if (shard->n_chains < shard->capacity / 2)
        resize(shard, shard->n_chains + shard->n_chains / 4U);
}

void shard_insert(struct shard *shard, struct counter *counter) {
    struct counter **chain = shard_chain(shard, counter->key);
    counter->next = *chain;
    *chain = counter;
    if (++shard->count > shard->n_chains)
        split(shard);
}

void shard_replace(struct shard *shard, struct counter *from, struct counter *to) {
    struct counter **link = shard_chain(shard, from->key);
    while (*link != from)
        link = &(*link)->next;
    to->next = from->next;
    *link = to;
    mem_free(from);
}

/* Of the chain that is to be swept next. */
static void sweep_chain(struct shard *shard, uint64_t now_ms, shard_forget_fn *forget,
                        void *context) {
    struct counter **link = &shard->chains[shard->next], *counter;
    while ((counter = *link) != NULL) {
        if (counter_is_over(counter, now_ms)) {
            *link = counter->next;
            shard->count--;
            forget(context, counter);
            mem_free(counter);
            continue;
        }
        struct counter *smaller =
            counter_is_spacious(counter) ? counter_copy(counter, counter->n) : NULL;
        if (smaller != NULL) {
            *link = smaller;
            mem_free(counter);
        }
        link = &(*link)->next;
    }
}

bool shard_sweep(struct shard *shard, uint64_t now_ms, size_t n, shard_forget_fn *forget,
                 void *context) {
    bool is_through = false;
    for (; n > 0 && !is_through; n--) {
        sweep_chain(shard, now_ms, forget, context);
        is_through = ++shard->next >= shard->n_chains;
        if (is_through)
            shard->next = 0;
    }
    while (shard->n_chains > CHAINS_MIN && shard->count < shard->n_chains / 2)
        join(shard);
    if (shard->next >= shard->n_chains)
        shard->next = 0;
    return !is_through;
}
