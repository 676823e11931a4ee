/* Keys of a trail: files, signatures, HMAC. */
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "made_log.h"
#include "test.h"
#include "vault/vault.h"

#define PUBLIC_BEGIN "-----BEGIN PUBLIC KEY-----\n"
#define PUBLIC_END   "-----END PUBLIC KEY-----\n"

struct place {
    char dir[64];
};

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *at) {
    (void)info, (void)kind, (void)at;
    return remove(path);
}

static struct place place_make(void) {
    struct place place;
    (void)snprintf(place.dir, sizeof place.dir, "%s/cardea-test-XXXXXX", P_tmpdir);
    if (mkdtemp(place.dir) == NULL)
        CANNOT_GO_ON();
    return place;
}

static void place_remove(struct place *place) {
    (void)nftw(place->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Valid until the eighth call behind it. */
static const char *path_in(const struct place *place, const char *name) {
    static char paths[8][128];
    static unsigned next;
    char *path = paths[next++ % 8];
    (void)snprintf(path, sizeof paths[0], "%s/%s", place->dir, name);
    return path;
}

static void write_in(const struct place *place, const char *name, const char *content) {
    FILE *file = fopen(path_in(place, name), "wb");
    if (file == NULL || fputs(content, file) < 0 || fclose(file) != 0 ||
        chmod(path_in(place, name), 0600) != 0)
        CANNOT_GO_ON();
}

static struct slice read_in(const struct place *place, const char *name, char out[4096]) {
    FILE *file = fopen(path_in(place, name), "rb");
    if (file == NULL)
        CANNOT_GO_ON();
    size_t n = fread(out, 1, 4096, file);
    (void)fclose(file);
    return slice_make(out, n);
}

/* NULL: AUDIT_E_KEY, with that reason. */
static struct audit_keys *open_in(const struct place *place, const char **ret_reason) {
    struct audit_keys *keys = NULL;
    *ret_reason = "";
    int error = audit_keys_open(place->dir, NULL, &keys, ret_reason);
    CHECK_INT(error, keys != NULL ? 0 : AUDIT_E_KEY);
    CHECK((keys == NULL) == ((*ret_reason)[0] != '\0'));
    return keys;
}

static struct audit_public_key *read_public(struct slice pem, const char **ret_reason) {
    struct audit_public_key *key = NULL;
    *ret_reason = "";
    int error = audit_public_key_read(pem, &key, ret_reason);
    CHECK_INT(error, key != NULL ? 0 : AUDIT_E_KEY);
    return key;
}

static mode_t mode_of(const struct place *place, const char *name) {
    struct stat info;
    if (stat(path_in(place, name), &info) != 0)
        CANNOT_GO_ON();
    return info.st_mode & 07777;
}

/* --- files --- */

static void test_made_once(void) {
    struct place place = place_make();
    const char *reason;
    char content[4096];
    struct audit_keys *first = open_in(&place, &reason);
    REQUIRE(first != NULL);
    CHECK_INT(mode_of(&place, "signing.pem"), 0600);
    CHECK_INT(mode_of(&place, "hmac.key"), 0600);
    CHECK_INT(mode_of(&place, "public.pem"), 0600);
    CHECK(access(path_in(&place, "signing.pem.new"), F_OK) != 0);
    CHECK_INT(strlen(audit_keys_id(first)), AUDIT_KEY_ID_CHARS);
    struct audit_keys *second = open_in(&place, &reason);
    REQUIRE(second != NULL);
    CHECK(strcmp(audit_keys_id(first), audit_keys_id(second)) == 0);
    struct audit_public_key *key = read_public(read_in(&place, "public.pem", content), &reason);
    REQUIRE(key != NULL);
    CHECK(strcmp(audit_public_key_id(key), audit_keys_id(first)) == 0);
    /* What one signs the other takes. */
    const struct audit_chain up_to = {.seq = 7, .hash = {1}};
    const struct audit_checkpoint checkpoint = {
        .log = SLICE(MADE_LOG), .time = SLICE("t"), .records = 3, .up_to = &up_to};
    unsigned char signature[AUDIT_SIGNATURE];
    CHECK_INT(audit_sign(second, &checkpoint, signature), 0);
    CHECK(audit_signature_is_good(key, &checkpoint, signature));
    audit_public_key_free(key);
    audit_keys_free(first);
    audit_keys_free(second);
    place_remove(&place);
}

/* What is missing or wrong, and what is said. */
static void test_files(void) {
    static const struct {
        const char *name, *file, *content; /* NULL: it is deleted */
        const char *reason;                /* NULL: it is no error */
    } rows[] = {
        {"no public key", "public.pem", NULL, NULL},
        {"no signing key", "signing.pem", NULL, "signing.pem is missing, and public.pem is there"},
        {"no HMAC key", "hmac.key", NULL, "hmac.key is missing, and signing.pem is there"},
        {"another signing key", "signing.pem", MADE_OTHER_KEY,
         "public.pem does not belong to signing.pem"},
        {"empty signing key", "signing.pem", "", "signing.pem holds no Ed25519 private key"},
        {"torn signing key", "signing.pem", "-----BEGIN PRIVATE KEY-----\nMC4CAQAw",
         "signing.pem holds no Ed25519 private key"},
        {"another kind of key", "signing.pem",
         "-----BEGIN PRIVATE KEY-----\n"
         "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAQEBAQEBAQEBAQEB\n"
         "AQEBAQEBAQEBAQEBAQEBAQEBAQGhRANCAARv8DuUkkHnHa0H4dgQWz0XgVhwPmj9\n"
         "-----END PRIVATE KEY-----\n",
         "signing.pem holds no Ed25519 private key"},
        {"garbage as public key", "public.pem", "garbage",
         "public.pem does not belong to signing.pem"},
        {"empty HMAC key", "hmac.key", "",
         "hmac.key does not hold 32 bytes in base64url and a line end"},
        {"HMAC key without a line end", "hmac.key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
         "hmac.key does not hold 32 bytes in base64url and a line end"},
        {"bits to spare", "hmac.key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9\n",
         "hmac.key does not hold 32 bytes in base64url and a line end"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct place place = place_make();
        const char *reason;
        test_row(rows[i].name);
        struct audit_keys *keys = open_in(&place, &reason);
        audit_keys_free(keys);
        if (rows[i].content == NULL)
            CHECK(unlink(path_in(&place, rows[i].file)) == 0);
        else
            write_in(&place, rows[i].file, rows[i].content);
        keys = open_in(&place, &reason);
        CHECK((keys != NULL) == (rows[i].reason == NULL));
        if (rows[i].reason != NULL)
            CHECK_STR(slice_from_cstr(reason), rows[i].reason);
        /* What was missing is there again, or not touched. */
        CHECK((access(path_in(&place, rows[i].file), F_OK) == 0) ==
              (rows[i].content != NULL || rows[i].reason == NULL));
        audit_keys_free(keys);
        place_remove(&place);
    }
    test_row("");
}

static void test_never_beside_a_trail(void) {
    struct place place = place_make();
    const char *reason;
    write_in(&place, "00000000000000000001.jsonl", "");
    CHECK(open_in(&place, &reason) == NULL);
    CHECK_STR(slice_from_cstr(reason), "signing.pem is missing, and there is a trail already");
    CHECK(access(path_in(&place, "hmac.key"), F_OK) != 0);
    place_remove(&place);
}

/* A start that was killed in between, and what it left. */
static void test_begun(void) {
    struct place place = place_make();
    const char *reason;
    char content[4096];
    write_in(&place, "hmac.key", MADE_HMAC_KEY);
    write_in(&place, "signing.pem.new", "-----BEGIN PRIV");
    struct audit_keys *keys = open_in(&place, &reason);
    REQUIRE(keys != NULL);
    CHECK_STR(read_in(&place, "hmac.key", content), MADE_HMAC_KEY);
    CHECK(access(path_in(&place, "signing.pem.new"), F_OK) != 0);
    audit_keys_free(keys);
    place_remove(&place);
}

static void test_exposed(void) {
    static const char *const private_files[] = {"signing.pem", "hmac.key"};
    for (size_t i = 0; i < ARRAY_LEN(private_files); i++) {
        struct place place = place_make();
        const char *reason;
        audit_keys_free(open_in(&place, &reason));
        test_row(private_files[i]);
        CHECK(chmod(path_in(&place, private_files[i]), 0640) == 0);
        CHECK(open_in(&place, &reason) == NULL);
        CHECK(strstr(reason, "can be read by others") != NULL);
        /* No link, no pipe. */
        CHECK(unlink(path_in(&place, private_files[i])) == 0);
        CHECK(symlink("public.pem", path_in(&place, private_files[i])) == 0);
        CHECK(open_in(&place, &reason) == NULL);
        CHECK(strstr(reason, "no regular file") != NULL);
        CHECK(unlink(path_in(&place, private_files[i])) == 0);
        CHECK(mkfifo(path_in(&place, private_files[i]), 0600) == 0);
        CHECK(open_in(&place, &reason) == NULL);
        CHECK(strstr(reason, "no regular file") != NULL);
        place_remove(&place);
    }
    test_row("");
    struct audit_keys *keys = NULL;
    const char *reason;
    CHECK_INT(audit_keys_open("/dev/null/nowhere", NULL, &keys, &reason), -ENOTDIR);
}

/* --- encrypted --- */

#define A "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUI="
#define B "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkM="

/* By the vault, under this key. */
static struct audit_keys *open_sealed(const struct place *place, const char *key,
                                      const char **ret_reason) {
    struct audit_keys *keys = NULL;
    CLEANUP(secret_freep) struct secret *environment = NULL;
    if (secret_new(slice_from_cstr(key), &environment) != 0)
        CANNOT_GO_ON();
    struct vault_place vault = {.options = {.data_dir = place->dir, .environment = environment}};
    struct sealing sealing = vault_sealing(&vault);
    *ret_reason = "";
    int error = audit_keys_open(place->dir, &sealing, &keys, ret_reason);
    CHECK_INT(error, keys != NULL ? 0 : AUDIT_E_KEY);
    return keys;
}

static void test_sealed(void) {
    struct place place = place_make();
    const char *reason;
    char content[4096];
    struct audit_keys *first = open_sealed(&place, A, &reason);
    REQUIRE(first != NULL);
    CHECK(sealing_is_sealed(read_in(&place, "signing.pem", content)));
    CHECK(sealing_is_sealed(read_in(&place, "hmac.key", content)));
    CHECK(slice_starts_with(read_in(&place, "public.pem", content), SLICE(PUBLIC_BEGIN)));
    struct audit_keys *second = open_sealed(&place, B "," A, &reason);
    REQUIRE(second != NULL);
    CHECK(strcmp(audit_keys_id(first), audit_keys_id(second)) == 0);
    CHECK(open_sealed(&place, B, &reason) == NULL);
    CHECK_STR(slice_from_cstr(reason),
              "signing.pem is encrypted, and opened by no key that is here");
    CHECK(open_in(&place, &reason) == NULL);
    CHECK(unlink(path_in(&place, "hmac.key")) == 0);
    CHECK(open_sealed(&place, A, &reason) == NULL);
    CHECK(access(path_in(&place, "hmac.key"), F_OK) != 0);
    audit_keys_free(first);
    audit_keys_free(second);
    place_remove(&place);
}

static void test_sealed_later(void) {
    struct place place = place_make();
    const char *reason;
    struct audit_keys *first = open_in(&place, &reason);
    struct audit_keys *second = open_sealed(&place, A, &reason);
    REQUIRE(first != NULL && second != NULL);
    CHECK(strcmp(audit_keys_id(first), audit_keys_id(second)) == 0);
    audit_keys_free(first);
    audit_keys_free(second);
    place_remove(&place);
}

static void test_public_keys(void) {
    static const char one[] =
        PUBLIC_BEGIN "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n" PUBLIC_END;
    static const struct {
        const char *name, *pem, *reason;
    } rows[] = {
        {"empty", "", "there is no public key in PEM in it"},
        {"garbage", "garbage", "there is no public key in PEM in it"},
        {"private key", MADE_KEY, "there is no public key in PEM in it"},
        {"two",
         PUBLIC_BEGIN
         "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n" PUBLIC_END PUBLIC_BEGIN
         "MCowBQYDK2VwAyEAPUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=\n" PUBLIC_END,
         "there is more than one key in it"},
        {"X25519",
         PUBLIC_BEGIN "MCowBQYDK2VuAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n" PUBLIC_END,
         "the key in it is no Ed25519 key"},
    };
    const char *reason;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        test_row(rows[i].name);
        CHECK(read_public(slice_from_cstr(rows[i].pem), &reason) == NULL);
        CHECK_STR(slice_from_cstr(reason), rows[i].reason);
    }
    test_row("");
    struct audit_public_key *key = read_public(slice_from_cstr(one), &reason);
    REQUIRE(key != NULL);
    CHECK_STR(slice_from_cstr(audit_public_key_id(key)), "BuP9j9opu2CrWVV9");
    audit_public_key_free(key);
}

/* --- signatures --- */

/* Each part of a checkpoint, and each bit of its signature. */
static void test_signature(void) {
    struct audit_keys *keys = made_keys(SLICE(MADE_KEY)),
                      *others = made_keys(SLICE(MADE_OTHER_KEY));
    const struct audit_chain up_to = {.seq = 7, .hash = {1, 2, 3}},
                             later = {.seq = 8, .hash = {1, 2, 3}},
                             other = {.seq = 7, .hash = {1, 2, 2}};
    const struct audit_checkpoint good = {
        .log = SLICE("log"), .time = SLICE("time"), .records = 12, .up_to = &up_to};
    unsigned char signature[AUDIT_SIGNATURE], again[AUDIT_SIGNATURE];
    CHECK_INT(audit_sign(keys, &good, signature), 0);
    CHECK_INT(audit_sign(keys, &good, again), 0);
    CHECK(memcmp(signature, again, sizeof again) == 0);
    CHECK(audit_signature_is_good(audit_keys_public(keys), &good, signature));
    CHECK(!audit_signature_is_good(audit_keys_public(others), &good, signature));
    struct audit_checkpoint bad[] = {good, good, good, good, good};
    bad[0].log = SLICE("Log");
    bad[1].time = SLICE("time ");
    bad[2].records = 13;
    bad[3].up_to = &later;
    bad[4].up_to = &other;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK(!audit_signature_is_good(audit_keys_public(keys), &bad[i], signature));
    size_t n_found = 0;
    for (size_t bit = 0; bit < sizeof signature * 8; bit++) {
        signature[bit / 8] = (unsigned char)(signature[bit / 8] ^ (1 << bit % 8));
        n_found += !audit_signature_is_good(audit_keys_public(keys), &good, signature);
        signature[bit / 8] = (unsigned char)(signature[bit / 8] ^ (1 << bit % 8));
    }
    CHECK_INT(n_found, sizeof signature * 8);
    char *long_log = mem_xalloc(5000);
    memset(long_log, 'a', 4999);
    bad[0].log = slice_from_cstr(long_log);
    CHECK_INT(audit_sign(keys, &bad[0], again), -E2BIG);
    CHECK(!audit_signature_is_good(audit_keys_public(keys), &bad[0], signature));
    mem_free(long_log);
    audit_keys_free(keys);
    audit_keys_free(others);
}

/* Calculated elsewhere; and again with the same object. */
static void test_hmac(void) {
    static const struct {
        const char *text, *hmac;
    } rows[] = {
        {"", "04tCCW2A9F-Ca0Sp1WB95ySWpBXT9KGoyI47udqNwcs"},
        {"{\"path\":\"/etc/hosts\"}", "6cIHgFdYROrQwoEMsq8KRpzPqO7alNFZ0RBy4BasUZA"},
        {"", "04tCCW2A9F-Ca0Sp1WB95ySWpBXT9KGoyI47udqNwcs"},
    };
    struct audit_keys *keys = made_keys(SLICE(MADE_KEY));
    struct audit_hmac *hmac = NULL;
    REQUIRE(audit_hmac_new(keys, &hmac) == 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        unsigned char digest[AUDIT_HASH];
        char text[AUDIT_HASH_CHARS];
        CHECK_INT(audit_hmac(hmac, slice_from_cstr(rows[i].text), digest), 0);
        audit_hash_write(digest, text);
        CHECK_STR(slice_make(text, sizeof text), rows[i].hmac);
    }
    audit_hmac_free(hmac);
    audit_keys_free(keys);
}

/* --- memory --- */

static void open_without_memory(void *arg) {
    const struct place *place = arg;
    struct audit_keys *keys = NULL;
    struct audit_hmac *hmac = NULL;
    const char *reason = "";
    int error = audit_keys_open(place->dir, NULL, &keys, &reason);
    CHECK(error == 0 ? keys != NULL : error == -ENOMEM && keys == NULL);
    if (error == 0) {
        error = audit_hmac_new(keys, &hmac);
        CHECK(error == 0 ? hmac != NULL : error == -ENOMEM && hmac == NULL);
    }
    audit_hmac_free(hmac);
    audit_keys_free(keys);
}

static void test_memory(void) {
    struct place place = place_make();
    /* Made without memory: what was begun is gone on with. */
    test_torture(open_without_memory, &place);
    test_torture(open_without_memory, &place);
    place_remove(&place);
}

TEST_MAIN(TEST(test_made_once), TEST(test_files), TEST(test_never_beside_a_trail), TEST(test_begun),
          TEST(test_exposed), TEST(test_sealed), TEST(test_sealed_later), TEST(test_public_keys),
          TEST(test_signature), TEST(test_hmac), TEST(test_memory))
