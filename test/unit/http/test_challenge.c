/* WWW-Authenticate: what of it is a challenge, and what becomes of a field that is none. */
#include "http/challenge.h"
#include "test.h"

/* "Scheme token68" or "Scheme name=value|name=value", one challenge after the other with ';'. */
static void describe(struct slice value, struct buf *out) {
    struct http_challenge challenges[HTTP_CHALLENGES];
    static const struct slice names[] = {SLICE_INIT("realm"), SLICE_INIT("SCOPE"),
                                         SLICE_INIT("resource_metadata"), SLICE_INIT("a"),
                                         SLICE_INIT("b")};
    size_t n = 0;
    if (http_challenges_read(value, challenges, &n) != 0) {
        buf_append_cstr(out, "invalid");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const char *separator = " ";
        buf_append_cstr(out, i != 0 ? ";" : "");
        buf_append(out, challenges[i].scheme);
        if (challenges[i].token68.len != 0) {
            buf_append_byte(out, ' ');
            buf_append(out, challenges[i].token68);
        }
        for (size_t k = 0; k < ARRAY_LEN(names); k++) {
            struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(32));
            if (http_challenge_get(&challenges[i], names[k], &text) != 0)
                continue;
            buf_append_cstr(out, separator);
            buf_append(out, names[k]);
            buf_append_byte(out, '=');
            buf_append(out, buf_slice(&text));
            separator = "|";
        }
    }
}

static void check(const char *value, size_t len, const char *expect) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(64));
    /* In memory of its own, so that a look behind the end is seen. */
    char *copy = mem_xalloc(len);
    memcpy(copy, value, len);
    describe(slice_make(copy, len), &text);
    test_row(value);
    CHECK_STR(buf_slice(&text), expect);
    mem_free(copy);
}

struct row {
    const char *value, *expect;
};

static void test_well_formed(void) {
    static const struct row rows[] = {
        {"", ""},
        {" , ,\t", ""},
        {"Bearer", "Bearer"},
        {"Bearer ", "Bearer"},
        {"Bearer,", "Bearer"},
        {"Bearer, Basic", "Bearer;Basic"},
        {"Bearer realm=x", "Bearer realm=x"},
        {"Bearer realm=\"x\"", "Bearer realm=x"},
        {"Bearer realm=\"\"", "Bearer realm="},
        {"Bearer   realm = \t \"x\"", "Bearer realm=x"},
        {"bearer REALM=x", "bearer realm=x"},
        {"Bearer realm=\"a, Basic realm=b\"", "Bearer realm=a, Basic realm=b"},
        {"Bearer realm=\"q\\\"\\\\\\x\"", "Bearer realm=q\"\\x"},
        {"Bearer realm=x, a=1,b=2", "Bearer realm=x|a=1|b=2"},
        {"Bearer realm=x,, ,a=1,", "Bearer realm=x|a=1"},
        {",Bearer a=1", "Bearer a=1"},
        {"Basic realm=x, Bearer a=1, scope=\"s t\"", "Basic realm=x;Bearer SCOPE=s t|a=1"},
        {"Bearer a=1, Basic realm=x", "Bearer a=1;Basic realm=x"},
        {"Negotiate abc==, Bearer a=1", "Negotiate abc==;Bearer a=1"},
        {"Negotiate a-._~+/9, Basic", "Negotiate a-._~+/9;Basic"},
        {"Negotiate a=", "Negotiate a="},
        {"Negotiate a==", "Negotiate a=="},
        {"Bearer x", "Bearer x"},
        {"Bearer a=1, Basic realm", "Bearer a=1;Basic realm"},
        {"Bearer resource_metadata=\"https://x.example/y?z=1,2\"",
         "Bearer resource_metadata=https://x.example/y?z=1,2"},
        {"Digest a=1, b=2, Bearer a=3, Digest b=4", "Digest a=1|b=2;Bearer a=3;Digest b=4"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check(rows[i].value, strlen(rows[i].value), rows[i].expect);
}

static void test_not_well_formed(void) {
    static const char *const rows[] = {
        "=",
        "realm=x",
        "realm=x, Bearer",
        "Bearer =x",
        "Bearer a=1 b=2",
        "Bearer a=\"1",
        "Bearer a=\"1\\",
        "Bearer a=\"1\\\"",
        "Bearer a=\"1\"x",
        "Bearer a=\"1\"\"2\"",
        "Bearer a=1, a=2",
        "Bearer a=1, A=2",
        "Bearer a=, b=1",
        "Bearer a=1;b=2",
        "Bearer\ta=1",
        "Bearer abc, b=2",
        "Bearer abc def",
        "Bearer a b=1",
        "Bearer \"x\"",
        "Bearer (x)",
        "Bearer a=1, \"x\"",
        "Bearer a=\"\x01\"",
        "Bearer a=\"\\\x01\"",
        "Bearer a=\"\x7f\"",
        "Bearer a=\"\xc3\xa9\"",
        "Bearer a=\xc3\xa9",
        "B\xc3\xa9",
        "Bearer error_description=The token is old",
        "Bearer a==1",
        "Bearer a=1=",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check(rows[i], strlen(rows[i]), "invalid");
    check("Bearer a=\"\0\"", 12, "invalid");
}

/* `begin`, and n times `name` with a number and `end`. */
static int read_filled(const char *begin, const char *name, const char *end, size_t n,
                       size_t *ret_n) {
    struct http_challenge challenges[HTTP_CHALLENGES];
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(64));
    buf_append_cstr(&text, begin);
    for (size_t i = 0; i < n; i++)
        buf_printf(&text, "%s%zu%s", name, i, end);
    return http_challenges_read(buf_slice(&text), challenges, ret_n);
}

static void test_limits(void) {
    size_t n = 0;
    CHECK_INT(read_filled("", "S", ",", HTTP_CHALLENGES, &n), 0);
    CHECK_INT(n, HTTP_CHALLENGES);
    CHECK_INT(read_filled("", "S", ",", HTTP_CHALLENGES + 1, &n), HTTP_E_CHALLENGE);
    CHECK_INT(read_filled("S ", "p", "=1,", HTTP_CHALLENGE_PARAMETERS, &n), 0);
    CHECK_INT(n, 1);
    CHECK_INT(read_filled("S ", "p", "=1,", HTTP_CHALLENGE_PARAMETERS + 1, &n), HTTP_E_CHALLENGE);
    CHECK_INT(read_filled("S ", "p", "=1,", 4000, &n), HTTP_E_CHALLENGE);
}

/* Every beginning, and every byte in the place of every other: it says something or nothing, and
 * looks at nothing else. What is read is inside of the value, in order. */
static void check_hostile(struct slice value) {
    struct http_challenge challenges[HTTP_CHALLENGES];
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(KIB(8));
    size_t n = 0;
    char *copy = mem_xalloc(value.len);
    if (value.len != 0)
        memcpy(copy, value.ptr, value.len);
    struct slice whole = slice_make(copy, value.len);
    if (http_challenges_read(whole, challenges, &n) == 0) {
        const char *end = whole.ptr;
        for (size_t i = 0; i < n; i++) {
            CHECK(challenges[i].scheme.len != 0 && challenges[i].scheme.ptr >= end);
            end = challenges[i].scheme.ptr + challenges[i].scheme.len;
            CHECK(http_is_token(challenges[i].scheme));
            CHECK(challenges[i].token68.len == 0 || challenges[i].parameters.len == 0);
            if (challenges[i].parameters.len != 0) {
                CHECK(challenges[i].parameters.ptr > end);
                end = challenges[i].parameters.ptr + challenges[i].parameters.len;
            }
            CHECK(end <= whole.ptr + whole.len);
            int r = http_challenge_get(&challenges[i], SLICE("scope"), &text);
            CHECK(r == 0 || r == HTTP_E_ABSENT);
        }
    }
    mem_free(copy);
}

static void test_hostile(void) {
    static const char good[] =
        "Basic realm=\"a\\\"b\", Bearer error=\"x\" , scope=\"a b\",Negotiate ab==, X";
    char changed[sizeof good];
    for (size_t i = 0; i < sizeof good; i++)
        check_hostile(slice_make(good, i));
    for (size_t i = 0; i < sizeof good - 1; i++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            memcpy(changed, good, sizeof good);
            changed[i] = (char)(unsigned char)byte;
            check_hostile(slice_make(changed, sizeof good - 1));
        }
    }
}

/* --- in a head --- */

static void test_find(void) {
    struct http_field fields[] = {
        {SLICE_INIT("WWW-Authenticate"), SLICE_INIT("Basic realm=x, Digest a=1")},
        {SLICE_INIT("www-authenticate"), SLICE_INIT("Bearer a=1 broken")},
        {SLICE_INIT("Proxy-Authenticate"), SLICE_INIT("Bearer scope=proxy")},
        {SLICE_INIT("WWW-authenticate"), SLICE_INIT("Foo, bearer scope=\"a b\", error=e")},
        {SLICE_INIT("WWW-Authenticate"), SLICE_INIT("Bearer scope=second")},
    };
    struct http_head head = {.fields = fields, .n_fields = ARRAY_LEN(fields)};
    struct http_challenge challenge;
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(64);
    REQUIRE(http_challenge_find(&head, SLICE("Bearer"), &challenge) == 0);
    CHECK_INT(http_challenge_get(&challenge, SLICE("scope"), &text), 0);
    CHECK_STR(buf_slice(&text), "a b");
    CHECK_INT(http_challenge_get(&challenge, SLICE("realm"), &text), HTTP_E_ABSENT);
    CHECK_STR(buf_slice(&text), "a b");
    CHECK_INT(http_challenge_find(&head, SLICE("DPoP"), &challenge), HTTP_E_ABSENT);
    head.n_fields = 3;
    CHECK_INT(http_challenge_find(&head, SLICE("Bearer"), &challenge), HTTP_E_ABSENT);
}

static void test_small_buffer(void) {
    struct http_challenge challenges[HTTP_CHALLENGES];
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(3);
    size_t n = 0;
    CHECK_INT(http_challenges_read(SLICE("B a=\"1\\234\", b=123"), challenges, &n), 0);
    CHECK_INT(http_challenge_get(&challenges[0], SLICE("a"), &text), -E2BIG);
    buf_reset(&text, 0);
    CHECK_INT(http_challenge_get(&challenges[0], SLICE("b"), &text), 0);
    CHECK_STR(buf_slice(&text), "123");
}

TEST_MAIN(TEST(test_well_formed), TEST(test_not_well_formed), TEST(test_limits), TEST(test_hostile),
          TEST(test_find), TEST(test_small_buffer))
