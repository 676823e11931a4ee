/*
 * A client, a server and calls whose events are written down as one line: "200 abc ." is a head,
 * the body in however many pieces, the end; "! reset, may have arrived: REASON" a failure.
 */
#pragma once

#include "client/client.h"
#include "server.h"

struct world {
    struct guarded guarded;
    struct server server;
    struct client *client;
    struct client_target *target;
    struct later later;
};

struct exchange {
    struct world *world;
    struct client_call *call;
    struct buf trace;
    size_t n_heads, n_body, n_ends;
    bool stops_at_end;
    /* What a callback does besides. */
    void (*at_head)(struct exchange *exchange);
    void (*at_data)(struct exchange *exchange);
    void (*at_end)(struct exchange *exchange);
};

static const char *no_variable(void *context, const char *name) {
    (void)context;
    (void)name;
    return NULL;
}

static struct client_target *target_new(const char *url, const char *proxy) {
    struct client_target_options options = {
        .url = slice_from_cstr(url), .proxy = slice_from_cstr(proxy), .getenv_fn = no_variable};
    struct client_target *target = NULL;
    const char *reason = "";
    if (client_target_new(&options, &target, &reason) != 0)
        test_fail(__FILE__, __LINE__, reason);
    return target;
}

MAYBE_UNUSED static void world_open(struct world *world, const struct reply *replies,
                                    size_t n_replies) {
    char url[64];
    *world = (struct world){.client = NULL};
    guarded_new(&world->guarded);
    server_start(&world->server, &world->guarded, replies, n_replies);
    snprintf(url, sizeof url, "http://%s/p?q", world->server.address.text);
    world->target = target_new(url, "");
    struct client_options options = {.loop = world->guarded.loop};
    if (client_new(&options, &world->client) != 0)
        CANNOT_GO_ON();
}

/* The client anew, for TLS. */
MAYBE_UNUSED static void world_use_tls(struct world *world, struct io_tls *tls) {
    struct client_options options = {.loop = world->guarded.loop, .tls = tls};
    client_free(world->client);
    if (client_new(&options, &world->client) != 0)
        CANNOT_GO_ON();
}

static void world_close(struct world *world) {
    world->client = client_free(world->client);
    client_target_free(world->target);
    server_free(&world->server);
    guarded_free(&world->guarded);
}

static void world_stop(void *context) {
    struct world *world = context;
    io_loop_stop(world->guarded.loop);
}

/* Turns the loop until nothing more can be under way. */
static void world_settle(struct world *world) {
    world->later =
        (struct later){.loop = world->guarded.loop, .n = 50, .fn = world_stop, .context = world};
    later_start(&world->later);
    guarded_run(&world->guarded);
}

/* Until the server has so many connections open. */
MAYBE_UNUSED static void world_run_until_open(struct world *world, size_t n) {
    if (world->server.n_open == n)
        return;
    world->server.stops_at_open = true;
    world->server.stop_at_open = n;
    guarded_run(&world->guarded);
    world->server.stops_at_open = false;
}

static void exchange_stop(struct exchange *exchange) {
    exchange->n_ends++;
    exchange->call = NULL;
    if (exchange->at_end != NULL)
        exchange->at_end(exchange);
    if (exchange->stops_at_end)
        io_loop_stop(exchange->world->guarded.loop);
}

static void exchange_on_head(void *context, const struct http_head *head) {
    struct exchange *exchange = context;
    CHECK_INT(exchange->n_heads, 0);
    CHECK_INT(exchange->n_ends, 0);
    exchange->n_heads++;
    buf_printf(&exchange->trace, "%u ", (unsigned)head->status);
    if (exchange->at_head != NULL)
        exchange->at_head(exchange);
}

static void exchange_on_data(void *context, struct slice bytes) {
    struct exchange *exchange = context;
    CHECK_INT(exchange->n_heads, 1);
    CHECK_INT(exchange->n_ends, 0);
    CHECK(bytes.len != 0);
    exchange->n_body += bytes.len;
    buf_append(&exchange->trace, bytes);
    if (exchange->at_data != NULL)
        exchange->at_data(exchange);
}

static void exchange_on_end(void *context) {
    struct exchange *exchange = context;
    CHECK_INT(exchange->n_heads, 1);
    buf_append_cstr(&exchange->trace, exchange->n_body != 0 ? " ." : ".");
    exchange_stop(exchange);
}

static void exchange_on_failed(void *context, const struct client_failure *failure) {
    static const char *const kinds[] = {
        [CLIENT_FAILED_RESOLVE] = "resolve", [CLIENT_FAILED_CONNECT] = "connect",
        [CLIENT_FAILED_PROXY] = "proxy",     [CLIENT_FAILED_TLS] = "tls",
        [CLIENT_FAILED_RESET] = "reset",     [CLIENT_FAILED_PROTOCOL] = "protocol",
        [CLIENT_FAILED_MEMORY] = "memory",   [CLIENT_FAILED_REFUSED] = "refused",
    };
    struct exchange *exchange = context;
    /* "127.0.0.1:port: " changes from run to run; what is behind it is what counts. */
    const char *colon = strstr(failure->reason, ": ");
    CHECK(colon != NULL);
    buf_printf(&exchange->trace, "! %s%s: %s", kinds[failure->kind],
               failure->may_have_arrived ? ", may have arrived" : "",
               colon != NULL ? colon + 2 : failure->reason);
    exchange_stop(exchange);
}

static const struct client_events exchange_events = {
    .on_head = exchange_on_head,
    .on_data = exchange_on_data,
    .on_end = exchange_on_end,
    .on_failed = exchange_on_failed,
};

static void exchange_init(struct exchange *exchange, struct world *world) {
    *exchange = (struct exchange){.world = world, .trace = BUF_INIT(MIB(64)), .stops_at_end = true};
}

/* A plain request; the tests change what they are about. */
static struct client_request request_to(const struct client_target *target) {
    return (struct client_request){
        .target = target, .method = HTTP_METHOD_GET, .connect_timeout_ms = 15000};
}

static void exchange_start(struct exchange *exchange, const struct client_request *request) {
    CHECK_INT(
        client_start(exchange->world->client, request, &exchange_events, exchange, &exchange->call),
        0);
    CHECK_INT(exchange->n_ends, 0);
}

static void exchange_run(struct exchange *exchange, const struct client_request *request) {
    exchange_start(exchange, request);
    guarded_run(&exchange->world->guarded);
    CHECK_INT(exchange->n_ends, 1);
}

static struct slice exchange_trace(const struct exchange *exchange) {
    return buf_slice(&exchange->trace);
}

/* One request from beginning to end. */
static void check_exchange(struct world *world, const struct client_request *request,
                           const char *expect) {
    struct exchange exchange;
    exchange_init(&exchange, world);
    exchange_run(&exchange, request);
    CHECK_STR(exchange_trace(&exchange), expect);
    buf_deinit(&exchange.trace);
}
