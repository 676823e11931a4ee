/*
 * What servers declare beside what the gateway knows and answers for (methods.c): extensions,
 * `experimental`, and capabilities that have no name here. It goes to the client as the server
 * wrote it. Tasks are the gateway's to offer: their ids are its own.
 *
 * The endpoint of one server says all that this one says, as long as both are of one era. Between
 * the eras there are `experimental`, which both have, and MCP Apps, whose extension is declared in
 * the same way in both; what another extension means in another era nobody knows.
 *
 * The merged endpoint has the extensions of all its servers, each once: they are kept per tool or
 * resource by what has a name there. Of other capabilities a client would think that they are true
 * of all.
 */
#include "base/mem.h"
#include "mcp/capabilities.h"
#include "private.h"

static const struct json_want want_nothing[] = {{0}};
static const struct json_want want_members[] = {{"extensions", want_nothing}, {0}};
static const struct json_want want_capabilities = {.children = want_members};

struct offers {
    struct json_writer *writer;
    struct map written; /* extensions, by their names */
    bool has_extensions;
    struct buf key; /* unescaped */
    size_t begin;   /* of what is written here */
};

static bool is_named(const struct json_node *node, const char *const names[], size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (json_key_is(node, slice_from_cstr(names[i])))
            return true;
    }
    return false;
}

/* What write_capabilities() in methods.c answers for, and what is dealt with apart. */
static bool is_own(const struct json_node *node) {
    static const char *const names[] = {"tools",       "prompts",    "resources",         "logging",
                                        "completions", "extensions", MCP_CAPABILITY_TASKS};
    return is_named(node, names, ARRAY_LEN(names));
}

/* False: it is as if it were not there. */
static bool take_key(struct offers *offers, const struct json_node *node) {
    size_t so_far = buf_len(offers->writer->out) - offers->begin;
    buf_reset(&offers->key, LIMIT_CAPABILITIES);
    return so_far + node->key.len + node->raw.len < LIMIT_OFFERS &&
           json_unescape(&offers->key, node->key) == 0;
}

static void begin_extensions(struct offers *offers) {
    if (offers->has_extensions)
        return;
    offers->has_extensions = true;
    json_key(offers->writer, SLICE("extensions"));
    json_object_begin(offers->writer);
}

static void write_extension(struct offers *offers, const struct json_node *node,
                            bool is_of_other_era) {
    struct slice key;
    if (json_key_is(node, SLICE(MCP_EXTENSION_TASKS)) ||
        (is_of_other_era && !json_key_is(node, SLICE(MCP_EXTENSION_APPS))) ||
        !take_key(offers, node))
        return;
    key = buf_slice(&offers->key);
    if (map_has(&offers->written, key) || map_set(&offers->written, key, offers) != 0)
        return;
    begin_extensions(offers);
    json_kv_raw(offers->writer, key, node->raw);
}

/* NULL: the server says nothing that can be read. Uses the second reader. */
static const struct json_node *read_item(const struct gw_call *call,
                                         const struct gw_view_item *item) {
    struct json_reader *reader = call->worker->second_reader;
    const struct catalog *catalog = item->status.catalog;
    if (catalog == NULL || catalog->capabilities.len == 0 ||
        json_read(reader, catalog->capabilities, &want_capabilities, NULL, NULL) != 0)
        return NULL;
    return json_root(reader);
}

static bool is_of_other_era(const struct gw_call *call, const struct gw_view_item *item) {
    return mcp_revision_is_modern(item->status.catalog->revision) !=
           mcp_revision_is_modern(call->revision);
}

static void write_extensions(struct offers *offers, const struct gw_view *view,
                             const struct gw_call *call, bool has_tasks) {
    const struct json_reader *reader = call->worker->second_reader;
    if (has_tasks) {
        begin_extensions(offers);
        json_kv_raw(offers->writer, SLICE(MCP_EXTENSION_TASKS), SLICE("{}"));
    }
    for (size_t i = 0; i < view->n; i++) {
        const struct json_node *root = read_item(call, &view->items[i]);
        const struct json_node *all =
            root != NULL ? json_member_typed(reader, root, SLICE("extensions"), JSON_OBJECT) : NULL;
        const struct json_node *node = all != NULL ? json_first(reader, all) : NULL;
        for (; node != NULL; node = json_next(reader, node))
            write_extension(offers, node, is_of_other_era(call, &view->items[i]));
    }
    if (offers->has_extensions)
        json_object_end(offers->writer);
}

static void write_others(struct offers *offers, const struct gw_view_item *item,
                         const struct gw_call *call) {
    const struct json_reader *reader = call->worker->second_reader;
    const struct json_node *root = read_item(call, item);
    const struct json_node *node = root != NULL ? json_first(reader, root) : NULL;
    for (; node != NULL; node = json_next(reader, node)) {
        bool is_for_both = json_key_is(node, SLICE("experimental"));
        if (!is_own(node) && (is_for_both || !is_of_other_era(call, item)) &&
            take_key(offers, node))
            json_kv_raw(offers->writer, buf_slice(&offers->key), node->raw);
    }
}

void gw_write_offers(struct json_writer *writer, const struct gw_view *view,
                     const struct gw_call *call, bool has_tasks) {
    struct offers offers = {
        .writer = writer, .key = BUF_INIT(LIMIT_CAPABILITIES), .begin = buf_len(writer->out)};
    map_init(&offers.written);
    write_extensions(&offers, view, call, has_tasks);
    if (call->only != NULL && view->n == 1)
        write_others(&offers, &view->items[0], call);
    map_deinit(&offers.written);
    buf_deinit(&offers.key);
}
