/* Users: who may change whom, what a name is, and that an administrator stays. In both databases.
 * Titles name the defects of the dashboard that a test is about. */
#include <pthread.h>

#include "people_world.h"

/* --- names --- */

static const struct name_row {
    struct slice name;
    int result;
} name_rows[] = {
    {SLICE_INIT("anna"), 0},
    {SLICE_INIT("4nna_b-c.d@example.com"), 0},
    {SLICE_INIT("ANNA"), ACCOUNTS_E_EXISTS},
    {SLICE_INIT("aNNa"), ACCOUNTS_E_EXISTS},
    {SLICE_INIT("n123456789012345678901234567890123456789012345678901234567890123"), 0},
    {SLICE_INIT("n1234567890123456789012345678901234567890123456789012345678901234"),
     ACCOUNTS_E_WRONG},
    {SLICE_INIT(""), ACCOUNTS_E_WRONG},
    {SLICE_INIT(" anna"), ACCOUNTS_E_WRONG},
    {SLICE_INIT("anna "), ACCOUNTS_E_WRONG},
    {SLICE_INIT("-rf"), ACCOUNTS_E_WRONG},
    {SLICE_INIT(".hidden"), ACCOUNTS_E_WRONG},
    {SLICE_INIT("@home"), ACCOUNTS_E_WRONG},
    {SLICE_INIT("anna\0b"), ACCOUNTS_E_WRONG},
    {SLICE_INIT("anna\n"), ACCOUNTS_E_WRONG},
    {SLICE_INIT("ann\xd0\xb0"), ACCOUNTS_E_WRONG}, /* a Cyrillic a */
    {SLICE_INIT("\xe2\x84\xaa"
                "arl"),
     ACCOUNTS_E_WRONG},                                 /* the sign of kelvin */
    {SLICE_INIT("\xef\xbd\x81nna"), ACCOUNTS_E_WRONG},  /* a wide a */
    {SLICE_INIT("an\xe2\x80\x8bna"), ACCOUNTS_E_WRONG}, /* a space without width */
    {SLICE_INIT("anna\xff"), ACCOUNTS_E_WRONG},
    {SLICE_INIT("x'; DROP TABLE users; --"), ACCOUNTS_E_WRONG},
    {SLICE_INIT("x\" OR \"\"=\""), ACCOUNTS_E_WRONG},
    {SLICE_INIT("../../etc"), ACCOUNTS_E_WRONG},
    {SLICE_INIT("<b>anna</b>"), ACCOUNTS_E_WRONG},
    {SLICE_INIT("=1+1"), ACCOUNTS_E_WRONG},
};

static void test_names(enum store_world_kind kind) {
    struct store_world world;
    store_world_open(&world, kind);
    for (size_t i = 0; i < ARRAY_LEN(name_rows); i++) {
        struct ask ask = {.actor = owner, .user = no_change};
        ask.user.name = name_rows[i].name;
        test_row(name_rows[i].name.ptr);
        CHECK_INT(run(&world, add_user, &ask), name_rows[i].result);
    }
    test_row("");
    struct seen seen;
    CHECK_INT(look(&world, "aNnA", &seen), 0);
    CHECK_STR(slice_from_cstr(seen.name), "anna");
    CHECK_INT(look(&world, "x'; DROP TABLE users; --", &seen), ACCOUNTS_E_NONE);
    CHECK_INT(look(&world, "' OR '1'='1", &seen), ACCOUNTS_E_NONE);
    CHECK_INT(look(&world, "%", &seen), ACCOUNTS_E_NONE);
    CHECK_INT(look(&world, "", &seen), ACCOUNTS_E_NONE);
    store_world_close(&world);
}
STORE_TEST(test_names)

/* Whoever took the id of another one as a name would be taken for them. */
static void test_name_is_nobodys_id(enum store_world_kind kind) {
    struct store_world world;
    struct seen anna, other;
    store_world_open(&world, kind);
    must_user(&world, "anna", "administrator");
    REQUIRE(look(&world, "anna", &anna) == 0);
    /* An id may begin with what a name may not: the first one that is a name, too. */
    for (int i = 0; i < 100 && (anna.id[0] == '-' || anna.id[0] == '_'); i++) {
        char name[16];
        snprintf(name, sizeof name, "anna%d", i);
        must_user(&world, name, "administrator");
        REQUIRE(look(&world, name, &anna) == 0);
    }
    CHECK_INT(try_user(&world, owner, anna.id, "viewer", NULL), ACCOUNTS_E_EXISTS);
    must_user(&world, "eve", "viewer");
    struct ask ask = {.actor = owner, .who = SLICE("eve"), .user = no_change};
    ask.user.name = slice_from_cstr(anna.id);
    CHECK_INT(run(&world, change_user, &ask), ACCOUNTS_E_EXISTS);
    CHECK_INT(look(&world, anna.id, &other), 0);
    CHECK_STR(slice_from_cstr(other.name), anna.name);
    store_world_close(&world);
}
STORE_TEST(test_name_is_nobodys_id)

static const struct value_row {
    const char *what;
    struct accounts_user_change change;
    int result;
} value_rows[] = {
    {"nothing", {.is_disabled = -1, .must_change = -1}, 0},
    {"display name", {.display_name = SLICE_INIT("\xc3\x89lise O'Hara")}, 0},
    {"email", {.email = SLICE_INIT("anna@example.com")}, 0},
    {"no email", {.email = SLICE_INIT("")}, 0},
    {"hash", {.password_hash = SLICE_INIT(A_HASH)}, 0},
    {"control", {.display_name = SLICE_INIT("Anna\x1b[31m")}, ACCOUNTS_E_WRONG},
    {"line", {.display_name = SLICE_INIT("Anna\nBerta")}, ACCOUNTS_E_WRONG},
    {"turned around",
     {.display_name = SLICE_INIT("Anna\xe2\x80\xae"
                                 "atreB")},
     ACCOUNTS_E_WRONG},
    {"no UTF-8", {.display_name = SLICE_INIT("Anna\xc3")}, ACCOUNTS_E_WRONG},
    {"NUL", {.display_name = SLICE_INIT("Anna\0B")}, ACCOUNTS_E_WRONG},
    {"two addresses", {.email = SLICE_INIT("a@b.example,c@d.example")}, ACCOUNTS_E_WRONG},
    {"header", {.email = SLICE_INIT("a@b.example\r\nBcc: x@y.example")}, ACCOUNTS_E_WRONG},
    {"no address", {.email = SLICE_INIT("anna")}, ACCOUNTS_E_WRONG},
    {"clear password", {.password_hash = SLICE_INIT("two owls")}, ACCOUNTS_E_WRONG},
    {"costly hash",
     {.password_hash = SLICE_INIT("$argon2id$v=19$m=4294967295,t=9,p=1$AAAAAAAAAAA$AAAA")},
     ACCOUNTS_E_WRONG},
};

static void test_values(enum store_world_kind kind) {
    struct store_world world;
    store_world_open(&world, kind);
    must_user(&world, "anna", "viewer");
    for (size_t i = 0; i < ARRAY_LEN(value_rows); i++) {
        struct ask ask = {.actor = owner, .who = SLICE("anna"), .user = value_rows[i].change};
        test_row(value_rows[i].what);
        CHECK_INT(run(&world, change_user, &ask), value_rows[i].result);
    }
    char longer[LIMIT_DISPLAY_NAME + 2];
    memset(longer, 'x', sizeof longer);
    struct ask ask = {.actor = owner, .who = SLICE("anna"), .user = no_change};
    ask.user.display_name = slice_make(longer, LIMIT_DISPLAY_NAME);
    CHECK_INT(run(&world, change_user, &ask), 0);
    ask.user.display_name = slice_make(longer, LIMIT_DISPLAY_NAME + 1);
    CHECK_INT(run(&world, change_user, &ask), ACCOUNTS_E_WRONG);
    store_world_close(&world);
}
STORE_TEST(test_values)

/* --- who may what --- */

/* Looks after people, and has of operations only to read. */
#define CLERK                                                                                      \
    "{\"permissions\":[\"users.read\",\"users.write\",\"tokens.own\"],"                            \
    "\"operations\":[{\"upstream\":\"db\",\"operation\":\"*\",\"access\":\"read\"}]}"
#define READER                                                                                     \
    "{\"operations\":[{\"upstream\":\"db\",\"operation\":\"get_*\",\"access\":\"read\"}]}"

static void add_people(struct store_world *world) {
    CHECK_INT(try_role(world, owner, "clerk", CLERK), 0);
    CHECK_INT(try_role(world, owner, "reader", READER), 0);
    must_user(world, "root", "administrator");
    must_user(world, "root2", "administrator");
    must_user(world, "carl", "clerk");
    must_user(world, "carla", "clerk");
    must_user(world, "rita", "reader");
    must_user(world, "vera", "viewer");
}

enum deed { RENAME, DISPLAY, PASSWORD, DISABLE, ENABLE, ROLES, NO_ROLES, DELETE, FORCE };

static const struct deed_row {
    const char *actor;
    enum deed deed;
    const char *who, *role;
    int result;
} deed_rows[] = {
    /* Defect 4: nobody gives themselves more. */
    {"vera", ROLES, "vera", "administrator", ACCOUNTS_E_DENIED},
    {"rita", ROLES, "rita", "viewer", ACCOUNTS_E_DENIED},
    {"carl", ROLES, "carl", "administrator", ACCOUNTS_E_DENIED},
    {"carl", ROLES, "carl", "operator", ACCOUNTS_E_DENIED},
    {"carl", ROLES, "carl", "viewer", ACCOUNTS_E_DENIED},
    /* ... nor others. */
    {"carl", ROLES, "rita", "administrator", ACCOUNTS_E_DENIED},
    {"carl", ROLES, "rita", "viewer", ACCOUNTS_E_DENIED},
    {"carl", ROLES, "rita", "clerk", 0},
    {"carl", ROLES, "rita", "reader", 0},
    {"carl", ROLES, "rita", "nothing-like-that", ACCOUNTS_E_WRONG},
    /* Whoever could do these would become the other one. */
    {"carl", PASSWORD, "root", NULL, ACCOUNTS_E_DENIED},
    {"carl", RENAME, "root", NULL, ACCOUNTS_E_DENIED},
    {"carl", DISPLAY, "root", NULL, ACCOUNTS_E_DENIED},
    {"carl", FORCE, "root", NULL, ACCOUNTS_E_DENIED},
    {"carl", DISABLE, "root", NULL, ACCOUNTS_E_DENIED},
    {"carl", NO_ROLES, "root", NULL, ACCOUNTS_E_DENIED},
    {"carl", ROLES, "root", "clerk", ACCOUNTS_E_DENIED},
    {"carl", DELETE, "root", NULL, ACCOUNTS_E_DENIED},
    {"carl", PASSWORD, "vera", NULL, ACCOUNTS_E_DENIED},
    {"carl", PASSWORD, "carla", NULL, 0},
    {"carl", PASSWORD, "rita", NULL, 0},
    {"carl", RENAME, "rita", NULL, 0},
    {"carl", DISABLE, "rita", NULL, 0},
    {"carl", ENABLE, "rita", NULL, 0},
    {"carl", DELETE, "rita", NULL, 0},
    /* What is one's own. */
    {"vera", DISPLAY, "vera", NULL, 0},
    {"vera", PASSWORD, "vera", NULL, 0},
    {"vera", RENAME, "vera", NULL, ACCOUNTS_E_DENIED},
    {"vera", DISABLE, "vera", NULL, ACCOUNTS_E_DENIED},
    {"vera", NO_ROLES, "vera", NULL, ACCOUNTS_E_DENIED},
    {"vera", FORCE, "vera", NULL, ACCOUNTS_E_DENIED},
    {"vera", DELETE, "vera", NULL, ACCOUNTS_E_DENIED},
    {"vera", DISPLAY, "rita", NULL, ACCOUNTS_E_DENIED},
    {"vera", PASSWORD, "rita", NULL, ACCOUNTS_E_DENIED},
    {"vera", DELETE, "rita", NULL, ACCOUNTS_E_DENIED},
    /* Those who have all of it. */
    {"root", ROLES, "vera", "administrator", 0},
    {"root", PASSWORD, "root2", NULL, 0},
    {"root", DELETE, "root2", NULL, 0},
    {"root", DISABLE, "nobody-like-that", NULL, ACCOUNTS_E_NONE},
    {"root", DELETE, "nobody-like-that", NULL, ACCOUNTS_E_NONE},
};

static int do_deed(struct store_world *world, struct accounts_actor actor,
                   const struct deed_row *row) {
    struct slice roles[] = {slice_from_cstr(row->role)};
    struct ask ask = {.actor = actor, .who = slice_from_cstr(row->who), .user = no_change};
    switch (row->deed) {
    case RENAME:
        ask.user.name = SLICE("renamed");
        break;
    case DISPLAY:
        ask.user.display_name = SLICE("Somebody");
        break;
    case PASSWORD:
        ask.user.password_hash = SLICE(A_HASH);
        break;
    case DISABLE:
        ask.user.is_disabled = 1;
        break;
    case ENABLE:
        ask.user.is_disabled = 0;
        break;
    case ROLES:
        ask.user.roles = roles;
        ask.user.n_roles = 1;
        break;
    case NO_ROLES:
        ask.user.roles = roles;
        break;
    case FORCE:
        ask.user.must_change = 0;
        break;
    case DELETE:
        return run(world, delete_user, &ask);
    }
    return run(world, change_user, &ask);
}

static void test_defect_4_nobody_raises_rights(enum store_world_kind kind) {
    struct store_world world;
    store_world_open(&world, kind);
    add_people(&world);
    /* Each row undoes nothing that a later one needs: those that work stand behind. */
    for (size_t i = 0; i < ARRAY_LEN(deed_rows); i++) {
        char title[128];
        struct seen memory, before, after;
        snprintf(title, sizeof title, "%zu: %s to %s", i, deed_rows[i].actor, deed_rows[i].who);
        test_row(title);
        struct slice who = slice_from_cstr(deed_rows[i].who);
        struct deed_row row = deed_rows[i];
        if (slice_eq(who, SLICE("rita")) && look(&world, "rita", &before) != 0 &&
            look(&world, "renamed", &before) == 0)
            row.who = "renamed";
        if (slice_eq(who, SLICE("rita")) && look(&world, row.who, &before) != 0)
            must_user(&world, "rita", "reader");
        int there = look(&world, row.who, &before);
        struct accounts_actor actor = act_as(&world, row.actor, &memory);
        CHECK_INT(do_deed(&world, actor, &row), row.result);
        if (row.result != 0 && there == 0) {
            CHECK_INT(look(&world, row.who, &after), 0);
            CHECK_INT(after.version, before.version);
            CHECK_STR(slice_from_cstr(after.roles), before.roles);
        }
        seen_deinit(&memory);
    }
    test_row("");
    store_world_close(&world);
}
STORE_TEST(test_defect_4_nobody_raises_rights)

static void test_adding(enum store_world_kind kind) {
    struct store_world world;
    struct seen memory;
    store_world_open(&world, kind);
    add_people(&world);
    struct accounts_actor carl = act_as(&world, "carl", &memory);
    CHECK_INT(try_user(&world, carl, "new1", "administrator", NULL), ACCOUNTS_E_DENIED);
    CHECK_INT(try_user(&world, carl, "new1", "viewer", NULL), ACCOUNTS_E_DENIED);
    CHECK_INT(try_user(&world, carl, "new1", "reader", NULL), 0);
    CHECK_INT(try_user(&world, carl, "new2", NULL, NULL), 0);
    CHECK_INT(try_user(&world, carl, "new3", "what", NULL), ACCOUNTS_E_WRONG);
    seen_deinit(&memory);
    struct accounts_actor vera = act_as(&world, "vera", &memory);
    CHECK_INT(try_user(&world, vera, "new4", NULL, NULL), ACCOUNTS_E_DENIED);
    seen_deinit(&memory);
    CHECK_INT(look(&world, "new3", &memory), ACCOUNTS_E_NONE);
    CHECK_INT(look(&world, "new4", &memory), ACCOUNTS_E_NONE);
    store_world_close(&world);
}
STORE_TEST(test_adding)

/* The request came with rights that are no more: of a token, or of a moment ago. */
static void test_rights_of_a_moment_ago(enum store_world_kind kind) {
    struct store_world world;
    struct seen root, carl;
    store_world_open(&world, kind);
    add_people(&world);
    struct accounts_actor was_root = act_as(&world, "root", &root);
    struct accounts_actor as_clerk = act_as(&world, "carl", &carl);
    struct accounts_actor limited = {.user = was_root.user, .rights = as_clerk.rights};
    const struct deed_row deed = {.deed = PASSWORD, .who = "root2"};
    const struct deed_row own = {.deed = PASSWORD, .who = "root"};
    /* A token of an administrator that has little does not become the administrator. */
    CHECK_INT(do_deed(&world, limited, &deed), ACCOUNTS_E_DENIED);
    CHECK_INT(do_deed(&world, limited, &own), ACCOUNTS_E_DENIED);
    CHECK_INT(do_deed(&world, was_root, &deed), 0);
    const struct deed_row demote = {.deed = ROLES, .who = "root", .role = "clerk"};
    CHECK_INT(do_deed(&world, owner, &demote), 0);
    CHECK_INT(do_deed(&world, was_root, &deed), ACCOUNTS_E_DENIED);
    const struct deed_row promote = {.deed = ROLES, .who = "root", .role = "administrator"};
    CHECK_INT(do_deed(&world, was_root, &promote), ACCOUNTS_E_DENIED);
    CHECK_INT(do_deed(&world, owner, &promote), 0);
    const struct deed_row weaken = {.deed = ROLES, .who = "root", .role = "viewer"};
    CHECK_INT(do_deed(&world, owner, &weaken), 0);
    CHECK_INT(try_user(&world, was_root, "friend", NULL, NULL), ACCOUNTS_E_DENIED);
    CHECK_INT(do_deed(&world, owner, &promote), 0);
    const struct deed_row disable = {.deed = DISABLE, .who = "root"};
    CHECK_INT(do_deed(&world, owner, &disable), 0);
    CHECK_INT(do_deed(&world, was_root, &deed), ACCOUNTS_E_DENIED);
    const struct deed_row delete = {.deed = DELETE, .who = "root"};
    CHECK_INT(do_deed(&world, owner, &delete), 0);
    CHECK_INT(do_deed(&world, was_root, &deed), ACCOUNTS_E_DENIED);
    /* Whom nobody let in. */
    const struct accounts_actor nobody = {.rights = was_root.rights};
    CHECK_INT(do_deed(&world, nobody, &deed), ACCOUNTS_E_DENIED);
    const struct accounts_actor none = {.user = SLICE("root2")};
    CHECK_INT(do_deed(&world, none, &deed), ACCOUNTS_E_DENIED);
    seen_deinit(&root);
    seen_deinit(&carl);
    store_world_close(&world);
}
STORE_TEST(test_rights_of_a_moment_ago)

static void test_version(enum store_world_kind kind) {
    struct store_world world;
    struct seen seen;
    store_world_open(&world, kind);
    must_user(&world, "anna", "viewer");
    REQUIRE(look(&world, "anna", &seen) == 0);
    struct ask ask = {.actor = owner, .who = SLICE("anna"), .user = no_change};
    ask.user.display_name = SLICE("one");
    ask.user.version = seen.version;
    CHECK_INT(run(&world, change_user, &ask), 0);
    CHECK_INT(run(&world, change_user, &ask), ACCOUNTS_E_STALE);
    ask.version = seen.version;
    CHECK_INT(run(&world, delete_user, &ask), ACCOUNTS_E_STALE);
    ask.version = seen.version + 1;
    CHECK_INT(run(&world, delete_user, &ask), 0);
    CHECK_INT(look(&world, "anna", &seen), ACCOUNTS_E_NONE);
    store_world_close(&world);
}
STORE_TEST(test_version)

/* --- the last administrator --- */

static const struct last_row {
    const char *what;
    enum deed deed;
    const char *role;
} last_rows[] = {
    {"disable", DISABLE, NULL},
    {"delete", DELETE, NULL},
    {"no role", NO_ROLES, NULL},
    {"another role", ROLES, "operator"},
};

static void test_last_administrator_stays(enum store_world_kind kind) {
    struct store_world world;
    store_world_open(&world, kind);
    must_user(&world, "root", "administrator");
    must_user(&world, "asleep", "administrator");
    must_user(&world, "oscar", "operator");
    const struct deed_row sleep_now = {.deed = DISABLE, .who = "asleep"};
    CHECK_INT(do_deed(&world, owner, &sleep_now), 0);
    for (size_t i = 0; i < ARRAY_LEN(last_rows); i++) {
        struct seen memory;
        test_row(last_rows[i].what);
        const struct deed_row row = {
            .deed = last_rows[i].deed, .who = "root", .role = last_rows[i].role};
        struct accounts_actor root = act_as(&world, "root", &memory);
        CHECK_INT(do_deed(&world, owner, &row), ACCOUNTS_E_DENIED);
        CHECK_INT(do_deed(&world, root, &row), ACCOUNTS_E_DENIED);
        seen_deinit(&memory);
        CHECK_INT(look(&world, "root", &memory), 0);
        CHECK(!memory.is_disabled);
        CHECK_STR(slice_from_cstr(memory.roles), "administrator");
    }
    test_row("");
    /* With another one it goes. */
    const struct deed_row wake = {.deed = ENABLE, .who = "asleep"};
    const struct deed_row demote = {.deed = ROLES, .who = "root", .role = "operator"};
    CHECK_INT(do_deed(&world, owner, &wake), 0);
    CHECK_INT(do_deed(&world, owner, &demote), 0);
    CHECK_INT(do_deed(&world, owner, &sleep_now), ACCOUNTS_E_DENIED);
    store_world_close(&world);
}
STORE_TEST(test_last_administrator_stays)

/* Two instances, each with a store of its own, remove one of the two administrators each. */
struct racer {
    struct store *store;
    struct ask ask;
    store_work_fn *work;
    pthread_barrier_t *barrier;
    int result;
};

static void *race(void *context) {
    struct racer *racer = context;
    pthread_barrier_wait(racer->barrier);
    racer->result = store_run(racer->store, STORE_WRITE, racer->work, &racer->ask);
    return NULL;
}

static void race_once(struct store_world *world, struct store *other, unsigned round) {
    struct racer racers[2] = {{.store = world->store}, {.store = other}};
    pthread_t threads[2];
    pthread_barrier_t barrier;
    must_user(world, "root1", "administrator");
    must_user(world, "root2", "administrator");
    pthread_barrier_init(&barrier, NULL, 2);
    for (unsigned i = 0; i < 2; i++) {
        static const struct slice names[] = {SLICE_INIT("root1"), SLICE_INIT("root2")};
        static const struct slice no_roles[1];
        struct ask *ask = &racers[i].ask;
        *ask = (struct ask){.actor = owner, .who = names[i], .user = no_change};
        racers[i].work = (round + i) % 3 == 0 ? delete_user : change_user;
        if ((round + i) % 3 == 1)
            ask->user.is_disabled = 1;
        else
            ask->user.roles = no_roles;
        racers[i].barrier = &barrier;
        CHECK_INT(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&barrier);
    CHECK_INT((racers[0].result == 0) + (racers[1].result == 0), 1);
    CHECK_INT((racers[0].result == ACCOUNTS_E_DENIED) + (racers[1].result == ACCOUNTS_E_DENIED), 1);
}

static int remove_all(struct store_tx *tx, void *context) {
    return store_exec(tx, "DELETE FROM users", NULL, 0, context);
}

static void test_two_ways_at_once(enum store_world_kind kind) {
    struct store_world world;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(4096);
    struct store *other = NULL;
    store_world_open(&world, kind);
    REQUIRE(store_open(&world.options, &other, &reason) == 0);
    for (unsigned round = 0; round < 12 && test_failures == 0; round++) {
        race_once(&world, other, round);
        CHECK_INT(store_run(world.store, STORE_WRITE, remove_all, NULL), 0);
    }
    store_close(other);
    store_world_close(&world);
}
STORE_TEST(test_two_ways_at_once)

/* --- sessions, passwords --- */

static int open_session(struct store_tx *tx, void *context) {
    struct ask *ask = context;
    struct accounts_cookie cookie;
    const struct accounts_session_new options = {.user = ask->who,
                                                 .address = SLICE("192.0.2.1"),
                                                 .agent = SLICE("browser"),
                                                 .idle_ms = 3600000,
                                                 .max_ms = 7200000};
    int error = accounts_open_session(tx, &options, &cookie);
    if (error == 0)
        memcpy(ask->id, cookie.session, sizeof cookie.session);
    return error;
}

static bool count_session(void *context, const struct accounts_session *session) {
    struct seen *seen = context;
    snprintf(seen->id, sizeof seen->id, "%.*s", SLICE_ARGS(session->id));
    seen->n++;
    return true;
}

static int list_sessions(struct store_tx *tx, void *context) {
    struct seen *seen = context;
    return accounts_list_sessions(tx, seen->who, NULL, INT32_MAX, count_session, seen);
}

static int n_sessions(struct store_world *world, const char *user, struct seen *seen) {
    *seen = (struct seen){.who = slice_from_cstr(user)};
    CHECK_INT(store_run(world->store, STORE_READ, list_sessions, seen), 0);
    return seen->n;
}

/* Opens two for vera, does it with the first one of these, says how many are left. */
static int left_after(struct store_world *world, const struct deed_row *row, bool is_self) {
    struct ask first = {.who = SLICE("vera")}, second = {.who = SLICE("vera")};
    struct seen memory, seen;
    CHECK_INT(store_run(world->store, STORE_WRITE, open_session, &first), 0);
    CHECK_INT(store_run(world->store, STORE_WRITE, open_session, &second), 0);
    struct accounts_actor actor = act_as(world, is_self ? "vera" : "root", &memory);
    if (is_self)
        actor.session = slice_from_cstr(first.id);
    CHECK_INT(do_deed(world, actor, row), 0);
    int n = n_sessions(world, "vera", &seen);
    if (is_self && n == 1)
        CHECK_STR(slice_from_cstr(seen.id), first.id);
    seen_deinit(&memory);
    return n;
}

static void test_changes_end_sessions(enum store_world_kind kind) {
    struct store_world world;
    struct seen seen;
    store_world_open(&world, kind);
    add_people(&world);
    const struct deed_row password = {.deed = PASSWORD, .who = "vera"};
    const struct deed_row roles = {.deed = ROLES, .who = "vera", .role = "operator"};
    const struct deed_row display = {.deed = DISPLAY, .who = "vera"};
    const struct deed_row disable = {.deed = DISABLE, .who = "vera"};
    CHECK_INT(left_after(&world, &password, true), 1);
    CHECK_INT(left_after(&world, &password, false), 0);
    CHECK_INT(left_after(&world, &roles, false), 0);
    CHECK_INT(left_after(&world, &display, true), 2);
    CHECK_INT(left_after(&world, &disable, false), 0);
    CHECK_INT(n_sessions(&world, "vera", &seen), 0);
    store_world_close(&world);
}
STORE_TEST(test_changes_end_sessions)

static void test_reset_has_to_be_changed(enum store_world_kind kind) {
    struct store_world world;
    struct seen memory, seen;
    store_world_open(&world, kind);
    add_people(&world);
    const struct deed_row password = {.deed = PASSWORD, .who = "vera"};
    struct accounts_actor root = act_as(&world, "root", &memory);
    CHECK_INT(do_deed(&world, root, &password), 0);
    CHECK_INT(look(&world, "vera", &seen), 0);
    CHECK(seen.must_change && seen.has_password);
    seen_deinit(&memory);
    struct accounts_actor vera = act_as(&world, "vera", &memory);
    CHECK_INT(do_deed(&world, vera, &password), 0);
    CHECK_INT(look(&world, "vera", &seen), 0);
    CHECK(!seen.must_change);
    seen_deinit(&memory);
    CHECK_INT(do_deed(&world, owner, &password), 0);
    CHECK_INT(look(&world, "vera", &seen), 0);
    CHECK(seen.must_change);
    store_world_close(&world);
}
STORE_TEST(test_reset_has_to_be_changed)

/* --- rights --- */

static void test_rights_of_several_roles(enum store_world_kind kind) {
    struct store_world world;
    struct seen memory;
    struct slice roles[] = {SLICE("reader"), SLICE("CLERK"), SLICE("reader")};
    store_world_open(&world, kind);
    add_people(&world);
    struct ask ask = {.actor = owner, .who = SLICE("rita"), .user = no_change};
    ask.user.roles = roles;
    ask.user.n_roles = ARRAY_LEN(roles);
    CHECK_INT(run(&world, change_user, &ask), 0);
    struct accounts_actor rita = act_as(&world, "RITA", &memory);
    CHECK_STR(slice_from_cstr(memory.roles), "clerk,reader");
    CHECK(policy_rights_have(rita.rights, PERMISSION_USERS_WRITE));
    CHECK(policy_rights_allow(rita.rights, SLICE("db"), SLICE("put"), false));
    CHECK(!policy_rights_allow(rita.rights, SLICE("db"), SLICE("put"), true));
    seen_deinit(&memory);
    /* A disabled one: nothing. */
    const struct deed_row disable = {.deed = DISABLE, .who = "rita"};
    CHECK_INT(do_deed(&world, owner, &disable), 0);
    rita = act_as(&world, "rita", &memory);
    CHECK(!policy_rights_have(rita.rights, PERMISSION_USERS_WRITE));
    CHECK(!policy_rights_know(rita.rights, SLICE("db")));
    seen_deinit(&memory);
    struct slice many[LIMIT_USER_ROLES + 1];
    for (size_t i = 0; i < ARRAY_LEN(many); i++)
        many[i] = SLICE("reader");
    ask.user.roles = many;
    ask.user.n_roles = ARRAY_LEN(many);
    CHECK_INT(run(&world, change_user, &ask), ACCOUNTS_E_WRONG);
    store_world_close(&world);
}
STORE_TEST(test_rights_of_several_roles)

/* Defect 9: a role whose rights cannot be read gives nothing, not everything. */
static int spoil_role(struct store_tx *tx, void *context) {
    (void)context;
    return store_exec(tx, "UPDATE roles SET rights = '{\"permissions\":[\"everything\"]}'", NULL, 0,
                      NULL);
}

static void test_unreadable_rights_give_nothing(enum store_world_kind kind) {
    struct store_world world;
    struct seen memory;
    store_world_open(&world, kind);
    add_people(&world);
    CHECK_INT(store_run(world.store, STORE_WRITE, spoil_role, NULL), 0);
    struct accounts_actor root = act_as(&world, "root", &memory);
    for (unsigned i = 0; i < PERMISSION_COUNT; i++)
        CHECK(!policy_rights_have(root.rights, (enum permission)i));
    CHECK(!policy_rights_allow(root.rights, SLICE("db"), SLICE("get_x"), false));
    seen_deinit(&memory);
    store_world_close(&world);
}
STORE_TEST(test_unreadable_rights_give_nothing)

/* --- many --- */

/* So many in SQLite; each statement of PostgreSQL is a way there and back. */
enum { MANY = 10000, FEWER = 2000, PAGE = 500 };

static int add_many(struct store_tx *tx, void *context) {
    const int *many = context;
    for (int i = 0; i < *many; i++) {
        CLEANUP(buf_deinit) struct buf reason = BUF_INIT(256);
        char name[32], display[32], id[ACCOUNTS_ID + 1];
        snprintf(name, sizeof name, "User%05d", i);
        snprintf(display, sizeof display, "100%% no_%d!", i);
        struct accounts_user_change user = no_change;
        user.name = slice_from_cstr(name);
        user.display_name = slice_from_cstr(display);
        int error = accounts_add_user(tx, &owner, &user, id, &reason);
        if (error != 0)
            return error;
    }
    return 0;
}

static int list_users(struct store_tx *tx, void *context) {
    struct seen *seen = context;
    return accounts_list_users(tx, seen->search, seen->who, seen->most, see_user, seen);
}

static int n_found(struct store_world *world, const char *search) {
    struct seen seen = {.search = slice_from_cstr(search), .most = MANY + 1};
    CHECK_INT(store_run(world->store, STORE_READ, list_users, &seen), 0);
    return seen.n;
}

static void test_ten_thousand_users(enum store_world_kind kind) {
    struct store_world world;
    int n = 0, pages = 0, many = kind == STORE_WORLD_SQLITE ? MANY : FEWER;
    char after[80] = "";
    store_world_open(&world, kind);
    REQUIRE(store_run(world.store, STORE_WRITE, add_many, &many) == 0);
    for (;;) {
        struct seen seen = {.who = slice_from_cstr(after), .most = PAGE};
        CHECK_INT(store_run(world.store, STORE_READ, list_users, &seen), 0);
        if (seen.n == 0)
            break;
        CHECK_INT(seen.n, PAGE);
        n += seen.n;
        pages++;
        snprintf(after, sizeof after, "%s", seen.name);
    }
    CHECK_INT(n, many);
    CHECK_INT(pages, many / PAGE);
    CHECK_INT(n_found(&world, "uSER0123"), 10);
    CHECK_INT(n_found(&world, "100% NO_77!"), 1);
    /* What LIKE would take for more. */
    CHECK_INT(n_found(&world, "%"), many);
    CHECK_INT(n_found(&world, "_77!"), 1);
    CHECK_INT(n_found(&world, "0_0"), 0);
    CHECK_INT(n_found(&world, "user%1"), 0);
    CHECK_INT(n_found(&world, "' OR 1=1 --"), 0);
    CHECK_INT(n_found(&world, "\xff"), 0);
    store_world_close(&world);
}
STORE_TEST(test_ten_thousand_users)

#define BOTH(test) TEST(test##_sqlite), TEST(test##_postgres)
TEST_MAIN(BOTH(test_names), BOTH(test_name_is_nobodys_id), BOTH(test_values),
          BOTH(test_defect_4_nobody_raises_rights), BOTH(test_adding),
          BOTH(test_rights_of_a_moment_ago), BOTH(test_version),
          BOTH(test_last_administrator_stays), BOTH(test_two_ways_at_once),
          BOTH(test_changes_end_sessions), BOTH(test_reset_has_to_be_changed),
          BOTH(test_rights_of_several_roles), BOTH(test_unreadable_rights_give_nothing),
          BOTH(test_ten_thousand_users))
