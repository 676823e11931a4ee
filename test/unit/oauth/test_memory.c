/* The whole way from the start to the keys with the n-th allocation failing: it ends in one way or
 * the other, and nothing leaks. The server is on a thread of its own, where none fails. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "world.h"

struct simple_server {
    int fd;
    pthread_t thread;
    char metadata[256];
};

#define JWKS OK_UNTIL_CLOSE("Cache-Control: max-age=300\r\n", KEYS(KEY_EC))

static void serve(const struct simple_server *server, int fd) {
    char request[4096];
    size_t len = 0;
    while (len < sizeof request - 1) {
        ssize_t n = read(fd, request + len, sizeof request - 1 - len);
        if (n <= 0)
            return;
        len += (size_t)n;
        request[len] = '\0';
        if (strstr(request, "\r\n\r\n") != NULL)
            break;
    }
    struct slice answer =
        strncmp(request, "GET /jwks ", 10) == 0 ? SLICE(JWKS) : slice_from_cstr(server->metadata);
    (void)!write(fd, answer.ptr, answer.len);
}

static void *run_server(void *arg) {
    struct simple_server *server = arg;
    for (;;) {
        int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            return NULL; /* it was shut down */
        serve(server, fd);
        io_fd_close(&fd);
    }
}

static void server_open(struct simple_server *server, struct world *world, struct slice issuer) {
    struct io_address *address = &world->server.address;
    server->fd = -1;
    server_stop_listening(&world->server);
    if (io_address_parse(slice_from_cstr(address->text), address) != 0 ||
        io_listen_socket(address, false, &server->fd) != 0)
        CANNOT_GO_ON();
    int flags = fcntl(server->fd, F_GETFL);
    fcntl(server->fd, F_SETFL, flags & ~O_NONBLOCK);
    snprintf(server->metadata, sizeof server->metadata,
             "HTTP/1.1 200 OK\r\n\r\n{\"issuer\":\"%.*s\",\"jwks_uri\":\"http://%s/jwks\"}",
             SLICE_ARGS(issuer), address->text);
    if (pthread_create(&server->thread, NULL, run_server, server) != 0)
        CANNOT_GO_ON();
}

static void server_shut(struct simple_server *server) {
    shutdown(server->fd, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    io_fd_close(&server->fd);
}

static size_t n_good, n_bad;

static void fetch_once(void *arg) {
    struct world *world = arg;
    struct oauth_options options = {
        .config = &world->config, .loop = world->guarded.loop, .version = SLICE("1")};
    int error = oauth_new(&options, &world->oauth);
    CHECK(error == 0 || error == -ENOMEM);
    if (error != 0)
        return;
    world->oauth->now_fn = world_now;
    world->oauth->now_context = &world->now;
    oauth_start(world->oauth);
    if (world->oauth->issuers[0].is_fetching)
        world_wait(world);
    bool is_good = world_keys(world, 0) == 1;
    CHECK(is_good != (world_error(world)[0] != '\0'));
    n_good += is_good;
    n_bad += !is_good;
    /* And over to a new configuration. */
    struct oauth *before = world->oauth;
    options.previous = before;
    error = oauth_new(&options, &world->oauth);
    CHECK(error == 0 || error == -ENOMEM);
    CHECK(error != 0 || (world_keys(world, 0) == 1) == is_good);
    oauth_free(before);
    world->oauth = error == 0 ? oauth_free(world->oauth) : NULL;
}

static void test_without_memory(void) {
    struct simple_server server;
    struct world world;
    world_open(&world, NULL, 0);
    world_add(&world, NULL, "/t")->secret = SLICE("0123456789abcdef0123456789abcdef");
    server_open(&server, &world, world.issuers[0].issuer);
    test_torture(fetch_once, &world);
    CHECK(n_good >= 1);
    CHECK(n_bad >= 5);
    server_shut(&server);
    world_close(&world);
}

TEST_MAIN(TEST(test_without_memory))
