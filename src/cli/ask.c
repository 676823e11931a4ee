/* Secrets that people give to a command: typed, or piped in. Never an argument, which everybody on
 * the machine can read. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/limits.h"
#include "cli.h"

/* Appends up to `max` bytes, or a line. 0, -EFBIG, -EINTR, -errno. */
static int read_bytes(int fd, bool is_line, size_t max, struct buf *out) {
    for (;;) {
        char more = 0;
        size_t left = max - buf_len(out);
        char *room = left != 0 ? buf_reserve(out, left) : &more;
        if (room == NULL)
            return buf_error(out);
        ssize_t n = read(fd, room, left != 0 ? left : 1);
        if (n < 0 && errno == EINTR && !is_line)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : 0;
        if (left == 0)
            return -EFBIG;
        buf_commit(out, (size_t)n);
        if (is_line && slice_ends_with(buf_slice(out), SLICE("\n")))
            return 0;
    }
}

static void on_signal(int number) {
    (void)number;
}

/*
 * A line without echo. Signals that would end the process end the reading instead, so that nobody
 * is left with a terminal that shows nothing.
 */
static int read_hidden(const char *prompt, size_t max, struct buf *out) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
    struct sigaction own = {.sa_handler = on_signal}, before[ARRAY_LEN(signals)];
    struct termios shown, hidden;
    if (tcgetattr(STDIN_FILENO, &shown) != 0)
        return -errno;
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        (void)sigaction(signals[i], &own, &before[i]);
    hidden = shown;
    hidden.c_lflag &= ~(tcflag_t)ECHO;
    int error = tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden) == 0 ? 0 : -errno;
    if (error == 0) {
        fprintf(stderr, "%s: ", prompt);
        error = read_bytes(STDIN_FILENO, true, max, out);
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
        fputc('\n', stderr);
    }
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        (void)sigaction(signals[i], &before[i], NULL);
    return error;
}

static struct slice without_line_end(const struct buf *text) {
    struct slice value = buf_slice(text);
    if (slice_ends_with(value, SLICE("\n")))
        value.len--;
    if (value.len < buf_len(text) && slice_ends_with(value, SLICE("\r")))
        value.len--;
    return value;
}

static int fail(const char *what, const char *why) {
    fprintf(stderr, "cardea: cannot take %s: %s\n", what, why);
    return CLI_FAILED;
}

static const char *why_not(int error, size_t max, char *text, size_t size) {
    if (error != -EFBIG)
        return error == -EINTR ? "interrupted" : strerror(-error);
    snprintf(text, size, "it is longer than %zu bytes", max);
    return text;
}

int cli_read_secret(const char *what, size_t max, struct secret **ret_secret) {
    struct buf first CLEANUP(secret_buf_deinit) = BUF_INIT(max + 2);
    struct buf second CLEANUP(secret_buf_deinit) = BUF_INIT(max + 2);
    char text[64], prompt[128];
    bool is_typed = isatty(STDIN_FILENO) != 0;
    if (buf_reserve(&first, max + 2) == NULL || buf_reserve(&second, max + 2) == NULL)
        return fail(what, strerror(ENOMEM));
    snprintf(prompt, sizeof prompt, "%s, once more", what);
    int error = is_typed ? read_hidden(what, max + 2, &first)
                         : read_bytes(STDIN_FILENO, false, max + 2, &first);
    if (error == 0 && is_typed)
        error = read_hidden(prompt, max + 2, &second);
    struct slice value = without_line_end(&first);
    if (error == 0 && value.len > max)
        error = -EFBIG;
    if (error != 0)
        return fail(what, why_not(error, max, text, sizeof text));
    if (value.len == 0)
        return fail(what, "it is empty");
    error = secret_new(value, ret_secret);
    if (error != 0)
        return fail(what, strerror(-error));
    if (!is_typed || secret_equals(*ret_secret, without_line_end(&second)))
        return CLI_OK;
    *ret_secret = secret_free(*ret_secret);
    return fail(what, "the two were not the same");
}
