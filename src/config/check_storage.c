/* What the address of a Redis must look like. None of the sentences repeats it: it may hold a
 * password. */
#include "base/limits.h"
#include "http/uri.h"
#include "options.h"

enum { KEY_PREFIX_MAX = 128 };

static const char only_one[] =
    "it must name one server: a list of them (Redis Cluster, Sentinel) is not supported";

/* Schemes of other clients for what this one does not speak. */
static const char *check_scheme(struct slice url) {
    static const struct {
        struct slice prefix;
        const char *reason;
    } others[] = {
        {SLICE_INIT("redis-cluster:"), "Redis Cluster is not supported; use one server"},
        {SLICE_INIT("rediss-cluster:"), "Redis Cluster is not supported; use one server"},
        {SLICE_INIT("redis+cluster:"), "Redis Cluster is not supported; use one server"},
        {SLICE_INIT("rediss+cluster:"), "Redis Cluster is not supported; use one server"},
        {SLICE_INIT("redis-sentinel:"), "Redis Sentinel is not supported; use one server"},
        {SLICE_INIT("rediss-sentinel:"), "Redis Sentinel is not supported; use one server"},
        {SLICE_INIT("redis+sentinel:"), "Redis Sentinel is not supported; use one server"},
        {SLICE_INIT("rediss+sentinel:"), "Redis Sentinel is not supported; use one server"},
        {SLICE_INIT("sentinel:"), "Redis Sentinel is not supported; use one server"},
        {SLICE_INIT("redis+unix:"), "sockets in the file system are not supported; use redis://"},
        {SLICE_INIT("redis+socket:"), "sockets in the file system are not supported; use redis://"},
        {SLICE_INIT("unix:"), "sockets in the file system are not supported; use redis://"},
    };
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        if (slice_starts_with_nocase(url, others[i].prefix))
            return others[i].reason;
    }
    return NULL;
}

/* "a:1,b:2" behind the user and password, which may have a comma themselves. */
static bool names_several(struct slice url) {
    size_t at = slice_find(url, SLICE("://"));
    if (at == SIZE_MAX)
        return false;
    struct slice authority = slice_from(url, at + 3);
    size_t end = 0, begin = 0;
    while (end < authority.len && strchr("/?#", authority.ptr[end]) == NULL)
        end++;
    for (size_t i = 0; i < end; i++)
        begin = authority.ptr[i] == '@' ? i + 1 : begin;
    return slice_find_byte(slice_sub(authority, begin, end), ',') != SIZE_MAX;
}

/* "", "/" or "/2": the number of a database. */
static bool is_database(struct slice path) {
    uint64_t number;
    return path.len <= 1 || (path.len <= 6 && slice_to_u64(slice_from(path, 1), &number) == 0);
}

const char *check_storage_url(struct slice value) {
    _Static_assert(LIMIT_URI == 8192, "the message says so");
    struct uri uri;
    const char *reason = check_scheme(value);
    if (reason != NULL)
        return reason;
    if (value.len > LIMIT_URI)
        return "it is longer than 8192 bytes";
    if (names_several(value))
        return only_one;
    if (uri_parse(value, &uri, &reason) != 0)
        return reason;
    if (!slice_eq_nocase(uri.scheme, SLICE("redis")) &&
        !slice_eq_nocase(uri.scheme, SLICE("rediss")))
        return "the scheme must be redis, or rediss for TLS";
    if (uri.has_query || uri.has_fragment)
        return "it must not have a query or a fragment";
    if (!is_database(uri.path))
        return "its path must be the number of a database, such as /0";
    return slice_find(uri.userinfo, SLICE("%00")) == SIZE_MAX
               ? NULL
               : "its user name and password must not hold U+0000";
}

/* Braces in a key say which part of it is hashed, and that is for the gateway to say. */
const char *check_key_prefix(struct slice value) {
    bool fine = value.len <= KEY_PREFIX_MAX;
    for (size_t i = 0; i < value.len; i++) {
        char c = value.ptr[i];
        fine = fine && c > 0x20 && c < 0x7f && c != '{' && c != '}';
    }
    return fine ? NULL : "must be at most 128 printable characters without spaces and braces";
}

const char *check_store_url(struct slice value) {
    struct uri uri;
    if (uri_parse(value, &uri, NULL) != 0 ||
        !(slice_eq(uri.scheme, SLICE("postgres")) || slice_eq(uri.scheme, SLICE("postgresql"))))
        return "it must be postgres://USER:PASSWORD@HOST:PORT/NAME; without it SQLite is used";
    return NULL;
}
