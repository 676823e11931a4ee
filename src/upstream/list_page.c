/*
 * Pages of an upstream's lists: each item is checked, named, and taken over or left out. What a
 * page brings is taken as a whole or, without memory, not at all.
 *
 * The items of a page are noted first, while the reader has it on its tape; some tools need a
 * second look, for which the reader is used again; then their texts are taken over.
 */
#include <errno.h>
#include <stdio.h>

#include "base/checked.h"
#include "base/mem.h"
#include "list.h"
#include "mcp/bridge.h"
#include "mcp/name.h"
#include "shape.h"

enum { MAX_TOLD = 100 }; /* items left out of a list that the log names */

static void drop(struct catalog_list *list, const struct catalog_source *source, struct slice key,
                 const char *reason) {
    struct slice kind = mcp_list_info(source->kind)->result_key;
    if (list->n_dropped++ == MAX_TOLD)
        log_write(source->log, LOG_WARN, "catalog", "left out more items, which are not named",
                  LOG_TEXT("upstream", source->upstream), LOG_TEXT("list", kind));
    if (list->n_dropped > MAX_TOLD)
        return;
    log_write(source->log, LOG_WARN, "catalog", "left an item out of a list",
              LOG_TEXT("upstream", source->upstream), LOG_TEXT("list", kind), LOG_TEXT("item", key),
              LOG_CSTR("reason", reason));
}

/* What is wrong with it is a limit of the configuration. */
static void drop_too_long(struct catalog_list *list, const struct catalog_source *source,
                          struct slice key, size_t len, uint64_t max) {
    char reason[160];
    snprintf(reason, sizeof reason,
             "its definition has %zu bytes, and mcp.servers.%.*s.max_definition is %llu", len,
             SLICE_ARGS(source->upstream), (unsigned long long)max);
    drop(list, source, key, reason);
}

/* Told once: all that comes behind is left out too. */
static void drop_too_many(struct catalog_list *list, const struct catalog_source *source,
                          uint64_t max) {
    char option[80];
    snprintf(option, sizeof option, "mcp.servers.%.*s.max_tools", SLICE_ARGS(source->upstream));
    list->n_dropped++;
    if (!list->is_full)
        log_write(source->log, LOG_WARN, "catalog", "left out the rest of a list: it is too long",
                  LOG_TEXT("upstream", source->upstream),
                  LOG_TEXT("list", mcp_list_info(source->kind)->result_key),
                  LOG_CSTR("limit", option), LOG_NUM("value", max));
    list->is_full = true;
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

/* What clients see, in the form with or without the upstream's prefix. */
static int own_name(struct catalog_list *list, struct slice upstream, struct slice key,
                    struct slice *ret_owned) {
    struct buf name CLEANUP(buf_deinit) = BUF_INIT(LIMIT_EXPOSED_NAME);
    int error = mcp_expose_name(&name, upstream, key);
    if (error != 0)
        return error;
    if (slice_eq(buf_slice(&name), key)) {
        *ret_owned = key;
        return 0;
    }
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
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(item->json.len + KIB(16));
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
    list->has_other_form = true;
    return 0;
}

static int read_mirrors(struct catalog_list *list, struct json_reader *reader,
                        struct catalog_item *item, const char **ret_problem) {
    if (json_read(reader, item->json, &json_want_root, NULL, NULL) != 0)
        return -ENOMEM;
    const struct json_node *schema =
        json_member_typed(reader, json_root(reader), SLICE("inputSchema"), JSON_OBJECT);
    struct slice input_schema = schema != NULL ? schema->raw : SLICE_EMPTY;
    return mcp_mirrors_read(&item->mirrors, &list->arena, reader, input_schema, ret_problem);
}

/* While the tape has the tool: whether a second look can find anything. */
static void note_tool(struct catalog_item *item, const struct catalog_source *source,
                      const struct json_reader *reader, const struct json_node *node) {
    const struct json_node *schema =
        json_member_typed(reader, node, SLICE("inputSchema"), JSON_OBJECT);
    item->may_mirror = schema != NULL && mcp_mirrors_possible(schema->raw);
    item->may_differ = json_member(reader, node, mcp_bridge_tool_member(source->revision)) != NULL;
    /* MCP 2025-11-25, server/tools. */
    const struct json_node *execution =
        source->revision == MCP_2025_11_25 ? json_member(reader, node, SLICE("execution")) : NULL;
    const struct json_node *support = execution != NULL && execution->type == JSON_OBJECT
                                          ? json_member(reader, execution, SLICE("taskSupport"))
                                          : NULL;
    item->needs_task = support != NULL && json_string_is(support, SLICE("required"));
}

/*
 * What a tool has beyond its name, in a second pass, because it takes the reader. Positive:
 * *ret_problem says why clients cannot be shown the tool.
 */
static int complete_tool(struct catalog_list *list, struct json_reader *reader,
                         const struct catalog_source *source, struct catalog_item *item,
                         const char **ret_problem) {
    int error = item->may_mirror ? read_mirrors(list, reader, item, ret_problem) : 0;
    if (error < 0)
        return error;
    /* MCP 2026-07-28: clients over HTTP leave out a tool with a wrong annotation. To others it is
     * a word that means nothing. */
    if (error > 0) {
        item->mirrors = (struct mcp_mirrors){0};
        if (source->is_http && mcp_revision_is_modern(source->revision))
            return error;
    }
    return item->may_differ ? add_other_form(list, reader, source, item) : 0;
}

static void forget_item(struct catalog_list *list, const struct catalog_item *item) {
    map_remove(&list->by_own, item->own);
    map_remove(&list->by_exposed, item->exposed);
}

static int complete_tools(struct catalog_list *list, size_t from, struct json_reader *reader,
                          const struct catalog_source *source) {
    size_t n = from;
    int error = 0;
    for (size_t i = from; i < list->n_items; i++) {
        struct catalog_item *item = &list->items[i];
        const char *problem = "";
        if (error >= 0)
            error = complete_tool(list, reader, source, item, &problem);
        if (error > 0) {
            drop(list, source, item->key, problem);
            forget_item(list, item);
        } else {
            list->items[n++] = *item;
        }
    }
    list->n_items = n;
    return error < 0 ? error : 0;
}

static uint64_t limit_of(uint64_t configured, uint64_t usual) {
    return configured != 0 ? configured : usual;
}

/* The names under which clients know it. */
static int name_item(struct catalog_list *list, const struct catalog_source *source,
                     struct slice token, struct catalog_item *item) {
    int error = own_name(list, SLICE_EMPTY, item->key, &item->own);
    if (error == 0)
        error = own_name(list, source->upstream, item->key, &item->exposed);
    if (error != 0)
        return error;
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(LIMIT_DEFINITION);
    if (!slice_eq(item->key, item->own)) {
        list_write_token(&text, item->own);
        token = buf_slice(&text);
    }
    item->own_token = arena_dup(&list->arena, token);
    return buf_error(&text) != 0 || item->own_token.ptr == NULL ? -ENOMEM : 0;
}

/* Notes an item of the page. Its text stays in there until the page is whole. */
static int add_item(struct catalog_list *list, const struct catalog_source *source,
                    const struct json_reader *reader, const struct json_node *node) {
    const struct mcp_list_info *info = mcp_list_info(source->kind);
    uint64_t max_items = limit_of(source->max_items, LIMIT_TOOLS_PER_UPSTREAM);
    uint64_t max_definition = limit_of(source->max_definition, LIMIT_DEFINITION);
    const struct json_node *key_node = json_member(reader, node, info->item_key);
    struct slice shown = key_node != NULL ? slice_sub(key_node->raw, 0, 100) : SLICE_EMPTY;
    if (node->raw.len > max_definition) {
        drop_too_long(list, source, shown, node->raw.len, max_definition);
        return 0;
    }
    const char *problem = shape_check(reader, node, source->kind, source->revision);
    if (problem != NULL || key_node == NULL) {
        drop(list, source, shown, problem);
        return 0;
    }
    if (list->n_items >= max_items) {
        drop_too_many(list, source, max_items);
        return 0;
    }
    struct slice key = SLICE_EMPTY;
    int error = catalog_own_string(&list->arena, key_node, LIMIT_URI_LENGTH, &key);
    if (error == -ENOMEM)
        return error;
    problem = error != 0 ? "what identifies it is too long" : shape_check_key(key, source->kind);
    if (problem != NULL) {
        drop(list, source, key, problem);
        return 0;
    }
    struct catalog_item item = {
        .key = key, .own = key, .exposed = key, .json = node->raw, .name = key_node->raw};
    error = info->is_named ? name_item(list, source, key_node->raw, &item) : 0;
    if (error != 0)
        return error;
    if (source->kind == MCP_LIST_TOOLS)
        note_tool(&item, source, reader, node);
    if (map_has(&list->by_own, item.own) || map_has(&list->by_exposed, item.exposed)) {
        drop(list, source, key, "the list has it already");
        return 0;
    }
    if (arena_failed(&list->arena) || grow(list) != 0)
        return -ENOMEM;
    list->items[list->n_items++] = item;
    list->has_own_names = list->has_own_names || info->is_named;
    /* The maps get their pointers when the list no longer moves; until then they tell duplicates.
     */
    if (map_set(&list->by_own, item.own, list) != 0 ||
        (info->is_named && map_set(&list->by_exposed, item.exposed, list) != 0))
        return -ENOMEM;
    return 0;
}

/* Points the maps at the items, which stay where they are until the next page. Their entries are
 * there already: it cannot fail. */
static void index_items(struct catalog_list *list) {
    for (size_t i = 0; i < list->n_items; i++) {
        struct catalog_item *item = &list->items[i];
        (void)!map_set(&list->by_own, item->own, item);
        if (list->has_own_names)
            (void)!map_set(&list->by_exposed, item->exposed, item);
    }
}

/* All items of a page, or none of them. */
static int take_page(struct catalog_list *list, const struct catalog_source *source,
                     struct json_reader *reader, size_t from, int error) {
    if (error == 0 && source->kind == MCP_LIST_TOOLS)
        error = complete_tools(list, from, reader, source);
    if (error == 0)
        error = list_text_add(list, from);
    for (size_t i = from; error != 0 && i < list->n_items; i++)
        forget_item(list, &list->items[i]);
    if (error != 0)
        list->n_items = from;
    list_text_place(list);
    index_items(list);
    return error;
}

static const struct json_want want_items[] = {{"*", shape_want_item}, {0}};
static const struct json_want want_page[MCP_LIST_COUNT][2] = {
    [MCP_LIST_TOOLS] = {{"tools", want_items}, {0}},
    [MCP_LIST_PROMPTS] = {{"prompts", want_items}, {0}},
    [MCP_LIST_RESOURCES] = {{"resources", want_items}, {0}},
    [MCP_LIST_TEMPLATES] = {{"resourceTemplates", want_items}, {0}},
};

/* In the era before nothing says so: the server tells of changes. */
static struct mcp_cache read_cache(const struct json_reader *reader, enum mcp_revision revision) {
    return mcp_revision_is_modern(revision) ? mcp_cache_read(reader, json_root(reader))
                                            : (struct mcp_cache){.ttl_ms = UINT64_MAX};
}

int catalog_list_add_page(struct catalog_list *list, const struct catalog_source *source,
                          struct slice result, struct json_reader *reader, struct buf *next_cursor,
                          const char **ret_reason) {
    enum mcp_list kind = source->kind;
    const struct mcp_list_info *info = mcp_list_info(kind);
    int error = catalog_read_object(reader, result, want_page[kind], ret_reason);
    if (error != 0)
        return error;
    const struct json_node *items =
        json_member_typed(reader, json_root(reader), info->result_key, JSON_ARRAY);
    if (items == NULL) {
        *ret_reason = "the result has no array of items";
        return CATALOG_E_INVALID;
    }
    size_t n_before = list->n_items;
    const struct mcp_cache cache = read_cache(reader, source->revision);
    for (const struct json_node *node = json_first(reader, items); node != NULL && error == 0;
         node = json_next(reader, node))
        error = add_item(list, source, reader, node);
    const struct json_node *cursor =
        json_member_typed(reader, json_root(reader), SLICE("nextCursor"), JSON_STRING);
    if (cursor != NULL && error == 0)
        error = buf_append(next_cursor, cursor->raw);
    list->cache = mcp_cache_merge(list->cache, cache);
    return take_page(list, source, reader, n_before, error);
}
