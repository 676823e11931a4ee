/* Logins that fail: strangers wait, owners do not, and nobody fills the table. */
#include "base/limits.h"
#include "doors_world.h"

enum { SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE };
#define DAY (UINT64_C(24) * HOUR)

struct trying {
    const char *name, *address;
    struct slice raw; /* in place of `name` */
    struct buf hash;
    uint64_t wait_ms;
};

static struct slice name_of(const struct trying *trying) {
    return trying->raw.ptr != NULL ? trying->raw : slice_from_cstr(trying->name);
}

static int begin_work(struct store_tx *tx, void *context) {
    struct trying *trying = context;
    return accounts_begin_login(tx, name_of(trying), slice_from_cstr(trying->address),
                                &trying->hash, &trying->wait_ms);
}

static int fail_work(struct store_tx *tx, void *context) {
    const struct trying *trying = context;
    return accounts_fail_login(tx, name_of(trying), slice_from_cstr(trying->address));
}

static int enter_work(struct store_tx *tx, void *context) {
    const struct trying *trying = context;
    struct accounts_cookie cookie;
    const struct accounts_session_new options = {.user = name_of(trying),
                                                 .address = slice_from_cstr(trying->address),
                                                 .idle_ms = HOUR,
                                                 .max_ms = HOUR,
                                                 .hash = buf_slice(&trying->hash)};
    return accounts_open_session(tx, &options, &cookie);
}

/* The wait; 0: the password may be looked at. */
static uint64_t begin(struct store_world *world, const char *name, const char *address) {
    struct trying trying = {.name = name, .address = address, .hash = BUF_INIT(KIB(4))};
    int error = store_run(world->store, STORE_NOTE, begin_work, &trying);
    CHECK(error == 0 || error == ACCOUNTS_E_WAIT);
    CHECK((error != 0) == (trying.wait_ms != 0));
    CHECK(error == 0 || buf_len(&trying.hash) == 0);
    buf_deinit(&trying.hash);
    return trying.wait_ms;
}

/* How often a wrong password can be given before there is a wait; at most `most`. */
static int tries(struct store_world *world, const char *name, const char *address, int most) {
    struct trying trying = {.name = name, .address = address};
    int n = 0;
    while (n < most && begin(world, name, address) == 0) {
        CHECK_INT(store_run(world->store, STORE_NOTE, fail_work, &trying), 0);
        n++;
    }
    return n;
}

/* With the right password. The wait, or 0. */
static uint64_t login(struct store_world *world, const char *name, const char *address) {
    struct trying trying = {.name = name, .address = address, .hash = BUF_INIT(KIB(4))};
    int error = store_run(world->store, STORE_NOTE, begin_work, &trying);
    if (error == 0)
        error = store_run(world->store, STORE_NOTE, enter_work, &trying);
    CHECK(error == 0 || error == ACCOUNTS_E_WAIT);
    buf_deinit(&trying.hash);
    return trying.wait_ms;
}

static void start(struct store_world *world, enum store_world_kind kind) {
    store_world_open(world, kind);
    must_user(world, "Anna", "viewer");
    must_user(world, "ben", "viewer");
    do_raw(world, "UPDATE users SET password = 'a hash'", NULL, NULL, NULL);
}

static bool is_about(uint64_t wait_ms, uint64_t expected_ms) {
    return wait_ms <= expected_ms && wait_ms + 900 >= expected_ms;
}

/* --- what a login needs --- */

static void check_hashes(enum store_world_kind kind) {
    static const struct {
        const char *row;
        struct slice name;
        const char *hash;
    } rows[] = {
        {"its name", SLICE_INIT("Anna"), "a hash"},
        {"without case", SLICE_INIT("aNNA"), "a hash"},
        {"nobody", SLICE_INIT("carl"), ""},
        {"disabled", SLICE_INIT("dora"), ""},
        {"without a password", SLICE_INIT("emil"), ""},
        {"empty", SLICE_INIT(""), ""},
        {"NUL", SLICE_INIT("anna\0"), ""},
        {"no UTF-8", SLICE_INIT("\xff\xfe"), ""},
        {"a quote", SLICE_INIT("' OR ''='"), ""},
        {"a star", SLICE_INIT("%"), ""},
    };
    struct store_world world;
    start(&world, kind);
    must_user(&world, "dora", "viewer");
    must_user(&world, "emil", "viewer");
    do_raw(&world, "UPDATE users SET password = 'x', is_disabled = 1 WHERE key = 'dora'", NULL,
           NULL, NULL);
    do_raw(&world, "UPDATE users SET password = '' WHERE key = 'emil'", NULL, NULL, NULL);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct trying trying = {
            .raw = rows[i].name, .address = "192.0.2.1", .hash = BUF_INIT(KIB(4))};
        test_row(rows[i].row);
        CHECK_INT(store_run(world.store, STORE_NOTE, begin_work, &trying), 0);
        CHECK_STR(buf_slice(&trying.hash), rows[i].hash);
        buf_deinit(&trying.hash);
    }
    /* What was typed as a name may be a password: it is not in the store. */
    CHECK_INT(count_raw(&world, "SELECT COUNT(*) FROM login_failures WHERE key LIKE '%carl%'"), 0);
    store_world_close(&world);
}
STORE_TEST(check_hashes)

/* --- an account from one address --- */

static void check_account(enum store_world_kind kind) {
    struct store_world world;
    start(&world, kind);
    CHECK_INT(tries(&world, "anna", "192.0.2.1", 99), 5);
    CHECK(is_about(begin(&world, "anna", "192.0.2.1"), 2 * SECOND));
    CHECK(begin(&world, "ANNA", "192.0.2.1") != 0);
    CHECK(begin(&world, "anna", "::ffff:192.0.2.1") != 0); /* the same address */
    CHECK(login(&world, "anna", "192.0.2.1") != 0);        /* not even with the right one */
    /* The owner comes from another address, and another account is another. */
    CHECK_INT(login(&world, "anna", "192.0.2.2"), 0);
    CHECK_INT(login(&world, "ben", "192.0.2.1"), 0);
    CHECK(begin(&world, "anna", "192.0.2.1") != 0); /* that has cleared nothing here */

    /* Knocking makes no wait longer; each failure doubles it, up to a quarter of an hour. */
    for (int i = 0; i < 50; i++)
        (void)begin(&world, "anna", "192.0.2.1");
    CHECK(begin(&world, "anna", "192.0.2.1") <= 2 * SECOND);
    uint64_t expected = 2 * SECOND;
    for (int i = 0; i < 12; i++) {
        uint64_t wait = begin(&world, "anna", "192.0.2.1");
        CHECK(is_about(wait, expected));
        pass(&world, wait);
        CHECK_INT(tries(&world, "anna", "192.0.2.1", 99), 1);
        expected = expected * 2 < 15 * MINUTE ? expected * 2 : 15 * MINUTE;
    }
    pass(&world, 15 * MINUTE);
    CHECK_INT(login(&world, "anna", "192.0.2.1"), 0);
    CHECK_INT(tries(&world, "anna", "192.0.2.1", 99), 5); /* it begins anew */
    pass(&world, DAY);
    CHECK_INT(tries(&world, "anna", "192.0.2.1", 99), 5);
    store_world_close(&world);
}
STORE_TEST(check_account)

/* Nobody learns from waits who exists. */
static void check_unknown(enum store_world_kind kind) {
    struct store_world world;
    start(&world, kind);
    CHECK_INT(tries(&world, "anna", "192.0.2.1", 99), tries(&world, "nobody", "192.0.2.2", 99));
    CHECK_INT(tries(&world, "", "192.0.2.3", 99), 5);
    CHECK_INT(tries(&world, "\xff", "192.0.2.4", 99), 5);
    store_world_close(&world);
}
STORE_TEST(check_unknown)

/* --- an address --- */

static int spray(struct store_world *world, const char *address, int most) {
    int n = 0;
    for (; n < most; n++) {
        char name[32];
        snprintf(name, sizeof name, "name-%d", n);
        if (begin(world, name, address) != 0)
            break;
    }
    return n;
}

static void check_address(enum store_world_kind kind) {
    static const struct {
        const char *row, *address;
        int n;
    } rows[] = {
        {"the first", "2001:db8:1:2::1", 30},
        {"the same /64", "2001:db8:1:2:ffff::9", 0},
        {"another /64", "2001:db8:1:3::1", 30},
        {"IPv4", "198.51.100.1", 30},
        {"its neighbour", "198.51.100.2", 30},
        {"the first in IPv6 form", "::ffff:198.51.100.1", 0},
        {"no address", "unix", 30},
        {"nor that", "", 30},
    };
    struct store_world world;
    start(&world, kind);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].row);
        CHECK_INT(spray(&world, rows[i].address, 99), rows[i].n);
    }
    test_row("");
    /* Who shares it waits with it, for a second or two: most of them get in. */
    CHECK(begin(&world, "anna", "198.51.100.1") <= 1 * SECOND);
    pass(&world, 1 * SECOND);
    CHECK_INT(login(&world, "anna", "198.51.100.1"), 0);
    /* ... and clears nothing of what others have tried: an attacker may have an account, too. */
    CHECK(begin(&world, "anna", "198.51.100.1") != 0);
    pass(&world, 1 * SECOND);
    CHECK_INT(spray(&world, "198.51.100.1", 99), 1);
    /* One is forgiven a minute. */
    pass(&world, 10 * MINUTE);
    CHECK_INT(spray(&world, "198.51.100.1", 99), 9); /* 31 were counted */
    store_world_close(&world);
}
STORE_TEST(check_address)

/* Right passwords count for nothing, however many. */
static void check_right(enum store_world_kind kind) {
    struct store_world world;
    start(&world, kind);
    for (int i = 0; i < 40; i++)
        CHECK_INT(login(&world, i % 2 == 0 ? "anna" : "ben", "192.0.2.1"), 0);
    CHECK_INT(count_raw(&world, "SELECT COUNT(*) FROM login_failures WHERE count > 0"), 0);
    store_world_close(&world);
}
STORE_TEST(check_right)

/* --- an account from everywhere --- */

static void check_everywhere(enum store_world_kind kind) {
    struct store_world world;
    int n = 0;
    start(&world, kind);
    CHECK_INT(login(&world, "anna", "203.0.113.77"), 0);
    pass(&world, DAY);
    for (; n < 200; n++) {
        char address[32];
        snprintf(address, sizeof address, "10.0.%d.1", n);
        if (begin(&world, "anna", address) != 0)
            break;
    }
    CHECK_INT(n, 100);
    CHECK(is_about(begin(&world, "anna", "10.9.9.9"), 1 * SECOND));
    CHECK_INT(begin(&world, "ben", "10.9.9.9"), 0);
    /* From where she has come before, Anna comes in all the while. */
    CHECK_INT(login(&world, "anna", "203.0.113.77"), 0);
    CHECK(begin(&world, "anna", "10.9.9.8") != 0);
    /* The waits are short, for they are the owner's, too. */
    for (int i = 0; i < 20; i++) {
        char address[32];
        snprintf(address, sizeof address, "10.1.%d.1", i);
        pass(&world, begin(&world, "anna", address));
        CHECK_INT(begin(&world, "anna", address), 0);
    }
    CHECK(begin(&world, "anna", "10.9.9.9") <= MINUTE);
    pass(&world, 61 * DAY);
    CHECK_INT(login(&world, "anna", "10.9.9.9"), 0);
    store_world_close(&world);
}
STORE_TEST(check_everywhere)

/* Only so many good addresses are kept of one account. */
static void check_known(enum store_world_kind kind) {
    struct store_world world;
    start(&world, kind);
    for (int i = 0; i < (int)LIMIT_KNOWN_ADDRESSES + 5; i++) {
        char address[32];
        snprintf(address, sizeof address, "10.0.0.%d", i);
        CHECK_INT(login(&world, "anna", address), 0);
        CHECK_INT(login(&world, "ben", "10.0.0.1"), 0);
        pass(&world, SECOND);
    }
    CHECK_INT(count_raw(&world, "SELECT COUNT(*) FROM login_failures"), LIMIT_KNOWN_ADDRESSES + 1);
    store_world_close(&world);
}
STORE_TEST(check_known)

/* --- at once --- */

/* As many as like begin before the first has failed: no more of them pass than one by one. */
static void check_parallel(enum store_world_kind kind) {
    struct store_world world;
    int passed = 0;
    start(&world, kind);
    for (int i = 0; i < 50; i++)
        passed += begin(&world, "anna", "192.0.2.1") == 0;
    CHECK_INT(passed, 5);
    store_world_close(&world);
}
STORE_TEST(check_parallel)

/* --- the table is bounded --- */

static int flood_work(struct store_tx *tx, void *context) {
    int error = 0, n = *(const int *)context;
    for (int i = 0; error == 0 && i < n; i++) {
        char key[64];
        snprintf(key, sizeof key, "pair/flood-%d", i);
        error = store_exec(tx,
                           "INSERT INTO login_failures (key, count, last_ms) VALUES ($1, $2,"
                           " 1700000000000)",
                           STORE_VALUES(store_text(slice_from_cstr(key)), store_number(1)), NULL);
    }
    return error;
}

static int sweep_work(struct store_tx *tx, void *context) {
    (void)context;
    return accounts_sweep(tx);
}

static void check_flood(enum store_world_kind kind) {
    struct store_world world;
    int n = LIMIT_LOGIN_ROWS;
    start(&world, kind);
    CHECK_INT(login(&world, "ben", "192.0.2.9"), 0);
    CHECK_INT(tries(&world, "anna", "192.0.2.1", 99), 5);
    CHECK_INT(store_run(world.store, STORE_NOTE, flood_work, &n), 0);
    CHECK_INT(begin(&world, "one-more", "192.0.2.2"), 0);
    CHECK(count_raw(&world, "SELECT COUNT(*) FROM login_failures") <= (int64_t)LIMIT_LOGIN_ROWS);
    /* What counts most has stayed, and so has what is good. */
    static const char counted[] = "SELECT COUNT(*) FROM login_failures WHERE count = 5";
    CHECK_INT(count_raw(&world, counted), 3); /* pair, address, account */
    CHECK_INT(count_raw(&world, "SELECT COUNT(*) FROM login_failures WHERE key LIKE 'known/%'"), 1);
    CHECK_INT(store_run(world.store, STORE_NOTE, sweep_work, NULL), 0);
    CHECK(count_raw(&world, "SELECT COUNT(*) FROM login_failures") < 10);
    CHECK_INT(count_raw(&world, counted), 3);
    pass(&world, 61 * DAY);
    CHECK_INT(store_run(world.store, STORE_NOTE, sweep_work, NULL), 0);
    CHECK_INT(count_raw(&world, "SELECT COUNT(*) FROM login_failures"), 0);
    store_world_close(&world);
}
STORE_TEST(check_flood)

/* The store's clock was set back: nobody waits for the time that is said to be to come. */
static void check_clock(enum store_world_kind kind) {
    struct store_world world;
    start(&world, kind);
    CHECK_INT(tries(&world, "anna", "192.0.2.1", 99), 5);
    do_raw(&world, "UPDATE login_failures SET last_ms = last_ms + 31536000000", NULL, NULL, NULL);
    CHECK(begin(&world, "anna", "192.0.2.1") <= 2 * SECOND);
    store_world_close(&world);
}
STORE_TEST(check_clock)

TEST_MAIN(TEST(check_hashes_sqlite), TEST(check_hashes_postgres), TEST(check_account_sqlite),
          TEST(check_account_postgres), TEST(check_unknown_sqlite), TEST(check_unknown_postgres),
          TEST(check_address_sqlite), TEST(check_address_postgres), TEST(check_right_sqlite),
          TEST(check_right_postgres), TEST(check_everywhere_sqlite),
          TEST(check_everywhere_postgres), TEST(check_known_sqlite), TEST(check_known_postgres),
          TEST(check_parallel_sqlite), TEST(check_parallel_postgres), TEST(check_flood_sqlite),
          TEST(check_flood_postgres), TEST(check_clock_sqlite), TEST(check_clock_postgres))
