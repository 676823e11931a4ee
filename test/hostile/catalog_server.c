/*
 * MCP servers with large catalogs, over streamable HTTP: one process, many ports, on each a server
 * with the same number of tools and resources. For tests and numbers of lists; it trusts its peer
 * and looks for words in the body instead of reading JSON.
 *
 *     catalog_server [--ports N] [--revision legacy|modern] [--tools N] [--definition-bytes N]
 *                    [--page N] [--resources N] [--storm-ms N] [--until-eof]
 *
 * Tool i of each server is `tool-0000i`, of the asked number of bytes as JSON; the first resource
 * of all servers has the same URI. Any call says which server answered. One whose arguments have
 * the word "change" changes the description of the server's first tool, and says so on its GET
 * stream. --storm-ms: the first server says all the time that its tools have changed.
 * Prints each port on a line of its own. --until-eof ends with stdin.
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
#include <unistd.h>

#include "base/compiler.h"

enum { MAX_PORTS = 1024, MAX_CONNECTIONS = 8192, IN_BYTES = 1 << 14, STDIN_MARK = -1 };

struct text {
    char *bytes;
    size_t len, cap;
};

struct connection {
    int fd; /* 0: free, as stdin is never one */
    size_t server;
    bool is_stream; /* the GET stream of its server */
    size_t in_len, out_at;
    struct text out;
    char in[IN_BYTES];
};

static struct {
    long ports, tools, bytes, page, resources, storm_ms;
    bool is_modern, until_eof;
} options = {.ports = 1, .tools = 1, .bytes = 300, .page = 100000};
static struct connection connections[MAX_CONNECTIONS]; /* pages that nobody touches cost nothing */
static int listeners[MAX_PORTS];
static unsigned long versions[MAX_PORTS];
static int epoll_fd;

#define CHANGED "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}"

PRINTF_LIKE(2, 3) static void put(struct text *text, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int n = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (text->cap - text->len <= (size_t)n) {
        text->cap = (text->len + (size_t)n + 1) * 2;
        text->bytes = realloc(text->bytes, text->cap);
        if (text->bytes == NULL)
            abort();
    }
    vsnprintf(text->bytes + text->len, text->cap - text->len, format, again);
    va_end(again);
    text->len += (size_t)n;
}

static void put_filler(struct text *text, size_t n) {
    static const char words[] = "a description of what this tool does, long as real ones are; ";
    for (; n >= sizeof words - 1; n -= sizeof words - 1)
        put(text, "%s", words);
    put(text, "%.*s", (int)n, words);
}

static void drop(struct connection *connection) {
    close(connection->fd);
    free(connection->out.bytes);
    memset(connection, 0, offsetof(struct connection, in));
}

static void flush(struct connection *connection) {
    while (connection->out_at < connection->out.len) {
        ssize_t n = send(connection->fd, connection->out.bytes + connection->out_at,
                         connection->out.len - connection->out_at, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) {
            drop(connection);
            return;
        }
        if (n < 0)
            break;
        connection->out_at += (size_t)n;
    }
    bool is_rest = connection->out_at < connection->out.len;
    if (!is_rest)
        connection->out.len = connection->out_at = 0;
    struct epoll_event event = {.events = is_rest ? EPOLLIN | EPOLLOUT : EPOLLIN,
                                .data.u32 = (uint32_t)(connection - connections)};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, connection->fd, &event);
}

/* What the server says by itself, on its stream. */
static void tell_changed(size_t server) {
    for (size_t i = 0; i < MAX_CONNECTIONS; i++) {
        struct connection *connection = &connections[i];
        if (connection->fd == 0 || !connection->is_stream || connection->server != server)
            continue;
        put(&connection->out, "%zx\r\ndata: " CHANGED "\n\n\r\n", sizeof CHANGED - 1 + 8);
        flush(connection);
    }
}

static void put_tool(struct text *text, size_t server, long i) {
    size_t begin = text->len;
    put(text, "{\"name\":\"tool-%05ld\",\"inputSchema\":{\"type\":\"object\",\"properties\":", i);
    put(text, "{\"text\":{\"type\":\"string\"}}},\"description\":\"%lu ",
        i == 0 ? versions[server] : 0);
    size_t len = text->len - begin + 2;
    if (len < (size_t)options.bytes)
        put_filler(text, (size_t)options.bytes - len);
    put(text, "\"}");
}

static void put_resource(struct text *text, size_t server, long i) {
    if (i == 0)
        put(text, "{\"uri\":\"shared://one\",\"name\":\"of %zu\"}", server);
    else
        put(text, "{\"uri\":\"res://%zu/%ld\",\"name\":\"%ld\"}", server, i, i);
}

/* A page; the cursor is the number of its first item. */
static void put_list(struct text *text, size_t server, const char *body, bool is_tools) {
    const char *cursor = strstr(body, "\"cursor\":\"");
    long from = cursor != NULL ? strtol(cursor + 10, NULL, 10) : 0;
    long all = is_tools ? options.tools : options.resources;
    long end = from + options.page < all ? from + options.page : all;
    put(text, "\"%s\":[", is_tools ? "tools" : "resources");
    for (long i = from; i < end; i++) {
        if (i != from)
            put(text, ",");
        (is_tools ? put_tool : put_resource)(text, server, i);
    }
    put(text, "]");
    if (end < all)
        put(text, ",\"nextCursor\":\"%ld\"", end);
}

static bool is_method(const char *body, const char *method) {
    const char *at = strstr(body, "\"method\":\"");
    size_t len = strlen(method);
    return at != NULL && strncmp(at + 10, method, len) == 0 && at[10 + len] == '"';
}

static void put_call(struct text *text, size_t server, const char *body) {
    const char *name = strstr(body, "\"name\":\"tool-");
    bool changes = strstr(body, "\"change\"") != NULL;
    versions[server] += changes ? 1 : 0;
    put(text, "\"content\":[{\"type\":\"text\",\"text\":\"%.10s of %zu\"}]",
        name != NULL ? name + 8 : "nothing", server);
    if (changes)
        tell_changed(server);
}

#define MODERN                                                                                     \
    "\"resultType\":\"complete\",\"ttlMs\":600000,\"cacheScope\":\"public\","                      \
    "\"_meta\":{\"io.modelcontextprotocol/serverInfo\":{\"name\":\"many\",\"version\":\"1\"}},"
#define CAPABILITIES "\"capabilities\":{\"tools\":{\"listChanged\":true}%s}"

/* The members of the result; false: there is no such method. */
static bool put_result(struct text *text, size_t server, const char *body, bool is_modern) {
    const char *resources = options.resources != 0 ? ",\"resources\":{}" : "";
    if (is_modern)
        put(text, MODERN);
    if (is_modern && is_method(body, "server/discover"))
        put(text, "\"supportedVersions\":[\"2026-07-28\"]," CAPABILITIES, resources);
    else if (!is_modern && is_method(body, "initialize"))
        put(text,
            "\"protocolVersion\":\"2025-11-25\"," CAPABILITIES
            ",\"serverInfo\":{\"name\":\"many\",\"version\":\"1\"}",
            resources);
    else if (is_method(body, "tools/list") || is_method(body, "resources/list"))
        put_list(text, server, body, is_method(body, "tools/list"));
    else if (is_method(body, "resources/templates/list"))
        put(text, "\"resourceTemplates\":[]");
    else if (is_method(body, "resources/read"))
        put(text, "\"contents\":[{\"uri\":\"x:\",\"text\":\"of %zu\"}]", server);
    else if (is_method(body, "tools/call"))
        put_call(text, server, body);
    else
        return is_method(body, "ping");
    return true;
}

static void answer(struct connection *connection, const char *body, const char *id, size_t id_len) {
    bool is_modern = strstr(body, "io.modelcontextprotocol/protocolVersion") != NULL;
    struct text text = {0};
    const char *status = "200 OK";
    put(&text, "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"result\":{", (int)id_len, id);
    if (is_modern != options.is_modern) {
        text.len = 0;
        status = "400 Bad Request";
        put(&text,
            "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"error\":{\"code\":-32000,\"message\":\"Bad "
            "Request: Unsupported protocol version\"",
            (int)id_len, id);
    } else if (!put_result(&text, connection->server, body, is_modern)) {
        text.len = 0;
        put(&text,
            "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"error\":{\"code\":-32601,\"message\":\"Method not "
            "found\"",
            (int)id_len, id);
    }
    put(&text, "}}");
    put(&connection->out,
        "HTTP/1.1 %s\r\nContent-Type: application/json\r\nMcp-Session-Id: s-%zu\r\n"
        "Content-Length: %zu\r\n\r\n%s",
        status, connection->server, text.len, text.bytes);
    free(text.bytes);
}

/* One whole request: a head that ends with NUL in place of its last line end, and a body. */
static void handle(struct connection *connection, const char *head, const char *body) {
    const char *id = strstr(body, "\"id\":");
    size_t id_len = id != NULL ? strspn(id + 5, "0123456789") : 0;
    if (strncmp(head, "GET ", 4) == 0) {
        connection->is_stream = true;
        put(&connection->out, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                              "Transfer-Encoding: chunked\r\n\r\n");
    } else if (strncmp(head, "POST ", 5) != 0) {
        put(&connection->out, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    } else if (id_len == 0) {
        put(&connection->out, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
    } else {
        answer(connection, body, id + 5, id_len);
    }
}

/* Takes whole requests out of the input. */
static void consume(struct connection *connection) {
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
            return;
        }
        if (connection->in_len < head_len + body_len) {
            *end = '\r';
            break;
        }
        char *body = connection->in + head_len, kept = body[body_len];
        body[body_len] = '\0';
        handle(connection, connection->in, body);
        body[body_len] = kept;
        connection->in_len -= head_len + body_len;
        memmove(connection->in, body + body_len, connection->in_len);
    }
    flush(connection);
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

static void accept_one(size_t server) {
    int fd = accept4(listeners[server], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    for (size_t i = 0; i < MAX_CONNECTIONS; i++) {
        struct connection *connection = &connections[i];
        if (connection->fd != 0)
            continue;
        connection->fd = fd;
        connection->server = server;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
        return;
    }
    close(fd);
}

static void listen_on(size_t server) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
        listen(fd, 4096) != 0 || getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
        perror("catalog_server: listen");
        exit(1);
    }
    listeners[server] = fd;
    struct epoll_event event = {.events = EPOLLIN,
                                .data.u32 = (uint32_t)(MAX_CONNECTIONS + server)};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    printf("%u\n", ntohs(address.sin_port));
}

static void usage(void) {
    fputs("usage: catalog_server [--ports N] [--revision legacy|modern] [--tools N]\n"
          "                      [--definition-bytes N] [--page N] [--resources N]\n"
          "                      [--storm-ms N] [--until-eof]\n",
          stderr);
    exit(2);
}

static void read_options(int argc, char **argv) {
    const struct {
        const char *name;
        long *number;
    } rows[] = {
        {"--ports", &options.ports},
        {"--tools", &options.tools},
        {"--definition-bytes", &options.bytes},
        {"--page", &options.page},
        {"--resources", &options.resources},
        {"--storm-ms", &options.storm_ms},
    };
    for (int i = 1; i < argc; i++) {
        long *number = NULL;
        if (strcmp(argv[i], "--until-eof") == 0) {
            options.until_eof = true;
            continue;
        }
        for (size_t k = 0; k < ARRAY_LEN(rows); k++)
            number = strcmp(argv[i], rows[k].name) == 0 ? rows[k].number : number;
        bool is_revision = strcmp(argv[i], "--revision") == 0;
        if ((number == NULL && !is_revision) || ++i == argc)
            usage();
        if (number != NULL)
            *number = strtol(argv[i], NULL, 10);
        else
            options.is_modern = strcmp(argv[i], "modern") == 0;
    }
    if (options.ports < 1 || options.ports > MAX_PORTS || options.page < 1)
        usage();
}

static void serve(uint32_t mark, uint32_t events) {
    char byte;
    if (mark == (uint32_t)STDIN_MARK) {
        if (read(STDIN_FILENO, &byte, 1) <= 0)
            exit(0);
    } else if (mark >= MAX_CONNECTIONS) {
        accept_one(mark - MAX_CONNECTIONS);
    } else {
        struct connection *connection = &connections[mark];
        if (connection->fd != 0 && (events & EPOLLOUT) != 0)
            flush(connection);
        if (connection->fd != 0 && (events & ~(uint32_t)EPOLLOUT) != 0)
            read_more(connection);
    }
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
        listen_on((size_t)i);
    fflush(stdout);
    struct epoll_event watched = {.events = EPOLLIN, .data.u32 = (uint32_t)STDIN_MARK};
    if (options.until_eof)
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &watched);
    for (;;) {
        struct epoll_event events[256];
        int n =
            epoll_wait(epoll_fd, events, 256, options.storm_ms != 0 ? (int)options.storm_ms : -1);
        if (n == 0)
            tell_changed(0);
        for (int i = 0; i < n; i++)
            serve(events[i].data.u32, events[i].events);
    }
}
