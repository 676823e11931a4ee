/*
 * Postings (postings.h). Those of a complete block are made of its records in one go: every pair of
 * a value and a record as one number, sorted by the value, and then one posting for each run.
 */
#include "postings.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"

enum {
    LOW_BITS = 16,
    DIGIT_BITS = 11,
    DIGITS = 3, /* of 32 bits */
    FIRST_PAIRS = 1 << 19,
    SWEEP = 2048, /* values a step */
};

struct pairs {
    uint64_t *data; /* value << LOW_BITS | place in the block */
    size_t n, cap;
};

static void pairs_deinit(struct pairs *pairs) {
    mem_free(pairs->data);
}

MUST_CHECK static int pairs_grow(struct pairs *pairs) {
    size_t cap = pairs->cap == 0 ? FIRST_PAIRS : pairs->cap * 2;
    uint64_t *data = mem_realloc(pairs->data, cap * sizeof *data);
    if (data == NULL)
        return -ENOMEM;
    pairs->data = data;
    pairs->cap = cap;
    return 0;
}

MUST_CHECK static int pairs_push(struct pairs *pairs, int64_t value, unsigned low) {
    if (pairs->n == pairs->cap) {
        int error = pairs_grow(pairs);
        if (error != 0)
            return error;
    }
    pairs->data[pairs->n++] = (uint64_t)value << LOW_BITS | low;
    return 0;
}

/* By one digit of the value, those that are equal in the order in which they were. */
static void sort_digit(const uint64_t *from, uint64_t *to, size_t n, unsigned shift) {
    size_t starts[1 << DIGIT_BITS] = {0};
    const uint64_t mask = (1 << DIGIT_BITS) - 1;
    for (size_t i = 0; i < n; i++)
        starts[from[i] >> shift & mask]++;
    size_t at = 0;
    for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
        size_t count = starts[i];
        starts[i] = at;
        at += count;
    }
    for (size_t i = 0; i < n; i++)
        to[starts[from[i] >> shift & mask]++] = from[i];
}

MUST_CHECK static int pairs_sort(struct pairs *pairs) {
    uint64_t *other = mem_realloc(NULL, (pairs->n + 1) * sizeof *other);
    if (other == NULL)
        return -ENOMEM;
    for (unsigned digit = 0; digit < DIGITS; digit++) {
        sort_digit(pairs->data, other, pairs->n, LOW_BITS + digit * DIGIT_BITS);
        uint64_t *sorted = other;
        other = pairs->data;
        pairs->data = sorted;
    }
    pairs->cap = pairs->n; /* either block is at least that large */
    mem_free(other);
    return 0;
}

/* --- of records --- */

/* The values in the columns of SQL_ROWS_VALUES, and those that they stand for besides. */
typedef int visit_value(void *context, int64_t value);

MUST_CHECK static int visit_wider(struct values *values, int64_t value, visit_value *visit,
                                  void *context) {
    const struct values_wider *wider;
    int error = values_wider(values, value, &wider);
    for (size_t i = 0; error == 0 && i < wider->n; i++)
        error = visit(context, wider->numbers[i]);
    return error;
}

MUST_CHECK static int visit_row(struct values *values, sqlite3_stmt *row, visit_value *visit,
                                void *context) {
    int64_t operation = sqlite3_column_int64(row, COLUMN_OPERATION);
    for (int column = COLUMN_EVENT; column <= COLUMN_ADDRESS; column++) {
        int64_t value = sqlite3_column_int64(row, column);
        if (value <= 0 || value > UINT32_MAX ||
            (column == COLUMN_UPSTREAM_OPERATION && value == operation))
            continue;
        int error = visit(context, value);
        if (error == 0 && (column == COLUMN_GROUPS || column == COLUMN_ADDRESS))
            error = visit_wider(values, value, visit, context);
        if (error != 0)
            return error;
    }
    return 0;
}

struct collected {
    struct pairs pairs;
    unsigned low;
    int64_t earliest, latest;
};

static int collect_value(void *context, int64_t value) {
    struct collected *collected = context;
    return pairs_push(&collected->pairs, value, collected->low);
}

MUST_CHECK static sqlite3_stmt *rows_of(struct index_db *db, uint64_t block) {
    sqlite3_stmt *rows = index_sql(db, SQL_ROWS_VALUES);
    int64_t first = (int64_t)(block << INDEX_BLOCK_BITS);
    if (rows == NULL || sqlite3_bind_int64(rows, 1, first) != SQLITE_OK ||
        sqlite3_bind_int64(rows, 2, first + INDEX_BLOCK - 1) != SQLITE_OK)
        return NULL;
    return rows;
}

MUST_CHECK static int collect(struct values *values, uint64_t block, struct collected *collected) {
    sqlite3_stmt *rows = rows_of(values->db, block);
    if (rows == NULL)
        return index_db_error(values->db);
    int status;
    while ((status = index_step(values->db, rows)) == 1) {
        int64_t time = sqlite3_column_int64(rows, COLUMN_TIME);
        collected->low = (unsigned)(sqlite3_column_int64(rows, COLUMN_SEQ) & (INDEX_BLOCK - 1));
        if (time < collected->earliest)
            collected->earliest = time;
        if (time > collected->latest)
            collected->latest = time;
        int error = pairs_push(&collected->pairs, 0, collected->low);
        if (error == 0)
            error = visit_row(values, rows, collect_value, collected);
        if (error != 0) {
            (void)sqlite3_reset(rows);
            return error;
        }
    }
    return status;
}

MUST_CHECK static int put(struct index_db *db, uint64_t block, uint64_t value,
                          struct slice stored) {
    sqlite3_stmt *statement = index_sql(db, SQL_POSTING_PUT);
    if (statement == NULL ||
        sqlite3_bind_int64(statement, 1, index_posting_key(block, value)) != SQLITE_OK ||
        sqlite3_bind_blob64(statement, 2, stored.ptr, stored.len, SQLITE_STATIC) != SQLITE_OK)
        return index_db_error(db);
    int status = index_step(db, statement);
    (void)sqlite3_clear_bindings(statement);
    return status;
}

MUST_CHECK static int put_runs(struct index_db *db, uint64_t block, const struct pairs *pairs) {
    UNCLEARED uint16_t lows[INDEX_BLOCK];
    UNCLEARED struct bitmap room;
    size_t n = 0;
    for (size_t i = 0; i < pairs->n; i++) {
        uint64_t value = pairs->data[i] >> LOW_BITS;
        /* A file that was tampered with may name a group twice. */
        uint16_t low = (uint16_t)pairs->data[i];
        if (n == 0 || lows[n - 1] != low)
            lows[n++] = low;
        if (i + 1 < pairs->n && pairs->data[i + 1] >> LOW_BITS == value)
            continue;
        int error = put(db, block, value, bitmap_store(lows, n, &room));
        if (error != 0)
            return error;
        n = 0;
    }
    return 0;
}

static void collected_deinit(struct collected *collected) {
    pairs_deinit(&collected->pairs);
}

int postings_write(struct values *values, uint64_t block) {
    CLEANUP(collected_deinit)
    struct collected collected = {.earliest = INT64_MAX, .latest = INT64_MIN};
    int error = collect(values, block, &collected);
    if (error != 0 || collected.pairs.n == 0)
        return error;
    error = pairs_sort(&collected.pairs);
    if (error == 0)
        error = put_runs(values->db, block, &collected.pairs);
    if (error == 0)
        error = index_run(values->db, SQL_BLOCK_PUT,
                          (int64_t[]){(int64_t)block, collected.earliest, collected.latest}, 3);
    return error;
}

int postings_add(struct index_db *db, uint64_t block, int64_t value, unsigned low) {
    UNCLEARED uint16_t room[INDEX_BLOCK / 16];
    struct bitmap bitmap;
    bitmap_clear(&bitmap);
    sqlite3_stmt *get = index_sql(db, SQL_POSTING_GET);
    if (get == NULL ||
        sqlite3_bind_int64(get, 1, index_posting_key(block, (uint64_t)value)) != SQLITE_OK)
        return index_db_error(db);
    int status = index_step(db, get);
    if (status < 0)
        return status;
    bool is_good = status == 0 || bitmap_add_stored(&bitmap, index_column_blob(get, 0));
    (void)sqlite3_reset(get);
    if (!is_good)
        return -EBADMSG;
    bitmap_set(&bitmap, low);
    return put(db, block, (uint64_t)value, bitmap_store_all(&bitmap, room));
}

/* --- deleting --- */

MUST_CHECK static int note_unused(struct postings_unused *unused, uint32_t value) {
    if (unused->n == unused->cap) {
        size_t cap = unused->cap == 0 ? 4096 : unused->cap * 2;
        uint32_t *grown = mem_realloc(unused->values, cap * sizeof *grown);
        if (grown == NULL)
            return -ENOMEM;
        unused->values = grown;
        unused->cap = cap;
    }
    unused->values[unused->n++] = value;
    return 0;
}

MUST_CHECK static int note_values(struct index_db *db, uint64_t below_block,
                                  struct postings_unused *unused) {
    sqlite3_stmt *list = index_sql(db, SQL_POSTING_VALUES);
    if (list == NULL || sqlite3_bind_int64(list, 1, 0) != SQLITE_OK ||
        sqlite3_bind_int64(list, 2, index_posting_key(below_block, 0) - 1) != SQLITE_OK)
        return index_db_error(db);
    int status;
    while ((status = index_step(db, list)) == 1) {
        int64_t value = sqlite3_column_int64(list, 0);
        int error = value != 0 ? note_unused(unused, (uint32_t)value) : 0;
        if (error != 0) {
            (void)sqlite3_reset(list);
            return error;
        }
    }
    return status;
}

int postings_drop(struct index_db *db, uint64_t below_block, struct postings_unused *unused,
                  uint64_t *ret_n_records) {
    int64_t block = (int64_t)below_block;
    int64_t key = index_posting_key(below_block, 0);
    int64_t seq = (int64_t)(below_block << INDEX_BLOCK_BITS);
    int error = note_values(db, below_block, unused);
    if (error == 0)
        error = index_run(db, SQL_POSTINGS_DROP, &key, 1);
    if (error == 0)
        error = index_run(db, SQL_BLOCKS_DROP, &block, 1);
    if (error == 0)
        error = index_run(db, SQL_ROWS_DROP, &seq, 1);
    if (error == 0)
        *ret_n_records = (uint64_t)sqlite3_changes64(db->sqlite);
    return error;
}

static int compare(const void *a, const void *b) {
    uint32_t left, right;
    memcpy(&left, a, sizeof left);
    memcpy(&right, b, sizeof right);
    return left < right ? -1 : left > right;
}

/* The ones that are looked at in this step: sorted; 0 is put in the place of one that is used. */
struct suspects {
    uint32_t *values;
    bool *is_used;
    size_t n;
};

static int acquit(void *context, int64_t value) {
    struct suspects *suspects = context;
    uint32_t key = (uint32_t)value;
    const uint32_t *found =
        bsearch(&key, suspects->values, suspects->n, sizeof *suspects->values, compare);
    if (found != NULL)
        suspects->is_used[found - suspects->values] = true;
    return 0;
}

MUST_CHECK static int acquit_tail(struct values *values, uint64_t tail, struct suspects *suspects) {
    sqlite3_stmt *rows = rows_of(values->db, tail);
    if (rows == NULL)
        return index_db_error(values->db);
    int status;
    while ((status = index_step(values->db, rows)) == 1) {
        int error = visit_row(values, rows, acquit, suspects);
        if (error != 0) {
            (void)sqlite3_reset(rows);
            return error;
        }
    }
    return status;
}

/* 1: some block has it. */
MUST_CHECK static int is_posted(struct index_db *db, uint32_t value, const uint64_t *blocks,
                                size_t n) {
    for (size_t i = 0; i < n; i++) {
        sqlite3_stmt *get = index_sql(db, SQL_POSTING_GET);
        if (get == NULL ||
            sqlite3_bind_int64(get, 1, index_posting_key(blocks[i], value)) != SQLITE_OK)
            return index_db_error(db);
        int status = index_step(db, get);
        (void)sqlite3_reset(get);
        if (status != 0)
            return status;
    }
    return 0;
}

MUST_CHECK static int list_blocks(struct index_db *db, uint64_t **ret_blocks, size_t *ret_n) {
    uint64_t *blocks = NULL;
    size_t n = 0, cap = 0;
    sqlite3_stmt *list = index_sql(db, SQL_BLOCKS);
    if (list == NULL)
        return index_db_error(db);
    int status;
    while ((status = index_step(db, list)) == 1) {
        if (n == cap) {
            cap = cap == 0 ? 256 : cap * 2;
            uint64_t *grown = mem_realloc(blocks, cap * sizeof *grown);
            if (grown == NULL) {
                (void)sqlite3_reset(list);
                mem_free(blocks);
                return -ENOMEM;
            }
            blocks = grown;
        }
        blocks[n++] = (uint64_t)sqlite3_column_int64(list, 0);
    }
    if (status < 0) {
        mem_free(blocks);
        return status;
    }
    *ret_blocks = blocks;
    *ret_n = n;
    return 0;
}

MUST_CHECK static int drop_guilty(struct values *values, const struct suspects *suspects) {
    CLEANUP(mem_freep) uint64_t *blocks = NULL;
    size_t n_blocks = 0;
    int error = list_blocks(values->db, &blocks, &n_blocks);
    for (size_t i = 0; error == 0 && i < suspects->n; i++) {
        if (suspects->is_used[i])
            continue;
        int status = is_posted(values->db, suspects->values[i], blocks, n_blocks);
        error = status == 0 ? values_drop(values, suspects->values[i]) : status < 0 ? status : 0;
    }
    return error;
}

int postings_sweep(struct values *values, uint64_t tail, struct postings_unused *unused) {
    bool is_used[SWEEP] = {false};
    size_t n = unused->n < SWEEP ? unused->n : SWEEP;
    struct suspects suspects = {unused->values + (unused->n - n), is_used, n};
    qsort(suspects.values, n, sizeof *suspects.values, compare);
    int error = acquit_tail(values, tail, &suspects);
    if (error == 0)
        error = drop_guilty(values, &suspects);
    if (error != 0)
        return error;
    unused->n -= n;
    values_forget(values);
    return 0;
}
