/* Requests with the n-th allocation failing: each ends in one way or the other, and nothing leaks.
 * The server here asks for no memory that may fail. */
#include <errno.h>

#include "client/client.h"
#include "io/stream.h"
#include "loop_guard.h"
#include "test.h"

struct world {
    struct guarded guarded;
    struct io_listener *listener;
    struct io_address address;
    struct list peers;
    struct slice answers[3]; /* of a connection, one for each piece that comes */
    bool uses_proxy;
    struct client_target *target;
    size_t n_ends, n_failures;
};

struct peer {
    struct list_link link;
    struct world *world;
    struct io_stream *stream;
    size_t n_answers;
};

static void peer_free(struct peer *peer) {
    list_remove(&peer->link);
    io_stream_free(peer->stream);
    mem_free(peer);
}

static void on_read(void *context, struct slice bytes) {
    struct peer *peer = context;
    (void)bytes;
    struct slice answer = peer->n_answers < 3 ? peer->world->answers[peer->n_answers] : SLICE_EMPTY;
    peer->n_answers++;
    if (answer.len == 0)
        peer_free(peer);
    else
        CHECK_INT(io_stream_write(peer->stream, answer, 65536), 0);
}

static void on_end(void *context, int error) {
    (void)error;
    peer_free(context);
}

static void on_accept(void *context, int fd, const struct network *address) {
    (void)address;
    static const struct io_stream_events events = {.on_read = on_read, .on_end = on_end};
    struct world *world = context;
    struct peer *peer = mem_xalloc(sizeof *peer);
    peer->world = world;
    if (io_stream_new(world->guarded.loop, IO_STREAM_TCP, fd, &events, peer, &peer->stream) != 0)
        CANNOT_GO_ON();
    list_push_back(&world->peers, &peer->link);
    io_stream_read(peer->stream, true);
}

static void on_head(void *context, const struct http_head *head) {
    (void)context;
    CHECK_INT(head->status, 200);
}

static void on_data(void *context, struct slice bytes) {
    (void)context;
    (void)bytes;
}

static void on_answered(void *context) {
    struct world *world = context;
    world->n_ends++;
    io_loop_stop(world->guarded.loop);
}

static void on_failed(void *context, const struct client_failure *failure) {
    struct world *world = context;
    CHECK_INT(failure->kind, CLIENT_FAILED_MEMORY);
    world->n_failures++;
    io_loop_stop(world->guarded.loop);
}

static void run_request(struct world *world, struct client *client) {
    static const struct client_events events = {
        .on_head = on_head, .on_data = on_data, .on_end = on_answered, .on_failed = on_failed};
    struct client_request request = {.target = world->target,
                                     .method = HTTP_METHOD_POST,
                                     .body = SLICE("body"),
                                     .is_idempotent = true};
    struct client_call *call = NULL;
    int r = client_start(client, &request, &events, world, &call);
    CHECK(r == 0 || r == -ENOMEM);
    CHECK((call != NULL) == (r == 0));
    if (r == 0)
        guarded_run(&world->guarded);
}

static void run(void *arg) {
    struct world *world = arg;
    struct client_options options = {.loop = world->guarded.loop};
    struct client *client = NULL;
    int r = client_new(&options, &client);
    CHECK(r == 0 || r == -ENOMEM);
    for (int i = 0; r == 0 && i < 3; i++)
        run_request(world, client);
    client_free(client);
}

static void open_world(struct world *world) {
    int fd;
    char url[96];
    guarded_new(&world->guarded);
    list_init(&world->peers);
    if (io_address_parse(SLICE("127.0.0.1:0"), &world->address) != 0 ||
        io_listen_socket(&world->address, false, &fd) != 0 ||
        io_listener_new(world->guarded.loop, fd, on_accept, world, &world->listener) != 0)
        CANNOT_GO_ON();
    snprintf(url, sizeof url, "http://%s", world->address.text);
    struct client_target_options options = {
        .url = world->uses_proxy ? SLICE("http://server.test/") : slice_from_cstr(url),
        .proxy = world->uses_proxy ? slice_from_cstr(url) : SLICE("none")};
    const char *reason;
    if (client_target_new(&options, &world->target, &reason) != 0)
        CANNOT_GO_ON();
}

static void close_world(struct world *world) {
    LIST_FOREACH_SAFE (&world->peers, link, next) {
        peer_free(CONTAINER_OF(link, struct peer, link));
    }
    io_listener_free(world->listener);
    client_target_free(world->target);
    guarded_free(&world->guarded);
}

static void check(struct world *world) {
    open_world(world);
    test_torture(run, world);
    CHECK(world->n_ends >= 3); /* the last round, at least, which nothing disturbed */
    CHECK(world->n_failures > 0);
    close_world(world);
}

#define HELLO  SLICE_INIT("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
#define TUNNEL SLICE_INIT("HTTP/1.1 200 OK\r\n\r\n")

static void test_direct(void) {
    struct world world = {.answers = {HELLO, HELLO, HELLO}};
    check(&world);
}

static void test_kept_ones_break(void) {
    struct world world = {.answers = {HELLO}};
    check(&world);
}

static void test_proxy(void) {
    struct world world = {.answers = {TUNNEL, HELLO}, .uses_proxy = true};
    check(&world);
}

/* The data path: on a kept connection, a call and its bytes; and, at both ends, what leaves when
 * the turn ends. */
static void test_few_allocations(void) {
    struct world world = {.answers = {HELLO, HELLO, HELLO}};
    struct client *client = NULL;
    open_world(&world);
    struct client_options options = {.loop = world.guarded.loop};
    REQUIRE(client_new(&options, &client) == 0);
    run_request(&world, client);
    run_request(&world, client);
    mem_fail_after(UINT64_MAX); /* which counts */
    run_request(&world, client);
    CHECK(mem_alloc_count() > 0 && mem_alloc_count() <= 4);
    mem_fail_after(0);
    CHECK_INT(world.n_ends, 3);
    client_free(client);
    close_world(&world);
}

TEST_MAIN(TEST(test_few_allocations), TEST(test_direct), TEST(test_kept_ones_break),
          TEST(test_proxy))
