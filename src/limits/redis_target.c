/*
 * The address of a Redis: redis://[user[:password]@]host[:port][/database], rediss:// for TLS. A
 * name without a password logs nobody in, as in Nexus. The password is kept in the command that
 * needs it and, for comparing, by itself; neither is ever part of a message.
 */
#include <errno.h>

#include "base/limits.h"
#include "base/mem.h"
#include "http/uri.h"
#include "redis_private.h"

static int invalid(const char **ret_reason, const char *reason) {
    *ret_reason = reason;
    return REDIS_E_INVALID;
}

/* --- who we are --- */

/* Its bytes are wiped. */
static void wipe(struct buf *buf) {
    if (buf->data != NULL)
        secret_wipe(buf->data, buf->cap);
    buf_deinit(buf);
}

/* A copy that grew would leave a copy: as much room as it can ever need, at once. */
static int decode(struct buf *out, struct slice text) {
    *out = BUF_INIT(text.len + 1);
    if (buf_reserve(out, text.len + 1) == NULL)
        return -ENOMEM;
    return uri_percent_decode(out, text);
}

static int write_auth(struct redis_target *target, struct slice user, struct slice password) {
    struct slice arguments[3] = {SLICE("AUTH")};
    size_t n = 1;
    CLEANUP(wipe) struct buf command = BUF_INIT(user.len + password.len + 128);
    if (buf_reserve(&command, command.max) == NULL)
        return -ENOMEM;
    if (user.len != 0)
        arguments[n++] = user;
    arguments[n++] = password;
    int error = resp_write_command(&command, arguments, n);
    if (error == 0)
        error = secret_new(password, &target->password);
    if (error == 0)
        error = secret_new(buf_slice(&command), &target->auth);
    return error;
}

static int read_userinfo(struct redis_target *target, const struct uri *uri,
                         const char **ret_reason) {
    struct slice user, password;
    CLEANUP(wipe) struct buf plain_user = BUF_INIT(0);
    CLEANUP(wipe) struct buf plain_password = BUF_INIT(0);
    if (!uri->has_userinfo || !slice_cut(uri->userinfo, ':', &user, &password) || password.len == 0)
        return 0;
    int error = decode(&plain_user, user);
    if (error == 0)
        error = decode(&plain_password, password);
    if (error > 0)
        return invalid(ret_reason, "the user or password in its URL is not percent-encoded");
    if (error == 0)
        error = write_auth(target, buf_slice(&plain_user), buf_slice(&plain_password));
    return error;
}

/* --- where --- */

static int read_database(struct slice path, struct slice *ret_database, const char **ret_reason) {
    uint64_t number;
    struct slice text = slice_from(path, 1);
    if (text.len == 0)
        return 0;
    if (text.len > 9 || slice_to_u64(text, &number) != 0)
        return invalid(ret_reason, "the path of its URL has to be the number of a database");
    if (number != 0)
        *ret_database = text;
    return 0;
}

/* `uri` points into the configuration, which may go before the target does. */
static int copy_names(struct redis_target *target, const struct uri *uri, struct slice database,
                      struct slice key_prefix) {
    struct buf *text = &target->text;
    bool is_v6 = uri->host_kind == URI_HOST_IPV6;
    buf_append_cstr(text, is_v6 ? "[" : "");
    buf_append(text, uri->host);
    buf_append_cstr(text, is_v6 ? "]:" : ":");
    buf_append_u64(text, uri->port);
    size_t name_end = buf_len(text);
    buf_append(text, database);
    size_t database_end = buf_len(text);
    buf_append(text, key_prefix);
    if (buf_error(text) != 0)
        return -ENOMEM;
    struct slice all = buf_slice(text);
    target->name = slice_sub(all, 0, name_end);
    target->host = slice_sub(all, is_v6, is_v6 + uri->host.len);
    target->database = slice_sub(all, name_end, database_end);
    target->key_prefix = slice_from(all, database_end);
    target->port = uri->port;
    return 0;
}

static int read_url(struct redis_target *target, const struct config_storage *storage,
                    bool *ret_is_tls, const char **ret_reason) {
    struct uri uri;
    struct slice database = SLICE_EMPTY;
    if (uri_parse(storage->url, &uri, NULL) != 0 || uri.host.len == 0)
        return invalid(ret_reason, "its URL is none");
    bool is_rediss = slice_eq_nocase(uri.scheme, SLICE("rediss"));
    if (!is_rediss && !slice_eq_nocase(uri.scheme, SLICE("redis")))
        return invalid(ret_reason, "its URL has to begin with redis:// or rediss://");
    if (uri.port == 0)
        return invalid(ret_reason, "the port in its URL is 0");
    if (uri.has_query || uri.has_fragment)
        return invalid(ret_reason, "its URL has a query or a fragment, which mean nothing here");
    int error = read_database(uri.path, &database, ret_reason);
    if (error == 0)
        error = read_userinfo(target, &uri, ret_reason);
    if (error == 0)
        error = copy_names(target, &uri, database, storage->key_prefix);
    if (error == 0)
        *ret_is_tls = is_rediss || storage->tls_enabled;
    return error;
}

/* --- TLS --- */

static void free_string(char **string) {
    mem_free(*string);
}

static int file_name(struct slice path, char **ret_path, const char **ret_reason) {
    int error = path.len != 0 ? slice_dup_cstr(path, ret_path) : 0;
    return error == -EINVAL ? invalid(ret_reason, "a path in storage.tls has a NUL in it") : error;
}

static int make_tls(struct redis_target *target, const struct config_storage *storage,
                    const char **ret_reason) {
    CLEANUP(free_string) char *ca = NULL;
    CLEANUP(free_string) char *cert = NULL;
    CLEANUP(free_string) char *key = NULL;
    if ((storage->tls_cert.len != 0) != (storage->tls_key.len != 0))
        return invalid(ret_reason, "storage.tls has a client certificate without a key, or a key "
                                   "without a certificate");
    int error = file_name(storage->tls_ca, &ca, ret_reason);
    if (error == 0)
        error = file_name(storage->tls_cert, &cert, ret_reason);
    if (error == 0)
        error = file_name(storage->tls_key, &key, ret_reason);
    if (error != 0)
        return error;
    struct io_tls_client_options options = {
        .use_system_roots = ca == NULL,
        .ca_file = ca,
        .cert_file = cert,
        .key_file = key,
        .accept_anything = storage->tls_insecure,
    };
    return io_tls_client_new(&options, &target->tls);
}

/* --- all of it --- */

static uint64_t smaller_of(uint64_t a, uint64_t b) {
    return a != 0 && (b == 0 || a < b) ? a : b;
}

/* 0 would mean that nothing ever is in time. */
static uint64_t or_default(uint64_t ms, uint64_t otherwise) {
    return ms != 0 ? ms : otherwise;
}

static void read_numbers(struct redis_target *target, const struct config_storage *storage,
                         size_t n_workers) {
    size_t n = n_workers != 0 ? n_workers : 1;
    uint64_t max = storage->pool_max_size / n, min = storage->pool_min_idle / n;
    if (storage->pool_min_idle % n != 0)
        min++;
    target->n_max = max > 0 ? (size_t)max : 1;
    target->n_min = min > target->n_max ? target->n_max : min > 0 ? (size_t)min : 1;
    target->response_ms = or_default(storage->response_timeout_ms, 1000);
    target->create_ms = or_default(
        smaller_of(storage->connection_timeout_ms, storage->pool_timeout_create_ms), 5000);
    target->wait_ms = storage->pool_timeout_wait_ms;
    target->recycle_ms = or_default(storage->pool_timeout_recycle_ms, 300000);
}

int redis_target_init(struct redis_target *target, const struct config_storage *storage,
                      size_t n_workers, const char **ret_reason) {
    bool is_tls = false;
    *target = (struct redis_target){.text = BUF_INIT(MIB(1))};
    int error = read_url(target, storage, &is_tls, ret_reason);
    if (error == 0 && is_tls)
        error = make_tls(target, storage, ret_reason);
    if (error == 0)
        read_numbers(target, storage, n_workers);
    else
        redis_target_deinit(target);
    return error;
}

void redis_target_deinit(struct redis_target *target) {
    secret_free(target->auth);
    secret_free(target->password);
    io_tls_unref(target->tls);
    buf_deinit(&target->text);
    *target = (struct redis_target){.port = 0};
}
