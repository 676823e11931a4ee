/* Catalogs: pages of lists, names, limits, sharing, the answer to initialize. */
#include <errno.h>

#include "base/limits.h"
#include "test.h"
#include "upstream/catalog.h"

static struct json_reader *new_reader(void) {
    struct json_reader *reader = NULL;
    if (json_reader_new(&reader) != 0)
        CANNOT_GO_ON();
    return reader;
}

#define UP     SLICE("up")
#define SCHEMA "\"inputSchema\":{\"type\":\"object\"}"
/* A tool as JSON; `name` is a JSON string's content. */
#define TOOL(name) "{\"name\":\"" name "\"," SCHEMA "}"

static const struct catalog_source legacy_tools = {
    .kind = MCP_LIST_TOOLS, .revision = MCP_LEGACY_LATEST, .upstream = SLICE_INIT("up")};

static int add(struct catalog_list *list, enum mcp_list kind, struct slice page) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    struct buf cursor CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    const char *reason = NULL;
    struct catalog_source source = {.kind = kind, .revision = MCP_LEGACY_LATEST, .upstream = UP};
    int r = catalog_list_add_page(list, &source, page, reader, &cursor, &reason);
    CHECK((r == CATALOG_E_INVALID) == (reason != NULL));
    return r;
}

/* A catalog with this one page. */
static struct catalog *one_list(enum mcp_list kind, struct slice page) {
    struct catalog *catalog = catalog_new(NULL);
    struct catalog_list *list = catalog_list_new();
    CHECK_INT(add(list, kind, page), 0);
    catalog_set_list(catalog, kind, list);
    return catalog;
}

static const struct catalog legacy = {.revision = MCP_LEGACY_LATEST};

static void check_written(const struct catalog_item *item, bool exposed, const char *expected) {
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    REQUIRE(item != NULL);
    CHECK_INT(catalog_item_write(&out, &legacy, item, exposed, MCP_LEGACY_LATEST), 0);
    CHECK_STR(buf_slice(&out), expected);
}

/* Hints of the pages of one list: the shortest time, and private if one page is (MCP 2026-07-28,
 * server/utilities/caching). */
static void test_cache(void) {
#define PAGE(members) "{\"tools\":[]" members "}"
#define PUBLIC        ",\"cacheScope\":\"public\""
#define TTL(ms)       ",\"ttlMs\":" #ms
    static const struct {
        enum mcp_revision revision;
        const char *pages[3];
        uint64_t ttl_ms;
        bool is_public;
    } rows[] = {
        {MCP_2026_07_28, {PAGE(TTL(5) PUBLIC)}, 5, true},
        {MCP_2026_07_28, {PAGE(TTL(5) PUBLIC), PAGE(TTL(3) PUBLIC), PAGE(TTL(4) PUBLIC)}, 3, true},
        {MCP_2026_07_28, {PAGE(TTL(5) PUBLIC), PAGE(TTL(6)), PAGE(TTL(7) PUBLIC)}, 5, false},
        {MCP_2026_07_28, {PAGE(TTL(5)), PAGE(TTL(6) PUBLIC)}, 5, false},
        {MCP_2026_07_28, {PAGE(TTL(5) PUBLIC), PAGE(PUBLIC)}, 0, true},
        {MCP_2026_07_28, {PAGE("")}, 0, false},
        {MCP_2026_07_28, {PAGE(TTL(9000000000000) PUBLIC)}, MCP_FRESH_MAX_MS, true},
        {MCP_LEGACY_LATEST, {PAGE(TTL(5) PUBLIC)}, UINT64_MAX, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct catalog_list *list = catalog_list_new();
        struct catalog_source source = {
            .kind = MCP_LIST_TOOLS, .revision = rows[i].revision, .upstream = UP};
        test_row(rows[i].pages[0]);
        for (size_t k = 0; k < 3 && rows[i].pages[k] != NULL; k++) {
            CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
            struct buf cursor CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
            const char *reason = NULL;
            CHECK_INT(catalog_list_add_page(list, &source, slice_from_cstr(rows[i].pages[k]),
                                            reader, &cursor, &reason),
                      0);
        }
        CHECK_INT(list->cache.ttl_ms, rows[i].ttl_ms);
        CHECK_INT(list->cache.is_public, rows[i].is_public);
        catalog_list_unref(list);
    }
#undef PAGE
#undef PUBLIC
#undef TTL
}

static void test_names(void) {
    CLEANUP(catalog_unrefp)
    struct catalog *catalog =
        one_list(MCP_LIST_TOOLS,
                 SLICE("{\"tools\":[{\"x\":1.50, \"name\" : \"plain\"," SCHEMA "},"
                       "{\"title\":\"name\",\"n\\u0061me\":\"esc\\u0061ped\"," SCHEMA "},"
                       "{\"name\":\"two words\"," SCHEMA ",\"_meta\":{\"name\":\"two words\"}}]}"));
    CHECK_INT(catalog->lists[MCP_LIST_TOOLS]->n_items, 3);
    CHECK_INT(catalog->lists[MCP_LIST_TOOLS]->n_dropped, 0);
    const struct catalog_item *item =
        catalog_find(catalog, MCP_LIST_TOOLS, SLICE("up__plain"), true);
    check_written(item, true, "{\"x\":1.50, \"name\" : \"up__plain\"," SCHEMA "}");
    CHECK(catalog_find(catalog, MCP_LIST_TOOLS, SLICE("plain"), false) == item);
    check_written(item, false, "{\"x\":1.50, \"name\" : \"plain\"," SCHEMA "}");
    CHECK(catalog_find(catalog, MCP_LIST_TOOLS, SLICE("plain"), true) == NULL);
    CHECK(catalog_find(catalog, MCP_LIST_TOOLS, SLICE("up__plain"), false) == NULL);
    CHECK(catalog_find(catalog, MCP_LIST_PROMPTS, SLICE("plain"), false) == NULL);
    item = catalog_find(catalog, MCP_LIST_TOOLS, SLICE("escaped"), false);
    check_written(item, true, "{\"title\":\"name\",\"n\\u0061me\":\"up__escaped\"," SCHEMA "}");
    check_written(item, false, "{\"title\":\"name\",\"n\\u0061me\":\"esc\\u0061ped\"," SCHEMA "}");
    /* Only the shortened form is known to clients; the upstream is called by its own. */
    CHECK(catalog_find(catalog, MCP_LIST_TOOLS, SLICE("two words"), false) == NULL);
    item = &catalog->lists[MCP_LIST_TOOLS]->items[2];
    CHECK_STR(item->key, "two words");
    CHECK(catalog_find(catalog, MCP_LIST_TOOLS, item->own, false) == item);
    CHECK(catalog_find(catalog, MCP_LIST_TOOLS, item->exposed, true) == item);
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    CHECK_INT(catalog_item_write(&out, catalog, item, true, MCP_LEGACY_LATEST), 0);
    CHECK(slice_starts_with(buf_slice(&out), SLICE("{\"name\":\"up__two_words_")));
    CHECK(slice_ends_with(buf_slice(&out), SLICE("\"_meta\":{\"name\":\"two words\"}}")));
}

static void test_uris(void) {
    CLEANUP(catalog_unrefp)
    struct catalog *catalog = one_list(
        MCP_LIST_RESOURCES, SLICE("{\"resources\":[{\"name\":\"a\",\"uri\":\"file:\\/\\/\\/a\"},"
                                  "{\"name\":\"a\",\"uri\":\"file:///b\"}]}"));
    const struct catalog_item *item =
        catalog_find(catalog, MCP_LIST_RESOURCES, SLICE("file:///a"), true);
    check_written(item, true, "{\"name\":\"a\",\"uri\":\"file:\\/\\/\\/a\"}");
    CHECK(item == catalog_find(catalog, MCP_LIST_RESOURCES, SLICE("file:///a"), false));
    CHECK(catalog_find(catalog, MCP_LIST_RESOURCES, SLICE("file:///b"), true) != NULL);
    CHECK(catalog_find_template(catalog, SLICE("file:///a")) == NULL);
    struct catalog_list *templates = catalog_list_new();
    CHECK_INT(add(templates, MCP_LIST_TEMPLATES,
                  SLICE("{\"resourceTemplates\":[{\"name\":\"t\",\"uriTemplate\":\"x:{a}\"},"
                        "{\"name\":\"t\",\"uriTemplate\":\"x:{+a}\"}]}")),
              0);
    catalog_set_list(catalog, MCP_LIST_TEMPLATES, templates);
    item = catalog_find_template(catalog, SLICE("x:1"));
    CHECK(item != NULL && item == &templates->items[0]);
    CHECK(catalog_find_template(catalog, SLICE("x:1/2")) == &templates->items[1]);
    CHECK(catalog_find_template(catalog, SLICE("y:1")) == NULL);
}

/* One bad item never spoils a list. */
static void test_dropped(void) {
    static const struct {
        const char *name;
        struct slice page;
        size_t kept, dropped;
    } rows[] = {
        {"empty", SLICE_INIT("{\"tools\":[]}"), 0, 0},
        {"no object", SLICE_INIT("{\"tools\":[1,null,[],\"a\"," TOOL("a") "]}"), 1, 4},
        {"no name", SLICE_INIT("{\"tools\":[{" SCHEMA "}," TOOL("a") "]}"), 1, 1},
        {"empty name", SLICE_INIT("{\"tools\":[" TOOL("") "," TOOL("a") "]}"), 1, 1},
        {"control character",
         SLICE_INIT("{\"tools\":[" TOOL("a\\u0007") "," TOOL("\\u0000") "," TOOL("b\\u007f") "]}"),
         0, 3},
        {"twice", SLICE_INIT("{\"tools\":[" TOOL("a") "," TOOL("a") "," TOOL("\\u0061") "]}"), 1,
         2},
        {"case matters", SLICE_INIT("{\"tools\":[" TOOL("a") "," TOOL("A") "]}"), 2, 0},
        {"bad schema",
         SLICE_INIT("{\"tools\":[{\"name\":\"a\",\"inputSchema\":{}}," TOOL("a") "]}"), 1, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct catalog_list *list = catalog_list_new();
        test_row(rows[i].name);
        CHECK_INT(add(list, MCP_LIST_TOOLS, rows[i].page), 0);
        CHECK_INT(list->n_items, rows[i].kept);
        CHECK_INT(list->n_dropped, rows[i].dropped);
        list = catalog_list_unref(list);
    }
}

static void test_invalid_pages(void) {
    static const char *const pages[] = {
        "",
        "[]",
        "{}",
        "null",
        "{\"tools\":{}}",
        "{\"tools\":null}",
        "{\"tools\":[" TOOL("a") "]",
        "{\"tools\":[" TOOL("b") "],\"tools\":[]}",
        "{\"tools\":[" TOOL("b") ",{\"a\":1,\"a\":2}]}",
        "{\"Tools\":[]}",
        "{\"prompts\":[]}",
    };
    struct catalog_list *list = catalog_list_new();
    CHECK_INT(add(list, MCP_LIST_TOOLS, SLICE("{\"tools\":[" TOOL("a") "]}")), 0);
    for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
        test_row(pages[i]);
        CHECK_INT(add(list, MCP_LIST_TOOLS, slice_from_cstr(pages[i])), CATALOG_E_INVALID);
        CHECK_INT(list->n_items, 1);
        CHECK_INT(list->n_dropped, 0);
    }
    struct map *maps[] = {&list->by_own, &list->by_exposed};
    CHECK(map_get(maps[0], SLICE("a")) == &list->items[0]);
    CHECK(map_get(maps[1], SLICE("up__a")) == &list->items[0]);
    list = catalog_list_unref(list);
}

static void test_cursor(void) {
    static const struct {
        const char *page, *cursor;
    } rows[] = {
        {"{\"tools\":[]}", ""},
        {"{\"tools\":[],\"nextCursor\":\"a\\u0062 \"}", "\"a\\u0062 \""},
        {"{\"tools\":[],\"nextCursor\":\"\"}", "\"\""},
        {"{\"nextCursor\":\"x\",\"tools\":[]}", "\"x\""},
        {"{\"tools\":[],\"nextCursor\":null}", ""},
        {"{\"tools\":[],\"nextCursor\":1}", ""},
    };
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct catalog_list *list = catalog_list_new();
        struct buf cursor CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        const char *reason = NULL;
        test_row(rows[i].page);
        CHECK_INT(catalog_list_add_page(list, &legacy_tools, slice_from_cstr(rows[i].page), reader,
                                        &cursor, &reason),
                  0);
        CHECK_STR(buf_slice(&cursor), rows[i].cursor);
        list = catalog_list_unref(list);
    }
}

/* `n` tools from number `first` on, in pages; the maps point at items that have moved meanwhile. */
static void test_many(void) {
    struct catalog_list *list = catalog_list_new();
    struct buf page CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    for (unsigned first = 0; first < LIMIT_TOOLS_PER_UPSTREAM + 7; first += 10) {
        buf_reset(&page, MIB(1));
        buf_append_cstr(&page, "{\"tools\":[");
        for (unsigned i = first; i < first + 10; i++)
            buf_printf(&page, "%s{\"name\":\"t%u\"," SCHEMA "}", i != first ? "," : "", i);
        buf_append_cstr(&page, "]}");
        CHECK_INT(add(list, MCP_LIST_TOOLS, buf_slice(&page)), 0);
        CHECK(map_get(&list->by_own, SLICE("t3")) == &list->items[3]);
    }
    CHECK_INT(list->n_items, LIMIT_TOOLS_PER_UPSTREAM);
    CHECK_INT(list->n_dropped, 10);
    CHECK(map_get(&list->by_exposed, SLICE("up__t999")) == &list->items[999]);
    CHECK(map_get(&list->by_exposed, SLICE("up__t1000")) == NULL);
    list = catalog_list_unref(list);
}

/* One item with a member that is filled up to `len` bytes in all. */
static void fill_page(struct buf *page, const char *before, size_t len, const char *behind) {
    buf_reset(page, 0);
    buf_append_cstr(page, before);
    for (size_t i = 0; i < len; i++)
        buf_append_byte(page, 'x');
    buf_append_cstr(page, behind);
}

static void test_limits(void) {
    static const struct {
        const char *name;
        enum mcp_list kind;
        const char *before, *behind;
        size_t max;
    } rows[] = {
        {"definition", MCP_LIST_TOOLS, "{\"tools\":[{\"name\":\"a\"," SCHEMA ",\"description\":\"",
         "\"}]}",
         LIMIT_DEFINITION - sizeof("{\"name\":\"a\"," SCHEMA ",\"description\":\"\"}") + 1},
        {"uri", MCP_LIST_RESOURCES, "{\"resources\":[{\"name\":\"a\",\"uri\":\"a:", "\"}]}",
         LIMIT_URI_LENGTH - 2},
        {"name", MCP_LIST_PROMPTS, "{\"prompts\":[{\"name\":\"", "\"}]}", 512},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf page CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
        test_row(rows[i].name);
        for (size_t past = 0; past <= 1; past++) {
            struct catalog_list *list = catalog_list_new();
            fill_page(&page, rows[i].before, rows[i].max + past, rows[i].behind);
            CHECK_INT(add(list, rows[i].kind, buf_slice(&page)), 0);
            CHECK_INT(list->n_items, 1 - past);
            CHECK_INT(list->n_dropped, past);
            list = catalog_list_unref(list);
        }
    }
}

static void test_equal(void) {
    struct catalog_list *lists[4] = {catalog_list_new(), catalog_list_new(), catalog_list_new(),
                                     catalog_list_new()};
    CHECK_INT(add(lists[0], MCP_LIST_TOOLS, SLICE("{\"tools\":[" TOOL("a") "," TOOL("b") "]}")), 0);
    CHECK_INT(add(lists[1], MCP_LIST_TOOLS, SLICE("{\"tools\":[" TOOL("a") "]}")), 0);
    CHECK_INT(add(lists[1], MCP_LIST_TOOLS, SLICE("{\"tools\":[1," TOOL("b") "]}")), 0);
    CHECK_INT(add(lists[2], MCP_LIST_TOOLS, SLICE("{\"tools\":[" TOOL("b") "," TOOL("a") "]}")), 0);
    CHECK_INT(add(lists[3], MCP_LIST_TOOLS, SLICE("{\"tools\":[" TOOL("a") "]}")), 0);
    CHECK(catalog_list_equal(lists[0], lists[0]) && catalog_list_equal(lists[0], lists[1]));
    CHECK(!catalog_list_equal(lists[0], lists[2]));
    CHECK(!catalog_list_equal(lists[0], lists[3]) && !catalog_list_equal(lists[3], lists[0]));
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        lists[i] = catalog_list_unref(lists[i]);
}

/* A copy shares the lists, and both outlive each other; the sanitizer sees what is freed. */
static void test_sharing(void) {
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    struct catalog *first = one_list(MCP_LIST_TOOLS, SLICE("{\"tools\":[" TOOL("a") "]}"));
    unsigned mask = 0;
    const char *reason = NULL;
    CHECK_INT(
        catalog_read_initialize(first,
                                SLICE("{\"protocolVersion\":\"2025-06-18\",\"serverInfo\":"
                                      "{\"name\":\"s\",\"version\":\"1\"},\"capabilities\":"
                                      "{\"tools\":{},\"logging\":{}},\"instructions\":\"i\"}"),
                                reader, &mask, &reason),
        0);
    struct catalog *second = catalog_new(first);
    CHECK(second->lists[MCP_LIST_TOOLS] == first->lists[MCP_LIST_TOOLS]);
    catalog_set_list(second, MCP_LIST_PROMPTS, catalog_list_new());
    CHECK(second->lists[MCP_LIST_PROMPTS] != first->lists[MCP_LIST_PROMPTS]);
    CHECK(catalog_ref(second) == second);
    first = catalog_unref(first);
    CHECK(first == NULL);
    CHECK(catalog_find(second, MCP_LIST_TOOLS, SLICE("up__a"), true) != NULL);
    CHECK_STR(second->server_name, "s");
    CHECK_STR(second->server_version, "1");
    CHECK_STR(second->instructions, "i");
    CHECK_INT(second->revision, MCP_2025_06_18);
    CHECK(second->has_logging && !second->has_completions);
    struct catalog *other = second;
    catalog_unrefp(&second);
    CHECK(second == NULL);
    CHECK_STR(other->server_name, "s");
    other = catalog_unref(other);
    CHECK(catalog_unref(NULL) == NULL && catalog_list_unref(NULL) == NULL);
}

static void test_initialize(void) {
#define INIT(version, rest) "{\"protocolVersion\":" version rest "}"
#define BIT(kind)           (1u << (kind))
    static const struct {
        const char *result;
        int r;
        enum mcp_revision revision;
        unsigned mask;
        const char *server, *instructions;
        bool logging, completions;
    } rows[] = {
        {.result = INIT("\"2024-11-05\"", ""), .revision = MCP_2024_11_05},
        {.result = INIT("\"2025-11-25\"", ",\"capabilities\":{\"tools\":{},\"prompts\":{}}"),
         .revision = MCP_2025_11_25,
         .mask = BIT(MCP_LIST_TOOLS) | BIT(MCP_LIST_PROMPTS)},
        {.result = INIT("\"2025-03-26\"", ",\"capabilities\":{\"resources\":{},"
                                          "\"logging\":{},\"completions\":{}}"),
         .revision = MCP_2025_03_26,
         .mask = BIT(MCP_LIST_RESOURCES) | BIT(MCP_LIST_TEMPLATES),
         .logging = true,
         .completions = true},
        {.result = INIT("\"2025-06-18\"",
                        ",\"serverInfo\":{\"name\":\"a\\u0062\"},\"instructions\":\"\\n\""),
         .revision = MCP_2025_06_18,
         .server = "ab",
         .instructions = "\n"},
        {.result =
             INIT("\"2025-06-18\"", ",\"capabilities\":[],\"serverInfo\":1,\"instructions\":{}"),
         .revision = MCP_2025_06_18},
        {.result = INIT("\"2026-07-28\"", ""), .r = CATALOG_E_INVALID},
        {.result = INIT("\"1999-01-01\"", ""), .r = CATALOG_E_INVALID},
        {.result = INIT("\"\"", ""), .r = CATALOG_E_INVALID},
        {.result = INIT("20250618", ""), .r = CATALOG_E_INVALID},
        {.result = INIT("null", ""), .r = CATALOG_E_INVALID},
        {.result = "{}", .r = CATALOG_E_INVALID},
        {.result = "[]", .r = CATALOG_E_INVALID},
        {.result = "null", .r = CATALOG_E_INVALID},
        {.result = "", .r = CATALOG_E_INVALID},
        {.result = INIT("\"2025-06-18\"", ",\"protocolVersion\":\"2025-06-18\""),
         .r = CATALOG_E_INVALID},
    };
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(catalog_unrefp) struct catalog *catalog = catalog_new(NULL);
        unsigned mask = 4711;
        const char *reason = NULL;
        test_row(rows[i].result);
        CHECK_INT(catalog_read_initialize(catalog, slice_from_cstr(rows[i].result), reader, &mask,
                                          &reason),
                  rows[i].r);
        CHECK((reason != NULL) == (rows[i].r != 0));
        CHECK_INT(catalog->revision, rows[i].revision);
        CHECK_INT(mask, rows[i].r == 0 ? rows[i].mask : 4711);
        CHECK_INT(catalog->declared, rows[i].mask);
        CHECK_STR(catalog->server_name, rows[i].server != NULL ? rows[i].server : "");
        CHECK_STR(catalog->instructions, rows[i].instructions != NULL ? rows[i].instructions : "");
        CHECK_INT(catalog->has_logging, rows[i].logging);
        CHECK_INT(catalog->has_completions, rows[i].completions);
    }
}

/* Limits that the configuration sets for one upstream. */
static void test_configured_limits(void) {
    static const struct {
        const char *name;
        uint64_t max_items, max_definition;
        size_t kept, dropped;
        bool is_full;
    } rows[] = {
        {"as many", 3, 0, 3, 0, false},
        {"one more", 2, 0, 2, 1, true},
        {"one only", 1, 0, 1, 2, true},
        {"as long", 0, sizeof TOOL("abc") - 1, 3, 0, false},
        {"longer", 0, sizeof TOOL("abc") - 2, 2, 1, false},
        {"both", 1, sizeof TOOL("abc") - 2, 1, 2, true},
    };
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf cursor CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        struct catalog_list *list = catalog_list_new();
        struct catalog_source source = legacy_tools;
        const char *reason = NULL;
        source.max_items = rows[i].max_items;
        source.max_definition = rows[i].max_definition;
        test_row(rows[i].name);
        CHECK_INT(catalog_list_add_page(
                      list, &source,
                      SLICE("{\"tools\":[" TOOL("a") "," TOOL("abc") "," TOOL("b") "]}"), reader,
                      &cursor, &reason),
                  0);
        CHECK_INT(list->n_items, rows[i].kept);
        CHECK_INT(list->n_dropped, rows[i].dropped);
        CHECK_INT(list->is_full, rows[i].is_full);
        list = catalog_list_unref(list);
    }
}

/* Texts: what pages are cut out of. */

/* Each item of the text is the item as it is written alone. */
static void check_text(const struct catalog *catalog, enum mcp_list kind, bool exposed,
                       enum mcp_revision to) {
    const struct catalog_text *text = catalog_text(catalog, kind, exposed, to);
    const struct catalog_list *list = catalog->lists[kind];
    REQUIRE(text != NULL);
    CHECK(text == catalog_text(catalog, kind, exposed, to));
    for (size_t i = 0; i < list->n_items; i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        buf_append_byte(&out, ',');
        CHECK_INT(catalog_item_write(&out, catalog, &list->items[i], exposed, to), 0);
        CHECK_SLICE(
            slice_make(text->bytes + text->starts[i], text->starts[i + 1] - text->starts[i]),
            buf_slice(&out));
    }
}

static void check_texts(const struct catalog *catalog, enum mcp_list kind) {
    check_text(catalog, kind, true, MCP_LEGACY_LATEST);
    check_text(catalog, kind, false, MCP_LEGACY_LATEST);
    check_text(catalog, kind, true, MCP_2026_07_28);
    check_text(catalog, kind, false, MCP_2026_07_28);
}

#define TASKS(name)                                                                                \
    "{\"name\":\"" name "\"," SCHEMA ",\"execution\":{\"taskSupport\":\"optional\"}}"

static void test_texts(void) {
    static const struct {
        const char *name;
        enum mcp_list kind;
        const char *pages[2];
        size_t n_forms; /* that are kept */
    } rows[] = {
        {"nothing", MCP_LIST_TOOLS, {"{\"tools\":[]}"}, 1},
        {"the same in both eras",
         MCP_LIST_TOOLS,
         {"{\"tools\":[" TOOL("a") "]}",
          "{\"tools\":[" TOOL("esc\\u0061ped") "," TOOL("two words") "]}"},
         2},
        {"other ones in each",
         MCP_LIST_TOOLS,
         {"{\"tools\":[" TOOL("a") "," TASKS("b") "]}",
          "{\"tools\":[" TASKS("c d") "," TASKS("\\u0061b") "]}"},
         4},
        {"prompts",
         MCP_LIST_PROMPTS,
         {"{\"prompts\":[{\"name\":\"p\"},{\"x\":1 , \"name\" : \"q\" }]}"},
         2},
        {"resources",
         MCP_LIST_RESOURCES,
         {"{\"resources\":[{\"name\":\"a\",\"uri\":\"file:\\/\\/a\"}]}",
          "{\"resources\":[{\"name\":\"b\",\"uri\":\"file:///b\"}]}"},
         1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].name);
        CLEANUP(catalog_unrefp) struct catalog *catalog = catalog_new(NULL);
        struct catalog_list *list = catalog_list_new();
        catalog->revision = MCP_LEGACY_LATEST;
        for (size_t k = 0; k < 2 && rows[i].pages[k] != NULL; k++)
            CHECK_INT(add(list, rows[i].kind, slice_from_cstr(rows[i].pages[k])), 0);
        catalog_set_list(catalog, rows[i].kind, list);
        check_texts(catalog, rows[i].kind);
        size_t n_forms = 1;
        for (size_t k = 0; k < 4; k++)
            n_forms += atomic_load(&list->forms[k / 2][k % 2]) != NULL;
        CHECK_INT(n_forms, rows[i].n_forms);
        /* Keys are written as the upstream does, whatever the text around them. */
        for (size_t k = 0; k < list->n_items; k++)
            CHECK(catalog_find(catalog, rows[i].kind, list->items[k].exposed, true) ==
                  &list->items[k]);
    }
}

/* Two lists that differ only in how a name is written are two. */
static void test_spelling(void) {
    struct catalog_list *a = catalog_list_new(), *b = catalog_list_new();
    CHECK_INT(add(a, MCP_LIST_TOOLS, SLICE("{\"tools\":[" TOOL("a") "]}")), 0);
    CHECK_INT(add(b, MCP_LIST_TOOLS, SLICE("{\"tools\":[" TOOL("\\u0061") "]}")), 0);
    CHECK(!catalog_list_equal(a, b));
    a = catalog_list_unref(a);
    b = catalog_list_unref(b);
}

static void check_list(const struct catalog *catalog, size_t n_items) {
    const struct catalog_list *list = catalog->lists[MCP_LIST_TOOLS];
    CHECK_INT(list->n_items, n_items);
    for (size_t i = 0; i < list->n_items; i++) {
        const struct catalog_item *item = &list->items[i];
        CHECK(catalog_find(catalog, MCP_LIST_TOOLS, item->exposed, true) == item);
        CHECK(catalog_find(catalog, MCP_LIST_TOOLS, item->own, false) == item);
        CHECK(slice_starts_with(item->json, SLICE("{\"name\":\"up__")));
    }
}

/* A page that fails leaves the ones before it as they were, and may come again; forms are made or
 * not. False: nothing has failed. */
static bool fail_once(uint64_t n) {
    static const struct slice pages[] = {
        SLICE_INIT("{\"tools\":[" TASKS("a") "," TOOL("b c") "]}"),
        SLICE_INIT("{\"tools\":[" TOOL("d") "," TOOL("a") "," TASKS("e") "]}")};
    static const size_t n_items[] = {2, 4};
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    CLEANUP(catalog_unrefp) struct catalog *catalog = catalog_new(NULL);
    struct catalog_list *list = catalog_list_new();
    struct buf cursor CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    const char *reason = NULL;
    bool has_failed = false;
    catalog->revision = MCP_LEGACY_LATEST;
    catalog_set_list(catalog, MCP_LIST_TOOLS, list);
    for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
        mem_fail_after(n);
        int error = catalog_list_add_page(list, &legacy_tools, pages[i], reader, &cursor, &reason);
        mem_fail_after(0);
        CHECK(error == 0 || error == -ENOMEM);
        has_failed = has_failed || error != 0;
        check_list(catalog, error == 0 ? n_items[i] : i == 0 ? 0 : n_items[i - 1]);
        list->arena.failed = false; /* its memory is back */
        if (error != 0)
            CHECK_INT(
                catalog_list_add_page(list, &legacy_tools, pages[i], reader, &cursor, &reason), 0);
        check_list(catalog, n_items[i]);
    }
    struct catalog_list *whole = catalog_list_new();
    CHECK_INT(add(whole, MCP_LIST_TOOLS, pages[0]), 0);
    CHECK_INT(add(whole, MCP_LIST_TOOLS, pages[1]), 0);
    CHECK(catalog_list_equal(list, whole));
    whole = catalog_list_unref(whole);
    mem_fail_after(n);
    bool is_made = catalog_text(catalog, MCP_LIST_TOOLS, false, MCP_2026_07_28) != NULL;
    mem_fail_after(0);
    check_texts(catalog, MCP_LIST_TOOLS);
    return has_failed || !is_made;
}

static void test_failed_pages(void) {
    uint64_t n = 1;
    while (n < 1000 && fail_once(n))
        n++;
    CHECK(n > 20 && n < 1000);
}

/* The second look at tools: annotations of arguments, which servers over HTTP must get right. */
static void test_mirrored(void) {
    static const struct slice page = SLICE_INIT("{\"tools\":[" TOOL(
        "a") ",{\"name\":\"b\",\"inputSchema\":{\"type\":\"object\",\"properties\":"
             "{\"r\":{\"type\":\"string\",\"x-mcp-header\":\"Region\"}}}},{\"name\":\"c\","
             "\"inputSchema\":"
             "{\"type\":\"object\",\"properties\":{\"r\":{\"type\":\"string\",\"x-mcp-header\":"
             "\"\"}}}}]}");
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (int is_http = 0; is_http < 2; is_http++) {
        struct buf cursor CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        struct catalog_list *list = catalog_list_new();
        struct catalog_source source = {.kind = MCP_LIST_TOOLS,
                                        .revision = MCP_2026_07_28,
                                        .is_http = is_http != 0,
                                        .upstream = UP};
        const char *reason = NULL;
        CHECK_INT(catalog_list_add_page(list, &source, page, reader, &cursor, &reason), 0);
        CHECK_INT(list->n_items, is_http ? 2 : 3);
        CHECK_INT(list->n_dropped, is_http ? 1 : 0);
        CHECK_INT(list->items[0].mirrors.n, 0);
        CHECK_INT(list->items[1].mirrors.n, 1);
        CHECK_STR(list->items[1].json,
                  "{\"name\":\"up__b\",\"inputSchema\":{\"type\":\"object\",\"properties\":"
                  "{\"r\":{\"type\":\"string\",\"x-mcp-header\":\"Region\"}}}}");
        list = catalog_list_unref(list);
    }
}

/* Without memory a page fails as a whole or all of it is there, under the right names. */
static void torture_body(void *arg) {
    static const struct slice page = SLICE_INIT("{\"tools\":[" TOOL("a") "," TOOL(
        "esc\\u0061ped") "," TOOL("two words") "],"
                                               "\"nextCursor\":\"c\"}");
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    struct buf cursor CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    const char *reason = NULL;
    (void)arg;
    if (json_reader_new(&reader) != 0)
        return;
    struct catalog_list *list = catalog_list_new();
    int r = catalog_list_add_page(list, &legacy_tools, page, reader, &cursor, &reason);
    CHECK(r == 0 || r == -ENOMEM);
    if (r == 0) {
        CHECK_INT(list->n_items, 3);
        CHECK_INT(list->n_dropped, 0);
        CHECK(map_get(&list->by_own, SLICE("escaped")) == &list->items[1]);
        CHECK_STR(buf_slice(&cursor), "\"c\"");
    }
    for (size_t i = 0; i < list->n_items; i++)
        CHECK(list->items[i].own.len != 0 && list->items[i].exposed.len != 0);
    list = catalog_list_unref(list);
}

static void test_out_of_memory(void) {
    test_torture(torture_body, NULL);
}

TEST_MAIN(TEST(test_cache), TEST(test_names), TEST(test_uris), TEST(test_dropped),
          TEST(test_invalid_pages), TEST(test_cursor), TEST(test_many), TEST(test_limits),
          TEST(test_equal), TEST(test_sharing), TEST(test_initialize), TEST(test_configured_limits),
          TEST(test_texts), TEST(test_spelling), TEST(test_failed_pages), TEST(test_mirrored),
          TEST(test_out_of_memory))
