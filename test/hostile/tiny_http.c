/*
 * The smallest MCP server over streamable HTTP, for load and for numbers: one thread, one epoll, no
 * memory of anything but its connections. One process can be many servers, each on a port of its
 * own, so that hundreds of upstreams cost one process. What it says is in tiny_mcp.h.
 *
 *     tiny_http [--port N] [--ports N] [--revision legacy|modern|both] [--sse] [--sessions]
 *               [--sizes] [--delay-ms N] [--hang] [--until-eof]
 *
 * Prints each port on a line of its own; port 0 takes any free one. --until-eof ends with stdin.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/compiler.h"
#include "tiny_mcp.h"

enum { MAX_PORTS = 1024, MAX_CONNECTIONS = 8192, IN_BYTES = 1 << 14, OUT_BYTES = 3 << 14 };
enum { STDIN_MARK = -1 };

struct connection {
    int fd; /* 0: free, as stdin is never one */
    uint16_t port;
    bool wants_close, is_watched_for_writing;
    size_t in_len, out_len, out_at;
    int64_t due_ms;      /* when what is in `out` may leave; 0: at once */
    const char *payload; /* what is too long for `out` */
    size_t payload_len;
    size_t tail_at; /* the part of `out` that comes behind it */
    char in[IN_BYTES], out[OUT_BYTES];
};

struct options {
    struct tiny_revisions revisions;
    bool has_sse, has_sessions, hangs, until_eof;
    long port, ports, delay_ms;
};

static struct options options = {.revisions = {.is_legacy = true, .is_modern = true}, .ports = 1};
static struct connection connections[MAX_CONNECTIONS]; /* pages that nobody touches cost nothing */
static size_t connections_used;                        /* so many from the first were in use once */
static int listeners[MAX_PORTS];
static uint16_t ports[MAX_PORTS];
static int epoll_fd;
static unsigned long sessions;

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

PRINTF_LIKE(2, 3) static void put(struct connection *connection, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(connection->out + connection->out_len, OUT_BYTES - connection->out_len,
                      format, arguments);
    va_end(arguments);
    if (n < 0 || (size_t)n >= OUT_BYTES - connection->out_len)
        abort();
    connection->out_len += (size_t)n;
}

static void put_bytes(struct connection *connection, const char *bytes, size_t len) {
    if (len > OUT_BYTES - connection->out_len)
        abort();
    memcpy(connection->out + connection->out_len, bytes, len);
    connection->out_len += len;
}

static void drop(struct connection *connection) {
    close(connection->fd);
    connection->fd = 0;
}

static void watch(struct connection *connection, bool writing) {
    if (connection->is_watched_for_writing == writing)
        return;
    struct epoll_event event = {.events = writing ? EPOLLIN | EPOLLOUT : EPOLLIN,
                                .data.u32 = (uint32_t)(connection - connections)};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, connection->fd, &event);
    connection->is_watched_for_writing = writing;
}

/* What of the three parts is still to be sent: `out`, the payload at its place in it, and the rest.
 */
static size_t parts_of(struct connection *connection, struct iovec parts[3]) {
    size_t n = 0, at = connection->out_at;
    size_t before = connection->payload != NULL ? connection->tail_at : connection->out_len;
    size_t behind = before + connection->payload_len;
    if (at < before)
        parts[n++] = (struct iovec){connection->out + at, before - at};
    if (connection->payload == NULL)
        return n;
    union {
        const char *in;
        char *out;
    } payload = {connection->payload}; /* that sendmsg(2) does not write to */
    if (at < behind) {
        size_t gone = at > before ? at - before : 0;
        parts[n++] = (struct iovec){payload.out + gone, connection->payload_len - gone};
    }
    size_t gone = at > behind ? at - behind : 0;
    parts[n++] =
        (struct iovec){connection->out + before + gone, connection->out_len - before - gone};
    return n;
}

/* Sends what is due. False: the connection is gone. */
static bool flush(struct connection *connection) {
    if (options.delay_ms > 0 && connection->due_ms > now_ms())
        return true;
    while (connection->out_at < connection->out_len + connection->payload_len) {
        struct iovec parts[3];
        struct msghdr message = {.msg_iov = parts};
        message.msg_iovlen = parts_of(connection, parts);
        ssize_t n = sendmsg(connection->fd, &message, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            watch(connection, true);
            return true;
        }
        if (n < 0) {
            drop(connection);
            return false;
        }
        connection->out_at += (size_t)n;
    }
    connection->out_len = connection->out_at = connection->payload_len = 0;
    connection->payload = NULL;
    watch(connection, false);
    if (connection->wants_close) {
        drop(connection);
        return false;
    }
    return true;
}

/* What stands in the fields of a request that matters here. */
struct head {
    size_t body_len;
    bool wants_close, is_known;
};

static struct head read_head(const char *head) {
    struct head found = {0};
    for (const char *line = head; (line = strchr(line, '\n')) != NULL;) {
        line++;
        if ((*line | 0x20) == 'c') {
            if (strncasecmp(line, "content-length:", 15) == 0)
                found.body_len = strtoul(line + 15, NULL, 10);
            else if (strncasecmp(line, "connection: close", 17) == 0)
                found.wants_close = true;
        } else if ((*line | 0x20) == 'm' && strncasecmp(line, "mcp-session-id: tiny-", 21) == 0) {
            found.is_known = true;
        }
    }
    return found;
}

static void put_empty(struct connection *connection, int status, const char *more) {
    put(connection, "HTTP/1.1 %d %s\r\n%sContent-Length: 0\r\n\r\n", status,
        status < 300 ? "OK" : "No", more);
}

static void put_answer(struct connection *connection, const struct tiny_answer *answer) {
    char session[80] = "";
    size_t len = answer->head_len + answer->payload_len + answer->tail_len;
    if (len == 0) {
        put_empty(connection, answer->status, "");
        return;
    }
    if (answer->is_opening && options.has_sessions)
        snprintf(session, sizeof session, "Mcp-Session-Id: tiny-%u-%lu\r\n", connection->port,
                 ++sessions);
    bool is_stream = options.has_sse && answer->status == 200;
    put(connection, "HTTP/1.1 %d %s\r\n%s", answer->status, answer->status < 300 ? "OK" : "No",
        session);
    if (is_stream)
        put(connection,
            "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            "%zx\r\nevent: message\ndata: ",
            len + 23);
    else
        put(connection, "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n", len);
    put_bytes(connection, answer->head, answer->head_len);
    if (answer->payload_len <= IN_BYTES) {
        put_bytes(connection, answer->payload, answer->payload_len);
    } else {
        connection->payload = answer->payload;
        connection->payload_len = answer->payload_len;
        connection->tail_at = connection->out_len;
    }
    put_bytes(connection, answer->tail, answer->tail_len);
    if (is_stream)
        put(connection, "\n\n\r\n0\r\n\r\n");
}

/* One whole request: a head that ends with NUL in place of its last line end, and a body. */
static void handle(struct connection *connection, const struct head *head, const char *body) {
    static struct tiny_answer answer;
    if (options.delay_ms > 0)
        connection->due_ms = now_ms() + options.delay_ms;
    connection->wants_close |= head->wants_close;
    if (strncmp(connection->in, "DELETE ", 7) == 0) {
        put_empty(connection, 200, "");
        return;
    }
    if (strncmp(connection->in, "POST ", 5) != 0) {
        put_empty(connection, 405, "Allow: POST, DELETE\r\n");
        return;
    }
    tiny_answer(&options.revisions, body, &answer);
    if (options.has_sessions && !head->is_known && !answer.is_opening && !tiny_is_modern(body)) {
        static const char text[] = "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32000,\"message\":"
                                   "\"Bad Request: Mcp-Session-Id is missing\"}}";
        answer = (struct tiny_answer){.status = 400, .tail = text, .tail_len = sizeof text - 1};
    }
    put_answer(connection, &answer);
}

/* Takes a whole request out of the input, when there is one. False: none is, or the connection is
 * gone. */
static bool take_one(struct connection *connection) {
    char *end = memmem(connection->in, connection->in_len, "\r\n\r\n", 4);
    if (end == NULL)
        return false;
    *end = '\0';
    struct head head = read_head(connection->in);
    size_t len = (size_t)(end - connection->in) + 4;
    if (len + head.body_len >= IN_BYTES) { /* nobody sends this one so much */
        drop(connection);
        return false;
    }
    if (connection->in_len < len + head.body_len) {
        *end = '\r';
        return false;
    }
    char *body = connection->in + len;
    char kept = body[head.body_len];
    body[head.body_len] = '\0';
    if (!options.hangs)
        handle(connection, &head, body);
    body[head.body_len] = kept;
    connection->in_len -= len + head.body_len;
    memmove(connection->in, body + head.body_len, connection->in_len);
    return true;
}

/* Answers what can be answered; an answer in parts waits for nobody behind it. False: the
 * connection is gone. */
static bool consume(struct connection *connection) {
    bool is_sent = false;
    do {
        while (connection->payload == NULL && take_one(connection))
            continue;
        if (connection->fd == 0)
            return false;
        is_sent = connection->payload != NULL;
        if (!flush(connection))
            return false;
    } while (is_sent && connection->payload == NULL);
    if (connection->in_len < IN_BYTES - 1)
        return true;
    drop(connection);
    return false;
}

static void read_more(struct connection *connection) {
    ssize_t n = recv(connection->fd, connection->in + connection->in_len,
                     IN_BYTES - 1 - connection->in_len, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        drop(connection);
        return;
    }
    connection->in_len += (size_t)n;
    consume(connection);
}

static void accept_one(size_t index) {
    int fd = accept4(listeners[index], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    for (size_t i = 0; i < MAX_CONNECTIONS; i++) {
        struct connection *connection = &connections[i];
        if (connection->fd != 0)
            continue;
        if (i >= connections_used)
            connections_used = i + 1;
        connection->fd = fd;
        connection->wants_close = connection->is_watched_for_writing = false;
        connection->in_len = connection->out_len = connection->out_at = connection->payload_len = 0;
        connection->payload = NULL;
        connection->due_ms = 0;
        connection->port = ports[index];
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        struct epoll_event event = {.events = EPOLLIN,
                                    .data.u32 = (uint32_t)(connection - connections)};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
        return;
    }
    close(fd);
}

static void listen_on(size_t index, uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t len = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
        listen(fd, 4096) != 0 || getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
        perror("tiny_http: listen");
        exit(1);
    }
    listeners[index] = fd;
    ports[index] = ntohs(address.sin_port);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)(MAX_CONNECTIONS + index)};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    printf("%u\n", ports[index]);
}

static void usage(void) {
    fputs("usage: tiny_http [--port N] [--ports N] [--revision legacy|modern|both] [--sse]\n"
          "                 [--sessions] [--sizes] [--delay-ms N] [--hang] [--until-eof]\n",
          stderr);
    exit(2);
}

static void read_options(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        bool *flag = strcmp(name, "--sse") == 0         ? &options.has_sse
                     : strcmp(name, "--sessions") == 0  ? &options.has_sessions
                     : strcmp(name, "--sizes") == 0     ? &options.revisions.has_sizes
                     : strcmp(name, "--hang") == 0      ? &options.hangs
                     : strcmp(name, "--until-eof") == 0 ? &options.until_eof
                                                        : NULL;
        if (flag != NULL) {
            *flag = true;
            continue;
        }
        if (++i == argc)
            usage();
        long *number = strcmp(name, "--port") == 0       ? &options.port
                       : strcmp(name, "--ports") == 0    ? &options.ports
                       : strcmp(name, "--delay-ms") == 0 ? &options.delay_ms
                                                         : NULL;
        if (number != NULL) {
            *number = strtol(argv[i], NULL, 10);
        } else if (strcmp(name, "--revision") == 0) {
            options.revisions.is_legacy = strcmp(argv[i], "modern") != 0;
            options.revisions.is_modern = strcmp(argv[i], "legacy") != 0;
        } else {
            usage();
        }
    }
    if (options.ports < 1 || options.ports > MAX_PORTS || options.port < 0 ||
        options.port > UINT16_MAX)
        usage();
}

/* Sends what has become due; how long nothing will. */
static int flush_due(void) {
    if (options.delay_ms == 0)
        return -1;
    int64_t now = now_ms(), wait = -1;
    for (size_t i = 0; i < connections_used; i++) {
        struct connection *connection = &connections[i];
        if (connection->fd == 0 || connection->out_len == 0)
            continue;
        if (connection->due_ms <= now)
            consume(connection);
        bool is_waiting = connection->fd != 0 && connection->due_ms > now;
        if (is_waiting && (wait < 0 || connection->due_ms - now < wait))
            wait = connection->due_ms - now;
    }
    return (int)wait;
}

int main(int argc, char **argv) {
    struct rlimit files;
    read_options(argc, argv);
    if (options.revisions.has_sizes)
        tiny_make_sizes();
    signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (long i = 0; i < options.ports; i++)
        listen_on((size_t)i, (uint16_t)(options.port == 0 ? 0 : options.port + i));
    fflush(stdout);
    struct epoll_event watched = {.events = EPOLLIN, .data.u32 = (uint32_t)STDIN_MARK};
    if (options.until_eof)
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &watched);
    for (;;) {
        struct epoll_event events[256];
        int n = epoll_wait(epoll_fd, events, 256, flush_due());
        for (int i = 0; i < n; i++) {
            uint32_t mark = events[i].data.u32;
            char byte;
            if (mark == (uint32_t)STDIN_MARK) {
                if (read(STDIN_FILENO, &byte, 1) <= 0)
                    return 0;
            } else if (mark >= MAX_CONNECTIONS) {
                accept_one(mark - MAX_CONNECTIONS);
            } else if (connections[mark].fd != 0) {
                if ((events[i].events & EPOLLOUT) != 0 && !consume(&connections[mark]))
                    continue;
                if ((events[i].events & ~(uint32_t)EPOLLOUT) != 0)
                    read_more(&connections[mark]);
            }
        }
    }
}
