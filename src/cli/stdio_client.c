#include "stdio_client.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/file.h"

/* Where cli_stdio_take() puts them: numbers that nothing else has. */
enum { CLIENT_IN = 100, CLIENT_OUT = 101 };

/* Copies until the end, then closes `to`. */
struct pump {
    int from, to; /* -1: none */
    pthread_t thread;
    bool is_running;
};

struct cli_stdio {
    struct pump in, out;
};

bool cli_stdio_take(void) {
    int null_fd = -1;
    bool is_taken = fcntl(STDIN_FILENO, F_GETFD) != -1 && fcntl(STDOUT_FILENO, F_GETFD) != -1 &&
                    dup3(STDIN_FILENO, CLIENT_IN, O_CLOEXEC) >= 0 &&
                    dup3(STDOUT_FILENO, CLIENT_OUT, O_CLOEXEC) >= 0 &&
                    io_null_open(&null_fd) == 0 && dup2(null_fd, STDIN_FILENO) >= 0 &&
                    dup2(STDERR_FILENO, STDOUT_FILENO) >= 0;
    if (!is_taken)
        fprintf(stderr, "cardea: standard input and output have to be those of a client: %s\n",
                strerror(errno));
    io_fd_close(&null_fd);
    return is_taken;
}

static void *run_pump(void *context) {
    struct pump *pump = context;
    char bytes[16384];
    ssize_t n = 0;
    while ((n = read(pump->from, bytes, sizeof bytes)) > 0 || (n < 0 && errno == EINTR)) {
        ssize_t done = 0;
        while (done < n) {
            ssize_t written = write(pump->to, bytes + done, (size_t)(n - done));
            if (written < 0 && errno != EINTR)
                break;
            done += written > 0 ? written : 0;
        }
        if (done < n)
            break;
    }
    io_fd_close(&pump->to);
    return NULL;
}

static bool can_be_waited_for(int fd) {
    struct stat info;
    return fstat(fd, &info) == 0 &&
           (S_ISFIFO(info.st_mode) || S_ISSOCK(info.st_mode) || isatty(fd) != 0);
}

static int start(struct pump *pump, int from, int to) {
    *pump = (struct pump){.from = from, .to = to};
    int error = -pthread_create(&pump->thread, NULL, run_pump, pump);
    pump->is_running = error == 0;
    return error;
}

static int open_in(struct pump *pump, int *ret_fd) {
    int read_fd = -1, write_fd = -1;
    if (can_be_waited_for(CLIENT_IN)) {
        *ret_fd = CLIENT_IN;
        return 0;
    }
    int error = io_pipe(&read_fd, &write_fd);
    if (error == 0)
        error = start(pump, CLIENT_IN, write_fd);
    if (error == 0)
        *ret_fd = read_fd;
    return error;
}

static int open_out(struct pump *pump, int *ret_fd) {
    int read_fd = -1, write_fd = -1;
    if (can_be_waited_for(CLIENT_OUT)) {
        *ret_fd = CLIENT_OUT;
        return 0;
    }
    int error = io_pipe(&read_fd, &write_fd);
    if (error == 0)
        error = start(pump, read_fd, CLIENT_OUT);
    if (error == 0)
        *ret_fd = write_fd;
    return error;
}

int cli_stdio_open(int *ret_in_fd, int *ret_out_fd, struct cli_stdio **ret_stdio) {
    struct cli_stdio *stdio = mem_xalloc(sizeof *stdio);
    *stdio = (struct cli_stdio){.in = {.from = -1, .to = -1}, .out = {.from = -1, .to = -1}};
    int in_fd = -1, error = open_in(&stdio->in, &in_fd);
    if (error == 0)
        error = open_out(&stdio->out, ret_out_fd);
    if (error != 0) {
        io_fd_close(&in_fd);
        cli_stdio_free(stdio);
        return error;
    }
    *ret_in_fd = in_fd;
    *ret_stdio = stdio;
    return 0;
}

struct cli_stdio *cli_stdio_free(struct cli_stdio *stdio) {
    if (stdio == NULL)
        return NULL;
    if (stdio->out.is_running)
        pthread_join(stdio->out.thread, NULL);
    io_fd_close(&stdio->out.from);
    /* A file is read to its end, or to the first byte that nobody takes. */
    if (stdio->in.is_running)
        pthread_join(stdio->in.thread, NULL);
    mem_free(stdio);
    return NULL;
}
