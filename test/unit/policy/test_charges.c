/* What counts for which limit. */
#include "support.h"

#define SERVER "[mcp.servers.db]\ncmd = [\"true\"]\naccess = \"read\"\n"
#define LIMITS "mcp.servers.db.rate_limits"

/* "id limit/interval subject" of each, a line each. */
static void write_charges(struct buf *out, const struct limits_charge *charges, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const struct limits_rule *rule = charges[i].rule;
        bool is_everybody = charges[i].subject.high == 0 && charges[i].subject.low == 0;
        buf_printf(out, "%.*s %llu/%llu%s\n", SLICE_ARGS(rule->id),
                   (unsigned long long)rule->limit.limit,
                   (unsigned long long)rule->limit.interval_ms, is_everybody ? "" : " each");
    }
}

static void test_calls(void) {
    static const char all[] =
        HEAD SERVER "[" LIMITS "]\nlimit = 100\ninterval = \"1m\"\n"
                    "[" LIMITS ".tools.query]\nlimit = 30\ninterval = \"10s\"\n"
                    "[" LIMITS ".per_user]\nlimit = 10\ninterval = \"1m\"\n"
                    "[" LIMITS ".per_user.tools.query]\nlimit = 5\ninterval = \"1m\"\n"
                    "[" LIMITS ".per_user.tools.drop]\nlimit = 1\ninterval = \"1h\"\n"
                    "[" LIMITS ".per_user.groups.free]\nlimit = 5\ninterval = \"1m\"\n"
                    "[" LIMITS ".per_user.groups.pro]\nlimit = 100\ninterval = \"2m\"\n"
                    "[" LIMITS ".per_user.groups.dev]\nlimit = 50\ninterval = \"1m\"\n"
                    "[" LIMITS ".per_user.groups.ops]\nlimit = 1000\ninterval = \"1h\"\n";
    static const struct {
        enum policy_kind kind;
        const char *name, *groups, *charges;
    } rows[] = {
        {POLICY_TOOL, "query", "",
         "server:db 100/60000\nserver:db:tool:query 30/10000\nserver:db:user 10/60000 each\n"
         "server:db:user:tool:query 5/60000 each\n"},
        {POLICY_TOOL, "drop", "",
         "server:db 100/60000\nserver:db:user 10/60000 each\n"
         "server:db:user:tool:drop 1/3600000 each\n"},
        {POLICY_TOOL, "other", "", "server:db 100/60000\nserver:db:user 10/60000 each\n"},
        /* a prompt that is called like a tool */
        {POLICY_PROMPT, "query", "", "server:db 100/60000\nserver:db:user 10/60000 each\n"},
        {POLICY_RESOURCE, "query", "", "server:db 100/60000\nserver:db:user 10/60000 each\n"},
        /* a group's row in place of per_user; per_user.tools stays */
        {POLICY_TOOL, "query", "free",
         "server:db 100/60000\nserver:db:tool:query 30/10000\n"
         "server:db:user:group:free 5/60000 each\nserver:db:user:tool:query 5/60000 each\n"},
        {POLICY_TOOL, "other", "\"a b\"", "server:db 100/60000\nserver:db:user 10/60000 each\n"},
        /* of several the one that allows most: 5, 16.7, 50, 50 a minute */
        {POLICY_TOOL, "other", "free ops",
         "server:db 100/60000\nserver:db:user:group:ops 1000/3600000 each\n"},
        {POLICY_TOOL, "other", "free ops dev",
         "server:db 100/60000\nserver:db:user:group:dev 50/60000 each\n"},
        {POLICY_TOOL, "other", "free pro ops dev",
         "server:db 100/60000\nserver:db:user:group:pro 100/120000 each\n"},
        {POLICY_TOOL, "other", "pro ?",
         "server:db 100/60000\nserver:db:user:group:pro 100/120000 each\n"},
    };
    struct loaded_policy loaded = load_policy(all);
    struct caller caller;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct limits_charge charges[LIMIT_RATE_LEVELS];
        CLEANUP(buf_deinit) struct buf text = BUF_INIT(KIB(4));
        struct policy_item item = {.kind = rows[i].kind, .name = slice_from_cstr(rows[i].name)};
        test_row(rows[i].groups);
        size_t n = policy_charges(policy_find_server(loaded.policy, SLICE("db")),
                                  caller_of(&caller, rows[i].groups), &item,
                                  limits_subject_of(SLICE("ann")), charges);
        write_charges(&text, charges, n);
        CHECK_STR(buf_slice(&text), rows[i].charges);
    }
    unload_policy(&loaded);
}

static void test_none(void) {
    static const char *const texts[] = {
        SERVER,
        "[server.rate_limits]\nenabled = false\nglobal = {limit = 1, interval = \"1s\"}\n"
        "per_ip = {limit = 1, interval = \"1s\"}\n" SERVER "[" LIMITS
        "]\nlimit = 1\ninterval = \"1s\"\n"
        "[" LIMITS ".tools.query]\nlimit = 1\ninterval = \"1s\"\n"
        "[" LIMITS ".per_user]\nlimit = 1\ninterval = \"1s\"\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct loaded_policy loaded = load_policy(texts[i]);
        struct limits_charge charges[LIMIT_RATE_LEVELS];
        struct caller caller;
        struct policy_item item = tool_named("query");
        struct network client = {.family_bits = NETWORK_V4_BITS};
        CHECK_INT(policy_charges(policy_find_server(loaded.policy, SLICE("db")),
                                 caller_of(&caller, ""), &item, limits_subject_of(SLICE("ann")),
                                 charges),
                  0);
        CHECK_INT(policy_request_charges(loaded.policy, &client, charges), 0);
        unload_policy(&loaded);
    }
}

static void test_requests(void) {
    static const struct {
        const char *one, *other;
        bool is_same;
    } rows[] = {
        {"192.0.2.1", "192.0.2.1", true},
        {"192.0.2.1", "192.0.2.2", false},
        {"192.0.2.1", "::ffff:192.0.2.1", true},
        /* of IPv6 the first 64 bits */
        {"2001:db8::1", "2001:db8::ffff:1", true},
        {"2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", true},
        {"2001:db8:0:1::1", "2001:db8:0:2::1", false},
        {"::1", "0.0.0.0", false},
        {"c000:201::", "192.0.2.1", false}, /* the same first bytes */
    };
    struct loaded_policy loaded =
        load_policy("[server.rate_limits]\nglobal = {limit = 1000, interval = \"1s\"}\n"
                    "per_ip = {limit = 20, interval = \"1m\"}\n" SERVER);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct limits_charge one[LIMIT_RATE_LEVELS], other[LIMIT_RATE_LEVELS];
        CLEANUP(buf_deinit) struct buf text = BUF_INIT(KIB(4));
        struct network a, b;
        test_row(rows[i].one);
        REQUIRE(network_parse_address(slice_from_cstr(rows[i].one), &a));
        REQUIRE(network_parse_address(slice_from_cstr(rows[i].other), &b));
        REQUIRE(policy_request_charges(loaded.policy, &a, one) == 2);
        REQUIRE(policy_request_charges(loaded.policy, &b, other) == 2);
        write_charges(&text, one, 2);
        CHECK_STR(buf_slice(&text), "global 1000/1000\nip 20/60000 each\n");
        CHECK_INT(one[1].subject.high == other[1].subject.high &&
                      one[1].subject.low == other[1].subject.low,
                  rows[i].is_same);
    }
    /* An address that is none is one, too. */
    struct network none = {.family_bits = 0};
    struct limits_charge charges[LIMIT_RATE_LEVELS];
    CHECK_INT(policy_request_charges(loaded.policy, &none, charges), 2);
    CHECK(charges[1].subject.high != 0 || charges[1].subject.low != 0);
    unload_policy(&loaded);
}

/* Whatever tools and groups are called, no two counters have one name. */
static void test_names_do_not_collide(void) {
    static struct config_named_limit tools[] = {
        {SLICE_INIT("a"), {1, 1000}},        {SLICE_INIT("a:b"), {1, 1000}},
        {SLICE_INIT("a%3Ab"), {1, 1000}},    {SLICE_INIT("a%3ab"), {1, 1000}},
        {SLICE_INIT("user"), {1, 1000}},     {SLICE_INIT("user:tool:a"), {1, 1000}},
        {SLICE_INIT("tool:a"), {1, 1000}},   {SLICE_INIT(""), {1, 1000}},
        {SLICE_INIT("{a}"), {1, 1000}},      {SLICE_INIT("a b"), {1, 1000}},
        {SLICE_INIT("a\nb"), {1, 1000}},     {SLICE_INIT("group:a"), {1, 1000}},
        {SLICE_INIT("\xc3\xa4"), {1, 1000}}, {SLICE_INIT("A"), {1, 1000}},
    };
    struct config_rate_limits limits = {.all = {1, 1000},
                                        .user = {1, 1000},
                                        .tools = tools,
                                        .n_tools = ARRAY_LEN(tools),
                                        .user_tools = tools,
                                        .n_user_tools = ARRAY_LEN(tools),
                                        .groups = tools,
                                        .n_groups = ARRAY_LEN(tools)};
    struct config_server servers[] = {{.name = SLICE("s"), .rate_limits = limits},
                                      {.name = SLICE("s:user"), .rate_limits = limits},
                                      {.name = SLICE("s:tool:a"), .rate_limits = limits},
                                      {.name = SLICE("s%3Auser"), .rate_limits = limits}};
    struct config config = {
        .servers = servers,
        .n_servers = ARRAY_LEN(servers),
        .rate_limits = {.enabled = true, .global = {1, 1000}, .per_ip = {1, 1000}}};
    struct policy *policy = NULL;
    REQUIRE(policy_new(&config, &policy) == 0);
    static struct { const struct limits_rule *rule; } seen[1000];
    size_t n_seen = 0;
    for (size_t s = 0; s < ARRAY_LEN(servers); s++) {
        for (size_t t = 0; t < ARRAY_LEN(tools); t++) {
            for (int in_group = 0; in_group < 2; in_group++) {
                struct limits_charge charges[LIMIT_RATE_LEVELS];
                struct policy_caller caller = {.groups = &tools[t].name,
                                               .n_groups = (size_t)in_group,
                                               .groups_are_known = true};
                struct policy_item item = {.kind = POLICY_TOOL, .name = tools[t].name};
                size_t n = policy_charges(policy_find_server(policy, servers[s].name), &caller,
                                          &item, (struct limits_subject){1, 1}, charges);
                CHECK_INT(n, 4);
                for (size_t i = 0; i < n; i++) {
                    size_t k = 0;
                    while (k < n_seen && seen[k].rule != charges[i].rule)
                        k++;
                    if (k == n_seen && n_seen < ARRAY_LEN(seen))
                        seen[n_seen++].rule = charges[i].rule;
                }
            }
        }
    }
    CHECK_INT(n_seen, ARRAY_LEN(servers) * (2 + 3 * ARRAY_LEN(tools)));
    for (size_t i = 0; i < n_seen; i++) {
        for (size_t k = 0; k < i; k++)
            CHECK(!slice_eq(seen[i].rule->id, seen[k].rule->id));
        for (size_t b = 0; b < seen[i].rule->id.len; b++) {
            unsigned char c = (unsigned char)seen[i].rule->id.ptr[b];
            CHECK(c > 0x20 && c < 0x7f && c != '{' && c != '}');
        }
    }
    policy_free(policy);
}

static void test_texts(void) {
    static const char text[] =
        HEAD "[server.rate_limits]\nglobal = {limit = 1, interval = \"1s\"}\n"
             "per_ip = {limit = 20, interval = \"90s\"}\n" SERVER "[" LIMITS
             "]\nlimit = 100\ninterval = \"1m\"\n"
             "[" LIMITS ".tools.\"a.b\"]\nlimit = 1\ninterval = \"1d\"\n"
             "[" LIMITS ".per_user]\nlimit = 10\ninterval = \"1500ms\"\n"
             "[" LIMITS ".per_user.tools.\"a.b\"]\nlimit = 5\ninterval = \"36h\"\n"
             "[" LIMITS ".per_user.groups.\"a b\"]\nlimit = 5\ninterval = \"2h\"\n";
    static const char *const wanted[] = {
        "server.rate_limits.global allows 1 request in 1s; try again in 1 s",
        "server.rate_limits.per_ip allows 20 requests in 90s; try again in 1 s",
        LIMITS " allows 100 calls in 1m; try again in 1 s",
        LIMITS ".tools.\"a.b\" allows 1 call in 1d; try again in 2 s",
        LIMITS ".per_user allows 10 calls in 1500ms; try again in 12 s",
        LIMITS ".per_user.tools.\"a.b\" allows 5 calls in 36h; try again in 3600 s",
        LIMITS ".per_user.groups.\"a b\" allows 5 calls in 2h; try again in 1 s",
    };
    static const uint64_t waits[] = {1, 1000, 999, 1001, 12000, 3599001, 0};
    struct loaded_policy loaded = load_policy(text);
    const struct policy_server *server = policy_find_server(loaded.policy, SLICE("db"));
    struct limits_charge charges[3][LIMIT_RATE_LEVELS];
    struct policy_item item = tool_named("a.b");
    struct network client = {.family_bits = NETWORK_V4_BITS};
    struct limits_subject user = {1, 1};
    struct slice group = SLICE("a b");
    struct policy_caller nobody = {.n_groups = 0}, member = {.groups = &group, .n_groups = 1};
    REQUIRE(policy_request_charges(loaded.policy, &client, charges[0]) == 2);
    REQUIRE(policy_charges(server, &nobody, &item, user, charges[1]) == 4);
    REQUIRE(policy_charges(server, &member, &item, user, charges[2]) == 4);
    const struct limits_charge *all[] = {&charges[0][0], &charges[0][1], &charges[1][0],
                                         &charges[1][1], &charges[1][2], &charges[1][3],
                                         &charges[2][2]};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        CLEANUP(buf_deinit) struct buf out = BUF_INIT(KIB(1));
        CHECK_INT(policy_write_limited(&out, all[i], waits[i]), 0);
        CHECK_STR(buf_slice(&out), wanted[i]);
    }
    unload_policy(&loaded);
}

/* Each step of a decision is told. */
static void test_explain(void) {
    static const char text[] =
        HEAD "[security]\nwhitelist = [\"db__put\"]\n"
             "[server.rate_limits]\nglobal = {limit = 1000, interval = \"1s\"}\n"
             "[mcp.servers.db]\ncmd = [\"true\"]\nallow = [\"dev\", \"ops\"]\ndeny = [\"free\"]\n"
             "[mcp.servers.db.tools.get]\naccess = \"read\"\narguments.n = {max = 3}\n"
             "[mcp.servers.db.tools.own]\nallow = [\"pro\"]\ndeny = [\"a b\"]\naccess = \"read\"\n"
             "[" LIMITS "]\nlimit = 100\ninterval = \"1m\"\n";
    static const struct {
        const char *server, *tool, *groups, *arguments;
        bool is_open;
        int result;
        const char *text;
    } rows[] = {
        {"db", "get", "dev", "{\"n\":3}", false, 0,
         "tool: \"get\" of mcp.servers.db\ncaller: in the group dev\n"
         "deny: mcp.servers.db.deny = [\"free\"]: the caller is not in it\n"
         "allow: mcp.servers.db.allow = [\"dev\", \"ops\"]: the caller is in it\n"
         "access: read, mcp.servers.db.tools.get.access = \"read\"\narguments: fine\n"
         "counts for: server.rate_limits.global allows 1000 requests in 1s\n"
         "counts for: mcp.servers.db.rate_limits allows 100 calls in 1m\nresult: allowed\n"},
        {"db", "get", "dev", "{\"n\":4}", false, POLICY_E_ARGUMENT,
         "tool: \"get\" of mcp.servers.db\ncaller: in the group dev\n"
         "deny: mcp.servers.db.deny = [\"free\"]: the caller is not in it\n"
         "allow: mcp.servers.db.allow = [\"dev\", \"ops\"]: the caller is in it\n"
         "access: read, mcp.servers.db.tools.get.access = \"read\"\n"
         "result: refused. db__get: the argument n is, or can be read as, a number above "
         "mcp.servers.db.tools.get.arguments.n.max; use at most 3\n"},
        {"db", "own", "dev ops", "", false, 0,
         "tool: \"own\" of mcp.servers.db\ncaller: in the groups dev, ops\n"
         "deny: mcp.servers.db.deny = [\"free\"]: the caller is not in it\n"
         "deny: mcp.servers.db.tools.own.deny = [\"a b\"]: the caller is not in it\n"
         "allow: mcp.servers.db.tools.own.allow = [\"pro\"] (in place of the server's): the caller "
         "is not in it\naccess: read, mcp.servers.db.tools.own.access = \"read\"\n"
         "result: denied by mcp.servers.db.tools.own.allow, and answered as what does not exist\n"},
        {"db", "put", "ops ?", "", false, 0,
         "tool: \"put\" of mcp.servers.db\ncaller: in the group ops; its groups are not known for "
         "sure, so whatever has a deny is denied\n"
         "deny: mcp.servers.db.deny = [\"free\"]: the caller's groups are not known\n"
         "allow: mcp.servers.db.allow = [\"dev\", \"ops\"]: the caller is in it\n"
         "access: write, nothing says that it only reads\n"
         "edit mode: off, and security.whitelist names it\n"
         "result: denied by mcp.servers.db.deny, and answered as what does not exist\n"},
        {"db", "drop", "ops", "", true, 0,
         "tool: \"drop\" of mcp.servers.db\ncaller: in the group ops\n"
         "deny: mcp.servers.db.deny = [\"free\"]: the caller is not in it\n"
         "allow: mcp.servers.db.allow = [\"dev\", \"ops\"]: the caller is in it\n"
         "access: write, nothing says that it only reads\n"
         "edit mode: on, and security.whitelist does not name it\n"
         "result: locked. db__drop is locked: nothing says that it only reads and "
         "security.whitelist does not name it. An operator adds \"db__drop\" to "
         "security.whitelist; if it only reads: mcp.servers.db.tools.drop.access = \"read\"\n"},
        {"gone", "drop", "ops", "", true, 0,
         "server: no mcp.servers.gone is configured and enabled\nresult: there is no such tool\n"},
    };
    struct loaded_policy loaded = load_policy(text);
    struct caller caller;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(buf_deinit) struct buf out = BUF_INIT(KIB(16));
        struct policy_decision decision;
        struct policy_question question = {.caller = *caller_of(&caller, rows[i].groups),
                                           .item = tool_named(rows[i].tool),
                                           .arguments = slice_from_cstr(rows[i].arguments),
                                           .edit_is_open = rows[i].is_open};
        struct slice server = slice_from_cstr(rows[i].server);
        test_row(rows[i].tool);
        CHECK_INT(policy_explain(&out, loaded.policy, server, &question, loaded.reader, &decision),
                  rows[i].result);
        CHECK_STR(buf_slice(&out), rows[i].text);
        CHECK_INT(decision.verdict, policy_decide(policy_find_server(loaded.policy, server),
                                                  &question.caller, &question.item, rows[i].is_open)
                                        .verdict);
    }
    unload_policy(&loaded);
}

TEST_MAIN(TEST(test_calls), TEST(test_none), TEST(test_requests), TEST(test_names_do_not_collide),
          TEST(test_texts), TEST(test_explain))
