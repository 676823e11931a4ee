/*
 * What clients have to know to get a token: the metadata of the endpoints as protected resources
 * (RFC 9728). Anybody may read them. An endpoint has them whether there is a server of its name or
 * not, and all have the same scopes: so names of servers cannot be found out here.
 */
#include <errno.h>
#include <stdlib.h>

#include "private.h"

/* Of all lists together. */
enum { LISTS_MAX = 1024 * 1024 };

/* Scopes. */

struct scopes {
    struct slice *items;
    size_t n, cap;
};

static void collect(struct scopes *scopes, const struct slice *items, size_t n) {
    for (size_t i = 0; i < n && scopes->n < scopes->cap; i++)
        scopes->items[scopes->n++] = items[i];
}

static size_t count_scopes(const struct config *config) {
    size_t n = config->oauth.n_scopes;
    for (size_t i = 0; i < config->n_servers; i++) {
        const struct config_server *server = &config->servers[i];
        n += server->n_scopes;
        for (size_t k = 0; k < server->n_tools; k++)
            n += server->tools[k].n_scopes;
    }
    return n;
}

static void collect_all(struct scopes *scopes, const struct config *config) {
    collect(scopes, config->oauth.scopes, config->oauth.n_scopes);
    for (size_t i = 0; i < config->n_servers; i++) {
        const struct config_server *server = &config->servers[i];
        collect(scopes, server->scopes, server->n_scopes);
        for (size_t k = 0; k < server->n_tools; k++)
            collect(scopes, server->tools[k].scopes, server->tools[k].n_scopes);
    }
}

static int compare(const void *a, const void *b) {
    return slice_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

/* Sorted, so that their order tells nothing of the servers'. */
static int write_scopes(struct json_writer *writer, const struct config *config,
                        struct arena *arena) {
    struct scopes scopes = {.cap = count_scopes(config)};
    if (scopes.cap == 0)
        return 0;
    scopes.items = arena_alloc_array(arena, scopes.cap, sizeof *scopes.items);
    if (scopes.items == NULL)
        return -ENOMEM;
    collect_all(&scopes, config);
    qsort(scopes.items, scopes.n, sizeof *scopes.items, compare);
    json_key(writer, SLICE("scopes_supported"));
    json_array_begin(writer);
    for (size_t i = 0; i < scopes.n; i++) {
        if (i == 0 || !slice_eq(scopes.items[i], scopes.items[i - 1]))
            json_string(writer, scopes.items[i]);
    }
    json_array_end(writer);
    return 0;
}

/* The configured ones, else those whose tokens are taken. */
static void write_servers(struct json_writer *writer, const struct config_oauth *oauth) {
    json_key(writer, SLICE("authorization_servers"));
    json_array_begin(writer);
    for (size_t i = 0; i < oauth->n_authorization_servers; i++)
        json_string(writer, oauth->authorization_servers[i]);
    for (size_t i = 0; i < oauth->n_issuers && oauth->n_authorization_servers == 0; i++) {
        const struct config_issuer *issuer = &oauth->issuers[i];
        struct slice name = issuer->issuer.len != 0 ? issuer->issuer : issuer->expected_issuer;
        if (name.len != 0)
            json_string(writer, name);
    }
    json_array_end(writer);
}

int border_write_metadata(const struct config *config, struct arena *arena,
                          struct slice *ret_metadata) {
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(LISTS_MAX);
    struct json_writer writer;
    json_writer_init(&writer, &out);
    json_object_begin(&writer);
    write_servers(&writer, &config->oauth);
    int error = write_scopes(&writer, config, arena);
    json_key(&writer, SLICE("bearer_methods_supported"));
    json_array_begin(&writer);
    json_string(&writer, SLICE("header"));
    json_array_end(&writer);
    json_object_end(&writer);
    if (error == 0)
        error = buf_error(&out);
    if (error != 0)
        return error;
    struct slice text = arena_dup(arena, buf_slice(&out));
    if (text.ptr == NULL)
        return -ENOMEM;
    *ret_metadata = text;
    return 0;
}

/* Bytes of a path come from the caller: nothing but an endpoint's goes into an answer. */
static struct slice endpoint_of(const struct config *config, struct slice path) {
    enum config_door door;
    struct slice name, endpoint = config_endpoint_of(config, path, &door);
    return config_is_endpoint(config, endpoint, &name) ? endpoint : SLICE_EMPTY;
}

int gw_metadata_url(const struct gw_worker *worker, struct slice path, struct buf *out) {
    return config_metadata_url(worker->config, endpoint_of(worker->config, path), out);
}

bool gw_write_metadata(const struct gw_worker *worker, struct slice path, struct buf *out) {
    const struct config *config = worker->config;
    struct buf resource CLEANUP(buf_deinit) = BUF_INIT(LIMIT_URI + KIB(1));
    struct slice endpoint;
    struct json_writer writer;
    if (!config_is_metadata(config, path, &endpoint) ||
        config_endpoint_url(config, endpoint, &resource) != 0)
        return false;
    json_writer_init(&writer, out);
    json_object_begin(&writer);
    json_kv_string(&writer, SLICE("resource"), buf_slice(&resource));
    buf_append_byte(out, ',');
    buf_append(out, slice_from(worker->border->metadata, 1)); /* behind its brace */
    return true;
}
