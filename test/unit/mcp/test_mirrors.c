/* Annotations of schemas, and the header fields that repeat arguments. */
#include <errno.h>

#include "base/clock.h"
#include "base/limits.h"
#include "mcp/modern.h"
#include "test.h"

#define H(name)         "\"x-mcp-header\":\"" name "\""
#define STR(name)       "{\"type\":\"string\"," H(name) "}"
#define INT(name)       "{\"type\":\"integer\"," H(name) "}"
#define BOOL(name)      "{\"type\":\"boolean\"," H(name) "}"
#define PROPS(members)  "{\"type\":\"object\",\"properties\":{" members "}}"
#define FOREIGN(inside) "{\"type\":\"object\",\"properties\":{\"p\":" inside "}}"

struct fixture {
    struct json_reader *reader;
    struct arena arena;
    struct mcp_mirrors mirrors;
    const char *reason;
};

static void fixture_deinit(struct fixture *f) {
    f->reader = json_reader_free(f->reader);
    arena_deinit(&f->arena);
}

static struct fixture fixture_make(void) {
    struct fixture f = {.arena = ARENA_INIT(MIB(4))};
    if (json_reader_new(&f.reader) != 0)
        CANNOT_GO_ON();
    return f;
}

static int read_schema(struct fixture *f, struct slice schema) {
    arena_reset(&f->arena);
    f->mirrors = (struct mcp_mirrors){.n = 4711};
    f->reason = NULL;
    CLEANUP(mem_freep) char *exact = mem_alloc(schema.len);
    if (exact == NULL)
        return -ENOMEM;
    if (schema.len != 0)
        memcpy(exact, schema.ptr, schema.len);
    /* Its block goes before the mirrors are used: they must own what they hold. */
    return mcp_mirrors_read(&f->mirrors, &f->arena, f->reader, slice_make(exact, schema.len),
                            &f->reason);
}

/* "NAME:TYPE=a/b;" for each. */
static void describe(struct buf *out, const struct mcp_mirrors *mirrors) {
    static const char *const types[] = {"s", "i", "b"};
    for (size_t i = 0; i < mirrors->n; i++) {
        const struct mcp_mirror *mirror = &mirrors->items[i];
        buf_append(out, mirror->name);
        buf_append_cstr(out, ":");
        buf_append_cstr(out, types[mirror->type]);
        for (size_t k = 0; k < mirror->n_path; k++) {
            buf_append_cstr(out, k == 0 ? "=" : "/");
            buf_append(out, mirror->path[k]);
        }
        buf_append_cstr(out, ";");
    }
}

struct schema_row {
    const char *name;
    struct slice schema;
    const char *mirrors; /* NULL: refused */
    const char *reason;
};

static void check_schemas(const struct schema_row *rows, size_t n) {
    struct fixture f CLEANUP(fixture_deinit) = fixture_make();
    for (size_t i = 0; i < n; i++) {
        struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        test_row(rows[i].name);
        int r = read_schema(&f, rows[i].schema);
        CHECK_INT(r, rows[i].mirrors != NULL ? 0 : MCP_E_REFUSED);
        if (r == 0 && rows[i].mirrors != NULL) {
            describe(&text, &f.mirrors);
            CHECK_STR(buf_slice(&text), rows[i].mirrors);
        } else if (r == MCP_E_REFUSED) {
            CHECK_INT(f.mirrors.n, 4711);
            REQUIRE(f.reason != NULL && rows[i].reason != NULL);
            if (strstr(f.reason, rows[i].reason) == NULL)
                CHECK_STR(slice_from_cstr(f.reason), rows[i].reason);
        }
    }
}

static void test_read(void) {
    static const struct schema_row rows[] = {
        {"none", SLICE_INIT(PROPS("\"a\":{\"type\":\"string\"}")), .mirrors = ""},
        {"not even JSON, without the word", SLICE_INIT("{"), .mirrors = ""},
        {"empty text", SLICE_INIT(""), .mirrors = ""},
        {"one", SLICE_INIT(PROPS("\"a\":" STR("Region"))), .mirrors = "Region:s=a;"},
        {"all types", SLICE_INIT(PROPS("\"a\":" STR("A") ",\"b\":" INT("B") ",\"c\":" BOOL("C"))),
         .mirrors = "A:s=a;B:i=b;C:b=c;"},
        {"nested", SLICE_INIT(PROPS("\"a\":" PROPS("\"b\":" PROPS("\"c\":" INT("X"))))),
         .mirrors = "X:i=a/b/c;"},
        {"property named properties",
         SLICE_INIT(PROPS("\"properties\":" PROPS("\"properties\":" STR("X")))),
         .mirrors = "X:s=properties/properties;"},
        {"property named as the annotation",
         SLICE_INIT(PROPS("\"x-mcp-header\":" STR("X") ",\"y\":{\"type\":\"string\"}")),
         .mirrors = "X:s=x-mcp-header;"},
        {"property named items", SLICE_INIT(PROPS("\"items\":" STR("X"))), .mirrors = "X:s=items;"},
        {"the word as a value", SLICE_INIT(PROPS("\"a\":{\"title\":\"x-mcp-header\"}")),
         .mirrors = ""},
        {"in required", SLICE_INIT("{\"required\":[\"x-mcp-header\"]}"), .mirrors = ""},
        {"in default", SLICE_INIT(PROPS("\"a\":{\"default\":{" H("X") "}}")), .mirrors = ""},
        {"deep in examples", SLICE_INIT(PROPS("\"a\":{\"examples\":[{\"b\":[{" H("X") "}]}]}")),
         .mirrors = ""},
        {"in const", SLICE_INIT(PROPS("\"a\":{\"const\":{\"properties\":{\"b\":" STR("X") "}}}")),
         .mirrors = ""},
        {"in enum", SLICE_INIT(PROPS("\"a\":{\"enum\":[{" H("X") "}]}")), .mirrors = ""},
        {"a definition of that name", SLICE_INIT("{\"$defs\":{\"x-mcp-header\":{}}}"),
         .mirrors = ""},
        {"a path with escapes", SLICE_INIT(PROPS("\"a\\/\\u0062\":" STR("X"))),
         .mirrors = "X:s=a/b;"},
        {"a name with an escape", SLICE_INIT(PROPS("\"a\":" STR("\\u0058y"))),
         .mirrors = "Xy:s=a;"},
        {"annotation with an escape",
         SLICE_INIT(PROPS("\"a\":{\"type\":\"string\",\"x-mcp-heade\\u0072\":\"X\"}")),
         .mirrors = "X:s=a;"},
        {"all of it in escapes",
         SLICE_INIT(PROPS("\"a\":{\"typ\\u0065\":\"strin\\u0067\",\"\\u0078\\u002d\\u006d\\u0063"
                          "\\u0070\\u002D\\u0068\\u0065\\u0061\\u0064\\u0065\\u0072\":\"X\"}")),
         .mirrors = "X:s=a;"},
        {"properties with an escape", SLICE_INIT("{\"propertie\\u0073\":{\"a\":" STR("X") "}}"),
         .mirrors = "X:s=a;"},
        {"empty property", SLICE_INIT(PROPS("\"\":" STR("X"))), .mirrors = "X:s=;"},
        {"every character of a token", SLICE_INIT(PROPS("\"a\":" STR("!#$%&'*+-.^_`|~09AZaz"))),
         .mirrors = "!#$%&'*+-.^_`|~09AZaz:s=a;"},
        {"type behind", SLICE_INIT(PROPS("\"a\":{" H("X") ",\"type\":\"boolean\"}")),
         .mirrors = "X:b=a;"},
        {"beside other keywords",
         SLICE_INIT(PROPS("\"a\":{\"oneOf\":[{}],\"type\":\"string\"," H("X") "}")),
         .mirrors = "X:s=a;"},
    };
    check_schemas(rows, ARRAY_LEN(rows));
}

static void test_read_refused(void) {
    static const struct schema_row rows[] = {
        {"not JSON", SLICE_INIT("{" H("X")), NULL, "too early"},
        {"empty name", SLICE_INIT(PROPS("\"a\":" STR(""))), NULL, "token"},
        {"space in the name", SLICE_INIT(PROPS("\"a\":" STR("a b"))), NULL, "token"},
        {"colon in the name", SLICE_INIT(PROPS("\"a\":" STR("a:"))), NULL, "token"},
        {"line end in the name", SLICE_INIT(PROPS("\"a\":" STR("a\\r\\nX"))), NULL, "token"},
        {"NUL in the name", SLICE_INIT(PROPS("\"a\":" STR("a\\u0000"))), NULL, "token"},
        {"name not ASCII", SLICE_INIT(PROPS("\"a\":" STR("\u00e9"))), NULL, "token"},
        {"name is a number", SLICE_INIT(PROPS("\"a\":{\"type\":\"string\",\"x-mcp-header\":1}")),
         NULL, "be a string"},
        {"name is null", SLICE_INIT(PROPS("\"a\":{\"type\":\"string\",\"x-mcp-header\":null}")),
         NULL, "be a string"},
        {"twice", SLICE_INIT(PROPS("\"a\":" STR("X") ",\"b\":" INT("X"))), NULL, "the same"},
        {"twice without case",
         SLICE_INIT(PROPS("\"a\":" STR("Xy") ",\"b\":" PROPS("\"c\":" STR("xY")))), NULL,
         "the same"},
        {"number", SLICE_INIT(PROPS("\"a\":{\"type\":\"number\"," H("X") "}")), NULL, "on a type"},
        {"object", SLICE_INIT(PROPS("\"a\":{\"type\":\"object\"," H("X") "}")), NULL, "on a type"},
        {"null", SLICE_INIT(PROPS("\"a\":{\"type\":\"null\"," H("X") "}")), NULL, "on a type"},
        {"several types", SLICE_INIT(PROPS("\"a\":{\"type\":[\"string\"]," H("X") "}")), NULL,
         "on a type"},
        {"type in capitals", SLICE_INIT(PROPS("\"a\":{\"type\":\"String\"," H("X") "}")), NULL,
         "on a type"},
        {"no type", SLICE_INIT(PROPS("\"a\":{" H("X") "}")), NULL, "on a type"},
        {"type behind a ref", SLICE_INIT(PROPS("\"a\":{\"$ref\":\"#/$defs/s\"," H("X") "}")), NULL,
         "on a type"},
        {"at the root", SLICE_INIT("{\"type\":\"string\"," H("X") "}"), NULL, "other keywords"},
        {"at the root of an array", SLICE_INIT("[" STR("X") "]"), NULL, "other keywords"},
        {"items", SLICE_INIT(FOREIGN("{\"items\":" STR("X") "}")), NULL, "other keywords"},
        {"items, a list", SLICE_INIT(FOREIGN("{\"items\":[" STR("X") "]}")), NULL,
         "other keywords"},
        {"oneOf", SLICE_INIT(FOREIGN("{\"oneOf\":[" STR("X") "]}")), NULL, "other keywords"},
        {"anyOf", SLICE_INIT("{\"anyOf\":[" PROPS("\"a\":" STR("X")) "]}"), NULL, "other keywords"},
        {"allOf", SLICE_INIT("{\"allOf\":[" PROPS("\"a\":" STR("X")) "]}"), NULL, "other keywords"},
        {"not", SLICE_INIT("{\"not\":" PROPS("\"a\":" STR("X")) "}"), NULL, "other keywords"},
        {"if", SLICE_INIT("{\"if\":" PROPS("\"a\":" STR("X")) "}"), NULL, "other keywords"},
        {"then", SLICE_INIT("{\"then\":" PROPS("\"a\":" STR("X")) "}"), NULL, "other keywords"},
        {"else", SLICE_INIT("{\"else\":" PROPS("\"a\":" STR("X")) "}"), NULL, "other keywords"},
        {"$defs", SLICE_INIT("{\"$defs\":{\"a\":" STR("X") "}}"), NULL, "other keywords"},
        {"definitions", SLICE_INIT("{\"definitions\":{\"a\":" STR("X") "}}"), NULL,
         "other keywords"},
        {"patternProperties", SLICE_INIT("{\"patternProperties\":{\"a\":" STR("X") "}}"), NULL,
         "other keywords"},
        {"additionalProperties", SLICE_INIT("{\"additionalProperties\":" STR("X") "}"), NULL,
         "other keywords"},
        {"dependentSchemas", SLICE_INIT("{\"dependentSchemas\":{\"a\":" STR("X") "}}"), NULL,
         "other keywords"},
        {"unknown keyword", SLICE_INIT("{\"x-more\":{\"deep\":[" STR("X") "]}}"), NULL,
         "other keywords"},
        {"properties that are an array", SLICE_INIT("{\"properties\":[" STR("X") "]}"), NULL,
         "other keywords"},
        {"a property that is an array", SLICE_INIT(PROPS("\"a\":[" STR("X") "]")), NULL,
         "other keywords"},
        {"properties below items", SLICE_INIT(FOREIGN("{\"items\":" PROPS("\"a\":" STR("X")) "}")),
         NULL, "other keywords"},
        {"one is good, one is not",
         SLICE_INIT(PROPS("\"a\":" STR("X") ",\"b\":{\"items\":" STR("Y") "}")), NULL,
         "other keywords"},
        {"duplicate keys", SLICE_INIT(PROPS("\"a\":" STR("X") ",\"a\":{}")), NULL, "twice"},
    };
    check_schemas(rows, ARRAY_LEN(rows));
}

/* `n` annotations in one object, or one with a path of `n`, or one with a name of `n`. */
static void append_many(struct buf *out, size_t n) {
    buf_append_cstr(out, "{\"properties\":{");
    for (size_t i = 0; i < n; i++)
        buf_printf(out, "%s\"p%zu\":{\"type\":\"string\",\"x-mcp-header\":\"H%zu\"}",
                   i == 0 ? "" : ",", i, i);
    buf_append_cstr(out, "}}");
}

static void append_deep(struct buf *out, size_t n) {
    for (size_t i = 0; i < n; i++)
        buf_append_cstr(out, "{\"properties\":{\"a\":");
    buf_append_cstr(out, STR("X"));
    for (size_t i = 0; i < n; i++)
        buf_append_cstr(out, "}}");
}

static void append_long(struct buf *out, size_t n) {
    buf_append_cstr(out, "{\"properties\":{\"a\":{\"type\":\"string\",\"x-mcp-header\":\"");
    for (size_t i = 0; i < n; i++)
        buf_append_byte(out, 'x');
    buf_append_cstr(out, "\"}}}");
}

static void test_limits(void) {
    static const struct {
        const char *name;
        void (*append)(struct buf *out, size_t n);
        size_t max;
    } rows[] = {
        {"annotations", append_many, LIMIT_MIRRORS},
        {"depth", append_deep, LIMIT_MIRROR_DEPTH},
        {"name", append_long, 256},
    };
    struct fixture f CLEANUP(fixture_deinit) = fixture_make();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t n = rows[i].max; n <= rows[i].max + 1; n++) {
            struct buf schema CLEANUP(buf_deinit) = BUF_INIT(KIB(64));
            test_row(rows[i].name);
            rows[i].append(&schema, n);
            REQUIRE(buf_error(&schema) == 0);
            CHECK_INT(read_schema(&f, buf_slice(&schema)), n <= rows[i].max ? 0 : MCP_E_REFUSED);
        }
    }
}

/* Too many values for the tape: of interest only to schemas that hold the word. */
static void test_large_schema(void) {
    struct fixture f CLEANUP(fixture_deinit) = fixture_make();
    static const char *const titles[] = {
        "\"title\":\"x-mcp-header\"", "\"title\":\"x-mcp-heade\\u0072\"", "\"title\":\"\\u0072\"",
        "\"title\":\"x-mcp\"", "\"title\":\"\\\\\\u0072\\\"\""};
    for (size_t i = 0; i < ARRAY_LEN(titles); i++) {
        struct buf schema CLEANUP(buf_deinit) = BUF_INIT(MIB(4));
        test_row(titles[i]);
        buf_append_cstr(&schema, "{\"enum\":[0");
        for (size_t n = 0; n < LIMIT_JSON_TAPE_NODES; n++)
            buf_append_cstr(&schema, ",0");
        buf_printf(&schema, "],%s}", titles[i]);
        int r = read_schema(&f, buf_slice(&schema));
        CHECK_INT(r, i < 2 ? MCP_E_REFUSED : 0);
        CHECK_INT(f.mirrors.n, i < 2 ? 4711 : 0);
        CHECK((f.reason != NULL) == (i < 2));
    }
}

#define SCHEMA                                                                                     \
    PROPS("\"s\":" STR("S") ",\"i\":" INT("I") ",\"b\":" BOOL("B") ",\"o\":" PROPS(                \
        "\"s\":" STR("O-S") ",\"o\":" PROPS(                                                       \
            "\"i\":" INT("O-O-I"))) ",\"*\":" PROPS("\"z\\u0000\":" STR("Star")))

static void test_write(void) {
    static const struct {
        const char *name;
        struct slice arguments;
        const char *fields;
    } rows[] = {
        {"no arguments", SLICE_INIT(""), ""},
        {"empty", SLICE_INIT("{}"), ""},
        {"null", SLICE_INIT("null"), ""},
        {"array", SLICE_INIT("[1]"), ""},
        {"text", SLICE_INIT("\"s\""), ""},
        {"text and space around", SLICE_INIT(" { \"s\" : \"a b\" } "), "Mcp-Param-S: a b\r\n"},
        {"all", SLICE_INIT("{\"b\":true,\"i\":-7,\"s\":\"x\",\"other\":[1,{}]}"),
         "Mcp-Param-S: x\r\nMcp-Param-I: -7\r\nMcp-Param-B: true\r\n"},
        {"all null", SLICE_INIT("{\"b\":null,\"i\":null,\"s\":null,\"o\":null}"), ""},
        {"nested", SLICE_INIT("{\"o\":{\"o\":{\"i\":1},\"s\":\"y\"},\"b\":false}"),
         "Mcp-Param-B: false\r\nMcp-Param-O-S: y\r\nMcp-Param-O-O-I: 1\r\n"},
        {"star and NUL", SLICE_INIT("{\"*\":{\"z\\u0000\":\"q\",\"z\":\"no\"}}"),
         "Mcp-Param-Star: q\r\n"},
        {"the way is no object", SLICE_INIT("{\"o\":[{\"s\":\"y\"}],\"s\":\"x\"}"),
         "Mcp-Param-S: x\r\n"},
        {"the way is text", SLICE_INIT("{\"o\":\"s\"}"), ""},
        {"key with escapes", SLICE_INIT("{\"\\u0073\":\"\\u0078\"}"), "Mcp-Param-S: x\r\n"},
        {"empty text", SLICE_INIT("{\"s\":\"\"}"), "Mcp-Param-S: \r\n"},
        {"line ends", SLICE_INIT("{\"s\":\"a\\r\\nX: y\"}"),
         "Mcp-Param-S: =?base64?YQ0KWDogeQ==?=\r\n"},
        {"not ASCII", SLICE_INIT("{\"s\":\"\\u00e9\"}"), "Mcp-Param-S: =?base64?w6k=?=\r\n"},
        {"not ASCII, as it is", SLICE_INIT("{\"s\":\"\u00e9\"}"),
         "Mcp-Param-S: =?base64?w6k=?=\r\n"},
        {"integer with a fraction of zero", SLICE_INIT("{\"i\":42.0}"), "Mcp-Param-I: 42\r\n"},
        {"integer with an exponent", SLICE_INIT("{\"i\":4.2e1}"), "Mcp-Param-I: 42\r\n"},
        {"integer with a negative exponent", SLICE_INIT("{\"i\":-4200E-2}"),
         "Mcp-Param-I: -42\r\n"},
        {"minus zero", SLICE_INIT("{\"i\":-0.0e5}"), "Mcp-Param-I: 0\r\n"},
        {"zero with a huge exponent", SLICE_INIT("{\"i\":0e99999999999999999999}"),
         "Mcp-Param-I: 0\r\n"},
        {"the largest", SLICE_INIT("{\"i\":9007199254740991}"),
         "Mcp-Param-I: 9007199254740991\r\n"},
        {"the smallest", SLICE_INIT("{\"i\":-9.007199254740991e15}"),
         "Mcp-Param-I: -9007199254740991\r\n"},
        {"one too large", SLICE_INIT("{\"i\":9007199254740992}"), ""},
        {"one too small", SLICE_INIT("{\"i\":-9007199254740992}"), ""},
        {"huge", SLICE_INIT("{\"i\":1e99999999999999999999}"), ""},
        {"long", SLICE_INIT("{\"i\":100000000000000000000000000000000000000000000}"), ""},
        {"long, but small", SLICE_INIT("{\"i\":1000000000000000000000000000000000000000000e-42}"),
         "Mcp-Param-I: 1\r\n"},
        {"another type: fraction", SLICE_INIT("{\"i\":4.5}"), "Mcp-Param-I: 4.5\r\n"},
        {"another type: text", SLICE_INIT("{\"i\":\"4\"}"), "Mcp-Param-I: 4\r\n"},
        {"another type: number", SLICE_INIT("{\"s\":4,\"b\":0}"),
         "Mcp-Param-S: 4\r\nMcp-Param-B: 0\r\n"},
        {"another type: containers", SLICE_INIT("{\"s\":{},\"i\":[1],\"b\":[]}"), ""},
    };
    struct fixture f CLEANUP(fixture_deinit) = fixture_make();
    REQUIRE(read_schema(&f, SLICE(SCHEMA)) == 0);
    CHECK_INT(f.mirrors.n, 6);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
        test_row(rows[i].name);
        CHECK_INT(mcp_mirrors_write(&out, &f.mirrors, f.reader, rows[i].arguments), 0);
        CHECK_STR(buf_slice(&out), rows[i].fields);
    }
    struct buf small CLEANUP(buf_deinit) = BUF_INIT(10);
    CHECK_INT(mcp_mirrors_write(&small, &f.mirrors, f.reader, SLICE("{\"s\":\"x\"}")), -E2BIG);
}

/* A name that is the table's star in front of others, and one that a table cannot hold. */
static void test_write_odd_names(void) {
    struct fixture f CLEANUP(fixture_deinit) = fixture_make();
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    static const struct slice schema =
        SLICE_INIT(PROPS("\"*\":" PROPS("\"p\":" STR("Star")) ",\"a\":" PROPS("\"b\":" PROPS(
            "\"c\":" STR("Deep"))) ",\"n\\u0000\":" PROPS("\"q\":" PROPS("\"r\":" STR("Nul")))));
    REQUIRE(read_schema(&f, schema) == 0);
    CHECK_INT(mcp_mirrors_write(&out, &f.mirrors, f.reader,
                                SLICE("{\"n\\u0000\":{\"q\":{\"r\":\"3\"}},\"n\":{\"q\":{\"r\":"
                                      "\"no\"}},\"a\":{\"b\":{\"c\":\"2\"}},\"*\":{\"p\":\"1\"}}")),
              0);
    CHECK_STR(buf_slice(&out), "Mcp-Param-Star: 1\r\nMcp-Param-Deep: 2\r\nMcp-Param-Nul: 3\r\n");
}

#define F(n, v)                                                                                    \
    { SLICE_INIT(n), SLICE_INIT(v) }

static void test_check(void) {
    static const struct {
        const char *name;
        struct slice arguments;
        struct mcp_param_field fields[4];
        const char *field; /* NULL: fine */
        const char *reason;
    } rows[] = {
        {"nothing", SLICE_INIT("{}"), .fields = {F("", "")}},
        {"no arguments", SLICE_INIT(""), .fields = {F("", "")}},
        {"the same", SLICE_INIT("{\"s\":\"x\",\"i\":1,\"b\":true}"),
         .fields = {F("S", "x"), F("i", "1"), F("B", "true")}},
        {"other fields", SLICE_INIT("{}"), .fields = {F("Other", "x"), F("Other", "=?base64?!?=")}},
        {"encoded", SLICE_INIT("{\"s\":\"\u00e9\"}"), .fields = {F("S", "=?base64?w6k=?=")}},
        {"encoded without need", SLICE_INIT("{\"s\":\"a\"}"),
         .fields = {F("S", "=?base64?YQ==?=")}},
        {"empty", SLICE_INIT("{\"s\":\"\"}"), .fields = {F("S", "")}},
        {"empty, encoded", SLICE_INIT("{\"s\":\"\"}"), .fields = {F("S", "=?base64?\?=")}},
        {"capital sentinel is text", SLICE_INIT("{\"s\":\"=?BASE64?YQ==?=\"}"),
         .fields = {F("S", "=?BASE64?YQ==?=")}},
        {"integers as numbers", SLICE_INIT("{\"i\":42}"), .fields = {F("I", "42.0")}},
        {"integers as numbers, other way", SLICE_INIT("{\"i\":42.0}"), .fields = {F("I", "42")}},
        {"integers as numbers, exponent", SLICE_INIT("{\"i\":42}"), .fields = {F("I", "4.2e1")}},
        {"integer encoded", SLICE_INIT("{\"i\":42}"), .fields = {F("I", "=?base64?NDI=?=")}},
        {"nested", SLICE_INIT("{\"o\":{\"s\":\"x\"}}"), .fields = {F("o-s", "x")}},
        {"null has none", SLICE_INIT("{\"s\":null}"), .fields = {F("", "")}},
        {"another type with its field", SLICE_INIT("{\"i\":\"a\",\"s\":4}"),
         .fields = {F("I", "a"), F("S", "4")}},
        {"another type without field", SLICE_INIT("{\"i\":\"a\",\"s\":4,\"b\":0}"),
         .fields = {F("", "")}},
        {"too large without field", SLICE_INIT("{\"i\":9007199254740992}"), .fields = {F("", "")}},
        {"containers without field", SLICE_INIT("{\"i\":{},\"s\":[]}"), .fields = {F("", "")}},
        /* refused */
        {"differs", SLICE_INIT("{\"s\":\"x\"}"), {F("S", "y")}, "S", "differ"},
        {"differs in case", SLICE_INIT("{\"s\":\"x\"}"), {F("S", "X")}, "S", "differ"},
        {"text is no number", SLICE_INIT("{\"s\":\"42\"}"), {F("S", "42.0")}, "S", "differ"},
        {"integer differs", SLICE_INIT("{\"i\":42}"), {F("I", "43")}, "I", "differ"},
        {"integer in hex", SLICE_INIT("{\"i\":42}"), {F("I", "0x2a")}, "I", "differ"},
        {"integer with plus", SLICE_INIT("{\"i\":42}"), {F("I", "+42")}, "I", "differ"},
        {"integer with a zero in front", SLICE_INIT("{\"i\":42}"), {F("I", "042")}, "I", "differ"},
        {"integer with a space", SLICE_INIT("{\"i\":42}"), {F("I", "4 2")}, "I", "differ"},
        {"integer without digits", SLICE_INIT("{\"i\":0}"), {F("I", "")}, "I", "differ"},
        {"integer with an empty exponent", SLICE_INIT("{\"i\":0}"), {F("I", "0e")}, "I", "differ"},
        {"integer that rounds",
         SLICE_INIT("{\"i\":9007199254740991}"),
         {F("I", "9007199254740990.9999999")},
         "I",
         "differ"},
        {"boolean in capitals", SLICE_INIT("{\"b\":true}"), {F("B", "True")}, "B", "differ"},
        {"boolean as number", SLICE_INIT("{\"b\":true}"), {F("B", "1")}, "B", "differ"},
        {"missing", SLICE_INIT("{\"s\":\"x\"}"), {F("I", "")}, "S", "lacks"},
        {"missing, empty text", SLICE_INIT("{\"s\":\"\"}"), {F("", "")}, "S", "lacks"},
        {"missing, nested", SLICE_INIT("{\"o\":{\"o\":{\"i\":0}}}"), {F("", "")}, "O-O-I", "lacks"},
        {"no argument", SLICE_INIT("{}"), {F("S", "x")}, "S", "no argument"},
        {"no argument, empty field", SLICE_INIT("{}"), {F("S", "")}, "S", "no argument"},
        {"no arguments at all", SLICE_INIT(""), {F("S", "x")}, "S", "no argument"},
        {"argument of null", SLICE_INIT("{\"s\":null}"), {F("S", "null")}, "S", "no argument"},
        {"arguments are an array", SLICE_INIT("[\"x\"]"), {F("S", "x")}, "S", "no argument"},
        {"twice the same", SLICE_INIT("{\"s\":\"x\"}"), {F("S", "x"), F("s", "x")}, "S", "twice"},
        {"bad base64", SLICE_INIT("{\"s\":\"a\"}"), {F("S", "=?base64?YQ?=")}, "S", "encoded"},
        {"bytes from 0x80", SLICE_INIT("{\"s\":\"\u00e9\"}"), {F("S", "\u00e9")}, "S", "encoded"},
        {"too large",
         SLICE_INIT("{\"i\":9007199254740992}"),
         {F("I", "9007199254740992")},
         "I",
         "no header"},
        {"container", SLICE_INIT("{\"s\":{}}"), {F("S", "{}")}, "S", "no header"},
    };
    struct fixture f CLEANUP(fixture_deinit) = fixture_make();
    REQUIRE(read_schema(&f, SLICE(SCHEMA)) == 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct slice name = SLICE("untouched");
        const char *reason = NULL;
        size_t n = 0;
        test_row(rows[i].name);
        while (n < ARRAY_LEN(rows[i].fields) && rows[i].fields[n].name.len != 0)
            n++;
        int r = mcp_mirrors_check(&f.mirrors, f.reader, rows[i].arguments, rows[i].fields, n, &name,
                                  &reason);
        CHECK_INT(r, rows[i].field != NULL ? MCP_E_REFUSED : 0);
        CHECK_STR(name, rows[i].field != NULL ? rows[i].field : "untouched");
        CHECK((reason != NULL) == (rows[i].field != NULL));
        if (reason != NULL && rows[i].reason != NULL)
            CHECK(strstr(reason, rows[i].reason) != NULL);
    }
}

/* What is written is accepted, whatever the arguments. */
static void test_write_and_check(void) {
    static const char *const values[] = {
        "\"\"",
        "\" a\"",
        "\"a\\u0000b\"",
        "\"=?base64?YQ==?=\"",
        "\"=?base64?=\"",
        "\"\\ud83d\\ude42\"",
        "0",
        "-0",
        "1e15",
        "1E-5",
        "1e400",
        "12345.000",
        "0.1e1",
        "true",
        "false",
        "null",
        "[]",
        "{\"s\":1}",
        "\"\\t\"",
    };
    static const char *const keys[] = {"s", "i", "b"};
    struct fixture f CLEANUP(fixture_deinit) = fixture_make();
    REQUIRE(read_schema(&f, SLICE(SCHEMA)) == 0);
    for (size_t i = 0; i < ARRAY_LEN(values) * ARRAY_LEN(keys); i++) {
        struct buf arguments CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
        struct mcp_param_field field = {0};
        struct slice name, rest;
        const char *reason = "";
        test_row(values[i / 3]);
        buf_printf(&arguments, "{\"%s\":%s}", keys[i % 3], values[i / 3]);
        REQUIRE(mcp_mirrors_write(&out, &f.mirrors, f.reader, buf_slice(&arguments)) == 0);
        struct slice line = buf_slice(&out);
        if (line.len != 0) {
            REQUIRE(slice_starts_with(line, SLICE("Mcp-Param-")));
            REQUIRE(slice_find(line, SLICE("\r\n")) == line.len - 2);
            line = slice_sub(line, 10, line.len - 2);
            slice_cut(line, ':', &field.name, &rest);
            field.value = slice_trim(rest);
        }
        CHECK_INT(mcp_mirrors_check(&f.mirrors, f.reader, buf_slice(&arguments), &field,
                                    line.len != 0, &name, &reason),
                  0);
    }
}

/* Large arguments are read once, and only what is on the way to mirrored ones is opened. */
static void test_large_arguments(void) {
    struct fixture f CLEANUP(fixture_deinit) = fixture_make();
    struct buf schema CLEANUP(buf_deinit) = BUF_INIT(KIB(64));
    struct buf arguments CLEANUP(buf_deinit) = BUF_INIT(MIB(8));
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
    static const struct mcp_param_field field = F("S", "x");
    struct slice name = SLICE_EMPTY;
    const char *reason = NULL;
    append_many(&schema, LIMIT_MIRRORS);
    REQUIRE(read_schema(&f, buf_slice(&schema)) == 0);
    buf_append_cstr(&arguments, "{\"p0\":[0");
    for (size_t i = 0; i < 2 * LIMIT_JSON_TAPE_NODES; i++)
        buf_append_cstr(&arguments, ",0");
    buf_append_cstr(&arguments, "],\"p31\":\"x\",\"rest\":[");
    for (size_t i = 0; i < 200000; i++)
        buf_append_cstr(&arguments, i == 0 ? "{\"a\":[]}" : ",{\"a\":[]}");
    buf_append_cstr(&arguments, "]}");
    REQUIRE(buf_error(&arguments) == 0);
    uint64_t begin = clock_monotonic_ms();
    for (int i = 0; i < 10; i++) {
        buf_reset(&out, KIB(8));
        CHECK_INT(mcp_mirrors_write(&out, &f.mirrors, f.reader, buf_slice(&arguments)), 0);
        CHECK_STR(buf_slice(&out), "Mcp-Param-H31: x\r\n");
    }
    uint64_t spent = clock_monotonic_ms() - begin;
    printf("# %llu ms for 10 readings of %zu bytes\n", (unsigned long long)spent,
           buf_len(&arguments));
    CHECK(spent < 5000);
    /* An array where the way goes on is opened: too many elements are refused, not left out. */
    REQUIRE(read_schema(&f, SLICE(PROPS("\"p0\":" PROPS("\"a\":" STR("S"))))) == 0);
    buf_reset(&out, KIB(8));
    CHECK_INT(mcp_mirrors_write(&out, &f.mirrors, f.reader, buf_slice(&arguments)), -E2BIG);
    CHECK_INT(
        mcp_mirrors_check(&f.mirrors, f.reader, buf_slice(&arguments), &field, 1, &name, &reason),
        MCP_E_REFUSED);
    CHECK_STR(name, "S");
}

static void torture_body(void *arg) {
    static const struct mcp_param_field fields[] = {F("S", "=?base64?w6k=?="), F("O-S", "x")};
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    struct arena arena CLEANUP(arena_deinit) = ARENA_INIT(MIB(1));
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    struct mcp_mirrors mirrors = {.n = 4711};
    struct slice name = SLICE_EMPTY;
    const char *reason = NULL;
    (void)arg;
    int r = json_reader_new(&reader);
    if (r == 0)
        r = mcp_mirrors_read(&mirrors, &arena, reader, SLICE(SCHEMA), &reason);
    CHECK(r == 0 || r == -ENOMEM);
    CHECK_INT(mirrors.n, r == 0 ? 6 : 4711);
    if (r != 0)
        return;
    static const struct slice arguments = SLICE_INIT("{\"s\":\"\\u00e9\",\"o\":{\"s\":\"x\"}}");
    r = mcp_mirrors_write(&out, &mirrors, reader, arguments);
    CHECK(r == 0 || r == -ENOMEM);
    r = mcp_mirrors_check(&mirrors, reader, arguments, fields, ARRAY_LEN(fields), &name, &reason);
    CHECK(r == 0 || r == -ENOMEM);
    CHECK(reason == NULL);
}

static void test_out_of_memory(void) {
    test_torture(torture_body, NULL);
}

TEST_MAIN(TEST(test_read), TEST(test_read_refused), TEST(test_limits), TEST(test_large_schema),
          TEST(test_write), TEST(test_write_odd_names), TEST(test_check),
          TEST(test_write_and_check), TEST(test_large_arguments), TEST(test_out_of_memory))
