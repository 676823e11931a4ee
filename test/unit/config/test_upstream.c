/* [mcp.servers.X.tls] and auth.type = "forward": what is taken, what is told, what is refused. */
#include "loaded.h"

#define WEB   "[mcp.servers.a]\nurl = \"https://x.example/mcp\"\n"
#define PLAIN "[mcp.servers.a]\nurl = \"http://x.example/mcp\"\n"
#define LOCAL "[mcp.servers.a]\nurl = \"http://127.0.0.1:1/mcp\"\n"
#define OAUTH                                                                                      \
    "[server.oauth]\nissuer = \"https://id.example\"\n[server.oauth.protected_resource]\n"         \
    "resource = \"https://gw.example\"\n"
#define FORWARD "auth.type = \"forward\"\n"
#define RELAXED(place)                                                                             \
    place ": warning: mcp.servers.a.auth.type = \"forward\" sends callers' access tokens on, "     \
          "which the MCP specification forbids (basic/authorization); only tokens that name "      \
          "this server in their audience, too, are sent: auth.audience, or the URL where that is " \
          "not set\n"
#define TLS "3:5: error: mcp.servers.a.tls."

/* One text, all that is said of it. */
static const struct {
    const char *name, *toml, *problems;
} messages[] = {
    {"tls", WEB "tls = { verify_certs = true, ca_bundle = \"/etc/nexus/ca-bundle.crt\" }\n", ""},
    {"tls, empty", WEB "tls = {}\n", ""},
    {"nothing is verified", WEB "tls.verify_certs = false\n",
     "3:5: warning: mcp.servers.a.tls.verify_certs is false: any certificate is taken, and anybody "
     "on the way can read and change what is sent; for an authority of your own there is "
     "ca_bundle\n"},
    {"names are not", WEB "tls.accept_invalid_hostnames = true\n",
     "3:5: warning: mcp.servers.a.tls.accept_invalid_hostnames is true: whoever has a certificate "
     "for any name can stand in for the server\n"},
    {"names are", WEB "tls.accept_invalid_hostnames = false\n", ""},
    {"tls without TLS", PLAIN "tls.ca_bundle = \"/a\"\n",
     "3:1: error: mcp.servers.a.tls is for servers with an https URL: nothing of it would be so "
     "with http\n"},
    {"tls for a child", "[mcp.servers.a]\ncmd = [\"x\"]\ntls.ca_bundle = \"/a\"\n",
     "3:1: error: mcp.servers.a.tls is for servers with url, and this one has cmd\n"},
    {"both names", WEB "tls.root_ca_cert_path = \"/a\"\ntls.ca_bundle = \"/a\"\n",
     TLS "root_ca_cert_path is another name for ca_bundle; keep one of them, a file may hold "
         "several\n"},
    {"a certificate without key", WEB "tls.client_cert_path = \"/a\"\n",
     TLS "client_cert_path needs client_key_path\n"},
    {"a key without certificate", WEB "tls.client_key_path = \"/a\"\n",
     TLS "client_key_path needs client_cert_path\n"},
    {"an unknown key", WEB "tls.ca_bundel = \"/a\"\n",
     "3:5: error: unknown key mcp.servers.a.tls.ca_bundel (did you mean ca_bundle?)\n"},
    {"a type", WEB "tls.verify_certs = \"no\"\n",
     "3:20: error: mcp.servers.a.tls.verify_certs must be true or false\n"},

    {"forward", OAUTH WEB FORWARD, RELAXED("7:6")},
    {"forward without issuers", WEB FORWARD,
     "3:6: warning: mcp.servers.a.auth.type = \"forward\" serves nobody without [server.oauth]: "
     "only access tokens of its issuers are sent on\n" RELAXED("3:6")},
    {"forward, its own audience", OAUTH WEB FORWARD "auth.audience = \"internal\"\n",
     RELAXED("7:6")},
    {"forward on this machine", OAUTH LOCAL FORWARD, RELAXED("7:6")},
    {"forward in the clear", OAUTH PLAIN FORWARD,
     "7:6: error: mcp.servers.a.auth.type = \"forward\" needs an https URL: callers' tokens would "
     "be sent unencrypted\n" RELAXED("7:6")},
    {"forward, shared by all", OAUTH WEB FORWARD "share = \"all\"\n",
     RELAXED("7:6") "8:1: error: mcp.servers.a.share must not be \"all\" "
                    "with auth.type = \"forward\": what one caller's "
                    "token has opened would serve all others\n"},
    {"forward, by session", OAUTH WEB FORWARD "share = \"session\"\n", RELAXED("7:6")},
    {"forward and a token", OAUTH WEB FORWARD "auth.token = \"{{ env.TOKEN }}\"\n",
     RELAXED("7:6") "8:6: error: mcp.servers.a.auth.token and type = "
                    "\"forward\" are both about Authorization; keep one of them\n"},
    {"forward and a rule",
     OAUTH WEB FORWARD "headers = [{ rule = \"remove\", name = \"authorization\" }]\n",
     "7:6: error: mcp.servers.a.auth.type = \"forward\" and a rule of headers are both about "
     "Authorization; keep one of them\n" RELAXED("7:6")},
    {"token", WEB "auth = { type = \"token\", token = \"{{ env.TOKEN }}\" }\n", ""},
    {"another type", WEB "auth.type = \"basic\"\n",
     "3:13: error: mcp.servers.a.auth.type must be \"token\", \"forward\", \"exchange\" or "
     "\"client_credentials\"\n"},
    {"an audience alone", WEB "auth.audience = \"x\"\n",
     "3:6: error: mcp.servers.a.auth.audience is for type = \"forward\" and \"exchange\"; "
     "\"client_credentials\" has resource\n"},
    {"scopes alone", WEB "auth.scopes = [\"x\"]\n",
     "3:6: error: mcp.servers.a.auth.scopes is for type = \"forward\", \"exchange\" and "
     "\"client_credentials\"\n"},
    {"a scope that is two", OAUTH WEB FORWARD "auth.scopes = [\"x y\"]\n", NULL},
    {"an empty audience", OAUTH WEB FORWARD "auth.audience = \"\"\n", NULL},
};

static void test_messages(void) {
    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        struct buf text CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
        struct loaded l = load(slice_from_cstr(messages[i].toml));
        test_row(messages[i].name);
        if (messages[i].problems == NULL)
            CHECK_INT(l.result, CONFIG_E_INVALID);
        else
            CHECK_STR(without_file(&l, &text), messages[i].problems);
        CHECK(slice_find(buf_slice(&l.text), SLICE("s3cr3t")) == SIZE_MAX);
        unload(&l);
    }
}

/* The URL as a resource is named by. */
static void test_audience(void) {
    static const char *const rows[][2] = {
        {"https://a.example/mcp", "https://a.example/mcp"},
        {"HTTPS://A.Example/MCP", "https://a.example/MCP"},
        {"https://a.example:443/mcp", "https://a.example/mcp"},
        {"https://a.example:8443/mcp/", "https://a.example:8443/mcp/"},
        {"https://a.example", "https://a.example"},
        {"https://a.example/", "https://a.example"},
        {"https://a.example/mcp?key=1&b", "https://a.example/mcp"},
        {"https://[2001:DB8::1]:443/mcp", "https://[2001:db8::1]/mcp"},
        {"http://127.0.0.1:80/mcp", "http://127.0.0.1/mcp"},
        {"http://127.0.0.1:443/mcp", "http://127.0.0.1:443/mcp"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf toml CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        test_row(rows[i][0]);
        buf_printf(&toml, "%s[mcp.servers.a]\nurl = \"%s\"\n" FORWARD, OAUTH, rows[i][0]);
        struct loaded l = load(buf_slice(&toml));
        REQUIRE(l.result == 0);
        CHECK_INT(l.config->servers[0].auth_type, CONFIG_UPSTREAM_AUTH_FORWARD);
        CHECK_STR(l.config->servers[0].auth_audience, rows[i][1]);
        unload(&l);
    }
}

static void test_values(void) {
    struct loaded l = load(SLICE(
        WEB "[mcp.servers.a.tls]\nroot_ca_cert_path = \"roots.pem\"\nclient_cert_path = \"/c\"\n"
            "client_key_path = \"k\"\n[mcp.servers.b]\nurl = \"https://b\"\n"));
    REQUIRE(l.result == 0 && l.config->n_servers == 2);
    const struct config_upstream_tls *a = &l.config->servers[0].tls, *b = &l.config->servers[1].tls;
    CHECK(a->is_set && a->verify_certs && !a->accept_invalid_hostnames);
    CHECK_STR(a->ca_bundle, "/etc/gw/roots.pem");
    CHECK_STR(a->client_cert, "/c");
    CHECK_STR(a->client_key, "/etc/gw/k");
    CHECK(a->ca_bundle.ptr[a->ca_bundle.len] == '\0' &&
          a->client_key.ptr[a->client_key.len] == '\0');
    CHECK(!b->is_set && b->verify_certs);
    CHECK_STR(b->ca_bundle, "");
    CHECK_INT(l.config->servers[0].auth_type, CONFIG_UPSTREAM_AUTH_TOKEN);
    CHECK_STR(l.config->servers[0].auth_audience, "");
    unload(&l);
}

/* Both names are one key, for a reload, too. */
static void test_names_are_alike(void) {
    struct loaded a = load(SLICE(WEB "tls.ca_bundle = \"/a\"\n")),
                  b = load(SLICE(WEB "tls.root_ca_cert_path = \"/a\"\n"));
    REQUIRE(a.result == 0 && b.result == 0);
    CHECK(config_server_runs_alike(&a.config->servers[0], &b.config->servers[0]));
    unload(&a);
    unload(&b);
}

TEST_MAIN(TEST(test_messages), TEST(test_audience), TEST(test_values), TEST(test_names_are_alike))
