/* Fernet: the vectors that its specification publishes, and whatever else could be a token. */
#include "base/base64.h"
#include "base/limits.h"
#include "test.h"
#include "vault/vault.h"

/* The specification's key: everybody knows it. */
static const struct slice published_key =
    SLICE_INIT("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=");
static const char hello[] = "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVU"
                            "PgJobwOz7JcbmrR64jVmpU4IwqDA==";

enum { TIME = 499162800, TTL = 60 };

static void read_published(unsigned char key[FERNET_KEY]) {
    if (fernet_key_read(published_key, key) != 0)
        CANNOT_GO_ON();
}

static void test_generate(void) {
    unsigned char key[FERNET_KEY], iv[16];
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    read_published(key);
    for (unsigned i = 0; i < sizeof iv; i++)
        iv[i] = (unsigned char)i;
    CHECK_INT(fernet_seal(key, TIME, iv, SLICE("hello"), &out), 0);
    CHECK_STR(buf_slice(&out), hello);
}

static void test_verify(void) {
    unsigned char key[FERNET_KEY];
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    uint64_t time_s = 0;
    read_published(key);
    CHECK_INT(fernet_open(key, slice_from_cstr(hello), &time_s, &out), 0);
    CHECK_SLICE(buf_slice(&out), SLICE("hello"));
    CHECK_INT(time_s, TIME);
}

/* What the specification calls invalid. Two are so for their age alone, which this function leaves
 * to its caller: it says when they were made. */
static const struct {
    const char *name, *token;
    int result;
    uint64_t time_s;
} invalid[] = {
    {"another signature",
     "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykQUFBQUFB"
     "QUFBQQ==",
     FERNET_E_TOKEN, 0},
    {"no text", "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPA==", FERNET_E_TOKEN, 0},
    {"no base64",
     "%%%%%%%%%%%%%AECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykRtfsH-p1"
     "YsUD2Q==",
     FERNET_E_TOKEN, 0},
    {"a text of half blocks",
     "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPOm73QeoCk9uGib28Xe5vz6oxq5nmxbx_v7mrfyu"
     "dzUm",
     FERNET_E_TOKEN, 0},
    {"wrong padding, signed",
     "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0ODz4LEpdELGQAad7aNEHbf-JkLPIpuiYRLQ3RtXatOYREu2FWke6CnJNYIbku"
     "KNqOhw==",
     FERNET_E_TOKEN, 0},
    {"another IV, signed",
     "gAAAAAAdwJ6xBQECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAkLhFLHpGtDBRLRTZeUfWgHSv49TF2AUEZ1TIvc"
     "ZjK1zQ==",
     FERNET_E_TOKEN, 0},
    {"of the future",
     "gAAAAAAdwStRAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAnja1xKYyhd-Y6mSkTOyTGJmw2Xc2a6kBd-iX9b"
     "_qXQcw==",
     0, TIME + 36001},
    {"expired",
     "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykRtfsH-p1"
     "YsUD2Q==",
     0, TIME + 1},
};

static void test_invalid(void) {
    unsigned char key[FERNET_KEY];
    read_published(key);
    for (size_t i = 0; i < ARRAY_LEN(invalid); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
        uint64_t time_s = 0;
        test_row(invalid[i].name);
        CHECK_INT(fernet_open(key, slice_from_cstr(invalid[i].token), &time_s, &out),
                  invalid[i].result);
        CHECK_INT(time_s, invalid[i].time_s);
        CHECK_INT(buf_len(&out), 0);
    }
}

/* Every other token is one that nobody made: one bit, one character, a cut, something behind. */
static void test_changed(void) {
    unsigned char key[FERNET_KEY];
    char token[sizeof hello + 4];
    size_t len = sizeof hello - 1;
    read_published(key);
    for (size_t i = 0; i < len; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
            memcpy(token, hello, len);
            token[i] = (char)(token[i] ^ (1 << bit));
            CHECK_INT(fernet_open(key, slice_make(token, len), NULL, &out), FERNET_E_TOKEN);
            CHECK_INT(buf_len(&out), 0);
        }
    }
    for (size_t cut = 0; cut < len; cut++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
        char *exact = mem_xalloc(cut);
        memcpy(exact, hello, cut);
        CHECK_INT(fernet_open(key, slice_make(exact, cut), NULL, &out), FERNET_E_TOKEN);
        mem_free(exact);
    }
    static const char *const behind[] = {"=", "A", "AAAA", "\n", "====", " "};
    for (size_t i = 0; i < ARRAY_LEN(behind); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
        int n = snprintf(token, sizeof token, "%s%s", hello, behind[i]);
        test_row(behind[i]);
        CHECK_INT(fernet_open(key, slice_make(token, (size_t)n), NULL, &out), FERNET_E_TOKEN);
    }
}

static void test_other_key(void) {
    unsigned char key[FERNET_KEY];
    read_published(key);
    for (unsigned i = 0; i < FERNET_KEY; i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
        unsigned char other[FERNET_KEY];
        memcpy(other, key, sizeof other);
        other[i] ^= 0x10;
        /* The half that only decrypts makes other bytes, of which the padding is most often none.
         */
        int error = fernet_open(other, slice_from_cstr(hello), NULL, &out);
        CHECK(error == FERNET_E_TOKEN || (i >= 16 && !slice_eq(buf_slice(&out), SLICE("hello"))));
    }
}

static void test_lengths(void) {
    unsigned char key[FERNET_KEY];
    char plain[100];
    read_published(key);
    memset(plain, 'p', sizeof plain);
    for (size_t len = 0; len <= sizeof plain; len++) {
        struct buf token CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(len);
        CHECK_INT(fernet_seal(key, UINT64_MAX, NULL, slice_make(plain, len), &token), 0);
        CHECK_INT(buf_len(&token) % 4, 0);
        uint64_t time_s = 0;
        CHECK_INT(fernet_open(key, buf_slice(&token), &time_s, &out), 0);
        CHECK(time_s == UINT64_MAX);
        CHECK_SLICE(buf_slice(&out), slice_make(plain, len));
    }
}

/* Two tokens of one text have nothing in common but the key: each has an IV of its own. */
static void test_random(void) {
    unsigned char key[FERNET_KEY];
    struct buf a CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    struct buf b CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    read_published(key);
    CHECK_INT(fernet_seal(key, TIME, NULL, SLICE("hello"), &a), 0);
    CHECK_INT(fernet_seal(key, TIME, NULL, SLICE("hello"), &b), 0);
    CHECK(!slice_eq(slice_sub(buf_slice(&a), 12, 34), slice_sub(buf_slice(&b), 12, 34)));
}

static void test_room(void) {
    unsigned char key[FERNET_KEY];
    struct buf small CLEANUP(buf_deinit) = BUF_INIT(4);
    read_published(key);
    CHECK_INT(fernet_open(key, slice_from_cstr(hello), NULL, &small), -E2BIG);
    CHECK_INT(buf_len(&small), 0);
    struct buf tiny CLEANUP(buf_deinit) = BUF_INIT(99);
    CHECK_INT(fernet_seal(key, TIME, NULL, SLICE("hello"), &tiny), -E2BIG);
    CHECK_INT(buf_len(&tiny), 0);
}

static const struct {
    const char *name, *text;
    int result;
} keys[] = {
    {"with padding", "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=", 0},
    {"without", "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4", 0},
    {"empty", "", -EINVAL},
    {"one too few", "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e", -EINVAL},
    {"one too many", "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4A", -EINVAL},
    {"padding twice", "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4==", -EINVAL},
    {"the other alphabet", "cw/0x689RpI+jtRR7oE8h/eQsKImvJapLeSbXpwF4e4=", -EINVAL},
    {"bits of no byte", "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e5=", -EINVAL},
    {"a space", "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4 ", -EINVAL},
    {"a line end", "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4\n", -EINVAL},
    {"a byte past ASCII", "\xc3\xa9_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=", -EINVAL},
    {"hexadecimal", "730ff4c7af3d46923e8ed451ee813c87f790b0a226bc96a92de49b5e9c05e1ee", -EINVAL},
};

static void test_keys(void) {
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        unsigned char key[FERNET_KEY] = {0};
        test_row(keys[i].name);
        CHECK_INT(fernet_key_read(slice_from_cstr(keys[i].text), key), keys[i].result);
        CHECK_INT(key[0], keys[i].result == 0 ? 0x73 : 0);
        CHECK_INT(key[FERNET_KEY - 1], keys[i].result == 0 ? 0xee : 0);
    }
}

/* The reader without branches says what the other one says, of every byte in every place. */
static void test_keys_alike(void) {
    char text[44];
    for (size_t at = 0; at < 43; at++) {
        for (unsigned c = 0; c < 256; c++) {
            unsigned char key[FERNET_KEY] = {0};
            struct buf out CLEANUP(buf_deinit) = BUF_INIT(64);
            memcpy(text, published_key.ptr, sizeof text);
            text[at] = (char)c;
            int expected = base64url_decode(&out, slice_make(text, 43));
            CHECK_INT(fernet_key_read(slice_make(text, 44), key), expected);
            if (expected == 0)
                CHECK_SLICE(slice_make(key, FERNET_KEY), buf_slice(&out));
        }
    }
}

static void seal_and_open(void *arg) {
    unsigned char key[FERNET_KEY];
    struct buf token CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    struct buf out CLEANUP(buf_deinit) = BUF_INIT(KIB(1));
    (void)arg;
    read_published(key);
    int error = fernet_seal(key, TIME, NULL, SLICE("hello"), &token);
    CHECK(error == 0 || (error == -ENOMEM && buf_len(&token) == 0));
    if (error != 0)
        return;
    error = fernet_open(key, buf_slice(&token), NULL, &out);
    CHECK(error == 0 || (error == -ENOMEM && buf_len(&out) == 0));
}

static void test_memory(void) {
    test_torture(seal_and_open, NULL);
}

TEST_MAIN(TEST(test_generate), TEST(test_verify), TEST(test_invalid), TEST(test_changed),
          TEST(test_other_key), TEST(test_lengths), TEST(test_random), TEST(test_room),
          TEST(test_keys), TEST(test_keys_alike), TEST(test_memory))
