/* Kinds of servers: with a password, with TLS, a cluster, a replica, full, none at all; and how
 * many connections there are to them. */
#include "redis_world.h"
#include "test.h"
#include "tls_certs.h"

/* --- who we are --- */

static const struct login {
    const char *name, *user, *says; /* NULL: it is up */
} logins[] = {
    {"right", ":hunter2@", NULL},
    {"wrong", ":hunter3@", "the user or password is wrong"},
    {"none", "", "NOAUTH"},
    {"a name alone logs nobody in", "hunter3@", "NOAUTH"},
    {"a user", "alice:s%40cret:with%2Fsigns@", NULL},
    {"a user without that password", "alice:hunter2@", "the user or password is wrong"},
    {"no such user", "bob:hunter2@", "the user or password is wrong"},
    {"one who may not write", "reader:hunter2@", "can't run this command"},
    {"one who may not ask INFO", "counter:hunter2@", NULL},
};

static void test_passwords(void) {
    struct world world = {.server.more = {"--requirepass", "hunter2"}};
    redis_server_start(&world.server);
    redis_do(&world.server, "AUTH hunter2");
    redis_do(&world.server, "ACL SETUSER alice on >s@cret:with/signs ~* +@all");
    redis_do(&world.server, "ACL SETUSER reader on >hunter2 ~* +@read +@connection +script +info "
                            "+evalsha +eval +time");
    redis_do(&world.server, "ACL SETUSER counter on >hunter2 ~nexus:* +script|load +evalsha +eval "
                            "+@list +@hash +del +pexpire +time");
    for (size_t i = 0; i < ARRAY_LEN(logins); i++) {
        test_row(logins[i].name);
        world_open_workers(&world, 1);
        world_url(&world, "redis", logins[i].user, "");
        world_configure(&world);
        world_await(&world, logins[i].says == NULL ? is_up : is_down);
        if (logins[i].says != NULL)
            CHECK_INT(said(&world, logins[i].says), 1);
        CHECK_INT(said(&world, "hunter"), 0);
        CHECK_INT(said(&world, "cret"), 0);
        CHECK_INT(ask_one(&world), LIMITS_PASS);
        world_close_worker(&world);
    }
    redis_server_end(&world.server);
}

/* A server that knows no AUTH quotes what it was asked. */
static void test_password_is_quoted(void) {
    struct world world = {.server.more = {"--rename-command", "AUTH", ""}};
    redis_server_start(&world.server);
    world_open_workers(&world, 1);
    world_url(&world, "redis", ":hunter2@", "");
    struct resp_reply *reply = redis_ask(&world.server, "AUTH hunter2");
    CHECK(slice_find(resp_text(reply), SLICE("hunter2")) != SIZE_MAX);
    resp_reply_free(reply);
    world_configure(&world);
    world_await(&world, is_down);
    CHECK_INT(said(&world, "it refused the user and password"), 1);
    CHECK_INT(said(&world, "hunter2"), 0);
    world_close(&world);
}

static void test_password_without_need(void) {
    struct world world;
    world_open(&world);
    world_url(&world, "redis", ":hunter2@", "");
    world_configure(&world);
    world_await(&world, is_down);
    CHECK_INT(said(&world, "a password is given, and the server has none"), 1);
    world_close(&world);
}

static void test_database(void) {
    struct world world;
    world_open(&world);
    world_url(&world, "redis", "", "/7");
    world_configure(&world);
    CHECK_INT(ask_one(&world), LIMITS_PASS);
    CHECK_INT(redis_number(&world.server, "DBSIZE"), 0);
    redis_do(&world.server, "SELECT 7");
    CHECK(redis_number(&world.server, "DBSIZE") >= 1);
    world_url(&world, "redis", "", "/16"); /* it has 16 */
    world_configure(&world);
    world_await(&world, is_down);
    CHECK_INT(said(&world, "DB index is out of range"), 1);
    world_close(&world);
}

/* --- addresses --- */

static void test_urls(void) {
    static const struct {
        const char *url, *name, *host, *database;
        uint16_t port;
        bool is_tls;
    } fine[] = {
        {"redis://localhost", "localhost:6379", "localhost", "", 6379, false},
        {"redis://localhost/", "localhost:6379", "localhost", "", 6379, false},
        {"redis://h:7000/0", "h:7000", "h", "", 7000, false},
        {"REDISS://[::1]:7000/12", "[::1]:7000", "::1", "12", 7000, true},
        {"rediss://u:p@10.0.0.1", "10.0.0.1:6379", "10.0.0.1", "", 6379, true},
    };
    static const char *const wrong[] = {
        "",
        "localhost:6379",
        "http://localhost",
        "redis://",
        "redis:///0",
        "redis://h:0",
        "redis://h:99999",
        "redis://h/a",
        "redis://h/-1",
        "redis://h/1/2",
        "redis://h/9999999999",
        "redis://h?db=1",
        "redis://h/#1",
        "redis://:%zz@h",
        "redis://:a%00b@h",
        "unix:///run/redis.sock",
    };
    struct config_storage storage = {.key_prefix = SLICE("p:"), .tls_insecure = true};
    const char *reason = NULL;
    for (size_t i = 0; i < ARRAY_LEN(fine); i++) {
        struct redis_target target;
        test_row(fine[i].url);
        storage.url = slice_from_cstr(fine[i].url);
        CHECK_INT(redis_target_init(&target, &storage, 4, &reason), 0);
        CHECK_STR(target.name, fine[i].name);
        CHECK_STR(target.host, fine[i].host);
        CHECK_STR(target.database, fine[i].database);
        CHECK_STR(target.key_prefix, "p:");
        CHECK_INT(target.port, fine[i].port);
        CHECK_INT(target.tls != NULL, fine[i].is_tls);
        redis_target_deinit(&target);
    }
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct redis_target target;
        test_row(wrong[i]);
        storage.url = slice_from_cstr(wrong[i]);
        reason = NULL;
        CHECK_INT(redis_target_init(&target, &storage, 4, &reason), REDIS_E_INVALID);
        CHECK(reason != NULL);
    }
}

static void url_body(void *arg) {
    const struct config_storage *storage = arg;
    struct redis_target target;
    const char *reason = NULL;
    int error = redis_target_init(&target, storage, 1, &reason);
    CHECK(error == 0 || error == -ENOMEM);
    if (error == 0)
        redis_target_deinit(&target);
}

static void test_url_without_memory(void) {
    struct config_storage storage = {.url = SLICE("redis://user:pa%20ss@host/3"),
                                     .key_prefix = SLICE("p:")};
    test_torture(url_body, &storage);
}

static void test_url_is_none(void) {
    struct world world;
    world_open(&world);
    world.storage.on_failure = CONFIG_FAILURE_DENY;
    world.storage.url = SLICE("redis://:hunter2@h/x");
    CHECK_INT(limits_worker_configure(world.worker, &world.storage), -EINVAL);
    CHECK(is_down(&world));
    CHECK_INT(said(&world, "has to be the number of a database"), 1);
    CHECK_INT(said(&world, "hunter2"), 0);
    CHECK_INT(ask_one(&world), LIMITS_UNAVAILABLE);
    world_url(&world, "redis", "", "");
    world_configure(&world);
    CHECK_INT(ask_one(&world), LIMITS_PASS);
    world_close(&world);
}

/* --- TLS --- */

struct files {
    char ca[40], other[40], cert[40], key[40], client[40], client_key[40], stranger[40],
        stranger_key[40];
};

static void write_pair(const struct cert *cert, char *path, char *key_path) {
    snprintf(path, 40, "/tmp/cardea-cert-XXXXXX");
    cert_write(cert, path);
    if (key_path == NULL)
        return;
    snprintf(key_path, 40, "/tmp/cardea-key-XXXXXX");
    cert_write_key(cert, key_path, NULL);
}

static void make_files(struct files *files) {
    static const struct cert_spec authority = {.subject = "tests", .is_authority = true},
                                  server = {.subject = "server", .names = "DNS:localhost"},
                                  client = {.subject = "client", .names = "DNS:client"};
    struct cert ca = cert_make(&authority, NULL), other = cert_make(&authority, NULL),
                leaf = cert_make(&server, &ca), own = cert_make(&client, &ca),
                stranger = cert_make(&client, &other);
    write_pair(&ca, files->ca, NULL);
    write_pair(&other, files->other, NULL);
    write_pair(&leaf, files->cert, files->key);
    write_pair(&own, files->client, files->client_key);
    write_pair(&stranger, files->stranger, files->stranger_key);
    struct cert *all[] = {&ca, &other, &leaf, &own, &stranger};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        cert_free(all[i]);
}

static void remove_files(const struct files *files) {
    const char *const all[] = {files->ca,       files->other,       files->cert,
                               files->key,      files->client,      files->client_key,
                               files->stranger, files->stranger_key};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        unlink(all[i]);
}

struct tls_case {
    const char *name;
    const char *scheme, *host;
    const char *ca, *cert, *key;
    bool enabled, insecure, is_up;
};

static void check_tls(struct world *world, const struct tls_case *row) {
    test_row(row->name);
    world_open_workers(world, 1);
    snprintf(world->url, sizeof world->url, "%s://%s:%s", row->scheme, row->host,
             world->server.port);
    world->storage.url = slice_from_cstr(world->url);
    world->storage.tls_enabled = row->enabled;
    world->storage.tls_insecure = row->insecure;
    world->storage.tls_ca = slice_from_cstr(row->ca);
    world->storage.tls_cert = slice_from_cstr(row->cert);
    world->storage.tls_key = slice_from_cstr(row->key);
    world_configure(world);
    world_await(world, row->is_up ? is_up : is_down);
    CHECK_INT(ask_one(world), LIMITS_PASS);
    if (row->is_up) {
        /* A reload reads the files anew, on connections of its own. */
        struct redis_pool *before = world->worker->redis->pool;
        world_configure(world);
        CHECK_INT(world->worker->redis->pool != before, row->ca != NULL);
        CHECK_INT(ask_one(world), LIMITS_PASS);
    }
    world_close_worker(world);
}

static void test_tls(void) {
    struct files files;
    struct world world = {.log = NULL};
    make_files(&files);
    const char *options[] = {"--tls-cert-file",    files.cert, "--tls-key-file",     files.key,
                             "--tls-ca-cert-file", files.ca,   "--tls-auth-clients", "yes"};
    memcpy(world.server.more, options, sizeof options);
    world.server.is_tls = true;
    redis_server_start(&world.server);
    const struct tls_case rows[] = {
        {"all as it should be", "rediss", "localhost", files.ca, files.client, files.client_key,
         false, false, true},
        {"tls.enabled with redis://", "redis", "localhost", files.ca, files.client,
         files.client_key, true, false, true},
        {"another authority", "rediss", "localhost", files.other, files.client, files.client_key,
         false, false, false},
        {"the system's authorities", "rediss", "localhost", NULL, files.client, files.client_key,
         false, false, false},
        {"another name", "rediss", "127.0.0.1", files.ca, files.client, files.client_key, false,
         false, false},
        {"another name, insecure", "rediss", "127.0.0.1", files.ca, files.client, files.client_key,
         false, true, true},
        {"another authority, insecure", "rediss", "localhost", files.other, files.client,
         files.client_key, false, true, true},
        {"no client certificate", "rediss", "localhost", files.ca, NULL, NULL, false, false, false},
        {"a stranger's certificate", "rediss", "localhost", files.ca, files.stranger,
         files.stranger_key, false, false, false},
        {"another key", "rediss", "localhost", files.ca, files.client, files.stranger_key, false,
         false, false},
        {"no such file", "rediss", "localhost", "/nowhere/ca.pem", files.client, files.client_key,
         false, false, false},
        {"in the clear", "redis", "localhost", NULL, NULL, NULL, false, false, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_tls(&world, &rows[i]);
    redis_server_end(&world.server);
    remove_files(&files);
}

static void test_half_a_client_certificate(void) {
    struct world world;
    world_open(&world);
    world_url(&world, "rediss", "", "");
    world.storage.tls_cert = SLICE("/nowhere/cert.pem");
    CHECK_INT(limits_worker_configure(world.worker, &world.storage), -EINVAL);
    CHECK_INT(said(&world, "a client certificate without a key"), 1);
    world_close(&world);
}

/* --- what is no server for us --- */

static void test_cluster(void) {
    struct world world = {.server.more = {"--cluster-enabled", "yes"}};
    char path[128];
    redis_server_start(&world.server);
    world_open_workers(&world, 1);
    world_configure(&world);
    world_await(&world, is_refused);
    CHECK_INT(ask_all(&world), 10); /* in memory */
    CHECK_INT(said(&world, "is a cluster"), 1);
    CHECK_INT(said(&world, "cluster_enabled:1"), 1);
    snprintf(path, sizeof path, "%s/nodes.conf", world.server.folder);
    redis_server_kill(&world.server);
    unlink(path);
    /* Another one in its place is taken: a reload asks anew. */
    world.server.more[0] = NULL;
    redis_server_run(&world.server);
    world.storage.type = CONFIG_STORAGE_MEMORY;
    world_configure(&world);
    world.storage.type = CONFIG_STORAGE_REDIS;
    world_configure(&world);
    world_await(&world, is_up);
    world_close(&world);
}

static void test_replica(void) {
    struct world world;
    world_open(&world);
    world_configure(&world);
    world_await(&world, is_up);
    redis_do(&world.server, "REPLICAOF 127.0.0.1 1");
    CHECK_INT(ask_one(&world), LIMITS_PASS); /* in memory */
    CHECK(is_down(&world));
    CHECK_INT(said(&world, "READONLY"), 1);
    CHECK_INT(said(&world, "Redis cannot be asked"), 1);
    redis_do(&world.server, "REPLICAOF NO ONE");
    world_await(&world, is_up);
    CHECK_INT(said(&world, "limits are counted in Redis"), 2);
    world_close(&world);
}

static void test_full(void) {
    struct world world = {.server.more = {"--maxmemory", "1", "--maxmemory-policy", "noeviction"}};
    redis_server_start(&world.server);
    world_open_workers(&world, 1);
    world_configure(&world);
    world_await(&world, is_down);
    CHECK_INT(said(&world, "OOM command not allowed"), 1);
    redis_do(&world.server, "CONFIG SET maxmemory 0");
    world_await(&world, is_up);
    world_close(&world);
}

/* Somebody has put something else where a counter was. */
static void test_another_type(void) {
    struct world world;
    world_open(&world);
    world_configure(&world);
    CHECK_INT(ask_one(&world), LIMITS_PASS);
    redis_do(&world.server,
             "SET nexus:rate_limit:{cardea}:server:a:3600000:00000000000000000000000000000000 x");
    CHECK_INT(ask_one(&world), LIMITS_PASS); /* in memory */
    CHECK_INT(said(&world, "WRONGTYPE"), 1);
    world_await(&world, is_up); /* for others it is there */
    world_close(&world);
}

struct stranger {
    struct world world;
    struct io_listener *listener;
    struct io_stream *stream;
    struct slice says;
};

static void stranger_read(void *context, struct slice bytes) {
    struct stranger *stranger = context;
    (void)bytes;
    CHECK_INT(io_stream_write(stranger->stream, stranger->says, MIB(1)), 0);
}

static void stranger_end(void *context, int error) {
    struct stranger *stranger = context;
    (void)error;
    stranger->stream = io_stream_free(stranger->stream);
}

static void stranger_accept(void *context, int fd, const struct network *peer) {
    static const struct io_stream_events events = {.on_read = stranger_read,
                                                   .on_end = stranger_end};
    struct stranger *stranger = context;
    (void)peer;
    io_stream_free(stranger->stream);
    if (io_stream_new(stranger->world.guarded.loop, IO_STREAM_TCP, fd, &events, stranger,
                      &stranger->stream) != 0)
        CANNOT_GO_ON();
    io_stream_read(stranger->stream, true);
}

#define CLUSTER_0 "$19\r\ncluster_enabled:0\r\n\r\n"
#define SHA       "$40\r\n0123456789abcdef0123456789abcdef01234567\r\n"

static void test_strangers(void) {
    static const struct {
        const char *says, *reason;
    } rows[] = {
        {"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak the protocol of Redis"},
        {"\x15\x03\x01\x00\x02\x02\x46", "does not speak the protocol of Redis"},
        {"+OK\r\n+OK\r\n+OK\r\n", "did not take a script"},
        {CLUSTER_0 "$3\r\nabc\r\n", "did not take a script"},
        {CLUSTER_0 SHA "+OK\r\n", "its answer to a script is none"},
        {CLUSTER_0 SHA "*2\r\n:0\r\n:0\r\n:5\r\n", "it sent what nobody asked for"},
        {CLUSTER_0 "-MOVED 1 127.0.0.1:1\r\n", "is a cluster"},
        {"-ERR \x1b[31mred\r\n", "x1b[31mred"},
        {"$70000\r\n", "did not answer in time"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct stranger stranger = {.says = slice_from_cstr(rows[i].says)};
        struct world *world = &stranger.world;
        struct io_address address;
        int fd;
        test_row(rows[i].says);
        if (io_address_parse(SLICE("127.0.0.1:0"), &address) != 0 ||
            io_listen_socket(&address, false, &fd) != 0)
            CANNOT_GO_ON();
        world_open_workers(world, 1);
        snprintf(world->url, sizeof world->url, "redis://%s", address.text);
        world->storage.url = slice_from_cstr(world->url);
        world->storage.connection_timeout_ms = 300;
        if (io_listener_new(world->guarded.loop, fd, stranger_accept, &stranger,
                            &stranger.listener) != 0)
            CANNOT_GO_ON();
        world_configure(world);
        world_await(world, slice_eq(slice_from_cstr(rows[i].reason), SLICE("is a cluster"))
                               ? is_refused
                               : is_down);
        CHECK_INT(said(world, rows[i].reason), 1);
        CHECK_INT(said(world, "\x1b"), 0);
        io_listener_free(stranger.listener);
        io_stream_free(stranger.stream);
        world_close_worker(world);
    }
}

TEST_MAIN(TEST(test_passwords), TEST(test_password_is_quoted), TEST(test_password_without_need),
          TEST(test_database), TEST(test_urls), TEST(test_url_without_memory),
          TEST(test_url_is_none), TEST(test_tls), TEST(test_half_a_client_certificate),
          TEST(test_cluster), TEST(test_replica), TEST(test_full), TEST(test_another_type),
          TEST(test_strangers))
