/* Passwords: what may be one, and hashes. */
#include <time.h>

#include "accounts/password.h"
#include "base/limits.h"
#include "test.h"

static const struct rule_row {
    const char *password, *name;
    const char *reason; /* a part of it; NULL: it may be one */
} rule_rows[] = {
    /* Length, in characters. */
    {"", "", "12 characters"},
    {"kXw9-pq7Lm2", "", "12 characters"},
    {"kXw9-pq7Lm2v", "", NULL},
    {"\xc3\xa9\xc3\xa8\xc3\xa0\xc3\xb9\xc3\xa7\xc3\xb4", "", "12 characters"},
    {"\xc3\xa9k\xc3\xa8m\xc3\xa0n\xc3\xb9q\xc3\xa7r\xc3\xb4v", "", NULL},
    /* What is no text. */
    {"kXw9-pq7Lm2v\xff", "", "UTF-8"},
    {"kXw9-pq7Lm2v\xed\xa0\x80", "", "UTF-8"},
    {"kXw9-pq7Lm2v\xc0\x80", "", "UTF-8"},
    /* Phrases are good. */
    {"two owls read old maps", "", NULL},
    {"my password is kept by owls", "", NULL},
    {"correct horse battery staple", "", NULL},
    {"violet-Kettle-shovel", "anna", NULL},
    {"T7#kd92!vbQp", "operator", NULL},
    /* Defect 10: what is tried first. */
    {"password1234", "", "tried first"},
    {"Password1234!", "", "tried first"},
    {"PASSWORDPASSWORD", "", "tried first"},
    {"P4$$w0rd2026", "", "tried first"},
    {"p@55w0rd!!!!", "", "tried first"},
    {"drowssap1234", "", "tried first"},
    {"correcthorsebatterystaple", "", "tried first"},
    {"administrator1", "", "tried first"},
    {"adminadminadmin", "", "tried first"},
    {"Welcome2024!!", "", "tried first"},
    {"Summer2025Summer2025", "", "tried first"},
    {"changeme-changeme", "", "tried first"},
    {"letmein-letmein", "", "tried first"},
    {"aaaaaaaaaaaaaaaa", "", "tried first"},
    {"abababababababab", "", "tried first"},
    {"abcdefghijklmnop", "", "tried first"},
    {"zyxwvutsrqponmlk", "", "tried first"},
    {"123456789012", "", "tried first"},
    {"qwertyuiopasdfghjkl", "", "tried first"},
    {"1qaz2wsx3edc4rfv", "", "tried first"},
    {"qwertzuiop123456", "", "tried first"},
    {"!@#$%^&*()!@#$", "", "tried first"},
    {"x1x1x1x1x1x1x1x", "", "tried first"},
    {"            ", "", "tried first"},
    {"PASSWORD\xe2\x84\xaa\xe2\x84\xaa\xe2\x84\xaa\xe2\x84\xaa", "", "tried first"},
    /* The name. */
    {"anna-lena-kXw9pq7", "anna-lena", "name"},
    {"kXw9-ANNA-pq7Lm2v", "anna", "name"},
    {"kXw9-4nn@-pq7Lm2v", "anna", "name"},
    {"kXw9-ykcor-pq7Lm2", "rocky", "name"},
    {"kXw9-ro\xe2\x84\xaay-pq7Lm2", "roky", "name"},
    {"kXw9-jo-pq7Lm2v", "jo", NULL},
    {"jojojojojojo", "jo", "tried first"},
    {"kXw9-smith-pq7Lm", "smith@example.com", "name"},
};

static void test_rules(void) {
    for (size_t i = 0; i < ARRAY_LEN(rule_rows); i++) {
        const struct rule_row *row = &rule_rows[i];
        const char *reason =
            password_refusal(slice_from_cstr(row->password), slice_from_cstr(row->name));
        test_row(row->password);
        if (row->reason == NULL)
            CHECK(reason == NULL);
        else
            CHECK(reason != NULL && strstr(reason, row->reason) != NULL);
    }
    test_row("");
}

static void test_nul_is_refused(void) {
    const char *reason = password_refusal(SLICE("kXw9-pq7\0Lm2v"), SLICE_EMPTY);
    CHECK(reason != NULL && strstr(reason, "NUL") != NULL);
}

static void fill(char *text, size_t n) {
    for (size_t i = 0; i < n; i++)
        text[i] = (char)('a' + (i * 7 + i / 5 + i / 11) % 26);
}

static void test_length_limits(void) {
    char text[PASSWORD_MOST + 1];
    fill(text, sizeof text);
    CHECK(password_refusal(slice_make(text, PASSWORD_MOST), SLICE_EMPTY) == NULL);
    const char *reason = password_refusal(slice_make(text, PASSWORD_MOST + 1), SLICE_EMPTY);
    CHECK(reason != NULL && strstr(reason, "1024 bytes") != NULL);
}

static bool is_right(const char *password, struct slice hash, bool *ret_is_old) {
    return password_is(slice_from_cstr(password), hash, ret_is_old);
}

static void test_hash(void) {
    CLEANUP(buf_deinit) struct buf hash = BUF_INIT(256), other = BUF_INIT(256);
    bool is_old = true;
    REQUIRE(password_hash(SLICE("two owls read old maps"), &hash) == 0);
    REQUIRE(password_hash(SLICE("two owls read old maps"), &other) == 0);
    CHECK(slice_starts_with(buf_slice(&hash), SLICE("$argon2id$v=19$m=65536,t=2,p=1$")));
    CHECK(password_is_hash(buf_slice(&hash)));
    CHECK(!slice_eq(buf_slice(&hash), buf_slice(&other)));
    CHECK(is_right("two owls read old maps", buf_slice(&hash), &is_old));
    CHECK(!is_old);
    CHECK(!is_right("two owls read old map", buf_slice(&hash), &is_old));
    CHECK(!is_right("Two owls read old maps", buf_slice(&hash), &is_old));
    CHECK(!is_right("", buf_slice(&hash), &is_old));
    CHECK(!password_is(SLICE("two owls read old maps\0x"), buf_slice(&hash), &is_old));
}

static void test_whole_password_counts(void) {
    CLEANUP(buf_deinit) struct buf hash = BUF_INIT(256);
    char text[PASSWORD_MOST + 1];
    bool is_old;
    fill(text, sizeof text);
    REQUIRE(password_hash(slice_make(text, PASSWORD_MOST), &hash) == 0);
    CHECK(password_is(slice_make(text, PASSWORD_MOST), buf_slice(&hash), &is_old));
    text[PASSWORD_MOST - 1] = '#';
    CHECK(!password_is(slice_make(text, PASSWORD_MOST), buf_slice(&hash), &is_old));
    CHECK(!password_is(slice_make(text, 72), buf_slice(&hash), &is_old));
    buf_reset(&hash, 0);
    CHECK(password_hash(slice_make(text, PASSWORD_MOST + 1), &hash) != 0);
    CHECK_INT(buf_len(&hash), 0);
}

/* Made with Python's crypt module, as older systems have them: each prefix. */
static const struct bcrypt_row {
    const char *password, *hash;
} bcrypt_rows[] = {
    {"two owls read old maps", "$2b$05$Nv4cTkO3rWbhq0ZsYlGe.u2Dck.64TxXKGILU4jAt.pdR.JcHGahS"},
    {"two owls read old maps", "$2a$05$Nv4cTkO3rWbhq0ZsYlGe.u2Dck.64TxXKGILU4jAt.pdR.JcHGahS"},
    {"\xe2\x82\xac", "$2y$04$Nv4cTkO3rWbhq0ZsYlGe.uI50wHs9FxykpsG.5gutN1qdof0bZDX."},
};

static void test_bcrypt_is_right_and_old(void) {
    for (size_t i = 0; i < ARRAY_LEN(bcrypt_rows); i++) {
        struct slice hash = slice_from_cstr(bcrypt_rows[i].hash);
        bool is_old = false;
        test_row(bcrypt_rows[i].password);
        CHECK(password_is_hash(hash));
        CHECK(is_right(bcrypt_rows[i].password, hash, &is_old));
        CHECK(is_old);
        CHECK(!is_right("two owls read old map", hash, &is_old));
    }
    test_row("");
}

static void test_weaker_argon2id_is_old(void) {
    bool is_old = false;
    /* 19 MiB, 2 rounds, of "two owls read old maps". */
    struct slice hash = SLICE("$argon2id$v=19$m=19456,t=2,p=1$LxFNjQOD+ya4YtRoa6HAlg$"
                              "aMwsYg8GwkuMIEujI6HGWMlGO7TNVX4MLwr0e9R3/p8");
    CHECK(password_is_hash(hash));
    CHECK(is_right("two owls read old maps", hash, &is_old));
    CHECK(is_old);
}

/* Each one would cost memory or time without end, or is none. */
static const char *const no_hashes[] = {
    "",
    "secret",
    "$argon2id$v=19$m=4294967295,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$AAAA",
    "$argon2id$v=19$m=65536,t=4000000000,p=1$MDEyMzQ1Njc4OWFiY2RlZg$AAAA",
    "$argon2id$v=19$m=65536,t=2,p=200$MDEyMzQ1Njc4OWFiY2RlZg$AAAA",
    "$argon2id$v=19$m=65536,t=0,p=1$MDEyMzQ1Njc4OWFiY2RlZg$AAAA",
    "$argon2id$v=19$m=65536,t=2,p=1$$AAAA",
    "$argon2id$v=19$m=65536,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$",
    "$argon2id$v=19$m=65536,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$AA$AA",
    "$argon2id$v=16$m=65536,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$AAAA",
    "$argon2i$v=19$m=65536,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$AAAA",
    "$2a$31$Nv4cTkO3rWbhq0ZsYlGe.u2Dck.64TxXKGILU4jAt.pdR.JcHGaeW",
    "$2x$05$Nv4cTkO3rWbhq0ZsYlGe.u2Dck.64TxXKGILU4jAt.pdR.JcHGaeW",
    "$2a$05$Nv4cTkO3rWbhq0ZsYlGe.u2Dck.64TxXKGILU4jAt.pdR.JcHGae",
    "$2a$05$Nv4cTkO3rWbhq0ZsYlGe.u2Dck.64TxXKGILU4jAt.pdR.JcHGae:",
    "$6$saltsalt$hash",
    "$1$saltsalt$hash",
    "*0",
    "*",
    "!",
};

static void test_no_hash_lets_nobody_in(void) {
    for (size_t i = 0; i < ARRAY_LEN(no_hashes); i++) {
        struct slice hash = slice_from_cstr(no_hashes[i]);
        bool is_old = false;
        test_row(no_hashes[i]);
        CHECK(!password_is_hash(hash));
        CHECK(!is_right("", hash, &is_old));
        CHECK(!is_right(no_hashes[i], hash, &is_old));
        CHECK(!is_old);
    }
    test_row("");
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Whether somebody has that name must not show in the time of a login. */
static void test_nobody_takes_as_long_as_a_wrong_password(void) {
    CLEANUP(buf_deinit) struct buf hash = BUF_INIT(256);
    REQUIRE(password_hash(SLICE("two owls read old maps"), &hash) == 0);
    double wrong = 0, nobody = 0;
    bool is_old;
    for (int i = 0; i < 5; i++) {
        double start = seconds();
        CHECK(!is_right("two owls read new maps", buf_slice(&hash), &is_old));
        double middle = seconds();
        password_pretend(SLICE("two owls read new maps"));
        double end = seconds();
        if (i == 0 || middle - start < wrong)
            wrong = middle - start;
        if (i == 0 || end - middle < nobody)
            nobody = end - middle;
    }
    printf("# wrong password %.1f ms, nobody %.1f ms\n", wrong * 1e3, nobody * 1e3);
    CHECK(nobody > wrong * 0.5 && wrong > nobody * 0.5);
}

TEST_MAIN(TEST(test_rules), TEST(test_nul_is_refused), TEST(test_length_limits), TEST(test_hash),
          TEST(test_whole_password_counts), TEST(test_bcrypt_is_right_and_old),
          TEST(test_weaker_argon2id_is_old), TEST(test_no_hash_lets_nobody_in),
          TEST(test_nobody_takes_as_long_as_a_wrong_password))
