/* Looking for records in either kind of index (audit/index.h). */
#include <errno.h>
#include <pthread.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/secret.h"
#include "find_private.h"
#include "index_fill.h"
#include "shared.h"

enum { IDLE = 4 }; /* connections that are kept */

struct audit_finder {
    char *dir;
    struct secret *url; /* NULL: SQLite */

    pthread_mutex_t mutex; /* of: */
    struct store_tx *idle[IDLE];
    size_t n_idle;
};

int audit_finder_new(const char *dir, struct slice url, struct audit_finder **ret_finder) {
    struct audit_finder *finder = mem_alloc(sizeof *finder);
    if (finder == NULL)
        return -ENOMEM;
    pthread_mutex_init(&finder->mutex, NULL);
    int error = slice_dup_cstr(slice_from_cstr(dir), &finder->dir);
    if (error == 0 && url.len != 0)
        error = secret_new(url, &finder->url);
    if (error != 0) {
        audit_finder_free(finder);
        return error;
    }
    *ret_finder = finder;
    return 0;
}

struct audit_finder *audit_finder_free(struct audit_finder *finder) {
    if (finder == NULL)
        return NULL;
    for (size_t i = 0; i < finder->n_idle; i++)
        store_beside_close(finder->idle[i]);
    pthread_mutex_destroy(&finder->mutex);
    secret_free(finder->url);
    mem_free(finder->dir);
    mem_free(finder);
    return NULL;
}

void audit_finder_freep(struct audit_finder **finder) {
    *finder = audit_finder_free(*finder);
}

bool audit_finder_is_shared(const struct audit_finder *finder) {
    return finder->url != NULL;
}

/* --- connections --- */

/* NULL: there is none. */
static struct store_tx *take_idle(struct audit_finder *finder) {
    pthread_mutex_lock(&finder->mutex);
    struct store_tx *tx = finder->n_idle != 0 ? finder->idle[--finder->n_idle] : NULL;
    pthread_mutex_unlock(&finder->mutex);
    return tx;
}

static void give_back(struct audit_finder *finder, struct store_tx *tx) {
    bool is_kept = false;
    if (store_beside_is_alive(tx)) {
        pthread_mutex_lock(&finder->mutex);
        is_kept = finder->n_idle < IDLE;
        if (is_kept)
            finder->idle[finder->n_idle++] = tx;
        pthread_mutex_unlock(&finder->mutex);
    }
    if (!is_kept)
        store_beside_close(tx);
}

/* Those that are idle may have died meanwhile: then with the next one, at last a fresh one. */
MUST_CHECK static int find_in_postgres(struct audit_finder *finder, struct find_request *request,
                                       struct buf *why) {
    for (;;) {
        struct store_tx *tx = take_idle(finder);
        bool was_idle = tx != NULL;
        int error = was_idle ? 0 : shared_open(secret_reveal(finder->url), NULL, &tx, why);
        if (error != 0)
            return error;
        error = find_in_shared(tx, finder->dir, request);
        bool is_alive = store_beside_is_alive(tx);
        give_back(finder, tx);
        if (!was_idle || is_alive || error == 0 || request->page.n != 0)
            return error;
        request->page = (struct audit_page){.n = 0};
    }
}

/* --- */

static void tell_where(const struct audit_finder *finder, int error, struct buf *reason) {
    if (finder->url == NULL && error == -ENOENT)
        buf_printf(reason, "there is no index in %s (yet)", finder->dir);
    else if (finder->url == NULL)
        buf_printf(reason, "the index in %s cannot be used: %s", finder->dir,
                   index_error_text(error));
    else if (error == -ENOENT)
        buf_append_cstr(reason, "there is no index in PostgreSQL (yet)");
    else
        buf_printf(reason, "the index in PostgreSQL cannot be used: %s", index_error_text(error));
}

MUST_CHECK static int tell(const struct audit_finder *finder, const struct audit_query *query,
                           int error, struct slice why, struct buf *reason) {
    if (error == -ENOMEM)
        return error;
    if (error == FIND_E_CURSOR) {
        buf_append_cstr(reason, "the cursor is none of this list");
        return AUDIT_E_CURSOR;
    }
    if (error == FIND_E_ADDRESS) {
        buf_append_cstr(reason, "no address and no block of addresses: ");
        log_escape(reason, query->address, NETWORK_TEXT * 2);
        return AUDIT_E_INDEX;
    }
    tell_where(finder, error, reason);
    if (why.len != 0) {
        buf_append_cstr(reason, ": ");
        log_escape(reason, why, KIB(1));
    }
    buf_append_cstr(reason, error == -ENOTCONN
                                ? "; what was recorded meanwhile comes into it when it is back"
                                : "; cardea audit reindex makes it anew");
    return AUDIT_E_INDEX;
}

int audit_find(struct audit_finder *finder, const struct audit_query *query, audit_found *found,
               void *context, struct audit_page *ret_page, struct buf *ret_reason) {
    CLEANUP(buf_deinit) struct buf why = BUF_INIT(KIB(4));
    struct find_request request = {.query = query, .found = found, .context = context};
    int error = finder->url != NULL ? find_in_postgres(finder, &request, &why)
                                    : find_in_sqlite(finder->dir, &request);
    if (error != 0)
        return tell(finder, query, error, buf_slice(&why), ret_reason);
    *ret_page = request.page;
    return 0;
}
