/*
 * Looking for records in PostgreSQL with filters (shared.h).
 *
 * The postings of some blocks at a time make bitmaps of the records that may be it. The blocks that
 * have any are opened in the order in which their records can come, as many as are needed to know
 * which one is next, whatever the clocks of the instances do.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/mem.h"
#include "shared_find.h"

enum {
    OPEN_MOST = 16, /* blocks at once */
    ASK_FIRST = 16, /* blocks whose postings are asked for at once, at first */
    ASK_MOST = 1024,
};

static int compare_up(const void *a, const void *b) {
    return shared_compare(a, b);
}

static int compare_down(const void *a, const void *b) {
    return shared_compare(b, a);
}

static bool is_asked(const struct shared_find *find, const struct place *place) {
    return place->time >= find->since && place->time < find->until &&
           shared_is_before(find, &find->from, place);
}

/* --- blocks --- */

MUST_CHECK static struct found_block *add_block(struct shared_find *find) {
    if (find->n_blocks == find->cap_blocks) {
        size_t cap = find->cap_blocks == 0 ? 256 : find->cap_blocks * 2;
        struct found_block *grown = mem_realloc(find->blocks, cap * sizeof *grown);
        if (grown == NULL)
            return NULL;
        find->blocks = grown;
        find->cap_blocks = cap;
    }
    struct found_block *block = &find->blocks[find->n_blocks++];
    *block = (struct found_block){.state = BLOCK_NEW};
    return block;
}

static void free_block(struct found_block *block) {
    mem_free(block->passed);
    mem_free(block->places);
    block->passed = NULL;
    block->places = NULL;
    block->state = BLOCK_OVER;
}

static int blocks_up(const void *a, const void *b) {
    const struct found_block *x = a, *y = b;
    return x->earliest != y->earliest ? (x->earliest < y->earliest ? -1 : 1) : 0;
}

static int blocks_down(const void *a, const void *b) {
    const struct found_block *x = a, *y = b;
    return x->latest != y->latest ? (x->latest > y->latest ? -1 : 1) : 0;
}

MUST_CHECK static int list_blocks(struct shared_find *find) {
    struct store_rows *rows = NULL;
    int64_t since = find->is_up ? find->from.time : find->since;
    int64_t until = find->is_up || find->from.time == INT64_MAX ? find->until : find->from.time + 1;
    int error = shared_query(find->tx,
                             "SELECT log, block, earliest, latest FROM audit_blocks"
                             " WHERE log = ANY ($1::bigint[]) AND latest >= $2 AND earliest < $3",
                             STORE_VALUES(store_text(buf_slice(&find->log_ids)),
                                          store_number(since), store_number(until)),
                             &rows);
    while (error == 0 && store_rows_next(rows)) {
        struct found_block *block = add_block(find);
        if (block == NULL) {
            error = -ENOMEM;
            break;
        }
        block->log = store_rows_number(rows, 0);
        block->block = (uint64_t)store_rows_number(rows, 1);
        block->earliest = store_rows_number(rows, 2);
        block->latest = store_rows_number(rows, 3);
    }
    int end = shared_rows_end(rows);
    if (find->n_blocks != 0)
        qsort(find->blocks, find->n_blocks, sizeof *find->blocks,
              find->is_up ? blocks_up : blocks_down);
    return error != 0 ? error : end;
}

MUST_CHECK static int add_place(struct found_block *block, size_t *cap, const struct place *place) {
    if (block->n == *cap) {
        *cap = *cap == 0 ? 64 : *cap * 2;
        struct place *grown = mem_realloc(block->places, *cap * sizeof *grown);
        if (grown == NULL)
            return -ENOMEM;
        block->places = grown;
    }
    block->places[block->n++] = *place;
    return 0;
}

static void sort_places(const struct shared_find *find, struct found_block *block) {
    if (block->n != 0)
        qsort(block->places, block->n, sizeof *block->places,
              find->is_up ? compare_up : compare_down);
    block->state = BLOCK_OPEN;
}

/* The records of a log behind its complete blocks, as a block that is open. */
MUST_CHECK static int open_tail(struct shared_find *find, const struct log_name *log) {
    struct store_rows *rows = NULL;
    size_t cap = 0;
    struct found_block *block = add_block(find);
    if (block == NULL)
        return -ENOMEM;
    block->log = log->id;
    int error = shared_query(find->tx,
                             "SELECT seq, time FROM audit_records WHERE log = $1 AND seq >= $2"
                             " AND terms @> $3::bigint[] AND time >= $4 AND time < $5",
                             STORE_VALUES(store_number(log->id), store_number((int64_t)log->tail),
                                          store_text(buf_slice(&find->asked_terms)),
                                          store_number(find->since), store_number(find->until)),
                             &rows);
    while (error == 0 && store_rows_next(rows)) {
        const struct place place = {
            .log = log->id, .seq = store_rows_number(rows, 0), .time = store_rows_number(rows, 1)};
        if (is_asked(find, &place))
            error = add_place(block, &cap, &place);
    }
    int end = shared_rows_end(rows);
    sort_places(find, block);
    return error != 0 ? error : end;
}

/* --- which of their records may be it --- */

static void name_block(struct shared_find *find, const struct found_block *block) {
    shared_array_add(&find->asked_logs, block->log);
    shared_array_add(&find->asked_numbers, (int64_t)block->block);
}

static void begin_naming(struct shared_find *find) {
    shared_array_begin(&find->asked_logs);
    shared_array_begin(&find->asked_numbers);
}

MUST_CHECK static int end_naming(struct shared_find *find) {
    shared_array_end(&find->asked_logs);
    shared_array_end(&find->asked_numbers);
    return buf_error(&find->asked_logs) != 0 ? buf_error(&find->asked_logs)
                                             : buf_error(&find->asked_numbers);
}

MUST_CHECK static int take_posting(struct shared_find *find, struct found_block *block,
                                   struct slice text) {
    struct bitmap has;
    bitmap_clear(&has);
    int error = shared_read_bytes(text, &find->bytes);
    if (error != 0 || !shared_read_lows(buf_slice(&find->bytes), &has))
        return error != 0 ? error : -EUCLEAN;
    if (block->passed == NULL) {
        block->passed = mem_alloc(sizeof *block->passed);
        if (block->passed == NULL)
            return -ENOMEM;
        *block->passed = has;
    } else
        bitmap_and(block->passed, &has);
    block->n_asked++;
    return 0;
}

/* The postings of some blocks at once: those without any record are over. */
MUST_CHECK static int ask(struct shared_find *find) {
    struct store_rows *rows = NULL;
    size_t first = find->next, n = find->n_complete - first;
    n = n < find->ask ? n : find->ask;
    begin_naming(find);
    for (size_t i = first; i < first + n; i++)
        name_block(find, &find->blocks[i]);
    int error = end_naming(find);
    if (error == 0)
        error = shared_query(find->tx,
                             "SELECT b.n, p.bits"
                             " FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY"
                             " AS b(log, block, n) CROSS JOIN unnest($3::bigint[]) AS t(term)"
                             " JOIN audit_postings p"
                             " ON p.log = b.log AND p.block = b.block AND p.term = t.term",
                             STORE_VALUES(store_text(buf_slice(&find->asked_logs)),
                                          store_text(buf_slice(&find->asked_numbers)),
                                          store_text(buf_slice(&find->asked_terms))),
                             &rows);
    while (error == 0 && store_rows_next(rows))
        error = take_posting(find, &find->blocks[first + (size_t)store_rows_number(rows, 0) - 1],
                             store_rows_text(rows, 1));
    int end = shared_rows_end(rows);
    for (size_t i = first; i < first + n; i++) {
        struct found_block *block = &find->blocks[i];
        block->state = BLOCK_ASKED;
        if (block->n_asked != find->n_terms || bitmap_is_empty(block->passed))
            free_block(block);
    }
    find->ask = find->ask < ASK_MOST ? find->ask * 4 : find->ask;
    return error != 0 ? error : end;
}

/* The next one that is not open and has records; 1: there is none; 2: time is over. */
MUST_CHECK static int find_next(struct shared_find *find) {
    for (; find->next < find->n_complete; find->next++) {
        enum block_state state = find->blocks[find->next].state;
        if (state == BLOCK_NEW) {
            if (find->ask > ASK_FIRST && shared_is_late(find))
                return 2;
            int error = ask(find);
            if (error != 0)
                return error;
            state = find->blocks[find->next].state;
        }
        if (state == BLOCK_ASKED)
            return 0;
    }
    return 1;
}

MUST_CHECK static int read_times(struct shared_find *find, struct found_block *block,
                                 struct slice text) {
    unsigned low = 0;
    size_t cap = 0;
    struct place place = {.log = block->log};
    int error = shared_read_bytes(text, &find->bytes);
    struct slice bytes = buf_slice(&find->bytes);
    while (error == 0 && shared_read_time(&bytes, &low, &place.time)) {
        place.seq = (int64_t)(block->block << SHARED_BLOCK_BITS | low);
        if (bitmap_has(block->passed, low) && is_asked(find, &place))
            error = add_place(block, &cap, &place);
    }
    sort_places(find, block);
    return error;
}

static size_t count_bits(const struct bitmap *bitmap) {
    size_t n = 0;
    for (size_t i = 0; i < SHARED_BLOCK / 64; i++)
        for (uint64_t word = bitmap->words[i]; word != 0; word &= word - 1)
            n++;
    return n;
}

/* As many blocks as may have what is needed. */
MUST_CHECK static int open_blocks(struct shared_find *find) {
    struct found_block *opened[OPEN_MOST];
    struct store_rows *rows = NULL;
    size_t n = 0, n_records = 0;
    begin_naming(find);
    for (size_t i = find->next;
         i < find->n_complete && n < OPEN_MOST && n_records <= find->limit - find->request->page.n;
         i++) {
        struct found_block *block = &find->blocks[i];
        if (block->state == BLOCK_NEW)
            break;
        if (block->state != BLOCK_ASKED)
            continue;
        opened[n++] = block;
        n_records += count_bits(block->passed);
        name_block(find, block);
    }
    int error = end_naming(find);
    if (error == 0)
        error = shared_query(find->tx,
                             "SELECT b.n, a.times FROM unnest($1::bigint[], $2::bigint[])"
                             " WITH ORDINALITY AS b(log, block, n)"
                             " JOIN audit_blocks a ON a.log = b.log AND a.block = b.block",
                             STORE_VALUES(store_text(buf_slice(&find->asked_logs)),
                                          store_text(buf_slice(&find->asked_numbers))),
                             &rows);
    while (error == 0 && store_rows_next(rows))
        error = read_times(find, opened[(size_t)store_rows_number(rows, 0) - 1],
                           store_rows_text(rows, 1));
    int end = shared_rows_end(rows);
    for (size_t i = 0; i < n; i++)
        if (opened[i]->state == BLOCK_ASKED) /* it has no times: somebody deleted them */
            free_block(opened[i]);
    return error != 0 ? error : end;
}

/* --- the order of all of them --- */

/* Among blocks that are open, all of them before `next`; NULL: there is none. */
static struct found_block *best_of(struct shared_find *find) {
    struct found_block *best = NULL;
    while (find->first < find->next && find->blocks[find->first].state == BLOCK_OVER)
        find->first++;
    for (size_t i = find->first; i < find->n_blocks; i++) {
        if (i == find->next)
            i = find->n_complete;
        if (i == find->n_blocks)
            break;
        struct found_block *block = &find->blocks[i];
        if (block->state != BLOCK_OPEN)
            continue;
        if (block->at == block->n)
            free_block(block);
        else if (best == NULL ||
                 shared_is_before(find, &block->places[block->at], &best->places[best->at]))
            best = block;
    }
    return best;
}

static bool comes_before(const struct shared_find *find, const struct found_block *best,
                         const struct found_block *next) {
    int64_t time = best->places[best->at].time;
    return find->is_up ? time < next->earliest : time > next->latest;
}

/* All in front of this place was looked at, when no other block is opened. */
static struct place boundary(const struct shared_find *find, const struct found_block *best,
                             const struct found_block *next) {
    int64_t time = find->is_up ? next->earliest : next->latest;
    if (best != NULL) {
        int64_t own = best->places[best->at].time;
        time = find->is_up ? (own < time ? own : time) : (own > time ? own : time);
    }
    if (find->is_up)
        return (struct place){.time = time - 1, .log = INT64_MAX, .seq = INT64_MAX};
    return (struct place){.time = time < INT64_MAX ? time + 1 : time};
}

/* 1: there is no other one; 2: time is over, and `last` says where. */
MUST_CHECK static int next_place(struct shared_find *find, struct place *ret_place) {
    for (;;) {
        int status = find_next(find);
        struct found_block *best = status >= 0 ? best_of(find) : NULL;
        if (status < 0)
            return status;
        if (best == NULL && status == 1)
            return 1;
        if (best != NULL && (status == 1 || comes_before(find, best, &find->blocks[find->next]))) {
            *ret_place = best->places[best->at++];
            return 0;
        }
        struct place place = boundary(find, best, &find->blocks[find->next]);
        if (shared_is_late(find) && shared_is_before(find, &find->last, &place)) {
            find->last = place;
            return 2;
        }
        if (status == 2)
            status = ask(find);
        else
            status = open_blocks(find);
        if (status != 0)
            return status;
    }
}

/* Up to `n` that come next. 1: those were the last ones; 2: time is over. */
MUST_CHECK static int gather(struct shared_find *find, size_t n, size_t *ret_n) {
    int status = 0;
    *ret_n = 0;
    while (status == 0 && *ret_n < n) {
        status = next_place(find, &find->wanted[*ret_n]);
        *ret_n += status == 0;
    }
    return status;
}

MUST_CHECK static int read_wanted(struct shared_find *find, size_t n) {
    struct store_rows *rows = NULL;
    size_t n_read = 0;
    begin_naming(find);
    for (size_t i = 0; i < n; i++) {
        shared_array_add(&find->asked_logs, find->wanted[i].log);
        shared_array_add(&find->asked_numbers, find->wanted[i].seq);
    }
    int error = end_naming(find);
    if (error == 0)
        error = shared_query(find->tx,
                             "SELECT r.log, r.seq, r.time, r.line, r.outcome"
                             " FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY"
                             " AS w(log, seq, n)"
                             " JOIN audit_records r ON r.log = w.log AND r.seq = w.seq"
                             " ORDER BY w.n",
                             STORE_VALUES(store_text(buf_slice(&find->asked_logs)),
                                          store_text(buf_slice(&find->asked_numbers))),
                             &rows);
    return error != 0 ? error : shared_look_at(find, rows, &n_read);
}

void shared_merge_deinit(struct shared_find *find) {
    for (size_t i = 0; i < find->n_blocks; i++)
        free_block(&find->blocks[i]);
    mem_free(find->blocks);
    mem_free(find->wanted);
}

int shared_merge(struct shared_find *find) {
    find->wanted = mem_alloc(SHARED_READ * sizeof *find->wanted);
    int error = find->wanted != NULL ? list_blocks(find) : -ENOMEM;
    find->ask = ASK_FIRST;
    find->n_complete = find->n_blocks;
    for (size_t i = 0; error == 0 && i < find->n_logs; i++)
        error = open_tail(find, &find->logs[i]);
    find->last = find->from;
    while (error == 0) {
        struct place before = find->last;
        size_t n = 0;
        int status = gather(find, shared_count_to_read(find), &n);
        if (status < 0)
            return status;
        struct place end = find->last;
        find->last = before;
        int looked = n != 0 ? read_wanted(find, n) : 0;
        if (looked != 0)
            return looked < 0 ? looked : 0;
        if (n != 0 && status != 2)
            end = find->wanted[n - 1];
        find->last = end;
        if (status == 1)
            return 0;
        if (status == 2 || shared_is_late(find)) {
            shared_write_next(find, &end);
            return 0;
        }
    }
    return error;
}
