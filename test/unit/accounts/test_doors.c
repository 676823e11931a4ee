/* The set-up link and edit mode: who may open what, and for how long. */
#include "base/clock.h"
#include "base/limits.h"
#include "doors.h"
#include "doors_world.h"

enum { MINUTE = 60 * 1000, HOUR = 60 * MINUTE };

/* --- what they share --- */

static void test_digests(void) {
    char digest[DOORS_DIGEST + 1], id[ACCOUNTS_ID + 1], again[ACCOUNTS_ID + 1];
    char secret[ACCOUNTS_SECRET + 1];
    doors_digest(SLICE("abc"), digest); /* FIPS 180-2, B.1 */
    CHECK_STR(slice_from_cstr(digest),
              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(doors_is_digest_of(slice_from_cstr(digest), SLICE("abc")));
    CHECK(!doors_is_digest_of(slice_from_cstr(digest), SLICE("abd")));
    CHECK(!doors_is_digest_of(slice_make(digest, DOORS_DIGEST - 1), SLICE("abc")));
    CHECK(!doors_is_digest_of(SLICE_EMPTY, SLICE("abc")));
    doors_make_id(id);
    doors_make_id(again);
    doors_make_secret(secret);
    CHECK(strcmp(id, again) != 0);
    CHECK(doors_is_base64url(slice_from_cstr(id), ACCOUNTS_ID));
    CHECK(doors_is_base64url(slice_from_cstr(secret), ACCOUNTS_SECRET));
    CHECK(!doors_is_base64url(slice_from_cstr(secret), ACCOUNTS_ID));
    CHECK(!doors_is_base64url(SLICE("a+"), 2) && !doors_is_base64url(SLICE("a="), 2));
    CHECK(!doors_is_base64url(SLICE("a\0"), 2) && doors_is_base64url(SLICE("-_"), 2));
}

static void test_names(void) {
    char key[DOORS_NAME + 1], most[DOORS_NAME + 1];
    memset(most, 'A', sizeof most);
    CHECK(doors_fold(SLICE("Anna.B@x-1_"), key));
    CHECK_STR(slice_from_cstr(key), "anna.b@x-1_");
    CHECK(doors_fold(slice_make(most, DOORS_NAME), key));
    CHECK_INT(strlen(key), DOORS_NAME);
    CHECK(!doors_fold(slice_make(most, DOORS_NAME + 1), key));
    CHECK(!doors_fold(SLICE(""), key) && !doors_fold(SLICE("a b"), key));
    CHECK(!doors_fold(SLICE("a\0"), key) && !doors_fold(SLICE("\xc3\x84"), key));
}

/* --- the set-up link --- */

struct setup {
    struct slice code;
    uint64_t lifetime_ms;
    struct accounts_user_change user;
    char made[ACCOUNTS_SECRET + 1], id[ACCOUNTS_ID + 1], reason[256];
};

static int make_work(struct store_tx *tx, void *context) {
    struct setup *setup = context;
    return accounts_make_setup(tx, setup->lifetime_ms, setup->made);
}

static int use_work(struct store_tx *tx, void *context) {
    struct setup *setup = context;
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(sizeof setup->reason - 1);
    int error = accounts_use_setup(tx, setup->code, &setup->user, setup->id, &reason);
    snprintf(setup->reason, sizeof setup->reason, "%.*s", SLICE_ARGS(buf_slice(&reason)));
    return error;
}

static int make(struct store_world *world, char code[ACCOUNTS_SECRET + 1]) {
    struct setup setup = {.lifetime_ms = 30 * MINUTE};
    int error = store_run(world->store, STORE_WRITE, make_work, &setup);
    memcpy(code, setup.made, sizeof setup.made);
    return error;
}

static int use(struct store_world *world, struct slice code, const char *name, const char *hash) {
    struct slice roles[] = {SLICE_INIT("viewer")};
    struct setup setup = {.code = code, .user = no_change};
    setup.user.name = slice_from_cstr(name);
    setup.user.password_hash = slice_from_cstr(hash);
    setup.user.is_disabled = 1;
    setup.user.roles = roles;
    setup.user.n_roles = 1;
    int error = store_run(world->store, STORE_WRITE, use_work, &setup);
    CHECK((error == 0) == (setup.reason[0] == '\0'));
    return error;
}

static void check_setup(enum store_world_kind kind) {
    struct store_world world;
    char old[ACCOUNTS_SECRET + 1], code[ACCOUNTS_SECRET + 1], none[ACCOUNTS_SECRET + 1];
    struct seen seen;
    store_world_open(&world, kind);
    CHECK_INT(use(&world, SLICE(""), "root", A_HASH), ACCOUNTS_E_LOGIN); /* there is no code */
    CHECK_INT(make(&world, old), 0);
    CHECK_INT(make(&world, code), 0);
    CHECK(strlen(code) == ACCOUNTS_SECRET && strcmp(old, code) != 0);
    struct raw raw = {.sql = "SELECT COUNT(*) FROM setup WHERE digest = $1",
                      .values = {store_text(slice_from_cstr(code))},
                      .n = 1};
    CHECK_INT(store_run(world.store, STORE_READ, raw_count_work, &raw), 0);
    CHECK_INT(raw.number, 0);
    CHECK_INT(use(&world, slice_from_cstr(old), "root", A_HASH), ACCOUNTS_E_LOGIN);
    CHECK_INT(use(&world, SLICE(""), "root", A_HASH), ACCOUNTS_E_LOGIN);
    CHECK_INT(use(&world, SLICE("\0\xff"), "root", A_HASH), ACCOUNTS_E_LOGIN);
    CHECK_INT(use(&world, slice_make(code, ACCOUNTS_SECRET - 1), "root", A_HASH), ACCOUNTS_E_LOGIN);
    /* What was refused has not used up the code. */
    CHECK_INT(use(&world, slice_from_cstr(code), "not a name!", A_HASH), ACCOUNTS_E_WRONG);
    CHECK_INT(use(&world, slice_from_cstr(code), "root", ""), ACCOUNTS_E_WRONG);
    CHECK_INT(count_raw(&world, "SELECT COUNT(*) FROM users"), 0);
    pass(&world, 29 * MINUTE);
    CHECK_INT(use(&world, slice_from_cstr(code), "root", A_HASH), 0);
    CHECK_INT(look(&world, "root", &seen), 0);
    CHECK_STR(slice_from_cstr(seen.roles), "administrator"); /* whatever was asked for */
    CHECK(!seen.is_disabled && !seen.must_change && seen.has_password);
    CHECK_INT(use(&world, slice_from_cstr(code), "root2", A_HASH), ACCOUNTS_E_LOGIN);
    CHECK_INT(make(&world, none), ACCOUNTS_E_EXISTS);
    CHECK_INT(count_raw(&world, "SELECT COUNT(*) FROM setup"), 0);
    store_world_close(&world);
}
STORE_TEST(check_setup)

static void check_setup_end(enum store_world_kind kind) {
    struct store_world world;
    char code[ACCOUNTS_SECRET + 1];
    store_world_open(&world, kind);
    CHECK_INT(make(&world, code), 0);
    pass(&world, 30 * MINUTE);
    CHECK_INT(use(&world, slice_from_cstr(code), "root", A_HASH), ACCOUNTS_E_LOGIN);
    /* Somebody came by another way: the link is none any more. */
    CHECK_INT(make(&world, code), 0);
    must_user(&world, "anna", "administrator");
    CHECK_INT(use(&world, slice_from_cstr(code), "root", A_HASH), ACCOUNTS_E_LOGIN);
    CHECK_INT(count_raw(&world, "SELECT COUNT(*) FROM users"), 1);
    store_world_close(&world);
}
STORE_TEST(check_setup_end)

/* --- edit mode --- */

struct editing {
    struct accounts_actor actor;
    enum accounts_scope scope;
    struct slice name, why;
    uint64_t for_ms, closed;
    char reason[256], listed[1024];
};

static int open_work(struct store_tx *tx, void *context) {
    struct editing *editing = context;
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(sizeof editing->reason - 1);
    int error = accounts_open_edit(tx, &editing->actor, editing->scope, editing->name,
                                   editing->for_ms, editing->why, &reason);
    snprintf(editing->reason, sizeof editing->reason, "%.*s", SLICE_ARGS(buf_slice(&reason)));
    return error;
}

static int close_work(struct store_tx *tx, void *context) {
    struct editing *editing = context;
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(sizeof editing->reason - 1);
    int error = accounts_close_edit(tx, &editing->actor, editing->scope, editing->name,
                                    &editing->closed, &reason);
    snprintf(editing->reason, sizeof editing->reason, "%.*s", SLICE_ARGS(buf_slice(&reason)));
    return error;
}

static bool list_one(void *context, const struct accounts_edit *edit) {
    struct editing *editing = context;
    size_t len = strlen(editing->listed);
    snprintf(editing->listed + len, sizeof editing->listed - len,
             "%.*s:%.*s %llu min, %.*s, by %.*s; ", SLICE_ARGS(accounts_scope_name(edit->scope)),
             SLICE_ARGS(edit->name),
             (unsigned long long)((edit->until_ms - edit->opened_ms) / MINUTE),
             SLICE_ARGS(edit->reason), SLICE_ARGS(edit->by));
    return true;
}

static int list_work(struct store_tx *tx, void *context) {
    struct editing *editing = context;
    editing->listed[0] = '\0';
    return accounts_list_edits(tx, list_one, editing);
}

static void check_listed(struct store_world *world, const char *expected) {
    struct editing editing = {0};
    CHECK_INT(store_run(world->store, STORE_READ, list_work, &editing), 0);
    CHECK_STR(slice_from_cstr(editing.listed), expected);
}

static int open_edit(struct store_world *world, struct accounts_actor actor,
                     enum accounts_scope scope, const char *name, uint64_t for_ms) {
    struct editing editing = {.actor = actor,
                              .scope = scope,
                              .name = slice_from_cstr(name),
                              .for_ms = for_ms,
                              .why = SLICE("mending")};
    int error = store_run(world->store, STORE_WRITE, open_work, &editing);
    CHECK((error == 0) == (editing.reason[0] == '\0'));
    return error;
}

/* How many; what went wrong as a negative number. */
static int close_edit(struct store_world *world, struct accounts_actor actor,
                      enum accounts_scope scope, const char *name) {
    struct editing editing = {.actor = actor, .scope = scope, .name = slice_from_cstr(name)};
    int error = store_run(world->store, STORE_WRITE, close_work, &editing);
    CHECK((error == 0) == (editing.reason[0] == '\0'));
    return error == 0 ? (int)editing.closed : -error;
}

static void check_bounds(enum store_world_kind kind) {
    static char most[LIMIT_EDIT_REASON + 1], name[258];
    memset(most, 'x', sizeof most);
    memset(name, 'n', sizeof name);
    const struct {
        const char *row;
        enum accounts_scope scope;
        struct slice name, why;
        uint64_t for_ms;
        int error;
    } rows[] = {
        {"a minute", ACCOUNTS_EDIT_ALL, SLICE_INIT(""), SLICE_INIT("a"), MINUTE, 0},
        {"a day", ACCOUNTS_EDIT_ALL, SLICE_INIT(""), SLICE_INIT("a"), 24 * HOUR, 0},
        {"less", ACCOUNTS_EDIT_ALL, SLICE_INIT(""), SLICE_INIT("a"), MINUTE - 1, ACCOUNTS_E_WRONG},
        {"nothing", ACCOUNTS_EDIT_ALL, SLICE_INIT(""), SLICE_INIT("a"), 0, ACCOUNTS_E_WRONG},
        {"more", ACCOUNTS_EDIT_ALL, SLICE_INIT(""), SLICE_INIT("a"), 24 * HOUR + 1,
         ACCOUNTS_E_WRONG},
        {"for ever", ACCOUNTS_EDIT_ALL, SLICE_INIT(""), SLICE_INIT("a"), UINT64_MAX,
         ACCOUNTS_E_WRONG},
        {"no reason", ACCOUNTS_EDIT_ALL, SLICE_INIT(""), SLICE_INIT(""), MINUTE, ACCOUNTS_E_WRONG},
        {"a blank", ACCOUNTS_EDIT_ALL, SLICE_INIT(""), SLICE_INIT(" \t "), MINUTE,
         ACCOUNTS_E_WRONG},
        {"the longest", ACCOUNTS_EDIT_ALL, SLICE_INIT(""), {most, LIMIT_EDIT_REASON}, MINUTE, 0},
        {"too long",
         ACCOUNTS_EDIT_ALL,
         SLICE_INIT(""),
         {most, sizeof most},
         MINUTE,
         ACCOUNTS_E_WRONG},
        {"NUL", ACCOUNTS_EDIT_ALL, SLICE_INIT(""), SLICE_INIT("a\0b"), MINUTE, ACCOUNTS_E_WRONG},
        {"no UTF-8", ACCOUNTS_EDIT_ALL, SLICE_INIT(""), SLICE_INIT("\xff"), MINUTE,
         ACCOUNTS_E_WRONG},
        {"a name for all", ACCOUNTS_EDIT_ALL, SLICE_INIT("db"), SLICE_INIT("a"), MINUTE,
         ACCOUNTS_E_WRONG},
        {"no upstream", ACCOUNTS_EDIT_UPSTREAM, SLICE_INIT(""), SLICE_INIT("a"), MINUTE,
         ACCOUNTS_E_WRONG},
        {"the longest name", ACCOUNTS_EDIT_UPSTREAM, {name, 256}, SLICE_INIT("a"), MINUTE, 0},
        {"a longer one",
         ACCOUNTS_EDIT_UPSTREAM,
         {name, 257},
         SLICE_INIT("a"),
         MINUTE,
         ACCOUNTS_E_WRONG},
        {"NUL in the name", ACCOUNTS_EDIT_UPSTREAM, SLICE_INIT("a\0"), SLICE_INIT("a"), MINUTE,
         ACCOUNTS_E_WRONG},
        {"no role", ACCOUNTS_EDIT_ROLE, SLICE_INIT(""), SLICE_INIT("a"), MINUTE, ACCOUNTS_E_NONE},
        {"an unknown role", ACCOUNTS_EDIT_ROLE, SLICE_INIT("dba"), SLICE_INIT("a"), MINUTE,
         ACCOUNTS_E_NONE},
        {"a quote", ACCOUNTS_EDIT_ROLE, SLICE_INIT("'--"), SLICE_INIT("a"), MINUTE,
         ACCOUNTS_E_NONE},
        {"no text", ACCOUNTS_EDIT_ROLE, SLICE_INIT("\xff"), SLICE_INIT("a"), MINUTE,
         ACCOUNTS_E_NONE},
        {"a role", ACCOUNTS_EDIT_ROLE, SLICE_INIT("Viewer"), SLICE_INIT("a"), MINUTE, 0},
        {"its id", ACCOUNTS_EDIT_ROLE, SLICE_INIT("viewer0000000000000000"), SLICE_INIT("a"),
         MINUTE, 0},
    };
    struct store_world world;
    store_world_open(&world, kind);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct editing editing = {.actor = owner,
                                  .scope = rows[i].scope,
                                  .name = rows[i].name,
                                  .why = rows[i].why,
                                  .for_ms = rows[i].for_ms};
        test_row(rows[i].row);
        CHECK_INT(store_run(world.store, STORE_WRITE, open_work, &editing), rows[i].error);
        CHECK((rows[i].error == 0) == (editing.reason[0] == '\0'));
    }
    CHECK_INT(count_raw(&world, "SELECT COUNT(*) FROM edit_windows"), 3);
    store_world_close(&world);
}
STORE_TEST(check_bounds)

static void check_permission(enum store_world_kind kind) {
    struct store_world world;
    struct seen root, anna, word;
    store_world_open(&world, kind);
    must_user(&world, "root", "administrator");
    must_user(&world, "anna", "operator");
    must_user(&world, "Command", "administrator");
    struct accounts_actor as_root = act_as(&world, "root", &root);
    struct accounts_actor as_word = act_as(&world, "Command", &word);
    struct accounts_actor as_anna = act_as(&world, "anna", &anna);
    const struct accounts_actor nobody = {0};
    CHECK_INT(open_edit(&world, as_anna, ACCOUNTS_EDIT_ALL, "", MINUTE), ACCOUNTS_E_DENIED);
    CHECK_INT(open_edit(&world, as_anna, ACCOUNTS_EDIT_ROLE, "operator", MINUTE),
              ACCOUNTS_E_DENIED);
    CHECK_INT(open_edit(&world, as_anna, ACCOUNTS_EDIT_UPSTREAM, "db", MINUTE), ACCOUNTS_E_DENIED);
    CHECK_INT(open_edit(&world, nobody, ACCOUNTS_EDIT_ALL, "", MINUTE), ACCOUNTS_E_DENIED);
    check_listed(&world, "");
    CHECK_INT(open_edit(&world, as_root, ACCOUNTS_EDIT_ALL, "", MINUTE), 0);
    check_listed(&world, "all: 1 min, mending, by root; ");
    CHECK_INT(close_edit(&world, as_anna, ACCOUNTS_EDIT_ALL, ""), -ACCOUNTS_E_DENIED);
    CHECK_INT(close_edit(&world, nobody, ACCOUNTS_EDIT_ALL, ""), -ACCOUNTS_E_DENIED);
    check_listed(&world, "all: 1 min, mending, by root; ");
    CHECK_INT(close_edit(&world, as_root, ACCOUNTS_EDIT_ALL, ""), 1);
    CHECK_INT(close_edit(&world, as_root, ACCOUNTS_EDIT_ALL, ""), 0);
    check_listed(&world, "");
    /* Who is called like the command is not taken for it. */
    CHECK_INT(open_edit(&world, as_word, ACCOUNTS_EDIT_ALL, "", MINUTE), 0);
    check_listed(&world, "all: 1 min, mending, by user:Command; ");
    seen_deinit(&word);
    seen_deinit(&root);
    seen_deinit(&anna);
    store_world_close(&world);
}
STORE_TEST(check_permission)

static void check_edits(enum store_world_kind kind) {
    struct store_world world;
    store_world_open(&world, kind);
    CHECK_INT(open_edit(&world, owner, ACCOUNTS_EDIT_ALL, "", 5 * MINUTE), 0);
    CHECK_INT(open_edit(&world, owner, ACCOUNTS_EDIT_ALL, "", 7 * MINUTE), 0); /* in its place */
    CHECK_INT(open_edit(&world, owner, ACCOUNTS_EDIT_ROLE, "VIEWER", 8 * MINUTE), 0);
    CHECK_INT(open_edit(&world, owner, ACCOUNTS_EDIT_UPSTREAM, "db", 9 * MINUTE), 0);
    pass(&world, 1000);
    CHECK_INT(open_edit(&world, owner, ACCOUNTS_EDIT_UPSTREAM, "DB", 10 * MINUTE), 0);
    check_listed(&world, "all: 7 min, mending, by command; role:viewer 8 min, mending, by command; "
                         "upstream:db 9 min, mending, by command; "
                         "upstream:DB 10 min, mending, by command; ");
    CHECK_INT(close_edit(&world, owner, ACCOUNTS_EDIT_UPSTREAM, "web"), 0);
    CHECK_INT(close_edit(&world, owner, ACCOUNTS_EDIT_UPSTREAM, "DB"), 1);
    CHECK_INT(close_edit(&world, owner, ACCOUNTS_EDIT_ROLE, "dba"), -ACCOUNTS_E_NONE);
    CHECK_INT(open_edit(&world, owner, ACCOUNTS_EDIT_ROLE, "operator", 8 * MINUTE), 0);
    CHECK_INT(close_edit(&world, owner, ACCOUNTS_EDIT_ROLE, ""), 2);
    pass(&world, 7 * MINUTE);
    check_listed(&world, "upstream:db 9 min, mending, by command; ");
    CHECK_INT(close_edit(&world, owner, ACCOUNTS_EDIT_ALL, ""), 0); /* it is over */
    pass(&world, 2 * MINUTE);
    check_listed(&world, "");
    store_world_close(&world);
}
STORE_TEST(check_edits)

static void check_crowd(enum store_world_kind kind) {
    struct store_world world;
    store_world_open(&world, kind);
    for (unsigned i = 0; i < LIMIT_EDIT_WINDOWS; i++) {
        char name[16];
        snprintf(name, sizeof name, "u%u", i);
        CHECK_INT(open_edit(&world, owner, ACCOUNTS_EDIT_UPSTREAM, name, MINUTE), 0);
    }
    CHECK_INT(open_edit(&world, owner, ACCOUNTS_EDIT_ALL, "", MINUTE), ACCOUNTS_E_DENIED);
    CHECK_INT(open_edit(&world, owner, ACCOUNTS_EDIT_UPSTREAM, "u0", HOUR), 0); /* in its place */
    pass(&world, MINUTE);
    CHECK_INT(open_edit(&world, owner, ACCOUNTS_EDIT_ALL, "", MINUTE), 0);
    CHECK_INT(count_raw(&world, "SELECT COUNT(*) FROM edit_windows"), 2);
    store_world_close(&world);
}
STORE_TEST(check_crowd)

TEST_MAIN(TEST(test_digests), TEST(test_names), TEST(check_setup_sqlite),
          TEST(check_setup_postgres), TEST(check_setup_end_sqlite), TEST(check_setup_end_postgres),
          TEST(check_bounds_sqlite), TEST(check_bounds_postgres), TEST(check_permission_sqlite),
          TEST(check_permission_postgres), TEST(check_edits_sqlite), TEST(check_edits_postgres),
          TEST(check_crowd_sqlite), TEST(check_crowd_postgres))
