/*
 * Issuers whose answers are those of a script (server.h), a clock that the test turns, and waiters
 * that say what became of them.
 */
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include "private.h"
#include "server.h"
#include "test.h"

/* Public keys: that of RFC 7517 appendix A.1, and one that was made for this. */
#define KEY_EC                                                                                     \
    "{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"ec\","                                            \
    "\"x\":\"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4\","                                       \
    "\"y\":\"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM\"}"
#define KEY_ED                                                                                     \
    "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"ed\","                                         \
    "\"x\":\"YrQ7jBiOUgy8khsBK2Zf_V9ZefN_0dlmFz7RvhFZaiM\"}"
/* With the private half of the same. */
#define KEY_PRIVATE                                                                                \
    "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"ed\","                                         \
    "\"d\":\"PLvRLNzQSSBrEm5NYfBVlFUNPRQTmlINzjgE-i5KHoA\","                                       \
    "\"x\":\"YrQ7jBiOUgy8khsBK2Zf_V9ZefN_0dlmFz7RvhFZaiM\"}"
#define KEY_SYMMETRIC                                                                              \
    "{\"kty\":\"oct\",\"kid\":\"s\",\"k\":\"c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IDEyMw\"}"
#define KEYS(list) "{\"keys\":[" list "]}"

#define OK_UNTIL_CLOSE(fields, body) "HTTP/1.1 200 OK\r\n" fields "\r\n" body
/* A whole answer that ends with the connection. */
#define ANSWER(body)                                                                               \
    { SLICE_INIT(OK_UNTIL_CLOSE("Content-Type: application/json\r\n", body)), REPLY_CLOSE }
#define STATUS(line)                                                                               \
    { SLICE_INIT("HTTP/1.1 " line "\r\nContent-Length: 0\r\n\r\n"), REPLY_CLOSE }

enum { MAX_ISSUERS = 4, START_MS = 1000000 };

struct world {
    struct guarded guarded;
    struct server server;
    struct config_issuer issuers[MAX_ISSUERS];
    struct config_oauth config;
    struct oauth *oauth;
    struct log *log;
    int log_fd;
    uint64_t now;
    char urls[MAX_ISSUERS][2][128];
    struct later later;
};

static uint64_t world_now(void *context) {
    return *(const uint64_t *)context;
}

static void world_open(struct world *world, const struct reply *replies, size_t n_replies) {
    *world = (struct world){.now = START_MS};
    guarded_new(&world->guarded);
    server_start(&world->server, &world->guarded, replies, n_replies);
    world->config.is_set = true;
    world->config.issuers = world->issuers;
    world->log_fd = memfd_create("log", MFD_CLOEXEC);
    if (world->log_fd < 0)
        CANNOT_GO_ON();
    world->log = log_new(world->log_fd, LOG_INFO, LOG_STYLE_TEXT);
}

/* "/path" of the server, or NULL. */
static struct config_issuer *world_add(struct world *world, const char *url, const char *issuer) {
    size_t n = world->config.n_issuers++;
    const char *paths[2] = {url, issuer};
    struct slice made[2];
    for (size_t i = 0; i < 2; i++) {
        made[i] = SLICE_EMPTY;
        if (paths[i] == NULL)
            continue;
        snprintf(world->urls[n][i], sizeof world->urls[n][i], "http://%s%s",
                 world->server.address.text, paths[i]);
        made[i] = slice_from_cstr(world->urls[n][i]);
    }
    world->issuers[n] = (struct config_issuer){.url = made[0], .issuer = made[1]};
    return &world->issuers[n];
}

static struct oauth *world_make(struct world *world, struct oauth *previous) {
    struct oauth_options options = {.config = &world->config,
                                    .log = world->log,
                                    .loop = world->guarded.loop,
                                    .version = SLICE("1.2.3"),
                                    .previous = previous};
    struct oauth *oauth = NULL;
    CHECK_INT(oauth_new(&options, &oauth), 0);
    if (oauth == NULL)
        CANNOT_GO_ON();
    oauth->now_fn = world_now;
    oauth->now_context = &world->now;
    return oauth;
}

MAYBE_UNUSED static void world_start(struct world *world) {
    world->oauth = world_make(world, NULL);
    oauth_start(world->oauth);
}

static void world_close(struct world *world) {
    world->oauth = oauth_free(world->oauth);
    server_free(&world->server);
    guarded_free(&world->guarded);
    world->log = log_free(world->log);
    io_fd_close(&world->log_fd);
}

static void world_stop(void *context) {
    struct world *world = context;
    io_loop_stop(world->guarded.loop);
}

/* Turns the loop until nothing more can be under way. */
MAYBE_UNUSED static void world_settle(struct world *world) {
    world->later =
        (struct later){.loop = world->guarded.loop, .n = 50, .fn = world_stop, .context = world};
    later_start(&world->later);
    guarded_run(&world->guarded);
}

MAYBE_UNUSED static void world_run_until_requests(struct world *world, size_t n) {
    world->server.stop_at_requests = n;
    if (world->server.n_requests < n)
        guarded_run(&world->guarded);
    world->server.stop_at_requests = 0;
}

MAYBE_UNUSED static void world_advance(struct world *world, uint64_t ms) {
    world->now += ms;
    oauth_tick(world->oauth);
}

/* --- one who waits --- */

struct waiter {
    struct oauth_wait wait;
    struct world *world;
    size_t n_told;
    size_t *n_left; /* the last one stops the loop; NULL: this one does */
};

static void waiter_told(struct io_message *message) {
    struct oauth_wait *wait = CONTAINER_OF(message, struct oauth_wait, message);
    struct waiter *waiter = CONTAINER_OF(wait, struct waiter, wait);
    waiter->n_told++;
    if (waiter->n_left == NULL || --*waiter->n_left == 0)
        io_loop_stop(waiter->world->guarded.loop);
}

static void waiter_init(struct waiter *waiter, struct world *world) {
    *waiter = (struct waiter){.world = world};
    waiter->wait.loop = world->guarded.loop;
    waiter->wait.message.deliver = waiter_told;
    waiter->wait.generation = oauth_generation(oauth_at(world->oauth, 0));
}

static bool waiter_start(struct waiter *waiter, struct world *world) {
    waiter_init(waiter, world);
    return oauth_wait_for_keys(oauth_at(world->oauth, 0), &waiter->wait);
}

/* Until the fetch that runs, or is due, has ended. */
MAYBE_UNUSED static void world_wait(struct world *world) {
    struct waiter waiter;
    CHECK(waiter_start(&waiter, world));
    guarded_run(&world->guarded);
    CHECK_INT(waiter.n_told, 1);
}

/* --- what there is --- */

/* How many keys the n-th issuer has now; -1: none are there. */
MAYBE_UNUSED static int world_keys(struct world *world, size_t n) {
    struct jose_keys *keys = oauth_keys(oauth_at(world->oauth, n), world->now, NULL);
    int count = keys != NULL ? (int)jose_keys_count(keys) : -1;
    jose_keys_unref(keys);
    return count;
}

MAYBE_UNUSED static uint64_t world_generation(struct world *world, size_t n) {
    uint64_t generation = UINT64_MAX;
    jose_keys_unref(oauth_keys(oauth_at(world->oauth, n), world->now, &generation));
    CHECK_INT(oauth_generation(oauth_at(world->oauth, n)), generation);
    return generation;
}

MAYBE_UNUSED static const char *world_error(struct world *world) {
    return world->oauth->issuers[0].error;
}

/* How many lines of the log have that in them. */
MAYBE_UNUSED static size_t world_count_log(struct world *world, const char *text) {
    static char log[65536];
    ssize_t n = pread(world->log_fd, log, sizeof log - 1, 0);
    log[n > 0 ? n : 0] = '\0';
    size_t count = 0;
    for (const char *at = strstr(log, text); at != NULL; at = strstr(at + 1, text))
        count++;
    return count;
}
