/* One fetch: what is asked for, and every answer that is not what it should be. */
#include <errno.h>

#include "base/limits.h"
#include "world.h"

#define GOOD     ANSWER(KEYS(KEY_EC))
#define IN_ERROR "it answers with status "

/* --- answers that are of no use --- */

struct row {
    const char *name;
    struct reply reply;
    const char *expect; /* the error's end */
};

static void check_error(struct world *world, const char *expect) {
    if (!slice_ends_with(slice_from_cstr(world_error(world)), slice_from_cstr(expect))) {
        CHECK_STR(slice_from_cstr(world_error(world)), expect);
    }
}

/* First, when there is nothing to fall back on; and again when there are keys, which stay. */
static void check_row(const struct row *row) {
    struct reply good = GOOD;
    struct reply replies[] = {row->reply, good, row->reply, good};
    struct world world;
    test_row(row->name);
    world_open(&world, replies, ARRAY_LEN(replies));
    world_add(&world, "/keys", NULL);
    world_start(&world);
    world_wait(&world);
    CHECK_INT(world_keys(&world, 0), -1);
    CHECK_INT(world_generation(&world, 0), 0);
    check_error(&world, row->expect);
    CHECK_INT(world.server.n_requests, 1);
    CHECK_INT(world_count_log(&world, "keys cannot be fetched"), 1);

    world.now += 1000;
    world_wait(&world);
    CHECK_INT(world_keys(&world, 0), 1);
    CHECK_INT(world_generation(&world, 0), 1);
    CHECK_STR(slice_from_cstr(world_error(&world)), "");

    world.now += LIMIT_JWKS_PAUSE_MS;
    world_wait(&world);
    CHECK_INT(world.server.n_requests, 3);
    check_error(&world, row->expect);
    CHECK_INT(world_keys(&world, 0), 1);
    CHECK_INT(world_generation(&world, 0), 1);

    /* The same bytes as before: confirmed, and nothing has to be verified again. */
    world.now += LIMIT_JWKS_PAUSE_MS;
    world_wait(&world);
    CHECK_INT(world_generation(&world, 0), 1);
    CHECK_STR(slice_from_cstr(world_error(&world)), "");
    world_close(&world);
}

static void check_rows(const struct row *rows, size_t n) {
    for (size_t i = 0; i < n; i++)
        check_row(&rows[i]);
}

#define BODY(fields, body)                                                                         \
    { SLICE_INIT(OK_UNTIL_CLOSE(fields, body)), REPLY_CLOSE }

static void test_other_answers(void) {
    static const struct row rows[] = {
        {"301 to nowhere", STATUS("301 X"), "it redirects to what is no URL"},
        {"302 to two places",
         {SLICE_INIT("HTTP/1.1 302 X\r\nLocation: /a\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n"),
          REPLY_CLOSE},
         "it redirects to what is no URL"},
        {"307 to what is no URL",
         {SLICE_INIT("HTTP/1.1 307 X\r\nLocation: http://a b/\r\n\r\n"), REPLY_CLOSE},
         "it redirects to what is no URL"},
        {"308 to another scheme",
         {SLICE_INIT("HTTP/1.1 308 X\r\nLocation: ftp://127.0.0.1/k\r\n\r\n"), REPLY_CLOSE},
         "it redirects: the URL is neither http nor https"},
        {"300",
         {SLICE_INIT("HTTP/1.1 300 X\r\nLocation: /k\r\n\r\n" KEYS(KEY_EC)), REPLY_CLOSE},
         IN_ERROR "300"},
        {"304", STATUS("304 X"), IN_ERROR "304"},
        {"404", STATUS("404 X"), IN_ERROR "404"},
        {"404 with keys",
         {SLICE_INIT("HTTP/1.1 404 X\r\n\r\n" KEYS(KEY_EC)), REPLY_CLOSE},
         IN_ERROR "404"},
        {"401", STATUS("401 X"), IN_ERROR "401"},
        {"429", STATUS("429 X"), IN_ERROR "429"},
        {"503", STATUS("503 X"), IN_ERROR "503"},
        {"201", {SLICE_INIT("HTTP/1.1 201 X\r\n\r\n" KEYS(KEY_EC)), REPLY_CLOSE}, IN_ERROR "201"},
        {"204", STATUS("204 X"), IN_ERROR "204"},
        {"206", {SLICE_INIT("HTTP/1.1 206 X\r\n\r\n" KEYS(KEY_EC)), REPLY_CLOSE}, IN_ERROR "206"},
        {"html", BODY("Content-Type: text/html; charset=utf-8\r\n", "<html></html>"),
         "it answers with a web page"},
        {"html with keys", BODY("Content-Type: TEXT/HTML\r\n", KEYS(KEY_EC)),
         "it answers with a web page"},
        {"xhtml", BODY("Content-Type: application/xhtml+xml\r\n", KEYS(KEY_EC)),
         "it answers with a web page"},
        {"gzip", BODY("Content-Encoding: gzip\r\n", "\x1f\x8b"),
         "the answer is compressed, which was not asked for"},
    };
    check_rows(rows, ARRAY_LEN(rows));
}

static void test_broken_answers(void) {
    static const struct row rows[] = {
        {"nothing", {SLICE_INIT(""), REPLY_CLOSE}, "it closed the connection before it answered"},
        {"reset", {SLICE_INIT(""), REPLY_RESET}, "it closed the connection before it answered"},
        {"no HTTP", {SLICE_INIT("SSH-2.0-x\r\n\r\n"), REPLY_CLOSE}, ""},
        {"truncated",
         {SLICE_INIT("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" KEYS(KEY_EC)), REPLY_CLOSE},
         "it closed the connection in the midst of the answer"},
        {"truncated chunk",
         {SLICE_INIT("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"keys\":\r\n"),
          REPLY_CLOSE},
         "it closed the connection in the midst of the answer"},
        {"declared too long",
         {SLICE_INIT("HTTP/1.1 200 OK\r\nContent-Length: 262145\r\n\r\n"), REPLY_HOLD},
         "the answer is longer than the limit"},
        {"declared far too long",
         {SLICE_INIT("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n"),
          REPLY_HOLD},
         "the answer is longer than the limit"},
        {"two lengths",
         {SLICE_INIT("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}"),
          REPLY_CLOSE},
         "there is more than one Content-Length"},
    };
    check_rows(rows, ARRAY_LEN(rows));
}

/* What is in it. jose/ says which sentence: here it only has to be one. */
static void test_documents_of_no_use(void) {
    static const struct row rows[] = {
        {"empty", ANSWER(""), ""},
        {"no JSON", ANSWER("keys"), ""},
        {"half of it", ANSWER("{\"keys\":[" KEY_EC), ""},
        {"something behind", ANSWER(KEYS(KEY_EC) "x"), ""},
        {"an array", ANSWER("[" KEY_EC "]"), ""},
        {"a key alone", ANSWER(KEY_EC), ""},
        {"no keys", ANSWER("{}"), ""},
        {"keys of another type", ANSWER("{\"keys\":{}}"), ""},
        {"null", ANSWER("{\"keys\":null}"), ""},
        {"keys twice", ANSWER("{\"keys\":[" KEY_EC "],\"keys\":[]}"), ""},
        {"keys twice, one in escapes", ANSWER("{\"keys\":[],\"k\\u0065ys\":[" KEY_EC "]}"), ""},
        {"no UTF-8", ANSWER("{\"x\":\"\xff\",\"keys\":[" KEY_EC "]}"), ""},
    };
    check_rows(rows, ARRAY_LEN(rows));
}

/* --- size --- */

static char huge[LIMIT_JWKS + 4096];

/* A set of one key and a string that fills it up to `size`, without a declared length. */
static struct reply padded(size_t size) {
    static const char head[] = "HTTP/1.1 200 OK\r\n\r\n";
    static const char begin[] = "{\"keys\":[" KEY_EC "],\"x\":\"";
    size_t len = sizeof head - 1 + size;
    memset(huge, 'x', sizeof huge);
    memcpy(huge, head, sizeof head - 1);
    memcpy(huge + sizeof head - 1, begin, sizeof begin - 1);
    huge[len - 2] = '"';
    huge[len - 1] = '}';
    return (struct reply){slice_make(huge, len), REPLY_CLOSE};
}

static void test_size(void) {
    for (size_t size = LIMIT_JWKS; size <= LIMIT_JWKS + 1; size++) {
        struct reply reply = padded(size);
        struct world world;
        world_open(&world, &reply, 1);
        world_add(&world, "/keys", NULL);
        world_start(&world);
        world_wait(&world);
        CHECK_INT(world_keys(&world, 0), size <= LIMIT_JWKS ? 1 : -1);
        check_error(&world, size <= LIMIT_JWKS ? "" : "the answer is longer than the limit");
        world_close(&world);
    }
}

/* --- time --- */

static void check_slow(const struct reply *replies, size_t n_replies, size_t n_requests,
                       const char *issuer) {
    struct world world;
    struct waiter waiter;
    world_open(&world, replies, n_replies);
    world_add(&world, issuer == NULL ? "/keys" : NULL, issuer);
    world_start(&world);
    REQUIRE(waiter_start(&waiter, &world));
    world_run_until_requests(&world, n_requests);
    world_settle(&world);
    CHECK_INT(waiter.n_told, 0);
    /* Bytes came: they buy no time. */
    world_advance(&world, LIMIT_JWKS_WAIT_MS - 1);
    world_settle(&world);
    CHECK_INT(waiter.n_told, 0);
    world_advance(&world, 1);
    world_settle(&world);
    CHECK_INT(waiter.n_told, 1);
    CHECK(world.oauth->issuers[0].is_fetching);
    world_advance(&world, LIMIT_JWKS_FETCH_MS - LIMIT_JWKS_WAIT_MS - 1);
    CHECK(world.oauth->issuers[0].is_fetching);
    world_advance(&world, 1);
    CHECK(!world.oauth->issuers[0].is_fetching);
    check_error(&world, "it did not answer in time");
    CHECK_INT(world_keys(&world, 0), -1);
    world_settle(&world);
    CHECK_INT(world.server.n_open, 0);
    world_close(&world);
}

#define METADATA_404 STATUS("404 Not Found")

static void test_time(void) {
    static const struct reply silent[] = {{SLICE_INIT(""), REPLY_HOLD}};
    static const struct reply half_a_head[] = {{SLICE_INIT("HTTP/1.1 200 O"), REPLY_HOLD}};
    static const struct reply half_a_body[] = {
        {SLICE_INIT("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"keys\":["), REPLY_HOLD}};
    static const struct reply at_last[] = {
        METADATA_404, METADATA_404, {SLICE_INIT(""), REPLY_HOLD}};
    check_slow(silent, 1, 1, NULL);
    check_slow(half_a_head, 1, 1, NULL);
    check_slow(half_a_body, 1, 1, NULL);
    check_slow(silent, 1, 1, "/t");
    /* The time is that of all requests together. */
    check_slow(at_last, 3, 3, "/t");
}

/* --- nobody is there --- */

static void test_refused_connection(void) {
    struct reply reply = GOOD;
    struct world world;
    world_open(&world, &reply, 1);
    world_add(&world, NULL, "/t");
    server_stop_listening(&world.server);
    world_start(&world);
    world_wait(&world);
    CHECK(world_error(&world)[0] != '\0');
    CHECK_INT(world.oauth->issuers[0].n_candidate, 0); /* the others are at the same server */
    world_close(&world);
}

static void test_https_without_tls(void) {
    struct reply reply = GOOD;
    struct world world;
    world_open(&world, &reply, 1);
    world_add(&world, "/keys", NULL);
    world.issuers[0].url = SLICE("https://127.0.0.1:1/keys");
    world_start(&world);
    world_wait(&world);
    CHECK(world_error(&world)[0] != '\0');
    world_close(&world);
}

static void test_urls_that_are_none(void) {
    static const char *const urls[] = {"ftp://x/", "http://", "x", "http://u:p@127.0.0.1/"};
    for (size_t i = 0; i < 2 * ARRAY_LEN(urls); i++) {
        struct reply reply = GOOD;
        struct world world;
        struct slice url = slice_from_cstr(urls[i / 2]);
        test_row(urls[i / 2]);
        world_open(&world, &reply, 1);
        world.config.n_issuers = 1;
        world.issuers[0] = (struct config_issuer){.url = i % 2 == 0 ? url : SLICE_EMPTY,
                                                  .issuer = i % 2 == 0 ? SLICE_EMPTY : url};
        world_start(&world);
        CHECK(world_error(&world)[0] != '\0');
        CHECK_INT(world_keys(&world, 0), -1);
        world_close(&world);
    }
}

/* --- what is asked for --- */

static void test_request(void) {
    struct reply reply = GOOD;
    struct world world;
    world_open(&world, &reply, 1);
    world_add(&world, "/keys?v=1", NULL);
    world_start(&world);
    world_wait(&world);
    struct slice got = buf_slice(&world.server.got);
    CHECK(slice_starts_with(got, SLICE("GET /keys?v=1 HTTP/1.1\r\n")));
    CHECK(slice_find(got, SLICE("\r\nUser-Agent: cardea/1.2.3\r\n")) != SIZE_MAX);
    CHECK(slice_find(got, SLICE("\r\nAccept: application/json")) != SIZE_MAX);
    CHECK(slice_find(got, SLICE("Authorization")) == SIZE_MAX);
    world_close(&world);
}

/* --- sets of which not all is used --- */

static void test_keys_that_are_left_out(void) {
    static const struct {
        const char *name;
        struct reply reply;
        int n_keys;
        size_t n_lines;
    } rows[] = {
        {"both", ANSWER(KEYS(KEY_EC "," KEY_ED)), 2, 0},
        {"one is unknown", ANSWER(KEYS(KEY_EC ",{\"kty\":\"XX\"}")), 1, 1},
        {"one is symmetric", ANSWER(KEYS(KEY_SYMMETRIC "," KEY_EC)), 1, 1},
        {"one is for encryption",
         ANSWER(KEYS(KEY_EC ",{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"use\":\"enc\",\"x\":"
                            "\"YrQ7jBiOUgy8khsBK2Zf_V9ZefN_0dlmFz7RvhFZaiM\"}")),
         1, 1},
        {"only a symmetric one", ANSWER(KEYS(KEY_SYMMETRIC)), 0, 1},
        {"none", ANSWER(KEYS("")), 0, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct world world;
        test_row(rows[i].name);
        world_open(&world, &rows[i].reply, 1);
        world_add(&world, "/keys", NULL);
        world_start(&world);
        world_wait(&world);
        CHECK_INT(world_keys(&world, 0), rows[i].n_keys);
        CHECK_INT(world_count_log(&world, "keys are left out"), rows[i].n_lines);
        CHECK_STR(slice_from_cstr(world_error(&world)),
                  rows[i].n_keys != 0 ? "" : "it has no key that can be used");
        /* Not again, as long as the document is the same. */
        world.now += LIMIT_JWKS_PAUSE_MS;
        world_wait(&world);
        CHECK_INT(world_count_log(&world, "keys are left out"), rows[i].n_lines);
        CHECK_INT(world_count_log(&world, "there are no keys"), rows[i].n_keys == 0);
        CHECK_INT(world_generation(&world, 0), 1);
        world_close(&world);
    }
}

/* A private key in a public document is no secret any more, whatever jose/ does with it: the set
 * has to be read in the same way each time, and the log has nothing of it. */
static void test_private_keys(void) {
    static const struct reply reply = ANSWER(KEYS(KEY_PRIVATE "," KEY_EC));
    struct world world;
    world_open(&world, &reply, 1);
    world_add(&world, "/keys", NULL);
    world_start(&world);
    world_wait(&world);
    CHECK(world_keys(&world, 0) >= 1);
    CHECK_INT(world_count_log(&world, "PLvRLNzQ"), 0);
    world_close(&world);
}

TEST_MAIN(TEST(test_other_answers), TEST(test_broken_answers), TEST(test_documents_of_no_use),
          TEST(test_size), TEST(test_time), TEST(test_refused_connection),
          TEST(test_https_without_tls), TEST(test_urls_that_are_none), TEST(test_request),
          TEST(test_keys_that_are_left_out), TEST(test_private_keys))
