/* Private files of a data directory: who may open what where, and what becomes of those of before.
 */
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "test.h"
#include "vault/vault.h"

/* Patterns, so that nobody takes them for keys. */
#define A "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUI="
#define B "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkM="

struct world {
    char dir[64];
    struct secret *environment;
    struct vault_place place;
    struct sealing sealing;
    struct buf reason;
};

static void world_use(struct world *world, const char *keys) {
    world->environment = secret_free(world->environment);
    if (keys != NULL && secret_new(slice_from_cstr(keys), &world->environment) != 0)
        CANNOT_GO_ON();
    world->place.options =
        (struct vault_options){.data_dir = world->dir, .environment = world->environment};
    world->sealing = vault_sealing(&world->place);
    buf_reset(&world->reason, 0);
}

static void world_open(struct world *world, const char *keys) {
    *world = (struct world){.reason = BUF_INIT(KIB(8))};
    snprintf(world->dir, sizeof world->dir, "/tmp/cardea-files-XXXXXX");
    if (mkdtemp(world->dir) == NULL)
        CANNOT_GO_ON();
    world_use(world, keys);
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at) {
    (void)info, (void)kind, (void)at;
    return remove(path);
}

static void world_close(struct world *world) {
    secret_free(world->environment);
    buf_deinit(&world->reason);
    (void)nftw(world->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Valid until the fourth call behind it. */
static const char *path_in(const struct world *world, const char *name) {
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % 4];
    (void)snprintf(path, sizeof paths[0], "%s/%s", world->dir, name);
    return path;
}

static void write_in(const struct world *world, const char *name, struct slice content,
                     mode_t mode) {
    FILE *file = fopen(path_in(world, name), "wb");
    if (file == NULL || fwrite(content.ptr, 1, content.len, file) != content.len ||
        fclose(file) != 0 || chmod(path_in(world, name), mode) != 0)
        CANNOT_GO_ON();
}

static struct slice read_in(const struct world *world, const char *name, char out[4096]) {
    FILE *file = fopen(path_in(world, name), "rb");
    if (file == NULL)
        return SLICE_EMPTY;
    size_t n = fread(out, 1, 4096, file);
    (void)fclose(file);
    return slice_make(out, n);
}

static bool says(const struct world *world, const char *word) {
    return slice_find(buf_slice(&world->reason), slice_from_cstr(word)) != SIZE_MAX;
}

/* --- one at a time --- */

static int keep(void *context, struct slice content) {
    struct buf *out = context;
    return buf_append(out, content);
}

static int fail_to_write(void *context, struct slice content) {
    (void)context, (void)content;
    return -ENOSPC;
}

static int seal(struct world *world, struct slice name, struct slice plain, struct buf *out) {
    buf_reset(&world->reason, 0);
    buf_reset(out, 0);
    return world->sealing.seal(world->sealing.context, name, plain, keep, out, &world->reason);
}

/* SEALING_E_REFUSED, or whether it is that: -EBADMSG. */
static int opens_as(struct world *world, struct slice name, struct slice content,
                    struct slice plain) {
    struct secret *got CLEANUP(secret_freep) = NULL;
    buf_reset(&world->reason, 0);
    int error = world->sealing.open(world->sealing.context, name, content, &got, &world->reason);
    CHECK((error == SEALING_E_REFUSED) == (buf_len(&world->reason) != 0));
    return error == 0 && !secret_equals(got, plain) ? -EBADMSG : error;
}

static void test_there_and_back(void) {
    struct world world;
    struct buf content CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    world_open(&world, A);
    const struct slice name = SLICE("tls/ca.key"), plain = SLICE("a private key\n");
    CHECK_INT(seal(&world, name, plain, &content), 0);
    CHECK(sealing_is_sealed(buf_slice(&content)));
    CHECK(slice_find(buf_slice(&content), plain) == SIZE_MAX);
    CHECK_INT(opens_as(&world, name, buf_slice(&content), plain), 0);
    CHECK_INT(opens_as(&world, SLICE("tls/server.key"), buf_slice(&content), plain),
              SEALING_E_REFUSED);
    CHECK(says(&world, "for another file"));
    /* The line behind it is for people: what it says opens nothing, and nothing comes of it. */
    struct slice token, rest;
    CHECK(slice_cut(buf_slice(&content), '\n', &token, &rest));
    CHECK_INT(opens_as(&world, name, token, plain), 0);
    world_use(&world, B "," A);
    CHECK_INT(opens_as(&world, name, buf_slice(&content), plain), 0);
    content.data[40] ^= 1;
    CHECK_INT(opens_as(&world, name, buf_slice(&content), plain), SEALING_E_REFUSED);
    CHECK(says(&world, "was changed, or is damaged"));
    content.data[40] ^= 1;
    world_use(&world, B);
    CHECK_INT(opens_as(&world, name, buf_slice(&content), plain), SEALING_E_REFUSED);
    CHECK(says(&world, "is encrypted under the key ") && says(&world, "CARDEA_ENCRYPTION_KEY"));
    CHECK_INT(opens_as(&world, name, token, plain), SEALING_E_REFUSED);
    CHECK(says(&world, "opened by no key"));
    world_close(&world);
}

static void test_what_a_file_says_of_its_key(void) {
    static const char *const lines[] = {
        "",
        "\n",
        "\n# under the key ",
        "\n# under the key 0123",
        "\n# under the key \x1b[31mabcdefabcdefabcdef\n",
        "\n# under the key 0123456789ABCDEF\n",
        "\n# under the key ../../../etc/passwd\n",
    };
    struct world world;
    struct buf content CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    world_open(&world, A);
    CHECK_INT(seal(&world, SLICE("a"), SLICE("plain"), &content), 0);
    struct slice token, rest;
    (void)slice_cut(buf_slice(&content), '\n', &token, &rest);
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        test_row(lines[i]);
        buf_reset(&text, 0);
        buf_append(&text, token);
        buf_append_cstr(&text, lines[i]);
        world_use(&world, B);
        CHECK_INT(opens_as(&world, SLICE("a"), buf_slice(&text), SLICE("plain")),
                  SEALING_E_REFUSED);
        CHECK(says(&world, "opened by no key"));
        CHECK(!says(&world, "\x1b") && !says(&world, "etc"));
        world_use(&world, A);
        CHECK_INT(opens_as(&world, SLICE("a"), buf_slice(&text), SLICE("plain")), 0);
    }
    test_row("");
    world_close(&world);
}

static void test_without_a_key(void) {
    struct world world;
    struct buf content CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    world_open(&world, NULL);
    CHECK_INT(seal(&world, SLICE("a"), SLICE("plain"), &content), SEALING_E_REFUSED);
    CHECK(says(&world, "there is no key"));
    CHECK_INT(buf_len(&content), 0);
    world.place.may_be_plain = true; /* of a command, before the first start */
    CHECK_INT(seal(&world, SLICE("a"), SLICE("plain"), &content), 0);
    CHECK_STR(buf_slice(&content), "plain");
    CHECK(access(path_in(&world, "vault.key"), F_OK) != 0);
    /* A bad one is no missing one. */
    write_in(&world, "vault.key", SLICE("nonsense\n"), 0600);
    CHECK_INT(seal(&world, SLICE("a"), SLICE("plain"), &content), SEALING_E_REFUSED);
    CHECK_INT(buf_len(&content), 0);
    /* What cannot be written is the writer's to say. */
    world_use(&world, A);
    CHECK_INT(world.sealing.seal(world.sealing.context, SLICE("a"), SLICE("plain"), fail_to_write,
                                 NULL, &world.reason),
              -ENOSPC);
    world_close(&world);
}

/* The keys are those of the moment. */
static void test_keys_that_change(void) {
    struct world world;
    struct vault *vault CLEANUP(vault_freep) = NULL;
    struct buf first CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    struct buf second CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    world_open(&world, NULL);
    write_in(&world, "vault.key", SLICE(A "\n"), 0600);
    CHECK_INT(seal(&world, SLICE("a"), SLICE("plain"), &first), 0);
    CHECK_INT(vault_add_key(world.dir, &world.reason), 0);
    CHECK_INT(opens_as(&world, SLICE("a"), buf_slice(&first), SLICE("plain")), 0);
    CHECK_INT(seal(&world, SLICE("a"), SLICE("plain"), &second), 0);
    REQUIRE(vault_open(&world.place.options, &vault, &world.reason) == 0);
    CHECK_INT(vault_drop_old_keys(vault, world.dir, &world.reason), 0);
    CHECK_INT(opens_as(&world, SLICE("a"), buf_slice(&first), SLICE("plain")), SEALING_E_REFUSED);
    CHECK_INT(opens_as(&world, SLICE("a"), buf_slice(&second), SLICE("plain")), 0);
    world_close(&world);
}

/* --- all of them --- */

static const struct vault_file files[] = {
    {.name = "one", .cure = "do this"},
    {.name = "strict", .is_strict = true, .cure = "do that"},
    {.name = "one", .path = "one.old", .is_spare = true, .cure = ""},
    {.name = "folder/none", .cure = ""},
};

static int pass(struct world *world, size_t n_plain, size_t n_resealed) {
    struct vault_files_done done = {.n_plain = 99};
    buf_reset(&world->reason, 0);
    int error =
        vault_seal_files(&world->place.options, files, ARRAY_LEN(files), &done, &world->reason);
    CHECK_INT(done.n_plain, n_plain);
    CHECK_INT(done.n_resealed, n_resealed);
    return error;
}

static enum vault_file_state state_of(const struct world *world, size_t i,
                                      char id[VAULT_KEY_ID + 1]) {
    struct vault *vault CLEANUP(vault_freep) = NULL;
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    enum vault_file_state state = VAULT_FILE_NONE;
    if (vault_open(&world->place.options, &vault, &reason) != 0)
        CANNOT_GO_ON();
    CHECK_INT(vault_look_at_file(vault, world->dir, &files[i], &state, id), 0);
    return state;
}

static void test_all(void) {
    struct world world;
    char content[4096], first[VAULT_KEY_ID + 1], second[VAULT_KEY_ID + 1];
    struct stat info;
    world_open(&world, A);
    CHECK_INT(pass(&world, 0, 0), 0);
    CHECK_INT(state_of(&world, 0, first), VAULT_FILE_NONE);
    write_in(&world, "one", SLICE("of one"), 0640);
    write_in(&world, "one.new", SLICE("half of o"), 0600);
    write_in(&world, "one.old", SLICE("of before"), 0600);
    write_in(&world, "strict", SLICE("of strict"), 0640);
    CHECK_INT(state_of(&world, 0, first), VAULT_FILE_PLAIN);
    CHECK_INT(pass(&world, 2, 0), 0);
    CHECK(access(path_in(&world, "one.new"), F_OK) != 0);
    CHECK(stat(path_in(&world, "one"), &info) == 0 && (info.st_mode & 07777) == 0600);
    CHECK_INT(state_of(&world, 0, first), VAULT_FILE_SEALED);
    /* Its reader has to see who could read it. */
    CHECK_STR(read_in(&world, "strict", content), "of strict");
    CHECK(chmod(path_in(&world, "strict"), 0600) == 0);
    CHECK_INT(pass(&world, 1, 0), 0);
    CHECK_INT(pass(&world, 0, 0), 0);
    CHECK_INT(
        opens_as(&world, SLICE("strict"), read_in(&world, "strict", content), SLICE("of strict")),
        0);
    CHECK_INT(
        opens_as(&world, SLICE("one"), read_in(&world, "one.old", content), SLICE("of before")), 0);
    world_use(&world, B "," A);
    CHECK_INT(pass(&world, 0, 3), 0);
    CHECK_INT(state_of(&world, 0, second), VAULT_FILE_SEALED);
    CHECK(strcmp(first, second) != 0);
    world_use(&world, A);
    CHECK_INT(state_of(&world, 0, first), VAULT_FILE_LOCKED);
    CHECK(strcmp(first, second) == 0);
    world_close(&world);
}

static void test_locked(void) {
    struct world world;
    char before[4096], content[4096];
    world_open(&world, A);
    write_in(&world, "one", SLICE("of one"), 0600);
    write_in(&world, "one.old", SLICE("of before"), 0600);
    CHECK_INT(pass(&world, 2, 0), 0);
    struct slice one = read_in(&world, "one", before);
    world_use(&world, B);
    CHECK_INT(pass(&world, 0, 0), VAULT_E_TOKEN);
    CHECK(says(&world, "/one is encrypted under the key ") && says(&world, "do this"));
    CHECK(slice_eq(read_in(&world, "one", content), one));
    /* The spare one stops nobody. */
    CHECK(unlink(path_in(&world, "one")) == 0);
    CHECK_INT(pass(&world, 0, 0), 0);
    /* Where another one belongs. */
    world_use(&world, A);
    write_in(&world, "strict", one, 0600);
    CHECK_INT(pass(&world, 0, 0), VAULT_E_MOVED);
    CHECK(says(&world, "/strict holds what was encrypted for another file"));
    world_close(&world);
}

static void test_strange_files(void) {
    struct world world;
    char content[4096];
    world_open(&world, A);
    write_in(&world, "target", SLICE("elsewhere"), 0600);
    CHECK(symlink("target", path_in(&world, "one")) == 0);
    CHECK_INT(pass(&world, 0, 0), -EINVAL);
    CHECK(says(&world, "/one cannot be encrypted: it is no regular file"));
    CHECK_STR(read_in(&world, "target", content), "elsewhere");
    CHECK(unlink(path_in(&world, "one")) == 0);
    CHECK(mkfifo(path_in(&world, "one"), 0600) == 0); /* nobody waits for its writer */
    CHECK_INT(pass(&world, 0, 0), -EINVAL);
    CHECK(unlink(path_in(&world, "one")) == 0);
    /* The longest there may be, and one more. */
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    for (size_t i = 0; i < LIMIT_SECRET; i++)
        buf_append_byte(&text, 'x');
    write_in(&world, "one", buf_slice(&text), 0600);
    CHECK_INT(pass(&world, 1, 0), 0);
    world_use(&world, B "," A);
    CHECK_INT(pass(&world, 0, 1), 0);
    buf_append_byte(&text, 'x');
    write_in(&world, "one", buf_slice(&text), 0600);
    CHECK_INT(pass(&world, 0, 0), -E2BIG);
    world_close(&world);
}

TEST_MAIN(TEST(test_there_and_back), TEST(test_what_a_file_says_of_its_key),
          TEST(test_without_a_key), TEST(test_keys_that_change), TEST(test_all), TEST(test_locked),
          TEST(test_strange_files))
