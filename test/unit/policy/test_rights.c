/* Rights: documents, patterns, what several roles give together, what two have in common, and who
 * has all that another one has. The properties at the end are checked against a plain model. */
#include "base/limits.h"
#include "policy/rights.h"
#include "test.h"

static void unrefp(struct policy_rights **rights) {
    *rights = policy_rights_unref(*rights);
}

static int read_rights(struct slice json, struct policy_rights **ret_rights, struct buf *reason) {
    struct json_reader *reader = NULL;
    int r = json_reader_new(&reader);
    if (r == 0)
        r = policy_rights_read(reader, json, ret_rights, reason);
    json_reader_free(reader);
    return r;
}

static struct policy_rights *must_read(struct slice json) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(4096);
    struct policy_rights *rights = NULL;
    if (read_rights(json, &rights, &reason) != 0) {
        printf("# %.*s: %.*s\n", SLICE_ARGS(json), SLICE_ARGS(buf_slice(&reason)));
        abort();
    }
    return rights;
}

/* One grant for operations of "u". */
static struct policy_rights *of_pattern(const char *pattern, bool can_write) {
    CLEANUP(buf_deinit) struct buf json = BUF_INIT(4096);
    buf_printf(&json,
               "{\"operations\":[{\"upstream\":\"u\",\"operation\":\"%s\",\"access\":\"%s\"}]}",
               pattern, can_write ? "write" : "read");
    return must_read(buf_slice(&json));
}

static void test_names(void) {
    for (unsigned i = 0; i < PERMISSION_COUNT; i++) {
        enum permission found = PERMISSION_COUNT;
        struct slice name = permission_name((enum permission)i);
        CHECK(name.len != 0);
        CHECK(permission_find(name, &found));
        CHECK_INT(found, i);
    }
    enum permission found = PERMISSION_COUNT;
    CHECK(!permission_find(SLICE("USERS.READ"), &found));
    CHECK(!permission_find(SLICE(""), &found));
    CHECK(!permission_find(SLICE("*"), &found));
    CHECK_INT(found, PERMISSION_COUNT);
}

static const struct refused_row {
    const char *name, *json, *reason;
} refused_rows[] = {
    {"empty", "", "strict JSON"},
    {"array", "[]", "an object"},
    {"null", "null", "an object"},
    {"unknown member", "{\"permission\":[]}", "nothing else"},
    {"folded key", "{\"Permissions\":[]}", "nothing else"},
    {"duplicate by escape", "{\"permissions\":[],\"\\u0070ermissions\":[]}", "strict JSON"},
    {"permissions no array", "{\"permissions\":{\"users.read\":true}}", "array of texts"},
    {"permission no text", "{\"permissions\":[\"users.read\",7]}", "permissions[1]"},
    {"permission unknown", "{\"permissions\":[\"everything\"]}", "no permission \"everything\""},
    {"permission star", "{\"permissions\":[\"*\"]}", "no permission"},
    {"permission with NUL", "{\"permissions\":[\"users.read\\u0000\"]}", "no permission"},
    {"permission with escape", "{\"permissions\":[\"\\u001b[31m\"]}", "\\u001B[31m"},
    {"operations no array", "{\"operations\":\"*\"}", "array of objects"},
    {"operation no object", "{\"operations\":[\"*\"]}", "operations[0] has to be"},
    {"no upstream", "{\"operations\":[{\"operation\":\"*\",\"access\":\"read\"}]}",
     "operations[0].upstream"},
    {"no operation", "{\"operations\":[{\"upstream\":\"*\",\"access\":\"read\"}]}",
     "operations[0].operation"},
    {"no access", "{\"operations\":[{\"upstream\":\"*\",\"operation\":\"*\"}]}",
     "operations[0].access"},
    {"other access",
     "{\"operations\":[{\"upstream\":\"*\",\"operation\":\"*\",\"access\":\"Write\"}]}",
     "operations[0].access"},
    {"empty pattern",
     "{\"operations\":[{\"upstream\":\"\",\"operation\":\"*\",\"access\":\"read\"}]}",
     "operations[0].upstream"},
    {"NUL in a pattern",
     "{\"operations\":[{\"upstream\":\"a\\u0000*\",\"operation\":\"*\",\"access\":\"read\"}]}",
     "control character"},
    {"member of an operation",
     "{\"operations\":[{\"upstream\":\"*\",\"operation\":\"*\",\"access\":\"read\","
     "\"except\":\"x\"}]}",
     "nothing else"},
    {"the second one is wrong",
     "{\"operations\":[{\"upstream\":\"*\",\"operation\":\"*\",\"access\":\"read\"},{}]}",
     "operations[1]"},
};

static void test_refused(void) {
    for (size_t i = 0; i < ARRAY_LEN(refused_rows); i++) {
        CLEANUP(buf_deinit) struct buf reason = BUF_INIT(4096);
        struct policy_rights *rights = NULL;
        test_row(refused_rows[i].name);
        CHECK_INT(read_rights(slice_from_cstr(refused_rows[i].json), &rights, &reason),
                  RIGHTS_E_WRONG);
        CHECK(rights == NULL);
        CHECK(slice_find(buf_slice(&reason), slice_from_cstr(refused_rows[i].reason)) != SIZE_MAX);
    }
    test_row("");
}

/* `n` grants with patterns of `len` bytes, and the document filled up to `size` bytes. */
static int read_large(size_t n, size_t len, size_t size) {
    CLEANUP(buf_deinit) struct buf json = BUF_INIT(MIB(4));
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(4096);
    CLEANUP(unrefp) struct policy_rights *rights = NULL;
    buf_append(&json, SLICE("{\"operations\":["));
    for (size_t i = 0; i < n; i++) {
        buf_printf(&json, "%s{\"upstream\":\"u\",\"operation\":\"", i != 0 ? "," : "");
        for (size_t j = 0; j < len; j++)
            buf_append_byte(&json, 'x');
        buf_append(&json, SLICE("\",\"access\":\"read\"}"));
    }
    buf_append(&json, SLICE("]}"));
    while (buf_len(&json) < size)
        buf_append_byte(&json, ' ');
    return read_rights(buf_slice(&json), &rights, &reason);
}

static void test_limits(void) {
    CHECK_INT(read_large(LIMIT_RIGHTS_GRANTS, 8, 0), 0);
    CHECK_INT(read_large(LIMIT_RIGHTS_GRANTS + 1, 8, 0), RIGHTS_E_WRONG);
    CHECK_INT(read_large(1, LIMIT_RIGHTS_PATTERN, 0), 0);
    CHECK_INT(read_large(1, LIMIT_RIGHTS_PATTERN + 1, 0), RIGHTS_E_WRONG);
    CHECK_INT(read_large(1, 8, LIMIT_RIGHTS), 0);
    CHECK_INT(read_large(1, 8, LIMIT_RIGHTS + 1), RIGHTS_E_WRONG);
    CHECK_INT(read_large(1, 8, MIB(1)), RIGHTS_E_WRONG);
}

static const struct match_row {
    const char *pattern, *text;
    bool is_match;
} match_rows[] = {
    {"a", "a", true},
    {"a", "b", false},
    {"a", "aa", false},
    {"a", "", false},
    {"*", "", true},
    {"*", "anything", true},
    {"**", "anything", true},
    {"a*", "a", true},
    {"a*", "abc", true},
    {"a*", "ba", false},
    {"*a", "a", true},
    {"*a", "ba", true},
    {"*a", "ab", false},
    {"a*a", "a", false},
    {"a*a", "aa", true},
    {"a*a", "aba", true},
    {"ab*ba", "aba", false},
    {"ab*ba", "abba", true},
    {"*b*", "abc", true},
    {"*b*", "ac", false},
    {"a*b*c", "abc", true},
    {"a*b*c", "acb", false},
    {"a*b*c", "axbxbxc", true},
    {"*ab*ab", "abab", true},
    {"*ab*ab", "ab", false},
    {"get_*", "get_", true},
    {"get_*", "GET_x", false},
    {"a.c", "abc", false},
    {"a?c", "abc", false},
    {"[a-c]", "b", false},
    {"file://*", "file:///etc/passwd", true},
    {"a*", "a*", true},
    {"a*b", "a*b", true},
    {"\xc3\xa9*", "\xc3\xa9t\xc3\xa9", true},
};

static void test_patterns(void) {
    for (size_t i = 0; i < ARRAY_LEN(match_rows); i++) {
        CLEANUP(unrefp) struct policy_rights *rights = of_pattern(match_rows[i].pattern, false);
        test_row(match_rows[i].pattern);
        CHECK_INT(
            policy_rights_allow(rights, SLICE("u"), slice_from_cstr(match_rows[i].text), false),
            match_rows[i].is_match);
        CHECK(!policy_rights_allow(rights, SLICE("u"), slice_from_cstr(match_rows[i].text), true));
        CHECK(!policy_rights_allow(rights, SLICE("v"), slice_from_cstr(match_rows[i].text), false));
    }
    test_row("");
}

/* With going back it would take longer than the universe has. */
static void test_many_stars_take_no_time(void) {
    CLEANUP(buf_deinit) struct buf pattern = BUF_INIT(1024), text = BUF_INIT(LIMIT_URI_LENGTH);
    for (size_t i = 0; i < LIMIT_RIGHTS_PATTERN / 2 - 1; i++)
        buf_append(&pattern, SLICE("a*"));
    buf_append(&pattern, SLICE("b"));
    CHECK_INT(buf_append_byte(&pattern, '\0'), 0);
    for (size_t i = 0; i < LIMIT_URI_LENGTH; i++)
        CHECK_INT(buf_append_byte(&text, 'a'), 0);
    CLEANUP(unrefp) struct policy_rights *rights = of_pattern(buf_slice(&pattern).ptr, true);
    for (int i = 0; i < 1000; i++)
        CHECK(!policy_rights_allow(rights, SLICE("u"), buf_slice(&text), true));
}

static const char *const example =
    "{\"permissions\":[\"tokens.own\",\"audit.read\",\"audit.read\"],"
    "\"operations\":[{\"upstream\":\"web\",\"operation\":\"get_*\",\"access\":\"write\"},"
    "{\"upstream\":\"web\",\"operation\":\"get_**\",\"access\":\"read\"},"
    "{\"access\":\"read\",\"operation\":\"*\",\"upstream\":\"db-*\"}]}";

static void test_asking(void) {
    CLEANUP(unrefp) struct policy_rights *rights = must_read(slice_from_cstr(example));
    CHECK(policy_rights_have(rights, PERMISSION_AUDIT_READ));
    CHECK(policy_rights_have(rights, PERMISSION_TOKENS_OWN));
    CHECK(!policy_rights_have(rights, PERMISSION_TOKENS_ALL));
    CHECK(!policy_rights_have(rights, PERMISSION_COUNT));
    CHECK(policy_rights_allow(rights, SLICE("db-1"), SLICE("drop"), false));
    CHECK(!policy_rights_allow(rights, SLICE("db-1"), SLICE("drop"), true));
    CHECK(policy_rights_allow(rights, SLICE("web"), SLICE("get_a"), true));
    CHECK(!policy_rights_allow(rights, SLICE("web"), SLICE("put_a"), false));
    CHECK(policy_rights_know(rights, SLICE("db-2")));
    CHECK(policy_rights_know(rights, SLICE("web")));
    CHECK(!policy_rights_know(rights, SLICE("webs")));
    CHECK(policy_rights_allow_all(rights, SLICE("db-1"), false));
    CHECK(!policy_rights_allow_all(rights, SLICE("db-1"), true));
    CHECK(!policy_rights_allow_all(rights, SLICE("web"), false));
}

static void test_writing(void) {
    CLEANUP(buf_deinit) struct buf out = BUF_INIT(4096), again = BUF_INIT(4096);
    CLEANUP(unrefp) struct policy_rights *rights = must_read(slice_from_cstr(example));
    CHECK_INT(policy_rights_write(rights, &out), 0);
    CHECK_STR(buf_slice(&out),
              "{\"permissions\":[\"audit.read\",\"tokens.own\"],\"operations\":["
              "{\"upstream\":\"db-*\",\"operation\":\"*\",\"access\":\"read\"},"
              "{\"upstream\":\"web\",\"operation\":\"get_*\",\"access\":\"write\"}]}");
    CLEANUP(unrefp) struct policy_rights *second = must_read(buf_slice(&out));
    CHECK_INT(policy_rights_write(second, &again), 0);
    CHECK_SLICE(buf_slice(&again), buf_slice(&out));
}

static void test_nothing_gives_nothing(void) {
    CLEANUP(unrefp) struct policy_rights *none = NULL;
    CLEANUP(unrefp) struct policy_rights *empty = must_read(SLICE("{}"));
    CLEANUP(unrefp)
    struct policy_rights *lists = must_read(SLICE("{\"permissions\":[],\"operations\":[]}"));
    CLEANUP(unrefp) struct policy_rights *all = of_pattern("*", true);
    REQUIRE(policy_rights_union(NULL, 0, &none) == 0);
    const struct policy_rights *const nothing[] = {none, empty, lists};
    for (size_t i = 0; i < ARRAY_LEN(nothing); i++) {
        CHECK(!policy_rights_allow(nothing[i], SLICE("u"), SLICE("x"), false));
        CHECK(!policy_rights_allow(nothing[i], SLICE(""), SLICE(""), false));
        CHECK(!policy_rights_know(nothing[i], SLICE("u")));
        CHECK(!policy_rights_allow_all(nothing[i], SLICE("u"), false));
        CHECK(policy_rights_cover(all, nothing[i]));
        CHECK(!policy_rights_cover(nothing[i], all));
        CHECK(policy_rights_cover(nothing[i], none));
    }
}

static const struct cover_row {
    const char *wide, *narrow;
    bool is_covered;
} cover_rows[] = {
    {"*", "*", true},         {"*", "a*b", true},      {"a*", "ab*", true},
    {"ab*", "a*", false},     {"a*", "*", false},      {"*a*", "a*", true},
    {"a*b", "a*c*b", true},   {"a*c*b", "a*b", false}, {"*a", "*", false},
    {"a", "a", true},         {"a", "*", false},       {"a*a", "a", false},
    {"a*", "a", true},        {"*b*b", "*b", false},   {"a*", "*a", false},
    {"*ab*", "*a*b*", false}, {"*a*b*", "*ab*", true}, {"a*a", "a*a*a", true},
    {"a*a*a", "a*a", false},  {"x*", "y*", false},
};

static void test_cover(void) {
    for (size_t i = 0; i < ARRAY_LEN(cover_rows); i++) {
        CLEANUP(unrefp) struct policy_rights *wide = of_pattern(cover_rows[i].wide, false);
        CLEANUP(unrefp) struct policy_rights *narrow = of_pattern(cover_rows[i].narrow, false);
        CLEANUP(unrefp) struct policy_rights *writing = of_pattern(cover_rows[i].narrow, true);
        CLEANUP(unrefp) struct policy_rights *wide_writing = of_pattern(cover_rows[i].wide, true);
        test_row(cover_rows[i].narrow);
        CHECK_INT(policy_rights_cover(wide, narrow), cover_rows[i].is_covered);
        CHECK_INT(policy_rights_cover(wide_writing, narrow), cover_rows[i].is_covered);
        CHECK_INT(policy_rights_cover(wide_writing, writing), cover_rows[i].is_covered);
        CHECK(!policy_rights_cover(wide, writing));
    }
    test_row("");
    CLEANUP(unrefp)
    struct policy_rights *one = must_read(SLICE("{\"permissions\":[\"users.read\"]}"));
    CLEANUP(unrefp)
    struct policy_rights *two =
        must_read(SLICE("{\"permissions\":[\"users.read\",\"users.write\"]}"));
    CHECK(policy_rights_cover(two, one));
    CHECK(!policy_rights_cover(one, two));
}

/* What "a*" and "*b" have in common is no pattern. */
static void test_meet_of_overlapping(void) {
    CLEANUP(unrefp) struct policy_rights *a = of_pattern("a*", true);
    CLEANUP(unrefp) struct policy_rights *b = of_pattern("*a", false);
    CLEANUP(unrefp) struct policy_rights *meeting = NULL;
    CLEANUP(unrefp) struct policy_rights *all = of_pattern("*", true);
    CLEANUP(unrefp) struct policy_rights *narrow = of_pattern("a*a", false);
    CLEANUP(buf_deinit) struct buf out = BUF_INIT(4096);
    REQUIRE(policy_rights_meet(a, b, &meeting) == 0);
    CHECK(policy_rights_allow(meeting, SLICE("u"), SLICE("a"), false));
    CHECK(policy_rights_allow(meeting, SLICE("u"), SLICE("axa"), false));
    CHECK(!policy_rights_allow(meeting, SLICE("u"), SLICE("axa"), true));
    CHECK(!policy_rights_allow(meeting, SLICE("u"), SLICE("ab"), false));
    CHECK(!policy_rights_allow(meeting, SLICE("u"), SLICE("ba"), false));
    CHECK(policy_rights_cover(a, meeting));
    CHECK(policy_rights_cover(b, meeting));
    CHECK(policy_rights_cover(all, meeting));
    CHECK(policy_rights_cover(meeting, meeting));
    CHECK(policy_rights_cover(meeting, narrow));
    CHECK(!policy_rights_cover(meeting, a));
    CHECK_INT(policy_rights_write(meeting, &out), 0);
    CHECK_STR(buf_slice(&out),
              "{\"permissions\":[],\"all_of\":["
              "{\"operations\":[{\"upstream\":\"u\",\"operation\":\"a*\",\"access\":\"write\"}]},"
              "{\"operations\":[{\"upstream\":\"u\",\"operation\":\"*a\",\"access\":\"read\"}]}]}");
}

/* Two halves do not make a whole: read of everything and write of something is no write of all. */
static void test_cover_of_parts(void) {
    CLEANUP(unrefp)
    struct policy_rights *actor =
        must_read(SLICE("{\"operations\":["
                        "{\"upstream\":\"*\",\"operation\":\"*\",\"access\":\"read\"},"
                        "{\"upstream\":\"a\",\"operation\":\"*\",\"access\":\"write\"},"
                        "{\"upstream\":\"*\",\"operation\":\"x\",\"access\":\"write\"}]}"));
    CLEANUP(unrefp)
    struct policy_rights *all =
        must_read(SLICE("{\"operations\":["
                        "{\"upstream\":\"*\",\"operation\":\"*\",\"access\":\"write\"}]}"));
    CHECK(!policy_rights_cover(actor, all));
    CHECK(policy_rights_cover(all, actor));
}

static void test_depth_has_an_end(void) {
    CLEANUP(unrefp) struct policy_rights *rights = of_pattern("*", true);
    CLEANUP(unrefp) struct policy_rights *one = of_pattern("*", true);
    int r = 0;
    for (int i = 0; i < 100 && r == 0; i++) {
        struct policy_rights *next = NULL;
        r = policy_rights_meet(rights, one, &next);
        if (r == 0) {
            policy_rights_unref(rights);
            rights = next;
        }
    }
    CHECK_INT(r, -E2BIG);
    CHECK(policy_rights_allow(rights, SLICE("u"), SLICE("x"), true));
}

/* --- properties --- */

static uint64_t state = 88172645463325252u;

static uint64_t chance(uint64_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 11) % below;
}

/* All words of up to 4 of two letters: short patterns differ in these, if they differ. */
enum { WORDS = 31, UPSTREAMS = 3, OUTCOMES = UPSTREAMS * WORDS * 2, CASES = 5000 };
static const char *const upstreams[UPSTREAMS] = {"a", "b", "ab"};

static struct slice word(size_t n, char text[static 4]) {
    size_t len = 0, first = 0;
    while (n >= first + ((size_t)1 << len)) {
        first += (size_t)1 << len;
        len++;
    }
    for (size_t i = 0; i < len; i++)
        text[i] = (n - first) >> i & 1u ? 'b' : 'a';
    return slice_make(text, len);
}

/* By the definition: a star is nothing, or a character and a star. */
static bool plain_match(const char *pattern, struct slice text) {
    if (pattern[0] == '\0')
        return text.len == 0;
    if (pattern[0] == '*')
        return plain_match(pattern + 1, text) ||
               (text.len != 0 && plain_match(pattern, slice_from(text, 1)));
    return text.len != 0 && text.ptr[0] == pattern[0] &&
           plain_match(pattern + 1, slice_from(text, 1));
}

/* What is allowed, as a set. */
struct model {
    bool allows[OUTCOMES];
    uint32_t permissions;
};

static void random_pattern(char *out) {
    size_t len = 1 + chance(4);
    for (size_t i = 0; i < len; i++)
        out[i] = "ab*"[chance(3)];
    out[len] = '\0';
}

static struct policy_rights *random_list(struct model *model) {
    CLEANUP(buf_deinit) struct buf json = BUF_INIT(4096);
    *model = (struct model){.permissions = 0};
    buf_append(&json, SLICE("{\"permissions\":["));
    for (unsigned i = 0, n = 0; i < PERMISSION_COUNT; i++) {
        if (chance(3) != 0)
            continue;
        buf_printf(&json, "%s\"%.*s\"", n++ != 0 ? "," : "",
                   SLICE_ARGS(permission_name((enum permission)i)));
        model->permissions |= 1u << i;
    }
    buf_append(&json, SLICE("],\"operations\":["));
    for (size_t i = 0, n = chance(4); i < n; i++) {
        char upstream[8], operation[8];
        bool can_write = chance(2) != 0;
        random_pattern(upstream);
        random_pattern(operation);
        buf_printf(&json, "%s{\"upstream\":\"%s\",\"operation\":\"%s\",\"access\":\"%s\"}",
                   i != 0 ? "," : "", upstream, operation, can_write ? "write" : "read");
        for (size_t j = 0; j < OUTCOMES; j++) {
            char text[4];
            if ((can_write || j % 2 == 0) &&
                plain_match(upstream, slice_from_cstr(upstreams[j / 2 / WORDS])) &&
                plain_match(operation, word(j / 2 % WORDS, text)))
                model->allows[j] = true;
        }
    }
    buf_append(&json, SLICE("]}"));
    return must_read(buf_slice(&json));
}

/* A tree of some depth, and what it has to allow. */
static struct policy_rights *random_rights(int depth, struct model *model) {
    if (depth == 0 || chance(3) == 0)
        return random_list(model);
    struct model models[2];
    CLEANUP(unrefp) struct policy_rights *a = random_rights(depth - 1, &models[0]);
    CLEANUP(unrefp) struct policy_rights *b = random_rights(depth - 1, &models[1]);
    struct policy_rights *both = NULL;
    bool is_union = chance(2) != 0;
    int r = is_union ? policy_rights_union((const struct policy_rights *const[]){a, b}, 2, &both)
                     : policy_rights_meet(a, b, &both);
    if (r != 0)
        abort();
    for (size_t i = 0; i < OUTCOMES; i++) {
        bool left = models[0].allows[i], right = models[1].allows[i];
        model->allows[i] = is_union ? left || right : left && right;
    }
    model->permissions = is_union ? models[0].permissions | models[1].permissions
                                  : models[0].permissions & models[1].permissions;
    return both;
}

static void check_model(const struct policy_rights *rights, const struct model *model) {
    for (size_t i = 0; i < OUTCOMES; i++) {
        char text[4];
        struct slice upstream = slice_from_cstr(upstreams[i / 2 / WORDS]);
        CHECK_INT(policy_rights_allow(rights, upstream, word(i / 2 % WORDS, text), i % 2 != 0),
                  model->allows[i]);
        if (policy_rights_allow_all(rights, upstream, i % 2 != 0))
            CHECK(model->allows[i]);
        if (model->allows[i])
            CHECK(policy_rights_know(rights, upstream));
    }
    for (unsigned i = 0; i < PERMISSION_COUNT; i++)
        CHECK_INT(policy_rights_have(rights, (enum permission)i), model->permissions >> i & 1u);
}

static bool model_covers(const struct model *wide, const struct model *narrow) {
    for (size_t i = 0; i < OUTCOMES; i++) {
        if (narrow->allows[i] && !wide->allows[i])
            return false;
    }
    return (narrow->permissions & ~wide->permissions) == 0;
}

static void test_random(void) {
    size_t n_covered = 0, n_proved = 0;
    for (size_t i = 0; i < CASES && test_failures == 0; i++) {
        struct model models[2];
        CLEANUP(unrefp) struct policy_rights *a = random_rights(3, &models[0]);
        CLEANUP(unrefp) struct policy_rights *b = random_rights(3, &models[1]);
        check_model(a, &models[0]);
        bool is_covered = model_covers(&models[0], &models[1]);
        n_covered += is_covered;
        if (policy_rights_cover(a, b)) {
            CHECK(is_covered);
            n_proved++;
        }
        CHECK(policy_rights_cover(a, a));
        CLEANUP(unrefp) struct policy_rights *both = NULL;
        CLEANUP(unrefp) struct policy_rights *any = NULL;
        REQUIRE(policy_rights_meet(a, b, &both) == 0);
        REQUIRE(policy_rights_union((const struct policy_rights *const[]){a, b}, 2, &any) == 0);
        CHECK(policy_rights_cover(a, both) && policy_rights_cover(b, both));
        CHECK(policy_rights_cover(any, a) && policy_rights_cover(any, b));
        CHECK(policy_rights_cover(any, both));
    }
    printf("# covered %zu, of which proved %zu\n", n_covered, n_proved);
    CHECK(n_proved > 100);
}

/* One list: what is covered in the model over all words is nearly always proved. */
static void test_random_patterns(void) {
    for (size_t i = 0; i < CASES && test_failures == 0; i++) {
        char wide[8], narrow[8];
        random_pattern(wide);
        random_pattern(narrow);
        CLEANUP(unrefp) struct policy_rights *a = of_pattern(wide, false);
        CLEANUP(unrefp) struct policy_rights *b = of_pattern(narrow, false);
        bool is_covered = true;
        for (size_t j = 0; j < WORDS; j++) {
            char text[4];
            struct slice name = word(j, text);
            CHECK_INT(policy_rights_allow(a, SLICE("u"), name, false), plain_match(wide, name));
            if (plain_match(narrow, name) && !plain_match(wide, name))
                is_covered = false;
        }
        if (policy_rights_cover(a, b))
            CHECK(is_covered);
    }
}

static void body(void *arg) {
    CLEANUP(buf_deinit) struct buf reason = BUF_INIT(4096), out = BUF_INIT(4096);
    CLEANUP(unrefp) struct policy_rights *a = NULL;
    CLEANUP(unrefp) struct policy_rights *b = NULL;
    CLEANUP(unrefp) struct policy_rights *both = NULL;
    CLEANUP(unrefp) struct policy_rights *any = NULL;
    struct slice json = slice_from_cstr(arg);
    int r = read_rights(json, &a, &reason);
    if (r == 0)
        r = read_rights(json, &b, &reason);
    if (r == 0)
        r = policy_rights_meet(a, b, &both);
    if (r == 0)
        r = policy_rights_union((const struct policy_rights *const[]){a, both, b}, 3, &any);
    if (r == 0)
        r = policy_rights_write(any, &out);
    CHECK(r == 0 || r == -ENOMEM);
}

static void test_without_memory(void) {
    char json[512];
    snprintf(json, sizeof json, "%s", example);
    test_torture(body, json);
}

TEST_MAIN(TEST(test_names), TEST(test_refused), TEST(test_limits), TEST(test_patterns),
          TEST(test_many_stars_take_no_time), TEST(test_asking), TEST(test_writing),
          TEST(test_nothing_gives_nothing), TEST(test_cover), TEST(test_meet_of_overlapping),
          TEST(test_cover_of_parts), TEST(test_depth_has_an_end), TEST(test_random),
          TEST(test_random_patterns), TEST(test_without_memory))
