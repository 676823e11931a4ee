/* What the gateway connects to by its file, what it may be told to connect to by others, and for
 * how long what is open for callers is kept. */
#include "loaded.h"

static void add_line(void *context, struct slice url) {
    struct buf *out = context;
    buf_append(out, url);
    buf_append_byte(out, '\n');
}

#define OAUTH                                                                                      \
    "[server.oauth]\nprotected_resource.resource = \"https://gw.example\"\n"                       \
    "protected_resource.authorization_servers = [\"https://other.example\"]\n"
#define CREDENTIALS                                                                                \
    "auth.type = \"client_credentials\"\nauth.client_id = \"gw\"\n"                                \
    "auth.client_secret = \"{{ env.TOKEN }}\"\n"

/* Whoever is named here is exempt from the rules, so nobody else may be. */
static void test_each_url(void) {
    struct buf urls CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    struct loaded l = load(SLICE(
        OAUTH
        "issuer = \"https://id.example\"\nurl = \"https://keys.example/jwks\"\n"
        "[[server.oauth.issuers]]\nissuer = \"https://b.example\"\n"
        "[[server.oauth.issuers]]\nexpected_issuer = \"c\"\nurl = \"https://c.example/jwks\"\n"
        "[server.rate_limits.storage]\ntype = \"redis\"\nurl = \"redis://r.example\"\n"
        "[mcp.servers.child]\ncmd = [\"x\"]\n"
        "[mcp.servers.web]\nurl = \"https://w.example/mcp?key=1\"\n" CREDENTIALS
        "auth.issuer = \"https://as.example\"\n"
        "auth.token_endpoint = \"https://as.example:8443/token\"\n"
        "auth.resource = \"https://r.example\"\nproxy = \"http://p.example:3128\"\n"
        "[mcp.servers.off]\nenabled = false\nurl = \"https://off.example\"\n"));
    CHECK_STR(buf_slice(&l.text), "");
    REQUIRE(l.result == 0);
    config_each_url(l.config, add_line, &urls);
    CHECK_STR(buf_slice(&urls), "https://id.example\nhttps://keys.example/jwks\n"
                                "https://b.example\nhttps://c.example/jwks\n"
                                "https://w.example/mcp?key=1\nhttps://as.example\n"
                                "https://as.example:8443/token\n");
    unload(&l);
    buf_truncate(&urls, 0);
    l = load(SLICE(""));
    REQUIRE(l.result == 0);
    config_each_url(l.config, add_line, &urls);
    CHECK_STR(buf_slice(&urls), "");
    unload(&l);
}

#define WIDE                                                                                       \
    " is every address there is: whoever answers the gateway can point it at this machine, its "   \
    "network and the cloud's own addresses; name the networks that are meant, such as "            \
    "\"10.20.0.0/16\"\n"
#define BAD " must be an address or a block of them (\"192.0.2.7\", \"10.0.0.0/8\", \"fd00::/8\")\n"
#define N   "security.allow_networks["

static void test_networks(void) {
    static const struct {
        const char *list, *problems;
    } rows[] = {
        {"[]", ""},
        {"[\"10.0.0.0/8\", \"fd00::/8\", \"127.0.0.1\", \"::1\"]", ""},
        {"[\"10.0.0.0/8\", \"0.0.0.0/0\"]", "2:33: warning: " N "1]" WIDE},
        {"[\"::/0\"]", "2:19: warning: " N "0]" WIDE},
        {"[\"::ffff:0.0.0.0/96\"]", "2:19: warning: " N "0]" WIDE},
        {"[\"0.0.0.0/1\"]", ""},
        {"[\"example.com\"]", "2:19: error: " N "0]" BAD},
        {"[\"10.0.0.0/33\"]", "2:19: error: " N "0]" BAD},
        {"[\"10.0.0.0/\"]", "2:19: error: " N "0]" BAD},
        {"[\"10.0.0.0/-1\"]", "2:19: error: " N "0]" BAD},
        {"[\"010.0.0.0/8\"]", "2:19: error: " N "0]" BAD},
        {"[\"10.0.0/8\"]", "2:19: error: " N "0]" BAD},
        {"[\"\"]", "2:19: error: " N "0]" BAD},
        {"[\"fe80::1%eth0\"]", "2:19: error: " N "0]" BAD},
        {"[10]", "2:19: error: " N "0] must be a string, in quotation marks\n"},
        {"\"10.0.0.0/8\"", "2:18: error: security.allow_networks must be a list of strings\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf toml CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        test_row(rows[i].list);
        buf_printf(&toml, "[security]\nallow_networks = %s\n[mcp.servers.a]\ncmd = [\"x\"]\n",
                   rows[i].list);
        struct loaded l = load(buf_slice(&toml));
        CHECK_STR(without_file(&l, &text), rows[i].problems);
        unload(&l);
    }
}

/* One too many. */
static void test_too_many_networks(void) {
    for (unsigned n = LIMIT_ALLOW_NETWORKS; n <= LIMIT_ALLOW_NETWORKS + 1; n++) {
        struct buf toml CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
        buf_append_cstr(&toml, "[security]\nallow_networks = [");
        for (unsigned i = 0; i < n; i++)
            buf_printf(&toml, "\"10.0.%u.0/24\", ", i);
        buf_append_cstr(&toml, "]\n");
        struct loaded l = load(buf_slice(&toml));
        CHECK_INT(l.result, n > LIMIT_ALLOW_NETWORKS ? CONFIG_E_INVALID : 0);
        if (l.result == 0)
            CHECK_INT(l.config->n_allow_networks, n);
        unload(&l);
    }
}

/* A server's own, that of the cache, or ten minutes. */
static void test_idle_timeouts(void) {
    static const struct {
        const char *cache, *server;
        uint64_t wanted_ms;
    } rows[] = {
        {"", "", 600000},
        {"", "idle_timeout = \"7s\"", 7000},
        {"", "idle_timeout = \"0s\"", 0},
        {"idle_timeout = \"5m\"", "", 300000},
        {"idle_timeout = \"0s\"", "", 0},
        {"idle_timeout = \"5m\"", "idle_timeout = \"7s\"", 7000},
        {"idle_timeout = \"5m\"", "idle_timeout = \"10m\"", 600000}, /* as written, by chance */
        {"idle_timeout = \"5m\"", "idle_timeout = \"0s\"", 0},
        {"max_size = 7", "", 600000},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf toml CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        test_row(rows[i].server);
        /* The order of the tables is nobody's. */
        for (int before = 0; before < 2; before++) {
            buf_truncate(&toml, 0);
            if (before == 0)
                buf_printf(&toml, "[mcp.downstream_cache]\n%s\n", rows[i].cache);
            buf_printf(&toml, "[mcp.servers.a]\ncmd = [\"x\"]\n%s\n", rows[i].server);
            if (before == 1)
                buf_printf(&toml, "[mcp.downstream_cache]\n%s\n", rows[i].cache);
            struct loaded l = load(buf_slice(&toml));
            CHECK_STR(buf_slice(&l.text), "");
            REQUIRE(l.result == 0);
            CHECK_INT(l.config->servers[0].idle_timeout_ms, rows[i].wanted_ms);
            unload(&l);
        }
    }
}

static void test_cache_bounds(void) {
    static const struct {
        const char *line, *problem;
    } rows[] = {
        {"max_size = 0", "max_size must be from 1 to 1000000\n"},
        {"max_size = -1", "max_size must be from 1 to 1000000\n"},
        {"max_size = 1000001", "max_size must be from 1 to 1000000\n"},
        {"max_size = \"10\"", "max_size must be an integer\n"},
        {"idle_timeout = \"31days\"", "idle_timeout must be from 0s to 30d\n"},
        {"idle_timeout = 600",
         "idle_timeout must be a duration, as a string such as \"30s\" or \"1h 30m\"\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf toml CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        test_row(rows[i].line);
        buf_printf(&toml, "[mcp.servers.a]\ncmd = [\"x\"]\n[mcp.downstream_cache]\n%s\n",
                   rows[i].line);
        struct loaded l = load(buf_slice(&toml));
        CHECK_INT(l.problems.n_errors, 1);
        CHECK(slice_ends_with(buf_slice(&l.text), slice_from_cstr(rows[i].problem)));
        unload(&l);
    }
}

TEST_MAIN(TEST(test_each_url), TEST(test_networks), TEST(test_too_many_networks),
          TEST(test_idle_timeouts), TEST(test_cache_bounds))
