/*
 * The smallest MCP server that can be started a thousand times in a test: it answers every request
 * with the same result, which fits initialize, tools/list and tools/call alike, and ends with its
 * input. "dead" ends at once, "hang" reads and never answers. Any other argument is a Unix socket:
 * it first leaves a grandchild in a session of its own behind, which holds a connection to it until
 * it dies.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

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

int main(int argc, char **argv) {
    static char line[1 << 16];
    bool hangs = argc > 1 && strcmp(argv[1], "hang") == 0;
    if (argc > 1 && strcmp(argv[1], "dead") == 0)
        return 1;
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
