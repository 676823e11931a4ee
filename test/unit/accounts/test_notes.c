/* Notes of what commands did: in the transaction of the change, taken by one at a time, not lost
 * when that one dies. */
#include "doors_world.h"

struct adding {
    const char *object, *reason;
    int error; /* of what follows in the same transaction */
};

static int add_work(struct store_tx *tx, void *context) {
    const struct adding *adding = context;
    struct accounts_note note = {.event = SLICE("admin-user"),
                                 .who = SLICE("command:root"),
                                 .action = SLICE("cardea user add"),
                                 .object = slice_from_cstr(adding->object),
                                 .reason = slice_from_cstr(adding->reason)};
    int error = accounts_add_note(tx, &note);
    return error != 0 ? error : adding->error;
}

static int add(struct store_world *world, const char *object, int error) {
    struct adding adding = {.object = object, .reason = "a reason", .error = error};
    return store_run(world->store, STORE_WRITE, add_work, &adding);
}

struct taking {
    size_t most;
    char taker[ACCOUNTS_ID + 1];
    char objects[256];
    bool is_whole; /* each has all of its members */
};

static bool take_one(void *context, const struct accounts_note *note) {
    struct taking *taking = context;
    size_t len = strlen(taking->objects);
    snprintf(taking->objects + len, sizeof taking->objects - len, "%.*s ",
             SLICE_ARGS(note->object));
    taking->is_whole = taking->is_whole && note->id.len == ACCOUNTS_ID && note->at_ms != 0 &&
                       slice_eq(note->event, SLICE("admin-user")) &&
                       slice_eq(note->who, SLICE("command:root")) &&
                       slice_eq(note->action, SLICE("cardea user add")) &&
                       slice_eq(note->reason, SLICE("a reason"));
    return true;
}

static int take_work(struct store_tx *tx, void *context) {
    struct taking *taking = context;
    taking->objects[0] = '\0';
    taking->is_whole = true;
    return accounts_take_notes(tx, taking->most, taking->taker, take_one, taking);
}

static struct taking take(struct store_world *world, size_t most, const char *wanted) {
    struct taking taking = {.most = most};
    CHECK_INT(store_run(world->store, STORE_NOTE, take_work, &taking), 0);
    CHECK_STR(slice_from_cstr(taking.objects), wanted);
    CHECK(taking.is_whole);
    return taking;
}

static int drop_work(struct store_tx *tx, void *context) {
    return accounts_drop_notes(tx, context);
}

static void drop(struct store_world *world, struct taking *taking) {
    CHECK_INT(store_run(world->store, STORE_NOTE, drop_work, taking->taker), 0);
}

static int has_work(struct store_tx *tx, void *context) {
    return accounts_has_notes(tx, context);
}

static bool has(struct store_world *world) {
    bool has = false;
    CHECK_INT(store_run(world->store, STORE_READ, has_work, &has), 0);
    return has;
}

/* Of one millisecond they have no order; so each is of another one. */
static void add_later(struct store_world *world, const char *object) {
    do_raw(world, "UPDATE admin_notes SET at_ms = at_ms - 10", NULL, NULL, NULL);
    CHECK_INT(add(world, object, 0), 0);
}

static void check_taking(enum store_world_kind kind) {
    struct store_world world;
    store_world_open(&world, kind);
    CHECK(!has(&world));
    take(&world, 10, "");
    add_later(&world, "a");
    add_later(&world, "b");
    add_later(&world, "c");
    CHECK(has(&world));
    struct taking first = take(&world, 2, "a b ");
    struct taking second = take(&world, 2, "c ");
    take(&world, 2, "");
    drop(&world, &first);
    CHECK(has(&world));
    CHECK_INT(count_raw(&world, "SELECT COUNT(*) FROM admin_notes"), 1);
    drop(&world, &second);
    CHECK(!has(&world));
    store_world_close(&world);
}
STORE_TEST(check_taking)

/* Whoever took them died: after a minute they are somebody else's, and not the first one's. */
static void check_dying(enum store_world_kind kind) {
    struct store_world world;
    store_world_open(&world, kind);
    add_later(&world, "a");
    struct taking dead = take(&world, 10, "a ");
    take(&world, 10, "");
    do_raw(&world, "UPDATE admin_notes SET taken_ms = taken_ms - 60001", NULL, NULL, NULL);
    struct taking heir = take(&world, 10, "a ");
    drop(&world, &dead);
    CHECK(has(&world));
    drop(&world, &heir);
    CHECK(!has(&world));
    store_world_close(&world);
}
STORE_TEST(check_dying)

/* What was not done leaves none. */
static void check_together(enum store_world_kind kind) {
    struct store_world world;
    store_world_open(&world, kind);
    CHECK_INT(add(&world, "a", ACCOUNTS_E_DENIED), ACCOUNTS_E_DENIED);
    CHECK(!has(&world));
    store_world_close(&world);
}
STORE_TEST(check_together)

TEST_MAIN(TEST(check_taking_sqlite), TEST(check_taking_postgres), TEST(check_dying_sqlite),
          TEST(check_dying_postgres), TEST(check_together_sqlite), TEST(check_together_postgres))
