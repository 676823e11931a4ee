#include "upstream/catalog.h"

#include <errno.h>

#include "base/checked.h"
#include "base/limits.h"
#include "base/mem.h"
#include "json/writer.h"
#include "mcp/bridge.h"
#include "mcp/name.h"
#include "shape.h"

/* All definitions of one list together. */
#define LIST_BYTES MIB(64)
#define INFO_BYTES KIB(256)

enum { MAX_TOLD = 100 }; /* items left out of a list that the log names */

struct catalog_list *catalog_list_new(void) {
    struct catalog_list *list = mem_xalloc(sizeof *list);
    atomic_init(&list->refs, 1);
    list->ttl_ms = UINT64_MAX;
    arena_init(&list->arena, LIST_BYTES);
    map_init(&list->by_own);
    map_init(&list->by_exposed);
    return list;
}

struct catalog_list *catalog_list_ref(struct catalog_list *list) {
    atomic_fetch_add(&list->refs, 1);
    return list;
}

struct catalog_list *catalog_list_unref(struct catalog_list *list) {
    if (list != NULL && atomic_fetch_sub(&list->refs, 1) == 1) {
        map_deinit(&list->by_own);
        map_deinit(&list->by_exposed);
        arena_deinit(&list->arena);
        mem_free(list->items);
        mem_free(list);
    }
    return NULL;
}

bool catalog_list_equal(const struct catalog_list *a, const struct catalog_list *b) {
    if (a->n_items != b->n_items)
        return false;
    for (size_t i = 0; i < a->n_items; i++) {
        if (!slice_eq(a->items[i].json, b->items[i].json))
            return false;
    }
    return true;
}

static void drop(struct catalog_list *list, struct log *log, struct slice upstream,
                 const struct mcp_list_info *info, struct slice key, const char *reason) {
    if (list->n_dropped++ == MAX_TOLD)
        log_write(log, LOG_WARN, "catalog", "left out more items, which are not named",
                  LOG_TEXT("upstream", upstream), LOG_TEXT("list", info->result_key));
    if (list->n_dropped > MAX_TOLD)
        return;
    log_write(log, LOG_WARN, "catalog", "left an item out of a list",
              LOG_TEXT("upstream", upstream), LOG_TEXT("list", info->result_key),
              LOG_TEXT("item", key), LOG_CSTR("reason", reason));
}

static int grow(struct catalog_list *list) {
    if (list->n_items < list->cap_items)
        return 0;
    size_t cap = list->cap_items != 0 ? list->cap_items * 2 : 16;
    struct catalog_item *items = mem_realloc(list->items, cap * sizeof *items);
    if (items == NULL)
        return -ENOMEM;
    list->items = items;
    list->cap_items = cap;
    return 0;
}

/* Unescapes a string into the arena. -E2BIG when it is longer than `max`, -ENOMEM. */
static int own_string(struct arena *arena, const struct json_node *node, size_t max,
                      struct slice *ret_owned) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(max);
    int error = json_string_append(&text, node);
    if (error != 0)
        return error;
    struct slice owned = arena_dup(arena, buf_slice(&text));
    if (owned.ptr == NULL)
        return -ENOMEM;
    *ret_owned = owned;
    return 0;
}

/* What clients see, in the form with or without the upstream's prefix. */
static int own_name(struct catalog_list *list, struct slice upstream, struct slice key,
                    struct slice *ret_owned) {
    struct buf name CLEANUP(buf_deinit) = BUF_INIT(LIMIT_EXPOSED_NAME);
    int error = mcp_expose_name(&name, upstream, key);
    if (error != 0)
        return error;
    struct slice owned = arena_dup(&list->arena, buf_slice(&name));
    if (owned.ptr == NULL)
        return -ENOMEM;
    *ret_owned = owned;
    return 0;
}

static struct slice own_copy(struct catalog_list *list, const struct buf *text) {
    return arena_dup(&list->arena, buf_slice(text));
}

/* The definition as clients of the other era want it, where that differs. */
static int add_other_form(struct catalog_list *list, struct json_reader *reader,
                          const struct catalog_source *source, struct catalog_item *item) {
    enum mcp_revision other =
        mcp_revision_is_modern(source->revision) ? MCP_LEGACY_LATEST : MCP_2026_07_28;
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(LIMIT_DEFINITION + KIB(16));
    bool is_changed = false;
    int error = mcp_bridge_tool(&text, reader, item->json, source->revision, other, &is_changed);
    if (error != 0 || !is_changed)
        return error;
    item->other_json = own_copy(list, &text);
    if (item->other_json.ptr == NULL)
        return -ENOMEM;
    if (json_read(reader, item->other_json, &json_want_root, NULL, NULL) != 0)
        return -ENOMEM;
    const struct json_node *name =
        json_member_typed(reader, json_root(reader), SLICE("name"), JSON_STRING);
    if (name == NULL)
        return -EINVAL; /* shape_check() has seen one */
    item->other_name = name->raw;
    return 0;
}

/*
 * What a tool has beyond its name, in a second pass, because it takes the reader. Positive:
 * *ret_problem says why clients cannot be shown the tool.
 */
static int complete_tool(struct catalog_list *list, struct json_reader *reader,
                         const struct catalog_source *source, struct catalog_item *item,
                         const char **ret_problem) {
    if (json_read(reader, item->json, &json_want_root, NULL, NULL) != 0)
        return -ENOMEM;
    const struct json_node *schema =
        json_member_typed(reader, json_root(reader), SLICE("inputSchema"), JSON_OBJECT);
    struct slice input_schema = schema != NULL ? schema->raw : SLICE_EMPTY;
    int error = mcp_mirrors_read(&item->mirrors, &list->arena, reader, input_schema, ret_problem);
    if (error < 0)
        return error;
    /* MCP 2026-07-28: clients over HTTP leave out a tool with a wrong annotation. To others it is
     * a word that means nothing. */
    if (error > 0) {
        item->mirrors = (struct mcp_mirrors){0};
        if (source->is_http && mcp_revision_is_modern(source->revision))
            return error;
    }
    return add_other_form(list, reader, source, item);
}

static int complete_tools(struct catalog_list *list, size_t from, struct json_reader *reader,
                          const struct catalog_source *source) {
    const struct mcp_list_info *info = mcp_list_info(source->kind);
    size_t n = from;
    for (size_t i = from; i < list->n_items; i++) {
        struct catalog_item *item = &list->items[i];
        const char *problem = "";
        int error = complete_tool(list, reader, source, item, &problem);
        if (error < 0)
            return error;
        if (error == 0) {
            list->items[n++] = *item;
            continue;
        }
        drop(list, source->log, source->upstream, info, item->key, problem);
        map_remove(&list->by_own, item->own);
        map_remove(&list->by_exposed, item->exposed);
    }
    list->n_items = n;
    return 0;
}

static int add_item(struct catalog_list *list, const struct catalog_source *source,
                    const struct json_reader *reader, const struct json_node *node) {
    enum mcp_list kind = source->kind;
    struct slice upstream = source->upstream;
    struct log *log = source->log;
    const struct mcp_list_info *info = mcp_list_info(kind);
    const char *problem = node->raw.len > LIMIT_DEFINITION
                              ? "its definition is longer than 256 KiB"
                              : shape_check(reader, node, kind, source->revision);
    const struct json_node *key_node = json_member(reader, node, info->item_key);
    if (problem != NULL) {
        drop(list, log, upstream, info,
             key_node != NULL ? slice_sub(key_node->raw, 0, 100) : SLICE_EMPTY, problem);
        return 0;
    }
    struct slice key = SLICE_EMPTY;
    int error = own_string(&list->arena, key_node, LIMIT_URI_LENGTH, &key);
    if (error == -ENOMEM)
        return error;
    problem = error != 0 ? "what identifies it is too long" : shape_check_key(key, kind);
    if (problem != NULL) {
        drop(list, log, upstream, info, key, problem);
        return 0;
    }
    if (list->n_items >= LIMIT_TOOLS_PER_UPSTREAM) {
        drop(list, log, upstream, info, key, "the list is longer than 1,000 items");
        return 0;
    }
    struct catalog_item item = {.key = key, .own = key, .exposed = key};
    if (info->is_named) {
        error = own_name(list, SLICE_EMPTY, key, &item.own);
        if (error == 0)
            error = own_name(list, upstream, key, &item.exposed);
        if (error != 0)
            return error;
    }
    if (map_has(&list->by_own, item.own) || map_has(&list->by_exposed, item.exposed)) {
        drop(list, log, upstream, info, key, "the list has it already");
        return 0;
    }
    item.json = arena_dup(&list->arena, node->raw);
    if (arena_failed(&list->arena) || grow(list) != 0)
        return -ENOMEM;
    item.name = slice_make(item.json.ptr + (key_node->raw.ptr - node->raw.ptr), key_node->raw.len);
    list->items[list->n_items++] = item;
    /* The maps get their pointers when the list no longer moves; until then they tell duplicates.
     */
    if (map_set(&list->by_own, item.own, list) != 0 ||
        map_set(&list->by_exposed, item.exposed, list) != 0)
        return -ENOMEM;
    return 0;
}

/* Points the maps at the items, which stay where they are from now on. All of them, whatever fails:
 * a list that was cut is served as far as it goes. */
static int index_items(struct catalog_list *list) {
    int error = 0;
    for (size_t i = 0; i < list->n_items; i++) {
        struct catalog_item *item = &list->items[i];
        if (map_set(&list->by_own, item->own, item) != 0 ||
            map_set(&list->by_exposed, item->exposed, item) != 0)
            error = -ENOMEM;
    }
    return error;
}

static const struct json_want want_nothing[] = {{0}};
static const struct json_want want_items[] = {{"*", shape_want_item}, {0}};
static const struct json_want want_page[MCP_LIST_COUNT][2] = {
    [MCP_LIST_TOOLS] = {{"tools", want_items}, {0}},
    [MCP_LIST_PROMPTS] = {{"prompts", want_items}, {0}},
    [MCP_LIST_RESOURCES] = {{"resources", want_items}, {0}},
    [MCP_LIST_TEMPLATES] = {{"resourceTemplates", want_items}, {0}},
};

static int read_result(struct json_reader *reader, struct slice result,
                       const struct json_want *children, const char **ret_reason) {
    struct json_error json_error = {0};
    struct json_want want = {.children = children};
    int error = json_read(reader, result, &want, NULL, &json_error);
    if (error > 0)
        *ret_reason = json_error.reason;
    return error > 0 ? CATALOG_E_INVALID : error;
}

/* A hint of 2026-07-28; without it, as with a negative one, nothing is fresh. */
static uint64_t read_ttl(const struct json_reader *reader, enum mcp_revision revision) {
    int64_t ttl = 0;
    if (!mcp_revision_is_modern(revision))
        return UINT64_MAX;
    const struct json_node *node = json_member(reader, json_root(reader), SLICE("ttlMs"));
    if (node == NULL || json_to_i64(node, &ttl) != 0 || ttl < 0)
        return 0;
    return (uint64_t)ttl;
}

int catalog_list_add_page(struct catalog_list *list, const struct catalog_source *source,
                          struct slice result, struct json_reader *reader, struct buf *next_cursor,
                          const char **ret_reason) {
    enum mcp_list kind = source->kind;
    const struct mcp_list_info *info = mcp_list_info(kind);
    int error = read_result(reader, result, want_page[kind], ret_reason);
    if (error != 0)
        return error;
    const struct json_node *items =
        json_member_typed(reader, json_root(reader), info->result_key, JSON_ARRAY);
    if (items == NULL) {
        *ret_reason = "the result has no array of items";
        return CATALOG_E_INVALID;
    }
    size_t n_before = list->n_items;
    uint64_t ttl_ms = read_ttl(reader, source->revision);
    for (const struct json_node *node = json_first(reader, items); node != NULL && error == 0;
         node = json_next(reader, node))
        error = add_item(list, source, reader, node);
    const struct json_node *cursor =
        json_member_typed(reader, json_root(reader), SLICE("nextCursor"), JSON_STRING);
    if (cursor != NULL && error == 0)
        error = buf_append(next_cursor, cursor->raw);
    if (kind == MCP_LIST_TOOLS && error == 0)
        error = complete_tools(list, n_before, reader, source);
    if (ttl_ms < list->ttl_ms)
        list->ttl_ms = ttl_ms;
    int index_error = index_items(list);
    return error != 0 ? error : index_error;
}

struct catalog *catalog_new(const struct catalog *from) {
    struct catalog *catalog = mem_xalloc(sizeof *catalog);
    atomic_init(&catalog->refs, 1);
    arena_init(&catalog->arena, INFO_BYTES);
    for (size_t i = 0; i < MCP_LIST_COUNT; i++)
        catalog->lists[i] = from != NULL ? catalog_list_ref(from->lists[i]) : catalog_list_new();
    if (from != NULL) {
        catalog->revision = from->revision;
        catalog->declared = from->declared;
        catalog->has_completions = from->has_completions;
        catalog->has_logging = from->has_logging;
        catalog->server_name = arena_dup(&catalog->arena, from->server_name);
        catalog->server_version = arena_dup(&catalog->arena, from->server_version);
        catalog->instructions = arena_dup(&catalog->arena, from->instructions);
    }
    return catalog;
}

struct catalog *catalog_ref(struct catalog *catalog) {
    atomic_fetch_add(&catalog->refs, 1);
    return catalog;
}

struct catalog *catalog_unref(struct catalog *catalog) {
    if (catalog != NULL && atomic_fetch_sub(&catalog->refs, 1) == 1) {
        for (size_t i = 0; i < MCP_LIST_COUNT; i++)
            catalog_list_unref(catalog->lists[i]);
        arena_deinit(&catalog->arena);
        mem_free(catalog);
    }
    return NULL;
}

void catalog_unrefp(struct catalog **catalog) {
    *catalog = catalog_unref(*catalog);
}

void catalog_set_list(struct catalog *catalog, enum mcp_list kind, struct catalog_list *list) {
    catalog_list_unref(catalog->lists[kind]);
    catalog->lists[kind] = list;
}

static struct slice own_member(struct catalog *catalog, const struct json_reader *reader,
                               const struct json_node *object, struct slice key) {
    const struct json_node *node =
        object != NULL ? json_member_typed(reader, object, key, JSON_STRING) : NULL;
    struct slice text = SLICE_EMPTY;
    if (node != NULL && own_string(&catalog->arena, node, KIB(32), &text) != 0)
        return SLICE_EMPTY;
    return text;
}

/* What the server has, by its capabilities. */
static unsigned read_capabilities(struct catalog *catalog, const struct json_reader *reader,
                                  const struct json_node *root) {
    const struct json_node *capabilities =
        json_member_typed(reader, root, SLICE("capabilities"), JSON_OBJECT);
    unsigned mask = 0;
    for (unsigned i = 0; capabilities != NULL && i < MCP_LIST_COUNT; i++) {
        if (json_member(reader, capabilities, mcp_list_info((enum mcp_list)i)->capability) != NULL)
            mask |= 1u << i;
    }
    if (capabilities != NULL) {
        catalog->has_logging = json_member(reader, capabilities, SLICE("logging")) != NULL;
        catalog->has_completions = json_member(reader, capabilities, SLICE("completions")) != NULL;
    }
    catalog->declared = mask;
    return mask;
}

static void read_server(struct catalog *catalog, const struct json_reader *reader,
                        const struct json_node *info) {
    catalog->server_name = own_member(catalog, reader, info, SLICE("name"));
    catalog->server_version = own_member(catalog, reader, info, SLICE("version"));
    catalog->instructions = own_member(catalog, reader, json_root(reader), SLICE("instructions"));
}

int catalog_read_initialize(struct catalog *catalog, struct slice result,
                            struct json_reader *reader, unsigned *ret_list_mask,
                            const char **ret_reason) {
    static const struct json_want want[] = {
        {"capabilities", want_nothing},
        {"serverInfo", want_nothing},
        {0},
    };
    int error = read_result(reader, result, want, ret_reason);
    if (error != 0)
        return error;
    const struct json_node *root = json_root(reader);
    const struct json_node *version =
        json_member_typed(reader, root, SLICE("protocolVersion"), JSON_STRING);
    enum mcp_revision revision =
        version != NULL ? mcp_revision_parse(json_string_raw(version)) : MCP_REVISION_NONE;
    if (revision == MCP_REVISION_NONE || revision > MCP_LEGACY_LATEST) {
        *ret_reason =
            "it answered initialize with a protocol version that the gateway does not speak";
        return CATALOG_E_INVALID;
    }
    catalog->revision = revision;
    read_server(catalog, reader, json_member_typed(reader, root, SLICE("serverInfo"), JSON_OBJECT));
    *ret_list_mask = read_capabilities(catalog, reader, root);
    return 0;
}

int catalog_read_discover(struct catalog *catalog, struct slice result, struct json_reader *reader,
                          unsigned *ret_list_mask, const char **ret_reason) {
    static const struct json_want want_meta[] = {
        {"io.modelcontextprotocol/serverInfo", want_nothing},
        {0},
    };
    static const struct json_want want[] = {
        {"capabilities", want_nothing},
        {"supportedVersions", want_nothing},
        {"_meta", want_meta},
        {0},
    };
    int error = read_result(reader, result, want, ret_reason);
    if (error != 0)
        return error;
    const struct json_node *root = json_root(reader);
    const struct json_node *versions =
        json_member_typed(reader, root, SLICE("supportedVersions"), JSON_ARRAY);
    enum mcp_revision revision = MCP_REVISION_NONE;
    for (const struct json_node *node = versions != NULL ? json_first(reader, versions) : NULL;
         node != NULL; node = json_next(reader, node)) {
        enum mcp_revision found = mcp_revision_parse(json_string_raw(node));
        if (mcp_revision_is_modern(found) && found > revision)
            revision = found;
    }
    if (revision == MCP_REVISION_NONE) {
        *ret_reason = "it names no protocol version of 2026-07-28 that the gateway speaks";
        return CATALOG_E_INVALID;
    }
    const struct json_node *meta = json_member_typed(reader, root, SLICE("_meta"), JSON_OBJECT);
    catalog->revision = revision;
    read_server(catalog, reader,
                meta != NULL ? json_member_typed(reader, meta, MCP_META_SERVER_INFO, JSON_OBJECT)
                             : NULL);
    *ret_list_mask = read_capabilities(catalog, reader, root);
    return 0;
}

const struct catalog_item *catalog_find(const struct catalog *catalog, enum mcp_list kind,
                                        struct slice name, bool exposed) {
    const struct catalog_list *list = catalog->lists[kind];
    return map_get(exposed ? &list->by_exposed : &list->by_own, name);
}

const struct catalog_item *catalog_find_template(const struct catalog *catalog, struct slice uri) {
    const struct catalog_list *list = catalog->lists[MCP_LIST_TEMPLATES];
    for (size_t i = 0; i < list->n_items; i++) {
        if (mcp_template_matches(list->items[i].key, uri))
            return &list->items[i];
    }
    return NULL;
}

int catalog_item_write(struct buf *out, const struct catalog *catalog,
                       const struct catalog_item *item, bool exposed, enum mcp_revision to) {
    bool is_other = item->other_json.len != 0 &&
                    mcp_revision_is_modern(catalog->revision) != mcp_revision_is_modern(to);
    struct slice json = is_other ? item->other_json : item->json;
    struct slice own_name = is_other ? item->other_name : item->name;
    struct slice name = exposed ? item->exposed : item->own;
    if (slice_eq(item->key, name))
        return buf_append(out, json);
    const char *behind = own_name.ptr + own_name.len;
    buf_append(out, slice_make(json.ptr, (size_t)(own_name.ptr - json.ptr)));
    buf_append_byte(out, '"');
    json_escape(out, name);
    buf_append_byte(out, '"');
    return buf_append(out, slice_make(behind, (size_t)(json.ptr + json.len - behind)));
}
