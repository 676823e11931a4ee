/* Tokens of callers: which one an instance uses by itself, and that the others stay apart. */
#include "base/clock.h"
#include "base/limits.h"
#include "private.h"
#include "test.h"

struct fixture {
    struct io_loop *loop;
    struct log *log;
    struct upstream_set *set;
    struct upstream_list *list;
    struct config *config;
};

#define FORWARD                                                                                    \
    "[mcp.servers.f]\nurl = \"http://127.0.0.1:1/\"\nauth.type = \"forward\"\n"                    \
    "[mcp.servers.t]\nurl = \"http://127.0.0.1:1/\"\n"

static void set_up(struct fixture *f) {
    struct config_problems problems;
    *f = (struct fixture){.log = log_new(2, LOG_OFF, LOG_STYLE_TEXT)};
    config_problems_init(&problems);
    if (config_load_text(SLICE("f.toml"), SLICE(FORWARD), NULL, NULL, &problems, &f->config) != 0 ||
        io_loop_new(&f->loop) != 0)
        CANNOT_GO_ON();
    config_problems_deinit(&problems);
    struct upstream_set_options options = {
        .config = f->config, .log = f->log, .loops = &f->loop, .n_loops = 1, .version = SLICE("0")};
    if (upstream_set_new(&options, &f->set) != 0)
        CANNOT_GO_ON();
    f->list = upstream_set_list(f->set);
}

static void on_stopped(void *context) {
    io_loop_stop(context);
}

static void tear_down(struct fixture *f) {
    upstream_list_unref(f->list);
    upstream_set_stop(f->set, on_stopped, f->loop);
    io_loop_run(f->loop);
    upstream_set_free(f->set);
    io_loop_free(f->loop);
    config_unref(f->config);
    log_free(f->log);
}

static struct upstream_instance *get(struct fixture *f, const char *name, const char *principal) {
    struct upstream *upstream = upstream_list_find(f->list, slice_from_cstr(name), NULL);
    struct upstream_instance *instance = NULL;
    if (upstream_get(upstream, &(struct upstream_owner){.principal = slice_from_cstr(principal)},
                     upstream_set_worker(f->set, 0), &instance) != 0)
        CANNOT_GO_ON();
    return instance;
}

/* What the instance would send by itself. */
static void check_current(struct upstream_instance *instance, const char *token) {
    CLEANUP(oauth_token_unrefp)
    struct oauth_token *kept = instance_token(instance);
    CHECK_INT(kept != NULL, token != NULL);
    if (kept != NULL && token != NULL)
        CHECK(oauth_token_is(kept, slice_from_cstr(token)));
}

static void take(struct upstream_instance *instance, const char *token, uint64_t ends) {
    struct slice text = slice_from_cstr(token);
    CLEANUP(oauth_token_unrefp)
    struct oauth_token *kept = upstream_instance_take_token(instance, text, ends);
    REQUIRE(kept != NULL);
    CHECK(oauth_token_is(kept, text)); /* the call's own, whatever the instance keeps */
}

static void test_line(void) {
    struct oauth_token *kept = oauth_token_new(SLICE("a.b.c"), UINT64_MAX);
    REQUIRE(kept != NULL);
    CHECK_STR(oauth_token_line(kept), "Authorization: Bearer a.b.c\r\n");
    CHECK(oauth_token_is(kept, SLICE("a.b.c")));
    CHECK(!oauth_token_is(kept, SLICE("a.b.d")) && !oauth_token_is(kept, SLICE("a.b")) &&
          !oauth_token_is(kept, SLICE("")) && !oauth_token_is(kept, SLICE("a.b.cc")));
    CHECK(!oauth_token_has_ended(kept) && oauth_token_time_left(kept) == UINT64_MAX);
    oauth_token_unref(kept);
    /* What would be a second field. */
    CHECK(oauth_token_new(SLICE("a\r\nX: y"), UINT64_MAX) == NULL);
    CHECK(oauth_token_new(slice_make("a\0b", 3), UINT64_MAX) == NULL);
    CHECK(oauth_token_unref(NULL) == NULL);
}

static void test_which(void) {
    struct fixture f;
    set_up(&f);
    uint64_t now = clock_wall_ms(), hour = 3600 * 1000;
    struct upstream_instance *alice = get(&f, "f", "alice"), *bob = get(&f, "f", "bob");
    REQUIRE(alice != NULL && bob != NULL && alice != bob);
    check_current(alice, NULL);
    take(alice, "first", now + hour);
    check_current(alice, "first");
    check_current(bob, NULL);
    take(bob, "other", now + hour);
    take(alice, "second", now + 2 * hour);
    check_current(alice, "second");
    check_current(bob, "other");
    take(alice, "first", now + hour); /* an older one that still comes */
    check_current(alice, "second");
    take(alice, "third", now + 2 * hour);
    check_current(alice, "third");
    take(alice, "ended", now - 1);
    check_current(alice, "third");
    instance_drop_token(alice);
    check_current(alice, NULL);
    take(alice, "ended", now - 1);
    check_current(alice, NULL);
    upstream_instance_unref(alice);
    upstream_instance_unref(bob);
    tear_down(&f);
}

/* It is gone with its end, and what is seen of the instance changes. */
static void test_end(void) {
    struct fixture f;
    struct upstream_status status;
    set_up(&f);
    struct upstream_instance *alice = get(&f, "f", "alice");
    REQUIRE(alice != NULL);
    upstream_instance_status(alice, &status);
    CHECK(!status.is_first_start); /* nobody is to wait for it */
    uint64_t before = upstream_set_generation(f.set);
    take(alice, "soon", clock_wall_ms() + 60000);
    CHECK(upstream_set_generation(f.set) > before);
    upstream_instance_status(alice, &status);
    CHECK(status.is_first_start);
    instance_drop_token(alice);
    alice->token = oauth_token_new(SLICE("ended"), clock_wall_ms() - 1);
    before = upstream_set_generation(f.set);
    check_current(alice, NULL);
    CHECK(alice->token == NULL);
    CHECK(upstream_set_generation(f.set) > before);
    CHECK(instance_lacks_token(alice));
    CHECK(atomic_load(&alice->waits_for_token));
    take(alice, "next", clock_wall_ms() + 60000);
    CHECK(!atomic_load(&alice->waits_for_token)); /* it is told to start */
    CHECK(!instance_lacks_token(alice));
    upstream_instance_unref(alice);
    tear_down(&f);
}

struct stop {
    struct io_message message;
    struct io_loop *loop;
};

static void stop_loop(struct io_message *message) {
    io_loop_stop(CONTAINER_OF(message, struct stop, message)->loop);
}

/* Started without one it stays as it is: nothing is tried. */
static void test_start(void) {
    struct fixture f;
    struct upstream_status status;
    set_up(&f);
    struct stop stop = {.message.deliver = stop_loop, .loop = f.loop};
    struct upstream_instance *alice = get(&f, "f", "alice"), *plain = get(&f, "t", "alice");
    REQUIRE(alice != NULL && plain != NULL);
    CHECK(upstream_wants_token(alice->upstream) && !upstream_wants_token(plain->upstream));
    CHECK(upstream_list_wants_tokens(f.list));
    CHECK(!instance_lacks_token(plain));
    upstream_instance_start(alice);
    upstream_instance_start(plain);
    io_loop_post(f.loop, &stop.message); /* behind the two */
    io_loop_run(f.loop);
    upstream_instance_status(plain, &status);
    CHECK(status.state != UPSTREAM_IDLE);
    upstream_instance_status(alice, &status);
    CHECK_INT(status.state, UPSTREAM_IDLE);
    CHECK(atomic_load(&alice->waits_for_token));
    take(alice, "token", UINT64_MAX); /* it starts by itself */
    io_loop_post(f.loop, &stop.message);
    io_loop_run(f.loop);
    upstream_instance_status(alice, &status);
    CHECK(status.state != UPSTREAM_IDLE);
    upstream_instance_unref(alice);
    upstream_instance_unref(plain);
    tear_down(&f);
}

/* Nothing leaves for such a server without one. */
static bool on_message(void *context, struct slice document) {
    (void)context;
    (void)document;
    return true;
}

static void on_end(void *context, const struct post_end *end) {
    (void)context;
    (void)end;
}

static void test_post(void) {
    static const struct post_events events = {.on_message = on_message, .on_end = on_end};
    struct fixture f;
    struct post *post = NULL;
    set_up(&f);
    struct upstream *upstream = upstream_list_find(f.list, SLICE("f"), NULL);
    struct route *route = route_new(&(struct route){.upstream = upstream});
    struct oauth_token *ended = oauth_token_new(SLICE("x"), clock_wall_ms() - 1);
    struct post_options options = {
        .worker = upstream_set_worker(f.set, 0), .route = route, .method = HTTP_METHOD_POST};
    CHECK_INT(post_start(&options, &events, NULL, &post), -EACCES);
    options.token = ended;
    CHECK_INT(post_start(&options, &events, NULL, &post), -EACCES);
    CHECK(post == NULL);
    oauth_token_unref(ended);
    route_unref(route);
    tear_down(&f);
}

TEST_MAIN(TEST(test_line), TEST(test_which), TEST(test_end), TEST(test_start), TEST(test_post))
