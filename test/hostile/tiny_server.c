/*
 * The smallest MCP server that can be started a thousand times in a test: it answers every request
 * with the same result, which fits initialize, tools/list and tools/call alike, and ends with its
 * input. "dead" ends at once, "hang" reads and never answers, "sizes [legacy|modern]" is for
 * numbers: the tools of tiny_mcp.h, as cheap as can be. Any other argument is a Unix socket: it
 * first leaves a grandchild in a session of its own behind, which holds a connection to it until it
 * dies.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tiny_mcp.h"

enum { LINES_BYTES = 1 << 18 };

static void leave_behind(const char *path) {
    if (fork() != 0)
        return;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    setsid();
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) != 0)
        _exit(1);
    close(0);
    close(1);
    for (;;)
        pause();
}

static void send_all(const char *bytes, size_t len) {
    while (len > 0) {
        ssize_t n = write(STDOUT_FILENO, bytes, len);
        if (n < 0 && errno != EINTR)
            _exit(1);
        if (n > 0) {
            bytes += n;
            len -= (size_t)n;
        }
    }
}

/* The answers of what came together leave together. */
static void put(const char *bytes, size_t len) {
    static char out[LINES_BYTES];
    static size_t out_len;
    if (bytes == NULL || len > sizeof out - out_len) {
        send_all(out, out_len);
        out_len = 0;
    }
    if (len > sizeof out) {
        send_all(bytes, len);
    } else if (bytes != NULL) {
        memcpy(out + out_len, bytes, len);
        out_len += len;
    }
}

static int serve_sizes(const char *revision) {
    const struct tiny_revisions revisions = {.is_legacy = strcmp(revision, "modern") != 0,
                                             .is_modern = strcmp(revision, "legacy") != 0,
                                             .has_sizes = true};
    static struct tiny_answer answer;
    static char in[LINES_BYTES];
    size_t len = 0;
    tiny_make_sizes();
    for (;;) {
        ssize_t n = read(STDIN_FILENO, in + len, sizeof in - len);
        if (n <= 0)
            return 0;
        char *line = in, *end;
        len += (size_t)n;
        while ((end = memchr(line, '\n', len - (size_t)(line - in))) != NULL) {
            *end = '\0';
            tiny_answer(&revisions, line, &answer);
            put(answer.head, answer.head_len);
            put(answer.payload, answer.payload_len);
            put(answer.tail, answer.tail_len);
            if (answer.head_len > 0)
                put("\n", 1);
            line = end + 1;
        }
        put(NULL, 0);
        len -= (size_t)(line - in);
        memmove(in, line, len);
    }
}

int main(int argc, char **argv) {
    static char line[1 << 16];
    bool hangs = argc > 1 && strcmp(argv[1], "hang") == 0;
    if (argc > 1 && strcmp(argv[1], "dead") == 0)
        return 1;
    if (argc > 1 && strcmp(argv[1], "sizes") == 0)
        return serve_sizes(argc > 2 ? argv[2] : "both");
    if (argc > 1 && !hangs)
        leave_behind(argv[1]);
    while (fgets(line, sizeof line, stdin) != NULL) {
        const char *id = strstr(line, "\"id\":");
        if (id == NULL || hangs)
            continue;
        printf(
            "{\"jsonrpc\":\"2.0\",\"id\":%ld,\"result\":{\"protocolVersion\":\"2025-11-25\","
            "\"capabilities\":{\"tools\":{}},\"serverInfo\":{\"name\":\"tiny\",\"version\":\"1\"},"
            "\"tools\":[{\"name\":\"t\",\"inputSchema\":{\"type\":\"object\"}}],"
            "\"content\":[{\"type\":\"text\",\"text\":\"pid %d\"}]}}\n",
            strtol(id + 5, NULL, 10), (int)getpid());
        fflush(stdout);
    }
    return 0;
}
