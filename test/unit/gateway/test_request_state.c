/* requestState: opened by whom it was given to, for the same call, in time, and by nobody else. */
#include "base/base64.h"
#include "base/mem.h"
#include "private.h"
#include "test.h"

static struct gateway *new_gateway(char fill) {
    struct gateway *gateway = mem_xalloc(sizeof *gateway);
    memset(gateway->state_key, fill, sizeof gateway->state_key);
    return gateway;
}

static const struct gw_state_binding call = {
    .principal = SLICE_INIT("user:ann"),
    .upstream = SLICE_INIT("wiki"),
    .name = SLICE_INIT("edit"),
    .arguments = SLICE_INIT("{\"page\":\"a b\",\"n\":[1,2]}"),
    .method = MCP_TOOLS_CALL,
};

static int try_open(const struct gateway *gateway, const struct gw_state_binding *binding,
                    struct slice text, struct buf *out) {
    enum gw_state_kind kind = GW_STATE_PARKED;
    buf_reset(out, 0);
    int error = gw_state_open(gateway, binding, text, &kind, out);
    if (error == 0)
        CHECK_INT(kind, GW_STATE_OF_SERVER);
    return error;
}

static void test_binding(void) {
    struct gateway *gateway = new_gateway(1), *other = new_gateway(2);
    CLEANUP(buf_deinit) struct buf sealed = BUF_INIT(KIB(4));
    CLEANUP(buf_deinit) struct buf out = BUF_INIT(KIB(4));
    struct gw_state_binding changed = call;
    REQUIRE(gw_state_seal(gateway, &call, GW_STATE_OF_SERVER, SLICE("\"s\""), &sealed) == 0);
    struct slice text = buf_slice(&sealed);
    CHECK_INT(try_open(gateway, &call, text, &out), 0);
    CHECK_STR(buf_slice(&out), "\"s\"");
    CHECK_INT(try_open(other, &call, text, &out), GW_E_STATE);
    changed.principal = SLICE("user:an");
    CHECK_INT(try_open(gateway, &changed, text, &out), GW_E_STATE);
    changed = call;
    changed.upstream = SLICE("wik");
    CHECK_INT(try_open(gateway, &changed, text, &out), GW_E_STATE);
    /* The same bytes, cut elsewhere. */
    changed.principal = SLICE("user:annw");
    changed.upstream = SLICE("iki");
    CHECK_INT(try_open(gateway, &changed, text, &out), GW_E_STATE);
    changed = call;
    changed.name = SLICE("read");
    CHECK_INT(try_open(gateway, &changed, text, &out), GW_E_STATE);
    changed = call;
    changed.method = MCP_PROMPTS_GET;
    CHECK_INT(try_open(gateway, &changed, text, &out), GW_E_STATE);
    mem_free(gateway);
    mem_free(other);
}

static void test_arguments(void) {
    static const struct {
        const char *json;
        int result;
    } rows[] = {
        {"{\"page\":\"a b\",\"n\":[1,2]}", 0},
        {"{ \"page\" :\t\"a b\" ,\r\n \"n\": [ 1 , 2 ] }", 0},
        {"{\"page\":\"ab\",\"n\":[1,2]}", GW_E_STATE},
        {"{\"page\":\"a  b\",\"n\":[1,2]}", GW_E_STATE},
        {"{\"page\":\"a b\",\"n\":[12]}", GW_E_STATE},
        {"{\"page\":\"a b\",\"n\":[1,2],\"x\":1}", GW_E_STATE},
        {"{\"page\":\"a b\\\" ,\",\"n\":[1,2]}", GW_E_STATE},
        {"{}", GW_E_STATE},
        {"", GW_E_STATE},
    };
    struct gateway *gateway = new_gateway(1);
    CLEANUP(buf_deinit) struct buf sealed = BUF_INIT(KIB(4));
    CLEANUP(buf_deinit) struct buf out = BUF_INIT(KIB(4));
    REQUIRE(gw_state_seal(gateway, &call, GW_STATE_OF_SERVER, SLICE("\"s\""), &sealed) == 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct gw_state_binding binding = call;
        binding.arguments = slice_from_cstr(rows[i].json);
        test_row(rows[i].json);
        CHECK_INT(try_open(gateway, &binding, buf_slice(&sealed), &out), rows[i].result);
    }
    mem_free(gateway);
}

/* Every bit of it counts. */
static void test_tampering(void) {
    struct gateway *gateway = new_gateway(1);
    CLEANUP(buf_deinit) struct buf sealed = BUF_INIT(KIB(4));
    CLEANUP(buf_deinit) struct buf bytes = BUF_INIT(KIB(4));
    CLEANUP(buf_deinit) struct buf out = BUF_INIT(KIB(4));
    REQUIRE(gw_state_seal(gateway, &call, GW_STATE_OF_SERVER, SLICE("\"s\""), &sealed) == 0);
    REQUIRE(base64url_decode(&bytes, buf_slice(&sealed)) == 0);
    for (size_t i = 0; i < buf_len(&bytes) * 8; i++) {
        CLEANUP(buf_deinit) struct buf text = BUF_INIT(KIB(4));
        bytes.data[i / 8] = (char)(bytes.data[i / 8] ^ (1 << i % 8));
        REQUIRE(base64url_encode(&text, buf_slice(&bytes)) == 0);
        CHECK_INT(try_open(gateway, &call, buf_slice(&text), &out), GW_E_STATE);
        bytes.data[i / 8] = (char)(bytes.data[i / 8] ^ (1 << i % 8));
    }
    for (size_t len = 0; len < buf_len(&sealed); len++)
        CHECK_INT(try_open(gateway, &call, slice_sub(buf_slice(&sealed), 0, len), &out),
                  GW_E_STATE);
    CHECK_INT(try_open(gateway, &call, SLICE("no base64 at all!"), &out), GW_E_STATE);
    mem_free(gateway);
}

TEST_MAIN(TEST(test_binding), TEST(test_arguments), TEST(test_tampering))
