/* Rules about arguments, and how somebody would get past them. */
#include "support.h"

#define K "\xe2\x84\xaa" /* KELVIN SIGN */
#define S "\xc5\xbf"     /* LATIN SMALL LETTER LONG S */

/* What the rule says, what is sent, and the key that refuses it; "" lets it through. */
struct row {
    const char *rule, *arguments, *refused_by;
};

/* One argument rule, the name of the argument included: `path = { ... }`. */
static struct loaded_policy load_rule(const char *rule) {
    CLEANUP(buf_deinit) struct buf text = BUF_INIT(KIB(64));
    buf_printf(&text, "[mcp.servers.s]\ncmd = [\"true\"]\naccess = \"read\"\n"
                      "[mcp.servers.s.tools.t.arguments]\n");
    buf_append_cstr(&text, rule);
    if (buf_append_byte(&text, '\0') != 0)
        CANNOT_GO_ON();
    return load_policy(buf_slice(&text).ptr);
}

static int check(struct loaded_policy *loaded, struct slice arguments, struct buf *reason) {
    static const struct policy_caller nobody = {.n_groups = 0};
    struct policy_item item = tool_named("t");
    struct policy_decision decision =
        policy_decide(policy_find_server(loaded->policy, SLICE("s")), &nobody, &item, false);
    CHECK_INT(decision.verdict, POLICY_ALLOWED);
    CHECK(policy_has_argument_rules(&decision));
    return policy_check_arguments(&decision, item.name, loaded->reader, arguments, reason);
}

static void run(const struct row *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(16)), key = BUF_INIT(KIB(1));
        char name[600];
        snprintf(name, sizeof name, "%s | %s", rows[i].rule, rows[i].arguments);
        test_row(name);
        struct loaded_policy loaded = load_rule(rows[i].rule);
        bool is_refused = rows[i].refused_by[0] != '\0';
        CHECK_INT(check(&loaded, slice_from_cstr(rows[i].arguments), &reason),
                  is_refused ? POLICY_E_ARGUMENT : 0);
        buf_append_cstr(&key, "mcp.servers.s.tools.t.arguments");
        buf_append_cstr(&key, rows[i].refused_by);
        if (is_refused && slice_find(buf_slice(&reason), buf_slice(&key)) == SIZE_MAX) {
            test_fail(__FILE__, __LINE__, "another rule refuses it");
            printf("# %.*s\n", SLICE_ARGS(buf_slice(&reason)));
        }
        if (!is_refused)
            CHECK_INT(buf_len(&reason), 0);
        unload_policy(&loaded);
        test_row("");
    }
}

static void test_allow(void) {
    static const struct row rows[] = {
        {"a = {allow = [\"x\", \"y\"]}", "{\"a\":\"x\"}", ""},
        {"a = {allow = [\"x\", \"y\"]}", "{\"b\":1,\"a\":\"y\"}", ""},
        {"a = {allow = [\"x\", \"y\"]}", "{\"a\":\"z\"}", ".a.allow"},
        {"a = {allow = [\"x\", \"y\"]}", "{\"a\":\"X\"}", ".a.allow"},
        {"a = {allow = [\"x\", \"y\"]}", "{\"a\":\"x \"}", ".a.allow"},
        {"a = {allow = [\"x\", \"y\"]}", "{\"a\":\"\\u0078\"}", ""},
        {"a = {allow = [\"x\", \"y\"]}", "{\"a\":\"x\\u0000\"}", ".a.allow"},
        {"a = {allow = [\"x\", \"y\"]}", "{\"a\":\"\"}", ".a.allow"},
        {"a = {allow = []}", "{\"a\":\"x\"}", ".a.allow"},
        {"a = {allow = []}", "{}", ".a.allow"},
        /* it has to be there */
        {"a = {allow = [\"x\"]}", "{}", ".a.allow"},
        {"a = {allow = [\"x\"]}", "", ".a.allow"},
        {"a = {allow = [\"x\"]}", "{\"a\":null}", ".a.allow"},
        {"a = {allow = [\"x\"]}", "{\"a\":[]}", ".a.allow"},
        {"a = {allow = [\"x\"]}", "{\"a\":[[],[[]]]}", ".a.allow"},
        {"a = {allow = [\"x\"]}", "{\"a\":[\"x\",null]}", ".a.allow"},
        {"a = {allow = [\"x\"], optional = true}", "{}", ""},
        {"a = {allow = [\"x\"], optional = true}", "", ""},
        {"a = {allow = [\"x\"], optional = true}", "{\"a\":null}", ""},
        {"a = {allow = [\"x\"], optional = true}", "{\"a\":[]}", ""},
        {"a = {allow = [\"x\"], optional = true}", "{\"a\":\"y\"}", ".a.allow"},
        /* type and value */
        {"a = {allow = [1, 2.5]}", "{\"a\":1}", ""},
        {"a = {allow = [1, 2.5]}", "{\"a\":1.0}", ""},
        {"a = {allow = [1, 2.5]}", "{\"a\":10e-1}", ""},
        {"a = {allow = [1, 2.5]}", "{\"a\":2.50}", ""},
        {"a = {allow = [1, 2.5]}", "{\"a\":2}", ".a.allow"},
        {"a = {allow = [1, 2.5]}", "{\"a\":\"1\"}", ".a.allow"},
        {"a = {allow = [1, 2.5]}", "{\"a\":true}", ".a.allow"},
        {"a = {allow = [1]}", "{\"a\":1e400}", ".a.allow"},
        {"a = {allow = [0]}", "{\"a\":-0}", ""},
        {"a = {allow = [0]}", "{\"a\":1e-400}", ""},
        {"a = {allow = [\"1\"]}", "{\"a\":1}", ".a.allow"},
        {"a = {allow = [9007199254740991]}", "{\"a\":9007199254740991}", ""},
        {"a = {allow = [9007199254740991]}", "{\"a\":9007199254740990}", ".a.allow"},
        {"a = {allow = [true]}", "{\"a\":true}", ""},
        {"a = {allow = [true]}", "{\"a\":false}", ".a.allow"},
        {"a = {allow = [true]}", "{\"a\":1}", ".a.allow"},
        {"a = {allow = [true]}", "{\"a\":\"true\"}", ".a.allow"},
        {"a = {allow = [true, false]}", "{\"a\":false}", ""},
        /* objects cannot be compared */
        {"a = {allow = [\"x\"]}", "{\"a\":{}}", ".a"},
        {"a = {allow = [\"x\"]}", "{\"a\":{\"x\":\"x\"}}", ".a"},
        {"a = {allow = [\"x\"], optional = true}", "{\"a\":{\"0\":\"x\"}}", ".a"},
        /* every entry of a list */
        {"a = {allow = [\"x\", \"y\"]}", "{\"a\":[\"x\",\"y\"]}", ""},
        {"a = {allow = [\"x\", \"y\"]}", "{\"a\":[\"x\",\"z\"]}", ".a.allow"},
        {"a = {allow = [\"x\", \"y\"]}", "{\"a\":[[[\"x\"]],[\"y\"]]}", ""},
        {"a = {allow = [\"x\", \"y\"]}", "{\"a\":[\"x\",[[[\"z\"]]]]}", ".a.allow"},
        {"a = {allow = [\"x\", \"y\"]}", "{\"a\":[\"x\",{}]}", ".a"},
        {"a = {allow = [\"x\", \"y\"]}", "{\"a\":[\"x\",[{\"a\":\"x\"}]]}", ".a"},
        /* a rule is about its own argument, at the top */
        {"a = {allow = [\"x\"], optional = true}", "{\"b\":{\"a\":\"y\"}}", ""},
        {"a = {allow = [\"x\"], optional = true}", "{\"b\":[\"y\"],\"c\":{\"d\":{}}}", ""},
    };
    run(rows, ARRAY_LEN(rows));
}

static void test_deny(void) {
    static const struct row rows[] = {
        {"a = {deny = [\"rm\"]}", "{\"a\":\"ls\"}", ""},
        {"a = {deny = [\"rm\"]}", "{\"a\":\"rm\"}", ".a.deny"},
        {"a = {deny = [\"rm\"]}", "{\"a\":\"\\u0072m\"}", ".a.deny"},
        {"a = {deny = [\"rm\"]}", "{\"a\":\"rm\\u0000x\"}", ".a.deny"},
        {"a = {deny = [\"rm\"]}", "{\"a\":[\"ls\",[\"rm\"]]}", ".a.deny"},
        {"a = {deny = [\"rm\"]}", "{\"a\":{\"a\":\"ls\"}}", ".a"},
        {"a = {deny = [\"rm\"]}", "{}", ""},
        {"a = {deny = [\"rm\"]}", "", ""},
        {"a = {deny = [\"rm\"]}", "{\"a\":null}", ""},
        {"a = {deny = [\"rm\"]}", "{\"a\":[null,[]]}", ""},
        /* whatever its type: the server may make the one of the other */
        {"a = {deny = [443]}", "{\"a\":443}", ".a.deny"},
        {"a = {deny = [443]}", "{\"a\":443.0}", ".a.deny"},
        {"a = {deny = [443]}", "{\"a\":4.43e2}", ".a.deny"},
        {"a = {deny = [443]}", "{\"a\":\"443\"}", ".a.deny"},
        {"a = {deny = [443]}", "{\"a\":\" 443\\n\"}", ".a.deny"},
        {"a = {deny = [443]}", "{\"a\":\"\\u00a0\\ufeff443\\u3000\"}", ".a.deny"},
        {"a = {deny = [443]}", "{\"a\":\"+443\"}", ".a.deny"},
        {"a = {deny = [443]}", "{\"a\":\"0443\"}", ".a.deny"},
        {"a = {deny = [443]}", "{\"a\":\"0x1bb\"}", ".a.deny"},
        {"a = {deny = [443]}", "{\"a\":\"0X1BB\"}", ".a.deny"},
        {"a = {deny = [443]}", "{\"a\":\"0o673\"}", ".a.deny"},
        {"a = {deny = [443]}", "{\"a\":\"0b110111011\"}", ".a.deny"},
        {"a = {deny = [443]}", "{\"a\":\"44.3e1\"}", ".a.deny"},
        {"a = {deny = [443]}", "{\"a\":\"443.\"}", ".a.deny"},
        {"a = {deny = [443]}", "{\"a\":\"443d\"}", ".a.deny"},
        {"a = {deny = [443]}", "{\"a\":\"4_4_3\"}", ".a.deny"},
        {"a = {deny = [443]}", "{\"a\":\"443\\u0000x\"}", ".a.deny"},
        {"a = {deny = [443]}", "{\"a\":\"\\u0664\\u0664\\u0663\"}", ".a.deny"},
        {"a = {deny = [443]}", "{\"a\":\"\\uff14\\uff14\\uff13\"}", ".a.deny"},
        {"a = {deny = [443]}", "{\"a\":\"\xf0\x9d\x9f\x92\xf0\x9d\x9f\x92\xf0\x9d\x9f\x91\"}",
         ".a.deny"},
        {"a = {deny = [443]}", "{\"a\":\"4 43\"}", ""},
        {"a = {deny = [443]}", "{\"a\":\"port 443\"}", ""},
        {"a = {deny = [443]}", "{\"a\":\"443x\"}", ""},
        {"a = {deny = [443]}", "{\"a\":\"nan\"}", ""},
        {"a = {deny = [443]}", "{\"a\":\"\"}", ""},
        {"a = {deny = [-1]}", "{\"a\":\"-0x1\"}", ".a.deny"},
        {"a = {deny = [-1]}", "{\"a\":\"-0b1\"}", ".a.deny"},
        {"a = {deny = [\"443\"]}", "{\"a\":443}", ".a.deny"},
        {"a = {deny = [\"443\"]}", "{\"a\":\"0443\"}", ".a.deny"},
        {"a = {deny = [\"443\"]}", "{\"a\":444}", ""},
        {"a = {deny = [true]}", "{\"a\":true}", ".a.deny"},
        {"a = {deny = [true]}", "{\"a\":\"true\"}", ".a.deny"},
        {"a = {deny = [true]}", "{\"a\":\"True\"}", ".a.deny"},
        {"a = {deny = [true]}", "{\"a\":1}", ".a.deny"},
        {"a = {deny = [true]}", "{\"a\":false}", ""},
        {"a = {deny = [0]}", "{\"a\":false}", ".a.deny"},
        {"a = {deny = [0]}", "{\"a\":\"-0.0\"}", ".a.deny"},
        {"a = {deny = [0]}", "{\"a\":true}", ""},
        {"a = {allow = [\"x\", \"y\"], deny = [\"y\"]}", "{\"a\":\"y\"}", ".a.deny"},
    };
    run(rows, ARRAY_LEN(rows));
}

static void test_pattern(void) {
    static const struct row rows[] = {
        {"a = {pattern = '/srv/[a-z/]+'}", "{\"a\":\"/srv/data\"}", ""},
        {"a = {pattern = '/srv/[a-z/]+'}", "{\"a\":\"/srv/../etc\"}", ".a.pattern"},
        {"a = {pattern = '/srv/[a-z/]+'}", "{\"a\":\"x/srv/data\"}", ".a.pattern"},
        {"a = {pattern = '/srv/[a-z/]+'}", "{\"a\":\"/srv/data\\n\"}", ".a.pattern"},
        {"a = {pattern = '/srv/[a-z/]+'}", "{\"a\":\"/srv/data\\nx\"}", ".a.pattern"},
        {"a = {pattern = '/srv/[a-z/]+'}", "{\"a\":\"\\/srv\\/data\"}", ""},
        {"a = {pattern = '/srv/[a-z/]+'}", "{\"a\":\"/srv/data\\u0000/../../etc\"}", ".a.pattern"},
        {"a = {pattern = '/srv/[a-z/]+'}", "{\"a\":[\"/srv/a\",\"/srv/b\"]}", ""},
        {"a = {pattern = '/srv/[a-z/]+'}", "{\"a\":[\"/srv/a\",[\"/etc\"]]}", ".a.pattern"},
        {"a = {pattern = '/srv/[a-z/]+'}", "{\"a\":{\"path\":\"/srv/a\"}}", ".a"},
        {"a = {pattern = '/srv/[a-z/]+'}", "{}", ".a.pattern"},
        {"a = {pattern = '/srv/[a-z/]+'}", "{\"a\":null}", ".a.pattern"},
        {"a = {pattern = '/srv/[a-z/]+'}", "{\"a\":[]}", ".a.pattern"},
        {"a = {pattern = '/srv/[a-z/]+', optional = true}", "{}", ""},
        {"a = {pattern = '[0-9]+'}", "{\"a\":12}", ""},
        {"a = {pattern = '[0-9]+'}", "{\"a\":-12}", ".a.pattern"},
        {"a = {pattern = '[0-9]+'}", "{\"a\":1e3}", ".a.pattern"},
        {"a = {pattern = '\\d+'}", "{\"a\":\"\\u0663\"}", ".a.pattern"},
        {"a = {pattern = 'true'}", "{\"a\":true}", ""},
        {"a = {pattern = 'true'}", "{\"a\":false}", ".a.pattern"},
        {"a = {pattern = '\\w.'}", "{\"a\":\"a\xc3\xa4\"}", ""},
        {"a = {pattern = '(a+)+[bc]'}", "{\"a\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}",
         ".a;"},
        {"a = {pattern = '(a|a)*b|a*'}", "{\"a\":[\"a\",\"aaaaaaaaaaaaaaaaaaaaaaaaaaa\"]}", ".a;"},
    };
    run(rows, ARRAY_LEN(rows));
}

static void test_max(void) {
    static const struct row rows[] = {
        {"a = {max = 10}", "{\"a\":10}", ""},
        {"a = {max = 10}", "{\"a\":10.5}", ".a.max"},
        {"a = {max = 10}", "{\"a\":11}", ".a.max"},
        {"a = {max = 10}", "{\"a\":1e1}", ""},
        {"a = {max = 10}", "{\"a\":1.01e1}", ".a.max"},
        {"a = {max = 10}", "{\"a\":1e999}", ".a.max"},
        {"a = {max = 10}", "{\"a\":-1e999}", ""},
        {"a = {max = 10}", "{\"a\":true}", ""},
        {"a = {max = 10}", "{}", ""},
        {"a = {max = 10}", "{\"a\":null}", ""},
        {"a = {max = 10}", "{\"a\":{}}", ".a"},
        {"a = {max = 2.5}", "{\"a\":2.5}", ""},
        {"a = {max = 2.5}", "{\"a\":2.6}", ".a.max"},
        /* of a text: characters, not bytes */
        {"a = {max = 10}", "{\"a\":\"abcdefghij\"}", ""},
        {"a = {max = 10}", "{\"a\":\"abcdefghijk\"}", ".a.max"},
        {"a = {max = 3}", "{\"a\":\"\xc3\xa4\xc3\xa4\xc3\xa4\"}", ""},
        {"a = {max = 3}", "{\"a\":\"\\u00e4\\u00e4\\ud83d\\ude00\"}", ""},
        {"a = {max = 3}", "{\"a\":\"\\u00e4\\u00e4\\ud83d\\ude00x\"}", ".a.max"},
        /* ... and what a server could take it for */
        {"a = {max = 10}", "{\"a\":\"10\"}", ""},
        {"a = {max = 10}", "{\"a\":\"11\"}", ".a.max"},
        {"a = {max = 10}", "{\"a\":\" 11 \"}", ".a.max"},
        {"a = {max = 10}", "{\"a\":\"1e9\"}", ".a.max"},
        {"a = {max = 10}", "{\"a\":\"0xff\"}", ".a.max"},
        {"a = {max = 10}", "{\"a\":\"0b1011\"}", ".a.max"},
        {"a = {max = 10}", "{\"a\":\"+11\"}", ".a.max"},
        {"a = {max = 10}", "{\"a\":\"-11\"}", ""},
        {"a = {max = 10}", "{\"a\":\"1_1\"}", ".a.max"},
        {"a = {max = 10}", "{\"a\":\"\\uff11\\uff11\"}", ".a.max"},
        {"a = {max = 10}", "{\"a\":\"Infinity\"}", ".a.max"},
        {"a = {max = 10}", "{\"a\":\"-inf\"}", ""},
        {"a = {max = 10}", "{\"a\":\"NaN\"}", ".a.max"},
        {"a = {max = 10}", "{\"a\":\"11\\u0000\"}", ".a.max"},
        {"a = {max = 10}", "{\"a\":\"11 a\"}", ""},
        {"a = {max = 10}", "{\"a\":\"a11\"}", ""},
        {"a = {max = 100}", "{\"a\":\"2024 was good\"}", ""},
        {"a = {max = 100}", "{\"a\":\"00000000000000000000000000000000000000000000000000101\"}",
         ".a.max"},
        /* of a list: entries, each of which is a value itself */
        {"a = {max = 3}", "{\"a\":[1,2,3]}", ""},
        {"a = {max = 3}", "{\"a\":[1,1,1,1]}", ".a.max"},
        {"a = {max = 3}", "{\"a\":[4]}", ".a.max"},
        {"a = {max = 3}", "{\"a\":[[1,1,1],[1,1,1],[1,1,1]]}", ""},
        {"a = {max = 3}", "{\"a\":[[1,1,1,1]]}", ".a.max"},
        {"a = {max = 3}", "{\"a\":[null,null,null,null]}", ".a.max"},
        {"a = {max = 0}", "{\"a\":[]}", ""},
        {"a = {max = 0}", "{\"a\":\"\"}", ""},
        {"a = {max = 0}", "{\"a\":[\"\"]}", ".a.max"},
        {"a = {max = -1}", "{\"a\":-2}", ""},
        {"a = {max = -1}", "{\"a\":0}", ".a.max"},
        {"a = {max = 5, pattern = '[a-z]+'}", "{\"a\":\"abcdef\"}", ".a.max"},
    };
    run(rows, ARRAY_LEN(rows));
}

/* Another parser may fold case, unescape later, or take the second of two. */
static void test_names(void) {
    static const struct row rows[] = {
        {"path = {allow = [\"x\"], optional = true}", "{\"Path\":\"y\"}", ".path;"},
        {"path = {allow = [\"x\"], optional = true}", "{\"path\":\"x\",\"PATH\":\"x\"}", ".path;"},
        {"path = {allow = [\"x\"]}", "{\"PATH\":\"x\"}", ".path;"},
        {"path = {allow = [\"x\"]}", "{\"pa\\u0074h\":\"x\"}", ""},
        {"path = {allow = [\"x\"]}", "{\"pa\\u0074h\":\"y\"}", ".path.allow"},
        {"path = {allow = [\"x\"]}", "{\"path\":\"x\",\"p\\u0041th\":\"y\"}", ".path;"},
        {"path = {allow = [\"x\"]}", "{\"path\":\"x\",\"pa\\u0074h\":\"y\"}", ":"},
        {"path = {allow = [\"x\"]}", "{\"path\":\"x\",\"path\":\"y\"}", ":"},
        {"path = {allow = [\"x\"]}", "{\"path\":\"x\",\"paths\":\"y\",\"pat\":1,\"\":2}", ""},
        {"task = {deny = [\"x\"]}", "{\"ta" S "k\":\"x\"}", ".task;"},
        {"task = {deny = [\"x\"]}", "{\"tas" K "\":\"x\"}", ".task;"},
        {"task = {deny = [\"x\"]}", "{\"TA\\u017f\\u212a\":\"x\"}", ".task;"},
        {"file = {deny = [\"x\"]}", "{\"\\ufb01le\":\"x\"}", ".file;"},
        {"file = {deny = [\"x\"]}", "{\"F\\u0130LE\":\"x\"}", ".file;"},
        {"file = {deny = [\"x\"]}", "{\"F\\u0131le\":\"x\"}", ".file;"},
        {"mass = {deny = [\"x\"]}", "{\"ma\\u00df\":\"x\"}", ".mass;"},
        {"mass = {deny = [\"x\"]}", "{\"ma\\u1e9e\":\"x\"}", ".mass;"},
        {"\"ma\xc3\x9f\" = {deny = [\"x\"]}", "{\"MASS\":\"x\"}", ".\"ma\xc3\x9f\";"},
        {"\"ma\xc3\x9f\" = {deny = [\"x\"]}", "{\"ma\xc3\x9f\":\"x\"}", ".\"ma\xc3\x9f\".deny"},
        {"\"gr\xc3\xb6\xc3\x9f\x65\" = {max = 3}", "{\"GR\xc3\x96SSE\":4}",
         ".\"gr\xc3\xb6\xc3\x9f\x65\";"},
        {"\"gr\xc3\xb6\xc3\x9f\x65\" = {max = 3}", "{\"gr\\u00f6\\u00dfe\":4}",
         ".\"gr\xc3\xb6\xc3\x9f\x65\".max"},
        {"\"gr\xc3\xb6\xc3\x9f\x65\" = {max = 3}", "{\"gr\xc3\xa4sse\":4,\"grosse\":5}", ""},
        /* sigma and its final form */
        {"\"\xcf\x83\" = {max = 3}", "{\"\\u03c2\":4}", ".\"\xcf\x83\";"},
        {"\"\xcf\x83\" = {max = 3}", "{\"\\u03a3\":4}", ".\"\xcf\x83\";"},
        {"\"a.b\" = {max = 3}", "{\"a.b\":4}", ".\"a.b\".max"},
        {"\"a.b\" = {max = 3}", "{\"axb\":4}", ""},
        {"\"*\" = {max = 3}", "{\"x\":4}", ""},
        {"\"*\" = {max = 3}", "{\"x\":[4],\"*\":[4]}", ".\"*\".max"},
        {"a = {max = 3}\nb = {max = 3}", "{\"a\":1,\"b\":4}", ".b.max"},
        {"a = {max = 3}\nb = {allow = [1]}", "{\"a\":1}", ".b.allow"},
        /* no arguments at all */
        {"a = {max = 3}", "[1]", ":"},
        {"a = {max = 3}", "\"a\"", ":"},
        {"a = {max = 3}", "null", ":"},
        {"a = {max = 3}", "{\"a\":1", ":"},
        {"a = {max = 3}", "{\"a\":\"\\ud800\"}", ":"},
    };
    run(rows, ARRAY_LEN(rows));
}

static void test_reasons(void) {
    static const struct row rows[] = {
        {"a = {allow = [\"x\", 2, true]}", "{\"a\":\"s3cr3t\"}",
         "s__t: the argument a is none of the values of mcp.servers.s.tools.t.arguments.a.allow; "
         "use one of: \"x\", 2, true"},
        {"a = {allow = []}", "{\"a\":\"s3cr3t\"}",
         "s__t: the argument a is none of the values of mcp.servers.s.tools.t.arguments.a.allow; "
         "no value is allowed"},
        {"a = {allow = [0,1,2,3,4,5,6,7,8,9,10]}", "{}",
         "s__t: the argument a is missing, which mcp.servers.s.tools.t.arguments.a.allow asks for; "
         "use one of: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ..."},
        {"a = {pattern = 'a\\d+'}", "{}",
         "s__t: the argument a is missing, which mcp.servers.s.tools.t.arguments.a.pattern asks "
         "for; the whole text has to match \"a\\\\d+\""},
        {"a = {pattern = 'a\\d+'}", "{\"a\":\"s3cr3t\"}",
         "s__t: the argument a does not match mcp.servers.s.tools.t.arguments.a.pattern; the whole "
         "text has to match \"a\\\\d+\""},
        {"a = {pattern = '(a+)+[bc]'}", "{\"a\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}",
         "s__t: the argument a takes too long to check against mcp.servers.s.tools.t.arguments.a; "
         "use a shorter value"},
        {"a = {deny = [\"s3cr3t\"]}", "{\"a\":\"s3cr3t\"}",
         "s__t: the argument a has a value of mcp.servers.s.tools.t.arguments.a.deny; use another "
         "value"},
        {"a = {max = 2.5}", "{\"a\":3}",
         "s__t: the argument a is, or can be read as, a number above "
         "mcp.servers.s.tools.t.arguments.a.max; use at most 2.5"},
        {"a = {max = 3}", "{\"a\":\"s3cr3t\"}",
         "s__t: the argument a has more characters than mcp.servers.s.tools.t.arguments.a.max; use "
         "at most 3"},
        {"a = {max = 1}", "{\"a\":[1,1]}",
         "s__t: the argument a is a list with more entries than "
         "mcp.servers.s.tools.t.arguments.a.max; use at most 1"},
        {"a = {max = 1}", "{\"a\":{}}",
         "s__t: the argument a is an object or has one in it, which cannot be checked against "
         "mcp.servers.s.tools.t.arguments.a; use plain values"},
        {"\"a b\" = {max = 1}", "{\"A B\":1}",
         "s__t: the argument \"a b\" has a second spelling, which other parsers could take for it; "
         "rule: mcp.servers.s.tools.t.arguments.\"a b\"; send it once, as it is written here"},
        {"a = {max = 1}", "[]",
         "s__t: the arguments cannot be checked against mcp.servers.s.tools.t.arguments: they are "
         "no object"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(16));
        test_row(rows[i].rule);
        struct loaded_policy loaded = load_rule(rows[i].rule);
        CHECK_INT(check(&loaded, slice_from_cstr(rows[i].arguments), &reason), POLICY_E_ARGUMENT);
        CHECK_STR(buf_slice(&reason), rows[i].refused_by);
        unload_policy(&loaded);
    }
}

/* `n` times `entry` as a list. */
static void write_list(struct buf *out, const char *entry, size_t n) {
    buf_append_cstr(out, "{\"a\":[");
    for (size_t i = 0; i < n; i++) {
        buf_append_cstr(out, i != 0 ? "," : "");
        buf_append_cstr(out, entry);
    }
    if (buf_append_cstr(out, "]}") != 0)
        CANNOT_GO_ON();
}

static void test_large(void) {
    static const struct {
        const char *rule, *entry;
        size_t n;
        bool is_refused;
    } rows[] = {
        {"a = {pattern = '[a-z]+'}", "\"abc\"", 100000, false},
        {"a = {pattern = '(a|a)*b|a*'}", "\"aaaaa\"", 100000, true},
        {"a = {allow = [\"x\"]}", "\"x\"", 150000, false},
        {"a = {allow = [1]}", "1.0", 150000, false},
        {"a = {deny = [1]}", "\"0x2\"", 150000, false},
        {"a = {max = 100000}", "1", 100000, false},
        {"a = {max = 100000}", "1", 100001, true},
        {"a = {max = 1000000}", "1", LIMIT_JSON_TAPE_NODES, true}, /* more than is looked at */
        {"a = {max = 10}", "[]", 10, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CLEANUP(buf_deinit) struct buf arguments = BUF_INIT(MIB(4)), reason = BUF_INIT(KIB(4));
        test_row(rows[i].rule);
        write_list(&arguments, rows[i].entry, rows[i].n);
        struct loaded_policy loaded = load_rule(rows[i].rule);
        CHECK_INT(check(&loaded, buf_slice(&arguments), &reason),
                  rows[i].is_refused ? POLICY_E_ARGUMENT : 0);
        unload_policy(&loaded);
    }
}

static void test_deep(void) {
    struct loaded_policy loaded = load_rule("a = {allow = [\"x\"]}");
    for (size_t depth = 1; depth < LIMIT_JSON_DEPTH + 2; depth++) {
        for (int is_fine = 0; is_fine < 2; is_fine++) {
            CLEANUP(buf_deinit) struct buf text = BUF_INIT(KIB(1)), reason = BUF_INIT(KIB(4));
            buf_append_cstr(&text, "{\"a\":");
            for (size_t i = 0; i < depth; i++)
                buf_append_byte(&text, '[');
            buf_append_cstr(&text, is_fine ? "\"x\"" : "\"y\"");
            for (size_t i = 0; i < depth; i++)
                buf_append_byte(&text, ']');
            buf_append_byte(&text, '}');
            CHECK_INT(check(&loaded, buf_slice(&text), &reason),
                      is_fine && depth < LIMIT_JSON_DEPTH ? 0 : POLICY_E_ARGUMENT);
        }
    }
    unload_policy(&loaded);
}

/* 10,000 keys against as many rules as there may be, some of which are not in ASCII. */
static void test_many_keys(void) {
    CLEANUP(buf_deinit)
    struct buf rules = BUF_INIT(KIB(16)), text = BUF_INIT(MIB(1)), reason = BUF_INIT(KIB(4));
    for (size_t i = 0; i < LIMIT_ARGUMENT_RULES; i++)
        buf_printf(&rules, "\"%s%zu\" = {max = 1}\n", i % 2 != 0 ? "\xc3\xb6" : "o", i);
    buf_append_byte(&rules, '\0');
    buf_append_byte(&text, '{');
    for (size_t i = 0; i < 9999; i++)
        buf_printf(&text, "\"%s%zu\":2,", i % 2 != 0 ? "\xc3\xa4" : "a", i);
    buf_append_cstr(&text, "\"\xc3\x96"
                           "99\":1}");
    struct loaded_policy loaded = load_rule(buf_slice(&rules).ptr);
    CHECK_INT(check(&loaded, buf_slice(&text), &reason), POLICY_E_ARGUMENT);
    CHECK(slice_find(buf_slice(&reason), SLICE("\"\xc3\xb6"
                                               "99\"")) != SIZE_MAX);
    unload_policy(&loaded);
}

/* Nothing is let through by lack of memory, and nothing else is refused for good. */
struct torture {
    const struct config *config;
    struct slice arguments;
    bool is_fine;
    int last;
};

static void check_once(void *arg) {
    struct torture *torture = arg;
    struct loaded_policy loaded = {.config = NULL};
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(4));
    if (policy_new(torture->config, &loaded.policy) == 0 && json_reader_new(&loaded.reader) == 0) {
        torture->last = check(&loaded, torture->arguments, &reason);
        CHECK(torture->last == 0 ? torture->is_fine
                                 : torture->last == -ENOMEM || torture->last == POLICY_E_ARGUMENT);
    }
    policy_free(loaded.policy);
    json_reader_free(loaded.reader);
}

static void test_memory(void) {
    static const char rules[] = "a = {allow = [\"x\\ty\", 3], deny = [7, \"z\"], max = 20}\n"
                                "\"\xc3\xb6\" = {pattern = '[a-z]*x', optional = true}\n";
    static const struct {
        struct slice arguments;
        bool is_fine;
    } rows[] = {
        {SLICE_INIT("{\"a\":[\"x\\ty\",3],\"\xc3\xb6\":\"aax\",\"\xc3\xa4\":1}"), true},
        {SLICE_INIT("{\"a\":[\"x\\ty\",3],\"\xc3\x96\":\"aax\"}"), false},
        {SLICE_INIT("{\"a\":[\"x\\ty\",3],\"\xc3\xb6\":\"aa\"}"), false},
        {SLICE_INIT("{\"a\":[\"x\\ty\",4]}"), false},
        {SLICE_INIT("{\"a\":\"\\u0078\"}"), false},
    };
    struct loaded_policy loaded = load_rule(rules);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct torture torture = {
            .config = loaded.config, .arguments = rows[i].arguments, .is_fine = rows[i].is_fine};
        test_row(rows[i].arguments.ptr);
        test_torture(check_once, &torture);
        CHECK_INT(torture.last, rows[i].is_fine ? 0 : POLICY_E_ARGUMENT);
    }
    unload_policy(&loaded);
}

/* A name that the reader cannot be asked for is not looked into, and so refused. */
static void test_name_with_nul(void) {
    struct config_value denied = {.type = CONFIG_VALUE_STRING, .text = SLICE("x")};
    struct config_argument argument = {.name = SLICE("a\0b"), .deny = &denied, .n_deny = 1};
    struct config_tool tool = {.name = SLICE("t"), .arguments = &argument, .n_arguments = 1};
    struct config_server server = {
        .name = SLICE("s"), .access = CONFIG_ACCESS_READ, .tools = &tool, .n_tools = 1};
    struct config config = {.servers = &server, .n_servers = 1};
    struct loaded_policy loaded = {.config = NULL};
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(4));
    REQUIRE(policy_new(&config, &loaded.policy) == 0 && json_reader_new(&loaded.reader) == 0);
    CHECK_INT(check(&loaded, SLICE("{\"a\\u0000b\":\"x\"}"), &reason), POLICY_E_ARGUMENT);
    CHECK_INT(check(&loaded, SLICE("{\"a\\u0000b\":[\"x\"]}"), &reason), POLICY_E_ARGUMENT);
    CHECK_INT(check(&loaded, SLICE("{\"a\\u0000b\":\"y\"}"), &reason), 0);
    unload_policy(&loaded);
}

static void test_no_rules(void) {
    struct loaded_policy loaded = load_rule("a = {max = 1}");
    static const struct policy_caller nobody = {.n_groups = 0};
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(4));
    struct policy_item items[] = {tool_named("other"), {.kind = POLICY_PROMPT, .name = SLICE("t")}};
    for (size_t i = 0; i < ARRAY_LEN(items); i++) {
        struct policy_decision decision =
            policy_decide(policy_find_server(loaded.policy, SLICE("s")), &nobody, &items[i], false);
        CHECK(!policy_has_argument_rules(&decision));
        CHECK_INT(policy_check_arguments(&decision, items[i].name, loaded.reader,
                                         SLICE("{\"a\":2}"), &reason),
                  0);
    }
    unload_policy(&loaded);
}

TEST_MAIN(TEST(test_allow), TEST(test_deny), TEST(test_pattern), TEST(test_max), TEST(test_names),
          TEST(test_reasons), TEST(test_large), TEST(test_deep), TEST(test_many_keys),
          TEST(test_memory), TEST(test_name_with_nul), TEST(test_no_rules))
