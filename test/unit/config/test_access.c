/* Who may call what, with which arguments and how often: what is read, and what is said of it. */
#include <errno.h>

#include "loaded.h"

#define ONE    "[mcp.servers.a]\ncmd = [\"x\"]\n"
#define GROUPS "server.auth.tokens.t.groups = [\"g\", \"h\"]\n" HASH
#define HASH                                                                                       \
    "server.auth.tokens.t.hash = \"sha256:"                                                        \
    "1000000000000000000000000000000000000000000000000000000000000000\"\n"

static void test_defaults(void) {
    struct loaded l = load(SLICE(ONE "[mcp.servers.a.tools.t]\n"));
    REQUIRE(l.result == 0);
    CHECK_STR(buf_slice(&l.text), "");
    const struct config *c = l.config;
    CHECK(!c->edit_mode && !c->trust_annotations && c->hide_denied);
    CHECK_INT(c->n_whitelist, 0);
    CHECK(c->rate_limits.enabled);
    CHECK_INT(c->rate_limits.global.interval_ms, 0);
    CHECK_INT(c->rate_limits.per_ip.interval_ms, 0);
    const struct config_storage *storage = &c->rate_limits.storage;
    CHECK_INT(storage->type, CONFIG_STORAGE_MEMORY);
    CHECK_INT(storage->on_failure, CONFIG_FAILURE_LOCAL);
    CHECK_STR(storage->url, "");
    CHECK_STR(storage->key_prefix, "nexus:rate_limit:");
    CHECK_INT(storage->response_timeout_ms, 1000);
    CHECK_INT(storage->connection_timeout_ms, 5000);
    CHECK_INT(storage->pool_max_size, 16);
    CHECK_INT(storage->pool_min_idle, 0);
    CHECK_INT(storage->pool_timeout_create_ms, 5000);
    CHECK_INT(storage->pool_timeout_wait_ms, 5000);
    CHECK_INT(storage->pool_timeout_recycle_ms, 300000);
    CHECK(!storage->tls_enabled && !storage->tls_insecure);
    CHECK_INT(storage->tls_ca.len + storage->tls_cert.len + storage->tls_key.len, 0);
    const struct config_server *a = &c->servers[0];
    CHECK(!a->has_allow);
    CHECK_INT(a->n_allow + a->n_deny, 0);
    CHECK_INT(a->access, CONFIG_ACCESS_UNSET);
    CHECK_INT(a->rate_limits.all.interval_ms + a->rate_limits.user.interval_ms, 0);
    CHECK_INT(a->rate_limits.n_tools + a->rate_limits.n_user_tools + a->rate_limits.n_groups, 0);
    REQUIRE(a->n_tools == 1);
    CHECK(!a->tools[0].has_allow);
    CHECK_INT(a->tools[0].access, CONFIG_ACCESS_UNSET);
    CHECK_INT(a->tools[0].n_arguments, 0);
    unload(&l);
}

static void check_value(const struct config_value *value, enum config_value_type type,
                        const char *text, double number) {
    CHECK_INT(value->type, type);
    CHECK_STR(value->text, text);
    CHECK(!(value->number < number) && !(value->number > number));
}

static void test_access(void) {
    struct loaded l = load(
        SLICE(GROUPS "[security]\n"
                     "edit_mode = true\n"
                     "trust_annotations = true\n"
                     "hide_denied = false\n"
                     "whitelist = [\"a__t\", \"a___x__y\"]\n" ONE "allow = [\"g\"]\n"
                     "deny = [\"h\"]\n"
                     "access = \"read\"\n"
                     "[mcp.servers.a.tools.t]\n"
                     "allow = []\n"
                     "deny = [\"g\"]\n"
                     "access = \"write\"\n"
                     "[mcp.servers.a.tools.t.arguments]\n"
                     "path = { pattern = '[a-z{{ \"{{\" }}]+', optional = true }\n"
                     "mode = { allow = [\"{{ env.TOKEN }}\", 3, -2.50, true, 1e300, -0.0, 0.1] }\n"
                     "\"a.b\" = { deny = [\"\", false], max = 3.5 }\n"
                     "n = { max = -7 }\n"
                     "[mcp.servers.a.tools.\"a.b\"]\n"));
    CHECK_STR(buf_slice(&l.text), "");
    REQUIRE(l.result == 0);
    const struct config *c = l.config;
    CHECK(c->edit_mode && c->trust_annotations && !c->hide_denied);
    REQUIRE(c->n_whitelist == 2);
    CHECK_STR(c->whitelist[0], "a__t");
    CHECK_STR(c->whitelist[1], "a___x__y");
    const struct config_server *a = &c->servers[0];
    CHECK(a->has_allow);
    REQUIRE(a->n_allow == 1 && a->n_deny == 1 && a->n_tools == 2);
    CHECK_STR(a->allow[0], "g");
    CHECK_STR(a->deny[0], "h");
    CHECK_INT(a->access, CONFIG_ACCESS_READ);
    const struct config_tool *t = &a->tools[0];
    CHECK(t->has_allow);
    REQUIRE(t->n_allow == 0 && t->n_deny == 1 && t->n_arguments == 4);
    CHECK_STR(t->deny[0], "g");
    CHECK_INT(t->access, CONFIG_ACCESS_WRITE);
    const struct config_argument *path = &t->arguments[0], *mode = &t->arguments[1];
    CHECK_STR(path->name, "path");
    CHECK_STR(path->pattern, "[a-z{{]+");
    CHECK(path->optional && !path->has_allow && !path->has_max);
    CHECK_STR(mode->name, "mode");
    CHECK(mode->has_allow && !mode->optional && !mode->has_max);
    REQUIRE(mode->n_allow == 7);
    check_value(&mode->allow[0], CONFIG_VALUE_STRING, "s3cr3t", 0);
    check_value(&mode->allow[1], CONFIG_VALUE_NUMBER, "3", 3);
    check_value(&mode->allow[2], CONFIG_VALUE_NUMBER, "-2.5", -2.5);
    check_value(&mode->allow[3], CONFIG_VALUE_BOOL, "true", 0);
    check_value(&mode->allow[4], CONFIG_VALUE_NUMBER, "1e+300", 1e300);
    check_value(&mode->allow[5], CONFIG_VALUE_NUMBER, "0", 0);
    check_value(&mode->allow[6], CONFIG_VALUE_NUMBER, "0.1", 0.1);
    const struct config_argument *dotted = &t->arguments[2], *n = &t->arguments[3];
    CHECK_STR(dotted->name, "a.b");
    REQUIRE(dotted->n_deny == 2);
    check_value(&dotted->deny[0], CONFIG_VALUE_STRING, "", 0);
    check_value(&dotted->deny[1], CONFIG_VALUE_BOOL, "false", 0);
    CHECK(!dotted->has_allow && dotted->has_max && dotted->max > 3.4 && dotted->max < 3.6);
    CHECK(n->has_max && n->max < -6.5 && n->max > -7.5);
    CHECK_STR(a->tools[1].name, "a.b");
    CHECK(!a->tools[1].has_allow);
    unload(&l);
}

static void check_limit(const struct config_limit *limit, uint64_t number, uint64_t interval_ms) {
    CHECK_INT(limit->limit, number);
    CHECK_INT(limit->interval_ms, interval_ms);
}

static void check_named(const struct config_named_limit *named, const char *name, uint64_t limit,
                        uint64_t interval_ms) {
    CHECK_STR(named->name, name);
    check_limit(&named->limit, limit, interval_ms);
}

static void test_limits(void) {
    struct loaded l =
        load(SLICE(GROUPS "[server.rate_limits]\n"
                          "enabled = true\n"
                          "global = { limit = 1000000000, interval = \"24d\" }\n"
                          "per_ip = { limit = 100, interval = \"1ms\" }\n"
                          "[server.rate_limits.storage]\n"
                          "type = \"redis\"\n"
                          "url = \"rediss://u:{{ env.TOKEN }}@redis.example.com:6380/2\"\n"
                          "key_prefix = \"\"\n"
                          "on_failure = \"deny\"\n"
                          "response_timeout = \"2s\"\n"
                          "connection_timeout = \"3s\"\n"
                          "pool = { max_size = 4, min_idle = 2, timeout_create = \"4s\", "
                          "timeout_wait = \"5s\", timeout_recycle = \"6s\" }\n"
                          "tls = { enabled = true, insecure = false, ca_cert_path = \"ca\", "
                          "client_cert_path = \"/c\", client_key_path = \"k\" }\n" ONE
                          "[mcp.servers.a.rate_limits]\n"
                          "limit = 1000\n"
                          "interval = \"{{ env.WAIT }}\"\n"
                          "[mcp.servers.a.rate_limits.tools]\n"
                          "search_code = { limit = 30, interval = \"60s\" }\n"
                          "\"a.b\" = { limit = 10, interval = \"1h 30m\" }\n"
                          "[mcp.servers.a.rate_limits.per_user]\n"
                          "limit = 5\n"
                          "interval = \"1s\"\n"
                          "tools.t = { limit = 1, interval = \"2s\" }\n"
                          "groups.g = { limit = 7, interval = \"3s\" }\n"
                          "groups.h = { limit = 8, interval = \"4s\" }\n"));
    CHECK_STR(buf_slice(&l.text), "");
    REQUIRE(l.result == 0);
    const struct config_server_limits *all = &l.config->rate_limits;
    CHECK(all->enabled);
    check_limit(&all->global, 1000000000, LIMIT_RATE_INTERVAL_MS);
    check_limit(&all->per_ip, 100, 1);
    const struct config_storage *storage = &all->storage;
    CHECK_INT(storage->type, CONFIG_STORAGE_REDIS);
    CHECK_INT(storage->on_failure, CONFIG_FAILURE_DENY);
    CHECK_STR(storage->url, "rediss://u:s3cr3t@redis.example.com:6380/2");
    CHECK_STR(storage->key_prefix, "");
    CHECK_INT(storage->response_timeout_ms, 2000);
    CHECK_INT(storage->connection_timeout_ms, 3000);
    CHECK_INT(storage->pool_max_size, 4);
    CHECK_INT(storage->pool_min_idle, 2);
    CHECK_INT(storage->pool_timeout_create_ms, 4000);
    CHECK_INT(storage->pool_timeout_wait_ms, 5000);
    CHECK_INT(storage->pool_timeout_recycle_ms, 6000);
    CHECK(storage->tls_enabled && !storage->tls_insecure);
    CHECK_STR(storage->tls_ca, "/etc/gw/ca");
    CHECK_STR(storage->tls_cert, "/c");
    CHECK_STR(storage->tls_key, "/etc/gw/k");
    const struct config_rate_limits *rates = &l.config->servers[0].rate_limits;
    check_limit(&rates->all, 1000, 5000);
    REQUIRE(rates->n_tools == 2 && rates->n_user_tools == 1 && rates->n_groups == 2);
    check_named(&rates->tools[0], "search_code", 30, 60000);
    check_named(&rates->tools[1], "a.b", 10, 5400000);
    check_limit(&rates->user, 5, 1000);
    check_named(&rates->user_tools[0], "t", 1, 2000);
    check_named(&rates->groups[0], "g", 7, 3000);
    check_named(&rates->groups[1], "h", 8, 4000);
    unload(&l);
}

/* What is not named keeps our default. */
static void test_partial_pool(void) {
    struct loaded l = load(SLICE("[server.rate_limits.storage]\n"
                                 "pool.max_size = 3\n" ONE));
    CHECK_STR(buf_slice(&l.text), "");
    REQUIRE(l.result == 0);
    const struct config_storage *storage = &l.config->rate_limits.storage;
    CHECK_INT(storage->pool_max_size, 3);
    CHECK_INT(storage->pool_timeout_create_ms, 5000);
    CHECK_INT(storage->pool_timeout_wait_ms, 5000);
    CHECK_INT(storage->pool_timeout_recycle_ms, 300000);
    unload(&l);
}

#define REDIS "[server.rate_limits.storage]\ntype = \"redis\"\n"
#define NO_GROUPS                                                                                  \
    "configure server.client_identification.group_id, or groups of a token in "                    \
    "[server.auth.tokens]\n"
#define VALUES                                                                                     \
    "[server.client_identification]\nenabled = true\ngroup_id.http_header = \"X-G\"\n"             \
    "validation.group_values = [\"g\", \"h\"]\n[server]\ntrusted_proxies = [\"192.0.2.7\"]\n"
#define ARGUMENT "[mcp.servers.a.tools.t.arguments.x]\n"
#define BAD_URL  "3:7: error: server.rate_limits.storage.url is no address of a Redis to use: "

static const struct {
    const char *name, *toml, *problems;
} messages[] = {
    /* limits */
    {"a limit without an interval", ONE "rate_limits.limit = 1\n",
     "3:13: error: mcp.servers.a.rate_limits.limit needs interval beside it, such as interval = "
     "\"60s\"\n"},
    {"an interval without a limit", ONE "rate_limits.per_user.interval = \"1s\"\n",
     "3:22: error: mcp.servers.a.rate_limits.per_user.interval needs limit beside it: how many "
     "pass in it\n"},
    {"half a limit of a tool", ONE "rate_limits.tools.t.limit = 1\n",
     "3:21: error: mcp.servers.a.rate_limits.tools.t.limit needs interval beside it, such as "
     "interval = \"60s\"\n"},
    {"half a limit of a user's tool", ONE "rate_limits.per_user.tools.t.interval = \"1s\"\n",
     "3:30: error: mcp.servers.a.rate_limits.per_user.tools.t.interval needs limit beside it: how "
     "many pass in it\n"},
    {"half a limit of a group", GROUPS ONE "rate_limits.per_user.groups.g.limit = 1\n",
     "5:31: error: mcp.servers.a.rate_limits.per_user.groups.g.limit needs interval beside it, "
     "such as interval = \"60s\"\n"},
    {"half a limit of all",
     "[server.rate_limits]\nglobal.limit = 1\nper_ip.interval = \"1s\"\n" ONE,
     "2:8: error: server.rate_limits.global.limit needs interval beside it, such as interval = "
     "\"60s\"\n"
     "3:8: error: server.rate_limits.per_ip.interval needs limit beside it: how many pass in "
     "it\n"},
    {"empty limits", "[server.rate_limits]\nglobal = {}\n" ONE "rate_limits.tools.t = {}\n",
     "2:1: error: server.rate_limits.global needs limit and interval, such as limit = 100 and "
     "interval = \"60s\"\n"
     "5:19: error: mcp.servers.a.rate_limits.tools.t needs limit and interval, such as limit = "
     "100 and interval = \"60s\"\n"},
    {"tables without a limit of their own", ONE "rate_limits.per_user.tools = {}\n", ""},
    {"no interval", ONE "rate_limits = { limit = 1, interval = \"0s\" }\n",
     "3:39: error: mcp.servers.a.rate_limits.interval must be from 1ms to 24d\n"},
    {"too long an interval", ONE "rate_limits = { limit = 1, interval = \"24d 1ms\" }\n",
     "3:39: error: mcp.servers.a.rate_limits.interval must be from 1ms to 24d\n"},
    {"the longest", ONE "rate_limits = { limit = 1000000000, interval = \"24d\" }\n", ""},
    {"too large a limit", ONE "rate_limits.tools.t = { limit = 1000000001, interval = \"1s\" }\n",
     "3:33: error: mcp.servers.a.rate_limits.tools.t.limit must be from 0 to 1000000000\n"},
    {"a negative limit", ONE "rate_limits = { limit = -1, interval = \"1s\" }\n",
     "3:25: error: mcp.servers.a.rate_limits.limit must be from 0 to 1000000000\n"},
    {"an interval that is a number", ONE "rate_limits = { limit = 1, interval = 60 }\n",
     "3:39: error: mcp.servers.a.rate_limits.interval must be a duration, as a string such as "
     "\"30s\" or \"1h 30m\"\n"},
    {"nobody passes", ONE "rate_limits = { limit = 0, interval = \"1s\" }\n",
     "3:25: warning: mcp.servers.a.rate_limits.limit is 0: nobody passes\n"},
    {"no call of a tool passes", ONE "rate_limits.tools.t = { limit = 0, interval = \"1s\" }\n",
     "3:33: warning: mcp.servers.a.rate_limits.tools.t.limit is 0: nobody passes\n"},
    {"a tool that is no table", ONE "rate_limits.tools.t = 5\n",
     "3:23: error: mcp.servers.a.rate_limits.tools.t must be a table\n"},
    {"an empty name", ONE "rate_limits.tools.\"\" = { limit = 1, interval = \"1s\" }\n",
     "3:19: error: mcp.servers.a.rate_limits.tools.\"\" must not be empty\n"},
    {"limits that are switched off",
     "[server.rate_limits]\nenabled = false\n" ONE
     "rate_limits = { limit = 1, interval = \"1s\" }\n",
     "2:11: warning: server.rate_limits.enabled switches off the limits of servers, too, such as "
     "those of mcp.servers.a\n"},
    {"no limits that are switched off", "[server.rate_limits]\nenabled = false\n" ONE, ""},
    {"groups of limits that nobody is in",
     ONE "rate_limits.per_user.groups.g = { limit = 1, interval = \"1s\" }\n",
     "3:22: warning: mcp.servers.a.rate_limits.per_user.groups is for nobody: nothing gives a "
     "caller groups; " NO_GROUPS},
    {"groups of limits that are none",
     VALUES ONE "rate_limits.per_user.groups.f = { limit = 1, interval = \"1s\" }\n",
     "9:29: error: mcp.servers.a.rate_limits.per_user.groups.f is not among "
     "server.client_identification.validation.group_values\n"},
    /* storage */
    {"no address", REDIS ONE,
     "2:1: error: server.rate_limits.storage.type is \"redis\" and needs url beside it: "
     "\"redis://host:6379\", or rediss:// for TLS\n"},
    {"another storage", "[server.rate_limits.storage]\ntype = \"memcached\"\n" ONE,
     "2:8: error: server.rate_limits.storage.type must be \"memory\" or \"redis\"\n"},
    {"an address for nothing", "[server.rate_limits.storage]\nurl = \"redis://a\"\n" ONE,
     "2:1: warning: server.rate_limits.storage.url has no effect without type = \"redis\"\n"},
    {"a cluster", REDIS "url = \"redis-cluster://a\"\n" ONE,
     BAD_URL "Redis Cluster is not supported; use one server\n"},
    {"a cluster by another name", REDIS "url = \"rediss+cluster://a\"\n" ONE,
     BAD_URL "Redis Cluster is not supported; use one server\n"},
    {"sentinel", REDIS "url = \"redis+sentinel://a\"\n" ONE,
     BAD_URL "Redis Sentinel is not supported; use one server\n"},
    {"a list", REDIS "url = \"redis://u:{{ env.TOKEN }}@a:1,b:2\"\n" ONE,
     BAD_URL "it must name one server: a list of them (Redis Cluster, Sentinel) is not "
             "supported\n"},
    {"a list of addresses", REDIS "url = \"redis://a,redis://b\"\n" ONE,
     BAD_URL "it must name one server: a list of them (Redis Cluster, Sentinel) is not "
             "supported\n"},
    {"a comma in a password", REDIS "url = \"redis://u:a,b@127.0.0.1\"\n" ONE, ""},
    {"a socket", REDIS "url = \"redis+unix:///run/redis\"\n" ONE,
     BAD_URL "sockets in the file system are not supported; use redis://\n"},
    {"another scheme", REDIS "url = \"http://a\"\n" ONE,
     BAD_URL "the scheme must be redis, or rediss for TLS\n"},
    {"no host", REDIS "url = \"redis:///0\"\n" ONE, BAD_URL "the host is missing\n"},
    {"no port", REDIS "url = \"redis://a:0\"\n" ONE,
     BAD_URL "the port is not a number from 1 to 65535\n"},
    {"a user without a password", REDIS "url = \"redis://u@a\"\n" ONE, ""},
    {"no database", REDIS "url = \"redis://a/x\"\n" ONE,
     BAD_URL "its path must be the number of a database, such as /0\n"},
    {"a query", REDIS "url = \"redis://a?protocol=resp3\"\n" ONE,
     BAD_URL "it must not have a query or a fragment\n"},
    {"a broken database", REDIS "url = \"redis://a/123456\"\n" ONE,
     BAD_URL "its path must be the number of a database, such as /0\n"},
    {"U+0000 in a password", REDIS "url = \"redis://:%00@127.0.0.1\"\n" ONE,
     BAD_URL "its user name and password must not hold U+0000\n"},
    {"a password that everybody reads", REDIS "url = \"redis://u:{{ env.TOKEN }}@a\"\n" ONE,
     "3:1: warning: server.rate_limits.storage.url sends a password to another machine "
     "unencrypted; use rediss://\n"},
    {"a password on this machine", REDIS "url = \"redis://u:{{ env.TOKEN }}@localhost\"\n" ONE, ""},
    {"a password with TLS", REDIS "url = \"redis://u:p@a\"\ntls.enabled = true\n" ONE, ""},
    {"a certificate without a key",
     REDIS "url = \"rediss://a\"\ntls = { enabled = true, client_cert_path = \"c\" }\n" ONE,
     "4:25: error: server.rate_limits.storage.tls.client_cert_path needs client_key_path beside "
     "it\n"},
    {"a key without a certificate",
     REDIS "url = \"rediss://a\"\ntls = { enabled = true, client_key_path = \"c\" }\n" ONE,
     "4:25: error: server.rate_limits.storage.tls.client_key_path needs client_cert_path beside "
     "it\n"},
    {"any certificate",
     REDIS "url = \"rediss://a\"\ntls = { enabled = true, insecure = true }\n" ONE,
     "4:25: warning: server.rate_limits.storage.tls.insecure takes any certificate: whoever is on "
     "the way reads the password and decides who passes; name the authority with ca_cert_path\n"},
    {"no TLS with rediss://", REDIS "url = \"rediss://a\"\ntls.enabled = false\n" ONE,
     "4:5: warning: server.rate_limits.storage.tls.enabled is false and has no effect: rediss:// "
     "is TLS\n"},
    {"authorities without TLS", REDIS "url = \"redis://a\"\ntls.ca_cert_path = \"ca\"\n" ONE,
     "4:1: warning: server.rate_limits.storage.tls has no effect: redis:// is not encrypted; use "
     "rediss://\n"},
    {"a pool that does not fit", "[server.rate_limits.storage]\npool.min_idle = 17\n" ONE,
     "2:6: error: server.rate_limits.storage.pool.min_idle must not be larger than max_size\n"},
    {"no pool", "[server.rate_limits.storage]\npool.max_size = 0\n" ONE,
     "2:17: error: server.rate_limits.storage.pool.max_size must be from 1 to 1024\n"},
    {"a prefix with braces", "[server.rate_limits.storage]\nkey_prefix = \"{x}\"\n" ONE,
     "2:14: error: server.rate_limits.storage.key_prefix must be at most 128 printable characters "
     "without spaces and braces\n"},
    {"on_failure", "[server.rate_limits.storage]\non_failure = \"allow\"\n" ONE,
     "2:14: error: server.rate_limits.storage.on_failure must be \"local\" or \"deny\"\n"},
    /* groups */
    {"groups twice", GROUPS ONE "allow = [\"g\", \"h\", \"g\"]\ndeny = []\n",
     "5:20: warning: mcp.servers.a.allow[2] is in the list already\n"},
    {"an empty group", GROUPS ONE "deny = [\"\"]\n",
     "5:9: error: mcp.servers.a.deny[0] must not be empty\n"},
    {"a group that is a number", GROUPS ONE "deny = [1]\n",
     "5:9: error: mcp.servers.a.deny[0] must be a string, in quotation marks\n"},
    {"one group alone", GROUPS ONE "deny = \"g\"\n",
     "5:8: error: mcp.servers.a.deny must be a list of strings\n"},
    {"groups that are none",
     VALUES ONE "allow = [\"g\", \"f\"]\ndeny = [\"e\"]\ntools.t = { allow = [\"d\"], deny = "
                "[\"h\", \"c\"] }\n",
     "9:15: error: mcp.servers.a.allow[1] is not among "
     "server.client_identification.validation.group_values\n"
     "10:9: error: mcp.servers.a.deny[0] is not among "
     "server.client_identification.validation.group_values\n"
     "11:22: error: mcp.servers.a.tools.t.allow[0] is not among "
     "server.client_identification.validation.group_values\n"
     "11:41: error: mcp.servers.a.tools.t.deny[1] is not among "
     "server.client_identification.validation.group_values\n"},
    {"groups that nobody is in", ONE "allow = [\"g\"]\ntools.t.deny = [\"g\"]\n",
     "3:1: warning: mcp.servers.a.allow lets nobody in: nothing gives a caller groups; " NO_GROUPS
     "4:9: warning: mcp.servers.a.tools.t.deny refuses everybody: no caller's groups are "
     "known; " NO_GROUPS},
    {"nobody needs no groups", ONE "allow = []\ndeny = []\ntools.t.allow = []\n", ""},
    {"allowed and denied",
     GROUPS ONE "allow = [\"g\", \"h\"]\ndeny = [\"h\"]\ntools.t.allow = [\"h\"]\n"
                "tools.u = { allow = [\"g\"], deny = [\"g\"] }\n",
     "5:15: warning: mcp.servers.a.allow[1] is in deny, too, and deny wins\n"
     "7:18: warning: mcp.servers.a.tools.t.allow[0] is in the server's deny, which wins\n"
     "8:22: warning: mcp.servers.a.tools.u.allow[0] is in deny, too, and deny wins\n"},
    {"access", ONE "access = \"\"\ntools.t.access = \"unset\"\n",
     "3:10: error: mcp.servers.a.access must be \"read\" or \"write\"\n"
     "4:18: error: mcp.servers.a.tools.t.access must be \"read\" or \"write\"\n"},
    /* security */
    {"both modes", "[security]\nedit_mode = false\nwhitelist = [\"a__t\"]\n" ONE, ""},
    {"the whitelist",
     "[security]\nwhitelist = [\"a__t\", \"t\", \"a__\", \"b__t\", \"off__t\", \"a__t\", "
     "\"__t\"]\n" ONE "[mcp.servers.off]\nenabled = false\n",
     "2:22: error: security.whitelist[1] must be a server and its tool, as clients call it: "
     "\"server__tool\"\n"
     "2:27: error: security.whitelist[2] must be a server and its tool, as clients call it: "
     "\"server__tool\"\n"
     "2:34: error: security.whitelist[3] is no tool of a server in mcp.servers: \"server__tool\" "
     "with the name of the server there\n"
     "2:52: warning: security.whitelist[5] is in the list already\n"
     "2:60: error: security.whitelist[6] must be a server and its tool, as clients call it: "
     "\"server__tool\"\n"},
    {"edit mode in words", "[security]\nedit_mode = \"on\"\n" ONE,
     "2:13: error: security.edit_mode must be true or false\n"},
    /* arguments */
    {"a rule without one",
     ONE "[mcp.servers.a.tools.t.arguments]\nx = {}\ny.optional = true\n"
         "z.deny = []\n",
     "4:1: error: mcp.servers.a.tools.t.arguments.x restricts nothing: it needs allow, deny, "
     "pattern or max\n"
     "5:1: error: mcp.servers.a.tools.t.arguments.y restricts nothing: it needs allow, deny, "
     "pattern or max\n"
     "6:1: error: mcp.servers.a.tools.t.arguments.z restricts nothing: it needs allow, deny, "
     "pattern or max\n"},
    {"nothing is allowed", ONE ARGUMENT "allow = []\n",
     "4:9: warning: mcp.servers.a.tools.t.arguments.x.allow is empty: no value is let through\n"},
    {"values that are none", ONE ARGUMENT "allow = [[1], {}, 2020-01-01, nan]\n",
     "4:10: error: mcp.servers.a.tools.t.arguments.x.allow[0] must be a string, a number, true or "
     "false\n"
     "4:15: error: mcp.servers.a.tools.t.arguments.x.allow[1] must be a string, a number, true or "
     "false\n"
     "4:19: error: mcp.servers.a.tools.t.arguments.x.allow[2] must be a string, a number, true or "
     "false\n"},
    {"numbers that are none", ONE ARGUMENT "deny = [nan, -inf, 9007199254740993]\nmax = inf\n",
     "4:9: error: mcp.servers.a.tools.t.arguments.x.deny[0] must be a finite number\n"
     "4:14: error: mcp.servers.a.tools.t.arguments.x.deny[1] must be a finite number\n"
     "4:20: error: mcp.servers.a.tools.t.arguments.x.deny[2] is beyond 9007199254740992 (2 to the "
     "53rd), where numbers can not be told apart\n"
     "5:7: error: mcp.servers.a.tools.t.arguments.x.max must be a finite number\n"},
    {"the last numbers", ONE ARGUMENT "deny = [9007199254740992, -9007199254740992]\n", ""},
    {"a list that is none", ONE ARGUMENT "allow = \"x\"\n",
     "4:9: error: mcp.servers.a.tools.t.arguments.x.allow must be a list of strings, numbers, true "
     "and false\n"},
    {"values twice",
     ONE ARGUMENT "allow = [1, \"1\", 1.0, true, \"true\"]\ndeny = [\"a\", \"a\"]\n",
     "4:18: warning: mcp.servers.a.tools.t.arguments.x.allow[2] is in the list already\n"
     "5:14: warning: mcp.servers.a.tools.t.arguments.x.deny[1] is in the list already\n"},
    {"values allowed and denied", ONE ARGUMENT "allow = [1, 2]\ndeny = [2]\n",
     "4:13: warning: mcp.servers.a.tools.t.arguments.x.allow[1] is in deny, too, and deny wins\n"},
    {"optional without effect", ONE ARGUMENT "max = 1\noptional = true\n",
     "5:1: warning: mcp.servers.a.tools.t.arguments.x.optional has no effect without allow or "
     "pattern: the argument may be left out anyway\n"},
    {"optional with effect", ONE ARGUMENT "pattern = 'x'\noptional = true\n", ""},
    {"an empty pattern", ONE ARGUMENT "pattern = ''\n",
     "4:11: error: mcp.servers.a.tools.t.arguments.x.pattern must not be empty\n"},
    {"no pattern", ONE ARGUMENT "pattern = 'a(b'\n",
     "4:11: error: mcp.servers.a.tools.t.arguments.x.pattern is no pattern: missing closing "
     "parenthesis (at byte 3 of it)\n"},
    {"an unknown key", ONE ARGUMENT "patern = 'x'\n",
     "4:1: error: unknown key mcp.servers.a.tools.t.arguments.x.patern (did you mean pattern?)\n"},
    {"an argument that is no table", ONE "[mcp.servers.a.tools.t.arguments]\nx = 'y'\n",
     "4:5: error: mcp.servers.a.tools.t.arguments.x must be a table\n"},
    {"names inside what is switched off",
     ONE "[mcp.servers.b]\nenabled = false\ntools.t.arguments.x = { alow = [] }\n"
         "rate_limits.per_user.groups.g = { limits = 1 }\nallow = [\"g\"]\n",
     "5:25: error: unknown key mcp.servers.b.tools.t.arguments.x.alow (did you mean allow?)\n"
     "6:35: error: unknown key mcp.servers.b.rate_limits.per_user.groups.g.limits (did you mean "
     "limit?)\n"},
};

static void test_messages(void) {
    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        test_row(messages[i].name);
        CLEANUP(buf_deinit) struct buf out = BUF_INIT(KIB(64));
        struct loaded l = load(slice_from_cstr(messages[i].toml));
        CHECK_STR(without_file(&l, &out), messages[i].problems);
        CHECK((l.result == 0) == (l.problems.n_errors == 0));
        CHECK(slice_find(buf_slice(&l.text), SLICE("s3cr3t")) == SIZE_MAX);
        unload(&l);
    }
}

/* A list of so many entries, each `item` and its number. */
static struct loaded load_long(const char *before, const char *item, size_t n, const char *after) {
    CLEANUP(buf_deinit) struct buf toml = BUF_INIT(MIB(2));
    buf_append_cstr(&toml, before);
    for (size_t i = 0; i < n; i++)
        buf_printf(&toml, "%s%s%zu\"", i == 0 ? "" : ", ", item, i);
    buf_append_cstr(&toml, after);
    return load(buf_slice(&toml));
}

static void test_bounds(void) {
    static const struct {
        const char *before, *item, *after;
        size_t most;
    } lists[] = {
        {GROUPS ONE "allow = [", "\"", "]\n", LIMIT_ACCESS_GROUPS},
        {GROUPS ONE "tools.t.deny = [", "\"", "]\n", LIMIT_ACCESS_GROUPS},
        {ONE ARGUMENT "allow = [", "\"", "]\n", LIMIT_ARGUMENT_VALUES},
        {ONE "[security]\nwhitelist = [", "\"a__", "]\n", LIMIT_WHITELIST},
    };
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        test_row(lists[i].before);
        struct loaded fits =
            load_long(lists[i].before, lists[i].item, lists[i].most, lists[i].after);
        CHECK_STR(buf_slice(&fits.text), "");
        unload(&fits);
        struct loaded beyond =
            load_long(lists[i].before, lists[i].item, lists[i].most + 1, lists[i].after);
        CHECK_INT(beyond.result, CONFIG_E_INVALID);
        CHECK_INT(beyond.problems.n, 1);
        CHECK(slice_find(buf_slice(&beyond.text), SLICE(" must have at most ")) != SIZE_MAX);
        unload(&beyond);
    }
}

static struct loaded load_rules(size_t n) {
    CLEANUP(buf_deinit) struct buf toml = BUF_INIT(MIB(1));
    buf_append_cstr(&toml, ONE "[mcp.servers.a.tools.t.arguments]\n");
    for (size_t i = 0; i < n; i++)
        buf_printf(&toml, "x%zu.max = 1\n", i);
    return load(buf_slice(&toml));
}

static void test_many_rules(void) {
    struct loaded fits = load_rules(LIMIT_ARGUMENT_RULES);
    CHECK_STR(buf_slice(&fits.text), "");
    unload(&fits);
    struct loaded beyond = load_rules(LIMIT_ARGUMENT_RULES + 1);
    CHECK_INT(beyond.result, CONFIG_E_INVALID);
    CHECK(slice_find(buf_slice(&beyond.text), SLICE("arguments must have at most 100 entries")) !=
          SIZE_MAX);
    unload(&beyond);
}

static struct loaded load_pattern(size_t n) {
    CLEANUP(buf_deinit) struct buf toml = BUF_INIT(KIB(8));
    buf_append_cstr(&toml, ONE ARGUMENT "pattern = '");
    for (size_t i = 0; i < n; i++)
        buf_append_byte(&toml, 'a');
    buf_append_cstr(&toml, "'\n");
    return load(buf_slice(&toml));
}

static void test_long_patterns(void) {
    struct loaded fits = load_pattern(LIMIT_PATTERN);
    CHECK_STR(buf_slice(&fits.text), "");
    unload(&fits);
    struct loaded beyond = load_pattern(LIMIT_PATTERN + 1);
    CHECK(slice_ends_with(buf_slice(&beyond.text), SLICE("x.pattern is longer than 4 KiB\n")));
    unload(&beyond);
}

/* What is not served is looked at all the same, and not kept. */
static void test_unserved(void) {
    CLEANUP(buf_deinit) struct buf out = BUF_INIT(KIB(8));
    struct loaded l = load(SLICE(VALUES "[mcp.servers.n]\n"
                                        "env.PASSWORD = \"{{ env.TOKEN }}\"\n"
                                        "allow = [\"f\"]\n"
                                        "rate_limits.limit = 1\n"
                                        "workes = 1\n" ONE));
    CHECK_INT(l.result, CONFIG_E_INVALID);
    CHECK_STR(without_file(&l, &out),
              "7:14: warning: mcp.servers.n has neither cmd nor url: it is not served; cmd is the "
              "command that speaks MCP on its standard input and output, url the address of a "
              "server\n"
              "9:10: error: mcp.servers.n.allow[0] is not among "
              "server.client_identification.validation.group_values\n"
              "10:13: error: mcp.servers.n.rate_limits.limit needs interval beside it, such as "
              "interval = \"60s\"\n"
              "11:1: error: unknown key mcp.servers.n.workes\n");
    unload(&l);
    l = load(SLICE("[mcp.servers.n]\naccess = \"read\"\n"
                   "[mcp.servers.n.rate_limits]\nlimit = 3\ninterval = \"1s\"\n" ONE
                   "[mcp.servers.m]\n[security]\nwhitelist = [\"n__t\"]\n"));
    CHECK_INT(l.result, 0);
    CHECK_INT(l.problems.n, 2);
    REQUIRE(l.config != NULL && l.config->n_servers == 1);
    CHECK_STR(l.config->servers[0].name, "a");
    CHECK_INT(l.config->servers[0].access, CONFIG_ACCESS_UNSET);
    CHECK_INT(l.config->servers[0].rate_limits.all.limit, 0);
    unload(&l);
}

static void load_for_torture(void *arg) {
    (void)arg;
    struct loaded l = load(
        SLICE(GROUPS "[server.rate_limits]\nglobal = { limit = 1, interval = \"1s\" }\n" REDIS
                     "url = \"redis://u:{{ env.TOKEN }}@a\"\n[mcp.servers.n]\n" ONE
                     "allow = [\"g\", \"g\"]\ntools.t.deny = [\"g\"]\n" ARGUMENT
                     "allow = [1, 2.5, true, \"x\"]\npattern = 'a+'\n[mcp.servers.a.rate_limits]\n"
                     "per_user.groups.g = { limit = 1, interval = \"1s\" }\n"
                     "[security]\nwhitelist = [\"a__t\"]\n"));
    CHECK(l.result == 0 || l.result == -ENOMEM);
    unload(&l);
}

static void test_without_memory(void) {
    test_torture(load_for_torture, NULL);
}

TEST_MAIN(TEST(test_defaults), TEST(test_access), TEST(test_limits), TEST(test_partial_pool),
          TEST(test_messages), TEST(test_bounds), TEST(test_many_rules), TEST(test_long_patterns),
          TEST(test_unserved), TEST(test_without_memory))
