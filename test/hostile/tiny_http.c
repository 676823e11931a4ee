/*
 * The smallest MCP server over streamable HTTP, for load and for numbers: one thread, one epoll, no
 * memory of anything but its connections. One process can be many servers, each on a port of its
 * own, so that hundreds of upstreams cost one process. It trusts its peer, which is the gateway: it
 * looks for words in the body instead of reading JSON.
 *
 *     tiny_http [--port N] [--ports N] [--revision legacy|modern|both] [--sse] [--sessions]
 *               [--delay-ms N] [--hang] [--until-eof]
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
#include <time.h>
#include <unistd.h>

#include "base/compiler.h"

enum { MAX_PORTS = 1024, MAX_CONNECTIONS = 8192, IN_BYTES = 1 << 14, OUT_BYTES = 3 << 14 };
enum { STDIN_MARK = -1 };

struct connection {
    int fd; /* 0: free, as stdin is never one */
    uint16_t port;
    bool wants_close;
    size_t in_len, out_len, out_at;
    int64_t due_ms; /* when what is in `out` may leave; 0: at once */
    char in[IN_BYTES], out[OUT_BYTES];
};

struct options {
    bool is_legacy, is_modern, has_sse, has_sessions, hangs, until_eof;
    long port, ports, delay_ms;
};

static struct options options = {.is_legacy = true, .is_modern = true, .ports = 1};
static struct connection connections[MAX_CONNECTIONS]; /* pages that nobody touches cost nothing */
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

static void drop(struct connection *connection) {
    close(connection->fd);
    connection->fd = 0;
}

/* Sends what is due. False: the connection is gone. */
static bool flush(struct connection *connection) {
    if (connection->due_ms > now_ms())
        return true;
    while (connection->out_at < connection->out_len) {
        ssize_t n = send(connection->fd, connection->out + connection->out_at,
                         connection->out_len - connection->out_at, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            struct epoll_event event = {.events = EPOLLIN | EPOLLOUT,
                                        .data.u32 = (uint32_t)(connection - connections)};
            epoll_ctl(epoll_fd, EPOLL_CTL_MOD, connection->fd, &event);
            return true;
        }
        if (n < 0) {
            drop(connection);
            return false;
        }
        connection->out_at += (size_t)n;
    }
    connection->out_len = connection->out_at = 0;
    if (connection->wants_close) {
        drop(connection);
        return false;
    }
    return true;
}

/* The JSON value behind the first `key`, as written: a string or a number. */
static size_t value_of(const char *body, const char *key, const char **ret_value) {
    const char *at = strstr(body, key);
    if (at == NULL)
        return 0;
    at += strlen(key);
    size_t n = 0;
    if (*at == '"') {
        for (n = 1; at[n] != '\0' && at[n] != '"'; n++)
            n += at[n] == '\\' && at[n + 1] != '\0';
        n++;
    } else {
        n = strspn(at, "-0123456789");
    }
    *ret_value = at;
    return n;
}

static void answer(struct connection *connection, int status, const char *more, const char *type,
                   const char *body) {
    size_t len = strlen(body);
    put(connection, "HTTP/1.1 %d %s\r\n%s", status, status < 300 ? "OK" : "No", more);
    if (strcmp(type, "text/event-stream") == 0)
        put(connection,
            "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            "%zx\r\nevent: message\ndata: %s\n\n\r\n0\r\n\r\n",
            len + 23, body);
    else if (len > 0)
        put(connection, "Content-Type: %s\r\nContent-Length: %zu\r\n\r\n%s", type, len, body);
    else
        put(connection, "Content-Length: 0\r\n\r\n");
}

/* What every modern result has beside its own; the lists and discover can be cached. */
#define MODERN                                                                                     \
    "\"resultType\":\"complete\",\"_meta\":{\"io.modelcontextprotocol/serverInfo\":"               \
    "{\"name\":\"tiny\",\"version\":\"1\"}},"
#define CACHED "\"ttlMs\":600000,\"cacheScope\":\"public\","

static void answer_request(struct connection *connection, const char *body, size_t id_len,
                           const char *id) {
    static char message[OUT_BYTES / 2];
    bool is_modern = strstr(body, "io.modelcontextprotocol/protocolVersion") != NULL;
    const char *method = "", *text = "\"\"", *version = "\"2025-11-25\"";
    size_t method_len = value_of(body, "\"method\":", &method);
    const char *modern = is_modern ? MODERN : "", *cached = is_modern ? CACHED : "";
    const char *more = "";
    char session[80];
    int status = 200, n = 0;
#define IS(name)                                                                                   \
    (method_len == sizeof(name) + 1 && strncmp(method + 1, name, sizeof(name) - 1) == 0)
#define SAY(...) n = snprintf(message, sizeof message, __VA_ARGS__)
#define HEAD     "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"result\":{"
    if (is_modern && !options.is_modern) {
        status = 400;
        SAY("{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32000,\"message\":\"Bad Request: "
            "Unsupported "
            "protocol version\"}}");
    } else if (!is_modern && !options.is_legacy) {
        status = 400;
        SAY("{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"error\":{\"code\":-32022,\"message\":\"Unsupported "
            "protocol "
            "version\",\"data\":{\"supported\":[\"2026-07-28\"],\"requested\":\"2025-11-25\"}}}",
            (int)id_len, id);
    } else if (is_modern && IS("server/discover")) {
        SAY(HEAD "%s%s\"supportedVersions\":[\"2026-07-28\"],\"capabilities\":{\"tools\":{}}}}",
            (int)id_len, id, modern, cached);
    } else if (!is_modern && IS("initialize")) {
        size_t len = value_of(body, "\"protocolVersion\":", &version);
        if (options.has_sessions) {
            snprintf(session, sizeof session, "Mcp-Session-Id: tiny-%u-%lu\r\n", connection->port,
                     ++sessions);
            more = session;
        }
        SAY(HEAD "\"protocolVersion\":%.*s,\"capabilities\":{\"tools\":{}},"
                 "\"serverInfo\":{\"name\":\"tiny\",\"version\":\"1\"}}}",
            (int)id_len, id, len == 0 ? 12 : (int)len, version);
    } else if (IS("tools/list")) {
        SAY(HEAD "%s%s\"tools\":[{\"name\":\"echo\",\"description\":\"Says the text again\","
                 "\"inputSchema\":{\"type\":\"object\",\"properties\":{\"text\":{\"type\":"
                 "\"string\"}}}}]}}",
            (int)id_len, id, modern, cached);
    } else if (IS("tools/call")) {
        size_t len = value_of(body, "\"text\":", &text);
        SAY(HEAD "%s\"content\":[{\"type\":\"text\",\"text\":%.*s}]}}", (int)id_len, id, modern,
            len == 0 ? 2 : (int)len, text);
    } else if (!is_modern && (IS("ping") || IS("logging/setLevel"))) {
        SAY(HEAD "}}", (int)id_len, id);
    } else {
        status = is_modern ? 404 : 200;
        SAY("{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"error\":{\"code\":-32601,\"message\":\"Method not "
            "found\"}}",
            (int)id_len, id);
    }
#undef HEAD
#undef SAY
#undef IS
    if (n < 0 || (size_t)n >= sizeof message)
        abort();
    bool is_stream = options.has_sse && status == 200;
    answer(connection, status, more, is_stream ? "text/event-stream" : "application/json", message);
}

/* One whole request: a head that ends with NUL in place of its last line end, and a body. */
static void handle(struct connection *connection, const char *head, const char *body) {
    const char *id = "";
    size_t id_len = value_of(body, "\"id\":", &id);
    if (options.delay_ms > 0)
        connection->due_ms = now_ms() + options.delay_ms;
    if (strcasestr(head, "\nconnection: close") != NULL)
        connection->wants_close = true;
    bool is_known = strcasestr(head, "\nmcp-session-id: tiny-") != NULL;
    bool is_opening = strstr(body, "\"initialize\"") != NULL ||
                      strstr(body, "io.modelcontextprotocol/protocolVersion") != NULL;
    if (strncmp(head, "DELETE ", 7) == 0)
        answer(connection, 200, "", "", "");
    else if (strncmp(head, "POST ", 5) != 0)
        answer(connection, 405, "Allow: POST, DELETE\r\n", "", "");
    else if (options.has_sessions && !is_known && !is_opening)
        answer(connection, 400, "", "application/json",
               "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32000,\"message\":\"Bad Request: "
               "Mcp-Session-Id is missing\"}}");
    else if (id_len == 0)
        answer(connection, 202, "", "", "");
    else
        answer_request(connection, body, id_len, id);
}

/* Takes whole requests out of the input. False: the connection is gone. */
static bool consume(struct connection *connection) {
    for (;;) {
        char *end = memmem(connection->in, connection->in_len, "\r\n\r\n", 4);
        if (end == NULL)
            break;
        *end = '\0';
        size_t head_len = (size_t)(end - connection->in) + 4, body_len = 0;
        const char *field = strcasestr(connection->in, "\ncontent-length:");
        if (field != NULL)
            body_len = strtoul(field + 16, NULL, 10);
        if (head_len + body_len >= IN_BYTES) { /* nobody sends this one so much */
            drop(connection);
            return false;
        }
        if (connection->in_len < head_len + body_len) {
            *end = '\r';
            break;
        }
        char *body = connection->in + head_len;
        char kept = body[body_len];
        body[body_len] = '\0';
        if (!options.hangs)
            handle(connection, connection->in, body);
        body[body_len] = kept;
        connection->in_len -= head_len + body_len;
        memmove(connection->in, body + body_len, connection->in_len);
    }
    if (connection->in_len == IN_BYTES - 1) {
        drop(connection);
        return false;
    }
    return flush(connection);
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
    static size_t next;
    int fd = accept4(listeners[index], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    for (size_t i = 0; i < MAX_CONNECTIONS; i++) {
        struct connection *connection = &connections[next++ % MAX_CONNECTIONS];
        if (connection->fd != 0)
            continue;
        connection->fd = fd;
        connection->wants_close = false;
        connection->in_len = connection->out_len = connection->out_at = 0;
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
          "                 [--sessions] [--delay-ms N] [--hang] [--until-eof]\n",
          stderr);
    exit(2);
}

static void read_options(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        bool *flag = strcmp(name, "--sse") == 0         ? &options.has_sse
                     : strcmp(name, "--sessions") == 0  ? &options.has_sessions
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
            options.is_legacy = strcmp(argv[i], "modern") != 0;
            options.is_modern = strcmp(argv[i], "legacy") != 0;
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
    int64_t now = now_ms(), wait = -1;
    for (size_t i = 0; options.delay_ms > 0 && i < MAX_CONNECTIONS; i++) {
        struct connection *connection = &connections[i];
        if (connection->fd == 0 || connection->out_len == 0)
            continue;
        if (connection->due_ms <= now)
            flush(connection);
        else if (wait < 0 || connection->due_ms - now < wait)
            wait = connection->due_ms - now;
    }
    return (int)wait;
}

int main(int argc, char **argv) {
    struct rlimit files;
    read_options(argc, argv);
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
                if ((events[i].events & EPOLLOUT) != 0 && !flush(&connections[mark]))
                    continue;
                if ((events[i].events & ~(uint32_t)EPOLLOUT) != 0)
                    read_more(&connections[mark]);
            }
        }
    }
}
