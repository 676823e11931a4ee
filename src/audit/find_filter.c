/* Which records of a block pass the filters of a query (find_private.h). */
#include <errno.h>

#include "base/mem.h"
#include "find_private.h"

enum { MEMORY = 16384 }; /* of addresses that were looked at */

void find_filter_deinit(struct find_filter *filter) {
    mem_free(filter->addresses.values);
}

/* --- making --- */

/* The first column of what a statement gives. */
MUST_CHECK static int collect(struct index_db *db, sqlite3_stmt *statement,
                              struct find_numbers *numbers) {
    size_t cap = 0;
    int status;
    while ((status = index_step(db, statement)) == 1) {
        if (numbers->n == cap) {
            cap = cap == 0 ? 64 : cap * 2;
            int64_t *grown = mem_realloc(numbers->values, cap * sizeof *grown);
            if (grown == NULL) {
                (void)sqlite3_reset(statement);
                return -ENOMEM;
            }
            numbers->values = grown;
        }
        numbers->values[numbers->n++] = sqlite3_column_int64(statement, 0);
    }
    return status;
}

/* The first dimension whose blocks are not wider than what is asked for: all of its values in the
 * range together are it. */
MUST_CHECK static int find_addresses(struct find_filter *filter) {
    unsigned char first[VALUES_ADDRESS], last[VALUES_ADDRESS];
    const struct values_level *level = values_levels(&filter->address);
    while (level->bits < filter->address.bits)
        level++;
    values_address_range(&filter->address, filter->address.bits, first, last);
    sqlite3_stmt *range = index_sql(filter->db, SQL_VALUE_RANGE);
    if (range == NULL || sqlite3_bind_int(range, 1, (int)level->dim) != SQLITE_OK ||
        sqlite3_bind_blob(range, 2, first, sizeof first, SQLITE_TRANSIENT) != SQLITE_OK ||
        sqlite3_bind_blob(range, 3, last, sizeof last, SQLITE_TRANSIENT) != SQLITE_OK)
        return index_db_error(filter->db);
    int error = collect(filter->db, range, &filter->addresses);
    filter->is_impossible = filter->is_impossible || filter->addresses.n == 0;
    return error;
}

MUST_CHECK static int find_values(struct find_filter *filter, const struct audit_query *query) {
    const struct {
        enum index_dim dim;
        struct slice text;
        int64_t *ret_number;
    } texts[] = {
        {INDEX_EVENT, query->event, &filter->event},
        {INDEX_DECISION, query->decision, &filter->decision},
        {INDEX_STATUS, query->status, &filter->status},
        {INDEX_USER, query->user, &filter->user},
        {INDEX_GROUP, query->group, &filter->group},
        {INDEX_OPERATION, query->operation, &filter->operation},
        {INDEX_UPSTREAM, query->upstream, &filter->upstream},
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (texts[i].text.len == 0)
            continue;
        int status = values_find(filter->db, texts[i].dim,
                                 slice_sub(texts[i].text, 0, INDEX_TEXT_MOST), texts[i].ret_number);
        if (status < 0)
            return status;
        filter->is_impossible = filter->is_impossible || status == 1;
    }
    return 0;
}

int find_filter_make(struct index_db *db, const struct audit_query *query,
                     struct find_filter *ret_filter) {
    struct find_filter filter = {.db = db, .has_address = query->address.len != 0};
    if (filter.has_address && !network_parse(query->address, &filter.address))
        return FIND_E_ADDRESS;
    int error = find_values(&filter, query);
    if (error == 0 && filter.has_address)
        error = find_addresses(&filter);
    if (error != 0) {
        find_filter_deinit(&filter);
        return error;
    }
    *ret_filter = filter;
    return 0;
}

/* --- a complete block --- */

MUST_CHECK static int add_posting(struct index_db *db, uint64_t block, int64_t value,
                                  struct bitmap *bitmap) {
    sqlite3_stmt *get = index_sql(db, SQL_POSTING_GET);
    if (get == NULL ||
        sqlite3_bind_int64(get, 1, index_posting_key(block, (uint64_t)value)) != SQLITE_OK)
        return index_db_error(db);
    int status = index_step(db, get);
    if (status <= 0)
        return status;
    bool is_good = bitmap_add_stored(bitmap, index_column_blob(get, 0));
    (void)sqlite3_reset(get);
    return is_good ? 0 : -EBADMSG;
}

/* Takes out what has none of the values. */
MUST_CHECK static int keep(struct index_db *db, uint64_t block, const int64_t *values, size_t n,
                           struct bitmap *passed, bool *ret_is_empty) {
    struct bitmap any;
    bitmap_clear(&any);
    for (size_t i = 0; i < n; i++) {
        int error = add_posting(db, block, values[i], &any);
        if (error != 0)
            return error;
    }
    bitmap_and(passed, &any);
    *ret_is_empty = bitmap_is_empty(passed);
    return 0;
}

MUST_CHECK static int from_postings(const struct find_filter *filter, uint64_t block,
                                    struct bitmap *passed) {
    const int64_t values[] = {filter->user,   filter->operation, filter->group, filter->upstream,
                              filter->status, filter->decision,  filter->event};
    bool is_empty = false, is_any = true;
    memset(passed, 0xff, sizeof *passed);
    for (size_t i = 0; i < ARRAY_LEN(values) && !is_empty; i++) {
        if (values[i] == 0)
            continue;
        int error = keep(filter->db, block, &values[i], 1, passed, &is_empty);
        if (error != 0)
            return error;
        is_any = false;
    }
    if (filter->has_address && !is_empty)
        return keep(filter->db, block, filter->addresses.values, filter->addresses.n, passed,
                    &is_empty);
    const int64_t all = 0;
    return is_any ? keep(filter->db, block, &all, 1, passed, &is_empty) : 0;
}

/* --- the last one, record by record --- */

struct known_address {
    int64_t value;
    bool is_in;
};

MUST_CHECK static int look_up_address(const struct find_filter *filter, int64_t value,
                                      bool *ret_is_in) {
    unsigned char first[VALUES_ADDRESS], last[VALUES_ADDRESS];
    values_address_range(&filter->address, filter->address.bits, first, last);
    sqlite3_stmt *get = index_sql(filter->db, SQL_VALUE_GET);
    if (get == NULL || sqlite3_bind_int64(get, 1, value) != SQLITE_OK)
        return index_db_error(filter->db);
    *ret_is_in = false;
    int status = index_step(filter->db, get);
    if (status <= 0)
        return status;
    struct slice text = index_column_blob(get, 1);
    const struct values_level *levels = values_levels(&filter->address);
    for (size_t i = 0; i < VALUES_LEVELS; i++)
        if ((int)levels[i].dim == sqlite3_column_int(get, 0))
            *ret_is_in = levels[i].bits >= filter->address.bits && text.len == sizeof first &&
                         memcmp(text.ptr, first, sizeof first) >= 0 &&
                         memcmp(text.ptr, last, sizeof last) <= 0;
    (void)sqlite3_reset(get);
    return 0;
}

MUST_CHECK static int is_in_block(const struct find_filter *filter, int64_t value,
                                  struct known_address *memory, bool *ret_is_in) {
    struct known_address *known = &memory[(uint64_t)value % MEMORY];
    if (value != 0 && known->value != value) {
        int error = look_up_address(filter, value, &known->is_in);
        if (error != 0)
            return error;
        known->value = value;
    }
    *ret_is_in = value != 0 && known->is_in;
    return 0;
}

MUST_CHECK static int take_row(const struct find_filter *filter, sqlite3_stmt *row,
                               struct known_address *memory, struct bitmap *passed) {
    bool passes = true;
    int error = filter->has_address
                    ? is_in_block(filter, sqlite3_column_int64(row, 1), memory, &passes)
                    : 0;
    if (error == 0 && passes)
        bitmap_set(passed, (unsigned)(sqlite3_column_int64(row, 0) & (INDEX_BLOCK - 1)));
    return error;
}

MUST_CHECK static int from_rows(const struct find_filter *filter, uint64_t block,
                                struct bitmap *passed) {
    int64_t first = (int64_t)(block << INDEX_BLOCK_BITS);
    const int64_t numbers[] = {
        first,        first + INDEX_BLOCK - 1, filter->event,    filter->decision, filter->status,
        filter->user, filter->operation,       filter->upstream, filter->group};
    CLEANUP(mem_freep) struct known_address *memory = mem_alloc(MEMORY * sizeof *memory);
    sqlite3_stmt *rows = index_sql(filter->db, SQL_ROWS_MATCHING);
    if (memory == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (rows == NULL || sqlite3_bind_int64(rows, (int)i + 1, numbers[i]) != SQLITE_OK)
            return index_db_error(filter->db);
    bitmap_clear(passed);
    int status;
    while ((status = index_step(filter->db, rows)) == 1) {
        int error = take_row(filter, rows, memory, passed);
        if (error != 0) {
            (void)sqlite3_reset(rows);
            return error;
        }
    }
    return status;
}

int find_filter_block(const struct find_filter *filter, uint64_t block, bool has_postings,
                      struct bitmap *ret_passed) {
    return has_postings ? from_postings(filter, block, ret_passed)
                        : from_rows(filter, block, ret_passed);
}
