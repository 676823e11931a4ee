/* From an issuer's name to its keys. */
#include "base/limits.h"
#include "world.h"

/* Bodies name the server's address, which is known only then. */
struct discovered {
    struct world world;
    char texts[8][1024];
    struct reply replies[8];
    size_t n;
};

static void open_with_path(struct discovered *d, const char *path) {
    memset(d, 0, sizeof *d);
    world_open(&d->world, d->replies, 0);
    world_add(&d->world, NULL, path);
}

/* "$I" stands for the issuer, "$S" for the server's origin. */
static void add_reply(struct discovered *d, const char *head, const char *body) {
    struct buf text CLEANUP(buf_deinit) = BUF_INIT(1000);
    buf_printf(&text, "HTTP/1.1 %s\r\n\r\n", head);
    for (; *body != '\0'; body++) {
        if (body[0] == '$' && body[1] == 'I')
            buf_append(&text, d->world.issuers[0].issuer);
        else if (body[0] == '$' && body[1] == 'S')
            buf_printf(&text, "http://%s", d->world.server.address.text);
        else
            buf_append_byte(&text, *body);
        body += body[0] == '$';
    }
    CHECK_INT(buf_error(&text), 0);
    memcpy(d->texts[d->n], buf_slice(&text).ptr, buf_len(&text));
    d->replies[d->n] = (struct reply){slice_make(d->texts[d->n], buf_len(&text)), REPLY_CLOSE};
    d->world.server.n_replies = ++d->n;
}

#define METADATA "{\"issuer\":\"$I\",\"jwks_uri\":\"$S/jwks\"}"

static void run(struct discovered *d) {
    world_start(&d->world);
    world_wait(&d->world);
}

/* The targets that were asked for, in order, as "/a /b ". */
static void check_targets(struct discovered *d, const char *expect) {
    struct buf targets CLEANUP(buf_deinit) = BUF_INIT(4096);
    struct slice rest = buf_slice(&d->world.server.got);
    while (rest.len != 0) {
        size_t at = slice_find(rest, SLICE("GET "));
        if (at == SIZE_MAX)
            break;
        struct slice target;
        slice_cut(slice_from(rest, at + 4), ' ', &target, &rest);
        buf_append(&targets, target);
        buf_append_byte(&targets, ' ');
    }
    CHECK_STR(buf_slice(&targets), expect);
}

#define OAUTH_T  "/.well-known/oauth-authorization-server/t "
#define INSERT_T "/.well-known/openid-configuration/t "
#define APPEND_T "/t/.well-known/openid-configuration "

static void test_order(void) {
    static const struct {
        const char *name, *path, *answers[3], *expect;
    } rows[] = {
        {"first", "/t", {"200 OK"}, OAUTH_T "/jwks "},
        {"second", "/t", {"404 X", "200 OK"}, OAUTH_T INSERT_T "/jwks "},
        {"third", "/t", {"404 X", "404 X", "200 OK"}, OAUTH_T INSERT_T APPEND_T "/jwks "},
        {"after a redirect",
         "/t",
         {"302 X", "500 X", "200 OK"},
         OAUTH_T INSERT_T APPEND_T "/jwks "},
        {"after a page",
         "/t",
         {"200 OK\r\nContent-Type: text/html", "200 OK"},
         OAUTH_T INSERT_T "/jwks "},
        {"no path, first", "", {"200 OK"}, "/.well-known/oauth-authorization-server /jwks "},
        {"no path, second",
         "",
         {"404 X", "200 OK"},
         "/.well-known/oauth-authorization-server /.well-known/openid-configuration /jwks "},
        {"a slash is no path",
         "/",
         {"404 X", "200 OK"},
         "/.well-known/oauth-authorization-server /.well-known/openid-configuration /jwks "},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct discovered d;
        test_row(rows[i].name);
        open_with_path(&d, rows[i].path);
        for (size_t n = 0; n < 3 && rows[i].answers[n] != NULL; n++)
            add_reply(&d, rows[i].answers[n], METADATA);
        add_reply(&d, "200 OK", KEYS(KEY_EC));
        run(&d);
        check_targets(&d, rows[i].expect);
        CHECK_INT(world_keys(&d.world, 0), 1);
        CHECK_STR(slice_from_cstr(world_error(&d.world)), "");
        world_close(&d.world);
    }
}

/* What is wrong with one address does not keep the others from being tried, and what is wrong with
 * all of them is told by what says most. */
static void test_refused_metadata(void) {
    static const struct {
        const char *name, *answers[3], *bodies[3], *expect;
    } rows[] = {
        {"nowhere", {"404 X", "404 X", "404 X"}, {"", "", ""}, "it answers with status 404"},
        {"another issuer",
         {"404 X", "200 OK", "404 X"},
         {"", "{\"issuer\":\"$S\",\"jwks_uri\":\"$S/jwks\"}", ""},
         "its metadata is that of another issuer"},
        {"first things first",
         {"503 X", "200 OK", "200 OK"},
         {"", "{}", "["},
         "it answers with status 503"},
        {"keys in a file",
         {"200 OK", "404 X", "404 X"},
         {"{\"issuer\":\"$I\",\"jwks_uri\":\"file:///etc/passwd\"}", "", ""},
         "the jwks_uri of its metadata is no URL that can be fetched"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct discovered d;
        test_row(rows[i].name);
        open_with_path(&d, "/t");
        for (size_t n = 0; n < 3; n++)
            add_reply(&d, rows[i].answers[n], rows[i].bodies[n]);
        run(&d);
        check_targets(&d, OAUTH_T INSERT_T APPEND_T);
        CHECK_INT(world_keys(&d.world, 0), -1);
        CHECK_STR(slice_from_cstr(world_error(&d.world)), rows[i].expect);
        world_close(&d.world);
    }
}

/* Metadata of another issuer is passed over, wherever it is; and then the right one counts. */
static void test_right_after_wrong(void) {
    struct discovered d;
    open_with_path(&d, "/t");
    add_reply(&d, "200 OK", "{\"issuer\":\"$S\",\"jwks_uri\":\"$S/evil\"}");
    add_reply(&d, "200 OK", METADATA);
    add_reply(&d, "200 OK", KEYS(KEY_EC));
    run(&d);
    check_targets(&d, OAUTH_T INSERT_T "/jwks ");
    CHECK_INT(world_keys(&d.world, 0), 1);
    world_close(&d.world);
}

/* The address is kept for an hour, and asked for again when it is of no use any more. */
static void test_address_is_remembered(void) {
    struct discovered d;
    open_with_path(&d, "");
    add_reply(&d, "200 OK", METADATA);
    add_reply(&d, "200 OK", KEYS(KEY_EC));
    add_reply(&d, "200 OK", KEYS(KEY_ED));
    add_reply(&d, "404 X", "");
    add_reply(&d, "200 OK", "{\"issuer\":\"$I\",\"jwks_uri\":\"$S/moved\"}");
    add_reply(&d, "200 OK", KEYS(KEY_EC));
    add_reply(&d, "200 OK", METADATA);
    add_reply(&d, "200 OK", KEYS(KEY_EC));
#define AS "/.well-known/oauth-authorization-server "
    run(&d);
    d.world.now += LIMIT_JWKS_PAUSE_MS;
    world_wait(&d.world);
    check_targets(&d, AS "/jwks /jwks ");
    d.world.now += LIMIT_JWKS_PAUSE_MS;
    world_wait(&d.world);
    check_targets(&d, AS "/jwks /jwks /jwks ");
    CHECK_STR(slice_from_cstr(world_error(&d.world)), "it answers with status 404");
    d.world.now += LIMIT_JWKS_PAUSE_MS;
    world_wait(&d.world);
    check_targets(&d, AS "/jwks /jwks /jwks " AS "/moved ");
    CHECK_INT(world_generation(&d.world, 0), 3);
    d.world.now += 3600 * 1000;
    world_wait(&d.world);
    check_targets(&d, AS "/jwks /jwks /jwks " AS "/moved " AS "/jwks ");
    CHECK_INT(world_generation(&d.world, 0), 3);
    world_close(&d.world);
}

/* With an address in the configuration, nothing else is asked. */
static void test_url_goes_first(void) {
    static const struct reply reply = ANSWER(KEYS(KEY_EC));
    struct world world;
    world_open(&world, &reply, 1);
    world_add(&world, "/own", "/t");
    world_start(&world);
    world_wait(&world);
    CHECK(slice_starts_with(buf_slice(&world.server.got), SLICE("GET /own HTTP/1.1\r\n")));
    CHECK_INT(world.server.n_requests, 1);
    CHECK_INT(world_keys(&world, 0), 1);
    world_close(&world);
}

TEST_MAIN(TEST(test_order), TEST(test_refused_metadata), TEST(test_right_after_wrong),
          TEST(test_address_is_remembered), TEST(test_url_goes_first))
