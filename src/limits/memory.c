/*
 * The counters of this process: one table for all workers, in shards by hash, each under a mutex
 * that is held for some hundred nanoseconds and never across I/O.
 *
 * A check locks the shards of all its charges, in the order of the shards, so that no two checks
 * wait for each other; looks; and counts in all of them or in none. The counters of one subject are
 * in one shard. Those of "everybody", few, which every check may want, have shards of their own,
 * which are locked last and so for the shortest time.
 *
 * Keys are 64 bits of a secret function of rule and subject. It is strongly universal
 * (Multilinear-HM of Lemire and Kaser 2013): of two subjects, however chosen by somebody who cannot
 * see the keys, the chance to fall together is 2^-64, and so nobody can aim at a chain of the table
 * or at another's counter. What would happen then is that the two share one limit.
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
#include "private.h"
#include "shard.h"

enum {
    SHARD_BITS = 6,
    HALF = 1 << SHARD_BITS, /* shards from there on are for everybody's counters */
    N_SHARDS = 2 * HALF,
    N_SHARES = 64,       /* numbers of rules, whose counters are counted */
    RECLAIMED = 8,       /* chains that are looked through for room by who finds none */
    SWEPT = 2048,        /* chains of one memory_sweep() */
    SWEPT_AT_ONCE = 128, /* of these, under the lock */
    SHARD_SPACE = 128,
};
_Static_assert(SHARD_BITS == 6, "a bit of a word for each shard");

/* So that two mutexes are never in one line of the processor's cache. */
union shard_space {
    struct shard shard;
    unsigned char space[SHARD_SPACE];
};
_Static_assert(sizeof(struct shard) + 56 <= SHARD_SPACE, "lines of 64 bytes, blocks at 16");

/* 128 bits. */
struct wide_key {
    uint64_t low, high;
};

struct memory {
    struct wide_key keys[3];
    uint64_t shard_key; /* odd */
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
    struct shard *shard;
    const struct limits_rule *rule;
    size_t index; /* of the charge */
    uint32_t units;
    struct counter *counter; /* NULL: it is to be made ... */
    /* The rest for what is not done by take_at_once(). */
    struct counter *predecessor; /* ... with these units; or NULL */
    enum counter_owner owner;
    bool is_reserved; /* in n_own, for a counter that is to be made */
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

/* Rule and subject are made one first: nobody can choose by what two subjects, or two rules,
 * differ.
 */
static uint64_t mix(const struct memory *memory, uint64_t rule, struct limits_subject subject) {
    const struct wide_key *keys = memory->keys;
    /* (keys[1] + word) * (keys[2] + word) + keys[0], of which the upper half is wanted. */
    uint64_t a = keys[1].low + (subject.high ^ rule), b = keys[2].low + subject.low;
    uint64_t a_high = keys[1].high + (a < keys[1].low), b_high = keys[2].high + (b < keys[2].low);
    wide_uint product = (wide_uint)a * b + keys[0].low;
    return (uint64_t)(product >> 64) + a_high * b + a * b_high + keys[0].high;
}

static bool is_everybody(struct limits_subject subject) {
    return (subject.high | subject.low) == 0;
}

/* The counters of one subject are in one shard, so that a check locks few. */
static size_t shard_of(const struct memory *memory, const struct limits_charge *charge) {
    size_t half = is_everybody(charge->subject) ? HALF : 0;
    uint64_t number = half != 0 ? charge->rule->hash : charge->subject.high ^ charge->subject.low;
    return half | (size_t)(number * memory->shard_key >> (64 - SHARD_BITS));
}

/* There is one for each rule in each shard. */
static uint64_t crowd_key(const struct memory *memory, const struct item *item) {
    const union shard_space *space = (const union shard_space *)(const void *)item->shard;
    struct limits_subject crowd = {.high = (uint64_t)(space - memory->shards), .low = 1};
    return mix(memory, item->rule->hash, crowd);
}

/* --- room in the whole --- */

static atomic_size_t *number_of(struct memory *memory, const struct counter *counter) {
    switch ((enum counter_owner)counter->owner) {
    case COUNTER_OWN:
        break;
    case COUNTER_CROWDS:
        return &memory->n_crowd;
    case COUNTER_EVERYBODYS:
        return &memory->n_common;
    }
    return &memory->n_own;
}

static void forget(void *context, const struct counter *counter) {
    struct memory *memory = context;
    atomic_fetch_sub_explicit(number_of(memory, counter), 1, memory_order_relaxed);
    if (counter->owner == COUNTER_OWN)
        atomic_fetch_sub_explicit(&memory->n_shares[counter->share], 1, memory_order_relaxed);
}

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
    uint64_t shards[2] = {0}, seen = 0; /* bits of keys: most are not there again */
    batch->n = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t key = mix(memory, charges[i].rule->hash, charges[i].subject);
        uint64_t bit = UINT64_C(1) << (key & 63);
        if (UNLIKELY((seen & bit) != 0) && is_again(batch, key))
            continue;
        seen |= bit;
        size_t shard = shard_of(memory, &charges[i]);
        shards[shard >> SHARD_BITS] |= UINT64_C(1) << (shard & (HALF - 1));
        struct item *item = &batch->items[batch->n++];
        item->key = key;
        item->shard = &memory->shards[shard].shard;
        item->rule = charges[i].rule;
        item->index = i;
        item->units = 1;
    }
    batch->shards[0] = shards[0];
    batch->shards[1] = shards[1];
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
static bool replace(struct batch *batch, struct shard *shard, struct counter *from,
                    struct counter *to) {
    if (to == NULL)
        return false;
    for (size_t i = 0; i < batch->n; i++) {
        struct item *item = &batch->items[i];
        if (item->counter == from)
            item->counter = to;
        if (item->predecessor == from)
            item->predecessor = to;
    }
    shard_replace(shard, from, to);
    return true;
}

/* A subject that has no counter: one of its own, or the crowd's. */
static void place(struct batch *batch, struct item *item) {
    struct memory *memory = batch->memory;
    if (reserve(memory, share_of(item))) {
        item->is_reserved = true;
        if (UNLIKELY(atomic_load_explicit(&memory->n_crowd, memory_order_relaxed) > 0))
            item->predecessor = shard_find(item->shard, crowd_key(memory, item));
        return;
    }
    item->owner = COUNTER_CROWDS;
    item->key = crowd_key(memory, item); /* in the same shard */
    item->counter = shard_find(item->shard, item->key);
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
        item->owner = item->shard < &memory->shards[HALF].shard ? COUNTER_OWN : COUNTER_EVERYBODYS;
        item->is_reserved = false;
        item->predecessor = NULL;
        counter_pace_at(&item->rule->limit, batch->now_ms, &item->pace);
        item->counter = shard_find(item->shard, item->key);
        if (UNLIKELY(item->counter == NULL) && item->owner == COUNTER_OWN)
            is_without_room = is_without_room || is_full(memory, share_of(item));
    }
    if (UNLIKELY(is_without_room)) {
        for (uint64_t bits = batch->shards[0]; bits != 0;)
            shard_sweep(next_shard(memory, 0, &bits), batch->now_ms, RECLAIMED, forget, memory);
        for (size_t i = 0; i < batch->n; i++)
            batch->items[i].counter = shard_find(batch->items[i].shard, batch->items[i].key);
    }
    for (size_t i = 0; i < batch->n; i++)
        if (UNLIKELY(batch->items[i].counter == NULL) && batch->items[i].owner == COUNTER_OWN)
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
            !replace(batch, item->shard, counter, counter_refit(counter, &item->pace)))
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
        return replace(batch, item->shard, counter,
                       counter_copy(counter, counter_grown(counter, &item->pace, item->units)));
    struct counter *from = item->predecessor;
    counter = from != NULL ? counter_copy(from, counter_grown(from, &item->pace, item->units))
                           : counter_new(item->key, &item->pace);
    if (counter == NULL)
        return false;
    counter->key = item->key;
    counter->owner = (uint8_t)item->owner;
    counter->share = share_of(item);
    if (!item->is_reserved)
        atomic_fetch_add_explicit(number_of(memory, counter), 1, memory_order_relaxed);
    item->is_reserved = false;
    item->counter = counter;
    shard_insert(item->shard, counter);
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

/* One of which a unit can be taken without more ado. */
static bool take_item(struct item *item, uint64_t now_ms) {
    UNCLEARED struct counter_pace pace;
    counter_pace_at(&item->rule->limit, now_ms, &pace);
    struct counter *counter = shard_find(item->shard, item->key);
    if (UNLIKELY(counter == NULL) || UNLIKELY(!counter_fits(counter, &pace)))
        return false;
    counter_expire(counter, pace.horizon);
    if ((uint64_t)counter->sum + item->units > pace.limit ||
        UNLIKELY(!counter_has_room(counter, &pace, item->units)))
        return false;
    counter_add(counter, pace.tick, item->units);
    item->counter = counter;
    return true;
}

/* What most checks come to: all counters are there, have room and let it pass. Else nothing is
 * taken, and it is for take() to say more. */
static bool take_at_once(struct batch *batch) {
    size_t i = 0, n = batch->n;
    while (i < n && take_item(&batch->items[i], batch->now_ms))
        i++;
    if (LIKELY(i == n))
        return true;
    while (i-- > 0)
        counter_give_back(batch->items[i].counter, batch->items[i].units);
    return false;
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
        goes_on = shard_sweep(shard, now_ms, SWEPT_AT_ONCE, forget, memory);
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
    memory->shard_key = random_u64() | 1;
    memory->max = max_counters;
    memory->max_share = max_counters - max_counters / 4;
    int r = 0;
    for (size_t i = 0; i < N_SHARDS; i++)
        r = shard_init(&memory->shards[i].shard) < 0 ? -ENOMEM : r;
    if (r < 0) {
        memory_free(memory);
        return r;
    }
    *ret_memory = memory;
    return 0;
}

struct memory *memory_free(struct memory *memory) {
    for (size_t i = 0; memory != NULL && i < N_SHARDS; i++)
        shard_deinit(&memory->shards[i].shard);
    mem_free(memory);
    return NULL;
}
