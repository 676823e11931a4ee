/* Lines for the access of tools, put into the text of a configuration: before and after. */
#include "base/limits.h"
#include "base/utf8.h"
#include "config/edit.h"
#include "edit_tree.h"
#include "test.h"
#include "toml.h"

#define READ(s, t)                                                                                 \
    { SLICE_INIT(s), SLICE_INIT(t), CONFIG_ACCESS_READ }
#define WRITE(s, t)                                                                                \
    { SLICE_INIT(s), SLICE_INIT(t), CONFIG_ACCESS_WRITE }

struct row {
    const char *name;
    const char *before, *after; /* after NULL: it is refused */
    const char *reason;         /* of a refusal, a part of it */
    struct config_access_edit edits[4];
};

#define EDITED(words, old, new, ...)                                                               \
    {                                                                                              \
        .name = words, .before = old, .after = new, .edits = { __VA_ARGS__ }                       \
    }
#define REFUSED(words, old, why, ...)                                                              \
    {                                                                                              \
        .name = words, .before = old, .reason = why, .edits = { __VA_ARGS__ }                      \
    }

static const struct row rows[] = {
    EDITED("a new table behind the server", "[mcp.servers.a]\ncmd = ['x']\n",
           "[mcp.servers.a]\ncmd = ['x']\n\n[mcp.servers.a.tools]\nr.access = \"read\"\n"
           "w.access = \"write\"\n",
           READ("a", "r"), WRITE("a", "w")),
    EDITED("between two servers",
           "[mcp.servers.a]\ncmd = ['x'] # why\n\n# The other one.\n[mcp.servers.b]\ncmd = ['y']\n",
           "[mcp.servers.a]\ncmd = ['x'] # why\n\n[mcp.servers.a.tools]\nr.access = \"read\"\n\n"
           "# The other one.\n[mcp.servers.b]\ncmd = ['y']\n\n[mcp.servers.b.tools]\nr.access = "
           "\"write\"\n",
           READ("a", "r"), WRITE("b", "r")),
    EDITED("no blank line between the two",
           "[mcp.servers.a]\ncmd = ['x']\n[mcp.servers.b]\ncmd = ['y']",
           "[mcp.servers.a]\ncmd = ['x']\n\n[mcp.servers.a.tools]\nr.access = \"read\"\n\n"
           "[mcp.servers.b]\ncmd = ['y']",
           READ("a", "r")),
    EDITED("a comment that touches the next table is the next table's",
           "[mcp.servers.a]\ncmd = ['x']\n# b\n[mcp.servers.b]\ncmd = ['y']\n",
           "[mcp.servers.a]\ncmd = ['x']\n\n[mcp.servers.a.tools]\nr.access = \"read\"\n\n"
           "# b\n[mcp.servers.b]\ncmd = ['y']\n",
           READ("a", "r")),
    EDITED(
        "one that touches the last key is that key's",
        "[mcp.servers.a]\ncmd = ['x']\n# env = {}\n  # two\n\n# b\n[mcp.servers.b]\ncmd = ['y']\n",
        "[mcp.servers.a]\ncmd = ['x']\n# env = {}\n  # two\n\n[mcp.servers.a.tools]\nr.access = "
        "\"read\"\n\n# b\n[mcp.servers.b]\ncmd = ['y']\n",
        READ("a", "r")),
    EDITED("the last line has no end", "[mcp.servers.a]\ncmd = ['x']",
           "[mcp.servers.a]\ncmd = ['x']\n\n[mcp.servers.a.tools]\nr.access = \"read\"\n",
           READ("a", "r")),
    EDITED("nor has the comment behind it", "[mcp.servers.a]\ncmd = ['x'] # y",
           "[mcp.servers.a]\ncmd = ['x'] # y\n\n[mcp.servers.a.tools]\nr.access = \"read\"\n",
           READ("a", "r")),
    EDITED("behind the last table of the server",
           "[mcp.servers.a]\ncmd = ['x']\n[mcp.servers.a.env]\nA = 'b'\n\n[server]\nworkers = 1\n",
           "[mcp.servers.a]\ncmd = ['x']\n[mcp.servers.a.env]\nA = 'b'\n\n[mcp.servers.a.tools]\n"
           "r.access = \"read\"\n\n[server]\nworkers = 1\n",
           READ("a", "r")),
    EDITED(
        "which may stand elsewhere, and be a list of tables",
        "[mcp.servers.a]\nurl = 'http://x'\n[server]\n[[mcp.servers.a.headers]]\nrule = 'remove'\n"
        "name = 'x'\n",
        "[mcp.servers.a]\nurl = 'http://x'\n[server]\n[[mcp.servers.a.headers]]\nrule = 'remove'\n"
        "name = 'x'\n\n[mcp.servers.a.tools]\nr.access = \"read\"\n",
        READ("a", "r")),
    EDITED("the server has no header of its own", "[mcp.servers.a.env]\nA = 'b'\n",
           "[mcp.servers.a.env]\nA = 'b'\n\n[mcp.servers.a.tools]\nr.access = \"read\"\n",
           READ("a", "r")),
    EDITED("a table of tools",
           "[mcp.servers.a]\n[mcp.servers.a.tools]\n  old.access = \"read\" # it reads\n\n  # "
           "end\n[x]\n",
           "[mcp.servers.a]\n[mcp.servers.a.tools]\n  old.access = \"read\" # it reads\n"
           "  r.access = \"read\"\n  w.access = \"write\"\n\n  # end\n[x]\n",
           READ("a", "r"), WRITE("a", "w")),
    EDITED("an empty one", "[mcp.servers.a.tools] # none yet\n\n",
           "[mcp.servers.a.tools] # none yet\nr.access = \"read\"\n\n", READ("a", "r")),
    EDITED("a tool with a table",
           "[mcp.servers.a.tools.r]\nscopes = ['s']\n# c\n\n[mcp.servers.a.tools.w]\n[x]\n",
           "[mcp.servers.a.tools.r]\nscopes = ['s']\naccess = \"read\"\n# "
           "c\n\n[mcp.servers.a.tools.w]\n"
           "access = \"write\"\n[x]\n",
           READ("a", "r"), WRITE("a", "w")),
    EDITED("a table of one tool alone, and another tool",
           "[mcp.servers.a.tools.r]\nscopes = ['s']\n",
           "[mcp.servers.a.tools.r]\nscopes = ['s']\naccess = \"read\"\n\n[mcp.servers.a.tools]\n"
           "w.access = \"write\"\n",
           WRITE("a", "w"), READ("a", "r")),
    EDITED("tables below the tool alone", "[mcp.servers.a.tools.r.arguments]\nx.max = 1\n[y]\n",
           "[mcp.servers.a.tools.r.arguments]\nx.max = 1\n\n[mcp.servers.a.tools.r]\naccess = "
           "\"read\"\n"
           "\n[mcp.servers.a.tools]\nw.access = \"write\"\n\n[y]\n",
           WRITE("a", "w"), READ("a", "r")),
    EDITED(
        "dotted keys of the tool",
        "[mcp.servers.a.tools]\nr.scopes = ['s']\nr.allow = [\n  'g', # ]\n]\nw.scopes = []\n",
        "[mcp.servers.a.tools]\nr.scopes = ['s']\nr.allow = [\n  'g', # ]\n]\nr.access = \"read\"\n"
        "w.scopes = []\nw.access = \"write\"\n",
        READ("a", "r"), WRITE("a", "w")),
    EDITED("dotted keys of the tools in the server's table",
           "[mcp.servers.a]\ncmd = ['x']\ntools.r.scopes = ['s']\nurl = 1\n",
           "[mcp.servers.a]\ncmd = ['x']\ntools.r.scopes = ['s']\ntools.r.access = \"read\"\n"
           "tools.w.access = \"write\"\nurl = 1\n",
           READ("a", "r"), WRITE("a", "w")),
    EDITED(
        "dotted keys of the server", "[mcp.servers]\na.cmd = ['x']\na.cwd = '.'\nb.cmd = ['y']\n",
        "[mcp.servers]\na.cmd = ['x']\na.cwd = '.'\na.tools.r.access = \"read\"\nb.cmd = ['y']\n",
        READ("a", "r")),
    EDITED("dotted keys from the root", "mcp.servers.a.cmd = ['x']\n[server]\n",
           "mcp.servers.a.cmd = ['x']\nmcp.servers.a.tools.r.access = \"read\"\n[server]\n",
           READ("a", "r")),
    EDITED("a tool in braces", "[mcp.servers.a.tools]\nr = { scopes = ['s'] }\nw = {}\nv = { }\n",
           "[mcp.servers.a.tools]\nr = { access = \"read\", scopes = ['s'] }\nw = { access = "
           "\"write\" "
           "}\n"
           "v = { access = \"write\" }\n",
           READ("a", "r"), WRITE("a", "w"), WRITE("a", "v")),
    EDITED("the tools in braces",
           "[mcp.servers.a]\ntools = { r = { scopes = ['}'] }, x.scopes = [] }\n",
           "[mcp.servers.a]\ntools = { x.access = \"read\", n.access = \"write\", r = { access = "
           "\"read\","
           " scopes = ['}'] }, x.scopes = [] }\n",
           READ("a", "r"), READ("a", "x"), WRITE("a", "n")),
    EDITED("empty braces for two", "[mcp.servers.a]\ntools = {}\n",
           "[mcp.servers.a]\ntools = { r.access = \"read\", w.access = \"write\" }\n",
           READ("a", "r"), WRITE("a", "w")),
    EDITED(
        "the server in braces",
        "[mcp.servers]\na = { cmd = ['x', \"{\"], env = { A = '#' } } # c\n",
        "[mcp.servers]\na = { tools.r.access = \"read\", cmd = ['x', \"{\"], env = { A = '#' } } # "
        "c\n",
        READ("a", "r")),
    EDITED("everything in braces", "mcp = { servers = { a = { cmd = ['x'] } } }",
           "mcp = { servers = { a = { tools.r.access = \"read\", cmd = ['x'] } } }",
           READ("a", "r")),
    EDITED("dotted keys in braces", "mcp = { servers.a.cmd = ['x'] }",
           "mcp = { servers.a.tools.r.access = \"read\", servers.a.cmd = ['x'] }", READ("a", "r")),
    EDITED(
        "keys in quotation marks, blanks around dots",
        "[ \"mcp\" . 'servers' . \"\\u0061\" ]\ncmd = ['x']\n",
        "[ \"mcp\" . 'servers' . \"\\u0061\" ]\ncmd = ['x']\n\n[mcp.servers.a.tools]\nr.access = "
        "\"read\"\n",
        READ("a", "r")),
    EDITED(
        "a header that only looks like the server's",
        "[mcp.\"servers.a\"]\nx = 1\n[mcp.servers.a]\ncmd = ['x']\n[mcp.servers.ab]\ncmd = ['x']\n",
        "[mcp.\"servers.a\"]\nx = 1\n[mcp.servers.a]\ncmd = ['x']\n\n[mcp.servers.a.tools]\n"
        "r.access = \"read\"\n\n[mcp.servers.ab]\ncmd = ['x']\n",
        READ("a", "r")),
    EDITED(
        "headers in strings and comments are none",
        "[mcp.servers.a]\ncmd = [\"\"\"\n[mcp.servers.a.tools]\n\\\"\"\" \"\"\"\"\", '''\n[b]''']\n"
        "# [mcp.servers.a.tools]\n",
        "[mcp.servers.a]\ncmd = [\"\"\"\n[mcp.servers.a.tools]\n\\\"\"\" \"\"\"\"\", '''\n[b]''']\n"
        "# [mcp.servers.a.tools]\n\n[mcp.servers.a.tools]\nr.access = \"read\"\n",
        READ("a", "r")),
    EDITED(
        "line ends of DOS", "[mcp.servers.a]\r\ncmd = ['x']\r\n\r\n[server]\r\n",
        "[mcp.servers.a]\r\ncmd = ['x']\r\n\r\n[mcp.servers.a.tools]\r\nr.access = \"read\"\r\n\r\n"
        "[server]\r\n",
        READ("a", "r")),
    EDITED("a byte order mark, and nothing in front", "\xEF\xBB\xBF[mcp.servers.a.tools]\n",
           "\xEF\xBB\xBF[mcp.servers.a.tools]\nr.access = \"read\"\n", READ("a", "r")),
    EDITED("indented", "  [mcp.servers.a.tools]\n\t[x]\n",
           "  [mcp.servers.a.tools]\n  r.access = \"read\"\n\t[x]\n", READ("a", "r")),
    EDITED("values of every kind",
           "[mcp.servers.a]\nd = 1979-05-27 07:32:00Z\nf = [ 1.5, inf, nan ] # c\nb = true\n"
           "n = [{a = 1}, {a = [2]}]\nl = 'C:\\'\ne = \"\"\nm = \"\"\"a\"\"\"\"\"\nk = '''b'''''\n",
           "[mcp.servers.a]\nd = 1979-05-27 07:32:00Z\nf = [ 1.5, inf, nan ] # c\nb = true\n"
           "n = [{a = 1}, {a = [2]}]\nl = 'C:\\'\ne = \"\"\nm = \"\"\"a\"\"\"\"\"\nk = "
           "'''b'''''\n\n[mcp.servers.a.tools]\nr.access = "
           "\"read\"\n",
           READ("a", "r")),
    EDITED("other keys of the same name",
           "[mcp.servers.a]\ntools.r.scopes = []\n[other.tools.r]\naccess = "
           "'x'\n[mcp.other.a.tools]\n",
           "[mcp.servers.a]\ntools.r.scopes = []\ntools.r.access = "
           "\"read\"\n[other.tools.r]\naccess = "
           "'x'\n[mcp.other.a.tools]\n",
           READ("a", "r")),
    EDITED("names that need quotation marks", "[mcp.servers.a.tools]\n",
           "[mcp.servers.a.tools]\n\"a.b\".access = \"read\"\n\"say \\\"hi\\\" \\\\\".access = "
           "\"write\"\n"
           "\"\xC3\xA9t\xC3\xA9\".access = \"read\"\n\"\".access = \"write\"\n",
           READ("a", "a.b"), WRITE("a", "say \"hi\" \\"), READ("a", "\xC3\xA9t\xC3\xA9"),
           WRITE("a", "")),
    EDITED("names that attack", "[mcp.servers.a.tools]\n",
           "[mcp.servers.a.tools]\n"
           "\"x\\\"]\\u000a[server]\\u000aplaintext = true\\u000a#\".access = \"read\"\n"
           "\"\\u001b[2J\\u009b\\u007f\".access = \"write\"\n"
           "\"\\u202edaer\\u200b\\u2066\\ufeff\\U000e0041\".access = \"read\"\n"
           "\"'''\\\"\\\"\\\" } # {{ env.HOME }}\".access = \"read\"\n",
           READ("a", "x\"]\n[server]\nplaintext = true\n#"), WRITE("a", "\x1b[2J\xC2\x9B\x7f"),
           READ("a", "\xE2\x80\xAE"
                     "daer\xE2\x80\x8B\xE2\x81\xA6\xEF\xBB\xBF\xF3\xA0\x81\x81"),
           READ("a", "'''\"\"\" } # {{ env.HOME }}")),
    EDITED("a tool named as a part of the path", "[mcp.servers.a]\ncmd = ['x']\n",
           "[mcp.servers.a]\ncmd = ['x']\n\n[mcp.servers.a.tools]\ntools.access = \"read\"\n"
           "access.access = \"read\"\nmcp.access = \"write\"\n",
           READ("a", "tools"), READ("a", "access"), WRITE("a", "mcp")),
    EDITED(
        "a server named so", "[mcp.servers.tools]\ncmd = ['x']\n",
        "[mcp.servers.tools]\ncmd = ['x']\n\n[mcp.servers.tools.tools]\ntools.access = \"read\"\n",
        READ("tools", "tools")),
    REFUSED("the access is there", "[mcp.servers.a.tools]\nr.access = 'write'\n", "line 2",
            READ("a", "r")),
    REFUSED("... in braces", "[mcp.servers.a]\n\ntools = { r = { access = 1 } }\n", "line 3",
            READ("a", "x"), READ("a", "r")),
    REFUSED("there is no such server", "[mcp.servers.b]\ncmd = ['x']\n", "no place",
            READ("a", "r")),
    REFUSED("twice the same", "[mcp.servers.a.tools]\n", "no valid TOML", READ("a", "r"),
            READ("a", "r")),
    REFUSED("no TOML", "[mcp.servers.a]\nx\n", "line 2", READ("a", "r")),
    REFUSED("the tools are no table", "[mcp.servers.a]\ntools = 1\n", "no valid TOML",
            READ("a", "r")),
    REFUSED("the tool is none", "[mcp.servers.a.tools]\nr = 'read'\n", "no valid TOML",
            READ("a", "r")),
    REFUSED("the servers are a list", "[[mcp.servers]]\na = { cmd = [] }\n", "something else",
            READ("a", "r")),
    REFUSED("a name that is not UTF-8", "[mcp.servers.a.tools]\n", "UTF-8", READ("a", "\xff")),
};

static size_t count_edits(const struct row *row) {
    size_t n = 0;
    while (n < ARRAY_LEN(row->edits) && row->edits[n].access != CONFIG_ACCESS_UNSET)
        n++;
    return n;
}

static void test_rows(void) {
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *row = &rows[i];
        test_row(row->name);
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
        struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        int r = config_edit_access(slice_from_cstr(row->before), row->edits, count_edits(row), &out,
                                   &reason);
        CHECK_INT(r, row->after != NULL ? 0 : CONFIG_E_PLACE);
        CHECK_STR(buf_slice(&out), row->after != NULL ? row->after : "");
        if (row->reason == NULL)
            CHECK_INT(buf_len(&reason), 0);
        else if (slice_find(buf_slice(&reason), slice_from_cstr(row->reason)) == SIZE_MAX)
            CHECK_STR(buf_slice(&reason), row->reason);
    }
}

/* What a changed text may say, and what it may not. */
static void test_trees(void) {
#define OLD "x = [1, {a = 'b'}]\n[mcp.servers.a]\ncmd = ['x']\n"
#define R   "[mcp.servers.a.tools]\nr.access = 'read'\n"
    static const struct {
        const char *text;
        bool is_fine;
    } trees[] = {
        {OLD R, true},
        {"mcp.servers.a = { tools.r.access = 'read', cmd = ['x'] }\nx = [1, {a = 'b'}]", true},
        {OLD, false},
        {OLD "[mcp.servers.a.tools]\nr.access = 'write'\n", false},
        {OLD "[mcp.servers.a.tools]\nr.access = true\n", false},
        {OLD "[mcp.servers.a.tools]\nr.access.access = 'read'\n", false},
        {OLD R "w.access = 'read'\n", false},
        {OLD R "r.allow = []\n", false},
        {OLD R "w = {}\n", false},
        {OLD R "[mcp.servers.b]\ntools.r.access = 'read'\n", false},
        {OLD R "[other]\n", false},
        {"y = 1\n" OLD R, false},
        {"x = [1, {a = 'b', access = 'read'}]\n[mcp.servers.a]\ncmd = ['x']\n" R, false},
        {"x = [1, {a = 'b'}, 2]\n[mcp.servers.a]\ncmd = ['x']\n" R, false},
        {"x = [1, {a = 'c'}]\n[mcp.servers.a]\ncmd = ['x']\n" R, false},
        {"x = [1.0, {a = 'b'}]\n[mcp.servers.a]\ncmd = ['x']\n" R, false},
        {"[mcp.servers.a]\ncmd = ['x']\n" R, false},
        {"x = [1, {a = 'b'}]\n" R, false},
    };
    static const struct config_access_edit edits[] = {READ("a", "r")};
    struct arena arena CLEANUP(arena_deinit) = ARENA_INIT(MIB(1));
    struct toml_node *old, *root;
    struct toml_error error;
    REQUIRE(toml_parse(&arena, SLICE(OLD), &old, &error) == 0);
    for (size_t i = 0; i < ARRAY_LEN(trees); i++) {
        test_row(trees[i].text);
        REQUIRE(toml_parse(&arena, slice_from_cstr(trees[i].text), &root, &error) == 0);
        CHECK(edit_is_all(old, root, edits, 1) == trees[i].is_fine);
    }
}

/* What is written is read as the same name, whatever is in it. */
static void test_keys(void) {
    static const struct slice names[] = {
        SLICE_INIT("read_file"),
        SLICE_INIT("a-B_9"),
        SLICE_INIT(""),
        SLICE_INIT("a.b"),
        SLICE_INIT("\"\\\n\0x"),
        SLICE_INIT("\xE2\x80\xAE#\xF0\x9F\x98\x80"),
        SLICE_INIT("= [ ] { }"),
        SLICE_INIT("'"),
        SLICE_INIT("\xEF\xBF\xBF"),
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
        struct arena arena CLEANUP(arena_deinit) = ARENA_INIT(MIB(1));
        struct toml_node *root;
        struct toml_error error;
        CHECK_INT(config_write_key(&text, names[i]), 0);
        CHECK_INT(buf_append(&text, SLICE(" = 1\n")), 0);
        REQUIRE(toml_parse(&arena, buf_slice(&text), &root, &error) == 0);
        REQUIRE(root->n_children == 1);
        CHECK_SLICE(root->children[0].key, names[i]);
        CHECK(slice_find_byte(buf_slice(&text), '\n') == buf_len(&text) - 1);
    }
}

/* Every character that Unicode has, one after the other, as a name. */
static void test_all_characters(void) {
    for (uint32_t c = 0; c < 0x110000; c += c < 0x3000 ? 1 : 251) {
        char bytes[4];
        if (c >= 0xd800 && c < 0xe000)
            continue;
        struct slice name = slice_make(bytes, utf8_encode(c, bytes));
        struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
        struct arena arena CLEANUP(arena_deinit) = ARENA_INIT(MIB(1));
        struct toml_node *root;
        struct toml_error error;
        config_write_key(&text, name);
        buf_append(&text, SLICE("=1"));
        REQUIRE(toml_parse(&arena, buf_slice(&text), &root, &error) == 0);
        REQUIRE(root->n_children == 1 && slice_eq(root->children[0].key, name));
    }
}

static void test_lines_to_paste(void) {
    static const struct config_access_edit edits[] = {READ("a", "r"), WRITE("a", "w.1"),
                                                      READ("b-c", "r")};
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    CHECK_INT(config_write_access(&out, edits, ARRAY_LEN(edits)), 0);
    CHECK_STR(buf_slice(&out), "[mcp.servers.a.tools]\nr.access = \"read\"\n\"w.1\".access = "
                               "\"write\"\n\n[mcp.servers.b-c.tools]\nr.access = \"read\"\n");
}

/* However the text is cut: the result is refused, or what the text says and the lines. */
static void test_cut(void) {
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *row = &rows[i];
        struct slice whole = slice_from_cstr(row->before);
        test_row(row->name);
        for (size_t len = 0; len < whole.len; len++) {
            struct buf out CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
            struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
            char *part = mem_xalloc(len); /* of its own, so that reading past it is seen */
            memcpy(part, whole.ptr, len);
            int r = config_edit_access(slice_make(part, len), row->edits, count_edits(row), &out,
                                       &reason);
            CHECK(r == 0 || (r == CONFIG_E_PLACE && buf_len(&out) == 0 && buf_len(&reason) != 0));
            mem_free(part);
        }
    }
}

/* Bytes that mean something to TOML, put and taken at each place. */
static void test_disturbed(void) {
    static const char signs[] = "\"'[]{}#=.,\n\r \\";
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *row = &rows[i];
        struct slice whole = slice_from_cstr(row->before);
        test_row(row->name);
        for (size_t k = 0; k < whole.len * sizeof signs; k++) {
            size_t at = k / sizeof signs;
            char sign = signs[k % sizeof signs];
            struct buf text CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
            struct buf out CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
            struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
            buf_append(&text, slice_sub(whole, 0, at));
            if (sign != '\0') /* else one is taken */
                buf_append_byte(&text, sign);
            buf_append(&text, slice_from(whole, at + (sign == '\0')));
            int r =
                config_edit_access(buf_slice(&text), row->edits, count_edits(row), &out, &reason);
            CHECK(r == 0 || (r == CONFIG_E_PLACE && buf_len(&out) == 0 && buf_len(&reason) != 0));
        }
    }
}

static void test_many(void) {
    enum { MANY = 10000 };
    struct config_access_edit *edits = mem_xalloc(MANY * sizeof *edits);
    struct buf names CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(MIB(4)),
                   reason CLEANUP(buf_deinit) = BUF_INIT(64);
    for (size_t i = 0; i < MANY; i++)
        buf_printf(&names, "tool_%05zu", i);
    for (size_t i = 0; i < MANY; i++)
        edits[i] = (struct config_access_edit){
            SLICE("a"), slice_sub(buf_slice(&names), i * 10, i * 10 + 10), CONFIG_ACCESS_READ};
    CHECK_INT(
        config_edit_access(SLICE("[mcp.servers.a]\ncmd = ['x']\n"), edits, MANY, &out, &reason), 0);
    CHECK(slice_ends_with(buf_slice(&out), SLICE("\ntool_09999.access = \"read\"\n")));
    CHECK_INT(buf_len(&out),
              sizeof "[mcp.servers.a]\ncmd = ['x']\n\n[mcp.servers.a.tools]\n" - 1 + 27 * MANY);
    mem_free(edits);
}

static void torture(void *arg) {
    const struct row *row = arg;
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    int r = config_edit_access(slice_from_cstr(row->before), row->edits, count_edits(row), &out,
                               &reason);
    CHECK(r == -ENOMEM || r == (row->after != NULL ? 0 : CONFIG_E_PLACE));
    if (r != 0)
        CHECK_INT(buf_len(&out), 0);
    else
        CHECK_STR(buf_slice(&out), row->after);
}

static void test_without_memory(void) {
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct row row = rows[i];
        test_row(row.name);
        test_torture(torture, &row);
    }
}

TEST_MAIN(TEST(test_rows), TEST(test_trees), TEST(test_keys), TEST(test_all_characters),
          TEST(test_lines_to_paste), TEST(test_cut), TEST(test_disturbed), TEST(test_many),
          TEST(test_without_memory))
