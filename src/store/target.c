/* Which database: a path or a URL. */
#include <errno.h>

#include "base/mem.h"
#include "base/secret.h"
#include "store_private.h"

/*
 * libpq cuts a URL at the first '/' or '?' behind the user, and tells host and name of the database
 * in its messages: with a password that should have been percent-encoded a part of it would be
 * among them.
 */
MUST_CHECK static int check_url(struct slice url, struct buf *reason) {
    struct slice rest = SLICE_EMPTY, before, behind;
    if (slice_starts_with(url, SLICE("postgres://")))
        rest = slice_from(url, sizeof "postgres://" - 1);
    else if (slice_starts_with(url, SLICE("postgresql://")))
        rest = slice_from(url, sizeof "postgresql://" - 1);
    else {
        buf_append_cstr(reason, "it is no URL of a store: postgres://USER:PASSWORD@HOST:PORT/NAME");
        return STORE_E_URL;
    }
    bool has_user = slice_cut(rest, '@', &before, &behind);
    bool is_cut = has_user && (slice_find_byte(before, '/') != SIZE_MAX ||
                               slice_find_byte(before, '?') != SIZE_MAX);
    if (is_cut || slice_find_byte(behind, '@') != SIZE_MAX) {
        buf_append_cstr(reason, "in the URL of the store / ? and @ of a user's name or password "
                                "have to be written as %2F, %3F and %40");
        return STORE_E_URL;
    }
    return 0;
}

int store_target_init(struct store_target *target, const struct store_options *options,
                      struct buf *reason) {
    bool is_url = options->url.len != 0;
    struct slice place = is_url ? options->url : slice_from_cstr(options->path);
    char *copy = NULL;
    int error = is_url ? check_url(place, reason) : 0;
    if (error != 0)
        return error;
    if (place.len == 0)
        return -EINVAL;
    error = slice_dup_cstr(place, &copy);
    if (error == -EINVAL) {
        buf_append_cstr(reason, "the name of the store has a NUL byte in it");
        return STORE_E_URL;
    }
    if (error != 0)
        return error;
    *target = (struct store_target){
        .driver = is_url ? &store_postgres : &store_sqlite,
        .place = copy,
        .place_len = place.len,
        .log = options->log,
        .may_make = options->make || options->migrate,
    };
    return 0;
}

void store_target_deinit(struct store_target *target) {
    if (target->place != NULL)
        secret_wipe(target->place, target->place_len);
    mem_free(target->place);
    target->place = NULL;
}
