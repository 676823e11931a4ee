/* Ids of tasks: the same each time, opened by whom they were given to, at the same endpoint. */
#include <errno.h>

#include "base/base64.h"
#include "base/mem.h"
#include "private.h"
#include "test.h"

static struct gateway *new_gateway(char fill) {
    struct gateway *gateway = mem_xalloc(sizeof *gateway);
    memset(gateway->state_key, fill, sizeof gateway->state_key);
    memset(gateway->name_key, fill + 1, sizeof gateway->name_key);
    return gateway;
}

static const struct gw_task_name name = {
    .kind = GW_TASK_MODERN,
    .home = {.upstream = SLICE_INIT("wiki"), .session = SLICE_INIT("c1.abc"), .capabilities = 0x2a},
    .id = SLICE_INIT("a\0b"),
};

static int try_open(const struct gateway *gateway, const char *principal, const char *endpoint,
                    struct slice text) {
    CLEANUP(buf_deinit) struct buf memory = BUF_INIT(KIB(8));
    struct gw_task_name opened;
    int error = gw_task_open(gateway, slice_from_cstr(principal), slice_from_cstr(endpoint), text,
                             &memory, &opened);
    if (error != 0)
        return error;
    CHECK_INT(opened.kind, name.kind);
    CHECK(slice_eq(opened.home.upstream, name.home.upstream));
    CHECK(slice_eq(opened.home.session, name.home.session));
    CHECK_INT((int)opened.home.capabilities, (int)name.home.capabilities);
    CHECK(slice_eq(opened.id, name.id));
    return 0;
}

static void test_whose(void) {
    CLEANUP(mem_freep) struct gateway *gateway = new_gateway(1);
    CLEANUP(mem_freep) struct gateway *other = new_gateway(7);
    CLEANUP(buf_deinit) struct buf sealed = BUF_INIT(KIB(4));
    CLEANUP(buf_deinit) struct buf again = BUF_INIT(KIB(4));
    CLEANUP(buf_deinit) struct buf elsewhere = BUF_INIT(KIB(4));
    REQUIRE(gw_task_seal(gateway, SLICE("ann"), SLICE("wiki"), &name, &sealed) == 0);
    REQUIRE(gw_task_seal(gateway, SLICE("ann"), SLICE("wiki"), &name, &again) == 0);
    REQUIRE(gw_task_seal(gateway, SLICE("ann"), SLICE(""), &name, &elsewhere) == 0);
    struct slice text = buf_slice(&sealed);
    CHECK(slice_eq(text, buf_slice(&again)));
    CHECK(!slice_eq(text, buf_slice(&elsewhere)));
    CHECK_INT(try_open(gateway, "ann", "wiki", text), 0);
    CHECK_INT(try_open(gateway, "an", "wiki", text), GW_E_STATE);
    CHECK_INT(try_open(gateway, "ann", "", text), GW_E_STATE);
    CHECK_INT(try_open(gateway, "", "wiki", text), GW_E_STATE);
    CHECK_INT(try_open(other, "ann", "wiki", text), GW_E_STATE);
}

/* Every bit of it counts, and its length. */
static void test_tampering(void) {
    CLEANUP(mem_freep) struct gateway *gateway = new_gateway(1);
    CLEANUP(buf_deinit) struct buf sealed = BUF_INIT(KIB(4));
    CLEANUP(buf_deinit) struct buf bytes = BUF_INIT(KIB(4));
    REQUIRE(gw_task_seal(gateway, SLICE("ann"), SLICE("wiki"), &name, &sealed) == 0);
    REQUIRE(base64url_decode(&bytes, buf_slice(&sealed)) == 0);
    for (size_t i = 0; i < buf_len(&bytes) * 8; i++) {
        CLEANUP(buf_deinit) struct buf text = BUF_INIT(KIB(4));
        bytes.data[i / 8] = (char)(bytes.data[i / 8] ^ (1 << i % 8));
        REQUIRE(base64url_encode(&text, buf_slice(&bytes)) == 0);
        CHECK_INT(try_open(gateway, "ann", "wiki", buf_slice(&text)), GW_E_STATE);
        bytes.data[i / 8] = (char)(bytes.data[i / 8] ^ (1 << i % 8));
    }
    for (size_t len = 0; len < buf_len(&sealed); len++)
        CHECK_INT(try_open(gateway, "ann", "wiki", slice_sub(buf_slice(&sealed), 0, len)),
                  GW_E_STATE);
}

static void test_limits(void) {
    static char longest[LIMIT_TASK_ID + 1], text[LIMIT_TASK_NAME + 1];
    CLEANUP(mem_freep) struct gateway *gateway = new_gateway(1);
    CLEANUP(buf_deinit) struct buf sealed = BUF_INIT(KIB(4));
    memset(longest, 'x', sizeof longest);
    memset(text, 'A', sizeof text);
    struct gw_task_name at = name;
    at.id = slice_make(longest, LIMIT_TASK_ID);
    CHECK_INT(gw_task_seal(gateway, SLICE("ann"), SLICE(""), &at, &sealed), 0);
    CHECK(buf_len(&sealed) <= LIMIT_TASK_NAME);
    at.id = slice_make(longest, LIMIT_TASK_ID + 1);
    CHECK_INT(gw_task_seal(gateway, SLICE("ann"), SLICE(""), &at, &sealed), -E2BIG);
    CHECK_INT(try_open(gateway, "ann", "", slice_make(text, sizeof text)), GW_E_STATE);
    CHECK_INT(try_open(gateway, "ann", "", SLICE_EMPTY), GW_E_STATE);
}

TEST_MAIN(TEST(test_whose), TEST(test_tampering), TEST(test_limits))
