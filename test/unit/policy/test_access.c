/* Who may know of what, what is locked, and what is said of it. */
#include "support.h"

static const char config_text[] =
    HEAD "[server.rate_limits]\nenabled = true\n"
         "[mcp.servers.open]\ncmd = [\"true\"]\naccess = \"read\"\n"
         "[mcp.servers.plain]\ncmd = [\"true\"]\n"
         "[mcp.servers.plain.tools.get]\naccess = \"read\"\n"
         "[mcp.servers.plain.tools.put]\naccess = \"write\"\n"
         "[mcp.servers.nobody]\ncmd = [\"true\"]\nallow = []\naccess = \"read\"\n"
         "[mcp.servers.nobody.tools.free]\nallow = [\"free\", \"pro\"]\n"
         "[mcp.servers.allow]\ncmd = [\"true\"]\nallow = [\"ops\", \"dev\"]\naccess = \"read\"\n"
         "[mcp.servers.allow.tools.own]\nallow = [\"free\"]\n"
         "[mcp.servers.allow.tools.closed]\nallow = []\n"
         "[mcp.servers.allow.tools.denied]\ndeny = [\"dev\"]\n"
         "[mcp.servers.deny]\ncmd = [\"true\"]\ndeny = [\"free\"]\naccess = \"read\"\n"
         "[mcp.servers.deny.tools.more]\ndeny = [\"dev\"]\n"
         "[mcp.servers.deny.tools.both]\nallow = [\"free\", \"ops\"]\n"
         "[mcp.servers.deny.tools.empty]\ndeny = []\naccess = \"write\"\n";

#define OPEN POLICY_ALLOWED
#define GONE POLICY_UNKNOWN
#define LOCK POLICY_LOCKED

static void test_access(void) {
    static const struct {
        const char *server, *tool, *groups;
        enum policy_verdict verdict;
        const char *rule;
    } rows[] = {
        {"open", "x", "", OPEN, ""},
        {"open", "x", "?", OPEN, ""},
        {"open", "x", "dev", OPEN, ""},
        /* allow: of one of the groups */
        {"allow", "x", "dev", OPEN, ""},
        {"allow", "x", "free ops", OPEN, ""},
        {"allow", "x", "dev ?", OPEN, ""},
        {"allow", "x", "", GONE, "mcp.servers.allow.allow"},
        {"allow", "x", "free", GONE, "mcp.servers.allow.allow"},
        {"allow", "x", "DEV", GONE, "mcp.servers.allow.allow"},
        {"allow", "x", "de", GONE, "mcp.servers.allow.allow"},
        {"allow", "x", "devs", GONE, "mcp.servers.allow.allow"},
        /* a tool's own takes the place of the server's, in both directions */
        {"allow", "own", "free", OPEN, ""},
        {"allow", "own", "dev ops", GONE, "mcp.servers.allow.tools.own.allow"},
        {"allow", "closed", "dev ops free pro", GONE, "mcp.servers.allow.tools.closed.allow"},
        {"nobody", "x", "dev ops free pro", GONE, "mcp.servers.nobody.allow"},
        {"nobody", "free", "pro", OPEN, ""},
        {"nobody", "free", "dev", GONE, "mcp.servers.nobody.tools.free.allow"},
        /* deny adds up and wins */
        {"allow", "denied", "dev ops", GONE, "mcp.servers.allow.tools.denied.deny"},
        {"allow", "denied", "ops", OPEN, ""},
        {"deny", "x", "free", GONE, "mcp.servers.deny.deny"},
        {"deny", "x", "free ops", GONE, "mcp.servers.deny.deny"},
        {"deny", "x", "ops", OPEN, ""},
        {"deny", "more", "free", GONE, "mcp.servers.deny.deny"},
        {"deny", "more", "dev", GONE, "mcp.servers.deny.tools.more.deny"},
        {"deny", "more", "ops", OPEN, ""},
        {"deny", "both", "free", GONE, "mcp.servers.deny.deny"},
        {"deny", "both", "ops", OPEN, ""},
        /* whose groups are not known cannot be told not to be denied */
        {"deny", "x", "", GONE, "mcp.servers.deny.deny"},
        {"deny", "x", "ops ?", GONE, "mcp.servers.deny.deny"},
        {"deny", "more", "?", GONE, "mcp.servers.deny.deny"},
        {"allow", "denied", "ops ?", GONE, "mcp.servers.allow.tools.denied.deny"},
        /* an empty deny is none */
        {"plain", "get", "", OPEN, ""},
        /* writes */
        {"plain", "put", "dev", LOCK, "security.edit_mode"},
        {"plain", "unsaid", "dev", LOCK, "security.edit_mode"},
        {"deny", "empty", "ops", LOCK, "security.edit_mode"},
        /* who may not know of it does not hear that it is locked */
        {"deny", "empty", "free", GONE, "mcp.servers.deny.deny"},
    };
    struct loaded_policy loaded = load_policy(config_text);
    struct caller caller;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char name[200];
        snprintf(name, sizeof name, "%s %s %s", rows[i].server, rows[i].tool, rows[i].groups);
        test_row(name);
        const struct policy_server *server =
            policy_find_server(loaded.policy, slice_from_cstr(rows[i].server));
        struct policy_item item = tool_named(rows[i].tool);
        CLEANUP(buf_deinit) struct buf rule = BUF_INIT(KIB(1));
        const struct policy_caller *it = caller_of(&caller, rows[i].groups);
        struct policy_decision decision = policy_decide(server, it, &item, false);
        CHECK_INT(decision.verdict, rows[i].verdict);
        CHECK_INT(policy_write_rule(&rule, &decision, item.name), 0);
        CHECK_STR(buf_slice(&rule), rows[i].rule);
        decision = policy_decide(server, it, &item, true);
        CHECK_INT(decision.verdict, rows[i].verdict == LOCK ? OPEN : rows[i].verdict);
        test_row("");
    }
    unload_policy(&loaded);
}

/* nexus.md 6.3: prompts and resources go by the server's rules, and no tool's. */
static void test_prompts_and_resources(void) {
    static const struct {
        const char *server, *name, *groups;
        bool is_allowed;
    } rows[] = {
        {"open", "x", "", true},           {"plain", "put", "", true},
        {"nobody", "free", "free", false}, {"allow", "own", "dev", true},
        {"allow", "own", "free", false},   {"allow", "closed", "dev", true},
        {"deny", "more", "dev", true},     {"deny", "more", "free", false},
        {"deny", "x", "ops ?", false},
    };
    struct loaded_policy loaded = load_policy(config_text);
    struct caller caller;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].server);
        for (int kind = POLICY_PROMPT; kind <= POLICY_RESOURCE; kind++) {
            struct policy_item item = {.kind = (enum policy_kind)kind,
                                       .name = slice_from_cstr(rows[i].name)};
            const struct policy_server *server =
                policy_find_server(loaded.policy, slice_from_cstr(rows[i].server));
            const struct policy_caller *it = caller_of(&caller, rows[i].groups);
            struct policy_decision decision = policy_decide(server, it, &item, false);
            CHECK_INT(decision.verdict, rows[i].is_allowed ? OPEN : GONE);
            CHECK(!decision.is_write && !decision.is_of_tool);
            CHECK_INT(policy_allows_all(server, it, item.kind, false), rows[i].is_allowed);
        }
    }
    unload_policy(&loaded);
}

static void test_may_know(void) {
    static const struct {
        const char *server, *groups;
        bool may, all_tools, all_tools_in_edit_mode;
    } rows[] = {
        {"open", "", true, true, true},
        {"plain", "", true, false, true},
        {"nobody", "dev", false, false, false},
        {"nobody", "pro", true, false, false}, /* one tool lets it in */
        {"allow", "dev", true, false, false},
        {"allow", "free", true, false, false},
        {"allow", "pro", false, false, false},
        {"allow", "", false, false, false},
        {"deny", "free", false, false, false}, /* although one of its tools allows it */
        {"deny", "", false, false, false},
        {"deny", "ops", true, false, false},
    };
    struct loaded_policy loaded = load_policy(config_text);
    struct caller caller;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct policy_server *server =
            policy_find_server(loaded.policy, slice_from_cstr(rows[i].server));
        const struct policy_caller *it = caller_of(&caller, rows[i].groups);
        test_row(rows[i].server);
        CHECK_INT(policy_may_know(server, it), rows[i].may);
        CHECK_INT(policy_allows_all(server, it, POLICY_TOOL, false), rows[i].all_tools);
        CHECK_INT(policy_allows_all(server, it, POLICY_TOOL, true), rows[i].all_tools_in_edit_mode);
    }
    unload_policy(&loaded);
}

/* What is not configured is not there, whoever asks. */
static void test_no_server(void) {
    struct loaded_policy loaded = load_policy(config_text);
    struct caller caller;
    const struct policy_caller *it = caller_of(&caller, "dev");
    struct policy_item item = tool_named("x");
    struct limits_charge charges[LIMIT_RATE_LEVELS];
    CLEANUP(buf_deinit) struct buf rule = BUF_INIT(KIB(1));
    CHECK(policy_find_server(loaded.policy, SLICE("gone")) == NULL);
    struct policy_decision decision = policy_decide(NULL, it, &item, true);
    CHECK_INT(decision.verdict, POLICY_UNKNOWN);
    CHECK_INT(policy_write_rule(&rule, &decision, item.name), 0);
    CHECK_STR(buf_slice(&rule), "");
    CHECK(!policy_may_know(NULL, it));
    CHECK(!policy_allows_all(NULL, it, POLICY_TOOL, true));
    CHECK_INT(policy_charges(NULL, it, &item, (struct limits_subject){1, 1}, charges), 0);
    unload_policy(&loaded);
    CHECK(policy_free(NULL) == NULL);
}

static const char locks_text[] =
    "[security]\n%s\n"
    "[mcp.servers.files]\ncmd = [\"true\"]\n"
    "[mcp.servers.files.tools.write_file]\naccess = \"write\"\n"
    "[mcp.servers.files.tools.\"a \\\"b\\u001b\"]\naccess = \"write\"\n"
    "[mcp.servers.files.tools.read_file]\naccess = \"read\"\n"
    "[mcp.servers.w]\ncmd = [\"true\"]\naccess = \"write\"\n"
    "[mcp.servers.w.tools.get]\naccess = \"read\"\n";

static void test_locks(void) {
    static const struct {
        const char *security, *server, *tool;
        bool is_open, says_read_only, is_locked;
        const char *rule, *text;
    } rows[] = {
        {"", "files", "write_file", false, true, true, "security.edit_mode",
         "files__write_file is locked: it changes something "
         "(mcp.servers.files.tools.write_file.access = \"write\") and edit mode is off. An "
         "operator "
         "opens it with: cardea edit on --minutes 15 --reason \"...\"; if it only reads: "
         "mcp.servers.files.tools.write_file.access = \"read\""},
        {"", "files", "write_file", true, false, false, "", ""},
        {"", "files", "read_file", false, false, false, "", ""},
        /* What a server says of itself counts for nothing, unless it is trusted. */
        {"", "files", "list", false, true, true, "security.edit_mode",
         "files__list is locked: nothing says that it only reads and edit mode is off. An operator "
         "opens it with: cardea edit on --minutes 15 --reason \"...\"; if it only reads: "
         "mcp.servers.files.tools.list.access = \"read\""},
        {"trust_annotations = true", "files", "list", false, true, false, "", ""},
        {"trust_annotations = true", "files", "list", false, false, true, "security.edit_mode",
         NULL},
        /* The operator's word comes before the server's. */
        {"trust_annotations = true", "files", "write_file", false, true, true, "security.edit_mode",
         NULL},
        {"trust_annotations = true", "w", "x", false, true, true, "security.edit_mode",
         "w__x is locked: it changes something (mcp.servers.w.access = \"write\") and edit mode is "
         "off. An operator opens it with: cardea edit on --minutes 15 --reason \"...\"; if it only "
         "reads: mcp.servers.w.tools.x.access = \"read\""},
        {"", "w", "get", false, false, false, "", ""},
        /* dashboard.md 1.9 (2): the whitelist is asked at each call. */
        {"whitelist = [\"files__write_file\"]", "files", "write_file", false, false, true,
         "security.edit_mode", NULL},
        {"whitelist = [\"files__write_file\"]", "files", "write_file", true, false, false, "", ""},
        {"whitelist = [\"files__write_file\"]", "files", "read_file", true, false, false, "", ""},
        {"whitelist = [\"files__write_file\"]", "files", "other", true, false, true,
         "security.whitelist",
         "files__other is locked: nothing says that it only reads and security.whitelist does not "
         "name it. An operator adds \"files__other\" to security.whitelist; if it only reads: "
         "mcp.servers.files.tools.other.access = \"read\""},
        {"whitelist = [\"files__write_file\"]", "w", "write_file", true, false, true,
         "security.whitelist", NULL},
        {"whitelist = [\"files__write_file\"]", "files", "write_fil", true, false, true,
         "security.whitelist", NULL},
        {"whitelist = [\"files__write_file\"]", "files", "other", false, false, true,
         "security.edit_mode",
         "files__other is locked: nothing says that it only reads and edit mode is off. An "
         "operator "
         "adds \"files__other\" to security.whitelist and opens it with: cardea edit on --minutes "
         "15 --reason \"...\"; if it only reads: mcp.servers.files.tools.other.access = \"read\""},
        {"whitelist = [\"files__a__b\"]", "files", "a__b", true, false, false, "", ""},
        {"whitelist = [\"w__x\"]", "files", "x", true, false, true, "security.whitelist", NULL},
        /* Names that need quotes, and controls that a terminal would act on. */
        {"", "files", "a \"b\x1b", false, false, true, "security.edit_mode",
         "\"files__a \\\"b\\u001B\" is locked: it changes something "
         "(mcp.servers.files.tools.\"a \\\"b\\u001B\".access = \"write\") and edit mode is off. An "
         "operator opens it with: cardea edit on --minutes 15 --reason \"...\"; if it only reads: "
         "mcp.servers.files.tools.\"a \\\"b\\u001B\".access = \"read\""},
        {"", "files", "x\xe2\x80\xae\xc2\x9b", false, false, true, "security.edit_mode",
         "\"files__x\\u202E\\u009B\" is locked: nothing says that it only reads and edit mode is "
         "off. An operator opens it with: cardea edit on --minutes 15 --reason \"...\"; if it only "
         "reads: mcp.servers.files.tools.\"x\\u202E\\u009B\".access = \"read\""},
    };
    struct caller caller;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(buf_deinit)
        struct buf toml = BUF_INIT(KIB(16)), rule = BUF_INIT(KIB(1)), text = BUF_INIT(KIB(4));
        struct slice before, after = slice_from_cstr(locks_text);
        (void)slice_cut(after, '%', &before, &after);
        buf_append(&toml, before);
        buf_append_cstr(&toml, rows[i].security);
        buf_append(&toml, slice_from(after, 1));
        buf_append_byte(&toml, '\0');
        struct loaded_policy loaded = load_policy(buf_slice(&toml).ptr);
        char row[100];
        snprintf(row, sizeof row, "%zu %s", i, rows[i].tool);
        test_row(row);
        struct policy_item item = tool_named(rows[i].tool);
        item.says_read_only = rows[i].says_read_only;
        struct policy_decision decision =
            policy_decide(policy_find_server(loaded.policy, slice_from_cstr(rows[i].server)),
                          caller_of(&caller, ""), &item, rows[i].is_open);
        CHECK_INT(decision.verdict, rows[i].is_locked ? POLICY_LOCKED : POLICY_ALLOWED);
        policy_write_rule(&rule, &decision, item.name);
        CHECK_STR(buf_slice(&rule), rows[i].rule);
        if (rows[i].is_locked && rows[i].text != NULL) {
            CHECK_INT(policy_write_locked(&text, &decision, item.name), 0);
            CHECK_STR(buf_slice(&text), rows[i].text);
        }
        unload_policy(&loaded);
        test_row("");
    }
}

static void test_security_keys(void) {
    struct loaded_policy loaded = load_policy("[mcp.servers.a]\ncmd = [\"true\"]\n");
    CHECK(policy_hides_locked(loaded.policy));
    CHECK(!policy_trusts_annotations(loaded.policy));
    unload_policy(&loaded);
    loaded = load_policy("[security]\nhide_denied = false\ntrust_annotations = true\n"
                         "[mcp.servers.a]\ncmd = [\"true\"]\n");
    CHECK(!policy_hides_locked(loaded.policy));
    CHECK(policy_trusts_annotations(loaded.policy));
    unload_policy(&loaded);
}

/* Lists as long as they may be, of a caller in as many groups. */
static void test_long_lists(void) {
    static struct slice groups[LIMIT_ACCESS_GROUPS], of_caller[LIMIT_GROUPS];
    static char names[LIMIT_ACCESS_GROUPS][8];
    struct config_server server = {.name = SLICE("s"), .has_allow = true, .allow = groups};
    struct config config = {.servers = &server, .n_servers = 1};
    for (size_t i = 0; i < LIMIT_ACCESS_GROUPS; i++) {
        snprintf(names[i], sizeof names[i], "g%04zu", LIMIT_ACCESS_GROUPS - i); /* not sorted */
        groups[i] = slice_from_cstr(names[i]);
    }
    server.n_allow = LIMIT_ACCESS_GROUPS;
    struct policy *policy = NULL;
    REQUIRE(policy_new(&config, &policy) == 0);
    struct policy_item item = {.kind = POLICY_PROMPT, .name = SLICE("p")};
    struct policy_caller caller = {.groups = of_caller, .groups_are_known = true};
    for (size_t n = 0; n <= LIMIT_GROUPS; n += LIMIT_GROUPS / 4) {
        caller.n_groups = n;
        for (size_t i = 0; i < n; i++)
            of_caller[i] = SLICE("h");
        CHECK_INT(
            policy_decide(policy_find_server(policy, SLICE("s")), &caller, &item, false).verdict,
            POLICY_UNKNOWN);
        for (size_t i = 0; n != 0 && i < LIMIT_ACCESS_GROUPS; i += 111) {
            of_caller[0] = groups[i];
            CHECK_INT(policy_decide(policy_find_server(policy, SLICE("s")), &caller, &item, false)
                          .verdict,
                      POLICY_ALLOWED);
        }
    }
    policy_free(policy);
}

static void make_one(void *arg) {
    struct config *config = arg;
    struct policy *policy = NULL;
    struct caller caller;
    int error = policy_new(config, &policy);
    CHECK(error == 0 || error == -ENOMEM);
    CHECK((error == 0) == (policy != NULL));
    if (error == 0) {
        struct policy_item item = tool_named("more");
        CHECK_INT(policy_decide(policy_find_server(policy, SLICE("deny")),
                                caller_of(&caller, "dev"), &item, true)
                      .verdict,
                  POLICY_UNKNOWN);
    }
    policy_free(policy);
}

static void test_memory(void) {
    struct config *config = load_config(config_text);
    test_torture(make_one, config);
    config_unref(config);
}

TEST_MAIN(TEST(test_access), TEST(test_prompts_and_resources), TEST(test_may_know),
          TEST(test_no_server), TEST(test_locks), TEST(test_security_keys), TEST(test_long_lists),
          TEST(test_memory))
