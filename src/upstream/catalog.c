#include "upstream/catalog.h"

#include <errno.h>

#include "base/checked.h"
#include "base/limits.h"
#include "base/mem.h"
#include "json/writer.h"
#include "mcp/name.h"
#include "shape.h"

/* All definitions of one list together. */
#define LIST_BYTES MIB(64)
#define INFO_BYTES KIB(256)

enum { MAX_TOLD = 100 }; /* items left out of a list that the log names */

struct catalog_list *catalog_list_new(void) {
    struct catalog_list *list = mem_xalloc(sizeof *list);
    atomic_init(&list->refs, 1);
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

static int add_item(struct catalog_list *list, enum mcp_list kind, struct slice upstream,
                    const struct json_reader *reader, const struct json_node *node,
                    struct log *log) {
    const struct mcp_list_info *info = mcp_list_info(kind);
    const char *problem = node->raw.len > LIMIT_DEFINITION ? "its definition is longer than 256 KiB"
                                                           : shape_check(reader, node, kind);
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

int catalog_list_add_page(struct catalog_list *list, enum mcp_list kind, struct slice upstream,
                          struct slice result, struct json_reader *reader, struct log *log,
                          struct buf *next_cursor, const char **ret_reason) {
    const struct mcp_list_info *info = mcp_list_info(kind);
    struct json_error json_error = {0};
    int error = json_read(reader, result, &(struct json_want){.children = want_page[kind]}, NULL,
                          &json_error);
    if (error < 0)
        return error;
    if (error != 0) {
        *ret_reason = json_error.reason;
        return CATALOG_E_INVALID;
    }
    const struct json_node *items =
        json_member_typed(reader, json_root(reader), info->result_key, JSON_ARRAY);
    if (items == NULL) {
        *ret_reason = "the result has no array of items";
        return CATALOG_E_INVALID;
    }
    for (const struct json_node *node = json_first(reader, items); node != NULL && error == 0;
         node = json_next(reader, node))
        error = add_item(list, kind, upstream, reader, node, log);
    int index_error = index_items(list);
    if (error != 0 || index_error != 0)
        return error != 0 ? error : index_error;
    const struct json_node *cursor =
        json_member_typed(reader, json_root(reader), SLICE("nextCursor"), JSON_STRING);
    if (cursor != NULL)
        error = buf_append(next_cursor, cursor->raw);
    return error;
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

int catalog_read_initialize(struct catalog *catalog, struct slice result,
                            struct json_reader *reader, unsigned *ret_list_mask,
                            const char **ret_reason) {
    static const struct json_want want[] = {
        {"capabilities", want_nothing},
        {"serverInfo", want_nothing},
        {0},
    };
    struct json_error json_error = {0};
    int error = json_read(reader, result, &(struct json_want){.children = want}, NULL, &json_error);
    if (error != 0) {
        *ret_reason = json_error.reason;
        return error < 0 ? error : CATALOG_E_INVALID;
    }
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
    const struct json_node *capabilities =
        json_member_typed(reader, root, SLICE("capabilities"), JSON_OBJECT);
    const struct json_node *info =
        json_member_typed(reader, root, SLICE("serverInfo"), JSON_OBJECT);
    catalog->revision = revision;
    catalog->server_name = own_member(catalog, reader, info, SLICE("name"));
    catalog->server_version = own_member(catalog, reader, info, SLICE("version"));
    catalog->instructions = own_member(catalog, reader, root, SLICE("instructions"));
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
    *ret_list_mask = mask;
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

int catalog_item_write(struct buf *out, const struct catalog_item *item, bool exposed) {
    struct slice name = exposed ? item->exposed : item->own;
    if (slice_eq(item->key, name))
        return buf_append(out, item->json);
    const char *behind = item->name.ptr + item->name.len;
    buf_append(out, slice_make(item->json.ptr, (size_t)(item->name.ptr - item->json.ptr)));
    buf_append_byte(out, '"');
    json_escape(out, name);
    buf_append_byte(out, '"');
    return buf_append(out, slice_make(behind, (size_t)(item->json.ptr + item->json.len - behind)));
}
