/*
 * The counters of this process: one table for all workers, in shards by hash, each under a mutex
 * that is held for some hundred nanoseconds and never across I/O.
 *
 * A check locks the shards of all its charges, in the order of the shards, so that no two checks
 * wait for each other; looks; and counts in all of them or in none. The keys of "everybody" have
 * their highest bit set: those few counters, which every check may want, are locked last and so for
 * the shortest time, and no user's counter is behind the same mutex.
 *
 * Keys are 63 bits of a secret function of rule and subject. It is strongly universal
 * (Multilinear-HM of Lemire and Kaser 2013): of two subjects, however chosen by somebody who cannot
 * see the keys, the chance to fall together is 2^-63, and so nobody can aim at a chain of the table
 * or at another's counter. What would happen then is that the two share one limit.
 *
 * A shard is a linear hash table (Litwin 1980): it grows and shrinks one chain at a time, so that
 * no check ever waits for a table to be rebuilt.
 *
 * The number of counters is bounded, and so is the part of it that one rule may have (three
 * quarters: addresses cost an attacker little, they shall not push out the users). Beyond that,
 * newcomers share the crowd counters, one for each rule and shard. Whoever gets a counter of his
 * own later begins with all that the crowd's has counted, for some of it may be his: so a new
 * counter is never a fresh budget.
 *
 * What a reload leaves of a counter: everything that has not expired. A rule with another interval,
 * or whose limit went across LIMIT_RATE_EXACT, has its counters counted anew from what they hold,
 * at the latest times that these units may be of; a longer interval does not bring back what the
 * shorter one had forgotten.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/mem.h"
#include "base/random.h"
#include "counter.h"
#include "private.h"

enum {
    SHARD_BITS = 6, /* as many again for everybody's counters */
    N_SHARDS = 1 << (SHARD_BITS + 1),
    N_SHARES = 64, /* numbers of rules, whose counters are counted */
    CHAINS_MIN = 8,
    RECLAIMED = 8,       /* chains that are looked through for room by who finds none */
    SWEPT = 2048,        /* chains of one memory_sweep() */
    SWEPT_AT_ONCE = 128, /* of these, under the lock */
    SHARD_SPACE = 128,
};
_Static_assert(SHARD_BITS == 6, "a bit of a word for each shard");
#define EVERYBODY  (UINT64_C(1) << 63)
#define SHARD_MASK (~(UINT64_MAX >> (SHARD_BITS + 1)))

struct shard {
    pthread_mutex_t mutex;
    struct counter **chains;
    uint32_t n_chains, capacity;
    uint32_t mask; /* the power of two that n_chains is below or at, less one */
    uint32_t count;
    uint32_t next; /* chain to be swept */
};

/* So that two mutexes are never in one line of the processor's cache. */
union shard_space {
    struct shard shard;
    unsigned char space[SHARD_SPACE];
};
_Static_assert(sizeof(struct shard) + 56 <= SHARD_SPACE, "lines of 64 bytes, blocks at 16");

struct memory {
    wide_uint keys[3];
    size_t max, max_share;
    atomic_size_t n_own; /* of subjects; the rest is few */
    atomic_size_t n_crowd, n_common;
    atomic_size_t n_shares[N_SHARES]; /* n_own by rule */
    atomic_uint next_shard;
    union shard_space shards[N_SHARDS];
};

/* A charge on its way. */
struct item {
    uint64_t key;
    const struct limits_rule *rule;
    size_t index; /* of the charge */
    uint32_t units;
    struct counter *counter; /* NULL: it is to be made ... */
    /* The rest for what is not done by take_at_once(). */
    struct counter *predecessor; /* ... with these units; or NULL */
    bool is_crowd;               /* the counter is, or will be, the crowd's */
    bool is_reserved;            /* in n_own, for a counter that is to be made */
    struct counter_pace pace;
};

struct batch {
    struct memory *memory;
    uint64_t now_ms;
    uint64_t shards[2]; /* bits of those that are concerned; everybody's are the second half */
    size_t n;
    struct item items[LIMIT_RATE_LEVELS];
};

/* --- keys --- */

/* Rule and subject are one first: subjects are hashes that nobody can choose the difference of. */
static uint64_t mix(const struct memory *memory, uint64_t rule, struct limits_subject subject) {
    uint64_t high = subject.high ^ rule, low = subject.low ^ rule * UINT64_C(0x9e3779b97f4a7c15);
    const wide_uint *keys = memory->keys;
    return (uint64_t)((keys[0] + (keys[1] + high) * (keys[2] + low)) >> 64);
}

static uint64_t key_of(const struct memory *memory, const struct limits_charge *charge) {
    uint64_t key = mix(memory, charge->rule->hash, charge->subject);
    bool is_everybody = (charge->subject.high | charge->subject.low) == 0;
    return is_everybody ? key | EVERYBODY : key & ~EVERYBODY;
}

static struct shard *shard_of(struct memory *memory, uint64_t key) {
    return &memory->shards[key >> (64 - SHARD_BITS - 1)].shard;
}

/* In the shard of those who share it. */
static uint64_t crowd_key(const struct item *item, const struct memory *memory) {
    struct limits_subject crowd = {.high = item->key >> (64 - SHARD_BITS - 1), .low = 1};
    return (mix(memory, item->rule->hash, crowd) & ~SHARD_MASK) | (item->key & SHARD_MASK);
}

/* --- a shard, under its lock --- */

static struct counter **chain_of(const struct shard *shard, uint64_t key) {
    uint32_t chain = (uint32_t)key & shard->mask;
    if (chain >= shard->n_chains)
        chain &= shard->mask >> 1;
    return &shard->chains[chain];
}

static struct counter *find(const struct shard *shard, uint64_t key) {
    struct counter *counter = *chain_of(shard, key);
    while (counter != NULL && counter->key != key)
        counter = counter->next;
    return counter;
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

static atomic_size_t *number_of(struct memory *memory, const struct counter *counter) {
    if (counter->is_crowd)
        return &memory->n_crowd;
    return (counter->key & EVERYBODY) != 0 ? &memory->n_common : &memory->n_own;
}

static void insert(struct memory *memory, struct counter *counter) {
    struct shard *shard = shard_of(memory, counter->key);
    struct counter **chain = chain_of(shard, counter->key);
    counter->next = *chain;
    *chain = counter;
    if (++shard->count > shard->n_chains)
        split(shard);
}

static void forget(struct memory *memory, struct shard *shard, struct counter *counter) {
    atomic_size_t *number = number_of(memory, counter);
    shard->count--;
    atomic_fetch_sub_explicit(number, 1, memory_order_relaxed);
    if (number == &memory->n_own)
        atomic_fetch_sub_explicit(&memory->n_shares[counter->share], 1, memory_order_relaxed);
    mem_free(counter);
}

/* Of the chain that is to be swept next. */
static void sweep_chain(struct memory *memory, struct shard *shard, uint64_t now_ms) {
    struct counter **link = &shard->chains[shard->next], *counter;
    while ((counter = *link) != NULL) {
        if (counter_is_over(counter, now_ms)) {
            *link = counter->next;
            forget(memory, shard, counter);
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

/* Counters that have come to their end are freed, in the next so many chains. False: the last one
 * of the shard was among them. */
static bool sweep(struct memory *memory, struct shard *shard, uint64_t now_ms, size_t n) {
    bool is_through = false;
    for (; n > 0 && !is_through; n--) {
        sweep_chain(memory, shard, now_ms);
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

/* --- room in the whole --- */

static void give_up(struct memory *memory, uint8_t share) {
    atomic_fetch_sub_explicit(&memory->n_own, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&memory->n_shares[share], 1, memory_order_relaxed);
}

static bool reserve(struct memory *memory, uint8_t share) {
    size_t n = atomic_fetch_add_explicit(&memory->n_own, 1, memory_order_relaxed);
    size_t n_share = atomic_fetch_add_explicit(&memory->n_shares[share], 1, memory_order_relaxed);
    if (n < memory->max && n_share < memory->max_share)
        return true;
    give_up(memory, share);
    return false;
}

static bool is_full(struct memory *memory, uint8_t share) {
    return atomic_load_explicit(&memory->n_own, memory_order_relaxed) >= memory->max ||
           atomic_load_explicit(&memory->n_shares[share], memory_order_relaxed) >=
               memory->max_share;
}

/* --- a check --- */

/* One that has the same key counts for this charge too. */
static bool is_again(struct batch *batch, uint64_t key) {
    for (size_t i = 0; i < batch->n; i++)
        if (batch->items[i].key == key) {
            batch->items[i].units++;
            return true;
        }
    return false;
}

static void begin(struct batch *batch, struct memory *memory, const struct limits_charge *charges,
                  size_t n, uint64_t now_ms) {
    assert(n <= LIMIT_RATE_LEVELS);
    batch->memory = memory;
    batch->now_ms = now_ms;
    batch->shards[0] = batch->shards[1] = 0;
    batch->n = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t key = key_of(memory, &charges[i]);
        uint64_t *shards = &batch->shards[key >> 63];
        uint64_t shard = UINT64_C(1) << (key >> (64 - SHARD_BITS - 1) & 63);
        if (UNLIKELY((*shards & shard) != 0) && is_again(batch, key))
            continue;
        *shards |= shard;
        struct item *item = &batch->items[batch->n++];
        item->key = key;
        item->rule = charges[i].rule;
        item->index = i;
        item->units = 1;
    }
}

/* The next of the shards in *bits, which is taken out of them. */
static struct shard *next_shard(struct memory *memory, size_t half, uint64_t *bits) {
    size_t index = TRAILING_ZEROS_64(*bits);
    *bits &= *bits - 1;
    return &memory->shards[half << SHARD_BITS | index].shard;
}

static void lock(struct batch *batch) {
    for (size_t half = 0; half < 2; half++)
        for (uint64_t bits = batch->shards[half]; bits != 0;)
            pthread_mutex_lock(&next_shard(batch->memory, half, &bits)->mutex);
}

static void unlock(struct batch *batch) {
    for (size_t half = 2; half-- > 0;)
        for (uint64_t bits = batch->shards[half]; bits != 0;)
            pthread_mutex_unlock(&next_shard(batch->memory, half, &bits)->mutex);
}

/* Which of the numbers of counters a rule's own ones belong to. */
static uint8_t share_of(const struct item *item) {
    return (uint8_t)(item->rule->hash % N_SHARES);
}

/* Puts `to` where `from` was; whoever has found it in this check has found `to`. False: there is no
 * `to` for want of memory. */
static bool replace(struct batch *batch, struct counter *from, struct counter *to) {
    if (to == NULL)
        return false;
    struct counter **link = chain_of(shard_of(batch->memory, from->key), from->key);
    while (*link != from)
        link = &(*link)->next;
    to->next = from->next;
    *link = to;
    for (size_t i = 0; i < batch->n; i++) {
        struct item *item = &batch->items[i];
        if (item->counter == from)
            item->counter = to;
        if (item->predecessor == from)
            item->predecessor = to;
    }
    mem_free(from);
    return true;
}

/* A subject that has no counter: one of its own, or the crowd's. */
static void place(struct batch *batch, struct item *item) {
    struct memory *memory = batch->memory;
    if (reserve(memory, share_of(item))) {
        item->is_reserved = true;
        if (UNLIKELY(atomic_load_explicit(&memory->n_crowd, memory_order_relaxed) > 0))
            item->predecessor = find(shard_of(memory, item->key), crowd_key(item, memory));
        return;
    }
    item->is_crowd = true;
    item->key = crowd_key(item, memory); /* in the same shard */
    item->counter = find(shard_of(memory, item->key), item->key);
}

/* Two subjects of one check may have come to one crowd: then it is one item. */
static void merge(struct batch *batch) {
    for (size_t i = 1; i < batch->n; i++)
        for (size_t k = 0; k < i; k++) {
            if (batch->items[k].key != batch->items[i].key)
                continue;
            batch->items[k].units += batch->items[i].units;
            batch->n--;
            memmove(&batch->items[i], &batch->items[i + 1],
                    (batch->n - i) * sizeof batch->items[0]);
            i--;
            break;
        }
}

static void find_all(struct batch *batch) {
    struct memory *memory = batch->memory;
    bool is_without_room = false;
    for (size_t i = 0; i < batch->n; i++) {
        struct item *item = &batch->items[i];
        item->is_crowd = item->is_reserved = false;
        item->predecessor = NULL;
        counter_pace_at(&item->rule->limit, batch->now_ms, &item->pace);
        item->counter = find(shard_of(memory, item->key), item->key);
        if (UNLIKELY(item->counter == NULL) && (item->key & EVERYBODY) == 0)
            is_without_room = is_without_room || is_full(memory, share_of(item));
    }
    if (UNLIKELY(is_without_room)) {
        for (uint64_t bits = batch->shards[0]; bits != 0;)
            sweep(memory, next_shard(memory, 0, &bits), batch->now_ms, RECLAIMED);
        for (size_t i = 0; i < batch->n; i++)
            batch->items[i].counter =
                find(shard_of(memory, batch->items[i].key), batch->items[i].key);
    }
    for (size_t i = 0; i < batch->n; i++)
        if (UNLIKELY(batch->items[i].counter == NULL) && (batch->items[i].key & EVERYBODY) == 0)
            place(batch, &batch->items[i]);
    if (UNLIKELY(is_without_room))
        merge(batch);
}

/* What has expired is taken out of all counters that were found. False: no memory. */
static bool freshen(struct batch *batch) {
    for (size_t i = 0; i < batch->n; i++) {
        struct item *item = &batch->items[i];
        struct counter *counter = item->counter != NULL ? item->counter : item->predecessor;
        if (counter == NULL)
            continue;
        if (UNLIKELY(!counter_fits(counter, &item->pace)) &&
            !replace(batch, counter, counter_refit(counter, &item->pace)))
            return false;
        counter = item->counter != NULL ? item->counter : item->predecessor;
        counter_expire(counter, item->pace.horizon);
    }
    return true;
}

/* A counter with room for the units. False: no memory for it. */
static bool make_room(struct batch *batch, struct item *item) {
    struct memory *memory = batch->memory;
    struct counter *counter = item->counter;
    if (LIKELY(counter != NULL) && LIKELY(counter_has_room(counter, &item->pace, item->units)))
        return true;
    if (counter != NULL)
        return replace(batch, counter,
                       counter_copy(counter, counter_grown(counter, &item->pace, item->units)));
    struct counter *from = item->predecessor;
    counter = from != NULL ? counter_copy(from, counter_grown(from, &item->pace, item->units))
                           : counter_new(item->key, &item->pace);
    if (counter == NULL)
        return false;
    counter->key = item->key;
    counter->is_crowd = item->is_crowd;
    counter->share = share_of(item);
    if (!item->is_reserved)
        atomic_fetch_add_explicit(number_of(memory, counter), 1, memory_order_relaxed);
    item->is_reserved = false;
    item->counter = counter;
    insert(memory, counter);
    return true;
}

static void answer(const struct batch *batch, struct limits_answer *ret_answer) {
    *ret_answer = (struct limits_answer){.verdict = LIMITS_PASS};
    for (size_t i = 0; i < batch->n; i++) {
        const struct item *item = &batch->items[i];
        const struct counter *counter = item->counter != NULL ? item->counter : item->predecessor;
        uint64_t wait_ms = counter_wait(counter, &item->pace, item->units);
        if (LIKELY(wait_ms == 0) || wait_ms <= ret_answer->wait_ms)
            continue;
        *ret_answer = (struct limits_answer){LIMITS_EXCEEDED, item->index, wait_ms};
    }
}

/* What most checks come to: all counters are there, have room and let it pass. Else nothing has
 * been taken, and it is for take() to say more. */
static bool take_at_once(struct batch *batch) {
    UNCLEARED uint64_t ticks[LIMIT_RATE_LEVELS];
    const size_t n = batch->n;
    for (size_t i = 0; i < n; i++) {
        struct item *item = &batch->items[i];
        UNCLEARED struct counter_pace pace;
        counter_pace_at(&item->rule->limit, batch->now_ms, &pace);
        struct counter *counter = find(shard_of(batch->memory, item->key), item->key);
        if (UNLIKELY(counter == NULL) || UNLIKELY(!counter_fits(counter, &pace)))
            return false;
        counter_expire(counter, pace.horizon);
        if ((uint64_t)counter->sum + item->units > pace.limit ||
            UNLIKELY(!counter_has_room(counter, &pace, item->units)))
            return false;
        item->counter = counter;
        ticks[i] = pace.tick;
    }
    for (size_t i = 0; i < n; i++)
        counter_add(batch->items[i].counter, ticks[i], batch->items[i].units);
    return true;
}

/* What was reserved for counters that were not made. */
static void give_up_rest(struct batch *batch) {
    for (size_t i = 0; i < batch->n; i++)
        if (batch->items[i].is_reserved)
            give_up(batch->memory, share_of(&batch->items[i]));
}

static void take(struct batch *batch, struct limits_answer *ret_answer) {
    find_all(batch);
    if (!freshen(batch)) {
        *ret_answer = (struct limits_answer){.verdict = LIMITS_UNAVAILABLE};
        return;
    }
    answer(batch, ret_answer);
    if (ret_answer->verdict != LIMITS_PASS)
        return;
    for (size_t i = 0; i < batch->n; i++)
        if (!make_room(batch, &batch->items[i])) {
            *ret_answer = (struct limits_answer){.verdict = LIMITS_UNAVAILABLE,
                                                 .charge = batch->items[i].index};
            return;
        }
    for (size_t i = 0; i < batch->n; i++)
        counter_add(batch->items[i].counter, batch->items[i].pace.tick, batch->items[i].units);
}

void memory_take(struct memory *memory, const struct limits_charge *charges, size_t n,
                 uint64_t now_ms, struct limits_answer *ret_answer) {
    UNCLEARED struct batch batch;
    begin(&batch, memory, charges, n, now_ms);
    lock(&batch);
    if (LIKELY(take_at_once(&batch))) {
        *ret_answer = (struct limits_answer){.verdict = LIMITS_PASS};
    } else {
        take(&batch, ret_answer);
        give_up_rest(&batch);
    }
    unlock(&batch);
}

void memory_force(struct memory *memory, const struct limits_charge *charges, size_t n,
                  uint64_t now_ms) {
    UNCLEARED struct batch batch;
    begin(&batch, memory, charges, n, now_ms);
    lock(&batch);
    find_all(&batch);
    bool is_fresh = freshen(&batch);
    for (size_t i = 0; i < batch.n && is_fresh; i++) {
        struct item *item = &batch.items[i];
        if (item->units > item->pace.limit)
            continue;
        if (item->counter != NULL)
            counter_make_way(item->counter, &item->pace, item->units);
        if (!make_room(&batch, item))
            continue;
        counter_make_way(item->counter, &item->pace, item->units); /* a predecessor's */
        counter_add(item->counter, item->pace.tick, item->units);
    }
    give_up_rest(&batch);
    unlock(&batch);
}

void memory_sweep(struct memory *memory, uint64_t now_ms) {
    unsigned turn = atomic_load_explicit(&memory->next_shard, memory_order_relaxed);
    struct shard *shard = &memory->shards[turn % N_SHARDS].shard;
    bool goes_on = true;
    for (size_t n = 0; n < SWEPT && goes_on; n += SWEPT_AT_ONCE) {
        pthread_mutex_lock(&shard->mutex);
        goes_on = sweep(memory, shard, now_ms, SWEPT_AT_ONCE);
        pthread_mutex_unlock(&shard->mutex);
    }
    /* Who comes second has swept the same shard, and moves on no further. */
    if (!goes_on)
        atomic_compare_exchange_strong_explicit(&memory->next_shard, &turn, turn + 1,
                                                memory_order_relaxed, memory_order_relaxed);
}

/* --- the whole --- */

size_t memory_n_counters(const struct memory *memory) {
    return atomic_load_explicit(&memory->n_own, memory_order_relaxed) +
           atomic_load_explicit(&memory->n_crowd, memory_order_relaxed) +
           atomic_load_explicit(&memory->n_common, memory_order_relaxed);
}

int memory_new(size_t max_counters, struct memory **ret_memory) {
    struct memory *memory = mem_alloc(sizeof *memory);
    if (memory == NULL)
        return -ENOMEM;
    random_bytes(memory->keys, sizeof memory->keys);
    memory->max = max_counters;
    memory->max_share = max_counters - max_counters / 4;
    for (size_t i = 0; i < N_SHARDS; i++)
        pthread_mutex_init(&memory->shards[i].shard.mutex, NULL);
    for (size_t i = 0; i < N_SHARDS; i++) {
        struct shard *shard = &memory->shards[i].shard;
        shard->chains = mem_alloc(CHAINS_MIN * sizeof(struct counter *));
        if (shard->chains == NULL) {
            memory_free(memory);
            return -ENOMEM;
        }
        shard->n_chains = shard->capacity = CHAINS_MIN;
        shard->mask = CHAINS_MIN - 1;
    }
    *ret_memory = memory;
    return 0;
}

struct memory *memory_free(struct memory *memory) {
    for (size_t i = 0; memory != NULL && i < N_SHARDS; i++) {
        struct shard *shard = &memory->shards[i].shard;
        for (size_t k = 0; k < shard->n_chains; k++)
            for (struct counter *counter = shard->chains[k]; counter != NULL;) {
                struct counter *next = counter->next;
                mem_free(counter);
                counter = next;
            }
        mem_free(shard->chains);
        pthread_mutex_destroy(&shard->mutex);
    }
    mem_free(memory);
    return NULL;
}
