/* Which connections are kept, for whom and how long; giving up in every state. */
#include <sys/resource.h>

#include "exchange.h"

#define HELLO "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"

static const struct reply hello = {SLICE_INIT(HELLO), REPLY_HOLD};

static void check_hello(struct world *world, const struct client_target *target,
                        struct slice partition) {
    struct client_request request = request_to(target);
    request.partition = partition;
    check_exchange(world, &request, "200 x .");
}

static void test_partitions(void) {
    struct world world;
    char url[96];
    world_open(&world, &hello, 1);
    snprintf(url, sizeof url, "http://%s/p?q", world.server.address.text);
    struct client_target *twin = target_new(url, "");
    check_hello(&world, world.target, SLICE("alice"));
    check_hello(&world, world.target, SLICE("alice"));
    CHECK_INT(world.server.n_accepted, 1);
    check_hello(&world, world.target, SLICE("bob"));
    CHECK_INT(world.server.n_accepted, 2);
    check_hello(&world, world.target, SLICE(""));
    CHECK_INT(world.server.n_accepted, 3);
    check_hello(&world, world.target, SLICE("alice\0"));
    CHECK_INT(world.server.n_accepted, 4);
    /* Another target, though its URL is the same. */
    check_hello(&world, twin, SLICE("alice"));
    CHECK_INT(world.server.n_accepted, 5);
    CHECK_INT(client_count_connections(world.client), 5);
    check_hello(&world, world.target, SLICE("alice"));
    check_hello(&world, world.target, SLICE("bob"));
    check_hello(&world, twin, SLICE("alice"));
    CHECK_INT(world.server.n_accepted, 5);
    world_close(&world);
    client_target_free(twin);
}

/* A target may go while its connections are kept, and its memory may be another target's then. */
static void test_target_goes(void) {
    struct world world;
    char url[96];
    world_open(&world, &hello, 1);
    snprintf(url, sizeof url, "http://%s/", world.server.address.text);
    for (size_t i = 1; i <= 20; i++) {
        struct client_target *target = target_new(url, "");
        check_hello(&world, target, SLICE("alice"));
        CHECK_INT(world.server.n_accepted, i);
        client_target_free(target);
    }
    world_settle(&world);
    world_close(&world);
}

/* --- how many --- */

struct crowd {
    struct world world;
    struct exchange *exchanges;
    size_t n, n_ended;
};

static void crowd_ended(struct exchange *exchange) {
    struct crowd *crowd = CONTAINER_OF(exchange->world, struct crowd, world);
    if (++crowd->n_ended == crowd->n)
        io_loop_stop(crowd->world.guarded.loop);
}

/* n requests at once, `per_partition` of them in one. */
static void crowd_run(struct crowd *crowd, size_t n, size_t per_partition) {
    crowd->exchanges = mem_xalloc(n * sizeof *crowd->exchanges);
    crowd->n = n;
    crowd->n_ended = 0;
    for (size_t i = 0; i < n; i++) {
        struct exchange *exchange = &crowd->exchanges[i];
        struct client_request request = request_to(crowd->world.target);
        size_t partition = i / per_partition;
        request.partition = slice_make(&partition, sizeof partition);
        exchange_init(exchange, &crowd->world);
        exchange->stops_at_end = false;
        exchange->at_end = crowd_ended;
        exchange_start(exchange, &request);
    }
    guarded_run(&crowd->world.guarded);
    for (size_t i = 0; i < n; i++) {
        CHECK_STR(exchange_trace(&crowd->exchanges[i]), "200 x .");
        buf_deinit(&crowd->exchanges[i].trace);
    }
    mem_free(crowd->exchanges);
}

static void test_kept_of_a_partition(void) {
    struct crowd crowd;
    world_open(&crowd.world, &hello, 1);
    crowd_run(&crowd, LIMIT_KEPT_CONNECTIONS, LIMIT_KEPT_CONNECTIONS);
    CHECK_INT(client_count_connections(crowd.world.client), LIMIT_KEPT_CONNECTIONS);
    crowd_run(&crowd, LIMIT_KEPT_CONNECTIONS, LIMIT_KEPT_CONNECTIONS);
    CHECK_INT(crowd.world.server.n_accepted, LIMIT_KEPT_CONNECTIONS);
    crowd_run(&crowd, LIMIT_KEPT_CONNECTIONS + 1, LIMIT_KEPT_CONNECTIONS + 1);
    CHECK_INT(crowd.world.server.n_accepted, LIMIT_KEPT_CONNECTIONS + 1);
    CHECK_INT(client_count_connections(crowd.world.client), LIMIT_KEPT_CONNECTIONS);
    world_run_until_open(&crowd.world, LIMIT_KEPT_CONNECTIONS);
    world_close(&crowd.world);
}

static void test_kept_in_all(void) {
    enum { MANY = LIMIT_KEPT_IN_ALL + 40 };
    struct rlimit limit;
    struct crowd crowd;
    REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    REQUIRE(limit.rlim_cur > 2 * MANY + 100);
    world_open(&crowd.world, &hello, 1);
    crowd_run(&crowd, MANY, 20);
    CHECK_INT(client_count_connections(crowd.world.client), LIMIT_KEPT_IN_ALL);
    world_run_until_open(&crowd.world, LIMIT_KEPT_IN_ALL);
    world_close(&crowd.world);
}

/* The one that was used last goes first: of three, one request after the other needs one. */
static void test_last_in_first_out(void) {
    struct crowd crowd;
    struct world *world = &crowd.world;
    size_t partition = 0;
    struct slice all = slice_make(&partition, sizeof partition);
    world_open(world, &hello, 1);
    crowd_run(&crowd, 3, 3);
    check_hello(world, world->target, all);
    int first = -1, again = -1;
    LIST_FOREACH_SAFE (&world->server.peers, link, next) {
        struct server_peer *peer = CONTAINER_OF(link, struct server_peer, link);
        if (peer->n_replies == 2)
            first = peer->fd;
    }
    check_hello(world, world->target, all);
    LIST_FOREACH_SAFE (&world->server.peers, link, next) {
        struct server_peer *peer = CONTAINER_OF(link, struct server_peer, link);
        if (peer->n_replies == 3)
            again = peer->fd;
    }
    CHECK(first >= 0);
    CHECK_INT(again, first);
    world_close(world);
}

/* --- how long --- */

static void test_keep_alive_field(void) {
    static const struct {
        struct reply reply;
        bool is_kept;
    } rows[] = {
#define KEEP(value)                                                                                \
    {SLICE_INIT("HTTP/1.1 200 OK\r\nKeep-Alive: " value "\r\nContent-Length: 1\r\n\r\nx"),         \
     REPLY_HOLD}
        {KEEP("timeout=5"), true},
        {KEEP("timeout=2"), true},
        {KEEP("timeout=1"), false},
        {KEEP("timeout=0"), false},
        {KEEP("max=100, timeout=1"), false},
        {KEEP("max=100 , Timeout = 1"), false},
        {KEEP("timeout=99999999999999999999999"), true},
        {KEEP("timeout=-1"), true},
        {KEEP("timeout="), true},
        {KEEP("timeout"), true},
        {KEEP(""), true},
        {KEEP(",,=,"), true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct world world;
        test_row(rows[i].reply.bytes.ptr);
        world_open(&world, &rows[i].reply, 1);
        check_hello(&world, world.target, SLICE_EMPTY);
        CHECK_INT(client_count_connections(world.client), rows[i].is_kept);
        world_close(&world);
    }
}

/* Two seconds told, one counted on; then the client closes. */
static void test_idle_time(void) {
    static const struct reply reply = KEEP("timeout=2");
    struct world world;
    world_open(&world, &reply, 1);
    check_hello(&world, world.target, SLICE_EMPTY);
    uint64_t started = io_loop_now(world.guarded.loop);
    CHECK_INT(world.server.n_open, 1);
    world_run_until_open(&world, 0);
    uint64_t took = io_loop_now(world.guarded.loop) - started;
    CHECK(took >= 900 && took < 1900);
    CHECK_INT(client_count_connections(world.client), 0);
    world_close(&world);
}

/* --- what happens to idle ones --- */

static void test_closed_while_idle(void) {
    static const enum reply_then ends[] = {REPLY_CLOSE, REPLY_RESET};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        struct world world;
        world_open(&world, &hello, 1);
        check_hello(&world, world.target, SLICE_EMPTY);
        server_drop(&world.server, ends[i]);
        world_settle(&world);
        CHECK_INT(client_count_connections(world.client), 0);
        check_hello(&world, world.target, SLICE_EMPTY);
        world_close(&world);
    }
}

/* The answer to a request that was never made, waiting for the next one to be made. */
static void test_unasked_bytes(void) {
    struct world world;
    world_open(&world, &hello, 1);
    check_hello(&world, world.target, SLICE_EMPTY);
    struct server_peer *peer =
        CONTAINER_OF(list_first(&world.server.peers), struct server_peer, link);
    CHECK_INT(io_stream_write(peer->stream, SLICE("HTTP/1.1 200 OK\r\n"), KIB(1)), 0);
    world_settle(&world);
    CHECK_INT(client_count_connections(world.client), 0);
    CHECK_INT(world.server.n_open, 0);
    check_hello(&world, world.target, SLICE_EMPTY);
    CHECK_INT(world.server.n_accepted, 2);
    world_close(&world);
}

/* --- one after the other, from inside --- */

static void start_another(struct exchange *exchange) {
    struct world *world = exchange->world;
    struct exchange *next = exchange + 1;
    exchange_init(next, world);
    struct client_request request = request_to(world->target);
    exchange_start(next, &request);
}

static void test_start_at_end(void) {
    struct world world;
    struct exchange exchanges[2];
    world_open(&world, &hello, 1);
    exchange_init(&exchanges[0], &world);
    exchanges[0].stops_at_end = false;
    exchanges[0].at_end = start_another;
    struct client_request request = request_to(world.target);
    exchange_start(&exchanges[0], &request);
    guarded_run(&world.guarded);
    for (size_t i = 0; i < 2; i++) {
        CHECK_STR(exchange_trace(&exchanges[i]), "200 x .");
        buf_deinit(&exchanges[i].trace);
    }
    CHECK_INT(world.server.n_accepted, 1);
    world_close(&world);
}

/* --- giving up --- */

static void cancel(struct exchange *exchange) {
    exchange->call = client_cancel(exchange->call);
    io_loop_stop(exchange->world->guarded.loop);
}

static void free_all(struct exchange *exchange) {
    exchange->world->client = client_free(exchange->world->client);
    exchange->call = NULL;
    io_loop_stop(exchange->world->guarded.loop);
}

static void free_all_at_end(struct exchange *exchange) {
    exchange->world->client = client_free(exchange->world->client);
}

static void restart(struct exchange *exchange) {
    exchange->call = client_cancel(exchange->call);
    start_another(exchange);
}

static const struct reply two_chunks = {
    SLICE_INIT(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n"),
    REPLY_HOLD};

static void test_give_up_inside(void) {
    static const struct {
        const char *name;
        void (*at_head)(struct exchange *);
        void (*at_data)(struct exchange *);
        const char *expect;
    } rows[] = {
        {"cancel at head", cancel, NULL, "200 "},
        {"cancel at data", NULL, cancel, "200 a"},
        {"free at head", free_all, NULL, "200 "},
        {"free at data", NULL, free_all, "200 a"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t piece = 0; piece < 2; piece++) {
            struct world world;
            struct exchange exchange;
            test_row(rows[i].name);
            world_open(&world, &two_chunks, 1);
            world.server.piece = piece;
            exchange_init(&exchange, &world);
            exchange.at_head = rows[i].at_head;
            exchange.at_data = rows[i].at_data;
            struct client_request request = request_to(world.target);
            exchange_start(&exchange, &request);
            guarded_run(&world.guarded);
            world_settle(&world);
            CHECK_STR(exchange_trace(&exchange), rows[i].expect);
            CHECK_INT(exchange.n_ends, 0);
            CHECK_INT(world.server.n_open, 0);
            CHECK(world.client == NULL || client_count_connections(world.client) == 0);
            buf_deinit(&exchange.trace);
            world_close(&world);
        }
    }
}

static void test_free_at_end(void) {
    static const struct reply replies[] = {{SLICE_INIT(HELLO), REPLY_HOLD},
                                           {SLICE_INIT("HTTP/1.1 x\r\n\r\n"), REPLY_HOLD}};
    for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
        struct world world;
        struct exchange exchange;
        world_open(&world, &replies[i], 1);
        exchange_init(&exchange, &world);
        exchange.at_end = free_all_at_end;
        struct client_request request = request_to(world.target);
        exchange_run(&exchange, &request);
        world_settle(&world);
        CHECK_INT(world.server.n_open, 0);
        buf_deinit(&exchange.trace);
        world_close(&world);
    }
}

static void test_cancel_and_start_inside(void) {
    struct world world;
    struct exchange exchanges[2];
    world_open(&world, &two_chunks, 1);
    exchange_init(&exchanges[0], &world);
    exchanges[0].at_data = restart;
    struct client_request request = request_to(world.target);
    exchange_start(&exchanges[0], &request);
    guarded_run(&world.guarded);
    CHECK_STR(exchange_trace(&exchanges[0]), "200 a");
    CHECK_STR(exchange_trace(&exchanges[1]), "200 ab .");
    CHECK_INT(world.server.n_accepted, 2);
    buf_deinit(&exchanges[0].trace);
    buf_deinit(&exchanges[1].trace);
    world_close(&world);
}

/* After each number of turns of the loop, from none to long after the end. */
static void give_up_after(unsigned turns, bool frees, size_t n_before) {
    struct world world;
    struct exchange exchange;
    world_open(&world, &two_chunks, 1);
    world.server.piece = 7;
    struct client_request request = request_to(world.target);
    for (size_t i = 0; i < n_before; i++)
        check_exchange(&world, &request, "200 ab .");
    exchange_init(&exchange, &world);
    exchange_start(&exchange, &request);
    if (turns != 0) {
        world.later = (struct later){
            .loop = world.guarded.loop, .n = turns, .fn = world_stop, .context = &world};
        exchange.stops_at_end = false;
        later_start(&world.later);
        guarded_run(&world.guarded);
    }
    size_t len = buf_len(&exchange.trace);
    if (frees)
        world.client = client_free(world.client);
    else
        client_cancel(exchange.call);
    world_settle(&world);
    CHECK_INT(buf_len(&exchange.trace), len);
    buf_deinit(&exchange.trace);
    world_close(&world);
}

static void test_give_up_after(void) {
    for (unsigned turns = 0; turns < 60; turns++) {
        give_up_after(turns, true, 0);
        give_up_after(turns, false, 0);
        give_up_after(turns, true, 1);
        give_up_after(turns, false, 1);
    }
}

static void test_nothing(void) {
    CHECK(client_free(NULL) == NULL);
    CHECK(client_cancel(NULL) == NULL);
    CHECK(client_target_free(NULL) == NULL);
    struct world world;
    world_open(&world, &hello, 1);
    CHECK_INT(client_count_connections(world.client), 0);
    world_close(&world);
}

TEST_MAIN(TEST(test_partitions), TEST(test_target_goes), TEST(test_kept_of_a_partition),
          TEST(test_kept_in_all), TEST(test_last_in_first_out), TEST(test_keep_alive_field),
          TEST(test_idle_time), TEST(test_closed_while_idle), TEST(test_unasked_bytes),
          TEST(test_start_at_end), TEST(test_give_up_inside), TEST(test_free_at_end),
          TEST(test_cancel_and_start_inside), TEST(test_give_up_after), TEST(test_nothing))
