/*
 * What a reload sees as changed: every key of the option table, flipped by itself through the
 * loader. A row without a sample here, or a member that the comparison forgets, fails.
 */
#include "loaded.h"
#include "options.h"

static struct loaded load_lines(const char *head, const char *line) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    buf_printf(&text, "%s%s\n", head, line);
    return load(buf_slice(&text));
}

static bool loads(const struct loaded *l, const char *what) {
    CHECK_INT(l->result, 0);
    if (l->result != 0)
        printf("# %s: %.*s\n", what, SLICE_ARGS(buf_slice(&l->text)));
    return l->result == 0;
}

/* What is told of the configuration that is served by: each sample with its line. */

/* "mcp.servers.a.tools.t.access" or "mcp.headers[0].name" is of "mcp.servers.*.tools.*.access", of
 * "mcp.headers.name". */
static bool is_of_row(struct slice path, const char *row) {
    size_t i = 0;
    for (; *row != '\0'; row++) {
        while (i < path.len && path.ptr[i] == '[')
            i += slice_find_byte(slice_from(path, i), ']') + 1;
        if (*row == '*') {
            while (i < path.len && path.ptr[i] != '.')
                i++;
        } else if (i < path.len && path.ptr[i] == *row) {
            i++;
        } else {
            return false;
        }
    }
    return i == path.len;
}

static struct slice line_of(struct slice text, uint64_t number) {
    struct slice line = SLICE_EMPTY, rest = text;
    while (number > 0 && slice_cut(rest, '\n', &line, &rest))
        number--;
    return line;
}

/* True: an item says that the key of that row is from the file, in a line that has it. */
static bool is_told(struct slice live, const char *row, struct slice text) {
    static const struct slice begin = SLICE_INIT("{\"path\":\"");
    struct slice path = slice_from_cstr(row), number;
    size_t at, dot = path.len;
    while (dot > 0 && path.ptr[dot - 1] != '.')
        dot--;
    while ((at = slice_find(live, begin)) != SIZE_MAX) {
        live = slice_from(live, at + begin.len);
        size_t next = slice_find(live, begin);
        struct slice item = slice_sub(live, 0, next == SIZE_MAX ? live.len : next);
        uint64_t line = 0;
        size_t where = slice_find(item, SLICE("\"line\":"));
        if (!is_of_row(slice_sub(item, 0, slice_find_byte(item, '"')), row) || where == SIZE_MAX ||
            slice_find(item, SLICE("\"source\":\"file\"")) == SIZE_MAX)
            continue;
        number = slice_from(item, where + 7);
        number = slice_sub(number, 0, slice_find_byte(number, ','));
        CHECK_INT(slice_to_u64(number, &line), 0);
        if (slice_find(line_of(text, line), slice_from(path, dot)) != SIZE_MAX)
            return true;
    }
    return false;
}

static bool tells(const char *row, const char *head, const char *line) {
    CLEANUP(buf_deinit) struct buf live = BUF_INIT(MIB(1));
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(KIB(16));
    struct loaded l = load_lines(head, line);
    buf_printf(&text, "%s%s\n", head, line);
    bool is_fine = l.result == 0 && config_write_live(l.config, &live) == 0 &&
                   is_told(buf_slice(&live), row, buf_slice(&text));
    unload(&l);
    return is_fine;
}

/* Servers. */

#define CHILD "[mcp.servers.a]\ncmd = [\"x\"]\n"
#define SCOPES                                                                                     \
    "[server.auth.tokens.t]\nhash = \"sha256:"                                                     \
    "1000000000000000000000000000000000000000000000000000000000000000\"\nscopes = [\"s\", "        \
    "\"u\"]\n" CHILD
#define GROUPS                                                                                     \
    "[server.auth.tokens.t]\nhash = \"sha256:"                                                     \
    "1000000000000000000000000000000000000000000000000000000000000000\"\ngroups = [\"g\", "        \
    "\"h\"]\n" CHILD
#define ARGUMENT(name)            "[mcp.servers.a.tools.t.arguments." name "]\n"
#define RATES                     GROUPS "[mcp.servers.a.rate_limits]\n"
#define PAIR(limit, interval)     "limit = " limit "\ninterval = \"" interval "\""
#define ROW(key, limit, interval) key " = { limit = " limit ", interval = \"" interval "\" }"
#define HTTPS                     "[mcp.servers.a]\nurl = \"https://127.0.0.1:1/mcp\"\n"
#define HTTP                      "[mcp.servers.a]\nurl = \"http://127.0.0.1:1/mcp\"\n"
#define PROOF(type)               "auth.type = \"" type "\"\nauth.client_secret = \"x\"\n"
#define IDENTIFIER                "auth.type = \"client_credentials\"\nauth.client_id = \"x\"\n"
#define CLIENT                    PROOF("client_credentials") "auth.client_id = \"x\"\n"
#define EXCHANGE                  PROOF("exchange") "auth.client_id = \"x\"\n"
#define OAUTH_HTTP                                                                                 \
    "[server.oauth]\nissuer = \"https://id.example\"\n"                                            \
    "protected_resource.resource = \"https://gw.example\"\n" HTTP

static const struct server_sample {
    const char *key;                 /* below mcp.servers.* */
    const char *head, *line, *other; /* two texts in which nothing else is different */
} server_samples[] = {
    {"url", "", "[mcp.servers.a]\nurl = \"http://127.0.0.1:1/a\"",
     "[mcp.servers.a]\nurl = \"http://127.0.0.1:1/b\""},
    {"protocol", HTTP, "", "protocol = \"streamable-http\""},
    {"message_url", HTTP, "protocol = \"sse\"",
     "message_url = \"https://a/m\"\nprotocol = \"sse\""},
    {"proxy", HTTP, "", "proxy = \"none\""},
    {"connect_timeout", HTTP, "", "connect_timeout = \"9s\""},
    {"auth.token", HTTP, "auth.token = \"s\"", "auth.token = \"t\""},
    {"auth.type", HTTP, "", "auth.type = \"forward\""},
    {"auth.audience", HTTP, "auth = { type = \"forward\", audience = \"a\" }",
     "auth = { type = \"forward\", audience = \"b\" }"},
    {"auth.scopes", HTTP, "auth = { type = \"forward\", scopes = [\"a\"] }",
     "auth = { type = \"forward\", scopes = [\"a\", \"b\"] }"},
    {"auth.audience", OAUTH_HTTP EXCHANGE, "auth.audience = \"a\"", "auth.audience = \"b\""},
    {"auth.scopes", HTTP CLIENT, "", "auth.scopes = [\"a\"]"},
    {"auth.issuer", HTTP CLIENT, "", "auth.issuer = \"https://a\""},
    {"auth.issuer", OAUTH_HTTP EXCHANGE, "", "auth.issuer = \"https://a\""},
    {"auth.token_endpoint", HTTP CLIENT "auth.issuer = \"https://a\"\n", "",
     "auth.token_endpoint = \"https://a\""},
    {"auth.client_id", HTTP PROOF("client_credentials"), "auth.client_id = \"a\"",
     "auth.client_id = \"b\""},
    {"auth.client_secret", HTTP IDENTIFIER, "auth.client_secret = \"a\"",
     "auth.client_secret = \"b\""},
    {"auth.client_key_path", HTTP IDENTIFIER, "auth.client_key_path = \"/a\"",
     "auth.client_key_path = \"/b\""},
    {"auth.client_key_id", HTTP IDENTIFIER "auth.client_key_path = \"/a\"\n", "",
     "auth.client_key_id = \"b\""},
    {"auth.client_auth", HTTP CLIENT, "", "auth.client_auth = \"client_secret_post\""},
    {"auth.resource", HTTP CLIENT, "", "auth.resource = \"https://a\""},
    {"tls", HTTPS, "", "tls = {}"},
    {"tls.verify_certs", HTTPS, "tls = {}", "tls.verify_certs = false"},
    {"tls.accept_invalid_hostnames", HTTPS, "tls = {}", "tls.accept_invalid_hostnames = true"},
    {"tls.ca_bundle", HTTPS, "tls = {}", "tls.ca_bundle = \"/a\""},
    {"tls.root_ca_cert_path", HTTPS, "tls.ca_bundle = \"/b\"", "tls.root_ca_cert_path = \"/a\""},
    {"tls.client_cert_path", HTTPS, "tls = { client_cert_path = \"/a\", client_key_path = \"/k\" }",
     "tls = { client_cert_path = \"/b\", client_key_path = \"/k\" }"},
    {"tls.client_key_path", HTTPS, "tls = { client_cert_path = \"/a\", client_key_path = \"/k\" }",
     "tls = { client_cert_path = \"/a\", client_key_path = \"/l\" }"},
    {"headers", HTTP, "", "headers = [{ rule = \"remove\", name = \"X-A\" }]"},
    {"headers.rule", HTTP, "headers = [{ rule = \"remove\", name = \"X-A\" }]",
     "headers = [{ rule = \"forward\", name = \"X-A\" }]"},
    {"headers.name", HTTP, "headers = [{ rule = \"remove\", name = \"X-A\" }]",
     "headers = [{ rule = \"remove\", name = \"X-B\" }]"},
    {"headers.value", HTTP, "headers = [{ rule = \"insert\", name = \"X-A\", value = \"1\" }]",
     "headers = [{ rule = \"insert\", name = \"X-A\", value = \"2\" }]"},
    {"headers.default", HTTP, "headers = [{ rule = \"forward\", name = \"X-A\", default = \"1\" }]",
     "headers = [{ rule = \"forward\", name = \"X-A\", default = \"2\" }]"},
    {"headers.rename", HTTP, "headers = [{ rule = \"forward\", name = \"X-A\", rename = \"X-B\" }]",
     "headers = [{ rule = \"forward\", name = \"X-A\", rename = \"X-C\" }]"},
    {"cmd", "", "[mcp.servers.a]\ncmd = [\"x\", \"1\"]", "[mcp.servers.a]\ncmd = [\"x\", \"2\"]"},
    {"env", CHILD, "env = { A = \"1\" }", "env = { A = \"2\" }"},
    {"inherit_env", CHILD, "", "inherit_env = [\"A\"]"},
    {"cwd", CHILD, "", "cwd = \"/\""},
    {"user", CHILD, "", "user = \"nobody\""},
    {"stderr", CHILD, "stderr = \"null\"", "stderr = \"pipe\""},
    {"stderr.file", CHILD, "stderr = { file = \"/a\" }", "stderr = { file = \"/b\" }"},
    {"share", CHILD, "", "share = \"session\""},
    {"max_instances", CHILD, "", "max_instances = 7"},
    {"idle_timeout", CHILD, "", "idle_timeout = \"7s\""},
    {"startup_timeout", CHILD, "", "startup_timeout = \"7s\""},
    {"shutdown_timeout", CHILD, "", "shutdown_timeout = \"7s\""},
    {"restart.initial", CHILD, "", "restart.initial = \"7s\""},
    {"restart.max", CHILD, "", "restart.max = \"7s\""},
    {"isolation", CHILD, "", "isolation = \"none\""},
    {"timeout", CHILD, "", "timeout = \"7s\""},
    {"max_timeout", CHILD, "", "max_timeout = \"29m\""},
    {"max_in_flight", CHILD, "", "max_in_flight = 7"},
    {"failure_threshold", CHILD, "", "failure_threshold = 7"},
    {"cooldown", CHILD, "", "cooldown = \"7s\""},
    {"max_message", CHILD, "", "max_message = \"7MiB\""},
    {"max_tools", CHILD, "", "max_tools = 7"},
    {"max_definition", CHILD, "", "max_definition = \"7KiB\""},
    {"scopes", SCOPES, "", "scopes = [\"s\"]"},
    {"tools", SCOPES, "", "tools.t.scopes = [\"s\"]"},
    {"tools.*.scopes", SCOPES, "tools.t.scopes = [\"s\"]", "tools.t.scopes = [\"s\", \"u\"]"},
    {"allow", GROUPS, "", "allow = []"},
    {"allow", GROUPS, "allow = [\"g\"]", "allow = [\"h\"]"},
    {"deny", GROUPS, "", "deny = [\"g\"]"},
    {"access", CHILD, "", "access = \"read\""},
    {"tools.*.allow", GROUPS, "tools.t = {}", "tools.t.allow = []"},
    {"tools.*.allow", GROUPS, "tools.t.allow = [\"g\"]", "tools.t.allow = [\"h\"]"},
    {"tools.*.deny", GROUPS, "tools.t = {}", "tools.t.deny = [\"g\"]"},
    {"tools.*.access", CHILD, "tools.t = {}", "tools.t.access = \"write\""},
    {"tools.*.arguments", CHILD, "tools.t = {}", ARGUMENT("x") "max = 1"},
    {"tools.*.arguments", CHILD, ARGUMENT("x") "max = 1", ARGUMENT("y") "max = 1"},
    {"tools.*.arguments.*.allow", CHILD, ARGUMENT("x") "max = 1",
     ARGUMENT("x") "max = 1\nallow = []"},
    {"tools.*.arguments.*.allow", CHILD, ARGUMENT("x") "allow = [1]",
     ARGUMENT("x") "allow = [\"1\"]"},
    {"tools.*.arguments.*.allow", CHILD, ARGUMENT("x") "allow = [1]",
     ARGUMENT("x") "allow = [1.5]"},
    {"tools.*.arguments.*.deny", CHILD, ARGUMENT("x") "max = 1",
     ARGUMENT("x") "max = 1\ndeny = [2]"},
    {"tools.*.arguments.*.pattern", CHILD, ARGUMENT("x") "pattern = 'a'",
     ARGUMENT("x") "pattern = 'b'"},
    {"tools.*.arguments.*.max", CHILD, ARGUMENT("x") "max = 1", ARGUMENT("x") "max = 1.5"},
    {"tools.*.arguments.*.max", CHILD, ARGUMENT("x") "deny = [1]",
     ARGUMENT("x") "deny = [1]\nmax = 0"},
    {"tools.*.arguments.*.optional", CHILD, ARGUMENT("x") "allow = [1]",
     ARGUMENT("x") "allow = [1]\noptional = true"},
    {"rate_limits.limit", RATES, PAIR("1", "1s"), PAIR("2", "1s")},
    {"rate_limits.interval", RATES, PAIR("1", "1s"), PAIR("1", "2s")},
    {"rate_limits.tools", RATES, "", ROW("tools.t", "1", "1s")},
    {"rate_limits.tools.*.limit", RATES, ROW("tools.t", "1", "1s"), ROW("tools.t", "2", "1s")},
    {"rate_limits.tools.*.interval", RATES, ROW("tools.t", "1", "1s"), ROW("tools.t", "1", "2s")},
    {"rate_limits.per_user.limit", RATES, ROW("per_user", "1", "1s"), ROW("per_user", "2", "1s")},
    {"rate_limits.per_user.interval", RATES, ROW("per_user", "1", "1s"),
     ROW("per_user", "1", "2s")},
    {"rate_limits.per_user.tools", RATES, "", ROW("per_user.tools.t", "1", "1s")},
    {"rate_limits.per_user.tools.*.limit", RATES, ROW("per_user.tools.t", "1", "1s"),
     ROW("per_user.tools.t", "2", "1s")},
    {"rate_limits.per_user.tools.*.interval", RATES, ROW("per_user.tools.t", "1", "1s"),
     ROW("per_user.tools.t", "1", "2s")},
    {"rate_limits.per_user.groups", RATES, ROW("per_user.groups.g", "1", "1s"),
     ROW("per_user.groups.h", "1", "1s")},
    {"rate_limits.per_user.groups.*.limit", RATES, ROW("per_user.groups.g", "1", "1s"),
     ROW("per_user.groups.g", "2", "1s")},
    {"rate_limits.per_user.groups.*.interval", RATES, ROW("per_user.groups.g", "1", "1s"),
     ROW("per_user.groups.g", "1", "2s")},
};

static bool is_permission_key(struct slice key) {
    static const struct slice keys[] = {SLICE_INIT("scopes"), SLICE_INIT("allow"),
                                        SLICE_INIT("deny"), SLICE_INIT("access")};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (slice_eq(key, keys[i]))
            return true;
    }
    return slice_starts_with(key, SLICE("tools")) || slice_starts_with(key, SLICE("rate_limits"));
}

static bool is_different(const struct server_sample *sample) {
    struct loaded a = load_lines(sample->head, sample->line);
    struct loaded b = load_lines(sample->head, sample->other);
    struct loaded again = load_lines(sample->head, sample->line);
    bool is_different = false;
    if (loads(&a, sample->key) && loads(&b, sample->key) && loads(&again, sample->key)) {
        is_different = !config_server_equal(&a.config->servers[0], &b.config->servers[0]);
        /* Who may call, and how often, is of the gateway: a server goes on when that changes. */
        bool is_permission = is_permission_key(slice_from_cstr(sample->key));
        CHECK(is_permission ==
              config_server_runs_alike(&a.config->servers[0], &b.config->servers[0]));
        /* Not because of where the strings are. */
        CHECK(config_server_equal(&a.config->servers[0], &again.config->servers[0]));
    }
    unload(&a);
    unload(&b);
    unload(&again);
    return is_different;
}

static void test_servers(void) {
    const struct option *row;
    for (size_t i = 0; (row = option_at(i)) != NULL; i++) {
        static const char prefix[] = "mcp.servers.*.";
        if (row->status != OPTION_BUILT || row->type == OPTION_TABLE ||
            !slice_starts_with(slice_from_cstr(row->path), slice_from_cstr(prefix)))
            continue;
        const char *key = row->path + sizeof prefix - 1;
        bool is_seen = strcmp(key, "enabled") == 0; /* a disabled one is not there at all */
        for (size_t k = 0; k < ARRAY_LEN(server_samples); k++) {
            if (strcmp(server_samples[k].key, key) != 0)
                continue;
            const struct server_sample *sample = &server_samples[k];
            is_seen = is_different(sample);
            CHECK(is_seen);
            bool is_told = tells(row->path, sample->head, sample->other) ||
                           tells(row->path, sample->head, sample->line);
            if (!is_told)
                printf("# %s is not told with its line\n", row->path);
            CHECK(is_told);
        }
        if (!is_seen)
            printf("# %s is not compared, or has no sample\n", row->path);
        CHECK(is_seen);
    }
    /* Whoever adds a member is led here: compare it in config_server_equal(). */
    CHECK_INT(sizeof(struct config_server), 728);
    CHECK_INT(sizeof(struct config_header_rule), 56);
    CHECK_INT(sizeof(struct config_tool), 96);
    CHECK_INT(sizeof(struct config_argument), 96);
    CHECK_INT(sizeof(struct config_rate_limits), 80);
    CHECK_INT(sizeof(struct config_named_limit), 32);
    CHECK_INT(sizeof(struct config_value), 32);
}

static void test_lines_and_names(void) {
    struct loaded a = load_lines("", CHILD), b = load_lines("# a comment\n\n", CHILD);
    struct loaded c = load_lines("", "[mcp.servers.b]\ncmd = [\"x\"]");
    if (loads(&a, "a") && loads(&b, "b") && loads(&c, "c")) {
        CHECK(a.config->servers[0].line != b.config->servers[0].line);
        CHECK(config_server_equal(&a.config->servers[0], &b.config->servers[0]));
        CHECK(!config_server_equal(&a.config->servers[0], &c.config->servers[0]));
    }
    unload(&a);
    unload(&b);
    unload(&c);
}

/* All other keys. */

#define STORAGE "[server.rate_limits.storage]\n"

#define TOKEN_HASH(digit)                                                                          \
    "hash = \"sha256:" digit "000000000000000000000000000000000000000000000000000000000000000\"\n"
#define TOKEN    "[server.auth.tokens.t]\n" TOKEN_HASH("1")
#define RESOURCE "protected_resource.resource = \"https://gw.example/mcp\"\n"
#define OAUTH    "[server.oauth]\n" RESOURCE "url = \"https://a.example/jwks\"\n"
#define ISSUER                                                                                     \
    "[server.oauth]\n" RESOURCE "[[server.oauth.issuers]]\nissuer = \"https://a.example\"\n"
#define TLS        "[server.tls]\nauto = true\n"
#define IDENTIFIED "[server.client_identification]\nenabled = true\nclient_id.jwt_claim = \"sub\"\n"
#define PROXIES    "[server]\ntrusted_proxies = [\"192.0.2.7\"]\n"

static const struct sample {
    const char *key;      /* of the row */
    const char *reported; /* NULL: that key */
    bool needs_restart;
    const char *head, *line, *other;
} samples[] = {
    {"server.listen_address", NULL, true, "[server]\n", "", "listen_address = \"127.0.0.1:9\""},
    {"server.workers", NULL, true, "[server]\n", "", "workers = 7"},
    {"server.hosts", NULL, false, "[server]\n", "", "hosts = [\"a.example\"]"},
    {"server.shutdown_timeout", NULL, false, "[server]\n", "", "shutdown_timeout = \"7s\""},
    {"server.max_request_body", NULL, false, "[server]\n", "", "max_request_body = \"7KiB\""},
    {"server.max_held", NULL, true, "[server]\n", "", "max_held = \"70MiB\""},
    {"server.instance", NULL, true, "[server]\n", "", "instance = \"b\""},
    {"server.max_sessions", NULL, false, "[server]\n", "", "max_sessions = 7"},
    {"server.session_idle_timeout", NULL, false, "[server]\n", "", "session_idle_timeout = \"7s\""},
    {"server.session_lifetime", NULL, false, "[server]\n", "", "session_lifetime = \"7s\""},
    {"server.resume_buffer", NULL, false, "[server]\n", "", "resume_buffer = \"70KiB\""},
    {"server.trusted_proxies", NULL, false, "[server]\n", "", "trusted_proxies = [\"192.0.2.7\"]"},
    {"server.limits.max_connections", NULL, true, "[server.limits]\n", "", "max_connections = 77"},
    {"server.limits.max_connections_per_address", NULL, true, "[server.limits]\n", "",
     "max_connections_per_address = 77"},
    {"server.limits.max_header", NULL, false, "[server.limits]\n", "", "max_header = \"7KiB\""},
    {"server.limits.header_timeout", NULL, false, "[server.limits]\n", "",
     "header_timeout = \"7s\""},
    {"server.limits.body_timeout", NULL, false, "[server.limits]\n", "", "body_timeout = \"7s\""},
    {"server.limits.write_timeout", NULL, false, "[server.limits]\n", "", "write_timeout = \"7s\""},
    {"server.limits.idle_timeout", NULL, false, "[server.limits]\n", "", "idle_timeout = \"7s\""},
    {"server.limits.max_in_flight", NULL, true, "[server.limits]\n", "", "max_in_flight = 7"},
    {"server.limits.max_wait", NULL, false, "[server.limits]\n", "", "max_wait = \"7s\""},
    {"server.limits.keepalive", NULL, false, "[server.limits]\n", "", "keepalive = \"7s\""},
    {"server.limits.max_json_depth", NULL, false, "[server.limits]\n", "", "max_json_depth = 20"},
    {"server.limits.max_json_keys", NULL, false, "[server.limits]\n", "", "max_json_keys = 777"},
    {"audit.enabled", NULL, true, "[audit]\n", "", "enabled = false"},
    {"audit.mode", NULL, true, "[audit]\n", "", "mode = \"required\""},
    {"audit.max_bytes", NULL, false, "[audit]\n", "", "max_bytes = \"77MiB\""},
    {"audit.max_age", NULL, false, "[audit]\n", "", "max_age = \"7d\""},
    {"audit.max_arguments", NULL, false, "[audit]\n", "", "max_arguments = 77"},
    {"audit.redact.paths", NULL, false, "[audit.redact]\n", "", "paths = [\"ssn\"]"},
    {"audit.redact.patterns", NULL, false, "[audit.redact]\n", "", "patterns = [\"a+\"]"},
    {"audit.redact.shapes", NULL, false, "[audit.redact]\n", "", "shapes = false"},
    {"audit.jsonl.path", NULL, true, "[audit.jsonl]\n", "", "path = \"/a\""},
    {"audit.jsonl.max_bytes", NULL, true, "[audit.jsonl]\n", "", "max_bytes = \"7MiB\""},
    {"audit.jsonl.files", NULL, true, "[audit.jsonl]\n", "", "files = 7"},
    {"audit.syslog.url", NULL, true, "[audit.syslog]\n", "", "url = \"udp://192.0.2.1:514\""},
    {"audit.syslog.ca_bundle", NULL, true, "[audit.syslog]\n", "", "ca_bundle = \"/a\""},
    {"audit.syslog.facility", NULL, true, "[audit.syslog]\n", "", "facility = \"local7\""},
    {"store.url", NULL, true, "[store]\n", "", "url = \"postgres://db/cardea\""},
    {"admin.enabled", NULL, true, "[admin]\n", "", "enabled = false"},
    {"admin.listen", NULL, true, "[admin]\n", "", "listen = \"127.0.0.1:9\""},
    {"admin.hosts", NULL, false, "[admin]\n", "", "hosts = [\"gw.example\"]"},
    {"admin.trusted_proxies", NULL, false, "[admin]\n", "", "trusted_proxies = [\"192.0.2.1\"]"},
    {"admin.session_idle", NULL, true, "[admin]\n", "", "session_idle = \"7m\""},
    {"admin.allow_commands", NULL, false, "[admin]\n", "", "allow_commands = true"},
    {"admin.session_max", NULL, true, "[admin]\n", "", "session_max = \"7h\""},
    {"server.health.enabled", NULL, false, "[server.health]\n", "", "enabled = false"},
    {"server.health.path", NULL, false, "[server.health]\n", "", "path = \"/up\""},
    {"server.health.listen", NULL, true, "[server.health]\n", "", "listen = \"127.0.0.1:9\""},
    {"server.plaintext", NULL, true, PROXIES, "", "plaintext = true"},
    {"server.proxy_protocol", NULL, true, PROXIES, "", "proxy_protocol = true"},
    {"server.tls", NULL, true, "", "", TLS},
    {"server.tls.certificate", NULL, false, "[server.tls]\nkey = \"/k\"\n", "certificate = \"/a\"",
     "certificate = \"/b\""},
    {"server.tls.key", NULL, false, "[server.tls]\ncertificate = \"/c\"\n", "key = \"/a\"",
     "key = \"/b\""},
    {"server.tls.auto", NULL, false, "[server.tls]\n", "auto = true",
     "certificate = \"/c\"\nkey = \"/k\""},
    {"server.tls.names", NULL, false, TLS, "", "names = [\"a.example\"]"},
    {"server.tls.client_ca", NULL, false, TLS, "", "client_ca = \"/a\""},
    {"server.tls.client_identity", NULL, false, TLS "client_ca = \"/a\"\n", "",
     "client_identity = \"common_name\""},
    {"server.tls.require_client_certificate", NULL, false, TLS "client_ca = \"/a\"\n", "",
     "require_client_certificate = true"},
    {"server.tls.min_version", NULL, false, TLS, "", "min_version = \"1.3\""},
    {"server.tls.hsts", NULL, false, TLS, "", "hsts = \"7h\""},
    {"server.auth.anonymous", NULL, false, "[server.auth]\n", "", "anonymous = true"},
    {"server.auth.none", NULL, false, "[server.auth]\n", "", "none = \"I know\""},
    {"server.auth.tokens", NULL, false, "", "", TOKEN},
    {"server.auth.tokens.*.hash", "server.auth.tokens", false, "[server.auth.tokens.t]\n",
     TOKEN_HASH("1"), TOKEN_HASH("2")},
    {"server.auth.tokens.*.groups", "server.auth.tokens", false, TOKEN, "", "groups = [\"g\"]"},
    {"server.auth.tokens.*.servers", "server.auth.tokens", false, CHILD TOKEN, "",
     "servers = [\"a\"]"},
    {"server.auth.tokens.*.scopes", "server.auth.tokens", false, TOKEN, "", "scopes = [\"s\"]"},
    {"server.auth.tokens.*.expires", "server.auth.tokens", false, TOKEN, "",
     "expires = \"2999-01-31\""},
    {"server.oauth", NULL, false, "", "", OAUTH},
    {"server.oauth.url", "server.oauth", false, "", OAUTH,
     "[server.oauth]\n" RESOURCE "url = \"https://b.example/jwks\"\n"},
    {"server.oauth.issuer", "server.oauth", false, OAUTH, "", "issuer = \"https://i.example\""},
    {"server.oauth.poll_interval", "server.oauth", false, OAUTH, "", "poll_interval = \"7s\""},
    {"server.oauth.expected_issuer", "server.oauth", false, OAUTH, "",
     "expected_issuer = \"https://i.example\""},
    {"server.oauth.expected_audience", "server.oauth", false, OAUTH, "",
     "expected_audience = \"x\""},
    {"server.oauth.secret", "server.oauth", false,
     "[server.oauth]\n" RESOURCE "expected_issuer = \"https://i.example\"\n",
     "secret = \"0123456789abcdef0123456789abcdef\"",
     "secret = \"1123456789abcdef0123456789abcdef\""},
    {"server.oauth.algorithms", "server.oauth", false, OAUTH, "", "algorithms = [\"ES256\"]"},
    {"server.oauth.token_type", "server.oauth", false, OAUTH, "", "token_type = \"at+jwt\""},
    {"server.oauth.leeway", "server.oauth", false, OAUTH, "", "leeway = \"7s\""},
    {"server.oauth.scopes", "server.oauth", false, OAUTH, "", "scopes = [\"s\"]"},
    {"server.oauth.protected_resource.resource", "server.oauth", false,
     "[server.oauth]\nurl = \"https://a.example/jwks\"\n", RESOURCE,
     "protected_resource.resource = \"https://other.example/mcp\""},
    {"server.oauth.protected_resource.authorization_servers", "server.oauth", false, OAUTH, "",
     "protected_resource.authorization_servers = [\"https://as.example\"]"},
    {"server.oauth.issuers", "server.oauth", false, ISSUER, "",
     "[[server.oauth.issuers]]\nissuer = \"https://b.example\""},
    {"server.oauth.issuers.url", "server.oauth", false, ISSUER, "",
     "url = \"https://a.example/keys\""},
    {"server.oauth.issuers.issuer", "server.oauth", false,
     "[server.oauth]\n" RESOURCE "[[server.oauth.issuers]]\n", "issuer = \"https://b.example\"",
     "issuer = \"https://c.example\""},
    {"server.oauth.issuers.poll_interval", "server.oauth", false, ISSUER, "",
     "poll_interval = \"7s\""},
    {"server.oauth.issuers.expected_issuer", "server.oauth", false, ISSUER, "",
     "expected_issuer = \"https://i.example\""},
    {"server.oauth.issuers.expected_audience", "server.oauth", false, ISSUER, "",
     "expected_audience = \"y\""},
    {"server.oauth.issuers.secret", "server.oauth", false,
     "[server.oauth]\n" RESOURCE
     "[[server.oauth.issuers]]\nexpected_issuer = \"https://i.example\"\n",
     "secret = \"0123456789abcdef0123456789abcdef\"",
     "secret = \"1123456789abcdef0123456789abcdef\""},
    {"server.oauth.issuers.algorithms", "server.oauth", false, ISSUER, "",
     "algorithms = [\"ES256\"]"},
    {"server.oauth.issuers.token_type", "server.oauth", false, ISSUER, "",
     "token_type = \"at+jwt\""},
    {"server.oauth.issuers.leeway", "server.oauth", false, ISSUER, "", "leeway = \"7s\""},
    {"server.client_identification.enabled", NULL, false,
     "[server.client_identification]\nclient_id.jwt_claim = \"sub\"\n", "", "enabled = true"},
    {"server.client_identification.client_id.jwt_claim", NULL, false,
     "[server.client_identification]\nenabled = true\n", "client_id.jwt_claim = \"a\"",
     "client_id.jwt_claim = \"b\""},
    {"server.client_identification.client_id.http_header", NULL, false,
     PROXIES "[server.client_identification]\nenabled = "
             "true\n",
     "client_id.http_header = \"X-A\"", "client_id.http_header = \"X-B\""},
    {"server.client_identification.group_id.jwt_claim", NULL, false, IDENTIFIED,
     "group_id.jwt_claim = \"a\"", "group_id.jwt_claim = \"b\""},
    {"server.client_identification.group_id.http_header", NULL, false, PROXIES IDENTIFIED,
     "group_id.http_header = \"X-A\"", "group_id.http_header = \"X-B\""},
    {"server.client_identification.validation.group_values", NULL, false,
     IDENTIFIED "group_id.jwt_claim = \"a\"\n", "", "validation.group_values = [\"g\"]"},
    {"server.client_ip.x_real_ip", NULL, false, PROXIES "[server.client_ip]\n", "",
     "x_real_ip = true"},
    {"server.client_ip.x_forwarded_for", NULL, false, PROXIES "[server.client_ip]\n", "",
     "x_forwarded_for = true"},
    {"server.client_ip.x_forwarded_for_trusted_hops", NULL, false, PROXIES "[server.client_ip]\n",
     "x_forwarded_for_trusted_hops = 1", "x_forwarded_for_trusted_hops = 2"},
    {"server.cors", NULL, false, "", "", "[server.cors]"},
    {"server.cors.allow_credentials", NULL, false,
     "[server.cors]\nallow_origins = [\"https://a.example\"]\n", "", "allow_credentials = true"},
    {"server.cors.allow_origins", NULL, false, "[server.cors]\n", "",
     "allow_origins = [\"https://a.example\"]"},
    {"server.cors.allow_methods", NULL, false, "[server.cors]\n", "", "allow_methods = [\"POST\"]"},
    {"server.cors.allow_headers", NULL, false, "[server.cors]\n", "", "allow_headers = [\"X-A\"]"},
    {"server.cors.expose_headers", NULL, false, "[server.cors]\n", "",
     "expose_headers = [\"X-A\"]"},
    {"server.cors.max_age", NULL, false, "[server.cors]\n", "", "max_age = \"7s\""},
    {"server.cors.allow_private_network", NULL, false, "[server.cors]\n", "",
     "allow_private_network = true"},
    {"server.csrf.enabled", NULL, false, "[server.csrf]\n", "", "enabled = true"},
    {"server.csrf.header_name", NULL, false, "[server.csrf]\n", "", "header_name = \"X-A\""},
    {"mcp.enabled", NULL, false, "[mcp]\n", "", "enabled = false"},
    {"mcp.path", NULL, false, "[mcp]\n", "", "path = \"/m\""},
    {"mcp.list_timeout", NULL, false, "[mcp]\n", "", "list_timeout = \"7s\""},
    {"mcp.downstream_cache.max_size", NULL, false, "[mcp.downstream_cache]\n", "", "max_size = 7"},
    {"mcp.downstream_cache.idle_timeout", NULL, false, "[mcp.downstream_cache]\n", "",
     "idle_timeout = \"7s\""},
    {"security.allow_networks", NULL, false, "[security]\n", "",
     "allow_networks = [\"10.0.0.0/8\"]"},
    {"security.allow_networks", NULL, false, "[security]\n", "allow_networks = [\"10.0.0.0/9\"]",
     "allow_networks = [\"10.0.0.0/8\"]"},
    {"mcp.headers", NULL, false, "[mcp]\n", "",
     "headers = [{ rule = \"remove\", name = \"X-A\" }]"},
    {"mcp.headers.rule", "mcp.headers", false, "[mcp]\n",
     "headers = [{ rule = \"remove\", name = \"X-A\" }]",
     "headers = [{ rule = \"forward\", name = \"X-A\" }]"},
    {"mcp.headers.name", "mcp.headers", false, "[mcp]\n",
     "headers = [{ rule = \"remove\", name = \"X-A\" }]",
     "headers = [{ rule = \"remove\", name = \"X-B\" }]"},
    {"mcp.headers.value", "mcp.headers", false, "[mcp]\n",
     "headers = [{ rule = \"insert\", name = \"X-A\", value = \"1\" }]",
     "headers = [{ rule = \"insert\", name = \"X-A\", value = \"2\" }]"},
    {"mcp.headers.default", "mcp.headers", false, "[mcp]\n",
     "headers = [{ rule = \"forward\", name = \"X-A\", default = \"1\" }]",
     "headers = [{ rule = \"forward\", name = \"X-A\", default = \"2\" }]"},
    {"mcp.headers.rename", "mcp.headers", false, "[mcp]\n",
     "headers = [{ rule = \"forward\", name = \"X-A\", rename = \"X-B\" }]",
     "headers = [{ rule = \"forward\", name = \"X-A\", rename = \"X-C\" }]"},
    {"server.rate_limits.enabled", NULL, false, "[server.rate_limits]\n", "", "enabled = false"},
    {"server.rate_limits.global.limit", NULL, false, "[server.rate_limits.global]\n",
     PAIR("1", "1s"), PAIR("2", "1s")},
    {"server.rate_limits.global.interval", NULL, false, "[server.rate_limits.global]\n",
     PAIR("1", "1s"), PAIR("1", "2s")},
    {"server.rate_limits.per_ip.limit", NULL, false, "[server.rate_limits.per_ip]\n",
     PAIR("1", "1s"), PAIR("2", "1s")},
    {"server.rate_limits.per_ip.interval", NULL, false, "[server.rate_limits.per_ip]\n",
     PAIR("1", "1s"), PAIR("1", "2s")},
    {"server.rate_limits.storage.type", NULL, false, STORAGE "url = \"redis://a\"\n",
     "type = \"redis\"", "type = \"memory\""},
    {"server.rate_limits.storage.url", NULL, false, STORAGE "type = \"redis\"\n",
     "url = \"redis://a\"", "url = \"redis://b\""},
    {"server.rate_limits.storage.key_prefix", NULL, false, STORAGE, "", "key_prefix = \"x\""},
    {"server.rate_limits.storage.on_failure", NULL, false, STORAGE, "", "on_failure = \"deny\""},
    {"server.rate_limits.storage.response_timeout", NULL, false, STORAGE, "",
     "response_timeout = \"7s\""},
    {"server.rate_limits.storage.connection_timeout", NULL, false, STORAGE, "",
     "connection_timeout = \"7s\""},
    {"server.rate_limits.storage.pool.max_size", NULL, false, STORAGE, "", "pool.max_size = 7"},
    {"server.rate_limits.storage.pool.min_idle", NULL, false, STORAGE, "", "pool.min_idle = 7"},
    {"server.rate_limits.storage.pool.timeout_create", NULL, false, STORAGE, "",
     "pool.timeout_create = \"7s\""},
    {"server.rate_limits.storage.pool.timeout_wait", NULL, false, STORAGE, "",
     "pool.timeout_wait = \"7s\""},
    {"server.rate_limits.storage.pool.timeout_recycle", NULL, false, STORAGE, "",
     "pool.timeout_recycle = \"7s\""},
    {"server.rate_limits.storage.tls.enabled", NULL, false, STORAGE, "", "tls.enabled = true"},
    {"server.rate_limits.storage.tls.insecure", NULL, false, STORAGE, "", "tls.insecure = true"},
    {"server.rate_limits.storage.tls.ca_cert_path", NULL, false, STORAGE, "",
     "tls.ca_cert_path = \"/a\""},
    {"server.rate_limits.storage.tls.client_cert_path", NULL, false,
     STORAGE "tls.client_key_path = \"/k\"\n", "tls.client_cert_path = \"/a\"",
     "tls.client_cert_path = \"/b\""},
    {"server.rate_limits.storage.tls.client_key_path", NULL, false,
     STORAGE "tls.client_cert_path = \"/c\"\n", "tls.client_key_path = \"/a\"",
     "tls.client_key_path = \"/b\""},
    {"security.edit_mode", NULL, false, "[security]\n", "", "edit_mode = true"},
    {"security.trust_annotations", NULL, false, "[security]\n", "", "trust_annotations = true"},
    {"security.hide_denied", NULL, false, "[security]\n", "", "hide_denied = false"},
    {"security.whitelist", NULL, false, CHILD "[security]\n", "", "whitelist = [\"a__t\"]"},
};

struct seen {
    const char *wanted;
    size_t n, n_wanted;
    bool needs_restart;
};

static void see(void *context, const char *key, bool needs_restart) {
    struct seen *seen = context;
    seen->n++;
    if (strcmp(key, seen->wanted) != 0)
        return;
    seen->n_wanted++;
    seen->needs_restart = needs_restart;
}

static void count(void *context, const char *key, bool needs_restart) {
    size_t *n_restart = context;
    (void)key;
    *n_restart += needs_restart ? 1 : 0;
}

static bool is_reported(const struct sample *sample) {
    struct loaded a = load_lines(sample->head, sample->line);
    struct loaded b = load_lines(sample->head, sample->other);
    struct seen seen = {.wanted = sample->reported != NULL ? sample->reported : sample->key};
    struct seen nothing = {.wanted = ""};
    bool is_fine = false;
    if (loads(&a, sample->key) && loads(&b, sample->key)) {
        config_compare(a.config, a.config, see, &nothing);
        config_compare(a.config, b.config, see, &seen);
        is_fine =
            nothing.n == 0 && seen.n_wanted == 1 && seen.needs_restart == sample->needs_restart;
        /* What needs a restart is put back. */
        size_t n_restart = 0;
        CHECK_INT(config_keep(b.config, a.config), 0);
        config_compare(a.config, b.config, count, &n_restart);
        CHECK_INT(n_restart, 0);
    }
    unload(&a);
    unload(&b);
    return is_fine;
}

static void test_keys(void) {
    const struct option *row;
    for (size_t i = 0; (row = option_at(i)) != NULL; i++) {
        if (row->status != OPTION_BUILT || row->owner == OPTION_OF_NOTHING ||
            slice_starts_with(slice_from_cstr(row->path), SLICE("mcp.servers")))
            continue;
        bool is_seen = false;
        for (size_t k = 0; k < ARRAY_LEN(samples); k++) {
            if (strcmp(samples[k].key, row->path) != 0)
                continue;
            is_seen = is_reported(&samples[k]);
            bool is_told = tells(row->path, samples[k].head, samples[k].other) ||
                           tells(row->path, samples[k].head, samples[k].line);
            if (!is_told)
                printf("# %s is not told with its line\n", row->path);
            CHECK(is_told);
        }
        if (!is_seen)
            printf("# %s is not compared, or has no sample\n", row->path);
        CHECK(is_seen);
    }
    /* Whoever adds a member is led to compare.c. */
    CHECK_INT(sizeof(struct config_issuer), 120);
    CHECK_INT(sizeof(struct config_token), 120);
}

/* The old configuration may go before the new one: nothing points into it. */
static void test_kept_strings(void) {
    struct loaded a = load_lines("[server]\nlisten_address = \"127.0.0.1:7\"\nworkers = 3\n",
                                 TLS "names = [\"a.example\"]\nclient_ca = \"/ca\"\n");
    struct loaded b = load_lines("", "");
    if (loads(&a, "a") && loads(&b, "b")) {
        CHECK_INT(config_keep(b.config, a.config), 0);
        unload(&a);
        CHECK_SLICE(b.config->listen_address, SLICE("127.0.0.1:7"));
        CHECK_INT(b.config->workers, 3);
        CHECK(b.config->tls.is_auto);
        CHECK_INT(b.config->tls.n_names, 1);
        CHECK_SLICE(b.config->tls.names[0], SLICE("a.example"));
        CHECK_SLICE(b.config->tls.client_ca, SLICE("/ca"));
    }
    unload(&b);
}

static void test_references(void) {
    struct loaded a = load_lines("", CHILD);
    if (!loads(&a, "a"))
        return;
    struct config *config = config_ref(a.config);
    unload(&a);
    CHECK_SLICE(config->servers[0].name, SLICE("a"));
    CHECK(config_unref(config) == NULL);
    CHECK(config_unref(NULL) == NULL);
}

TEST_MAIN(TEST(test_servers), TEST(test_lines_and_names), TEST(test_keys), TEST(test_kept_strings),
          TEST(test_references))
