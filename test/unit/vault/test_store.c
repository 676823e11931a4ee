/* Secrets in the store, and keys that change while others read and write: in both databases. */
#include <pthread.h>

#include "store_world.h"
#include "vault/vault.h"

/* Patterns, so that nobody takes them for keys. */
#define A "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUI="
#define B "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkM="
#define C "Q0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0NDQ0Q="

static struct vault *keys(const char *text) {
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    struct secret *value CLEANUP(secret_freep) = NULL;
    struct vault *vault = NULL;
    if (secret_new(slice_from_cstr(text), &value) != 0)
        CANNOT_GO_ON();
    struct vault_options options = {.data_dir = "/nonexistent", .environment = value};
    if (vault_open(&options, &vault, &reason) != 0)
        CANNOT_GO_ON();
    return vault;
}

/* --- one call each --- */

struct call {
    const struct vault *vault;
    struct slice name, plain;
    struct secret *got;
    char id[VAULT_KEY_ID + 1];
    bool has;
};

static int work_put(struct store_tx *tx, void *context) {
    struct call *call = context;
    return vault_put(tx, call->vault, call->name, call->plain);
}

static int work_get(struct store_tx *tx, void *context) {
    struct call *call = context;
    call->got = secret_free(call->got);
    return vault_get(tx, call->vault, call->name, &call->got);
}

static int work_delete(struct store_tx *tx, void *context) {
    struct call *call = context;
    return vault_delete(tx, call->name);
}

static int work_has(struct store_tx *tx, void *context) {
    struct call *call = context;
    return vault_has(tx, call->name, &call->has);
}

static int work_current(struct store_tx *tx, void *context) {
    struct call *call = context;
    return vault_current_key(tx, call->id);
}

static int put(struct store_world *world, const struct vault *vault, const char *name,
               const char *plain) {
    struct call call = {
        .vault = vault, .name = slice_from_cstr(name), .plain = slice_from_cstr(plain)};
    return store_run(world->store, STORE_WRITE, work_put, &call);
}

/* 0 and the right value; else what went wrong; -EBADMSG for another value. */
static int get(struct store_world *world, const struct vault *vault, const char *name,
               const char *expected) {
    struct call call = {.vault = vault, .name = slice_from_cstr(name)};
    int error = store_run(world->store, STORE_READ, work_get, &call);
    if (error == 0 && !secret_equals(call.got, slice_from_cstr(expected)))
        error = -EBADMSG;
    secret_free(call.got);
    return error;
}

static bool is_current(struct store_world *world, const struct vault *vault, size_t i) {
    struct call call = {.vault = vault};
    char id[VAULT_KEY_ID + 1];
    if (store_run(world->store, STORE_READ, work_current, &call) != 0)
        return false;
    vault_key_id(vault, i, id);
    return strcmp(id, call.id) == 0;
}

struct listed {
    const struct vault *vault;
    size_t n, n_unopened;
    char names[1024];
    uint64_t created_ms, updated_ms;
};

static void list_one(void *context, const struct vault_listed *one) {
    struct listed *listed = context;
    size_t used = strlen(listed->names);
    listed->n++;
    listed->n_unopened += one->key[0] == '\0';
    listed->created_ms = one->created_ms;
    listed->updated_ms = one->updated_ms;
    snprintf(listed->names + used, sizeof listed->names - used, "%.*s ", SLICE_ARGS(one->name));
}

static int work_list(struct store_tx *tx, void *context) {
    struct listed *listed = context;
    listed->n = listed->n_unopened = 0;
    listed->names[0] = '\0';
    return vault_list(tx, listed->vault, list_one, listed);
}

static struct listed list(struct store_world *world, const struct vault *vault) {
    struct listed listed = {.vault = vault};
    CHECK_INT(store_run(world->store, STORE_READ, work_list, &listed), 0);
    return listed;
}

static int reseal(struct store_world *world, const struct vault *vault, uint64_t n_done,
                  uint64_t n_left) {
    struct vault_resealed resealed = {.n_done = 99, .n_left = 99};
    int error = vault_reseal(world->store, vault, false, &resealed);
    CHECK_INT(resealed.n_done, error == 0 ? n_done : 99);
    CHECK_INT(resealed.n_left, error == 0 ? n_left : 99);
    CHECK(!resealed.is_cluster_left);
    return error;
}

/* --- by name --- */

static void test_names(enum store_world_kind kind) {
    struct store_world world;
    struct vault *vault CLEANUP(vault_freep) = keys(A);
    store_world_open(&world, kind);
    CHECK_INT(get(&world, vault, "none", ""), VAULT_E_NONE);
    CHECK_INT(put(&world, vault, "b", "of b"), 0);
    CHECK_INT(put(&world, vault, "a", "of a"), 0);
    CHECK_INT(put(&world, vault, "b", "of b again"), 0);
    CHECK_INT(put(&world, vault, "empty", ""), 0);
    CHECK_INT(put(&world, vault, "a/b", "x"), -EINVAL);
    CHECK_INT(put(&world, vault, "", "x"), -EINVAL);
    CHECK_INT(get(&world, vault, "a", "of a"), 0);
    CHECK_INT(get(&world, vault, "b", "of b again"), 0);
    CHECK_INT(get(&world, vault, "empty", ""), 0);
    CHECK_INT(get(&world, vault, "a/b", ""), VAULT_E_NONE);
    struct listed listed = list(&world, vault);
    CHECK_STR(slice_from_cstr(listed.names), "a b empty ");
    CHECK_INT(listed.n_unopened, 0);
    listed = list(&world, NULL); /* without keys: names alone */
    CHECK_INT(listed.n, 3);
    CHECK_INT(listed.n_unopened, 3);
    struct call call = {.name = SLICE("b")};
    CHECK_INT(store_run(world.store, STORE_READ, work_has, &call), 0);
    CHECK(call.has);
    CHECK_INT(store_run(world.store, STORE_WRITE, work_delete, &call), 0);
    CHECK_INT(store_run(world.store, STORE_WRITE, work_delete, &call), VAULT_E_NONE);
    CHECK_INT(store_run(world.store, STORE_READ, work_has, &call), 0);
    CHECK(!call.has);
    CHECK_INT(get(&world, vault, "b", ""), VAULT_E_NONE);
    store_world_close(&world);
}
STORE_TEST(test_names)

static int work_move(struct store_tx *tx, void *context) {
    (void)context;
    return store_exec(tx,
                      "UPDATE sealed SET token = (SELECT token FROM sealed WHERE kind = 'secret'"
                      " AND name = 'a') WHERE kind = 'secret' AND name = 'b'",
                      NULL, 0, NULL);
}

/* Whoever can write to the database, but has no key, does not get the value of one secret out under
 * the name of another, which may be sent elsewhere. */
static void test_moved_row(enum store_world_kind kind) {
    struct store_world world;
    struct vault *vault CLEANUP(vault_freep) = keys(A);
    struct vault *both CLEANUP(vault_freep) = keys(B "," A);
    store_world_open(&world, kind);
    CHECK_INT(put(&world, vault, "a", "of a"), 0);
    CHECK_INT(put(&world, vault, "b", "of b"), 0);
    CHECK_INT(store_run(world.store, STORE_WRITE, work_move, NULL), 0);
    CHECK_INT(get(&world, vault, "a", "of a"), 0);
    CHECK_INT(get(&world, vault, "b", ""), VAULT_E_MOVED);
    CHECK_INT(list(&world, vault).n_unopened, 1);
    CHECK_INT(reseal(&world, both, 1, 1), 0); /* a rotation does not make it right */
    CHECK_INT(get(&world, both, "b", ""), VAULT_E_MOVED);
    CHECK_INT(put(&world, both, "b", "anew"), 0);
    CHECK_INT(reseal(&world, both, 0, 0), 0);
    store_world_close(&world);
}
STORE_TEST(test_moved_row)

/* --- keys --- */

/* A key in front is not used before the store knows of it: instances that do not have it yet go on
 * reading what those that have it write. */
static void test_current_key(enum store_world_kind kind) {
    struct store_world world;
    struct vault *old CLEANUP(vault_freep) = keys(A);
    struct vault *both CLEANUP(vault_freep) = keys(B "," A);
    struct vault *new CLEANUP(vault_freep) = keys(B);
    store_world_open(&world, kind);
    CHECK_INT(put(&world, old, "a", "1"), 0);
    CHECK(is_current(&world, old, 0));
    CHECK_INT(put(&world, both, "b", "2"), 0);
    CHECK_INT(get(&world, old, "b", "2"), 0);
    CHECK_INT(put(&world, new, "c", "3"), VAULT_E_STALE);
    CHECK_INT(get(&world, new, "a", ""), VAULT_E_TOKEN);
    CHECK_INT(reseal(&world, both, 2, 0), 0);
    CHECK(is_current(&world, new, 0));
    CHECK_INT(put(&world, old, "a", "lost"), VAULT_E_STALE);
    CHECK_INT(get(&world, old, "a", ""), VAULT_E_TOKEN);
    CHECK_INT(get(&world, new, "a", "1"), 0);
    CHECK_INT(get(&world, new, "b", "2"), 0);
    CHECK_INT(put(&world, new, "c", "3"), 0);
    store_world_close(&world);
}
STORE_TEST(test_current_key)

static void test_many(enum store_world_kind kind) {
    enum { N = 50 }; /* some transactions, the last one not full */
    struct store_world world;
    struct vault *old CLEANUP(vault_freep) = keys(A);
    struct vault *both CLEANUP(vault_freep) = keys(B "," A);
    struct vault *new CLEANUP(vault_freep) = keys(B);
    char name[16];
    store_world_open(&world, kind);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "s%d", i);
        CHECK_INT(put(&world, old, name, name), 0);
    }
    struct listed before = list(&world, old);
    CHECK_INT(reseal(&world, both, N, 0), 0);
    CHECK_INT(reseal(&world, both, 0, 0), 0);
    struct listed after = list(&world, new);
    CHECK_INT(after.n, N);
    CHECK_INT(after.n_unopened, 0);
    CHECK_INT(after.created_ms, before.created_ms);
    CHECK_INT(after.updated_ms, before.updated_ms); /* the secret is the same */
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "s%d", i);
        CHECK_INT(get(&world, new, name, name), 0);
    }
    store_world_close(&world);
}
STORE_TEST(test_many)

/* A batch of exactly the size of a transaction, and none at all. */
static void test_borders(enum store_world_kind kind) {
    struct store_world world;
    struct vault *old CLEANUP(vault_freep) = keys(A);
    struct vault *both CLEANUP(vault_freep) = keys(B "," A);
    struct vault *third CLEANUP(vault_freep) = keys(C "," B);
    char name[16];
    store_world_open(&world, kind);
    CHECK_INT(reseal(&world, old, 0, 0), 0);
    CHECK(is_current(&world, old, 0));
    for (int i = 0; i < 16; i++) {
        snprintf(name, sizeof name, "s%02d", i);
        CHECK_INT(put(&world, old, name, name), 0);
    }
    CHECK_INT(reseal(&world, both, 16, 0), 0);
    CHECK_INT(put(&world, both, "s16", "s16"), 0);
    CHECK_INT(reseal(&world, third, 17, 0), 0);
    store_world_close(&world);
}
STORE_TEST(test_borders)

/* A rotation that was stopped for a while comes back with an older file: it does not make a key the
 * current one that the newer rotation has dropped. */
static void test_overtaken(enum store_world_kind kind) {
    struct store_world world;
    struct vault *first CLEANUP(vault_freep) = keys(B "," A);
    struct vault *second CLEANUP(vault_freep) = keys(C "," B "," A);
    struct vault *old CLEANUP(vault_freep) = keys(A);
    store_world_open(&world, kind);
    CHECK_INT(put(&world, old, "a", "1"), 0);
    CHECK_INT(reseal(&world, second, 1, 0), 0);
    CHECK_INT(reseal(&world, first, 0, 0), VAULT_E_STALE);
    CHECK(is_current(&world, second, 0));
    CHECK_INT(get(&world, second, "a", "1"), 0);
    store_world_close(&world);
}
STORE_TEST(test_overtaken)

/* Keys that are gone for good: what they have locked can be deleted, and then it goes on. */
static void test_lost(enum store_world_kind kind) {
    struct store_world world;
    struct vault *lost CLEANUP(vault_freep) = keys(A);
    struct vault *now CLEANUP(vault_freep) = keys(B);
    store_world_open(&world, kind);
    CHECK_INT(put(&world, lost, "a", "1"), 0);
    CHECK_INT(put(&world, now, "b", "2"), VAULT_E_STALE);
    CHECK_INT(reseal(&world, now, 0, 0), VAULT_E_STALE);
    struct call call = {.name = SLICE("a")};
    CHECK_INT(store_run(world.store, STORE_WRITE, work_delete, &call), 0);
    CHECK_INT(reseal(&world, now, 0, 0), 0);
    CHECK_INT(put(&world, now, "b", "2"), 0);
    CHECK_INT(get(&world, now, "b", "2"), 0);
    store_world_close(&world);
}
STORE_TEST(test_lost)

/* --- the key of the cluster --- */

static int work_cluster(struct store_tx *tx, void *context) {
    struct call *call = context;
    call->got = secret_free(call->got);
    return vault_cluster_key(tx, call->vault, &call->got);
}

static int work_make_cluster(struct store_tx *tx, void *context) {
    struct call *call = context;
    call->got = secret_free(call->got);
    return vault_make_cluster_key(tx, call->vault, &call->got);
}

/* NULL: there is none, or it went wrong as expected. */
static struct secret *cluster_key(struct store_world *world, const struct vault *vault, bool makes,
                                  int expected) {
    struct call call = {.vault = vault};
    CHECK_INT(store_run(world->store, makes ? STORE_WRITE : STORE_READ,
                        makes ? work_make_cluster : work_cluster, &call),
              expected);
    return call.got;
}

static bool same(struct secret *a, struct secret *b) {
    bool is_same = a != NULL && b != NULL && secret_equals(a, secret_reveal(b));
    secret_free(b);
    return is_same;
}

static int work_is_empty(struct store_tx *tx, void *context) {
    bool *is_empty = context; /* for whoever forgets, and for others */
    int error = vault_is_empty(tx, true, &is_empty[0]);
    return error == 0 ? vault_is_empty(tx, false, &is_empty[1]) : error;
}

static void test_cluster(enum store_world_kind kind) {
    struct store_world world;
    struct vault *old CLEANUP(vault_freep) = keys(A);
    struct vault *both CLEANUP(vault_freep) = keys(B "," A);
    struct vault *new CLEANUP(vault_freep) = keys(B);
    struct vault_resealed resealed;
    bool is_empty[2];
    store_world_open(&world, kind);
    CHECK(cluster_key(&world, old, false, VAULT_E_NONE) == NULL);
    struct secret *key CLEANUP(secret_freep) = cluster_key(&world, old, true, 0);
    REQUIRE(key != NULL && secret_reveal(key).len == VAULT_CLUSTER_KEY);
    CHECK(same(key, cluster_key(&world, old, true, 0)));
    CHECK(same(key, cluster_key(&world, both, false, 0)));
    CHECK(cluster_key(&world, new, true, VAULT_E_TOKEN) == NULL);
    CHECK_INT(list(&world, old).n, 0); /* it is no secret by name */
    CHECK_INT(store_run(world.store, STORE_READ, work_is_empty, is_empty), 0);
    CHECK(is_empty[0] && !is_empty[1]);
    CHECK_INT(reseal(&world, both, 0, 0), 0);
    CHECK(same(key, cluster_key(&world, new, false, 0)));
    CHECK(cluster_key(&world, old, false, VAULT_E_TOKEN) == NULL);
    /* Its key is lost: it stays, until somebody says that it may go. Secrets never go so. */
    CHECK_INT(vault_reseal(world.store, old, false, &resealed), VAULT_E_STALE);
    CHECK_INT(put(&world, new, "a", "1"), 0);
    CHECK_INT(vault_reseal(world.store, old, true, &resealed), VAULT_E_STALE);
    CHECK(same(key, cluster_key(&world, new, false, 0)));
    struct call call = {.name = SLICE("a")};
    CHECK_INT(store_run(world.store, STORE_WRITE, work_delete, &call), 0);
    CHECK_INT(vault_reseal(world.store, old, true, &resealed), 0);
    CHECK(cluster_key(&world, old, false, VAULT_E_NONE) == NULL);
    struct secret *other CLEANUP(secret_freep) = cluster_key(&world, old, true, 0);
    CHECK(same(other, cluster_key(&world, old, false, 0)));
    CHECK(other != NULL && !secret_equals(other, secret_reveal(key)));
    store_world_close(&world);
}
STORE_TEST(test_cluster)

static int work_damage(struct store_tx *tx, void *context) {
    static const char sql[] =
        "UPDATE sealed SET token = (SELECT token FROM sealed WHERE name = 'a')"
        " WHERE kind = 'cluster'";
    (void)context;
    return store_exec(tx, sql, NULL, 0, NULL);
}

/* Somebody with access to the store puts a token there that our key opens. */
static void test_cluster_moved(enum store_world_kind kind) {
    struct store_world world;
    struct vault *vault CLEANUP(vault_freep) = keys(A);
    struct vault_resealed resealed;
    store_world_open(&world, kind);
    secret_free(cluster_key(&world, vault, true, 0));
    CHECK_INT(put(&world, vault, "a", "thirty-two bytes of their choice"), 0);
    CHECK_INT(store_run(world.store, STORE_WRITE, work_damage, NULL), 0);
    CHECK(cluster_key(&world, vault, true, VAULT_E_MOVED) == NULL);
    CHECK_INT(vault_reseal(world.store, vault, false, &resealed), 0);
    CHECK(resealed.is_cluster_left && resealed.n_left == 0);
    CHECK_INT(vault_reseal(world.store, vault, true, &resealed), 0);
    CHECK(!resealed.is_cluster_left);
    secret_free(cluster_key(&world, vault, true, 0));
    CHECK_INT(get(&world, vault, "a", "thirty-two bytes of their choice"), 0);
    store_world_close(&world);
}
STORE_TEST(test_cluster_moved)

struct starter {
    struct store_world *world;
    pthread_t thread;
    struct secret *key;
};

static void *start_one(void *context) {
    struct starter *starter = context;
    struct vault *vault = keys(A);
    starter->key = cluster_key(starter->world, vault, true, 0);
    vault_free(vault);
    return NULL;
}

static void test_cluster_at_once(enum store_world_kind kind) {
    enum { STARTERS = 8 };
    struct store_world world;
    struct starter starters[STARTERS];
    store_world_open(&world, kind);
    for (int i = 0; i < STARTERS; i++) {
        starters[i] = (struct starter){.world = &world};
        if (pthread_create(&starters[i].thread, NULL, start_one, &starters[i]) != 0)
            CANNOT_GO_ON();
    }
    for (int i = 0; i < STARTERS; i++)
        pthread_join(starters[i].thread, NULL);
    for (int i = 1; i < STARTERS; i++)
        CHECK(same(starters[0].key, starters[i].key));
    secret_free(starters[0].key);
    store_world_close(&world);
}
STORE_TEST(test_cluster_at_once)

/* --- rotation while others write --- */

enum { WRITES = 60, WRITERS = 2 };

struct writer {
    struct store_world *world;
    pthread_t thread;
    int number;
    int result; /* the first error that should not be */
    int n_stale;
};

/* As a gateway does: when its keys are old, it opens the vault again. */
static void *write_on(void *context) {
    struct writer *writer = context;
    struct vault *vault = keys(A);
    char name[16], plain[16];
    for (int i = 0; i < WRITES && writer->result == 0; i++) {
        snprintf(name, sizeof name, "w%d.%d", writer->number, i % 7);
        snprintf(plain, sizeof plain, "%d", i);
        int error = put(writer->world, vault, name, plain);
        if (error == VAULT_E_STALE) {
            writer->n_stale++;
            vault_free(vault);
            vault = keys(C "," B "," A);
            error = put(writer->world, vault, name, plain);
        }
        writer->result = error;
    }
    vault_free(vault);
    return NULL;
}

static void test_under_load(enum store_world_kind kind) {
    struct store_world world;
    struct writer writers[WRITERS];
    struct vault *first CLEANUP(vault_freep) = keys(B "," A);
    struct vault *second CLEANUP(vault_freep) = keys(C "," B);
    struct vault *last CLEANUP(vault_freep) = keys(C);
    struct vault_resealed resealed = {.n_left = 1};
    store_world_open(&world, kind);
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.world = &world, .number = i};
        if (pthread_create(&writers[i].thread, NULL, write_on, &writers[i]) != 0)
            CANNOT_GO_ON();
    }
    CHECK_INT(vault_reseal(world.store, first, false, &resealed), 0);
    CHECK_INT(resealed.n_left, 0);
    CHECK_INT(vault_reseal(world.store, second, false, &resealed), 0);
    CHECK_INT(resealed.n_left,
              0); /* nobody wrote under the first key behind the first rotation's back */
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(writers[i].thread, NULL);
        CHECK_INT(writers[i].result, 0);
    }
    CHECK_INT(list(&world, last).n_unopened, 0);
    for (int i = 0; i < WRITERS; i++) {
        for (int n = WRITES - 7; n < WRITES; n++) {
            char name[16], plain[16];
            snprintf(name, sizeof name, "w%d.%d", i, n % 7);
            snprintf(plain, sizeof plain, "%d", n);
            CHECK_INT(get(&world, last, name, plain), 0);
        }
    }
    store_world_close(&world);
}
STORE_TEST(test_under_load)

TEST_MAIN(TEST(test_names_sqlite), TEST(test_names_postgres), TEST(test_moved_row_sqlite),
          TEST(test_moved_row_postgres), TEST(test_current_key_sqlite),
          TEST(test_current_key_postgres), TEST(test_many_sqlite), TEST(test_many_postgres),
          TEST(test_borders_sqlite), TEST(test_borders_postgres), TEST(test_overtaken_sqlite),
          TEST(test_overtaken_postgres), TEST(test_lost_sqlite), TEST(test_lost_postgres),
          TEST(test_cluster_sqlite), TEST(test_cluster_postgres), TEST(test_cluster_moved_sqlite),
          TEST(test_cluster_moved_postgres), TEST(test_cluster_at_once_sqlite),
          TEST(test_cluster_at_once_postgres), TEST(test_under_load_sqlite),
          TEST(test_under_load_postgres))
