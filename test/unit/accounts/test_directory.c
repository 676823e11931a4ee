/* The directory: what it says of tokens, groups and edit mode is what the store says. */
#include <openssl/sha.h>

#include "accounts/directory.h"
#include "base/clock.h"
#include "doors_world.h"

#define READS                                                                                      \
    "{\"permissions\":[],\"operations\":[{\"upstream\":\"db\",\"operation\":\"*\",\"access\":"     \
    "\"read\"}]}"
#define WRITES                                                                                     \
    "{\"permissions\":[\"audit.read\"],\"operations\":[{\"upstream\":\"db\",\"operation\":"        \
    "\"put\",\"access\":\"write\"}]}"
#define OTHERS                                                                                     \
    "{\"permissions\":[],\"operations\":[{\"upstream\":\"web\",\"operation\":\"*\",\"access\":"    \
    "\"read\"}]}"

static int load_work(struct store_tx *tx, void *context) {
    struct directory **directory = context;
    *directory = directory_unref(*directory);
    return directory_load(tx, directory);
}

static struct directory *load(struct store_world *world) {
    struct directory *directory = NULL;
    if (store_run(world->store, STORE_READ, load_work, &directory) != 0)
        CANNOT_GO_ON();
    return directory;
}

static const struct directory_token *find(const struct directory *directory, const char *token) {
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256((const unsigned char *)token, strlen(token), digest);
    return directory_find_token(directory, digest);
}

static void must_role(struct store_world *world, const char *name, const char *rights,
                      const char *group) {
    struct slice groups[] = {slice_from_cstr(group)};
    struct ask ask = {.actor = owner,
                      .role = {.name = slice_from_cstr(name),
                               .rights = slice_from_cstr(rights),
                               .groups = groups,
                               .n_groups = group != NULL}};
    CHECK_INT(run(world, add_role, &ask), 0);
}

static void must_give(struct store_world *world, const char *user, const char *const *roles,
                      size_t n, bool is_disabled) {
    struct slice names[8];
    struct ask ask = {.actor = owner, .who = slice_from_cstr(user), .user = no_change};
    for (size_t i = 0; i < n; i++)
        names[i] = slice_from_cstr(roles[i]);
    ask.user.roles = names;
    ask.user.n_roles = n;
    ask.user.is_disabled = is_disabled;
    CHECK_INT(run(world, change_user, &ask), 0);
}

static void must_token(struct store_world *world, const char *user, const char *rights,
                       uint64_t lifetime_ms, char token[ACCOUNTS_TOKEN + 1]) {
    struct ask ask = {.actor = owner,
                      .token = {.user = slice_from_cstr(user),
                                .name = SLICE("a token"),
                                .rights = slice_from_cstr(rights),
                                .lifetime_ms = lifetime_ms}};
    CHECK_INT(run(world, add_token, &ask), 0);
    memcpy(token, ask.text, ACCOUNTS_TOKEN + 1);
}

static void check_empty(enum store_world_kind kind) {
    struct store_world world;
    store_world_open(&world, kind);
    struct directory *directory = load(&world);
    CHECK(!directory_has_users(directory));
    CHECK(find(directory, "cardea_x") == NULL);
    CHECK_INT(directory_next_close_ms(directory), 0);
    CHECK_INT(directory_edit_until(directory, SLICE("db"), NULL, 0), 0);
    struct policy_rights *rights = NULL;
    size_t n = 7;
    CHECK_INT(directory_group_rights(directory, (struct slice[]){SLICE("staff")}, 1, &rights, NULL,
                                     0, &n),
              0);
    CHECK(rights == NULL);
    CHECK_INT(n, 0);
    directory_unref(directory_ref(directory));
    directory_unref(directory);
    store_world_close(&world);
}
STORE_TEST(check_empty)

static void check_tokens(enum store_world_kind kind) {
    struct store_world world;
    char all[ACCOUNTS_TOKEN + 1], few[ACCOUNTS_TOKEN + 1], gone[ACCOUNTS_TOKEN + 1];
    char bare[ACCOUNTS_TOKEN + 1], other[ACCOUNTS_TOKEN + 1];
    store_world_open(&world, kind);
    must_role(&world, "writers", WRITES, NULL);
    must_role(&world, "readers", READS, NULL);
    must_user(&world, "Anna", "administrator");
    must_user(&world, "ben", NULL);
    must_user(&world, "carl", NULL);
    must_user(&world, "dora", NULL);
    must_user(&world, "emil", NULL);
    must_give(&world, "ben", (const char *[]){"writers", "readers"}, 2, false);
    must_give(&world, "emil", (const char *[]){"readers", "writers"}, 2, false);
    must_token(&world, "ben", "", 0, all);
    must_token(&world, "ben", READS, 3600 * 1000, few);
    must_token(&world, "emil", "", 0, other);
    must_token(&world, "carl", "", 0, gone);
    must_token(&world, "dora", "", 0, bare);
    must_give(&world, "carl", (const char *[]){"readers"}, 1, true);

    struct directory *directory = load(&world);
    CHECK(directory_has_users(directory));
    const struct directory_token *token = find(directory, all);
    REQUIRE(token != NULL);
    CHECK_STR(token->name, "a token");
    CHECK_STR(token->user_name, "ben");
    CHECK_INT(token->user_id.len, ACCOUNTS_ID);
    CHECK_INT(strlen(token->id), ACCOUNTS_ID);
    CHECK_SLICE(token->prefix, slice_make(all + 7, ACCOUNTS_PREFIX));
    REQUIRE(token->n_roles == 2);
    CHECK_STR(token->roles[0], "readers");
    CHECK_STR(token->roles[1], "writers");
    CHECK(token->expires_ms == UINT64_MAX);
    CHECK(policy_rights_allow(token->rights, SLICE("db"), SLICE("put"), true));
    CHECK(policy_rights_allow(token->rights, SLICE("db"), SLICE("get"), false));
    CHECK(!policy_rights_allow(token->rights, SLICE("db"), SLICE("get"), true));
    CHECK(policy_rights_have(token->rights, PERMISSION_AUDIT_READ));
    const struct directory_token *same = find(directory, other);
    REQUIRE(same != NULL);
    CHECK(same->rights == token->rights && same->roles == token->roles); /* shared */

    token = find(directory, few);
    REQUIRE(token != NULL);
    CHECK(policy_rights_allow(token->rights, SLICE("db"), SLICE("get"), false));
    CHECK(!policy_rights_allow(token->rights, SLICE("db"), SLICE("put"), true));
    CHECK(!policy_rights_have(token->rights, PERMISSION_AUDIT_READ));
    uint64_t now = clock_wall_ms();
    CHECK(token->expires_ms > now + 3500 * 1000 && token->expires_ms < now + 3700 * 1000);

    CHECK(find(directory, gone) == NULL); /* its user is disabled */
    token = find(directory, bare);
    REQUIRE(token != NULL);
    CHECK_INT(token->n_roles, 0);
    CHECK(!policy_rights_know(token->rights, SLICE("db")));
    all[ACCOUNTS_TOKEN - 1] ^= 1;
    CHECK(find(directory, all) == NULL);
    CHECK(find(directory, "") == NULL);
    directory_unref(directory);
    store_world_close(&world);
}
STORE_TEST(check_tokens)

/* A role or token whose rights cannot be read gives nothing, and the rest stays as it is. */
static void check_unreadable(enum store_world_kind kind) {
    struct store_world world;
    char broken[ACCOUNTS_TOKEN + 1], half[ACCOUNTS_TOKEN + 1], sound[ACCOUNTS_TOKEN + 1];
    store_world_open(&world, kind);
    must_role(&world, "broken", WRITES, "staff");
    must_role(&world, "sound", READS, NULL);
    must_user(&world, "anna", NULL);
    must_user(&world, "ben", NULL);
    must_give(&world, "anna", (const char *[]){"broken"}, 1, false);
    must_give(&world, "ben", (const char *[]){"broken", "sound"}, 2, false);
    must_token(&world, "anna", "", 0, broken);
    must_token(&world, "ben", "", 0, half);
    must_token(&world, "ben", READS, 0, sound);
    static const char *const wrong[] = {
        "", "{", "null", "{\"permissions\":[\"no.such\"],\"operations\":[]}", "{\"more\":1}"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        test_row(wrong[i]);
        do_raw(&world, "UPDATE roles SET rights = $1 WHERE key = 'broken'", wrong[i], NULL, NULL);
        do_raw(&world, "UPDATE tokens SET rights = $1 WHERE rights <> ''",
               i == 0 ? READS : wrong[i], NULL, NULL);
        struct directory *directory = load(&world);
        REQUIRE(find(directory, broken) != NULL && find(directory, half) != NULL);
        CHECK(!policy_rights_know(find(directory, broken)->rights, SLICE("db")));
        CHECK(policy_rights_allow(find(directory, half)->rights, SLICE("db"), SLICE("get"), false));
        CHECK(!policy_rights_allow(find(directory, half)->rights, SLICE("db"), SLICE("put"), true));
        CHECK_INT(policy_rights_know(find(directory, sound)->rights, SLICE("db")), i == 0);
        struct policy_rights *rights = NULL;
        CHECK_INT(directory_group_rights(directory, (struct slice[]){SLICE("staff")}, 1, &rights,
                                         NULL, 0, NULL),
                  0);
        CHECK(rights != NULL && !policy_rights_know(rights, SLICE("db")));
        policy_rights_unref(rights);
        directory_unref(directory);
    }
    test_row("");
    /* A digest that is none is nobody's. */
    do_raw(&world, "UPDATE tokens SET digest = $1 WHERE rights <> ''", "", NULL, NULL);
    struct directory *directory = load(&world);
    CHECK(find(directory, sound) == NULL);
    CHECK(find(directory, half) != NULL);
    directory_unref(directory);
    store_world_close(&world);
}
STORE_TEST(check_unreadable)

static void check_groups(enum store_world_kind kind) {
    struct store_world world;
    store_world_open(&world, kind);
    must_role(&world, "zebras", READS, "staff");
    must_role(&world, "apes", WRITES, "staff");
    must_role(&world, "owls", OTHERS, "night");
    struct directory *directory = load(&world);
    const struct {
        const char *name;
        struct slice groups[3];
        size_t n, most;
        bool is_known, reads_db, writes_db, reads_web;
        const char *roles;
    } rows[] = {
        {"none", {{0}}, 0, 8, false, false, false, false, ""},
        {"unknown", {SLICE_INIT("Staff"), SLICE_INIT("")}, 2, 8, false, false, false, false, ""},
        {"one", {SLICE_INIT("night")}, 1, 8, true, false, false, true, "owls,"},
        {"two roles", {SLICE_INIT("staff")}, 1, 8, true, true, true, false, "apes,zebras,"},
        {"two groups",
         {SLICE_INIT("night"), SLICE_INIT("x"), SLICE_INIT("staff")},
         3,
         8,
         true,
         true,
         true,
         true,
         "apes,owls,zebras,"},
        {"twice the same",
         {SLICE_INIT("night"), SLICE_INIT("night")},
         2,
         8,
         true,
         false,
         false,
         true,
         "owls,"},
        {"names are cut",
         {SLICE_INIT("night"), SLICE_INIT("staff")},
         2,
         2,
         true,
         true,
         true,
         true,
         "apes,owls,"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct slice roles[8];
        struct policy_rights *rights = NULL;
        char names[128] = "";
        size_t n = 99;
        test_row(rows[i].name);
        CHECK_INT(directory_group_rights(directory, rows[i].groups, rows[i].n, &rights, roles,
                                         rows[i].most, &n),
                  0);
        CHECK_INT(rights != NULL, rows[i].is_known);
        for (size_t r = 0; r < n && n <= 8; r++) {
            size_t len = strlen(names);
            snprintf(names + len, sizeof names - len, "%.*s,", SLICE_ARGS(roles[r]));
        }
        CHECK_STR(slice_from_cstr(names), rows[i].roles);
        if (rights == NULL)
            continue;
        CHECK_INT(policy_rights_allow(rights, SLICE("db"), SLICE("get"), false), rows[i].reads_db);
        CHECK_INT(policy_rights_allow(rights, SLICE("db"), SLICE("put"), true), rows[i].writes_db);
        CHECK_INT(policy_rights_allow(rights, SLICE("web"), SLICE("x"), false), rows[i].reads_web);
        policy_rights_unref(rights);
    }
    directory_unref(directory);
    store_world_close(&world);
}
STORE_TEST(check_groups)

/* --- edit mode --- */

struct opening {
    enum accounts_scope scope;
    const char *name;
    uint64_t for_ms;
};

static int open_work(struct store_tx *tx, void *context) {
    const struct opening *opening = context;
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(KIB(1));
    return accounts_open_edit(tx, &owner, opening->scope, slice_from_cstr(opening->name),
                              opening->for_ms, SLICE("a test"), &reason);
}

static void open_edit(struct store_world *world, enum accounts_scope scope, const char *name,
                      uint64_t for_ms) {
    struct opening opening = {scope, name, for_ms};
    CHECK_INT(store_run(world->store, STORE_WRITE, open_work, &opening), 0);
}

static uint64_t minutes_left(const struct directory *directory, const char *upstream,
                             const char *role) {
    struct slice roles[] = {SLICE("apes"), slice_from_cstr(role)};
    uint64_t until = directory_edit_until(directory, slice_from_cstr(upstream), roles, 2);
    uint64_t now = directory_now_ms(directory, clock_boot_ms());
    return until > now ? (until - now + 30000) / 60000 : 0;
}

static void check_windows(enum store_world_kind kind) {
    enum { MINUTE = 60 * 1000 };
    struct store_world world;
    store_world_open(&world, kind);
    must_role(&world, "dba", READS, NULL);
    open_edit(&world, ACCOUNTS_EDIT_ROLE, "DBA", 20 * MINUTE);
    open_edit(&world, ACCOUNTS_EDIT_UPSTREAM, "web", 10 * MINUTE);
    struct directory *directory = load(&world);
    CHECK_INT(minutes_left(directory, "db", "x"), 0);
    CHECK_INT(minutes_left(directory, "db", "dba"), 20);
    CHECK_INT(minutes_left(directory, "web", "x"), 10);
    CHECK_INT(minutes_left(directory, "web", "dba"), 20);
    CHECK_INT(directory_edit_until(directory, SLICE("db"), NULL, 0), 0);
    CHECK(directory_edit_until(directory, SLICE("web"), NULL, 0) ==
          directory_next_close_ms(directory));
    /* It is immutable: what opens later is not in it. */
    open_edit(&world, ACCOUNTS_EDIT_ALL, "", 5 * MINUTE);
    CHECK_INT(minutes_left(directory, "db", "x"), 0);
    directory_unref(directory);
    directory = load(&world);
    CHECK_INT(minutes_left(directory, "db", "x"), 5);
    CHECK_INT(minutes_left(directory, "web", "dba"), 20);
    directory_unref(directory);

    pass(&world, 6 * MINUTE);
    directory = load(&world);
    CHECK_INT(minutes_left(directory, "db", "x"), 0);
    CHECK_INT(minutes_left(directory, "web", "x"), 4);
    directory_unref(directory);

    /* The role's window goes with the role, not with its name. */
    do_raw(&world, "UPDATE roles SET name = 'dbadmins', key = 'dbadmins' WHERE key = 'dba'", NULL,
           NULL, NULL);
    must_role(&world, "dba", READS, NULL);
    directory = load(&world);
    CHECK_INT(minutes_left(directory, "db", "dba"), 0);
    CHECK_INT(minutes_left(directory, "db", "dbadmins"), 14);
    directory_unref(directory);
    do_raw(&world, "DELETE FROM roles WHERE key = 'dbadmins'", NULL, NULL, NULL);
    directory = load(&world);
    CHECK_INT(minutes_left(directory, "db", "dbadmins"), 0);
    CHECK_INT(minutes_left(directory, "web", ""), 4);
    directory_unref(directory);

    pass(&world, 5 * MINUTE);
    directory = load(&world);
    CHECK_INT(directory_next_close_ms(directory), 0);
    uint64_t boot = clock_boot_ms();
    CHECK(directory_now_ms(directory, boot + 5000) == directory_now_ms(directory, boot) + 5000);
    CHECK(directory_now_ms(directory, 0) > 0);
    directory_unref(directory);
    store_world_close(&world);
}
STORE_TEST(check_windows)

/* --- many, and no memory --- */

enum { MANY = 3000 };

static int fill_work(struct store_tx *tx, void *context) {
    int error = 0;
    (void)context;
    for (int i = 0; error == 0 && i < MANY; i++) {
        char id[ACCOUNTS_ID + 1], user[ACCOUNTS_ID + 1], token[32], digest[65];
        unsigned char bytes[SHA256_DIGEST_LENGTH];
        snprintf(id, sizeof id, "%022d", i);
        snprintf(user, sizeof user, "%022d", i - i % 10);
        snprintf(token, sizeof token, "token-%d", i);
        SHA256((const unsigned char *)token, strlen(token), bytes);
        for (size_t b = 0; b < sizeof bytes; b++)
            snprintf(digest + 2 * b, 3, "%02x", bytes[b]);
        if (i % 10 == 0)
            error = store_exec(tx,
                               "INSERT INTO users (id, name, key, display_name, email, password,"
                               " is_disabled, must_change, login_ms, created_ms, updated_ms,"
                               " version) VALUES ($1, $1, $1, '', '', '', 0, 0, 0, 0, 0, 1)",
                               STORE_VALUES(store_text(slice_from_cstr(id))), NULL);
        if (error == 0 && i % 10 == 0)
            error =
                store_exec(tx, "INSERT INTO user_roles (user_id, role_id) VALUES ($1, $2)",
                           STORE_VALUES(store_text(slice_from_cstr(id)),
                                        store_text(i % 20 == 0 ? SLICE("viewer0000000000000000")
                                                               : SLICE("operator00000000000000"))),
                           NULL);
        if (error == 0)
            error = store_exec(
                tx,
                "INSERT INTO tokens (id, user_id, name, prefix, digest, rights, created_ms,"
                " expires_ms, used_ms) VALUES ($1, $2, 'a', 'abcdefgh', $3, $4, 0, 0, 0)",
                STORE_VALUES(store_text(slice_from_cstr(id)), store_text(slice_from_cstr(user)),
                             store_text(slice_from_cstr(digest)),
                             store_text(i % 3 == 0 ? SLICE(READS) : SLICE_EMPTY)),
                NULL);
    }
    return error;
}

static void check_many(enum store_world_kind kind) {
    struct store_world world;
    store_world_open(&world, kind);
    CHECK_INT(store_run(world.store, STORE_WRITE, fill_work, NULL), 0);
    struct directory *directory = load(&world);
    for (int i = 0; i < 2 * MANY; i++) {
        char token[32], id[ACCOUNTS_ID + 1], user[ACCOUNTS_ID + 1];
        snprintf(token, sizeof token, "token-%d", i);
        snprintf(id, sizeof id, "%022d", i);
        snprintf(user, sizeof user, "%022d", i - i % 10);
        const struct directory_token *found = find(directory, token);
        if ((found != NULL) != (i < MANY)) {
            test_row(token);
            CHECK((found != NULL) == (i < MANY));
        }
        if (found == NULL)
            continue;
        CHECK(strcmp(found->id, id) == 0);
        CHECK_STR(found->user_id, user);
        CHECK_STR(found->roles[0], i / 10 % 2 == 0 ? "viewer" : "operator");
        CHECK_INT(policy_rights_know(found->rights, SLICE("web")), i % 3 != 0);
    }
    directory_unref(directory);
    store_world_close(&world);
}
STORE_TEST(check_many)

static void load_without_memory(void *arg) {
    struct store_world *world = arg;
    struct directory *directory = NULL;
    int error = store_run(world->store, STORE_READ, load_work, &directory);
    CHECK((error == 0) == (directory != NULL));
    CHECK(error <= 0 || error == STORE_E_GONE);
    struct policy_rights *rights = NULL;
    struct slice groups[] = {SLICE("staff"), SLICE("night")};
    if (directory != NULL &&
        directory_group_rights(directory, groups, 2, &rights, NULL, 0, NULL) == 0)
        CHECK(rights != NULL); /* no memory is not the same as no role */
    policy_rights_unref(rights);
    directory_unref(directory);
}

static void test_memory(void) {
    struct store_world world;
    char token[ACCOUNTS_TOKEN + 1];
    store_world_open(&world, STORE_WORLD_SQLITE);
    must_role(&world, "apes", WRITES, "staff");
    must_role(&world, "owls", OTHERS, "night");
    must_user(&world, "anna", "apes");
    must_token(&world, "anna", WRITES, 0, token);
    must_token(&world, "anna", "", 0, token);
    open_edit(&world, ACCOUNTS_EDIT_ROLE, "owls", 60 * 1000);
    test_torture(load_without_memory, &world);
    store_world_close(&world);
}

TEST_MAIN(TEST(check_empty_sqlite), TEST(check_empty_postgres), TEST(check_tokens_sqlite),
          TEST(check_tokens_postgres), TEST(check_unreadable_sqlite),
          TEST(check_unreadable_postgres), TEST(check_groups_sqlite), TEST(check_groups_postgres),
          TEST(check_windows_sqlite), TEST(check_windows_postgres), TEST(check_many_sqlite),
          TEST(check_many_postgres), TEST(test_memory))
