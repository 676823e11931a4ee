/* Addresses as text, listening sockets, accepting. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "io/file.h"
#include "io/stream.h"
#include "loop_guard.h"
#include "test.h"

static void test_addresses(void) {
    static const struct {
        struct slice text;
        const char *shown; /* NULL: refused */
        bool is_loopback;
    } rows[] = {
        {SLICE_INIT("127.0.0.1:8000"), "127.0.0.1:8000", true},
        {SLICE_INIT("127.255.0.9:0"), "127.255.0.9:0", true},
        {SLICE_INIT("0.0.0.0:65535"), "0.0.0.0:65535", false},
        {SLICE_INIT("128.0.0.1:80"), "128.0.0.1:80", false},
        {SLICE_INIT("10.0.0.1:80"), "10.0.0.1:80", false},
        {SLICE_INIT("[::1]:8000"), "[::1]:8000", true},
        {SLICE_INIT("[0:0:0:0:0:0:0:1]:1"), "[::1]:1", true},
        {SLICE_INIT("[::]:80"), "[::]:80", false},
        {SLICE_INIT("[::2]:80"), "[::2]:80", false},
        {SLICE_INIT("[fe80::1]:80"), "[fe80::1]:80", false},
        {SLICE_INIT("[::ffff:127.0.0.1]:80"), "[::ffff:127.0.0.1]:80", false},
        {SLICE_INIT("[1111:2222:3333:4444:5555:6666:123.123.123.123]:65535"),
         "[1111:2222:3333:4444:5555:6666:7b7b:7b7b]:65535", false},
        {SLICE_INIT(""), NULL, false},
        {SLICE_INIT(":"), NULL, false},
        {SLICE_INIT(":80"), NULL, false},
        {SLICE_INIT("127.0.0.1"), NULL, false},
        {SLICE_INIT("127.0.0.1:"), NULL, false},
        {SLICE_INIT("127.0.0.1:65536"), NULL, false},
        {SLICE_INIT("127.0.0.1:99999999999999999999"), NULL, false},
        {SLICE_INIT("127.0.0.1:-1"), NULL, false},
        {SLICE_INIT("127.0.0.1:+1"), NULL, false},
        {SLICE_INIT("127.0.0.1: 1"), NULL, false},
        {SLICE_INIT("127.0.0.1:0x50"), NULL, false},
        {SLICE_INIT("127.0.0.1:80 "), NULL, false},
        {SLICE_INIT(" 127.0.0.1:80"), NULL, false},
        {SLICE_INIT("127.1:80"), NULL, false},
        {SLICE_INIT("0127.0.0.1:80"), NULL, false},
        {SLICE_INIT("256.0.0.1:80"), NULL, false},
        {SLICE_INIT("127.0.0.1.:80"), NULL, false},
        {SLICE_INIT("2130706433:80"), NULL, false},
        {SLICE_INIT("127.0.0.1\0:80"), NULL, false},
        {SLICE_INIT("127.0.0.1:80\0"), NULL, false},
        {SLICE_INIT("localhost:80"), NULL, false},
        {SLICE_INIT("::1:80"), NULL, false},
        {SLICE_INIT("[::1]"), NULL, false},
        {SLICE_INIT("[::1]80"), NULL, false},
        {SLICE_INIT("[]:80"), NULL, false},
        {SLICE_INIT("[:80"), NULL, false},
        {SLICE_INIT("]:80"), NULL, false},
        {SLICE_INIT("[[::1]]:80"), NULL, false},
        {SLICE_INIT("[::1%lo]:80"), NULL, false},
        {SLICE_INIT("[127.0.0.1]:80"), NULL, false},
        {SLICE_INIT("[1111111111111111111111111111111111111111111111111111111111111]:80"), NULL,
         false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct io_address address = {.text = "untouched"};
        test_row(rows[i].text.ptr);
        int r = io_address_parse(rows[i].text, &address);
        CHECK_INT(r, rows[i].shown != NULL ? 0 : -EINVAL);
        CHECK_STR(slice_from_cstr(address.text),
                  rows[i].shown != NULL ? rows[i].shown : "untouched");
        CHECK_INT(address.is_loopback, rows[i].is_loopback);
        /* What is shown is read again as the same. */
        struct io_address again = {.text = ""};
        if (r == 0 && io_address_parse(slice_from_cstr(address.text), &again) == 0)
            CHECK(memcmp(&address, &again, sizeof address) == 0);
    }
}

static bool has_flags(int fd) {
    return (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0 && (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0;
}

static int connect_to(const struct io_address *address) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (const struct sockaddr *)(const void *)address->storage, address->size) != 0)
        io_fd_close(&fd);
    return fd;
}

static void test_listen(void) {
    struct io_address address, taken, other;
    int fds[3] = {-1, -1, -1};
    REQUIRE(io_address_parse(SLICE("127.0.0.1:0"), &address) == 0);
    REQUIRE(io_listen_socket(&address, true, &fds[0]) == 0);
    CHECK(has_flags(fds[0]));
    CHECK(!slice_eq(slice_from_cstr(address.text), SLICE("127.0.0.1:0")));
    /* A second worker may, another gateway may not. */
    taken = address;
    CHECK_INT(io_listen_socket(&taken, false, &fds[1]), 0);
    CHECK_STR(slice_from_cstr(taken.text), address.text);
    CHECK_INT(io_listen_socket(&taken, true, &fds[2]), -EADDRINUSE);
    CHECK_INT(fds[2], -1);
    /* An address that this machine has not (RFC 5737). */
    REQUIRE(io_address_parse(SLICE("192.0.2.1:0"), &other) == 0);
    CHECK(io_listen_socket(&other, false, &fds[2]) < 0);
    CHECK(io_listen_socket(&other, true, &fds[2]) < 0);
    CHECK_INT(fds[2], -1);
    io_fd_close(&fds[0]);
    io_fd_close(&fds[1]);
    CHECK_INT(io_listen_socket(&taken, true, &fds[2]), 0);
    io_fd_close(&fds[2]);
}

static void test_listen_unix(void) {
    char base[64], path[96], longer[256];
    snprintf(base, sizeof base, "%s/cardea-test-XXXXXX", P_tmpdir);
    REQUIRE(mkdtemp(base) != NULL);
    snprintf(path, sizeof path, "%s/socket", base);
    for (int round = 0; round < 2; round++) { /* the second replaces the file of the first */
        int fd = -1;
        struct stat info;
        REQUIRE(io_listen_unix(path, &fd) == 0);
        CHECK(has_flags(fd));
        CHECK_INT(stat(path, &info), 0);
        CHECK(S_ISSOCK(info.st_mode));
        CHECK_INT(info.st_mode & 0777, 0600);
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
        int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK_INT(connect(client, (struct sockaddr *)&address, sizeof address), 0);
        io_fd_close(&client);
        io_fd_close(&fd);
    }
    mode_t mask = umask(0);
    umask(mask);
    CHECK(mask != 0177); /* it was put back */
    int fd = -1;
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    CHECK_INT(io_listen_unix(longer, &fd), -ENAMETOOLONG);
    snprintf(longer, sizeof longer, "%s/none/socket", base);
    CHECK_INT(io_listen_unix(longer, &fd), -ENOENT);
    CHECK_INT(fd, -1);
    CHECK_INT(unlink(path), 0);
    CHECK_INT(rmdir(base), 0);
}

/* --- accepting --- */

struct acceptor {
    struct guarded guarded;
    struct io_address address;
    struct io_listener *listener;
    struct rlimit limit;
    unsigned accepted, stop_at;
    bool frees;
};

static void on_accept(void *context, int fd, const struct network *peer) {
    struct acceptor *acceptor = context;
    struct network loopback;
    CHECK(network_parse_address(SLICE("127.0.0.1"), &loopback));
    CHECK(network_has(&loopback, peer));
    CHECK_INT(peer->bits, NETWORK_V4_BITS);
    CHECK(has_flags(fd));
    io_fd_close(&fd);
    acceptor->accepted++;
    if (acceptor->frees)
        acceptor->listener = io_listener_free(acceptor->listener);
    if (acceptor->accepted == acceptor->stop_at)
        io_loop_stop(acceptor->guarded.loop);
}

static bool acceptor_open(struct acceptor *acceptor) {
    int fd = -1;
    *acceptor = (struct acceptor){.stop_at = 0};
    guarded_new(&acceptor->guarded);
    return io_address_parse(SLICE("127.0.0.1:0"), &acceptor->address) == 0 &&
           io_listen_socket(&acceptor->address, false, &fd) == 0 &&
           io_listener_new(acceptor->guarded.loop, fd, on_accept, acceptor, &acceptor->listener) ==
               0;
}

static void acceptor_close(struct acceptor *acceptor) {
    io_listener_free(acceptor->listener);
    guarded_free(&acceptor->guarded);
}

/* More than are accepted in one turn. */
enum { CLIENTS = 150 };

static void test_accept(void) {
    struct acceptor acceptor;
    int clients[CLIENTS];
    REQUIRE(acceptor_open(&acceptor));
    for (size_t i = 0; i < CLIENTS; i++) {
        clients[i] = connect_to(&acceptor.address);
        CHECK(clients[i] >= 0);
    }
    CHECK_INT(acceptor.accepted, 0);
    acceptor.stop_at = CLIENTS;
    guarded_run(&acceptor.guarded);
    CHECK_INT(acceptor.accepted, CLIENTS);
    for (size_t i = 0; i < CLIENTS; i++)
        io_fd_close(&clients[i]);
    acceptor_close(&acceptor);
    CHECK(io_listener_free(NULL) == NULL);
}

static void stop(void *loop) {
    io_loop_stop(loop);
}

/* After it is freed, also inside the callback, nothing more is accepted. */
static void test_free_inside(void) {
    struct acceptor acceptor;
    int clients[3];
    REQUIRE(acceptor_open(&acceptor));
    for (size_t i = 0; i < ARRAY_LEN(clients); i++)
        clients[i] = connect_to(&acceptor.address);
    acceptor.frees = true;
    struct later later = {.loop = acceptor.guarded.loop, .n = 50, .fn = stop};
    later.context = acceptor.guarded.loop;
    later_start(&later);
    guarded_run(&acceptor.guarded);
    CHECK_INT(acceptor.accepted, 1);
    CHECK(acceptor.listener == NULL);
    for (size_t i = 0; i < ARRAY_LEN(clients); i++)
        io_fd_close(&clients[i]);
    acceptor_close(&acceptor);
}

static void raise_limit(void *context) {
    struct acceptor *acceptor = context;
    CHECK_INT(acceptor->accepted, 0);
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &acceptor->limit), 0);
}

/* A full table of descriptors is a pause, after which all who wait are served. */
static void test_no_descriptors(void) {
    struct acceptor acceptor;
    REQUIRE(acceptor_open(&acceptor));
    int clients[2] = {connect_to(&acceptor.address), connect_to(&acceptor.address)};
    CHECK(clients[0] >= 0 && clients[1] >= 0);
    REQUIRE(getrlimit(RLIMIT_NOFILE, &acceptor.limit) == 0);
    struct rlimit none = {.rlim_cur = 0, .rlim_max = acceptor.limit.rlim_max};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
    acceptor.stop_at = 2;
    struct later later = {.loop = acceptor.guarded.loop, .n = 50, .fn = raise_limit};
    later.context = &acceptor;
    later_start(&later);
    guarded_run(&acceptor.guarded);
    CHECK_INT(acceptor.accepted, 2);
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &acceptor.limit), 0);
    io_fd_close(&clients[0]);
    io_fd_close(&clients[1]);
    acceptor_close(&acceptor);
}

struct crowd {
    struct acceptor acceptor;
    int n_full;
};

static void refuse_one(void *context, int fd, int error) {
    struct acceptor *acceptor = context;
    struct crowd *crowd = CONTAINER_OF(acceptor, struct crowd, acceptor);
    CHECK(fd >= 0);
    CHECK_INT(error, EMFILE);
    CHECK_INT(send(fd, "no", 2, MSG_NOSIGNAL), 2);
    io_fd_close(&fd);
    if (++crowd->n_full == 3)
        io_loop_stop(acceptor->guarded.loop);
}

/* With a descriptor kept back everybody is told, and when there are some again it is kept again. */
static void test_reserve(void) {
    struct crowd crowd = {.n_full = 0};
    int clients[4];
    REQUIRE(acceptor_open(&crowd.acceptor));
    io_listener_on_full(crowd.acceptor.listener, refuse_one);
    for (size_t i = 0; i < 3; i++)
        clients[i] = connect_to(&crowd.acceptor.address);
    struct rlimit limit, none;
    REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    int next = dup(STDERR_FILENO);
    REQUIRE(next >= 0 && close(next) == 0);
    none = (struct rlimit){.rlim_cur = (rlim_t)next, .rlim_max = limit.rlim_max};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
    guarded_run(&crowd.acceptor.guarded);
    CHECK_INT(crowd.n_full, 3);
    CHECK_INT(crowd.acceptor.accepted, 0);
    for (size_t i = 0; i < 3; i++) {
        char text[3] = "";
        CHECK_INT(recv(clients[i], text, 2, 0), 2);
        CHECK(strcmp(text, "no") == 0);
        io_fd_close(&clients[i]);
    }
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    clients[3] = connect_to(&crowd.acceptor.address);
    crowd.acceptor.stop_at = 1;
    guarded_run(&crowd.acceptor.guarded);
    CHECK_INT(crowd.acceptor.accepted, 1);
    io_fd_close(&clients[3]);
    acceptor_close(&crowd.acceptor);
}

TEST_MAIN(TEST(test_addresses), TEST(test_listen), TEST(test_listen_unix), TEST(test_accept),
          TEST(test_free_inside), TEST(test_no_descriptors), TEST(test_reserve))
