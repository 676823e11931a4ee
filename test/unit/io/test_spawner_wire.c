/* The packets between the gateway and its spawner: read strictly on both sides. */
#include <errno.h>

#include "io/spawner.h"
#include "spawner_wire.h"
#include "test.h"

static const struct spawner_command sample = {.id = 0x123456789abcdef0,
                                              .argv = (const char *const[]){"a", "", "ccc", NULL},
                                              .envp = (const char *const[]){"X=1", NULL},
                                              .cwd = "/c",
                                              .change_user = true,
                                              .uid = 4294967294,
                                              .gid = 7};

static void test_order_round_trip(void) {
    struct buf packet = BUF_INIT(SPAWNER_PACKET_MAX);
    struct order order = {0};
    CHECK_INT(order_encode_spawn(&sample, &packet), 0);
    REQUIRE(order_decode(buf_slice(&packet), &order) == 0);
    CHECK_INT(order.head.id, sample.id);
    CHECK_INT(order.head.uid, sample.uid);
    CHECK_INT(order.head.gid, 7);
    CHECK_INT(order.head.change_user, 1);
    CHECK_STR(slice_from_cstr(order.argv[0]), "a");
    CHECK_STR(slice_from_cstr(order.argv[1]), "");
    CHECK_STR(slice_from_cstr(order.argv[2]), "ccc");
    CHECK(order.argv[3] == NULL && order.envp[1] == NULL);
    CHECK_STR(slice_from_cstr(order.envp[0]), "X=1");
    CHECK_STR(slice_from_cstr(order.cwd), "/c");
    order_deinit(&order);
    buf_deinit(&packet);
}

static void test_order_is_read_strictly(void) {
    struct buf packet = BUF_INIT(SPAWNER_PACKET_MAX);
    struct order order;
    CHECK_INT(order_encode_spawn(&sample, &packet), 0);
    for (size_t n = 0; n < buf_len(&packet); n++)
        CHECK_INT(order_decode(slice_sub(buf_slice(&packet), 0, n), &order), -EPROTO);
    /* Any one byte changed: refused or read, but within the bounds (the sanitizer looks on). */
    size_t refused = 0;
    for (size_t i = 0; i < buf_len(&packet); i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            packet.data[packet.start + i] = (char)(packet.data[packet.start + i] ^ (1 << bit));
            if (order_decode(buf_slice(&packet), &order) == 0)
                order_deinit(&order);
            else
                refused++;
            packet.data[packet.start + i] = (char)(packet.data[packet.start + i] ^ (1 << bit));
        }
    CHECK(refused > 100);
    buf_deinit(&packet);

    const struct {
        const char *name;
        struct order_head head;
        int result;
    } rows[] = {
        {"signal", {.kind = ORDER_SIGNAL, .signal = 15}, 0},
        {"signal 0", {.kind = ORDER_SIGNAL}, -EPROTO},
        {"signal 65", {.kind = ORDER_SIGNAL, .signal = 65}, -EPROTO},
        {"signal with words", {.kind = ORDER_SIGNAL, .signal = 1, .argc = 1}, -EPROTO},
        {"kind 0", {.signal = 1}, -EPROTO},
        {"kind 3", {.kind = 3, .signal = 1}, -EPROTO},
        {"no words", {.kind = ORDER_SPAWN}, -EPROTO},
        {"words that are not there", {.kind = ORDER_SPAWN, .argc = 1}, -EPROTO},
        {"most words", {.kind = ORDER_SPAWN, .argc = UINT32_MAX, .envc = 1}, -EPROTO},
        {"reserved", {.kind = ORDER_SIGNAL, .signal = 1, .reserved = 1}, -EPROTO},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].name);
        CHECK_INT(order_decode(slice_make(&rows[i].head, sizeof rows[i].head), &order),
                  rows[i].result);
    }
}

static void order_torture(void *arg) {
    struct buf packet = BUF_INIT(SPAWNER_PACKET_MAX);
    struct order order;
    (void)arg;
    int error = order_encode_spawn(&sample, &packet);
    CHECK(error == 0 || error == -ENOMEM);
    if (error == 0) {
        error = order_decode(buf_slice(&packet), &order);
        CHECK(error == 0 || error == -ENOMEM);
        if (error == 0)
            order_deinit(&order);
    }
    buf_deinit(&packet);
}

static void test_order_without_memory(void) {
    test_torture(order_torture, NULL);
}

static void test_event_is_read_strictly(void) {
    struct event_packet packet = {
        .id = 5, .kind = SPAWNER_FAILED, .stage = STAGE_EXECUTE, .error = 2};
    struct spawner_event event = {0};
    CHECK_INT(event_decode(slice_make(&packet, sizeof packet), &event), 0);
    CHECK_INT(event.id, 5);
    CHECK_STR(slice_from_cstr(event.stage), "execute");
    for (size_t n = 0; n < sizeof packet; n++)
        CHECK_INT(event_decode(slice_make(&packet, n), &event), -EPROTO);
    packet.stage = UINT32_MAX;
    CHECK_INT(event_decode(slice_make(&packet, sizeof packet), &event), 0);
    CHECK_STR(slice_from_cstr(event.stage), "unknown");
    packet.kind = 3;
    CHECK_INT(event_decode(slice_make(&packet, sizeof packet), &event), -EPROTO);
}

TEST_MAIN(TEST(test_order_round_trip), TEST(test_order_is_read_strictly),
          TEST(test_order_without_memory), TEST(test_event_is_read_strictly))
