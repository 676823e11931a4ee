/*
 * Load at a constant rate, which wrk has not: a request is due every 1/RATE seconds whether or not
 * the one before was answered, and its time counts from when it was due. So a server that stands
 * still for a while is charged for all that would have come meanwhile, not for one request.
 *
 *     bench_rate PORT RATE SECONDS CONNECTIONS FILE BODY
 *
 * FILE is one whole HTTP request whose body has "id":10000000; each request gets an id of its own.
 * An answer must be 200 with a body of BODY bytes, or it is an error; one that did not come within
 * two seconds after the end counts as come then. One line of JSON on stdout: times in microseconds.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/compiler.h"

enum { CONNECTIONS_MAX = 1024, REQUEST_MAX = 8192, HEAD_MAX = 8192, ID_DIGITS = 8 };
enum { GRACE_NS = 2000000000 }; /* for answers after the last request was due */
#define FIRST_ID INT64_C(10000000)

struct connection {
    int fd;
    bool is_busy;
    int64_t due;
    size_t head_len, body_left; /* body_left: SIZE_MAX while the head is read */
    char head[HEAD_MAX];
};

static struct connection connections[CONNECTIONS_MAX];
static size_t idle[CONNECTIONS_MAX], n_idle;
static char request[REQUEST_MAX];
static size_t request_len, id_at, body_len;
static uint64_t sent, answered, errors;
static uint32_t *times; /* in units of 100 ns */

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

NO_RETURN static void fail(const char *what) {
    fprintf(stderr, "bench_rate: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void read_request(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        fail(path);
    request_len = fread(request, 1, REQUEST_MAX - 1, file);
    (void)fclose(file);
    const char *id = memmem(request, request_len, "\"id\":10000000", 13);
    if (id == NULL)
        fail("no id in the request");
    id_at = (size_t)(id - request) + 5;
}

static void dial(size_t index, uint16_t port, int epoll_fd) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) != 0)
        fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)index};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    connections[index].fd = fd;
    idle[n_idle++] = index;
}

/* Requests are short and alone on their connection: the socket takes one whole. */
static void send_one(struct connection *connection, int64_t due) {
    char digits[ID_DIGITS + 1];
    snprintf(digits, sizeof digits, "%08lld",
             (long long)(FIRST_ID + (int64_t)(sent % 80000000)) % 100000000);
    memcpy(request + id_at, digits, ID_DIGITS);
    connection->is_busy = true;
    connection->due = due;
    connection->head_len = 0;
    connection->body_left = SIZE_MAX;
    if (send(connection->fd, request, request_len, MSG_NOSIGNAL) != (ssize_t)request_len)
        fail("send");
    sent++;
}

static void finish(struct connection *connection, int64_t now) {
    int64_t took = (now - connection->due) / 100;
    times[answered++] = took < 0 ? 0 : took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
    connection->is_busy = false;
    idle[n_idle++] = (size_t)(connection - connections);
}

/* The head is whole: what is left of the body. */
static void begin_body(struct connection *connection, const char *end) {
    size_t have = connection->head_len - (size_t)(end - connection->head) - 4, len = 0;
    connection->head[(size_t)(end - connection->head)] = '\0';
    const char *field = strcasestr(connection->head, "\ncontent-length:");
    if (field == NULL) {
        fprintf(stderr, "bench_rate: an answer without a length:\n%s\n", connection->head);
        exit(1);
    }
    len = strtoul(field + 16, NULL, 10);
    if (strncmp(connection->head, "HTTP/1.1 200", 12) != 0 || len != body_len) {
        if (errors++ == 0)
            fprintf(stderr, "bench_rate: not the expected answer:\n%s\n", connection->head);
    }
    if (have > len)
        fail("more than an answer");
    connection->body_left = len - have;
}

/* False: wait for more. MSG_TRUNC: the kernel drops a body instead of copying it to us. */
static bool read_some(struct connection *connection) {
    ssize_t n;
    if (connection->body_left == SIZE_MAX)
        n = recv(connection->fd, connection->head + connection->head_len,
                 HEAD_MAX - 1 - connection->head_len, MSG_DONTWAIT);
    else
        n = recv(connection->fd, NULL, connection->body_left, MSG_DONTWAIT | MSG_TRUNC);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n <= 0)
        fail("the connection was closed");
    if (connection->body_left != SIZE_MAX) {
        connection->body_left -= (size_t)n;
        return connection->body_left > 0;
    }
    connection->head_len += (size_t)n;
    const char *end = memmem(connection->head, connection->head_len, "\r\n\r\n", 4);
    if (end == NULL && connection->head_len == HEAD_MAX - 1)
        fail("a long head");
    if (end != NULL)
        begin_body(connection, end);
    return connection->body_left > 0;
}

static int compare(const void *a, const void *b) {
    uint32_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static double percentile(uint64_t wanted, double part) {
    return times[(size_t)((double)(wanted - 1) * part)] / 10.0;
}

static void run(double rate, double seconds, int epoll_fd) {
    struct epoll_event events[256];
    double interval = 1e9 / rate;
    uint64_t wanted = (uint64_t)(rate * seconds), next = 0;
    int64_t start = now_ns(), stop = start + (int64_t)(seconds * 1e9) + GRACE_NS;
    wanted += wanted == 0;
    times = calloc(wanted, sizeof *times);
    if (times == NULL)
        fail("memory");
    while (answered < wanted && now_ns() < stop) {
        int64_t now = now_ns(), due = start + (int64_t)((double)next * interval);
        while (next < wanted && due <= now && n_idle > 0) {
            send_one(&connections[idle[--n_idle]], due);
            due = start + (int64_t)((double)++next * interval);
        }
        int64_t wait = next < wanted && n_idle > 0 ? due - now_ns() : GRACE_NS / 10;
        struct timespec timeout = {.tv_sec = 0, .tv_nsec = wait < 0 ? 0 : (long)wait};
        if (wait >= 1000000000)
            timeout = (struct timespec){.tv_sec = 1};
        int n = epoll_pwait2(epoll_fd, events, 256, &timeout, NULL);
        for (int i = 0; i < n; i++) {
            struct connection *connection = &connections[events[i].data.u32];
            if (!connection->is_busy)
                fail("the connection was closed");
            while (connection->body_left > 0 && read_some(connection))
                continue;
            if (connection->is_busy && connection->body_left == 0)
                finish(connection, now_ns());
        }
    }
    int64_t end = now_ns();
    double took = (double)(end - start) / 1e9;
    for (uint64_t i = answered; i < wanted; i++) /* no answer: as if it came now */
        times[i] = (uint32_t)((end - start - (int64_t)((double)i * interval)) / 100);
    qsort(times, wanted, sizeof *times, compare);
    printf("{\"wanted\": %llu, \"answered\": %llu, \"errors\": %llu, \"rate\": %.1f, "
           "\"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"p999\": %.1f, \"max\": %.1f}\n",
           (unsigned long long)wanted, (unsigned long long)answered, (unsigned long long)errors,
           (double)answered / took, percentile(wanted, 0.5), percentile(wanted, 0.9),
           percentile(wanted, 0.99), percentile(wanted, 0.999), percentile(wanted, 1));
    free(times);
}

int main(int argc, char **argv) {
    if (argc != 7) {
        fputs("usage: bench_rate PORT RATE SECONDS CONNECTIONS FILE BODY\n", stderr);
        return 2;
    }
    uint16_t port = (uint16_t)strtoul(argv[1], NULL, 10);
    double rate = strtod(argv[2], NULL), seconds = strtod(argv[3], NULL);
    size_t n = strtoul(argv[4], NULL, 10);
    body_len = strtoul(argv[6], NULL, 10);
    if (!(rate > 0) || !(rate <= 1e6) || !(seconds > 0) || n == 0 || n > CONNECTIONS_MAX)
        return 2;
    read_request(argv[5]);
    prctl(PR_SET_TIMERSLACK, 1UL);
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (size_t i = 0; i < n; i++)
        dial(i, port, epoll_fd);
    run(rate, seconds, epoll_fd);
    return 0;
}
