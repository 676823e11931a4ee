/*
 * Filling the index (index_write.h).
 *
 * Records wait in memory until a few thousand are there or the transaction ends: by then most
 * outcomes have met their intents, and a record is written once. Intents that are still open go
 * into a table, so that the outcome finds them whenever it comes.
 */
#include "index_write.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/file.h"

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

struct index_writer {
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
    uint64_t n_records;
    struct audit_place at;
    uint64_t length;
    unsigned char hash[AUDIT_HASH];

    struct postings_unused unused;
    uint64_t dropped_below;
};

/* --- */

MUST_CHECK static int load_state(struct index_writer *writer) {
    sqlite3_stmt *get = index_sql(writer->db, SQL_STATE_GET);
    int status = get == NULL ? index_db_error(writer->db) : index_step(writer->db, get);
    if (status <= 0)
        return status < 0 ? status : -EBADMSG;
    writer->at.segment = (uint64_t)sqlite3_column_int64(get, 0);
    writer->at.offset = (uint64_t)sqlite3_column_int64(get, 1);
    writer->at.seq = (uint64_t)sqlite3_column_int64(get, 2);
    writer->length = (uint64_t)sqlite3_column_int64(get, 3);
    struct slice hash = index_column_blob(get, 4);
    bool is_good = hash.len == sizeof writer->hash;
    if (is_good)
        memcpy(writer->hash, hash.ptr, hash.len);
    writer->n_records = (uint64_t)sqlite3_column_int64(get, 5);
    (void)sqlite3_reset(get);
    return is_good ? 0 : -EBADMSG;
}

/* Which block is to be completed. */
MUST_CHECK static int load_block(struct index_writer *writer) {
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

int index_writer_open(const char *dir, struct index_writer **ret_writer) {
    CLEANUP(index_writer_freep) struct index_writer *writer = mem_alloc(sizeof *writer);
    if (writer == NULL)
        return -ENOMEM;
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
    if (error == 0)
        error = load_block(writer);
    if (error == 0)
        *ret_writer = TAKE(writer);
    return error;
}

struct index_writer *index_writer_free(struct index_writer *writer) {
    if (writer == NULL)
        return NULL;
    values_deinit(&writer->values);
    map_deinit(&writer->intents);
    index_db_close(writer->db);
    json_reader_free(writer->reader);
    buf_deinit(&writer->scratch);
    mem_free(writer->pending);
    mem_free(writer->unused.values);
    mem_free(writer);
    return NULL;
}

void index_writer_freep(struct index_writer **writer) {
    *writer = index_writer_free(*writer);
}

struct audit_place index_writer_place(const struct index_writer *writer) {
    return writer->at;
}

uint64_t index_writer_records(const struct index_writer *writer) {
    return writer->n_records;
}

static bool is_that_line(const struct index_writer *writer, struct slice text) {
    struct audit_line line;
    return audit_line_read(text, &line, NULL) == 0 && line.seq == writer->at.seq &&
           memcmp(line.hash, writer->hash, sizeof line.hash) == 0;
}

int index_writer_check(const struct index_writer *writer, const char *dir) {
    char name[AUDIT_SEGMENT_CHARS + 1], path[INDEX_PATH];
    char text[LIMIT_AUDIT_BODY + KIB(8)];
    audit_segment_name(writer->at.segment, name);
    if (index_path(dir, name, path) != 0 || writer->length >= sizeof text ||
        writer->at.offset > INT64_MAX || writer->at.offset <= writer->length)
        return 2;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return errno == ENOENT ? 1 : -errno;
    size_t length = (size_t)writer->length + 1;
    ssize_t n = pread(fd, text, length, (off_t)(writer->at.offset - length));
    io_fd_close(&fd);
    bool is_there = n == (ssize_t)length && text[length - 1] == '\n' &&
                    is_that_line(writer, slice_make(text, length - 1));
    return is_there ? 0 : 2;
}

/* --- writing records --- */

MUST_CHECK static int begin(struct index_writer *writer) {
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

MUST_CHECK static int write_row(struct index_writer *writer, const struct index_row *row) {
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

MUST_CHECK static int write_open_intent(struct index_writer *writer, struct slice id,
                                        uint64_t seq) {
    sqlite3_stmt *put = index_sql(writer->db, SQL_OPEN_PUT);
    if (put == NULL || sqlite3_bind_blob64(put, 1, id.ptr, id.len, SQLITE_TRANSIENT) != SQLITE_OK ||
        sqlite3_bind_int64(put, 2, (int64_t)seq) != SQLITE_OK)
        return index_db_error(writer->db);
    return index_step(writer->db, put);
}

MUST_CHECK static int flush(struct index_writer *writer) {
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
    writer->n_records += writer->n_pending;
    writer->n_pending = 0;
    return 0;
}

/* Records of this block come next. */
MUST_CHECK static int enter_block(struct index_writer *writer, uint64_t block) {
    if (writer->has_block && writer->block == block)
        return 0;
    int error = flush(writer);
    if (error == 0 && writer->has_block)
        error = postings_write(&writer->values, writer->block);
    writer->has_block = true;
    writer->block = block;
    return error;
}

MUST_CHECK static int add_row(struct index_writer *writer, const struct audit_line *line,
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
MUST_CHECK static int find_open_intent(struct index_writer *writer, struct slice id,
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

MUST_CHECK static int update_row(struct index_writer *writer, uint64_t seq,
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
MUST_CHECK static int join(struct index_writer *writer, const struct index_row *place) {
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

int index_writer_add(struct index_writer *writer, struct slice text,
                     const struct audit_place *behind) {
    struct audit_line line;
    /* What is no line, or comes a second time, is for `cardea audit verify` to tell. */
    if (audit_line_read(text, &line, NULL) != 0 || line.seq <= writer->at.seq ||
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
    writer->at = *behind;
    writer->at.seq = line.seq;
    writer->length = text.len;
    memcpy(writer->hash, line.hash, sizeof writer->hash);
    return 0;
}

MUST_CHECK static int write_state(struct index_writer *writer) {
    sqlite3_stmt *set = index_sql(writer->db, SQL_STATE_SET);
    if (set == NULL)
        return index_db_error(writer->db);
    (void)sqlite3_bind_int64(set, 1, (int64_t)writer->at.segment);
    (void)sqlite3_bind_int64(set, 2, (int64_t)writer->at.offset);
    (void)sqlite3_bind_int64(set, 3, (int64_t)writer->at.seq);
    (void)sqlite3_bind_int64(set, 4, (int64_t)writer->length);
    (void)sqlite3_bind_blob64(set, 5, writer->hash, sizeof writer->hash, SQLITE_STATIC);
    (void)sqlite3_bind_int64(set, 6, (int64_t)writer->n_records);
    return index_step(writer->db, set);
}

int index_writer_commit(struct index_writer *writer) {
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
MUST_CHECK static int drop_block(struct index_writer *writer, uint64_t below) {
    int64_t first = 0;
    uint64_t n = 0;
    int status = index_get(writer->db, SQL_BLOCK_FIRST, NULL, 0, &first);
    if (status != 0 || (uint64_t)first >= below)
        return status < 0 ? status : 0;
    status = postings_drop(writer->db, (uint64_t)first + 1, &writer->unused, &n);
    if (status != 0)
        return status;
    writer->n_records -= n < writer->n_records ? n : writer->n_records;
    return 1;
}

MUST_CHECK static int drop_rows(struct index_writer *writer, uint64_t first_seq) {
    int64_t seq = (int64_t)first_seq;
    int error = index_run(writer->db, SQL_ROWS_DROP, &seq, 1);
    if (error != 0)
        return error;
    uint64_t n = (uint64_t)sqlite3_changes64(writer->db->sqlite);
    writer->n_records -= n < writer->n_records ? n : writer->n_records;
    writer->dropped_below = first_seq;
    return index_run(writer->db, SQL_OPEN_DROP_BELOW, &seq, 1);
}

MUST_CHECK static int retain_step(struct index_writer *writer, uint64_t first_seq) {
    if (writer->unused.n != 0) {
        int error = postings_sweep(&writer->values, writer->block, &writer->unused);
        return error != 0 ? error : 1;
    }
    int status = drop_block(writer, first_seq >> INDEX_BLOCK_BITS);
    return status != 0 ? status : drop_rows(writer, first_seq);
}

MUST_CHECK static int shrink_step(struct index_writer *writer) {
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

int index_writer_retain(struct index_writer *writer, uint64_t first_seq) {
    if (first_seq >= INDEX_SEQ_MOST)
        return 0;
    if (writer->unused.n == 0 && first_seq <= writer->dropped_below)
        return shrink_step(writer);
    int error = begin(writer);
    int status = error != 0 ? error : retain_step(writer, first_seq);
    if (status < 0)
        return status;
    error = index_writer_commit(writer);
    return error != 0 ? error : 1;
}
