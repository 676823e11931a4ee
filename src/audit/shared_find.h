/* What the two halves of looking into PostgreSQL share: shared_find.c, shared_merge.c. */
#pragma once

#include "shared.h"

enum { SHARED_READ = 512 /* records at once */ };

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
    struct place *wanted; /* SHARED_READ of them */
    struct place last;    /* that was looked at */
};

int shared_compare(const struct place *a, const struct place *b);
/* In the order that is asked for. */
bool shared_is_before(const struct shared_find *find, const struct place *a, const struct place *b);
bool shared_is_late(const struct shared_find *find);
/* How many records to read next, and looking at them: 1: the page has come to its end. Columns:
 * log, seq, time, line, outcome. */
size_t shared_count_to_read(const struct shared_find *find);
MUST_CHECK int shared_look_at(struct shared_find *find, struct store_rows *rows, size_t *ret_n);
/* The next page begins behind this place. */
void shared_write_next(struct shared_find *find, const struct place *place);

/* shared_merge.c: the records that pass the filters. */
MUST_CHECK int shared_merge(struct shared_find *find);
void shared_merge_deinit(struct shared_find *find);
