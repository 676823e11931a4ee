/*
 * A server that wants tokens, and an authorization server, both of which answer as a script says
 * (server.h: the n-th request that comes gets the n-th reply); clocks that the test turns; and
 * waiters that say what became of them.
 */
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include "base/limits.h"
#include "server.h"
#include "test.h"
#include "tokens.h"

enum { START_MS = 1000000, MAX_REPLIES = 64 };
#define START_WALL_MS UINT64_C(4000000000000) /* tokens of a test do not end by the real clock */

#define TOKEN(name, more) "{\"access_token\":\"" name "\",\"token_type\":\"bearer\"" more "}"
#define EXCHANGED(name, more)                                                                      \
    TOKEN(name, ",\"issued_token_type\":\"urn:ietf:params:oauth:token-type:access_token\"" more)
#define ERROR(code) "{\"error\":\"" code "\",\"error_description\":\"the secret of the server\"}"

struct source_world {
    struct guarded guarded;
    struct server server;
    struct reply replies[MAX_REPLIES];
    char texts[MAX_REPLIES][2048];
    size_t n_replies;
    struct config config;
    struct config_server servers[3];
    char urls[8][160];
    size_t n_urls;
    struct oauth_tokens *tokens;
    struct oauth_source *source; /* of the first server */
    struct log *log;
    int log_fd;
    uint64_t now, wall;
    struct later later;
};

static uint64_t world_now(void *context) {
    return ((struct source_world *)context)->now;
}

static uint64_t world_wall(void *context) {
    return ((struct source_world *)context)->wall;
}

/* "http://127.0.0.1:PORT" and the path. */
static struct slice world_url(struct source_world *world, const char *path) {
    char *url = world->urls[world->n_urls++];
    if (world->n_urls > ARRAY_LEN(world->urls))
        CANNOT_GO_ON();
    snprintf(url, sizeof world->urls[0], "http://%s%s", world->server.address.text, path);
    return slice_from_cstr(url);
}

/* `auth` decides what else has to be set: by the test, before world_start(). */
static struct config_server *world_open(struct source_world *world,
                                        enum config_upstream_auth type) {
    *world = (struct source_world){.now = START_MS, .wall = START_WALL_MS};
    guarded_new(&world->guarded);
    server_start(&world->server, &world->guarded, world->replies, 0);
    atomic_init(&world->config.refs, 1);
    world->config.cache_max_size = 10;
    world->config.cache_idle_timeout_ms = 600 * 1000;
    world->config.servers = world->servers;
    world->config.n_servers = 1;
    world->log_fd = memfd_create("log", MFD_CLOEXEC);
    if (world->log_fd < 0)
        CANNOT_GO_ON();
    world->log = log_new(world->log_fd, LOG_DEBUG, LOG_STYLE_TEXT);
    struct config_server *server = &world->servers[0];
    server->name = SLICE("it");
    server->auth_type = type;
    server->url = world_url(world, "/mcp");
    server->proxy = SLICE("none");
    server->auth_client.resource = server->url;
    server->auth_client.client_id = SLICE("gw");
    server->auth_client.client_secret = SLICE("top secret:1");
    return server;
}

MAYBE_UNUSED static struct config_server *world_with_endpoint(struct source_world *world,
                                                              enum config_upstream_auth type) {
    struct config_server *server = world_open(world, type);
    server->auth_client.token_endpoint = world_url(world, "/token");
    return server;
}

static struct oauth_source *world_source(struct source_world *world, size_t n) {
    struct oauth_source *source = NULL;
    const char *reason = "";
    CHECK_INT(oauth_source_new(world->tokens, &world->config, &world->servers[n], &source, &reason),
              0);
    if (source == NULL)
        CANNOT_GO_ON();
    return source;
}

static void world_make(struct source_world *world) {
    struct oauth_tokens_options options = {
        .loop = world->guarded.loop, .log = world->log, .version = SLICE("1.2.3")};
    if (oauth_tokens_new(&options, &world->tokens) != 0)
        CANNOT_GO_ON();
    world->tokens->now_fn = world_now;
    world->tokens->wall_fn = world_wall;
    world->tokens->clock_context = world;
}

MAYBE_UNUSED static void world_start(struct source_world *world) {
    world_make(world);
    world->source = world_source(world, 0);
}

MAYBE_UNUSED static void world_stop(void *context) {
    struct source_world *world = context;
    io_loop_stop(world->guarded.loop);
}

/* Turns the loop until nothing more can be under way. */
MAYBE_UNUSED static void world_settle(struct source_world *world) {
    world->later =
        (struct later){.loop = world->guarded.loop, .n = 60, .fn = world_stop, .context = world};
    later_start(&world->later);
    guarded_run(&world->guarded);
}

static void world_close(struct source_world *world) {
    world->tokens = oauth_tokens_free(world->tokens);
    world->source = oauth_source_unref(world->source);
    server_free(&world->server);
    guarded_free(&world->guarded);
    world->log = log_free(world->log);
    io_fd_close(&world->log_fd);
    CHECK_INT(atomic_load(&world->config.refs), 1);
}

MAYBE_UNUSED static void world_advance(struct source_world *world, uint64_t ms) {
    world->now += ms;
    world->wall += ms;
    tokens_tick(world->tokens);
}

/* --- what it answers --- */

/* "200 OK" with fields behind it, perhaps; "%s" in the body is the origin. */
static void reply_then(struct source_world *world, const char *status, const char *body,
                       enum reply_then then) {
    size_t n = world->n_replies++, at = 0;
    char *text = world->texts[n];
    int len = snprintf(text, sizeof world->texts[0],
                       "HTTP/1.1 %s\r\nContent-Type: application/json\r\n\r\n", status);
    at = (size_t)len;
    for (const char *from = body; *from != '\0'; from++) {
        if (from[0] == '%' && from[1] == 's') {
            at += (size_t)snprintf(text + at, sizeof world->texts[0] - at, "http://%s",
                                   world->server.address.text);
            from++;
        } else if (at < sizeof world->texts[0]) {
            text[at++] = *from;
        }
    }
    if (world->n_replies > MAX_REPLIES || at >= sizeof world->texts[0])
        CANNOT_GO_ON();
    world->replies[n] = (struct reply){slice_make(text, at), then};
    world->server.n_replies = world->n_replies;
}

MAYBE_UNUSED static void reply(struct source_world *world, const char *status, const char *body) {
    reply_then(world, status, body, REPLY_CLOSE);
}

MAYBE_UNUSED static void reply_bytes(struct source_world *world, const char *bytes,
                                     enum reply_then then) {
    world->replies[world->n_replies++] = (struct reply){slice_from_cstr(bytes), then};
    world->server.n_replies = world->n_replies;
}

/* --- one who waits --- */

struct waiter {
    struct oauth_token_wait wait;
    struct source_world *world;
    size_t n_told;
    size_t *n_left; /* the last one stops the loop; NULL: this one does */
};

static void waiter_told(struct io_message *message) {
    struct oauth_token_wait *wait = CONTAINER_OF(message, struct oauth_token_wait, message);
    struct waiter *waiter = CONTAINER_OF(wait, struct waiter, wait);
    waiter->n_told++;
    if (waiter->n_left == NULL || --*waiter->n_left == 0)
        io_loop_stop(waiter->world->guarded.loop);
}

static enum oauth_answer waiter_ask(struct waiter *waiter, struct source_world *world,
                                    struct oauth_source *source, struct oauth_token *subject) {
    *waiter = (struct waiter){.world = world};
    waiter->wait.loop = world->guarded.loop;
    waiter->wait.message.deliver = waiter_told;
    return oauth_source_get(source, subject, &waiter->wait);
}

static void waiter_drop(struct waiter *waiter) {
    waiter->wait.token = oauth_token_unref(waiter->wait.token);
}

/* Asks, waits, and says what came: "token", or "refused: reason". */
static const char *world_get_from(struct source_world *world, struct oauth_source *source,
                                  struct oauth_token *subject) {
    static const char *const lacks[] = {[OAUTH_LACK_REFUSED] = "refused",
                                        [OAUTH_LACK_CLIENT] = "client",
                                        [OAUTH_LACK_UNREACHABLE] = "unreachable",
                                        [OAUTH_LACK_CHALLENGE] = "challenge",
                                        [OAUTH_LACK_MEMORY] = "memory"};
    static char text[512];
    struct waiter waiter;
    if (waiter_ask(&waiter, world, source, subject) == OAUTH_ANSWER_WAIT)
        guarded_run(&world->guarded);
    if (waiter.wait.token != NULL)
        snprintf(text, sizeof text, "%.*s", SLICE_ARGS(oauth_token_text(waiter.wait.token)));
    else
        snprintf(text, sizeof text, "%s: %s", lacks[waiter.wait.lack], waiter.wait.reason);
    waiter_drop(&waiter);
    return text;
}

MAYBE_UNUSED static const char *world_get(struct source_world *world, struct oauth_token *subject) {
    return world_get_from(world, world->source, subject);
}

#define CHECK_GET(world, subject, expect)                                                          \
    CHECK_STR(slice_from_cstr(world_get(world, subject)), expect)

/* Without the address and port that a failure begins with. */
MAYBE_UNUSED static void check_end(const char *actual, const char *end) {
    if (!slice_ends_with(slice_from_cstr(actual), slice_from_cstr(end)))
        CHECK_STR(slice_from_cstr(actual), end);
}

MAYBE_UNUSED static struct oauth_token *make_subject(const char *text, uint64_t left_ms) {
    struct oauth_token *token = oauth_token_new(
        slice_from_cstr(text), left_ms == UINT64_MAX ? left_ms : START_WALL_MS + left_ms);
    if (token == NULL)
        CANNOT_GO_ON();
    return token;
}

/* --- what was asked --- */

/* How many of the requests had that in them. */
MAYBE_UNUSED static size_t world_count_got(const struct source_world *world, const char *text) {
    struct slice rest = buf_slice(&world->server.got);
    size_t count = 0, at;
    while ((at = slice_find(rest, slice_from_cstr(text))) != SIZE_MAX) {
        rest = slice_from(rest, at + 1);
        count++;
    }
    return count;
}

/* "GET /a POST /b " of all requests. */
MAYBE_UNUSED static void check_targets(const struct source_world *world, const char *expect) {
    struct slice rest = buf_slice(&world->server.got);
    char text[2048];
    size_t len = 0, at;
    text[0] = '\0';
    while ((at = slice_find(rest, SLICE(" HTTP/1.1\r\n"))) != SIZE_MAX) {
        size_t from = at;
        while (from > 0 && rest.ptr[from - 1] != '\n' && rest.ptr[from - 1] != ' ')
            from--;
        while (from > 1 && rest.ptr[from - 2] >= 'A' && rest.ptr[from - 2] <= 'Z')
            from--;
        if (from > 0)
            from--;
        struct slice line = slice_sub(rest, from, at);
        len += (size_t)snprintf(text + len, sizeof text - len, "%.*s ", SLICE_ARGS(line));
        rest = slice_from(rest, at + 11);
    }
    CHECK_STR(slice_from_cstr(text), expect);
}

/* How many lines of the log have that in them. */
MAYBE_UNUSED static size_t world_count_log(struct source_world *world, const char *text) {
    static char log[65536];
    ssize_t n = pread(world->log_fd, log, sizeof log - 1, 0);
    log[n > 0 ? n : 0] = '\0';
    size_t count = 0;
    for (const char *at = strstr(log, text); at != NULL; at = strstr(at + 1, text))
        count++;
    return count;
}
