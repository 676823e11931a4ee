/*
 * What a name and a text may be, and the two questions behind every change: may whoever asks do
 * this at all, and does nobody get more by it than whoever asks has.
 *
 * The actor brings the rights that the request was let in with; these may be less than the user's
 * (a token) and older than a moment (the user was changed meanwhile). So both are asked: what they
 * came with, and what the store says in this very transaction.
 */
#include <errno.h>

#include "base/limits.h"
#include "base/utf8.h"
#include "people.h"

int people_refuse(struct buf *reason, int code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)buf_vprintf(reason, format, args);
    va_end(args);
    return code;
}

/* --- values --- */

static bool is_letter_or_digit(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_name(struct slice name) {
    if (name.len == 0 || name.len > PEOPLE_NAME || !is_letter_or_digit(name.ptr[0]))
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (!is_letter_or_digit(c) && c != '_' && c != '-' && c != '.' && c != '@')
            return false;
    }
    return true;
}

int people_check_name(struct slice name, struct buf *reason) {
    if (is_name(name))
        return 0;
    return people_refuse(reason, ACCOUNTS_E_WRONG,
                         "a name has 1 to %d of the letters a to z, digits and _ - . @, and begins "
                         "with a letter or digit",
                         PEOPLE_NAME);
}

/* What does not show, or shows something else: controls, marks of direction, what has no width. */
static bool is_hidden(uint32_t code) {
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0xad || code == 0x61c ||
           code == 0x180e || (code >= 0x200b && code <= 0x200f) ||
           (code >= 0x2028 && code <= 0x202e) || (code >= 0x2060 && code <= 0x206f) ||
           code == 0xfeff || (code >= 0xfff9 && code <= 0xfffb) ||
           (code >= 0xe0000 && code <= 0xe007f);
}

int people_check_text(struct slice text, const char *what, size_t most, struct buf *reason) {
    if (text.len > most)
        return people_refuse(reason, ACCOUNTS_E_WRONG, "%s may have at most %zu bytes", what, most);
    while (text.len != 0) {
        uint32_t code = 0;
        size_t len = utf8_decode(text, &code);
        if (len == 0)
            return people_refuse(reason, ACCOUNTS_E_WRONG, "%s has to be valid UTF-8", what);
        if (is_hidden(code))
            return people_refuse(reason, ACCOUNTS_E_WRONG,
                                 "%s has a control character or one that cannot be seen", what);
        text = slice_from(text, len);
    }
    return 0;
}

/* Whether mail arrives there is not to be seen in an address; that it is one line and no list is.
 */
int people_check_email(struct slice email, struct buf *reason) {
    struct slice name, host;
    int error = people_check_text(email, "an e-mail address", PEOPLE_EMAIL, reason);
    if (error != 0 || email.len == 0)
        return error;
    if (slice_cut(email, '@', &name, &host) && name.len != 0 && host.len != 0 &&
        slice_find_byte(host, '@') == SIZE_MAX && slice_find_byte(email, ' ') == SIZE_MAX &&
        slice_find_byte(email, ',') == SIZE_MAX && slice_find_byte(email, ';') == SIZE_MAX &&
        slice_find_byte(email, '<') == SIZE_MAX && slice_find_byte(email, '>') == SIZE_MAX)
        return 0;
    return people_refuse(reason, ACCOUNTS_E_WRONG, "an e-mail address looks like name@host");
}

/* --- rights --- */

void people_unrefp(struct policy_rights **rights) {
    *rights = policy_rights_unref(*rights);
}

int people_read_rights(struct slice json, struct policy_rights **ret_rights) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(1));
    int error = json_reader_new(&reader);
    if (error == 0)
        error = policy_rights_read(reader, json, ret_rights, &reason);
    return error > 0 ? policy_rights_union(NULL, 0, ret_rights) : error;
}

int people_write_rights(const struct policy_rights *rights, struct buf *out, struct buf *reason) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    CLEANUP(people_unrefp) struct policy_rights *again = NULL;
    int error = policy_rights_write(rights, out);
    if (error == 0)
        error = json_reader_new(&reader);
    if (error == 0)
        error = policy_rights_read(reader, buf_slice(out), &again, reason);
    return error == RIGHTS_E_WRONG ? ACCOUNTS_E_WRONG : error;
}

int people_add_rights(struct policy_rights **rights, const struct policy_rights *more) {
    struct policy_rights *sum = NULL;
    const struct policy_rights *const both[] = {*rights, more};
    int error = policy_rights_union(both, ARRAY_LEN(both), &sum);
    if (error != 0)
        return error;
    policy_rights_unref(*rights);
    *rights = sum;
    return 0;
}

static int add_document(struct policy_rights **rights, struct slice json) {
    CLEANUP(people_unrefp) struct policy_rights *more = NULL;
    int error = people_read_rights(json, &more);
    return error == 0 ? people_add_rights(rights, more) : error;
}

int people_sum_rights(struct store_tx *tx, const char *sql, const struct store_value *values,
                      size_t n_values, struct policy_rights **ret_rights) {
    CLEANUP(people_unrefp) struct policy_rights *sum = NULL;
    struct store_rows *rows = NULL;
    int error = policy_rights_union(NULL, 0, &sum);
    if (error == 0)
        error = store_query(tx, sql, values, n_values, &rows);
    while (error == 0 && store_rows_next(rows))
        error = add_document(&sum, store_rows_text(rows, 0));
    int end = store_rows_end(rows);
    error = error != 0 ? error : end;
    if (error == 0)
        *ret_rights = TAKE(sum);
    return error;
}

int people_may(struct store_tx *tx, const struct accounts_actor *actor, enum permission permission,
               struct buf *reason) {
    CLEANUP(people_unrefp) struct policy_rights *now = NULL;
    if (actor->is_owner)
        return 0;
    int error = accounts_user_rights(tx, actor->user, &now);
    if (error != 0)
        return error;
    if (doors_may(actor, permission) && policy_rights_have(now, permission))
        return 0;
    return people_refuse(reason, ACCOUNTS_E_DENIED, "this needs the permission %.*s",
                         SLICE_ARGS(permission_name(permission)));
}

int people_may_give(struct store_tx *tx, const struct accounts_actor *actor,
                    const struct policy_rights *given, const char *what, struct buf *reason) {
    CLEANUP(people_unrefp) struct policy_rights *now = NULL;
    if (actor->is_owner)
        return 0;
    int error = accounts_user_rights(tx, actor->user, &now);
    if (error != 0)
        return error;
    if (actor->rights != NULL && policy_rights_cover(actor->rights, given) &&
        policy_rights_cover(now, given))
        return 0;
    return people_refuse(reason, ACCOUNTS_E_DENIED, "%s has rights that you do not have", what);
}
