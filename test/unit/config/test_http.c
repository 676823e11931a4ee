/* Upstreams over HTTP: their keys, rules for headers, and that no secret is ever told. */
#include <errno.h>

#include "http/message.h"
#include "loaded.h"
#include "options.h"

#define WEB        "[mcp.servers.a]\nurl = \"https://x.example/mcp\"\n"
#define PLAIN      "[mcp.servers.a]\nurl = \"http://x.example/mcp\"\n"
#define RULE(text) WEB "headers = [{ " text " }]\n"

static void test_defaults(void) {
    struct loaded l = load(SLICE(WEB));
    CHECK_STR(buf_slice(&l.text), "");
    REQUIRE(l.result == 0 && l.config->n_servers == 1);
    const struct config_server *s = &l.config->servers[0];
    CHECK_STR(s->url, "https://x.example/mcp");
    CHECK(s->url.ptr[s->url.len] == '\0');
    CHECK_INT(s->protocol, CONFIG_PROTOCOL_AUTO);
    CHECK_STR(s->auth_token, "");
    CHECK_STR(s->proxy, "");
    CHECK_INT(s->n_headers, 0);
    CHECK_INT(s->connect_timeout_ms, LIMIT_CONNECT_MS);
    CHECK_INT(s->n_cmd, 0);
    CHECK_INT(s->share, CONFIG_SHARE_PRINCIPAL);
    CHECK_INT(s->max_instances, 1000);
    CHECK_INT(s->idle_timeout_ms, 600000);
    CHECK_INT(s->startup_timeout_ms, 30000);
    CHECK_INT(s->restart_initial_ms, 500);
    CHECK_INT(s->restart_max_ms, 60000);
    CHECK_INT(s->call_idle_timeout_ms, 60000);
    CHECK_INT(s->call_total_timeout_ms, 1800000);
    CHECK_INT(l.config->n_headers, 0);
    unload(&l);
}

static void check_rule(const struct config_header_rule *rule, enum config_header_rule_kind kind,
                       const char *name, const char *value, const char *rename) {
    CHECK_INT(rule->kind, kind);
    CHECK_STR(rule->name, name);
    CHECK_STR(rule->value, value);
    CHECK_STR(rule->rename, rename);
    CHECK(rule->name.ptr[rule->name.len] == '\0' && rule->value.ptr[rule->value.len] == '\0' &&
          rule->rename.ptr[rule->rename.len] == '\0');
}

static void test_every_key(void) {
    struct loaded l =
        load(SLICE("[mcp.servers.a]\n"
                   "url = \"http://LOCALHOST:9000/{{ env.SHARE }}?a=b\"\n"
                   "protocol = \"streamable-http\"\n"
                   "auth.token = \"{{ env.TOKEN }}\"\n"
                   "proxy = \"http://u:{{ env.TOKEN }}@[::1]:3128/\"\n"
                   "connect_timeout = \"100ms\"\n"
                   "share = \"session\"\n"
                   "max_instances = 3\n"
                   "idle_timeout = \"0s\"\n"
                   "startup_timeout = \"1s\"\n"
                   "restart = { initial = \"1s\", max = \"2s\" }\n"
                   "timeout = \"2m\"\n"
                   "max_timeout = \"4m\"\n"
                   "[[mcp.servers.a.headers]]\n"
                   "rule = \"insert\"\n"
                   "name = \"X-Api-Key\"\n"
                   "value = \"{{ env.TOKEN }}\"\n"
                   "[[mcp.servers.a.headers]]\n"
                   "rule = \"remove\"\n"
                   "name = \"x-unwanted\"\n"
                   "[mcp.servers.b]\n"
                   "url = \"https://b\"\n"
                   "protocol = \"auto\"\n"
                   "proxy = \"none\"\n"
                   "connect_timeout = \"5m\"\n"
                   "headers = [{ rule = \"insert\", name = \"Cookie\", value = \"\" }, "
                   "{ rule = \"insert\", name = \"Authorization\", value = \"Basic\\teA==\" }]\n"
                   "[[mcp.headers]]\n"
                   "rule = \"forward\"\n"
                   "name = \"X-Request-Id\"\n"
                   "[[mcp.headers]]\n"
                   "rule = \"forward\"\n"
                   "name = \"X-A\"\n"
                   "default = \"d e\"\n"
                   "rename = \"X-B\"\n"
                   "[[mcp.headers]]\n"
                   "rule = \"rename_duplicate\"\n"
                   "name = \"X-C\"\n"
                   "rename = \"{{ env.SHARE }}\"\n"));
    CHECK_STR(buf_slice(&l.text), "");
    REQUIRE(l.result == 0 && l.config->n_servers == 2);
    const struct config_server *a = &l.config->servers[0], *b = &l.config->servers[1];
    CHECK_STR(a->url, "http://LOCALHOST:9000/all?a=b");
    CHECK_INT(a->protocol, CONFIG_PROTOCOL_STREAMABLE_HTTP);
    CHECK_STR(a->auth_token, "s3cr3t");
    CHECK_STR(a->proxy, "http://u:s3cr3t@[::1]:3128/");
    CHECK_INT(a->connect_timeout_ms, 100);
    CHECK_INT(a->share, CONFIG_SHARE_SESSION);
    CHECK_INT(a->max_instances, 3);
    CHECK_INT(a->idle_timeout_ms, 0);
    CHECK_INT(a->startup_timeout_ms, 1000);
    CHECK_INT(a->restart_initial_ms, 1000);
    CHECK_INT(a->restart_max_ms, 2000);
    CHECK_INT(a->call_idle_timeout_ms, 120000);
    CHECK_INT(a->call_total_timeout_ms, 240000);
    REQUIRE(a->n_headers == 2 && b->n_headers == 2 && l.config->n_headers == 3);
    check_rule(&a->headers[0], CONFIG_HEADER_INSERT, "X-Api-Key", "s3cr3t", "");
    check_rule(&a->headers[1], CONFIG_HEADER_REMOVE, "x-unwanted", "", "");
    CHECK_INT(b->protocol, CONFIG_PROTOCOL_AUTO);
    CHECK_STR(b->proxy, "none");
    CHECK_INT(b->connect_timeout_ms, 300000);
    check_rule(&b->headers[0], CONFIG_HEADER_INSERT, "Cookie", "", "");
    check_rule(&b->headers[1], CONFIG_HEADER_INSERT, "Authorization", "Basic\teA==", "");
    const struct config_header_rule *all = l.config->headers;
    check_rule(&all[0], CONFIG_HEADER_FORWARD, "X-Request-Id", "", "X-Request-Id");
    check_rule(&all[1], CONFIG_HEADER_FORWARD, "X-A", "d e", "X-B");
    check_rule(&all[2], CONFIG_HEADER_RENAME_DUPLICATE, "X-C", "", "all");
    unload(&l);
}

#define NO_URL "2:7: error: mcp.servers.a.url is no URL to use: "
#define NO_PROXY                                                                                   \
    "3:9: error: mcp.servers.a.proxy must be \"none\" or a URL such as "                           \
    "\"http://proxy.example.com:3128\": "
#define WITH_URL(url) "[mcp.servers.a]\nurl = \"" url "\"\n"

/* One text, all that is said of it. */
static const struct {
    const char *name, *toml, *problems;
} messages[] = {
    /* url */
    {"an empty url", WITH_URL(""), NO_URL "the scheme is missing\n"},
    {"a url without scheme", WITH_URL("x.example/mcp"), NO_URL "the scheme is missing\n"},
    {"a url of another scheme", WITH_URL("ws://x.example/mcp"),
     NO_URL "the scheme must be http or https\n"},
    {"a file", WITH_URL("file:///etc/passwd"), NO_URL "the scheme must be http or https\n"},
    {"a url without host", WITH_URL("http:///mcp"), NO_URL "the host is missing\n"},
    {"a url with a name and a password", WITH_URL("https://u:{{ env.TOKEN }}@x.example/"),
     NO_URL "it must not hold a user name or password; a token goes into auth.token, anything "
            "else into a rule of headers\n"},
    {"a url with an empty name", WITH_URL("https://@x.example/"),
     NO_URL "it must not hold a user name or password; a token goes into auth.token, anything "
            "else into a rule of headers\n"},
    {"a url with a fragment", WITH_URL("https://x.example/mcp#a"),
     NO_URL "it must not have a fragment (a # and what follows)\n"},
    {"a url with an empty fragment", WITH_URL("https://x.example/mcp#"),
     NO_URL "it must not have a fragment (a # and what follows)\n"},
    {"a url with a space", WITH_URL("https://x.example/a b"), NO_URL "the path is not valid\n"},
    {"a url with a line end", WITH_URL("https://x.example/a\\r\\nHost: b"),
     NO_URL "the path is not valid\n"},
    {"a url with a bad port", WITH_URL("https://x.example:99999/"),
     NO_URL "the port is not a number from 1 to 65535\n"},
    {"an address that is written as a number", WITH_URL("http://2130706433/"),
     NO_URL "a numeric host must be an IPv4 address of four numbers\n"},
    {"a url that is no string", "[mcp.servers.a]\nurl = 1\n",
     "2:7: error: mcp.servers.a.url must be a string\n"},
    {"a scheme in capitals", WITH_URL("HTTPS://x.example"), ""},
    /* protocol */
    {"HTTP+SSE", WEB "protocol = \"sse\"\n", ""},
    {"a second address", WEB "message_url = \"https://x.example/m\"\n", ""},
    {"a second address of HTTP+SSE", WEB "protocol = \"sse\"\nmessage_url = \"http://[::1]/m?a\"\n",
     ""},
    {"a second address of another transport",
     WEB "protocol = \"streamable-http\"\nmessage_url = \"https://x.example/m\"\n",
     "4:1: error: mcp.servers.a.message_url is for HTTP+SSE, and protocol says "
     "\"streamable-http\"; keep one of them\n"},
    {"a second address that is none", WEB "message_url = \"/m\"\n",
     "3:15: error: mcp.servers.a.message_url is no URL to use: the scheme is missing\n"},
    {"a second address with a password", WEB "message_url = \"https://u:p@x.example/m\"\n",
     "3:15: error: mcp.servers.a.message_url is no URL to use: it must not hold a user name or "
     "password; a token goes into auth.token, anything else into a rule of headers\n"},
    {"a second address that anybody can listen to",
     WEB "message_url = \"http://x.example/m\"\nauth.token = \"t\"\n",
     "4:6: warning: mcp.servers.a.auth.token is sent unencrypted; use https\n"},
    {"TLS of the second address alone",
     "[mcp.servers.a]\nurl = \"http://127.0.0.1/sse\"\nmessage_url = \"https://x.example/m\"\n"
     "tls.ca_bundle = \"ca.pem\"\n",
     ""},
    {"another protocol", WEB "protocol = \"http\"\n",
     "3:12: error: mcp.servers.a.protocol must be \"auto\", \"streamable-http\" or \"sse\"\n"},
    {"HTTP+SSE in a server that is switched off",
     WEB "[mcp.servers.b]\nenabled = false\nurl = \"{{ env.NONE }}\"\nprotocol = \"sse\"\n"
         "message_url = \"x\"\ntls.verify_certs = true\nheaders = [{ rule = \"x\", nam = 1 }]\n",
     "9:26: error: unknown key mcp.servers.b.headers[0].nam (did you mean name?)\n"},
    /* auth, tls */
    {"an empty token", WEB "auth.token = \"{{ env.EMPTY }}\"\n",
     "3:14: error: mcp.servers.a.auth.token must not be empty\n"},
    {"a token with a space", WEB "auth.token = \"Bearer {{ env.TOKEN }}\"\n",
     "3:14: error: mcp.servers.a.auth.token must be printable ASCII without spaces and line "
     "ends\n"},
    {"a token with a line end", WEB "auth.token = \"{{ env.TOKEN }}\\n\"\n",
     "3:14: error: mcp.servers.a.auth.token must be printable ASCII without spaces and line "
     "ends\n"},
    {"a token that is not ASCII", WEB "auth.token = \"{{ env.TOKEN }}\xc3\xa4\"\n",
     "3:14: error: mcp.servers.a.auth.token must be printable ASCII without spaces and line "
     "ends\n"},
    {"a token that is not set", WEB "auth.token = \"{{ env.NONE }}\"\n",
     "3:14: error: mcp.servers.a.auth.token needs the environment variable NONE, which is not "
     "set (a default is written {{ env.NONE | default(\"...\") }})\n"},
    {"the token of the caller", WEB "auth.type = \"forward\"\n",
     "3:6: warning: mcp.servers.a.auth.type = \"forward\" serves nobody without [server.oauth]: "
     "only access tokens of its issuers are sent on\n"
     "3:6: warning: mcp.servers.a.auth.type = \"forward\" sends callers' access tokens on, which "
     "the MCP specification forbids (basic/authorization); only tokens that name "
     "this server in their audience, too, are sent: auth.audience, or the URL where that is not "
     "set\n"},
    {"a slip in auth", WEB "auth.tokn = \"{{ env.TOKEN }}\"\n",
     "3:6: error: unknown key mcp.servers.a.auth.tokn (did you mean token?)\n"},
    {"an unknown key of auth", WEB "auth.realm = \"x\"\n",
     "3:6: error: unknown key mcp.servers.a.auth.realm\n"},
    {"auth that is no table", WEB "auth = \"{{ env.TOKEN }}\"\n",
     "3:8: error: mcp.servers.a.auth must be a table\n"},
    {"an auth without anything", WEB "auth = {}\n", ""},
    {"certificates", WEB "tls = { verify_certs = false }\n",
     "3:9: warning: mcp.servers.a.tls.verify_certs is false: any certificate is taken, and anybody "
     "on the way can read and change what is sent; for an authority of your own there is "
     "ca_bundle\n"},
    /* proxy, connect_timeout */
    {"an empty proxy", WEB "proxy = \"\"\n", NO_PROXY "the scheme is missing\n"},
    {"a proxy without scheme", WEB "proxy = \"p:1\"\n", NO_PROXY "the scheme must be http\n"},
    {"a proxy over TLS", WEB "proxy = \"https://u:{{ env.TOKEN }}@p:1\"\n",
     NO_PROXY "the scheme must be http\n"},
    {"a SOCKS proxy", WEB "proxy = \"socks5://p:1\"\n", NO_PROXY "the scheme must be http\n"},
    {"a proxy with a path", WEB "proxy = \"http://u:{{ env.TOKEN }}@p:1/a\"\n",
     NO_PROXY "it must not have a path\n"},
    {"a proxy with a query", WEB "proxy = \"http://p:1/?\"\n",
     NO_PROXY "it must not have a query or a fragment\n"},
    {"a proxy with a fragment", WEB "proxy = \"http://p:1#\"\n",
     NO_PROXY "it must not have a query or a fragment\n"},
    {"a proxy with a password that is none", WEB "proxy = \"http://u:{{ env.TOKEN }}%@p:1\"\n",
     NO_PROXY "the user information is not valid\n"},
    {"a proxy in another case of none", WEB "proxy = \"NONE\"\n",
     NO_PROXY "the scheme is missing\n"},
    {"times of connecting",
     WEB "connect_timeout = \"99ms\"\n[mcp.servers.b]\nurl = \"https://b\"\n"
         "connect_timeout = \"301s\"\n",
     "3:19: error: mcp.servers.a.connect_timeout must be from 100ms to 5m\n"
     "6:19: error: mcp.servers.b.connect_timeout must be from 100ms to 5m\n"},
    {"times that do not fit together", WEB "timeout = \"2m\"\nmax_timeout = \"1m\"\n",
     "3:11: error: mcp.servers.a.timeout must not be longer than max_timeout\n"},
    /* the two kinds */
    {"keys of HTTP beside cmd",
     "[mcp.servers.a]\ncmd = [\"x\"]\nauth.token = \"{{ env.NONE }}\"\nprotocol = \"sse\"\n"
     "proxy = \"\"\nheaders = 1\nconnect_timeout = 1\ntls = {}\nmessage_url = \"x\"\n",
     "3:1: error: mcp.servers.a.auth is for servers with url, and this one has cmd\n"
     "4:1: error: mcp.servers.a.protocol is for servers with url, and this one has cmd\n"
     "5:1: error: mcp.servers.a.proxy is for servers with url, and this one has cmd\n"
     "6:1: error: mcp.servers.a.headers is for servers with url, and this one has cmd\n"
     "7:1: error: mcp.servers.a.connect_timeout is for servers with url, and this one has cmd\n"
     "8:1: error: mcp.servers.a.tls is for servers with url, and this one has cmd\n"
     "9:1: error: mcp.servers.a.message_url is for servers with url, and this one has cmd\n"},
    {"keys of children beside url",
     WEB "env = { A = 1 }\ncwd = \"\"\nuser = \"x\"\nstderr.fil = 1\nisolation = \"none\"\n"
         "inherit_env = [\"A\"]\n",
     "3:1: error: mcp.servers.a.env is for servers with cmd, and this one has url\n"
     "4:1: error: mcp.servers.a.cwd is for servers with cmd, and this one has url\n"
     "5:1: error: mcp.servers.a.user is for servers with cmd, and this one has url\n"
     "6:1: error: mcp.servers.a.stderr is for servers with cmd, and this one has url\n"
     "7:1: error: mcp.servers.a.isolation is for servers with cmd, and this one has url\n"
     "8:1: error: mcp.servers.a.inherit_env is for servers with cmd, and this one has url\n"},
    {"both, with keys of both", WEB "cmd = [\"x\"]\ncwd = \"/\"\nauth.token = \"x\"\n",
     "2:1: error: mcp.servers.a has both cmd and url; keep one of them\n"},
    {"one of each after the other",
     WEB "[mcp.servers.b]\ncmd = [\"x\"]\ncwd = \"/\"\n"
         "[mcp.servers.c]\nurl = \"https://c\"\nproxy = \"none\"\n",
     ""},
    /* headers: their form */
    {"rules that are no array", WEB "headers = { rule = \"remove\", name = \"X\" }\n",
     "3:1: error: mcp.servers.a.headers must be an array of tables\n"},
    {"a rule that is no table", WEB "headers = [{ rule = \"remove\", name = \"X\" }, \"X: y\"]\n",
     "3:45: error: mcp.servers.a.headers[1] must be a table\n"},
    {"global rules that are none", "mcp.headers = true\n" WEB,
     "1:15: error: mcp.headers must be an array of tables\n"},
    {"no rules", "mcp.headers = []\n" WEB "headers = []\n", ""},
    {"nothing in a rule", "[[mcp.headers]]\n" WEB,
     "1:1: error: mcp.headers[0] needs rule\n1:1: error: mcp.headers[0] needs name\n"},
    {"an unknown rule", RULE("rule = \"insrt\", name = \"X\", value = \"{{ env.TOKEN }}\""),
     "3:21: error: mcp.servers.a.headers[0].rule must be \"insert\", \"remove\", \"forward\" or "
     "\"rename_duplicate\"\n"},
    {"a slip in a key", RULE("rule = \"insert\", name = \"X\", valeu = \"{{ env.TOKEN }}\""),
     "3:43: error: unknown key mcp.servers.a.headers[0].valeu (did you mean value?)\n"},
    {"a pattern", RULE("rule = \"forward\", pattern = \"^X-\""),
     "3:32: error: mcp.servers.a.headers[0].pattern is not known: list the headers by name, each "
     "in a rule of its own\n"},
    {"a slip near to pattern suggests nothing", RULE("rule = \"forward\", patern = \"^X-\""),
     "3:32: error: unknown key mcp.servers.a.headers[0].patern\n"},
    {"types", RULE("rule = 1, name = [\"X\"], value = 2, default = 3.0, rename = true"),
     "3:21: error: mcp.servers.a.headers[0].rule must be a string\n"
     "3:31: error: mcp.servers.a.headers[0].name must be a string\n"
     "3:46: error: mcp.servers.a.headers[0].value must be a string\n"
     "3:59: error: mcp.servers.a.headers[0].default must be a string\n"
     "3:73: error: mcp.servers.a.headers[0].rename must be a string\n"},
    /* what fits a rule */
    {"insert without value", RULE("rule = \"insert\", name = \"X\""),
     "3:12: error: mcp.servers.a.headers[0] needs value\n"},
    {"insert with more",
     RULE("rule = \"insert\", name = \"X\", value = \"y\", default = \"z\", rename = \"Y\""),
     "3:56: error: mcp.servers.a.headers[0].default has no meaning with rule = \"insert\"\n"
     "3:71: error: mcp.servers.a.headers[0].rename has no meaning with rule = \"insert\"\n"},
    {"remove with more",
     RULE("rule = \"remove\", name = \"X\", value = \"y\", default = \"z\", rename = \"Y\""),
     "3:43: error: mcp.servers.a.headers[0].value has no meaning with rule = \"remove\"\n"
     "3:56: error: mcp.servers.a.headers[0].default has no meaning with rule = \"remove\"\n"
     "3:71: error: mcp.servers.a.headers[0].rename has no meaning with rule = \"remove\"\n"},
    {"forward with a value", RULE("rule = \"forward\", name = \"X\", value = \"y\""),
     "3:44: error: mcp.servers.a.headers[0].value has no meaning with rule = \"forward\"\n"},
    {"rename_duplicate without the second name", RULE("rule = \"rename_duplicate\", name = \"X\""),
     "3:12: error: mcp.servers.a.headers[0] needs rename\n"},
    {"rename_duplicate with the same name",
     RULE("rule = \"rename_duplicate\", name = \"X-Y\", rename = \"x-y\""),
     "3:64: error: mcp.servers.a.headers[0].rename must be another name\n"},
    {"forward under the same name", RULE("rule = \"forward\", name = \"X-Y\", rename = \"x-y\""),
     ""},
    /* names */
    {"an empty name", RULE("rule = \"remove\", name = \"\""),
     "3:38: error: mcp.servers.a.headers[0].name must be the name of a header: letters, digits, "
     "'-' and '_', at most 256\n"},
    {"a name with a colon", RULE("rule = \"insert\", name = \"X: a\", value = \"b\""),
     "3:38: error: mcp.servers.a.headers[0].name must be the name of a header: letters, digits, "
     "'-' and '_', at most 256\n"},
    {"a second line in a name", RULE("rule = \"forward\", name = \"X\", rename = \"X\\r\\nHost\""),
     "3:53: error: mcp.servers.a.headers[0].rename must be the name of a header: letters, digits, "
     "'-' and '_', at most 256\n"},
    {"credentials of a caller",
     "[[mcp.headers]]\nrule = \"forward\"\nname = \"authorization\"\n"
     "[[mcp.headers]]\nrule = \"forward\"\nname = \"X-User-Token\"\nrename = \"Authorization\"\n"
     "[[mcp.headers]]\nrule = \"rename_duplicate\"\nname = \"COOKIE\"\nrename = \"X-C\"\n"
     "[[mcp.headers]]\nrule = \"rename_duplicate\"\nname = \"X-C\"\nrename = \"Cookie\"\n" WEB,
     "3:8: error: mcp.headers[0].name is for credentials, and those of a caller are sent to no "
     "server\n"
     "7:10: error: mcp.headers[1].rename is for credentials, and those of a caller are sent to no "
     "server\n"
     "10:8: error: mcp.headers[2].name is for credentials, and those of a caller are sent to no "
     "server\n"
     "15:10: error: mcp.headers[3].rename is for credentials, and those of a caller are sent to "
     "no server\n"},
    {"a token and its header",
     WEB "auth.token = \"{{ env.TOKEN }}\"\nheaders = [{ rule = \"insert\", name = "
         "\"AUTHORIZATION\", value = \"{{ env.TOKEN }}\" }]\n",
     "3:6: error: mcp.servers.a.auth.token and a rule of headers are both about Authorization; "
     "keep one of them\n"},
    {"a token and a rule that takes it away",
     WEB "auth.token = \"x\"\nheaders = [{ rule = \"remove\", name = \"authorization\" }]\n",
     "3:6: error: mcp.servers.a.auth.token and a rule of headers are both about Authorization; "
     "keep one of them\n"},
    {"a token and a rule that is refused anyway",
     WEB "auth.token = \"x\"\nheaders = [{ rule = \"forward\", name = \"Authorization\" }]\n",
     "4:39: error: mcp.servers.a.headers[0].name is for credentials, and those of a caller are "
     "sent to no server\n"},
    {"a token and a global rule",
     WEB "auth.token = \"{{ env.TOKEN }}\"\n[[mcp.headers]]\nrule = \"insert\"\nname = "
         "\"Authorization\"\nvalue = \"{{ env.TOKEN }}\"\n[mcp.servers.b]\nurl = \"https://b\"\n",
     "3:6: error: mcp.servers.a.auth.token and a rule of mcp.headers are both about "
     "Authorization; keep one of them\n"},
    /* values */
    {"a second header in a value",
     RULE("rule = \"insert\", name = \"X\", value = \"{{ env.TOKEN }}\\r\\nHost: b\""),
     "3:51: error: mcp.servers.a.headers[0].value must be printable ASCII without line ends\n"},
    {"a line end in a default",
     RULE("rule = \"forward\", name = \"X\", default = \"{{ env.TOKEN }}\\n\""),
     "3:54: error: mcp.servers.a.headers[0].default must be printable ASCII without line ends\n"},
    {"NUL in a value", RULE("rule = \"insert\", name = \"X\", value = \"a\\u0000\""),
     "3:51: error: mcp.servers.a.headers[0].value must not hold the character U+0000\n"},
    {"spaces around a value", RULE("rule = \"insert\", name = \"X\", value = \" a\""),
     "3:51: error: mcp.servers.a.headers[0].value must not begin or end with a space or tab\n"},
    {"a value from a variable that is not set",
     RULE("rule = \"insert\", name = \"X\", value = \"{{ env.NONE }}\""),
     "3:51: error: mcp.servers.a.headers[0].value needs the environment variable NONE, which is "
     "not set (a default is written {{ env.NONE | default(\"...\") }})\n"},
    /* unencrypted */
    {"a token over http", PLAIN "auth.token = \"{{ env.TOKEN }}\"\n",
     "3:6: warning: mcp.servers.a.auth.token is sent unencrypted; use https\n"},
    {"headers over http",
     PLAIN "[[mcp.servers.a.headers]]\nrule = \"insert\"\nname = \"X-Plain\"\nvalue = \"v\"\n"
           "[[mcp.servers.a.headers]]\nrule = \"insert\"\nname = \"authorization\"\nvalue = \"v\"\n"
           "[[mcp.servers.a.headers]]\nrule = \"insert\"\nname = \"Cookie\"\nvalue = \"v\"\n"
           "[[mcp.servers.a.headers]]\nrule = \"insert\"\nname = \"X-API-KEY\"\nvalue = \"v\"\n"
           "[[mcp.servers.a.headers]]\nrule = \"insert\"\nname = \"Private-Token\"\nvalue = \"v\"\n"
           "[[mcp.servers.a.headers]]\nrule = \"insert\"\nname = \"X-Key\"\nvalue = \"\"\n"
           "[[mcp.servers.a.headers]]\nrule = \"remove\"\nname = \"X-Key\"\n"
           "[[mcp.servers.a.headers]]\nrule = \"forward\"\nname = \"X-Key\"\n"
           "[[mcp.servers.a.headers]]\nrule = \"forward\"\nname = \"X-A\"\nrename = \"X-Key\"\n"
           "default = \"v\"\n"
           "[[mcp.servers.a.headers]]\nrule = \"rename_duplicate\"\nname = \"X-Key\"\n"
           "rename = \"X-A\"\ndefault = \"v\"\n",
     "7:1: warning: mcp.servers.a.headers[1] is sent unencrypted; use https\n"
     "11:1: warning: mcp.servers.a.headers[2] is sent unencrypted; use https\n"
     "15:1: warning: mcp.servers.a.headers[3] is sent unencrypted; use https\n"
     "19:1: warning: mcp.servers.a.headers[4] is sent unencrypted; use https\n"
     "33:1: warning: mcp.servers.a.headers[8] is sent unencrypted; use https\n"
     "38:1: warning: mcp.servers.a.headers[9] is sent unencrypted; use https\n"},
    {"global headers over http: once",
     "[[mcp.headers]]\nrule = \"insert\"\nname = \"X-Key\"\nvalue = \"v\"\n"
     "[mcp.servers.c]\ncmd = [\"x\"]\n[mcp.servers.s]\nurl = \"https://x\"\n" PLAIN
     "[mcp.servers.b]\nurl = \"http://b\"\n",
     "1:1: warning: mcp.headers[0] is sent to mcp.servers.a unencrypted; use https there\n"},
    {"a loopback name", WITH_URL("http://localhost") "auth.token = \"x\"\n", ""},
    {"a name below it", WITH_URL("http://A.LocalHost:80/") "auth.token = \"x\"\n", ""},
    {"a loopback address", WITH_URL("http://127.8.9.1:1") "auth.token = \"x\"\n", ""},
    {"a loopback address of version 6", WITH_URL("http://[0::1]:1") "auth.token = \"x\"\n", ""},
    {"a name that only ends so", WITH_URL("http://notlocalhost") "auth.token = \"x\"\n",
     "3:6: warning: mcp.servers.a.auth.token is sent unencrypted; use https\n"},
    {"a name that only begins so", WITH_URL("http://127.0.0.1.example.com") "auth.token = \"x\"\n",
     "3:6: warning: mcp.servers.a.auth.token is sent unencrypted; use https\n"},
    {"an address that is no loopback", WITH_URL("http://[::]:1") "auth.token = \"x\"\n",
     "3:6: warning: mcp.servers.a.auth.token is sent unencrypted; use https\n"},
    {"another address", WITH_URL("http://128.0.0.1") "auth.token = \"x\"\n",
     "3:6: warning: mcp.servers.a.auth.token is sent unencrypted; use https\n"},
    {"nothing secret over http", PLAIN, ""},
};

static void test_messages(void) {
    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        test_row(messages[i].name);
        CLEANUP(buf_deinit) struct buf out = BUF_INIT(MIB(1));
        struct loaded l = load(slice_from_cstr(messages[i].toml));
        CHECK_STR(without_file(&l, &out), messages[i].problems);
        CHECK((l.result == 0) == (l.problems.n_errors == 0));
        CHECK(slice_find(buf_slice(&l.text), SLICE("s3cr3t")) == SIZE_MAX);
        unload(&l);
    }
}

/* No rule touches them, in whatever case they are written. */
static void test_reserved_names(void) {
    static const char *const names[] = {
        "Host",
        "Content-Length",
        "Content-Type",
        "Content-Encoding",
        "Transfer-Encoding",
        "Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Upgrade",
        "Proxy-Authorization",
        "Proxy-Connection",
        "Proxy-Anything",
        "Accept",
        "Accept-Encoding",
        "Expect",
        "MCP-Protocol-Version",
        "Mcp-Session-Id",
        "Mcp-Method",
        "Mcp-Name",
        "Mcp-Param-Anything",
        "Last-Event-ID",
    };
    static const char *const rules[] = {
        "rule = \"insert\", value = \"x\", name = ",
        "rule = \"remove\", name = ",
        "rule = \"forward\", name = ",
        "rule = \"forward\", name = \"X\", rename = ",
        "rule = \"rename_duplicate\", name = \"X\", rename = ",
    };
    for (size_t i = 0; i < ARRAY_LEN(names) * 2; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s", names[i / 2]);
        for (size_t k = 0; i % 2 == 1 && name[k] != '\0'; k++)
            name[k] ^= name[k] >= 'a' && name[k] <= 'z' ? 0x20 : 0;
        test_row(name);
        for (size_t k = 0; k < ARRAY_LEN(rules); k++) {
            CLEANUP(buf_deinit) struct buf toml = BUF_INIT(KIB(4));
            buf_printf(&toml, WEB "headers = [{ %s\"%s\" }]\n", rules[k], name);
            struct loaded l = load(buf_slice(&toml));
            REQUIRE(l.problems.n == 1);
            CHECK(slice_ends_with(l.problems.items[0].message,
                                  SLICE("is a header of HTTP or MCP itself, which no rule may "
                                        "touch")));
            unload(&l);
        }
    }
}

/* Near to those, and nobody's business but the user's. */
static void test_free_names(void) {
    static const char *const names[] = {"Mcp-Parameter", "Accept-Language", "X-Host",
                                        "User-Agent",    "Proxy",           "Mcp-Names",
                                        "traceparent",   "a!#$%&'*+-.^_`|~"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        test_row(names[i]);
        CLEANUP(buf_deinit) struct buf toml = BUF_INIT(KIB(4));
        buf_printf(&toml, WEB "headers = [{ rule = \"forward\", name = \"%s\" }]\n", names[i]);
        struct loaded l = load(buf_slice(&toml));
        CHECK_STR(buf_slice(&l.text), "");
        unload(&l);
    }
}

static void append_many(struct buf *out, const char *text, size_t n) {
    for (size_t i = 0; i < n; i++)
        buf_append_cstr(out, text);
}

/* At each limit, and one past it. */
static void test_limits(void) {
    static const struct {
        const char *before, *unit, *behind;
        size_t limit;
        const char *problem;
    } rows[] = {
        {"[mcp.servers.a]\nurl = \"https://x/", "a", "\"\n", LIMIT_URI - 10,
         "mcp.servers.a.url is no URL to use: it is longer than 8192 bytes"},
        {WEB "auth.token = \"", "s", "\"\n", 8192,
         "mcp.servers.a.auth.token is longer than 8192 bytes"},
        {WEB "proxy = \"http://x:", "s", "@p\"\n", LIMIT_URI - 11,
         "mcp.servers.a.proxy must be \"none\" or a URL such as "
         "\"http://proxy.example.com:3128\": it is longer than 8192 bytes"},
        {WEB "headers = [{ rule = \"remove\", name = \"", "n", "\" }]\n", 256,
         "mcp.servers.a.headers[0].name must be the name of a header: letters, digits, '-' and "
         "'_', at most 256"},
        {WEB "headers = [{ rule = \"insert\", name = \"X\", value = \"", "v", "\" }]\n", 8192,
         "mcp.servers.a.headers[0].value is longer than 8192 bytes"},
        {WEB "headers = [", "{ rule = \"remove\", name = \"X\" },", "]\n", LIMIT_HEADER_RULES,
         "mcp.servers.a.headers must have at most 64 entries"},
        {WEB "[mcp]\nheaders = [", "{ rule = \"remove\", name = \"X\" },", "]\n",
         LIMIT_HEADER_RULES, "mcp.headers must have at most 64 entries"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows) * 2; i++) {
        size_t past = i % 2;
        test_row(rows[i / 2].problem);
        CLEANUP(buf_deinit) struct buf toml = BUF_INIT(KIB(64));
        buf_append_cstr(&toml, rows[i / 2].before);
        append_many(&toml, rows[i / 2].unit, rows[i / 2].limit + past);
        buf_append_cstr(&toml, rows[i / 2].behind);
        struct loaded l = load(buf_slice(&toml));
        CHECK_INT(l.problems.n, past);
        if (l.problems.n == 1)
            CHECK_STR(l.problems.items[0].message, rows[i / 2].problem);
        unload(&l);
    }
}

/* Each byte in a value and in a token: what is taken can be written as a header (http/message.h).
 */
static void test_every_byte(void) {
    for (unsigned byte = 1; byte < 256; byte++) {
        char value[4] = {'a', (char)byte, 'b', '\0'};
        CLEANUP(buf_deinit) struct buf out = BUF_INIT(100);
        bool can_be_sent = http_write_field(&out, SLICE("X"), slice_make(value, 3)) == 0;
        CHECK((check_header_value(slice_make(value, 3)) == NULL) == can_be_sent);
        CHECK((check_token(slice_make(value, 3)) == NULL) == (byte > 0x20 && byte < 0x7f));
    }
    CHECK(check_token(SLICE("a\0b")) != NULL);
    CHECK(check_header_value(SLICE("a\0b")) != NULL);
    CHECK(check_header_name(SLICE("a\0b")) != NULL);
    CHECK(check_upstream_url(SLICE("http://a\0b/")) != NULL);
    CHECK(check_proxy(SLICE("none\0")) != NULL);
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
    config_unref(config);
    config_problems_deinit(&problems);
}

static void test_without_memory(void) {
    static char good[] = "[[mcp.headers]]\nrule = \"insert\"\nname = \"X-Key\"\nvalue = \"v\"\n"
                         "[[mcp.headers]]\nrule = \"forward\"\nname = \"X-A\"\n" PLAIN
                         "auth.token = \"{{ env.TOKEN }}\"\nproxy = \"http://p:1\"\n"
                         "[[mcp.servers.a.headers]]\nrule = \"rename_duplicate\"\nname = \"X\"\n"
                         "rename = \"X-Key\"\ndefault = \"{{ env.TOKEN }}\"\n";
    static char bad[] = "[[mcp.headers]]\nrule = \"insert\"\nname = \"Authorization\"\n"
                        "value = \"v\"\n[[mcp.headers]]\nrule = \"x\"\n[[mcp.headers]]\n" WEB
                        "auth.token = \"x\"\nproxy = \"\"\ncwd = \"/\"\nprotocol = \"sse\"\n"
                        "headers = [{ rule = \"forward\", name = \"Cookie\", value = \"\" }, 1]\n";
    test_torture(load_for_torture, good);
    test_torture(load_for_torture, bad);
}

TEST_MAIN(TEST(test_defaults), TEST(test_every_key), TEST(test_messages), TEST(test_reserved_names),
          TEST(test_free_names), TEST(test_limits), TEST(test_every_byte),
          TEST(test_without_memory))
