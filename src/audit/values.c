/* Values as numbers (values.h). */
#include "values.h"

#include <errno.h>

#include "base/mem.h"

enum {
    MOST_BYTES = 16 * 1024 * 1024, /* of the memory; then it is emptied */
    MOST_WIDER = 100000,
    MOST_GROUPS = 128, /* of one record */
    ENTRY_BYTES = 64,
    /* Keys of the memory alone: how an address, or a set of groups, is written. */
    KEY_ADDRESS = 200,
    KEY_GROUPS,
};

static const struct values_level levels_v4[VALUES_LEVELS] = {
    {INDEX_V4_8, 8}, {INDEX_V4_16, 16}, {INDEX_V4_24, 24}, {INDEX_V4_32, 32}};
static const struct values_level levels_v6[VALUES_LEVELS] = {
    {INDEX_V6_32, 32}, {INDEX_V6_48, 48}, {INDEX_V6_64, 64}, {INDEX_V6_128, 128}};

void values_init(struct values *values, struct index_db *db) {
    *values = (struct values){.db = db, .key = BUF_INIT(KIB(128))};
    map_init(&values->numbers);
    map_init(&values->wider);
}

static void forget_wider(struct values *values) {
    size_t cursor = 0;
    struct slice key;
    void *wider;
    while (map_next(&values->wider, &cursor, &key, &wider))
        mem_free(wider);
    map_clear(&values->wider);
}

void values_forget(struct values *values) {
    map_clear(&values->numbers);
    values->bytes = 0;
    forget_wider(values);
}

void values_deinit(struct values *values) {
    forget_wider(values);
    map_deinit(&values->wider);
    map_deinit(&values->numbers);
    buf_deinit(&values->key);
}

/* --- the memory --- */

static struct slice key_of(struct values *values, unsigned kind, struct slice text) {
    buf_reset(&values->key, KIB(4));
    buf_append_byte(&values->key, (char)kind);
    buf_append(&values->key, text);
    return buf_error(&values->key) == 0 ? buf_slice(&values->key) : SLICE_EMPTY;
}

static bool recall(struct values *values, unsigned kind, struct slice text, int64_t *ret_number) {
    struct slice key = key_of(values, kind, text);
    void *found = key.len != 0 ? map_get(&values->numbers, key) : NULL;
    if (found == NULL)
        return false;
    *ret_number = (int64_t)(uintptr_t)found;
    return true;
}

MUST_CHECK static int memorize(struct values *values, unsigned kind, struct slice text,
                               int64_t number) {
    if (values->bytes > MOST_BYTES) {
        map_clear(&values->numbers);
        values->bytes = 0;
    }
    struct slice key = key_of(values, kind, text);
    if (key.len == 0)
        return 0;
    values->bytes += key.len + ENTRY_BYTES;
    return map_set(&values->numbers, key, (void *)(uintptr_t)number);
}

/* --- the table --- */

MUST_CHECK static int bind_text(struct index_db *db, sqlite3_stmt *statement, int at,
                                struct slice text) {
    return sqlite3_bind_blob64(statement, at, text.len != 0 ? text.ptr : "", text.len,
                               SQLITE_TRANSIENT) == SQLITE_OK
               ? 0
               : index_db_error(db);
}

int values_find(struct index_db *db, enum index_dim dim, struct slice text, int64_t *ret_number) {
    sqlite3_stmt *find = index_sql(db, SQL_VALUE_FIND);
    if (find == NULL || sqlite3_bind_int(find, 1, (int)dim) != SQLITE_OK)
        return index_db_error(db);
    int status = bind_text(db, find, 2, text);
    if (status == 0)
        status = index_step(db, find);
    if (status <= 0)
        return status < 0 ? status : 1;
    *ret_number = sqlite3_column_int64(find, 0);
    (void)sqlite3_reset(find);
    return 0;
}

/* `parent`: 0: none. 0 when it was there, 1 when it was made. */
MUST_CHECK static int find_or_make(struct values *values, enum index_dim dim, struct slice text,
                                   int64_t parent, int64_t *ret_number) {
    struct index_db *db = values->db;
    int status = values_find(db, dim, text, ret_number);
    if (status != 1)
        return status;
    sqlite3_stmt *add = index_sql(db, SQL_VALUE_ADD);
    if (add == NULL || sqlite3_bind_int(add, 1, (int)dim) != SQLITE_OK ||
        sqlite3_bind_int64(add, 3, parent) != SQLITE_OK)
        return index_db_error(db);
    status = bind_text(db, add, 2, text);
    if (status == 0)
        status = index_step(db, add);
    if (status < 0)
        return status;
    int64_t number = sqlite3_last_insert_rowid(db->sqlite);
    if (number > UINT32_MAX)
        return -ENOSPC;
    *ret_number = number;
    return 1;
}

int values_number(struct values *values, enum index_dim dim, struct slice text,
                  int64_t *ret_number) {
    text = slice_sub(text, 0, INDEX_TEXT_MOST);
    if (text.len == 0)
        *ret_number = 0;
    if (text.len == 0 || recall(values, (unsigned)dim, text, ret_number))
        return 0;
    int status = find_or_make(values, dim, text, 0, ret_number);
    return status < 0 ? status : memorize(values, (unsigned)dim, text, *ret_number);
}

/* --- addresses --- */

const struct values_level *values_levels(const struct network *network) {
    return network->family_bits == NETWORK_V4_BITS ? levels_v4 : levels_v6;
}

void values_address_range(const struct network *network, unsigned bits,
                          unsigned char first[VALUES_ADDRESS], unsigned char last[VALUES_ADDRESS]) {
    memset(first, 0, VALUES_ADDRESS);
    memset(last, 0, VALUES_ADDRESS);
    memcpy(first, network->bytes, network->family_bits / 8);
    memcpy(last, network->bytes, network->family_bits / 8);
    for (unsigned bit = bits; bit < network->family_bits; bit++) {
        unsigned char mask = (unsigned char)(0x80 >> bit % 8);
        first[bit / 8] &= (unsigned char)~mask;
        last[bit / 8] |= mask;
    }
}

int values_address(struct values *values, struct slice text, int64_t *ret_number) {
    struct network network;
    *ret_number = 0;
    if (text.len == 0 || recall(values, KEY_ADDRESS, text, ret_number) ||
        !network_parse(text, &network))
        return 0;
    const struct values_level *levels = values_levels(&network);
    int64_t number = 0;
    for (size_t i = 0; i < VALUES_LEVELS && levels[i].bits <= network.bits; i++) {
        unsigned char first[VALUES_ADDRESS], last[VALUES_ADDRESS];
        int64_t parent = number;
        values_address_range(&network, levels[i].bits, first, last);
        int status =
            find_or_make(values, levels[i].dim, slice_make(first, sizeof first), parent, &number);
        if (status < 0)
            return status;
    }
    *ret_number = number;
    return number != 0 ? memorize(values, KEY_ADDRESS, text, number) : 0;
}

/* --- groups --- */

MUST_CHECK static int add_members(struct values *values, const uint32_t *members, size_t n,
                                  int64_t set) {
    for (size_t i = 0; i < n; i++) {
        int error = index_run(values->db, SQL_MEMBER_ADD, (int64_t[]){members[i], set}, 2);
        if (error != 0)
            return error;
    }
    return 0;
}

/* Into their order, each once; few. */
static size_t insert_sorted(uint32_t *numbers, size_t n, uint32_t number) {
    size_t at = n;
    while (at > 0 && numbers[at - 1] > number)
        at--;
    if (at > 0 && numbers[at - 1] == number)
        return n;
    memmove(numbers + at + 1, numbers + at, (n - at) * sizeof *numbers);
    numbers[at] = number;
    return n + 1;
}

int values_groups(struct values *values, struct slice json, const struct slice *groups, size_t n,
                  int64_t *ret_number) {
    uint32_t members[MOST_GROUPS];
    size_t n_members = 0;
    *ret_number = 0;
    if (n == 0 || recall(values, KEY_GROUPS, json, ret_number))
        return 0;
    for (size_t i = 0; i < n && i < MOST_GROUPS; i++) {
        int64_t number = 0;
        int error = values_number(values, INDEX_GROUP, groups[i], &number);
        if (error != 0)
            return error;
        if (number != 0)
            n_members = insert_sorted(members, n_members, (uint32_t)number);
    }
    if (n_members == 0)
        return 0;
    struct slice text = slice_make(members, n_members * sizeof *members);
    int status = find_or_make(values, INDEX_GROUPS, text, 0, ret_number);
    if (status == 1)
        status = add_members(values, members, n_members, *ret_number);
    return status < 0 ? status : memorize(values, KEY_GROUPS, json, *ret_number);
}

/* --- what else it has --- */

struct value_row {
    enum index_dim dim;
    int64_t parent;
    size_t n;
    uint32_t members[MOST_GROUPS]; /* of a set */
};

/* 1: there is no such value. */
MUST_CHECK static int get_value(struct index_db *db, int64_t number, struct value_row *ret_row) {
    sqlite3_stmt *get = index_sql(db, SQL_VALUE_GET);
    if (get == NULL || sqlite3_bind_int64(get, 1, number) != SQLITE_OK)
        return index_db_error(db);
    int status = index_step(db, get);
    if (status <= 0)
        return status < 0 ? status : 1;
    ret_row->dim = (enum index_dim)sqlite3_column_int(get, 0);
    ret_row->parent = sqlite3_column_int64(get, 2);
    ret_row->n = 0;
    struct slice text = index_column_blob(get, 1);
    if (ret_row->dim == INDEX_GROUPS && text.len <= sizeof ret_row->members) {
        ret_row->n = text.len / sizeof ret_row->members[0];
        memcpy(ret_row->members, text.ptr, ret_row->n * sizeof ret_row->members[0]);
    }
    (void)sqlite3_reset(get);
    return 0;
}

/* The members of a set, or the chain of parents, which has an end whatever the file says. */
MUST_CHECK static int read_wider(struct index_db *db, int64_t number, struct value_row *row) {
    int status = get_value(db, number, row);
    if (status != 0 || row->dim == INDEX_GROUPS)
        return status;
    uint32_t chain[VALUES_LEVELS] = {0};
    size_t n = 0;
    while (status == 0 && row->parent > 0 && row->parent <= UINT32_MAX && n < VALUES_LEVELS) {
        chain[n++] = (uint32_t)row->parent;
        status = get_value(db, row->parent, row);
    }
    row->n = n;
    memcpy(row->members, chain, n * sizeof *chain);
    return status;
}

int values_wider(struct values *values, int64_t number, const struct values_wider **ret_wider) {
    struct slice key = slice_make(&number, sizeof number);
    *ret_wider = map_get(&values->wider, key);
    if (*ret_wider != NULL)
        return 0;
    struct value_row row = {.n = 0};
    int status = read_wider(values->db, number, &row);
    if (status != 0)
        return status < 0 ? status : -EBADMSG;
    if (values->wider.count >= MOST_WIDER)
        forget_wider(values);
    struct values_wider *wider = mem_alloc(sizeof *wider + row.n * sizeof wider->numbers[0]);
    if (wider == NULL)
        return -ENOMEM;
    wider->n = row.n;
    memcpy(wider->numbers, row.members, row.n * sizeof wider->numbers[0]);
    if (map_set(&values->wider, key, wider) != 0) {
        mem_free(wider);
        return -ENOMEM;
    }
    *ret_wider = wider;
    return 0;
}

int values_drop(struct values *values, int64_t number) {
    struct value_row row = {.n = 0};
    int status = get_value(values->db, number, &row);
    if (status != 0)
        return status < 0 ? status : 0;
    for (size_t i = 0; row.dim == INDEX_GROUPS && i < row.n; i++) {
        int error = index_run(values->db, SQL_MEMBER_DROP, (int64_t[]){row.members[i], number}, 2);
        if (error != 0)
            return error;
    }
    return index_run(values->db, SQL_VALUE_DROP, &number, 1);
}
