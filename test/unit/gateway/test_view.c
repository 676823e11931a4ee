/*
 * Views and pages: what is kept from one request to the next and for whom, where names and URIs
 * lead, and that the pieces of pages are together what a plain writer would have written.
 */
#include "base/limits.h"
#include "base/random.h"
#include "config/config.h"
#include "private.h"
#include "test.h"

/* Who calls, of the gateway that a test has just made. */
static struct gw_caller *local, *other, *narrow;

/* One that may use `servers` only, when there are any. */
static struct gw_caller *new_caller(struct gateway *gateway, struct slice principal,
                                    struct slice *servers, size_t n_servers) {
    struct auth_identity *identity = mem_xalloc(sizeof *identity);
    atomic_init(&identity->refs, 1);
    identity->principal = principal;
    identity->has_servers = servers != NULL;
    identity->servers = servers;
    identity->n_servers = n_servers;
    struct gw_caller *caller = gw_caller_new(&gateway->workers[0], identity);
    if (caller == NULL)
        CANNOT_GO_ON();
    return caller;
}

/* A gateway with upstreams that nobody answers for, and one worker. */
static struct gateway *new_gateway(const char *servers, struct config **ret_config,
                                   struct log **ret_log) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    struct config_problems problems;
    struct gateway *gateway = NULL;
    config_problems_init(&problems);
    buf_printf(&text,
               "[server]\nworkers = 1\nauth.anonymous = true\n[security]\nedit_mode = true\n%s",
               servers);
    if (config_load_text(SLICE("test.toml"), buf_slice(&text), NULL, NULL, &problems, ret_config) !=
        0) {
        for (size_t i = 0; i < problems.n; i++)
            printf("# %.*s\n", SLICE_ARGS(problems.items[i].message));
        CANNOT_GO_ON();
    }
    config_problems_deinit(&problems);
    *ret_log = log_new(2, LOG_OFF, LOG_STYLE_TEXT);
    struct gateway_options options = {
        .config = *ret_config, .log = *ret_log, .version = SLICE("0")};
    if (gateway_new(&options, &gateway) != 0 || gateway_make_upstreams(gateway, NULL) != 0)
        CANNOT_GO_ON();
    static struct slice only_b[] = {SLICE_INIT("b")};
    local = new_caller(gateway, SLICE("local"), NULL, 0);
    other = new_caller(gateway, SLICE("anonymous"), NULL, 0);
    narrow = new_caller(gateway, SLICE("local"), only_b, 1);
    return gateway;
}

static void end_gateway(struct gateway *gateway, struct config *config, struct log *log) {
    gateway_stop(gateway);
    CHECK_INT(gateway_run(gateway), 0);
    local = gw_caller_unref(local);
    other = gw_caller_unref(other);
    narrow = gw_caller_unref(narrow);
    gateway_free(gateway);
    config_unref(config);
    log_free(log);
}

#define SERVER(name, more) "[mcp.servers." name "]\nurl = \"http://127.0.0.1:1/mcp\"\n" more

static struct gw_session *new_session(struct gateway *gateway, struct upstream *only) {
    struct gw_session *session =
        gw_session_new(gateway, local->principal, only, GW_SESSION_HTTP, MCP_LEGACY_LATEST, 0, 1);
    if (session == NULL)
        CANNOT_GO_ON();
    return session;
}

static struct gw_view *open_and_close(struct gw_worker *worker, struct gw_caller *caller,
                                      const struct gw_session *session, struct upstream *only) {
    struct gw_view *view = gw_view_open(worker, caller, session, 0, only);
    gw_view_close(view); /* the worker keeps it */
    return view;
}

/* Each caller gets its own view, and the same one again as long as nothing changes. */
static void test_kept(void) {
    struct config *config = NULL;
    struct log *log = NULL;
    struct gateway *gateway =
        new_gateway(SERVER("a", "") SERVER("b", "share = \"session\"\n"), &config, &log);
    struct gw_worker *worker = &gateway->workers[0];
    struct upstream *only_a = upstream_list_find(worker->list, SLICE("a"), NULL);
    struct upstream *only_b = upstream_list_find(worker->list, SLICE("b"), NULL);
    struct gw_session *one = new_session(gateway, NULL), *two = new_session(gateway, NULL);
    struct gw_view *views[] = {
        open_and_close(worker, local, NULL, NULL),   open_and_close(worker, local, one, NULL),
        open_and_close(worker, local, two, NULL),    open_and_close(worker, other, NULL, NULL),
        open_and_close(worker, local, NULL, only_a), open_and_close(worker, local, one, only_b),
        open_and_close(worker, local, two, only_b),
    };
    for (size_t i = 0; i < ARRAY_LEN(views); i++) {
        CHECK_INT(views[i]->n, i < 4 ? 2 : 1);
        for (size_t k = 0; k < i; k++)
            CHECK(views[i] != views[k]);
    }
    CHECK_INT(worker->views.n, ARRAY_LEN(views));
    CHECK(views[0] == open_and_close(worker, local, NULL, NULL));
    CHECK(views[2] == open_and_close(worker, local, two, NULL));
    /* An upstream that sessions share does not tell them apart. */
    CHECK(views[4] == open_and_close(worker, local, one, only_a));
    CHECK(views[4] == open_and_close(worker, local, two, only_a));
    CHECK(views[1]->items[0].instance == views[2]->items[0].instance);
    CHECK(views[1]->items[1].instance != views[2]->items[1].instance);
    CHECK(views[0]->items[0].instance != views[3]->items[0].instance);
    CHECK(views[1]->items[1].instance == views[5]->items[0].instance);
    /* The same principal with a credential for some servers sees those alone, of its own view. */
    struct gw_view *some = open_and_close(worker, narrow, NULL, NULL);
    CHECK(some != views[0]);
    CHECK_INT(some->n, 1);
    CHECK(some->items[0].instance == views[0]->items[1].instance);
    CHECK(views[0] == open_and_close(worker, local, NULL, NULL));
    CHECK(some == open_and_close(worker, narrow, NULL, NULL));
    gw_session_unref(one);
    gw_session_unref(two);
    end_gateway(gateway, config, log);
}

/* A change of anything ends the truth of all views, and what is in use lives on. */
static void test_changes(void) {
    struct config *config = NULL;
    struct log *log = NULL;
    struct gateway *gateway =
        new_gateway(SERVER("a", "") SERVER("b", "share = \"session\"\n"), &config, &log);
    struct gw_worker *worker = &gateway->workers[0];
    struct gw_session *session = new_session(gateway, NULL);
    struct gw_view *kept = gw_view_open(worker, local, NULL, 0, NULL);
    struct gw_view *own = gw_view_open(worker, local, session, 0, NULL);
    struct upstream_instance *instance = own->items[1].instance;
    uint64_t before = upstream_set_generation(gateway->upstreams);
    upstream_set_forget_session(gateway->upstreams, SLICE("another session"), 0);
    CHECK(before == upstream_set_generation(gateway->upstreams));
    upstream_set_forget_session(gateway->upstreams, slice_from_cstr(session->id), 0);
    CHECK(before != upstream_set_generation(gateway->upstreams));
    struct gw_view *again = gw_view_open(worker, local, session, 0, NULL);
    CHECK(again != own && again->items[1].instance != instance);
    CHECK(again->items[0].instance == own->items[0].instance);
    CHECK_INT(worker->views.n, 2);
    gw_views_drop_old(&worker->views, upstream_set_generation(gateway->upstreams));
    CHECK_INT(worker->views.n, 1);
    CHECK(kept->refs == 1 && own->refs == 1 && again->refs == 2);
    CHECK_INT(kept->n, 2);
    gw_view_close(kept);
    gw_view_close(own);
    gw_view_close(again);
    /* The instance that is made for a session that has ended is ended too. */
    gw_session_close(session);
    again = gw_view_open(worker, local, session, 0, NULL);
    CHECK(again->generation != upstream_set_generation(gateway->upstreams));
    gw_view_close(again);
    gw_session_unref(session);
    end_gateway(gateway, config, log);
}

static void test_bound(void) {
    struct config *config = NULL;
    struct log *log = NULL;
    struct gateway *gateway = new_gateway(SERVER("a", "share = \"session\"\n"), &config, &log);
    struct gw_worker *worker = &gateway->workers[0];
    struct gw_view *first = open_and_close(worker, local, NULL, NULL);
    for (size_t i = 0; i < 200; i++) {
        struct gw_session *session = new_session(gateway, NULL);
        open_and_close(worker, local, session, NULL);
        gw_session_unref(session);
        if (i % 50 == 0) /* what is used stays */
            CHECK(first == open_and_close(worker, local, NULL, NULL));
    }
    CHECK_INT(worker->views.n, 64);
    gw_views_drop_all(&worker->views);
    CHECK_INT(worker->views.n, 0);
    end_gateway(gateway, config, log);
}

/* Catalogs, put into views by hand. */

static struct catalog *new_catalog(const char *upstream, enum mcp_list kind, const char *items) {
    struct json_reader *reader = NULL;
    struct buf page CLEANUP(buf_deinit) = BUF_INIT(MIB(64)),
                    cursor CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    const char *reason = "";
    struct catalog *catalog = catalog_new(NULL);
    struct catalog_list *list = catalog_list_new();
    struct catalog_source source = {
        .kind = kind,
        .revision = MCP_LEGACY_LATEST,
        .upstream = slice_from_cstr(upstream),
        .max_items = 5000,
        .max_definition = MIB(4),
    };
    buf_printf(&page, "{\"%s\":[%s]}", mcp_list_info(kind)->result_key.ptr, items);
    if (json_reader_new(&reader) != 0 ||
        catalog_list_add_page(list, &source, buf_slice(&page), reader, &cursor, &reason) != 0)
        CANNOT_GO_ON();
    json_reader_free(reader);
    catalog->revision = MCP_LEGACY_LATEST;
    catalog_set_list(catalog, kind, list);
    return catalog;
}

static void give(struct gw_view_item *item, struct catalog *catalog, bool is_listed) {
    catalog_unref(item->status.catalog);
    item->status.catalog = catalog;
    item->status.is_listed = is_listed;
}

#define TOOL(name) "{\"name\":\"" name "\",\"inputSchema\":{\"type\":\"object\"}}"
#define LONG                                                                                       \
    "a-name-that-is-longer-than-clients-take-together-with-the-name-of-its-upstream-0123456789"

/* Names lead to their upstream, also those that were shortened or have bytes that clients do not
 * take. */
static void test_names(void) {
    struct config *config = NULL;
    struct log *log = NULL;
    struct gateway *gateway =
        new_gateway(SERVER("a", "") SERVER("a_b", "") SERVER("c", ""), &config, &log);
    struct gw_worker *worker = &gateway->workers[0];
    struct gw_view *view = gw_view_open(worker, local, NULL, 0, NULL);
    static const char *const names[] = {"a", "a_b", "c"};
    for (size_t i = 0; i < 2; i++)
        give(&view->items[i],
             new_catalog(names[i], MCP_LIST_TOOLS,
                         TOOL("t") "," TOOL("_t") "," TOOL("b__t") "," TOOL("two words") "," TOOL(
                             LONG "x") "," TOOL(LONG "y")),
             i == 0);
    for (size_t i = 0; i < 2; i++) {
        const struct catalog_list *list = view->items[i].status.catalog->lists[MCP_LIST_TOOLS];
        CHECK_INT(list->n_items, 6);
        for (size_t k = 0; k < list->n_items; k++) {
            const struct catalog_item *found = NULL;
            /* One that is down is known too: the call says so. */
            CHECK(gw_view_find(view, MCP_LIST_TOOLS, list->items[k].exposed, &found) ==
                  &view->items[i]);
            CHECK(found == &list->items[k]);
        }
    }
    static const char *const unknown[] = {"t", "a__",  "a__x",    "a_b",  "__t",
                                          "",  "d__t", "a_b__ t", "c__t", "A__t"};
    for (size_t i = 0; i < ARRAY_LEN(unknown); i++) {
        const struct catalog_item *found = NULL;
        test_row(unknown[i]);
        CHECK(gw_view_find(view, MCP_LIST_TOOLS, slice_from_cstr(unknown[i]), &found) == NULL);
    }
    CHECK(gw_view_named(view, SLICE("c__t")) == &view->items[2]);
    CHECK(gw_view_named(view, SLICE("d__t")) == NULL);
    gw_view_close(view);
    end_gateway(gateway, config, log);
}

#define RESOURCE(uri) "{\"uri\":\"" uri "\",\"name\":\"" uri "\"}"

struct uri_row {
    const char *uri;
    int upstream; /* -1: nobody */
};

/* The same URI belongs to the first upstream that has it; lists ask only those that are listed. */
static void test_uris(void) {
    struct config *config = NULL;
    struct log *log = NULL;
    struct gateway *gateway =
        new_gateway(SERVER("a", "") SERVER("b", "") SERVER("c", ""), &config, &log);
    struct gw_view *view = gw_view_open(&gateway->workers[0], local, NULL, 0, NULL);
    give(&view->items[0], new_catalog("a", MCP_LIST_RESOURCES, RESOURCE("x:a") "," RESOURCE("x:1")),
         false);
    give(&view->items[1],
         new_catalog("b", MCP_LIST_RESOURCES,
                     RESOURCE("x:1") "," RESOURCE("x:b") "," RESOURCE("x:2")),
         true);
    give(&view->items[2],
         new_catalog("c", MCP_LIST_RESOURCES,
                     RESOURCE("x:c") "," RESOURCE("x:2") "," RESOURCE("x:1") "," RESOURCE("x:d")),
         true);
    static const struct uri_row rows[] = {{"x:a", 0}, {"x:1", 0}, {"x:b", 1}, {"x:2", 1},
                                          {"x:c", 2}, {"x:d", 2}, {"x:e", -1}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct catalog_item *found = NULL;
        test_row(rows[i].uri);
        struct gw_view_item *item =
            gw_view_find(view, MCP_LIST_RESOURCES, slice_from_cstr(rows[i].uri), &found);
        CHECK(item == (rows[i].upstream < 0 ? NULL : &view->items[rows[i].upstream]));
        if (item != NULL)
            CHECK_STR(found->key, rows[i].uri);
    }
    const struct gw_place *places = NULL;
    size_t n = 0;
    CHECK_INT(gw_view_repeated(view, MCP_LIST_RESOURCES, &places, &n), 0);
    REQUIRE(n == 2);
    CHECK(places[0].upstream == 2 && places[0].item == 1);
    CHECK(places[1].upstream == 2 && places[1].item == 2);
    gw_view_close(view);
    end_gateway(gateway, config, log);
}

/* Pages. */

struct written {
    struct buf text;
    size_t n;
    bool is_full;
    struct gw_place next;
};

static bool belongs_to_earlier(const struct gw_view *view, size_t index, enum mcp_list list,
                               const struct catalog_item *item) {
    for (size_t i = 0; i < index; i++) {
        const struct upstream_status *status = &view->items[i].status;
        if (status->is_listed && catalog_find(status->catalog, list, item->exposed, true) != NULL)
            return true;
    }
    return false;
}

/* Item by item: what a page is by definition. */
static void write_plainly(struct written *page, const struct gw_view *view, enum mcp_list list,
                          struct gw_place at, enum mcp_revision to, size_t before) {
    for (; at.upstream < view->n; at = (struct gw_place){at.upstream + 1, 0}) {
        const struct upstream_status *status = &view->items[at.upstream].status;
        if (!status->is_listed)
            continue;
        const struct catalog_list *items = status->catalog->lists[list];
        for (; at.item < items->n_items; at.item++) {
            const struct catalog_item *item = &items->items[at.item];
            if (page->n >= GW_PAGE_ITEMS || before + buf_len(&page->text) >= GW_PAGE_BYTES) {
                page->is_full = true;
                page->next = at;
                return;
            }
            if (belongs_to_earlier(view, at.upstream, list, item))
                continue;
            if (page->n++ != 0)
                buf_append_byte(&page->text, ',');
            CHECK_INT(catalog_item_write(&page->text, status->catalog, item, true, to), 0);
        }
    }
}

/* The page that begins here is what it is by definition, and ends where it should. */
static bool check_page(struct gw_view *view, enum mcp_list list, struct gw_place from,
                       enum mcp_revision to, struct gw_place *ret_next) {
    static struct gw_page page;
    const size_t before = 60;
    struct written plain = {.text = BUF_INIT(MIB(16))};
    struct buf text = BUF_INIT(MIB(16));
    gw_page_init(&page, before);
    CHECK_INT(gw_page_cut(view, list, from, to, &page), 0);
    for (size_t i = 1; i < page.n_parts; i++)
        buf_append(&text, page.parts[i]);
    write_plainly(&plain, view, list, from, to, before);
    CHECK(slice_eq(buf_slice(&text), buf_slice(&plain.text)));
    CHECK_INT(page.n_items, plain.n);
    CHECK_INT(page.len, before + buf_len(&text));
    CHECK_INT(page.is_full, plain.is_full);
    if (plain.is_full) {
        CHECK_INT(page.next.upstream, plain.next.upstream);
        CHECK_INT(page.next.item, plain.next.item);
    }
    *ret_next = plain.next;
    buf_deinit(&plain.text);
    buf_deinit(&text);
    return plain.is_full;
}

/* Items as JSON: numbers `from` to `end`, every third of another size. */
static void write_items(struct buf *out, enum mcp_list kind, size_t from, size_t end, size_t size) {
    for (size_t i = from; i < end; i++) {
        buf_printf(out, "%s{\"%s\":\"%s%zu\",\"name\":\"n%zu\"", i != from ? "," : "",
                   kind == MCP_LIST_TOOLS ? "title" : "uri", "x:", i, i);
        if (kind == MCP_LIST_TOOLS)
            buf_append_cstr(out, ",\"inputSchema\":{\"type\":\"object\"},\"execution\":{}");
        buf_append_cstr(out, ",\"description\":\"");
        for (size_t k = 0; k < size * (i % 3); k++)
            buf_append_byte(out, 'x');
        buf_append_cstr(out, "\"}");
    }
}

struct list_row {
    size_t from, end;
    bool is_listed;
};

#define MAX_LISTS 6

static void test_pages(void) {
    static const struct {
        const char *name;
        enum mcp_list kind;
        size_t size; /* of descriptions */
        struct list_row lists[MAX_LISTS];
    } rows[] = {
        {"nothing", MCP_LIST_TOOLS, 0, {{0}}},
        {"empty lists", MCP_LIST_TOOLS, 1, {{0, 0, true}, {0, 1, true}, {0, 0, true}}},
        {"a page exactly", MCP_LIST_TOOLS, 1, {{0, 400, true}, {0, 600, true}}},
        {"one more", MCP_LIST_TOOLS, 1, {{0, 400, true}, {0, 600, true}, {0, 1, true}}},
        {"a page ends with its list",
         MCP_LIST_TOOLS,
         1,
         {{0, 1000, true}, {0, 0, true}, {0, 3, true}}},
        {"one list of pages", MCP_LIST_TOOLS, 10, {{0, 3500, true}}},
        {"one that is down", MCP_LIST_TOOLS, 10, {{0, 900, true}, {0, 900, false}, {0, 900, true}}},
        {"full by bytes", MCP_LIST_TOOLS, 40000, {{0, 70, true}, {0, 70, true}, {0, 70, true}}},
        {"one item is more than a page", MCP_LIST_TOOLS, 2000000, {{0, 5, true}, {0, 4, true}}},
        {"the same resources",
         MCP_LIST_RESOURCES,
         5,
         {{0, 900, true}, {0, 900, true}, {0, 900, true}}},
        {"some of them",
         MCP_LIST_RESOURCES,
         5,
         {{0, 900, true}, {500, 1400, true}, {450, 1500, true}}},
        {"of one that is down",
         MCP_LIST_RESOURCES,
         5,
         {{0, 900, false}, {500, 1400, true}, {0, 950, true}}},
        {"repeated where a page ends",
         MCP_LIST_RESOURCES,
         5,
         {{0, 1000, true}, {900, 1000, true}, {990, 1010, true}}},
        {"full, and the rest is repeated", MCP_LIST_RESOURCES, 5, {{0, 1000, true}, {0, 10, true}}},
    };
    struct config *config = NULL;
    struct log *log = NULL;
    struct gateway *gateway = new_gateway(SERVER("a", "") SERVER("b", "") SERVER("c", "")
                                              SERVER("d", "") SERVER("e", "") SERVER("f", ""),
                                          &config, &log);
    struct gw_view *view = gw_view_open(&gateway->workers[0], local, NULL, 0, NULL);
    struct buf items CLEANUP(buf_deinit) = BUF_INIT(MIB(64));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].name);
        for (size_t k = 0; k < MAX_LISTS; k++) {
            const struct list_row *list = &rows[i].lists[k];
            buf_reset(&items, MIB(1));
            write_items(&items, rows[i].kind, list->from, list->end, rows[i].size);
            buf_append_byte(&items, '\0');
            char name[] = {(char)('a' + k), '\0'};
            give(&view->items[k], new_catalog(name, rows[i].kind, buf_slice(&items).ptr),
                 list->is_listed);
        }
        gw_view_forget_uris(view);
        for (int era = 0; era < 2; era++) {
            struct gw_place at = {0, 0};
            size_t n_pages = 0;
            while (check_page(view, rows[i].kind, at, era == 0 ? MCP_LEGACY_LATEST : MCP_2026_07_28,
                              &at) &&
                   n_pages < 100)
                n_pages++;
            CHECK(n_pages < 100);
        }
        /* Cursors of lists that were other ones. */
        static const struct gw_place odd[] = {{0, 5000}, {1, 3}, {2, 399},
                                              {5, 1},    {6, 0}, {4000000000u, 1}};
        struct gw_place next;
        for (size_t k = 0; k < ARRAY_LEN(odd); k++)
            (void)check_page(view, rows[i].kind, odd[k], MCP_LEGACY_LATEST, &next);
    }
    gw_view_close(view);
    end_gateway(gateway, config, log);
}

/* Without memory for its table the resource is found all the same; a list is not cut. */
static void test_out_of_memory(void) {
    struct config *config = NULL;
    struct log *log = NULL;
    struct gateway *gateway = new_gateway(SERVER("a", "") SERVER("b", ""), &config, &log);
    struct gw_view *view = gw_view_open(&gateway->workers[0], local, NULL, 0, NULL);
    give(&view->items[0], new_catalog("a", MCP_LIST_RESOURCES, RESOURCE("x:1")), true);
    give(&view->items[1], new_catalog("b", MCP_LIST_RESOURCES, RESOURCE("x:1") "," RESOURCE("x:2")),
         true);
    static struct gw_page page;
    bool has_failed = false, has_worked = false;
    for (uint64_t n = 1; n < 20 && !has_worked; n++) {
        const struct catalog_item *found = NULL;
        gw_view_forget_uris(view);
        mem_fail_after(n);
        CHECK(gw_view_find(view, MCP_LIST_RESOURCES, SLICE("x:2"), &found) == &view->items[1]);
        gw_page_init(&page, 0);
        int error = gw_page_cut(view, MCP_LIST_RESOURCES, (struct gw_place){0, 0},
                                MCP_LEGACY_LATEST, &page);
        mem_fail_after(0);
        CHECK(error == 0 || error == -ENOMEM);
        CHECK(found != NULL && slice_eq(found->key, SLICE("x:2")));
        if (error == 0)
            CHECK_INT(page.n_items, 2);
        has_failed = has_failed || error != 0;
        has_worked = error == 0;
    }
    CHECK(has_failed && has_worked);
    gw_view_close(view);
    end_gateway(gateway, config, log);
}

TEST_MAIN(TEST(test_kept), TEST(test_changes), TEST(test_bound), TEST(test_names), TEST(test_uris),
          TEST(test_pages), TEST(test_out_of_memory))
