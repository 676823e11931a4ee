/*
 * Filling the index in SQLite (index_write.h).
 *
 * Records wait in memory until a few thousand are there or the transaction ends: by then most
 * outcomes have met their intents, and a record is written once. Intents that are still open go
 * into a table, so that the outcome finds them whenever it comes.
 */
#include "index_write.h"

#include <errno.h>

#include "base/mem.h"
#include "index_record.h"
#include "io/file.h"
#include "postings.h"

enum {
    PENDING = 8192,
    SHRINK_PAGES = 512,
    SHRINK_PART = 8, /* a part of all pages may be free */
};

/* A record; numbers of values, 0: none. */
struct index_row {
    uint64_t seq, time, segment, offset, length;
    uint64_t outcome_segment, outcome_offset, outcome_length; /* length 0: none */
    int64_t event, decision, status, user, groups, operation, upstream_operation, upstream, address;
};

struct sqlite_writer {
    struct index_writer base;
    struct index_db *db;
    struct values values;
    struct json_reader *reader;
    struct buf scratch;
    struct index_record record;

    bool is_in_transaction;
    struct index_row *pending; /* PENDING of them */
    size_t n_pending;
    struct map intents; /* of pending ones that are open: id, index in `pending` + 1 */

    bool has_block; /* there are records of a block without postings: */
    uint64_t block;

    struct postings_unused unused;
    uint64_t dropped_below;
};

/* --- */

static struct sqlite_writer *sqlite_of(struct index_writer *base) {
    return CONTAINER_OF(base, struct sqlite_writer, base);
}

MUST_CHECK static int load_state(struct sqlite_writer *writer) {
    sqlite3_stmt *get = index_sql(writer->db, SQL_STATE_GET);
    int status = get == NULL ? index_db_error(writer->db) : index_step(writer->db, get);
    if (status <= 0)
        return status < 0 ? status : -EBADMSG;
    writer->base.at.segment = (uint64_t)sqlite3_column_int64(get, 0);
    writer->base.at.offset = (uint64_t)sqlite3_column_int64(get, 1);
    writer->base.at.seq = (uint64_t)sqlite3_column_int64(get, 2);
    writer->base.length = (uint64_t)sqlite3_column_int64(get, 3);
    struct slice hash = index_column_blob(get, 4);
    bool is_good = hash.len == sizeof writer->base.hash;
    if (is_good)
        memcpy(writer->base.hash, hash.ptr, hash.len);
    writer->base.n_records = (uint64_t)sqlite3_column_int64(get, 5);
    (void)sqlite3_reset(get);
    return is_good ? 0 : -EBADMSG;
}

/* Which block is to be completed. */
MUST_CHECK static int load_block(struct sqlite_writer *writer) {
    int64_t last = 0, complete = -1;
    int status = index_get(writer->db, SQL_ROWS_LAST, NULL, 0, &last);
    if (status != 0)
        return status < 0 ? status : 0;
    status = index_get(writer->db, SQL_BLOCK_LAST, NULL, 0, &complete);
    if (status < 0)
        return status;
    writer->block = (uint64_t)last >> INDEX_BLOCK_BITS;
    writer->has_block = (int64_t)writer->block > complete;
    return 0;
}

static void close_writer(struct index_writer *base) {
    struct sqlite_writer *writer = sqlite_of(base);
    values_deinit(&writer->values);
    map_deinit(&writer->intents);
    index_db_close(writer->db);
    json_reader_free(writer->reader);
    buf_deinit(&writer->scratch);
    mem_free(writer->pending);
    mem_free(writer->unused.values);
    mem_free(writer);
}

MUST_CHECK static int load(const char *dir, struct sqlite_writer *writer) {
    values_init(&writer->values, NULL);
    map_init(&writer->intents);
    buf_init(&writer->scratch, KIB(256));
    writer->pending = mem_alloc(PENDING * sizeof *writer->pending);
    if (writer->pending == NULL)
        return -ENOMEM;
    int error = json_reader_new(&writer->reader);
    if (error == 0)
        error = index_db_open(dir, true, &writer->db);
    writer->values.db = writer->db;
    if (error == 0)
        error = load_state(writer);
    return error != 0 ? error : load_block(writer);
}

static int open_writer(const struct index_where *where, struct index_writer **ret_writer,
                       struct buf *why) {
    (void)why;
    struct sqlite_writer *writer = mem_alloc(sizeof *writer);
    if (writer == NULL)
        return -ENOMEM;
    writer->base.driver = &index_sqlite;
    int error = load(where->dir, writer);
    if (error == 0)
        *ret_writer = &writer->base;
    else
        close_writer(&writer->base);
    return error;
}

/* --- writing records --- */

MUST_CHECK static int begin(struct sqlite_writer *writer) {
    if (writer->is_in_transaction)
        return 0;
    int error = index_run(writer->db, SQL_BEGIN_WRITE, NULL, 0);
    writer->is_in_transaction = error == 0;
    return error;
}

/* 0 stands for nothing. */
static void bind_some(sqlite3_stmt *statement, int at, uint64_t number) {
    if (number != 0)
        (void)sqlite3_bind_int64(statement, at, (int64_t)number);
    else
        (void)sqlite3_bind_null(statement, at);
}

MUST_CHECK static int write_row(struct sqlite_writer *writer, const struct index_row *row) {
    sqlite3_stmt *add = index_sql(writer->db, SQL_ROW_ADD);
    if (add == NULL)
        return index_db_error(writer->db);
    const int64_t values[] = {
        row->event,     row->decision,           row->status,   row->user,   row->groups,
        row->operation, row->upstream_operation, row->upstream, row->address};
    const uint64_t places[] = {row->time, row->segment, row->offset, row->length};
    const uint64_t outcome[] = {row->outcome_segment, row->outcome_offset, row->outcome_length};
    int at = 1;
    (void)sqlite3_bind_int64(add, at++, (int64_t)row->seq);
    for (size_t i = 0; i < ARRAY_LEN(values); i++)
        bind_some(add, at++, (uint64_t)values[i]);
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        (void)sqlite3_bind_int64(add, at++, (int64_t)places[i]);
    for (size_t i = 0; i < ARRAY_LEN(outcome); i++) /* an offset may be 0, an outcome's is not */
        bind_some(add, at++, row->outcome_length != 0 ? outcome[i] : 0);
    return index_step(writer->db, add);
}

MUST_CHECK static int write_open_intent(struct sqlite_writer *writer, struct slice id,
                                        uint64_t seq) {
    sqlite3_stmt *put = index_sql(writer->db, SQL_OPEN_PUT);
    if (put == NULL || sqlite3_bind_blob64(put, 1, id.ptr, id.len, SQLITE_TRANSIENT) != SQLITE_OK ||
        sqlite3_bind_int64(put, 2, (int64_t)seq) != SQLITE_OK)
        return index_db_error(writer->db);
    return index_step(writer->db, put);
}

MUST_CHECK static int flush(struct sqlite_writer *writer) {
    for (size_t i = 0; i < writer->n_pending; i++) {
        int error = write_row(writer, &writer->pending[i]);
        if (error != 0)
            return error;
    }
    size_t cursor = 0;
    struct slice id;
    void *index;
    while (map_next(&writer->intents, &cursor, &id, &index)) {
        int error =
            write_open_intent(writer, id, writer->pending[(size_t)(uintptr_t)index - 1].seq);
        if (error != 0)
            return error;
    }
    map_clear(&writer->intents);
    writer->base.n_records += writer->n_pending;
    writer->n_pending = 0;
    return 0;
}

/* Records of this block come next. */
MUST_CHECK static int enter_block(struct sqlite_writer *writer, uint64_t block) {
    if (writer->has_block && writer->block == block)
        return 0;
    int error = flush(writer);
    if (error == 0 && writer->has_block)
        error = postings_write(&writer->values, writer->block);
    writer->has_block = true;
    writer->block = block;
    return error;
}

MUST_CHECK static int add_row(struct sqlite_writer *writer, const struct audit_line *line,
                              const struct index_row *place) {
    const struct index_record *record = &writer->record;
    int error = writer->n_pending == PENDING ? flush(writer) : 0;
    if (error == 0)
        error = enter_block(writer, line->seq >> INDEX_BLOCK_BITS);
    if (error != 0)
        return error;
    struct index_row *row = &writer->pending[writer->n_pending];
    *row = *place;
    const struct {
        enum index_dim dim;
        struct slice text;
        int64_t *ret_number;
    } texts[] = {
        {INDEX_EVENT, record->event, &row->event},
        {INDEX_DECISION, record->decision, &row->decision},
        {INDEX_STATUS, record->status, &row->status},
        {INDEX_USER, record->user, &row->user},
        {INDEX_OPERATION, record->operation, &row->operation},
        {INDEX_OPERATION, record->upstream_operation, &row->upstream_operation},
        {INDEX_UPSTREAM, record->upstream, &row->upstream},
    };
    for (size_t i = 0; error == 0 && i < ARRAY_LEN(texts); i++)
        error = values_number(&writer->values, texts[i].dim, texts[i].text, texts[i].ret_number);
    if (error == 0)
        error = values_address(&writer->values, record->address, &row->address);
    if (error == 0)
        error = values_groups(&writer->values, record->groups_json, record->groups,
                              record->n_groups, &row->groups);
    if (error == 0 && record->kind == INDEX_RECORD_INTENT && record->id.len != 0)
        error = map_set(&writer->intents, record->id, (void *)(uintptr_t)(writer->n_pending + 1));
    writer->n_pending += error == 0;
    return error;
}

/* --- outcomes --- */

/* Of an intent in the table. 1: it is not there. */
MUST_CHECK static int find_open_intent(struct sqlite_writer *writer, struct slice id,
                                       uint64_t *ret_seq) {
    sqlite3_stmt *get = index_sql(writer->db, SQL_OPEN_GET);
    sqlite3_stmt *drop = index_sql(writer->db, SQL_OPEN_DROP);
    if (get == NULL || drop == NULL ||
        sqlite3_bind_blob64(get, 1, id.ptr, id.len, SQLITE_TRANSIENT) != SQLITE_OK ||
        sqlite3_bind_blob64(drop, 1, id.ptr, id.len, SQLITE_TRANSIENT) != SQLITE_OK)
        return index_db_error(writer->db);
    int status = index_step(writer->db, get);
    if (status <= 0)
        return status < 0 ? status : 1;
    *ret_seq = (uint64_t)sqlite3_column_int64(get, 0);
    (void)sqlite3_reset(get);
    return index_step(writer->db, drop);
}

MUST_CHECK static int update_row(struct sqlite_writer *writer, uint64_t seq,
                                 const struct index_row *place, int64_t status_value) {
    sqlite3_stmt *update = index_sql(writer->db, SQL_ROW_OUTCOME);
    if (update == NULL)
        return index_db_error(writer->db);
    (void)sqlite3_bind_int64(update, 1, (int64_t)seq);
    (void)sqlite3_bind_int64(update, 2, (int64_t)place->segment);
    (void)sqlite3_bind_int64(update, 3, (int64_t)place->offset);
    (void)sqlite3_bind_int64(update, 4, (int64_t)place->length);
    bind_some(update, 5, (uint64_t)status_value);
    int error = index_step(writer->db, update);
    if (error != 0)
        return error;
    if (sqlite3_changes(writer->db->sqlite) == 0)
        return 1;
    uint64_t block = seq >> INDEX_BLOCK_BITS;
    if ((writer->has_block && block == writer->block) || status_value == 0)
        return 0;
    return postings_add(writer->db, block, status_value, (unsigned)(seq & (INDEX_BLOCK - 1)));
}

/* 1: the intent is not there (any more). */
MUST_CHECK static int join(struct sqlite_writer *writer, const struct index_row *place) {
    const struct index_record *record = &writer->record;
    int64_t status_value = 0;
    uint64_t seq = 0;
    if (record->id.len == 0)
        return 1;
    int error = values_number(&writer->values, INDEX_STATUS, record->status, &status_value);
    if (error != 0)
        return error;
    void *index = map_remove(&writer->intents, record->id);
    if (index != NULL) {
        struct index_row *row = &writer->pending[(size_t)(uintptr_t)index - 1];
        row->outcome_segment = place->segment;
        row->outcome_offset = place->offset;
        row->outcome_length = place->length;
        row->status = status_value;
        return 0;
    }
    int found = find_open_intent(writer, record->id, &seq);
    return found != 0 ? found : update_row(writer, seq, place, status_value);
}

static int add(struct index_writer *base, struct slice text, const struct audit_place *behind) {
    struct sqlite_writer *writer = sqlite_of(base);
    struct audit_line line;
    /* What is no line, or comes a second time, is for `cardea audit verify` to tell. */
    if (audit_line_read(text, &line, NULL) != 0 || line.seq <= writer->base.at.seq ||
        line.seq >= INDEX_SEQ_MOST || behind->offset <= text.len)
        return 0;
    int error = begin(writer);
    if (error == 0)
        error = index_record_read(writer->reader, &line, text, &writer->scratch, &writer->record);
    struct index_row place = {
        .seq = line.seq,
        .time = line.time_us <= INT64_MAX ? line.time_us : INT64_MAX,
        .segment = behind->segment,
        .offset = behind->offset - text.len - 1,
        .length = text.len,
    };
    int status = error;
    if (error == 0 && writer->record.kind == INDEX_RECORD_OUTCOME)
        status = join(writer, &place);
    else if (error == 0)
        status = writer->record.kind == INDEX_RECORD_OWN ? 0 : 1;
    if (status == 1)
        status = add_row(writer, &line, &place);
    if (status != 0)
        return status;
    writer->base.at = *behind;
    writer->base.at.seq = line.seq;
    writer->base.length = text.len;
    memcpy(writer->base.hash, line.hash, sizeof writer->base.hash);
    return 0;
}

MUST_CHECK static int write_state(struct sqlite_writer *writer) {
    sqlite3_stmt *set = index_sql(writer->db, SQL_STATE_SET);
    if (set == NULL)
        return index_db_error(writer->db);
    (void)sqlite3_bind_int64(set, 1, (int64_t)writer->base.at.segment);
    (void)sqlite3_bind_int64(set, 2, (int64_t)writer->base.at.offset);
    (void)sqlite3_bind_int64(set, 3, (int64_t)writer->base.at.seq);
    (void)sqlite3_bind_int64(set, 4, (int64_t)writer->base.length);
    (void)sqlite3_bind_blob64(set, 5, writer->base.hash, sizeof writer->base.hash, SQLITE_STATIC);
    (void)sqlite3_bind_int64(set, 6, (int64_t)writer->base.n_records);
    return index_step(writer->db, set);
}

static int commit(struct index_writer *base) {
    struct sqlite_writer *writer = sqlite_of(base);
    if (!writer->is_in_transaction)
        return 0;
    int error = flush(writer);
    if (error == 0)
        error = write_state(writer);
    if (error == 0)
        error = index_run(writer->db, SQL_COMMIT, NULL, 0);
    writer->is_in_transaction = error != 0;
    return error;
}

/* --- retention --- */

/* 1: there was a block to delete. */
MUST_CHECK static int drop_block(struct sqlite_writer *writer, uint64_t below) {
    int64_t first = 0;
    uint64_t n = 0;
    int status = index_get(writer->db, SQL_BLOCK_FIRST, NULL, 0, &first);
    if (status != 0 || (uint64_t)first >= below)
        return status < 0 ? status : 0;
    status = postings_drop(writer->db, (uint64_t)first + 1, &writer->unused, &n);
    if (status != 0)
        return status;
    writer->base.n_records -= n < writer->base.n_records ? n : writer->base.n_records;
    return 1;
}

MUST_CHECK static int drop_rows(struct sqlite_writer *writer, uint64_t first_seq) {
    int64_t seq = (int64_t)first_seq;
    int error = index_run(writer->db, SQL_ROWS_DROP, &seq, 1);
    if (error != 0)
        return error;
    uint64_t n = (uint64_t)sqlite3_changes64(writer->db->sqlite);
    writer->base.n_records -= n < writer->base.n_records ? n : writer->base.n_records;
    writer->dropped_below = first_seq;
    return index_run(writer->db, SQL_OPEN_DROP_BELOW, &seq, 1);
}

MUST_CHECK static int retain_step(struct sqlite_writer *writer, uint64_t first_seq) {
    if (writer->unused.n != 0) {
        int error = postings_sweep(&writer->values, writer->block, &writer->unused);
        return error != 0 ? error : 1;
    }
    int status = drop_block(writer, first_seq >> INDEX_BLOCK_BITS);
    return status != 0 ? status : drop_rows(writer, first_seq);
}

MUST_CHECK static int shrink_step(struct sqlite_writer *writer) {
    int64_t n_free = 0, n = 0;
    int status = index_get(writer->db, SQL_FREE_PAGES, NULL, 0, &n_free);
    if (status == 0)
        status = index_get(writer->db, SQL_PAGES, NULL, 0, &n);
    if (status != 0)
        return status < 0 ? status : 0;
    if (n_free <= SHRINK_PAGES || n_free < n / SHRINK_PART)
        return 0;
    status = index_run(writer->db, SQL_SHRINK, NULL, 0);
    return status != 0 ? status : 1;
}

static int retain(struct index_writer *base, uint64_t first_seq) {
    struct sqlite_writer *writer = sqlite_of(base);
    if (first_seq >= INDEX_SEQ_MOST)
        return 0;
    if (writer->unused.n == 0 && first_seq <= writer->dropped_below)
        return shrink_step(writer);
    int error = begin(writer);
    int status = error != 0 ? error : retain_step(writer, first_seq);
    if (status < 0)
        return status;
    error = commit(base);
    return error != 0 ? error : 1;
}

/* --- */

static int clear(const struct index_where *where, struct buf *why) {
    (void)why;
    index_db_delete(where->dir);
    return 0;
}

static int look(const struct index_where *where, uint64_t *ret_seq, uint64_t *ret_n_records) {
    struct index_db *db = NULL;
    int error = index_db_open(where->dir, false, &db);
    if (error != 0)
        return error;
    sqlite3_stmt *get = index_sql(db, SQL_STATE_GET);
    int status = get == NULL ? index_db_error(db) : index_step(db, get);
    if (status == 1) {
        *ret_seq = (uint64_t)sqlite3_column_int64(get, 2);
        *ret_n_records = (uint64_t)sqlite3_column_int64(get, 5);
    }
    index_db_close(db);
    return status == 1 ? 0 : status < 0 ? status : -EBADMSG;
}

static void rest(struct index_writer *base) {
    index_db_rest(sqlite_of(base)->db);
}

const struct index_driver index_sqlite = {
    .open = open_writer,
    .free = close_writer,
    .add = add,
    .commit = commit,
    .retain = retain,
    .rest = rest,
    .clear = clear,
    .look = look,
};
