/*
 * Looking for records in PostgreSQL (audit/index.h, shared.h), in one transaction that sees one
 * moment. Without a filter they come along the index of times, here; with filters: shared_merge.c.
 * What comes next is read some dozens at a time, compared with what was asked for, and given out.
 *
 * A cursor is the place (time, log, number) of the last record that was looked at.
 */
#include "shared_find.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "index_fill.h"

enum {
    PAGE = 50,        /* when no limit is asked for */
    READ_WORDS = 256, /* records at once in which words are looked for */
};

/* --- order --- */

int shared_compare(const struct place *a, const struct place *b) {
    if (a->time != b->time)
        return a->time < b->time ? -1 : 1;
    if (a->log != b->log)
        return a->log < b->log ? -1 : 1;
    return a->seq < b->seq ? -1 : a->seq > b->seq;
}

bool shared_is_before(const struct shared_find *find, const struct place *a,
                      const struct place *b) {
    return find->is_up ? shared_compare(a, b) < 0 : shared_compare(a, b) > 0;
}

bool shared_is_late(const struct shared_find *find) {
    return clock_monotonic_ms() >= find->deadline;
}

void shared_write_next(struct shared_find *find, const struct place *place) {
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
        if (shared_is_before(find, &find->from, &place))
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
        shared_write_next(find, &find->last);
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
    shared_write_next(find, &place);
    return 1;
}

int shared_look_at(struct shared_find *find, struct store_rows *rows, size_t *ret_n) {
    int status = 0;
    *ret_n = 0;
    while (status == 0 && store_rows_next(rows)) {
        status = look_at(find, rows);
        (*ret_n)++;
    }
    int end = shared_rows_end(rows);
    return status < 0 || end == 0 ? status : end;
}

size_t shared_count_to_read(const struct shared_find *find) {
    size_t most = find->query->text.len != 0 ? READ_WORDS : SHARED_READ;
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
        size_t n = shared_count_to_read(find), n_read = 0;
        int status = shared_query(
            find->tx, find->is_up ? up : down,
            STORE_VALUES(store_number(find->last.time), store_number(find->last.log),
                         store_number(find->last.seq),
                         store_number(find->is_up ? find->until : find->since),
                         store_text(buf_slice(&find->log_ids)), store_number((int64_t)n)),
            &rows);
        if (status == 0)
            status = shared_look_at(find, rows, &n_read);
        if (status != 0 || n_read < n)
            return status < 0 ? status : 0;
        if (shared_is_late(find)) {
            shared_write_next(find, &find->last);
            return 0;
        }
    }
}

/* --- */

static void find_deinit(struct shared_find *find) {
    shared_merge_deinit(find);
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
    return find->n_terms == 0 ? walk(find) : shared_merge(find);
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
