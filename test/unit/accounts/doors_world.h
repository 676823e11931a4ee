/* A store with people in it, whose time passes when a test says so. */
#pragma once

#include "people_world.h"

/* All times in the store lie so much further back: for those who ask its clock that is as if it
 * had gone on. */
struct passing {
    int64_t ms;
};

static int pass_work(struct store_tx *tx, void *context) {
    static const char *const statements[] = {
        "UPDATE sessions SET created_ms = created_ms - $1, seen_ms = seen_ms - $1,"
        " ends_ms = ends_ms - $1",
        "UPDATE login_failures SET last_ms = last_ms - $1",
        "UPDATE setup SET expires_ms = expires_ms - $1",
        "UPDATE edit_windows SET opened_ms = opened_ms - $1, until_ms = until_ms - $1",
    };
    const struct passing *passing = context;
    int error = 0;
    for (size_t i = 0; error == 0 && i < ARRAY_LEN(statements); i++)
        error = store_exec(tx, statements[i], STORE_VALUES(store_number(passing->ms)), NULL);
    return error;
}

MAYBE_UNUSED static void pass(struct store_world *world, uint64_t ms) {
    struct passing passing = {(int64_t)ms};
    if (store_run(world->store, STORE_WRITE, pass_work, &passing) != 0)
        CANNOT_GO_ON();
}

/* Statements with up to four texts, as a test needs them. */
struct raw {
    const char *sql;
    struct store_value values[4];
    size_t n;
    int64_t number; /* the first row's first column, of a query */
};

static int raw_exec_work(struct store_tx *tx, void *context) {
    const struct raw *raw = context;
    return store_exec(tx, raw->sql, raw->values, raw->n, NULL);
}

static int raw_count_work(struct store_tx *tx, void *context) {
    struct raw *raw = context;
    struct store_rows *rows = NULL;
    int error = store_query(tx, raw->sql, raw->values, raw->n, &rows);
    if (error == 0 && store_rows_next(rows))
        raw->number = store_rows_number(rows, 0);
    int ended = store_rows_end(rows);
    return error != 0 ? error : ended;
}

MAYBE_UNUSED static void do_raw(struct store_world *world, const char *sql, const char *a,
                                const char *b, const char *c) {
    const char *const texts[] = {a, b, c};
    struct raw raw = {.sql = sql};
    while (raw.n < ARRAY_LEN(texts) && texts[raw.n] != NULL) {
        raw.values[raw.n] = store_text(slice_from_cstr(texts[raw.n]));
        raw.n++;
    }
    if (store_run(world->store, STORE_WRITE, raw_exec_work, &raw) != 0)
        CANNOT_GO_ON();
}

MAYBE_UNUSED static int64_t count_raw(struct store_world *world, const char *sql) {
    struct raw raw = {.sql = sql, .number = -1};
    if (store_run(world->store, STORE_READ, raw_count_work, &raw) != 0)
        CANNOT_GO_ON();
    return raw.number;
}

MAYBE_UNUSED static bool is_hex_digest(const char *text) {
    return strspn(text, "0123456789abcdef") == 64 && text[64] == '\0';
}
