/* Connections are counted in all and by address, and let go of. */
#include "peers.h"
#include "test.h"

static struct network address(const char *text) {
    struct network network;
    if (!network_parse_address(slice_from_cstr(text), &network))
        CANNOT_GO_ON();
    return network;
}

/* Room for two connections of an address: the verdict on the third one, from `third`. */
static void test_addresses(void) {
    static const struct {
        const char *name, *first, *second, *third;
        enum peers_verdict verdict;
        bool is_trusted;
    } rows[] = {
        {"one v4 address", "192.0.2.1", "192.0.2.1", "192.0.2.1", PEERS_FULL_OF_ONE, false},
        {"its neighbour", "192.0.2.1", "192.0.2.1", "192.0.2.2", PEERS_WELCOME, false},
        {"v4 in v6 clothes", "192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1", PEERS_FULL_OF_ONE,
         false},
        {"one /64", "2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:2:ffff::", PEERS_FULL_OF_ONE,
         false},
        {"the next /64", "2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:3::1", PEERS_WELCOME,
         false},
        {"v6 that begins as v4", "1.2.3.4", "1.2.3.4", "102:304::", PEERS_WELCOME, false},
        {"a trusted proxy", "10.1.2.3", "10.1.2.3", "10.1.2.3", PEERS_WELCOME, true},
        {"a trusted v6 proxy", "fd00::1", "fd00::1", "fd00::1", PEERS_WELCOME, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct peers peers;
        struct network first = address(rows[i].first), second = address(rows[i].second),
                       third = address(rows[i].third);
        test_row(rows[i].name);
        bool is_trusted = rows[i].is_trusted;
        peers_init(&peers, 100, 2);
        CHECK_INT(peers_enter(&peers, &first, is_trusted), PEERS_WELCOME);
        CHECK_INT(peers_enter(&peers, &second, is_trusted), PEERS_WELCOME);
        CHECK_INT(peers_enter(&peers, &third, is_trusted), rows[i].verdict);
        if (rows[i].verdict == PEERS_WELCOME)
            peers_leave(&peers, &third);
        peers_leave(&peers, &first);
        CHECK_INT(peers_enter(&peers, &second, is_trusted),
                  PEERS_WELCOME); /* there is room again */
        peers_leave(&peers, &second);
        peers_leave(&peers, &second);
        CHECK_INT(atomic_load(&peers.count), 0);
        peers_deinit(&peers);
    }
}

static size_t n_addresses(const struct peers *peers) {
    size_t n = 0;
    for (size_t i = 0; i < PEERS_SHARDS; i++)
        n += peers->shards[i].counts.count;
    return n;
}

static void test_in_all(void) {
    struct peers peers;
    struct network one = address("192.0.2.1"), other = address("192.0.2.2"),
                   nobody = {.family_bits = 0};
    peers_init(&peers, 3, 2);
    CHECK_INT(peers_enter(&peers, &one, false), PEERS_WELCOME);
    CHECK_INT(peers_enter(&peers, &one, false), PEERS_WELCOME);
    CHECK_INT(peers_enter(&peers, &one, false), PEERS_FULL_OF_ONE);
    CHECK_INT(peers_enter(&peers, &other, false),
              PEERS_WELCOME); /* the refused one takes no place */
    CHECK_INT(peers_enter(&peers, &other, false), PEERS_FULL);
    CHECK_INT(peers_enter(&peers, &nobody, false), PEERS_FULL);
    peers_leave(&peers, &one);
    CHECK_INT(peers_enter(&peers, &nobody, false), PEERS_WELCOME); /* counts in all only */
    CHECK_INT(n_addresses(&peers), 2);
    peers_leave(&peers, &one);
    peers_leave(&peers, &other);
    CHECK_INT(n_addresses(&peers), 0); /* nothing is kept of who is gone */
    peers_leave(&peers, &nobody);
    CHECK_INT(atomic_load(&peers.count), 0);
    peers_deinit(&peers);
}

/* The table is as large as its connections, however many addresses come by. */
static void test_passing_by(void) {
    struct peers peers;
    peers_init(&peers, 10, 10);
    for (uint32_t i = 0; i < 50000; i++) {
        struct network peer;
        network_from_bytes(&i, NETWORK_V4_BITS, &peer);
        CHECK_INT(peers_enter(&peers, &peer, false), PEERS_WELCOME);
        peers_leave(&peers, &peer);
    }
    CHECK_INT(n_addresses(&peers), 0);
    for (size_t i = 0; i < PEERS_SHARDS; i++)
        CHECK(peers.shards[i].counts.cap_entries <= 8); /* the memory does not grow with them */
    peers_deinit(&peers);
}

static void come_and_go(void *arg) {
    struct peers *peers = arg;
    struct network peer = address("192.0.2.1");
    enum peers_verdict verdict = peers_enter(peers, &peer, false);
    CHECK(verdict == PEERS_WELCOME || verdict == PEERS_FULL);
    if (verdict == PEERS_WELCOME)
        peers_leave(peers, &peer);
    CHECK_INT(atomic_load(&peers->count), 0);
}

static void test_no_memory(void) {
    struct peers peers;
    peers_init(&peers, 10, 10);
    test_torture(come_and_go, &peers);
    peers_deinit(&peers);
}

/* Whom a reload makes trusted, or no more, is let go of all the same. */
static void test_trust_changes(void) {
    struct peers peers;
    struct network proxy = address("192.0.2.1");
    peers_init(&peers, 10, 2);
    for (size_t i = 0; i < 3; i++)
        CHECK_INT(peers_enter(&peers, &proxy, true), PEERS_WELCOME);
    CHECK_INT(peers_enter(&peers, &proxy, false), PEERS_FULL_OF_ONE);
    for (size_t i = 0; i < 3; i++)
        peers_leave(&peers, &proxy);
    CHECK_INT(n_addresses(&peers), 0);
    CHECK_INT(peers_enter(&peers, &proxy, false), PEERS_WELCOME);
    peers_leave(&peers, &proxy);
    CHECK_INT(atomic_load(&peers.count), 0);
    peers_deinit(&peers);
}

TEST_MAIN(TEST(test_addresses), TEST(test_trust_changes), TEST(test_in_all), TEST(test_passing_by),
          TEST(test_no_memory))
