/* Requests that wait for their token: what becomes of them in the meantime. */
#include "config/config.h"
#include "post.h"
#include "post_private.h"
#include "server.h"
#include "test.h"
#include "tokens.h"

struct fixture {
    struct guarded guarded;
    struct server server;
    struct reply reply;
    struct log *log;
    struct config *config;
    struct upstream_set *set;
    struct upstream_list *list;
    struct upstream *upstream;
    struct route *route;
    struct io_message message; /* in front of all that is posted later */
    struct post *post;
    size_t n_ends;
};

#define ANSWER                                                                                     \
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 62\r\n\r\n"              \
    "{\"access_token\":\"abc\",\"token_type\":\"bearer\",\"expires_in\":3600}"

static void set_up(struct fixture *f) {
    char text[512];
    struct config_problems problems;
    *f = (struct fixture){.log = log_new(2, LOG_OFF, LOG_STYLE_TEXT),
                          .reply = {SLICE(ANSWER), REPLY_HOLD}};
    guarded_new(&f->guarded);
    server_start(&f->server, &f->guarded, &f->reply, 1);
    snprintf(text, sizeof text,
             "[mcp.servers.s]\nurl = \"http://%s/mcp\"\nauth.type = \"client_credentials\"\n"
             "auth.client_id = \"gw\"\nauth.client_secret = \"a secret\"\n"
             "auth.token_endpoint = \"http://%s/token\"\n",
             f->server.address.text, f->server.address.text);
    config_problems_init(&problems);
    if (config_load_text(SLICE("f.toml"), slice_from_cstr(text), NULL, NULL, &problems,
                         &f->config) != 0)
        CANNOT_GO_ON();
    config_problems_deinit(&problems);
    struct upstream_set_options options = {.config = f->config,
                                           .log = f->log,
                                           .loops = &f->guarded.loop,
                                           .n_loops = 1,
                                           .version = SLICE("0")};
    if (upstream_set_new(&options, &f->set) != 0)
        CANNOT_GO_ON();
    f->list = upstream_set_list(f->set);
    f->upstream = upstream_list_at(f->list, 0);
    struct route route = {.upstream = f->upstream, .revision = MCP_2025_06_18};
    f->route = route_new(&route);
}

static void stop(void *context) {
    io_loop_stop(context);
}

static void settle(struct fixture *f) {
    struct later later = {.loop = f->guarded.loop, .n = 60, .fn = stop, .context = f->guarded.loop};
    later_start(&later);
    guarded_run(&f->guarded);
}

static void tear_down(struct fixture *f) {
    route_unref(f->route);
    upstream_list_unref(f->list);
    upstream_set_stop(f->set, stop, f->guarded.loop);
    guarded_run(&f->guarded);
    upstream_set_free(f->set);
    server_free(&f->server);
    guarded_free(&f->guarded);
    config_unref(f->config);
    log_free(f->log);
}

static bool on_message(void *context, struct slice document) {
    (void)context, (void)document;
    return true;
}

static void on_end(void *context, const struct post_end *end) {
    struct fixture *f = context;
    (void)end;
    f->post = NULL;
    f->n_ends++;
}

static void start(struct fixture *f) {
    static const struct post_events events = {.on_message = on_message, .on_end = on_end};
    struct post_options options = {.worker = upstream_set_worker(f->set, 0),
                                   .route = f->route,
                                   .method = HTTP_METHOD_POST,
                                   .mcp_method = MCP_TOOLS_CALL,
                                   .body = SLICE("{\"a\":1}")};
    CHECK_INT(post_start(&options, &events, f, &f->post), 0);
    REQUIRE(f->post != NULL && f->post->waiting != NULL);
    CHECK(!post_has_left(f->post));
}

static size_t count_calls(const struct fixture *f) {
    struct slice rest = buf_slice(&f->server.got);
    size_t n = 0, at;
    while ((at = slice_find(rest, SLICE("POST /mcp "))) != SIZE_MAX) {
        rest = slice_from(rest, at + 1);
        n++;
    }
    return n;
}

/* The connection to the server is kept; the token is not. */
static void use_once(struct fixture *f) {
    struct oauth_source *source = f->upstream->source;
    start(f);
    settle(f);
    CHECK_INT(count_calls(f), 1);
    pthread_mutex_lock(&source->mutex);
    subject_drop_token(subject_find(source, NULL));
    pthread_mutex_unlock(&source->mutex);
}

/* As if the answer had come. */
static void tell(struct fixture *f) {
    struct oauth_source *source = f->upstream->source;
    struct oauth_token *token = oauth_token_new(SLICE("abc"), UINT64_MAX);
    pthread_mutex_lock(&source->mutex);
    subject_tell(source, subject_find(source, NULL), token, NULL);
    pthread_mutex_unlock(&source->mutex);
    oauth_token_unref(token);
}

static void test_a_token_comes(void) {
    struct fixture f;
    set_up(&f);
    start(&f);
    settle(&f);
    CHECK_INT(count_calls(&f), 1);
    tear_down(&f);
}

static void test_cancelled(void) {
    struct fixture f;
    set_up(&f);
    start(&f);
    f.post = post_cancel(f.post);
    settle(&f);
    CHECK_INT(count_calls(&f), 0);
    CHECK_INT(f.n_ends, 0);
    tear_down(&f);
}

static void cancel(struct io_message *message) {
    struct fixture *f = CONTAINER_OF(message, struct fixture, message);
    f->post = post_cancel(f->post);
}

/* The token is under way, and is delivered before the loop looks at its timers: who has cancelled
 * the call was told that it will not be carried out. */
static void test_cancelled_while_the_token_is_under_way(void) {
    struct fixture f;
    set_up(&f);
    use_once(&f);
    start(&f);
    f.message.deliver = cancel;
    io_loop_post(f.guarded.loop, &f.message);
    tell(&f);
    settle(&f);
    CHECK_INT(count_calls(&f), 1);
    CHECK_INT(f.n_ends, 0);
    tear_down(&f);
}

TEST_MAIN(TEST(test_a_token_comes), TEST(test_cancelled),
          TEST(test_cancelled_while_the_token_is_under_way))
