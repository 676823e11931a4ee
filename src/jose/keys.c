/* Sets of keys: read from a document or made of a secret, counted, shared by threads. Nothing in a
 * set changes after it was made. */
#include "jose/keys.h"

#include <errno.h>
#include <limits.h>

#include "base/limits.h"
#include "base/mem.h"
#include "private.h"

enum { MIN_SECRET = 32 }; /* RFC 7518 section 3.2, of HS256 */

static const struct json_want want_nothing[] = {{.key = NULL}};
static const struct json_want want_of_key[] = {{"key_ops", want_nothing}, {.key = NULL}};
static const struct json_want want_keys[] = {{"*", want_of_key}, {.key = NULL}};
static const struct json_want want_members[] = {{"keys", want_keys}, {.key = NULL}};
static const struct json_want want_set = {.key = NULL, .children = want_members};

static int refuse(const char **ret_reason, const char *reason) {
    *ret_reason = reason;
    return JOSE_E_INVALID;
}

static struct jose_keys *make(size_t room) {
    struct jose_keys *keys = mem_alloc(sizeof *keys + room * sizeof keys->keys[0]);
    if (keys != NULL)
        atomic_init(&keys->refs, 1);
    return keys;
}

static void unrefp(struct jose_keys **keys) {
    *keys = jose_keys_unref(*keys);
}

static size_t count(const struct json_reader *reader, const struct json_node *array) {
    size_t n = 0;
    for (const struct json_node *at = json_first(reader, array); at != NULL;
         at = json_next(reader, at))
        n++;
    return n;
}

/* The array of keys, or NULL with a reason. */
static const struct json_node *find_keys(const struct json_reader *reader,
                                         const char **ret_reason) {
    const struct json_node *root = json_root(reader);
    const struct json_node *array = json_member_typed(reader, root, SLICE("keys"), JSON_ARRAY);
    if (array == NULL)
        *ret_reason = "it is no set of keys: an object with an array \"keys\"";
    return array;
}

static int add_all(const struct json_reader *reader, const struct json_node *array,
                   struct jose_keys *keys, struct jose_keys_report *report) {
    for (const struct json_node *at = json_first(reader, array); at != NULL;
         at = json_next(reader, at)) {
        const char *reason = NULL;
        int r = jose_jwk_read(reader, at, &keys->keys[keys->n], &reason);
        if (r < 0)
            return r;
        if (r == 0) {
            keys->n++;
            continue;
        }
        report->n_skipped++;
        if (report->first_reason == NULL)
            report->first_reason = reason;
    }
    report->n_used = keys->n;
    return 0;
}

int jose_keys_read(struct json_reader *reader, struct slice document, struct jose_keys **ret_keys,
                   struct jose_keys_report *ret_report, const char **ret_reason) {
    CLEANUP(unrefp) struct jose_keys *keys = NULL;
    struct jose_keys_report report = {.n_used = 0};
    if (document.len > LIMIT_JWKS)
        return refuse(ret_reason, "the set of keys is too large");
    int r = json_read(reader, document, &want_set, NULL, NULL);
    if (r != 0)
        return r < 0 ? r : refuse(ret_reason, "the set of keys is not strict JSON");
    const struct json_node *array = find_keys(reader, ret_reason);
    if (array == NULL)
        return JOSE_E_INVALID;
    size_t n = count(reader, array);
    if (n > LIMIT_JWKS_KEYS)
        return refuse(ret_reason, "the set has too many keys");
    keys = make(n);
    if (keys == NULL)
        return -ENOMEM;
    r = add_all(reader, array, keys, &report);
    if (r != 0)
        return r;
    *ret_keys = TAKE(keys);
    *ret_report = report;
    return 0;
}

int jose_keys_from_secret(struct slice secret, struct jose_keys **ret_keys) {
    CLEANUP(unrefp) struct jose_keys *keys = NULL;
    if (secret.len < MIN_SECRET || secret.len > INT_MAX)
        return JOSE_E_INVALID;
    keys = make(0);
    if (keys == NULL)
        return -ENOMEM;
    int r = secret_new(secret, &keys->secret);
    if (r == 0)
        *ret_keys = TAKE(keys);
    return r;
}

struct jose_keys *jose_keys_ref(struct jose_keys *keys) {
    atomic_fetch_add_explicit(&keys->refs, 1, memory_order_relaxed);
    return keys;
}

struct jose_keys *jose_keys_unref(struct jose_keys *keys) {
    if (keys == NULL || atomic_fetch_sub_explicit(&keys->refs, 1, memory_order_acq_rel) != 1)
        return NULL;
    for (size_t i = 0; i < keys->n; i++)
        jose_key_deinit(&keys->keys[i]);
    secret_free(keys->secret);
    mem_free(keys);
    return NULL;
}

size_t jose_keys_count(const struct jose_keys *keys) {
    return keys->secret != NULL ? 1 : keys->n;
}
