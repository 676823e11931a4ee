/* Where the lines of a log go: written whole or not at all, and without ever waiting (log.c). */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/slice.h"

struct log_sink {
    int fd;     /* the caller's */
    int own_fd; /* -1, or a pipe or terminal opened once more, so that writing to it does not wait
                 */
    bool is_socket, may_wait;
    pthread_mutex_t mutex; /* guards what follows, and keeps the lines of threads apart */
    char *rest;            /* of a line of which a part is out; owned */
    size_t rest_len;
    uint64_t n_lost; /* lines, since the last that was written */
    int error;       /* why */
};

void log_sink_init(struct log_sink *sink, int fd);
void log_sink_deinit(struct log_sink *sink);
/* A whole line. False: it is lost, which is for the caller to count. */
MUST_CHECK bool log_sink_write(struct log_sink *sink, struct slice line);
/* `error`: an errno, or 0 when log_sink_write() knows it. */
void log_sink_lose(struct log_sink *sink, uint64_t n_lines, int error);
/* How many were lost, and why; they are the caller's then. 0 while a line that was begun is still
 * not out. */
uint64_t log_sink_take_lost(struct log_sink *sink, int *ret_error);
