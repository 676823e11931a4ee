/* A store with people in it, for the tests of users, roles and tokens: each operation as work of
 * its own transaction, asked by somebody. */
#pragma once

#include "accounts/accounts.h"
#include "accounts/password.h"
#include "store_world.h"

/* "two owls read old maps" with 8 KiB: cheap, and never compared. */
#define A_HASH                                                                                     \
    "$argon2id$v=19$m=19456,t=2,p=1$LxFNjQOD+ya4YtRoa6HAlg$"                                       \
    "aMwsYg8GwkuMIEujI6HGWMlGO7TNVX4MLwr0e9R3/p8"

/* One operation: what goes in, and what came out. */
struct ask {
    struct accounts_actor actor;
    struct slice who; /* which user, role, token */
    struct accounts_user_change user;
    struct accounts_role_change role;
    struct accounts_token_new token;
    uint64_t version;
    char id[ACCOUNTS_ID + 1], text[ACCOUNTS_TOKEN + 1];
    char reason[256];
};

static const struct accounts_actor owner = {.is_owner = true};
static const struct accounts_user_change no_change = {.is_disabled = -1, .must_change = -1};

#define WORK(name, call)                                                                           \
    MAYBE_UNUSED static int name(struct store_tx *tx, void *context) {                             \
        struct ask *ask = context;                                                                 \
        struct buf reason = BUF_INIT(sizeof ask->reason - 1);                                      \
        int error = call;                                                                          \
        snprintf(ask->reason, sizeof ask->reason, "%.*s", SLICE_ARGS(buf_slice(&reason)));         \
        buf_deinit(&reason);                                                                       \
        return error;                                                                              \
    }
WORK(add_user, accounts_add_user(tx, &ask->actor, &ask->user, ask->id, &reason))
WORK(change_user, accounts_change_user(tx, &ask->actor, ask->who, &ask->user, &reason))
WORK(delete_user, accounts_delete_user(tx, &ask->actor, ask->who, ask->version, &reason))
WORK(add_role, accounts_add_role(tx, &ask->actor, &ask->role, ask->id, &reason))
WORK(change_role, accounts_change_role(tx, &ask->actor, ask->who, &ask->role, &reason))
WORK(delete_role, accounts_delete_role(tx, &ask->actor, ask->who, ask->version, &reason))
WORK(add_token, accounts_add_token(tx, &ask->actor, &ask->token, ask->id, ask->text, &reason))
WORK(delete_token, accounts_delete_token(tx, &ask->actor, ask->who, &reason))

MAYBE_UNUSED static int run(struct store_world *world, store_work_fn *work, struct ask *ask) {
    int error = store_run(world->store, STORE_WRITE, work, ask);
    /* Whatever is refused is said; nothing is said of what is done. */
    CHECK((error >= STORE_E_USER) == (ask->reason[0] != '\0'));
    return error;
}

/* --- people --- */

MAYBE_UNUSED static int try_user(struct store_world *world, struct accounts_actor actor,
                                 const char *name, const char *role, struct ask *ret_ask) {
    struct slice roles[] = {slice_from_cstr(role)};
    struct ask ask = {.actor = actor, .user = no_change};
    ask.user.name = slice_from_cstr(name);
    ask.user.roles = roles;
    ask.user.n_roles = role != NULL;
    int error = run(world, add_user, &ask);
    if (ret_ask != NULL)
        *ret_ask = ask;
    return error;
}

MAYBE_UNUSED static void must_user(struct store_world *world, const char *name, const char *role) {
    struct ask ask;
    CHECK_INT(try_user(world, owner, name, role, &ask), 0);
}

MAYBE_UNUSED static int try_role(struct store_world *world, struct accounts_actor actor,
                                 const char *name, const char *rights) {
    struct ask ask = {.actor = actor,
                      .role = {.name = slice_from_cstr(name), .rights = slice_from_cstr(rights)}};
    return run(world, add_role, &ask);
}

struct seen {
    int n;
    struct ask ask;
    char id[ACCOUNTS_ID + 1], name[80], roles[512];
    struct accounts_place place;
    struct slice who, search;
    size_t most;
    bool is_disabled, must_change, has_password;
    uint64_t version, n_users;
    char rights[4096];
    struct policy_rights *sum;
};

MAYBE_UNUSED static bool see_user(void *context, const struct accounts_user *user) {
    struct seen *seen = context;
    seen->n++;
    snprintf(seen->id, sizeof seen->id, "%.*s", SLICE_ARGS(user->id));
    snprintf(seen->name, sizeof seen->name, "%.*s", SLICE_ARGS(user->name));
    seen->roles[0] = '\0';
    for (size_t i = 0; i < user->n_roles; i++) {
        size_t len = strlen(seen->roles);
        snprintf(seen->roles + len, sizeof seen->roles - len, "%s%.*s", i != 0 ? "," : "",
                 SLICE_ARGS(user->roles[i]));
    }
    seen->is_disabled = user->is_disabled;
    seen->must_change = user->must_change;
    seen->has_password = user->has_password;
    seen->version = user->version;
    return true;
}

static int get_user(struct store_tx *tx, void *context) {
    struct seen *seen = context;
    return accounts_get_user(tx, seen->who, see_user, seen);
}

MAYBE_UNUSED static int look(struct store_world *world, const char *user, struct seen *ret_seen) {
    *ret_seen = (struct seen){.who = slice_from_cstr(user)};
    return store_run(world->store, STORE_READ, get_user, ret_seen);
}

static int get_rights(struct store_tx *tx, void *context) {
    struct seen *seen = context;
    return accounts_user_rights(tx, seen->who, &seen->sum);
}

/* Somebody who asks with what their roles give now; the caller unrefs the rights. */
MAYBE_UNUSED static struct accounts_actor act_as(struct store_world *world, const char *user,
                                                 struct seen *memory) {
    if (look(world, user, memory) != 0 ||
        store_run(world->store, STORE_READ, get_rights, memory) != 0)
        CANNOT_GO_ON();
    return (struct accounts_actor){.user = slice_from_cstr(memory->id), .rights = memory->sum};
}

MAYBE_UNUSED static void seen_deinit(struct seen *seen) {
    seen->sum = policy_rights_unref(seen->sum);
}
