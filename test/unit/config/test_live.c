/* What is told of the configuration that is served by: where values come from, and no secret. The
 * samples of test_compare.c show that every key is told with its line. */
#include "loaded.h"

static bool is_in(const struct buf *text, const char *part) {
    return slice_find(buf_slice(text), slice_from_cstr(part)) != SIZE_MAX;
}

/* The item of a key. */
static struct slice item_of(const struct buf *live, const char *path) {
    CLEANUP(buf_deinit) struct buf begin = BUF_INIT(KIB(1));
    buf_printf(&begin, "{\"path\":\"%s\",", path);
    size_t at = slice_find(buf_slice(live), buf_slice(&begin));
    if (at == SIZE_MAX)
        return SLICE_EMPTY;
    struct slice item = slice_from(buf_slice(live), at + buf_len(&begin));
    return slice_sub(item, 0, slice_find_byte(item, '}'));
}

static void check_item(const struct buf *live, const char *path, const char *part) {
    struct slice item = item_of(live, path);
    bool is_there = slice_find(item, slice_from_cstr(part)) != SIZE_MAX;
    if (!is_there)
        printf("# %s: no %s in %.*s\n", path, part, SLICE_ARGS(item));
    CHECK(is_there);
}

static const char file[] =
    "[server]\n"
    "workers = 3\n"
    "shutdown_timeout = \"{{ env.WAIT }}\"\n"
    "[server.auth.tokens.t]\n"
    "hash = \"sha256:1000000000000000000000000000000000000000000000000000000000000000\"\n"
    "[store]\n"
    "url = \"postgres://me:pw1@db/cardea\"\n"
    "[[mcp.headers]]\n"
    "rule = \"insert\"\n"
    "name = \"X-A\"\n"
    "value = \"hdr_s3cr3t\"\n"
    "[mcp.servers.web]\n"
    "url = \"https://api.example:8443/k3y/mcp?token=qu3ry\"\n"
    "auth = { type = \"forward\" }\n"
    "proxy = \"http://u:pr0xy@proxy:3128\"\n"
    "[mcp.servers.child]\n"
    "cmd = [\"serve\", \"--token=4rg\", \"{{ env.GITHUB_TOKEN }}\"]\n"
    "env = { KEY = \"v4lue\", OTHER = \"{{ env.WIKI_TOKEN }}\" }\n"
    "stderr = { file = \"/var/log/child\" }\n"
    "tools.a.arguments.b.max = 1.5\n"
    "[mcp.servers.plain]\n"
    "cmd = [\"{{ env.TOKEN }}\"]\n"
    "cwd = \"{{ env.DB_HOST }}\"\n";

static const char *const secrets[] = {"pw1",        "hdr_s3cr3t",    "k3y",   "qu3ry",
                                      "pr0xy",      "4rg",           "v4lue", "s3cr3t",
                                      "1000000000", "db.example.com"};

static void test_items(void) {
    CLEANUP(buf_deinit) struct buf live = BUF_INIT(MIB(4));
    struct loaded l = load(slice_from_cstr(file));
    CHECK_INT(l.result, 0);
    if (l.result != 0) {
        printf("# %.*s\n", SLICE_ARGS(buf_slice(&l.text)));
        unload(&l);
        return;
    }
    CHECK_INT(config_write_live(l.config, &live), 0);
    check_item(&live, "server.workers", "\"value\":3,\"source\":\"file\",\"line\":2,\"column\":1");
    check_item(&live, "server.workers", "\"needs_restart\":true");
    check_item(&live, "server.listen_address",
               "\"value\":\"127.0.0.1:8000\",\"source\":\"default\"");
    check_item(&live, "server.shutdown_timeout", "\"value\":\"5s\",\"source\":\"environment\"");
    check_item(&live, "server.shutdown_timeout", "\"references\":[\"env.WAIT\"]");
    check_item(&live, "store.url", "\"value\":null,\"source\":\"file\",\"line\":7");
    check_item(&live, "store.url", "\"is_secret\":true,\"is_set\":true");
    check_item(&live, "server.auth.tokens.t.hash", "\"value\":null");
    check_item(&live, "mcp.headers", "\"value\":1");
    check_item(&live, "mcp.headers[0].name", "\"value\":\"X-A\"");
    check_item(&live, "mcp.headers[0].value", "\"is_secret\":true,\"is_set\":true");
    check_item(&live, "mcp.headers[0].default", "\"is_set\":false");
    check_item(&live, "mcp.servers.web.url", "\"origin\":\"https://api.example:8443\"");
    check_item(&live, "mcp.servers.web.auth.audience", "\"value\":null,\"source\":\"default\"");
    check_item(&live, "mcp.servers.web.auth.token", "\"is_secret\":true,\"is_set\":false");
    check_item(&live, "mcp.servers.child.env", "\"names\":[\"KEY\",\"OTHER\"]");
    check_item(&live, "mcp.servers.child.env", "\"references\":[\"env.WIKI_TOKEN\"]");
    check_item(&live, "mcp.servers.child.cmd", "\"value\":null,\"source\":\"environment\"");
    check_item(&live, "mcp.servers.child.stderr.file", "\"value\":\"/var/log/child\"");
    check_item(&live, "mcp.servers.child.tools.a.arguments.b.max", "\"value\":1.5");
    check_item(&live, "mcp.servers.child.max_instances", "\"value\":16,\"source\":\"default\"");
    check_item(&live, "mcp.servers.plain.cwd", "\"value\":null,\"source\":\"environment\"");
    /* What is for the other kind of server is not told. */
    CHECK_INT(item_of(&live, "mcp.servers.web.cwd").len, 0);
    CHECK_INT(item_of(&live, "mcp.servers.child.proxy").len, 0);
    unload(&l);
}

static void test_secrets(void) {
    CLEANUP(buf_deinit) struct buf json = BUF_INIT(MIB(4)), text = BUF_INIT(MIB(4));
    struct loaded l = load(slice_from_cstr(file));
    if (l.result == 0) {
        CHECK_INT(config_write_live(l.config, &json), 0);
        CHECK_INT(config_print_live(l.config, &text), 0);
        for (size_t i = 0; i < ARRAY_LEN(secrets); i++) {
            bool is_told = is_in(&json, secrets[i]) || is_in(&text, secrets[i]);
            if (is_told)
                printf("# %s is told\n", secrets[i]);
            CHECK(!is_told);
        }
        CHECK(is_in(&text, "environment env.WIKI_TOKEN, /etc/gw/f.toml:18"));
    }
    unload(&l);
}

/* What is served by is told, and that the file says something else; what was hidden stays so. */
static void test_kept(void) {
    CLEANUP(buf_deinit) struct buf live = BUF_INIT(MIB(4)), again = BUF_INIT(MIB(4));
    struct loaded a =
        load(SLICE("[server]\nworkers = 3\n[audit]\njsonl.path = \"{{ env.TOKEN }}\"\n"));
    struct loaded b = load(SLICE("[audit]\njsonl.path = \"/b\"\n"));
    struct loaded c = load(SLICE("[audit]\njsonl.path = \"/b\"\n"));
    CHECK(a.result == 0 && b.result == 0 && c.result == 0);
    if (a.result == 0 && b.result == 0 && c.result == 0) {
        CHECK_INT(config_keep(b.config, a.config), 0);
        CHECK_INT(config_keep(c.config, b.config), 0);
        unload(&a);
        CHECK_INT(config_write_live(b.config, &live), 0);
        check_item(&live, "server.workers", "\"value\":3,\"source\":\"file\",\"is_secret\":false");
        check_item(&live, "server.workers", "\"waits_for_restart\":true");
        check_item(&live, "audit.jsonl.path", "\"value\":null,\"source\":\"environment\"");
        check_item(&live, "audit.mode", "\"waits_for_restart\":false");
        CHECK(!is_in(&live, "s3cr3t"));
        CHECK_INT(config_write_live(c.config, &again), 0);
        CHECK_SLICE(buf_slice(&again), buf_slice(&live));
    } else {
        unload(&a);
    }
    unload(&b);
    unload(&c);
}

static void test_given(void) {
    CLEANUP(buf_deinit) struct buf live = BUF_INIT(MIB(4));
    struct loaded l = load(SLICE("[server]\nlisten_address = \"127.0.0.1:1\"\n"));
    CHECK_INT(l.result, 0);
    if (l.result == 0) {
        l.config->listen_address = SLICE("127.0.0.1:2");
        l.config->has_given_listen = true;
        CHECK_INT(config_write_live(l.config, &live), 0);
        check_item(&live, "server.listen_address",
                   "\"value\":\"127.0.0.1:2\",\"source\":\"command line\"");
    }
    unload(&l);
}

/* A server that is not of the file has no line. */
static void test_stored(void) {
    CLEANUP(buf_deinit) struct buf live = BUF_INIT(MIB(4)), text = BUF_INIT(MIB(4));
    struct loaded l = load(SLICE("[mcp.servers.a]\ncmd = [\"x\"]\ncwd = \"/\"\n"));
    CHECK_INT(l.result, 0);
    if (l.result == 0) {
        l.config->servers[0].line = 0;
        CHECK_INT(config_write_live(l.config, &live), 0);
        CHECK_INT(config_print_live(l.config, &text), 0);
        CHECK(is_in(&live, "{\"name\":\"a\",\"source\":\"store\"}"));
        check_item(&live, "mcp.servers.a.cwd",
                   "\"value\":\"/\",\"source\":\"store\",\"is_secret\"");
        check_item(&live, "mcp.servers.a.share", "\"source\":\"default\"");
        check_item(&live, "security.edit_mode", "\"source\":\"default\"");
        CHECK(!is_in(&text, "f.toml:"));
    }
    unload(&l);
}

/* 1000 servers: what is noted of keys stays small beside them. */
static void test_many(void) {
    enum { SERVERS = 1000 };
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(MIB(4)), live = BUF_INIT(MIB(32));
    for (int i = 0; i < SERVERS; i++)
        buf_printf(&text, "[mcp.servers.s%d]\ncmd = [\"x\"]\nmax_tools = 7\ncwd = \"/\"\n", i);
    struct loaded l = load(buf_slice(&text));
    CHECK_INT(l.result, 0);
    if (l.result == 0) {
        CHECK_INT(config_write_live(l.config, &live), 0);
        check_item(&live, "mcp.servers.s999.max_tools", "\"line\":3999");
        CHECK(is_in(&live, "{\"name\":\"s999\",\"source\":\"file\",\"line\":3997}"));
    }
    unload(&l);
}

TEST_MAIN(TEST(test_items), TEST(test_secrets), TEST(test_kept), TEST(test_given),
          TEST(test_stored), TEST(test_many))
