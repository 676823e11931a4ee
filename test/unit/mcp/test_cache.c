/* How long a result may be kept, and for whom. */
#include <errno.h>

#include "bridge_support.h"
#include "mcp/cache.h"

#define DAY    "86400000"
#define KEPT   "\"ttlMs\":1000,\"cacheScope\":\"public\""
#define NO     "\"ttlMs\":0,\"cacheScope\":\"private\""
#define SECRET "\"ttlMs\":1000,\"cacheScope\":\"private\""

static const struct mcp_cache most = {MCP_FRESH_MAX_MS, true};

static void test_which(void) {
    for (unsigned i = 0; i < MCP_METHOD_COUNT; i++) {
        enum mcp_method method = (enum mcp_method)i;
        struct slice name = mcp_method_name(method);
        bool is_list = name.len > 5 && slice_eq(slice_from(name, name.len - 5), SLICE("/list")) &&
                       !slice_starts_with(name, SLICE("roots")) &&
                       !slice_starts_with(name, SLICE("tasks"));
        CHECK_INT(mcp_is_cached(method),
                  is_list || method == MCP_SERVER_DISCOVER || method == MCP_RESOURCES_READ);
    }
}

/* Whatever a server says: a time that is none is 0, a scope that is none is private. */
static void test_read(void) {
    static const struct {
        const char *result;
        uint64_t ttl_ms;
        bool is_public;
    } rows[] = {
        {"{}", 0, false},
        {"{" KEPT "}", 1000, true},
        {"{" SECRET "}", 1000, false},
        {"{\"ttlMs\":1}", 1, false},
        {"{\"cacheScope\":\"public\"}", 0, true},
        {"{\"ttlMs\":0}", 0, false},
        {"{\"ttlMs\":-0}", 0, false},
        {"{\"ttlMs\":-1}", 0, false},
        {"{\"ttlMs\":-9223372036854775808}", 0, false},
        {"{\"ttlMs\":1.5}", 0, false},
        {"{\"ttlMs\":1000.0}", 0, false},
        {"{\"ttlMs\":1e3}", 0, false},
        {"{\"ttlMs\":\"1000\"}", 0, false},
        {"{\"ttlMs\":null}", 0, false},
        {"{\"ttlMs\":[1000]}", 0, false},
        {"{\"ttlMs\":{\"ttlMs\":1000}}", 0, false},
        {"{\"ttlMs\":86399999}", 86399999, false},
        {"{\"ttlMs\":" DAY "}", 86400000, false},
        {"{\"ttlMs\":86400001}", 86400000, false},
        {"{\"ttlMs\":9223372036854775807}", 86400000, false},
        {"{\"ttlMs\":9223372036854775808}", 0, false}, /* no 64 bit number */
        {"{\"ttlMs\":99999999999999999999999}", 0, false},
        {"{\"cacheScope\":\"Public\"}", 0, false},
        {"{\"cacheScope\":\"public \"}", 0, false},
        {"{\"cacheScope\":\"publi\\u0063\"}", 0, true},
        {"{\"cacheScope\":true}", 0, false},
        {"{\"cacheScope\":[\"public\"]}", 0, false},
        {"{\"cacheScope\":\"shared\"}", 0, false},
        {"{\"TTLMS\":1000,\"cachescope\":\"public\"}", 0, false},
        {"{\"_meta\":{" KEPT "}}", 0, false},
    };
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].result);
        CHECK_INT(json_read(reader, slice_from_cstr(rows[i].result), &json_want_root, NULL, NULL),
                  0);
        struct mcp_cache cache = mcp_cache_read(reader, json_root(reader));
        CHECK_INT(cache.ttl_ms, rows[i].ttl_ms);
        CHECK_INT(cache.is_public, rows[i].is_public);
    }
}

static void test_merge(void) {
    const struct mcp_cache shared = {500, true}, own = {700, false};
    struct mcp_cache cache = mcp_cache_merge(shared, own);
    CHECK_INT(cache.ttl_ms, 500);
    CHECK(!cache.is_public);
    cache = mcp_cache_merge(own, shared);
    CHECK_INT(cache.ttl_ms, 500);
    CHECK(!cache.is_public);
    cache = mcp_cache_merge(shared, most);
    CHECK_INT(cache.ttl_ms, 500);
    CHECK(cache.is_public);
}

static void test_write(void) {
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    struct json_writer writer;
    json_writer_init(&writer, &out);
    json_object_begin(&writer);
    mcp_cache_write(&writer, (struct mcp_cache){1000, true});
    json_object_end(&writer);
    CHECK_STR(buf_slice(&out), "{" KEPT "}");
}

struct row {
    const char *name;
    struct mcp_cache most;
    const char *result;
    const char *expected; /* NULL: refused */
};

static int limit_exact(struct buf *out, struct json_reader *reader, const struct row *row,
                       const char **ret_reason) {
    CLEANUP(mem_freep) char *exact = exact_copy(slice_from_cstr(row->result));
    return mcp_cache_limit(out, reader, slice_make(exact, strlen(row->result)), row->most,
                           ret_reason);
}

static void test_limit(void) {
#define ANY                                                                                        \
    { MCP_FRESH_MAX_MS, true }
#define OWN                                                                                        \
    { MCP_FRESH_MAX_MS, false }
#define NONE                                                                                       \
    { 0, false }
    static const struct row rows[] = {
        {"as it is", ANY, "{" KEPT ",\"contents\":[]}", "{" KEPT ",\"contents\":[]}"},
        {"nobody else's", OWN, "{\"contents\":[ 1 ] ," KEPT "}", "{" SECRET ",\"contents\":[ 1 ]}"},
        {"not to be kept", NONE, "{" KEPT "}", "{" NO "}"},
        {"what says nothing", ANY, "{ \"x\":1}", "{" NO ", \"x\":1}"},
        {"empty", ANY, "{}", "{" NO "}"},
        {"too long", ANY, "{\"ttlMs\":9000000000000}",
         "{\"ttlMs\":" DAY ",\"cacheScope\":\"private\"}"},
        {"a shorter bound", {10, true}, "{" KEPT "}", "{\"ttlMs\":10,\"cacheScope\":\"public\"}"},
        {"below zero", ANY, "{\"ttlMs\":-5,\"cacheScope\":\"public\"}",
         "{\"ttlMs\":0,\"cacheScope\":\"public\"}"},
        {"complete", OWN, "{\"resultType\":\"complete\"," KEPT "}",
         "{" SECRET ",\"resultType\":\"complete\"}"},
        {"input is wanted", ANY,
         "{\"resultType\":\"input_required\"," KEPT ",\"requestState\":\"s\"}",
         "{\"resultType\":\"input_required\",\"requestState\":\"s\"}"},
        {"input is wanted, and nothing said", OWN, "{\"resultType\":\"input_required\"}",
         "{\"resultType\":\"input_required\"}"},
        {"of a kind that nobody knows", OWN, "{\"resultType\":7," KEPT "}", "{\"resultType\":7}"},
        {"escaped keys are the same keys", OWN,
         "{\"ttl\\u004ds\":7,\"c\\u0061cheScope\":\"public\"}",
         "{\"ttlMs\":7,\"cacheScope\":\"private\"}"},
        {"another spelling, which some parsers take", OWN,
         "{\"cacheScope\":\"private\",\"CacheScope\":\"public\"}", NULL},
        {"likewise", OWN, "{\"ttlms\":7}", NULL},
        {"no object", OWN, "[]", NULL},
        {"twice", OWN, "{\"ttlMs\":1,\"ttlMs\":2}", NULL},
        {"no JSON", OWN, "{", NULL},
    };
#undef ANY
#undef OWN
#undef NONE
    CLEANUP(json_reader_freep) struct json_reader *reader = new_reader();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
        const char *reason = "untouched";
        test_row(rows[i].name);
        int r = limit_exact(&out, reader, &rows[i], &reason);
        CHECK_INT(r, rows[i].expected != NULL ? 0 : MCP_E_REFUSED);
        CHECK_INT(strcmp(reason, "untouched") == 0, r == 0);
        CHECK_STR(buf_slice(&out), rows[i].expected != NULL ? rows[i].expected : "");
        if (r != 0)
            continue;
        check_json(buf_slice(&out));
        buf_deinit(&out);
        out.max = strlen(rows[i].expected) - 1;
        CHECK_INT(limit_exact(&out, reader, &rows[i], &reason), -E2BIG);
    }
}

static void torture_body(void *arg) {
    (void)arg;
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    const char *reason = NULL;
    int r = json_reader_new(&reader);
    if (r == 0)
        r = mcp_cache_limit(&out, reader, SLICE("{\"\\u0061\":1," KEPT "}"), most, &reason);
    /* A key with escapes that cannot be compared without memory is refused. */
    CHECK(r == 0 || r == -ENOMEM || r == MCP_E_REFUSED);
    if (r == 0)
        CHECK_STR(buf_slice(&out), "{" KEPT ",\"\\u0061\":1}");
}

static void test_out_of_memory(void) {
    test_torture(torture_body, NULL);
}

TEST_MAIN(TEST(test_which), TEST(test_read), TEST(test_merge), TEST(test_write), TEST(test_limit),
          TEST(test_out_of_memory))
