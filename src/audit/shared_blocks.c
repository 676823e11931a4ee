/* Complete blocks of the index in PostgreSQL, and deleting (shared.h). */
#include <errno.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/mem.h"
#include "shared.h"

#define COPY_POSTINGS "COPY audit_postings (log, block, term, bits) FROM STDIN (FORMAT binary)"
#define COPY_BLOCKS                                                                                \
    "COPY audit_blocks (log, block, earliest, latest, times) FROM STDIN (FORMAT binary)"

static struct store_value number_of(uint64_t number) {
    return store_number(number < INT64_MAX ? (int64_t)number : INT64_MAX);
}

/* --- completing --- */

struct pair {
    int64_t term;
    uint16_t low;
};

struct completing {
    struct pair *pairs; /* which record has which term */
    size_t n, cap;
    int64_t earliest, latest;
    struct buf times;
};

static void completing_deinit(struct completing *block) {
    mem_free(block->pairs);
    buf_deinit(&block->times);
}

MUST_CHECK static int add_terms(struct completing *block, struct slice terms, uint16_t low) {
    int64_t term;
    while (shared_array_next(&terms, &term)) {
        if (block->n == block->cap) {
            size_t cap = block->cap == 0 ? 64 * KIB(1) : block->cap * 2;
            struct pair *grown = mem_realloc(block->pairs, cap * sizeof *grown);
            if (grown == NULL)
                return -ENOMEM;
            block->pairs = grown;
            block->cap = cap;
        }
        block->pairs[block->n++] = (struct pair){.term = term, .low = low};
    }
    return 0;
}

MUST_CHECK static int read_block(struct store_tx *tx, int64_t log, uint64_t number,
                                 struct completing *block) {
    struct store_rows *rows = NULL;
    struct shared_times times = {.out = &block->times};
    uint64_t first = number << SHARED_BLOCK_BITS;
    int error = shared_query(
        tx,
        "SELECT seq, time, terms::text FROM audit_records"
        " WHERE log = $1 AND seq >= $2 AND seq < $3 ORDER BY seq",
        STORE_VALUES(store_number(log), number_of(first), number_of(first + SHARED_BLOCK)), &rows);
    while (error == 0 && store_rows_next(rows)) {
        int64_t time = store_rows_number(rows, 1);
        uint16_t low = (uint16_t)((uint64_t)store_rows_number(rows, 0) & (SHARED_BLOCK - 1));
        bool is_first = buf_len(&block->times) == 0;
        block->earliest = is_first || time < block->earliest ? time : block->earliest;
        block->latest = is_first || time > block->latest ? time : block->latest;
        shared_write_time(&times, low, time);
        error = add_terms(block, store_rows_text(rows, 2), low);
    }
    int end = shared_rows_end(rows);
    return error != 0 ? error : end != 0 ? end : buf_error(&block->times);
}

static int compare_pairs(const void *a, const void *b) {
    const struct pair *x = a, *y = b;
    if (x->term != y->term)
        return x->term < y->term ? -1 : 1;
    return (int)x->low - (int)y->low;
}

MUST_CHECK static int write_postings(struct store_tx *tx, int64_t log, uint64_t number,
                                     struct completing *block) {
    CLEANUP(buf_deinit) struct buf rows = BUF_INIT(MIB(64));
    CLEANUP(buf_deinit) struct buf bits = BUF_INIT(KIB(16));
    uint16_t lows[SHARED_BLOCK];
    if (block->n != 0)
        qsort(block->pairs, block->n, sizeof *block->pairs, compare_pairs);
    shared_copy_begin(&rows);
    for (size_t i = 0; i < block->n;) {
        int64_t term = block->pairs[i].term;
        size_t n = 0;
        for (; i < block->n && block->pairs[i].term == term; i++)
            if (n == 0 || lows[n - 1] != block->pairs[i].low)
                lows[n++] = block->pairs[i].low;
        buf_reset(&bits, KIB(16));
        shared_write_lows(&bits, lows, n);
        shared_copy_row(&rows, 4);
        shared_copy_number(&rows, log);
        shared_copy_number(&rows, (int64_t)number);
        shared_copy_number(&rows, term);
        shared_copy_bytes(&rows, buf_slice(&bits));
    }
    shared_copy_end(&rows);
    int error = buf_error(&rows) != 0 ? buf_error(&rows) : buf_error(&bits);
    return error != 0 ? error : shared_copy(tx, COPY_POSTINGS, buf_slice(&rows));
}

int shared_complete(struct store_tx *tx, int64_t log, uint64_t number) {
    CLEANUP(completing_deinit) struct completing block = {.times = BUF_INIT(MIB(1))};
    CLEANUP(buf_deinit) struct buf rows = BUF_INIT(MIB(1));
    int error = read_block(tx, log, number, &block);
    if (error != 0 || buf_len(&block.times) == 0)
        return error;
    error = write_postings(tx, log, number, &block);
    if (error != 0)
        return error;
    shared_copy_begin(&rows);
    shared_copy_row(&rows, 5);
    shared_copy_number(&rows, log);
    shared_copy_number(&rows, (int64_t)number);
    shared_copy_number(&rows, block.earliest);
    shared_copy_number(&rows, block.latest);
    shared_copy_bytes(&rows, buf_slice(&block.times));
    shared_copy_end(&rows);
    error = buf_error(&rows);
    return error != 0 ? error : shared_copy(tx, COPY_BLOCKS, buf_slice(&rows));
}

/* --- one more --- */

MUST_CHECK static int read_posting(struct store_tx *tx, const struct store_value key[3],
                                   struct bitmap *bitmap) {
    CLEANUP(buf_deinit) struct buf bytes = BUF_INIT(KIB(64));
    struct store_rows *rows = NULL;
    int error = shared_query(
        tx, "SELECT bits FROM audit_postings WHERE log = $1 AND block = $2 AND term = $3", key, 3,
        &rows);
    if (error == 0 && store_rows_next(rows)) {
        error = shared_read_bytes(store_rows_text(rows, 0), &bytes);
        if (error == 0 && !shared_read_lows(buf_slice(&bytes), bitmap))
            error = -EUCLEAN;
    }
    int end = shared_rows_end(rows);
    return error != 0 ? error : end;
}

int shared_post(struct store_tx *tx, int64_t log, uint64_t seq, int64_t term) {
    static const char digits[] = "0123456789abcdef";
    CLEANUP(buf_deinit) struct buf bytes = BUF_INIT(KIB(16));
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(KIB(32));
    const struct store_value key[] = {store_number(log), number_of(seq >> SHARED_BLOCK_BITS),
                                      store_number(term)};
    struct bitmap bitmap;
    uint16_t lows[SHARED_BLOCK];
    size_t n = 0;
    bitmap_clear(&bitmap);
    int error = read_posting(tx, key, &bitmap);
    if (error != 0)
        return error;
    bitmap_set(&bitmap, (unsigned)(seq & (SHARED_BLOCK - 1)));
    for (unsigned low = bitmap_next(&bitmap, 0); low < SHARED_BLOCK;
         low = bitmap_next(&bitmap, low + 1))
        lows[n++] = (uint16_t)low;
    shared_write_lows(&bytes, lows, n);
    for (size_t i = 0; i < buf_len(&bytes); i++) {
        unsigned char byte = (unsigned char)buf_slice(&bytes).ptr[i];
        buf_append_byte(&text, digits[byte >> 4]);
        buf_append_byte(&text, digits[byte & 15]);
    }
    if (buf_error(&bytes) != 0 || buf_error(&text) != 0)
        return -ENOMEM;
    return shared_exec(tx,
                       "INSERT INTO audit_postings (log, block, term, bits)"
                       " VALUES ($1, $2, $3, decode($4, 'hex'))"
                       " ON CONFLICT (log, block, term) DO UPDATE SET bits = excluded.bits",
                       STORE_VALUES(key[0], key[1], key[2], store_text(buf_slice(&text))), NULL);
}

/* --- deleting --- */

/* All blocks up to this one. */
MUST_CHECK static int drop_blocks(struct store_tx *tx, int64_t log, uint64_t last) {
    const struct store_value values[] = {store_number(log), number_of(last)};
    int error = shared_exec(tx, "DELETE FROM audit_postings WHERE log = $1 AND block <= $2", values,
                            ARRAY_LEN(values), NULL);
    return error != 0 ? error
                      : shared_exec(tx, "DELETE FROM audit_blocks WHERE log = $1 AND block <= $2",
                                    values, ARRAY_LEN(values), NULL);
}

int shared_drop(struct store_tx *tx, int64_t log, uint64_t seq, uint64_t *ret_n) {
    int64_t first = 0;
    int error = shared_number(tx, "SELECT min(seq) FROM audit_records WHERE log = $1 AND seq < $2",
                              STORE_VALUES(store_number(log), number_of(seq)), -1, &first);
    *ret_n = 0;
    if (error != 0)
        return error;
    uint64_t last = seq >> SHARED_BLOCK_BITS; /* the block that is kept */
    if (first < 0)
        return last != 0 ? drop_blocks(tx, log, last - 1) : 0;
    uint64_t block = (uint64_t)first >> SHARED_BLOCK_BITS;
    uint64_t end = (block + 1) << SHARED_BLOCK_BITS;
    error = shared_exec(tx, "DELETE FROM audit_records WHERE log = $1 AND seq < $2",
                        STORE_VALUES(store_number(log), number_of(end < seq ? end : seq)), ret_n);
    if (error == 0 && end <= seq)
        error = drop_blocks(tx, log, block);
    return error != 0 ? error : end < seq ? 1 : 0;
}

/* 1: there was something to do. */
MUST_CHECK static int sweep_forgotten(struct store_tx *tx) {
    int64_t log = 0;
    uint64_t n = 0;
    int error = shared_number(tx,
                              "SELECT id FROM audit_logs WHERE name IS NULL ORDER BY id LIMIT 1"
                              " FOR UPDATE SKIP LOCKED",
                              NULL, 0, 0, &log);
    if (error != 0 || log == 0)
        return error;
    int status = shared_drop(tx, log, INT64_MAX, &n);
    if (status == 0 && n == 0)
        status = shared_exec(tx, "DELETE FROM audit_logs WHERE id = $1",
                             STORE_VALUES(store_number(log)), NULL);
    return status < 0 ? status : 1;
}

/* Of a log that nobody fills: its oldest block, or at last the rest. 1: there was something. */
MUST_CHECK static int sweep_old(struct store_tx *tx, int64_t log, int64_t limit_us) {
    const struct store_value values[] = {store_number(log), store_number(limit_us)};
    int64_t block = 0, is_newer = 1;
    uint64_t n = 0;
    int error = shared_number(tx,
                              "SELECT CASE WHEN latest < $2 THEN block ELSE -1 END FROM"
                              " audit_blocks WHERE log = $1 ORDER BY block LIMIT 1",
                              values, ARRAY_LEN(values), -2, &block);
    if (error != 0 || block == -1)
        return error;
    if (block >= 0) {
        int status = shared_drop(tx, log, ((uint64_t)block + 1) << SHARED_BLOCK_BITS, &n);
        if (status == 0)
            status = drop_blocks(tx, log, (uint64_t)block);
        return status == 0 ? 1 : status;
    }
    error = shared_number(
        tx, "SELECT count(*) FROM audit_records WHERE log = $1 AND time >= $2 LIMIT 1", values,
        ARRAY_LEN(values), 0, &is_newer);
    if (error != 0 || is_newer != 0)
        return error;
    error = shared_exec(tx, "UPDATE audit_logs SET name = NULL WHERE id = $1", values, 1, NULL);
    return error != 0 ? error : 1;
}

enum { GONE = 64 };

MUST_CHECK static int find_gone(struct store_tx *tx, uint64_t now_ms, int64_t logs[GONE],
                                size_t *ret_n) {
    enum { DAY_MS = 24 * 3600 * 1000 };
    struct store_rows *rows = NULL;
    int error = shared_query(tx,
                             "SELECT id FROM audit_logs WHERE name IS NOT NULL AND seen_ms < $1"
                             " ORDER BY id LIMIT 64 FOR UPDATE SKIP LOCKED",
                             STORE_VALUES(store_number((int64_t)now_ms - DAY_MS)), &rows);
    *ret_n = 0;
    while (error == 0 && *ret_n < GONE && store_rows_next(rows))
        logs[(*ret_n)++] = store_rows_number(rows, 0);
    int end = shared_rows_end(rows);
    return error != 0 ? error : end;
}

int shared_sweep(struct store_tx *tx, uint64_t max_age_ms) {
    int64_t logs[GONE];
    uint64_t now_ms = 0;
    size_t n = 0;
    int status = sweep_forgotten(tx);
    if (status != 0 || max_age_ms == 0)
        return status;
    status = shared_error(store_now_ms(tx, &now_ms));
    if (status != 0 || now_ms <= max_age_ms)
        return status;
    status = find_gone(tx, now_ms, logs, &n);
    for (size_t i = 0; status == 0 && i < n; i++)
        status = sweep_old(tx, logs[i], (int64_t)(now_ms - max_age_ms) * 1000);
    return status;
}
