/* Roles and tokens: nobody hands out more than they have, and a token gives no more than its user
 * has at the moment. In both databases. */
#include "people_world.h"

#define ALL_OPERATIONS                                                                             \
    "\"operations\":[{\"upstream\":\"*\",\"operation\":\"*\",\"access\":\"write\"}]"
/* Makes roles and tokens for everybody, and has itself little of what they could give. */
#define MAKER                                                                                      \
    "{\"permissions\":[\"roles.read\",\"roles.write\",\"tokens.own\",\"tokens.all\"],"             \
    "\"operations\":[{\"upstream\":\"db\",\"operation\":\"*\",\"access\":\"read\"}]}"
#define READER                                                                                     \
    "{\"operations\":[{\"upstream\":\"db\",\"operation\":\"get_*\",\"access\":\"read\"}]}"

static void add_people(struct store_world *world) {
    CHECK_INT(try_role(world, owner, "maker", MAKER), 0);
    CHECK_INT(try_role(world, owner, "reader", READER), 0);
    must_user(world, "root", "administrator");
    must_user(world, "mia", "maker");
    must_user(world, "rita", "reader");
    must_user(world, "vera", "viewer");
}

/* --- roles --- */

static const struct role_row {
    const char *name, *rights;
    int result;
} role_rows[] = {
    {"empty", "{}", 0},
    {"EMPTY", "{}", ACCOUNTS_E_EXISTS},
    {"administrator", "{}", ACCOUNTS_E_EXISTS},
    {"Viewer", "{}", ACCOUNTS_E_EXISTS},
    {"administrator000000000", "{}", ACCOUNTS_E_EXISTS},
    {"reads all", "{}", ACCOUNTS_E_WRONG},
    {"", "{}", ACCOUNTS_E_WRONG},
    {"wrong", "{\"permissions\":[\"root\"]}", ACCOUNTS_E_WRONG},
    {"wrong", "null", ACCOUNTS_E_WRONG},
    {"wrong", "", ACCOUNTS_E_WRONG},
    {"wrong", "{\"permissions\":[],\"permissions\":[\"users.write\"]}", ACCOUNTS_E_WRONG},
};

static void test_role_rules(enum store_world_kind kind) {
    struct store_world world;
    store_world_open(&world, kind);
    for (size_t i = 0; i < ARRAY_LEN(role_rows); i++) {
        test_row(role_rows[i].name);
        CHECK_INT(try_role(&world, owner, role_rows[i].name, role_rows[i].rights),
                  role_rows[i].result);
    }
    test_row("");
    char *large = mem_xalloc(MIB(1) + 1);
    memset(large, ' ', MIB(1));
    large[0] = '{';
    large[1] = '}';
    CHECK_INT(try_role(&world, owner, "large", large), ACCOUNTS_E_WRONG);
    mem_free(large);
    store_world_close(&world);
}
STORE_TEST(test_role_rules)

static bool see_role(void *context, const struct accounts_role *role) {
    struct seen *seen = context;
    seen->n++;
    seen->version = role->version;
    seen->n_users = role->n_users;
    snprintf(seen->rights, sizeof seen->rights, "%.*s", SLICE_ARGS(role->rights));
    snprintf(seen->name, sizeof seen->name, "%.*s", SLICE_ARGS(role->name));
    snprintf(seen->roles, sizeof seen->roles, "%zu", role->n_groups);
    return true;
}

static int get_role(struct store_tx *tx, void *context) {
    struct seen *seen = context;
    return accounts_get_role(tx, seen->who, see_role, seen);
}

static int list_roles(struct store_tx *tx, void *context) {
    return accounts_list_roles(tx, NULL, 1000, see_role, context);
}

static int look_role(struct store_world *world, const char *role, struct seen *ret_seen) {
    *ret_seen = (struct seen){.who = slice_from_cstr(role)};
    return store_run(world->store, STORE_READ, get_role, ret_seen);
}

static void test_roles_are_kept(enum store_world_kind kind) {
    struct store_world world;
    struct seen seen = {.n = 0};
    store_world_open(&world, kind);
    add_people(&world);
    CHECK_INT(look_role(&world, "READER", &seen), 0);
    CHECK_STR(slice_from_cstr(seen.rights),
              "{\"permissions\":[],\"operations\":["
              "{\"upstream\":\"db\",\"operation\":\"get_*\",\"access\":\"read\"}]}");
    CHECK_INT(seen.n_users, 1);
    CHECK_INT(look_role(&world, "none", &seen), ACCOUNTS_E_NONE);
    seen = (struct seen){.n = 0};
    CHECK_INT(store_run(world.store, STORE_READ, list_roles, &seen), 0);
    CHECK_INT(seen.n, 5);
    CHECK_STR(slice_from_cstr(seen.name), "reader");
    store_world_close(&world);
}
STORE_TEST(test_roles_are_kept)

static void test_system_roles_stay(enum store_world_kind kind) {
    static const struct slice names[] = {SLICE_INIT("administrator"), SLICE_INIT("operator"),
                                         SLICE_INIT("viewer"),
                                         SLICE_INIT("viewer0000000000000000")};
    static const struct slice groups[] = {SLICE_INIT("staff"), SLICE_INIT("staff")};
    struct store_world world;
    struct seen seen;
    store_world_open(&world, kind);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct ask ask = {.actor = owner, .who = names[i], .role = {.rights = SLICE("{}")}};
        CHECK_INT(run(&world, change_role, &ask), ACCOUNTS_E_DENIED);
        ask.role = (struct accounts_role_change){.name = SLICE("other")};
        CHECK_INT(run(&world, change_role, &ask), ACCOUNTS_E_DENIED);
        ask.role = (struct accounts_role_change){.description = SLICE("other")};
        CHECK_INT(run(&world, change_role, &ask), ACCOUNTS_E_DENIED);
        CHECK_INT(run(&world, delete_role, &ask), ACCOUNTS_E_DENIED);
        ask.role = (struct accounts_role_change){.groups = groups, .n_groups = 2};
        CHECK_INT(run(&world, change_role, &ask), 0);
    }
    CHECK_INT(look_role(&world, "viewer", &seen), 0);
    CHECK_STR(slice_from_cstr(seen.roles), "1");
    store_world_close(&world);
}
STORE_TEST(test_system_roles_stay)

/* What mia asks of roles. */
static const struct make_row {
    const char *what, *role; /* NULL: a new one */
    struct accounts_role_change change;
    int result;
} make_rows[] = {
    {"a role with all", NULL, {.rights = SLICE_INIT("{" ALL_OPERATIONS "}")}, ACCOUNTS_E_DENIED},
    {"a permission that she does not have",
     NULL,
     {.rights = SLICE_INIT("{\"permissions\":[\"users.write\"]}")},
     ACCOUNTS_E_DENIED},
    {"writing where she reads",
     NULL,
     {.rights = SLICE_INIT("{\"operations\":[{\"upstream\":\"db\",\"operation\":\"get_x\","
                           "\"access\":\"write\"}]}")},
     ACCOUNTS_E_DENIED},
    {"a wider pattern",
     NULL,
     {.rights = SLICE_INIT("{\"operations\":[{\"upstream\":\"db*\",\"operation\":\"get_x\","
                           "\"access\":\"read\"}]}")},
     ACCOUNTS_E_DENIED},
    {"a part of hers", NULL, {.rights = SLICE_INIT(READER)}, 0},
    {"hers", NULL, {.rights = SLICE_INIT(MAKER)}, 0},
    {"her own role upward",
     "maker",
     {.rights = SLICE_INIT("{" ALL_OPERATIONS "}")},
     ACCOUNTS_E_DENIED},
    {"another role upward",
     "reader",
     {.rights = SLICE_INIT("{" ALL_OPERATIONS "}")},
     ACCOUNTS_E_DENIED},
    {"another role within hers", "reader", {.rights = SLICE_INIT(MAKER)}, 0},
    {"her group an administrator",
     "administrator",
     {.groups = (const struct slice[]){SLICE_INIT("mine")}, .n_groups = 1},
     ACCOUNTS_E_DENIED},
    {"her group a viewer, who sees more",
     "viewer",
     {.groups = (const struct slice[]){SLICE_INIT("mine")}, .n_groups = 1},
     ACCOUNTS_E_DENIED},
    {"her group a maker",
     "maker",
     {.groups = (const struct slice[]){SLICE_INIT("mine")}, .n_groups = 1},
     0},
    {"a group without a name",
     "maker",
     {.groups = (const struct slice[]){SLICE_INIT("")}, .n_groups = 1},
     ACCOUNTS_E_WRONG},
    {"no role", "nothing", {.description = SLICE_INIT("x")}, ACCOUNTS_E_NONE},
};

/* Defect 4 again, by the way over a role. */
static void test_defect_4_roles_give_no_more(enum store_world_kind kind) {
    struct store_world world;
    struct seen memory;
    store_world_open(&world, kind);
    add_people(&world);
    struct accounts_actor mia = act_as(&world, "mia", &memory);
    for (size_t i = 0; i < ARRAY_LEN(make_rows); i++) {
        char name[16];
        struct ask ask = {
            .actor = mia, .who = slice_from_cstr(make_rows[i].role), .role = make_rows[i].change};
        test_row(make_rows[i].what);
        snprintf(name, sizeof name, "new%zu", i);
        if (make_rows[i].role == NULL)
            ask.role.name = slice_from_cstr(name);
        CHECK_INT(run(&world, make_rows[i].role == NULL ? add_role : change_role, &ask),
                  make_rows[i].result);
    }
    test_row("");
    seen_deinit(&memory);
    struct accounts_actor vera = act_as(&world, "vera", &memory);
    CHECK_INT(try_role(&world, vera, "mine", "{}"), ACCOUNTS_E_DENIED);
    struct ask ask = {.actor = vera, .who = SLICE("reader")};
    CHECK_INT(run(&world, delete_role, &ask), ACCOUNTS_E_DENIED);
    seen_deinit(&memory);
    store_world_close(&world);
}
STORE_TEST(test_defect_4_roles_give_no_more)

static void test_deleting_roles(enum store_world_kind kind) {
    struct store_world world;
    struct seen seen;
    store_world_open(&world, kind);
    add_people(&world);
    struct ask ask = {.actor = owner, .who = SLICE("reader")};
    CHECK_INT(run(&world, delete_role, &ask), ACCOUNTS_E_DENIED);
    struct ask gone = {.actor = owner, .who = SLICE("rita")};
    CHECK_INT(run(&world, delete_user, &gone), 0);
    ask.version = 7;
    CHECK_INT(run(&world, delete_role, &ask), ACCOUNTS_E_STALE);
    ask.version = 1;
    CHECK_INT(run(&world, delete_role, &ask), 0);
    CHECK_INT(look_role(&world, "reader", &seen), ACCOUNTS_E_NONE);
    struct ask change = {
        .actor = owner, .who = SLICE("maker"), .role = {.description = SLICE("one"), .version = 1}};
    CHECK_INT(run(&world, change_role, &change), 0);
    CHECK_INT(run(&world, change_role, &change), ACCOUNTS_E_STALE);
    store_world_close(&world);
}
STORE_TEST(test_deleting_roles)

/* --- tokens --- */

static int make_token(struct store_world *world, struct accounts_actor actor, const char *user,
                      const char *rights, struct ask *ret_ask) {
    *ret_ask = (struct ask){.actor = actor,
                            .token = {.user = slice_from_cstr(user),
                                      .name = SLICE("laptop"),
                                      .rights = slice_from_cstr(rights)}};
    return run(world, add_token, ret_ask);
}

struct found {
    struct slice token;
    char prefix[16], user[80];
    struct policy_rights *rights;
};

static bool see_token(void *context, const struct accounts_token *token) {
    struct found *found = context;
    snprintf(found->prefix, sizeof found->prefix, "%.*s", SLICE_ARGS(token->prefix));
    snprintf(found->user, sizeof found->user, "%.*s", SLICE_ARGS(token->user_name));
    return true;
}

static int find_token(struct store_tx *tx, void *context) {
    struct found *found = context;
    return accounts_find_token(tx, found->token, see_token, found, &found->rights);
}

static int find(struct store_world *world, const char *token, struct found *ret_found) {
    *ret_found = (struct found){.token = slice_from_cstr(token)};
    return store_run(world->store, STORE_READ, find_token, ret_found);
}

static bool may(struct store_world *world, const char *token, const char *operation,
                bool is_write) {
    struct found found;
    if (find(world, token, &found) != 0)
        return false;
    bool is_allowed =
        policy_rights_allow(found.rights, SLICE("db"), slice_from_cstr(operation), is_write);
    policy_rights_unref(found.rights);
    return is_allowed;
}

static int has_text(struct store_tx *tx, void *context) {
    struct ask *ask = context;
    struct store_rows *rows = NULL;
    int error = store_query(tx, "SELECT prefix, digest FROM tokens", NULL, 0, &rows);
    while (error == 0 && store_rows_next(rows)) {
        CHECK(slice_find(store_rows_text(rows, 1), slice_from_cstr(ask->text)) == SIZE_MAX);
        CHECK_INT(store_rows_text(rows, 1).len, 64);
        CHECK_SLICE(store_rows_text(rows, 0), slice_make(ask->text + 7, ACCOUNTS_PREFIX));
    }
    int end = store_rows_end(rows);
    return error != 0 ? error : end;
}

/* Defect 10: hashed, several of them, each with an end, and revocable. */
static void test_defect_10_tokens_are_hashed(enum store_world_kind kind) {
    struct store_world world;
    struct ask ask, other;
    struct found found;
    store_world_open(&world, kind);
    add_people(&world);
    CHECK_INT(make_token(&world, owner, "rita", "", &ask), 0);
    CHECK_INT(strlen(ask.text), ACCOUNTS_TOKEN);
    CHECK(slice_starts_with(slice_from_cstr(ask.text), SLICE("cardea_")));
    CHECK_INT(store_run(world.store, STORE_READ, has_text, &ask), 0);
    CHECK_INT(make_token(&world, owner, "rita", "", &other), 0);
    CHECK(strcmp(ask.text, other.text) != 0);
    CHECK_INT(find(&world, ask.text, &found), 0);
    CHECK_STR(slice_from_cstr(found.user), "rita");
    policy_rights_unref(found.rights);
    /* Each byte counts. */
    for (size_t i = 0; i < ACCOUNTS_TOKEN; i++) {
        char changed[ACCOUNTS_TOKEN + 1];
        memcpy(changed, ask.text, sizeof changed);
        changed[i] = changed[i] == 'A' ? 'B' : 'A';
        CHECK_INT(find(&world, changed, &found), ACCOUNTS_E_NONE);
    }
    struct ask revoke = {.actor = owner, .who = slice_from_cstr(ask.id)};
    CHECK_INT(run(&world, delete_token, &revoke), 0);
    CHECK_INT(run(&world, delete_token, &revoke), ACCOUNTS_E_NONE);
    CHECK(!may(&world, ask.text, "get_x", false));
    CHECK(may(&world, other.text, "get_x", false));
    store_world_close(&world);
}
STORE_TEST(test_defect_10_tokens_are_hashed)

static int end_tokens(struct store_tx *tx, void *context) {
    (void)context;
    return store_exec(tx, "UPDATE tokens SET expires_ms = created_ms + 1 WHERE expires_ms <> 0",
                      NULL, 0, NULL);
}

static const struct token_row {
    const char *what;
    struct slice name, rights;
    uint64_t days;
    int result;
} token_rows[] = {
    {"no name", SLICE_INIT(""), SLICE_INIT(""), 0, ACCOUNTS_E_WRONG},
    {"a name with a control", SLICE_INIT("a\x1b"), SLICE_INIT(""), 0, ACCOUNTS_E_WRONG},
    {"the longest life", SLICE_INIT("a"), SLICE_INIT(""), LIMIT_TOKEN_DAYS, 0},
    {"longer", SLICE_INIT("a"), SLICE_INIT(""), LIMIT_TOKEN_DAYS + 1, ACCOUNTS_E_WRONG},
    {"no rights", SLICE_INIT("a"), SLICE_INIT("[]"), 0, ACCOUNTS_E_WRONG},
    {"rights that give nothing", SLICE_INIT("a"), SLICE_INIT("{}"), 0, 0},
    {"more than the user", SLICE_INIT("a"), SLICE_INIT(MAKER), 0, ACCOUNTS_E_DENIED},
    {"all", SLICE_INIT("a"), SLICE_INIT("{" ALL_OPERATIONS "}"), 0, ACCOUNTS_E_DENIED},
};

static void test_token_rules(enum store_world_kind kind) {
    struct store_world world;
    struct ask ask;
    store_world_open(&world, kind);
    add_people(&world);
    for (size_t i = 0; i < ARRAY_LEN(token_rows); i++) {
        struct ask row = {.actor = owner,
                          .token = {.user = SLICE("rita"),
                                    .name = token_rows[i].name,
                                    .rights = token_rows[i].rights,
                                    .lifetime_ms = token_rows[i].days * 86400000}};
        test_row(token_rows[i].what);
        CHECK_INT(run(&world, add_token, &row), token_rows[i].result);
        if (row.text[0] != '\0' && token_rows[i].days != 0) {
            CHECK(may(&world, row.text, "get_x", false));
            CHECK_INT(store_run(world.store, STORE_WRITE, end_tokens, NULL), 0);
            CHECK(!may(&world, row.text, "get_x", false));
        }
    }
    test_row("");
    CHECK_INT(make_token(&world, owner, "nobody", "", &ask), ACCOUNTS_E_NONE);
    int made = 0;
    while (made < 200 && make_token(&world, owner, "vera", "", &ask) == 0)
        made++;
    CHECK_INT(made, LIMIT_USER_TOKENS);
    store_world_close(&world);
}
STORE_TEST(test_token_rules)

static void set_disabled(struct store_world *world, const char *user, int is_disabled) {
    struct ask ask = {.actor = owner, .who = slice_from_cstr(user), .user = no_change};
    ask.user.is_disabled = is_disabled;
    CHECK_INT(run(world, change_user, &ask), 0);
}

static void set_role(struct store_world *world, const char *user, const char *role) {
    struct slice roles[] = {slice_from_cstr(role)};
    struct ask ask = {.actor = owner, .who = slice_from_cstr(user), .user = no_change};
    ask.user.roles = roles;
    ask.user.n_roles = 1;
    CHECK_INT(run(world, change_user, &ask), 0);
}

/* Defects 3 and 9: a token is a person's, and gives what the person has now. */
static void test_defects_3_and_9_token_is_within_its_user(enum store_world_kind kind) {
    struct store_world world;
    struct ask whole, part;
    store_world_open(&world, kind);
    add_people(&world);
    set_role(&world, "rita", "operator");
    CHECK_INT(make_token(&world, owner, "rita", "", &whole), 0);
    CHECK_INT(make_token(&world, owner, "rita",
                         "{\"operations\":[{\"upstream\":\"db\",\"operation\":\"*_x\","
                         "\"access\":\"write\"}]}",
                         &part),
              0);
    CHECK(may(&world, whole.text, "put_x", true));
    CHECK(may(&world, part.text, "put_x", true));
    CHECK(!may(&world, part.text, "put_y", false));
    set_role(&world, "rita", "reader");
    CHECK(!may(&world, whole.text, "put_x", false));
    CHECK(!may(&world, part.text, "put_x", false));
    CHECK(may(&world, part.text, "get_x", false));
    CHECK(!may(&world, part.text, "get_x", true));
    CHECK(!may(&world, part.text, "get_y", false));
    set_disabled(&world, "rita", 1);
    CHECK(!may(&world, whole.text, "get_x", false));
    struct ask refused;
    CHECK_INT(make_token(&world, owner, "rita", "", &refused), ACCOUNTS_E_DENIED);
    set_disabled(&world, "rita", 0);
    CHECK(may(&world, whole.text, "get_x", false));
    struct ask gone = {.actor = owner, .who = SLICE("rita")};
    CHECK_INT(run(&world, delete_user, &gone), 0);
    CHECK(!may(&world, whole.text, "get_x", false));
    store_world_close(&world);
}
STORE_TEST(test_defects_3_and_9_token_is_within_its_user)

static void test_tokens_of_others(enum store_world_kind kind) {
    struct store_world world;
    struct seen mia_memory, vera_memory, root_memory;
    struct ask ask, token;
    store_world_open(&world, kind);
    add_people(&world);
    struct accounts_actor mia = act_as(&world, "mia", &mia_memory);
    struct accounts_actor vera = act_as(&world, "vera", &vera_memory);
    struct accounts_actor root = act_as(&world, "root", &root_memory);
    /* Whoever has no tokens.all. */
    CHECK_INT(make_token(&world, vera, "rita", "", &ask), ACCOUNTS_E_DENIED);
    CHECK_INT(make_token(&world, vera, "root", "", &ask), ACCOUNTS_E_DENIED);
    CHECK_INT(make_token(&world, vera, "vera", "", &ask), 0);
    /* Whoever has it, and less than the user. */
    CHECK_INT(make_token(&world, mia, "root", "", &ask), ACCOUNTS_E_DENIED);
    CHECK_INT(make_token(&world, mia, "vera", "", &ask), ACCOUNTS_E_DENIED);
    CHECK_INT(make_token(&world, mia, "root", "{" ALL_OPERATIONS "}", &ask), ACCOUNTS_E_DENIED);
    CHECK_INT(make_token(&world, mia, "root", READER, &ask), 0);
    /* One that somebody else has made does not grow. */
    CHECK_INT(make_token(&world, mia, "rita", "", &token), 0);
    CHECK(may(&world, token.text, "get_x", false));
    set_role(&world, "rita", "administrator");
    CHECK(!may(&world, token.text, "put_x", false));
    CHECK(!may(&world, token.text, "get_x", true));
    /* Ids of others: as if there were none. */
    struct ask revoke = {.actor = vera, .who = slice_from_cstr(token.id)};
    struct ask nothing = {.actor = vera, .who = SLICE("AAAAAAAAAAAAAAAAAAAAAA")};
    CHECK_INT(run(&world, delete_token, &revoke), ACCOUNTS_E_NONE);
    CHECK_INT(run(&world, delete_token, &nothing), ACCOUNTS_E_NONE);
    CHECK_STR(slice_from_cstr(revoke.reason), nothing.reason);
    nothing.who = SLICE("' OR '1'='1");
    CHECK_INT(run(&world, delete_token, &nothing), ACCOUNTS_E_NONE);
    CHECK(may(&world, token.text, "get_x", false));
    revoke.actor = root;
    CHECK_INT(run(&world, delete_token, &revoke), 0);
    CHECK(!may(&world, token.text, "get_x", false));
    seen_deinit(&mia_memory);
    seen_deinit(&vera_memory);
    seen_deinit(&root_memory);
    store_world_close(&world);
}
STORE_TEST(test_tokens_of_others)

/* A token that has little makes none that has more, nor for its own user. */
static void test_token_makes_no_greater_token(enum store_world_kind kind) {
    static const char small[] = "{\"permissions\":[\"tokens.own\"]}";
    struct store_world world;
    struct seen memory;
    struct found found;
    struct ask token, ask;
    store_world_open(&world, kind);
    add_people(&world);
    (void)act_as(&world, "mia", &memory);
    CHECK_INT(make_token(&world, owner, "mia", small, &token), 0);
    REQUIRE(find(&world, token.text, &found) == 0);
    struct accounts_actor actor = {.user = slice_from_cstr(memory.id), .rights = found.rights};
    CHECK_INT(make_token(&world, actor, "mia", "", &ask), ACCOUNTS_E_DENIED);
    CHECK_INT(make_token(&world, actor, "mia", READER, &ask), ACCOUNTS_E_DENIED);
    CHECK_INT(make_token(&world, actor, "rita", "{}", &ask), ACCOUNTS_E_DENIED);
    CHECK_INT(make_token(&world, actor, "mia", small, &ask), 0);
    /* make_token() asks for one without an end. */
    actor.until_ms = INT64_MAX;
    CHECK_INT(make_token(&world, actor, "mia", small, &ask), ACCOUNTS_E_DENIED);
    policy_rights_unref(found.rights);
    seen_deinit(&memory);
    store_world_close(&world);
}
STORE_TEST(test_token_makes_no_greater_token)

static bool count_token(void *context, const struct accounts_token *token) {
    struct seen *seen = context;
    seen->n++;
    snprintf(seen->place.id, sizeof seen->place.id, "%.*s", SLICE_ARGS(token->id));
    seen->place.created_ms = token->created_ms;
    seen->version = token->used_ms;
    return true;
}

struct page {
    struct seen seen;
    struct slice user;
    const struct accounts_place *after;
    size_t most;
};

static int list_tokens(struct store_tx *tx, void *context) {
    struct page *page = context;
    return accounts_list_tokens(tx, page->user, page->after, page->most, count_token, &page->seen);
}

static int note(struct store_tx *tx, void *context) {
    return accounts_note_uses(tx, context, 2);
}

static void test_listing_tokens(enum store_world_kind kind) {
    struct store_world world;
    struct ask ask;
    struct accounts_place after = {.created_ms = 0};
    int n = 0;
    store_world_open(&world, kind);
    add_people(&world);
    CHECK_INT(make_token(&world, owner, "vera", "", &ask), 0);
    for (int i = 0; i < 25; i++)
        CHECK_INT(make_token(&world, owner, "rita", "", &ask), 0);
    for (int i = 0; i < 10; i++) {
        struct page page = {.user = SLICE("rita"), .after = &after, .most = 4};
        CHECK_INT(store_run(world.store, STORE_READ, list_tokens, &page), 0);
        n += page.seen.n;
        after = page.seen.place;
        if (page.seen.n == 0)
            break;
    }
    CHECK_INT(n, 25);
    struct page all = {.user = SLICE_EMPTY, .most = 1000};
    CHECK_INT(store_run(world.store, STORE_READ, list_tokens, &all), 0);
    CHECK_INT(all.seen.n, 26);
    struct page none = {.user = SLICE("nobody"), .most = 1000};
    CHECK_INT(store_run(world.store, STORE_READ, list_tokens, &none), ACCOUNTS_E_NONE);
    /* A page begins behind a place, whether or not something is there. */
    const struct accounts_place early = {.created_ms = 1, .id = "AAAAAAAAAAAAAAAAAAAAAA"};
    const struct accounts_place late = {.created_ms = INT64_MAX, .id = "AAAAAAAAAAAAAAAAAAAAAA"};
    struct page behind = {.after = &early, .most = 1000};
    CHECK_INT(store_run(world.store, STORE_READ, list_tokens, &behind), 0);
    CHECK_INT(behind.seen.n, 26);
    behind = (struct page){.after = &late, .most = 1000};
    CHECK_INT(store_run(world.store, STORE_READ, list_tokens, &behind), 0);
    CHECK_INT(behind.seen.n, 0);
    /* Uses come late and out of order; a token that is gone is no error. */
    struct accounts_use uses[2] = {{.used_ms = 5000}, {.used_ms = 4000}};
    memcpy(uses[0].id, all.seen.place.id, sizeof uses[0].id);
    memcpy(uses[1].id, all.seen.place.id, sizeof uses[1].id);
    CHECK_INT(store_run(world.store, STORE_WRITE, note, uses), 0);
    CHECK_INT(store_run(world.store, STORE_READ, list_tokens, &all), 0);
    CHECK_INT(all.seen.version, 5000);
    memcpy(uses[1].id, "AAAAAAAAAAAAAAAAAAAAAA", sizeof uses[1].id);
    CHECK_INT(store_run(world.store, STORE_WRITE, note, uses), 0);
    all.seen.n = 0;
    CHECK_INT(store_run(world.store, STORE_READ, list_tokens, &all), 0);
    CHECK_INT(all.seen.version, 5000);
    store_world_close(&world);
}
STORE_TEST(test_listing_tokens)

#define BOTH(test) TEST(test##_sqlite), TEST(test##_postgres)
TEST_MAIN(BOTH(test_role_rules), BOTH(test_roles_are_kept), BOTH(test_system_roles_stay),
          BOTH(test_defect_4_roles_give_no_more), BOTH(test_deleting_roles),
          BOTH(test_defect_10_tokens_are_hashed), BOTH(test_token_rules),
          BOTH(test_defects_3_and_9_token_is_within_its_user), BOTH(test_tokens_of_others),
          BOTH(test_token_makes_no_greater_token), BOTH(test_listing_tokens))
