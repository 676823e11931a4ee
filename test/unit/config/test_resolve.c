/* {{ secret.NAME }}, {{ file.PATH }} and KEY_file: where they may stand, what is said when they can
 * not be had, and what is noted of their use. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loaded.h"

static char folder[64];
static size_t n_asked;

static void put(const char *name, const char *text) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0)
        CANNOT_GO_ON();
}

static void drop(const char *name) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (unlink(path) != 0 && rmdir(path) != 0)
        CANNOT_GO_ON();
}

static void enter(void) {
    snprintf(folder, sizeof folder, "/tmp/cardea-config-XXXXXX");
    if (mkdtemp(folder) == NULL)
        CANNOT_GO_ON();
    n_asked = 0;
}

static void leave(void) {
    if (rmdir(folder) != 0)
        CANNOT_GO_ON();
}

static int test_secret(void *context, const struct config *config, struct slice name,
                       struct slice *ret_value, struct buf *reason) {
    static const struct {
        const char *name, *value;
        int result;
    } secrets[] = {
        {"token", "t0_s3cr3t", 0},
        {"git.hub-1", "g1_s3cr3t", 0},
        {"trick", "{{ env.TOKEN }}", 0},
        {"bad", "\xff", 0},
        {"line", "a\nb", 0},
        {"signing", "0123456789abcdef0123456789abcdef", 0},
        {"hidden", NULL, CONFIG_SECRET_HIDDEN},
        {"locked", NULL, CONFIG_SECRET_REFUSED},
        {"memory", NULL, -ENOMEM},
    };
    const char *url = context;
    n_asked++;
    /* What is needed to look is there already. */
    if (url != NULL && !slice_eq(config->store.url, slice_from_cstr(url)))
        return -EINVAL;
    for (size_t i = 0; i < ARRAY_LEN(secrets); i++) {
        if (!slice_eq(name, slice_from_cstr(secrets[i].name)))
            continue;
        if (secrets[i].value != NULL)
            *ret_value = slice_from_cstr(secrets[i].value);
        if (secrets[i].result == CONFIG_SECRET_REFUSED)
            buf_append_cstr(reason, "the box is locked");
        return secrets[i].result;
    }
    return CONFIG_SECRET_NONE;
}

static const char *resolve_env(void *context, const char *name) {
    (void)context;
    return test_getenv(NULL, name);
}

static struct loaded load_with(const char *text, const struct config_resolvers *resolvers) {
    struct loaded l = {.config = NULL, .text = BUF_INIT(MIB(1))};
    char path[128];
    snprintf(path, sizeof path, "%s/f.toml", folder);
    config_problems_init(&l.problems);
    l.result = config_load_text_with(slice_from_cstr(path), slice_from_cstr(text), resolvers,
                                     &l.problems, &l.config);
    for (size_t i = 0; i < l.problems.n; i++)
        config_problem_format(&l.text, &l.problems.items[i]);
    return l;
}

static struct loaded load_here(const char *text) {
    static const struct config_resolvers resolvers = {.getenv_fn = resolve_env,
                                                      .secret_fn = test_secret};
    return load_with(text, &resolvers);
}

static bool says(const struct loaded *l, const char *text) {
    return slice_find(buf_slice(&l->text), slice_from_cstr(text)) != SIZE_MAX;
}

/* --- secrets --- */

static const struct {
    const char *value;
    const char *expected; /* NULL: an error that says `says` */
    const char *says;
} values[] = {
    {"{{ secret.token }}", "t0_s3cr3t", NULL},
    {"{{secret.token}}", "t0_s3cr3t", NULL},
    {"a{{ secret.token }}b{{ env.TOKEN }}", "at0_s3cr3tbs3cr3t", NULL},
    {"{{ secret.git.hub-1 }}", "g1_s3cr3t", NULL},
    {"{{ secret.trick }}", "{{ env.TOKEN }}", NULL},
    {"{{ secret.none | default(\"x\") }}", "x", NULL},
    {"{{ secret.token | default(\"x\") }}", "t0_s3cr3t", NULL},
    {"{{ secret.none }}", NULL,
     "needs the secret none, which is not there; give it its value with: "
     "cardea secret set none"},
    {"{{ secret.locked }}", NULL, "needs the secret locked: the box is locked"},
    {"{{ secret.locked | default(\"x\") }}", NULL, "needs the secret locked: the box is locked"},
    {"{{ secret.bad }}", NULL, "uses the secret bad, which is not valid UTF-8"},
    {"{{ secret }}", NULL, "secret needs a name"},
    {"{{ secret. }}", NULL, "secret needs a name"},
    {"{{ secret.-x }}", NULL, "secret needs a name"},
    {"{{ secret.a/b }}", NULL, "needs the secret a, which"},
    {"{{ secret.token/b }}", NULL, "has a broken template"},
    {"{{ secret.\"token\" }}", NULL, "secret needs a name"},
    {"{{ Secret.token }}", NULL, "has a template with Secret, which is not known"},
};

/* Without the place, which every sentence begins with. */
static void test_secrets(void) {
    enter();
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        CLEANUP(buf_deinit) struct buf text = BUF_INIT(KIB(4));
        buf_printf(&text, "[mcp.servers.a]\ncmd = [\"x\"]\nenv.V = '%s'\n", values[i].value);
        buf_append_byte(&text, '\0');
        struct loaded l = load_here(buf_slice(&text).ptr);
        test_row(values[i].value);
        CHECK_INT(l.result, values[i].expected != NULL ? 0 : CONFIG_E_INVALID);
        if (l.result == 0 && values[i].expected != NULL)
            CHECK_STR(l.config->servers[0].env[0].value, values[i].expected);
        if (values[i].says != NULL)
            CHECK(says(&l, values[i].says) && says(&l, "f.toml:3:9: error: mcp.servers.a.env.V "));
        CHECK(!says(&l, "s3cr3t"));
        unload(&l);
    }
    leave();
}

/* Where a value would be shown, a secret is refused; it is not even looked for. */
static const struct {
    const char *text;
    bool may;
} keys[] = {
    {"[mcp.servers.a]\nurl = \"https://a.example/{{ secret.token }}\"\n", true},
    {"[mcp.servers.a]\nurl = \"https://a.example/\"\nauth.token = \"{{ secret.token }}\"\n", true},
    {"[mcp.servers.a]\nurl = \"https://a.example/\"\nproxy = \"http://u:{{ secret.token }}@p:1\"\n",
     true},
    {"[mcp.servers.a]\nurl = \"https://a.example/\"\nheaders = [{rule = \"insert\", name = \"X\", "
     "value = \"{{ secret.token }}\"}]\n",
     true},
    {"[mcp.servers.a]\nurl = \"https://a.example/\"\nheaders = [{rule = \"forward\", name = \"X\", "
     "default = \"{{ secret.token }}\"}]\n",
     true},
    {"[[mcp.headers]]\nrule = \"insert\"\nname = \"X\"\nvalue = \"{{ secret.token }}\"\n", true},
    {"[mcp.servers.a]\ncmd = [\"x\"]\nenv.V = \"{{ secret.token }}\"\n", true},
    {"[server.oauth]\nsecret = \"{{ secret.signing }}\"\n[server.oauth.protected_resource]\n"
     "resource = \"https://gw.example/mcp\"\n",
     true},
    {"[server.rate_limits.storage]\ntype = \"redis\"\nurl = \"rediss://u:{{ secret.token }}@r\"\n",
     true},
    {"[mcp.servers.a]\ncmd = [\"x\", \"--token={{ secret.token }}\"]\n", false},
    {"[mcp.servers.a]\ncmd = [\"x\"]\ncwd = \"/{{ secret.token }}\"\n", false},
    {"[mcp.servers.a]\ncmd = [\"x\"]\nuser = \"{{ secret.token }}\"\n", false},
    {"[server]\nhosts = [\"{{ secret.token }}\"]\n", false},
    {"[server]\nlisten_address = \"{{ secret.token }}\"\n", false},
    {"[mcp]\npath = \"/{{ secret.token }}\"\n", false},
    {"[mcp]\nlist_timeout = \"{{ secret.token }}\"\n", false},
    {"[mcp.servers.a]\nurl = \"https://a.example/\"\nheaders = [{rule = \"insert\", name = "
     "\"{{ secret.token }}\", value = \"v\"}]\n",
     false},
    {"[store]\nurl = \"postgres://u:{{ secret.token }}@h/db\"\n", false},
};

static void test_places(void) {
    enter();
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        n_asked = 0;
        struct loaded l = load_here(keys[i].text);
        test_row(keys[i].text);
        CHECK_INT(l.result, keys[i].may ? 0 : CONFIG_E_INVALID);
        CHECK_INT(n_asked, keys[i].may ? 1 : 0);
        CHECK(keys[i].may || says(&l, "must not hold {{ secret.token }}: "));
        CHECK(!says(&l, "s3cr3t"));
        unload(&l);
    }
    leave();
}

/* The store is known before the first secret is asked for, wherever it stands. */
static void test_store_first(void) {
    static char url[] = "postgres://u:s3cr3t@h/db";
    struct config_resolvers resolvers = {
        .getenv_fn = resolve_env, .secret_fn = test_secret, .context = url};
    enter();
    struct loaded l = load_with("[mcp.servers.a]\ncmd = [\"x\"]\nenv.V = \"{{ secret.token }}\"\n"
                                "[store]\nurl = \"postgres://u:{{ env.TOKEN }}@h/db\"\n",
                                &resolvers);
    CHECK_INT(l.result, 0);
    unload(&l);
    n_asked = 0;
    l = load_with("[mcp.servers.a]\ncmd = [\"x\"]\nenv.V = \"{{ secret.token }}\"\n"
                  "[store]\nurl = \"mysql://h/db\"\n",
                  &resolvers);
    CHECK_INT(l.result, CONFIG_E_INVALID);
    CHECK_INT(l.problems.n, 1); /* what is wrong with the store, and not that secrets are missing */
    CHECK_INT(n_asked, 0);
    unload(&l);
    leave();
}

static void test_no_secrets(void) {
    static const struct config_resolvers resolvers = {.getenv_fn = resolve_env};
    enter();
    struct loaded l =
        load_with("[mcp.servers.a]\ncmd = [\"x\"]\nenv.V = \"{{ secret.token }}\"\n", &resolvers);
    CHECK_INT(l.result, CONFIG_E_INVALID);
    CHECK(says(&l, "needs the secret token, which is not there"));
    unload(&l);
    leave();
}

/* A secret that is there, but whose value is not known where the file is checked. */
static void test_hidden(void) {
    enter();
    struct loaded l = load_here("[mcp.servers.a]\nurl = \"https://a.example/\"\n"
                                "auth.token = \"{{ secret.hidden }}\"\n"
                                "[mcp.servers.b]\nurl = \"https://b.example/{{ secret.hidden }}\"\n"
                                "[server.oauth]\nsecret = \"{{ secret.hidden }}\"\n"
                                "[server.oauth.protected_resource]\n"
                                "resource = \"https://gw.example/mcp\"\n");
    CHECK_INT(l.result, 0);
    CHECK(!says(&l, "is not checked"));
    unload(&l);
    l = load_here("[mcp.servers.a]\nurl = \"https://a.example/\"\n"
                  "proxy = \"{{ secret.hidden }}\"\n");
    CHECK_INT(l.result, 0);
    CHECK(says(&l, "f.toml:3:9: warning: mcp.servers.a.proxy is not checked"));
    unload(&l);
    /* What stands beside it is checked as ever. */
    l = load_here("[mcp.servers.a]\nurl = \"https://a.example/\"\n"
                  "auth.token = \"{{ secret.hidden }}\"\nproxy = \"nonsense\"\n");
    CHECK_INT(l.result, CONFIG_E_INVALID);
    CHECK(says(&l, "f.toml:4:9: error: mcp.servers.a.proxy "));
    unload(&l);
    leave();
}

static void test_out_of_memory(void) {
    enter();
    struct loaded l =
        load_here("[mcp.servers.a]\ncmd = [\"x\"]\nenv.V = \"{{ secret.memory }}\"\n");
    CHECK_INT(l.result, -ENOMEM);
    unload(&l);
    leave();
}

/* --- files --- */

static const struct {
    const char *content, *expected;
} contents[] = {
    {"f1_s3cr3t", "f1_s3cr3t"},
    {"f1_s3cr3t\n", "f1_s3cr3t"},
    {"f1_s3cr3t\r\n", "f1_s3cr3t"},
    {"f1_s3cr3t\n\n", "f1_s3cr3t\n"},
    {"f1_s3cr3t\r", "f1_s3cr3t\r"},
    {"a\nb\n", "a\nb"},
    {"\n", ""},
    {"", ""},
    {"{{ env.TOKEN }}\n", "{{ env.TOKEN }}"},
};

static void test_contents(void) {
    enter();
    for (size_t i = 0; i < ARRAY_LEN(contents); i++) {
        put("content", contents[i].content);
        struct loaded l = load_here("[mcp.servers.a]\ncmd = [\"x\"]\n"
                                    "env.V = \"{{ file.content }}\"\n");
        test_row(contents[i].content);
        CHECK_INT(l.result, 0);
        if (l.result == 0)
            CHECK_STR(l.config->servers[0].env[0].value, contents[i].expected);
        unload(&l);
    }
    drop("content");
    leave();
}

static const struct {
    const char *reference, *expected, *says;
} files[] = {
    {"{{ file.content }}", "inside", NULL},
    {"{{ file./HERE/content }}", "inside", NULL},
    {"{{ file../content }}", "inside", NULL},
    {"{{ file.\"content\" }}", "inside", NULL},
    {"{{ file.\"with space\" }}", "spaced", NULL},
    {"{{ file.none | default(\"x\") }}", "x", NULL},
    {"{{ file.content | default(\"x\") }}", "inside", NULL},
    {"{{ file.content|default(\"x\")}}", "inside", NULL},
    {"{{ file.none }}", NULL, "needs the file HERE/none, which is not there"},
    {"{{ file.\"no such\" }}", NULL, "needs the file HERE/no such, which is not there"},
    {"{{ file.folder }}", NULL, "needs the file HERE/folder: Is a directory"},
    {"{{ file.fifo }}", NULL, "needs the file HERE/fifo: it is no regular file"},
    {"{{ file./dev/zero }}", NULL, "needs the file /dev/zero: it is no regular file"},
    {"{{ file.fifo | default(\"x\") }}", NULL, "needs the file HERE/fifo: it is no regular file"},
    {"{{ file.bad }}", NULL, "needs the file HERE/bad, which is not valid UTF-8"},
    {"{{ file.long }}", NULL, "needs the file HERE/long, which is longer than 64 KiB"},
    {"{{ file. }}", NULL, "file needs a path"},
    {"{{ file }}", NULL, "file needs a path"},
    {"{{ file.with space }}", NULL, "needs the file HERE/with, which is not there"},
    {"{{ file.content space }}", NULL, "has a broken template"},
};

/* HERE is the folder. */
static void append_here(struct buf *out, const char *text) {
    struct slice rest = slice_from_cstr(text);
    for (;;) {
        size_t at = slice_find(rest, SLICE("HERE"));
        buf_append(out, slice_sub(rest, 0, at));
        if (at == SIZE_MAX)
            break;
        bool is_inside = at > 0 && rest.ptr[at - 1] == '/';
        buf_append(out, slice_from(slice_from_cstr(folder), is_inside ? 1 : 0));
        rest = slice_from(rest, at + 4);
    }
}

static void test_files(void) {
    char path[128];
    char *big = mem_xalloc(LIMIT_SECRET + 2);
    enter();
    memset(big, 'b', LIMIT_SECRET + 1);
    put("content", "inside\n");
    put("with space", "spaced\n");
    put("bad", "\xff");
    put("long", big);
    snprintf(path, sizeof path, "%s/folder", folder);
    CHECK_INT(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/fifo", folder);
    CHECK_INT(mkfifo(path, 0600), 0);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        CLEANUP(buf_deinit) struct buf text = BUF_INIT(KIB(4));
        CLEANUP(buf_deinit) struct buf expected = BUF_INIT(KIB(4));
        buf_append_cstr(&text, "[mcp.servers.a]\ncmd = [\"x\"]\nenv.V = '");
        append_here(&text, files[i].reference);
        buf_append_cstr(&text, "'\n");
        buf_append_byte(&text, '\0');
        append_here(&expected, files[i].says != NULL ? files[i].says : "");
        buf_append_byte(&expected, '\0');
        struct loaded l = load_here(buf_slice(&text).ptr);
        test_row(files[i].reference);
        CHECK_INT(l.result, files[i].expected != NULL ? 0 : CONFIG_E_INVALID);
        if (l.result == 0 && files[i].expected != NULL)
            CHECK_STR(l.config->servers[0].env[0].value, files[i].expected);
        CHECK(says(&l, buf_slice(&expected).ptr));
        unload(&l);
    }
    big[LIMIT_SECRET] = '\0';
    put("long", big);
    struct loaded l = load_here("[mcp.servers.a]\ncmd = [\"x\"]\nenv.V = \"{{ file.long }}\"\n");
    CHECK_INT(l.result, 0);
    unload(&l);
    mem_free(big);
    static const char *const names[] = {"content", "with space", "bad", "long", "folder", "fifo"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        drop(names[i]);
    leave();
}

/* Files of the machine are for who writes its configuration file, not for an administrator in a
 * browser. */
static void test_no_files(void) {
    static const struct config_resolvers resolvers = {.getenv_fn = resolve_env, .no_files = true};
    enter();
    put("content", "inside\n");
    struct loaded l =
        load_with("[mcp.servers.a]\nurl = \"https://a.example/{{ file.content }}\"\n"
                  "auth.token_file = \"content\"\nproxy = '{{ file.none | default(\"x\") }}'\n",
                  &resolvers);
    CHECK_INT(l.result, CONFIG_E_INVALID);
    CHECK(says(&l, "f.toml:2:7: error: mcp.servers.a.url must not name a file"));
    CHECK(says(&l, "f.toml:3:19: error: mcp.servers.a.auth.token_file must not name a file"));
    CHECK(says(&l, "f.toml:4:9: error: mcp.servers.a.proxy must not name a file"));
    unload(&l);
    drop("content");
    leave();
}

/* --- twins --- */

static void test_twins(void) {
    enter();
    put("token", "f1_s3cr3t\n");
    put("signing", "0123456789abcdef0123456789abcdef\n");
    put("url", "postgres://u:f1_s3cr3t@h/db\n");
    put("redis", "rediss://u:f1_s3cr3t@r\n");
    struct loaded l = load_here(
        "[store]\nurl_file = \"url\"\n"
        "[mcp.servers.a]\nurl = \"https://a.example/\"\nauth.token_file = \"token\"\n"
        "[mcp.servers.b]\nurl = \"https://b.example/\"\n[mcp.servers.b.auth]\n"
        "type = \"client_credentials\"\nclient_id = \"me\"\nissuer = \"https://i.example\"\n"
        "client_secret_file = '{{ env.NONE | default(\"token\") }}'\n"
        "[server.oauth]\nexpected_issuer = \"y\"\nsecret_file = \"signing\"\n"
        "[server.oauth.protected_resource]\nresource = \"https://gw.example/mcp\"\n"
        "[[server.oauth.issuers]]\nexpected_issuer = \"x\"\nsecret_file = \"./signing\"\n"
        "[server.rate_limits.storage]\ntype = \"redis\"\nurl_file = \"redis\"\n");
    REQUIRE(l.result == 0);
    const struct config *config = l.config;
    CHECK_STR(config->store.url, "postgres://u:f1_s3cr3t@h/db");
    CHECK_STR(config->servers[0].auth_token, "f1_s3cr3t");
    CHECK_STR(config->servers[1].auth_client.client_secret, "f1_s3cr3t");
    CHECK_INT(config->oauth.n_issuers, 2);
    CHECK_STR(config->oauth.issuers[0].secret, "0123456789abcdef0123456789abcdef");
    CHECK_STR(config->oauth.issuers[1].secret, "0123456789abcdef0123456789abcdef");
    CHECK_STR(config->rate_limits.storage.url, "rediss://u:f1_s3cr3t@r");
    unload(&l);
    drop("token");
    drop("signing");
    drop("url");
    drop("redis");
    leave();
}

static const struct {
    const char *name, *text, *says;
} wrong_twins[] = {
    {"not there", "auth.token_file = \"none\"\n",
     "4:19: error: mcp.servers.a.auth.token_file needs the file "},
    {"both", "auth.token = \"x\"\nauth.token_file = \"token\"\n",
     "mcp.servers.a.auth.token_file and token are the same; keep one of them"},
    {"no string", "auth.token_file = 7\n", "must be a path, as a string"},
    {"a table", "auth.token_file = {}\n", "must be a path, as a string"},
    {"a secret as a path", "auth.token_file = \"{{ secret.token }}\"\n",
     "must not hold {{ secret.token }}"},
    {"what is in it is checked", "auth.token_file = \"lines\"\n", "mcp.servers.a.auth.token_file "},
    {"no secret, no twin", "url_file = \"token\"\n", "unknown key mcp.servers.a.url_file"},
    {"a twin of a twin", "auth.token_file_file = \"token\"\n", "unknown key"},
};

static void test_wrong_twins(void) {
    enter();
    put("token", "f1_s3cr3t\n");
    put("lines", "f1_s3cr3t\nf2_s3cr3t\n");
    for (size_t i = 0; i < ARRAY_LEN(wrong_twins); i++) {
        CLEANUP(buf_deinit) struct buf text = BUF_INIT(KIB(4));
        buf_printf(&text, "# A server.\n[mcp.servers.a]\nurl = \"https://a.example/\"\n%s",
                   wrong_twins[i].text);
        buf_append_byte(&text, '\0');
        struct loaded l = load_here(buf_slice(&text).ptr);
        test_row(wrong_twins[i].name);
        CHECK_INT(l.result, CONFIG_E_INVALID);
        CHECK(says(&l, wrong_twins[i].says));
        CHECK(!says(&l, "s3cr3t"));
        unload(&l);
    }
    struct loaded l = load_here("[mcp.servers.a]\ncmd = [\"x\"]\nproxy_file = \"token\"\n");
    CHECK_INT(l.result, CONFIG_E_INVALID);
    CHECK(says(&l, "proxy_file is for servers with url, and this one has cmd"));
    unload(&l);
    l = load_here("[mcp.servers.a]\nenabled = false\nurl = \"https://a.example/\"\n"
                  "auth.token_file = \"none\"\n");
    CHECK_INT(l.result, 0); /* what is switched off is not read */
    unload(&l);
    drop("token");
    drop("lines");
    leave();
}

/* --- what is noted --- */

static bool is_noted(const struct config *config, const char *key, const char *name) {
    for (size_t i = 0; i < config->n_variables; i++) {
        if (slice_eq(config->variables[i].key, slice_from_cstr(key)) &&
            slice_eq(config->variables[i].value, slice_from_cstr(name)))
            return true;
    }
    return false;
}

static void test_notes(void) {
    enter();
    put("token", "f1_s3cr3t\n");
    struct loaded l =
        load_here("[mcp.servers.a]\nurl = \"https://a.example/{{ secret.token }}\"\n"
                  "auth.token_file = \"token\"\nproxy = 'http://{{ env.DB_HOST }}:{{ file.none | "
                  "default(\"1\") }}'\n");
    REQUIRE(l.result == 0);
    CHECK(is_noted(l.config, "mcp.servers.a.url", "secret.token"));
    CHECK(is_noted(l.config, "mcp.servers.a.auth.token_file", "file.token"));
    CHECK(is_noted(l.config, "mcp.servers.a.proxy", "DB_HOST"));
    CHECK(is_noted(l.config, "mcp.servers.a.proxy", "file.none"));
    CHECK_INT(l.config->n_variables, 4);
    unload(&l);
    drop("token");
    leave();
}

static void test_store_alone(void) {
    char path[128];
    struct config_resolvers resolvers = {.getenv_fn = resolve_env};
    struct config_problems problems;
    struct config *config = NULL;
    enter();
    put("f.toml", "[mcp.servers.a]\nurl = \"nonsense\"\nauth.token = \"{{ secret.none }}\"\n"
                  "[unknown]\n[store]\nurl = \"postgres://h/{{ env.TOKEN }}\"\n");
    snprintf(path, sizeof path, "%s/f.toml", folder);
    config_problems_init(&problems);
    CHECK_INT(config_load_store(path, &resolvers, &problems, &config), 0);
    CHECK_INT(problems.n, 0);
    if (config != NULL)
        CHECK_STR(config->store.url, "postgres://h/s3cr3t");
    config = config_unref(config);
    put("f.toml", "[store]\nurl = \"postgres://h/{{ env.NONE }}\"\n");
    CHECK_INT(config_load_store(path, &resolvers, &problems, &config), CONFIG_E_INVALID);
    CHECK_INT(problems.n, 1);
    CHECK_INT(config_load_nothing(&config), 0);
    if (config != NULL)
        CHECK_INT(config->store.url.len, 0);
    config_unref(config);
    config_problems_deinit(&problems);
    drop("f.toml");
    leave();
}

static void load_all(void *arg) {
    (void)arg;
    struct loaded l = load_here("[store]\nurl_file = \"url\"\n"
                                "[mcp.servers.a]\nurl = \"https://a.example/{{ secret.token }}\"\n"
                                "auth.token_file = \"token\"\n"
                                "proxy = 'http://{{ env.DB_HOST }}:{{ file.\"no\" | "
                                "default(\"1\") }}'\n");
    CHECK(l.result == 0 || l.result == -ENOMEM || l.result == CONFIG_E_INVALID);
    unload(&l);
}

static void test_without_memory(void) {
    enter();
    put("token", "f1_s3cr3t\n");
    put("url", "postgres://u:f1_s3cr3t@h/db\n");
    test_torture(load_all, NULL);
    drop("token");
    drop("url");
    leave();
}

TEST_MAIN(TEST(test_secrets), TEST(test_places), TEST(test_store_first), TEST(test_no_secrets),
          TEST(test_hidden), TEST(test_out_of_memory), TEST(test_contents), TEST(test_files),
          TEST(test_no_files), TEST(test_twins), TEST(test_wrong_twins), TEST(test_notes),
          TEST(test_store_alone), TEST(test_without_memory))
