#include "stored.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/mem.h"
#include "json/reader.h"
#include "load.h"

/* Lines of a file are far below. */
#define STORED_LINE 0x80000000u

static struct toml_position position_of(size_t index) {
    return (struct toml_position){.line = STORED_LINE | (uint32_t)index};
}

bool stored_is_at(struct toml_position at, size_t *ret_index) {
    *ret_index = at.line & ~STORED_LINE;
    return at.line >= STORED_LINE;
}

void stored_deinit(struct stored *stored) {
    for (size_t i = 0; i < stored->list.n && stored->items != NULL; i++)
        buf_deinit(&stored->items[i].reason);
    mem_free(stored->items);
    stored->items = NULL;
}

/* --- JSON into the tree --- */

static const struct json_want everything[2] = {{"*", everything}, {0}};
static const struct json_want want_all = {.children = everything};

struct reading {
    struct loader *l;
    const struct json_reader *reader;
    size_t index;
    bool has_templates;
};

static bool lacks_memory(struct loader *l, const void *what) {
    if (what == NULL)
        l->error = -ENOMEM;
    return what == NULL;
}

static struct slice copy_text(struct loader *l, struct slice text) {
    struct slice copy = arena_dup(l->tree, text);
    (void)lacks_memory(l, copy.ptr);
    return copy;
}

static void read_string(struct reading *reading, const struct json_node *from,
                        struct toml_node *to) {
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(LIMIT_STORED_DEFINITION);
    to->type = TOML_STRING;
    if (json_string_append(&text, from) != 0)
        reading->l->error = -ENOMEM;
    else
        to->string = copy_text(reading->l, buf_slice(&text));
    reading->has_templates =
        reading->has_templates || slice_find(to->string, SLICE("{{")) != SIZE_MAX;
}

static void read_number_of(const struct json_node *from, struct toml_node *to) {
    char text[64] = "";
    if (json_to_i64(from, &to->integer) == 0) {
        to->type = TOML_INTEGER;
        return;
    }
    to->type = TOML_FLOAT;
    to->number = slice_to_cstr(from->raw, text, sizeof text) == 0 ? strtod(text, NULL) : HUGE_VAL;
}

static void read_value(struct reading *reading, const struct place *place,
                       const struct json_node *from, struct toml_node *to);

/* The depth is what the reader lets through. */
static void read_members(struct reading *reading, const struct place *place,
                         const struct json_node *from, struct toml_node *to) {
    struct loader *l = reading->l;
    size_t n = 0;
    to->type = from->type == JSON_OBJECT ? TOML_TABLE : TOML_ARRAY;
    for (const struct json_node *node = json_first(reading->reader, from); node != NULL;
         node = json_next(reading->reader, node))
        n++;
    to->children = arena_alloc_array(l->tree, n + 1, sizeof *to->children);
    if (lacks_memory(l, to->children))
        return;
    for (const struct json_node *node = json_first(reading->reader, from);
         node != NULL && l->error == 0; node = json_next(reading->reader, node)) {
        struct toml_node *child = &to->children[to->n_children];
        *child = (struct toml_node){.type = TOML_BOOL};
        struct place inner = {.up = place, .index = to->n_children};
        if (to->type == TOML_TABLE) {
            CLEANUP(buf_deinit) struct buf key = BUF_INIT(LIMIT_STORED_DEFINITION);
            if (json_unescape(&key, node->key) != 0)
                l->error = -ENOMEM;
            child->key = copy_text(l, buf_slice(&key));
            inner.key = child->key;
        }
        read_value(reading, &inner, node, child);
        to->n_children++;
    }
}

static void read_value(struct reading *reading, const struct place *place,
                       const struct json_node *from, struct toml_node *to) {
    to->at = to->key_at = position_of(reading->index);
    switch (from->type) {
    case JSON_NULL:
        problem_of(reading->l, CONFIG_ERROR, to->at, place,
                   "must not be null; what is not set is left out");
        break;
    case JSON_FALSE:
    case JSON_TRUE:
        to->type = TOML_BOOL;
        to->boolean = from->type == JSON_TRUE;
        break;
    case JSON_NUMBER:
        read_number_of(from, to);
        break;
    case JSON_STRING:
        read_string(reading, from, to);
        break;
    case JSON_OBJECT:
    case JSON_ARRAY:
        read_members(reading, place, from, to);
        break;
    }
}

/* False: it is none; that was said. */
static bool read_definition(struct loader *l, struct json_reader *reader, size_t index,
                            const struct place *servers, struct toml_node *to) {
    static const struct json_limits limits = {
        .max_depth = 16, .max_keys = LIMIT_STORED_VALUES, .max_nodes = LIMIT_STORED_VALUES};
    const struct config_stored *stored = &l->stored->list.items[index];
    struct place place = {.up = servers, .key = stored->name};
    struct json_error why = {.reason = ""};
    struct toml_position at = position_of(index);
    int error = stored->definition.len > LIMIT_STORED_DEFINITION
                    ? -E2BIG
                    : json_read(reader, stored->definition, &want_all, &limits, &why);
    if (error == -ENOMEM)
        l->error = error;
    else if (error < 0)
        problem_of(l, CONFIG_ERROR, at, &place, "is longer than %zu KiB",
                   LIMIT_STORED_DEFINITION / KIB(1));
    else if (error > 0)
        problem_of(l, CONFIG_ERROR, at, &place, "is not valid JSON: %s", why.reason);
    else if (json_root(reader)->type != JSON_OBJECT)
        problem_of(l, CONFIG_ERROR, at, &place, "must be a JSON object");
    if (error != 0 || json_root(reader)->type != JSON_OBJECT)
        return false;
    struct reading reading = {.l = l, .reader = reader, .index = index};
    to->key = copy_text(l, stored->name);
    read_value(&reading, &place, json_root(reader), to);
    struct stored_item *item = &l->stored->items[index];
    item->needs = (reading.has_templates ? CONFIG_NEEDS_SECRETS : 0u) |
                  (toml_get(to, "cmd") != NULL ? CONFIG_NEEDS_COMMANDS : 0u);
    return item->kind == CONFIG_STORED_SERVED;
}

/* --- the tree --- */

/* The table of that key, made where there is none, with room for `more` children. NULL: it is no
 * table, which the walk will say. */
static struct toml_node *grow(struct loader *l, struct toml_node *table, const char *key,
                              size_t more) {
    struct toml_node *found = (struct toml_node *)(uintptr_t)toml_get(table, key);
    if (found == NULL) {
        found = &table->children[table->n_children++];
        *found = (struct toml_node){.type = TOML_TABLE, .key = slice_from_cstr(key)};
    }
    if (found->type != TOML_TABLE)
        return NULL;
    struct toml_node *children =
        arena_alloc_array(l->tree, found->n_children + more, sizeof *children);
    if (lacks_memory(l, children))
        return NULL;
    if (found->n_children != 0)
        memcpy(children, found->children, found->n_children * sizeof *children);
    found->children = children;
    return found;
}

static bool has_server(const struct toml_node *servers, size_t n_file, struct slice name) {
    for (size_t i = 0; i < n_file; i++) {
        if (slice_eq(servers->children[i].key, name))
            return true;
    }
    return false;
}

static void add_all(struct loader *l, struct toml_node *servers) {
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    struct place mcp = {.key = SLICE("mcp")}, place = {.up = &mcp, .key = SLICE("servers")};
    size_t n_file = servers->n_children;
    l->error = json_reader_new(&reader);
    for (size_t i = 0; i < l->stored->list.n && l->error == 0; i++) {
        const struct config_stored *stored = &l->stored->list.items[i];
        struct stored_item *item = &l->stored->items[i];
        struct toml_node *child = &servers->children[servers->n_children];
        *child = (struct toml_node){.type = TOML_TABLE};
        if (item->kind == CONFIG_STORED_INVALID)
            continue;
        item->kind = has_server(servers, n_file, stored->name) ? CONFIG_STORED_SHADOWED
                     : stored->is_disabled                     ? CONFIG_STORED_DISABLED
                                                               : CONFIG_STORED_SERVED;
        if (item->kind == CONFIG_STORED_SERVED && read_definition(l, reader, i, &place, child))
            servers->n_children++;
    }
}

/* Once; every pass works on what was got then. */
static bool ask(struct loader *l) {
    struct stored *stored = l->stored;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(4));
    if (stored->is_asked)
        return stored->list.n != 0;
    int r = l->resolvers->stored_fn == NULL
                ? 0
                : l->resolvers->stored_fn(l->resolvers->context, l->config, &stored->list, &reason);
    stored->is_asked = r == 0;
    if (r < 0)
        l->error = r;
    else if (r != 0)
        problem_at(l, r == CONFIG_STORED_HIDDEN ? CONFIG_WARNING : CONFIG_ERROR,
                   (struct toml_position){0, 0},
                   "the upstreams of the store are not known here: %.*s",
                   SLICE_ARGS(buf_slice(&reason)));
    if (r != 0 || stored->list.n == 0)
        return false;
    stored->items = mem_alloc(stored->list.n * sizeof *stored->items);
    if (lacks_memory(l, stored->items))
        return false;
    for (size_t i = 0; i < stored->list.n; i++)
        stored->items[i] = (struct stored_item){.reason = BUF_INIT(KIB(8))};
    return true;
}

void stored_graft(struct loader *l, struct toml_node *root) {
    if (l->store_is_broken || !ask(l))
        return;
    struct toml_node *copy = arena_alloc_array(l->tree, root->n_children + 1, sizeof *copy);
    if (lacks_memory(l, copy))
        return;
    if (root->n_children != 0)
        memcpy(copy, root->children, root->n_children * sizeof *copy);
    root->children = copy;
    struct toml_node *mcp = grow(l, root, "mcp", 1);
    struct toml_node *servers = mcp != NULL ? grow(l, mcp, "servers", l->stored->list.n + 1) : NULL;
    if (servers != NULL)
        add_all(l, servers);
}

void stored_load(struct loader *l, const struct toml_node *root) {
    const struct toml_node *servers = toml_get(toml_get(root, "mcp"), "servers");
    struct place mcp = {.key = SLICE("mcp")}, place = {.up = &mcp, .key = SLICE("servers")};
    size_t index;
    for (size_t i = 0; servers != NULL && i < servers->n_children && l->error == 0; i++) {
        struct place inner = {.up = &place, .key = servers->children[i].key};
        if (!stored_is_at(servers->children[i].key_at, &index))
            continue;
        l->is_stored = true;
        l->stored_text = 0;
        load_server(l, &inner, &servers->children[i]);
        l->is_stored = false;
    }
}

/* --- what is wrong --- */

/* Without the "mcp.servers.NAME." that everything in a file is named by. */
static void append_plain(struct buf *out, struct slice message, struct slice name) {
    CLEANUP(buf_deinit) struct buf prefix = BUF_INIT(KIB(1));
    struct slice servers = SLICE("mcp.servers.");
    buf_append(&prefix, servers);
    buf_append(&prefix, name);
    buf_append_byte(&prefix, '.');
    struct slice whole = buf_slice(&prefix);
    size_t at = slice_find(message, whole);
    if (at == SIZE_MAX) {
        whole = servers;
        at = slice_find(message, whole);
    }
    if (at == SIZE_MAX) {
        buf_append(out, message);
        return;
    }
    buf_append(out, slice_sub(message, 0, at));
    buf_append(out, slice_from(message, at + whole.len));
}

void stored_problem(struct loader *l, size_t index, enum config_severity severity,
                    struct slice message) {
    struct stored_item *item = &l->stored->items[index];
    if (severity == CONFIG_WARNING) {
        if (l->error == 0)
            l->error = problem_add(l->problems, severity, SLICE("store"),
                                   (struct toml_position){0, 0}, message);
        return;
    }
    l->n_errors++;
    l->n_stored_errors++;
    item->is_new = item->is_new || item->kind == CONFIG_STORED_SERVED;
    item->kind = CONFIG_STORED_INVALID;
    if (buf_error(&item->reason) != 0)
        return; /* there is more than anybody reads */
    if (buf_len(&item->reason) != 0)
        buf_append_cstr(&item->reason, "; ");
    append_plain(&item->reason, message, l->stored->list.items[index].name);
}

bool stored_needs_pass(struct stored *stored) {
    bool needs = false;
    for (size_t i = 0; i < stored->list.n && stored->items != NULL; i++) {
        needs = needs || stored->items[i].is_new;
        stored->items[i].is_new = false;
    }
    return needs;
}

static unsigned needs_of(const struct config *config, struct slice name) {
    for (size_t i = 0; i < config->n_servers; i++) {
        const struct config_server *server = &config->servers[i];
        bool asks = server->auth_type == CONFIG_UPSTREAM_AUTH_FORWARD ||
                    server->auth_type == CONFIG_UPSTREAM_AUTH_EXCHANGE;
        if (!slice_eq(server->name, name))
            continue;
        for (size_t k = 0; k < server->n_headers; k++)
            asks = asks || server->headers[k].kind == CONFIG_HEADER_FORWARD ||
                   server->headers[k].kind == CONFIG_HEADER_RENAME_DUPLICATE;
        return asks ? CONFIG_NEEDS_CALLERS : 0u;
    }
    return 0;
}

static void tell_left_out(struct loader *l, const struct config_stored_upstream *upstream) {
    CLEANUP(buf_deinit) struct buf message = BUF_INIT(KIB(16));
    buf_printf(&message, "the upstream %.*s is left out: %.*s", SLICE_ARGS(upstream->name),
               SLICE_ARGS(upstream->reason));
    if (l->error == 0)
        l->error = problem_add(l->problems, CONFIG_ERROR, SLICE("store"),
                               (struct toml_position){0, 0}, buf_slice(&message));
}

void stored_finish(struct loader *l) {
    struct config *config = l->config;
    const struct stored *stored = l->stored;
    config->stored_mark = arena_dup(&config->arena, stored->list.mark);
    config->stored = arena_alloc_array(&config->arena, stored->list.n + 1, sizeof *config->stored);
    if (lacks_memory(l, config->stored) || lacks_memory(l, config->stored_mark.ptr))
        return;
    for (size_t i = 0; i < stored->list.n && stored->items != NULL && l->error == 0; i++) {
        const struct stored_item *item = &stored->items[i];
        struct config_stored_upstream *upstream = &config->stored[config->n_stored++];
        upstream->name = arena_dup(&config->arena, stored->list.items[i].name);
        upstream->kind = item->kind;
        upstream->reason = arena_dup(&config->arena, buf_slice(&item->reason));
        upstream->needs = item->needs | needs_of(config, upstream->name);
        if (lacks_memory(l, upstream->name.ptr) || lacks_memory(l, upstream->reason.ptr))
            return;
        if (item->kind == CONFIG_STORED_INVALID)
            tell_left_out(l, upstream);
    }
}
