/*
 * The whole way from a source's beginning to its token (the server's metadata, the issuer's, an
 * exchange that is signed for, a refusal) with the n-th allocation failing: it ends in one way or
 * the other, and nothing leaks. The servers are on a thread of their own, where none fails.
 *
 * And the assertion that is sent.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/base64.h"
#include "json/reader.h"
#include "source_world.h"

static const char key[] = "-----BEGIN PRIVATE KEY-----\n"
                          "MC4CAQAwBQYDK2VwBCIEIDy70SzcSEkgaxJuTWHwVZRVDT0UE5pSDc44BPouSh6A\n"
                          "-----END PRIVATE KEY-----\n";

static void write_key(char path[static 64]) {
    snprintf(path, 64, "/tmp/cardea-test-key-XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0 || write(fd, key, sizeof key - 1) != (ssize_t)(sizeof key - 1))
        CANNOT_GO_ON();
    io_fd_close(&fd);
}

/* --- the assertion --- */

static void test_assertion(void) {
    struct source_world world;
    CLEANUP(json_reader_freep) struct json_reader *reader = NULL;
    struct buf claims CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    struct buf header CLEANUP(buf_deinit) = BUF_INIT(KIB(4));
    char path[64];
    write_key(path);
    struct config_server *server = world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_CLIENT);
    server->auth_client.issuer = SLICE("https://as.example/t");
    server->auth_client.key_path = slice_from_cstr(path);
    server->auth_client.key_id = SLICE("k 1");
    server->auth_client.client_secret = SLICE_EMPTY;
    reply(&world, "200 OK", TOKEN("one", ",\"expires_in\":100"));
    reply(&world, "200 OK", TOKEN("two", ",\"expires_in\":100"));
    world_start(&world);
    unlink(path);
    CHECK_GET(&world, NULL, "one");
    CHECK_INT(world_count_got(&world, "&client_id=gw&client_assertion_type=urn%3Aietf%3Aparams%3A"
                                      "oauth%3Aclient-assertion-type%3Ajwt-bearer&"
                                      "client_assertion="),
              1);
    CHECK_INT(world_count_got(&world, "Authorization"), 0);
    struct slice got = buf_slice(&world.server.got), jwt = SLICE_EMPTY, part;
    jwt = slice_from(got, slice_find(got, SLICE("client_assertion=")) + 17);
    slice_cut(jwt, '.', &part, &jwt);
    CHECK_INT(base64url_decode(&header, part), 0);
    CHECK_STR(buf_slice(&header), "{\"alg\":\"EdDSA\",\"typ\":\"JWT\",\"kid\":\"k 1\"}");
    slice_cut(jwt, '.', &part, &jwt);
    CHECK_INT(base64url_decode(&claims, part), 0);
    REQUIRE(json_reader_new(&reader) == 0);
    REQUIRE(json_read(reader, buf_slice(&claims), &json_want_root, NULL, NULL) == 0);
    const struct json_node *root = json_root(reader);
    CHECK(json_string_is(json_member(reader, root, SLICE("iss")), SLICE("gw")));
    CHECK(json_string_is(json_member(reader, root, SLICE("sub")), SLICE("gw")));
    CHECK(json_string_is(json_member(reader, root, SLICE("aud")), SLICE("https://as.example/t")));
    CHECK_SLICE(json_member(reader, root, SLICE("iat"))->raw, SLICE("4000000000"));
    CHECK_SLICE(json_member(reader, root, SLICE("exp"))->raw, SLICE("4000000060"));
    struct slice jti = json_string_raw(json_member(reader, root, SLICE("jti")));
    CHECK_INT(jti.len, 22);
    /* Another one each time. */
    world_advance(&world, 100 * 1000);
    CHECK_GET(&world, NULL, "two");
    CHECK_INT(world_count_got(&world, "client_assertion="), 2);
    world_close(&world);
}

static void check_key_refused(const char *path, int expect, const char *expect_reason) {
    struct source_world world;
    struct oauth_source *source = NULL;
    const char *reason = "";
    world_with_endpoint(&world, CONFIG_UPSTREAM_AUTH_CLIENT)->auth_client.key_path =
        slice_from_cstr(path);
    world_make(&world);
    CHECK_INT(oauth_source_new(world.tokens, &world.config, &world.servers[0], &source, &reason),
              expect);
    CHECK(source == NULL);
    CHECK_STR(slice_from_cstr(reason), expect_reason);
    world_close(&world);
}

static void test_refused_keys(void) {
    check_key_refused("/nowhere/key.pem", -ENOENT, "");
    check_key_refused("/dev/null", OAUTH_E_SOURCE, "the file holds no private key in PEM");
}

/* --- without memory --- */

struct simple_server {
    int fd;
    pthread_t thread;
    char origin[128];
};

static void answer(const struct simple_server *server, const char *request, int fd) {
    char text[1024];
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";
    if (strncmp(request, "POST", 4) == 0)
        snprintf(text, sizeof text, "%s%s", head, EXCHANGED("x", ",\"expires_in\":60"));
    else if (strstr(request, "oauth-protected-resource") != NULL)
        snprintf(text, sizeof text,
                 "%s{\"resource\":\"%s/mcp\",\"authorization_servers\":[\"%s/as\"],"
                 "\"scopes_supported\":[\"a\",\"b\"]}",
                 head, server->origin, server->origin);
    else
        snprintf(text, sizeof text, "%s{\"issuer\":\"%s/as\",\"token_endpoint\":\"%s/token\"}",
                 head, server->origin, server->origin);
    (void)!write(fd, text, strlen(text));
}

static void serve(const struct simple_server *server, int fd) {
    char request[8192];
    size_t len = 0;
    const char *body;
    for (;;) {
        ssize_t n = read(fd, request + len, sizeof request - 1 - len);
        if (n <= 0)
            return;
        len += (size_t)n;
        request[len] = '\0';
        body = strstr(request, "\r\n\r\n");
        const char *length = strstr(request, "Content-Length: ");
        if (body != NULL &&
            (length == NULL ||
             strlen(body + 4) >= (size_t)strtoul(length + strlen("Content-Length: "), NULL, 10)))
            break;
    }
    answer(server, request, fd);
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

static void server_open(struct simple_server *server, struct source_world *world) {
    struct io_address *address = &world->server.address;
    server->fd = -1;
    server_stop_listening(&world->server);
    if (io_address_parse(slice_from_cstr(address->text), address) != 0 ||
        io_listen_socket(address, false, &server->fd) != 0)
        CANNOT_GO_ON();
    int flags = fcntl(server->fd, F_GETFL);
    fcntl(server->fd, F_SETFL, flags & ~O_NONBLOCK);
    snprintf(server->origin, sizeof server->origin, "http://%s", address->text);
    if (pthread_create(&server->thread, NULL, run_server, server) != 0)
        CANNOT_GO_ON();
}

static void server_shut(struct simple_server *server) {
    shutdown(server->fd, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    io_fd_close(&server->fd);
}

static size_t n_good, n_bad;

static void get_once(struct source_world *world, struct oauth_token *subject,
                     struct http_head *head) {
    struct waiter waiter;
    if (waiter_ask(&waiter, world, world->source, subject) == OAUTH_ANSWER_WAIT)
        guarded_run(&world->guarded);
    if (waiter.wait.token != NULL)
        (void)!oauth_source_refused(world->source, subject, waiter.wait.token, head);
    else
        CHECK(waiter.wait.reason[0] != '\0');
    n_good += waiter.wait.token != NULL;
    n_bad += waiter.wait.token == NULL;
    waiter_drop(&waiter);
}

static void use_once(void *arg) {
    struct source_world *world = arg;
    struct oauth_tokens_options options = {.loop = world->guarded.loop, .version = SLICE("1")};
    struct http_field field = {SLICE_INIT("WWW-Authenticate"),
                               SLICE_INIT("Bearer error=\"insufficient_scope\", scope=\"c\"")};
    struct http_head head = {.status = 403, .n_fields = 1, .fields = &field};
    struct oauth_token *subject = oauth_token_new(SLICE("caller"), UINT64_MAX);
    const char *reason = "";
    if (subject != NULL && oauth_tokens_new(&options, &world->tokens) == 0) {
        world->tokens->now_fn = world_now;
        world->tokens->wall_fn = world_wall;
        world->tokens->clock_context = world;
        int error = oauth_source_new(world->tokens, &world->config, &world->servers[0],
                                     &world->source, &reason);
        CHECK(error == 0 || error == -ENOMEM);
        if (error == 0) {
            get_once(world, subject, &head);
            get_once(world, subject, &head);
        }
        world->source = oauth_source_unref(world->source);
    }
    world->tokens = oauth_tokens_free(world->tokens);
    world_settle(world);
    oauth_token_unref(subject);
}

static void test_without_memory(void) {
    struct simple_server server;
    struct source_world world;
    char path[64];
    write_key(path);
    world_open(&world, CONFIG_UPSTREAM_AUTH_EXCHANGE)->auth_client.key_path = slice_from_cstr(path);
    world.servers[0].auth_client.issuer = world_url(&world, "/as");
    server_open(&server, &world);
    test_torture(use_once, &world);
    CHECK(n_good >= 2);
    CHECK(n_bad >= 20);
    server_shut(&server);
    unlink(path);
    world_close(&world);
}

TEST_MAIN(TEST(test_assertion), TEST(test_refused_keys), TEST(test_without_memory))
