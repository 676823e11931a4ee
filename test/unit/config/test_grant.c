/* auth.type "exchange" and "client_credentials": what is taken, what is told, what is refused, and
 * what is filled in. */
#include "loaded.h"

#define OAUTH                                                                                      \
    "[server.oauth]\nissuer = \"https://id.example\"\n[server.oauth.protected_resource]\n"         \
    "resource = \"https://gw.example\"\n"
#define KEYS                                                                                       \
    "[server.oauth]\nurl = \"https://id.example/jwks\"\nexpected_issuer = \"me\"\n"                \
    "protected_resource = { resource = \"https://gw.example\", "                                   \
    "authorization_servers = [\"https://id.example\"] }\n"
#define TWO                                                                                        \
    "[server.oauth]\nprotected_resource.resource = \"https://gw.example\"\n"                       \
    "[[server.oauth.issuers]]\nissuer = \"https://a.example\"\n"                                   \
    "[[server.oauth.issuers]]\nissuer = \"https://b.example\"\n"
#define WEB      "[mcp.servers.a]\nurl = \"https://x.example/mcp\"\n"
#define PLAIN    "[mcp.servers.a]\nurl = \"http://x.example/mcp\"\n"
#define LOCAL    "[mcp.servers.a]\nurl = \"http://127.0.0.1:1/mcp\"\n"
#define EXCHANGE "auth.type = \"exchange\"\n"
#define CLIENT   "auth.type = \"client_credentials\"\n"
#define ID       "auth.client_id = \"gw\"\n"
#define SECRET   "auth.client_secret = \"{{ env.TOKEN }}\"\n"
#define KEY      "auth.client_key_path = \"gw.pem\"\n"
#define ISSUER   "auth.issuer = \"https://as.example\"\n"
#define ENDPOINT "auth.token_endpoint = \"https://as.example/token\"\n"
#define A        "mcp.servers.a.auth."
#define FREE                                                                                       \
    A "type = \"client_credentials\" shows the gateway's credentials to the authorization server " \
      "that the server names first; auth.issuer = \"https://...\" pins it\n"
#define NOBODY                                                                                     \
    A "type = \"exchange\" serves nobody without [server.oauth]: only access tokens of its "       \
      "issuers are exchanged\n"
#define WHOM                                                                                       \
    A "type = \"exchange\" needs auth.issuer = \"https://...\", the authorization server that "    \
      "exchanges callers' tokens: [server.oauth] "
#define GOT " is for type = \"exchange\" and \"client_credentials\"\n"

struct row {
    const char *name, *toml, *problems; /* NULL: it is refused, however */
};

static void check_rows(const struct row *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct buf text CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
        struct loaded l = load(slice_from_cstr(rows[i].toml));
        test_row(rows[i].name);
        if (rows[i].problems == NULL)
            CHECK_INT(l.result, CONFIG_E_INVALID);
        else
            CHECK_STR(without_file(&l, &text), rows[i].problems);
        CHECK(slice_find(buf_slice(&l.text), SLICE("s3cr3t")) == SIZE_MAX);
        unload(&l);
    }
}

static void test_proofs(void) {
    static const struct row rows[] = {
        {"exchange by a secret", OAUTH WEB EXCHANGE ID SECRET, ""},
        {"exchange by a key", OAUTH WEB EXCHANGE ID KEY, ""},
        {"client by a secret", WEB CLIENT ID SECRET ISSUER, ""},
        {"client by a key", WEB CLIENT ID KEY ISSUER "auth.client_key_id = \"1\"\n", ""},
        {"nothing", WEB CLIENT ISSUER,
         "3:6: error: " A "type = \"client_credentials\" needs auth.client_id: the name that the "
         "authorization server has given the gateway\n"
         "3:6: error: " A "type = \"client_credentials\" needs auth.client_secret = \"{{ env.NAME "
         "}}\" or auth.client_key_path\n"},
        {"no name", OAUTH WEB EXCHANGE SECRET,
         "7:6: error: " A "type = \"exchange\" needs auth.client_id: the name that the "
         "authorization server has given the gateway\n"},
        {"two proofs", WEB CLIENT ID SECRET ISSUER KEY,
         "7:6: error: " A "client_key_path and client_secret prove the same; keep one of them\n"},
        {"the name of no key", WEB CLIENT ID SECRET ISSUER "auth.client_key_id = \"1\"\n",
         "7:6: error: " A "client_key_id names a key: it needs client_key_path\n"},
        {"Basic", WEB CLIENT ID SECRET ISSUER "auth.client_auth = \"client_secret_basic\"\n", ""},
        {"POST", WEB CLIENT ID SECRET ISSUER "auth.client_auth = \"client_secret_post\"\n", ""},
        {"auto", WEB CLIENT ID KEY ISSUER "auth.client_auth = \"auto\"\n", ""},
        {"private_key_jwt", WEB CLIENT ID KEY ISSUER "auth.client_auth = \"private_key_jwt\"\n",
         ""},
        {"Basic with a key", WEB CLIENT ID KEY ISSUER "auth.client_auth = \"client_secret_basic\"",
         "7:6: error: " A "client_auth is for a client_secret, and there is client_key_path: keep "
         "one of them, or write \"private_key_jwt\"\n"},
        {"POST with a key", WEB CLIENT ID KEY ISSUER "auth.client_auth = \"client_secret_post\"",
         "7:6: error: " A "client_auth is for a client_secret, and there is client_key_path: keep "
         "one of them, or write \"private_key_jwt\"\n"},
        {"private_key_jwt with a secret",
         WEB CLIENT ID SECRET ISSUER "auth.client_auth = \"private_key_jwt\"\n",
         "7:6: error: " A "client_auth is for a key: it needs client_key_path in place of "
         "client_secret\n"},
        {"another way", WEB CLIENT ID SECRET ISSUER "auth.client_auth = \"tls_client_auth\"\n",
         "7:20: error: " A "client_auth must be \"auto\", \"client_secret_basic\", "
         "\"client_secret_post\" or \"private_key_jwt\"\n"},
        {"an empty secret", WEB CLIENT ID ISSUER "auth.client_secret = \"{{ env.EMPTY }}\"\n",
         "6:22: error: " A "client_secret must be printable ASCII without line ends, at most 8192 "
         "bytes\n"},
        {"a secret and its line end", WEB CLIENT ID ISSUER "auth.client_secret = \"s3cr3t\\n\"\n",
         "6:22: error: " A "client_secret must be printable ASCII without line ends, at most 8192 "
         "bytes\n"},
        {"a name in UTF-8", WEB CLIENT SECRET ISSUER "auth.client_id = \"\xc3\xa9\"\n", NULL},
        {"a name with a space", WEB CLIENT SECRET ISSUER "auth.client_id = \"a b\"\n", ""},
        {"no path", WEB CLIENT ID ISSUER "auth.client_key_path = \"\"\n", NULL},
    };
    check_rows(rows, ARRAY_LEN(rows));
}

static void test_whom(void) {
    static const struct row rows[] = {
        {"whom the server names", WEB CLIENT ID SECRET, "3:6: warning: " FREE},
        {"an endpoint", WEB CLIENT ID SECRET ENDPOINT, ""},
        {"an endpoint for a key", WEB CLIENT ID KEY ENDPOINT,
         "5:6: error: " A "client_key_path needs auth.issuer beside auth.token_endpoint: what the "
         "key signs names the authorization server that it is for\n"},
        {"both for a key", WEB CLIENT ID KEY ENDPOINT ISSUER, ""},
        {"exchange, none", WEB EXCHANGE ID SECRET,
         "3:6: error: " WHOM "names none by its issuer\n3:6: warning: " NOBODY},
        {"exchange, none, but here", WEB EXCHANGE ID SECRET ISSUER, "3:6: warning: " NOBODY},
        {"exchange, keys alone", KEYS WEB EXCHANGE ID SECRET,
         "7:6: error: " WHOM "names none by its issuer\n"},
        {"exchange, several", TWO WEB EXCHANGE ID SECRET, "9:6: error: " WHOM "names several\n"},
        {"exchange, several, and one here", TWO WEB EXCHANGE ID SECRET ISSUER, ""},
        {"exchange at an endpoint", TWO WEB EXCHANGE ID SECRET ENDPOINT, ""},
        {"exchange at an endpoint, by a key", OAUTH WEB EXCHANGE ID KEY ENDPOINT, NULL},
        {"an issuer in the clear", WEB CLIENT ID SECRET "auth.issuer = \"http://as.example\"\n",
         "6:15: error: " A "issuer is no URL to use: it must begin with https:// (http:// is for "
         "hosts on this machine alone: whoever is on the way could put another answer there)\n"},
        {"an endpoint in the clear",
         WEB CLIENT ID SECRET "auth.token_endpoint = \"http://10.0.0.1/token\"\n",
         "6:23: error: " A "token_endpoint is no URL to use: it must begin with https:// (http:// "
         "is for hosts on this machine alone: secrets would be sent unencrypted)\n"},
        {"on this machine",
         WEB CLIENT ID SECRET "auth.issuer = \"http://localhost:1\"\n"
                              "auth.token_endpoint = \"http://[::1]:1/t?x=1\"\n",
         ""},
        {"an issuer with a query", WEB CLIENT ID SECRET "auth.issuer = \"https://as.example?x\"\n",
         "6:15: error: " A
         "issuer is no URL to use: it must not have a query (a ? and what follows)\n"},
        {"an issuer with a password",
         WEB CLIENT ID SECRET "auth.issuer = \"https://u:s3cr3t@as.example\"\n", NULL},
        {"an issuer that is none", WEB CLIENT ID SECRET "auth.issuer = \"as.example\"\n", NULL},
        {"[server.oauth] broken",
         "[server.oauth]\nissuer = \"https://id.example\"\n" WEB EXCHANGE ID SECRET,
         "1:9: error: server.oauth needs protected_resource.resource: the URL by which clients "
         "know the gateway, such as \"https://gw.example.com/mcp\"\n"},
        {"its issuer broken",
         "[server.oauth]\nissuer = \"https://id.example\"\nalgorithms = [\"HS256\"]\n"
         "protected_resource.resource = \"https://gw.example\"\n" WEB EXCHANGE ID SECRET,
         "3:15: error: server.oauth.algorithms[0] needs a secret of at least 32 bytes\n"},
    };
    check_rows(rows, ARRAY_LEN(rows));
}

static void test_conflicts(void) {
    static const struct row rows[] = {
        {"exchange and a token", OAUTH WEB EXCHANGE ID SECRET "auth.token = \"t\"\n",
         "10:6: error: " A "token and type = \"exchange\" are both about Authorization; keep one "
         "of them\n"},
        {"client and a token", WEB CLIENT ID SECRET ISSUER "auth.token = \"t\"\n",
         "7:6: error: " A "token and type = \"client_credentials\" are both about Authorization; "
         "keep one of them\n"},
        {"exchange and a rule",
         OAUTH WEB EXCHANGE ID SECRET
         "headers = [{ rule = \"insert\", name = \"AUTHORIZATION\", value = \"x\" }]\n",
         "7:6: error: " A "type = \"exchange\" and a rule of headers are both about Authorization; "
         "keep one of them\n"},
        {"client and a rule for all",
         "[mcp]\nheaders = [{ rule = \"insert\", name = \"Authorization\", value = \"x\" }]\n" WEB
             CLIENT ID SECRET ISSUER,
         "5:6: error: " A "type = \"client_credentials\" and a rule of headers are both about "
         "Authorization; keep one of them\n"},
        {"exchange, shared by all", OAUTH WEB EXCHANGE ID SECRET "share = \"all\"\n",
         "10:1: error: mcp.servers.a.share must not be \"all\" with auth.type = \"exchange\": what "
         "one caller's token has opened would serve all others\n"},
        {"exchange, by session", OAUTH WEB EXCHANGE ID SECRET "share = \"session\"\n", ""},
        {"client, shared by all", WEB CLIENT ID SECRET ISSUER "share = \"all\"\n", ""},
        {"exchange in the clear", OAUTH PLAIN EXCHANGE ID SECRET,
         "7:6: error: " A "type = \"exchange\" needs an https URL: callers' tokens would be sent "
         "unencrypted\n"},
        {"client in the clear", PLAIN CLIENT ID SECRET ISSUER,
         "3:6: error: " A "type = \"client_credentials\" needs an https URL: its tokens would be "
         "sent unencrypted\n"},
        {"client on this machine", LOCAL CLIENT ID SECRET ISSUER, ""},
        {"an audience for exchange", OAUTH WEB EXCHANGE ID SECRET "auth.audience = \"b\"\n", ""},
        {"an audience for client", WEB CLIENT ID SECRET ISSUER "auth.audience = \"b\"\n",
         "7:6: error: " A "audience is for type = \"forward\" and \"exchange\"; "
         "\"client_credentials\" has resource\n"},
        {"a resource that is no URL", WEB CLIENT ID SECRET ISSUER "auth.resource = \"urn:x:y\"\n",
         ""},
        {"a resource that is relative", WEB CLIENT ID SECRET ISSUER "auth.resource = \"mcp\"\n",
         "7:17: error: " A "resource must be an absolute URI without a fragment, such as "
         "\"https://mcp.example.com/mcp\"\n"},
        {"a resource with a fragment",
         WEB CLIENT ID SECRET ISSUER "auth.resource = \"https://x/#y\"\n", NULL},
        {"not for a child", "[mcp.servers.a]\ncmd = [\"x\"]\n" CLIENT ID SECRET, NULL},
    };
    check_rows(rows, ARRAY_LEN(rows));
}

/* A key that its type does not read would be a promise that nobody keeps. */
static void test_keys_of_other_types(void) {
    static const struct {
        const char *line, *key;
    } keys[] = {
        {ISSUER, "issuer"},
        {ENDPOINT, "token_endpoint"},
        {ID, "client_id"},
        {SECRET, "client_secret"},
        {KEY, "client_key_path"},
        {"auth.client_key_id = \"1\"\n", "client_key_id"},
        {"auth.client_auth = \"auto\"\n", "client_auth"},
        {"auth.resource = \"https://x\"\n", "resource"},
    };
    static const char *const types[] = {"", "auth.type = \"token\"\n",
                                        OAUTH WEB "auth.type = \"forward\"\n"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        for (size_t k = 0; k < ARRAY_LEN(types); k++) {
            struct buf toml CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
            struct buf wanted CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
            test_row(keys[i].key);
            buf_printf(&toml, "%s%s%s", k < 2 ? WEB : "", types[k], keys[i].line);
            buf_printf(&wanted, "error: " A "%s" GOT, keys[i].key);
            struct loaded l = load(buf_slice(&toml));
            CHECK_INT(l.problems.n_errors, 1);
            CHECK(slice_find(buf_slice(&l.text), buf_slice(&wanted)) != SIZE_MAX);
            unload(&l);
        }
    }
}

static const struct config_oauth_client *client_of(const struct loaded *l) {
    return &l->config->servers[0].auth_client;
}

static void test_values(void) {
    struct loaded l = load(SLICE(OAUTH WEB EXCHANGE ID SECRET));
    REQUIRE(l.result == 0);
    CHECK_INT(l.config->servers[0].auth_type, CONFIG_UPSTREAM_AUTH_EXCHANGE);
    CHECK_STR(client_of(&l)->issuer, "https://id.example"); /* of [server.oauth] */
    CHECK_STR(client_of(&l)->token_endpoint, "");
    CHECK_STR(client_of(&l)->client_id, "gw");
    CHECK_STR(client_of(&l)->client_secret, "s3cr3t");
    CHECK_STR(client_of(&l)->key_path, "");
    CHECK_INT(client_of(&l)->method, CONFIG_CLIENT_AUTH_AUTO);
    CHECK_STR(client_of(&l)->resource, "https://x.example/mcp");
    CHECK_STR(l.config->servers[0].auth_audience, ""); /* nothing is made up */
    unload(&l);

    l = load(SLICE(OAUTH WEB EXCHANGE ID KEY ISSUER "auth.audience = \"b\"\n"
                                                    "auth.scopes = [\"r\", \"w\"]\n"
                                                    "auth.resource = \"https://r.example\"\n"
                                                    "auth.client_key_id = \"k1\"\n"));
    REQUIRE(l.result == 0);
    CHECK_STR(client_of(&l)->issuer, "https://as.example"); /* and not that of [server.oauth] */
    CHECK_STR(client_of(&l)->key_path, "/etc/gw/gw.pem");
    CHECK_STR(client_of(&l)->key_id, "k1");
    CHECK_STR(client_of(&l)->resource, "https://r.example");
    CHECK_STR(l.config->servers[0].auth_audience, "b");
    CHECK_INT(l.config->servers[0].n_auth_scopes, 2);
    unload(&l);

    /* Who exchanges there may be another one than who issues: then nothing is filled in. */
    l = load(SLICE(OAUTH WEB EXCHANGE ID SECRET ENDPOINT));
    REQUIRE(l.result == 0);
    CHECK_STR(client_of(&l)->issuer, "");
    CHECK_STR(client_of(&l)->token_endpoint, "https://as.example/token");
    unload(&l);

    l = load(
        SLICE("[mcp.servers.a]\nurl = \"HTTPS://X.Example:443/mcp?key=1\"\n" CLIENT ID SECRET));
    REQUIRE(l.result == 0);
    CHECK_INT(l.config->servers[0].auth_type, CONFIG_UPSTREAM_AUTH_CLIENT);
    CHECK_STR(client_of(&l)->issuer, "");
    CHECK_STR(client_of(&l)->resource, "https://x.example/mcp"); /* and no secret of its query */
    unload(&l);
}

static void load_for_torture(void *arg) {
    (void)arg;
    struct loaded l = load(SLICE(OAUTH WEB EXCHANGE ID SECRET "auth.token = \"t\"\n"));
    CHECK(l.result == CONFIG_E_INVALID || l.result == -ENOMEM);
    unload(&l);
    l = load(SLICE(OAUTH WEB EXCHANGE ID SECRET));
    CHECK(l.result == 0 || l.result == -ENOMEM);
    unload(&l);
}

static void test_without_memory(void) {
    test_torture(load_for_torture, NULL);
}

TEST_MAIN(TEST(test_proofs), TEST(test_whom), TEST(test_conflicts), TEST(test_keys_of_other_types),
          TEST(test_values), TEST(test_without_memory))
