/* Who is calling: what the keys give, what is said of those that do not fit together, and what has
 * to be there before the gateway listens for other machines. */
#include <errno.h>

#include "loaded.h"

#define ONE    "[mcp.servers.a]\ncmd = [\"x\"]\n"
#define DIGITS "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde"
#define HASH   "sha256:" DIGITS "f"
#define HASH_2 "sha256:" DIGITS "0"
/* [server.oauth] that is whole but for its issuer. */
#define RESOURCE "protected_resource.resource = \"https://gw.example.com/mcp\"\n"
#define OAUTH    "[server.oauth]\nissuer = \"https://id.example.com\"\n" RESOURCE

static void test_defaults(void) {
    struct loaded l = load(SLICE(ONE));
    REQUIRE(l.result == 0);
    const struct config *c = l.config;
    CHECK(!c->plaintext);
    CHECK(!c->proxy_protocol);
    CHECK_STR(c->auth_none, "");
    CHECK_INT(c->n_tokens, 0);
    CHECK(!c->tls.is_set && !c->tls.is_auto && !c->tls.require_client_certificate);
    CHECK_STR(c->tls.certificate, "");
    CHECK_STR(c->tls.client_ca, "");
    CHECK_INT(c->tls.client_identity, CONFIG_IDENTITY_SUBJECT);
    CHECK_INT(c->tls.min_version, CONFIG_TLS_1_2);
    CHECK_INT(c->tls.hsts_ms, 365ull * 24 * 3600 * 1000);
    CHECK(!c->oauth.is_set);
    CHECK_INT(c->oauth.n_issuers, 0);
    CHECK(!c->identification.enabled);
    CHECK_STR(c->identification.client_claim, "sub");
    CHECK_STR(c->identification.client_header, "");
    CHECK_STR(c->identification.group_claim, "");
    CHECK_STR(c->identification.group_header, "");
    CHECK(!c->client_ip.x_real_ip && !c->client_ip.x_forwarded_for);
    CHECK(c->client_ip.hops == UINT64_MAX);
    CHECK(!c->cors.is_set && !c->cors.allow_credentials && !c->cors.allow_private_network);
    CHECK(c->cors.max_age_ms == UINT64_MAX);
    CHECK(!c->csrf.enabled);
    CHECK_STR(c->csrf.header_name, "X-Nexus-CSRF-Protection");
    CHECK_STR(c->health_listen, "");
    CHECK_INT(c->servers[0].n_scopes, 0);
    CHECK_INT(c->servers[0].n_tools, 0);
    unload(&l);
}

static void check_list(const struct slice *items, size_t n, const char *expected) {
    CLEANUP(buf_deinit) struct buf all = BUF_INIT(KIB(1));
    for (size_t i = 0; i < n; i++)
        buf_printf(&all, "%s%.*s", i == 0 ? "" : " ", SLICE_ARGS(items[i]));
    CHECK_STR(buf_slice(&all), expected);
}

#define CHECK_LIST(of, list, expected) check_list((of)->list, (of)->n_##list, expected)

static void test_listener_keys(void) {
    struct loaded l = load(SLICE("[server]\n"
                                 "proxy_protocol = true\n"
                                 "trusted_proxies = ['10.0.0.0/8']\n"
                                 "health.listen = '0.0.0.0:9000'\n"
                                 "[server.tls]\n"
                                 "certificate = 'c.pem'\n"
                                 "key = '/k.pem'\n"
                                 "names = ['GW.example.com', '192.0.2.7']\n"
                                 "client_ca = 'ca.pem'\n"
                                 "client_identity = 'san_uri'\n"
                                 "require_client_certificate = true\n"
                                 "min_version = '1.3'\n"
                                 "hsts = '0s'\n"
                                 "[server.client_ip]\n"
                                 "x_real_ip = true\n"
                                 "x_forwarded_for_trusted_hops = 63\n"
                                 "[server.cors]\n"
                                 "allow_credentials = true\n"
                                 "allow_origins = 'https://App.example.com'\n"
                                 "allow_methods = ['GET', 'POST']\n"
                                 "allow_headers = ['Mcp-Session-Id']\n"
                                 "expose_headers = 'Mcp-Session-Id'\n"
                                 "max_age = '1h'\n"
                                 "allow_private_network = true\n"
                                 "[server.csrf]\n"
                                 "enabled = true\n"
                                 "header_name = 'X-A'\n" ONE));
    CHECK_STR(buf_slice(&l.text), "");
    REQUIRE(l.result == 0);
    const struct config *c = l.config;
    CHECK(c->proxy_protocol);
    CHECK_STR(c->health_listen, "0.0.0.0:9000");
    CHECK(c->tls.is_set && !c->tls.is_auto && c->tls.require_client_certificate);
    CHECK_STR(c->tls.certificate, "/etc/gw/c.pem");
    CHECK_STR(c->tls.key, "/k.pem");
    CHECK_LIST(&c->tls, names, "gw.example.com 192.0.2.7");
    CHECK_STR(c->tls.client_ca, "/etc/gw/ca.pem");
    CHECK_INT(c->tls.client_identity, CONFIG_IDENTITY_SAN_URI);
    CHECK_INT(c->tls.min_version, CONFIG_TLS_1_3);
    CHECK_INT(c->tls.hsts_ms, 0);
    CHECK(c->client_ip.x_real_ip && !c->client_ip.x_forwarded_for);
    CHECK_INT(c->client_ip.hops, 63);
    CHECK(c->cors.is_set && c->cors.allow_credentials && c->cors.allow_private_network);
    CHECK_LIST(&c->cors, allow_origins, "https://app.example.com");
    CHECK_LIST(&c->cors, allow_methods, "GET POST");
    CHECK_LIST(&c->cors, allow_headers, "Mcp-Session-Id");
    CHECK_LIST(&c->cors, expose_headers, "Mcp-Session-Id");
    CHECK_INT(c->cors.max_age_ms, 3600000);
    CHECK(c->csrf.enabled);
    CHECK_STR(c->csrf.header_name, "X-A");
    unload(&l);
}

static void test_caller_keys(void) {
    struct loaded l = load(
        SLICE("[server.auth.tokens.ci]\n"
              "hash = 'sha256:0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcde2'\n"
              "groups = ['dev', 'ops']\n"
              "servers = ['a', 'off']\n"
              "scopes = ['tools:read']\n"
              "expires = '2999-01-31T12:00:00Z'\n"
              "[server.auth.tokens.'night.job']\n"
              "hash = '" HASH "'\n"
              "servers = []\n"
              "expires = 2999-01-31\n"
              "[server.auth.tokens.third]\n"
              "hash = '" HASH_2 "'\n"
              "expires = 2999-01-31T13:00:00.5+01:00\n"
              "[server.client_identification]\n"
              "enabled = true\n"
              "client_id.http_header = 'X-Client'\n"
              "group_id.jwt_claim = 'https://x/plan'\n"
              "validation.group_values = ['dev', 'ops']\n"
              "[server]\n"
              "trusted_proxies = ['127.0.0.1']\n"
              "client_ip.x_forwarded_for = true\n" OAUTH ONE "scopes = ['a:use']\n"
              "tools.'read file'.scopes = ['a:read']\n"
              "tools.plain = {}\n"
              "[mcp.servers.off]\nenabled = false\n"));
    CHECK_STR(buf_slice(&l.text), "");
    REQUIRE(l.result == 0);
    const struct config *c = l.config;
    REQUIRE(c->n_tokens == 3);
    CHECK_STR(c->tokens[0].name, "ci");
    CHECK_INT(c->tokens[0].line, 1);
    CHECK_STR(c->tokens[0].hash, "sha256:" DIGITS "2");
    CHECK_LIST(&c->tokens[0], groups, "dev ops");
    CHECK(c->tokens[0].has_servers);
    CHECK_LIST(&c->tokens[0], servers, "a off");
    CHECK_LIST(&c->tokens[0], scopes, "tools:read");
    CHECK_STR(c->tokens[0].expires, "2999-01-31T12:00:00Z");
    CHECK_INT(c->tokens[0].expires_ms, 32474779200000);
    CHECK_STR(c->tokens[1].name, "night.job");
    CHECK(c->tokens[1].has_servers && c->tokens[1].n_servers == 0);
    CHECK_STR(c->tokens[1].expires, "2999-01-31");
    CHECK_INT(c->tokens[1].expires_ms, 32474822400000);
    CHECK(!c->tokens[2].has_servers && c->tokens[2].n_groups == 0);
    CHECK_STR(c->tokens[2].expires, "2999-01-31T13:00:00.500000000+01:00");
    CHECK_INT(c->tokens[2].expires_ms, 32474779200500);
    CHECK(c->identification.enabled);
    CHECK_STR(c->identification.client_claim, "");
    CHECK_STR(c->identification.client_header, "X-Client");
    CHECK_STR(c->identification.group_claim, "https://x/plan");
    CHECK_LIST(&c->identification, group_values, "dev ops");
    CHECK(c->client_ip.x_forwarded_for && c->client_ip.hops == UINT64_MAX);
    CHECK_LIST(&c->servers[0], scopes, "a:use");
    REQUIRE(c->servers[0].n_tools == 2);
    CHECK_STR(c->servers[0].tools[0].name, "read file");
    CHECK_LIST(&c->servers[0].tools[0], scopes, "a:read");
    CHECK_STR(c->servers[0].tools[1].name, "plain");
    CHECK_INT(c->servers[0].tools[1].n_scopes, 0);
    unload(&l);
}

static void test_issuers(void) {
    struct loaded l = load(SLICE("[server.oauth]\n"
                                 "issuer = 'https://one.example.com'\n"
                                 "url = 'https://one.example.com/keys'\n"
                                 "poll_interval = '5m'\n"
                                 "expected_audience = 'gw'\n"
                                 "algorithms = ['RS256', 'EdDSA']\n"
                                 "token_type = 'at+jwt'\n"
                                 "leeway = '5s'\n"
                                 "scopes = ['mcp']\n"
                                 "[server.oauth.protected_resource]\n"
                                 "resource = 'https://gw.example.com'\n"
                                 "authorization_servers = ['https://login.example.com']\n"
                                 "[[server.oauth.issuers]]\n"
                                 "expected_issuer = 'two'\n"
                                 "secret = '{{ env.SIGNING }}'\n"
                                 "[[server.oauth.issuers]]\n"
                                 "issuer = 'https://three.example.com'\n"
                                 "expected_issuer = 'three'\n" ONE));
    CHECK_STR(buf_slice(&l.text), "");
    REQUIRE(l.result == 0);
    const struct config_oauth *o = &l.config->oauth;
    CHECK(o->is_set);
    CHECK_LIST(o, scopes, "mcp");
    CHECK_STR(o->resource, "https://gw.example.com");
    CHECK_LIST(o, authorization_servers, "https://login.example.com");
    REQUIRE(o->n_issuers == 3);
    const struct config_issuer *i = o->issuers;
    CHECK_STR(i[0].url, "https://one.example.com/keys");
    CHECK_STR(i[0].issuer, "https://one.example.com");
    CHECK_STR(i[0].expected_issuer, "https://one.example.com");
    CHECK_STR(i[0].expected_audience, "gw");
    CHECK_INT(i[0].poll_interval_ms, 300000);
    CHECK_LIST(&i[0], algorithms, "RS256 EdDSA");
    CHECK_INT(i[0].token_type, CONFIG_TOKEN_AT_JWT);
    CHECK_INT(i[0].leeway_ms, 5000);
    CHECK_STR(i[1].url, "");
    CHECK_STR(i[1].secret, "0123456789abcdef0123456789abcdef");
    CHECK_STR(i[1].expected_issuer, "two");
    CHECK_INT(i[1].poll_interval_ms, 0);
    CHECK_INT(i[1].leeway_ms, 60000);
    CHECK_INT(i[1].token_type, CONFIG_TOKEN_ANY);
    CHECK_STR(i[2].expected_issuer, "three");
    unload(&l);
}

static void test_issuers_in_the_array_alone(void) {
    struct loaded l = load(SLICE("[server.oauth]\n" RESOURCE "[[server.oauth.issuers]]\n"
                                 "issuer = 'https://one.example.com'\n" ONE));
    CHECK_STR(buf_slice(&l.text), "");
    REQUIRE(l.result == 0);
    REQUIRE(l.config->oauth.n_issuers == 1);
    CHECK_STR(l.config->oauth.issuers[0].issuer, "https://one.example.com");
    unload(&l);
}

#define NO_ONE                                                                                     \
    " needs issuer (the URL of the authorization server), url (that of its keys) or a secret\n"
#define FROM_NOBODY                                                                                \
    " is taken from nobody until server.trusted_proxies names the proxies that set it: "           \
    "server.trusted_proxies = [\"192.0.2.7\"]\n"
#define NO_SCOPES                                                                                  \
    " is for callers that carry scopes, and there are none: configure [server.oauth], or scopes "  \
    "of a token in [server.auth.tokens]\n"
#define LETS_ALL                                                                                   \
    "1:13: error: server.auth.%s lets everybody in, and %s is there to tell callers "              \
    "apart; keep one of them\n"
#define TWICE                                                                                      \
    " needs issuer or expected_issuer: with several issuers a token belongs to the one that its "  \
    "iss names\n"
#define OFF              " is off: write enabled = true, or enabled = false\n"
#define WITH_CREDENTIALS " must not be \"*\" together with allow_credentials: list what is meant\n"
#define AND_EVERYBODY                                                                              \
    " lets every page in, and server.auth lets everybody in: whatever page is open in a browser "  \
    "that reaches the gateway can call everything; list the pages that may\n"
#define HASH_LINE(name, of) "[server.auth.tokens." name "]\nhash = \"" of "\"\n"

static const struct {
    const char *name, *toml, *problems;
} messages[] = {
    /* TLS */
    {"a certificate without a key", "server.tls.certificate = 'c'\n" ONE,
     "1:12: error: server.tls.certificate needs server.tls.key beside it\n"},
    {"a key without a certificate", "server.tls.key = 'k'\n" ONE,
     "1:12: error: server.tls.key needs server.tls.certificate beside it\n"},
    {"two certificates", "server.tls = { certificate = 'c', key = 'k', auto = true }\n" ONE,
     "1:46: error: server.tls.auto makes a certificate, and there is one already: remove auto, or "
     "certificate and key\n"},
    {"clients of no authority",
     "server.tls = { auto = true, require_client_certificate = true }\n" ONE,
     "1:29: error: server.tls.require_client_certificate needs server.tls.client_ca: the "
     "authorities of clients\n"},
    {"TLS and none", "server.plaintext = true\nserver.tls.auto = true\n" ONE,
     "1:8: error: server.plaintext and [server.tls] contradict each other; keep one of them\n"},
    {"old TLS", "server.tls = { auto = true, min_version = '1.1' }\n" ONE,
     "1:43: error: server.tls.min_version must be \"1.2\" or \"1.3\"\n"},
    {"an identity", "server.tls = { auto = true, client_identity = 'serial' }\n" ONE,
     "1:47: error: server.tls.client_identity must be \"subject\", \"common_name\", \"san_dns\", "
     "\"san_email\" or \"san_uri\"\n"},
    {"hsts", "server.tls = { auto = true, hsts = '3651d' }\n" ONE,
     "1:36: error: server.tls.hsts must be from 0s to 3650d\n"},
    /* tokens */
    {"a token without a hash", "[server.auth.tokens.a]\ngroups = []\n" ONE,
     "1:21: error: server.auth.tokens.a needs hash\n"},
    {"a token in place of its hash", "[server.auth.tokens.a]\nhash = 'cardea_s3cr3t'\n" ONE,
     "2:8: error: server.auth.tokens.a.hash must be \"sha256:\" and the 64 hexadecimal digits of "
     "the token's SHA-256, as cardea token new NAME prints them\n"},
    {"a name", HASH_LINE("'a b'", HASH) ONE,
     "1:21: error: server.auth.tokens.\"a b\" is no name for a token: at most 64 letters, digits, "
     "'-', '_' and '.', and no '-' at the beginning\n"},
    {"the name of another token", HASH_LINE("MCP_API_TOKEN", HASH) ONE,
     "1:21: error: server.auth.tokens.MCP_API_TOKEN is how the token of the environment is called; "
     "choose another name\n"},
    {"no table", "server.auth.tokens.a = 'x'\n" ONE,
     "1:24: error: server.auth.tokens.a must be a table\n"},
    {"an unknown key", HASH_LINE("a", HASH) "expire = '2999-01-01'\n" ONE,
     "3:1: error: unknown key server.auth.tokens.a.expire (did you mean expires?)\n"},
    {"one hash twice", HASH_LINE("a", HASH) HASH_LINE("b", HASH) ONE,
     "3:21: error: server.auth.tokens.b has the hash of a: it would not be clear who is calling; "
     "make a token of its own with cardea token new\n"},
    {"one hash twice, in capitals",
     HASH_LINE("a", "sha256:" DIGITS "f") HASH_LINE("b", "sha256:" DIGITS "F") ONE,
     "3:21: error: server.auth.tokens.b has the hash of a: it would not be clear who is calling; "
     "make a token of its own with cardea token new\n"},
    {"servers that are not there", HASH_LINE("a", HASH) "servers = ['a', 'b', '']\n" ONE,
     "3:17: error: server.auth.tokens.a.servers[1] is no server of mcp.servers\n"
     "3:22: error: server.auth.tokens.a.servers[2] must not be empty\n"},
    {"servers that are switched off",
     HASH_LINE("a", HASH) "servers = ['b']\n" ONE "[mcp.servers.b]\nenabled = false\n", ""},
    {"groups that are not there",
     "server.client_identification = { enabled = false, validation.group_values = ['dev'] "
     "}\n" HASH_LINE("a", HASH) "groups = ['dev', 'Dev']\n" ONE,
     "4:18: error: server.auth.tokens.a.groups[1] is not among "
     "server.client_identification.validation.group_values\n"},
    {"any group", HASH_LINE("a", HASH) "groups = ['dev']\n" ONE, ""},
    {"it is over", HASH_LINE("a", HASH) "expires = '2001-01-01'\n" ONE,
     "3:11: warning: server.auth.tokens.a.expires is over: the token lets nobody in; remove it, or "
     "make a new one with cardea token new a\n"},
    {"no time", HASH_LINE("a", HASH) "expires = '2999-02-30'\n" ONE,
     "3:11: error: server.auth.tokens.a.expires must be a date or a time with its offset, such as "
     "\"2027-01-31\" or \"2027-01-31T12:00:00Z\"\n"},
    {"a time without an offset", HASH_LINE("a", HASH) "expires = 2999-01-01T00:00:00\n" ONE,
     "3:11: error: server.auth.tokens.a.expires must be a date or a time with its offset, such as "
     "\"2027-01-31\" or \"2027-01-31T12:00:00Z\"\n"},
    {"a number", HASH_LINE("a", HASH) "expires = 2999\n" ONE,
     "3:11: error: server.auth.tokens.a.expires must be a date or a time, such as \"2027-01-31\" "
     "or "
     "\"2027-01-31T12:00:00Z\"\n"},
    {"none", "server.auth.none = true\n" ONE, "1:20: error: server.auth.none must be a string\n"},
    {"none as a word", "server.auth.none = 'yes'\n" ONE,
     "1:20: error: server.auth.none must be \"I know\", so that nobody writes it without knowing "
     "that it lets everybody in, from other machines too\n"},
    /* OAuth */
    {"no issuer at all", "[server.oauth]\n" RESOURCE ONE, "1:9: error: server.oauth" NO_ONE},
    {"nothing at all", "server.oauth = {}\n" ONE,
     "1:8: error: server.oauth needs protected_resource.resource: the URL by which clients know "
     "the gateway, such as \"https://gw.example.com/mcp\"\n"
     "1:8: error: server.oauth" NO_ONE},
    {"an issuer of the array without one",
     "[server.oauth]\n" RESOURCE "[[server.oauth.issuers]]\nexpected_issuer = 'x'\n" ONE,
     "3:1: error: server.oauth.issuers[0]" NO_ONE},
    {"keys of an issuer beside the array",
     "[server.oauth]\nexpected_audience = 'x'\n" RESOURCE
     "[[server.oauth.issuers]]\nissuer = 'https://id.example.com'\n" ONE,
     "1:9: error: server.oauth" NO_ONE},
    {"a wrong URL is told once", "[server.oauth]\nurl = 'http://id.example.com'\n" RESOURCE ONE,
     "2:7: error: server.oauth.url is no URL to use: it must begin with https:// (http:// is for "
     "hosts on this machine alone: whoever is on the way could put another answer there)\n"},
    {"a resource with a fragment",
     "[server.oauth]\nissuer = 'https://id.example.com'\n"
     "protected_resource.resource = 'https://gw.example.com/#x'\n" ONE,
     "3:31: error: server.oauth.protected_resource.resource is no URL to use: it must not have a "
     "fragment (a # and what follows)\n"},
    {"any issuer",
     "[server.oauth]\nurl = 'https://id.example.com/keys'\n" RESOURCE
     "protected_resource.authorization_servers = ['https://id.example.com']\n" ONE,
     "2:1: warning: server.oauth.url is trusted for tokens of any issuer: set expected_issuer to "
     "what iss of its tokens is\n"},
    {"any issuer, in the array",
     "[server.oauth]\n" RESOURCE
     "protected_resource.authorization_servers = ['https://id.example.com']\n"
     "[[server.oauth.issuers]]\nurl = 'https://id.example.com/keys'\n" ONE,
     "4:16: warning: server.oauth.issuers is trusted for tokens of any issuer: set expected_issuer "
     "to what iss of its tokens is\n"},
    {"no way to a token",
     "[server.oauth]\nurl = 'https://id.example.com/keys'\nexpected_issuer = 'x'\n" RESOURCE ONE,
     "1:9: warning: server.oauth does not say where clients get tokens: set issuer, or "
     "protected_resource.authorization_servers\n"},
    {"several without a name",
     OAUTH "[[server.oauth.issuers]]\nurl = 'https://b.example.com/keys'\n" ONE,
     "4:1: error: server.oauth.issuers[0]" TWICE},
    {"several, the first without a name",
     "[server.oauth]\nurl = 'https://a.example.com/keys'\n" RESOURCE
     "[[server.oauth.issuers]]\nissuer = 'https://b.example.com'\n" ONE,
     "1:9: error: server.oauth" TWICE},
    {"several with one name",
     OAUTH "[[server.oauth.issuers]]\nurl = 'https://b.example.com/keys'\n"
           "expected_issuer = 'https://id.example.com'\n" ONE,
     "4:1: error: server.oauth.issuers[0] has the iss of another issuer; each needs one of its "
     "own\n"},
    {"a short secret", "[server.oauth]\nsecret = 's3cr3t-s3cr3t-s3cr3t-s3cr3t-s3c'\n" RESOURCE ONE,
     "2:10: error: server.oauth.secret must have at least 32 bytes (openssl rand -hex 32 makes "
     "64): a shorter one can be found by trying, from one token\n"},
    {"no secret for HS", OAUTH "algorithms = ['RS256', 'HS256']\n" ONE,
     "4:24: error: server.oauth.algorithms[1] needs a secret of at least 32 bytes\n"},
    {"a secret that is too short for it",
     OAUTH "secret = '{{ env.SIGNING }}'\nalgorithms = ['HS256', 'HS512']\n" ONE,
     "5:24: error: server.oauth.algorithms[1] needs a secret of at least 64 bytes\n"},
    {"a secret for nothing", OAUTH "secret = '{{ env.SIGNING }}'\nalgorithms = ['RS256']\n" ONE,
     "5:14: error: server.oauth.algorithms has none of HS256, HS384 and HS512, which secret is "
     "for\n"},
    {"no algorithm", OAUTH "algorithms = []\n" ONE,
     "4:14: error: server.oauth.algorithms is empty, so that every token would be refused; leave "
     "it out for all\n"},
    {"none is no algorithm", OAUTH "algorithms = ['none']\n" ONE,
     "4:15: error: server.oauth.algorithms[0] must be one of RS256, RS384, RS512, PS256, PS384, "
     "PS512, ES256, ES384, ES512, EdDSA, HS256, HS384 and HS512\n"},
    {"too often", OAUTH "poll_interval = '999ms'\n" ONE,
     "4:17: error: server.oauth.poll_interval must be from 1s to 1d\n"},
    {"too seldom", OAUTH "poll_interval = '25h'\n" ONE,
     "4:17: error: server.oauth.poll_interval must be from 1s to 1d\n"},
    {"clocks too far apart", OAUTH "leeway = '6m'\n" ONE,
     "4:10: error: server.oauth.leeway must be from 0s to 5m\n"},
    {"a type", OAUTH "token_type = 'id'\n" ONE,
     "4:14: error: server.oauth.token_type must be \"any\" or \"at+jwt\"\n"},
    /* scopes */
    {"scopes that nobody has", ONE "scopes = ['x']\ntools.t.scopes = ['y']\n",
     "3:1: error: mcp.servers.a.scopes" NO_SCOPES
     "4:9: error: mcp.servers.a.tools.t.scopes" NO_SCOPES},
    {"a token with scopes", HASH_LINE("a", HASH) "scopes = ['x']\n" ONE "scopes = ['x']\n", ""},
    {"no scope", OAUTH ONE "scopes = ['a b']\n",
     "6:11: error: mcp.servers.a.scopes[0] must be one scope: printable ASCII without spaces, '\"' "
     "and '\\'\n"},
    {"groups of a tool", ONE "tools.t.allow = ['g']\n",
     "3:9: warning: mcp.servers.a.tools.t.allow lets nobody in: nothing gives a caller groups; "
     "configure server.client_identification.group_id, or groups of a token in "
     "[server.auth.tokens]\n"},
    {"a tool of a server that is off",
     ONE "[mcp.servers.b]\nenabled = false\ntools.t = { allow = [], scops = [] }\n",
     "5:25: error: unknown key mcp.servers.b.tools.t.scops (did you mean scopes?)\n"},
    /* client identification */
    {"two sources",
     "[server.client_identification]\nenabled = true\nclient_id.jwt_claim = 'sub'\n"
     "client_id.http_header = 'X-A'\ngroup_id = { jwt_claim = 'g', http_header = 'X-B' }\n"
     "[server]\ntrusted_proxies = ['127.0.0.1']\n" OAUTH ONE,
     "3:1: error: server.client_identification.client_id has both jwt_claim and http_header; keep "
     "one of them\n"
     "5:1: error: server.client_identification.group_id has both jwt_claim and http_header; keep "
     "one of them\n"},
    {"a header from nobody",
     "[server.client_identification]\nenabled = true\nclient_id.http_header = 'X-A'\n"
     "group_id.http_header = 'X-B'\n" ONE,
     "3:11: warning: server.client_identification.client_id.http_header" FROM_NOBODY
     "4:10: warning: server.client_identification.group_id.http_header" FROM_NOBODY},
    {"claims of nobody",
     "[server.client_identification]\nenabled = true\ngroup_id.jwt_claim = 'plan'\n" ONE,
     "3:10: warning: server.client_identification.group_id.jwt_claim has no effect without "
     "[server.oauth]: only access tokens have claims\n"},
    {"identification that is not switched on",
     "server.client_identification.client_id = { jwt_claim = 'a', http_header = 'b' }\n" ONE,
     "1:8: warning: server.client_identification" OFF},
    /* proxies */
    {"the PROXY protocol of nobody", "server.proxy_protocol = true\n" ONE,
     "1:8: error: server.proxy_protocol needs server.trusted_proxies, the addresses of the proxies "
     "that speak it\n"},
    {"addresses from nobody",
     "server.client_ip = { x_real_ip = true, x_forwarded_for = true }\n" ONE,
     "1:22: warning: server.client_ip.x_real_ip" FROM_NOBODY
     "1:40: warning: server.client_ip.x_forwarded_for" FROM_NOBODY},
    {"hops from nobody", "server.client_ip.x_forwarded_for_trusted_hops = 0\n" ONE,
     "1:18: warning: server.client_ip.x_forwarded_for_trusted_hops" FROM_NOBODY},
    {"two ways",
     "server.trusted_proxies = ['::1']\n"
     "server.client_ip = { x_forwarded_for = true, x_forwarded_for_trusted_hops = 1 }\n" ONE,
     "2:46: error: server.client_ip.x_forwarded_for_trusted_hops and x_forwarded_for are two ways "
     "to read one header; keep one of them\n"},
    {"too many hops",
     "server.trusted_proxies = ['::1']\nserver.client_ip.x_forwarded_for_trusted_hops = 64\n" ONE,
     "2:49: error: server.client_ip.x_forwarded_for_trusted_hops must be from 0 to 63\n"},
    /* browsers */
    {"all origins with credentials",
     "[server.cors]\nallow_credentials = true\nallow_origins = '*'\nallow_methods = ['GET', '*']\n"
     "allow_headers = '*'\nexpose_headers = ['*']\n" ONE,
     "3:1: error: server.cors.allow_origins" WITH_CREDENTIALS
     "4:1: error: server.cors.allow_methods" WITH_CREDENTIALS
     "5:1: error: server.cors.allow_headers" WITH_CREDENTIALS
     "6:1: error: server.cors.expose_headers" WITH_CREDENTIALS},
    {"every host with credentials",
     "server.cors = { allow_credentials = true, allow_origins = ['https://*'] }\n" ONE,
     "1:43: error: server.cors.allow_origins" WITH_CREDENTIALS},
    {"some hosts with credentials",
     "server.cors = { allow_credentials = true, allow_origins = 'https://*.example.com' }\n" ONE,
     ""},
    {"all without credentials",
     "server.cors = { allow_origins = '*', allow_methods = '*', allow_headers = '*' }\n" ONE, ""},
    {"every page, and nobody has to prove anything",
     "server.cors.allow_origins = ['https://*']\nserver.auth.anonymous = true\n" ONE,
     "1:13: warning: server.cors.allow_origins" AND_EVERYBODY},
    {"some pages, and nobody has to prove anything",
     "server.cors.allow_origins = 'https://*.example.com'\nserver.auth.anonymous = true\n" ONE, ""},
    {"a bad origin", "server.cors.allow_origins = ['https://a.example.com', 'a.example.com']\n" ONE,
     "1:55: error: server.cors.allow_origins[1] must be \"*\" or an origin such as "
     "\"https://app.example.com\" or \"https://*.example.com\": scheme, host and perhaps a port, "
     "with wildcards in the host alone and not in its last label\n"},
    {"a list or one", "server.cors.allow_methods = 1\n" ONE,
     "1:29: error: server.cors.allow_methods must be a string or a list of strings\n"},
    {"only some lists may be one string", "server.hosts = 'a'\n" ONE,
     "1:16: error: server.hosts must be a list of strings\n"},
    {"CSRF that is not switched on", "server.csrf.header_name = 'X-A'\n" ONE,
     "1:8: warning: server.csrf" OFF},
};

static void test_messages(void) {
    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        test_row(messages[i].name);
        CLEANUP(buf_deinit) struct buf out = BUF_INIT(MIB(1));
        struct loaded l = load(slice_from_cstr(messages[i].toml));
        CHECK_STR(without_file(&l, &out), messages[i].problems);
        CHECK((l.result == 0) == (l.problems.n_errors == 0));
        CHECK((l.config != NULL) == (l.result == 0));
        unload(&l);
    }
}

/* With each way to tell callers apart. */
static void test_anonymous(void) {
    static const struct {
        const char *toml, *named;
    } rows[] = {
        {OAUTH, "[server.oauth]"},
        {HASH_LINE("a", HASH), "[server.auth.tokens]"},
        {"[server.tls]\nauto = true\nclient_ca = 'c'\n", "server.tls.client_ca"},
        {"", NULL},
        {"[server.tls]\nauto = true\n", NULL},
    };
    for (size_t i = 0; i < 2 * ARRAY_LEN(rows); i++) {
        bool is_none = i >= ARRAY_LEN(rows);
        size_t k = i % ARRAY_LEN(rows);
        test_row(rows[k].toml);
        CLEANUP(buf_deinit) struct buf toml = BUF_INIT(KIB(4)), out = BUF_INIT(KIB(4));
        CLEANUP(buf_deinit) struct buf expected = BUF_INIT(KIB(4));
        buf_printf(&toml, "server.auth.%s\n%s" ONE,
                   is_none ? "none = 'I know'" : "anonymous = true", rows[k].toml);
        if (rows[k].named != NULL)
            buf_printf(&expected, LETS_ALL, is_none ? "none" : "anonymous", rows[k].named);
        struct loaded l = load(buf_slice(&toml));
        CHECK(slice_eq(without_file(&l, &out), buf_slice(&expected)));
        unload(&l);
    }
}

enum start { STARTS, STARTS_WITH_TLS, NO_CALLERS, ALL_CALLERS, NO_PROXY, NO_FILES, TWO_WAYS };

static const char *const start_words[] = {
    [NO_CALLERS] = "nobody there can prove who they are",
    [ALL_CALLERS] = "server.auth.anonymous lets everybody in, and server.listen_address is open",
    [NO_PROXY] = "server.plaintext is for a proxy in front",
    [NO_FILES] = "server.tls needs certificate and key, or auto = true",
    [TWO_WAYS] = "and MCP_API_TOKEN is set in the environment",
};

#define OPEN   "0.0.0.0:8000"
#define CLOSED "127.0.0.1:8000"

static const struct {
    const char *address, *toml;
    bool has_api_token;
    enum start first, second; /* STARTS: there is no second problem */
} starts[] = {
    /* On this machine. */
    {CLOSED, "", false, STARTS, STARTS},
    {"[::1]:0", "", false, STARTS, STARTS},
    {"127.255.0.9:1", "", true, STARTS, STARTS},
    {CLOSED, "server.auth.anonymous = true", false, STARTS, STARTS},
    {CLOSED, "server.auth.anonymous = true", true, TWO_WAYS, STARTS},
    {CLOSED, "server.plaintext = true", false, STARTS, STARTS},
    {CLOSED, "server.tls.auto = true", false, STARTS_WITH_TLS, STARTS},
    {CLOSED, "server.tls = { certificate = 'c', key = 'k' }", false, STARTS_WITH_TLS, STARTS},
    {CLOSED, "server.tls.names = ['gw']", false, NO_FILES, STARTS},
    {CLOSED, "server.tls.client_ca = 'c'", false, NO_FILES, STARTS},
    {CLOSED, "server.auth.none = 'I know'", false, STARTS, STARTS},
    {CLOSED, "server.auth.none = 'I know'", true, TWO_WAYS, STARTS},
    /* For others: each way to prove who one is. */
    {OPEN, "", false, NO_CALLERS, STARTS},
    {OPEN, "", true, STARTS_WITH_TLS, STARTS},
    {OPEN, HASH_LINE("a", HASH), false, STARTS_WITH_TLS, STARTS},
    {OPEN, OAUTH, false, STARTS_WITH_TLS, STARTS},
    {OPEN, "server.tls.client_ca = 'c'", false, STARTS_WITH_TLS, STARTS},
    {OPEN, "server.auth.none = 'I know'", false, STARTS_WITH_TLS, STARTS},
    {OPEN, "server.auth.none = 'I know'", true, TWO_WAYS, STARTS},
    {OPEN, "server.auth.none = 'I know'\nserver.auth.anonymous = true", false, STARTS_WITH_TLS,
     STARTS},
    {OPEN, "server.auth.anonymous = true", false, ALL_CALLERS, STARTS},
    {OPEN, "server.auth.anonymous = true", true, TWO_WAYS, STARTS},
    {OPEN, "server.auth = { none = 'I know', anonymous = true }", true, TWO_WAYS, STARTS},
    /* TLS is no authentication, */
    {OPEN, "server.tls.auto = true", false, NO_CALLERS, STARTS},
    {OPEN, "server.tls = { certificate = 'c', key = 'k' }", false, NO_CALLERS, STARTS},
    {OPEN, "server.tls = { certificate = 'c', key = 'k' }", true, STARTS_WITH_TLS, STARTS},
    {OPEN, "server.tls.names = ['gw']", true, STARTS_WITH_TLS, STARTS},
    /* authentication no TLS, and plaintext is neither. */
    {OPEN, "server.plaintext = true", true, NO_PROXY, STARTS},
    {OPEN, "server.plaintext = true", false, NO_PROXY, NO_CALLERS},
    {OPEN, "server = { plaintext = true, auth.none = 'I know' }", false, NO_PROXY, STARTS},
    {OPEN, "server = { plaintext = true, trusted_proxies = ['10.0.0.1'] }", true, STARTS, STARTS},
    {OPEN, "server = { plaintext = true, trusted_proxies = ['10.0.0.1'] }", false, NO_CALLERS,
     STARTS},
    {OPEN, "server = { trusted_proxies = ['10.0.0.1'] }", true, STARTS_WITH_TLS, STARTS},
    {OPEN, "server = { plaintext = true, trusted_proxies = ['10.0.0.1'], auth.none = 'I know' }",
     false, STARTS, STARTS},
    /* What is beyond loopback. */
    {"[::]:8000", "", false, NO_CALLERS, STARTS},
    {"192.0.2.7:8000", "", false, NO_CALLERS, STARTS},
    {"[::ffff:127.0.0.1]:8000", "", false, NO_CALLERS, STARTS},
    {"128.0.0.1:8000", "", false, NO_CALLERS, STARTS},
    {"[fe80::1]:8000", "", false, NO_CALLERS, STARTS},
    {"no address", "", false, NO_CALLERS, STARTS},
};

static bool is_told(const struct config_problems *problems, size_t i, enum start problem) {
    return i < problems->n && problems->items[i].severity == CONFIG_ERROR &&
           slice_find(problems->items[i].message, slice_from_cstr(start_words[problem])) !=
               SIZE_MAX;
}

static void test_start(void) {
    for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
        CLEANUP(buf_deinit) struct buf toml = BUF_INIT(KIB(4)), row = BUF_INIT(KIB(4));
        buf_printf(&row, "%zu: %s %s", i, starts[i].address, starts[i].toml);
        buf_append_byte(&row, '\0');
        test_row(buf_slice(&row).ptr);
        buf_printf(&toml, "%s\n" ONE, starts[i].toml);
        struct loaded l = load(buf_slice(&toml));
        CHECK_STR(buf_slice(&l.text), "");
        REQUIRE(l.result == 0);
        l.config->listen_address = slice_from_cstr(starts[i].address);
        enum start first = starts[i].first;
        bool starts_at_all = first == STARTS || first == STARTS_WITH_TLS;
        CHECK_INT(config_check_start(l.config, starts[i].has_api_token, &l.problems),
                  starts_at_all ? 0 : CONFIG_E_INVALID);
        CHECK_INT(l.problems.n, starts_at_all ? 0u : starts[i].second == STARTS ? 1u : 2u);
        if (starts_at_all)
            CHECK(config_has_tls(l.config) == (first == STARTS_WITH_TLS));
        else
            CHECK(is_told(&l.problems, 0, first));
        if (starts[i].second != STARTS)
            CHECK(is_told(&l.problems, 1, starts[i].second));
        unload(&l);
    }
}

static void test_everybody(void) {
    struct loaded l = load(SLICE("server.auth.none = 'I know'\n" ONE));
    REQUIRE(l.result == 0);
    CHECK_STR(l.config->auth_none, "I know");
    CHECK(!l.config->auth_anonymous);
    CHECK(config_lets_everybody_in(l.config));
    unload(&l);
    l = load(SLICE("server.auth.anonymous = true\n" ONE));
    REQUIRE(l.result == 0);
    CHECK(config_lets_everybody_in(l.config));
    unload(&l);
}

static void test_has_authentication(void) {
    struct loaded l = load(SLICE(ONE));
    REQUIRE(l.result == 0);
    CHECK(!config_lets_everybody_in(l.config));
    CHECK(!config_has_authentication(l.config, false));
    CHECK(config_has_authentication(l.config, true));
    unload(&l);
}

static void load_for_torture(void *arg) {
    const char *text = arg;
    struct config_problems problems;
    struct config *config = NULL;
    config_problems_init(&problems);
    int r =
        config_load_text(SLICE("f"), slice_from_cstr(text), test_getenv, NULL, &problems, &config);
    CHECK((r == 0) == (config != NULL));
    CHECK(r == 0 || r == CONFIG_E_INVALID || r == -ENOMEM);
    if (r == CONFIG_E_INVALID)
        CHECK(problems.n_errors > 0);
    if (r == 0) {
        config->listen_address = SLICE(OPEN);
        r = config_check_start(config, false, &problems);
        CHECK(r == 0 || r == CONFIG_E_INVALID || r == -ENOMEM);
    }
    config_unref(config);
    config_problems_deinit(&problems);
}

static void test_without_memory(void) {
    static char good[] = OAUTH
        "secret = '{{ env.SIGNING }}'\nalgorithms = ['HS256']\n"
        "[[server.oauth.issuers]]\nurl = 'https://b.example.com/k'\n"
        "expected_issuer = 'b'\n" HASH_LINE("a", HASH) "servers = ['a']\nexpires = 2999-01-01\n" ONE
                                                       "tools.t.scopes = ['x']\n";
    static char bad[] = "[server.oauth]\nurl = 'https://b.example.com/k'\nalgorithms = []\n"
                        "[server.tls]\nkey = 'k'\n[server.cors]\nallow_origins = 'x'\n"
                        "[server.csrf]\n" HASH_LINE("'a b'", "x") ONE "tools.t.scopes = ['x']\n";
    static char refused[] = "server.plaintext = true\n" ONE;
    test_torture(load_for_torture, good);
    test_torture(load_for_torture, bad);
    test_torture(load_for_torture, refused);
}

TEST_MAIN(TEST(test_defaults), TEST(test_listener_keys), TEST(test_caller_keys), TEST(test_issuers),
          TEST(test_issuers_in_the_array_alone), TEST(test_messages), TEST(test_anonymous),
          TEST(test_start), TEST(test_everybody), TEST(test_has_authentication),
          TEST(test_without_memory))
