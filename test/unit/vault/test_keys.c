/* Where keys come from, who may read them, and that what is sealed stays where it belongs. */
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "test.h"
#include "vault/vault.h"

/* Made for this test: 32 times one pattern each, so nobody takes them for keys. */
#define A "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUI="
#define B "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkM="

static char dir[64];

static void enter(void) {
    snprintf(dir, sizeof dir, "/tmp/cardea-vault-XXXXXX");
    if (mkdtemp(dir) == NULL)
        CANNOT_GO_ON();
}

static char *in_dir(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void leave(void) {
    static const char *const names[] = {"vault.key", "vault.lock", "vault.key.new", "cardea.key",
                                        "target"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (unlink(in_dir(names[i])) != 0)
            (void)rmdir(in_dir(names[i]));
    }
    if (rmdir(dir) != 0)
        test_fail(__FILE__, __LINE__, "something was left behind");
}

static void put(const char *name, const char *text, mode_t mode) {
    FILE *file = fopen(in_dir(name), "w");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0 ||
        chmod(in_dir(name), mode) != 0)
        CANNOT_GO_ON();
}

struct opened {
    int error;
    struct vault *vault;
    char reason[1024];
};

static struct opened open_as(const char *environment, bool has_credentials, bool make) {
    struct opened opened = {.error = 0};
    struct secret *value CLEANUP(secret_freep) = NULL;
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(1000);
    if (environment != NULL && secret_new(slice_from_cstr(environment), &value) != 0)
        CANNOT_GO_ON();
    struct vault_options options = {
        .data_dir = dir,
        .environment = value,
        .credentials_dir = has_credentials ? dir : NULL,
        .make = make,
    };
    opened.error = vault_open(&options, &opened.vault, &reason);
    snprintf(opened.reason, sizeof opened.reason, "%.*s", SLICE_ARGS(buf_slice(&reason)));
    return opened;
}

static void close_it(struct opened *opened) {
    opened->vault = vault_free(opened->vault);
}

static bool says(const struct opened *opened, const char *word) {
    return strstr(opened->reason, word) != NULL;
}

static const struct {
    const char *name, *value;
    size_t n_keys;
    const char *says;
} values[] = {
    {"one", A, 1, NULL},
    {"one without padding", "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUI", 1, NULL},
    {"two", A "," B, 2, NULL},
    {"two with spaces", " " A " , " B "\n", 2, NULL},
    {"twice the same", A "," A, 1, NULL},
    {"empty", "", 0, "CARDEA_ENCRYPTION_KEY is empty"},
    {"only commas", ",, ,", 0, "CARDEA_ENCRYPTION_KEY is empty"},
    {"a password", "correct horse battery staple", 0, "key 1 of CARDEA_ENCRYPTION_KEY is no key"},
    {"the second is none", A ",x", 0, "key 2 of CARDEA_ENCRYPTION_KEY is no key"},
    {"of the specification", "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=", 0, "everybody knows"},
    {"zeros", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", 0, "everybody knows"},
};

static void test_environment(void) {
    enter();
    put("vault.key", B "\n", 0600);
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        struct opened opened = open_as(values[i].value, true, true);
        test_row(values[i].name);
        CHECK_INT(opened.error, values[i].says == NULL ? 0 : VAULT_E_KEY);
        if (values[i].says != NULL) {
            CHECK(says(&opened, values[i].says));
            CHECK(values[i].value[0] == '\0' || values[i].value[0] == ',' ||
                  !says(&opened, values[i].value));
        } else {
            CHECK_INT(vault_count_keys(opened.vault), values[i].n_keys);
            CHECK_INT(vault_source(opened.vault), VAULT_ENVIRONMENT);
        }
        close_it(&opened);
    }
    leave();
}

static void test_too_many(void) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(16));
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    struct secret *value CLEANUP(secret_freep) = NULL;
    struct vault *vault = NULL;
    enter();
    for (unsigned i = 0; i <= LIMIT_VAULT_KEYS; i++) {
        CHECK_INT(vault_make_key(&text), 0);
        buf_append_byte(&text, ',');
    }
    REQUIRE(secret_new(buf_slice(&text), &value) == 0);
    struct vault_options options = {.data_dir = dir, .environment = value};
    CHECK_INT(vault_open(&options, &vault, &reason), VAULT_E_KEY);
    secret_freep(&value);
    buf_truncate(&text, 45 * (size_t)LIMIT_VAULT_KEYS);
    REQUIRE(secret_new(buf_slice(&text), &value) == 0);
    options.environment = value;
    CHECK_INT(vault_open(&options, &vault, &reason), 0);
    CHECK_INT(vault_count_keys(vault), LIMIT_VAULT_KEYS);
    vault_free(vault);
    leave();
}

static void test_first_start(void) {
    struct stat info;
    char first[VAULT_KEY_ID + 1], second[VAULT_KEY_ID + 1];
    enter();
    struct opened opened = open_as(NULL, true, false);
    CHECK_INT(opened.error, -ENOENT);
    CHECK(says(&opened, "there is no key"));
    CHECK(access(in_dir("vault.key"), F_OK) != 0);
    opened = open_as(NULL, true, true);
    REQUIRE(opened.error == 0);
    CHECK_INT(vault_source(opened.vault), VAULT_FILE);
    CHECK(stat(in_dir("vault.key"), &info) == 0 && (info.st_mode & 07777) == 0600);
    vault_key_id(opened.vault, 0, first);
    close_it(&opened);
    CHECK(access(in_dir("vault.key.new"), F_OK) != 0);
    opened = open_as(NULL, false, true);
    REQUIRE(opened.error == 0);
    vault_key_id(opened.vault, 0, second);
    CHECK_STR(slice_from_cstr(second), first);
    CHECK_INT(strlen(first), VAULT_KEY_ID);
    close_it(&opened);
    leave();
}

static void test_modes(void) {
    static const struct {
        mode_t mode;
        bool file_is_fine, credential_is_fine;
    } rows[] = {
        {0600, true, true},   {0400, true, true},   {0440, false, true},  {0640, false, true},
        {0620, false, true},  {0604, false, false}, {0602, false, false}, {0644, false, false},
        {0601, false, false}, {0666, false, false}, {0777, false, false},
    };
    enter();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        put("vault.key", A "\n", rows[i].mode);
        struct opened opened = open_as(NULL, false, true);
        CHECK_INT(opened.error, rows[i].file_is_fine ? 0 : VAULT_E_OPEN);
        CHECK(opened.error == 0 || (says(&opened, "chmod 600") && says(&opened, "vault.key")));
        close_it(&opened);
        put("cardea.key", A "\n", rows[i].mode);
        opened = open_as(NULL, true, true);
        CHECK_INT(opened.error, rows[i].credential_is_fine ? 0 : VAULT_E_OPEN);
        CHECK(opened.error == 0 || says(&opened, "cardea.key"));
        close_it(&opened);
        unlink(in_dir("cardea.key"));
    }
    leave();
}

static void test_strange_files(void) {
    enter();
    REQUIRE(mkfifo(in_dir("vault.key"), 0600) == 0);
    struct opened opened = open_as(NULL, false, true); /* does not wait for a writer */
    CHECK_INT(opened.error, -EINVAL);
    CHECK(says(&opened, "no regular file"));
    unlink(in_dir("vault.key"));
    REQUIRE(mkdir(in_dir("vault.key"), 0700) == 0);
    opened = open_as(NULL, false, true);
    CHECK_INT(opened.error, -EISDIR);
    rmdir(in_dir("vault.key"));
    put("vault.key", "", 0600);
    opened = open_as(NULL, false, true);
    CHECK_INT(opened.error, VAULT_E_KEY); /* an empty one is not written over */
    CHECK(says(&opened, "is empty"));
    put("vault.key", "# the newest first\r\n" A "\r\n# older\n" B "\n", 0600);
    opened = open_as(NULL, false, true);
    CHECK_INT(opened.error, 0);
    CHECK_INT(vault_count_keys(opened.vault), 2);
    close_it(&opened);
    leave();
}

static void test_credential(void) {
    enter();
    put("cardea.key", A "\n", 0400);
    put("vault.key", B "\n", 0600);
    struct opened opened = open_as(NULL, true, true);
    REQUIRE(opened.error == 0);
    CHECK_INT(vault_source(opened.vault), VAULT_CREDENTIAL);
    CHECK_INT(vault_count_keys(opened.vault), 1);
    close_it(&opened);
    unlink(in_dir("cardea.key"));
    opened = open_as(NULL, true, true);
    REQUIRE(opened.error == 0);
    CHECK_INT(vault_source(opened.vault), VAULT_FILE);
    close_it(&opened);
    leave();
}

static void test_add_and_drop(void) {
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    char old[VAULT_KEY_ID + 1], behind[VAULT_KEY_ID + 1], now[VAULT_KEY_ID + 1];
    struct stat info;
    enter();
    CHECK_INT(vault_add_key(dir, &reason), VAULT_E_NONE);
    struct opened first = open_as(NULL, false, true);
    REQUIRE(first.error == 0);
    vault_key_id(first.vault, 0, old);
    put("vault.key.new", "of one that was killed", 0600);
    CHECK_INT(vault_add_key(dir, &reason), 0);
    CHECK(access(in_dir("vault.key.new"), F_OK) != 0);
    CHECK(stat(in_dir("vault.key"), &info) == 0 && (info.st_mode & 07777) == 0600);
    struct opened second = open_as(NULL, false, true);
    REQUIRE(second.error == 0);
    CHECK_INT(vault_count_keys(second.vault), 2);
    vault_key_id(second.vault, 1, behind);
    CHECK_STR(slice_from_cstr(behind), old);
    /* Whoever has only the old key does not drop the new one, nor what is behind it. */
    CHECK_INT(vault_drop_old_keys(first.vault, dir, &reason), VAULT_E_STALE);
    CHECK_INT(vault_drop_old_keys(second.vault, dir, &reason), 0);
    CHECK_INT(vault_drop_old_keys(second.vault, dir, &reason), 0);
    struct opened third = open_as(NULL, false, true);
    REQUIRE(third.error == 0);
    CHECK_INT(vault_count_keys(third.vault), 1);
    vault_key_id(second.vault, 0, old);
    vault_key_id(third.vault, 0, now);
    CHECK_STR(slice_from_cstr(now), old);
    close_it(&first);
    close_it(&second);
    close_it(&third);
    leave();
}

static void test_full(void) {
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    enter();
    struct opened opened = open_as(NULL, false, true);
    close_it(&opened);
    for (unsigned i = 1; i < LIMIT_VAULT_KEYS; i++)
        CHECK_INT(vault_add_key(dir, &reason), 0);
    CHECK_INT(vault_add_key(dir, &reason), VAULT_E_KEY);
    opened = open_as(NULL, false, true);
    CHECK_INT(opened.error, 0);
    CHECK_INT(vault_count_keys(opened.vault), LIMIT_VAULT_KEYS);
    close_it(&opened);
    leave();
}

/* --- sealing --- */

static const struct {
    const char *name, *owner, *plain, *opened_as;
    int result;
} moves[] = {
    {"at home", "secret/a", "value", "secret/a", 0},
    {"empty", "secret/a", "", "secret/a", 0},
    {"another row", "secret/a", "value", "secret/b", VAULT_E_MOVED},
    {"another kind", "secret/a", "value", "key/a", VAULT_E_MOVED},
    {"an owner that is the beginning of another", "secret/a", "b,value", "secret/ab",
     VAULT_E_MOVED},
    {"the other way round", "secret/ab", "value", "secret/a", VAULT_E_MOVED},
    {"a value that looks like a beginning", "secret/a", "cardea:1:8:secret/b,value", "secret/b",
     VAULT_E_MOVED},
    {"an owner with a comma", "a,b", "value", "a", VAULT_E_MOVED},
};

static void test_moved(void) {
    enter();
    struct opened opened = open_as(B "," A, false, false);
    for (size_t i = 0; i < ARRAY_LEN(moves); i++) {
        struct buf token CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
        struct secret *plain CLEANUP(secret_freep) = NULL;
        size_t key = 9;
        test_row(moves[i].name);
        CHECK_INT(vault_seal(opened.vault, slice_from_cstr(moves[i].owner), 1,
                             slice_from_cstr(moves[i].plain), &token),
                  0);
        CHECK_INT(vault_unseal(opened.vault, slice_from_cstr(moves[i].opened_as), buf_slice(&token),
                               &plain, &key),
                  moves[i].result);
        CHECK_INT(plain != NULL, moves[i].result == 0);
        CHECK_INT(key, moves[i].result == 0 ? 0 : 9);
        if (plain != NULL)
            CHECK_STR(secret_reveal(plain), moves[i].plain);
    }
    close_it(&opened);
    leave();
}

/* A token of another program with the same key has no owner. */
static void test_foreign(void) {
    unsigned char key[FERNET_KEY];
    struct buf token CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    struct secret *plain CLEANUP(secret_freep) = NULL;
    enter();
    struct opened opened = open_as(A, false, false);
    REQUIRE(fernet_key_read(SLICE(A), key) == 0);
    REQUIRE(fernet_seal(key, 1, NULL, SLICE("hello"), &token) == 0);
    CHECK_INT(vault_unseal(opened.vault, SLICE("secret/a"), buf_slice(&token), &plain, NULL),
              VAULT_E_MOVED);
    CHECK(plain == NULL);
    close_it(&opened);
    leave();
}

static void test_several_keys(void) {
    struct buf token CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    struct secret *plain CLEANUP(secret_freep) = NULL;
    size_t key = 9;
    enter();
    struct opened old = open_as(A, false, false), both = open_as(B "," A, false, false);
    struct opened new = open_as(B, false, false);
    CHECK_INT(vault_seal(old.vault, SLICE("secret/a"), 1, SLICE("v"), &token), 0);
    CHECK_INT(vault_unseal(both.vault, SLICE("secret/a"), buf_slice(&token), &plain, &key), 0);
    CHECK_INT(key, 1);
    secret_freep(&plain);
    CHECK_INT(vault_unseal(new.vault, SLICE("secret/a"), buf_slice(&token), &plain, &key),
              VAULT_E_TOKEN);
    buf_reset(&token, 0);
    CHECK_INT(vault_seal(both.vault, SLICE("secret/a"), 1, SLICE("v"), &token), 0);
    CHECK_INT(vault_unseal(old.vault, SLICE("secret/a"), buf_slice(&token), &plain, &key),
              VAULT_E_TOKEN);
    CHECK_INT(vault_unseal(new.vault, SLICE("secret/a"), buf_slice(&token), &plain, &key), 0);
    close_it(&old);
    close_it(&both);
    close_it(&new);
    leave();
}

static void test_sizes(void) {
    struct buf token CLEANUP(buf_deinit) = BUF_INIT(MIB(1));
    struct secret *plain CLEANUP(secret_freep) = NULL;
    char *big = mem_xalloc(LIMIT_SECRET + 1);
    enter();
    struct opened opened = open_as(A, false, false);
    memset(big, 'b', LIMIT_SECRET + 1);
    CHECK_INT(
        vault_seal(opened.vault, SLICE("secret/a"), 1, slice_make(big, LIMIT_SECRET + 1), &token),
        -E2BIG);
    CHECK_INT(vault_seal(opened.vault, SLICE("secret/a"), 1, slice_make(big, LIMIT_SECRET), &token),
              0);
    CHECK_INT(vault_unseal(opened.vault, SLICE("secret/a"), buf_slice(&token), &plain, NULL), 0);
    CHECK(plain != NULL && secret_equals(plain, slice_make(big, LIMIT_SECRET)));
    CHECK_INT(vault_seal(opened.vault, SLICE_EMPTY, 1, SLICE("v"), &token), -EINVAL);
    mem_free(big);
    close_it(&opened);
    leave();
}

static const struct {
    const char *name;
    bool is_fine;
} names[] = {
    {"a", true},
    {"github.token", true},
    {"A-Z_09", true},
    {"..", true},
    {"", false},
    {"a b", false},
    {"a/b", false},
    {"\xc3\xa9", false},
    {"a\nb", false},
    {"a}}", false},
    {"0123456789012345678901234567890123456789012345678901234567890123", true},
    {"01234567890123456789012345678901234567890123456789012345678901234", false},
};

static void test_names(void) {
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        test_row(names[i].name);
        CHECK_INT(vault_name_is_fine(slice_from_cstr(names[i].name)), names[i].is_fine);
    }
    CHECK(!vault_name_is_fine(slice_make("a\0b", 3)));
}

static void open_seal_unseal(void *arg) {
    struct secret *value CLEANUP(secret_freep) = NULL;
    struct secret *plain CLEANUP(secret_freep) = NULL;
    struct vault *vault CLEANUP(vault_freep) = NULL;
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(1000);
    struct buf token CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    (void)arg;
    if (secret_new(SLICE(A "," B), &value) != 0)
        return;
    struct vault_options options = {.data_dir = dir, .environment = value};
    int error = vault_open(&options, &vault, &reason);
    if (error == 0)
        error = vault_seal(vault, SLICE("secret/a"), 1, SLICE("v"), &token);
    if (error == 0)
        error = vault_unseal(vault, SLICE("secret/a"), buf_slice(&token), &plain, NULL);
    CHECK(error == 0 ? plain != NULL : error == -ENOMEM);
}

static void make_and_rotate(void *arg) {
    struct vault *vault CLEANUP(vault_freep) = NULL;
    struct buf reason CLEANUP(buf_deinit) = BUF_INIT(1000);
    (void)arg;
    struct vault_options options = {.data_dir = dir, .make = true};
    unlink(in_dir("vault.key"));
    int error = vault_open(&options, &vault, &reason);
    if (error == 0)
        error = vault_add_key(dir, &reason);
    vault_freep(&vault);
    if (error == 0)
        error = vault_open(&options, &vault, &reason);
    if (error == 0)
        error = vault_drop_old_keys(vault, dir, &reason);
    CHECK(error == 0 || error == -ENOMEM);
}

static void test_memory(void) {
    enter();
    test_torture(open_seal_unseal, NULL);
    test_torture(make_and_rotate, NULL);
    leave();
}

TEST_MAIN(TEST(test_environment), TEST(test_too_many), TEST(test_first_start), TEST(test_modes),
          TEST(test_strange_files), TEST(test_credential), TEST(test_add_and_drop), TEST(test_full),
          TEST(test_moved), TEST(test_foreign), TEST(test_several_keys), TEST(test_sizes),
          TEST(test_names), TEST(test_memory))
