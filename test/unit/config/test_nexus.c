/*
 * A file of Nexus: each of its keys with what becomes of it (docs/NEXUS.md), each example of the
 * text that this project started from, and the files that we ship.
 */
#include <errno.h>

#include "loaded.h"

#define ONE "[mcp.servers.a]\ncmd = [\"x\"]\n"

#define RESOURCE                                                                                   \
    "[server.oauth.protected_resource]\nresource = 'https://c'\n"                                  \
    "authorization_servers = ['https://d']"

enum verdict { FINE, WARNS, REFUSES };

/* The key alone, beside a server that is complete. One problem at most, and it names the key. */
static const struct {
    const char *toml;
    enum verdict verdict;
    const char *named;
} keys[] = {
    /* [server] */
    {"server.listen_address = '127.0.0.1:8000'", FINE, NULL},
    {"server.listen_address = '0.0.0.0:8000'", FINE, NULL},
    {"[server.tls]\ncertificate = 'c'\nkey = 'k'", FINE, NULL},
    {"server.tls.certificate = 'c'", REFUSES, "server.tls.certificate"},
    {"server.tls.key = 'c'", REFUSES, "server.tls.key"},
    {"server.health.enabled = false", FINE, NULL},
    {"server.health.path = '/up'", FINE, NULL},
    {"server.health.listen = '127.0.0.1:9000'", FINE, NULL},
    {"server.cors.allow_credentials = true", FINE, NULL},
    {"server.cors.allow_origins = '*'", FINE, NULL},
    {"server.cors.allow_origins = 'https://a/b'", FINE, NULL},
    {"server.cors.allow_origins = ['https://a']", FINE, NULL},
    {"server.cors.allow_origins = ['https://*.example.com']", FINE, NULL},
    {"server.cors.allow_methods = '*'", FINE, NULL},
    {"server.cors.allow_methods = 'GET'", FINE, NULL},
    {"server.cors.allow_methods = ['GET', 'POST', 'PUT', 'DELETE', 'HEAD', 'OPTIONS', 'CONNECT', "
     "'PATCH', 'TRACE']",
     FINE, NULL},
    {"server.cors.allow_headers = '*'", FINE, NULL},
    {"server.cors.allow_headers = ['X-A', 'x-b']", FINE, NULL},
    {"server.cors.expose_headers = '*'", FINE, NULL},
    {"server.cors.max_age = '60s'", FINE, NULL},
    {"server.cors.allow_private_network = true", FINE, NULL},
    {"server.csrf.enabled = true", FINE, NULL},
    {"server.csrf.enabled = false", FINE, NULL},
    {"server.csrf.enabled = 'false'", REFUSES, "server.csrf.enabled"},
    {"server.csrf = { enabled = false, header_name = 'X' }", FINE, NULL},
    {"server.csrf.header_name = 'X'", WARNS, "server.csrf"},
    {"[server.oauth]\nurl = 'https://a'\nexpected_issuer = 'a'\n" RESOURCE, FINE, NULL},
    {"[server.oauth]\nurl = 'https://a'\n" RESOURCE, WARNS, "server.oauth.url"},
    {"[server.oauth]\n" RESOURCE, REFUSES, "server.oauth"},
    {"[server.oauth]\nurl = 'https://a'\nexpected_issuer = 'a'", REFUSES, "server.oauth"},
    {"server.oauth = false", REFUSES, "server.oauth"},
    {"[server.oauth]\nurl = 'https://a'\npoll_interval = '5m'\nexpected_issuer = 'a'\n"
     "expected_audience = 'b'\n" RESOURCE,
     FINE, NULL},
    {"[server.oauth]\nurl = 'http://a'\nexpected_issuer = 'a'\n" RESOURCE, REFUSES,
     "server.oauth.url"},
    {"server.client_identification.enabled = true", FINE, NULL},
    {"server.client_identification = { enabled = true, client_id.jwt_claim = 'sub' }", WARNS,
     "server.client_identification.client_id.jwt_claim"},
    {"server.client_identification = { enabled = true, client_id.http_header = 'X' }", WARNS,
     "server.client_identification.client_id.http_header"},
    {"server.client_identification.group_id.jwt_claim = 'plan'", WARNS,
     "server.client_identification"},
    {"[server.client_identification]\nenabled = false\nclient_id.jwt_claim = 'sub'\n"
     "client_id.http_header = 'X'\ngroup_id.jwt_claim = 'plan'\ngroup_id.http_header = 'Y'\n"
     "validation.group_values = ['a']",
     FINE, NULL},
    {"server.client_ip.x_real_ip = true", WARNS, "server.client_ip.x_real_ip"},
    {"admin.trusted_proxies = ['192.0.2.1']", WARNS, "admin.trusted_proxies"},
    {"server.client_ip.x_forwarded_for_trusted_hops = 1", WARNS,
     "server.client_ip.x_forwarded_for_trusted_hops"},
    {"server.rate_limits.enabled = true", FINE, NULL},
    {"server.rate_limits.global = { limit = 1, interval = '1s' }", FINE, NULL},
    {"server.rate_limits.global.limit = 1", REFUSES, "server.rate_limits.global.limit"},
    {"server.rate_limits.per_ip = { limit = 0, interval = '1s' }", WARNS,
     "server.rate_limits.per_ip.limit"},
    {"server.rate_limits.storage = { type = 'redis', url = 'redis://a', tls.insecure = true, "
     "tls.enabled = true }",
     WARNS, "server.rate_limits.storage.tls.insecure"},
    {"[server.rate_limits]\nenabled = false\nglobal = { limit = 1, interval = '1s' }\n"
     "per_ip = { limit = 1, interval = '1s' }\n[server.rate_limits.storage]\ntype = 'redis'\n"
     "url = 'redis://a'\nkey_prefix = 'p'\nresponse_timeout = '1s'\nconnection_timeout = '1s'\n"
     "pool = { max_size = 1, min_idle = 0, timeout_create = '1s', timeout_wait = '1s', "
     "timeout_recycle = '1s' }\n"
     "tls = { enabled = true, insecure = false, ca_cert_path = 'a', client_cert_path = 'b', "
     "client_key_path = 'c' }",
     FINE, NULL},
    /* [mcp] */
    {"mcp.enabled = true", FINE, NULL},
    {"mcp.path = '/mcp'", FINE, NULL},
    {"mcp.enable_structured_content = false", WARNS, "mcp.enable_structured_content"},
    {"[[mcp.headers]]\nrule = 'insert'\nname = 'X'\nvalue = 'y'", FINE, NULL},
    {"mcp.downstream_cache.max_size = 1000", FINE, NULL},
    {"mcp.downstream_cache.idle_timeout = '10m'", FINE, NULL},
    /* [mcp.servers.X] */
    {"mcp.servers.b = { cmd = ['x'], env = { A = '1' }, cwd = '/tmp' }", FINE, NULL},
    {"mcp.servers.b = { cmd = ['x'], stderr = 'null' }", FINE, NULL},
    {"mcp.servers.b = { cmd = ['x'], stderr = 'inherit' }", FINE, NULL},
    {"mcp.servers.b = { cmd = ['x'], stderr = 'pipe' }", FINE, NULL},
    {"mcp.servers.b = { cmd = ['x'], stderr = { file = '/tmp/l' } }", FINE, NULL},
    {"mcp.servers.b = { cmd = [] }", REFUSES, "mcp.servers.b.cmd"},
    {"mcp.servers.b.url = 'https://a'", FINE, NULL},
    {"mcp.servers.b.url = 'http://127.0.0.1:9000/mcp'", FINE, NULL},
    {"mcp.servers.b = { url = 'https://a', protocol = 'streamable-http' }", FINE, NULL},
    {"mcp.servers.b = { url = 'https://a', protocol = 'sse' }", FINE, NULL},
    {"mcp.servers.b = { url = 'https://a', message_url = 'https://a/m' }", FINE, NULL},
    {"mcp.servers.b = { url = 'https://a', protocol = 'streamable-http', message_url = "
     "'https://a/m' }",
     REFUSES, "mcp.servers.b.message_url"},
    {"mcp.servers.b = { url = 'https://a', tls = { verify_certs = true, "
     "accept_invalid_hostnames = false, root_ca_cert_path = 'r', client_cert_path = 'c', "
     "client_key_path = 'k' } }",
     FINE, NULL},
    {"mcp.servers.b = { url = 'https://a', tls.verify_certs = false }", WARNS,
     "mcp.servers.b.tls.verify_certs"},
    {"mcp.servers.b = { url = 'https://a', tls.accept_invalid_hostnames = true }", WARNS,
     "mcp.servers.b.tls.accept_invalid_hostnames"},
    {"mcp.servers.b = { url = 'https://a', auth.type = 'forward' }\n[server.oauth]\n"
     "url = 'https://a'\nexpected_issuer = 'a'\n" RESOURCE,
     WARNS, "mcp.servers.b.auth.type"},
    {"mcp.servers.b = { url = 'https://a', auth.token = 't' }", FINE, NULL},
    {"mcp.servers.b = { url = 'http://a', auth.token = 't' }", WARNS, "mcp.servers.b.auth.token"},
    {"[mcp.servers.b]\nurl = 'https://a'\n[[mcp.servers.b.headers]]\nrule = 'insert'\n"
     "name = 'X'\nvalue = 'y'",
     FINE, NULL},
    {"mcp.servers.b = { url = 'https://a', rate_limits = { limit = 1, interval = '1s' } }", FINE,
     NULL},
    {"mcp.servers.b = { url = 'https://a', rate_limits.limit = 1 }", REFUSES,
     "mcp.servers.b.rate_limits.limit"},
    {"mcp.servers.b = { url = 'https://a', allow = [] }", FINE, NULL},
    {"mcp.servers.b = { url = 'https://a', deny = ['g'] }", WARNS, "mcp.servers.b.deny"},
    {"mcp.servers.b = { url = 'https://a', tools.t.allow = ['g'] }", WARNS,
     "mcp.servers.b.tools.t.allow"},
    {"mcp.servers.b = { url = 'https://a', cwd = '/' }", REFUSES, "mcp.servers.b.cwd"},
    {"mcp.servers.b = { cmd = ['x'], protocol = 'sse' }", REFUSES, "mcp.servers.b.protocol"},
    {"mcp.servers.b = { cmd = ['x'], message_url = 'x' }", REFUSES, "mcp.servers.b.message_url"},
    {"mcp.servers.b = { cmd = ['x'], tls.verify_certs = true }", REFUSES, "mcp.servers.b.tls"},
    {"mcp.servers.b = { cmd = ['x'], auth.token = 't' }", REFUSES, "mcp.servers.b.auth"},
    {"mcp.servers.b = { cmd = ['x'], headers = [] }", REFUSES, "mcp.servers.b.headers"},
    {"mcp.servers.b = { cmd = ['x'], rate_limits = { limit = 1, interval = '1s' } }", FINE, NULL},
    {"mcp.servers.b = { cmd = ['x'], rate_limits.tools.t = { limit = 1, interval = '1s' } }", FINE,
     NULL},
    {"mcp.servers.b = { cmd = ['x'], allow = ['g'] }", WARNS, "mcp.servers.b.allow"},
    {"mcp.servers.b = { cmd = ['x'], allow = [] }", FINE, NULL},
    {"mcp.servers.b = { cmd = ['x'], deny = ['g'] }", WARNS, "mcp.servers.b.deny"},
    {"mcp.servers.b = { cmd = ['x'], tools.t.allow = ['g'] }", WARNS,
     "mcp.servers.b.tools.t.allow"},
    {"mcp.servers.b = { cmd = ['x'], tools.t.deny = ['g'] }", WARNS, "mcp.servers.b.tools.t.deny"},
    {"mcp.servers.b = { enabled = false, url = 'https://a', protocol = 'sse', message_url = "
     "'m',"
     " headers = [], tls = { verify_certs = true, ca_bundle = 'c' }, auth = { type = 'forward',"
     " token = 't' }, allow = ['g'], deny = ['h'], tools.t = { allow = [], deny = [] }, "
     "rate_limits = { limit = 1, interval = '1s', tools.t = { limit = 1, interval = '1s' }, "
     "per_user = { limit = 1, interval = '1s', groups.g = { limit = 1, interval = '1s' } } } }",
     FINE, NULL},
    {"mcp.servers.a__b = { cmd = ['x'] }", REFUSES, "mcp.servers.a__b"},
    /* [telemetry] */
    {"telemetry.enabled = true", WARNS, "telemetry"},
    {"telemetry.service_name = 's'", WARNS, "telemetry"},
    {"telemetry.resource_attributes = { a = 'b' }", WARNS, "telemetry"},
    {"telemetry.exporters.otlp = { enabled = true, endpoint = 'http://a', protocol = 'grpc', "
     "timeout = '60s', grpc = { headers = { a = 'b' }, tls = { domain_name = 'd', key = 'k', "
     "cert = 'c', ca = 'a' } }, http = { headers = [{ name = 'a', value = 'b' }] }, "
     "batch_export = { scheduled_delay = '5s', max_queue_size = 1, max_export_batch_size = 1, "
     "max_concurrent_exports = 1 } }",
     WARNS, "telemetry"},
    {"telemetry.tracing = { sampling = 0.15, parent_based_sampler = false, collect = { "
     "max_events_per_span = 1, max_attributes_per_span = 1, max_links_per_span = 1, "
     "max_attributes_per_event = 1, max_attributes_per_link = 1 }, propagation = { "
     "trace_context = true, aws_xray = false } }",
     WARNS, "telemetry"},
    {"telemetry.tracing.sampling = 1", WARNS, "telemetry"},
    {"telemetry.tracing.exporters.otlp.enabled = true", WARNS, "telemetry"},
    {"telemetry.metrics.exporters.otlp.enabled = true", WARNS, "telemetry"},
    {"telemetry.logs.exporters.otlp.enabled = false", WARNS, "telemetry"},
    /* [llm]: whatever is in it */
    {"[llm]\nenabled = true\n[llm.providers.x]\ntype = 'openai'\napi_key = '{{ env.NONE }}'", WARNS,
     "llm"},
    {"llm.proxy.anthropic = { enabled = true, path = '/p' }", WARNS, "llm"},
};

static void test_every_key(void) {
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        test_row(keys[i].toml);
        CLEANUP(buf_deinit) struct buf toml = BUF_INIT(KIB(8));
        buf_printf(&toml, "%s\n" ONE, keys[i].toml);
        struct loaded l = load(buf_slice(&toml));
        CHECK_INT(l.problems.n_errors, keys[i].verdict == REFUSES);
        CHECK_INT(l.problems.n, keys[i].verdict != FINE);
        CHECK_INT(l.result, keys[i].verdict == REFUSES ? CONFIG_E_INVALID : 0);
        if (l.problems.n == 1) {
            struct slice message = l.problems.items[0].message;
            size_t named = strlen(keys[i].named);
            CHECK(slice_starts_with(message, slice_from_cstr(keys[i].named)) &&
                  message.len > named && message.ptr[named] == ' ');
            CHECK(l.problems.items[0].line > 0);
        }
        unload(&l);
    }
}

/* Unknown keys are told inside of what is ignored or switched off, too. */
static void test_unknown_inside(void) {
    static const struct {
        const char *toml, *problem;
    } rows[] = {
        {"telemetry.exporters.otlp.endpont = 'x'",
         "1:26: error: unknown key telemetry.exporters.otlp.endpont (did you mean endpoint?)\n"},
        {"server.cors.alow_origins = '*'",
         "1:13: error: unknown key server.cors.alow_origins (did you mean allow_origins?)\n"},
        {"server.csrf = { enabled = false, heder_name = 'x' }",
         "1:34: error: unknown key server.csrf.heder_name (did you mean header_name?)\n"},
        {"server.client_ip.x_real_ip = 'yes'",
         "1:30: error: server.client_ip.x_real_ip must be true or false\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].toml);
        CLEANUP(buf_deinit) struct buf toml = BUF_INIT(KIB(8)), out = BUF_INIT(KIB(8));
        buf_printf(&toml, "%s\n" ONE, rows[i].toml);
        struct loaded l = load(buf_slice(&toml));
        CHECK_INT(l.problems.n_errors, 1);
        CHECK(slice_ends_with(without_file(&l, &out), slice_from_cstr(rows[i].problem)));
        unload(&l);
    }
}

#define TELEMETRY " has no effect: traces, metrics and logs are not exported yet\n"
#define NO_SERVERS                                                                                 \
    "warning: no MCP servers are configured: [mcp.servers.NAME] with a cmd or a url adds one\n"
#define NO_CLAIMS " has no effect without [server.oauth]: only access tokens have claims\n"
#define KIND                                                                                       \
    " has neither cmd nor url: it is not served; cmd is the command that speaks MCP on its "       \
    "standard input and output, url the address of a server\n"

/* The examples of the seed, in its order, each as a file of its own. */
static const struct {
    const char *name, *toml, *problems;
} examples[] = {
    {"oauth",
     "[server.oauth]\n"
     "url = \"https://your-auth-provider.com/.well-known/jwks.json\"\n"
     "expected_issuer = \"https://auth.yourcompany.com\"\n"
     "expected_audience = \"nexus-production\"\n"
     "[server.oauth.protected_resource]\n"
     "resource = \"https://nexus.example.com\"\n"
     "authorization_servers = [\"https://your-auth-provider.com\"]\n",
     NO_SERVERS},
    {"groups",
     "[server.client_identification]\n"
     "enabled = true\n"
     "client_id.jwt_claim = \"sub\"\n"
     "group_id.jwt_claim = \"plan\"\n"
     "# Free tier users get limited access\n"
     "[mcp.servers.database.rate_limits.per_user.groups.free]\n"
     "limit = 100\n"
     "interval = \"3600s\"\n"
     "# Enterprise users get higher limits\n"
     "[mcp.servers.database.rate_limits.per_user.groups.enterprise]\n"
     "limit = 10000\n"
     "interval = \"3600s\"\n",
     "3:11: warning: server.client_identification.client_id.jwt_claim" NO_CLAIMS
     "4:10: warning: server.client_identification.group_id.jwt_claim" NO_CLAIMS
     "6:14: warning: mcp.servers.database" KIND},
    {"limits",
     "[mcp.servers.github]\n"
     "url = \"https://api.github.com/mcp\"\n"
     "# Global rate limit for this server\n"
     "[mcp.servers.github.rate_limits]\n"
     "limit = 1000\n"
     "interval = \"3600s\"\n"
     "# Tool-specific limits\n"
     "[mcp.servers.github.rate_limits.tools]\n"
     "search_code = { limit = 30, interval = \"60s\" }\n"
     "create_issue = { limit = 10, interval = \"60s\" }\n",
     ""},
    {"variables",
     "[mcp.servers.database]\n"
     "cmd = [\"psql-mcp\"]\n"
     "env = { PGHOST = \"{{ env.DB_HOST }}\", PGUSER = \"{{ env.DB_USER }}\", "
     "PGPASSWORD = \"{{ env.DB_PASSWORD }}\" }\n",
     ""},
    {"forward",
     "[mcp.servers.internal]\n"
     "url = \"https://internal.company.com/mcp\"\n"
     "[mcp.servers.internal.auth]\n"
     "type = \"forward\" # Forward user's OAuth2 token\n",
     "4:1: warning: mcp.servers.internal.auth.type = \"forward\" serves nobody without "
     "[server.oauth]: only access tokens of its issuers are sent on\n"
     "4:1: warning: mcp.servers.internal.auth.type = \"forward\" sends callers' access tokens on, "
     "which the MCP specification forbids (basic/authorization); only tokens that name "
     "this server in their audience, too, are sent: auth.audience, or the URL where that is not "
     "set\n"},
    {"tls",
     "[server.tls]\n"
     "certificate = \"/etc/nexus/cert.pem\"\n"
     "key = \"/etc/nexus/key.pem\"\n"
     "[mcp.servers.api.tls]\n"
     "verify_certs = true\n"
     "ca_bundle = \"/etc/nexus/ca-bundle.crt\"\n",
     "4:14: warning: mcp.servers.api" KIND},
    {"cache",
     "[mcp.downstream_cache]\n"
     "max_size = 1000\n"
     "idle_timeout = \"10m\"\n",
     NO_SERVERS},
    {"exporter",
     "[telemetry.exporters.otlp]\n"
     "enabled = true\n"
     "endpoint = \"https://otlp.yourcompany.com:4317\"\n"
     "protocol = \"grpc\"\n",
     NO_SERVERS "1:2: warning: telemetry" TELEMETRY},
    {"namespaces",
     "[mcp]\n"
     "enabled = true\n"
     "path = \"/mcp\"\n"
     "[mcp.servers.github]\n"
     "url = \"https://api.github.com/mcp\"\n"
     "[mcp.servers.gitlab]\n"
     "url = \"https://gitlab.company.com/mcp\"\n",
     ""},
    {"telemetry",
     "[telemetry]\n"
     "enabled = true\n"
     "[telemetry.exporters.otlp]\n"
     "endpoint = \"https://otlp.yourcompany.com\"\n",
     NO_SERVERS "1:2: warning: telemetry" TELEMETRY},
    {"first steps",
     "[mcp.servers.github]\n"
     "url = \"https://api.github.com/mcp\"\n"
     "auth.token = \"{{ env.GITHUB_TOKEN }}\"\n",
     ""},
};

static void test_seed(void) {
    for (size_t i = 0; i < ARRAY_LEN(examples); i++) {
        test_row(examples[i].name);
        CLEANUP(buf_deinit) struct buf out = BUF_INIT(KIB(8));
        struct loaded l = load(slice_from_cstr(examples[i].toml));
        CHECK_STR(without_file(&l, &out), examples[i].problems);
        CHECK_INT(l.result, 0);
        unload(&l);
    }
}

/* --- and what they say, each with what has to stand beside it --- */

static struct loaded load_example(const char *name, const char *beside) {
    CLEANUP(buf_deinit) struct buf toml = BUF_INIT(KIB(8));
    test_row(name);
    for (size_t i = 0; i < ARRAY_LEN(examples); i++) {
        if (strcmp(examples[i].name, name) == 0)
            buf_printf(&toml, "%s%s", examples[i].toml, beside);
    }
    CHECK(buf_len(&toml) > 0);
    struct loaded l = load(buf_slice(&toml));
    CHECK_INT(l.result, 0);
    return l;
}

static void check_oauth(void) {
    struct loaded l = load_example("oauth", "");
    REQUIRE(l.config != NULL && l.config->oauth.n_issuers == 1);
    const struct config_oauth *oauth = &l.config->oauth;
    CHECK_STR(oauth->issuers[0].url, "https://your-auth-provider.com/.well-known/jwks.json");
    CHECK_STR(oauth->issuers[0].expected_issuer, "https://auth.yourcompany.com");
    CHECK_STR(oauth->issuers[0].expected_audience, "nexus-production");
    CHECK_STR(oauth->resource, "https://nexus.example.com");
    REQUIRE(oauth->n_authorization_servers == 1);
    CHECK_STR(oauth->authorization_servers[0], "https://your-auth-provider.com");
    unload(&l);
}

static void check_named(const struct config_named_limit *named, const char *name, uint64_t limit,
                        uint64_t interval_ms) {
    CHECK_STR(named->name, name);
    CHECK_INT(named->limit.limit, limit);
    CHECK_INT(named->limit.interval_ms, interval_ms);
}

static void check_groups(void) {
    struct loaded l = load_example("groups", "[mcp.servers.database]\ncmd = [\"psql-mcp\"]\n");
    REQUIRE(l.config != NULL && l.config->n_servers == 1);
    CHECK(l.config->identification.enabled);
    CHECK_STR(l.config->identification.client_claim, "sub");
    CHECK_STR(l.config->identification.group_claim, "plan");
    const struct config_rate_limits *rates = &l.config->servers[0].rate_limits;
    REQUIRE(rates->n_groups == 2);
    check_named(&rates->groups[0], "free", 100, 3600000);
    check_named(&rates->groups[1], "enterprise", 10000, 3600000);
    CHECK_INT(rates->all.interval_ms + rates->user.interval_ms, 0);
    unload(&l);
}

static void check_limits(void) {
    struct loaded l = load_example("limits", "");
    REQUIRE(l.config != NULL && l.config->n_servers == 1);
    CHECK_STR(l.config->servers[0].url, "https://api.github.com/mcp");
    CHECK(l.config->rate_limits.enabled);
    const struct config_rate_limits *rates = &l.config->servers[0].rate_limits;
    CHECK_INT(rates->all.limit, 1000);
    CHECK_INT(rates->all.interval_ms, 3600000);
    REQUIRE(rates->n_tools == 2);
    check_named(&rates->tools[0], "search_code", 30, 60000);
    check_named(&rates->tools[1], "create_issue", 10, 60000);
    unload(&l);
}

static void check_servers(void) {
    struct loaded l = load_example("variables", "");
    REQUIRE(l.config != NULL && l.config->n_servers == 1 && l.config->servers[0].n_env == 3);
    CHECK_STR(l.config->servers[0].cmd[0], "psql-mcp");
    CHECK_STR(l.config->servers[0].env[0].value, "db.example.com");
    CHECK_STR(l.config->servers[0].env[1].value, "reader");
    CHECK_STR(l.config->servers[0].env[2].key, "PGPASSWORD");
    CHECK_STR(l.config->servers[0].env[2].value, "pw1");
    unload(&l);
    l = load_example("forward", "");
    REQUIRE(l.config != NULL && l.config->n_servers == 1);
    CHECK_STR(l.config->servers[0].url, "https://internal.company.com/mcp");
    CHECK_INT(l.config->servers[0].auth_type, CONFIG_UPSTREAM_AUTH_FORWARD);
    unload(&l);
    l = load_example("tls", "[mcp.servers.api]\nurl = \"https://api.example.com/mcp\"\n");
    REQUIRE(l.config != NULL && l.config->n_servers == 1);
    CHECK_STR(l.config->tls.certificate, "/etc/nexus/cert.pem");
    CHECK_STR(l.config->tls.key, "/etc/nexus/key.pem");
    CHECK(l.config->servers[0].tls.verify_certs);
    CHECK_STR(l.config->servers[0].tls.ca_bundle, "/etc/nexus/ca-bundle.crt");
    unload(&l);
    l = load_example("namespaces", "");
    REQUIRE(l.config != NULL && l.config->n_servers == 2);
    CHECK(l.config->mcp_enabled);
    CHECK_STR(l.config->mcp_path, "/mcp");
    CHECK_STR(l.config->servers[0].name, "github");
    CHECK_STR(l.config->servers[1].name, "gitlab");
    CHECK_STR(l.config->servers[1].url, "https://gitlab.company.com/mcp");
    unload(&l);
    l = load_example("cache", "[mcp.servers.github]\nurl = \"https://api.github.com/mcp\"\n");
    REQUIRE(l.config != NULL && l.config->n_servers == 1);
    CHECK_INT(l.config->cache_max_size, 1000);
    CHECK_INT(l.config->servers[0].idle_timeout_ms, 600000);
    unload(&l);
    l = load_example("first steps", "");
    REQUIRE(l.config != NULL && l.config->n_servers == 1);
    CHECK_STR(l.config->servers[0].auth_token, "gh0_s3cr3t");
    unload(&l);
}

static void test_seed_values(void) {
    check_oauth();
    check_groups();
    check_limits();
    check_servers();
}

static void read_file(const char *path, struct buf *out) {
    FILE *stream = fopen(path, "rb");
    if (stream == NULL)
        return;
    char chunk[4096];
    size_t n;
    while ((n = fread(chunk, 1, sizeof chunk, stream)) > 0)
        buf_append(out, slice_make(chunk, n));
    fclose(stream);
}

static void test_reference_is_fresh(void) {
    CLEANUP(buf_deinit) struct buf made = BUF_INIT(MIB(1)), kept = BUF_INIT(MIB(1));
    CHECK_INT(config_write_reference(&made), 0);
    read_file(REFERENCE, &kept);
    /* When this fails: config-reference > docs/CONFIGURATION.md */
    CHECK(slice_eq(buf_slice(&made), buf_slice(&kept)));
    CHECK(buf_len(&made) > 1000);
}

/* Without a word, and listening where it says. */
static void check_example(const char *path, size_t n_servers) {
    struct config_problems problems;
    struct config *config = NULL;
    test_row(path);
    config_problems_init(&problems);
    CHECK_INT(config_load_file(path, test_getenv, NULL, &problems, &config), 0);
    REQUIRE(config != NULL);
    CHECK_INT(config->n_servers, n_servers);
    CHECK_INT(config_check_start(config, false, &problems), 0);
    for (size_t i = 0; i < problems.n; i++)
        CHECK_STR(problems.items[i].message, "");
    config_unref(config);
    config_problems_deinit(&problems);
}

static void test_examples(void) {
    check_example(EXAMPLES "cardea.toml", 1);
    check_example(EXAMPLES "quickstart.toml", 2);
    check_example(EXAMPLES "oauth.toml", 1);
    check_example(EXAMPLES "access.toml", 1);
    check_example(EXAMPLES "upstream-tokens.toml", 4);
}

/* What a guide shows is whole files, and they load. */
static void check_guide(const char *path, size_t least) {
    static const struct slice begin = SLICE_INIT("```toml\n"), end = SLICE_INIT("```\n");
    CLEANUP(buf_deinit) struct buf guide = BUF_INIT(MIB(1));
    test_row(path);
    read_file(path, &guide);
    struct slice rest = buf_slice(&guide);
    size_t n = 0, from;
    for (; (from = slice_find(rest, begin)) != SIZE_MAX; n++) {
        rest = slice_from(rest, from + begin.len);
        size_t len = slice_find(rest, end);
        REQUIRE(len != SIZE_MAX);
        struct slice block = slice_sub(rest, 0, len);
        struct loaded l = load(block);
        /* Sending callers' tokens on is warned of wherever it stands. */
        if (slice_find(block, SLICE("\"forward\"")) == SIZE_MAX)
            CHECK_STR(buf_slice(&l.text), "");
        REQUIRE(l.result == 0);
        CHECK_INT(config_check_start(l.config, false, &l.problems), 0);
        unload(&l);
        rest = slice_from(rest, len);
    }
    CHECK(n >= least);
}

static void test_guides(void) {
    check_guide(GUIDES "AUTHENTICATION.md", 13);
    check_guide(GUIDES "TLS.md", 4);
    check_guide(GUIDES "ACCESS.md", 6);
    check_guide(GUIDES "AUDIT.md", 1);
}

static void write_for_torture(void *arg) {
    (void)arg;
    CLEANUP(buf_deinit) struct buf out = BUF_INIT(MIB(1));
    int r = config_write_reference(&out);
    CHECK(r == 0 || r == -ENOMEM);
}

static void test_reference_without_memory(void) {
    test_torture(write_for_torture, NULL);
}

TEST_MAIN(TEST(test_every_key), TEST(test_unknown_inside), TEST(test_seed), TEST(test_seed_values),
          TEST(test_reference_is_fresh), TEST(test_examples), TEST(test_guides),
          TEST(test_reference_without_memory))
