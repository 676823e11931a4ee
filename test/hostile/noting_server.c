/*
 * An MCP server on stdio that writes down what it was asked before it answers: each line that comes
 * is appended to a file, which survives whatever happens to the one who asked. It says what
 * tiny_mcp.h says.
 *
 *     noting_server FILE
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tiny_mcp.h"

enum { LINES_BYTES = 1 << 18 };

static void send_all(int fd, const char *bytes, size_t len) {
    while (len > 0) {
        ssize_t n = write(fd, bytes, len);
        if (n < 0 && errno != EINTR)
            _exit(1);
        if (n > 0) {
            bytes += n;
            len -= (size_t)n;
        }
    }
}

static void answer(const char *line) {
    const struct tiny_revisions revisions = {.is_legacy = true, .is_modern = true};
    static struct tiny_answer said;
    tiny_answer(&revisions, line, &said);
    if (said.head_len == 0)
        return;
    send_all(STDOUT_FILENO, said.head, said.head_len);
    send_all(STDOUT_FILENO, said.payload, said.payload_len);
    send_all(STDOUT_FILENO, said.tail, said.tail_len);
    send_all(STDOUT_FILENO, "\n", 1);
}

int main(int argc, char **argv) {
    static char in[LINES_BYTES];
    size_t len = 0;
    int notes = argc > 1 ? open(argv[1], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (notes < 0) {
        fputs("usage: noting_server FILE\n", stderr);
        return 2;
    }
    for (;;) {
        ssize_t n = read(STDIN_FILENO, in + len, sizeof in - 1 - len);
        if (n <= 0)
            return 0;
        char *line = in, *end;
        len += (size_t)n;
        while ((end = memchr(line, '\n', len - (size_t)(line - in))) != NULL) {
            send_all(notes, line, (size_t)(end - line) + 1);
            *end = '\0';
            answer(line);
            line = end + 1;
        }
        len -= (size_t)(line - in);
        memmove(in, line, len);
    }
}
