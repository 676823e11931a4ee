/*
 * Looking for records in SQLite (audit/index.h).
 *
 * Block by block, in the order that is asked for: the records of a block that pass all filters are
 * one bitmap; of each of them its row tells the time, and where its lines stand, which are read
 * from the trail. Text is looked for in those lines.
 *
 * A cursor is the number of the last record that was looked at. What is behind it does not change
 * while records arrive, because new ones have greater numbers; in the order from old to new they
 * come at the end. An intent gets its status with its outcome, and is found by it from then on.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "find_private.h"
#include "index_fill.h"

enum {
    STEPS = 16,      /* rows that are walked over before the tree is gone down again */
    PAGE = 50,       /* when no limit is asked for */
    LOOK_EVERY = 64, /* records, at the clock */
};

struct find_block {
    uint64_t block;
    int64_t earliest, latest;
    bool has_postings;
};

struct find_row {
    uint64_t seq;
    int64_t time;
    struct find_place line, outcome; /* outcome.length 0: none */
};

struct find {
    const struct audit_query *query;
    struct find_request *request;
    struct index_db *db;
    struct find_filter filter;
    struct find_lines lines;
    struct find_words words;
    struct find_block *blocks; /* oldest first */
    size_t n_blocks;
    uint64_t first, last;  /* numbers that are looked for */
    int64_t since, before; /* times */
    sqlite3_stmt *rows;    /* that is being walked along; NULL: none */
    struct find_row row;   /* where it is */
    uint64_t deadline;     /* monotonic ms */
    size_t limit;
    size_t n; /* that were found */
    uint64_t next;
};

static void find_deinit(struct find *find) {
    mem_free(find->blocks);
    find_filter_deinit(&find->filter);
    find_lines_deinit(&find->lines);
    find_words_deinit(&find->words);
    index_db_close(find->db);
}

/* --- blocks --- */

MUST_CHECK static int add_block(struct find *find, size_t *cap, const struct find_block *block) {
    if (find->n_blocks == *cap) {
        *cap = *cap == 0 ? 256 : *cap * 2;
        struct find_block *grown = mem_realloc(find->blocks, *cap * sizeof *grown);
        if (grown == NULL)
            return -ENOMEM;
        find->blocks = grown;
    }
    find->blocks[find->n_blocks++] = *block;
    return 0;
}

/* Those that are complete, and the one that is not, which is the last. */
MUST_CHECK static int list_blocks(struct find *find) {
    size_t cap = 0;
    int64_t last_seq = 0;
    sqlite3_stmt *list = index_sql(find->db, SQL_BLOCKS);
    if (list == NULL)
        return index_db_error(find->db);
    int status;
    while ((status = index_step(find->db, list)) == 1) {
        struct find_block block = {.block = (uint64_t)sqlite3_column_int64(list, 0),
                                   .earliest = sqlite3_column_int64(list, 1),
                                   .latest = sqlite3_column_int64(list, 2),
                                   .has_postings = true};
        int error = add_block(find, &cap, &block);
        if (error != 0) {
            (void)sqlite3_reset(list);
            return error;
        }
    }
    if (status == 0)
        status = index_get(find->db, SQL_ROWS_LAST, NULL, 0, &last_seq);
    if (status != 0)
        return status < 0 ? status : 0;
    struct find_block tail = {.block = (uint64_t)last_seq >> INDEX_BLOCK_BITS,
                              .earliest = INT64_MIN,
                              .latest = INT64_MAX};
    bool is_listed = find->n_blocks != 0 && find->blocks[find->n_blocks - 1].block >= tail.block;
    return is_listed ? 0 : add_block(find, &cap, &tail);
}

static bool is_asked(const struct find *find, const struct find_block *block) {
    return block->block >= find->first >> INDEX_BLOCK_BITS &&
           block->block <= find->last >> INDEX_BLOCK_BITS && block->latest >= find->since &&
           block->earliest < find->before;
}

/* --- rows --- */

static struct find_place place_at(sqlite3_stmt *row, int column) {
    return (struct find_place){.segment = (uint64_t)sqlite3_column_int64(row, column),
                               .offset = (uint64_t)sqlite3_column_int64(row, column + 1),
                               .length = (uint64_t)sqlite3_column_int64(row, column + 2)};
}

/* 1: there is no other row. */
MUST_CHECK static int next_row(struct find *find) {
    int status = index_step(find->db, find->rows);
    if (status <= 0) {
        find->rows = NULL;
        return status < 0 ? status : 1;
    }
    find->row = (struct find_row){.seq = (uint64_t)sqlite3_column_int64(find->rows, 0),
                                  .time = sqlite3_column_int64(find->rows, 1),
                                  .line = place_at(find->rows, 2),
                                  .outcome = place_at(find->rows, 5)};
    return 0;
}

MUST_CHECK static int go_to_row(struct find *find, uint64_t seq) {
    find->rows = index_sql(find->db, find->query->oldest_first ? SQL_ROWS_OLDEST_FIRST
                                                               : SQL_ROWS_NEWEST_FIRST);
    if (find->rows == NULL)
        return index_db_error(find->db);
    (void)sqlite3_reset(find->rows);
    if (sqlite3_bind_int64(find->rows, 1, (int64_t)seq) != SQLITE_OK)
        return index_db_error(find->db);
    return next_row(find);
}

static bool is_before(const struct find *find, uint64_t a, uint64_t b) {
    return find->query->oldest_first ? a < b : a > b;
}

/* 1: there is no such row. */
MUST_CHECK static int get_row(struct find *find, uint64_t seq) {
    for (int steps = 0; find->rows != NULL && is_before(find, find->row.seq, seq); steps++) {
        int status = steps < STEPS ? next_row(find) : go_to_row(find, seq);
        if (status != 0)
            return status;
    }
    if (find->rows == NULL) {
        int status = go_to_row(find, seq);
        if (status != 0)
            return status;
    }
    return find->row.seq == seq ? 0 : 1;
}

/* --- records --- */

/* 1: given out; 0: it is not it, or not there any more. */
MUST_CHECK static int give_out(struct find *find) {
    struct slice line, outcome = SLICE_EMPTY;
    int status = find_lines_get(&find->lines, false, &find->row.line, find->row.seq, &line);
    if (status == 0 && find->row.outcome.length != 0 &&
        find_lines_get(&find->lines, true, &find->row.outcome, 0, &outcome) < 0)
        return -EIO;
    if (status != 0)
        return status < 0 ? status : 0;
    if (find->query->text.len != 0 && !find_words_are_in(&find->words, line, outcome))
        return 0;
    const struct audit_hit hit = {.line = line, .outcome = outcome};
    find->request->found(find->request->context, &hit);
    find->n++;
    return 1;
}

/* 1: the page ends in front of this record. */
MUST_CHECK static int look_at(struct find *find, uint64_t seq) {
    int status = get_row(find, seq);
    if (status != 0)
        return status < 0 ? status : 0;
    if (find->row.time < find->since || find->row.time >= find->before)
        return 0;
    if (find->n == find->limit)
        return 1;
    status = give_out(find);
    return status < 0 ? status : 0;
}

static bool is_late(const struct find *find) {
    return clock_monotonic_ms() >= find->deadline;
}

static unsigned first_low(const struct find *find, const struct bitmap *passed) {
    return find->query->oldest_first ? bitmap_next(passed, 0)
                                     : bitmap_before(passed, INDEX_BLOCK - 1);
}

static unsigned next_low(const struct find *find, const struct bitmap *passed, unsigned low) {
    if (find->query->oldest_first)
        return bitmap_next(passed, low + 1);
    return low == 0 ? INDEX_BLOCK : bitmap_before(passed, low - 1);
}

/* 1: the page has come to its end, and `next` is set. */
MUST_CHECK static int look_at_block(struct find *find, const struct find_block *block) {
    struct bitmap passed;
    unsigned n = 0;
    int error = find_filter_block(&find->filter, block->block, block->has_postings, &passed);
    if (error != 0)
        return error;
    uint64_t before = 0; /* the record that was looked at last */
    for (unsigned low = first_low(find, &passed); low < INDEX_BLOCK;
         low = next_low(find, &passed, low)) {
        uint64_t seq = block->block << INDEX_BLOCK_BITS | low;
        if (seq < find->first || seq > find->last)
            continue;
        int status = look_at(find, seq);
        if (status < 0)
            return status;
        /* With text it may be long until another one is found: the page ends with its last. */
        bool is_full = find->query->text.len != 0 && find->n == find->limit;
        if (status == 0 && (is_full || (++n % LOOK_EVERY == 0 && is_late(find)))) {
            find->next = seq;
            return 1;
        }
        if (status == 1) {
            find->next = before != 0 ? before : find->next;
            return 1;
        }
        before = seq;
    }
    /* All of it was looked at. */
    uint64_t first = block->block << INDEX_BLOCK_BITS;
    find->next = find->query->oldest_first ? first + INDEX_BLOCK - 1 : first;
    return 0;
}

MUST_CHECK static int look_at_blocks(struct find *find) {
    for (size_t i = 0; i < find->n_blocks; i++) {
        bool is_up = find->query->oldest_first;
        const struct find_block *block = &find->blocks[is_up ? i : find->n_blocks - 1 - i];
        if (!is_asked(find, block))
            continue;
        if (find->next != 0 && is_late(find))
            return 0;
        int status = look_at_block(find, block);
        if (status != 0)
            return status < 0 ? status : 0;
    }
    find->next = 0;
    return 0;
}

/* --- */

/* What is below the first segment was deleted. */
MUST_CHECK static int set_bounds(struct find *find) {
    const struct audit_query *query = find->query;
    uint64_t *segments = NULL, cursor = 0;
    size_t n = 0;
    if (query->cursor.len != 0 && (slice_to_u64(query->cursor, &cursor) != 0 || cursor == 0))
        return FIND_E_CURSOR;
    int error = audit_segments(find->lines.dir, &segments, &n);
    if (error != 0)
        return error;
    find->first = n != 0 ? segments[0] : 1;
    mem_free(segments);
    find->last = INDEX_SEQ_MOST - 1;
    if (cursor != 0 && query->oldest_first && cursor >= find->first)
        find->first = cursor < find->last ? cursor + 1 : find->last;
    if (cursor != 0 && !query->oldest_first && cursor <= find->last)
        find->last = cursor - 1;
    find->since = query->since_us < INT64_MAX ? (int64_t)query->since_us : INT64_MAX;
    find->before =
        query->until_us != 0 && query->until_us < INT64_MAX ? (int64_t)query->until_us : INT64_MAX;
    find->limit = query->limit == 0 ? PAGE : query->limit;
    if (find->limit > LIMIT_AUDIT_PAGE)
        find->limit = LIMIT_AUDIT_PAGE;
    find->deadline = clock_monotonic_ms() + LIMIT_AUDIT_QUERY_MS;
    return 0;
}

MUST_CHECK static int get_lag(struct find *find) {
    uint64_t newest = 0;
    int error = index_newest(find->lines.dir, &newest);
    if (error != 0)
        return error;
    sqlite3_stmt *get = index_sql(find->db, SQL_STATE_GET);
    int status = get == NULL ? index_db_error(find->db) : index_step(find->db, get);
    if (status <= 0)
        return status < 0 ? status : -EBADMSG;
    uint64_t seq = (uint64_t)sqlite3_column_int64(get, 2);
    (void)sqlite3_reset(get);
    find->request->page.lag = newest > seq ? newest - seq : 0;
    return 0;
}

MUST_CHECK static int look(struct find *find, const char *dir) {
    int error = find_words_set(&find->words, find->query->text);
    if (error == 0)
        error = set_bounds(find);
    if (error == 0)
        error = index_db_open(dir, false, &find->db);
    if (error == 0)
        error = index_run(find->db, SQL_BEGIN_READ, NULL, 0);
    if (error == 0)
        error = get_lag(find);
    if (error == 0)
        error = find_filter_make(find->db, find->query, &find->filter);
    if (error != 0 || find->filter.is_impossible || find->first > find->last)
        return error;
    error = list_blocks(find);
    return error != 0 ? error : look_at_blocks(find);
}

int find_in_sqlite(const char *dir, struct find_request *request) {
    CLEANUP(find_deinit) struct find find = {.query = request->query, .request = request};
    find_lines_init(&find.lines, dir);
    find_words_init(&find.words);
    int error = look(&find, dir);
    if (error != 0)
        return error;
    request->page.n = find.n;
    if (find.next != 0)
        snprintf(request->page.next, sizeof request->page.next, "%" PRIu64, find.next);
    return 0;
}
