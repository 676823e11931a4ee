/*
 * Looking for records in PostgreSQL (audit/index.h, shared.h), in one transaction that sees one
 * moment.
 *
 * Without a filter the records come along the index of times. With filters the postings of some
 * blocks at a time make bitmaps of the records that may be it; the blocks that have any are opened
 * in the order in which their records can come, as many as are needed to know which one is next,
 * whatever the clocks of the instances do. What comes next is read some dozens at a time, compared
 * with what was asked for, and given out.
 *
 * A cursor is the place (time, log, number) of the last record that was looked at.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "index_fill.h"
#include "shared.h"

enum {
    PAGE = 50,        /* when no limit is asked for */
    READ_MOST = 512,  /* records at once */
    READ_WORDS = 256, /* ... in which words are looked for */
    OPEN_MOST = 16,   /* blocks at once */
    ASK_FIRST = 16,   /* blocks whose postings are asked for at once, at first */
    ASK_MOST = 1024,
};

struct place {
    int64_t time, log, seq;
};

struct log_name {
    int64_t id;
    uint64_t seq, tail;
    char name[AUDIT_LOG_CHARS + 1];
};

enum block_state { BLOCK_NEW, BLOCK_ASKED, BLOCK_OPEN, BLOCK_OVER };

struct found_block {
    int64_t log;
    uint64_t block;
    int64_t earliest, latest;
    enum block_state state;
    struct bitmap *passed; /* of BLOCK_ASKED */
    unsigned n_asked;      /* terms that were there */
    struct place *places;  /* of BLOCK_OPEN, in the order in which they are looked at */
    size_t n, at;
};

struct shared_find {
    struct find_request *request;
    const struct audit_query *query;
    struct store_tx *tx;
    struct shared_matcher matcher;
    struct find_words words;
    int64_t terms[SHARED_ASKED];
    size_t n_terms;
    struct log_name *logs;
    size_t n_logs, cap_logs;
    struct buf log_ids, asked_logs, asked_numbers, asked_terms, bytes;
    bool is_up; /* oldest first */
    int64_t since, until;
    struct place from; /* what is looked for is behind it */
    size_t limit;
    uint64_t deadline;

    /* Complete ones in the order in which they are opened; then what is behind them, of each log.
     */
    struct found_block *blocks;
    size_t n_complete, n_blocks, cap_blocks;
    size_t first;         /* those before it are over */
    size_t next;          /* that is not open yet; n_complete: all are */
    size_t ask;           /* how many are asked for next */
    struct place *wanted; /* READ_MOST of them */
    struct place last;    /* that was looked at */
};

/* --- order --- */

static int compare(const struct place *a, const struct place *b) {
    if (a->time != b->time)
        return a->time < b->time ? -1 : 1;
    if (a->log != b->log)
        return a->log < b->log ? -1 : 1;
    return a->seq < b->seq ? -1 : a->seq > b->seq;
}

static bool is_before(const struct shared_find *find, const struct place *a,
                      const struct place *b) {
    return find->is_up ? compare(a, b) < 0 : compare(a, b) > 0;
}

static int compare_up(const void *a, const void *b) {
    return compare(a, b);
}

static int compare_down(const void *a, const void *b) {
    return compare(b, a);
}

static bool is_late(const struct shared_find *find) {
    return clock_monotonic_ms() >= find->deadline;
}

static bool is_asked(const struct shared_find *find, const struct place *place) {
    return place->time >= find->since && place->time < find->until &&
           is_before(find, &find->from, place);
}

static void write_next(struct shared_find *find, const struct place *place) {
    snprintf(find->request->page.next, sizeof find->request->page.next,
             "%" PRId64 "-%" PRId64 "-%" PRId64, place->time, place->log, place->seq);
}

/* --- what is asked for --- */

static bool take_number(struct slice *text, bool is_last, int64_t *ret_number) {
    struct slice digits = *text, rest = SLICE_EMPTY;
    uint64_t number = 0;
    if (!is_last && !slice_cut(*text, '-', &digits, &rest))
        return false;
    if (slice_to_u64(digits, &number) != 0 || number > INT64_MAX)
        return false;
    *text = rest;
    *ret_number = (int64_t)number;
    return true;
}

MUST_CHECK static int set_bounds(struct shared_find *find) {
    const struct audit_query *query = find->query;
    struct slice cursor = query->cursor;
    find->is_up = query->oldest_first;
    find->since = query->since_us < INT64_MAX ? (int64_t)query->since_us : INT64_MAX;
    find->until =
        query->until_us != 0 && query->until_us < INT64_MAX ? (int64_t)query->until_us : INT64_MAX;
    find->from = (struct place){.time = find->is_up ? find->since : find->until};
    if (cursor.len != 0) {
        struct place place;
        if (!take_number(&cursor, false, &place.time) || !take_number(&cursor, false, &place.log) ||
            !take_number(&cursor, true, &place.seq))
            return FIND_E_CURSOR;
        if (is_before(find, &find->from, &place))
            find->from = place;
    }
    find->limit = query->limit == 0 ? PAGE : query->limit;
    if (find->limit > LIMIT_AUDIT_PAGE)
        find->limit = LIMIT_AUDIT_PAGE;
    find->deadline = clock_monotonic_ms() + LIMIT_AUDIT_QUERY_MS;
    int error = find_words_set(&find->words, query->text);
    if (error == 0)
        error = shared_terms_asked(query, find->terms, &find->n_terms);
    shared_array_begin(&find->asked_terms);
    for (size_t i = 0; error == 0 && i < find->n_terms; i++)
        shared_array_add(&find->asked_terms, find->terms[i]);
    shared_array_end(&find->asked_terms);
    return error != 0 ? error : buf_error(&find->asked_terms);
}

/* --- logs --- */

MUST_CHECK static int add_log(struct shared_find *find, const struct store_rows *rows) {
    if (find->n_logs == find->cap_logs) {
        size_t cap = find->cap_logs == 0 ? 16 : find->cap_logs * 2;
        struct log_name *grown = mem_realloc(find->logs, cap * sizeof *grown);
        if (grown == NULL)
            return -ENOMEM;
        find->logs = grown;
        find->cap_logs = cap;
    }
    struct log_name *log = &find->logs[find->n_logs++];
    log->id = store_rows_number(rows, 0);
    log->seq = (uint64_t)store_rows_number(rows, 2);
    log->tail = (uint64_t)store_rows_number(rows, 3);
    shared_array_add(&find->log_ids, log->id);
    return slice_to_cstr(store_rows_text(rows, 1), log->name, sizeof log->name) == 0 ? 0 : -EUCLEAN;
}

MUST_CHECK static int list_logs(struct shared_find *find) {
    struct store_rows *rows = NULL;
    shared_array_begin(&find->log_ids);
    int error = shared_query(
        find->tx, "SELECT id, name, seq, tail FROM audit_logs WHERE name IS NOT NULL ORDER BY id",
        NULL, 0, &rows);
    while (error == 0 && store_rows_next(rows))
        error = add_log(find, rows);
    int end = shared_rows_end(rows);
    shared_array_end(&find->log_ids);
    return error != 0 ? error : end != 0 ? end : buf_error(&find->log_ids);
}

/* Of the trail in the directory; of others nobody knows how far they are. */
MUST_CHECK static int get_lag(struct shared_find *find, const char *dir) {
    char name[AUDIT_LOG_CHARS + 1];
    uint64_t newest = 0, seq = 0;
    int error = shared_log(dir, name);
    if (error == 0)
        error = index_newest(dir, &newest);
    if (error != 0)
        return error == -ENOMEM ? error : 0;
    for (size_t i = 0; i < find->n_logs; i++)
        if (strcmp(find->logs[i].name, name) == 0)
            seq = find->logs[i].seq;
    find->request->page.lag = newest > seq ? newest - seq : 0;
    return 0;
}

static struct slice name_of(const struct shared_find *find, int64_t id) {
    for (size_t i = 0; i < find->n_logs; i++)
        if (find->logs[i].id == id)
            return slice_from_cstr(find->logs[i].name);
    return SLICE_EMPTY;
}

/* --- records --- */

/* Columns: log, seq, time, line, outcome. 1: the page has come to its end. */
MUST_CHECK static int look_at(struct shared_find *find, const struct store_rows *rows) {
    struct find_request *request = find->request;
    const struct place place = {.log = store_rows_number(rows, 0),
                                .seq = store_rows_number(rows, 1),
                                .time = store_rows_number(rows, 2)};
    const struct audit_hit hit = {.line = store_rows_text(rows, 3),
                                  .outcome = store_rows_text(rows, 4),
                                  .log = name_of(find, place.log)};
    bool has_words = find->query->text.len != 0, matches = true;
    if (request->page.n == find->limit) {
        write_next(find, &find->last);
        return 1;
    }
    int error = find->n_terms != 0
                    ? shared_matches(&find->matcher, find->query, hit.line, hit.outcome, &matches)
                    : 0;
    if (error != 0)
        return error;
    find->last = place;
    if (matches && has_words)
        matches = find_words_are_in(&find->words, hit.line, hit.outcome);
    if (!matches)
        return 0;
    request->found(request->context, &hit);
    request->page.n++;
    /* With words it may be long until another one is found: the page ends with its last. */
    if (!has_words || request->page.n < find->limit)
        return 0;
    write_next(find, &place);
    return 1;
}

MUST_CHECK static int look_at_rows(struct shared_find *find, struct store_rows *rows,
                                   size_t *ret_n) {
    int status = 0;
    *ret_n = 0;
    while (status == 0 && store_rows_next(rows)) {
        status = look_at(find, rows);
        (*ret_n)++;
    }
    int end = shared_rows_end(rows);
    return status < 0 || end == 0 ? status : end;
}

static size_t count_to_read(const struct shared_find *find) {
    size_t most = find->query->text.len != 0 ? READ_WORDS : READ_MOST;
    size_t more = find->limit - find->request->page.n + 1;
    return find->query->text.len != 0 || more > most ? most : more;
}

/* --- along the times --- */

#define WALK "SELECT log, seq, time, line, outcome FROM audit_records WHERE (time, log, seq) "

MUST_CHECK static int walk(struct shared_find *find) {
    static const char up[] = WALK "> ($1, $2, $3) AND time < $4 AND log = ANY ($5::bigint[])"
                                  " ORDER BY time, log, seq LIMIT $6";
    static const char down[] = WALK "< ($1, $2, $3) AND time >= $4 AND log = ANY ($5::bigint[])"
                                    " ORDER BY time DESC, log DESC, seq DESC LIMIT $6";
    find->last = find->from;
    for (;;) {
        struct store_rows *rows = NULL;
        size_t n = count_to_read(find), n_read = 0;
        int status = shared_query(
            find->tx, find->is_up ? up : down,
            STORE_VALUES(store_number(find->last.time), store_number(find->last.log),
                         store_number(find->last.seq),
                         store_number(find->is_up ? find->until : find->since),
                         store_text(buf_slice(&find->log_ids)), store_number((int64_t)n)),
            &rows);
        if (status == 0)
            status = look_at_rows(find, rows, &n_read);
        if (status != 0 || n_read < n)
            return status < 0 ? status : 0;
        if (is_late(find)) {
            write_next(find, &find->last);
            return 0;
        }
    }
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
            if (find->ask > ASK_FIRST && is_late(find))
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
                 is_before(find, &block->places[block->at], &best->places[best->at]))
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
        if (is_late(find) && is_before(find, &find->last, &place)) {
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
    return error != 0 ? error : look_at_rows(find, rows, &n_read);
}

MUST_CHECK static int merge(struct shared_find *find) {
    int error = list_blocks(find);
    find->ask = ASK_FIRST;
    find->n_complete = find->n_blocks;
    for (size_t i = 0; error == 0 && i < find->n_logs; i++)
        error = open_tail(find, &find->logs[i]);
    find->last = find->from;
    while (error == 0) {
        struct place before = find->last;
        size_t n = 0;
        int status = gather(find, count_to_read(find), &n);
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
        if (status == 2 || is_late(find)) {
            write_next(find, &end);
            return 0;
        }
    }
    return error;
}

/* --- */

static void find_deinit(struct shared_find *find) {
    for (size_t i = 0; i < find->n_blocks; i++)
        free_block(&find->blocks[i]);
    mem_free(find->blocks);
    mem_free(find->wanted);
    mem_free(find->logs);
    buf_deinit(&find->log_ids);
    buf_deinit(&find->asked_logs);
    buf_deinit(&find->asked_numbers);
    buf_deinit(&find->asked_terms);
    buf_deinit(&find->bytes);
    find_words_deinit(&find->words);
    shared_matcher_deinit(&find->matcher);
}

MUST_CHECK static int look(struct shared_find *find, const char *dir) {
    int error = list_logs(find);
    if (error == 0)
        error = get_lag(find, dir);
    if (error != 0)
        return error;
    return find->n_terms == 0 ? walk(find) : merge(find);
}

int find_in_shared(struct store_tx *tx, const char *dir, struct find_request *request) {
    CLEANUP(find_deinit)
    struct shared_find find = {.request = request,
                               .query = request->query,
                               .tx = tx,
                               .log_ids = BUF_INIT(MIB(1)),
                               .asked_logs = BUF_INIT(MIB(1)),
                               .asked_numbers = BUF_INIT(MIB(1)),
                               .asked_terms = BUF_INIT(KIB(4)),
                               .bytes = BUF_INIT(MIB(1))};
    find_words_init(&find.words);
    int error = shared_matcher_init(&find.matcher);
    find.wanted = error == 0 ? mem_alloc(READ_MOST * sizeof *find.wanted) : NULL;
    if (error == 0 && find.wanted == NULL)
        error = -ENOMEM;
    if (error == 0)
        error = set_bounds(&find);
    if (error == 0)
        error = shared_begin(tx, STORE_READ);
    if (error != 0)
        return error;
    error = look(&find, dir);
    if (error == FIND_E_ADDRESS || error == FIND_E_CURSOR)
        return error;
    return shared_end(tx, error);
}
