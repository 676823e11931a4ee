/*
 * What commands have changed, for the audit trail: they work on the store, and the trail is the
 * gateway's. A note is written in the transaction of the change, so that there is one for each, and
 * stays until a gateway has it in its trail. Of several instances one takes it; what one has taken
 * and not put away after a while, because it died, the next one takes: so it may be recorded twice,
 * with the same id, but not never.
 */
#include "base/limits.h"
#include "doors.h"

enum { TAKEN_FOR_MS = 60 * 1000 };

int accounts_add_note(struct store_tx *tx, const struct accounts_note *note) {
    char id[ACCOUNTS_ID + 1];
    uint64_t now_ms = 0;
    int error = store_now_ms(tx, &now_ms);
    if (error != 0)
        return error;
    doors_make_id(id);
    return store_exec(tx,
                      "INSERT INTO admin_notes (id, at_ms, event, who, action, object, reason,"
                      " taker, taken_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, '', 0)",
                      STORE_VALUES(store_text(slice_from_cstr(id)), store_number((int64_t)now_ms),
                                   store_text(note->event), store_text(note->who),
                                   store_text(note->action), store_text(note->object),
                                   store_text(note->reason)),
                      NULL);
}

int accounts_has_notes(struct store_tx *tx, bool *ret_has) {
    struct store_rows *rows = NULL;
    int error = store_query(tx, "SELECT id FROM admin_notes LIMIT 1", NULL, 0, &rows);
    if (error != 0)
        return error;
    bool has = store_rows_next(rows);
    error = store_rows_end(rows);
    if (error == 0)
        *ret_has = has;
    return error;
}

MUST_CHECK static int mark(struct store_tx *tx, size_t most, const char *taker) {
    uint64_t now_ms = 0;
    int error = store_now_ms(tx, &now_ms);
    if (error != 0)
        return error;
    return store_exec(
        tx,
        "UPDATE admin_notes SET taker = $1, taken_ms = $2 WHERE id IN (SELECT id"
        " FROM admin_notes WHERE taken_ms <= $3 ORDER BY at_ms, id LIMIT $4)",
        STORE_VALUES(store_text(slice_from_cstr(taker)), store_number((int64_t)now_ms),
                     store_number((int64_t)now_ms - TAKEN_FOR_MS), store_number((int64_t)most)),
        NULL);
}

int accounts_take_notes(struct store_tx *tx, size_t most, char taker[ACCOUNTS_ID + 1],
                        accounts_note_fn *fn, void *context) {
    struct store_rows *rows = NULL;
    doors_make_id(taker);
    int error = mark(tx, most, taker);
    if (error == 0)
        error = store_query(tx,
                            "SELECT id, at_ms, event, who, action, object, reason FROM admin_notes"
                            " WHERE taker = $1 ORDER BY at_ms, id",
                            STORE_VALUES(store_text(slice_from_cstr(taker))), &rows);
    if (error != 0)
        return error;
    bool goes_on = true;
    while (goes_on && store_rows_next(rows)) {
        struct accounts_note note = {
            .id = store_rows_text(rows, 0),
            .at_ms = (uint64_t)store_rows_number(rows, 1),
            .event = store_rows_text(rows, 2),
            .who = store_rows_text(rows, 3),
            .action = store_rows_text(rows, 4),
            .object = store_rows_text(rows, 5),
            .reason = store_rows_text(rows, 6),
        };
        goes_on = fn(context, &note);
    }
    return store_rows_end(rows);
}

int accounts_drop_notes(struct store_tx *tx, const char taker[ACCOUNTS_ID + 1]) {
    return store_exec(tx, "DELETE FROM admin_notes WHERE taker = $1",
                      STORE_VALUES(store_text(slice_from_cstr(taker))), NULL);
}
