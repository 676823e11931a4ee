/* Whole files: what they give, what is said of them. */
#include <errno.h>
#include <unistd.h>

#include "loaded.h"

/* A server that is complete, so that no warning is in the way. */
#define ONE "[mcp.servers.a]\ncmd = [\"x\"]\n"

/* Bytes of the configuration that a default or a wrong offset would show in. */
static void test_defaults(void) {
    struct loaded l = load(SLICE(ONE));
    REQUIRE(l.result == 0);
    const struct config *c = l.config;
    CHECK_STR(c->path, "/etc/gw/f.toml");
    CHECK_STR(c->listen_address, "127.0.0.1:8000");
    CHECK_INT(c->workers, 0);
    CHECK_INT(c->n_hosts, 0);
    CHECK(!c->auth_anonymous);
    CHECK(c->health_enabled);
    CHECK_STR(c->health_path, "/health");
    CHECK_INT(c->shutdown_timeout_ms, 30000);
    CHECK_INT(c->max_request_body, LIMIT_REQUEST_BODY);
    CHECK_INT(c->max_sessions, 10000);
    CHECK_STR(c->instance, "");
    CHECK_INT(c->session_idle_timeout_ms, 1800000);
    CHECK_INT(c->session_lifetime_ms, 604800000);
    CHECK_INT(c->resume_buffer, KIB(256));
    CHECK(c->mcp_enabled);
    CHECK_STR(c->mcp_path, "/mcp");
    CHECK_INT(c->list_timeout_ms, 1500);
    CHECK_INT(c->n_headers, 0);
    CHECK(!c->edit_mode);
    REQUIRE(c->n_servers == 1);
    const struct config_server *s = &c->servers[0];
    CHECK_STR(s->name, "a");
    CHECK_INT(s->line, 1);
    CHECK(s->enabled);
    REQUIRE(s->n_cmd == 1);
    CHECK_STR(s->cmd[0], "x");
    CHECK_INT(s->n_env, 0);
    CHECK_INT(s->n_inherit_env, 0);
    CHECK_STR(s->cwd, "");
    CHECK_STR(s->user, "");
    CHECK_INT(s->stderr_kind, CONFIG_STDERR_NULL);
    CHECK_INT(s->share, CONFIG_SHARE_PRINCIPAL);
    CHECK_INT(s->isolation, CONFIG_ISOLATION_AUTO);
    CHECK_INT(s->max_instances, 16);
    CHECK_INT(s->idle_timeout_ms, 600000);
    CHECK_INT(s->startup_timeout_ms, 30000);
    CHECK_INT(s->shutdown_timeout_ms, 5000);
    CHECK_INT(s->restart_initial_ms, 500);
    CHECK_INT(s->restart_max_ms, 60000);
    CHECK_INT(s->call_idle_timeout_ms, 60000);
    CHECK_INT(s->call_total_timeout_ms, 1800000);
    CHECK_STR(s->url, "");
    CHECK_STR(buf_slice(&l.text), "");
    unload(&l);
}

static void test_every_key(void) {
    struct loaded l = load(SLICE("[server]\n"
                                 "listen_address = \"[::1]:0\"\n"
                                 "workers = 3\n"
                                 "hosts = [\"GW.example.com\", \"b:81\"]\n"
                                 "shutdown_timeout = \"1m\"\n"
                                 "max_request_body = \"1MiB\"\n"
                                 "max_sessions = 7\n"
                                 "instance = \"Gateway2Of3\"\n"
                                 "session_idle_timeout = \"2h\"\n"
                                 "session_lifetime = \"12h\"\n"
                                 "resume_buffer = 0\n"
                                 "auth.anonymous = true\n"
                                 "health = { enabled = false, path = \"/up\" }\n"
                                 "[mcp]\n"
                                 "enabled = true\n"
                                 "path = \"/x/mcp\"\n"
                                 "list_timeout = \"0s\"\n"
                                 "[security]\n"
                                 "edit_mode = true\n"
                                 "[mcp.servers.z]\n"
                                 "cmd = [\"run\", \"\", \"{{ env.TOKEN }}\"]\n"
                                 "cwd = \"work\"\n"
                                 "user = \"nobody\"\n"
                                 "env = { B = \"1\", A = \"{{ env.TOKEN }}\" }\n"
                                 "inherit_env = [\"LANG\"]\n"
                                 "stderr = { file = \"log/z.log\" }\n"
                                 "share = \"{{ env.SHARE }}\"\n"
                                 "max_instances = 10000\n"
                                 "idle_timeout = \"0s\"\n"
                                 "startup_timeout = \"{{ env.WAIT }}\"\n"
                                 "shutdown_timeout = \"10ms\"\n"
                                 "restart = { initial = \"1s\", max = \"2s\" }\n"
                                 "isolation = \"none\"\n"
                                 "timeout = \"2m\"\n"
                                 "max_timeout = \"4m\"\n"
                                 "[mcp.servers.a]\n"
                                 "cmd = [\"x\"]\n"
                                 "cwd = \"/abs\"\n"
                                 "stderr = \"pipe\"\n"
                                 "share = \"session\"\n"
                                 "max_timeout = \"10s\"\n"
                                 "[mcp.servers.off]\n"
                                 "enabled = false\n"));
    CHECK_STR(buf_slice(&l.text), "");
    REQUIRE(l.result == 0);
    const struct config *c = l.config;
    CHECK_STR(c->listen_address, "[::1]:0");
    CHECK_INT(c->workers, 3);
    REQUIRE(c->n_hosts == 2);
    CHECK_STR(c->hosts[0], "gw.example.com");
    CHECK_STR(c->hosts[1], "b:81");
    CHECK(c->auth_anonymous);
    CHECK(!c->health_enabled);
    CHECK_STR(c->health_path, "/up");
    CHECK_INT(c->shutdown_timeout_ms, 60000);
    CHECK_INT(c->max_request_body, 1048576);
    CHECK_INT(c->max_sessions, 7);
    CHECK_STR(c->instance, "Gateway2Of3");
    CHECK_INT(c->session_idle_timeout_ms, 7200000);
    CHECK_INT(c->session_lifetime_ms, 43200000);
    CHECK_INT(c->resume_buffer, 0);
    CHECK_STR(c->mcp_path, "/x/mcp");
    CHECK_INT(c->list_timeout_ms, 0);
    /* The order of the file, not of the alphabet; what is switched off is left out. */
    REQUIRE(c->n_servers == 2);
    const struct config_server *z = &c->servers[0];
    CHECK_STR(z->name, "z");
    CHECK_INT(z->line, 20);
    REQUIRE(z->n_cmd == 3 && z->n_env == 2 && z->n_inherit_env == 1);
    CHECK_STR(z->cmd[0], "run");
    CHECK_STR(z->cmd[1], "");
    CHECK_STR(z->cmd[2], "s3cr3t");
    CHECK(z->cmd[2].ptr[6] == '\0');
    CHECK_STR(z->env[0].key, "B");
    CHECK_STR(z->env[0].value, "1");
    CHECK_STR(z->env[1].key, "A");
    CHECK_STR(z->env[1].value, "s3cr3t");
    CHECK_STR(z->inherit_env[0], "LANG");
    CHECK_STR(z->cwd, "/etc/gw/work");
    CHECK_STR(z->user, "nobody");
    CHECK_INT(z->stderr_kind, CONFIG_STDERR_FILE);
    CHECK_STR(z->stderr_file, "/etc/gw/log/z.log");
    CHECK_INT(z->share, CONFIG_SHARE_ALL);
    CHECK_INT(z->isolation, CONFIG_ISOLATION_NONE);
    CHECK_INT(z->max_instances, 10000);
    CHECK_INT(z->idle_timeout_ms, 0);
    CHECK_INT(z->startup_timeout_ms, 5000);
    CHECK_INT(z->shutdown_timeout_ms, 10);
    CHECK_INT(z->restart_initial_ms, 1000);
    CHECK_INT(z->restart_max_ms, 2000);
    CHECK_INT(z->call_idle_timeout_ms, 120000);
    CHECK_INT(z->call_total_timeout_ms, 240000);
    const struct config_server *a = &c->servers[1];
    CHECK_STR(a->cwd, "/abs");
    CHECK_INT(a->stderr_kind, CONFIG_STDERR_PIPE);
    CHECK_INT(a->share, CONFIG_SHARE_SESSION);
    /* max_timeout alone takes the shorter one with it. */
    CHECK_INT(a->call_idle_timeout_ms, 10000);
    CHECK_INT(a->call_total_timeout_ms, 10000);
    unload(&l);
}

static const struct {
    const char *text;  /* the content of a TOML literal string */
    const char *value; /* or */
    const char *problem;
} expansions[] = {
    {"{{ env.TOKEN }}", "s3cr3t", NULL},
    {"{{env.TOKEN}}", "s3cr3t", NULL},
    {"{{\tenv.TOKEN  }}", "s3cr3t", NULL},
    {"a{{ env.TOKEN }}b{{env.TOKEN}}c", "as3cr3tbs3cr3tc", NULL},
    {"{{ env.EMPTY }}", "", NULL},
    {"{{ env.EMPTY | default(\"x\") }}", "", NULL},
    {"{{ env.NONE | default(\"x y\") }}", "x y", NULL},
    {"{{ env.NONE|default( \"\" )}}", "", NULL},
    {"{{ env.NONE | default(\"a\\\"b\\\\c}}\") }}", "a\"b\\c}}", NULL},
    {"{{ env.TOKEN | default(\"x\") }}", "s3cr3t", NULL},
    {"{{ \"{{\" }} env.TOKEN }}", "{{ env.TOKEN }}", NULL},
    {"}} { } {x}", "}} { } {x}", NULL},
    {"$TOKEN ${TOKEN} %TOKEN%", "$TOKEN ${TOKEN} %TOKEN%", NULL},
    {"{{ env.TRICK }}", "{{ env.TOKEN }}", NULL},
    {"{{ env.QUOTE }}", "\"\n[server]\n", NULL},
    {"{{{ env.TOKEN }}}", NULL, "has a broken template: env.NAME is missing"},
    {"{{ env.NONE }}", NULL, "needs the environment variable NONE, which is not set"},
    {"{{ env.TOKEN", NULL, "has a broken template: {{ is not closed"},
    {"{{", NULL, "has a broken template: {{ is not closed"},
    {"{{ }}", NULL, "has a broken template: env.NAME is missing"},
    {"{{ env }}", NULL, "env needs the name of a variable"},
    {"{{ env. }}", NULL, "env needs the name of a variable"},
    {"{{ env.1A }}", NULL, "env needs the name of a variable"},
    {"{{ env.FOO-BAR }}", NULL, "needs the environment variable FOO, which"},
    {"{{ env.TOKEN-BAR }}", NULL, "has a broken template: only letters"},
    {"{{ env.TOKEN.x }}", NULL, "has a broken template: only letters"},
    {"{{ env .TOKEN }}", NULL, "env needs the name of a variable"},
    {"{{ vault.TOKEN }}", NULL, "has a template with vault, which is not known; only {{ env."},
    {"{{ ENV.TOKEN }}", NULL, "has a template with ENV, which is not known"},
    {"{{ env.TOKEN | upper }}", NULL, "has a template with upper, which is not known"},
    {"{{ env.TOKEN | }}", NULL, "default(\"...\") is missing"},
    {"{{ env.TOKEN | default }}", NULL, "default needs its text in parentheses"},
    {"{{ env.TOKEN | default(x) }}", NULL, "a text in quotation marks is missing"},
    {"{{ env.TOKEN | default(\"x\" }}", NULL, "a closing parenthesis is missing"},
    {"{{ env.TOKEN | default(\"x }}", NULL, "a text in quotation marks is not closed"},
    {"{{ env.TOKEN | default(\"\\n\") }}", NULL, "only \\\" and \\\\ may follow"},
    {"{{ env.BAD }}", NULL, "uses the environment variable BAD, which is not valid UTF-8"},
};

static void test_expansion(void) {
    for (size_t i = 0; i < ARRAY_LEN(expansions); i++) {
        test_row(expansions[i].text);
        CLEANUP(buf_deinit) struct buf toml = BUF_INIT(KIB(4));
        buf_printf(&toml, "[mcp.servers.a]\ncmd = [\"x\"]\nenv.V = '%s'\n", expansions[i].text);
        struct loaded l = load(buf_slice(&toml));
        if (expansions[i].value != NULL) {
            CHECK_STR(buf_slice(&l.text), "");
            REQUIRE(l.result == 0 && l.config->servers[0].n_env == 1);
            CHECK_STR(l.config->servers[0].env[0].value, expansions[i].value);
        } else {
            CHECK_INT(l.result, CONFIG_E_INVALID);
            CHECK_INT(l.problems.n, 1);
            CHECK(slice_starts_with(buf_slice(&l.text),
                                    SLICE("/etc/gw/f.toml:3:9: error: mcp.servers.a.env.V ")));
            if (slice_find(buf_slice(&l.text), slice_from_cstr(expansions[i].problem)) == SIZE_MAX)
                CHECK_STR(buf_slice(&l.text), expansions[i].problem);
            CHECK(slice_find(buf_slice(&l.text), SLICE("s3cr3t")) == SIZE_MAX);
        }
        unload(&l);
    }
}

/* One text, all that is said of it. */
static const struct {
    const char *name, *toml, *problems;
} messages[] = {
    {"nothing", "",
     "warning: no MCP servers are configured: [mcp.servers.NAME] with a cmd "
     "or a url adds one\n"},
    {"unknown key with a neighbour", ONE "[server]\nworkrs = 1\n",
     "4:1: error: unknown key server.workrs (did you mean workers?)\n"},
    {"letters that changed places", ONE "share_ = 1\ntimeuot = 1\n",
     "3:1: error: unknown key mcp.servers.a.share_ (did you mean share?)\n"
     "4:1: error: unknown key mcp.servers.a.timeuot (did you mean timeout?)\n"},
    {"unknown and far from all", ONE "[server]\nfrobnicate = 1\n",
     "4:1: error: unknown key server.frobnicate\n"},
    {"unknown table", ONE "[servr]\nworkers = 1\n",
     "3:2: error: unknown key servr (did you mean server?)\n"},
    {"a key in the wrong table is not suggested from elsewhere",
     ONE "[mcp]\nlisten_address = \"127.0.0.1:1\"\n",
     "4:1: error: unknown key mcp.listen_address\n"},
    {"a key that needs marks", ONE "\"a.b \\u001b\" = 1\n",
     "3:1: error: unknown key mcp.servers.a.\"a.b \\x1b\"\n"},
    {"a star is no key", "\"*\" = 1\n" ONE, "1:1: error: unknown key \"*\"\n"},
    {"a dotted path in one key is not the path", "\"server.workers\" = 1\n" ONE,
     "1:1: error: unknown key \"server.workers\"\n"},
    {"types",
     "[server]\nworkers = \"2\"\nhosts = \"a\"\nauth = 1\nhealth.enabled = \"yes\"\n"
     "shutdown_timeout = 30\nmax_request_body = 1.5\nlisten_address = 8000\n" ONE
     "env = [\"A=1\"]\nstderr = 1\n",
     "2:11: error: server.workers must be an integer\n"
     "3:9: error: server.hosts must be a list of strings\n"
     "4:8: error: server.auth must be a table\n"
     "5:18: error: server.health.enabled must be true or false\n"
     "6:20: error: server.shutdown_timeout must be a duration, as a string such as \"30s\" or "
     "\"1h 30m\"\n"
     "7:20: error: server.max_request_body must be a size: an integer of bytes, or a string "
     "such as \"4MiB\"\n"
     "8:18: error: server.listen_address must be a string\n"
     "11:7: error: mcp.servers.a.env must be a table of strings\n"
     "12:10: error: mcp.servers.a.stderr must be a string, or { file = PATH }\n"},
    {"entries", ONE "inherit_env = [\"A\", 1, [\"B\"]]\nenv = { A = 1, B = \"x\", C = {} }\n",
     "3:21: error: mcp.servers.a.inherit_env[1] must be a string, in quotation marks\n"
     "3:24: error: mcp.servers.a.inherit_env[2] must be a string, in quotation marks\n"
     "4:13: error: mcp.servers.a.env.A must be a string, in quotation marks\n"
     "4:25: error: mcp.servers.a.env.C must be a string, in quotation marks\n"},
    {"bounds",
     "[server]\nworkers = -1\nmax_request_body = 5\nmax_sessions = 0\n"
     "session_idle_timeout = \"0s\"\nsession_lifetime = \"366d\"\n" ONE
     "max_instances = 10001\nstartup_timeout = \"11m\"\nidle_timeout = \"31d\"\n",
     "2:11: error: server.workers must be from 0 to 256\n"
     "3:20: error: server.max_request_body must be from 1KiB to 64MiB\n"
     "4:16: error: server.max_sessions must be from 1 to 1000000\n"
     "5:24: error: server.session_idle_timeout must be from 1s to 30d\n"
     "6:20: error: server.session_lifetime must be from 0s to 365d\n"
     "9:17: error: mcp.servers.a.max_instances must be from 1 to 10000\n"
     "10:19: error: mcp.servers.a.startup_timeout must be from 100ms to 10m\n"
     "11:16: error: mcp.servers.a.idle_timeout must be from 0s to 30d\n"},
#define NO_INSTANCE                                                                                \
    "error: server.instance is no name for an instance: 1 to 16 letters and digits\n"
    {"an instance without a name", "[server]\ninstance = \"\"\n" ONE, "2:12: " NO_INSTANCE},
    {"one that is too long", "[server]\ninstance = \"abcdefghijklmnopq\"\n" ONE,
     "2:12: " NO_INSTANCE},
    {"one that is just short enough", "[server]\ninstance = \"abcdefghijklmnop\"\n" ONE, ""},
    {"one that ends the part of an id", "[server]\ninstance = \"a.b\"\n" ONE, "2:12: " NO_INSTANCE},
    {"one that is more than a name to a proxy", "[server]\ninstance = \"a|b\"\n" ONE,
     "2:12: " NO_INSTANCE},
    {"one with a line of its own", "[server]\ninstance = \"a\\r\\nX: y\"\n" ONE,
     "2:12: " NO_INSTANCE},
    {"one that is not ASCII", "[server]\ninstance = \"\u00e4\"\n" ONE, "2:12: " NO_INSTANCE},
    {"choices", ONE "share = \"user\"\nisolation = \"\"\nstderr = \"nul\"\n",
     "3:9: error: mcp.servers.a.share must be \"principal\", \"session\" or \"all\"\n"
     "4:13: error: mcp.servers.a.isolation must be \"auto\" or \"none\"\n"
     "5:10: error: mcp.servers.a.stderr must be \"null\", \"inherit\" or \"pipe\", or "
     "{ file = PATH }\n"},
    {"stderr as a table", ONE "stderr = { fille = \"x\" }\n",
     "3:1: error: mcp.servers.a.stderr must be \"null\", \"inherit\" or \"pipe\", or "
     "{ file = PATH }\n"
     "3:12: error: unknown key mcp.servers.a.stderr.fille (did you mean file?)\n"},
    {"stderr with an empty path", ONE "stderr.file = \"\"\n",
     "3:15: error: mcp.servers.a.stderr.file must not be empty\n"},
    {"neither cmd nor url", "[mcp.servers.a]\nenv.A = \"1\"\n",
     "1:14: warning: mcp.servers.a has neither cmd nor url: it is not served; cmd is the command "
     "that speaks MCP on its standard input and output, url the address of a server\n"},
    {"both", ONE "url = \"http://x\"\n",
     "3:1: error: mcp.servers.a has both cmd and url; keep one of them\n"},
    {"empty commands", "[mcp.servers.a]\ncmd = []\n[mcp.servers.b]\ncmd = [\"\", \"x\"]\n",
     "2:7: error: mcp.servers.a.cmd must begin with a program\n"
     "4:7: error: mcp.servers.b.cmd must begin with a program\n"},
    {"a command line in one string", "[mcp.servers.a]\ncmd = \"npx server\"\n",
     "2:7: error: mcp.servers.a.cmd must be a list of strings\n"},
    {"a variable that is missing is the only problem of a command",
     "[mcp.servers.a]\ncmd = [\"{{ env.NONE }}\"]\n",
     "2:8: error: mcp.servers.a.cmd[0] needs the environment variable NONE, which is not set "
     "(a default is written {{ env.NONE | default(\"...\") }})\n"},
    {"names of servers", "[mcp.servers.a__b]\ncmd = [\"x\"]\n[mcp.servers.sse]\ncmd = [\"x\"]\n",
     "1:14: error: mcp.servers.a__b is no name for a server: at most 32 letters, digits and "
     "'-', with single '_' between them\n"
     "3:14: error: mcp.servers.sse is taken by an address of the gateway itself; choose "
     "another name\n"},
    {"a server that is no table", "[mcp.servers]\na = 1\n",
     "2:5: error: mcp.servers.a must be a table\n"},
    {"a server twice", ONE ONE,
     "3:1: error: not valid TOML: cannot redefine existing table 'mcp.servers.a'\n"},
    {"what is switched off is looked at for its names alone",
     ONE "[mcp.servers.b]\nenabled = false\nurl = \"{{ env.NONE }}\"\nallow = []\n"
         "workes = 1\nshare = 1\nidle_timeout = \"x\"\n",
     "7:1: error: unknown key mcp.servers.b.workes\n"
     "8:9: error: mcp.servers.b.share must be a string\n"},
    {"times that do not fit together",
     ONE "timeout = \"2m\"\nmax_timeout = \"1m\"\nrestart.initial = \"2m\"\n",
     "3:11: error: mcp.servers.a.timeout must not be longer than max_timeout\n"
     "5:1: error: mcp.servers.a.restart must have an initial that is not longer than its "
     "max\n"},
    {"variables of a server", ONE "env = { \"A B\" = \"1\", \"\" = \"2\", C = \"\\u0000\" }\n",
     "3:9: error: mcp.servers.a.env.\"A B\" must be the name of an environment variable\n"
     "3:22: error: mcp.servers.a.env.\"\" must be the name of an environment variable\n"
     "3:36: error: mcp.servers.a.env.C must not hold the character U+0000\n"},
    {"NUL in a command", "[mcp.servers.a]\ncmd = [\"x\\u0000y\"]\n",
     "2:8: error: mcp.servers.a.cmd[0] must not hold the character U+0000\n"},
    {"paths inside each other", "mcp.path = \"/m\"\nserver.health.path = \"/m/h\"\n" ONE,
     "2:22: error: server.health.path must not lie inside mcp.path\n"},
    {"the same path", "server.health.path = \"/mcp\"\n" ONE,
     "1:22: error: server.health.path must not lie inside mcp.path\n"},
    {"beside each other", "server.health.path = \"/mcp2\"\n" ONE, ""},
    {"the gateway's own paths", "mcp.path = \"/ready/x\"\nserver.health.path = \"/metrics\"\n" ONE,
     "1:12: error: mcp.path must not be /ready, which the gateway uses itself\n"
     "2:22: error: server.health.path must not be /metrics, which the gateway uses itself\n"},
    {"read-only mode", "[security]\nedit_mode = false\n" ONE, ""},
    {"all addresses", "server.listen_address = \"0.0.0.0:8000\"\n" ONE, ""},
    {"no address", "server.listen_address = \"localhost:8000\"\n" ONE,
     "1:25: error: server.listen_address must be an IP address and a port, such as "
     "\"127.0.0.1:8000\" or \"[::1]:8000\"\n"},
    {"syntax", ONE "env = \n", "3:7: error: not valid TOML: expected value, saw '\\n'\n"},
    {"values are not repeated",
     ONE "share = \"{{ env.TOKEN }}\"\nidle_timeout = \"{{ env.TOKEN }}\"\n"
         "user = \"{{ env.TOKEN }}!\"\n",
     "3:9: error: mcp.servers.a.share must be \"principal\", \"session\" or \"all\"\n"
     "4:16: error: mcp.servers.a.idle_timeout must be a duration such as \"500ms\", \"30s\", "
     "\"5m\" or \"1h 30m\"\n"
     "5:8: error: mcp.servers.a.user must be the name or number of a user\n"},
    {"columns count characters",
     "[mcp.servers.a]\nenv = { A = \"\xc3\xa4\xc3\xb6\", \"B C\" = "
     "\"\" }\ncmd = [\"x\"]\n",
     "2:19: error: mcp.servers.a.env.\"B C\" must be the name of an environment variable\n"},
    {"tables in any order are told in the order of the file",
     "[mcp.servers.a.restart]\nx = 1\n[server]\ny = 1\n[mcp.servers.a]\ncmd = [\"x\"]\nz = 1\n",
     "2:1: error: unknown key mcp.servers.a.restart.x\n"
     "4:1: error: unknown key server.y\n"
     "7:1: error: unknown key mcp.servers.a.z\n"},
};

static void test_messages(void) {
    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        test_row(messages[i].name);
        CLEANUP(buf_deinit) struct buf out = BUF_INIT(MIB(1));
        struct loaded l = load(slice_from_cstr(messages[i].toml));
        struct slice told = without_file(&l, &out);
        CHECK_STR(told, messages[i].problems);
        CHECK((l.result == 0) == (l.problems.n_errors == 0));
        CHECK((l.config != NULL) == (l.result == 0));
        unload(&l);
    }
}

static void test_too_many_problems(void) {
    CLEANUP(buf_deinit) struct buf toml = BUF_INIT(MIB(1));
    for (unsigned i = 0; i < LIMIT_CONFIG_PROBLEMS + 23; i++)
        buf_printf(&toml, "x%u = 1\n", i);
    buf_append_cstr(&toml, ONE);
    struct loaded l = load(buf_slice(&toml));
    CHECK_INT(l.result, CONFIG_E_INVALID);
    CHECK_INT(l.problems.n, LIMIT_CONFIG_PROBLEMS + 1);
    CHECK_INT(l.problems.n_errors, LIMIT_CONFIG_PROBLEMS + 23);
    CHECK_STR(l.problems.items[LIMIT_CONFIG_PROBLEMS].message, "23 more problems are not shown");
    unload(&l);
}

/* Problems of an earlier load stay what they are. */
static void test_problems_are_added(void) {
    struct loaded l = load(SLICE("x = 1\n" ONE));
    struct config *config = NULL;
    CHECK_INT(config_load_text(SLICE_EMPTY, SLICE(ONE), test_getenv, NULL, &l.problems, &config),
              0);
    CHECK(config != NULL);
    CHECK_INT(l.problems.n_errors, 1);
    config_unrefp(&config);
    CHECK(config == NULL);
    CHECK_INT(config_load_text(SLICE_EMPTY, SLICE("y"), test_getenv, NULL, &l.problems, &config),
              CONFIG_E_INVALID);
    REQUIRE(l.problems.n == 2);
    CLEANUP(buf_deinit) struct buf out = BUF_INIT(KIB(4));
    CHECK_INT(config_problem_format(&out, &l.problems.items[1]), 0);
    CHECK(slice_starts_with(buf_slice(&out), SLICE("1:2: error: not valid TOML: ")));
    unload(&l);
}

/* Relative paths start in the folder of the file, however the file is named. */
static void test_folders(void) {
    char here[4096];
    REQUIRE(getcwd(here, sizeof here) != NULL);
    static const struct {
        const char *file, *before, *folder; /* the folder, behind the working directory or not */
    } rows[] = {
        {"/f.toml", "", "/"},   {"/a/f.toml", "", "/a"},    {"/a/b/f.toml", "", "/a/b"},
        {"f.toml", "here", ""}, {"a/f.toml", "here", "/a"}, {"../f.toml", "here", "/.."},
        {"", "here", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].file);
        struct config_problems problems;
        struct config *config = NULL;
        config_problems_init(&problems);
        CHECK_INT(config_load_text(slice_from_cstr(rows[i].file), SLICE(ONE "cwd = \"w\"\n"),
                                   test_getenv, NULL, &problems, &config),
                  0);
        REQUIRE(config != NULL);
        CLEANUP(buf_deinit) struct buf expected = BUF_INIT(KIB(8));
        buf_printf(&expected, "%s%s/w", rows[i].before[0] ? here : "", rows[i].folder);
        CHECK_SLICE(config->servers[0].cwd, buf_slice(&expected));
        config_unref(config);
        config_problems_deinit(&problems);
    }
}

static void test_files(void) {
    struct config_problems problems;
    struct config *config = NULL;
    config_problems_init(&problems);
    CHECK_INT(config_load_file("/nonexistent/f.toml", NULL, NULL, &problems, &config), -ENOENT);
    CHECK_INT(config_load_file("/", NULL, NULL, &problems, &config), -EISDIR);
    CHECK_INT(config_load_file("/dev/zero", NULL, NULL, &problems, &config), -EFBIG);
    CHECK(config == NULL);
    REQUIRE(problems.n == 3 && problems.n_errors == 3);
    CHECK_STR(problems.items[0].message, "the file can not be read: No such file or directory");
    CHECK_STR(problems.items[2].message, "the file is longer than 4 MiB");
    CLEANUP(buf_deinit) struct buf out = BUF_INIT(KIB(4));
    CHECK_INT(config_problem_format(&out, &problems.items[1]), 0);
    CHECK_STR(buf_slice(&out), "/: error: the file can not be read: Is a directory\n");
    CHECK_INT(config_load_file("/dev/null", NULL, NULL, &problems, &config), 0);
    CHECK(config != NULL);
    config_unref(config);
    config_problems_deinit(&problems);
}

/* Many values in few bytes are refused before they fill the memory. */
static void test_too_many_values(void) {
    CLEANUP(buf_deinit) struct buf toml = BUF_INIT(LIMIT_CONFIG_FILE);
    buf_append_cstr(&toml, "x=[");
    while (buf_len(&toml) < MIB(2))
        buf_append_cstr(&toml, "1,1,1,1,1,1,1,1,");
    buf_append_cstr(&toml, "]");
    struct loaded l = load(buf_slice(&toml));
    CHECK_INT(l.result, CONFIG_E_INVALID);
    REQUIRE(l.problems.n == 1);
    CHECK_STR(l.problems.items[0].message, "not valid TOML: too many values");
    unload(&l);
}

static void test_longest_value(void) {
    for (size_t over = 0; over < 2; over++) {
        CLEANUP(buf_deinit) struct buf toml = BUF_INIT(MIB(1));
        buf_append_cstr(&toml, ONE "env.A = \"");
        for (size_t i = 0; i < LIMIT_CONFIG_STRING + over; i++)
            buf_append_byte(&toml, 'x');
        buf_append_cstr(&toml, "\"\n");
        struct loaded l = load(buf_slice(&toml));
        CHECK_INT(l.result, over == 0 ? 0 : CONFIG_E_INVALID);
        unload(&l);
    }
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
    for (size_t i = 0; i < problems.n; i++) {
        CLEANUP(buf_deinit) struct buf out = BUF_INIT(KIB(4));
        r = config_problem_format(&out, &problems.items[i]);
        CHECK(r == 0 || r == -ENOMEM);
    }
    config_unref(config);
    config_problems_deinit(&problems);
}

static void test_without_memory(void) {
    static char good[] = "[server]\nhosts = [\"A\", \"B:1\"]\n[mcp.servers.a]\n"
                         "cmd = [\"x\", \"{{ env.TOKEN }}\"]\nenv = { A = \"{{ env.TOKEN }}\" }\n"
                         "cwd = \"w\"\nstderr = { file = \"f\" }\n";
    static char bad[] = "[server]\nhosts = [\"/\"]\nworkrs = 1\n[server.oauth]\n[telemetry]\n"
                        "[mcp.servers.a]\nshare = \"x\"\nenv = { A = \"{{ env.NONE }}\", B = 1 }\n";
    test_torture(load_for_torture, good);
    test_torture(load_for_torture, bad);
}

TEST_MAIN(TEST(test_defaults), TEST(test_every_key), TEST(test_expansion), TEST(test_messages),
          TEST(test_too_many_problems), TEST(test_problems_are_added), TEST(test_folders),
          TEST(test_files), TEST(test_too_many_values), TEST(test_longest_value),
          TEST(test_without_memory))
