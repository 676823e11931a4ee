/*
 * Filling the index in PostgreSQL (index_write.h, shared.h).
 *
 * Records wait in memory until a few thousand are there or the transaction ends: by then most
 * outcomes have met their intents. They go by COPY. The outcome of an intent that is in the table
 * already is added to it there.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "index_write.h"
#include "shared.h"

#define COPY_RECORDS                                                                               \
    "COPY audit_records (log, seq, time, terms, line, outcome, intent) FROM STDIN (FORMAT binary)"

enum { PENDING = 8192, TEXTS = MIB(4), SWEEP_MS = 60 * 1000 };

/* Where a text is in `texts`; length 0: there is none. */
struct piece {
    size_t at, length;
};

struct shared_row {
    uint64_t seq;
    int64_t time;
    size_t first_term, n_terms; /* there is room for one more */
    struct piece line, outcome, intent;
};

struct shared_writer {
    struct index_writer base;
    struct store_tx *tx;
    char name[AUDIT_LOG_CHARS + 1];
    int64_t log;
    struct json_reader *reader;
    struct buf scratch;
    struct index_record record;

    bool is_in_transaction;
    struct shared_row *pending; /* PENDING of them */
    size_t n_pending;
    int64_t *terms; /* of them, SHARED_TERMS each at most */
    size_t n_terms;
    struct buf texts, rows;
    struct map intents; /* of pending ones that are open: id, index in `pending` + 1 */

    bool has_block; /* there are records of a block that is not complete: */
    uint64_t block;
    uint64_t dropped_below, swept_ms, max_age_ms;
};

enum { TERMS = PENDING * 24 }; /* as many as most have; when there is no room they are written */

static struct shared_writer *shared_of(struct index_writer *base) {
    return CONTAINER_OF(base, struct shared_writer, base);
}

/* --- the row of the log --- */

#define STATE "segment, place, seq, length, hash, records, tail, id FROM audit_logs WHERE name = $1"

struct state {
    struct index_writer base;
    int64_t log;
    uint64_t tail;
};

MUST_CHECK static int read_state(struct store_tx *tx, const char *sql, const char *name,
                                 struct state *ret_state) {
    struct store_rows *rows = NULL;
    struct state state = {.log = 0};
    int error = shared_query(tx, sql, STORE_VALUES(store_text(slice_from_cstr(name))), &rows);
    if (error == 0 && store_rows_next(rows)) {
        state.base.at.segment = (uint64_t)store_rows_number(rows, 0);
        state.base.at.offset = (uint64_t)store_rows_number(rows, 1);
        state.base.at.seq = (uint64_t)store_rows_number(rows, 2);
        state.base.length = (uint64_t)store_rows_number(rows, 3);
        if (!audit_hash_read(store_rows_text(rows, 4), state.base.hash))
            error = -EUCLEAN;
        state.base.n_records = (uint64_t)store_rows_number(rows, 5);
        state.tail = (uint64_t)store_rows_number(rows, 6);
        state.log = store_rows_number(rows, 7);
    }
    int end = shared_rows_end(rows);
    error = error != 0 ? error : end;
    if (error == 0)
        *ret_state = state;
    return error;
}

MUST_CHECK static int write_state(struct shared_writer *writer) {
    const struct index_writer *base = &writer->base;
    char hash[AUDIT_HASH_CHARS];
    audit_hash_write(base->hash, hash);
    uint64_t tail = writer->has_block ? writer->block << SHARED_BLOCK_BITS : base->at.seq + 1;
    return shared_exec(
        writer->tx,
        "UPDATE audit_logs SET segment = $2, place = $3, seq = $4, length = $5, hash = $6,"
        " records = $7, tail = $8,"
        " seen_ms = (extract(epoch FROM clock_timestamp()) * 1000)::bigint WHERE id = $1",
        STORE_VALUES(store_number(writer->log), store_number((int64_t)base->at.segment),
                     store_number((int64_t)base->at.offset), store_number((int64_t)base->at.seq),
                     store_number((int64_t)base->length), store_text(slice_make(hash, sizeof hash)),
                     store_number((int64_t)base->n_records), store_number((int64_t)tail)),
        NULL);
}

/* --- opening --- */

MUST_CHECK static int load(struct shared_writer *writer) {
    static const unsigned char nothing[AUDIT_HASH];
    char hash[AUDIT_HASH_CHARS];
    struct state state = {.log = 0};
    int64_t last = -1;
    audit_hash_write(nothing, hash);
    int error = shared_exec(writer->tx,
                            "INSERT INTO audit_logs (name, segment, place, seq, length, hash,"
                            " records, tail, seen_ms) VALUES ($1, 0, 0, 0, 0, $2, 0, 0,"
                            " (extract(epoch FROM clock_timestamp()) * 1000)::bigint)"
                            " ON CONFLICT (name) DO NOTHING",
                            STORE_VALUES(store_text(slice_from_cstr(writer->name)),
                                         store_text(slice_make(hash, sizeof hash))),
                            NULL);
    if (error == 0)
        error = read_state(writer->tx, "SELECT " STATE, writer->name, &state);
    if (error == 0 && state.log == 0)
        error = -ESTALE;
    if (error == 0)
        error = shared_number(
            writer->tx, "SELECT max(seq) FROM audit_records WHERE log = $1 AND seq >= $2",
            STORE_VALUES(store_number(state.log), store_number((int64_t)state.tail)), -1, &last);
    if (error != 0)
        return error;
    state.base.driver = writer->base.driver;
    writer->base = state.base;
    writer->log = state.log;
    writer->has_block = last >= 0;
    writer->block = last >= 0 ? (uint64_t)last >> SHARED_BLOCK_BITS : 0;
    return 0;
}

MUST_CHECK static int open_all(const struct index_where *where, struct shared_writer *writer,
                               struct buf *why) {
    int error = shared_log(where->dir, writer->name);
    if (error == -ENOENT)
        buf_append_cstr(why, "the trail has no segment that says which log it is");
    if (error == 0)
        error = shared_open_made(where->url, where->log, &writer->tx, why);
    if (error == 0)
        error = json_reader_new(&writer->reader);
    writer->pending = error == 0 ? mem_alloc(PENDING * sizeof *writer->pending) : NULL;
    writer->terms = error == 0 ? mem_alloc(TERMS * sizeof *writer->terms) : NULL;
    if (error == 0 && (writer->pending == NULL || writer->terms == NULL))
        error = -ENOMEM;
    if (error == 0)
        error = shared_begin(writer->tx, STORE_NOTE);
    return error == 0 ? shared_end(writer->tx, load(writer)) : error;
}

static void close_writer(struct index_writer *base) {
    struct shared_writer *writer = shared_of(base);
    if (writer->is_in_transaction)
        (void)!shared_end(writer->tx, -ECANCELED);
    store_beside_close(writer->tx);
    json_reader_free(writer->reader);
    map_deinit(&writer->intents);
    buf_deinit(&writer->scratch);
    buf_deinit(&writer->texts);
    buf_deinit(&writer->rows);
    mem_free(writer->pending);
    mem_free(writer->terms);
    mem_free(writer);
}

static int open_writer(const struct index_where *where, struct index_writer **ret_writer,
                       struct buf *why) {
    struct shared_writer *writer = mem_alloc(sizeof *writer);
    if (writer == NULL)
        return -ENOMEM;
    writer->base.driver = &index_shared;
    writer->max_age_ms = where->max_age_ms;
    map_init(&writer->intents);
    buf_init(&writer->scratch, KIB(256));
    buf_init(&writer->texts, MIB(16));
    buf_init(&writer->rows, MIB(64));
    int error = open_all(where, writer, why);
    if (error == 0)
        *ret_writer = &writer->base;
    else
        close_writer(&writer->base);
    return error;
}

/* --- writing records --- */

/* Its row is locked from here on; whoever else was at work with it has moved the place. */
MUST_CHECK static int begin(struct shared_writer *writer) {
    struct state state = {.log = 0};
    if (writer->is_in_transaction)
        return 0;
    int error = shared_begin(writer->tx, STORE_NOTE);
    if (error != 0)
        return error;
    writer->is_in_transaction = true;
    error = read_state(writer->tx, "SELECT " STATE " FOR UPDATE", writer->name, &state);
    if (error != 0)
        return error;
    bool is_same = state.log == writer->log && state.base.at.seq == writer->base.at.seq &&
                   memcmp(state.base.hash, writer->base.hash, sizeof state.base.hash) == 0;
    return is_same ? 0 : -ESTALE;
}

/* What PostgreSQL does not take as text was not written by a gateway; it is replaced here. */
static struct piece keep_text(struct buf *texts, struct slice text) {
    struct piece piece = {.at = buf_len(texts)};
    if (utf8_is_valid(text) && slice_find_byte(text, '\0') == SIZE_MAX) {
        buf_append(texts, text);
        piece.length = text.len;
        return piece;
    }
    while (text.len != 0) {
        uint32_t code_point = 0;
        size_t len = utf8_decode(text, &code_point);
        bool is_good = len != 0 && code_point != 0;
        buf_append(texts, is_good ? slice_sub(text, 0, len) : SLICE("\xef\xbf\xbd"));
        text = slice_from(text, len != 0 ? len : 1);
    }
    piece.length = buf_len(texts) - piece.at;
    return piece;
}

static struct slice text_of(const struct shared_writer *writer, const struct piece *piece) {
    return slice_sub(buf_slice(&writer->texts), piece->at, piece->at + piece->length);
}

static void put_text(struct shared_writer *writer, const struct piece *piece) {
    if (piece->length == 0)
        shared_copy_null(&writer->rows);
    else
        shared_copy_bytes(&writer->rows, text_of(writer, piece));
}

MUST_CHECK static int flush(struct shared_writer *writer) {
    if (writer->n_pending == 0)
        return 0;
    buf_reset(&writer->rows, MIB(8));
    shared_copy_begin(&writer->rows);
    for (size_t i = 0; i < writer->n_pending; i++) {
        const struct shared_row *row = &writer->pending[i];
        shared_copy_row(&writer->rows, 7);
        shared_copy_number(&writer->rows, writer->log);
        shared_copy_number(&writer->rows, (int64_t)row->seq);
        shared_copy_number(&writer->rows, row->time);
        shared_copy_numbers(&writer->rows, writer->terms + row->first_term, row->n_terms);
        put_text(writer, &row->line);
        put_text(writer, &row->outcome);
        put_text(writer, &row->intent);
    }
    shared_copy_end(&writer->rows);
    int error =
        buf_error(&writer->rows) != 0 ? buf_error(&writer->rows) : buf_error(&writer->texts);
    if (error == 0)
        error = shared_copy(writer->tx, COPY_RECORDS, buf_slice(&writer->rows));
    map_clear(&writer->intents);
    buf_reset(&writer->texts, MIB(8));
    writer->base.n_records += writer->n_pending;
    writer->n_pending = writer->n_terms = 0;
    return error;
}

/* Records of this block come next. */
MUST_CHECK static int enter_block(struct shared_writer *writer, uint64_t block) {
    if (writer->has_block && writer->block == block)
        return 0;
    int error = flush(writer);
    if (error == 0 && writer->has_block)
        error = shared_complete(writer->tx, writer->log, writer->block);
    writer->has_block = true;
    writer->block = block;
    return error;
}

static bool is_full(const struct shared_writer *writer) {
    return writer->n_pending == PENDING || writer->n_terms + SHARED_TERMS + 1 > TERMS ||
           buf_len(&writer->texts) > TEXTS;
}

MUST_CHECK static int add_row(struct shared_writer *writer, const struct audit_line *line,
                              struct slice text) {
    const struct index_record *record = &writer->record;
    int error = is_full(writer) ? flush(writer) : 0;
    if (error == 0)
        error = enter_block(writer, line->seq >> SHARED_BLOCK_BITS);
    if (error != 0)
        return error;
    struct shared_row *row = &writer->pending[writer->n_pending];
    *row = (struct shared_row){
        .seq = line->seq,
        .time = line->time_us <= INT64_MAX ? (int64_t)line->time_us : INT64_MAX,
        .first_term = writer->n_terms,
        .line = keep_text(&writer->texts, text),
    };
    row->n_terms = shared_terms_of(record, writer->terms + writer->n_terms);
    writer->n_terms += row->n_terms + 1;
    writer->n_pending++;
    if (record->kind != INDEX_RECORD_INTENT || record->id.len == 0 || record->id.len > SHARED_ID)
        return 0;
    row->intent = keep_text(&writer->texts, record->id);
    return map_set(&writer->intents, record->id, (void *)(uintptr_t)writer->n_pending);
}

/* --- outcomes --- */

/* Of an intent in the table. 1: it is not there. */
MUST_CHECK static int update_row(struct shared_writer *writer, struct slice text) {
    const struct index_record *record = &writer->record;
    CLEANUP(buf_deinit) struct buf kept = BUF_INIT(MIB(1));
    int64_t seq = -1, term = 0;
    const struct piece line = keep_text(&kept, text), id = keep_text(&kept, record->id);
    if (buf_error(&kept) != 0)
        return buf_error(&kept);
    struct store_value status = store_null();
    if (record->status.len != 0) {
        term = shared_term(INDEX_STATUS, record->status);
        status = store_number(term);
    }
    struct slice all = buf_slice(&kept);
    int error = shared_number(
        writer->tx,
        "UPDATE audit_records SET outcome = $3, intent = NULL,"
        " terms = CASE WHEN $4::bigint IS NULL THEN terms ELSE array_append(terms, $4::bigint) END"
        " WHERE log = $1 AND seq = (SELECT max(seq) FROM audit_records WHERE log = $1 AND"
        " intent = $2) RETURNING seq",
        STORE_VALUES(store_number(writer->log),
                     store_text(slice_sub(all, id.at, id.at + id.length)),
                     store_text(slice_sub(all, line.at, line.at + line.length)), status),
        -1, &seq);
    if (error != 0 || seq < 0)
        return error != 0 ? error : 1;
    bool is_complete = !writer->has_block || (uint64_t)seq >> SHARED_BLOCK_BITS != writer->block;
    return is_complete && term != 0 ? shared_post(writer->tx, writer->log, (uint64_t)seq, term) : 0;
}

/* 1: the intent is not there (any more). */
MUST_CHECK static int join(struct shared_writer *writer, struct slice text) {
    const struct index_record *record = &writer->record;
    if (record->id.len == 0 || record->id.len > SHARED_ID)
        return 1;
    void *index = map_remove(&writer->intents, record->id);
    if (index == NULL)
        return update_row(writer, text);
    struct shared_row *row = &writer->pending[(size_t)(uintptr_t)index - 1];
    row->intent.length = 0;
    row->outcome = keep_text(&writer->texts, text);
    if (record->status.len != 0)
        writer->terms[row->first_term + row->n_terms++] = shared_term(INDEX_STATUS, record->status);
    return 0;
}

static int add(struct index_writer *base, struct slice text, const struct audit_place *behind) {
    struct shared_writer *writer = shared_of(base);
    struct audit_line line;
    /* What is no line, or comes a second time, is for `cardea audit verify` to tell. */
    if (audit_line_read(text, &line, NULL) != 0 || line.seq <= base->at.seq ||
        line.seq >= INDEX_SEQ_MOST || behind->offset <= text.len)
        return 0;
    int status = begin(writer);
    if (status == 0)
        status = index_record_read(writer->reader, &line, text, &writer->scratch, &writer->record);
    if (status != 0)
        return status;
    if (writer->record.kind == INDEX_RECORD_OUTCOME)
        status = join(writer, text);
    else
        status = writer->record.kind == INDEX_RECORD_OWN ? 0 : 1;
    if (status == 1)
        status = add_row(writer, &line, text);
    if (status != 0)
        return status;
    base->at = *behind;
    base->at.seq = line.seq;
    base->length = text.len;
    memcpy(base->hash, line.hash, sizeof base->hash);
    return 0;
}

static int commit(struct index_writer *base) {
    struct shared_writer *writer = shared_of(base);
    if (!writer->is_in_transaction)
        return 0;
    int error = flush(writer);
    if (error == 0)
        error = write_state(writer);
    writer->is_in_transaction = false;
    return shared_end(writer->tx, error);
}

/* --- retention --- */

/* 1: there is more to do. */
MUST_CHECK static int drop(struct shared_writer *writer, uint64_t first_seq) {
    uint64_t n = 0;
    int status = shared_drop(writer->tx, writer->log, first_seq, &n);
    writer->base.n_records -= n < writer->base.n_records ? n : writer->base.n_records;
    if (status == 0)
        writer->dropped_below = first_seq;
    return status;
}

static int retain(struct index_writer *base, uint64_t first_seq) {
    struct shared_writer *writer = shared_of(base);
    uint64_t now = clock_monotonic_ms();
    bool is_time = writer->swept_ms == 0 || now - writer->swept_ms >= SWEEP_MS;
    bool drops = first_seq < INDEX_SEQ_MOST && first_seq > writer->dropped_below;
    if (!is_time && !drops)
        return 0;
    int status = begin(writer);
    if (status == 0)
        status = drops ? drop(writer, first_seq) : shared_sweep(writer->tx, writer->max_age_ms);
    if (status < 0)
        return status;
    if (!drops && status == 0)
        writer->swept_ms = now;
    int error = commit(base);
    return error != 0 ? error : status != 0 || (drops && is_time) ? 1 : 0;
}

/* --- */

static int clear(const struct index_where *where, struct buf *why) {
    char name[AUDIT_LOG_CHARS + 1];
    bool is_there = false;
    int error = shared_log(where->dir, name);
    if (error == 0)
        error = shared_forget(where->url, slice_from_cstr(name), &is_there, why);
    return error == -ENOENT ? 0 : error; /* opening says what is missing */
}

static int look(const struct index_where *where, uint64_t *ret_seq, uint64_t *ret_n_records) {
    CLEANUP(buf_deinit) struct buf why = BUF_INIT(KIB(4));
    char name[AUDIT_LOG_CHARS + 1];
    struct store_tx *tx = NULL;
    struct state state = {.log = 0};
    int error = shared_log(where->dir, name);
    if (error == 0)
        error = shared_open(where->url, NULL, &tx, &why);
    if (error != 0)
        return error;
    error = shared_begin(tx, STORE_READ);
    if (error == 0)
        error = shared_end(tx, read_state(tx, "SELECT " STATE, name, &state));
    store_beside_close(tx);
    if (error == 0 && state.log == 0)
        error = -ENOENT;
    if (error == 0) {
        *ret_seq = state.base.at.seq;
        *ret_n_records = state.base.n_records;
    }
    return error;
}

const struct index_driver index_shared = {
    .open = open_writer,
    .free = close_writer,
    .add = add,
    .commit = commit,
    .retain = retain,
    .clear = clear,
    .look = look,
};
