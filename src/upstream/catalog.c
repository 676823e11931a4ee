#include "upstream/catalog.h"

#include <errno.h>

#include "base/checked.h"
#include "base/limits.h"
#include "base/mem.h"
#include "list.h"
#include "mcp/capabilities.h"
#include "mcp/name.h"

#define INFO_BYTES KIB(256)

struct catalog_list *catalog_list_new(void) {
    struct catalog_list *list = mem_xalloc(sizeof *list);
    atomic_init(&list->refs, 1);
    list->cache = (struct mcp_cache){.ttl_ms = UINT64_MAX, .is_public = true};
    arena_init(&list->arena, LIST_BYTES);
    buf_init(&list->bytes, LIST_BYTES);
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
        list_text_free(list);
        mem_free(list->items);
        mem_free(list);
    }
    return NULL;
}

bool catalog_list_equal(const struct catalog_list *a, const struct catalog_list *b) {
    if (a->n_items != b->n_items || !slice_eq(buf_slice(&a->bytes), buf_slice(&b->bytes)))
        return false;
    for (size_t i = 0; i < a->n_items; i++) {
        if (!slice_eq(a->items[i].own_token, b->items[i].own_token))
            return false;
    }
    return true;
}

static const struct json_want want_nothing[] = {{0}};
/* Unescapes a string into the arena. -E2BIG when it is longer than `max`, -ENOMEM. */
int catalog_own_string(struct arena *arena, const struct json_node *node, size_t max,
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

int catalog_read_object(struct json_reader *reader, struct slice result,
                        const struct json_want *children, const char **ret_reason) {
    struct json_error json_error = {0};
    struct json_want want = {.children = children};
    int error = json_read(reader, result, &want, NULL, &json_error);
    if (error > 0)
        *ret_reason = json_error.reason;
    return error > 0 ? CATALOG_E_INVALID : error;
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
        catalog->telling = from->telling;
        catalog->has_subscriptions = from->has_subscriptions;
        catalog->cache = from->cache;
        catalog->fresh_until_ms = from->fresh_until_ms;
        catalog->tasks = from->tasks;
        catalog->server_name = arena_dup(&catalog->arena, from->server_name);
        catalog->server_version = arena_dup(&catalog->arena, from->server_version);
        catalog->instructions = arena_dup(&catalog->arena, from->instructions);
        catalog->capabilities = arena_dup(&catalog->arena, from->capabilities);
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
    if (node != NULL && catalog_own_string(&catalog->arena, node, KIB(32), &text) != 0)
        return SLICE_EMPTY;
    return text;
}

static bool says(const struct json_reader *reader, const struct json_node *capability,
                 struct slice key) {
    return json_member_typed(reader, capability, key, JSON_TRUE) != NULL;
}

/* What of the path of objects is there. */
static const struct json_node *find_object(const struct json_reader *reader,
                                           const struct json_node *object, struct slice key) {
    return object != NULL ? json_member_typed(reader, object, key, JSON_OBJECT) : NULL;
}

static unsigned read_tasks(const struct json_reader *reader, const struct json_node *capabilities,
                           enum mcp_revision revision) {
    unsigned mask = 0;
    const struct json_node *extensions = find_object(reader, capabilities, SLICE("extensions"));
    const struct json_node *tasks = find_object(reader, capabilities, SLICE("tasks"));
    const struct json_node *requests = find_object(reader, tasks, SLICE("requests"));
    const struct json_node *tools = find_object(reader, requests, SLICE("tools"));
    if (mcp_revision_is_modern(revision))
        return find_object(reader, extensions, SLICE(MCP_EXTENSION_TASKS)) != NULL
                   ? CATALOG_TASK_EXTENSION
                   : 0;
    if (revision != MCP_2025_11_25)
        return 0;
    mask |= find_object(reader, tools, SLICE("call")) != NULL ? CATALOG_TASK_CALLS : 0;
    mask |= find_object(reader, tasks, SLICE("list")) != NULL ? CATALOG_TASK_LIST : 0;
    mask |= find_object(reader, tasks, SLICE("cancel")) != NULL ? CATALOG_TASK_CANCEL : 0;
    return mask;
}

/* What the server has, by its capabilities. */
static unsigned read_capabilities(struct catalog *catalog, const struct json_reader *reader,
                                  const struct json_node *root) {
    const struct json_node *capabilities =
        json_member_typed(reader, root, SLICE("capabilities"), JSON_OBJECT);
    unsigned mask = 0;
    catalog->telling = catalog->tasks = 0;
    catalog->has_subscriptions = false;
    for (unsigned i = 0; capabilities != NULL && i < MCP_LIST_COUNT; i++) {
        const struct json_node *capability =
            json_member(reader, capabilities, mcp_list_info((enum mcp_list)i)->capability);
        if (capability == NULL)
            continue;
        mask |= 1u << i;
        if (!capability->opened)
            continue;
        catalog->telling |= says(reader, capability, SLICE("listChanged")) ? 1u << i : 0;
        if (i == MCP_LIST_RESOURCES)
            catalog->has_subscriptions = says(reader, capability, SLICE("subscribe"));
    }
    if (capabilities != NULL) {
        catalog->has_logging = json_member(reader, capabilities, SLICE("logging")) != NULL;
        catalog->has_completions = json_member(reader, capabilities, SLICE("completions")) != NULL;
        if (capabilities->raw.len <= LIMIT_CAPABILITIES)
            catalog->capabilities = arena_dup(&catalog->arena, capabilities->raw);
        catalog->tasks = read_tasks(reader, capabilities, catalog->revision);
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

static const struct json_want want_task_tools[] = {{"tools", want_nothing}, {0}};
static const struct json_want want_task_requests[] = {{"requests", want_task_tools}, {0}};
static const struct json_want want_capabilities[] = {
    {"tools", want_nothing},       {"prompts", want_nothing},    {"resources", want_nothing},
    {"tasks", want_task_requests}, {"extensions", want_nothing}, {0},
};

int catalog_read_initialize(struct catalog *catalog, struct slice result,
                            struct json_reader *reader, unsigned *ret_list_mask,
                            const char **ret_reason) {
    static const struct json_want want[] = {
        {"capabilities", want_capabilities},
        {"serverInfo", want_nothing},
        {0},
    };
    int error = catalog_read_object(reader, result, want, ret_reason);
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
        {"capabilities", want_capabilities},
        {"supportedVersions", want_nothing},
        {"_meta", want_meta},
        {0},
    };
    int error = catalog_read_object(reader, result, want, ret_reason);
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
    catalog->cache = mcp_cache_read(reader, root);
    read_server(catalog, reader,
                meta != NULL ? json_member_typed(reader, meta, MCP_META_SERVER_INFO, JSON_OBJECT)
                             : NULL);
    *ret_list_mask = read_capabilities(catalog, reader, root);
    return 0;
}

const struct catalog_item *catalog_find(const struct catalog *catalog, enum mcp_list kind,
                                        struct slice name, bool exposed) {
    const struct catalog_list *list = catalog->lists[kind];
    return map_get(exposed && list->has_own_names ? &list->by_exposed : &list->by_own, name);
}

const struct catalog_item *catalog_find_template(const struct catalog *catalog, struct slice uri) {
    const struct catalog_list *list = catalog->lists[MCP_LIST_TEMPLATES];
    for (size_t i = 0; i < list->n_items; i++) {
        if (mcp_template_matches(list->items[i].key, uri))
            return &list->items[i];
    }
    return NULL;
}
