/* Floor 0: slices, buffers, arenas, maps, hashes, encodings. */
#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/base64.h"
#include "base/buf.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/random.h"
#include "base/secret.h"
#include "base/utf8.h"
#include "test.h"

static void test_slice(void) {
    struct slice head, rest;
    CHECK(slice_eq_nocase(SLICE("HoSt"), SLICE("hOsT")));
    CHECK(!slice_eq_nocase(SLICE("a["), SLICE("a{")));
    CHECK(slice_cmp(SLICE("a"), SLICE("ab")) < 0);
    CHECK(slice_starts_with(SLICE("abc"), SLICE("ab")) &&
          slice_ends_with(SLICE("abc"), SLICE("bc")));
    CHECK(!slice_ends_with(SLICE("c"), SLICE("bc")));
    CHECK_INT(slice_find(SLICE("aabab"), SLICE("ab")), 1);
    CHECK(slice_find(SLICE("a"), SLICE("ab")) == SIZE_MAX);
    CHECK_STR(slice_sub(SLICE("abcdef"), 2, 100), "cdef");
    CHECK_STR(slice_sub(SLICE("abcdef"), 4, 2), "");
    CHECK_STR(slice_trim(SLICE(" \t a b\t ")), "a b");
    CHECK_STR(slice_trim(SLICE(" \t ")), "");
    CHECK(slice_cut(SLICE("k=v=w"), '=', &head, &rest));
    CHECK_STR(head, "k");
    CHECK_STR(rest, "v=w");
    CHECK(!slice_cut(SLICE("kv"), '=', &head, &rest));
    CHECK_STR(head, "kv");
}

/* Every place of texts around the sixteen bytes that are looked at at once, with the needle's first
 * and last bytes all over them. */
static void test_slice_find(void) {
    char text[80], needle[80];
    size_t wrong = 0;
    for (size_t len = 1; len < sizeof needle; len++) {
        memset(needle, 'm', len);
        needle[0] = needle[len - 1] = 'a';
        for (size_t size = len; size < sizeof text; size++) {
            memset(text, 'a', size);
            size_t found = slice_find(slice_make(text, size), slice_make(needle, len));
            wrong += found != (len <= 2 ? 0 : SIZE_MAX);
            for (size_t at = 0; len > 2 && at <= size - len; at++) {
                memset(text, at % 2 == 0 ? 'a' : 'z', size);
                memcpy(text + at, needle, len);
                found = slice_find(slice_make(text, size), slice_make(needle, len));
                wrong += found != at;
            }
        }
    }
    CHECK_INT(wrong, 0);
}

static int lower(unsigned char c) {
    return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c;
}

/* Every pair of bytes at every place of strings around the eight bytes that are compared at once.
 */
static void test_slice_nocase(void) {
    size_t wrong = 0;
    for (size_t len = 1; len <= 17; len++) {
        for (unsigned pair = 0; pair < 65536; pair++) {
            char a[17], b[17];
            unsigned char x = (unsigned char)(pair >> 8), y = (unsigned char)pair;
            size_t at = pair % len;
            memset(a, 'q', sizeof a);
            memset(b, 'Q', sizeof b);
            a[at] = (char)x;
            b[at] = (char)y;
            wrong +=
                slice_eq_nocase(slice_make(a, len), slice_make(b, len)) != (lower(x) == lower(y));
        }
    }
    CHECK_INT(wrong, 0);
    CHECK(!slice_eq_nocase(SLICE("content-length"), SLICE("content-lengt")));
}

static void test_slice_cstr(void) {
    char out[4] = "old";
    CHECK_INT(slice_to_cstr(SLICE("abc"), out, sizeof out), 0);
    CHECK_STR(slice_from_cstr(out), "abc");
    CHECK_INT(slice_to_cstr(SLICE("abcd"), out, sizeof out), -ENAMETOOLONG);
    CHECK_INT(slice_to_cstr(SLICE("a\0b"), out, sizeof out), -EINVAL);
    CHECK_STR(slice_from_cstr(out), "abc");
}

static void test_slice_number(void) {
    static const struct {
        const char *text;
        int result;
        uint64_t number;
    } rows[] = {
        {"0", 0, 0},
        {"18446744073709551615", 0, UINT64_MAX},
        {"18446744073709551616", -ERANGE, 7},
        {"", -EINVAL, 7},
        {"+1", -EINVAL, 7},
        {"-1", -EINVAL, 7},
        {" 1", -EINVAL, 7},
        {"1 ", -EINVAL, 7},
        {"0x1", -EINVAL, 7},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t number = 7;
        test_row(rows[i].text);
        CHECK_INT(slice_to_u64(slice_from_cstr(rows[i].text), &number), rows[i].result);
        CHECK(number == rows[i].number);
    }
}

static void test_buf_limit(void) {
    struct buf buf = BUF_INIT(8);
    CHECK_INT(buf_append(&buf, SLICE("12345678")), 0);
    CHECK_INT(buf_append_byte(&buf, '9'), -E2BIG);
    CHECK_INT(buf_append(&buf, SLICE("")), -E2BIG);
    CHECK_STR(buf_slice(&buf), "12345678");
    buf_reset(&buf, 1024);
    CHECK_INT(buf_append(&buf, SLICE("abcd")), 0);
    buf_consume(&buf, 3);
    CHECK_INT(buf_append(&buf, SLICE("1234567")), 0);
    CHECK_STR(buf_slice(&buf), "d1234567");
    buf_truncate(&buf, 2);
    CHECK_STR(buf_slice(&buf), "d1");
    size_t len = 0;
    char *taken = buf_take(&buf, &len);
    CHECK(taken != NULL && len == 2 && strcmp(taken, "d1") == 0);
    mem_free(taken);
    CHECK_INT(buf_len(&buf), 0);
    buf_deinit(&buf);
}

static void test_buf_overflow(void) {
    struct buf buf = BUF_INIT(SIZE_MAX);
    CHECK_INT(buf_append_byte(&buf, 'x'), 0);
    CHECK(buf_reserve(&buf, SIZE_MAX) == NULL);
    CHECK_INT(buf_error(&buf), -E2BIG);
    buf_deinit(&buf);
}

static void test_buf_write(void) {
    struct buf buf = BUF_INIT(100);
    buf_append_u64(&buf, 0);
    buf_append_byte(&buf, ' ');
    buf_append_u64(&buf, UINT64_MAX);
    buf_printf(&buf, " %s-%d", "x", 5);
    CHECK_INT(buf_error(&buf), 0);
    CHECK_STR(buf_slice(&buf), "0 18446744073709551615 x-5");
    buf_deinit(&buf);
}

static void test_arena(void) {
    struct arena arena = ARENA_INIT(KIB(64));
    for (size_t i = 1; i < 300; i++) {
        unsigned char *block = arena_alloc(&arena, i);
        REQUIRE(block != NULL);
        CHECK(((uintptr_t)block & 15) == 0 && block[0] == 0 && block[i - 1] == 0);
        memset(block, 0xff, i);
    }
    CHECK_STR(arena_dup(&arena, SLICE("text")), "text");
    CHECK(arena_cstr(&arena, SLICE("a\0b")) == NULL);
    CHECK(!arena_failed(&arena));
    CHECK(arena_alloc(&arena, KIB(64)) == NULL);
    CHECK(arena_alloc(&arena, 1) == NULL);
    CHECK(arena_failed(&arena));
    arena_reset(&arena);
    CHECK(arena_alloc(&arena, KIB(60)) != NULL);
    CHECK(arena_alloc_array(&arena, SIZE_MAX / 2, 4) == NULL);
    arena_deinit(&arena);
}

static void test_map(void) {
    struct map map;
    static int values[2000];
    map_init(&map);
    CHECK(map_get(&map, SLICE("none")) == NULL);
    for (size_t i = 0; i < 2000; i++) {
        char key[16];
        int len = snprintf(key, sizeof key, "k%zu", i);
        CHECK_INT(map_set(&map, slice_make(key, (size_t)len), &values[i]), 0);
    }
    CHECK(map_get(&map, SLICE("k1234")) == &values[1234]);
    for (size_t i = 0; i < 2000; i += 2) {
        char key[16];
        int len = snprintf(key, sizeof key, "k%zu", i);
        CHECK(map_remove(&map, slice_make(key, (size_t)len)) == &values[i]);
    }
    CHECK(map_remove(&map, SLICE("k2")) == NULL);
    CHECK_INT(map.count, 1000);
    size_t cursor = 0, seen = 0;
    void *value = NULL;
    while (map_next(&map, &cursor, NULL, &value)) {
        CHECK(value == &values[2 * seen + 1]);
        seen++;
    }
    CHECK_INT(seen, 1000);
    map_deinit(&map);
}

/* Setting and removing for ever must not fill the table with dead entries. */
static void test_map_churn(void) {
    struct map map;
    int value = 0;
    map_init(&map);
    CHECK_INT(map_set(&map, SLICE("stays"), &value), 0);
    for (int i = 0; i < 100000; i++) {
        char key[16];
        int len = snprintf(key, sizeof key, "%d", i);
        CHECK_INT(map_set(&map, slice_make(key, (size_t)len), &value), 0);
        CHECK(map_remove(&map, slice_make(key, (size_t)len)) == &value);
    }
    CHECK(map.cap_entries <= 64);
    CHECK(map_has(&map, SLICE("stays")));
    map_deinit(&map);
}

static void test_siphash(void) {
    /* Appendix A of the SipHash paper: key 00..0f, message 00..0e. */
    unsigned char bytes[15];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)i;
    struct hash_key key = {0x0706050403020100U, 0x0f0e0d0c0b0a0908U};
    CHECK(hash_siphash(&key, slice_make(bytes, sizeof bytes)) == 0xa129ca6149be45e5U);
}

static void test_base64(void) {
    static const struct {
        struct slice plain, text;
    } rows[] = {
        {SLICE_INIT(""), SLICE_INIT("")},
        {SLICE_INIT("f"), SLICE_INIT("Zg==")},
        {SLICE_INIT("fo"), SLICE_INIT("Zm8=")},
        {SLICE_INIT("foo"), SLICE_INIT("Zm9v")},
        {SLICE_INIT("foob"), SLICE_INIT("Zm9vYg==")},
        {SLICE_INIT("\xfb\xff\xfe"), SLICE_INIT("+//+")},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(100);
        CHECK_INT(base64_encode(&out, rows[i].plain), 0);
        CHECK_SLICE(buf_slice(&out), rows[i].text);
        buf_reset(&out, 0);
        CHECK_INT(base64_decode(&out, rows[i].text), 0);
        CHECK_SLICE(buf_slice(&out), rows[i].plain);
    }
    static const char *const bad[] = {
        "Zg", "Zg=", "Zh==", "=", "==", "====", "Z===", "Zg==Zg==", "Zm 8=", "-__-", "Zg=Z"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct buf out CLEANUP(buf_deinit) = BUF_INIT(100);
        test_row(bad[i]);
        CHECK_INT(base64_decode(&out, slice_from_cstr(bad[i])), -EINVAL);
    }
}

static void test_base64url(void) {
    static const struct {
        struct slice plain, text;
    } rows[] = {
        {SLICE_INIT(""), SLICE_INIT("")},
        {SLICE_INIT("f"), SLICE_INIT("Zg")},
        {SLICE_INIT("fo"), SLICE_INIT("Zm8")},
        {SLICE_INIT("foo"), SLICE_INIT("Zm9v")},
        {SLICE_INIT("foobar"), SLICE_INIT("Zm9vYmFy")},
        {SLICE_INIT("\xfb\xff"), SLICE_INIT("-_8")},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out = BUF_INIT(100);
        CHECK_INT(base64url_encode(&out, rows[i].plain), 0);
        CHECK_SLICE(buf_slice(&out), rows[i].text);
        buf_reset(&out, 0);
        CHECK_INT(base64url_decode(&out, rows[i].text), 0);
        CHECK_SLICE(buf_slice(&out), rows[i].plain);
        buf_deinit(&out);
    }
    static const char *const bad[] = {"Z", "Zg==", "Zh", "Zm 8", "Zm9+", "Zm9/", "Zg\n"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct buf out = BUF_INIT(100);
        test_row(bad[i]);
        CHECK_INT(base64url_decode(&out, slice_from_cstr(bad[i])), -EINVAL);
        buf_deinit(&out);
    }
}

static void test_utf8(void) {
    static const struct slice good[] = {
        SLICE_INIT(""),
        SLICE_INIT("a\x7f"),
        SLICE_INIT("\xc2\x80"),
        SLICE_INIT("\xdf\xbf"),
        SLICE_INIT("\xe0\xa0\x80"),
        SLICE_INIT("\xed\x9f\xbf"),
        SLICE_INIT("\xee\x80\x80"),
        SLICE_INIT("\xf0\x90\x80\x80"),
        SLICE_INIT("\xf4\x8f\xbf\xbf"),
    };
    static const struct slice bad[] = {
        SLICE_INIT("\x80"),
        SLICE_INIT("\xc0\x80"),
        SLICE_INIT("\xc1\xbf"),
        SLICE_INIT("\xc2"),
        SLICE_INIT("\xe0\x9f\xbf"),
        SLICE_INIT("\xed\xa0\x80"),
        SLICE_INIT("\xf0\x8f\xbf\xbf"),
        SLICE_INIT("\xf4\x90\x80\x80"),
        SLICE_INIT("\xf5\x80\x80\x80"),
        SLICE_INIT("\xff"),
        SLICE_INIT("\xe2\x82"),
        SLICE_INIT("\xc2\x41"),
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        CHECK(utf8_is_valid(good[i]));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK(!utf8_is_valid(bad[i]));
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        if (c >= 0xd800 && c <= 0xdfff)
            continue;
        char out[4];
        uint32_t back = 0;
        size_t len = utf8_encode(c, out);
        if (utf8_decode(slice_make(out, len), &back) != len || back != c)
            CHECK_INT(c, -1);
    }
    CHECK_STR(utf8_truncate(SLICE("a\u20ac"), 3), "a");
    CHECK_STR(utf8_truncate(SLICE("a\u20ac"), 4), "a\u20ac");
}

/* The spawner is a copy of the process that never becomes another program. */
static void test_secret_is_not_inherited(void) {
    struct secret *secret;
    int status = 0;
    REQUIRE(secret_new(SLICE("s3cr3t"), &secret) == 0);
    const char *bytes = secret_reveal(secret).ptr;
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        bool is_zero = true;
        for (size_t i = 0; i < 6; i++)
            is_zero = is_zero && bytes[i] == '\0';
        _exit(is_zero ? 0 : 1);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_STR(secret_reveal(secret), "s3cr3t");
    secret_free(secret);
}

static void test_secret(void) {
    struct secret *secret = NULL;
    CHECK_INT(secret_new(SLICE("hunter2"), &secret), 0);
    CHECK(secret_equals(secret, SLICE("hunter2")));
    CHECK(!secret_equals(secret, SLICE("hunter3")));
    CHECK(!secret_equals(secret, SLICE("hunter22")));
    secret = secret_free(secret);
}

static void test_escape(void) {
    struct buf out = BUF_INIT(200);
    CHECK_INT(log_escape(&out, SLICE("a\x1b[2J\n\xff\u202e\u00e9"), 100), 0);
    CHECK_STR(buf_slice(&out), "a\\x1b[2J\\x0a\\xff\\xe2\\x80\\xae\u00e9");
    buf_reset(&out, 0);
    CHECK_INT(log_escape(&out, SLICE("abcdef"), 3), 0);
    CHECK_STR(buf_slice(&out), "abc\u2026");
    buf_deinit(&out);
}

static void test_time(void) {
    char text[CLOCK_RFC3339_SIZE];
    clock_format_rfc3339(0, text);
    CHECK_STR(slice_from_cstr(text), "1970-01-01T00:00:00.000Z");
    clock_format_rfc3339(1790000000123U, text);
    CHECK_STR(slice_from_cstr(text), "2026-09-21T14:13:20.123Z");
}

static void test_random_below(void) {
    bool seen[5] = {false};
    for (int i = 0; i < 1000; i++) {
        uint64_t number = random_below(5);
        REQUIRE(number < 5);
        seen[number] = true;
    }
    CHECK(seen[0] && seen[1] && seen[2] && seen[3] && seen[4]);
}

static void torture_body(void *arg) {
    (void)arg;
    struct buf buf = BUF_INIT(10000);
    struct arena arena = ARENA_INIT(10000);
    struct map map;
    int value = 0;
    char text[1000];
    memset(text, 'x', sizeof text);
    map_init(&map);
    for (int i = 0; i < 20; i++) {
        char key[4];
        int len = snprintf(key, sizeof key, "%d", i);
        int error = map_set(&map, slice_make(key, (size_t)len), &value);
        CHECK(error == 0 || error == -ENOMEM);
        CHECK((map_get(&map, slice_make(key, (size_t)len)) != NULL) == (error == 0));
        error = buf_append(&buf, slice_make(text, 400));
        CHECK(error == 0 || error == -ENOMEM);
        void *block = arena_alloc(&arena, 400);
        CHECK((block == NULL) == arena_failed(&arena));
    }
    base64url_encode(&buf, SLICE("abc"));
    map_deinit(&map);
    buf_deinit(&buf);
    arena_deinit(&arena);
}

static void test_out_of_memory(void) {
    test_torture(torture_body, NULL);
}

struct item {
    struct list_link link;
    int number;
};

static void test_list(void) {
    struct list a, b;
    struct item items[4] = {{.number = 0}, {.number = 1}, {.number = 2}, {.number = 3}};
    list_init(&a);
    list_init(&b);
    list_push_back(&a, &items[1].link);
    list_push_front(&a, &items[0].link);
    list_push_back(&b, &items[2].link);
    list_push_back(&b, &items[3].link);
    list_splice_back(&a, &b);
    CHECK(list_is_empty(&b));
    list_remove(&items[1].link);
    list_remove(&items[1].link);
    int sum = 0;
    LIST_FOREACH_SAFE (&a, link, tmp) {
        sum = sum * 10 + CONTAINER_OF(link, struct item, link)->number;
        list_remove(link);
    }
    CHECK_INT(sum, 23);
    CHECK(list_pop_front(&a) == NULL);
}

TEST_MAIN(TEST(test_slice), TEST(test_slice_find), TEST(test_slice_nocase), TEST(test_slice_cstr),
          TEST(test_slice_number), TEST(test_buf_limit), TEST(test_buf_overflow),
          TEST(test_buf_write), TEST(test_arena), TEST(test_map), TEST(test_map_churn),
          TEST(test_siphash), TEST(test_base64), TEST(test_base64url), TEST(test_utf8),
          TEST(test_secret), TEST(test_secret_is_not_inherited), TEST(test_escape), TEST(test_time),
          TEST(test_random_below), TEST(test_out_of_memory), TEST(test_list))
