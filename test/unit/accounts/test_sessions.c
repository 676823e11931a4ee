/* Sessions: who gets in, for how long, and who ends them. */
#include <openssl/sha.h>

#include "base/clock.h"
#include "doors_world.h"

enum { MINUTE = 60 * 1000, HOUR = 60 * MINUTE };

struct entering {
    struct accounts_session_new options;
    struct accounts_cookie cookie;
};

static int open_work(struct store_tx *tx, void *context) {
    struct entering *entering = context;
    return accounts_open_session(tx, &entering->options, &entering->cookie);
}

static int enter(struct store_world *world, const char *user, struct accounts_cookie *ret_cookie) {
    struct entering entering = {.options = {.user = slice_from_cstr(user),
                                            .address = SLICE("192.0.2.1"),
                                            .agent = SLICE("Browser/1.0"),
                                            .idle_ms = HOUR,
                                            .max_ms = 12 * HOUR}};
    int error = store_run(world->store, STORE_NOTE, open_work, &entering);
    *ret_cookie = entering.cookie;
    return error;
}

static struct accounts_cookie must_enter(struct store_world *world, const char *user) {
    struct accounts_cookie cookie;
    CHECK_INT(enter(world, user, &cookie), 0);
    return cookie;
}

struct looking {
    struct slice session, secret;
    bool was_called, may_audit, is_due, must_change;
    char csrf[64], user_name[80], agent[300], address[64];
    uint64_t seen_ms, ends_ms;
};

static bool see_session(void *context, const struct accounts_session *session) {
    struct looking *looking = context;
    looking->was_called = true;
    looking->is_due = session->is_due;
    looking->must_change = session->must_change;
    looking->seen_ms = session->seen_ms;
    looking->ends_ms = session->ends_ms;
    snprintf(looking->csrf, sizeof looking->csrf, "%.*s", SLICE_ARGS(session->csrf));
    snprintf(looking->user_name, sizeof looking->user_name, "%.*s", SLICE_ARGS(session->user_name));
    snprintf(looking->agent, sizeof looking->agent, "%.*s", SLICE_ARGS(session->agent));
    snprintf(looking->address, sizeof looking->address, "%.*s", SLICE_ARGS(session->address));
    return true;
}

static int find_work(struct store_tx *tx, void *context) {
    struct looking *looking = context;
    struct policy_rights *rights = NULL;
    int error =
        accounts_find_session(tx, looking->session, looking->secret, see_session, looking, &rights);
    if (error == 0)
        looking->may_audit = policy_rights_have(rights, PERMISSION_AUDIT_READ);
    policy_rights_unref(rights);
    return error;
}

/* It only reads, so that is all it gets. */
static int find(struct store_world *world, const struct accounts_cookie *cookie,
                struct looking *ret_looking) {
    *ret_looking = (struct looking){.session = slice_from_cstr(cookie->session),
                                    .secret = slice_from_cstr(cookie->secret)};
    return store_run(world->store, STORE_READ, find_work, ret_looking);
}

static bool is_in(struct store_world *world, const struct accounts_cookie *cookie) {
    struct looking looking;
    int error = find(world, cookie, &looking);
    CHECK(error == 0 || error == ACCOUNTS_E_NONE);
    CHECK(looking.was_called == (error == 0));
    return error == 0;
}

static int touch_work(struct store_tx *tx, void *context) {
    const struct accounts_cookie *cookie = context;
    return accounts_touch_session(tx, slice_from_cstr(cookie->session));
}

static void touch(struct store_world *world, struct accounts_cookie *cookie) {
    CHECK_INT(store_run(world->store, STORE_NOTE, touch_work, cookie), 0);
}

static void check_login(enum store_world_kind kind) {
    struct store_world world;
    struct looking looking;
    store_world_open(&world, kind);
    must_user(&world, "Anna", "viewer");
    struct accounts_cookie cookie = must_enter(&world, "anna"), other = must_enter(&world, "ANNA");
    CHECK_INT(strlen(cookie.session), ACCOUNTS_ID);
    CHECK_INT(strlen(cookie.secret), ACCOUNTS_SECRET);
    CHECK_INT(strlen(cookie.csrf), ACCOUNTS_SECRET);
    CHECK(strcmp(cookie.session, other.session) != 0 && strcmp(cookie.secret, other.secret) != 0 &&
          strcmp(cookie.csrf, other.csrf) != 0 && strcmp(cookie.secret, cookie.csrf) != 0);

    CHECK_INT(find(&world, &cookie, &looking), 0);
    CHECK_STR(slice_from_cstr(looking.user_name), "Anna");
    CHECK_STR(slice_from_cstr(looking.csrf), cookie.csrf);
    CHECK_STR(slice_from_cstr(looking.agent), "Browser/1.0");
    CHECK_STR(slice_from_cstr(looking.address), "192.0.2.1");
    CHECK(looking.may_audit && !looking.is_due && !looking.must_change);
    CHECK_INT(count_raw(&world, "SELECT COUNT(*) FROM users WHERE login_ms > 0 AND version = 1"),
              1);
    /* The secret is nowhere in the store, nor what is made of it. */
    const char *const secrets[] = {cookie.secret, cookie.csrf};
    for (size_t i = 0; i < ARRAY_LEN(secrets); i++) {
        struct raw raw = {.sql = "SELECT COUNT(*) FROM sessions WHERE $1 IN (digest, id, user_id,"
                                 " address, agent)",
                          .values = {store_text(slice_from_cstr(secrets[i]))},
                          .n = 1};
        CHECK_INT(store_run(world.store, STORE_READ, raw_count_work, &raw), 0);
        CHECK_INT(raw.number, 0);
    }

    const struct {
        const char *name;
        struct slice session, secret;
    } wrong[] = {
        {"nothing", SLICE_INIT(""), SLICE_INIT("")},
        {"no secret", slice_from_cstr(cookie.session), SLICE_INIT("")},
        {"no id", SLICE_INIT(""), slice_from_cstr(cookie.secret)},
        {"secret of another", slice_from_cstr(cookie.session), slice_from_cstr(other.secret)},
        {"the csrf token", slice_from_cstr(cookie.session), slice_from_cstr(cookie.csrf)},
        {"an unknown id", SLICE_INIT("aaaaaaaaaaaaaaaaaaaaaa"), slice_from_cstr(cookie.secret)},
        {"too short", slice_from_cstr(cookie.session),
         slice_make(cookie.secret, ACCOUNTS_SECRET - 1)},
        {"NUL in the id", SLICE_INIT("aaaaaaaaaa\0aaaaaaaaaaa"), slice_from_cstr(cookie.secret)},
        {"no UTF-8",
         SLICE_INIT("aaaaaaaaaa\xff"
                    "aaaaaaaaaaa"),
         slice_from_cstr(cookie.secret)},
        {"a quote", SLICE_INIT("' OR 1=1 -- aaaaaaaaaa"), slice_from_cstr(cookie.secret)},
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        test_row(wrong[i].name);
        looking = (struct looking){.session = wrong[i].session, .secret = wrong[i].secret};
        CHECK_INT(store_run(world.store, STORE_READ, find_work, &looking), ACCOUNTS_E_NONE);
        CHECK(!looking.was_called);
    }
    test_row("");
    /* Each character of the secret counts. */
    for (size_t i = 0; i < ACCOUNTS_SECRET; i++) {
        struct accounts_cookie changed = cookie;
        changed.secret[i] = changed.secret[i] == 'A' ? 'B' : 'A';
        CHECK(!is_in(&world, &changed));
    }
    CHECK(is_in(&world, &cookie));
    struct accounts_cookie nobody;
    CHECK_INT(enter(&world, "nobody", &nobody), ACCOUNTS_E_LOGIN);
    CHECK_INT(enter(&world, "", &nobody), ACCOUNTS_E_LOGIN);
    store_world_close(&world);
}
STORE_TEST(check_login)

/* What a browser says of itself is kept as a text, whatever it is. */
static void check_agents(enum store_world_kind kind) {
    static char endless[5000];
    const struct {
        struct slice agent;
        const char *kept;
    } rows[] = {
        {SLICE_INIT(""), ""},
        {SLICE_INIT("a\x1b[2J\r\nb\x7f"), "a [2J  b "},
        {SLICE_INIT("a\0b"), "a b"},
        {SLICE_INIT("\xff\xc3(\xed\xa0\x80"), "?"
                                              "?("
                                              "?"
                                              "?"
                                              "?"},
        {SLICE_INIT("\xc2\x9b\xc3\xa4"), " \xc3\xa4"},
        {{endless, sizeof endless}, NULL},
    };
    struct store_world world;
    struct looking looking;
    memset(endless, 'x', sizeof endless);
    endless[LIMIT_SESSION_TEXT - 1] = '\xc3'; /* is not cut in two */
    endless[LIMIT_SESSION_TEXT] = '\xa4';
    store_world_open(&world, kind);
    must_user(&world, "anna", "viewer");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct entering entering = {.options = {.user = SLICE("anna"),
                                                .address = rows[i].agent,
                                                .agent = rows[i].agent,
                                                .idle_ms = HOUR,
                                                .max_ms = HOUR}};
        test_row(rows[i].kept != NULL ? rows[i].kept : "endless");
        CHECK_INT(store_run(world.store, STORE_NOTE, open_work, &entering), 0);
        CHECK_INT(find(&world, &entering.cookie, &looking), 0);
        if (rows[i].kept != NULL)
            CHECK_STR(slice_from_cstr(looking.agent), rows[i].kept);
        else
            CHECK_INT(strlen(looking.agent), LIMIT_SESSION_TEXT - 1);
    }
    store_world_close(&world);
}
STORE_TEST(check_agents)

static void check_lifetimes(enum store_world_kind kind) {
    struct store_world world;
    struct looking looking;
    store_world_open(&world, kind);
    must_user(&world, "anna", "viewer");
    /* Idle: an hour without anybody. */
    struct accounts_cookie cookie = must_enter(&world, "anna");
    pass(&world, 59 * MINUTE);
    CHECK(is_in(&world, &cookie));
    pass(&world, 2 * MINUTE);
    CHECK(!is_in(&world, &cookie));
    touch(&world, &cookie); /* does not bring it back */
    CHECK(!is_in(&world, &cookie));

    /* Used all the time it ends after twelve. */
    cookie = must_enter(&world, "anna");
    for (int i = 0; i < 23; i++) {
        pass(&world, 31 * MINUTE);
        CHECK(is_in(&world, &cookie));
        touch(&world, &cookie);
    }
    CHECK_INT(find(&world, &cookie, &looking), 0);
    uint64_t left = looking.ends_ms - clock_wall_ms();
    CHECK(left > 6 * MINUTE && left < 8 * MINUTE);
    pass(&world, 6 * MINUTE);
    touch(&world, &cookie);
    CHECK(is_in(&world, &cookie));
    pass(&world, 2 * MINUTE);
    CHECK(!is_in(&world, &cookie));

    /* It is written at most once a minute that somebody came. */
    cookie = must_enter(&world, "anna");
    pass(&world, MINUTE - 5000);
    CHECK_INT(find(&world, &cookie, &looking), 0);
    CHECK(!looking.is_due);
    pass(&world, 10000);
    CHECK_INT(find(&world, &cookie, &looking), 0);
    CHECK(looking.is_due);
    uint64_t before = looking.seen_ms;
    touch(&world, &cookie);
    CHECK_INT(find(&world, &cookie, &looking), 0);
    CHECK(!looking.is_due && looking.seen_ms > before);

    /* Where an hour is a minute, a minute would be too long. */
    struct entering brief = {.options = {.user = SLICE("anna"), .idle_ms = MINUTE, .max_ms = HOUR}};
    CHECK_INT(store_run(world.store, STORE_NOTE, open_work, &brief), 0);
    pass(&world, 20000);
    CHECK_INT(find(&world, &brief.cookie, &looking), 0);
    CHECK(looking.is_due);
    store_world_close(&world);
}
STORE_TEST(check_lifetimes)

/* --- the password that was looked at --- */

static int enter_with(struct store_world *world, const char *hash, const char *new_hash) {
    struct entering entering = {.options = {.user = SLICE("anna"),
                                            .idle_ms = HOUR,
                                            .max_ms = HOUR,
                                            .hash = slice_from_cstr(hash),
                                            .new_hash = slice_from_cstr(new_hash)}};
    return store_run(world->store, STORE_NOTE, open_work, &entering);
}

static void check_hashes(enum store_world_kind kind) {
    struct store_world world;
    store_world_open(&world, kind);
    must_user(&world, "anna", "viewer");
    do_raw(&world, "UPDATE users SET password = 'old'", NULL, NULL, NULL);
    CHECK_INT(enter_with(&world, "old", ""), 0);
    /* It was changed while the old one was being looked at. */
    CHECK_INT(enter_with(&world, "older", "older, upgraded"), ACCOUNTS_E_LOGIN);
    CHECK_INT(count_raw(&world, "SELECT COUNT(*) FROM users WHERE password = 'old'"), 1);
    CHECK_INT(enter_with(&world, "old", "new"), 0);
    CHECK_INT(count_raw(&world, "SELECT COUNT(*) FROM users WHERE password = 'new'"), 1);
    CHECK_INT(enter_with(&world, "old", ""), ACCOUNTS_E_LOGIN);
    CHECK_INT(count_raw(&world, "SELECT COUNT(*) FROM sessions"), 2);
    do_raw(&world, "UPDATE users SET is_disabled = 1", NULL, NULL, NULL);
    CHECK_INT(enter_with(&world, "new", ""), ACCOUNTS_E_LOGIN);
    store_world_close(&world);
}
STORE_TEST(check_hashes)

/* --- ending --- */

struct ending {
    struct accounts_actor actor;
    struct slice session;
    char reason[128];
};

static int end_work(struct store_tx *tx, void *context) {
    struct ending *ending = context;
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(sizeof ending->reason - 1);
    int error = accounts_end_session(tx, &ending->actor, ending->session, &reason);
    snprintf(ending->reason, sizeof ending->reason, "%.*s", SLICE_ARGS(buf_slice(&reason)));
    return error;
}

static int end(struct store_world *world, struct accounts_actor actor,
               const struct accounts_cookie *cookie) {
    struct ending ending = {.actor = actor, .session = slice_from_cstr(cookie->session)};
    int error = store_run(world->store, STORE_WRITE, end_work, &ending);
    CHECK((error != 0) == (ending.reason[0] != '\0'));
    return error;
}

static void check_ending(enum store_world_kind kind) {
    struct store_world world;
    struct seen anna, ben, root;
    store_world_open(&world, kind);
    must_user(&world, "anna", "viewer");
    must_user(&world, "ben", "operator");
    must_user(&world, "root", "administrator");
    struct accounts_actor as_anna = act_as(&world, "anna", &anna);
    struct accounts_actor as_ben = act_as(&world, "ben", &ben);
    struct accounts_actor as_root = act_as(&world, "root", &root);
    struct accounts_cookie of_anna = must_enter(&world, "anna"), again = must_enter(&world, "anna");
    CHECK_INT(end(&world, as_ben, &of_anna), ACCOUNTS_E_NONE);
    CHECK_INT(end(&world, (struct accounts_actor){0}, &of_anna), ACCOUNTS_E_NONE);
    CHECK(is_in(&world, &of_anna));
    CHECK_INT(end(&world, as_anna, &of_anna), 0);
    CHECK(!is_in(&world, &of_anna));
    CHECK(is_in(&world, &again));
    CHECK_INT(end(&world, as_anna, &of_anna), ACCOUNTS_E_NONE);
    CHECK_INT(end(&world, as_root, &again), 0);
    CHECK(!is_in(&world, &again));
    again = must_enter(&world, "anna");
    CHECK_INT(end(&world, owner, &again), 0);
    struct ending wrong = {.actor = as_root, .session = SLICE("' OR 1=1 -- aaaaaaaaaa")};
    CHECK_INT(store_run(world.store, STORE_WRITE, end_work, &wrong), ACCOUNTS_E_NONE);
    seen_deinit(&anna);
    seen_deinit(&ben);
    seen_deinit(&root);

    /* Disabled, deleted, changed. */
    of_anna = must_enter(&world, "anna");
    do_raw(&world, "UPDATE users SET is_disabled = 1 WHERE key = 'anna'", NULL, NULL, NULL);
    CHECK(!is_in(&world, &of_anna));
    do_raw(&world, "UPDATE users SET is_disabled = 0 WHERE key = 'anna'", NULL, NULL, NULL);
    CHECK(is_in(&world, &of_anna));
    struct accounts_cookie of_ben = must_enter(&world, "ben"), bens = must_enter(&world, "ben");
    struct slice roles[] = {SLICE_INIT("viewer")};
    struct ask ask = {.actor = owner, .who = SLICE("ben"), .user = no_change};
    ask.actor.session = slice_from_cstr(of_ben.session);
    ask.user.roles = roles;
    ask.user.n_roles = 1;
    CHECK_INT(run(&world, change_user, &ask), 0);
    CHECK(is_in(&world, &of_ben)); /* who asked */
    CHECK(!is_in(&world, &bens));
    CHECK(is_in(&world, &of_anna)); /* of another user */
    store_world_close(&world);
}
STORE_TEST(check_ending)

static int renew_work(struct store_tx *tx, void *context) {
    struct accounts_cookie *cookie = context;
    char old[ACCOUNTS_ID + 1];
    memcpy(old, cookie->session, sizeof old);
    return accounts_renew_session(tx, slice_from_cstr(old), cookie);
}

static void check_renewing(enum store_world_kind kind) {
    struct store_world world;
    struct looking before, after;
    store_world_open(&world, kind);
    must_user(&world, "anna", "viewer");
    struct accounts_cookie old = must_enter(&world, "anna"), cookie = old;
    pass(&world, 10 * MINUTE);
    CHECK_INT(find(&world, &old, &before), 0);
    CHECK_INT(store_run(world.store, STORE_WRITE, renew_work, &cookie), 0);
    CHECK(strcmp(old.session, cookie.session) != 0 && strcmp(old.secret, cookie.secret) != 0 &&
          strcmp(old.csrf, cookie.csrf) != 0);
    CHECK(!is_in(&world, &old));
    CHECK_INT(find(&world, &cookie, &after), 0);
    CHECK(before.ends_ms == after.ends_ms); /* it does not live longer */
    CHECK_STR(slice_from_cstr(after.csrf), cookie.csrf);
    CHECK_INT(store_run(world.store, STORE_WRITE, renew_work, &old), ACCOUNTS_E_NONE);
    store_world_close(&world);
}
STORE_TEST(check_renewing)

/* --- many --- */

static bool count_one(void *context, const struct accounts_session *session) {
    int *n = context;
    CHECK(session->csrf.len == 0);
    (*n)++;
    return true;
}

struct listing {
    const char *user;
    int n;
};

static int list_work(struct store_tx *tx, void *context) {
    struct listing *listing = context;
    listing->n = 0;
    return accounts_list_sessions(tx, slice_from_cstr(listing->user), NULL, INT32_MAX, count_one,
                                  &listing->n);
}

static int listed(struct store_world *world, const char *user) {
    struct listing listing = {user, 0};
    int error = store_run(world->store, STORE_READ, list_work, &listing);
    return error == 0 ? listing.n : -error;
}

static int sweep_work(struct store_tx *tx, void *context) {
    (void)context;
    return accounts_sweep(tx);
}

static void check_many(enum store_world_kind kind) {
    struct store_world world;
    struct accounts_cookie cookies[LIMIT_SESSIONS + 3];
    store_world_open(&world, kind);
    must_user(&world, "anna", "viewer");
    must_user(&world, "ben", "viewer");
    struct accounts_cookie of_ben = must_enter(&world, "ben");
    for (size_t i = 0; i < ARRAY_LEN(cookies); i++) {
        cookies[i] = must_enter(&world, "anna");
        pass(&world, 1000);
        CHECK_INT(listed(&world, "anna"), i < LIMIT_SESSIONS ? (int)i + 1 : (int)LIMIT_SESSIONS);
    }
    for (size_t i = 0; i < ARRAY_LEN(cookies); i++)
        CHECK_INT(is_in(&world, &cookies[i]), i >= 3);
    CHECK(is_in(&world, &of_ben));
    CHECK_INT(listed(&world, "ANNA"), LIMIT_SESSIONS);
    CHECK_INT(listed(&world, ""), LIMIT_SESSIONS + 1);
    CHECK_INT(listed(&world, "nobody"), -ACCOUNTS_E_NONE);
    CHECK_INT(listed(&world, "' OR ''='"), -ACCOUNTS_E_NONE);

    pass(&world, 50 * MINUTE);
    touch(&world, &of_ben);
    pass(&world, 20 * MINUTE);
    CHECK_INT(listed(&world, ""), 1);
    CHECK_INT(count_raw(&world, "SELECT COUNT(*) FROM sessions"), LIMIT_SESSIONS + 1);
    CHECK_INT(store_run(world.store, STORE_NOTE, sweep_work, NULL), 0);
    CHECK_INT(count_raw(&world, "SELECT COUNT(*) FROM sessions"), 1);
    CHECK(is_in(&world, &of_ben));
    do_raw(&world, "DELETE FROM users WHERE key = 'ben'", NULL, NULL, NULL);
    CHECK(!is_in(&world, &of_ben));
    store_world_close(&world);
}
STORE_TEST(check_many)

static void enter_without_memory(void *arg) {
    struct store_world *world = arg;
    struct accounts_cookie cookie = {0};
    struct looking looking;
    int error = enter(world, "anna", &cookie);
    CHECK(error != 0 || cookie.session[0] != '\0');
    CHECK(error <= 0 || error == STORE_E_GONE);
    if (error == 0)
        (void)find(world, &cookie, &looking);
}

static void test_memory(void) {
    struct store_world world;
    store_world_open(&world, STORE_WORLD_SQLITE);
    must_user(&world, "anna", "viewer");
    test_torture(enter_without_memory, &world);
    store_world_close(&world);
}

TEST_MAIN(TEST(check_login_sqlite), TEST(check_login_postgres), TEST(check_agents_sqlite),
          TEST(check_agents_postgres), TEST(check_lifetimes_sqlite), TEST(check_lifetimes_postgres),
          TEST(check_hashes_sqlite), TEST(check_hashes_postgres), TEST(check_ending_sqlite),
          TEST(check_ending_postgres), TEST(check_renewing_sqlite), TEST(check_renewing_postgres),
          TEST(check_many_sqlite), TEST(check_many_postgres), TEST(test_memory))
